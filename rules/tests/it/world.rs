//! A small world to test in: servers that sign, and rooms that fork.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use rules::{
    Event, RawPdu, UnixMs, Version,
    authorization::{Refusal, check, check_auth_events, needed_state, select_auth_events},
    canonical,
    draft::{Around, Draft, complete, depth_after},
    keys::{Key, KeyRing, Validity},
    signature::Signer,
    state::{StateMap, change_of},
};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedRoomId, OwnedUserId, ServerName, UserId, events::StateEventType,
};
use serde_json::{Value, json, value::RawValue};

/// An object from `json!`.
pub(crate) fn object(value: Value) -> CanonicalJsonObject {
    canonical::read_object(&value.to_string()).unwrap()
}

/// A version by its name.
pub(crate) fn version(name: &str) -> Version {
    Version::parse(name).unwrap()
}

/// The event as it would come from a peer.
pub(crate) fn raw(event: &Event) -> RawPdu {
    raw_text(event.json())
}

/// Any text as it would come from a peer.
pub(crate) fn raw_text(text: &str) -> RawPdu {
    RawPdu(RawValue::from_string(text.to_owned()).unwrap())
}

/// The signer of a server. Its key follows from the server's name.
pub(crate) fn signer(server: &ServerName) -> Signer {
    let mut seed = [7; 32];
    for (slot, byte) in seed.iter_mut().zip(server.as_str().bytes()) {
        *slot = byte;
    }
    Signer::new(server.to_owned(), "a_1", &seed).unwrap()
}

/// The keys of some servers, valid for a long time.
pub(crate) fn keys_of(servers: &[&str]) -> KeyRing {
    let mut keys = KeyRing::new();
    for server in servers {
        let signer = signer(<&ServerName>::try_from(*server).unwrap());
        let key = Key { public: signer.public_key(), validity: Validity::Until(UnixMs(u64::MAX)) };
        keys.insert(signer.server_name().clone(), signer.key_id(), key);
    }
    keys
}

/// All events of one room.
pub(crate) struct World {
    pub(crate) version: Version,
    pub(crate) room_id: RefCell<Option<OwnedRoomId>>,
    pub(crate) events: RefCell<HashMap<OwnedEventId, Arc<Event>>>,
}

/// One end of a room, with the state after it. A clone is a fork.
#[derive(Clone)]
pub(crate) struct Branch {
    pub(crate) heads: Vec<OwnedEventId>,
    pub(crate) state: StateMap<Arc<Event>>,
}

impl World {
    pub(crate) fn new(version_name: &str) -> Self {
        Self { version: version(version_name), room_id: RefCell::new(None), events: RefCell::new(HashMap::new()) }
    }

    pub(crate) fn get(&self, id: &EventId) -> Option<Arc<Event>> {
        self.events.borrow().get(id).cloned()
    }

    /// A room that this user made, with power levels and a join rule. Where the levels list nobody, and creators are not
    /// above them, the creator has 100.
    pub(crate) fn found(&self, creator: &str, mut power_levels: Value, join_rule: &str) -> Branch {
        if !self.version.creators_are_above_levels() && power_levels.get("users").is_none() {
            power_levels["users"] = json!({creator: 100});
        }
        let mut create = json!({"room_version": self.version.as_str()});
        if self.version.creator_in_content() {
            create["creator"] = json!(creator);
        }
        self.found_with(creator, create, power_levels, join_rule)
    }

    /// As [`World::found`], with the content of the create event.
    pub(crate) fn found_with(&self, creator: &str, create: Value, power_levels: Value, join_rule: &str) -> Branch {
        if !self.version.room_id_is_create_hash() {
            let server = <&UserId>::try_from(creator).unwrap().server_name();
            self.room_id.replace(Some(OwnedRoomId::try_from(format!("!room:{server}")).unwrap()));
        }
        let mut branch = Branch { heads: Vec::new(), state: StateMap::new() };
        branch.send(self, creator, Draft::state("m.room.create", "", object(create))).unwrap();
        branch.member(self, creator, creator, "join").unwrap();
        branch.set(self, creator, "m.room.power_levels", power_levels).unwrap();
        branch.set(self, creator, "m.room.join_rules", json!({"join_rule": join_rule})).unwrap();
        branch
    }

    /// Makes an event after `heads` with the auth events that `state` gives. It is not checked.
    pub(crate) fn make(
        &self,
        sender: &str,
        draft: Draft,
        heads: &[OwnedEventId],
        state: &StateMap<Arc<Event>>,
    ) -> Arc<Event> {
        let sender = OwnedUserId::try_from(sender).unwrap();
        let content = RawValue::from_string(canonical::to_string(&draft.content)).unwrap();
        let needed = needed_state(&self.version, &draft.kind, &sender, draft.state_key.as_deref(), &content);
        let room_id = self.room_id.borrow().clone();
        let around = Around {
            room_id: room_id.as_ref(),
            sender: &sender,
            prev_events: heads.to_vec(),
            auth_events: select_auth_events(&self.version, &needed.unwrap_or_default(), state),
            depth: depth_after(heads.iter().filter_map(|id| self.get(id)).map(|event| event.depth())),
            now: UnixMs(1_700_000_000_000 + u64::try_from(self.events.borrow().len()).unwrap()),
        };
        let event = complete(draft, around, &self.version, &signer(sender.server_name())).unwrap();
        let event = Arc::new(event);
        self.room_id.replace(Some(event.room_id().clone()));
        self.events.borrow_mut().insert(event.event_id().clone(), Arc::clone(&event));
        event
    }
}

impl Branch {
    /// Sends an event if the rules allow it.
    pub(crate) fn send(&mut self, world: &World, sender: &str, draft: Draft) -> Result<Arc<Event>, Refusal> {
        let event = world.make(sender, draft, &self.heads, &self.state);
        check_auth_events(&world.version, &event, |id| world.get(id))?;
        check(&world.version, &event, &self.state)?;
        self.push(&event);
        Ok(event)
    }

    /// Puts an event at the end without asking.
    pub(crate) fn push(&mut self, event: &Arc<Event>) {
        self.heads = vec![event.event_id().clone()];
        self.state.extend(change_of(event).map(|key| (key, Arc::clone(event))));
    }

    pub(crate) fn member(
        &mut self,
        world: &World,
        sender: &str,
        target: &str,
        membership: &str,
    ) -> Result<Arc<Event>, Refusal> {
        let target = OwnedUserId::try_from(target).unwrap();
        self.send(world, sender, Draft::member(&target, membership, CanonicalJsonObject::new()))
    }

    pub(crate) fn set(
        &mut self,
        world: &World,
        sender: &str,
        event_type: &str,
        content: Value,
    ) -> Result<Arc<Event>, Refusal> {
        self.send(world, sender, Draft::state(event_type, "", object(content)))
    }

    /// The event of an entry with an empty state key.
    pub(crate) fn entry(&self, event_type: StateEventType) -> Option<Arc<Event>> {
        self.state.get(&(event_type, String::new())).cloned()
    }

    /// The state as ids.
    pub(crate) fn ids(&self) -> StateMap<OwnedEventId> {
        self.state.iter().map(|(key, event)| (key.clone(), event.event_id().clone())).collect()
    }
}

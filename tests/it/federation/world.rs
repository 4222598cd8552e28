//! What really happened in a room, as its servers know it together, and other servers that tell of it: truthfully, partly, late or not at all.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use ::federation::{
    Pdu,
    local::{Gap, Invite, StateBefore},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use rules::{
    UnixMs, Version, authorization,
    draft::{self, Around, Draft},
    event::Event,
    keys::{Key, KeyRing, Validity},
    resolution,
    signature::Signer,
    state::{StateMap, change_of},
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName,
    UserId,
};
use serde_json::value::RawValue;
use yurt::actions::peers::{Asking, Errcode, Keys, PeerError, Peers, RemoteFile};

pub(crate) type Ids = StateMap<OwnedEventId>;

/// A room as it really is.
pub(crate) struct World {
    pub(crate) version: Version,
    pub(crate) room_id: OwnedRoomId,
    pub(crate) events: HashMap<OwnedEventId, Arc<Event>>,
    pub(crate) before: HashMap<OwnedEventId, Ids>,
    pub(crate) after: HashMap<OwnedEventId, Ids>,
    pub(crate) signers: HashMap<OwnedServerName, Signer>,
    pub(crate) clock: u64,
    /// What the other servers do not give.
    pub(crate) withheld: HashSet<OwnedEventId>,
    /// What they give instead of an event.
    pub(crate) forged: HashMap<OwnedEventId, String>,
    /// They do not answer this.
    pub(crate) silent: BTreeSet<&'static str>,
    /// They answer that they do not give this.
    pub(crate) refused: BTreeSet<&'static str>,
    /// Whose keys are not to be found.
    pub(crate) keyless: HashSet<OwnedServerName>,
    /// Whose keys are given up, and when.
    pub(crate) expired: HashMap<OwnedServerName, UnixMs>,
    /// The files that they have, by id.
    pub(crate) files: HashMap<String, File>,
    /// Who does not give history.
    pub(crate) down: HashSet<OwnedServerName>,
    /// Who was asked for history, in this order.
    pub(crate) asked_of: Vec<OwnedServerName>,
    /// How often they were asked.
    pub(crate) asked: BTreeMap<&'static str, usize>,
    /// The invites of their people. They are taken.
    pub(crate) invites: Vec<Invite>,
}

/// A file of another server: its type and name, its pieces as they come, and what ends it.
#[derive(Clone, Default)]
pub(crate) struct File {
    pub(crate) content_type: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) pieces: Vec<Vec<u8>>,
    pub(crate) breaks: Option<PeerError>,
    /// Nothing of it comes before this.
    pub(crate) gate: Option<Arc<tokio::sync::Notify>>,
}

impl World {
    /// A room in which nothing has happened yet, and nobody is.
    pub(crate) fn new(version: Version, room_id: OwnedRoomId, clock: u64) -> Self {
        Self {
            version,
            room_id,
            events: HashMap::new(),
            before: HashMap::new(),
            after: HashMap::new(),
            signers: HashMap::new(),
            clock,
            withheld: HashSet::new(),
            forged: HashMap::new(),
            silent: BTreeSet::new(),
            refused: BTreeSet::new(),
            keyless: HashSet::new(),
            expired: HashMap::new(),
            files: HashMap::new(),
            down: HashSet::new(),
            asked_of: Vec::new(),
            asked: BTreeMap::new(),
            invites: Vec::new(),
        }
    }

    pub(crate) fn add_server(&mut self, name: &str) {
        let seed = name.bytes().fold([7_u8; 32], |mut seed, byte| {
            seed[usize::from(byte) % 32] = seed[usize::from(byte) % 32].wrapping_add(byte);
            seed
        });
        let name: OwnedServerName = name.try_into().unwrap();
        self.signers.insert(name.clone(), Signer::new(name, "1", &seed).unwrap());
    }

    pub(crate) fn resolve(&self, states: &[Ids]) -> Ids {
        resolution::resolve(&self.version, states, &|id: &EventId| self.events.get(id).cloned()).unwrap()
    }

    pub(crate) fn state_before(&self, previous: &[OwnedEventId]) -> Ids {
        let states: Vec<Ids> = previous.iter().map(|id| self.after[id].clone()).collect();
        self.resolve(&states)
    }

    /// An event of somebody on another server behind these events.
    pub(crate) fn make(&mut self, sender: &UserId, previous: &[OwnedEventId], draft: Draft) -> Arc<Event> {
        self.make_with(sender, previous, draft, |_| {})
    }

    /// The same, with other auth events than the right ones.
    pub(crate) fn make_with(
        &mut self,
        sender: &UserId,
        previous: &[OwnedEventId],
        draft: Draft,
        change: impl FnOnce(&mut Vec<OwnedEventId>),
    ) -> Arc<Event> {
        let before = self.state_before(previous);
        let content = serde_json::value::to_raw_value(&draft.content).unwrap();
        let needed =
            authorization::needed_state(&self.version, &draft.kind, sender, draft.state_key.as_deref(), &content)
                .unwrap();
        let state: StateMap<Arc<Event>> =
            needed.iter().filter_map(|key| Some((key.clone(), Arc::clone(&self.events[before.get(key)?])))).collect();
        let mut auth_events = authorization::select_auth_events(&self.version, &needed, &state);
        change(&mut auth_events);
        self.clock += 1;
        let around = Around {
            room_id: Some(&self.room_id),
            sender: &sender.to_owned(),
            prev_events: previous.to_vec(),
            auth_events,
            depth: draft::depth_after(previous.iter().map(|id| self.events[id].depth())),
            now: UnixMs(self.clock),
        };
        let event = draft::complete(draft, around, &self.version, &self.signers[sender.server_name()]).unwrap();
        self.learn(Arc::new(event), before)
    }

    /// An event that names one more previous event than any server makes.
    pub(crate) fn make_wide(&mut self, sender: &UserId, previous: &[OwnedEventId], draft: Draft) -> Arc<Event> {
        let (last, others) = previous.split_last().unwrap();
        let narrow = self.make(sender, others, draft);
        let mut object: CanonicalJsonObject = serde_json::from_str(narrow.json()).unwrap();
        if let Some(CanonicalJsonValue::Array(named)) = object.get_mut("prev_events") {
            named.push(CanonicalJsonValue::String(last.to_string()));
        }
        sign_anew(&mut object, &self.signers[sender.server_name()], &self.version);
        let raw = rules::RawPdu(serde_json::value::to_raw_value(&object).unwrap());
        let id = rules::format::parse(&raw, &self.version, rules::format::Caps::Lifted).unwrap().event_id().clone();
        let text = rules::canonical::to_string(&object);
        let event = Event::from_stored(id, self.room_id.clone(), &self.version, text, false).unwrap();
        let before = self.state_before(previous);
        self.learn(Arc::new(event), before)
    }

    /// Knows an event from now on, with the state before it.
    pub(crate) fn learn(&mut self, event: Arc<Event>, before: Ids) -> Arc<Event> {
        let id = event.event_id().clone();
        let mut after = before.clone();
        if let Some(key) = change_of(&event) {
            after.insert(key, id.clone());
        }
        self.before.insert(id.clone(), before);
        self.after.insert(id.clone(), after);
        self.events.insert(id, Arc::clone(&event));
        event
    }

    pub(crate) fn chain(&self, from: impl IntoIterator<Item = OwnedEventId>) -> Vec<OwnedEventId> {
        let (mut open, mut chain): (Vec<OwnedEventId>, BTreeSet<OwnedEventId>) =
            (from.into_iter().collect(), BTreeSet::new());
        while let Some(id) = open.pop() {
            for needed in authorization::needed_auth_events(&self.version, &self.events[&id]) {
                if chain.insert(needed.clone()) {
                    open.push(needed);
                }
            }
        }
        chain.into_iter().collect()
    }

    fn pdu(&self, id: &OwnedEventId) -> Option<Pdu> {
        if self.withheld.contains(id) {
            return None;
        }
        let text = match self.forged.get(id) {
            Some(text) => text.clone(),
            None => self.events.get(id)?.json().to_owned(),
        };
        RawValue::from_string(text).ok()
    }

    fn is_asked(&mut self, what: &'static str) -> Result<(), PeerError> {
        *self.asked.entry(what).or_default() += 1;
        match what {
            what if self.silent.contains(what) => Err(PeerError::Unreachable),
            what if self.refused.contains(what) => Err(PeerError::Refused(Errcode::NOT_FOUND)),
            _ => Ok(()),
        }
    }

    fn state_ids(&self, event_id: &EventId) -> Option<StateBefore<OwnedEventId>> {
        let state: Vec<OwnedEventId> = self.before.get(event_id)?.values().cloned().collect();
        Some(StateBefore { auth_chain: self.chain(state.iter().cloned()), state })
    }

    /// Back from these, the nearest first.
    fn back_from(
        &self,
        from: impl IntoIterator<Item = OwnedEventId>,
        stop: &[OwnedEventId],
        max: usize,
    ) -> Vec<OwnedEventId> {
        let (mut open, mut seen, mut found) = (from.into_iter().collect::<VecDeque<_>>(), HashSet::new(), Vec::new());
        while let Some(id) = open.pop_front() {
            if stop.contains(&id) || !seen.insert(id.clone()) || self.withheld.contains(&id) || found.len() >= max {
                continue;
            }
            let Some(event) = self.events.get(&id) else { continue };
            open.extend(event.prev_events().iter().cloned());
            found.push(id);
        }
        found
    }
}

/// Hashes and signs an event that was changed.
pub(crate) fn sign_anew(object: &mut CanonicalJsonObject, signer: &Signer, version: &Version) {
    object.remove("signatures");
    object.remove("hashes");
    let mut hashes = CanonicalJsonObject::new();
    hashes.insert("sha256".to_owned(), CanonicalJsonValue::String(rules::hash::content_hash_text(object)));
    object.insert("hashes".to_owned(), CanonicalJsonValue::Object(hashes));
    signer.sign_event(object, version);
}

/// The other servers of a world.
#[derive(Clone)]
pub(crate) struct Others(pub(crate) Arc<Mutex<World>>);

fn answer<'a, T: Send + 'a>(answer: Result<T, PeerError>) -> Asking<'a, T> {
    Box::pin(async move {
        tokio::task::yield_now().await;
        answer
    })
}

impl Others {
    fn ask<T>(&self, what: &'static str, look: impl FnOnce(&World) -> Option<T>) -> Result<T, PeerError> {
        let mut world = self.0.lock();
        world.is_asked(what)?;
        look(&world).ok_or(PeerError::Refused(Errcode::NOT_FOUND))
    }
}

impl Peers for Others {
    fn event<'a>(&'a self, _peer: &'a ServerName, event_id: &'a EventId) -> Asking<'a, Pdu> {
        answer(self.ask("event", |world| world.pdu(&event_id.to_owned())))
    }

    fn missing_events<'a>(&'a self, _peer: &'a ServerName, _room_id: &'a RoomId, gap: Gap) -> Asking<'a, Vec<Pdu>> {
        answer(self.ask("missing_events", |world| {
            let before = gap.latest.iter().filter_map(|id| world.events.get(id));
            let before: Vec<OwnedEventId> = before.flat_map(|event| event.prev_events().to_vec()).collect();
            let stop: Vec<OwnedEventId> = gap.earliest.iter().chain(&gap.latest).cloned().collect();
            let mut found = world.back_from(before, &stop, gap.events_max);
            found.retain(|id| world.events[id].depth() >= gap.depth_min);
            Some(found.iter().rev().filter_map(|id| world.pdu(id)).collect())
        }))
    }

    fn state_ids<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, StateBefore<OwnedEventId>> {
        answer(self.ask("state_ids", |world| world.state_ids(event_id)))
    }

    fn state<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, StateBefore<Pdu>> {
        answer(self.ask("state", |world| {
            let ids = world.state_ids(event_id)?;
            let pdus = |ids: Vec<OwnedEventId>| ids.iter().filter_map(|id| world.pdu(id)).collect();
            Some(StateBefore { state: pdus(ids.state), auth_chain: pdus(ids.auth_chain) })
        }))
    }

    fn backfill<'a>(
        &'a self,
        peer: &'a ServerName,
        _room_id: &'a RoomId,
        from: &'a [OwnedEventId],
        events_max: usize,
    ) -> Asking<'a, Vec<Pdu>> {
        self.0.lock().asked_of.push(peer.to_owned());
        answer(self.ask("backfill", |world| {
            if world.down.contains(peer) {
                return None;
            }
            let found = world.back_from(from.iter().cloned(), &[], events_max);
            Some(found.iter().filter_map(|id| world.pdu(id)).collect())
        }))
    }

    fn event_auth<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, Vec<Pdu>> {
        answer(self.ask("event_auth", |world| {
            Some(world.chain([event_id.to_owned()]).iter().filter_map(|id| world.pdu(id)).collect())
        }))
    }

    fn invite<'a>(
        &'a self,
        peer: &'a ServerName,
        _room_id: &'a RoomId,
        _event_id: &'a EventId,
        invite: Invite,
    ) -> Asking<'a, Pdu> {
        let mut world = self.0.lock();
        let mut event: CanonicalJsonObject = serde_json::from_str(invite.event.get()).unwrap();
        world.signers[peer].sign_event(&mut event, &world.version);
        world.invites.push(invite);
        answer(Ok(RawValue::from_string(rules::canonical::to_string(&event)).unwrap()))
    }

    fn medium<'a>(&'a self, _peer: &'a ServerName, media_id: &'a str, _bytes_max: u64) -> Asking<'a, RemoteFile> {
        let file = self.ask("medium", |world| world.files.get(media_id).cloned());
        Box::pin(async move {
            let File { content_type, name, pieces, breaks, gate } = file?;
            if let Some(gate) = gate {
                gate.notified().await;
            }
            let pieces = pieces.into_iter().map(|piece| Ok(Bytes::from(piece))).chain(breaks.map(Err));
            Ok(RemoteFile { content_type, name, body: stream::iter(pieces.collect::<Vec<_>>()).boxed() })
        })
    }

    fn keys<'a>(&'a self, needed: &'a BTreeSet<(OwnedServerName, String)>, _at: UnixMs) -> Keys<'a> {
        let mut world = self.0.lock();
        *world.asked.entry("keys").or_default() += 1;
        let mut keys = KeyRing::new();
        for (server, key_id) in needed {
            let signer = world.signers.get(server).filter(|signer| signer.key_id() == key_id);
            if let Some(signer) = signer.filter(|_| !world.keyless.contains(server)) {
                let validity = match world.expired.get(server) {
                    Some(end) => Validity::Expired(*end),
                    None => Validity::Until(UnixMs(u64::MAX)),
                };
                keys.insert(server.clone(), key_id, Key { public: signer.public_key(), validity });
            }
        }
        Box::pin(std::future::ready(keys))
    }
}

//! Rooms of versions that are joined and not made here, on a server that is played by the test.

use std::{collections::BTreeSet, sync::Arc};

use ::federation::{
    Pdu,
    local::{Gap, StateBefore, Template, Wish},
};
use parking_lot::Mutex;
use rules::{
    RawPdu, UnixMs, Version, authorization, canonical,
    draft::Draft,
    event::Event,
    format::{self, Caps},
    permission::Membership,
    signature,
    state::StateMap,
};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, ServerName, UserId,
};
use serde_json::{Value, json};
use yurt::actions::{
    Caller,
    accounts::{self, NewAccount},
    knocks, members, messages,
    peers::{Asking, Errcode, Joined, Keys, PeerError, Peers},
    rooms, timeline,
};

use super::{
    Scene, message, object, pdu, topic,
    world::{Ids, Others, World},
};
use crate::client::server;

const PEER: &str = "peer.example";

/// A server that has a room, and lets people into it.
#[derive(Clone)]
pub(super) struct Host {
    others: Others,
    pub(super) heads: Arc<Mutex<Vec<OwnedEventId>>>,
    /// What it writes into templates of joins.
    voucher: Option<&'static str>,
}

impl Host {
    fn template(&self, user_id: &UserId, wish: Wish) -> Template {
        let world = self.others.0.lock();
        let (heads, word) = (
            self.heads.lock().clone(),
            match wish {
                Wish::Join => "join",
                Wish::Leave => "leave",
                Wish::Knock => "knock",
            },
        );
        let mut content = CanonicalJsonObject::new();
        if let Some(voucher) = self.voucher.filter(|_| wish == Wish::Join) {
            content = object(json!({ "join_authorised_via_users_server": voucher }));
        }
        let draft = Draft::member(user_id, word, content);
        let before = world.state_before(&heads);
        let raw = serde_json::value::to_raw_value(&draft.content).unwrap();
        let needed =
            authorization::needed_state(&world.version, &draft.kind, user_id, draft.state_key.as_deref(), &raw)
                .unwrap();
        let state: StateMap<Arc<Event>> =
            needed.iter().filter_map(|key| Some((key.clone(), Arc::clone(&world.events[before.get(key)?])))).collect();
        let event = json!({
            "room_id": world.room_id, "type": "m.room.member", "sender": user_id, "state_key": user_id,
            "content": draft.content, "depth": 9, "origin_server_ts": 1, "prev_events": heads,
            "auth_events": authorization::select_auth_events(&world.version, &needed, &state),
        });
        Template { room_version: world.version.id().clone(), event: pdu(&event.to_string()) }
    }

    /// Takes an event of our server in, if it is sound, and answers it with the signature of the host.
    fn takes(&self, text: &str) -> Arc<Event> {
        let mut world = self.others.0.lock();
        let (version, signer) = (world.version, world.signers[<&ServerName>::try_from(PEER).unwrap()].clone());
        let mut signed = canonical::read_object(text).unwrap();
        signer.sign_event(&mut signed, &version);
        let raw = RawPdu(pdu(&canonical::to_string(&signed)));
        let parsed = format::parse(&raw, &version, Caps::Enforced).unwrap();
        let event = Event::from_stored(
            parsed.event_id().clone(),
            parsed.room_id().to_owned(),
            &version,
            canonical::to_string(&signed),
            false,
        );
        let event = Arc::new(event.unwrap());
        let before = world.state_before(event.prev_events());
        let state: StateMap<Arc<Event>> =
            before.iter().map(|(key, id)| (key.clone(), Arc::clone(&world.events[id]))).collect();
        authorization::check_auth_events(&version, &event, |id| world.events.get(id).cloned()).unwrap();
        authorization::check(&version, &event, &state).unwrap();
        *self.heads.lock() = vec![event.event_id().clone()];
        world.learn(event, before)
    }

    /// Many more people are in the room, each by an event of this many bytes or so.
    pub(super) fn fills(&self, people: usize, event_bytes: usize) {
        let mut world = self.others.0.lock();
        let (version, room_id, heads) = (world.version, world.room_id.clone(), self.heads.lock().clone());
        let signer = world.signers[<&ServerName>::try_from(PEER).unwrap()].clone();
        let mut state = world.after[&heads[0]].clone();
        let leans_on = |kind: &str| state[&(kind.into(), String::new())].clone();
        let auth_events =
            vec![leans_on("m.room.create"), leans_on("m.room.power_levels"), leans_on("m.room.join_rules")];
        for number in 0..people {
            let user_id = UserId::parse(format!("@member{number}:{PEER}")).unwrap();
            let content = object(json!({ "displayname": format!("{number} {}", "x".repeat(event_bytes)) }));
            let around = rules::draft::Around {
                room_id: Some(&room_id),
                sender: &user_id,
                prev_events: heads.clone(),
                auth_events: auth_events.clone(),
                depth: 7,
                now: UnixMs(world.clock),
            };
            let event = rules::draft::complete(Draft::member(&user_id, "join", content), around, &version, &signer);
            let event = Arc::new(event.unwrap());
            state.insert(rules::state::change_of(&event).unwrap(), event.event_id().clone());
            world.events.insert(event.event_id().clone(), event);
        }
        world.after.insert(heads[0].clone(), state);
    }

    fn makes(&self, sender: &UserId, draft: Draft) -> Arc<Event> {
        let heads = self.heads.lock().clone();
        let event = self.others.0.lock().make(sender, &heads, draft);
        *self.heads.lock() = vec![event.event_id().clone()];
        event
    }
}

impl Peers for Host {
    fn event<'a>(&'a self, peer: &'a ServerName, event_id: &'a EventId) -> Asking<'a, Pdu> {
        self.others.event(peer, event_id)
    }

    fn missing_events<'a>(&'a self, peer: &'a ServerName, room_id: &'a RoomId, gap: Gap) -> Asking<'a, Vec<Pdu>> {
        self.others.missing_events(peer, room_id, gap)
    }

    fn state_ids<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, StateBefore<OwnedEventId>> {
        self.others.state_ids(peer, room_id, event_id)
    }

    fn state<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, StateBefore<Pdu>> {
        self.others.state(peer, room_id, event_id)
    }

    fn backfill<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        from: &'a [OwnedEventId],
        events_max: usize,
    ) -> Asking<'a, Vec<Pdu>> {
        self.others.backfill(peer, room_id, from, events_max)
    }

    fn event_auth<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, Vec<Pdu>> {
        self.others.event_auth(peer, room_id, event_id)
    }

    fn keys<'a>(&'a self, needed: &'a BTreeSet<(OwnedServerName, String)>, at: UnixMs) -> Keys<'a> {
        self.others.keys(needed, at)
    }

    fn membership_template<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        user_id: &'a UserId,
        wish: Wish,
        versions: &'a [RoomVersionId],
    ) -> Asking<'a, Template> {
        let template = self.template(user_id, wish);
        let is_spoken = versions.contains(&template.room_version) || wish == Wish::Leave;
        let refused = PeerError::Refused(Errcode::INCOMPATIBLE_ROOM_VERSION);
        Box::pin(std::future::ready(if is_spoken { Ok(template) } else { Err(refused) }))
    }

    fn send_join<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        _event_id: &'a EventId,
        event: Pdu,
    ) -> Asking<'a, Joined> {
        let join = self.takes(event.get());
        let world = self.others.0.lock();
        let state: Vec<OwnedEventId> = world.before[join.event_id()].values().cloned().collect();
        let texts = |ids: &[OwnedEventId]| ids.iter().map(|id| pdu(world.events[id].json())).collect();
        let before = StateBefore { state: texts(&state), auth_chain: texts(&world.chain(state.clone())) };
        Box::pin(std::future::ready(Ok(Joined::of(Some(pdu(join.json())), before))))
    }

    fn send_leave<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        _event_id: &'a EventId,
        event: Pdu,
    ) -> Asking<'a, ()> {
        self.takes(event.get());
        Box::pin(std::future::ready(Ok(())))
    }

    fn send_knock<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        _event_id: &'a EventId,
        event: Pdu,
    ) -> Asking<'a, Vec<Pdu>> {
        self.takes(event.get());
        let world = self.others.0.lock();
        let create = world.events.values().find(|event| event.type_str() == "m.room.create").unwrap();
        Box::pin(std::future::ready(Ok(vec![pdu(create.json())])))
    }
}

/// A room of Rita on a server of hers, and Alice on ours, who is not in it.
pub(super) async fn far(version: &str, join_rule: Value) -> (Scene, Host) {
    let server = server().await;
    let actions = server.actions().await;
    accounts::create(&actions, NewAccount { username: "alice".to_owned(), ..NewAccount::default() }).await.unwrap();
    let alice = Caller::local(&accounts::user_id(&actions, "alice").unwrap(), false);
    let (version, room_id) = (Version::parse(version).unwrap(), RoomId::parse("!old:peer.example").unwrap());
    let rita = UserId::parse("@rita:peer.example").unwrap();
    let mut world = World::new(version, room_id.clone(), actions.now().0);
    world.add_server(PEER);
    world.add_server("other.example");
    let ours = &actions.signer;
    world.signers.insert(ours.server_name().clone(), ours.clone());
    let create = json!({ "room_version": version.as_str(), "creator": rita });
    let create = rules::draft::complete(
        Draft::state("m.room.create", "", object(create)),
        rules::draft::Around {
            room_id: Some(&room_id),
            sender: &rita,
            prev_events: Vec::new(),
            auth_events: Vec::new(),
            depth: 1,
            now: actions.now(),
        },
        &version,
        &world.signers[<&ServerName>::try_from(PEER).unwrap()],
    );
    let create = world.learn(Arc::new(create.unwrap()), Ids::new());
    let world = Arc::new(Mutex::new(world));
    let host = Host {
        others: Others(Arc::clone(&world)),
        heads: Arc::new(Mutex::new(vec![create.event_id().clone()])),
        voucher: (join_rule["join_rule"] == "restricted").then_some("@rita:peer.example"),
    };
    host.makes(&rita, Draft::member(&rita, "join", CanonicalJsonObject::new()));
    let levels = json!({ "users": { "@rita:peer.example": 100 }, "invite": 0 });
    host.makes(&rita, Draft::state("m.room.power_levels", "", object(levels)));
    host.makes(&rita, Draft::state("m.room.join_rules", "", object(join_rule)));
    actions.connect(Arc::new(host.clone()));
    let sam = UserId::parse("@sam:other.example").unwrap();
    (Scene { server: Some(server), actions, alice, rita, sam, room_id, version, world }, host)
}

impl Scene {
    pub(super) async fn joins(&self) -> rooms::RoomDetails {
        let via = [PEER.to_owned()];
        members::join(&self.actions, &self.alice, self.room_id.as_str(), &via, None).await.unwrap()
    }

    /// The event that our server has made, as the host takes it: with its signature checked.
    async fn ours_at(&self, host: &Host, event_id: &EventId) {
        let room = self.actions.room(&self.room_id);
        let rows = yurt::actions::rows::Rows::on_disk(&room.store, &room.home);
        let arrival = rows.arrival_of(event_id).await.unwrap().unwrap();
        let (_, event) = self.row(arrival).await.unwrap();
        let parsed = format::parse(&RawPdu(pdu(event.json())), &self.version, Caps::Enforced).unwrap();
        let needed = signature::keys_of(&parsed, &self.actions.server_name).unwrap();
        let keys = self.actions.own_keys.only(&needed);
        signature::verify(parsed, &keys, &self.version).unwrap();
        host.takes(event.json());
    }

    fn state_in_the_world(&self, host: &Host) -> Ids {
        self.world.lock().state_before(&host.heads.lock().clone())
    }
}

/// S2S 15 our event is hashed and signed.
#[tokio::test]
async fn rooms_of_all_older_versions_are_joined_spoken_in_and_left() {
    for version in ["6", "7", "8", "9"] {
        let (scene, host) = far(version, json!({ "join_rule": "public" })).await;
        let joined = scene.joins().await;
        assert_eq!((joined.membership, joined.view.summary.version.as_str()), (Membership::Join, version));
        assert_eq!(scene.state().await, scene.state_in_the_world(&host), "version {version}");

        let said = host.makes(&scene.rita, message("welcome"));
        let named = host.makes(&scene.rita, topic("old and good"));
        assert_eq!(scene.receive(&[&said, &named]).await, [Ok(()), Ok(())], "version {version}");
        let answered = scene.send("thank you").await;
        scene.ours_at(&host, &answered).await;
        assert_eq!(scene.bodies().await, ["welcome", "thank you"]);
        assert_eq!(scene.state().await, scene.state_in_the_world(&host));

        let redaction = host.makes(&scene.rita, Draft::redaction(answered.clone(), CanonicalJsonObject::new()));
        assert_eq!(scene.receive(&[&redaction]).await, [Ok(())], "version {version}");
        assert_eq!(scene.bodies().await, ["welcome"]);
        let own = scene.send("gone soon").await;
        scene.ours_at(&host, &own).await;
        let (actions, room) = (&scene.actions, scene.room_id.as_str());
        let redacted = messages::redact(actions, &scene.alice, room, own.as_str(), None, None).await.unwrap();
        scene.ours_at(&host, &redacted).await;
        let shown = timeline::event(actions, &scene.alice, room, own.as_str()).await.unwrap();
        assert_eq!(shown.redacted_by.as_ref(), Some(&scene.alice.user_id), "version {version}");

        members::leave(actions, &scene.alice, room).await.unwrap();
        let left = scene.heads().await;
        scene.ours_at(&host, &left[0]).await;
        assert_eq!(scene.state().await, scene.state_in_the_world(&host), "version {version}");
        let again = scene.joins().await;
        assert_eq!(again.membership, Membership::Join, "version {version}");
        assert_eq!(scene.state().await, scene.state_in_the_world(&host), "version {version}");
    }
}

/// Hard case 11, the joining side.
#[tokio::test]
async fn a_restricted_room_of_an_older_version_is_entered_when_somebody_there_vouches() {
    for version in ["8", "9", "10", "11"] {
        let allow = json!([{ "type": "m.room_membership", "room_id": "!club:peer.example" }]);
        let (scene, host) = far(version, json!({ "join_rule": "restricted", "allow": allow })).await;
        assert_eq!(scene.joins().await.membership, Membership::Join, "version {version}");
        assert_eq!(scene.state().await, scene.state_in_the_world(&host), "version {version}");
    }
}

#[tokio::test]
async fn people_knock_at_rooms_of_older_versions_that_know_knocks() {
    for version in ["7", "8", "9"] {
        let (scene, host) = far(version, json!({ "join_rule": "knock" })).await;
        let (actions, room): (_, OwnedRoomId) = (&scene.actions, scene.room_id.clone());
        let via = [PEER.to_owned()];
        let knocked = knocks::knock(actions, &scene.alice, room.as_str(), &via, None).await.unwrap();
        assert_eq!(knocked.membership, Membership::Knock, "version {version}");
        let key = ("m.room.member".into(), scene.alice.user_id.to_string());
        let seen = scene.state_in_the_world(&host)[&key].clone();
        assert!(scene.world.lock().events[&seen].json().contains("\"knock\""), "version {version}");
    }
}

//! Taking part in rooms together with other servers, below the wire. The other servers are played by the tests: they sign their own events with their own keys,
//! tell of what they know, keep things back and lie.
#![cfg(test)]

mod admin_invites;
mod between;
mod big_rooms;
mod checklist;
mod doors;
pub(crate) mod engines;
mod finding;
mod gaps;
mod handshakes;
mod hard_cases;
mod hard_memberships;
mod history;
mod hostile;
mod joining;
mod knocking;
mod large_rooms;
mod leaving;
mod media;
mod named;
mod network;
mod news;
mod old_versions;
mod outgoing;
mod party;
mod policy;
mod receiving;
mod redactions;
mod refusals;
mod restricted;
pub(crate) mod servers;
mod serving;
mod signing_keys;
mod simulation;
mod specification;
mod storm;
pub(crate) mod stranger;
mod toggles;
mod vectors;
mod wire;
mod world;

use std::{collections::HashMap, sync::Arc, time::Duration};

use ::federation::{Pdu, Refusal, local::LocalRooms};
use parking_lot::Mutex;
use rules::{Version, draft::Draft, event::Event, kind::RoomKind};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, UserId};
use serde_json::{Value, json, value::RawValue};
use world::{Ids, Others, World};
use yurt::{
    actions::{
        Actions, Caller, Direction,
        accounts::{self, NewAccount},
        creation::{self, NewRoom},
        incoming, levels, messages, room_state,
        rows::Rows,
        timeline,
    },
    storage::{
        Arrival, StateRoot, StateTree,
        history::{EventStanding, StoredEvent, Tip},
        keyspaces::EVENTS,
    },
};

use crate::client::{TestServer, server};

const VERSIONS: [&str; 2] = ["10", "12"];

/// A room of ours in which people of other servers take part.
struct Scene {
    /// None: it was there before.
    server: Option<TestServer>,
    actions: Actions,
    alice: Caller,
    rita: OwnedUserId,
    sam: OwnedUserId,
    room_id: OwnedRoomId,
    version: Version,
    world: Arc<Mutex<World>>,
}

impl Scene {
    /// Alice makes a public room, Rita (level 50) and Sam join it, each from a server of their own.
    async fn new(version: &str) -> Self {
        let server = server().await;
        let mut scene = Self::on(server.actions().await, version).await;
        scene.server = Some(server);
        scene.actions.connect(Arc::new(Others(Arc::clone(&scene.world))));
        scene.learn_ours().await;
        for user in [&scene.rita, &scene.sam] {
            let join = scene.make(user, &scene.heads().await, Draft::member(user, "join", CanonicalJsonObject::new()));
            assert_eq!(scene.receive(&[&join]).await, [Ok(())], "version {version}");
        }
        levels::set_member(&scene.actions, &scene.alice, scene.room_id.as_str(), &scene.rita, 50).await.unwrap();
        scene.learn_ours().await;
        scene
    }

    /// Alice makes a public room on a server that is there.
    async fn on(actions: Actions, version: &str) -> Self {
        accounts::create(&actions, NewAccount { username: "alice".to_owned(), ..NewAccount::default() }).await.unwrap();
        let alice = Caller::local(&accounts::user_id(&actions, "alice").unwrap(), false);
        let new = NewRoom {
            kind: Some(RoomKind::Public),
            name: Some("Tents".to_owned()),
            version: Some(version.to_owned()),
            ..NewRoom::default()
        };
        let room_id = creation::create(&actions, &alice, new).await.unwrap();
        let mut world = World::new(Version::parse(version).unwrap(), room_id.clone(), actions.now().0);
        world.add_server("peer.example");
        world.add_server("other.example");
        Self {
            server: None,
            alice,
            rita: UserId::parse("@rita:peer.example").unwrap(),
            sam: UserId::parse("@sam:other.example").unwrap(),
            room_id,
            version: world.version,
            world: Arc::new(Mutex::new(world)),
            actions,
        }
    }

    fn advance(&self, time: Duration) {
        self.server.as_ref().unwrap().advance(time);
    }

    fn make(&self, sender: &UserId, previous: &[OwnedEventId], draft: Draft) -> Arc<Event> {
        self.world.lock().make(sender, previous, draft)
    }

    /// So many messages of Rita, one behind the other, which nobody has sent to us.
    fn chain(&self, previous: &[OwnedEventId], count: usize) -> Vec<Arc<Event>> {
        let (mut previous, mut chain) = (previous.to_vec(), Vec::new());
        for number in 0..count {
            let event = self.make(&self.rita, &previous, message(&format!("unsent {number}")));
            previous = vec![event.event_id().clone()];
            chain.push(event);
        }
        chain
    }

    /// The other servers hear of everything that this server holds.
    async fn learn_ours(&self) {
        let tip = self.tip().await;
        for number in 1..tip.next_arrival.get() {
            let arrival = Arrival::new(number).unwrap();
            let Some((stored, event)) = self.row(arrival).await else { continue };
            if !self.world.lock().events.contains_key(event.event_id()) {
                let before = self.state_of(stored.state_before).await;
                self.world.lock().learn(event, before);
            }
        }
    }

    async fn row(&self, arrival: Arrival) -> Option<(StoredEvent, Arc<Event>)> {
        let room = self.actions.room(&self.room_id);
        let rows = Rows::on_disk(&room.store, &room.home);
        rows.get(&EVENTS, &arrival).await.unwrap()?;
        Some(rows.event(&self.version, arrival).await.unwrap())
    }

    /// What is held of an event.
    async fn held(&self, id: &OwnedEventId) -> Option<StoredEvent> {
        let room = self.actions.room(&self.room_id);
        let arrival = Rows::on_disk(&room.store, &room.home).arrival_of(id).await.unwrap()?;
        Some(self.row(arrival).await.unwrap().0)
    }

    async fn is_accepted(&self, event: &Event) -> bool {
        self.held(event.event_id()).await.is_some_and(|stored| stored.standing == EventStanding::Accepted)
    }

    async fn is_rejected(&self, event: &Event) -> bool {
        let held = self.held(event.event_id()).await;
        held.is_some_and(|stored| matches!(stored.standing, EventStanding::Rejected { .. }))
    }

    async fn state_of(&self, root: StateRoot) -> Ids {
        let room = self.actions.room(&self.room_id);
        let rows = Rows::on_disk(&room.store, &room.home);
        let tree = StateTree::new(&room.store, room.home.clone());
        let mut state = Ids::new();
        for (_, arrival) in tree.walk(root, 0, 10_000).await.unwrap() {
            let event = rows.event(&self.version, arrival).await.unwrap().1;
            state.insert(rules::state::change_of(&event).unwrap(), event.event_id().clone());
        }
        state
    }

    async fn tip(&self) -> Tip {
        self.actions.room(&self.room_id).view().await.unwrap().unwrap().tip.clone()
    }

    async fn state(&self) -> Ids {
        self.state_of(self.tip().await.state).await
    }

    async fn heads(&self) -> Vec<OwnedEventId> {
        let mut heads: Vec<OwnedEventId> = self.tip().await.heads.into_iter().map(|head| head.event_id).collect();
        heads.sort();
        heads
    }

    /// What is answered for each event that `peer.example` sends, once everything that follows is done.
    async fn receive(&self, events: &[&Event]) -> Vec<Result<(), Refusal>> {
        self.receive_from("peer.example", events).await
    }

    async fn receive_from(&self, origin: &str, events: &[&Event]) -> Vec<Result<(), Refusal>> {
        let answers = self.receive_raw(origin, events.iter().map(|event| event.json()).collect()).await;
        let by_id: HashMap<OwnedEventId, Result<(), Refusal>> = answers.into_iter().collect();
        events.iter().filter_map(|event| by_id.get(event.event_id()).cloned()).collect()
    }

    async fn receive_raw(&self, origin: &str, events: Vec<&str>) -> Vec<(OwnedEventId, Result<(), Refusal>)> {
        let origin: OwnedServerName = origin.try_into().unwrap();
        let pdus = events.into_iter().map(pdu).collect();
        let answers = LocalRooms::receive(&self.actions, &origin, &self.room_id, pdus).await;
        self.catch_up().await;
        answers
    }

    async fn catch_up(&self) {
        incoming::catch_up(&self.actions, &self.room_id).await.unwrap();
    }

    /// Stops the server and starts it again; the other servers do not notice.
    async fn restart(&mut self) {
        let server = self.server.as_mut().unwrap();
        server.restart().await;
        self.actions = server.actions().await;
        self.actions.connect(Arc::new(Others(Arc::clone(&self.world))));
    }

    fn asked(&self, what: &'static str) -> usize {
        self.world.lock().asked.get(what).copied().unwrap_or(0)
    }

    async fn send(&self, body: &str) -> OwnedEventId {
        let message = messages::NewMessage {
            event_type: "m.room.message".to_owned(),
            content: json!({ "msgtype": "m.text", "body": body }),
            reply_to: None,
            transaction_id: None,
            fingerprint: [0; 32],
        };
        messages::send(&self.actions, &self.alice, self.room_id.as_str(), message).await.unwrap().event_id
    }

    /// The bodies of the messages that Alice sees, oldest first.
    async fn bodies(&self) -> Vec<String> {
        let page =
            timeline::page(&self.actions, &self.alice, self.room_id.as_str(), None, Direction::Up, 200).await.unwrap();
        let contents = page.events.iter().map(|view| view.event.content_as::<Value>().unwrap());
        contents.filter_map(|content| content["body"].as_str().map(str::to_owned)).collect()
    }

    async fn set_state(&self, event_type: &str, content: Value) {
        room_state::set(&self.actions, &self.alice, self.room_id.as_str(), event_type, "", content).await.unwrap();
        self.learn_ours().await;
    }
}

fn pdu(text: &str) -> Pdu {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn message(body: &str) -> Draft {
    Draft::message("m.room.message", object(json!({ "msgtype": "m.text", "body": body })))
}

fn topic(text: &str) -> Draft {
    Draft::state("m.room.topic", "", object(json!({ "topic": text })))
}

fn object(content: Value) -> CanonicalJsonObject {
    match CanonicalJsonValue::try_from(content).unwrap() {
        CanonicalJsonValue::Object(content) => content,
        other => panic!("{other:?} is no object"),
    }
}

fn id_of(event: &Event) -> OwnedEventId {
    event.event_id().clone()
}

async fn for_each_version<F: Future<Output = ()>>(test: impl Fn(&'static str) -> F) {
    for version in VERSIONS {
        test(version).await;
    }
}

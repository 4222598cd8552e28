//! Which server is sent which events.

use std::sync::Arc;

use federation::{
    Outbox as _,
    outbound::{Edu, PeerStatus},
};
use parking_lot::Mutex;
use ruma::{OwnedServerName, ServerName, server_name};
use serde_json::Value;
use yurt::actions::{
    members::{self, Measure},
    messages,
    outgoing::{Doing, Sending, TenantOutbox},
    peers::{Asking, PeerError},
    personal, typing,
};

use super::{Scene, VERSIONS, message, servers::eventually};

/// Sends nothing, and remembers who was to be sent to.
#[derive(Default)]
struct Noted {
    woken: Mutex<Vec<OwnedServerName>>,
    edus: Mutex<Vec<(Vec<OwnedServerName>, Edu)>>,
    forgotten: Mutex<Vec<OwnedServerName>>,
}

impl Sending for Noted {
    fn wake(&self, servers: Vec<OwnedServerName>) {
        self.woken.lock().extend(servers);
    }

    fn edu(&self, servers: Vec<OwnedServerName>, edu: &Edu) {
        self.edus.lock().push((servers, edu.clone()));
    }

    fn status<'a>(&'a self, _: &'a ServerName) -> Asking<'a, PeerStatus> {
        Box::pin(async { Err(PeerError::Unreachable) })
    }

    fn reset<'a>(&'a self, _: &'a ServerName) -> Asking<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn forget(&self, servers: Vec<OwnedServerName>) {
        self.forgotten.lock().extend(servers);
    }

    fn idle_handles(&self) -> Option<usize> {
        Some(0)
    }

    fn stop(&self) -> Doing<'_> {
        Box::pin(async {})
    }
}

async fn plugged(scene: &Scene) -> Arc<Noted> {
    let noted = Arc::new(Noted::default());
    let sending: Arc<dyn Sending> = Arc::<Noted>::clone(&noted);
    scene.actions.send_with(sending).await.unwrap();
    noted
}

/// The bodies of messages, or types of other events, that a server is sent now; it takes them.
async fn taken(outbox: &TenantOutbox, peer: &ServerName) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(batch) = outbox.next(peer, 50).await.unwrap() {
        for pdu in &batch.pdus {
            let event: Value = serde_json::from_str(pdu.get()).unwrap();
            let said = event["content"]["body"].as_str().or(event["content"]["membership"].as_str());
            all.push(said.unwrap_or_else(|| event["type"].as_str().unwrap()).to_owned());
        }
        outbox.delivered(peer, batch.up_to).await.unwrap();
    }
    all
}

/// The server is sent just this; who is in a room is looked up a moment after the commit.
async fn is_sent(outbox: &TenantOutbox, peer: &ServerName, expected: &[&str]) {
    let sent = Mutex::new(Vec::new());
    eventually("everything is sent", async || {
        let some = taken(outbox, peer).await;
        let mut sent = sent.lock();
        sent.extend(some);
        sent.len() >= expected.len()
    })
    .await;
    assert_eq!(sent.into_inner(), expected, "{peer}");
    assert!(taken(outbox, peer).await.is_empty(), "{peer} has everything");
}

fn peer() -> &'static ServerName {
    server_name!("peer.example")
}

fn other() -> &'static ServerName {
    server_name!("other.example")
}

/// S2S 16 who is sent an event.
#[tokio::test]
async fn servers_in_the_room_are_sent_our_events_and_nobody_elses() {
    for version in VERSIONS {
        let scene = Scene::new(version).await;
        let noted = plugged(&scene).await;
        let outbox = scene.actions.outbox();
        // What was said before their people came is not theirs; Sam came last and hears of the levels only.
        is_sent(&outbox, peer(), &["m.room.power_levels"]).await;
        is_sent(&outbox, other(), &["m.room.power_levels"]).await;
        scene.send("hello").await;
        scene.learn_ours().await;
        let theirs = scene.make(&scene.rita, &scene.heads().await, message("of a peer"));
        scene.receive(&[&theirs]).await;
        scene.send("bye").await;
        eventually("both are woken", async || noted.woken.lock().len() >= 2).await;
        is_sent(&outbox, peer(), &["hello", "bye"]).await;
        assert_eq!(outbox.destinations().await.unwrap(), [other()]);
        is_sent(&outbox, other(), &["hello", "bye"]).await;
        assert!(outbox.destinations().await.unwrap().is_empty());
    }
}

/// S2S 16 who is sent an event. S2S 16 nothing is sent to servers that left.
#[tokio::test]
async fn who_is_removed_gets_that_and_nothing_behind_it() {
    let scene = Scene::new("12").await;
    plugged(&scene).await;
    let outbox = scene.actions.outbox();
    taken(&outbox, peer()).await;
    let room = scene.room_id.as_str();
    members::take_measure(&scene.actions, &scene.alice, room, Measure::Kick, &scene.sam, None).await.unwrap();
    scene.send("without Sam").await;
    is_sent(&outbox, other(), &["m.room.power_levels", "leave"]).await;
    is_sent(&outbox, peer(), &["leave", "without Sam"]).await;
    assert!(taken(&outbox, other()).await.is_empty());
}

/// S2S 16 what is owed is kept.
#[tokio::test]
async fn what_is_owed_survives_a_restart() {
    let mut scene = Scene::new("12").await;
    plugged(&scene).await;
    is_sent(&scene.actions.outbox(), peer(), &["m.room.power_levels"]).await;
    scene.send("not yet sent").await;
    scene.restart().await;
    plugged(&scene).await;
    let outbox = scene.actions.outbox();
    is_sent(&outbox, peer(), &["not yet sent"]).await;
    is_sent(&outbox, other(), &["m.room.power_levels", "not yet sent"]).await;
    scene.restart().await;
    plugged(&scene).await;
    let outbox = scene.actions.outbox();
    assert!(taken(&outbox, peer()).await.is_empty() && taken(&outbox, other()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_however_soon_it_is_looked_for() {
    let scene = Scene::new("12").await;
    plugged(&scene).await;
    let outbox = scene.actions.outbox();
    is_sent(&outbox, peer(), &["m.room.power_levels"]).await;
    let said: Vec<String> = (0..400).map(|number| number.to_string()).collect();
    let saying = async {
        for body in &said {
            scene.send(body).await;
        }
    };
    let sent = Mutex::new(Vec::new());
    let taking = async {
        // Without a pause: it is looked for at every moment.
        while sent.lock().len() < said.len() {
            let some = taken(&outbox, peer()).await;
            sent.lock().extend(some);
            tokio::task::yield_now().await;
        }
    };
    let both = Box::pin(async { tokio::join!(saying, taking) });
    tokio::time::timeout(super::servers::WAIT_MAX, both).await.expect("everything is sent in time");
    assert_eq!(sent.into_inner(), said);
}

#[tokio::test]
async fn others_hear_who_types_and_has_read() {
    let scene = Scene::new("12").await;
    let noted = plugged(&scene).await;
    typing::set(&scene.actions, &scene.alice, scene.room_id.as_str(), Some(1_000)).await.unwrap();
    let event_id = scene.send("hello").await;
    for _ in 0..2 {
        let read = personal::mark_read(&scene.actions, &scene.alice, scene.room_id.as_str(), event_id.as_str());
        read.await.unwrap();
    }
    let edus = noted.edus.lock();
    let (room_id, user_id) = (scene.room_id.clone(), scene.alice.user_id.clone());
    assert_eq!(edus.len(), 2, "a marker that does not move is told once");
    assert_eq!(edus[0].0, [other(), peer()]);
    assert_eq!(edus[0].1, Edu::Typing { room_id, user_id, is_typing: true });
    assert!(matches!(&edus[1].1, Edu::Read { event_id: read, .. } if *read == event_id));
}

/// Hard case 19.
#[tokio::test]
async fn what_was_redacted_before_it_was_sent_is_not_told() {
    let scene = Scene::new("12").await;
    plugged(&scene).await;
    let outbox = scene.actions.outbox();
    taken(&outbox, peer()).await;
    let secret = scene.send("secret").await;
    let room = scene.room_id.as_str();
    messages::redact(&scene.actions, &scene.alice, room, secret.as_str(), None, None).await.unwrap();
    is_sent(&outbox, peer(), &["m.room.message", "m.room.redaction"]).await;
}

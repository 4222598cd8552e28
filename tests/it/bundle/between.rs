//! Bundles between servers that share a room: holes are filled, and whoever joined late holds the room as the others do.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use rules::kind::RoomKind;
use yurt::actions::{
    Caller,
    bundle::{self, Answered, Content, Imported, Options, Outcome, Whose},
    creation::{self, NewRoom},
    members, purge,
};

use super::verify;
use crate::federation::engines::{Engine, Net, engine};

const CONTENT: Content = Content { media: true, personal: Whose::Nobodys };

async fn exported(engine: &Engine, room: &str) -> Bytes {
    let export = bundle::export(&engine.actions, &engine.person, room, CONTENT).await.unwrap();
    let pieces: Vec<Bytes> = export.into_stream().try_collect().await.unwrap();
    pieces.concat().into()
}

async fn imported(engine: &Engine, caller: &Caller, file: &Bytes, options: Options) -> Imported {
    let body = futures_util::stream::iter([Ok::<_, std::io::Error>(file.clone())]);
    let spooled = bundle::spool(&engine.actions, caller, body).await.unwrap();
    match bundle::import(&engine.actions, caller, spooled, options).await.unwrap() {
        Answered::Done(imported) => *imported,
        Answered::Later(_) => panic!("a small room takes long"),
    }
}

#[tokio::test]
async fn who_joined_late_gets_the_history_from_a_bundle_and_nobody_is_notified() {
    for version in ["10", "11", "12"] {
        let net = Arc::new(Net::default());
        let alice = engine(&net, "a.example", "alice").await;
        let bob = engine(&net, "b.example", "bob").await;
        let new = NewRoom {
            kind: Some(RoomKind::Public),
            name: Some("Tents".to_owned()),
            version: Some(version.to_owned()),
            ..NewRoom::default()
        };
        let room_id = creation::create(&alice.actions, &alice.person, new).await.unwrap();
        let mut early = Vec::new();
        for number in 0..30 {
            early.push(alice.say(&room_id, &format!("early {number}")).await);
        }
        members::join(&bob.actions, &bob.person, room_id.as_str(), &[alice.name.to_string()], None).await.unwrap();
        net.pass_over(&alice, &room_id).await;
        let hello = bob.say(&room_id, "hello").await;
        net.deliver(&bob, &room_id, &[&alice]).await;
        let unheard = alice.say(&room_id, "this was not sent").await;

        // What Bob holds proves itself too, though there is a hole in it.
        let partial = exported(&bob, room_id.as_str()).await;
        let verified = verify(&partial).unwrap();
        assert!(verified.claims >= 1 && verified.events < 30, "{} events", verified.events);

        let whole = exported(&alice, room_id.as_str()).await;
        let total = verify(&whole).unwrap().events;
        let unread = |room: yurt::actions::rooms::RoomDetails| room.personal.unread;
        let before = yurt::actions::rooms::details(&bob.actions, &bob.person, room_id.as_str()).await.unwrap();
        let dry = imported(&bob, &bob.person, &whole, Options { dry_run: true, ..Options::default() }).await;
        assert!(!bob.holds(&room_id, &early[0]).await && dry.events.stored > 30);
        let merged = imported(&bob, &bob.person, &whole, Options::default()).await;
        assert_eq!((merged.outcome, merged.events.rejected.len()), (Outcome::Merged, 0), "version {version}");
        assert_eq!(merged.events.stored + merged.events.known, total);
        for id in early.iter().chain([&hello, &unheard]) {
            assert!(bob.holds(&room_id, id).await, "version {version}: {id} is missing");
        }
        assert_eq!(bob.state(&room_id).await, alice.state(&room_id).await);
        let client = bob.client().await;
        let timeline = client.timeline(room_id.as_str()).await;
        let bodies: Vec<&str> = timeline.iter().filter_map(|event| event["content"]["body"].as_str()).collect();
        let mut expected: Vec<String> = (0..30).map(|number| format!("early {number}")).collect();
        expected.extend(["hello".to_owned(), "this was not sent".to_owned()]);
        assert_eq!(bodies, expected, "version {version}");
        let after = yurt::actions::rooms::details(&bob.actions, &bob.person, room_id.as_str()).await.unwrap();
        assert_eq!(unread(after), unread(before) + 1, "only what is new is unread");
        let twice = imported(&bob, &bob.person, &whole, Options::default()).await;
        assert_eq!((twice.events.stored, twice.events.known), (0, total));
        // And the other way round: what Bob held is nothing new to Alice.
        let back = imported(&alice, &alice.person, &partial, Options::default()).await;
        assert_eq!((back.outcome, back.events.stored), (Outcome::Merged, 0));
    }
}

#[tokio::test]
async fn a_room_with_a_hole_lives_on_with_its_hole() {
    let net = Arc::new(Net::default());
    let alice = engine(&net, "a.example", "alice").await;
    let bob = engine(&net, "b.example", "bob").await;
    let new = NewRoom { kind: Some(RoomKind::Public), name: Some("Tents".to_owned()), ..NewRoom::default() };
    let room_id = creation::create(&alice.actions, &alice.person, new).await.unwrap();
    for number in 0..10 {
        alice.say(&room_id, &format!("early {number}")).await;
    }
    members::join(&bob.actions, &bob.person, room_id.as_str(), &[alice.name.to_string()], None).await.unwrap();
    bob.say(&room_id, "hello").await;
    let partial = exported(&bob, room_id.as_str()).await;
    let state = bob.state(&room_id).await;
    let root = crate::federation::engines::caller(&bob.actions, "root").await;
    let admin = Caller::local(&root.user_id, true);
    purge::start(&bob.actions, &admin, room_id.as_str()).await.unwrap();
    crate::federation::servers::eventually("the room is purged", async || !bob.actions.is_purging(&room_id)).await;
    let restored = imported(&bob, &admin, &partial, Options::default()).await;
    assert_eq!(restored.outcome, Outcome::Restored);
    assert_eq!(bob.state(&room_id).await, state);
    let again = exported(&bob, room_id.as_str()).await;
    let (one, other) = (verify(&partial).unwrap().manifest, verify(&again).unwrap().manifest);
    assert_eq!((one.entries, one.state, one.extremities), (other.entries, other.state, other.extremities));
}

#[tokio::test]
async fn keys_that_nobody_can_be_asked_for_count_only_when_an_admin_says_so() {
    let net = Arc::new(Net::default());
    let alice = engine(&net, "a.example", "alice").await;
    let bob = engine(&net, "b.example", "bob").await;
    let new = NewRoom { kind: Some(RoomKind::Public), name: Some("Tents".to_owned()), ..NewRoom::default() };
    let room_id = creation::create(&alice.actions, &alice.person, new).await.unwrap();
    members::join(&bob.actions, &bob.person, room_id.as_str(), &[alice.name.to_string()], None).await.unwrap();
    let whole = exported(&alice, room_id.as_str()).await;
    bob.actions.connect(Arc::new(yurt::actions::peers::Nobody));
    let body = futures_util::stream::iter([Ok::<_, std::io::Error>(whole.clone())]);
    let spooled = bundle::spool(&bob.actions, &bob.person, body).await.unwrap();
    let refused = bundle::import(&bob.actions, &bob.person, spooled, Options::default()).await.err().unwrap();
    assert!(refused.to_string().contains("a.example"), "{refused}");
    let admin = Caller::local(&bob.person.user_id, true);
    let options = Options { accept_bundle_keys: true, ..Options::default() };
    let merged = imported(&bob, &admin, &whole, options).await;
    assert_eq!(merged.outcome, Outcome::Merged);
    // They are kept with the room: it goes out again with them, and comes in again without the admin.
    let again = exported(&bob, room_id.as_str()).await;
    assert!(verify(&again).unwrap().manifest.verify_keys.contains_key(&alice.name));
    let twice = imported(&bob, &bob.person, &whole, Options::default()).await;
    assert_eq!((twice.outcome, twice.events.stored), (Outcome::Merged, 0));
}

//! What other servers send to do harm, and what comes of it.

use std::{
    fs,
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ruma::OwnedUserId;
use serde_json::json;
use yurt::actions::{ErrorKind, lane::LANE_WAITERS_MAX, members};

use super::*;
use crate::client::Way;

/// Hard case 16, and S2S 10 m.typing.
/// Hard case 15.
#[tokio::test]
async fn who_types_is_believed_of_members_of_the_server_that_tells() {
    let scene = Scene::new("12").await;
    let server = scene.server.as_ref().unwrap();
    let carol = server.account("carol").await;
    let room = scene.room_id.as_str();
    carol.joins(room).await.ok();
    let mut ear = carol.listens(Way::Socket).await;
    let types = async |origin: &str, user: &UserId, is_typing: bool| {
        let origin: OwnedServerName = origin.try_into().unwrap();
        LocalRooms::typing(&scene.actions, &origin, &scene.room_id, user, is_typing).await;
    };
    let outside = UserId::parse("@outside:peer.example").unwrap();
    types("peer.example", &outside, true).await;
    types("peer.example", &scene.sam, true).await;
    types("peer.example", &scene.alice.user_id, true).await;
    types("peer.example", &scene.rita, true).await;
    let participants = async |ear: &mut crate::client::Ear| ear.until_type("typing").await["participants"].clone();
    assert_eq!(participants(&mut ear).await, json!([scene.rita]), "nobody else");
    types("other.example", &scene.rita, false).await;
    types("other.example", &scene.sam, true).await;
    assert_eq!(participants(&mut ear).await, json!([scene.rita, scene.sam]));
    types("peer.example", &scene.rita, false).await;
    assert_eq!(participants(&mut ear).await, json!([scene.sam]));
    // Who does not say that they stopped has stopped after a while.
    server.advance(Duration::from_secs(31));
    assert_eq!(participants(&mut ear).await, json!([]));
    // A room that does not let the server in does not hear of it either.
    scene.set_state("m.room.server_acl", json!({ "allow": ["*"], "deny": ["peer.example"] })).await;
    types("peer.example", &scene.rita, true).await;
    types("other.example", &scene.sam, true).await;
    assert_eq!(participants(&mut ear).await, json!([scene.sam]));
}

/// S2S 11: time. Events of 1970 and of a time that never comes stand where their previous events put them.
#[tokio::test]
async fn an_event_of_any_time_is_in_its_place() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let now = scene.world.lock().clock;
        let mut bodies = Vec::new();
        for (number, clock) in [now, 1, (1 << 53) - 5, 2].into_iter().enumerate() {
            scene.world.lock().clock = clock;
            let body = format!("word {number}");
            let event = scene.make(&scene.rita, &scene.heads().await, message(&body));
            assert_eq!(event.origin_server_ts().0, clock + 1);
            assert_eq!(scene.receive(&[&event]).await, [Ok(())], "{clock} in {version}");
            assert!(scene.is_accepted(&event).await);
            bodies.push(body);
        }
        assert_eq!(scene.bodies().await, bodies);
        // Power that was taken away is not given back by an older event.
        levels::set_member(&scene.actions, &scene.alice, scene.room_id.as_str(), &scene.rita, 0).await.unwrap();
        scene.learn_ours().await;
        scene.world.lock().clock = 3;
        let late = scene.make(&scene.rita, &scene.heads().await, topic("older than that"));
        assert_eq!(scene.receive(&[&late]).await, [Err(Refusal::Forbidden)]);
    })
    .await;
}

/// Hard case 49: who waits for a room is asked again only when it is their turn.
#[tokio::test]
async fn ten_thousand_who_wait_for_a_room_are_not_asked_over_and_over() {
    let scene = Scene::new("12").await;
    let room = scene.actions.room(&scene.room_id);
    let held = room.enter().await.unwrap();
    let polls = Arc::new(AtomicUsize::new(0));
    let waiting: Vec<_> = (0..10_000)
        .map(|_| {
            let (room, polls) = (Arc::clone(&room), Arc::clone(&polls));
            tokio::spawn(async move {
                let mut enters = pin!(room.enter());
                let entered = std::future::poll_fn(|context| {
                    polls.fetch_add(1, Ordering::Relaxed);
                    enters.as_mut().poll(context)
                });
                entered.await.map(drop).map_err(|error| error.kind())
            })
        })
        .collect();
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(polls.load(Ordering::Relaxed) <= 10_000, "nobody is asked twice while the room is taken");
    drop(held);
    let (mut entered, mut busy) = (0, 0);
    for outcome in futures_util::future::join_all(waiting).await {
        match outcome.unwrap() {
            Ok(()) => entered += 1,
            Err(kind) => {
                assert_eq!(kind, ErrorKind::Busy);
                busy += 1;
            }
        }
    }
    assert_eq!((entered, busy), (LANE_WAITERS_MAX, 10_000 - LANE_WAITERS_MAX));
    assert!(polls.load(Ordering::Relaxed) <= 10_000 + 2 * LANE_WAITERS_MAX);
}

/// Hard case 44: what a room shows of itself makes no invite too large to be sent.
#[tokio::test]
async fn a_room_full_of_large_state_can_be_invited_to() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let large = |field: &str| object(json!({ (field): "x".repeat(60_000) }));
        for (kind, field) in
            [("m.room.topic", "topic"), ("m.room.name", "name"), ("m.room.avatar", "url"), ("m.room.encryption", "x")]
        {
            let event = scene.make(&scene.rita, &scene.heads().await, Draft::state(kind, "", large(field)));
            scene.receive(&[&event]).await;
        }
        let nina = UserId::parse("@nina:other.example").unwrap();
        let invite = members::invite(&scene.actions, &scene.alice, scene.room_id.as_str(), &nina, None).await.unwrap();
        assert_eq!(invite.view.summary.invited, 1);
        let told = scene.world.lock().invites.pop().unwrap();
        assert!(told.event.get().len() < 4_096 && !told.event.get().contains("xxxx"), "{}", told.event.get().len());
        let bytes: usize = told.room_state.iter().map(|event| event.get().len()).sum();
        assert!(bytes > 60_000 && bytes <= 128 * 1_024, "{bytes}");
        let types: Vec<String> = told
            .room_state
            .iter()
            .map(|event| serde_json::from_str::<Value>(event.get()).unwrap()["type"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(types[0], "m.room.create", "{types:?}");
    })
    .await;
}

/// Hard case 62: names of servers that differ by the case of a letter are two.
#[tokio::test]
async fn the_case_of_letters_tells_servers_apart() {
    let scene = Scene::new("12").await;
    let event = scene.make(&scene.rita, &scene.heads().await, message("hello"));
    // A user of another server, who is not in the room, with a signature of the server that is.
    let other = event.json().replace("@rita:peer.example", "@rita:PEER.example");
    let answers = scene.receive_raw("peer.example", vec![&other]).await;
    assert!(matches!(answers[..], [(_, Err(Refusal::Invalid(_)))]), "{answers:?}");
    assert_eq!(scene.receive(&[&event]).await, [Ok(())]);
    let server: OwnedServerName = "Peer.example".try_into().unwrap();
    assert_eq!(LocalRooms::event(&scene.actions, &server, event.event_id()).await.map(drop), Err(Refusal::NotFound));
}

/// Every file below a folder.
fn files(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        if path.is_dir() {
            files(&path, found);
        }
    }
}

/// Hard case 63: what others chose as ids names no file, and comes back as the text it is.
#[tokio::test]
async fn ids_of_others_are_text_and_nothing_else() {
    let scene = Scene::new("11").await;
    let words =
        ["../../etc/passwd", "%s%n{}{0}", "<script>alert(1)</script>", "a\\b|c;d`e`", "C:x\r\nX-Header y", "a/../b"];
    let rude: Vec<OwnedUserId> =
        words.iter().map(|word| UserId::parse(format!("@{}:peer.example", word.replace(':', "."))).unwrap()).collect();
    for (user, word) in rude.iter().zip(words) {
        let name = object(json!({ "displayname": word }));
        let join = scene.make(user, &scene.heads().await, Draft::member(user, "join", name));
        assert_eq!(scene.receive(&[&join]).await, [Ok(())], "{user}");
        let event = scene.make(user, &scene.heads().await, Draft::message(word, object(json!({ "body": word }))));
        assert_eq!(scene.receive(&[&event]).await, [Ok(())], "{word}");
        let shown = timeline::event(&scene.actions, &scene.alice, scene.room_id.as_str(), event.event_id().as_str());
        let shown = shown.await.unwrap();
        assert_eq!((shown.event.type_str(), shown.event.sender()), (word, user));
    }
    let server = scene.server.as_ref().unwrap();
    let carol = server.account("carol").await;
    carol.joins(scene.room_id.as_str()).await.ok();
    let members = carol
        .get(&format!("/v1/rooms/{}/members?limit=100", crate::client::encoded(scene.room_id.as_str())))
        .await
        .ok();
    for user in &rude {
        assert!(members.to_string().contains(&json!(user).to_string()), "{user} in {members}");
    }
    let mut names = Vec::new();
    files(server.folder(), &mut names);
    assert!(names.len() > 5);
    for name in names {
        assert!(name.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter)), "{name}");
    }
}

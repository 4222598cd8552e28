//! Incognito rooms: they live in memory, and nothing of them is left.

use serde_json::json;

use super::MISSING_ROOM;
use crate::client::{Caller, TestServer, encoded, server, text};

#[tokio::test]
async fn the_two_spellings_mean_the_same() {
    let server = server().await;
    let alice = server.account("alice").await;
    let bodies = [
        json!({"room_type": "incognito", "name": "w"}),
        json!({"room_type": "incognito", "scope_kind": "incognito", "name": "w"}),
        json!({"room_type": "incognito", "scope_kind": null, "name": "w"}),
        json!({"room_type": "group", "scope_kind": "incognito", "name": "w"}),
    ];
    for body in bodies {
        let room = alice.post("/v1/rooms", body).await.created();
        assert_eq!((&room["room_type"], &room["scope_kind"]), (&json!("incognito"), &json!("incognito")));
        assert_eq!((&room["workspace_id"], &room["is_public"]), (&json!(null), &json!(false)));
        assert_eq!(room["federation"], json!({"mode": "off", "permanent": true}));
    }
}

#[tokio::test]
async fn incognito_and_public_exclude_each_other() {
    let server = server().await;
    let alice = server.account("alice").await;
    let bodies = [
        json!({"room_type": "public", "scope_kind": "incognito", "name": "w"}),
        json!({"room_type": "incognito", "is_public": true, "name": "w"}),
        json!({"room_type": "group", "scope_kind": "incognito", "is_public": true, "name": "w"}),
    ];
    for body in bodies {
        alice.post("/v1/rooms", body).await.type_invariant();
    }
}

#[tokio::test]
async fn people_of_this_server_are_invited_talk_and_read() {
    let server = server().await;
    let (alice, bob, room) = whispers(&server).await;
    alice.says(&room, "psst").await;
    let marked = bob.says(&room, "yes?").await;
    assert_eq!(bob.hears(&room).await, ["psst", "yes?"]);
    assert_eq!(alice.sees(&room).await["me"]["unread_count"], 1);
    alice.put(&format!("/v1/rooms/{room}/read"), json!({"event_id": marked})).await.ok();
    assert_eq!(alice.sees(&room).await["me"]["unread_count"], 0);
    alice.put(&format!("/v1/rooms/{room}/topic"), json!({"topic": "quiet"})).await.ok();
    assert_eq!(bob.members(&room, "join").await, [alice.id.clone(), bob.id.clone()]);
    let sent = json!({"body": "once", "txn_id": "t"});
    let path = format!("/v1/rooms/{room}/messages");
    let (first, again) = (bob.post(&path, sent.clone()).await.created(), bob.post(&path, sent).await.created());
    assert_eq!(first, again);
}

#[tokio::test]
async fn history_is_open_from_the_join_on() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.creates(json!({"room_type": "incognito"})).await;
    alice.says(&room, "before").await;
    alice.brings_in(&room, &bob).await;
    alice.says(&room, "after").await;
    assert_eq!(bob.hears(&room).await, ["after"]);
}

#[tokio::test]
async fn its_create_event_forbids_federation() {
    let server = server().await;
    let alice = server.account("alice").await;
    for version in super::VERSIONS {
        let room = alice.creates(json!({"room_type": "incognito", "room_version": version.name})).await;
        assert_eq!(alice.state(&room, "m.room.create").await["m.federate"], false);
    }
}

#[tokio::test]
async fn members_find_it_among_their_rooms_and_nobody_in_the_directory() {
    let server = server().await;
    let (alice, bob, room) = whispers(&server).await;
    for caller in [&alice, &bob] {
        assert_eq!(caller.room_ids("/v1/rooms").await, [room.as_str()]);
        assert_eq!(caller.room_ids("/v1/directory/rooms").await, super::NONE);
        assert_eq!(caller.room_ids("/v1/directory/rooms?room_type=incognito").await, super::NONE);
        assert_eq!(caller.room_ids("/v1/rooms/archived").await, super::NONE);
    }
}

#[tokio::test]
async fn what_would_leave_a_trace_is_refused() {
    let server = server().await;
    let (alice, _bob, room) = whispers(&server).await;
    let workspace = alice.get("/v1/me").await.ok()["personal_workspace_id"].clone();
    let foreign = "@eve:elsewhere.example";
    alice.post_nothing(&format!("/v1/rooms/{room}/archive")).await.type_invariant();
    alice.put(&format!("/v1/rooms/{room}/workspace"), json!({"workspace_id": workspace})).await.type_invariant();
    alice.post(&format!("/v1/rooms/{room}/invite"), json!({"participant_id": foreign})).await.type_invariant();
    for more in
        [json!({"workspace_id": workspace}), json!({"invite": [foreign]}), json!({"avatar_url": "mxc://yurt.test/abc"})]
    {
        let mut body = json!({"room_type": "incognito"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        alice.post("/v1/rooms", body).await.type_invariant();
    }
}

#[tokio::test]
async fn an_event_with_a_medium_is_refused() {
    let server = server().await;
    let (alice, _bob, room) = whispers(&server).await;
    let contents = [
        json!({"msgtype": "m.image", "body": "a.png", "url": "mxc://yurt.test/abc"}),
        json!({"msgtype": "m.image", "body": "a.png", "file": {"url": "mxc://yurt.test/abc"}}),
        json!({"msgtype": "m.text", "body": "a", "formatted_body": "<img src=\"mxc://yurt.test/abc\">"}),
        json!({"msgtype": "m.text", "body": "a", "deep": [{"list": ["mxc://yurt.test/abc"]}]}),
    ];
    for content in contents {
        let body = json!({"type": "m.room.message", "content": content});
        alice.post(&format!("/v1/rooms/{room}/messages"), body).await.type_invariant();
        alice.put(&format!("/v1/rooms/{room}/state/com.example.any"), content).await.type_invariant();
    }
    alice
        .put(&format!("/v1/rooms/{room}/state/m.room.avatar"), json!({"url": "mxc://yurt.test/abc"}))
        .await
        .type_invariant();
}

#[tokio::test]
async fn it_ends_when_it_is_closed() {
    let server = server().await;
    let (alice, bob, room) = whispers(&server).await;
    alice.post_nothing(&format!("/v1/rooms/{room}/close")).await.expect_status(200);
    check_gone(&[&alice, &bob], &room).await;
}

#[tokio::test]
async fn it_ends_when_its_creator_leaves() {
    let server = server().await;
    let (alice, bob, room) = whispers(&server).await;
    alice.leaves(&room).await.ok();
    check_gone(&[&alice, &bob], &room).await;
}

#[tokio::test]
async fn who_sees_its_past_cannot_be_changed() {
    let server = server().await;
    let (alice, _, room) = whispers(&server).await;
    let path = format!("/v1/rooms/{room}/state/m.room.history_visibility");
    alice.put(&path, json!({"history_visibility": "world_readable"})).await.type_invariant();
}

#[tokio::test]
async fn it_goes_on_when_somebody_else_leaves() {
    let server = server().await;
    let (alice, bob, room) = whispers(&server).await;
    bob.leaves(&room).await.ok();
    alice.says(&room, "alone").await;
}

#[tokio::test]
async fn it_ends_when_the_server_stops_and_leaves_no_byte_behind() {
    let mut server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let body = json!({"room_type": "incognito", "name": "Whisper-Name-7f3a", "topic": "Whisper-Topic-7f3a", "invite": ["bob"]});
    let created = alice.keyed("whisper-key-7f3a", "POST", "/v1/rooms", body).await.created();
    let room = text(&created["id"]);
    bob.joins(&room).await.ok();
    let event = alice.says(&room, "Whisper-Body-7f3a").await;
    bob.post(&format!("/v1/rooms/{room}/messages"), json!({"body": "x", "txn_id": "whisper-txn-7f3a"})).await.created();
    bob.put(&format!("/v1/rooms/{room}/read"), json!({"event_id": event})).await.ok();
    bob.put(&format!("/v1/rooms/{room}/mute"), json!({"duration_ms": -1})).await.ok();
    let alias = text(&created["room_alias"]);
    let by_alias = format!("/v1/rooms/{}/messages", encoded(&alias));
    let second = alice.keyed("whisper-key-2", "POST", &by_alias, json!({"body": "Whisper-Body-7f3a"})).await.created();
    let second = text(&second["event_id"]);
    let ended = alice.post("/v1/rooms", json!({"room_type": "incognito"})).await.created();
    let ended = text(&ended["id"]);
    alice.leaves(&ended).await.ok();
    let late = format!("/v1/rooms/{ended}/messages");
    alice.keyed("whisper-key-3", "POST", &late, json!({"body": "x"})).await.no_such_room();
    let group = alice.group("Lasting-Name-7f3a").await;
    server.stop().await;
    let written = server.written();
    let holds = |needle: &str| {
        written.iter().any(|(_, bytes)| bytes.windows(needle.len()).any(|window| window == needle.as_bytes()))
    };
    assert!(holds("Lasting-Name-7f3a"), "what is lasting is found, so the search works");
    for needle in [
        "Whisper-Name-7f3a",
        "Whisper-Topic-7f3a",
        "Whisper-Body-7f3a",
        "whisper-txn-7f3a",
        &room[1..],
        &event[1..],
        &second[1..],
        &ended[1..],
        &alias,
    ] {
        assert!(!holds(needle), "`{needle}` was written to disk");
    }
    server.restart_stopped().await;
    check_gone(&[&alice, &bob], &room).await;
    alice.sees(&group).await;
}

/// Nobody finds the room any more, and its id answers like one that never was.
async fn check_gone(callers: &[&Caller], room: &str) {
    for caller in callers {
        let answer = caller.get(&format!("/v1/rooms/{room}")).await;
        let missing = caller.get(&format!("/v1/rooms/{MISSING_ROOM}")).await;
        assert_eq!(answer.body, missing.body);
        answer.no_such_room();
        caller.tries_to_say(room, "anybody?").await.no_such_room();
        assert!(!caller.room_ids("/v1/rooms").await.iter().any(|id| id == room));
    }
}

/// An incognito room of Alice's with Bob.
async fn whispers(server: &TestServer) -> (Caller, Caller, String) {
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.creates(json!({"room_type": "incognito"})).await;
    alice.brings_in(&room, &bob).await;
    (alice, bob, room)
}

//! Silence: a moderator keeps a member from speaking.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Answer, Caller, TestServer, server, text};

fn path(room: &str, who: &Caller) -> String {
    format!("/v1/rooms/{room}/members/{}/silence", who.id)
}

async fn silences(caller: &Caller, room: &str, who: &Caller, body: Value) -> Answer {
    caller.put(&path(room, who), body).await
}

async fn lifts(caller: &Caller, room: &str, who: &Caller) -> Answer {
    caller.delete(&path(room, who)).await
}

/// Until when somebody is silenced, as others see it.
async fn silenced_until(caller: &Caller, room: &str, who: &Caller) -> Value {
    let members = caller.get(&format!("/v1/rooms/{room}/members?limit=200")).await.list();
    let member = members.iter().find(|member| member["participant_id"] == json!(who.id)).expect("a member");
    member["silenced_until"].clone()
}

async fn scene(server: &TestServer) -> (Caller, Caller, String) {
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    (alice, bob, room)
}

#[tokio::test]
async fn the_silenced_cannot_speak_until_it_ends_by_itself() {
    let mut server = server().await;
    let (alice, bob, room) = scene(&server).await;
    let end = server.time(60_000);
    let silenced = silences(&alice, &room, &bob, json!({"duration_ms": 60_000})).await.ok();
    assert_eq!(silenced, json!({"until": end, "enforced": true}));
    assert_eq!(silenced_until(&alice, &room, &bob).await, json!(end));
    assert_eq!(silenced_until(&bob, &room, &alice).await, json!(null));
    server.advance(Duration::from_millis(59_999));
    server.restart().await;
    bob.tries_to_say(&room, "hello").await.forbidden_for("silenced");
    let reaction = json!({"type": "m.reaction", "content": {}});
    bob.post(&format!("/v1/rooms/{room}/messages"), reaction).await.forbidden_for("silenced");
    let said = bob.get(&format!("/v1/rooms/{room}/permissions")).await.ok();
    assert_eq!((&said["send"]["allowed"], &said["send"]["reason"]), (&json!(false), &json!("silenced")));
    assert_eq!(said["leave"]["allowed"], true);
    let events = alice.timeline(&room).await.len();
    server.advance(Duration::from_millis(1));
    bob.says(&room, "at last").await;
    assert_eq!(silenced_until(&alice, &room, &bob).await, json!(null));
    assert_eq!(alice.timeline(&room).await.len(), events + 1, "nothing is sent when it ends");
}

#[tokio::test]
async fn a_silence_without_end_is_lifted() {
    let server = server().await;
    let (alice, bob, room) = scene(&server).await;
    for body in [json!({}), json!({"duration_ms": -1}), json!({"duration_ms": null})] {
        let silenced = silences(&alice, &room, &bob, body).await.ok();
        assert_eq!(silenced, json!({"until": null, "enforced": true}));
        server.advance(Duration::from_hours(24 * 365));
        bob.tries_to_say(&room, "hello").await.forbidden_for("silenced");
        assert!(silenced_until(&alice, &room, &bob).await.is_string());
        assert_eq!(lifts(&alice, &room, &bob).await.ok()["id"], json!(room));
        bob.says(&room, "hello").await;
    }
    let events = alice.timeline(&room).await.len();
    lifts(&alice, &room, &bob).await.ok();
    assert_eq!(alice.timeline(&room).await.len(), events, "who may speak is not let speak again");
}

#[tokio::test]
async fn a_body_is_not_needed() {
    let server = server().await;
    let (alice, bob, room) = scene(&server).await;
    assert_eq!(alice.send("PUT", &path(&room, &bob), None).await.ok()["until"], json!(null));
    bob.tries_to_say(&room, "hello").await.forbidden_for("silenced");
}

#[tokio::test]
async fn the_state_says_it_under_the_id_without_the_sign() {
    let server = server().await;
    let (alice, bob, room) = scene(&server).await;
    silences(&alice, &room, &bob, json!({"duration_ms": 5})).await.ok();
    let state = format!("/v1/rooms/{room}/state/io.yurt.silence/bob:yurt.test");
    assert_eq!(alice.get(&state).await.ok()["content"], json!({"until": 1_767_225_600_005_u64}));
    silences(&alice, &room, &bob, json!({})).await.ok();
    assert_eq!(alice.get(&state).await.ok()["content"], json!({"until": null}));
    lifts(&alice, &room, &bob).await.ok();
    assert_eq!(alice.get(&state).await.ok()["content"], json!({}));
}

#[tokio::test]
async fn a_moderator_silences_those_below_and_nobody_else() {
    let server = server().await;
    let (alice, bob, room) = scene(&server).await;
    let carol = server.account("carol").await;
    alice.brings_in(&room, &carol).await;
    silences(&bob, &room, &carol, json!({})).await.forbidden_for("level");
    alice.gives_level(&room, &bob, 50).await.ok();
    silences(&bob, &room, &carol, json!({})).await.ok();
    carol.tries_to_say(&room, "hello").await.forbidden_for("silenced");
    lifts(&carol, &room, &carol).await.forbidden_for("level");
    alice.gives_level(&room, &carol, 50).await.ok();
    for target in [&carol, &bob] {
        silences(&bob, &room, target, json!({})).await.forbidden_for("level");
        lifts(&bob, &room, target).await.forbidden_for("level");
    }
    silences(&bob, &room, &alice, json!({})).await.forbidden_for("creator");
    silences(&alice, &room, &alice, json!({})).await.forbidden_for("creator");
    lifts(&alice, &room, &carol).await.ok();
    carol.says(&room, "hello").await;
}

#[tokio::test]
async fn leaving_and_coming_back_ends_no_silence() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.public("Open").await;
    bob.joins(&room).await.ok();
    silences(&alice, &room, &bob, json!({})).await.ok();
    bob.leaves(&room).await.ok();
    bob.joins(&room).await.ok();
    bob.tries_to_say(&room, "hello").await.forbidden_for("silenced");
}

#[tokio::test]
async fn a_redacted_silence_holds_nobody() {
    let server = server().await;
    let (alice, bob, room) = scene(&server).await;
    silences(&alice, &room, &bob, json!({})).await.ok();
    let event = alice.timeline(&room).await.pop().expect("an event");
    alice.post_nothing(&format!("/v1/rooms/{room}/events/{}/redact", text(&event["event_id"]))).await.created();
    bob.says(&room, "hello").await;
}

#[tokio::test]
async fn where_nobody_can_be_silenced_and_who_is_none() {
    let server = server().await;
    let (alice, bob, room) = scene(&server).await;
    let carol = server.account("carol").await;
    let direct = alice.direct(&bob).await;
    silences(&alice, &direct, &bob, json!({})).await.type_invariant();
    silences(&alice, &room, &carol, json!({})).await.refused(404, "SW_PARTICIPANT_NOT_FOUND");
    lifts(&alice, &room, &carol).await.refused(404, "SW_PARTICIPANT_NOT_FOUND");
    silences(&carol, &room, &bob, json!({})).await.no_such_room();
    for duration in [json!(0), json!(-2), json!(1.5), json!("5"), json!(9_007_199_254_740_991_u64)] {
        silences(&alice, &room, &bob, json!({"duration_ms": duration})).await.invalid("duration_ms");
    }
    alice.put(&format!("/v1/rooms/{room}/state/io.yurt.silence/bob:yurt.test"), json!({})).await.type_invariant();
    alice.post_nothing(&format!("/v1/rooms/{room}/archive")).await.ok();
    silences(&alice, &room, &bob, json!({})).await.frozen();
}

#[tokio::test]
async fn an_incognito_room_can_silence_too() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.creates(json!({"room_type": "incognito"})).await;
    alice.brings_in(&room, &bob).await;
    silences(&alice, &room, &bob, json!({})).await.ok();
    bob.tries_to_say(&room, "hello").await.forbidden_for("silenced");
}

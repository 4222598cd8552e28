//! The announcement of a room.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Answer, Caller, server, text};

async fn announces(caller: &Caller, room: &str, text: &str) -> Answer {
    caller.put(&format!("/v1/rooms/{room}/announcement"), json!({"announcement": text})).await
}

async fn reads(caller: &Caller, room: &str) -> Answer {
    caller.get(&format!("/v1/rooms/{room}/announcement")).await
}

fn nothing() -> Value {
    json!({"announcement": null, "updated_at": null, "updated_by": null})
}

#[tokio::test]
async fn members_read_what_was_announced_by_whom_and_when() {
    let mut server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    assert_eq!(reads(&bob, &room).await.ok(), nothing());
    assert_eq!(announces(&alice, &room, "Market on Saturday").await.ok()["id"], json!(room));
    let expected = json!({"announcement": "Market on Saturday", "updated_at": server.time(0), "updated_by": alice.id});
    assert_eq!(reads(&bob, &room).await.ok(), expected);
    server.advance(Duration::from_secs(5));
    server.restart().await;
    let events = alice.timeline(&room).await.len();
    announces(&alice, &room, "Market on Saturday").await.ok();
    assert_eq!(reads(&bob, &room).await.ok(), expected, "the same again changes nothing");
    assert_eq!(alice.timeline(&room).await.len(), events);
}

#[tokio::test]
async fn an_empty_or_redacted_announcement_is_none() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    announces(&alice, &room, "Market").await.ok();
    announces(&alice, &room, "").await.ok();
    assert_eq!(reads(&alice, &room).await.ok(), nothing());
    announces(&alice, &room, "Market").await.ok();
    let event = text(&alice.get(&format!("/v1/rooms/{room}/state/io.yurt.announcement")).await.ok()["event_id"]);
    alice.post_nothing(&format!("/v1/rooms/{room}/events/{event}/redact")).await.created();
    assert_eq!(reads(&alice, &room).await.ok(), nothing());
    announces(&alice, &room, "Market").await.ok();
    assert_eq!(reads(&alice, &room).await.ok()["announcement"], "Market");
}

#[tokio::test]
async fn an_announcement_has_at_most_512_characters_and_needs_its_level() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    announces(&alice, &room, &"毡".repeat(512)).await.ok();
    announces(&alice, &room, &"毡".repeat(513)).await.invalid("announcement");
    for body in [json!({}), json!({"announcement": null}), json!({"announcement": 1})] {
        alice.put(&format!("/v1/rooms/{room}/announcement"), body).await.invalid("announcement");
    }
    announces(&bob, &room, "Mine").await.forbidden_for("level");
    alice.gives_level(&room, &bob, 50).await.ok();
    announces(&bob, &room, "Mine").await.ok();
    alice.put(&format!("/v1/rooms/{room}/power-levels"), json!({"events": {"io.yurt.announcement": 0}})).await.ok();
    alice.gives_level(&room, &bob, 0).await.ok();
    announces(&bob, &room, "Everybody's").await.ok();
}

#[tokio::test]
async fn only_members_read_it_and_a_frozen_room_takes_none() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let (open, hidden) = (alice.public("Open").await, alice.group("Hidden").await);
    announces(&alice, &open, "Market").await.ok();
    reads(&bob, &open).await.forbidden_for("membership");
    announces(&bob, &open, "Mine").await.forbidden_for("membership");
    reads(&bob, &hidden).await.no_such_room();
    announces(&bob, &hidden, "Mine").await.no_such_room();
    alice.post_nothing(&format!("/v1/rooms/{open}/archive")).await.ok();
    announces(&alice, &open, "Later").await.frozen();
    assert_eq!(reads(&alice, &open).await.ok()["announcement"], "Market");
}

#[tokio::test]
async fn an_incognito_room_announces_no_medium() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.creates(json!({"room_type": "incognito"})).await;
    announces(&alice, &room, "see mxc://yurt.test/abc").await.type_invariant();
    announces(&alice, &room, "whisper").await.ok();
    assert_eq!(reads(&alice, &room).await.ok()["announcement"], "whisper");
}

//! Pins: which rooms somebody wants at hand.

use serde_json::json;

use super::MISSING_ROOM;
use crate::client::{Answer, Caller, server};

async fn pins(caller: &Caller, room: &str) -> Answer {
    caller.send("PUT", &format!("/v1/rooms/{room}/pin"), None).await
}

async fn unpins(caller: &Caller, room: &str) -> Answer {
    caller.delete(&format!("/v1/rooms/{room}/pin")).await
}

async fn has_pinned(caller: &Caller, room: &str) -> bool {
    caller.sees(room).await["me"]["pinned"] == json!(true)
}

#[tokio::test]
async fn a_pin_is_the_callers_own_and_outlives_a_restart() {
    let mut server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    assert_eq!(pins(&alice, &room).await.ok()["me"]["pinned"], true);
    assert_eq!(pins(&alice, &room).await.ok()["me"]["pinned"], true, "pinning twice changes nothing");
    assert!(!has_pinned(&bob, &room).await);
    server.restart().await;
    assert!(has_pinned(&alice, &room).await);
    assert_eq!(unpins(&alice, &room).await.ok()["me"]["pinned"], false);
    assert_eq!(unpins(&alice, &room).await.ok()["me"]["pinned"], false);
    assert!(!has_pinned(&alice, &room).await);
}

#[tokio::test]
async fn a_pin_leaves_the_other_settings_and_the_order_of_the_list_alone() {
    let server = server().await;
    let alice = server.account("alice").await;
    let (first, second) = (alice.group("One").await, alice.group("Two").await);
    server.advance(std::time::Duration::from_secs(1));
    alice.says(&second, "news").await;
    alice.put(&format!("/v1/rooms/{first}/notification-mode"), json!({"mode": "all"})).await.ok();
    let pinned = pins(&alice, &first).await.ok();
    assert_eq!((&pinned["me"]["notification_mode"], &pinned["me"]["pinned"]), (&json!("all"), &json!(true)));
    assert_eq!(alice.room_ids("/v1/rooms").await, [second, first]);
}

#[tokio::test]
async fn the_invited_may_pin_and_so_may_members_of_a_frozen_room() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group("Tents").await;
    alice.does("invite", &room, &bob).await.ok();
    pins(&bob, &room).await.ok();
    alice.post_nothing(&format!("/v1/rooms/{room}/close")).await.ok();
    pins(&alice, &room).await.ok();
    assert!(has_pinned(&alice, &room).await && has_pinned(&bob, &room).await);
}

#[tokio::test]
async fn who_is_not_in_a_room_cannot_pin_it() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let (open, hidden) = (alice.public("Open").await, alice.group("Hidden").await);
    pins(&bob, &open).await.forbidden_for("membership");
    let missing = pins(&bob, MISSING_ROOM).await;
    let answer = pins(&bob, &hidden).await;
    assert_eq!(answer.body, missing.body);
    answer.no_such_room();
}

#[tokio::test]
async fn an_incognito_room_can_be_pinned() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.creates(json!({"room_type": "incognito"})).await;
    pins(&alice, &room).await.ok();
    assert!(has_pinned(&alice, &room).await);
}

//! Every mutating call is safe to retry: `txn_id` for messages, `Idempotency-Key` for the others.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use crate::client::{Caller, server, text};

async fn sends(caller: &Caller, room: &str, txn_id: &str) -> Value {
    caller.post(&format!("/v1/rooms/{room}/messages"), json!({"body": "once", "txn_id": txn_id})).await.created()
}

#[tokio::test]
async fn a_retried_message_is_one_event_before_and_after_a_restart() {
    let mut server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let first = sends(&alice, &room, "t").await;
    assert_eq!(sends(&alice, &room, "t").await, first);
    bob.says(&room, "between").await;
    server.restart().await;
    assert_eq!(sends(&alice, &room, "t").await, first);
    assert_eq!(bob.hears(&room).await, ["once", "between"]);
    assert_eq!(bob.sees(&room).await["me"]["unread_count"], 1);
}

#[tokio::test]
async fn a_transaction_id_is_the_callers_in_the_room() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let (room, other) = (alice.group_with("Tents", &[&bob]).await, alice.group("Yurts").await);
    let mut events = BTreeSet::new();
    for (caller, room, txn_id) in
        [(&alice, &room, "t"), (&bob, &room, "t"), (&alice, &other, "t"), (&alice, &room, "u")]
    {
        events.insert(text(&sends(caller, room, txn_id).await["event_id"]));
    }
    assert_eq!(events.len(), 4);
    assert_eq!(bob.hears(&room).await.len(), 3);
}

#[tokio::test]
async fn a_transaction_id_holds_over_another_log_in() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let first = sends(&alice, &room, "t").await;
    let body = json!({"username": "alice", "password": crate::client::PASSWORD});
    let session = server.nameless().post("/v1/auth/login", body).await.ok();
    assert_eq!(sends(&server.caller(&session), &room, "t").await, first);
}

#[tokio::test]
async fn a_retried_creation_is_one_room_and_answers_the_same_bytes() {
    let mut server = server().await;
    let alice = server.account("alice").await;
    let body = json!({"room_type": "group", "name": "Tents"});
    let first = alice.keyed("k", "POST", "/v1/rooms", body.clone()).await.expect_status(201);
    alice.put(&format!("/v1/rooms/{}/name", text(&first.json()["data"]["id"])), json!({"name": "Yurts"})).await.ok();
    let again = alice.keyed("k", "POST", "/v1/rooms", body.clone()).await.expect_status(201);
    assert_eq!(again.body, first.body);
    server.restart().await;
    let later = alice.keyed("k", "POST", "/v1/rooms", body).await.expect_status(201);
    assert_eq!(later.body, first.body);
    assert_eq!(alice.get("/v1/rooms").await.meta()["total"], 1);
}

#[tokio::test]
async fn a_key_used_with_another_body_is_refused() {
    let server = server().await;
    let alice = server.account("alice").await;
    alice.keyed("k", "POST", "/v1/rooms", json!({"room_type": "group", "name": "Tents"})).await.created();
    let other = alice.keyed("k", "POST", "/v1/rooms", json!({"room_type": "group", "name": "Yurts"})).await;
    other.refused(409, "SW_IDEMPOTENCY_MISMATCH");
    assert_eq!(alice.get("/v1/rooms").await.meta()["total"], 1);
}

#[tokio::test]
async fn a_key_is_the_callers_for_the_method_and_path() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let body = json!({"room_type": "group", "name": "Tents"});
    let own = text(&alice.keyed("k", "POST", "/v1/rooms", body.clone()).await.created()["id"]);
    let his = text(&bob.keyed("k", "POST", "/v1/rooms", body).await.created()["id"]);
    assert_ne!(own, his);
    alice.keyed("k", "PUT", &format!("/v1/rooms/{own}/name"), json!({"name": "Yurts"})).await.ok();
    alice.keyed("k", "PUT", &format!("/v1/rooms/{own}/topic"), json!({"topic": "Felt"})).await.ok();
    alice.keyed("k", "POST", "/v1/workspaces", json!({"name": "Felt"})).await.created();
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day() {
    let server = server().await;
    let alice = server.account("alice").await;
    let body = json!({"room_type": "group", "name": "Tents"});
    let first = alice.keyed("k", "POST", "/v1/rooms", body.clone()).await.created();
    server.advance(Duration::from_secs(24 * 3_600 - 1));
    assert_eq!(alice.keyed("k", "POST", "/v1/rooms", body.clone()).await.created()["id"], first["id"]);
    server.advance(Duration::from_secs(2));
    assert_ne!(alice.keyed("k", "POST", "/v1/rooms", body).await.created()["id"], first["id"]);
}

#[tokio::test]
async fn a_retried_action_is_done_once_whatever_happened_since() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.public("Open").await;
    bob.joins(&room).await.ok();
    let kick = json!({"participant_id": "bob"});
    let path = format!("/v1/rooms/{room}/kick");
    let first = alice.keyed("k", "POST", &path, kick.clone()).await.expect_status(200);
    bob.joins(&room).await.ok();
    let again = alice.keyed("k", "POST", &path, kick).await.expect_status(200);
    assert_eq!(again.body, first.body);
    assert_eq!(bob.sees(&room).await["me"]["membership"], "join", "the retry removes nobody again");
}

#[tokio::test]
async fn a_key_works_on_every_kind_of_call() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let event = alice.says(&room, "hello").await;
    let calls = [
        ("POST", "/v1/rooms/dm".to_owned(), json!({"participant_id": "bob"})),
        ("POST", "/v1/workspaces".to_owned(), json!({"name": "Felt"})),
        ("POST", format!("/v1/rooms/{room}/messages"), json!({"body": "keyed"})),
        ("POST", format!("/v1/rooms/{room}/events/{event}/redact"), json!({})),
        ("PUT", format!("/v1/rooms/{room}/state/com.example.any"), json!({"n": 1})),
        ("PUT", format!("/v1/rooms/{room}/name"), json!({"name": "Yurts"})),
        ("PUT", format!("/v1/rooms/{room}/power-levels"), json!({"invite": 10})),
        ("PUT", format!("/v1/rooms/{room}/read"), json!({"event_id": event})),
        ("PUT", format!("/v1/rooms/{room}/mute"), json!({"duration_ms": 1_000})),
        ("POST", format!("/v1/rooms/{room}/archive"), json!({})),
    ];
    for (method, path, body) in calls {
        let first = alice.keyed("k", method, &path, body.clone()).await;
        assert!(first.status < 300, "{method} {path}");
        let before = alice.timeline(&room).await.len();
        let again = alice.keyed("k", method, &path, body).await;
        assert_eq!((again.status, again.body), (first.status, first.body), "{method} {path}");
        assert_eq!(alice.timeline(&room).await.len(), before, "{method} {path}");
    }
}

#[tokio::test]
async fn a_key_for_an_incognito_room_holds_while_the_server_runs() {
    let server = server().await;
    let alice = server.account("alice").await;
    let body = json!({"room_type": "incognito"});
    let first = alice.keyed("k", "POST", "/v1/rooms", body.clone()).await.created();
    assert_eq!(alice.keyed("k", "POST", "/v1/rooms", body).await.created(), first);
    let path = format!("/v1/rooms/{}/messages", text(&first["id"]));
    let sent = alice.keyed("k", "POST", &path, json!({"body": "psst"})).await.created();
    assert_eq!(alice.keyed("k", "POST", &path, json!({"body": "psst"})).await.created(), sent);
}

#[tokio::test]
async fn an_administrators_retried_account_is_one_account() {
    let server = server().await;
    let admin = server.admin("root").await;
    let body = json!({"username": "bob", "password": crate::client::PASSWORD});
    let first = admin.keyed("k", "POST", "/v1/admin/participants", body.clone()).await.created();
    assert_eq!(admin.keyed("k", "POST", "/v1/admin/participants", body).await.created(), first);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let server = server().await;
    let alice = server.account("alice").await;
    let body = json!({"room_type": "group", "name": "Tents"});
    let long = "k".repeat(256);
    for key in ["", long.as_str()] {
        alice.keyed(key, "POST", "/v1/rooms", body.clone()).await.invalid("Idempotency-Key");
    }
    alice.keyed(&long[1..], "POST", "/v1/rooms", body).await.created();
}

#[tokio::test]
async fn a_call_that_came_in_the_wrong_type_is_done_when_it_comes_in_the_right_one() {
    let server = server().await;
    let alice = server.account("alice").await;
    let body = json!({"room_type": "group", "name": "Tents"});
    let plain = alice.with_header("content-type", "text/plain");
    plain.keyed("k", "POST", "/v1/rooms", body.clone()).await.expect_status(415);
    alice.keyed("k", "POST", "/v1/rooms", body).await.expect_status(201);
}

//! What schemathesis and the fuzzer found: requests outside of the contract that were taken, or taken otherwise than meant.

use serde_json::json;

use crate::client::server;

#[tokio::test]
async fn an_offset_beyond_what_json_holds_exactly_is_refused() {
    let server = server().await;
    let alice = server.account("alice").await;
    for list in ["/v1/rooms", "/v1/rooms/archived", "/v1/workspaces", "/v1/directory/rooms"] {
        alice.get(&format!("{list}?offset=9007199254740991")).await.ok();
        for offset in ["9007199254740992", "9223372036854775808", "-1"] {
            alice.get(&format!("{list}?offset={offset}")).await.invalid("offset");
        }
    }
}

#[tokio::test]
async fn via_holds_names_of_servers_and_few_of_them() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.public("Market").await;
    let path = format!("/v1/rooms/{room}/join");
    let too_many = vec!["a.example"; 17];
    for via in [json!(["x".repeat(231)]), json!(["not a name"]), json!([""]), json!(too_many), json!("a.example")] {
        bob.post(&path, json!({"via": via})).await.invalid("via");
    }
    bob.post(&path, json!({"via": ["a.example", "[::1]:8448"]})).await.ok();
}

#[tokio::test]
async fn a_mute_names_one_end_even_where_one_is_null() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    for body in [
        json!({"muted_until": null, "duration_ms": 5}),
        json!({"muted_until": server.time(5_000), "duration_ms": null}),
        json!({"muted_until": null, "duration_ms": null}),
    ] {
        alice.put(&format!("/v1/rooms/{room}/mute"), body).await.invalid("duration_ms");
    }
}

#[tokio::test]
async fn an_event_with_content_of_its_own_takes_no_reply_to() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let event = alice.says(&room, "hello").await;
    let body = json!({"type": "com.example.any", "content": {}, "reply_to": event});
    alice.post(&format!("/v1/rooms/{room}/messages"), body).await.invalid("reply_to");
}

#[tokio::test]
async fn a_reason_too_long_is_refused_where_nothing_is_left_to_do_too() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group("Tents").await;
    let reason = "x".repeat(1_025);
    for act in ["invite", "kick", "ban"] {
        let target = if act == "invite" { &alice.id } else { &bob.id };
        let body = json!({"participant_id": target, "reason": reason});
        alice.post(&format!("/v1/rooms/{room}/{act}"), body).await.invalid("reason");
    }
    alice.post_nothing(&format!("/v1/rooms/{room}/archive")).await.ok();
    alice.post(&format!("/v1/rooms/{room}/archive"), json!({"reason": reason})).await.invalid("reason");
}

#[tokio::test]
async fn undoing_a_ban_takes_no_reason() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group("Tents").await;
    alice.does("ban", &room, &bob).await.ok();
    let body = json!({"participant_id": bob.id, "reason": "enough"});
    alice.post(&format!("/v1/rooms/{room}/unban"), body).await.invalid("reason");
    alice.does("unban", &room, &bob).await.ok();
}

#[tokio::test]
async fn a_text_to_look_for_has_an_end() {
    let server = server().await;
    let admin = server.admin("root").await;
    for list in ["/v1/directory/rooms", "/v1/admin/participants", "/v1/admin/rooms"] {
        admin.get(&format!("{list}?q={}", "x".repeat(255))).await.ok();
        admin.get(&format!("{list}?q={}", "x".repeat(256))).await.invalid("q");
    }
}

#[tokio::test]
async fn a_key_of_a_preview_does_not_answer_for_the_deed() {
    let server = server().await;
    let admin = server.admin("root").await.with_header("Idempotency-Key", "one");
    let room = admin.group("Tents").await;
    let path = format!("/v1/admin/rooms/{room}");
    admin.delete(&format!("{path}?dry_run=true")).await.ok();
    admin.delete(&path).await.refused(409, "SW_IDEMPOTENCY_MISMATCH");
}

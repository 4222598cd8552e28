//! What is everybody's own in a room: read marker, unread counts, notification mode, mute.

use std::time::Duration;

use serde_json::{Value, json};

use super::MISSING_EVENT;
use crate::client::{Caller, TestServer, server, text};

/// Alice and Bob in a room of Alice's.
async fn pair(server: &TestServer) -> (Caller, Caller, String) {
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    (alice, bob, room)
}

/// (unread_count, notify_count) as somebody sees them.
async fn counts(caller: &Caller, room: &str) -> (u64, u64) {
    let me = caller.sees(room).await["me"].clone();
    (me["unread_count"].as_u64().expect("a count"), me["notify_count"].as_u64().expect("a count"))
}

async fn reads(caller: &Caller, room: &str, event: &str) -> Value {
    caller.put(&format!("/v1/rooms/{room}/read"), json!({"event_id": event})).await.ok()
}

async fn sets_mode(caller: &Caller, room: &str, mode: &str) -> Value {
    caller.put(&format!("/v1/rooms/{room}/notification-mode"), json!({"mode": mode})).await.ok()
}

async fn mutes(caller: &Caller, room: &str, body: Value) -> Value {
    caller.put(&format!("/v1/rooms/{room}/mute"), body).await.ok()["me"]["muted_until"].clone()
}

#[tokio::test]
async fn unread_are_the_messages_of_others_since_the_join() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group("Tents").await;
    alice.says(&room, "before the join").await;
    alice.brings_in(&room, &bob).await;
    assert_eq!(counts(&bob, &room).await.0, 0);
    alice.says(&room, "one").await;
    bob.says(&room, "own").await;
    alice.says(&room, "two").await;
    assert_eq!(counts(&bob, &room).await.0, 2);
    assert_eq!(counts(&alice, &room).await.0, 1);
}

#[tokio::test]
async fn only_messages_are_unread_be_they_encrypted_or_redacted() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let path = format!("/v1/rooms/{room}/messages");
    alice.put(&format!("/v1/rooms/{room}/topic"), json!({"topic": "Felt"})).await.ok();
    alice.post(&path, json!({"type": "com.example.any", "content": {}})).await.created();
    alice.post(&path, json!({"type": "m.reaction", "content": {}})).await.created();
    assert_eq!(counts(&bob, &room).await.0, 0);
    let sealed = json!({"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AwgA"});
    alice.post(&path, json!({"type": "m.room.encrypted", "content": sealed})).await.created();
    let mistake = alice.says(&room, "mistake").await;
    assert_eq!(counts(&bob, &room).await.0, 2);
    alice.post_nothing(&format!("/v1/rooms/{room}/events/{mistake}/redact")).await.created();
    assert_eq!(counts(&bob, &room).await.0, 2);
}

#[tokio::test]
async fn the_read_marker_only_ever_advances() {
    let mut server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let mut events = Vec::new();
    for number in 0..4 {
        events.push(alice.says(&room, &format!("message {number}")).await);
    }
    let seen = reads(&bob, &room, &events[1]).await;
    assert_eq!((&seen["me"]["read_event_id"], &seen["me"]["unread_count"]), (&json!(events[1]), &json!(2)));
    for earlier in [&events[0], &events[1]] {
        assert_eq!(reads(&bob, &room, earlier).await["me"], seen["me"]);
    }
    server.restart().await;
    assert_eq!(bob.sees(&room).await["me"], seen["me"]);
    let all_read = reads(&bob, &room, &events[3]).await;
    assert_eq!((&all_read["me"]["read_event_id"], &all_read["me"]["unread_count"]), (&json!(events[3]), &json!(0)));
    alice.says(&room, "news").await;
    assert_eq!(counts(&bob, &room).await.0, 1);
    assert_eq!(alice.sees(&room).await["me"]["read_event_id"], json!(null), "the marker is the caller's own");
}

#[tokio::test]
async fn the_read_marker_may_stand_on_any_event_of_the_timeline() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    alice.says(&room, "one").await;
    alice.put(&format!("/v1/rooms/{room}/topic"), json!({"topic": "Felt"})).await.ok();
    let topic = text(&alice.timeline(&room).await.last().expect("an event")["event_id"]);
    alice.says(&room, "two").await;
    assert_eq!(reads(&bob, &room, &topic).await["me"]["unread_count"], 1);
}

#[tokio::test]
async fn a_marker_on_an_event_of_another_room_or_none_is_refused() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let other = alice.group("Elsewhere").await;
    let foreign = alice.says(&other, "hello").await;
    for event in [MISSING_EVENT, foreign.as_str(), "x", ""] {
        let body = json!({"event_id": event});
        bob.put(&format!("/v1/rooms/{room}/read"), body).await.refused(404, "SW_EVENT_NOT_FOUND");
    }
    for event in [json!(null), json!(1), json!([])] {
        bob.put(&format!("/v1/rooms/{room}/read"), json!({"event_id": event})).await.invalid("event_id");
    }
}

#[tokio::test]
async fn who_comes_back_counts_from_the_new_join() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.public("Open").await;
    bob.joins(&room).await.ok();
    alice.says(&room, "one").await;
    assert_eq!(counts(&bob, &room).await.0, 1);
    bob.leaves(&room).await.ok();
    alice.says(&room, "two").await;
    alice.says(&room, "three").await;
    let marked = bob.sees(&room).await["me"]["read_event_id"].clone();
    assert_eq!(marked, json!(null));
    bob.joins(&room).await.ok();
    assert_eq!(counts(&bob, &room).await.0, 0);
    alice.says(&room, "four").await;
    assert_eq!(counts(&bob, &room).await.0, 1);
}

#[tokio::test]
async fn the_notification_mode_decides_what_notifies_also_of_the_past() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    alice.says(&room, "to nobody").await;
    alice.says(&room, "@bob felt?").await;
    alice.says(&room, "again to nobody").await;
    for (mode, notified) in [("mentions", 1), ("all", 3), ("none", 0), ("inherit", 1), ("all", 3), ("mentions", 1)] {
        let seen = sets_mode(&bob, &room, mode).await;
        let answered = if mode == "inherit" { "mentions" } else { mode };
        assert_eq!(seen["me"]["notification_mode"], answered, "what holds is answered");
        assert_eq!(counts(&bob, &room).await, (3, notified), "{mode}");
    }
    assert_eq!(alice.sees(&room).await["me"]["notification_mode"], "mentions", "the mode is the caller's own");
    let after = text(
        &alice
            .timeline(&room)
            .await
            .iter()
            .find(|event| event["content"]["body"] == "@bob felt?")
            .expect("it was sent")["event_id"],
    );
    reads(&bob, &room, &after).await;
    assert_eq!(counts(&bob, &room).await, (1, 0), "a mention before the marker is read");
}

#[tokio::test]
async fn the_default_mode_is_mentions_and_in_a_direct_room_all() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    assert_eq!(bob.sees(&room).await["me"]["notification_mode"], "mentions");
    let direct = alice.direct(&bob).await;
    assert_eq!(bob.sees(&direct).await["me"]["notification_mode"], "all");
    alice.says(&direct, "to you").await;
    assert_eq!(counts(&bob, &direct).await, (1, 1));
    sets_mode(&bob, &direct, "inherit").await;
    assert_eq!(counts(&bob, &direct).await, (1, 1));
}

#[tokio::test]
async fn a_mention_is_an_entry_of_the_field_or_without_it_a_word_of_the_body() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let cases = [
        (json!({"body": "felt", "m.mentions": {"user_ids": ["@bob:yurt.test"]}}), 1),
        (json!({"body": "@bob felt", "m.mentions": {}}), 0),
        (json!({"body": "@bob felt", "m.mentions": {"user_ids": ["@alice:yurt.test"]}}), 0),
        (json!({"body": "@bob felt"}), 1),
        (json!({"body": "felt, @bob, wood"}), 1),
        (json!({"body": "@bob and @bob"}), 1),
        (json!({"body": "bob felt"}), 0),
        (json!({"body": "@bobby felt"}), 0),
        (json!({"body": "@carol felt"}), 0),
    ];
    for (content, notified) in cases {
        let mut message = content.clone();
        message["msgtype"] = json!("m.text");
        let sent = alice
            .post(&format!("/v1/rooms/{room}/messages"), json!({"type": "m.room.message", "content": message}))
            .await
            .created();
        assert_eq!(counts(&bob, &room).await, (1, notified), "{content}");
        reads(&bob, &room, &text(&sent["event_id"])).await;
    }
}

#[tokio::test]
async fn at_most_twenty_words_of_a_body_mention_somebody() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let many: String = (0..20).map(|number| format!("@nobody{number} ")).collect();
    alice.says(&room, &format!("{many} @bob")).await;
    assert_eq!(counts(&bob, &room).await, (1, 0));
    let fewer: String = (0..19).map(|number| format!("@nobody{number} ")).collect();
    alice.says(&room, &format!("{fewer} @bob")).await;
    assert_eq!(counts(&bob, &room).await, (2, 1));
}

#[tokio::test]
async fn ones_own_message_never_notifies_oneself() {
    let server = server().await;
    let (alice, _bob, room) = pair(&server).await;
    sets_mode(&alice, &room, "all").await;
    alice.says(&room, "@alice note to self").await;
    assert_eq!(counts(&alice, &room).await, (0, 0));
}

#[tokio::test]
async fn a_mute_ends_by_itself() {
    let mut server = server().await;
    let (alice, bob, room) = pair(&server).await;
    sets_mode(&bob, &room, "all").await;
    alice.says(&room, "one").await;
    assert_eq!(mutes(&bob, &room, json!({"duration_ms": 60_000})).await, server.time(60_000));
    let end = server.time(60_000);
    assert_eq!(counts(&bob, &room).await, (1, 0));
    assert_eq!(counts(&alice, &room).await, (0, 0));
    assert_eq!(alice.sees(&room).await["me"]["muted_until"], json!(null), "the mute is the caller's own");
    server.advance(Duration::from_millis(59_999));
    server.restart().await;
    assert_eq!(bob.sees(&room).await["me"]["muted_until"], end);
    assert_eq!(counts(&bob, &room).await, (1, 0));
    server.advance(Duration::from_millis(1));
    assert_eq!(bob.sees(&room).await["me"]["muted_until"], json!(null));
    assert_eq!(counts(&bob, &room).await, (1, 1));
}

#[tokio::test]
async fn a_mute_is_until_a_time_or_without_end_and_null_unmutes() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    sets_mode(&bob, &room, "all").await;
    alice.says(&room, "one").await;
    let until = server.time(3_600_000);
    assert_eq!(mutes(&bob, &room, json!({"muted_until": until})).await, until);
    assert_eq!(mutes(&bob, &room, json!({"muted_until": null})).await, json!(null));
    assert_eq!(counts(&bob, &room).await, (1, 1));
    assert!(mutes(&bob, &room, json!({"duration_ms": -1})).await.is_string());
    server.advance(Duration::from_hours(24 * 3_650));
    assert!(bob.sees(&room).await["me"]["muted_until"].is_string());
    assert_eq!(counts(&bob, &room).await, (1, 0));
    assert_eq!(mutes(&bob, &room, json!({"duration_ms": null})).await, json!(null));
    assert_eq!(counts(&bob, &room).await, (1, 1));
}

#[tokio::test]
async fn a_time_of_any_zone_is_the_same_moment() {
    let server = server().await;
    let (_alice, bob, room) = pair(&server).await;
    let muted = mutes(&bob, &room, json!({"muted_until": "2026-01-01T05:30:00+05:00"})).await;
    assert_eq!(muted, "2026-01-01T00:30:00.000Z");
}

#[tokio::test]
async fn a_mute_that_is_none_is_refused() {
    let server = server().await;
    let (_alice, bob, room) = pair(&server).await;
    let past = server.time(-1);
    let until = server.time(1_000);
    let cases = [
        (json!({"muted_until": past}), "muted_until"),
        (json!({"muted_until": "tomorrow"}), "muted_until"),
        (json!({"muted_until": "2026-13-01T00:00:00.000Z"}), "muted_until"),
        (json!({"muted_until": 5}), "muted_until"),
        (json!({"duration_ms": 0}), "duration_ms"),
        (json!({"duration_ms": -2}), "duration_ms"),
        (json!({"duration_ms": 1.5}), "duration_ms"),
        (json!({"duration_ms": "1000"}), "duration_ms"),
        (json!({"muted_until": until, "duration_ms": 5}), "duration_ms"),
        (json!({}), "muted_until"),
        (json!({"duration": 5}), "duration"),
    ];
    for (body, field) in cases {
        bob.put(&format!("/v1/rooms/{room}/mute"), body).await.invalid(field);
    }
    bob.put(&format!("/v1/rooms/{room}/mute"), json!({"duration_ms": 9_007_199_254_740_991_i64})).await;
}

#[tokio::test]
async fn a_mode_that_is_none_is_refused() {
    let server = server().await;
    let (_alice, bob, room) = pair(&server).await;
    for body in [json!({"mode": "loud"}), json!({"mode": null}), json!({"mode": "All"}), json!({})] {
        bob.put(&format!("/v1/rooms/{room}/notification-mode"), body).await.invalid("mode");
    }
}

#[tokio::test]
async fn who_was_never_in_a_listed_room_has_no_settings_in_it() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.public("Open").await;
    let event = alice.says(&room, "hello").await;
    bob.put(&format!("/v1/rooms/{room}/read"), json!({"event_id": event})).await.forbidden();
}

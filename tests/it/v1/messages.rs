//! Sending, reading back, paging, redacting.

use serde_json::{Value, json};

use super::{MISSING_EVENT, VERSIONS, Version};
use crate::client::{Caller, encoded, server, text};

#[tokio::test]
async fn a_message_is_an_event_of_the_timeline() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let body = json!({"body": "hello", "txn_id": "first"});
    let sent = alice.post(&format!("/v1/rooms/{room}/messages"), body).await.created();
    let expected = json!({
        "event_id": sent["event_id"], "room_id": room, "type": "m.room.message", "sender": alice.id,
        "content": {"msgtype": "m.text", "body": "hello"}, "created_at": server.time(0), "position": sent["position"],
    });
    let path = format!("/v1/rooms/{room}/events/{}", text(&sent["event_id"]));
    assert_eq!(bob.get(&path).await.ok(), expected);
    assert_eq!(bob.timeline(&room).await.last(), Some(&expected));
}

#[tokio::test]
async fn the_transaction_id_is_shown_to_the_sender_only() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let sent =
        alice.post(&format!("/v1/rooms/{room}/messages"), json!({"body": "hello", "txn_id": "first"})).await.created();
    let path = format!("/v1/rooms/{room}/events/{}", text(&sent["event_id"]));
    assert_eq!(alice.get(&path).await.ok()["transaction_id"], "first");
    assert_eq!(bob.get(&path).await.ok().get("transaction_id"), None);
    assert_eq!(alice.timeline(&room).await.last().expect("an event")["transaction_id"], "first");
    assert_eq!(bob.timeline(&room).await.last().expect("an event").get("transaction_id"), None);
    assert!(!bob.pdu(&room, &text(&sent["event_id"])).await.to_string().contains("first"));
}

#[tokio::test]
async fn a_text_may_have_a_kind_a_format_and_an_event_that_it_answers() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let question = alice.says(&room, "felt?").await;
    let body = json!({
        "body": "**felt**", "msgtype": "m.notice", "format": "org.matrix.custom.html", "formatted_body": "<b>felt</b>", "reply_to": question,
    });
    let sent = alice.post(&format!("/v1/rooms/{room}/messages"), body).await.created();
    let event = alice.get(&format!("/v1/rooms/{room}/events/{}", text(&sent["event_id"]))).await.ok();
    let expected = json!({
        "body": "**felt**", "msgtype": "m.notice", "format": "org.matrix.custom.html", "formatted_body": "<b>felt</b>",
        "m.relates_to": {"m.in_reply_to": {"event_id": question}},
    });
    assert_eq!(event["content"], expected);
}

#[tokio::test]
async fn events_of_other_types_go_with_their_content() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let cases = [
        ("m.room.message", json!({"msgtype": "m.emote", "body": "knots"})),
        ("m.room.encrypted", json!({"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AwgA", "session_id": "s"})),
        ("m.reaction", json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": MISSING_EVENT, "key": "👍"}})),
        ("com.example.anything", json!({"deep": [1, null, {"": true}], "text": "\u{0}\u{1f}é\u{2028}😀"})),
        ("com.example.empty", json!({})),
    ];
    for (event_type, content) in cases {
        let body = json!({"type": event_type, "content": content});
        let sent = alice.post(&format!("/v1/rooms/{room}/messages"), body).await.created();
        let event = alice.get(&format!("/v1/rooms/{room}/events/{}", text(&sent["event_id"]))).await.ok();
        assert_eq!((&event["type"], &event["content"]), (&json!(event_type), &content));
        assert_eq!(event.get("state_key"), None);
    }
}

#[tokio::test]
async fn types_with_a_call_of_their_own_are_not_messages() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let before = alice.timeline(&room).await;
    for event_type in [
        "m.room.create",
        "m.room.member",
        "m.room.name",
        "m.room.redaction",
        "m.room.power_levels",
        "m.room.anything",
        "m.room.",
        "io.yurt.archived",
        "io.yurt.anything",
    ] {
        let body = json!({"type": event_type, "content": {"body": "x"}});
        alice.post(&format!("/v1/rooms/{room}/messages"), body).await.type_invariant();
    }
    assert_eq!(alice.timeline(&room).await, before);
}

#[tokio::test]
async fn a_message_has_one_of_the_two_forms() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let path = format!("/v1/rooms/{room}/messages");
    let cases = [
        (json!({}), "body"),
        (json!({"txn_id": "x"}), "body"),
        (json!({"body": null}), "body"),
        (json!({"body": ""}), "body"),
        (json!({"body": 1}), "body"),
        (json!({"body": "x", "msgtype": 1}), "msgtype"),
        (json!({"body": "x", "txn_id": ""}), "txn_id"),
        (json!({"body": "x", "txn_id": "t".repeat(300)}), "txn_id"),
        (json!({"body": "x", "txn_id": 1}), "txn_id"),
        (json!({"body": "x", "reply_to": 1}), "reply_to"),
        (json!({"body": "x", "colour": "red"}), "colour"),
        (json!({"body": "x", "type": "m.room.message", "content": {}}), "body"),
        (json!({"type": "com.example.any"}), "content"),
        (json!({"content": {}}), "type"),
        (json!({"type": "", "content": {}}), "type"),
        (json!({"type": 1, "content": {}}), "type"),
        (json!({"type": "com.example.any", "content": []}), "content"),
        (json!({"type": "com.example.any", "content": "text"}), "content"),
    ];
    for (body, field) in cases {
        alice.post(&path, body).await.invalid(field);
    }
}

#[tokio::test]
async fn an_answer_refers_to_an_event_of_the_room() {
    let server = server().await;
    let alice = server.account("alice").await;
    let (room, other) = (alice.group("Tents").await, alice.group("Yurts").await);
    let elsewhere = alice.says(&other, "hello").await;
    for event in [MISSING_EVENT, elsewhere.as_str(), "x", "\0"] {
        let body = json!({"body": "felt", "reply_to": event});
        alice.post(&format!("/v1/rooms/{room}/messages"), body).await.refused(404, "SW_EVENT_NOT_FOUND");
    }
}

#[tokio::test]
async fn numbers_that_canonical_json_does_not_know_are_refused() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    for number in ["1.5", "1e3", "-0.0", "9007199254740992", "-9007199254740992", "1e400"] {
        for content in [format!("{{\"n\":{number}}}"), format!("{{\"deep\":[{{\"n\":{number}}}]}}")] {
            let message = format!("{{\"type\":\"com.example.any\",\"content\":{content}}}");
            let sent = alice.send("POST", &format!("/v1/rooms/{room}/messages"), Some(message.into_bytes())).await;
            sent.refused(400, "SW_REQUEST_INVALID");
            let state =
                alice.send("PUT", &format!("/v1/rooms/{room}/state/com.example.any"), Some(content.into_bytes())).await;
            state.refused(400, "SW_REQUEST_INVALID");
        }
    }
    let widest = json!({"least": -9_007_199_254_740_991_i64, "most": 9_007_199_254_740_991_i64});
    alice
        .post(&format!("/v1/rooms/{room}/messages"), json!({"type": "com.example.any", "content": widest}))
        .await
        .created();
}

#[tokio::test]
async fn an_event_has_at_most_65536_bytes_as_canonical_json() {
    let server = server().await;
    let alice = server.account("alice").await;
    for version in VERSIONS {
        let room = room_of_version(&alice, version).await;
        for number in 0..4 {
            alice.says(&room, &format!("on the way to a depth of two digits {number}")).await;
        }
        let probe = alice.says(&room, "x").await;
        let overhead = bytes_of(&alice, &room, &probe).await - 1;
        let largest = alice.says(&room, &"x".repeat(65_536 - overhead)).await;
        assert_eq!(bytes_of(&alice, &room, &largest).await, 65_536, "version {}", version.name);
        alice.tries_to_say(&room, &"x".repeat(65_537 - overhead)).await.refused(413, "SW_CONTENT_TOO_LARGE");
        assert_eq!(alice.timeline(&room).await.last().expect("an event")["event_id"], largest);
    }
}

/// The size of an event as canonical JSON, which is its compact form but for the order of the keys.
async fn bytes_of(caller: &Caller, room: &str, event_id: &str) -> usize {
    let mut pdu = caller.pdu(room, event_id).await;
    pdu.as_object_mut().expect("an event is an object").remove("unsigned");
    pdu.to_string().len()
}

#[tokio::test]
async fn the_timeline_is_paged_in_both_directions_without_loss_or_repetition() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    for number in 0..20 {
        alice.says(&room, &format!("message {number}")).await;
    }
    let all = alice.timeline(&room).await;
    assert_eq!(all[0]["type"], "m.room.create");
    let positions: Vec<String> = all.iter().map(|event| text(&event["position"])).collect();
    assert!(positions.is_sorted_by(|earlier, later| earlier < later), "{positions:?}");
    for (direction, reversed) in [("forward", false), ("back", true)] {
        for limit in [1, 3, 7, 200] {
            let mut pages = paged(&alice, &room, direction, limit).await;
            if reversed {
                pages.reverse();
            }
            assert_eq!(pages, all, "{direction} by {limit}");
        }
    }
}

async fn paged(caller: &Caller, room: &str, direction: &str, limit: usize) -> Vec<Value> {
    let mut events = Vec::new();
    let mut from = String::new();
    loop {
        let page = caller.get(&format!("/v1/rooms/{room}/messages?direction={direction}&limit={limit}{from}")).await;
        let meta = page.meta();
        let list = page.list();
        assert!(list.len() <= limit);
        events.extend(list);
        assert!(events.len() < 1_000, "the pages have no end");
        if meta["has_more"] == json!(false) {
            return events;
        }
        from = format!("&from={}", encoded(&text(&meta["next_cursor"])));
    }
}

#[tokio::test]
async fn the_timeline_goes_back_from_the_newest_by_fifty_unless_asked() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    for number in 0..60 {
        alice.says(&room, &format!("message {number}")).await;
    }
    let page = alice.get(&format!("/v1/rooms/{room}/messages")).await;
    assert_eq!((&page.meta()["has_more"], &page.meta()["gaps"]), (&json!(true), &json!([])));
    let list = page.list();
    assert_eq!(list.len(), 50);
    assert_eq!(list[0]["content"]["body"], "message 59");
    assert_eq!(list[49]["content"]["body"], "message 10");
}

#[tokio::test]
async fn a_page_that_goes_forward_goes_on_with_what_came_since() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let page = alice.get(&format!("/v1/rooms/{room}/messages?direction=forward&limit=5")).await;
    let cursor = encoded(&text(&page.meta()["next_cursor"]));
    let seen = page.list().len();
    let news = alice.says(&room, "news").await;
    let rest = alice.get(&format!("/v1/rooms/{room}/messages?direction=forward&from={cursor}")).await.list();
    assert_eq!(rest.last().expect("an event")["event_id"], news);
    assert_eq!(seen + rest.len(), alice.timeline(&room).await.len());
}

#[tokio::test]
async fn what_is_no_page_is_refused_by_name() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let path = format!("/v1/rooms/{room}/messages");
    for limit in ["0", "201", "-1", "many", "1.0"] {
        alice.get(&format!("{path}?limit={limit}")).await.invalid("limit");
    }
    for direction in ["up", "", "Back"] {
        alice.get(&format!("{path}?direction={direction}")).await.invalid("direction");
    }
    for from in ["x", "%00", "-1", "%F0%9F%98%80", "99999999999999999999999999999999"] {
        alice.get(&format!("{path}?from={from}")).await.invalid("from");
    }
    alice.get(&format!("{path}?to=5")).await.invalid("to");
    alice.get(&format!("{path}?limit=200&direction=back")).await.ok();
}

#[tokio::test]
async fn an_event_is_found_in_its_own_room_only() {
    let server = server().await;
    let alice = server.account("alice").await;
    let (room, other) = (alice.group("Tents").await, alice.group("Yurts").await);
    let event = alice.says(&room, "hello").await;
    for format in ["", "?format=pdu"] {
        alice.get(&format!("/v1/rooms/{room}/events/{event}{format}")).await.ok();
        alice.get(&format!("/v1/rooms/{other}/events/{event}{format}")).await.refused(404, "SW_EVENT_NOT_FOUND");
        alice.get(&format!("/v1/rooms/{room}/events/{MISSING_EVENT}{format}")).await.refused(404, "SW_EVENT_NOT_FOUND");
    }
    for id in ["x", "$", "%24%00", "$a%2F..%2Fb", "%2e%2e"] {
        let answer = server.raw_get(&alice, &format!("/v1/rooms/{room}/events/{id}")).await;
        answer.refused(404, "SW_EVENT_NOT_FOUND");
    }
    alice.get(&format!("/v1/rooms/{room}/events/{event}?format=xml")).await.invalid("format");
}

#[tokio::test]
async fn the_signed_form_is_a_matrix_event_of_its_room_version() {
    let server = server().await;
    let alice = server.account("alice").await;
    for version in VERSIONS {
        let room = room_of_version(&alice, version).await;
        let (first, second) = (alice.says(&room, "one").await, alice.says(&room, "two").await);
        let pdu = alice.pdu(&room, &second).await;
        assert_eq!(pdu["room_id"], room);
        assert_eq!(pdu["sender"], alice.id);
        assert_eq!(pdu["prev_events"], json!([first]));
        assert_eq!(pdu["origin_server_ts"], 1_767_225_600_000_i64);
        assert_eq!(pdu["depth"], alice.timeline(&room).await.len());
        assert!(pdu["signatures"]["yurt.test"].is_object());
        let create = text(&alice.get(&format!("/v1/rooms/{room}/state/m.room.create")).await.ok()["event_id"]);
        let names_create = pdu["auth_events"].as_array().expect("a list").contains(&json!(create));
        assert_eq!(names_create, !version.has_creators, "version {}", version.name);
        let known = [
            "auth_events",
            "content",
            "depth",
            "hashes",
            "origin_server_ts",
            "prev_events",
            "room_id",
            "sender",
            "signatures",
            "type",
            "unsigned",
        ];
        let fields = pdu.as_object().expect("an object").keys();
        assert!(fields.clone().all(|field| known.contains(&field.as_str())), "{pdu}");
    }
}

#[tokio::test]
async fn the_author_and_moderators_redact_and_others_do_not() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    for version in VERSIONS {
        let room = room_of_version(&alice, version).await;
        alice.brings_in(&room, &bob).await;
        alice.brings_in(&room, &carol).await;
        let (own, moderated) = (bob.says(&room, "mistake").await, bob.says(&room, "rude").await);
        let path = |event: &str| format!("/v1/rooms/{room}/events/{event}/redact");
        carol.post_nothing(&path(&own)).await.refused(403, "SW_REDACT_FORBIDDEN");
        bob.post_nothing(&path(&own)).await.created();
        alice.gives_level(&room, &carol, 49).await.ok();
        carol.post_nothing(&path(&moderated)).await.refused(403, "SW_REDACT_FORBIDDEN");
        alice.gives_level(&room, &carol, 50).await.ok();
        let redaction = carol.post(&path(&moderated), json!({"reason": "manners"})).await.created();
        check_redacted(&alice, version, &room, (&moderated, &text(&redaction["event_id"])), &carol.id).await;
    }
}

async fn check_redacted(caller: &Caller, version: Version, room: &str, (event_id, redaction): (&str, &str), by: &str) {
    let event = caller.get(&format!("/v1/rooms/{room}/events/{event_id}")).await.ok();
    assert_eq!(event["content"], json!({}), "version {}", version.name);
    assert_eq!((&event["redacted"], &event["redacted_by"]), (&json!(true), &json!(by)));
    let timeline = caller.timeline(room).await;
    assert!(timeline.contains(&event), "the redacted event keeps its place");
    assert!(timeline.iter().any(|event| event["event_id"] == redaction && event["type"] == "m.room.redaction"));
    let pdu = caller.pdu(room, redaction).await;
    let (outside, inside) = (pdu.get("redacts"), pdu["content"].get("redacts"));
    let target = json!(event_id);
    let expected = if version.name == "10" { (Some(&target), None) } else { (None, Some(&target)) };
    assert_eq!((outside, inside), expected, "version {}", version.name);
    assert_eq!(pdu["content"]["reason"], "manners");
    assert!(!caller.pdu(room, event_id).await.to_string().contains("rude"));
}

#[tokio::test]
async fn a_redacted_text_is_nowhere_any_more() {
    let mut server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let event = alice.says(&room, "unspeakable").await;
    alice.post_nothing(&format!("/v1/rooms/{room}/events/{event}/redact")).await.created();
    server.restart().await;
    for path in [format!("/v1/rooms/{room}/messages?limit=200"), format!("/v1/rooms/{room}/events/{event}")] {
        let answer = alice.get(&path).await.expect_status(200);
        assert!(!String::from_utf8_lossy(&answer.body).contains("unspeakable"));
    }
}

#[tokio::test]
async fn redaction_of_what_is_not_there_is_not_found() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let (room, other) = (alice.group_with("Tents", &[&bob]).await, alice.group("Yurts").await);
    let event = alice.says(&other, "hello").await;
    for id in [MISSING_EVENT, event.as_str(), "x"] {
        for caller in [&alice, &bob] {
            let path = format!("/v1/rooms/{room}/events/{id}/redact");
            caller.post_nothing(&path).await.refused(404, "SW_EVENT_NOT_FOUND");
        }
    }
}

#[tokio::test]
async fn a_retried_redaction_is_one_event() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let event = alice.says(&room, "mistake").await;
    let path = format!("/v1/rooms/{room}/events/{event}/redact");
    let first = alice.post(&path, json!({"txn_id": "r"})).await.created();
    let again = alice.post(&path, json!({"txn_id": "r"})).await.created();
    assert_eq!(first, again);
}

#[tokio::test]
async fn a_raised_level_for_messages_binds_those_below() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    alice.put(&format!("/v1/rooms/{room}/power-levels"), json!({"events_default": 10})).await.ok();
    bob.tries_to_say(&room, "hello").await.forbidden_for("level");
    alice.gives_level(&room, &bob, 10).await.ok();
    bob.says(&room, "hello").await;
}

#[tokio::test]
async fn a_clear_text_does_not_go_into_an_encrypted_room() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    assert_eq!(alice.sees(&room).await["encrypted"], false);
    let encryption = json!({"algorithm": "m.megolm.v1.aes-sha2"});
    alice.put(&format!("/v1/rooms/{room}/state/m.room.encryption"), encryption).await.created();
    assert_eq!(alice.sees(&room).await["encrypted"], true);
    alice.tries_to_say(&room, "in the clear").await.type_invariant();
    let path = format!("/v1/rooms/{room}/messages");
    let clear = json!({"type": "m.room.message", "content": {"msgtype": "m.text", "body": "in the clear"}});
    alice.post(&path, clear).await.type_invariant();
    let sealed =
        json!({"type": "m.room.encrypted", "content": {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AwgA"}});
    alice.post(&path, sealed).await.created();
}

#[tokio::test]
async fn messages_of_many_rooms_and_people_are_all_there_after_a_restart() {
    let mut server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let mut rooms = Vec::new();
    for name in ["one", "two", "three"] {
        rooms.push(alice.group_with(name, &[&bob]).await);
    }
    let mut said = Vec::new();
    for number in 0..10 {
        said.push(format!("message {number}"));
        for room in &rooms {
            if number % 2 == 0 { &alice } else { &bob }.says(room, &format!("message {number}")).await;
        }
    }
    server.restart().await;
    for room in &rooms {
        assert_eq!(alice.hears(room).await, said);
        assert_eq!(bob.hears(room).await, said);
    }
}

async fn room_of_version(caller: &Caller, version: Version) -> String {
    caller.creates(json!({"room_type": "group", "name": "Tents", "room_version": version.name})).await
}

#[tokio::test]
async fn a_page_of_large_events_is_shorter_and_the_next_one_goes_on() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let mut sent = Vec::new();
    for _ in 0..20 {
        sent.push(alice.says(&room, &"x".repeat(60_000)).await);
    }
    for direction in ["forward", "back"] {
        let (mut seen, mut from, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let path = format!("/v1/rooms/{room}/messages?direction={direction}&limit=200{from}");
            let page = alice.get(&path).await.expect_status(200);
            assert!(page.body.len() <= 1024 * 1024, "{direction}: {} bytes", page.body.len());
            let meta = page.meta();
            seen.extend(page.list().iter().map(|event| text(&event["event_id"])));
            pages += 1;
            if meta["has_more"] != json!(true) {
                break;
            }
            from = format!("&from={}", encoded(&text(&meta["next_cursor"])));
        }
        if direction == "back" {
            seen.reverse();
        }
        assert_eq!((&seen[seen.len() - 20..], pages), (sent.as_slice(), 2), "{direction}");
    }
}

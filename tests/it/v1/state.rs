//! State events: reading, setting, and the types that have a call of their own.

use serde_json::{Value, json};

use super::{MISSING_ROOM, VERSIONS};
use crate::client::{encoded, server, text};

#[tokio::test]
async fn the_state_is_a_list_of_the_current_events() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    alice.put(&format!("/v1/rooms/{room}/topic"), json!({"topic": "first"})).await.ok();
    alice.put(&format!("/v1/rooms/{room}/topic"), json!({"topic": "second"})).await.ok();
    let state = bob.get(&format!("/v1/rooms/{room}/state?limit=200")).await;
    let total = state.meta()["total"].clone();
    let list = state.list();
    assert_eq!(total, list.len());
    let keys: Vec<(String, String)> =
        list.iter().map(|event| (text(&event["type"]), text(&event["state_key"]))).collect();
    assert!(keys.is_sorted_by(|one, other| one < other), "{keys:?}");
    for wanted in [
        "m.room.create",
        "m.room.power_levels",
        "m.room.join_rules",
        "m.room.history_visibility",
        "m.room.guest_access",
        "m.room.name",
    ] {
        assert!(keys.contains(&(wanted.to_owned(), String::new())), "`{wanted}` is missing");
    }
    for member in [&alice, &bob] {
        assert!(keys.contains(&("m.room.member".to_owned(), member.id.clone())));
    }
    let topics: Vec<&Value> =
        list.iter().filter(|event| event["type"] == "m.room.topic").map(|event| &event["content"]["topic"]).collect();
    assert_eq!(topics, [&json!("second")]);
}

#[tokio::test]
async fn a_state_event_is_set_and_read_under_its_type_and_key() {
    let server = server().await;
    let alice = server.account("alice").await;
    for version in VERSIONS {
        let room = alice.creates(json!({"room_type": "group", "name": "Tents", "room_version": version.name})).await;
        for (rest, key) in [
            ("", ""),
            ("/felt", "felt"),
            ("/with%2Fslash", "with/slash"),
            ("/%23%3F%25", "#?%"),
            ("/%E6%AF%A1", "毡"),
            ("/%252e%252e", "%2e%2e"),
        ] {
            let path = format!("/v1/rooms/{room}/state/com.example.any{rest}");
            let content = json!({"key": key, "n": 1});
            let set = alice.put(&path, content.clone()).await.created();
            let event = alice.get(&path).await.ok();
            assert_eq!(event["event_id"], set["event_id"]);
            assert_eq!(
                (&event["state_key"], &event["content"], &event["sender"]),
                (&json!(key), &content, &json!(alice.id))
            );
        }
    }
}

#[tokio::test]
async fn state_that_was_never_set_is_not_found() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    for rest in [
        "com.example.any",
        "com.example.any/key",
        "m.room.name/key",
        "m.room.member",
        "m.room.topic",
        "%00",
        "m.room.member/%00",
    ] {
        server.raw_get(&alice, &format!("/v1/rooms/{room}/state/{rest}")).await.refused(404, "SW_EVENT_NOT_FOUND");
    }
}

/// S2S 18 we make no list that denies ourselves.
#[tokio::test]
async fn types_with_a_call_of_their_own_are_refused_and_the_call_is_named() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let before = alice.timeline(&room).await;
    let cases = [
        ("m.room.create", json!({"room_version": "12"}), ""),
        ("m.room.member/@bob:yurt.test", json!({"membership": "ban"}), "ban"),
        ("m.room.member/@bob:yurt.test", json!({"membership": "leave"}), "kick"),
        ("m.room.member/@carol:yurt.test", json!({"membership": "invite"}), "invite"),
        ("m.room.member/@alice:yurt.test", json!({"membership": "join"}), "join"),
        ("m.room.member", json!({"membership": "join"}), ""),
        ("m.room.power_levels", json!({"users_default": 100}), "power-levels"),
        ("m.room.third_party_invite/token", json!({}), "invite"),
        ("m.room.tombstone", json!({"body": "x", "replacement_room": MISSING_ROOM}), ""),
        ("m.space.parent/!space", json!({"via": ["yurt.test"], "canonical": true}), "workspace"),
        ("m.space.child/!room", json!({"via": ["yurt.test"]}), "workspace"),
        ("m.space.anything", json!({}), ""),
        ("io.yurt.archived", json!({"archived": true}), "archive"),
        ("io.yurt.closed", json!({}), "close"),
        ("io.yurt.anything/key", json!({}), ""),
        ("m.room.server_acl", json!({"allow": ["elsewhere.example"]}), ""),
        ("m.room.server_acl", json!({"allow": ["*"], "deny": ["yurt.*"]}), ""),
        ("m.room.server_acl", json!({"deny": []}), ""),
    ];
    for (rest, content, call) in cases {
        let path = format!("/v1/rooms/{room}/state/{rest}");
        alice.put(&path, content).await.type_invariant_naming(call);
    }
    assert_eq!(alice.timeline(&room).await, before);
}

/// S2S 18 we make no list that denies ourselves.
#[tokio::test]
async fn a_list_of_servers_that_keeps_ours_passes() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let content = json!({"allow": ["*"], "deny": ["*.evil.example"], "allow_ip_literals": false});
    alice.put(&format!("/v1/rooms/{room}/state/m.room.server_acl"), content).await.created();
}

#[tokio::test]
async fn the_join_rule_is_fixed_where_the_type_fixes_it() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let fixed =
        [alice.public("Open").await, alice.direct(&bob).await, alice.creates(json!({"room_type": "incognito"})).await];
    for room in fixed {
        for join_rule in ["invite", "public", "knock"] {
            let path = format!("/v1/rooms/{room}/state/m.room.join_rules");
            alice.put(&path, json!({"join_rule": join_rule})).await.type_invariant();
        }
    }
    let group = alice.group("Tents").await;
    alice.put(&format!("/v1/rooms/{group}/state/m.room.join_rules"), json!({"join_rule": "public"})).await.created();
    bob.joins(&group).await.ok();
}

#[tokio::test]
async fn name_and_topic_as_state_follow_the_rules_of_their_calls() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let name = format!("/v1/rooms/{room}/state/m.room.name");
    alice.put(&name, json!({"name": "Yurts"})).await.created();
    alice.put(&format!("/v1/rooms/{room}/state/m.room.topic"), json!({"topic": "Felt"})).await.created();
    let seen = bob.sees(&room).await;
    assert_eq!((&seen["name"], &seen["topic"]), (&json!("Yurts"), &json!("Felt")));
    for content in [json!({"name": "  "}), json!({"name": 1}), json!({})] {
        alice.put(&name, content).await.invalid("name");
    }
    bob.put(&name, json!({"name": "Mine"})).await.forbidden_for("level");
    let direct = alice.direct(&bob).await;
    alice.put(&format!("/v1/rooms/{direct}/state/m.room.name"), json!({"name": "Us"})).await.type_invariant();
    alice.put(&format!("/v1/rooms/{direct}/state/m.room.topic"), json!({"topic": "Us"})).await.created();
}

#[tokio::test]
async fn state_needs_its_level() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    // type, content, the level that it needs at the beginning
    let cases = [
        ("com.example.any", json!({}), 50),
        ("m.room.pinned_events", json!({"pinned": []}), 50),
        ("m.room.history_visibility", json!({"history_visibility": "joined"}), 100),
        ("m.room.join_rules", json!({"join_rule": "knock"}), 100),
        ("m.room.server_acl", json!({"allow": ["*"]}), 100),
        ("m.room.encryption", json!({"algorithm": "m.megolm.v1.aes-sha2"}), 100),
    ];
    let room = alice.group_with("Tents", &[&bob]).await;
    for (event_type, content, level) in cases {
        let path = format!("/v1/rooms/{room}/state/{event_type}");
        alice.gives_level(&room, &bob, level - 1).await.ok();
        bob.put(&path, content.clone()).await.forbidden_for("level");
        alice.gives_level(&room, &bob, level).await.ok();
        bob.put(&path, content).await.created();
        alice.gives_level(&room, &bob, 0).await.ok();
    }
}

#[tokio::test]
async fn a_key_that_is_somebodys_id_is_his_alone() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    for version in VERSIONS {
        let room = alice
            .creates(json!({"room_type": "group", "name": "Tents", "room_version": version.name, "invite": ["bob"]}))
            .await;
        bob.joins(&room).await.ok();
        let path = |id: &str| format!("/v1/rooms/{room}/state/com.example.any/{}", encoded(id));
        alice.put(&path(&alice.id), json!({})).await.created();
        alice.put(&path(&bob.id), json!({})).await.forbidden();
    }
}

#[tokio::test]
async fn content_that_is_no_object_is_refused() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    for content in [json!([]), json!("text"), json!(1), json!(null), json!(true)] {
        for rest in ["com.example.any", "com.example.any/key"] {
            alice
                .put(&format!("/v1/rooms/{room}/state/{rest}"), content.clone())
                .await
                .refused(400, "SW_REQUEST_INVALID");
        }
    }
}

#[tokio::test]
async fn types_keys_and_contents_have_their_limits() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let (fits, long) = ("a".repeat(255), "a".repeat(256));
    alice.put(&format!("/v1/rooms/{room}/state/{fits}/{fits}"), json!({})).await.created();
    for (path, field) in [(long.clone(), "type"), (format!("com.example.any/{long}"), "state_key")] {
        alice.put(&format!("/v1/rooms/{room}/state/{path}"), json!({})).await.invalid(field);
    }
    let message = json!({"type": long, "content": {}});
    alice.post(&format!("/v1/rooms/{room}/messages"), message).await.invalid("type");
    let large = json!({"text": "x".repeat(65_536)});
    alice.put(&format!("/v1/rooms/{room}/state/com.example.any"), large).await.refused(413, "SW_CONTENT_TOO_LARGE");
}

#[tokio::test]
async fn an_alias_event_names_an_alias_of_this_room_and_no_other() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let (lobby, own) = (alice.public("Lobby").await, bob.public("Own").await);
    let path = format!("/v1/rooms/{own}/state/m.room.canonical_alias");
    let foreign = alice.sees(&lobby).await["room_alias"].clone();
    for alias in [foreign, json!("#nobody:yurt.test"), json!(3), json!(null)] {
        bob.put(&path, json!({"alias": alias})).await.invalid("alias");
    }
    let alias = bob.sees(&own).await["room_alias"].clone();
    bob.put(&path, json!({"alias": alias})).await.created();
    bob.put(&path, json!({"alias": alias, "alt_aliases": ["#nobody:yurt.test"]})).await.invalid("alt_aliases");
    assert_eq!(bob.sees(&own).await["room_alias"], alias);
}

#[tokio::test]
async fn join_rules_must_be_a_word_that_the_rules_know() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let path = format!("/v1/rooms/{room}/state/m.room.join_rules");
    for content in [json!({}), json!({"join_rule": "bogus"}), json!({"join_rule": 1})] {
        alice.put(&path, content).await.invalid("join_rule");
    }
    alice.put(&path, json!({"join_rule": "knock"})).await.created();
}

#[tokio::test]
async fn history_visibility_must_be_a_word_that_the_rules_know() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    for content in [json!({}), json!({"history_visibility": 1}), json!({"history_visibility": "friends"})] {
        let path = format!("/v1/rooms/{room}/state/m.room.history_visibility");
        alice.put(&path, content).await.refused(400, "SW_REQUEST_INVALID");
    }
}

#[tokio::test]
async fn state_is_the_same_after_a_restart() {
    let mut server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    for number in 0..40 {
        alice
            .put(&format!("/v1/rooms/{room}/state/com.example.any/{}", number % 7), json!({"n": number}))
            .await
            .created();
    }
    let path = format!("/v1/rooms/{room}/state?limit=200");
    let before = alice.get(&path).await.list();
    server.restart().await;
    assert_eq!(alice.get(&path).await.list(), before);
    assert_eq!(alice.get(&format!("/v1/rooms/{room}/state/com.example.any/6")).await.ok()["content"]["n"], 34);
}

#[tokio::test]
async fn messages_and_redactions_are_no_state_whatever_the_level() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let said = bob.says(&room, "felt").await;
    let path = |name: &str| format!("/v1/rooms/{room}/state/{name}/x");
    let text = json!({"msgtype": "m.text", "body": "hi"});
    alice.put(&path("m.room.message"), text).await.type_invariant_naming("/messages");
    let sealed = json!({"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AwgA"});
    alice.put(&path("m.room.encrypted"), sealed).await.type_invariant_naming("/messages");
    alice.put(&path("m.room.redaction"), json!({"redacts": said})).await.type_invariant_naming("/redact");
    assert_eq!(alice.hears(&room).await, ["felt"]);
}

#[tokio::test]
async fn what_was_redacted_can_be_set_again() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let path = format!("/v1/rooms/{room}/state/com.example.any");
    let set = async || alice.put(&path, json!({"wool": true})).await.created()["event_id"].clone();
    let first = set().await;
    assert_eq!(set().await, first, "what stands is not set twice");
    let redact = format!("/v1/rooms/{room}/events/{}/redact", first.as_str().expect("an id"));
    alice.post_nothing(&redact).await.created();
    assert_ne!(set().await, first);
    assert_eq!(alice.state(&room, "com.example.any").await, json!({"wool": true}));
}

//! Making rooms: types, defaults, levels, versions, names, aliases, and what a room answers.

use serde_json::{Value, json};

use super::{VERSIONS, Version};
use crate::client::{Caller, SERVER_NAME, Setup, encoded, server, server_with, text};

#[tokio::test]
async fn a_new_room_answers_with_every_field_at_its_beginning() {
    let server = server().await;
    let alice = server.account("alice").await;
    let body = json!({"room_type": "group", "name": "Tents", "topic": "Felt", "max_members": 7});
    let room = alice.post("/v1/rooms", body).await.created();
    let personal = alice.get("/v1/me").await.ok()["personal_workspace_id"].clone();
    let expected = json!({
        "room_type": "group", "scope_kind": null, "name": "Tents", "topic": "Felt", "avatar_url": null, "is_public": false, "workspace_id": personal,
        "state": "open", "creator_id": alice.id, "members_count": 1, "max_members": 7, "allow_invites": true, "members_only": false,
        "has_password": false, "custom": null, "encrypted": false, "successor_id": null, "created_at": server.time(0),
        "room_version": "12", "federation": {"mode": "open", "permanent": false},
    });
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(&room[field], value, "field `{field}`");
    }
    let me = json!({
        "membership": "join", "power_level": 100, "is_creator": true, "notification_mode": "mentions", "muted_until": null,
        "read_event_id": null, "unread_count": 0, "notify_count": 0, "pinned": false, "join_job_id": null,
    });
    assert_eq!(room["me"], me);
    assert_eq!(alice.sees(&text(&room["id"])).await, room);
}

#[tokio::test]
async fn the_type_decides_join_rule_visibility_and_listing() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let cases = [
        (json!({"room_type": "group", "name": "a"}), "group", "invite", "shared", false),
        (json!({"room_type": "group", "name": "b", "is_public": false}), "group", "invite", "shared", false),
        (json!({"room_type": "group", "name": "c", "is_public": true}), "group", "public", "shared", true),
        (json!({"room_type": "public", "name": "d"}), "public", "public", "shared", true),
        (json!({"room_type": "public", "name": "e", "is_public": true}), "public", "public", "shared", true),
        (json!({"room_type": "incognito", "name": "f"}), "incognito", "invite", "joined", false),
    ];
    for (body, room_type, join_rule, visibility, listed) in cases {
        let room = alice.creates(body).await;
        check_defaults(&alice, &carol, &room, (room_type, join_rule, visibility, listed)).await;
    }
    let direct = alice.direct(&bob).await;
    check_defaults(&alice, &carol, &direct, ("dm", "invite", "invited", false)).await;
}

async fn check_defaults(owner: &Caller, stranger: &Caller, room: &str, expected: (&str, &str, &str, bool)) {
    let (room_type, join_rule, visibility, listed) = expected;
    let seen = owner.sees(room).await;
    assert_eq!(seen["room_type"], room_type);
    assert_eq!(seen["is_public"], listed);
    assert_eq!(owner.state(room, "m.room.join_rules").await["join_rule"], join_rule, "{room_type}");
    assert_eq!(owner.state(room, "m.room.history_visibility").await["history_visibility"], visibility, "{room_type}");
    assert_eq!(owner.state(room, "m.room.guest_access").await["guest_access"], "forbidden", "{room_type}");
    assert_eq!(owner.state(room, "m.room.create").await["io.yurt.type"], room_type);
    let directory = stranger.room_ids("/v1/directory/rooms").await;
    assert_eq!(directory.iter().any(|id| id == room), listed, "{room_type}");
    let joined = stranger.joins(room).await.status;
    assert_eq!(joined, if listed { 200 } else { 404 }, "{room_type}");
}

#[tokio::test]
async fn the_levels_at_the_beginning_are_those_of_the_contract_in_each_version() {
    let server = server().await;
    let alice = server.account("alice").await;
    for version in VERSIONS {
        let room = room_of_version(&alice, version).await;
        let levels = alice.state(&room, "m.room.power_levels").await;
        for (field, level) in [
            ("users_default", 0),
            ("events_default", 0),
            ("state_default", 50),
            ("invite", 0),
            ("kick", 50),
            ("ban", 50),
            ("redact", 50),
        ] {
            assert_eq!(levels[field], level, "`{field}` in version {}", version.name);
        }
        let hundred = [
            "m.room.power_levels",
            "m.room.server_acl",
            "m.room.history_visibility",
            "m.room.join_rules",
            "m.room.encryption",
            "io.yurt.closed",
        ];
        for event_type in hundred {
            assert_eq!(levels["events"][event_type], 100, "`{event_type}` in version {}", version.name);
        }
        assert_eq!(levels["events"]["m.room.tombstone"], version.tombstone_level, "version {}", version.name);
        let own = if version.has_creators { Value::Null } else { json!(100) };
        assert_eq!(levels["users"][&alice.id], own, "version {}", version.name);
    }
}

#[tokio::test]
async fn rooms_are_made_in_the_version_asked_for() {
    let server = server().await;
    let alice = server.account("alice").await;
    for version in VERSIONS {
        let room = room_of_version(&alice, version).await;
        let seen = alice.sees(&room).await;
        assert_eq!(seen["room_version"], version.name);
        assert_eq!(seen["me"]["is_creator"], version.has_creators, "version {}", version.name);
        assert_eq!(seen["me"]["power_level"], 100);
        assert_eq!(seen["creator_id"], alice.id);
        let content = alice.state(&room, "m.room.create").await;
        assert_eq!(content["room_version"], version.name);
        assert_eq!(content.get("creator").is_some(), version.name == "10");
    }
}

#[tokio::test]
async fn a_version_12_room_is_named_by_the_hash_of_its_create_event() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let create = alice.get(&format!("/v1/rooms/{room}/state/m.room.create")).await.ok();
    let event_id = text(&create["event_id"]);
    assert_eq!(event_id.trim_start_matches('$'), room.trim_start_matches('!'));
    assert_eq!(create["room_id"], room);
    assert_eq!(alice.pdu(&room, &event_id).await.get("room_id"), None);
}

#[tokio::test]
async fn rooms_of_versions_10_and_11_are_named_after_the_server() {
    let server = server().await;
    let alice = server.account("alice").await;
    for version in ["10", "11"] {
        let room = alice.creates(json!({"room_type": "group", "name": "Old", "room_version": version})).await;
        assert!(room.ends_with(&format!(":{SERVER_NAME}")), "{room}");
    }
}

#[tokio::test]
async fn other_versions_are_refused() {
    let server = server().await;
    let alice = server.account("alice").await;
    for version in [json!("9"), json!("1"), json!("13"), json!("org.example.next"), json!(""), json!(12)] {
        let body = json!({"room_type": "group", "name": "Tents", "room_version": version});
        alice.post("/v1/rooms", body).await.invalid("room_version");
    }
}

#[tokio::test]
async fn group_and_public_need_a_name_that_is_not_blank() {
    let server = server().await;
    let alice = server.account("alice").await;
    for room_type in ["group", "public"] {
        alice.post("/v1/rooms", json!({"room_type": room_type})).await.invalid("name");
        for name in [json!(null), json!(""), json!("   "), json!("\t\n"), json!("\u{a0}\u{2003}")] {
            alice.post("/v1/rooms", json!({"room_type": room_type, "name": name})).await.invalid("name");
        }
    }
}

#[tokio::test]
async fn an_incognito_room_is_named_by_the_server_when_no_name_is_given() {
    let server = server().await;
    let alice = server.account("alice").await;
    for body in [json!({"room_type": "incognito"}), json!({"room_type": "incognito", "name": null})] {
        let room = alice.post("/v1/rooms", body).await.created();
        assert!(!text(&room["name"]).trim().is_empty());
    }
    let named = alice.post("/v1/rooms", json!({"room_type": "incognito", "name": "Whispers"})).await.created();
    assert_eq!(named["name"], "Whispers");
}

#[tokio::test]
async fn a_direct_room_is_not_made_here_but_with_dm() {
    let server = server().await;
    let alice = server.account("alice").await;
    alice.post("/v1/rooms", json!({"room_type": "dm", "name": "us"})).await.type_invariant_naming("/v1/rooms/dm");
}

#[tokio::test]
async fn the_room_type_is_one_of_three_words() {
    let server = server().await;
    let alice = server.account("alice").await;
    for room_type in [json!("space"), json!("Group"), json!(""), json!(null), json!(1)] {
        alice.post("/v1/rooms", json!({"room_type": room_type, "name": "Tents"})).await.invalid("room_type");
    }
    alice.post("/v1/rooms", json!({"name": "Tents"})).await.invalid("room_type");
}

#[tokio::test]
async fn a_public_room_cannot_be_unlisted() {
    let server = server().await;
    let alice = server.account("alice").await;
    alice
        .post("/v1/rooms", json!({"room_type": "public", "name": "Tents", "is_public": false}))
        .await
        .expect_status(400);
    assert_eq!(alice.get("/v1/rooms").await.meta()["total"], 0);
}

#[tokio::test]
async fn values_out_of_range_are_refused_by_name() {
    let server = server().await;
    let alice = server.account("alice").await;
    let cases = [
        ("max_members", json!([0, -1, 1.5, "5", true, [], 9_007_199_254_740_992_u64])),
        ("is_public", json!(["yes", 1, {}])),
        ("name", json!([1, ["a"], {"a": 1}, "n".repeat(20_000)])),
        ("topic", json!([1, false, []])),
        ("alias", json!([1, "", "a b", "a:b", "#a:other.example", "ä", "a".repeat(300)])),
        ("scope_kind", json!(["", "secret", 1])),
        ("invite", json!(["bob", [1], {}, [null]])),
        ("federate", json!(["no", 0])),
        ("workspace_id", json!([1, {}])),
        ("avatar_url", json!([1, "https://example.org/a.png", "mxc://", "mxc://onlyserver"])),
        ("password", json!(["", 1, "x".repeat(1_025)])),
    ];
    for (field, values) in cases {
        for value in values.as_array().expect("values") {
            let mut body = json!({"room_type": "group", "name": "Tents"});
            body[field] = value.clone();
            alice.post("/v1/rooms", body).await.invalid(field);
        }
    }
    assert_eq!(alice.get("/v1/rooms").await.meta()["total"], 0, "a refused request makes no room");
}

#[tokio::test]
async fn optional_fields_may_be_null() {
    let server = server().await;
    let alice = server.account("alice").await;
    let body = json!({
        "room_type": "group", "name": "Tents", "topic": null, "alias": null, "is_public": null, "workspace_id": null, "scope_kind": null,
        "invite": null, "password": null, "max_members": null, "federate": null, "room_version": null, "avatar_url": null,
    });
    let room = alice.post("/v1/rooms", body).await.created();
    assert_eq!(room["is_public"], false);
    assert_eq!(room["max_members"], json!(null));
}

#[tokio::test]
async fn the_alias_of_a_listed_room_is_its_name_in_lower_case() {
    let server = server().await;
    let alice = server.account("alice").await;
    let first = alice.post("/v1/rooms", json!({"room_type": "public", "name": "Lobby"})).await.created();
    assert_eq!(first["room_alias"], format!("#lobby:{SERVER_NAME}"));
    let second = alice.post("/v1/rooms", json!({"room_type": "public", "name": "LOBBY"})).await.created();
    check_alias_with_suffix(&second, "lobby");
    let nothing_left = alice.post("/v1/rooms", json!({"room_type": "public", "name": "蒙古包"})).await.created();
    assert_eq!(nothing_left["room_alias"], format!("#room:{SERVER_NAME}"));
}

#[tokio::test]
async fn the_alias_of_an_unlisted_room_always_ends_in_six_random_characters() {
    let server = server().await;
    let alice = server.account("alice").await;
    let first = alice.post("/v1/rooms", json!({"room_type": "group", "name": "Lobby"})).await.created();
    let second = alice.post("/v1/rooms", json!({"room_type": "group", "name": "Lobby"})).await.created();
    check_alias_with_suffix(&first, "lobby");
    check_alias_with_suffix(&second, "lobby");
    assert_ne!(first["room_alias"], second["room_alias"]);
}

#[track_caller]
fn check_alias_with_suffix(room: &Value, slug: &str) {
    let alias = text(&room["room_alias"]);
    let suffix =
        alias.strip_prefix(&format!("#{slug}-")).and_then(|rest| rest.strip_suffix(&format!(":{SERVER_NAME}")));
    let suffix = suffix.unwrap_or_else(|| panic!("`{alias}` is not `{slug}` with a suffix"));
    assert_eq!(suffix.chars().count(), 6, "{alias}");
}

#[tokio::test]
async fn the_alias_stands_as_the_canonical_one_in_the_state() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.post("/v1/rooms", json!({"room_type": "public", "name": "Lobby"})).await.created();
    let content = alice.state(&text(&room["id"]), "m.room.canonical_alias").await;
    assert_eq!(content["alias"], room["room_alias"]);
}

#[tokio::test]
async fn an_alias_asked_for_is_given_once() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let body = json!({"room_type": "group", "name": "Tents", "alias": "felt"});
    let room = alice.post("/v1/rooms", body.clone()).await.created();
    assert_eq!(room["room_alias"], format!("#felt:{SERVER_NAME}"));
    bob.post("/v1/rooms", body).await.refused(409, "SW_NAME_TAKEN");
    let whole = json!({"room_type": "group", "name": "Tents", "alias": format!("#felt:{SERVER_NAME}")});
    bob.post("/v1/rooms", whole).await.refused(409, "SW_NAME_TAKEN");
    assert_eq!(bob.get("/v1/rooms").await.meta()["total"], 0, "a refused request makes no room");
}

#[tokio::test]
async fn reserved_aliases_are_taken_except_for_administrators() {
    let accounts = "registration = \"open\"\nreserved_aliases = [\"help\"]";
    let server = server_with(Setup { accounts, ..Setup::default() }).await;
    let (alice, admin) = (server.account("alice").await, server.admin("root").await);
    let asked = json!({"room_type": "public", "name": "Help", "alias": "help"});
    alice.post("/v1/rooms", asked.clone()).await.refused(409, "SW_NAME_TAKEN");
    let named = alice.post("/v1/rooms", json!({"room_type": "public", "name": "Help"})).await.created();
    check_alias_with_suffix(&named, "help");
    let given = admin.post("/v1/rooms", asked).await.created();
    assert_eq!(given["room_alias"], format!("#help:{SERVER_NAME}"));
}

#[tokio::test]
async fn an_alias_stands_for_the_room_in_every_path() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.creates(json!({"room_type": "public", "name": "Lobby"})).await;
    let alias = encoded(&format!("#lobby:{SERVER_NAME}"));
    assert_eq!(bob.get(&format!("/v1/rooms/{alias}")).await.ok()["id"], room);
    bob.post_nothing(&format!("/v1/rooms/{alias}/join")).await.ok();
    bob.post(&format!("/v1/rooms/{alias}/messages"), json!({"body": "hello"})).await.created();
    bob.post_nothing(&format!("/v1/rooms/{alias}/leave")).await.ok();
}

#[tokio::test]
async fn people_are_invited_at_creation() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let room = alice.creates(json!({"room_type": "group", "name": "Tents", "invite": ["bob", carol.id]})).await;
    for guest in [&bob, &carol] {
        assert_eq!(guest.sees(&room).await["me"]["membership"], "invite");
        guest.joins(&room).await.ok();
    }
    assert_eq!(alice.sees(&room).await["members_count"], 3);
}

#[tokio::test]
async fn a_creation_with_an_impossible_guest_makes_nothing() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let unknown = json!({"room_type": "group", "name": "Tents", "alias": "felt", "invite": ["bob", "nobody"]});
    alice.post("/v1/rooms", unknown).await.refused(404, "SW_PARTICIPANT_NOT_FOUND");
    let foreign =
        json!({"room_type": "group", "name": "Tents", "alias": "felt", "invite": ["bob", "@eve:elsewhere.example"]});
    alice.post("/v1/rooms", foreign).await.refused(409, "SW_FED_DISABLED");
    assert_eq!(alice.get("/v1/rooms").await.meta()["total"], 0);
    assert_eq!(bob.get("/v1/rooms").await.meta()["total"], 0);
    alice.creates(json!({"room_type": "group", "name": "Tents", "alias": "felt"})).await;
}

#[tokio::test]
async fn a_room_can_be_kept_to_this_server() {
    let server = server().await;
    let alice = server.account("alice").await;
    for (federate, mode) in [(json!(false), "off"), (json!(true), "open"), (json!(null), "open")] {
        let body = json!({"room_type": "group", "name": "Tents", "federate": federate});
        let room = alice.post("/v1/rooms", body).await.created();
        assert_eq!(room["federation"], json!({"mode": mode, "permanent": false}));
        let create = alice.state(&text(&room["id"]), "m.room.create").await;
        assert_eq!(create.get("m.federate"), None, "m.federate is written for incognito rooms only");
    }
}

#[tokio::test]
async fn a_room_can_have_a_picture_from_the_beginning() {
    let server = server().await;
    let alice = server.account("alice").await;
    let url = text(&alice.uploads(b"picture", "image/png").await["mxc"]);
    let room = alice.creates(json!({"room_type": "group", "name": "Tents", "avatar_url": url})).await;
    assert_eq!(alice.state(&room, "m.room.avatar").await["url"], url);
}

#[tokio::test]
async fn name_and_topic_need_their_level() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let (name, topic) = (format!("/v1/rooms/{room}/name"), format!("/v1/rooms/{room}/topic"));
    bob.put(&name, json!({"name": "Yurts"})).await.forbidden_for("level");
    bob.put(&topic, json!({"topic": "Felt"})).await.forbidden_for("level");
    alice.gives_level(&room, &bob, 50).await.ok();
    assert_eq!(bob.put(&name, json!({"name": "Yurts"})).await.ok()["name"], "Yurts");
    assert_eq!(bob.put(&topic, json!({"topic": "Felt"})).await.ok()["topic"], "Felt");
    let seen = alice.sees(&room).await;
    assert_eq!((&seen["name"], &seen["topic"]), (&json!("Yurts"), &json!("Felt")));
}

#[tokio::test]
async fn a_level_for_the_name_alone_lets_the_name_be_changed() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    alice.put(&format!("/v1/rooms/{room}/power-levels"), json!({"events": {"m.room.name": 0}})).await.ok();
    bob.put(&format!("/v1/rooms/{room}/name"), json!({"name": "Yurts"})).await.ok();
    bob.put(&format!("/v1/rooms/{room}/topic"), json!({"topic": "Felt"})).await.forbidden_for("level");
}

#[tokio::test]
async fn a_group_cannot_lose_its_name() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    for name in [json!(""), json!("  "), json!(null), json!(1)] {
        alice.put(&format!("/v1/rooms/{room}/name"), json!({"name": name})).await.invalid("name");
    }
    assert_eq!(alice.sees(&room).await["name"], "Tents");
}

#[tokio::test]
async fn max_rooms_bounds_the_tenant_and_workspaces_do_not_count() {
    let server = server_with(Setup { tenant: "max_rooms = 2", ..Setup::default() }).await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    alice.post("/v1/workspaces", json!({"name": "Felt"})).await.created();
    alice.group("one").await;
    alice.public("two").await;
    let third = json!({"room_type": "group", "name": "three"});
    alice.post("/v1/rooms", third).await.refused(409, "SW_TENANT_CAPACITY");
    alice.post("/v1/rooms/dm", json!({"participant_id": bob.id})).await.refused(409, "SW_TENANT_CAPACITY");
}

#[tokio::test]
async fn rooms_are_after_a_restart_what_they_were_before() {
    let mut server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let mut before = Vec::new();
    for version in VERSIONS {
        let room = room_of_version(&alice, version).await;
        alice.brings_in(&room, &bob).await;
        bob.says(&room, "hello").await;
        before.push((alice.sees(&room).await, alice.timeline(&room).await, room));
    }
    server.restart().await;
    for (seen, timeline, room) in before {
        assert_eq!(alice.sees(&room).await, seen);
        assert_eq!(alice.timeline(&room).await, timeline);
        bob.says(&room, "still here").await;
    }
}

async fn room_of_version(caller: &Caller, version: Version) -> String {
    caller.creates(json!({"room_type": "group", "name": "Tents", "room_version": version.name})).await
}

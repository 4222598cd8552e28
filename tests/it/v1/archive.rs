//! Open, archived, closed: what freezes a room, what still works, and the way back.

use serde_json::{Value, json};

use super::{MISSING_EVENT, VERSIONS, Version};
use crate::client::{Answer, Caller, TestServer, server, text};

async fn archives(caller: &Caller, room: &str) -> Answer {
    caller.post_nothing(&format!("/v1/rooms/{room}/archive")).await
}

async fn rejoins(caller: &Caller, room: &str) -> Answer {
    caller.post_nothing(&format!("/v1/rooms/{room}/rejoin")).await
}

async fn closes(caller: &Caller, room: &str) -> Answer {
    caller.post_nothing(&format!("/v1/rooms/{room}/close")).await
}

#[tokio::test]
async fn archiving_and_restoring_need_level_50() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    for version in VERSIONS {
        let room = room_of_version(&alice, version).await;
        alice.brings_in(&room, &bob).await;
        alice.gives_level(&room, &bob, 49).await.ok();
        archives(&bob, &room).await.forbidden_for("level");
        alice.gives_level(&room, &bob, 50).await.ok();
        assert_eq!(archives(&bob, &room).await.ok()["state"], "archived");
        assert_eq!(rejoins(&bob, &room).await.ok()["state"], "open");
        assert_eq!(archives(&alice, &room).await.ok()["state"], "archived");
        assert_eq!(rejoins(&bob, &room).await.ok()["state"], "open");
    }
}

#[tokio::test]
async fn restoring_needs_the_level_too() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    archives(&alice, &room).await.ok();
    rejoins(&bob, &room).await.forbidden_for("level");
}

#[tokio::test]
async fn closing_needs_level_100_or_being_the_creator() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    for version in VERSIONS {
        let room = room_of_version(&alice, version).await;
        alice.brings_in(&room, &bob).await;
        alice.gives_level(&room, &bob, 99).await.ok();
        closes(&bob, &room).await.forbidden_for("level");
        alice.gives_level(&room, &bob, 100).await.ok();
        assert_eq!(closes(&bob, &room).await.ok()["state"], "closed");
        let own = room_of_version(&alice, version).await;
        assert_eq!(closes(&alice, &own).await.ok()["state"], "closed");
    }
}

#[tokio::test]
async fn where_no_creator_stands_above_levels_the_level_decides() {
    let server = server().await;
    let alice = server.account("alice").await;
    for version in VERSIONS.into_iter().filter(|version| !version.has_creators) {
        let room = room_of_version(&alice, version).await;
        alice.gives_level(&room, &alice, 99).await.ok();
        closes(&alice, &room).await.forbidden_for("level");
        archives(&alice, &room).await.ok();
    }
}

#[tokio::test]
async fn who_is_not_joined_neither_archives_nor_closes_nor_restores() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let room = alice.public("Open").await;
    carol.joins(&room).await.ok();
    alice.gives_level(&room, &carol, 100).await.ok();
    carol.leaves(&room).await.ok();
    for caller in [&bob, &carol] {
        archives(caller, &room).await.forbidden_for("membership");
        closes(caller, &room).await.forbidden_for("membership");
    }
    archives(&alice, &room).await.ok();
    for caller in [&bob, &carol] {
        rejoins(caller, &room).await.forbidden_for("membership");
    }
}

#[tokio::test]
async fn the_state_event_says_so_and_why() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let levels = alice.state(&room, "m.room.power_levels").await;
    alice.post(&format!("/v1/rooms/{room}/archive"), json!({"reason": "winter"})).await.ok();
    assert_eq!(alice.state(&room, "io.yurt.archived").await, json!({"archived": true, "reason": "winter"}));
    assert_eq!(alice.state(&room, "m.room.power_levels").await, levels, "without other servers no level is lifted");
    rejoins(&alice, &room).await.ok();
    assert_eq!(alice.state(&room, "io.yurt.archived").await["archived"], false);
    alice.post(&format!("/v1/rooms/{room}/close"), json!({"reason": "the end"})).await.ok();
    assert_eq!(alice.state(&room, "io.yurt.closed").await, json!({"reason": "the end"}));
    assert_eq!(alice.state(&room, "m.room.power_levels").await, levels);
}

/// A room of Alice's with Bob at level 0, Carol at 50, an outsider invited and a banned one; and one event in it.
struct Scene {
    alice: Caller,
    bob: Caller,
    carol: Caller,
    room: String,
    event: String,
}

async fn scene(server: &TestServer) -> Scene {
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let (guest, banned) = (server.account("guest").await, server.account("banned").await);
    server.account("stranger").await;
    let body = json!({"room_type": "group", "name": "Tents", "topic": "Felt", "is_public": true, "invite": ["guest"]});
    let room = alice.creates(body).await;
    for member in [&bob, &carol] {
        member.joins(&room).await.ok();
    }
    alice.gives_level(&room, &carol, 50).await.ok();
    alice.does("ban", &room, &banned).await.ok();
    let event = bob.says(&room, "hello").await;
    drop(guest);
    Scene { alice, bob, carol, room, event }
}

/// Every shared write, with a body that would be good in an open room.
fn shared_writes(event: &str, workspace: &Value) -> Vec<(&'static str, String, Value)> {
    vec![
        ("POST", "/messages".to_owned(), json!({"body": "hello"})),
        ("POST", "/messages".to_owned(), json!({"type": "com.example.any", "content": {}})),
        ("POST", format!("/events/{event}/redact"), json!({})),
        ("PUT", "/name".to_owned(), json!({"name": "Yurts"})),
        ("PUT", "/topic".to_owned(), json!({"topic": "Wood"})),
        ("PUT", "/workspace".to_owned(), json!({"workspace_id": workspace})),
        ("PUT", "/state/com.example.any".to_owned(), json!({})),
        ("PUT", "/state/com.example.any/key".to_owned(), json!({})),
        ("PUT", "/power-levels".to_owned(), json!({"invite": 50})),
        ("PUT", "/members/bob/power-level".to_owned(), json!({"power_level": 10})),
        ("POST", "/invite".to_owned(), json!({"participant_id": "stranger"})),
        ("POST", "/kick".to_owned(), json!({"participant_id": "bob"})),
        ("POST", "/ban".to_owned(), json!({"participant_id": "bob"})),
        ("POST", "/unban".to_owned(), json!({"participant_id": "banned"})),
    ]
}

#[tokio::test]
async fn a_frozen_room_refuses_every_shared_write() {
    let server = server().await;
    let Scene { alice, room, event, .. } = scene(&server).await;
    let workspace = alice.post("/v1/workspaces", json!({"name": "Felt"})).await.created()["id"].clone();
    let stranger = server.caller(&log_in(&server, "stranger").await);
    let guest = server.caller(&log_in(&server, "guest").await);
    for freeze in ["archive", "close"] {
        alice.post_nothing(&format!("/v1/rooms/{room}/{freeze}")).await.ok();
        let before = alice.timeline(&room).await;
        for (method, rest, body) in shared_writes(&event, &workspace) {
            let body = body.to_string().into_bytes();
            alice.send(method, &format!("/v1/rooms/{room}{rest}"), Some(body)).await.frozen();
        }
        stranger.joins(&room).await.frozen();
        guest.joins(&room).await.frozen();
        assert_eq!(alice.timeline(&room).await, before, "{freeze}");
        if freeze == "archive" {
            rejoins(&alice, &room).await.ok();
        } else {
            rejoins(&alice, &room).await.frozen();
        }
    }
}

async fn log_in(server: &TestServer, name: &str) -> Value {
    let body = json!({"username": name, "password": crate::client::PASSWORD});
    server.nameless().post("/v1/auth/login", body).await.ok()
}

#[tokio::test]
async fn in_a_frozen_room_reading_leaving_and_the_own_settings_still_work() {
    let server = server().await;
    let Scene { alice, bob, room, event, .. } = scene(&server).await;
    let later = alice.says(&room, "later").await;
    for freeze in ["archive", "close"] {
        alice.post_nothing(&format!("/v1/rooms/{room}/{freeze}")).await.ok();
        for rest in ["", "/members", "/messages", "/state", "/state/m.room.name", "/permissions"] {
            bob.get(&format!("/v1/rooms/{room}{rest}")).await.ok();
        }
        bob.get(&format!("/v1/rooms/{room}/events/{event}?format=pdu")).await.ok();
        let marker = if freeze == "archive" { &event } else { &later };
        let seen = bob.put(&format!("/v1/rooms/{room}/read"), json!({"event_id": marker})).await.ok();
        assert_eq!(seen["me"]["read_event_id"], *marker);
        for mode in ["none", "all"] {
            let seen = bob.put(&format!("/v1/rooms/{room}/notification-mode"), json!({"mode": mode})).await.ok();
            assert_eq!(seen["me"]["notification_mode"], mode);
        }
        let seen = bob.put(&format!("/v1/rooms/{room}/mute"), json!({"duration_ms": 5_000})).await.ok();
        assert_eq!(seen["me"]["muted_until"], server.time(5_000));
        if freeze == "archive" {
            rejoins(&alice, &room).await.ok();
        }
    }
    bob.leaves(&room).await.ok();
    assert_eq!(alice.sees(&room).await["members_count"], 2);
}

#[tokio::test]
async fn an_invite_to_a_frozen_room_can_be_declined() {
    let server = server().await;
    let Scene { alice, room, .. } = scene(&server).await;
    let guest = server.caller(&log_in(&server, "guest").await);
    archives(&alice, &room).await.ok();
    guest.leaves(&room).await.ok();
    assert_eq!(alice.members(&room, "invite").await, super::NONE);
}

#[tokio::test]
async fn a_restored_room_is_as_it_was() {
    let mut server = server().await;
    let Scene { alice, bob, carol, room, .. } = scene(&server).await;
    let (before, history) = (alice.sees(&room).await, alice.timeline(&room).await);
    let members = alice.get(&format!("/v1/rooms/{room}/members")).await.list();
    let levels = alice.state(&room, "m.room.power_levels").await;
    archives(&carol, &room).await.ok();
    server.restart().await;
    assert_eq!(alice.sees(&room).await["state"], "archived");
    bob.tries_to_say(&room, "hello").await.frozen();
    rejoins(&carol, &room).await.ok();
    assert_eq!(without_counts(alice.sees(&room).await), without_counts(before));
    assert_eq!(alice.get(&format!("/v1/rooms/{room}/members")).await.list(), members);
    assert_eq!(alice.state(&room, "m.room.power_levels").await, levels);
    assert_eq!(alice.timeline(&room).await[..history.len()], history);
    bob.says(&room, "back again").await;
    alice.put(&format!("/v1/rooms/{room}/name"), json!({"name": "Yurts"})).await.ok();
}

fn without_counts(mut room: Value) -> Value {
    room["me"]["unread_count"] = Value::Null;
    room["me"]["notify_count"] = Value::Null;
    room
}

#[tokio::test]
async fn archiving_is_no_message_and_raises_no_count() {
    let server = server().await;
    let Scene { alice, bob, room, .. } = scene(&server).await;
    let before = bob.sees(&room).await["me"].clone();
    archives(&alice, &room).await.ok();
    rejoins(&alice, &room).await.ok();
    assert_eq!(bob.sees(&room).await["me"], before);
}

#[tokio::test]
async fn doing_what_is_done_already_changes_nothing() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let opened = alice.timeline(&room).await;
    rejoins(&alice, &room).await.ok();
    assert_eq!(alice.timeline(&room).await, opened);
    archives(&alice, &room).await.ok();
    let archived = alice.timeline(&room).await;
    archives(&alice, &room).await.ok();
    assert_eq!(alice.timeline(&room).await, archived);
    rejoins(&alice, &room).await.ok();
    closes(&alice, &room).await.ok();
    let closed = alice.timeline(&room).await;
    assert_eq!(closes(&alice, &room).await.ok()["state"], "closed");
    assert_eq!(alice.timeline(&room).await, closed);
}

#[tokio::test]
async fn a_closed_room_is_closed_for_good() {
    let mut server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    closes(&alice, &room).await.ok();
    for _ in 0..2 {
        rejoins(&alice, &room).await.frozen();
        archives(&alice, &room).await.frozen();
        alice.tries_to_say(&room, "hello").await.frozen();
        assert_eq!(alice.sees(&room).await["state"], "closed");
        server.restart().await;
    }
}

#[tokio::test]
async fn members_who_left_an_archived_room_come_back_when_it_is_open_again() {
    let server = server().await;
    let Scene { alice, bob, room, .. } = scene(&server).await;
    archives(&alice, &room).await.ok();
    bob.leaves(&room).await.ok();
    bob.joins(&room).await.frozen();
    rejoins(&alice, &room).await.ok();
    bob.joins(&room).await.ok();
}

#[tokio::test]
async fn who_may_not_see_a_frozen_room_is_not_told_of_it() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group("Tents").await;
    archives(&alice, &room).await.ok();
    bob.joins(&room).await.no_such_room();
    bob.tries_to_say(&room, "hello").await.no_such_room();
    bob.post_nothing(&format!("/v1/rooms/{room}/events/{MISSING_EVENT}/redact")).await.no_such_room();
}

#[tokio::test]
async fn a_retried_message_of_before_is_answered_though_the_room_is_frozen() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let path = format!("/v1/rooms/{room}/messages");
    let body = json!({"body": "hello", "txn_id": "before"});
    let sent = alice.post(&path, body.clone()).await.created();
    archives(&alice, &room).await.ok();
    assert_eq!(text(&alice.post(&path, body).await.created()["event_id"]), text(&sent["event_id"]));
}

async fn room_of_version(caller: &Caller, version: Version) -> String {
    caller.creates(json!({"room_type": "group", "name": "Tents", "room_version": version.name})).await
}

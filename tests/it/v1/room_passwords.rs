//! Passwords of rooms: who gets in with one, and what a wrong one tells.

use std::time::Duration;

use serde_json::{Value, json};

use super::{MISSING_ROOM, VERSIONS};
use crate::client::{Answer, Caller, TestServer, encoded, server, text, together};

async fn sets(caller: &Caller, room: &str, password: Value) -> Answer {
    caller.put(&format!("/v1/rooms/{room}/password"), json!({"password": password})).await
}

async fn joins_with(caller: &Caller, room: &str, password: &str) -> Answer {
    caller.post(&format!("/v1/rooms/{room}/join"), json!({"password": password})).await
}

/// Alice, Bob, and a room of Alice's whose password is `felt`.
async fn scene(server: &TestServer) -> (Caller, Caller, String) {
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.creates(json!({"room_type": "group", "name": "Tents", "password": "felt"})).await;
    (alice, bob, room)
}

#[tokio::test]
async fn the_right_password_lets_in_by_an_invite_and_a_join_that_this_server_signs() {
    let mut server = server().await;
    let (alice, bob, room) = scene(&server).await;
    assert_eq!(alice.sees(&room).await["has_password"], true);
    assert_eq!(alice.state(&room, "m.room.join_rules").await["join_rule"], "invite");
    server.restart().await;
    let seen = joins_with(&bob, &room, "felt").await.ok();
    assert_eq!((&seen["me"]["membership"], &seen["has_password"]), (&json!("join"), &json!(true)));
    let timeline = alice.timeline(&room).await;
    let last: Vec<(&Value, &Value, &Value)> = timeline[timeline.len() - 2..]
        .iter()
        .map(|event| (&event["sender"], &event["state_key"], &event["content"]["membership"]))
        .collect();
    let expected = [(json!(alice.id), json!("invite")), (json!(bob.id), json!("join"))];
    for ((sender, state_key, membership), (by, word)) in last.into_iter().zip(&expected) {
        assert_eq!((sender, state_key, membership), (by, &json!(bob.id), word));
    }
}

#[tokio::test]
async fn a_password_is_set_changed_and_taken_away() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group("Tents").await;
    joins_with(&bob, &room, "felt").await.no_such_room();
    let events = alice.timeline(&room).await.len();
    assert_eq!(sets(&alice, &room, json!("felt")).await.ok()["has_password"], true);
    assert_eq!(sets(&alice, &room, json!("wood")).await.ok()["has_password"], true);
    joins_with(&bob, &room, "felt").await.no_such_room();
    joins_with(&bob, &room, "wood").await.ok();
    bob.leaves(&room).await.ok();
    assert_eq!(sets(&alice, &room, json!(null)).await.ok()["has_password"], false);
    joins_with(&bob, &room, "wood").await.forbidden_for("membership");
    assert_eq!(alice.timeline(&room).await.len(), events + 3, "a password is no event");
}

#[tokio::test]
async fn a_stranger_cannot_tell_a_wrong_password_from_no_password_and_no_room() {
    let server = server().await;
    let (alice, bob, room) = scene(&server).await;
    let missing = joins_with(&bob, MISSING_ROOM, "wrong").await;
    let plain = alice.group("Plain").await;
    let alias = encoded(&text(&alice.sees(&room).await["room_alias"]));
    for hidden in [&room, &plain, &alias, &encoded("#nothing:yurt.test")] {
        let answer = joins_with(&bob, hidden, "wrong").await;
        assert_eq!(answer.body, missing.body);
        answer.no_such_room();
        bob.joins(hidden).await.no_such_room();
    }
    joins_with(&bob, &alias, "felt").await.ok();
}

#[tokio::test]
async fn who_sees_the_room_is_told_that_the_password_is_wrong() {
    let server = server().await;
    let (alice, bob, room) = scene(&server).await;
    joins_with(&bob, &room, "felt").await.ok();
    assert_eq!(joins_with(&bob, &room, "wrong").await.ok()["me"]["membership"], "join", "who is in needs none");
    bob.leaves(&room).await.ok();
    joins_with(&bob, &room, "wrong").await.forbidden_for("membership");
    bob.joins(&room).await.forbidden_for("membership");
    alice.does("invite", &room, &bob).await.ok();
    joins_with(&bob, &room, "wrong").await.ok();
    bob.leaves(&room).await.ok();
    joins_with(&bob, &room, "felt").await.ok();
    alice.does("ban", &room, &bob).await.ok();
    joins_with(&bob, &room, "felt").await.forbidden_for("membership");
    joins_with(&bob, &room, "wrong").await.forbidden_for("membership");
}

#[tokio::test]
async fn five_wrong_tries_an_hour_then_wait_whether_or_not_the_room_exists() {
    let server = server().await;
    let (_alice, bob, room) = scene(&server).await;
    let carol = server.account("carol").await;
    for target in [room.as_str(), MISSING_ROOM] {
        for _ in 0..4 {
            joins_with(&bob, target, "wrong").await.no_such_room();
        }
        server.advance(Duration::from_secs(10));
        joins_with(&bob, target, "wrong").await.no_such_room();
        let refused = joins_with(&bob, target, "felt").await;
        assert_eq!(refused.headers["retry-after"], "3590");
        refused.refused(429, "SW_RATE_LIMIT_EXCEEDED");
    }
    joins_with(&carol, &room, "felt").await.ok();
    server.advance(Duration::from_secs(3_580));
    joins_with(&bob, &room, "felt").await.ok();
}

#[tokio::test]
async fn many_tries_at_once_are_no_more_than_five() {
    let server = server().await;
    let (_alice, bob, room) = scene(&server).await;
    let guesses = (0..12).map(|number| {
        let (bob, room) = (bob.clone(), room.clone());
        async move { joins_with(&bob, &room, &format!("guess {number}")).await }
    });
    let answers = together(guesses.collect::<Vec<_>>()).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 404).count(), 5);
    assert_eq!(answers.iter().filter(|answer| answer.status == 429).count(), 7);
}

#[tokio::test]
async fn an_alias_gives_no_further_tries_and_is_not_given_away() {
    let server = server().await;
    let (alice, bob, room) = scene(&server).await;
    let alias = encoded(&text(&alice.sees(&room).await["room_alias"]));
    for _ in 0..5 {
        joins_with(&bob, &room, "wrong").await.no_such_room();
    }
    joins_with(&bob, &room, "felt").await.refused(429, "SW_RATE_LIMIT_EXCEEDED");
    joins_with(&bob, &alias, "felt").await.no_such_room();
    server.advance(Duration::from_secs(3_600));
    joins_with(&bob, &alias, "felt").await.ok();
}

#[tokio::test]
async fn a_right_password_is_no_wrong_try() {
    let server = server().await;
    let (_alice, bob, room) = scene(&server).await;
    for _ in 0..6 {
        joins_with(&bob, &room, "felt").await.ok();
        bob.leaves(&room).await.ok();
    }
}

#[tokio::test]
async fn the_invite_comes_from_the_creator_then_the_highest_level_then_the_lowest_id() {
    let server = server().await;
    let alice = server.account("alice").await;
    let (bob, carol, dora) = (server.account("bob").await, server.account("carol").await, server.account("dora").await);
    for version in VERSIONS {
        let body = json!({"room_type": "group", "name": "Tents", "password": "felt", "room_version": version.name});
        let room = carol.creates(body).await;
        for joining in [&alice, &bob] {
            carol.brings_in(&room, joining).await;
        }
        carol.gives_level(&room, &bob, 60).await.ok();
        carol.put(&format!("/v1/rooms/{room}/power-levels"), json!({"users": {alice.id.clone(): -1}})).await.ok();
        for inviter in [&carol, &bob] {
            joins_with(&dora, &room, "felt").await.ok();
            assert_eq!(invited_by(&dora, &room).await, inviter.id, "version {}", version.name);
            dora.leaves(&room).await.ok();
            inviter.leaves(&room).await.ok();
        }
        joins_with(&dora, &room, "felt").await.forbidden_for("membership");
        alice.leaves(&room).await.ok();
    }
    let room = alice.creates(json!({"room_type": "group", "name": "Tents", "password": "felt"})).await;
    for joining in [&carol, &bob] {
        alice.brings_in(&room, joining).await;
    }
    alice.leaves(&room).await.ok();
    joins_with(&dora, &room, "felt").await.ok();
    assert_eq!(invited_by(&dora, &room).await, bob.id, "of equals the lowest id");
}

/// Who invited the caller, as the timeline tells it.
async fn invited_by(caller: &Caller, room: &str) -> String {
    let timeline = caller.timeline(room).await;
    let invite = timeline
        .iter()
        .rfind(|event| event["state_key"] == json!(caller.id) && event["content"]["membership"] == "invite")
        .expect("an invite");
    text(&invite["sender"])
}

#[tokio::test]
async fn only_a_group_that_is_entered_by_invite_takes_a_password() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let public_group = json!({"room_type": "group", "name": "Open", "is_public": true});
    let knocking = alice.group("Knocking").await;
    let body = json!({"members_only": true}).to_string().into_bytes();
    alice.send("PATCH", &format!("/v1/rooms/{knocking}"), Some(body)).await.ok();
    let rooms = [
        alice.public("Open").await,
        alice.creates(public_group).await,
        alice.direct(&bob).await,
        alice.creates(json!({"room_type": "incognito"})).await,
        knocking,
    ];
    for room in &rooms {
        sets(&alice, room, json!("felt")).await.type_invariant();
        assert_eq!(sets(&alice, room, json!(null)).await.ok()["has_password"], false);
    }
    for body in [
        json!({"room_type": "public", "name": "Open"}),
        json!({"room_type": "group", "name": "Open", "is_public": true}),
        json!({"room_type": "incognito"}),
        json!({"room_type": "group", "name": "Whispers", "scope_kind": "incognito"}),
    ] {
        let mut body = body;
        body["password"] = json!("felt");
        alice.post("/v1/rooms", body).await.type_invariant();
    }
}

#[tokio::test]
async fn a_room_with_a_password_stays_entered_by_invite() {
    let server = server().await;
    let (alice, _bob, room) = scene(&server).await;
    for join_rule in ["public", "knock", "restricted"] {
        let path = format!("/v1/rooms/{room}/state/m.room.join_rules");
        alice.put(&path, json!({"join_rule": join_rule})).await.type_invariant_naming("password");
    }
    sets(&alice, &room, json!(null)).await.ok();
    let path = format!("/v1/rooms/{room}/state/m.room.join_rules");
    alice.put(&path, json!({"join_rule": "public"})).await.created();
    sets(&alice, &room, json!("felt")).await.type_invariant();
}

#[tokio::test]
async fn full_and_frozen_rooms_are_so_for_who_knows_the_password_and_hidden_from_others() {
    let server = server().await;
    let (alice, bob, room) = scene(&server).await;
    let limit = json!({"max_members": 1}).to_string().into_bytes();
    alice.send("PATCH", &format!("/v1/rooms/{room}"), Some(limit)).await.ok();
    joins_with(&bob, &room, "felt").await.refused(409, "SW_ROOM_CAPACITY");
    joins_with(&bob, &room, "wrong").await.no_such_room();
    alice.post_nothing(&format!("/v1/rooms/{room}/archive")).await.ok();
    joins_with(&bob, &room, "felt").await.frozen();
    joins_with(&bob, &room, "wrong").await.no_such_room();
    sets(&alice, &room, json!("wood")).await.frozen();
}

#[tokio::test]
async fn a_password_takes_level_100_and_is_a_text() {
    let server = server().await;
    let (alice, bob, room) = scene(&server).await;
    joins_with(&bob, &room, "felt").await.ok();
    alice.gives_level(&room, &bob, 99).await.ok();
    sets(&bob, &room, json!("mine")).await.forbidden_for("level");
    sets(&bob, &room, json!(null)).await.forbidden_for("level");
    for password in [json!(""), json!(1), json!("x".repeat(1_025))] {
        sets(&alice, &room, password.clone()).await.invalid("password");
        bob.post(&format!("/v1/rooms/{room}/join"), json!({"password": password})).await.invalid("password");
    }
    alice.put(&format!("/v1/rooms/{room}/password"), json!({})).await.invalid("password");
    sets(&server.account("carol").await, &room, json!("mine")).await.no_such_room();
    sets(&alice, &room, json!("x".repeat(1_024))).await.ok();
}

#[tokio::test]
async fn the_password_is_written_nowhere() {
    let mut server = server().await;
    let (alice, bob, room) = scene(&server).await;
    sets(&alice, &room, json!("quite-a-secret-word")).await.ok();
    joins_with(&bob, &room, "quite-a-secret-word").await.ok();
    server.stop().await;
    for (path, bytes) in server.written() {
        let found = bytes.windows(19).any(|window| window == b"quite-a-secret-word");
        assert!(!found, "the password stands in {}", path.display());
    }
}

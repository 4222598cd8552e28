//! Knocking: asking to be let into a room that is not public.

use serde_json::{Value, json};

use super::MISSING_ROOM;
use crate::client::{Answer, Caller, TestServer, encoded, server, text};

async fn knocks(caller: &Caller, room: &str) -> Answer {
    caller.post_nothing(&format!("/v1/rooms/{room}/knock")).await
}

async fn approves(caller: &Caller, room: &str, who: &Caller) -> Answer {
    caller.post_nothing(&format!("/v1/rooms/{room}/members/{}/approve", who.id)).await
}

/// Alice, Bob, and a room of Alice's that takes knocks.
async fn scene(server: &TestServer) -> (Caller, Caller, String) {
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group("Tents").await;
    members_only(&alice, &room, true).await;
    (alice, bob, room)
}

async fn members_only(caller: &Caller, room: &str, wanted: bool) {
    let body = json!({"members_only": wanted}).to_string().into_bytes();
    caller.send("PATCH", &format!("/v1/rooms/{room}"), Some(body)).await.ok();
}

#[tokio::test]
async fn who_knocks_is_let_in_by_an_approval() {
    let server = server().await;
    let (alice, bob, room) = scene(&server).await;
    bob.joins(&room).await.no_such_room();
    let body = json!({"reason": "I make felt"});
    let seen = bob.post(&format!("/v1/rooms/{room}/knock"), body).await.ok();
    assert_eq!(seen["me"]["membership"], "knock");
    assert_eq!(alice.members(&room, "knock").await, [bob.id.as_str()]);
    let knock = alice.get(&format!("/v1/rooms/{room}/state/m.room.member/{}", encoded(&bob.id))).await.ok();
    assert_eq!(knock["content"]["reason"], "I make felt");
    bob.joins(&room).await.forbidden_for("membership");
    approves(&alice, &room, &bob).await.ok();
    assert_eq!(bob.sees(&room).await["me"]["membership"], "invite");
    approves(&alice, &room, &bob).await.ok();
    bob.joins(&room).await.ok();
    approves(&alice, &room, &bob).await.ok();
    assert_eq!(bob.sees(&room).await["me"]["membership"], "join");
}

#[tokio::test]
async fn a_room_that_takes_knocks_is_hidden_until_the_knock_and_shows_itself_only_after_it() {
    let server = server().await;
    let (alice, bob, room) = scene(&server).await;
    let missing = bob.get(&format!("/v1/rooms/{MISSING_ROOM}")).await;
    assert_eq!(bob.get(&format!("/v1/rooms/{room}")).await.body, missing.body);
    assert_eq!(bob.room_ids("/v1/directory/rooms").await, super::NONE);
    let alias = text(&alice.sees(&room).await["room_alias"]);
    knocks(&bob, &encoded(&alias)).await.ok();
    assert_eq!(bob.sees(&room).await["name"], "Tents");
    assert_eq!(bob.room_ids("/v1/rooms").await, [room.as_str()]);
    for hidden in ["messages", "members", "state", "announcement"] {
        bob.get(&format!("/v1/rooms/{room}/{hidden}")).await.forbidden_for("membership");
    }
    bob.tries_to_say(&room, "hello").await.forbidden_for("membership");
}

#[tokio::test]
async fn a_room_that_takes_no_knocks_answers_a_stranger_like_a_missing_one() {
    let server = server().await;
    let (alice, bob, room) = scene(&server).await;
    let missing = knocks(&bob, MISSING_ROOM).await;
    members_only(&alice, &room, false).await;
    let direct = alice.direct(&server.account("carol").await).await;
    let incognito = alice.creates(json!({"room_type": "incognito"})).await;
    let frozen = alice.group("Frozen").await;
    members_only(&alice, &frozen, true).await;
    alice.post_nothing(&format!("/v1/rooms/{frozen}/archive")).await.ok();
    for hidden in [&room, &direct, &incognito, &frozen] {
        let answer = knocks(&bob, hidden).await;
        assert_eq!(answer.body, missing.body);
        answer.no_such_room();
    }
    let open = alice.public("Open").await;
    knocks(&bob, &open).await.forbidden_for("membership");
    let elsewhere = bob.post(&format!("/v1/rooms/{MISSING_ROOM}/knock"), json!({"via": ["elsewhere.example"]})).await;
    elsewhere.refused(409, "SW_FED_DISABLED");
    let many: Vec<String> = (0..17).map(|number| format!("s{number}.example")).collect();
    bob.post(&format!("/v1/rooms/{MISSING_ROOM}/knock"), json!({"via": many})).await.invalid("via");
}

#[tokio::test]
async fn a_knock_is_withdrawn_by_leaving_and_declined_by_a_kick() {
    let server = server().await;
    let (alice, bob, room) = scene(&server).await;
    knocks(&bob, &room).await.ok();
    let events = alice.timeline(&room).await.len();
    knocks(&bob, &room).await.ok();
    assert_eq!(alice.timeline(&room).await.len(), events, "knocking twice changes nothing");
    bob.leaves(&room).await.ok();
    bob.get(&format!("/v1/rooms/{room}")).await.no_such_room();
    assert_eq!(bob.leaves(&room).await.ok(), json!({}));
    knocks(&bob, &room).await.ok();
    alice.does("kick", &room, &bob).await.ok();
    bob.get(&format!("/v1/rooms/{room}")).await.no_such_room();
    assert_eq!(bob.get("/v1/rooms").await.meta()["total"], 0);
    knocks(&bob, &room).await.ok();
    alice.does("ban", &room, &bob).await.ok();
    knocks(&bob, &room).await.no_such_room();
}

#[tokio::test]
async fn who_is_let_in_has_nothing_to_knock_for() {
    let server = server().await;
    let (alice, bob, room) = scene(&server).await;
    knocks(&alice, &room).await.forbidden_for("membership");
    alice.does("invite", &room, &bob).await.ok();
    knocks(&bob, &room).await.forbidden_for("membership");
    bob.joins(&room).await.ok();
    bob.leaves(&room).await.ok();
    knocks(&bob, &room).await.ok();
    assert_eq!(bob.sees(&room).await["me"]["membership"], "knock", "a former member may knock");
}

#[tokio::test]
async fn an_approval_needs_a_knock_and_the_level_for_invites() {
    let server = server().await;
    let (alice, bob, room) = scene(&server).await;
    let (carol, dora) = (server.account("carol").await, server.account("dora").await);
    approves(&alice, &room, &bob).await.refused(404, "SW_PARTICIPANT_NOT_FOUND");
    let nobody = alice.post_nothing(&format!("/v1/rooms/{room}/members/nobody/approve")).await;
    nobody.refused(404, "SW_PARTICIPANT_NOT_FOUND");
    knocks(&bob, &room).await.ok();
    approves(&carol, &room, &bob).await.no_such_room();
    alice.brings_in(&room, &dora).await;
    let body = json!({"allow_invites": false}).to_string().into_bytes();
    alice.send("PATCH", &format!("/v1/rooms/{room}"), Some(body)).await.ok();
    approves(&dora, &room, &bob).await.forbidden_for("level");
    alice.gives_level(&room, &dora, 50).await.ok();
    approves(&dora, &room, &bob).await.ok();
    alice.does("kick", &room, &bob).await.ok();
    knocks(&bob, &room).await.ok();
    alice.post_nothing(&format!("/v1/rooms/{room}/archive")).await.ok();
    approves(&alice, &room, &bob).await.frozen();
}

#[tokio::test]
async fn a_knock_outlives_a_restart_and_is_said_by_the_permissions() {
    let mut server = server().await;
    let (alice, bob, room) = scene(&server).await;
    knocks(&bob, &room).await.ok();
    server.restart().await;
    assert_eq!(bob.sees(&room).await["me"]["membership"], "knock");
    let said: Value = bob.get(&format!("/v1/rooms/{room}/permissions")).await.ok();
    assert_eq!((&said["knock"]["allowed"], &said["leave"]["allowed"]), (&json!(true), &json!(true)));
    assert_eq!((&said["join"]["allowed"], &said["send"]["reason"]), (&json!(false), &json!("membership")));
    approves(&alice, &room, &bob).await.ok();
}

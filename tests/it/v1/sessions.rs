//! The own sessions, the own password, and the end of an account by its owner's wish.

use std::time::Duration;

use ruma::RoomId;
use serde_json::{Value, json};
use yurt::storage::{Commit, Home, keyspaces::SUMMARY};

use super::accounts::log_in;
use crate::client::{
    Caller, LOOK_PAUSE, LOOKS_MAX, PASSWORD, SERVER_NAME, Setup, TestServer, server, server_with, text,
};

async fn sessions(caller: &Caller) -> Vec<Value> {
    caller.get("/v1/me/sessions").await.list()
}

async fn try_log_in(server: &TestServer, name: &str, password: &str) -> u16 {
    server.nameless().post("/v1/auth/login", json!({"username": name, "password": password})).await.status
}

#[tokio::test]
async fn the_own_sessions_are_listed_newest_first_with_the_name_of_the_client() {
    let server = server().await;
    let alice = server.account("alice").await;
    server.advance(Duration::from_secs(5));
    let browser = server.nameless().with_header("user-agent", &"Felt".repeat(50));
    let session = browser.post("/v1/auth/login", json!({"username": "alice", "password": PASSWORD})).await.ok();
    let second = server.caller(&session);
    let listed = second.get("/v1/me/sessions?limit=1").await;
    assert_eq!(listed.meta()["total"], 2);
    let whole = String::from_utf8_lossy(&listed.body).into_owned();
    assert!(!whole.contains(second.token.as_deref().expect("a token")));
    assert_eq!(listed.list()[0]["name"], "Felt".repeat(30));
    let listed = sessions(&second).await;
    let told = |field: &str| listed.iter().map(|session| session[field].clone()).collect::<Vec<_>>();
    assert_eq!(told("current"), [json!(true), json!(false)]);
    assert_eq!(told("created_at"), [json!(server.time(0)), json!(server.time(-5_000))]);
    assert_eq!(told("expires_at"), [json!(null), json!(null)]);
    assert_eq!(listed[1]["last_used_at"], server.time(-5_000));
    let current: Vec<Value> = sessions(&alice).await.iter().map(|session| session["current"].clone()).collect();
    assert_eq!(current, [json!(false), json!(true)]);
}

#[tokio::test]
async fn a_session_is_ended_by_its_id_and_its_token_is_unknown_at_once() {
    let mut server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let elsewhere = log_in(&server, "alice").await;
    elsewhere.get("/v1/me").await.ok();
    let other = sessions(&alice).await.into_iter().find(|session| session["current"] == false).expect("the other one");
    let path = format!("/v1/me/sessions/{}", text(&other["id"]));
    bob.delete(&path).await.refused(404, "SW_NOT_FOUND");
    alice.delete(&path).await.ok();
    elsewhere.get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    let again = alice.delete(&path).await;
    let unknown = alice.delete("/v1/me/sessions/unheard-of").await;
    assert_eq!(again.body, unknown.body);
    unknown.refused(404, "SW_NOT_FOUND");
    alice.delete("/v1/me/sessions/%FF").await.refused(404, "SW_NOT_FOUND");
    server.restart().await;
    elsewhere.get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    assert_eq!(sessions(&alice).await.len(), 1);
}

#[tokio::test]
async fn the_use_of_a_session_is_noted_once_an_hour() {
    let server = server().await;
    let alice = server.account("alice").await;
    let began = server.time(0);
    server.advance(Duration::from_mins(59));
    alice.get("/v1/me").await.ok();
    assert_eq!(sessions(&alice).await[0]["last_used_at"], began);
    server.advance(Duration::from_mins(1));
    let used = server.time(0);
    for _ in 0..LOOKS_MAX {
        if sessions(&alice).await[0]["last_used_at"] == used {
            return;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    panic!("the use was not noted");
}

#[tokio::test]
async fn an_expired_session_is_not_listed_and_is_forgotten_after_a_month() {
    let accounts = "registration = \"open\"\ntoken_lifetime_s = 3600";
    let mut server = server_with(Setup { accounts, ..Setup::default() }).await;
    let alice = server.account("alice").await;
    server.advance(Duration::from_hours(1));
    alice.get("/v1/me").await.refused(401, "SW_AUTH_EXPIRED_TOKEN");
    assert_eq!(sessions(&log_in(&server, "alice").await).await.len(), 1);
    server.advance(Duration::from_hours(24 * 31));
    server.restart().await;
    alice.get("/v1/me").await.refused(401, "SW_AUTH_EXPIRED_TOKEN");
    log_in(&server, "alice").await;
    for _ in 0..LOOKS_MAX {
        let answer = alice.get("/v1/me").await;
        if answer.json()["error"]["code"] == "SW_AUTH_INVALID_TOKEN" {
            return;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    panic!("the expired session was not removed");
}

#[tokio::test]
async fn a_new_password_ends_all_other_sessions() {
    let mut server = server().await;
    let alice = server.account("alice").await;
    let elsewhere = log_in(&server, "alice").await;
    elsewhere.get("/v1/me").await.ok();
    alice.put("/v1/me/password", json!({"old": PASSWORD, "new": "felt and wool"})).await.ok();
    elsewhere.get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    assert_eq!(sessions(&alice).await.len(), 1);
    server.restart().await;
    alice.get("/v1/me").await.ok();
    elsewhere.get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    assert_eq!(try_log_in(&server, "alice", PASSWORD).await, 401);
    assert_eq!(try_log_in(&server, "alice", "felt and wool").await, 200);
}

#[tokio::test]
async fn a_wrong_old_password_changes_nothing_and_the_token_stays_good() {
    let server = server().await;
    let alice = server.account("alice").await;
    let elsewhere = log_in(&server, "alice").await;
    let long = "x".repeat(1_025);
    for old in ["not it", "", long.as_str()] {
        let answer = alice.put("/v1/me/password", json!({"old": old, "new": "felt"})).await;
        answer.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    }
    for new in ["", long.as_str()] {
        alice.put("/v1/me/password", json!({"old": PASSWORD, "new": new})).await.invalid("new");
    }
    elsewhere.get("/v1/me").await.ok();
    assert_eq!(try_log_in(&server, "alice", PASSWORD).await, 200);
}

#[tokio::test]
async fn tries_to_change_the_password_are_throttled_like_log_ins() {
    let limits = "enabled = true\nlogins_per_minute = 1\nlogins_burst = 5";
    let server = server_with(Setup { limits, ..Setup::default() }).await;
    let alice = server.account("alice").await;
    let mut refused = 0;
    for _ in 0..8 {
        let answer = alice.put("/v1/me/password", json!({"old": "guess", "new": "felt"})).await;
        if answer.status == 429 {
            refused += 1;
            answer.refused(429, "SW_RATE_LIMIT_EXCEEDED");
        }
    }
    assert!(refused >= 3, "{refused} of 8 were refused");
}

#[tokio::test]
async fn a_deactivated_account_can_do_nothing_leaves_its_rooms_and_keeps_its_name() {
    let mut server = server().await;
    let (admin, bob) = (server.admin("root").await, server.account("bob").await);
    let body = json!({"username": "alice", "password": PASSWORD, "display_name": "Alice in Felt"});
    let alice = server.caller(&server.nameless().post("/v1/auth/register", body).await.created());
    let joined = bob.group_with("Tents", &[&alice]).await;
    let invited = bob.group("Invited").await;
    bob.does("invite", &invited, &alice).await.ok();
    let own = alice.group_with("Own", &[&bob]).await;
    alice.post_nothing(&format!("/v1/rooms/{own}/archive")).await.ok();
    let whispers = alice.creates(json!({"room_type": "incognito"})).await;
    alice.brings_in(&whispers, &bob).await;
    let elsewhere = log_in(&server, "alice").await;

    alice.delete("/v1/me").await.ok();
    for token in [&alice, &elsewhere] {
        token.get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    }
    assert_eq!(try_log_in(&server, "alice", PASSWORD).await, 401);
    let job = admin.awaits_newest("deactivate").await;
    assert_eq!((&job["state"], &job["started_by"]), (&json!("done"), &json!(alice.id)));
    assert_eq!(job["result"]["participant_id"], alice.id);
    for room in [&joined, &own] {
        assert_eq!(bob.members(room, "leave").await, [alice.id.as_str()]);
    }
    assert_eq!(bob.members(&invited, "invite").await, super::NONE);
    bob.get(&format!("/v1/rooms/{whispers}")).await.no_such_room();
    let workspaces = admin.get("/v1/admin/rooms?room_type=workspace").await.list();
    let personal = workspaces.iter().find(|room| room["creator_id"] == alice.id).expect("it stays");
    assert_eq!(personal["members_count"], 1);

    server.restart().await;
    let found = admin.get("/v1/admin/participants?state=deactivated").await.list();
    assert_eq!((&found[0]["participant_id"], &found[0]["display_name"]), (&json!(alice.id), &json!(null)));
    let again = json!({"username": "alice", "password": PASSWORD});
    server.nameless().post("/v1/auth/register", again).await.refused(409, "SW_NAME_TAKEN");
    bob.does("invite", &joined, &alice).await.refused(404, "SW_PARTICIPANT_NOT_FOUND");
    alice.get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
}

#[tokio::test]
async fn a_stop_in_the_middle_of_leaving_goes_on_at_the_next_start() {
    let mut server = server().await;
    let (admin, bob, alice) = (server.admin("root").await, server.account("bob").await, server.account("alice").await);
    let mut rooms = Vec::new();
    for number in 0..15 {
        rooms.push(bob.group_with(&format!("Tents {number}"), &[&alice]).await);
    }
    alice.delete("/v1/me").await.ok();
    server.restart().await;
    assert_eq!(admin.awaits_newest("deactivate").await["state"], "done");
    for room in &rooms {
        assert_eq!(bob.members(room, "join").await, [bob.id.as_str()]);
    }
    assert_eq!(bob.room_ids("/v1/rooms").await.len(), 15);
}

#[tokio::test]
async fn the_last_administrator_may_go_and_the_command_line_makes_another() {
    let server = server().await;
    let admin = server.admin("root").await;
    admin.delete("/v1/me").await.ok();
    admin.get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    let next = server.admin("next").await;
    assert_eq!(next.get("/v1/me").await.ok()["participant_id"], format!("@next:{SERVER_NAME}"));
}

#[tokio::test]
async fn a_room_that_cannot_be_left_keeps_a_deactivated_account_in_no_other() {
    let mut server = server().await;
    let (admin, alice, bob) = (server.admin("root").await, server.account("alice").await, server.account("bob").await);
    let mut rooms = Vec::new();
    for number in 0..4 {
        rooms.push(bob.group_with(&format!("Tents {number}"), &[&alice]).await);
    }
    // The first that is left lacks a row of its history, as on a damaged disk.
    rooms.sort();
    let (damaged, lost) = (RoomId::parse(&rooms[0]).expect("an id"), &SUMMARY);
    let mut commit = Commit::new(Home::room(&damaged));
    commit.delete(lost, &());
    server.actions().await.store().commit(commit).await.expect("storage");
    server.restart().await;
    alice.delete("/v1/me").await.ok();
    let job = admin.awaits_newest("deactivate").await;
    assert_eq!((&job["state"], &job["progress"]["done"]), (&json!("failed"), &json!(3)), "{job}");
    for room in &rooms[1..] {
        assert_eq!(bob.members(room, "join").await, std::slice::from_ref(&bob.id));
    }
}

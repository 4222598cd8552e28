//! Some deeds have rates of their own, beside the one of all requests.

use serde_json::json;

use crate::client::{Answer, PASSWORD, Setup, TestServer, server_with};

async fn limited(limits: &'static str) -> TestServer {
    server_with(Setup { limits, ..Setup::default() }).await
}

/// Holds an answer to a 429 that says when to come again.
fn refused(answer: Answer) {
    let wait: u64 = answer.headers["retry-after"].parse().expect("whole seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    answer.refused(429, "SW_RATE_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn each_deed_has_its_own_rate_for_each_account() {
    let server = limited(
        "messages_burst = 3\nmessages_per_second = 1\nrooms_burst = 2\nrooms_per_minute = 1\n\
         joins_burst = 1\njoins_per_minute = 1\ninvites_burst = 2\ninvites_per_minute = 1",
    )
    .await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let (group, public) = (alice.group("Tents").await, alice.public("Yurts").await);
    refused(alice.post("/v1/workspaces", json!({"name": "Felt"})).await);
    refused(alice.post("/v1/rooms/dm", json!({"participant_id": bob.id})).await);
    alice.does("invite", &group, &bob).await.ok();
    alice.does("invite", &group, &bob).await.ok();
    refused(alice.does("invite", &group, &bob).await);
    bob.joins(&group).await.ok();
    refused(bob.joins(&public).await);
    let answers = [
        alice.tries_to_say(&group, "one").await,
        alice.put(&format!("/v1/rooms/{group}/state/io.example.note"), json!({"text": "two"})).await,
        alice.tries_to_say(&group, "three").await,
        alice.tries_to_say(&group, "four").await,
    ];
    assert!(answers.iter().filter(|answer| answer.status < 300).count() >= 3);
    for answer in answers.into_iter().filter(|answer| answer.status >= 300) {
        refused(answer);
    }
    alice.get(&format!("/v1/rooms/{group}")).await.ok();
    bob.says(&group, "others are not meant").await;
}

#[tokio::test]
async fn those_invited_to_a_new_room_count_as_invited() {
    let server = limited("invites_burst = 2\ninvites_per_minute = 1").await;
    let alice = server.account("alice").await;
    let (bob, carol) = (server.account("bob").await, server.account("carol").await);
    let room = |name: &str| json!({"room_type": "group", "name": name, "invite": [bob.id, carol.id]});
    alice.post("/v1/rooms", room("one")).await.created();
    refused(alice.post("/v1/rooms", room("two")).await);
    alice.group("nobody is invited").await;
}

#[tokio::test]
async fn wrong_passwords_bar_a_name_for_a_while_whether_or_not_it_exists() {
    let server = limited("failed_logins_burst = 2\nfailed_logins_per_minute = 1\nlogins_burst = 100").await;
    server.account("alice").await;
    server.account("bob").await;
    let log_in = async |name: &str, password: &str| {
        server.nameless().post("/v1/auth/login", json!({"username": name, "password": password})).await
    };
    let mut told = Vec::new();
    for names in [["alice", "ALICE", "@alice:yurt.test"], ["nobody", "Nobody", "@nobody:yurt.test"]] {
        for name in names {
            log_in(name, "guess").await.refused(401, "SW_AUTH_INVALID_TOKEN");
        }
        let barred = log_in(names[0], PASSWORD).await;
        told.push(barred.json()["error"]["code"].clone());
        refused(barred);
    }
    assert_eq!(told[0], told[1]);
    log_in("bob", PASSWORD).await.ok();
}

#[tokio::test]
async fn a_right_password_counts_as_no_failure() {
    let server = limited("failed_logins_burst = 1\nfailed_logins_per_minute = 1\nlogins_burst = 100").await;
    server.account("alice").await;
    for _ in 0..5 {
        server.nameless().post("/v1/auth/login", json!({"username": "alice", "password": PASSWORD})).await.ok();
    }
}

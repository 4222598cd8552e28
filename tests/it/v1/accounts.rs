//! Registration, log-in, log-out, who one is, and the accounts that an administrator makes. Tokens for it are in `registration`.

use std::time::Duration;

use serde_json::json;
use yurt::{
    control::{Answer as Answered, Command},
    storage::{Commit, Home, keyspaces::NAMES},
};

use crate::client::{PASSWORD, SERVER_NAME, Setup, TestServer, contract::contract, server, server_with, text};

#[tokio::test]
async fn registration_gives_an_account_and_a_token_that_works() {
    let server = server().await;
    let body = json!({"username": "alice", "password": PASSWORD, "display_name": "Alice in Felt"});
    let session = server.nameless().post("/v1/auth/register", body).await.created();
    assert_eq!(session["participant_id"], format!("@alice:{SERVER_NAME}"));
    let me = server.caller(&session).get("/v1/me").await.ok();
    assert_eq!(me["participant_id"], session["participant_id"]);
    assert_eq!(me["display_name"], "Alice in Felt");
    assert_eq!(me["is_admin"], false);
    assert_eq!(me["tenant"], "main");
}

#[tokio::test]
async fn a_user_name_is_lower_cased() {
    let server = server().await;
    let body = json!({"username": "Alice.B", "password": PASSWORD});
    let session = server.nameless().post("/v1/auth/register", body).await.created();
    assert_eq!(session["participant_id"], format!("@alice.b:{SERVER_NAME}"));
}

/// S2S 8 old user ids are taken in.
#[tokio::test]
async fn a_user_name_has_1_to_64_of_the_allowed_characters() {
    let server = server().await;
    let longest = "a".repeat(64);
    for name in ["a", "0", "a_b-c.d=e9", longest.as_str()] {
        server.account(name).await;
    }
    let too_long = "b".repeat(65);
    for name in ["", " ", "a b", "ä", "a/b", "a:b", "@a", "a+b", "a\0b", "a\n", too_long.as_str()] {
        let body = json!({"username": name, "password": PASSWORD});
        server.nameless().post("/v1/auth/register", body).await.invalid("username");
    }
}

#[tokio::test]
async fn an_empty_password_is_refused() {
    let server = server().await;
    let body = json!({"username": "alice", "password": ""});
    server.nameless().post("/v1/auth/register", body).await.invalid("password");
}

#[tokio::test]
async fn a_user_name_is_given_once_whatever_its_case() {
    let server = server().await;
    server.account("alice").await;
    for name in ["alice", "ALICE"] {
        let body = json!({"username": name, "password": "another"});
        server.nameless().post("/v1/auth/register", body).await.refused(409, "SW_NAME_TAKEN");
    }
}

#[tokio::test]
async fn closed_registration_is_refused() {
    let server = server_with(Setup { accounts: "registration = \"closed\"", ..Setup::default() }).await;
    let body = json!({"username": "alice", "password": PASSWORD});
    server.nameless().post("/v1/auth/register", body).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
}

#[tokio::test]
async fn an_administrator_makes_accounts_where_registration_is_closed() {
    let server = server_with(Setup { accounts: "registration = \"closed\"", ..Setup::default() }).await;
    let admin = server.admin("root").await;
    let made = admin.post("/v1/admin/participants", json!({"username": "Bob", "password": PASSWORD})).await.created();
    assert_eq!(made["participant_id"], format!("@bob:{SERVER_NAME}"));
    assert_eq!(made["is_admin"], false);
    assert_eq!(made["state"], "active");
    let bob = log_in(&server, "bob").await;
    assert_eq!(bob.get("/v1/me").await.ok()["is_admin"], false);
}

#[tokio::test]
async fn an_administrator_makes_administrators() {
    let server = server().await;
    let admin = server.admin("root").await;
    assert_eq!(admin.get("/v1/me").await.ok()["is_admin"], true);
    let body = json!({"username": "deputy", "password": PASSWORD, "is_admin": true});
    admin.post("/v1/admin/participants", body).await.created();
    let deputy = log_in(&server, "deputy").await;
    deputy.post("/v1/admin/participants", json!({"username": "bob", "password": PASSWORD})).await.created();
}

#[tokio::test]
async fn only_administrators_make_and_list_participants() {
    let server = server().await;
    let alice = server.account("alice").await;
    let body = json!({"username": "bob", "password": PASSWORD});
    alice.post("/v1/admin/participants", body).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    alice.get("/v1/admin/participants").await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
}

#[tokio::test]
async fn an_administrator_cannot_make_a_name_twice() {
    let server = server().await;
    let admin = server.admin("root").await;
    server.account("bob").await;
    let body = json!({"username": "bob", "password": PASSWORD});
    admin.post("/v1/admin/participants", body).await.refused(409, "SW_NAME_TAKEN");
}

#[tokio::test]
async fn the_list_of_participants_is_paged_and_searched() {
    let server = server().await;
    let admin = server.admin("root").await;
    server.accounts("tent", 5).await;
    let all = admin.get("/v1/admin/participants").await;
    assert_eq!(all.meta()["total"], 6);
    assert!(all.list().iter().all(|participant| participant["state"] == "active"));
    let page = admin.get("/v1/admin/participants?limit=2&offset=4").await;
    assert_eq!(page.meta()["total"], 6);
    assert_eq!(page.list().len(), 2);
    let found = admin.get("/v1/admin/participants?q=TENT3").await;
    assert_eq!(found.meta()["total"], 1);
    assert_eq!(found.list()[0]["participant_id"], format!("@tent3:{SERVER_NAME}"));
}

#[tokio::test]
async fn login_takes_the_password_of_the_account() {
    let server = server().await;
    let alice = server.account("alice").await;
    let again = log_in(&server, "alice").await;
    assert_eq!(again.id, alice.id);
    assert_ne!(again.token, alice.token);
}

#[tokio::test]
async fn a_wrong_name_and_a_wrong_password_answer_alike() {
    let server = server().await;
    server.account("alice").await;
    let wrong_password = json!({"username": "alice", "password": "not it"});
    let wrong_name = json!({"username": "nobody", "password": PASSWORD});
    let first = server.nameless().post("/v1/auth/login", wrong_password).await;
    let second = server.nameless().post("/v1/auth/login", wrong_name).await;
    assert_eq!(first.body, second.body);
    first.refused(401, "SW_AUTH_INVALID_TOKEN");
    second.refused(401, "SW_AUTH_INVALID_TOKEN");
}

#[tokio::test]
async fn logout_revokes_the_token_used_and_no_other() {
    let mut server = server().await;
    let alice = server.account("alice").await;
    let elsewhere = log_in(&server, "alice").await;
    alice.post_nothing("/v1/auth/logout").await.ok();
    alice.get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    elsewhere.get("/v1/me").await.ok();
    server.restart().await;
    alice.get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    elsewhere.get("/v1/me").await.ok();
}

#[tokio::test]
async fn a_token_ends_with_its_lifetime() {
    let accounts = "registration = \"open\"\ntoken_lifetime_s = 3600";
    let server = server_with(Setup { accounts, ..Setup::default() }).await;
    let body = json!({"username": "alice", "password": PASSWORD});
    let session = server.nameless().post("/v1/auth/register", body).await.created();
    assert_eq!(session["expires_at"], server.time(3_600_000));
    let alice = server.caller(&session);
    server.advance(Duration::from_secs(3_599));
    alice.get("/v1/me").await.ok();
    server.advance(Duration::from_secs(1));
    alice.get("/v1/me").await.refused(401, "SW_AUTH_EXPIRED_TOKEN");
    log_in(&server, "alice").await.get("/v1/me").await.ok();
}

#[tokio::test]
async fn a_token_lifetime_of_zero_has_no_end() {
    let accounts = "registration = \"open\"\ntoken_lifetime_s = 0";
    let server = server_with(Setup { accounts, ..Setup::default() }).await;
    let body = json!({"username": "alice", "password": PASSWORD});
    let session = server.nameless().post("/v1/auth/register", body).await.created();
    assert_eq!(session["expires_at"], json!(null));
    server.advance(Duration::from_hours(24 * 3_650));
    server.caller(&session).get("/v1/me").await.ok();
}

#[tokio::test]
async fn every_operation_but_log_in_and_health_needs_a_token() {
    let server = server().await;
    let public = ["/v1/auth/register", "/v1/auth/login", "/healthz", "/readyz"];
    let operations = contract().operations().filter(|(_, path)| !public.contains(&path.as_str()));
    for (method, template) in operations {
        let path = template
            .replace("{room_id}", super::MISSING_ROOM)
            .replace("{workspace_id}", super::MISSING_ROOM)
            .replace("{event_id}", super::MISSING_EVENT)
            .replace("{participant_id}", "alice")
            .replace("{id}", "any")
            .replace("{type}", "com.example.any")
            .replace("{key}", "any");
        let body = (method == "POST" || method == "PUT").then(|| b"{}".to_vec());
        server.nameless().send(&method, &path, body.clone()).await.refused(401, "SW_AUTH_INVALID_TOKEN");
        let stranger = server.nameless().with_token("nobodys-token");
        stranger.send(&method, &path, body).await.refused(401, "SW_AUTH_INVALID_TOKEN");
    }
}

#[tokio::test]
async fn a_token_that_is_no_token_is_refused() {
    let server = server().await;
    let alice = server.account("alice").await;
    let token = alice.token.clone().expect("alice has a token");
    let long = "x".repeat(4_000);
    let cut = &token[..token.len() - 1];
    for authorization in
        ["Bearer", "Bearer ", "Basic YWxpY2U6cA==", &token, &format!("Bearer {cut}"), &format!("Bearer {long}")]
    {
        let caller = server.nameless().with_header("authorization", authorization);
        caller.get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    }
}

#[tokio::test]
async fn tokens_outlive_a_restart() {
    let mut server = server().await;
    let alice = server.account("alice").await;
    let before = alice.get("/v1/me").await.ok();
    server.restart().await;
    assert_eq!(alice.get("/v1/me").await.ok(), before);
    log_in(&server, "alice").await.get("/v1/me").await.ok();
}

#[tokio::test]
async fn max_accounts_bounds_the_tenant() {
    let server = server_with(Setup { tenant: "max_accounts = 2", ..Setup::default() }).await;
    server.accounts("tent", 2).await;
    let body = json!({"username": "third", "password": PASSWORD});
    server.nameless().post("/v1/auth/register", body).await.refused(409, "SW_TENANT_CAPACITY");
}

#[tokio::test]
async fn an_idempotency_key_is_ignored_where_answers_hold_secrets() {
    let server = server().await;
    let nameless = server.nameless();
    for name in ["alice", "bob"] {
        let body = json!({"username": name, "password": PASSWORD});
        nameless.keyed("same", "POST", "/v1/auth/register", body).await.created();
    }
    let body = json!({"username": "alice", "password": PASSWORD});
    let first = nameless.keyed("same", "POST", "/v1/auth/login", body.clone()).await.ok();
    let second = nameless.keyed("same", "POST", "/v1/auth/login", body).await.ok();
    assert_ne!(first["access_token"], second["access_token"]);
}

#[tokio::test]
async fn the_session_cookie_is_host_only_and_out_of_reach_of_scripts() {
    let server = server().await;
    server.account("alice").await;
    let body = json!({"username": "alice", "password": PASSWORD});
    let plain = server.nameless().post("/v1/auth/login", body).await.expect_status(200);
    assert!(!plain.headers.contains_key("set-cookie"));
    let cookie = session_cookie(&server).await;
    let attributes: Vec<String> = cookie.split(';').skip(1).map(|part| part.trim().to_lowercase()).collect();
    for wanted in ["httponly", "samesite=lax", "path=/"] {
        assert!(attributes.iter().any(|attribute| attribute == wanted), "`{wanted}` is missing in `{cookie}`");
    }
    assert!(!attributes.iter().any(|attribute| attribute.starts_with("domain")), "`{cookie}` names a domain");
}

#[tokio::test]
async fn outside_loopback_the_session_cookie_is_bound_to_the_host_and_to_tls() {
    let server = server().await;
    server.account("alice").await;
    let browser = server.nameless().with_header("host", "chat.example");
    let body = json!({"username": "alice", "password": PASSWORD, "cookie": true});
    let answer = browser.post("/v1/auth/login", body).await.expect_status(200);
    let cookie = answer.headers.get("set-cookie").cloned().expect("a cookie is set");
    assert!(cookie.starts_with("__Host-"), "{cookie}");
    assert!(cookie.split(';').any(|part| part.trim().eq_ignore_ascii_case("secure")), "{cookie}");
}

#[tokio::test]
async fn a_write_by_cookie_needs_an_origin_of_our_own_or_a_listed_one() {
    let more = "[cors]\norigins = [\"https://chat.example\"]";
    let server = server_with(Setup { more, ..Setup::default() }).await;
    server.account("alice").await;
    let cookie = session_cookie(&server).await;
    let pair = cookie.split(';').next().expect("a name and a value");
    let browser = server.nameless().with_header("cookie", pair);
    browser.get("/v1/me").await.ok();
    let body = json!({"name": "Tents"});
    browser.post("/v1/workspaces", body.clone()).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    let own = server.origin();
    for foreign in [
        "https://evil.example",
        "null",
        "http://chat.example",
        "https://chat.example.evil.example",
        &own.replace("http:", "https:"),
    ] {
        let tab = browser.with_header("origin", foreign);
        tab.post("/v1/workspaces", body.clone()).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    }
    for good in [own.as_str(), "https://chat.example"] {
        browser.with_header("origin", good).post("/v1/workspaces", body.clone()).await.created();
    }
}

#[tokio::test]
async fn cross_origin_answers_never_name_every_origin() {
    let more = "[cors]\norigins = [\"https://chat.example\"]";
    let server = server_with(Setup { more, ..Setup::default() }).await;
    let alice = server.account("alice").await;
    let listed = alice.with_header("origin", "https://chat.example").get("/v1/me").await.expect_status(200);
    assert_eq!(listed.headers.get("access-control-allow-origin").map(String::as_str), Some("https://chat.example"));
    let foreign = alice.with_header("origin", "https://evil.example").get("/v1/me").await;
    assert!(!foreign.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn too_many_requests_are_told_when_to_come_again() {
    let limits = "enabled = true\nrequests_per_second = 1\nrequests_burst = 10";
    let server = server_with(Setup { limits, ..Setup::default() }).await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let mut answers = Vec::new();
    for _ in 0..30 {
        answers.push(alice.get("/v1/me").await);
    }
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    assert!((10..=25).contains(&refused), "{refused} of 30 were refused");
    for answer in answers.into_iter().filter(|answer| answer.status != 200) {
        answer.refused(429, "SW_RATE_LIMIT_EXCEEDED");
    }
    bob.get("/v1/me").await.ok();
}

#[tokio::test]
async fn too_many_log_ins_of_one_address_are_told_when_to_come_again() {
    let limits = "enabled = true\nlogins_per_minute = 1\nlogins_burst = 4";
    let server = server_with(Setup { limits, ..Setup::default() }).await;
    let mut refused = 0;
    for _ in 0..8 {
        let answer = server.nameless().post("/v1/auth/login", json!({"username": "alice", "password": "guess"})).await;
        if answer.status == 429 {
            refused += 1;
            answer.refused(429, "SW_RATE_LIMIT_EXCEEDED");
        } else {
            answer.refused(401, "SW_AUTH_INVALID_TOKEN");
        }
    }
    assert!((3..=4).contains(&refused), "{refused} of 8 were refused");
}

#[tokio::test]
async fn without_limits_no_rate_is_refused() {
    let server = server().await;
    let alice = server.account("alice").await;
    for _ in 0..500 {
        alice.get("/v1/me").await.ok();
    }
}

/// The whole `Set-Cookie` of a log-in that asked for one.
async fn session_cookie(server: &TestServer) -> String {
    let body = json!({"username": "alice", "password": PASSWORD, "cookie": true});
    let answer = server.nameless().post("/v1/auth/login", body).await.expect_status(200);
    answer.headers.get("set-cookie").cloned().expect("a cookie is set")
}

/// A new session of an account, with the usual password.
pub(super) async fn log_in(server: &TestServer, name: &str) -> crate::client::Caller {
    let session = server.nameless().post("/v1/auth/login", json!({"username": name, "password": PASSWORD})).await.ok();
    assert!(text(&session["participant_id"]).contains(name));
    server.caller(&session)
}

#[tokio::test]
async fn names_without_an_account_neither_repeat_nor_hide_others_in_the_list() {
    let server = server().await;
    for name in ["alice", "zoe"] {
        server.account(name).await;
    }
    // As crashes leave them, more than one page of the list.
    let mut commit = Commit::new(Home::server());
    for number in 0..250 {
        commit.put(&NAMES, &format!("lost{number:03}"), &());
    }
    server.actions().await.store().commit(commit).await.expect("storage");
    let (mut listed, mut offset) = (Vec::new(), Some(0));
    while let Some(from) = offset {
        let Answered::Accounts { accounts, next } = server.commands(Command::ListAccounts { offset: from }).await
        else {
            panic!("no list");
        };
        listed.extend(accounts.into_iter().map(|account| account.participant_id));
        offset = next;
    }
    assert_eq!(listed, ["alice", "zoe"].map(|name| format!("@{name}:{SERVER_NAME}")));
}

//! Registration by token: who has a good one gets an account, and a use is used once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Answer, Caller, PASSWORD, Setup, TestServer, server, server_with, text, together};

async fn by_token() -> TestServer {
    server_with(Setup { accounts: "registration = \"token\"", ..Setup::default() }).await
}

async fn register(server: &TestServer, name: &str, token: &str) -> Answer {
    let body = json!({"username": name, "password": PASSWORD, "registration_token": token});
    server.nameless().post("/v1/auth/register", body).await
}

async fn token(admin: &Caller, body: Value) -> Value {
    admin.post("/v1/admin/registration-tokens", body).await.created()
}

async fn listed(admin: &Caller) -> Vec<Value> {
    admin.get("/v1/admin/registration-tokens").await.list()
}

#[tokio::test]
async fn without_a_token_that_was_given_out_registration_is_refused() {
    let server = by_token().await;
    let admin = server.admin("root").await;
    token(&admin, json!({})).await;
    for wrong in [json!(null), json!(""), json!("guessed")] {
        let body = json!({"username": "alice", "password": PASSWORD, "registration_token": wrong});
        server.nameless().post("/v1/auth/register", body).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    }
    let without = json!({"username": "alice", "password": PASSWORD});
    server.nameless().post("/v1/auth/register", without).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
}

#[tokio::test]
async fn a_wrong_token_tells_nothing_of_which_names_are_taken() {
    let server = by_token().await;
    server.admin("root").await;
    let (taken, free) = (register(&server, "root", "guessed").await, register(&server, "free", "guessed").await);
    assert_eq!(taken.body, free.body);
    taken.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
}

#[tokio::test]
async fn a_token_is_good_for_so_many_registrations_even_when_many_race() {
    let mut server = by_token().await;
    let admin = server.admin("root").await;
    let made = token(&admin, json!({"uses": 3})).await;
    assert_eq!((&made["uses"], &made["expires_at"]), (&json!(3), &json!(null)));
    let asking = (0..10).map(|number| {
        let (nameless, token) = (server.nameless(), made["token"].clone());
        async move {
            let body = json!({"username": format!("tent{number}"), "password": PASSWORD, "registration_token": token});
            nameless.post("/v1/auth/register", body).await
        }
    });
    let answers = together(asking.collect::<Vec<_>>()).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 3);
    for answer in answers.into_iter().filter(|answer| answer.status != 201) {
        answer.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    }
    server.restart().await;
    register(&server, "late", &text(&made["token"])).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    let listed = listed(&admin).await;
    assert_eq!((&listed[0]["id"], &listed[0]["used"]), (&made["id"], &json!(3)));
}

#[tokio::test]
async fn a_registration_that_comes_to_nothing_uses_nothing() {
    let server = by_token().await;
    let admin = server.admin("root").await;
    let made = token(&admin, json!({"uses": 1})).await;
    let token = text(&made["token"]);
    register(&server, "root", &token).await.refused(409, "SW_NAME_TAKEN");
    register(&server, "no name", &token).await.invalid("username");
    assert_eq!(listed(&admin).await[0]["used"], 0);
    register(&server, "alice", &token).await.created();
    assert_eq!(listed(&admin).await[0]["used"], 1);
}

#[tokio::test]
async fn a_token_ends_at_its_time_and_when_it_is_deleted() {
    let server = by_token().await;
    let admin = server.admin("root").await;
    let short = token(&admin, json!({"expires_at": server.time(60_000)})).await;
    assert_eq!(short["expires_at"], server.time(60_000));
    let long = token(&admin, json!({})).await;
    register(&server, "early", &text(&short["token"])).await.created();
    server.advance(Duration::from_mins(1));
    register(&server, "late", &text(&short["token"])).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    register(&server, "later", &text(&long["token"])).await.created();
    let path = format!("/v1/admin/registration-tokens/{}", text(&long["id"]));
    admin.delete(&path).await.ok();
    register(&server, "latest", &text(&long["token"])).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    admin.delete(&path).await.refused(404, "SW_NOT_FOUND");
    assert_eq!(listed(&admin).await.len(), 1);
}

#[tokio::test]
async fn the_list_of_tokens_is_paged_and_tells_no_token() {
    let server = by_token().await;
    let admin = server.admin("root").await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(token(&admin, json!({"uses": 2})).await);
    }
    let page = admin.get("/v1/admin/registration-tokens?limit=2&offset=1").await;
    assert_eq!(page.meta()["total"], 3);
    let whole = String::from_utf8_lossy(&page.body).into_owned();
    assert!(made.iter().all(|made| !whole.contains(&text(&made["token"]))));
    let page = page.list();
    assert_eq!((&page[0]["id"], &page[1]["id"]), (&made[1]["id"], &made[2]["id"]));
    assert_eq!(page[0]["created_by"], admin.id);
}

#[tokio::test]
async fn what_cannot_be_a_token_is_refused_by_its_field() {
    let server = by_token().await;
    let admin = server.admin("root").await;
    for uses in [json!(0), json!(-1), json!(1_000_001), json!("two"), json!(1.5)] {
        admin.post("/v1/admin/registration-tokens", json!({"uses": uses})).await.invalid("uses");
    }
    for end in [json!("soon"), json!(server.time(0)), json!("2001-01-01T00:00:00Z"), json!(7)] {
        admin.post("/v1/admin/registration-tokens", json!({"expires_at": end})).await.invalid("expires_at");
    }
    assert!(listed(&admin).await.is_empty());
}

#[tokio::test]
async fn where_registration_is_open_a_token_is_ignored_and_where_it_is_closed_it_does_not_help() {
    let open = server().await;
    register(&open, "alice", "whatever").await.created();
    let closed = server_with(Setup { accounts: "registration = \"closed\"", ..Setup::default() }).await;
    let made = token(&closed.admin("root").await, json!({})).await;
    register(&closed, "alice", &text(&made["token"])).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
}

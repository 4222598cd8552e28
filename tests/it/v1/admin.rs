//! What administrators do with accounts, app tokens and the list of rooms.

use serde_json::{Value, json};

use super::{MISSING_ROOM, accounts::log_in};
use crate::client::{Caller, PASSWORD, SERVER_NAME, TestServer, contract::contract, server, text};

async fn set(admin: &Caller, who: &str, what: &str) -> Value {
    admin.post_nothing(&format!("/v1/admin/participants/{who}/{what}")).await.ok()
}

async fn try_log_in(server: &TestServer, name: &str, password: &str) -> crate::client::Answer {
    server.nameless().post("/v1/auth/login", json!({"username": name, "password": password})).await
}

#[tokio::test]
async fn a_disabled_account_can_do_nothing_until_it_is_enabled() {
    let mut server = server().await;
    let (admin, bob) = (server.admin("root").await, server.account("bob").await);
    bob.get("/v1/me").await.ok();
    assert_eq!(set(&admin, "bob", "disable").await["state"], "disabled");
    assert_eq!(set(&admin, "bob", "disable").await["state"], "disabled");
    bob.get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    let refused = try_log_in(&server, "bob", PASSWORD).await;
    assert_eq!(refused.body, try_log_in(&server, "bob", "not it").await.body);
    refused.refused(401, "SW_AUTH_INVALID_TOKEN");
    server.restart().await;
    bob.get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    assert_eq!(set(&admin, &bob.id, "enable").await["state"], "active");
    bob.get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    log_in(&server, "bob").await.get("/v1/me").await.ok();
}

#[tokio::test]
async fn nobody_disables_himself_or_somebody_who_does_not_exist() {
    let server = server().await;
    let (admin, bob) = (server.admin("root").await, server.account("bob").await);
    admin.post_nothing("/v1/admin/participants/root/disable").await.invalid("participant_id");
    for (what, who) in
        [("disable", "nobody"), ("enable", "@eve:elsewhere.example"), ("disable", "@eve:elsewhere.example")]
    {
        let answer = admin.post_nothing(&format!("/v1/admin/participants/{who}/{what}")).await;
        answer.refused(404, "SW_PARTICIPANT_NOT_FOUND");
    }
    let body = json!({"password": PASSWORD});
    admin.put("/v1/admin/participants/nobody/password", body.clone()).await.refused(404, "SW_PARTICIPANT_NOT_FOUND");
    for (method, path, body) in [
        ("POST", "/v1/admin/participants/root/disable", None),
        ("POST", "/v1/admin/participants/bob/enable", None),
        ("PUT", "/v1/admin/participants/root/password", Some(body.to_string().into_bytes())),
    ] {
        bob.send(method, path, body).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    }
}

#[tokio::test]
async fn a_password_set_by_an_administrator_ends_all_sessions() {
    let server = server().await;
    let (admin, bob) = (server.admin("root").await, server.account("bob").await);
    let path = "/v1/admin/participants/bob/password";
    admin.put(path, json!({"password": ""})).await.invalid("password");
    bob.get("/v1/me").await.ok();
    assert_eq!(admin.put(path, json!({"password": "felt"})).await.ok()["state"], "active");
    bob.get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    try_log_in(&server, "bob", PASSWORD).await.refused(401, "SW_AUTH_INVALID_TOKEN");
    try_log_in(&server, "bob", "felt").await.ok();
    set(&admin, "bob", "disable").await;
    assert_eq!(admin.put(path, json!({"password": PASSWORD})).await.ok()["state"], "disabled");
    try_log_in(&server, "bob", PASSWORD).await.refused(401, "SW_AUTH_INVALID_TOKEN");
}

#[tokio::test]
async fn what_its_owner_deactivated_no_administrator_brings_back() {
    let server = server().await;
    let (admin, bob) = (server.admin("root").await, server.account("bob").await);
    bob.delete("/v1/me").await.ok();
    for what in ["disable", "enable"] {
        admin.post_nothing(&format!("/v1/admin/participants/bob/{what}")).await.invalid("participant_id");
    }
    let password = json!({"password": PASSWORD});
    admin.put("/v1/admin/participants/bob/password", password).await.invalid("participant_id");
    let listed = admin.get("/v1/admin/participants?q=bob").await.list();
    assert_eq!(listed[0]["state"], "deactivated");
}

#[tokio::test]
async fn participants_are_found_by_state_and_by_a_part_of_either_name() {
    let server = server().await;
    let admin = server.admin("root").await;
    server.accounts("tent", 4).await;
    let body = json!({"username": "zoe", "password": PASSWORD, "display_name": "Zoë of the TENTS"});
    server.nameless().post("/v1/auth/register", body).await.created();
    set(&admin, "tent2", "disable").await;
    let found = async |query: &str| {
        let answer = admin.get(&format!("/v1/admin/participants?{query}")).await;
        let total = answer.meta()["total"].clone();
        let ids: Vec<String> = answer.list().iter().map(|account| text(&account["participant_id"])).collect();
        assert_eq!(total, ids.len());
        ids
    };
    assert_eq!(found("state=disabled").await, [format!("@tent2:{SERVER_NAME}")]);
    assert_eq!(found("state=active").await.len(), 5);
    assert_eq!(found("q=tents").await, [format!("@zoe:{SERVER_NAME}")]);
    assert_eq!(found("q=TENT&state=active").await.len(), 4);
    assert_eq!(found("state=locked").await, super::NONE);
    admin.get("/v1/admin/participants?state=happy").await.invalid("state");
    let page = admin.get("/v1/admin/participants?q=tent&limit=2&offset=3").await;
    assert_eq!(page.meta()["total"], 5);
    assert_eq!(page.list().len(), 2);
}

#[tokio::test]
async fn an_app_token_opens_nothing_and_after_its_deletion_is_unknown() {
    let mut server = server().await;
    let admin = server.admin("root").await;
    let made = admin.post("/v1/admin/app-tokens", json!({"name": "Shop"})).await.created();
    let listed = admin.get("/v1/admin/app-tokens").await;
    assert!(!String::from_utf8_lossy(&listed.body).contains(&text(&made["access_token"])));
    let listed = listed.list();
    assert_eq!((&listed[0]["id"], &listed[0]["name"]), (&made["id"], &json!("Shop")));
    assert_eq!((&listed[0]["created_by"], &listed[0]["last_used_at"]), (&json!(admin.id), &json!(null)));
    server.restart().await;
    let app = server.nameless().with_token(&text(&made["access_token"]));
    let public = ["/v1/auth/register", "/v1/auth/login", "/healthz", "/readyz"];
    for (method, template) in contract().operations().filter(|(_, path)| !public.contains(&path.as_str())) {
        let path = template
            .replace("{room_id}", MISSING_ROOM)
            .replace("{workspace_id}", MISSING_ROOM)
            .replace("{event_id}", super::MISSING_EVENT)
            .replace("{participant_id}", "root")
            .replace("{id}", "any")
            .replace("{type}", "com.example.any")
            .replace("{key}", "any");
        let body = (method == "POST" || method == "PUT").then(|| b"{}".to_vec());
        app.send(&method, &path, body).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    }
    let path = format!("/v1/admin/app-tokens/{}", text(&made["id"]));
    admin.delete(&path).await.ok();
    app.get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    admin.delete(&path).await.refused(404, "SW_NOT_FOUND");
    for name in ["", "  ", &"x".repeat(121)] {
        admin.post("/v1/admin/app-tokens", json!({"name": name})).await.invalid("name");
    }
}

#[tokio::test]
async fn only_administrators_see_and_do_what_is_theirs() {
    let server = server().await;
    let (admin, bob) = (server.admin("root").await, server.account("bob").await);
    let room = admin.group("Tents").await;
    let administration = contract().operations().filter(|(_, path)| path.starts_with("/v1/admin/"));
    for (method, template) in administration {
        let path = template.replace("{room_id}", &room).replace("{participant_id}", "bob").replace("{id}", "any");
        let body = (method == "POST" || method == "PUT").then(|| b"{\"unheard_of\":1}".to_vec());
        bob.send(&method, &path, body).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    }
    admin.sees(&room).await;
}

#[tokio::test]
async fn the_list_of_rooms_has_hidden_ones_and_never_incognito_ones() {
    let server = server().await;
    let (admin, alice, bob) = (server.admin("root").await, server.account("alice").await, server.account("bob").await);
    let hidden = alice.group("Hidden Felt").await;
    let open = alice.public("Open").await;
    let direct = alice.direct(&bob).await;
    alice.creates(json!({"room_type": "incognito", "name": "Whispers"})).await;
    let found = async |query: &str| {
        let answer = admin.get(&format!("/v1/admin/rooms?{query}")).await;
        let total = answer.meta()["total"].clone();
        let mut ids: Vec<String> = answer.list().iter().map(|room| text(&room["id"])).collect();
        assert_eq!(total, ids.len());
        ids.sort();
        ids
    };
    let mut all = vec![hidden.clone(), open.clone(), direct.clone()];
    all.sort();
    assert_eq!(found("").await, all);
    assert_eq!(found("q=FELT").await, [hidden.as_str()]);
    assert_eq!(found("q=whispers").await, super::NONE);
    assert_eq!(found("room_type=dm").await, [direct.as_str()]);
    assert_eq!(found("room_type=workspace").await.len(), 3);
    assert_eq!(found("room_type=workspace&q=felt").await, super::NONE);
    alice.post_nothing(&format!("/v1/rooms/{hidden}/archive")).await.ok();
    assert_eq!(found("state=archived").await, [hidden.as_str()]);
    assert_eq!(found("state=open&room_type=group").await, super::NONE);
    let page = admin.get("/v1/admin/rooms?limit=1&offset=2").await;
    assert_eq!(page.meta()["total"], 3);
    assert_eq!(page.list().len(), 1);
    let listed = admin.get(&format!("/v1/admin/rooms?q={open}")).await.list();
    assert_eq!((&listed[0]["is_public"], &listed[0]["members_count"]), (&json!(true), &json!(1)));
    admin.get(&format!("/v1/rooms/{hidden}")).await.no_such_room();
    admin.get("/v1/admin/rooms?room_type=incognito").await.invalid("room_type");
}

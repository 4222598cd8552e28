//! The record of what administrators and the command line did.

use serde_json::{Value, json};

use crate::client::{Caller, PASSWORD, server, text};

async fn audit(admin: &Caller, query: &str) -> Vec<Value> {
    admin.get(&format!("/v1/admin/audit?{query}")).await.list()
}

fn told(acts: &[Value]) -> Vec<(String, String)> {
    acts.iter().map(|act| (text(&act["action"]), text(&act["target"]))).collect()
}

#[tokio::test]
async fn every_act_is_written_down_with_who_did_it_newest_first() {
    let mut server = server().await;
    let (admin, bob) = (server.admin("root").await, server.account("bob").await);
    let app = admin.post("/v1/admin/app-tokens", json!({"name": "Shop"})).await.created();
    let token = admin.post("/v1/admin/registration-tokens", json!({"uses": 2})).await.created();
    admin.post("/v1/admin/participants", json!({"username": "carol", "password": PASSWORD})).await.created();
    admin.post_nothing("/v1/admin/participants/bob/disable").await.ok();
    admin.post_nothing("/v1/admin/participants/bob/disable").await.ok();
    admin.post_nothing("/v1/admin/participants/bob/enable").await.ok();
    admin.put("/v1/admin/participants/bob/password", json!({"password": "felt-secret"})).await.ok();
    admin.delete(&format!("/v1/admin/app-tokens/{}", text(&app["id"]))).await.ok();
    admin.delete(&format!("/v1/admin/registration-tokens/{}", text(&token["id"]))).await.ok();
    let room = admin.group("Tents").await;
    let job = text(&admin.delete(&format!("/v1/admin/rooms/{room}")).await.expect_status(202).data()["job_id"]);
    admin.awaits(&job).await;
    server.restart().await;

    let (root, carol) = (admin.id.clone(), bob.id.replace("bob", "carol"));
    let (app_id, token_id) = (text(&app["id"]), text(&token["id"]));
    let expected = [
        ("room.purge", &room),
        ("registration_token.delete", &token_id),
        ("app_token.delete", &app_id),
        ("participant.password", &bob.id),
        ("participant.enable", &bob.id),
        ("participant.disable", &bob.id),
        ("participant.create", &carol),
        ("registration_token.create", &token_id),
        ("app_token.create", &app_id),
    ];
    let expected: Vec<(String, String)> =
        expected.iter().map(|(action, target)| ((*action).to_owned(), (*target).clone())).collect();
    assert_eq!(told(&audit(&admin, &format!("actor={root}")).await), expected);
    let by_hand = told(&audit(&admin, "actor=command-line").await);
    assert_eq!(by_hand, [("participant.token".to_owned(), root.clone()), ("participant.create".to_owned(), root)]);
    let everything = admin.get("/v1/admin/audit?limit=200").await;
    assert_eq!(everything.meta()["total"], 11);
    let whole = String::from_utf8_lossy(&everything.body).into_owned();
    for secret in [PASSWORD, "felt-secret", &text(&app["access_token"]), &text(&token["token"])] {
        assert!(!whole.contains(secret), "{whole}");
    }
}

#[tokio::test]
async fn the_record_is_paged_and_searched() {
    let server = server().await;
    let admin = server.admin("root").await;
    server.accounts("tent", 2).await;
    for name in ["tent0", "tent1", "tent0"] {
        admin.post_nothing(&format!("/v1/admin/participants/{name}/disable")).await.ok();
        admin.post_nothing(&format!("/v1/admin/participants/{name}/enable")).await.ok();
    }
    let page = admin.get("/v1/admin/audit?limit=2&offset=1").await;
    assert_eq!(page.meta()["total"], 8);
    assert_eq!(told(&page.list())[0].0, "participant.disable");
    assert_eq!(audit(&admin, "action=participant.enable").await.len(), 3);
    let one = format!("action=participant.enable&target={}", admin.id.replace("root", "tent0"));
    assert_eq!(audit(&admin, &one).await.len(), 2);
    assert_eq!(audit(&admin, "action=participant").await.len(), 0);
    admin.get("/v1/admin/audit?who=root").await.invalid("who");
}

#[tokio::test]
async fn what_was_refused_is_not_written_down() {
    let server = server().await;
    let admin = server.admin("root").await;
    server.account("bob").await;
    let before = audit(&admin, "").await;
    admin
        .post("/v1/admin/participants", json!({"username": "bob", "password": PASSWORD}))
        .await
        .refused(409, "SW_NAME_TAKEN");
    admin.post_nothing("/v1/admin/participants/root/disable").await.invalid("participant_id");
    admin.delete(&format!("/v1/admin/rooms/{}", super::MISSING_ROOM)).await.no_such_room();
    assert_eq!(audit(&admin, "").await, before);
}

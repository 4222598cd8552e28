//! A tenant that nobody uses is closed, and nobody notices.

use std::time::Duration;

use serde_json::json;
use yurt::tenants::{IDLE_MAX, REOPEN_AFTER};

use crate::client::{Caller, LOOK_PAUSE, LOOKS_MAX, PASSWORD, Setup, TestServer, server, server_with, together};

const TWO: &str = "[[tenant]]\nname = \"second\"\nserver_name = \"other.test\"\n";

async fn account_at(server: &TestServer, host: &str, name: &str) -> Caller {
    let nameless = server.nameless().with_header("host", host);
    let session = nameless.post("/v1/auth/register", json!({"username": name, "password": PASSWORD})).await.created();
    server.caller(&session).with_header("host", host)
}

/// The names of the tenants that are open.
fn open(server: &TestServer) -> Vec<String> {
    let tenants = server.running().tenants().all();
    tenants.filter(|(_, actions)| actions.is_some()).map(|(config, _)| config.name.clone()).collect()
}

/// Has unused tenants closed until these are left: work beside the last request may take a moment to end.
async fn closes_all_but(server: &TestServer, left: &[&str]) {
    for _ in 0..LOOKS_MAX {
        server.running().tenants().close_idle().await;
        if open(server) == left {
            return;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    assert_eq!(open(server), left);
}

#[tokio::test]
async fn a_tenant_is_opened_by_its_first_request_and_closed_when_nobody_comes_any_more() {
    let server = server_with(Setup { more: TWO, ..Setup::default() }).await;
    assert_eq!(open(&server), [""; 0]);
    let here = account_at(&server, "yurt.test", "alice").await;
    let there = account_at(&server, "other.test", "bob").await;
    let room = there.group("Tents").await;
    there.says(&room, "hello").await;
    assert_eq!(open(&server), ["main", "second"]);
    server.advance(IDLE_MAX - Duration::from_secs(1));
    here.get("/v1/me").await.ok();
    server.running().tenants().close_idle().await;
    assert_eq!(open(&server), ["main", "second"], "not yet");
    server.advance(Duration::from_secs(2));
    closes_all_but(&server, &["main"]).await;
    assert_eq!(there.hears(&room).await, ["hello"]);
    assert_eq!(open(&server), ["main", "second"]);
}

#[tokio::test]
async fn no_request_is_lost_while_tenants_are_closed() {
    let server = server_with(Setup { more: TWO, ..Setup::default() }).await;
    let there = account_at(&server, "other.test", "bob").await;
    let room = there.group("Tents").await;
    for _ in 0..20 {
        server.advance(IDLE_MAX + Duration::from_secs(1));
        let sends = (0..4).map(|number| {
            let (there, room) = (there.clone(), room.clone());
            async move { there.tries_to_say(&room, &number.to_string()).await }
        });
        let (answers, ()) = tokio::join!(together(sends), server.running().tenants().close_idle());
        for answer in answers {
            answer.created();
        }
    }
    assert_eq!(there.hears(&room).await.len(), 80);
}

#[tokio::test]
async fn a_tenant_stays_open_while_somebody_holds_it_or_something_lives_in_memory_only() {
    let server = server_with(Setup { more: TWO, ..Setup::default() }).await;
    let here = account_at(&server, "yurt.test", "alice").await;
    let there = account_at(&server, "other.test", "bob").await;
    let room = there.creates(json!({"room_type": "incognito"})).await;
    here.get("/v1/me").await.ok();
    let held = server.actions().await;
    for (held, expected) in [(Some(held), vec!["main", "second"]), (None, vec!["second"])] {
        server.advance(IDLE_MAX + Duration::from_secs(1));
        closes_all_but(&server, &expected).await;
        drop(held);
    }
    there.sees(&room).await;
}

#[tokio::test]
async fn the_only_tenant_stays_open() {
    let server = server().await;
    server.advance(IDLE_MAX * 2);
    server.running().tenants().close_idle().await;
    assert_eq!(open(&server), ["main"]);
}

#[tokio::test]
async fn a_tenant_that_cannot_be_opened_is_tried_again_only_after_a_pause() {
    let server = server_with(Setup { more: TWO, ..Setup::default() }).await;
    let there = server.nameless().with_header("host", "other.test");
    let database = server.folder().join("tenants/second/db");
    std::fs::write(&database, "no database").unwrap();
    let register = async || there.post("/v1/auth/register", json!({"username": "bob", "password": PASSWORD})).await;
    assert!(server.running().tenants().named("second").expect("a tenant").actions().await.is_err());
    std::fs::remove_file(&database).unwrap();
    for waited in [Duration::ZERO, REOPEN_AFTER - Duration::from_millis(1)] {
        server.advance(waited);
        let refused = register().await;
        assert!(refused.headers.contains_key("retry-after"));
        refused.refused(503, "SW_BUSY");
        account_at(&server, "yurt.test", &format!("alice{}", waited.as_millis())).await;
    }
    server.advance(Duration::from_millis(1));
    register().await.created();
}

//! Where the dialects are found.

use serde_json::json;
use yurt::config::{Config, Tenant};

use super::through::Through;
use crate::client::{Setup, contract::Api, server, server_with};

#[tokio::test]
async fn a_dialect_is_off_until_the_configuration_switches_it_on() {
    let server = server().await;
    server.nameless().get("/api/rooms").await.refused(404, "SW_ROUTE_NOT_FOUND");
}

#[tokio::test]
async fn a_dialect_can_have_a_prefix() {
    let more = "[dialects.ryos]\nenabled = true\nprefix = \"/old/chat\"";
    let server = server_with(Setup { more, ..Setup::default() }).await;
    server.nameless().get("/api/rooms").await.refused(404, "SW_ROUTE_NOT_FOUND");
    let there = Through::new(server.nameless(), Api::Ryos).under("/old/chat");
    assert_eq!(there.get("/api/rooms?username=alice").await.expect_status(200).json(), json!({"rooms": []}));
    there.get("/api/rooms/%21a").await.expect_status(404);
    server.nameless().get("/healthz").await.ok();
}

#[tokio::test]
async fn a_dialect_can_have_hosts_of_its_own() {
    let more = "[dialects.ryos]\nenabled = true\nhosts = [\"chat.example\"]";
    let server = server_with(Setup { more, ..Setup::default() }).await;
    server.nameless().get("/api/rooms").await.refused(404, "SW_ROUTE_NOT_FOUND");
    for host in ["chat.example", "Chat.Example:8080"] {
        let there = Through::new(server.nameless(), Api::Ryos).with_header("Host", host);
        there.get("/api/rooms").await.expect_status(200);
        server.nameless().with_header("Host", host).get("/healthz").await.ok();
    }
}

#[test]
fn what_is_no_prefix_or_no_host_is_refused() {
    let mut config = Config { tenant: vec![Tenant::new("main", "a.example".try_into().unwrap())], ..Config::default() };
    config.check().unwrap();
    config.dialects.ryos.prefix = "chat".to_owned();
    let refused = config.check().unwrap_err().to_string();
    assert!(refused.starts_with("`dialects.ryos.prefix`: ") && refused.contains("/chat"), "{refused}");
    config.dialects.ryos.prefix = String::new();
    config.dialects.ryos.hosts = vec!["a b".to_owned()];
    let refused = config.check().unwrap_err().to_string();
    assert!(refused.starts_with("`dialects.ryos.hosts`: "), "{refused}");
}

#[tokio::test]
async fn all_dialects_are_found_at_once_and_none_takes_the_others_calls() {
    let more = "[dialects.ryos]\nenabled = true\n[dialects.virola]\nenabled = true\n[dialects.mirage]\nenabled = true\nprefix = \"/mirage\"\n[dialects.agora]\nenabled = true";
    let server = server_with(Setup { more, ..Setup::default() }).await;
    let nobody = server.nameless();
    Through::new(nobody.clone(), Api::Ryos).get("/api/rooms").await.expect_status(200);
    Through::new(nobody.clone(), Api::Virola).get("/api/v1/rooms").await.expect_status(401);
    let mirage = Through::new(nobody.clone(), Api::Mirage);
    mirage.post("/api/create_room", json!({})).await.expect_status(401);
    mirage.clone().under("/mirage").post("/api/create_room", json!({})).await.expect_status(401);
    mirage.under("/mirage").get("/api/rooms").await.expect_status(401);
    Through::new(nobody.clone(), Api::Agora).get("/yurt/main/chatrooms").await.expect_status(401);
    nobody.get("/v1/rooms/chatrooms").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    nobody.get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    nobody.get("/api/user_rooms").await.refused(404, "SW_ROUTE_NOT_FOUND");
}

#[tokio::test]
async fn a_path_of_two_dialects_stops_the_start() {
    let mut config = Config { tenant: vec![Tenant::new("main", "a.example".try_into().unwrap())], ..Config::default() };
    config.dialects.ryos.enabled = true;
    yurt::api::check(&config).unwrap();
    config.dialects.mirage.enabled = true;
    let refused = yurt::api::check(&config).unwrap_err().to_string();
    assert!(
        refused.starts_with("`dialects.mirage.prefix`: `GET /api/rooms` would be a call of `ryos` too"),
        "{refused}"
    );
    let started = yurt::server::start(config.clone(), std::sync::Arc::new(yurt::clock::Manual::default())).await;
    assert_eq!(started.err().expect("no server").to_string(), refused);
    config.dialects.mirage.prefix = "/mirage".to_owned();
    yurt::api::check(&config).unwrap();
    config.dialects.mirage.prefix = String::new();
    config.dialects.mirage.hosts = vec!["mirage.example".to_owned()];
    yurt::api::check(&config).unwrap();
    config.dialects.ryos.hosts = vec!["Mirage.example:80".to_owned()];
    assert!(yurt::api::check(&config).is_err());
}

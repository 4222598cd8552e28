//! Every request has an id, every answer says it, and the log tells of requests without telling what only members may know.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{answer, header, sent, until_closed};
use crate::{
    client::{Setup, server, server_with},
    process::{Home, Peer, segment},
};

#[tokio::test]
async fn every_answer_has_an_id_of_its_own_and_is_not_to_be_stored() {
    let server = server().await;
    let alice = server.account("alice").await;
    let answers = [
        alice.get("/v1/me").await.expect_status(200),
        alice.get("/v1/none").await.expect_status(404),
        alice.delete("/v1/me/profile/x").await.expect_status(404),
        alice.post_nothing("/healthz").await.expect_status(405),
        server.nameless().get("/v1/me").await.expect_status(401),
    ];
    let mut ids: Vec<&str> = answers.iter().map(|answer| answer.headers["x-request-id"].as_str()).collect();
    assert!(ids.iter().all(|id| id.len() == 20), "{ids:?}");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), answers.len());
    assert!(answers.iter().all(|answer| answer.headers["cache-control"] == "no-store"));
}

#[tokio::test]
async fn an_id_is_taken_over_only_from_a_trusted_proxy_and_only_if_it_is_one() {
    let (open, proxied) =
        (server().await, server_with(Setup { listen: "trusted_proxies = [\"127.0.0.1\"]", ..Setup::default() }).await);
    let long = "x".repeat(65);
    for (server, given, is_kept) in [
        (&open, "abc-1.2_Z", false),
        (&proxied, "abc-1.2_Z", true),
        (&proxied, "with space", false),
        (&proxied, "\u{fc}", false),
        (&proxied, "", false),
        (&proxied, long.as_str(), false),
    ] {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX-Request-Id: {given}\r\n\r\n");
        let received = answer(&mut sent(server, &request).await).await;
        assert_eq!(header(&received, "x-request-id") == Some(given), is_kept, "{given} {received}");
    }
}

#[tokio::test]
async fn a_failure_inside_says_the_id_and_nothing_of_its_cause() {
    let server = server().await;
    let alice = server.account("alice").await;
    server.actions().await.close().await.unwrap();
    let token = alice.token.as_deref().expect("a token");
    let request =
        format!("GET /v1/workspaces HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
    let answer = until_closed(&mut sent(&server, &request).await).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 500"), "{answer}");
    let error: Value = serde_json::from_str(body).unwrap();
    assert_eq!(error["error"]["code"], "SW_INTERNAL");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains(header(head, "x-request-id").unwrap()) && !message.contains("closed"), "{message}");
}

#[tokio::test]
async fn the_log_names_routes_and_people_but_no_secrets_and_no_paths() {
    let home = Home::new("");
    home.write_config("log.level = \"debug\"\nlog.format = \"json\"\n[[tenant]]\nserver_name = \"localhost\"\n");
    home.succeed(&["account", "create", "root", "--admin"]);
    let token = home.succeed(&["account", "token", "root"]);
    let log = home.path().join("log");
    let server = home.serve_logging(&log);
    let peer = Peer::new(&server, &token);
    let (_, room) = peer.post("/v1/rooms", &json!({"room_type": "incognito"})).await.unwrap();
    let room = room["data"]["id"].as_str().unwrap().to_owned();
    let message = json!({"body": "felt and wool"});
    assert_eq!(peer.post(&format!("/v1/rooms/{}/messages", segment(&room)), &message).await.unwrap().0, 201);
    server.stop(Signal::TERM);
    let log = fs::read_to_string(log).unwrap();
    let records: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("a record a line")).collect();
    let route = "/v1/rooms/{room_id}/messages";
    let record = records.iter().find(|record| record["span"]["route"] == route && record["status"] == 201);
    let record = record.unwrap_or_else(|| panic!("no record of the request in {log}"));
    assert_eq!(record["span"]["method"], "POST");
    assert_eq!((&record["span"]["tenant"], &record["span"]["user.id"]), (&json!("main"), &json!("@root:localhost")));
    assert!(record["duration_ms"].is_u64() && record["span"]["request.id"].is_string(), "{record}");
    for secret in [room.trim_start_matches('!'), token.as_str(), "felt and wool", "127.0.0.1:"] {
        let told = log.lines().find(|line| line.contains(secret) && !line.contains("Serving"));
        assert_eq!(told, None, "the log tells {secret}");
    }
}

#[tokio::test]
async fn pages_of_listed_origins_learn_what_they_may_do_and_for_how_long() {
    let more = "[cors]\norigins = [\"https://chat.example\"]";
    let server = server_with(Setup { more, ..Setup::default() }).await;
    let preflight = |origin: &str| {
        format!(
            "OPTIONS /v1/rooms HTTP/1.1\r\nHost: yurt.test\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: authorization\r\n\r\n"
        )
    };
    let listed = answer(&mut sent(&server, &preflight("https://chat.example")).await).await;
    assert_eq!(header(&listed, "access-control-allow-origin"), Some("https://chat.example"));
    assert_eq!(header(&listed, "access-control-allow-credentials"), Some("true"));
    assert_eq!(header(&listed, "access-control-max-age"), Some("86400"));
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
        assert!(header(&listed, "access-control-allow-methods").unwrap().contains(method), "{listed}");
    }
    let foreign = answer(&mut sent(&server, &preflight("https://evil.example")).await).await;
    assert_eq!(header(&foreign, "access-control-allow-origin"), None);
    let alice = server.account("alice").await;
    let answer = alice.with_header("origin", "https://chat.example").get("/v1/me").await.expect_status(200);
    for exposed in ["x-request-id", "retry-after"] {
        assert!(answer.headers["access-control-expose-headers"].contains(exposed));
    }
    assert!(answer.headers["vary"].to_lowercase().contains("origin"));
}

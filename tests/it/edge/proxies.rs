//! What a proxy says about a request counts if it is a trusted one, and then only what it can know.

use serde_json::json;

use crate::client::{PASSWORD, Setup, TestServer, server_with, text};

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]";

/// How many of five log-ins with this `X-Forwarded-For` are let through where each address has two.
async fn let_through(server: &TestServer, forwarded: &[&str]) -> usize {
    let mut count = 0;
    for number in 0..5 {
        let from = forwarded[number % forwarded.len()];
        let caller = server.nameless().with_header("x-forwarded-for", from);
        let body = json!({"username": format!("nobody{number}"), "password": "guess"});
        count += usize::from(caller.post("/v1/auth/login", body).await.status == 401);
    }
    count
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_address_has_its_own_rate() {
    let limits = "logins_burst = 2\nlogins_per_minute = 1";
    let server = server_with(Setup { limits, listen: TRUSTED, ..Setup::default() }).await;
    assert_eq!(let_through(&server, &["198.51.100.1"]).await, 2);
    assert_eq!(let_through(&server, &["198.51.100.2:4711"]).await, 2);
    assert_eq!(let_through(&server, &["2001:db8::1, 10.0.0.7", "[2001:db8::2]:4711", "2001:db8::3"]).await, 2);
    assert_eq!(
        let_through(&server, &["6.6.6.6, 198.51.100.3", "7.7.7.7, 198.51.100.3"]).await,
        2,
        "the left is a claim"
    );
}

#[tokio::test]
async fn who_is_no_proxy_cannot_choose_an_address() {
    let limits = "logins_burst = 2\nlogins_per_minute = 1";
    let server = server_with(Setup { limits, ..Setup::default() }).await;
    assert_eq!(let_through(&server, &["198.51.100.1", "198.51.100.2", "198.51.100.3"]).await, 2);
}

#[tokio::test]
async fn the_scheme_of_an_origin_is_the_one_that_the_proxy_saw() {
    for (listen, proto, origin, status) in [
        (TRUSTED, Some("https"), "https://chat.test", 201),
        (TRUSTED, Some("https"), "http://chat.test", 403),
        (TRUSTED, Some("http"), "http://chat.test", 201),
        (TRUSTED, None, "https://chat.test", 201),
        ("", Some("https"), "https://chat.test", 403),
        ("", Some("https"), "http://chat.test", 201),
    ] {
        let server = server_with(Setup { listen, ..Setup::default() }).await;
        let alice = server.account("alice").await;
        let mut browser = server.nameless().with_header("host", "chat.test").with_header("origin", origin);
        if let Some(proto) = proto {
            browser = browser.with_header("x-forwarded-proto", proto);
        }
        let token = alice.token.as_deref().expect("a token");
        let browser = browser.with_header("cookie", &format!("__Host-yurt={token}"));
        let answer = browser.post("/v1/workspaces", json!({"name": "Felt"})).await;
        assert_eq!(answer.status, status, "{listen} {proto:?} {origin}");
    }
}

#[tokio::test]
async fn the_standard_header_forwarded_is_never_read() {
    let more = "[[tenant]]\nname = \"second\"\nserver_name = \"other.test\"\n";
    let server = server_with(Setup { listen: TRUSTED, more, ..Setup::default() }).await;
    let caller =
        server.nameless().with_header("host", "yurt.test").with_header("forwarded", "host=other.test;for=6.6.6.6");
    let session = caller.post("/v1/auth/register", json!({"username": "bob", "password": PASSWORD})).await.created();
    assert_eq!(text(&session["participant_id"]), "@bob:yurt.test");
}

//! What every request goes through: paths and methods, signatures, policy, budgets, bodies.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use http::Method;
use serde_json::{Value, json};

use super::world::{Peer, US, World, parts, request};
use crate::{
    inbound::{Door, destination, table},
    policy::{Admission, Rules},
    quotas::{Budget, Quotas, Rate},
};

const EVENT: &str = "/_matrix/federation/v1/event/$e";

/// Paths and methods of `schemas/federation.openapi.yaml`, from its lines.
fn described() -> BTreeMap<&'static str, Vec<Method>> {
    let yaml = include_str!("../../../../schemas/federation.openapi.yaml");
    let lines = yaml.lines().skip_while(|line| *line != "paths:").take_while(|line| *line != "components:");
    let mut paths: BTreeMap<&str, Vec<Method>> = BTreeMap::new();
    let mut path = "";
    for line in lines {
        let key = line.trim().trim_end_matches(':');
        match line.len() - line.trim_start().len() {
            2 if key.starts_with('/') => path = key,
            4 => paths.entry(path).or_default().push(key.to_ascii_uppercase().parse().unwrap()),
            _ => {}
        }
    }
    paths
}

#[tokio::test]
async fn the_table_and_the_schema_say_the_same() {
    let described = described();
    let in_table: Vec<&str> = table(&Door::new(parts())).into_iter().map(|(path, _)| path).collect();
    assert_eq!(described.len(), in_table.len());
    let world = World::new().await;
    for (path, methods) in described {
        assert!(in_table.contains(&path), "{path}");
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let answer = world.plain(method.clone(), path.replace(['{', '}'], "x").as_str(), "{}").await;
            assert_eq!(answer.status == 405, !methods.contains(&method), "{method} {path}");
        }
    }
}

/// S2S 2 unknown path 404.
#[tokio::test]
async fn unknown_paths_are_404_and_unknown_methods_405_on_every_prefix() {
    let world = World::new().await;
    for path in [
        "/",
        "/_matrix",
        "/_matrix/federation/v1/nothing",
        "/_matrix/federation/v3/send/t",
        "/_matrix/key/v2/nothing",
        "/_matrix/key/v1/server",
        "/_matrix/media/v3/download/us.example/a",
        "/_matrix/policy/v1/sign",
        "/_matrix/federation/v1/query/unknown",
        "/_matrix/federation/v1/send_join/!r/$e",
        "/_matrix/federation/v1/event",
        "/_matrix/federation/v1/openid/userinfo",
        "/_matrix/federation/v1/3pid/onbind",
        "/_matrix/federation/v1/invite/!r/$e",
        "/_matrix/federation/v1/send_leave/!r/$e",
        "/_matrix/federation/v1/timestamp_to_event/!r",
    ] {
        for method in [Method::GET, Method::PUT] {
            let answer = world.plain(method, path, "").await;
            assert_eq!(answer.error(), (404, "M_UNRECOGNIZED".to_owned()), "{path}");
        }
    }
    for (method, path) in [
        (Method::GET, "/_matrix/federation/v1/send/t"),
        (Method::POST, "/_matrix/federation/v1/send/t/"),
        (Method::PUT, EVENT),
        (Method::DELETE, "/_matrix/federation/v2/invite/!r/$e"),
        (Method::OPTIONS, "/_matrix/federation/v1/query/profile"),
        (Method::POST, "/_matrix/key/v2/server"),
        (Method::PUT, "/_matrix/key/v2/query"),
        (Method::POST, "/_matrix/federation/v1/version"),
        (Method::POST, "/.well-known/matrix/server"),
    ] {
        let answer = world.plain(method, path, "").await;
        assert_eq!(answer.error(), (405, "M_UNRECOGNIZED".to_owned()), "{path}");
    }
}

/// S2S 5 a missing. S2S 5 verified before anything is done.
#[tokio::test]
async fn every_signed_request_refuses_who_does_not_sign() {
    let world = World::new().await;
    let room = "/!r:us.example";
    for (method, path) in [
        (Method::PUT, "v1/send/t".to_owned()),
        (Method::GET, "v1/event/$e".to_owned()),
        (Method::GET, format!("v1/state{room}?event_id=$e")),
        (Method::GET, format!("v1/state_ids{room}?event_id=$e")),
        (Method::GET, format!("v1/event_auth{room}/$e")),
        (Method::GET, format!("v1/backfill{room}?v=$e&limit=1")),
        (Method::POST, format!("v1/get_missing_events{room}")),
        (Method::GET, format!("v1/make_join{room}/@u:a.example?ver=12")),
        (Method::GET, format!("v1/make_leave{room}/@u:a.example")),
        (Method::GET, format!("v1/make_knock{room}/@u:a.example?ver=12")),
        (Method::PUT, format!("v2/send_join{room}/$e")),
        (Method::PUT, format!("v2/send_leave{room}/$e")),
        (Method::PUT, format!("v1/send_knock{room}/$e")),
        (Method::PUT, format!("v2/invite{room}/$e")),
        (Method::GET, "v1/query/directory?room_alias=%23a:us.example".to_owned()),
        (Method::GET, "v1/query/profile?user_id=@ann:us.example".to_owned()),
        (Method::GET, "v1/user/devices/@ann:us.example".to_owned()),
        (Method::POST, "v1/user/keys/query".to_owned()),
        (Method::GET, "v1/media/download/a".to_owned()),
        (Method::GET, "v1/media/thumbnail/a?width=1&height=1".to_owned()),
    ] {
        let answer = world.plain(method, &format!("/_matrix/federation/{path}"), "{}").await;
        assert_eq!(answer.error(), (401, "M_UNAUTHORIZED".to_owned()), "{path}");
    }
    assert_eq!(world.local.calls(), Vec::<String>::new());
    assert!(world.heard.lock().is_empty());
}

/// S2S 5 several headers. S2S 5 a missing.
#[tokio::test]
async fn only_a_good_signature_of_a_current_key_lets_in() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    let good = peer.sign(&Method::GET, EVENT, None);
    let send = async |target: &'static str, headers: &[&str]| {
        let headers: Vec<(&str, &str)> = headers.iter().map(|header| ("authorization", *header)).collect();
        world.send(request(Method::GET, target, "", &headers)).await
    };
    assert_eq!(send(EVENT, &[&good]).await.status, 200);
    assert!(world.heard.lock().contains("a.example"), "a proven request ends our back-off");
    assert_eq!(send(EVENT, &["Bearer abc", &good]).await.status, 200, "other schemes are passed over");

    let other_target = peer.sign(&Method::GET, "/_matrix/federation/v1/event/$other", None);
    let other_method = peer.sign(&Method::PUT, EVENT, None);
    let bad = [
        good.replace("origin=\"a.example\"", "origin=\"b.example\""),
        good.replace("ed25519:1", "ed25519:2"),
        good.replace("us.example", "other.example"),
        good.replace("origin=\"a.example\",", ""),
        good.replace("X-Matrix", "Bearer"),
        "X-Matrix".to_owned(),
        other_target,
        other_method,
        Peer::new("away.example").sign(&Method::GET, EVENT, None),
        Peer::new(US).sign(&Method::GET, EVENT, None),
    ];
    for header in &bad {
        assert_eq!(send(EVENT, &[header]).await.error(), (401, "M_UNAUTHORIZED".to_owned()), "{header}");
    }
    let of_another = Peer::new("b.example").sign(&Method::GET, EVENT, None);
    assert_eq!(send(EVENT, &[&good, &of_another]).await.status, 401, "two origins");
    let unknown_key = good.replace("ed25519:1", "ed25519:2");
    assert_eq!(send(EVENT, &[&good, &unknown_key]).await.status, 200, "a second key that nobody knows");
    assert_eq!(world.local.calls().len(), 3);
}

/// S2S 5 origin and destination.
#[tokio::test]
async fn a_request_for_another_server_asks_for_no_keys() {
    let world = World::new().await;
    let header = Peer::new("a.example").sign(&Method::GET, EVENT, None).replace("us.example", "other.example");
    let answer = world.send(request(Method::GET, EVENT, "", &[("authorization", &header)])).await;
    assert_eq!(answer.status, 401);
    assert_eq!(world.keys.0.load(Ordering::SeqCst), 0);
}

/// S2S 2 path parameters are decoded once.
#[tokio::test]
async fn the_target_is_verified_as_sent_and_decoded_once() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    for (target, asked) in [
        ("/_matrix/federation/v1/event/$a%2Fb%2Bc", "a.example event $a/b+c"),
        ("/_matrix/federation/v1/event/%24a%252Fb", "a.example event $a%2Fb"),
        ("/_matrix/federation/v1/event/$a+b", "a.example event $a+b"),
        ("/_matrix/federation/v1/event/$a/", "a.example event $a"),
        ("/_matrix/federation/v1/event/$a?x=%7e", "a.example event $a"),
    ] {
        assert_eq!(peer.get(&world, target).await.status, 200, "{target}");
        assert_eq!(world.local.calls().pop().unwrap(), asked);
    }
    for target in ["/_matrix/federation/v1/event/nodollar", "/_matrix/federation/v1/event/$%ff"] {
        assert_eq!(peer.get(&world, target).await.error(), (400, "M_INVALID_PARAM".to_owned()), "{target}");
    }
    let decoded = peer.sign(&Method::GET, "/_matrix/federation/v1/event/$a/b", None);
    let target = "/_matrix/federation/v1/event/$a%2Fb";
    let answer = world.send(request(Method::GET, target, "", &[("authorization", &decoded)])).await;
    assert_eq!(answer.status, 401, "the signature covers the target as it was sent");
}

#[tokio::test]
async fn the_policy_decides_before_keys_are_asked_for_and_changes_at_once() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    world.policy.set(Rules::new(Admission::Listed, ["b.example"], []).unwrap());
    assert_eq!(peer.get(&world, EVENT).await.error(), (403, "M_FORBIDDEN".to_owned()));
    assert_eq!(world.keys.0.load(Ordering::SeqCst), 0);
    assert_eq!(Peer::new("b.example").get(&world, EVENT).await.status, 200);
    world.policy.set(Rules::default());
    assert_eq!(peer.get(&world, EVENT).await.status, 200);
}

/// S2S 2 errors and 429.
#[tokio::test]
async fn a_hostile_peer_exhausts_its_own_budget() {
    let few = Rate { per_second: 1, burst: 10 };
    let budget = Budget { requests: few, ..Budget::default() };
    let world = World::with(|inbound| inbound.quotas = Quotas::new(budget)).await;
    let peer = Peer::new("a.example");
    for _ in 0..10 {
        assert_eq!(peer.get(&world, EVENT).await.status, 200);
    }
    let refused = peer.get(&world, EVENT).await;
    assert_eq!(refused.error(), (429, "M_LIMIT_EXCEEDED".to_owned()));
    assert_eq!(refused.headers["retry-after"], "1");
    assert!(refused.json()["retry_after_ms"].as_u64().unwrap() <= 1000);

    let forged = peer.sign(&Method::GET, EVENT, None).replace("a.example", "b.example");
    for _ in 0..20 {
        assert_eq!(world.send(request(Method::GET, EVENT, "", &[("authorization", &forged)])).await.status, 401);
    }
    assert_eq!(Peer::new("b.example").get(&world, EVENT).await.status, 200, "who is not proven spends nobody's budget");
}

/// Hard cases 52 and 53.
/// S2S 2 bodies are JSON objects. S2S 2 bodies are bounded before they are read whole.
/// S2S 5 verified before anything is done.
#[tokio::test]
async fn bodies_that_are_not_json_too_large_or_compressed_are_refused() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    let target = "/_matrix/federation/v1/send/t";
    let header = peer.sign(&Method::PUT, target, Some("{}"));
    let send = async |body: &str, extra: (&'static str, &'static str)| {
        world.send(request(Method::PUT, target, body, &[("authorization", &header), extra])).await.error()
    };
    let none = ("x-none", "");
    assert_eq!(send("{}", ("content-type", "multipart/form-data; boundary=b")).await, (415, "M_NOT_JSON".to_owned()));
    assert_eq!(send("{}", ("content-encoding", "gzip")).await, (415, "M_NOT_JSON".to_owned()));
    assert_eq!(send("not json", none).await, (400, "M_NOT_JSON".to_owned()));
    assert_eq!(send("{\"a\":1,\"a\":1}", none).await, (400, "M_NOT_JSON".to_owned()));
    assert_eq!(send("[]", none).await, (400, "M_BAD_JSON".to_owned()));
    assert_eq!(send("{\"pdus\":[]}", none).await.0, 401, "another body than the one that is signed");
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(crate::limits::REQUEST_BYTES_MAX));
    assert_eq!(send(&large, none).await, (413, "M_TOO_LARGE".to_owned()));
    let without = peer.sign(&Method::PUT, target, None);
    let answer = world.send(request(Method::PUT, target, "", &[("authorization", &without)])).await;
    assert_eq!(answer.error(), (400, "M_NOT_JSON".to_owned()), "a transaction has a body");
}

/// Hard case 36: the signature is checked on what Python based servers write, the numbers stay out of events.
/// S2S 5 the handler sees the value that was verified.
#[tokio::test]
async fn odd_numbers_do_not_break_the_signature() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    for (body, canonical) in [
        (r#"{"pdus":[],"origin_server_ts":-0}"#, r#"{"origin_server_ts":0,"pdus":[]}"#),
        (r#"{"pdus":[],"origin_server_ts":1.50}"#, r#"{"origin_server_ts":1.5,"pdus":[]}"#),
        (r#"{"pdus":[],"origin_server_ts":1E16}"#, r#"{"origin_server_ts":1e+16,"pdus":[]}"#),
        (
            r#"{"pdus":[],"origin_server_ts":18446744073709551616}"#,
            r#"{"origin_server_ts":18446744073709551616,"pdus":[]}"#,
        ),
        (r#"{ "pdus" : [], "edus": null, "b": "\u00e4\/" }"#, r#"{"b":"ä/","edus":null,"pdus":[]}"#),
    ] {
        let target = format!("/_matrix/federation/v1/send/{}", body.len());
        let answer = peer.send_text(&world, Method::PUT, &target, body, canonical).await;
        assert_eq!(answer.ok(), json!({ "pdus": {} }), "{body}");
    }
}

/// S2S 5 origin and destination.
#[test]
fn the_destination_picks_the_tenant() {
    let of = |headers: &[(&'static str, &str)], target: &str| {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        destination(&headers, &target.parse().unwrap()).map(|name| name.to_string())
    };
    let signed = r#"X-Matrix origin="a.example",destination="one.example:8448",key="ed25519:1",sig="c2ln""#;
    let old = r#"X-Matrix origin="a.example",key="ed25519:1",sig="c2ln""#;
    let host = ("host", "two.example");
    assert_eq!(of(&[("authorization", signed), host], "/").as_deref(), Some("one.example:8448"));
    assert_eq!(of(&[("authorization", old), host], "/").as_deref(), Some("two.example"));
    assert_eq!(of(&[host], "/").as_deref(), Some("two.example"));
    assert_eq!(of(&[], "https://three.example/x").as_deref(), Some("three.example"));
    assert_eq!(of(&[("host", "../etc")], "/"), None);
    assert_eq!(of(&[], "/"), None);
}

/// Hard case 63.
#[tokio::test]
async fn errors_never_repeat_what_was_sent() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    for target in [
        "/_matrix/federation/v1/event/%3Cscript%3E",
        "/_matrix/federation/v1/make_join/!r%0Aforged/@u:a.example",
        "/_matrix/federation/v1/backfill/!r?v=%3Cscript%3E&limit=1",
        "/_matrix/federation/v1/%3Cscript%3E",
    ] {
        let answer = peer.get(&world, target).await;
        assert!(answer.status == 400 || answer.status == 404 || answer.status == 200, "{target}");
        let text = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(!text.contains("script") && !text.contains("forged"), "{text}");
    }
    assert!(peer.get(&world, EVENT).await.json().get("errcode").is_none_or(Value::is_null));
}

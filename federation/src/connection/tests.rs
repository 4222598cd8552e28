//! Requests over real sockets and TLS on loopback, and what failing servers bring upon themselves. The clock is moved.

use http::HeaderMap;
use ruma::{server_name, user_id};
use serde_json::json;

use super::*;
use crate::testing::{Hands, Kept, Names, Seen, Web, ambient, connections, hands, scripted};

const LOOPBACK: &[&str] = &["127.0.0.0/8"];
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

fn names(hosts: &[&str]) -> Names {
    let address = |host: &&str| ((*host).to_owned(), vec!["127.0.0.1".parse().unwrap()]);
    Names { addresses: hosts.iter().map(address).collect(), ..Names::default() }
}

fn name(host: &str, port: u16) -> OwnedServerName {
    ServerName::parse(format!("{host}:{port}")).unwrap()
}

/// Requests of `us.test` to a server that answers `answer` to all.
async fn asked(web: &Web, server: &ServerName, exceptions: &[&str]) -> Result<Vec<u8>, FederationError> {
    let ambient = ambient(&hands());
    let discovery = web.discovery(names(&["a.test", "b.test"]), exceptions, ambient.clone());
    let connections = connections(discovery, Alone, &Arc::default(), ambient);
    connections.exchange(server, Call::get("/_matrix/x"), 1000).await
}

/// Hard case 53. S2S 2 HTTPS with a certificate for the right name. S2S 5 the header that we send.
#[tokio::test]
async fn a_request_goes_out_as_it_was_signed_with_the_right_names() {
    let web = Web::new();
    let (address, seen) = web.serve(&["a.test"], |_| OK.to_owned()).await;
    let server = name("a.test", address.port());
    let ambient = ambient(&hands());
    let discovery = web.discovery(names(&["a.test"]), LOOPBACK, ambient.clone());
    let connections = connections(discovery, Alone, &Arc::default(), ambient);
    let target = "/_matrix/federation/v1/x/%2F..%2e/a%20b/./$?q=%C3%A9&r='|";
    let content: CanonicalJsonObject = serde_json::from_value(json!({ "b": "é", "a": [1] })).unwrap();

    let answer = connections.exchange(&server, Call::with(Method::PUT, target, &content), 2).await.unwrap();

    assert_eq!(answer, b"{}");
    let seen: Seen = seen.lock().pop().unwrap();
    assert_eq!(seen.line, format!("PUT {target} HTTP/1.1"));
    assert_eq!(seen.header("host").unwrap(), server.as_str());
    assert_eq!(seen.header("content-type").unwrap(), "application/json");
    assert_eq!(seen.sni.as_deref(), Some("a.test"));
    assert_eq!(seen.header("accept-encoding"), None);
    let header = seen.header("authorization").unwrap();
    let headers = HeaderMap::from_iter([(AUTHORIZATION, header.try_into().unwrap())]);
    let signatures = request_signature::parse(&headers).unwrap();
    assert_eq!(signatures[0].origin, "us.test");
    let body: CanonicalJsonObject = serde_json::from_slice(&seen.body).unwrap();
    let key = SigningKey::new("1", &[7; 32]).unwrap().public_key();
    request_signature::verify(&signatures, "PUT", target, &server, Some(&body), &|_| Some(key)).unwrap();
}

/// S2S 2 HTTPS with a certificate for the right name.
#[tokio::test]
async fn a_server_named_by_its_address_gets_no_name_in_the_handshake() {
    let web = Web::new();
    let (address, seen) = web.serve(&["127.0.0.1"], |_| OK.to_owned()).await;
    asked(&web, &name("127.0.0.1", address.port()), LOOPBACK).await.unwrap();
    assert_eq!(seen.lock()[0].sni, None);
}

/// Hard case 59. S2S 3 the address that is connected to is checked.
#[tokio::test]
async fn nobody_connects_to_internal_addresses_whatever_leads_there() {
    let web = Web::new();
    let names = ["a.test", "127.0.0.1", "localhost", "x.localhost"];
    let (address, seen) = web.serve(&names, |_| OK.to_owned()).await;
    for host in names {
        let error = asked(&web, &name(host, address.port()), &["10.0.0.0/8"]).await.unwrap_err();
        assert_eq!(error, FederationError::InternalAddress, "{host}");
        asked(&web, &name(host, address.port()), LOOPBACK).await.unwrap();
    }
    assert_eq!(seen.lock().len(), names.len());
}

/// S2S 3 SRV and addresses: the next one when one does not answer.
#[tokio::test]
async fn an_address_that_does_not_answer_is_passed_over_for_the_next() {
    let web = Web::new();
    let (address, seen) = web.serve(&["a.test"], |_| OK.to_owned()).await;
    let addresses = ["::1", "127.0.0.2", "127.0.0.1"].map(|address| address.parse().unwrap()).to_vec();
    let names = Names { addresses: [("a.test".to_owned(), addresses)].into(), ..Names::default() };
    let ambient = ambient(&hands());
    let discovery = web.discovery(names, &["127.0.0.0/8", "::1/128"], ambient.clone());
    let connections = connections(discovery, Alone, &Arc::default(), ambient);
    connections.exchange(&name("a.test", address.port()), Call::get("/_matrix/x"), 2).await.unwrap();
    assert_eq!(seen.lock().len(), 1);
}

/// A DNS that answers something else each time.
struct Changing(Mutex<std::collections::VecDeque<std::net::IpAddr>>);

impl crate::discovery::dns::Resolver for Changing {
    fn addresses<'a>(&'a self, _: &'a str) -> crate::discovery::dns::LookingUp<'a, Vec<std::net::IpAddr>> {
        let next = self.0.lock().pop_front();
        Box::pin(async move { next.map(|address| vec![address]).ok_or(crate::discovery::dns::LookupError::NotFound) })
    }

    fn services<'a>(&'a self, _: &'a str) -> crate::discovery::dns::LookingUp<'a, Vec<crate::discovery::dns::Service>> {
        Box::pin(async { Err(crate::discovery::dns::LookupError::NotFound) })
    }
}

/// Hard case 59: a name that leads somewhere else the next time it is looked up.
#[tokio::test]
async fn a_name_that_changes_between_looks_leads_to_no_internal_address() {
    let web = Web::new();
    let (address, seen) = web.serve(&["a.test"], |_| OK.to_owned()).await;
    let ambient = ambient(&hands());
    let answers = ["127.0.0.2", "127.0.0.1", "127.0.0.2", "127.0.0.1"].map(|address| address.parse().unwrap());
    // Of the two only the other one may be connected to.
    let addresses = crate::addresses::Addresses::with_exceptions(vec!["127.0.0.2/32".parse().unwrap()]);
    let resolver = Arc::new(Changing(Mutex::new(answers.into())));
    let discovery = Discovery::new(addresses, &[web.pem()], resolver, ambient.clone()).unwrap();
    let connections = connections(discovery, Alone, &Arc::default(), ambient);
    for _ in 0..4 {
        connections.exchange(&name("a.test", address.port()), Call::get("/_matrix/x"), 2).await.unwrap_err();
        connections.heard_from(&name("a.test", address.port())).await.unwrap();
    }
    assert!(seen.lock().is_empty());
}

/// S2S 2: calls at a time to one server.
#[tokio::test]
async fn requests_to_one_server_at_the_same_time_are_bounded() {
    let (connections, _, _, _) = world(answer(200, "{}"));
    let destination = connections.loaded(peer()).await.unwrap();
    let mut turns = Vec::new();
    for _ in 0..crate::limits::REQUESTS_PER_SERVER_MAX {
        turns.push(destination.turn().await.unwrap());
    }
    let mut one_more = Box::pin(try_it(&connections));
    assert!(futures_util::poll!(&mut one_more).is_pending());
    assert!(connections.exchange(server_name!("other.test"), Call::get("/_matrix/x"), 2).await.is_ok(), "others go on");
    assert!(futures_util::poll!(&mut one_more).is_pending());
    turns.pop();
    one_more.await.unwrap();
}

/// S2S 2 HTTPS with a certificate for the right name.
#[tokio::test]
async fn a_certificate_for_another_name_is_no_certificate() {
    let (web, other) = (Web::new(), Web::new());
    let (address, seen) = web.serve(&["b.test"], |_| OK.to_owned()).await;
    let port = address.port();
    assert!(matches!(asked(&web, &name("a.test", port), LOOPBACK).await, Err(FederationError::NoConnection(_))));
    assert!(matches!(asked(&other, &name("b.test", port), LOOPBACK).await, Err(FederationError::NoConnection(_))));
    assert!(seen.lock().is_empty());
}

#[tokio::test]
async fn two_servers_of_one_host_never_share_a_connection() {
    let web = Web::new();
    let (one, seen_by_one) = web.serve(&["a.test"], |_| OK.to_owned()).await;
    let (two, seen_by_two) = web.serve(&["a.test"], |_| OK.to_owned()).await;
    let ambient = ambient(&hands());
    let discovery = web.discovery(names(&["a.test"]), LOOPBACK, ambient.clone());
    let connections = connections(discovery, Alone, &Arc::default(), ambient);
    for _ in 0..3 {
        for address in [one, two] {
            let server = name("a.test", address.port());
            connections.exchange(&server, Call::get("/_matrix/x"), 2).await.unwrap();
        }
    }
    for (address, seen) in [(one, seen_by_one), (two, seen_by_two)] {
        let hosts: Vec<_> = seen.lock().iter().map(|seen| seen.header("host").unwrap()).collect();
        assert_eq!(hosts, vec![name("a.test", address.port()).to_string(); 3]);
    }
}

/// Hard case 60. S2S 2 bodies are bounded before they are read whole. S2S 2 time-outs.
#[tokio::test]
async fn answers_that_are_too_large_late_or_of_two_lengths_are_errors() {
    let web = Web::new();
    let cases = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n".to_owned() + &"a".repeat(1001), FederationError::TooLarge),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".to_owned(), FederationError::TimedOut),
        (String::new(), FederationError::TimedOut),
    ];
    for (answer, error) in cases {
        let (address, _) = web.serve(&["a.test"], move |_| answer.clone()).await;
        assert_eq!(asked(&web, &name("a.test", address.port()), LOOPBACK).await.unwrap_err(), error);
    }
    let smuggled = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}";
    let (address, _) = web.serve(&["a.test"], move |_| smuggled.to_owned()).await;
    let error = asked(&web, &name("a.test", address.port()), LOOPBACK).await.unwrap_err();
    assert!(matches!(error, FederationError::Broken(_)), "{error:?}");
}

#[tokio::test]
async fn redirects_are_not_followed_and_errors_are_read() {
    let web = Web::new();
    let answer = "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n";
    let (address, seen) = web.serve(&["a.test"], move |_| answer.to_owned()).await;
    let error = asked(&web, &name("a.test", address.port()), LOOPBACK).await.unwrap_err();
    assert_eq!((error.status().unwrap().as_u16(), seen.lock().len()), (302, 1));
}

type World = (Arc<Connections<Kept>>, Arc<Hands>, Arc<Kept>, Arc<Mutex<Vec<Seen>>>);

/// Requests to a server in this process that answers with this status, and this body.
fn world(answer: Arc<Mutex<(u16, String)>>) -> World {
    let (hands, store) = (hands(), Arc::default());
    let peers = scripted(move |_| answer.lock().clone());
    let seen = Arc::clone(&peers.seen);
    let ambient = ambient(&hands);
    let discovery = Web::new().discovery(Names::default(), &[], ambient.clone());
    (connections(discovery, peers, &store, ambient), hands, store, seen)
}

fn answer(status: u16, text: &str) -> Arc<Mutex<(u16, String)>> {
    Arc::new(Mutex::new((status, text.to_owned())))
}

fn peer() -> &'static ServerName {
    server_name!("peer.test")
}

async fn try_it(connections: &Connections<Kept>) -> Result<Vec<u8>, FederationError> {
    connections.exchange(peer(), Call::get("/_matrix/x"), 1000).await
}

/// S2S 16 pauses that grow.
#[tokio::test]
async fn a_failing_server_is_left_alone_for_longer_and_longer_over_a_restart_too() {
    let (connections, hands, store, seen) = world(answer(502, ""));
    for _ in 0..12 * 60 * 60 {
        let _: Result<_, _> = try_it(&connections).await;
        hands.advance(Duration::from_secs(1));
    }
    let asked = seen.lock().len();
    assert!((12..=17).contains(&asked), "{asked}");
    let failures = store.back_off.lock()[peer()].failures;
    assert_eq!(usize::try_from(failures).unwrap(), asked);

    let ambient = ambient(&hands);
    let discovery = Web::new().discovery(Names::default(), &[], ambient.clone());
    let after_restart = crate::testing::connections(discovery, scripted(|_| (200, "{}".to_owned())), &store, ambient);
    assert!(matches!(try_it(&after_restart).await, Err(FederationError::LeftAlone { .. })));
}

/// S2S 16 pauses that grow.
#[tokio::test]
async fn who_asks_us_something_is_no_longer_left_alone() {
    let answers = answer(502, "");
    let (connections, hands, store, _) = world(Arc::clone(&answers));
    try_it(&connections).await.unwrap_err();
    *answers.lock() = (200, "{}".to_owned());
    assert!(matches!(try_it(&connections).await, Err(FederationError::LeftAlone { .. })));
    connections.heard_from(peer()).await.unwrap();
    try_it(&connections).await.unwrap();
    assert!(store.back_off.lock().is_empty());
    hands.advance(Duration::from_secs(1));
    let standing = connections.standing(peer()).await.unwrap();
    assert_eq!((standing.failures, standing.next_try), (0, None));
    assert!(standing.last_error.unwrap().1.contains("502"));
}

/// S2S 16 pauses that grow.
#[tokio::test]
async fn requests_that_fail_together_count_as_one_failure() {
    let (connections, _, store, _) = world(answer(503, ""));
    let _ = tokio::join!(try_it(&connections), try_it(&connections), try_it(&connections));
    assert_eq!(store.back_off.lock()[peer()].failures, 1);
}

/// S2S 16 what each status means.
#[tokio::test]
async fn a_refusal_is_no_failure_and_429_is_obeyed() {
    let answers = answer(403, r#"{"errcode":"M_FORBIDDEN","error":"no"}"#);
    let (connections, hands, _, seen) = world(Arc::clone(&answers));
    for _ in 0..3 {
        assert_eq!(try_it(&connections).await.unwrap_err().errcode(), Some("M_FORBIDDEN"));
    }
    *answers.lock() = (429, r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":5000}"#.to_owned());
    try_it(&connections).await.unwrap_err();
    hands.advance(Duration::from_secs(4));
    connections.heard_from(peer()).await.unwrap();
    assert!(matches!(try_it(&connections).await, Err(FederationError::LeftAlone { .. })));
    assert_eq!(seen.lock().len(), 4);
    hands.advance(Duration::from_secs(1));
    *answers.lock() = (200, "{}".to_owned());
    try_it(&connections).await.unwrap();
}

#[tokio::test]
async fn servers_of_this_process_get_the_same_signed_request() {
    let (connections, _, _, seen) = world(answer(200, r#"{"displayname":"Bob"}"#));
    let profile = connections.peer(peer()).profile(user_id!("@bob:peer.test")).await.unwrap();
    assert_eq!(profile["displayname"], "Bob");
    let seen = seen.lock().pop().unwrap();
    assert_eq!(seen.line, "GET /_matrix/federation/v1/query/profile?user_id=%40bob%3Apeer.test");
    assert_eq!(seen.header("host").unwrap(), "peer.test");
    assert!(seen.header("authorization").unwrap().starts_with("X-Matrix origin=\"us.test\",destination=\"peer.test\""));
}

#[tokio::test]
async fn a_target_that_would_be_changed_is_not_sent() {
    let (connections, _, _, seen) = world(answer(200, "{}"));
    for target in ["/_matrix/a#b", "/_matrix/a b", "_matrix", ""] {
        let error = connections.exchange(peer(), Call::get(target), 10).await.unwrap_err();
        assert!(matches!(error, FederationError::Unsendable(_)), "{target}: {error:?}");
    }
    assert!(seen.lock().is_empty());
}

//! The decisions of the specification, hermetic, and one whole way over sockets.

use std::net::IpAddr;

use ruma::server_name;
use serde_json::Value;

use super::*;
use crate::{
    discovery::dns::Service,
    testing::{Lots, Names, Web, ambient_with},
};

const VECTORS: &str = include_str!("../../fixtures/server-names.json");

struct Says(Option<OwnedServerName>);

impl well_known::Ask for Says {
    fn ask<'a>(&'a self, _: &'a str, _: ruma::MilliSecondsSinceUnixEpoch) -> well_known::Asking<'a> {
        let told = self.0.clone();
        Box::pin(async move {
            let day = std::time::Duration::from_secs(24 * 60 * 60);
            told.map_or(well_known::Told::Nothing, |server| well_known::Told::Delegated(server, day))
        })
    }
}

/// Every host of the vectors has an address of its own.
fn names(services: &Value) -> Names {
    let hosts = [("a.example", "198.51.100.1"), ("b.example", "198.51.100.2"), ("t.example", "198.51.100.3")];
    let addresses = hosts.map(|(host, address)| (host.to_owned(), vec![address.parse().unwrap()])).into();
    let services = services.as_object().into_iter().flatten().map(|(name, target)| {
        let (target, port) = target.as_str().unwrap().split_once(':').unwrap();
        let service = Service { priority: 0, weight: 0, port: port.parse().unwrap(), target: target.to_owned() };
        (name.clone(), vec![service])
    });
    Names { addresses, services: services.collect() }
}

fn discovery(names: Names, told: Option<OwnedServerName>) -> Discovery {
    let ambient = ambient_with(Lots::counted());
    let outside = Outside {
        dialler: Dialler::new(Addresses::default(), &[]).unwrap(),
        resolver: Arc::new(names),
        https_port: 443,
    };
    Discovery::over(outside, Box::new(Says(told)), ambient)
}

/// S2S 3 the order of decisions.
#[tokio::test]
async fn the_vectors_of_the_specification_lead_where_it_says() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let cases = vectors["resolution"].as_array().unwrap();
    assert!(cases.len() >= 8);
    for case in cases {
        let text = |name: &str| case[name].as_str().unwrap();
        let told = case["well_known"]["m.server"].as_str().map(|name| ServerName::parse(name).unwrap());
        let names = names(&case["srv"]);
        let (connect, port) = text("connect").rsplit_once(':').unwrap();
        let host = connect.trim_start_matches("A/AAAA(").trim_end_matches(')').trim_matches(['[', ']']);
        let address = host.parse::<IpAddr>().unwrap_or_else(|_| names.addresses[host][0]);

        let route = discovery(names, told).route(&ServerName::parse(text("server_name")).unwrap()).await.unwrap();

        assert_eq!(route.endpoints, [SocketAddr::new(address, port.parse().unwrap())], "{case}");
        assert_eq!(route.host_header, text("host_header"), "{case}");
        assert_eq!(route.certificate.to_str(), text("tls_name").split(' ').next().unwrap(), "{case}");
    }
}

/// S2S 3 SRV by priority and weight.
#[tokio::test]
async fn targets_that_lead_nowhere_do_not_hide_others_and_the_root_hides_all() {
    let service = |priority, target: &str| Service { priority, weight: 0, port: 9, target: target.to_owned() };
    let with = |services: Vec<Service>| {
        let name = "_matrix-fed._tcp.a.example".to_owned();
        discovery(Names { services: [(name, services)].into(), ..names(&Value::Null) }, None)
    };
    let server = server_name!("a.example");
    let route = with(vec![service(1, "gone.example"), service(2, "t.example")]).route(server).await.unwrap();
    assert_eq!(route.endpoints, ["198.51.100.3:9".parse().unwrap()]);
    assert_eq!(route.host_header, "a.example");
    for services in [vec![service(1, "")], vec![service(1, "gone.example")]] {
        assert!(matches!(with(services).route(server).await, Err(FederationError::NoAddress(_))));
    }
}

#[tokio::test]
async fn names_of_this_machine_are_looked_up_nowhere() {
    for host in ["localhost", "one.localhost"] {
        let route = discovery(Names::default(), None).route(&ServerName::parse(host).unwrap()).await.unwrap();
        assert_eq!(route.endpoints, ["127.0.0.1:8448".parse().unwrap(), "[::1]:8448".parse().unwrap()]);
        assert_eq!(route.host_header, host);
    }
}

/// A discovery that finds `.well-known` of all hosts of `.test` on this port.
fn over_sockets(web: &Web, port: u16, exceptions: &[&str]) -> Discovery {
    let ambient = ambient_with(Lots::counted());
    let hosts = ["a.test", "b.test", "c.test"];
    let addresses = hosts.map(|host| (host.to_owned(), vec!["127.0.0.1".parse().unwrap()])).into();
    let exceptions = exceptions.iter().map(|net| net.parse().unwrap()).collect();
    let dialler = Dialler::new(Addresses::with_exceptions(exceptions), &[web.pem()]).unwrap();
    let names = Names { addresses, ..Names::default() };
    let outside = Outside { dialler, resolver: Arc::new(names), https_port: port };
    Discovery::over(outside.clone(), Box::new(outside), ambient)
}

fn ok(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

/// Hard case 59. S2S 3 redirects are followed within bounds.
#[tokio::test]
async fn a_well_known_document_is_fetched_through_redirects() {
    let web = Web::new();
    let (address, seen) = web
        .serve(&["a.test", "b.test"], |seen| match (seen.header("host").unwrap().as_str(), seen.target()) {
            ("a.test", "/.well-known/matrix/server") => {
                "HTTP/1.1 301 Moved\r\nLocation: https://b.test/there\r\nContent-Length: 0\r\n\r\n".to_owned()
            }
            ("b.test", "/there") => ok(r#"{"m.server":"c.test:1234"}"#),
            _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        })
        .await;
    let discovery = over_sockets(&web, address.port(), &["127.0.0.0/8"]);
    let route = discovery.route(server_name!("a.test")).await.unwrap();
    assert_eq!(route.endpoints, ["127.0.0.1:1234".parse().unwrap()]);
    assert_eq!(route.host_header, "c.test:1234");
    assert_eq!(seen.lock().len(), 2);
    assert!(seen.lock().iter().all(|seen| seen.header("authorization").is_none()));

    // Without the exception nothing is asked, and nothing is delegated.
    let route = over_sockets(&web, address.port(), &[]).route(server_name!("a.test")).await.unwrap();
    assert_eq!(route.host_header, "a.test");
    assert_eq!(seen.lock().len(), 2);
}

/// Hard case 59. S2S 3 a bad well-known answer is none. S2S 3 redirects are followed within bounds.
#[tokio::test]
async fn a_bad_well_known_document_is_none() {
    let large = format!(r#"{{"m.server":"c.test","x":"{}"}}"#, "a".repeat(60_000));
    let answers = [
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        ok("no JSON"),
        ok(r#"["m.server"]"#),
        ok(r#"{"m.server":1}"#),
        ok(r#"{"m.server":"c.test:x"}"#),
        ok(&large),
        "HTTP/1.1 302 Found\r\nLocation: https://a.test/.well-known/matrix/server\r\nContent-Length: 0\r\n\r\n"
            .to_owned(),
        "HTTP/1.1 302 Found\r\nLocation: http://b.test/\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 302 Found\r\nLocation: https://10.0.0.1/\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ];
    for answer in answers {
        let (web, shown) = (Web::new(), answer.clone());
        let (address, _) = web.serve(&["a.test"], move |_| answer.clone()).await;
        let discovery = over_sockets(&web, address.port(), &["127.0.0.0/8"]);
        assert_eq!(discovery.found_under(server_name!("a.test")).await.0, "a.test", "{shown:.60}");
    }
}

/// S2S 3: delegation changes no name in signatures. Hard case 62.
#[tokio::test]
async fn a_delegated_server_is_still_signed_to_by_its_own_name() {
    let web = Web::new();
    let delegated = Arc::new(std::sync::OnceLock::<u16>::new());
    let port = Arc::clone(&delegated);
    let (address, seen) = web
        .serve(&["a.test", "b.test"], move |seen| match seen.target() {
            "/.well-known/matrix/server" => ok(&format!(r#"{{"m.server":"b.test:{}"}}"#, port.get().unwrap())),
            _ => ok("{}"),
        })
        .await;
    delegated.set(address.port()).unwrap();
    let discovery = over_sockets(&web, address.port(), &["127.0.0.0/8"]);
    let ambient = ambient_with(Lots::counted());
    let connections = crate::testing::connections(discovery, crate::connection::Alone, &Arc::default(), ambient);
    connections.exchange(server_name!("a.test"), crate::connection::Call::get("/_matrix/x"), 10).await.unwrap();
    let seen = seen.lock().pop().unwrap();
    assert_eq!(seen.header("host").unwrap(), format!("b.test:{}", address.port()));
    assert_eq!(seen.sni.as_deref(), Some("b.test"));
    let header = seen.header("authorization").unwrap();
    assert!(header.contains(r#"origin="us.test",destination="a.test""#), "{header}");
}

//! What two servers of ours say to each other, read on the way and held to the specification's schemas: requests, answers, events and news.

use std::{fs, path::Path, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    response::Response,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use parking_lot::Mutex;
use rules::{kind::RoomKind, permission::Membership};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use yurt::actions::{
    Actions, Caller,
    creation::{self, NewRoom},
    members, messages, personal, typing,
};

use super::{
    engines::caller,
    servers::{Authority, Server, eventually, free_port, trusting},
    specification,
};

/// A request and its answer.
struct Exchange {
    method: String,
    target: String,
    asked: Option<Value>,
    status: u16,
    answer: Value,
}

type Heard = Arc<Mutex<Vec<Exchange>>>;

/// A server that is reached only through something that listens.
struct Tapped {
    server: Server,
    heard: Heard,
}

impl Tapped {
    async fn new(authority: &Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, behind) = (listener.local_addr().unwrap().port(), free_port());
        let server = Server::behind(&format!("localhost:{port}"), behind, authority).await;
        let heard = Heard::default();
        tokio::spawn(listen(listener, acceptor(authority), router(authority, behind, Arc::clone(&heard))));
        Self { server, heard }
    }
}

fn acceptor(authority: &Authority) -> TlsAcceptor {
    let (certificate, key) = authority.certificate();
    let read = |file: &Path| fs::read(file).unwrap();
    let chain = CertificateDer::pem_slice_iter(&read(&certificate)).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(&read(&key)).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn listen(listener: TcpListener, acceptor: TlsAcceptor, router: Router) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(router.clone()));
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let connection = auto::Builder::new(TokioExecutor::new());
            connection.serve_connection(TokioIo::new(tls), service).await.ok();
        });
    }
}

/// Hands every request on as it is, and remembers it with its answer.
fn router(authority: &Authority, behind: u16, heard: Heard) -> Router {
    let client = trusting(&authority.file());
    Router::new().fallback(move |request: Request| {
        let (client, heard) = (client.clone(), Arc::clone(&heard));
        async move {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            let target = parts.uri.path_and_query().unwrap().to_string();
            let mut passed = client.request(parts.method.clone(), format!("https://localhost:{behind}{target}"));
            for name in ["authorization", "content-type", "host"] {
                passed = parts.headers.get(name).into_iter().fold(passed, |passed, value| passed.header(name, value));
            }
            let answer = passed.body(body.clone()).send().await.unwrap();
            let status = answer.status();
            let answer = answer.bytes().await.unwrap();
            heard.lock().push(Exchange {
                method: parts.method.to_string(),
                target,
                asked: (!body.is_empty()).then(|| serde_json::from_slice(&body).unwrap()),
                status: status.as_u16(),
                answer: serde_json::from_slice(&answer).unwrap(),
            });
            Response::builder()
                .status(status)
                .header("content-type", "application/json")
                .body(Body::from(answer))
                .unwrap()
        }
    })
}

/// What is wrong with an exchange.
fn faults(exchange: &Exchange, version: &str) -> Vec<String> {
    let Exchange { method, target, asked, status, answer } = exchange;
    let mut found = vec![
        specification::judge_request(method, target, asked.as_ref()),
        specification::judge(method, target, *status, answer),
    ];
    let said = |value: &Value, list: &str| value[list].as_array().cloned().unwrap_or_default();
    let asked = asked.as_ref().unwrap_or(&Value::Null);
    let lists = [(asked, "pdus"), (answer, "pdus"), (answer, "state"), (answer, "auth_chain"), (answer, "events")];
    let events = lists.into_iter().flat_map(|(value, list)| said(value, list));
    // The schema wants the id of the room in the event that gives it; its text does not.
    let events = events.filter(|event| !(version == "12" && event["type"] == "m.room.create"));
    found.extend(events.map(|event| specification::judge_pdu(version, &event)));
    found.extend(said(asked, "edus").iter().map(specification::judge_edu));
    let told = |fault: Result<(), String>| fault.err().map(|fault| format!("{method} {target} {status}: {fault}"));
    found.into_iter().filter_map(told).collect()
}

async fn say(actions: &Actions, who: &Caller, room: &str, body: &str) -> String {
    let message = messages::NewMessage {
        event_type: "m.room.message".to_owned(),
        content: json!({ "msgtype": "m.text", "body": body }),
        reply_to: None,
        transaction_id: None,
        fingerprint: [0; 32],
    };
    messages::send(actions, who, room, message).await.unwrap().event_id.to_string()
}

/// A public room is joined by its alias, talked in and left; to a group somebody is invited, who declines.
async fn together(ours: &Actions, theirs: &Actions, version: &str) {
    let (alice, bob) = (caller(ours, &format!("alice{version}")).await, caller(theirs, &format!("bob{version}")).await);
    let new = |kind| NewRoom {
        kind: Some(kind),
        name: Some(format!("Tents {version}")),
        version: Some(version.to_owned()),
        ..NewRoom::default()
    };
    let room_id = creation::create(ours, &alice, new(RoomKind::Public)).await.unwrap();
    let alias = ours.room(&room_id).view().await.unwrap().unwrap().summary.alias.clone().unwrap();
    let room = room_id.as_str();
    let joined = members::join(theirs, &bob, &alias, &[], None).await.unwrap();
    assert_eq!((joined.membership, &joined.room_id), (Membership::Join, &room_id));
    let hello = say(theirs, &bob, room, "hello").await;
    eventually("it arrives", async || personal::mark_read(ours, &alice, room, &hello).await.is_ok()).await;
    typing::set(ours, &alice, room, Some(5_000)).await.unwrap();
    say(ours, &alice, room, "come in").await;
    members::leave(theirs, &bob, room).await.unwrap();
    let group = creation::create(ours, &alice, new(RoomKind::Group)).await.unwrap();
    members::invite(ours, &alice, group.as_str(), &bob.user_id, None).await.unwrap();
    members::leave(theirs, &bob, group.as_str()).await.unwrap();
}

/// S2S 9 and 10: requests, answers, events and news of ours are those of the specification.
#[tokio::test]
async fn what_is_said_between_servers_is_what_the_specification_says() {
    for version in ["10", "11", "12"] {
        let authority = Authority::new();
        let (ours, theirs) = (Tapped::new(&authority).await, Tapped::new(&authority).await);
        Box::pin(together(&ours.server.actions().await, &theirs.server.actions().await, version)).await;
        let was_heard = |heard: &Heard, part: &str| heard.lock().iter().any(|exchange| exchange.target.contains(part));
        let has = |heard: &Heard, part: &str| {
            let heard = heard.lock();
            heard.iter().any(|exchange| exchange.asked.as_ref().is_some_and(|asked| asked.to_string().contains(part)))
        };
        eventually("both were told", async || {
            has(&theirs.heard, "come in")
                && has(&theirs.heard, "m.typing")
                && has(&theirs.heard, "m.receipt")
                && has(&ours.heard, "hello")
        })
        .await;
        let expected =
            ["query/directory", "make_join/", "send_join/", "make_leave/", "send_leave/", "/send/", "key/v2/server"];
        for part in expected {
            assert!(was_heard(&ours.heard, part), "{part} of {version}");
        }
        assert!(was_heard(&theirs.heard, "v2/invite/"), "version {version}");
        let heard = [ours.heard.lock(), theirs.heard.lock()];
        let faults: Vec<String> =
            heard.iter().flat_map(|heard| heard.iter()).flat_map(|one| faults(one, version)).collect();
        assert!(faults.is_empty(), "version {version}:\n{}", faults.join("\n"));
    }
}

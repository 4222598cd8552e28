//! A server that does just enough to be a peer: it has keys, joins rooms, says something and takes what it is sent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use axum::{Json, Router, body::Bytes, extract::State, routing};
use federation::{
    key_document::key_document,
    our_keys::{RetiredKeys, SigningKey, SigningKeys},
    request_signature,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rules::{
    RawPdu, UnixMs, Version,
    draft::{self, Around, Draft},
    format::{self, Caps},
    signature::Signer,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName,
    OwnedUserId, ServerName, UInt,
};
use serde_json::{Value, json, value::RawValue};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::home::Authority;

/// A server. Dropped, it is dead.
pub(crate) struct Peer {
    pub(crate) name: OwnedServerName,
    user_id: OwnedUserId,
    key: SigningKey,
    signer: Signer,
    client: reqwest::Client,
    received: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

/// A room that it is in, and how far its history goes for it.
#[derive(Clone)]
pub(crate) struct Membership {
    room_id: OwnedRoomId,
    auth_events: Vec<OwnedEventId>,
    last: OwnedEventId,
    depth: u64,
}

/// A request that only has to be sent.
pub(crate) struct Signed {
    method: reqwest::Method,
    url: String,
    authorization: reqwest::header::HeaderValue,
    body: Option<String>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Peer {
    pub(crate) async fn new(authority: &Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let name: OwnedServerName = format!("localhost:{port}").try_into().unwrap();
        let mut seed = [9; 32];
        seed[..2].copy_from_slice(&port.to_be_bytes());
        let key = SigningKey::new("1", &seed).unwrap();
        let signer = Signer::new(name.clone(), "1", &seed).unwrap();
        let received = Arc::new(AtomicUsize::new(0));
        let router = router(&name, &key, Arc::clone(&received));
        let acceptor = authority.acceptor();
        let serving = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = TowerToHyperService::new(router);
                    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tls), service).await.ok();
                });
            }
        });
        let user_id = format!("@rita:{name}").try_into().unwrap();
        Self { name, user_id, key, signer, client: authority.client(), received, serving }
    }

    /// Events that it was sent.
    pub(crate) fn received(&self) -> usize {
        self.received.load(Ordering::SeqCst)
    }

    fn signed(
        &self,
        to: &ServerName,
        method: reqwest::Method,
        target: &str,
        body: Option<&CanonicalJsonObject>,
    ) -> Signed {
        let authorization =
            request_signature::sign(&self.key, &self.name, to, method.as_str(), target, body).expect("a header");
        let body = body.map(rules::canonical::to_string);
        Signed { method, url: format!("https://{to}{target}"), authorization, body }
    }

    pub(crate) async fn ask(&self, request: Signed) -> Value {
        let mut asked =
            self.client.request(request.method, &request.url).header("Authorization", request.authorization);
        if let Some(body) = request.body {
            asked = asked.header("Content-Type", "application/json").body(body);
        }
        let answer = asked.send().await.unwrap();
        let (status, bytes) = (answer.status(), answer.bytes().await.unwrap());
        assert!(status.is_success(), "{}: {status}: {}", request.url, String::from_utf8_lossy(&bytes));
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Joins a room of a server.
    pub(crate) async fn join(&self, server: &ServerName, room_id: &OwnedRoomId) -> Membership {
        let target = format!("/_matrix/federation/v1/make_join/{room_id}/{}?ver=12", self.user_id);
        let template = self.ask(self.signed(server, reqwest::Method::GET, &target, None)).await;
        let ids = |field: &str| serde_json::from_value(template["event"][field].clone()).unwrap();
        let around = Around {
            room_id: Some(room_id),
            sender: &self.user_id,
            prev_events: ids("prev_events"),
            auth_events: ids("auth_events"),
            depth: template["event"]["depth"].as_u64().unwrap(),
            now: now(),
        };
        let depth = around.depth;
        let draft = Draft::member(&self.user_id, "join", CanonicalJsonObject::new());
        let join = draft::complete(draft, around, &version(), &self.signer).unwrap();
        let target = format!("/_matrix/federation/v2/send_join/{room_id}/{}", join.event_id());
        let body = serde_json::from_str(join.json()).unwrap();
        let answer = self.ask(self.signed(server, reqwest::Method::PUT, &target, Some(&body))).await;
        let is_levels = |event: &&Value| event["type"] == "m.room.power_levels";
        let levels = answer["state"].as_array().unwrap().iter().find(is_levels).map(event_id);
        let last = join.event_id().clone();
        Membership {
            room_id: room_id.clone(),
            auth_events: levels.into_iter().chain([last.clone()]).collect(),
            last,
            depth,
        }
    }

    /// So many messages, one behind the other, in transactions.
    pub(crate) fn messages(&self, server: &ServerName, in_room: &mut Membership, count: usize) -> Vec<Signed> {
        let draft = |number| {
            let body = format!("message {number} {}", "x".repeat(200));
            Draft::message("m.room.message", object(json!({ "msgtype": "m.text", "body": body })))
        };
        self.transactions(server, in_room, (0..count).map(draft))
    }

    /// So many changes of state, one behind the other, each of another key.
    pub(crate) fn changes(
        &self,
        server: &ServerName,
        in_room: &mut Membership,
        count: usize,
        value: &str,
    ) -> Vec<Signed> {
        let draft =
            |number: usize| Draft::state("org.example.note", number.to_string(), object(json!({ "is": value })));
        self.transactions(server, in_room, (0..count).map(draft))
    }

    /// A message behind both branches of a room's history.
    pub(crate) fn join_up(&self, server: &ServerName, one: &mut Membership, other: &Membership) -> Signed {
        let content = object(json!({ "msgtype": "m.text", "body": "here both meet" }));
        let both = vec![one.last.clone(), other.last.clone()];
        let event = self.event(one, Draft::message("m.room.message", content), both);
        self.transaction(server, one, vec![event])
    }

    fn transactions(
        &self,
        server: &ServerName,
        in_room: &mut Membership,
        drafts: impl Iterator<Item = Draft>,
    ) -> Vec<Signed> {
        const AT_A_TIME: usize = 50;
        let (mut requests, mut events) = (Vec::new(), Vec::new());
        for draft in drafts {
            let behind = vec![in_room.last.clone()];
            events.push(self.event(in_room, draft, behind));
            if events.len() == AT_A_TIME {
                requests.push(self.transaction(server, in_room, std::mem::take(&mut events)));
            }
        }
        if !events.is_empty() {
            requests.push(self.transaction(server, in_room, events));
        }
        requests
    }

    fn transaction(&self, server: &ServerName, in_room: &Membership, events: Vec<CanonicalJsonValue>) -> Signed {
        let body = CanonicalJsonObject::from([
            ("origin".to_owned(), CanonicalJsonValue::String(self.name.to_string())),
            ("origin_server_ts".to_owned(), CanonicalJsonValue::Integer(1.into())),
            ("pdus".to_owned(), CanonicalJsonValue::Array(events)),
        ]);
        let id = in_room.last.as_str().trim_start_matches('$');
        let target = format!("/_matrix/federation/v1/send/{id}");
        self.signed(server, reqwest::Method::PUT, &target, Some(&body))
    }

    fn event(&self, in_room: &mut Membership, draft: Draft, behind: Vec<OwnedEventId>) -> CanonicalJsonValue {
        in_room.depth += 1;
        let around = Around {
            room_id: Some(&in_room.room_id),
            sender: &self.user_id,
            prev_events: behind,
            auth_events: in_room.auth_events.clone(),
            depth: in_room.depth,
            now: now(),
        };
        let event = draft::complete(draft, around, &version(), &self.signer).unwrap();
        in_room.last = event.event_id().clone();
        serde_json::from_str(event.json()).unwrap()
    }
}

fn object(content: Value) -> CanonicalJsonObject {
    serde_json::from_value(content).unwrap()
}

fn router(name: &ServerName, key: &SigningKey, received: Arc<AtomicUsize>) -> Router {
    let UnixMs(now) = now();
    let until = MilliSecondsSinceUnixEpoch(UInt::try_from(now + 86_400_000).unwrap());
    let keys = key_document(name, &SigningKeys::one(key.clone()), &RetiredKeys::default(), until).unwrap();
    Router::new()
        .route("/_matrix/key/v2/server", routing::get(move || std::future::ready(Json(keys.clone()))))
        .route("/_matrix/federation/v1/send/{txn}", routing::put(take))
        .with_state(received)
}

async fn take(State(received): State<Arc<AtomicUsize>>, body: Bytes) -> Json<Value> {
    let transaction: Value = serde_json::from_slice(&body).unwrap();
    let events = transaction["pdus"].as_array().map_or(0, Vec::len);
    received.fetch_add(events, Ordering::SeqCst);
    Json(json!({ "pdus": {} }))
}

fn version() -> Version {
    Version::parse("12").unwrap()
}

fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UnixMs(u64::try_from(since.as_millis()).unwrap())
}

fn event_id(event: &Value) -> OwnedEventId {
    let raw = RawPdu(RawValue::from_string(event.to_string()).unwrap());
    format::parse(&raw, &version(), Caps::Lifted).unwrap().event_id().clone()
}

//! Another server that a test plays by hand, over real sockets and TLS: it publishes keys, signs what it asks, and answers what the test tells it to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use axum::{Router, body::Body, extract::Request, response::Response};
use federation::{
    key_document::key_document,
    our_keys::{RetiredKeys, SigningKey, SigningKeys},
    request_signature,
};
use http_body_util::BodyExt as _;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use parking_lot::Mutex;
use reqwest::Method;
use rules::{signature::Signer, version::Version};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedUserId, UserId,
    serde::{Base64, base64::Standard},
};
use rustls::{ServerConfig, crypto::ring, pki_types::pem::PemObject as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::servers::{Authority, Server, read, trusting};

/// A request that came to it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body: Value,
}

type Script = Box<dyn Fn(&Seen) -> Option<(u16, Value)> + Send + Sync>;

/// The server. It ends with the test.
pub(crate) struct Stranger {
    pub(crate) name: OwnedServerName,
    key: SigningKey,
    http: reqwest::Client,
    shared: Arc<Shared>,
}

struct Shared {
    name: OwnedServerName,
    keys: SigningKeys,
    withholds_keys: Mutex<bool>,
    script: Mutex<Option<Script>>,
    seen: Mutex<Vec<Seen>>,
}

impl Stranger {
    pub(crate) async fn new(authority: &Authority) -> Self {
        Self::with_key(authority, SigningKey::from_random(&rand_seed())).await
    }

    pub(crate) async fn with_key(authority: &Authority, key: SigningKey) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name: OwnedServerName = format!("localhost:{}", listener.local_addr().unwrap().port()).try_into().unwrap();
        let keys = SigningKeys::one(key.clone());
        let shared = Arc::new(Shared {
            name: name.clone(),
            keys,
            withholds_keys: Mutex::new(false),
            script: Mutex::default(),
            seen: Mutex::default(),
        });
        tokio::spawn(serve(listener, acceptor(authority), Arc::downgrade(&shared)));
        Self { name, key, http: trusting(&authority.file()), shared }
    }

    /// What it answers; none: 404, or its keys.
    pub(crate) fn answers(&self, script: impl Fn(&Seen) -> Option<(u16, Value)> + Send + Sync + 'static) {
        *self.shared.script.lock() = Some(Box::new(script));
    }

    /// The public half of its key, as base64.
    pub(crate) fn public_key(&self) -> String {
        Base64::<Standard, &[u8]>::new(&self.key.public_key()).encode()
    }

    /// It gives its keys no more.
    pub(crate) fn withhold_keys(&self) {
        *self.shared.withholds_keys.lock() = true;
    }

    /// What it was asked, keys apart.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().clone()
    }

    pub(crate) fn user(&self, name: &str) -> OwnedUserId {
        UserId::parse(format!("@{name}:{}", self.name)).unwrap()
    }

    /// Signs events as this server.
    pub(crate) fn signer(&self) -> Signer {
        Signer::new(self.name.clone(), self.key.version(), &self.key.seed()).unwrap()
    }

    /// Asks a server, signed.
    pub(crate) async fn get(&self, server: &Server, target: &str) -> (u16, Value) {
        self.ask(server, Method::GET, target, None).await
    }

    pub(crate) async fn put(&self, server: &Server, target: &str, body: &Value) -> (u16, Value) {
        self.ask(server, Method::PUT, target, Some(body)).await
    }

    pub(crate) async fn post(&self, server: &Server, target: &str, body: &Value) -> (u16, Value) {
        self.ask(server, Method::POST, target, Some(body)).await
    }

    async fn ask(&self, server: &Server, method: Method, target: &str, body: Option<&Value>) -> (u16, Value) {
        let content: Option<CanonicalJsonObject> = body.map(|body| serde_json::from_value(body.clone()).unwrap());
        let to = server.name();
        let header =
            request_signature::sign(&self.key, &self.name, to, method.as_str(), target, content.as_ref()).unwrap();
        let mut request = self.http.request(method, format!("https://{to}{target}")).header("Authorization", header);
        if let Some(content) = content {
            request = request.header("Content-Type", "application/json").body(serde_json::to_vec(&content).unwrap());
        }
        read(request.send().await.unwrap()).await
    }

    /// An event of this server, completed from a template: its id, and the event.
    pub(crate) fn completed(&self, version: &str, template: &Value) -> (String, Value) {
        let version = Version::parse(version).unwrap();
        let mut event: CanonicalJsonObject = serde_json::from_value(template.clone()).unwrap();
        event.remove("unsigned");
        let hash = rules::hash::content_hash_text(&event);
        event.insert("hashes".to_owned(), CanonicalJsonValue::try_from(json!({ "sha256": hash })).unwrap());
        self.signer().sign_event(&mut event, &version);
        let event_id = rules::hash::event_id(&event, &version).unwrap();
        (event_id.to_string(), serde_json::to_value(&event).unwrap())
    }

    /// What is answered to who asks for a template: `what` is join, knock or leave.
    pub(crate) async fn template(&self, server: &Server, what: &str, room_id: &str, user_id: &UserId) -> (u16, Value) {
        let versions = if what == "leave" { "" } else { "?ver=12&ver=11&ver=10" };
        let target = format!("{F1}/make_{what}/{}/{}{versions}", escaped(room_id), escaped(user_id.as_str()));
        self.get(server, &target).await
    }

    /// Does what a template is for: what is answered to the completed event, and its id.
    pub(crate) async fn enters(
        &self,
        server: &Server,
        what: &str,
        room_id: &str,
        (user_id, query): (&UserId, &str),
    ) -> (String, (u16, Value)) {
        let (status, template) = self.template(server, what, room_id, user_id).await;
        assert_eq!(status, 200, "{template}");
        let (event_id, event) = self.completed(template["room_version"].as_str().unwrap(), &template["event"]);
        let prefix = if what == "knock" { "/_matrix/federation/v1" } else { "/_matrix/federation/v2" };
        let target = format!("{prefix}/send_{what}/{}/{}{query}", escaped(room_id), escaped(&event_id));
        let answer = self.put(server, &target, &event).await;
        (event_id, answer)
    }
}

pub(crate) const F1: &str = "/_matrix/federation/v1";

/// A part of a path or a query.
pub(crate) fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn rand_seed() -> [u8; 32] {
    yurt::random::bytes(&yurt::random::System::default())
}

fn acceptor(authority: &Authority) -> TlsAcceptor {
    let (certificate, key) = authority.certificate();
    let (certificate, key) = (std::fs::read(certificate).unwrap(), std::fs::read(key).unwrap());
    let chain = rustls::pki_types::CertificateDer::pem_slice_iter(&certificate).map(Result::unwrap).collect();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(&key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Weak<Shared>) {
    while let Ok((tcp, _)) = listener.accept().await {
        if shared.strong_count() == 0 {
            return;
        }
        let (acceptor, shared) = (acceptor.clone(), Weak::clone(&shared));
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let router = Router::new().fallback(move |request: Request| answer(Weak::clone(&shared), request));
            let serving = TowerToHyperService::new(router);
            auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tls), serving).await.ok();
        });
    }
}

async fn answer(shared: Weak<Shared>, request: Request) -> Response {
    let Some(shared) = shared.upgrade() else { return json_answer(503, &json!({})) };
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let seen = Seen {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    if seen.target.starts_with("/_matrix/key/v2/server") {
        let until = MilliSecondsSinceUnixEpoch::now().0.saturating_add(86_400_000_u32.into());
        let document =
            key_document(&shared.name, &shared.keys, &RetiredKeys::default(), MilliSecondsSinceUnixEpoch(until))
                .unwrap();
        return match *shared.withholds_keys.lock() {
            true => json_answer(503, &json!({})),
            false => json_answer(200, &serde_json::to_value(&document).unwrap()),
        };
    }
    let told = shared.script.lock().as_ref().and_then(|script| script(&seen));
    shared.seen.lock().push(seen.clone());
    let (status, value) = told.unwrap_or_else(|| match seen.target.starts_with("/_matrix/federation/v1/send/") {
        true => (200, json!({ "pdus": BTreeMap::<String, Value>::new() })),
        false => (404, json!({ "errcode": "M_UNRECOGNIZED", "error": "unknown" })),
    });
    json_answer(status, &value)
}

fn json_answer(status: u16, value: &Value) -> Response {
    let answer = Response::builder().status(status).header("Content-Type", "application/json");
    answer.body(Body::from(value.to_string())).unwrap()
}

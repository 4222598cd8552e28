//! A running server and the peers that ask it.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use ruma::{CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedServerName, signatures::KeyPair as _};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::fake::{Fake, FakeKeys, FakeStore};
use crate::{
    inbound::{Inbound, OurServer, keys::OurKeys, router},
    our_keys::{RetiredKeys, SigningKey, SigningKeys, unpadded},
    policy::Policy,
    quotas::{Budget, Quotas},
};

pub(super) const US: &str = "us.example";
pub(super) const NOW: u32 = 1_700_000_000;

pub(super) fn us() -> OwnedServerName {
    US.try_into().unwrap()
}

fn now() -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(NOW.into())
}

pub(super) type Parts = Inbound<Fake, FakeStore, FakeKeys>;

/// What a server is made of.
pub(super) fn parts() -> Parts {
    let local = Fake { calls: Mutex::default(), slow: Semaphore::new(0), at_work: Default::default() };
    let signing = SigningKeys::parse(&format!("ed25519 a_1 {}", unpadded(&[9; 32]))).unwrap();
    Inbound {
        us: OurServer {
            name: us(),
            reached_at: Some("matrix.us.example:443".to_owned()),
            software: ("Yurt", "1.2.3"),
            now: Arc::new(now),
            random: Arc::new(|| 0xabc),
        },
        our_keys: OurKeys::new(signing, RetiredKeys::default()),
        local: Arc::new(local),
        store: Arc::default(),
        keys: Arc::default(),
        policy: Policy::default(),
        quotas: Quotas::new(Budget::default()),
        heard_from: Arc::new(|_origin| {}),
    }
}

/// A running server.
pub(super) struct World {
    pub(super) address: SocketAddr,
    pub(super) local: Arc<Fake>,
    pub(super) store: Arc<FakeStore>,
    pub(super) keys: Arc<FakeKeys>,
    pub(super) policy: Policy,
    pub(super) heard: Arc<Mutex<BTreeSet<String>>>,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Parts)) -> Self {
        let mut inbound = parts();
        let heard: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let hears = Arc::clone(&heard);
        inbound.heard_from = Arc::new(move |origin| {
            hears.lock().insert(origin.to_string());
        });
        change(&mut inbound);
        let (local, store, keys) = (Arc::clone(&inbound.local), Arc::clone(&inbound.store), Arc::clone(&inbound.keys));
        let policy = inbound.policy.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router(inbound)).await });
        Self { address, local, store, keys, policy, heard }
    }

    /// Sends a request and reads the answer.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let stream = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// Sends a request that is not signed.
    pub(super) async fn plain(&self, method: Method, target: &str, body: &str) -> Answer {
        self.send(request(method, target, body, &[])).await
    }
}

pub(super) fn request(method: Method, target: &str, body: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(target).header(header::HOST, US);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status and error code; the shape of every error is checked.
    pub(super) fn error(&self) -> (u16, String) {
        let body = self.json();
        assert!(body["error"].is_string(), "{body}");
        (self.status, body["errcode"].as_str().unwrap_or_default().to_owned())
    }

    pub(super) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }
}

/// Another server.
pub(super) struct Peer {
    pub(super) name: OwnedServerName,
    pub(super) key: SigningKey,
}

impl Peer {
    pub(super) fn new(name: &str) -> Self {
        let mut seed = [7; 32];
        for (place, byte) in seed.iter_mut().zip(name.bytes()) {
            *place = byte;
        }
        Self { name: name.try_into().unwrap(), key: SigningKey::new("1", &seed).unwrap() }
    }

    /// The header for a request whose body has this canonical text.
    pub(super) fn sign(&self, method: &Method, target: &str, canonical: Option<&str>) -> String {
        let content = canonical.map(|text| format!("\"content\":{text},")).unwrap_or_default();
        let name = &self.name;
        let object =
            format!(r#"{{{content}"destination":"{US}","method":"{method}","origin":"{name}","uri":"{target}"}}"#);
        let signature = unpadded(self.key.sign(object.as_bytes()).as_bytes());
        format!(r#"X-Matrix origin="{name}",destination="{US}",key="ed25519:1",sig="{signature}""#)
    }

    pub(super) async fn get(&self, world: &World, target: &str) -> Answer {
        let header = self.sign(&Method::GET, target, None);
        world.send(request(Method::GET, target, "", &[("authorization", &header)])).await
    }

    /// Sends a body, signed as canonical JSON.
    pub(super) async fn send(&self, world: &World, method: Method, target: &str, body: &Value) -> Answer {
        let text = body.to_string();
        let canonical = serde_json::to_string(&serde_json::from_str::<CanonicalJsonObject>(&text).unwrap()).unwrap();
        self.send_text(world, method, target, &text, &canonical).await
    }

    pub(super) async fn put(&self, world: &World, target: &str, body: &Value) -> Answer {
        self.send(world, Method::PUT, target, body).await
    }

    pub(super) async fn post(&self, world: &World, target: &str, body: &Value) -> Answer {
        self.send(world, Method::POST, target, body).await
    }

    /// Sends a body whose canonical text the caller knows.
    pub(super) async fn send_text(
        &self,
        world: &World,
        method: Method,
        target: &str,
        body: &str,
        canonical: &str,
    ) -> Answer {
        let header = self.sign(&method, target, Some(canonical));
        world.send(request(method, target, body, &[("authorization", &header)])).await
    }
}

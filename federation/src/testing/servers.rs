//! Other servers, as tests need them: in this process, or behind real sockets and TLS.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{Router, body::Body};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ruma::{OwnedServerName, OwnedServerSigningKeyId, ServerName};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    BackOff, KeyDocument, PeerStore, ServerKey, StorageUnavailable,
    addresses::Addresses,
    clock::Ambient,
    connection::{Connections, InProcess, Patience},
    discovery::{
        Discovery,
        dns::{LookingUp, LookupError, Resolver, Service},
    },
    our_keys::SigningKey,
};

/// A request as a server saw it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) sni: Option<String>,
}

impl Seen {
    pub(crate) fn header(&self, wanted: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case(wanted).then(|| value.to_owned())
        })
    }

    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }
}

/// A store in memory, that may fail.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) back_off: Mutex<HashMap<OwnedServerName, BackOff>>,
    pub(crate) keys: Mutex<HashMap<OwnedServerName, BTreeMap<OwnedServerSigningKeyId, ServerKey>>>,
    pub(crate) documents: Mutex<HashMap<OwnedServerName, KeyDocument>>,
}

impl PeerStore for Kept {
    async fn server_keys(
        &self,
        server: &ServerName,
    ) -> Result<BTreeMap<OwnedServerSigningKeyId, ServerKey>, StorageUnavailable> {
        Ok(self.keys.lock().get(server).cloned().unwrap_or_default())
    }

    async fn keep_server_keys(
        &self,
        server: &ServerName,
        keys: BTreeMap<OwnedServerSigningKeyId, ServerKey>,
    ) -> Result<(), StorageUnavailable> {
        self.keys.lock().entry(server.to_owned()).or_default().extend(keys);
        Ok(())
    }

    async fn key_document(&self, server: &ServerName) -> Result<Option<KeyDocument>, StorageUnavailable> {
        Ok(self.documents.lock().get(server).cloned())
    }

    async fn keep_key_document(&self, server: &ServerName, document: KeyDocument) -> Result<(), StorageUnavailable> {
        self.documents.lock().insert(server.to_owned(), document);
        Ok(())
    }

    async fn back_off(&self, peer: &ServerName) -> Result<Option<BackOff>, StorageUnavailable> {
        Ok(self.back_off.lock().get(peer).copied())
    }

    async fn keep_back_off(&self, peer: &ServerName, back_off: Option<BackOff>) -> Result<(), StorageUnavailable> {
        match back_off {
            Some(back_off) => self.back_off.lock().insert(peer.to_owned(), back_off),
            None => self.back_off.lock().remove(peer),
        };
        Ok(())
    }

    async fn answered(&self, _: &ServerName, _: &str) -> Result<Option<Box<RawValue>>, StorageUnavailable> {
        Ok(None)
    }

    async fn keep_answer(&self, _: &ServerName, _: &str, _: Box<RawValue>) -> Result<(), StorageUnavailable> {
        Ok(())
    }
}

/// A DNS of two tables.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) addresses: HashMap<String, Vec<IpAddr>>,
    pub(crate) services: HashMap<String, Vec<Service>>,
}

impl Resolver for Names {
    fn addresses<'a>(&'a self, host: &'a str) -> LookingUp<'a, Vec<IpAddr>> {
        Box::pin(async move { self.addresses.get(host).cloned().ok_or(LookupError::NotFound) })
    }

    fn services<'a>(&'a self, name: &'a str) -> LookingUp<'a, Vec<Service>> {
        Box::pin(async move { self.services.get(name).cloned().ok_or(LookupError::NotFound) })
    }
}

type Script = Arc<dyn Fn(&Seen) -> Response<Body> + Send + Sync>;

/// Servers in this process that answer as a script says, and remember what they were asked.
#[derive(Clone)]
pub(crate) struct Scripted {
    script: Script,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
}

pub(crate) fn scripted(script: impl Fn(&Seen) -> (u16, String) + Send + Sync + 'static) -> Scripted {
    let script: Script = Arc::new(move |seen| {
        let (status, text) = script(seen);
        Response::builder().status(status).body(Body::from(text)).unwrap()
    });
    Scripted { script, seen: Arc::default() }
}

impl Scripted {
    pub(crate) fn exactly(script: impl Fn(&Seen) -> Response<Body> + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), seen: Arc::default() }
    }
}

impl InProcess for Scripted {
    fn router(&self, _: &ServerName) -> Option<Router> {
        let this = self.clone();
        Some(Router::new().fallback(move |request: Request<Body>| async move {
            let (parts, body) = request.into_parts();
            let head = parts.headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
            let seen = Seen {
                line: format!("{} {}", parts.method, parts.uri),
                head: head.collect(),
                body: body.collect().await.unwrap().to_bytes().to_vec(),
                sni: None,
            };
            let answer = (this.script)(&seen);
            this.seen.lock().push(seen);
            answer
        }))
    }
}

/// Requests of `us.test`.
pub(crate) fn connections(
    discovery: Discovery,
    in_process: impl InProcess,
    store: &Arc<Kept>,
    ambient: Ambient,
) -> Arc<Connections<Kept>> {
    let own = ServerName::parse("us.test").unwrap();
    let patience = Patience { request: std::time::Duration::from_millis(500), ..Patience::default() };
    let key = SigningKey::new("1", &[7; 32]).unwrap();
    let store = Arc::clone(store);
    Arc::new(Connections::new(own, key, Arc::new(discovery), Arc::new(in_process), store, patience, ambient))
}

/// An authority and the servers that it gives certificates to.
pub(crate) struct Web {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Web {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub(crate) fn discovery(&self, names: Names, exceptions: &[&str], ambient: Ambient) -> Discovery {
        let exceptions = exceptions.iter().map(|net| net.parse().unwrap()).collect();
        let addresses = Addresses::with_exceptions(exceptions);
        Discovery::new(addresses, &[self.pem()], Arc::new(names), ambient).unwrap()
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.issuer.pem().into_bytes()
    }

    /// A server with a certificate for these names, on a port of 127.0.0.1. What the script gives is sent as it is.
    pub(crate) async fn serve(
        &self,
        names: &[&str],
        script: impl Fn(&Seen) -> String + Send + Sync + 'static,
    ) -> (SocketAddr, Arc<Mutex<Vec<Seen>>>) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (script, seen) = (Arc::new(script), Arc::new(Mutex::new(Vec::new())));
        let all_seen = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, script, seen) = (acceptor.clone(), Arc::clone(&script), Arc::clone(&all_seen));
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                    let sni = tls.get_ref().1.server_name().map(str::to_owned);
                    while let Some(request) = read(&mut tls).await {
                        let request = Seen { sni: sni.clone(), ..request };
                        let answer = script(&request);
                        seen.lock().push(request);
                        if tls.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (address, seen)
    }
}

async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<Seen> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.ok()?);
    }
    let text = String::from_utf8(text).unwrap();
    let (line, head) = text.split_once("\r\n").unwrap();
    let mut seen = Seen { line: line.to_owned(), head: head.to_owned(), ..Seen::default() };
    let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
    seen.body = vec![0; length];
    stream.read_exact(&mut seen.body).await.ok()?;
    Some(seen)
}

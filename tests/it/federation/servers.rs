//! Whole servers that reach each other on this machine: real sockets, TLS, certificates of one authority that all of them trust.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use tempfile::TempDir;
use yurt::{
    actions::Actions,
    clock,
    config::{Config, Tenant},
    server::{self, Engines, Running},
};

use crate::client::choose_cryptography;

/// How long something may take that other servers have a part in.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(30);
/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Waits until something is true.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut is_true: impl FnMut() -> F) {
    let started = Instant::now();
    while !is_true().await {
        assert!(started.elapsed() < WAIT_MAX, "after {WAIT_MAX:?} still not: {what}");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// A port on which nobody listens.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An authority, and a certificate of it for this machine.
pub(crate) struct Authority {
    folder: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let authority = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(authority.file(), issuer.pem()).unwrap();
        fs::write(authority.at("certificate.pem"), certificate.pem()).unwrap();
        fs::write(authority.at("certificate.key"), key.serialize_pem()).unwrap();
        authority
    }

    /// One of its files: `ca.pem`, `certificate.pem`, `certificate.key`.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The file that makes others trust it.
    pub(crate) fn file(&self) -> PathBuf {
        self.at("ca.pem")
    }
}

/// A client that trusts only this authority.
pub(crate) fn trusting(authority: &Path) -> reqwest::Client {
    choose_cryptography();
    let pem = fs::read(authority).unwrap();
    let root = reqwest::Certificate::from_pem(&pem).unwrap();
    reqwest::Client::builder().no_proxy().tls_certs_only([root]).timeout(WAIT_MAX).build().unwrap()
}

/// A server with a port of its own, which is part of its name.
pub(crate) struct Server {
    folder: TempDir,
    config: Config,
    running: Option<Running>,
}

impl Server {
    /// A server with a certificate of this authority.
    pub(crate) async fn new(authority: &Authority) -> Self {
        let mut config = Self::config(&[&format!("localhost:{}", free_port())]);
        config.federation.tls_certificate = authority.at("certificate.pem");
        config.federation.tls_key = authority.at("certificate.key");
        config.federation.ca_files = vec![authority.file()];
        Self::with(config).await
    }

    /// A configuration that other servers of this machine can be reached with. The port is that of the first name.
    pub(crate) fn config(names: &[&str]) -> Config {
        let mut config = Config::default();
        let port: u16 = names[0].rsplit(':').next().unwrap().parse().unwrap();
        config.listen.api = "127.0.0.1:0".parse().unwrap();
        config.listen.federation = ([127, 0, 0, 1], port).into();
        config.limits.enabled = false;
        config.federation.allow_addresses = vec!["127.0.0.0/8".parse().unwrap()];
        for (number, name) in names.iter().enumerate() {
            config.tenant.push(Tenant::new(&format!("t{number}"), (*name).try_into().unwrap()));
        }
        config
    }

    pub(crate) async fn with(mut config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        config.data_dir = folder.path().join("data");
        let mut server = Self { folder, config, running: None };
        server.start().await;
        server
    }

    pub(crate) async fn start(&mut self) {
        let started = server::start_on(self.config.clone(), Arc::new(clock::System), Engines::rocks().unwrap()).await;
        self.running = Some(started.unwrap());
    }

    pub(crate) async fn stop(&mut self) {
        self.running.take().unwrap().stop().await.unwrap();
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// The name of its first tenant.
    pub(crate) fn name(&self) -> &ruma::ServerName {
        &self.config.tenant[0].server_name
    }

    pub(crate) async fn actions(&self) -> Actions {
        self.actions_of("t0").await
    }

    pub(crate) async fn actions_of(&self, tenant: &str) -> Actions {
        self.running().tenants().named(tenant).unwrap().actions().await.unwrap()
    }

    /// The authority that it made for this machine.
    pub(crate) fn own_authority(&self) -> PathBuf {
        self.folder.path().join("data/development/ca.pem")
    }

    /// What it answers to anybody who asks for this path.
    pub(crate) async fn get(&self, authority: &Path, path: &str) -> (u16, Value) {
        let url = format!("https://{}{path}", self.name());
        let answer = trusting(authority).get(url).send().await.unwrap();
        read(answer).await
    }
}

/// Status and JSON of an answer.
pub(crate) async fn read(answer: reqwest::Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

//! Whole servers that reach each other on this machine: real sockets, TLS, certificates of one authority that all of them trust.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ::federation::our_keys::{SigningKey, SigningKeys};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rules::UnixMs;
use serde_json::{Value, json};
use tempfile::TempDir;
use yurt::{
    actions::{
        Actions,
        accounts::{self, NewAccount},
    },
    clock::{self, Clock},
    config::{Config, Registration, Tenant},
    data_folder::KeysOnDisk,
    server::{self, Engines, Running},
};

use crate::client::{Caller, PASSWORD, choose_cryptography, encoded, nameless_at, text};

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

    /// The files of its certificate for this machine, and of the key.
    pub(crate) fn certificate(&self) -> (PathBuf, PathBuf) {
        (self.at("certificate.pem"), self.at("certificate.key"))
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

/// The clock of the system, which can be set forward.
#[derive(Default)]
pub(crate) struct SetForward(AtomicU64);

impl Clock for SetForward {
    fn now(&self) -> UnixMs {
        UnixMs(clock::System.now().0 + self.0.load(Ordering::SeqCst))
    }
}

/// A server with a port of its own, which is part of its name.
pub(crate) struct Server {
    folder: TempDir,
    config: Config,
    clock: Arc<SetForward>,
    running: Option<Running>,
}

impl Server {
    /// A server with a certificate of this authority.
    pub(crate) async fn new(authority: &Authority) -> Self {
        Self::on("localhost", authority).await
    }

    /// The same under another name of this machine.
    pub(crate) async fn on(host: &str, authority: &Authority) -> Self {
        let port = free_port();
        Self::behind(&format!("{host}:{port}"), port, authority).await
    }

    /// A server of this name that listens on this port.
    pub(crate) async fn behind(name: &str, port: u16, authority: &Authority) -> Self {
        let mut config = Self::certified(Self::config(&[name]), authority);
        config.listen.federation.set_port(port);
        Self::with(config).await
    }

    /// The configuration of a server with a certificate of this authority.
    pub(crate) fn config_of(authority: &Authority) -> Config {
        Self::certified(Self::config(&[&format!("localhost:{}", free_port())]), authority)
    }

    /// A server with something otherwise than usual.
    pub(crate) async fn changed(authority: &Authority, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Self::config_of(authority);
        change(&mut config);
        Self::with(config).await
    }

    fn certified(mut config: Config, authority: &Authority) -> Config {
        config.federation.tls_certificate = authority.at("certificate.pem");
        config.federation.tls_key = authority.at("certificate.key");
        config.federation.ca_files = vec![authority.file()];
        config
    }

    /// A configuration that other servers of this machine can be reached with. The port is that of the first name.
    pub(crate) fn config(names: &[&str]) -> Config {
        let mut config = Config::default();
        let port: u16 = names[0].rsplit(':').next().unwrap().parse().unwrap();
        config.listen.api = "127.0.0.1:0".parse().unwrap();
        config.listen.federation = ([127, 0, 0, 1], port).into();
        config.limits.enabled = false;
        config.accounts.registration = Registration::Open;
        config.federation.allow_addresses = vec!["127.0.0.0/8".parse().unwrap()];
        for (number, name) in names.iter().enumerate() {
            config.tenant.push(Tenant::new(&format!("t{number}"), (*name).try_into().unwrap()));
        }
        config
    }

    pub(crate) async fn with(mut config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        config.data_dir = folder.path().join("data");
        let mut server = Self { folder, config, clock: Arc::default(), running: None };
        server.start().await;
        server
    }

    pub(crate) async fn start(&mut self) {
        let clock: Arc<dyn Clock> = Arc::<SetForward>::clone(&self.clock);
        let started = server::start_on(self.config.clone(), clock, Engines::rocks().unwrap()).await;
        self.running = Some(started.unwrap());
    }

    /// Leaves everything behind but its name and its key. It is stopped.
    pub(crate) fn takes_its_key_elsewhere(&mut self) {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        let key = |data_dir: &Path| data_dir.join("tenants/t0/signing.key");
        fs::create_dir_all(data_dir.join("tenants/t0")).unwrap();
        fs::copy(key(&self.config.data_dir), key(&data_dir)).unwrap();
        (self.folder, self.config.data_dir) = (folder, data_dir);
    }

    /// Sets its clock forward.
    pub(crate) fn advance(&self, by: Duration) {
        self.clock.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// What its first tenant signs with from the next start on, as `yurt key generate` does it.
    pub(crate) fn generate_key(&self) -> String {
        let key = SigningKey::from_random(&yurt::random::bytes(&yurt::random::System::default()));
        let keys = SigningKeys::one(key);
        KeysOnDisk::of(&self.config.data_dir, &self.config.tenant[0]).put_next(&keys).unwrap();
        keys.current().key_id()
    }

    /// The folder with its data folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
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

    /// A new account of its first tenant, logged in at its API. A restart of the server loses it.
    pub(crate) async fn account(&self, name: &str) -> Caller {
        let nameless = nameless_at(self.running().api());
        let session = nameless.post("/v1/auth/register", json!({ "username": name, "password": PASSWORD })).await;
        let session = session.created();
        nameless.with_token(&text(&session["access_token"])).named(&text(&session["participant_id"]))
    }

    /// An administrator of its first tenant, logged in at its API.
    pub(crate) async fn admin(&self, name: &str) -> Caller {
        let new = NewAccount {
            username: name.to_owned(),
            password: Some(PASSWORD.to_owned()),
            is_admin: true,
            ..NewAccount::default()
        };
        accounts::create(&self.actions().await, new).await.unwrap();
        let nameless = nameless_at(self.running().api());
        let session = nameless.post("/v1/auth/login", json!({ "username": name, "password": PASSWORD })).await.ok();
        nameless.with_token(&text(&session["access_token"])).named(&text(&session["participant_id"]))
    }

    pub(crate) async fn actions(&self) -> Actions {
        self.actions_of("t0").await
    }

    pub(crate) async fn actions_of(&self, tenant: &str) -> Actions {
        self.running().tenants().named(tenant).unwrap().actions().await.unwrap()
    }

    /// The key with which its first tenant signs.
    pub(crate) fn signing_key(&self) -> SigningKey {
        let file = self.folder.path().join("data/tenants/t0/signing.key");
        SigningKeys::parse(&fs::read_to_string(file).unwrap()).unwrap().current().clone()
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

/// Two servers on this machine, a room of the first in which both people are.
pub(crate) async fn together() -> (Authority, Server, Server, Caller, Caller, String) {
    let authority = Authority::new();
    let (ours, theirs) = (Server::new(&authority).await, Server::new(&authority).await);
    let (alice, bob) = (ours.account("alice").await, theirs.account("bob").await);
    let room = alice.public("Tents").await;
    let join = json!({ "via": [ours.name()] });
    bob.post(&format!("/v1/rooms/{}/join", encoded(&room)), join).await.ok();
    (authority, ours, theirs, alice, bob, room)
}

//! Folders of measured servers that other servers of this machine trust and reach, and their people.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::Value;
use tokio_rustls::TlsAcceptor;
use yurt::{
    actions::{
        Actions, Caller,
        accounts::{self, NewAccount},
        creation::{self, NewRoom},
        sessions,
    },
    config::Config,
    server,
};

use crate::program::Program;

/// An authority that all servers of the run trust, and a certificate of it for this machine.
pub(crate) struct Authority {
    folder: PathBuf,
}

impl Authority {
    pub(crate) fn new(folder: &Path) -> Self {
        let folder = folder.join("authority");
        fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        fs::write(folder.join("certificate.pem"), certificate.pem()).unwrap();
        fs::write(folder.join("certificate.key"), key.serialize_pem()).unwrap();
        Self { folder }
    }

    /// The authority of a folder that has its `ca.pem`, `certificate.pem` and `certificate.key`.
    pub(crate) fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(crate) fn client(&self) -> reqwest::Client {
        let root = reqwest::Certificate::from_pem(&fs::read(self.folder.join("ca.pem")).unwrap()).unwrap();
        reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap()
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let certificate = CertificateDer::from_pem_file(self.folder.join("certificate.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.folder.join("certificate.key")).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate], key).unwrap()))
    }
}

/// A port on which nobody listens.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The folder of a server, with one person who is an administrator.
pub(crate) struct Home {
    folder: PathBuf,
    config: Config,
    pub(crate) name: OwnedServerName,
    pub(crate) person: OwnedUserId,
    pub(crate) token: String,
}

impl Home {
    pub(crate) async fn new(folder: &Path, authority: &Authority) -> Self {
        let port = free_port();
        let name = format!("localhost:{port}");
        let folder = folder.join(&name);
        fs::create_dir_all(&folder).unwrap();
        let at = |file: &str| authority.folder.join(file).to_str().unwrap().to_owned();
        let (ca, certificate, key) = (at("ca.pem"), at("certificate.pem"), at("certificate.key"));
        let text = format!(
            r#"
            data_dir = "data"
            listen = {{ api = "127.0.0.1:0", federation = "127.0.0.1:{port}" }}
            limits = {{ enabled = false }}
            log = {{ level = "warn" }}
            [federation]
            allow_addresses = ["127.0.0.0/8"]
            ca_files = ["{ca}"]
            tls_certificate = "{certificate}"
            tls_key = "{key}"
            [[tenant]]
            server_name = "{name}"
            max_participants = 1000000
            "#
        );
        let file = folder.join("config.toml");
        fs::write(&file, text).unwrap();
        let mut config = Config::load(&file, []).expect("a configuration");
        config.data_dir = folder.join("data");
        let offline = server::open_offline(&config, &config.tenant[0]).await.expect("the folder opens");
        let new = NewAccount { username: "alice".to_owned(), is_admin: true, ..NewAccount::default() };
        let person = accounts::create(offline.actions(), new).await.expect("an account").user_id;
        let token = sessions::issue(offline.actions(), &person, "bench").await.expect("a token").token;
        offline.close().await.expect("the folder closes");
        Self { folder, config, name: name.try_into().unwrap(), person, token }
    }

    /// Works on the server while it does not run.
    pub(crate) async fn furnish<T>(&self, work: impl AsyncFnOnce(&Actions) -> T) -> T {
        let offline = server::open_offline(&self.config, &self.config.tenant[0]).await.expect("the folder opens");
        let done = work(offline.actions()).await;
        offline.close().await.expect("the folder closes");
        done
    }

    /// A public room of the person.
    pub(crate) async fn room(&self, actions: &Actions, name: &str) -> OwnedRoomId {
        let kind = Some(rules::kind::RoomKind::Public);
        let new = NewRoom { kind, name: Some(name.to_owned()), ..NewRoom::default() };
        creation::create(actions, &Caller::local(&self.person, false), new).await.expect("a room")
    }

    pub(crate) fn start(&self) -> Program {
        Program::start(&self.folder)
    }

    /// A call of the API.
    pub(crate) async fn call(&self, program: &Program, method: reqwest::Method, path: &str, body: Value) -> Value {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}/v1/{path}", program.address);
        let mut request = client.request(method.clone(), url).bearer_auth(&self.token);
        if method != reqwest::Method::GET {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).unwrap()
    }
}

/// Waits until something is true, and says how long that took.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_true: impl FnMut() -> F) -> Duration {
    const PATIENCE: Duration = Duration::from_secs(600);
    let started = Instant::now();
    while !is_true().await {
        assert!(started.elapsed() < PATIENCE, "after {PATIENCE:?} still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    started.elapsed()
}

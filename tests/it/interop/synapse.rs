//! A Synapse, the other server that most people run: started once for all tests, ended with the process of the tests. And the people who are at home there, who
//! talk to it through its client-server API.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, OnceLock},
};

use reqwest::Method;
use ruma::OwnedServerName;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{WAIT_MAX, eventually, relay::Relay};
use crate::{
    client::{PASSWORD, choose_cryptography, encoded, text},
    federation::servers::free_port,
};

/// Where the program is that starts one.
const LAUNCHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/synapse");
/// Events of one page of history.
const PAGE_EVENTS: usize = 50;
/// Scenarios that run at the same time.
pub(crate) const TURNS: u32 = 4;

/// The Synapse of this test run.
pub(crate) struct Synapse {
    pub(crate) name: OwnedServerName,
    folder: PathBuf,
    client_url: String,
    /// The way to it.
    pub(crate) relay: Arc<Relay>,
    /// Of the scenarios that run.
    pub(crate) turns: Semaphore,
    /// The authority that it trusts.
    pub(crate) authority: PathBuf,
    /// A certificate of the authority for this machine, and its key.
    pub(crate) certificate: (PathBuf, PathBuf),
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(format!("{LAUNCHER}/{program}")).args(arguments).output();
    let output = output
        .unwrap_or_else(|error| panic!("{LAUNCHER}/{program} does not start: {error}; it needs Python 3 and openssl"));
    assert!(
        output.status.success(),
        "Synapse, with which these tests talk, does not start:\n{}\nInstall it with `{LAUNCHER}/start --install-only` (Python 3.10 with venv, openssl, a \
         package index), or leave it out with YURT_TEST_PEER=none",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// None: `YURT_TEST_PEER=none` leaves it out, and that is said.
pub(crate) fn synapse() -> Option<&'static Synapse> {
    static SYNAPSE: OnceLock<Option<Synapse>> = OnceLock::new();
    let synapse = SYNAPSE.get_or_init(|| (std::env::var("YURT_TEST_PEER").as_deref() != Ok("none")).then(launch));
    if synapse.is_none() {
        writeln!(std::io::stdout(), "YURT_TEST_PEER=none: not tried together with Synapse").ok();
    }
    synapse.as_ref()
}

fn launch() -> Synapse {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("synapse");
    // What earlier runs left behind.
    for old in fs::read_dir(&base).into_iter().flatten().flatten() {
        let is_running = Path::new("/proc").join(old.file_name()).exists();
        if !is_running {
            fs::remove_dir_all(old.path()).ok();
        }
    }
    let process = std::process::id().to_string();
    let folder = base.join(&process);
    fs::create_dir_all(&folder).unwrap();
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (name_port, real_port) = (free_port(), free_port());
    let (name, port, client_port) = (format!("localhost:{name_port}"), real_port.to_string(), free_port().to_string());
    let (home, authorities) = (at("synapse"), at("ca"));
    let files = ["--dir", &home, "--ca-dir", &authorities];
    let ports = ["--server-name", &name, "--federation-port", &port, "--client-port", &client_port];
    let started = run("start", &[&files[..], &ports, &["--watch-pid", &process, "--catchup-seconds", "2"]].concat());
    let told: Value = serde_json::from_slice(&started.stdout).unwrap();
    let (certificate, key) = (at("certificate.pem"), at("key.pem"));
    let names = ["--name", "localhost", "--name", "127.0.0.1"];
    run("testca.py", &[&["--ca-dir", &authorities, "--cert", &certificate, "--key", &key][..], &names].concat());
    Synapse {
        name: name.try_into().unwrap(),
        folder: home.into(),
        client_url: text(&told["client_url"]).trim_end_matches('/').to_owned(),
        relay: Relay::between(name_port, real_port),
        turns: Semaphore::new(usize::try_from(TURNS).unwrap()),
        authority: text(&told["ca_cert"]).into(),
        certificate: (certificate.into(), key.into()),
    }
}

impl Synapse {
    /// A new account.
    pub(crate) async fn account(&'static self, name: &str) -> Person {
        let body = json!({ "username": name, "password": PASSWORD, "auth": { "type": "m.login.dummy" } });
        choose_cryptography();
        let http = reqwest::Client::builder().no_proxy().timeout(WAIT_MAX).build().unwrap();
        let nobody = Person { synapse: self, http, id: String::new(), token: String::new() };
        let told = nobody.post("register", body).await.unwrap();
        Person { id: text(&told["user_id"]), token: text(&told["access_token"]), ..nobody }
    }

    /// Everything that it holds of a room.
    pub(crate) async fn held(&'static self, room: &str) -> Vec<Value> {
        let room = room.to_owned();
        let asked = tokio::task::spawn_blocking(move || run("held", &[self.folder.to_str().unwrap(), &room]));
        serde_json::from_slice(&asked.await.unwrap().stdout).unwrap()
    }
}

/// Somebody who is logged in at the Synapse.
#[derive(Clone)]
pub(crate) struct Person {
    synapse: &'static Synapse,
    http: reqwest::Client,
    /// The full user id.
    pub(crate) id: String,
    token: String,
}

/// Status and body of a refusal.
pub(crate) type Refused = (u16, Value);

impl Person {
    /// Asks as a client does; the path is one below `/_matrix/`.
    async fn ask_bytes(&self, method: Method, path: &str, body: Option<(&str, Vec<u8>)>) -> Result<Vec<u8>, Refused> {
        let mut request = self.http.request(method, format!("{}/_matrix/{path}", self.synapse.client_url));
        if let Some((content_type, body)) = body {
            request = request.header("Content-Type", content_type).body(body);
        }
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap();
        if status == 200 { Ok(body.to_vec()) } else { Err((status, serde_json::from_slice(&body).unwrap())) }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Refused> {
        let body = body.map(|body| ("application/json", body.to_string().into_bytes()));
        let answer = self.ask_bytes(method, &format!("client/v3/{path}"), body).await?;
        Ok(serde_json::from_slice(&answer).unwrap())
    }

    /// Uploads a picture and answers its address.
    pub(crate) async fn uploads(&self, image: &[u8]) -> Result<String, Refused> {
        let body = Some(("image/png", image.to_vec()));
        let told = self.ask_bytes(Method::POST, "media/v3/upload", body).await?;
        Ok(text(&serde_json::from_slice::<Value>(&told).unwrap()["content_uri"]))
    }

    pub(crate) async fn downloads(&self, server: &str, id: &str) -> Result<Vec<u8>, Refused> {
        self.ask_bytes(Method::GET, &format!("client/v1/media/download/{server}/{id}"), None).await
    }

    pub(crate) async fn types(&self, room: &str, is_typing: bool) {
        let path = Self::of_room(room, &["typing", &self.id]);
        self.put(&path, json!({ "typing": is_typing, "timeout": 30_000 })).await.unwrap();
    }

    pub(crate) async fn has_read(&self, room: &str, event_id: &str) {
        self.post(&Self::of_room(room, &["receipt", "m.read", event_id]), json!({})).await.unwrap();
    }

    /// Syncs on until an answer has what is waited for.
    pub(crate) async fn syncs_until(&self, what: &str, mut is_there: impl FnMut(&Value) -> bool) {
        let mut since = String::new();
        eventually(what, async || {
            let synced = self.get(&format!("sync?timeout=100{since}")).await.unwrap();
            since = format!("&since={}", encoded(&text(&synced["next_batch"])));
            is_there(&synced)
        })
        .await;
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Refused> {
        self.ask(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Result<Value, Refused> {
        self.ask(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Result<Value, Refused> {
        self.ask(Method::PUT, path, Some(body)).await
    }

    /// A path below a room.
    pub(crate) fn of_room(room: &str, rest: &[&str]) -> String {
        let segments: Vec<String> = std::iter::once(&room).chain(rest).map(|segment| encoded(segment)).collect();
        format!("rooms/{}", segments.join("/"))
    }

    /// Sends an event that is no state, and answers its id.
    pub(crate) async fn sends(&self, room: &str, event_type: &str, content: Value) -> Result<String, Refused> {
        let transaction = super::unique("t");
        let sent = self.put(&Self::of_room(room, &["send", event_type, &transaction]), content).await?;
        Ok(text(&sent["event_id"]))
    }

    /// The whole timeline, newest first, over as many pages as it takes.
    pub(crate) async fn pages_back(&self, room: &str) -> Vec<Value> {
        let (mut events, mut from) = (Vec::new(), String::new());
        loop {
            let path = Self::of_room(room, &["messages"]);
            let page = self.get(&format!("{path}?dir=b&limit={PAGE_EVENTS}{from}")).await.unwrap();
            events.extend(page["chunk"].as_array().unwrap().iter().cloned());
            let Some(end) = page["end"].as_str() else { return events };
            from = format!("&from={}", encoded(end));
        }
    }
}

//! `server().await` is a whole server inside the test: the real backend in a folder of its own, real sockets, a clock that the test moves.
//! Its callers hold every answer to schemas/v1.openapi.yaml, so no test can pass on an answer outside the contract.
#![cfg(test)]

mod answer;
mod caller;
pub(crate) mod contract;
mod stream;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use rules::UnixMs;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use yurt::{
    actions::Actions,
    clock::{Clock as _, Manual},
    config::Config,
    control::{self, Answer as Answered, Command, Request},
    server::{Engines, Running, ServerError},
    storage::memory::MemoryEngine,
};

pub(crate) use answer::Answer;

pub(crate) use caller::{Caller, LOOK_PAUSE, LOOKS_MAX, Link, encoded, text};
pub(crate) use stream::{Ear, Heard, WAYS, Way};

/// The server name of the first tenant.
pub(crate) const SERVER_NAME: &str = "yurt.test";
/// What every account made by [`TestServer::account`] logs in with.
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// 2026-01-01T00:00:00.000Z, where each test's clock starts.
const START: UnixMs = UnixMs(1_767_225_600_000);

/// How long an answer may take before its test fails.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);

/// What a test wants otherwise than usual, as lines of config.toml.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// Of `[listen]`.
    pub(crate) listen: &'static str,
    /// Of the first tenant.
    pub(crate) tenant: &'static str,
    /// Of `[accounts]`.
    pub(crate) accounts: &'static str,
    /// Of `[limits]`.
    pub(crate) limits: &'static str,
    /// Of `[federation]`.
    pub(crate) federation: &'static str,
    /// Further sections and tenants.
    pub(crate) more: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            listen: "",
            tenant: "",
            accounts: "registration = \"open\"",
            limits: "enabled = false",
            federation: "enabled = false",
            more: "",
        }
    }
}

/// A server that lives as long as this value.
pub(crate) struct TestServer {
    folder: TempDir,
    setup: Setup,
    clock: Arc<Manual>,
    running: Option<Running>,
    link: Arc<Link>,
}

/// A server as most tests want it: one tenant, open registration, no limits of rate.
pub(crate) async fn server() -> TestServer {
    server_with(Setup::default()).await
}

/// A server of another name, to talk to others. It cannot be restarted.
pub(crate) async fn server_named(server_name: &str) -> TestServer {
    let (folder, setup) = (tempfile::tempdir().expect("a folder"), Setup::default());
    let clock = Arc::new(Manual::at(START));
    let running = try_start(&folder, &setup, &clock, server_name).await.expect("the server starts");
    let link = Link { http: http_client(), address: RwLock::new(running.api()) };
    TestServer { folder, setup, clock, running: Some(running), link: Arc::new(link) }
}

/// A server in another place that has the name and the keys of this one, and nothing else.
pub(crate) async fn server_with_keys_of(other: &TestServer) -> TestServer {
    let key = other.folder().join("tenants/main/signing.key");
    server_with_key(&std::fs::read_to_string(key).expect("the key is there")).await
}

/// A server that signs with this key.
pub(crate) async fn server_with_key(key: &str) -> TestServer {
    let (folder, setup) = (tempfile::tempdir().expect("a folder"), Setup::default());
    let tenant = folder.path().join("tenants/main");
    std::fs::create_dir_all(&tenant).expect("a folder");
    std::fs::write(tenant.join("signing.key"), key).expect("a file");
    let clock = Arc::new(Manual::at(START));
    let running = start(&folder, &setup, &clock).await;
    let link = Link { http: http_client(), address: RwLock::new(running.api()) };
    TestServer { folder, setup, clock, running: Some(running), link: Arc::new(link) }
}

/// A server with something otherwise than usual.
pub(crate) async fn server_with(setup: Setup) -> TestServer {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(Manual::at(START));
    let running = start(&folder, &setup, &clock).await;
    let link = Link { http: http_client(), address: RwLock::new(running.api()) };
    TestServer { folder, setup, clock, running: Some(running), link: Arc::new(link) }
}

async fn start(folder: &TempDir, setup: &Setup, clock: &Arc<Manual>) -> Running {
    try_start(folder, setup, clock, SERVER_NAME).await.expect("the server starts")
}

async fn try_start(
    folder: &TempDir,
    setup: &Setup,
    clock: &Arc<Manual>,
    server_name: &str,
) -> Result<Running, ServerError> {
    let Setup { listen, tenant, accounts, limits, federation, more } = setup;
    let text = format!(
        "data_dir = {data_dir:?}\n[listen]\napi = \"127.0.0.1:0\"\nfederation = \"127.0.0.1:0\"\n{listen}\n\
         [[tenant]]\nname = \"main\"\nserver_name = \"{server_name}\"\n{tenant}\n\
         [accounts]\n{accounts}\n[limits]\n{limits}\n[federation]\n{federation}\n{more}\n",
        data_dir = folder.path(),
    );
    let config: Config = toml::from_str(&text).expect("the configuration of the test is valid");
    yurt::server::start_on(config, Arc::<Manual>::clone(clock), engines(folder)).await
}

/// RocksDB, or with `YURT_TEST_STORE=memory` the strict memory engine, in which a commit can write to one home only. Either way a
/// server that starts again in the same folder finds what it had.
fn engines(folder: &TempDir) -> Engines {
    static IN_MEMORY: Mutex<BTreeMap<(PathBuf, String), MemoryEngine>> = Mutex::new(BTreeMap::new());
    if std::env::var("YURT_TEST_STORE").as_deref() != Ok("memory") {
        return Engines::rocks().expect("the engine");
    }
    let folder = folder.path().to_owned();
    Engines::StrictMemory(Arc::new(move |tenant| {
        let mut engines = IN_MEMORY.lock().expect("no test panics here");
        engines.entry((folder.clone(), tenant.to_owned())).or_insert_with(MemoryEngine::strict).reopened()
    }))
}

fn http_client() -> reqwest::Client {
    choose_cryptography();
    reqwest::Client::builder().no_proxy().timeout(ANSWER_WAIT_MAX).build().expect("an HTTP client")
}

/// Somebody without a token, at the API of a server that is not a [`TestServer`].
pub(crate) fn nameless_at(address: SocketAddr) -> Caller {
    let link = Arc::new(Link { http: http_client(), address: RwLock::new(address) });
    Caller { link, id: String::new(), token: None, headers: Vec::new() }
}

/// The HTTP client brings no cryptography of its own, and asks for some even where it needs none.
pub(crate) fn choose_cryptography() {
    // Another test may have been first.
    rustls::crypto::ring::default_provider().install_default().ok();
}

impl TestServer {
    /// The actions of the first tenant, for tests below the API.
    pub(crate) async fn actions(&self) -> Actions {
        let running = self.running.as_ref().expect("the server runs");
        running.tenants().named("main").expect("the first tenant").actions().await.expect("an open tenant")
    }

    /// A new account, logged in.
    pub(crate) async fn account(&self, name: &str) -> Caller {
        let body = json!({"username": name, "password": PASSWORD});
        let session = self.nameless().post("/v1/auth/register", body).await.created();
        self.caller(&session)
    }

    /// Several new accounts: `name0`, `name1`, …
    pub(crate) async fn accounts(&self, name: &str, count: usize) -> Vec<Caller> {
        let mut callers = Vec::with_capacity(count);
        for number in 0..count {
            callers.push(self.account(&format!("{name}{number}")).await);
        }
        callers
    }

    /// A new administrator, made as the command line does it.
    pub(crate) async fn admin(&self, name: &str) -> Caller {
        let command = Command::CreateAccount { username: name.to_owned(), password: None, is_admin: true };
        let Answered::Account { participant_id } = self.commands(command).await else { panic!("no account was made") };
        let command = Command::IssueToken { username: name.to_owned() };
        let Answered::Token { access_token } = self.commands(command).await else { panic!("no token was made") };
        Caller { id: participant_id, ..self.nameless().with_token(&access_token.0) }
    }

    /// Gives the first tenant a command as the command line does: through the socket in the data folder.
    pub(crate) async fn commands(&self, command: Command) -> Answered {
        let request = Request { tenant: "main".to_owned(), command };
        control::ask(self.folder.path(), &request).await.expect("the socket works").expect("the server listens to it")
    }

    /// Who a session belongs to.
    pub(crate) fn caller(&self, session: &Value) -> Caller {
        Caller { id: text(&session["participant_id"]), token: Some(text(&session["access_token"])), ..self.nameless() }
    }

    /// Somebody without a token.
    pub(crate) fn nameless(&self) -> Caller {
        Caller { link: Arc::clone(&self.link), id: String::new(), token: None, headers: Vec::new() }
    }

    /// Lets time pass.
    pub(crate) fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// The server's present time as the API writes it, moved by so many milliseconds.
    pub(crate) fn time(&self, later_ms: i64) -> String {
        rfc3339(i128::from(self.clock.now().0) + i128::from(later_ms))
    }

    /// Stops the server cleanly and starts it again on the same folder.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.restart_stopped().await;
    }

    /// Starts a stopped server again on the same folder.
    pub(crate) async fn restart_stopped(&mut self) {
        let running = start(&self.folder, &self.setup, &self.clock).await;
        *self.link.address.write().expect("nobody panics with the address") = running.api();
        self.running = Some(running);
    }

    /// Sends bytes that no HTTP client would: the head without its last empty line, and a body. The answer is judged like any other.
    pub(crate) async fn raw(&self, head: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address()).await.expect("the server listens");
        let request = [head.as_bytes(), b"\r\nConnection: close\r\n\r\n", body].concat();
        stream.write_all(&request).await.expect("the server reads");
        let mut received = Vec::new();
        let reading = stream.read_to_end(&mut received);
        let read = tokio::time::timeout(ANSWER_WAIT_MAX, reading).await;
        let read = read.unwrap_or_else(|_| panic!("no answer within {ANSWER_WAIT_MAX:?} to {head}"));
        read.expect("the server answers and closes");
        let mut words = head.split_ascii_whitespace();
        let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
        let (status, headers, body) = parted(&received);
        Answer::judged(method, target, status, headers, body)
    }

    /// A GET whose target is not touched by any URL parser.
    pub(crate) async fn raw_get(&self, caller: &Caller, target: &str) -> Answer {
        let token = caller.token.as_deref().expect("the caller has a token");
        self.raw(&format!("GET {target} HTTP/1.1\r\nHost: {SERVER_NAME}\r\nAuthorization: Bearer {token}"), b"").await
    }

    /// Scheme, host and port of the server, as a browser names an origin.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Everything that the server wrote to its folder, file by file. It must not run.
    pub(crate) fn written(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let entry = entry.expect("an entry");
                let kind = entry.file_type().expect("a kind");
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    files.push((entry.path(), std::fs::read(entry.path()).expect("a readable file")));
                }
            }
        }
        files
    }

    /// Where the server keeps everything.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Tries to start a stopped server on the same folder under another server name.
    pub(crate) async fn start_as(&mut self, server_name: &str) -> Result<(), ServerError> {
        self.running = Some(try_start(&self.folder, &self.setup, &self.clock, server_name).await?);
        Ok(())
    }

    /// Stops the server cleanly and leaves it down.
    pub(crate) async fn stop(&mut self) {
        self.running.take().expect("the server runs").stop().await.expect("the server stops cleanly");
    }

    /// The server itself.
    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().expect("the server runs")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        *self.link.address.read().expect("nobody panics with the address")
    }
}

/// Runs requests at the same time and answers what came, in the order of the requests.
pub(crate) async fn together<Asking>(requests: impl IntoIterator<Item = Asking>) -> Vec<Answer>
where
    Asking: Future<Output = Answer> + Send + 'static,
{
    let tasks: Vec<_> = requests.into_iter().map(tokio::spawn).collect();
    let mut answers = Vec::with_capacity(tasks.len());
    for task in tasks {
        answers.push(task.await.expect("a request ends"));
    }
    answers
}

/// A PNG of so many pixels, another one for each size.
pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    let image =
        image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x, y, x + y].map(|part| part.to_le_bytes()[0])));
    let mut written = std::io::Cursor::new(Vec::new());
    image.write_to(&mut written, image::ImageFormat::Png).expect("an image is written");
    written.into_inner()
}

/// Status, headers and body of a response with a `Content-Length` or an end of the connection.
fn parted(received: &[u8]) -> (u16, BTreeMap<String, String>, Vec<u8>) {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let mut lines = head.lines();
    let status_line = lines.next().expect("a status line");
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    (status, headers, received[end + 4..].to_vec())
}

fn rfc3339(unix_ms: i128) -> String {
    const FORMAT: &[time::format_description::BorrowedFormatItem<'_>] =
        time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let nanoseconds = unix_ms * 1_000_000;
    let moment = time::OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).expect("a time within range");
    moment.format(FORMAT).expect("the format is complete")
}

//! A whole server in this process, in memory, for the target `requests` and for making seeds.

pub mod seeds;

use std::sync::Arc;

use axum::{Router, body::Body, http::{Request, StatusCode, header}};
use http_body_util::BodyExt as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rules::UnixMs;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;
use yurt::{
    api::Given,
    clock::Manual,
    config::Config,
    control::run::run,
    control::{Answer, Command},
    random::Seeded,
    server::{self, Engines, Running},
    storage::{
        Direction, Engine as _, Limit, Profile,
        engine::{RowPage, RowRange},
        memory::MemoryEngine,
    },
};

const CONFIG: &str = "listen.api = \"127.0.0.1:0\"\nfederation.enabled = false\nlimits.enabled = false\n[[tenant]]\nserver_name = \"localhost\"\n";

/// 2026-01-01T00:00:00.000Z.
const START: UnixMs = UnixMs(1_767_225_600_000);

/// Rows of one profile that [`World::rows`] gives.
const ROWS_MAX: usize = 1_000;

/// What may stand in a path or a body for the thing that this world has: the fuzzer need not guess ids.
const NAMES: [&str; 6] = ["ROOM", "DIRECT", "PUBLIC", "EVENT", "WORKSPACE", "ALIAS"];

/// Calls that run argon2, which is slow on purpose, or never end.
const LEFT_OUT: [&str; 3] = ["/auth/", "password", "/stream"];

/// A server with an administrator, two users and their rooms.
pub struct World {
    runtime: Runtime,
    router: Router,
    engine: MemoryEngine,
    routes: Vec<(&'static str, &'static str)>,
    /// Of Alice, Bob and the administrator.
    tokens: Vec<String>,
    known: Vec<(&'static str, String)>,
    running: Option<Running>,
    _folder: TempDir,
}

impl World {
    /// A new one; always the same but for random ids.
    pub fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let mut config: Config = toml::from_str(CONFIG).expect("a configuration");
        config.data_dir = folder.path().to_owned();
        let engine = MemoryEngine::strict();
        let shared = engine.reopened();
        let engines = Engines::StrictMemory(Arc::new(move |_tenant| shared.reopened()));
        let (router, running, tokens) = runtime.block_on(async {
            let running = server::start_on(config.clone(), Arc::new(Manual::at(START)), engines).await.expect("a server");
            let tenants = running.tenants().clone();
            let actions = tenants.named("main").expect("the tenant").actions().await.expect("its actions");
            let mut tokens = Vec::new();
            for (name, is_admin) in [("alice", false), ("bob", false), ("root", true)] {
                run(&actions, Command::CreateAccount { username: name.to_owned(), password: None, is_admin }).await;
                let issued = run(&actions, Command::IssueToken { username: name.to_owned() }).await;
                let Answer::Token { access_token } = issued else { panic!("no token: {issued:?}") };
                tokens.push(access_token.0);
            }
            let given = Given {
                tenants,
                tasks: TaskTracker::new(),
                random: Arc::new(Seeded::new(1)),
                stopping: CancellationToken::new(),
                has_figures: false,
            };
            (yurt::api::router(&config, given), running, tokens)
        });
        let mut world =
            Self { runtime, router, engine, routes: routes(), tokens, known: Vec::new(), running: Some(running), _folder: folder };
        world.furnish();
        world
    }

    fn furnish(&mut self) {
        let alice = 0;
        let id = |answer: &Value| answer["id"].as_str().expect("an id").to_owned();
        let room = self.make(alice, "/v1/rooms", json!({"room_type": "group", "name": "Ours", "invite": ["bob"]}));
        let direct = self.make(alice, "/v1/rooms/dm", json!({"participant_id": "bob"}));
        let public = self.make(1, "/v1/rooms", json!({"room_type": "public", "name": "Market"}));
        let workspace = self.make(alice, "/v1/workspaces", json!({"name": "Tents"}));
        let messages = format!("/v1/rooms/{}/messages", encoded(&id(&room)));
        let event = self.make(alice, &messages, json!({"body": "hello, @bob", "txn_id": "1"}));
        self.make(1, &format!("/v1/rooms/{}/join", encoded(&id(&room))), json!({}));
        self.known = NAMES
            .into_iter()
            .zip([
                id(&room),
                id(&direct),
                id(&public),
                event["event_id"].as_str().expect("an event").to_owned(),
                id(&workspace),
                room["room_alias"].as_str().expect("an alias").to_owned(),
            ])
            .collect();
    }

    fn make(&self, who: usize, path: &str, body: Value) -> Value {
        let (status, answer) = self.send("POST", path, who, body.to_string().into_bytes());
        assert!(status.is_success(), "{path}: {status} {answer}");
        answer["data"].clone()
    }

    /// Sends a request that these bytes stand for: a byte for the route, one for who asks, then lines for each parameter of the
    /// path and for the query, then the body. Words such as `ROOM` stand for ids of this world.
    ///
    /// # Panics
    /// When the server fails, or its answer is not of the form of all answers.
    pub fn ask(&self, bytes: &[u8]) {
        let (Some(&[route, who]), Some(rest)) = (bytes.first_chunk(), bytes.get(2..)) else { return };
        let (method, template) = self.routes[usize::from(route) % self.routes.len()];
        let mut rest = rest;
        let mut path = String::new();
        for part in template.split('/').skip(1) {
            path.push('/');
            match part.starts_with('{') {
                true => path.push_str(&encoded(&self.named(&String::from_utf8_lossy(line(&mut rest))))),
                false => path.push_str(part),
            }
        }
        let query = self.named(&String::from_utf8_lossy(line(&mut rest)));
        if !query.is_empty() {
            path = format!("{path}?{}", utf8_percent_encode(&query, QUERY));
        }
        let body = match std::str::from_utf8(rest) {
            Ok(text) => self.named(text).into_bytes(),
            Err(_) => rest.to_vec(),
        };
        let (status, answer) = self.send(method, &path, usize::from(who) % self.tokens.len(), body);
        assert!(status.as_u16() < 500, "{method} {path}: {status} {answer}");
        let is_right = if status.is_success() { answer.get("data").is_some() } else { answer["error"]["code"].is_string() };
        assert!(is_right, "{method} {path}: {status} {answer}");
    }

    /// The text with this world's ids in place of the words for them.
    fn named(&self, text: &str) -> String {
        self.known.iter().fold(text.to_owned(), |text, (word, id)| text.replace(word, id))
    }

    fn send(&self, method: &str, path: &str, who: usize, body: Vec<u8>) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.tokens[who]))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.expect("an answer");
            let status = response.status();
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
        })
    }

    /// Stored rows: keys and values.
    pub fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let range = |profile| RowRange { profile, start: vec![0], end: None };
        let page = |profile| self.engine.scan(range(profile), Direction::Up, Limit::rows(ROWS_MAX));
        let pages = self.runtime.block_on(async { [page(Profile::Rows).await, page(Profile::Log).await] });
        pages.into_iter().flat_map(|page: Result<RowPage, _>| page.expect("a page").rows).collect()
    }
}

/// Method and path of the routes that are asked.
pub fn routes() -> Vec<(&'static str, &'static str)> {
    let routes = yurt::api::v1::routes().into_iter();
    routes.filter(|(_, path)| !LEFT_OUT.iter().any(|part| path.contains(part))).collect()
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.stop()).ok();
        }
    }
}

/// Letters that a query may have as they are.
const QUERY: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'=').remove(b'&').remove(b'_').remove(b'%').remove(b'-');

fn encoded(id: &str) -> String {
    utf8_percent_encode(id, NON_ALPHANUMERIC).to_string()
}

/// Takes a line from the front, without its end.
fn line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (line, behind) = rest.split_at(end);
    *rest = behind.get(1..).unwrap_or_default();
    line
}

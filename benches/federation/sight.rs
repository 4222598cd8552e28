//! From a send on one server until a client of another one sees it: between this server and a Synapse, both ways, and between two Synapses.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    Scale,
    home::{Authority, Home, free_port},
    ms, percentile,
    program::Program,
};

/// Where the program is that starts a Synapse.
const LAUNCHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/synapse/");

/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Synapse with one person.
struct Synapse {
    folder: PathBuf,
    name: String,
    url: String,
    token: String,
    http: Client,
}

impl Drop for Synapse {
    fn drop(&mut self) {
        Command::new(format!("{LAUNCHER}stop")).arg(&self.folder).stdout(Stdio::null()).status().ok();
    }
}

impl Synapse {
    async fn new(folder: &Path, label: &str) -> Self {
        let own = folder.join(label);
        let (port, client_port) = (free_port().to_string(), free_port().to_string());
        let (name, process) = (format!("localhost:{port}"), std::process::id().to_string());
        let started = Command::new(format!("{LAUNCHER}start"))
            .args(["--server-name", &name, "--federation-port", &port, "--client-port", &client_port])
            .args(["--watch-pid", &process])
            .arg("--dir")
            .arg(&own)
            .arg("--ca-dir")
            .arg(folder.join("ca"))
            .output()
            .expect("the launcher runs");
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        let url = format!("http://127.0.0.1:{client_port}/_matrix/client/v3/");
        let http = Client::builder().no_proxy().build().unwrap();
        let mut synapse = Self { folder: own, name, url, token: String::new(), http };
        let account = json!({ "username": "rita", "password": "lapsang", "auth": { "type": "m.login.dummy" } });
        let told = synapse.call(Method::POST, "register", account).await;
        synapse.token = told["access_token"].as_str().unwrap().to_owned();
        synapse
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.url));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if method != Method::GET {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn say(&self, room_id: &str, number: usize) {
        let path = format!("rooms/{room_id}/send/m.room.message/{number}");
        self.call(Method::PUT, &path, json!({ "msgtype": "m.text", "body": format!("number {number}") })).await;
    }

    /// The bodies of messages as its person's client sees them.
    fn watch(&self) -> mpsc::UnboundedReceiver<String> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (http, url, token) = (self.http.clone(), self.url.clone(), self.token.clone());
        tokio::spawn(async move {
            let mut since = String::new();
            loop {
                let url = format!("{url}sync?timeout=30000{since}");
                // At the end of the run the server is gone.
                let Ok(answer) = http.get(url).bearer_auth(&token).send().await else { return };
                let Ok(text) = answer.text().await else { return };
                let answer: Value = serde_json::from_str(&text).unwrap();
                since = format!("&since={}", answer["next_batch"].as_str().unwrap());
                let rooms = answer["rooms"]["join"].as_object().into_iter().flatten();
                for event in rooms.flat_map(|(_, room)| room["timeline"]["events"].as_array().into_iter().flatten()) {
                    let body = event["content"]["body"].as_str().map(str::to_owned);
                    if body.is_some_and(|body| sender.send(body).is_err()) {
                        return;
                    }
                }
            }
        });
        receiver
    }
}

/// The bodies of messages as a client of this server sees them.
async fn watch(home: &Home, program: &Program) -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let http = Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/v1/stream", program.address);
    let mut stream = http.get(url).bearer_auth(&home.token).send().await.unwrap().bytes_stream();
    tokio::spawn(async move {
        let mut text = String::new();
        while let Some(Ok(bytes)) = stream.next().await {
            text.push_str(&String::from_utf8_lossy(&bytes));
            while let Some((line, rest)) = text.split_once('\n') {
                let frame: Option<Value> = line.strip_prefix("data:").and_then(|data| serde_json::from_str(data).ok());
                let body = frame.and_then(|frame| frame["event"]["content"]["body"].as_str().map(str::to_owned));
                text = rest.to_owned();
                if body.is_some_and(|body| sender.send(body).is_err()) {
                    return;
                }
            }
        }
    });
    receiver
}

/// Waits until the message with a number is seen.
async fn seen(watched: &mut mpsc::UnboundedReceiver<String>, number: usize) {
    let wanted = format!("number {number}");
    let look = async { while watched.recv().await.expect("the client goes on") != wanted {} };
    tokio::time::timeout(PATIENCE, look).await.expect("the message is seen");
}

/// What a way took, for each of so many messages.
async fn measure<F: Future<Output = ()>>(
    numbers: std::ops::Range<usize>,
    watched: &mut mpsc::UnboundedReceiver<String>,
    say: impl Fn(usize) -> F,
) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in numbers {
        let started = Instant::now();
        say(number).await;
        seen(watched, number).await;
        times.push(started.elapsed());
    }
    times
}

pub(crate) async fn run(folder: &Path, scale: &Scale) {
    eprintln!("two Synapses start …");
    let folder = folder.join("sight");
    fs::create_dir_all(&folder).unwrap();
    let (first, second) = (Synapse::new(&folder, "first").await, Synapse::new(&folder, "second").await);
    let certificates = folder.join("ca");
    let at = |file: &str| certificates.join(file);
    let issued = Command::new(format!("{LAUNCHER}testca.py"))
        .args(["--name", "localhost", "--name", "127.0.0.1"])
        .arg("--ca-dir")
        .arg(&certificates)
        .arg("--cert")
        .arg(at("certificate.pem"))
        .arg("--key")
        .arg(at("certificate.key"))
        .stdout(Stdio::null())
        .status()
        .expect("the authority runs");
    assert!(issued.success());
    let home = Home::new(&folder, &Authority::of(&certificates)).await;
    let program = home.start();

    let new = json!({ "preset": "public_chat", "room_alias_name": "between", "room_version": "12" });
    let theirs = first.call(Method::POST, "createRoom", new).await["room_id"].as_str().unwrap().to_owned();
    let join = format!("join/%23between:{}?via={}", first.name, first.name);
    second.call(Method::POST, &join, json!({})).await;
    let joined = home.call(&program, Method::POST, &format!("rooms/%23between:{}/join", first.name), json!({})).await;
    assert_eq!(joined["data"]["id"].as_str(), Some(theirs.as_str()));

    let (mut ours_sees, mut first_sees, mut second_sees) =
        (watch(&home, &program).await, first.watch(), second.watch());
    let say = |number: usize| {
        let (home, program, path) = (&home, &program, format!("rooms/{theirs}/messages"));
        async move {
            home.call(program, Method::POST, &path, json!({ "body": format!("number {number}") })).await;
        }
    };
    // Connections, keys and caches of all of them.
    let warm = 5;
    measure(0..warm, &mut first_sees, say).await;
    measure(warm..2 * warm, &mut ours_sees, |number| first.say(&theirs, number)).await;
    measure(2 * warm..3 * warm, &mut second_sees, |number| first.say(&theirs, number)).await;

    eprintln!("{} messages each way …", scale.sights);
    println!("### From a send until a client of the other server sees it\n\n| way | p50 | p99 |\n|---|---|---|");
    let row = |way: &str, mut times: Vec<Duration>| {
        println!("| {way} | {} | {} |", ms(percentile(&mut times, 50)), ms(percentile(&mut times, 99)));
    };
    let part = |number: usize| (100 + number * scale.sights)..(100 + (number + 1) * scale.sights);
    row("from here to a Synapse", measure(part(0), &mut first_sees, say).await);
    row("from a Synapse to here", measure(part(1), &mut ours_sees, |number| first.say(&theirs, number)).await);
    row("from a Synapse to a Synapse", measure(part(2), &mut second_sees, |number| first.say(&theirs, number)).await);
    println!();
    program.stop();
}

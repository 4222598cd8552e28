//! Load on the running server, beside what the machine can do at all, in one run: `cargo bench --profile dev --bench load`.
//!
//! Messages of 256 bytes go into one room from 1, 16 and 64 connections, each sending the next when the last is acknowledged, which means: on disk. Beside it
//! stand synced writes of 256 bytes into the same folder by one writer, and the same requests to a bare HTTP server that answers at once. The ratios are
//! what counts; the absolute numbers are the machine's.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program for people that may stop at the first surprise"
)]

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How long each measurement takes.
const MEASURED: Duration = Duration::from_secs(4);
const CONNECTIONS: [usize; 3] = [1, 16, 64];
const BODY_BYTES: usize = 256;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let synced = synced_writes(folder.path());
    let (mut server, api) = serve(folder.path());
    let setup = Setup::new(folder.path(), api).await;
    let bare = bare_server().await;
    println!("synced writes of {BODY_BYTES} bytes, one writer: {synced:.0} per second\n");
    println!(
        "| connections | bare HTTP, requests/s | sends/s | of bare HTTP | of synced writes | p50 | p99 | server CPU per send |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for connections in CONNECTIONS {
        let plain = measure(bare, connections, "/", "").await;
        let before = cpu_seconds(server.id());
        let sent = measure(api, connections, &setup.path, &setup.token).await;
        let cpu = cpu_seconds(server.id()) - before;
        println!(
            "| {connections} | {:.0} | {:.0} | {:.0} % | {:.1} x | {:.2} ms | {:.2} ms | {:.3} ms |",
            plain.per_second,
            sent.per_second,
            100.0 * sent.per_second / plain.per_second,
            sent.per_second / synced,
            sent.p50.as_secs_f64() * 1e3,
            sent.p99.as_secs_f64() * 1e3,
            1e3 * cpu / (sent.per_second * MEASURED.as_secs_f64()),
        );
    }
    server.kill().ok();
    server.wait().ok();
}

/// Appends that reach the disk one by one.
fn synced_writes(folder: &Path) -> f64 {
    let mut file = File::create(folder.join("synced")).unwrap();
    let (started, mut count) = (Instant::now(), 0.0);
    while started.elapsed() < MEASURED {
        file.write_all(&[b'x'; BODY_BYTES]).unwrap();
        file.sync_data().unwrap();
        count += 1.0;
    }
    count / started.elapsed().as_secs_f64()
}

/// The built program, on a port of its own.
fn serve(folder: &Path) -> (Child, SocketAddr) {
    let config = "data_dir = \"data\"\nlisten.api = \"127.0.0.1:0\"\nlimits.enabled = false\nlog.level = \"warn\"\n\
                  [[tenant]]\nserver_name = \"localhost\"\n";
    std::fs::write(folder.join("config.toml"), config).unwrap();
    let mut child = yurt(folder).arg("serve").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).expect("the line that says ready");
    let api = ready
        .get("api")
        .and_then(serde_json::Value::as_str)
        .and_then(|api| api.strip_prefix("http://"))
        .expect("an address");
    (child, api.parse().unwrap())
}

fn yurt(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_yurt"));
    command.current_dir(folder);
    command
}

/// A room, and somebody who may send into it.
struct Setup {
    path: String,
    token: String,
}

impl Setup {
    async fn new(folder: &Path, api: SocketAddr) -> Self {
        let run = |arguments: &[&str]| {
            let done = yurt(folder).args(arguments).output().unwrap();
            String::from_utf8(done.stdout).unwrap().trim().to_owned()
        };
        run(&["account", "create", "alice"]);
        let token = run(&["account", "token", "alice"]);
        let mut connection = Connection::open(api).await;
        let body = r#"{"room_type": "public", "name": "Load"}"#;
        let answer = connection.post("/v1/rooms", &token, body).await;
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        let room = answer.pointer("/data/id").and_then(serde_json::Value::as_str).expect("a room").to_owned();
        Self { path: format!("/v1/rooms/{room}/messages"), token }
    }
}

/// A server that reads a request and answers as many bytes as Yurt does.
async fn bare_server() -> SocketAddr {
    let answer = "x".repeat(110);
    let router = axum::Router::new().fallback(move |body: axum::body::Bytes| {
        let answer = answer.clone();
        async move {
            std::hint::black_box(body.len());
            answer
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

struct Measured {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

/// Requests from so many connections at once, for a while.
async fn measure(address: SocketAddr, connections: usize, path: &str, token: &str) -> Measured {
    let is_over = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let (path, token, is_over) = (path.to_owned(), token.to_owned(), Arc::clone(&is_over));
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(address).await;
            let body = format!("{{\"body\": \"{}\"}}", "m".repeat(BODY_BYTES - 12));
            let mut times = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let started = Instant::now();
                connection.post(&path, &token, &body).await;
                times.push(started.elapsed());
            }
            times
        }));
    }
    let started = Instant::now();
    tokio::time::sleep(MEASURED).await;
    is_over.store(true, Ordering::Relaxed);
    let elapsed = started.elapsed();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    let count = u32::try_from(times.len()).unwrap();
    Measured { per_second: f64::from(count) / elapsed.as_secs_f64(), p50: at(50), p99: at(99) }
}

/// One keep-alive connection that waits for each answer.
struct Connection(TcpStream);

impl Connection {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    async fn post(&mut self, path: &str, token: &str, body: &str) -> Vec<u8> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len(),
        );
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::with_capacity(1024);
        loop {
            assert!(self.0.read_buf(&mut answer).await.unwrap() > 0, "the server closed the connection");
            let Some(head_bytes) = answer.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(answer.get(..head_bytes).unwrap_or_default()).to_lowercase();
            assert!(head.starts_with("http/1.1 20"), "{head}");
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            let length: usize = length.expect("a length").parse().unwrap();
            if answer.len() >= head_bytes + 4 + length {
                return answer.split_off(head_bytes + 4);
            }
        }
    }
}

/// Processor time that a process has used, by `/proc`.
fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

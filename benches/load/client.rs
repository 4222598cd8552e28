//! The client: keep-alive connections on one thread, each of which sends its next request when the last is answered. It does as little as it can, because it
//! shares the processors with the server.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
    task::LocalSet,
};

use crate::program::{self, Program};

/// Bytes of the content of a message.
pub(crate) const BODY_BYTES: usize = 256;

/// Writes the next request of a connection; `false` when there is none.
pub(crate) type Source = Box<dyn FnMut(&mut Vec<u8>) -> bool>;

/// What a load came to.
pub(crate) struct Measured {
    pub(crate) count: usize,
    pub(crate) elapsed: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Processor time of the server.
    pub(crate) server_cpu: Duration,
    /// How much of all processors was busy, from 0 to 1.
    pub(crate) busy: f64,
}

impl Measured {
    pub(crate) fn per_second(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }

    /// Processor time of the server per answer, in milliseconds.
    pub(crate) fn cpu_ms(&self) -> f64 {
        1e3 * self.server_cpu.as_secs_f64() / self.count.max(1) as f64
    }
}

/// Runs one connection for each source until the sources or the time end.
pub(crate) fn drive(
    client: &Runtime,
    program: Option<&Program>,
    address: SocketAddr,
    sources: Vec<Source>,
    time: Option<Duration>,
) -> Measured {
    let server_cpu = || program.map(Program::cpu).unwrap_or_default();
    let (cpu_before, busy_before) = (server_cpu(), program::busy_seconds());
    let started = Instant::now();
    let end = time.map(|time| started + time);
    let mut times: Vec<Duration> = LocalSet::new().block_on(client, async {
        let tasks: Vec<_> =
            sources.into_iter().map(|source| tokio::task::spawn_local(connection(address, source, end))).collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await.expect("the connection ends"));
        }
        times
    });
    let elapsed = started.elapsed();
    let busy = (program::busy_seconds() - busy_before) / elapsed.as_secs_f64() / program::processors() as f64;
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    Measured {
        count: times.len(),
        elapsed,
        p50: at(50),
        p99: at(99),
        server_cpu: server_cpu().saturating_sub(cpu_before),
        busy: busy.min(1.0),
    }
}

async fn connection(address: SocketAddr, mut source: Source, end: Option<Instant>) -> Vec<Duration> {
    let mut connection = Connection::open(address).await;
    let (mut times, mut request) = (Vec::new(), Vec::new());
    loop {
        request.clear();
        if end.is_some_and(|end| Instant::now() >= end) || !source(&mut request) {
            return times;
        }
        let started = Instant::now();
        let status = connection.exchange(&request).await;
        assert!((200..300).contains(&status), "{status}: {}", String::from_utf8_lossy(connection.body()));
        times.push(started.elapsed());
    }
}

/// One keep-alive connection that waits for each answer.
pub(crate) struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
    body_at: usize,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).unwrap();
        Self { stream, answer: Vec::with_capacity(64 * 1024), body_at: 0 }
    }

    /// Sends a request and reads its answer; gives the status.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).await.unwrap();
        self.answer.clear();
        loop {
            assert!(self.stream.read_buf(&mut self.answer).await.unwrap() > 0, "the server closed the connection");
            let Some(head) = self.answer.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&self.answer[..head]).expect("a head in ASCII");
            let status = text.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
            self.body_at = head + 4;
            if self.answer.len() >= self.body_at + content_length(text) {
                return status;
            }
        }
    }

    /// The body of the last answer.
    pub(crate) fn body(&self) -> &[u8] {
        &self.answer[self.body_at..]
    }

    /// A call whose answer is looked into.
    pub(crate) async fn call(&mut self, request: &[u8]) -> serde_json::Value {
        let status = self.exchange(request).await;
        assert!((200..300).contains(&status), "{status}: {}", String::from_utf8_lossy(self.body()));
        serde_json::from_slice(self.body()).expect("JSON")
    }
}

fn content_length(head: &str) -> usize {
    let header = "content-length:";
    let line =
        head.split("\r\n").find(|line| line.len() > header.len() && line[..header.len()].eq_ignore_ascii_case(header));
    line.map_or(0, |line| line[header.len()..].trim().parse().expect("a length"))
}

/// The bytes of a request.
pub(crate) fn request(method: &str, path: &str, host: &str, token: &str, body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    if !token.is_empty() {
        text += &format!("Authorization: Bearer {token}\r\n");
    }
    if method != "GET" {
        text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    (text + "\r\n" + body).into_bytes()
}

/// The same request for ever.
pub(crate) fn same(request: Vec<u8>) -> Source {
    Box::new(move |out| {
        out.extend_from_slice(&request);
        true
    })
}

/// Each of these requests once; whichever connection comes first takes the next.
pub(crate) fn each(requests: Vec<Vec<u8>>, connections: usize) -> Vec<Source> {
    let left = Rc::new(RefCell::new(requests.into_iter()));
    let source = |_| -> Source {
        let left = Rc::clone(&left);
        Box::new(move |out| {
            let next = left.borrow_mut().next();
            next.is_some_and(|request| {
                out.extend_from_slice(&request);
                true
            })
        })
    };
    (0..connections).map(source).collect()
}

/// Messages of [`BODY_BYTES`] whose words differ, as they would, into a room; so many in all, if there is an end.
pub(crate) fn messages(words: &Rc<Words>, path: &str, token: &str, left: Option<Rc<Cell<usize>>>) -> Source {
    let length = BODY_BYTES - r#"{"body": ""}"#.len();
    let whole = format!("{{\"body\": \"{}\"}}", "x".repeat(length));
    let mut head = request("POST", path, "localhost", token, &whole);
    head.truncate(head.len() - length - 2);
    let words = Rc::clone(words);
    Box::new(move |out| {
        if let Some(left) = &left {
            let Some(fewer) = left.get().checked_sub(1) else { return false };
            left.set(fewer);
        }
        out.extend_from_slice(&head);
        out.extend_from_slice(words.next(length));
        out.extend_from_slice(b"\"}");
        true
    })
}

/// Text that packs about as well as what people write: words of a vocabulary of a few thousand, in any order.
pub(crate) struct Words {
    text: Vec<u8>,
    at: Cell<u64>,
}

impl Words {
    const TEXT_BYTES: usize = 1024 * 1024;

    pub(crate) fn new() -> Rc<Self> {
        let dice = Cell::new(1);
        let letters = b"eeeetttaaaooinnsshhrrddlucmfwygpbvk";
        let word =
            || (0..1 + roll(&dice) % 9).map(|_| char::from(letters[roll(&dice) as usize % letters.len()])).collect();
        let vocabulary: Vec<String> = (0..4_000).map(|_| word()).collect();
        let mut text = Vec::with_capacity(Self::TEXT_BYTES + 16);
        while text.len() < Self::TEXT_BYTES {
            // Of two, the one further up: some words come more often than others.
            let rank = (roll(&dice) % 4_000).min(roll(&dice) % 4_000);
            text.extend_from_slice(vocabulary[rank as usize].as_bytes());
            text.push(b' ');
        }
        Rc::new(Self { text, at: Cell::new(7) })
    }

    fn next(&self, length: usize) -> &[u8] {
        let start = roll(&self.at) as usize % (self.text.len() - length);
        &self.text[start..start + length]
    }
}

/// A number that nobody would guess, and that is the same in every run (xorshift).
fn roll(dice: &Cell<u64>) -> u64 {
    let mut next = dice.get();
    next ^= next << 13;
    next ^= next >> 7;
    next ^= next << 17;
    dice.set(next);
    next >> 16
}

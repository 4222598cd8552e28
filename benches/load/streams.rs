//! One message goes out to many: server-sent events of `GET /v1/stream`, each stream a connection of its own.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
    sync::Notify,
    task::LocalSet,
};

use crate::{
    Scale,
    client::{Connection, request},
    machine::ms,
    program::Program,
    town::{Town, messages_of},
};

/// Messages that are sent, one after the other.
const ROUNDS: usize = 20;
/// What every message of these rounds says, and nothing else.
const MARK: &[u8] = b"hear-ye-hear-ye";
/// How long a message may take to reach everybody.
const HEARD_WITHIN: Duration = Duration::from_secs(20);
/// How long the server is left alone before it is looked at.
const QUIET: Duration = Duration::from_secs(2);

/// When the streams heard the message of this round.
#[derive(Default)]
struct Heard {
    times: RefCell<Vec<Instant>>,
    wanted: RefCell<usize>,
    all: Notify,
}

pub(crate) fn run(client: &Runtime, program: &Program, town: &Town, scale: &Scale) {
    println!("### One message to many streams (server-sent events)\n");
    println!(
        "| streams | memory per stream | first | p50 | p99 | last | server CPU per delivery |\n|---|---|---|---|---|---|---|"
    );
    for &streams in scale.streams {
        eprintln!("{streams} streams …");
        LocalSet::new().block_on(client, fan_out(program, town, streams));
    }
    println!();
}

async fn fan_out(program: &Program, town: &Town, streams: usize) {
    let before = program.held().resident_mb;
    let heard = Rc::new(Heard::default());
    *heard.wanted.borrow_mut() = streams;
    let mut readers = Vec::new();
    for number in 0..streams {
        let stream = open(program, &town.tokens[number % town.tokens.len()]).await;
        readers.push(tokio::task::spawn_local(listen(stream, Rc::clone(&heard))));
    }
    tokio::time::sleep(QUIET).await;
    let memory = 1e3 * (program.held().resident_mb - before) / streams as f64;
    let mut sender = Connection::open(program.address).await;
    let body = format!("{{\"body\": \"{}\"}}", String::from_utf8_lossy(MARK));
    let send = request("POST", &messages_of(&town.square), "localhost", town.token(), &body);
    let cpu = program.cpu();
    let mut after = Vec::new();
    for _ in 0..ROUNDS {
        heard.times.borrow_mut().clear();
        let started = Instant::now();
        sender.call(&send).await;
        let all = tokio::time::timeout(HEARD_WITHIN, heard.all.notified()).await;
        assert!(all.is_ok(), "{} of {streams} streams heard the message", heard.times.borrow().len());
        after.extend(heard.times.borrow().iter().map(|time| time.duration_since(started)));
    }
    let cpu = 1e6 * (program.cpu() - cpu).as_secs_f64() / (ROUNDS * streams) as f64;
    readers.into_iter().for_each(|reader| reader.abort());
    after.sort_unstable();
    let at = |share: usize| ms(after[after.len() * share / 1_000]);
    let (first, last) = (ms(after[0]), ms(after[after.len() - 1]));
    println!("| {streams} | {memory:.0} KB | {first} | {} | {} | {last} | {cpu:.1} µs |", at(500), at(990));
}

/// A stream whose head has come.
async fn open(program: &Program, token: &str) -> TcpStream {
    let mut stream = TcpStream::connect(program.address).await.expect("the server listens");
    let ask = format!(
        "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        assert!(stream.read_buf(&mut head).await.unwrap() > 0, "the stream ended before it began");
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// Reads a stream and notes when it says the mark.
async fn listen(mut stream: TcpStream, heard: Rc<Heard>) {
    let mut text = Vec::with_capacity(4 * 1024);
    while stream.read_buf(&mut text).await.is_ok_and(|bytes| bytes > 0) {
        let found = text.windows(MARK.len()).rposition(|window| window == MARK);
        // What may be the beginning of a mark is kept.
        let read = found.map_or(text.len().saturating_sub(MARK.len()), |at| at + MARK.len());
        text.drain(..read);
        if found.is_some() {
            let mut times = heard.times.borrow_mut();
            times.push(Instant::now());
            if times.len() == *heard.wanted.borrow() {
                heard.all.notify_one();
            }
        }
    }
}

//! What the machine allows: synced writes, signatures, and a bare HTTP server that answers at once.

use std::{
    fs::File,
    io::Write as _,
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rules::signature::Signer;
use ruma::{CanonicalJsonObject, CanonicalJsonValue};
use tokio::runtime::Runtime;

use crate::{
    Scale,
    client::{self, BODY_BYTES, Measured, drive, request},
    program,
};

/// Bytes of an event that are signed.
const SIGNED_BYTES: usize = 600;
/// Bytes of the answer to a message.
const ANSWER_BYTES: usize = 110;

/// The limits of the machine, measured before the server.
pub(crate) struct Machine {
    /// Synced appends of one writer, each alone.
    pub(crate) syncs: f64,
    /// How long one takes, in the middle.
    pub(crate) sync_p50: Duration,
    /// Signatures of all processors together.
    pub(crate) signatures: f64,
    /// Requests of a bare server, by connections.
    bare: Vec<(usize, Measured)>,
}

impl Machine {
    pub(crate) fn measure(client: &Runtime, folder: &Path, scale: &Scale) -> Self {
        eprintln!("the machine …");
        let (syncs, sync_p50) = synced_writes(&folder.join("synced"), scale.measured);
        let bare = bare_server();
        let body = format!("{{\"body\": \"{}\"}}", "x".repeat(BODY_BYTES - 12));
        let post = request("POST", "/", "localhost", &"t".repeat(80), &body);
        let on_bare = |connections: usize| {
            let sources = (0..connections).map(|_| client::same(post.clone())).collect();
            (connections, drive(client, None, bare, sources, Some(scale.measured)))
        };
        let bare = crate::sends::CONNECTIONS.map(on_bare).into();
        Self { syncs, sync_p50, signatures: signatures(scale.measured), bare }
    }

    /// Requests per second that a bare server answers to so many connections.
    pub(crate) fn bare(&self, connections: usize) -> f64 {
        let fitting = self.bare.iter().find(|(of, _)| *of >= connections).or(self.bare.last());
        fitting.map_or(0.0, |(_, measured)| measured.per_second())
    }

    pub(crate) fn print(&self) {
        println!("### The machine\n");
        println!(
            "| {} processors, shared by client and server | per second | p50 |\n|---|---|---|",
            program::processors()
        );
        println!("| synced writes of {BODY_BYTES} bytes, one writer | {:.0} | {} |", self.syncs, ms(self.sync_p50));
        println!("| Ed25519 signatures of {SIGNED_BYTES} bytes, all processors | {:.0} | |", self.signatures);
        for (connections, measured) in &self.bare {
            let rate = measured.per_second();
            println!("| bare hyper, same bodies, {connections} connections | {rate:.0} | {} |", ms(measured.p50));
        }
        println!();
    }

    /// What keeps a load from going faster.
    pub(crate) fn limit_of(&self, measured: &Measured, connections: usize) -> String {
        let server = measured.server_cpu.as_secs_f64() / measured.elapsed.as_secs_f64() / program::processors() as f64;
        if measured.busy > 0.9 {
            return format!(
                "the processors: server {:.0} %, client and others {:.0} %",
                100.0 * server,
                100.0 * (measured.busy - server)
            );
        }
        if connections == 1 {
            let beside = measured.p50.saturating_sub(self.sync_p50);
            return format!("one sync of {}, {} beside it", ms(self.sync_p50), ms(beside));
        }
        format!("the disk: processors {:.0} % busy", 100.0 * measured.busy)
    }
}

/// Milliseconds, for people.
pub(crate) fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// Appends that reach the disk one by one: how many a second, and how long one takes.
fn synced_writes(path: &Path, time: Duration) -> (f64, Duration) {
    let mut file = File::create(path).unwrap();
    let (started, mut times) = (Instant::now(), Vec::new());
    while started.elapsed() < time {
        let before = Instant::now();
        file.write_all(&[b'x'; BODY_BYTES]).unwrap();
        file.sync_data().unwrap();
        times.push(before.elapsed());
    }
    let per_second = times.len() as f64 / started.elapsed().as_secs_f64();
    times.sort_unstable();
    (per_second, times[times.len() / 2])
}

/// Signatures per second of all processors.
fn signatures(time: Duration) -> f64 {
    let sign = move || {
        let signer = Signer::new("localhost".try_into().unwrap(), "bench", &[7; 32]).unwrap();
        let text = CanonicalJsonValue::String("x".repeat(SIGNED_BYTES));
        let object = CanonicalJsonObject::from([("body".to_owned(), text)]);
        let (started, mut count) = (Instant::now(), 0.0);
        while started.elapsed() < time {
            signer.sign_json(&mut std::hint::black_box(object.clone()));
            count += 1.0;
        }
        count / started.elapsed().as_secs_f64()
    };
    let threads: Vec<_> = (0..program::processors()).map(|_| thread::spawn(sign)).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).sum()
}

/// A server that reads a request and answers as many bytes as Yurt does, on threads of its own.
fn bare_server() -> SocketAddr {
    let (address, is_bound) = std::sync::mpsc::channel();
    thread::spawn(move || {
        Runtime::new().unwrap().block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            address.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                tokio::spawn(async move { served.await.ok() });
            }
        });
    });
    is_bound.recv().unwrap()
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    static ANSWER: [u8; ANSWER_BYTES] = [b'x'; ANSWER_BYTES];
    std::hint::black_box(request.into_body().collect().await?.to_bytes());
    Ok(Response::new(Full::new(Bytes::from_static(&ANSWER))))
}

//! `kill -9` at random moments under load, again and again: what was acknowledged is there, nothing is half there, what was
//! not acknowledged can be asked for again, and the server starts without help.
//!
//! `YURT_CRASH_ROUNDS` sets how often (12), `YURT_CRASH_SEED` repeats a run: a run prints its seed.
#![cfg(test)]

use std::{str::FromStr, sync::Arc, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::{Home, Peer, Server, segment};
use ledger::{Ledger, Outcome};

mod check;
mod ledger;

/// People who write at the same time. Each sends one request after the other.
const WRITERS: usize = 6;

/// Rooms that all writers are in from the start.
const SHARED_ROOMS: usize = 2;

/// What does not change from round to round.
struct Scene {
    home: Home,
    /// Ids of the writers.
    writers: Vec<String>,
    /// Their tokens, in the same order.
    tokens: Vec<String>,
    /// The token of somebody who only reads.
    watcher: String,
    /// Rooms with all writers and the watcher.
    shared: Vec<String>,
    /// The room that the writers leave and enter again. The watcher is always in it.
    hall: String,
    ledger: Arc<Ledger>,
}

/// S2S 11 one writer for each room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_starts_by_itself_and_has_lost_nothing() {
    let rounds: u32 = setting("YURT_CRASH_ROUNDS").unwrap_or(12);
    let seed: u64 = setting("YURT_CRASH_SEED").unwrap_or_else(rand::random);
    report(&format!("YURT_CRASH_SEED={seed} YURT_CRASH_ROUNDS={rounds}"));
    let mut random = StdRng::seed_from_u64(seed);
    let scene = Scene::new().await;
    for round in 0..rounds {
        if random.random_ratio(1, 4) {
            scene.home.serve_briefly(Duration::from_millis(random.random_range(0..400)));
        }
        let server = scene.home.serve();
        check::everything(&scene, &server).await;
        scene.write_until_killed(server, &mut random).await;
        let (answered, open) = scene.ledger.counts();
        report(&format!("round {round}: {answered} requests answered so far, {open} cut off"));
    }
    let server = scene.home.serve();
    check::everything(&scene, &server).await;
    let (answered, _) = scene.ledger.counts();
    assert!(answered > usize::try_from(rounds).unwrap() * 10, "too little was written to mean anything: {answered}");
    assert_eq!(server.stop(Signal::TERM).0.code(), Some(0));
}

impl Scene {
    async fn new() -> Self {
        let home = Home::new("");
        let names: Vec<String> = (0..WRITERS).map(|number| format!("writer{number}")).collect();
        let writers: Vec<String> = names.iter().map(|name| home.succeed(&["account", "create", name])).collect();
        let tokens: Vec<String> = names.iter().map(|name| home.succeed(&["account", "token", name])).collect();
        home.succeed(&["account", "create", "watcher"]);
        let watcher = home.succeed(&["account", "token", "watcher"]);

        let server = home.serve();
        let mut rooms = Vec::new();
        for number in 0..=SHARED_ROOMS {
            let body = json!({ "room_type": "public", "name": format!("shared {number}") });
            rooms.push(id_of(&must(Peer::new(&server, &watcher).post("/v1/rooms", &body).await.unwrap(), &[201])));
        }
        for (room, token) in rooms.iter().flat_map(|room| tokens.iter().map(move |token| (room, token))) {
            let path = format!("/v1/rooms/{}/join", segment(room));
            must(Peer::new(&server, token).post(&path, &json!({})).await.unwrap(), &[200]);
        }
        server.stop(Signal::TERM);
        let hall = rooms.pop().unwrap();
        let ledger = Arc::new(Ledger::new(writers.clone(), rooms.clone()));
        Self { home, writers, tokens, watcher, shared: rooms, hall, ledger }
    }

    /// All writers write; at a random moment the server is killed under them.
    async fn write_until_killed(&self, server: Server, random: &mut StdRng) {
        let writing: Vec<_> = self
            .tokens
            .iter()
            .enumerate()
            .map(|(writer, token)| {
                let peer = Peer::new(&server, token);
                let random = StdRng::seed_from_u64(random.random());
                tokio::spawn(write(peer, writer, self.hall.clone(), Arc::clone(&self.ledger), random))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(random.random_range(50..1_000))).await;
        server.kill();
        for writer in writing {
            writer.await.unwrap();
        }
    }
}

/// Asks for one thing after the other until the server is gone.
async fn write(peer: Peer, writer: usize, hall: String, ledger: Arc<Ledger>, mut random: StdRng) {
    loop {
        let (number, wish) = ledger.wish(writer, &mut random);
        match wish.ask(&peer, &hall).await {
            Ok((status, body)) => {
                if let Outcome::Later = ledger.note(number, status, &body) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            Err(_) => return,
        }
    }
}

/// The answer's `data`, if its status is one of these.
fn must((status, body): (u16, Value), expected: &[u16]) -> Value {
    assert!(expected.contains(&status), "{status}: {body}");
    body["data"].clone()
}

fn id_of(room: &Value) -> String {
    room["id"].as_str().unwrap_or_else(|| panic!("no id in {room}")).to_owned()
}

fn setting<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[expect(clippy::print_stderr, reason = "a failed run must be repeatable from its output")]
fn report(line: &str) {
    eprintln!("{line}");
}

//! Events of peers: how many a second are verified, authorised, and on disk.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Scale,
    home::{Authority, Home},
    peer::{Peer, Signed},
};

/// Peers that send at the same time, each into a room of its own.
const PEERS: [usize; 2] = [1, 4];

pub(crate) async fn run(folder: &Path, scale: &Scale) {
    println!("### Events of other servers\n");
    println!("| peers and rooms | events | events/s | events for each second of processor time |");
    println!("|---|---|---|---|");
    for peers in PEERS {
        eprintln!("{} events of {peers} peers …", scale.events);
        let (elapsed, cpu) = measure(folder, peers, scale.events).await;
        let count = scale.events as f64;
        println!("| {peers} | {count} | {:.0} | {:.0} |", count / elapsed.as_secs_f64(), count / cpu.as_secs_f64());
    }
    println!();
}

async fn measure(folder: &Path, peers: usize, events: usize) -> (Duration, Duration) {
    let authority = Authority::new(folder);
    let home = Home::new(folder, &authority).await;
    let rooms = home
        .furnish(async |actions| {
            let mut rooms = Vec::new();
            for number in 0..peers {
                rooms.push(home.room(actions, &format!("Room {number}")).await);
            }
            rooms
        })
        .await;
    let program = home.start();
    let mut senders = Vec::new();
    for room_id in &rooms {
        let peer = Peer::new(&authority).await;
        let mut membership = peer.join(&home.name, room_id).await;
        let requests = peer.messages(&home.name, &mut membership, events / peers);
        senders.push((peer, requests));
    }
    let (started, before) = (Instant::now(), program.cpu());
    let tasks: Vec<_> = senders.into_iter().map(|(peer, requests)| tokio::spawn(send(peer, requests))).collect();
    let mut taken = 0;
    for task in tasks {
        taken += task.await.expect("all is sent");
    }
    let measured = (started.elapsed(), program.cpu().saturating_sub(before));
    assert_eq!(taken, events / peers * peers, "every event is taken");
    program.stop();
    measured
}

/// Sends one after the other; how many events were taken.
async fn send(peer: Peer, requests: Vec<Signed>) -> usize {
    let mut taken = 0;
    for request in requests {
        let answer = peer.ask(request).await;
        let results = answer["pdus"].as_object().expect("results");
        taken += results.values().filter(|result| result.get("error").is_none_or(Value::is_null)).count();
    }
    taken
}

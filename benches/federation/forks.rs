//! A room whose history forked: two branches that change the same state differently. What the room says now is resolved anew with each event of the second branch,
//! until an event joins them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    Scale,
    home::{Authority, Home},
    ms,
    peer::{Peer, Signed},
    percentile,
};

/// Messages before and after the fork, for comparison.
const PLAIN: usize = 20;

pub(crate) async fn run(folder: &Path, scale: &Scale) {
    println!("### A fork\n");
    println!(
        "| keys that both branches changed | an event before the fork | the last change of the second branch | the event that joins them | an event after it |"
    );
    println!("|---|---|---|---|---|");
    for changes in scale.changes {
        eprintln!("two branches of {changes} changes …");
        measure(folder, *changes).await;
    }
    println!();
}

async fn measure(folder: &Path, changes: usize) {
    let authority = Authority::new(folder);
    let home = Home::new(folder, &authority).await;
    let room_id = home.furnish(async |actions| home.room(actions, "Forked").await).await;
    let program = home.start();
    let path = format!("rooms/{room_id}/power-levels");
    home.call(&program, Method::PUT, &path, json!({ "state_default": 0 })).await;
    let peer = Peer::new(&authority).await;
    let mut one = peer.join(&home.name, &room_id).await;
    let mut before = Vec::new();
    for _ in 0..PLAIN {
        for request in peer.messages(&home.name, &mut one, 1) {
            before.push(taken(&peer, request).await);
        }
    }
    let mut other = one.clone();
    for request in peer.changes(&home.name, &mut one, changes, "one") {
        taken(&peer, request).await;
    }
    let mut last = Duration::ZERO;
    for request in peer.changes(&home.name, &mut other, changes, "other") {
        last = taken(&peer, request).await;
    }
    let joined = taken(&peer, peer.join_up(&home.name, &mut one, &other)).await;
    let mut after = Vec::new();
    for _ in 0..PLAIN {
        for request in peer.messages(&home.name, &mut one, 1) {
            after.push(taken(&peer, request).await);
        }
    }
    let (before, after) = (percentile(&mut before, 50), percentile(&mut after, 50));
    println!("| {changes} | {} | {} | {} | {} |", ms(before), ms(last), ms(joined), ms(after));
    program.stop();
}

/// How long it takes until a transaction is answered, each event of which is taken; for each of them.
async fn taken(peer: &Peer, request: Signed) -> Duration {
    let started = Instant::now();
    let answer = peer.ask(request).await;
    let elapsed = started.elapsed();
    let results = answer["pdus"].as_object().expect("results");
    let refused = results.values().find(|result| result.get("error").is_some_and(|error| *error != Value::Null));
    assert!(refused.is_none(), "{answer}");
    elapsed / u32::try_from(results.len().max(1)).unwrap()
}

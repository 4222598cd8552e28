//! A room whose history forked: two branches that change the same state differently, and an event behind both, at which it is resolved.

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
    program::Program,
};

/// Messages before and after the fork, for comparison.
const PLAIN: usize = 20;

pub(crate) async fn run(folder: &Path, scale: &Scale) {
    println!("### A fork\n");
    println!(
        "| keys that both branches changed | an event with one before it (p50) | the event that joins the branches | its processor time | the next event |"
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
    let mut plain = Vec::new();
    for _ in 0..PLAIN {
        for request in peer.messages(&home.name, &mut one, 1) {
            plain.push(taken(&peer, &program, request).await.0);
        }
    }
    let mut other = one.clone();
    let branches = [(&mut one, "one"), (&mut other, "other")];
    for (branch, value) in branches {
        for request in peer.changes(&home.name, branch, changes, value) {
            taken(&peer, &program, request).await;
        }
    }
    let (joined, cpu) = taken(&peer, &program, peer.join_up(&home.name, &mut one, &other)).await;
    let mut next = Duration::ZERO;
    for request in peer.messages(&home.name, &mut one, 1) {
        next = taken(&peer, &program, request).await.0;
    }
    println!("| {changes} | {} | {} | {} | {} |", ms(percentile(&mut plain, 50)), ms(joined), ms(cpu), ms(next));
    program.stop();
}

/// How long a transaction takes, each event of which is taken, and the server's processor time for it.
async fn taken(peer: &Peer, program: &Program, request: Signed) -> (Duration, Duration) {
    let (started, before) = (Instant::now(), program.cpu());
    let answer = peer.ask(request).await;
    let measured = (started.elapsed(), program.cpu().saturating_sub(before));
    let results = answer["pdus"].as_object().expect("results");
    let refused = results.values().find(|result| result.get("error").is_some_and(|error| *error != Value::Null));
    assert!(refused.is_none(), "{answer}");
    measured
}

//! Sending into a room in which many servers are, some of them dead: beside the same into a room without others.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use ruma::OwnedRoomId;

use crate::{
    Scale,
    home::{Authority, Home, until},
    ms,
    peer::Peer,
    percentile,
    program::Program,
};

/// Connections that send at the same time.
const CONNECTIONS: usize = 4;

pub(crate) async fn run(folder: &Path, scale: &Scale) {
    let authority = Authority::new(folder);
    let home = Home::new(folder, &authority).await;
    let (alone, crowded) =
        home.furnish(async |actions| (home.room(actions, "Alone").await, home.room(actions, "Crowded").await)).await;
    let program = home.start();
    eprintln!("{} servers join, {} of them die …", scale.destinations, scale.dead);
    let mut peers = Vec::new();
    for _ in 0..scale.destinations {
        let peer = Peer::new(&authority).await;
        peer.join(&home.name, &crowded).await;
        peers.push(peer);
    }
    peers.truncate(scale.destinations - scale.dead);
    println!("### Sending to {} servers, {} of them dead\n", scale.destinations, scale.dead);
    println!(
        "| room | sends/s | p50 | p99 | processor time per send | the last server alive has the last event after |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, room_id) in [("of this server only", &alone), ("with the others", &crowded)] {
        eprintln!("sends into the room {name} …");
        let had: Vec<usize> = peers.iter().map(Peer::received).collect();
        let (before, started) = (program.cpu(), Instant::now());
        let mut times = sends(&home, &program, room_id, scale.measured).await;
        let (elapsed, count) = (started.elapsed(), times.len());
        let after = if room_id == &crowded {
            let has_all = || async { peers.iter().zip(&had).all(|(peer, had)| peer.received() >= had + count) };
            ms(until("all servers have all events", has_all).await)
        } else {
            String::new()
        };
        let cpu = program.cpu().saturating_sub(before) / u32::try_from(count).unwrap();
        let (p50, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
        println!(
            "| {name} | {:.0} | {} | {} | {} | {after} |",
            count as f64 / elapsed.as_secs_f64(),
            ms(p50),
            ms(p99),
            ms(cpu)
        );
    }
    println!();
    program.stop();
}

async fn sends(home: &Home, program: &Program, room_id: &OwnedRoomId, time: Duration) -> Vec<Duration> {
    let url = format!("http://{}/v1/rooms/{room_id}/messages", program.address);
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (url, token) = (url.clone(), home.token.clone());
            tokio::spawn(async move {
                let client = reqwest::Client::builder().no_proxy().build().unwrap();
                let (mut times, end) = (Vec::new(), Instant::now() + time);
                while Instant::now() < end {
                    let started = Instant::now();
                    let request = client.post(&url).bearer_auth(&token).header("Content-Type", "application/json");
                    let answer = request.body(r#"{"body": "to all of you"}"#).send().await.unwrap();
                    assert!(answer.status().is_success(), "{}", answer.status());
                    answer.bytes().await.unwrap();
                    times.push(started.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("the sends end"));
    }
    times
}

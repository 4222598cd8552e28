//! Entering a room of another server that has many members.

use std::{path::Path, time::Instant};

use reqwest::Method;
use ruma::UserId;
use serde_json::{Value, json};
use yurt::actions::{Actions, Caller, members};

use crate::{
    Scale,
    home::{Authority, Home, until},
    ms,
};

/// People who enter at the same time while the room is made.
const AT_A_TIME: usize = 64;

pub(crate) async fn run(folder: &Path, scale: &Scale) {
    println!("### Joining a room of another server\n");
    println!("| members | time | processor time of the joining server | its memory then |");
    println!("|---|---|---|---|");
    for members in scale.members {
        eprintln!("a join into {members} members …");
        measure(folder, *members).await;
    }
    println!();
}

async fn measure(folder: &Path, members: usize) {
    let authority = Authority::new(folder);
    let (theirs, ours) = (Home::new(folder, &authority).await, Home::new(folder, &authority).await);
    let room_id = theirs
        .furnish(async |actions| {
            let room_id = theirs.room(actions, "Crowded").await;
            let people: Vec<usize> = (1..members).collect();
            let share = people.len().div_ceil(AT_A_TIME);
            let tasks = people.chunks(share).map(|some| {
                let (actions, room_id, some) = (actions.clone(), room_id.clone(), some.to_vec());
                let server = theirs.name.clone();
                tokio::spawn(async move { enter(&actions, server.as_str(), room_id.as_str(), &some).await })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.expect("the crowd is in");
            }
            room_id
        })
        .await;
    let (other, program) = (theirs.start(), ours.start());
    let (started, before) = (Instant::now(), program.cpu());
    let path = format!("rooms/{room_id}/join");
    let answer = ours.call(&program, Method::POST, &path, json!({ "via": [theirs.name] })).await;
    if let Some(job) = answer["data"]["job_id"].as_str() {
        let path = format!("jobs/{job}");
        until("the join ends", async || {
            let job = ours.call(&program, Method::GET, &path, Value::Null).await;
            assert_ne!(job["data"]["state"], "failed", "{job}");
            job["data"]["state"] == "done"
        })
        .await;
    }
    let (elapsed, cpu) = (started.elapsed(), program.cpu().saturating_sub(before));
    let room = ours.call(&program, Method::GET, &format!("rooms/{room_id}"), Value::Null).await;
    assert_eq!(room["data"]["members_count"], members + 1);
    println!("| {members} | {} | {} | {:.0} MB |", ms(elapsed), ms(cpu), program.held().resident_mb);
    program.stop();
    other.stop();
}

async fn enter(actions: &Actions, server: &str, room_id: &str, people: &[usize]) {
    for number in people {
        let person = UserId::parse(format!("@crowd{number}:{server}")).unwrap();
        members::join(actions, &Caller::local(&person, false), room_id, &[], None).await.expect("a join");
    }
}

//! `kill -9` while a room is taken in: after the restart it is there as a whole or not at all, nothing lies around, and a second try gives the room.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::cli::{home_with_room, parsed};
use crate::process::{Home, Peer, segment};

/// Times that the server is killed.
const ROUNDS: u32 = 8;

/// When the server is killed, spread over the time that an import takes on this machine.
fn moments(whole: Duration) -> impl Iterator<Item = (u32, Duration)> {
    (0..ROUNDS).map(move |round| (round, whole * round / ROUNDS))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_killed_leaves_the_room_whole_or_nothing_of_it() {
    let (home, room, token) = home_with_room(400).await;
    let home = Arc::new(home);
    home.succeed(&["bundle", "export", &room, "--out", "room.zip"]);
    let total = parsed(&home.succeed(&["bundle", "verify", "room.zip", "--json"]))["events"].clone();
    let whole = {
        let server = home.serve();
        purge(&Peer::new(&server, &token), &room).await;
        let begun = Instant::now();
        home.succeed(&["bundle", "import", "room.zip", "--as", "alice", "--json"]);
        let whole = begun.elapsed();
        server.stop(Signal::TERM);
        whole
    };
    let (mut wholes, mut nothings) = (0, 0);
    for (round, time) in moments(whole) {
        let server = home.serve();
        purge(&Peer::new(&server, &token), &room).await;
        let importing = {
            let home = Arc::clone(&home);
            std::thread::spawn(move || home.run(&["bundle", "import", "room.zip", "--as", "alice", "--json"]))
        };
        tokio::time::sleep(time).await;
        server.kill();
        importing.join().unwrap();
        let server = home.serve();
        let alice = Peer::new(&server, &token);
        let (status, _) = alice.get(&format!("/v1/rooms/{}", segment(&room))).await.unwrap();
        match status {
            200 => wholes += 1,
            404 => nothings += 1,
            other => panic!("round {round}: {other}"),
        }
        let spool = home.path().join("data/tenants/main/spool");
        let left = std::fs::read_dir(spool).map_or(0, Iterator::count);
        assert_eq!(left, 0, "round {round}: something lies in the spool");
        let again = parsed(&home.succeed(&["bundle", "import", "room.zip", "--as", "alice", "--json"]));
        let outcome = if status == 200 { "merged" } else { "restored" };
        assert_eq!(again["outcome"], outcome, "round {round}");
        let stored = if status == 200 { json!(0) } else { total.clone() };
        assert_eq!(again["events"]["stored"], stored, "round {round}");
        server.stop(Signal::TERM);
    }
    assert!(nothings > 0, "no round killed an import: {wholes} were whole");
}

pub(super) async fn purge(alice: &Peer, room: &str) {
    let path = format!("/v1/admin/rooms/{}", segment(room));
    let (status, begun) = alice.call(reqwest::Method::DELETE, &path, None, None).await.unwrap();
    assert_eq!(status, 202, "{begun}");
    let job = format!("/v1/jobs/{}", begun["data"]["job_id"].as_str().unwrap());
    loop {
        let (_, job): (u16, Value) = alice.get(&job).await.unwrap();
        if job["data"]["state"] == "done" {
            return;
        }
        assert_ne!(job["data"]["state"], "failed");
        tokio::time::sleep(crate::client::LOOK_PAUSE).await;
    }
}

/// A server where nothing of the room is, and somebody's token.
fn new_home() -> (Home, String) {
    let home = Home::new("");
    home.write_config("[[tenant]]\nserver_name = \"new.example\"\n");
    home.succeed(&["account", "create", "anna", "--admin"]);
    let token = home.succeed(&["account", "token", "anna"]);
    (home, token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_is_killed_while_it_is_made_is_there_as_a_whole_or_not_at_all() {
    let (old, room, _) = home_with_room(300).await;
    old.succeed(&["bundle", "export", &room, "--out", "room.zip"]);
    let file = old.path().join("room.zip").to_str().unwrap().to_owned();
    let arguments = ["bundle", "import", &file, "--as", "anna", "--accept-bundle-keys", "--json"].map(str::to_owned);
    let whole = {
        let (home, _) = new_home();
        let server = home.serve();
        let begun = Instant::now();
        home.succeed(&arguments.each_ref().map(String::as_str));
        let whole = begun.elapsed();
        server.stop(Signal::TERM);
        whole
    };
    let mut nothings = 0;
    for (round, time) in moments(whole) {
        let (home, token) = new_home();
        let home = Arc::new(home);
        let server = home.serve();
        let importing = {
            let (home, arguments) = (Arc::clone(&home), arguments.clone());
            std::thread::spawn(move || home.run(&arguments.each_ref().map(String::as_str)))
        };
        tokio::time::sleep(time).await;
        server.kill();
        importing.join().unwrap();
        let server = home.serve();
        let anna = Peer::new(&server, &token);
        let count = async |path: &str| {
            let (status, rooms) = anna.get(path).await.unwrap();
            assert_eq!(status, 200, "{rooms}");
            rooms["data"].as_array().unwrap().len()
        };
        let (own, all) = (count("/v1/rooms").await, count("/v1/admin/rooms").await);
        assert!([(0, 0), (1, 2)].contains(&(own, all)), "round {round}: {own} of {all} rooms are hers");
        nothings += usize::from(own == 0);
        let spool = home.path().join("data/tenants/main/spool");
        assert_eq!(
            std::fs::read_dir(spool).map_or(0, Iterator::count),
            0,
            "round {round}: something lies in the spool"
        );
        let again = parsed(&home.succeed(&arguments.each_ref().map(String::as_str)));
        assert_eq!(again["outcome"], "succeeded", "round {round}");
        let stored = if own == 0 { again["events"]["total"].clone() } else { json!(0) };
        assert_eq!(again["events"]["stored"], stored, "round {round}");
        assert_eq!((count("/v1/rooms").await, count("/v1/admin/rooms").await), (1, 2));
        server.stop(Signal::TERM);
    }
    assert!(nothings > 0, "no round killed an import");
}

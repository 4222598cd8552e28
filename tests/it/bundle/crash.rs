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
/// Messages that a room lacks: so many that checking them takes longer than it is from one moment to the next.
const LATER: usize = 1_500;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_room_that_is_here_lacks_is_there_as_a_whole_after_a_kill() {
    let (home, room, token) = home_with_room(20).await;
    let home = Arc::new(home);
    home.succeed(&["bundle", "export", &room, "--out", "old.zip"]);
    let server = home.serve();
    let alice = Peer::new(&server, &token);
    let path = format!("/v1/rooms/{}/messages", segment(&room));
    for number in 0..LATER {
        let (status, _) = alice.post(&path, &json!({ "body": format!("later {number}") })).await.unwrap();
        assert_eq!(status, 201);
    }
    let told = timeline(&alice, &room).await;
    server.stop(Signal::TERM);
    home.succeed(&["bundle", "export", &room, "--out", "new.zip"]);
    let import = |home: &Home, file: &str| home.run(&["bundle", "import", file, "--as", "alice", "--json"]);
    let as_before = async || {
        let server = home.serve();
        purge(&Peer::new(&server, &token), &room).await;
        assert_eq!(parsed(&import(&home, "old.zip").stdout)["outcome"], "restored");
        server
    };
    let whole = {
        let server = as_before().await;
        let begun = Instant::now();
        assert_eq!(parsed(&import(&home, "new.zip").stdout)["events"]["stored"], LATER);
        let whole = begun.elapsed();
        server.stop(Signal::TERM);
        whole
    };
    let mut parts = 0;
    for (round, time) in moments(whole) {
        let server = as_before().await;
        let importing = {
            let home = Arc::clone(&home);
            std::thread::spawn(move || home.run(&["bundle", "import", "new.zip", "--as", "alice", "--json"]))
        };
        tokio::time::sleep(time).await;
        server.kill();
        importing.join().unwrap();
        let server = home.serve();
        // What was being added goes on by itself; what was not begun leaves nothing.
        let spool = home.path().join("data/tenants/main/spool");
        let is_tidy = async || std::fs::read_dir(&spool).map_or(0, Iterator::count) == 0;
        crate::federation::servers::eventually("the spool is empty", is_tidy).await;
        let alice = Peer::new(&server, &token);
        let held = timeline(&alice, &room).await.len();
        assert!([told.len() - LATER, told.len()].contains(&held), "round {round}: {held} of {} events", told.len());
        parts += usize::from(held < told.len());
        let again = parsed(&import(&home, "new.zip").stdout);
        let lacking = told.len() - held;
        assert_eq!(
            (&again["outcome"], &again["events"]["stored"]),
            (&json!("merged"), &json!(lacking)),
            "round {round}"
        );
        assert_eq!(timeline(&alice, &room).await, told, "round {round}");
        server.stop(Signal::TERM);
    }
    assert!(parts > 0, "no round killed an import");
}

/// The ids of all events, oldest first.
async fn timeline(alice: &Peer, room: &str) -> Vec<String> {
    let (mut ids, mut from) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/rooms/{}/messages?direction=forward&limit=200{from}", segment(room));
        let (status, page) = alice.get(&path).await.unwrap();
        assert_eq!(status, 200, "{page}");
        let events = page["data"].as_array().unwrap().iter();
        ids.extend(events.map(|event| event["event_id"].as_str().unwrap().to_owned()));
        let Some(next) = page["meta"]["next_cursor"].as_str() else { return ids };
        from = format!("&from={}", segment(next));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_locked_for_a_room_come_and_go_with_it() {
    const NAMES: usize = 30;
    let (old, room, token) = home_with_room(5).await;
    let server = old.serve();
    for number in 0..NAMES {
        let name = format!("member-{number}");
        old.succeed(&["account", "create", &name]);
        let path = format!("/v1/rooms/{}/invite", segment(&room));
        let invite = json!({ "participant_id": format!("@{name}:localhost") });
        let (status, answer) = Peer::new(&server, &token).post(&path, &invite).await.unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    server.stop(Signal::TERM);
    old.succeed(&["bundle", "export", &room, "--out", "room.zip"]);
    let at = |name: &str| old.path().join(name).to_str().unwrap().to_owned();
    let (key, file) = (at("data/tenants/main/signing.key"), at("room.zip"));
    let arguments = ["bundle", "import", &file, "--as", "alice", "--json"].map(str::to_owned);
    let moved = || {
        let home = Home::new("");
        home.succeed(&["key", "import", &key]);
        home.succeed(&["account", "create", "alice", "--admin"]);
        let token = home.succeed(&["account", "token", "alice"]);
        (Arc::new(home), token)
    };
    let names = |home: &Home| home.succeed(&["account", "list"]).matches("member-").count();
    let whole = {
        let (home, _) = moved();
        let server = home.serve();
        let begun = Instant::now();
        let told = parsed(&home.succeed(&arguments.each_ref().map(String::as_str)));
        let whole = begun.elapsed();
        assert_eq!((&told["participants"]["locked"], names(&home)), (&json!(NAMES), NAMES));
        server.stop(Signal::TERM);
        whole
    };
    let mut nothings = 0;
    for (round, time) in moments(whole) {
        let (home, token) = moved();
        let server = home.serve();
        let importing = {
            let (home, arguments) = (Arc::clone(&home), arguments.clone());
            std::thread::spawn(move || home.run(&arguments.each_ref().map(String::as_str)))
        };
        tokio::time::sleep(time).await;
        server.kill();
        importing.join().unwrap();
        let server = home.serve();
        let (status, _) = Peer::new(&server, &token).get(&format!("/v1/rooms/{}", segment(&room))).await.unwrap();
        nothings += usize::from(status == 404);
        assert_eq!(names(&home), if status == 200 { NAMES } else { 0 }, "round {round}");
        let again = parsed(&home.succeed(&arguments.each_ref().map(String::as_str)));
        assert_eq!(again["participants"]["locked"], if status == 200 { 0 } else { NAMES }, "round {round}");
        assert_eq!(names(&home), NAMES, "round {round}");
        server.stop(Signal::TERM);
    }
    assert!(nothings > 0, "no round killed an import");
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

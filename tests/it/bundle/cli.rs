//! `yurt bundle …`, by use of the built program, with a server and without.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::{Home, Peer, segment};

/// A home in which Alice has a room with messages, and the room's id.
pub(super) async fn home_with_room(messages: usize) -> (Home, String, String) {
    let home = Home::new("");
    home.succeed(&["account", "create", "alice", "--admin"]);
    let token = home.succeed(&["account", "token", "alice"]);
    let server = home.serve();
    let alice = Peer::new(&server, &token);
    let made = alice.post("/v1/rooms", &json!({"room_type": "group", "name": "Tents"})).await.unwrap();
    let room = made.1["data"]["id"].as_str().unwrap().to_owned();
    for number in 0..messages {
        let body = json!({ "body": format!("message {number}") });
        let (status, _) = alice.post(&format!("/v1/rooms/{}/messages", segment(&room)), &body).await.unwrap();
        assert_eq!(status, 201);
    }
    server.stop(Signal::TERM);
    (home, room, token)
}

pub(super) fn parsed(text: &str) -> Value {
    serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn a_room_is_exported_checked_looked_at_and_imported_with_and_without_a_server() {
    let (home, room, _) = home_with_room(20).await;
    let server = home.serve();
    let exported = parsed(&home.succeed(&["bundle", "export", &room, "--out", "room.zip", "--json"]));
    server.stop(Signal::TERM);
    home.succeed(&["bundle", "export", &room, "--out", "again.zip"]);
    assert_eq!(exported["bytes"], fs::metadata(home.path().join("room.zip")).unwrap().len());
    let again = home.run(&["bundle", "export", &room, "--out", "room.zip"]);
    assert_eq!((again.code, again.stderr.lines().count()), (1, 1), "{again:?}");

    let verified = home.run(&["bundle", "verify", "room.zip"]);
    assert_eq!((verified.code, verified.stderr.as_str()), (0, ""), "{verified:?}");
    assert!(verified.stdout.contains("Tents") && verified.stdout.contains("only the bundle vouches"), "{verified:?}");
    let told = parsed(&home.succeed(&["bundle", "verify", "room.zip", "--json"]));
    assert_eq!((&told["holds"], &told["events"], &told["room_id"]), (&json!(true), &exported["events"], &json!(room)));
    let manifest = parsed(&home.succeed(&["bundle", "inspect", "room.zip", "--json"]));
    assert!(home.succeed(&["bundle", "inspect", "room.zip"]).contains("not") && manifest["name"] == "Tents");
    assert_eq!(home.run(&["bundle", "verify", "room.zip", "--strict"]).code, 1);
    fs::write(home.path().join("keys.json"), manifest["verify_keys"].to_string()).unwrap();
    home.succeed(&["bundle", "verify", "room.zip", "--strict", "--keys", "keys.json"]);

    for running in [true, false] {
        let server = running.then(|| home.serve());
        let merged = parsed(&home.succeed(&["bundle", "import", "room.zip", "--as", "alice", "--json"]));
        assert_eq!((&merged["outcome"], &merged["events"]["stored"]), (&json!("merged"), &json!(0)));
        let nobody = home.run(&["bundle", "import", "room.zip", "--as", "nobody"]);
        assert_eq!((nobody.code, nobody.stderr.lines().count()), (1, 1), "{nobody:?}");
        drop(server.map(|server| server.stop(Signal::TERM)));
    }
}

#[tokio::test]
async fn exit_codes_tell_what_does_not_hold_from_what_cannot_be_read() {
    let (home, room, _) = home_with_room(3).await;
    home.succeed(&["bundle", "export", &room, "--out", "room.zip"]);
    let whole = fs::read(home.path().join("room.zip")).unwrap();
    fs::write(home.path().join("half.zip"), &whole[..whole.len() / 2]).unwrap();
    let mut changed = whole.clone();
    changed[200] ^= 1;
    fs::write(home.path().join("changed.zip"), &changed).unwrap();
    for (file, code) in [("none.zip", 2), ("half.zip", 2), ("changed.zip", 1), ("config.toml", 2)] {
        for json in [false, true] {
            let mut arguments = vec!["bundle", "verify", file];
            arguments.extend(json.then_some("--json"));
            let done = home.run(&arguments);
            assert_eq!((done.code, done.stderr.lines().count()), (code, 1), "{file}: {done:?}");
            if json {
                assert_eq!(parsed(&done.stdout)["holds"], false);
            } else {
                assert_eq!(done.stdout, "");
            }
        }
    }
}

#[tokio::test]
async fn a_terminal_shows_how_far_the_work_is_and_a_script_sees_nothing_of_that() {
    let (home, room, _) = home_with_room(20).await;
    home.succeed(&["bundle", "export", &room, "--out", "room.zip"]);
    for (what, arguments) in [
        ("exporting", ["bundle", "export", &room, "--out", "again.zip"].as_slice()),
        ("verifying", &["bundle", "verify", "room.zip"]),
        ("importing", &["bundle", "import", "room.zip", "--as", "alice"]),
    ] {
        let (code, screen) = home.run_at_terminal(arguments);
        assert!(code == 0 && screen.contains(what), "{what}: {code}: {screen:?}");
        fs::remove_file(home.path().join("again.zip")).ok();
        let piped = home.run(arguments);
        assert_eq!((piped.code, piped.stderr.as_str()), (0, ""), "{what}");
        assert!(!piped.stdout.contains(what), "{piped:?}");
    }
}

//! The command line, by use of the built program: accounts and keys with and without a server, one line when it is ready, a
//! clean stop, and exit codes with one clear line.
#![cfg(test)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use rustix::process::Signal;
use serde_json::json;

use crate::process::{Done, Home, Peer};

/// A `signing.key` as Synapse writes it, and the public half of its key.
const SYNAPSE_KEY: &str = "ed25519 a_AbCd YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1\n";
const SYNAPSE_PUBLIC: &str = "XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI";

/// Failed with this code and one line on stderr that has these words.
fn assert_fails(done: &Done, code: i32, words: &[&str]) {
    assert_eq!(done.code, code, "{done:?}");
    assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
    assert!(words.iter().all(|word| done.stderr.contains(word)), "{done:?}");
    assert!(done.stdout.is_empty(), "{done:?}");
}

/// The id of the key that signs, as `yurt key show` says.
fn signing(home: &Home) -> String {
    let shown = home.succeed(&["key", "show"]);
    let line = shown.lines().find(|line| line.ends_with(" signs")).unwrap_or_else(|| panic!("{shown}"));
    line.split(' ').next().unwrap().to_owned()
}

#[test]
fn a_ready_server_prints_one_line_with_its_real_address_and_stops_when_told() {
    let home = Home::new("");
    for signal in [Signal::TERM, Signal::INT] {
        let server = home.serve();
        let port: u16 = server.api.rsplit(':').next().unwrap().parse().unwrap();
        assert_ne!(port, 0);
        assert_eq!(server.ready, json!({ "ready": true, "api": server.api, "federation": null }));
        let (status, more) = server.stop(signal);
        assert_eq!(status.code(), Some(0));
        assert_eq!(more, Vec::<String>::new());
    }
}

#[test]
fn a_client_that_dawdles_does_not_hold_up_the_stop() {
    let home = Home::new("");
    let server = home.serve();
    let address = server.api.trim_start_matches("http://").to_owned();
    let mut dawdler = TcpStream::connect(address).unwrap();
    let head = "POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    dawdler.write_all(head.as_bytes()).unwrap();
    // The server has begun to read the request when it has answered a later one.
    let mut other = TcpStream::connect(dawdler.peer_addr().unwrap()).unwrap();
    other.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    other.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(server.stop(Signal::TERM).0.code(), Some(0));
}

#[tokio::test]
async fn the_first_administrator_comes_from_the_command_line_before_the_first_start() {
    let home = Home::new("");
    assert_eq!(home.succeed(&["account", "create", "root", "--admin"]), "@root:localhost");
    let token = home.succeed(&["account", "token", "root"]);
    let server = home.serve();
    let (status, me) = Peer::new(&server, &token).get("/v1/me").await.unwrap();
    assert_eq!((status, &me["data"]["participant_id"]), (200, &json!("@root:localhost")));
    assert_eq!(me["data"]["is_admin"], true);
}

#[tokio::test]
async fn accounts_are_managed_while_the_server_runs() {
    let home = Home::new("");
    let server = home.serve();
    let created = home.run_with_input(&["account", "create", "alice", "--password-stdin"], "first secret\n");
    assert_eq!((created.code, created.stdout.as_str()), (0, "@alice:localhost\n"), "{created:?}");
    let peer = Peer::new(&server, "");
    let login = async |password| {
        let body = json!({ "username": "alice", "password": password });
        peer.post("/v1/auth/login", &body).await.unwrap().0
    };
    assert_eq!(login("first secret").await, 200);

    let changed = home.run_with_input(&["account", "password", "alice", "--password-stdin"], "second secret\r\n");
    assert_eq!(changed.code, 0, "{changed:?}");
    assert_eq!(login("first secret").await, 401);
    assert_eq!(login("second secret").await, 200);

    let token = home.succeed(&["account", "token", "alice"]);
    let (status, me) = Peer::new(&server, &token).get("/v1/me").await.unwrap();
    assert_eq!((status, &me["data"]["is_admin"]), (200, &json!(false)));
    assert_eq!(home.succeed(&["account", "list"]), "@alice:localhost user active");
}

#[test]
fn accounts_are_managed_without_a_server_and_are_there_for_the_next_command() {
    let home = Home::new("");
    home.succeed(&["account", "create", "alice"]);
    home.succeed(&["account", "create", "bob", "--admin"]);
    let listed = home.succeed(&["account", "list"]);
    assert_eq!(listed, "@alice:localhost user active\n@bob:localhost admin active");
    let tokens = [home.succeed(&["account", "token", "alice"]), home.succeed(&["account", "token", "alice"])];
    assert_ne!(tokens[0], tokens[1]);
    assert!(tokens.iter().all(|token| !token.contains(char::is_whitespace) && token.len() > 20), "{tokens:?}");
}

#[test]
fn an_account_without_a_password_says_how_to_get_in() {
    let done = Home::new("").run(&["account", "create", "alice"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "@alice:localhost\n"));
    assert!(done.stderr.contains("yurt account token alice"), "{done:?}");
}

#[test]
fn what_cannot_be_done_to_an_account_fails_alike_with_and_without_a_server() {
    let home = Home::new("");
    home.succeed(&["account", "create", "alice"]);
    let check = || {
        assert_fails(&home.run(&["account", "create", "alice"]), 1, &["alice"]);
        assert_fails(&home.run(&["account", "create", "no such name"]), 1, &["username"]);
        assert_fails(&home.run(&["account", "token", "nobody"]), 1, &["nobody"]);
        assert_fails(
            &home.run_with_input(&["account", "password", "nobody"], "a long enough secret\n"),
            1,
            &["nobody"],
        );
        assert_fails(&home.run(&["account", "password", "alice", "--password-stdin"]), 2, &["stdin"]);
    };
    check();
    let server = home.serve();
    check();
    drop(server);
}

#[test]
fn each_tenant_has_accounts_and_keys_of_its_own() {
    let home = Home::new("[[tenant]]\nname = \"other\"\nserver_name = \"other.example\"\n");
    home.succeed(&["account", "create", "alice"]);
    assert_eq!(home.succeed(&["account", "create", "alice", "--tenant", "main"]), "@alice:localhost");
    assert_eq!(home.succeed(&["account", "list", "--tenant", "other"]), "@alice:other.example user active");
    let keys = ["main", "other"].map(|tenant| home.succeed(&["key", "show", "--tenant", tenant]));
    assert_ne!(keys[0], keys[1]);
    assert_fails(&home.run(&["account", "list", "--tenant", "third"]), 1, &["`third`", "main", "other"]);
}

#[test]
fn a_key_of_synapse_is_taken_over_before_the_first_start() {
    let home = Home::new("");
    fs::write(home.path().join("synapse.key"), SYNAPSE_KEY).unwrap();
    home.succeed(&["key", "import", "synapse.key"]);
    assert_eq!(home.succeed(&["key", "show"]), format!("ed25519:a_AbCd {SYNAPSE_PUBLIC} signs"));
    drop(home.serve());
    assert_eq!(home.succeed(&["key", "show"]), format!("ed25519:a_AbCd {SYNAPSE_PUBLIC} signs"));
}

#[test]
fn a_running_server_takes_up_a_new_key_at_its_next_start() {
    let home = Home::new("");
    home.succeed(&["account", "create", "alice"]);
    let server = home.serve();
    let first = signing(&home);
    fs::write(home.path().join("synapse.key"), SYNAPSE_KEY).unwrap();
    let said = home.succeed(&["key", "import", "synapse.key"]);
    assert!(said.contains("next start") && said.contains(&first), "{said}");
    assert_eq!(signing(&home), first);
    server.kill();

    let server = home.serve();
    assert_eq!(signing(&home), "ed25519:a_AbCd");
    let shown = home.succeed(&["key", "show"]);
    assert!(shown.lines().any(|line| line.starts_with(&first) && line.contains("signed until")), "{shown}");
    drop(server);
}

#[test]
fn a_generated_key_replaces_the_present_one_which_becomes_an_old_one() {
    let home = Home::new("");
    home.succeed(&["account", "create", "alice"]);
    let first = signing(&home);
    home.succeed(&["key", "generate"]);
    let second = signing(&home);
    assert_ne!(first, second);
    let shown = home.succeed(&["key", "show"]);
    assert!(shown.lines().any(|line| line.starts_with(&first) && line.contains("signed until")), "{shown}");
}

#[test]
fn what_is_no_key_file_is_refused_and_not_shown() {
    let home = Home::new("");
    fs::write(home.path().join("bad.key"), "ed25519 a_1 secret-that-is-no-seed\n").unwrap();
    let done = home.run(&["key", "import", "bad.key"]);
    assert_fails(&done, 1, &["bad.key", "line 1"]);
    assert!(!done.stderr.contains("secret-that"), "{done:?}");
    assert_fails(&home.run(&["key", "import", "missing.key"]), 1, &["missing.key"]);
}

#[test]
fn the_configuration_is_checked_by_every_command() {
    let home = Home::new("");
    let done = home.run(&["config", "check"]);
    assert_eq!(done.code, 0, "{done:?}");
    home.write_config("listen.apii = \"\"\n[[tenant]]\nserver_name = \"localhost\"\n");
    for command in [["config", "check"].as_slice(), &["serve"], &["account", "list"], &["key", "show"]] {
        assert_fails(&home.run(command), 1, &["config.toml:6: ", "`listen.apii`", "`listen.api`"]);
    }
    assert_fails(&home.run(&["config", "check", "--config", "missing.toml"]), 1, &["`missing.toml`"]);
}

#[test]
fn a_misused_command_line_is_exit_code_2() {
    let home = Home::new("");
    for command in [["frobnicate"].as_slice(), &["account"], &["account", "create"], &["serve", "--port", "1"]] {
        assert_eq!(home.run(command).code, 2, "{command:?}");
    }
    assert_eq!(home.run(&["--help"]).code, 0);
}

#[test]
fn one_server_at_a_time_has_the_data_folder() {
    let home = Home::new("");
    let server = home.serve();
    assert_fails(&home.run(&["serve"]), 1, &["in use by another process"]);
    drop(server);
    drop(home.serve());
}

#[test]
fn a_process_that_has_the_folder_but_does_not_answer_is_named_as_such() {
    let home = Home::new("");
    home.succeed(&["account", "create", "alice"]);
    let lock = fs::File::options().append(true).open(home.path().join("data/lock")).unwrap();
    lock.try_lock().unwrap();
    assert_fails(&home.run(&["account", "list"]), 1, &["does not answer"]);
}

#[test]
fn commands_without_a_server_wait_for_each_other() {
    let home = Home::new("");
    let names: Vec<String> = (0..4).map(|number| format!("user{number}")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| home.succeed(&["account", "create", name]));
        }
    });
    assert_eq!(home.succeed(&["account", "list"]).lines().count(), names.len());
}

#[test]
fn another_server_name_stops_the_start() {
    let home = Home::new("");
    home.succeed(&["account", "create", "alice"]);
    home.write_config("[[tenant]]\nserver_name = \"other.example\"\n");
    for command in [["serve"].as_slice(), &["account", "list"]] {
        assert_fails(&home.run(command), 1, &["`localhost`", "`other.example`"]);
    }
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::new("");
    let config = fs::read_to_string(home.path().join("config.toml")).unwrap();
    fs::write(home.path().join("config.toml"), config.replace("127.0.0.1:0", &address)).unwrap();
    assert_fails(&home.run(&["serve"]), 1, &[&address]);
}

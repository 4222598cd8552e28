//! The tour of the README, run as a reader would: each shell block in one shell against the built program, its output compared with what the page shows.
#![cfg(test)]

use std::{fs, io::Write as _, path::Path, process::Command};

use crate::{federation::servers::free_port, process::Home};

/// Marks the end of one block's output.
const MARK: &str = "--- end of block ---";

/// One block of commands, and the output that the page shows for it.
#[derive(Clone)]
struct Step {
    commands: String,
    shown: String,
}

/// The shell blocks of the page, each with the text block behind it.
fn steps(page: &str) -> Vec<Step> {
    let mut blocks = page.split("```sh\n").skip(1);
    let mut steps = Vec::new();
    for block in blocks.by_ref() {
        let (commands, rest) = block.split_once("```").expect("the block ends");
        let shown =
            rest.split_once("```text\n").and_then(|(_, text)| text.split_once("```")).map_or("", |(text, _)| text);
        steps.push(Step { commands: commands.to_owned(), shown: shown.to_owned() });
    }
    steps
}

/// Ids, times and key names are other ones on every run: they become the words that the page uses for them.
fn normalised(output: &str) -> String {
    let mut text = String::new();
    for word in output.split_inclusive(['"', '\n']) {
        let bare = word.trim_end_matches(['"', '\n']);
        let end = word.strip_prefix(bare).unwrap_or_default();
        let is_hash = |id: &str| id.len() == 43 && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        let is_time = bare.len() == 24 && bare.ends_with('Z') && bare.get(10..11) == Some("T");
        match bare {
            id if id.strip_prefix('!').is_some_and(is_hash) => text.push_str("!ROOM"),
            id if id.strip_prefix('$').is_some_and(is_hash) => text.push_str("$EVENT"),
            key if key.starts_with("ed25519:") => text.push_str("ed25519:KEY"),
            _ if is_time => text.push_str("TIME"),
            other => text.push_str(other),
        }
        text.push_str(end);
    }
    text
}

/// A section of the page, by its heading.
fn section(heading: &str) -> Vec<Step> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, from) = page.split_once(&format!("\n## {heading}\n")).expect("the page has the section");
    steps(from.split_once("\n## ").map_or(from, |(section, _)| section))
}

/// Runs the blocks in one shell, and answers what each printed. The page finds the program in the build folder and servers at fixed addresses: those are replaced.
fn run(home: &Home, steps: &[Step], replaced: &[(&str, &str)]) -> Vec<String> {
    let program = format!("yurt() {{ '{}' \"$@\" 2>>complaints; }}", env!("CARGO_BIN_EXE_yurt"));
    let mut script = String::from("exec 2>&1\n");
    for step in steps {
        for line in step.commands.lines() {
            let line = if line.starts_with("yurt()") { program.clone() } else { line.to_owned() };
            script.push_str(&replaced.iter().fold(line, |line, (old, new)| line.replace(old, new)));
            script.push('\n');
        }
        script.push_str(&format!("echo '{MARK}'\n"));
    }
    let mut shell = Command::new("timeout");
    // Yurt refuses variables of its own that it does not know.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("YURT_TEST_")) {
        shell.env_remove(name);
    }
    let done = shell
        .args(["120", "bash", "-c", &script])
        .current_dir(home.path())
        .env("NO_PROXY", "*")
        .env("no_proxy", "*")
        .output()
        .unwrap();
    let printed = String::from_utf8(done.stdout).unwrap();
    let outputs: Vec<String> = printed.split(&format!("{MARK}\n")).map(str::to_owned).collect();
    assert_eq!(outputs.len(), steps.len() + 1, "not every block came to its end:\n{printed}");
    outputs
}

#[test]
fn the_tour_of_the_readme_shows_what_the_program_answers() {
    let steps = section("A tour in five minutes");
    assert!(steps.len() >= 6, "the tour has its blocks");
    let home = Home::new("");
    let server = home.serve();
    let outputs = run(&home, &steps, &[("http://127.0.0.1:8080", &server.api)]);
    for (number, (step, output)) in steps.iter().zip(outputs).enumerate() {
        let complaints = fs::read_to_string(home.path().join("complaints")).unwrap_or_default();
        assert_eq!(normalised(&output), step.shown, "block {number} of the tour:\n{}\n{complaints}", step.commands);
    }
}

#[test]
fn a_room_moves_as_the_readme_shows() {
    let steps = section("Move a room");
    assert!(steps.len() >= 4, "the section has its blocks");
    let home = Home::new("");
    let server = home.serve();
    let before = section("A tour in five minutes");
    // The Tea Room is made by the first steps of the tour.
    let (steps, made) = ([&before[..2], &steps[..]].concat(), 2);
    let outputs = run(&home, &steps, &[("http://127.0.0.1:8080", &server.api)]);
    for (number, (step, output)) in steps.iter().zip(outputs).enumerate().skip(made) {
        assert_eq!(normalised(&output), step.shown, "block {number}:\n{}", step.commands);
    }
}

#[test]
fn the_readmes_chat_with_a_synapse_goes_as_it_shows() {
    if std::env::var("YURT_TEST_PEER").as_deref() == Ok("none") {
        writeln!(std::io::stdout(), "YURT_TEST_PEER=none: the README's chat with a Synapse is left out").ok();
        return;
    }
    let ports = [free_port(), free_port(), free_port()].map(|port| port.to_string());
    let [ours, theirs, clients] = &ports;
    let home = Home::new("");
    let configure = |more: &str| {
        home.write_config(&format!(
            "listen.federation = \"127.0.0.1:{ours}\"\nfederation.allow_addresses = [\"127.0.0.0/8\"]\n{more}[[tenant]]\nserver_name = \"localhost:{ours}\"\n"
        ));
    };
    configure("");
    drop(home.serve());
    // The order matters: the other server's name and port hold ours.
    let name = format!(":localhost:{ours}");
    let replaced = [
        ("localhost:18448", "@PEER@"),
        (":localhost", name.as_str()),
        ("@PEER@", "localhost:18448"),
        ("18448", theirs.as_str()),
        ("18008", clients.as_str()),
        ("tests/peers", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers")),
    ];
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, launch) = page.split_once("    tests/peers/synapse/start ").expect("the page starts a Synapse");
    let (launch, _) = launch.split_once("\n    YURT_").expect("and then Yurt");
    let launch = format!("tests/peers/synapse/start {} --watch-pid {}", launch.replace("\\\n", ""), std::process::id());
    run(&home, &[Step { commands: launch, shown: String::new() }], &replaced);
    configure("federation.ca_files = [\"target/synapse/ca/ca.pem\"]\n");
    let server = home.serve();
    let mut steps = section("A tour in five minutes");
    steps.truncate(2);
    steps.extend(section("Together with a Synapse"));
    assert_eq!(steps.len(), 4);
    let with_api = [&[("http://127.0.0.1:8080", server.api.as_str())], &replaced[..]].concat();
    let outputs = run(&home, &steps, &with_api);
    for (step, output) in steps.iter().zip(outputs).skip(2) {
        assert_eq!(normalised(&output), step.shown, "{}", step.commands);
    }
    let stop = Step { commands: "tests/peers/synapse/stop target/synapse".to_owned(), shown: String::new() };
    run(&home, &[stop], &replaced);
}

#[test]
fn what_differs_between_runs_is_given_its_word() {
    let line = "{\"id\":\"!yo0DCQThRP0nh4wPyVn4w2LvqamzkxgGAdaxXeZBbzs\",\"at\":\"2026-11-21T05:39:47.331Z\",\"name\":\"Tea\"}\n";
    assert_eq!(normalised(line), "{\"id\":\"!ROOM\",\"at\":\"TIME\",\"name\":\"Tea\"}\n");
}

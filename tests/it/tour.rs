//! The tour of the README, run as a reader would: each shell block in one shell against the built program, its output compared with what the page shows.
#![cfg(test)]

use std::{fs, path::Path, process::Command};

use crate::process::Home;

/// Marks the end of one block's output.
const MARK: &str = "--- end of block ---";

/// One block of commands, and the output that the page shows for it.
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

#[test]
fn the_tour_of_the_readme_shows_what_the_program_answers() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let steps = steps(&page);
    assert!(steps.len() >= 6, "the tour has its blocks");
    let home = Home::new("");
    let server = home.serve();
    let mut script = String::from("exec 2>&1\n");
    for step in &steps {
        // The page finds the program in the build folder and the server at its default address; here both are known.
        let program = format!("yurt() {{ '{}' \"$@\" 2>/dev/null; }}", env!("CARGO_BIN_EXE_yurt"));
        for line in step.commands.lines() {
            let line = if line.starts_with("yurt()") { program.clone() } else { line.to_owned() };
            script.push_str(&line.replace("http://127.0.0.1:8080", &server.api));
            script.push('\n');
        }
        script.push_str(&format!("echo '{MARK}'\n"));
    }
    let done = Command::new("bash")
        .arg("-c")
        .arg(&script)
        .current_dir(home.path())
        .env("NO_PROXY", "*")
        .env("no_proxy", "*")
        .output()
        .unwrap();
    let printed = String::from_utf8(done.stdout).unwrap();
    let outputs: Vec<&str> = printed.split(&format!("{MARK}\n")).collect();
    for (number, step) in steps.iter().enumerate() {
        let output = outputs.get(number).unwrap_or_else(|| panic!("block {number} printed nothing:\n{printed}"));
        assert_eq!(normalised(output), step.shown, "block {number} of the tour:\n{}", step.commands);
    }
}

#[test]
fn what_differs_between_runs_is_given_its_word() {
    let line = "{\"id\":\"!yo0DCQThRP0nh4wPyVn4w2LvqamzkxgGAdaxXeZBbzs\",\"at\":\"2026-11-21T05:39:47.331Z\",\"name\":\"Tea\"}\n";
    assert_eq!(normalised(line), "{\"id\":\"!ROOM\",\"at\":\"TIME\",\"name\":\"Tea\"}\n");
}

//! The house rules that neither compiler nor clippy sees: walls between layers, one writer of history, no dead files.
//!
//! Each check is a function from source texts to complaints. It is run over the repository, where it must find nothing, and
//! over a made-up bad source, where it must find something.
#![cfg(test)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

mod source;

use source::{CodePath, Source, files};

/// A layer, and what its code may not name. A name is the first segment of a path (after `crate`, `self` and `super`), or two.
struct Wall {
    layer: &'static [&'static str],
    but_not: &'static [&'static str],
    forbidden: &'static [&'static str],
}

const WALLS: &[Wall] = &[
    Wall {
        layer: &["rules/src"],
        but_not: &[],
        forbidden: &[
            "std::env",
            "std::fs",
            "std::io",
            "std::net",
            "std::process",
            "std::thread",
            "std::time",
            "tokio",
            "axum",
            "hyper",
            "rocksdb",
            "rand",
            "tracing_subscriber",
            "yurt",
            "federation",
        ],
    },
    Wall { layer: &["federation/src"], but_not: &[], forbidden: &["rules", "yurt", "rocksdb"] },
    Wall {
        layer: &["src/storage"],
        but_not: &[],
        forbidden: &["actions", "api", "federation", "server", "control", "config", "live", "axum", "http", "hyper"],
    },
    Wall { layer: &["src"], but_not: &["src/storage"], forbidden: &["rocksdb", "object_store"] },
    Wall {
        layer: &["src/actions", "src/live", "src/jobs"],
        but_not: &[],
        forbidden: &["api", "server", "control", "axum", "http", "hyper", "tower", "tower_http"],
    },
    Wall {
        layer: &["src/bundle"],
        but_not: &[],
        forbidden: &[
            "actions",
            "api",
            "storage",
            "federation",
            "server",
            "control",
            "config",
            "tokio",
            "axum",
            "http",
            "hyper",
        ],
    },
    Wall { layer: &["src"], but_not: &["src/bundle"], forbidden: &["zip"] },
    Wall {
        layer: &["src/api"],
        but_not: &[],
        forbidden: &["storage", "federation", "server", "control", "data_folder"],
    },
    Wall {
        layer: &["src/clock", "src/random", "src/config", "src/telemetry", "src/data_folder"],
        but_not: &[],
        forbidden: &["actions", "api", "storage", "server", "control", "axum"],
    },
    Wall { layer: &["src"], but_not: &["src/server", "src/main", "src/cli"], forbidden: &["server"] },
];

/// The keyspaces that are a room's history. Everybody reads them; one file writes them.
const HISTORY: &[&str] = &[
    "EVENTS",
    "EVENT_IDS",
    "TIMELINE",
    "TIP",
    "SUMMARY",
    "STATE_KEYS",
    "STATE_NODES",
    "OWN_MESSAGES",
    "REDACTIONS",
    "SENT_UNDER",
    "MISSING",
    "COME_AGAIN",
    "WAITING_REDACTIONS",
    "SERVERS",
    "SINCE",
    "LEFT",
    "SENT_ON",
];

/// The calls that write a row.
const WRITES: &[&str] = &["put", "put_content", "delete", "delete_content", "delete_prefix"];

/// Names of `StatusCode` that tell a failure begin like this.
const FAILURES: &[&str] = &[
    "BAD_",
    "UNAUTHORIZED",
    "PAYMENT_",
    "FORBIDDEN",
    "NOT_FOUND",
    "METHOD_NOT_",
    "NOT_ACCEPTABLE",
    "PROXY_",
    "REQUEST_",
    "CONFLICT",
    "GONE",
    "LENGTH_",
    "PRECONDITION_",
    "PAYLOAD_",
    "CONTENT_TOO_",
    "URI_",
    "UNSUPPORTED_",
    "RANGE_",
    "EXPECTATION_",
    "IM_A_",
    "MISDIRECTED_",
    "UNPROCESSABLE_",
    "LOCKED",
    "FAILED_",
    "TOO_",
    "UPGRADE_",
    "UNAVAILABLE_",
    "INTERNAL_",
    "NOT_IMPLEMENTED",
    "SERVICE_",
    "GATEWAY_",
    "HTTP_",
    "VARIANT_",
    "INSUFFICIENT_",
    "LOOP_",
    "NOT_EXTENDED",
    "NETWORK_",
];

/// Files that may have more than 500 lines, each with its reason.
const LONG: &[(&str, &str)] = &[];

/// Where source code lies.
const CODE: &[&str] = &["src", "rules", "federation", "tests", "benches"];

fn code() -> Vec<Source> {
    files(CODE, &[".rs"])
}

fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn bad(path: &str, text: &str) -> Vec<Source> {
    vec![Source::new(path, text)]
}

#[test]
fn no_layer_names_what_its_walls_forbid() {
    none(&walls(&code()));
}

#[test]
fn the_walls_notice_each_way_of_naming_something() {
    let cases = [
        ("src/api/v1/rooms.rs", "use crate::storage::Store;"),
        ("src/api/v1/rooms.rs", "use crate::{actions, storage::{Store, Commit}};"),
        ("src/api/v1/rooms.rs", "fn f() { super::super::storage::open(); }"),
        ("src/api.rs", "use federation as f;"),
        ("src/actions/rooms.rs", "use axum::Json;"),
        ("src/actions/rooms.rs", "fn f() -> http::StatusCode { todo }"),
        ("src/actions.rs", "use crate::api::v1;"),
        ("src/storage/members.rs", "use crate::actions::Caller;"),
        ("src/actions/rooms.rs", "use rocksdb::DB;"),
        ("src/live.rs", "use crate::server::Running;"),
        ("rules/src/event.rs", "use std::{collections, time::SystemTime};"),
        ("rules/src/event.rs", "fn f() { std::fs::read(x); }"),
        ("federation/src/peer.rs", "use rules::Event;"),
    ];
    for (path, text) in cases {
        assert!(!walls(&bad(path, text)).is_empty(), "{path}: {text}");
    }
    none(&walls(&bad("src/api/v1/rooms.rs", "//! Never: storage::Store\nuse crate::actions::rooms;\n")));
    none(&walls(&bad("src/storage/rocksdb.rs", "use rocksdb::DB;")));
}

fn walls(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for wall in WALLS {
        let inside = |source: &&Source| {
            let on = |place: &&str| source.is_in(place);
            wall.layer.iter().any(on) && !wall.but_not.iter().any(on)
        };
        for source in sources.iter().filter(inside) {
            for path in source.paths() {
                if let Some(name) = wall.forbidden.iter().find(|name| names(&path, name)) {
                    complaints.push(format!("{}:{}: {} may not name `{name}`", source.path, path.line, wall.layer[0]));
                }
            }
        }
    }
    complaints
}

fn names(path: &CodePath, name: &str) -> bool {
    let mut segments =
        path.segments.iter().skip_while(|segment| matches!(segment.as_str(), "crate" | "self" | "super"));
    name.split("::").all(|part| segments.next().is_some_and(|segment| segment == part))
}

/// S2S 11 one writer for each room.
#[test]
fn room_history_has_one_writer() {
    none(&history_writers(&code()));
}

#[test]
fn a_second_writer_of_history_is_noticed() {
    for text in
        ["commit.put(&EVENTS, &a, &b)", "commit\n.put(\n&keyspaces::TIMELINE, &a, &b)", "x.delete_prefix(& TIP, ())"]
    {
        assert_eq!(history_writers(&bad("src/actions/rooms.rs", text)).len(), 1, "{text}");
        none(&history_writers(&bad("src/actions/append.rs", text)));
    }
    none(&history_writers(&bad("src/actions/rooms.rs", "store.get(&EVENTS, &a); commit.put(&PERSONAL, &EVENTS)")));
}

fn history_writers(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    let readers =
        |source: &&Source| source.is_in("src") && !source.is_in("src/storage") && !source.is_in("src/actions/append");
    for source in sources.iter().filter(readers) {
        let code: String = source.code.split_whitespace().collect();
        for write in WRITES {
            for (at, call) in code.match_indices(&format!(".{write}(&")) {
                let argument: &str = code[at + call.len()..].split([',', ')']).next().unwrap();
                let keyspace = argument.rsplit("::").next().unwrap();
                if HISTORY.contains(&keyspace) {
                    complaints.push(format!("{}: only actions/append.rs may {write} {keyspace}", source.path));
                }
            }
        }
    }
    complaints
}

#[test]
fn only_one_file_maps_errors_to_statuses() {
    none(&statuses(&code()));
}

#[test]
fn a_status_elsewhere_is_noticed() {
    for text in
        ["StatusCode::NOT_FOUND", "axum::http::StatusCode::INTERNAL_SERVER_ERROR", "use http::StatusCode::{CONFLICT};"]
    {
        assert_eq!(statuses(&bad("src/api/v1/rooms.rs", text)).len(), 1, "{text}");
        none(&statuses(&bad("src/api/error.rs", text)));
    }
    none(&statuses(&bad("src/api/v1/rooms.rs", "StatusCode::CREATED; StatusCode::OK")));
}

fn statuses(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| source.is_in("src") && source.path != "src/api/error.rs") {
        for path in source.paths() {
            let status = path.segments.iter().skip_while(|segment| *segment != "StatusCode").nth(1);
            if let Some(status) = status.filter(|status| FAILURES.iter().any(|failure| status.starts_with(failure))) {
                complaints.push(format!("{}:{}: {status} belongs in src/api/error.rs", source.path, path.line));
            }
        }
    }
    complaints
}

#[test]
fn every_file_is_part_of_a_crate() {
    none(&dead_files(&code()));
}

#[test]
fn a_file_without_a_mod_line_is_noticed() {
    let tree = |lib: &str| {
        vec![
            Source::new("src/lib.rs", lib),
            Source::new("src/a.rs", "pub(crate) mod b;\n// mod c;"),
            Source::new("src/a/b.rs", "#[cfg(test)]\nmod tests {\nmod inner;\n}"),
            Source::new("src/a/c.rs", ""),
        ]
    };
    assert_eq!(dead_files(&tree("pub mod a;")), ["src/a/c.rs: no `mod` line leads here"]);
    assert_eq!(dead_files(&tree("")).len(), 3);
}

fn dead_files(sources: &[Source]) -> Vec<String> {
    let by_path: BTreeMap<&str, &Source> = sources.iter().map(|source| (source.path.as_str(), source)).collect();
    let is_root = |path: &str| {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        matches!(file, "lib.rs" | "main.rs")
            || folder.ends_with("benches")
            || folder == "rules/tests"
            || folder == "federation/tests"
    };
    let mut waiting: Vec<&str> = by_path.keys().copied().filter(|path| is_root(path)).collect();
    let mut alive: BTreeSet<String> = waiting.iter().map(|path| (*path).to_owned()).collect();
    while let Some(path) = waiting.pop() {
        let folder = match path.rsplit_once('/') {
            Some((folder, _)) if is_root(path) => folder.to_owned(),
            _ => path.trim_end_matches(".rs").to_owned(),
        };
        for module in modules(&by_path[path].code) {
            let child = format!("{folder}/{module}.rs");
            if let Some((child, _)) = by_path.get_key_value(child.as_str())
                && alive.insert((*child).to_owned())
            {
                waiting.push(child);
            }
        }
    }
    let dead = by_path.keys().filter(|path| !alive.contains(**path));
    dead.map(|path| format!("{path}: no `mod` line leads here")).collect()
}

/// The modules that a file declares in files of their own.
fn modules(code: &str) -> Vec<String> {
    code.lines()
        .filter_map(|line| line.trim().strip_suffix(';')?.rsplit_once("mod "))
        .filter(|(before, _)| before.is_empty() || before.ends_with(' '))
        .map(|(_, name)| name.trim().to_owned())
        .collect()
}

#[test]
fn the_architecture_page_names_every_module_file() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap_or_default();
    none(&unnamed_files(&page, &files(&["src", "rules/src", "federation/src"], &[".rs"])));
}

#[test]
fn a_file_that_the_architecture_page_forgot_is_noticed() {
    let sources = || vec![Source::new("src/api/v1/rooms.rs", ""), Source::new("rules/src/event.rs", "")];
    none(&unnamed_files("src/api/v1/  members.rs rooms.rs\nrules/src/event.rs an event\n", &sources()));
    none(&unnamed_files("`api/v1/rooms.rs`, rules: `event.rs`", &sources()));
    none(&unnamed_files("", &bad("src/storage/state/tests.rs", "")));
    assert_eq!(unnamed_files("src/api/  rooms.rs\nrules: event.rs", &sources()).len(), 1);
    assert_eq!(unnamed_files("src/api/v1/ bedrooms.rs\nevent.rs", &sources()).len(), 2);
}

/// A file is named by a line that has its path, from the repository or from its crate's `src`, or its folder's path with a `/`
/// and the file's name; a module's `tests.rs` need not be named. For a file right in `rules/src` or `federation/src`, the crate's name will do for a folder.
fn unnamed_files(page: &str, sources: &[Source]) -> Vec<String> {
    let lines: Vec<BTreeSet<&str>> = page
        .lines()
        .map(|line| {
            line.split(|c: char| !(c.is_alphanumeric() || "/._-".contains(c)))
                .map(|word| word.trim_end_matches('.'))
                .collect()
        })
        .collect();
    let is_named = |source: &&Source| {
        let path = source.path.as_str();
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let folders =
            [format!("{folder}/"), format!("{}/", within_src(folder)), folder.trim_end_matches("/src").to_owned()];
        lines.iter().any(|words| {
            let is_whole = words.contains(path) || words.contains(within_src(path));
            is_whole || (words.contains(file) && folders.iter().any(|folder| words.contains(folder.as_str())))
        })
    };
    let unnamed = sources.iter().filter(|source| !source.path.ends_with("/tests.rs") && !is_named(source));
    unnamed.map(|source| format!("{}: ARCHITECTURE.md does not name it", source.path)).collect()
}

/// A path of the root package as its page may say it: without `src/`.
fn within_src(path: &str) -> &str {
    path.strip_prefix("src/").unwrap_or(path)
}

#[test]
fn no_file_is_too_long_to_hold_one_thing() {
    none(&long_files(&files(&["src", "rules/src", "federation/src", "benches"], &[".rs"])));
}

#[test]
fn a_long_file_is_noticed() {
    assert_eq!(long_files(&bad("src/a.rs", &"x\n".repeat(501))).len(), 1);
    none(&long_files(&bad("src/a.rs", &"x\n".repeat(500))));
}

fn long_files(sources: &[Source]) -> Vec<String> {
    let excused = |source: &Source| LONG.iter().any(|(path, _)| *path == source.path);
    let long = sources.iter().filter(|source| source.text.lines().count() > 500 && !excused(source));
    long.map(|source| format!("{}: {} lines", source.path, source.text.lines().count())).collect()
}

#[test]
fn nothing_unfinished_is_left_lying() {
    none(&leftovers(&code()));
}

#[test]
fn what_is_left_lying_is_noticed() {
    let mark = |word: &str| ["TO", word].concat();
    for text in
        [format!("// {}: later", mark("DO")), "#[ign".to_owned() + "ore]", "#[al".to_owned() + "low(dead_code)]"]
    {
        assert_eq!(leftovers(&bad("src/a.rs", &text)).len(), 1, "{text}");
    }
    none(&leftovers(&bad("src/a.rs", &format!("// {} (issue 7): later", mark("DO")))));
}

fn leftovers(sources: &[Source]) -> Vec<String> {
    let marks = [["TO", "DO"], ["FIX", "ME"], ["#[ign", "ore"], ["#[al", "low("], ["#![al", "low("]]
        .map(|halves| halves.concat());
    let mut complaints = Vec::new();
    for source in sources {
        for (number, line) in source.text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(mark.as_str()) && !line.contains("issue ")) {
                complaints.push(format!("{}:{}: {mark}", source.path, number + 1));
            }
        }
    }
    complaints
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    let endings = [".rs", ".toml", ".md", ".yaml", ".json", "Makefile", "/run"];
    let places =
        [CODE, &["schemas", ".ci", ".cargo/config.toml", "Makefile", "README.md", "ARCHITECTURE.md", "config.toml"]]
            .concat();
    none(&machine_paths(&files(&places, &endings)));
    none(&machine_paths(&files(&["Cargo.toml", "clippy.toml", "deny.toml", "rustfmt.toml"], &endings)));
}

#[test]
fn a_place_on_a_machine_is_noticed() {
    for folder in ["ro\u{6f}t", "h\u{6f}me", "w\u{6f}rk", "Us\u{65}rs"] {
        assert_eq!(machine_paths(&bad("src/a.rs", &format!("let path = \"/{folder}/somebody\";"))).len(), 1);
    }
    none(&machine_paths(&bad("src/a.rs", "\"https://example.org/root\"; /rooms/{id}")));
}

fn machine_paths(sources: &[Source]) -> Vec<String> {
    let folders = [["/ro", "ot/"], ["/ho", "me/"], ["/wo", "rk/"], ["/Us", "ers/"], ["/tmp/", "plan"]]
        .map(|halves| halves.concat());
    let mut complaints = Vec::new();
    for source in sources {
        for (number, line) in source.text.lines().enumerate() {
            if folders.iter().any(|folder| line.contains(folder.as_str())) {
                complaints.push(format!("{}:{}: {line}", source.path, number + 1));
            }
        }
    }
    complaints
}

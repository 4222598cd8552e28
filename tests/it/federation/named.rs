//! Which tests there are, read from the sources: what a table says about tests is checked against it.

use std::{collections::BTreeSet, fs, path::Path};

/// The path of every test of the repository: `rules::...` and `federation::...` for what lies in those crates, `yurt::...` for `src`, `it::...` for `tests/it`;
/// what lies in `rules/tests/it` is `rules::it::...`.
pub(super) fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    for place in ["src", "rules", "federation", "tests"] {
        walk(root, &root.join(place), &mut found);
    }
    found
}

/// What is wrong with what a table says about its tests.
pub(super) fn unknown<'a>(named: impl IntoIterator<Item = &'a &'a str>) -> Vec<String> {
    let tests = tests();
    let unknown = named.into_iter().filter(|name| !tests.contains(**name));
    unknown.map(|name| format!("there is no test `{name}`")).collect()
}

fn walk(root: &Path, place: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(root, &path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let module = module(path.strip_prefix(root).unwrap().to_str().unwrap());
            found.extend(tests_of(&fs::read_to_string(&path).unwrap()).map(|name| format!("{module}::{name}")));
        }
    }
}

/// The module that a file is.
fn module(file: &str) -> String {
    let file = file.trim_end_matches(".rs");
    let (first, rest) = file.split_once('/').unwrap();
    let inside = match (first, rest.split_once('/')) {
        ("src", _) => format!("yurt/{rest}"),
        ("tests", _) => rest.to_owned(),
        (_, Some(("src" | "tests", rest))) => format!("{first}/{rest}"),
        _ => file.to_owned(),
    };
    inside.trim_end_matches("/main").trim_end_matches("/lib").replace('/', "::")
}

/// The tests of one file, those in a module of its own with the module's name before them.
fn tests_of(text: &str) -> impl Iterator<Item = String> {
    let (mut inside, mut is_test, mut found) = (None, false, Vec::new());
    for line in text.lines() {
        let code = line.trim_start();
        if let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) {
            inside = Some(name);
        } else if line == "}" {
            inside = None;
        } else if code.starts_with("#[test]") || code.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = code.split_once("fn ").filter(|_| is_test) {
            let name: String = rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
            found.push(inside.map_or(name.clone(), |inside| format!("{inside}::{name}")));
            is_test = false;
        } else if let Some((name, _)) = code.split_once(": \"").filter(|_| code.ends_with(".json\",")) {
            // One scene, which a macro makes a test of.
            found.push(name.to_owned());
        }
    }
    found.into_iter()
}

#[test]
fn tests_are_found_by_their_paths() {
    for (file, expected) in [
        ("src/server/admission.rs", "yurt::server::admission"),
        ("src/lib.rs", "yurt"),
        ("rules/src/power.rs", "rules::power"),
        ("rules/tests/it/main.rs", "rules::it"),
        ("federation/src/peer/tests.rs", "federation::peer::tests"),
        ("federation/src/inbound/tests/door.rs", "federation::inbound::tests::door"),
        ("tests/it/federation/named.rs", "it::federation::named"),
    ] {
        assert_eq!(module(file), expected);
    }
    let text = "#[test]\nfn one() {\n}\nfn no() {}\n#[cfg(test)]\nmod tests {\n    /// A sentence.\n    #[tokio::test(start_paused = true)]\n    async fn two() {}\n}\n\
                proptest! {\n    #[test]\n    fn three(a: u8) {}\n}\n    four: \"four.json\",\n";
    assert!(tests_of(text).eq(["one", "tests::two", "three", "four"]));
    assert!(tests().contains("it::federation::named::tests_are_found_by_their_paths"));
    assert_eq!(unknown(&["it::federation::named::nothing"]).len(), 1);
}

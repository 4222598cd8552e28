//! Which tests there are, read from the sources: what a table says about tests is checked against it.

use std::{collections::BTreeMap, fs, path::Path};

/// What stands above each test of the repository; none above those that a macro makes. Their paths are `rules::...` and `federation::...` for what lies in those
/// crates, `yurt::...` for `src`, `it::...` for `tests/it`; what lies in `rules/tests/it` is `rules::it::...`.
pub(super) fn tests() -> BTreeMap<String, Option<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeMap::new();
    for place in ["src", "rules", "federation", "tests"] {
        walk(root, &root.join(place), &mut found);
    }
    found
}

/// What is wrong with the tests that a table names: they do not exist, or do not say what they hold.
pub(super) fn complaints<'a>(
    tests: &BTreeMap<String, Option<String>>,
    named: impl IntoIterator<Item = &'a &'a str>,
    says: impl Fn(&str) -> bool,
) -> Vec<String> {
    let judge = |name: &&str| match tests.get(*name) {
        None => Some(format!("there is no test `{name}`")),
        Some(Some(comment)) if !says(comment) => Some(format!("what stands above `{name}` does not say so")),
        Some(_) => None,
    };
    named.into_iter().filter_map(judge).collect()
}

fn walk(root: &Path, place: &Path, found: &mut BTreeMap<String, Option<String>>) {
    for entry in fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(root, &path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let module = module(path.strip_prefix(root).unwrap().to_str().unwrap());
            let text = fs::read_to_string(&path).unwrap();
            found.extend(tests_of(&text).map(|(name, comment)| (format!("{module}::{name}"), comment)));
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
fn tests_of(text: &str) -> impl Iterator<Item = (String, Option<String>)> {
    let (mut inside, mut is_test, mut comment, mut found) = (None, false, String::new(), Vec::new());
    for line in text.lines() {
        let code = line.trim_start();
        if let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) {
            inside = Some(name);
        } else if line == "}" {
            inside = None;
        }
        if let Some(more) = code.strip_prefix("///") {
            comment.push_str(more);
        } else if code.starts_with("#[test]") || code.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = code.split_once("fn ").filter(|_| is_test) {
            let name: String = rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
            let name = inside.map_or(name.clone(), |inside| format!("{inside}::{name}"));
            found.push((name, Some(std::mem::take(&mut comment))));
            is_test = false;
        } else if let Some((name, _)) = code.split_once(": \"").filter(|_| code.ends_with(".json\",")) {
            // One scene, which a macro makes a test of.
            found.push((name.to_owned(), None));
        } else if !code.starts_with("#[") {
            comment.clear();
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
    let found: Vec<(String, Option<String>)> = tests_of(text).collect();
    let found: Vec<(&str, Option<&str>)> = found.iter().map(|(name, said)| (name.as_str(), said.as_deref())).collect();
    let expected = [("one", Some("")), ("tests::two", Some(" A sentence.")), ("three", Some("")), ("four", None)];
    assert_eq!(found, expected);
    let tests = tests();
    let this = "it::federation::named::tests_are_found_by_their_paths";
    assert!(complaints(&tests, &[this], |_| true).is_empty());
    assert_eq!(complaints(&tests, &[this], |_| false).len(), 1);
    assert_eq!(complaints(&tests, &["it::federation::named::nothing"], |_| true).len(), 1);
}

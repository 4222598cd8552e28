//! The test vectors of other servers' rules: each is used, and says where it is from.

use std::{fs, path::Path};

/// Folders with vectors, and the code that reads them.
const FOLDERS: &[(&str, &[&str])] = &[
    ("rules/fixtures/vectors", &["rules/src", "rules/tests"]),
    ("federation/fixtures", &["federation/src", "tests/it/federation"]),
];

fn sources(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = entries.map(|path| match path.extension() {
        _ if path.is_dir() => sources(&path),
        Some(ending) if ending == "rs" => fs::read_to_string(&path).unwrap(),
        _ => String::new(),
    });
    text.collect()
}

#[test]
fn every_vector_is_used_and_says_where_it_is_from() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (folder, readers) in FOLDERS {
        let readme = fs::read_to_string(root.join(folder).join("README.md")).unwrap();
        let code: String = readers.iter().map(|reader| sources(&root.join(reader))).collect();
        let mut vectors = 0;
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.starts_with("README") || name.starts_with("LICENSE") {
                continue;
            }
            vectors += 1;
            let row = readme.lines().find(|line| line.starts_with(&format!("| `{}", name.trim_end_matches('/'))));
            let source = row.and_then(|row| row.split('|').nth(3));
            assert!(source.is_some_and(|source| source.trim().len() > 2), "{folder}/README.md says nothing of {name}");
            assert!(
                code.contains(&format!("{name}\"")) || code.contains(&format!("{name}/")),
                "{folder}/{name} is not used"
            );
        }
        assert!(vectors >= 4, "{folder}");
    }
}

//! Rust files as the tidy tests read them: text, code without comments and strings, and the paths that the code names.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One file of the repository.
pub(super) struct Source {
    /// From the root of the repository, with `/`.
    pub(super) path: String,
    /// As it stands in the file.
    pub(super) text: String,
    /// The same lines without comments, strings and the test module at the end.
    pub(super) code: String,
}

/// A path such as `crate::storage::Store` in the code of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CodePath {
    pub(super) line: usize,
    pub(super) segments: Vec<String>,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let code = without_comments_and_strings(text);
        let code = match test_module_start(&code) {
            Some(start) => code[..start].to_owned(),
            None => code,
        };
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    pub(super) fn is_in(&self, place: &str) -> bool {
        self.path == format!("{place}.rs") || self.path.starts_with(&format!("{place}/"))
    }

    /// Every path of two or more segments, those of `use` trees one by one.
    pub(super) fn paths(&self) -> Vec<CodePath> {
        let tokens = tokens(&self.code);
        let mut found = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            // `use<…>` in a type says what it captures.
            if tokens[at].text == "use" && tokens.get(at + 1).is_none_or(|next| next.text != "<") {
                at = use_tree(&tokens, at + 1, &[], &mut found);
            } else {
                at = plain_path(&tokens, at, &mut found);
            }
        }
        found
    }
}

/// The repository's files with one of these endings, below these places.
pub(super) fn files(places: &[&str], endings: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for place in places {
        walk(&root.join(place), endings, &mut found);
    }
    found.sort();
    found
        .iter()
        .map(|file| {
            let path = file.strip_prefix(root).unwrap().to_str().unwrap();
            Source::new(path, &fs::read_to_string(file).unwrap())
        })
        .collect()
}

fn walk(place: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    if place.is_file() && endings.iter().any(|ending| place.to_str().unwrap().ends_with(ending)) {
        found.push(place.to_owned());
    }
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries {
        walk(&entry.unwrap().path(), endings, found);
    }
}

fn test_module_start(code: &str) -> Option<usize> {
    code.match_indices("#[cfg(test)]").map(|(start, _)| start).find(|start| {
        let rest = code[*start..].trim_start_matches("#[cfg(test)]").trim_start();
        let (body, end) = (rest.find('{'), rest.find(';').unwrap_or(usize::MAX));
        rest.starts_with("mod ") && body.is_some_and(|body| body < end)
    })
}

/// Blanks comments and the insides of strings, keeping lines as they are.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = skipped(rest, code.chars().last());
        let length = if length == 0 {
            code.push(first);
            first.len_utf8()
        } else {
            code.push(' ');
            code.extend(rest[..length].chars().filter(|character| *character == '\n'));
            length
        };
        rest = &rest[length..];
    }
    code
}

/// How many bytes of comment, string or character stand at the start of `rest`; 0 when it is code.
fn skipped(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    let in_word = before.is_some_and(|character| character.is_alphanumeric() || character == '_');
    if !in_word && let Some(length) = raw_string(rest) {
        return length;
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    if rest.starts_with('\'') {
        let mut inside = rest.chars().skip(1);
        let (one, two) = (inside.next(), inside.next());
        // A lifetime has no closing quote after its first letter.
        return if one == Some('\\') || two == Some('\'') { quoted(rest, '\'') } else { 0 };
    }
    0
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().unwrap().len_utf8();
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - body.len() + hashes + 1;
    Some(rest[start..].find(&end).map_or(rest.len(), |found| start + found + end.len()))
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if character == '\\' {
            escaped = true;
        } else if character == quote {
            return at + 1;
        }
    }
    rest.len()
}

/// A word, `::`, or any other single character.
struct Token {
    line: usize,
    text: String,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|first: char| first.is_alphanumeric() || first == '_')
    }
}

fn tokens(code: &str) -> Vec<Token> {
    let mut found: Vec<Token> = Vec::new();
    let (mut line, mut rest) = (1, code);
    while let Some(first) = rest.chars().next() {
        let in_word = |character: char| character.is_alphanumeric() || character == '_';
        let length = if in_word(first) {
            rest.find(|character| !in_word(character)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if first == '\n' {
            line += 1;
        } else if !first.is_whitespace() {
            found.push(Token { line, text: rest[..length].to_owned() });
        }
        rest = &rest[length..];
    }
    found
}

/// Reads one branch of a `use` tree and answers where it ends.
fn use_tree(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<CodePath>) -> usize {
    let mut segments = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "::" => at += 1,
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    at = use_tree(tokens, at, &segments, found);
                    at += usize::from(tokens.get(at).is_some_and(|token| token.text == ","));
                }
                return at + 1;
            }
            "as" => at += 2,
            "," | "}" | ";" => break,
            text => {
                segments.push(text.to_owned());
                at += 1;
            }
        }
    }
    found.push(CodePath { line, segments });
    at
}

/// Reads the path that starts at a token, if one does, and answers where to go on.
fn plain_path(tokens: &[Token], mut at: usize, found: &mut Vec<CodePath>) -> usize {
    let line = tokens[at].line;
    let mut segments = Vec::new();
    while tokens.get(at).is_some_and(Token::is_word) {
        segments.push(tokens[at].text.clone());
        at += 1;
        if tokens.get(at).is_some_and(|token| token.text == "::") {
            at += 1;
        } else {
            break;
        }
    }
    if segments.is_empty() {
        return at + 1;
    }
    if segments.len() > 1 {
        found.push(CodePath { line, segments });
    }
    at
}

#[test]
fn code_is_what_is_left_without_comments_strings_and_tests() {
    let text = "fn a() { // axum::x\n  let b = \"http::y \\\" // z\"; /* rocksdb /* :: */ */ let c = 'c'; let d: &'static str = r#\"s\"#;\n}\n\
                #[cfg(test)]\nmod tests { use axum::x; }\n";
    let code = Source::new("src/a.rs", text).code;
    for gone in ["axum", "http", "rocksdb", "z"] {
        assert!(!code.contains(gone), "{gone} in {code}");
    }
    assert!(code.contains("&'static str"), "{code}");
    assert_eq!(code.lines().count(), 3);
    let elsewhere = "#[cfg(test)]\nmod tests;\nfn a() {}\n";
    assert_eq!(Source::new("src/a.rs", elsewhere).code, elsewhere);
}

#[test]
fn paths_are_found_in_use_trees_and_in_code() {
    let text = "use crate::{a::{B, c as d}, e};\nuse std::fs;\nfn f() -> g::H { x.y(i::j::<k::L>()) }\nfn g() -> impl m::N + use<> { {} }\n";
    let paths: Vec<_> =
        Source::new("src/a.rs", text).paths().iter().map(|path| (path.line, path.segments.join("::"))).collect();
    let expected = [
        (1, "crate::a::B"),
        (1, "crate::a::c"),
        (1, "crate::e"),
        (2, "std::fs"),
        (3, "g::H"),
        (3, "i::j"),
        (3, "k::L"),
        (4, "m::N"),
    ];
    assert_eq!(paths, expected.map(|(line, path)| (line, path.to_owned())));
}

//! Which servers a room lets in: `m.room.server_acl`, read once per event and asked often. May import `event`, ruma's ids.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#server-access-control-lists-acls-for-rooms>

use std::collections::HashSet;

use ruma::ServerName;
use serde_json::Value;

use crate::{event::Event, limits::FIELD_BYTES_MAX};

/// The access list of a room.
#[derive(Debug, Clone)]
pub struct ServerAcl(Option<Lists>);

#[derive(Debug, Clone)]
struct Lists {
    allow: Patterns,
    deny: Patterns,
    allow_ip_literals: bool,
}

impl ServerAcl {
    /// The list of the current state. Without the event every server is let in; what has a wrong type counts as missing.
    #[must_use]
    pub fn of(event: Option<&Event>) -> Self {
        Self(event.map(|event| Lists::read(&event.content_as().unwrap_or(Value::Null))))
    }

    /// Whether the server is let in. Its port is no matter, nor is the case of its letters.
    #[must_use]
    pub fn allows(&self, server: &ServerName) -> bool {
        let Some(lists) = &self.0 else { return true };
        if !lists.allow_ip_literals && server.is_ip_literal() {
            return false;
        }
        let host = server.host().to_ascii_lowercase();
        !lists.deny.match_with(&host) && lists.allow.match_with(&host)
    }
}

impl Lists {
    fn read(content: &Value) -> Self {
        let list = |field: &str| Patterns::read(content.get(field));
        Self {
            allow: list("allow"),
            deny: list("deny"),
            allow_ip_literals: content.get("allow_ip_literals").and_then(Value::as_bool).unwrap_or(true),
        }
    }
}

/// Patterns with `*` and `?`. Those without are looked up, not compared.
#[derive(Debug, Clone, Default)]
struct Patterns {
    plain: HashSet<String>,
    globs: HashSet<Vec<u8>>,
}

impl Patterns {
    fn read(list: Option<&Value>) -> Self {
        let mut patterns = Self::default();
        for pattern in list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            let pattern = pattern.to_ascii_lowercase();
            if !pattern.contains(['*', '?']) {
                patterns.plain.insert(pattern);
                continue;
            }
            let mut glob = pattern.into_bytes();
            glob.dedup_by(|one, other| (*one, *other) == (b'*', b'*'));
            // No name is long enough for more.
            if glob.iter().filter(|byte| **byte != b'*').count() <= FIELD_BYTES_MAX {
                patterns.globs.insert(glob);
            }
        }
        patterns
    }

    fn match_with(&self, host: &str) -> bool {
        self.plain.contains(host) || self.globs.iter().any(|glob| matches(glob, host.as_bytes()))
    }
}

/// Goes through both once; what a `*` stands for grows only where the rest does not fit, so no name costs more than its length times the pattern's.
fn matches(glob: &[u8], name: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(read) {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                at += 1;
                read += 1;
            }
            _ => match star {
                Some((star_at, star_read)) => {
                    star = Some((star_at, star_read + 1));
                    at = star_at + 1;
                    read = star_read + 1;
                }
                None => return false,
            },
        }
    }
    glob.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn acl(content: &Value) -> ServerAcl {
        ServerAcl(Some(Lists::read(content)))
    }

    /// Hard case 61. S2S 18 how a list is read.
    #[test]
    fn the_vectors_are_judged_as_everybody_does() {
        let vectors: Value = serde_json::from_str(include_str!("../fixtures/vectors/server-acl.json")).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() > 10);
        for case in cases {
            let acl = if case["acl"].is_null() { ServerAcl::of(None) } else { acl(&case["acl"]) };
            let server = <&ServerName>::try_from(case["server"].as_str().unwrap()).unwrap();
            assert_eq!(acl.allows(server), case["allowed"].as_bool().unwrap(), "{case}");
        }
    }

    /// S2S 18 how a list is read.
    #[test]
    fn stars_and_question_marks_stand_for_what_they_say() {
        let cases = [
            ("*", "", true),
            ("*a*a*a*", "banana", true),
            ("*a*a*a*a", "banana", false),
            ("b?n*", "banana", true),
            ("b?n", "banana", false),
            ("*.example", "a.example", true),
            ("*.example", "example", false),
            ("?", "", false),
        ];
        for (glob, name, expected) in cases {
            assert_eq!(matches(glob.as_bytes(), name.as_bytes()), expected, "{glob} {name}");
        }
    }

    /// Hard case 47.
    /// S2S 18 read once per event.
    #[test]
    fn thousands_of_patterns_full_of_stars_cost_little() {
        let patterns: Vec<String> = (0..4_000).map(|number| format!("*a*a*a*a*{number}")).collect();
        let acl = acl(&json!({ "allow": ["*"], "deny": patterns }));
        let server = format!("{}.example", "a".repeat(200));
        for _ in 0..10 {
            assert!(acl.allows(<&ServerName>::try_from(server.as_str()).unwrap()));
        }
    }
}

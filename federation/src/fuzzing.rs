//! What the fuzz targets of `fuzz/` call about the network, and what they hold their input to; there only for them and for the tests, which run every seed. A
//! function here never panics, whatever the bytes are: a panic is a finding. May import everything.

use std::str;

use http::{HeaderMap, HeaderValue, header};
use ruma::{CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName, UInt, server_name};

use crate::{
    discovery::well_known::{delegated_by, kept_for},
    inbound::{json, transaction::Transaction},
    limits::{WELL_KNOWN_KEPT_MAX, WELL_KNOWN_KEPT_MIN},
    peer::split::Splitter,
    request_signature::{self, Unverified},
    server_keys::document::keys_of,
};

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// All of them, by the name of their fuzz target and of the folder of their seeds.
pub const TARGETS: [(&str, Target); 5] = [
    ("key_answers", key_answers),
    ("send_join_answers", send_join_answers),
    ("transactions", transactions),
    ("well_known_answers", well_known_answers),
    ("x_matrix", x_matrix),
];

/// `Authorization` headers, one a line: what is read has valid names, and without a key nothing is proven.
pub fn x_matrix(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(header::AUTHORIZATION, value);
        }
    }
    let Ok(signatures) = request_signature::parse(&headers) else { return };
    assert!(!signatures.is_empty());
    for signature in &signatures {
        assert_eq!(request_signature::server_name(signature.origin.as_str()).as_ref(), Some(&signature.origin));
    }
    let us = server_name!("us.test");
    let outcome = request_signature::verify::<CanonicalJsonObject>(&signatures, "GET", "/", us, None, &|_| None);
    assert!(matches!(outcome, Err(Unverified::NoKnownKey | Unverified::OtherDestination)));
    let outcome =
        request_signature::verify::<CanonicalJsonObject>(&signatures, "GET", "/", us, None, &|_| Some([7; 32]));
    assert!(outcome.is_err(), "nobody has signed with that key");
}

/// The answer to a question for keys; the first line names the server that was asked.
pub fn key_answers(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (server, text) = text.split_once('\n').unwrap_or(("", text));
    let Ok(server) = ServerName::parse(server) else { return };
    let Ok(document) = serde_json::from_str::<CanonicalJsonObject>(text) else { return };
    let now = MilliSecondsSinceUnixEpoch(UInt::MIN);
    if let Ok(keys) = keys_of(&server, &document, now) {
        assert!(!keys.is_empty(), "one of them signed the document");
    }
}

/// The answer to a question for a delegation: a line for `Cache-Control`, one for `Expires`, and the document.
pub fn well_known_answers(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in [header::CACHE_CONTROL, header::EXPIRES] {
        if let Some(value) = parts.next().and_then(|value| HeaderValue::from_bytes(value).ok()) {
            headers.insert(name, value);
        }
    }
    let kept = kept_for(&headers, MilliSecondsSinceUnixEpoch(UInt::MIN));
    assert!((WELL_KNOWN_KEPT_MIN..=WELL_KNOWN_KEPT_MAX).contains(&kept));
    if let Some(server) = parts.next().and_then(delegated_by) {
        assert_eq!(request_signature::server_name(server.as_str()), Some(server));
    }
}

/// The body of a transaction; the first line names the server that sends it. What is handed on is read in the same way once more.
pub fn transactions(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (origin, body) = bytes.split_at(at);
    let Some(origin) = str::from_utf8(origin).ok().and_then(|name| OwnedServerName::try_from(name).ok()) else {
        return;
    };
    let Ok(body) = json::parse(body.get(1..).unwrap_or_default()) else { return };
    assert_eq!(json::parse(body.to_text().as_bytes()).ok().map(|again| again.to_text()), Some(body.to_text()));
    let Ok(transaction) = Transaction::read(&body, &origin) else { return };
    for pdu in transaction.rooms.values().flatten() {
        let event: Result<CanonicalJsonObject, _> = serde_json::from_str(pdu.get());
        assert!(event.is_ok_and(|event| !event.contains_key("unsigned")));
    }
}

/// The answer to a join: the first byte says in what pieces it comes, which makes no difference.
pub fn send_join_answers(bytes: &[u8]) {
    let Some((piece_bytes, text)) = bytes.split_first() else { return };
    let whole = split(text, text.len().max(1));
    assert_eq!(split(text, usize::from(*piece_bytes).max(1)), whole);
    if let Some((lists, _)) = whole {
        let bytes: usize = lists.iter().flatten().map(String::len).sum();
        assert!(bytes <= text.len());
    }
}

type Split = (Vec<Vec<String>>, Option<String>);

fn split(text: &[u8], piece_bytes: usize) -> Option<Split> {
    let mut splitter = Splitter::new(&["state", "auth_chain"], &["event"], 1_000, 65_536);
    for piece in text.chunks(piece_bytes) {
        splitter.push(piece).ok()?;
    }
    let mut parts = splitter.finish().ok()?;
    let mut list = |name| {
        let list = parts.list(name).unwrap_or_default();
        list.into_iter().map(|item| item.get().to_owned()).collect()
    };
    let lists = vec![list("state"), list("auth_chain")];
    Some((lists, parts.field("event").map(|event| event.get().to_owned())))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn every_seed_and_every_past_finding_is_taken() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
        for (name, target) in TARGETS {
            let files = fs::read_dir(seeds.join(name)).unwrap().map(|file| file.unwrap().path());
            let taken = files.inspect(|file| target(&fs::read(file).unwrap())).count();
            assert!(taken > 0, "{name} has no seeds");
        }
    }
}

//! Files that somebody has changed byte by byte, and events that were forged with a key of one's own: each is named with what is wrong.

use std::io::{Cursor, Write as _};

use bytes::Bytes;
use rules::{
    UnixMs,
    draft::{Around, Draft, complete},
    signature::Signer,
    version::Version,
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId};
use serde_json::{Value, json};
use yurt::bundle::{Archive, Limits, entries};
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::{bundle_of, forged::Forged, import::upload, verify};
use crate::client::{Caller, server};

/// The whole content of a ZIP again, with something else in it.
fn with(bundle: &Bytes, add: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Bytes {
    let mut from = ZipArchive::new(Cursor::new(bundle.clone())).unwrap();
    let mut to = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..from.len() {
        to.raw_copy_file(from.by_index_raw(index).unwrap()).unwrap();
    }
    add(&mut to);
    to.finish().unwrap().into_inner().into()
}

fn replaced(bytes: &Bytes, old: &[u8], new: &[u8]) -> Bytes {
    assert_eq!(old.len(), new.len());
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> = (0..bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old)).collect();
    assert!(!places.is_empty(), "there is something to replace");
    for at in places {
        bytes[at..at + new.len()].copy_from_slice(new);
    }
    bytes.into()
}

/// Sets a bit of the flags in every header of an entry, in front of it and in the list.
fn flagged(bytes: &Bytes, name: &str, bit: u8) -> Bytes {
    let mut bytes = bytes.to_vec();
    for (start, flags_at, name_at) in [(*b"PK\x03\x04", 6, 30), (*b"PK\x01\x02", 8, 46)] {
        let at = (0..bytes.len() - name_at - name.len())
            .find(|at| bytes[*at..].starts_with(&start) && bytes[at + name_at..].starts_with(name.as_bytes()));
        bytes[at.expect("the entry has a header") + flags_at] |= bit;
    }
    bytes.into()
}

fn says(bundle: &Bytes, words: &[&str]) {
    let fault = verify(bundle).err().unwrap_or_else(|| panic!("a bundle holds that should not: {words:?}")).to_string();
    assert!(words.iter().any(|words| fault.contains(words)), "`{fault}` says none of {words:?}");
}

async fn room(alice: &Caller) -> (String, Bytes) {
    let room = alice.group("Tents").await;
    for number in 0..5 {
        alice.says(&room, &format!("message {number}")).await;
    }
    let bundle = bundle_of(alice, &room).await;
    verify(&bundle).unwrap();
    (room, bundle)
}

#[tokio::test]
async fn a_zip_of_tricks_is_refused_by_its_list_of_entries() {
    let server = server().await;
    let alice = server.account("alice").await;
    let (_, bundle) = room(&alice).await;
    let options = SimpleFileOptions::default();
    let twin = |name: &str| {
        with(&bundle, |zip| {
            zip.start_file(name, options).unwrap();
            zip.write_all(b"{}").unwrap();
        })
    };
    says(&replaced(&twin("locam.json"), b"locam.json", b"local.json"), &["two entries have the same name"]);
    says(&replaced(&twin("manifesz.json"), b"manifesz.json", b"manifest.json"), &["two entries have the same name"]);
    says(&flagged(&bundle, "local.json", 1), &["encrypted"]);
    says(&with(&bundle, |zip| zip.add_directory("media/", options).unwrap()), &["no entry of a bundle", "a folder"]);
    let hash = format!("media/{}", "0".repeat(64));
    says(&with(&bundle, |zip| zip.add_symlink(hash.as_str(), "/etc/passwd", options).unwrap()), &["a link"]);
    let mut behind = b"MZ".to_vec();
    behind.extend_from_slice(&bundle);
    says(&behind.into(), &["no ZIP file", "not where the list says", "cannot be read"]);
    for name in ["events/000001.ndjson", "local.json", "manifest.json"] {
        // The two headers of an entry tell different things.
        let mut bytes = bundle.to_vec();
        let at = (0..bytes.len())
            .find(|at| bytes[*at..].starts_with(b"PK\x03\x04") && bytes[at + 30..].starts_with(name.as_bytes()));
        bytes[at.unwrap() + 30] ^= 1;
        says(&bytes.into(), &["cannot be read", "not where the list says", "no ZIP file"]);
    }
}

#[tokio::test]
async fn limits_hold_against_what_is_really_inflated_whatever_the_headers_say() {
    let server = server().await;
    let alice = server.account("alice").await;
    let (_, bundle) = room(&alice).await;
    let small = Limits { bytes_max: u64::try_from(bundle.len()).unwrap(), ..Limits::default() };
    let fault = Archive::in_memory(bundle.clone(), small).unwrap().manifest().unwrap_err();
    assert!(fault.to_string().contains("more than the"), "{fault}");
    // The manifest promises little, the entry inflates to much.
    let mut forged = Forged::of(&bundle);
    forged.entry("local.json").extend(vec![b' '; 3_000_000]);
    let size = forged.manifest["entries"]["local.json"]["size"].clone();
    let mut forged = forged.sealed();
    forged.manifest["entries"]["local.json"]["size"] = size;
    says(&forged.signed().file(), &["larger than the manifest says"]);
    // The headers promise little as well.
    let mut bomb = Forged::of(&bundle);
    bomb.entry("local.json").extend(vec![b' '; 9_000_000]);
    let file = bomb.sealed().file();
    let strict = Limits { ratio_max: 2, ..Limits::default() };
    let archive = Archive::in_memory(file, strict).unwrap();
    let manifest = archive.manifest().unwrap().manifest;
    let fault = entries::check(&archive, &manifest, |_, _: &mut Vec<()>| (), |_, _| Ok(())).unwrap_err();
    assert!(fault.to_string().contains("inflates to more"), "{fault}");
}

#[tokio::test]
async fn of_several_wrong_entries_the_first_is_named_whichever_processor_finds_its_own_first() {
    let server = server().await;
    let alice = server.account("alice").await;
    let (_, bundle) = room(&alice).await;
    let mut forged = Forged::of(&bundle);
    // What is first in order is found last: it is the larger one by far.
    let line = forged.lines().concat().into_bytes();
    forged.entry("events/000001.ndjson").extend(line.repeat(500));
    let mut forged = forged.sealed().signed();
    for name in ["events/000001.ndjson", "local.json"] {
        forged.entry(name).push(b' ');
    }
    let file = forged.file();
    for _ in 0..20 {
        says(&file, &["entry `events/000001.ndjson`: it is larger than the manifest says"]);
    }
}

/// Somebody with a server and a key of their own.
struct Forger {
    signer: Signer,
    user_id: OwnedUserId,
}

impl Forger {
    fn new() -> Self {
        let server: OwnedServerName = "evil.example".try_into().unwrap();
        let signer = Signer::new(server, "1", &[7; 32]).unwrap();
        Self { signer, user_id: "@mallory:evil.example".try_into().unwrap() }
    }

    /// An event behind the last one of a bundle.
    fn behind(&self, lines: &[String], manifest: &Value, draft: Draft) -> String {
        let version = Version::parse(manifest["room_version"].as_str().unwrap()).unwrap();
        let room_id: OwnedRoomId = manifest["room_id"].as_str().unwrap().try_into().unwrap();
        let last: OwnedEventId = manifest["extremities"][0].as_str().unwrap().try_into().unwrap();
        let last_line: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
        let auth_events = last_line["auth_events"].as_array().unwrap();
        let auth_events = auth_events.iter().map(|id| id.as_str().unwrap().try_into().unwrap()).collect();
        let around = Around {
            room_id: Some(&room_id),
            sender: &self.user_id,
            prev_events: vec![last],
            auth_events,
            depth: 100,
            now: UnixMs(1_800_000_000_000),
        };
        complete(draft, around, &version, &self.signer).unwrap().json().to_owned()
    }
}

fn content(field: &str, text: &str) -> CanonicalJsonObject {
    CanonicalJsonObject::from([(field.to_owned(), CanonicalJsonValue::String(text.to_owned()))])
}

#[tokio::test]
async fn who_signs_events_of_their_own_does_not_get_into_the_room_and_all_their_events_are_named() {
    let server = server().await;
    let alice = server.account("alice").await;
    let (room, bundle) = room(&alice).await;
    let forger = Forger::new();
    let mut forged = Forged::of(&bundle);
    let (lines, manifest) = (forged.lines(), forged.manifest.clone());
    let mine = [
        forger.behind(&lines, &manifest, Draft::message("m.room.message", content("body", "let me in"))),
        forger.behind(&lines, &manifest, Draft::member(&forger.user_id, "join", CanonicalJsonObject::new())),
        forger.behind(&lines, &manifest, Draft::state("m.room.name", "", content("name", "Mine"))),
    ];
    forged.set_lines(&[&lines[..], &mine[..]].concat());
    forged.manifest["counts"]["events"] = json!(lines.len() + mine.len());
    let file = forged.sealed().file();
    let fault = verify(&file).unwrap_err().to_string();
    assert!(fault.contains("the rules of the room forbid"), "{fault}");
    assert_eq!(fault.matches("`$").count(), 3, "{fault}");
    let admin = server.admin("root").await;
    let before = alice.timeline(&room).await;
    upload(&admin, &file, json!({"accept_bundle_keys": true})).await.refused(400, "SW_ROOM_IMPORT_REFUSED");
    assert_eq!(alice.timeline(&room).await, before);
}

#[tokio::test]
async fn events_of_another_room_and_events_that_are_too_large_are_refused() {
    let server = server().await;
    let alice = server.account("alice").await;
    let (_, bundle) = room(&alice).await;
    let (_, other) = room(&alice).await;
    let mut forged = Forged::of(&bundle);
    let mut lines = forged.lines();
    lines.push(Forged::of(&other).lines().last().unwrap().clone());
    forged.set_lines(&lines);
    says(&forged.sealed().file(), &["another room"]);
    let forger = Forger::new();
    let mut forged = Forged::of(&bundle);
    let (mut lines, manifest) = (forged.lines(), forged.manifest.clone());
    let long = forger.behind(&lines, &manifest, Draft::message("m.room.message", content("body", "x")));
    let mut long: Value = serde_json::from_str(&long).unwrap();
    long["content"]["body"] = json!("x".repeat(70_000));
    lines.push(long.to_string());
    forged.set_lines(&lines);
    says(&forged.sealed().file(), &["bytes"]);
}

#[tokio::test]
async fn each_byte_of_the_manifest_and_of_an_event_counts() {
    let server = server().await;
    let alice = server.account("alice").await;
    let (_, bundle) = room(&alice).await;
    let forged = Forged::of(&bundle);
    let text = rules::canonical::to_string(&rules::canonical::read_object(&forged.manifest.to_string()).unwrap());
    for at in (0..text.len()).step_by(3) {
        let mut changed = text.clone().into_bytes();
        changed[at] ^= 1;
        let mut entries: Vec<(&str, &[u8])> =
            forged.entries.iter().map(|(name, content)| (name.as_str(), &content[..])).collect();
        entries.push(("manifest.json", &changed));
        assert!(verify(&super::forged::zipped(&entries)).is_err(), "byte {at} of the manifest");
    }
    // An event of which one letter is another one is refused, even if the manifest says that this is what it is.
    let lines = Forged::of(&bundle).lines();
    let line = lines.last().unwrap();
    for at in (0..line.len()).step_by(5) {
        let mut changed = line.clone().into_bytes();
        changed[at] ^= 1;
        let Ok(changed) = String::from_utf8(changed) else { continue };
        let mut forged = Forged::of(&bundle);
        let mut lines = lines.clone();
        *lines.last_mut().unwrap() = changed;
        forged.set_lines(&lines);
        assert!(verify(&forged.sealed().file()).is_err(), "byte {at} of the last event");
    }
}

//! Bundles that are not what they say: each is refused with a word that says why, and nothing of it is kept.

use bytes::Bytes;
use serde_json::{Value, json};
use yurt::bundle::{Archive, Limits};

use super::{
    bundle_of,
    forged::{Forged, zipped},
    import::upload,
    verify,
};
use crate::client::{Caller, TestServer, server};

/// A room with a member, a state that changed, messages, and a medium.
async fn room(server: &TestServer) -> (Caller, String, Bytes) {
    let alice = server.account("alice").await;
    let bob = server.account("bob").await;
    let room = alice.group_with("Tents", &[&bob]).await;
    for number in 0..5 {
        bob.says(&room, &format!("message {number}")).await;
    }
    let medium = alice.uploads(b"felt", "text/plain").await;
    alice.shows(&room, medium["mxc"].as_str().unwrap()).await;
    let bundle = bundle_of(&alice, &room).await;
    verify(&bundle).unwrap();
    (alice, room, bundle)
}

#[track_caller]
fn refused(bundle: &Bytes, words: &str) {
    match verify(bundle) {
        Ok(_) => panic!("a bundle holds that should not: {words}"),
        Err(fault) => assert!(fault.to_string().contains(words), "`{fault}` does not say `{words}`"),
    }
}

fn changed(bundle: &Bytes, change: impl FnOnce(&mut Forged)) -> Bytes {
    let mut forged = Forged::of(bundle);
    change(&mut forged);
    forged.sealed().file()
}

fn relined(bundle: &Bytes, change: impl FnOnce(&mut Vec<String>)) -> Bytes {
    changed(bundle, |forged| {
        let mut lines = forged.lines();
        change(&mut lines);
        forged.set_lines(&lines);
    })
}

#[tokio::test]
async fn a_bundle_that_was_signed_anew_by_its_forger_still_has_to_hold_events_that_their_servers_signed() {
    let server = server().await;
    let (_, _, bundle) = room(&server).await;
    verify(&changed(&bundle, |_| ())).expect("who makes a bundle may sign it");
    refused(
        &changed(&bundle, |forged| {
            let mut lines = forged.lines();
            let line = lines.iter_mut().find(|line| line.contains("message 3")).unwrap();
            *line = line.replace("message 3", "message X");
            forged.set_lines(&lines);
        }),
        "not what its sender has signed",
    );
    refused(
        &changed(&bundle, |forged| {
            let mut lines = forged.lines();
            let line = lines.iter_mut().find(|line| line.contains("\"message 3\"")).unwrap();
            *line = line.replacen("\"depth\":", "\"depth\":1", 1);
            forged.set_lines(&lines);
        }),
        "signature",
    );
    refused(
        &changed(&bundle, |forged| {
            let mut lines = forged.lines();
            let last = lines.last().unwrap().clone();
            lines.push(last);
            forged.set_lines(&lines);
        }),
        "twice",
    );
    refused(&relined(&bundle, |lines| lines.swap(1, 2)), "does not come before it");
    refused(&relined(&bundle, |lines| drop(lines.remove(0))), "has to be the one that made the room");
    refused(
        &changed(&bundle, |forged| {
            let mut lines = forged.lines();
            let place = lines.iter().position(|line| line.contains("message 2")).unwrap();
            lines.remove(place);
            forged.set_lines(&lines);
        }),
        "not in the bundle",
    );
    refused(
        &changed(&bundle, |forged| {
            let mut lines = forged.lines();
            lines[3] = "{\"type\":".to_owned();
            forged.set_lines(&lines);
        }),
        "line 4",
    );
    refused(
        &changed(&bundle, |forged| {
            let mut lines = forged.lines();
            lines[3] = format!("{}{}", lines[3], " ".repeat(200_000));
            forged.set_lines(&lines);
        }),
        "line 4: it has more than",
    );
}

#[tokio::test]
async fn a_manifest_that_lies_is_found_out() {
    let server = server().await;
    let (_, _, bundle) = room(&server).await;
    let says = |field: &str, value: Value| changed(&bundle, |forged| forged.manifest[field] = value);
    refused(&says("state", json!("0".repeat(64))), "make a state with the digest");
    refused(&says("members", json!([])), "the state has other members");
    refused(&says("extremities", json!([])), "no newest event");
    refused(&says("extremities", json!(["$none"])), "one of the newest");
    refused(&says("hidden", json!(["$none"])), "not shown");
    refused(&says("room_id", json!("!another")), "another room");
    refused(&says("room_version", json!("99")), "rooms of version `99`");
    refused(&says("format", json!("another")), "`format`");
    refused(&says("version", json!(2)), "version 2");
    refused(&changed(&bundle, |forged| forged.manifest["counts"]["events"] = json!(3)), "it counts 3 events");
    let unsigned = |change: fn(&mut Value)| {
        let mut forged = Forged::of(&bundle);
        change(&mut forged.manifest);
        forged.file()
    };
    refused(&unsigned(|manifest| manifest["name"] = json!("Another")), "signature of the manifest");
    refused(&unsigned(|manifest| drop(manifest.as_object_mut().unwrap().remove("signatures"))), "did not sign");
    let other_key = changed(&bundle, |forged| {
        let keys = forged.manifest["verify_keys"]["yurt.test"].as_object_mut().unwrap();
        for key in keys.values_mut() {
            key["key"] = json!("A".repeat(43));
        }
    });
    assert!(verify(&other_key).is_err());
    let no_key = changed(&bundle, |forged| {
        forged.manifest["verify_keys"].as_object_mut().unwrap().remove("yurt.test");
    });
    refused(&no_key, "no key of `yurt.test`");
}

#[tokio::test]
async fn a_zip_that_is_not_what_its_manifest_lists_is_refused() {
    let server = server().await;
    let (_, _, bundle) = room(&server).await;
    let forged = Forged::of(&bundle);
    let with = |name: &str, content: &[u8]| {
        let mut forged = forged.clone();
        forged.entries.push((name.to_owned(), content.to_vec()));
        forged.signed().file()
    };
    refused(&with("media/x", b""), "no entry of a bundle has such a name");
    refused(&with("../../etc/passwd", b""), "leads out of the bundle");
    refused(&with("/etc/passwd", b""), "leads out of the bundle");
    refused(&with(&format!("media/{}", "0".repeat(64)), b"x"), "does not list it");
    let mut missing = forged.clone();
    missing.entries.retain(|(name, _)| name != "local.json");
    refused(&missing.signed().file(), "it is missing");
    let mut larger = forged.clone();
    larger.entry("local.json").push(b' ');
    refused(&larger.signed().file(), "larger than the manifest says");
    let mut smaller = forged.clone();
    smaller.entry("local.json").pop();
    refused(&smaller.signed().file(), "smaller than the manifest says");
    let mut other = forged.clone();
    let place = other.entries.iter().position(|(name, _)| name.starts_with("media/")).unwrap();
    other.entries[place].1[0] ^= 1;
    refused(&other.clone().signed().file(), "its hash is not the one");
    refused(&other.sealed().file(), "its content has the hash");
    refused(&zipped(&[("local.json", b"{}")]), "no `manifest.json`");
    refused(&zipped(&[("manifest.json", b"[]")]), "not canonical JSON");
    refused(&zipped(&[("manifest.json", b"{}")]), "`format`");
}

#[tokio::test]
async fn what_is_no_zip_or_a_part_of_one_or_a_bomb_is_refused() {
    let server = server().await;
    let (_, _, bundle) = room(&server).await;
    refused(&Bytes::new(), "no ZIP file");
    refused(&Bytes::from_static(b"hello"), "no ZIP file");
    for part in 1..8 {
        refused(&bundle.slice(..bundle.len() * part / 8), "no ZIP file");
    }
    refused(&bundle.slice(10..), "");
    // Each byte that is another one is noticed, or stands where it changes nothing, as the time of an entry does.
    let manifest = verify(&bundle).unwrap().manifest;
    let mut noticed = 0;
    for at in (0..bundle.len()).step_by(bundle.len() / 150) {
        let mut bytes = bundle.to_vec();
        bytes[at] ^= 0x55;
        match verify(&bytes.into()) {
            Ok(verified) => assert_eq!(verified.manifest, manifest, "the byte {at}"),
            Err(_) => noticed += 1,
        }
    }
    assert!(noticed > 100, "{noticed}");
    let zeros = vec![b' '; 40_000_000];
    refused(&changed(&bundle, |forged| *forged.entry("local.json") = zeros), "inflates to more");
    let limits = Limits { entries_max: 3, ..Limits::default() };
    let fault = Archive::in_memory(bundle.clone(), limits).unwrap_err();
    assert!(fault.problem.contains("more than the 3"), "{fault}");
    let limits = Limits { bytes_max: 100, ..Limits::default() };
    assert!(Archive::in_memory(bundle, limits).unwrap_err().problem.contains("more than the 100"));
}

#[tokio::test]
async fn a_refused_upload_leaves_nothing_behind() {
    let server = server().await;
    let (alice, room, bundle) = room(&server).await;
    let before = alice.timeline(&room).await;
    let forged = changed(&bundle, |forged| forged.manifest["members"] = json!([]));
    let error = upload(&alice, &forged, json!({})).await.refused(400, "SW_ROOM_IMPORT_REFUSED");
    assert!(error["message"].as_str().unwrap().contains("evil.example"), "{error}");
    upload(&alice, &bundle.slice(..bundle.len() / 2), json!({})).await.refused(400, "SW_ROOM_IMPORT_REFUSED");
    upload(&alice, &bundle, json!({"wish": 1})).await.invalid("wish");
    upload(&alice, &bundle, json!({"accept_bundle_keys": true})).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    assert_eq!(alice.timeline(&room).await, before);
    let spool = server.folder().join("tenants/main/spool");
    assert_eq!(std::fs::read_dir(spool).unwrap().count(), 0);
}

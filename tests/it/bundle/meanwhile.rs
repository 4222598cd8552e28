//! What happens to a room while a bundle of it is made: redactions apply, what is new is left out, and a room that goes takes the bundle with it.

use std::{pin::Pin, sync::atomic::Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use ruma::UserId;
use serde_json::json;
use yurt::{
    actions::{
        self,
        bundle::{self, Content, Whose},
    },
    bundle::{Archive, Limits},
};

use super::{forged::Forged, ids, import::upload, verify, waiting::purged};
use crate::client::{Caller, TestServer, server};

/// Messages that together are more than waits for whoever takes a bundle.
const MESSAGES: usize = 60;
/// Characters of each.
const CHARACTERS: usize = 30_000;
/// More than a connection takes up when nobody reads at its end.
const LARGE: usize = 32 * 1024 * 1024;

/// A text that cannot be deflated to much less.
fn noise(random: &mut StdRng) -> String {
    (0..CHARACTERS).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect()
}

/// A room with much in it.
async fn full_room(alice: &Caller) -> String {
    let room = alice.group("Tents").await;
    let mut random = StdRng::seed_from_u64(6);
    for _ in 0..MESSAGES {
        alice.says(&room, &noise(&mut random)).await;
    }
    room
}

type Pieces = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// An export by the running server of which somebody has taken the first piece, and that waits in the middle of the events until they take more.
async fn begun(server: &TestServer, caller: &Caller, room: &str) -> (Vec<u8>, Pieces) {
    let by = actions::Caller::local(UserId::parse(&caller.id).unwrap().as_ref(), false);
    let content = Content { media: true, personal: Whose::Nobodys };
    let export = bundle::export(&server.actions().await, &by, room, content).await.unwrap();
    let (all, written) = (export.events, std::sync::Arc::clone(&export.written));
    let mut pieces: Pieces = Box::pin(export.into_stream());
    let first = pieces.next().await.unwrap().unwrap();
    let second = pieces.next().await.unwrap().unwrap();
    let written = written.load(Ordering::Relaxed);
    assert!(written > 0 && written < all / 2, "{written} of {all} events are written");
    (([first, second]).concat(), pieces)
}

/// The rest of an export; none: it broke off.
async fn rest(mut file: Vec<u8>, mut pieces: Pieces) -> (Vec<u8>, bool) {
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => file.extend_from_slice(&piece),
            Err(_) => return (file, false),
        }
    }
    (file, true)
}

fn is_no_bundle(file: Vec<u8>) {
    assert!(Archive::in_memory(file.into(), Limits::default()).is_err(), "what broke off can be taken for whole");
}

#[tokio::test]
async fn what_is_redacted_while_a_bundle_is_made_is_not_in_it_and_the_rest_is_what_it_was() {
    const SECRET: &str = "a secret";
    let server = server().await;
    let (alice, admin) = (server.account("alice").await, server.admin("root").await);
    let room = full_room(&alice).await;
    let path = |call: &str| format!("/v1/rooms/{room}/{call}");
    alice.says(&room, SECRET).await;
    alice.put(&path("topic"), json!({ "topic": SECRET })).await.ok();
    alice.put(&path("announcement"), json!({ "announcement": SECRET })).await.ok();
    let name = |name: &str| json!({ "name": name }).to_string().into_bytes();
    alice.send("PATCH", &format!("/v1/rooms/{room}"), Some(name(SECRET))).await.ok();
    let timeline = alice.timeline(&room).await;
    let secrets = timeline.iter().filter(|event| event["content"].to_string().contains(SECRET));
    let secrets = ids(&secrets.cloned().collect::<Vec<_>>());
    assert_eq!(secrets.len(), 4);

    let (first, pieces) = begun(&server, &alice, &room).await;
    for secret in &secrets {
        alice.post(&path(&format!("events/{secret}/redact")), json!({})).await.created();
    }
    alice.says(&room, "later").await;
    let (file, is_whole) = rest(first, pieces).await;
    assert!(is_whole);
    let bundle = Bytes::from(file);
    let verified = verify(&bundle).unwrap();
    assert_eq!(verified.events, u64::try_from(timeline.len()).unwrap());
    let forged = Forged::of(&bundle);
    for (name, content) in &forged.entries {
        assert!(!String::from_utf8_lossy(content).contains(SECRET), "{name}");
    }
    assert!(!forged.manifest.to_string().contains(SECRET), "{}", forged.manifest);

    purged(&admin, &room).await;
    upload(&admin, &bundle, json!({})).await.created();
    assert_eq!(ids(&alice.timeline(&room).await), ids(&timeline), "it is the room as it was when the export began");
    let bodies = |timeline: &[serde_json::Value]| -> Vec<String> {
        timeline.iter().filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)).collect()
    };
    let mut said = bodies(&timeline);
    said.retain(|body| body != SECRET);
    assert_eq!(alice.hears(&room).await, said);
    assert_eq!(alice.sees(&room).await["topic"], json!(null));
}

#[tokio::test]
async fn a_bundle_of_a_room_that_is_purged_while_its_events_are_written_breaks_off() {
    let server = server().await;
    let (alice, admin) = (server.account("alice").await, server.admin("root").await);
    let room = full_room(&alice).await;
    let (first, pieces) = begun(&server, &alice, &room).await;
    purged(&admin, &room).await;
    let (file, is_whole) = rest(first, pieces).await;
    assert!(!is_whole);
    is_no_bundle(file);
}

#[tokio::test]
async fn a_bundle_of_a_room_that_was_purged_and_restored_while_it_is_made_breaks_off() {
    let server = server().await;
    let (alice, admin) = (server.account("alice").await, server.admin("root").await);
    let room = full_room(&alice).await;
    let older = super::bundle_of(&alice, &room).await;
    alice.says(&room, "newer").await;
    let (first, pieces) = begun(&server, &alice, &room).await;
    purged(&admin, &room).await;
    upload(&admin, &older, json!({})).await.created();
    let (file, is_whole) = rest(first, pieces).await;
    assert!(!is_whole);
    is_no_bundle(file);
    verify(&super::bundle_of(&alice, &room).await).unwrap();
}

#[tokio::test]
async fn a_download_of_a_room_that_is_purged_meanwhile_ends_with_a_broken_connection() {
    let server = server().await;
    let (alice, admin) = (server.account("alice").await, server.admin("root").await);
    let room = alice.group("Tents").await;
    let medium = alice.uploads(&vec![7; LARGE], "application/octet-stream").await;
    alice.shows(&room, medium["mxc"].as_str().unwrap()).await;
    let url = format!("http://{}/v1/rooms/{room}/export", server.address());
    let request = alice.link.http.get(url).bearer_auth(alice.token.as_deref().unwrap());
    let mut response = request.send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let mut file = response.chunk().await.unwrap().unwrap().to_vec();
    // It waits in the middle of the medium.
    purged(&admin, &room).await;
    let is_whole = loop {
        match response.chunk().await {
            Ok(Some(piece)) => file.extend_from_slice(&piece),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    assert!(!is_whole, "{} bytes came", file.len());
    is_no_bundle(file);
}

//! Media of other servers travel with the room: what this server holds of them is served from the bundle, and nobody is asked for it.

use serde_json::json;
use sha2::{Digest as _, Sha256};
use yurt::bundle::hex;

use super::{bundle_of, forged::Forged, import::upload, verify, waiting::purged};
use crate::{
    client::{Caller, encoded, png, server},
    federation::servers::{Server, eventually, together},
};

const FELT: &[u8] = b"felt, wood and rope";

/// The path at which a medium is read.
fn path(mxc: &str) -> String {
    format!("/v1/media/{}", mxc.strip_prefix("mxc://").unwrap())
}

async fn reads(reader: &Caller, mxc: &str) -> Vec<u8> {
    reader.get(&path(mxc)).await.expect_status(200).body
}

/// Bob shows a file of his server, and it is seen at Alice's.
async fn shown(alice: &Caller, bob: &Caller, room: &str, bytes: &[u8], content_type: &str) -> String {
    let medium = bob.uploads(bytes, content_type).await;
    let mxc = medium["mxc"].as_str().unwrap().to_owned();
    let event = bob.shows(room, &mxc).await;
    let one = format!("/v1/rooms/{}/events/{event}", encoded(room));
    eventually("the event arrives", async || alice.get(&one).await.status == 200).await;
    mxc
}

async fn moved(server: &mut Server) -> (Caller, Caller) {
    server.stop().await;
    server.takes_its_key_elsewhere();
    server.start().await;
    (server.account("alice").await, server.admin("root").await)
}

#[tokio::test]
async fn media_of_another_server_that_were_read_here_come_back_with_the_room_when_that_server_is_gone() {
    let (_authority, mut ours, mut theirs, alice, bob, room) = together().await;
    let read = shown(&alice, &bob, &room, FELT, "text/plain").await;
    let picture = png(300, 200);
    let image = shown(&alice, &bob, &room, &picture, "image/png").await;
    let unread = shown(&alice, &bob, &room, b"never read here", "text/plain").await;
    assert_eq!(reads(&alice, &read).await, FELT);
    assert_eq!(reads(&alice, &image).await, picture);
    let bundle = bundle_of(&alice, &room).await;
    let manifest = verify(&bundle).unwrap().manifest;
    let mut named: Vec<&str> = manifest.media.iter().map(|medium| medium.mxc.as_deref().unwrap()).collect();
    named.sort_unstable();
    let mut held = vec![read.as_str(), image.as_str()];
    held.sort_unstable();
    assert_eq!((named, manifest.counts.media), (held, 2), "what is not here does not come along");

    let (alice, admin) = moved(&mut ours).await;
    let restored = upload(&admin, &bundle, json!({})).await.created();
    assert_eq!(restored["media"], json!({ "stored": 2, "known": 0 }));
    theirs.stop().await;
    assert_eq!(reads(&alice, &read).await, FELT);
    assert_eq!(reads(&alice, &image).await, picture);
    alice.get(&path(&unread)).await.refused(502, "SW_FED_PEER_UNREACHABLE");
    let stranger = ours.account("stranger").await;
    stranger.get(&path(&read)).await.refused(404, "SW_MEDIA_NOT_FOUND");
    let again = bundle_of(&alice, &room).await;
    assert_eq!(verify(&again).unwrap().manifest.media, manifest.media, "and go out again with it");
    let twice = upload(&admin, &again, json!({})).await.ok();
    assert_eq!(twice["media"], json!({ "stored": 0, "known": 2 }));
}

#[tokio::test]
async fn the_media_of_the_original_are_read_in_its_successor_and_by_nobody_else() {
    let (authority, mut ours, theirs, alice, bob, room) = together().await;
    let medium = alice.uploads(b"made here", "text/plain").await;
    let own = medium["mxc"].as_str().unwrap().to_owned();
    alice.shows(&room, &own).await;
    let far = shown(&alice, &bob, &room, FELT, "text/plain").await;
    assert_eq!(reads(&alice, &far).await, FELT);
    let bundle = bundle_of(&alice, &room).await;
    let new = Server::new(&authority).await;
    let (carol, eve) = (new.account("carol").await, new.account("eve").await);
    let taken = upload(&carol, &bundle, json!({})).await.created();
    assert_eq!((&taken["outcome"], &taken["media"]), (&json!("succeeded"), &json!({ "stored": 2, "known": 0 })));
    ours.stop().await;
    assert_eq!(reads(&carol, &own).await, b"made here");
    // Its own server is asked first what it is, because somebody else made the bundle.
    assert_eq!(reads(&carol, &far).await, FELT);
    drop(theirs);
    for mxc in [&own, &far] {
        eve.get(&path(mxc)).await.refused(404, "SW_MEDIA_NOT_FOUND");
    }
}

#[tokio::test]
async fn what_a_third_server_says_about_a_medium_counts_only_while_its_own_server_says_nothing() {
    for theirs_answers in [true, false] {
        let (authority, _ours, mut theirs, alice, bob, room) = together().await;
        let picture = png(30, 20);
        let far = shown(&alice, &bob, &room, &picture, "image/png").await;
        // So that its server gives it to everybody.
        bob.put("/v1/me/profile", json!({ "avatar_url": far })).await.ok();
        reads(&alice, &far).await;
        let mut forged = Forged::of(&bundle_of(&alice, &room).await);
        let another = b"something else altogether".to_vec();
        let sha256 = hex(&Sha256::digest(&another));
        forged.manifest["media"][0]["sha256"] = json!(sha256);
        let entry = forged.entries.iter_mut().find(|(name, _)| name.starts_with("media/")).unwrap();
        *entry = (format!("media/{sha256}"), another.clone());
        let bundle = forged.sealed().file();
        verify(&bundle).unwrap();
        let new = Server::new(&authority).await;
        let root = new.admin("root").await;
        let taken = upload(&root, &bundle, json!({ "accept_bundle_keys": true })).await.created();
        assert_eq!(taken["media"]["stored"], 1);
        if !theirs_answers {
            theirs.stop().await;
        }
        assert_eq!(reads(&root, &far).await, if theirs_answers { picture } else { another });
    }
}

#[tokio::test]
async fn media_whose_entries_bear_their_file_names_as_well_are_taken_in() {
    let server = server().await;
    let (alice, admin) = (server.account("alice").await, server.admin("root").await);
    let room = alice.group("Tents").await;
    let mut shown = Vec::new();
    for bytes in [FELT, b"hemp"] {
        let medium = alice.uploads(bytes, "text/plain").await;
        let mxc = medium["mxc"].as_str().unwrap().to_owned();
        alice.shows(&room, &mxc).await;
        shown.push((mxc, bytes));
    }
    let bundle = bundle_of(&alice, &room).await;
    let mut forged = Forged::of(&bundle);
    let entries = forged.entries.iter_mut().filter(|(name, _)| name.starts_with("media/"));
    let names = ["felt.txt", "a rope, rolled up.txt"];
    assert_eq!(entries.zip(names).map(|((entry, _), name)| *entry = format!("{entry}/{name}")).count(), 2);
    let named = forged.sealed().file();
    verify(&named).unwrap();
    purged(&admin, &room).await;
    let restored = upload(&admin, &named, json!({ "accept_bundle_keys": true })).await.created();
    assert_eq!((&restored["outcome"], &restored["media"]), (&json!("restored"), &json!({ "stored": 2, "known": 0 })));
    for (mxc, bytes) in &shown {
        assert_eq!(reads(&alice, mxc).await, *bytes);
    }
    let again = bundle_of(&alice, &room).await;
    let media = |bundle| verify(bundle).unwrap().manifest.media;
    assert_eq!(media(&again), media(&bundle), "they are kept as if only their hash named them");
    let twice = upload(&admin, &named, json!({ "accept_bundle_keys": true })).await.ok();
    assert_eq!(twice["media"], json!({ "stored": 0, "known": 2 }));
}

//! Bundles that a server of format version 1 has made once. They are never made anew: whatever comes later has to read them.

use std::{collections::BTreeSet, fs, path::Path};

use bytes::Bytes;
use serde_json::json;

use super::{import::upload, verify};
use crate::client::{encoded, server_named, server_with_key};

/// What the server signed with that has made all but the one with the hole.
const KEY: &str = "ed25519 sample CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk\n";

/// What is known of a sample.
struct Sample {
    file: &'static str,
    room_version: &'static str,
    events: u64,
    claims: u64,
    media: u64,
    /// Servers whose people have sent something.
    servers: usize,
    /// What was said and not redacted, in this order.
    said: &'static [&'static str],
}

const PLAIN: Sample = Sample {
    file: "plain-12",
    room_version: "12",
    events: 20,
    claims: 0,
    media: 0,
    servers: 1,
    said: &["one", "two", "three"],
};

const SAMPLES: [Sample; 5] = [
    Sample { file: "plain-10", room_version: "10", ..PLAIN },
    Sample { file: "plain-11", room_version: "11", ..PLAIN },
    PLAIN,
    Sample { file: "media-and-personal-12", events: 22, media: 1, said: &["one", "felt.txt", "two", "three"], ..PLAIN },
    Sample {
        file: "hole-11",
        room_version: "11",
        events: 12,
        claims: 1,
        servers: 2,
        said: &["from afar", "late"],
        ..PLAIN
    },
];

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bundles"))
}

impl Sample {
    fn bundle(&self) -> Bytes {
        fs::read(folder().join(format!("{}.zip", self.file))).unwrap().into()
    }
}

#[test]
fn every_sample_is_known_and_holds() {
    let names = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    let names: BTreeSet<String> = names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(names, SAMPLES.iter().map(|sample| sample.file.to_owned()).collect());
    for sample in SAMPLES {
        let verified = verify(&sample.bundle()).unwrap_or_else(|fault| panic!("{}: {fault}", sample.file));
        let manifest = &verified.manifest;
        assert_eq!((manifest.version, manifest.room_version.as_str()), (1, sample.room_version), "{}", sample.file);
        let found = (verified.events, verified.claims, manifest.counts.media, verified.sent.len());
        assert_eq!(found, (sample.events, sample.claims, sample.media, sample.servers), "{}", sample.file);
    }
}

#[tokio::test]
async fn every_sample_goes_on_in_a_successor_on_another_server() {
    let server = server_named("other.example").await;
    let root = server.admin("root").await;
    for sample in SAMPLES {
        let taken = upload(&root, &sample.bundle(), json!({ "accept_bundle_keys": true })).await.created();
        assert_eq!((&taken["outcome"], &taken["events"]["total"]), (&json!("succeeded"), &json!(sample.events)));
        assert_eq!(taken["events"]["rejected"], json!([]), "{}", sample.file);
        assert_eq!(taken["media"]["stored"], sample.media, "{}", sample.file);
        assert_eq!(root.hears(taken["id"].as_str().unwrap()).await, sample.said, "{}", sample.file);
    }
}

#[tokio::test]
async fn the_samples_of_a_server_that_moved_live_on_with_what_belongs_to_them() {
    let server = server_with_key(KEY).await;
    let (root, alice, bob) = (server.admin("root").await, server.account("alice").await, server.account("bob").await);
    for sample in SAMPLES.iter().filter(|sample| sample.servers == 1) {
        let restored = upload(&root, &sample.bundle(), json!({})).await.created();
        assert_eq!((&restored["outcome"], &restored["events"]["rejected"]), (&json!("restored"), &json!([])));
        let room = restored["id"].as_str().unwrap();
        assert_eq!(alice.hears(room).await, sample.said, "{}", sample.file);
        let seen = bob.sees(room).await;
        assert_eq!((&seen["name"], &seen["topic"]), (&json!("Tents"), &json!("Felt")), "{}", sample.file);
        assert_eq!(alice.members(room, "ban").await, ["@dave:yurt.test"]);
        let has_more = sample.media > 0;
        assert_eq!(seen["me"]["pinned"], has_more, "{}", sample.file);
        if has_more {
            assert_eq!(seen["max_members"], 7);
            let announced = bob.get(&format!("/v1/rooms/{}/announcement", encoded(room))).await.ok();
            assert_eq!(announced["announcement"], "Mind the pegs");
            let named = verify(&sample.bundle()).unwrap().manifest.media;
            let medium = bob.get(&format!("/v1/media/{}", named[0].sha256)).await.expect_status(200);
            assert_eq!(medium.body, b"felt, wood and rope");
        }
    }
}

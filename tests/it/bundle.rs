//! Rooms as files: what a bundle holds, that it proves itself without a server, and what becomes of it on another one.
#![cfg(test)]

mod between;
mod cli;
mod crash;
mod disk;
mod doors;
mod export;
mod forged;
mod hidden;
mod hostile;
pub(crate) mod import;
mod keys;
mod local;
mod meanwhile;
mod media;
mod online;
mod samples;
mod succeeded;
mod tampered;
mod waiting;

use bytes::Bytes;
use serde_json::Value;
use yurt::bundle::{Archive, Fault, Limits, Verified, manifest};

use crate::client::Caller;

/// The bundle of a room, as one of its members gets it.
pub(crate) async fn bundle_of(caller: &Caller, room: &str) -> Bytes {
    caller.get(&format!("/v1/rooms/{}/export", crate::client::encoded(room))).await.expect_status(200).body.into()
}

/// Checks a bundle as the command line does, with nothing but the keys that it brings.
fn verify(bundle: &Bytes) -> Result<Verified, Fault> {
    let archive = Archive::in_memory(bundle.clone(), Limits::default())?;
    let keys = manifest::ring(&archive.manifest()?.manifest.verify_keys)?;
    yurt::bundle::verify(&archive, &keys, &std::env::temp_dir(), &mut |_| Ok(()))
}

/// The ids in a timeline.
fn ids(timeline: &[Value]) -> Vec<String> {
    timeline.iter().map(|event| event["event_id"].as_str().expect("an id").to_owned()).collect()
}

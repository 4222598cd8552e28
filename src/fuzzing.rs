//! What the fuzz targets of `fuzz/` call, and what they hold their input to; there only for them and for the tests, which run
//! every seed. A function here never panics, whatever the bytes are: a panic is a finding. May import everything.

use std::{net::SocketAddr, str};

use rules::{
    Event, RawPdu, Version, authorization, canonical,
    format::{self, Caps},
    freeze, hash,
    kind::{RoomKind, RoomState},
    power::Levels,
    redaction,
    state::{StateMap, state_of},
    visibility::HistoryVisibility,
};
use ruma::events::StateEventType;
use serde_json::value::RawValue;
use std::sync::Arc;

use crate::{
    actions::sessions,
    api::time,
    bundle::{self, Archive, Fault, Limits, Verified, manifest},
    config::{Config, Network},
    storage::{Place, Position, changes, keyspaces},
};

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// All of them, by the name of their fuzz target and of the folder of their seeds.
pub const TARGETS: [(&str, Target); 6] =
    [("bundle", bundle), ("config", config), ("feed", feed), ("ids", ids), ("pdus", pdus), ("rows", rows)];

/// Texts that callers and configuration hand us: what is read is written as it was.
pub fn ids(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Some(place) = Place::from_token(text) {
        assert_eq!(place.to_token(), text);
    }
    if let Some(position) = Position::from_token(text) {
        assert_eq!(position.to_token(), text);
    }
    if let Some(at) = time::parse(text) {
        let written = time::text(at);
        assert!(time::parse(&written) == Some(at) || written == time::NEVER, "{written}");
    }
    if let Ok(network) = text.parse::<Network>() {
        assert_eq!(network.to_string().parse(), Ok(network));
    }
    if let Some(tenant) = sessions::tenant_of(text) {
        assert!(text.contains(tenant));
    }
}

/// What a bundle holds that holds, within small limits.
fn checked(bytes: &[u8]) -> Result<(Archive, Verified), Fault> {
    let limits = Limits { entries_max: 100, ratio_max: 50, bytes_max: 1024 * 1024 };
    let archive = Archive::in_memory(bytes.to_vec().into(), limits)?;
    let keys = manifest::ring(&archive.manifest()?.manifest.verify_keys)?;
    let verified = bundle::verify(&archive, &keys, &std::env::temp_dir(), &mut |_| Ok(()))?;
    Ok((archive, verified))
}

/// A bundle that anybody may have made: of what holds, everything is as its manifest says.
pub fn bundle(bytes: &[u8]) {
    let Ok((archive, verified)) = checked(bytes) else { return };
    assert_eq!(verified.events, verified.manifest.counts.events);
    let mut walked = 0;
    let again = bundle::events::walk(&archive, &verified.manifest, |_| {
        walked += 1;
        Ok(())
    });
    assert_eq!((again, walked), (Ok(()), verified.events));
}

/// A configuration, after the first line: that one is an environment variable and its text.
pub fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (variable, text) = text.split_once('\n').unwrap_or(("", text));
    let variable = variable.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let Ok(config) = Config::read(text, "config.toml", variable) else { return };
    assert_eq!(config.check(), Ok(()));
    let written = toml::to_string(&config).map(|text| Config::read(&text, "config.toml", None));
    assert!(matches!(written, Ok(Ok(again)) if again == config), "what was read is not what is written: {config:?}");
    let _listens: SocketAddr = config.listen.api;
}

/// Rows of the feed: two bytes for the length of the key, the key, the value.
pub fn feed(bytes: &[u8]) {
    let Some((key, value)) = row(bytes) else { return };
    let read = changes::read(key, value);
    let claim = changes::read_claim(key, value);
    assert!(read.is_err() || claim.is_ok());
    for change in read.into_iter().flat_map(|row| row.changes) {
        let _ = (change.home.as_room(), change.home.as_person(), change.home.as_peer(), change.home.as_name());
    }
}

/// Rows of all keyspaces, of the form of [`feed`]: a key is written as it was read, and a value returns.
pub fn rows(bytes: &[u8]) {
    if let Some((key, value)) = row(bytes) {
        keyspaces::reread(key, value);
    }
}

/// Key and value of a row.
fn row(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[high, low], rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))
}

/// Events as peers send them, one a line; the first line names the room version. They are each other's state.
pub fn pdus(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (version, lines) = text.split_once('\n').unwrap_or(("", text));
    for line in lines.lines() {
        canonical_json(line);
    }
    let Some(version) = Version::parse(version) else { return };
    let events: Vec<Arc<Event>> = lines.lines().filter_map(|line| pdu(line, &version)).map(Arc::new).collect();
    let state = state_of(events.iter().cloned());
    for event in &events {
        let fetch = |id: &ruma::EventId| events.iter().find(|event| event.event_id() == id).cloned();
        let _ = authorization::check_auth_events(&version, event, fetch);
        let _ = authorization::check(&version, event, &state);
        let _ = authorization::needed_auth_events(&version, event);
        let _ = HistoryVisibility::of(Some(event));
    }
    if let Some(create) = state.get(&(StateEventType::RoomCreate, String::new())) {
        room(&version, create, &state);
    }
}

/// What is read is written in one way only, and serde reads the same.
fn canonical_json(text: &str) {
    let Ok(value) = canonical::read_object(text) else { return };
    let written = canonical::to_string(&value);
    assert_eq!(canonical::read_object(&written).ok().as_ref(), Some(&value));
    let plain = serde_json::from_str::<serde_json::Value>(&written);
    assert_eq!(plain.ok(), serde_json::to_value(&value).ok());
}

/// An event through its stages. Its id outlives its redaction, and storage returns it.
fn pdu(line: &str, version: &Version) -> Option<Event> {
    let raw = RawPdu(RawValue::from_string(line.to_owned()).ok()?);
    let _ = raw.room_id();
    let pdu = format::parse(&raw, version, Caps::Lifted).ok()?;
    let redacted = redaction::redact(pdu.object(), &version.rules().redaction);
    assert_eq!(redaction::redact(&redacted, &version.rules().redaction), redacted);
    assert_eq!(hash::event_id(&redacted, version).ok().as_ref(), Some(pdu.event_id()));
    let json = canonical::to_string(pdu.object());
    let stored = Event::from_stored(pdu.event_id().clone(), pdu.room_id().clone(), version, json, false);
    assert!(stored.is_ok(), "a well-formed event is not read from storage: {stored:?}");
    let event = stored.ok()?;
    assert_eq!((event.sender(), event.origin_server_ts()), (pdu.sender(), pdu.origin_server_ts()));
    assert!(event.redacted(version).is_ok_and(|redacted| redacted.event_id() == event.event_id()));
    Some(event)
}

/// What a room is and who may do what in it, as its state says.
fn room(version: &Version, create: &Event, state: &StateMap<Arc<Event>>) {
    let get = |kind: &str| state.get(&(StateEventType::from(kind), String::new())).map(|event| &**event);
    let levels = Levels::read(version, create, get("m.room.power_levels"));
    let _ = (levels.of(create.sender()), levels.to_send("m.room.message", false), levels.invite());
    let kind = RoomKind::read(create, false, get("m.room.join_rules"));
    assert_eq!(RoomKind::parse(kind.as_str()), Some(kind));
    let _ = RoomState::of(get("io.yurt.archived"), get("io.yurt.closed"), &levels);
    let _ = freeze::thawed(levels.content(), levels.content());
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_seed_and_every_past_finding_is_taken() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
        for (name, target) in TARGETS {
            let files = fs::read_dir(seeds.join(name)).unwrap().map(|file| file.unwrap().path());
            let taken = files.inspect(|file| target(&fs::read(file).unwrap())).count();
            assert!(taken > 0, "{name} has no seeds");
        }
    }

    #[test]
    fn the_seeds_of_bundles_hold_and_the_samples_are_among_them() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let content = |folder: &str| -> BTreeSet<Vec<u8>> {
            let files = fs::read_dir(root.join(folder)).unwrap().map(|file| file.unwrap().path());
            files.map(|file| fs::read(file).unwrap()).collect()
        };
        let (seeds, samples) = (content("fuzz/seeds/bundle"), content("tests/fixtures/bundles"));
        assert!(seeds.is_superset(&samples) && samples.len() >= 5, "{} samples", samples.len());
        for seed in &seeds {
            checked(seed).unwrap_or_else(|fault| panic!("a change of it would never reach what it is to try: {fault}"));
        }
    }
}

//! The native API: one file per noun, each test a statement of the contract.
#![cfg(test)]

mod accounts;
mod admin;
mod announcements;
mod archive;
mod audit;
mod avatars;
mod bad_input;
mod directory;
mod dm;
mod federate;
mod health;
mod incognito;
mod knocks;
mod levels;
mod media;
mod members;
mod messages;
mod permissions;
mod personal;
mod pins;
mod profile;
mod purge;
mod races;
mod registration;
mod retries;
mod room_passwords;
mod rooms;
mod sessions;
mod settings;
mod silence;
mod state;
mod stream;
mod stream_rights;
mod strictness;
mod tenants;
mod workspaces;

/// A room version, and what the contract makes depend on it.
#[derive(Clone, Copy)]
struct Version {
    name: &'static str,
    /// Whether creators stand above all levels.
    has_creators: bool,
    tombstone_level: i64,
}

/// The versions that rooms are made in.
const VERSIONS: [Version; 3] = [
    Version { name: "10", has_creators: false, tombstone_level: 100 },
    Version { name: "11", has_creators: false, tombstone_level: 100 },
    Version { name: "12", has_creators: true, tombstone_level: 150 },
];

/// An empty list of ids.
const NONE: [&str; 0] = [];
/// The id of a room that nobody made.
const MISSING_ROOM: &str = "!AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// The id of an event that nobody sent.
const MISSING_EVENT: &str = "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

//! Public keys of servers and when they count. May import `limits`, `version`, ruma's ids, ed25519-dalek.

use std::collections::BTreeMap;

use ed25519_dalek::VerifyingKey;
use ruma::{OwnedServerName, ServerName};

use crate::{
    event::UnixMs,
    limits::{KEY_BYTES, KEY_VALIDITY_MS_MAX},
    version::Version,
};

/// Until when a key counts.
/// Source: <https://spec.matrix.org/v1.19/rooms/v5/#signing-key-validity-period>
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub enum Validity {
    /// In use. It counts for what was made up to this time.
    Until(UnixMs),
    /// Given up. It counts for what was made up to this time.
    Expired(UnixMs),
}

impl Validity {
    /// The validity of a key in use: what its server says, but at most seven days from when it was asked.
    #[must_use]
    pub fn of_current(valid_until: UnixMs, fetched: UnixMs) -> Self {
        Self::Until(UnixMs(valid_until.0.min(fetched.0.saturating_add(KEY_VALIDITY_MS_MAX))))
    }

    fn covers(self, at: UnixMs, version: &Version) -> bool {
        match self {
            Self::Until(end) => !version.rules().enforce_key_validity || at <= end,
            Self::Expired(end) => at <= end,
        }
    }
}

/// A server's public key.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct Key {
    /// The 32 bytes.
    pub public: [u8; KEY_BYTES],
    /// Until when it counts.
    pub validity: Validity,
}

/// The keys that are known for judging events.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    servers: BTreeMap<OwnedServerName, BTreeMap<Box<str>, Held>>,
}

/// A key, and its point of the curve, which takes a tenth of a signature's check to find; none: there is no such point.
#[derive(Debug, Clone, Copy)]
struct Held {
    key: Key,
    point: Option<VerifyingKey>,
}

/// What the ring knows about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// It counts for that time.
    Valid(VerifyingKey),
    /// It is known, but does not count for that time, or is no point of the curve.
    Unusable,
    /// It is not known.
    Unknown,
}

impl KeyRing {
    /// An empty ring.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key. `key_id` is the whole id, `ed25519:a_1`.
    pub fn insert(&mut self, server: OwnedServerName, key_id: &str, key: Key) {
        let point = VerifyingKey::from_bytes(&key.public).ok();
        self.hold(server, key_id, Held { key, point });
    }

    fn hold(&mut self, server: OwnedServerName, key_id: &str, held: Held) {
        self.servers.entry(server).or_default().insert(key_id.into(), held);
    }

    /// A ring with these keys of this one, as far as it has them.
    #[must_use]
    pub fn only<'a>(&self, wanted: impl IntoIterator<Item = &'a (OwnedServerName, String)>) -> Self {
        let mut ring = Self::new();
        for (server, key_id) in wanted {
            if let Some(held) = self.servers.get(server).and_then(|keys| keys.get(key_id.as_str())) {
                ring.hold(server.clone(), key_id, *held);
            }
        }
        ring
    }

    /// The key, whenever it counts.
    #[must_use]
    pub fn get(&self, server: &ServerName, key_id: &str) -> Option<&Key> {
        self.servers.get(server)?.get(key_id).map(|held| &held.key)
    }

    /// Adds all keys of another ring.
    pub fn extend(&mut self, other: Self) {
        for (server, keys) in other.servers {
            self.servers.entry(server).or_default().extend(keys);
        }
    }

    /// The key, if it counts for something made at `at` in a room of the version.
    #[must_use]
    pub fn lookup(&self, server: &ServerName, key_id: &str, at: UnixMs, version: &Version) -> Lookup {
        let Some(Held { key, point }) = self.servers.get(server).and_then(|keys| keys.get(key_id)) else {
            return Lookup::Unknown;
        };
        match point {
            Some(point) if key.validity.covers(at, version) => Lookup::Valid(*point),
            _ => Lookup::Unusable,
        }
    }
}

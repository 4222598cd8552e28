//! `manifest.json` and `local.json`: what they say, and the manifest's signature. Whoever made a bundle signs what it holds; who is believed, the reader decides.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use rules::{
    UnixMs, canonical,
    keys::{Key, KeyRing, Validity},
    signature::{self, Signer},
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::{OffsetDateTime, macros::format_description};

use super::{FORMAT, Fault, LOCAL, MANIFEST, VERSION, hex};

/// Keys of servers, by key id.
pub type VerifyKeys = BTreeMap<OwnedServerName, BTreeMap<String, VerifyKey>>;

/// What a bundle is, and what each of its entries holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// The version of the format.
    pub version: u64,
    /// Who made it.
    pub server_name: OwnedServerName,
    /// When, as RFC 3339.
    pub exported_at: String,
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub room_version: String,
    /// What it is called.
    pub name: Option<String>,
    /// What it is about.
    pub topic: Option<String>,
    /// Its alias.
    pub alias: Option<String>,
    /// The space that it belongs to.
    pub workspace: Option<OwnedRoomId>,
    /// Who has joined, is invited or banned.
    pub members: Vec<BundledMember>,
    /// How much there is of what.
    pub counts: Counts,
    /// Every other entry.
    pub entries: BTreeMap<String, EntryFacts>,
    /// The newest events: those that no other follows.
    pub extremities: Vec<OwnedEventId>,
    /// [`state_digest`] of the state behind the newest events.
    pub state: String,
    /// The keys of the servers that signed.
    pub verify_keys: VerifyKeys,
    /// The media.
    #[serde(default)]
    pub media: Vec<BundledMedium>,
    /// Events that are not shown and are here because others name them.
    #[serde(default)]
    pub hidden: BTreeSet<OwnedEventId>,
}

/// A member, as the state has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundledMember {
    /// Who.
    pub participant_id: OwnedUserId,
    /// `join`, `invite` or `ban`.
    pub membership: String,
    /// What they are called in the room.
    pub display_name: Option<String>,
    /// Their power level, as the API tells it.
    pub power_level: i64,
}

/// How much there is of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Entries of the state.
    pub state: u64,
    /// Media.
    pub media: u64,
    /// Joined members.
    pub members: u64,
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryFacts {
    /// Bytes, inflated.
    pub size: u64,
    /// Lower-case hexadecimal SHA-256 of them.
    pub sha256: String,
}

/// A key of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyKey {
    /// The public key, as base64 without padding.
    pub key: String,
    /// It is in use, and counts for events made up to this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until_ts: Option<u64>,
    /// It was given up at this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired_ts: Option<u64>,
}

/// A medium that counts in the room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundledMedium {
    /// Lower-case hexadecimal SHA-256 of its content, which is the name of its entry.
    pub sha256: String,
    /// What whoever showed it calls it.
    pub name: Option<String>,
    /// What it is.
    pub content_type: String,
    /// Its address in events. None: `mxc://`, the server that made the bundle, `/` and the hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mxc: Option<String>,
    /// The events that name it.
    pub events: Vec<OwnedEventId>,
}

/// What no event carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Local {
    /// A text of the moderators.
    #[serde(default)]
    pub announcement: Option<String>,
    /// The names of the room.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Joined members at most.
    #[serde(default)]
    pub max_members: Option<u64>,
    /// Which other servers may take part: `open`, `off` or `allow_list`.
    #[serde(default)]
    pub federation: Option<String>,
    /// The servers that may take part with `allow_list`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub federation_servers: Vec<OwnedServerName>,
    /// What people set for themselves.
    #[serde(default)]
    pub personal: Vec<BundledPersonal>,
}

/// What a person has set for the room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundledPersonal {
    /// Who.
    pub participant_id: OwnedUserId,
    /// The last event that they read.
    #[serde(default)]
    pub read_event_id: Option<OwnedEventId>,
    /// `all`, `mentions`, `none` or `inherit`.
    #[serde(default)]
    pub notification_mode: Option<String>,
    /// The room is at hand.
    #[serde(default)]
    pub pinned: bool,
}

impl VerifyKey {
    /// A key as the manifest tells it.
    pub fn of(key: &Key) -> Self {
        let (valid_until_ts, expired_ts) = match key.validity {
            Validity::Until(UnixMs(until)) => (Some(until.min(TIME_MAX)), None),
            Validity::Expired(UnixMs(at)) => (None, Some(at.min(TIME_MAX))),
        };
        Self { key: STANDARD_NO_PAD.encode(key.public), valid_until_ts, expired_ts }
    }

    /// The key; none: it is none.
    pub fn read(&self) -> Option<Key> {
        let public = STANDARD_NO_PAD.decode(self.key.trim_end_matches('=')).ok()?.try_into().ok()?;
        let validity = match (self.valid_until_ts, self.expired_ts) {
            (_, Some(at)) => Validity::Expired(UnixMs(at)),
            (Some(until), None) => Validity::Until(UnixMs(until)),
            (None, None) => return None,
        };
        Some(Key { public, validity })
    }
}

/// The largest number of canonical JSON.
const TIME_MAX: u64 = (1 << 53) - 1;

/// A ring with all keys of a list.
///
/// # Errors
/// The text that is no key.
pub fn ring(keys: &VerifyKeys) -> Result<KeyRing, Fault> {
    let mut ring = KeyRing::new();
    for (server, keys) in keys {
        for (key_id, key) in keys {
            let wrong = || Fault::of(MANIFEST, format!("`verify_keys`: the key `{key_id}` of `{server}` is none"));
            ring.insert(server.clone(), key_id, key.read().ok_or_else(wrong)?);
        }
    }
    Ok(ring)
}

/// The SHA-256 over the sorted lines `[type, state_key, event_id]` of a state.
pub fn state_digest<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> String {
    let lines = entries.into_iter().map(|(kind, key, id)| serde_json::json!([kind, key, id]).to_string());
    let mut lines: Vec<String> = lines.collect();
    lines.sort_unstable();
    let mut hasher = Sha256::new();
    for line in lines {
        hasher.update(line.as_bytes());
        hasher.update(b"\n");
    }
    hex(&hasher.finalize())
}

/// A time as RFC 3339 in UTC, with milliseconds.
pub fn time_text(UnixMs(at): UnixMs) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000_000).ok();
    moment.and_then(|moment| moment.format(format).ok()).unwrap_or_default()
}

/// A manifest as it was read, with what its signature is about.
#[derive(Clone, Debug)]
pub struct SignedManifest {
    /// What it says.
    pub manifest: Manifest,
    object: CanonicalJsonObject,
}

impl SignedManifest {
    /// Reads a manifest. Its signature is not checked yet.
    ///
    /// # Errors
    /// It is no manifest, or one of a later version.
    pub fn read(text: &str) -> Result<Self, Fault> {
        let wrong = |problem: String| Fault::of(MANIFEST, problem);
        let object = canonical::read_object(text).map_err(|error| wrong(format!("not canonical JSON: {error}")))?;
        if object.get("format").and_then(CanonicalJsonValue::as_str) != Some(FORMAT) {
            return Err(wrong(format!("`format` is not `{FORMAT}`")));
        }
        match object.get("version") {
            Some(CanonicalJsonValue::Integer(version)) if u64::try_from(i64::from(*version)).ok() == Some(VERSION) => {}
            other => {
                let version = other.map_or_else(|| "none".to_owned(), ToString::to_string);
                return Err(wrong(format!("the format has version {version}, this server reads version {VERSION}")));
            }
        }
        let manifest: Manifest = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { manifest, object })
    }

    /// The keys that the server which made the bundle signed it with.
    pub fn signing_keys(&self) -> BTreeSet<(OwnedServerName, String)> {
        let server = &self.manifest.server_name;
        let signatures = self.object.get("signatures").and_then(CanonicalJsonValue::as_object);
        let own = signatures.and_then(|all| all.get(server.as_str())).and_then(CanonicalJsonValue::as_object);
        own.into_iter().flatten().map(|(key_id, _)| (server.clone(), key_id.clone())).collect()
    }

    /// Checks the signature of the server that made the bundle.
    ///
    /// # Errors
    /// It did not sign, its key is not known, or the signature is wrong.
    pub fn check(&self, keys: &KeyRing) -> Result<(), Fault> {
        let server = &self.manifest.server_name;
        signature::verify_json(&self.object, server, keys)
            .map_err(|error| Fault::of(MANIFEST, format!("the signature of the manifest does not hold: {error}")))
    }
}

impl Manifest {
    /// The signed text.
    ///
    /// # Errors
    /// A number that canonical JSON does not know.
    pub fn sign(&self, signer: &Signer) -> Result<String, Fault> {
        let wrong = |error: &dyn std::fmt::Display| Fault::of(MANIFEST, error.to_string());
        let text = serde_json::to_string(self).map_err(|error| wrong(&error))?;
        let mut object = canonical::read_object(&text).map_err(|error| wrong(&error))?;
        signer.sign_json(&mut object);
        Ok(canonical::to_string(&object))
    }
}

impl Local {
    /// Reads `local.json`. Fields that are not known are passed over: a later version may have more.
    ///
    /// # Errors
    /// It is something else.
    pub fn read(bytes: &[u8]) -> Result<Self, Fault> {
        serde_json::from_slice(bytes).map_err(|error| Fault::of(LOCAL, error.to_string()))
    }
}

//! Content hash and reference hash. May import `canonical`, `redaction`, `version`, sha2, base64.
//!
//! ruma's functions refuse an event of exactly 65,536 bytes and redact one corner case differently from the most
//! deployed server, so the bytes are made here. Source: <https://spec.matrix.org/v1.19/server-server-api/#signing-events>

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use ruma::{CanonicalJsonObject, EventId, IdParseError, OwnedEventId, room_version_rules::RedactionRules};
use sha2::{Digest as _, Sha256};

use crate::{canonical, redaction, version::Version};

/// What the content hash is made over, besides its own field.
const NOT_HASHED: [&str; 3] = ["unsigned", "signatures", "hashes"];

/// SHA-256 over the whole event: it tells whether the content is what the sender signed.
#[must_use]
pub fn content_hash(event: &CanonicalJsonObject) -> [u8; 32] {
    Sha256::digest(canonical::to_string_without(event, &NOT_HASHED)).into()
}

/// The content hash as it stands in `hashes.sha256`.
#[must_use]
pub fn content_hash_text(event: &CanonicalJsonObject) -> String {
    STANDARD_NO_PAD.encode(content_hash(event))
}

/// SHA-256 over the redacted event: it names the event.
#[must_use]
pub fn reference_hash(event: &CanonicalJsonObject, rules: &RedactionRules) -> [u8; 32] {
    Sha256::digest(redaction::signed_bytes(event, rules)).into()
}

/// The id of an event.
///
/// # Errors
/// Never: a hash makes a valid id. The type says so because ruma's constructor does.
pub fn event_id(event: &CanonicalJsonObject, version: &Version) -> Result<OwnedEventId, IdParseError> {
    event_id_of(&redaction::signed_bytes(event, &version.rules().redaction))
}

/// The id of the event with these signed bytes.
pub(crate) fn event_id_of(signed_bytes: &str) -> Result<OwnedEventId, IdParseError> {
    EventId::new_v2_or_v3(&URL_SAFE_NO_PAD.encode(Sha256::digest(signed_bytes)))
}

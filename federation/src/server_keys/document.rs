//! Reading the document in which a server publishes its keys. May import: ruma, `request_signature`, `limits`.

use std::collections::BTreeMap;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedServerSigningKeyId, ServerName,
    serde::{Base64, base64::Standard},
};

use super::time;
use crate::{
    ServerKey, Validity,
    clock::later,
    error::FederationError,
    limits::{KEYS_BELIEVED_FOR_MAX, KEYS_PER_SERVER_MAX},
    request_signature::is_good,
};

type Bytes = [u8; 32];

/// The keys of a document that is the server's own: it names the server, at least one key in use signed it, and each key in use
/// that signed it did so well. Keys that cannot be read, or are of other algorithms, are left out.
///
/// # Errors
/// [`FederationError::BadAnswer`].
pub(crate) fn keys_of(
    server: &ServerName,
    document: &CanonicalJsonObject,
    now: MilliSecondsSinceUnixEpoch,
) -> Result<BTreeMap<OwnedServerSigningKeyId, ServerKey>, FederationError> {
    let bad = |reason| Err(FederationError::BadAnswer(reason));
    let Some(CanonicalJsonValue::String(name)) = document.get("server_name") else {
        return bad("keys without a server's name");
    };
    if name != server.as_str() {
        return bad("keys of another server");
    }
    let (Some(current), Some(old)) = (entries(document, "verify_keys"), entries(document, "old_verify_keys")) else {
        return bad("too many keys");
    };
    if !is_signed(server, document, &current) {
        return bad("keys that are not signed by the server");
    }
    let end = time(document.get("valid_until_ts")).min(later(now, KEYS_BELIEVED_FOR_MAX));
    let mut keys = BTreeMap::new();
    // A key in both maps is in use: those of the second are overwritten.
    for (key_id, (bytes, entry)) in old {
        keys.insert(key_id, key(bytes, Validity::Expired(time(entry.get("expired_ts")))));
    }
    for (key_id, (bytes, _)) in current {
        keys.insert(key_id, key(bytes, Validity::Until(end)));
    }
    Ok(keys)
}

fn key(bytes: Bytes, validity: Validity) -> ServerKey {
    ServerKey { key: Base64::new(bytes.to_vec()), validity }
}

/// The readable Ed25519 keys of one of the document's maps; nothing when it has more than a server may have.
fn entries<'a>(
    document: &'a CanonicalJsonObject,
    name: &str,
) -> Option<BTreeMap<OwnedServerSigningKeyId, (Bytes, &'a CanonicalJsonObject)>> {
    let Some(CanonicalJsonValue::Object(map)) = document.get(name) else { return Some(BTreeMap::new()) };
    if map.len() > KEYS_PER_SERVER_MAX {
        return None;
    }
    let readable = map.iter().filter_map(|(key_id, entry)| {
        let CanonicalJsonValue::Object(entry) = entry else { return None };
        let CanonicalJsonValue::String(key) = entry.get("key")? else { return None };
        let bytes = Base64::<Standard>::parse(key).ok()?.into_inner().try_into().ok()?;
        let key_id = key_id.starts_with("ed25519:").then(|| key_id.as_str().try_into().ok())??;
        Some((key_id, (bytes, entry)))
    });
    Some(readable.collect())
}

fn is_signed(
    server: &ServerName,
    document: &CanonicalJsonObject,
    keys: &BTreeMap<OwnedServerSigningKeyId, (Bytes, &CanonicalJsonObject)>,
) -> bool {
    let Some(CanonicalJsonValue::Object(signatures)) = document.get("signatures") else { return false };
    let Some(CanonicalJsonValue::Object(signatures)) = signatures.get(server.as_str()) else { return false };
    let mut signed = document.clone();
    signed.remove("signatures");
    signed.remove("unsigned");
    let Ok(text) = serde_json::to_vec(&signed) else { return false };
    let mut by_listed = keys.iter().filter_map(|(key_id, (bytes, _))| Some((bytes, signatures.get(key_id.as_str())?)));
    let mut count = 0;
    let all_good = by_listed.all(|(bytes, signature)| {
        count += 1;
        let CanonicalJsonValue::String(signature) = signature else { return false };
        Base64::<Standard>::parse(signature).is_ok_and(|signature| is_good(bytes, &text, signature.as_bytes()))
    });
    all_good && count > 0
}

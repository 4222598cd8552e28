//! Reading the document in which a server publishes its keys. May import: ruma, `request_signature`, `limits`.

use std::collections::{BTreeMap, BTreeSet};

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
    let signers = current.iter().map(|(key_id, (bytes, _))| (key_id, bytes));
    if !is_signed(server, document, signers) {
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

/// At least one of the keys signed the document as this server, and each of them that did so did it well.
pub(super) fn is_signed<'a>(
    signer: &ServerName,
    document: &CanonicalJsonObject,
    keys: impl Iterator<Item = (&'a OwnedServerSigningKeyId, &'a Bytes)>,
) -> bool {
    let Some(signatures) = signatures_of(signer, document) else { return false };
    let mut signed = document.clone();
    signed.remove("signatures");
    signed.remove("unsigned");
    let Ok(text) = serde_json::to_vec(&signed) else { return false };
    let mut by_listed = keys.filter_map(|(key_id, bytes)| Some((bytes, signatures.get(key_id.as_str())?)));
    let mut count = 0;
    let all_good = by_listed.all(|(bytes, signature)| {
        count += 1;
        let CanonicalJsonValue::String(signature) = signature else { return false };
        Base64::<Standard>::parse(signature).is_ok_and(|signature| is_good(bytes, &text, signature.as_bytes()))
    });
    all_good && count > 0
}

/// The keys that a document says this server signed it with.
pub(super) fn signers(signer: &ServerName, document: &CanonicalJsonObject) -> BTreeSet<OwnedServerSigningKeyId> {
    let key_ids = signatures_of(signer, document).into_iter().flat_map(|signatures| signatures.keys());
    key_ids.take(KEYS_PER_SERVER_MAX).filter_map(|key_id| key_id.as_str().try_into().ok()).collect()
}

fn signatures_of<'a>(signer: &ServerName, document: &'a CanonicalJsonObject) -> Option<&'a CanonicalJsonObject> {
    let Some(CanonicalJsonValue::Object(signatures)) = document.get("signatures") else { return None };
    let Some(CanonicalJsonValue::Object(signatures)) = signatures.get(signer.as_str()) else { return None };
    Some(signatures)
}

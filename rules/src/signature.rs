//! Steps 2 and 3 of the checks on receipt: signatures and the content hash, with the keys given; and signing what this
//! server makes. What fails step 2 is dropped, what fails step 3 goes on redacted. May import `canonical`, `event`,
//! `hash`, `keys`, `redaction`, `version`, ed25519-dalek.
//!
//! Signatures are verified as the deployed servers do (ed25519-dalek's `verify`, not `verify_strict`): a stricter check
//! would refuse events that others accept. Source: <https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events>

use std::{collections::BTreeSet, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, ServerName, UserId,
    serde::{Base64, base64::Standard},
};

use crate::{
    canonical,
    event::{SignedPdu, UnixMs, WellFormedPdu},
    hash,
    keys::{KeyRing, Lookup},
    limits::KEY_BYTES,
    redaction,
    version::Version,
};

/// Why a pair of a server name and a key cannot sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no key version: one to {VERSION_BYTES_MAX} letters, digits and underscores")]
pub struct BadKeyVersion(String);

/// Bytes of the version of a key.
const VERSION_BYTES_MAX: usize = 64;

/// Signs for one server.
#[derive(Clone)]
pub struct Signer {
    server_name: OwnedServerName,
    key_id: Box<str>,
    key: SigningKey,
}

impl Signer {
    /// The signer with this key. `key_version` is what follows the colon of the key id.
    ///
    /// # Errors
    /// The version is empty, too long, or holds other characters than letters, digits and underscores.
    pub fn new(server_name: OwnedServerName, key_version: &str, seed: &[u8; KEY_BYTES]) -> Result<Self, BadKeyVersion> {
        let is_right = (1..=VERSION_BYTES_MAX).contains(&key_version.len())
            && key_version.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_right {
            return Err(BadKeyVersion(key_version.to_owned()));
        }
        let key_id = format!("ed25519:{key_version}").into();
        Ok(Self { server_name, key_id, key: SigningKey::from_bytes(seed) })
    }

    /// The server signed for.
    #[must_use]
    pub fn server_name(&self) -> &OwnedServerName {
        &self.server_name
    }

    /// The key's id, `ed25519:a_1`.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The public half of the key.
    #[must_use]
    pub fn public_key(&self) -> [u8; KEY_BYTES] {
        self.key.verifying_key().to_bytes()
    }

    /// Adds this server's signature over any object, as for keys and requests.
    pub fn sign_json(&self, object: &mut CanonicalJsonObject) {
        let bytes = canonical::to_string_without(object, &["signatures", "unsigned"]);
        self.add_signature(object, &bytes);
    }

    /// Adds this server's signature to an event that has its content hash, beside those of others.
    pub fn sign_event(&self, event: &mut CanonicalJsonObject, version: &Version) {
        let bytes = redaction::signed_bytes(event, &version.rules().redaction);
        self.add_signature(event, &bytes);
    }

    /// Adds the signature over `bytes`.
    pub(crate) fn add_signature(&self, object: &mut CanonicalJsonObject, bytes: &str) {
        let signature = CanonicalJsonValue::String(STANDARD_NO_PAD.encode(self.key.sign(bytes.as_bytes()).to_bytes()));
        let mut signatures = take_object(object, "signatures");
        let mut own = take_object(&mut signatures, self.server_name.as_str());
        own.insert(self.key_id.to_string(), signature);
        signatures.insert(self.server_name.to_string(), CanonicalJsonValue::Object(own));
        object.insert("signatures".to_owned(), CanonicalJsonValue::Object(signatures));
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Signer({} {})", self.server_name, self.key_id)
    }
}

/// Takes the object out of a field; what else stood there is gone.
fn take_object(object: &mut CanonicalJsonObject, field: &str) -> CanonicalJsonObject {
    match object.remove(field) {
        Some(CanonicalJsonValue::Object(inner)) => inner,
        _ => CanonicalJsonObject::new(),
    }
}

/// Why an event does not count as signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// A server that has to sign did not.
    #[error("`{0}` did not sign the event")]
    Missing(OwnedServerName),
    /// It signed, but no key of its signatures is known: this can change, so it is no proof against the event.
    #[error("no key of `{0}` for this event is known")]
    UnknownKey(OwnedServerName),
    /// It signed only with keys that do not count for the time of the event.
    #[error("no key of `{0}` counts for the time of this event")]
    UnusableKey(OwnedServerName),
    /// A signature by a known key is wrong.
    #[error("the signature of `{0}` is wrong")]
    Wrong(OwnedServerName),
    /// The event names an authorising user that is none, so nobody knows who has to sign.
    #[error("`join_authorised_via_users_server` is no user")]
    NoSigner,
}

/// The servers that have to sign an event: the sender's, but for an invite by e-mail or the like; and for a join that
/// a member vouches for, that member's. The specification asks the latter of every membership event, ruma of every
/// event; the most deployed server asks it of joins, and so must everybody who wants to keep the same room.
///
/// # Errors
/// The vouching member is no user id.
pub fn required_signers(pdu: &WellFormedPdu, version: &Version) -> Result<BTreeSet<OwnedServerName>, BadSignature> {
    let mut servers = BTreeSet::new();
    let content = pdu.object.get("content").and_then(CanonicalJsonValue::as_object);
    let field = |name: &str| content.and_then(|content| content.get(name));
    let membership = match pdu.object.get("type").and_then(CanonicalJsonValue::as_str) {
        Some("m.room.member") => field("membership").and_then(CanonicalJsonValue::as_str),
        _ => None,
    };
    if !(membership == Some("invite") && field("third_party_invite").is_some()) {
        servers.insert(pdu.header.sender.server_name().to_owned());
    }
    if membership == Some("join")
        && version.rules().signatures.check_join_authorised_via_users_server
        && let Some(voucher) = field("join_authorised_via_users_server")
    {
        let voucher = voucher.as_str().and_then(|id| <&UserId>::try_from(id).ok()).ok_or(BadSignature::NoSigner)?;
        servers.insert(voucher.server_name().to_owned());
    }
    Ok(servers)
}

/// The keys to look for before [`verify`]: those that the servers which have to sign used.
///
/// # Errors
/// As [`required_signers`].
pub fn required_keys(
    pdu: &WellFormedPdu,
    version: &Version,
) -> Result<BTreeSet<(OwnedServerName, String)>, BadSignature> {
    let mut keys = BTreeSet::new();
    for server in required_signers(pdu, version)? {
        for (key_id, _) in signatures_of(pdu, &server)? {
            keys.insert((server.clone(), key_id.to_owned()));
        }
    }
    Ok(keys)
}

/// Checks the signatures, then the content hash.
///
/// # Errors
/// A required signature is missing or wrong, or its key is not known. Of each required server all signatures by known
/// keys must be right, and at least one must be.
pub fn verify(pdu: WellFormedPdu, keys: &KeyRing, version: &Version) -> Result<SignedPdu, BadSignature> {
    for server in required_signers(&pdu, version)? {
        verify_server(&pdu, &server, keys, version)?;
    }
    Ok(verified_before(pdu, version))
}

/// Checks the content hash of an event whose signatures were [verified](verify) before, over the same text.
#[must_use]
pub fn verified_before(pdu: WellFormedPdu, version: &Version) -> SignedPdu {
    let hashes = pdu.object.get("hashes").and_then(CanonicalJsonValue::as_object);
    let stated = hashes.and_then(|hashes| hashes.get("sha256")).and_then(CanonicalJsonValue::as_str);
    let is_whole = stated
        .and_then(|hash| Base64::<Standard>::parse(hash).ok())
        .is_some_and(|hash| hash.as_bytes() == hash::content_hash(&pdu.object));
    if is_whole {
        return SignedPdu { pdu, redacted: false };
    }
    let object = redaction::redact(&pdu.object, &version.rules().redaction);
    SignedPdu { pdu: WellFormedPdu { object, ..pdu }, redacted: true }
}

/// The keys to look for before [`verify_also`].
///
/// # Errors
/// The server did not sign.
pub fn keys_of(pdu: &WellFormedPdu, server: &ServerName) -> Result<BTreeSet<(OwnedServerName, String)>, BadSignature> {
    let signatures = signatures_of(pdu, server)?;
    Ok(signatures.into_iter().map(|(key_id, _)| (server.to_owned(), key_id.to_owned())).collect())
}

/// Checks the signatures of one more server: of that which took an invite, or of that which vouches for a join.
///
/// # Errors
/// As [`verify`].
pub fn verify_also(
    pdu: &WellFormedPdu,
    server: &OwnedServerName,
    keys: &KeyRing,
    version: &Version,
) -> Result<(), BadSignature> {
    verify_server(pdu, server, keys, version)
}

/// Checks a server's signature over an object that is no event, such as [`Signer::sign_json`] makes. Its keys count whatever their time.
///
/// # Errors
/// The server did not sign, none of its keys is known, or a signature by a known key is wrong.
pub fn verify_json(object: &CanonicalJsonObject, server: &ServerName, keys: &KeyRing) -> Result<(), BadSignature> {
    let bytes = canonical::to_string_without(object, &["signatures", "unsigned"]);
    let all = object.get("signatures").and_then(CanonicalJsonValue::as_object);
    let own = all.and_then(|all| all.get(server.as_str())).and_then(CanonicalJsonValue::as_object);
    let own = own.filter(|own| !own.is_empty()).ok_or_else(|| BadSignature::Missing(server.to_owned()))?;
    let mut has_right = false;
    for (key_id, signature) in own {
        let Some(key) = keys.get(server, key_id) else { continue };
        let key = VerifyingKey::from_bytes(&key.public).map_err(|_opaque| BadSignature::Wrong(server.to_owned()))?;
        check_signature(&key, signature, &bytes).ok_or_else(|| BadSignature::Wrong(server.to_owned()))?;
        has_right = true;
    }
    if has_right { Ok(()) } else { Err(BadSignature::UnknownKey(server.to_owned())) }
}

/// The signature in this text is that of the key; none: it is not.
fn check_signature(key: &VerifyingKey, signature: &CanonicalJsonValue, bytes: &str) -> Option<()> {
    let signature = Base64::<Standard>::parse(signature.as_str()?).ok()?;
    key.verify(bytes.as_bytes(), &Signature::from_slice(signature.as_bytes()).ok()?).ok()
}

fn verify_server(
    pdu: &WellFormedPdu,
    server: &OwnedServerName,
    keys: &KeyRing,
    version: &Version,
) -> Result<(), BadSignature> {
    let at: UnixMs = pdu.header.origin_server_ts;
    let mut has_right = false;
    let mut has_unknown = false;
    for (key_id, signature) in signatures_of(pdu, server)? {
        match keys.lookup(server, key_id, at, version) {
            Lookup::Unknown => has_unknown = true,
            Lookup::Unusable => {}
            Lookup::Valid(key) => {
                check_signature(&key, signature, &pdu.signed_bytes)
                    .ok_or_else(|| BadSignature::Wrong(server.clone()))?;
                has_right = true;
            }
        }
    }
    match (has_right, has_unknown) {
        (true, _) => Ok(()),
        (false, true) => Err(BadSignature::UnknownKey(server.clone())),
        (false, false) => Err(BadSignature::UnusableKey(server.clone())),
    }
}

/// The id under which the policy server of a room signs. Its key stands in the room's state and is published nowhere.
/// Source: <https://spec.matrix.org/v1.19/server-server-api/#policy-servers>
pub const POLICY_KEY_ID: &str = "ed25519:policy_server";

/// The policy server of the room signed the event.
#[must_use]
pub fn is_signed_by_policy_server(
    event: &CanonicalJsonObject,
    server: &ServerName,
    public: &[u8; KEY_BYTES],
    version: &Version,
) -> bool {
    let all = event.get("signatures").and_then(CanonicalJsonValue::as_object);
    let of_server = all.and_then(|all| all.get(server.as_str())).and_then(CanonicalJsonValue::as_object);
    let signature = of_server
        .and_then(|signatures| signatures.get(POLICY_KEY_ID)?.as_str())
        .and_then(|text| Base64::<Standard>::parse(text).ok())
        .and_then(|bytes| Signature::from_slice(bytes.as_bytes()).ok());
    let (Some(signature), Ok(key)) = (signature, VerifyingKey::from_bytes(public)) else { return false };
    let bytes = redaction::signed_bytes(event, &version.rules().redaction);
    key.verify(bytes.as_bytes(), &signature).is_ok()
}

/// Adds the signature of a policy server, beside all that are there, also those of that very server.
pub fn add_policy_signature(event: &mut CanonicalJsonObject, server: &ServerName, signature: &str) {
    let mut signatures = take_object(event, "signatures");
    let mut own = take_object(&mut signatures, server.as_str());
    own.insert(POLICY_KEY_ID.to_owned(), CanonicalJsonValue::String(signature.to_owned()));
    signatures.insert(server.to_string(), CanonicalJsonValue::Object(own));
    event.insert("signatures".to_owned(), CanonicalJsonValue::Object(signatures));
}

/// The signatures of a server by algorithms that are known, at least one; what it signed as a policy server is none.
fn signatures_of<'a>(
    pdu: &'a WellFormedPdu,
    server: &ServerName,
) -> Result<Vec<(&'a str, &'a CanonicalJsonValue)>, BadSignature> {
    let all = pdu.object.get("signatures").and_then(CanonicalJsonValue::as_object);
    let of_server = all.and_then(|all| all.get(server.as_str())).and_then(CanonicalJsonValue::as_object);
    let known: Vec<_> = of_server
        .into_iter()
        .flatten()
        .filter(|(key_id, _)| key_id.starts_with("ed25519:") && key_id.as_str() != POLICY_KEY_ID)
        .map(|(key_id, signature)| (key_id.as_str(), signature))
        .collect();
    if known.is_empty() { Err(BadSignature::Missing(server.to_owned())) } else { Ok(known) }
}

//! The document in which this server publishes its keys, `GET /_matrix/key/v2/server`.
//!
//! May import: ruma, `our_keys`.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, ServerName,
    signatures::{JsonError, sign_json},
};

use crate::our_keys::{RetiredKeys, SigningKeys, unpadded};

/// The signed document. A key that signs is never among the retired ones.
/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2server>
///
/// # Errors
/// Only when signing fails, which a document of this form gives no reason for.
pub fn key_document(
    server_name: &ServerName,
    keys: &SigningKeys,
    retired: &RetiredKeys,
    valid_until: MilliSecondsSinceUnixEpoch,
) -> Result<CanonicalJsonObject, JsonError> {
    let verify_keys: CanonicalJsonObject =
        keys.iter().map(|key| (key.key_id(), object([("key", text(unpadded(&key.public_key())))]))).collect();
    let old_verify_keys: CanonicalJsonObject = retired
        .iter()
        .filter(|(key_id, _)| !verify_keys.contains_key(*key_id))
        .map(|(key_id, old)| {
            let fields = [("key", text(old.key.encode())), ("expired_ts", time(old.expired_ts))];
            (key_id.to_owned(), object(fields))
        })
        .collect();
    let mut document = CanonicalJsonObject::from([
        ("server_name".to_owned(), text(server_name.to_string())),
        ("valid_until_ts".to_owned(), time(valid_until)),
        ("verify_keys".to_owned(), CanonicalJsonValue::Object(verify_keys)),
        ("old_verify_keys".to_owned(), CanonicalJsonValue::Object(old_verify_keys)),
    ]);
    for key in keys.iter() {
        sign_json(server_name.as_str(), key, &mut document)?;
    }
    Ok(document)
}

fn object<const N: usize>(fields: [(&str, CanonicalJsonValue); N]) -> CanonicalJsonValue {
    CanonicalJsonValue::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn text(value: String) -> CanonicalJsonValue {
    CanonicalJsonValue::String(value)
}

fn time(at: MilliSecondsSinceUnixEpoch) -> CanonicalJsonValue {
    CanonicalJsonValue::Integer(at.0.into())
}

#[cfg(test)]
mod tests {
    use ruma::{
        serde::Base64,
        server_name,
        signatures::{PublicKeyMap, verify_json},
        uint,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::our_keys::SigningKey;

    const VECTORS: &str = include_str!("../fixtures/json-signing.json");

    fn two_keys() -> SigningKeys {
        let line = |version, seed| format!("ed25519 {version} {}\n", unpadded(&[seed; 32]));
        SigningKeys::parse(&(line("a_1", 1) + &line("a_2", 2))).unwrap()
    }

    fn published(keys: &SigningKeys, retired: &RetiredKeys) -> CanonicalJsonObject {
        key_document(server_name!("domain"), keys, retired, MilliSecondsSinceUnixEpoch(uint!(1000))).unwrap()
    }

    #[test]
    fn the_vectors_of_the_specification_are_signed_as_it_says() {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let line = format!("ed25519 1 {}", vectors["signing_key_seed_base64"].as_str().unwrap());
        let keys = SigningKeys::parse(&line).unwrap();
        let cases = vectors["json_signing"].as_array().unwrap();
        assert_eq!(cases.len(), 2);
        for case in cases {
            let mut object: CanonicalJsonObject = serde_json::from_value(case["input"].clone()).unwrap();
            sign_json("domain", keys.current(), &mut object).unwrap();
            let signed = serde_json::to_value(&object).unwrap();
            assert_eq!(signed["signatures"]["domain"]["ed25519:1"], case["signature"]);
        }
    }

    /// S2S 4 our keys are published.
    #[test]
    fn every_current_key_signs_the_document() {
        let keys = two_keys();
        let document = published(&keys, &RetiredKeys::default());
        for key in keys.iter() {
            let mut known = PublicKeyMap::new();
            let public = Base64::new(key.public_key().to_vec());
            known.entry("domain".to_owned()).or_default().insert(key.key_id(), public);
            verify_json(&known, &document).unwrap();
        }
        let signatures = serde_json::to_value(&document).unwrap()["signatures"]["domain"].clone();
        assert_eq!(signatures.as_object().unwrap().len(), 2);
    }

    /// S2S 4 our keys are published.
    #[test]
    fn a_key_is_never_published_as_current_and_as_old() {
        let keys = two_keys();
        let gone = SigningKey::from_random(&[3; 32]);
        let mut retired = RetiredKeys::default();
        retired.retire(keys.current(), MilliSecondsSinceUnixEpoch(uint!(5)));
        retired.retire(&gone, MilliSecondsSinceUnixEpoch(uint!(7)));

        let document = serde_json::to_value(published(&keys, &retired)).unwrap();

        let gone_id = gone.key_id();
        let old = json!({ gone_id: { "key": unpadded(&gone.public_key()), "expired_ts": 7 } });
        assert_eq!(document["old_verify_keys"], old);
        assert_eq!(document["verify_keys"].as_object().unwrap().len(), 2);
        assert_eq!(document["valid_until_ts"], 1000);
        assert_eq!(document["server_name"], "domain");
    }
}

//! ruma's functions as a cross-check: on events that none of its pitfalls touches they and ours give the same bytes.

use proptest::prelude::*;
use rules::{
    UnixMs, Version, canonical,
    format::{Caps, check_object},
    hash::{content_hash, event_id},
    keys::{Key, KeyRing, Validity},
    redaction::redact,
    signature::verify,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, Int,
    serde::Base64,
    signatures::{Ed25519KeyPair, PublicKeyMap, Verified},
};
use serde_json::json;

use crate::world::{object, signer};

const SEED: [u8; 32] = [9; 32];

fn value() -> impl Strategy<Value = CanonicalJsonValue> {
    let leaf = prop_oneof![
        Just(CanonicalJsonValue::Null),
        any::<bool>().prop_map(CanonicalJsonValue::Bool),
        (-9_007_199_254_740_991_i64..=9_007_199_254_740_991)
            .prop_map(|number| CanonicalJsonValue::Integer(Int::new(number).unwrap())),
        any::<String>().prop_map(CanonicalJsonValue::String),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(CanonicalJsonValue::Array),
            proptest::collection::btree_map(any::<String>(), inner, 0..5).prop_map(CanonicalJsonValue::Object),
        ]
    })
}

/// Content with names that redaction knows. `third_party_invite` is left to the pitfalls.
fn content() -> impl Strategy<Value = CanonicalJsonObject> {
    let names = prop::sample::select(vec![
        "membership",
        "creator",
        "join_rule",
        "allow",
        "history_visibility",
        "ban",
        "events",
        "invite",
        "users",
        "redacts",
        "aliases",
        "displayname",
        "room_version",
        "users_default",
        "body",
    ]);
    proptest::collection::btree_map(names.prop_map(ToOwned::to_owned), value(), 0..6)
}

fn event() -> impl Strategy<Value = CanonicalJsonObject> {
    let kinds = prop::sample::select(vec![
        "m.room.member",
        "m.room.create",
        "m.room.join_rules",
        "m.room.power_levels",
        "m.room.history_visibility",
        "m.room.redaction",
        "m.room.aliases",
        "m.room.message",
        "m.room.server_acl",
        "x.custom",
    ]);
    let extras = proptest::collection::btree_map("[a-z_]{1,12}", value(), 0..3);
    (kinds, content(), extras, any::<Option<String>>()).prop_map(|(kind, content, extras, state_key)| {
        let mut event = extras;
        event.extend(object(json!({
            "type": kind, "sender": "@alice:a.example", "room_id": "!room:a.example", "origin_server_ts": 5, "depth": 4,
            "prev_events": [], "auth_events": [], "hashes": {"sha256": "x"}, "origin": "a.example",
            "unsigned": {"age": 3}, "signatures": {"b.example": {"ed25519:x": "y"}},
        })));
        event.insert("content".to_owned(), CanonicalJsonValue::Object(content));
        if let Some(state_key) = state_key {
            event.insert("state_key".to_owned(), CanonicalJsonValue::String(state_key));
        }
        event
    })
}

proptest! {
    /// S2S 6 canonical JSON.
    #[test]
    fn canonical_text_is_the_same_and_reads_back(object in proptest::collection::btree_map(any::<String>(), value(), 0..6)) {
        let text = canonical::to_string(&object);
        prop_assert_eq!(&text, &serde_json::to_string(&object).unwrap());
        prop_assert_eq!(canonical::read_object(&text).unwrap(), object);
    }

    #[test]
    fn the_reader_never_panics_and_accepts_only_json(text in "[\\[\\]{}\",:0-9.eE\\\\ut\\-a-f \u{0}\u{7f}é]{0,24}") {
        if let Ok(value) = canonical::read(&text) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            let object = CanonicalJsonObject::from([("v".to_owned(), value)]);
            prop_assert_eq!(canonical::read_object(&canonical::to_string(&object)).unwrap(), object);
        }
    }

    /// S2S 7 what a redaction keeps.
    #[test]
    fn redaction_and_hashes_are_the_same(event in event()) {
        for version in Version::all() {
            let rules = version.rules();
            let theirs = ruma::canonical_json::redact(event.clone(), &rules.redaction, None).unwrap();
            prop_assert_eq!(redact(&event, &rules.redaction), theirs);
            let reference = ruma::signatures::reference_hash(&event, rules).unwrap();
            let ours = event_id(&event, &version).unwrap();
            prop_assert_eq!(ours.as_str(), format!("${reference}"));
        }
        let theirs = ruma::signatures::content_hash(&event).unwrap();
        prop_assert_eq!(content_hash(&event).to_vec(), theirs.as_bytes().to_vec());
    }

    #[test]
    fn what_ruma_signs_we_verify_and_the_other_way_round(content in content()) {
        for version in Version::all() {
            let rules = version.rules();
            let room_id = if version.room_id_is_create_hash() { format!("!{}", "r".repeat(43)) } else { "!r:a.example".to_owned() };
            let mut theirs = object(json!({
                "type": "m.room.topic", "state_key": "", "sender": "@alice:a.example", "room_id": room_id,
                "origin_server_ts": 5, "depth": 4, "prev_events": [], "auth_events": [],
            }));
            theirs.insert("content".to_owned(), CanonicalJsonValue::Object(content.clone()));
            let mut ours = theirs.clone();

            let prefix = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
            let document: Vec<u8> = prefix.into_iter().chain(SEED).collect();
            let pair = Ed25519KeyPair::from_der(&document, "1".to_owned()).unwrap();
            ruma::signatures::hash_and_sign_event("a.example", &pair, &mut theirs, &rules.redaction).unwrap();
            let mut keys = KeyRing::new();
            let key = Key { public: pair.public_key(), validity: Validity::Until(UnixMs(9)) };
            keys.insert("a.example".try_into().unwrap(), "ed25519:1", key);
            let pdu = check_object(theirs, &version, Caps::Enforced).unwrap();
            prop_assert!(!verify(pdu, &keys, &version).unwrap().was_redacted());

            let signer = signer("a.example".try_into().unwrap());
            let hash = rules::hash::content_hash_text(&ours);
            ours.insert("hashes".to_owned(), object(json!({"sha256": hash})).into());
            signer.sign_event(&mut ours, &version);
            let mut map = PublicKeyMap::new();
            let public = Base64::new(signer.public_key().to_vec());
            map.entry("a.example".to_owned()).or_default().insert(signer.key_id().to_owned(), public);
            prop_assert_eq!(ruma::signatures::verify_event(&map, &ours, rules).unwrap(), Verified::All);
        }
    }
}

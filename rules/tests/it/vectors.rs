//! The shared vectors on canonical JSON, redaction, signatures, hashes, ids and room versions.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD, engine::general_purpose::URL_SAFE_NO_PAD};
use rules::{
    UnixMs, Version, canonical,
    format::{Caps, parse},
    hash::{content_hash_text, event_id, reference_hash},
    keys::{Key, KeyRing, Validity},
    redaction::{redact, signed_bytes},
    signature::{BadSignature, Signer, verify},
};
use ruma::{
    OwnedServerName, RoomVersionId,
    room_version_rules::{RedactionRules, RoomVersionRules},
    serde::{Base64, base64::Standard},
};
use serde_json::{Value, json};

use crate::world::{object, raw_text, version};

fn vectors(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn signing() -> Value {
    vectors(include_str!("../../fixtures/vectors/signing-and-hashes.json"))
}

fn rules_of(name: &str) -> RoomVersionRules {
    RoomVersionId::try_from(name).unwrap().rules().unwrap()
}

fn the_signer(vectors: &Value) -> Signer {
    let seed = Base64::<Standard>::parse(vectors["signing_key_seed_base64"].as_str().unwrap()).unwrap();
    let server = OwnedServerName::try_from(vectors["server_name"].as_str().unwrap()).unwrap();
    let key_version = vectors["key_id"].as_str().unwrap().strip_prefix("ed25519:").unwrap();
    Signer::new(server, key_version, seed.as_bytes().try_into().unwrap()).unwrap()
}

fn the_keys(vectors: &Value) -> KeyRing {
    let signer = the_signer(vectors);
    let mut keys = KeyRing::new();
    let key = Key { public: signer.public_key(), validity: Validity::Until(UnixMs(u64::MAX)) };
    keys.insert(signer.server_name().clone(), signer.key_id(), key);
    keys
}

/// S2S 6 canonical JSON.
#[test]
fn canonical_json_is_read_and_written_as_the_vectors_say() {
    let vectors = vectors(include_str!("../../fixtures/vectors/canonical-json.json"));
    for case in vectors["cases"].as_array().unwrap() {
        let input = case["input"].as_str().unwrap();
        // A value that is no object is read inside of one, and compared inside of one.
        let outcome = match canonical::read_object(&format!("{{\"v\":{input}}}")) {
            Ok(object) => canonical::to_string(&object),
            Err(_) => "REJECT".to_owned(),
        };
        let accepted: Vec<String> = case["accept"]
            .as_array()
            .unwrap()
            .iter()
            .map(|text| text.as_str().unwrap())
            .map(|text| if text == "REJECT" { text.to_owned() } else { format!("{{\"v\":{text}}}") })
            .collect();
        assert!(accepted.contains(&outcome), "{input} gave {outcome}, not one of {accepted:?}");
    }
}

#[test]
fn bytes_that_are_no_utf_8_never_reach_the_reader() {
    let vectors = vectors(include_str!("../../fixtures/vectors/canonical-json.json"));
    let case = &vectors["invalid_utf8_case"];
    let hex = case["input_hex"].as_str().unwrap().as_bytes();
    let bytes: Vec<u8> =
        hex.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect();
    assert_eq!(case["accept"], json!(["REJECT"]));
    assert!(String::from_utf8(bytes.clone()).is_err());
    assert!(serde_json::from_slice::<Box<serde_json::value::RawValue>>(&bytes).is_err());
}

/// The redaction rules of a group of versions in `redaction.json`.
fn redaction_group(group: &str) -> Vec<RedactionRules> {
    let (first, last) = group.split_once('-').unwrap_or((group, group));
    let range = first.parse::<u32>().unwrap()..=last.parse::<u32>().unwrap();
    range.map(|version| rules_of(&version.to_string()).redaction).collect()
}

/// S2S 7 what a redaction keeps.
#[test]
fn redaction_leaves_what_the_vectors_say_in_every_room_version() {
    let vectors = vectors(include_str!("../../fixtures/vectors/redaction.json"));
    let mut checks = 0;
    for case in vectors["cases"].as_array().unwrap() {
        let event = object(case["event"].clone());
        for (group, expected) in case["expected"].as_object().unwrap() {
            for rules in redaction_group(group) {
                assert_eq!(redact(&event, &rules), object(expected.clone()), "{} in {group}", case["name"]);
                checks += 1;
            }
        }
    }
    assert_eq!(checks, vectors["cases"].as_array().unwrap().len() * 12);
}

/// S2S 6 signatures.
#[test]
fn the_bytes_that_are_signed_are_the_redacted_event_without_signatures() {
    let vectors = vectors(include_str!("../../fixtures/vectors/redaction.json"));
    for case in vectors["cases"].as_array().unwrap() {
        let event = object(case["event"].clone());
        for version in Version::all() {
            let rules = &version.rules().redaction;
            let copy = redact(&event, rules);
            assert_eq!(signed_bytes(&event, rules), canonical::to_string_without(&copy, &["signatures"]));
        }
    }
}

/// S2S 6 signatures.
#[test]
fn json_is_signed_as_in_the_specification() {
    let vectors = signing();
    let signer = the_signer(&vectors);
    assert_eq!(STANDARD_NO_PAD.encode(signer.public_key()), vectors["public_key_base64"].as_str().unwrap());
    for case in vectors["json_signing"].as_array().unwrap() {
        let mut signed = object(case["input"].clone());
        signer.sign_json(&mut signed);
        let signed: Value = serde_json::from_str(&canonical::to_string(&signed)).unwrap();
        assert_eq!(signed["signatures"]["domain"]["ed25519:1"], case["signature"]);
    }
}

#[test]
fn published_keys_are_signed_as_in_the_vectors() {
    let vectors = signing();
    for case in vectors["server_keys_object"].as_array().unwrap() {
        let expected = object(case["signed"].clone());
        let mut signed = expected.clone();
        signed.remove("signatures");
        the_signer(&vectors).sign_json(&mut signed);
        assert_eq!(signed, expected);
    }
}

/// S2S 6 content hash and reference hash.
#[test]
fn events_are_hashed_and_signed_as_in_the_specification() {
    let vectors = signing();
    for case in vectors["event_signing"].as_array().unwrap() {
        let event = object(case["input"].clone());
        assert_eq!(content_hash_text(&event), case["content_hash"].as_str().unwrap());
        assert_eq!(signature_of(&vectors, &case["input"], "10"), case["signature"]);
    }
}

/// The signature over an event that gets its content hash first, by the rules of a version that is spoken.
fn signature_of(vectors: &Value, event: &Value, version_name: &str) -> Value {
    let mut event = object(event.clone());
    let hash = content_hash_text(&event);
    event.insert("hashes".to_owned(), object(json!({"sha256": hash})).into());
    the_signer(vectors).sign_event(&mut event, &version(version_name));
    let signed: Value = serde_json::from_str(&canonical::to_string(&event)).unwrap();
    signed["signatures"]["domain"]["ed25519:1"].clone()
}

/// S2S 6 content hash and reference hash.
#[test]
fn hashes_and_signatures_follow_the_room_version() {
    let vectors = signing();
    let mut versions_signed = 0;
    for case in vectors["event_signing_by_room_version"].as_array().unwrap() {
        for (name, expected) in case["expected"].as_object().unwrap() {
            let mut event = object(case["input"].clone());
            let content_hash = content_hash_text(&event);
            assert_eq!(content_hash, expected["content_hash"].as_str().unwrap());
            event.insert("hashes".to_owned(), object(json!({"sha256": content_hash})).into());
            let reference = reference_hash(&event, &rules_of(name).redaction);
            assert_eq!(STANDARD_NO_PAD.encode(reference), expected["reference_hash_std"].as_str().unwrap());
            assert_eq!(URL_SAFE_NO_PAD.encode(reference), expected["reference_hash_urlsafe"].as_str().unwrap());
            if Version::parse(name).is_some() {
                assert_eq!(signature_of(&vectors, &case["input"], name), expected["signature"], "version {name}");
                versions_signed += 1;
            }
        }
    }
    assert!(versions_signed >= Version::all().count());
}

/// S2S 6 content hash and reference hash.
#[test]
fn event_and_room_ids_are_those_of_the_vectors() {
    let vectors = signing();
    for case in vectors["event_ids"].as_array().unwrap() {
        let version = version(case["room_version"].as_str().unwrap());
        let event = object(case["signed_event"].clone());
        assert_eq!(event_id(&event, &version).unwrap().as_str(), case["event_id"].as_str().unwrap());
        let pdu = parse(&raw_text(&canonical::to_string(&event)), &version, Caps::Enforced).unwrap();
        let room_id = case.get("derived_room_id").unwrap_or(&case["signed_event"]["room_id"]);
        assert_eq!(pdu.room_id().as_str(), room_id.as_str().unwrap());
        let signed = verify(pdu, &the_keys(&vectors), &version).unwrap();
        assert!(!signed.was_redacted());
    }
}

/// S2S 6 signatures.
#[test]
fn tampering_is_noticed_as_in_the_vectors() {
    let vectors = signing();
    let cases = vectors["tampering"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let version = version(case["room_version"].as_str().unwrap());
        let pdu = parse(&raw_text(&case["event"].to_string()), &version, Caps::Enforced).unwrap();
        let outcome = verify(pdu, &the_keys(&vectors), &version).map(|signed| {
            let redacted = signed.was_redacted();
            let event = signed.into_event(&version).unwrap();
            (redacted, event.json().contains("displayname"))
        });
        let domain = OwnedServerName::try_from("domain").unwrap();
        let expected = match case["expect"].as_str().unwrap() {
            "signature valid, content hash mismatch: process the redacted copy" => Ok((true, false)),
            "signature invalid: drop" => Err(BadSignature::Wrong(domain)),
            "signature and content hash valid" => Ok((false, true)),
            other => panic!("unknown expectation {other}"),
        };
        assert_eq!(outcome, expected, "{}", case["name"]);
    }
}

#[test]
fn the_table_of_room_versions_agrees_with_the_vectors() {
    let vectors = vectors(include_str!("../../fixtures/vectors/room-versions.json"));
    assert_eq!(vectors["recommended_default"].as_str().unwrap(), Version::DEFAULT);
    let redaction_names = |rules: &RedactionRules| match (
        rules.keep_room_create_content,
        rules.keep_room_member_join_authorised_via_users_server,
        rules.keep_room_join_rules_allow,
    ) {
        (true, ..) => "v11",
        (false, true, _) => "v9",
        (false, false, true) => "v8",
        (false, false, false) => "v6",
    };
    for version in Version::all() {
        let row = &vectors["versions"][version.as_str()];
        let rules = version.rules();
        let authorization = &rules.authorization;
        let facts = [
            ("key_validity_enforced", json!(rules.enforce_key_validity)),
            ("create_requires_creator", json!(version.creator_in_content())),
            ("create_in_auth_events", json!(!version.room_id_is_create_hash())),
            ("additional_creators", json!(authorization.additional_room_creators)),
            ("notifications_checked", json!(authorization.limit_notifications_power_levels)),
            ("special_aliases_rule", json!(authorization.special_case_room_aliases)),
            ("special_redaction_rule", json!(authorization.special_case_room_redaction)),
            ("redacts_location", json!(if version.redacts_in_content() { "content" } else { "top level" })),
            ("knock", json!(authorization.knocking)),
            ("restricted", json!(authorization.restricted_join_rule)),
            ("knock_restricted", json!(authorization.knock_restricted_join_rule)),
            ("redaction_keys", json!(redaction_names(&rules.redaction))),
            ("third_party_signed_kept", json!(rules.redaction.keep_room_member_third_party_invite_signed)),
            ("canonical_json", json!(if authorization.strict_canonical_json { "enforced" } else { "not enforced" })),
            (
                "state_res",
                json!(if version.state_resolution().consider_conflicted_state_subgraph { "v2.1" } else { "v2.0" }),
            ),
            ("max_depth", json!("2^53-1")),
            ("status", json!("stable")),
        ];
        for (field, ours) in facts {
            assert_eq!(ours, row[field], "`{field}` in version {}", version.as_str());
        }
        assert_eq!(
            row["power_level_values"] == "integer only",
            authorization.integer_power_levels,
            "version {}",
            version.as_str()
        );
        assert_eq!(
            version.creators_are_above_levels(),
            row["creator_power"].as_str().unwrap().starts_with("infinite"),
            "version {}",
            version.as_str()
        );
    }
}

#[test]
fn only_versions_6_to_12_are_spoken_and_only_10_to_12_created() {
    let spoken: Vec<&str> = Version::all().map(|version| version.as_str()).collect();
    assert_eq!(spoken, ["6", "7", "8", "9", "10", "11", "12"]);
    let created: Vec<&str> = Version::all().filter(Version::may_create).map(|version| version.as_str()).collect();
    assert_eq!(created, ["10", "11", "12"]);
    assert_eq!(Version::of(&RoomVersionId::V5), None);
    assert_eq!(Version::of(&RoomVersionId::V11), Version::parse("11"));
    assert_eq!(Version::parse("org.matrix.hydra.11"), None);
}

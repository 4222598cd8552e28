//! The signature of a room's policy server: beside those of servers, never instead of one.

use rules::{
    canonical,
    draft::{self, Around, Draft},
    format::{Caps, parse},
    signature::{
        BadSignature, POLICY_KEY_ID, Signer, add_policy_signature, is_signed_by_policy_server, required_keys, verify,
    },
};
use ruma::{CanonicalJsonObject, OwnedServerName, server_name};
use serde_json::{Value, json};

use crate::world::{keys_of, object, raw_text, signer, version};

/// A message of `a.example`.
fn message() -> CanonicalJsonObject {
    let around = Around {
        room_id: Some(&"!room:a.example".try_into().unwrap()),
        sender: &"@alice:a.example".try_into().unwrap(),
        prev_events: vec![format!("${}", "p".repeat(43)).as_str().try_into().unwrap()],
        auth_events: Vec::new(),
        depth: 4,
        now: rules::UnixMs(5),
    };
    let draft = Draft::message("m.room.message", object(json!({ "body": "hello" })));
    let event = draft::complete(draft, around, &version("11"), &signer(server_name!("a.example"))).unwrap();
    canonical::read_object(event.json()).unwrap()
}

/// What the policy server `server` makes of an event: the signature.
fn signed_by(server: &str, event: &CanonicalJsonObject) -> (OwnedServerName, [u8; 32], String) {
    let server = OwnedServerName::try_from(server).unwrap();
    let policy = Signer::new(server.clone(), "policy_server", &[41; 32]).unwrap();
    let mut event = event.clone();
    event.remove("signatures");
    policy.sign_event(&mut event, &version("11"));
    let event = serde_json::to_value(&event).unwrap();
    let signature = event["signatures"][server.as_str()][POLICY_KEY_ID].as_str().unwrap().to_owned();
    (server, policy.public_key(), signature)
}

/// Hard case 41: also where the policy server is the sender's own server.
#[test]
fn it_stands_beside_the_others_and_is_no_signature_of_a_server() {
    for server in ["policy.example", "a.example"] {
        let mut event = message();
        let (name, public, signature) = signed_by(server, &event);
        let is_signed = |event: &CanonicalJsonObject| is_signed_by_policy_server(event, &name, &public, &version("11"));
        assert!(!is_signed(&event));
        add_policy_signature(&mut event, &name, &signature);
        assert!(is_signed(&event));
        let pdu = parse(&raw_text(&canonical::to_string(&event)), &version("11"), Caps::Enforced).unwrap();
        let needed = required_keys(&pdu, &version("11")).unwrap();
        assert!(needed.iter().all(|(_, key_id)| key_id != POLICY_KEY_ID) && needed.len() == 1, "{needed:?}");
        assert!(!verify(pdu, &keys_of(&["a.example"]), &version("11")).unwrap().was_redacted());
    }
    let mut alone = message();
    let (name, _, signature) = signed_by("a.example", &alone);
    alone.remove("signatures");
    add_policy_signature(&mut alone, &name, &signature);
    let pdu = parse(&raw_text(&canonical::to_string(&alone)), &version("11"), Caps::Enforced).unwrap();
    assert_eq!(required_keys(&pdu, &version("11")), Err(BadSignature::Missing(name.clone())));
    assert_eq!(verify(pdu, &keys_of(&["a.example"]), &version("11")).err(), Some(BadSignature::Missing(name)));
}

#[test]
fn it_is_over_the_redacted_event_and_by_the_key_that_the_room_names() {
    let mut event = message();
    let (name, public, signature) = signed_by("policy.example", &event);
    add_policy_signature(&mut event, &name, &signature);
    let is_signed = |event: &CanonicalJsonObject, public: &[u8; 32]| {
        is_signed_by_policy_server(event, &name, public, &version("11"))
    };
    assert!(!is_signed(&event, &[7; 32]) && is_signed(&event, &public));
    let mut redacted = event.clone();
    redacted.insert("content".to_owned(), object(json!({})).into());
    assert!(is_signed(&redacted, &public));
    let mut other = event.clone();
    other.insert("type".to_owned(), ruma::CanonicalJsonValue::String("m.other".to_owned()));
    assert!(!is_signed(&other, &public));
    for odd in [json!(5), json!("AAAA"), json!(null), Value::Array(Vec::new())] {
        let mut event = event.clone();
        event.insert("signatures".to_owned(), object(json!({ "policy.example": { POLICY_KEY_ID: odd } })).into());
        assert!(!is_signed(&event, &public));
    }
}

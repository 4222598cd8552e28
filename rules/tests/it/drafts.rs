//! Turning wishes into events.

use proptest::prelude::*;
use rules::{
    Event, UnixMs, Version,
    draft::{Around, Draft, DraftError, complete, depth_after, template},
    format::{Caps, parse},
    limits::{DEPTH_MAX, EVENT_BYTES_MAX},
    signature::{Signer, verify},
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedRoomId, OwnedUserId, UserId, state_res::Event as _,
};
use serde_json::{Value, json};

use crate::world::{keys_of, object, raw, signer, version};

fn alice() -> OwnedUserId {
    OwnedUserId::try_from("@alice:a.example").unwrap()
}

fn room_of(version: &Version) -> OwnedRoomId {
    let id = if version.room_id_is_create_hash() { format!("!{}", "r".repeat(43)) } else { "!r:a.example".to_owned() };
    OwnedRoomId::try_from(id).unwrap()
}

fn event_id(letter: char) -> OwnedEventId {
    OwnedEventId::try_from(format!("${}", letter.to_string().repeat(43))).unwrap()
}

fn around<'a>(room_id: &'a OwnedRoomId, sender: &'a OwnedUserId) -> Around<'a> {
    Around {
        room_id: Some(room_id),
        sender,
        prev_events: vec![event_id('p')],
        auth_events: vec![event_id('a'), event_id('b')],
        depth: 7,
        now: UnixMs(1_700_000_000_000),
    }
}

fn make(draft: Draft, version: &Version) -> Result<Event, DraftError> {
    let sender = alice();
    complete(draft, around(&room_of(version), &sender), version, &signer(sender.server_name()))
}

fn body(bytes: usize) -> CanonicalJsonObject {
    object(json!({"body": "x".repeat(bytes)}))
}

/// S2S 12 which auth events an event has. S2S 15 our event is hashed and signed.
#[test]
fn a_draft_becomes_an_event_that_peers_take_in_unchanged() {
    for version in Version::all() {
        let drafts = [
            Draft::message("m.room.message", body(5)),
            Draft::state("m.room.topic", "", object(json!({"topic": "é\u{1}\"\\"}))),
            Draft::member(&alice(), "join", object(json!({"displayname": "Alice"}))),
            Draft::redaction(event_id('t'), CanonicalJsonObject::new()),
        ];
        for draft in drafts {
            let event = make(draft.clone(), &version).unwrap();
            let parsed = parse(&raw(&event), &version, Caps::Enforced).unwrap();
            assert_eq!(parsed.event_id(), event.event_id());
            let signed = verify(parsed, &keys_of(&["a.example"]), &version).unwrap();
            assert!(!signed.was_redacted());
            let again = signed.into_event(&version).unwrap();
            let stored =
                Event::from_stored(event.event_id().clone(), event.room_id().clone(), &version, event.json(), false)
                    .unwrap();
            for other in [&again, &stored] {
                assert_eq!(facts(other), facts(&event));
            }
            assert_eq!(event.kind(), &draft.kind);
            assert_eq!(event.state_key(), draft.state_key.as_deref());
            assert_eq!(event.redacts(), draft.redacts.as_ref());
        }
    }
}

fn facts(event: &Event) -> impl PartialEq + std::fmt::Debug {
    (
        (event.event_id().clone(), event.room_id().clone(), event.sender().clone(), event.kind().clone()),
        (
            event.type_str().to_owned(),
            event.state_key().map(ToOwned::to_owned),
            event.origin_server_ts(),
            event.depth(),
        ),
        (event.prev_events().to_vec(), event.auth_events().to_vec(), event.redacts().cloned(), event.rejected()),
        (event.content().get().to_owned(), event.json().to_owned()),
    )
}

#[test]
fn redacts_stands_where_the_version_has_it() {
    for (name, in_content) in [("10", false), ("11", true), ("12", true)] {
        let event = make(Draft::redaction(event_id('t'), CanonicalJsonObject::new()), &version(name)).unwrap();
        let json: Value = serde_json::from_str(event.json()).unwrap();
        assert_eq!(json["content"].get("redacts").is_some(), in_content, "version {name}");
        assert_eq!(json.get("redacts").is_some(), !in_content, "version {name}");
    }
}

/// Hard case 28.
#[test]
fn only_the_create_event_of_version_12_makes_its_own_room_id() {
    let create = |name: &str, room_id: Option<&OwnedRoomId>| {
        let around =
            Around { room_id, sender: &alice(), prev_events: vec![], auth_events: vec![], depth: 1, now: UnixMs(1) };
        let draft = Draft::state("m.room.create", "", object(json!({"room_version": name})));
        complete(draft, around, &version(name), &signer("a.example".try_into().unwrap()))
    };
    let event = create("12", None).unwrap();
    assert_eq!(event.room_id().as_str(), event.event_id().as_str().replace('$', "!"));
    assert!(!event.json().contains("room_id"));
    assert_eq!(ruma::state_res::Event::room_id(&event), None);
    assert!(matches!(create("11", None), Err(DraftError::NoRoom)));
    let room_id = room_of(&version("11"));
    let event = create("11", Some(&room_id)).unwrap();
    assert_eq!(ruma::state_res::Event::room_id(&event), Some(&*room_id));
    assert_eq!(event.event_type().to_string(), "m.room.create");
}

/// S2S 8 65 536 bytes.
#[test]
fn an_event_may_be_as_large_as_the_limit_and_no_larger() {
    let version = version("12");
    let empty = make(Draft::message("m.room.message", body(0)), &version).unwrap().json().len();
    let largest = make(Draft::message("m.room.message", body(EVENT_BYTES_MAX - empty)), &version).unwrap();
    assert_eq!(largest.json().len(), EVENT_BYTES_MAX);
    let too_large = make(Draft::message("m.room.message", body(EVENT_BYTES_MAX - empty + 1)), &version);
    assert!(matches!(too_large, Err(DraftError::TooLarge { bytes }) if bytes == EVENT_BYTES_MAX + 1));
}

/// S2S 8 at most 20 previous events.
#[test]
fn long_fields_and_lists_are_refused() {
    let version = version("12");
    let long = "é".repeat(128);
    let by_type = make(Draft::message(long.as_str(), body(1)), &version);
    assert!(matches!(by_type, Err(DraftError::FieldTooLong { field: "type", bytes: 256 })));
    let by_key = make(Draft::state("x.note", long, body(1)), &version);
    assert!(matches!(by_key, Err(DraftError::FieldTooLong { field: "state_key", bytes: 256 })));
    let room_id = room_of(&version);
    let sender = alice();
    let crowded = Around {
        room_id: Some(&room_id),
        sender: &sender,
        prev_events: vec![event_id('p'); 21],
        auth_events: vec![],
        depth: 2,
        now: UnixMs(1),
    };
    let refused = complete(Draft::message("x", body(1)), crowded, &version, &signer(sender.server_name()));
    assert!(matches!(refused, Err(DraftError::TooMany { field: "prev_events", entries: 21 })));
}

#[test]
fn a_template_is_the_event_without_hash_and_signature() {
    let version = version("11");
    let draft = Draft::member(&alice(), "join", CanonicalJsonObject::new());
    let mut laid_out = template(draft.clone(), &around(&room_of(&version), &alice()), &version).unwrap();
    let event = make(draft, &version).unwrap();
    let whole = rules::canonical::read_object(event.json()).unwrap();
    for field in ["hashes", "signatures"] {
        laid_out.insert(field.to_owned(), whole[field].clone());
    }
    assert_eq!(laid_out, whole);
}

/// S2S 8 depth. S2S 16 previous events of ours.
#[test]
fn depth_grows_up_to_its_limit() {
    assert_eq!(depth_after([]), 1);
    assert_eq!(depth_after([3, 9, 4]), 10);
    assert_eq!(depth_after([DEPTH_MAX]), DEPTH_MAX);
    assert_eq!(depth_after([u64::MAX]), DEPTH_MAX);
}

#[test]
fn a_redacted_event_keeps_its_id_and_its_signature() {
    for version in Version::all() {
        let event = make(Draft::message("m.room.message", body(9)), &version).unwrap();
        let redacted = event.redacted(&version).unwrap();
        assert_eq!(redacted.content().get(), "{}");
        let parsed = parse(&raw(&redacted), &version, Caps::Enforced).unwrap();
        assert_eq!(parsed.event_id(), event.event_id());
        assert!(verify(parsed, &keys_of(&["a.example"]), &version).is_ok());
    }
}

#[test]
fn a_second_server_signs_beside_the_first() {
    let version = version("11");
    let event = make(Draft::member(&alice(), "join", CanonicalJsonObject::new()), &version).unwrap();
    let mut text = rules::canonical::read_object(event.json()).unwrap();
    signer("b.example".try_into().unwrap()).sign_event(&mut text, &version);
    let CanonicalJsonValue::Object(signatures) = &text["signatures"] else { panic!() };
    assert_eq!(signatures.keys().collect::<Vec<_>>(), ["a.example", "b.example"]);
    assert_eq!(rules::hash::event_id(&text, &version).unwrap(), *event.event_id());
}

/// S2S 4 the form of key ids and keys.
#[test]
fn a_key_version_has_only_letters_digits_and_underscores() {
    for (name, is_right) in [("a_1", true), ("Z9", true), ("", false), ("a-b", false), ("a:b", false), ("é", false)] {
        assert_eq!(Signer::new("a.example".try_into().unwrap(), name, &[1; 32]).is_ok(), is_right, "{name:?}");
    }
    let signer = Signer::new("a.example".try_into().unwrap(), "a_1", &[1; 32]).unwrap();
    assert_eq!(signer.key_id(), "ed25519:a_1");
    assert_eq!(format!("{signer:?}"), "Signer(a.example ed25519:a_1)", "the seed is not shown");
}

#[test]
fn text_that_is_no_event_is_not_read_from_storage() {
    let version = version("11");
    for text in ["", "{}", "[]", "{\"type\":\"x\"}"] {
        assert!(Event::from_stored(event_id('e'), room_of(&version), &version, text, false).is_err());
    }
}

proptest! {
    #[test]
    fn any_content_survives_signing_and_checking(text in any::<String>(), number in any::<i32>(), key in any::<String>()) {
        let version = version("12");
        let event = make(Draft::message("m.room.message", object(json!({"body": text, key: number}))), &version).unwrap();
        let parsed = parse(&raw(&event), &version, Caps::Enforced).unwrap();
        prop_assert_eq!(parsed.event_id(), event.event_id());
        prop_assert!(!verify(parsed, &keys_of(&["a.example"]), &version).unwrap().was_redacted());
        let sender: &UserId = event.sender();
        prop_assert_eq!(sender.server_name().as_str(), "a.example");
    }
}

//! The places where the library underneath, left alone, would split rooms or let too much pass. Named by their numbers
//! in the project's list.

use std::{collections::BTreeSet, sync::Arc};

use rules::{
    Event, UnixMs, Version,
    authorization::{check, check_auth_events},
    canonical,
    draft::Draft,
    format::{Caps, FormatError, check_object, parse},
    hash::{content_hash_text, event_id},
    keys::{Key, KeyRing, Lookup, Validity},
    limits::EVENT_BYTES_MAX,
    redaction::redact,
    resolution::resolve,
    signature::{BadSignature, required_signers, verify},
    state::StateMap,
};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedServerName,
    events::StateEventType,
    state_res::{self, utils::event_id_set::EventIdSet},
};
use serde_json::{Value, json};

use crate::world::{Branch, World, keys_of, object, raw_text, signer, version};

/// A well-formed event of version 11, not signed; `fields` are laid over it.
fn pdu(fields: Value) -> CanonicalJsonObject {
    let mut event = object(json!({
        "type": "m.room.message", "sender": "@alice:a.example", "room_id": "!room:a.example", "origin_server_ts": 5,
        "depth": 4, "prev_events": [id('p')], "auth_events": [id('a')], "content": {}, "hashes": {"sha256": "x"},
        "signatures": {},
    }));
    event.extend(object(fields));
    event
}

fn id(letter: char) -> String {
    format!("${}", letter.to_string().repeat(43))
}

fn sign(event: &mut CanonicalJsonObject, servers: &[&str], version: &Version) {
    let hash = content_hash_text(event);
    event.insert("hashes".to_owned(), object(json!({"sha256": hash})).into());
    for server in servers {
        signer((*server).try_into().unwrap()).sign_event(event, version);
    }
}

fn problem(event: &CanonicalJsonObject, version_name: &str) -> Result<(), FormatError> {
    check_object(event.clone(), &version(version_name), Caps::Enforced).map(|_| ())
}

/// S2S 8 65 536 bytes.
#[test]
fn pitfall_1_an_event_of_exactly_65_536_bytes_is_taken_in_and_one_more_is_not() {
    let version = version("11");
    let mut event = pdu(json!({"content": {"body": ""}}));
    sign(&mut event, &["a.example"], &version);
    let missing = EVENT_BYTES_MAX - canonical::to_string(&event).len();
    event.insert("content".to_owned(), object(json!({"body": "x".repeat(missing)})).into());
    sign(&mut event, &["a.example"], &version);
    assert_eq!(canonical::to_string(&event).len(), EVENT_BYTES_MAX);

    let well_formed = parse(&raw_text(&canonical::to_string(&event)), &version, Caps::Enforced).unwrap();
    assert_eq!(*well_formed.event_id(), event_id(&event, &version).unwrap());
    assert!(!verify(well_formed, &keys_of(&["a.example"]), &version).unwrap().was_redacted());
    assert!(state_res::check_pdu_format(&event, &version.rules().event_format).is_err(), "ruma refuses it");

    event.insert("content".to_owned(), object(json!({"body": "x".repeat(missing + 1)})).into());
    assert_eq!(problem(&event, "11"), Err(FormatError::TooLarge { bytes: EVENT_BYTES_MAX + 1 }));
}

/// S2S 8 unsigned is taken out.
#[test]
fn pitfall_1_unsigned_does_not_count_and_is_not_kept() {
    let mut event = pdu(json!({}));
    event.insert("unsigned".to_owned(), object(json!({"prev_content": "x".repeat(EVENT_BYTES_MAX)})).into());
    let kept = parse(&raw_text(&canonical::to_string(&event)), &version("11"), Caps::Enforced).unwrap();
    assert!(!kept.object().contains_key("unsigned"));
}

/// Hard case 34. S2S 7 what a redaction keeps.
#[test]
fn pitfall_2_a_third_party_invite_that_is_no_object_does_not_change_the_event_id() {
    for name in ["11", "12"] {
        let version = version(name);
        let member =
            |content: Value| pdu(json!({"type": "m.room.member", "state_key": "@alice:a.example", "content": content}));
        let plain = member(json!({"membership": "join"}));
        let crafted = member(json!({"membership": "join", "third_party_invite": "boo"}));
        assert_eq!(event_id(&plain, &version).unwrap(), event_id(&crafted, &version).unwrap());
        assert_eq!(redact(&crafted, &version.rules().redaction), plain);
        let theirs = ruma::signatures::reference_hash(&crafted, version.rules()).unwrap();
        assert_ne!(event_id(&crafted, &version).unwrap().as_str(), format!("${theirs}"), "ruma keeps the value");
    }
}

/// Hard case 35. S2S 6 who has to have signed.
#[test]
fn pitfall_3_only_a_join_needs_the_signature_of_the_server_that_vouches() {
    let signers = |kind: &str, content: Value, name: &str| {
        let event = pdu(json!({"type": kind, "state_key": "@alice:a.example", "content": content}));
        let well_formed = check_object(event, &version(name), Caps::Enforced).unwrap();
        required_signers(&well_formed, &version(name))
    };
    let servers = |names: &[&str]| -> BTreeSet<OwnedServerName> {
        names.iter().map(|name| OwnedServerName::try_from(*name).unwrap()).collect()
    };
    let vouched =
        |membership: &str| json!({"membership": membership, "join_authorised_via_users_server": "@bob:b.example"});
    let cases = [
        // type,           content,                                              version, signers
        ("m.room.member", vouched("join"), "11", Ok(servers(&["a.example", "b.example"]))),
        ("m.room.member", vouched("join"), "7", Ok(servers(&["a.example"]))),
        ("m.room.member", vouched("leave"), "11", Ok(servers(&["a.example"]))),
        ("m.room.topic", vouched("join"), "11", Ok(servers(&["a.example"]))),
        ("m.room.topic", json!({"join_authorised_via_users_server": 5}), "11", Ok(servers(&["a.example"]))),
        (
            "m.room.member",
            json!({"membership": "join", "join_authorised_via_users_server": 5}),
            "11",
            Err(BadSignature::NoSigner),
        ),
        ("m.room.member", json!({"membership": "invite", "third_party_invite": {}}), "11", Ok(servers(&[]))),
        ("m.room.member", json!({"membership": "join", "third_party_invite": {}}), "11", Ok(servers(&["a.example"]))),
        ("m.room.topic", json!({"membership": "invite", "third_party_invite": {}}), "11", Ok(servers(&["a.example"]))),
    ];
    for (kind, content, name, expected) in cases {
        assert_eq!(signers(kind, content.clone(), name), expected, "{kind} {content} in version {name}");
    }
}

/// Hard case 11. S2S 15 restricted rooms.
#[test]
fn pitfall_3_a_vouched_join_without_the_second_signature_is_dropped() {
    let version = version("11");
    let content = json!({"membership": "join", "join_authorised_via_users_server": "@bob:b.example"});
    let mut event = pdu(json!({"type": "m.room.member", "state_key": "@alice:a.example", "content": content}));
    sign(&mut event, &["a.example"], &version);
    let judge = |event: &CanonicalJsonObject| {
        let well_formed = check_object(event.clone(), &version, Caps::Enforced).unwrap();
        verify(well_formed, &keys_of(&["a.example", "b.example"]), &version).map(|signed| signed.was_redacted())
    };
    assert_eq!(judge(&event), Err(BadSignature::Missing("b.example".try_into().unwrap())));
    signer("b.example".try_into().unwrap()).sign_event(&mut event, &version);
    assert_eq!(judge(&event), Ok(false));
}

/// S2S 4 how long a key is good.
#[test]
fn pitfall_6_a_key_counts_only_for_its_time() {
    let public = signer("a.example".try_into().unwrap()).public_key();
    let found = |validity: Validity, at: u64| {
        let mut keys = KeyRing::new();
        keys.insert("a.example".try_into().unwrap(), "ed25519:a_1", Key { public, validity });
        keys.lookup("a.example".try_into().unwrap(), "ed25519:a_1", UnixMs(at), &version("11"))
    };
    assert!(matches!(found(Validity::Until(UnixMs(10)), 10), Lookup::Valid(_)));
    assert_eq!(found(Validity::Until(UnixMs(10)), 11), Lookup::Unusable);
    assert!(matches!(found(Validity::Expired(UnixMs(10)), 10), Lookup::Valid(_)));
    assert_eq!(found(Validity::Expired(UnixMs(10)), 11), Lookup::Unusable);

    let week = 7 * 24 * 60 * 60 * 1000;
    assert_eq!(Validity::of_current(UnixMs(u64::MAX), UnixMs(1000)), Validity::Until(UnixMs(week + 1000)));
    assert_eq!(Validity::of_current(UnixMs(2000), UnixMs(1000)), Validity::Until(UnixMs(2000)));
}

/// S2S 6 who has to have signed.
#[test]
fn pitfall_6_one_good_signature_does_not_make_up_for_a_wrong_one() {
    let version = version("11");
    let mut event = pdu(json!({}));
    sign(&mut event, &["a.example"], &version);
    let mut text: Value = serde_json::from_str(&canonical::to_string(&event)).unwrap();
    let judge = |event: &Value, keys: &KeyRing| {
        let well_formed = check_object(object(event.clone()), &version, Caps::Enforced).unwrap();
        verify(well_formed, keys, &version).map(|signed| signed.was_redacted())
    };
    let mut keys = keys_of(&["a.example"]);
    let server = OwnedServerName::try_from("a.example").unwrap();
    text["signatures"]["a.example"]["ed25519:other"] = text["signatures"]["a.example"]["ed25519:a_1"].clone();
    text["signatures"]["a.example"]["rsa:1"] = json!("anything");
    assert_eq!(judge(&text, &keys), Ok(false), "a key that nobody knows is passed over");
    let other = signer("other.example".try_into().unwrap()).public_key();
    keys.insert(server.clone(), "ed25519:other", Key { public: other, validity: Validity::Until(UnixMs(9)) });
    assert_eq!(judge(&text, &keys), Err(BadSignature::Wrong(server.clone())));
    assert_eq!(judge(&text, &KeyRing::new()), Err(BadSignature::UnknownKey(server.clone())));
    text["signatures"] = json!({"a.example": {"rsa:1": "anything"}});
    assert_eq!(judge(&text, &keys), Err(BadSignature::Missing(server)));
}

/// Hard case 36. S2S 6 parsed once. S2S 6 no fractions.
#[test]
fn pitfall_7_minus_zero_is_zero_and_fractions_are_refused() {
    let version = version("11");
    let parsed = |number: &str| {
        let text =
            canonical::to_string(&pdu(json!({}))).replace("\"content\":{}", &format!("\"content\":{{\"n\":{number}}}"));
        parse(&raw_text(&text), &version, Caps::Enforced).map(|pdu| canonical::to_string(pdu.object()))
    };
    assert!(parsed("-0").unwrap().contains("{\"n\":0}"));
    assert!(parsed("9007199254740991").is_ok());
    for number in ["-0.0", "1.0", "1e3", "9007199254740992", "-9007199254740992", "99999999999999999999999"] {
        assert!(matches!(parsed(number), Err(FormatError::NotCanonical(_))), "{number}");
    }
    for text in ["\"\\ud800\"", "\"\\udc00x\"", "\"\\ud800\\u0041\""] {
        assert!(matches!(parsed(text), Err(FormatError::NotCanonical(_))), "{text}");
    }
    assert!(parsed("1,\"n\":2").unwrap().contains("{\"n\":2}"), "of a key that stands twice the last counts");
}

#[test]
fn pitfall_7_nesting_is_bounded() {
    let nested = |depth: usize| format!("{{\"v\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(canonical::read_object(&nested(126)).is_ok());
    assert!(serde_json::from_str::<Value>(&nested(126)).is_ok(), "what is read here others can read");
    assert!(canonical::read_object(&nested(127)).is_err());
    assert!(canonical::read_object(&nested(100_000)).is_err());
}

/// S2S 8 required fields and their types. S2S 8 at most 20 previous events. S2S 8 at most 10 auth events.
#[test]
fn pitfall_8_every_field_of_the_format_is_looked_at() {
    let ids = |count: usize| json!(vec![id('p'); count]);
    let cases = [
        // changed fields,                               verdict
        (json!({}), Ok(())),
        (json!({"content": []}), Err(FormatError::Invalid("content"))),
        (json!({"hashes": {}}), Err(FormatError::Invalid("hashes"))),
        (json!({"hashes": {"sha256": 1}}), Err(FormatError::Invalid("hashes"))),
        (json!({"signatures": "x"}), Err(FormatError::Invalid("signatures"))),
        (json!({"origin_server_ts": "1"}), Err(FormatError::Invalid("origin_server_ts"))),
        (json!({"origin_server_ts": -1}), Err(FormatError::Invalid("origin_server_ts"))),
        (json!({"depth": -1}), Err(FormatError::Invalid("depth"))),
        (json!({"depth": null}), Err(FormatError::Invalid("depth"))),
        (json!({"type": 5}), Err(FormatError::Invalid("type"))),
        (json!({"state_key": null}), Err(FormatError::Invalid("state_key"))),
        (json!({"sender": "alice"}), Err(FormatError::Invalid("sender"))),
        (json!({"prev_events": [1]}), Err(FormatError::Invalid("prev_events"))),
        (json!({"prev_events": ["$short"]}), Err(FormatError::Invalid("prev_events"))),
        (json!({"prev_events": {}}), Err(FormatError::Invalid("prev_events"))),
        (json!({"prev_events": []}), Ok(())),
        (json!({"prev_events": ids(20), "auth_events": ids(10)}), Ok(())),
        (json!({"prev_events": ids(21)}), Err(FormatError::TooMany { field: "prev_events", entries: 21 })),
        (json!({"auth_events": ids(11)}), Err(FormatError::TooMany { field: "auth_events", entries: 11 })),
        (json!({"type": "x".repeat(256)}), Err(FormatError::TooLong("type"))),
        (json!({"state_key": "é".repeat(128)}), Err(FormatError::TooLong("state_key"))),
        (json!({"sender": format!("@{}:a.example", "x".repeat(250))}), Err(FormatError::TooLong("sender"))),
    ];
    for (fields, expected) in cases {
        assert_eq!(problem(&pdu(fields.clone()), "11"), expected, "{fields}");
    }
    for field in [
        "type",
        "sender",
        "room_id",
        "content",
        "hashes",
        "signatures",
        "origin_server_ts",
        "depth",
        "prev_events",
        "auth_events",
    ] {
        let mut event = pdu(json!({}));
        event.remove(field);
        assert_eq!(problem(&event, "11"), Err(FormatError::Missing(field)));
    }
}

/// Hard case 45. S2S 8 both bounds count for news and not for history.
#[test]
fn pitfall_8_history_may_hold_longer_lists() {
    let event = pdu(json!({"prev_events": vec![id('p'); 30], "auth_events": vec![id('a'); 15]}));
    assert!(check_object(event, &version("11"), Caps::Lifted).is_ok());
}

/// S2S 8 255 bytes of ids and types.
#[test]
fn pitfall_8_before_version_11_characters_are_counted_and_the_event_is_kept_for_rejection() {
    let event = pdu(json!({"state_key": "é".repeat(128)}));
    assert_eq!(problem(&event, "10"), Ok(()));
    assert_eq!(problem(&pdu(json!({"state_key": "é".repeat(256)})), "10"), Err(FormatError::TooLong("state_key")));
}

/// S2S 8 at most 10 auth events.
#[test]
fn pitfall_8_in_version_12_the_create_event_is_not_among_the_auth_events() {
    let room_id = id('c').replace('$', "!");
    let event = |auth: &str| pdu(json!({"room_id": room_id, "auth_events": [auth]}));
    assert_eq!(problem(&event(&id('a')), "12"), Ok(()));
    assert_eq!(problem(&event(&id('c')), "12"), Err(FormatError::Invalid("auth_events")));
}

/// S2S 8 room ids have the form of their version.
#[test]
fn pitfall_9_room_ids_have_the_form_of_their_version() {
    let hash = format!("!{}", "h".repeat(43));
    let cases = [
        // room id,          11,    12
        ("!room:a.example", true, false),
        (hash.as_str(), false, true),
        ("!", false, false),
        ("!a", false, false),
        ("!a:", false, false),
        ("!:a.example", false, false),
        ("#room:a.example", false, false),
    ];
    for (room_id, in_11, in_12) in cases {
        for (name, expected) in [("11", in_11), ("12", in_12)] {
            let outcome = problem(&pdu(json!({"room_id": room_id})), name);
            assert_eq!(outcome.is_ok(), expected, "{room_id} in version {name}: {outcome:?}");
        }
    }
}

/// S2S 8 old user ids are taken in.
#[test]
fn pitfall_9_old_user_ids_are_taken_in() {
    for sender in ["@Alice:a.example", "@a b:a.example", "@:a.example"] {
        assert_eq!(problem(&pdu(json!({"sender": sender})), "11"), Ok(()), "{sender}");
    }
}

#[test]
fn pitfall_10_a_create_event_names_the_version_it_is_judged_by() {
    for (named, accepted) in [(json!("11"), true), (json!("12"), false), (json!("none"), false), (json!(11), false)] {
        let event = create_event("11", json!({"room_version": named}));
        assert_eq!(check_auth_events(&version("11"), &event, |_| None).is_ok(), accepted, "{named}");
    }
    assert!(check_auth_events(&version("11"), &create_event("11", json!({})), |_| None).is_err());
}

fn create_event(name: &str, content: Value) -> Event {
    let world = World::new(name);
    world.room_id.replace(Some("!room:a.example".try_into().unwrap()));
    let draft = Draft::state("m.room.create", "", object(content));
    Event::clone(&world.make("@alice:a.example", draft, &[], &StateMap::new()))
}

/// Hard case 28.
#[test]
fn pitfall_10_in_version_12_the_room_id_is_the_hash_of_an_accepted_create_event() {
    let world = World::new("12");
    let branch = world.found("@alice:a.example", json!({}), "public");
    let create = branch.state[&(StateEventType::RoomCreate, String::new())].clone();
    assert_eq!(create.room_id().as_str(), create.event_id().as_str().replace('$', "!"));
    let message = Draft::message("m.room.message", object(json!({"body": "hello"})));
    let event = world.make("@alice:a.example", message, &branch.heads, &branch.state);
    assert!(check_auth_events(&world.version, &event, |id| world.get(id)).is_ok());
    let without_create = |id: &EventId| world.get(id).filter(|event| event.event_id() != create.event_id());
    assert!(check_auth_events(&world.version, &event, without_create).is_err());
    let rejected = Arc::new(Event::clone(&create).into_rejected());
    let with_rejected =
        |id: &EventId| if id == create.event_id() { Some(Arc::clone(&rejected)) } else { world.get(id) };
    assert!(check_auth_events(&world.version, &event, with_rejected).is_err());

    let mut no_create = branch.state.clone();
    no_create.remove(&(StateEventType::RoomCreate, String::new()));
    assert!(check(&world.version, &event, &no_create).is_err(), "the state has to give the create event");
}

#[test]
fn pitfall_10_a_room_cannot_be_named_after_an_event_that_creates_none() {
    let world = World::new("12");
    let branch = world.found("@alice:a.example", json!({}), "public");
    let topic = Draft::state("m.room.topic", "", object(json!({"topic": "no room"})));
    let impostor = world.make("@alice:a.example", topic, &branch.heads, &branch.state);
    let impostor_room = rules::format::room_of_create(impostor.event_id()).unwrap();
    world.room_id.replace(Some(impostor_room));
    let join = Draft::member("@alice:a.example".try_into().unwrap(), "join", CanonicalJsonObject::new());
    let event = world.make("@alice:a.example", join, &[impostor.event_id().clone()], &StateMap::new());
    let refusal = check_auth_events(&world.version, &event, |id| world.get(id)).unwrap_err();
    assert_eq!(refusal.reason(), "the room id is not the hash of a create event");
}

#[test]
fn pitfall_14_a_missing_event_gives_an_error_or_the_same_state_and_never_another() {
    for name in ["11", "12"] {
        let world = World::new(name);
        let alice = "@alice:a.example";
        let levels = |ban: i64| {
            if name == "12" { json!({"ban": ban}) } else { json!({"ban": ban, "users": {alice: 100}}) }
        };
        let mut left = world.found(alice, levels(50), "public");
        left.member(&world, "@bob:b.example", "@bob:b.example", "join").unwrap();
        left.set(&world, alice, "m.room.power_levels", levels(55)).unwrap();
        let mut right = left.clone();
        left.set(&world, alice, "m.room.power_levels", levels(60)).unwrap();
        left.set(&world, alice, "m.room.topic", json!({"topic": "left"})).unwrap();
        right.set(&world, alice, "m.room.power_levels", levels(70)).unwrap();
        right.set(&world, alice, "m.room.topic", json!({"topic": "right"})).unwrap();
        let states = [left.ids(), right.ids()];
        let complete = resolve(&world.version, &states, &|id: &EventId| world.get(id)).unwrap();
        let mut errors = 0;
        for hidden in world.events.borrow().keys() {
            let events = |id: &EventId| world.get(id).filter(|event| event.event_id() != hidden);
            match resolve(&world.version, &states, &events) {
                Ok(state) => assert_eq!(state, complete, "without {hidden} in version {name}"),
                Err(_) => errors += 1,
            }
        }
        assert!(errors > 4, "{errors} errors in version {name}");
    }
}

/// Both states have the same power levels. In one, bob wrote a topic by other levels of a fork, which let him. Counted
/// without the states' own events, the common levels would be in one chain only, be merged after those of the fork, and
/// bob's topic would lose.
/// S2S 14 the auth chain of a state holds its own events.
#[test]
fn pitfall_15_the_chain_of_a_state_holds_its_own_events() {
    let world = World::new("11");
    let alice = "@alice:a.example";
    let mut start = world.found(alice, json!({"users": {alice: 100}}), "public");
    start.member(&world, "@bob:b.example", "@bob:b.example", "join").unwrap();
    let make = |branch: &Branch, sender: &str, kind: &str, content: Value| {
        let mut after = branch.clone();
        let event = world.make(sender, Draft::state(kind, "", object(content)), &branch.heads, &branch.state);
        after.push(&event);
        (after, event)
    };
    let fork_levels = json!({"users": {alice: 100, "@bob:b.example": 50}});
    let (fork, _) = make(&start, alice, "m.room.power_levels", fork_levels);
    let (trunk, _) = make(&start, alice, "m.room.power_levels", json!({"users": {alice: 100}, "ban": 60}));
    let (_, topic_of_bob) = make(&fork, "@bob:b.example", "m.room.topic", json!({"topic": "by bob"}));
    let (right, _) = make(&trunk, alice, "m.room.topic", json!({"topic": "by alice"}));
    let mut left = trunk.clone();
    left.push(&topic_of_bob);

    let states = [left.ids(), right.ids()];
    let merged = resolve(&world.version, &states, &|id: &EventId| world.get(id)).unwrap();
    let topic = (StateEventType::RoomTopic, String::new());
    assert_eq!(merged[&topic], left.ids()[&topic]);

    let without_own = |state: &StateMap<OwnedEventId>| {
        let auth_events = |id: &OwnedEventId| world.get(id).unwrap().auth_events().to_vec();
        let mut open: Vec<OwnedEventId> = state.values().flat_map(auth_events).collect();
        let mut chain = EventIdSet::new();
        while let Some(id) = open.pop() {
            open.extend(auth_events(&id));
            chain.insert(id);
        }
        chain
    };
    let chains = states.iter().map(without_own).collect();
    let rules = &world.version.rules().authorization;
    let resolution = world.version.state_resolution();
    let other = state_res::resolve(rules, resolution, &states, chains, |id| world.get(id), |_| None).unwrap();
    assert_eq!(other[&topic], right.ids()[&topic], "the other way of counting gives the other topic");
}

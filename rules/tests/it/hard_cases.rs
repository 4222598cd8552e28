//! Cases that servers got wrong, where the rules alone decide. Named by their numbers in the project's list.

use std::sync::Arc;

use rules::{
    Event, UnixMs, canonical,
    draft::Draft,
    format::{Caps, check_object, parse},
    hash::content_hash_text,
    keys::{Key, Validity},
    redaction::redact,
    resolution::resolve,
    signature::{BadSignature, required_keys, verify},
    state::StateMap,
};
use ruma::{EventId, OwnedEventId, OwnedServerName, events::StateEventType};
use serde_json::{Value, json};

use crate::world::{Branch, World, keys_of, object, raw_text, signer, version};

const ALICE: &str = "@alice:a.example";
const BOB: &str = "@bob:b.example";

/// A room of Alice with Bob in it.
fn room(name: &str) -> (World, Branch) {
    let world = World::new(name);
    let mut branch = world.found(ALICE, json!({}), "public");
    branch.member(&world, BOB, BOB, "join").unwrap();
    (world, branch)
}

/// S2S 8: extra top-level fields are covered by the content hash.
#[test]
fn fields_that_nobody_knows_are_kept_and_a_redaction_drops_them() {
    for name in ["6", "10", "11", "12"] {
        let (world, branch) = room(name);
        let message = Draft::message("m.room.message", object(json!({"body": "hello"})));
        let event = world.make(BOB, message, &branch.heads, &branch.state);
        let mut extended = canonical::read_object(event.json()).unwrap();
        extended.insert("com.example.extra".to_owned(), object(json!({"deep": [1, "two"]})).into());
        let judge = |event: &ruma::CanonicalJsonObject| {
            let raw = raw_text(&canonical::to_string(event));
            let well_formed = parse(&raw, &world.version, Caps::Enforced).unwrap();
            verify(well_formed, &keys_of(&["b.example"]), &world.version).map(|signed| signed.was_redacted())
        };
        assert_eq!(judge(&extended), Ok(true), "version {name}: another content hash");
        let hash = content_hash_text(&extended);
        extended.insert("hashes".to_owned(), object(json!({"sha256": hash})).into());
        extended.remove("signatures");
        signer("b.example".try_into().unwrap()).sign_event(&mut extended, &world.version);
        assert_eq!(judge(&extended), Ok(false), "version {name}");
        let kept = parse(&raw_text(&canonical::to_string(&extended)), &world.version, Caps::Enforced).unwrap();
        assert!(kept.object().contains_key("com.example.extra"));
        assert!(!redact(&extended, &world.version.rules().redaction).contains_key("com.example.extra"));
    }
}

/// Hard case 31: what a level may look like, by version, in every field.
/// S2S 13 the rules by version.
#[test]
fn levels_of_every_kind_are_judged_by_the_version_in_every_field() {
    let numbers = [
        // value,          6 to 9, 10 to 12
        (json!(50), true, true),
        (json!("50"), true, false),
        (json!(" +50 "), true, false),
        (json!("-0050"), true, false),
        (json!("fifty"), false, false),
        (json!(""), false, false),
        (json!("50.0"), false, false),
        (json!(true), false, false),
        (json!(null), false, false),
        (json!({}), false, false),
        (json!([50]), false, false),
    ];
    for name in ["6", "7", "8", "9", "10", "11", "12"] {
        let (world, branch) = room(name);
        let is_old = name.len() == 1;
        for (value, in_old, in_new) in &numbers {
            let fields = ["users_default", "events_default", "state_default", "ban", "kick", "redact", "invite"];
            let plain = fields.map(|field| (field.to_owned(), value.clone()));
            let nested = [("users", BOB), ("events", "m.room.name"), ("notifications", "room")];
            let nested = nested.map(|(field, key)| (field.to_owned(), json!({ (key): value })));
            for (field, value) in plain.into_iter().chain(nested) {
                let mut content = object(json!({ (field.as_str()): value }));
                if name != "12" && field != "users" {
                    content.insert("users".to_owned(), object(json!({ (ALICE): 100 })).into());
                }
                let mut after = branch.clone();
                let outcome = after.send(&world, ALICE, Draft::state("m.room.power_levels", "", content));
                let expected = if is_old { *in_old } else { *in_new };
                assert_eq!(outcome.is_ok(), expected, "{field}: {value} in version {name}: {outcome:?}");
            }
        }
    }
    // A fraction is no number of canonical JSON, so such an event is none.
    for name in ["6", "12"] {
        let text = r#"{"content":{"users_default":50.5},"type":"m.room.power_levels"}"#;
        assert!(parse(&raw_text(text), &version(name), Caps::Enforced).is_err());
    }
}

/// S2S 14: where the map lacks an entry, the event's own auth event is taken, unless it was rejected.
#[test]
fn a_rejected_auth_event_is_never_fallen_back_on() {
    for name in ["10", "11"] {
        let world = World::new(name);
        let mut start = world.found(ALICE, json!({"users": {ALICE: 100}}), "public");
        start.member(&world, BOB, BOB, "join").unwrap();
        // Bob gives himself a level, which the rules refuse, and writes a topic that leans on it.
        let levels = object(json!({"users": {ALICE: 100, BOB: 100}}));
        let grab = world.make(BOB, Draft::state("m.room.power_levels", "", levels), &start.heads, &start.state);
        let grab = Arc::new(Event::clone(&grab).into_rejected());
        world.events.borrow_mut().insert(grab.event_id().clone(), Arc::clone(&grab));
        let mut with_grab = start.state.clone();
        with_grab.insert((StateEventType::RoomPowerLevels, String::new()), Arc::clone(&grab));
        let topic = Draft::state("m.room.topic", "", object(json!({"topic": "mine"})));
        let topic = world.make(BOB, topic, &start.heads, &with_grab);
        let mut right = start.clone();
        right.push(&topic);
        let states = [start.ids(), right.ids()];
        let merged = resolve(&world.version, &states, &|id: &EventId| world.get(id)).unwrap();
        assert_eq!(merged.get(&(StateEventType::RoomTopic, String::new())), None, "version {name}");
        assert_eq!(merged, start.ids());
    }
}

/// Hard case 39: an event with no levels among its auth events stands before all others, whatever its time.
#[test]
fn events_without_levels_behind_them_come_before_all_others() {
    for name in ["10", "11"] {
        let world = World::new(name);
        let mut start = world.found(ALICE, json!({"users": {ALICE: 100}}), "public");
        start.member(&world, BOB, BOB, "join").unwrap();
        let levels_key = (StateEventType::RoomPowerLevels, String::new());
        let topic = |text: &str, state: &StateMap<Arc<Event>>| {
            let draft = Draft::state("m.room.topic", "", object(json!({"topic": text})));
            world.make(ALICE, draft, &start.heads, state)
        };
        let with_levels = topic("with levels", &start.state);
        // Alice made the room, so that she may without levels; this one is later, and comes first all the same.
        let mut without = start.state.clone();
        without.remove(&levels_key);
        let without_levels = topic("without levels", &without);
        assert!(without_levels.origin_server_ts() > with_levels.origin_server_ts());
        assert!(!without_levels.auth_events().contains(start.state[&levels_key].event_id()));
        let states: Vec<StateMap<OwnedEventId>> = [&with_levels, &without_levels]
            .map(|event| {
                let mut branch = start.clone();
                branch.push(event);
                branch.ids()
            })
            .into();
        let merged = resolve(&world.version, &states, &|id: &EventId| world.get(id)).unwrap();
        assert_eq!(merged[&(StateEventType::RoomTopic, String::new())], *with_levels.event_id(), "version {name}");
    }
}

/// Hard case 41 and S2S 19.
/// S2S 19 a policy server's key is no key of the ordinary check.
#[test]
fn the_key_of_a_policy_server_is_no_key_of_the_ordinary_check() {
    let version = version("12");
    let room_id = format!("!{}", "h".repeat(43));
    let id = |letter: char| format!("${}", letter.to_string().repeat(43));
    let mut event = object(json!({
        "type": "m.room.message", "sender": ALICE, "room_id": room_id, "origin_server_ts": 5, "depth": 4,
        "prev_events": [id('p')], "auth_events": [id('a')], "content": {},
    }));
    let hash = content_hash_text(&event);
    event.insert("hashes".to_owned(), object(json!({"sha256": hash})).into());
    signer("a.example".try_into().unwrap()).sign_event(&mut event, &version);
    let text: Value = serde_json::from_str(&canonical::to_string(&event)).unwrap();
    let judge = |event: &Value| {
        let well_formed = check_object(object(event.clone()), &version, Caps::Enforced).unwrap();
        let mut keys = keys_of(&["a.example"]);
        let policy = signer("policy.example".try_into().unwrap()).public_key();
        let validity = Validity::Until(UnixMs(u64::MAX));
        keys.insert("policy.example".try_into().unwrap(), "ed25519:policy_server", Key { public: policy, validity });
        let asked = required_keys(&well_formed, &version);
        (verify(well_formed, &keys, &version).map(|signed| signed.was_redacted()), asked)
    };
    let ours: OwnedServerName = "a.example".try_into().unwrap();
    // Of another server: not asked for, right or wrong.
    let mut elsewhere = text.clone();
    elsewhere["signatures"]["policy.example"] = json!({"ed25519:policy_server": "AAAA"});
    let (verdict, asked) = judge(&elsewhere);
    assert_eq!(verdict, Ok(false));
    let asked = asked.unwrap();
    assert!(asked.iter().all(|(server, _)| *server == ours), "{asked:?}");
    // Of the sender's own server: it stands beside the ordinary one and does not make up for it.
    let mut beside = text.clone();
    beside["signatures"]["a.example"]["ed25519:policy_server"] = json!("AAAA");
    assert_eq!(judge(&beside).0, Ok(false));
    let mut instead = text;
    instead["signatures"] = json!({"a.example": {"ed25519:policy_server": "AAAA"}});
    let missing = BadSignature::Missing(ours);
    assert_eq!(judge(&instead), (Err(missing.clone()), Err(missing)));
}

//! State resolution: the shared vectors, and that the lazy form gives what the plain algorithm gives.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use proptest::prelude::*;
use rules::{
    Event, Version,
    draft::Draft,
    resolution::{ResolutionError, Shared, resolve, resolve_conflict, split},
    state::{StateKey, StateMap, change_of},
};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedRoomId, OwnedUserId,
    state_res::{self, utils::event_id_set::EventIdSet},
};
use serde_json::{Value, json};

use crate::world::{Branch, World, object, version};

/// The plain algorithm: whole chains, whole states, nothing left out.
fn plain(
    version: &Version,
    states: &[StateMap<OwnedEventId>],
    events: &impl Fn(&EventId) -> Option<Arc<Event>>,
) -> StateMap<OwnedEventId> {
    let chain = |from: Vec<OwnedEventId>| {
        let mut open = from;
        let mut reached = BTreeSet::new();
        while let Some(id) = open.pop() {
            if reached.insert(id.clone()) {
                open.extend(events(&id).unwrap().auth_events().iter().cloned());
            }
        }
        reached
    };
    let chains: Vec<EventIdSet<OwnedEventId>> =
        states.iter().map(|state| chain(state.values().cloned().collect()).into_iter().collect()).collect();
    let subgraph = |conflicted: &StateMap<Vec<OwnedEventId>>| {
        let conflicted: BTreeSet<OwnedEventId> = conflicted.values().flatten().cloned().collect();
        let between = chain(conflicted.iter().cloned().collect()).into_iter();
        Some(between.filter(|id| !chain(vec![id.clone()]).is_disjoint(&conflicted)).collect())
    };
    let rules = version.rules();
    state_res::resolve(&rules.authorization, version.state_resolution(), states, chains, events, subgraph).unwrap()
}

fn fixture(name: &str) -> Value {
    let path = format!("{}/fixtures/vectors/state-res/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Reads symbolic events: their ids are names, so they go straight to the resolver.
fn symbolic(files: &Value, folder: &str, version: &Version) -> Vec<Vec<Arc<Event>>> {
    let read = |pdu: &Value| {
        let mut pdu = pdu.clone();
        let event_id = OwnedEventId::try_from(pdu["event_id"].as_str().unwrap()).unwrap();
        let room_id = match pdu["room_id"].as_str() {
            Some(room_id) => OwnedRoomId::try_from(room_id).unwrap(),
            None => rules::format::room_of_create(&event_id).unwrap(),
        };
        pdu.as_object_mut().unwrap().remove("event_id");
        Arc::new(Event::from_stored(event_id, room_id, version, pdu.to_string(), false).unwrap())
    };
    let file = |name: &Value| {
        fixture(&format!("{folder}{}", name.as_str().unwrap())).as_array().unwrap().iter().map(read).collect()
    };
    files.as_array().unwrap().iter().map(file).collect()
}

fn by_key(state: &StateMap<OwnedEventId>) -> BTreeMap<(String, String), String> {
    state.iter().map(|((kind, key), id)| ((kind.to_string(), key.clone()), id.to_string())).collect()
}

fn expected(case: &Value) -> BTreeMap<(String, String), String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let entries = fixture(case["expected"].as_str().unwrap());
    entries
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| ((text(&entry["type"]), text(&entry["state_key"])), text(&entry["event_id"])))
        .collect()
}

type States = HashMap<OwnedEventId, StateMap<OwnedEventId>>;

/// The states after the given events, merged.
fn merged(
    version: &Version,
    known: &HashMap<OwnedEventId, Arc<Event>>,
    states: &[StateMap<OwnedEventId>],
) -> StateMap<OwnedEventId> {
    let events = |id: &EventId| known.get(id).cloned();
    let ours = resolve(version, states, &events).unwrap();
    assert_eq!(ours, plain(version, states, &events), "the lazy form differs from the plain one");
    ours
}

/// The state after an event, from those after its predecessors.
fn state_after(
    version: &Version,
    known: &HashMap<OwnedEventId, Arc<Event>>,
    states: &mut States,
    event: &Arc<Event>,
) -> StateMap<OwnedEventId> {
    let before: Vec<_> = event.prev_events().iter().map(|id| states.get(id).unwrap().clone()).collect();
    let mut state = if before.is_empty() { StateMap::new() } else { merged(version, known, &before) };
    state.extend(change_of(event).map(|key| (key, event.event_id().clone())));
    states.insert(event.event_id().clone(), state.clone());
    state
}

/// Event by event, then file by file, then all at once: the same state each time.
fn check_batches(case: &Value, version: &Version) {
    let batches = symbolic(&case["pdu_batches"], "fixtures/", version);
    let known: HashMap<_, _> =
        batches.iter().flatten().map(|event| (event.event_id().clone(), Arc::clone(event))).collect();

    let mut states = States::new();
    let mut ends: BTreeMap<OwnedEventId, StateMap<OwnedEventId>> = BTreeMap::new();
    for event in batches.iter().flatten() {
        let after = state_after(version, &known, &mut states, event);
        ends.retain(|id, _| !event.prev_events().contains(id));
        ends.insert(event.event_id().clone(), after);
    }
    let heads: Vec<_> = ends.values().cloned().collect();
    assert_eq!(by_key(&merged(version, &known, &heads)), expected(case), "{} event by event", case["name"]);

    let by_file: Vec<StateMap<OwnedEventId>> =
        batches.iter().filter_map(|batch| states.get(batch.last().unwrap().event_id()).cloned()).collect();
    assert_eq!(by_key(&merged(version, &known, &by_file)), expected(case), "{} by file", case["name"]);

    let single = |event: &Arc<Event>| change_of(event).map(|key| StateMap::from([(key, event.event_id().clone())]));
    let at_once: Vec<StateMap<OwnedEventId>> = batches.iter().flatten().filter_map(single).collect();
    assert_eq!(by_key(&merged(version, &known, &at_once)), expected(case), "{} at once", case["name"]);
}

fn check_state_maps(case: &Value, version: &Version) {
    let known: HashMap<_, _> = symbolic(&case["pdus"], "fixtures/", version)
        .into_iter()
        .flatten()
        .map(|event| (event.event_id().clone(), event))
        .collect();
    let state_of = |name: &Value| -> StateMap<OwnedEventId> {
        let ids = fixture(&format!("fixtures/{}", name.as_str().unwrap()));
        let event = |id: &Value| known.get(<&EventId>::try_from(id.as_str().unwrap()).unwrap()).unwrap().clone();
        let entry = |id: &Value| (change_of(&event(id)).unwrap(), event(id).event_id().clone());
        ids.as_array().unwrap().iter().map(entry).collect()
    };
    let states: Vec<_> = case["state_maps"].as_array().unwrap().iter().map(state_of).collect();
    assert_eq!(by_key(&merged(version, &known, &states)), expected(case), "{}", case["name"]);
}

/// Hard case 27. S2S 14 2.0 and 2.1 as pure functions. S2S 14 ids compare as bytes.
#[test]
fn every_shared_case_of_state_resolution_gives_the_expected_state() {
    let index = fixture("index.json");
    let cases = index["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 13);
    for case in cases {
        let version = version(case["room_version"].as_str().unwrap());
        match case["kind"].as_str().unwrap() {
            "batches" => check_batches(case, &version),
            "state_maps" => check_state_maps(case, &version),
            other => panic!("unknown kind {other}"),
        }
    }
}

#[test]
fn a_missing_auth_event_is_an_error_and_not_another_state() {
    let world = World::new("11");
    let mut left = world.found("@alice:a.example", json!({"users": {"@alice:a.example": 100}}), "public");
    let mut right = left.clone();
    let topic = left.set(&world, "@alice:a.example", "m.room.topic", json!({"topic": "left"})).unwrap();
    right.set(&world, "@alice:a.example", "m.room.topic", json!({"topic": "right"})).unwrap();
    let states = [left.ids(), right.ids()];
    let hidden = topic.event_id().clone();
    let events = |id: &EventId| if *id == *hidden { None } else { world.get(id) };
    assert_eq!(resolve(&world.version, &states, &events), Err(ResolutionError::Missing(hidden.clone())));
}

/// Shared entries that note whether all of them were asked for.
struct Watched {
    entries: StateMap<OwnedEventId>,
    asked_for_all: RefCell<bool>,
}

impl Shared for Watched {
    fn get(&self, key: &StateKey) -> Option<OwnedEventId> {
        self.entries.get(key).cloned()
    }

    fn reaching(&self, _candidates: &BTreeSet<OwnedEventId>) -> Vec<OwnedEventId> {
        self.asked_for_all.replace(true);
        self.entries.values().cloned().collect()
    }
}

/// S2S 14 bounded.
#[test]
fn two_people_who_join_at_once_do_not_load_the_other_members() {
    for name in ["10", "11", "12"] {
        let world = World::new(name);
        let mut left = world.found("@alice:a.example", json!({}), "public");
        let members: Vec<OwnedEventId> = (0..50)
            .map(|number| format!("@user{number}:b.example"))
            .map(|user| left.member(&world, &user, &user, "join").unwrap().event_id().clone())
            .collect();
        let mut right = left.clone();
        left.member(&world, "@carol:c.example", "@carol:c.example", "join").unwrap();
        right.member(&world, "@dave:d.example", "@dave:d.example", "join").unwrap();

        let states = [left.ids(), right.ids()];
        let (entries, conflicted) = split(&states);
        let shared = Watched { entries, asked_for_all: RefCell::new(false) };
        let loaded = RefCell::new(BTreeSet::new());
        let events = |id: &EventId| {
            loaded.borrow_mut().insert(id.to_owned());
            world.get(id)
        };
        let resolved = resolve_conflict(&world.version, &shared, &conflicted, &events).unwrap();
        assert_eq!(resolved.len(), 2, "both joins stand in version {name}");
        assert!(!*shared.asked_for_all.borrow());
        assert!(members.iter().all(|id| !loaded.borrow().contains(id)));
    }
}

const USERS: [&str; 4] = ["@alice:a.example", "@bob:b.example", "@carol:c.example", "@dave:d.example"];

/// One thing that happens in a room with up to three ends.
#[derive(Debug, Clone)]
struct Deed {
    branch: usize,
    actor: usize,
    target: usize,
    kind: u8,
    /// Whose state the auth events are taken from. Not the branch's own: a server that cheats.
    seen_from: usize,
    level: i64,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed =
        (0..3_usize, 0..4_usize, 0..4_usize, 0..8_u8, 0..12_usize, prop::sample::select(vec![0_i64, 25, 50, 100]));
    let deed = deed.prop_map(|(branch, actor, target, kind, seen_from, level)| Deed {
        branch,
        actor,
        target,
        kind,
        seen_from,
        level,
    });
    proptest::collection::vec(deed, 1..28)
}

fn draft_of(deed: &Deed, world: &World) -> Draft {
    let (actor, target) = (USERS[deed.actor], USERS[deed.target]);
    let member = |user: &str, membership: &str| {
        Draft::member(&OwnedUserId::try_from(user).unwrap(), membership, CanonicalJsonObject::new())
    };
    match deed.kind {
        0 | 1 => member(actor, "join"),
        2 => member(target, "invite"),
        3 => member(target, "ban"),
        4 => member(target, "leave"),
        5 => {
            let users = if world.version.creators_are_above_levels() {
                json!({target: deed.level})
            } else {
                json!({USERS[0]: 100, target: deed.level})
            };
            let users = if deed.target == 0 { json!({}) } else { users };
            Draft::state("m.room.power_levels", "", object(json!({"users": users, "state_default": 25})))
        }
        6 => {
            let rule = if deed.level < 50 { "invite" } else { "public" };
            Draft::state("m.room.join_rules", "", object(json!({"join_rule": rule})))
        }
        _ => Draft::state("m.room.topic", "", object(json!({"topic": actor, "level": deed.level}))),
    }
}

/// Plays the deeds and gives the ends of the room.
fn play(world: &World, deeds: &[Deed]) -> Vec<Branch> {
    let levels = if world.version.creators_are_above_levels() { json!({}) } else { json!({"users": {USERS[0]: 100}}) };
    let start = world.found(USERS[0], levels, "public");
    let mut branches = vec![start.clone(), start.clone(), start];
    for deed in deeds {
        let draft = draft_of(deed, world);
        match branches.get(deed.seen_from).map(|branch| branch.state.clone()) {
            Some(seen) if deed.seen_from != deed.branch => {
                let branch = &mut branches[deed.branch];
                let event = world.make(USERS[deed.actor], draft, &branch.heads, &seen);
                branch.push(&event);
            }
            _ => {
                let _ = branches[deed.branch].send(world, USERS[deed.actor], draft);
            }
        }
    }
    branches
}

/// Shared entries that leave out what was stored before all candidates, as storage would.
struct Recent<'a> {
    entries: StateMap<OwnedEventId>,
    world: &'a World,
}

impl Shared for Recent<'_> {
    fn get(&self, key: &StateKey) -> Option<OwnedEventId> {
        self.entries.get(key).cloned()
    }

    fn reaching(&self, candidates: &BTreeSet<OwnedEventId>) -> Vec<OwnedEventId> {
        let stored = |id: &OwnedEventId| self.world.get(id).unwrap().origin_server_ts();
        let first = candidates.iter().map(stored).min();
        self.entries.values().filter(|id| Some(stored(id)) >= first).cloned().collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// S2S 14 2.0 and 2.1 as pure functions.
    #[test]
    fn the_lazy_form_gives_what_the_plain_algorithm_gives(deeds in deeds(), count in 2..4_usize) {
        for name in ["6", "10", "11", "12"] {
            let world = World::new(name);
            let states: Vec<_> = play(&world, &deeds).iter().take(count).map(Branch::ids).collect();
            let events = |id: &EventId| world.get(id);
            let expected = plain(&world.version, &states, &events);
            prop_assert_eq!(&resolve(&world.version, &states, &events).unwrap(), &expected);

            let (entries, conflicted) = split(&states);
            let shared = Recent { entries: entries.clone(), world: &world };
            let mut lazily = entries;
            lazily.extend(resolve_conflict(&world.version, &shared, &conflicted, &events).unwrap());
            prop_assert_eq!(&lazily, &expected);
        }
    }

    /// S2S 14 2.0 and 2.1 as pure functions. S2S 14 the same on every server.
    #[test]
    fn the_order_of_the_states_does_not_matter_and_a_result_merges_to_itself(deeds in deeds()) {
        for name in ["10", "12"] {
            let world = World::new(name);
            let mut states: Vec<_> = play(&world, &deeds).iter().map(Branch::ids).collect();
            let events = |id: &EventId| world.get(id);
            let merged = resolve(&world.version, &states, &events).unwrap();
            states.reverse();
            prop_assert_eq!(&resolve(&world.version, &states, &events).unwrap(), &merged);
            let again = [merged.clone(), merged.clone()];
            prop_assert_eq!(&resolve(&world.version, &again, &events).unwrap(), &merged);
            let known: BTreeSet<OwnedEventId> = world.events.borrow().keys().cloned().collect();
            prop_assert!(merged.values().all(|id| known.contains(id)));
        }
    }
}

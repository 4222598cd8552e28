//! What one event costs. No input or output: everything stands in memory.
//!
//! | group | per element |
//! |---|---|
//! | `draft` | 2 SHA-256, 1 Ed25519 signature, 3 serialisations |
//! | `verify` | 1 parse, 2 SHA-256, 1 Ed25519 verification |
//! | `authorize` | 4 look-ups in a state |
//! | `resolve` | a fork in which two people joined, and one in which a thousand did on either side, in a room of 10,000 members |

#![expect(clippy::unwrap_used, reason = "a bench ends at the first failure")]

use std::{collections::HashMap, hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rules::{
    Event, RawPdu, UnixMs, Version,
    authorization::{check, needed_state, select_auth_events},
    canonical,
    draft::{Around, Draft, complete},
    format::{Caps, parse},
    keys::{Key, KeyRing, Validity},
    resolution::{resolve_conflict, split},
    signature::{Signer, verify},
    state::{StateMap, change_of},
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId};
use serde_json::value::RawValue;

const MEMBERS: usize = 10_000;

/// A room with many members, and what is needed to add to it.
struct Room {
    version: Version,
    room_id: Option<OwnedRoomId>,
    signer: Signer,
    head: Vec<OwnedEventId>,
    events: HashMap<OwnedEventId, Arc<Event>>,
    state: StateMap<Arc<Event>>,
}

fn text(value: &str) -> CanonicalJsonValue {
    CanonicalJsonValue::String(value.to_owned())
}

fn content(fields: &[(&str, &str)]) -> CanonicalJsonObject {
    fields.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect()
}

fn user(number: usize) -> OwnedUserId {
    OwnedUserId::try_from(format!("@user{number}:a.example")).unwrap()
}

impl Room {
    fn new() -> Self {
        let version = Version::parse(Version::DEFAULT).unwrap();
        let server = OwnedServerName::try_from("a.example").unwrap();
        let signer = Signer::new(server, "a_1", &[1; 32]).unwrap();
        let mut room =
            Self { version, room_id: None, signer, head: Vec::new(), events: HashMap::new(), state: StateMap::new() };
        room.add(0, Draft::state("m.room.create", "", content(&[("room_version", version.as_str())])));
        room.add(0, join(0));
        room.add(0, Draft::state("m.room.power_levels", "", CanonicalJsonObject::new()));
        room.add(0, Draft::state("m.room.join_rules", "", content(&[("join_rule", "public")])));
        for number in 1..MEMBERS {
            room.add(number, join(number));
        }
        room
    }

    fn auth_events(&self, sender: &OwnedUserId, draft: &Draft) -> Vec<OwnedEventId> {
        let content = RawValue::from_string(canonical::to_string(&draft.content)).unwrap();
        let needed = needed_state(&self.version, &draft.kind, sender, draft.state_key.as_deref(), &content).unwrap();
        select_auth_events(&self.version, &needed, &self.state)
    }

    fn make(&self, sender: &OwnedUserId, draft: Draft, auth_events: Vec<OwnedEventId>) -> Event {
        let around = Around {
            room_id: self.room_id.as_ref(),
            sender,
            prev_events: self.head.clone(),
            auth_events,
            depth: 9,
            now: UnixMs(1_700_000_000_000),
        };
        complete(draft, around, &self.version, &self.signer).unwrap()
    }

    fn add(&mut self, sender: usize, draft: Draft) {
        let sender = user(sender);
        let auth_events = self.auth_events(&sender, &draft);
        let event = Arc::new(self.make(&sender, draft, auth_events));
        self.room_id = Some(event.room_id().clone());
        self.head = vec![event.event_id().clone()];
        self.events.insert(event.event_id().clone(), Arc::clone(&event));
        self.state.extend(change_of(&event).map(|key| (key, event)));
    }
}

fn join(number: usize) -> Draft {
    Draft::member(&user(number), "join", CanonicalJsonObject::new())
}

fn message() -> Draft {
    Draft::message("m.room.message", content(&[("msgtype", "m.text"), ("body", &"a word or two ".repeat(10))]))
}

fn one_event(criterion: &mut Criterion, room: &Room) {
    let sender = user(7);
    let auth_events = room.auth_events(&sender, &message());
    let mut group = criterion.benchmark_group("draft");
    group.throughput(Throughput::Elements(1));
    group.bench_function("message_140_bytes", |bencher| {
        bencher.iter(|| room.make(&sender, black_box(message()), auth_events.clone()));
    });
    group.finish();

    let event = room.make(&sender, message(), auth_events);
    let raw = RawPdu(RawValue::from_string(event.json().to_owned()).unwrap());
    let mut keys = KeyRing::new();
    let key = Key { public: room.signer.public_key(), validity: Validity::Until(UnixMs(u64::MAX)) };
    keys.insert(room.signer.server_name().clone(), room.signer.key_id(), key);
    let mut group = criterion.benchmark_group("verify");
    group.throughput(Throughput::Elements(1));
    group.bench_function("message_140_bytes", |bencher| {
        bencher.iter(|| {
            let pdu = parse(black_box(&raw), &room.version, Caps::Enforced).unwrap();
            verify(pdu, &keys, &room.version).unwrap()
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("authorize");
    group.throughput(Throughput::Elements(1));
    group.bench_function("message_10000_members", |bencher| {
        bencher.iter(|| check(&room.version, black_box(&event), &room.state).unwrap());
    });
    group.finish();
}

/// Two sides of a room, on each of which so many people joined.
fn forked(room: &Room, joins: usize) -> (Vec<StateMap<OwnedEventId>>, HashMap<OwnedEventId, Arc<Event>>) {
    let mut events = room.events.clone();
    let ids: StateMap<OwnedEventId> =
        room.state.iter().map(|(key, event)| (key.clone(), event.event_id().clone())).collect();
    let sides = [MEMBERS, MEMBERS + joins].map(|first| {
        let mut state = ids.clone();
        for number in first..first + joins {
            let auth_events = room.auth_events(&user(number), &join(number));
            let event = Arc::new(room.make(&user(number), join(number), auth_events));
            state.extend(change_of(&event).map(|key| (key, event.event_id().clone())));
            events.insert(event.event_id().clone(), event);
        }
        state
    });
    (sides.to_vec(), events)
}

fn forks(criterion: &mut Criterion, room: &Room) {
    let mut group = criterion.benchmark_group("resolve");
    for (name, joins) in [("two_joins_10000_members", 1), ("two_thousand_joins_10000_members", 1_000)] {
        let (states, events) = forked(room, joins);
        let (shared, conflicted) = split(&states);
        let fetch = |id: &EventId| events.get(id).cloned();
        group.throughput(Throughput::Elements(2 * u64::try_from(joins).unwrap()));
        group.bench_function(name, |bencher| {
            bencher.iter(|| resolve_conflict(&room.version, &shared, black_box(&conflicted), &fetch).unwrap());
        });
    }
    group.finish();
}

fn all(criterion: &mut Criterion) {
    let room = Room::new();
    one_event(criterion, &room);
    forks(criterion, &room);
}

criterion_group!(rules_of_rooms, all);
criterion_main!(rules_of_rooms);

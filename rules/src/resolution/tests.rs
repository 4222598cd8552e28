//! The walks against sets computed the long way, on random graphs in which everything may lean on anything older.

use proptest::prelude::*;
use ruma::{OwnedRoomId, RoomId};

use super::*;

type Graph = HashMap<OwnedEventId, Arc<Event>>;

/// One event: which of the older ones it leans on, which entry it is of, and the depth it claims.
type Row = (Vec<prop::sample::Index>, u8, u16);

fn id(number: usize) -> OwnedEventId {
    EventId::parse(format!("${number:03}")).unwrap()
}

fn graph_of(rows: &[Row], version: &Version) -> Graph {
    let room_id: OwnedRoomId = RoomId::parse("!room:a.example").unwrap();
    let mut graph = Graph::new();
    for (number, (leans_on, key, depth)) in rows.iter().enumerate() {
        let auth_events: BTreeSet<OwnedEventId> =
            leans_on.iter().filter(|_| number > 0).map(|index| id(index.index(number))).collect();
        let json = serde_json::json!({
            "type": "x.entry", "state_key": key.to_string(), "sender": "@alice:a.example", "origin_server_ts": number,
            "depth": depth, "prev_events": [], "auth_events": auth_events, "content": {},
        });
        let event = Event::from_stored(id(number), room_id.clone(), version, json.to_string(), false).unwrap();
        graph.insert(id(number), Arc::new(event));
    }
    graph
}

/// States of which each has, for some keys, one of the events with that key.
fn states_of(graph: &Graph, choices: &[Vec<Option<prop::sample::Index>>]) -> Vec<StateMap<OwnedEventId>> {
    let mut by_key: BTreeMap<StateKey, Vec<OwnedEventId>> = BTreeMap::new();
    for event in graph.values() {
        by_key.entry(change_of(event).unwrap()).or_default().push(event.event_id().clone());
    }
    by_key.values_mut().for_each(|ids| ids.sort());
    let pick = |choice: &Vec<Option<prop::sample::Index>>| {
        let entries = by_key
            .iter()
            .zip(choice)
            .filter_map(|((key, ids), index)| Some((key.clone(), index.as_ref()?.get(ids).clone())));
        entries.collect()
    };
    choices.iter().map(pick).collect()
}

fn chain(graph: &Graph, from: impl IntoIterator<Item = OwnedEventId>) -> BTreeSet<OwnedEventId> {
    let mut open: Vec<OwnedEventId> = from.into_iter().collect();
    let mut reached = BTreeSet::new();
    while let Some(id) = open.pop() {
        if reached.insert(id.clone()) {
            open.extend(graph[&id].auth_events().iter().cloned());
        }
    }
    reached
}

/// Leaves out what was stored before all candidates, as storage may.
struct Recent(StateMap<OwnedEventId>);

impl Shared for Recent {
    fn get(&self, key: &StateKey) -> Option<OwnedEventId> {
        self.0.get(key).cloned()
    }

    fn reaching(&self, candidates: &BTreeSet<OwnedEventId>) -> Vec<OwnedEventId> {
        self.0.values().filter(|id| candidates.first().is_none_or(|first| *id >= first)).cloned().collect()
    }
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (proptest::collection::vec(any::<prop::sample::Index>(), 0..4), 0..9_u8, any::<u16>());
    proptest::collection::vec(row, 2..40)
}

/// Like states of a fork: mostly the first one, changed in few places.
fn choices() -> impl Strategy<Value = Vec<Vec<Option<prop::sample::Index>>>> {
    let base = proptest::collection::vec(proptest::option::weighted(0.9, any::<prop::sample::Index>()), 9);
    let change = (0..9_usize, proptest::option::weighted(0.8, any::<prop::sample::Index>()));
    let changes = proptest::collection::vec(proptest::collection::vec(change, 0..4), 2..4);
    (base, changes).prop_map(|(base, changes)| {
        let changed = |changes: Vec<(usize, Option<prop::sample::Index>)>| {
            let mut choice = base.clone();
            for (slot, index) in changes {
                choice[slot] = index;
            }
            choice
        };
        changes.into_iter().map(changed).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_auth_difference_is_that_of_the_whole_chains(rows in rows(), choices in choices()) {
        let version = Version::parse("11").unwrap();
        let graph = graph_of(&rows, &version);
        let states = states_of(&graph, &choices);
        let (shared, conflicted) = split(&states);
        let conflicted_events: BTreeSet<OwnedEventId> = conflicted.values().flatten().flatten().cloned().collect();

        let chains: Vec<_> = states.iter().map(|state| chain(&graph, state.values().cloned())).collect();
        let in_some: BTreeSet<OwnedEventId> = chains.iter().flatten().cloned().collect();
        let expected: BTreeSet<OwnedEventId> = in_some
            .into_iter()
            .filter(|id| !chains.iter().all(|chain| chain.contains(id)))
            .chain(conflicted_events.iter().cloned())
            .collect();

        let events = |id: &EventId| graph.get(id).cloned();
        let walk = Walk { events: &events };
        for ours in [
            auth_difference(&walk, &shared, &conflicted).unwrap(),
            auth_difference(&walk, &Recent(shared.clone()), &conflicted).unwrap(),
        ] {
            let ours: BTreeSet<OwnedEventId> = ours.into_iter().chain(conflicted_events.iter().cloned()).collect();
            prop_assert_eq!(&ours, &expected);
        }
    }

    #[test]
    fn the_subgraph_is_what_lies_between_conflicted_events(rows in rows(), choices in choices()) {
        let version = Version::parse("12").unwrap();
        let graph = graph_of(&rows, &version);
        let (_, conflicted) = split(&states_of(&graph, &choices));
        let conflicted: BTreeSet<OwnedEventId> = conflicted.values().flatten().flatten().cloned().collect();
        let expected: BTreeSet<OwnedEventId> = chain(&graph, conflicted.iter().cloned())
            .into_iter()
            .filter(|id| !chain(&graph, [id.clone()]).is_disjoint(&conflicted))
            .collect();
        let events = |id: &EventId| graph.get(id).cloned();
        prop_assert_eq!(conflicted_subgraph(&Walk { events: &events }, &conflicted).unwrap(), expected);
    }
}

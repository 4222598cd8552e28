//! State trees against a plain map, and what a change writes.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::{NodeRow, ROW_NODES_MAX, StateCache, StateRoot, StateTree};
use crate::storage::{
    Arrival, Commit, CommitError, Home, Store, StoreOptions,
    keyspaces::STATE_NODES,
    memory::{Fault, MemoryEngine},
    value,
};

fn arrival(number: u64) -> Arrival {
    Arrival::new(number).unwrap()
}

fn home() -> Home {
    Home::room(ruma::room_id!("!room:a.example"))
}

async fn open(engine: &MemoryEngine, cache_bytes: u64) -> (Store, StateTree) {
    let options = StoreOptions { state_cache: StateCache::new(cache_bytes), ..StoreOptions::default() };
    let store = Store::open(Arc::new(engine.reopened()), options).await.unwrap();
    let tree = StateTree::new(&store, home());
    (store, tree)
}

/// A room that commits each update at once.
struct Room {
    store: Store,
    tree: StateTree,
    next_row: u64,
}

impl Room {
    async fn new(cache_bytes: u64) -> Self {
        let (store, tree) = open(&MemoryEngine::new(), cache_bytes).await;
        Self { store, tree, next_row: 1 }
    }

    async fn change(&mut self, root: StateRoot, changes: &[(u32, Option<Arrival>)]) -> StateRoot {
        let update = self.tree.update(root, changes, self.next_row).await.unwrap();
        self.next_row = update.next_row;
        let mut commit = Commit::new(home());
        let root = self.tree.write(update, &mut commit);
        self.store.commit(commit).await.unwrap();
        root
    }
}

type Map = BTreeMap<u32, Arrival>;

fn changed(mut map: Map, changes: &[(u32, Option<Arrival>)]) -> Map {
    for &(key, arrival) in changes {
        match arrival {
            Some(arrival) => drop(map.insert(key, arrival)),
            None => drop(map.remove(&key)),
        }
    }
    map
}

fn difference(a: &Map, b: &Map) -> Vec<(u32, Option<Arrival>, Option<Arrival>)> {
    let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).copied().collect();
    let pairs = keys.into_iter().map(|key| (key, a.get(&key).copied(), b.get(&key).copied()));
    pairs.filter(|(_, a, b)| a != b).collect()
}

async fn walked(tree: &StateTree, root: StateRoot, from: u32, page: usize) -> Vec<(u32, Arrival)> {
    let (mut entries, mut from) = (Vec::new(), Some(from));
    while let Some(start) = from {
        let part = tree.walk(root, start, page).await.unwrap();
        from = (part.len() == page).then(|| part.last().unwrap().0.checked_add(1)).flatten();
        entries.extend(part);
    }
    entries
}

/// The height that the keys ask for; the shape may depend on nothing else.
fn expected_height(map: &Map) -> u8 {
    let highest = map.keys().next_back().copied().unwrap_or_default();
    (0..).find(|&height| u64::from(highest) < super::span(height)).unwrap()
}

fn key() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..40_u32, 2 => 0..5_000_u32, 1 => any::<u32>(), 1 => Just(u32::MAX)]
}

/// Which state is changed, and how.
type Step = (prop::sample::Index, Vec<(u32, Option<u64>)>);

/// Each step changes one of the states there are, so that histories fork.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let changes = prop::collection::vec((key(), prop::option::weighted(0.6, 1..1_000_u64)), 0..30);
    prop::collection::vec((any::<prop::sample::Index>(), changes), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// S2S 14 merged states are kept.
    #[test]
    fn a_tree_is_a_map_also_when_it_forks(steps in steps(), keys in prop::collection::vec(key(), 20), page in 1..40_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            // A cache of nothing reads every node from the store.
            let mut room = Room::new(if page % 2 == 0 { 0 } else { StateCache::BYTES }).await;
            let mut states = vec![(StateRoot::EMPTY, Map::new())];
            for (origin, changes) in steps {
                let changes: Vec<_> = changes.into_iter().map(|(key, number)| (key, number.map(arrival))).collect();
                let (root, map) = origin.get(&states).clone();
                let map = changed(map, &changes);
                states.push((room.change(root, &changes).await, map));
            }
            for (root, map) in &states {
                prop_assert_eq!(walked(&room.tree, *root, 0, page).await, map.clone().into_iter().collect::<Vec<_>>());
                prop_assert_eq!(root.is_empty(), map.is_empty());
                prop_assert_eq!(root.height, expected_height(map));
                let from = keys[0];
                let behind: Vec<_> = map.range(from..).map(|(&key, &arrival)| (key, arrival)).collect();
                prop_assert_eq!(walked(&room.tree, *root, from, page).await, behind);
                let asked: Vec<_> = keys.iter().chain(map.keys().take(20)).copied().collect();
                let expected: Vec<_> = asked.iter().map(|key| map.get(key).copied()).collect();
                prop_assert_eq!(room.tree.get_many(*root, &asked).await.unwrap(), expected);
            }
            for (a, first) in &states {
                for (b, second) in &states {
                    prop_assert_eq!(room.tree.diff(*a, *b).await.unwrap(), difference(first, second));
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_change_that_changes_nothing_writes_nothing() {
    let mut room = Room::new(StateCache::BYTES).await;
    let entries: Vec<_> = (0..100).map(|key| (key, Some(arrival(u64::from(key) + 1)))).collect();
    let root = room.change(StateRoot::EMPTY, &entries).await;
    for changes in [&[][..], &[(5, Some(arrival(6)))], &[(200, None)], &[(3, None), (3, Some(arrival(4)))]] {
        let update = room.tree.update(root, changes, room.next_row).await.unwrap();
        assert_eq!((update.root, update.rows.len(), update.next_row), (root, 0, room.next_row));
    }
    let emptied: Vec<_> = (0..100).map(|key| (key, None)).collect();
    assert_eq!(room.change(root, &emptied).await, StateRoot::EMPTY);
}

#[tokio::test]
async fn removing_what_lies_beyond_the_tree_hurts_nothing_inside() {
    let mut room = Room::new(StateCache::BYTES).await;
    let root = room.change(StateRoot::EMPTY, &[(13, Some(arrival(1))), (29, None)]).await;
    assert_eq!(room.tree.get(root, 13).await.unwrap(), Some(arrival(1)));
    let removed = room.change(root, &[(16 + 13, None), (u32::MAX, None)]).await;
    assert_eq!(removed, root);
    assert_eq!(room.change(root, &[(13, None), (u32::MAX, None)]).await, StateRoot::EMPTY);
}

#[tokio::test]
async fn comparing_reads_only_what_differs() {
    let mut room = Room::new(StateCache::BYTES).await;
    let entries: Vec<_> = (0..50_000).map(|key| (key, Some(arrival(1)))).collect();
    let root = room.change(StateRoot::EMPTY, &entries).await;
    let changed = room.change(root, &[(7, Some(arrival(2))), (40_000, None)]).await;
    let expected = vec![(7, Some(arrival(1)), Some(arrival(2))), (40_000, Some(arrival(1)), None)];
    assert_eq!(room.tree.diff(root, changed).await.unwrap(), expected);
    assert_eq!(room.tree.diff(changed, changed).await.unwrap(), []);
    let mut nodes = super::Nodes::default();
    room.tree.load(&mut nodes, &[changed.node]).await.unwrap();
    assert_eq!(nodes.0[&changed.node.row].0.len(), 2 * 4 - 1, "two paths of four nodes that share the root");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_update_builds_on_one_that_is_not_yet_written() {
    let engine = MemoryEngine::new();
    // A cache that keeps nothing: only the rows on their way hold the first update.
    let (store, tree) = open(&engine, 0).await;
    let first = tree.update(StateRoot::EMPTY, &[(1, Some(arrival(1)))], 1).await.unwrap();
    let (next_row, mut commit) = (first.next_row, Commit::new(home()));
    let root = tree.write(first, &mut commit);
    assert_eq!(tree.get(root, 1).await.unwrap(), Some(arrival(1)));
    let second = tree.update(root, &[(2, Some(arrival(2)))], next_row).await.unwrap();
    let later = tree.write(second, &mut commit);
    assert_eq!(tree.get_many(later, &[1, 2]).await.unwrap(), [Some(arrival(1)), Some(arrival(2))]);
    store.commit(commit).await.unwrap();
    store.close().await.unwrap();
    let (_, tree) = open(&engine, 0).await;
    assert_eq!(tree.get_many(later, &[1, 2]).await.unwrap(), [Some(arrival(1)), Some(arrival(2))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_failed_commit_are_gone_and_their_numbers_are_free() {
    let engine = MemoryEngine::new();
    let (store, tree) = open(&engine, StateCache::BYTES).await;
    engine.fail_next(Fault::Full);
    let mut commit = Commit::new(home());
    let lost = tree.write(tree.update(StateRoot::EMPTY, &[(1, Some(arrival(1)))], 1).await.unwrap(), &mut commit);
    assert!(matches!(store.commit(commit).await, Err(CommitError::Unavailable(_))));
    assert!(tree.get(lost, 1).await.is_err());
    let mut dropped = Commit::new(home());
    tree.write(tree.update(StateRoot::EMPTY, &[(1, Some(arrival(3)))], 1).await.unwrap(), &mut dropped);
    drop(dropped);
    let mut commit = Commit::new(home());
    let root = tree.write(tree.update(StateRoot::EMPTY, &[(1, Some(arrival(2)))], 1).await.unwrap(), &mut commit);
    store.commit(commit).await.unwrap();
    assert_eq!(tree.get(root, 1).await.unwrap(), Some(arrival(2)));
    tree.forget();
    assert_eq!(tree.get(root, 1).await.unwrap(), Some(arrival(2)), "it is in the store");
}

#[tokio::test]
async fn stores_that_share_a_cache_keep_their_rows_apart() {
    let options = StoreOptions::default();
    let mut roots = Vec::new();
    for number in 1..=2 {
        let store = Store::open(Arc::new(MemoryEngine::new()), options.clone()).await.unwrap();
        let tree = StateTree::new(&store, home());
        let mut commit = Commit::new(home());
        let update = tree.update(StateRoot::EMPTY, &[(1, Some(arrival(number)))], 1).await.unwrap();
        let root = tree.write(update, &mut commit);
        store.commit(commit).await.unwrap();
        roots.push((tree, root, number));
    }
    for (tree, root, number) in roots {
        assert_eq!(tree.get(root, 1).await.unwrap(), Some(arrival(number)));
    }
}

#[test]
fn the_fullest_row_fits_into_its_limit() {
    let node = super::NodeRef { row: u64::MAX, index: u8::MAX };
    for node in [super::Node::Inner([node; 16]), super::Node::Leaf([u64::MAX; 16])] {
        let row = NodeRow(vec![node; ROW_NODES_MAX]);
        assert!(value::to_bytes(&row).unwrap().len() <= 64 * 1024);
    }
}

/// What one change of a state of `size` entries writes at most: a path of `n` nodes (`n` the digits of `size - 1` to the
/// base 16), the leaf with 16 arrivals and each other node with 16 references. With `a` bytes for an arrival, `r` for a
/// row number and 2 for an index: `16 a + (n - 1) 16 (r + 2) + n`, and 45 for the row's key and heads.
fn bound(size: u64, arrivals: u64, rows: u64) -> usize {
    let varint = |number: u64| (1..).find(|&bytes| number < 1_u64 << (7 * bytes)).unwrap();
    let levels = (1..).zip(1..).find(|&(levels, _)| size <= 16_u64.pow(levels)).unwrap().1;
    16 * varint(arrivals) + (levels - 1) * 16 * (varint(rows) + 2) + levels + 45
}

/// A state that came about one change at a time, as in a room; and the room's next arrival.
async fn grown(room: &mut Room, size: u32) -> (StateRoot, u64) {
    let (mut root, mut next_arrival) = (StateRoot::EMPTY, 1);
    let mut commit = Commit::new(home());
    for key in 0..size {
        let update = room.tree.update(root, &[(key, Some(arrival(next_arrival)))], room.next_row).await.unwrap();
        room.next_row = update.next_row;
        root = room.tree.write(update, &mut commit);
        next_arrival += 1;
        if key % 500 == 499 || key + 1 == size {
            room.store.commit(std::mem::replace(&mut commit, Commit::new(home()))).await.unwrap();
        }
    }
    (root, next_arrival)
}

/// S2S 14 merged states are kept.
#[tokio::test]
#[expect(clippy::print_stderr, reason = "ARCHITECTURE.md quotes these numbers")]
async fn a_change_writes_little_however_large_the_state_is() {
    const CHANGES: u32 = 1_000;
    for size in [100, 1_000, 10_000, 100_000] {
        let mut room = Room::new(StateCache::BYTES).await;
        let (mut root, mut next_arrival) = grown(&mut room, size).await;
        let (mut bytes, mut largest) = (0, 0);
        for number in 0..CHANGES {
            let key = (number * 7_919 + 13) % size;
            let update = room.tree.update(root, &[(key, Some(arrival(next_arrival)))], room.next_row).await.unwrap();
            let row = |(number, row): &(u64, NodeRow)| {
                STATE_NODES.row_key(&home(), number).bytes.len() + value::to_bytes(row).unwrap().len()
            };
            let written: usize = update.rows.iter().map(row).sum();
            (bytes, largest) = (bytes + written, largest.max(written));
            next_arrival += 1;
            room.next_row = update.next_row;
            let mut commit = Commit::new(home());
            root = room.tree.write(update, &mut commit);
            room.store.commit(commit).await.unwrap();
        }
        let bound = bound(size.into(), next_arrival, room.next_row);
        let mean = bytes / usize::try_from(CHANGES).unwrap();
        eprintln!("{size} entries: a change writes {mean} bytes, at most {largest}; bound {bound}");
        assert!(largest <= bound, "{size} entries: {largest} bytes, not up to {bound}");
    }
}

#[test]
fn a_damaged_root_is_an_error_and_not_a_tree_without_bounds() {
    assert!(value::fields::<StateRoot>(&[1, 0, 7]).is_ok());
    assert!(value::fields::<StateRoot>(&[1, 0, 8]).is_err());
}

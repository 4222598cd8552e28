//! Storage: durable commits per second beside synced appends of the same disk, and changes of a large state.
//!
//! Run with `cargo bench --profile dev --bench storage`: that profile optimises what matters here and has RocksDB built.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]

use std::{fs::File, hint::black_box, io::Write as _, sync::Arc, time::Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ruma::{OwnedRoomId, RoomId};
use tokio::runtime::Runtime;
use yurt::storage::{
    Arrival, ChangeKind, Commit, Home, HomeKind, Keyspace, Profile, StateRoot, StateTree, Store, StoreOptions,
    memory::MemoryEngine,
    rocksdb::{Budget, RocksEngine, Shared},
};

static EVENTS: Keyspace<u64, String> = Keyspace::new(200, "EVENTS", HomeKind::Room, Profile::Log);
static PLACES: Keyspace<i64, u64> = Keyspace::new(201, "PLACES", HomeKind::Room, Profile::Log);
static TIP: Keyspace<(), u64> = Keyspace::new(202, "TIP", HomeKind::Room, Profile::Rows);
static IDS: Keyspace<(OwnedRoomId, u64), u64> = Keyspace::new(203, "IDS", HomeKind::Content, Profile::Rows);

/// An event of 942 bytes, its place, its id and the room's tip: four rows and a part of a feed row, about 1.2 KB.
fn message(room_id: &RoomId, number: u64, event: &String) -> Commit {
    let mut commit = Commit::new(Home::room(room_id));
    match number {
        0 => commit.require_absent(&TIP, &()),
        _ => commit.require_same(&TIP, &(), &(number - 1)),
    };
    commit.put(&EVENTS, &number, event).put(&PLACES, &i64::try_from(number).unwrap_or_default(), &number);
    commit.put(&TIP, &(), &number).put_content(&IDS, &(room_id.to_owned(), number), &number);
    commit.change(ChangeKind::Events, number);
    commit
}

/// So many messages, sent by writers that each wait for their answer.
async fn send(store: &Store, round: u64, writers: u64, messages: u64) {
    let event = "x".repeat(942);
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (store, event) = (store.clone(), event.clone());
            let room_id = RoomId::parse(format!("!{round}-{writer}:a.example"));
            tokio::spawn(async move {
                let room_id = room_id.expect("a room id");
                let share = messages / writers + u64::from(writer < messages % writers);
                for number in 0..share {
                    store.commit(message(&room_id, number, &event)).await.expect("the commit is written");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the writer ends");
    }
}

/// One commit: one round through the committer's queue, one read of the tip, and a share of one write and sync.
fn commits(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let shared = Shared::new(Budget::default()).expect("shared memory");
    let engine = RocksEngine::open(&folder.path().join("data"), &shared).expect("the folder opens");
    let store = runtime.block_on(Store::open(Arc::new(engine), StoreOptions::default())).expect("the store opens");
    let mut group = criterion.benchmark_group("durable_commit");
    group.throughput(Throughput::Elements(1));
    let mut round = 0;
    for writers in [1, 16, 64] {
        group.bench_function(format!("{writers}_writers"), |bencher| {
            bencher.iter_custom(|messages| {
                round += 1;
                let started = Instant::now();
                runtime.block_on(send(&store, round, writers, messages));
                started.elapsed()
            });
        });
    }
    group.bench_function("raw_synced_append", |bencher| {
        let mut file = File::create(folder.path().join("raw")).expect("a file");
        bencher.iter(|| {
            file.write_all(&[0; 1_200]).expect("the append is written");
            file.sync_data().expect("the append is synced");
        });
    });
    group.finish();
}

/// One change of a state with 100,000 entries: five nodes from memory, five new ones in one row.
fn state(criterion: &mut Criterion) {
    const ENTRIES: u32 = 100_000;
    let runtime = Runtime::new().expect("a runtime");
    let home = Home::room(&RoomId::parse("!state:a.example").expect("a room id"));
    let store = runtime.block_on(Store::open(Arc::new(MemoryEngine::new()), StoreOptions::default()));
    let store = store.expect("the store opens");
    let tree = StateTree::new(&store, home.clone());
    let arrival = |number: u32| Arrival::new(u64::from(number) + 1);
    let (mut root, mut next_row) = (StateRoot::EMPTY, 1);
    for start in (0..ENTRIES).step_by(1_000) {
        let joins: Vec<_> = (start..start + 1_000).map(|key| (key, arrival(key))).collect();
        let update = runtime.block_on(tree.update(root, &joins, next_row)).expect("the state is changed");
        next_row = update.next_row;
        let mut commit = Commit::new(home.clone());
        root = tree.write(update, &mut commit);
        runtime.block_on(store.commit(commit)).expect("the commit is written");
    }
    let mut group = criterion.benchmark_group("state_tree");
    group.throughput(Throughput::Elements(1));
    let mut number = 0;
    group.bench_function("update_of_100000_entries", |bencher| {
        bencher.iter(|| {
            number = (number + 7_919) % ENTRIES;
            let changes = [(number, arrival(ENTRIES + number))];
            black_box(runtime.block_on(tree.update(root, &changes, next_row)).expect("the state is changed"))
        });
    });
    group.bench_function("get_of_100000_entries", |bencher| {
        bencher.iter(|| {
            number = (number + 7_919) % ENTRIES;
            black_box(runtime.block_on(tree.get(root, number)).expect("the state is read"))
        });
    });
    group.finish();
}

criterion_group!(benches, commits, state);
criterion_main!(benches);

//! Faults: full disks, lost answers, other processes. Nothing is acknowledged that is not there.

use std::sync::Arc;

use crate::storage::{
    CommitError, Limit, Position, StorageError, Store, StoreOptions,
    memory::{Fault, MemoryEngine},
    rocksdb::RocksEngine,
    suite::{Backend, Rocks, answers, as_one_group, for_each_backend, note, open, read_note, room, write_note},
};

for_each_backend!(
    a_full_disk_refuses_the_whole_group_and_reading_goes_on,
    a_lost_answer_is_settled_before_the_next_commit,
    commits_that_failed_are_never_there,
);

async fn a_full_disk_refuses_the_whole_group_and_reading_goes_on(backend: impl Backend) {
    let store = open(&backend).await;
    write_note(&store, &room("r"), "a", "one").await;
    let before = store.position();
    backend.fail_next(Fault::Full);
    let group = vec![note(&room("r"), "a", "two"), note(&room("r"), "b", "two")];
    for answer in answers(as_one_group(&store, group).await).await {
        assert!(matches!(answer, Err(CommitError::Unavailable(_))), "{answer:?}");
    }
    assert_eq!(read_note(&store, &room("r"), "a").await.as_deref(), Some("one"));
    assert_eq!(read_note(&store, &room("r"), "b").await, None);
    assert_eq!(store.position(), before);
    assert_eq!(store.counters().failures, 1);
    write_note(&store, &room("r"), "b", "three").await;
    assert_eq!(store.position().number(), before.number() + 1);
}

async fn a_lost_answer_is_settled_before_the_next_commit(backend: impl Backend) {
    let store = open(&backend).await;
    let settled = backend.settles_at_once();
    backend.fail_next(Fault::LostAfter);
    let answer = store.commit(note(&room("r"), "after", "one")).await.map(|_| ());
    assert_eq!(answer, if settled { Ok(()) } else { Err(CommitError::Unknown) });
    assert_eq!(read_note(&store, &room("r"), "after").await.as_deref(), Some("one"));
    backend.fail_next(Fault::LostBefore);
    let answer = store.commit(note(&room("r"), "before", "two")).await;
    assert!(matches!(answer, Err(CommitError::Unavailable(_) | CommitError::Unknown)), "{answer:?}");
    assert_eq!(read_note(&store, &room("r"), "before").await, None);
    write_note(&store, &room("r"), "next", "three").await;
    let feed = store.feed(Position::START, Limit::max()).await.unwrap();
    assert_eq!(feed.iter().map(|row| row.position.number()).collect::<Vec<_>>(), [1, 2]);
    store.close().await.unwrap();
    let store = open(&backend).await;
    assert_eq!(read_note(&store, &room("r"), "after").await.as_deref(), Some("one"));
    assert_eq!(read_note(&store, &room("r"), "before").await, None);
}

async fn commits_that_failed_are_never_there(backend: impl Backend) {
    let store = open(&backend).await;
    let mut acknowledged = Vec::new();
    for number in 0..40 {
        match number % 5 {
            1 => backend.fail_next(Fault::Full),
            2 => backend.fail_next(Fault::LostBefore),
            3 => backend.fail_next(Fault::LostAfter),
            _ => {}
        }
        let key = number.to_string();
        match store.commit(note(&room("r"), &key, "x")).await {
            Ok(_) => acknowledged.push((key, true)),
            Err(CommitError::Unknown) => {}
            Err(CommitError::Unavailable(_)) => acknowledged.push((key, false)),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(acknowledged.len() >= 24);
    store.close().await.unwrap();
    let store = open(&backend).await;
    for (key, expected) in acknowledged {
        assert_eq!(read_note(&store, &room("r"), &key).await.is_some(), expected, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_another_process_took_over_writes_no_more() {
    let engine = MemoryEngine::new();
    let first = Store::open(Arc::new(engine.reopened()), StoreOptions::default()).await.unwrap();
    write_note(&first, &room("r"), "a", "first").await;
    let second = Store::open(Arc::new(engine.reopened()), StoreOptions::default()).await.unwrap();
    write_note(&second, &room("r"), "a", "second").await;
    for _ in 0..2 {
        assert_eq!(first.commit(note(&room("r"), "a", "late")).await, Err(CommitError::Fenced));
    }
    write_note(&second, &room("r"), "b", "second").await;
    assert_eq!(read_note(&second, &room("r"), "a").await.as_deref(), Some("second"));
    assert_eq!(second.position().number(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_answer_can_be_asked_for() {
    let engine = MemoryEngine::new();
    let store = Store::open(Arc::new(engine.reopened()), StoreOptions::default()).await.unwrap();
    engine.fail_next(Fault::Taken);
    assert_eq!(store.commit(note(&room("r"), "a", "x")).await, Err(CommitError::Fenced));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_opened_once() {
    let backend = Rocks::default();
    let store = open(&backend).await;
    let path = backend.folder.path().join("data");
    assert_eq!(RocksEngine::open(&path, &backend.shared).err(), Some(StorageError::Locked { path: path.clone() }));
    write_note(&store, &room("r"), "a", "one").await;
    store.close().await.unwrap();
    RocksEngine::open(&path, &backend.shared).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_goes_away_comes_back_with_what_was_written() {
    let backend = Rocks::default();
    let store = open(&backend).await;
    write_note(&store, &room("r"), "a", "one").await;
    let (here, away) = (backend.folder.path().join("data"), backend.folder.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    backend.fail_next(Fault::LostAfter);
    assert_eq!(store.commit(note(&room("r"), "b", "two")).await, Err(CommitError::Unknown));
    assert!(!here.join("CURRENT").exists(), "no new database is made in its place");
    assert!(matches!(store.commit(note(&room("r"), "c", "x")).await, Err(CommitError::Unavailable(_))));
    if here.exists() {
        std::fs::remove_dir_all(&here).unwrap();
    }
    std::fs::rename(&away, &here).unwrap();
    write_note(&store, &room("r"), "c", "three").await;
    for (key, text) in [("a", "one"), ("b", "two"), ("c", "three")] {
        assert_eq!(read_note(&store, &room("r"), key).await.as_deref(), Some(text));
    }
    assert_eq!(store.feed(Position::START, Limit::max()).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_last_record_is_no_obstacle() {
    let backend = Rocks::default();
    let store = open(&backend).await;
    let folder = backend.folder.path().join("data");
    for number in 0..20 {
        write_note(&store, &room("r"), &number.to_string(), "x").await;
    }
    // What a power loss leaves: the synced log, and behind it a beginning of a record that nobody was told of.
    let copy = backend.folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for file in std::fs::read_dir(&folder).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        if file.path().extension().is_some_and(|ending| ending == "log") {
            let mut bytes = std::fs::read(copy.join(file.file_name())).unwrap();
            bytes.extend_from_slice(&[0x5a; 5_000]);
            std::fs::write(copy.join(file.file_name()), bytes).unwrap();
        }
    }
    store.close().await.unwrap();
    let engine = RocksEngine::open(&copy, &backend.shared).unwrap();
    let store = Store::open(Arc::new(engine), StoreOptions::default()).await.unwrap();
    for number in 0..20 {
        assert!(read_note(&store, &room("r"), &number.to_string()).await.is_some(), "{number}");
    }
    write_note(&store, &room("r"), "next", "x").await;
}

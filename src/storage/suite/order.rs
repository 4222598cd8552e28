//! Order: positions, the feed, hooks and barriers.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::storage::{
    ChangeKind, Commit, CommitError, Home, Limit, Position, Store, StoreOptions,
    suite::{Backend, NOTES, answers, as_one_group, for_each_backend, note, open, read_note, room, write_note},
};

for_each_backend!(
    the_feed_neither_skips_nor_repeats_under_concurrency,
    a_group_is_one_position_and_one_row,
    hooks_run_in_order_before_the_answer,
    hooks_run_before_followers_are_told,
    the_feed_forgets_its_oldest_rows,
    a_dropped_request_still_runs_its_hook,
    a_panicking_hook_hurts_nobody,
    a_barrier_waits_and_leaves_no_trace,
    the_queue_is_bounded,
    a_dropped_store_finishes_what_was_submitted,
);

async fn the_feed_neither_skips_nor_repeats_under_concurrency(backend: impl Backend) {
    const WRITERS: usize = 32;
    const COMMITS: u64 = 20;
    let store = open(&backend).await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let home = room(&format!("room{writer}"));
                for number in 1..=COMMITS {
                    let mut commit = Commit::new(home.clone());
                    commit.put(&NOTES, &"last".to_owned(), &number.to_string()).change(ChangeKind::Events, number);
                    let position = store.commit(commit).await.unwrap();
                    assert!(store.position().has_reached(position), "what is answered is visible");
                }
            })
        })
        .collect();
    let mut watch = store.watch_position();
    let (mut last, mut seen) = (Position::START, HashMap::<Home, u64>::new());
    while seen.len() < WRITERS || seen.values().any(|&number| number < COMMITS) {
        watch.wait_for(|position| !last.has_reached(*position)).await.unwrap();
        for row in store.feed(last, Limit::rows(7)).await.unwrap() {
            assert_eq!(row.position.number(), last.number() + 1);
            last = row.position;
            for change in row.changes {
                let number = seen.entry(change.home.clone()).or_default();
                *number += 1;
                assert_eq!(change.number, *number, "{:?}", change.home);
                let text = store.get(&NOTES, &change.home, &"last".to_owned()).await.unwrap().unwrap();
                assert!(text.parse::<u64>().unwrap() >= change.number, "what the feed names is visible");
            }
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(store.feed(last, Limit::max()).await.unwrap(), []);
    assert_eq!(store.position(), last);
}

async fn a_group_is_one_position_and_one_row(backend: impl Backend) {
    let store = open(&backend).await;
    let commits = (1..=3).map(|number| {
        let mut commit = Commit::new(room("r"));
        commit.put(&NOTES, &"a".to_owned(), &number.to_string()).change(ChangeKind::Events, number);
        commit
    });
    let pending = as_one_group(&store, commits.collect()).await;
    let mut positions = Vec::new();
    for pending in pending {
        positions.push(pending.await.unwrap());
    }
    assert_eq!(positions, vec![store.position(); 3]);
    let feed = store.feed(Position::START, Limit::max()).await.unwrap();
    assert_eq!(feed.len(), 1);
    assert_eq!(feed[0].changes.iter().map(|change| change.number).collect::<Vec<_>>(), [3]);
}

async fn hooks_run_in_order_before_the_answer(backend: impl Backend) {
    let store = open(&backend).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let commits = (0..100).map(|number| {
        let told = Arc::clone(&told);
        let mut commit = note(&room("r"), "a", &number.to_string());
        if number == 50 {
            commit.require_absent(&NOTES, &"a".to_owned());
        }
        commit.then(move |outcome| told.lock().push((number, outcome.clone().map(|_| ()))));
        commit
    });
    let pending = as_one_group(&store, commits.collect()).await;
    answers(pending).await;
    let expected: Vec<_> =
        (0..100).map(|number| (number, if number == 50 { Err(CommitError::Conflict) } else { Ok(()) })).collect();
    assert_eq!(*told.lock(), expected);
}

async fn hooks_run_before_followers_are_told(backend: impl Backend) {
    let store = open(&backend).await;
    let follower = store.watch_position();
    let (told, is_told) = tokio::sync::oneshot::channel();
    let mut commit = note(&room("r"), "a", "one");
    commit.then(move |_| told.send(*follower.borrow()).unwrap());
    store.commit(commit).await.unwrap();
    assert_eq!(is_told.await.unwrap(), Position::START);
}

async fn the_feed_forgets_its_oldest_rows(backend: impl Backend) {
    let options = StoreOptions { effects: backend.effects(), feed_rows_max: 3, ..StoreOptions::default() };
    let store = Store::open(backend.engine(), options).await.unwrap();
    for number in 0..5 {
        write_note(&store, &room("r"), "a", &number.to_string()).await;
    }
    let feed = store.feed(Position::START, Limit::max()).await.unwrap();
    assert_eq!(feed.iter().map(|row| row.position.number()).collect::<Vec<_>>(), [3, 4, 5]);
}

async fn a_dropped_request_still_runs_its_hook(backend: impl Backend) {
    let store = open(&backend).await;
    let (told, is_told) = tokio::sync::oneshot::channel();
    let mut commit = note(&room("r"), "a", "one");
    commit.then(move |outcome| told.send(outcome.clone()).unwrap());
    drop(store.reserve().await.unwrap().submit(commit));
    is_told.await.unwrap().unwrap();
    assert_eq!(
        read_note(&store, &room("r"), "a").await.as_deref(),
        Some("one"),
        "hooks run after the group is written"
    );
}

async fn a_panicking_hook_hurts_nobody(backend: impl Backend) {
    let store = open(&backend).await;
    let mut commit = note(&room("r"), "a", "one");
    commit.then(|_| panic!("a hook that is wrong"));
    store.commit(commit).await.unwrap();
    write_note(&store, &room("r"), "b", "two").await;
}

async fn a_barrier_waits_and_leaves_no_trace(backend: impl Backend) {
    let store = open(&backend).await;
    let mut commits: Vec<_> = (0..10).map(|number| note(&room("r"), "a", &number.to_string())).collect();
    commits.push(Commit::new(room("r")));
    let mut pending = as_one_group(&store, commits).await;
    let barrier = pending.pop().unwrap().await.unwrap();
    assert!(barrier.has_reached(pending.pop().unwrap().await.unwrap()));
    assert_eq!(store.get(&NOTES, &room("r"), &"a".to_owned()).await.unwrap().as_deref(), Some("9"));
    let groups = store.counters().groups;
    assert_eq!(store.commit(Commit::new(room("r"))).await.unwrap(), barrier);
    assert_eq!(store.counters().groups, groups);
    assert_eq!(store.feed(Position::START, Limit::max()).await.unwrap().len(), 1);
}

async fn the_queue_is_bounded(backend: impl Backend) {
    let store = open(&backend).await;
    let mut permits = Vec::new();
    let limit = std::time::Duration::from_millis(20);
    while let Ok(permit) = tokio::time::timeout(limit, store.reserve()).await {
        permits.push(permit.unwrap());
        assert!(permits.len() <= 4_096);
    }
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.commit(note(&room("r"), "a", "one")).await }
    });
    // A submitted commit gives back what it does not need, and then all.
    permits.pop().unwrap().submit(note(&room("r"), "b", "two")).await.unwrap();
    waiting.await.unwrap().unwrap();
}

async fn a_dropped_store_finishes_what_was_submitted(backend: impl Backend) {
    let store = open(&backend).await;
    let permit = store.reserve().await.unwrap();
    let mut last = note(&room("r"), "last", "one");
    // The last handle ends on the committer's own thread.
    let own = store.clone();
    last.then(move |_| drop(own));
    for number in 0..50 {
        drop(store.reserve().await.unwrap().submit(note(&room("r"), &number.to_string(), "x")));
    }
    let pending = permit.submit(last);
    drop(store);
    pending.await.unwrap();
    let store = open_again(&backend).await;
    for number in 0..50 {
        assert!(store.get(&NOTES, &room("r"), &number.to_string()).await.unwrap().is_some(), "{number}");
    }
    // Without a hook, dropping waits for the thread, so that the folder is free at once.
    drop(store);
    open(&backend).await;
}

/// After an end that nobody waited for, the folder may be free only a moment later.
async fn open_again(backend: &impl Backend) -> Store {
    loop {
        if backend.is_free() {
            return open(backend).await;
        }
        tokio::task::yield_now().await;
    }
}

//! Effects: other homes learn of a decision with its answer, and after a crash.

use std::sync::Arc;

use crate::storage::{
    ChangeKind, Commit, CommitError, Effect, EffectMode, Engine, Home, Limit, Position, Store, StoreOptions,
    changes::{Changes, GroupId, StreamId},
    commit::EFFECTS,
    engine::{ApplyError, Batch, Group, RowRange},
    memory::Fault,
    range::Direction,
    suite::{Backend, CARDS, NOTES, Strict, for_each_backend, note, open, person, read_note, room, room_id},
};

for_each_backend!(effects_are_there_with_the_answer, effects_of_one_home_come_in_order);

/// A note in the room, and a card with each of these people.
fn with_cards(text: &str, people: &[&str]) -> Commit {
    let mut commit = note(&room("r"), "a", text);
    for name in people {
        let effect = Effect::new(person(name)).put(&CARDS, &room_id("r"), &text.to_owned());
        commit.effect(effect.change(ChangeKind::Rooms, 7));
    }
    commit
}

async fn card(store: &Store, name: &str) -> Option<String> {
    store.get(&CARDS, &person(name), &room_id("r")).await.unwrap()
}

async fn changed_homes(store: &Store) -> Vec<Home> {
    let feed = store.feed(Position::START, Limit::max()).await.unwrap();
    feed.into_iter().flat_map(|row| row.changes).map(|change| change.home).collect()
}

async fn waiting_effects(engine: &dyn Engine) -> usize {
    engine.scan(RowRange::prefix(&EFFECTS.start()), Direction::Up, Limit::max()).await.unwrap().rows.len()
}

async fn effects_are_there_with_the_answer(backend: impl Backend) {
    let engine = backend.engine();
    let options = StoreOptions { effects: backend.effects(), ..StoreOptions::default() };
    let store = Store::open(Arc::clone(&engine), options).await.unwrap();
    let position = store.commit(with_cards("one", &["alice", "bob"])).await.unwrap();
    assert_eq!(card(&store, "alice").await.as_deref(), Some("one"));
    assert_eq!(card(&store, "bob").await.as_deref(), Some("one"));
    assert_eq!(store.position(), position, "the position covers the effects");
    assert_eq!(changed_homes(&store).await, [room("r"), person("alice"), person("bob")]);
    let mut commit = note(&room("r"), "a", "two");
    commit.effect(Effect::new(person("alice")).delete(&CARDS, &room_id("r")));
    store.commit(commit).await.unwrap();
    assert_eq!(card(&store, "alice").await, None);
    assert_eq!(waiting_effects(&*engine).await, 0);
}

async fn effects_of_one_home_come_in_order(backend: impl Backend) {
    let store = open(&backend).await;
    for round in 0..5 {
        let mut commit = Commit::new(room("r"));
        for number in 0..40 {
            let text = format!("{round}.{number}");
            commit.effect(Effect::new(person("alice")).put(&CARDS, &room_id("r"), &text));
        }
        drop(store.reserve().await.unwrap().submit(commit));
    }
    store.commit(Commit::new(room("r"))).await.unwrap();
    assert_eq!(card(&store, "alice").await.as_deref(), Some("4.39"));
}

/// The engine stops after so many more writes, as a process that is killed.
async fn killed_after(writes: usize) -> Strict {
    let backend = Strict::default();
    let store = open(&backend).await;
    (0..writes).for_each(|_| backend.0.spare_next());
    backend.fail_next(Fault::Full);
    let answer = store.commit(with_cards("one", &["alice", "bob"])).await;
    assert_eq!(
        answer,
        Err(if writes == 0 {
            CommitError::Unavailable("no space left on device".to_owned())
        } else {
            CommitError::Unknown
        })
    );
    store.close().await.unwrap();
    backend
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_that_a_crash_left_over_are_applied_at_the_next_start() {
    // The commit, two effects, their removal.
    for writes in 0..4 {
        let backend = killed_after(writes).await;
        let store = open(&backend).await;
        let expected = (writes > 0).then_some("one");
        assert_eq!(read_note(&store, &room("r"), "a").await.as_deref(), expected, "{writes}");
        assert_eq!(card(&store, "alice").await.as_deref(), expected, "{writes}");
        assert_eq!(card(&store, "bob").await.as_deref(), expected, "{writes}");
        assert_eq!(waiting_effects(&*backend.engine()).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_that_failed_are_applied_before_the_next_commit() {
    let backend = Strict::default();
    let store = open(&backend).await;
    backend.0.spare_next();
    backend.fail_next(Fault::Full);
    assert_eq!(store.commit(with_cards("one", &["alice"])).await, Err(CommitError::Unknown));
    assert_eq!(card(&store, "alice").await, None);
    backend.fail_next(Fault::Full);
    assert!(matches!(store.commit(note(&room("r"), "b", "two")).await, Err(CommitError::Unavailable(_))));
    store.commit(with_cards("two", &["alice"])).await.unwrap();
    assert_eq!(card(&store, "alice").await.as_deref(), Some("two"));
    assert_eq!(changed_homes(&store).await, [room("r"), person("alice"), room("r"), person("alice")]);
}

#[tokio::test]
async fn a_strict_engine_refuses_a_batch_of_two_homes() {
    let engine = Strict::default().engine();
    let mut batch = Batch::default();
    batch.write(NOTES.row_key(&room("r"), &"a".to_owned()), Some(vec![1, 0]));
    batch.write(CARDS.row_key(&person("alice"), &room_id("r")), Some(vec![1, 0]));
    let position = Position::new(StreamId::ONLY, 1);
    let feed = Changes::default().row(position, 1, GroupId([1; 16])).unwrap();
    let group =
        Group { stream: StreamId::ONLY, number: 1, epoch: 1, id: GroupId([1; 16]), feed, forgotten: None, batch };
    assert!(matches!(engine.apply(&group), Err(ApplyError::Unavailable(_))));
    // So would a store that applies effects at once.
    let options = StoreOptions { effects: EffectMode::Inline, ..StoreOptions::default() };
    let store = Store::open(Strict::default().engine(), options).await.unwrap();
    assert!(matches!(store.commit(with_cards("one", &["alice"])).await, Err(CommitError::Unavailable(_))));
}

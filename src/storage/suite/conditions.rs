//! Conditions: they are checked in order, on what is stored and on what the group has written so far.

use crate::storage::{
    Commit, CommitError, Position,
    suite::{Backend, NOTES, answers, as_one_group, for_each_backend, note, open, read_note, room, write_note},
};

for_each_backend!(
    a_condition_decides_about_the_whole_commit,
    a_conflicting_commit_fails_alone_in_its_group,
    conditions_see_what_the_group_wrote_before_them,
    one_of_many_racing_commits_wins,
    a_barrier_can_have_conditions,
);

fn replace(key: &str, seen: &str, text: &str) -> Commit {
    let mut commit = note(&room("r"), key, text);
    commit.require_same(&NOTES, &key.to_owned(), &seen.to_owned());
    commit
}

fn create(key: &str, text: &str) -> Commit {
    let mut commit = note(&room("r"), key, text);
    commit.require_absent(&NOTES, &key.to_owned());
    commit
}

async fn a_condition_decides_about_the_whole_commit(backend: impl Backend) {
    let store = open(&backend).await;
    store.commit(create("a", "one")).await.unwrap();
    assert_eq!(store.commit(create("a", "two")).await, Err(CommitError::Conflict));
    assert_eq!(store.commit(replace("a", "two", "three")).await, Err(CommitError::Conflict));
    assert_eq!(store.commit(replace("missing", "two", "three")).await, Err(CommitError::Conflict));
    let mut commit = replace("a", "two", "three");
    commit.put(&NOTES, &"other".to_owned(), &"x".to_owned());
    assert_eq!(store.commit(commit).await, Err(CommitError::Conflict));
    assert_eq!(read_note(&store, &room("r"), "other").await, None);
    store.commit(replace("a", "one", "two")).await.unwrap();
    assert_eq!(read_note(&store, &room("r"), "a").await.as_deref(), Some("two"));
    assert_eq!(store.counters().conflicts, 4);
}

async fn a_conflicting_commit_fails_alone_in_its_group(backend: impl Backend) {
    let store = open(&backend).await;
    write_note(&store, &room("r"), "a", "one").await;
    let before = store.counters().groups;
    let group = vec![create("b", "yes"), replace("a", "wrong", "no"), replace("a", "one", "yes")];
    let answers = answers(as_one_group(&store, group).await).await;
    assert_eq!(answers, [Ok(()), Err(CommitError::Conflict), Ok(())]);
    assert_eq!(store.counters().groups, before + 1);
    assert_eq!(read_note(&store, &room("r"), "a").await.as_deref(), Some("yes"));
    assert_eq!(read_note(&store, &room("r"), "b").await.as_deref(), Some("yes"));
}

async fn conditions_see_what_the_group_wrote_before_them(backend: impl Backend) {
    let store = open(&backend).await;
    write_note(&store, &room("r"), "a", "0").await;
    let mut delete = Commit::new(room("r"));
    delete.require_same(&NOTES, &"a".to_owned(), &"2".to_owned()).delete(&NOTES, &"a".to_owned());
    let mut empty = Commit::new(room("r"));
    empty.delete_all(&NOTES);
    let group = vec![
        replace("a", "0", "1"),
        replace("a", "0", "never"),
        replace("a", "1", "2"),
        delete,
        replace("a", "2", "never"),
        create("a", "3"),
        create("a", "never"),
        empty,
        create("a", "4"),
    ];
    let before = store.counters().groups;
    let answers = answers(as_one_group(&store, group).await).await;
    let good: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, false, true, true, false, true, false, true, true]);
    assert_eq!(store.counters().groups, before + 1);
    assert_eq!(read_note(&store, &room("r"), "a").await.as_deref(), Some("4"));
}

async fn one_of_many_racing_commits_wins(backend: impl Backend) {
    let store = open(&backend).await;
    let racers: Vec<_> = (0..50)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(create("place", &number.to_string())).await })
        })
        .collect();
    let mut winners = Vec::new();
    for (number, racer) in racers.into_iter().enumerate() {
        match racer.await.unwrap() {
            Ok(_) => winners.push(number.to_string()),
            Err(error) => assert_eq!(error, CommitError::Conflict),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(read_note(&store, &room("r"), "place").await, winners.pop());
}

async fn a_barrier_can_have_conditions(backend: impl Backend) {
    let store = open(&backend).await;
    let mut barrier = Commit::new(room("r"));
    barrier.require_absent(&NOTES, &"a".to_owned());
    assert_eq!(store.commit(barrier).await, Ok(Position::START));
    write_note(&store, &room("r"), "a", "one").await;
    let mut barrier = Commit::new(room("r"));
    barrier.require_absent(&NOTES, &"a".to_owned());
    assert_eq!(store.commit(barrier).await, Err(CommitError::Conflict));
}

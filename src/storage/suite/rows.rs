//! Rows: what is put is there, in its home, in order, and nothing else is.

use crate::storage::{
    Caching, Change, ChangeKind, Commit, CommitError, Direction, Effect, Home, HomeKind, KeyRange, Keyspace, Limit,
    Place, Position, Profile, StorageError, Store, Value,
    commit::{COMMIT_BYTES_MAX, COMMIT_CHANGE_BYTES_MAX, COMMIT_ROWS_MAX, KEY_BYTES_MAX},
    key::hex,
    range::Page,
    suite::{
        Backend, CARDS, LINES, NOTES, Rocks, WHERE, for_each_backend, note, open, person, read_note, room, room_id,
        user_id, write_note,
    },
    value::VALUE_BYTES_MAX,
};

for_each_backend!(
    a_commit_is_there_as_a_whole,
    what_was_acknowledged_is_there_after_reopening,
    many_keys_are_answered_in_their_order,
    scans_go_both_ways_and_stop_at_their_limits,
    scans_stay_in_their_range,
    homes_do_not_see_each_other,
    all_homes_are_scanned_page_by_page,
    prefixes_are_deleted_in_their_home_only,
    what_a_deletion_frees_is_weighed,
    a_row_of_another_kind_of_home_is_refused,
    what_is_too_large_is_refused,
    the_largest_commit_is_accepted,
    damaged_rows_are_errors_that_name_them,
    an_older_value_is_required_in_its_newest_form,
    a_closed_store_refuses_and_can_be_opened_again,
);

async fn a_commit_is_there_as_a_whole(backend: impl Backend) {
    let store = open(&backend).await;
    let home = room("r");
    write_note(&store, &home, "old", "goes").await;
    let mut commit = note(&home, "a", "one");
    commit.put(&NOTES, &"b".to_owned(), &"two".to_owned()).delete(&NOTES, &"old".to_owned());
    commit.put_content(&WHERE, &7, &"here".to_owned());
    let position = store.commit(commit).await.unwrap();
    assert_eq!(store.position(), position);
    assert_eq!(read_note(&store, &home, "a").await.as_deref(), Some("one"));
    assert_eq!(read_note(&store, &home, "b").await.as_deref(), Some("two"));
    assert_eq!(read_note(&store, &home, "old").await, None);
    assert_eq!(store.get(&WHERE, &Home::content(), &7).await.unwrap().as_deref(), Some("here"));
}

async fn what_was_acknowledged_is_there_after_reopening(backend: impl Backend) {
    let home = room("r");
    let store = open(&backend).await;
    write_note(&store, &home, "a", "one").await;
    let position = store.position();
    store.close().await.unwrap();
    // Without a clean end: only the handle goes.
    let store = open(&backend).await;
    assert_eq!(store.position(), position);
    write_note(&store, &home, "b", "two").await;
    let later = store.position();
    assert!(later.has_reached(position) && !position.has_reached(later));
    store.close().await.unwrap();
    let store = open(&backend).await;
    assert_eq!(store.position(), later);
    assert_eq!(read_note(&store, &home, "a").await.as_deref(), Some("one"));
    assert_eq!(read_note(&store, &home, "b").await.as_deref(), Some("two"));
    assert_eq!(store.feed(Position::START, Limit::max()).await.unwrap().len(), 2);
}

async fn many_keys_are_answered_in_their_order(backend: impl Backend) {
    let store = open(&backend).await;
    let home = room("r");
    let mut commit = Commit::new(home.clone());
    for number in 0..200 {
        commit.put(&NOTES, &format!("{number:03}"), &number.to_string());
    }
    store.commit(commit).await.unwrap();
    for count in [0, 1, 3, 150] {
        let mut keys: Vec<_> = (0..count).rev().map(|number| format!("{number:03}")).collect();
        keys.insert(keys.len() / 2, "missing".to_owned());
        let expected: Vec<_> =
            keys.iter().map(|key| key.parse::<u64>().ok().map(|number| number.to_string())).collect();
        assert_eq!(store.get_many(&NOTES, &home, &keys).await.unwrap(), expected);
    }
}

/// Two people's lines: alice at 1 to 5, bob at -2 to 2.
async fn with_lines(backend: &impl Backend) -> (Store, Home) {
    let store = open(backend).await;
    let home = room("r");
    let mut commit = Commit::new(home.clone());
    for place in 1..=5 {
        commit.put(&LINES, &(user_id("alice"), Place(place, 0)), &place.unsigned_abs());
    }
    for place in -2..=2 {
        commit.put(&LINES, &(user_id("bob"), Place(place, 0)), &(place + 102).unsigned_abs());
    }
    store.commit(commit).await.unwrap();
    (store, home)
}

fn values(page: &Page<(ruma::OwnedUserId, Place), u64>) -> (Vec<u64>, bool) {
    (page.rows.iter().map(|(_, value)| *value).collect(), page.more)
}

async fn scans_go_both_ways_and_stop_at_their_limits(backend: impl Backend) {
    let (store, home) = with_lines(&backend).await;
    let all = [1, 2, 3, 4, 5, 100, 101, 102, 103, 104];
    for (direction, limit, expected, more) in [
        (Direction::Up, Limit::max(), &all[..], false),
        (Direction::Up, Limit::rows(10), &all[..], false),
        (Direction::Up, Limit::rows(3), &all[..3], true),
        (Direction::Up, Limit::max().bytes(0), &all[..1], true),
    ] {
        let page = store.scan(&LINES, &home, KeyRange::all(), direction, limit).await.unwrap();
        assert_eq!(values(&page), (expected.to_vec(), more), "{limit:?}");
        let page = store.scan(&LINES, &home, KeyRange::all(), Direction::Down, limit).await.unwrap();
        let expected: Vec<_> = all.iter().rev().take(expected.len()).copied().collect();
        assert_eq!(values(&page), (expected, more), "{limit:?} down");
    }
    let one_row = 24 + 1 + 20;
    let page =
        store.scan(&LINES, &home, KeyRange::all(), Direction::Up, Limit::max().bytes(2 * one_row)).await.unwrap();
    assert!(page.more && page.rows.len() < all.len(), "the limit in bytes ends the page: {}", page.rows.len());
}

async fn scans_stay_in_their_range(backend: impl Backend) {
    let (store, home) = with_lines(&backend).await;
    let alice = |place| (user_id("alice"), Place(place, 0));
    let bob = KeyRange::prefix(&user_id("bob"));
    for (range, expected) in [
        (KeyRange::prefix(&user_id("alice")), &[1, 2, 3, 4, 5][..]),
        (KeyRange::prefix(&user_id("alic")), &[]),
        (bob.clone(), &[100, 101, 102, 103, 104]),
        (bob.clone().after(&(user_id("bob"), Place(0, 0))), &[103, 104]),
        (bob.clone().from(&(user_id("bob"), Place(0, 0))), &[102, 103, 104]),
        (bob.before(&(user_id("bob"), Place(-1, 0))), &[100]),
        (KeyRange::all().from(&alice(2)).before(&alice(4)), &[2, 3]),
        (KeyRange::all().after(&alice(2)).through(&alice(4)), &[3, 4]),
        (KeyRange::all().from(&alice(4)).before(&alice(2)), &[]),
        (KeyRange::all().from(&alice(2)).before(&alice(2)), &[]),
    ] {
        let page = store.scan(&LINES, &home, range.clone(), Direction::Up, Limit::max()).await.unwrap();
        assert_eq!(values(&page).0, expected, "{range:?}");
        let page = store.scan(&LINES, &home, range.clone(), Direction::Down, Limit::max()).await.unwrap();
        assert_eq!(values(&page).0.into_iter().rev().collect::<Vec<_>>(), expected, "{range:?} down");
    }
}

async fn homes_do_not_see_each_other(backend: impl Backend) {
    let store = open(&backend).await;
    let homes = [room("a"), room("ab"), room("b")];
    for home in &homes {
        write_note(&store, home, "key", &format!("{home:?}")).await;
    }
    for home in &homes {
        let page = store.scan(&NOTES, home, KeyRange::all(), Direction::Up, Limit::max()).await.unwrap();
        assert_eq!(page.rows, [("key".to_owned(), format!("{home:?}"))]);
    }
}

async fn all_homes_are_scanned_page_by_page(backend: impl Backend) {
    let store = open(&backend).await;
    for name in ["a", "b", "c"] {
        let mut commit = note(&room(name), "1", name);
        commit.put(&NOTES, &"2".to_owned(), &name.to_owned());
        store.commit(commit).await.unwrap();
    }
    let (mut found, mut last) = (Vec::new(), None);
    loop {
        let after = last.as_ref().map(|(home, key)| (home, key));
        let page = store.scan_homes(&NOTES, after, Limit::rows(4)).await.unwrap();
        found.extend(page.rows.iter().map(|(home, key, text)| (home.as_room(), key.clone(), text.clone())));
        last = page.rows.last().map(|(home, key, _)| (home.clone(), key.clone()));
        if !page.more {
            break;
        }
    }
    let row = |name: &str, key: &str| (Some(room_id(name)), key.to_owned(), name.to_owned());
    assert_eq!(found, [row("a", "1"), row("a", "2"), row("b", "1"), row("b", "2"), row("c", "1"), row("c", "2")]);
}

async fn prefixes_are_deleted_in_their_home_only(backend: impl Backend) {
    let (store, home) = with_lines(&backend).await;
    let other = room("other");
    let mut commit = Commit::new(other.clone());
    commit.put(&LINES, &(user_id("alice"), Place(1, 0)), &9);
    store.commit(commit).await.unwrap();
    let mut commit = Commit::new(home.clone());
    commit.put(&LINES, &(user_id("alice"), Place(8, 0)), &8);
    commit.delete_prefix(&LINES, &user_id("alice"));
    commit.put(&LINES, &(user_id("alice"), Place(7, 0)), &7);
    store.commit(commit).await.unwrap();
    let all =
        async |home| values(&store.scan(&LINES, home, KeyRange::all(), Direction::Up, Limit::max()).await.unwrap()).0;
    assert_eq!(all(&home).await, [7, 100, 101, 102, 103, 104]);
    assert_eq!(all(&other).await, [9]);
    let mut commit = Commit::new(home.clone());
    commit.delete_all(&LINES);
    store.commit(commit).await.unwrap();
    assert!(all(&home).await.is_empty());
    assert_eq!(all(&other).await, [9]);
    store.close().await.unwrap();
    let store = open(&backend).await;
    let page = store.scan_homes(&LINES, None, Limit::max()).await.unwrap();
    assert_eq!(page.rows, [(other, (user_id("alice"), Place(1, 0)), 9)]);
}

async fn what_a_deletion_frees_is_weighed(backend: impl Backend) {
    let store = open(&backend).await;
    let home = room("r");
    write_note(&store, &home, "a", "one").await;
    write_note(&store, &home, "b", "three").await;
    write_note(&store, &room("other"), "a", "one").await;
    // A text is stored behind its version and its length.
    let bytes = |key: &str, text: &str| NOTES.row_key(&home, &key.to_owned()).bytes.len() + 2 + text.len();
    let mut one = Commit::new(home.clone());
    one.delete(&NOTES, &"a".to_owned()).delete(&NOTES, &"missing".to_owned()).put(
        &NOTES,
        &"b".to_owned(),
        &"x".to_owned(),
    );
    assert_eq!(usize::try_from(store.weigh(&one).await.unwrap()).unwrap(), bytes("a", "one"));
    let mut all = Commit::new(home.clone());
    all.delete_all(&NOTES);
    let weight = store.weigh(&all).await.unwrap();
    assert_eq!(usize::try_from(weight).unwrap(), bytes("a", "one") + bytes("b", "three"));
    store.commit(all).await.unwrap();
    let mut again = Commit::new(home.clone());
    again.delete_all(&NOTES);
    assert_eq!(store.weigh(&again).await.unwrap(), 0);
}

async fn a_row_of_another_kind_of_home_is_refused(backend: impl Backend) {
    let store = open(&backend).await;
    let (home, key, text) = (room("r"), "k".to_owned(), "t".to_owned());
    let mistakes: [fn(&mut Commit); 6] = [
        |commit| {
            commit.put(&CARDS, &room_id("r"), &String::new());
        },
        |commit| {
            commit.delete(&CARDS, &room_id("r"));
        },
        |commit| {
            commit.delete_all(&CARDS);
        },
        |commit| {
            commit.require_absent(&CARDS, &room_id("r"));
        },
        |commit| {
            commit.put_content(&CARDS, &room_id("r"), &String::new());
        },
        |commit| {
            commit.effect(Effect::new(person("alice")).put(&NOTES, &String::new(), &String::new()));
        },
    ];
    for mistake in mistakes {
        let mut commit = Commit::new(home.clone());
        commit.put(&NOTES, &key, &text);
        mistake(&mut commit);
        assert!(matches!(store.commit(commit).await, Err(CommitError::Invalid(_))));
    }
    assert_eq!(read_note(&store, &home, &key).await, None);
    assert_eq!(store.position(), Position::START);
    let wrong = StorageError::WrongHome { keyspace: "CARDS", wants: HomeKind::Person, got: HomeKind::Room };
    assert_eq!(store.get(&CARDS, &home, &room_id("r")).await, Err(wrong.clone()));
    assert_eq!(store.scan(&CARDS, &home, KeyRange::all(), Direction::Up, Limit::max()).await, Err(wrong));
}

async fn what_is_too_large_is_refused(backend: impl Backend) {
    let store = open(&backend).await;
    let home = room("r");
    let text = |bytes| "x".repeat(bytes);
    let mut too_large = vec![note(&home, "value", &text(VALUE_BYTES_MAX)), note(&home, &text(KEY_BYTES_MAX), "key")];
    let mut rows = Commit::new(home.clone());
    for number in 0..=COMMIT_ROWS_MAX {
        rows.put(&NOTES, &number.to_string(), &String::new());
    }
    let mut bytes = Commit::new(home.clone());
    for number in 0..=COMMIT_BYTES_MAX / 50_000 {
        bytes.put(&NOTES, &number.to_string(), &text(50_000));
    }
    let mut changes = Commit::new(home.clone());
    for _ in 0..=COMMIT_CHANGE_BYTES_MAX / crate::storage::changes::CHANGE_BYTES {
        changes.change(ChangeKind::Events, 1);
    }
    let mut effect = Commit::new(home.clone());
    effect.effect(Effect::new(person("alice")).put(&CARDS, &room_id("r"), &text(VALUE_BYTES_MAX / 2)));
    too_large.extend([rows, bytes, changes, effect]);
    for commit in too_large {
        assert_eq!(store.commit(commit).await, Err(CommitError::TooLarge));
    }
    assert_eq!(store.position(), Position::START);
}

async fn the_largest_commit_is_accepted(backend: impl Backend) {
    let store = open(&backend).await;
    let home = room("r");
    let mut commit = Commit::new(home.clone());
    let per_row = COMMIT_BYTES_MAX / COMMIT_ROWS_MAX - 32;
    for number in 0..COMMIT_ROWS_MAX {
        commit.put(&NOTES, &format!("{number:04}"), &"x".repeat(per_row));
    }
    let mut change = Change { home: home.clone(), kind: ChangeKind::Events, about: None, first: 0, number: 0 };
    change.number = u64::try_from(COMMIT_CHANGE_BYTES_MAX / change.bytes()).unwrap() - 1;
    for number in 0..=change.number {
        commit.change(ChangeKind::Events, number);
    }
    store.commit(commit).await.unwrap();
    assert_eq!(read_note(&store, &home, "0999").await.map(|text| text.len()), Some(per_row));
    let feed = store.feed(Position::START, Limit::max()).await.unwrap();
    assert_eq!(feed[0].changes, [change]);
}

async fn damaged_rows_are_errors_that_name_them(backend: impl Backend) {
    let store = open(&backend).await;
    let home = room("r");
    write_note(&store, &home, "a", "one").await;
    let row = NOTES.row_key(&home, &"a".to_owned());
    for bytes in [vec![], vec![1], vec![9, 3, b'o', b'n', b'e'], vec![1, 200, b'o'], vec![1, 1, 0xff]] {
        backend.damage(row.clone(), bytes);
        let errors = [
            store.get(&NOTES, &home, &"a".to_owned()).await.err(),
            store.scan(&NOTES, &home, KeyRange::all(), Direction::Up, Limit::max()).await.err(),
        ];
        for error in errors {
            match error.unwrap() {
                StorageError::Corrupt { keyspace, key, .. } => {
                    assert_eq!((keyspace, key), ("NOTES", hex(&row.bytes)));
                }
                other => panic!("{other}"),
            }
        }
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Topic {
    text: String,
    by: Option<String>,
}
impl Value for Topic {
    const VERSION: u8 = 2;

    fn upgrade(_version: u8, fields: &[u8]) -> Result<Self, crate::storage::value::BadValue> {
        Ok(Self { text: crate::storage::value::fields(fields)?, by: None })
    }
}

async fn an_older_value_is_required_in_its_newest_form(backend: impl Backend) {
    /// The keyspace of the notes, as a newer server sees it.
    static TOPICS: Keyspace<String, Topic> = Keyspace::new(200, "NOTES", HomeKind::Room, Profile::Rows);
    let store = open(&backend).await;
    let home = room("r");
    write_note(&store, &home, "a", "old form").await;
    let key = "a".to_owned();
    let topic = store.get(&TOPICS, &home, &key).await.unwrap().unwrap();
    assert_eq!((topic.text.as_str(), &topic.by), ("old form", &None));
    let other = Topic { text: "old form".to_owned(), by: Some("alice".to_owned()) };
    let mut commit = Commit::new(home.clone());
    commit.require_same(&TOPICS, &key, &other).delete(&TOPICS, &key);
    assert_eq!(store.commit(commit).await, Err(CommitError::Conflict));
    let mut commit = Commit::new(home.clone());
    commit.require_same(&TOPICS, &key, &topic).put(&TOPICS, &key, &other);
    store.commit(commit).await.unwrap();
    assert_eq!(store.get(&TOPICS, &home, &key).await.unwrap().unwrap().by.as_deref(), Some("alice"));
}

async fn a_closed_store_refuses_and_can_be_opened_again(backend: impl Backend) {
    let store = open(&backend).await;
    let home = room("r");
    let permit = store.reserve().await.unwrap();
    let late = tokio::spawn({
        let (store, home) = (store.clone(), home.clone());
        async move {
            let mut closing = std::pin::pin!(store.close());
            // A permit that was given before the end still counts.
            assert!(futures_pending(closing.as_mut()).await);
            let pending = permit.submit(note(&home, "a", "one"));
            closing.await.unwrap();
            pending.await
        }
    });
    late.await.unwrap().unwrap();
    assert_eq!(store.reserve().await.err(), Some(StorageError::Closed));
    assert!(matches!(store.commit(note(&home, "b", "two")).await, Err(CommitError::Unavailable(_))));
    assert_eq!(store.get(&NOTES, &home, &"a".to_owned()).await, Err(StorageError::Closed));
    store.close().await.unwrap();
    let store = open(&backend).await;
    assert_eq!(read_note(&store, &home, "a").await.as_deref(), Some("one"));
}

/// Gives the future one look; whether it is still unfinished.
async fn futures_pending(mut future: std::pin::Pin<&mut impl Future>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

#[tokio::test]
async fn rows_read_in_passing_drive_nothing_out_of_the_cache() {
    let backend = Rocks::default();
    let (home, value) = (room("r"), "felt and poles ".repeat(300));
    let keys: Vec<String> = (0..200).map(|number| format!("{number:03}")).collect();
    let store = open(&backend).await;
    for key in &keys {
        write_note(&store, &home, key, &value).await;
    }
    store.close().await.unwrap();
    // What a process finds at its start lies in files.
    let store = open(&backend).await;
    let empty = store.usage().shared_cache_bytes;
    let size = u64::try_from(value.len() * keys.len()).unwrap();
    for (caching, keeps) in [(Caching::Pass, false), (Caching::Keep, true)] {
        for key in &keys {
            assert_eq!(store.get_caching(&NOTES, &home, key, caching).await.unwrap().as_ref(), Some(&value));
        }
        let grown = store.usage().shared_cache_bytes - empty;
        assert_eq!(grown > size / 2, keeps, "{caching:?}: {grown} of {size}");
    }
}

//! Whole numbers for rooms and people, for clients whose ids are numbers. One is given at the first question, and to nothing else ever after. Rooms that such
//! clients make have one from the beginning.

use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;
use ruma::{OwnedRoomId, RoomId, UserId};
use tokio::sync::OnceCell;

use super::{ActionError, Actions};
use crate::storage::{
    Commit, Direction, Effect, Home, KeyRange, Limit,
    keyspaces::{NUMBERED, NUMBERS},
};

/// Rooms that live in memory are numbered from here on, in memory too: nothing durable names them. JSON readers hold numbers up to 2^53 exactly.
pub const IN_MEMORY_FROM: u64 = 1 << 52;
/// Numbers that are kept in memory.
const KNOWN_MAX: usize = 100_000;

/// The numbers in memory.
pub struct Numbers {
    known: Cache<String, u64>,
    /// Behind the last one that is on disk or under way.
    next: OnceCell<AtomicU64>,
    in_memory_next: AtomicU64,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { known: Cache::new(KNOWN_MAX), next: OnceCell::new(), in_memory_next: AtomicU64::new(IN_MEMORY_FROM) }
    }
}

/// The number of a room.
///
/// # Errors
/// When storage cannot be read or written.
pub async fn of_room(actions: &Actions, room_id: &RoomId) -> Result<u64, ActionError> {
    let is_in_memory = actions.incognito_rooms.read().contains(room_id);
    of(actions, room_id.as_str(), is_in_memory).await
}

/// The number of a person.
///
/// # Errors
/// When storage cannot be read or written.
pub async fn of_person(actions: &Actions, user_id: &UserId) -> Result<u64, ActionError> {
    of(actions, user_id.as_str(), false).await
}

/// The room with this number, whether or not it is there any more.
///
/// # Errors
/// When storage cannot be read.
pub async fn room(actions: &Actions, number: u64) -> Result<Option<OwnedRoomId>, ActionError> {
    let store = if number < IN_MEMORY_FROM { &actions.store } else { &actions.incognito };
    let name = store.get(&NUMBERED, &Home::server(), &number).await?;
    Ok(name.and_then(|name| RoomId::parse(name).ok()))
}

/// Numbers a room that is being made: it has its number with the commit that this goes with.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn of_new_room(actions: &Actions, room_id: &RoomId) -> Result<Effect, ActionError> {
    let name = room_id.to_string();
    // An earlier try may have failed.
    let number = match actions.numbers.known.get(&name) {
        Some(number) => number,
        None => next(actions).await?,
    };
    let effect = Effect::new(Home::server()).put(&NUMBERED, &number, &name).put(&NUMBERS, &name, &number);
    actions.numbers.known.insert(name, number);
    Ok(effect)
}

async fn of(actions: &Actions, name: &str, is_in_memory: bool) -> Result<u64, ActionError> {
    if let Some(number) = actions.numbers.known.get(name) {
        return Ok(number);
    }
    let store = if is_in_memory { &actions.incognito } else { &actions.store };
    let (home, key) = (Home::server(), name.to_owned());
    let _gate = actions.gates.enter("numbers", name).await?;
    let number = match store.get(&NUMBERS, &home, &key).await? {
        Some(number) => number,
        None => {
            let number = match is_in_memory {
                true => actions.numbers.in_memory_next.fetch_add(1, Ordering::Relaxed),
                false => next(actions).await?,
            };
            let mut commit = Commit::new(home);
            commit.require_absent(&NUMBERED, &number).put(&NUMBERED, &number, &key).put(&NUMBERS, &key, &number);
            store.commit(commit).await?;
            number
        }
    };
    actions.numbers.known.insert(key, number);
    Ok(number)
}

/// A number that nothing has.
async fn next(actions: &Actions) -> Result<u64, ActionError> {
    let behind_the_last = async || {
        let (home, last) = (Home::server(), Limit::rows(1));
        let page = actions.store.scan(&NUMBERED, &home, KeyRange::all(), Direction::Down, last).await?;
        Ok::<_, ActionError>(AtomicU64::new(page.rows.first().map_or(1, |(last, _)| last + 1)))
    };
    Ok(actions.numbers.next.get_or_try_init(behind_the_last).await?.fetch_add(1, Ordering::Relaxed))
}

//! Whole numbers for rooms and people, for clients whose ids are numbers. One is given at the first question, and to nothing else ever after.

use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;
use ruma::{OwnedRoomId, RoomId, UserId};

use super::{ActionError, Actions};
use crate::storage::{
    Commit, Direction, Home, KeyRange, Limit,
    keyspaces::{NUMBERED, NUMBERS},
};

/// Rooms that live in memory are numbered from here on, in memory too: nothing durable names them. JSON readers hold numbers up to 2^53 exactly.
pub const IN_MEMORY_FROM: u64 = 1 << 52;
/// Numbers that are kept in memory.
const KNOWN_MAX: usize = 100_000;

/// The numbers in memory.
pub struct Numbers {
    known: Cache<String, u64>,
    in_memory_next: AtomicU64,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { known: Cache::new(KNOWN_MAX), in_memory_next: AtomicU64::new(IN_MEMORY_FROM) }
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

async fn of(actions: &Actions, name: &str, is_in_memory: bool) -> Result<u64, ActionError> {
    if let Some(number) = actions.numbers.known.get(name) {
        return Ok(number);
    }
    let store = if is_in_memory { &actions.incognito } else { &actions.store };
    let (home, name) = (Home::server(), name.to_owned());
    let _gate = actions.gates.enter("numbers", "").await?;
    let number = match store.get(&NUMBERS, &home, &name).await? {
        Some(number) => number,
        None => {
            let number = if is_in_memory {
                actions.numbers.in_memory_next.fetch_add(1, Ordering::Relaxed)
            } else {
                let last = store.scan(&NUMBERED, &home, KeyRange::all(), Direction::Down, Limit::rows(1)).await?;
                last.rows.first().map_or(1, |(last, _)| last + 1)
            };
            let mut commit = Commit::new(home);
            commit.require_absent(&NUMBERED, &number).put(&NUMBERED, &number, &name).put(&NUMBERS, &name, &number);
            store.commit(commit).await?;
            number
        }
    };
    actions.numbers.known.insert(name, number);
    Ok(number)
}

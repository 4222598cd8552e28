//! One writer for each room, and what is kept of hot rooms in memory. A store with several owners replaces only this file.
//!
//! A lane is held while an event is built and handed to the committer, never while the disk or the network is waited for. What was handed over and is not
//! yet durable is remembered in the lane ([`Underway`]), so that the next writer builds on it; readers see only what is durable ([`Room::view`]).

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use rules::{event::Event, precedents::Precedents, state::StateKey};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use tokio::sync::OwnedMutexGuard;

use super::{error::ActionError, view::RoomView};
use crate::storage::{
    Commit, Home, Keyspace, StateRoot, StorageError, Store, key::Key, keyspace::RowKey, value::Value,
};

/// Writers that may wait for one room. More: the next one is told that the server is busy.
pub const LANE_WAITERS_MAX: usize = 1_024;
/// How long a writer waits for its turn.
pub const LANE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Rooms kept in memory. More: those longest unused are forgotten.
pub const ROOMS_MAX: usize = 20_000;
/// Events of the current state that a lane keeps at hand.
const KNOWN_STATE_MAX: usize = 1_024;
/// Merged states that a lane keeps at hand.
const MERGED_MAX: usize = 64;

/// One room in memory.
pub struct Room {
    /// Its id.
    pub id: OwnedRoomId,
    /// Its rows.
    pub home: Home,
    /// Where they are.
    pub store: Store,
    lane: Arc<tokio::sync::Mutex<Working>>,
    waiting: AtomicUsize,
    published: RwLock<Published>,
    durable: AtomicU64,
    failed: AtomicU64,
    used: AtomicU64,
    hidden: AtomicBool,
}

/// What readers see.
#[derive(Default)]
struct Published {
    /// The room as it stands on disk; none: not read yet, or no longer certain.
    view: Option<Arc<RoomView>>,
    /// How often it ceased to be certain.
    failures: u64,
}

/// What only the holder of the lane sees: the room with everything that was handed to the committer.
#[derive(Default)]
pub struct Working {
    /// The room as it will be; none: not loaded yet.
    pub view: Option<Arc<RoomView>>,
    /// Events of the current state, or that there is none.
    known: HashMap<StateKey, Option<Arc<Event>>>,
    /// How many messages of their own people have sent.
    own: HashMap<OwnedUserId, u64>,
    /// States that were merged, and what they make together.
    merged: HashMap<BTreeSet<StateRoot>, StateRoot>,
    /// Events that were allowed by what they lean on, for others like them.
    pub precedents: Precedents,
    /// Rows that are not durable yet.
    pub pending: Underway,
    /// The last commit before the lane started anew: what becomes of those up to it no longer matters here.
    reset_at: u64,
}

impl Working {
    /// Forgets everything but how many commits there were.
    fn start_anew(&mut self) {
        let last = self.pending.last;
        *self = Self { pending: Underway { last, ..Underway::default() }, reset_at: last, ..Self::default() };
    }

    /// The last commit before the lane started anew.
    pub fn reset_at(&self) -> u64 {
        self.reset_at
    }

    /// The event of the current state, if the lane has it at hand.
    pub fn known(&self, key: &StateKey) -> Option<&Option<Arc<Event>>> {
        self.known.get(key)
    }

    /// Keeps an event of the current state at hand.
    pub fn keep(&mut self, key: StateKey, event: Option<Arc<Event>>) {
        if self.known.len() >= KNOWN_STATE_MAX {
            self.known.clear();
        }
        self.known.insert(key, event);
    }

    /// What these states make together, if the lane has it at hand.
    pub fn merged(&self, states: &BTreeSet<StateRoot>) -> Option<StateRoot> {
        self.merged.get(states).copied()
    }

    /// Keeps at hand what states make together. Its nodes are on disk or under way.
    pub fn keep_merged(&mut self, merged: HashMap<BTreeSet<StateRoot>, StateRoot>) {
        if self.merged.len() + merged.len() > MERGED_MAX {
            self.merged.clear();
        }
        self.merged.extend(merged.into_iter().take(MERGED_MAX));
    }

    /// How many messages of their own a person has sent, if the lane has it at hand.
    pub fn own_messages(&self, user_id: &UserId) -> Option<&u64> {
        self.own.get(user_id)
    }

    /// Keeps counts of own messages at hand. They are forgotten only when all of them are on disk.
    pub fn keep_own(&mut self, own: HashMap<OwnedUserId, u64>) {
        if self.own.len() >= KNOWN_STATE_MAX && self.pending.rows.is_empty() {
            self.own.clear();
        }
        self.own.extend(own);
    }
}

/// Rows of the room that were handed to the committer and may not be on disk yet: reads in the lane look here first.
#[derive(Default)]
pub struct Underway {
    rows: HashMap<RowKey, (u64, PendingRow)>,
    commits: VecDeque<(u64, Vec<RowKey>)>,
    last: u64,
}

/// The bytes that a commit under way writes; none: it deletes the row.
pub type PendingRow = Option<Vec<u8>>;

impl Underway {
    /// Everything is durable.
    pub fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    /// The row, if a commit under way writes it; the inner none means that it deletes it.
    ///
    /// # Errors
    /// Never for what [`Underway::push`] was given.
    pub fn get<K: Key, V: Value>(
        &self,
        keyspace: &Keyspace<K, V>,
        home: &Home,
        key: &K,
    ) -> Result<Option<Option<V>>, StorageError> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let row_key = keyspace.row_key(home, key);
        let Some((_, row)) = self.rows.get(&row_key) else { return Ok(None) };
        row.as_ref().map(|bytes| keyspace.read_value(&row_key.bytes, bytes)).transpose().map(Some)
    }

    /// Remembers the rows of a commit that is being handed over; answers its number.
    pub fn push(&mut self, commit: &Commit) -> u64 {
        self.last += 1;
        let mut keys = Vec::new();
        for (key, value) in commit.rows() {
            keys.push(key.clone());
            self.rows.insert(key.clone(), (self.last, value.map(<[u8]>::to_vec)));
        }
        self.commits.push_back((self.last, keys));
        self.last
    }

    /// Forgets the rows of commits up to that number: they are durable.
    fn settle(&mut self, durable: u64) {
        while self.commits.front().is_some_and(|(number, _)| *number <= durable) {
            let Some((number, keys)) = self.commits.pop_front() else { return };
            for key in keys {
                if self.rows.get(&key).is_some_and(|(last, _)| *last == number) {
                    self.rows.remove(&key);
                }
            }
        }
    }
}

impl Room {
    fn new(id: &RoomId, store: Store) -> Self {
        Self {
            id: id.to_owned(),
            home: Home::room(id),
            store,
            lane: Arc::default(),
            waiting: AtomicUsize::new(0),
            published: RwLock::default(),
            durable: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            used: AtomicU64::new(0),
            hidden: AtomicBool::new(false),
        }
    }

    /// From now on the room is as if it did not exist, for all but whoever makes it.
    pub fn hide(&self) {
        self.hidden.store(true, Ordering::Release);
    }

    /// The room is made: everybody finds it.
    pub fn show(&self) {
        self.hidden.store(false, Ordering::Release);
    }

    /// It is being made, and nobody finds it.
    pub fn is_hidden(&self) -> bool {
        self.hidden.load(Ordering::Acquire)
    }

    /// Waits for the room's lane.
    ///
    /// # Errors
    /// [`ActionError::Busy`] when too many wait already, or the turn does not come in time.
    pub async fn enter(&self) -> Result<OwnedMutexGuard<Working>, ActionError> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= LANE_WAITERS_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(ActionError::Busy);
        }
        let waiting = Waiting(&self.waiting);
        let turn = tokio::time::timeout(LANE_WAIT_MAX, Arc::clone(&self.lane).lock_owned()).await;
        drop(waiting);
        let mut working = turn.map_err(|_elapsed| ActionError::Busy)?;
        if self.failed.load(Ordering::Acquire) > working.reset_at {
            working.start_anew();
        }
        working.pending.settle(self.durable.load(Ordering::Acquire));
        Ok(working)
    }

    /// The room as it stands on disk; none: it does not exist, or is being made.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn view(&self) -> Result<Option<Arc<RoomView>>, ActionError> {
        if self.is_hidden() {
            return Ok(None);
        }
        self.view_even_hidden().await
    }

    /// [`Room::view`], for whoever makes it.
    ///
    /// # Errors
    /// As [`Room::view`].
    pub async fn view_even_hidden(&self) -> Result<Option<Arc<RoomView>>, ActionError> {
        let failures = {
            let published = self.published.read();
            if let Some(view) = &published.view {
                return Ok(Some(Arc::clone(view)));
            }
            published.failures
        };
        let Some(loaded) = RoomView::load(&self.store, &self.home).await? else { return Ok(None) };
        let loaded = Arc::new(loaded);
        let mut published = self.published.write();
        // What was read before a failure was known may not be what the failure left.
        if published.failures != failures {
            return Ok(Some(loaded));
        }
        Ok(Some(Arc::clone(published.view.get_or_insert(loaded))))
    }

    /// Called by the committer when a commit is on disk: readers see the new room, and the lane may forget the rows. A picture that was built on a commit that
    /// failed since the lane started anew (`reset_at`) may show what is on no disk: the room is read again.
    pub fn published(&self, number: u64, reset_at: u64, view: Arc<RoomView>) {
        self.durable.fetch_max(number, Ordering::AcqRel);
        if self.failed.load(Ordering::Acquire) > reset_at {
            return self.failed(number);
        }
        self.published.write().view = Some(view);
    }

    /// Called by the committer when it is not certain that a commit came to pass: readers and the next writer start from the disk. What was built on the failed
    /// commit fails as well; the lane starts anew only once for all of them.
    pub fn failed(&self, number: u64) {
        self.unpublish();
        self.failed.fetch_max(number, Ordering::AcqRel);
    }

    /// Forgets what is known of a room whose rows were deleted by the holder of the lane.
    pub fn forget(&self, working: &mut Working) {
        working.start_anew();
        self.unpublish();
    }

    fn unpublish(&self) {
        let mut published = self.published.write();
        published.view = None;
        published.failures += 1;
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The rooms in memory. A room that somebody holds is never forgotten, so no room has two lanes.
#[derive(Default)]
pub struct Rooms {
    rooms: Mutex<HashMap<OwnedRoomId, Arc<Room>>>,
    ticks: AtomicU64,
}

impl Rooms {
    /// The room, whether or not it exists on disk.
    pub fn get(&self, id: &RoomId, store: &Store) -> Arc<Room> {
        let tick = self.ticks.fetch_add(1, Ordering::Relaxed);
        let mut rooms = self.rooms.lock();
        if let Some(room) = rooms.get(id) {
            room.used.store(tick, Ordering::Relaxed);
            return Arc::clone(room);
        }
        if rooms.len() >= ROOMS_MAX {
            forget_unused(&mut rooms);
        }
        let room = Arc::new(Room::new(id, store.clone()));
        room.used.store(tick, Ordering::Relaxed);
        rooms.insert(id.to_owned(), Arc::clone(&room));
        room
    }
}

impl Rooms {
    /// How many rooms are in memory, and how many writers wait for their lanes.
    pub fn figures(&self) -> (usize, usize) {
        let rooms = self.rooms.lock();
        (rooms.len(), rooms.values().map(|room| room.waiting.load(Ordering::Relaxed)).sum())
    }

    /// Forgets a room that is no more.
    pub fn remove(&self, id: &RoomId) {
        self.rooms.lock().remove(id);
    }
}

/// Forgets the less recently used half of the rooms that nobody holds.
fn forget_unused(rooms: &mut HashMap<OwnedRoomId, Arc<Room>>) {
    let mut used: Vec<u64> = rooms.values().map(|room| room.used.load(Ordering::Relaxed)).collect();
    used.sort_unstable();
    let middle = used.get(used.len() / 2).copied().unwrap_or(0);
    rooms.retain(|_, room| room.used.load(Ordering::Relaxed) > middle || Arc::strong_count(room) > 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S2S 14 merged states are kept.
    #[test]
    fn a_merged_state_is_at_hand_whatever_the_order_until_the_lane_starts_anew() {
        let roots: Vec<StateRoot> = (1..=3_u64)
            .map(|row| {
                serde_json::from_value(serde_json::json!({"node": {"row": row, "index": 0}, "height": 1})).unwrap()
            })
            .collect();
        let states = |numbers: [usize; 2]| numbers.map(|number| roots[number]).into_iter().collect::<BTreeSet<_>>();
        let mut working = Working::default();
        working.keep_merged([(states([0, 1]), roots[2])].into());
        assert_eq!(working.merged(&states([1, 0])), Some(roots[2]));
        assert_eq!(working.merged(&states([0, 2])), None);
        working.start_anew();
        assert_eq!(working.merged(&states([0, 1])), None);
    }

    #[test]
    fn no_more_merged_states_are_kept_than_a_lane_may_hold() {
        let root = |row: usize| -> StateRoot {
            serde_json::from_value(serde_json::json!({"node": {"row": row, "index": 0}, "height": 1})).unwrap()
        };
        let mut working = Working::default();
        for row in 0..3 * MERGED_MAX {
            working.keep_merged([([root(row), root(row + 1)].into(), root(0))].into());
            assert!(working.merged.len() <= MERGED_MAX && working.merged(&[root(row), root(row + 1)].into()).is_some());
        }
        let many = (0..2 * MERGED_MAX).map(|row| ([root(row), root(row + 1)].into(), root(0))).collect();
        working.keep_merged(many);
        assert!(working.merged.len() <= MERGED_MAX);
    }
}

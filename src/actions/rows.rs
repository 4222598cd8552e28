//! Reading a room: its rows, its events and any of its states, either as they are on disk or as the holder of the lane sees them.

use std::sync::Arc;

use rules::{
    event::Event,
    state::{StateKey, StateMap},
    version::Version,
};
use ruma::{EventId, OwnedRoomId, UserId, events::StateEventType};

use super::{Page, Window, error::ActionError, lane::Underway};
use crate::storage::{
    Arrival, Caching, Commit, Direction, Home, KeyRange, Keyspace, Limit, Place, StateRoot, StateTree, Store,
    history::StoredEvent,
    key::Key,
    keyspaces::{EVENT_IDS, EVENTS, OWN_MESSAGES, STATE_KEYS},
    value::Value,
};

/// The rows of one room.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// Where they are.
    pub store: &'a Store,
    /// Whose they are.
    pub home: &'a Home,
    /// What the holder of the lane is about to write.
    pub staged: Option<&'a Commit>,
    /// What earlier holders have handed to the committer.
    pub pending: Option<&'a Underway>,
    /// What reading them leaves in caches.
    pub caching: Caching,
}

impl<'a> Rows<'a> {
    /// The rows as they are on disk.
    pub fn on_disk(store: &'a Store, home: &'a Home) -> Self {
        Self { store, home, staged: None, pending: None, caching: Caching::Keep }
    }

    /// The same rows, of which so many are read that they would drive out of the caches what others want.
    #[must_use]
    pub fn in_passing(self) -> Self {
        Self { caching: Caching::Pass, ..self }
    }

    /// One row.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn get<K: Key, V: Value>(&self, keyspace: &Keyspace<K, V>, key: &K) -> Result<Option<V>, ActionError> {
        self.get_in(self.home, keyspace, key).await
    }

    async fn get_in<K: Key, V: Value>(
        &self,
        home: &Home,
        keyspace: &Keyspace<K, V>,
        key: &K,
    ) -> Result<Option<V>, ActionError> {
        if let Some(staged) = self.staged
            && let Some(value) = staged.written(keyspace, home, key)?
        {
            return Ok(value);
        }
        if let Some(pending) = self.pending
            && let Some(value) = pending.get(keyspace, home, key)?
        {
            return Ok(value);
        }
        Ok(self.store.get_caching(keyspace, home, key, self.caching).await?)
    }

    /// The event with this number.
    ///
    /// # Errors
    /// When storage cannot be read or the room lacks the event.
    pub async fn event(&self, version: &Version, arrival: Arrival) -> Result<(StoredEvent, Arc<Event>), ActionError> {
        let Some(stored) = self.get(&EVENTS, &arrival).await? else {
            return Err(ActionError::internal(format!("{:?} lacks its event {arrival:?}", self.home)));
        };
        let event = read(&stored, self.home, version)?;
        Ok((stored, Arc::new(event)))
    }

    /// The number of an event of this room; none: this room does not hold it.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn arrival_of(&self, event_id: &EventId) -> Result<Option<Arrival>, ActionError> {
        let at = self.get_in(&Home::content(), &EVENT_IDS, &event_id.to_owned()).await?;
        Ok(at.filter(|at| Home::room(&at.room_id) == *self.home).map(|at| at.arrival))
    }

    /// The event is held, and where it stands in the room is known.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn is_in_room(&self, event_id: &EventId) -> Result<bool, ActionError> {
        let Some(arrival) = self.arrival_of(event_id).await? else { return Ok(false) };
        Ok(self.get(&EVENTS, &arrival).await?.is_some_and(|stored| stored.standing.is_in_room()))
    }

    /// The room of an event, if any room here holds it.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn room_of(&self, event_id: &EventId) -> Result<Option<OwnedRoomId>, ActionError> {
        let at = self.get_in(&Home::content(), &EVENT_IDS, &event_id.to_owned()).await?;
        Ok(at.map(|at| at.room_id))
    }

    /// How many messages of their own a person has sent, up to a place or in all.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn own_messages(&self, user_id: &UserId, through: Option<Place>) -> Result<u64, ActionError> {
        let user_id = user_id.to_owned();
        let mut range = KeyRange::prefix(&user_id);
        if let Some(place) = through {
            range = range.through(&(user_id, place));
        }
        let page = self.store.scan(&OWN_MESSAGES, self.home, range, Direction::Down, Limit::rows(1)).await?;
        Ok(page.rows.first().map_or(0, |(_, own)| *own))
    }

    /// The event of a state, by type and key.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn state_event(
        &self,
        version: &Version,
        root: StateRoot,
        event_type: &str,
        state_key: &str,
    ) -> Result<Option<Arc<Event>>, ActionError> {
        let key = (event_type.to_owned(), state_key.to_owned());
        let Some(number) = self.get(&STATE_KEYS, &key).await? else { return Ok(None) };
        let Some(arrival) = StateTree::new(self.store, self.home.clone()).get(root, number).await? else {
            return Ok(None);
        };
        Ok(Some(self.event(version, arrival).await?.1))
    }

    /// The events of a state for these keys; keys without an event are left out.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn state_events(
        &self,
        version: &Version,
        root: StateRoot,
        keys: &[StateKey],
    ) -> Result<StateMap<Arc<Event>>, ActionError> {
        let mut events = StateMap::new();
        for (event_type, state_key) in keys {
            let found = self.state_event(version, root, &event_type.to_string(), state_key).await?;
            if let Some(event) = found {
                events.insert((event_type.clone(), state_key.clone()), event);
            }
        }
        Ok(events)
    }
}

/// The event that a row holds.
///
/// # Errors
/// When the row is damaged.
pub fn read(stored: &StoredEvent, home: &Home, version: &Version) -> Result<Event, ActionError> {
    let room_id = home.as_room().ok_or_else(|| ActionError::internal("an event outside of a room"))?;
    let is_rejected = stored.standing.is_rejected();
    Event::from_stored(stored.event_id.clone(), room_id, version, stored.json.clone(), is_rejected)
        .map_err(|error| ActionError::internal(format!("event {}: {error}", stored.event_id)))
}

/// The key of a state event in the rules' words.
pub fn state_key(event_type: &str, state_key: &str) -> StateKey {
    (StateEventType::from(event_type), state_key.to_owned())
}

/// Rows that one step of [`page`] reads at least: those that are not wanted are read too.
const PAGE_STEP_MIN: usize = 100;

/// A page of the rows of a home that are wanted, in the order of their keys, and how many are wanted in all. Where that is known, nothing behind the page is
/// read; skipping costs a read of what is skipped. Where it is not, every row of the home is read, a part at a time.
///
/// # Errors
/// When storage cannot be read.
pub async fn page<K: Key + Clone, V: Value>(
    store: &Store,
    keyspace: &Keyspace<K, V>,
    home: &Home,
    direction: Direction,
    is_wanted: impl Fn(&V) -> bool,
    total: Option<usize>,
    window: Window,
) -> Result<Page<(K, V)>, ActionError> {
    let (mut entries, mut seen, mut rest) = (Vec::new(), 0, KeyRange::all());
    while total.is_none_or(|total| seen < window.end().min(total)) {
        let step = if total.is_some() { (window.end() - seen).max(PAGE_STEP_MIN) } else { Limit::ROWS_MAX };
        let part = store.scan(keyspace, home, rest.clone(), direction, Limit::rows(step)).await?;
        let last = part.rows.last().map(|(last, _)| last.clone());
        for row in part.rows.into_iter().filter(|(_, value)| is_wanted(value)) {
            if window.holds(seen) {
                entries.push(row);
            }
            seen += 1;
        }
        match last {
            Some(last) if part.more => rest = rest.past(&last, direction),
            _ => break,
        }
    }
    Ok(Page { entries, total: total.unwrap_or(seen) })
}

/// All rows of a home in a range: for lists that are short by their nature, and for start-up.
///
/// # Errors
/// When storage cannot be read.
pub async fn all<K: Key + Clone, V: Value>(
    store: &Store,
    keyspace: &Keyspace<K, V>,
    home: &Home,
    range: KeyRange<K>,
) -> Result<Vec<(K, V)>, ActionError> {
    let mut rows = Vec::new();
    let mut rest = range;
    loop {
        let page = store.scan(keyspace, home, rest.clone(), Direction::Up, Limit::max()).await?;
        let last = page.rows.last().map(|(last, _)| last.clone());
        rows.extend(page.rows);
        match last {
            Some(last) if page.more => rest = rest.after(&last),
            _ => return Ok(rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ruma::OwnedUserId;

    use super::*;
    use crate::storage::{StoreOptions, keyspaces::OWN_MESSAGES, memory::MemoryEngine};

    #[tokio::test]
    async fn a_page_has_what_is_wanted_wherever_it_lies() {
        const ROWS: i64 = 1_000;
        let home = Home::room(ruma::room_id!("!a:a.example"));
        let store = Store::open(Arc::new(MemoryEngine::new()), StoreOptions::default()).await.unwrap();
        let person = OwnedUserId::try_from("@a:a.example").unwrap();
        let mut commit = Commit::new(home.clone());
        for number in 0..ROWS {
            commit.put(&OWN_MESSAGES, &(person.clone(), Place(number, 0)), &u64::from(number % 250 == 3));
        }
        store.commit(commit).await.unwrap();
        let is_wanted = |value: &u64| *value == 1;
        for total in [None, Some(4)] {
            for (offset, limit, expected) in [
                (0, 10, &[3, 253, 503, 753][..]),
                (1, 2, &[253, 503]),
                (3, 1, &[753]),
                (4, 10, &[]),
                (usize::MAX, 10, &[]),
            ] {
                let window = Window { offset, limit };
                let page = page(&store, &OWN_MESSAGES, &home, Direction::Up, is_wanted, total, window).await.unwrap();
                let found: Vec<i64> = page.entries.iter().map(|((_, place), _)| place.0).collect();
                assert_eq!((found.as_slice(), page.total), (expected, 4), "{window:?} {total:?}");
            }
        }
    }
}

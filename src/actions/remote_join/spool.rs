//! Events of an answer that may be larger than memory: the first are kept there, the rest on disk, in rows that go when the room is entered or given up.

use std::{collections::HashMap, sync::Arc};

use rules::{event::Event, version::Version};
use ruma::{OwnedEventId, OwnedRoomId, RoomId};

use crate::{
    actions::{
        ActionError, Actions,
        append::{Telling, Told},
        rows,
    },
    storage::{
        Commit, Direction, Effect, Home, KeyRange, Limit,
        keyspaces::{ENTERING, ENTERING_ROOMS},
    },
};

/// Bytes of events that are kept in memory.
pub(super) const MEMORY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes and events of one commit.
const COMMIT_BYTES: usize = 384 * 1024;
const COMMIT_EVENTS_MAX: usize = 500;

/// Events of one room by id, as text.
pub(super) struct Spool {
    actions: Actions,
    room_id: OwnedRoomId,
    version: Version,
    memory: HashMap<OwnedEventId, String>,
    bytes: usize,
    is_on_disk: bool,
}

impl Spool {
    pub(super) fn new(actions: &Actions, room_id: &RoomId, version: Version) -> Self {
        let (actions, room_id) = (actions.clone(), room_id.to_owned());
        Self { actions, room_id, version, memory: HashMap::new(), bytes: 0, is_on_disk: false }
    }

    fn home(&self) -> Home {
        Home::room(&self.room_id)
    }

    /// Keeps an event, in the place of what was kept under its id.
    ///
    /// # Errors
    /// When storage cannot be written.
    pub(super) async fn put(&mut self, event_id: &OwnedEventId, text: String) -> Result<(), ActionError> {
        self.bytes += text.len();
        if let Some(former) = self.memory.insert(event_id.clone(), text) {
            self.bytes -= former.len();
        }
        if self.bytes <= MEMORY_BYTES_MAX {
            return Ok(());
        }
        self.bytes = 0;
        let (mut commit, mut bytes, mut events) = (self.begin(), 0, 0);
        for (event_id, text) in std::mem::take(&mut self.memory) {
            bytes += text.len();
            events += 1;
            commit.put(&ENTERING, &event_id, &text);
            if bytes >= COMMIT_BYTES || events >= COMMIT_EVENTS_MAX {
                let full = std::mem::replace(&mut commit, self.begin());
                self.actions.store.commit(full).await?;
                (bytes, events) = (0, 0);
            }
        }
        self.actions.store.commit(commit).await?;
        Ok(())
    }

    /// A commit of this room's rows. With the first of them stands that there are some.
    fn begin(&mut self) -> Commit {
        let mut commit = Commit::new(self.home());
        if !std::mem::replace(&mut self.is_on_disk, true) {
            commit.effect(Effect::new(Home::server()).put(&ENTERING_ROOMS, &self.room_id, &()));
        }
        commit
    }

    /// The text of an event.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub(super) async fn get(&self, event_id: &OwnedEventId) -> Result<Option<String>, ActionError> {
        if let Some(text) = self.memory.get(event_id) {
            return Ok(Some(text.clone()));
        }
        if !self.is_on_disk {
            return Ok(None);
        }
        Ok(self.actions.store.get(&ENTERING, &self.home(), event_id).await?)
    }

    /// An event that was checked.
    ///
    /// # Errors
    /// When it is not kept, or storage cannot be read.
    pub(super) async fn event(&self, event_id: &OwnedEventId) -> Result<Arc<Event>, ActionError> {
        let text = self.get(event_id).await?;
        let text = text.ok_or_else(|| ActionError::internal("an event of the answer is gone"))?;
        let event = Event::from_stored(event_id.clone(), self.room_id.clone(), &self.version, text, false);
        Ok(Arc::new(event.map_err(ActionError::internal)?))
    }

    /// Removes what was written to disk.
    ///
    /// # Errors
    /// When storage cannot be written.
    pub(super) async fn clear(self) -> Result<(), ActionError> {
        if self.is_on_disk { clear(&self.actions, &self.room_id).await } else { Ok(()) }
    }
}

impl Told for Spool {
    fn events<'a>(&'a self, ids: &'a [OwnedEventId]) -> Telling<'a> {
        Box::pin(async move {
            let mut events = Vec::with_capacity(ids.len());
            for id in ids {
                events.push(self.event(id).await?);
            }
            Ok(events)
        })
    }
}

/// Removes what was kept of an answer.
async fn clear(actions: &Actions, room_id: &OwnedRoomId) -> Result<(), ActionError> {
    let (home, limit) = (Home::room(room_id), Limit::rows(COMMIT_EVENTS_MAX));
    loop {
        let page = actions.store.scan(&ENTERING, &home, KeyRange::all(), Direction::Up, limit).await?;
        let mut commit = Commit::new(home.clone());
        for (event_id, _) in &page.rows {
            commit.delete(&ENTERING, event_id);
        }
        if !page.more {
            commit.effect(Effect::new(Home::server()).delete(&ENTERING_ROOMS, room_id));
        }
        actions.store.commit(commit).await?;
        if !page.more {
            return Ok(());
        }
    }
}

/// Removes what a crash has left behind: an answer that was not read to its end is asked for again.
///
/// # Errors
/// When storage cannot be read or written.
pub(in crate::actions) async fn clear_all(actions: &Actions) -> Result<(), ActionError> {
    for (room_id, ()) in rows::all(&actions.store, &ENTERING_ROOMS, &Home::server(), KeyRange::all()).await? {
        clear(actions, &room_id).await?;
    }
    Ok(())
}

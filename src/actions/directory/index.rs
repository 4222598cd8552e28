//! The listed rooms of a tenant in memory, sorted as the directory shows them: read from disk at the first question, then kept up to date by the rooms'
//! commits. A question costs what it asks for, and no reading of rooms that are not on its page.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};

use parking_lot::Mutex;
use rules::kind::RoomKind;
use ruma::{OwnedRoomId, RoomId};

use super::Search;
use crate::{
    actions::{ActionError, Actions, Page, Window, rows, summary},
    storage::{
        Home, KeyRange,
        history::Summary,
        keyspaces::{ROOMS, SUMMARY},
    },
};

/// Changes that wait for the next question. More: the rooms are read from disk again.
const CHANGES_MAX: usize = 10_000;

/// The listed rooms. About 400 bytes for each; nothing before the first question.
#[derive(Default)]
pub struct Index {
    listed: tokio::sync::Mutex<Option<Listed>>,
    changes: Mutex<Changes>,
}

/// What commits have said since the last question.
#[derive(Default)]
struct Changes {
    /// False: nothing is kept, so that the next question reads from disk.
    are_kept: bool,
    rooms: Vec<(OwnedRoomId, Option<Shown>)>,
}

/// What the directory sorts and finds a room by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The name in lower case, by which rooms are sorted.
    pub name: Box<str>,
    /// Name, topic and alias in lower case.
    text: Box<str>,
    kind: RoomKind,
}

impl Shown {
    /// What of a room counts here.
    pub fn of(summary: &Summary) -> Self {
        let lower = |text: &Option<String>| text.as_deref().unwrap_or_default().to_lowercase();
        let name = lower(&summary.name);
        // No query has this character, so that none finds the end of one text and the beginning of the next.
        let text = [name.as_str(), &lower(&summary.topic), &lower(&summary.alias)].join("\u{0}");
        Self { name: name.into(), text: text.into(), kind: summary.kind }
    }

    /// The room is what somebody looks for.
    pub fn matches(&self, search: &Search) -> bool {
        let has_text = |text: &String| self.text.contains(text.to_lowercase().as_str());
        search.kind.is_none_or(|kind| kind == self.kind) && search.text.as_ref().is_none_or(has_text)
    }
}

/// Where a room stands in the list: its name in lower case, then its id.
pub(in crate::actions) type Position = (Box<str>, OwnedRoomId);

/// Where a walk through the list begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::actions) enum Start {
    /// With the first room.
    Beginning,
    /// Behind this one.
    After(Position),
    /// Before this one, and back.
    Before(Position),
}

#[derive(Default)]
struct Listed {
    by_name: BTreeMap<Position, Shown>,
    names: HashMap<OwnedRoomId, Box<str>>,
}

impl Listed {
    fn set(&mut self, room_id: OwnedRoomId, shown: Option<Shown>) {
        if let Some(name) = self.names.remove(&room_id) {
            self.by_name.remove(&(name, room_id.clone()));
        }
        if let Some(shown) = shown {
            self.names.insert(room_id.clone(), shown.name.clone());
            self.by_name.insert((shown.name.clone(), room_id), shown);
        }
    }

    async fn read(actions: &Actions) -> Result<Self, ActionError> {
        let mut listed = Self::default();
        for (room_id, listing) in rows::all(actions.store(), &ROOMS, &Home::server(), KeyRange::all()).await? {
            if !listing.is_listed {
                continue;
            }
            let summary = actions.store().get(&SUMMARY, &Home::room(&room_id), &()).await?;
            listed.set(room_id, summary.as_ref().and_then(shown));
        }
        Ok(listed)
    }
}

/// A listed room as the directory shows it; none: it is not listed.
fn shown(summary: &Summary) -> Option<Shown> {
    summary::is_listed(summary).then(|| Shown::of(summary))
}

/// A change of what the directory shows, on its way to the disk.
pub struct Relisted {
    index: Arc<Index>,
    room_id: OwnedRoomId,
    shown: Option<Shown>,
}

impl Relisted {
    /// What the directory will show of a room instead of what it showed; none: the same.
    pub fn of(actions: &Actions, room_id: &RoomId, before: Option<&Arc<Summary>>, now: &Arc<Summary>) -> Option<Self> {
        if before.is_some_and(|before| Arc::ptr_eq(before, now)) {
            return None;
        }
        let showed = before.and_then(|before| shown(before));
        let shown = shown(now);
        let change =
            || Self { index: Arc::clone(&actions.directory), room_id: room_id.to_owned(), shown: shown.clone() };
        (showed != shown).then(change)
    }

    /// Called by the committer. When it is not certain that the change came to pass, the next question reads from disk.
    pub fn tell(self, is_written: bool) {
        if is_written {
            self.index.change(&self.room_id, self.shown);
        } else {
            *self.index.changes.lock() = Changes::default();
        }
    }
}

impl Index {
    /// A page of the listed rooms that are looked for and of the caller's own ones, and how many those are in all.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub(super) async fn page(
        &self,
        actions: &Actions,
        own: Vec<(OwnedRoomId, Shown)>,
        search: &Search,
        window: Window,
    ) -> Result<Page<OwnedRoomId>, ActionError> {
        let mut held = self.listed.lock().await;
        let listed = self.up_to_date(actions, &mut held).await?;
        let mut own: Vec<_> = own.into_iter().filter(|(room_id, _)| !listed.names.contains_key(room_id)).collect();
        own.sort_by(|(a, shown_a), (b, shown_b)| (&shown_a.name, a).cmp(&(&shown_b.name, b)));
        let mut own = own.iter().map(|(room_id, shown)| (&shown.name, room_id)).peekable();
        let own_count = own.len();
        let is_all = search.text.is_none() && search.kind.is_none();
        let matching = || listed.by_name.iter().filter(|(_, shown)| is_all || shown.matches(search));
        let total = own_count + if is_all { listed.by_name.len() } else { matching().count() };
        let mut others = matching().map(|((name, room_id), _)| (name, room_id)).peekable();
        let merged = std::iter::from_fn(|| match (own.peek(), others.peek()) {
            (Some(ours), Some(other)) if ours < other => own.next(),
            (_, Some(_)) => others.next(),
            (_, None) => own.next(),
        });
        Ok(Page { entries: window.of(merged).map(|(_, room_id)| room_id.clone()).collect(), total })
    }

    /// The listed rooms that are looked for, from one on, with the names that they are sorted by; and about how many there are in all.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub(in crate::actions) async fn walk(
        &self,
        actions: &Actions,
        search: &Search,
        from: &Start,
        rooms_max: usize,
    ) -> Result<(Vec<Position>, usize), ActionError> {
        let mut held = self.listed.lock().await;
        let listed = self.up_to_date(actions, &mut held).await?;
        let is_all = search.text.is_none() && search.kind.is_none();
        let matches = |shown: &Shown| is_all || shown.matches(search);
        let total =
            if is_all { listed.by_name.len() } else { listed.by_name.values().filter(|shown| matches(shown)).count() };
        let found = |rows: &mut dyn Iterator<Item = (&Position, &Shown)>| {
            let rows = rows.filter(|(_, shown)| matches(shown));
            rows.take(rooms_max).map(|(position, _)| position.clone()).collect()
        };
        let rooms = match from {
            Start::Beginning => found(&mut listed.by_name.iter()),
            Start::After(position) => {
                found(&mut listed.by_name.range((Bound::Excluded(position.clone()), Bound::Unbounded)))
            }
            Start::Before(position) => found(&mut listed.by_name.range(..position.clone()).rev()),
        };
        Ok((rooms, total))
    }

    async fn up_to_date<'a>(
        &self,
        actions: &Actions,
        held: &'a mut Option<Listed>,
    ) -> Result<&'a mut Listed, ActionError> {
        let (were_kept, changed) = {
            let mut changes = self.changes.lock();
            let were_kept = std::mem::replace(&mut changes.are_kept, true);
            (were_kept, std::mem::take(&mut changes.rooms))
        };
        if !were_kept {
            *held = None;
        }
        let listed = match held.take() {
            Some(mut listed) => {
                changed.into_iter().for_each(|(room_id, shown)| listed.set(room_id, shown));
                listed
            }
            // What changes from here on is kept, and laid over what is read by the next question.
            None => Listed::read(actions).await?,
        };
        Ok(held.insert(listed))
    }

    /// A room is no more.
    pub fn remove(&self, room_id: &RoomId) {
        self.change(room_id, None);
    }

    fn change(&self, room_id: &RoomId, shown: Option<Shown>) {
        let mut changes = self.changes.lock();
        if changes.rooms.len() >= CHANGES_MAX {
            *changes = Changes::default();
        }
        if changes.are_kept {
            changes.rooms.push((room_id.to_owned(), shown));
        }
    }
}

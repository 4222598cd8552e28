//! The timeline of a room that follows another one: behind its beginning it goes on into that room, as far as its members may read there. What joins the two is a
//! row that an import wrote; what an event says of a predecessor joins nothing.

use std::sync::Arc;

use rules::permission::Membership;
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId};

use super::{
    ActionError, Actions, Caller,
    lane::Room,
    members::membership,
    rooms,
    rows::Rows,
    timeline::{self, EventView, Reader, TimelinePage},
    view::RoomView,
};
use crate::storage::{
    Arrival, Direction, Home, KeyRange, Limit, Place,
    keyspaces::{NAMED_MEDIA, SEAM, SEAM_EVENTS},
    media::Sha256,
};

/// Events that name a medium and are looked at for one that the reader may see.
const NAMING_EVENTS_MAX: usize = 100;
/// What the places of the former room begin with: it sorts before all others.
const FORMER: &str = "-";

/// A place in a timeline that may go on into a former room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// In the former room.
    Former(Place),
    /// In the room itself.
    Here(Place),
}

impl At {
    /// A string that sorts like the place.
    #[must_use]
    pub fn to_token(self) -> String {
        match self {
            Self::Here(place) => place.to_token(),
            Self::Former(place) => format!("{FORMER}{}", place.to_token()),
        }
    }

    /// The place that a string from [`At::to_token`] stands for; `None` for every other string.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        match token.strip_prefix(FORMER) {
            Some(token) => Place::from_token(token).map(Self::Former),
            None => Place::from_token(token).map(Self::Here),
        }
    }
}

/// A page of a timeline, those of the former room included.
#[derive(Debug, Default)]
pub struct Page {
    /// The events, in the direction that was asked for.
    pub events: Vec<(At, EventView)>,
    /// Where the next page begins; none: there is nothing further.
    pub next: Option<At>,
    /// Where history is not held right before an event, in the order of the events.
    pub gaps: Vec<(At, OwnedEventId)>,
}

impl Page {
    fn add(&mut self, page: TimelinePage, at: fn(Place) -> At) {
        self.events.extend(page.events.into_iter().map(|view| (at(view.place), view)));
        self.next = page.next.map(at);
        self.gaps.extend(page.gaps.into_iter().map(|hole| (at(hole.place), hole.event_id)));
    }
}

/// The events of the former room that belong to the past of the room that follows it: those that its importer has brought, not all that is held there.
pub(super) struct Past<'a> {
    successor: Rows<'a>,
    /// None are named: a server that named none has written the seam, and all up to its end belong to it.
    is_named: bool,
    /// Those in a row that were found last.
    last: parking_lot::Mutex<Option<(Arrival, Arrival)>>,
}

impl<'a> Past<'a> {
    fn of(former: &'a Former) -> Self {
        let Former { successor, is_named, .. } = former;
        let rows = Rows::on_disk(&successor.store, &successor.home);
        Self { successor: rows, is_named: *is_named, last: parking_lot::Mutex::default() }
    }

    /// The event of the former room is one of them.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub(super) async fn has(&self, former: &Rows<'_>, event_id: &EventId) -> Result<bool, ActionError> {
        if !self.is_named {
            return Ok(true);
        }
        let Some(arrival) = former.arrival_of(event_id).await? else { return Ok(false) };
        let is_in = |(first, last): (Arrival, Arrival)| first <= arrival && arrival <= last;
        if self.last.lock().is_some_and(is_in) {
            return Ok(true);
        }
        let (range, limit) = (KeyRange::all().through(&arrival), Limit::rows(1));
        let Rows { store, home, .. } = self.successor;
        let page = store.scan(&SEAM_EVENTS, home, range, Direction::Down, limit).await?;
        let Some(found) = page.rows.first().copied().filter(|found| is_in(*found)) else { return Ok(false) };
        *self.last.lock() = Some(found);
        Ok(true)
    }
}

/// The room before one, for a joined member of it.
struct Former {
    room: Arc<Room>,
    view: Arc<RoomView>,
    until: Place,
    successor: Arc<Room>,
    is_named: bool,
}

impl Former {
    /// None: there is none, or it is not for the caller.
    async fn find(actions: &Actions, caller: &Caller, reference: &str) -> Result<Option<Self>, ActionError> {
        // Whoever reads another room pays nothing for this: a room that follows one says so in its create event, which is in memory.
        let follows =
            rooms::locate(actions, reference).await?.view().await?.is_some_and(|view| view.names_predecessor());
        if !follows {
            return Ok(None);
        }
        let opened = rooms::open(actions, caller, reference).await?;
        if membership(opened.member.as_ref()) != Membership::Join {
            return Ok(None);
        }
        let Some(seam) = opened.room.store.get(&SEAM, &opened.room.home, &()).await? else { return Ok(None) };
        let (successor, any) = (opened.room, Limit::rows(1));
        let named = successor.store.scan(&SEAM_EVENTS, &successor.home, KeyRange::all(), Direction::Up, any).await?;
        let is_named = !named.rows.is_empty();
        let room = actions.room(&seam.room_id);
        let view = room.view().await?.filter(|_| !actions.is_purging(&seam.room_id));
        Ok(view.map(|view| Self { room, view, until: seam.until, successor, is_named }))
    }

    fn reader<'a>(&'a self, caller: &'a Caller, rows: &'a Rows<'a>) -> Reader<'a> {
        Reader::of_former(caller, rows, &self.view, (self.until, Past::of(self)))
    }

    /// Behind everything of it.
    fn end(&self) -> Place {
        Place(self.until.0.saturating_add(1), 0)
    }

    async fn page(
        &self,
        caller: &Caller,
        from: Option<Place>,
        direction: Direction,
        limit: usize,
    ) -> Result<TimelinePage, ActionError> {
        let rows = Rows::on_disk(&self.room.store, &self.room.home);
        let reader = self.reader(caller, &rows);
        let from = match direction {
            Direction::Down => Some(from.unwrap_or_else(|| self.end())),
            Direction::Up => from,
        };
        let mut page = timeline::held_page(&rows, &reader, from, direction, limit).await?;
        if direction == Direction::Up {
            page.next = page.next.filter(|next| *next < self.until);
        }
        Ok(page)
    }
}

/// A page of the timeline, behind a place in the direction of reading.
///
/// # Errors
/// A room of which the caller may not read.
pub async fn page(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    from: Option<At>,
    direction: Direction,
    limit: usize,
) -> Result<Page, ActionError> {
    let former = Former::find(actions, caller, reference).await?;
    let mut page = Page::default();
    match (former, direction) {
        (Some(former), Direction::Up) if !matches!(from, Some(At::Here(_))) => {
            let from = from.map(|(At::Here(place) | At::Former(place))| place);
            page.add(former.page(caller, from, direction, limit).await?, At::Former);
            match limit.checked_sub(page.events.len()).filter(|left| *left > 0) {
                Some(left) if page.next.is_none() => {
                    page.add(timeline::page(actions, caller, reference, None, direction, left).await?, At::Here);
                }
                _ => page.next = page.next.or(Some(At::Here(Place::BEFORE_ALL))),
            }
        }
        (Some(former), Direction::Down) => {
            let mut from_former = None;
            if let Some(At::Former(place)) = from {
                from_former = Some(place);
            } else {
                let from = from.map(|(At::Here(place) | At::Former(place))| place);
                page.add(timeline::page(actions, caller, reference, from, direction, limit).await?, At::Here);
            }
            match limit.checked_sub(page.events.len()).filter(|left| *left > 0) {
                Some(left) if page.next.is_none() => {
                    page.add(former.page(caller, from_former, direction, left).await?, At::Former);
                }
                _ => page.next = page.next.or_else(|| Some(At::Former(former.end()))),
            }
        }
        // A place in a former room that is there no longer, or not for the caller: there is nothing.
        (None, _) if matches!(from, Some(At::Former(_))) => {}
        (_, direction) => {
            let from = from.map(|(At::Here(place) | At::Former(place))| place);
            page.add(timeline::page(actions, caller, reference, from, direction, limit).await?, At::Here);
        }
    }
    Ok(page)
}

/// One event, of the room or of the one before it.
///
/// # Errors
/// As [`timeline::event`].
pub async fn event(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    event_id: &str,
) -> Result<(At, EventView), ActionError> {
    match timeline::event(actions, caller, reference, event_id).await {
        Err(ActionError::EventNotFound) => {}
        found => return found.map(|view| (At::Here(view.place), view)),
    }
    let former = Former::find(actions, caller, reference).await?.ok_or(ActionError::EventNotFound)?;
    let rows = Rows::on_disk(&former.room.store, &former.room.home);
    let reader = former.reader(caller, &rows);
    let view = reader.event(&timeline::parse_id(event_id)?).await?;
    Ok((At::Former(view.place), view))
}

/// The room before one of the caller's, if an event there that the caller may read names a medium of another server.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn room_naming(
    actions: &Actions,
    caller: &Caller,
    room_id: &RoomId,
    medium: &Sha256,
) -> Result<Option<OwnedRoomId>, ActionError> {
    if actions.store_of(room_id).get(&SEAM, &Home::room(room_id), &()).await?.is_none() {
        return Ok(None);
    }
    let Some(former) = Former::find(actions, caller, room_id.as_str()).await? else { return Ok(None) };
    let rows = Rows::on_disk(&former.room.store, &former.room.home);
    let reader = former.reader(caller, &rows);
    let (naming, limit) = (KeyRange::prefix(medium), Limit::rows(NAMING_EVENTS_MAX));
    let page = rows.store.scan(&NAMED_MEDIA, rows.home, naming, Direction::Up, limit).await?;
    for ((_, event_id), ()) in page.rows {
        match reader.event(&event_id).await {
            Ok(_) => return Ok(Some(former.room.id.clone())),
            Err(ActionError::EventNotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_the_former_room_come_before_all_others_and_read_back() {
        let places = [
            At::Former(Place::BEFORE_ALL),
            At::Former(Place(9, 0)),
            At::Here(Place::BEFORE_ALL),
            At::Here(Place::FIRST),
        ];
        let tokens: Vec<String> = places.iter().map(|place| place.to_token()).collect();
        assert!(places.is_sorted() && tokens.is_sorted(), "{tokens:?}");
        for (place, token) in places.iter().zip(&tokens) {
            assert_eq!(At::from_token(token), Some(*place));
        }
        assert_eq!((At::from_token("--"), At::from_token("")), (None, None));
    }
}

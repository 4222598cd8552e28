//! The messages of a room for clients that know events by whole numbers: the room's count of events in the order of their commit.

use rules::UnixMs;
use ruma::EventId;

use super::EventView;
use crate::{
    actions::{
        ActionError, Actions, Caller,
        append::is_message,
        rooms,
        rows::{self, Rows},
        view::RoomView,
    },
    storage::{
        Arrival, Direction, KeyRange, Limit, Place,
        history::StoredEvent,
        keyspaces::{EVENTS, MEMBERS, TIMELINE},
    },
};

/// Messages of one answer.
pub const MESSAGES_MAX: usize = 1_000;
/// Events that are looked at together.
const EVENTS_AT_A_TIME: usize = 200;
/// Events from the end of a room among which its newest message mostly is.
const LAST_EVENTS: usize = 10;

/// A message with its number.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// The number.
    pub number: u64,
    /// The message.
    pub view: EventView,
}

/// Messages of a room that were not redacted, oldest first: those up to and including the one with this number, or from it on; without a number the newest
/// or the oldest.
///
/// # Errors
/// A room of which the caller may not read; [`ActionError::EventNotFound`] for a number that none of its events has.
pub async fn messages(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    from: Option<u64>,
    direction: Direction,
    limit: usize,
) -> Result<Vec<Numbered>, ActionError> {
    let opened = rooms::open(actions, caller, reference).await?;
    let rows = Rows::on_disk(&opened.room.store, &opened.room.home);
    let mut at = match from {
        Some(number) => Some(beside(place_of(&rows, number).await?, direction)),
        None => None,
    };
    let mut found = Vec::new();
    loop {
        let page = super::page(actions, caller, opened.room.id.as_str(), at, direction, EVENTS_AT_A_TIME).await?;
        for view in page.events {
            if found.len() < limit && is_message(view.event.kind()) && view.redacted_by.is_none() {
                found.push(Numbered { number: number_of(&rows, view.event.event_id()).await?, view });
            }
        }
        at = page.next;
        if at.is_none() || found.len() >= limit {
            break;
        }
    }
    if direction == Direction::Down {
        found.reverse();
    }
    Ok(found)
}

async fn place_of(rows: &Rows<'_>, number: u64) -> Result<Place, ActionError> {
    let arrival = Arrival::new(number).ok_or(ActionError::EventNotFound)?;
    rows.get(&EVENTS, &arrival).await?.and_then(|stored| stored.place).ok_or(ActionError::EventNotFound)
}

/// The number of an event of the room.
///
/// # Errors
/// [`ActionError::EventNotFound`].
pub async fn number_of(rows: &Rows<'_>, event_id: &EventId) -> Result<u64, ActionError> {
    Ok(rows.arrival_of(event_id).await?.ok_or(ActionError::EventNotFound)?.get())
}

/// The place from which a page in this direction begins with that one.
fn beside(place: Place, direction: Direction) -> Place {
    match direction {
        Direction::Down => Place(place.0, place.1.saturating_add(1)),
        Direction::Up if place.1 > 0 => Place(place.0, place.1 - 1),
        Direction::Up => Place(place.0.saturating_sub(1), u32::MAX),
    }
}

/// The number of a message that somebody has just sent.
///
/// # Errors
/// When storage cannot be read.
pub async fn number_of_sent(actions: &Actions, reference: &str, event_id: &EventId) -> Result<u64, ActionError> {
    let room = rooms::locate(actions, reference).await?;
    number_of(&Rows::on_disk(&room.store, &room.home), event_id).await
}

/// Number and time of the newest message of a room, if there is one and the caller may see it.
///
/// # Errors
/// When storage cannot be read.
pub async fn newest(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    view: &RoomView,
) -> Result<Option<(u64, UnixMs)>, ActionError> {
    if view.tip.messages == 0 {
        return Ok(None);
    }
    let room = rooms::locate(actions, reference).await?;
    let rows = Rows::on_disk(&room.store, &room.home);
    let Some((arrival, stored)) = last_of(&rows, view).await? else { return Ok(None) };
    let event = rows::read(&stored, rows.home, &view.basis.version)?;
    if view.summary.history_was_narrow {
        let member = room.store.get(&MEMBERS, &room.home, &caller.user_id).await?;
        match super::visible(caller, &rows, view, member.as_ref(), event.event_id()).await {
            Err(ActionError::EventNotFound | ActionError::RoomForbidden { .. }) => return Ok(None),
            seen => drop(seen?),
        }
    }
    Ok(Some((arrival.get(), event.origin_server_ts())))
}

/// The newest live message. The live places have no gaps, and the count of messages up to each only grows.
async fn last_of(rows: &Rows<'_>, view: &RoomView) -> Result<Option<(Arrival, StoredEvent)>, ActionError> {
    let limit = Limit::rows(LAST_EVENTS);
    let page = rows.store.scan(&TIMELINE, rows.home, KeyRange::all(), Direction::Down, limit).await?;
    for (_, arrival) in page.rows {
        let Some(stored) = rows.get(&EVENTS, &arrival).await? else { continue };
        if is_message(rows::read(&stored, rows.home, &view.basis.version)?.kind()) {
            return Ok(Some((arrival, stored)));
        }
    }
    let (mut low, mut high) = (Place::FIRST.0, view.tip.next_place.0 - 1);
    let mut found = None;
    while low <= high {
        let middle = low + (high - low) / 2;
        let Some(arrival) = rows.get(&TIMELINE, &Place(middle, 0)).await? else { return Ok(found) };
        let Some(stored) = rows.get(&EVENTS, &arrival).await? else { return Ok(found) };
        if stored.messages >= view.tip.messages {
            high = middle - 1;
            found = Some((arrival, stored));
        } else {
            low = middle + 1;
        }
    }
    Ok(found)
}

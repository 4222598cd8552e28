//! Reading a room's events: pages of its timeline and single events, each as far as the reader may see it.

use std::{collections::HashMap, sync::Arc};

use rules::{
    event::Event,
    permission::Membership,
    visibility::{self, HistoryVisibility},
};
use ruma::{EventId, OwnedEventId, OwnedUserId};

use super::{
    ActionError, Actions, Caller,
    backfill::{self, Hole},
    members::membership,
    rooms,
    rows::{self, Rows},
    seam,
    view::RoomView,
};
use crate::storage::{
    Direction, KeyRange, Limit, Place, StateRoot,
    history::{Redaction, StoredEvent},
    keyspaces::{EVENTS, REDACTIONS, TIMELINE},
    members::Member,
};

pub mod numbered;

/// Events that one page looks at before it gives what it has found.
const LOOKED_AT_MAX: usize = 2_000;
/// Bytes of the events of one page, but for its first: a client that does not read must not hold much.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// An event as one reader sees it.
#[derive(Clone, Debug)]
pub struct EventView {
    /// The event; of a redacted one, what is left.
    pub event: Arc<Event>,
    /// Its place.
    pub place: Place,
    /// Who redacted it.
    pub redacted_by: Option<OwnedUserId>,
    /// The name its sender gave to the request; only for its sender.
    pub transaction_id: Option<String>,
}

/// A page of a timeline.
#[derive(Debug)]
pub struct TimelinePage {
    /// The events, in the direction that was asked for.
    pub events: Vec<EventView>,
    /// Where the next page begins; none: there is nothing further.
    pub next: Option<Place>,
    /// Where history is not held, in the order of the events.
    pub gaps: Vec<Hole>,
}

/// A page of the timeline, behind a place in the direction of reading.
///
/// # Errors
/// A room of which the caller may not read.
pub async fn page(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    from: Option<Place>,
    direction: Direction,
    limit: usize,
) -> Result<TimelinePage, ActionError> {
    let opened = rooms::open(actions, caller, reference).await?;
    let rows = Rows::on_disk(&opened.room.store, &opened.room.home);
    let reader = Reader::new(caller, &rows, &opened.view, opened.member.as_ref())?;
    let page = held_page(&rows, &reader, from, direction, limit).await?;
    let due = page.gaps.iter().find(|hole| direction == Direction::Down && backfill::is_due(actions, hole));
    let Some(due) = due else { return Ok(page) };
    backfill::for_reader(actions, &opened.room.id, due.place, limit).await;
    held_page(&rows, &reader, from, direction, limit).await
}

/// A page of what is held, with its holes.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn held_page(
    rows: &Rows<'_>,
    reader: &Reader<'_>,
    from: Option<Place>,
    direction: Direction,
    limit: usize,
) -> Result<TimelinePage, ActionError> {
    let page = held(rows, reader, from, direction, limit).await?;
    let gaps = gaps(reader, &page, from, direction).await?;
    Ok(TimelinePage { gaps, ..page })
}

/// The holes on a page: right before one of its events, or before the oldest event that is held. The reader may see what is behind them.
async fn gaps(
    reader: &Reader<'_>,
    page: &TimelinePage,
    from: Option<Place>,
    direction: Direction,
) -> Result<Vec<Hole>, ActionError> {
    let mut holes = backfill::holes(reader.rows).await?;
    let is_on_page = |hole: &Hole| match direction {
        Direction::Down => {
            from.is_none_or(|from| hole.place <= from) && page.next.is_none_or(|next| hole.place >= next)
        }
        Direction::Up => from.is_none_or(|from| hole.place > from) && page.next.is_none_or(|next| hole.place <= next),
    };
    holes.retain(is_on_page);
    if direction == Direction::Up {
        holes.reverse();
    }
    let mut gaps = Vec::with_capacity(holes.len());
    for hole in holes {
        let Some(arrival) = reader.rows.arrival_of(&hole.event_id).await? else { continue };
        let Some(stored) = reader.rows.get(&EVENTS, &arrival).await? else { continue };
        if reader.view(&stored, None).await?.is_some() {
            gaps.push(hole);
        }
    }
    Ok(gaps)
}

/// A page of what is held.
async fn held(
    rows: &Rows<'_>,
    reader: &Reader<'_>,
    from: Option<Place>,
    direction: Direction,
    limit: usize,
) -> Result<TimelinePage, ActionError> {
    let (mut events, mut at, mut looked_at, mut is_end) = (Vec::new(), from, 0, false);
    let (mut bytes, mut is_full) = (0, false);
    while events.len() <= limit && looked_at < LOOKED_AT_MAX && !is_end && !is_full {
        let range = at.map_or_else(KeyRange::all, |place| KeyRange::all().past(&place, direction));
        let wanted = Limit::rows(limit + 1 - events.len());
        let page = rows.store.scan(&TIMELINE, rows.home, range, direction, wanted).await?;
        let arrivals: Vec<_> = page.rows.iter().map(|(_, arrival)| *arrival).collect();
        let stored = rows.store.get_many(&EVENTS, rows.home, &arrivals).await?;
        let redactions = reader.redactions(&stored).await?;
        for (stored, redaction) in stored.iter().zip(redactions) {
            if let Some(stored) = stored {
                bytes += stored.json.len();
                // One event always fits.
                is_full = bytes > PAGE_BYTES_MAX && !events.is_empty();
                if is_full {
                    break;
                }
                events.extend(reader.view(stored, redaction).await?);
            }
        }
        looked_at += page.rows.len();
        at = page.rows.last().map(|(place, _)| *place).or(at);
        is_end = !page.more;
    }
    let is_cut = events.len() > limit;
    events.truncate(limit);
    let next = match events.last() {
        Some(last) if is_cut || is_full => Some(last.place),
        _ => at.filter(|_| !is_end),
    };
    Ok(TimelinePage { events, next, gaps: Vec::new() })
}

/// The id of an event; what is no id names none.
///
/// # Errors
/// [`ActionError::EventNotFound`].
pub fn parse_id(id: &str) -> Result<OwnedEventId, ActionError> {
    EventId::parse(id).ok().filter(|_| !id.contains('\0')).ok_or(ActionError::EventNotFound)
}

/// One event.
///
/// # Errors
/// As [`rooms::open`]; [`ActionError::EventNotFound`] alike for unknown and hidden events, and for what is no id.
pub async fn event(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    event_id: &str,
) -> Result<EventView, ActionError> {
    let opened = rooms::open(actions, caller, reference).await?;
    let event_id = parse_id(event_id)?;
    let rows = Rows::on_disk(&opened.room.store, &opened.room.home);
    visible(caller, &rows, &opened.view, opened.member.as_ref(), &event_id).await
}

/// One event of a room that is at hand.
///
/// # Errors
/// As [`event()`].
pub async fn visible(
    caller: &Caller,
    rows: &Rows<'_>,
    view: &RoomView,
    member: Option<&Member>,
    event_id: &EventId,
) -> Result<EventView, ActionError> {
    Reader::new(caller, rows, view, member)?.event(event_id).await
}

/// A stored event for whoever may see it, with its sender's name for the request; none: it is held but not shown.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn shown(
    rows: &Rows<'_>,
    room: &RoomView,
    stored: &StoredEvent,
) -> Result<Option<EventView>, ActionError> {
    let Some(place) = stored.place else { return Ok(None) };
    let event = rows::read(stored, rows.home, &room.basis.version)?;
    let redaction = match room.summary.redactions {
        0 => None,
        _ => rows.get(&REDACTIONS, &stored.event_id).await?,
    };
    as_shown(stored, event, place, redaction, room).map(Some)
}

fn as_shown(
    stored: &StoredEvent,
    event: Event,
    place: Place,
    redaction: Option<Redaction>,
    room: &RoomView,
) -> Result<EventView, ActionError> {
    let event = match &redaction {
        Some(_) => event.redacted(&room.basis.version).map_err(ActionError::internal)?,
        None => event,
    };
    Ok(EventView {
        event: Arc::new(event),
        place,
        redacted_by: redaction.map(|redaction| redaction.sender),
        transaction_id: stored.transaction_id.clone(),
    })
}

/// As whom somebody reads.
enum Eyes<'a> {
    /// As a present or former member.
    Member(&'a Member),
    /// As a member of the room that follows this one, up to a place.
    Successor { until: Place, past: seam::Past<'a> },
}

/// Somebody who reads a room.
pub struct Reader<'a> {
    user_id: &'a OwnedUserId,
    rows: &'a Rows<'a>,
    room: &'a RoomView,
    eyes: Eyes<'a>,
    sees_all: bool,
    known: parking_lot::Mutex<HashMap<StateRoot, (HistoryVisibility, Membership)>>,
}

impl<'a> Reader<'a> {
    /// A reader; somebody who is not and never was in the room, nor invited, reads nothing.
    ///
    /// # Errors
    /// The denial.
    pub fn new(
        caller: &'a Caller,
        rows: &'a Rows<'a>,
        room: &'a RoomView,
        member: Option<&'a Member>,
    ) -> Result<Self, ActionError> {
        let present = membership(member);
        let Some(member) = member.filter(|member| member.was_joined || member.membership == Membership::Invite) else {
            present.joined()?;
            return Err(ActionError::internal("a joined member without a row"));
        };
        let sees_all = member.membership == Membership::Join && !room.summary.history_was_narrow;
        let eyes = Eyes::Member(member);
        Ok(Self { user_id: &caller.user_id, rows, room, eyes, sees_all, known: parking_lot::Mutex::default() })
    }

    /// A member of the room that follows this one.
    pub(super) fn of_former(
        caller: &'a Caller,
        rows: &'a Rows<'a>,
        room: &'a RoomView,
        (until, past): (Place, seam::Past<'a>),
    ) -> Self {
        let (eyes, known) = (Eyes::Successor { until, past }, parking_lot::Mutex::default());
        Self { user_id: &caller.user_id, rows, room, eyes, sees_all: false, known }
    }

    /// One event, as far as the reader may see it.
    ///
    /// # Errors
    /// [`ActionError::EventNotFound`] alike for unknown and hidden events.
    pub(super) async fn event(&self, event_id: &EventId) -> Result<EventView, ActionError> {
        let Some(arrival) = self.rows.arrival_of(event_id).await? else { return Err(ActionError::EventNotFound) };
        let Some(stored) = self.rows.get(&EVENTS, &arrival).await? else { return Err(ActionError::EventNotFound) };
        let redaction = self.rows.get(&REDACTIONS, &event_id.to_owned()).await?;
        self.view(&stored, redaction).await?.ok_or(ActionError::EventNotFound)
    }

    async fn redactions(&self, stored: &[Option<StoredEvent>]) -> Result<Vec<Option<Redaction>>, ActionError> {
        if self.room.summary.redactions == 0 {
            return Ok(vec![None; stored.len()]);
        }
        let mut redactions = Vec::with_capacity(stored.len());
        for stored in stored {
            redactions.push(match stored {
                Some(stored) => self.rows.get(&REDACTIONS, &stored.event_id).await?,
                None => None,
            });
        }
        Ok(redactions)
    }

    /// The event as this reader sees it; none: not at all.
    async fn view(&self, stored: &StoredEvent, redaction: Option<Redaction>) -> Result<Option<EventView>, ActionError> {
        let Some(place) = stored.place else { return Ok(None) };
        let version = &self.room.basis.version;
        let event = rows::read(stored, self.rows.home, version)?;
        if !self.sees_all && !self.may_see(stored, &event, place).await? {
            return Ok(None);
        }
        let is_sender = event.sender() == self.user_id;
        let view = as_shown(stored, event, place, redaction, self.room)?;
        Ok(Some(EventView { transaction_id: view.transaction_id.filter(|_| is_sender), ..view }))
    }

    /// Source: <https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-5>
    async fn may_see(&self, stored: &StoredEvent, event: &Event, place: Place) -> Result<bool, ActionError> {
        let (before, then_before) = self.state_at(stored.state_before).await?;
        let (after, then_after) = self.state_at(stored.state_after).await?;
        let is_own_membership = event.type_str() == "m.room.member" && event.state_key() == Some(self.user_id.as_str());
        let then = if is_own_membership { visibility::stronger(then_before, then_after) } else { then_after };
        let visibility = HistoryVisibility::at_change(before, after);
        let joined_since = match &self.eyes {
            Eyes::Successor { until, past } => {
                let is_open = place <= *until && visibility <= HistoryVisibility::Shared;
                return Ok(is_open && past.has(self.rows, &stored.event_id).await?);
            }
            Eyes::Member(member) if member.membership == Membership::Join => true,
            Eyes::Member(member) => member.was_joined && member.left_at.is_some_and(|left| place <= left),
        };
        Ok(visibility::may_see_event(visibility, then, joined_since))
    }

    /// The visibility and the reader's membership at a state.
    async fn state_at(&self, root: StateRoot) -> Result<(HistoryVisibility, Membership), ActionError> {
        if let Some(known) = self.known.lock().get(&root) {
            return Ok(*known);
        }
        let version = &self.room.basis.version;
        let visibility = self.rows.state_event(version, root, "m.room.history_visibility", "").await?;
        let member = self.rows.state_event(version, root, "m.room.member", self.user_id.as_str()).await?;
        let membership = visibility::membership_of(member.as_deref());
        let found = (HistoryVisibility::of(visibility.as_deref()), membership);
        self.known.lock().insert(root, found);
        Ok(found)
    }
}

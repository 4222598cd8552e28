//! Reading past what is held: history before a hole is asked of peers, a bounded number of events at a time, and takes its places before what is shown already.
//! It is not news: nobody is notified, and nothing counts as unread.

use std::{collections::HashMap, time::Duration};

use federation::limits::BACKFILL_EVENTS_MAX;
use rules::{WellFormedPdu, event::RawPdu};
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId, ServerName};

use super::{
    ActionError, Actions, Caller,
    append::{Before, Remote, Slot},
    incoming::{
        Taken,
        claims::{self, NotGiven},
        guests::{self, Met},
        is_in_room,
        judging::{self, Purpose},
        oldest_first, take,
    },
    rows,
};
use crate::storage::{
    Arrival, Direction, KeyRange, Limit, Place,
    history::Arrivals,
    keyspaces::{EVENTS, MISSING, SERVERS, TIMELINE},
};

/// Events that one call may ask for.
pub const EVENTS_MAX: usize = 1_000;
/// How long a reader waits for history that is not held.
pub const READER_WAIT_MAX: Duration = Duration::from_secs(3);
/// Holes of a room that are looked at.
const HOLES_MAX: usize = 1_000;
/// Events with which a hole begins that a peer is asked for together.
const NEAR_MAX: usize = 20;
/// Ends of what a peer gave for which the state before them is asked for.
const ENDS_MAX: usize = 20;

/// What came of asking a peer for history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backfilled {
    /// Who was asked.
    pub peer: OwnedServerName,
    /// Events that it gave.
    pub fetched: usize,
    /// Events that are shown now and were not held before.
    pub stored: usize,
    /// Events that the rules refuse, and why.
    pub rejected: Vec<(OwnedEventId, String)>,
    /// There is no hole any more, as far as was asked.
    pub complete: bool,
    /// The event before which the next hole is.
    pub next: Option<OwnedEventId>,
}

/// A hole in the history: right before this shown event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The event's place.
    pub place: Place,
    /// Its id.
    pub event_id: OwnedEventId,
    /// What it names and is not held.
    pub missing: Vec<OwnedEventId>,
}

/// Asks a peer for history, for an admin: the newest holes first, those before an event if one is named.
///
/// # Errors
/// Whoever is no admin; a room that is not here or is not shared with the peer; when storage cannot be read or written.
pub async fn federation_backfill(
    actions: &Actions,
    caller: &Caller,
    room_id: &RoomId,
    peer: Option<&ServerName>,
    limit: usize,
    before: Option<&EventId>,
) -> Result<Backfilled, ActionError> {
    if !caller.is_admin {
        return Err(ActionError::InsufficientPermission(
            "only administrators ask other servers for history".to_owned(),
        ));
    }
    let met = guests::find(actions, room_id).await?.ok_or(ActionError::RoomNotFound)?;
    let servers = rows::all(&met.room.store, &SERVERS, &met.room.home, KeyRange::all()).await?;
    let peer = match peer {
        Some(peer) => servers.into_iter().map(|(server, _)| server).find(|server| server == peer),
        None => servers.into_iter().max_by_key(|(_, people)| *people).map(|(server, _)| server),
    };
    let peer = peer.ok_or_else(|| ActionError::invalid("peer", "nobody of such a server is in the room"))?;
    let before = match before {
        Some(event_id) => Some(place_of(&met, event_id).await?.ok_or(ActionError::EventNotFound)?),
        None => None,
    };
    fill(actions, &met, &peer, limit.min(EVENTS_MAX), before).await
}

/// Fills the holes before a place for somebody who reads there, as far as peers answer in time. Answers whether anything came.
pub(super) async fn for_reader(actions: &Actions, room_id: &RoomId, before: Place, limit: usize) -> bool {
    let filling = async {
        let met = guests::find(actions, room_id).await.ok().flatten()?;
        let servers = rows::all(&met.room.store, &SERVERS, &met.room.home, KeyRange::all()).await.ok()?;
        let (peer, _) = servers.into_iter().max_by_key(|(_, people)| *people)?;
        fill(actions, &met, &peer, limit.min(BACKFILL_EVENTS_MAX), Some(before)).await.ok()
    };
    matches!(tokio::time::timeout(READER_WAIT_MAX, filling).await, Ok(Some(filled)) if filled.stored > 0)
}

/// The holes of a room, the newest first.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn holes(rows: &rows::Rows<'_>) -> Result<Vec<Hole>, ActionError> {
    let page = rows.store.scan(&MISSING, rows.home, KeyRange::all(), Direction::Up, Limit::rows(HOLES_MAX)).await?;
    let mut by_child: HashMap<Arrival, Vec<OwnedEventId>> = HashMap::new();
    for (id, Arrivals(children)) in page.rows {
        for child in children {
            by_child.entry(child).or_default().push(id.clone());
        }
    }
    let mut holes = Vec::new();
    for (child, missing) in by_child {
        let Some(stored) = rows.get(&EVENTS, &child).await? else { continue };
        if let Some(place) = stored.place {
            holes.push(Hole { place, event_id: stored.event_id, missing });
        }
    }
    holes.sort_by_key(|hole| std::cmp::Reverse(hole.place));
    Ok(holes)
}

async fn place_of(met: &Met, event_id: &EventId) -> Result<Option<Place>, ActionError> {
    let Some(arrival) = met.rows().arrival_of(event_id).await? else { return Ok(None) };
    Ok(met.rows().get(&EVENTS, &arrival).await?.and_then(|stored| stored.place))
}

async fn next_hole(met: &Met, before: Option<Place>, tried: &[Hole]) -> Result<Option<Hole>, ActionError> {
    let holes = holes(&met.rows()).await?;
    Ok(holes.into_iter().find(|hole| before.is_none_or(|before| hole.place <= before) && !tried.contains(hole)))
}

async fn fill(
    actions: &Actions,
    met: &Met,
    peer: &OwnedServerName,
    limit: usize,
    before: Option<Place>,
) -> Result<Backfilled, ActionError> {
    let _gate = actions.gates.enter("backfill", met.room.id.as_str()).await?;
    let mut filled =
        Backfilled { peer: peer.clone(), fetched: 0, stored: 0, rejected: Vec::new(), complete: false, next: None };
    let mut tried = Vec::new();
    while filled.fetched < limit && tried.len() < limit {
        let Some(hole) = next_hole(met, before, &tried).await? else { break };
        tried.push(hole.clone());
        let wanted = (limit - filled.fetched).min(BACKFILL_EVENTS_MAX);
        match fill_one(actions, met, &hole, wanted, &mut filled).await {
            Ok(()) => {}
            Err(NotGiven::Failed(error)) => return Err(error),
            Err(error) => {
                tracing::info!(room.id = %met.room.id, peer = %peer, "History before {} cannot be had: {error}", hole.event_id);
                break;
            }
        }
    }
    let next = next_hole(met, before, &[]).await?;
    filled.complete = next.is_none();
    filled.next = next.map(|hole| hole.event_id);
    Ok(filled)
}

struct Given {
    pdu: WellFormedPdu,
    raw: RawPdu,
    prev_events: Vec<OwnedEventId>,
}

async fn fill_one(
    actions: &Actions,
    met: &Met,
    hole: &Hole,
    wanted: usize,
    filled: &mut Backfilled,
) -> Result<(), NotGiven> {
    let near: Vec<OwnedEventId> = hole.missing.iter().take(NEAR_MAX).cloned().collect();
    let pdus = actions.peers().backfill(&filled.peer, &met.room.id, &near, wanted).await?;
    let mut given: HashMap<OwnedEventId, Given> = HashMap::new();
    for raw in pdus.into_iter().take(wanted).map(RawPdu) {
        let Some(pdu) = judging::shape(&raw, &met.version(), Purpose::History) else { continue };
        if *pdu.room_id() == met.room.id && !is_in_room(met, pdu.event_id()).await? {
            let prev_events = pdu.prev_events().to_vec();
            given.insert(pdu.event_id().clone(), Given { pdu, raw, prev_events });
        }
    }
    let given = connected(given, &near);
    filled.fetched += given.len();
    let is_oldest = is_oldest(met, hole.place).await?;
    let count = u32::try_from(given.len()).unwrap_or(u32::MAX);
    let mut states_asked = 0;
    for (given, steps) in
        oldest_first(given, |given| (given.pdu.event_id(), &given.prev_events)).into_iter().zip((1..=count).rev())
    {
        let slot = match is_oldest {
            true => Slot::Older { before: hole.place, steps },
            false => Slot::Hole { before: hole.place, steps },
        };
        take_one(actions, met, given, slot, &mut states_asked, filled).await?;
    }
    Ok(())
}

/// What hangs together with what was asked for; a peer may have added anything.
fn connected(mut given: HashMap<OwnedEventId, Given>, near: &[OwnedEventId]) -> Vec<Given> {
    let (mut open, mut connected) = (near.to_vec(), Vec::new());
    while let Some(id) = open.pop() {
        if let Some(given) = given.remove(&id) {
            open.extend(given.prev_events.iter().cloned());
            connected.push(given);
        }
    }
    connected
}

/// Nothing is shown before a place.
pub(super) async fn is_oldest(met: &Met, place: Place) -> Result<bool, ActionError> {
    let range = KeyRange::all().before(&place);
    let page = met.room.store.scan(&TIMELINE, &met.room.home, range, Direction::Down, Limit::rows(1)).await?;
    Ok(page.rows.is_empty())
}

async fn take_one(
    actions: &Actions,
    met: &Met,
    given: Given,
    slot: Slot,
    states_asked: &mut usize,
    filled: &mut Backfilled,
) -> Result<(), NotGiven> {
    let Given { pdu, raw, prev_events } = given;
    let mut before = Before::Parents;
    let mut is_end = false;
    for id in &prev_events {
        is_end |= !is_in_room(met, id).await?;
    }
    if is_end {
        *states_asked += 1;
        if *states_asked > ENDS_MAX {
            return Ok(());
        }
        before = Before::Claimed(claims::claim(actions, met, &filled.peer, pdu.event_id()).await?);
    }
    let peer = filled.peer.clone();
    let mut taken = take(actions, met, &peer, raw.clone(), before.clone(), slot, None).await?;
    if let Taken::Judged(Remote::Missing(missing)) = taken {
        claims::gather_events(actions, met, &peer, missing).await?;
        taken = take(actions, met, &peer, raw, before, slot, None).await?;
    }
    let refused = match taken {
        Taken::Judged(Remote::Accepted) => {
            filled.stored += 1;
            None
        }
        Taken::Judged(Remote::Rejected(reason) | Remote::SoftFailed(reason)) => Some(reason.reason().to_owned()),
        Taken::Dropped => Some("it is no event of its sender".to_owned()),
        Taken::Held | Taken::Judged(Remote::Ignored | Remote::Known | Remote::Missing(_)) => None,
    };
    // A peer may give the same event again with the next hole.
    if let Some(reason) = refused
        && !filled.rejected.iter().any(|(id, _)| id == pdu.event_id())
    {
        filled.rejected.push((pdu.event_id().clone(), reason));
    }
    Ok(())
}

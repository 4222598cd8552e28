//! What a peer gives of the history before a hole: its form and signatures are checked like those of every event, and what does not hang together with what was
//! asked for is left out.

use std::collections::HashMap;

use federation::limits::BACKFILL_EVENTS_MAX;
use rules::event::RawPdu;
use ruma::{OwnedEventId, OwnedServerName};

use super::{Backfilled, Hole};
use crate::{
    actions::{
        ActionError, Actions,
        append::{Before, Remote, Slot},
        incoming::{
            Taken,
            claims::{self, Helpers, NotGiven},
            guests::Met,
            judging::{Given, Purpose},
            oldest_first, take,
        },
    },
    storage::{
        Direction, KeyRange, Limit, Place,
        keyspaces::{MISSING, TIMELINE},
    },
};

/// Events with which a hole begins that a peer is asked for together.
pub(super) const NEAR_MAX: usize = 20;
/// Ends of what a peer gave for which the state before them is asked for.
const ENDS_MAX: usize = 20;

/// Asks one peer for what is before a hole, and takes in what it gives. Answers whether any of the events that are missing there is so no longer.
pub(super) async fn fill_one(
    actions: &Actions,
    met: &Met,
    peer: &OwnedServerName,
    hole: &Hole,
    wanted: usize,
    filled: &mut Backfilled,
) -> Result<bool, NotGiven> {
    let wanted = wanted.min(BACKFILL_EVENTS_MAX);
    let near: Vec<OwnedEventId> = hole.missing.iter().take(NEAR_MAX).cloned().collect();
    let pdus = actions.peers().backfill(peer, &met.room.id, &near, wanted).await?;
    let mut given: HashMap<OwnedEventId, Given> = HashMap::new();
    for raw in pdus.into_iter().take(wanted).map(RawPdu) {
        let Some(read) = Given::read(met, raw, Purpose::History) else { continue };
        if !met.rows().is_in_room(&read.event_id).await? {
            given.insert(read.event_id.clone(), read);
        }
    }
    let given = connected(given, &near);
    filled.fetched += given.len();
    let is_oldest = is_oldest(met, hole.place).await?;
    let count = u32::try_from(given.len()).unwrap_or(u32::MAX);
    let mut states_asked = 0;
    for (given, steps) in oldest_first(given, Given::named).into_iter().zip((1..=count).rev()) {
        let slot = match is_oldest {
            true => Slot::Older { before: hole.place, steps },
            false => Slot::Hole { before: hole.place, steps },
        };
        take_one(actions, met, peer, given, slot, &mut states_asked, filled).await?;
    }
    for id in &near {
        if met.rows().get(&MISSING, id).await?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
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
pub(in crate::actions) async fn is_oldest(met: &Met, place: Place) -> Result<bool, ActionError> {
    let range = KeyRange::all().before(&place);
    let page = met.room.store.scan(&TIMELINE, &met.room.home, range, Direction::Down, Limit::rows(1)).await?;
    Ok(page.rows.is_empty())
}

async fn take_one(
    actions: &Actions,
    met: &Met,
    peer: &OwnedServerName,
    given: Given,
    slot: Slot,
    states_asked: &mut usize,
    filled: &mut Backfilled,
) -> Result<(), NotGiven> {
    let Given { event_id, raw, prev_events } = given;
    let mut before = Before::Parents;
    let mut is_end = false;
    for id in &prev_events {
        is_end |= !met.rows().is_in_room(id).await?;
    }
    if is_end {
        *states_asked += 1;
        if *states_asked > ENDS_MAX {
            return Ok(());
        }
        before = Before::Claimed(claims::claim(actions, met, &Helpers::only(peer), &event_id).await?);
    }
    let mut taken = take(actions, met, peer, raw.clone(), before.clone(), slot, None).await?;
    if let Taken::Judged(Remote::Missing(missing)) = taken {
        claims::gather_events(actions, met, &Helpers::only(peer), missing).await?;
        taken = take(actions, met, peer, raw, before, slot, None).await?;
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
        && !filled.rejected.iter().any(|(id, _)| *id == event_id)
    {
        filled.rejected.push((event_id, reason));
    }
    Ok(())
}

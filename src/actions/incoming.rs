//! What peers ask of our rooms: taking their events in, and giving them ours. Implements [`LocalRooms`] of the crate `federation`.
//!
//! An event whose surroundings are held is judged at once, and the answer means that it is on disk. One behind a hole is kept aside ([`staging`]), answered, and
//! judged when the hole is filled ([`gaps`]). No lane is held while the network is asked.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use federation::{
    Pdu, Refusal,
    local::{Gap, LocalRooms, StateStream},
};
use rules::{event::RawPdu, permission::Membership};
use ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, ServerName, UserId};

use super::{
    ActionError, Actions,
    append::{self, Arriving, Before, Present, Remote, Slot},
    invites,
    members::membership,
    policy_servers::{self, Said},
    receipts, remote_join, typing,
};
use crate::storage::keyspaces::MEMBERS;

pub(super) mod claims;
pub(super) mod gaps;
pub(super) mod guests;
pub(super) mod judging;
mod receiving;
pub(super) mod serving;
mod staging;
pub(super) mod states;

pub use staging::{Staging, catch_up, resume};

use guests::{Met, failed, meet};
use judging::{First, Formed, Purpose};

/// An event of a transaction, its form checked.
struct Come {
    event_id: OwnedEventId,
    prev_events: Vec<OwnedEventId>,
    in_room: bool,
    /// As it came, for the case that it has to wait.
    text: Pdu,
    formed: Result<Formed, First>,
}

impl LocalRooms for Actions {
    async fn receive(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        pdus: Vec<Pdu>,
    ) -> Vec<(OwnedEventId, Result<(), Refusal>)> {
        // A room that is here takes them as ever: that somebody else of ours is let in by another server may take long.
        let view = self.room(room_id).view().await.ok().flatten();
        let is_here = view.is_some_and(|view| view.summary.local_joined() > 0);
        if !is_here && let Some(answers) = remote_join::queue(self, origin, room_id, &pdus) {
            return answers;
        }
        invites::withdrawn(self, origin, room_id, &pdus).await;
        // Of a room that is not here the version is not known, and so no event's id.
        let Some(view) = self.room(room_id).view().await.ok().flatten() else { return Vec::new() };
        let version = view.basis.version;
        let come: Vec<Come> = pdus.into_iter().filter_map(|pdu| Come::read(pdu, room_id, &version)).collect();
        let met = match meet(self, origin, room_id).await {
            Ok(met) => met,
            Err(refusal) => return come.into_iter().map(|come| (come.event_id, Err(refusal.clone()))).collect(),
        };
        let answers = receiving::receive(self, &met, origin, come).await;
        // Others may have waited for one of them.
        staging::wake(self, room_id);
        answers
    }

    async fn event(&self, origin: &ServerName, event_id: &EventId) -> Result<Pdu, Refusal> {
        serving::event(self, origin, event_id).await
    }

    async fn missing_events(&self, origin: &ServerName, room_id: &RoomId, gap: Gap) -> Result<Vec<Pdu>, Refusal> {
        serving::missing_events(self, origin, room_id, gap).await
    }

    async fn backfill(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        from: Vec<OwnedEventId>,
        events_max: usize,
    ) -> Result<Vec<Pdu>, Refusal> {
        serving::backfill(self, origin, room_id, &from, events_max).await
    }

    async fn state_before(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateStream<Pdu>, Refusal> {
        states::state(self, origin, room_id, event_id).await
    }

    async fn state_ids_before(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateStream<OwnedEventId>, Refusal> {
        states::state_ids(self, origin, room_id, event_id).await
    }

    async fn auth_chain(&self, origin: &ServerName, room_id: &RoomId, event_id: &EventId) -> Result<Vec<Pdu>, Refusal> {
        serving::auth_chain(self, origin, room_id, event_id).await
    }

    async fn typing(&self, origin: &ServerName, room_id: &RoomId, user_id: &UserId, is_typing: bool) {
        if speaks_for(self, origin, room_id, user_id).await {
            typing::of_peer(self, room_id, user_id, is_typing).await;
        }
    }

    async fn read_receipt(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
        event_id: &EventId,
        thread: Option<&EventId>,
        _at: MilliSecondsSinceUnixEpoch,
    ) {
        if speaks_for(self, origin, room_id, user_id).await {
            receipts::of_peer(self, room_id, user_id, event_id, thread).await;
        }
    }
}

impl Come {
    fn read(pdu: Pdu, room_id: &RoomId, version: &rules::Version) -> Option<Self> {
        let formed = judging::form(*version, RawPdu(pdu.clone()), Purpose::Timeline);
        // Of one that nobody could have signed at least the id is told.
        let unsigned =
            formed.is_err().then(|| judging::shape(&RawPdu(pdu.clone()), version, Purpose::Timeline)).flatten();
        let said = formed.as_ref().ok().and_then(Formed::pdu).or(unsigned.as_ref())?;
        Some(Self {
            event_id: said.event_id().clone(),
            prev_events: said.prev_events().to_vec(),
            in_room: said.room_id() == room_id,
            text: pdu,
            formed,
        })
    }
}

/// The peer's user is in the room, and the room lets the peer in.
async fn speaks_for(actions: &Actions, origin: &ServerName, room_id: &RoomId, user_id: &UserId) -> bool {
    if user_id.server_name() != origin {
        return false;
    }
    let Ok(met) = meet(actions, origin, room_id).await else { return false };
    let member = met.rows().get(&MEMBERS, &user_id.to_owned()).await;
    member.is_ok_and(|member| membership(member.as_ref()) == Membership::Join)
}

/// What came of an event.
#[derive(Debug)]
pub(super) enum Taken {
    Judged(Remote),
    /// A key is not known.
    Held,
    Dropped,
}

/// Checks an event and takes it into the room; what became of it is on disk when this returns.
pub(super) async fn take(
    actions: &Actions,
    met: &Met,
    origin: &ServerName,
    raw: RawPdu,
    before: Before,
    slot: Slot,
    staged: Option<u64>,
) -> Result<Taken, ActionError> {
    let purpose = if slot == Slot::End { Purpose::Timeline } else { Purpose::History };
    let first = judging::check(actions, met.version(), raw, purpose).await;
    let arriving = match prepare(actions, met, origin, first, before, slot, staged).await? {
        Ok(arriving) => arriving,
        Err(taken) => return Ok(taken),
    };
    let event_id = arriving.event.event_id().clone();
    let outcome = append::remote(actions, &met.room, arriving).await?;
    log(met, origin, &event_id, &outcome);
    Ok(Taken::Judged(outcome))
}

/// A checked event, ready to be taken in; else what became of it.
async fn prepare(
    actions: &Actions,
    met: &Met,
    origin: &ServerName,
    first: First,
    before: Before,
    slot: Slot,
    staged: Option<u64>,
) -> Result<Result<Arriving, Taken>, ActionError> {
    let checked = match first {
        First::Checked(checked) => checked,
        First::Held(reason) => {
            tracing::info!(room.id = %met.room.id, peer = %origin, "An event of `{origin}` cannot be checked yet: {reason}");
            return Ok(Err(Taken::Held));
        }
        First::Dropped(reason) => {
            tracing::info!(room.id = %met.room.id, peer = %origin, "An event of `{origin}` was dropped: {reason}");
            return Ok(Err(Taken::Dropped));
        }
    };
    let (event, refused) = checked.refused_by_itself();
    if *event.room_id() != met.room.id {
        return Ok(Err(Taken::Dropped));
    }
    // Whatever is older than what is shown is not judged by what the room says now.
    let said = if slot == Slot::End && refused.is_none() {
        policy_servers::look(actions, met, &event).await?
    } else {
        Said::Fine(Arc::clone(&event))
    };
    let hidden = policy_servers::refusal(&said);
    let event = if let Said::Fine(signed) = said { signed } else { event };
    let event = Arc::unwrap_or_clone(event);
    let peer = Some(origin.to_owned());
    let (handed_in, present) = (false, Present::Decides);
    Ok(Ok(Arriving { event, peer, refused, hidden, before, slot, staged, handed_in, present }))
}

fn log(met: &Met, origin: &ServerName, event_id: &EventId, outcome: &Remote) {
    if let Remote::Rejected(reason) | Remote::SoftFailed(reason) = outcome {
        tracing::info!(room.id = %met.room.id, peer = %origin, "Event {event_id} of `{origin}` is not shown: {reason}");
    }
}

/// The same in an order in which nothing comes before what it names and what is among them.
pub(super) fn oldest_first<T>(all: Vec<T>, named: impl Fn(&T) -> (&OwnedEventId, &[OwnedEventId])) -> Vec<T> {
    let index: HashMap<OwnedEventId, usize> =
        all.iter().enumerate().map(|(at, one)| (named(one).0.clone(), at)).collect();
    let before: Vec<Vec<usize>> =
        all.iter().map(|one| named(one).1.iter().filter_map(|id| index.get(id).copied()).collect()).collect();
    let (mut order, mut seen) = (Vec::with_capacity(all.len()), HashSet::new());
    for start in 0..all.len() {
        // Twice on the stack: once on the way down, once when all before it were listed.
        let mut open = vec![(start, false)];
        while let Some((at, is_done)) = open.pop() {
            if is_done {
                order.push(at);
            } else if seen.insert(at) {
                open.push((at, true));
                open.extend(before.get(at).into_iter().flatten().rev().map(|before| (*before, false)));
            }
        }
    }
    let mut all: Vec<Option<T>> = all.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| all.get_mut(at)?.take()).collect()
}

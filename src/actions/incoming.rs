//! What peers ask of our rooms: taking their events in, and giving them ours. Implements [`LocalRooms`] of the crate `federation`.
//!
//! An event whose surroundings are held is judged at once, and the answer means that it is on disk. One behind a hole is kept aside ([`staging`]), answered, and
//! judged when the hole is filled ([`gaps`]). No lane is held while the network is asked.

use std::collections::{HashMap, HashSet};

use federation::{
    Pdu, Refusal,
    local::{Gap, LocalRooms, StateBefore},
};
use rules::{event::RawPdu, permission::Membership};
use ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, ServerName, UserId};

use super::{
    ActionError, Actions,
    append::{self, Arriving, Before, Present, Remote, Slot},
    invites,
    members::membership,
    remote_join, typing,
};
use crate::storage::keyspaces::{EVENTS, MEMBERS};

pub(super) mod claims;
pub(super) mod gaps;
pub(super) mod guests;
pub(super) mod judging;
pub(super) mod serving;
mod staging;

pub use staging::{Staging, catch_up, resume};

use guests::{Met, failed, meet};
use judging::{First, Purpose};

/// An event of a transaction, its form checked.
struct Come {
    event_id: OwnedEventId,
    prev_events: Vec<OwnedEventId>,
    in_room: bool,
    raw: RawPdu,
}

impl LocalRooms for Actions {
    async fn receive(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        pdus: Vec<Pdu>,
    ) -> Vec<(OwnedEventId, Result<(), Refusal>)> {
        if let Some(answers) = remote_join::queue(self, origin, room_id, &pdus) {
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
        let mut answers = Vec::with_capacity(come.len());
        for come in oldest_first(come, |come| (&come.event_id, &come.prev_events)) {
            let Come { event_id, in_room, raw, .. } = come;
            let answer = if in_room {
                receive_one(self, &met, origin, &event_id, raw).await
            } else {
                Err(Refusal::Invalid("the event is of another room"))
            };
            answers.push((event_id, answer));
        }
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
    ) -> Result<StateBefore<Pdu>, Refusal> {
        serving::state(self, origin, room_id, event_id).await
    }

    async fn state_ids_before(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateBefore<OwnedEventId>, Refusal> {
        serving::state_ids(self, origin, room_id, event_id).await
    }

    async fn auth_chain(&self, origin: &ServerName, room_id: &RoomId, event_id: &EventId) -> Result<Vec<Pdu>, Refusal> {
        serving::auth_chain(self, origin, room_id, event_id).await
    }

    async fn typing(&self, origin: &ServerName, room_id: &RoomId, user_id: &UserId, is_typing: bool) {
        if speaks_for(self, origin, room_id, user_id).await {
            typing::of_peer(self, room_id, user_id, is_typing).await;
        }
    }

    /// How far people of other servers have read is shown to nobody here, so there is nothing to keep.
    async fn read_receipt(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
        event_id: &EventId,
        _at: MilliSecondsSinceUnixEpoch,
    ) {
        if speaks_for(self, origin, room_id, user_id).await {
            tracing::trace!(room.id = %room_id, user.id = %user_id, "`{user_id}` has read up to {event_id}");
        }
    }
}

impl Come {
    fn read(pdu: Pdu, room_id: &RoomId, version: &rules::Version) -> Option<Self> {
        let raw = RawPdu(pdu);
        let pdu = judging::shape(&raw, version, Purpose::Timeline)?;
        Some(Self {
            event_id: pdu.event_id().clone(),
            prev_events: pdu.prev_events().to_vec(),
            in_room: pdu.room_id() == room_id,
            raw,
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

/// One event of a transaction.
async fn receive_one(
    actions: &Actions,
    met: &Met,
    origin: &ServerName,
    event_id: &OwnedEventId,
    raw: RawPdu,
) -> Result<(), Refusal> {
    if is_in_room(met, event_id).await.map_err(failed)? || actions.staging.has(&met.room.id, event_id) {
        return Ok(());
    }
    let text = raw.0.get().to_owned();
    let missing = match take(actions, met, origin, raw, Before::Parents, Slot::End, None).await.map_err(failed)? {
        Taken::Judged(Remote::Missing(missing)) => missing,
        Taken::Held => Vec::new(),
        taken => return answer(&taken),
    };
    staging::stage(actions, met, origin, (event_id, text), missing).await
}

/// What the peer is told. It learns no more than that the event is not part of the room.
fn answer(taken: &Taken) -> Result<(), Refusal> {
    match taken {
        Taken::Judged(Remote::Accepted | Remote::Known | Remote::SoftFailed(_)) => Ok(()),
        Taken::Judged(Remote::Missing(_)) | Taken::Held => Ok(()),
        Taken::Judged(Remote::Rejected(_)) => Err(Refusal::Forbidden),
        Taken::Judged(Remote::Ignored) => Err(Refusal::NotFound),
        Taken::Dropped => Err(Refusal::Invalid("it is no event of its sender")),
    }
}

/// What came of an event.
#[derive(Debug)]
pub(super) enum Taken {
    Judged(Remote),
    /// A key is not known.
    Held,
    Dropped,
}

/// Checks an event and takes it into the room.
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
    let checked = match judging::check(actions, met.version(), raw, purpose).await {
        First::Checked(checked) => checked,
        First::Held(reason) => {
            tracing::info!(room.id = %met.room.id, peer = %origin, "An event of `{origin}` cannot be checked yet: {reason}");
            return Ok(Taken::Held);
        }
        First::Dropped(reason) => {
            tracing::info!(room.id = %met.room.id, peer = %origin, "An event of `{origin}` was dropped: {reason}");
            return Ok(Taken::Dropped);
        }
    };
    let (event, refused) = checked.refused_by_itself();
    if *event.room_id() != met.room.id {
        return Ok(Taken::Dropped);
    }
    let event_id = event.event_id().clone();
    let event = rules::Event::clone(&event);
    let arriving = Arriving {
        event,
        peer: Some(origin.to_owned()),
        refused,
        before,
        slot,
        staged,
        handed_in: false,
        present: Present::Decides,
    };
    let outcome = append::remote(actions, &met.room, arriving).await?;
    if let Remote::Rejected(reason) | Remote::SoftFailed(reason) = &outcome {
        tracing::info!(room.id = %met.room.id, peer = %origin, "Event {event_id} of `{origin}` is not shown: {reason}");
    }
    Ok(Taken::Judged(outcome))
}

/// The event is held, and where it stands in the room is known.
pub(super) async fn is_in_room(met: &Met, event_id: &EventId) -> Result<bool, ActionError> {
    let rows = met.rows();
    let Some(arrival) = rows.arrival_of(event_id).await? else { return Ok(false) };
    Ok(rows.get(&EVENTS, &arrival).await?.is_some_and(|stored| stored.standing.is_in_room()))
}

/// The same in an order in which nothing comes before what it names and what is among them.
pub(super) fn oldest_first<T>(all: Vec<T>, named: impl Fn(&T) -> (&OwnedEventId, &Vec<OwnedEventId>)) -> Vec<T> {
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

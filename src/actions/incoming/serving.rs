//! Giving peers our rooms' events. A peer in the room gets what its users may see, and of the rest what a redaction leaves; what we do not vouch for it gets only
//! by id, or not at all.

use std::{
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use federation::{
    Pdu, Refusal,
    limits::{BACKFILL_EVENTS_MAX, BACKFILL_FROM_MAX, GAP_ENDS_MAX, MISSING_EVENTS_MAX},
    local::Gap,
};
use rules::{
    authorization::needed_auth_events,
    event::Event,
    permission::Membership,
    visibility::{self, HistoryVisibility},
};
use ruma::{EventId, OwnedEventId, OwnedUserId, RoomId, ServerName, UserId};

use super::{
    guests::{Met, failed, guest},
    oldest_first,
};
use crate::{
    actions::{ActionError, Actions, remote_join::pdu_of, rows},
    storage::{
        Arrival, Home, KeyRange, StateRoot,
        history::{EventStanding, StoredEvent},
        keyspaces::{EVENT_IDS, EVENTS, MEMBERS, REDACTIONS},
    },
};

/// Events that one walk back looks at for each that it may give: rejected ones and those beyond its bounds are looked at too.
const LOOKED_AT_PER_EVENT: usize = 10;

/// One event by its id.
pub(super) async fn event(actions: &Actions, origin: &ServerName, event_id: &EventId) -> Result<Pdu, Refusal> {
    let at = actions.store.get(&EVENT_IDS, &Home::content(), &event_id.to_owned()).await;
    let at = at.map_err(|error| failed(error.into()))?.ok_or(Refusal::NotFound)?;
    let met = guest(actions, origin, &at.room_id).await?;
    let give = async {
        let Some(stored) = met.rows().get(&EVENTS, &at.arrival).await? else { return Ok(None) };
        Showing::new(&met, origin).pdu(&stored).await.map(Some)
    };
    give.await.map_err(failed)?.ok_or(Refusal::NotFound)
}

/// Events between what the peer has and what it heard of.
pub(super) async fn missing_events(
    actions: &Actions,
    origin: &ServerName,
    room_id: &RoomId,
    gap: Gap,
) -> Result<Vec<Pdu>, Refusal> {
    let met = guest(actions, origin, room_id).await?;
    let latest: Vec<OwnedEventId> = gap.latest.iter().take(GAP_ENDS_MAX).cloned().collect();
    let events_max = gap.events_max.min(MISSING_EVENTS_MAX);
    let give = async {
        let mut seen: HashSet<OwnedEventId> = gap.earliest.iter().chain(&latest).cloned().collect();
        let mut open: VecDeque<OwnedEventId> = VecDeque::new();
        for id in &latest {
            if let Some((_, event)) = held(&met, id).await? {
                open.extend(event.prev_events().iter().cloned());
            }
        }
        let (mut found, mut looked_at) = (Vec::new(), 0);
        while let Some(id) = open.pop_front() {
            if found.len() >= events_max || looked_at >= events_max * LOOKED_AT_PER_EVENT {
                break;
            }
            if !seen.insert(id.clone()) {
                continue;
            }
            looked_at += 1;
            let Some((stored, event)) = held(&met, &id).await? else { continue };
            if event.depth() < gap.depth_min {
                continue;
            }
            let prev_events = event.prev_events().to_vec();
            open.extend(prev_events.iter().cloned());
            if !stored.standing.is_rejected() {
                found.push((id, prev_events, stored));
            }
        }
        let found = oldest_first(found, |(id, prev_events, _)| (id, prev_events));
        let showing = Showing::new(&met, origin);
        let mut pdus = Vec::with_capacity(found.len());
        for (_, _, stored) in found {
            pdus.push(showing.pdu(&stored).await?);
        }
        Ok(pdus)
    };
    give.await.map_err(failed)
}

/// Events and what came before them, newest first.
pub(super) async fn backfill(
    actions: &Actions,
    origin: &ServerName,
    room_id: &RoomId,
    from: &[OwnedEventId],
    events_max: usize,
) -> Result<Vec<Pdu>, Refusal> {
    let met = guest(actions, origin, room_id).await?;
    let events_max = events_max.min(BACKFILL_EVENTS_MAX);
    let give = async {
        let mut seen: HashSet<OwnedEventId> = HashSet::new();
        let mut open = BinaryHeap::new();
        let mut at_hand: HashMap<Arrival, (StoredEvent, Arc<Event>)> = HashMap::new();
        let mut found: Vec<Pdu> = Vec::new();
        let mut looked_at = 0;
        let mut next: Vec<OwnedEventId> = from.iter().take(BACKFILL_FROM_MAX).cloned().collect();
        let showing = Showing::new(&met, origin);
        loop {
            for id in next.drain(..) {
                if looked_at >= events_max * LOOKED_AT_PER_EVENT || !seen.insert(id.clone()) {
                    continue;
                }
                looked_at += 1;
                if let (Some(held), Some(arrival)) = (held(&met, &id).await?, met.rows().arrival_of(&id).await?) {
                    open.push((held.1.depth(), arrival));
                    at_hand.insert(arrival, held);
                }
            }
            let Some((_, arrival)) = open.pop() else { break };
            let Some((stored, event)) = at_hand.remove(&arrival) else { continue };
            next.extend(event.prev_events().iter().cloned());
            if !stored.standing.is_rejected() {
                found.push(showing.pdu(&stored).await?);
            }
            if found.len() >= events_max {
                break;
            }
        }
        Ok(found)
    };
    let found = give.await.map_err(failed)?;
    // An empty answer would end the search of a server that asks one after the other.
    if found.is_empty() { Err(Refusal::NotFound) } else { Ok(found) }
}

/// What authorises an event, down to the create event.
pub(super) async fn auth_chain(
    actions: &Actions,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
) -> Result<Vec<Pdu>, Refusal> {
    let met = guest(actions, origin, room_id).await?;
    let give = async {
        let Some((_, event)) = held(&met, event_id).await? else { return Ok(None) };
        let chain = chain_of(&met, &[event]).await?;
        chain.iter().map(|event| pdu_of(event)).collect::<Result<Vec<_>, _>>().map(Some)
    };
    give.await.map_err(failed)?.ok_or(Refusal::NotFound)
}

/// Everything that the auth events of these lead to, those first that lean on nothing else of it.
async fn chain_of(met: &Met, events: &[Arc<Event>]) -> Result<Vec<Arc<Event>>, ActionError> {
    let (rows, version) = (met.rows(), met.version());
    let mut open: Vec<OwnedEventId> = events.iter().flat_map(|event| needed_auth_events(&version, event)).collect();
    let (mut seen, mut chain) = (HashSet::new(), Vec::new());
    while let Some(id) = open.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let Some(arrival) = rows.arrival_of(&id).await? else { continue };
        let (_, event) = rows.event(&version, arrival).await?;
        let needed = needed_auth_events(&version, &event);
        open.extend(needed.iter().cloned());
        chain.push((id, needed, event));
    }
    let chain = oldest_first(chain, |(id, needed, _)| (id, needed));
    Ok(chain.into_iter().map(|(_, _, event)| event).collect())
}

/// An event of the room whose place in it is known.
pub(super) async fn held(met: &Met, id: &EventId) -> Result<Option<(StoredEvent, Arc<Event>)>, ActionError> {
    let Some(arrival) = met.rows().arrival_of(id).await? else { return Ok(None) };
    let found = met.rows().event(&met.version(), arrival).await?;
    Ok(Some(found).filter(|(stored, _)| stored.standing.is_in_room()))
}

/// What one peer may see of the events of a room.
struct Showing<'a> {
    met: &'a Met,
    origin: &'a ServerName,
    known: tokio::sync::Mutex<Known>,
}

#[derive(Default)]
struct Known {
    users: Option<Vec<OwnedUserId>>,
    at: HashMap<StateRoot, (HistoryVisibility, Membership)>,
}

impl<'a> Showing<'a> {
    fn new(met: &'a Met, origin: &'a ServerName) -> Self {
        Self { met, origin, known: tokio::sync::Mutex::default() }
    }

    /// The event as the peer may see it.
    async fn pdu(&self, stored: &StoredEvent) -> Result<Pdu, ActionError> {
        let (rows, version) = (self.met.rows(), self.met.version());
        let event = rows::read(stored, rows.home, &version)?;
        let is_redacted = rows.get(&REDACTIONS, &stored.event_id).await?.is_some();
        if !is_redacted && self.may_see(stored, &event).await? {
            return pdu_of(&event);
        }
        pdu_of(&event.redacted(&version).map_err(ActionError::internal)?)
    }

    async fn may_see(&self, stored: &StoredEvent, event: &Event) -> Result<bool, ActionError> {
        if !self.met.view.summary.history_was_narrow || event.sender().server_name() == self.origin {
            return Ok(true);
        }
        if matches!(stored.standing, EventStanding::Outlier { .. }) {
            return Ok(false);
        }
        let (before, then_before) = self.state_at(stored.state_before).await?;
        let (after, then_after) = self.state_at(stored.state_after).await?;
        let is_about_its_user = event.type_str() == "m.room.member"
            && event
                .state_key()
                .and_then(|user| <&UserId>::try_from(user).ok())
                .is_some_and(|user| user.server_name() == self.origin);
        let then = if is_about_its_user { visibility::stronger(then_before, then_after) } else { then_after };
        Ok(visibility::server_may_see(HistoryVisibility::at_change(before, after), then))
    }

    /// The visibility at a state, and the strongest membership of the peer's users.
    async fn state_at(&self, root: StateRoot) -> Result<(HistoryVisibility, Membership), ActionError> {
        let mut known = self.known.lock().await;
        if let Some(found) = known.at.get(&root) {
            return Ok(*found);
        }
        let (rows, version) = (self.met.rows(), self.met.version());
        let event = rows.state_event(&version, root, "m.room.history_visibility", "").await?;
        let visibility = HistoryVisibility::of(event.as_deref());
        let mut strongest = Membership::None;
        if matches!(visibility, HistoryVisibility::Invited | HistoryVisibility::Joined) {
            if known.users.is_none() {
                let members = rows::all(rows.store, &MEMBERS, rows.home, KeyRange::all()).await?;
                let users = members.into_iter().map(|(user, _)| user);
                known.users = Some(users.filter(|user| user.server_name() == self.origin).collect());
            }
            for user in known.users.iter().flatten() {
                let member = rows.state_event(&version, root, "m.room.member", user.as_str()).await?;
                strongest = visibility::stronger(strongest, visibility::membership_of(member.as_deref()));
            }
        }
        known.at.insert(root, (visibility, strongest));
        Ok((visibility, strongest))
    }
}

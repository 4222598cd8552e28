//! Giving peers our rooms' events. A peer in the room gets what its users may see, and of the rest what a redaction leaves; what we do not vouch for it gets only
//! by id, or not at all.

use std::{
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use federation::{
    Pdu, Refusal,
    limits::{BACKFILL_EVENTS_MAX, BACKFILL_FROM_MAX, GAP_ENDS_MAX, MISSING_EVENTS_MAX},
    local::{Gap, StateBefore},
};
use rules::{
    authorization::needed_auth_events,
    event::Event,
    permission::Membership,
    visibility::{self, HistoryVisibility},
};
use ruma::{EventId, OwnedEventId, OwnedUserId, RoomId, ServerName, UserId};
use serde_json::value::RawValue;

use super::{
    guests::{Met, failed, guest},
    oldest_first,
};
use crate::{
    actions::{ActionError, Actions, rows, summary},
    storage::{
        Arrival, Home, KeyRange, StateRoot, StateTree,
        history::{EventStanding, StoredEvent},
        keyspaces::{EVENT_IDS, EVENTS, MEMBERS, REDACTIONS, STATE_KEYS},
    },
};

/// People that a room without a name is called by.
const HEROES_MAX: usize = 5;
/// State entries that are read at a time.
const ENTRIES_AT_A_TIME: usize = 1_000;
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

/// The state before an event and what authorises it.
pub(in crate::actions) async fn state(
    actions: &Actions,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
) -> Result<StateBefore<Pdu>, Refusal> {
    let (state, auth_chain) = state_events(actions, origin, room_id, event_id).await?;
    let pdus = |events: Vec<Arc<Event>>| events.iter().map(|event| pdu_of(event)).collect::<Result<Vec<_>, _>>();
    let answer = pdus(state).and_then(|state| Ok(StateBefore { state, auth_chain: pdus(auth_chain)? }));
    answer.map_err(failed)
}

/// The same, by id.
pub(super) async fn state_ids(
    actions: &Actions,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
) -> Result<StateBefore<OwnedEventId>, Refusal> {
    let (state, auth_chain) = state_events(actions, origin, room_id, event_id).await?;
    let ids = |events: Vec<Arc<Event>>| events.iter().map(|event| event.event_id().clone()).collect();
    Ok(StateBefore { state: ids(state), auth_chain: ids(auth_chain) })
}

/// The state before a join for a peer that can do without most members: the members that a room without name and alias is called by, and everything that is no
/// member. The auth chain is what these and the join lean on, but for what the state has.
pub(in crate::actions) async fn state_without_members(
    met: &Met,
    event_id: &EventId,
) -> Result<StateBefore<Pdu>, Refusal> {
    let give = async {
        let Some((stored, join)) = held(met, event_id).await?.filter(|(stored, _)| !stored.standing.is_rejected())
        else {
            return Ok(None);
        };
        let (rows, version, root) = (met.rows(), met.version(), stored.state_before);
        let tree = StateTree::new(&met.room.store, met.room.home.clone());
        let mut state = Vec::new();
        for (_, number) in keys_without_members(met).await? {
            if let Some(arrival) = tree.get(root, number).await? {
                state.push(rows.event(&version, arrival).await?.1);
            }
        }
        if !state.iter().any(|event| is_name(event)) {
            for user_id in heroes(met, join.sender()).await? {
                state.extend(rows.state_event(&version, root, "m.room.member", user_id.as_str()).await?);
            }
        }
        let in_state: HashSet<&OwnedEventId> = state.iter().map(|event| event.event_id()).collect();
        let mut leaning = state.clone();
        leaning.push(join);
        let mut auth_chain = chain_of(met, &leaning).await?;
        auth_chain.retain(|event| !in_state.contains(event.event_id()));
        Ok(Some((state, auth_chain)))
    };
    let (state, auth_chain) = give.await.map_err(failed)?.ok_or(Refusal::NotFound)?;
    let pdus = |events: Vec<Arc<Event>>| events.iter().map(|event| pdu_of(event)).collect::<Result<Vec<_>, _>>();
    let answer = pdus(state).and_then(|state| Ok(StateBefore { state, auth_chain: pdus(auth_chain)? }));
    answer.map_err(failed)
}

/// The entries that the room's state ever had, members apart, with their numbers.
async fn keys_without_members(met: &Met) -> Result<Vec<((String, String), u32)>, ActionError> {
    let members = "m.room.member".to_owned();
    let before = KeyRange::all().before(&(members.clone(), String::new()));
    let after = KeyRange::all().from(&(members + "\u{0}", String::new()));
    let mut keys = Vec::new();
    for range in [before, after] {
        keys.extend(rows::all(&met.room.store, &STATE_KEYS, &met.room.home, range).await?);
    }
    Ok(keys)
}

/// The event gives the room a name, or an alias that serves as one.
fn is_name(event: &Event) -> bool {
    let field = match event.type_str() {
        "m.room.name" => "name",
        "m.room.canonical_alias" => "alias",
        _ => return false,
    };
    let text = summary::content(event).get(field).and_then(|text| text.as_str().map(str::trim).map(str::to_owned));
    text.is_some_and(|text| !text.is_empty())
}

/// The people that a room without a name is called by, but for one: those who have been in it longest, or are invited longest.
/// Source: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>
async fn heroes(met: &Met, but: &UserId) -> Result<Vec<OwnedUserId>, ActionError> {
    let members = rows::all(&met.room.store, &MEMBERS, &met.room.home, KeyRange::all()).await?;
    let mut members: Vec<_> = members.into_iter().filter(|(user_id, _)| user_id != but).collect();
    members.sort_by_key(|(_, member)| (!member.membership.is_in(), member.arrival));
    Ok(members.into_iter().take(HEROES_MAX).map(|(user_id, _)| user_id).collect())
}

type Both = (Vec<Arc<Event>>, Vec<Arc<Event>>);

async fn state_events(
    actions: &Actions,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
) -> Result<Both, Refusal> {
    let met = guest(actions, origin, room_id).await?;
    let give = async {
        let Some((stored, _)) = held(&met, event_id).await?.filter(|(stored, _)| !stored.standing.is_rejected()) else {
            return Ok(None);
        };
        let tree = StateTree::new(&met.room.store, met.room.home.clone());
        let (mut state, mut from) = (Vec::new(), Some(0));
        while let Some(start) = from {
            let entries = tree.walk(stored.state_before, start, ENTRIES_AT_A_TIME).await?;
            let is_full = entries.len() == ENTRIES_AT_A_TIME;
            from = entries.last().filter(|_| is_full).and_then(|(last, _)| last.checked_add(1));
            for (_, arrival) in entries {
                state.push(met.rows().event(&met.version(), arrival).await?.1);
            }
        }
        let auth_chain = chain_of(&met, &state).await?;
        Ok(Some((state, auth_chain)))
    };
    give.await.map_err(failed)?.ok_or(Refusal::NotFound)
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
async fn held(met: &Met, id: &EventId) -> Result<Option<(StoredEvent, Arc<Event>)>, ActionError> {
    let Some(arrival) = met.rows().arrival_of(id).await? else { return Ok(None) };
    let found = met.rows().event(&met.version(), arrival).await?;
    Ok(Some(found).filter(|(stored, _)| stored.standing.is_in_room()))
}

fn pdu_of(event: &Event) -> Result<Pdu, ActionError> {
    RawValue::from_string(event.json().to_owned()).map_err(ActionError::internal)
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

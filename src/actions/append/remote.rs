//! Taking an event of a peer into the room: judged by its own auth events, by the state before it and by the present state, then stored beside the heads that
//! are there. Signatures and hashes were checked before ([`rules::intake`]); what is missing before it was fetched before.

use std::{collections::HashMap, sync::Arc};

use rules::{
    authorization::{self, Refusal},
    event::Event,
    state::{StateKey, change_of},
    version::Version,
};
use ruma::{EventId, OwnedEventId};

use super::{ActionError, Actions, Writer};
use crate::{
    actions::{lane::Room, merge, purge, rows::Rows},
    storage::{
        Arrival, StateRoot,
        history::{EventStanding, Head},
    },
};

/// What became of a peer's event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// The room was purged here: nothing of it is taken in again.
    Ignored,
    /// Part of the room.
    Accepted,
    /// It is held already; nothing was done.
    Known,
    /// Kept, not shown, not built upon.
    SoftFailed(Refusal),
    /// Kept as refused.
    Rejected(Refusal),
    /// It cannot be judged: these events before it, or among its auth events, are not held.
    Missing(Vec<OwnedEventId>),
}

/// Takes a peer's event into the room; it is on disk when this returns.
///
/// # Errors
/// [`ActionError::RoomNotFound`]; [`ActionError::Busy`]; when storage fails.
pub async fn remote(actions: &Actions, room: &Arc<Room>, event: Event) -> Result<Remote, ActionError> {
    let Some(mut writer) = Writer::enter(actions, room).await? else {
        let is_purged = purge::is_purged(actions, &room.id).await?;
        return if is_purged { Ok(Remote::Ignored) } else { Err(ActionError::RoomNotFound) };
    };
    if writer.rows().arrival_of(event.event_id()).await?.is_some() {
        writer.commit().await?;
        return Ok(Remote::Known);
    }
    let before = match writer.parents(&event).await? {
        Ok(before) => before,
        Err(missing) => return Ok(Remote::Missing(missing)),
    };
    let auth_events = match writer.auth_events(&event).await? {
        Ok(events) => events,
        Err(missing) => return Ok(Remote::Missing(missing)),
    };
    let outcome = writer.take_in(event, &before, &auth_events).await?;
    writer.commit().await?;
    Ok(outcome)
}

type Held<T> = Result<T, Vec<OwnedEventId>>;

impl Writer {
    /// The states after the events before this one.
    async fn parents(&self, event: &Event) -> Result<Held<Vec<StateRoot>>, ActionError> {
        let version = self.version()?;
        let (mut states, mut missing) = (Vec::new(), Vec::new());
        for id in event.prev_events() {
            match self.rows().arrival_of(id).await? {
                Some(arrival) => states.push(self.rows().event(&version, arrival).await?.0.state_after),
                None => missing.push(id.clone()),
            }
        }
        states.dedup();
        Ok(if missing.is_empty() { Ok(states) } else { Err(missing) })
    }

    async fn auth_events(&self, event: &Event) -> Result<Held<HashMap<OwnedEventId, Arc<Event>>>, ActionError> {
        let version = self.version()?;
        let (mut events, mut missing) = (HashMap::new(), Vec::new());
        for id in authorization::needed_auth_events(&version, event) {
            match self.rows().arrival_of(&id).await? {
                Some(arrival) => drop(events.insert(id, self.rows().event(&version, arrival).await?.1)),
                None => missing.push(id),
            }
        }
        Ok(if missing.is_empty() { Ok(events) } else { Err(missing) })
    }

    /// Judges the event (steps 4 to 6 of the checks on receipt) and stages what follows.
    async fn take_in(
        &mut self,
        event: Event,
        parents: &[StateRoot],
        auth_events: &HashMap<OwnedEventId, Arc<Event>>,
    ) -> Result<Remote, ActionError> {
        let version = self.version()?;
        let before = self.merged(&version, parents).await?;
        let rejected =
            match authorization::check_auth_events(&version, &event, |id: &EventId| auth_events.get(id).cloned()) {
                Err(refusal) => Some(refusal),
                Ok(()) => self.refused(&version, &event, before).await?,
            };
        if let Some(refusal) = rejected {
            let event = Arc::new(event.into_rejected());
            let standing = EventStanding::Rejected { reason: refusal.reason().to_owned() };
            self.store_event(&event, standing, before, before, None).await?;
            return Ok(Remote::Rejected(refusal));
        }
        let event = Arc::new(event);
        let arrival = self.view()?.tip.next_arrival;
        let after = match change_of(&event) {
            Some(key) => self.state_with(before, &key, arrival).await?,
            None => before,
        };
        let now = self.view()?.tip.state;
        if let Some(refusal) = self.refused(&version, &event, now).await? {
            let standing = EventStanding::SoftFailed { reason: refusal.reason().to_owned() };
            self.store_event(&event, standing, before, after, None).await?;
            return Ok(Remote::SoftFailed(refusal));
        }
        let (_, place) = self.store_event(&event, EventStanding::Accepted, before, after, None).await?;
        self.follow(&event, after).await?;
        self.apply_redaction(&event).await?;
        self.last_place = place;
        Ok(Remote::Accepted)
    }

    async fn refused(&self, version: &Version, event: &Event, root: StateRoot) -> Result<Option<Refusal>, ActionError> {
        let needed = match authorization::needed_state_of(version, event) {
            Ok(needed) => needed,
            Err(refusal) => return Ok(Some(refusal)),
        };
        let state = self.rows().state_events(version, root, &needed).await?;
        Ok(authorization::check(version, event, &state).err())
    }

    /// The state that several states make together, its nodes staged.
    pub(super) async fn merged(&mut self, version: &Version, roots: &[StateRoot]) -> Result<StateRoot, ActionError> {
        let changes = merge::merge(&self.rows(), version, roots).await?;
        let first = roots.first().copied().unwrap_or(StateRoot::EMPTY);
        let mut numbered = Vec::with_capacity(changes.len());
        for (key, arrival) in changes {
            numbered.push((self.number_of(&key).await?, arrival));
        }
        if numbered.is_empty() { Ok(first) } else { self.state_changed(first, &numbered).await }
    }

    /// The event becomes a head, those before it cease to be, and the present state is what the heads make together.
    pub(super) async fn follow(&mut self, event: &Arc<Event>, after: StateRoot) -> Result<(), ActionError> {
        let version = self.version()?;
        let head = Head { event_id: event.event_id().clone(), depth: event.depth(), state: after };
        let tip = self.tip_mut()?;
        tip.heads.retain(|head| !event.prev_events().contains(&head.event_id));
        tip.heads.push(head);
        let mut states: Vec<StateRoot> = tip.heads.iter().map(|head| head.state).collect();
        let before = tip.state;
        states.dedup();
        let now = self.merged(&version, &states).await?;
        self.tip_mut()?.state = now;
        for (key, arrival) in self.changed_entries(before, now).await? {
            let event = match arrival {
                Some(arrival) => {
                    let (stored, event) = self.rows().event(&version, arrival).await?;
                    Some((arrival, stored.place, event))
                }
                None => None,
            };
            self.entry_changed(key, event).await?;
        }
        Ok(())
    }

    /// What differs between two states, by key.
    async fn changed_entries(
        &self,
        before: StateRoot,
        now: StateRoot,
    ) -> Result<Vec<(StateKey, Option<Arrival>)>, ActionError> {
        let version = self.version()?;
        let rows: Rows<'_> = self.rows();
        let tree = crate::storage::StateTree::new(rows.store, rows.home.clone());
        let mut changed = Vec::new();
        for (_, old, new) in tree.diff(before, now).await? {
            let Some(arrival) = new.or(old) else { continue };
            let (_, event) = rows.event(&version, arrival).await?;
            if let Some(key) = change_of(&event) {
                changed.push((key, new));
            }
        }
        Ok(changed)
    }
}

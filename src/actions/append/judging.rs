//! What an event of a peer is judged by: the events that it names, the state before it, and the present one, which the lane has at hand.

use std::{collections::HashMap, sync::Arc};

use rules::{
    authorization::{self, Refusal},
    event::Event,
    state::{StateKey, StateMap},
    version::Version,
};
use ruma::{EventId, OwnedEventId, events::TimelineEventType};

use super::{ActionError, Arriving, Before, Writer};
use crate::storage::StateRoot;

/// What is asked for; else what of it is not held.
type Held<T> = Result<T, Vec<OwnedEventId>>;

/// Events by their ids.
type Events = HashMap<OwnedEventId, Arc<Event>>;

/// What an event says that allows it.
pub(super) struct Leaning {
    /// Its auth events.
    pub(super) auth_events: Events,
    /// They are what the rules need of the present state for it, no more and no less.
    pub(super) leans_on_present: bool,
}

impl Writer {
    /// The previous events that have to be held and are not. An outlier does not count: the state after it is not known.
    pub(super) async fn missing_parents(&self, arriving: &Arriving) -> Result<Vec<OwnedEventId>, ActionError> {
        match arriving.before {
            Before::Claimed(_) => Ok(Vec::new()),
            Before::Parents => self.not_in_room(arriving.event.prev_events()).await,
        }
    }

    async fn not_in_room(&self, ids: &[OwnedEventId]) -> Result<Vec<OwnedEventId>, ActionError> {
        let mut missing = Vec::new();
        for id in ids {
            if self.state_after(id).await?.is_none() {
                missing.push(id.clone());
            }
        }
        Ok(missing)
    }

    /// The state after an event; none: it is not held, or where it stands in the room is not known.
    async fn state_after(&self, id: &EventId) -> Result<Option<StateRoot>, ActionError> {
        if let Some(head) = self.view()?.tip.heads.iter().find(|head| head.event_id == *id) {
            return Ok(Some(head.state));
        }
        let held = self.held(id).await?.filter(|(_, stored)| stored.standing.is_in_room());
        Ok(held.map(|(_, stored)| stored.state_after))
    }

    /// What the rules need of the present state for this event: most events name just that.
    pub(super) async fn present(&mut self, event: &Event) -> Result<Events, ActionError> {
        let needed = authorization::needed_state_of(&self.version()?, event).unwrap_or_default();
        let present = self.present_state(&needed).await?;
        Ok(present.into_values().map(|event| (event.event_id().clone(), event)).collect())
    }

    async fn present_state(&mut self, needed: &[StateKey]) -> Result<StateMap<Arc<Event>>, ActionError> {
        let mut present = StateMap::new();
        for key in needed {
            if let Some(event) = self.current(key).await? {
                present.insert(key.clone(), event);
            }
        }
        Ok(present)
    }

    /// An auth event that is known to be of another room.
    pub(super) async fn leans_on_another_room(
        &self,
        event: &Event,
        present: &Events,
    ) -> Result<Option<Refusal>, ActionError> {
        for id in event.auth_events().iter().filter(|id| !present.contains_key(*id)) {
            let room = self.rows().room_of(id).await?;
            if room.is_some_and(|room| room != self.room.id) {
                return Ok(Some(Refusal::new(format!("the auth event `{id}` is of another room"))));
            }
        }
        Ok(None)
    }

    /// Its auth events.
    pub(super) async fn auth_events(&self, event: &Event, present: &Events) -> Result<Held<Events>, ActionError> {
        let version = self.version()?;
        let (mut events, mut missing) = (Events::new(), Vec::new());
        for id in authorization::needed_auth_events(&version, event) {
            if let Some(event) = present.get(&id) {
                events.insert(id, Arc::clone(event));
                continue;
            }
            match self.rows().arrival_of(&id).await? {
                Some(arrival) => drop(events.insert(id, self.rows().event(&version, arrival).await?.1)),
                None => missing.push(id),
            }
        }
        Ok(if missing.is_empty() { Ok(events) } else { Err(missing) })
    }

    pub(super) async fn state_before(&mut self, event: &Event, before: Before) -> Result<StateRoot, ActionError> {
        let version = self.version()?;
        match before {
            Before::Claimed(claims) => {
                let mut states = Vec::with_capacity(claims.len());
                for entries in claims {
                    states.push(self.state_of(entries).await?);
                }
                self.merged(&version, &states).await
            }
            Before::Parents => {
                let mut states = Vec::with_capacity(event.prev_events().len());
                for id in event.prev_events() {
                    states.extend(self.state_after(id).await?);
                }
                states.dedup();
                self.merged(&version, &states).await
            }
        }
    }

    /// Steps 4 and 5.
    pub(super) async fn against_the_rules(
        &mut self,
        event: &Event,
        before: StateRoot,
        Leaning { auth_events, leans_on_present }: &Leaning,
    ) -> Result<Option<Refusal>, ActionError> {
        let view = self.view()?;
        let version = view.basis.version;
        if *event.kind() == TimelineEventType::RoomCreate && *event.event_id() != view.summary.create_event_id {
            return Ok(Some(Refusal::new("the room was created by another event")));
        }
        let is_judged = *leans_on_present && before == view.tip.state;
        let is_covered = self.precedents.cover(event) || self.working.precedents.cover(event);
        let allowed = match is_covered {
            true => Ok(()),
            false => authorization::check_auth_events(&version, event, |id: &EventId| auth_events.get(id).cloned()),
        };
        if allowed.is_ok() && !is_covered {
            self.precedents.add(event);
        }
        match allowed {
            Err(refusal) => Ok(Some(refusal)),
            Ok(()) if *event.kind() == TimelineEventType::RoomCreate => Ok(None),
            // The state before it is what it was just judged by.
            Ok(()) if is_judged => Ok(None),
            Ok(()) => self.refused(&version, event, before).await,
        }
    }

    pub(super) async fn refused(
        &mut self,
        version: &Version,
        event: &Event,
        root: StateRoot,
    ) -> Result<Option<Refusal>, ActionError> {
        let needed = match authorization::needed_state_of(version, event) {
            Ok(needed) => needed,
            Err(refusal) => return Ok(Some(refusal)),
        };
        let state = match self.view()?.tip.state == root {
            true => self.present_state(&needed).await?,
            false => self.rows().state_events(version, root, &needed).await?,
        };
        Ok(authorization::check(version, event, &state).err())
    }
}

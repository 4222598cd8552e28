//! Holes in the history: events that shown ones name and that are not held. Who waits for such an event is remembered with its id, and finds it when it comes.

use std::collections::{BTreeMap, HashSet};

use rules::event::Event;
use ruma::{EventId, OwnedEventId};

use super::{ActionError, Writer};
use crate::storage::{
    Arrival, Place, StateRoot, StateTree,
    history::{Arrivals, EventStanding},
    keyspaces::{EVENTS, MISSING, WAITING_REDACTIONS},
};

/// Events that are remembered to name one missing event, and redactions of one. More of them are forgotten.
const WAITING_MAX: usize = 200;
/// Events that were not accepted and are looked through for those before them: more than a peer gives at a time.
const LOOKED_THROUGH_MAX: usize = 200;
const _: () = assert!(LOOKED_THROUGH_MAX > federation::limits::BACKFILL_EVENTS_MAX);
/// State entries that are read at a time.
const ENTRIES_AT_A_TIME: usize = 1_000;

impl Writer {
    /// Remembers which of the events before this one are not held, and that this one is.
    pub(super) async fn note_holes(
        &mut self,
        event: &Event,
        arrival: Arrival,
        was_waited_for: bool,
    ) -> Result<(), ActionError> {
        if was_waited_for {
            self.commit.delete(&MISSING, event.event_id());
        }
        for id in self.missing_before(event).await? {
            let mut waiting = self.get(&MISSING, &id).await?.unwrap_or_default();
            if waiting.0.len() < WAITING_MAX && !waiting.0.contains(&arrival) {
                waiting.0.push(arrival);
                self.commit.put(&MISSING, &id, &waiting);
            }
        }
        Ok(())
    }

    /// The events that are not held before this one, and before what is held before it and not shown.
    async fn missing_before(&self, event: &Event) -> Result<Vec<OwnedEventId>, ActionError> {
        let version = self.version()?;
        let mut named: HashSet<OwnedEventId> = event.prev_events().iter().cloned().collect();
        let mut open: Vec<OwnedEventId> = event.prev_events().to_vec();
        let (mut missing, mut looked_through) = (Vec::new(), 0);
        while let Some(id) = open.pop() {
            if self.is_head(&id)? {
                continue;
            }
            let held = self.held(&id).await?.filter(|(_, stored)| stored.standing.is_in_room());
            let Some((arrival, stored)) = held else {
                missing.push(id);
                continue;
            };
            if stored.standing == EventStanding::Accepted || looked_through >= LOOKED_THROUGH_MAX {
                continue;
            }
            looked_through += 1;
            let (_, hidden) = self.rows().event(&version, arrival).await?;
            open.extend(hidden.prev_events().iter().filter(|id| named.insert((*id).clone())).cloned());
        }
        Ok(missing)
    }

    /// An event that is not shown leads no further, and the shown events that waited for it wait for what is before it.
    pub(super) async fn pass_holes_on(&mut self, event: &Event) -> Result<(), ActionError> {
        let id = event.event_id().clone();
        let Some(Arrivals(children)) = self.waiting_for(&id).await? else { return Ok(()) };
        self.commit.delete(&MISSING, &id);
        for id in self.missing_before(event).await? {
            let mut waiting = self.get(&MISSING, &id).await?.unwrap_or_default();
            let new = children.iter().filter(|child| !waiting.0.contains(child)).copied();
            let room = WAITING_MAX.saturating_sub(waiting.0.len());
            let new: Vec<Arrival> = new.take(room).collect();
            waiting.0.extend(new);
            self.commit.put(&MISSING, &id, &waiting);
        }
        Ok(())
    }

    /// Nothing follows the event; so it is held, and was accepted.
    fn is_head(&self, id: &EventId) -> Result<bool, ActionError> {
        Ok(self.view()?.tip.heads.iter().any(|head| head.event_id == *id))
    }

    /// The shown events that wait for this one; none: nothing waits.
    pub(super) async fn waiting_for(&self, id: &OwnedEventId) -> Result<Option<Arrivals>, ActionError> {
        self.get(&MISSING, id).await
    }

    /// The places of shown events, the first of them first.
    pub(super) async fn places_of(&self, waiting: &Arrivals) -> Result<Vec<Place>, ActionError> {
        let Arrivals(waiting) = waiting;
        let mut places = Vec::with_capacity(waiting.len());
        for arrival in waiting {
            places.extend(self.get(&EVENTS, arrival).await?.and_then(|stored| stored.place));
        }
        places.sort_unstable();
        Ok(places)
    }

    /// An event of the past names heads as the events before it: they are heads no longer, if the room's state is the same without them. Else they stay
    /// until an event joins them, because the states on the other side of the hole are only what a peer says.
    pub(super) async fn give_way(&mut self, event: &Event) -> Result<(), ActionError> {
        let behind = self.named_before(event).await?;
        let tip = self.tip_mut()?;
        let (before, state) = (tip.heads.clone(), tip.state);
        tip.heads.retain(|head| !behind.contains(&head.event_id));
        let left = tip.heads.len();
        if left == before.len() {
            return Ok(());
        }
        let is_same = left > 0 && {
            let now = self.merged_heads().await?;
            self.changed_entries(state, now).await?.is_empty()
        };
        if !is_same {
            self.tip_mut()?.heads = before;
        }
        Ok(())
    }

    /// The events before this one, and those before what among them was not accepted: such events are no heads, so what they follow is followed by this one.
    pub(super) async fn named_before(&self, event: &Event) -> Result<HashSet<OwnedEventId>, ActionError> {
        let version = self.version()?;
        let mut named: HashSet<OwnedEventId> = event.prev_events().iter().cloned().collect();
        let mut open: Vec<OwnedEventId> = event.prev_events().to_vec();
        let mut looked_through = 0;
        while let Some(id) = open.pop() {
            if self.is_head(&id)? {
                continue;
            }
            let Some((arrival, stored)) = self.held(&id).await? else { continue };
            let is_hidden =
                matches!(stored.standing, EventStanding::SoftFailed { .. } | EventStanding::Rejected { .. });
            if !is_hidden || looked_through >= LOOKED_THROUGH_MAX {
                continue;
            }
            looked_through += 1;
            let (_, hidden) = self.rows().event(&version, arrival).await?;
            open.extend(hidden.prev_events().iter().filter(|id| named.insert((*id).clone())).cloned());
        }
        Ok(named)
    }

    /// The state with exactly these entries, its nodes staged. It shares with the present state what both have.
    pub(super) async fn state_of(&mut self, entries: Vec<(u32, Arrival)>) -> Result<StateRoot, ActionError> {
        let wanted: BTreeMap<u32, Arrival> = entries.into_iter().collect();
        let root = self.view()?.tip.state;
        let tree = StateTree::new(&self.room.store, self.room.home.clone());
        let mut present = BTreeMap::new();
        let mut from = Some(0);
        while let Some(start) = from {
            let page = tree.walk(root, start, ENTRIES_AT_A_TIME).await?;
            let is_full = page.len() == ENTRIES_AT_A_TIME;
            from = page.last().filter(|_| is_full).and_then(|(last, _)| last.checked_add(1));
            present.extend(page);
        }
        let gone = present.keys().filter(|number| !wanted.contains_key(number)).map(|number| (*number, None));
        let new = wanted.iter().filter(|(number, arrival)| present.get(number) != Some(arrival));
        let changes: Vec<(u32, Option<Arrival>)> =
            gone.chain(new.map(|(number, arrival)| (*number, Some(*arrival)))).collect();
        if changes.is_empty() { Ok(root) } else { self.state_changed(root, &changes).await }
    }

    /// A redaction came before the event that it aims at.
    pub(super) async fn redact_later(&mut self, target: &OwnedEventId, redaction: &EventId) -> Result<(), ActionError> {
        let Some(arrival) = self.rows().arrival_of(redaction).await? else { return Ok(()) };
        let mut waiting = self.get(&WAITING_REDACTIONS, target).await?.unwrap_or_default();
        if waiting.0.len() < WAITING_MAX && !waiting.0.contains(&arrival) {
            waiting.0.push(arrival);
            self.commit.put(&WAITING_REDACTIONS, target, &waiting);
        }
        Ok(())
    }

    /// An event came after its redactions.
    pub(super) async fn redact_on_arrival(&mut self, event: &Event) -> Result<(), ActionError> {
        let id = event.event_id().clone();
        let Some(Arrivals(waiting)) = self.get(&WAITING_REDACTIONS, &id).await? else { return Ok(()) };
        self.commit.delete(&WAITING_REDACTIONS, &id);
        let version = self.version()?;
        for arrival in waiting {
            let (stored, redaction) = self.rows().event(&version, arrival).await?;
            self.apply_redaction(&redaction, stored.state_before).await?;
        }
        Ok(())
    }
}

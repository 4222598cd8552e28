//! The rows of one event: itself, its id, and, when it is shown, its place in the timeline and the counters.

use std::sync::Arc;

use rules::event::Event;
use ruma::{EventId, UserId};

use super::{ActionError, Writer, is_message};
use crate::{
    actions::figures,
    storage::{
        Arrival, ChangeKind, Direction, KeyRange, Limit, Place, StateRoot,
        history::{EventAt, EventStanding, StoredEvent},
        keyspaces::{COME_AGAIN, EVENT_IDS, EVENTS, OWN_MESSAGES, TIMELINE},
    },
};

/// Places that are tried for an event from the past, until one is free.
const PLACES_TRIED_MAX: usize = 10_000;

/// Where in the timeline an event is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Behind everything: it is new.
    End,
    /// It is older than everything that is held, and so many steps before the event at that place.
    Older {
        /// The place.
        before: Place,
        /// How many.
        steps: u32,
    },
    /// It fills a hole, so many steps before the event at that place.
    Hole {
        /// The place.
        before: Place,
        /// How many.
        steps: u32,
    },
}

/// How an event is stored.
pub(super) struct Storing {
    pub(super) standing: EventStanding,
    pub(super) before: StateRoot,
    pub(super) after: StateRoot,
    pub(super) transaction_id: Option<String>,
    /// Where it is shown; none: nowhere.
    pub(super) slot: Option<Slot>,
    /// The number that it has already, as an outlier.
    pub(super) former: Option<Arrival>,
}

impl Storing {
    pub(super) fn shown(before: StateRoot, after: StateRoot, slot: Slot) -> Self {
        Self { slot: Some(slot), ..Self::hidden(EventStanding::Accepted, before, after) }
    }

    pub(super) fn hidden(standing: EventStanding, before: StateRoot, after: StateRoot) -> Self {
        Self { standing, before, after, transaction_id: None, slot: None, former: None }
    }
}

impl Writer {
    /// What is held of an event: its number, and how it stands.
    pub(super) async fn held(&self, id: &EventId) -> Result<Option<(Arrival, StoredEvent)>, ActionError> {
        let Some(arrival) = self.rows().arrival_of(id).await? else { return Ok(None) };
        let stored = self.get(&EVENTS, &arrival).await?;
        let stored = stored.ok_or_else(|| ActionError::internal(format!("event {id} has a number and no row")))?;
        Ok(Some((arrival, stored)))
    }

    /// Stages the rows of one event.
    pub(super) async fn store_event(
        &mut self,
        event: &Arc<Event>,
        storing: Storing,
    ) -> Result<(Arrival, Option<Place>), ActionError> {
        let Storing { standing, before, after, transaction_id, slot, former } = storing;
        let now = self.actions.now();
        let tip = self.tip_mut()?;
        let number = tip.next_arrival;
        tip.next_arrival = number.next();
        let arrival = former.unwrap_or(number);
        let place = match slot {
            None => None,
            Some(Slot::End) => {
                let place = tip.next_place;
                tip.next_place = Place(place.0 + 1, 0);
                tip.last_activity = now;
                if is_message(event.kind()) {
                    tip.messages += 1;
                    self.count_own(event.sender(), place).await?;
                }
                Some(place)
            }
            Some(past) => Some(self.free_place(past).await?),
        };
        let messages = match (place, slot) {
            (Some(place), Some(Slot::Hole { .. } | Slot::Older { .. })) => self.messages_before(place).await?,
            _ => self.view()?.tip.messages,
        };
        if let Some(place) = place {
            self.commit.put(&TIMELINE, &place, &arrival);
            self.name_foreign(event)?;
        }
        match former {
            Some(former) => self.commit.put(&COME_AGAIN, &number, &former),
            None => {
                let at = EventAt { room_id: self.room.id.clone(), arrival };
                self.commit.put_content(&EVENT_IDS, event.event_id(), &at)
            }
        };
        figures::count_event(&mut self.commit, &standing);
        let stored = StoredEvent {
            event_id: event.event_id().clone(),
            place,
            standing,
            state_before: before,
            state_after: after,
            messages,
            transaction_id,
            json: event.json().to_owned(),
            came_again: former.map(|_| number),
        };
        self.commit.put(&EVENTS, &arrival, &stored);
        self.commit.change(ChangeKind::Events, number.get());
        Ok((arrival, place))
    }

    /// The free place that is nearest to where an event from the past belongs.
    async fn free_place(&self, slot: Slot) -> Result<Place, ActionError> {
        let mut place = match slot {
            Slot::End => self.view()?.tip.next_place,
            Slot::Older { before, steps } => Place(before.0.min(Place::FIRST.0).saturating_sub(steps.into()), 0),
            Slot::Hole { before, steps } => {
                let end = if before.1 == 0 {
                    Place(before.0.saturating_sub(1), u32::MAX)
                } else {
                    Place(before.0, before.1 - 1)
                };
                Place(end.0, end.1.saturating_sub(steps.saturating_sub(1)).max(1))
            }
        };
        for _ in 0..PLACES_TRIED_MAX {
            if self.get(&TIMELINE, &place).await?.is_none() {
                return Ok(place);
            }
            place = match slot {
                Slot::Hole { .. } if place.1 > 1 => Place(place.0, place.1 - 1),
                _ => Place(place.0.saturating_sub(1), place.1),
            };
        }
        Err(ActionError::internal("there is no place for an event from the past"))
    }

    /// The messages up to a place of the past: those of the event before it, because what comes later does not count.
    async fn messages_before(&self, place: Place) -> Result<u64, ActionError> {
        let (store, home) = (&self.room.store, &self.room.home);
        let range = KeyRange::all().before(&place);
        let page = store.scan(&TIMELINE, home, range, Direction::Down, Limit::rows(1)).await?;
        let Some((_, arrival)) = page.rows.first() else { return Ok(0) };
        Ok(store.get(&EVENTS, home, arrival).await?.map_or(0, |stored| stored.messages))
    }

    async fn count_own(&mut self, sender: &UserId, place: Place) -> Result<(), ActionError> {
        let sender = sender.to_owned();
        let own = self.own_messages(&sender).await? + 1;
        self.own.insert(sender.clone(), own);
        self.commit.put(&OWN_MESSAGES, &(sender, place), &own);
        Ok(())
    }

    /// How many messages of their own a person has sent here, the staged ones included.
    pub(super) async fn own_messages(&self, user_id: &UserId) -> Result<u64, ActionError> {
        match self.own.get(user_id).or_else(|| self.working.own_messages(user_id)) {
            Some(own) => Ok(*own),
            None => self.rows().own_messages(user_id, None).await,
        }
    }
}

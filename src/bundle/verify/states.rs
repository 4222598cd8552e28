//! The states of a room while its events are walked through: kept for the events that others may still follow, shared as long as nothing differs.

use std::{collections::HashMap, sync::Arc};

use rules::{
    event::Event,
    resolution,
    state::{StateMap, change_of},
    version::Version,
};
use ruma::{EventId, OwnedEventId};

use super::{followers::Followers, known::Known};
use crate::bundle::{Fault, events::Bundled};

/// Entries of all states that are kept at the same time. A room that needs more has more branches than anybody's.
const ENTRIES_MAX: usize = 2_000_000;

/// A state: the event of each entry.
pub(crate) type State = Arc<StateMap<OwnedEventId>>;

/// States behind events.
#[derive(Default)]
pub(crate) struct States {
    behind: HashMap<u32, State>,
}

impl States {
    /// The state before an event: what those behind the events before it make together. None: one of those is not known to stand anywhere.
    pub(crate) fn before(
        &mut self,
        event: &Bundled,
        (followers, known, version): (&mut Followers, &Known, &Version),
    ) -> Result<Option<State>, Fault> {
        let mut states: Vec<State> = Vec::with_capacity(event.prev_events.len());
        let mut is_whole = true;
        for id in &event.prev_events {
            let number = followers.number(id);
            match number.and_then(|number| self.behind.get(&number)) {
                Some(state) if states.iter().any(|other| Arc::ptr_eq(other, state)) => {}
                Some(state) => states.push(Arc::clone(state)),
                None => is_whole = false,
            }
            if let Some(number) = number.filter(|number| followers.one_less(*number) == 0) {
                self.behind.remove(&number);
            }
        }
        if !is_whole {
            return Ok(None);
        }
        merged(states, known, version).map(Some).map_err(|fault| event.fault(fault))
    }

    /// Keeps the state behind an event that others name.
    pub(crate) fn keep(&mut self, number: u32, state: State) -> Result<(), Fault> {
        self.behind.insert(number, state);
        // Counting is dear, so it is done only now and then, and only where there are branches.
        if self.behind.len() > 64 && self.behind.len().is_power_of_two() {
            let mut seen = std::collections::HashSet::new();
            let fresh = self.behind.values().filter(|state| seen.insert(Arc::as_ptr(state)));
            if fresh.map(|state| state.len()).sum::<usize>() > ENTRIES_MAX {
                return Err(Fault::new("the room has more branches at the same time than can be checked"));
            }
        }
        Ok(())
    }

    /// The state behind some events together.
    pub(crate) fn behind_all(
        &self,
        events: &[OwnedEventId],
        (followers, known, version): (&Followers, &Known, &Version),
    ) -> Result<State, Fault> {
        let mut states = Vec::with_capacity(events.len());
        for id in events {
            let state = followers.number(id).and_then(|number| self.behind.get(&number));
            let missing = || Fault::new("the manifest names it as one of the newest, and no such event is in the room");
            states.push(Arc::clone(state.ok_or_else(|| missing().about(id))?));
        }
        merged(states, known, version).map_err(Fault::new)
    }
}

fn merged(mut states: Vec<State>, known: &Known, version: &Version) -> Result<State, String> {
    if states.len() > 1 {
        let whole: Vec<StateMap<OwnedEventId>> = states.iter().map(|state| StateMap::clone(state)).collect();
        let resolved = resolution::resolve(version, &whole, &|id: &EventId| known.get(id));
        return resolved.map(Arc::new).map_err(|error| format!("the states before it cannot be merged: {error}"));
    }
    Ok(states.pop().unwrap_or_default())
}

/// The state with an event.
pub(crate) fn with(mut state: State, event: &Event) -> State {
    if let Some(key) = change_of(event) {
        Arc::make_mut(&mut state).insert(key, event.event_id().clone());
    }
    state
}

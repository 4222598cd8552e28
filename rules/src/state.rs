//! A room's state, and the change that one event makes to it. May import `event` and ruma's types.

use std::{collections::HashMap, sync::Arc};

use ruma::events::StateEventType;

use crate::event::Event;

/// Event type and state key.
pub type StateKey = (StateEventType, String);

/// A state, or a part of one.
pub type StateMap<T> = ruma::state_res::StateMap<T>;

/// The entry that an event replaces, unless it is rejected. None: it is no state event.
#[must_use]
pub fn change_of(event: &Event) -> Option<StateKey> {
    let state_key = event.state_key()?;
    Some((StateEventType::from(event.type_str()), state_key.to_owned()))
}

/// Something that knows a room's state at one point.
pub trait StateView {
    /// The event of an entry. None: the state has no such entry.
    fn get(&self, event_type: &StateEventType, state_key: &str) -> Option<Arc<Event>>;
}

impl StateView for HashMap<StateKey, Arc<Event>> {
    fn get(&self, event_type: &StateEventType, state_key: &str) -> Option<Arc<Event>> {
        HashMap::get(self, &(event_type.clone(), state_key.to_owned())).cloned()
    }
}

impl<F> StateView for F
where
    F: Fn(&StateEventType, &str) -> Option<Arc<Event>>,
{
    fn get(&self, event_type: &StateEventType, state_key: &str) -> Option<Arc<Event>> {
        self(event_type, state_key)
    }
}

/// A state from the events it is made of. Of two for one entry the later counts; what is no state event is left out.
#[must_use]
pub fn state_of(events: impl IntoIterator<Item = Arc<Event>>) -> StateMap<Arc<Event>> {
    events.into_iter().filter_map(|event| Some((change_of(&event)?, event))).collect()
}

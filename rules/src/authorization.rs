//! Who may do what: steps 4 to 6 of the checks on receipt. Wraps ruma's authorization rules and adds what they leave to
//! the caller. What fails step 4 or 5 is rejected, what fails step 6 soft-failed. May import `event`, `format`, `state`,
//! `version`, ruma.
//!
//! Source: <https://spec.matrix.org/v1.19/rooms/v12/#authorization-rules>

use std::sync::Arc;

use ruma::{
    CanonicalJsonValue, EventId, OwnedEventId, UserId,
    events::{StateEventType, TimelineEventType},
    state_res::{auth_types_for_event, check_state_dependent_auth_rules, check_state_independent_auth_rules},
};
use serde_json::value::RawValue;

use crate::{
    canonical,
    event::Event,
    format,
    state::{StateKey, StateMap, StateView, state_of},
    version::Version,
};

/// Why the rules refuse an event. For logs and administrators; peers get a neutral text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

impl Refusal {
    /// A refusal with this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0
    }
}

/// All entries of a state that judging an event and choosing its auth events need, the create event too.
///
/// # Errors
/// The content of a membership event cannot be understood.
pub fn needed_state(
    version: &Version,
    kind: &TimelineEventType,
    sender: &UserId,
    state_key: Option<&str>,
    content: &RawValue,
) -> Result<Vec<StateKey>, Refusal> {
    let rules = &version.rules().authorization;
    let mut needed = auth_types_for_event(kind, sender, state_key, content, rules).map_err(Refusal)?;
    let create = (StateEventType::RoomCreate, String::new());
    if *kind != TimelineEventType::RoomCreate && !needed.contains(&create) {
        needed.push(create);
    }
    Ok(needed)
}

/// [`needed_state`] of an event.
///
/// # Errors
/// As [`needed_state`].
pub fn needed_state_of(version: &Version, event: &Event) -> Result<Vec<StateKey>, Refusal> {
    needed_state(version, event.kind(), event.sender(), event.state_key(), event.content())
}

/// The auth events of a new event, from the state that [`needed_state`] asked for. In version 12 the create event is
/// found through the room id and stays out.
#[must_use]
pub fn select_auth_events(version: &Version, needed: &[StateKey], state: &impl StateView) -> Vec<OwnedEventId> {
    needed
        .iter()
        .filter(|(event_type, _)| !(version.room_id_is_create_hash() && *event_type == StateEventType::RoomCreate))
        .filter_map(|(event_type, state_key)| state.get(event_type, state_key))
        .map(|event| event.event_id().clone())
        .collect()
}

/// The events that [`check_auth_events`] will ask for: the auth events, and in version 12 the create event.
#[must_use]
pub fn needed_auth_events(version: &Version, event: &Event) -> Vec<OwnedEventId> {
    let mut needed = event.auth_events().to_vec();
    if version.room_id_is_create_hash() && *event.kind() != TimelineEventType::RoomCreate {
        needed.extend(format::create_of_room(event.room_id()));
    }
    needed
}

/// Step 4: the rules that need no state, and the others against the event's own auth events.
///
/// # Errors
/// The event has to be rejected. An auth event that `fetch` does not find is such a reason too: a caller who could not
/// look everywhere must not ask yet.
pub fn check_auth_events(
    version: &Version,
    event: &Event,
    fetch: impl Fn(&EventId) -> Option<Arc<Event>>,
) -> Result<(), Refusal> {
    check_create(version, event)?;
    check_state_independent_auth_rules(&version.rules().authorization, event, &fetch).map_err(Refusal)?;
    if *event.kind() == TimelineEventType::RoomCreate {
        return Ok(());
    }
    let mut state: StateMap<Arc<Event>> = state_of(event.auth_events().iter().filter_map(|id| fetch(id)));
    if version.room_id_is_create_hash() {
        let create = format::create_of_room(event.room_id()).and_then(|id| fetch(&id));
        let create = create.filter(|create| *create.kind() == TimelineEventType::RoomCreate);
        let create = create.ok_or_else(|| Refusal::new("the room id is not the hash of a create event"))?;
        state.insert((StateEventType::RoomCreate, String::new()), create);
    }
    check(version, event, &state)
}

/// Steps 5 and 6: the rules against a state. Before, the event must have passed [`check_auth_events`], once.
///
/// # Errors
/// The state does not allow the event.
pub fn check(version: &Version, event: &Event, state: &impl StateView) -> Result<(), Refusal> {
    let fetch = |event_type: &StateEventType, state_key: &str| state.get(event_type, state_key);
    check_state_dependent_auth_rules(&version.rules().authorization, event, fetch).map_err(Refusal)
}

/// What ruma leaves to the caller: the version that a create event names is the one it is judged by. A create event that
/// is no state, or that leans on other events, makes a room that nobody can work with, and is refused as well.
fn check_create(version: &Version, event: &Event) -> Result<(), Refusal> {
    if *event.kind() != TimelineEventType::RoomCreate {
        return Ok(());
    }
    if event.state_key() != Some("") {
        return Err(Refusal::new("a create event needs an empty state key"));
    }
    if !event.auth_events().is_empty() {
        return Err(Refusal::new("a create event cannot have auth events"));
    }
    let content = canonical::read_object(event.content().get()).map_err(|error| Refusal::new(error.to_string()))?;
    match content.get("room_version") {
        Some(CanonicalJsonValue::String(named)) if named == version.as_str() => Ok(()),
        _ => Err(Refusal::new(format!("the create event does not name room version {}", version.as_str()))),
    }
}

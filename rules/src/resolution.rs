//! Merging forked states. Wraps ruma's algorithm (2.0 for versions up to 11, 2.1 for 12) and computes what it asks for:
//! the auth difference and the conflicted state subgraph. May import `authorization`, `event`, `state`, `version`, ruma.
//!
//! The auth chain of a state holds the state's own events, as the most deployed server counts it; the specification's
//! text starts with their auth events. It decides when an event of one state lies in the chain of another.
//! Source: <https://spec.matrix.org/v1.19/rooms/v12/#state-resolution>
//!
//! **Which entries matter.** Of the entries that all states share, a merge needs those that its events are checked
//! against, and the chains of the others only to find that an event is common to all states. [`resolve_conflict`] asks
//! for single entries by key and for all of them ([`Shared::reaching`]) only when single ones leave doubt, so a
//! fork in a room of 100,000 members does not load 100,000 events. Its walk stops at every shared entry: what lies
//! behind it lies in every chain. The result is that of [`resolve`], entry for entry.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet},
    sync::Arc,
};

use ruma::{
    EventId, OwnedEventId,
    events::StateEventType,
    state_res::{self, utils::event_id_set::EventIdSet},
};

use crate::{
    authorization::needed_state_of,
    event::Event,
    state::{StateKey, StateMap, change_of},
    version::Version,
};

/// Why states could not be merged. It must not stop the room: keep the state, log, try again when more is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolutionError {
    /// An event of a state, or of an auth chain, is not held.
    #[error("the event `{0}` is missing")]
    Missing(OwnedEventId),
    /// The algorithm met an event that cannot be part of a state.
    #[error("states cannot be merged: {0}")]
    Unreadable(String),
}

/// The entries that all states to be merged have in common.
pub trait Shared {
    /// The event of an entry, if all states have the same.
    fn get(&self, key: &StateKey) -> Option<OwnedEventId>;

    /// The entries that may have one of `candidates` among their auth events, or those of these, and so on. All entries
    /// is always right. Where an event is stored only after its auth events, entries stored before all candidates may
    /// be left out.
    fn reaching(&self, candidates: &BTreeSet<OwnedEventId>) -> Vec<OwnedEventId>;
}

impl Shared for StateMap<OwnedEventId> {
    fn get(&self, key: &StateKey) -> Option<OwnedEventId> {
        HashMap::get(self, key).cloned()
    }

    fn reaching(&self, _candidates: &BTreeSet<OwnedEventId>) -> Vec<OwnedEventId> {
        self.values().cloned().collect()
    }
}

/// Merges whole states.
///
/// # Errors
/// An event is missing or unreadable.
pub fn resolve(
    version: &Version,
    states: &[StateMap<OwnedEventId>],
    events: &impl Fn(&EventId) -> Option<Arc<Event>>,
) -> Result<StateMap<OwnedEventId>, ResolutionError> {
    let (mut shared, conflicted) = split(states);
    let resolved = resolve_conflict(version, &shared, &conflicted, events)?;
    shared.extend(resolved);
    Ok(shared)
}

/// Splits states into what all have in common and, for every other key, the event that each has.
#[must_use]
pub fn split(
    states: &[StateMap<OwnedEventId>],
) -> (StateMap<OwnedEventId>, BTreeMap<StateKey, Vec<Option<OwnedEventId>>>) {
    let keys: HashSet<&StateKey> = states.iter().flat_map(HashMap::keys).collect();
    let mut shared = StateMap::new();
    let mut conflicted = BTreeMap::new();
    for key in keys {
        let entries: Vec<Option<OwnedEventId>> = states.iter().map(|state| HashMap::get(state, key).cloned()).collect();
        match entries.first() {
            Some(Some(first)) if entries.iter().all(|entry| entry.as_ref() == Some(first)) => {
                shared.insert(key.clone(), first.clone());
            }
            _ => {
                conflicted.insert(key.clone(), entries);
            }
        }
    }
    (shared, conflicted)
}

/// Merges what states differ in. `conflicted` holds, for every key that they do not share, one entry per state, None
/// where a state has none. The answer holds what the merged state has beside the shared entries; by the algorithm that
/// may be a key which no state had, and a conflicted key may be missing from it.
///
/// # Errors
/// An event is missing or unreadable.
pub fn resolve_conflict(
    version: &Version,
    shared: &impl Shared,
    conflicted: &BTreeMap<StateKey, Vec<Option<OwnedEventId>>>,
    events: &impl Fn(&EventId) -> Option<Arc<Event>>,
) -> Result<BTreeMap<StateKey, OwnedEventId>, ResolutionError> {
    if conflicted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let walk = Walk { events };
    let difference = auth_difference(&walk, shared, conflicted)?;
    let conflicted_events: BTreeSet<OwnedEventId> = conflicted.values().flatten().flatten().cloned().collect();
    let subgraph = if version.state_resolution().consider_conflicted_state_subgraph {
        conflicted_subgraph(&walk, &conflicted_events)?
    } else {
        BTreeSet::new()
    };

    let mut keys = BTreeSet::from([(StateEventType::RoomPowerLevels, String::new())]);
    for id in difference.iter().chain(&subgraph).chain(&conflicted_events) {
        let event = walk.load(id)?;
        keys.extend(needed_state_of(version, &event).unwrap_or_default());
        keys.extend(change_of(&event));
    }
    let common: StateMap<OwnedEventId> = keys
        .into_iter()
        .filter(|key| !conflicted.contains_key(key))
        .filter_map(|key| Some((key.clone(), shared.get(&key)?)))
        .collect();
    let resolved = run(version, &common, conflicted, difference, subgraph, events)?;
    Ok(resolved.into_iter().filter(|(key, _)| !common.contains_key(key)).collect())
}

/// Hands ruma the states, reduced to what it looks at. The auth difference is passed as two chains of which one is
/// empty: ruma's difference of these is the difference that was computed here.
fn run(
    version: &Version,
    common: &StateMap<OwnedEventId>,
    conflicted: &BTreeMap<StateKey, Vec<Option<OwnedEventId>>>,
    difference: BTreeSet<OwnedEventId>,
    subgraph: BTreeSet<OwnedEventId>,
    events: &impl Fn(&EventId) -> Option<Arc<Event>>,
) -> Result<StateMap<OwnedEventId>, ResolutionError> {
    let count = conflicted.values().map(Vec::len).max().unwrap_or_default();
    let states: Vec<StateMap<OwnedEventId>> = (0..count)
        .map(|index| {
            let own = conflicted
                .iter()
                .filter_map(|(key, entries)| entries.get(index).cloned().flatten().map(|id| (key.clone(), id)));
            common.clone().into_iter().chain(own).collect()
        })
        .collect();
    let chains = vec![difference.into_iter().collect::<EventIdSet<_>>(), EventIdSet::new()];
    let missing = RefCell::new(None);
    let fetch = |id: &EventId| {
        let event = events(id);
        if event.is_none() {
            missing.replace(Some(id.to_owned()));
        }
        event
    };
    let resolved = state_res::resolve(
        &version.rules().authorization,
        version.state_resolution(),
        &states,
        chains,
        fetch,
        |_conflicted| Some(subgraph.iter().cloned().collect::<EventIdSet<_>>()),
    );
    // ruma passes over an event that leans on a missing one; the state would be another than where it is held.
    match (missing.into_inner(), resolved) {
        (Some(id), _) | (None, Err(state_res::Error::NotFound(id))) => Err(ResolutionError::Missing(id)),
        (None, Err(error)) => Err(ResolutionError::Unreadable(error.to_string())),
        (None, Ok(resolved)) => Ok(resolved),
    }
}

/// Loads events and fails on those that are not held.
struct Walk<'a, F> {
    events: &'a F,
}

impl<F: Fn(&EventId) -> Option<Arc<Event>>> Walk<'_, F> {
    fn load(&self, id: &EventId) -> Result<Arc<Event>, ResolutionError> {
        (self.events)(id).ok_or_else(|| ResolutionError::Missing(id.to_owned()))
    }

    /// What is reached over auth events from `from`, which is part of it, up to where `stops` says so.
    fn reach(
        &self,
        from: impl IntoIterator<Item = OwnedEventId>,
        stops: impl Fn(&Event) -> bool,
    ) -> Result<BTreeSet<OwnedEventId>, ResolutionError> {
        let mut open: Vec<OwnedEventId> = from.into_iter().collect();
        let mut reached = BTreeSet::new();
        while let Some(id) = open.pop() {
            if reached.contains(&id) {
                continue;
            }
            let event = self.load(&id)?;
            if !stops(&event) {
                open.extend(event.auth_events().iter().cloned());
                reached.insert(id);
            }
        }
        Ok(reached)
    }
}

/// The events that are in the auth chain of some state but not of all.
///
/// What a shared entry leads to is in every chain. So the conflicted entries are walked up to shared ones; of what some
/// of these walks met but not all, that is taken away which shared entries lead to by another way.
fn auth_difference<F: Fn(&EventId) -> Option<Arc<Event>>>(
    walk: &Walk<'_, F>,
    shared: &impl Shared,
    conflicted: &BTreeMap<StateKey, Vec<Option<OwnedEventId>>>,
) -> Result<BTreeSet<OwnedEventId>, ResolutionError> {
    let is_shared =
        |event: &Event| change_of(event).and_then(|key| shared.get(&key)).as_ref() == Some(event.event_id());
    let count = conflicted.values().map(Vec::len).max().unwrap_or_default();
    let mut met: BTreeMap<OwnedEventId, usize> = BTreeMap::new();
    for index in 0..count {
        let own = conflicted.values().filter_map(|entries| entries.get(index).cloned().flatten());
        for id in walk.reach(own, is_shared)? {
            *met.entry(id).or_default() += 1;
        }
    }
    let mut difference: BTreeSet<OwnedEventId> =
        met.into_iter().filter(|(_, times)| *times < count).map(|(id, _)| id).collect();

    // Conflicted events take part in the merge anyway, so there is no need to know whether they are common.
    let certain: BTreeSet<OwnedEventId> = conflicted.values().flatten().flatten().cloned().collect();
    let mut doubtful: BTreeSet<OwnedEventId> = difference.difference(&certain).cloned().collect();
    difference.retain(|id| !doubtful.contains(id));
    let mut visited = HashSet::new();
    let mut successors = BTreeSet::new();
    for id in &doubtful {
        successors.extend(change_of(&*walk.load(id)?).and_then(|key| shared.get(&key)));
    }
    take_away_reached(walk, &mut doubtful, successors, &mut visited)?;
    if !doubtful.is_empty() {
        let all = shared.reaching(&doubtful);
        take_away_reached(walk, &mut doubtful, all, &mut visited)?;
    }
    difference.extend(doubtful);
    Ok(difference)
}

/// Takes away from `doubtful` what is reached from `from`. Deep events go first, as they are the likelier to be near;
/// the order changes only the work, so it does not matter that depths can lie.
fn take_away_reached<F: Fn(&EventId) -> Option<Arc<Event>>>(
    walk: &Walk<'_, F>,
    doubtful: &mut BTreeSet<OwnedEventId>,
    from: impl IntoIterator<Item = OwnedEventId>,
    visited: &mut HashSet<OwnedEventId>,
) -> Result<(), ResolutionError> {
    let mut open = BinaryHeap::new();
    for id in from {
        open.push((walk.load(&id)?.depth(), id));
    }
    while let Some((_, id)) = open.pop() {
        if doubtful.is_empty() {
            break;
        }
        if !visited.insert(id.clone()) {
            continue;
        }
        doubtful.remove(&id);
        for auth_id in walk.load(&id)?.auth_events() {
            if !visited.contains(auth_id) {
                open.push((walk.load(auth_id)?.depth(), auth_id.clone()));
            }
        }
    }
    Ok(())
}

/// The events on a path over auth events from one conflicted event to another, the ends included.
fn conflicted_subgraph<F: Fn(&EventId) -> Option<Arc<Event>>>(
    walk: &Walk<'_, F>,
    conflicted: &BTreeSet<OwnedEventId>,
) -> Result<BTreeSet<OwnedEventId>, ResolutionError> {
    if conflicted.len() < 2 {
        return Ok(conflicted.clone());
    }
    let mut named_by: HashMap<OwnedEventId, Vec<OwnedEventId>> = HashMap::new();
    for id in walk.reach(conflicted.iter().cloned(), |_| false)? {
        for auth_id in walk.load(&id)?.auth_events() {
            named_by.entry(auth_id.clone()).or_default().push(id.clone());
        }
    }
    let mut open: Vec<&OwnedEventId> = conflicted.iter().collect();
    let mut subgraph = BTreeSet::new();
    while let Some(id) = open.pop() {
        if subgraph.insert(id.clone()) {
            open.extend(named_by.get(id).into_iter().flatten());
        }
    }
    Ok(subgraph)
}

#[cfg(test)]
mod tests;

//! Merging the states of several heads: finds what they differ in, lets `rules::resolution` decide, and says what to change in the first state.
//!
//! The rules are pure and ask through closures. What they ask for and is not at hand is noted and loaded, and they are asked again; so only what matters
//! is read, however large the room is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use rules::{
    authorization,
    event::Event,
    resolution::{self, ResolutionError, Shared},
    state::{StateKey, change_of},
    version::Version,
};
use ruma::{EventId, OwnedEventId};

use super::{error::ActionError, rows::Rows};
use crate::storage::{Arrival, StateRoot, StateTree};

/// How often the rules may ask for more.
const ROUNDS_MAX: usize = 1_000;
/// State entries that are read at a time.
const ENTRIES_AT_A_TIME: usize = 1_000;

/// What to change in the first state, so that it is the merged one.
pub type Changes = Vec<(StateKey, Option<Arrival>)>;

/// Merges states of one room.
///
/// # Errors
/// When an event that matters is not held, or storage cannot be read.
pub async fn merge(rows: &Rows<'_>, version: &Version, roots: &[StateRoot]) -> Result<Changes, ActionError> {
    let Some((first, others)) = roots.split_first() else { return Ok(Vec::new()) };
    let mut facts = Facts { root: *first, ..Facts::default() };
    let conflicted = conflicted(rows, version, *first, others, &mut facts).await?;
    if conflicted.is_empty() {
        return Ok(Vec::new());
    }
    for _ in 0..ROUNDS_MAX {
        let outcome = resolution::resolve_conflict(version, &facts, &conflicted, &|id: &EventId| facts.event(id));
        let missed = std::mem::take(&mut *facts.missed.lock());
        if missed.is_empty() {
            let resolved = outcome.map_err(not_resolved)?;
            return changes(rows, &conflicted, &resolved).await;
        }
        facts.load(rows, version, missed).await?;
    }
    Err(ActionError::internal("state resolution asked for more than it may"))
}

fn not_resolved(error: ResolutionError) -> ActionError {
    ActionError::internal(format!("states cannot be merged: {error}"))
}

type Conflicted = BTreeMap<StateKey, Vec<Option<OwnedEventId>>>;

/// For every key that the states do not share, the event of each.
async fn conflicted(
    rows: &Rows<'_>,
    version: &Version,
    first: StateRoot,
    others: &[StateRoot],
    facts: &mut Facts,
) -> Result<Conflicted, ActionError> {
    let tree = StateTree::new(rows.store, rows.home.clone());
    let mut numbers: BTreeMap<u32, Vec<Option<Arrival>>> = BTreeMap::new();
    let mut differing = BTreeSet::new();
    for other in others {
        differing.extend(tree.diff(first, *other).await?.into_iter().map(|(number, _, _)| number));
    }
    let differing: Vec<u32> = differing.into_iter().collect();
    for root in std::iter::once(&first).chain(others) {
        for (number, arrival) in differing.iter().zip(tree.get_many(*root, &differing).await?) {
            numbers.entry(*number).or_default().push(arrival);
        }
    }
    let mut conflicted = Conflicted::new();
    for arrivals in numbers.into_values() {
        let (mut key, mut ids) = (None, Vec::with_capacity(arrivals.len()));
        for arrival in arrivals {
            ids.push(match arrival {
                Some(arrival) => {
                    let (_, event) = rows.event(version, arrival).await?;
                    key = change_of(&event).or(key);
                    let id = event.event_id().clone();
                    facts.events.insert(id.clone(), Some(event));
                    Some(id)
                }
                None => None,
            });
        }
        if let Some(key) = key {
            // Shared is only what all states have alike.
            facts.entries.insert(key.clone(), None);
            conflicted.insert(key, ids);
        }
    }
    let known: Vec<OwnedEventId> = facts.events.keys().cloned().collect();
    facts.load_chains(rows, version, known).await?;
    Ok(conflicted)
}

/// What the first state lacks of the merged one.
async fn changes(
    rows: &Rows<'_>,
    conflicted: &Conflicted,
    resolved: &BTreeMap<StateKey, OwnedEventId>,
) -> Result<Changes, ActionError> {
    let keys: BTreeSet<&StateKey> = conflicted.keys().chain(resolved.keys()).collect();
    let mut changes = Changes::new();
    for key in keys {
        let before = conflicted.get(key).and_then(|ids| ids.first()).and_then(Option::as_ref);
        let after = resolved.get(key);
        if before == after {
            continue;
        }
        let arrival = match after {
            Some(id) => {
                Some(rows.arrival_of(id).await?.ok_or_else(|| ActionError::internal("a resolved event is gone"))?)
            }
            None => None,
        };
        changes.push((key.clone(), arrival));
    }
    Ok(changes)
}

/// What the rules asked for and did not get.
#[derive(Default)]
struct Missed {
    events: BTreeSet<OwnedEventId>,
    entries: BTreeSet<StateKey>,
    reaching: Option<BTreeSet<OwnedEventId>>,
}

impl Missed {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.entries.is_empty() && self.reaching.is_none()
    }
}

/// What is at hand for the rules.
#[derive(Default)]
struct Facts {
    root: StateRoot,
    events: HashMap<OwnedEventId, Option<Arc<Event>>>,
    entries: HashMap<StateKey, Option<OwnedEventId>>,
    reaching: HashMap<BTreeSet<OwnedEventId>, Vec<OwnedEventId>>,
    missed: Mutex<Missed>,
}

impl Facts {
    fn event(&self, id: &EventId) -> Option<Arc<Event>> {
        match self.events.get(id) {
            Some(event) => event.clone(),
            None => {
                self.missed.lock().events.insert(id.to_owned());
                None
            }
        }
    }

    async fn load(&mut self, rows: &Rows<'_>, version: &Version, missed: Missed) -> Result<(), ActionError> {
        for (event_type, state_key) in missed.entries {
            let event = rows.state_event(version, self.root, &event_type.to_string(), &state_key).await?;
            self.entries.insert((event_type, state_key), event.map(|event| event.event_id().clone()));
        }
        if let Some(candidates) = missed.reaching {
            let reaching = self.shared_since(rows, version, &candidates).await?;
            self.reaching.insert(candidates, reaching);
        }
        self.load_chains(rows, version, missed.events.into_iter().collect()).await
    }

    /// Loads events with everything that their auth events lead to.
    async fn load_chains(
        &mut self,
        rows: &Rows<'_>,
        version: &Version,
        mut wanted: Vec<OwnedEventId>,
    ) -> Result<(), ActionError> {
        while let Some(id) = wanted.pop() {
            let event = match self.events.get(&id) {
                Some(event) => event.clone(),
                None => match rows.arrival_of(&id).await? {
                    Some(arrival) => Some(rows.event(version, arrival).await?.1),
                    None => None,
                },
            };
            let auth_events = event.iter().flat_map(|event| authorization::needed_auth_events(version, event));
            wanted.extend(auth_events.filter(|id| !self.events.contains_key(id)));
            self.events.insert(id, event);
        }
        Ok(())
    }

    /// The shared entries that were stored after the first of the candidates: an event is stored only after its auth events.
    async fn shared_since(
        &self,
        rows: &Rows<'_>,
        version: &Version,
        candidates: &BTreeSet<OwnedEventId>,
    ) -> Result<Vec<OwnedEventId>, ActionError> {
        let mut since: Option<Arrival> = None;
        for id in candidates {
            if let Some(arrival) = rows.arrival_of(id).await? {
                since = Some(since.map_or(arrival, |since| since.min(arrival)));
            }
        }
        let Some(since) = since else { return Ok(Vec::new()) };
        let tree = StateTree::new(rows.store, rows.home.clone());
        let (mut found, mut from) = (Vec::new(), Some(0));
        while let Some(start) = from {
            let entries = tree.walk(self.root, start, ENTRIES_AT_A_TIME).await?;
            let is_full = entries.len() == ENTRIES_AT_A_TIME;
            from = entries.last().filter(|_| is_full).and_then(|(last, _)| last.checked_add(1));
            for (_, arrival) in entries.into_iter().filter(|(_, arrival)| *arrival > since) {
                let event = rows.event(version, arrival).await?.1;
                let is_conflicted = change_of(&event).is_some_and(|key| matches!(self.entries.get(&key), Some(None)));
                if !is_conflicted {
                    found.push(event.event_id().clone());
                }
            }
        }
        Ok(found)
    }
}

impl Shared for Facts {
    fn get(&self, key: &StateKey) -> Option<OwnedEventId> {
        match self.entries.get(key) {
            Some(entry) => entry.clone(),
            None => {
                self.missed.lock().entries.insert(key.clone());
                None
            }
        }
    }

    fn reaching(&self, candidates: &BTreeSet<OwnedEventId>) -> Vec<OwnedEventId> {
        match self.reaching.get(candidates) {
            Some(found) => found.clone(),
            None => {
                self.missed.lock().reaching = Some(candidates.clone());
                Vec::new()
            }
        }
    }
}

//! Which events a bundle has, and how many others follow each: with it, a state is kept only as long as somebody may still ask for it.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
};

use ruma::EventId;

use crate::bundle::{Archive, Fault, Manifest, events};

/// A few bytes for each event, whatever the length of its id: the hash of the id under a key that nobody knows.
pub(crate) struct Graph {
    hash: RandomState,
    numbers: HashMap<u64, u32>,
    followers: Vec<u32>,
}

/// Events for which there is room at once, if the manifest names so many: room that is not used is not taken from the system.
const EXPECTED_MAX: usize = 2_000_000;
/// Events of one bundle.
const EVENTS_MAX: u32 = u32::MAX - 1;

impl Graph {
    /// Reads the whole bundle once.
    ///
    /// # Errors
    /// An event is there twice, or there are too many; as [`events::walk`].
    pub(crate) fn read(
        archive: &Archive,
        manifest: &Manifest,
        mut progress: impl FnMut() -> Result<(), Fault>,
    ) -> Result<Self, Fault> {
        let expected = usize::try_from(manifest.counts.events).unwrap_or(usize::MAX).min(EXPECTED_MAX);
        let (hash, numbers) = (RandomState::new(), HashMap::with_capacity(expected));
        let mut graph = Self { hash, numbers, followers: Vec::with_capacity(expected) };
        events::walk(archive, manifest, |event, _| {
            let number = u32::try_from(graph.followers.len()).ok().filter(|number| *number < EVENTS_MAX);
            let number = number.ok_or_else(|| Fault::new("there are more events than any bundle may have"))?;
            let key = graph.hash.hash_one(&event.event_id);
            if graph.numbers.insert(key, number).is_some() {
                return Err(event.fault("the event is there twice"));
            }
            graph.followers.push(0);
            for before in &event.prev_events {
                graph.count(before);
            }
            progress()
        })?;
        for id in &manifest.extremities {
            graph.count(id);
        }
        Ok(graph)
    }

    fn count(&mut self, id: &EventId) {
        if let Some(followers) =
            self.number(id).and_then(|number| self.followers.get_mut(usize::try_from(number).ok()?))
        {
            *followers = followers.saturating_add(1);
        }
    }

    /// The number of an event in the order of the file; none: it is not there.
    pub(crate) fn number(&self, id: &EventId) -> Option<u32> {
        self.numbers.get(&self.hash.hash_one(id)).copied()
    }

    /// How many events that come later in the file may still ask for the state behind this one.
    pub(crate) fn followers(&self, number: u32) -> u32 {
        usize::try_from(number).ok().and_then(|number| self.followers.get(number)).copied().unwrap_or_default()
    }

    /// One of those has asked. Answers how many are left.
    pub(crate) fn one_less(&mut self, number: u32) -> u32 {
        let followers = usize::try_from(number).ok().and_then(|number| self.followers.get_mut(number));
        followers.map_or(0, |followers| {
            *followers = followers.saturating_sub(1);
            *followers
        })
    }

    /// How many events there are.
    pub(crate) fn len(&self) -> usize {
        self.followers.len()
    }
}

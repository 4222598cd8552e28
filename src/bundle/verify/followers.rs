//! How many events of a bundle come behind each: with it, a state is kept only as long as somebody may still ask for it. A few bytes for each event, whatever the
//! length of its id: the hash of the id under a key that nobody knows.

use std::{
    borrow::Cow,
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
};

use rules::canonical;
use ruma::{CanonicalJsonValue, EventId};
use serde::Deserialize;

use crate::bundle::Fault;

/// Names that are gathered at least before they are counted.
const GATHERED_MIN: usize = 128 * 1024;
/// Events for which there is room at once, if the manifest names so many: room that is not used is not taken from the system.
const EXPECTED_MAX: usize = 2_000_000;
/// Different events that the events of a bundle may name as those before them, for each event that the manifest counts: as many as a new event may name.
const NAMED_PER_EVENT_MAX: usize = 20;

/// Counts how often each event is named as one before another.
pub(super) struct Counting {
    followers: Followers,
    gathered: Vec<u64>,
    named_max: usize,
}

/// How often each event is named, and which events have come.
#[derive(Default)]
pub(super) struct Followers {
    hash: RandomState,
    /// The events that are named, in the order of their names.
    named: Vec<Named>,
    /// Those that have come and that nobody names.
    unnamed: HashSet<u64>,
}

/// An event that is named.
#[derive(Clone, Copy)]
struct Named {
    /// The hash of its id.
    name: u64,
    /// How often it is by what has not come yet.
    left: u32,
    /// It has come itself.
    has_come: bool,
}

impl Counting {
    /// Of a bundle that says it has so many events.
    pub(super) fn new(events: u64) -> Self {
        let events = usize::try_from(events).unwrap_or(usize::MAX);
        let named_max = events.saturating_add(1).saturating_mul(NAMED_PER_EVENT_MAX);
        let named = Vec::with_capacity(events.min(EXPECTED_MAX));
        let followers = Followers { named, ..Followers::default() };
        Self { followers, gathered: Vec::new(), named_max }
    }

    /// What ids are remembered as.
    pub(super) fn hash(&self) -> RandomState {
        self.followers.hash.clone()
    }

    /// These are named.
    ///
    /// # Errors
    /// More are named than in any room.
    pub(super) fn gather(&mut self, names: &[u64]) -> Result<(), Fault> {
        self.gathered.extend_from_slice(names);
        // More the more there are, so that they are not sorted again for each few.
        if self.gathered.len() >= GATHERED_MIN.max(self.followers.named.len() / 8) { self.count() } else { Ok(()) }
    }

    /// What was counted, with the newest events, which are asked for at the end.
    ///
    /// # Errors
    /// As [`Counting::gather`].
    pub(super) fn finish<'a>(mut self, newest: impl Iterator<Item = &'a EventId>) -> Result<Followers, Fault> {
        let newest: Vec<u64> = newest.map(|id| self.followers.hash.hash_one(id)).collect();
        self.gather(&newest)?;
        self.count()?;
        Ok(self.followers)
    }

    /// Adds what was gathered to what was counted before.
    fn count(&mut self) -> Result<(), Fault> {
        self.gathered.sort_unstable();
        let named = &mut self.followers.named;
        let counted = named.len();
        for same in self.gathered.chunk_by(u64::eq) {
            let (Some(name), left) = (same.first(), u32::try_from(same.len()).unwrap_or(u32::MAX)) else { continue };
            let before = named.get(..counted).unwrap_or_default();
            match before.binary_search_by_key(name, |named| named.name).ok().and_then(|at| named.get_mut(at)) {
                Some(named) => named.left = named.left.saturating_add(left),
                None => named.push(Named { name: *name, left, has_come: false }),
            }
        }
        self.gathered.clear();
        named.sort_unstable_by_key(|named| named.name);
        if named.len() > self.named_max {
            return Err(Fault::new("its events name more events before them than those of any room"));
        }
        Ok(())
    }
}

impl Followers {
    fn find(&self, name: u64) -> Option<usize> {
        self.named.binary_search_by_key(&name, |named| named.name).ok()
    }

    /// The number of an event that others name, or that is among the newest; none: nobody asks for it.
    pub(super) fn number(&self, id: &EventId) -> Option<u32> {
        u32::try_from(self.find(self.hash.hash_one(id))?).ok()
    }

    /// [`Followers::number`], if some of those that name it have not come.
    pub(super) fn waited_for(&self, id: &EventId) -> Option<u32> {
        let number = self.number(id)?;
        let named = self.named.get(usize::try_from(number).ok()?)?;
        (named.left > 0).then_some(number)
    }

    /// One of those that name it has come. Answers how many are left.
    pub(super) fn one_less(&mut self, number: u32) -> u32 {
        let named = usize::try_from(number).ok().and_then(|number| self.named.get_mut(number));
        named.map_or(0, |named| {
            named.left = named.left.saturating_sub(1);
            named.left
        })
    }

    /// The event comes; false: it came before.
    pub(super) fn comes(&mut self, id: &EventId) -> bool {
        let name = self.hash.hash_one(id);
        match self.find(name).and_then(|at| self.named.get_mut(at)) {
            Some(named) => !std::mem::replace(&mut named.has_come, true),
            None => self.unnamed.insert(name),
        }
    }

    /// The event has come.
    pub(super) fn has_come(&self, id: &EventId) -> bool {
        let name = self.hash.hash_one(id);
        let named = self.find(name).and_then(|at| self.named.get(at));
        named.map_or_else(|| self.unnamed.contains(&name), |named| named.has_come)
    }
}

/// Notes what an event names as those before it. Whether it is an event at all is looked at later.
pub(super) fn note(line: &[u8], hash: &RandomState, names: &mut Vec<u64>) {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        prev_events: Vec<Cow<'a, str>>,
    }
    let name = |id: &str| <&EventId>::try_from(id).ok().map(|id| hash.hash_one(id));
    if let Ok(Named { prev_events }) = serde_json::from_slice(line) {
        names.extend(prev_events.iter().filter_map(|id| name(id)));
        return;
    }
    // A field may stand there twice, and be written in every way that the strict reader takes.
    let object = std::str::from_utf8(line).ok().and_then(|line| canonical::read_object(line).ok());
    let prev_events = object.as_ref().and_then(|object| object.get("prev_events")?.as_array());
    names.extend(prev_events.into_iter().flatten().filter_map(CanonicalJsonValue::as_str).filter_map(name));
}

#[cfg(test)]
mod tests {
    use ruma::{OwnedEventId, event_id};

    use super::*;

    fn noted(counting: &Counting, line: &str) -> Vec<u64> {
        let mut names = Vec::new();
        note(line.as_bytes(), &counting.hash(), &mut names);
        names
    }

    #[test]
    fn an_event_is_waited_for_as_often_as_others_name_it() {
        let mut counting = Counting::new(4);
        for line in [
            r#"{"prev_events":["$a"],"depth":2}"#,
            r#"{"prev_events":["$\u0061","$b"]}"#,
            // Of a field that stands twice the last one counts.
            r#"{"prev_events":["$c"],"prev_events":["$b"]}"#,
            "no event",
        ] {
            let names = noted(&counting, line);
            counting.gather(&names).unwrap();
            counting.count().unwrap();
        }
        let newest: OwnedEventId = event_id!("$d").to_owned();
        let mut followers = counting.finish([&*newest].into_iter()).unwrap();
        let left = |followers: &mut Followers, id| followers.number(id).map(|number| followers.one_less(number));
        assert!(followers.waited_for(event_id!("$a")).is_some());
        assert_eq!(left(&mut followers, event_id!("$a")), Some(1));
        assert_eq!(left(&mut followers, event_id!("$a")), Some(0));
        assert_eq!(followers.waited_for(event_id!("$a")), None);
        assert_eq!(left(&mut followers, event_id!("$b")), Some(1));
        assert_eq!(left(&mut followers, event_id!("$d")), Some(0));
        assert_eq!(left(&mut followers, event_id!("$c")), None);
    }

    #[test]
    fn an_event_comes_once() {
        let mut counting = Counting::new(1);
        let names = noted(&counting, r#"{"prev_events":["$a"]}"#);
        counting.gather(&names).unwrap();
        let mut followers = counting.finish([].into_iter()).unwrap();
        for id in [event_id!("$a"), event_id!("$unnamed")] {
            assert!(!followers.has_come(id) && followers.comes(id), "{id}");
            assert!(followers.has_come(id) && !followers.comes(id), "{id}");
        }
    }

    #[test]
    fn more_names_than_in_any_room_are_refused() {
        let mut counting = Counting::new(0);
        let names: Vec<u64> = (0..21).collect();
        counting.gather(&names).unwrap();
        let refused = counting.finish([].into_iter()).err().map(|fault| fault.to_string());
        assert_eq!(refused.as_deref(), Some("its events name more events before them than those of any room"));
    }
}

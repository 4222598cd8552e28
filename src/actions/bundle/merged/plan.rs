//! Where the events of a bundle belong in a room that is here, in a few bytes for each of them: there may be millions.

use std::hash::{BuildHasher as _, RandomState};

use ruma::{EventId, OwnedEventId};

use crate::{
    actions::{
        ActionError,
        append::Slot,
        backfill,
        bundle::{import::Task, reading},
        incoming::guests::Met,
    },
    storage::Place,
};

/// Where the events of a bundle belong.
pub(super) struct Plan {
    hash: RandomState,
    /// Hashes of the ids, in the order of the file.
    names: Vec<u64>,
    /// The numbers of the events in that order, those of the least names first.
    by_name: Vec<u32>,
    /// Where each event belongs, in the order of the file.
    belongs: Vec<Belongs>,
    holes: Vec<Hole>,
}

/// Where an event belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belongs {
    /// It is here.
    Here,
    /// Behind everything.
    AtTheEnd,
    /// So many steps before the event at a hole.
    Before { hole: u32, steps: u32 },
}

/// A hole in the room that is here.
struct Hole {
    /// Where the event stands behind it.
    place: Place,
    /// Nothing that is held stands before it.
    is_oldest: bool,
}

impl Plan {
    /// Looks for where each event belongs.
    pub(super) async fn of(task: &Task<'_>, met: &Met) -> Result<Self, ActionError> {
        let mut gathering = Gathering::default();
        let mut batches = reading::named(task.opened);
        let rows = met.rows().in_passing();
        while let Some(batch) = batches.recv().await {
            for (id, prev_events) in batch? {
                let is_here = rows.is_in_room(&id).await?;
                gathering.add(&id, &prev_events, is_here)?;
            }
        }
        let mut plan = gathering.into_sorted();
        let mut holes = backfill::holes(&met.rows()).await?;
        // The oldest hole first: what stands before several belongs before the first of them.
        holes.reverse();
        for hole in holes {
            let is_oldest = backfill::is_oldest(met, hole.place).await?;
            plan.fill(Hole { place: hole.place, is_oldest }, &hole.missing)?;
        }
        Ok(plan.plan)
    }

    fn number(&self, name: u64) -> Option<usize> {
        let name_of = |number: &u32| self.names.get(index(*number)).copied();
        let at = self.by_name.binary_search_by_key(&Some(name), name_of).ok()?;
        self.by_name.get(at).map(|number| index(*number))
    }

    fn belongs(&self, id: &EventId) -> Option<Belongs> {
        self.belongs.get(self.number(self.hash.hash_one(id))?).copied()
    }

    /// Events of the bundle that are here.
    pub(super) fn known_count(&self) -> u64 {
        let known = self.belongs.iter().filter(|belongs| **belongs == Belongs::Here).count();
        u64::try_from(known).unwrap_or(u64::MAX)
    }

    /// The event is here.
    pub(super) fn is_known(&self, id: &EventId) -> bool {
        self.belongs(id) == Some(Belongs::Here)
    }

    /// Where an event is put that is not here.
    pub(super) fn slot(&self, id: &EventId) -> Slot {
        let Some(Belongs::Before { hole, steps }) = self.belongs(id) else { return Slot::End };
        match self.holes.get(index(hole)) {
            Some(Hole { place: before, is_oldest: true }) => Slot::Older { before: *before, steps },
            Some(Hole { place: before, is_oldest: false }) => Slot::Hole { before: *before, steps },
            None => Slot::End,
        }
    }
}

/// The events of a bundle, as they are read.
#[derive(Default)]
struct Gathering {
    hash: RandomState,
    names: Vec<u64>,
    belongs: Vec<Belongs>,
    /// What the events that are not here name as those before them, one after the other.
    before: Vec<u64>,
    /// Where that of each event ends.
    before_ends: Vec<usize>,
}

impl Gathering {
    fn add(&mut self, id: &EventId, prev_events: &[OwnedEventId], is_here: bool) -> Result<(), ActionError> {
        u32::try_from(self.names.len()).map_err(ActionError::internal)?;
        self.names.push(self.hash.hash_one(id));
        self.belongs.push(if is_here { Belongs::Here } else { Belongs::AtTheEnd });
        if !is_here {
            self.before.extend(prev_events.iter().map(|id| self.hash.hash_one(id)));
        }
        self.before_ends.push(self.before.len());
        Ok(())
    }

    fn into_sorted(self) -> Filling {
        let Self { hash, names, belongs, before, before_ends } = self;
        let mut by_name: Vec<u32> = (0..u32::try_from(names.len()).unwrap_or(u32::MAX)).collect();
        by_name.sort_unstable_by_key(|number| names.get(index(*number)));
        let plan = Plan { hash, names, by_name, belongs, holes: Vec::new() };
        Filling { plan, before, before_ends }
    }
}

/// A plan whose holes are being filled.
struct Filling {
    plan: Plan,
    before: Vec<u64>,
    before_ends: Vec<usize>,
}

impl Filling {
    /// What hangs together with the events that a hole lacks stands before it, the last one of the file next to it.
    fn fill(&mut self, hole: Hole, missing: &[OwnedEventId]) -> Result<(), ActionError> {
        let at = u32::try_from(self.plan.holes.len()).map_err(ActionError::internal)?;
        let mut open: Vec<u64> = missing.iter().map(|id| self.plan.hash.hash_one(id)).collect();
        let mut found = Vec::new();
        while let Some(name) = open.pop() {
            let Some(number) = self.plan.number(name) else { continue };
            let Some(belongs) = self.plan.belongs.get_mut(number) else { continue };
            if *belongs == Belongs::AtTheEnd {
                *belongs = Belongs::Before { hole: at, steps: 0 };
                found.push(number);
                open.extend(self.before(number));
            }
        }
        found.sort_unstable();
        for (step, number) in (1..).zip(found.into_iter().rev()) {
            if let Some(Belongs::Before { steps, .. }) = self.plan.belongs.get_mut(number) {
                *steps = step;
            }
        }
        self.plan.holes.push(hole);
        Ok(())
    }

    fn before(&self, number: usize) -> &[u64] {
        let end_of = |number: usize| self.before_ends.get(number).copied().unwrap_or_default();
        let start = number.checked_sub(1).map_or(0, end_of);
        self.before.get(start..end_of(number)).unwrap_or_default()
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use ruma::EventId;

    use super::*;

    fn id(name: &str) -> OwnedEventId {
        EventId::parse(format!("${name}")).unwrap()
    }

    #[test]
    fn what_is_not_here_belongs_before_the_first_hole_that_it_leads_to() {
        let mut gathering = Gathering::default();
        // c and f are here, and lack b and e; d hangs together with c only, g with nothing that is here.
        for (name, before, is_here) in [
            ("a", "", false),
            ("b", "a", false),
            ("c", "b", true),
            ("d", "c", false),
            ("e", "d", false),
            ("f", "e", true),
            ("g", "f", false),
        ] {
            let before: Vec<OwnedEventId> = before.chars().map(|name| id(&name.to_string())).collect();
            gathering.add(&id(name), &before, is_here).unwrap();
        }
        let mut filling = gathering.into_sorted();
        filling.fill(Hole { place: Place(3, 0), is_oldest: true }, &[id("b"), id("unknown")]).unwrap();
        filling.fill(Hole { place: Place(6, 0), is_oldest: false }, &[id("e"), id("b")]).unwrap();
        let plan = filling.plan;
        let known: Vec<&str> =
            ["a", "b", "c", "d", "e", "f", "g"].into_iter().filter(|name| plan.is_known(&id(name))).collect();
        assert_eq!((known, plan.known_count()), (vec!["c", "f"], 2));
        let (first, second) = (Place(3, 0), Place(6, 0));
        for (name, slot) in [
            ("a", Slot::Older { before: first, steps: 2 }),
            ("b", Slot::Older { before: first, steps: 1 }),
            ("d", Slot::Hole { before: second, steps: 2 }),
            ("e", Slot::Hole { before: second, steps: 1 }),
            ("g", Slot::End),
            ("unknown", Slot::End),
        ] {
            assert_eq!(plan.slot(&id(name)), slot, "{name}");
        }
    }
}

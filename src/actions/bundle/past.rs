//! What of the original a successor goes on into: the events of the bundle that its importer has brought, whatever else is or comes to be held of that room.

use std::sync::Arc;

use ruma::OwnedRoomId;

use super::{import::Task, reading};
use crate::{
    actions::{ActionError, lane::Room, rows, rows::Rows},
    storage::{
        Arrival, Commit, Direction, KeyRange, Limit, Place,
        admin::Seam,
        keyspaces::{SEAM_EVENTS, TIMELINE},
    },
};

/// Rows that are read or written at a time.
const ROWS_AT_A_TIME: usize = 1_000;

/// Some events in a row: the first arrival, and the last.
type Run = (Arrival, Arrival);

/// What the members of a successor may read of the original, as far as its visibility lets them.
pub(super) struct Past {
    room_id: OwnedRoomId,
    until: Place,
    runs: Vec<Run>,
}

impl Past {
    /// Of an original that was built from the bundle and of nothing else.
    pub(super) async fn whole(origin: &Room) -> Result<Self, ActionError> {
        let view = origin.view_even_hidden().await?.ok_or(ActionError::RoomNotFound)?;
        let last = Arrival::new(view.tip.next_arrival.get().saturating_sub(1)).ok_or(ActionError::RoomNotFound)?;
        let until = Place(view.tip.next_place.0.saturating_sub(1), u32::MAX);
        Ok(Self { room_id: origin.id.clone(), until, runs: vec![(Arrival::FIRST, last)] })
    }

    /// Of one of which more may be held, with what the successor goes on into already.
    pub(super) async fn of(task: &Task<'_>, origin: &Room, successor: &Room) -> Result<Self, ActionError> {
        let mut runs = held_runs(successor).await?;
        runs.extend(arrivals(task, origin).await?.into_iter().map(|arrival| (arrival, arrival)));
        let runs = joined(runs);
        let until = last_place(&Rows::on_disk(&origin.store, &origin.home), &runs).await?;
        Ok(Self { room_id: origin.id.clone(), until, runs })
    }

    /// Writes all but the seam itself, without which nobody reads it.
    pub(super) async fn write(&self, successor: &Arc<Room>) -> Result<(), ActionError> {
        let old = held_runs(successor).await?;
        for runs in self.runs.chunks(ROWS_AT_A_TIME) {
            let mut commit = Commit::new(successor.home.clone());
            for (first, last) in runs {
                let inside =
                    old.partition_point(|(start, _)| start <= first)..old.partition_point(|(start, _)| start <= last);
                for (start, _) in old.get(inside).unwrap_or_default() {
                    commit.delete(&SEAM_EVENTS, start);
                }
                commit.put(&SEAM_EVENTS, first, last);
            }
            successor.store.commit(commit).await?;
        }
        Ok(())
    }

    pub(super) fn seam(&self) -> Seam {
        Seam { room_id: self.room_id.clone(), until: self.until }
    }
}

/// How many events of the bundle belong to the past of the successor already.
///
/// # Errors
/// When storage or the bundle cannot be read.
pub(super) async fn brought_before(task: &Task<'_>, origin: &Room, successor: &Room) -> Result<u64, ActionError> {
    let runs = held_runs(successor).await?;
    let arrivals = arrivals(task, origin).await?;
    u64::try_from(arrivals.into_iter().filter(|arrival| is_in(&runs, *arrival)).count()).map_err(ActionError::internal)
}

/// Of the events of the bundle, as far as they are held.
async fn arrivals(task: &Task<'_>, origin: &Room) -> Result<Vec<Arrival>, ActionError> {
    let rows = Rows::on_disk(&origin.store, &origin.home).in_passing();
    let mut arrivals = Vec::new();
    let mut batches = reading::named(task.opened);
    while let Some(batch) = batches.recv().await {
        for (id, _) in batch? {
            arrivals.extend(rows.arrival_of(&id).await?);
        }
    }
    Ok(arrivals)
}

/// The arrival is in one of these, which are in order.
fn is_in(runs: &[Run], arrival: Arrival) -> bool {
    let at = runs.partition_point(|(first, _)| *first <= arrival);
    at.checked_sub(1).and_then(|at| runs.get(at)).is_some_and(|(_, last)| arrival <= *last)
}

async fn held_runs(successor: &Room) -> Result<Vec<Run>, ActionError> {
    rows::all(&successor.store, &SEAM_EVENTS, &successor.home, KeyRange::all()).await
}

/// The same arrivals in as few runs as there can be, in order.
fn joined(mut runs: Vec<Run>) -> Vec<Run> {
    runs.sort_unstable();
    let mut joined: Vec<Run> = Vec::new();
    for (first, last) in runs {
        match joined.last_mut() {
            Some((_, end)) if first.get() <= end.get().saturating_add(1) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// Where the newest of them stands.
async fn last_place(rows: &Rows<'_>, runs: &[Run]) -> Result<Place, ActionError> {
    let mut range = KeyRange::all();
    loop {
        let limit = Limit::rows(ROWS_AT_A_TIME);
        let page = rows.store.scan(&TIMELINE, rows.home, range, Direction::Down, limit).await?;
        if let Some((place, _)) = page.rows.iter().find(|(_, arrival)| is_in(runs, *arrival)) {
            return Ok(*place);
        }
        let Some((last, _)) = page.rows.last().filter(|_| page.more) else { return Ok(Place::BEFORE_ALL) };
        range = KeyRange::all().past(last, Direction::Down);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_row_is_one_run() {
        let run = |first, last| (Arrival::new(first).unwrap(), Arrival::new(last).unwrap());
        let runs = joined(vec![run(9, 9), run(1, 3), run(4, 4), run(2, 2), run(6, 7), run(7, 7)]);
        assert_eq!(runs, [run(1, 4), run(6, 7), run(9, 9)]);
        assert_eq!(joined(Vec::new()), []);
        let inside: Vec<u64> = (1..=10).filter(|number| is_in(&runs, Arrival::new(*number).unwrap())).collect();
        assert_eq!(inside, [1, 2, 3, 4, 6, 7, 9]);
    }
}

//! A stream that reads the feed itself, from its cursor to where the live frames begin.

use std::collections::{HashMap, HashSet, VecDeque};

use ruma::{OwnedRoomId, OwnedUserId};

use super::{
    Rest, Step,
    hub::Entry,
    route::{Routing, is_join, relations_of, was_join},
};
use crate::{
    actions::{ActionError, Actions},
    live::Audience,
    storage::{Cursor, FeedRow, Limit, Position},
};

/// Rows of the feed that a stream reads to catch up. One that is further behind is told to load what it needs anew.
pub(super) const CATCH_UP_ROWS_MAX: u64 = 10_000;
/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 256;
/// Bytes of rows that are read at once.
const BYTES_AT_ONCE: usize = 256 * 1024;
/// Frames after which a reader gets what was found so far.
const FRAMES_AT_ONCE: usize = 64;

/// The way from a cursor to the live frames.
pub(super) struct CatchUp {
    audience: Audience,
    from: Cursor,
    until: Position,
}

impl CatchUp {
    /// Finds out in which rooms the person was at the cursor; the first step of the way, or a resync where the feed no longer goes back so far.
    pub(super) async fn begin(actions: &Actions, user_id: OwnedUserId, entry: Entry, from: Cursor) -> Step {
        let until = entry.until;
        Step::found(Self::first_step(actions, user_id, entry, from).await, until)
    }

    /// The next frames on the way.
    pub(super) async fn step(self: Box<Self>, actions: &Actions) -> Step {
        let until = self.until;
        Step::found(self.next_step(actions).await, until)
    }

    async fn first_step(
        actions: &Actions,
        user_id: OwnedUserId,
        entry: Entry,
        from: Cursor,
    ) -> Result<Step, ActionError> {
        let until = entry.until;
        let is_near = until.has_reached(from.position) && from.position.distance_to(until) <= CATCH_UP_ROWS_MAX;
        if !is_near {
            return Ok(Step::resync(until));
        }
        let first = from.behind();
        // What is known of the person's rooms is of some time between `known` and `until`.
        let mut at = if entry.known.has_reached(first) { first } else { entry.known };
        let mut rooms: HashMap<OwnedRoomId, bool> = entry.rooms.into_iter().map(|room_id| (room_id, true)).collect();
        let mut settled: HashSet<OwnedRoomId> = HashSet::new();
        while let Some(rows) = page(actions, at, until).await? {
            if rows.first().is_some_and(|row| at.distance_to(row.position) != 1) {
                return Ok(Step::resync(until));
            }
            for row in &rows {
                for (room_id, (first_number, number)) in relations_of(row, &user_id) {
                    if first.has_reached(row.position) {
                        rooms.insert(room_id.clone(), is_join(actions, &room_id, &user_id, number).await?);
                    } else if settled.insert(room_id.clone()) {
                        rooms.insert(room_id.clone(), was_join(actions, &room_id, &user_id, first_number).await?);
                    }
                }
                at = row.position;
            }
        }
        let mut audience = Audience::default();
        audience.add(&user_id, rooms.into_iter().filter_map(|(room_id, is_in)| is_in.then_some(room_id)));
        Box::new(Self { audience, from, until }).next_step(actions).await
    }

    async fn next_step(mut self: Box<Self>, actions: &Actions) -> Result<Step, ActionError> {
        let mut frames = VecDeque::new();
        loop {
            let at = self.from.behind();
            let Some(rows) = page(actions, at, self.until).await? else {
                return Ok(Step { frames, rest: Rest::Live(self.from) });
            };
            if rows.first().is_some_and(|row| at.distance_to(row.position) != 1) {
                return Ok(Step::resync(self.until));
            }
            for row in &rows {
                let skipped = self.from.items.filter(|_| row.position == self.from.position).unwrap_or(0);
                let audience = &mut self.audience;
                let outcome = Routing { actions, row, has_cursor: true, skipped, audience }.run().await?;
                frames.extend(outcome.frames.into_iter().map(|routed| routed.frame));
                self.from = Cursor::through(row.position);
                if frames.len() >= FRAMES_AT_ONCE {
                    return Ok(Step { frames, rest: Rest::More(self) });
                }
            }
        }
    }
}

/// The rows behind a position, none behind the last one that matters; none at all: that is reached.
async fn page(actions: &Actions, at: Position, until: Position) -> Result<Option<Vec<FeedRow>>, ActionError> {
    if at.has_reached(until) {
        return Ok(None);
    }
    let mut rows = actions.store.feed(at, Limit::rows(ROWS_AT_ONCE).bytes(BYTES_AT_ONCE)).await?;
    rows.retain(|row| until.has_reached(row.position));
    Ok(Some(rows).filter(|rows| !rows.is_empty()))
}

//! Readers who wait for history, and what was asked for in vain: it is asked for again after a pause that grows, whoever reads there.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use rules::UnixMs;
use ruma::{OwnedEventId, OwnedRoomId, RoomId};
use tokio::sync::watch;

use super::{Asking, Hole, fill, suppliers, taking::NEAR_MAX};
use crate::{
    actions::{ActionError, Actions, incoming::guests},
    storage::Place,
};

/// How long a reader waits for history that is not held. It comes all the same, for whoever reads there next.
pub const READER_WAIT_MAX: Duration = Duration::from_secs(3);
/// The pause after the first failure; it doubles.
const PAUSE_MS_MIN: u64 = 60_000;
/// The longest pause.
const PAUSE_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Events that are remembered not to have come.
const FAILED_MAX: usize = 10_000;
/// Rooms that are read further at the same time. In more, what is missing is told and not asked for.
const ROOMS_AT_ONCE: usize = 64;

/// What is asked for at this moment, and what did not come.
#[derive(Default)]
pub struct Pauses {
    runs: Mutex<HashMap<OwnedRoomId, watch::Receiver<()>>>,
    failed: Mutex<HashMap<OwnedEventId, Failed>>,
}

#[derive(Clone, Copy)]
struct Failed {
    times: u32,
    next_try: UnixMs,
}

/// Lets peers fill the holes before a place for somebody who reads there, and waits for a while.
pub(in crate::actions) async fn for_reader(actions: &Actions, room_id: &RoomId, before: Place, limit: usize) {
    let run = {
        let mut runs = actions.history_pauses.runs.lock();
        match runs.get(room_id) {
            Some(run) => run.clone(),
            None if runs.len() >= ROOMS_AT_ONCE => return,
            None => {
                let run = begin(actions, room_id.to_owned(), before, limit);
                runs.insert(room_id.to_owned(), run.clone());
                run
            }
        }
    };
    let mut run = run;
    // It is over when nobody can say anything any more.
    tokio::time::timeout(READER_WAIT_MAX, run.changed()).await.ok();
}

/// Removes the run when it ends, however it does.
struct Ending(Actions, OwnedRoomId);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.history_pauses.runs.lock().remove(&self.1);
    }
}

fn begin(actions: &Actions, room_id: OwnedRoomId, before: Place, limit: usize) -> watch::Receiver<()> {
    let (sender, run) = watch::channel(());
    let ending = Ending(actions.clone(), room_id.clone());
    let work = actions.clone();
    actions.jobs.spawn(async move {
        if let Err(error) = ask(&work, &room_id, before, limit).await {
            tracing::warn!(room.id = %room_id, %error, "History of `{room_id}` was not asked for: {error}");
        }
        drop(ending);
        drop(sender);
    });
    run
}

async fn ask(actions: &Actions, room_id: &RoomId, before: Place, limit: usize) -> Result<(), ActionError> {
    let Some(met) = guests::find(actions, room_id).await? else { return Ok(()) };
    let others = suppliers(&met.rows()).await?.into_iter().map(|supplier| supplier.server);
    let suppliers = others.filter(|server| met.view.admits(server) && *server != actions.server_name).collect();
    fill(actions, &met, Asking { suppliers, limit, before: Some(before), only_due: true }).await?;
    Ok(())
}

/// None of what is missing there failed so lately that it is not asked for.
pub(in crate::actions) fn is_due(actions: &Actions, hole: &Hole) -> bool {
    next_try(actions, hole).is_none_or(|next_try| next_try <= actions.now())
}

/// When what is missing there is asked for again; none: it did not fail.
pub(in crate::actions) fn next_try(actions: &Actions, hole: &Hole) -> Option<UnixMs> {
    let failed = actions.history_pauses.failed.lock();
    hole.missing.iter().filter_map(|id| failed.get(id)).map(|failed| failed.next_try).max()
}

/// How often what is missing there did not come.
pub(super) fn failures(actions: &Actions, hole: &Hole) -> usize {
    let failed = actions.history_pauses.failed.lock();
    let times = hole.missing.iter().filter_map(|id| failed.get(id)).map(|failed| failed.times).max();
    times.map_or(0, |times| usize::try_from(times).unwrap_or(usize::MAX))
}

/// Something of it came.
pub(super) fn over(actions: &Actions, hole: &Hole) {
    let mut failed = actions.history_pauses.failed.lock();
    for id in &hole.missing {
        failed.remove(id);
    }
}

/// Nothing of it came.
pub(super) fn note(actions: &Actions, hole: &Hole) {
    let now = actions.now();
    let mut failed = actions.history_pauses.failed.lock();
    if failed.len() >= FAILED_MAX {
        failed.retain(|_, failed| now < failed.next_try);
    }
    for id in hole.missing.iter().take(NEAR_MAX) {
        let times = failed.get(id).map_or(0, |failed| failed.times);
        let pause = PAUSE_MS_MIN.saturating_mul(1 << times.min(20)).min(PAUSE_MS_MAX);
        if failed.len() < FAILED_MAX || failed.contains_key(id) {
            let next_try = UnixMs(now.0.saturating_add(pause));
            failed.insert(id.clone(), Failed { times: times.saturating_add(1), next_try });
        }
    }
}

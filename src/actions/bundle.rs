//! Rooms as bundles: making one from a room, and a room from one. What the file looks like and how it proves itself is in `crate::bundle`; what is taken in goes
//! the way of every event of a peer.

use std::sync::Arc;

use tokio::sync::Semaphore;

mod doors;
mod export;
mod file;
mod import;
mod keys;
mod media_in;
mod merged;
mod names;
mod order;
mod past;
mod reading;
mod restored;
mod spool;
mod succeeded;

pub use export::{Content, Export, Whose, export, export_as_admin};
pub use file::{export_to_file, spool_file, write_file};
pub use import::{
    Answered, EventsTold, Imported, MediaTold, Options, Outcome, PeopleTold, RejectedEvent, begin, import, work,
};
pub(super) use spool::no_room;
pub use spool::{Spooled, spool};

use super::{ActionError, Actions, rows};
use crate::storage::{
    Commit, Home, KeyRange,
    admin::{ImportWish, Job, JobKind, JobState},
    keyspaces::JOBS,
};

/// Exports of one tenant at the same time.
const EXPORTS_MAX: usize = 4;

/// What is going on with bundles.
pub struct Bundles {
    exports: Arc<Semaphore>,
}

impl Default for Bundles {
    fn default() -> Self {
        Self { exports: Arc::new(Semaphore::new(EXPORTS_MAX)) }
    }
}

/// What became of an import is known: its upload goes.
pub(super) async fn ended(actions: &Actions, wish: &ImportWish) {
    spool::remove(actions, &wish.file).await;
}

/// Tidies up behind a crash or a stop: of a room that was not shown yet nothing is left, and its job is over. What was being added to a room that is here goes on.
///
/// # Errors
/// When storage or the spool cannot be read or written.
pub async fn clean(actions: &Actions) -> Result<(), ActionError> {
    let going_on = restored::clean(actions).await?;
    let mut kept = Vec::new();
    for (id, job) in rows::all(actions.store(), &JOBS, &Home::server(), KeyRange::all()).await? {
        let JobKind::Import(wish) = &job.kind else { continue };
        if job.state.is_over() {
            continue;
        }
        if going_on.contains(&id) {
            kept.push(wish.file.clone());
            continue;
        }
        let error = "the server stopped before the room was there; nothing of it was kept, import the bundle again";
        let job =
            Job { state: JobState::Failed, finished_at: Some(actions.now()), error: Some(error.to_owned()), ..job };
        let mut commit = Commit::new(Home::server());
        commit.put(&JOBS, &id, &job);
        actions.store().commit(commit).await?;
    }
    spool::sweep(actions, &kept).await
}

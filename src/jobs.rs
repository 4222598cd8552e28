//! Work that goes on beside the requests: a few jobs at a time, their progress in memory, an end with the server.
//!
//! What the work is and where its rows are, `actions/jobs.rs` knows. May import: tokio. Never: actions, api, storage.

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Jobs that run at the same time; the others wait for their turn.
const JOBS_AT_ONCE: usize = 2;

/// How long work under way may take to notice that the server stops. It is dropped where it waits, which is at once.
const STOP_WAIT_MAX: Duration = Duration::from_secs(5);

/// How far a job is.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Steps done; what a step is, depends on the kind of job.
    pub done: u64,
    /// Steps in all, once that is known.
    pub total: Option<u64>,
}

/// The work of one tenant that goes on beside its requests.
pub struct Jobs {
    tasks: TaskTracker,
    stopping: CancellationToken,
    turns: Arc<Semaphore>,
    progress: Mutex<HashMap<String, Progress>>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            turns: Arc::new(Semaphore::new(JOBS_AT_ONCE)),
            progress: Mutex::default(),
        }
    }
}

impl Jobs {
    /// Runs work until it ends or the server stops: then it is dropped where it waits, so it must be able to begin again.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Runs work to its end, also when nobody waits for it any more: for what another server was told of and has to be known here too. None: the server stops.
    pub async fn finish<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (done, is_done) = oneshot::channel();
        self.spawn(async move {
            // Nobody waits any more, perhaps.
            done.send(work.await).ok();
        });
        is_done.await.ok()
    }

    /// Waits until one of the few places for jobs is free; none: never, the server has stopped.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// Says how far a job is.
    pub fn report(&self, id: &str, progress: Progress) {
        self.progress.lock().insert(id.to_owned(), progress);
    }

    /// How far a job is; none: it does not run.
    pub fn progress(&self, id: &str) -> Option<Progress> {
        self.progress.lock().get(id).copied()
    }

    /// Forgets how far a job was.
    pub fn forget(&self, id: &str) {
        self.progress.lock().remove(id);
    }

    /// Jobs that have their turn now.
    pub fn running(&self) -> usize {
        JOBS_AT_ONCE.saturating_sub(self.turns.available_permits())
    }

    /// All work beside the requests: jobs with and without their turn, and tidying.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Ends all work and waits for it.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_WAIT_MAX, self.tasks.wait()).await.is_err() {
            tracing::warn!("Work beside the requests did not end in time; it goes on at the next start");
        }
    }
}

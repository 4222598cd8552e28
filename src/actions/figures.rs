//! What a tenant looks like from outside: for who runs the server.

use std::time::Duration;

use super::Actions;
use crate::storage::{Commit, CommitError, Home, Position, Usage, history::EventStanding};

/// How long the store may take to show that it can be written.
const PROBE_MAX: Duration = Duration::from_secs(2);

/// The figures of one tenant.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Rooms in memory.
    pub rooms_in_memory: usize,
    /// Writers that wait for the lane of a room.
    pub writers_waiting: usize,
    /// Open streams.
    pub streams: usize,
    /// Jobs that have their turn.
    pub jobs_running: usize,
    /// All work beside the requests.
    pub tasks: usize,
    /// Other servers that lack something.
    pub peers_behind: usize,
    /// The last write to the durable store succeeded.
    pub is_writable: bool,
    /// What the durable store takes up.
    pub usage: Usage,
}

/// The figures of now.
pub fn read(actions: &Actions) -> Figures {
    let (rooms_in_memory, writers_waiting) = actions.rooms.figures();
    Figures {
        rooms_in_memory,
        writers_waiting,
        streams: actions.open_streams(),
        jobs_running: actions.jobs.running(),
        tasks: actions.jobs.tasks(),
        peers_behind: actions.outgoing.count_behind(),
        is_writable: !actions.store.is_failing(),
        usage: actions.store.usage(),
    }
}

/// Whether the durable store takes writes. After a failed one it is tried: what was wrong may have passed, and somebody has to find out.
pub async fn can_write(actions: &Actions) -> bool {
    if !actions.store.is_failing() {
        return true;
    }
    let mut commit = Commit::new(Home::server());
    commit.touch();
    matches!(tokio::time::timeout(PROBE_MAX, actions.store.commit(commit)).await, Ok(Ok(_)))
}

/// Counts an event once the commit that stores it is on disk.
pub(super) fn count_event(commit: &mut Commit, standing: &EventStanding) {
    type Done = Result<Position, CommitError>;
    match standing {
        EventStanding::Accepted => commit.then(|done: &Done| {
            metrics::counter!("yurt_events_total", "outcome" => "accepted").increment(done.is_ok().into());
        }),
        EventStanding::SoftFailed { .. } => commit.then(|done: &Done| {
            metrics::counter!("yurt_events_total", "outcome" => "soft_failed").increment(done.is_ok().into());
        }),
        EventStanding::Rejected { .. } => commit.then(|done: &Done| {
            metrics::counter!("yurt_events_total", "outcome" => "rejected").increment(done.is_ok().into());
        }),
        EventStanding::Outlier { .. } => commit.then(|done: &Done| {
            metrics::counter!("yurt_events_total", "outcome" => "outlier").increment(done.is_ok().into());
        }),
    };
}

//! What a committer has done, as plain numbers, and for the figures of the process.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

/// What the committer of a store has done since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Groups that were written, each with one sync.
    pub groups: u64,
    /// Commits that were acknowledged, barriers included.
    pub commits: u64,
    /// Commits that failed on a condition.
    pub conflicts: u64,
    /// Groups that the engine could not write.
    pub failures: u64,
    /// Time spent in writing groups.
    pub sync_time: Duration,
}

#[derive(Default)]
pub(super) struct Counting {
    groups: AtomicU64,
    commits: AtomicU64,
    conflicts: AtomicU64,
    failures: AtomicU64,
    sync_micros: AtomicU64,
    /// The last group could not be written, and none since.
    is_failing: AtomicBool,
}

impl Counting {
    pub(super) fn applied(&self, took: Duration, bytes: usize, is_done: bool) {
        let counter = if is_done { &self.groups } else { &self.failures };
        self.is_failing.store(!is_done, Ordering::Relaxed);
        metrics::histogram!("yurt_commit_sync_seconds").record(took);
        metrics::histogram!("yurt_commit_group_bytes").record(u32::try_from(bytes).unwrap_or(u32::MAX));
        counter.fetch_add(1, Ordering::Relaxed);
        self.sync_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The answers to one group.
    pub(super) fn answered(&self, done: u64, conflicts: u64, refused: u64) {
        self.commits.fetch_add(done, Ordering::Relaxed);
        self.conflicts.fetch_add(conflicts, Ordering::Relaxed);
        let commits = u32::try_from(done + conflicts + refused).unwrap_or(u32::MAX);
        metrics::histogram!("yurt_commit_group_commits").record(commits);
        metrics::counter!("yurt_commits_total", "outcome" => "done").increment(done);
        metrics::counter!("yurt_commits_total", "outcome" => "conflict").increment(conflicts);
        metrics::counter!("yurt_commits_total", "outcome" => "refused").increment(refused);
    }

    /// The stream cannot be written.
    pub(super) fn failing(&self) {
        self.is_failing.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    pub(super) fn read(&self) -> Counters {
        Counters {
            groups: self.groups.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            conflicts: self.conflicts.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            sync_time: Duration::from_micros(self.sync_micros.load(Ordering::Relaxed)),
        }
    }
}

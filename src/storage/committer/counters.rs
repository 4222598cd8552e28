//! What a committer has done, as plain numbers.

use std::{
    sync::atomic::{AtomicU64, Ordering},
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
}

impl Counting {
    pub(super) fn applied(&self, took: Duration, is_done: bool) {
        let counter = if is_done { &self.groups } else { &self.failures };
        counter.fetch_add(1, Ordering::Relaxed);
        self.sync_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn acknowledged(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn conflicted(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
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

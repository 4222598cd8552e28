//! The memory engine: for tests, for trying out, and for incognito rooms. Can be strict and can fail on demand.
//! May import: engine.

use std::{
    collections::{BTreeMap, VecDeque},
    future::ready,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use super::{
    Reading, StorageError,
    changes::{self, StreamId},
    engine::{ApplyError, Engine, Group, PageFiller, RowPage, RowRange},
    home::{Home, HomeKind},
    keyspace::RowKey,
    range::{Caching, Direction, Limit, end_of_prefix},
};

/// Rows in memory. What survives a closed engine is its [`MemoryEngine::reopened`] twin, as a folder survives a process.
#[derive(Default)]
pub struct MemoryEngine {
    rows: Arc<RwLock<BTreeMap<RowKey, Vec<u8>>>>,
    ahead: Arc<Mutex<VecDeque<Ahead>>>,
    is_strict: bool,
    is_closed: AtomicBool,
}

/// What an `apply` does instead of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full: nothing is written.
    Full,
    /// The connection breaks after the write.
    LostAfter,
    /// The connection breaks before the write.
    LostBefore,
    /// Somebody else has written the position.
    Taken,
}

/// What was said about an `apply` ahead of it.
enum Ahead {
    Works,
    Fails(Fault),
    /// It says that it has come so far, and waits until it may go on.
    Waits(oneshot::Sender<()>, oneshot::Receiver<()>),
}

/// An `apply` that waits. Dropping this lets it go on.
pub struct Halt {
    came: oneshot::Receiver<()>,
    _goes_on: oneshot::Sender<()>,
}

impl Halt {
    /// Waits until the `apply` has begun.
    pub async fn came(&mut self) {
        // An engine that is gone has nothing more to begin.
        let _ = (&mut self.came).await;
    }
}

impl MemoryEngine {
    /// An empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty engine that refuses batches with rows of two homes, as an engine of many machines would.
    #[must_use]
    pub fn strict() -> Self {
        Self { is_strict: true, ..Self::default() }
    }

    /// A second engine over the same rows, as another process would open it.
    #[must_use]
    pub fn reopened(&self) -> Self {
        Self {
            rows: Arc::clone(&self.rows),
            ahead: Arc::clone(&self.ahead),
            is_strict: self.is_strict,
            is_closed: AtomicBool::new(false),
        }
    }

    /// Makes the next `apply` that nothing was decided about go wrong.
    pub fn fail_next(&self, fault: Fault) {
        self.ahead.lock().push_back(Ahead::Fails(fault));
    }

    /// Lets the next `apply` that nothing was decided about work.
    pub fn spare_next(&self) {
        self.ahead.lock().push_back(Ahead::Works);
    }

    /// Makes the next `apply` that nothing was decided about wait. What is decided next is for the same one.
    pub fn halt_next(&self) -> Halt {
        let ((coming, came), (goes_on, going_on)) = (oneshot::channel(), oneshot::channel());
        self.ahead.lock().push_back(Ahead::Waits(coming, going_on));
        Halt { came, _goes_on: goes_on }
    }

    /// How much of what was decided no `apply` has met yet.
    pub fn decided(&self) -> usize {
        self.ahead.lock().len()
    }

    /// Lets every further `apply` work, unless something new is decided about it.
    pub fn decide_nothing(&self) {
        self.ahead.lock().clear();
    }

    /// What this `apply` does instead of its work, after it has waited if it shall.
    fn fault(&self) -> Option<Fault> {
        loop {
            // Nobody else is kept from the list while this one waits.
            let ahead = self.ahead.lock().pop_front();
            match ahead {
                None | Some(Ahead::Works) => return None,
                Some(Ahead::Fails(fault)) => return Some(fault),
                Some(Ahead::Waits(coming, going_on)) => {
                    // A test that has ended neither hears nor holds anything.
                    let _ = coming.send(());
                    let _ = going_on.blocking_recv();
                }
            }
        }
    }

    /// Changes the stored bytes of a row, as a damaged disk would.
    #[cfg(test)]
    pub(crate) fn damage(&self, key: RowKey, bytes: Vec<u8>) {
        self.rows.write().insert(key, bytes);
    }

    fn check_open(&self) -> Result<(), StorageError> {
        if self.is_closed.load(Ordering::Acquire) { Err(StorageError::Closed) } else { Ok(()) }
    }

    fn page(&self, range: &RowRange, direction: Direction, limit: Limit) -> RowPage {
        let mut filler = PageFiller::new(limit);
        if range.is_empty() {
            return filler.into_page();
        }
        let at = |bytes: &[u8]| RowKey { profile: range.profile, bytes: bytes.to_vec() };
        let start = Bound::Included(at(&range.start));
        let end = range.end.as_deref().map_or(Bound::Unbounded, |end| Bound::Excluded(at(end)));
        let rows = self.rows.read();
        let mut rows = rows.range((start, end)).filter(|(key, _)| key.profile == range.profile);
        let mut next = || match direction {
            Direction::Up => rows.next(),
            Direction::Down => rows.next_back(),
        };
        while let Some((key, value)) = next() {
            if !filler.offer(&key.bytes, value) {
                break;
            }
        }
        filler.into_page()
    }

    fn write(&self, group: &Group) -> Result<(), ApplyError> {
        let mut rows = self.rows.write();
        if rows.contains_key(&group.feed.0) {
            return Err(ApplyError::Taken);
        }
        for prefix in &group.batch.prefixes {
            let end = end_of_prefix(&prefix.bytes);
            rows.retain(|key, _| {
                key.profile != prefix.profile
                    || key.bytes < prefix.bytes
                    || end.as_ref().is_some_and(|end| key.bytes >= *end)
            });
        }
        for (key, value) in &group.batch.writes {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        rows.insert(group.feed.0.clone(), group.feed.1.clone());
        if let Some(forgotten) = &group.forgotten {
            rows.remove(forgotten);
        }
        Ok(())
    }

    fn check_homes(group: &Group) -> Result<(), ApplyError> {
        let keys = group.batch.writes.keys().chain(&group.batch.prefixes);
        let mut first: Option<Home> = None;
        for home in keys.filter_map(|key| Some(key.split()?.0)).filter(|home| home.kind() != HomeKind::Content) {
            match &first {
                Some(first) if *first != home => {
                    return Err(ApplyError::Unavailable(format!("one batch writes rows of {first:?} and of {home:?}")));
                }
                _ => first = Some(home),
            }
        }
        Ok(())
    }
}

impl Engine for MemoryEngine {
    fn get(&self, keys: Vec<RowKey>, _caching: Caching) -> Reading<'_, Vec<Option<Vec<u8>>>> {
        let rows = self.rows.read();
        let values = keys.iter().map(|key| rows.get(key).cloned()).collect();
        Box::pin(ready(self.check_open().map(|()| values)))
    }

    fn scan(&self, range: RowRange, direction: Direction, limit: Limit) -> Reading<'_, RowPage> {
        Box::pin(ready(self.check_open().map(|()| self.page(&range, direction, limit))))
    }

    fn apply(&self, group: &Group) -> Result<(), ApplyError> {
        self.check_open().map_err(|closed| ApplyError::Unavailable(closed.to_string()))?;
        if self.is_strict {
            Self::check_homes(group)?;
        }
        match self.fault() {
            None => self.write(group),
            Some(Fault::Full) => Err(ApplyError::Unavailable("no space left on device".to_owned())),
            Some(Fault::LostBefore) => Err(ApplyError::Unknown("the connection broke".to_owned())),
            Some(Fault::LostAfter) => {
                self.write(group)?;
                Err(ApplyError::Unknown("the connection broke".to_owned()))
            }
            Some(Fault::Taken) => Err(ApplyError::Taken),
        }
    }

    fn last(&self, stream: StreamId) -> Reading<'_, (u64, u64)> {
        let range = RowRange::prefix(&changes::stream_start(stream));
        let last = self.check_open().and_then(|()| {
            let page = self.page(&range, Direction::Down, Limit::rows(1));
            changes::last_of(&page)
        });
        Box::pin(ready(last))
    }

    fn close(&self) -> Reading<'_, ()> {
        self.is_closed.store(true, Ordering::Release);
        Box::pin(ready(Ok(())))
    }
}

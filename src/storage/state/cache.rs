//! Rows of nodes in memory: those being written, which must be there, and those that were read, which may be.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use quick_cache::{Weighter, sync::Cache};

use super::{FAN, Node, NodeRow};
use crate::storage::Home;

/// Store, room, row.
type Key = (u64, Home, u64);

/// A bounded cache of state nodes. Copies share it; each store has its own rows in it.
#[derive(Clone)]
pub struct StateCache {
    shared: Arc<Shared>,
    store: u64,
}

struct Shared {
    stores: AtomicU64,
    read: Cache<Key, Arc<NodeRow>, Bytes>,
    written: Mutex<HashMap<Key, Arc<NodeRow>>>,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Arc<NodeRow>> for Bytes {
    fn weight(&self, key: &Key, row: &Arc<NodeRow>) -> u64 {
        let bytes = size_of::<Key>() + key.1.id_len() + row.0.len() * size_of::<Node>();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl StateCache {
    /// Bytes of the default cache.
    pub const BYTES: u64 = 64 * 1024 * 1024;

    /// A cache of about so many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        // A row of one update in a large room has about five nodes.
        let row_bytes = size_of::<Key>() + 5 * FAN * 16;
        let rows = usize::try_from(bytes).unwrap_or(usize::MAX) / row_bytes;
        let shared = Shared {
            stores: AtomicU64::new(0),
            read: Cache::with_weighter(rows, bytes, Bytes),
            written: Mutex::default(),
        };
        Self { shared: Arc::new(shared), store: 0 }
    }

    /// The same cache for another store, whose rows are told apart from all others.
    pub(crate) fn with_own_rows(&self) -> Self {
        let store = self.shared.stores.fetch_add(1, Ordering::Relaxed) + 1;
        Self { shared: Arc::clone(&self.shared), store }
    }

    fn key(&self, home: &Home, row: u64) -> Key {
        (self.store, home.clone(), row)
    }

    pub(super) fn get(&self, home: &Home, row: u64) -> Option<Arc<NodeRow>> {
        let key = self.key(home, row);
        if let Some(found) = self.shared.read.get(&key) {
            return Some(found);
        }
        let written = self.shared.written.lock().get(&key).cloned();
        // Between the two looks it may have moved from one to the other.
        written.or_else(|| self.shared.read.get(&key))
    }

    pub(super) fn insert(&self, home: &Home, row: u64, nodes: Arc<NodeRow>) {
        self.shared.read.insert(self.key(home, row), nodes);
    }

    pub(super) fn forget(&self, home: &Home) {
        self.shared.read.retain(|key, _| key.0 != self.store || key.1 != *home);
    }

    /// Makes a row readable that is about to be written, until its fate is known.
    pub(super) fn stage(&self, home: &Home, row: u64, nodes: Arc<NodeRow>) -> Staged {
        let key = self.key(home, row);
        self.shared.written.lock().insert(key.clone(), Arc::clone(&nodes));
        Staged { shared: Arc::clone(&self.shared), key, nodes }
    }
}

impl Default for StateCache {
    fn default() -> Self {
        Self::new(Self::BYTES)
    }
}

impl fmt::Debug for StateCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StateCache").field("bytes", &self.shared.read.weight()).finish_non_exhaustive()
    }
}

/// A row that is readable although it is not yet durable. Dropping it takes it back.
pub(super) struct Staged {
    shared: Arc<Shared>,
    key: Key,
    nodes: Arc<NodeRow>,
}

impl Staged {
    /// The row is durable: from now on the cache may drop it.
    pub(super) fn keep(self) {
        self.shared.read.insert(self.key.clone(), Arc::clone(&self.nodes));
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let mut written = self.shared.written.lock();
        // After a failed commit its number may have been given again.
        if written.get(&self.key).is_some_and(|there| Arc::ptr_eq(there, &self.nodes)) {
            written.remove(&self.key);
        }
    }
}

//! The storage layer: ordered bytes in homes, typed keyspaces, one atomic commit per decision.
//! May import: rules (the types it stores), clock. Never: actions, api, federation, axum.
//!
//! Reading order: a [`Home`] says whom rows belong to, a [`Keyspace`] gives them types, a [`Commit`] changes them, the
//! [`Store`] is the handle, and an [`Engine`] keeps the bytes. The committer between the two last ones is the same for
//! every engine: it checks conditions, groups commits, and gives positions.

use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc};

use tokio::sync::watch;

pub mod accounts;
pub mod admin;
pub mod changes;
pub mod chores;
pub mod commit;
mod committer;
pub mod engine;
pub mod history;
pub mod home;
pub mod key;
pub mod keyspace;
pub mod keyspaces;
pub mod media;
pub mod members;
pub mod memory;
pub mod peers;
pub mod range;
pub mod rocksdb;
pub mod room_settings;
pub mod state;
#[cfg(test)]
mod suite;
pub mod value;

pub use changes::{Change, ChangeKind, Cursor, FeedRow, Position};
pub use commit::{Commit, Effect};
pub use committer::{Committing, Counters, EffectMode, Pending, Permit};
pub use engine::{Engine, Usage};
pub use home::{Home, HomeKind};
pub use key::{Arrival, Key, Place, StartOf};
pub use keyspace::{Keyspace, KeyspaceInfo, Profile};
pub use range::{Caching, Direction, HomesPage, KeyRange, Limit, Page};
pub use state::{StateRoot, StateTree};
pub use value::Value;

use changes::StreamId;
use committer::Committer;
use engine::RowRange;
use state::StateCache;

/// The answer to a reading call. Boxed, so that engines can be chosen at run time.
pub type Reading<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// Why something could not be read, or a store could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// Bytes that this server did not write: a damaged disk, or data of a newer version.
    #[error("the row {key} of {keyspace} cannot be read: {reason}")]
    Corrupt {
        /// The keyspace.
        keyspace: &'static str,
        /// The whole key in hexadecimal.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A mistake of the caller.
    #[error("rows of {keyspace} belong to a home of the kind {wants:?}, not {got:?}")]
    WrongHome {
        /// The keyspace.
        keyspace: &'static str,
        /// Its kind of home.
        wants: HomeKind,
        /// The kind that was named.
        got: HomeKind,
    },
    /// Another process has the folder open.
    #[error("the folder {} is in use by another process", .path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The disk or the engine failed.
    #[error("the storage engine failed: {0}")]
    Engine(String),
}

/// Why a commit was not acknowledged. Apart from `Unknown`, nothing of it happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A required row is not as required.
    #[error("a required row has changed")]
    Conflict,
    /// Another process has taken over; this one must stop writing.
    #[error("another process has taken over this store")]
    Fenced,
    /// Over one of the limits in `commit.rs` and `value.rs`.
    #[error("the commit is too large")]
    TooLarge,
    /// The engine cannot write now, for instance because the disk is full.
    #[error("storage cannot write: {0}")]
    Unavailable(String),
    /// It may have happened or not: whoever keeps a copy of rows in memory must read them again. The store settles it
    /// before the next commit.
    #[error("it is not known whether the commit was written")]
    Unknown,
    /// A mistake of the caller, such as a row of another kind of home.
    #[error("the commit is wrong in itself: {0}")]
    Invalid(String),
}

impl From<StorageError> for CommitError {
    fn from(error: StorageError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// When other homes learn of a decision.
    pub effects: EffectMode,
    /// Where commits are written.
    pub committing: Committing,
    /// Nodes of state trees in memory; stores of one process share it.
    pub state_cache: StateCache,
    /// Rows of the feed that are kept; with each new one behind them the oldest goes.
    pub feed_rows_max: u64,
}

/// Rows of the feed that are kept when nothing else is said: at 100 bytes each about 100 MB.
pub const FEED_ROWS_MAX: u64 = 1_000_000;

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            effects: EffectMode::default(),
            committing: Committing::default(),
            state_cache: StateCache::default(),
            feed_rows_max: FEED_ROWS_MAX,
        }
    }
}

/// The rows of one tenant, or of one incognito room. Cheap to copy.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    engine: Arc<dyn Engine>,
    committer: Committer,
    state_cache: StateCache,
}

impl Store {
    /// Opens a store on an engine and applies the effects that a crash left over.
    ///
    /// # Errors
    /// When the engine cannot be read, or left-over effects cannot be written.
    pub async fn open(engine: Arc<dyn Engine>, options: StoreOptions) -> Result<Self, StorageError> {
        let committer = Committer::open(
            Arc::clone(&engine),
            (options.effects, options.committing),
            options.feed_rows_max,
            StreamId::ONLY,
        )
        .await?;
        Ok(Self(Arc::new(Inner { engine, committer, state_cache: options.state_cache.with_own_rows() })))
    }

    /// The row of a key.
    ///
    /// # Errors
    /// When the engine fails or the row is damaged.
    pub async fn get<K: Key, V: Value>(
        &self,
        keyspace: &Keyspace<K, V>,
        home: &Home,
        key: &K,
    ) -> Result<Option<V>, StorageError> {
        self.get_caching(keyspace, home, key, Caching::Keep).await
    }

    /// [`Store::get`], with or without a trace in the engine's caches.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn get_caching<K: Key, V: Value>(
        &self,
        keyspace: &Keyspace<K, V>,
        home: &Home,
        key: &K,
        caching: Caching,
    ) -> Result<Option<V>, StorageError> {
        Ok(self.read(keyspace, home, std::slice::from_ref(key), caching).await?.pop().flatten())
    }

    /// The rows of many keys, in their order.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub async fn get_many<K: Key, V: Value>(
        &self,
        keyspace: &Keyspace<K, V>,
        home: &Home,
        keys: &[K],
    ) -> Result<Vec<Option<V>>, StorageError> {
        self.read(keyspace, home, keys, Caching::Keep).await
    }

    async fn read<K: Key, V: Value>(
        &self,
        keyspace: &Keyspace<K, V>,
        home: &Home,
        keys: &[K],
        caching: Caching,
    ) -> Result<Vec<Option<V>>, StorageError> {
        keyspace.info().check_home(home)?;
        let rows: Vec<_> = keys.iter().map(|key| keyspace.row_key(home, key)).collect();
        let values = self.0.engine.get(rows.clone(), caching).await?;
        let read = |(row, value): (&keyspace::RowKey, Option<Vec<u8>>)| {
            value.map(|value| keyspace.read_value(&row.bytes, &value)).transpose()
        };
        rows.iter().zip(values).map(read).collect()
    }

    /// One page of the rows of a home.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub async fn scan<K: Key, V: Value>(
        &self,
        keyspace: &Keyspace<K, V>,
        home: &Home,
        range: KeyRange<K>,
        direction: Direction,
        limit: Limit,
    ) -> Result<Page<K, V>, StorageError> {
        keyspace.info().check_home(home)?;
        let whole = RowRange::prefix(&keyspace.info().row_key(home, &[]));
        let at = |key: &[u8]| keyspace.info().row_key(home, key).bytes;
        let range = RowRange { start: at(&range.start), end: range.end.map(|end| at(&end)).or(whole.end), ..whole };
        let page = self.0.engine.scan(range, direction, limit).await?;
        let rows =
            page.rows.iter().map(|(row, value)| keyspace.read_row(row, value).map(|(_, key, value)| (key, value)));
        Ok(Page { rows: rows.collect::<Result<_, _>>()?, more: page.more })
    }

    /// One page of the rows of all homes, behind a row of an earlier page: for start-up, sweepers and lists.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub async fn scan_homes<K: Key, V: Value>(
        &self,
        keyspace: &Keyspace<K, V>,
        after: Option<(&Home, &K)>,
        limit: Limit,
    ) -> Result<HomesPage<K, V>, StorageError> {
        let mut range = RowRange::prefix(&keyspace.info().start());
        if let Some((home, key)) = after {
            range.start = range::behind(keyspace.row_key(home, key).bytes);
        }
        let page = self.0.engine.scan(range, Direction::Up, limit).await?;
        let rows = page.rows.iter().map(|(row, value)| keyspace.read_row(row, value));
        Ok(HomesPage { rows: rows.collect::<Result<_, _>>()?, more: page.more })
    }

    /// Bytes of the keys and values that a commit would remove: what a deletion frees.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn weigh(&self, commit: &Commit) -> Result<u64, StorageError> {
        let engine = &self.0.engine;
        let bytes_of = |key: &[u8], value: &[u8]| u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX);
        let mut bytes = 0_u64;
        let removed: Vec<_> =
            commit.batch.writes.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key.clone()).collect();
        for (key, value) in removed.iter().zip(engine.get(removed.clone(), Caching::Pass).await?) {
            bytes = bytes.saturating_add(value.map_or(0, |value| bytes_of(&key.bytes, &value)));
        }
        for prefix in &commit.batch.prefixes {
            let mut range = RowRange::prefix(prefix);
            loop {
                let page = engine.scan(range.clone(), Direction::Up, Limit::max()).await?;
                bytes = page.rows.iter().fold(bytes, |sum, (key, value)| sum.saturating_add(bytes_of(key, value)));
                match page.rows.into_iter().next_back() {
                    Some((last, _)) if page.more => range.start = range::behind(last),
                    _ => break,
                }
            }
        }
        Ok(bytes)
    }

    /// Commits and waits for the answer.
    ///
    /// # Errors
    /// [`CommitError`]. When the call is dropped before it ends, the commit may still happen.
    pub async fn commit(&self, commit: Commit) -> Result<Position, CommitError> {
        self.reserve().await?.submit(commit).await
    }

    /// Waits for room in the bounded queue of commits. The permit then submits without waiting, so that a lane can
    /// submit and change its memory in one step. Keep a permit only briefly: it holds room for the largest commit.
    ///
    /// # Errors
    /// When the store is closed.
    pub async fn reserve(&self) -> Result<Permit, StorageError> {
        self.0.committer.reserve().await
    }

    /// The position up to which everything is durable and visible.
    #[must_use]
    pub fn position(&self) -> Position {
        *self.0.committer.position().borrow()
    }

    /// Tells of every new position; positions in between may be passed over.
    #[must_use]
    pub fn watch_position(&self) -> watch::Receiver<Position> {
        self.0.committer.position().clone()
    }

    /// What changed behind a position, oldest first, up to [`Store::position`]. Nothing is skipped or repeated when the
    /// next call begins behind the last row. Rows beyond the feed's bound are gone: the first row is then not the next one.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub async fn feed(&self, after: Position, limit: Limit) -> Result<Vec<FeedRow>, StorageError> {
        let visible = self.position();
        if after.has_reached(visible) {
            return Ok(Vec::new());
        }
        let behind = |position| range::behind(changes::row_key(position).bytes);
        let profile = changes::FEED.profile;
        let range = RowRange { profile, start: behind(after), end: Some(behind(visible)) };
        let page = self.0.engine.scan(range, Direction::Up, limit).await?;
        page.rows.iter().map(|(key, value)| changes::read(key, value)).collect()
    }

    /// What the committer has done since the store was opened.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.committer.counters()
    }

    /// The last group could not be written, and none since; what is wrong may have passed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.0.committer.is_failing()
    }

    /// What the engine takes up now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.0.engine.usage()
    }

    /// Refuses new commits, waits until the submitted ones are answered, and closes the engine. Afterwards the engine's
    /// folder is free. Closing twice is no error.
    ///
    /// # Errors
    /// When the engine cannot be closed.
    pub async fn close(&self) -> Result<(), StorageError> {
        self.0.committer.stop().await;
        self.0.engine.close().await
    }

    pub(crate) fn state_cache(&self) -> &StateCache {
        &self.0.state_cache
    }
}

//! The RocksDB engine: one folder on one disk. Few rows are read inline, many on threads that may block.
//! May import: engine, changes.
//!
//! When a write fails, it is not known what reached the disk, and RocksDB takes no further write. The engine then closes
//! the folder and opens it again: what recovery finds is durable, and the group's row in the feed tells whether the group
//! is part of it. When the folder cannot be opened for writing, it is opened for reading until it can.

use std::{
    future::ready,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{RwLock, RwLockReadGuard};
use rocksdb::{ColumnFamily, DB, ReadOptions, WriteBatch, WriteOptions};
use tokio::runtime::Handle;

use super::{
    Reading, StorageError,
    changes::{self, StreamId},
    engine::{ApplyError, Engine, Group, PageFiller, RowPage, RowRange, Usage},
    keyspace::{Profile, RowKey},
    range::{Caching, Direction, Limit, end_of_prefix},
};

mod options;

pub use options::{Budget, Shared};

/// Rows up to which a read is answered inline; more may wait for the disk too often.
const INLINE_ROWS_MAX: usize = 64;

/// Levels in which RocksDB sorts files when nothing else is said.
const LEVELS: u8 = 7;

/// One folder. Copies share it.
#[derive(Clone)]
pub struct RocksEngine(Arc<Folder>);

struct Folder {
    path: PathBuf,
    shared: Shared,
    database: RwLock<Database>,
    #[cfg(test)]
    faults: parking_lot::Mutex<std::collections::VecDeque<super::memory::Fault>>,
}

enum Database {
    Open(DB),
    /// Cannot be written for the moment; and why.
    ReadOnly(DB, String),
    /// Cannot even be read for the moment; and why.
    Down(String),
    Closed,
}

impl RocksEngine {
    /// Opens a folder, which is made if it is not there. Blocks while the write-ahead log is replayed.
    ///
    /// # Errors
    /// [`StorageError::Locked`] when another process has the folder, [`StorageError::Engine`] when it cannot be opened.
    pub fn open(path: &Path, shared: &Shared) -> Result<Self, StorageError> {
        let database = options::open(path, shared, options::Missing::Create)?;
        Ok(Self(Arc::new(Folder {
            path: path.to_owned(),
            shared: shared.clone(),
            database: RwLock::new(Database::Open(database)),
            #[cfg(test)]
            faults: parking_lot::Mutex::default(),
        })))
    }

    /// Makes the next write that has no fault yet go wrong.
    #[cfg(test)]
    pub(crate) fn fail_next(&self, fault: super::memory::Fault) {
        self.0.faults.lock().push_back(fault);
    }

    /// Changes the stored bytes of a row, as a damaged disk would.
    #[cfg(test)]
    pub(crate) fn damage(&self, key: &RowKey, bytes: &[u8]) {
        let database = self.0.readable().unwrap();
        database.put_cf(family(&database, key.profile).unwrap(), &key.bytes, bytes).unwrap();
    }
}

impl Engine for RocksEngine {
    fn get(&self, keys: Vec<RowKey>, caching: Caching) -> Reading<'_, Vec<Option<Vec<u8>>>> {
        if keys.len() <= INLINE_ROWS_MAX {
            return Box::pin(ready(self.0.get(&keys, caching)));
        }
        let folder = Arc::clone(&self.0);
        Box::pin(may_block(move || folder.get(&keys, caching)))
    }

    fn scan(&self, range: RowRange, direction: Direction, limit: Limit) -> Reading<'_, RowPage> {
        if limit.rows <= INLINE_ROWS_MAX {
            return Box::pin(ready(self.0.scan(range, direction, limit)));
        }
        let folder = Arc::clone(&self.0);
        Box::pin(may_block(move || folder.scan(range, direction, limit)))
    }

    fn apply(&self, group: &Group) -> Result<(), ApplyError> {
        self.0.apply(group)
    }

    fn last(&self, stream: StreamId) -> Reading<'_, (u64, u64)> {
        let folder = Arc::clone(&self.0);
        Box::pin(may_block(move || {
            folder.recover()?;
            let page =
                folder.scan(RowRange::prefix(&changes::stream_start(stream)), Direction::Down, Limit::rows(1))?;
            changes::last_of(&page)
        }))
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }

    fn close(&self) -> Reading<'_, ()> {
        let folder = Arc::clone(&self.0);
        Box::pin(may_block(move || {
            let database = std::mem::replace(&mut *folder.database.write(), Database::Closed);
            database.close();
            Ok(())
        }))
    }
}

/// Runs work that may wait for the disk on a thread that may block. The committer's own thread is one.
async fn may_block<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    match Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await.unwrap_or_else(|error| Err(failed(&error))),
        Err(_no_runtime) => work(),
    }
}

fn failed(error: &impl std::fmt::Display) -> StorageError {
    StorageError::Engine(error.to_string())
}

fn family(database: &DB, profile: Profile) -> Result<&ColumnFamily, StorageError> {
    let name = options::family_name(profile);
    database.cf_handle(name).ok_or_else(|| StorageError::Engine(format!("the column family {name} is missing")))
}

impl Folder {
    /// The database as long as the guard lives; closing waits for it.
    fn readable(&self) -> Result<parking_lot::MappedRwLockReadGuard<'_, DB>, StorageError> {
        RwLockReadGuard::try_map_or_err(self.database.read(), |database| match database {
            Database::Open(database) | Database::ReadOnly(database, _) => Ok(database),
            Database::Down(reason) => Err(StorageError::Engine(reason.clone())),
            Database::Closed => Err(StorageError::Closed),
        })
        .map_err(|(_, error)| error)
    }

    fn get(&self, keys: &[RowKey], caching: Caching) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        let database = self.readable()?;
        let mut options = ReadOptions::default();
        options.fill_cache(caching == Caching::Keep);
        if let [key] = keys {
            let value = database.get_cf_opt(family(&database, key.profile)?, &key.bytes, &options);
            return Ok(vec![value.map_err(|error| failed(&error))?]);
        }
        let mut values = vec![None; keys.len()];
        for profile in [Profile::Rows, Profile::Log] {
            let slots = values.iter_mut().zip(keys).filter(|(_, key)| key.profile == profile);
            let (slots, wanted): (Vec<_>, Vec<_>) = slots.map(|(slot, key)| (slot, key.bytes.as_slice())).unzip();
            if wanted.is_empty() {
                continue;
            }
            let found = database.batched_multi_get_cf_opt(family(&database, profile)?, wanted, false, &options);
            for (slot, value) in slots.into_iter().zip(found) {
                *slot = value.map_err(|error| failed(&error))?.map(|value| value.to_vec());
            }
        }
        Ok(values)
    }

    fn scan(&self, range: RowRange, direction: Direction, limit: Limit) -> Result<RowPage, StorageError> {
        let mut filler = PageFiller::new(limit);
        if range.is_empty() {
            return Ok(filler.into_page());
        }
        let database = self.readable()?;
        let mut options = ReadOptions::default();
        options.fill_cache(limit.caching == Caching::Keep);
        options.set_iterate_lower_bound(range.start);
        if let Some(end) = range.end {
            options.set_iterate_upper_bound(end);
        }
        let mut rows = database.raw_iterator_cf_opt(family(&database, range.profile)?, options);
        match direction {
            Direction::Up => rows.seek_to_first(),
            Direction::Down => rows.seek_to_last(),
        }
        while let Some((key, value)) = rows.item() {
            if !filler.offer(key, value) {
                break;
            }
            match direction {
                Direction::Up => rows.next(),
                Direction::Down => rows.prev(),
            }
        }
        rows.status().map_err(|error| failed(&error))?;
        Ok(filler.into_page())
    }

    fn apply(&self, group: &Group) -> Result<(), ApplyError> {
        let unavailable = |error: StorageError| ApplyError::Unavailable(error.to_string());
        self.check_writable()?;
        if self
            .get(std::slice::from_ref(&group.feed.0), Caching::Keep)
            .map_err(unavailable)?
            .first()
            .is_some_and(Option::is_some)
        {
            return Err(ApplyError::Taken);
        }
        let Err(error) = self.write(group) else { return Ok(()) };
        self.settle(group, &error)
    }

    /// Zeros while the folder is not open.
    fn usage(&self) -> Usage {
        let mut usage = Usage { shared_cache_bytes: self.shared.cached_bytes(), ..Usage::default() };
        let Ok(database) = self.readable() else { return usage };
        for profile in [Profile::Rows, Profile::Log] {
            let Ok(family) = family(&database, profile) else { continue };
            let read = |name: &str| database.property_int_value_cf(family, name).ok().flatten().unwrap_or(0);
            usage.live_bytes += read("rocksdb.estimate-live-data-size");
            usage.memtable_bytes += read("rocksdb.cur-size-all-mem-tables");
            usage.file_bytes += read("rocksdb.total-sst-files-size");
            usage.files += (0..LEVELS).map(|level| read(&format!("rocksdb.num-files-at-level{level}"))).sum::<u64>();
        }
        usage
    }

    fn check_writable(&self) -> Result<(), ApplyError> {
        match &*self.database.read() {
            Database::Open(_) => Ok(()),
            Database::ReadOnly(_, reason) | Database::Down(reason) => Err(ApplyError::Unavailable(reason.clone())),
            Database::Closed => Err(ApplyError::Unavailable(StorageError::Closed.to_string())),
        }
    }

    /// One batch, on disk when it returns.
    fn write(&self, group: &Group) -> Result<(), StorageError> {
        let database = self.readable()?;
        let mut batch = WriteBatch::default();
        for prefix in &group.batch.prefixes {
            if let Some(end) = end_of_prefix(&prefix.bytes) {
                batch.delete_range_cf(family(&database, prefix.profile)?, &prefix.bytes, &end);
            }
        }
        for (key, value) in &group.batch.writes {
            let family = family(&database, key.profile)?;
            match value {
                Some(value) => batch.put_cf(family, &key.bytes, value),
                None => batch.delete_cf(family, &key.bytes),
            }
        }
        let (key, value) = &group.feed;
        batch.put_cf(family(&database, key.profile)?, &key.bytes, value);
        if let Some(forgotten) = &group.forgotten {
            batch.delete_cf(family(&database, forgotten.profile)?, &forgotten.bytes);
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        #[cfg(test)]
        let fault = self.faults.lock().pop_front();
        #[cfg(test)]
        if fault.is_some_and(|fault| fault != super::memory::Fault::LostAfter) {
            return Err(StorageError::Engine("a test wants this write to fail".to_owned()));
        }
        database.write_opt(batch, &options).map_err(|error| failed(&error))?;
        #[cfg(test)]
        if fault.is_some() {
            return Err(StorageError::Engine("a test wants the answer to this write to be lost".to_owned()));
        }
        Ok(())
    }

    /// Finds out what became of a failed write. Until that is known, nothing else is written.
    fn settle(&self, group: &Group, error: &StorageError) -> Result<(), ApplyError> {
        tracing::error!(%error, path = %self.path.display(), "A write failed; the folder is opened again");
        self.reopen(error);
        let settled = self.check_writable().and_then(|()| {
            let row = self.get(std::slice::from_ref(&group.feed.0), Caching::Keep);
            row.map_err(|error| ApplyError::Unknown(error.to_string()))
        });
        let row = settled.map_err(|later| ApplyError::Unknown(format!("{error}; then {later}")))?;
        match row.first() {
            Some(Some(row)) => match changes::read_claim(&group.feed.0.bytes, row) {
                Ok((_, _, id)) if id == group.id => Ok(()),
                Ok(_) => Err(ApplyError::Taken),
                Err(damaged) => Err(ApplyError::Unknown(damaged.to_string())),
            },
            _ => Err(ApplyError::Unavailable(error.to_string())),
        }
    }

    /// Closes the folder after a failed write and opens it again, if need be only for reading.
    fn reopen(&self, cause: &StorageError) {
        let mut database = self.database.write();
        std::mem::replace(&mut *database, Database::Down(cause.to_string())).close();
        *database = match options::open(&self.path, &self.shared, options::Missing::Refuse) {
            Ok(opened) => Database::Open(opened),
            Err(error) => {
                tracing::error!(%error, path = %self.path.display(), "The folder cannot be opened for writing");
                match options::open_to_read(&self.path, &self.shared) {
                    Ok(opened) => Database::ReadOnly(opened, error.to_string()),
                    Err(_) => Database::Down(error.to_string()),
                }
            }
        };
    }

    /// Tries again to open a folder for writing that could only be opened for reading, or not at all.
    fn recover(&self) -> Result<(), StorageError> {
        match &*self.database.read() {
            Database::Open(_) => return Ok(()),
            Database::Closed => return Err(StorageError::Closed),
            Database::ReadOnly(..) | Database::Down(_) => {}
        }
        let opened = options::open(&self.path, &self.shared, options::Missing::Refuse)?;
        tracing::info!(path = %self.path.display(), "The folder can be written again");
        let mut database = self.database.write();
        let old = match &*database {
            Database::Closed => Database::Open(opened),
            _ => std::mem::replace(&mut *database, Database::Open(opened)),
        };
        old.close();
        Ok(())
    }
}

impl Database {
    /// Waits for what RocksDB does in the background and gives the lock of the folder back.
    fn close(self) {
        if let Self::Open(database) = self {
            database.cancel_all_background_work(true);
        }
    }
}

//! How folders are opened: what all stores of the process share, and how each set of files is tuned.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    DEFAULT_COLUMN_FAMILY_NAME, Env, LogLevel, Options, WriteBufferManager,
};

use super::{Profile, failed};
use crate::storage::StorageError;

const MIB: usize = 1024 * 1024;

/// What all stores of the process use together, however many they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of blocks, indexes and filters that are kept in memory.
    pub block_cache_bytes: usize,
    /// Bytes of recent writes in memory, of all stores. Above it the stores write theirs to files.
    pub write_buffer_bytes: usize,
    /// Threads that tidy up files.
    pub background_threads: u16,
    /// Files that one store keeps open.
    pub open_files_max: u16,
}

impl Default for Budget {
    fn default() -> Self {
        Self { block_cache_bytes: 128 * MIB, write_buffer_bytes: 128 * MIB, background_threads: 2, open_files_max: 128 }
    }
}

/// Memory and threads that all folders of the process share.
#[derive(Clone)]
pub struct Shared {
    env: Env,
    cache: Cache,
    write_buffers: WriteBufferManager,
    open_files_max: u16,
}

impl Shared {
    /// Sets the budget of the process.
    ///
    /// # Errors
    /// When RocksDB cannot use the operating system.
    pub fn new(budget: Budget) -> Result<Self, StorageError> {
        let mut env = Env::new().map_err(|error| failed(&error))?;
        env.set_low_priority_background_threads(budget.background_threads.max(1).into());
        env.set_high_priority_background_threads(1);
        Ok(Self {
            env,
            cache: Cache::new_lru_cache(budget.block_cache_bytes),
            // Writers are not stopped at the limit: that would stop all tenants for one.
            write_buffers: WriteBufferManager::new_write_buffer_manager(budget.write_buffer_bytes, false),
            open_files_max: budget.open_files_max,
        })
    }
}

impl Shared {
    /// Bytes in the cache of blocks.
    pub(super) fn cached_bytes(&self) -> u64 {
        u64::try_from(self.cache.get_usage()).unwrap_or(u64::MAX)
    }
}

/// What to do about a folder that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Create,
    /// After a failure: a new empty folder would look as if everything were lost.
    Refuse,
}

pub(super) fn family_name(profile: Profile) -> &'static str {
    match profile {
        Profile::Rows => DEFAULT_COLUMN_FAMILY_NAME,
        Profile::Log => "log",
    }
}

pub(super) fn open(path: &Path, shared: &Shared, missing: Missing) -> Result<DB, StorageError> {
    let mut options = database(shared);
    options.create_if_missing(missing == Missing::Create);
    options.create_missing_column_families(missing == Missing::Create);
    let opened = DB::open_cf_descriptors(&options, path, families(shared)?);
    opened.map_err(|error| {
        let text = error.to_string();
        // Both sentences are RocksDB's: the lock is another process's, or this one's.
        if text.contains("While lock file") || text.contains("lock hold by current process") {
            StorageError::Locked { path: path.to_owned() }
        } else {
            StorageError::Engine(text)
        }
    })
}

/// Without the lock, so that it works beside nothing but a folder that cannot be written.
pub(super) fn open_to_read(path: &Path, shared: &Shared) -> Result<DB, StorageError> {
    let opened = DB::open_cf_descriptors_read_only(&database(shared), path, families(shared)?, false);
    opened.map_err(|error| failed(&error))
}

fn families(shared: &Shared) -> Result<Vec<ColumnFamilyDescriptor>, StorageError> {
    let family = |profile| Ok(ColumnFamilyDescriptor::new(family_name(profile), family(profile, shared)?));
    [Profile::Rows, Profile::Log].into_iter().map(family).collect()
}

fn database(shared: &Shared) -> Options {
    let mut options = Options::default();
    options.set_env(&shared.env);
    options.set_write_buffer_manager(&shared.write_buffers);
    options.set_max_open_files(shared.open_files_max.into());
    // Each group is synced before the next one is written, so the first damaged record after a power loss belongs to a
    // group that nobody was told of, and everything behind it does too: stopping there loses nothing and always starts.
    // Tolerating only a torn tail would refuse to start when the pages of that last group reached the disk out of order.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // A log that has lost whole files or their ends after they were synced is an error, not an older state.
    options.set_track_and_verify_wals_in_manifest(true);
    // What is replayed at a start after a crash: a quarter of a second.
    options.set_max_total_wal_size(32 * 1024 * 1024);
    options.set_bytes_per_sync(1024 * 1024);
    // A merge reads so much of each of its files ahead, and a dozen of them at the same time.
    options.set_compaction_readahead_size(256 * 1024);
    options.set_max_manifest_file_size(4 * MIB);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(MIB);
    options.set_keep_log_file_num(2);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

fn family(profile: Profile, shared: &Shared) -> Result<Options, StorageError> {
    // Blocks of files that were merged away leave the cache with them, if one in ten is there. The bindings have no call for it.
    let mut options = Options::default();
    let mut options = options.get_options_from_string("uncache_aggressiveness=230").map_err(|error| failed(&error))?;
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options.set_bottommost_zstd_max_train_bytes(0, true);
    // Small first blocks: an idle tenant has two buffers that are nearly empty.
    options.set_arena_block_size(64 * 1024);
    let write_buffer = match profile {
        Profile::Rows => 8 * MIB,
        Profile::Log => 16 * MIB,
    };
    options.set_write_buffer_size(write_buffer);
    options.set_max_write_buffer_number(3);
    // Most questions are about rows that do not exist: whether an event is new, whether anything waits for it.
    options.set_memtable_whole_key_filtering(true);
    options.set_memtable_prefix_bloom_ratio(0.02);
    // Each file of new rows spans all keyspaces, so that merging a few rewrites everything: merge more at a time.
    options.set_level_zero_file_num_compaction_trigger(8);
    options.set_target_file_size_base(32 * 1024 * 1024);
    options.set_max_bytes_for_level_base(128 * 1024 * 1024);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&shared.cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_bloom_filter(10.0, false);
    table.set_optimize_filters_for_memory(true);
    table.set_block_size(match profile {
        Profile::Rows => 4 * 1024,
        Profile::Log => 16 * 1024,
    });
    options.set_block_based_table_factory(&table);
    Ok(options)
}

//! Servers that share a simulated time and live on rows in memory. They crash between any two writes, and come back with what was written.

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rules::{
    UnixMs,
    keys::{Key, KeyRing, Validity},
    signature::Signer,
};
use ruma::{OwnedServerName, ServerName};
use tokio::time::Instant;
use yurt::{
    actions::{
        Actions, Dialects, Parts, Registration, Settings,
        images::Images,
        media::{Media, Uploading},
        passwords::Passwords,
        remote_media::Bounds,
    },
    clock::Clock,
    random::Seeded,
    storage::{
        Committing, EffectMode, Engine, Reading, StorageError, Store, StoreOptions,
        changes::StreamId,
        engine::{ApplyError, Group, RowPage, RowRange},
        keyspace::RowKey,
        media::{MediaPlace, MediaStore},
        memory::MemoryEngine,
        range::{Caching, Direction, Limit},
        room_settings::FederationMode,
    },
};

/// 2026-01-01T00:00:00.000Z, where each storm begins.
pub(super) const START: u64 = 1_767_225_600_000;
/// Longer than any storm: a process that lives until it is ended.
pub(super) const FOR_EVER: u64 = u64::MAX;

/// How often is looked whether a process is still there.
const LOOK_MS: u64 = 1_000;

/// The runtime's time, as one server's clock shows it.
pub(super) struct Watch {
    start: Instant,
    /// Milliseconds that this clock is ahead.
    ahead: u64,
}

impl Clock for Watch {
    fn now(&self) -> UnixMs {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap();
        UnixMs(START + self.ahead + elapsed)
    }
}

/// One life of a server, from its start to its crash.
#[derive(Default)]
pub(super) struct Life {
    /// Writes until it ends.
    writes_left: AtomicU64,
    /// The last write reaches the disk, and nobody is told.
    last_is_written: AtomicBool,
    is_over: AtomicBool,
}

impl Life {
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Whoever waits for an answer that this process was to get waits in vain from then on.
    pub(super) async fn ended(&self) {
        while !self.is_over() {
            pass(LOOK_MS).await;
        }
    }

    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// It ends at the write behind so many others.
    pub(super) fn end_after(&self, writes: u64, last_is_written: bool) {
        self.last_is_written.store(last_is_written, Ordering::SeqCst);
        self.writes_left.store(writes, Ordering::SeqCst);
    }
}

/// The rows of a server as one process has them open.
struct Disk {
    rows: MemoryEngine,
    life: Arc<Life>,
}

impl Disk {
    fn or_closed<'a, T>(&self, reading: Reading<'a, T>) -> Reading<'a, T> {
        match self.life.is_over() {
            true => Box::pin(async { Err(StorageError::Closed) }),
            false => reading,
        }
    }
}

impl Engine for Disk {
    fn get(&self, keys: Vec<RowKey>, caching: Caching) -> Reading<'_, Vec<Option<Vec<u8>>>> {
        self.or_closed(self.rows.get(keys, caching))
    }

    fn scan(&self, range: RowRange, direction: Direction, limit: Limit) -> Reading<'_, RowPage> {
        self.or_closed(self.rows.scan(range, direction, limit))
    }

    fn apply(&self, group: &Group) -> Result<(), ApplyError> {
        let closed = || ApplyError::Unavailable("the process is gone".to_owned());
        if self.life.is_over() {
            return Err(closed());
        }
        let left = self.life.writes_left.load(Ordering::SeqCst);
        if left != FOR_EVER {
            if left == 0 {
                self.life.end();
                if self.life.last_is_written.load(Ordering::SeqCst) {
                    self.rows.apply(group)?;
                }
                return Err(closed());
            }
            self.life.writes_left.store(left - 1, Ordering::SeqCst);
        }
        self.rows.apply(group)
    }

    fn last(&self, stream: StreamId) -> Reading<'_, (u64, u64)> {
        self.or_closed(self.rows.last(stream))
    }

    fn close(&self) -> Reading<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// What stays of a server when its process ends.
pub(super) struct Machine {
    pub(super) name: OwnedServerName,
    rows: MemoryEngine,
    start: Instant,
    ahead: u64,
    seed: u64,
    lives: u64,
}

impl Machine {
    pub(super) fn new(name: &ServerName, start: Instant, ahead: u64, seed: u64) -> Self {
        Self { name: name.to_owned(), rows: MemoryEngine::strict(), start, ahead, seed, lives: 0 }
    }

    pub(super) fn signer(&self) -> Signer {
        let mut seed = [7_u8; 32];
        for (at, byte) in self.name.as_str().bytes().enumerate() {
            seed[at % 32] = seed[at % 32].wrapping_add(byte);
        }
        Signer::new(self.name.clone(), "1", &seed).unwrap()
    }

    /// Starts a process.
    pub(super) async fn start(&mut self) -> (Actions, Arc<Life>) {
        self.lives += 1;
        let life = Arc::new(Life::default());
        life.end_after(FOR_EVER, false);
        let disk = Disk { rows: self.rows.reopened(), life: Arc::clone(&life) };
        let options =
            StoreOptions { effects: EffectMode::Deferred, committing: Committing::Task, ..StoreOptions::default() };
        let in_memory = StoreOptions { committing: Committing::Task, ..StoreOptions::default() };
        let signer = self.signer();
        let mut own_keys = KeyRing::new();
        let key = Key { public: signer.public_key(), validity: Validity::Until(UnixMs(u64::MAX)) };
        own_keys.insert(self.name.clone(), signer.key_id(), key);
        let parts = Parts {
            tenant: "storm".to_owned(),
            signer,
            store: Store::open(Arc::new(disk), options).await.unwrap(),
            incognito: Store::open(Arc::new(MemoryEngine::new()), in_memory).await.unwrap(),
            clock: Arc::new(Watch { start: self.start, ahead: self.ahead }),
            random: Arc::new(Seeded::new(self.seed.wrapping_mul(31).wrapping_add(self.lives))),
            settings: Settings {
                max_participants: 1_000,
                max_accounts: 1_000,
                max_rooms: 1_000,
                registration: Registration::Closed,
                token_lifetime_ms: None,
                reserved_aliases: Vec::new(),
                dialects: Dialects::default(),
                room_federation: FederationMode::Open,
                resume_events_max: 10_000,
                behind_rows_max: 10_000,
            },
            passwords: Passwords::default(),
            media: Media {
                store: no_media(),
                images: Images::default(),
                upload_bytes_max: 1,
                uploading: Uploading::default(),
                remote: Bounds { medium_bytes_max: 1, cache_bytes_max: 1 },
            },
            own_keys,
            spool: "/nowhere/spool".into(),
            bundle_limits: yurt::bundle::Limits::default(),
            bundle_answer_wait: Duration::from_secs(30),
        };
        (Actions::open(parts).await.unwrap(), life)
    }
}

/// A folder for media that nobody writes to, the same for all.
fn no_media() -> MediaStore {
    static MEDIA: OnceLock<(tempfile::TempDir, MediaStore)> = OnceLock::new();
    let open = || {
        let folder = tempfile::tempdir().unwrap();
        let place = MediaPlace::Folder(PathBuf::from(folder.path()));
        let opened = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(MediaStore::open(place)).unwrap()
        });
        (folder, opened.join().unwrap())
    };
    MEDIA.get_or_init(open).1.clone()
}

/// Lets time pass.
pub(super) async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

//! The tests that every backend must pass: each is written once, for a backend that is opened, closed and hurt.

use std::sync::{Arc, Weak, mpsc};

use parking_lot::Mutex;
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::{
    ChangeKind, Commit, CommitError, EffectMode, Engine, Home, HomeKind, Keyspace, Pending, Place, Profile, Store,
    StoreOptions,
    keyspace::RowKey,
    memory::{Fault, MemoryEngine},
    rocksdb::{Budget, RocksEngine, Shared},
};

mod conditions;
mod effects;
mod faults;
mod order;
mod rows;

pub(super) static NOTES: Keyspace<String, String> = Keyspace::new(200, "NOTES", HomeKind::Room, Profile::Rows);
pub(super) static LINES: Keyspace<(OwnedUserId, Place), u64> =
    Keyspace::new(201, "LINES", HomeKind::Room, Profile::Log);
pub(super) static CARDS: Keyspace<OwnedRoomId, String> = Keyspace::new(202, "CARDS", HomeKind::Person, Profile::Rows);
pub(super) static WHERE: Keyspace<u64, String> = Keyspace::new(203, "WHERE", HomeKind::Content, Profile::Log);

/// Something that keeps bytes while no store is open on it.
pub(super) trait Backend: Default + Send + Sync {
    /// Opens it anew, as a process that starts.
    fn engine(&self) -> Arc<dyn Engine>;

    fn effects(&self) -> EffectMode {
        EffectMode::Inline
    }

    /// Makes the next write of the engine that was opened last go wrong.
    fn fail_next(&self, fault: Fault);

    /// Changes the stored bytes of a row.
    fn damage(&self, key: RowKey, bytes: Vec<u8>);

    /// No store is open on it any more.
    fn is_free(&self) -> bool {
        true
    }

    /// A lost write is settled before it is answered.
    fn settles_at_once(&self) -> bool {
        false
    }
}

pub(super) async fn open(backend: &impl Backend) -> Store {
    let options = StoreOptions { effects: backend.effects(), ..StoreOptions::default() };
    Store::open(backend.engine(), options).await.unwrap()
}

#[derive(Default)]
pub(super) struct Memory(MemoryEngine);

impl Backend for Memory {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(self.0.reopened())
    }

    fn fail_next(&self, fault: Fault) {
        self.0.fail_next(fault);
    }

    fn damage(&self, key: RowKey, bytes: Vec<u8>) {
        self.0.damage(key, bytes);
    }
}

/// As an engine of many machines: a batch has rows of one home, and effects come later.
pub(super) struct Strict(pub(super) MemoryEngine);

impl Default for Strict {
    fn default() -> Self {
        Self(MemoryEngine::strict())
    }
}

impl Backend for Strict {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(self.0.reopened())
    }

    fn effects(&self) -> EffectMode {
        EffectMode::Deferred
    }

    fn fail_next(&self, fault: Fault) {
        self.0.fail_next(fault);
    }

    fn damage(&self, key: RowKey, bytes: Vec<u8>) {
        self.0.damage(key, bytes);
    }
}

pub(super) struct Rocks {
    pub(super) folder: tempfile::TempDir,
    pub(super) shared: Shared,
    opened: Mutex<Weak<RocksEngine>>,
}

impl Default for Rocks {
    fn default() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, shared: Shared::new(Budget::default()).unwrap(), opened: Mutex::default() }
    }
}

impl Rocks {
    fn opened(&self) -> Arc<RocksEngine> {
        self.opened.lock().upgrade().expect("the backend is open")
    }
}

impl Backend for Rocks {
    fn engine(&self) -> Arc<dyn Engine> {
        let engine = Arc::new(RocksEngine::open(&self.folder.path().join("data"), &self.shared).unwrap());
        *self.opened.lock() = Arc::downgrade(&engine);
        engine
    }

    fn fail_next(&self, fault: Fault) {
        self.opened().fail_next(fault);
    }

    fn damage(&self, key: RowKey, bytes: Vec<u8>) {
        self.opened().damage(&key, &bytes);
    }

    fn is_free(&self) -> bool {
        RocksEngine::open(&self.folder.path().join("data"), &self.shared).is_ok()
    }

    fn settles_at_once(&self) -> bool {
        true
    }
}

/// Makes a test of each function, for each backend.
macro_rules! for_each_backend {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::storage::suite::Memory::default()).await;
            })*
        }
        mod strict {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::storage::suite::Strict::default()).await;
            })*
        }
        mod rocksdb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::storage::suite::Rocks::default()).await;
            })*
        }
    };
}
pub(super) use for_each_backend;

pub(super) fn room(name: &str) -> Home {
    Home::room(&room_id(name))
}

pub(super) fn room_id(name: &str) -> OwnedRoomId {
    RoomId::parse(format!("!{name}:a.example")).unwrap()
}

pub(super) fn person(name: &str) -> Home {
    Home::person(&user_id(name))
}

pub(super) fn user_id(name: &str) -> OwnedUserId {
    UserId::parse(format!("@{name}:a.example")).unwrap()
}

/// A commit that writes one note.
pub(super) fn note(home: &Home, key: &str, text: &str) -> Commit {
    let mut commit = Commit::new(home.clone());
    commit.put(&NOTES, &key.to_owned(), &text.to_owned()).change(ChangeKind::Events, 1);
    commit
}

pub(super) async fn read_note(store: &Store, home: &Home, key: &str) -> Option<String> {
    store.get(&NOTES, home, &key.to_owned()).await.unwrap()
}

pub(super) async fn write_note(store: &Store, home: &Home, key: &str, text: &str) {
    store.commit(note(home, key, text)).await.unwrap();
}

/// Submits commits while the committer is held, so that they become one group.
pub(super) async fn as_one_group(store: &Store, commits: Vec<Commit>) -> Vec<Pending> {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let (reached, is_reached) = tokio::sync::oneshot::channel();
    let mut gate = Commit::new(Home::server());
    gate.then(move |_| {
        reached.send(()).unwrap();
        released.lock().recv().unwrap();
    });
    let gate = store.reserve().await.unwrap().submit(gate);
    is_reached.await.unwrap();
    let mut pending = Vec::new();
    for commit in commits {
        pending.push(store.reserve().await.unwrap().submit(commit));
    }
    release.send(()).unwrap();
    gate.await.unwrap();
    pending
}

pub(super) async fn answers(pending: Vec<Pending>) -> Vec<Result<(), CommitError>> {
    let mut answers = Vec::new();
    for pending in pending {
        answers.push(pending.await.map(|_| ()));
    }
    answers
}

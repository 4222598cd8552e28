//! The committer: one thread per stream (or one task: [`Committing`]), from its first commit on, that takes the waiting commits, checks their conditions in order, gives the next
//! position, writes them all at once, and answers. The same for every engine.
//! May import: changes, commit, engine.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::{
    CommitError, StorageError,
    changes::{Position, StreamId},
    commit::{COMMIT_BYTES_MAX, Commit},
    engine::Engine,
};

mod counters;
mod stream;

pub use counters::Counters;

use counters::Counting;
use stream::Stream;

/// Commits that wait for the committer.
const QUEUE_COMMITS_MAX: usize = 4_096;

/// Bytes of the commits that wait for the committer, in units of [`UNIT_BYTES`].
const QUEUE_UNITS_MAX: usize = 64 * 1024;

/// The unit in which waiting bytes are counted.
const UNIT_BYTES: usize = 1024;

/// What a permit holds until it is known how large its commit is.
const PERMIT_UNITS: u32 = 1024;

const _: () = {
    // `From` is not yet const.
    #[expect(clippy::as_conversions, reason = "widening in a constant")]
    let permit_units = PERMIT_UNITS as usize;
    assert!(permit_units * UNIT_BYTES >= COMMIT_BYTES_MAX);
    assert!(permit_units * 16 <= QUEUE_UNITS_MAX);
};

/// When other homes learn of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EffectMode {
    /// In the same batch: right for an engine whose batches span homes.
    #[default]
    Inline,
    /// In batches of their own, one home each; until then they wait in the home of their commit.
    Deferred,
}

/// Where commits are decided and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Committing {
    /// On a thread of its own: for engines that block.
    #[default]
    Thread,
    /// In a task of the runtime that the first commit is made in: for engines that never do. On a runtime of one thread everything then happens in the same
    /// order each time, which tests with a simulated clock rest on.
    Task,
}

/// A commit on its way.
struct Submission {
    commit: Commit,
    answer: oneshot::Sender<Result<Position, CommitError>>,
    /// Given back when the commit is answered.
    _room: OwnedSemaphorePermit,
}

enum Message {
    Commit(Box<Submission>),
    Stop(oneshot::Sender<()>),
}

/// The handle of a committer. Its thread is started by the first commit, so that a tenant that nobody writes to has none.
/// The thread ends when the handle is gone and the queue is empty; who drops the handle of a store that was not closed
/// waits for that, so that no process ends in the middle of it.
pub(crate) struct Committer {
    queue: mpsc::Sender<Message>,
    /// Behind the queue, because it is dropped behind it.
    thread: Running,
    resting: Resting,
    room: Arc<Semaphore>,
    position: watch::Receiver<Position>,
    counting: Arc<Counting>,
    committing: Committing,
}

impl Committer {
    /// Waits until what a crash left over is applied.
    pub(crate) async fn open(
        engine: Arc<dyn Engine>,
        (effects, committing): (EffectMode, Committing),
        feed_rows_max: u64,
        stream: StreamId,
    ) -> Result<Self, StorageError> {
        let (last, epoch) = engine.last(stream).await?;
        let (publish, position) = watch::channel(Position::new(stream, last));
        let counting = Arc::<Counting>::default();
        let mut stream =
            Stream::new(engine, (effects, feed_rows_max), (stream, epoch + 1), publish, Arc::clone(&counting));
        let stream = match committing {
            Committing::Thread => opened(stream).await?,
            Committing::Task => stream.open().map(|()| stream)?,
        };
        let (queue, inbox) = mpsc::channel(QUEUE_COMMITS_MAX);
        let room = Arc::new(Semaphore::new(QUEUE_UNITS_MAX));
        let resting = Arc::new(Mutex::new(Some(Box::new((stream, inbox)))));
        Ok(Self { queue, thread: Running::default(), resting, room, position, counting, committing })
    }

    /// Starts the thread or the task if it was not started.
    fn start(&self) -> Result<(), StorageError> {
        if self.committing == Committing::Task {
            if let Some(rested) = self.resting.lock().take() {
                tokio::spawn(async move {
                    let (mut stream, inbox) = *rested;
                    run(&mut stream, inbox).await;
                });
            }
            return Ok(());
        }
        if self.thread.0.get().is_some() {
            return Ok(());
        }
        // Held until the thread is known, so that there is one.
        let held = self.resting.lock();
        if held.is_none() || self.thread.0.get().is_some() {
            return Ok(());
        }
        let resting = Arc::clone(&self.resting);
        let thread = spawn(move || {
            let rested = resting.lock().take();
            if let Some(rested) = rested {
                let (mut stream, inbox) = *rested;
                stream::block_on(run(&mut stream, inbox));
            }
        });
        self.thread.0.set(thread?).map_err(|_started| StorageError::Closed)
    }

    pub(crate) async fn reserve(&self) -> Result<Permit, StorageError> {
        self.start()?;
        let closed = |_| StorageError::Closed;
        let room =
            Arc::clone(&self.room).acquire_many_owned(PERMIT_UNITS).await.map_err(|_closed| StorageError::Closed)?;
        let slot = self.queue.clone().reserve_owned().await.map_err(closed)?;
        Ok(Permit { slot, room })
    }

    pub(crate) fn position(&self) -> &watch::Receiver<Position> {
        &self.position
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counting.read()
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.counting.is_failing()
    }

    /// Refuses new commits and waits until the submitted ones are answered.
    pub(crate) async fn stop(&self) {
        self.stop_resting();
        let (stopped, is_stopped) = oneshot::channel();
        if self.queue.send(Message::Stop(stopped)).await.is_ok() {
            // An error means that the thread has ended, which is what is waited for.
            let _ = is_stopped.await;
        }
        self.queue.closed().await;
    }
}

impl Committer {
    /// A stream without a thread has nobody who would close its queue.
    fn stop_resting(&self) {
        let mut resting = self.resting.lock();
        if self.thread.0.get().is_none() {
            resting.take();
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // Permits keep the queue open; whoever holds one may be the one who would wait.
        if self.queue.strong_count() > 1 {
            self.thread.0.take();
        }
    }
}

/// A stream before its first commit.
type Resting = Arc<Mutex<Option<Box<(Stream, mpsc::Receiver<Message>)>>>>;

/// A thread, once it was started, that is waited for when this is dropped.
#[derive(Default)]
struct Running(OnceLock<JoinHandle<()>>);

impl Drop for Running {
    fn drop(&mut self) {
        // The last handle of a store may be in a hook, which runs on the thread itself.
        if let Some(thread) = self.0.take().filter(|thread| thread.thread().id() != thread::current().id()) {
            // A panic there was told where it happened.
            let _ = thread.join();
        }
    }
}

/// Room in the queue for one commit.
pub struct Permit {
    slot: mpsc::OwnedPermit<Message>,
    room: OwnedSemaphorePermit,
}

impl Permit {
    /// Submits at once, behind everything that was submitted before. Dropping the answer does not take the commit back.
    pub fn submit(mut self, commit: Commit) -> Pending {
        let (answer, pending) = oneshot::channel();
        let units = (commit.size().bytes / UNIT_BYTES + 1).min(self.room.num_permits());
        // Too large commits are refused later and weigh what the permit holds.
        let room = self.room.split(units).unwrap_or(self.room);
        self.slot.send(Message::Commit(Box::new(Submission { commit, answer, _room: room })));
        Pending(pending)
    }
}

/// The answer to a submitted commit.
pub struct Pending(oneshot::Receiver<Result<Position, CommitError>>);

impl Future for Pending {
    type Output = Result<Position, CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Without an answer the thread died over the commit.
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(CommitError::Unknown)))
    }
}

/// Applies what a crash left over, on a thread that may block.
async fn opened(mut stream: Stream) -> Result<Stream, StorageError> {
    let (answer, opened) = oneshot::channel();
    spawn(move || {
        let outcome = stream.open();
        // Whoever opens the store may have gone.
        let _ = answer.send(outcome.map(|()| stream));
    })?;
    opened.await.unwrap_or(Err(StorageError::Closed))
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StorageError> {
    let thread = thread::Builder::new().name("committer".to_owned()).spawn(work);
    thread.map_err(|error| StorageError::Engine(format!("no thread for the committer: {error}")))
}

/// Takes groups out of the queue until it is closed and empty.
async fn run(stream: &mut Stream, mut inbox: mpsc::Receiver<Message>) {
    let mut stops = Vec::new();
    let mut carried = None;
    loop {
        let first = match carried.take() {
            Some(submission) => Some(Message::Commit(submission)),
            None => inbox.recv().await,
        };
        match first {
            Some(Message::Commit(first)) => {
                let mut group = stream.group(first);
                while carried.is_none() && group.has_room() {
                    match inbox.try_recv() {
                        Ok(Message::Commit(next)) => carried = group.take(next).err(),
                        Ok(Message::Stop(stopped)) => stop(&mut inbox, &mut stops, stopped),
                        Err(_empty) => break,
                    }
                }
                stream.run(group);
            }
            Some(Message::Stop(stopped)) => stop(&mut inbox, &mut stops, stopped),
            None => break,
        }
    }
    drop(inbox);
    for stopped in stops {
        // Nobody may be waiting any more.
        let _ = stopped.send(());
    }
}

fn stop(inbox: &mut mpsc::Receiver<Message>, stops: &mut Vec<oneshot::Sender<()>>, stopped: oneshot::Sender<()>) {
    inbox.close();
    stops.push(stopped);
}

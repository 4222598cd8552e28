//! Where news waits for those who listen: a bounded queue for each stream, and who listens to which room. Knows ids, positions and sizes, not what a frame
//! says. May import: rules (the unit of time), storage (positions), ruma ids.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use rules::UnixMs;
use tokio::sync::Notify;

use crate::storage::Position;

mod audience;

pub use audience::{Audience, Listener};

/// Frames that wait for one stream.
pub const QUEUE_FRAMES_MAX: usize = 256;
/// Bytes of the frames that wait for one stream; streams share the bytes of one frame.
pub const QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// What an outlet needs to know of a frame.
pub trait Queued {
    /// About how many bytes it takes.
    fn bytes(&self) -> usize;

    /// What becomes of it when it finds no room.
    fn when_dropped(&self) -> Dropped;
}

/// What it means that a frame was dropped.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The stream finds it again in the feed.
    Found,
    /// Nobody finds it again: the reader must be told.
    Lost,
    /// It was of the moment only.
    Passed,
}

/// Why a stream ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The session was revoked, or its account may no longer do anything.
    Revoked,
    /// The session's time is over.
    Expired,
    /// The server stops.
    Stopping,
    /// The server cannot follow its own feed; a new stream begins afresh.
    Failed,
}

/// What an outlet has for its stream.
#[derive(Debug)]
pub enum Next<F> {
    /// The next frame.
    Frame(Arc<F>),
    /// The queue was full and is gone: the stream reads the feed itself.
    Behind,
    /// There is nothing more.
    Ended(End),
}

/// The near end of one stream: a queue that whoever has news fills without waiting.
pub struct Outlet<F> {
    queue: Mutex<Queue<F>>,
    news: Notify,
}

struct Queue<F> {
    frames: VecDeque<(Arc<F>, Of)>,
    bytes: usize,
    /// Frames of these positions and before are known otherwise: of the durable store and of the one in memory.
    since: [Position; 2],
    is_behind: bool,
    /// Where in the durable store that began.
    behind_at: Option<Position>,
    has_lost: bool,
    expires_at: Option<UnixMs>,
    ended: Option<End>,
    gone_at: Option<UnixMs>,
}

/// From which position of which of the two stores a frame comes; none: it is of the moment.
pub type Of = Option<(usize, Position)>;

/// What became of the frames of a stream that was too slow.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// The first position of the durable store with a frame that was dropped.
    pub first: Option<Position>,
    /// Frames are gone that the feed does not hold.
    pub has_lost: bool,
}

impl<F: Queued> Outlet<F> {
    /// An empty outlet for frames behind these positions.
    pub fn new(since: [Position; 2]) -> Self {
        let queue = Queue {
            frames: VecDeque::new(),
            bytes: 0,
            since,
            is_behind: false,
            behind_at: None,
            has_lost: false,
            expires_at: None,
            ended: None,
            gone_at: None,
        };
        Self { queue: Mutex::new(queue), news: Notify::new() }
    }

    /// Adds a frame.
    pub fn push(&self, frame: &Arc<F>, of: Of) {
        let mut queue = self.queue.lock();
        let is_known =
            of.is_some_and(|(store, position)| queue.since.get(store).is_some_and(|since| since.has_reached(position)));
        if is_known || queue.ended.is_some() || queue.gone_at.is_some() {
            return;
        }
        let bytes = frame.bytes();
        let has_room = queue.frames.len() < QUEUE_FRAMES_MAX && queue.bytes + bytes <= QUEUE_BYTES_MAX;
        if !queue.is_behind && (has_room || queue.frames.is_empty()) {
            queue.frames.push_back((Arc::clone(frame), of));
            queue.bytes += bytes;
        } else if frame.when_dropped() != Dropped::Passed {
            queue.drop_all();
            queue.note_dropped(&**frame, of);
        }
        drop(queue);
        self.news.notify_one();
    }

    /// Behind which positions frames are taken.
    pub fn since(&self) -> [Position; 2] {
        self.queue.lock().since
    }

    /// Begins anew behind these positions, after [`Next::Behind`].
    pub fn reset(&self, since: [Position; 2]) -> Missed {
        let mut queue = self.queue.lock();
        queue.drop_all();
        queue.since = since;
        queue.is_behind = false;
        Missed { first: queue.behind_at.take(), has_lost: std::mem::take(&mut queue.has_lost) }
    }

    /// Waits for what comes next. Nothing is lost when the caller stops waiting.
    pub async fn next(&self) -> Next<F> {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.news.notified().await;
        }
    }

    fn take(&self) -> Option<Next<F>> {
        let mut queue = self.queue.lock();
        if let Some(end) = queue.ended {
            return Some(Next::Ended(end));
        }
        if queue.is_behind {
            return Some(Next::Behind);
        }
        let (frame, _) = queue.frames.pop_front()?;
        queue.bytes = queue.bytes.saturating_sub(frame.bytes());
        if queue.frames.is_empty() {
            // Thousands of streams are idle most of the time.
            queue.frames = VecDeque::new();
        }
        Some(Next::Frame(frame))
    }

    /// Nothing waits, and nothing was dropped.
    pub fn is_idle(&self) -> bool {
        let queue = self.queue.lock();
        queue.frames.is_empty() && !queue.is_behind
    }

    /// Ends the stream; what waits is not given any more.
    pub fn end(&self, end: End) {
        let mut queue = self.queue.lock();
        queue.ended.get_or_insert(end);
        queue.frames = VecDeque::new();
        drop(queue);
        self.news.notify_one();
    }

    /// When the stream's session ends by itself.
    pub fn expires_at(&self, at: Option<UnixMs>) {
        self.queue.lock().expires_at = at;
    }

    /// Why the stream ended, if it did by now.
    pub fn ended(&self, now: UnixMs) -> Option<End> {
        let (ended, expires_at) = {
            let queue = self.queue.lock();
            (queue.ended, queue.expires_at)
        };
        if ended.is_none() && expires_at.is_some_and(|end| end <= now) {
            self.end(End::Expired);
            return Some(End::Expired);
        }
        ended
    }

    /// The reader hung up.
    pub fn leave(&self, now: UnixMs) {
        let mut queue = self.queue.lock();
        queue.gone_at.get_or_insert(now);
        queue.frames = VecDeque::new();
    }

    /// When the reader hung up, if it did.
    pub fn gone_at(&self) -> Option<UnixMs> {
        self.queue.lock().gone_at
    }
}

impl<F: Queued> Queue<F> {
    /// The stream has to read the feed: what waits here is dropped.
    fn drop_all(&mut self) {
        self.is_behind = true;
        self.bytes = 0;
        for (frame, of) in std::mem::take(&mut self.frames) {
            self.note_dropped(&*frame, of);
        }
    }

    fn note_dropped(&mut self, frame: &F, of: Of) {
        match frame.when_dropped() {
            Dropped::Found => self.behind_at = self.behind_at.or(of.map(|(_, position)| position)),
            Dropped::Lost => self.has_lost = true,
            Dropped::Passed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sized(usize, Dropped);

    impl Queued for Sized {
        fn bytes(&self) -> usize {
            self.0
        }

        fn when_dropped(&self) -> Dropped {
            self.1
        }
    }

    const START: [Position; 2] = [Position::START; 2];

    fn fill(outlet: &Outlet<Sized>, frames: usize, bytes: usize, dropped: Dropped) {
        (0..frames).for_each(|_| outlet.push(&Arc::new(Sized(bytes, dropped)), None));
    }

    #[tokio::test]
    async fn a_full_queue_is_dropped_as_a_whole_and_begins_anew() {
        for (frames, bytes) in [(QUEUE_FRAMES_MAX + 1, 1), (3, QUEUE_BYTES_MAX / 2)] {
            let outlet = Outlet::new(START);
            fill(&outlet, frames - 1, bytes, Dropped::Found);
            assert!(matches!(outlet.next().await, Next::Frame(_)));
            fill(&outlet, 2, bytes, Dropped::Found);
            assert!(matches!(outlet.next().await, Next::Behind));
            assert_eq!(outlet.reset(START), Missed::default(), "everything is in the feed");
            assert!(outlet.is_idle());
            fill(&outlet, 1, bytes, Dropped::Found);
            assert!(matches!(outlet.next().await, Next::Frame(_)));
        }
    }

    #[tokio::test]
    async fn what_is_of_the_moment_never_makes_a_queue_fall_behind() {
        let outlet = Outlet::new(START);
        fill(&outlet, QUEUE_FRAMES_MAX, 1, Dropped::Found);
        fill(&outlet, 9, 1, Dropped::Passed);
        assert!(matches!(outlet.next().await, Next::Frame(_)));
    }

    #[tokio::test]
    async fn what_is_nowhere_else_is_told_as_lost() {
        for (waiting, last) in [(Dropped::Lost, Dropped::Found), (Dropped::Found, Dropped::Lost)] {
            let outlet = Outlet::new(START);
            fill(&outlet, QUEUE_FRAMES_MAX, 1, waiting);
            fill(&outlet, 1, 1, last);
            assert!(matches!(outlet.next().await, Next::Behind));
            assert!(outlet.reset(START).has_lost);
        }
    }

    #[tokio::test]
    async fn an_ended_stream_gives_nothing_that_waited() {
        let outlet = Outlet::new(START);
        fill(&outlet, 2, 1, Dropped::Found);
        outlet.end(End::Revoked);
        outlet.end(End::Stopping);
        assert!(matches!(outlet.next().await, Next::Ended(End::Revoked)));
    }

    #[tokio::test]
    async fn a_large_frame_finds_room_in_an_empty_queue() {
        let outlet = Outlet::new(START);
        fill(&outlet, 1, QUEUE_BYTES_MAX * 2, Dropped::Found);
        assert!(matches!(outlet.next().await, Next::Frame(_)));
    }
}

//! Live streams: what happens in the rooms of a person, as it happens, and from where they left off.
//!
//! A stream that keeps up gets its frames from the one task that follows the feed ([`Live`]), over a bounded queue. A stream that begins at a cursor, or that
//! was too slow, reads the feed itself until it has caught up. Both give the same frames ([`route`]), so nothing is lost or repeated where one ends and the
//! other begins.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use super::{ActionError, Actions, Caller, sessions};
use crate::{
    live::{Next, Outlet},
    storage::{Cursor, Position},
};

mod catch_up;
mod frame;
mod hub;
mod route;

pub use crate::live::End;
pub use frame::{Frame, FrameKind, Rendered};
pub(crate) use hub::Hub;
pub use hub::{Live, STREAMS_MAX, STREAMS_PER_ACCOUNT_MAX};

use catch_up::CatchUp;

/// One stream. Dropping it ends it.
pub struct Stream {
    actions: Actions,
    caller: Caller,
    place: hub::Place,
    /// How far its reader has got.
    seen: Cursor,
    ready: VecDeque<Arc<Frame>>,
    /// Reading that goes on, whether or not somebody waits for it.
    work: Option<Work>,
}

type Work = Pin<Box<dyn Future<Output = Step> + Send>>;

/// A piece of what a stream catches up with.
struct Step {
    frames: VecDeque<Arc<Frame>>,
    rest: Rest,
}

enum Rest {
    /// There is more before the live frames.
    More(Box<CatchUp>),
    /// The live frames come next, behind this.
    Live(Cursor),
}

/// Opens a stream behind a cursor, or without one from now on: then its first frame tells from where.
///
/// # Errors
/// [`ActionError::RateLimited`] for too many streams; a session that was just revoked; when storage cannot be read.
pub async fn open(actions: &Actions, caller: Caller, from: Option<From>) -> Result<Stream, ActionError> {
    let place = hub::enter(actions, &caller).await?;
    // A revocation before the stream was entered is on disk by now; one after it is seen by who follows the feed.
    let expires_at = sessions::still_good(actions, &caller).await?;
    place.outlet.expires_at(expires_at);
    let entry = place.entry.clone();
    let mut stream = Stream {
        actions: actions.clone(),
        caller,
        // A heartbeat tells how far the reader has got, not how far it will have got when it has caught up.
        seen: match from {
            Some(From::Cursor(cursor)) => cursor,
            Some(From::Elsewhere) | None => Cursor::through(entry.until),
        },
        place,
        ready: VecDeque::new(),
        work: None,
    };
    match from {
        Some(From::Cursor(cursor)) => {
            let (actions, user_id) = (actions.clone(), stream.caller.user_id.clone());
            stream.work = Some(Box::pin(async move { CatchUp::begin(&actions, user_id, entry, cursor).await }));
        }
        Some(From::Elsewhere) | None => stream.ready.push_back(resync(entry.until)),
    }
    Ok(stream)
}

/// Where a client says that it left off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Behind this.
    Cursor(Cursor),
    /// At a place in another server's feed.
    Elsewhere,
}

impl From {
    /// Reads the text of a cursor; none: it is none of any server.
    pub fn parse(actions: &Actions, text: &str) -> Option<Self> {
        let (cursor, realm) = text.split_once('~')?;
        let cursor = Cursor::from_token(cursor)?;
        let is_realm = realm.len() == hub::REALM_CHARACTERS && realm.chars().all(|digit| digit.is_ascii_hexdigit());
        match realm {
            realm if realm == actions.live.realm() => Some(Self::Cursor(cursor)),
            _ => is_realm.then_some(Self::Elsewhere),
        }
    }
}

/// The text of a cursor.
pub fn text_of(actions: &Actions, cursor: Cursor) -> String {
    format!("{}~{}", cursor.to_token(), actions.live.realm())
}

fn resync(position: Position) -> Arc<Frame> {
    Arc::new(Frame::new(FrameKind::Resync, Some(Cursor::through(position))))
}

impl Stream {
    /// Waits for the next frame. Nothing is lost when the caller stops waiting.
    ///
    /// # Errors
    /// [`End`]: there is nothing more.
    pub async fn next(&mut self) -> Result<Arc<Frame>, End> {
        loop {
            if let Some(end) = self.outlet().ended(self.actions.now()) {
                return Err(end);
            }
            if let Some(frame) = self.ready.pop_front() {
                self.seen = frame.cursor.unwrap_or(self.seen);
                return Ok(frame);
            }
            if let Some(work) = &mut self.work {
                let step = work.await;
                self.work = None;
                self.take(step);
                continue;
            }
            match self.outlet().next().await {
                Next::Frame(frame) => self.ready.push_back(frame),
                Next::Behind => self.fall_back(),
                Next::Ended(end) => return Err(end),
            }
        }
    }

    /// The stream's text for how far its reader has got: the feed has gone on, even when nothing in it was for this reader.
    pub fn progress(&mut self) -> String {
        let at = self.actions.live.position();
        if self.ready.is_empty() && self.work.is_none() && self.outlet().is_idle() && at.has_reached(self.seen.position)
        {
            self.seen = Cursor::through(at);
        }
        text_of(&self.actions, self.seen)
    }

    /// The actions that the stream belongs to.
    pub fn actions(&self) -> &Actions {
        &self.actions
    }

    fn outlet(&self) -> &Outlet<Frame> {
        &self.place.outlet
    }

    fn take(&mut self, step: Step) {
        self.ready = step.frames;
        match step.rest {
            Rest::Live(seen) => self.seen = if self.ready.is_empty() { seen } else { self.seen },
            Rest::More(catch_up) => {
                let actions = self.actions.clone();
                self.work = Some(Box::pin(async move { catch_up.step(&actions).await }));
            }
        }
    }

    /// The queue was full: what it held is read from the feed, as far as it is there.
    fn fall_back(&mut self) {
        let (actions, user_id, seen) = (self.actions.clone(), self.caller.user_id.clone(), self.seen);
        let outlet = Arc::clone(&self.place.outlet);
        self.work = Some(Box::pin(async move {
            let (entry, missed) = hub::again(&actions, &user_id, &outlet).await;
            if missed.has_lost {
                return Step::resync(entry.until);
            }
            // Everything before the first frame that was dropped has been read.
            let read = missed.first.map(Position::before).filter(|read| read.has_reached(seen.position));
            CatchUp::begin(&actions, user_id, entry, read.map_or(seen, Cursor::through)).await
        }));
    }
}

impl Step {
    /// What was found, or, where the feed cannot be read, that everything is to be loaded anew.
    fn found(step: Result<Self, ActionError>, until: Position) -> Self {
        step.unwrap_or_else(|error| {
            tracing::warn!(%error, "A stream cannot catch up: {error}");
            Self::resync(until)
        })
    }

    fn resync(position: Position) -> Self {
        Self { frames: VecDeque::from([resync(position)]), rest: Rest::Live(Cursor::through(position)) }
    }
}

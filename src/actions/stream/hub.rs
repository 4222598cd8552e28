//! The one task of a tenant that follows the feeds for all its streams. It runs only while somebody listens.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use rules::{UnixMs, permission::Membership, signature::Signer};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use sha2::{Digest, Sha256};
use tokio::{
    sync::{MutexGuard, Notify},
    time::MissedTickBehavior,
};

use super::{
    Frame, FrameKind,
    route::{Outcome, Routed, Routing},
};
use crate::{
    actions::{ActionError, Actions, Caller, personal, presence, sessions, typing},
    live::{Audience, End, Listener, Missed, Of, Outlet},
    storage::{FeedRow, Limit, Position, Store, key},
};

/// Streams of one account that are open at once. More: the next one is refused.
pub const STREAMS_PER_ACCOUNT_MAX: usize = 32;
/// Streams of one tenant that are open at once. More: the next one is refused.
pub const STREAMS_MAX: usize = 50_000;

/// When somebody who was refused may try again.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// How often is looked for tokens that have expired, people who have stopped typing, and those who have hung up.
const TICK: Duration = Duration::from_millis(500);
/// Rows of the feed that are read at once.
const ROWS_AT_ONCE: usize = 256;
/// Bytes of rows that are read at once.
const BYTES_AT_ONCE: usize = 256 * 1024;
/// Characters of the word that tells the cursors of one server from those of another.
pub(super) const REALM_CHARACTERS: usize = 8;

/// The live streams of a tenant.
pub struct Live {
    realm: String,
    hub: tokio::sync::Mutex<Hub>,
    /// How far the durable feed was followed.
    position: RwLock<Position>,
    open: AtomicUsize,
    is_closed: AtomicBool,
    closed: Notify,
}

/// Who listens, and how far the feeds were followed for them.
#[derive(Default)]
pub(crate) struct Hub {
    is_running: bool,
    at: [Position; 2],
    audience: Audience,
    ears: HashMap<Listener, Ears>,
}

/// The streams of one person.
struct Ears {
    user_id: OwnedUserId,
    streams: Vec<(Caller, Arc<Outlet<Frame>>)>,
    active_since: UnixMs,
    /// When the last stream ended, while none is open.
    left_at: Option<UnixMs>,
}

/// A stream's place among those that are followed for. Dropping it gives it up.
pub(super) struct Place {
    actions: Actions,
    pub(super) outlet: Arc<Outlet<Frame>>,
    pub(super) entry: Entry,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.outlet.leave(self.actions.now());
        self.actions.live.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Where the live frames of a stream begin, and in which rooms its reader was then.
#[derive(Clone)]
pub(super) struct Entry {
    /// Live frames come behind this position.
    pub(super) until: Position,
    /// The rooms are those of some time between this position and `until`.
    pub(super) known: Position,
    /// The rooms that the reader had joined.
    pub(super) rooms: Vec<OwnedRoomId>,
}

impl Live {
    /// No streams yet.
    pub fn new(signer: &Signer) -> Self {
        let realm = key::hex(&Sha256::digest(signer.server_name().as_bytes()));
        Self {
            realm: realm.chars().take(REALM_CHARACTERS).collect(),
            hub: tokio::sync::Mutex::default(),
            position: RwLock::new(Position::START),
            open: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            closed: Notify::new(),
        }
    }

    /// Tells the cursors of this server from those of another.
    pub(super) fn realm(&self) -> &str {
        &self.realm
    }

    /// How far the durable feed was followed.
    pub(super) fn position(&self) -> Position {
        *self.position.read()
    }

    /// Streams that are open.
    pub fn open_streams(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Ends all streams and lets none begin any more.
    pub async fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.closed.notify_one();
        self.lock().await.end_all(End::Stopping);
    }

    /// Those who listen, until this is dropped. Not held while the network is waited for.
    pub(crate) async fn lock(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().await
    }
}

/// Takes a place for one more stream.
pub(super) async fn enter(actions: &Actions, caller: &Caller) -> Result<Place, ActionError> {
    let live = &actions.live;
    if live.open.fetch_add(1, Ordering::AcqRel) >= STREAMS_MAX {
        live.open.fetch_sub(1, Ordering::AcqRel);
        return Err(ActionError::RateLimited { retry_after: RETRY_AFTER });
    }
    // From here on the place gives the count back.
    let outlet = Arc::new(Outlet::new([Position::START; 2]));
    let entry = Entry { until: Position::START, known: Position::START, rooms: Vec::new() };
    let mut place = Place { actions: actions.clone(), outlet, entry };
    let mut guard = live.lock().await;
    let hub = &mut *guard;
    if live.is_closed.load(Ordering::Acquire) {
        return Err(ActionError::Busy);
    }
    if !hub.is_running {
        *hub = Hub { is_running: true, at: positions(actions), ..Hub::default() };
        *live.position.write() = positions(actions)[0];
        tokio::spawn(follow(actions.clone()));
        typing::catch_up(actions).await?;
    }
    let user_id = &caller.user_id;
    let stream = (caller.clone(), Arc::clone(&place.outlet));
    let present = hub.audience.listener(user_id).and_then(|listener| hub.ears.get_mut(&listener));
    let is_first = present.is_none();
    match present {
        Some(ears) => {
            let open = ears.streams.iter().filter(|(_, outlet)| outlet.gone_at().is_none()).count();
            if open >= STREAMS_PER_ACCOUNT_MAX {
                return Err(ActionError::RateLimited { retry_after: RETRY_AFTER });
            }
            ears.left_at = None;
            ears.streams.push(stream);
        }
        None => {
            let rooms = personal::rooms_of(actions, user_id).await?;
            let joined = rooms.into_iter().filter(|(_, row)| row.membership == Membership::Join);
            let listener = hub.audience.add(user_id, joined.map(|(room_id, _)| room_id));
            let (active_since, user_id) = (actions.now(), user_id.clone());
            hub.ears.insert(listener, Ears { user_id, streams: vec![stream], active_since, left_at: None });
        }
    }
    // Behind everything that was acknowledged by now, even where the hub has not got so far: nobody is told of what they did before they listened.
    let since = positions(actions);
    place.entry = Entry { until: since[0], known: hub.at[0], rooms: hub.audience.rooms_of(user_id) };
    place.outlet.reset(since);
    if is_first {
        presence::came(actions, hub, user_id).await?;
    }
    for frame in typing::frames_for(actions, hub, user_id) {
        place.outlet.push(&Arc::new(frame), None);
    }
    Ok(place)
}

/// Where the live frames of a stream begin that was too slow, and what it has missed.
pub(super) async fn again(actions: &Actions, user_id: &UserId, outlet: &Outlet<Frame>) -> (Entry, Missed) {
    let hub = actions.live.lock().await;
    let since = later(hub.at, outlet.since());
    let missed = outlet.reset(since);
    (Entry { until: since[0], known: hub.at[0], rooms: hub.audience.rooms_of(user_id) }, missed)
}

/// Of each store the position that is further.
fn later(one: [Position; 2], other: [Position; 2]) -> [Position; 2] {
    let further = |one: Position, other: Position| if one.has_reached(other) { one } else { other };
    [further(one[0], other[0]), further(one[1], other[1])]
}

/// The positions up to which both stores can be read, the durable one first.
fn positions(actions: &Actions) -> [Position; 2] {
    actions.stores().map(Store::position)
}

/// Follows both feeds until nobody listens any more or the tenant is closed.
async fn follow(actions: Actions) {
    let [mut durable, mut in_memory] = actions.stores().map(Store::watch_position);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut has_more = false;
    loop {
        let mut is_tick = false;
        let is_there = tokio::select! {
            biased;
            () = actions.live.closed.notified() => false,
            _ = tick.tick() => {
                is_tick = true;
                true
            }
            () = std::future::ready(()), if has_more => true,
            changed = durable.changed() => changed.is_ok(),
            changed = in_memory.changed() => changed.is_ok(),
        };
        if !is_there {
            return actions.live.lock().await.end_all(End::Stopping);
        }
        let followed = match is_tick {
            true => sweep(&actions).await,
            false => go_on(&actions).await.map(|more| {
                has_more = more;
                true
            }),
        };
        match followed {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::error!(%error, "The feed cannot be followed; all live streams end: {error}");
                return actions.live.lock().await.end_all(End::Failed);
            }
        }
    }
}

/// Routes a page of what is new in each store; answers whether there is more.
async fn go_on(actions: &Actions) -> Result<bool, ActionError> {
    let mut has_more = false;
    for (number, store) in actions.stores().into_iter().enumerate() {
        let Some(at) = actions.live.lock().await.at.get(number).copied() else { continue };
        let rows = store.feed(at, Limit::rows(ROWS_AT_ONCE).bytes(BYTES_AT_ONCE)).await?;
        if rows.first().is_some_and(|first| at.distance_to(first.position) != 1) {
            return Err(ActionError::internal("the feed has gone on without those who follow it"));
        }
        for row in &rows {
            let mut hub = actions.live.lock().await;
            hub.take_row(actions, number, row).await?;
        }
        has_more |= !rows.is_empty();
    }
    Ok(has_more)
}

/// Looks for what only time brings; answers whether somebody listens still.
async fn sweep(actions: &Actions) -> Result<bool, ActionError> {
    let mut guard = actions.live.lock().await;
    let hub = &mut *guard;
    let now = actions.now();
    let mut left = Vec::new();
    for ears in hub.ears.values_mut() {
        let last = ears.streams.iter().filter_map(|(_, outlet)| outlet.gone_at()).max();
        for (_, outlet) in &ears.streams {
            // Whoever waits for it learns that its token has expired.
            outlet.ended(now);
        }
        ears.streams.retain(|(_, outlet)| outlet.gone_at().is_none());
        if ears.streams.is_empty() {
            let left_at = *ears.left_at.get_or_insert(last.unwrap_or(now));
            if now.0.saturating_sub(left_at.0) >= presence::GRACE_MS {
                left.push(ears.user_id.clone());
            }
        }
    }
    for user_id in left {
        presence::went(actions, hub, &user_id).await?;
        if let Some(listener) = hub.audience.listener(&user_id) {
            hub.ears.remove(&listener);
        }
        hub.audience.remove(&user_id);
    }
    typing::expire(actions, hub, now);
    hub.is_running = !hub.ears.is_empty();
    Ok(hub.is_running)
}

impl Hub {
    async fn take_row(&mut self, actions: &Actions, store: usize, row: &FeedRow) -> Result<(), ActionError> {
        let (has_cursor, audience) = (store == 0, &mut self.audience);
        let outcome = Routing { actions, row, has_cursor, skipped: 0, audience }.run().await?;
        let Outcome { frames, moved, spoke, accounts } = outcome;
        for user_id in accounts {
            self.check_sessions(actions, &user_id).await?;
        }
        for Routed { to, but, frame } in frames {
            self.give(&to, but, &frame, Some((store, row.position)));
        }
        for (user_id, room_id, is_in) in moved {
            presence::moved(actions, self, &user_id, &room_id, is_in).await?;
            if !is_in {
                typing::stopped(actions, self, &room_id, &user_id);
            }
        }
        for (user_id, room_id) in spoke {
            typing::stopped(actions, self, &room_id, &user_id);
        }
        if let Some(at) = self.at.get_mut(store) {
            *at = row.position;
        }
        if has_cursor {
            *actions.live.position.write() = row.position;
        }
        Ok(())
    }

    /// Ends the streams of sessions that no longer hold.
    async fn check_sessions(&self, actions: &Actions, user_id: &UserId) -> Result<(), ActionError> {
        let Some(ears) = self.audience.listener(user_id).and_then(|listener| self.ears.get(&listener)) else {
            return Ok(());
        };
        for (caller, outlet) in &ears.streams {
            match sessions::still_good(actions, caller).await {
                Ok(expires_at) => outlet.expires_at(expires_at),
                Err(ActionError::InvalidToken(_)) => outlet.end(End::Revoked),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn give(&self, to: &[Listener], but: Option<Listener>, frame: &Arc<Frame>, of: Of) {
        let ears = to.iter().filter(|listener| Some(**listener) != but).filter_map(|listener| self.ears.get(listener));
        ears.flat_map(|ears| &ears.streams).for_each(|(_, outlet)| outlet.push(frame, of));
    }

    /// Tells those who listen to a room, perhaps all but one, what is so at this moment.
    pub(crate) fn tell(&self, room_id: &RoomId, but: Option<&UserId>, kind: FrameKind) {
        let but = but.and_then(|user_id| self.audience.listener(user_id));
        self.give(&self.audience.of_room(room_id), but, &Arc::new(Frame::new(kind, None)), None);
    }

    /// The rooms in which a person listens.
    pub(crate) fn rooms_of(&self, user_id: &UserId) -> Vec<OwnedRoomId> {
        self.audience.rooms_of(user_id)
    }

    /// The person listens and is in the room.
    pub(crate) fn is_in(&self, user_id: &UserId, room_id: &RoomId) -> bool {
        self.audience.is_in(user_id, room_id)
    }

    /// Somebody else than this person listens to the room.
    pub(crate) fn has_others(&self, room_id: &RoomId, user_id: &UserId) -> bool {
        let listener = self.audience.listener(user_id);
        self.audience.of_room(room_id).iter().any(|other| Some(*other) != listener)
    }

    /// Those who listen to a room, and since when they listen at all.
    pub(crate) fn active_in(&self, room_id: &RoomId) -> Vec<(OwnedUserId, UnixMs)> {
        let listeners = self.audience.of_room(room_id);
        let ears = listeners.iter().filter_map(|listener| self.ears.get(listener));
        ears.map(|ears| (ears.user_id.clone(), ears.active_since)).collect()
    }

    /// Since when a person listens at all.
    pub(crate) fn active_since(&self, user_id: &UserId) -> Option<UnixMs> {
        Some(self.ears.get(&self.audience.listener(user_id)?)?.active_since)
    }

    fn end_all(&mut self, end: End) {
        for (_, outlet) in self.ears.values().flat_map(|ears| &ears.streams) {
            outlet.end(end);
        }
        *self = Self::default();
    }
}

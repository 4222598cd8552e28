//! What this server still owes to other servers. Implements [`Outbox`] of the crate `federation`.
//!
//! There is no row for each message and peer. A commit with an event for other servers says so in its row of the feed ([`ChangeKind::Owed`]), and its hook notes
//! the room here; who is in the room is looked up for many commits at once, and those who send are woken. A peer that lacks something is in memory with the
//! position behind which it does; its events are read from the feed when it takes them ([`reading`]). All others have everything. On disk this is written down
//! every few seconds ([`kept`]): after a crash some events are sent again, which harms nobody.
//!
//! [`ChangeKind::Owed`]: crate::storage::ChangeKind::Owed

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use federation::{
    Batch, Outbox, StorageUnavailable,
    outbound::{Edu, PeerStatus},
};
use parking_lot::{Mutex, RwLock};
use ruma::{OwnedRoomId, OwnedServerName, ServerName};
use tokio::sync::Notify;

use super::{ActionError, Actions, Inner, peers::Asking};
use crate::storage::Position;

mod edus;
mod kept;
mod reading;

pub use edus::{has_read, types};
pub use reading::ever_in;

/// Peers of which is remembered what they have, though they lack nothing.
const DONE_MAX: usize = 10_000;
/// Time between two looks at what has to be written down.
const KEEP_EVERY: Duration = Duration::from_secs(5);
/// Pause after storage could not be read or written, and between two looks at peers that do not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Something that is done while others wait.
pub type Doing<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What sends to other servers. Whoever runs the network plugs it in.
pub trait Sending: Send + Sync + 'static {
    /// There is something for these servers. Returns at once.
    fn wake(&self, servers: Vec<OwnedServerName>);

    /// Tells servers that somebody types or has read. Returns at once.
    fn edu(&self, servers: Vec<OwnedServerName>, edu: &Edu);

    /// How it stands with a server.
    fn status<'a>(&'a self, peer: &'a ServerName) -> Asking<'a, PeerStatus>;

    /// Tries a server again now.
    fn reset<'a>(&'a self, peer: &'a ServerName) -> Asking<'a, ()>;

    /// What these servers were about to get is asked for anew, and typing notices and read receipts for them are dropped. Returns at once.
    fn forget(&self, servers: Vec<OwnedServerName>);

    /// How many handles of the actions it holds while nothing is asked of it; none: something is.
    fn idle_handles(&self) -> Option<usize>;

    /// Ends everything that is under way.
    fn stop(&self) -> Doing<'_>;
}

/// What is owed, and to whom.
#[derive(Default)]
pub struct Outgoing {
    state: Mutex<State>,
    noted: Notify,
    /// Some peer has taken something.
    taken: Notify,
    sending: RwLock<Option<Arc<dyn Sending>>>,
}

#[derive(Default)]
struct State {
    is_on: bool,
    /// Rooms with events for other servers, until those who lack them are in memory.
    noted: HashMap<OwnedRoomId, Noted>,
    behind: HashMap<OwnedServerName, Behind>,
    /// Up to where peers that lack nothing have taken everything.
    done: HashMap<OwnedServerName, Position>,
    is_changed: bool,
    on_disk: kept::OnDisk,
    /// Peers of whom there is something new to write down for administrators.
    touched: HashSet<OwnedServerName>,
}

/// How long somebody waits for peers to take what they are owed.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// In all.
    pub time_max: Duration,
    /// Until so many tries in a row have failed.
    pub failures_max: u32,
}

/// Events of a room that were committed.
#[derive(Clone, Copy)]
struct Noted {
    /// Their rows of the feed are behind this.
    behind: Position,
    until: Position,
    /// The number of the first of them.
    first: u64,
}

/// A peer that lacks something.
#[derive(Clone)]
struct Behind {
    /// It has everything up to here.
    from: Position,
    /// Where the last thing is that it may lack.
    until: Position,
    /// It was too far behind, and gets the newest event of each room.
    catching_up: Option<CatchingUp>,
}

#[derive(Clone)]
struct CatchingUp {
    /// Where it is when it has those.
    then: Position,
    /// The last room that it has.
    after: Option<OwnedRoomId>,
}

/// How far a peer is when it has taken a batch.
#[derive(Clone, Debug)]
pub enum Taken {
    /// Everything up to there.
    Through(Position),
    /// The newest events of the rooms up to this one; of all rooms, where there is none.
    Rooms(Option<OwnedRoomId>),
}

fn later(one: Position, other: Position) -> Position {
    if one.has_reached(other) { one } else { other }
}

fn earlier(one: Position, other: Position) -> Position {
    if one.has_reached(other) { other } else { one }
}

impl Outgoing {
    /// A commit with events for other servers is on disk. `first` is the number of the first of them.
    pub(super) fn note(&self, (behind, position): (Position, Position), room_id: OwnedRoomId, first: u64) {
        let mut state = self.state.lock();
        if state.is_on {
            let noted = state.noted.entry(room_id).or_insert(Noted { behind, until: position, first });
            noted.until = later(noted.until, position);
            noted.first = noted.first.min(first);
            drop(state);
            self.noted.notify_one();
        }
    }

    /// Something about a peer is new for administrators.
    pub fn touch(&self, peer: &ServerName) {
        self.state.lock().touched.insert(peer.to_owned());
    }

    /// Peers that lack something.
    pub fn servers_behind(&self) -> Vec<OwnedServerName> {
        self.state.lock().behind.keys().cloned().collect()
    }

    /// How many peers lack something.
    pub fn count_behind(&self) -> usize {
        self.state.lock().behind.len()
    }

    /// How many rows of the feed a peer is behind at most.
    pub fn rows_behind(&self, peer: &ServerName) -> u64 {
        self.state.lock().behind.get(peer).map_or(0, |behind| behind.from.distance_to(behind.until))
    }

    /// Nobody lacks anything.
    fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.noted.is_empty() && state.behind.is_empty()
    }

    /// What sends, while the network is plugged in.
    pub fn sending(&self) -> Option<Arc<dyn Sending>> {
        self.sending.read().clone()
    }

    /// How many handles of the actions are held for peers while nobody asks anything; none: somebody does, or something is still owed.
    pub(super) fn idle_handles(&self) -> Option<usize> {
        match self.sending() {
            None => Some(0),
            Some(sending) => sending.idle_handles().filter(|_| self.is_empty()),
        }
    }

    fn behind(&self, peer: &ServerName) -> Option<Behind> {
        self.state.lock().behind.get(peer).cloned()
    }

    /// These peers may lack what is noted. All that was noted at one time comes together: each peer is read for from the first that it may lack.
    fn add(&self, news: &[(Vec<OwnedServerName>, Noted)]) {
        let mut lacking: HashMap<&OwnedServerName, (Position, Position)> = HashMap::new();
        for (servers, noted) in news {
            for server in servers {
                let (from, until) = lacking.entry(server).or_insert((noted.behind, noted.until));
                (*from, *until) = (earlier(*from, noted.behind), later(*until, noted.until));
            }
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        for (server, (from, until)) in lacking {
            let done = state.done.get(server).copied().unwrap_or_default();
            if done.has_reached(until) {
                continue;
            }
            let fresh = Behind { from: later(from, done), until, catching_up: None };
            let behind = state.behind.entry(server.clone()).or_insert(fresh);
            behind.until = later(behind.until, until);
            state.is_changed = true;
        }
    }

    /// The peer has everything up to here. Says whether it lacks nothing more.
    fn moved(&self, peer: &ServerName, to: Position) -> bool {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.is_changed = true;
        let Some(behind) = state.behind.get_mut(peer) else { return true };
        behind.from = later(behind.from, to);
        let lacks_nothing = behind.from.has_reached(behind.until);
        if lacks_nothing {
            if state.done.len() >= DONE_MAX {
                state.done.clear();
            }
            state.done.insert(peer.to_owned(), behind.from);
            state.behind.remove(peer);
            self.taken.notify_waiters();
        }
        lacks_nothing
    }

    /// Waits until these peers have taken everything that was committed until now, or those who wait are out of patience. Answers those that have not.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn settled(
        &self,
        actions: &Actions,
        peers: &[OwnedServerName],
        patience: Patience,
    ) -> Result<Vec<OwnedServerName>, ActionError> {
        let Some(sending) = self.sending() else { return Ok(Vec::new()) };
        self.resolve(actions).await?;
        let deadline = tokio::time::Instant::now() + patience.time_max;
        loop {
            let taken = self.taken.notified();
            tokio::pin!(taken);
            taken.as_mut().enable();
            let lacking: Vec<OwnedServerName> = {
                let state = self.state.lock();
                peers.iter().filter(|peer| state.behind.contains_key(*peer)).cloned().collect()
            };
            let mut is_over = true;
            for peer in &lacking {
                let failures = sending.status(peer).await.map_or(0, |status| status.standing.failures);
                is_over &= failures >= patience.failures_max;
            }
            let look = tokio::time::Instant::now() + PAUSE;
            if is_over || tokio::time::Instant::now() >= deadline {
                return Ok(lacking);
            }
            tokio::time::timeout_at(look.min(deadline), taken).await.ok();
        }
    }

    /// The peer is too far behind.
    fn begin_catching_up(&self, peer: &ServerName, then: Position) {
        if let Some(behind) = self.state.lock().behind.get_mut(peer) {
            behind.catching_up.get_or_insert(CatchingUp { then, after: None });
        }
    }

    fn caught_up(&self, peer: &ServerName, after: Option<OwnedRoomId>) {
        let mut state = self.state.lock();
        let Some(behind) = state.behind.get_mut(peer) else { return };
        let Some(catching_up) = &mut behind.catching_up else { return };
        match after {
            Some(after) => catching_up.after = Some(after),
            None => {
                let then = catching_up.then;
                behind.catching_up = None;
                drop(state);
                self.moved(peer, then);
            }
        }
    }

    /// Looks up who is in the rooms that were noted, and wakes those who send to them. Whoever gives up in between leaves everything noted.
    async fn resolve(&self, actions: &Actions) -> Result<(), ActionError> {
        let noted = self.state.lock().noted.clone();
        let Some(until) = noted.values().map(|news| news.until).reduce(later) else { return Ok(()) };
        // Hooks run before readers of the feed see the commit. An error: the store is closed, and nothing more is seen.
        actions.store.watch_position().wait_for(|seen| seen.has_reached(until)).await.ok();
        let mut news = Vec::with_capacity(noted.len());
        for (room_id, noted) in &noted {
            news.push((reading::servers_of(actions, room_id, noted.first).await?, *noted));
        }
        self.add(&news);
        self.state.lock().noted.retain(|room_id, now| {
            let is_new = noted.get(room_id).is_none_or(|known| known.until != now.until);
            if let Some(known) = noted.get(room_id) {
                now.behind = known.until;
            }
            is_new
        });
        if let Some(sending) = self.sending() {
            news.into_iter()
                .map(|(servers, _)| servers)
                .filter(|servers| !servers.is_empty())
                .for_each(|servers| sending.wake(servers));
        }
        Ok(())
    }
}

impl Actions {
    /// Plugs in what sends to other servers, and finds out what they lack since the last start.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn send_with(&self, sending: Arc<dyn Sending>) -> Result<(), ActionError> {
        self.outgoing.state.lock().is_on = true;
        *self.outgoing.sending.write() = Some(sending);
        kept::load(self).await?;
        self.jobs.spawn(follow(Arc::downgrade(&self.0)));
        Ok(())
    }

    /// What is owed to other servers, as those who send see it. It does not keep the tenant open.
    pub fn outbox(&self) -> TenantOutbox {
        TenantOutbox(Arc::downgrade(&self.0))
    }
}

/// Ends sending. What peers lack is on disk afterwards.
pub(super) async fn unplug(actions: &Actions) {
    let Some(sending) = actions.outgoing.sending.write().take() else { return };
    sending.stop().await;
    let resolved = actions.outgoing.resolve(actions).await;
    let kept = match resolved {
        Ok(()) => kept::keep(actions, true).await,
        Err(error) => Err(error),
    };
    if let Err(error) = kept {
        tracing::warn!(%error, "What other servers lack is not written down, some events will be sent again: {error}");
    }
    actions.outgoing.state.lock().is_on = false;
}

async fn follow(actions: Weak<Inner>) {
    let Some(outgoing) = actions.upgrade().map(|inner| Arc::clone(&inner.outgoing)) else { return };
    let mut ticks = tokio::time::interval(KEEP_EVERY);
    loop {
        let is_tick = tokio::select! {
            () = outgoing.noted.notified() => false,
            _ = ticks.tick() => true,
        };
        let Some(actions) = actions.upgrade().map(Actions) else { return };
        let done = if is_tick { kept::keep(&actions, false).await } else { outgoing.resolve(&actions).await };
        drop(actions);
        if let Err(error) = done {
            tracing::warn!(%error, "What other servers lack cannot be read or written: {error}");
            tokio::time::sleep(PAUSE).await;
            outgoing.noted.notify_one();
        }
    }
}

/// What a tenant owes to other servers.
#[derive(Clone)]
pub struct TenantOutbox(Weak<Inner>);

fn unavailable(error: &ActionError) -> StorageUnavailable {
    StorageUnavailable(error.to_string())
}

impl Outbox for TenantOutbox {
    type Cursor = Taken;

    async fn destinations(&self) -> Result<Vec<OwnedServerName>, StorageUnavailable> {
        Ok(self.0.upgrade().map(|inner| inner.outgoing.servers_behind()).unwrap_or_default())
    }

    async fn next(&self, peer: &ServerName, pdus_max: usize) -> Result<Option<Batch<Taken>>, StorageUnavailable> {
        let Some(actions) = self.0.upgrade().map(Actions) else { return Ok(None) };
        let batch = reading::next(&actions, peer, pdus_max).await.map_err(|error| unavailable(&error))?;
        if let Some(batch) = &batch {
            let count = u64::try_from(batch.pdus.len()).unwrap_or(u64::MAX);
            metrics::counter!("yurt_federation_pdus_sent_total").increment(count);
        }
        Ok(batch)
    }

    async fn delivered(&self, peer: &ServerName, up_to: Taken) -> Result<(), StorageUnavailable> {
        let Some(inner) = self.0.upgrade() else { return Ok(()) };
        inner.outgoing.touch(peer);
        metrics::counter!("yurt_federation_transactions_sent_total").increment(1);
        match up_to {
            Taken::Through(position) => drop(inner.outgoing.moved(peer, position)),
            Taken::Rooms(after) => inner.outgoing.caught_up(peer, after),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ruma::owned_server_name;

    use super::*;

    #[test]
    fn a_peer_is_read_for_from_the_first_event_that_it_may_lack_in_whichever_room() {
        let place = |number: u64| Position::from_token(&format!("p1_{number}")).unwrap();
        let at = |number| Noted { behind: place(number).before(), until: place(number + 1), first: 1 };
        let (peer, other) = (owned_server_name!("peer.example"), owned_server_name!("other.example"));
        let outgoing = Outgoing::default();
        outgoing.add(&[
            (vec![peer.clone()], at(9)),
            (vec![peer.clone(), other.clone()], at(5)),
            (vec![peer.clone()], at(7)),
        ]);
        let behind = |peer| outgoing.behind(peer).map(|behind| (behind.from, behind.until));
        assert_eq!(behind(&peer), Some((place(4), place(10))));
        assert_eq!(behind(&other), Some((place(4), place(6))));
        assert!(outgoing.moved(&peer, place(10)));
        outgoing.add(&[(vec![peer.clone()], at(11))]);
        assert_eq!(behind(&peer), Some((place(10), place(12))));
    }
}

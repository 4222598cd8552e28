//! Entering rooms through other servers. One task for each room does it, whoever waits: for a client that waits too long it becomes a job, which goes on after a
//! restart as well. What other servers send of the room meanwhile waits in a bounded queue.
//!
//! The servers that may help are asked one after the other. Why none of them did is told in no more words than that.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use federation::{
    Pdu, Refusal,
    local::{LocalRooms as _, Wish},
};
use parking_lot::Mutex;
use rules::{event::RawPdu, permission::Membership, version::Version};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId};
use serde_json::value::RawValue;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout_at},
};

use super::{
    ActionError, Actions, Caller, append, capacity,
    incoming::{
        self,
        judging::{self, Purpose},
    },
    invites,
    members::{self, membership, profile_of},
    peers::{Errcode, Joined, PeerError},
    rooms::{self, RoomDetails},
};
use crate::storage::keyspaces::MEMBERS;
use spool::Spool;

pub(super) mod answer;
pub(super) mod candidates;
pub(super) mod promised;
pub(super) mod spool;
pub(super) mod template;

/// How long a client waits for a room of another server.
pub const CLIENT_WAIT_MAX: Duration = Duration::from_secs(10);
/// Rooms that are entered at the same time, those that wait for their turn included.
const RUNS_MAX: usize = 64;
/// Those of them that one account has begun.
const RUNS_OF_ACCOUNT_MAX: usize = 4;
/// Rooms that are read at the same time: of each, which events there are is in memory, and some of what they say.
const RUNS_AT_ONCE: usize = 16;
/// Events of one room that wait until it is entered, and their bytes.
const QUEUED_MAX: usize = 1_000;
const QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often somebody who waited for another one's entry tries it alone.
const TRIES_MAX: usize = 3;

/// The sort of gate in which somebody enters or leaves a room through another server.
pub(super) const ELSEWHERE: &str = "elsewhere";

/// The rooms that are being entered.
pub struct Runs {
    runs: Mutex<HashMap<OwnedRoomId, Arc<Run>>>,
    turns: Semaphore,
    promised: promised::Promised,
}

impl Default for Runs {
    fn default() -> Self {
        Self { runs: Mutex::default(), turns: Semaphore::new(RUNS_AT_ONCE), promised: promised::Promised::default() }
    }
}

/// One room that is being entered.
struct Run {
    user_id: OwnedUserId,
    version: OnceLock<Version>,
    queue: Mutex<Queue>,
    outcome: watch::Sender<Option<Result<(), Failed>>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(OwnedServerName, Pdu)>,
    bytes: usize,
    /// What waited was taken out: nothing is put in any more.
    is_closed: bool,
}

/// Ends a run, also when its task panics: nobody waits for it for ever, and the room can be entered again. A server that stops says nothing: jobs go on at the
/// next start.
struct Ending {
    actions: Actions,
    room_id: OwnedRoomId,
    run: Arc<Run>,
}

impl Ending {
    /// The run is over. Answers what has come meanwhile.
    fn with(self, outcome: Result<(), Failed>) -> Vec<(OwnedServerName, Pdu)> {
        self.actions.entering.runs.lock().remove(&self.room_id);
        let waiting = {
            let mut queue = self.run.queue.lock();
            queue.is_closed = true;
            std::mem::take(&mut queue.waiting)
        };
        self.run.outcome.send_replace(Some(outcome));
        waiting
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() && self.run.outcome.borrow().is_none() {
            self.actions.entering.runs.lock().remove(&self.room_id);
            self.run.queue.lock().is_closed = true;
            self.run.outcome.send_replace(Some(Err(Failed::Busy)));
        }
    }
}

/// Why a room was not entered.
#[derive(Clone, Debug)]
enum Failed {
    Unreachable,
    /// By a code; none: what came was no use.
    Refused(Option<Errcode>),
    Busy,
    Capacity(String),
    Inactive,
}

impl Failed {
    /// Of what two servers said, the one that says more.
    fn or(self, other: Self) -> Self {
        let weight = |failed: &Self| match failed {
            Self::Unreachable => 0,
            Self::Refused(None) => 1,
            Self::Refused(Some(Errcode::NOT_FOUND)) => 2,
            Self::Refused(Some(Errcode::INCOMPATIBLE_ROOM_VERSION)) => 4,
            Self::Refused(Some(_)) => 3,
            Self::Busy | Self::Capacity(_) | Self::Inactive => 5,
        };
        if weight(&other) > weight(&self) { other } else { self }
    }
}

impl From<Failed> for ActionError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unreachable => Self::unreachable(),
            Failed::Refused(Some(errcode @ (Errcode::INCOMPATIBLE_ROOM_VERSION | Errcode::NOT_FOUND))) => {
                Self::peer_refused(errcode)
            }
            Failed::Refused(errcode) => {
                Self::PeerRefused { message: "no other server lets you into this room".to_owned(), errcode }
            }
            Failed::Busy => Self::Busy,
            Failed::Inactive => Self::InsufficientPermission("the account is not active any more".to_owned()),
            Failed::Capacity(message) => Self::TenantCapacity(message),
        }
    }
}

/// What became of one try.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Peer(#[from] PeerError),
    #[error("{0}")]
    Template(#[from] template::BadTemplate),
    #[error("{0}")]
    Answer(#[from] answer::BadAnswer),
    #[error("{0}")]
    Ours(#[from] ActionError),
}

/// Enters a room through another server that is in it.
///
/// # Errors
/// No server that could help is named, was reached, or does; [`ActionError::Underway`] when it takes longer than a client waits.
pub(super) async fn join(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    via: &[String],
) -> Result<RoomDetails, ActionError> {
    let until = Instant::now() + CLIENT_WAIT_MAX;
    if let Ok(room_id) = RoomId::parse(reference) {
        promised::none_yet(actions, &caller.user_id, &room_id)?;
    }
    let found = candidates::find(actions, caller, reference, via);
    let found = timeout_at(until, found).await.map_err(|_too_long| ActionError::unreachable())??;
    let (user_id, room_id) = (&caller.user_id, &found.room_id);
    promised::none_yet(actions, user_id, room_id)?;
    match timeout_at(until, enter(actions, user_id, room_id, &found.servers, Asker::Client)).await {
        Ok(entered) => entered?,
        Err(_too_long) => return Err(promised::promise(actions, user_id, found).await?),
    }
    rooms::details(actions, caller, room_id.as_str()).await
}

/// Who wants a room to be entered.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Asker {
    /// Somebody who waits. Of one account only so many rooms are entered at the same time.
    Client,
    /// A job, which was counted when it was promised.
    Job,
}

/// Enters a room, alone or with the help of somebody else's entry, however long it takes.
async fn enter(
    actions: &Actions,
    user_id: &OwnedUserId,
    room_id: &OwnedRoomId,
    servers: &[OwnedServerName],
    asker: Asker,
) -> Result<(), ActionError> {
    for _ in 0..TRIES_MAX {
        let (run, is_own) = start(actions, room_id, user_id, servers, asker)?;
        let mut outcome = run.outcome.subscribe();
        drop(run);
        let done = outcome.wait_for(Option::is_some).await.ok().and_then(|done| done.clone());
        match done.ok_or(ActionError::Busy)? {
            Ok(()) if is_own => return Ok(()),
            Err(failed) if is_own => return Err(failed.into()),
            // Somebody else's entry is over: the room may be here now.
            _ => {}
        }
        match members::join_here(actions, &Caller::local(user_id, false), room_id.as_str()).await {
            Err(ActionError::RoomNotFound) => {}
            Err(ActionError::RoomForbidden { .. }) if !is_joined(actions, room_id, user_id).await? => {}
            joined => return joined.map(drop),
        }
    }
    Err(ActionError::Busy)
}

async fn is_joined(actions: &Actions, room_id: &RoomId, user_id: &UserId) -> Result<bool, ActionError> {
    let room = actions.room(room_id);
    let member = room.store.get(&MEMBERS, &room.home, &user_id.to_owned()).await?;
    Ok(membership(member.as_ref()) == Membership::Join)
}

/// The task that enters the room, and whether it does so for this person; begins one where there is none.
fn start(
    actions: &Actions,
    room_id: &OwnedRoomId,
    user_id: &OwnedUserId,
    servers: &[OwnedServerName],
    asker: Asker,
) -> Result<(Arc<Run>, bool), ActionError> {
    let mut runs = actions.entering.runs.lock();
    if let Some(run) = runs.get(room_id) {
        return Ok((Arc::clone(run), run.user_id == *user_id));
    }
    if runs.len() >= RUNS_MAX {
        return Err(ActionError::Busy);
    }
    let own = runs.values().filter(|run| run.user_id == *user_id).count();
    if asker == Asker::Client && own >= RUNS_OF_ACCOUNT_MAX {
        return Err(ActionError::RateLimited { retry_after: CLIENT_WAIT_MAX });
    }
    let run = Arc::new(Run {
        user_id: user_id.clone(),
        version: OnceLock::new(),
        queue: Mutex::default(),
        outcome: watch::Sender::new(None),
    });
    runs.insert(room_id.clone(), Arc::clone(&run));
    drop(runs);
    let (running, actions, room_id, servers) = (Arc::clone(&run), actions.clone(), room_id.clone(), servers.to_vec());
    let ending = Ending { actions: actions.clone(), room_id: room_id.clone(), run: Arc::clone(&run) };
    actions.clone().jobs.spawn(async move {
        let outcome = match actions.entering.turns.acquire().await {
            Ok(_turn) => match actions.gates.enter(ELSEWHERE, room_id.as_str()).await {
                Ok(_gate) => work(&actions, &room_id, &running, &servers).await,
                Err(_) => Err(Failed::Busy),
            },
            Err(_closed) => Err(Failed::Busy),
        };
        for (origin, pdu) in ending.with(outcome) {
            actions.receive(&origin, &room_id, vec![pdu]).await;
        }
    });
    Ok((run, true))
}

/// Asks one server after the other.
async fn work(actions: &Actions, room_id: &OwnedRoomId, run: &Run, servers: &[OwnedServerName]) -> Result<(), Failed> {
    let place = match actions.room(room_id).view().await {
        Ok(Some(_)) => None,
        Ok(None) => match capacity::room(actions).await {
            Ok(place) => Some(place),
            Err(ActionError::TenantCapacity(message)) => return Err(Failed::Capacity(message)),
            Err(_) => return Err(Failed::Busy),
        },
        Err(_) => return Err(Failed::Busy),
    };
    let mut failed = Failed::Unreachable;
    for peer in servers {
        let trouble = match through(actions, room_id, run, peer).await {
            Ok(()) => {
                if let Some(place) = place {
                    place.keep();
                }
                return Ok(());
            }
            Err(trouble) => trouble,
        };
        tracing::info!(room.id = %room_id, peer = %peer, "`{room_id}` was not entered through `{peer}`: {trouble}");
        match trouble {
            Trouble::Peer(PeerError::Unreachable) => {}
            Trouble::Ours(ActionError::Busy | ActionError::NotWritten(_)) => return Err(Failed::Busy),
            Trouble::Ours(ActionError::InsufficientPermission(_)) => return Err(Failed::Inactive),
            Trouble::Ours(error) => {
                tracing::error!(room.id = %room_id, %error, "`{room_id}` was not stored: {error}");
                return Err(Failed::Busy);
            }
            Trouble::Peer(PeerError::Refused(errcode)) => failed = failed.or(Failed::Refused(Some(errcode))),
            Trouble::Template(template::BadTemplate::Version) => {
                failed = failed.or(Failed::Refused(Some(Errcode::INCOMPATIBLE_ROOM_VERSION)));
            }
            Trouble::Template(template::BadTemplate::Failed(error)) => {
                tracing::error!(room.id = %room_id, %error, "No join was made for `{room_id}`: {error}");
                return Err(Failed::Busy);
            }
            Trouble::Peer(PeerError::Unreadable)
            | Trouble::Template(template::BadTemplate::Wrong(_))
            | Trouble::Answer(_) => {
                failed = failed.or(Failed::Refused(None));
            }
        }
    }
    Err(failed)
}

/// The versions of rooms that are spoken here.
pub(super) fn versions() -> Vec<RoomVersionId> {
    Version::all().map(|version| version.id().clone()).collect()
}

async fn through(actions: &Actions, room_id: &OwnedRoomId, run: &Run, peer: &ServerName) -> Result<(), Trouble> {
    let peers = actions.peers();
    let user_id = &run.user_id;
    let template = peers.membership_template(peer, room_id, user_id, Wish::Join, &versions()).await?;
    let profile = profile_of(actions, user_id).await?;
    let made = template::make(actions, peer, (room_id, user_id, Wish::Join), &template, profile)?;
    run.version.get_or_init(|| made.version);
    promised::must_be_active(actions, user_id).await?;
    let joined = peers.send_join(peer, room_id, made.event.event_id(), pdu_of(&made.event)?).await?;
    let mut spool = Spool::new(actions, room_id, made.version);
    let entered = come_in(actions, room_id, run, peer, (&made, joined), &mut spool).await;
    if let Err(error) = spool.clear().await {
        tracing::warn!(room.id = %room_id, %error, "What was read of `{room_id}` stays on disk until the next start: {error}");
    }
    entered
}

async fn come_in(
    actions: &Actions,
    room_id: &OwnedRoomId,
    run: &Run,
    peer: &ServerName,
    (made, joined): (&template::Made, Joined),
    spool: &mut Spool,
) -> Result<(), Trouble> {
    let user_id = &run.user_id;
    let mut entering = answer::read(actions, room_id, peer, made, joined, spool).await?;
    let room = actions.room(room_id);
    if room.view().await?.is_some_and(|view| view.summary.local_joined() > 0) {
        // We are in the room, and only could not let the person in ourselves.
        actions.receive(peer, room_id, vec![pdu_of(&entering.join)?]).await;
        incoming::catch_up(actions, room_id).await?;
        let is_in = is_joined(actions, room_id, user_id).await?;
        return if is_in { Ok(()) } else { Err(Trouble::Peer(PeerError::Unreadable)) };
    }
    let invited = invites::find(actions, user_id, room_id).await?;
    entering.direct_with = invited.filter(|invited| invited.is_direct).map(|invited| invited.sender);
    append::enter(actions, &room, entering, spool).await?;
    Ok(())
}

pub(super) fn pdu_of(event: &rules::Event) -> Result<Pdu, ActionError> {
    RawValue::from_string(event.json().to_owned()).map_err(ActionError::internal)
}

/// Keeps events of a room that is being entered, and that nobody of this server is in, until it is; answers for those whose ids are known; none: nobody enters
/// the room now.
pub(super) fn queue(
    actions: &Actions,
    origin: &ServerName,
    room_id: &RoomId,
    pdus: &[Pdu],
) -> Option<Vec<(OwnedEventId, Result<(), Refusal>)>> {
    let run = actions.entering.runs.lock().get(room_id).cloned()?;
    let mut answers = Vec::with_capacity(pdus.len());
    let mut queue = run.queue.lock();
    if queue.is_closed {
        return None;
    }
    for pdu in pdus {
        let raw = RawPdu(pdu.clone());
        let shape = run.version.get().and_then(|version| judging::shape(&raw, version, Purpose::Timeline));
        let has_place = queue.waiting.len() < QUEUED_MAX && queue.bytes + pdu.get().len() <= QUEUED_BYTES_MAX;
        if has_place {
            queue.bytes += pdu.get().len();
            queue.waiting.push((origin.to_owned(), raw.0));
        }
        if let Some(shape) = shape {
            answers.push((shape.event_id().clone(), if has_place { Ok(()) } else { Err(Refusal::Unavailable) }));
        }
    }
    Some(answers)
}

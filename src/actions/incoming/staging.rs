//! Events that cannot be judged yet. They are on disk before their peer is told that they arrived, so a crash loses none; one task for each room that has some
//! tries again, in growing pauses, and gives up in the end. What is at hand in memory is as much as it takes to know when.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use federation::Refusal;
use parking_lot::Mutex;
use rules::{UnixMs, event::RawPdu};
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName};
use serde_json::value::RawValue;
use tokio::sync::{Notify, Semaphore};

use super::{
    Taken, failed, gaps,
    guests::{self, Met},
    take,
};
use crate::{
    actions::{
        ActionError, Actions,
        append::{Before, Remote, Slot},
        rows,
    },
    storage::{
        Commit, Effect, Home, KeyRange,
        history::Staged,
        keyspaces::{STAGED, STAGED_ROOMS},
    },
};

/// Events of one server that wait in one room. More: the next one is refused, and the server keeps it.
const STAGED_PER_ORIGIN_MAX: usize = 100;
/// Events that wait in one room.
const STAGED_PER_ROOM_MAX: usize = 1_000;
/// How often what an event waits for is asked for.
const TRIES_MAX: u32 = 8;
/// The pause after the first failure; it doubles.
const PAUSE_MS_MIN: u64 = 60_000;
/// The longest pause.
const PAUSE_MS_MAX: u64 = 4 * 60 * 60 * 1_000;
/// The longest sleep of a task before it looks at the clock again.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// Rooms whose holes are filled at the same time.
const ROOMS_AT_ONCE: usize = 4;

/// What waits, room by room.
pub struct Staging {
    rooms: Mutex<HashMap<OwnedRoomId, Queue>>,
    turns: Semaphore,
}

impl Default for Staging {
    fn default() -> Self {
        Self { rooms: Mutex::default(), turns: Semaphore::new(ROOMS_AT_ONCE) }
    }
}

#[derive(Default)]
struct Queue {
    rows: BTreeMap<u64, Waiting>,
    next: u64,
    is_worked_on: bool,
    news: Arc<Notify>,
}

/// An event that waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) event_id: OwnedEventId,
    pub(super) origin: OwnedServerName,
    pub(super) missing: Vec<OwnedEventId>,
    pub(super) tries: u32,
    pub(super) next_try: UnixMs,
    /// Its row is on disk; before, nobody works on it.
    is_on_disk: bool,
}

impl Staging {
    /// The event waits already.
    pub(super) fn has(&self, room_id: &RoomId, event_id: &EventId) -> bool {
        let rooms = self.rooms.lock();
        rooms.get(room_id).is_some_and(|queue| queue.rows.values().any(|waiting| waiting.event_id == event_id))
    }

    fn add(&self, room_id: &RoomId, waiting: Waiting) -> Result<(u64, Waiting), Refusal> {
        let mut rooms = self.rooms.lock();
        let queue = rooms.entry(room_id.to_owned()).or_default();
        let of_origin = queue.rows.values().filter(|other| other.origin == waiting.origin).count();
        if of_origin >= STAGED_PER_ORIGIN_MAX || queue.rows.len() >= STAGED_PER_ROOM_MAX {
            return Err(Refusal::Unavailable);
        }
        // What was asked for in vain is not asked for sooner because another event waits for it too.
        let waits_alike =
            |other: &&Waiting| waiting.missing.iter().any(|id| other.missing.contains(id) || other.event_id == *id);
        let alike = queue.rows.values().find(waits_alike);
        let (tries, next_try) = alike.map_or((0, waiting.next_try), |other| (other.tries, other.next_try));
        let waiting = Waiting { tries, next_try, ..waiting };
        let number = queue.next;
        queue.next += 1;
        queue.rows.insert(number, waiting.clone());
        Ok((number, waiting))
    }

    fn remove(&self, room_id: &RoomId, number: u64) {
        if let Some(queue) = self.rooms.lock().get_mut(room_id) {
            queue.rows.remove(&number);
        }
    }

    fn change(&self, room_id: &RoomId, number: u64, change: impl FnOnce(&mut Waiting)) {
        if let Some(waiting) = self.rooms.lock().get_mut(room_id).and_then(|queue| queue.rows.get_mut(&number)) {
            change(waiting);
        }
    }

    fn list(&self, room_id: &RoomId) -> Vec<(u64, Waiting)> {
        let rooms = self.rooms.lock();
        let rows = rooms.get(room_id).into_iter().flat_map(|queue| &queue.rows);
        let rows = rows.filter(|(_, waiting)| waiting.is_on_disk);
        rows.map(|(number, waiting)| (*number, waiting.clone())).collect()
    }

    /// Nothing waits in the room any more; it is forgotten.
    fn is_over(&self, room_id: &RoomId) -> bool {
        let mut rooms = self.rooms.lock();
        let is_over = rooms.get(room_id).is_none_or(|queue| queue.rows.is_empty());
        if is_over {
            rooms.remove(room_id);
        }
        is_over
    }
}

/// Keeps an event until what it lacks is there; it is on disk when this returns.
pub(super) async fn stage(
    actions: &Actions,
    met: &Met,
    origin: &ServerName,
    (event_id, pdu): (&OwnedEventId, String),
    missing: Vec<OwnedEventId>,
) -> Result<(), Refusal> {
    let (now, room_id) = (actions.now(), &met.room.id);
    let waiting = Waiting {
        event_id: event_id.clone(),
        origin: origin.to_owned(),
        missing,
        tries: 0,
        next_try: now,
        is_on_disk: false,
    };
    let (number, waiting) = actions.staging.add(room_id, waiting)?;
    let row = Staged {
        event_id: waiting.event_id,
        origin: waiting.origin,
        pdu,
        received_at: now,
        missing: waiting.missing,
        tries: waiting.tries,
        next_try: waiting.next_try,
    };
    let mut commit = Commit::new(met.room.home.clone());
    commit.put(&STAGED, &number, &row);
    commit.effect(Effect::new(Home::server()).put(&STAGED_ROOMS, room_id, &()));
    if let Err(error) = met.room.store.commit(commit).await {
        actions.staging.remove(room_id, number);
        return Err(failed(error.into()));
    }
    actions.staging.change(room_id, number, |waiting| waiting.is_on_disk = true);
    wake(actions, room_id);
    Ok(())
}

/// Reads what waited when the server stopped, and goes on with it.
///
/// # Errors
/// When storage cannot be read.
pub async fn resume(actions: &Actions) -> Result<(), ActionError> {
    for (room_id, ()) in rows::all(&actions.store, &STAGED_ROOMS, &Home::server(), KeyRange::all()).await? {
        let staged = rows::all(&actions.store, &STAGED, &Home::room(&room_id), KeyRange::all()).await?;
        let mut queue = Queue { next: staged.last().map_or(0, |(last, _)| last + 1), ..Queue::default() };
        for (number, Staged { event_id, origin, missing, tries, next_try, .. }) in staged {
            queue.rows.insert(number, Waiting { event_id, origin, missing, tries, next_try, is_on_disk: true });
        }
        actions.staging.rooms.lock().insert(room_id.clone(), queue);
        wake(actions, &room_id);
    }
    Ok(())
}

/// Lets the task of the room look again; one that does not run begins to.
pub(super) fn wake(actions: &Actions, room_id: &RoomId) {
    let mut rooms = actions.staging.rooms.lock();
    let Some(queue) = rooms.get_mut(room_id) else { return };
    queue.news.notify_one();
    if queue.is_worked_on {
        return;
    }
    queue.is_worked_on = true;
    let (news, actions, room_id) = (Arc::clone(&queue.news), actions.clone(), room_id.to_owned());
    let jobs = actions.clone();
    jobs.jobs.spawn(async move { work(&actions, &room_id, &news).await });
}

async fn work(actions: &Actions, room_id: &OwnedRoomId, news: &Notify) {
    loop {
        if let Err(error) = catch_up(actions, room_id).await {
            tracing::warn!(room.id = %room_id, %error, "Events of `{room_id}` still wait: {error}");
        }
        if actions.staging.is_over(room_id) {
            return;
        }
        let next = actions.staging.list(room_id).into_iter().map(|(_, waiting)| waiting.next_try).min();
        let pause = next.map_or(0, |next| next.0.saturating_sub(actions.now().0));
        let pause = Duration::from_millis(pause).clamp(Duration::from_secs(1), SLEEP_MAX);
        tokio::select! {
            () = news.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Judges what waits in a room as far as that is possible now: first what can be judged by what is held, then what peers give, for those whose time has come.
///
/// # Errors
/// When storage cannot be read or written.
pub async fn catch_up(actions: &Actions, room_id: &RoomId) -> Result<(), ActionError> {
    let _gate = actions.gates.enter("catching up", room_id.as_str()).await?;
    let Ok(_turn) = actions.staging.turns.acquire().await else { return Ok(()) };
    loop {
        let Some(met) = guests::find(actions, room_id).await? else { return forget(actions, room_id).await };
        while judge_what_can_be(actions, &met).await? {}
        let now = actions.now();
        let due = actions.staging.list(room_id).into_iter().find(|(_, waiting)| waiting.next_try <= now);
        let Some((number, waiting)) = due else { break };
        let pdu = read(actions, &met, number).await?;
        if let Some(pdu) = pdu {
            gaps::fill(actions, &met, &waiting, &pdu).await?;
            retry(actions, &met, number, &waiting).await?;
        }
        later(actions, &met, number).await?;
    }
    if actions.staging.list(room_id).is_empty() {
        tidy(actions, room_id).await?;
    }
    Ok(())
}

/// Tries each event whose surroundings have come. Answers whether one of them is done.
async fn judge_what_can_be(actions: &Actions, met: &Met) -> Result<bool, ActionError> {
    let mut has_moved = false;
    for (number, waiting) in actions.staging.list(&met.room.id) {
        let mut is_blocked = waiting.missing.is_empty();
        for id in &waiting.missing {
            is_blocked |= met.rows().arrival_of(id).await?.is_none();
        }
        if !is_blocked {
            has_moved |= retry(actions, met, number, &waiting).await?;
        }
    }
    Ok(has_moved)
}

/// Tries one event again. Answers whether it is done.
async fn retry(actions: &Actions, met: &Met, number: u64, waiting: &Waiting) -> Result<bool, ActionError> {
    let room_id = &met.room.id;
    let Some(raw) = read(actions, met, number).await? else { return Ok(true) };
    match take(actions, met, &waiting.origin, raw, Before::Parents, Slot::End, Some(number)).await? {
        Taken::Judged(Remote::Missing(missing)) => {
            actions.staging.change(room_id, number, |waiting| waiting.missing = missing);
            Ok(false)
        }
        Taken::Held => Ok(false),
        Taken::Dropped | Taken::Judged(Remote::Ignored) => drop_row(actions, met, number).await.map(|()| true),
        Taken::Judged(Remote::Accepted | Remote::Known | Remote::SoftFailed(_) | Remote::Rejected(_)) => {
            actions.staging.remove(room_id, number);
            Ok(true)
        }
    }
}

async fn read(actions: &Actions, met: &Met, number: u64) -> Result<Option<RawPdu>, ActionError> {
    let row = met.rows().get(&STAGED, &number).await?;
    let pdu = row.and_then(|row| RawValue::from_string(row.pdu).ok());
    if pdu.is_none() {
        actions.staging.remove(&met.room.id, number);
    }
    Ok(pdu.map(RawPdu))
}

/// What was asked for did not come: it is asked for later, also for the sake of others; after some tries, no more.
async fn later(actions: &Actions, met: &Met, number: u64) -> Result<(), ActionError> {
    let all = actions.staging.list(&met.room.id);
    let Some((_, failed)) = all.iter().find(|(other, _)| *other == number).cloned() else { return Ok(()) };
    let tries = failed.tries + 1;
    let pause = PAUSE_MS_MIN.saturating_mul(1 << failed.tries.min(20)).min(PAUSE_MS_MAX);
    let next_try = UnixMs(actions.now().0.saturating_add(pause));
    let waits_alike = |other: &Waiting| {
        other.event_id == failed.event_id
            || other.missing.iter().any(|id| failed.missing.contains(id) || failed.event_id == *id)
    };
    for (number, waiting) in all.into_iter().filter(|(_, waiting)| waits_alike(waiting)) {
        if tries >= TRIES_MAX {
            tracing::info!(room.id = %met.room.id, peer = %waiting.origin, "Event {} is given up: what is before it cannot be had", waiting.event_id);
            drop_row(actions, met, number).await?;
            continue;
        }
        let Some(row) = met.rows().get(&STAGED, &number).await? else { continue };
        let missing = waiting.missing;
        let mut commit = Commit::new(met.room.home.clone());
        commit.put(&STAGED, &number, &Staged { missing, tries, next_try, ..row });
        met.room.store.commit(commit).await?;
        actions.staging.change(&met.room.id, number, |waiting| {
            waiting.tries = tries;
            waiting.next_try = next_try;
        });
    }
    Ok(())
}

async fn drop_row(actions: &Actions, met: &Met, number: u64) -> Result<(), ActionError> {
    let mut commit = Commit::new(met.room.home.clone());
    commit.delete(&STAGED, &number);
    met.room.store.commit(commit).await?;
    actions.staging.remove(&met.room.id, number);
    Ok(())
}

/// The room takes part no longer: nothing waits for it.
async fn forget(actions: &Actions, room_id: &RoomId) -> Result<(), ActionError> {
    let mut commit = Commit::new(Home::room(room_id));
    for (number, _) in actions.staging.list(room_id) {
        commit.delete(&STAGED, &number);
    }
    actions.store.commit(commit).await?;
    if let Some(queue) = actions.staging.rooms.lock().get_mut(room_id) {
        queue.rows.clear();
    }
    tidy(actions, room_id).await
}

/// A room in which nothing waits is not looked at when the server starts. If something came meanwhile, it says so again.
async fn tidy(actions: &Actions, room_id: &RoomId) -> Result<(), ActionError> {
    let mut commit = Commit::new(Home::server());
    commit.delete(&STAGED_ROOMS, &room_id.to_owned());
    actions.store.commit(commit).await?;
    if !actions.staging.list(room_id).is_empty() {
        let mut commit = Commit::new(Home::server());
        commit.put(&STAGED_ROOMS, &room_id.to_owned(), &());
        actions.store.commit(commit).await?;
    }
    Ok(())
}

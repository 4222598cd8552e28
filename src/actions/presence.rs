//! Who is active: joined people with a live stream, told only in small rooms; or, where somebody asks so, whoever has asked for anything of late.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use quick_cache::sync::Cache;
use rules::{UnixMs, permission::Membership};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::{
    ActionError, Actions, Caller, MadeThrough,
    lane::Room,
    members::membership,
    rooms, sessions,
    stream::{FrameKind, Hub},
    summary::is_listed,
    view::RoomView,
    visitors,
};
use crate::storage::{Direction, Home, KeyRange, Limit, keyspaces::MEMBERS};

/// Joined members of a room in which presence is told. In larger rooms it can be asked for.
pub const PRESENCE_MEMBERS_MAX: u64 = 200;
/// Rooms in which it is told that one person has come or gone.
const PRESENCE_ROOMS_MAX: usize = 500;
/// How long after the end of the last stream somebody is still active, in milliseconds: a reconnect is no news.
pub const GRACE_MS: u64 = 5_000;
/// The longest time of which somebody can ask who was active in it, in milliseconds: a year.
pub const WITHIN_MS_MAX: u64 = 366 * 24 * 60 * 60 * 1_000;
/// People of whom is kept in memory when they asked for anything last. Of others it is read from their sessions, where it is noted once an hour.
const SEEN_MAX: usize = 100_000;
/// Members that are looked at together.
const MEMBERS_AT_A_TIME: usize = 500;
/// Members of a room up to which is counted anew at every question who was active.
const COUNTED_ANEW_MAX: u64 = 200;
/// How long the count of a larger room holds, in milliseconds.
const COUNT_LIFETIME_MS: u64 = 60_000;
/// Counts that are kept in memory.
const COUNTS_MAX: usize = 10_000;

/// When people asked for anything last, and how many of a large room did within a time.
pub struct Seen {
    people: Cache<OwnedUserId, Arc<AtomicU64>>,
    counts: Cache<(OwnedRoomId, u64), (UnixMs, u64)>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { people: Cache::new(SEEN_MAX), counts: Cache::new(COUNTS_MAX) }
    }
}

impl Seen {
    /// The person asks for something now.
    pub fn note(&self, user_id: &UserId, now: UnixMs) {
        match self.people.get(user_id) {
            Some(seen) => drop(seen.fetch_max(now.0, Ordering::Relaxed)),
            None => self.people.insert(user_id.to_owned(), Arc::new(AtomicU64::new(now.0))),
        }
    }
}

/// When a person of this server asked for anything last.
async fn last_seen(actions: &Actions, user_id: &UserId) -> Result<UnixMs, ActionError> {
    if let Some(seen) = actions.seen.people.get(user_id) {
        return Ok(UnixMs(seen.load(Ordering::Relaxed)));
    }
    let noted = sessions::last_use(actions, user_id).await?;
    actions.seen.note(user_id, noted);
    Ok(noted)
}

/// A joined member who is active.
#[derive(Clone, Debug)]
pub struct ActiveMember {
    /// The person.
    pub user_id: OwnedUserId,
    /// The name the person has in this room.
    pub display_name: Option<String>,
    /// Since when they are active in this room.
    pub joined_at: UnixMs,
}

/// The joined members of a room who are active now, by id.
///
/// # Errors
/// A caller who is not in the room.
pub async fn active(actions: &Actions, caller: &Caller, reference: &str) -> Result<Vec<ActiveMember>, ActionError> {
    let opened = rooms::open(actions, caller, reference).await?;
    opened.view.standing(actions, caller, opened.member.as_ref()).joined()?;
    let mut listening = actions.live.lock().await.active_in(&opened.room.id);
    listening.sort();
    let people: Vec<OwnedUserId> = listening.iter().map(|(user_id, _)| user_id.clone()).collect();
    let rows = opened.room.store.get_many(&MEMBERS, &opened.room.home, &people).await?;
    let seen = |((user_id, since), member): ((OwnedUserId, UnixMs), Option<_>)| {
        let member: crate::storage::members::Member = member?;
        let joined_at = member.joined_at.map_or(since, |joined| joined.max(since));
        Some(ActiveMember { user_id, display_name: member.display_name, joined_at })
    };
    Ok(listening.into_iter().zip(rows).filter_map(seen).collect())
}

/// The joined members of this server who have asked for anything within that time, by id; `joined_at` is when they joined. What people of other servers do
/// there, nobody tells.
///
/// # Errors
/// Who is neither in the room nor may see its members. Of a listed room that was made through `/api/rooms` everybody may: that API says so.
pub async fn active_within(
    actions: &Actions,
    visitor: Option<&Caller>,
    reference: &str,
    within_ms: u64,
) -> Result<Vec<ActiveMember>, ActionError> {
    if within_ms > WITHIN_MS_MAX {
        return Err(ActionError::invalid("within_ms", format!("must be from 0 to {WITHIN_MS_MAX}")));
    }
    let sight = visitors::look(actions, visitor, reference).await?;
    let is_open = sight.view.settings.made_through == MadeThrough::Ryos && is_listed(&sight.view.summary);
    if !is_open {
        let caller = visitor.ok_or(ActionError::RoomNotFound)?;
        sight.view.standing(actions, caller, sight.member.as_ref()).joined()?;
    }
    let mut active = Vec::new();
    seen_within(actions, &sight.room, within_ms, |member| active.push(member)).await?;
    Ok(active)
}

/// How many joined members of this server have asked for anything within that time. In a large room it may be as many as a minute ago.
///
/// # Errors
/// When storage cannot be read.
pub async fn count_within(actions: &Actions, room: &Room, view: &RoomView, within_ms: u64) -> Result<u64, ActionError> {
    if view.summary.joined <= COUNTED_ANEW_MAX {
        return count(actions, room, within_ms).await;
    }
    // Who asks at the same time shares the work.
    let _gate = actions.gates.enter("active", room.id.as_str()).await?;
    let (now, key) = (actions.now(), (room.id.clone(), within_ms));
    let known = actions.seen.counts.get(&key);
    if let Some((_, known)) = known.filter(|(at, _)| now.0 < at.0.saturating_add(COUNT_LIFETIME_MS)) {
        return Ok(known);
    }
    let count = count(actions, room, within_ms).await?;
    actions.seen.counts.insert(key, (now, count));
    Ok(count)
}

async fn count(actions: &Actions, room: &Room, within_ms: u64) -> Result<u64, ActionError> {
    let mut count = 0;
    seen_within(actions, room, within_ms, |_| count += 1).await?;
    Ok(count)
}

async fn seen_within(
    actions: &Actions,
    room: &Room,
    within_ms: u64,
    mut found: impl FnMut(ActiveMember),
) -> Result<(), ActionError> {
    let since = actions.now().0.saturating_sub(within_ms);
    let mut rest = KeyRange::all();
    loop {
        let limit = Limit::rows(MEMBERS_AT_A_TIME);
        let page = room.store.scan(&MEMBERS, &room.home, rest.clone(), Direction::Up, limit).await?;
        let Some(last) = page.rows.last().map(|(last, _)| last.clone()) else { return Ok(()) };
        for (user_id, member) in page.rows {
            let is_here = membership(Some(&member)) == Membership::Join && actions.is_local(&user_id);
            if is_here && last_seen(actions, &user_id).await?.0 >= since {
                let joined_at = member.joined_at.unwrap_or(UnixMs(0));
                found(ActiveMember { user_id, display_name: member.display_name, joined_at });
            }
        }
        if !page.more {
            return Ok(());
        }
        rest = rest.after(&last);
    }
}

/// Tells the others in the person's rooms that they have opened their first stream.
pub(super) async fn came(actions: &Actions, hub: &Hub, user_id: &UserId) -> Result<(), ActionError> {
    tell_all(actions, hub, user_id, hub.active_since(user_id)).await
}

/// Tells the others in the person's rooms that their last stream has ended for a while.
pub(super) async fn went(actions: &Actions, hub: &Hub, user_id: &UserId) -> Result<(), ActionError> {
    tell_all(actions, hub, user_id, None).await
}

async fn tell_all(actions: &Actions, hub: &Hub, user_id: &UserId, since: Option<UnixMs>) -> Result<(), ActionError> {
    let mut rooms = hub.rooms_of(user_id);
    rooms.retain(|room_id| hub.has_others(room_id, user_id));
    for room_id in rooms.iter().take(PRESENCE_ROOMS_MAX) {
        tell(actions, hub, user_id, room_id, since).await?;
    }
    Ok(())
}

/// Tells the others in a room that an active person has come into it or left it.
pub(super) async fn moved(
    actions: &Actions,
    hub: &Hub,
    user_id: &UserId,
    room_id: &RoomId,
    is_in: bool,
) -> Result<(), ActionError> {
    let since = hub.active_since(user_id).filter(|_| is_in);
    tell(actions, hub, user_id, room_id, since).await
}

async fn tell(
    actions: &Actions,
    hub: &Hub,
    user_id: &UserId,
    room_id: &RoomId,
    since: Option<UnixMs>,
) -> Result<(), ActionError> {
    if !hub.has_others(room_id, user_id) {
        return Ok(());
    }
    let room = actions.room(room_id);
    if room.view().await?.is_none_or(|view| view.summary.joined > PRESENCE_MEMBERS_MAX) {
        return Ok(());
    }
    let joined_at = match since {
        Some(since) => {
            let member = room.store.get(&MEMBERS, &Home::room(room_id), &user_id.to_owned()).await?;
            Some(member.and_then(|member| member.joined_at).map_or(since, |joined| joined.max(since)))
        }
        None => None,
    };
    let kind = FrameKind::Presence { room_id: room_id.to_owned(), user_id: user_id.to_owned(), joined_at };
    hub.tell(room_id, Some(user_id), kind);
    Ok(())
}

//! Who is typing where: in memory only, and ending by itself.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use rules::{
    UnixMs,
    permission::{Act, Membership},
};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::{
    ActionError, Actions, Caller, outgoing, rooms,
    stream::{Frame, FrameKind, Hub},
};
use crate::storage::keyspaces::MEMBERS;

/// How long somebody types who does not say it, in milliseconds.
const TIMEOUT_MS_DEFAULT: u64 = 30_000;
/// How long somebody types at most before they say it again, in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 120_000;
/// Rooms in which somebody types. In more, it is not told.
const ROOMS_MAX: usize = 10_000;
/// People who type in one room. More are not told.
const PEOPLE_MAX: usize = 200;

/// Who types in which room, and until when.
#[derive(Default)]
pub struct Typing(Mutex<HashMap<OwnedRoomId, BTreeMap<OwnedUserId, UnixMs>>>);

/// How long somebody types who says that they do, in milliseconds.
///
/// # Errors
/// Nothing at all, or longer than [`TIMEOUT_MS_MAX`].
pub fn timeout_of(timeout_ms: Option<u64>) -> Result<u64, ActionError> {
    let timeout_ms = timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT);
    if (1..=TIMEOUT_MS_MAX).contains(&timeout_ms) {
        return Ok(timeout_ms);
    }
    Err(ActionError::invalid("timeout_ms", format!("must be from 1 to {TIMEOUT_MS_MAX}")))
}

/// The caller types for so many milliseconds, or no longer.
///
/// # Errors
/// Whoever may not send messages to the room.
pub async fn set(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    timeout_ms: Option<u64>,
) -> Result<(), ActionError> {
    let opened = rooms::open(actions, caller, reference).await?;
    opened.view.standing(actions, caller, opened.member.as_ref()).may(Act::Send)?;
    let now = actions.now();
    let until = timeout_ms.map(|timeout| UnixMs(now.0.saturating_add(timeout)));
    {
        let hub = actions.live.lock().await;
        if actions.typing.change(&opened.room.id, &caller.user_id, until, now) {
            tell(actions, &hub, &opened.room.id);
        }
    }
    // Other servers end it by themselves after a while, so they are told again.
    outgoing::types(actions, &opened.room, &opened.view, &caller.user_id, until.is_some()).await;
    Ok(())
}

/// Somebody of another server types, or no longer.
pub(super) async fn of_peer(actions: &Actions, room_id: &RoomId, user_id: &UserId, is_typing: bool) {
    let now = actions.now();
    let until = is_typing.then(|| UnixMs(now.0.saturating_add(TIMEOUT_MS_DEFAULT)));
    let hub = actions.live.lock().await;
    if actions.typing.change(room_id, user_id, until, now) {
        tell(actions, &hub, room_id);
    }
}

impl Typing {
    /// Answers whether the list of those who type there is another one now.
    fn change(&self, room_id: &RoomId, user_id: &UserId, until: Option<UnixMs>, now: UnixMs) -> bool {
        let mut rooms = self.0.lock();
        let Some(until) = until else {
            let Some(people) = rooms.get_mut(room_id) else { return false };
            let was_typing = people.remove(user_id).is_some();
            if people.is_empty() {
                rooms.remove(room_id);
            }
            return was_typing;
        };
        if rooms.len() >= ROOMS_MAX {
            rooms.retain(|_, people| people.values().any(|end| *end > now));
        }
        if rooms.len() >= ROOMS_MAX && !rooms.contains_key(room_id) {
            return false;
        }
        let people = rooms.entry(room_id.to_owned()).or_default();
        let before = people.len();
        people.retain(|_, end| *end > now);
        let has_shrunk = people.len() < before;
        if people.len() >= PEOPLE_MAX && !people.contains_key(user_id) {
            return has_shrunk;
        }
        people.insert(user_id.to_owned(), until).is_none() || has_shrunk
    }

    /// The person types there, as far as anybody said.
    pub(super) fn has(&self, room_id: &RoomId, user_id: &UserId) -> bool {
        self.0.lock().get(room_id).is_some_and(|people| people.contains_key(user_id))
    }

    /// Who types now, room by room.
    fn all(&self, now: UnixMs) -> Vec<(OwnedRoomId, Vec<OwnedUserId>)> {
        let rooms = self.0.lock();
        let typing = |(room_id, people): (&OwnedRoomId, &BTreeMap<OwnedUserId, UnixMs>)| {
            let people = people.iter().filter(|(_, end)| **end > now);
            (room_id.clone(), people.map(|(person, _)| person.clone()).collect::<Vec<_>>())
        };
        rooms.iter().map(typing).filter(|(_, people)| !people.is_empty()).collect()
    }

    fn people(&self, room_id: &RoomId) -> Vec<OwnedUserId> {
        self.0.lock().get(room_id).map(|people| people.keys().cloned().collect()).unwrap_or_default()
    }
}

fn tell(actions: &Actions, hub: &Hub, room_id: &RoomId) {
    let participants = actions.typing.people(room_id);
    hub.tell(room_id, None, FrameKind::Typing { room_id: room_id.to_owned(), participants });
}

/// Somebody has sent what they typed, or has left.
pub(super) fn stopped(actions: &Actions, hub: &Hub, room_id: &RoomId, user_id: &UserId) {
    if actions.typing.change(room_id, user_id, None, actions.now()) {
        tell(actions, hub, room_id);
    }
}

/// Tells where somebody has stopped typing without saying so.
pub(super) fn expire(actions: &Actions, hub: &Hub, now: UnixMs) {
    let mut ended = Vec::new();
    actions.typing.0.lock().retain(|room_id, people| {
        let before = people.len();
        people.retain(|_, end| *end > now);
        if people.len() < before {
            ended.push(room_id.clone());
        }
        !people.is_empty()
    });
    ended.iter().for_each(|room_id| tell(actions, hub, room_id));
}

/// Forgets who has stopped or left while nobody listened: nobody was told of it then.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn catch_up(actions: &Actions) -> Result<(), ActionError> {
    let now = actions.now();
    for (room_id, people) in actions.typing.all(now) {
        let room = actions.room(&room_id);
        let members = room.store.get_many(&MEMBERS, &room.home, &people).await?;
        for (user_id, member) in people.iter().zip(members) {
            if member.is_none_or(|member| member.membership != Membership::Join) {
                actions.typing.change(&room_id, user_id, None, now);
            }
        }
    }
    Ok(())
}

/// Who types now in the rooms of a person who begins to listen.
pub(super) fn frames_for(actions: &Actions, hub: &Hub, user_id: &UserId) -> Vec<Frame> {
    let mut typing = actions.typing.all(actions.now());
    typing.retain(|(room_id, _)| hub.is_in(user_id, room_id));
    let frame = |(room_id, participants)| Frame::new(FrameKind::Typing { room_id, participants }, None);
    typing.into_iter().map(frame).collect()
}

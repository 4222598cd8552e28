//! Who is typing where: in memory only, and ending by itself.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use rules::{UnixMs, permission::Act};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::{
    ActionError, Actions, Caller, rooms,
    stream::{Frame, FrameKind, Hub},
};

/// How long somebody types who does not say it, in milliseconds.
pub const TIMEOUT_MS_DEFAULT: u64 = 30_000;
/// How long somebody types at most before they say it again, in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 120_000;
/// Rooms in which somebody types. In more, it is not told.
const ROOMS_MAX: usize = 10_000;
/// People who type in one room. More are not told.
const PEOPLE_MAX: usize = 200;

/// Who types in which room, and until when.
#[derive(Default)]
pub struct Typing(Mutex<HashMap<OwnedRoomId, BTreeMap<OwnedUserId, UnixMs>>>);

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
    let hub = actions.live.lock().await;
    if actions.typing.change(&opened.room.id, &caller.user_id, until, now) {
        tell(actions, &hub, &opened.room.id);
    }
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

/// Who types now in the rooms of a person who begins to listen.
pub(super) fn frames_for(actions: &Actions, hub: &Hub, user_id: &UserId) -> Vec<Frame> {
    let now = actions.now();
    let rooms = actions.typing.0.lock();
    let mut frames = Vec::new();
    for (room_id, people) in rooms.iter().filter(|(room_id, _)| hub.is_in(user_id, room_id)) {
        let typing = people.iter().filter(|(_, end)| **end > now);
        let participants: Vec<OwnedUserId> = typing.map(|(person, _)| person.clone()).collect();
        if !participants.is_empty() {
            frames.push(Frame::new(FrameKind::Typing { room_id: room_id.clone(), participants }, None));
        }
    }
    frames
}

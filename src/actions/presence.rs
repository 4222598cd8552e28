//! Who is active: joined people with a live stream. Kept in memory only, and told only in small rooms.

use rules::UnixMs;
use ruma::{OwnedUserId, RoomId, UserId};

use super::{
    ActionError, Actions, Caller, rooms,
    stream::{FrameKind, Hub},
};
use crate::storage::{Home, keyspaces::MEMBERS};

/// Joined members of a room in which presence is told. In larger rooms it can be asked for.
pub const PRESENCE_MEMBERS_MAX: u64 = 200;
/// Rooms in which it is told that one person has come or gone.
const PRESENCE_ROOMS_MAX: usize = 500;
/// How long after the end of the last stream somebody is still active, in milliseconds: a reconnect is no news.
pub const GRACE_MS: u64 = 5_000;

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

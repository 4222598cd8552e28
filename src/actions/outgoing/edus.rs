//! Who types and how far people have read, for the other servers in a room. It is told now or never.

use federation::outbound::Edu;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, UInt, UserId};

use crate::{
    actions::{Actions, lane::Room, rows, view::RoomView},
    storage::{KeyRange, keyspaces::SERVERS},
};

/// Somebody of this server types, or no longer does.
pub async fn types(actions: &Actions, room: &Room, view: &RoomView, user_id: &UserId, is_typing: bool) {
    let edu = Edu::Typing { room_id: room.id.clone(), user_id: user_id.to_owned(), is_typing };
    tell(actions, room, view, &edu).await;
}

/// Somebody of this server has read up to an event.
pub async fn has_read(actions: &Actions, room: &Room, view: &RoomView, user_id: &UserId, event_id: OwnedEventId) {
    let at = MilliSecondsSinceUnixEpoch(UInt::try_from(actions.now().0).unwrap_or(UInt::MAX));
    let edu = Edu::Read { room_id: room.id.clone(), user_id: user_id.to_owned(), event_id, at };
    tell(actions, room, view, &edu).await;
}

async fn tell(actions: &Actions, room: &Room, view: &RoomView, edu: &Edu) {
    let Some(sending) = actions.outgoing.sending() else { return };
    if view.summary.foreign_joined == 0 {
        return;
    }
    // Nobody misses it much.
    if let Ok(servers) = rows::all(&room.store, &SERVERS, &room.home, KeyRange::all()).await {
        sending.edu(servers.into_iter().map(|(server, _)| server).filter(|server| view.admits(server)).collect(), edu);
    }
}

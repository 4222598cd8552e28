//! How far people of other servers have read: told to those who listen to the room at that moment, and not kept.

use ruma::{EventId, RoomId, UserId};

use super::{Actions, rows::Rows, stream::FrameKind};
use crate::storage::keyspaces::EVENTS;

/// Somebody of another server, who is in the room, has read up to an event, or up to one of a thread. One that is not shown here says nothing.
pub(super) async fn of_peer(
    actions: &Actions,
    room_id: &RoomId,
    user_id: &UserId,
    event_id: &EventId,
    thread: Option<&EventId>,
) {
    let room = actions.room(room_id);
    let rows = Rows::on_disk(&room.store, &room.home);
    let Ok(Some(arrival)) = rows.arrival_of(event_id).await else { return };
    let Ok(Some(stored)) = rows.get(&EVENTS, &arrival).await else { return };
    if stored.place.is_none() {
        return;
    }
    let read = FrameKind::OtherRead {
        room_id: room_id.to_owned(),
        user_id: user_id.to_owned(),
        event_id: event_id.to_owned(),
        thread: thread.map(ToOwned::to_owned),
    };
    actions.live.lock().await.tell(room_id, None, read);
}

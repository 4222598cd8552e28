//! Incognito rooms: they live in memory, and end without a trace.

use rules::kind::RoomKind;
use ruma::RoomId;

use super::{
    ActionError, Actions,
    purge::{self, Pass},
};

/// No text of an incognito room names a medium: media outlive the room.
///
/// # Errors
/// [`ActionError::TypeInvariant`].
pub fn refuse_media(kind: RoomKind, text: &str) -> Result<(), ActionError> {
    if kind == RoomKind::Incognito && text.contains("mxc://") {
        return Err(ActionError::type_invariant("an incognito room refers to no media"));
    }
    Ok(())
}

/// Forgets an incognito room: its rows, and what its members hold of it.
///
/// # Errors
/// When the store in memory is closed.
pub async fn end(actions: &Actions, room_id: &RoomId) -> Result<(), ActionError> {
    let _gate = actions.gates.enter("end", room_id.as_str()).await?;
    if !actions.incognito_rooms.read().contains(room_id) {
        return Ok(());
    }
    purge::remove_rows(actions, &actions.room(room_id), &mut Pass::Remove(None)).await?;
    actions.rooms.remove(room_id);
    actions.incognito_rooms.write().remove(room_id);
    Ok(())
}

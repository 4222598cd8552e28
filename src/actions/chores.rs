//! Work that a room's commit leaves for another room: a space names its rooms, where somebody here may say so. It is remembered with the commit, so that a
//! crash does not lose it, and doing it twice does no harm.

use rules::draft::Draft;
use ruma::{RoomId, UserId};
use serde_json::json;

use super::{ActionError, Actions, append::Writer, creation::object, rows, summary};
use crate::storage::{Commit, Home, KeyRange, chores::Chore, keyspaces::CHORES};

/// Does what a crash left over.
///
/// # Errors
/// When storage cannot be read or written.
pub async fn finish_all(actions: &Actions) -> Result<(), ActionError> {
    for ((room_id, space), _) in rows::all(&actions.store, &CHORES, &Home::server(), KeyRange::all()).await? {
        finish(actions, &room_id, &space).await?;
    }
    Ok(())
}

/// Does what is left for this room and this space, if anything is.
///
/// # Errors
/// When storage cannot be read or written.
pub async fn finish(actions: &Actions, room_id: &RoomId, space: &RoomId) -> Result<(), ActionError> {
    let key = (room_id.to_owned(), space.to_owned());
    let _gate = actions.gates.enter("chore", &format!("{room_id} {space}")).await?;
    let Some(chore) = actions.store.get(&CHORES, &Home::server(), &key).await? else { return Ok(()) };
    let done = match &chore {
        Chore::LinkChild(by) => set_child(actions, room_id, space, by, true).await,
        Chore::UnlinkChild(by) => set_child(actions, room_id, space, by, false).await,
    };
    match done {
        Ok(()) => {}
        Err(ActionError::RoomForbidden { .. }) => {
            tracing::info!(room.id = %room_id, "Space `{space}` does not list `{room_id}`: nobody here may say so");
        }
        Err(error) => return Err(error),
    }
    let mut commit = Commit::new(Home::server());
    commit.require_same(&CHORES, &key, &chore).delete(&CHORES, &key);
    match actions.store.commit(commit).await {
        Ok(_) | Err(crate::storage::CommitError::Conflict) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// [`finish`] for somebody whose own work is done: what does not succeed now is done at the next start.
pub async fn try_finish(actions: &Actions, room_id: &RoomId, space: &RoomId) {
    if let Err(error) = finish(actions, room_id, space).await {
        tracing::warn!(room.id = %room_id, %error, "Space `{space}` does not know yet of a change of `{room_id}`: {error}");
    }
}

/// Names a room in a space, or no longer, in the name of that person; a space that says so already is left as it is.
///
/// # Errors
/// [`ActionError::RoomForbidden`] when the person may not say so; when storage cannot be read or written.
pub(super) async fn set_child(
    actions: &Actions,
    room_id: &RoomId,
    space: &RoomId,
    by: &UserId,
    is_child: bool,
) -> Result<(), ActionError> {
    let Some(mut writer) = Writer::enter(actions, &actions.room(space)).await? else { return Ok(()) };
    let present = writer.state_event("m.space.child", room_id.as_str()).await?;
    let is_present = present.is_some_and(|event| summary::content(&event).get("via").is_some());
    if is_present != is_child {
        let content = if is_child { json!({ "via": [actions.server_name.as_str()] }) } else { json!({}) };
        writer.stage(by, Draft::state("m.space.child", room_id.as_str(), object(content)?)).await?;
    }
    writer.commit().await?;
    Ok(())
}

//! Incognito rooms: they live in memory, and end without a trace.

use ruma::RoomId;

use super::{ActionError, Actions, append, rows};
use crate::storage::{
    ChangeKind, Commit, Home, KeyRange,
    keyspaces::{ALIASES, IN_ROOMS, MEMBERS, MENTIONS, PERSONAL, ROOMS},
};

/// Forgets an incognito room: its rows, and what its members hold of it.
///
/// # Errors
/// When the store in memory is closed.
pub async fn end(actions: &Actions, room_id: &RoomId) -> Result<(), ActionError> {
    let _gate = actions.gates.enter("end", room_id.as_str()).await?;
    if !actions.incognito_rooms.read().contains(room_id) {
        return Ok(());
    }
    let store = &actions.incognito;
    let room = actions.room(room_id);
    let alias = room.view().await?.and_then(|view| view.summary.alias.clone());
    let members = rows::all(store, &MEMBERS, &room.home, KeyRange::all()).await?;
    let room_id = room_id.to_owned();
    for (user_id, _) in members {
        let mut commit = Commit::new(Home::person(&user_id));
        commit.delete(&IN_ROOMS, &room_id).delete(&PERSONAL, &room_id).delete_prefix(&MENTIONS, &room_id);
        commit.change_about(ChangeKind::Rooms, room.home.clone(), 0);
        store.commit(commit).await?;
    }
    append::erase(&room).await?;
    let mut commit = Commit::new(Home::server());
    commit.delete(&ROOMS, &room_id);
    store.commit(commit).await?;
    if let Some(alias) = alias {
        let mut commit = Commit::new(Home::name(&alias));
        commit.delete(&ALIASES, &());
        store.commit(commit).await?;
    }
    actions.rooms.remove(&room_id);
    actions.incognito_rooms.write().remove(&room_id);
    Ok(())
}

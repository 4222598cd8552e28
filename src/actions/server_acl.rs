//! The access lists of rooms, each read once: a list may hold thousands of patterns, and is asked for every event.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use rules::server_acl::ServerAcl;
use ruma::{OwnedEventId, OwnedRoomId, ServerName};

use super::{ActionError, Actions, lane::Room, rows::Rows, view::RoomView};

/// Lists that are kept at hand. More: all are forgotten and read again.
const LISTS_MAX: usize = 1_000;

/// The lists that were read, each with its event.
#[derive(Default)]
pub struct ServerAcls(Mutex<HashMap<OwnedRoomId, (OwnedEventId, Arc<ServerAcl>)>>);

/// Whether a room lets a server in, by its current state.
///
/// # Errors
/// When storage cannot be read.
pub async fn allows(actions: &Actions, room: &Room, view: &RoomView, server: &ServerName) -> Result<bool, ActionError> {
    let rows = Rows::on_disk(&room.store, &room.home);
    let event = rows.state_event(&view.basis.version, view.tip.state, "m.room.server_acl", "").await?;
    let Some(event) = event else { return Ok(true) };
    let known = actions.server_acls.0.lock().get(&room.id).cloned();
    if let Some((_, list)) = known.filter(|(id, _)| id == event.event_id()) {
        return Ok(list.allows(server));
    }
    let list = Arc::new(ServerAcl::of(Some(&event)));
    let is_allowed = list.allows(server);
    let mut lists = actions.server_acls.0.lock();
    if lists.len() >= LISTS_MAX {
        lists.clear();
    }
    lists.insert(room.id.clone(), (event.event_id().clone(), list));
    Ok(is_allowed)
}

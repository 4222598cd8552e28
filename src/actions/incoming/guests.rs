//! Which rooms take part in federation, and what a peer must be to send into one or to read from it.

use std::sync::Arc;

use federation::Refusal;
use rules::{kind::RoomKind, version::Version};
use ruma::{RoomId, ServerName};

use crate::{
    actions::{ActionError, Actions, lane::Room, rows::Rows, server_acl, summary, view::RoomView},
    storage::{keyspaces::SERVERS, room_settings::FederationMode},
};

/// A room that takes part in federation, as it is on disk.
#[derive(Clone)]
pub(in crate::actions) struct Met {
    pub(in crate::actions) room: Arc<Room>,
    pub(in crate::actions) view: Arc<RoomView>,
}

impl Met {
    pub(in crate::actions) fn version(&self) -> Version {
        self.view.basis.version
    }

    pub(in crate::actions) fn rows(&self) -> Rows<'_> {
        Rows::on_disk(&self.room.store, &self.room.home)
    }
}

/// A room that is here and may be known to other servers, whoever asks; none: there is none, or nobody of this server is in it.
pub(in crate::actions) async fn find(actions: &Actions, room_id: &RoomId) -> Result<Option<Met>, ActionError> {
    if actions.incognito_rooms.read().contains(room_id) || actions.is_purging(room_id) {
        return Ok(None);
    }
    let room = actions.room(room_id);
    let Some(view) = room.view().await? else { return Ok(None) };
    let is_shared = view.summary.kind != RoomKind::Incognito && view.settings.federation != FederationMode::Off;
    let takes_part = is_shared && view.summary.local_joined() > 0;
    Ok(takes_part.then_some(Met { room, view }))
}

/// A room into which the peer may send.
pub(in crate::actions) async fn meet(actions: &Actions, origin: &ServerName, room_id: &RoomId) -> Result<Met, Refusal> {
    let met = find(actions, room_id).await.map_err(failed)?.ok_or(Refusal::NotFound)?;
    if !met.view.settings.federation.admits(origin) {
        return Err(Refusal::NotFound);
    }
    let create = summary::content(&met.view.basis.create);
    let is_closed_off = create.get("m.federate").and_then(serde_json::Value::as_bool) == Some(false);
    if is_closed_off && met.view.basis.create.sender().server_name() != origin {
        return Err(Refusal::NotFound);
    }
    let is_allowed = server_acl::allows(actions, &met.room, &met.view, origin).await.map_err(failed)?;
    if is_allowed { Ok(met) } else { Err(Refusal::Forbidden) }
}

/// A room from which the peer may read: one of its users is in it. A room that it is not in looks like one that is not here.
pub(super) async fn guest(actions: &Actions, origin: &ServerName, room_id: &RoomId) -> Result<Met, Refusal> {
    let met = find(actions, room_id).await.map_err(failed)?.ok_or(Refusal::NotFound)?;
    let joined = met.rows().get(&SERVERS, &origin.to_owned()).await.map_err(failed)?;
    if joined.is_none() {
        return Err(Refusal::NotFound);
    }
    meet(actions, origin, room_id).await
}

/// What went wrong here is none of the peer's business.
pub(in crate::actions) fn failed(error: ActionError) -> Refusal {
    match error {
        ActionError::RoomNotFound | ActionError::EventNotFound => Refusal::NotFound,
        ActionError::Busy | ActionError::NotWritten(_) => Refusal::Unavailable,
        error => {
            tracing::error!(%error, "A peer could not be answered: {error}");
            Refusal::Unavailable
        }
    }
}

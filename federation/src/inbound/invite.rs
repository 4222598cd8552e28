//! A peer invites one of our users. Nothing but such an invite gets our signature.

use std::sync::Arc;

use axum::{extract::State, response::IntoResponse};
use ruma::{OwnedEventId, OwnedRoomId, RoomVersionId};
use serde_json::value::RawValue;

use super::{
    OurServer,
    answer::LargeObject,
    authentication::Peer,
    error::Failure,
    json::{Json, Object},
    pdu::membership_event,
    request::Path,
};
use crate::{
    Refusal,
    limits::INVITE_STATE_EVENTS_MAX,
    local::{Invite, Local},
};

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid>
pub(crate) async fn invite<L: Local>(
    State(local): State<Arc<L>>,
    State(us): State<OurServer>,
    peer: Peer,
    Path((room_id, event_id)): Path<(OwnedRoomId, OwnedEventId)>,
) -> Result<impl IntoResponse, Failure> {
    let content = peer.content()?;
    let room_version: RoomVersionId =
        content.text("room_version").and_then(|text| text.try_into().ok()).ok_or(Refusal::Invalid("room_version"))?;
    let event = content.object("event").ok_or(Refusal::Invalid("event"))?;
    let event = membership_event(event, &peer.origin, &room_id, "invite")?;
    if event.target.server_name() != us.name {
        return Err(Refusal::Invalid("state_key").into());
    }
    if !local.has_user(&event.target).await? {
        return Err(Refusal::NotFound.into());
    }
    let invite = Invite { room_version, event: event.pdu, room_state: room_state(content) };
    let signed = local.accept_invite(&peer.origin, &room_id, &event_id, invite).await?;
    Ok(LargeObject::default().value("event", &signed))
}

/// What the peer shows of the room. Anything but a list counts as an empty one, anything but an event is passed over.
fn room_state(content: &Object) -> Vec<Box<RawValue>> {
    let list = content.list("invite_room_state").unwrap_or_default();
    list.iter().take(INVITE_STATE_EVENTS_MAX).filter_map(Json::as_object).filter_map(Object::to_raw).collect()
}

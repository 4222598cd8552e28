//! Joining, leaving and knocking: the template a peer asks for, and the event it makes from it.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId};
use serde_json::json;

use super::{
    OurServer,
    answer::{self, LargeObject, text_of},
    authentication::Peer,
    error::Failure,
    pdu::membership_event,
    request::{Path, Query},
};
use crate::{
    Pdu, Refusal,
    limits::ROOM_VERSIONS_MAX,
    local::{Accepted, Local, Wish},
};

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_joinroomiduserid>
pub(crate) async fn make_join<L: Local>(
    State(local): State<Arc<L>>,
    peer: Peer,
    Path((room_id, user_id)): Path<(OwnedRoomId, OwnedUserId)>,
    query: Query,
) -> Result<Response, Failure> {
    template(&*local, &peer, (room_id, user_id), Wish::Join, versions(&query)?).await
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_leaveroomiduserid>
pub(crate) async fn make_leave<L: Local>(
    State(local): State<Arc<L>>,
    peer: Peer,
    Path((room_id, user_id)): Path<(OwnedRoomId, OwnedUserId)>,
) -> Result<Response, Failure> {
    template(&*local, &peer, (room_id, user_id), Wish::Leave, Vec::new()).await
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_knockroomiduserid>
pub(crate) async fn make_knock<L: Local>(
    State(local): State<Arc<L>>,
    peer: Peer,
    Path((room_id, user_id)): Path<(OwnedRoomId, OwnedUserId)>,
    query: Query,
) -> Result<Response, Failure> {
    template(&*local, &peer, (room_id, user_id), Wish::Knock, versions(&query)?).await
}

/// The room versions that a peer speaks; who names none speaks version 1.
fn versions(query: &Query) -> Result<Vec<RoomVersionId>, Failure> {
    if query.all("ver").count() > ROOM_VERSIONS_MAX {
        return Err(Refusal::Invalid("ver").into());
    }
    let versions: Vec<RoomVersionId> = query.all("ver").filter_map(|version| version.try_into().ok()).collect();
    Ok(if query.one("ver").is_none() { vec![RoomVersionId::V1] } else { versions })
}

async fn template<L: Local>(
    local: &L,
    peer: &Peer,
    (room_id, user_id): (OwnedRoomId, OwnedUserId),
    wish: Wish,
    versions: Vec<RoomVersionId>,
) -> Result<Response, Failure> {
    if user_id.server_name() != peer.origin {
        return Err(Refusal::Forbidden.into());
    }
    let template = local.membership_template(&peer.origin, &room_id, &user_id, wish, &versions).await?;
    let answer = LargeObject::default().value("room_version", &template.room_version).value("event", &template.event);
    Ok(answer.into_response())
}

/// The state may lack members where the peer is content with that (`omit_members`).
/// Source: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid>
pub(crate) async fn send_join<L: Local>(
    State(local): State<Arc<L>>,
    State(us): State<OurServer>,
    peer: Peer,
    Path(path): Path<(OwnedRoomId, OwnedEventId)>,
    query: Query,
) -> Result<impl IntoResponse, Failure> {
    let accepted = if query.read::<bool>("omit_members")?.unwrap_or(false) {
        let event = own_event(&peer, &path.0, "join")?;
        local.accept_join_without_members(&peer.origin, &path.0, &path.1, event).await?
    } else {
        accept(&*local, &peer, path, Wish::Join, "join").await?
    };
    Ok(LargeObject::default()
        .value("origin", &us.name)
        .value("members_omitted", &accepted.members_omitted)
        .value("servers_in_room", &accepted.servers)
        .value("event", &accepted.event)
        .state(["state", "auth_chain"], accepted.before, text_of))
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_leaveroomideventid>
pub(crate) async fn send_leave<L: Local>(
    State(local): State<Arc<L>>,
    peer: Peer,
    Path(path): Path<(OwnedRoomId, OwnedEventId)>,
) -> Result<Response, Failure> {
    accept(&*local, &peer, path, Wish::Leave, "leave").await?;
    Ok(answer::ok(&json!({})))
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1send_knockroomideventid>
pub(crate) async fn send_knock<L: Local>(
    State(local): State<Arc<L>>,
    peer: Peer,
    Path(path): Path<(OwnedRoomId, OwnedEventId)>,
) -> Result<impl IntoResponse, Failure> {
    let accepted = accept(&*local, &peer, path, Wish::Knock, "knock").await?;
    let shown = accepted.before.gathered().await?;
    Ok(LargeObject::default().pdus("knock_room_state", shown.state))
}

/// That the event hashes to the id in the path, and what the room's rules say, is checked behind the port.
async fn accept<L: Local>(
    local: &L,
    peer: &Peer,
    (room_id, event_id): (OwnedRoomId, OwnedEventId),
    wish: Wish,
    membership: &str,
) -> Result<Accepted, Failure> {
    let event = own_event(peer, &room_id, membership)?;
    Ok(local.accept_membership(&peer.origin, &room_id, &event_id, wish, event).await?)
}

/// The membership event of a user of the peer about itself.
fn own_event(peer: &Peer, room_id: &RoomId, membership: &str) -> Result<Pdu, Failure> {
    let event = membership_event(peer.content()?, &peer.origin, room_id, membership)?;
    if event.sender == event.target { Ok(event.pdu) } else { Err(Refusal::Invalid("state_key").into()) }
}

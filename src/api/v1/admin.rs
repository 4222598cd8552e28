//! What admins see and do of the whole server: its rooms, purging one, the record of their acts.

use std::collections::BTreeMap;

use axum::{
    Json as Answer,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use rules::kind::{RoomKind, RoomState};
use ruma::{OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

use super::{
    error::V1Error,
    path::Ids,
    wire::{Data, Federation, List},
};
use crate::{
    actions::{
        AuditRow,
        admin::{self, AdminRoom, Search},
        audit::{self, Filter},
        purge, remote_invite,
    },
    api::{
        body::{Json, Parameters},
        caller::Admin,
        page, time,
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FindRooms {
    q: Option<String>,
    room_type: Option<Kind>,
    state: Option<State>,
    limit: Option<i64>,
    offset: Option<i64>,
}

#[derive(Copy, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Group,
    Public,
    Dm,
    Workspace,
}

impl From<Kind> for RoomKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Group => Self::Group,
            Kind::Public => Self::Public,
            Kind::Dm => Self::Direct,
            Kind::Workspace => Self::Workspace,
        }
    }
}

#[derive(Copy, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Open,
    Archived,
    Closed,
}

impl From<State> for RoomState {
    fn from(state: State) -> Self {
        match state {
            State::Open => Self::Open,
            State::Archived => Self::Archived,
            State::Closed => Self::Closed,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Room {
    id: OwnedRoomId,
    room_alias: Option<String>,
    room_type: &'static str,
    name: Option<String>,
    state: &'static str,
    creator_id: OwnedUserId,
    members_count: u64,
    foreign_members_count: u64,
    is_public: bool,
    workspace_id: Option<OwnedRoomId>,
    federation: Federation,
    created_at: String,
    last_activity_at: String,
}

impl From<AdminRoom> for Room {
    fn from(room: AdminRoom) -> Self {
        Self {
            id: room.room_id,
            room_alias: room.alias,
            room_type: room.kind.as_str(),
            name: room.name,
            state: room.state.as_str(),
            creator_id: room.creator,
            members_count: room.members,
            foreign_members_count: room.foreign,
            is_public: room.is_public,
            workspace_id: room.workspace_id,
            federation: room.federation.into(),
            created_at: time::text(room.created_at),
            last_activity_at: time::text(room.last_activity_at),
        }
    }
}

/// `GET /v1/admin/rooms`
pub(super) async fn rooms(
    Admin { actions, caller }: Admin,
    Parameters(find): Parameters<FindRooms>,
) -> Result<Answer<List<Room>>, V1Error> {
    let window = page::window(find.offset, find.limit)?;
    let search = Search {
        text: page::search(find.q)?,
        kind: find.room_type.map(RoomKind::from),
        state: find.state.map(RoomState::from),
    };
    Ok(List::json(admin::rooms(&actions, &caller, &search, window).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    dry_run: Option<bool>,
}

#[derive(Serialize)]
struct Preview {
    room_id: OwnedRoomId,
    bytes: u64,
    events: u64,
    members: u64,
}

#[derive(Serialize)]
struct Started {
    job_id: String,
}

/// `DELETE /v1/admin/rooms/{room_id}`
pub(super) async fn purge(
    Admin { actions, caller }: Admin,
    Ids(room): Ids<String>,
    Parameters(how): Parameters<How>,
) -> Result<Response, V1Error> {
    if how.dry_run == Some(true) {
        let purge::Preview { room_id, bytes, events, members } = purge::preview(&actions, &caller, &room).await?;
        return Ok(Data::json(Preview { room_id, bytes, events, members }).into_response());
    }
    let job_id = purge::start(&actions, &caller, &room).await?;
    Ok((StatusCode::ACCEPTED, Data::json(Started { job_id })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FindActs {
    actor: Option<String>,
    action: Option<String>,
    target: Option<String>,
    limit: Option<i64>,
    offset: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct Act {
    id: String,
    at: String,
    actor: String,
    action: String,
    target: Option<String>,
    details: BTreeMap<String, String>,
}

impl From<(String, AuditRow)> for Act {
    fn from((id, row): (String, AuditRow)) -> Self {
        Self {
            id,
            at: time::text(row.at),
            actor: row.actor,
            action: row.action,
            target: row.target,
            details: row.details.into_iter().collect(),
        }
    }
}

/// `GET /v1/admin/audit`
pub(super) async fn audit(
    Admin { actions, caller }: Admin,
    Parameters(find): Parameters<FindActs>,
) -> Result<Answer<List<Act>>, V1Error> {
    let window = page::window(find.offset, find.limit)?;
    let filter = Filter { actor: find.actor, action: find.action, target: find.target };
    Ok(List::json(audit::list(&actions, &caller, &filter, window).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Invite {
    participant_id: String,
    #[serde(rename = "as")]
    stand_in: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Invited {
    room_id: OwnedRoomId,
    participant_id: OwnedUserId,
    membership: &'static str,
    invited_by: Option<OwnedUserId>,
}

/// `POST /v1/admin/rooms/{room_id}/federation/invite`
pub(super) async fn invite(
    Admin { actions, caller }: Admin,
    Ids(room): Ids<String>,
    body: Json<Invite>,
) -> Result<Answer<Data<Invited>>, V1Error> {
    let Invite { participant_id, stand_in } = body.value;
    let target = actions.parse_participant("participant_id", &participant_id)?;
    let stand_in = stand_in.map(|stand_in| actions.parse_participant("as", &stand_in)).transpose()?;
    let sent = remote_invite::as_admin(&actions, &caller, &room, &target, stand_in.as_deref()).await?;
    Ok(Data::json(Invited {
        room_id: sent.room_id,
        participant_id: target,
        membership: sent.membership.as_str(),
        invited_by: sent.sender,
    }))
}

//! Workspaces and their members.

use axum::{
    Json as Answer,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use ruma::{OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

use super::{
    error::V1Error,
    path::Ids,
    rooms::workspace,
    wire::{Data, List, Nothing},
};
use crate::{
    actions::workspaces::{self, Role, WorkspaceMember, WorkspaceView},
    api::{
        body::{Json, Parameters},
        caller::Signed,
        page::Paging,
    },
};

#[derive(Serialize)]
pub(super) struct Workspace {
    id: OwnedRoomId,
    name: String,
    topic: Option<String>,
    role: &'static str,
    rooms_count: usize,
}

impl From<WorkspaceView> for Workspace {
    fn from(view: WorkspaceView) -> Self {
        Self {
            id: view.room_id,
            name: view.name.unwrap_or_default(),
            topic: view.topic,
            role: view.role.as_str(),
            rooms_count: view.rooms,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Member {
    participant_id: OwnedUserId,
    display_name: Option<String>,
    role: &'static str,
}

impl From<WorkspaceMember> for Member {
    fn from(member: WorkspaceMember) -> Self {
        Self { participant_id: member.user_id, display_name: member.display_name, role: member.role.as_str() }
    }
}

/// `GET /v1/workspaces`
pub(super) async fn list(
    Signed { actions, caller, .. }: Signed,
    Parameters(paging): Parameters<Paging>,
) -> Result<Answer<List<Workspace>>, V1Error> {
    let (offset, limit) = paging.read()?;
    let all = workspaces::list(&actions, &caller).await?;
    let total = all.len();
    Ok(List::json(all.into_iter().skip(offset).take(limit).map(Workspace::from).collect(), total))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    name: String,
    topic: Option<String>,
}

/// `POST /v1/workspaces`
pub(super) async fn create(Signed { actions, caller, .. }: Signed, body: Json<Create>) -> Result<Response, V1Error> {
    let Create { name, topic } = body.value;
    let made = workspaces::create(&actions, &caller, name, topic).await?;
    Ok((StatusCode::CREATED, Data::json(Workspace::from(made))).into_response())
}

/// `GET /v1/workspaces/{workspace_id}`
pub(super) async fn get(
    Signed { actions, caller, .. }: Signed,
    Ids(id): Ids<String>,
) -> Result<Answer<Data<Workspace>>, V1Error> {
    let id = workspace(&id)?;
    Ok(Data::json(Workspace::from(workspaces::get(&actions, &caller, id.as_str()).await?)))
}

/// `GET /v1/workspaces/{workspace_id}/members`
pub(super) async fn members(
    Signed { actions, caller, .. }: Signed,
    Ids(id): Ids<String>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Answer<List<Member>>, V1Error> {
    let (offset, limit) = paging.read()?;
    let id = workspace(&id)?;
    let (members, total) = workspaces::members(&actions, &caller, id.as_str(), offset, limit).await?;
    Ok(List::json(members.into_iter().map(Member::from).collect(), total))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Give {
    role: Word,
}

#[derive(Copy, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Owner,
    Editor,
    Viewer,
}

/// `PUT /v1/workspaces/{workspace_id}/members/{participant_id}`
pub(super) async fn set_member(
    Signed { actions, caller, .. }: Signed,
    Ids((id, participant)): Ids<(String, String)>,
    body: Json<Give>,
) -> Result<Answer<Data<Workspace>>, V1Error> {
    let role = match body.value.role {
        Word::Owner => Role::Owner,
        Word::Editor => Role::Editor,
        Word::Viewer => Role::Viewer,
    };
    let id = workspace(&id)?;
    let target = actions.parse_participant("participant_id", &participant)?;
    let changed = workspaces::set_member(&actions, &caller, id.as_str(), &target, role).await?;
    Ok(Data::json(Workspace::from(changed)))
}

/// `DELETE /v1/workspaces/{workspace_id}/members/{participant_id}`
pub(super) async fn remove_member(
    Signed { actions, caller, .. }: Signed,
    Ids((id, participant)): Ids<(String, String)>,
) -> Result<Answer<Data<Nothing>>, V1Error> {
    let id = workspace(&id)?;
    let target = actions.parse_participant("participant_id", &participant)?;
    workspaces::remove_member(&actions, &caller, id.as_str(), &target).await?;
    Ok(Data::json(Nothing {}))
}

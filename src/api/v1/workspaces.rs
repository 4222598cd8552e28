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
    wire::{Data, List, Nothing},
};
use crate::{
    actions::{
        ActionError, Page,
        workspaces::{self, Role, WorkspaceMember, WorkspaceView},
    },
    api::{
        body::{Json, Parameters, present},
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
    state: &'static str,
}

impl From<WorkspaceView> for Workspace {
    fn from(view: WorkspaceView) -> Self {
        Self {
            id: view.room_id,
            name: view.name.unwrap_or_default(),
            topic: view.topic,
            role: view.role.as_str(),
            rooms_count: view.rooms,
            state: view.state.as_str(),
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
    let window = paging.read()?;
    Ok(List::json(Page::of(workspaces::list(&actions, &caller).await?, window)))
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
    let id = workspaces::parse_id(&id)?;
    Ok(Data::json(Workspace::from(workspaces::get(&actions, &caller, id.as_str()).await?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    #[serde(default, deserialize_with = "present")]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    topic: Option<Option<String>>,
}

/// `PATCH /v1/workspaces/{workspace_id}`
pub(super) async fn change(
    Signed { actions, caller, .. }: Signed,
    Ids(id): Ids<String>,
    body: Json<Change>,
) -> Result<Answer<Data<Workspace>>, V1Error> {
    let (name, topic) = match (body.value.name, body.value.topic) {
        (None, None) => {
            return Err(ActionError::invalid("body", "names nothing to change; send `name` or `topic`").into());
        }
        (Some(None), _) => return Err(ActionError::invalid("name", "must be a text that is not blank").into()),
        (name, topic) => (name.flatten(), topic.map(Option::unwrap_or_default)),
    };
    let id = workspaces::parse_id(&id)?;
    let changed = workspaces::change(&actions, &caller, id.as_str(), name, topic).await?;
    Ok(Data::json(Workspace::from(changed)))
}

/// What became of a workspace that was to be deleted.
#[derive(Serialize)]
pub(super) struct Deleted {
    id: OwnedRoomId,
    state: &'static str,
}

/// `DELETE /v1/workspaces/{workspace_id}`
pub(super) async fn delete(
    Signed { actions, caller, .. }: Signed,
    Ids(id): Ids<String>,
) -> Result<Answer<Data<Deleted>>, V1Error> {
    let id = workspaces::parse_id(&id)?;
    let state = workspaces::delete(&actions, &caller, id.as_str()).await?.as_str();
    Ok(Data::json(Deleted { id, state }))
}

/// `GET /v1/workspaces/{workspace_id}/members`
pub(super) async fn members(
    Signed { actions, caller, .. }: Signed,
    Ids(id): Ids<String>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Answer<List<Member>>, V1Error> {
    let window = paging.read()?;
    let id = workspaces::parse_id(&id)?;
    Ok(List::json(workspaces::members(&actions, &caller, id.as_str(), window).await?))
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
    let id = workspaces::parse_id(&id)?;
    let target = actions.parse_participant("participant_id", &participant)?;
    let changed = workspaces::set_member(&actions, &caller, id.as_str(), &target, role).await?;
    Ok(Data::json(Workspace::from(changed)))
}

/// `DELETE /v1/workspaces/{workspace_id}/members/{participant_id}`
pub(super) async fn remove_member(
    Signed { actions, caller, .. }: Signed,
    Ids((id, participant)): Ids<(String, String)>,
) -> Result<Answer<Data<Nothing>>, V1Error> {
    let id = workspaces::parse_id(&id)?;
    let target = actions.parse_participant("participant_id", &participant)?;
    workspaces::remove_member(&actions, &caller, id.as_str(), &target).await?;
    Ok(Data::json(Nothing {}))
}

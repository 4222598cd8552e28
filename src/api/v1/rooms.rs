//! Rooms: making, finding, naming, moving, freezing.

use std::collections::BTreeMap;

use axum::{Json as Answer, extract::State, http::StatusCode};
use rules::kind::RoomKind;
use serde::{Deserialize, Serialize};

use super::{
    error::V1Error,
    path::Ids,
    wire::{Data, JoinAnswer, List, Room, RoomAnswer},
};
use crate::{
    actions::{
        ActionError, Actions, MadeThrough,
        creation::{self, NewRoom},
        direct,
        directory::{self, Search},
        lifecycle, numbers, permissions as permission, rooms, workspaces,
    },
    api::{
        ApiState,
        body::{self, Json, OptionalJson, Parameters},
        caller::Signed,
        calls::Deed,
        page::{self, Paging},
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    room_type: Kind,
    name: Option<String>,
    topic: Option<String>,
    alias: Option<String>,
    is_public: Option<bool>,
    workspace_id: Option<String>,
    scope_kind: Option<Scope>,
    invite: Option<Vec<String>>,
    members: Option<Vec<String>>,
    password: Option<String>,
    max_members: Option<u64>,
    federate: Option<bool>,
    room_version: Option<String>,
    avatar_url: Option<String>,
    transient: Option<bool>,
    allow_invites: Option<bool>,
    members_only: Option<bool>,
    custom: Option<String>,
}

#[derive(Copy, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Group,
    Public,
    Incognito,
    Dm,
}

impl From<Kind> for RoomKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Group => Self::Group,
            Kind::Public => Self::Public,
            Kind::Incognito => Self::Incognito,
            Kind::Dm => Self::Direct,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scope {
    Incognito,
}

impl Create {
    fn read(self, actions: &Actions) -> Result<NewRoom, ActionError> {
        let kind = RoomKind::from(self.room_type);
        let people = |field: &str, names: Option<Vec<String>>| -> Result<Vec<_>, ActionError> {
            names.unwrap_or_default().iter().map(|name| actions.parse_participant(field, name)).collect()
        };
        Ok(NewRoom {
            kind: Some(kind),
            is_incognito: kind == RoomKind::Incognito || self.scope_kind.is_some(),
            name: self.name,
            topic: self.topic,
            alias: self.alias,
            is_public: self.is_public,
            workspace_id: self.workspace_id.map(|id| workspaces::parse_id(&id)).transpose()?,
            invite: people("invite", self.invite)?,
            members: people("members", self.members)?,
            password: self.password,
            max_members: self.max_members,
            federate: self.federate,
            version: self.room_version,
            avatar_url: self.avatar_url,
            is_transient: self.transient.unwrap_or(false),
            allow_invites: self.allow_invites,
            members_only: self.members_only.unwrap_or(false),
            custom: self.custom,
            made_through: MadeThrough::Native,
        })
    }
}

/// `POST /v1/rooms`
pub(super) async fn create(
    State(state): State<ApiState>,
    Signed { actions, caller, .. }: Signed,
    body: Json<Create>,
) -> Result<RoomAnswer, V1Error> {
    let new = body.value.read(&actions)?;
    state.limits.deeds_of(&caller.user_id, Deed::Invite, new.invite.len() + new.members.len())?;
    let room_id = creation::create(&actions, &caller, new).await?;
    Ok(RoomAnswer(rooms::details(&actions, &caller, room_id.as_str()).await?, StatusCode::CREATED))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Direct {
    participant_id: String,
}

/// `POST /v1/rooms/dm`
pub(super) async fn direct(Signed { actions, caller, .. }: Signed, body: Json<Direct>) -> Result<JoinAnswer, V1Error> {
    let partner = actions.parse_participant("participant_id", &body.value.participant_id)?;
    let found = match direct::open(&actions, &caller, &partner).await {
        // The partner's invite is accepted, and his server takes its time.
        Err(underway @ ActionError::Underway { .. }) => return Ok(JoinAnswer::of(Err(underway))?),
        found => found?,
    };
    let status = if found.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let room = rooms::details(&actions, &caller, found.room_id.as_str()).await?;
    Ok(JoinAnswer::Room(RoomAnswer(room, status)))
}

/// `GET /v1/rooms/{room_id}`
pub(super) async fn get(Signed { actions, caller, .. }: Signed, Ids(room): Ids<String>) -> Result<RoomAnswer, V1Error> {
    Ok(RoomAnswer::found(rooms::details(&actions, &caller, &room).await?))
}

/// `GET /v1/rooms`
pub(super) async fn own(
    Signed { actions, caller, .. }: Signed,
    Parameters(paging): Parameters<Paging>,
) -> Result<Answer<List<Room>>, V1Error> {
    Ok(List::json(rooms::own(&actions, &caller, paging.read()?).await?))
}

/// `GET /v1/rooms/archived`
pub(super) async fn archived(
    Signed { actions, caller, .. }: Signed,
    Parameters(paging): Parameters<Paging>,
) -> Result<Answer<List<Room>>, V1Error> {
    Ok(List::json(rooms::archived(&actions, &caller, paging.read()?).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Find {
    q: Option<String>,
    room_type: Option<Kind>,
    limit: Option<i64>,
    offset: Option<i64>,
}

/// `GET /v1/directory/rooms`
pub(super) async fn directory(
    Signed { actions, caller, .. }: Signed,
    Parameters(find): Parameters<Find>,
) -> Result<Answer<List<Room>>, V1Error> {
    let window = page::window(find.offset, find.limit)?;
    let search = Search { text: page::search(find.q)?, kind: find.room_type.map(RoomKind::from) };
    Ok(List::json(directory::list(&actions, &caller, &search, window).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Name {
    name: String,
}

/// `PUT /v1/rooms/{room_id}/name`
pub(super) async fn set_name(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    body: Json<Name>,
) -> Result<RoomAnswer, V1Error> {
    Ok(RoomAnswer::found(rooms::set_name(&actions, &caller, &room, &body.value.name).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Topic {
    topic: String,
}

/// `PUT /v1/rooms/{room_id}/topic`
pub(super) async fn set_topic(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    body: Json<Topic>,
) -> Result<RoomAnswer, V1Error> {
    Ok(RoomAnswer::found(rooms::set_topic(&actions, &caller, &room, &body.value.topic).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Workspace {
    workspace_id: String,
}

/// `PUT /v1/rooms/{room_id}/workspace`
pub(super) async fn set_workspace(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    body: Json<Workspace>,
) -> Result<RoomAnswer, V1Error> {
    Ok(RoomAnswer::found(rooms::set_workspace(&actions, &caller, &room, &body.value.workspace_id).await?))
}

/// A room's number.
#[derive(Serialize)]
pub(super) struct Number {
    number: u64,
}

/// `GET /v1/rooms/{room_id}/number`
pub(super) async fn number(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
) -> Result<Answer<Data<Number>>, V1Error> {
    let room = rooms::details(&actions, &caller, &room).await?;
    Ok(Data::json(Number { number: numbers::of_room(&actions, &room.room_id).await? }))
}

/// A reason, which may be left out.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    #[serde(default, deserialize_with = "body::reason")]
    reason: Option<String>,
}

/// `POST /v1/rooms/{room_id}/close`
pub(super) async fn close(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    OptionalJson(why): OptionalJson<Why>,
) -> Result<RoomAnswer, V1Error> {
    Ok(RoomAnswer::found(lifecycle::close(&actions, &caller, &room, why.reason).await?))
}

/// `POST /v1/rooms/{room_id}/archive`
pub(super) async fn archive(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    OptionalJson(why): OptionalJson<Why>,
) -> Result<RoomAnswer, V1Error> {
    Ok(RoomAnswer::found(lifecycle::archive(&actions, &caller, &room, why.reason).await?))
}

/// `POST /v1/rooms/{room_id}/rejoin`
pub(super) async fn rejoin(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    _: OptionalJson<super::accounts::Empty>,
) -> Result<RoomAnswer, V1Error> {
    Ok(RoomAnswer::found(lifecycle::rejoin(&actions, &caller, &room).await?))
}

/// What the caller may do, or why not.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Permission {
    Allowed { allowed: bool },
    Denied { allowed: bool, reason: &'static str, message: String },
}

/// `GET /v1/rooms/{room_id}/permissions`
pub(super) async fn permissions(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
) -> Result<Answer<Data<BTreeMap<&'static str, Permission>>>, V1Error> {
    let all = permission::of(&actions, &caller, &room).await?;
    let written = all.into_iter().map(|(act, outcome)| {
        let permission = match outcome {
            Ok(()) => Permission::Allowed { allowed: true },
            Err(denial) => {
                Permission::Denied { allowed: false, reason: denial.reason.as_str(), message: denial.message }
            }
        };
        (act.as_str(), permission)
    });
    Ok(Data::json(written.collect()))
}

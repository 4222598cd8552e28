//! The calls of this dialect.

use axum::{
    Json as Answer,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use ruma::OwnedUserId;
use serde::Deserialize;

use super::{
    Named, Visitor,
    error::RyosError,
    wire::{self, ACTIVE_MS, OneRoom, Room, Rooms, Success, User, Users},
};
use crate::{
    actions::{ActionError, presence, ryos_rooms, texts::NAME_CHARACTERS_MAX, visitors},
    api::{ApiState, body::Json, calls::Deed},
};

/// `GET /api/rooms`
pub(super) async fn list(Visitor { actions, caller }: Visitor) -> Result<Answer<Rooms>, RyosError> {
    let sights = visitors::list(&actions, caller.as_ref()).await?;
    let mut rooms = Vec::with_capacity(sights.len());
    for sight in &sights {
        rooms.push(Room::of(&actions, sight).await?);
    }
    Ok(Answer(Rooms { rooms }))
}

#[derive(Deserialize)]
pub(super) struct Create {
    #[serde(rename = "type")]
    kind: Option<String>,
    members: Option<Vec<String>>,
    name: Option<String>,
}

/// `POST /api/rooms`
pub(super) async fn create(
    State(state): State<ApiState>,
    Named { actions, caller }: Named,
    body: Json<Create>,
) -> Result<Response, RyosError> {
    let Create { kind, members, name } = body.value;
    let room_id = match kind.as_deref() {
        Some("public") => {
            let name = name.filter(|name| !name.trim().is_empty());
            let name = name.ok_or_else(|| RyosError::invalid("Room name is required for public rooms"))?;
            ryos_rooms::create_public(&actions, &caller, name).await?
        }
        Some("private") => {
            let named = members.filter(|members| !members.is_empty());
            let named = named.ok_or_else(|| RyosError::invalid("At least one member is required for private rooms"))?;
            let mut people: Vec<OwnedUserId> =
                named.iter().map(|name| wire::person(&actions, "members", name)).collect::<Result<_, _>>()?;
            people.push(caller.user_id.clone());
            let mut names: Vec<String> = people.iter().map(|user_id| wire::username(&actions, user_id)).collect();
            names.sort();
            names.dedup();
            let name = wire::private_name(&names).chars().take(NAME_CHARACTERS_MAX).collect();
            people.retain(|user_id| *user_id != caller.user_id);
            state.limits.deeds_of(&caller.user_id, Deed::Invite, people.len())?;
            ryos_rooms::create_private(&actions, &caller, name, people).await?
        }
        _ => return Err(RyosError::invalid("Invalid room type")),
    };
    let sight = visitors::look(&actions, Some(&caller), room_id.as_str()).await?;
    let room = Room::of(&actions, &sight).await?;
    Ok((StatusCode::CREATED, Answer(OneRoom { room })).into_response())
}

/// The id in a path. What is no text names no room.
fn id(path: Result<Path<String>, axum::extract::rejection::PathRejection>) -> Result<String, RyosError> {
    path.map(|Path(id)| id).map_err(|_no_text| ActionError::RoomNotFound.into())
}

type Id = Result<Path<String>, axum::extract::rejection::PathRejection>;

/// `GET /api/rooms/{id}`
pub(super) async fn get(Visitor { actions, caller }: Visitor, room: Id) -> Result<Answer<OneRoom>, RyosError> {
    let sight = visitors::look(&actions, caller.as_ref(), &id(room)?).await?;
    Ok(Answer(OneRoom { room: Room::of(&actions, &sight).await? }))
}

/// `DELETE /api/rooms/{id}`
pub(super) async fn remove(Named { actions, caller }: Named, room: Id) -> Result<Answer<Success>, RyosError> {
    ryos_rooms::remove(&actions, &caller, &id(room)?).await?;
    Ok(Answer(Success { success: true }))
}

#[derive(Deserialize)]
pub(super) struct Who {
    username: String,
}

/// `POST /api/rooms/{id}/join`
pub(super) async fn join(
    Named { actions, caller }: Named,
    room: Id,
    body: Json<Who>,
) -> Result<Answer<Success>, RyosError> {
    wire::must_be(&actions, &body.value.username, &caller)?;
    ryos_rooms::join(&actions, &caller, &id(room)?).await?;
    Ok(Answer(Success { success: true }))
}

/// `POST /api/rooms/{id}/leave`
pub(super) async fn leave(
    Named { actions, caller }: Named,
    room: Id,
    body: Json<Who>,
) -> Result<Answer<Success>, RyosError> {
    wire::must_be(&actions, &body.value.username, &caller)?;
    ryos_rooms::leave(&actions, &caller, &id(room)?).await?;
    Ok(Answer(Success { success: true }))
}

/// `GET /api/rooms/{id}/users`
pub(super) async fn users(Visitor { actions, caller }: Visitor, room: Id) -> Result<Answer<Users>, RyosError> {
    let active = presence::active_within(&actions, caller.as_ref(), &id(room)?, ACTIVE_MS).await?;
    Ok(Answer(Users {
        users: active.iter().take(visitors::MEMBERS_MAX).map(|member| User::of(&actions, member)).collect(),
    }))
}

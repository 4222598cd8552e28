//! The rooms of the caller, and their pictures.

use axum::{Json as Answer, response::Response};
use rules::{kind::RoomState, permission::Membership};
use serde::Serialize;

use super::error::{RoomNumber, VirolaError};
use crate::{
    actions::{
        ActionError, Actions, Caller, Window, avatars, numbers,
        rooms::{self, RoomDetails},
        timeline::numbered,
        visitors,
    },
    api::{
        caller::Signed,
        file::{self, Wanted},
    },
};

/// Rooms of one answer.
const ROOMS_MAX: usize = 10_000;
/// The level from which somebody is called a moderator.
const MODERATOR_LEVEL: i64 = 50;

/// The rooms of the caller.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rooms {
    http_status_code: u16,
    rooms: Vec<Room>,
}

/// A room.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Room {
    created_utc: u64,
    display_name: String,
    last_modified_utc: u64,
    room_id: u64,
    room_type: &'static str,
    unread_message_count: u64,
    is_archived: bool,
    is_moderator: bool,
    is_pinned: bool,
    last_message: Option<LastMessage>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LastMessage {
    created_utc: u64,
    message_id: u64,
}

impl Room {
    async fn of(actions: &Actions, caller: &Caller, room: RoomDetails) -> Result<Self, ActionError> {
        let summary = &room.view.summary;
        let newest = numbered::newest(actions, caller, room.room_id.as_str(), &room.view).await?;
        Ok(Self {
            created_utc: summary.created_at.0,
            display_name: display_name(actions, caller, &room).await?,
            last_modified_utc: summary.modified_at.0,
            room_id: numbers::of_room(actions, &room.room_id).await?,
            room_type: if room.is_public { "Public" } else { "Private" },
            unread_message_count: room.personal.unread,
            is_archived: summary.state != RoomState::Open,
            is_moderator: room.power_level >= MODERATOR_LEVEL,
            is_pinned: room.personal.pinned,
            last_message: newest.map(|(message_id, at)| LastMessage { created_utc: at.0, message_id }),
        })
    }
}

/// The name of a room; without one, the names of the others in it.
async fn display_name(actions: &Actions, caller: &Caller, room: &RoomDetails) -> Result<String, ActionError> {
    if let Some(name) = &room.view.summary.name {
        return Ok(name.clone());
    }
    let members = visitors::look(actions, Some(caller), room.room_id.as_str()).await?.members(actions).await?;
    let others = members.iter().filter(|user_id| **user_id != caller.user_id || members.len() == 1);
    let names: Vec<&str> = others.map(|user_id| user_id.localpart()).take(visitors::NAMES_MAX).collect();
    Ok(names.join(", "))
}

/// `GET /api/v1/rooms`
pub(super) async fn list(Signed { actions, caller, .. }: Signed) -> Result<Answer<Rooms>, VirolaError> {
    let own = rooms::own(&actions, &caller, Window { offset: 0, limit: ROOMS_MAX }).await?;
    let mut rooms = Vec::with_capacity(own.entries.len());
    for room in own.entries.into_iter().filter(|room| room.membership == Membership::Join) {
        rooms.push(Room::of(&actions, &caller, room).await?);
    }
    Ok(Answer(Rooms { http_status_code: 200, rooms }))
}

/// `GET /api/v1/rooms/{roomId}/avatar.jpg`
pub(super) async fn avatar(
    Signed { actions, caller, .. }: Signed,
    RoomNumber(room): RoomNumber,
    wanted: Wanted,
) -> Result<Response, VirolaError> {
    let found = avatars::find(&actions, &caller, &room.to_string(), None).await?;
    file::answer(&actions, &found, &wanted).await
}

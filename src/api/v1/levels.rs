//! Power levels of a room and of one member.

use serde::Deserialize;

use super::{error::V1Error, path::Ids, wire::RoomAnswer};
use crate::{
    actions::levels,
    api::{body::Json, caller::Signed},
};

/// `PUT /v1/rooms/{room_id}/power-levels`
pub(super) async fn set(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    body: Json<serde_json::Map<String, serde_json::Value>>,
) -> Result<RoomAnswer, V1Error> {
    Ok(RoomAnswer::found(levels::set(&actions, &caller, &room, body.value).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Level {
    power_level: i64,
}

/// `PUT /v1/rooms/{room_id}/members/{participant_id}/power-level`
pub(super) async fn set_member(
    Signed { actions, caller, .. }: Signed,
    Ids((room, participant)): Ids<(String, String)>,
    body: Json<Level>,
) -> Result<RoomAnswer, V1Error> {
    let target = actions.parse_participant("participant_id", &participant)?;
    let level = body.value.power_level;
    Ok(RoomAnswer::found(levels::set_member(&actions, &caller, &room, &target, level).await?))
}

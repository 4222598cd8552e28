//! The public rooms of other servers.

use axum::Json as Answer;
use ruma::OwnedRoomId;
use serde::{Deserialize, Serialize};

use super::{error::V1Error, path::Name};
use crate::{
    actions::directory::{self, PublicRoom},
    api::{body::Parameters, caller::Signed, page},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Find {
    q: Option<String>,
    limit: Option<i64>,
    from: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Rooms {
    data: Vec<RoomElsewhere>,
    meta: Meta,
}

#[derive(Serialize)]
struct Meta {
    next_cursor: Option<String>,
    has_more: bool,
    total: Option<u64>,
}

#[derive(Serialize)]
struct RoomElsewhere {
    id: OwnedRoomId,
    room_alias: Option<String>,
    name: Option<String>,
    topic: Option<String>,
    avatar_url: Option<String>,
    members_count: u64,
    join_rule: String,
    is_readable: bool,
    is_space: bool,
}

impl From<PublicRoom> for RoomElsewhere {
    fn from(room: PublicRoom) -> Self {
        Self {
            id: room.room_id,
            room_alias: room.canonical_alias,
            name: room.name,
            topic: room.topic,
            avatar_url: room.avatar_url,
            members_count: room.joined,
            join_rule: room.join_rule.unwrap_or_else(|| "public".to_owned()),
            is_readable: room.world_readable,
            is_space: room.room_type.as_deref() == Some("m.space"),
        }
    }
}

/// `GET /v1/directory/servers/{server}/rooms`
pub(super) async fn of_server(
    Signed { actions, caller, .. }: Signed,
    Name(server): Name,
    Parameters(find): Parameters<Find>,
) -> Result<Answer<Rooms>, V1Error> {
    let (text, limit) = (page::search(find.q)?, page::limit_of(find.limit)?);
    let page = directory::of_server(&actions, &caller, &server, text, find.from, limit).await?;
    let meta = Meta { has_more: page.next.is_some(), next_cursor: page.next, total: page.total };
    Ok(Answer(Rooms { data: page.rooms.into_iter().map(RoomElsewhere::from).collect(), meta }))
}

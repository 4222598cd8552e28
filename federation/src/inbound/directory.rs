//! Which rooms peers find here: the published ones, and those of a space.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use ruma::OwnedRoomId;

use super::{
    answer,
    authentication::Peer,
    error::Failure,
    json::{Json, Object},
    request::{Path, Query},
};
use crate::{
    Refusal,
    limits::{PUBLIC_ROOMS_MAX, ROOM_TYPES_MAX, SEARCH_BYTES_MAX},
    local::{Local, PublicRooms, PublicSearch},
};

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1publicrooms>
pub(crate) async fn public_rooms<L: Local>(
    State(local): State<Arc<L>>,
    peer: Peer,
    query: Query,
) -> Result<Response, Failure> {
    let search = PublicSearch {
        since: bounded(query.one("since"))?,
        rooms_max: rooms_max(query.read::<u64>("limit")?),
        ..PublicSearch::default()
    };
    tell(&*local, &peer, search, query.one("third_party_instance_id").is_some()).await
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1publicrooms>
pub(crate) async fn search_public_rooms<L: Local>(
    State(local): State<Arc<L>>,
    peer: Peer,
) -> Result<Response, Failure> {
    let content = peer.content()?;
    let filter = match content.get("filter") {
        None | Some(Json::Null) => None,
        Some(filter) => Some(filter.as_object().ok_or(Failure::BadJson("`filter` is not an object"))?),
    };
    let limit = match content.get("limit") {
        None | Some(Json::Null) => None,
        Some(limit) => {
            let limit = limit.as_integer().and_then(|limit| u64::try_from(limit).ok());
            Some(limit.ok_or(Refusal::Invalid("limit"))?)
        }
    };
    let text = filter.and_then(|filter| filter.text("generic_search_term"));
    let search = PublicSearch {
        text: bounded(text.filter(|text| !text.is_empty()))?,
        room_types: filter.map(room_types).transpose()?.flatten(),
        since: bounded(content.text("since"))?,
        rooms_max: rooms_max(limit),
    };
    tell(&*local, &peer, search, content.text("third_party_instance_id").is_some()).await
}

/// There are no rooms of other networks here.
async fn tell<L: Local>(
    local: &L,
    peer: &Peer,
    search: PublicSearch,
    is_of_other_network: bool,
) -> Result<Response, Failure> {
    let page = match is_of_other_network {
        true => PublicRooms { total: Some(0), ..PublicRooms::default() },
        false => local.public_rooms(&peer.origin, search).await?,
    };
    Ok(answer::ok(&page))
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>
pub(crate) async fn hierarchy<L: Local>(
    State(local): State<Arc<L>>,
    peer: Peer,
    Path((room_id,)): Path<(OwnedRoomId,)>,
    query: Query,
) -> Result<Response, Failure> {
    let suggested_only = query.read::<bool>("suggested_only")?.unwrap_or(false);
    Ok(answer::ok(&local.hierarchy(&peer.origin, &room_id, suggested_only).await?))
}

fn rooms_max(limit: Option<u64>) -> usize {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
    limit.unwrap_or(PUBLIC_ROOMS_MAX).min(PUBLIC_ROOMS_MAX)
}

fn bounded(text: Option<&str>) -> Result<Option<String>, Refusal> {
    if text.is_some_and(|text| text.len() > SEARCH_BYTES_MAX) {
        return Err(Refusal::Invalid("a text to search for is too long"));
    }
    Ok(text.map(str::to_owned))
}

/// The types of rooms that a filter names, null for rooms without one.
fn room_types(filter: &Object) -> Result<Option<Vec<Option<String>>>, Failure> {
    let list = match filter.get("room_types") {
        None | Some(Json::Null) => return Ok(None),
        Some(list) => list.as_list().ok_or(Failure::BadJson("`room_types` is not a list"))?,
    };
    if list.len() > ROOM_TYPES_MAX {
        return Err(Refusal::Invalid("room_types").into());
    }
    let read = |entry: &Json| match entry {
        Json::Null => Ok(None),
        Json::Text(text) => Ok(Some(text.to_string())),
        _ => Err(Failure::BadJson("`room_types` holds something else than texts and null")),
    };
    list.iter().map(read).collect::<Result<_, _>>().map(Some)
}

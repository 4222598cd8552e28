//! Media and the pictures of rooms: raw bodies in, files out.

use axum::{
    body::{Body, BodyDataStream},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::{
    error::V1Error,
    path::Ids,
    wire::{Data, RoomAnswer},
};
use crate::{
    actions::{
        ActionError, avatars,
        media::{self, NewMedium},
    },
    api::{
        body::Parameters,
        caller::Signed,
        file::{self, Wanted},
    },
};

#[derive(Serialize)]
struct Medium {
    sha256: String,
    mxc: String,
    size: u64,
    content_type: String,
    name: Option<String>,
}

impl From<NewMedium> for Medium {
    fn from(medium: NewMedium) -> Self {
        let NewMedium { sha256, mxc, info } = medium;
        Self { sha256, mxc, size: info.size, content_type: info.content_type, name: info.name }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    name: Option<String>,
}

/// `POST /v1/media`
pub(super) async fn upload(
    Signed { actions, caller, .. }: Signed,
    Parameters(named): Parameters<Named>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, V1Error> {
    let body = streamed(&headers, body, actions.media.upload_bytes_max)?;
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| {
        value.to_str().map_err(|_bytes| ActionError::invalid("Content-Type", "must be a MIME type such as image/png"))
    });
    let kept = media::upload(&actions, &caller, body, named.name.as_deref(), content_type.transpose()?).await?;
    Ok((StatusCode::CREATED, Data::json(Medium::from(kept))).into_response())
}

/// The body as it comes in; one that is announced too large is refused before any of it is read.
fn streamed(headers: &HeaderMap, body: Body, bytes_max: u64) -> Result<BodyDataStream, ActionError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced > bytes_max) {
        return Err(ActionError::ContentTooLarge(format!("at most {bytes_max} bytes")));
    }
    Ok(body.into_data_stream())
}

/// `GET /v1/media/{sha256}`
pub(super) async fn get(
    Signed { actions, caller, .. }: Signed,
    id: Result<Ids<String>, V1Error>,
    wanted: Wanted,
) -> Result<Response, V1Error> {
    let Ids(sha256) = id.map_err(|_no_text| ActionError::MediaNotFound)?;
    let found = media::find(&actions, &caller, None, &sha256).await?;
    file::answer(&actions, &found, &wanted).await
}

/// `GET /v1/media/{server}/{media_id}`
pub(super) async fn get_of(
    Signed { actions, caller, .. }: Signed,
    ids: Result<Ids<(String, String)>, V1Error>,
    wanted: Wanted,
) -> Result<Response, V1Error> {
    let Ids((server, id)) = ids.map_err(|_no_text| ActionError::MediaNotFound)?;
    let found = media::find(&actions, &caller, Some(&server), &id).await?;
    file::answer(&actions, &found, &wanted).await
}

/// `PUT /v1/rooms/{room_id}/avatar`
pub(super) async fn set_avatar(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<RoomAnswer, V1Error> {
    let body = streamed(&headers, body, avatars::AVATAR_BYTES_MAX)?;
    Ok(RoomAnswer::found(avatars::set(&actions, &caller, &room, body).await?))
}

/// `DELETE /v1/rooms/{room_id}/avatar`
pub(super) async fn remove_avatar(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
) -> Result<RoomAnswer, V1Error> {
    Ok(RoomAnswer::found(avatars::remove(&actions, &caller, &room).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sized {
    size: Option<i64>,
}

/// `GET /v1/rooms/{room_id}/avatar`
pub(super) async fn avatar(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    Parameters(sized): Parameters<Sized>,
    wanted: Wanted,
) -> Result<Response, V1Error> {
    let found = avatars::find(&actions, &caller, &room, sized.size).await?;
    file::answer(&actions, &found, &wanted).await
}

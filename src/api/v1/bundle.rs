//! Rooms as bundles: one out, one in.

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;

use super::{error::V1Error, path::Ids};
use crate::{
    actions::bundle::{self, Content, Export, Whose},
    api::{
        body::Parameters,
        caller::{Admin, Signed},
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    media: Option<bool>,
    personal: Option<bool>,
}

/// `GET /v1/rooms/{room_id}/export`
pub(super) async fn export(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    Parameters(wanted): Parameters<Wanted>,
) -> Result<Response, V1Error> {
    let personal = if wanted.personal == Some(true) { Whose::Own } else { Whose::Nobodys };
    let content = Content { media: wanted.media.unwrap_or(true), personal };
    Ok(streamed(bundle::export(&actions, &caller, &room, content).await?))
}

/// `GET /v1/admin/rooms/{room_id}/export`
pub(super) async fn export_as_admin(
    Admin { actions, caller }: Admin,
    Ids(room): Ids<String>,
    Parameters(wanted): Parameters<Wanted>,
) -> Result<Response, V1Error> {
    let personal = if wanted.personal == Some(true) { Whose::Everybodys } else { Whose::Nobodys };
    let content = Content { media: wanted.media.unwrap_or(true), personal };
    Ok(streamed(bundle::export_as_admin(&actions, &caller, &room, content).await?))
}

fn streamed(export: Export) -> Response {
    let mut response = Body::from_stream(export.into_stream()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"room.zip\""));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

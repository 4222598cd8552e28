//! Files of this server, in the two parts that peers expect: metadata and bytes.
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#content-repository>

use std::{io, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{
    HeaderName, HeaderValue,
    header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    OurServer,
    authentication::Peer,
    error::Failure,
    request::{Path, Query},
};
use crate::{
    Refusal,
    limits::{MEDIA_ID_BYTES_MAX, MEDIA_NAME_BYTES_MAX, THUMBNAIL_PIXELS_MAX},
    local::{Local, Medium, ThumbnailSize},
};

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1mediadownloadmediaid>
pub(crate) async fn download<L: Local>(
    State(local): State<Arc<L>>,
    State(us): State<OurServer>,
    peer: Peer,
    Path((media_id,)): Path<(String,)>,
) -> Result<Response, Failure> {
    check_id(&media_id)?;
    let medium = local.medium(&peer.origin, &media_id).await?;
    Ok(two_parts(medium, (us.random)()))
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1mediathumbnailmediaid>
pub(crate) async fn thumbnail<L: Local>(
    State(local): State<Arc<L>>,
    State(us): State<OurServer>,
    peer: Peer,
    Path((media_id,)): Path<(String,)>,
    query: Query,
) -> Result<Response, Failure> {
    check_id(&media_id)?;
    let pixels = |name: &'static str| -> Result<u32, Failure> {
        let pixels: u32 = query.read(name)?.ok_or(Failure::Missing(name))?;
        if pixels == 0 { Err(Refusal::Invalid(name).into()) } else { Ok(pixels.min(THUMBNAIL_PIXELS_MAX)) }
    };
    let crop = match query.one("method") {
        None | Some("scale") => false,
        Some("crop") => true,
        Some(_) => return Err(Refusal::Invalid("method").into()),
    };
    let size = ThumbnailSize { width: pixels("width")?, height: pixels("height")?, crop };
    let medium = local.thumbnail(&peer.origin, &media_id, size).await?;
    Ok(two_parts(medium, (us.random)()))
}

/// An id of a medium is a plain word before it comes near a file name.
fn check_id(media_id: &str) -> Result<(), Refusal> {
    let is_plain = media_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let is_id = is_plain && !media_id.is_empty() && media_id.len() <= MEDIA_ID_BYTES_MAX;
    if is_id { Ok(()) } else { Err(Refusal::NotFound) }
}

/// Types that a browser shows without running anything in them.
const SHOWN_TYPES: [&str; 12] = [
    "audio/aac",
    "audio/mp4",
    "audio/mpeg",
    "audio/ogg",
    "audio/webm",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
    "text/plain",
    "video/mp4",
    "video/webm",
];

/// All but letters, digits and what RFC 8187 leaves as it is.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');

/// The answer: both delimiters and the closing one, lines ended by CRLF, no header in the first part but its type. Nobody can
/// guess the boundary, so no file holds it.
fn two_parts(medium: Medium, random: u128) -> Response {
    let boundary = format!("{random:032x}");
    let is_type = HeaderValue::from_str(&medium.content_type).is_ok() && medium.content_type.is_ascii();
    let content_type = if is_type { medium.content_type.as_str() } else { "application/octet-stream" };
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let shown = if SHOWN_TYPES.contains(&essence.as_str()) { "inline" } else { "attachment" };
    let name = medium.name.filter(|name| !name.is_empty() && name.len() <= MEDIA_NAME_BYTES_MAX);
    let name = name.map(|name| format!("; filename*=utf-8''{}", utf8_percent_encode(&name, NAME)));
    let disposition = format!("{shown}{}", name.unwrap_or_default());
    let head = format!(
        "--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n\
         --{boundary}\r\nContent-Type: {content_type}\r\nContent-Disposition: {disposition}\r\n\r\n"
    );
    let close = format!("\r\n--{boundary}--\r\n");
    let piece = |text: String| stream::iter([Ok::<_, io::Error>(Bytes::from(text))]);
    let body = Body::from_stream(piece(head).chain(medium.body).chain(piece(close)));
    let headers: [(HeaderName, HeaderValue); 2] = [
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, [(CONTENT_TYPE, format!("multipart/mixed; boundary={boundary}"))], body).into_response()
}

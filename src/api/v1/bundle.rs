//! Rooms as bundles: one out, one in.

use std::collections::BTreeMap;

use axum::{
    body::Body,
    extract::{
        DefaultBodyLimit, Multipart, Request,
        multipart::{Field, MultipartError},
    },
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use ruma::{OwnedEventId, OwnedRoomId};
use serde::{Deserialize, Serialize};

use super::{V1, error::V1Error, path::Ids, wire::Data};
use crate::{
    actions::{
        ActionError, Actions, Caller,
        audit::Actor,
        bundle::{
            self, Answered, Content, EventsTold, Export, Imported, MediaTold, Options, Outcome, PeopleTold,
            RejectedEvent, Spooled, Whose,
        },
        workspaces,
    },
    api::{
        body::{self, Parameters},
        caller::{Admin, Signed},
        error::{Problem, ProblemKind},
    },
};

/// Bytes of the field `options`.
const OPTIONS_BYTES_MAX: usize = 64 * 1024;

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
    let actor = Actor::Admin(&caller.user_id);
    Ok(streamed(bundle::export_as_admin(&actions, &caller, actor, &room, content).await?))
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

/// What whoever imports wants, as they write it.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wishes {
    dry_run: bool,
    accept_bundle_keys: bool,
    workspace_id: Option<String>,
    participants: BTreeMap<String, String>,
    same_names: bool,
}

impl Wishes {
    fn read(self, actions: &Actions) -> Result<Options, ActionError> {
        let Self { dry_run, accept_bundle_keys, workspace_id, participants, same_names } = self;
        let workspace_id = workspace_id.as_deref().map(workspaces::parse_id).transpose()?;
        let participants = participants.iter().map(|(old, new)| {
            let parsed = |name: &str| actions.parse_participant("participants", name);
            Ok((parsed(old)?, parsed(new)?))
        });
        let participants = participants.collect::<Result<_, ActionError>>()?;
        Ok(Options { dry_run, accept_bundle_keys, workspace_id, participants, same_names })
    }
}

#[derive(Serialize)]
struct Taken {
    id: OwnedRoomId,
    room_alias: Option<String>,
    outcome: &'static str,
    origin_room_id: OwnedRoomId,
    events: Events,
    media: Media,
    participants: People,
}

#[derive(Serialize)]
struct Events {
    total: u64,
    stored: u64,
    known: u64,
    rejected: Vec<Rejected>,
}

#[derive(Serialize)]
struct Rejected {
    event_id: OwnedEventId,
    reason: String,
}

#[derive(Serialize)]
struct Media {
    stored: u64,
    known: u64,
}

#[derive(Serialize)]
struct People {
    mapped: u64,
    former: u64,
    locked: u64,
}

#[derive(Serialize)]
struct Begun {
    job_id: String,
}

impl From<Imported> for Taken {
    fn from(imported: Imported) -> Self {
        let Imported { id, room_alias, outcome, origin_room_id, events, media, participants, .. } = imported;
        let EventsTold { total, stored, known, rejected } = events;
        let rejected = rejected.into_iter().map(|RejectedEvent { event_id, reason }| Rejected { event_id, reason });
        let (MediaTold { stored: media_stored, known: media_known }, PeopleTold { mapped, former, locked }) =
            (media, participants);
        Self {
            id,
            room_alias,
            outcome: match outcome {
                Outcome::Merged => "merged",
                Outcome::Restored => "restored",
                Outcome::Succeeded => "succeeded",
            },
            origin_room_id,
            events: Events { total, stored, known, rejected: rejected.collect() },
            media: Media { stored: media_stored, known: media_known },
            participants: People { mapped, former, locked },
        }
    }
}

/// `POST /v1/rooms/import`
pub(super) async fn import(
    Signed { actions, caller, .. }: Signed,
    axum::extract::State(dialect): axum::extract::State<V1>,
    mut request: Request,
) -> Result<Response, V1Error> {
    // The file is spooled as it comes, and has a bound of its own.
    DefaultBodyLimit::disable().apply(&mut request);
    let parts = <Multipart as axum::extract::FromRequest<V1>>::from_request(request, &dialect).await;
    let mut parts = parts.map_err(|rejection| {
        Problem::new(ProblemKind::ContentType, format!("send the bundle as multipart/form-data: {rejection}"))
    })?;
    let (mut spooled, mut wishes) = (None, None);
    while let Some(field) = parts.next_field().await.map_err(broken)? {
        match field.name() {
            Some("bundle") if spooled.is_none() => spooled = Some(take_in(&actions, &caller, field).await?),
            Some("options") if wishes.is_none() => wishes = Some(read_wishes(field).await?),
            other => {
                let name = other.unwrap_or_default().to_owned();
                let problem = "there is one field `bundle` with the file, and at most one field `options`";
                return Err(ActionError::invalid(name, problem).into());
            }
        }
    }
    let spooled = spooled.ok_or_else(|| ActionError::invalid("bundle", "the file is missing"))?;
    let options = wishes.unwrap_or_default().read(&actions)?;
    let answered = bundle::import(&actions, &caller, spooled, options).await?;
    Ok(match answered {
        Answered::Done(imported) => {
            let status = if imported.created { StatusCode::CREATED } else { StatusCode::OK };
            (status, Data::json(Taken::from(*imported))).into_response()
        }
        Answered::Later(job_id) => (StatusCode::ACCEPTED, Data::json(Begun { job_id })).into_response(),
    })
}

async fn take_in(actions: &Actions, caller: &Caller, field: Field<'_>) -> Result<Spooled, ActionError> {
    bundle::spool(actions, caller, Box::pin(field)).await
}

async fn read_wishes(mut field: Field<'_>) -> Result<Wishes, V1Error> {
    let mut text = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(broken)? {
        text.extend_from_slice(&piece);
        if text.len() > OPTIONS_BYTES_MAX {
            return Err(ActionError::invalid("options", format!("at most {OPTIONS_BYTES_MAX} bytes")).into());
        }
    }
    Ok(body::read(&text)?)
}

fn broken(error: MultipartError) -> ActionError {
    ActionError::invalid("body", error.body_text())
}

//! The caller's own account: sessions, password, the end.

use std::net::SocketAddr;

use axum::{
    Json as Answer,
    extract::{ConnectInfo, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::{
    error::V1Error,
    path::Name,
    wire::{Data, List, Nothing},
};
use crate::{
    actions::{
        Page, accounts, deactivation,
        sessions::{self, SessionView},
    },
    api::{
        ApiState,
        body::{Json, Parameters},
        caller::{Signed, clear_cookie},
        page::Paging,
        time,
    },
};

#[derive(Serialize)]
pub(super) struct Session {
    id: String,
    name: String,
    created_at: String,
    last_used_at: String,
    expires_at: Option<String>,
    current: bool,
}

impl From<SessionView> for Session {
    fn from(SessionView { session, is_current }: SessionView) -> Self {
        Self {
            id: session.id,
            name: session.name,
            created_at: time::text(session.created_at),
            last_used_at: time::text(session.last_used_at),
            expires_at: session.expires_at.map(time::text),
            current: is_current,
        }
    }
}

/// `GET /v1/me/sessions`
pub(super) async fn list(
    Signed { actions, caller, .. }: Signed,
    Parameters(paging): Parameters<Paging>,
) -> Result<Answer<List<Session>>, V1Error> {
    let window = paging.read()?;
    Ok(List::json(Page::of(sessions::list(&actions, &caller).await?, window)))
}

/// `DELETE /v1/me/sessions/{id}`
pub(super) async fn revoke(
    Signed { actions, caller, .. }: Signed,
    Name(id): Name,
) -> Result<Answer<Data<Nothing>>, V1Error> {
    sessions::revoke_by_id(&actions, &caller, &id).await?;
    Ok(Data::json(Nothing {}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangePassword {
    old: String,
    new: String,
}

/// `PUT /v1/me/password`
pub(super) async fn change_password(
    State(state): State<ApiState>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Signed { actions, caller, .. }: Signed,
    body: Json<ChangePassword>,
) -> Result<Answer<Data<Nothing>>, V1Error> {
    state.limits.login_from(state.address(peer, &headers))?;
    accounts::change_own_password(&actions, &caller, body.value.old, body.value.new).await?;
    Ok(Data::json(Nothing {}))
}

/// `DELETE /v1/me`
pub(super) async fn deactivate(Signed { actions, caller, is_loopback }: Signed) -> Result<Response, V1Error> {
    deactivation::deactivate(&actions, &caller).await?;
    Ok(([(header::SET_COOKIE, clear_cookie(is_loopback))], Data::json(Nothing {})).into_response())
}

//! Logging in and out.

use std::net::SocketAddr;

use axum::{
    Json as Answer,
    extract::{ConnectInfo, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::error::VirolaError;
use crate::{
    actions::{ActionError, Actions, Caller, accounts, numbers, sessions},
    api::{
        ApiState,
        body::Json,
        caller::{Anyone, Signed, clear_cookie, client, set_cookie},
        error::Problem,
    },
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogIn {
    user_name: String,
    password: String,
}

/// Who is logged in.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    http_status_code: u16,
    user_id: u64,
    user_session_id: String,
}

/// `POST /api/v1/login`
pub(super) async fn log_in(
    State(state): State<ApiState>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Anyone { actions, .. }: Anyone,
    body: Json<LogIn>,
) -> Result<Response, VirolaError> {
    state.limits.login_from(state.address(peer, &headers))?;
    let LogIn { user_name, password } = body.value;
    let name = accounts::login_name(&actions, &user_name);
    state.limits.login_as(&actions.tenant, &name)?;
    let logged_in = accounts::log_in(&actions, &user_name, password, client(&headers)).await;
    if let Err(ActionError::InvalidToken(_)) = &logged_in {
        state.limits.login_failed(&actions.tenant, &name);
    }
    let (_, issued) = logged_in.map_err(VirolaError::of_login)?;
    let caller = sessions::caller(&actions, &issued.token).await?;
    let session = session(&actions, &caller).await?;
    // Whoever speaks this API expects it to be secure wherever it is.
    Ok(([(header::SET_COOKIE, set_cookie(&issued.token, false))], Answer(session)).into_response())
}

async fn session(actions: &Actions, caller: &Caller) -> Result<Session, Problem> {
    let sessions = sessions::list(actions, caller).await?;
    let own = sessions.into_iter().find(|view| view.is_current).ok_or_else(sessions::invalid)?;
    let user_id = numbers::of_person(actions, &caller.user_id).await?;
    Ok(Session { http_status_code: 200, user_id, user_session_id: own.session.id })
}

/// `GET /api/v1/status`
pub(super) async fn status(Signed { actions, caller, .. }: Signed) -> Result<Response, VirolaError> {
    Ok(Answer(session(&actions, &caller).await?).into_response())
}

/// It was done.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    http_status_code: u16,
}

/// `POST /api/v1/logout`
pub(super) async fn log_out(Signed { actions, caller, .. }: Signed) -> Result<Response, VirolaError> {
    if let Some(session) = caller.session {
        sessions::revoke(&actions, &caller.user_id, session).await?;
    }
    Ok(([(header::SET_COOKIE, clear_cookie(false))], Answer(Done { http_status_code: 200 })).into_response())
}

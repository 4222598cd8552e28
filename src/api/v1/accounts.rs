//! Accounts: `/v1/auth/*`, `/v1/me`, `/v1/admin/participants`.

use std::net::SocketAddr;

use axum::{
    Json as Answer,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};

use super::{
    error::V1Error,
    path::Name,
    wire::{Data, List, Nothing},
};
use crate::{
    actions::{
        AccountState, ActionError, Actions,
        accounts::{self, AccountView, NewAccount, Search},
        audit::Actor,
        registration,
        sessions::{self, Issued},
    },
    api::{
        ApiState,
        body::{Json, OptionalJson, Parameters},
        caller::{Admin, Anyone, Signed, clear_cookie, client, set_cookie},
        page, time,
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Register {
    username: String,
    password: String,
    display_name: Option<String>,
    registration_token: Option<String>,
}

#[derive(Serialize)]
struct Session {
    participant_id: OwnedUserId,
    access_token: String,
    expires_at: Option<String>,
}

impl Session {
    fn new(participant_id: OwnedUserId, issued: &Issued) -> Self {
        Self { participant_id, access_token: issued.token.clone(), expires_at: issued.expires_at.map(time::text) }
    }
}

/// `POST /v1/auth/register`
pub(super) async fn register(
    State(state): State<ApiState>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Anyone { actions, .. }: Anyone,
    body: Json<Register>,
) -> Result<Response, V1Error> {
    state.limits.login_from(state.address(peer, &headers))?;
    let Register { username, password, display_name, registration_token } = body.value;
    let new = NewAccount { username, password: Some(password), display_name, is_admin: false };
    let token = registration_token.as_deref();
    let (user_id, issued) = registration::register(&actions, new, token, client(&headers)).await?;
    Ok((StatusCode::CREATED, Data::json(Session::new(user_id, &issued))).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogIn {
    username: String,
    password: String,
    cookie: Option<bool>,
}

/// `POST /v1/auth/login`
pub(super) async fn log_in(
    State(state): State<ApiState>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Anyone { actions, is_loopback }: Anyone,
    body: Json<LogIn>,
) -> Result<Response, V1Error> {
    state.limits.login_from(state.address(peer, &headers))?;
    let LogIn { username, password, cookie } = body.value;
    let name = accounts::login_name(&actions, &username);
    state.limits.login_as(&actions.tenant, &name)?;
    let logged_in = accounts::log_in(&actions, &username, password, client(&headers)).await;
    if let Err(ActionError::InvalidToken(_)) = &logged_in {
        state.limits.login_failed(&actions.tenant, &name);
    }
    let (user_id, issued) = logged_in?;
    let session = Data::json(Session::new(user_id, &issued));
    if cookie == Some(true) {
        let cookie = set_cookie(&issued.token, is_loopback);
        return Ok(([(header::SET_COOKIE, cookie)], session).into_response());
    }
    Ok(session.into_response())
}

/// A body without fields.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Empty {}

/// `POST /v1/auth/logout`
pub(super) async fn log_out(
    Signed { actions, caller, is_loopback }: Signed,
    _: OptionalJson<Empty>,
) -> Result<Response, V1Error> {
    if let Some(session) = caller.session {
        sessions::revoke(&actions, &caller.user_id, session).await?;
    }
    Ok(([(header::SET_COOKIE, clear_cookie(is_loopback))], Data::json(Nothing {})).into_response())
}

#[derive(Serialize)]
pub(super) struct Me {
    participant_id: OwnedUserId,
    display_name: Option<String>,
    avatar_url: Option<String>,
    is_admin: bool,
    tenant: String,
    personal_workspace_id: ruma::OwnedRoomId,
}

/// `GET /v1/me`
pub(super) async fn me(Signed { actions, caller, .. }: Signed) -> Result<Answer<Data<Me>>, V1Error> {
    let own = accounts::own(&actions, &caller).await?;
    me_of(&actions, own).await
}

/// The caller, as the caller sees themselves.
pub(super) async fn me_of(actions: &Actions, own: AccountView) -> Result<Answer<Data<Me>>, V1Error> {
    let personal_workspace_id = accounts::personal_workspace(actions, &own.user_id).await?;
    Ok(Data::json(Me {
        participant_id: own.user_id,
        display_name: own.account.display_name,
        avatar_url: own.account.avatar_url,
        is_admin: own.account.is_admin,
        tenant: actions.tenant.clone(),
        personal_workspace_id,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    username: String,
    password: String,
    is_admin: Option<bool>,
}

#[derive(Serialize)]
pub(super) struct Participant {
    participant_id: OwnedUserId,
    display_name: Option<String>,
    is_admin: bool,
    state: &'static str,
    created_at: String,
}

impl From<AccountView> for Participant {
    fn from(view: AccountView) -> Self {
        Self {
            participant_id: view.user_id,
            display_name: view.account.display_name,
            is_admin: view.account.is_admin,
            state: match view.account.state {
                AccountState::Active => "active",
                AccountState::Disabled => "disabled",
                AccountState::Deactivated => "deactivated",
                AccountState::Locked => "locked",
            },
            created_at: time::text(view.account.created_at),
        }
    }
}

/// `POST /v1/admin/participants`
pub(super) async fn create(Admin { actions, caller }: Admin, body: Json<Create>) -> Result<Response, V1Error> {
    let Create { username, password, is_admin } = body.value;
    let new =
        NewAccount { username, password: Some(password), is_admin: is_admin.unwrap_or(false), display_name: None };
    let made = accounts::create_by(&actions, Actor::Admin(&caller.user_id), new).await?;
    Ok((StatusCode::CREATED, Data::json(Participant::from(made))).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Find {
    q: Option<String>,
    state: Option<StateWord>,
    limit: Option<i64>,
    offset: Option<i64>,
}

#[derive(Copy, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StateWord {
    Active,
    Disabled,
    Deactivated,
    Locked,
}

impl From<StateWord> for AccountState {
    fn from(state: StateWord) -> Self {
        match state {
            StateWord::Active => Self::Active,
            StateWord::Disabled => Self::Disabled,
            StateWord::Deactivated => Self::Deactivated,
            StateWord::Locked => Self::Locked,
        }
    }
}

/// `GET /v1/admin/participants`
pub(super) async fn list(
    Admin { actions, caller }: Admin,
    Parameters(find): Parameters<Find>,
) -> Result<Answer<List<Participant>>, V1Error> {
    let window = page::window(find.offset, find.limit)?;
    let search = Search { text: page::search(find.q)?, state: find.state.map(AccountState::from) };
    Ok(List::json(accounts::list(&actions, &caller, &search, window).await?.page))
}

/// `POST /v1/admin/participants/{participant_id}/disable`
pub(super) async fn disable(
    Admin { actions, caller }: Admin,
    Name(person): Name,
    _: OptionalJson<Empty>,
) -> Result<Answer<Data<Participant>>, V1Error> {
    let user_id = actions.parse_participant("participant_id", &person)?;
    Ok(Data::json(Participant::from(accounts::disable(&actions, &caller, &user_id).await?)))
}

/// `POST /v1/admin/participants/{participant_id}/enable`
pub(super) async fn enable(
    Admin { actions, caller }: Admin,
    Name(person): Name,
    _: OptionalJson<Empty>,
) -> Result<Answer<Data<Participant>>, V1Error> {
    let user_id = actions.parse_participant("participant_id", &person)?;
    Ok(Data::json(Participant::from(accounts::enable(&actions, &caller, &user_id).await?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetPassword {
    password: String,
}

/// `PUT /v1/admin/participants/{participant_id}/password`
pub(super) async fn set_password(
    Admin { actions, caller }: Admin,
    Name(person): Name,
    body: Json<SetPassword>,
) -> Result<Answer<Data<Participant>>, V1Error> {
    let user_id = actions.parse_participant("participant_id", &person)?;
    let actor = Actor::Admin(&caller.user_id);
    let changed = accounts::set_password(&actions, actor, &user_id, body.value.password).await?;
    Ok(Data::json(Participant::from(changed)))
}

//! Tokens that admins give out: for people who register, and for servers that call us.

use axum::{
    Json as Answer,
    http::StatusCode,
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
    actions::{ActionError, AppToken, Page, RegistrationToken, app_tokens, registration},
    api::{
        body::{Json, OptionalJson, Parameters},
        caller::Admin,
        page::Paging,
        time,
    },
};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateRegistration {
    uses: Option<u64>,
    expires_at: Option<String>,
}

#[derive(Serialize)]
struct CreatedRegistration {
    id: String,
    token: String,
    uses: Option<u64>,
    expires_at: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Registration {
    id: String,
    uses: Option<u64>,
    used: u64,
    expires_at: Option<String>,
    created_at: String,
    created_by: OwnedUserId,
}

impl From<RegistrationToken> for Registration {
    fn from(row: RegistrationToken) -> Self {
        Self {
            id: row.id,
            uses: row.uses,
            used: row.used,
            expires_at: row.expires_at.map(time::text),
            created_at: time::text(row.created_at),
            created_by: row.created_by,
        }
    }
}

/// `POST /v1/admin/registration-tokens`
pub(super) async fn create_registration(
    Admin { actions, caller }: Admin,
    OptionalJson(body): OptionalJson<CreateRegistration>,
) -> Result<Response, V1Error> {
    let wrong = || ActionError::invalid("expires_at", "must be a time such as 2030-01-31T12:00:00Z");
    let expires_at = body.expires_at.map(|text| time::parse(&text).ok_or_else(wrong)).transpose()?;
    let (row, token) = registration::create(&actions, &caller, body.uses, expires_at).await?;
    let made = CreatedRegistration { id: row.id, token, uses: row.uses, expires_at: row.expires_at.map(time::text) };
    Ok((StatusCode::CREATED, Data::json(made)).into_response())
}

/// `GET /v1/admin/registration-tokens`
pub(super) async fn list_registration(
    Admin { actions, caller }: Admin,
    Parameters(paging): Parameters<Paging>,
) -> Result<Answer<List<Registration>>, V1Error> {
    let window = paging.read()?;
    Ok(List::json(Page::of(registration::list(&actions, &caller).await?, window)))
}

/// `DELETE /v1/admin/registration-tokens/{id}`
pub(super) async fn delete_registration(
    Admin { actions, caller }: Admin,
    Name(id): Name,
) -> Result<Answer<Data<Nothing>>, V1Error> {
    registration::delete(&actions, &caller, &id).await?;
    Ok(Data::json(Nothing {}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateApp {
    name: String,
}

#[derive(Serialize)]
struct CreatedApp {
    id: String,
    access_token: String,
}

#[derive(Serialize)]
pub(super) struct App {
    id: String,
    name: String,
    created_at: String,
    created_by: OwnedUserId,
    last_used_at: Option<String>,
}

impl From<AppToken> for App {
    fn from(row: AppToken) -> Self {
        Self {
            id: row.id,
            name: row.name,
            created_at: time::text(row.created_at),
            created_by: row.created_by,
            last_used_at: row.last_used_at.map(time::text),
        }
    }
}

/// `POST /v1/admin/app-tokens`
pub(super) async fn create_app(Admin { actions, caller }: Admin, body: Json<CreateApp>) -> Result<Response, V1Error> {
    let (row, access_token) = app_tokens::create(&actions, &caller, body.value.name).await?;
    Ok((StatusCode::CREATED, Data::json(CreatedApp { id: row.id, access_token })).into_response())
}

/// `GET /v1/admin/app-tokens`
pub(super) async fn list_app(
    Admin { actions, caller }: Admin,
    Parameters(paging): Parameters<Paging>,
) -> Result<Answer<List<App>>, V1Error> {
    let window = paging.read()?;
    Ok(List::json(Page::of(app_tokens::list(&actions, &caller).await?, window)))
}

/// `DELETE /v1/admin/app-tokens/{id}`
pub(super) async fn delete_app(
    Admin { actions, caller }: Admin,
    Name(id): Name,
) -> Result<Answer<Data<Nothing>>, V1Error> {
    app_tokens::delete(&actions, &caller, &id).await?;
    Ok(Data::json(Nothing {}))
}

//! The dialect of `/api/rooms`: a token and `X-Username`, public rooms that admins make, private ones of a list of members. Its whole URL table stands here;
//! `schemas/ryos.openapi.yaml` says the same.

use axum::{
    Router,
    extract::FromRequestParts,
    http::request::Parts,
    routing::{delete, get, post},
};

use super::{
    ApiState, Dialect,
    caller::{self, Anyone, Credential, Signed},
    table::{self, Table},
};
use crate::actions::{Actions, Caller, sessions};

mod error;
mod rooms;
mod wire;

use error::RyosError;

/// The header that names whoever has the token.
const USERNAME: &str = "x-username";

fn table() -> Table<Ryos> {
    vec![
        ("GET", "/api/rooms", get(rooms::list)),
        ("POST", "/api/rooms", post(rooms::create)),
        ("GET", "/api/rooms/{id}", get(rooms::get)),
        ("DELETE", "/api/rooms/{id}", delete(rooms::remove)),
        ("POST", "/api/rooms/{id}/join", post(rooms::join)),
        ("POST", "/api/rooms/{id}/leave", post(rooms::leave)),
        ("GET", "/api/rooms/{id}/users", get(rooms::users)),
    ]
}

/// This dialect.
#[derive(Clone)]
pub(crate) struct Ryos(pub(super) ApiState);

impl Dialect for Ryos {
    type Refusal = RyosError;
    const NO_SUCH_PATH: &'static str = "Not found";
    const NO_SUCH_METHOD: &'static str = "Method not allowed";

    fn state(&self) -> &ApiState {
        &self.0
    }

    fn credential<'a>(parts: &'a Parts, _: &ApiState) -> Option<Credential<'a>> {
        caller::bearer(&parts.headers).map(Credential::Header)
    }
}

/// Method and path of every route.
pub fn routes() -> Vec<(&'static str, &'static str)> {
    table::routes(table())
}

/// The path is one of this dialect.
pub(super) fn owns(path: &str) -> bool {
    path.strip_prefix("/api/rooms").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The router of this dialect.
pub(super) fn router() -> Router<Ryos> {
    table::router(table())
}

/// Somebody who has a token and says whose it is.
pub(super) struct Named {
    pub(super) actions: Actions,
    pub(super) caller: Caller,
}

impl FromRequestParts<Ryos> for Named {
    type Rejection = RyosError;

    async fn from_request_parts(parts: &mut Parts, dialect: &Ryos) -> Result<Self, RyosError> {
        let Signed { actions, caller, .. } = Signed::from_request_parts(parts, dialect).await?;
        let named = parts.headers.get(USERNAME).and_then(|name| name.to_str().ok());
        match named.is_some_and(|name| wire::is_name_of(&actions, name, &caller)) {
            true => Ok(Self { actions, caller }),
            false => Err(sessions::invalid().into()),
        }
    }
}

/// Somebody with a token, or anybody.
pub(super) struct Visitor {
    pub(super) actions: Actions,
    pub(super) caller: Option<Caller>,
}

impl FromRequestParts<Ryos> for Visitor {
    type Rejection = RyosError;

    async fn from_request_parts(parts: &mut Parts, dialect: &Ryos) -> Result<Self, RyosError> {
        if !parts.headers.contains_key(axum::http::header::AUTHORIZATION) {
            let Anyone { actions, .. } = Anyone::from_request_parts(parts, dialect).await?;
            if let Some(address) = dialect.0.address_of(parts) {
                dialect.0.limits.request_from(address)?;
            }
            return Ok(Self { actions, caller: None });
        }
        if parts.headers.contains_key(USERNAME) {
            let Named { actions, caller } = Named::from_request_parts(parts, dialect).await?;
            return Ok(Self { actions, caller: Some(caller) });
        }
        let Signed { actions, caller, .. } = Signed::from_request_parts(parts, dialect).await?;
        Ok(Self { actions, caller: Some(caller) })
    }
}

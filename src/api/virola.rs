//! The dialect of `/api/v1/rooms`: a session cookie, rooms and messages by whole numbers. Its whole URL table stands here; `schemas/virola.openapi.yaml` says the
//! same.

use axum::{
    Router,
    http::request::Parts,
    routing::{get, post},
};

use super::{
    ApiState, Dialect,
    caller::{self, Credential},
    table::{self, Table},
};

mod error;
mod messages;
mod rooms;
mod session;

use error::VirolaError;

fn table() -> Table<Virola> {
    vec![
        ("POST", "/api/v1/login", post(session::log_in)),
        ("POST", "/api/v1/logout", post(session::log_out)),
        ("GET", "/api/v1/status", get(session::status)),
        ("GET", "/api/v1/rooms", get(rooms::list)),
        ("GET", "/api/v1/rooms/{roomId}/avatar.jpg", get(rooms::avatar)),
        ("GET", "/api/v1/rooms/{roomId}/messages", get(messages::list)),
        ("POST", "/api/v1/rooms/{roomId}/text-messages", post(messages::send)),
    ]
}

/// This dialect.
#[derive(Clone)]
pub(crate) struct Virola(pub(super) ApiState);

impl Dialect for Virola {
    type Refusal = VirolaError;
    const NO_SUCH_PATH: &'static str = "There is no such path";
    const NO_SUCH_METHOD: &'static str = "This path does not know this method";

    fn state(&self) -> &ApiState {
        &self.0
    }

    fn credential<'a>(parts: &'a Parts, _: &ApiState) -> Option<Credential<'a>> {
        let header = caller::bearer(&parts.headers).map(Credential::Header);
        header.or_else(|| caller::secure_cookie(parts).map(Credential::Cookie))
    }
}

/// Method and path of every route.
pub fn routes() -> Vec<(&'static str, &'static str)> {
    table::routes(table())
}

/// The path is one of this dialect.
pub(super) fn owns(path: &str) -> bool {
    path.starts_with("/api/v1/")
}

/// The router of this dialect.
pub(super) fn router() -> Router<Virola> {
    table::router(table())
}

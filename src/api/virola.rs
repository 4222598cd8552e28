//! The dialect of `/api/v1/rooms`: a session cookie, rooms and messages by whole numbers. Its whole URL table stands here; `schemas/virola.openapi.yaml` says the
//! same.

use axum::{
    Router,
    extract::{FromRef, Request},
    http::request::Parts,
    routing::{MethodRouter, get, post},
};

use super::{
    ApiState, Dialect,
    caller::{self, Credential},
};

mod error;
mod messages;
mod rooms;
mod session;

use error::VirolaError;

fn table() -> Vec<(&'static str, &'static str, MethodRouter<Virola>)> {
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

    fn state(&self) -> &ApiState {
        &self.0
    }

    fn takes_a_file(_: &Request) -> bool {
        false
    }

    fn credential<'a>(parts: &'a Parts, _: &ApiState) -> Option<Credential<'a>> {
        let header = caller::bearer(&parts.headers).map(Credential::Header);
        header.or_else(|| caller::secure_cookie(parts).map(Credential::Cookie))
    }
}

impl FromRef<Virola> for ApiState {
    fn from_ref(dialect: &Virola) -> Self {
        dialect.0.clone()
    }
}

/// Method and path of every route.
pub fn routes() -> Vec<(&'static str, &'static str)> {
    table().into_iter().map(|(method, path, _)| (method, path)).collect()
}

/// The path is one of this dialect.
pub(super) fn owns(path: &str) -> bool {
    path.starts_with("/api/v1/")
}

/// The router of this dialect.
pub(super) fn router() -> Router<Virola> {
    let routed = table().into_iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler));
    routed.fallback(error::route_not_found).method_not_allowed_fallback(error::method_not_allowed)
}

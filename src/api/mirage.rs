//! The dialect of `/api/create_room`: a bare token, rooms found by name, passwords on private ones. Its whole URL table stands here; `schemas/mirage.openapi.yaml`
//! says the same. Making a room is also found at its own path when the dialect has a prefix.

use axum::{
    Router,
    http::{header, request::Parts},
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

use error::MirageError;

/// The call that this dialect is known by.
const CREATE: &str = "/api/create_room";

fn table() -> Table<Mirage> {
    vec![
        ("POST", CREATE, post(rooms::create)),
        ("POST", "/api/join_room", post(rooms::join)),
        ("GET", "/api/rooms", get(rooms::list)),
        ("GET", "/api/user_rooms", get(rooms::own)),
        ("GET", "/api/room_members/{room_id}", get(rooms::members)),
        ("POST", "/api/send_room_message", post(messages::send)),
        ("GET", "/api/get_room_messages", get(messages::list)),
    ]
}

/// This dialect.
#[derive(Clone)]
pub(crate) struct Mirage(pub(super) ApiState);

impl Dialect for Mirage {
    type Refusal = MirageError;
    const NO_SUCH_PATH: &'static str = "not found";
    const NO_SUCH_METHOD: &'static str = "method not allowed";

    fn state(&self) -> &ApiState {
        &self.0
    }

    fn credential<'a>(parts: &'a Parts, _: &ApiState) -> Option<Credential<'a>> {
        let bare = || parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::trim);
        caller::bearer(&parts.headers).or_else(bare).filter(|token| !token.is_empty()).map(Credential::Header)
    }
}

/// Method and path of every route.
pub fn routes() -> Vec<(&'static str, &'static str)> {
    table::routes(table())
}

/// The route that is found without the prefix too.
pub(super) fn own_routes() -> Vec<(&'static str, &'static str)> {
    routes().into_iter().filter(|(_, path)| *path == CREATE).collect()
}

/// The path is one of this dialect.
pub(super) fn owns(path: &str) -> bool {
    let in_a_room = || path.starts_with("/api/room_members/");
    in_a_room() || table_paths().contains(&path)
}

/// The path is the one that is found without the prefix too.
pub(super) fn owns_bare(path: &str) -> bool {
    path == CREATE
}

fn table_paths() -> [&'static str; 6] {
    [CREATE, "/api/join_room", "/api/rooms", "/api/user_rooms", "/api/send_room_message", "/api/get_room_messages"]
}

/// The router of this dialect.
pub(super) fn router() -> Router<Mirage> {
    table::router(table())
}

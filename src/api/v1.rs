//! The native API. Its whole URL table stands here; `schemas/v1.openapi.yaml` says the same, and a test compares the two.

use axum::{
    Router,
    routing::{MethodRouter, delete, get, post, put},
};

use super::ApiState;

mod accounts;
pub(crate) mod error;
mod health;
mod levels;
mod members;
mod messages;
mod path;
mod personal;
mod room_state;
mod rooms;
mod stream;
mod wire;
mod workspaces;

type Route = (&'static str, &'static str, MethodRouter<ApiState>);

fn table() -> Vec<Route> {
    vec![
        ("POST", "/v1/auth/register", post(accounts::register)),
        ("POST", "/v1/auth/login", post(accounts::log_in)),
        ("POST", "/v1/auth/logout", post(accounts::log_out)),
        ("GET", "/v1/me", get(accounts::me)),
        ("POST", "/v1/admin/participants", post(accounts::create)),
        ("GET", "/v1/admin/participants", get(accounts::list)),
        ("GET", "/v1/directory/rooms", get(rooms::directory)),
        ("GET", "/v1/rooms", get(rooms::own)),
        ("POST", "/v1/rooms", post(rooms::create)),
        ("GET", "/v1/rooms/archived", get(rooms::archived)),
        ("POST", "/v1/rooms/dm", post(rooms::direct)),
        ("GET", "/v1/rooms/{room_id}", get(rooms::get)),
        ("PUT", "/v1/rooms/{room_id}/name", put(rooms::set_name)),
        ("PUT", "/v1/rooms/{room_id}/topic", put(rooms::set_topic)),
        ("PUT", "/v1/rooms/{room_id}/workspace", put(rooms::set_workspace)),
        ("POST", "/v1/rooms/{room_id}/close", post(rooms::close)),
        ("POST", "/v1/rooms/{room_id}/archive", post(rooms::archive)),
        ("POST", "/v1/rooms/{room_id}/rejoin", post(rooms::rejoin)),
        ("GET", "/v1/rooms/{room_id}/permissions", get(rooms::permissions)),
        ("GET", "/v1/rooms/{room_id}/members", get(members::list)),
        ("POST", "/v1/rooms/{room_id}/join", post(members::join)),
        ("POST", "/v1/rooms/{room_id}/leave", post(members::leave)),
        ("POST", "/v1/rooms/{room_id}/invite", post(members::invite)),
        ("POST", "/v1/rooms/{room_id}/kick", post(members::kick)),
        ("POST", "/v1/rooms/{room_id}/ban", post(members::ban)),
        ("POST", "/v1/rooms/{room_id}/unban", post(members::unban)),
        ("PUT", "/v1/rooms/{room_id}/power-levels", put(levels::set)),
        ("PUT", "/v1/rooms/{room_id}/members/{participant_id}/power-level", put(levels::set_member)),
        ("POST", "/v1/rooms/{room_id}/messages", post(messages::send)),
        ("GET", "/v1/rooms/{room_id}/messages", get(messages::page)),
        ("GET", "/v1/rooms/{room_id}/events/{event_id}", get(messages::event)),
        ("POST", "/v1/rooms/{room_id}/events/{event_id}/redact", post(messages::redact)),
        ("GET", "/v1/rooms/{room_id}/state", get(room_state::list)),
        ("GET", "/v1/rooms/{room_id}/state/{type}", get(room_state::get_unkeyed)),
        ("PUT", "/v1/rooms/{room_id}/state/{type}", put(room_state::set_unkeyed)),
        ("GET", "/v1/rooms/{room_id}/state/{type}/{key}", get(room_state::get)),
        ("PUT", "/v1/rooms/{room_id}/state/{type}/{key}", put(room_state::set)),
        ("PUT", "/v1/rooms/{room_id}/notification-mode", put(personal::set_notification_mode)),
        ("PUT", "/v1/rooms/{room_id}/mute", put(personal::set_mute)),
        ("PUT", "/v1/rooms/{room_id}/read", put(personal::mark_read)),
        ("PUT", "/v1/rooms/{room_id}/typing", put(stream::set_typing)),
        ("GET", "/v1/rooms/{room_id}/active", get(stream::active)),
        ("GET", "/v1/stream", get(stream::open)),
        ("GET", "/v1/workspaces", get(workspaces::list)),
        ("POST", "/v1/workspaces", post(workspaces::create)),
        ("GET", "/v1/workspaces/{workspace_id}", get(workspaces::get)),
        ("GET", "/v1/workspaces/{workspace_id}/members", get(workspaces::members)),
        ("PUT", "/v1/workspaces/{workspace_id}/members/{participant_id}", put(workspaces::set_member)),
        ("DELETE", "/v1/workspaces/{workspace_id}/members/{participant_id}", delete(workspaces::remove_member)),
        ("GET", "/healthz", get(health::live)),
        ("GET", "/readyz", get(health::ready)),
    ]
}

/// Method and path of every route.
pub fn routes() -> Vec<(&'static str, &'static str)> {
    table().into_iter().map(|(method, path, _)| (method, path)).collect()
}

/// The router of this dialect.
pub(crate) fn router() -> Router<ApiState> {
    let routed = table().into_iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler));
    routed.fallback(error::route_not_found).method_not_allowed_fallback(error::method_not_allowed)
}

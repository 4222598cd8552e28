//! The native API. Its whole URL table stands here; `schemas/v1.openapi.yaml` says the same, and a test compares the two.

use axum::{
    Router,
    extract::{MatchedPath, Request},
    http::{Method, request::Parts},
    routing::{delete, get, patch, post, put},
};

use super::{
    ApiState, Dialect,
    caller::{self, Credential},
    table::{self, Table},
};

mod accounts;
mod admin;
mod bundle;
mod directory;
mod error;
mod federate;
mod health;
mod history;
mod jobs;
mod levels;
mod media;
mod members;
mod messages;
mod path;
mod peers;
mod personal;
mod profile;
mod room_state;
mod rooms;
mod sessions;
mod settings;
mod stream;
mod tokens;
mod wire;
mod workspaces;

pub(crate) use stream::Patience;

#[expect(clippy::too_many_lines, reason = "a table, one line for each route")]
fn table() -> Table<V1> {
    vec![
        ("POST", "/v1/auth/register", post(accounts::register)),
        ("POST", "/v1/auth/login", post(accounts::log_in)),
        ("POST", "/v1/auth/logout", post(accounts::log_out)),
        ("GET", "/v1/me", get(accounts::me)),
        ("DELETE", "/v1/me", delete(sessions::deactivate)),
        ("PUT", "/v1/me/password", put(sessions::change_password)),
        ("GET", "/v1/me/sessions", get(sessions::list)),
        ("DELETE", "/v1/me/sessions/{id}", delete(sessions::revoke)),
        ("GET", "/v1/jobs/{id}", get(jobs::get)),
        ("PUT", "/v1/me/profile", put(profile::set)),
        ("POST", "/v1/media", post(media::upload)),
        ("GET", "/v1/media/{sha256}", get(media::get)),
        ("GET", "/v1/media/{server}/{media_id}", get(media::get_of)),
        ("POST", "/v1/admin/participants", post(accounts::create)),
        ("GET", "/v1/admin/participants", get(accounts::list)),
        ("POST", "/v1/admin/participants/{participant_id}/disable", post(accounts::disable)),
        ("POST", "/v1/admin/participants/{participant_id}/enable", post(accounts::enable)),
        ("PUT", "/v1/admin/participants/{participant_id}/password", put(accounts::set_password)),
        ("POST", "/v1/admin/registration-tokens", post(tokens::create_registration)),
        ("GET", "/v1/admin/registration-tokens", get(tokens::list_registration)),
        ("DELETE", "/v1/admin/registration-tokens/{id}", delete(tokens::delete_registration)),
        ("POST", "/v1/admin/app-tokens", post(tokens::create_app)),
        ("GET", "/v1/admin/app-tokens", get(tokens::list_app)),
        ("DELETE", "/v1/admin/app-tokens/{id}", delete(tokens::delete_app)),
        ("GET", "/v1/admin/rooms", get(admin::rooms)),
        ("DELETE", "/v1/admin/rooms/{room_id}", delete(admin::purge)),
        ("GET", "/v1/admin/rooms/{room_id}/export", get(bundle::export_as_admin)),
        ("PUT", "/v1/admin/rooms/{room_id}/federate", put(federate::switch)),
        ("GET", "/v1/admin/federation/policy", get(federate::policy)),
        ("PUT", "/v1/admin/federation/policy", put(federate::set_policy)),
        ("POST", "/v1/admin/rooms/{room_id}/federation/invite", post(admin::invite)),
        ("POST", "/v1/admin/rooms/{room_id}/federation/backfill", post(history::backfill)),
        ("GET", "/v1/admin/rooms/{room_id}/completeness", get(history::completeness)),
        ("GET", "/v1/admin/audit", get(admin::audit)),
        ("GET", "/v1/admin/jobs", get(jobs::list)),
        ("GET", "/v1/admin/peers", get(peers::list)),
        ("POST", "/v1/admin/peers/{server}/reset", post(peers::reset)),
        ("GET", "/v1/directory/rooms", get(rooms::directory)),
        ("GET", "/v1/directory/servers/{server}/rooms", get(directory::of_server)),
        ("GET", "/v1/rooms", get(rooms::own)),
        ("POST", "/v1/rooms", post(rooms::create)),
        ("GET", "/v1/rooms/archived", get(rooms::archived)),
        ("POST", "/v1/rooms/dm", post(rooms::direct)),
        ("GET", "/v1/rooms/{room_id}", get(rooms::get)),
        ("PATCH", "/v1/rooms/{room_id}", patch(settings::change)),
        ("PUT", "/v1/rooms/{room_id}/password", put(settings::set_password)),
        ("GET", "/v1/rooms/{room_id}/announcement", get(settings::announcement)),
        ("PUT", "/v1/rooms/{room_id}/announcement", put(settings::announce)),
        ("PUT", "/v1/rooms/{room_id}/name", put(rooms::set_name)),
        ("PUT", "/v1/rooms/{room_id}/topic", put(rooms::set_topic)),
        ("GET", "/v1/rooms/{room_id}/avatar", get(media::avatar)),
        ("PUT", "/v1/rooms/{room_id}/avatar", put(media::set_avatar)),
        ("DELETE", "/v1/rooms/{room_id}/avatar", delete(media::remove_avatar)),
        ("PUT", "/v1/rooms/{room_id}/workspace", put(rooms::set_workspace)),
        ("POST", "/v1/rooms/{room_id}/close", post(rooms::close)),
        ("POST", "/v1/rooms/{room_id}/archive", post(rooms::archive)),
        ("POST", "/v1/rooms/{room_id}/rejoin", post(rooms::rejoin)),
        ("GET", "/v1/rooms/{room_id}/export", get(bundle::export)),
        ("POST", "/v1/rooms/import", post(bundle::import)),
        ("GET", "/v1/rooms/{room_id}/number", get(rooms::number)),
        ("GET", "/v1/rooms/{room_id}/permissions", get(rooms::permissions)),
        ("GET", "/v1/rooms/{room_id}/members", get(members::list)),
        ("POST", "/v1/rooms/{room_id}/join", post(members::join)),
        ("POST", "/v1/rooms/{room_id}/knock", post(members::knock)),
        ("PUT", "/v1/rooms/{room_id}/members/{participant_id}", put(members::bring_in)),
        ("POST", "/v1/rooms/{room_id}/members/{participant_id}/approve", post(members::approve)),
        ("PUT", "/v1/rooms/{room_id}/members/{participant_id}/silence", put(members::silence)),
        ("DELETE", "/v1/rooms/{room_id}/members/{participant_id}/silence", delete(members::lift_silence)),
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
        ("PUT", "/v1/rooms/{room_id}/pin", put(personal::pin)),
        ("DELETE", "/v1/rooms/{room_id}/pin", delete(personal::unpin)),
        ("PUT", "/v1/rooms/{room_id}/read", put(personal::mark_read)),
        ("PUT", "/v1/rooms/{room_id}/typing", put(stream::set_typing)),
        ("GET", "/v1/rooms/{room_id}/active", get(stream::active)),
        ("GET", "/v1/stream", get(stream::open)),
        ("GET", "/v1/workspaces", get(workspaces::list)),
        ("POST", "/v1/workspaces", post(workspaces::create)),
        ("GET", "/v1/workspaces/{workspace_id}", get(workspaces::get)),
        ("PATCH", "/v1/workspaces/{workspace_id}", patch(workspaces::change)),
        ("DELETE", "/v1/workspaces/{workspace_id}", delete(workspaces::delete)),
        ("GET", "/v1/workspaces/{workspace_id}/members", get(workspaces::members)),
        ("PUT", "/v1/workspaces/{workspace_id}/members/{participant_id}", put(workspaces::set_member)),
        ("DELETE", "/v1/workspaces/{workspace_id}/members/{participant_id}", delete(workspaces::remove_member)),
        ("GET", "/healthz", get(health::live)),
        ("GET", "/readyz", get(health::ready)),
    ]
}

/// Calls whose body is a file: it is streamed and has a bound of its own, and an `Idempotency-Key` is ignored, because the same content gives the same again.
const FILES: [(Method, &str); 3] =
    [(Method::POST, "/v1/media"), (Method::PUT, "/v1/rooms/{room_id}/avatar"), (Method::POST, "/v1/rooms/import")];

/// This dialect.
#[derive(Clone)]
pub(crate) struct V1(pub(super) ApiState);

impl Dialect for V1 {
    type Refusal = error::V1Error;
    const NO_SUCH_PATH: &'static str = "no such path; schemas/v1.openapi.yaml lists all of them";
    const NO_SUCH_METHOD: &'static str = "this path does not know this method; see `Allow`";

    fn state(&self) -> &ApiState {
        &self.0
    }

    fn takes_a_file(request: &Request) -> bool {
        let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        FILES.iter().any(|(method, file)| method == request.method() && Some(*file) == path)
    }

    fn credential<'a>(parts: &'a Parts, state: &ApiState) -> Option<Credential<'a>> {
        caller::bearer_or_cookie(parts, state)
    }
}

/// Method and path of every route.
pub fn routes() -> Vec<(&'static str, &'static str)> {
    table::routes(table())
}

/// The router of this dialect.
pub(super) fn router() -> Router<V1> {
    table::router(table())
}

//! The dialect of `/{org}/{app}/chatrooms`: a server with an app token manages rooms for people. Its whole URL table stands here; `schemas/agora.openapi.yaml` says
//! the same. The pair of names in each path stands for a tenant.

use axum::{
    Router,
    http::request::Parts,
    middleware,
    routing::{delete, get, post, put},
};

use super::{
    ApiState, Dialect,
    caller::{self, Credential},
    table::{self, Table},
};
use crate::config::Config;

mod app;
mod envelope;
mod error;
mod fields;
mod members;
mod moderation;
mod results;
mod rooms;
mod wire;

use error::AgoraError;

/// What stands for the names of a tenant in the paths.
const PAIR: &str = "/{org_name}/{app_name}";
/// The first segment of the paths of the native API: no tenant has that name.
const NATIVE_PATHS: &str = "v1";

fn table() -> Table<Agora> {
    vec![
        ("POST", "/{org_name}/{app_name}/chatrooms", post(rooms::create)),
        ("GET", "/{org_name}/{app_name}/chatrooms", get(rooms::list)),
        ("GET", "/{org_name}/{app_name}/users/{username}/joined_chatrooms", get(rooms::joined)),
        ("GET", "/{org_name}/{app_name}/chatrooms/{chatroom_id}", get(rooms::details)),
        ("PUT", "/{org_name}/{app_name}/chatrooms/{chatroom_id}", put(rooms::change)),
        ("DELETE", "/{org_name}/{app_name}/chatrooms/{chatroom_id}", delete(rooms::remove)),
        ("GET", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/announcement", get(rooms::announcement)),
        ("POST", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/announcement", post(rooms::announce)),
        ("GET", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/users", get(members::list)),
        ("POST", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/users", post(members::add_all)),
        ("POST", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/users/{username}", post(members::add)),
        ("DELETE", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/users/{username}", delete(members::remove)),
        ("GET", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/admin", get(members::admins)),
        ("POST", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/admin", post(members::add_admin)),
        ("DELETE", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/admin/{username}", delete(members::remove_admin)),
        ("GET", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/mute", get(moderation::silenced)),
        ("POST", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/mute", post(moderation::silence)),
        ("DELETE", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/mute/{username}", delete(moderation::lift_silence)),
        ("POST", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/ban", post(moderation::silence_all)),
        ("DELETE", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/ban", delete(moderation::lift_silence_of_all)),
        ("GET", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/blocks/users", get(moderation::blocked)),
        ("POST", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/blocks/users", post(moderation::block_all)),
        ("POST", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/blocks/users/{username}", post(moderation::block)),
        (
            "DELETE",
            "/{org_name}/{app_name}/chatrooms/{chatroom_id}/blocks/users/{username}",
            delete(moderation::unblock),
        ),
        ("GET", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/white/users", get(moderation::allowed)),
        ("POST", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/white/users", post(moderation::allow_all)),
        ("POST", "/{org_name}/{app_name}/chatrooms/{chatroom_id}/white/users/{username}", post(moderation::allow)),
        (
            "DELETE",
            "/{org_name}/{app_name}/chatrooms/{chatroom_id}/white/users/{username}",
            delete(moderation::disallow),
        ),
    ]
}

/// This dialect.
#[derive(Clone)]
pub(crate) struct Agora(pub(super) ApiState);

impl Dialect for Agora {
    type Refusal = AgoraError;
    const NO_SUCH_PATH: &'static str = "there is no such path";
    const NO_SUCH_METHOD: &'static str = "this path does not know this method";

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

/// Method and path of every route of the tenants of a configuration.
pub(super) fn routes_of(config: &Config) -> Vec<(&'static str, String)> {
    let of = |org: &str, app: &str| {
        let pair = format!("/{org}/{app}");
        routes().into_iter().map(move |(method, path)| (method, path.replacen(PAIR, &pair, 1))).collect::<Vec<_>>()
    };
    config.tenant.iter().flat_map(|tenant| of(&tenant.org, tenant.app())).collect()
}

/// The path is one of this dialect, of whichever tenant.
pub(super) fn owns(path: &str) -> bool {
    let segments: Vec<&str> = path.split('/').collect();
    match segments.as_slice() {
        ["", NATIVE_PATHS, ..] => false,
        ["", _, _, "chatrooms", ..] | ["", _, _, "users", _, "joined_chatrooms"] => true,
        _ => false,
    }
}

/// The router of this dialect.
pub(super) fn router() -> Router<Agora> {
    table::router(table())
}

/// The calls with what stands around every answer of this dialect, whoever makes it.
pub(super) fn enveloped(state: ApiState, calls: Router) -> Router {
    calls.layer(middleware::from_fn_with_state(Agora(state), envelope::layer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_of_every_pair_are_here_and_nothing_of_the_native_api() {
        for own in
            ["/a/b/chatrooms", "/a/b/chatrooms/1/users", "/a/b/users/alice/joined_chatrooms", "/a/b/chatrooms/1/x/y"]
        {
            assert!(owns(own), "{own}");
        }
        for other in ["/v1/rooms/chatrooms", "/chatrooms", "/a/chatrooms", "/a/b/users/alice", "/a/b/c/chatrooms", "/"]
        {
            assert!(!owns(other), "{other}");
        }
    }
}

//! Who asks, and for which room: the pair of names and the app token of a request, and the other parts of its path.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use serde::Deserialize;

use super::{Agora, error::AgoraError};
use crate::{
    actions::{ActionError, Actions, app_tokens},
    api::caller,
};

/// A request of a server with an app token.
pub(super) struct App {
    /// The actions of the tenant that the path names.
    pub(super) actions: Actions,
    /// Who asks.
    pub(super) app: app_tokens::App,
}

impl FromRequestParts<Agora> for App {
    type Rejection = AgoraError;

    async fn from_request_parts(parts: &mut Parts, Agora(state): &Agora) -> Result<Self, AgoraError> {
        let (org, app, _) = split(parts.uri.path());
        let tenant = state.tenants.of_app(org, app).ok_or_else(AgoraError::no_application)?;
        let actions = tenant.actions().await?;
        let token = caller::bearer(&parts.headers).filter(|token| !token.is_empty());
        let known = match token {
            Some(token) => app_tokens::app(&actions, token).await.map_err(AgoraError::from),
            None => Err(AgoraError::no_token()),
        };
        let app = match known {
            Ok(app) => app,
            Err(error) => {
                if let Some(address) = state.address_of(parts) {
                    state.limits.request_from(address)?;
                }
                return Err(error);
            }
        };
        tracing::Span::current().record("tenant", actions.tenant.as_str());
        state.limits.request_of_app(&actions.tenant, &app.token_id)?;
        Ok(Self { actions, app })
    }
}

/// The two names in a path, and what is behind them.
pub(super) fn split(path: &str) -> (&str, &str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (org, rest) = path.split_once('/').unwrap_or((path, ""));
    let end = rest.find('/').unwrap_or(rest.len());
    let (app, rest) = rest.split_at(end);
    (org, app, rest)
}

/// What a path names behind the pair.
#[derive(Deserialize)]
pub(super) struct Named {
    /// Numbers of rooms, separated by commas where a call takes several; empty where it takes none.
    #[serde(default)]
    pub(super) chatroom_id: String,
    /// Names of people, separated by commas where a call takes several; empty where it takes none.
    #[serde(default)]
    pub(super) username: String,
}

impl FromRequestParts<Agora> for Named {
    type Rejection = AgoraError;

    async fn from_request_parts(parts: &mut Parts, dialect: &Agora) -> Result<Self, AgoraError> {
        // What is no text names nothing.
        let named = Path::<Self>::from_request_parts(parts, dialect).await;
        named.map(|Path(named)| named).map_err(|_unnamed| ActionError::RoomNotFound.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_two_names_and_the_rest() {
        assert_eq!(split("/a/b/chatrooms/1%2C2"), ("a", "b", "/chatrooms/1%2C2"));
        assert_eq!(split("/a/b"), ("a", "b", ""));
        assert_eq!(split("/"), ("", "", ""));
    }
}

//! From listeners and dialects to one router. Handlers translate: one action call each, no rules, no storage.
//!
//! May import: actions, rules (ids), tenants, config, axum, serde. Never: storage, federation, rocksdb.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderValue, Method, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tokio_util::task::TaskTracker;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer},
};

use crate::{
    actions::ActionError,
    config::{Config, Network},
    tenants::Tenants,
};

mod body;
mod caller;
mod error;
mod idempotency;
mod limits;
mod page;
pub(crate) mod time;
pub mod v1;

/// What all handlers share. Cheap to copy.
#[derive(Clone)]
pub(crate) struct ApiState {
    pub(crate) tenants: Tenants,
    pub(crate) limits: Arc<limits::Limits>,
    pub(crate) origins: Arc<[String]>,
    trusted_proxies: Arc<[Network]>,
    tasks: TaskTracker,
}

impl ApiState {
    /// The request came through a proxy whose headers count.
    pub(crate) fn is_proxied(&self, parts: &Parts) -> bool {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        peer.is_some_and(|peer| self.is_trusted(peer))
    }

    /// [`ApiState::address`] of a request.
    pub(crate) fn address_of(&self, parts: &Parts) -> Option<IpAddr> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
        Some(self.address(peer.0, &parts.headers))
    }

    /// The address that a request came from, behind trusted proxies the one that they saw.
    pub(crate) fn address(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.ip();
        if !self.is_trusted(peer) {
            return peer;
        }
        let entries = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let entries: Vec<&str> = entries.flat_map(|value| value.split(',')).map(str::trim).collect();
        for entry in entries.into_iter().rev() {
            let address = entry.parse().or_else(|_| entry.parse::<SocketAddr>().map(|address| address.ip()));
            match address {
                Ok(address) if self.is_trusted(address) => {}
                Ok(address) => return address,
                // What stands further left was written by whoever asked.
                Err(_) => return peer,
            }
        }
        peer
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(address))
    }
}

/// The router of all dialects that the configuration switches on.
///
/// What callers begin runs as one of `tasks`: who closes the stores waits for them first.
pub fn router(config: &Config, tenants: Tenants, tasks: TaskTracker) -> Router {
    let state = ApiState {
        tenants,
        limits: Arc::new(limits::Limits::new(&config.limits)),
        origins: config.cors.origins.iter().map(|origin| origin.to_lowercase()).collect(),
        trusted_proxies: config.listen.trusted_proxies.clone().into(),
        tasks,
    };
    v1::router()
        .layer(middleware::from_fn_with_state(state.clone(), idempotency::layer))
        .layer(middleware::from_fn_with_state(state.clone(), completed))
        .layer(DefaultBodyLimit::max(config.limits.body_bytes_max))
        .layer(middleware::from_fn_with_state(config.limits.body_bytes_max, body::refuse_announced))
        .layer(CatchPanicLayer::custom(v1::error::panicked))
        .layer(cors(config))
        .with_state(state)
}

/// What a caller began is done to its end, even if the caller hangs up: what follows a commit is never left half done.
async fn completed(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    match state.tasks.spawn(next.run(request)).await {
        Ok(response) => response,
        Err(broken) => v1::error::V1Error::from(ActionError::internal(broken)).into_response(),
    }
}

/// Pages of other origins may call with the user's credentials only when they are listed.
fn cors(config: &Config) -> CorsLayer {
    let origins: Vec<HeaderValue> = config.cors.origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_credentials(true)
        .allow_methods(AllowMethods::list([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE]))
        .allow_headers(AllowHeaders::list([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::HeaderName::from_static("idempotency-key"),
        ]))
}

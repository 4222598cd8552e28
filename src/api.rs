//! From listeners and dialects to one router. Handlers translate: one action call each, no rules, no storage.
//!
//! May import: actions, rules (ids), tenants, config, axum, serde. Never: storage, federation, rocksdb.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Deref,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, Request, State},
    http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer, ExposeHeaders},
};
use tracing::Instrument as _;

use crate::{
    actions::ActionError,
    config::{Config, Network},
    random::Random,
    tenants::Tenants,
};

pub mod agora;
mod around;
mod body;
mod caller;
mod calls;
mod dialects;
mod error;
mod file;
mod idempotency;
mod limits;
pub mod mirage;
mod page;
pub mod ryos;
mod table;
pub(crate) mod time;
pub mod v1;
pub mod virola;

pub use dialects::check;
pub use limits::network_of;

use caller::Credential;
use dialects::Door;
use error::Problem;

/// How long a browser may remember what it may send to us.
const PREFLIGHT_KEPT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Put into a request that came over TLS.
#[derive(Clone, Copy)]
pub struct Secure;

/// What the edge of the process gives to the dialects.
pub struct Given {
    /// The tenants.
    pub tenants: Tenants,
    /// What callers begin runs as one of these tasks: who closes the stores waits for them first.
    pub tasks: TaskTracker,
    /// The dice.
    pub random: Arc<dyn Random>,
    /// Cancelled when the server stops: what would go on for ever ends then.
    pub stopping: CancellationToken,
    /// Whether somebody reads the figures.
    pub has_figures: bool,
}

/// What all handlers share. Cheap to copy.
#[derive(Clone)]
pub(crate) struct ApiState(Arc<Shared>);

/// One way to speak with this server. What all dialects have in common is written once for any of them; each says in its own words why something is refused.
pub(crate) trait Dialect: Clone + Send + Sync + 'static {
    /// A refusal in its words.
    type Refusal: From<Problem> + IntoResponse + Send;
    /// What is said of a path that does not exist.
    const NO_SUCH_PATH: &'static str;
    /// What is said of a method that a path does not know.
    const NO_SUCH_METHOD: &'static str;

    /// What all handlers share.
    fn state(&self) -> &ApiState;

    /// The body of this request is a file: it is streamed and has a bound of its own.
    fn takes_a_file(_: &Request) -> bool {
        false
    }

    /// What a request brings to say who asks.
    fn credential<'a>(parts: &'a Parts, state: &ApiState) -> Option<Credential<'a>>;
}

/// What the copies of [`ApiState`] share.
pub(crate) struct Shared {
    pub(crate) tenants: Tenants,
    pub(crate) limits: limits::Limits,
    pub(crate) origins: Vec<String>,
    /// Cancelled when the server stops.
    pub(crate) stopping: CancellationToken,
    trusted_proxies: Vec<Network>,
    tasks: TaskTracker,
    random: Arc<dyn Random>,
    times: around::Times,
    figures: Option<around::RouteFigures>,
    /// How long a socket is waited for.
    pub(crate) patience: v1::Patience,
}

impl Deref for ApiState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Shared {
    /// The request came through a proxy whose headers count.
    pub(crate) fn is_proxied(&self, parts: &Parts) -> bool {
        self.is_from_proxy(&parts.extensions)
    }

    /// [`Shared::is_proxied`], by the marks of the request.
    fn is_from_proxy(&self, marks: &Extensions) -> bool {
        let peer = marks.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        peer.is_some_and(|peer| self.is_trusted(peer))
    }

    /// [`Shared::address`] of a request.
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
            match forwarded(entry) {
                Some(address) if self.is_trusted(address) => {}
                Some(address) => return address,
                // What stands further left was written by whoever asked.
                None => return peer,
            }
        }
        peer
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(address))
    }
}

/// An entry of `X-Forwarded-For`: an address with or without a port, one of IPv6 with or without brackets.
fn forwarded(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')).unwrap_or(entry);
    bare.parse().or_else(|_| entry.parse::<SocketAddr>().map(|address| address.ip())).ok()
}

/// The router of all dialects that the configuration switches on.
pub fn router(config: &Config, given: Given) -> Router {
    let Given { tenants, tasks, random, stopping, has_figures } = given;
    let times = around::Times { body_part: config.limits.body_timeout(), whole: config.limits.request_timeout() };
    let patience = v1::Patience { token: config.limits.stream_token_timeout(), ping: config.limits.stream_ping() };
    let state = ApiState(Arc::new(Shared {
        tenants,
        limits: limits::Limits::new(&config.limits),
        origins: config.cors.origins.iter().map(|origin| origin.to_lowercase()).collect(),
        stopping,
        trusted_proxies: config.listen.trusted_proxies.clone(),
        tasks,
        random,
        times,
        figures: has_figures.then(|| around::RouteFigures::new(dialects::routes(config))),
        patience,
    }));
    let native = surrounded(v1::router(), v1::V1(state.clone()), config);
    let mut doors = Vec::new();
    if config.dialects.ryos.enabled {
        let calls = surrounded(ryos::router(), ryos::Ryos(state.clone()), config);
        doors.push(Door::new(config, "ryos", ryos::owns, calls));
    }
    if config.dialects.virola.enabled {
        let calls = surrounded(virola::router(), virola::Virola(state.clone()), config);
        doors.push(Door::new(config, "virola", virola::owns, calls));
    }
    if config.dialects.mirage.enabled {
        let calls = surrounded(mirage::router(), mirage::Mirage(state.clone()), config);
        doors.push(Door::new(config, "mirage", mirage::owns, calls.clone()));
        doors.push(Door::new(config, "mirage", mirage::owns_bare, calls).without_prefix());
    }
    if config.dialects.agora.enabled {
        let calls = surrounded(agora::router(), agora::Agora(state.clone()), config);
        doors.push(Door::new(config, "agora", agora::owns, agora::enveloped(state.clone(), calls)));
    }
    dialects::router(state, native, doors)
}

/// The calls of a dialect, with what surrounds every request.
fn surrounded<D: Dialect>(calls: Router<D>, dialect: D, config: &Config) -> Router {
    calls
        .layer(middleware::from_fn_with_state(dialect.clone(), idempotency::layer::<D>))
        .layer(middleware::from_fn_with_state(dialect.clone(), completed::<D>))
        .layer(DefaultBodyLimit::max(config.limits.body_bytes_max))
        .layer(middleware::from_fn_with_state(config.limits.body_bytes_max, body::refuse_announced::<D>))
        .layer(CatchPanicLayer::custom(|cause| D::Refusal::from(Problem::panicked(cause)).into_response()))
        .layer(cors(config))
        .layer(middleware::from_fn_with_state(dialect.clone(), around::layer::<D>))
        .with_state(dialect)
}

/// What a caller began is done to its end, even if the caller hangs up: what follows a commit is never left half done.
async fn completed<D: Dialect>(State(dialect): State<D>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    match dialect.state().tasks.spawn(next.run(request).in_current_span()).await {
        Ok(response) => response,
        Err(broken) => D::Refusal::from(ActionError::internal(broken).into()).into_response(),
    }
}

/// Pages of other origins may call with the user's credentials only when they are listed.
fn cors(config: &Config) -> CorsLayer {
    let origins: Vec<HeaderValue> = config.cors.origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    let methods = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let named = HeaderName::from_static;
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_credentials(true)
        .allow_methods(AllowMethods::list(methods))
        .allow_headers(AllowHeaders::list([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_NONE_MATCH,
            header::RANGE,
            named("idempotency-key"),
            named("last-event-id"),
            named("x-username"),
        ]))
        .expose_headers(ExposeHeaders::list([
            header::CONTENT_DISPOSITION,
            header::CONTENT_RANGE,
            header::ETAG,
            header::RETRY_AFTER,
            around::REQUEST_ID,
        ]))
        .max_age(PREFLIGHT_KEPT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(trusted_proxies: &[&str]) -> Shared {
        let second = Duration::from_secs(1);
        Shared {
            tenants: Tenants::new(Vec::new(), Arc::new(crate::clock::Manual::default())),
            limits: limits::Limits::new(&crate::config::Limits::default()),
            origins: Vec::new(),
            stopping: CancellationToken::new(),
            trusted_proxies: trusted_proxies.iter().map(|network| network.parse().unwrap()).collect(),
            tasks: TaskTracker::new(),
            random: Arc::new(crate::random::Seeded::new(1)),
            times: around::Times { body_part: second, whole: second },
            figures: None,
            patience: v1::Patience { token: second, ping: second },
        }
    }

    #[test]
    fn the_address_is_the_last_one_that_no_trusted_proxy_has() {
        let shared = shared(&["10.0.0.0/8", "fd00::/8"]);
        // peer, values of X-Forwarded-For, the address that counts
        let cases: [(&str, &[&str], &str); 13] = [
            ("203.0.113.9:1", &["198.51.100.1"], "203.0.113.9"),
            ("10.0.0.1:1", &[], "10.0.0.1"),
            ("10.0.0.1:1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1:1", &["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1:1", &["6.6.6.6, 198.51.100.1, 10.0.0.7"], "198.51.100.1"),
            ("10.0.0.1:1", &["6.6.6.6", "198.51.100.1 ,10.0.0.7"], "198.51.100.1"),
            ("10.0.0.1:1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1:1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1:1", &["[2001:db8::1]"], "2001:db8::1"),
            ("[fd00::1]:1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("[::ffff:10.0.0.1]:1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1:1", &["6.6.6.6, unknown"], "10.0.0.1"),
            ("10.0.0.1:1", &["10.0.0.2, 10.0.0.3"], "10.0.0.1"),
        ];
        for (peer, values, counts) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", value.parse().unwrap());
            }
            let address = shared.address(peer.parse().unwrap(), &headers);
            assert_eq!(address, counts.parse::<IpAddr>().unwrap(), "{peer} {values:?}");
        }
    }
}

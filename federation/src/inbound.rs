//! What other servers can ask of this one: the URL table, and what every request goes through before its handler.
//!
//! The router serves one tenant; [`destination`] tells the server which one a request is for. `schemas/federation.openapi.yaml`
//! says the same as the table. May import: axum, governor, metrics, the ports and `request_signature`. Never: a store.
//!
//! Modules in reading order: [`authentication`] (who asks), `body`, `json`, `pdu` (what is read), `transaction`, `membership`,
//! `invite`, `history`, `queries`, `directory`, `media`, `keys`, `version` (one conversation each), `error`, `answer`, `request`.

use std::{ops::Deref, sync::Arc};

use axum::{
    Router,
    extract::{FromRef, MatchedPath, Request},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get, post, put},
};
use http::{HeaderMap, Uri, header::HOST};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};
use tracing::{Instrument as _, field::Empty};

use crate::{PeerStore, Refusal, local::Local, policy::Policy, quotas::Quotas, request_signature};

mod answer;
pub mod authentication;
mod body;
mod directory;
mod error;
mod history;
mod invite;
pub(crate) mod json;
pub mod keys;
mod media;
mod membership;
mod pdu;
mod queries;
mod request;
pub(crate) mod transaction;
mod version;

use authentication::{RequestKeys, check};
use body::Bodies;
use error::Failure;
use keys::OurKeys;
use transaction::Transactions;

/// Everything that serving peers takes. All of it belongs to one tenant but the policy, the budgets and the clock, which may be
/// shared.
pub struct Inbound<L, S, K> {
    /// Who we are.
    pub us: OurServer,
    /// The keys that we publish.
    pub our_keys: OurKeys,
    /// What answers.
    pub local: Arc<L>,
    /// Where answers to transactions are kept.
    pub store: Arc<S>,
    /// Where the keys come from that requests are signed with.
    pub keys: Arc<K>,
    /// Which servers may talk to us.
    pub policy: Policy,
    /// What each may use.
    pub quotas: Quotas,
    /// Called with the sender of every request that is proven: it is up again. Must return at once.
    pub heard_from: Arc<dyn Fn(&ServerName) + Send + Sync>,
}

/// Who we are to other servers.
#[derive(Clone)]
pub struct OurServer {
    /// The name of the tenant.
    pub name: OwnedServerName,
    /// Where other servers reach it, told under `/.well-known/matrix/server`: `host` or `host:port`. `None`: at its name.
    pub reached_at: Option<String>,
    /// Name and version of this program.
    pub software: (&'static str, &'static str),
    /// The time.
    pub now: Arc<dyn Fn() -> MilliSecondsSinceUnixEpoch + Send + Sync>,
    /// Random bits, for what nobody may guess.
    pub random: Arc<dyn Fn() -> u128 + Send + Sync>,
}

/// What handlers share.
pub(crate) struct Door<L, S, K>(Arc<Shared<L, S, K>>);

pub(crate) struct Shared<L, S, K> {
    inbound: Inbound<L, S, K>,
    pub(crate) transactions: Transactions,
    pub(crate) bodies: Bodies,
}

impl<L, S, K> Door<L, S, K> {
    fn new(inbound: Inbound<L, S, K>) -> Self {
        Self(Arc::new(Shared { inbound, transactions: Transactions::default(), bodies: Bodies::new() }))
    }
}

impl<L, S, K> Clone for Door<L, S, K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L, S, K> Deref for Door<L, S, K> {
    type Target = Shared<L, S, K>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<L, S, K> Deref for Shared<L, S, K> {
    type Target = Inbound<L, S, K>;

    fn deref(&self) -> &Self::Target {
        &self.inbound
    }
}

impl<L, S, K> FromRef<Door<L, S, K>> for Arc<L> {
    fn from_ref(door: &Door<L, S, K>) -> Self {
        Self::clone(&door.local)
    }
}

impl<L, S, K> FromRef<Door<L, S, K>> for OurServer {
    fn from_ref(door: &Door<L, S, K>) -> Self {
        door.us.clone()
    }
}

impl<L, S, K> FromRef<Door<L, S, K>> for OurKeys {
    fn from_ref(door: &Door<L, S, K>) -> Self {
        door.our_keys.clone()
    }
}

/// How often a request counts whose answer is a whole state or history.
const HEAVY: u32 = 5;

type Table<D> = Vec<(&'static str, MethodRouter<D>)>;

/// The requests that have to be signed.
fn signed<L: Local, S: PeerStore, K: RequestKeys>(door: &Door<L, S, K>) -> Table<Door<L, S, K>> {
    let light = |route: MethodRouter<_>| route.route_layer(from_fn_with_state((door.clone(), 1), check::<L, S, K>));
    let heavy = |route: MethodRouter<_>| route.route_layer(from_fn_with_state((door.clone(), HEAVY), check::<L, S, K>));
    vec![
        ("/_matrix/federation/v1/send/{txn_id}", light(put(transaction::send::<L, S, K>))),
        ("/_matrix/federation/v1/event/{event_id}", light(get(history::event::<L>))),
        ("/_matrix/federation/v1/state/{room_id}", heavy(get(history::state::<L>))),
        ("/_matrix/federation/v1/state_ids/{room_id}", heavy(get(history::state_ids::<L>))),
        ("/_matrix/federation/v1/event_auth/{room_id}/{event_id}", heavy(get(history::event_auth::<L>))),
        ("/_matrix/federation/v1/backfill/{room_id}", heavy(get(history::backfill::<L>))),
        ("/_matrix/federation/v1/get_missing_events/{room_id}", light(post(history::missing_events::<L>))),
        ("/_matrix/federation/v1/make_join/{room_id}/{user_id}", light(get(membership::make_join::<L>))),
        ("/_matrix/federation/v1/make_leave/{room_id}/{user_id}", light(get(membership::make_leave::<L>))),
        ("/_matrix/federation/v1/make_knock/{room_id}/{user_id}", light(get(membership::make_knock::<L>))),
        ("/_matrix/federation/v2/send_join/{room_id}/{event_id}", heavy(put(membership::send_join::<L>))),
        ("/_matrix/federation/v2/send_leave/{room_id}/{event_id}", light(put(membership::send_leave::<L>))),
        ("/_matrix/federation/v1/send_knock/{room_id}/{event_id}", light(put(membership::send_knock::<L>))),
        ("/_matrix/federation/v2/invite/{room_id}/{event_id}", light(put(invite::invite::<L>))),
        ("/_matrix/federation/v1/query/directory", light(get(queries::directory::<L>))),
        ("/_matrix/federation/v1/query/profile", light(get(queries::profile::<L>))),
        (
            "/_matrix/federation/v1/publicRooms",
            light(get(directory::public_rooms::<L>).post(directory::search_public_rooms::<L>)),
        ),
        ("/_matrix/federation/v1/hierarchy/{room_id}", heavy(get(directory::hierarchy::<L>))),
        ("/_matrix/federation/v1/user/devices/{user_id}", light(get(queries::devices::<L>))),
        ("/_matrix/federation/v1/user/keys/query", light(post(queries::device_keys::<L>))),
        ("/_matrix/federation/v1/user/keys/claim", light(post(queries::claim_keys))),
        ("/_matrix/federation/v1/media/download/{media_id}", light(get(media::download::<L>))),
        ("/_matrix/federation/v1/media/thumbnail/{media_id}", light(get(media::thumbnail::<L>))),
    ]
}

/// The requests that anybody may send.
fn unsigned<L: Local, S: PeerStore, K: RequestKeys>() -> Table<Door<L, S, K>> {
    vec![
        ("/_matrix/federation/v1/version", get(version::version)),
        ("/.well-known/matrix/server", get(version::well_known)),
        ("/_matrix/key/v2/server", get(keys::server)),
        ("/_matrix/key/v2/server/{key_id}", get(keys::server)),
        ("/_matrix/key/v2/query", post(keys::query_batch::<L, S, K>)),
        ("/_matrix/key/v2/query/{server_name}", get(keys::query::<L, S, K>)),
    ]
}

/// The whole table.
fn table<L: Local, S: PeerStore, K: RequestKeys>(door: &Door<L, S, K>) -> Table<Door<L, S, K>> {
    signed(door).into_iter().chain(unsigned()).collect()
}

/// All that peers can ask of one tenant. Unknown paths are answered 404, unknown methods 405, both `M_UNRECOGNIZED`. A path may
/// end with a slash. What is signed is the target as it was sent, also when the router is nested in another.
pub fn router<L: Local, S: PeerStore, K: RequestKeys>(inbound: Inbound<L, S, K>) -> Router {
    let door = Door::new(inbound);
    let router = table(&door).into_iter().fold(Router::new(), |router, (path, route)| {
        router.route(path, route.clone()).route(&format!("{path}/"), route)
    });
    router
        .method_not_allowed_fallback(async || Failure::UnknownMethod)
        .fallback(async || Failure::UnknownPath)
        .layer(from_fn(observe))
        .with_state(door)
}

/// The tenant that a request is for: what its signature says, else its `Host` header, else the host of its target (HTTP/2).
/// Nothing is proven by it: the tenant's router checks again.
pub fn destination(headers: &HeaderMap, target: &Uri) -> Option<OwnedServerName> {
    let signed = request_signature::parse(headers).ok();
    let signed = signed.iter().flatten().find_map(|signature| signature.destination.as_deref());
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let name = signed.or(host).or_else(|| target.authority().map(|authority| authority.as_str()))?;
    request_signature::server_name(name)
}

/// The answer to a request for a server that does not live here: 404 `M_UNRECOGNIZED`.
pub fn nobody_here() -> Response {
    Failure::UnknownPath.into_response()
}

/// The answer to a request for a server that cannot be asked now: 503.
pub fn unavailable() -> Response {
    Failure::Refused(Refusal::Unavailable).into_response()
}

/// One span and one count for each request. What a peer chose freely (ids, names, texts) is not logged here.
async fn observe(request: Request, next: Next) -> Response {
    let endpoint = request.extensions().get::<MatchedPath>().map(|path| path.as_str().trim_end_matches('/').to_owned());
    let endpoint = endpoint.unwrap_or_else(|| "unknown".to_owned());
    let method = request.method().clone();
    let span = tracing::info_span!("peer_request", %method, endpoint, peer = Empty);
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    span.in_scope(|| tracing::debug!(status, "Answered a peer's request with {status}"));
    metrics::counter!("yurt_federation_requests_total", "endpoint" => endpoint, "status" => status.to_string())
        .increment(1);
    response
}

#[cfg(test)]
mod tests;

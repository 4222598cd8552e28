//! Who asks: the signature of a request, the policy of this server and the origin's budget, before any handler runs.
//!
//! The order matters. What costs nothing comes first; keys are asked for before the body is read; the body is parsed once, the
//! signature is checked on that value, and handlers get that value. A budget is charged only when the origin is proven.
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{FromRequestParts, OriginalUri, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Method, request::Parts};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedServerSigningKeyId, ServerName,
    ServerSigningKeyId, serde::Base64,
};
use serde_json::value::RawValue;
use tracing::{Span, field::display};

use super::{
    Door,
    body::{self, Guarded},
    error::Failure,
    json::Object,
};
use crate::{
    PeerStore,
    limits::REQUEST_BYTES_MAX,
    local::Local,
    request_signature::{self, Unverified, XMatrix},
    server_keys::ServerKeys,
};

/// Where the keys come from that other servers sign their requests with.
pub trait RequestKeys: Send + Sync + 'static {
    /// The public keys, of 32 bytes, behind these key ids of a server: those that it publishes as current and that are good
    /// now. Keys that are not known are fetched; an id that stays unknown is left out.
    ///
    /// # Errors
    /// When no key can be had now. The request is answered 401.
    fn for_request(
        &self,
        origin: &ServerName,
        key_ids: &[OwnedServerSigningKeyId],
    ) -> impl Future<Output = Result<BTreeMap<OwnedServerSigningKeyId, Base64>, KeysUnavailable>> + Send;

    /// The last good document in which a server published its keys, for who asks us as a notary. It is fetched anew when it
    /// does not last until `minimum`, or not much longer.
    fn document(
        &self,
        server: &ServerName,
        minimum: MilliSecondsSinceUnixEpoch,
    ) -> impl Future<Output = Option<CanonicalJsonObject>> + Send;
}

impl<S: PeerStore> RequestKeys for ServerKeys<S> {
    async fn for_request(
        &self,
        origin: &ServerName,
        key_ids: &[OwnedServerSigningKeyId],
    ) -> Result<BTreeMap<OwnedServerSigningKeyId, Base64>, KeysUnavailable> {
        let key_ids = key_ids.iter().cloned().collect();
        let keys = Self::for_request(self, origin, &key_ids).await.map_err(|error| {
            tracing::warn!(%error, "The keys of other servers cannot be read");
            KeysUnavailable
        })?;
        Ok(keys.into_iter().map(|(key_id, key)| (key_id, Base64::new(key.to_vec()))).collect())
    }

    async fn document(&self, server: &ServerName, minimum: MilliSecondsSinceUnixEpoch) -> Option<CanonicalJsonObject> {
        Self::document(self, server, minimum).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "The keys of other servers cannot be read");
            None
        })
    }
}

/// The keys of a server cannot be had now: it is not reachable, or left alone for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the keys of the server cannot be had")]
pub struct KeysUnavailable;

/// The server that asks, proven by its signature, and the body that it signed. A handler that waits for long lets go of it first.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) origin: OwnedServerName,
    content: Option<Arc<Object>>,
}

impl Peer {
    /// The body of the request, which has to have one.
    pub(crate) fn content(&self) -> Result<&Object, Failure> {
        self.content.as_deref().ok_or(Failure::NotJson("the body is missing"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Failure;

    /// A route that is not behind [`check`] finds nobody: that would be a mistake in the URL table.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        parts.extensions.get::<Self>().cloned().ok_or(Failure::Unauthorized("the request is not signed"))
    }
}

/// Lets a signed request through to its handler. It counts `weight` times against its origin's budget.
pub(crate) async fn check<L: Local, S: PeerStore, K: RequestKeys>(
    State((door, weight)): State<(Door<L, S, K>, u32)>,
    mut request: Request,
    next: Next,
) -> Response {
    let (peer, body_bytes) = match peer_of(&door, &mut request).await {
        Ok(proven) => proven,
        Err(failure) => return failure.into_response(),
    };
    (door.heard_from)(&peer.origin);
    let running = match door.quotas.admit(&peer.origin, weight, body_bytes) {
        Ok(running) => running,
        Err(too_many) => return Failure::from(too_many).into_response(),
    };
    request.extensions_mut().insert(peer);
    next.run(request).await.map(|body| Guarded::wrap(body, running))
}

/// Who sent the request, with the body it signed, and how long that was.
async fn peer_of<L: Local, S: PeerStore, K: RequestKeys>(
    door: &Door<L, S, K>,
    request: &mut Request,
) -> Result<(Peer, usize), Failure> {
    let signatures = claims(request.headers(), &door.us.name)?;
    let origin = signatures.first().map(|first| first.origin.clone()).ok_or(NOT_SIGNED)?;
    Span::current().record("peer", display(&origin));
    if !door.policy.admits(&origin) {
        return Err(Failure::NotAdmitted);
    }
    let has_content = matches!(*request.method(), Method::PUT | Method::POST);
    if has_content {
        body::check_head(request.headers(), REQUEST_BYTES_MAX)?;
    }
    let key_ids: Vec<OwnedServerSigningKeyId> = signatures.iter().map(|signature| signature.key_id.clone()).collect();
    let keys = door.keys.for_request(&origin, &key_ids).await.map_err(|KeysUnavailable| NO_KEY)?;
    let (content, bytes) =
        if has_content { body::read(request, &door.bodies, REQUEST_BYTES_MAX).await? } else { (None, 0) };
    let (content, text) = content.unzip();
    let target = target(request);
    verify(&signatures, request.method(), &target, &door.us.name, text.as_deref(), &keys)?;
    Ok((Peer { origin, content: content.map(Arc::new) }, bytes))
}

const NOT_SIGNED: Failure = Failure::Unauthorized("the request is not signed");
const NO_KEY: Failure = Failure::Unauthorized("no known key signed the request");

/// What the headers claim. A request for another server, or in our own name, is refused before anything is looked up.
fn claims(headers: &HeaderMap, our_name: &ServerName) -> Result<Vec<XMatrix>, Failure> {
    let signatures = request_signature::parse(headers).map_err(|malformed| {
        tracing::debug!(%malformed, "The signature of a request cannot be read");
        Failure::Unauthorized("the request has no readable signature")
    })?;
    let is_for_us = |signature: &XMatrix| {
        signature.destination.as_deref().is_none_or(|destination| destination == our_name.as_str())
    };
    if !signatures.iter().all(is_for_us) {
        return Err(Failure::Unauthorized("the request is for another server"));
    }
    if signatures.iter().any(|signature| signature.origin == our_name) {
        return Err(Failure::Unauthorized("this server sends itself no requests"));
    }
    Ok(signatures)
}

/// Path and query exactly as they were sent.
fn target(request: &Request) -> String {
    let uri = request.extensions().get::<OriginalUri>().map_or(request.uri(), |original| &original.0);
    uri.path_and_query().map_or("/", |target| target.as_str()).to_owned()
}

/// Checks the signatures; `content` is the canonical text of the value that handlers get.
fn verify(
    signatures: &[XMatrix],
    method: &Method,
    target: &str,
    our_name: &ServerName,
    content: Option<&RawValue>,
    keys: &BTreeMap<OwnedServerSigningKeyId, Base64>,
) -> Result<(), Failure> {
    let key = |id: &ServerSigningKeyId| keys.get(id).and_then(|key| <[u8; 32]>::try_from(key.as_bytes()).ok());
    request_signature::verify(signatures, method.as_str(), target, our_name, content, &key).map_err(|unverified| {
        Failure::Unauthorized(match unverified {
            Unverified::OtherDestination => "the request is for another server",
            Unverified::NoKnownKey => "no known key signed the request",
            Unverified::BadSignature => "the signature of the request is wrong",
        })
    })
}

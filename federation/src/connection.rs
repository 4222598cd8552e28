//! Sending one request to another server: signed, to where its name leads, within bounds, not while it is left alone.
//!
//! Each server has connections of its own, so that no request goes out on a connection made for another one. The request
//! target is sent byte for byte as it is signed. Plain `http` is never spoken, proxies and redirects are not known.
//! May import: hyper, `discovery`, `request_signature`, `policy`, `limits`; asks the port [`PeerStore`].

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::Router;
use http::{
    Method, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT},
};
use parking_lot::Mutex;
use ruma::{CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};
use tokio::{sync::watch, time::timeout};
use tower_service::Service as _;

use crate::{
    PeerStore,
    body::{self, boxed},
    clock::Ambient,
    discovery::Discovery,
    error::FederationError,
    limits::{
        BACK_OFF_MAX, BACK_OFF_MIN, REQUEST_QUEUE_TIMEOUT, REQUEST_TIMEOUT, SERVERS_IN_MEMORY_MAX, SLOW_REQUEST_TIMEOUT,
    },
    our_keys::SigningKey,
    outside::AGENT,
    policy::Policy,
    request_signature,
};

pub use answer::Answer;
use destination::Destination;
pub use destination::Standing;

mod answer;
mod destination;

/// The servers that live in this very process and are asked without a network.
pub trait InProcess: Send + Sync + 'static {
    /// What answers the requests of peers to this server; `None` when it is not one of ours.
    fn router(&self, server: &ServerName) -> Option<Router>;
}

/// No other server lives in this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl InProcess for Alone {
    fn router(&self, _: &ServerName) -> Option<Router> {
        None
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// One request, its answer included. Default: [`REQUEST_TIMEOUT`].
    pub request: Duration,
    /// A request that makes the peer work hard. Default: [`SLOW_REQUEST_TIMEOUT`].
    pub slow_request: Duration,
    /// How long a server is left alone after its first failure. Default: [`BACK_OFF_MIN`].
    pub back_off_min: Duration,
    /// The longest time for which it is left alone. Default: [`BACK_OFF_MAX`].
    pub back_off_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            request: REQUEST_TIMEOUT,
            slow_request: SLOW_REQUEST_TIMEOUT,
            back_off_min: BACK_OFF_MIN,
            back_off_max: BACK_OFF_MAX,
        }
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// `GET`, `PUT` or `POST`.
    pub method: Method,
    /// Path and query, percent-encoded: what is signed and sent.
    pub target: &'a str,
    /// The body.
    pub content: Option<&'a CanonicalJsonObject>,
    /// Key documents and versions are asked for without a signature.
    pub is_signed: bool,
    /// It takes the time of a slow request.
    pub is_slow: bool,
    /// It is sent even to a server that is left alone.
    pub is_urgent: bool,
}

impl<'a> Call<'a> {
    /// A signed request without a body.
    pub fn get(target: &'a str) -> Self {
        Self { method: Method::GET, target, content: None, is_signed: true, is_slow: false, is_urgent: false }
    }

    /// A signed request with a body.
    pub fn with(method: Method, target: &'a str, content: &'a CanonicalJsonObject) -> Self {
        Self { method, content: Some(content), ..Self::get(target) }
    }

    /// The same with the time-out of slow requests.
    #[must_use]
    pub fn slow(self) -> Self {
        Self { is_slow: true, ..self }
    }
}

/// The requests of one server to all others.
pub struct Connections<S> {
    own: OwnedServerName,
    key: SigningKey,
    discovery: Arc<Discovery>,
    in_process: Arc<dyn InProcess>,
    store: Arc<S>,
    patience: Patience,
    policy: Policy,
    pub(crate) ambient: Ambient,
    destinations: Mutex<HashMap<OwnedServerName, Arc<Destination>>>,
    revived: watch::Sender<u64>,
}

impl<S: PeerStore> Connections<S> {
    /// The requests of the server `own`, signed with its current key.
    pub fn new(
        own: OwnedServerName,
        key: SigningKey,
        discovery: Arc<Discovery>,
        in_process: Arc<dyn InProcess>,
        store: Arc<S>,
        patience: Patience,
        ambient: Ambient,
    ) -> Self {
        let (destinations, revived) = (Mutex::default(), watch::Sender::new(0));
        let policy = Policy::default();
        Self { own, key, discovery, in_process, store, patience, policy, ambient, destinations, revived }
    }

    /// The same, to the servers that this policy admits. Everybody is asked for keys: events of a server come through others too.
    #[must_use]
    pub fn under(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// The policy admits the server.
    pub(crate) fn admits(&self, server: &ServerName) -> bool {
        self.policy.admits(server)
    }

    /// The name of the server whose requests these are.
    pub fn own(&self) -> &ServerName {
        &self.own
    }

    /// Where servers are.
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    pub(crate) fn store(&self) -> &S {
        &self.store
    }

    /// Sends a request and reads its whole answer, a 200 of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`FederationError`]; another status is [`FederationError::Refused`].
    pub async fn exchange(
        &self,
        server: &ServerName,
        call: Call<'_>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, FederationError> {
        let (destination, failures) = self.admitted(server, &call).await?;
        let result = async { self.ask(&destination, &call).await?.read(bytes_max).await }.await;
        self.record(&destination, failures, result.as_ref().err()).await?;
        result
    }

    /// Sends a request whose answer is read piece by piece. It is a 200.
    ///
    /// # Errors
    /// [`FederationError`]; another status is [`FederationError::Refused`].
    pub async fn open(&self, server: &ServerName, call: Call<'_>) -> Result<Answer, FederationError> {
        let (destination, failures) = self.admitted(server, &call).await?;
        let result = self.ask(&destination, &call).await;
        self.record(&destination, failures, result.as_ref().err()).await?;
        result
    }

    /// A request that this server really signed came from it: it is there, and no longer left alone.
    ///
    /// # Errors
    /// When that cannot be stored; it counts all the same until the next start.
    pub async fn heard_from(&self, server: &ServerName) -> Result<(), FederationError> {
        let destination = self.loaded(server).await?;
        if destination.heard(self.ambient.now()) {
            self.revived.send_modify(|count| *count += 1);
            self.store.keep_back_off(server, None).await?;
        }
        Ok(())
    }

    /// An administrator wants the server to be tried again now.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub async fn reset(&self, server: &ServerName) -> Result<(), FederationError> {
        let destination = self.loaded(server).await?;
        destination.forgive();
        self.revived.send_modify(|count| *count += 1);
        Ok(self.store.keep_back_off(server, None).await?)
    }

    /// How it stands with a server, for administrators.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn standing(&self, server: &ServerName) -> Result<Standing, FederationError> {
        Ok(self.loaded(server).await?.standing())
    }

    /// Until when a server is left alone; `None` when it may be asked now.
    pub(crate) async fn left_alone(
        &self,
        server: &ServerName,
    ) -> Result<Option<MilliSecondsSinceUnixEpoch>, FederationError> {
        Ok(self.loaded(server).await?.left_alone(self.ambient.now()))
    }

    /// Counts up whenever a server is no longer left alone before its time.
    pub(crate) fn revived(&self) -> watch::Receiver<u64> {
        self.revived.subscribe()
    }

    /// Refuses at once while the server is left alone. Gives its failures up to now.
    async fn admitted(&self, server: &ServerName, call: &Call<'_>) -> Result<(Arc<Destination>, u32), FederationError> {
        if call.is_signed && !self.admits(server) {
            return Err(FederationError::NotAdmitted);
        }
        let destination = self.loaded(server).await?;
        match destination.left_alone(self.ambient.now()) {
            Some(next_try) if !call.is_urgent => Err(FederationError::LeftAlone { next_try }),
            _ => {
                let failures = destination.standing().failures;
                Ok((destination, failures))
            }
        }
    }

    async fn ask(&self, destination: &Arc<Destination>, call: &Call<'_>) -> Result<Answer, FederationError> {
        let turn = timeout(REQUEST_QUEUE_TIMEOUT, destination.turn()).await.ok().ok_or(FederationError::Busy)??;
        // While it waited, another request may have found out that the server is gone.
        if let Some(next_try) = destination.left_alone(self.ambient.now()).filter(|_| !call.is_urgent) {
            return Err(FederationError::LeftAlone { next_try });
        }
        let allowed = if call.is_slow { self.patience.slow_request } else { self.patience.request };
        let deadline = tokio::time::Instant::now() + allowed;
        let dispatched = tokio::time::timeout_at(deadline, self.dispatch(destination, call)).await;
        let answer = dispatched.unwrap_or(Err(FederationError::TimedOut))?;
        let answer = Answer::new(answer, deadline, turn);
        if answer.status() == StatusCode::OK { Ok(answer) } else { Err(answer.refusal(self.ambient.now()).await) }
    }

    async fn dispatch(
        &self,
        destination: &Destination,
        call: &Call<'_>,
    ) -> Result<http::Response<body::Body>, FederationError> {
        let server = destination.server();
        if let Some(mut router) = self.in_process.router(server) {
            let request = self.request(server, server.as_str(), call.target.to_owned(), call)?;
            let Ok(answer) = router.call(request.map(axum::body::Body::from)).await;
            return Ok(answer.map(boxed));
        }
        let found = self.discovery.found_under(server).await;
        let client = destination.client(&found, &self.discovery);
        let uri = format!("https://peer{}", call.target);
        let request = self.request(server, found.0.as_str(), uri, call)?;
        Ok(client.request(request.map(http_body_util::Full::new)).await.map_err(destination::told)?.map(boxed))
    }

    fn request(
        &self,
        server: &ServerName,
        host: &str,
        uri: String,
        call: &Call<'_>,
    ) -> Result<http::Request<bytes::Bytes>, FederationError> {
        let content = call.content.map(serde_json::to_vec).transpose();
        let content = content.ok().ok_or(FederationError::Unsendable("the body is not JSON"))?;
        let mut request =
            http::Request::builder().method(call.method.clone()).uri(uri).header(HOST, host).header(USER_AGENT, AGENT);
        if content.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if call.is_signed {
            let method = call.method.as_str();
            let header = request_signature::sign(&self.key, &self.own, server, method, call.target, call.content);
            let header = header.ok().ok_or(FederationError::Unsendable("it cannot be signed"))?;
            request = request.header(AUTHORIZATION, header);
        }
        let body = bytes::Bytes::from(content.unwrap_or_default());
        let request = request.body(body).ok().ok_or(FederationError::Unsendable("its target is no path"))?;
        if request.uri().path_and_query().is_none_or(|sent| sent.as_str() != call.target) {
            return Err(FederationError::Unsendable("its target would be changed"));
        }
        Ok(request)
    }

    async fn record(
        &self,
        destination: &Destination,
        failures_before: u32,
        error: Option<&FederationError>,
    ) -> Result<(), FederationError> {
        match destination.record(failures_before, error, &self.patience, &self.ambient) {
            None => Ok(()),
            Some(back_off) => {
                if back_off.is_none() {
                    self.revived.send_modify(|count| *count += 1);
                }
                Ok(self.store.keep_back_off(destination.server(), back_off).await?)
            }
        }
    }

    /// What is known of a server, back-off of before the last start included.
    async fn loaded(&self, server: &ServerName) -> Result<Arc<Destination>, FederationError> {
        let destination = self.destination(server);
        if !destination.is_loaded() {
            let back_off = self.store.back_off(server).await?;
            destination.load(back_off);
        }
        Ok(destination)
    }

    fn destination(&self, server: &ServerName) -> Arc<Destination> {
        let mut destinations = self.destinations.lock();
        if let Some(destination) = destinations.get(server) {
            return Arc::clone(destination);
        }
        if destinations.len() >= SERVERS_IN_MEMORY_MAX {
            // What has to be kept of it is in the store.
            let other = destinations.iter().find(|(_, other)| Arc::strong_count(other) == 1);
            let other = other.map(|(name, _)| name.clone());
            other.and_then(|name| destinations.remove(&name));
        }
        let destination = Arc::new(Destination::new(server.to_owned()));
        destinations.insert(server.to_owned(), Arc::clone(&destination));
        destination
    }
}

#[cfg(test)]
mod tests;

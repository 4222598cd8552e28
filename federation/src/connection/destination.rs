//! One server as we see it: its connections, its turns, and whether it is left alone.
//!
//! May import: hyper-util, `discovery`, `limits`.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use parking_lot::Mutex;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_service::Service;

use super::Patience;
use crate::{
    BackOff,
    clock::{Ambient, later},
    dial::Stream,
    discovery::{Discovery, FoundUnder},
    error::FederationError,
    limits::{HEAD_BYTES_MAX, IDLE_CONNECTION_KEPT, IDLE_CONNECTIONS_MAX, REQUESTS_PER_SERVER_MAX},
};

/// A 429 that does not say when to come back.
const RETRY_AFTER_DEFAULT: std::time::Duration = std::time::Duration::from_secs(10);

/// How it stands with a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Failures in a row.
    pub failures: u32,
    /// It is left alone until then.
    pub next_try: Option<MilliSecondsSinceUnixEpoch>,
    /// When it last answered, or asked us something. Since our start.
    pub last_seen: Option<MilliSecondsSinceUnixEpoch>,
    /// What went wrong last, and when. Since our start; for administrators only.
    pub last_error: Option<(MilliSecondsSinceUnixEpoch, String)>,
}

pub(super) struct Destination {
    server: OwnedServerName,
    standing: Mutex<(bool, Standing)>,
    turns: Arc<Semaphore>,
    client: Mutex<Option<(FoundUnder, Pool)>>,
}

pub(super) type Pool = Client<Connector, Full<Bytes>>;

impl Destination {
    pub(super) fn new(server: OwnedServerName) -> Self {
        let turns = Arc::new(Semaphore::new(REQUESTS_PER_SERVER_MAX));
        Self { server, standing: Mutex::default(), turns, client: Mutex::default() }
    }

    pub(super) fn server(&self) -> &ServerName {
        &self.server
    }

    /// Waits for the turn of one more request.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit, FederationError> {
        Arc::clone(&self.turns).acquire_owned().await.ok().ok_or(FederationError::Busy)
    }

    /// The connections to where the server is found now. When that changes, those to where it was are given up.
    pub(super) fn client(&self, found: &FoundUnder, discovery: &Arc<Discovery>) -> Pool {
        let mut client = self.client.lock();
        match &*client {
            Some((under, pool)) if under == found => pool.clone(),
            _ => {
                let connector = Connector { discovery: Arc::clone(discovery), found: found.clone() };
                let pool = Client::builder(TokioExecutor::new())
                    .pool_timer(TokioTimer::new())
                    .pool_idle_timeout(IDLE_CONNECTION_KEPT)
                    .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
                    .http1_max_buf_size(HEAD_BYTES_MAX)
                    .set_host(false)
                    .build(connector);
                client.insert((found.clone(), pool)).1.clone()
            }
        }
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.standing.lock().0
    }

    /// Takes over what the store knows, unless something was learnt in between.
    pub(super) fn load(&self, back_off: Option<BackOff>) {
        let (is_loaded, standing) = &mut *self.standing.lock();
        if !*is_loaded {
            *is_loaded = true;
            standing.failures = back_off.map_or(0, |back_off| back_off.failures);
            standing.next_try = back_off.map(|back_off| back_off.next_try);
        }
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing.lock().1.clone()
    }

    pub(super) fn left_alone(&self, now: MilliSecondsSinceUnixEpoch) -> Option<MilliSecondsSinceUnixEpoch> {
        self.standing.lock().1.next_try.filter(|next_try| *next_try > now)
    }

    /// The server asked us something. Says whether it was left alone for its failures: one that wants us to wait (429) is
    /// still given its time.
    pub(super) fn heard(&self, now: MilliSecondsSinceUnixEpoch) -> bool {
        let has_failed = {
            let standing = &mut self.standing.lock().1;
            standing.last_seen = Some(now);
            standing.failures > 0
        };
        has_failed && self.forgive()
    }

    /// Ends the back-off. Says whether there was one.
    pub(super) fn forgive(&self) -> bool {
        let standing = &mut self.standing.lock().1;
        standing.failures = 0;
        standing.next_try.take().is_some()
    }

    /// Takes in how a request ended. Gives the back-off to store when that has changed.
    ///
    /// Many requests that fail together count as one failure: `failures_before` is what there was when this one began.
    pub(super) fn record(
        &self,
        failures_before: u32,
        error: Option<&FederationError>,
        patience: &Patience,
        ambient: &Ambient,
    ) -> Option<Option<BackOff>> {
        let now = ambient.now();
        let standing = &mut self.standing.lock().1;
        if let Some(error) = error {
            standing.last_error = Some((now, error.to_string()));
        }
        match error {
            Some(
                FederationError::LeftAlone { .. }
                | FederationError::NotAdmitted
                | FederationError::Busy
                | FederationError::Unsendable(_)
                | FederationError::Storage(_),
            ) => None,
            Some(error) if !error.is_reachable() => {
                if standing.failures != failures_before {
                    return None;
                }
                let growth = 2_u32.saturating_pow(standing.failures.min(31));
                let pause = ambient.jittered(patience.back_off_min.saturating_mul(growth)).min(patience.back_off_max);
                standing.failures = standing.failures.saturating_add(1);
                let next_try = later(now, pause);
                standing.next_try = Some(next_try);
                Some(Some(BackOff { failures: standing.failures, next_try }))
            }
            Some(FederationError::Refused(refusal)) if refusal.status.as_u16() == 429 => {
                let next_try = refusal.retry_at.unwrap_or(later(now, RETRY_AFTER_DEFAULT));
                standing.last_seen = Some(now);
                standing.failures = 0;
                standing.next_try = Some(next_try);
                Some(Some(BackOff { failures: 0, next_try }))
            }
            _ => {
                standing.last_seen = Some(now);
                standing.failures = 0;
                standing.next_try.take().map(|_| None)
            }
        }
    }
}

/// Opens connections to one server. The address in the request means nothing to it.
#[derive(Clone)]
pub(super) struct Connector {
    discovery: Arc<Discovery>,
    found: FoundUnder,
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = FederationError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, FederationError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), FederationError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { discovery, found } = self.clone();
        Box::pin(async move { discovery.connect(&found).await })
    }
}

/// The error of ours inside one of the pool, or else its text.
pub(super) fn told(error: hyper_util::client::legacy::Error) -> FederationError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(ours) = inner.downcast_ref::<FederationError>() {
            return ours.clone();
        }
        cause = inner.source();
    }
    let text = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    if error.is_connect() { FederationError::NoConnection(text) } else { FederationError::Broken(text) }
}

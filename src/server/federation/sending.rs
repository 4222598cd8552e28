//! What sends to other servers for a tenant. Implements [`Sending`].

use std::sync::Arc;

use federation::outbound::{Edu, Outbound, PeerStatus};
use ruma::{OwnedServerName, ServerName};
use tokio::sync::RwLock;

use super::{Gateway, network::told};
use crate::actions::{
    Actions,
    outgoing::{Doing, Sending, TenantOutbox},
    peers::{Asking, PeerError, PeerRows},
};

/// The handles of the actions that are there while nobody asks: what answers peers, and this.
const IDLE_HANDLES: usize = 2;

/// What sends for one tenant, until it is stopped.
pub(super) struct Sender {
    outbound: RwLock<Option<Outbound<PeerRows, TenantOutbox>>>,
    /// What answers peers. Both are one handle for the tenant.
    local: Arc<Actions>,
    gateway: Arc<Gateway>,
}

impl Sender {
    pub(super) fn new(outbound: Outbound<PeerRows, TenantOutbox>, local: Arc<Actions>, gateway: Arc<Gateway>) -> Self {
        Self { outbound: RwLock::new(Some(outbound)), local, gateway }
    }

    fn with(&self, work: impl FnOnce(&Outbound<PeerRows, TenantOutbox>)) {
        // It is held for longer only at the end.
        if let Ok(outbound) = self.outbound.try_read() {
            outbound.as_ref().map(work);
        }
    }
}

impl Sending for Sender {
    fn wake(&self, servers: Vec<OwnedServerName>) {
        self.with(|outbound| outbound.wake(servers));
    }

    fn edu(&self, servers: Vec<OwnedServerName>, edu: &Edu) {
        self.with(|outbound| outbound.edu(servers, edu));
    }

    fn status<'a>(&'a self, peer: &'a ServerName) -> Asking<'a, PeerStatus> {
        Box::pin(async move {
            let outbound = self.outbound.read().await;
            outbound.as_ref().ok_or(PeerError::Unreachable)?.status(peer).await.map_err(told)
        })
    }

    fn reset<'a>(&'a self, peer: &'a ServerName) -> Asking<'a, ()> {
        Box::pin(async move {
            let outbound = self.outbound.read().await;
            outbound.as_ref().ok_or(PeerError::Unreachable)?.reset(peer).await.map_err(told)
        })
    }

    fn forget(&self, servers: Vec<OwnedServerName>) {
        self.with(|outbound| outbound.forget(&servers));
    }

    fn idle_handles(&self) -> Option<usize> {
        (Arc::strong_count(&self.local) <= IDLE_HANDLES).then_some(1)
    }

    fn stop(&self) -> Doing<'_> {
        Box::pin(async move {
            self.gateway.shut(&self.local.server_name);
            if let Some(outbound) = self.outbound.write().await.take() {
                outbound.stop().await;
            }
        })
    }
}

//! Sending what is owed to other servers: one transaction at a time to each, retried with the same id and content until it is
//! answered. What is owed is read from the port [`Outbox`]; only typing and read receipts live here, in memory.
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#transactions>
//!
//! May import: `connection`, `peer`, `limits`, `clock`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

use crate::{
    Outbox, PeerStore,
    connection::{Connections, Standing},
    error::FederationError,
    limits::EDU_DESTINATIONS_MAX,
};

pub use edus::Edu;
use edus::Edus;
use transaction::InFlight;

mod driver;
mod edus;
mod transaction;

/// Sends to all other servers. Dropping it stops it; [`Outbound::stop`] also waits.
pub struct Outbound<S, O: Outbox> {
    shared: Arc<Shared<S, O>>,
    stop: watch::Sender<bool>,
    driver: JoinHandle<()>,
}

/// How it stands with one destination, for administrators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// What its answers were like.
    pub standing: Standing,
    /// A transaction to it is running.
    pub is_sending: bool,
    /// When it is sent to again, if it waits.
    pub next_try: Option<MilliSecondsSinceUnixEpoch>,
    /// Events of the transaction that is not yet answered.
    pub pdus_in_flight: usize,
    /// Typing notices and read receipts that wait.
    pub edus_waiting: usize,
}

/// What the driver, its workers and the callers share.
struct Shared<S, O: Outbox> {
    connections: Arc<Connections<S>>,
    outbox: Arc<O>,
    lanes: Mutex<Lanes<O::Cursor>>,
    woken: Notify,
    /// Random, so that no transaction id of an earlier start comes again.
    start: u64,
}

struct Lanes<Cursor> {
    /// To be looked at.
    ready: BTreeSet<OwnedServerName>,
    /// With when the transaction that runs began.
    running: BTreeMap<OwnedServerName, MilliSecondsSinceUnixEpoch>,
    /// Those that took long for the last one.
    slow: BTreeSet<OwnedServerName>,
    waiting: BTreeMap<OwnedServerName, MilliSecondsSinceUnixEpoch>,
    edus: HashMap<OwnedServerName, Edus>,
    in_flight: HashMap<OwnedServerName, InFlight<Cursor>>,
    /// What is just on its way there is not sent again.
    forgotten: BTreeSet<OwnedServerName>,
    /// Refusals in a row of servers that are reachable.
    refusals: HashMap<OwnedServerName, u32>,
    transactions: u64,
}

impl<S: PeerStore, O: Outbox> Outbound<S, O> {
    /// Begins to send. Needs a tokio runtime.
    pub fn start(connections: Arc<Connections<S>>, outbox: Arc<O>) -> Self {
        let lanes = Lanes {
            ready: BTreeSet::new(),
            running: BTreeMap::new(),
            slow: BTreeSet::new(),
            waiting: BTreeMap::new(),
            edus: HashMap::new(),
            in_flight: HashMap::new(),
            forgotten: BTreeSet::new(),
            refusals: HashMap::new(),
            transactions: 0,
        };
        let start = connections.ambient.random.next();
        let shared = Arc::new(Shared { connections, outbox, lanes: Mutex::new(lanes), woken: Notify::new(), start });
        let stop = watch::Sender::new(false);
        let driver = tokio::spawn(driver::run(Arc::clone(&shared), stop.subscribe()));
        Self { shared, stop, driver }
    }

    /// There is something new in the outbox for these servers.
    pub fn wake(&self, destinations: impl IntoIterator<Item = OwnedServerName>) {
        let mut lanes = self.shared.lanes.lock();
        let others = destinations.into_iter().filter(|server| server != self.shared.connections.own());
        lanes.ready.extend(others);
        drop(lanes);
        self.shared.woken.notify_one();
    }

    /// Tells servers that somebody types or has read. It is lost when a server does not answer, and of two about the same user
    /// and room only the later one is sent.
    pub fn edu(&self, destinations: impl IntoIterator<Item = OwnedServerName>, edu: &Edu) {
        let mut lanes = self.shared.lanes.lock();
        for server in destinations {
            let is_lost = lanes.waiting.contains_key(&server) || server == self.shared.connections.own();
            let has_room = lanes.edus.len() < EDU_DESTINATIONS_MAX || lanes.edus.contains_key(&server);
            if !is_lost && has_room {
                lanes.edus.entry(server.clone()).or_default().push(edu.clone());
                lanes.ready.insert(server);
            }
        }
        drop(lanes);
        self.shared.woken.notify_one();
    }

    /// Events of these servers' unanswered transactions are read from the outbox again, which may no longer have them; typing notices and read receipts are
    /// dropped. A request that is on its way ends as it may.
    pub fn forget(&self, destinations: &[OwnedServerName]) {
        let mut lanes = self.shared.lanes.lock();
        for server in destinations {
            lanes.in_flight.remove(server);
            lanes.edus.remove(server);
            if lanes.running.contains_key(server) {
                lanes.forgotten.insert(server.clone());
            }
        }
    }

    /// How it stands with a server.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn status(&self, peer: &ServerName) -> Result<PeerStatus, FederationError> {
        let standing = self.shared.connections.standing(peer).await?;
        let lanes = self.shared.lanes.lock();
        Ok(PeerStatus {
            standing,
            is_sending: lanes.running.contains_key(peer),
            next_try: lanes.waiting.get(peer).copied(),
            pdus_in_flight: lanes.in_flight.get(peer).map_or(0, InFlight::pdus),
            edus_waiting: lanes.edus.get(peer).map_or(0, Edus::len),
        })
    }

    /// Tries a server again now, as an administrator wants it.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub async fn reset(&self, peer: &ServerName) -> Result<(), FederationError> {
        self.shared.connections.reset(peer).await?;
        let mut lanes = self.shared.lanes.lock();
        lanes.waiting.remove(peer);
        lanes.refusals.remove(peer);
        lanes.ready.insert(peer.to_owned());
        drop(lanes);
        self.shared.woken.notify_one();
        Ok(())
    }

    /// Stops. What is not yet answered is sent again after the next start.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.driver.await {
            tracing::error!(%error, "Sending to other servers had ended before it was stopped: {error}");
        }
    }
}

#[cfg(test)]
mod tests;

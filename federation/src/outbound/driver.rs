//! The driver starts a worker for each destination with something to send; a worker ends when there is nothing more, or the
//! destination does not answer. May import: the parent.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::StatusCode;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
};

use super::{Lanes, Shared, transaction::InFlight};
use crate::{
    Outbox, PeerStore, StorageUnavailable,
    clock::later,
    error::FederationError,
    limits::{
        ALL_WORKERS_MAX, BACK_OFF_MIN, IN_FLIGHT_DESTINATIONS_MAX, OUTBOX_LOOK_INTERVAL, OUTBOX_PAUSE,
        REFUSAL_PAUSE_MAX, SLOW_DESTINATIONS_MAX, SLOW_TRANSACTION, SLOW_WORKERS_MAX, TRANSACTION_EDUS_MAX,
        TRANSACTION_PDUS_MAX, TRANSACTIONS_PER_TURN_MAX, WORKERS_MAX,
    },
};

/// How a worker ended.
enum Ended {
    /// There is nothing more to send.
    Idle,
    /// There may be more: others come first.
    Unfinished,
    /// It is tried again then.
    Waits(MilliSecondsSinceUnixEpoch),
}

pub(super) async fn run<S: PeerStore, O: Outbox>(shared: Arc<Shared<S, O>>, mut stop: watch::Receiver<bool>) {
    let mut workers = JoinSet::new();
    let mut servers: HashMap<Id, OwnedServerName> = HashMap::new();
    let mut revived = shared.connections.revived();
    let mut next_look = shared.now();
    loop {
        if next_look <= shared.now() {
            let look = shared.look().await;
            next_look = later(shared.now(), look);
        }
        while let Some(server) = shared.next_ready() {
            let worker = workers.spawn(Arc::clone(&shared).work(server.clone()));
            servers.insert(worker.id(), server);
        }
        let due = shared.next_due().map_or(next_look, |due| due.min(next_look));
        tokio::select! {
            () = shared.woken.notified() => {}
            () = shared.connections.ambient.clock.sleep_until(due) => {}
            changed = revived.changed() => if changed.is_ok() { shared.look_at_the_waiting().await },
            // An error says that the sender is gone: that is a stop too.
            _ = stop.changed() => break,
            Some(ended) = workers.join_next_with_id() => {
                let (id, ended) = match ended {
                    Ok((id, ended)) => (id, ended),
                    Err(error) => {
                        tracing::error!(%error, "A worker that sends to another server broke: {error}");
                        (error.id(), Ended::Waits(later(shared.now(), OUTBOX_PAUSE)))
                    }
                };
                if let Some(server) = servers.remove(&id) {
                    shared.ended(server, ended);
                }
            }
        }
    }
    workers.shutdown().await;
}

impl<Cursor> Lanes<Cursor> {
    /// When the transactions began of those that have a turn among the others.
    fn quick(&self, now: MilliSecondsSinceUnixEpoch) -> impl Iterator<Item = MilliSecondsSinceUnixEpoch> {
        let running = self.running.iter().filter(|(server, _)| !self.slow.contains(*server)).map(|(_, began)| *began);
        running.filter(move |began| later(*began, SLOW_TRANSACTION) > now)
    }
}

impl<S: PeerStore, O: Outbox> Shared<S, O> {
    fn now(&self) -> MilliSecondsSinceUnixEpoch {
        self.connections.ambient.now()
    }

    /// Looks through the outbox for destinations that nobody woke. Says when to look again.
    async fn look(&self) -> Duration {
        match self.outbox.destinations().await {
            Ok(destinations) => {
                let mut lanes = self.lanes.lock();
                let others = destinations.into_iter().filter(|server| server != self.connections.own());
                lanes.ready.extend(others);
                OUTBOX_LOOK_INTERVAL
            }
            Err(error) => {
                tracing::warn!(%error, "What is owed to other servers cannot be read: {error}");
                OUTBOX_PAUSE
            }
        }
    }

    /// The next destination to work on, if a worker is free.
    fn next_ready(&self) -> Option<OwnedServerName> {
        let now = self.now();
        let mut lanes = self.lanes.lock();
        let due: Vec<_> =
            lanes.waiting.iter().filter(|(_, at)| **at <= now).map(|(server, _)| server.clone()).collect();
        for server in due {
            lanes.waiting.remove(&server);
            lanes.ready.insert(server);
        }
        let quick = lanes.quick(now).count();
        let slow = lanes.running.len().saturating_sub(quick);
        if lanes.running.len() >= ALL_WORKERS_MAX {
            return None;
        }
        let has_turn = |server: &OwnedServerName| match lanes.slow.contains(server) {
            true => slow < SLOW_WORKERS_MAX,
            false => quick < WORKERS_MAX,
        };
        let is_free = |server: &OwnedServerName| {
            !lanes.running.contains_key(server) && !lanes.waiting.contains_key(server) && has_turn(server)
        };
        let server = lanes.ready.iter().find(|server| is_free(server))?.clone();
        lanes.ready.remove(&server);
        lanes.running.insert(server.clone(), now);
        Some(server)
    }

    /// When somebody's time to be sent to comes, or somebody who has a turn becomes slow and leaves it to others.
    fn next_due(&self) -> Option<MilliSecondsSinceUnixEpoch> {
        let lanes = self.lanes.lock();
        let becomes_slow = lanes.quick(self.now()).min().filter(|_| !lanes.ready.is_empty());
        lanes.waiting.values().copied().chain(becomes_slow.map(|began| later(began, SLOW_TRANSACTION))).min()
    }

    /// A transaction to the server begins.
    fn begins(&self, server: &ServerName) -> MilliSecondsSinceUnixEpoch {
        let now = self.now();
        if let Some(began) = self.lanes.lock().running.get_mut(server) {
            *began = now;
        }
        now
    }

    /// A transaction to the server was answered or not: the next one gets its turn accordingly.
    fn ends(&self, server: &ServerName, began: MilliSecondsSinceUnixEpoch) {
        let is_slow = later(began, SLOW_TRANSACTION) <= self.now();
        let mut lanes = self.lanes.lock();
        if !is_slow {
            lanes.slow.remove(server);
            return;
        }
        if lanes.slow.len() >= SLOW_DESTINATIONS_MAX {
            lanes.slow.clear();
        }
        lanes.slow.insert(server.to_owned());
    }

    /// Some server is no longer left alone: those that are not may be sent to.
    async fn look_at_the_waiting(&self) {
        let waiting: Vec<_> = {
            let lanes = self.lanes.lock();
            // Who refuses is there all the time, and waits for its own sake.
            lanes.waiting.keys().filter(|server| !lanes.refusals.contains_key(*server)).cloned().collect()
        };
        for server in waiting {
            if let Ok(None) = self.connections.left_alone(&server).await {
                let mut lanes = self.lanes.lock();
                lanes.waiting.remove(&server);
                lanes.ready.insert(server);
            }
        }
    }

    fn ended(&self, server: OwnedServerName, ended: Ended) {
        let mut lanes = self.lanes.lock();
        lanes.running.remove(&server);
        lanes.forgotten.remove(&server);
        match ended {
            Ended::Idle => {}
            Ended::Unfinished => {
                lanes.ready.insert(server);
            }
            Ended::Waits(at) => {
                lanes.edus.remove(&server);
                if lanes.in_flight.len() > IN_FLIGHT_DESTINATIONS_MAX {
                    // Its events come from the outbox again, under another id.
                    lanes.in_flight.remove(&server);
                }
                // Kept ready: it has something to send when its time comes.
                lanes.waiting.insert(server, at);
            }
        }
    }

    async fn work(self: Arc<Self>, server: OwnedServerName) -> Ended {
        for _ in 0..TRANSACTIONS_PER_TURN_MAX {
            match self.step(&server).await {
                Ok(true) => {}
                Ok(false) => return Ended::Idle,
                Err(FederationError::Storage(error)) => {
                    tracing::warn!(peer = %server, %error, "Sending to `{server}` pauses: {error}");
                    return Ended::Waits(later(self.now(), OUTBOX_PAUSE));
                }
                Err(error) => return Ended::Waits(self.pause(&server, &error).await),
            }
        }
        Ended::Unfinished
    }

    /// Sends one part. Says whether there may be more.
    async fn step(&self, server: &ServerName) -> Result<bool, FederationError> {
        if !self.connections.admits(server) {
            // What it is owed stays in the outbox.
            let mut lanes = self.lanes.lock();
            lanes.in_flight.remove(server);
            lanes.edus.remove(server);
            return Ok(false);
        }
        let Some(mut in_flight) = self.in_flight(server).await? else { return Ok(false) };
        if let Some(part) = in_flight.parts.front() {
            let content = part.content(self.connections.own());
            let began = self.begins(server);
            let sent = self.connections.peer(server).send_transaction(&part.transaction_id, &content).await;
            self.ends(server, began);
            match sent {
                Ok(refused) => {
                    self.lanes.lock().refusals.remove(server);
                    if !refused.is_empty() {
                        tracing::debug!(peer = %server, count = refused.len(), "`{server}` did not take some events");
                    }
                    in_flight.parts.pop_front();
                }
                Err(error) if error.status() == Some(StatusCode::PAYLOAD_TOO_LARGE) => {
                    if !in_flight.cut(|| self.transaction_id()) {
                        tracing::warn!(peer = %server, "`{server}` finds one event too large: it does not get it");
                    }
                }
                Err(error) if error.is_worth_retrying() => {
                    // Typing and receipts alone are not worth a repeat.
                    if in_flight.up_to.is_some() {
                        self.keep(server, in_flight);
                    }
                    return Err(error);
                }
                // It was answered, with something that the same request will always be answered with.
                Err(error) => {
                    tracing::warn!(peer = %server, %error, "A transaction to `{server}` is given up: {error}");
                    in_flight.parts.pop_front();
                }
            }
        }
        if !in_flight.parts.is_empty() {
            self.keep(server, in_flight);
        } else if let Some(up_to) = in_flight.up_to {
            self.outbox.delivered(server, up_to).await?;
        }
        Ok(true)
    }

    /// Keeps what is not yet answered, unless it shall not be sent any more.
    fn keep(&self, server: &ServerName, in_flight: InFlight<O::Cursor>) {
        let mut lanes = self.lanes.lock();
        if !lanes.forgotten.remove(server) {
            lanes.in_flight.insert(server.to_owned(), in_flight);
        }
    }

    /// What is not yet answered, else the next of the outbox and the EDUs that wait; `None` when there is nothing.
    async fn in_flight(&self, server: &ServerName) -> Result<Option<InFlight<O::Cursor>>, StorageUnavailable> {
        if let Some(in_flight) = self.lanes.lock().in_flight.remove(server) {
            return Ok(Some(in_flight));
        }
        let batch = self.outbox.next(server, TRANSACTION_PDUS_MAX).await?;
        let edus = {
            let mut lanes = self.lanes.lock();
            let edus = lanes.edus.get_mut(server).map(|edus| edus.take(TRANSACTION_EDUS_MAX)).unwrap_or_default();
            if lanes.edus.get(server).is_some_and(|edus| edus.len() == 0) {
                lanes.edus.remove(server);
            }
            edus
        };
        if batch.is_none() && edus.is_empty() {
            return Ok(None);
        }
        let edus = edus.iter().map(super::Edu::to_json).collect();
        Ok(Some(InFlight::new(batch, edus, self.now(), || self.transaction_id())))
    }

    fn transaction_id(&self) -> String {
        let mut lanes = self.lanes.lock();
        lanes.transactions += 1;
        format!("{:016x}-{}", self.start, lanes.transactions)
    }

    /// Until when nothing is sent to a server that did not take a transaction.
    async fn pause(&self, server: &ServerName, error: &FederationError) -> MilliSecondsSinceUnixEpoch {
        tracing::debug!(peer = %server, %error, "`{server}` does not take a transaction: {error}");
        if let Ok(Some(next_try)) = self.connections.left_alone(server).await {
            return next_try;
        }
        // It is there, but does not want it: the wait grows all the same.
        let refusals = {
            let mut lanes = self.lanes.lock();
            let refusals = lanes.refusals.entry(server.to_owned()).or_default();
            *refusals = refusals.saturating_add(1);
            *refusals
        };
        let pause = BACK_OFF_MIN.saturating_mul(2_u32.saturating_pow(refusals.min(31))).min(REFUSAL_PAUSE_MAX);
        later(self.now(), self.connections.ambient.jittered(pause))
    }
}

//! The keys of other servers: fetched from them, checked, believed for as long as the specification says.
//!
//! Keys are kept for ever, in the port [`PeerStore`]: old events are checked with old keys. The bytes behind a key id never change.
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>
//! May import: `connection`, `limits`, `clock`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use ruma::{CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedServerSigningKeyId, ServerName};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    PeerStore, ServerKey, Validity,
    clock::{Ambient, later},
    connection::{Call, Connections},
    error::FederationError,
    limits::{
        KEY_FETCH_PAUSE_MAX, KEY_FETCH_PAUSE_MIN, KEY_FETCHES_MAX, SERVERS_IN_MEMORY_MAX, SMALL_ANSWER_BYTES_MAX,
        UNKNOWN_KEYS_MAX,
    },
};

pub(crate) mod document;

/// What is known of servers' keys, by server and key id.
pub type KnownKeys = BTreeMap<OwnedServerName, BTreeMap<OwnedServerSigningKeyId, ServerKey>>;

/// Other servers' keys.
pub struct ServerKeys<S> {
    connections: Arc<Connections<S>>,
    refused: BTreeSet<[u8; 32]>,
    servers: Mutex<HashMap<OwnedServerName, Arc<tokio::sync::Mutex<Entry>>>>,
    fetches: Arc<Semaphore>,
}

/// What is remembered of one server. Who holds its lock may fetch: there is one fetch at a time.
#[derive(Default)]
struct Entry {
    is_loaded: bool,
    keys: BTreeMap<OwnedServerSigningKeyId, ServerKey>,
    /// No fetch at all before this.
    next_fetch: Option<MilliSecondsSinceUnixEpoch>,
    failures: u32,
    /// Keys for whose sake there was a fetch that did not help, and when there may be another.
    missed: BTreeMap<OwnedServerSigningKeyId, (u32, MilliSecondsSinceUnixEpoch)>,
}

/// What a key is wanted for.
#[derive(Clone, Copy)]
enum Use {
    /// A request, signed now.
    Request(MilliSecondsSinceUnixEpoch),
    /// An event made at that time.
    Event(MilliSecondsSinceUnixEpoch),
}

impl Use {
    fn is_served_by(self, validity: Validity) -> bool {
        match (self, validity) {
            (Self::Request(at) | Self::Event(at), Validity::Until(end)) => at <= end,
            // No fetch makes it better: the server itself says that it has ended.
            (Self::Event(_), Validity::Expired(_)) => true,
            (Self::Request(_), Validity::Expired(_)) => false,
        }
    }
}

impl<S: PeerStore> ServerKeys<S> {
    /// Keys asked for over these connections. Keys with the bytes in `refused`, published or stolen ones, count for nothing.
    pub fn new(connections: Arc<Connections<S>>, refused: BTreeSet<[u8; 32]>) -> Self {
        let fetches = Arc::new(Semaphore::new(KEY_FETCHES_MAX));
        Self { connections, refused, servers: Mutex::default(), fetches }
    }

    /// Those of the keys with which the origin may sign requests now. A fetch that fails is the same as a key that is not there.
    ///
    /// # Errors
    /// Only when our own store fails.
    pub async fn for_request(
        &self,
        origin: &ServerName,
        key_ids: &BTreeSet<OwnedServerSigningKeyId>,
    ) -> Result<BTreeMap<OwnedServerSigningKeyId, [u8; 32]>, FederationError> {
        let wanted = Use::Request(self.ambient().now());
        let keys = self.known(origin, key_ids, wanted).await?;
        let usable = keys.into_iter().filter(|(_, key)| wanted.is_served_by(key.validity));
        Ok(usable.filter_map(|(key_id, key)| Some((key_id, bytes_of(&key)?))).collect())
    }

    /// What is known of the keys, with how long each is good, after asking the servers for what is not known or not good for
    /// events of the time `at`. Whether a key then counts for an event is the rules' matter.
    ///
    /// # Errors
    /// Only when our own store fails.
    pub async fn for_events(
        self: &Arc<Self>,
        needs: &BTreeSet<(OwnedServerName, OwnedServerSigningKeyId)>,
        at: MilliSecondsSinceUnixEpoch,
    ) -> Result<KnownKeys, FederationError> {
        let mut by_server: BTreeMap<OwnedServerName, BTreeSet<OwnedServerSigningKeyId>> = BTreeMap::new();
        for (server, key_id) in needs {
            by_server.entry(server.clone()).or_default().insert(key_id.clone());
        }
        let mut asked = JoinSet::new();
        for (server, key_ids) in by_server {
            let keys = Arc::clone(self);
            asked.spawn(async move {
                let known = keys.known(&server, &key_ids, Use::Event(at)).await;
                known.map(|known| (server, known))
            });
        }
        let mut known = KnownKeys::new();
        while let Some(answer) = asked.join_next().await {
            let Ok(answer) = answer else { continue };
            let (server, keys) = answer?;
            known.insert(server, keys);
        }
        Ok(known)
    }

    fn ambient(&self) -> &Ambient {
        &self.connections.ambient
    }

    async fn known(
        &self,
        server: &ServerName,
        key_ids: &BTreeSet<OwnedServerSigningKeyId>,
        wanted: Use,
    ) -> Result<BTreeMap<OwnedServerSigningKeyId, ServerKey>, FederationError> {
        let entry = self.entry(server);
        let mut entry = entry.lock().await;
        if !entry.is_loaded {
            entry.keys = self.connections.store().server_keys(server).await?;
            entry.keys.retain(|_, key| self.is_usable(key));
            entry.is_loaded = true;
        }
        if entry.is_worth_a_fetch(key_ids, wanted, self.ambient().now()) {
            self.fetch(server, &mut entry).await?;
            entry.note_missed(key_ids, wanted, self.ambient());
        }
        let known = key_ids.iter().filter_map(|key_id| Some((key_id.clone(), entry.keys.get(key_id)?.clone())));
        Ok(known.collect())
    }

    /// Asks the server, and takes in what it says. That it does not answer is no error.
    async fn fetch(&self, server: &ServerName, entry: &mut Entry) -> Result<(), FederationError> {
        let fetched = async {
            let _turn = self.fetches.acquire().await.ok().ok_or(FederationError::Busy)?;
            // A server that is left alone is asked all the same: its own request may be what brings it back.
            let call = Call { is_signed: false, is_urgent: true, ..Call::get("/_matrix/key/v2/server") };
            let text = self.connections.exchange(server, call, SMALL_ANSWER_BYTES_MAX).await?;
            let document: CanonicalJsonObject =
                serde_json::from_slice(&text).ok().ok_or(FederationError::BadAnswer("keys that are no JSON object"))?;
            document::keys_of(server, &document, self.ambient().now())
        }
        .await;
        let now = self.ambient().now();
        match fetched {
            Ok(mut keys) => {
                keys.retain(|_, key| self.is_usable(key));
                entry.failures = 0;
                entry.next_fetch = Some(later(now, KEY_FETCH_PAUSE_MIN));
                let news = entry.merge(keys);
                if !news.is_empty() {
                    self.connections.store().keep_server_keys(server, news).await?;
                }
            }
            Err(FederationError::Storage(error)) => return Err(error.into()),
            Err(error) => {
                tracing::debug!(peer = %server, %error, "The keys of `{server}` cannot be fetched: {error}");
                entry.next_fetch = Some(later(now, self.ambient().jittered(grown(entry.failures))));
                entry.failures = entry.failures.saturating_add(1);
            }
        }
        Ok(())
    }

    fn is_usable(&self, key: &ServerKey) -> bool {
        bytes_of(key).is_some_and(|bytes| !self.refused.contains(&bytes))
    }

    fn entry(&self, server: &ServerName) -> Arc<tokio::sync::Mutex<Entry>> {
        let mut servers = self.servers.lock();
        if let Some(entry) = servers.get(server) {
            return Arc::clone(entry);
        }
        if servers.len() >= SERVERS_IN_MEMORY_MAX {
            let other = servers.iter().find(|(_, entry)| Arc::strong_count(entry) == 1).map(|(name, _)| name.clone());
            other.and_then(|name| servers.remove(&name));
        }
        Arc::clone(servers.entry(server.to_owned()).or_default())
    }
}

impl Entry {
    fn is_worth_a_fetch(
        &self,
        key_ids: &BTreeSet<OwnedServerSigningKeyId>,
        wanted: Use,
        now: MilliSecondsSinceUnixEpoch,
    ) -> bool {
        let is_early = |at: &MilliSecondsSinceUnixEpoch| *at > now;
        !self.next_fetch.as_ref().is_some_and(is_early)
            && self.lacking(key_ids, wanted).any(|key_id| !self.missed.get(key_id).is_some_and(|(_, at)| is_early(at)))
    }

    fn lacking<'a>(
        &'a self,
        key_ids: &'a BTreeSet<OwnedServerSigningKeyId>,
        wanted: Use,
    ) -> impl Iterator<Item = &'a OwnedServerSigningKeyId> {
        key_ids
            .iter()
            .filter(move |key_id| !self.keys.get(*key_id).is_some_and(|key| wanted.is_served_by(key.validity)))
    }

    /// Remembers which keys the fetch did not bring, so that they cause none for a while.
    fn note_missed(&mut self, key_ids: &BTreeSet<OwnedServerSigningKeyId>, wanted: Use, ambient: &Ambient) {
        let now = ambient.now();
        let lacking: Vec<_> = self.lacking(key_ids, wanted).cloned().collect();
        self.missed.retain(|key_id, _| !key_ids.contains(key_id) || lacking.contains(key_id));
        for key_id in lacking.into_iter().take(UNKNOWN_KEYS_MAX) {
            let misses = self.missed.get(&key_id).map_or(0, |(misses, _)| *misses);
            let again = later(now, ambient.jittered(grown(misses)));
            self.missed.insert(key_id, (misses.saturating_add(1), again));
        }
        while self.missed.len() > UNKNOWN_KEYS_MAX {
            let soonest = self.missed.iter().min_by_key(|(_, (_, at))| *at).map(|(key_id, _)| key_id.clone());
            soonest.and_then(|key_id| self.missed.remove(&key_id));
        }
    }

    /// Takes in what a document says, and gives what is new in it.
    fn merge(
        &mut self,
        keys: BTreeMap<OwnedServerSigningKeyId, ServerKey>,
    ) -> BTreeMap<OwnedServerSigningKeyId, ServerKey> {
        let mut news = BTreeMap::new();
        for (key_id, key) in keys {
            let known = self.keys.get(&key_id);
            if known.is_some_and(|known| known.key.as_bytes() != key.key.as_bytes()) {
                tracing::warn!(%key_id, "A server shows another key under a known id: it is not taken");
                continue;
            }
            let validity = known.map_or(key.validity, |known| merged(known.validity, key.validity));
            if known.is_none_or(|known| known.validity != validity) {
                let key = ServerKey { validity, ..key };
                self.keys.insert(key_id.clone(), key.clone());
                news.insert(key_id, key);
            }
        }
        news
    }
}

/// What holds after a later document: a key in use is extended, never cut short but by saying that it ended.
fn merged(known: Validity, told: Validity) -> Validity {
    match (known, told) {
        (Validity::Until(known), Validity::Until(told)) => Validity::Until(known.max(told)),
        (Validity::Expired(known), Validity::Expired(told)) => Validity::Expired(known.min(told)),
        (_, told) => told,
    }
}

fn grown(failures: u32) -> Duration {
    KEY_FETCH_PAUSE_MIN.saturating_mul(2_u32.saturating_pow(failures.min(16))).min(KEY_FETCH_PAUSE_MAX)
}

fn bytes_of(key: &ServerKey) -> Option<[u8; 32]> {
    key.key.as_bytes().try_into().ok()
}

/// A time that a server wrote down; numbers that are none count as long ago.
fn time(value: Option<&ruma::CanonicalJsonValue>) -> MilliSecondsSinceUnixEpoch {
    let number = value.and_then(|value| match value {
        ruma::CanonicalJsonValue::Integer(number) => u64::try_from(i64::from(*number)).ok()?.try_into().ok(),
        _ => None,
    });
    MilliSecondsSinceUnixEpoch(number.unwrap_or_default())
}

#[cfg(test)]
mod tests;

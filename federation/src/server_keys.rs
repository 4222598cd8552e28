//! The keys of other servers: fetched from them, checked, believed for as long as the specification says.
//!
//! Keys are kept for ever, in the port [`PeerStore`]: old events are checked with old keys. The bytes behind a key id never change.
//! Where a server does not give its keys, notaries are asked ([`notaries`]); and what servers gave is told to who asks us as one.
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>
//! May import: `connection`, `limits`, `clock`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedServerSigningKeyId, ServerName,
    serde::{Base64, base64::Standard},
};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use crate::{
    KeyDocument, PeerStore, ServerKey, Validity,
    clock::{Ambient, later},
    connection::{Call, Connections},
    error::FederationError,
    limits::{
        KEY_DOCUMENT_BYTES_MAX, KEY_FETCH_PAUSE_MAX, KEY_FETCH_PAUSE_MIN, KEY_FETCH_TIME_MAX, KEY_FETCHES_MAX,
        KEYS_KEPT_MAX, NOTARY_FETCHES_MAX, SERVERS_IN_MEMORY_MAX, SMALL_ANSWER_BYTES_MAX, UNKNOWN_KEYS_MAX,
    },
};

pub(crate) mod document;
mod notaries;

/// Keys whose secret half everybody can know: that of the specification, and one that many servers were set up with (CVE-2026-24044, ELEMENTSEC-2025-1670).
/// Source: <https://spec.matrix.org/v1.19/appendices/#cryptographic-test-vectors>
const PUBLISHED_KEYS: [&str; 2] =
    ["XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI", "l/O9hxMVKB6Lg+3Hqf0FQQZhVESQcMzbPN1Cz2nM3og"];

/// What is known of servers' keys, by server and key id.
pub type KnownKeys = BTreeMap<OwnedServerName, BTreeMap<OwnedServerSigningKeyId, ServerKey>>;

/// Other servers' keys.
pub struct ServerKeys<S> {
    connections: Arc<Connections<S>>,
    refused: BTreeSet<[u8; 32]>,
    notaries: Vec<OwnedServerName>,
    servers: Mutex<HashMap<OwnedServerName, Arc<Remembered>>>,
    /// Fetches for the sake of events, and of notaries.
    fetches: Semaphore,
    /// Fetches for the sake of requests: who sends one in the name of a server that does not answer, holds up no events.
    request_fetches: Semaphore,
    /// Fetches for who asks us as a notary.
    notary_fetches: Semaphore,
}

/// What is remembered of one server.
struct Remembered {
    /// Who holds its lock may fetch: there is one fetch at a time.
    entry: tokio::sync::Mutex<Entry>,
    shown: Arc<RwLock<Keys>>,
}

impl Remembered {
    fn new() -> Self {
        let entry = Entry::default();
        let shown = Arc::clone(&entry.shown);
        Self { entry: tokio::sync::Mutex::new(entry), shown }
    }

    /// The keys, if all of them serve: then nobody waits for a fetch of others, which anybody may cause.
    fn served(&self, key_ids: &BTreeSet<OwnedServerSigningKeyId>, wanted: Use) -> Option<Keys> {
        let shown = self.shown.read();
        let keys = key_ids.iter().map(|key_id| {
            let key = shown.get(key_id).filter(|key| wanted.is_served_by(key.validity))?;
            Some((key_id.clone(), key.clone()))
        });
        keys.collect()
    }
}

type Keys = BTreeMap<OwnedServerSigningKeyId, ServerKey>;

#[derive(Default)]
struct Entry {
    is_loaded: bool,
    keys: Keys,
    /// The keys, for who does not wait for the lock.
    shown: Arc<RwLock<Keys>>,
    /// The last good document of the server itself.
    document: Option<KeyDocument>,
    /// No fetch at all before this.
    next_fetch: Option<MilliSecondsSinceUnixEpoch>,
    failures: u32,
    /// Keys for whose sake there was a fetch that did not help, and when there may be another.
    missed: BTreeMap<OwnedServerSigningKeyId, (u32, MilliSecondsSinceUnixEpoch)>,
}

/// Who says something about the keys of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Teller {
    /// The server, now.
    Itself,
    /// Somebody who heard it from the server, perhaps long ago.
    Notary,
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
    /// Keys asked for over these connections. Keys with the bytes in `refused`, and the published ones, count for nothing: neither
    /// for requests nor for events.
    pub fn new(connections: Arc<Connections<S>>, mut refused: BTreeSet<[u8; 32]>) -> Self {
        let published = PUBLISHED_KEYS.iter().filter_map(|key| Base64::<Standard, [u8; 32]>::parse(key).ok());
        refused.extend(published.map(Base64::into_inner));
        Self {
            connections,
            refused,
            notaries: Vec::new(),
            servers: Mutex::default(),
            fetches: Semaphore::new(KEY_FETCHES_MAX),
            request_fetches: Semaphore::new(KEY_FETCHES_MAX),
            notary_fetches: Semaphore::new(NOTARY_FETCHES_MAX),
        }
    }

    /// The same, which asks these servers, in turn, for keys that a server itself does not give.
    #[must_use]
    pub fn with_notaries(self, notaries: Vec<OwnedServerName>) -> Self {
        Self { notaries, ..self }
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
        let (mut known, mut asked) = (KnownKeys::new(), JoinSet::new());
        for (server, key_ids) in by_server {
            if let Some(served) = self.remembered(&server).served(&key_ids, Use::Event(at)) {
                known.insert(server, served);
                continue;
            }
            let keys = Arc::clone(self);
            asked.spawn(async move {
                let known = keys.known(&server, &key_ids, Use::Event(at)).await;
                known.map(|known| (server, known))
            });
        }
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
        let remembered = self.remembered(server);
        if let Some(keys) = remembered.served(key_ids, wanted) {
            return Ok(keys);
        }
        let mut entry = remembered.entry.lock().await;
        self.load(server, &mut entry).await?;
        if entry.is_worth_a_fetch(key_ids, wanted, self.ambient().now()) {
            let turns = if matches!(wanted, Use::Request(_)) { &self.request_fetches } else { &self.fetches };
            self.fetch(server, &mut entry, turns).await?;
            self.ask_notaries(server, &mut entry, key_ids, wanted).await?;
            entry.note_missed(key_ids, wanted, self.ambient());
        }
        Ok(entry.known(key_ids))
    }

    async fn load(&self, server: &ServerName, entry: &mut Entry) -> Result<(), FederationError> {
        if !entry.is_loaded {
            let store = self.connections.store();
            entry.keys = store.server_keys(server).await?;
            entry.keys.retain(|_, key| self.is_usable(key));
            entry.document = store.key_document(server).await?;
            entry.show();
            entry.is_loaded = true;
        }
        Ok(())
    }

    /// Asks the server, and takes in what it says. That it does not answer is no error.
    async fn fetch(&self, server: &ServerName, entry: &mut Entry, turns: &Semaphore) -> Result<(), FederationError> {
        // Also when nobody waits to its end.
        entry.next_fetch = Some(later(self.ambient().now(), KEY_FETCH_PAUSE_MIN));
        let fetching = async {
            let _turn = turns.acquire().await.ok().ok_or(FederationError::Busy)?;
            // A server that is left alone is asked all the same: its own request may be what brings it back.
            let call = Call { is_signed: false, is_urgent: true, ..Call::get("/_matrix/key/v2/server") };
            let text = self.connections.exchange(server, call, SMALL_ANSWER_BYTES_MAX).await?;
            let document: CanonicalJsonObject =
                serde_json::from_slice(&text).ok().ok_or(FederationError::BadAnswer("keys that are no JSON object"))?;
            let keys = document::keys_of(server, &document, self.ambient().now())?;
            Ok((keys, document))
        };
        let fetched = timeout(KEY_FETCH_TIME_MAX, fetching).await.unwrap_or(Err(FederationError::TimedOut));
        let now = self.ambient().now();
        match fetched {
            Ok((keys, document)) => {
                entry.failures = 0;
                entry.next_fetch = Some(later(now, KEY_FETCH_PAUSE_MIN));
                self.keep_document(server, entry, &keys, &document).await?;
                self.take_in(server, entry, keys, Teller::Itself).await?;
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

    /// Takes in keys that a document says, but those that count for nothing.
    async fn take_in(
        &self,
        server: &ServerName,
        entry: &mut Entry,
        mut keys: BTreeMap<OwnedServerSigningKeyId, ServerKey>,
        teller: Teller,
    ) -> Result<(), FederationError> {
        keys.retain(|_, key| self.is_usable(key));
        let news = entry.merge(keys, teller);
        if !news.is_empty() {
            self.connections.store().keep_server_keys(server, news).await?;
        }
        Ok(())
    }

    /// Keeps a document of the server, if all that it says may be told on.
    async fn keep_document(
        &self,
        server: &ServerName,
        entry: &mut Entry,
        keys: &BTreeMap<OwnedServerSigningKeyId, ServerKey>,
        document: &CanonicalJsonObject,
    ) -> Result<(), FederationError> {
        let Ok(text) = serde_json::to_string(document) else { return Ok(()) };
        let may_be_told = keys.values().all(|key| self.is_usable(key)) && !entry.is_contradicted_by(keys);
        if may_be_told && text.len() <= KEY_DOCUMENT_BYTES_MAX {
            let valid_until = time(document.get("valid_until_ts"));
            let kept = KeyDocument { text, fetched_at: self.ambient().now(), valid_until };
            self.connections.store().keep_key_document(server, kept.clone()).await?;
            entry.document = Some(kept);
        }
        Ok(())
    }

    fn is_usable(&self, key: &ServerKey) -> bool {
        bytes_of(key).is_some_and(|bytes| !self.refused.contains(&bytes))
    }

    fn remembered(&self, server: &ServerName) -> Arc<Remembered> {
        let mut servers = self.servers.lock();
        if let Some(remembered) = servers.get(server) {
            return Arc::clone(remembered);
        }
        if servers.len() >= SERVERS_IN_MEMORY_MAX {
            let other = servers.iter().find(|(_, other)| Arc::strong_count(other) == 1).map(|(name, _)| name.clone());
            other.and_then(|name| servers.remove(&name));
        }
        Arc::clone(servers.entry(server.to_owned()).or_insert_with(|| Arc::new(Remembered::new())))
    }
}

impl Entry {
    fn show(&self) {
        self.shown.write().clone_from(&self.keys);
    }

    fn known(&self, key_ids: &BTreeSet<OwnedServerSigningKeyId>) -> BTreeMap<OwnedServerSigningKeyId, ServerKey> {
        key_ids.iter().filter_map(|key_id| Some((key_id.clone(), self.keys.get(key_id)?.clone()))).collect()
    }

    /// One of the keys has other bytes than the one that is known by its id.
    fn is_contradicted_by(&self, keys: &BTreeMap<OwnedServerSigningKeyId, ServerKey>) -> bool {
        keys.iter()
            .any(|(key_id, key)| self.keys.get(key_id).is_some_and(|known| known.key.as_bytes() != key.key.as_bytes()))
    }

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
        teller: Teller,
    ) -> BTreeMap<OwnedServerSigningKeyId, ServerKey> {
        let mut news = BTreeMap::new();
        for (key_id, key) in keys {
            let known = self.keys.get(&key_id);
            if known.is_some_and(|known| known.key.as_bytes() != key.key.as_bytes()) {
                tracing::warn!(%key_id, "A server shows another key under a known id: it is not taken");
                continue;
            }
            if known.is_none() && self.keys.len() >= KEYS_KEPT_MAX {
                tracing::warn!(%key_id, "A server shows more keys than are kept of one: it is not taken");
                continue;
            }
            let validity = known.map_or(key.validity, |known| merged(known.validity, key.validity, teller));
            if known.is_none_or(|known| known.validity != validity) {
                let key = ServerKey { validity, ..key };
                self.keys.insert(key_id.clone(), key.clone());
                news.insert(key_id, key);
            }
        }
        self.show();
        news
    }
}

/// What holds after another document: a key in use is extended, never cut short but by saying that it ended. That a key which
/// ended is in use again, only the server itself can say: what a notary shows may be from before the end.
fn merged(known: Validity, told: Validity, teller: Teller) -> Validity {
    match (known, told) {
        (Validity::Until(known), Validity::Until(told)) => Validity::Until(known.max(told)),
        (Validity::Expired(known), Validity::Expired(told)) => Validity::Expired(known.min(told)),
        (Validity::Expired(_), Validity::Until(_)) if teller == Teller::Notary => known,
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

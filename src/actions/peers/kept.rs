//! What the crate `federation` needs kept, in the rows of each peer. Implements [`PeerStore`].

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use federation::{BackOff, KeyDocument, PeerStore, ServerKey, StorageUnavailable, Validity};
use parking_lot::Mutex;
use rules::UnixMs;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedServerSigningKeyId, ServerName, UInt, serde::Base64};
use serde_json::value::RawValue;

use crate::{
    actions::{Actions, outgoing::Outgoing},
    clock::Clock,
    storage::{
        Commit, CommitError, Direction, Home, KeyRange, Limit, StorageError, Store,
        keyspaces::{ANSWERED, ANSWERED_AT, KEY_DOCUMENT, PEER_STATE, SERVER_KEYS},
        peers::{Answered, KnownDocument, KnownKey, PeerState},
    },
};

/// How long the answer to a transaction is kept: nobody repeats one after so long.
const ANSWERED_KEPT_MS: u64 = 3 * 24 * 60 * 60 * 1_000;
/// Answers that are kept of one peer.
const ANSWERED_MAX: usize = 1_000;
/// Answers to a peer after which is looked whether there are too many.
const LOOK_EVERY: u32 = 64;
/// Peers whose answers are counted. More: all are counted anew.
const COUNTED_MAX: usize = 10_000;
/// Answers that one commit forgets.
const FORGOTTEN_AT_A_TIME: usize = 200;

/// The rows of a tenant's peers. It does not keep the tenant open.
pub struct PeerRows {
    store: Store,
    clock: Arc<dyn Clock>,
    outgoing: Arc<Outgoing>,
    /// Answers to each peer since it was last looked.
    answered: Mutex<HashMap<OwnedServerName, u32>>,
}

impl Actions {
    /// What is kept of other servers.
    pub fn peer_rows(&self) -> PeerRows {
        let (store, clock) = (self.store.clone(), Arc::clone(&self.clock));
        PeerRows { store, clock, outgoing: Arc::clone(&self.outgoing), answered: Mutex::default() }
    }
}

fn unread(error: StorageError) -> StorageUnavailable {
    StorageUnavailable(error.to_string())
}

fn unwritten(error: CommitError) -> StorageUnavailable {
    StorageUnavailable(error.to_string())
}

fn stored(at: MilliSecondsSinceUnixEpoch) -> UnixMs {
    UnixMs(at.0.into())
}

fn read(at: UnixMs) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::try_from(at.0).unwrap_or(UInt::MAX))
}

fn key_of(known: KnownKey) -> ServerKey {
    let until = read(known.until);
    let validity = if known.is_expired { Validity::Expired(until) } else { Validity::Until(until) };
    ServerKey { key: Base64::new(known.key), validity }
}

impl PeerStore for PeerRows {
    async fn server_keys(
        &self,
        server: &ServerName,
    ) -> Result<BTreeMap<OwnedServerSigningKeyId, ServerKey>, StorageUnavailable> {
        let range = KeyRange::all();
        let page = self.store.scan(&SERVER_KEYS, &Home::peer(server), range, Direction::Up, Limit::max()).await;
        let keys = page.map_err(unread)?.rows.into_iter();
        Ok(keys.filter_map(|(key_id, key)| Some((key_id.try_into().ok()?, key_of(key)))).collect())
    }

    async fn keep_server_keys(
        &self,
        server: &ServerName,
        keys: BTreeMap<OwnedServerSigningKeyId, ServerKey>,
    ) -> Result<(), StorageUnavailable> {
        let home = Home::peer(server);
        let mut commit = Commit::new(home.clone());
        for (key_id, ServerKey { key, validity }) in keys {
            let key_id = key_id.to_string();
            let (is_expired, until) = match validity {
                Validity::Until(until) => (false, stored(until)),
                Validity::Expired(until) => (true, stored(until)),
            };
            let known = KnownKey { key: key.into_inner(), is_expired, until };
            let before = self.store.get(&SERVER_KEYS, &home, &key_id).await.map_err(unread)?;
            if before.is_none_or(|before| before.key == known.key) {
                commit.put(&SERVER_KEYS, &key_id, &known);
            }
        }
        self.outgoing.touch(server);
        self.store.commit(commit).await.map(drop).map_err(unwritten)
    }

    async fn key_document(&self, server: &ServerName) -> Result<Option<KeyDocument>, StorageUnavailable> {
        let kept = self.store.get(&KEY_DOCUMENT, &Home::peer(server), &()).await.map_err(unread)?;
        Ok(kept.map(|KnownDocument { text, fetched_at, valid_until }| KeyDocument {
            text,
            fetched_at: read(fetched_at),
            valid_until: read(valid_until),
        }))
    }

    async fn keep_key_document(&self, server: &ServerName, document: KeyDocument) -> Result<(), StorageUnavailable> {
        let KeyDocument { text, fetched_at, valid_until } = document;
        let kept = KnownDocument { text, fetched_at: stored(fetched_at), valid_until: stored(valid_until) };
        let mut commit = Commit::new(Home::peer(server));
        commit.put(&KEY_DOCUMENT, &(), &kept);
        self.store.commit(commit).await.map(drop).map_err(unwritten)
    }

    async fn back_off(&self, peer: &ServerName) -> Result<Option<BackOff>, StorageUnavailable> {
        let state = self.store.get(&PEER_STATE, &Home::peer(peer), &()).await.map_err(unread)?;
        Ok(state.and_then(|PeerState { failures, next_try }| Some(BackOff { failures, next_try: read(next_try?) })))
    }

    async fn keep_back_off(&self, peer: &ServerName, back_off: Option<BackOff>) -> Result<(), StorageUnavailable> {
        let mut commit = Commit::new(Home::peer(peer));
        match back_off {
            Some(BackOff { failures, next_try }) => {
                metrics::counter!("yurt_federation_back_offs_total").increment(1);
                commit.put(&PEER_STATE, &(), &PeerState { failures, next_try: Some(stored(next_try)) });
            }
            None => {
                commit.delete(&PEER_STATE, &());
            }
        }
        self.outgoing.touch(peer);
        self.store.commit(commit).await.map(drop).map_err(unwritten)
    }

    async fn answered(
        &self,
        origin: &ServerName,
        transaction_id: &str,
    ) -> Result<Option<Box<RawValue>>, StorageUnavailable> {
        let answered = self.store.get(&ANSWERED, &Home::peer(origin), &transaction_id.to_owned()).await;
        Ok(answered.map_err(unread)?.and_then(|answered| RawValue::from_string(answered.answer).ok()))
    }

    async fn keep_answer(
        &self,
        origin: &ServerName,
        transaction_id: &str,
        answer: Box<RawValue>,
    ) -> Result<(), StorageUnavailable> {
        let (home, at, id) = (Home::peer(origin), self.clock.now(), transaction_id.to_owned());
        let mut commit = Commit::new(home.clone());
        let is_crowded = self.is_time_to_look(origin);
        for (at, id) in self.superfluous(&home, at, is_crowded).await.map_err(unread)? {
            commit.delete(&ANSWERED, &id).delete(&ANSWERED_AT, &(at, id));
        }
        commit.put(&ANSWERED, &id, &Answered { at, answer: answer.get().to_owned() });
        commit.put(&ANSWERED_AT, &(at.0, id), &());
        self.outgoing.touch(origin);
        self.store.commit(commit).await.map(drop).map_err(unwritten)
    }
}

impl PeerRows {
    /// It is looked whether this peer has too many answers: how often others ask does not matter.
    fn is_time_to_look(&self, origin: &ServerName) -> bool {
        let mut counts = self.answered.lock();
        if counts.len() >= COUNTED_MAX {
            counts.clear();
        }
        let count = counts.entry(origin.to_owned()).or_default();
        *count += 1;
        let is_time = *count >= LOOK_EVERY;
        if is_time {
            *count = 0;
        }
        is_time
    }

    /// Answers that are too old; where it is looked, also those that are too many.
    async fn superfluous(
        &self,
        home: &Home,
        now: UnixMs,
        is_crowded: bool,
    ) -> Result<Vec<(u64, String)>, StorageError> {
        let old = KeyRange::all().before(&(now.0.saturating_sub(ANSWERED_KEPT_MS), String::new()));
        let mut range = old;
        if is_crowded {
            let limit = Limit::rows(ANSWERED_MAX);
            let newest = self.store.scan(&ANSWERED_AT, home, KeyRange::all(), Direction::Down, limit).await?;
            if let Some((oldest, ())) = newest.rows.last().filter(|_| newest.rows.len() == ANSWERED_MAX) {
                range = KeyRange::all().before(oldest);
            }
        }
        let limit = Limit::rows(if is_crowded { FORGOTTEN_AT_A_TIME } else { 2 });
        let page = self.store.scan(&ANSWERED_AT, home, range, Direction::Up, limit).await?;
        Ok(page.rows.into_iter().map(|(key, ())| key).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ruma::server_name;

    use super::*;
    use crate::{
        clock::Manual,
        storage::{StoreOptions, memory::MemoryEngine},
    };

    async fn rows(clock: &Arc<Manual>) -> PeerRows {
        let store = Store::open(Arc::new(MemoryEngine::strict()), StoreOptions::default()).await.unwrap();
        let clock: Arc<dyn Clock> = Arc::<Manual>::clone(clock);
        PeerRows { store, clock, outgoing: Arc::default(), answered: Mutex::default() }
    }

    fn key(bytes: u8, until: u32) -> ServerKey {
        let until = Validity::Until(MilliSecondsSinceUnixEpoch(until.into()));
        ServerKey { key: Base64::new(vec![bytes; 32]), validity: until }
    }

    /// S2S 4 keys are kept for ever and their bytes never change.
    #[tokio::test]
    async fn the_bytes_behind_a_key_id_never_change() {
        let rows = rows(&Arc::default()).await;
        let (peer, id) = (server_name!("b.example"), OwnedServerSigningKeyId::try_from("ed25519:1").unwrap());
        for (given, kept) in [(key(1, 10), key(1, 10)), (key(2, 20), key(1, 10)), (key(1, 30), key(1, 30))] {
            rows.keep_server_keys(peer, BTreeMap::from([(id.clone(), given)])).await.unwrap();
            assert_eq!(rows.server_keys(peer).await.unwrap(), BTreeMap::from([(id.clone(), kept)]));
        }
    }

    #[tokio::test]
    async fn a_back_off_stays_until_it_ends() {
        let rows = rows(&Arc::default()).await;
        let peer = server_name!("b.example");
        assert_eq!(rows.back_off(peer).await.unwrap(), None);
        let back_off = BackOff { failures: 2, next_try: MilliSecondsSinceUnixEpoch(7_u32.into()) };
        rows.keep_back_off(peer, Some(back_off)).await.unwrap();
        assert_eq!(rows.back_off(peer).await.unwrap(), Some(back_off));
        rows.keep_back_off(peer, None).await.unwrap();
        assert_eq!(rows.back_off(peer).await.unwrap(), None);
    }

    #[tokio::test]
    async fn answers_are_forgotten_when_they_are_old_or_too_many() {
        let clock = Arc::new(Manual::at(UnixMs(ANSWERED_KEPT_MS)));
        let rows = rows(&clock).await;
        let peer = server_name!("b.example");
        let answer = || RawValue::from_string("{}".to_owned()).unwrap();
        rows.keep_answer(peer, "first", answer()).await.unwrap();
        clock.advance(Duration::from_millis(ANSWERED_KEPT_MS));
        rows.keep_answer(peer, "second", answer()).await.unwrap();
        assert!(rows.answered(peer, "first").await.unwrap().is_some(), "it is not too old yet");
        clock.advance(Duration::from_millis(1));
        rows.keep_answer(peer, "third", answer()).await.unwrap();
        assert!(rows.answered(peer, "first").await.unwrap().is_none());
        assert!(rows.answered(peer, "second").await.unwrap().is_some());
        let other = server_name!("c.example");
        for number in 0..ANSWERED_MAX + 200 {
            clock.advance(Duration::from_millis(1));
            rows.keep_answer(peer, &number.to_string(), answer()).await.unwrap();
            // Another one asks so often that one look in so many answers is always its own.
            if number % 63 == 62 {
                rows.keep_answer(other, &number.to_string(), answer()).await.unwrap();
            }
        }
        assert!(rows.answered(peer, "second").await.unwrap().is_none());
        assert!(rows.answered(peer, "1199").await.unwrap().is_some());
    }
}

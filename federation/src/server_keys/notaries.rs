//! Notaries: servers that are asked for the keys of another one that does not give them itself; and being one of them.
//!
//! What a notary tells counts only with two signatures, its own and that of the server in question.
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#querying-keys-through-another-server>
//! May import: what its parent may.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedServerSigningKeyId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{Entry, ServerKeys, Teller, Use, bytes_of, document};
use crate::{
    KeyDocument, PeerStore,
    clock::{later, until},
    connection::Call,
    error::FederationError,
    limits::{KEY_DOCUMENT_BYTES_MAX, NOTARY_DOCUMENTS_MAX, NOTARY_WAIT_MAX, SMALL_ANSWER_BYTES_MAX, UNKNOWN_KEYS_MAX},
};

impl<S: PeerStore> ServerKeys<S> {
    /// Asks the notaries, one after the other, for what is lacking. The keys of a notary come from nobody but itself: else two
    /// that are asked about at the same time could wait for each other.
    pub(super) async fn ask_notaries(
        &self,
        server: &ServerName,
        entry: &mut Entry,
        key_ids: &BTreeSet<OwnedServerSigningKeyId>,
        wanted: Use,
    ) -> Result<(), FederationError> {
        if self.notaries.iter().any(|notary| notary == server) {
            return Ok(());
        }
        for notary in self.notaries.iter().filter(|notary| *notary != self.connections.own()) {
            let lacking: Vec<_> = entry.lacking(key_ids, wanted).take(UNKNOWN_KEYS_MAX).cloned().collect();
            if lacking.is_empty() {
                break;
            }
            match self.ask_notary(notary, server, &lacking, wanted).await {
                Ok(documents) => {
                    for keys in documents {
                        self.take_in(server, entry, keys, Teller::Notary).await?;
                    }
                }
                Err(FederationError::Storage(error)) => return Err(error.into()),
                Err(error) => {
                    tracing::debug!(peer = %notary, %error, "The notary `{notary}` tells no keys of `{server}`: {error}");
                }
            }
        }
        Ok(())
    }

    /// What a notary tells of a server: the keys of each document that both of them signed.
    async fn ask_notary(
        &self,
        notary: &ServerName,
        server: &ServerName,
        lacking: &[OwnedServerSigningKeyId],
        wanted: Use,
    ) -> Result<Vec<BTreeMap<OwnedServerSigningKeyId, crate::ServerKey>>, FederationError> {
        #[derive(Deserialize)]
        struct Answer {
            server_keys: Vec<Box<RawValue>>,
        }
        let question = question(server, lacking, wanted.at());
        let call = Call { is_signed: false, ..Call::with(Method::POST, "/_matrix/key/v2/query", &question) };
        let text = self.connections.exchange(notary, call, SMALL_ANSWER_BYTES_MAX).await?;
        let answer =
            serde_json::from_slice::<Answer>(&text).ok().ok_or(FederationError::BadAnswer("no list of keys"))?;
        let mut told = Vec::new();
        for text in answer.server_keys.iter().take(NOTARY_DOCUMENTS_MAX) {
            let Ok(document) = serde_json::from_str::<CanonicalJsonObject>(text.get()) else { continue };
            let signers = document::signers(notary, &document);
            let keys = self.known_of_notary(notary, &signers).await?;
            if document::is_signed(notary, &document, keys.iter())
                && let Ok(keys) = document::keys_of(server, &document, self.ambient().now())
            {
                told.push(keys);
            }
        }
        Ok(told)
    }

    /// The keys that a notary signs with now.
    async fn known_of_notary(
        &self,
        notary: &ServerName,
        key_ids: &BTreeSet<OwnedServerSigningKeyId>,
    ) -> Result<BTreeMap<OwnedServerSigningKeyId, [u8; 32]>, FederationError> {
        let wanted = Use::Request(self.ambient().now());
        let remembered = self.remembered(notary);
        let mut entry = remembered.entry.lock().await;
        self.load(notary, &mut entry).await?;
        if entry.is_worth_a_fetch(key_ids, wanted, self.ambient().now()) {
            self.fetch(notary, &mut entry, &self.fetches).await?;
            entry.note_missed(key_ids, wanted, self.ambient());
        }
        let keys = entry.known(key_ids).into_iter().filter(|(_, key)| wanted.is_served_by(key.validity));
        Ok(keys.filter_map(|(key_id, key)| Some((key_id, bytes_of(&key)?))).collect())
    }

    /// The document in which a server published its keys, for who asks us as a notary: fetched when half of its time is over or
    /// it does not last until `minimum`; the last one when the server does not answer; none when it never did.
    ///
    /// # Errors
    /// Only when our own store fails.
    pub async fn document(
        &self,
        server: &ServerName,
        minimum: MilliSecondsSinceUnixEpoch,
    ) -> Result<Option<CanonicalJsonObject>, FederationError> {
        let remembered = self.remembered(server);
        let mut entry = remembered.entry.lock().await;
        self.load(server, &mut entry).await?;
        let now = self.ambient().now();
        let is_due = entry.document.as_ref().is_none_or(|kept| kept.valid_until < minimum || is_half_over(kept, now));
        let is_left_alone = entry.next_fetch.is_some_and(|at| at > now);
        if is_due
            && !is_left_alone
            // More than that are not fetched for who asks us: the last one has to do.
            && self.notary_fetches.available_permits() > 0
            && let Ok(fetched) = timeout(NOTARY_WAIT_MAX, self.fetch(server, &mut entry, &self.notary_fetches)).await
        {
            fetched?;
        }
        Ok(entry.document.as_ref().and_then(|kept| serde_json::from_str(&kept.text).ok()))
    }
}

impl Use {
    fn at(self) -> MilliSecondsSinceUnixEpoch {
        match self {
            Self::Request(at) | Self::Event(at) => at,
        }
    }
}

fn is_half_over(kept: &KeyDocument, now: MilliSecondsSinceUnixEpoch) -> bool {
    now >= later(kept.fetched_at, until(kept.fetched_at, kept.valid_until) / 2)
}

fn question(
    server: &ServerName,
    key_ids: &[OwnedServerSigningKeyId],
    at: MilliSecondsSinceUnixEpoch,
) -> CanonicalJsonObject {
    let object = CanonicalJsonValue::Object;
    let minimum = || ("minimum_valid_until_ts".to_owned(), CanonicalJsonValue::Integer(at.0.into()));
    let keys = key_ids.iter().map(|key_id| (key_id.to_string(), object([minimum()].into()))).collect();
    [("server_keys".to_owned(), object([(server.to_string(), object(keys))].into()))].into()
}

const _: () = assert!(KEY_DOCUMENT_BYTES_MAX <= SMALL_ANSWER_BYTES_MAX, "a document that is kept can be told to us");

#[cfg(test)]
mod tests;

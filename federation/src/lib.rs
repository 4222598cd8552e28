//! Talking to other Matrix servers.
//!
//! This crate knows the wire between servers and nothing about rooms: it stores nothing and decides nothing. What it needs
//! from the server it asks for in ports: [`local::LocalRooms`], [`local::Handshakes`] and [`local::Directory`] answer peers,
//! [`Outbox`] says what is still owed to them, [`PeerStore`] keeps what has to survive a restart. Events cross the ports as JSON text ([`Pdu`]); reading
//! them is the server's work, so that one parser decides.
//!
//! May import: ruma, serde, and what network code needs. Never: the crate `rules`, the server, a store.
//!
//! Modules in reading order:
//! * [`local`]: what a peer may ask of this server.
//! * [`limits`]: every bound of the wire, each with its source.
//! * [`our_keys`]: the keys this server signs with, and their file.
//! * [`key_document`]: the document in which those keys are published.
//! * [`request_signature`]: the signed header of a request, both directions.
//! * [`policy`]: which servers may talk to us.
//! * [`quotas`]: what one server may use of us.
//! * [`inbound`]: what other servers can ask.
//! * [`clock`], [`error`]: time and chance as arguments; what can go wrong with a peer.
//! * [`addresses`], [`discovery`]: where a server is, and which addresses are never connected to.
//! * [`connection`]: one request to a server, and how long a failing server is left alone.
//! * [`server_keys`]: the keys of other servers, fetched, checked, kept.
//! * [`peer`]: what this server asks of another one, typed.
//! * [`outbound`]: sending what is owed, one transaction at a time to each server.

use std::collections::BTreeMap;

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedServerSigningKeyId, RoomVersionId, ServerName, serde::Base64,
};
use serde_json::value::RawValue;

pub mod addresses;
mod body;
pub mod clock;
pub mod connection;
mod dial;
pub mod discovery;
pub mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod inbound;
pub mod key_document;
pub mod limits;
pub mod local;
pub mod our_keys;
pub mod outbound;
mod outside;
pub mod peer;
pub mod policy;
pub mod quotas;
pub mod request_signature;
pub mod server_keys;
#[cfg(test)]
mod testing;

/// One event as it travels: the text of a JSON object, not yet looked into.
pub type Pdu = Box<RawValue>;

/// Why the server does not give a peer what it asked for.
///
/// Each kind has one error code on the wire. None says more than the peer may know: a room that it may not see and a room
/// that does not exist are both [`Refusal::NotFound`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such room, event or user, or none that this peer may see. 404 `M_NOT_FOUND`.
    #[error("not found")]
    NotFound,
    /// The rules, the room's access list or this server's policy say no. 403 `M_FORBIDDEN`.
    #[error("forbidden")]
    Forbidden,
    /// The request contradicts itself or the path that it came under. 400 `M_INVALID_PARAM`.
    #[error("invalid: {0}")]
    Invalid(&'static str),
    /// The peer does not speak the version of this room. 400 `M_INCOMPATIBLE_ROOM_VERSION`.
    #[error("the room has version {0}")]
    IncompatibleRoomVersion(RoomVersionId),
    /// Who may join depends on rooms that this server does not know well enough. 400 `M_UNABLE_TO_AUTHORISE_JOIN`.
    #[error("this server cannot tell whether the join is allowed")]
    UnableToAuthoriseJoin,
    /// The join is allowed, but nobody of this server may invite. 400 `M_UNABLE_TO_GRANT_JOIN`.
    #[error("this server cannot grant the join")]
    UnableToGrantJoin,
    /// The server cannot answer now. 503; the peer is to try again.
    #[error("try again later")]
    Unavailable,
}

/// The store could not be read or written. Nothing was decided: the caller tries again later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("storage is unavailable: {0}")]
pub struct StorageUnavailable(pub String);

/// What this server still owes to its peers.
///
/// There are no rows per message: the feed of the rooms is the outbox, and each peer has a cursor in it. One caller at a time
/// works on one peer.
pub trait Outbox: Send + Sync + 'static {
    /// A place in the feed. Only the server can read or compare it.
    type Cursor: Clone + Send + Sync + 'static;

    /// The peers for which there is something behind their cursor.
    fn destinations(&self) -> impl Future<Output = Result<Vec<OwnedServerName>, StorageUnavailable>> + Send;

    /// The next events for a peer, oldest first; `None` when it has everything.
    fn next(
        &self,
        peer: &ServerName,
        pdus_max: usize,
    ) -> impl Future<Output = Result<Option<Batch<Self::Cursor>>, StorageUnavailable>> + Send;

    /// The peer has acknowledged a batch. Until this is called, [`Outbox::next`] gives it again.
    fn delivered(
        &self,
        peer: &ServerName,
        up_to: Self::Cursor,
    ) -> impl Future<Output = Result<(), StorageUnavailable>> + Send;
}

/// One transaction's worth of events.
#[derive(Debug, Clone)]
pub struct Batch<Cursor> {
    /// The events, in the order in which they are to be sent.
    pub pdus: Vec<Pdu>,
    /// What to hand to [`Outbox::delivered`].
    pub up_to: Cursor,
}

/// What this crate needs kept over a restart. Each write is on disk when its answer comes.
pub trait PeerStore: Send + Sync + 'static {
    /// All keys ever learnt of a server. They are kept for ever: old events are checked with old keys.
    fn server_keys(
        &self,
        server: &ServerName,
    ) -> impl Future<Output = Result<BTreeMap<OwnedServerSigningKeyId, ServerKey>, StorageUnavailable>> + Send;

    /// Adds keys of a server, or moves the end of known ones. The bytes behind a known key id never change: an entry that
    /// would change them is left out.
    fn keep_server_keys(
        &self,
        server: &ServerName,
        keys: BTreeMap<OwnedServerSigningKeyId, ServerKey>,
    ) -> impl Future<Output = Result<(), StorageUnavailable>> + Send;

    /// The last good document in which a server published its keys.
    fn key_document(
        &self,
        server: &ServerName,
    ) -> impl Future<Output = Result<Option<KeyDocument>, StorageUnavailable>> + Send;

    /// Keeps such a document instead of the one before.
    fn keep_key_document(
        &self,
        server: &ServerName,
        document: KeyDocument,
    ) -> impl Future<Output = Result<(), StorageUnavailable>> + Send;

    /// How long a peer is to be left alone; `None` while it answers.
    fn back_off(&self, peer: &ServerName) -> impl Future<Output = Result<Option<BackOff>, StorageUnavailable>> + Send;

    /// Keeps or ends a peer's back-off.
    fn keep_back_off(
        &self,
        peer: &ServerName,
        back_off: Option<BackOff>,
    ) -> impl Future<Output = Result<(), StorageUnavailable>> + Send;

    /// The answer that a peer's transaction got before.
    fn answered(
        &self,
        origin: &ServerName,
        transaction_id: &str,
    ) -> impl Future<Output = Result<Option<Box<RawValue>>, StorageUnavailable>> + Send;

    /// Keeps the answer to a peer's transaction, so that a repeat gets the same and does nothing twice.
    fn keep_answer(
        &self,
        origin: &ServerName,
        transaction_id: &str,
        answer: Box<RawValue>,
    ) -> impl Future<Output = Result<(), StorageUnavailable>> + Send;
}

/// A public key of another server, and how long it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerKey {
    /// The 32 bytes of the key.
    pub key: Base64,
    /// What the server says about the end of the key.
    pub validity: Validity,
}

/// A document in which another server published its keys, as it was signed by that server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDocument {
    /// The document as canonical JSON.
    pub text: String,
    /// When it was fetched.
    pub fetched_at: MilliSecondsSinceUnixEpoch,
    /// Until when it is good, as it says itself.
    pub valid_until: MilliSecondsSinceUnixEpoch,
}

/// How long a server's key is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// The server signs with it. Good for requests and events up to this time.
    Until(MilliSecondsSinceUnixEpoch),
    /// The server no longer signs with it. Good for events up to this time, never for requests.
    Expired(MilliSecondsSinceUnixEpoch),
}

/// A peer that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// Failures in a row.
    pub failures: u32,
    /// It is left alone until then.
    pub next_try: MilliSecondsSinceUnixEpoch,
}

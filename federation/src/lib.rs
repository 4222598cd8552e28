//! Talking to other Matrix servers.
//!
//! This crate knows the wire between servers and nothing about rooms: it stores nothing and decides nothing. What it needs
//! from the server it asks for in three traits, the ports below: [`LocalRooms`] answers peers, [`Outbox`] says what is still
//! owed to them, [`PeerStore`] keeps what has to survive a restart. Events cross the ports as JSON text ([`Pdu`]); reading
//! them is the server's work, so that one parser decides.
//!
//! May import: ruma, serde, and what network code needs. Never: the crate `rules`, the server, a store.
//!
//! Modules in reading order:
//! * [`limits`]: every bound of the wire, each with its source.
//! * [`our_keys`]: the keys this server signs with, and their file.
//! * [`key_document`]: the document in which those keys are published.

use std::collections::BTreeMap;

use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, OwnedServerSigningKeyId, RoomId, RoomVersionId,
    ServerName, UserId, serde::Base64,
};
use serde_json::value::RawValue;

pub mod key_document;
pub mod limits;
pub mod our_keys;

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
    /// The server cannot answer now. 503; the peer is to try again.
    #[error("try again later")]
    Unavailable,
}

/// The store could not be read or written. Nothing was decided: the caller tries again later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("storage is unavailable: {0}")]
pub struct StorageUnavailable(pub String);

/// What a peer may ask of this server.
///
/// Every function gets the name of the peer that asks, proven by the request's signature, and checks itself what this peer
/// may do. The number of events asked for is already within [`limits`].
pub trait LocalRooms: Send + Sync + 'static {
    /// Takes in one transaction's events of one room, in the order given, and answers for each. An event whose id cannot be
    /// told is left out. The answer means: what was accepted is on disk.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>
    fn receive(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        pdus: Vec<Pdu>,
    ) -> impl Future<Output = Vec<(OwnedEventId, Result<(), Refusal>)>> + Send;

    /// One event, redacted when the peer may not see more of it.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1eventeventid>
    fn event(&self, origin: &ServerName, event_id: &EventId) -> impl Future<Output = Result<Pdu, Refusal>> + Send;

    /// Events between what the peer has and what it heard of, oldest first.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid>
    fn missing_events(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        gap: Gap,
    ) -> impl Future<Output = Result<Vec<Pdu>, Refusal>> + Send;

    /// The events given and what came before them, newest first.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1backfillroomid>
    fn backfill(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        from: Vec<OwnedEventId>,
        events_max: usize,
    ) -> impl Future<Output = Result<Vec<Pdu>, Refusal>> + Send;

    /// The room's state before an event, with the events that authorise it.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1stateroomid>
    fn state_before(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> impl Future<Output = Result<StateBefore<Pdu>, Refusal>> + Send;

    /// The same as [`LocalRooms::state_before`], by id.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1state_idsroomid>
    fn state_ids_before(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> impl Future<Output = Result<StateBefore<OwnedEventId>, Refusal>> + Send;

    /// A membership event for the peer's user to complete and sign. Nothing is stored.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>
    fn membership_template(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
        wish: Wish,
        versions: &[RoomVersionId],
    ) -> impl Future<Output = Result<Template, Refusal>> + Send;

    /// Takes in the membership event that was made from a template. For a join the answer holds the state before it; for a
    /// leave and a knock its lists are empty.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid>
    fn accept_membership(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
        wish: Wish,
        event: Pdu,
    ) -> impl Future<Output = Result<Accepted, Refusal>> + Send;

    /// Takes in an invite of one of our users and answers the event with our signature.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid>
    fn accept_invite(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
        invite: Invite,
    ) -> impl Future<Output = Result<Pdu, Refusal>> + Send;
}

/// The hole that a peer wants filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// What the peer has. The answer stops there and holds none of them.
    pub earliest: Vec<OwnedEventId>,
    /// Where the walk back begins. The answer holds none of them.
    pub latest: Vec<OwnedEventId>,
    /// Events of a smaller depth are left out.
    pub depth_min: u64,
    /// How many events the answer may hold.
    pub events_max: usize,
}

/// State before an event: as events or as their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateBefore<T> {
    /// One entry for each pair of type and state key.
    pub state: Vec<T>,
    /// What authorises the state, and what authorises that, down to the create event.
    pub auth_chain: Vec<T>,
}

/// What a peer wants for one of its users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To enter the room.
    Join,
    /// To leave it, or to decline an invite to it.
    Leave,
    /// To ask for an invite.
    Knock,
}

/// A membership event without hashes and signatures, and the version whose rules it follows.
#[derive(Debug, Clone)]
pub struct Template {
    /// The room's version.
    pub room_version: RoomVersionId,
    /// The event, for the peer to complete.
    pub event: Pdu,
}

/// What a peer learns when its user's membership was accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The event as we keep it, co-signed where the room's rules ask for it.
    pub event: Pdu,
    /// The state before it and what authorises that.
    pub before: StateBefore<Pdu>,
    /// The servers in the room, the peer's own left out.
    pub servers: Vec<OwnedServerName>,
}

/// An invite of a user of ours.
#[derive(Debug, Clone)]
pub struct Invite {
    /// The version that the peer says the room has.
    pub room_version: RoomVersionId,
    /// The invite, signed by the peer.
    pub event: Pdu,
    /// A few state events, so that the invited person sees what the room is.
    pub room_state: Vec<Box<RawValue>>,
}

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

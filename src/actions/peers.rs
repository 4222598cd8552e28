//! What the actions ask of other servers. How they are reached is no matter here: whoever runs the network plugs it in, and tests plug in servers that lie.
//!
//! No lane is held while any of this is waited for.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use federation::{
    Pdu,
    local::{AliasAnswer, Gap, Invite, PublicRooms, PublicSearch, StateBefore, Template, Wish},
};
use futures_util::stream::{self, BoxStream};
use rules::{UnixMs, keys::KeyRing};
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomAliasId, RoomId, RoomVersionId, ServerName, UserId};
use tokio::sync::watch;

use super::{ActionError, Actions};

mod kept;
mod known;
mod policy;

pub use federation::peer::JoinPiece as Piece;
pub use kept::PeerRows;
pub(super) use known::known;
pub use known::{KnownPeer, list, reset};
pub(super) use policy::load as load_policy;
pub use policy::{NAMES_MAX, ServerPolicy, policy, set_policy};

/// Something that is asked of a peer.
pub type Asking<'a, T> = Pin<Box<dyn Future<Output = Result<T, PeerError>> + Send + 'a>>;

/// Keys that are looked for.
pub type Keys<'a> = Pin<Box<dyn Future<Output = KeyRing> + Send + 'a>>;

/// Why a peer did not give what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It was not reached, is left alone for a while, or did not answer in time.
    #[error("the other server cannot be reached")]
    Unreachable,
    /// It answered that it does not have it or does not give it.
    #[error("the other server does not give it: {0}")]
    Refused(Errcode),
    /// It answered something else than what it was asked for.
    #[error("the answer of the other server cannot be read")]
    Unreadable,
}

/// The error code of a peer, if it is one of the specification's: what else a peer writes is passed on to nobody.
/// Source: <https://spec.matrix.org/v1.19/client-server-api/#standard-error-response>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errcode(&'static str);

impl Errcode {
    /// No code, or none that is known.
    pub const UNKNOWN: Self = Self("M_UNKNOWN");
    /// Not for this server or this user.
    pub const FORBIDDEN: Self = Self("M_FORBIDDEN");
    /// There is no such thing, or it is not told of.
    pub const NOT_FOUND: Self = Self("M_NOT_FOUND");
    /// The room has a version that was not offered.
    pub const INCOMPATIBLE_ROOM_VERSION: Self = Self("M_INCOMPATIBLE_ROOM_VERSION");

    const OTHERS: [&'static str; 17] = [
        "M_BAD_JSON",
        "M_BAD_STATE",
        "M_GUEST_ACCESS_FORBIDDEN",
        "M_INVALID_PARAM",
        "M_INVITE_BLOCKED",
        "M_LIMIT_EXCEEDED",
        "M_MISSING_PARAM",
        "M_NOT_JSON",
        "M_RESOURCE_LIMIT_EXCEEDED",
        "M_TOO_LARGE",
        "M_UNABLE_TO_AUTHORISE_JOIN",
        "M_UNABLE_TO_GRANT_JOIN",
        "M_UNAUTHORIZED",
        "M_UNRECOGNIZED",
        "M_UNSUPPORTED_ROOM_VERSION",
        "M_USER_DEACTIVATED",
        "M_EXCLUSIVE",
    ];

    /// The code that a peer wrote.
    #[must_use]
    pub fn read(text: Option<&str>) -> Self {
        let named = [Self::FORBIDDEN, Self::NOT_FOUND, Self::INCOMPATIBLE_ROOM_VERSION].map(|code| code.0);
        let known = named.into_iter().chain(Self::OTHERS).find(|known| Some(*known) == text);
        known.map_or(Self::UNKNOWN, Self)
    }

    /// The same question may have another answer soon.
    pub(super) fn is_passing(self) -> bool {
        matches!(self.0, "M_LIMIT_EXCEEDED" | "M_RESOURCE_LIMIT_EXCEEDED" | "M_UNAUTHORIZED" | "M_UNKNOWN")
    }

    /// As it stands in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl std::fmt::Display for Errcode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.0)
    }
}

/// What a peer says when our user has joined its room, piece by piece while it comes.
pub struct Joined {
    /// The pieces, in any order. An error is the last one.
    pub pieces: BoxStream<'static, Result<Piece, PeerError>>,
}

impl Joined {
    /// An answer that is there as a whole.
    #[must_use]
    pub fn of(event: Option<Pdu>, before: StateBefore<Pdu>) -> Self {
        let auth_chain = before.auth_chain.into_iter().map(Piece::AuthChain);
        let pieces = event.into_iter().map(Piece::Event).chain(auth_chain);
        let pieces = pieces.chain(before.state.into_iter().map(Piece::State));
        Self { pieces: Box::pin(stream::iter(pieces.map(Ok).collect::<Vec<_>>())) }
    }
}

/// A file of another server on its way. Its name and type are what the server says.
pub struct RemoteFile {
    /// The media type, if it is told.
    pub content_type: Option<String>,
    /// What its uploader called it.
    pub name: Option<String>,
    /// Its bytes. An end before they are all here is an error.
    pub body: BoxStream<'static, Result<Bytes, PeerError>>,
}

/// Other servers. Every answer is what one of them says: it is checked by whoever asked.
///
/// What a network does not know how to ask, nobody answers: those functions have a body here.
pub trait Peers: Send + Sync + 'static {
    /// One event.
    fn event<'a>(&'a self, peer: &'a ServerName, event_id: &'a EventId) -> Asking<'a, Pdu>;

    /// Events between those that we have and those that we heard of.
    fn missing_events<'a>(&'a self, peer: &'a ServerName, room_id: &'a RoomId, gap: Gap) -> Asking<'a, Vec<Pdu>>;

    /// The state before an event, by id.
    fn state_ids<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, StateBefore<OwnedEventId>>;

    /// The state before an event.
    fn state<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, StateBefore<Pdu>>;

    /// Events and what came before them.
    fn backfill<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        from: &'a [OwnedEventId],
        events_max: usize,
    ) -> Asking<'a, Vec<Pdu>>;

    /// Everything that authorises an event.
    fn event_auth<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, Vec<Pdu>>;

    /// Keys of servers, to check what was signed at that time. Those that are not found are left out.
    fn keys<'a>(&'a self, needed: &'a BTreeSet<(OwnedServerName, String)>, at: UnixMs) -> Keys<'a>;

    /// A membership event for a user of ours to complete, of a room with one of these versions (`make_join`, `make_leave`, `make_knock`). A refusal for
    /// whatever reason is a [`PeerError::Refused`].
    fn membership_template<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        _user_id: &'a UserId,
        _wish: Wish,
        _versions: &'a [RoomVersionId],
    ) -> Asking<'a, Template> {
        unreachable_peer()
    }

    /// Hands in a signed join (`send_join`). The answer holds the whole state, members included; it may take minutes.
    #[expect(clippy::boxed_local, reason = "networks that ask take it")]
    fn send_join<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        _event_id: &'a EventId,
        _event: Pdu,
    ) -> Asking<'a, Joined> {
        unreachable_peer()
    }

    /// Hands in a signed leave, or the refusal of an invite (`send_leave`).
    #[expect(clippy::boxed_local, reason = "networks that ask take it")]
    fn send_leave<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        _event_id: &'a EventId,
        _event: Pdu,
    ) -> Asking<'a, ()> {
        unreachable_peer()
    }

    /// Hands in a signed knock (`send_knock`). The answer holds a few state events that show what the room is.
    #[expect(clippy::boxed_local, reason = "networks that ask take it")]
    fn send_knock<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        _event_id: &'a EventId,
        _event: Pdu,
    ) -> Asking<'a, Vec<Pdu>> {
        unreachable_peer()
    }

    /// Invites a user of the peer (`invite`, version 2). The answer is the invite with the peer's signature added, if it is honest.
    fn invite<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        _event_id: &'a EventId,
        _invite: Invite,
    ) -> Asking<'a, Pdu> {
        unreachable_peer()
    }

    /// The room of an alias of the peer, and servers to join it through (`query/directory`).
    fn alias<'a>(&'a self, _peer: &'a ServerName, _alias: &'a RoomAliasId) -> Asking<'a, AliasAnswer> {
        unreachable_peer()
    }

    /// A page of the peer's public rooms (`publicRooms`).
    fn public_rooms<'a>(&'a self, _peer: &'a ServerName, _search: &'a PublicSearch) -> Asking<'a, PublicRooms> {
        unreachable_peer()
    }

    /// The signature of the peer, as the policy server of a room, for an event (`policy/v1/sign`).
    #[expect(clippy::boxed_local, reason = "networks that ask take it")]
    fn policy_signature<'a>(&'a self, _peer: &'a ServerName, _event: Pdu) -> Asking<'a, String> {
        unreachable_peer()
    }

    /// The public profile of a user of the peer (`query/profile`).
    fn profile<'a>(&'a self, _peer: &'a ServerName, _user_id: &'a UserId) -> Asking<'a, BTreeMap<String, String>> {
        unreachable_peer()
    }

    /// A file of the peer (`media/download`). One of more than `bytes_max` bytes, and an answer that is none, are [`PeerError::Unreadable`]; a refusal
    /// that may pass is [`PeerError::Unreachable`].
    fn medium<'a>(&'a self, _peer: &'a ServerName, _media_id: &'a str, _bytes_max: u64) -> Asking<'a, RemoteFile> {
        unreachable_peer()
    }
}

/// Nobody: the network is not plugged in.
pub struct Nobody;

impl Peers for Nobody {
    fn event<'a>(&'a self, _peer: &'a ServerName, _event_id: &'a EventId) -> Asking<'a, Pdu> {
        unreachable_peer()
    }

    fn missing_events<'a>(&'a self, _peer: &'a ServerName, _room_id: &'a RoomId, _gap: Gap) -> Asking<'a, Vec<Pdu>> {
        unreachable_peer()
    }

    fn state_ids<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        _event_id: &'a EventId,
    ) -> Asking<'a, StateBefore<OwnedEventId>> {
        unreachable_peer()
    }

    fn state<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        _event_id: &'a EventId,
    ) -> Asking<'a, StateBefore<Pdu>> {
        unreachable_peer()
    }

    fn backfill<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        _from: &'a [OwnedEventId],
        _events_max: usize,
    ) -> Asking<'a, Vec<Pdu>> {
        unreachable_peer()
    }

    fn event_auth<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        _event_id: &'a EventId,
    ) -> Asking<'a, Vec<Pdu>> {
        unreachable_peer()
    }

    fn keys<'a>(&'a self, _needed: &'a BTreeSet<(OwnedServerName, String)>, _at: UnixMs) -> Keys<'a> {
        Box::pin(std::future::ready(KeyRing::new()))
    }
}

fn unreachable_peer<'a, T: Send + 'a>() -> Asking<'a, T> {
    Box::pin(std::future::ready(Err(PeerError::Unreachable)))
}

/// How long work that a restart has left over waits for the network: it is plugged in right behind the start, or never.
const NETWORK_WAIT_MAX: Duration = Duration::from_secs(10);

/// The peers of a tenant: none until the network is plugged in.
#[derive(Default)]
pub struct Network(watch::Sender<Option<Arc<dyn Peers>>>);

impl Actions {
    /// Plugs the network in.
    pub fn connect(&self, peers: Arc<dyn Peers>) {
        self.network.0.send_replace(Some(peers));
    }

    /// Pulls the network out.
    pub(super) fn disconnect(&self) {
        self.network.0.send_replace(None);
    }

    /// The network is plugged in: this server talks to others.
    pub fn is_connected(&self) -> bool {
        self.network.0.borrow().is_some()
    }

    /// Waits for the network, which is not there yet while a tenant is opened.
    ///
    /// # Errors
    /// [`ActionError::FederationDisabled`] when this server talks to no others; says what would need them.
    pub(super) async fn connected(&self, what: &str) -> Result<(), ActionError> {
        let mut network = self.network.0.subscribe();
        match tokio::time::timeout(NETWORK_WAIT_MAX, network.wait_for(Option::is_some)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ActionError::needs_federation(what)),
        }
    }

    /// Other servers.
    pub fn peers(&self) -> Arc<dyn Peers> {
        self.network.0.borrow().clone().unwrap_or_else(|| Arc::new(Nobody))
    }
}

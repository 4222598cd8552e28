//! What the actions ask of other servers. How they are reached is no matter here: whoever runs the network plugs it in, and tests plug in servers that lie.
//!
//! No lane is held while any of this is waited for.

use std::{collections::BTreeSet, future::Future, pin::Pin, sync::Arc};

use federation::{
    Pdu,
    local::{Gap, StateBefore},
};
use parking_lot::RwLock;
use rules::{UnixMs, keys::KeyRing};
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId, ServerName};

use super::Actions;

mod kept;
mod known;

pub use kept::PeerRows;
pub use known::{KnownPeer, list, reset};

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
    #[error("the other server does not give it")]
    Refused,
    /// It answered something else than what it was asked for.
    #[error("the answer of the other server cannot be read")]
    Unreadable,
}

/// Other servers. Every answer is what one of them says: it is checked by whoever asked.
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

/// The peers of a tenant: nobody, until the network is plugged in.
pub struct Network(RwLock<Arc<dyn Peers>>);

impl Default for Network {
    fn default() -> Self {
        Self(RwLock::new(Arc::new(Nobody)))
    }
}

impl Actions {
    /// Plugs the network in.
    pub fn connect(&self, peers: Arc<dyn Peers>) {
        *self.network.0.write() = peers;
    }

    /// Other servers.
    pub fn peers(&self) -> Arc<dyn Peers> {
        Arc::clone(&self.network.0.read())
    }
}

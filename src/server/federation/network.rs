//! Other servers, as the actions ask them. Implements [`Peers`].

use std::{collections::BTreeSet, sync::Arc};

use federation::{
    Pdu, Validity,
    connection::Connections,
    error::FederationError,
    local::{Gap, StateBefore},
    server_keys::ServerKeys,
};
use rules::{
    UnixMs,
    keys::{self, Key, KeyRing},
};
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, OwnedServerSigningKeyId, RoomId, ServerName,
    UInt,
};

use crate::actions::peers::{Asking, Keys, PeerError, PeerRows, Peers};

/// The other servers that a tenant asks.
pub(super) struct Network {
    connections: Arc<Connections<PeerRows>>,
    keys: Arc<ServerKeys<PeerRows>>,
}

impl Network {
    pub(super) fn new(connections: Arc<Connections<PeerRows>>, keys: Arc<ServerKeys<PeerRows>>) -> Self {
        Self { connections, keys }
    }
}

/// What the actions tell apart.
pub(super) fn told(error: FederationError) -> PeerError {
    match error {
        FederationError::Refused(refusal) if !refusal.status.is_server_error() => PeerError::Refused,
        FederationError::BadAnswer(_) | FederationError::TooLarge | FederationError::Unsendable(_) => {
            PeerError::Unreadable
        }
        FederationError::Refused(_)
        | FederationError::NoAddress(_)
        | FederationError::InternalAddress
        | FederationError::NoConnection(_)
        | FederationError::Broken(_)
        | FederationError::TimedOut
        | FederationError::LeftAlone { .. }
        | FederationError::Busy
        | FederationError::Storage(_) => PeerError::Unreachable,
    }
}

impl Peers for Network {
    fn event<'a>(&'a self, peer: &'a ServerName, event_id: &'a EventId) -> Asking<'a, Pdu> {
        Box::pin(async move { self.connections.peer(peer).event(event_id).await.map_err(told) })
    }

    fn missing_events<'a>(&'a self, peer: &'a ServerName, room_id: &'a RoomId, gap: Gap) -> Asking<'a, Vec<Pdu>> {
        Box::pin(async move { self.connections.peer(peer).missing_events(room_id, &gap).await.map_err(told) })
    }

    fn state_ids<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, StateBefore<OwnedEventId>> {
        Box::pin(async move { self.connections.peer(peer).state_ids(room_id, event_id).await.map_err(told) })
    }

    fn state<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, StateBefore<Pdu>> {
        Box::pin(async move { self.connections.peer(peer).state(room_id, event_id).await.map_err(told) })
    }

    fn backfill<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        from: &'a [OwnedEventId],
        events_max: usize,
    ) -> Asking<'a, Vec<Pdu>> {
        Box::pin(async move { self.connections.peer(peer).backfill(room_id, from, events_max).await.map_err(told) })
    }

    fn event_auth<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, Vec<Pdu>> {
        Box::pin(async move { self.connections.peer(peer).event_auth(room_id, event_id).await.map_err(told) })
    }

    fn keys<'a>(&'a self, needed: &'a BTreeSet<(OwnedServerName, String)>, at: UnixMs) -> Keys<'a> {
        Box::pin(async move {
            let needed = needed.iter().filter_map(|(server, key_id)| {
                Some((server.clone(), OwnedServerSigningKeyId::try_from(key_id.as_str()).ok()?))
            });
            let at = MilliSecondsSinceUnixEpoch(UInt::try_from(at.0).unwrap_or(UInt::MAX));
            let known = self.keys.for_events(&needed.collect(), at).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "The keys of other servers cannot be read: {error}");
                Default::default()
            });
            let mut ring = KeyRing::new();
            for (server, keys) in known {
                for (key_id, key) in keys {
                    let Ok(public) = <[u8; 32]>::try_from(key.key.as_bytes()) else { continue };
                    let validity = match key.validity {
                        Validity::Until(end) => keys::Validity::Until(UnixMs(end.0.into())),
                        Validity::Expired(end) => keys::Validity::Expired(UnixMs(end.0.into())),
                    };
                    ring.insert(server.clone(), key_id.as_str(), Key { public, validity });
                }
            }
            ring
        })
    }
}

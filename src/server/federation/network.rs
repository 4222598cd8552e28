//! Other servers, as the actions ask them. Implements [`Peers`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use federation::{
    Pdu, PeerStore, Validity,
    connection::Connections,
    error::FederationError,
    local::{AliasAnswer, Gap, Invite, PublicRooms, PublicSearch, StateBefore, Template, Wish},
    server_keys::ServerKeys,
};
use futures_util::{StreamExt as _, stream};
use rules::{
    UnixMs,
    keys::{self, Key, KeyRing},
};
use ruma::{
    CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, OwnedServerSigningKeyId,
    RoomAliasId, RoomId, RoomVersionId, ServerName, UInt, UserId,
};

use crate::actions::peers::{Asking, Errcode, Joined, Keys, PeerError, Peers, RemoteFile};

/// The other servers that a tenant asks.
pub(super) struct Network<S> {
    connections: Arc<Connections<S>>,
    keys: Arc<ServerKeys<S>>,
}

impl<S: PeerStore> Network<S> {
    pub(super) fn new(connections: Arc<Connections<S>>, keys: Arc<ServerKeys<S>>) -> Self {
        Self { connections, keys }
    }
}

/// What the actions tell apart.
pub(super) fn told(error: FederationError) -> PeerError {
    match error {
        FederationError::Refused(refusal) if !refusal.status.is_server_error() => {
            PeerError::Refused(Errcode::read(refusal.errcode.as_deref()))
        }
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
        | FederationError::NotAdmitted
        | FederationError::Busy
        | FederationError::Storage(_) => PeerError::Unreachable,
    }
}

fn object(event: &Pdu) -> Result<CanonicalJsonObject, PeerError> {
    serde_json::from_str(event.get()).map_err(|_no_canonical_json| PeerError::Unreadable)
}

impl<S: PeerStore> Peers for Network<S> {
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

    fn membership_template<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        user_id: &'a UserId,
        wish: Wish,
        versions: &'a [RoomVersionId],
    ) -> Asking<'a, Template> {
        Box::pin(async move {
            let peer = self.connections.peer(peer);
            peer.membership_template(room_id, user_id, wish, versions).await.map_err(told)
        })
    }

    fn send_join<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
        event: Pdu,
    ) -> Asking<'a, Joined> {
        Box::pin(async move {
            let event = object(&event)?;
            let answer = self.connections.peer(peer).send_join(room_id, event_id, &event).await.map_err(told)?;
            let pieces = stream::try_unfold(answer, async |mut answer| {
                let piece = answer.next().await.map_err(told)?;
                Ok(piece.map(|piece| (piece, answer)))
            });
            Ok(Joined { pieces: Box::pin(pieces) })
        })
    }

    fn send_leave<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
        event: Pdu,
    ) -> Asking<'a, ()> {
        Box::pin(async move {
            self.connections.peer(peer).send_leave(room_id, event_id, &object(&event)?).await.map_err(told)
        })
    }

    fn send_knock<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
        event: Pdu,
    ) -> Asking<'a, Vec<Pdu>> {
        Box::pin(async move {
            self.connections.peer(peer).send_knock(room_id, event_id, &object(&event)?).await.map_err(told)
        })
    }

    fn invite<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
        invite: Invite,
    ) -> Asking<'a, Pdu> {
        Box::pin(async move {
            let Invite { room_version, event, room_state } = invite;
            let event = object(&event)?;
            let room_state: Result<_, _> = room_state.iter().map(object).collect();
            let peer = self.connections.peer(peer);
            peer.invite(room_id, event_id, &room_version, event, room_state?).await.map_err(told)
        })
    }

    fn alias<'a>(&'a self, peer: &'a ServerName, alias: &'a RoomAliasId) -> Asking<'a, AliasAnswer> {
        Box::pin(async move { self.connections.peer(peer).alias(alias).await.map_err(told) })
    }

    fn public_rooms<'a>(&'a self, peer: &'a ServerName, search: &'a PublicSearch) -> Asking<'a, PublicRooms> {
        Box::pin(async move { self.connections.peer(peer).public_rooms(search).await.map_err(told) })
    }

    fn policy_signature<'a>(&'a self, peer: &'a ServerName, event: Pdu) -> Asking<'a, String> {
        Box::pin(async move { self.connections.peer(peer).policy_signature(&object(&event)?).await.map_err(told) })
    }

    fn profile<'a>(&'a self, peer: &'a ServerName, user_id: &'a UserId) -> Asking<'a, BTreeMap<String, String>> {
        Box::pin(async move { self.connections.peer(peer).profile(user_id).await.map_err(told) })
    }

    fn medium<'a>(&'a self, peer: &'a ServerName, media_id: &'a str, bytes_max: u64) -> Asking<'a, RemoteFile> {
        Box::pin(async move {
            let medium = self.connections.peer(peer).medium(media_id, bytes_max).await;
            let mut medium = medium.map_err(|error| match error {
                // It may be there later.
                error if error.errcode() == Some("M_LIMIT_EXCEEDED") => PeerError::Unreachable,
                error => told(error),
            })?;
            let (content_type, name) = (medium.content_type.take(), medium.name.take());
            let body = stream::try_unfold(medium, async |mut medium| {
                Ok(medium.next().await.map_err(told)?.map(|bytes| (bytes, medium)))
            });
            Ok(RemoteFile { content_type, name, body: body.boxed() })
        })
    }
}

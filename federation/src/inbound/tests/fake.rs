//! A server that answers everything and records what it is asked; a store and keys in memory.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use ruma::{
    CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, OwnedServerSigningKeyId,
    RoomAliasId, RoomId, RoomVersionId, ServerName, UserId, serde::Base64,
};
use serde_json::{Value, json, value::RawValue};
use tokio::sync::Semaphore;

use super::world::{Peer, US, us};
use crate::{
    BackOff, KeyDocument, Pdu, PeerStore, Refusal, ServerKey, StorageUnavailable,
    inbound::authentication::{KeysUnavailable, RequestKeys},
    key_document::key_document,
    local::{
        Accepted, AliasAnswer, Child, Directory, Gap, Handshakes, Hierarchy, Invite, LocalRooms, Medium, Parent,
        PublicRoom, PublicRooms, PublicSearch, StateBefore, StateStream, Template, ThumbnailSize, Wish,
    },
    our_keys::{RetiredKeys, SigningKeys},
};

/// Answers everything, and keeps in order what it was asked, as text.
pub(super) struct Fake {
    pub(super) calls: Mutex<Vec<String>>,
    /// Events of a room whose id begins with `!slow` take one permit.
    pub(super) slow: Semaphore,
    /// How many rooms are worked on now, and the most so far.
    pub(super) at_work: (AtomicUsize, AtomicUsize),
}

impl Fake {
    fn note(&self, origin: &ServerName, call: String) {
        self.calls.lock().push(format!("{origin} {call}"));
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.calls.lock().clone()
    }
}

pub(super) fn raw(value: &Value) -> Pdu {
    serde_json::value::to_raw_value(value).unwrap()
}

/// An id with this word in it tells the fake how to refuse.
fn verdict(id: &str) -> Result<(), Refusal> {
    let refusals = [
        ("notfound", Refusal::NotFound),
        ("forbidden", Refusal::Forbidden),
        ("unavailable", Refusal::Unavailable),
        ("otherversion", Refusal::IncompatibleRoomVersion(RoomVersionId::V11)),
        ("cannotauthorise", Refusal::UnableToAuthoriseJoin),
        ("cannotgrant", Refusal::UnableToGrantJoin),
    ];
    refusals.into_iter().find(|(word, _)| id.contains(word)).map_or(Ok(()), |(_, refusal)| Err(refusal))
}

impl LocalRooms for Fake {
    async fn receive(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        pdus: Vec<Pdu>,
    ) -> Vec<(OwnedEventId, Result<(), Refusal>)> {
        let at_work = self.at_work.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_work.1.fetch_max(at_work, Ordering::SeqCst);
        tokio::task::yield_now().await;
        if room_id.as_str().starts_with("!slow") {
            self.slow.acquire().await.unwrap().forget();
        }
        assert!(!room_id.as_str().starts_with("!panic"), "as a test");
        self.at_work.0.fetch_sub(1, Ordering::SeqCst);
        let texts: Vec<&str> = pdus.iter().map(|pdu| pdu.get()).collect();
        self.note(origin, format!("receive {room_id} {}", texts.join(" ")));
        let id_of = |pdu: &Pdu| serde_json::from_str::<Value>(pdu.get()).ok()?["id"].as_str()?.try_into().ok();
        pdus.iter().filter_map(id_of).map(|id: OwnedEventId| (id.clone(), verdict(id.as_str()))).collect()
    }

    async fn event(&self, origin: &ServerName, event_id: &EventId) -> Result<Pdu, Refusal> {
        self.note(origin, format!("event {event_id}"));
        verdict(event_id.as_str()).map(|()| raw(&json!({ "id": event_id })))
    }

    async fn missing_events(&self, origin: &ServerName, room_id: &RoomId, gap: Gap) -> Result<Vec<Pdu>, Refusal> {
        let Gap { earliest, latest, depth_min, events_max } = gap;
        self.note(origin, format!("missing_events {room_id} {earliest:?} {latest:?} {depth_min} {events_max}"));
        verdict(room_id.as_str()).map(|()| vec![raw(&json!({ "n": 1 })), raw(&json!({ "n": 2 }))])
    }

    async fn backfill(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        from: Vec<OwnedEventId>,
        events_max: usize,
    ) -> Result<Vec<Pdu>, Refusal> {
        self.note(origin, format!("backfill {room_id} {from:?} {events_max}"));
        verdict(room_id.as_str()).map(|()| vec![raw(&json!({ "n": 2 })), raw(&json!({ "n": 1 }))])
    }

    async fn state_before(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateStream<Pdu>, Refusal> {
        self.note(origin, format!("state_before {room_id} {event_id}"));
        let of = |what: &str| vec![raw(&json!({ "of": what }))];
        verdict(room_id.as_str())
            .map(|()| StateStream::of(StateBefore { state: of("state"), auth_chain: of("auth_chain") }))
    }

    async fn state_ids_before(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateStream<OwnedEventId>, Refusal> {
        self.note(origin, format!("state_ids_before {room_id} {event_id}"));
        let of = |what: &str| vec![what.try_into().unwrap()];
        verdict(room_id.as_str())
            .map(|()| StateStream::of(StateBefore { state: of("$state"), auth_chain: of("$auth_chain") }))
    }

    async fn auth_chain(&self, origin: &ServerName, room_id: &RoomId, event_id: &EventId) -> Result<Vec<Pdu>, Refusal> {
        self.note(origin, format!("auth_chain {room_id} {event_id}"));
        verdict(room_id.as_str()).map(|()| vec![raw(&json!({ "of": "auth_chain" }))])
    }

    async fn typing(&self, origin: &ServerName, room_id: &RoomId, user_id: &UserId, is_typing: bool) {
        self.note(origin, format!("typing {room_id} {user_id} {is_typing}"));
    }

    async fn read_receipt(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
        event_id: &EventId,
        _thread: Option<&EventId>,
        at: MilliSecondsSinceUnixEpoch,
    ) {
        self.note(origin, format!("read_receipt {room_id} {user_id} {event_id} {}", at.0));
    }
}

impl Handshakes for Fake {
    async fn membership_template(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
        wish: Wish,
        versions: &[RoomVersionId],
    ) -> Result<Template, Refusal> {
        let versions: Vec<&str> = versions.iter().map(RoomVersionId::as_str).collect();
        self.note(origin, format!("membership_template {room_id} {user_id} {wish:?} {versions:?}"));
        let event = raw(&json!({ "type": "m.room.member", "room_id": room_id }));
        verdict(room_id.as_str()).map(|()| Template { room_version: RoomVersionId::V12, event })
    }

    async fn accept_membership(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
        wish: Wish,
        event: Pdu,
    ) -> Result<Accepted, Refusal> {
        self.note(origin, format!("accept_membership {room_id} {event_id} {wish:?} {}", event.get()));
        verdict(room_id.as_str())?;
        let state = if wish == Wish::Leave { Vec::new() } else { vec![raw(&json!({ "of": "state" }))] };
        let auth_chain = if wish == Wish::Join { vec![raw(&json!({ "of": "auth_chain" }))] } else { Vec::new() };
        let before = StateStream::of(StateBefore { state, auth_chain });
        Ok(Accepted { event, before, servers: vec![us()], members_omitted: false })
    }

    async fn accept_join_without_members(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
        event: Pdu,
    ) -> Result<Accepted, Refusal> {
        self.note(origin, "without members".to_owned());
        let accepted = self.accept_membership(origin, room_id, event_id, Wish::Join, event).await?;
        Ok(Accepted { members_omitted: true, ..accepted })
    }

    async fn accept_invite(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
        invite: Invite,
    ) -> Result<Pdu, Refusal> {
        let shown: Vec<&str> = invite.room_state.iter().map(|event| event.get()).collect();
        self.note(origin, format!("accept_invite {room_id} {event_id} {} {}", invite.room_version, shown.join(" ")));
        verdict(room_id.as_str())?;
        let mut event: Value = serde_json::from_str(invite.event.get()).unwrap();
        event["signatures"][US] = json!({ "ed25519:a_1": "s" });
        Ok(raw(&event))
    }
}

impl Directory for Fake {
    async fn alias(&self, origin: &ServerName, alias: &RoomAliasId) -> Result<AliasAnswer, Refusal> {
        self.note(origin, format!("alias {alias}"));
        verdict(alias.as_str())?;
        Ok(AliasAnswer { room_id: "!r:us.example".try_into().unwrap(), servers: vec![us()] })
    }

    async fn profile(&self, origin: &ServerName, user_id: &UserId) -> Result<BTreeMap<String, String>, Refusal> {
        self.note(origin, format!("profile {user_id}"));
        verdict(user_id.as_str())?;
        Ok([("displayname", "Ann"), ("avatar_url", "mxc://us.example/a")]
            .map(|(name, value)| (name.into(), value.into()))
            .into())
    }

    async fn public_rooms(&self, origin: &ServerName, search: PublicSearch) -> Result<PublicRooms, Refusal> {
        let PublicSearch { text, room_types, since, rooms_max } = search;
        self.note(origin, format!("public_rooms {text:?} {room_types:?} {since:?} {rooms_max}"));
        Ok(PublicRooms { rooms: vec![public_room("!r:us.example")], next: Some("n".to_owned()), ..Default::default() })
    }

    async fn hierarchy(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> Result<Hierarchy, Refusal> {
        self.note(origin, format!("hierarchy {room_id} {suggested_only}"));
        verdict(room_id.as_str())?;
        let child = |id: &str| Child {
            room: public_room(id),
            allowed: Vec::new(),
            room_version: RoomVersionId::V12,
            encryption: None,
        };
        let children_state = vec![raw(&json!({ "type": "m.space.child" }))];
        let room = Parent { room: child(room_id.as_str()), children_state };
        Ok(Hierarchy {
            room,
            children: vec![child("!c:us.example")],
            hidden: vec!["!h:us.example".try_into().unwrap()],
        })
    }

    async fn has_user(&self, user_id: &UserId) -> Result<bool, StorageUnavailable> {
        Ok(user_id.localpart() == "ann")
    }

    async fn medium(&self, origin: &ServerName, media_id: &str) -> Result<Medium, Refusal> {
        self.note(origin, format!("medium {media_id}"));
        verdict(media_id)?;
        let pieces = [Ok(Bytes::from_static(b"by")), Ok(Bytes::from_static(b"tes"))];
        let evil = media_id.contains("evil");
        Ok(Medium {
            content_type: if evil { "text/html\r\nX: y" } else { "image/png" }.to_owned(),
            name: Some(if evil { "a\"\r\nX: y" } else { "p\u{e4}.png" }.to_owned()),
            bytes: 5,
            body: Box::pin(futures_util::stream::iter(pieces)),
        })
    }

    async fn thumbnail(&self, origin: &ServerName, media_id: &str, size: ThumbnailSize) -> Result<Medium, Refusal> {
        self.note(origin, format!("thumbnail {media_id} {}x{} {}", size.width, size.height, size.crop));
        self.medium(origin, media_id).await
    }
}

fn public_room(id: &str) -> PublicRoom {
    PublicRoom {
        room_id: id.try_into().unwrap(),
        name: Some("Tents".to_owned()),
        topic: None,
        canonical_alias: None,
        avatar_url: None,
        joined: 2,
        world_readable: false,
        guest_can_join: false,
        join_rule: Some("public".to_owned()),
        room_type: None,
    }
}

/// Keeps answers to transactions in memory.
#[derive(Default)]
pub(super) struct FakeStore(pub(super) Mutex<BTreeMap<(OwnedServerName, String), Box<RawValue>>>);

impl PeerStore for FakeStore {
    async fn server_keys(
        &self,
        _: &ServerName,
    ) -> Result<BTreeMap<OwnedServerSigningKeyId, ServerKey>, StorageUnavailable> {
        Ok(BTreeMap::new())
    }

    async fn keep_server_keys(
        &self,
        _: &ServerName,
        _: BTreeMap<OwnedServerSigningKeyId, ServerKey>,
    ) -> Result<(), StorageUnavailable> {
        Ok(())
    }

    async fn key_document(&self, _: &ServerName) -> Result<Option<KeyDocument>, StorageUnavailable> {
        Ok(None)
    }

    async fn keep_key_document(&self, _: &ServerName, _: KeyDocument) -> Result<(), StorageUnavailable> {
        Ok(())
    }

    async fn back_off(&self, _: &ServerName) -> Result<Option<BackOff>, StorageUnavailable> {
        Ok(None)
    }

    async fn keep_back_off(&self, _: &ServerName, _: Option<BackOff>) -> Result<(), StorageUnavailable> {
        Ok(())
    }

    async fn answered(&self, origin: &ServerName, id: &str) -> Result<Option<Box<RawValue>>, StorageUnavailable> {
        Ok(self.0.lock().get(&(origin.to_owned(), id.to_owned())).cloned())
    }

    async fn keep_answer(
        &self,
        origin: &ServerName,
        id: &str,
        answer: Box<RawValue>,
    ) -> Result<(), StorageUnavailable> {
        self.0.lock().insert((origin.to_owned(), id.to_owned()), answer);
        Ok(())
    }
}

/// Knows the key `ed25519:1` of every server but those called `away...`.
#[derive(Default)]
pub(super) struct FakeKeys(pub(super) AtomicUsize);

impl RequestKeys for FakeKeys {
    async fn for_request(
        &self,
        origin: &ServerName,
        key_ids: &[OwnedServerSigningKeyId],
    ) -> Result<BTreeMap<OwnedServerSigningKeyId, Base64>, KeysUnavailable> {
        self.0.fetch_add(1, Ordering::SeqCst);
        if origin.as_str().starts_with("away") {
            return Err(KeysUnavailable);
        }
        let known: OwnedServerSigningKeyId = "ed25519:1".try_into().unwrap();
        let key = Base64::new(Peer::new(origin.as_str()).key.public_key().to_vec());
        Ok(key_ids.contains(&known).then_some((known, key)).into_iter().collect())
    }

    async fn document(&self, server: &ServerName, _: MilliSecondsSinceUnixEpoch) -> Option<CanonicalJsonObject> {
        if server.as_str().starts_with("away") {
            return None;
        }
        let peer = Peer::new(server.as_str());
        let keys = SigningKeys::one(peer.key);
        Some(key_document(server, &keys, &RetiredKeys::default(), MilliSecondsSinceUnixEpoch(5_u32.into())).unwrap())
    }
}

//! What a peer may ask of this server: the ports that the server implements.
//!
//! Every function gets the name of the peer that asks, proven by the request's signature.

use std::{collections::BTreeMap, io, pin::Pin};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId,
    RoomVersionId, ServerName, UserId,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Pdu, Refusal, StorageUnavailable};

/// What a peer may ask of this server.
///
/// Every function gets the name of the peer that asks, proven by the request's signature, and checks itself what this peer
/// may do. The number of events asked for is already within [`limits`].
pub trait LocalRooms: Send + Sync + 'static {
    /// Takes in one transaction's events of one room, in the order given, and answers for each. An event whose id cannot be
    /// told is left out. The answer means: what was accepted is on disk. [`Refusal::Unavailable`] for one event makes the peer send
    /// the whole transaction again: it is for a store that fails, not for an event that cannot be judged yet. The future is never
    /// dropped before it ends. The events have no `unsigned`, hold only numbers of canonical JSON, and are within the counts of
    /// [`limits`](crate::limits).
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
    ) -> impl Future<Output = Result<StateStream<Pdu>, Refusal>> + Send;

    /// The same as [`LocalRooms::state_before`], by id.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1state_idsroomid>
    fn state_ids_before(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> impl Future<Output = Result<StateStream<OwnedEventId>, Refusal>> + Send;

    /// An event's auth chain: what authorises it, and what authorises that, down to the create event.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1event_authroomideventid>
    fn auth_chain(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> impl Future<Output = Result<Vec<Pdu>, Refusal>> + Send;

    /// A user of the peer types in a room, or no longer does. Whatever is wrong with it, it is ignored.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#typing-notifications>
    fn typing(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
        is_typing: bool,
    ) -> impl Future<Output = ()> + Send;

    /// A user of the peer has read up to an event, in the room or in the thread that hangs from another one. Whatever is wrong with it, it is ignored.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#receipts>
    fn read_receipt(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
        event_id: &EventId,
        thread: Option<&EventId>,
        at: MilliSecondsSinceUnixEpoch,
    ) -> impl Future<Output = ()> + Send;
}

/// How users of a peer enter and leave our rooms, and how ours are invited into theirs. As in [`LocalRooms`], every function
/// checks itself what the peer may do.
pub trait Handshakes: Send + Sync + 'static {
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

    /// Takes in the membership event that was made from a template. What the answer holds for each wish stands at
    /// [`Accepted::before`]. The door has checked that it is a membership event of this wish and room, of a user of the origin
    /// about itself; not its id.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid>
    fn accept_membership(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
        wish: Wish,
        event: Pdu,
    ) -> impl Future<Output = Result<Accepted, Refusal>> + Send;

    /// The same for a join of a peer that can do without most members: in a large room the answer then leaves out the membership
    /// events but those that a nameless room is called by, and from the auth chain what the state has.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid>
    fn accept_join_without_members(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
        event: Pdu,
    ) -> impl Future<Output = Result<Accepted, Refusal>> + Send;

    /// Takes in an invite of one of our users and answers the event with our signature. The door has checked that it is an
    /// invite into this room, of a user of ours, by a user of the origin; not its id, nor its version.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid>
    fn accept_invite(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
        invite: Invite,
    ) -> impl Future<Output = Result<Pdu, Refusal>> + Send;
}

/// What peers look up on this server that is not part of a room.
pub trait Directory: Send + Sync + 'static {
    /// The room of an alias of this server, and servers that are in it.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1querydirectory>
    fn alias(
        &self,
        origin: &ServerName,
        alias: &RoomAliasId,
    ) -> impl Future<Output = Result<AliasAnswer, Refusal>> + Send;

    /// The public profile of a user of this server: `displayname` and `avatar_url`, as far as they are set; for a user of
    /// another server, or none, [`Refusal::NotFound`].
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryprofile>
    fn profile(
        &self,
        origin: &ServerName,
        user_id: &UserId,
    ) -> impl Future<Output = Result<BTreeMap<String, String>, Refusal>> + Send;

    /// A page of the rooms of this server that everybody may find, in a stable order.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#published-room-directory>
    fn public_rooms(
        &self,
        origin: &ServerName,
        search: PublicSearch,
    ) -> impl Future<Output = Result<PublicRooms, Refusal>> + Send;

    /// A space and the rooms right below it, as far as the peer may see them.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>
    fn hierarchy(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> impl Future<Output = Result<Hierarchy, Refusal>> + Send;

    /// The id is of a user of this server who can be written to.
    fn has_user(&self, user_id: &UserId) -> impl Future<Output = Result<bool, StorageUnavailable>> + Send;

    /// A medium of this server that the peer may read.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1mediadownloadmediaid>
    fn medium(&self, origin: &ServerName, media_id: &str) -> impl Future<Output = Result<Medium, Refusal>> + Send;

    /// A small picture of it, at least of the size asked for where the original is.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1mediathumbnailmediaid>
    fn thumbnail(
        &self,
        origin: &ServerName,
        media_id: &str,
        size: ThumbnailSize,
    ) -> impl Future<Output = Result<Medium, Refusal>> + Send;
}

/// Everything that a peer may ask.
pub trait Local: LocalRooms + Handshakes + Directory {}

impl<T: LocalRooms + Handshakes + Directory> Local for T {}

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

/// A state before an event that may be larger than memory: a piece at a time, its entries before what authorises them. An error is the last
/// piece: who is told breaks off.
pub struct StateStream<T>(BoxStream<'static, Result<StatePiece<T>, Refusal>>);

/// A piece of a state before an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatePiece<T> {
    /// An entry of the state.
    State(T),
    /// What authorises the state.
    AuthChain(T),
}

impl<T: Send + 'static> StateStream<T> {
    /// Pieces that come one after the other.
    pub fn new(pieces: impl Stream<Item = Result<StatePiece<T>, Refusal>> + Send + 'static) -> Self {
        Self(Box::pin(pieces))
    }

    /// A state that is there as a whole.
    pub fn of(before: StateBefore<T>) -> Self {
        let state = before.state.into_iter().map(StatePiece::State);
        let pieces = state.chain(before.auth_chain.into_iter().map(StatePiece::AuthChain));
        Self::new(stream::iter(pieces.map(Ok).collect::<Vec<_>>()))
    }

    /// The pieces.
    pub fn pieces(self) -> BoxStream<'static, Result<StatePiece<T>, Refusal>> {
        self.0
    }

    /// The whole state: for one that is known to be small.
    ///
    /// # Errors
    /// When it breaks off.
    pub async fn gathered(mut self) -> Result<StateBefore<T>, Refusal> {
        let mut before = StateBefore { state: Vec::new(), auth_chain: Vec::new() };
        while let Some(piece) = self.0.next().await {
            match piece? {
                StatePiece::State(entry) => before.state.push(entry),
                StatePiece::AuthChain(event) => before.auth_chain.push(event),
            }
        }
        Ok(before)
    }
}

impl<T> std::fmt::Debug for StateStream<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("StateStream")
    }
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
#[derive(Debug)]
pub struct Accepted {
    /// The event as we keep it, co-signed where the room's rules ask for it.
    pub event: Pdu,
    /// The state before it and what authorises that. For a knock the state holds the events that the knocking person may see
    /// of the room, the create event among them, and no auth chain; for a leave both are empty.
    pub before: StateStream<Pdu>,
    /// The servers in the room, the peer's own left out.
    pub servers: Vec<OwnedServerName>,
    /// The state before it lacks members.
    pub members_omitted: bool,
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

/// Where an alias leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasAnswer {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers to join it through, this one first.
    pub servers: Vec<OwnedServerName>,
}

/// Which public rooms are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicSearch {
    /// A part of the name, the topic or the alias, whatever the case.
    pub text: Option<String>,
    /// Only rooms of one of these types; none: of rooms without a type.
    pub room_types: Option<Vec<Option<String>>>,
    /// Where a page before it ended or began, as [`PublicRooms`] said.
    pub since: Option<String>,
    /// Rooms on the page.
    pub rooms_max: usize,
}

/// A page of public rooms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicRooms {
    /// The rooms.
    #[serde(rename = "chunk")]
    pub rooms: Vec<PublicRoom>,
    /// Where the next page begins; none: this is the last one.
    #[serde(rename = "next_batch", skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
    /// Where the page before ends; none: this is the first one.
    #[serde(rename = "prev_batch", skip_serializing_if = "Option::is_none", default)]
    pub previous: Option<String>,
    /// About how many rooms there are in all.
    #[serde(rename = "total_room_count_estimate", skip_serializing_if = "Option::is_none", default)]
    pub total: Option<u64>,
}

/// What is told of a room to who is not in it.
/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1publicrooms>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicRoom {
    /// Its id.
    pub room_id: OwnedRoomId,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// What it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub topic: Option<String>,
    /// Its main alias.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub canonical_alias: Option<String>,
    /// Its picture, an `mxc` address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub avatar_url: Option<String>,
    /// People in it.
    #[serde(rename = "num_joined_members")]
    pub joined: u64,
    /// Whoever is not in it can read it.
    pub world_readable: bool,
    /// Guests can enter it.
    pub guest_can_join: bool,
    /// Who enters it; none says `public`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub join_rule: Option<String>,
    /// `m.space`, or another type of room.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub room_type: Option<String>,
}

/// A space and what is right below it.
#[derive(Debug, Clone, Serialize)]
pub struct Hierarchy {
    /// The space.
    pub room: Parent,
    /// Rooms below it that the peer may see, in the order of the space.
    pub children: Vec<Child>,
    /// Rooms below it that are here, and which the peer may not see.
    #[serde(rename = "inaccessible_children")]
    pub hidden: Vec<OwnedRoomId>,
}

/// The space itself.
#[derive(Debug, Clone, Serialize)]
pub struct Parent {
    /// What is told of it.
    #[serde(flatten)]
    pub room: Child,
    /// The state events that name its children: type, state key, content, sender and time.
    pub children_state: Vec<Pdu>,
}

/// A room of a space.
#[derive(Debug, Clone, Serialize)]
pub struct Child {
    /// What is told of it.
    #[serde(flatten)]
    pub room: PublicRoom,
    /// The rooms whose members may enter it, where its join rule names some.
    #[serde(rename = "allowed_room_ids", skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<OwnedRoomId>,
    /// Its version.
    pub room_version: RoomVersionId,
    /// How messages in it are encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
}

/// A file on its way to a peer.
pub struct Medium {
    /// Its media type, as it is safe to serve.
    pub content_type: String,
    /// What its uploader called it.
    pub name: Option<String>,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its bytes.
    pub body: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
}

/// How large a picture is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThumbnailSize {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Cut to the shape asked for, instead of made to fit into it.
    pub crop: bool,
}

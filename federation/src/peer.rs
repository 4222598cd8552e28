//! What this server asks of another one, typed. Events in answers stay the text that came: who asked checks them.
//!
//! May import: `connection`, `limits`, `local` (the types that both directions share), ruma's ids.

use std::collections::BTreeMap;

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId, OwnedRoomId, RoomAliasId, RoomId, RoomVersionId,
    ServerName, UserId,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    Pdu, PeerStore,
    connection::{Call, Connections},
    error::FederationError,
    limits::{
        BACKFILL_EVENTS_MAX, EVENTS_ANSWER_BYTES_MAX, INVITE_STATE_EVENTS_MAX, MISSING_EVENTS_MAX, PDU_TEXT_BYTES_MAX,
        PUBLIC_ROOMS_MAX, SEARCH_BYTES_MAX, SERVERS_IN_ANSWER_MAX, SMALL_ANSWER_BYTES_MAX, STATE_ANSWER_BYTES_MAX,
        STATE_ANSWER_EVENTS_MAX,
    },
    local::{AliasAnswer, Gap, PublicRooms, PublicSearch, StateBefore, Template, Wish},
    request_signature::server_name,
};

pub use join::{JoinAnswer, JoinPiece};
pub use media::RemoteMedium;
use split::{Parts, Splitter};

mod join;
mod media;
pub(crate) mod split;

/// What stands unescaped in a path or query: the letters that no parser changes.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const V1: &str = "/_matrix/federation/v1";
const V2: &str = "/_matrix/federation/v2";

/// One other server. Every function is one request, bounded in time and size; its errors are [`FederationError`].
pub struct Peer<'a, S> {
    connections: &'a Connections<S>,
    server: &'a ServerName,
}

/// The program that a server runs, as it says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// Its name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
}

impl<S: PeerStore> Connections<S> {
    /// Another server, to ask things of.
    pub fn peer<'a>(&'a self, server: &'a ServerName) -> Peer<'a, S> {
        Peer { connections: self, server }
    }
}

impl<S: PeerStore> Peer<'_, S> {
    /// Which program it runs.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1version>
    pub async fn version(&self) -> Result<Version, FederationError> {
        #[derive(Deserialize)]
        struct Answer {
            server: Option<Version>,
        }
        let target = format!("{V1}/version");
        let answer: Answer = self.small(Call { is_signed: false, ..Call::get(&target) }).await?;
        Ok(answer.server.unwrap_or_default())
    }

    /// A membership event for a user of ours to complete and sign. Which of its fields may be used, the caller decides.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_joinroomiduserid>
    pub async fn membership_template(
        &self,
        room_id: &RoomId,
        user_id: &UserId,
        wish: Wish,
        versions: &[RoomVersionId],
    ) -> Result<Template, FederationError> {
        #[derive(Deserialize)]
        struct Answer {
            room_version: RoomVersionId,
            event: Box<RawValue>,
        }
        let mut target = format!("{V1}/make_{}/{}/{}", word(wish), escape(room_id), escape(user_id));
        if wish != Wish::Leave {
            let versions: Vec<_> = versions.iter().map(|version| ("ver", version.as_str())).collect();
            target.push_str(&query(&versions));
        }
        // Without a version it would be 1 or 2, which nobody here speaks: that answer cannot be read, and is refused so.
        let Answer { room_version, event } = self.small(Call::get(&target)).await?;
        Ok(Template { room_version, event })
    }

    /// Hands in a signed join. The answer, which may be huge, is taken apart while it comes.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid>
    pub async fn send_join(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
        event: &CanonicalJsonObject,
    ) -> Result<JoinAnswer, FederationError> {
        let target = format!("{V2}/send_join/{}/{}?omit_members=false", escape(room_id), escape(event_id));
        let call = Call::with(Method::PUT, &target, event).slow();
        let splitter = state_splitter(&["state", "auth_chain"], &["event", "members_omitted"]);
        Ok(JoinAnswer::new(self.connections.open(self.server, call).await?, splitter))
    }

    /// Hands in a signed leave, or the refusal of an invite.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_leaveroomideventid>
    pub async fn send_leave(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
        event: &CanonicalJsonObject,
    ) -> Result<(), FederationError> {
        let target = format!("{V2}/send_leave/{}/{}", escape(room_id), escape(event_id));
        self.exchange(Call::with(Method::PUT, &target, event), SMALL_ANSWER_BYTES_MAX).await.map(drop)
    }

    /// Hands in a signed knock. The answer shows what the room is.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1send_knockroomideventid>
    pub async fn send_knock(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
        event: &CanonicalJsonObject,
    ) -> Result<Vec<Box<RawValue>>, FederationError> {
        let target = format!("{V1}/send_knock/{}/{}", escape(room_id), escape(event_id));
        let call = Call::with(Method::PUT, &target, event);
        let splitter = Splitter::new(&["knock_room_state"], &[], STATE_ANSWER_EVENTS_MAX, PDU_TEXT_BYTES_MAX);
        let mut parts = self.taken_apart(call, splitter, EVENTS_ANSWER_BYTES_MAX).await?;
        // The knock was taken: that too much is shown with it changes nothing.
        let mut room_state = listed(&mut parts, "knock_room_state")?;
        room_state.truncate(INVITE_STATE_EVENTS_MAX);
        Ok(room_state)
    }

    /// Invites a user of the peer. The answer is the invite with the peer's signature added, if it is honest.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid>
    pub async fn invite(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
        room_version: &RoomVersionId,
        event: CanonicalJsonObject,
        room_state: Vec<CanonicalJsonObject>,
    ) -> Result<Pdu, FederationError> {
        #[derive(Deserialize)]
        struct Answer {
            event: Box<RawValue>,
        }
        let target = format!("{V2}/invite/{}/{}", escape(room_id), escape(event_id));
        let room_state = room_state.into_iter().map(CanonicalJsonValue::Object).collect();
        let content = CanonicalJsonObject::from([
            ("event".to_owned(), CanonicalJsonValue::Object(event)),
            ("invite_room_state".to_owned(), CanonicalJsonValue::Array(room_state)),
            ("room_version".to_owned(), CanonicalJsonValue::String(room_version.to_string())),
        ]);
        let answer: Answer = self.small(Call::with(Method::PUT, &target, &content)).await?;
        Ok(answer.event)
    }

    /// One event.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1eventeventid>
    pub async fn event(&self, event_id: &EventId) -> Result<Pdu, FederationError> {
        let target = format!("{V1}/event/{}", escape(event_id));
        let events = self.events(Call::get(&target), pdus_splitter(1)).await?;
        events.into_iter().next().ok_or(FederationError::BadAnswer("no event"))
    }

    /// The state of a room before an event, and what authorises it.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1stateroomid>
    pub async fn state(&self, room_id: &RoomId, event_id: &EventId) -> Result<StateBefore<Pdu>, FederationError> {
        let target = format!("{V1}/state/{}{}", escape(room_id), query(&[("event_id", event_id.as_str())]));
        let splitter = state_splitter(&["pdus", "auth_chain"], &[]);
        let mut parts = self.taken_apart(Call::get(&target).slow(), splitter, STATE_ANSWER_BYTES_MAX).await?;
        state_of(&mut parts, "pdus", "auth_chain")
    }

    /// The same by id.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1state_idsroomid>
    pub async fn state_ids(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateBefore<OwnedEventId>, FederationError> {
        let target = format!("{V1}/state_ids/{}{}", escape(room_id), query(&[("event_id", event_id.as_str())]));
        let splitter = state_splitter(&["pdu_ids", "auth_chain_ids"], &[]);
        let mut parts = self.taken_apart(Call::get(&target).slow(), splitter, STATE_ANSWER_BYTES_MAX).await?;
        let StateBefore { state, auth_chain } = state_of(&mut parts, "pdu_ids", "auth_chain_ids")?;
        Ok(StateBefore { state: ids(&state)?, auth_chain: ids(&auth_chain)? })
    }

    /// What authorises an event, down to the create event.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1event_authroomideventid>
    pub async fn event_auth(&self, room_id: &RoomId, event_id: &EventId) -> Result<Vec<Pdu>, FederationError> {
        let target = format!("{V1}/event_auth/{}/{}", escape(room_id), escape(event_id));
        let splitter = state_splitter(&["auth_chain"], &[]);
        listed(&mut self.taken_apart(Call::get(&target).slow(), splitter, STATE_ANSWER_BYTES_MAX).await?, "auth_chain")
    }

    /// Events from the given ones back. A peer that sends more than was asked for gives a bad answer.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1backfillroomid>
    pub async fn backfill(
        &self,
        room_id: &RoomId,
        from: &[OwnedEventId],
        events_max: usize,
    ) -> Result<Vec<Pdu>, FederationError> {
        let events_max = events_max.min(BACKFILL_EVENTS_MAX);
        let limit = events_max.to_string();
        let mut parameters: Vec<_> = from.iter().map(|event_id| ("v", event_id.as_str())).collect();
        parameters.push(("limit", &limit));
        let target = format!("{V1}/backfill/{}{}", escape(room_id), query(&parameters));
        // The events named may come on top.
        self.events(Call::get(&target).slow(), pdus_splitter(events_max + from.len())).await
    }

    /// Events of a hole.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid>
    pub async fn missing_events(&self, room_id: &RoomId, gap: &Gap) -> Result<Vec<Pdu>, FederationError> {
        let target = format!("{V1}/get_missing_events/{}", escape(room_id));
        let ids = |ids: &[OwnedEventId]| {
            CanonicalJsonValue::Array(ids.iter().map(|id| CanonicalJsonValue::String(id.to_string())).collect())
        };
        let number = |number: Option<i32>| CanonicalJsonValue::Integer(number.unwrap_or(0).into());
        let events_max = gap.events_max.min(MISSING_EVENTS_MAX);
        let content = CanonicalJsonObject::from([
            ("earliest_events".to_owned(), ids(&gap.earliest)),
            ("latest_events".to_owned(), ids(&gap.latest)),
            ("limit".to_owned(), number(i32::try_from(events_max).ok())),
            ("min_depth".to_owned(), number(i32::try_from(gap.depth_min).ok())),
        ]);
        let call = Call::with(Method::POST, &target, &content).slow();
        let splitter = Splitter::new(&["events"], &[], events_max, PDU_TEXT_BYTES_MAX);
        listed(&mut self.taken_apart(call, splitter, EVENTS_ANSWER_BYTES_MAX).await?, "events")
    }

    /// The room of an alias of the peer, and servers to join it through.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1querydirectory>
    pub async fn alias(&self, alias: &RoomAliasId) -> Result<AliasAnswer, FederationError> {
        #[derive(Deserialize)]
        struct Answer {
            room_id: OwnedRoomId,
            servers: Vec<String>,
        }
        let target = format!("{V1}/query/directory{}", query(&[("room_alias", alias.as_str())]));
        let answer: Answer = self.small(Call::get(&target)).await?;
        let servers = answer.servers.iter().filter_map(|name| server_name(name));
        Ok(AliasAnswer { room_id: answer.room_id, servers: servers.take(SERVERS_IN_ANSWER_MAX).collect() })
    }

    /// A user's public profile: the fields that are texts.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryprofile>
    pub async fn profile(&self, user_id: &UserId) -> Result<BTreeMap<String, String>, FederationError> {
        let target = format!("{V1}/query/profile{}", query(&[("user_id", user_id.as_str())]));
        let answer: serde_json::Map<String, serde_json::Value> = self.small(Call::get(&target)).await?;
        let texts = answer.into_iter().filter_map(|(name, value)| match value {
            serde_json::Value::String(text) => Some((name, text)),
            _ => None,
        });
        Ok(texts.collect())
    }

    /// A page of the peer's public rooms. Entries that cannot be read are left out, as are more than were asked for.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1publicrooms>
    pub async fn public_rooms(&self, search: &PublicSearch) -> Result<PublicRooms, FederationError> {
        #[derive(Deserialize)]
        struct Answer {
            chunk: Vec<Box<RawValue>>,
            next_batch: Option<String>,
            prev_batch: Option<String>,
            total_room_count_estimate: Option<u64>,
        }
        let rooms_max = search.rooms_max.clamp(1, PUBLIC_ROOMS_MAX);
        let text = |text: &String| CanonicalJsonValue::String(text.clone());
        let limit = CanonicalJsonValue::Integer(i32::try_from(rooms_max).unwrap_or(1).into());
        let mut content = CanonicalJsonObject::from([("limit".to_owned(), limit)]);
        content.extend(search.since.iter().map(|since| ("since".to_owned(), text(since))));
        if let Some(wanted) = &search.text {
            let filter = [("generic_search_term".to_owned(), text(wanted))];
            content.insert("filter".to_owned(), CanonicalJsonValue::Object(filter.into()));
        }
        let target = format!("{V1}/publicRooms");
        let answer: Answer = self.small(Call::with(Method::POST, &target, &content)).await?;
        let rooms = answer.chunk.iter().filter_map(|room| serde_json::from_str(room.get()).ok());
        Ok(PublicRooms {
            rooms: rooms.take(rooms_max).collect(),
            next: answer.next_batch.filter(|next| next.len() <= SEARCH_BYTES_MAX),
            previous: answer.prev_batch.filter(|previous| previous.len() <= SEARCH_BYTES_MAX),
            total: answer.total_room_count_estimate,
        })
    }

    /// Asks a policy server to sign an event. Gives its signature, unchecked.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#post_matrixpolicyv1sign>
    pub async fn policy_signature(&self, event: &CanonicalJsonObject) -> Result<String, FederationError> {
        let mut answer: BTreeMap<String, BTreeMap<String, String>> =
            self.small(Call::with(Method::POST, "/_matrix/policy/v1/sign", event)).await?;
        let signature = answer.remove(self.server.as_str()).and_then(|mut keys| keys.remove("ed25519:policy_server"));
        signature.ok_or(FederationError::BadAnswer("no signature of the policy server"))
    }

    /// Hands in a transaction. Gives the events that the peer did not take, with its reasons.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid>
    pub async fn send_transaction(
        &self,
        transaction_id: &str,
        content: &CanonicalJsonObject,
    ) -> Result<BTreeMap<String, String>, FederationError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            pdus: BTreeMap<String, serde_json::Value>,
        }
        let target = format!("{V1}/send/{}", escape(transaction_id));
        let call = Call::with(Method::PUT, &target, content).slow();
        let text = self.exchange(call, SMALL_ANSWER_BYTES_MAX).await?;
        // A 200 is a 200, whatever stands in it.
        let pdus = serde_json::from_slice::<Answer>(&text).map(|answer| answer.pdus).unwrap_or_default();
        let refused = pdus.into_iter().filter_map(|(event_id, said)| Some((event_id, said.get("error")?.to_string())));
        Ok(refused.collect())
    }

    async fn exchange(&self, call: Call<'_>, bytes_max: usize) -> Result<Vec<u8>, FederationError> {
        self.connections.exchange(self.server, call, bytes_max).await
    }

    async fn small<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, FederationError> {
        let text = self.exchange(call, SMALL_ANSWER_BYTES_MAX).await?;
        // serde would read a list as the fields of a structure in their order.
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(FederationError::BadAnswer("no JSON object"));
        }
        serde_json::from_slice(&text).ok().ok_or(FederationError::BadAnswer("fields are missing or of another type"))
    }

    async fn events(&self, call: Call<'_>, splitter: Splitter) -> Result<Vec<Pdu>, FederationError> {
        listed(&mut self.taken_apart(call, splitter, EVENTS_ANSWER_BYTES_MAX).await?, "pdus")
    }

    async fn taken_apart(
        &self,
        call: Call<'_>,
        mut splitter: Splitter,
        bytes_max: usize,
    ) -> Result<Parts, FederationError> {
        let mut answer = self.connections.open(self.server, call).await?;
        let mut left = bytes_max;
        while let Some(bytes) = answer.next().await? {
            left = left.checked_sub(bytes.len()).ok_or(FederationError::TooLarge)?;
            splitter.push(&bytes)?;
        }
        splitter.finish()
    }
}

fn pdus_splitter(events_max: usize) -> Splitter {
    Splitter::new(&["pdus"], &[], events_max, PDU_TEXT_BYTES_MAX)
}

fn state_splitter(lists: &'static [&'static str], fields: &'static [&'static str]) -> Splitter {
    Splitter::new(lists, fields, STATE_ANSWER_EVENTS_MAX, PDU_TEXT_BYTES_MAX)
}

fn listed(parts: &mut Parts, name: &str) -> Result<Vec<Box<RawValue>>, FederationError> {
    parts.list(name).ok_or(FederationError::BadAnswer("a list is missing"))
}

fn state_of(parts: &mut Parts, state: &str, auth_chain: &str) -> Result<StateBefore<Box<RawValue>>, FederationError> {
    Ok(StateBefore { state: listed(parts, state)?, auth_chain: listed(parts, auth_chain)? })
}

fn ids(texts: &[Box<RawValue>]) -> Result<Vec<OwnedEventId>, FederationError> {
    let ids: Result<_, _> = texts.iter().map(|text| serde_json::from_str(text.get())).collect();
    ids.ok().ok_or(FederationError::BadAnswer("what is no event id"))
}

fn word(wish: Wish) -> &'static str {
    match wish {
        Wish::Join => "join",
        Wish::Leave => "leave",
        Wish::Knock => "knock",
    }
}

fn escape<T: AsRef<str> + ?Sized>(text: &T) -> String {
    utf8_percent_encode(text.as_ref(), ESCAPED).to_string()
}

fn query(parameters: &[(&str, &str)]) -> String {
    let pairs = parameters.iter().map(|(name, value)| format!("{name}={}", escape(value)));
    format!("?{}", pairs.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests;

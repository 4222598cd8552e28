//! An event, and the stages that a peer's event passes before it is one: [`RawPdu`], [`WellFormedPdu`], [`SignedPdu`].
//! Each stage exists only when its check was done. May import `canonical`, `redaction`, `version` and ruma.

use std::fmt;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId, OwnedRoomId, OwnedUserId, events::TimelineEventType,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{canonical, redaction, version::Version};

mod ruma_view;

/// Milliseconds since the Unix epoch.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub struct UnixMs(pub u64);

/// An event as a peer sent it. Nothing about it is known.
#[derive(Debug, Clone)]
pub struct RawPdu(pub Box<RawValue>);

impl RawPdu {
    /// The room that the text names, to find the rules to judge it by. None in a create event of version 12.
    #[must_use]
    pub fn room_id(&self) -> Option<OwnedRoomId> {
        #[derive(Deserialize)]
        struct Named {
            room_id: Option<OwnedRoomId>,
        }
        serde_json::from_str::<Named>(self.0.get()).ok()?.room_id
    }
}

/// An event that passed step 1: its size and shape are right, and its id is computed.
#[derive(Debug, Clone)]
pub struct WellFormedPdu {
    pub(crate) event_id: OwnedEventId,
    pub(crate) header: Header,
    pub(crate) object: CanonicalJsonObject,
    /// What its servers sign and its id is the hash of.
    pub(crate) signed_bytes: String,
    /// A field that is too long in bytes, in versions that keep such events as rejected.
    pub(crate) oversized: Option<&'static str>,
}

impl WellFormedPdu {
    /// The event's id.
    #[must_use]
    pub fn event_id(&self) -> &OwnedEventId {
        &self.event_id
    }

    /// The room's id, also for a create event of version 12.
    #[must_use]
    pub fn room_id(&self) -> &OwnedRoomId {
        &self.header.room_id
    }

    /// The user who claims to have sent it.
    #[must_use]
    pub fn sender(&self) -> &OwnedUserId {
        &self.header.sender
    }

    /// The events that it says it was placed after.
    #[must_use]
    pub fn prev_events(&self) -> &[OwnedEventId] {
        &self.header.prev_events
    }

    /// The events that it says allow it.
    #[must_use]
    pub fn auth_events(&self) -> &[OwnedEventId] {
        &self.header.auth_events
    }

    /// The whole event without `unsigned`.
    #[must_use]
    pub fn object(&self) -> &CanonicalJsonObject {
        &self.object
    }

    /// When its sender's server says that it was made.
    #[must_use]
    pub fn origin_server_ts(&self) -> UnixMs {
        self.header.origin_server_ts
    }
}

/// An event that passed steps 2 and 3: the servers that had to sign it did, and its content is what they signed, or was
/// redacted.
#[derive(Debug, Clone)]
pub struct SignedPdu {
    pub(crate) pdu: WellFormedPdu,
    pub(crate) redacted: bool,
}

impl SignedPdu {
    /// Whether the content was not what had been signed, and so was redacted.
    #[must_use]
    pub fn was_redacted(&self) -> bool {
        self.redacted
    }

    /// The event's id.
    #[must_use]
    pub fn event_id(&self) -> &OwnedEventId {
        &self.pdu.event_id
    }

    /// The event, not judged yet.
    ///
    /// # Errors
    /// Never for what [`crate::format::parse`] read; the type says so because the content is read again.
    pub fn into_event(self, version: &Version) -> Result<Event, EventError> {
        Event::assemble(self.pdu.event_id, self.pdu.header, &self.pdu.object, version)
    }
}

/// Why a text or an object is no event.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// A stored event that cannot be read.
    #[error("the event `{0}` cannot be read: {1}")]
    Unreadable(OwnedEventId, #[source] serde_json::Error),
    /// A stored event that is not canonical JSON.
    #[error("the event `{0}` is not canonical JSON: {1}")]
    NotCanonical(OwnedEventId, #[source] canonical::JsonError),
}

/// What stands in an event besides its content, read and checked.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) room_id: OwnedRoomId,
    pub(crate) sender: OwnedUserId,
    pub(crate) kind: TimelineEventType,
    pub(crate) type_name: Box<str>,
    pub(crate) state_key: Option<Box<str>>,
    pub(crate) origin_server_ts: UnixMs,
    pub(crate) prev_events: Box<[OwnedEventId]>,
    pub(crate) auth_events: Box<[OwnedEventId]>,
    pub(crate) depth: u64,
}

/// An event of a room. It never changes; share it behind an `Arc`.
#[derive(Clone)]
pub struct Event {
    event_id: OwnedEventId,
    header: Header,
    redacts: Option<OwnedEventId>,
    content: Box<RawValue>,
    json: Box<str>,
    names_room: bool,
    rejected: bool,
}

/// An event in storage, as far as it is read field by field.
#[derive(Deserialize)]
struct Stored<'a> {
    sender: OwnedUserId,
    #[serde(rename = "type")]
    kind: TimelineEventType,
    state_key: Option<Box<str>>,
    origin_server_ts: UnixMs,
    prev_events: Box<[OwnedEventId]>,
    auth_events: Box<[OwnedEventId]>,
    #[serde(default)]
    depth: u64,
    redacts: Option<serde_json::Value>,
    #[serde(borrow)]
    content: &'a RawValue,
}

impl Event {
    pub(crate) fn assemble(
        event_id: OwnedEventId,
        header: Header,
        object: &CanonicalJsonObject,
        version: &Version,
    ) -> Result<Self, EventError> {
        let mut content = String::new();
        if let Some(value) = object.get("content") {
            canonical::write_value(&mut content, value);
        }
        match RawValue::from_string(content) {
            Ok(content) => Ok(Self::from_parts(event_id, header, object, content, version)),
            Err(error) => Err(EventError::Unreadable(event_id, error)),
        }
    }

    fn from_parts(
        event_id: OwnedEventId,
        header: Header,
        object: &CanonicalJsonObject,
        content: Box<RawValue>,
        version: &Version,
    ) -> Self {
        let redacts = if version.redacts_in_content() {
            object.get("content").and_then(CanonicalJsonValue::as_object).and_then(|content| content.get("redacts"))
        } else {
            object.get("redacts")
        };
        Self {
            redacts: redacts.and_then(CanonicalJsonValue::as_str).and_then(|id| redacted_id(&header.kind, id)),
            json: canonical::to_string(object).into(),
            names_room: names_room(&header.kind, version),
            event_id,
            header,
            content,
            rejected: false,
        }
    }

    /// Rebuilds an event from storage, without hashing it again: the ids are those of its row.
    ///
    /// # Errors
    /// The text is not an event.
    pub fn from_stored(
        event_id: OwnedEventId,
        room_id: OwnedRoomId,
        version: &Version,
        json: impl Into<Box<str>>,
        rejected: bool,
    ) -> Result<Self, EventError> {
        #[derive(Deserialize)]
        struct Redaction {
            redacts: Option<serde_json::Value>,
        }
        let json = json.into();
        let stored: Stored<'_> = match serde_json::from_str(&json) {
            Ok(stored) => stored,
            Err(error) => return Err(EventError::Unreadable(event_id, error)),
        };
        let redacts = match stored.kind {
            TimelineEventType::RoomRedaction if version.redacts_in_content() => {
                serde_json::from_str::<Redaction>(stored.content.get()).ok().and_then(|content| content.redacts)
            }
            _ => stored.redacts,
        };
        let content = stored.content.to_owned();
        let header = Header {
            room_id,
            sender: stored.sender,
            type_name: stored.kind.to_string().into(),
            kind: stored.kind,
            state_key: stored.state_key,
            origin_server_ts: stored.origin_server_ts,
            prev_events: stored.prev_events,
            auth_events: stored.auth_events,
            depth: stored.depth,
        };
        Ok(Self {
            redacts: redacts.as_ref().and_then(|value| value.as_str()).and_then(|id| redacted_id(&header.kind, id)),
            names_room: names_room(&header.kind, version),
            event_id,
            header,
            content,
            json,
            rejected,
        })
    }

    /// What a redaction leaves of the event. Id and signatures stay, so others can still check it.
    ///
    /// # Errors
    /// The stored text is not canonical JSON.
    pub fn redacted(&self, version: &Version) -> Result<Self, EventError> {
        match canonical::read_object(&self.json) {
            Ok(object) => {
                let object = redaction::redact(&object, &version.rules().redaction);
                let event = Self::assemble(self.event_id.clone(), self.header.clone(), &object, version)?;
                Ok(Self { rejected: self.rejected, ..event })
            }
            Err(error) => Err(EventError::NotCanonical(self.event_id.clone(), error)),
        }
    }

    /// The same event, marked as refused by the rules.
    #[must_use]
    pub fn into_rejected(self) -> Self {
        Self { rejected: true, ..self }
    }

    /// The event's id.
    #[must_use]
    pub fn event_id(&self) -> &OwnedEventId {
        &self.event_id
    }

    /// The room's id, also for a create event of version 12, which does not carry it.
    #[must_use]
    pub fn room_id(&self) -> &OwnedRoomId {
        &self.header.room_id
    }

    /// The user who sent it.
    #[must_use]
    pub fn sender(&self) -> &OwnedUserId {
        &self.header.sender
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> &TimelineEventType {
        &self.header.kind
    }

    /// Its type as text.
    #[must_use]
    pub fn type_str(&self) -> &str {
        &self.header.type_name
    }

    /// The state key, of a state event.
    #[must_use]
    pub fn state_key(&self) -> Option<&str> {
        self.header.state_key.as_deref()
    }

    /// Whether it is a state event.
    #[must_use]
    pub fn is_state(&self) -> bool {
        self.header.state_key.is_some()
    }

    /// When its sender's server says that it was made.
    #[must_use]
    pub fn origin_server_ts(&self) -> UnixMs {
        self.header.origin_server_ts
    }

    /// The events it was placed after.
    #[must_use]
    pub fn prev_events(&self) -> &[OwnedEventId] {
        &self.header.prev_events
    }

    /// The events that allow it.
    #[must_use]
    pub fn auth_events(&self) -> &[OwnedEventId] {
        &self.header.auth_events
    }

    /// Its depth. A hint for ordering, never trusted.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.header.depth
    }

    /// The event that this redaction aims at, wherever the version puts it.
    #[must_use]
    pub fn redacts(&self) -> Option<&OwnedEventId> {
        self.redacts.as_ref()
    }

    /// The content, as canonical JSON.
    #[must_use]
    pub fn content(&self) -> &RawValue {
        &self.content
    }

    /// The content as a type.
    ///
    /// # Errors
    /// The content has another shape. Content of a peer's event may have any.
    pub fn content_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.content.get())
    }

    /// The signed event as canonical JSON, as it is stored and sent: without `event_id` and `unsigned`.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Whether the rules refused it.
    #[must_use]
    pub fn rejected(&self) -> bool {
        self.rejected
    }
}

fn redacted_id(kind: &TimelineEventType, id: &str) -> Option<OwnedEventId> {
    (*kind == TimelineEventType::RoomRedaction).then(|| EventId::parse(id).ok()).flatten()
}

fn names_room(kind: &TimelineEventType, version: &Version) -> bool {
    !(version.room_id_is_create_hash() && *kind == TimelineEventType::RoomCreate)
}

impl fmt::Debug for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Event({}, {}", self.event_id, self.header.type_name)?;
        if let Some(state_key) = self.state_key() {
            write!(formatter, ", {state_key:?}")?;
        }
        formatter.write_str(if self.rejected { ", rejected)" } else { ")" })
    }
}

//! Step 1 of the checks on receipt: size and shape. What fails here is dropped. May import `canonical`, `event`,
//! `limits`, `hash` (the event id), `redaction` and ruma's ids.
//!
//! ruma's `check_pdu_format` is not used: it refuses an event of exactly 65,536 bytes, looks at a part of the fields
//! only, and its caps cannot be left off for history. ruma's id types take older forms, so the forms of room and event
//! ids are checked here by version. Source: <https://spec.matrix.org/v1.19/rooms/v12/#event-format>

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId, OwnedRoomId, RoomId, UserId,
    events::TimelineEventType,
};

use crate::{
    canonical,
    event::{Header, RawPdu, UnixMs, WellFormedPdu},
    hash,
    limits::{AUTH_EVENTS_MAX, EVENT_BYTES_MAX, FIELD_BYTES_MAX, PREV_EVENTS_MAX},
    redaction,
    version::Version,
};

/// Whether the lists of an event are capped.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub enum Caps {
    /// 20 previous and 10 auth events: for what comes by transaction or is asked for by id.
    Enforced,
    /// As many as fit: for history and for states that a peer hands over, where older events may hold more.
    Lifted,
}

/// Why an event is dropped before anybody looks at its signatures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The text is not canonical JSON, or no object.
    #[error("not canonical JSON: {0}")]
    NotCanonical(#[from] canonical::JsonError),
    /// The event is larger than any may be.
    #[error("{bytes} bytes are more than {EVENT_BYTES_MAX}")]
    TooLarge {
        /// Its size as canonical JSON.
        bytes: usize,
    },
    /// A field is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field has the wrong type, form or range.
    #[error("`{0}` has a wrong type, form or range")]
    Invalid(&'static str),
    /// A field is longer than any may be.
    #[error("`{0}` is longer than {FIELD_BYTES_MAX} bytes")]
    TooLong(&'static str),
    /// A list has more entries than any may have.
    #[error("`{field}` has {entries} entries")]
    TooMany {
        /// The list.
        field: &'static str,
        /// Its length.
        entries: usize,
    },
}

/// Reads an event that a peer sent. `unsigned` is left away: nothing in it can be trusted.
///
/// # Errors
/// The event has to be dropped: its size or shape is none of the room version.
pub fn parse(raw: &RawPdu, version: &Version, caps: Caps) -> Result<WellFormedPdu, FormatError> {
    let mut object = canonical::read_object(raw.0.get())?;
    object.remove("unsigned");
    // The canonical text is the shortest.
    if raw.0.get().len() > EVENT_BYTES_MAX {
        check_size(&object)?;
    }
    check_shape(object, version, caps)
}

/// [`parse`] for an event that was read already.
///
/// # Errors
/// As [`parse`].
pub fn check_object(object: CanonicalJsonObject, version: &Version, caps: Caps) -> Result<WellFormedPdu, FormatError> {
    check_size(&object)?;
    check_shape(object, version, caps)
}

/// Whether the lists of an event that was read with [`Caps::Lifted`] are as short as [`Caps::Enforced`] wants them.
///
/// # Errors
/// The list that is too long.
pub fn check_caps(pdu: &WellFormedPdu) -> Result<(), FormatError> {
    cap("prev_events", pdu.prev_events().len(), PREV_EVENTS_MAX)?;
    cap("auth_events", pdu.auth_events().len(), AUTH_EVENTS_MAX)
}

fn cap(field: &'static str, entries: usize, entries_max: usize) -> Result<(), FormatError> {
    if entries > entries_max { Err(FormatError::TooMany { field, entries }) } else { Ok(()) }
}

fn check_size(object: &CanonicalJsonObject) -> Result<(), FormatError> {
    let bytes = canonical::to_string(object).len();
    if bytes > EVENT_BYTES_MAX { Err(FormatError::TooLarge { bytes }) } else { Ok(()) }
}

fn check_shape(object: CanonicalJsonObject, version: &Version, caps: Caps) -> Result<WellFormedPdu, FormatError> {
    let oversized = check_texts(&object, version)?;
    check_envelope(&object)?;
    let signed_bytes = redaction::signed_bytes(&object, &version.rules().redaction);
    let event_id = hash::event_id_of(&signed_bytes).ok().ok_or(FormatError::Invalid("event_id"))?;
    let header = Header {
        room_id: room_id(&object, version, &event_id)?,
        sender: UserId::parse(text(&object, "sender")?).ok().ok_or(FormatError::Invalid("sender"))?,
        kind: TimelineEventType::from(text(&object, "type")?),
        type_name: text(&object, "type")?.into(),
        state_key: object.get("state_key").and_then(CanonicalJsonValue::as_str).map(Into::into),
        origin_server_ts: UnixMs(number(&object, "origin_server_ts")?),
        prev_events: event_ids(&object, "prev_events", caps, PREV_EVENTS_MAX)?,
        auth_events: event_ids(&object, "auth_events", caps, AUTH_EVENTS_MAX)?,
        depth: number(&object, "depth")?,
    };
    if version.room_id_is_create_hash() && header.auth_events.iter().any(|id| same_hash(id, &header.room_id)) {
        return Err(FormatError::Invalid("auth_events"));
    }
    Ok(WellFormedPdu { event_id, header, object, signed_bytes, oversized })
}

/// Checks the fields that are plain text. Gives the one that has too many bytes but not too many characters, where the
/// version keeps such events.
fn check_texts(object: &CanonicalJsonObject, version: &Version) -> Result<Option<&'static str>, FormatError> {
    let mut oversized = None;
    for field in ["type", "state_key"] {
        let value = match object.get(field) {
            None if field == "state_key" => continue,
            _ => text(object, field)?,
        };
        if value.len() <= FIELD_BYTES_MAX {
            continue;
        }
        if version.counts_field_bytes() || value.chars().count() > FIELD_BYTES_MAX {
            return Err(FormatError::TooLong(field));
        }
        oversized = Some(field);
    }
    for field in ["sender", "room_id"] {
        if object.get(field).and_then(CanonicalJsonValue::as_str).is_some_and(|id| id.len() > FIELD_BYTES_MAX) {
            return Err(FormatError::TooLong(field));
        }
    }
    Ok(oversized)
}

/// Checks the fields that are objects.
fn check_envelope(object: &CanonicalJsonObject) -> Result<(), FormatError> {
    for field in ["content", "hashes", "signatures"] {
        let value = object.get(field).ok_or(FormatError::Missing(field))?;
        value.as_object().ok_or(FormatError::Invalid(field))?;
    }
    let hash = object.get("hashes").and_then(CanonicalJsonValue::as_object).and_then(|hashes| hashes.get("sha256"));
    hash.and_then(CanonicalJsonValue::as_str).map(|_| ()).ok_or(FormatError::Invalid("hashes"))
}

fn text<'a>(object: &'a CanonicalJsonObject, field: &'static str) -> Result<&'a str, FormatError> {
    object.get(field).ok_or(FormatError::Missing(field))?.as_str().ok_or(FormatError::Invalid(field))
}

fn number(object: &CanonicalJsonObject, field: &'static str) -> Result<u64, FormatError> {
    let value = object.get(field).ok_or(FormatError::Missing(field))?.as_integer();
    value.and_then(|number| u64::try_from(i64::from(number)).ok()).ok_or(FormatError::Invalid(field))
}

fn event_ids(
    object: &CanonicalJsonObject,
    field: &'static str,
    caps: Caps,
    entries_max: usize,
) -> Result<Box<[OwnedEventId]>, FormatError> {
    let values = object.get(field).ok_or(FormatError::Missing(field))?.as_array().ok_or(FormatError::Invalid(field))?;
    if caps == Caps::Enforced {
        cap(field, values.len(), entries_max)?;
    }
    let ids = values.iter().map(|value| {
        let id = value.as_str().filter(|id| id.strip_prefix('$').is_some_and(is_hash));
        id.and_then(|id| EventId::parse(id).ok()).ok_or(FormatError::Invalid(field))
    });
    ids.collect()
}

/// The room that the event is of. A create event of version 12 does not name it: it is the event's own hash.
fn room_id(
    object: &CanonicalJsonObject,
    version: &Version,
    event_id: &OwnedEventId,
) -> Result<OwnedRoomId, FormatError> {
    let invalid = FormatError::Invalid("room_id");
    if version.room_id_is_create_hash() && text(object, "type")? == "m.room.create" {
        return room_of_create(event_id).filter(|_| !object.contains_key("room_id")).ok_or(invalid);
    }
    let id = text(object, "room_id")?;
    let room_id = RoomId::parse(id).ok().ok_or_else(|| invalid.clone())?;
    let is_right = if version.room_id_is_create_hash() {
        id.strip_prefix('!').is_some_and(is_hash)
    } else {
        room_id.server_name().is_some() && !id.starts_with("!:")
    };
    if is_right { Ok(room_id) } else { Err(invalid) }
}

/// The id of the room that a create event of version 12 makes.
#[must_use]
pub fn room_of_create(create: &EventId) -> Option<OwnedRoomId> {
    RoomId::new_v2(create.as_str().strip_prefix('$')?).ok()
}

/// The create event of a room of version 12.
#[must_use]
pub fn create_of_room(room_id: &RoomId) -> Option<OwnedEventId> {
    EventId::parse(format!("${}", room_id.as_str().strip_prefix('!')?)).ok()
}

fn same_hash(event_id: &EventId, room_id: &RoomId) -> bool {
    event_id.as_str().strip_prefix('$') == room_id.as_str().strip_prefix('!')
}

/// Whether the text is 32 bytes in URL-safe base64 without padding.
fn is_hash(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

//! Turning a local wish (send, join, rename) into a complete signed event. May import `canonical`, `event`, `format`,
//! `hash`, `limits`, `redaction`, `signature`, `version`, ruma's ids.
//!
//! This is the path of every message: one content hash, one redaction (its bytes are both signed and hashed to the id),
//! one signature, one serialisation.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, IdParseError, Int, OwnedEventId, OwnedRoomId, OwnedUserId, UserId,
    events::TimelineEventType,
};

use crate::{
    canonical,
    event::{Event, EventError, Header, UnixMs},
    format, hash,
    limits::{AUTH_EVENTS_MAX, DEPTH_MAX, EVENT_BYTES_MAX, FIELD_BYTES_MAX, PREV_EVENTS_MAX},
    redaction,
    signature::Signer,
    version::Version,
};

/// What somebody wants to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The event's type.
    pub kind: TimelineEventType,
    /// The state key, for state.
    pub state_key: Option<String>,
    /// The content.
    pub content: CanonicalJsonObject,
    /// The event to redact, for a redaction. It is put where the room version has it.
    pub redacts: Option<OwnedEventId>,
}

impl Draft {
    /// An event that is no state.
    pub fn message(kind: impl Into<TimelineEventType>, content: CanonicalJsonObject) -> Self {
        Self { kind: kind.into(), state_key: None, content, redacts: None }
    }

    /// A state event.
    pub fn state(
        kind: impl Into<TimelineEventType>,
        state_key: impl Into<String>,
        content: CanonicalJsonObject,
    ) -> Self {
        Self { kind: kind.into(), state_key: Some(state_key.into()), content, redacts: None }
    }

    /// A change of membership. `content` may hold more, as a display name or a reason.
    #[must_use]
    pub fn member(user: &UserId, membership: &str, mut content: CanonicalJsonObject) -> Self {
        content.insert("membership".to_owned(), CanonicalJsonValue::String(membership.to_owned()));
        Self::state(TimelineEventType::RoomMember, user.as_str(), content)
    }

    /// A redaction.
    #[must_use]
    pub fn redaction(event_id: OwnedEventId, content: CanonicalJsonObject) -> Self {
        Self { kind: TimelineEventType::RoomRedaction, state_key: None, content, redacts: Some(event_id) }
    }
}

/// Where a new event stands.
#[derive(Debug, Clone)]
pub struct Around<'a> {
    /// The room. None: the create event of a room of version 12.
    pub room_id: Option<&'a OwnedRoomId>,
    /// Who sends it.
    pub sender: &'a OwnedUserId,
    /// The room's newest events.
    pub prev_events: Vec<OwnedEventId>,
    /// What [`crate::authorization::select_auth_events`] chose.
    pub auth_events: Vec<OwnedEventId>,
    /// The depth of the new event, see [`depth_after`].
    pub depth: u64,
    /// When it is sent.
    pub now: UnixMs,
}

/// The depth of an event after others: one more than the deepest, at most [`DEPTH_MAX`].
#[must_use]
pub fn depth_after(depths: impl IntoIterator<Item = u64>) -> u64 {
    depths.into_iter().max().unwrap_or(0).saturating_add(1).min(DEPTH_MAX)
}

/// Why a wish cannot become an event.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// The event would be larger than any may be.
    #[error("the event has {bytes} bytes; {EVENT_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its size as canonical JSON.
        bytes: usize,
    },
    /// A field would be longer than any may be.
    #[error("`{field}` has {bytes} bytes; {FIELD_BYTES_MAX} are allowed")]
    FieldTooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// The caller gave more previous or auth events than an event may have.
    #[error("`{field}` has {entries} entries")]
    TooMany {
        /// The list.
        field: &'static str,
        /// Its length.
        entries: usize,
    },
    /// A number is beyond what canonical JSON holds.
    #[error("`{0}` is no number of canonical JSON")]
    NotCanonical(&'static str),
    /// Only the create event of a room of version 12 has no room id.
    #[error("the event needs a room id")]
    NoRoom,
    /// The hash made no id, which cannot be.
    #[error("the event's hash is no id")]
    Id(#[from] IdParseError),
    /// The event cannot be read back, which cannot be.
    #[error(transparent)]
    Event(#[from] EventError),
}

/// Completes a wish: hashes, signs and names the event.
///
/// # Errors
/// The event would break a limit, or lacks a room.
pub fn complete(draft: Draft, around: Around<'_>, version: &Version, signer: &Signer) -> Result<Event, DraftError> {
    let type_name = draft.kind.to_string();
    check_limits(&type_name, &draft, &around)?;
    let is_create = version.room_id_is_create_hash() && draft.kind == TimelineEventType::RoomCreate;
    let mut object = assemble(&type_name, &draft, &around, version)?;
    object.insert("content".to_owned(), content_of(draft.content, draft.redacts.as_ref(), version));

    let content_hash = CanonicalJsonValue::String(hash::content_hash_text(&object));
    let hashes = CanonicalJsonObject::from([("sha256".to_owned(), content_hash)]);
    object.insert("hashes".to_owned(), CanonicalJsonValue::Object(hashes));

    let signed_bytes = redaction::signed_bytes(&object, &version.rules().redaction);
    let event_id = hash::event_id_of(&signed_bytes)?;
    signer.add_signature(&mut object, &signed_bytes);

    let room_id = if is_create { format::room_of_create(&event_id) } else { around.room_id.cloned() };
    let header = Header {
        room_id: room_id.ok_or(DraftError::NoRoom)?,
        sender: around.sender.clone(),
        kind: draft.kind,
        type_name: type_name.into(),
        state_key: draft.state_key.map(Into::into),
        origin_server_ts: around.now,
        prev_events: around.prev_events.into(),
        auth_events: around.auth_events.into(),
        depth: around.depth,
    };
    let event = Event::assemble(event_id, header, &object, version)?;
    let bytes = event.json().len();
    if bytes > EVENT_BYTES_MAX { Err(DraftError::TooLarge { bytes }) } else { Ok(event) }
}

/// Lays out an event without hashes and signatures, as the template of a join that another server will sign.
///
/// # Errors
/// As [`complete`].
pub fn template(draft: Draft, around: &Around<'_>, version: &Version) -> Result<CanonicalJsonObject, DraftError> {
    let type_name = draft.kind.to_string();
    check_limits(&type_name, &draft, around)?;
    let mut object = assemble(&type_name, &draft, around, version)?;
    object.insert("content".to_owned(), content_of(draft.content, draft.redacts.as_ref(), version));
    let bytes = canonical::to_string(&object).len();
    if bytes > EVENT_BYTES_MAX { Err(DraftError::TooLarge { bytes }) } else { Ok(object) }
}

fn check_limits(type_name: &str, draft: &Draft, around: &Around<'_>) -> Result<(), DraftError> {
    let state_key = draft.state_key.as_deref().unwrap_or_default();
    for (field, bytes) in [("type", type_name.len()), ("state_key", state_key.len())] {
        if bytes > FIELD_BYTES_MAX {
            return Err(DraftError::FieldTooLong { field, bytes });
        }
    }
    let lists = [
        ("prev_events", around.prev_events.len(), PREV_EVENTS_MAX),
        ("auth_events", around.auth_events.len(), AUTH_EVENTS_MAX),
    ];
    for (field, entries, entries_max) in lists {
        if entries > entries_max {
            return Err(DraftError::TooMany { field, entries });
        }
    }
    Ok(())
}

/// Everything but content, hashes and signatures.
fn assemble(
    type_name: &str,
    draft: &Draft,
    around: &Around<'_>,
    version: &Version,
) -> Result<CanonicalJsonObject, DraftError> {
    let text = |text: &str| CanonicalJsonValue::String(text.to_owned());
    let ids = |ids: &[OwnedEventId]| CanonicalJsonValue::Array(ids.iter().map(|id| text(id.as_str())).collect());
    let mut object = CanonicalJsonObject::from([
        ("auth_events".to_owned(), ids(&around.auth_events)),
        ("depth".to_owned(), number("depth", around.depth)?),
        ("origin_server_ts".to_owned(), number("origin_server_ts", around.now.0)?),
        ("prev_events".to_owned(), ids(&around.prev_events)),
        ("sender".to_owned(), text(around.sender.as_str())),
        ("type".to_owned(), text(type_name)),
    ]);
    if !(version.room_id_is_create_hash() && draft.kind == TimelineEventType::RoomCreate) {
        let room_id = around.room_id.ok_or(DraftError::NoRoom)?;
        object.insert("room_id".to_owned(), text(room_id.as_str()));
    }
    if let Some(state_key) = &draft.state_key {
        object.insert("state_key".to_owned(), text(state_key));
    }
    match &draft.redacts {
        Some(event_id) if !version.redacts_in_content() => {
            object.insert("redacts".to_owned(), text(event_id.as_str()));
        }
        _ => {}
    }
    Ok(object)
}

fn content_of(
    mut content: CanonicalJsonObject,
    redacts: Option<&OwnedEventId>,
    version: &Version,
) -> CanonicalJsonValue {
    if let Some(event_id) = redacts.filter(|_| version.redacts_in_content()) {
        content.insert("redacts".to_owned(), CanonicalJsonValue::String(event_id.to_string()));
    }
    CanonicalJsonValue::Object(content)
}

fn number(field: &'static str, number: u64) -> Result<CanonicalJsonValue, DraftError> {
    let number = i64::try_from(number).ok().and_then(Int::new).ok_or(DraftError::NotCanonical(field))?;
    Ok(CanonicalJsonValue::Integer(number))
}

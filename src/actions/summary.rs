//! What a room is, read off its state events one by one: the pure step from one [`Summary`] to the next.

use std::sync::Arc;

use rules::{
    UnixMs,
    event::Event,
    kind::{ANNOUNCEMENT, ARCHIVED, CLOSED, CUSTOM, RoomKind, RoomState},
    permission::Membership,
    power::Levels,
    version::Version,
    visibility::HistoryVisibility,
};
use ruma::OwnedRoomId;
use serde_json::Value;

use super::texts::{CUSTOM_BYTES_MAX, TEXT_BYTES_MAX};
use crate::storage::{
    Place,
    history::{RoomListing, Summary},
    members::Silence,
};

/// The events of the current state that nearly every decision looks at, and what they say.
#[derive(Clone, Debug)]
pub struct Basis {
    /// The room's version.
    pub version: Version,
    /// `m.room.create`.
    pub create: Arc<Event>,
    /// `m.room.power_levels`.
    pub power_levels: Option<Arc<Event>>,
    /// `io.yurt.archived`.
    pub archived: Option<Arc<Event>>,
    /// `io.yurt.closed`.
    pub closed: Option<Arc<Event>>,
    /// The levels of the room.
    pub levels: Levels,
}

impl Basis {
    /// The basis of a room that has nothing but its create event.
    pub fn new(version: Version, create: Arc<Event>) -> Self {
        let levels = Levels::read(&version, &create, None);
        Self { version, create, power_levels: None, archived: None, closed: None, levels }
    }

    /// The basis after this entry of the state changed; none: it is no part of the basis.
    pub fn with(&self, event_type: &str, state_key: &str, event: Option<&Arc<Event>>) -> Option<Self> {
        if !state_key.is_empty() {
            return None;
        }
        let mut next = self.clone();
        let event = event.cloned();
        match event_type {
            "m.room.power_levels" => next.power_levels = event,
            "io.yurt.archived" => next.archived = event,
            "io.yurt.closed" => next.closed = event,
            _ => return None,
        }
        next.levels = Levels::read(&next.version, &next.create, next.power_levels.as_deref());
        Some(next)
    }

    /// Open, archived or closed.
    pub fn state(&self) -> RoomState {
        RoomState::of(self.archived.as_deref(), self.closed.as_deref(), &self.levels)
    }
}

/// The summary of a room that has nothing but its create event.
pub fn of_create(version: &Version, create: &Event) -> Summary {
    Summary {
        version: version.id().to_string(),
        create_event_id: create.event_id().clone(),
        creator: create.sender().clone(),
        created_at: create.origin_server_ts(),
        kind: kind_of(create, "invite", false),
        state: RoomState::Open,
        frozen_at: None,
        name: None,
        topic: None,
        alias: None,
        avatar_url: None,
        join_rule: "invite".to_owned(),
        history_visibility: HistoryVisibility::Shared,
        history_was_narrow: false,
        encrypted: false,
        successor_id: None,
        workspace_id: None,
        redactions: 0,
        joined: 0,
        invited: 0,
        foreign: 0,
        custom: None,
        foreign_joined: 0,
        modified_at: create.origin_server_ts(),
    }
}

/// The entries of a state that are the room itself, not who is in it and what they may do.
const OF_THE_ROOM: [&str; 9] = [
    "m.room.name",
    "m.room.topic",
    "m.room.avatar",
    "m.room.canonical_alias",
    "m.room.join_rules",
    ANNOUNCEMENT,
    ARCHIVED,
    CLOSED,
    CUSTOM,
];

/// Brings the summary up to date with an entry of the state (not a membership) that changed at this place; no event: the entry is gone.
pub fn apply(
    summary: &mut Summary,
    basis: &Basis,
    (event_type, state_key): (&str, &str),
    event: Option<&Event>,
    place: Option<Place>,
) {
    if let Some(event) = event.filter(|_| state_key.is_empty() && OF_THE_ROOM.contains(&event_type)) {
        summary.modified_at = summary.modified_at.max(event.origin_server_ts());
    }
    match (event_type, state_key) {
        ("m.room.name", "") => summary.name = text(event, "name"),
        ("m.room.topic", "") => summary.topic = text(event, "topic"),
        ("m.room.canonical_alias", "") => summary.alias = text(event, "alias"),
        ("m.room.avatar", "") => summary.avatar_url = text(event, "url"),
        ("m.room.encryption", "") => summary.encrypted = event.is_some(),
        ("m.room.tombstone", "") => summary.successor_id = id(text(event, "replacement_room")),
        ("m.room.join_rules", "") => {
            summary.join_rule = text(event, "join_rule").unwrap_or_else(|| "invite".to_owned());
            summary.kind = kind_of(&basis.create, &summary.join_rule, summary.kind == RoomKind::Direct);
        }
        ("m.room.history_visibility", "") => {
            summary.history_visibility = HistoryVisibility::of(event);
            summary.history_was_narrow |=
                matches!(summary.history_visibility, HistoryVisibility::Invited | HistoryVisibility::Joined);
        }
        ("m.space.parent", space) => apply_parent(summary, event, space),
        (CUSTOM, "") => summary.custom = custom(event),
        _ => {}
    }
    let state = basis.state();
    if state != summary.state {
        summary.frozen_at = if state == RoomState::Open { None } else { place };
        summary.state = state;
    }
}

/// A room belongs to the workspace that its one canonical parent names.
fn apply_parent(summary: &mut Summary, event: Option<&Event>, space: &str) {
    let content = event.map(content).unwrap_or_default();
    let names_a_server = content.get("via").and_then(Value::as_array).is_some_and(|via| !via.is_empty());
    let is_canonical = content.get("canonical").and_then(Value::as_bool).unwrap_or(false);
    let space = OwnedRoomId::try_from(space).ok();
    if names_a_server && is_canonical {
        summary.workspace_id = space;
    } else if summary.workspace_id == space {
        summary.workspace_id = None;
    }
}

/// How the counters change when somebody's membership does.
pub fn count_members(summary: &mut Summary, before: Membership, after: Membership, is_foreign: bool) {
    let counts = |membership| (u64::from(membership == Membership::Join), u64::from(membership == Membership::Invite));
    let ((joined_before, invited_before), (joined, invited)) = (counts(before), counts(after));
    summary.joined = (summary.joined + joined).saturating_sub(joined_before);
    summary.invited = (summary.invited + invited).saturating_sub(invited_before);
    if is_foreign {
        summary.foreign = (summary.foreign + joined + invited).saturating_sub(joined_before + invited_before);
        summary.foreign_joined = (summary.foreign_joined + joined).saturating_sub(joined_before);
    }
}

/// Everybody of this tenant may find the room and enter it. A room that only others are in is not known well enough.
pub fn is_listed(summary: &Summary) -> bool {
    summary.join_rule == "public"
        && !summary.is_elsewhere()
        && !matches!(summary.kind, RoomKind::Workspace | RoomKind::Incognito | RoomKind::Direct)
}

/// The row of the room in the server's list.
pub fn listing(summary: &Summary) -> RoomListing {
    RoomListing { kind: summary.kind, is_listed: is_listed(summary) }
}

fn kind_of(create: &Event, join_rule: &str, is_direct: bool) -> RoomKind {
    let content = content(create);
    let text = |field: &str| content.get(field).and_then(Value::as_str).map(str::to_owned);
    RoomKind::of(text("io.yurt.type").as_deref(), text("type").as_deref(), is_direct, Some(join_rule))
}

/// The content as a JSON value; of hostile content that is none, nothing.
pub fn content(event: &Event) -> Value {
    event.content_as().unwrap_or(Value::Null)
}

/// A field of the content that is a string and not blank. Longer ones than this server lets anybody write count as none.
fn text(event: Option<&Event>, field: &str) -> Option<String> {
    let is_text = |text: &&str| !text.trim().is_empty() && text.len() <= TEXT_BYTES_MAX;
    content(event?).get(field).and_then(Value::as_str).filter(is_text).map(str::to_owned)
}

/// The text that clients keep with a room: any that is not empty and fits.
fn custom(event: Option<&Event>) -> Option<String> {
    let is_text = |text: &&str| (1..=CUSTOM_BYTES_MAX).contains(&text.len());
    content(event?).get("custom").and_then(Value::as_str).filter(is_text).map(str::to_owned)
}

/// How long a silence event keeps the person of its state key from speaking. A null `until` has no end; without the field, as after a redaction, it keeps
/// nobody from it.
pub fn silence(event: Option<&Event>) -> Option<Silence> {
    match content(event?).get("until")? {
        Value::Null => Some(Silence::Forever),
        until => until.as_u64().map(|until| Silence::Until(UnixMs(until))),
    }
}

fn id(text: Option<String>) -> Option<OwnedRoomId> {
    text.and_then(|text| OwnedRoomId::try_from(text).ok())
}

/// The name that a member event gives.
pub fn display_name(event: &Event) -> Option<String> {
    content(event).get("displayname").and_then(Value::as_str).map(str::to_owned)
}

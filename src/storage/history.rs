//! What is kept of a room: its events, their order, its heads and counters, and the summary of its present state.
//!
//! Only `actions/append.rs` writes these rows; everybody may read them through the functions here.

use rules::{
    UnixMs,
    kind::{RoomKind, RoomState},
    visibility::HistoryVisibility,
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

use super::{Arrival, Place, StateRoot};

/// One event as it is stored: never changed, only marked by other rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Its id.
    pub event_id: OwnedEventId,
    /// Its place in the timeline; none for events that are held but not shown (outliers, soft-failed and rejected ones).
    pub place: Option<Place>,
    /// What intake said of it.
    pub standing: EventStanding,
    /// The room's state before it.
    pub state_before: StateRoot,
    /// The room's state after it.
    pub state_after: StateRoot,
    /// Messages of the room up to and including this one; history that came later does not count.
    pub messages: u64,
    /// The sender's own name for the request, told to nobody else.
    pub transaction_id: Option<String>,
    /// Canonical JSON of the whole signed event, as it goes over federation.
    pub json: String,
}

/// What intake said of a stored event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventStanding {
    /// Part of the room.
    Accepted,
    /// Allowed where it stands, but not by the present state; not shown.
    SoftFailed {
        /// Which rule.
        reason: String,
    },
    /// Against the rules; kept so that it is not judged again.
    Rejected {
        /// Which rule.
        reason: String,
    },
}

/// Where an event is found, by its id alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventAt {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its number there.
    pub arrival: Arrival,
}

/// That an event was redacted. The event itself stays as it is; what is shown of it is computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redaction {
    /// The redaction.
    pub event_id: OwnedEventId,
    /// Who redacted.
    pub sender: OwnedUserId,
}

/// The moving end of a room: rewritten with every event, and the row on which every commit to the room insists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// The forward extremities.
    pub heads: Vec<Head>,
    /// The present state.
    pub state: StateRoot,
    /// The number the next stored event gets.
    pub next_arrival: Arrival,
    /// The place the next live event gets.
    pub next_place: Place,
    /// Messages so far (`m.room.message`, `m.room.encrypted`).
    pub messages: u64,
    /// State keys numbered so far.
    pub state_keys: u32,
    /// Rows of state nodes written so far.
    pub state_rows: u64,
    /// When the last live event arrived.
    pub last_activity: UnixMs,
}

/// One forward extremity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The event.
    pub event_id: OwnedEventId,
    /// Its depth.
    pub depth: u64,
    /// The state after it.
    pub state: StateRoot,
}

/// What a room is, read from its state and kept beside it, so that lists need not walk the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The room version's identifier.
    pub version: String,
    /// The create event.
    pub create_event_id: OwnedEventId,
    /// Who created it.
    pub creator: OwnedUserId,
    /// When, by the creator's server.
    pub created_at: UnixMs,
    /// The room's type.
    pub kind: RoomKind,
    /// Open, archived or closed.
    pub state: RoomState,
    /// Where it was archived or closed; who left later was a member then.
    pub frozen_at: Option<Place>,
    /// `m.room.name`.
    pub name: Option<String>,
    /// `m.room.topic`.
    pub topic: Option<String>,
    /// `m.room.canonical_alias`.
    pub alias: Option<String>,
    /// `m.room.avatar`.
    pub avatar_url: Option<String>,
    /// `m.room.join_rules`.
    pub join_rule: String,
    /// `m.room.history_visibility`.
    pub history_visibility: HistoryVisibility,
    /// The visibility is or once was narrower than `shared`, so that every event is looked at by itself.
    pub history_was_narrow: bool,
    /// `m.room.encryption` stands.
    pub encrypted: bool,
    /// The room of `m.room.tombstone`.
    pub successor_id: Option<OwnedRoomId>,
    /// The space of the canonical `m.space.parent`.
    pub workspace_id: Option<OwnedRoomId>,
    /// Events of the room that were redacted, so that reading need not look where there are none.
    pub redactions: u64,
    /// Joined members.
    pub joined: u64,
    /// Invited people.
    pub invited: u64,
    /// Joined or invited people of other servers.
    pub foreign: u64,
}

/// Settings of this server for a room; they are not part of the room and do not travel with its events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomSettings {
    /// Joined members at most; none: only the tenant's limit.
    pub max_members: Option<u64>,
    /// Other servers may not take part.
    pub federation_off: bool,
}

/// A room's row in the server's list of rooms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomListing {
    /// The room's type.
    pub kind: RoomKind,
    /// Everybody of this tenant sees it.
    pub is_listed: bool,
}

/// The answer to a message sent under a transaction id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentUnder {
    /// The event it became.
    pub event_id: OwnedEventId,
    /// Its place.
    pub place: Place,
    /// SHA-256 of what was asked, so that another message under the same id is noticed.
    pub fingerprint: [u8; 32],
    /// When.
    pub at: UnixMs,
}

//! What is kept of a room: its events, their order, its heads and counters, and the summary of its present state.
//!
//! Only `actions/append.rs` writes these rows; everybody may read them through the functions here.

use rules::{
    UnixMs,
    kind::{RoomKind, RoomState},
    visibility::HistoryVisibility,
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId};
use serde::{Deserialize, Serialize};

use super::{
    Arrival, Place, StateRoot,
    value::{BadValue, Value, fields},
};

/// One event as it is stored: never changed, only marked by other rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Its id.
    pub event_id: OwnedEventId,
    /// Its place in the timeline; none for events that are held but not shown (outliers, soft-failed and rejected ones).
    pub place: Option<Place>,
    /// What intake said of it.
    pub standing: EventStanding,
    /// The room's state before it; of an outlier it is not known.
    pub state_before: StateRoot,
    /// The room's state after it; of an outlier it is not known.
    pub state_after: StateRoot,
    /// Messages of the room up to and including this one; history that came later does not count.
    pub messages: u64,
    /// The sender's own name for the request, told to nobody else.
    pub transaction_id: Option<String>,
    /// Canonical JSON of the whole signed event, as it goes over federation.
    pub json: String,
    /// It was an outlier first: the number under which the feed shows it instead of its arrival.
    pub came_again: Option<Arrival>,
}

/// Events of a room that wait for another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrivals(pub Vec<Arrival>);

impl Value for StoredEvent {
    const VERSION: u8 = 2;

    fn upgrade(version: u8, bytes: &[u8]) -> Result<Self, BadValue> {
        match version {
            1 => fields::<StoredEventV1>(bytes).map(Self::from),
            other => Err(BadValue::Version(other)),
        }
    }
}

/// An event before other servers took part: nobody had brought it.
#[derive(Serialize, Deserialize)]
struct StoredEventV1 {
    event_id: OwnedEventId,
    place: Option<Place>,
    standing: EventStandingV1,
    state_before: StateRoot,
    state_after: StateRoot,
    messages: u64,
    transaction_id: Option<String>,
    json: String,
}

#[derive(Serialize, Deserialize)]
enum EventStandingV1 {
    Accepted,
    SoftFailed { reason: String },
    Rejected { reason: String },
}

impl From<StoredEventV1> for StoredEvent {
    fn from(old: StoredEventV1) -> Self {
        let standing = match old.standing {
            EventStandingV1::Accepted => EventStanding::Accepted,
            EventStandingV1::SoftFailed { reason } => EventStanding::SoftFailed { reason, peer: None },
            EventStandingV1::Rejected { reason } => EventStanding::Rejected { reason, peer: None },
        };
        Self {
            event_id: old.event_id,
            place: old.place,
            standing,
            state_before: old.state_before,
            state_after: old.state_after,
            messages: old.messages,
            transaction_id: old.transaction_id,
            json: old.json,
            came_again: None,
        }
    }
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
        /// Who brought it.
        peer: Option<OwnedServerName>,
    },
    /// Against the rules; kept so that it is not judged again.
    Rejected {
        /// Which rule.
        reason: String,
        /// Who brought it.
        peer: Option<OwnedServerName>,
    },
    /// Held to judge others by, as part of a state or an auth chain. Where it stands in the room is not known, so it counts for no event that names it as a
    /// previous one, and is taken in anew when it comes as an event of the timeline.
    Outlier {
        /// Which rule refused it already: its own auth events do not allow it.
        refused: Option<String>,
        /// Who brought it.
        peer: Option<OwnedServerName>,
    },
}

impl EventStanding {
    /// The rules refused it: nothing may lean on it.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected { .. } | Self::Outlier { refused: Some(_), .. })
    }

    /// It stands somewhere in the room, and the state around it is known.
    #[must_use]
    pub fn is_in_room(&self) -> bool {
        !matches!(self, Self::Outlier { .. })
    }
}

/// An event of a peer that cannot be judged yet: what stands before it is not held. It survives a restart, so that the peer can be told that it arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// The event's id.
    pub event_id: OwnedEventId,
    /// Who brought it.
    pub origin: OwnedServerName,
    /// As it came.
    pub pdu: String,
    /// When.
    pub received_at: UnixMs,
    /// What it waits for, as far as that is known.
    pub missing: Vec<OwnedEventId>,
    /// How often that was asked for.
    pub tries: u32,
    /// When it is asked for again.
    pub next_try: UnixMs,
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
    /// `io.yurt.custom`.
    pub custom: Option<String>,
    /// Joined people of other servers.
    pub foreign_joined: u64,
    /// When the room itself was changed last: its name, topic, picture, announcement, door or state. By the clock of whoever did it.
    pub modified_at: UnixMs,
}

impl Summary {
    /// Joined people of this server: without them it takes no part in the room.
    #[must_use]
    pub fn local_joined(&self) -> u64 {
        self.joined.saturating_sub(self.foreign_joined)
    }

    /// Others are in the room, and nobody of this server: what it is now, only they know.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        self.foreign_joined > 0 && self.local_joined() == 0
    }
}

impl Value for Summary {
    const VERSION: u8 = 4;

    fn upgrade(version: u8, bytes: &[u8]) -> Result<Self, BadValue> {
        match version {
            1 => fields::<SummaryV1>(bytes).map(|old| SummaryV2 { first: old, custom: None }.into()),
            2 => fields::<SummaryV2>(bytes).map(Self::from),
            3 => fields::<SummaryV3>(bytes).map(Self::from),
            other => Err(BadValue::Version(other)),
        }
    }
}

/// A room before it could keep a text of its clients' own.
#[derive(Serialize, Deserialize)]
struct SummaryV1 {
    version: String,
    create_event_id: OwnedEventId,
    creator: OwnedUserId,
    created_at: UnixMs,
    kind: RoomKind,
    state: RoomState,
    frozen_at: Option<Place>,
    name: Option<String>,
    topic: Option<String>,
    alias: Option<String>,
    avatar_url: Option<String>,
    join_rule: String,
    history_visibility: HistoryVisibility,
    history_was_narrow: bool,
    encrypted: bool,
    successor_id: Option<OwnedRoomId>,
    workspace_id: Option<OwnedRoomId>,
    redactions: u64,
    joined: u64,
    invited: u64,
    foreign: u64,
}

/// A room before other servers took part. Fields of a form inside another one are written as if they stood there.
#[derive(Serialize, Deserialize)]
struct SummaryV2 {
    first: SummaryV1,
    custom: Option<String>,
}

/// A room before it was known when it was changed last.
#[derive(Serialize, Deserialize)]
struct SummaryV3 {
    second: SummaryV2,
    foreign_joined: u64,
}

impl From<SummaryV3> for Summary {
    fn from(SummaryV3 { second, foreign_joined }: SummaryV3) -> Self {
        Self { foreign_joined, ..second.into() }
    }
}

impl From<SummaryV2> for Summary {
    fn from(SummaryV2 { first: old, custom }: SummaryV2) -> Self {
        Self {
            version: old.version,
            create_event_id: old.create_event_id,
            creator: old.creator,
            created_at: old.created_at,
            kind: old.kind,
            state: old.state,
            frozen_at: old.frozen_at,
            name: old.name,
            topic: old.topic,
            alias: old.alias,
            avatar_url: old.avatar_url,
            join_rule: old.join_rule,
            history_visibility: old.history_visibility,
            history_was_narrow: old.history_was_narrow,
            encrypted: old.encrypted,
            successor_id: old.successor_id,
            workspace_id: old.workspace_id,
            redactions: old.redactions,
            joined: old.joined,
            invited: old.invited,
            foreign: old.foreign,
            custom,
            foreign_joined: 0,
            modified_at: old.created_at,
        }
    }
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

#[cfg(test)]
mod tests {
    use ruma::{owned_event_id, owned_user_id};

    use super::*;
    use crate::storage::value::{from_bytes, to_bytes};

    impl Value for SummaryV1 {}
    impl Value for StoredEventV1 {}

    impl Value for SummaryV3 {
        const VERSION: u8 = 3;
    }

    fn first() -> SummaryV1 {
        SummaryV1 {
            version: "12".to_owned(),
            create_event_id: owned_event_id!("$one"),
            creator: owned_user_id!("@alice:yurt.test"),
            created_at: UnixMs(5),
            kind: RoomKind::Group,
            state: RoomState::Open,
            frozen_at: None,
            name: Some("Tents".to_owned()),
            topic: None,
            alias: None,
            avatar_url: None,
            join_rule: "invite".to_owned(),
            history_visibility: HistoryVisibility::Shared,
            history_was_narrow: false,
            encrypted: false,
            successor_id: None,
            workspace_id: None,
            redactions: 1,
            joined: 2,
            invited: 3,
            foreign: 4,
        }
    }

    #[test]
    fn a_summary_of_the_first_version_has_no_custom_text() {
        let read: Summary = from_bytes(&to_bytes(&first()).unwrap()).unwrap();
        assert_eq!((read.name.as_deref(), read.foreign, &read.custom), (Some("Tents"), 4, &None));
        assert_eq!(read, Summary::from(SummaryV2 { first: first(), custom: None }));
    }

    #[test]
    fn a_summary_of_the_third_version_was_changed_last_when_its_room_was_made() {
        let second = SummaryV2 { first: first(), custom: Some("felt".to_owned()) };
        let read: Summary = from_bytes(&to_bytes(&SummaryV3 { second, foreign_joined: 2 }).unwrap()).unwrap();
        assert_eq!((read.custom.as_deref(), read.foreign_joined, read.modified_at), (Some("felt"), 2, UnixMs(5)));
    }

    #[test]
    fn an_event_of_the_first_version_was_brought_by_nobody() {
        for (standing, expected) in [
            (EventStandingV1::Accepted, EventStanding::Accepted),
            (
                EventStandingV1::SoftFailed { reason: "late".to_owned() },
                EventStanding::SoftFailed { reason: "late".to_owned(), peer: None },
            ),
            (
                EventStandingV1::Rejected { reason: "no".to_owned() },
                EventStanding::Rejected { reason: "no".to_owned(), peer: None },
            ),
        ] {
            let old = StoredEventV1 {
                event_id: owned_event_id!("$one"),
                place: Some(Place(3, 0)),
                standing,
                state_before: StateRoot::EMPTY,
                state_after: StateRoot::EMPTY,
                messages: 7,
                transaction_id: Some("t".to_owned()),
                json: "{}".to_owned(),
            };
            let read: StoredEvent = from_bytes(&to_bytes(&old).unwrap()).unwrap();
            assert_eq!((read.standing, read.place, read.messages), (expected, Some(Place(3, 0)), 7));
        }
    }
}

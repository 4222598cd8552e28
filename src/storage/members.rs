//! Who is in which room: a row in the room for each member, and a row with each local person for each of their rooms.

use rules::{UnixMs, permission::Membership};
use ruma::OwnedEventId;
use serde::{Deserialize, Serialize};

use super::{Arrival, Place};

/// A person in a room's list of members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// As the current state has it.
    pub membership: Membership,
    /// The member event.
    pub event_id: OwnedEventId,
    /// Its number in the room.
    pub arrival: Arrival,
    /// The name the person has in this room.
    pub display_name: Option<String>,
    /// When the person joined; the last time, if more than once.
    pub joined_at: Option<UnixMs>,
    /// The place up to which the person was in the room; none: never was, or still is.
    pub left_at: Option<Place>,
    /// The person has been a joined member once.
    pub was_joined: bool,
    /// Messages of the room when the person joined last: they are not unread.
    pub messages_at_join: u64,
    /// The person's own messages then.
    pub own_at_join: u64,
}

/// A room in the list of a local person: what `members` says, where the person is looked up first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InRoom {
    /// As the current state has it.
    pub membership: Membership,
    /// The room's number for the event that says so.
    pub arrival: Arrival,
    /// The room is a workspace.
    pub is_workspace: bool,
    /// The person has been a joined member once.
    pub was_joined: bool,
}

/// What a person has set for themselves in a room. Nobody else sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Personal {
    /// What reaches the person; none: never chosen, so the default of the room's type.
    pub notification_mode: Option<NotificationMode>,
    /// Silent until then.
    pub mute: Option<Mute>,
    /// How far the person has read.
    pub read: Option<ReadMarker>,
}

/// What of a room counts as worth a notification.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotificationMode {
    /// Every message.
    All,
    /// Messages that name the person.
    Mentions,
    /// Nothing.
    None,
    /// What the room's type has as its default.
    Inherit,
}

/// How long a person wants to hear nothing of a room.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mute {
    /// Until it is taken back.
    Forever,
    /// Until that time.
    Until(UnixMs),
}

/// How far a person has read in a room, with the counters at that point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadMarker {
    /// The last event read.
    pub event_id: OwnedEventId,
    /// Its place.
    pub place: Place,
    /// Messages of the room up to it.
    pub messages: u64,
    /// The person's own among them.
    pub own: u64,
}

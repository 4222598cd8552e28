//! Who is in which room: a row in the room for each member, and a row with each local person for each of their rooms.

use rules::{UnixMs, permission::Membership};
use ruma::{OwnedEventId, OwnedServerName, OwnedUserId};
use serde::{Deserialize, Serialize};

use super::{
    Arrival, Place,
    value::{BadValue, Value, fields},
};

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
    /// A moderator keeps the person from speaking.
    pub silence: Option<Silence>,
}

impl Value for Member {
    const VERSION: u8 = 2;

    fn upgrade(version: u8, bytes: &[u8]) -> Result<Self, BadValue> {
        match version {
            1 => fields::<MemberV1>(bytes).map(Self::from),
            other => Err(BadValue::Version(other)),
        }
    }
}

/// A member before anybody could be silenced.
#[derive(Serialize, Deserialize)]
struct MemberV1 {
    membership: Membership,
    event_id: OwnedEventId,
    arrival: Arrival,
    display_name: Option<String>,
    joined_at: Option<UnixMs>,
    left_at: Option<Place>,
    was_joined: bool,
    messages_at_join: u64,
    own_at_join: u64,
}

impl From<MemberV1> for Member {
    fn from(old: MemberV1) -> Self {
        Self {
            membership: old.membership,
            event_id: old.event_id,
            arrival: old.arrival,
            display_name: old.display_name,
            joined_at: old.joined_at,
            left_at: old.left_at,
            was_joined: old.was_joined,
            messages_at_join: old.messages_at_join,
            own_at_join: old.own_at_join,
            silence: None,
        }
    }
}

/// How long a moderator keeps somebody from speaking.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Silence {
    /// Until it is lifted.
    Forever,
    /// Until that time.
    Until(UnixMs),
}

impl Silence {
    /// It is not over yet.
    #[must_use]
    pub fn holds(self, now: UnixMs) -> bool {
        match self {
            Self::Forever => true,
            Self::Until(until) => until > now,
        }
    }
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

/// What a person is to a room that nobody of this server is in: invited, or knocking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invited {
    /// Invited or knocking.
    pub membership: Membership,
    /// The room's version, as the other server says.
    pub version: String,
    /// The event that says so.
    pub event_id: OwnedEventId,
    /// Canonical JSON of it, with the signatures of both servers.
    pub event: String,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// The server that brought it.
    pub origin: OwnedServerName,
    /// The room is to be a direct message.
    pub is_direct: bool,
    /// What the other server shows of the room.
    pub room_state: Vec<Shown>,
    /// When it came.
    pub received_at: UnixMs,
}

/// A piece of the state of a room, as another server shows it to who is invited. Nobody has checked it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its type.
    pub event_type: String,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// Its content, as JSON.
    pub content: String,
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
    /// The person wants the room at hand.
    pub pinned: bool,
}

impl Value for Personal {
    const VERSION: u8 = 2;

    fn upgrade(version: u8, bytes: &[u8]) -> Result<Self, BadValue> {
        match version {
            1 => fields::<PersonalV1>(bytes).map(|PersonalV1 { notification_mode, mute, read }| Self {
                notification_mode,
                mute,
                read,
                pinned: false,
            }),
            other => Err(BadValue::Version(other)),
        }
    }
}

/// Before there were pins.
#[derive(Serialize, Deserialize)]
struct PersonalV1 {
    notification_mode: Option<NotificationMode>,
    mute: Option<Mute>,
    read: Option<ReadMarker>,
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

#[cfg(test)]
mod tests {
    use ruma::owned_event_id;

    use super::*;
    use crate::storage::value::{from_bytes, to_bytes};

    impl Value for MemberV1 {}
    impl Value for PersonalV1 {}

    #[test]
    fn a_member_of_the_first_version_is_not_silenced() {
        let old = MemberV1 {
            membership: Membership::Join,
            event_id: owned_event_id!("$one"),
            arrival: Arrival::FIRST,
            display_name: Some("Bob".to_owned()),
            joined_at: Some(UnixMs(5)),
            left_at: None,
            was_joined: true,
            messages_at_join: 7,
            own_at_join: 3,
        };
        let read: Member = from_bytes(&to_bytes(&old).unwrap()).unwrap();
        assert_eq!(read, Member::from(old));
        assert_eq!((read.membership, read.own_at_join, read.silence), (Membership::Join, 3, None));
    }

    #[test]
    fn settings_of_the_first_version_have_no_pin() {
        let old = PersonalV1 { notification_mode: Some(NotificationMode::All), mute: Some(Mute::Forever), read: None };
        let read: Personal = from_bytes(&to_bytes(&old).unwrap()).unwrap();
        let expected = Personal {
            notification_mode: Some(NotificationMode::All),
            mute: Some(Mute::Forever),
            read: None,
            pinned: false,
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn a_silence_is_over_at_its_time() {
        assert!(Silence::Until(UnixMs(5)).holds(UnixMs(4)));
        assert!(!Silence::Until(UnixMs(5)).holds(UnixMs(5)));
        assert!(Silence::Forever.holds(UnixMs(u64::MAX)));
    }
}

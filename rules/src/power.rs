//! Power levels: read once per power levels event, then asked cheaply. May import `canonical`, `event`, `version`, ruma.
//!
//! Values are read by the same functions that authorize events, so that a level shown is the level that counts.
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#mroompower_levels>

use std::collections::{BTreeMap, HashSet};

use ruma::{
    CanonicalJsonObject, Int, OwnedUserId, UserId,
    events::TimelineEventType,
    state_res::events::{RoomCreateEvent, RoomPowerLevelsEvent, RoomPowerLevelsIntField},
};

use crate::{canonical, event::Event, version::Version};

/// What the creator of a room has while no event says otherwise, in versions whose creators have a level.
const CREATOR_LEVEL: i64 = 100;

/// What a user may do in a room.
#[derive(PartialEq, Eq, PartialOrd, Ord, Copy, Clone, Debug)]
pub enum Level {
    /// A power level.
    Number(i64),
    /// Above every number: a creator, in version 12.
    Creator,
}

impl Level {
    /// The number that clients are told: 100 for a creator.
    #[must_use]
    pub fn reported(self) -> i64 {
        match self {
            Self::Number(number) => number,
            Self::Creator => CREATOR_LEVEL,
        }
    }

    /// Whether it suffices where `needed` is asked for.
    #[must_use]
    pub fn reaches(self, needed: i64) -> bool {
        self >= Self::Number(needed)
    }
}

/// The levels of a room.
#[derive(Debug, Clone)]
pub struct Levels {
    /// Those above every number.
    creators: HashSet<OwnedUserId>,
    users: BTreeMap<OwnedUserId, i64>,
    events: BTreeMap<String, i64>,
    users_default: i64,
    events_default: i64,
    state_default: i64,
    invite: i64,
    kick: i64,
    ban: i64,
    redact: i64,
    content: CanonicalJsonObject,
}

impl Levels {
    /// The levels that a room's create event and its power levels event give, the latter with the specification's
    /// defaults for what it leaves out, or for all of it.
    #[must_use]
    pub fn read(version: &Version, create: &Event, power_levels: Option<&Event>) -> Self {
        let rules = &version.rules().authorization;
        let creators = RoomCreateEvent::new(create).creators(rules).unwrap_or_default();
        let event = power_levels.map(RoomPowerLevelsEvent::new);
        let number = |field: RoomPowerLevelsIntField| {
            let stated = event.as_ref().and_then(|event| event.get_as_int(field, rules).ok().flatten());
            i64::from(stated.unwrap_or_else(|| field.default_value()))
        };
        let users = match &event {
            Some(event) => event.users(rules).ok().flatten().map(numbers).unwrap_or_default(),
            None => creators.iter().map(|creator| (creator.clone(), CREATOR_LEVEL)).collect(),
        };
        let events = event.as_ref().and_then(|event| event.events(rules).ok().flatten());
        let above_levels = version.creators_are_above_levels();
        Self {
            users: if above_levels && power_levels.is_none() { BTreeMap::new() } else { users },
            creators: if above_levels { creators } else { HashSet::new() },
            events: events.into_iter().flatten().map(|(kind, level)| (kind.to_string(), i64::from(level))).collect(),
            users_default: number(RoomPowerLevelsIntField::UsersDefault),
            events_default: number(RoomPowerLevelsIntField::EventsDefault),
            state_default: number(RoomPowerLevelsIntField::StateDefault),
            invite: number(RoomPowerLevelsIntField::Invite),
            kick: number(RoomPowerLevelsIntField::Kick),
            ban: number(RoomPowerLevelsIntField::Ban),
            redact: number(RoomPowerLevelsIntField::Redact),
            content: power_levels
                .and_then(|event| canonical::read_object(event.content().get()).ok())
                .unwrap_or_default(),
        }
    }

    /// The level of a user.
    #[must_use]
    pub fn of(&self, user: &UserId) -> Level {
        if self.is_creator(user) {
            return Level::Creator;
        }
        Level::Number(self.users.get(user).copied().unwrap_or(self.users_default))
    }

    /// Whether the user is a creator by the room version. Versions before 12 know none: there the level decides.
    #[must_use]
    pub fn is_creator(&self, user: &UserId) -> bool {
        self.creators.contains(user)
    }

    /// The creators by the room version.
    pub fn creators(&self) -> impl Iterator<Item = &OwnedUserId> {
        self.creators.iter()
    }

    /// The level for sending an event of the type.
    #[must_use]
    pub fn to_send(&self, event_type: &str, is_state: bool) -> i64 {
        let default = if is_state { self.state_default } else { self.events_default };
        self.events.get(event_type).copied().unwrap_or(default)
    }

    /// The level for inviting.
    #[must_use]
    pub fn invite(&self) -> i64 {
        self.invite
    }

    /// The level for kicking.
    #[must_use]
    pub fn kick(&self) -> i64 {
        self.kick
    }

    /// The level for banning and for lifting a ban.
    #[must_use]
    pub fn ban(&self) -> i64 {
        self.ban
    }

    /// The level for redacting what others wrote.
    #[must_use]
    pub fn redact(&self) -> i64 {
        self.redact
    }

    /// Whether a redaction takes effect: both in one room, and its sender on the server of the target's sender or with
    /// the level for redacting. The levels are those at the redaction. A create event is never redacted.
    /// Source: <https://spec.matrix.org/v1.19/rooms/v3/#handling-redactions>
    #[must_use]
    pub fn lets_redact(&self, redaction: &Event, target: &Event) -> bool {
        let is_aimed = redaction.redacts() == Some(target.event_id()) && redaction.room_id() == target.room_id();
        let is_own = redaction.sender().server_name() == target.sender().server_name();
        is_aimed
            && *target.kind() != TimelineEventType::RoomCreate
            && (is_own || self.of(redaction.sender()).reaches(self.redact))
    }

    /// The users who have a level of their own, by id.
    pub fn users(&self) -> impl Iterator<Item = (&OwnedUserId, i64)> {
        self.users.iter().map(|(user, level)| (user, *level))
    }

    /// The level of everybody else.
    #[must_use]
    pub fn users_default(&self) -> i64 {
        self.users_default
    }

    /// The level for messages without a level of their own.
    #[must_use]
    pub fn events_default(&self) -> i64 {
        self.events_default
    }

    /// The level for state without a level of its own.
    #[must_use]
    pub fn state_default(&self) -> i64 {
        self.state_default
    }

    /// The content of the power levels event, `{}` if there is none.
    #[must_use]
    pub fn content(&self) -> &CanonicalJsonObject {
        &self.content
    }
}

fn numbers(levels: &BTreeMap<OwnedUserId, Int>) -> BTreeMap<OwnedUserId, i64> {
    levels.iter().map(|(user, level)| (user.clone(), i64::from(*level))).collect()
}

//! What differs between room versions, as a table. May import ruma's rules.
//!
//! Versions 6 to 12 are spoken. Older ones allow JSON that is not canonical, and their state resolution is another one.
//! Source: <https://spec.matrix.org/v1.19/rooms/>

use std::fmt;

use ruma::{
    RoomVersionId,
    room_version_rules::{RoomVersionRules, StateResolutionV2Rules},
};

/// A room version that this server speaks. A pointer into a static table: copying costs nothing.
#[derive(Copy, Clone)]
pub struct Version(&'static Row);

struct Row {
    id: RoomVersionId,
    rules: RoomVersionRules,
    state_resolution: StateResolutionV2Rules,
    may_create: bool,
    tombstone_level: i64,
}

const fn row(
    id: RoomVersionId,
    rules: RoomVersionRules,
    state_resolution: StateResolutionV2Rules,
    may_create: bool,
    tombstone_level: i64,
) -> Row {
    Row { id, rules, state_resolution, may_create, tombstone_level }
}

static TABLE: [Row; 7] = [
    //  version             its rules              state resolution              created  tombstone
    row(RoomVersionId::V6, RoomVersionRules::V6, StateResolutionV2Rules::V2_0, false, 100),
    row(RoomVersionId::V7, RoomVersionRules::V7, StateResolutionV2Rules::V2_0, false, 100),
    row(RoomVersionId::V8, RoomVersionRules::V8, StateResolutionV2Rules::V2_0, false, 100),
    row(RoomVersionId::V9, RoomVersionRules::V9, StateResolutionV2Rules::V2_0, false, 100),
    row(RoomVersionId::V10, RoomVersionRules::V10, StateResolutionV2Rules::V2_0, true, 100),
    row(RoomVersionId::V11, RoomVersionRules::V11, StateResolutionV2Rules::V2_0, true, 100),
    row(RoomVersionId::V12, RoomVersionRules::V12, StateResolutionV2Rules::V2_1, true, 150),
];

impl Version {
    /// The version of rooms that are created without asking for one.
    pub const DEFAULT: &'static str = "12";

    /// The version with this id, if it is spoken.
    #[must_use]
    pub fn of(id: &RoomVersionId) -> Option<Self> {
        TABLE.iter().find(|row| row.id == *id).map(Self)
    }

    /// The version with this name, if it is spoken.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.id.as_str() == name).map(Self)
    }

    /// All versions that are spoken, oldest first.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(Self)
    }

    /// The version's id.
    #[must_use]
    pub fn id(&self) -> &'static RoomVersionId {
        &self.0.id
    }

    /// The version's name, as it stands in `room_version`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        self.0.id.as_str()
    }

    /// Whether this server creates rooms of the version. Others are only joined.
    #[must_use]
    pub fn may_create(&self) -> bool {
        self.0.may_create
    }

    /// ruma's table of the version.
    #[must_use]
    pub fn rules(&self) -> &'static RoomVersionRules {
        &self.0.rules
    }

    /// How forked states are merged.
    #[must_use]
    pub fn state_resolution(&self) -> &'static StateResolutionV2Rules {
        &self.0.state_resolution
    }

    /// Whether the room's creators outrank every level and may not be listed in `users`.
    /// Source: <https://spec.matrix.org/v1.19/rooms/v12/#room-version-12>
    #[must_use]
    pub fn creators_are_above_levels(&self) -> bool {
        self.0.rules.authorization.explicitly_privilege_room_creators
    }

    /// Whether the room id is the create event's hash, and the create event is left out of `auth_events`.
    /// Source: <https://spec.matrix.org/v1.19/rooms/v12/#room-ids>
    #[must_use]
    pub fn room_id_is_create_hash(&self) -> bool {
        self.0.rules.authorization.room_create_event_id_as_room_id
    }

    /// Whether `redacts` stands in the content of a redaction and not beside it.
    /// Source: <https://spec.matrix.org/v1.19/rooms/v11/#moving-the-redacts-property-of-mroomredaction-events-to-a-content-property>
    #[must_use]
    pub fn redacts_in_content(&self) -> bool {
        self.0.rules.redaction.content_field_redacts
    }

    /// Whether the create event names its creator in `content.creator`.
    /// Source: <https://spec.matrix.org/v1.19/rooms/v11/#remove-the-creator-property-of-mroomcreate-events>
    #[must_use]
    pub fn creator_in_content(&self) -> bool {
        !self.0.rules.authorization.use_room_create_sender
    }

    /// Whether a `type` or `state_key` of at most 255 characters but more bytes is refused outright. Before version 11
    /// the most deployed server kept such events as rejected, so others may build on them.
    #[must_use]
    pub fn counts_field_bytes(&self) -> bool {
        self.0.rules.authorization.use_room_create_sender
    }

    /// The level for `m.room.tombstone` in rooms made here: where creators stand above all levels, higher than any
    /// other; elsewhere 150 would bar everybody.
    #[must_use]
    pub fn tombstone_level(&self) -> i64 {
        self.0.tombstone_level
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Version {}

impl fmt::Debug for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Version({})", self.as_str())
    }
}

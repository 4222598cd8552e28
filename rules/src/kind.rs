//! Kinds of rooms (group, public, incognito, direct, workspace) and their states (open, archived, closed): the tables of
//! the contract. May import `event`, `power`, `version`, ruma's ids.

use ruma::{CanonicalJsonObject, CanonicalJsonValue, Int, UserId, int};
use serde::{Deserialize, Serialize};

use crate::{
    event::Event,
    power::{Level, Levels},
    version::Version,
};

/// The field of a create event's content that names the kind.
pub const TYPE_FIELD: &str = "io.yurt.type";

/// The type of the state event that archives a room.
pub const ARCHIVED: &str = "io.yurt.archived";

/// The type of the state event that closes a room for good.
pub const CLOSED: &str = "io.yurt.closed";

/// The type of the state event that every member of a room shall have read.
pub const ANNOUNCEMENT: &str = "io.yurt.announcement";

/// The type of the state event with a text that clients keep with a room.
pub const CUSTOM: &str = "io.yurt.custom";

/// The type of the state event that keeps somebody from speaking; its state key is a user id without the `@`.
pub const SILENCE: &str = "io.yurt.silence";

/// The type that a create event gives a space.
const SPACE: &str = "m.space";

/// The level that closing asks for.
const CLOSE_LEVEL: i64 = 100;

/// What a room is for.
#[derive(Debug, Copy, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RoomKind {
    /// People who were let in.
    Group,
    /// Listed, and open to everybody.
    Public,
    /// Without a trace.
    Incognito,
    /// Two people.
    Direct,
    /// A space: other rooms belong to it.
    Workspace,
}

impl RoomKind {
    /// The word for it, in events and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Public => "public",
            Self::Incognito => "incognito",
            Self::Direct => "dm",
            Self::Workspace => "workspace",
        }
    }

    /// The kind with this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Group, Self::Public, Self::Incognito, Self::Direct, Self::Workspace]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }

    /// The kind of a room: what its create event says in `io.yurt.type`; without it, or with a word that is none, what
    /// follows from the create event's `type`, from whether the invite was a direct one, and from the join rule.
    #[must_use]
    pub fn of(yurt_type: Option<&str>, create_type: Option<&str>, is_direct: bool, join_rule: Option<&str>) -> Self {
        match yurt_type.and_then(Self::parse) {
            Some(kind) => kind,
            None if create_type == Some(SPACE) => Self::Workspace,
            None if is_direct => Self::Direct,
            None if join_rule == Some("public") => Self::Public,
            None => Self::Group,
        }
    }

    /// [`RoomKind::of`] from the events themselves.
    #[must_use]
    pub fn read(create: &Event, is_direct: bool, join_rules: Option<&Event>) -> Self {
        let field = |event: &Event, name: &str| {
            let content = event.content_as::<serde_json::Map<String, serde_json::Value>>().ok()?;
            content.get(name)?.as_str().map(ToOwned::to_owned)
        };
        let join_rule = join_rules.and_then(|event| field(event, "join_rule"));
        let (yurt_type, create_type) = (field(create, TYPE_FIELD), field(create, "type"));
        Self::of(yurt_type.as_deref(), create_type.as_deref(), is_direct, join_rule.as_deref())
    }
}

/// The join rule of a new room.
#[must_use]
pub fn join_rule(kind: RoomKind, is_public: bool) -> &'static str {
    match kind {
        RoomKind::Public => "public",
        RoomKind::Group if is_public => "public",
        RoomKind::Group | RoomKind::Incognito | RoomKind::Direct | RoomKind::Workspace => "invite",
    }
}

/// The history visibility of a new room.
#[must_use]
pub fn history_visibility(kind: RoomKind) -> &'static str {
    match kind {
        RoomKind::Group | RoomKind::Public | RoomKind::Workspace => "shared",
        RoomKind::Direct => "invited",
        RoomKind::Incognito => "joined",
    }
}

/// Whether a room stands in the directory.
#[must_use]
pub fn is_listed(kind: RoomKind, is_public: bool) -> bool {
    match kind {
        RoomKind::Public => true,
        RoomKind::Group => is_public,
        RoomKind::Incognito | RoomKind::Direct | RoomKind::Workspace => false,
    }
}

/// The content of a new room's power levels event. `partner` is the other one of a direct room, and counts in no other.
/// In version 12 neither stands in `users`: the creator and the partner, an additional creator, are above all levels.
#[must_use]
pub fn initial_power_levels(
    version: &Version,
    kind: RoomKind,
    creator: &UserId,
    partner: Option<&UserId>,
) -> CanonicalJsonObject {
    let number = CanonicalJsonValue::Integer;
    let named = [
        "m.room.power_levels",
        "m.room.server_acl",
        "m.room.history_visibility",
        "m.room.join_rules",
        "m.room.encryption",
        CLOSED,
    ];
    let mut events: CanonicalJsonObject = named.iter().map(|name| ((*name).to_owned(), number(int!(100)))).collect();
    let tombstone = Int::new_saturating(version.tombstone_level());
    events.insert("m.room.tombstone".to_owned(), number(tombstone));
    let users: CanonicalJsonObject = if version.creators_are_above_levels() {
        CanonicalJsonObject::new()
    } else {
        let partner = partner.filter(|_| kind == RoomKind::Direct);
        [Some(creator), partner].into_iter().flatten().map(|user| (user.to_string(), number(int!(100)))).collect()
    };
    let levels = [
        ("ban", int!(50)),
        ("events_default", int!(0)),
        ("invite", int!(0)),
        ("kick", int!(50)),
        ("redact", int!(50)),
        ("state_default", int!(50)),
        ("users_default", int!(0)),
    ];
    let mut content: CanonicalJsonObject =
        levels.into_iter().map(|(field, level)| (field.to_owned(), number(level))).collect();
    content.insert("events".to_owned(), CanonicalJsonValue::Object(events));
    content.insert("users".to_owned(), CanonicalJsonValue::Object(users));
    content
}

/// Whether a room takes writes.
#[derive(Debug, Copy, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RoomState {
    /// It does.
    Open,
    /// Not now; it can be opened again.
    Archived,
    /// Never again.
    Closed,
}

impl RoomState {
    /// The state that the room's `io.yurt.archived` and `io.yurt.closed` events give. A closing counts only where the
    /// room asks level 100 for it or its sender is a creator: elsewhere a moderator of a room made by other software
    /// could end it.
    #[must_use]
    pub fn of(archived: Option<&Event>, closed: Option<&Event>, levels: &Levels) -> Self {
        #[derive(Deserialize)]
        struct Archived {
            #[serde(default)]
            archived: bool,
        }
        let asks_enough = levels.to_send(CLOSED, true) >= CLOSE_LEVEL;
        let is_closed = closed.is_some_and(|event| asks_enough || levels.of(event.sender()) == Level::Creator);
        let is_archived =
            archived.and_then(|event| event.content_as::<Archived>().ok()).is_some_and(|content| content.archived);
        match (is_closed, is_archived) {
            (true, _) => Self::Closed,
            (false, true) => Self::Archived,
            (false, false) => Self::Open,
        }
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Archived => "archived",
            Self::Closed => "closed",
        }
    }

    /// Whether shared writes are refused.
    #[must_use]
    pub fn is_frozen(self) -> bool {
        self != Self::Open
    }
}

/// Why a room of this kind and join rule takes no password. None: it does.
#[must_use]
pub fn refused_password(kind: RoomKind, join_rule: &str) -> Option<&'static str> {
    match (kind, join_rule) {
        (RoomKind::Group, "invite") => None,
        (RoomKind::Group, "public") => Some("a public room is open to all and takes no password"),
        (RoomKind::Group, "knock" | "knock_restricted") => {
            Some("a room that takes knocks takes no password; set `members_only` to false first")
        }
        _ => Some("only a group that is entered by invite takes a password"),
    }
}

/// Why a room of this kind and join rule cannot be made to take knocks. None: it can, or does.
#[must_use]
pub fn refused_members_only(kind: RoomKind, join_rule: &str, has_password: bool) -> Option<&'static str> {
    match (kind, join_rule, has_password) {
        (RoomKind::Group, "public", _) => Some("a public room is open to all; there is nothing to knock for"),
        (RoomKind::Group, _, true) => Some("a room with a password takes no knocks; take the password away first"),
        (RoomKind::Group, _, false) => None,
        _ => Some("only a group can be set to `members_only`"),
    }
}

/// Why a state event of this type is not sent as plain state: the call to use instead. None: it may be.
#[must_use]
pub fn refused_state_type(event_type: &str, kind: RoomKind, has_password: bool) -> Option<&'static str> {
    match event_type {
        "m.room.create" | "m.room.tombstone" => Some("POST /v1/rooms"),
        "m.room.member" => Some("POST /v1/rooms/{id}/join, leave, invite, kick or ban"),
        "m.room.power_levels" => Some("PUT /v1/rooms/{id}/power-levels"),
        "m.room.message" | "m.room.encrypted" => Some("POST /v1/rooms/{id}/messages"),
        "m.room.redaction" => Some("POST /v1/rooms/{id}/events/{event_id}/redact"),
        "m.room.third_party_invite" => Some("POST /v1/rooms/{id}/invite"),
        "m.room.join_rules" => match kind {
            RoomKind::Public | RoomKind::Direct | RoomKind::Incognito => Some("POST /v1/rooms"),
            RoomKind::Group | RoomKind::Workspace => has_password.then_some("PUT /v1/rooms/{id}/password"),
        },
        ARCHIVED => Some("POST /v1/rooms/{id}/archive or rejoin"),
        CLOSED => Some("POST /v1/rooms/{id}/close"),
        SILENCE => Some("PUT /v1/rooms/{id}/members/{participant_id}/silence"),
        ANNOUNCEMENT => Some("PUT /v1/rooms/{id}/announcement"),
        _ if event_type.starts_with("io.yurt.") => Some("PATCH /v1/rooms/{id}"),
        _ if event_type.starts_with("m.space.") => Some("PUT /v1/rooms/{id}/workspace"),
        _ => None,
    }
}

/// Why a message of this type is not sent as a plain message: the call to use instead. None: it may be.
#[must_use]
pub fn refused_message_type(event_type: &str) -> Option<&'static str> {
    match event_type {
        "m.room.message" | "m.room.encrypted" => None,
        "m.room.redaction" => Some("POST /v1/rooms/{id}/events/{event_id}/redact"),
        _ if event_type.starts_with("m.room.") || event_type.starts_with("io.yurt.") => {
            Some("PUT /v1/rooms/{id}/state/{type}/{key}")
        }
        _ => None,
    }
}

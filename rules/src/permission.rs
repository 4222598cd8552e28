//! What a person may do in a room: the one function behind `/permissions` and behind every action.
//!
//! It speaks about the contract's rules (type, freezing, capacity, levels) on top of the Matrix authorization rules, which
//! [`crate::authorization`] checks again on the finished event. No I/O: everything it needs stands in [`Standing`].

use crate::{
    kind::{RoomKind, RoomState},
    power::{Level, Levels},
};

mod membership;

pub use membership::Membership;

/// Everything that a person may be allowed or refused in a room; the keys of `/permissions`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// Send a message.
    Send,
    /// Invite somebody.
    Invite,
    /// Remove a member of lower level.
    Kick,
    /// Exclude somebody of lower level.
    Ban,
    /// Take an exclusion back.
    Unban,
    /// Keep a member of lower level from speaking.
    Silence,
    /// Redact the messages of others.
    Redact,
    /// Change the name.
    Rename,
    /// Change the topic.
    Topic,
    /// Change the picture.
    Avatar,
    /// Change the announcement.
    Announcement,
    /// Change the room's settings and its password.
    Settings,
    /// Change power levels.
    PowerLevels,
    /// Move the room to another workspace.
    Move,
    /// Archive the room.
    Archive,
    /// Close the room for good.
    Close,
    /// Restore the archived room.
    Rejoin,
    /// Take the room away as a bundle.
    Export,
    /// Enter the room.
    Join,
    /// Ask to be let in.
    Knock,
    /// Leave the room, decline its invite or withdraw a knock.
    Leave,
}

impl Act {
    /// All acts, in the order of the contract.
    pub const ALL: [Self; 21] = [
        Self::Send,
        Self::Invite,
        Self::Kick,
        Self::Ban,
        Self::Unban,
        Self::Silence,
        Self::Redact,
        Self::Rename,
        Self::Topic,
        Self::Avatar,
        Self::Announcement,
        Self::Settings,
        Self::PowerLevels,
        Self::Move,
        Self::Archive,
        Self::Close,
        Self::Rejoin,
        Self::Export,
        Self::Join,
        Self::Knock,
        Self::Leave,
    ];

    /// The key of `/permissions`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Invite => "invite",
            Self::Kick => "kick",
            Self::Ban => "ban",
            Self::Unban => "unban",
            Self::Silence => "silence",
            Self::Redact => "redact",
            Self::Rename => "rename",
            Self::Topic => "topic",
            Self::Avatar => "avatar",
            Self::Announcement => "announcement",
            Self::Settings => "settings",
            Self::PowerLevels => "power_levels",
            Self::Move => "move",
            Self::Archive => "archive",
            Self::Close => "close",
            Self::Rejoin => "rejoin",
            Self::Export => "export",
            Self::Join => "join",
            Self::Knock => "knock",
            Self::Leave => "leave",
        }
    }
}

/// Why something is refused, in the words of the contract.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The caller's level is too low, or not above the target's.
    Level,
    /// A creator of a version 12 room stands above every level.
    Creator,
    /// The caller is not, or no longer, in the room in the way that is needed.
    Membership,
    /// A moderator keeps the caller from speaking.
    Silenced,
    /// The caller may not see the whole history.
    History,
    /// The room is archived or closed.
    Frozen,
    /// The room's type does not know this.
    Type,
    /// Federation is off for the room.
    Federation,
    /// The room is full.
    Capacity,
    /// A limit of the tenant.
    Tenant,
}

impl Reason {
    /// The word that answers carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Level => "level",
            Self::Creator => "creator",
            Self::Membership => "membership",
            Self::Silenced => "silenced",
            Self::History => "history",
            Self::Frozen => "frozen",
            Self::Type => "type",
            Self::Federation => "federation",
            Self::Capacity => "capacity",
            Self::Tenant => "tenant",
        }
    }
}

/// A refusal: the reason for programs, the message for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// What stands in the way, and what would help.
    pub message: String,
}

impl Denial {
    /// A refusal with its message.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    fn level(what: &str, needs: i64, has: Level) -> Self {
        Self::new(Reason::Level, format!("{what} needs power level {needs} in this room; yours is {}", has.reported()))
    }
}

/// Who may enter without an invite.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// Everybody who is not banned.
    Public,
    /// Only the invited.
    Invite,
    /// The invited; others may ask.
    Knock,
}

/// One person in one room, with what the decision needs to know of both.
#[derive(Clone, Debug)]
pub struct Standing<'a> {
    /// The room's type.
    pub kind: RoomKind,
    /// Open, archived or closed.
    pub state: RoomState,
    /// The person's membership.
    pub membership: Membership,
    /// The person's power level.
    pub level: Level,
    /// The room's levels.
    pub levels: &'a Levels,
    /// Who may enter.
    pub door: Door,
    /// As many have joined as may.
    pub is_full: bool,
    /// The archive lifted levels, so that restoring means changing them.
    pub levels_are_lifted: bool,
    /// The person may see everything that is held of the room.
    pub sees_whole_history: bool,
    /// The person administers this tenant.
    pub is_admin: bool,
    /// A moderator keeps the person from speaking.
    pub is_silenced: bool,
}

/// Level from which a room may be archived, moved or moderated.
pub const MODERATOR_LEVEL: i64 = 50;
/// Level from which a room may be closed and its settings changed.
pub const ADMIN_LEVEL: i64 = 100;

impl Standing<'_> {
    /// May this person do that? What is done already may be done again by every member: it changes nothing.
    ///
    /// # Errors
    /// The first thing in the way, in the order membership, type, freezing, silence, level, capacity.
    pub fn may(&self, act: Act) -> Result<(), Denial> {
        match act {
            Act::Join => return self.may_join(),
            Act::Knock => return self.may_knock(),
            Act::Leave => return self.may_leave(),
            _ => self.joined()?,
        }
        self.type_knows(act)?;
        match (act, self.state) {
            (Act::Archive, RoomState::Archived) | (Act::Close, RoomState::Closed) | (Act::Rejoin, RoomState::Open) => {
                return Ok(());
            }
            _ => {}
        }
        match act {
            Act::Export => return self.may_export(),
            Act::Rejoin => return self.may_rejoin(),
            Act::Close if self.state == RoomState::Archived => {}
            _ => self.not_frozen()?,
        }
        if act == Act::Send && self.is_silenced {
            return Err(Denial::new(Reason::Silenced, "a moderator keeps you from speaking in this room"));
        }
        self.level_for(act)
    }

    /// May this person do that to somebody with this level?
    ///
    /// # Errors
    /// As [`Standing::may`], then the target's level.
    pub fn may_to(&self, act: Act, target: Level) -> Result<(), Denial> {
        self.may(act)?;
        if target == Level::Creator {
            return Err(Denial::new(Reason::Creator, "a creator of the room stands above every level"));
        }
        if target >= self.level {
            let reason = format!("their power level {} is not below yours", target.reported());
            return Err(Denial::new(Reason::Level, reason));
        }
        Ok(())
    }

    /// May this person send events of this type, `m.room.message` and its like apart?
    ///
    /// # Errors
    /// As [`Standing::may`] for [`Act::Send`].
    pub fn may_send(&self, event_type: &str) -> Result<(), Denial> {
        self.may(Act::Send)?;
        self.level_of_type(event_type, false)
    }

    /// May this person set state of this type, where no act stands for it?
    ///
    /// # Errors
    /// Membership, freezing, level.
    pub fn may_set_state(&self, event_type: &str) -> Result<(), Denial> {
        self.joined()?;
        self.not_frozen()?;
        self.level_of_type(event_type, true)
    }

    fn level_of_type(&self, event_type: &str, is_state: bool) -> Result<(), Denial> {
        let needs = self.levels.to_send(event_type, is_state);
        if self.level.reaches(needs) {
            Ok(())
        } else {
            Err(Denial::level(&format!("sending {event_type}"), needs, self.level))
        }
    }

    /// The person is in the room.
    ///
    /// # Errors
    /// As [`Membership::joined`].
    pub fn joined(&self) -> Result<(), Denial> {
        self.membership.joined()
    }

    /// The room takes shared writes.
    ///
    /// # Errors
    /// [`Reason::Frozen`].
    pub fn not_frozen(&self) -> Result<(), Denial> {
        match self.state {
            RoomState::Open => Ok(()),
            RoomState::Archived => {
                Err(Denial::new(Reason::Frozen, "this room is archived; restore it with POST …/rejoin first"))
            }
            RoomState::Closed => Err(Denial::new(Reason::Frozen, "this room is closed for good")),
        }
    }

    /// The room's type knows this act at all.
    ///
    /// # Errors
    /// [`Reason::Type`], naming what to call instead where there is something.
    pub fn type_knows(&self, act: Act) -> Result<(), Denial> {
        let message = match (self.kind, act) {
            (RoomKind::Direct, Act::Invite) => "a direct message has two members; create a group instead",
            (RoomKind::Direct, Act::Kick | Act::Ban | Act::Unban | Act::Silence) => {
                "nobody can be removed from or silenced in a direct message; leave it with POST …/leave"
            }
            (RoomKind::Direct, Act::Rename) => "a direct message has no name of its own",
            (RoomKind::Incognito, Act::Archive | Act::Rejoin) => {
                "an incognito room leaves no trace and cannot be archived; close it with POST …/close"
            }
            (RoomKind::Incognito, Act::Avatar) => "an incognito room refers to no media",
            (RoomKind::Incognito, Act::Move) => "an incognito room belongs to no workspace",
            (RoomKind::Incognito, Act::Export) => "an incognito room leaves no trace and cannot be exported",
            (RoomKind::Workspace, Act::Send) => "a workspace holds rooms, not messages; write into one of its rooms",
            (RoomKind::Workspace, Act::Invite | Act::Kick | Act::Ban | Act::Unban | Act::PowerLevels) => {
                "the members of a workspace and their roles are set with PUT and DELETE /v1/workspaces/{id}/members/{participant_id}"
            }
            (RoomKind::Workspace, Act::Silence) => "nobody speaks in a workspace; silence people in its rooms",
            (RoomKind::Workspace, Act::Settings | Act::Archive | Act::Close | Act::Export | Act::Move) => {
                "this is a workspace; use the calls under /v1/workspaces"
            }
            _ => return Ok(()),
        };
        Err(Denial::new(Reason::Type, message))
    }

    fn level_for(&self, act: Act) -> Result<(), Denial> {
        let state = |event_type: &str| self.levels.to_send(event_type, true);
        let (what, needs) = match act {
            Act::Send => ("sending a message", self.levels.to_send("m.room.message", false)),
            Act::Invite => ("inviting", self.levels.invite()),
            Act::Kick => ("removing a member", self.levels.kick()),
            Act::Ban => ("banning", self.levels.ban()),
            Act::Unban => ("lifting a ban", self.levels.ban().max(self.levels.kick())),
            Act::Silence => ("silencing a member", state("io.yurt.silence").max(MODERATOR_LEVEL)),
            Act::Redact => ("redacting the messages of others", self.levels.redact()),
            Act::Rename => ("changing the name", state("m.room.name")),
            Act::Topic => ("changing the topic", state("m.room.topic")),
            Act::Avatar => ("changing the avatar", state("m.room.avatar")),
            Act::Announcement => ("changing the announcement", state("io.yurt.announcement")),
            Act::Settings => ("changing the settings", ADMIN_LEVEL),
            Act::PowerLevels => ("changing power levels", state("m.room.power_levels")),
            Act::Move => ("moving the room", state("m.space.parent").max(MODERATOR_LEVEL)),
            Act::Archive if self.kind == RoomKind::Direct => ("archiving", state("io.yurt.archived")),
            Act::Archive => ("archiving the room", state("io.yurt.archived").max(MODERATOR_LEVEL)),
            Act::Close => ("closing the room", state("io.yurt.closed").max(ADMIN_LEVEL)),
            Act::Rejoin | Act::Export | Act::Join | Act::Knock | Act::Leave => return Ok(()),
        };
        if self.level.reaches(needs) { Ok(()) } else { Err(Denial::level(what, needs, self.level)) }
    }

    fn may_rejoin(&self) -> Result<(), Denial> {
        if self.state == RoomState::Closed {
            return self.not_frozen();
        }
        if self.kind == RoomKind::Workspace && !self.level.reaches(ADMIN_LEVEL) {
            return Err(Denial::level("restoring a workspace", ADMIN_LEVEL, self.level));
        }
        self.level_for(Act::Archive)?;
        if self.levels_are_lifted { self.level_for(Act::PowerLevels) } else { Ok(()) }
    }

    fn may_export(&self) -> Result<(), Denial> {
        if self.sees_whole_history || self.is_admin || self.level.reaches(ADMIN_LEVEL) {
            return Ok(());
        }
        Err(Denial::new(
            Reason::History,
            format!("an export is always complete, and you may not see all of this room; it needs level {ADMIN_LEVEL}"),
        ))
    }

    fn may_join(&self) -> Result<(), Denial> {
        match self.membership {
            Membership::Join => return Ok(()),
            Membership::Ban => return self.joined(),
            Membership::Invite => {}
            Membership::None | Membership::Leave | Membership::Knock if self.door == Door::Public => {}
            _ if self.door == Door::Knock => {
                let message = "this room is entered by invite only; ask for one with POST …/knock";
                return Err(Denial::new(Reason::Membership, message));
            }
            _ => {
                let message = "this room is entered by invite only; ask a member for one";
                return Err(Denial::new(Reason::Membership, message));
            }
        }
        self.not_frozen()?;
        if self.is_full {
            return Err(Denial::new(Reason::Capacity, "this room is full; somebody has to leave first"));
        }
        Ok(())
    }

    fn may_knock(&self) -> Result<(), Denial> {
        match self.membership {
            Membership::Knock => return Ok(()),
            Membership::Ban => return self.joined(),
            Membership::Join | Membership::Invite => {
                return Err(Denial::new(Reason::Membership, "you are already let in; there is nothing to ask for"));
            }
            Membership::None | Membership::Leave => self.not_frozen()?,
        }
        match self.door {
            Door::Knock => Ok(()),
            Door::Public => Err(Denial::new(Reason::Membership, "this room is open to all; join it")),
            Door::Invite => Err(Denial::new(Reason::Membership, "this room takes no requests to join")),
        }
    }

    fn may_leave(&self) -> Result<(), Denial> {
        if self.kind == RoomKind::Workspace && self.level == Level::Creator {
            return Err(Denial::new(Reason::Type, "the creator of a workspace is its owner, and stays it"));
        }
        match self.membership {
            Membership::Join | Membership::Invite | Membership::Knock | Membership::Leave => Ok(()),
            Membership::Ban | Membership::None => self.joined(),
        }
    }
}

//! What somebody is to a room.

use serde::{Deserialize, Serialize};

use super::{Denial, Reason};

/// A person's membership in a room, as its current state has it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Membership {
    /// There is no membership event.
    #[default]
    None,
    /// Invited, and not yet joined.
    Invite,
    /// In the room.
    Join,
    /// Asked to be let in.
    Knock,
    /// Left, declined or was removed.
    Leave,
    /// Excluded.
    Ban,
}

impl Membership {
    /// The word of the specification for it; `leave` where there is no event, as clients expect.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None | Self::Leave => "leave",
            Self::Invite => "invite",
            Self::Join => "join",
            Self::Knock => "knock",
            Self::Ban => "ban",
        }
    }

    /// The membership that a word of the specification names.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "invite" => Self::Invite,
            "join" => Self::Join,
            "knock" => Self::Knock,
            "leave" => Self::Leave,
            "ban" => Self::Ban,
            _ => return None,
        })
    }

    /// In the room, or invited into it.
    pub fn is_in(self) -> bool {
        matches!(self, Self::Join | Self::Invite)
    }

    /// In the room, invited into it, or asking to be let in: there is something to leave, to decline or to withdraw.
    pub fn is_involved(self) -> bool {
        self.is_in() || self == Self::Knock
    }

    /// The person is in the room.
    ///
    /// # Errors
    /// [`Reason::Membership`] with the way in.
    pub fn joined(self) -> Result<(), Denial> {
        let message = match self {
            Self::Join => return Ok(()),
            Self::Invite => "you are invited to this room; join it first",
            Self::Knock => "you asked to join this room and were not let in yet",
            Self::Ban => "you are banned from this room",
            Self::Leave => "you have left this room; join it again first",
            Self::None => "you are not a member of this room; join it first",
        };
        Err(Denial::new(Reason::Membership, message))
    }
}

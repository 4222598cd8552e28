//! Which of a room's events somebody may see. May import `event`, `permission`.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>

use serde::{Deserialize, Serialize};

use crate::{event::Event, permission::Membership};

/// Who may see a room's events, from the widest to the narrowest.
#[derive(Debug, Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HistoryVisibility {
    /// Everybody.
    WorldReadable,
    /// Who is, or was at some later time, a member: also what came before.
    Shared,
    /// Who was a member or invited when it was sent.
    Invited,
    /// Who was a member when it was sent.
    Joined,
}

/// The membership that a member event gives. An unknown word is none that lets anybody see more than who left.
#[must_use]
pub fn membership_of(member: Option<&Event>) -> Membership {
    #[derive(Deserialize)]
    struct Content {
        membership: String,
    }
    let Some(event) = member else {
        return Membership::None;
    };
    let content = event.content_as::<Content>().ok();
    content.and_then(|content| Membership::parse(&content.membership)).unwrap_or(Membership::Leave)
}

impl HistoryVisibility {
    /// The visibility with this word. An unknown one counts as shared, as does a missing one.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        match word {
            "world_readable" => Self::WorldReadable,
            "invited" => Self::Invited,
            "joined" => Self::Joined,
            _ => Self::Shared,
        }
    }

    /// The visibility that a history visibility event gives.
    #[must_use]
    pub fn of(event: Option<&Event>) -> Self {
        #[derive(Deserialize)]
        struct Content {
            history_visibility: String,
        }
        let content = event.and_then(|event| event.content_as::<Content>().ok());
        content.map_or(Self::Shared, |content| Self::parse(&content.history_visibility))
    }

    /// The visibility of the event that changes it: the wider of before and after.
    #[must_use]
    pub fn at_change(before: Self, after: Self) -> Self {
        before.min(after)
    }
}

/// Whether a user may see an event, or a server: of it the strongest membership of any of its users counts.
///
/// `visibility` and `then` are those at the event; for a change of the user's own membership `then` is the stronger of
/// before and after. `joined_since` says whether he was joined at any later time, now included.
#[must_use]
pub fn may_see_event(visibility: HistoryVisibility, then: Membership, joined_since: bool) -> bool {
    let was_joined = then == Membership::Join;
    match visibility {
        HistoryVisibility::WorldReadable => true,
        HistoryVisibility::Shared => was_joined || joined_since,
        HistoryVisibility::Invited => was_joined || then == Membership::Invite,
        HistoryVisibility::Joined => was_joined,
    }
}

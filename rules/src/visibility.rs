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

/// Whether a server that is in the room now may see an event as it is; else it gets what a redaction leaves of it. `then` is the strongest membership at the
/// event of any of its users.
/// Source: <https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>
#[must_use]
pub fn server_may_see(visibility: HistoryVisibility, then: Membership) -> bool {
    may_see_event(visibility, then, true)
}

/// Of two memberships the one that shows more.
#[must_use]
pub fn stronger(one: Membership, other: Membership) -> Membership {
    let strength = |membership| match membership {
        Membership::Join => 2,
        Membership::Invite => 1,
        _ => 0,
    };
    if strength(one) >= strength(other) { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S2S 17 who sees which history.
    #[test]
    fn a_server_in_the_room_sees_what_its_users_could() {
        use HistoryVisibility::{Invited, Joined, Shared, WorldReadable};
        let cases = [
            // visibility,   its users then,      sees
            (WorldReadable, Membership::None, true),
            (Shared, Membership::None, true),
            (Invited, Membership::None, false),
            (Invited, Membership::Invite, true),
            (Joined, Membership::Invite, false),
            (Joined, Membership::Leave, false),
            (Joined, Membership::Join, true),
        ];
        for (visibility, then, sees) in cases {
            assert_eq!(server_may_see(visibility, then), sees, "{visibility:?} {then:?}");
        }
    }
}

//! Work that one room's commit leaves for another room: remembered with the commit, done afterwards, removed when done.

use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};

/// What is left to do for the room and the space that the row's key names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Chore {
    /// Name the room in the space, with an `m.space.child` of that person.
    LinkChild(OwnedUserId),
    /// Take the room's `m.space.child` out of the space.
    UnlinkChild(OwnedUserId),
}

//! Which rooms of this server somebody can see: the listed ones, and their own.

use rules::kind::RoomKind;
use ruma::OwnedRoomId;

use super::{
    ActionError, Actions, Caller, Page, Window, personal,
    rooms::{self, RoomDetails},
};
use crate::storage::keyspaces::MEMBERS;

mod elsewhere;
mod index;

pub use elsewhere::{Elsewhere, PublicRoom, of_server};
pub use index::{Index, Relisted, Shown};
pub(super) use index::{Position, Start};

/// What is looked for.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// A part of the name, the topic or the alias, whatever the case.
    pub text: Option<String>,
    /// Only rooms of this type.
    pub kind: Option<RoomKind>,
}

/// The rooms that the caller can see, by name.
///
/// # Errors
/// When storage cannot be read.
pub async fn list(
    actions: &Actions,
    caller: &Caller,
    search: &Search,
    window: Window,
) -> Result<Page<RoomDetails>, ActionError> {
    let own = own(actions, caller, search).await?;
    let Page { entries, total } = actions.directory.page(actions, own, search, window).await?;
    let mut rooms = Vec::with_capacity(entries.len());
    for room_id in entries {
        let room = actions.room(&room_id);
        match room.view().await? {
            // It may have been hidden since the page was chosen.
            Some(view) => {
                let member = room.store.get(&MEMBERS, &room.home, &caller.user_id).await?;
                if view.is_visible_to(member.as_ref()) && !actions.is_purging(&room_id) {
                    rooms.push((room, view));
                }
            }
            None => actions.directory.remove(&room_id),
        }
    }
    rooms::describe_all(actions, caller, Page { entries: rooms, total }).await
}

/// Rooms that the caller has to do with and may see, whether or not they are listed.
async fn own(actions: &Actions, caller: &Caller, search: &Search) -> Result<Vec<(OwnedRoomId, Shown)>, ActionError> {
    let mut found = Vec::new();
    for (room_id, row) in personal::rooms_of(actions, &caller.user_id).await? {
        if row.is_workspace {
            continue;
        }
        let room = actions.room(&room_id);
        let Some(view) = room.view().await? else { continue };
        if matches!(view.summary.kind, RoomKind::Incognito | RoomKind::Workspace) {
            continue;
        }
        let shown = Shown::of(&view.summary);
        let member = room.store.get(&MEMBERS, &room.home, &caller.user_id).await?;
        if shown.matches(search) && view.is_visible_to(member.as_ref()) {
            found.push((room_id, shown));
        }
    }
    Ok(found)
}

//! In which rooms somebody reads of a medium of another server, and what bundles of those rooms brought of it.

use ruma::OwnedRoomId;

use crate::{
    actions::{ActionError, Actions, Caller, personal, seam},
    storage::{
        Direction, Home, KeyRange, Limit,
        keyspaces::{BROUGHT_MEDIA, NAMED_MEDIA},
        media::{BroughtMedium, Sha256},
    },
};

/// Rooms that are looked at for what a bundle brought.
const NAMING_ROOMS_MAX: usize = 20;

/// Rooms an event of which names the medium to the caller: those that the caller is in, and the ones before them.
pub(super) async fn rooms(
    actions: &Actions,
    caller: &Caller,
    key: &Sha256,
    rooms_max: usize,
) -> Result<Vec<OwnedRoomId>, ActionError> {
    let mut joined = personal::rooms_of(actions, &caller.user_id).await?;
    joined.retain(|(_, row)| row.membership == rules::permission::Membership::Join);
    let mut naming = Vec::new();
    for (room_id, _) in &joined {
        let (store, home) = (actions.store_of(room_id), Home::room(room_id));
        let page = store.scan(&NAMED_MEDIA, &home, KeyRange::prefix(key), Direction::Up, Limit::rows(1)).await?;
        naming.extend((!page.rows.is_empty()).then(|| room_id.clone()));
        if naming.len() >= rooms_max {
            return Ok(naming);
        }
    }
    for (room_id, _) in &joined {
        naming.extend(seam::room_naming(actions, caller, room_id, key).await?);
        if naming.len() >= rooms_max {
            break;
        }
    }
    Ok(naming)
}

/// What a bundle brought of the medium into a room that the caller reads.
pub(super) async fn brought(
    actions: &Actions,
    caller: &Caller,
    key: &Sha256,
) -> Result<Option<BroughtMedium>, ActionError> {
    for room_id in rooms(actions, caller, key, NAMING_ROOMS_MAX).await? {
        let medium = actions.store_of(&room_id).get(&BROUGHT_MEDIA, &Home::room(&room_id), key).await?;
        if medium.is_some() {
            return Ok(medium);
        }
    }
    Ok(None)
}

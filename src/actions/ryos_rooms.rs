//! What holds of rooms as the API `/api/rooms` knows them: admins make and remove the public ones, private ones begin with their members and end with them.

use rules::{kind::RoomKind, permission::Reason};
use ruma::{OwnedRoomId, OwnedUserId};

use super::{
    ActionError, Actions, Caller, MadeThrough,
    creation::{self, NewRoom},
    members, purge, rooms,
    visitors::{self, Sight},
};

/// Makes a public room.
///
/// # Errors
/// A caller who is neither an admin nor named in the configuration; a blank name; limits of the tenant.
pub async fn create_public(actions: &Actions, caller: &Caller, name: String) -> Result<OwnedRoomId, ActionError> {
    if !caller.is_admin && !is_named_admin(actions, caller) {
        return Err(ActionError::InsufficientPermission("Only admin can create public rooms".to_owned()));
    }
    let new = NewRoom { kind: Some(RoomKind::Public), name: Some(name), ..made_here() };
    creation::create(actions, caller, new).await
}

/// Makes a private room of the caller and others: those of this server are in at once, others are invited.
///
/// # Errors
/// People who do not exist; limits of the tenant.
pub async fn create_private(
    actions: &Actions,
    caller: &Caller,
    name: String,
    others: Vec<OwnedUserId>,
) -> Result<OwnedRoomId, ActionError> {
    let (members, invite) = others.into_iter().partition(|user_id| actions.is_local(user_id));
    let new =
        NewRoom { kind: Some(RoomKind::Group), name: Some(name), members, invite, is_transient: true, ..made_here() };
    creation::create(actions, caller, new).await
}

fn made_here() -> NewRoom {
    NewRoom { made_through: MadeThrough::Ryos, ..NewRoom::default() }
}

/// Enters a room of this server.
///
/// # Errors
/// A private room without an invite; a full or frozen one; [`ActionError::RoomNotFound`].
pub async fn join(actions: &Actions, caller: &Caller, reference: &str) -> Result<(), ActionError> {
    match members::join_here(actions, caller, reference).await {
        Err(ActionError::RoomNotFound) => Err(told_of_hidden(actions, reference).await?),
        joined => joined.map(drop),
    }
}

/// Leaves a room.
///
/// # Errors
/// A caller who never was in it; [`ActionError::RoomNotFound`].
pub async fn leave(actions: &Actions, caller: &Caller, reference: &str) -> Result<(), ActionError> {
    match members::leave(actions, caller, reference).await {
        Err(ActionError::RoomNotFound) => Err(told_of_hidden(actions, reference).await?),
        left => left,
    }
}

/// Removes a public room, which admins may; or leaves a private one, which its members may.
///
/// # Errors
/// Somebody who may not; [`ActionError::RoomNotFound`].
pub async fn remove(actions: &Actions, caller: &Caller, reference: &str) -> Result<(), ActionError> {
    let sight = match visitors::look(actions, Some(caller), reference).await {
        Err(ActionError::RoomNotFound) => return Err(told_of_hidden(actions, reference).await?),
        sight => sight?,
    };
    if !sight.is_listed() {
        return members::leave(actions, caller, reference).await;
    }
    let may = caller.is_admin || (is_named_admin(actions, caller) && is_made_here(&sight));
    if !may {
        return Err(ActionError::InsufficientPermission("Only admin can delete public rooms".to_owned()));
    }
    purge::begin(actions, caller, reference).await.map(drop)
}

fn is_made_here(sight: &Sight) -> bool {
    sight.view.settings.made_through == MadeThrough::Ryos
}

/// The configuration names the caller as an admin of this API.
fn is_named_admin(actions: &Actions, caller: &Caller) -> bool {
    actions.settings.dialects.ryos_admins.iter().any(|name| name.eq_ignore_ascii_case(caller.user_id.localpart()))
}

/// What is said of a room that the caller does not see. This API tells a private room of its own from none; its ids cannot be guessed, so that only ids count
/// here, and of rooms that were made otherwise nothing is told.
async fn told_of_hidden(actions: &Actions, reference: &str) -> Result<ActionError, ActionError> {
    if !reference.starts_with('!') {
        return Ok(ActionError::RoomNotFound);
    }
    let view = match rooms::locate(actions, reference).await {
        Err(ActionError::RoomNotFound) => return Ok(ActionError::RoomNotFound),
        room => room?.view().await?,
    };
    if view.is_none_or(|view| view.settings.made_through != MadeThrough::Ryos) {
        return Ok(ActionError::RoomNotFound);
    }
    let message = "You are not a member of this room".to_owned();
    Ok(ActionError::RoomForbidden { reason: Reason::Membership, message })
}

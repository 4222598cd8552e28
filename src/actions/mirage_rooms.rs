//! What holds of rooms as the API `/api/create_room` knows them: names of its own rooms are unique, public ones are few, and a password opens private ones.

use std::sync::Arc;

use rules::kind::RoomKind;
use ruma::{OwnedRoomId, RoomId};

use super::{
    ActionError, Actions, Caller, MadeThrough,
    creation::{self, NewRoom},
    directory::{Search, Start},
    lane::Room,
    members, room_passwords, visitors,
};
use crate::storage::{Home, keyspaces::MIRAGE_NAMES};

/// Why a room was not made.
#[derive(Debug)]
pub enum Refused {
    /// Another room of this API has the name.
    NameTaken,
    /// There are as many public rooms as the configuration allows: so many.
    TooManyPublic(u64),
    /// Anything else.
    Other(ActionError),
}

impl<E: Into<ActionError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Why somebody was not let in.
#[derive(Debug)]
pub enum Shut {
    /// The room is private, and no password came.
    PasswordRequired,
    /// The password is another one.
    WrongPassword,
    /// Anything else.
    Other(ActionError),
}

impl<E: Into<ActionError>> From<E> for Shut {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Makes a public room, or with a password a private one.
///
/// # Errors
/// A name that another room of this API has; too many public rooms in the tenant, however they were made; as [`creation::create`].
pub async fn create(
    actions: &Actions,
    caller: &Caller,
    name: &str,
    password: Option<String>,
) -> Result<OwnedRoomId, Refused> {
    let _gate = actions.gates.enter("mirage", "names").await?;
    if of_name(actions, name).await?.is_some() {
        return Err(Refused::NameTaken);
    }
    let kind = if password.is_some() { RoomKind::Group } else { RoomKind::Public };
    if kind == RoomKind::Public {
        let max = actions.settings.dialects.mirage_public_rooms_max;
        let (_, listed) = actions.directory.walk(actions, &Search::default(), &Start::Beginning, 1).await?;
        if u64::try_from(listed).is_ok_and(|listed| listed >= max) {
            return Err(Refused::TooManyPublic(max));
        }
    }
    let new = NewRoom {
        kind: Some(kind),
        name: Some(name.to_owned()),
        password,
        made_through: MadeThrough::Mirage,
        ..NewRoom::default()
    };
    Ok(creation::create(actions, caller, new).await?)
}

/// The room of this API that has the name now.
async fn of_name(actions: &Actions, name: &str) -> Result<Option<Arc<Room>>, ActionError> {
    let named = actions.store.get(&MIRAGE_NAMES, &Home::server(), &name.to_owned()).await?;
    let Some(room_id) = named.filter(|room_id: &OwnedRoomId| !actions.is_purging(room_id)) else { return Ok(None) };
    let room = actions.room(&room_id);
    let view = room.view().await?;
    Ok(view.is_some_and(|view| view.summary.name.as_deref() == Some(name)).then_some(room))
}

/// The room that somebody means by a name: one of this API, else a public one.
async fn find(actions: &Actions, caller: &Caller, name: &str) -> Result<OwnedRoomId, ActionError> {
    if let Some(room) = of_name(actions, name).await? {
        return Ok(room.id.clone());
    }
    let search = Search { text: Some(name.to_owned()), kind: None };
    let (listed, _) = actions.directory.walk(actions, &search, &Start::Beginning, visitors::ROOMS_MAX).await?;
    for (_, room_id) in listed {
        match visitors::look(actions, Some(caller), room_id.as_str()).await {
            Ok(sight) if sight.view.summary.name.as_deref() == Some(name) => return Ok(room_id),
            Ok(_) | Err(ActionError::RoomNotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Err(ActionError::RoomNotFound)
}

/// Enters the room of this name, a private one with its password.
///
/// # Errors
/// [`ActionError::RoomNotFound`]; a password that is missing or wrong; as [`members::join`].
pub async fn join(actions: &Actions, caller: &Caller, name: &str, password: Option<&str>) -> Result<OwnedRoomId, Shut> {
    let room_id = find(actions, caller, name).await?;
    match (members::join_here(actions, caller, room_id.as_str()).await, password) {
        (Ok(_), _) => Ok(room_id),
        (Err(ActionError::RoomNotFound | ActionError::RoomForbidden { .. }), None)
            if has_password(actions, &room_id).await? =>
        {
            Err(Shut::PasswordRequired)
        }
        (Err(ActionError::RoomNotFound | ActionError::RoomForbidden { .. }), Some(password))
            if has_password(actions, &room_id).await? =>
        {
            room_passwords::check(password)?;
            match room_passwords::join(actions, caller, room_id.as_str(), &[], password).await {
                Err(ActionError::RoomNotFound) => Err(Shut::WrongPassword),
                joined => Ok(joined.map(|_| room_id)?),
            }
        }
        (Err(error), _) => Err(error.into()),
    }
}

async fn has_password(actions: &Actions, room_id: &RoomId) -> Result<bool, ActionError> {
    Ok(actions.room(room_id).view().await?.is_some_and(|view| view.has_password()))
}

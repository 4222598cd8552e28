//! Which servers may help somebody into a room, or out of it.

use std::cmp::Reverse;

use ruma::{OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, ServerName};

use crate::{
    actions::{
        ActionError, Actions, Caller, aliases, invites, members,
        peers::{Errcode, PeerError},
        purge, quotas,
        remote_leave::told,
        rows,
    },
    storage::{KeyRange, keyspaces::SERVERS},
};

/// Servers that are asked for one room.
const CANDIDATES_MAX: usize = 8;

/// A room and the servers through which it may be entered, the likeliest first.
pub(in crate::actions) struct Found {
    pub(in crate::actions) room_id: OwnedRoomId,
    pub(in crate::actions) servers: Vec<OwnedServerName>,
}

/// The room that an id or alias names, for somebody who cannot enter it here.
///
/// # Errors
/// [`ActionError::RoomNotFound`] when nobody else can be asked; [`ActionError::FederationDisabled`]; when the server of an alias is not reached.
pub(in crate::actions) async fn find(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    via: &[String],
) -> Result<Found, ActionError> {
    let refused = || members::elsewhere(actions, reference, via, "joining this room");
    let mut servers: Vec<OwnedServerName> = Vec::new();
    let room_id = match (reference.starts_with('#'), aliases::resolve(actions, reference).await?) {
        (true, Some(room_id)) => room_id,
        (true, None) => {
            let alias = RoomAliasId::parse(reference).map_err(|_not_one| ActionError::RoomNotFound)?;
            if alias.server_name() == &*actions.server_name {
                return Err(ActionError::RoomNotFound);
            }
            must_be_connected(actions, refused)?;
            quotas::count(actions, caller, alias.server_name())?;
            let answer = match actions.peers().alias(alias.server_name(), &alias).await {
                Ok(answer) => answer,
                Err(PeerError::Refused(Errcode::NOT_FOUND)) => return Err(ActionError::RoomNotFound),
                Err(error) => return Err(told(error)),
            };
            servers.push(alias.server_name().to_owned());
            servers.extend(answer.servers);
            answer.room_id
        }
        (false, _) => RoomId::parse(reference).map_err(|_not_one| ActionError::RoomNotFound)?,
    };
    if !caller.is_admin && purge::is_purged(actions, &room_id).await? {
        return Err(ActionError::RoomNotFound);
    }
    if let Some(invited) = invites::find(actions, &caller.user_id, &room_id).await? {
        servers.insert(0, invited.origin);
    }
    servers.extend(via.iter().filter_map(|server| ServerName::parse(server).ok()));
    servers.extend(known(actions, &room_id).await?);
    servers.extend(room_id.server_name().map(ToOwned::to_owned));
    let mut asked: Vec<OwnedServerName> = Vec::new();
    for server in servers {
        if server != actions.server_name && !asked.contains(&server) && asked.len() < CANDIDATES_MAX {
            asked.push(server);
        }
    }
    if asked.is_empty() {
        return Err(ActionError::RoomNotFound);
    }
    must_be_connected(actions, refused)?;
    let view = actions.room(&room_id).view().await?;
    asked.retain(|server| view.as_ref().is_none_or(|view| view.admits(server)));
    if asked.is_empty() {
        return Err(ActionError::FederationDisabled("this server keeps the room to itself".to_owned()));
    }
    for server in &asked {
        quotas::count(actions, caller, server)?;
    }
    Ok(Found { room_id, servers: asked })
}

fn must_be_connected(actions: &Actions, refused: impl Fn() -> ActionError) -> Result<(), ActionError> {
    if actions.is_connected() { Ok(()) } else { Err(refused()) }
}

/// Servers that were in the room when somebody of this server was last: those with the most people first.
///
/// # Errors
/// When storage cannot be read.
pub(in crate::actions) async fn known(
    actions: &Actions,
    room_id: &RoomId,
) -> Result<Vec<OwnedServerName>, ActionError> {
    let room = actions.room(room_id);
    let Some(view) = room.view().await? else { return Ok(Vec::new()) };
    if view.summary.local_joined() > 0 {
        // Who may know of a room that is here is settled here.
        return Ok(Vec::new());
    }
    let mut servers = rows::all(&room.store, &SERVERS, &room.home, KeyRange::all()).await?;
    servers.sort_by_key(|(_, people)| Reverse(*people));
    let others = servers.into_iter().map(|(server, _)| server).filter(|server| *server != actions.server_name);
    Ok(others.take(CANDIDATES_MAX).collect())
}

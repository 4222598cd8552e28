//! What somebody sees of rooms who may have no account: the listed ones, and with an account those that they are in.

use std::sync::Arc;

use quick_cache::sync::Cache;
use rules::permission::Membership;
use ruma::{OwnedRoomId, OwnedUserId};

use super::{
    ActionError, Actions, Caller,
    directory::{Search, Start},
    lane::Room,
    members::membership,
    personal, rooms,
    summary::is_listed,
    view::RoomView,
};
use crate::storage::{Direction, KeyRange, Limit, StateRoot, keyspaces::MEMBERS, members::Member};

/// Rooms that one list holds of each sort: listed ones by name, then the visitor's own.
pub const ROOMS_MAX: usize = 1_000;
/// Members whose names stand for that of a room without one.
pub const NAMES_MAX: usize = 10;
/// Members that are named with a room.
pub const MEMBERS_MAX: usize = 1_000;

/// Rooms whose members are kept in memory.
const ROOMS_KNOWN_MAX: usize = 1_000;

/// The members of rooms that somebody has looked at, each with the state of the room in which they were it.
pub struct Known(Cache<OwnedRoomId, (StateRoot, Arc<Vec<OwnedUserId>>)>);

impl Default for Known {
    fn default() -> Self {
        Self(Cache::new(ROOMS_KNOWN_MAX))
    }
}

/// A room as a visitor sees it.
pub struct Sight {
    /// The room.
    pub room: Arc<Room>,
    /// As it stands.
    pub view: Arc<RoomView>,
    /// The visitor's row in it.
    pub member: Option<Member>,
}

impl Sight {
    /// Everybody of this tenant may find the room and enter it.
    pub fn is_listed(&self) -> bool {
        is_listed(&self.view.summary)
    }

    /// The visitor is a joined member.
    pub fn is_joined(&self) -> bool {
        membership(self.member.as_ref()) == Membership::Join
    }

    /// Its joined members by id, as many as are named with a room.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn members(&self, actions: &Actions) -> Result<Arc<Vec<OwnedUserId>>, ActionError> {
        let (known, state) = (&actions.members_known.0, self.view.tip.state);
        if let Some((_, members)) = known.get(&self.room.id).filter(|(then, _)| *then == state) {
            return Ok(members);
        }
        let members = Arc::new(self.read_members().await?);
        // Nothing is kept of a room that leaves no trace.
        if !actions.incognito_rooms.read().contains(&self.room.id) {
            known.insert(self.room.id.clone(), (state, Arc::clone(&members)));
        }
        Ok(members)
    }

    async fn read_members(&self) -> Result<Vec<OwnedUserId>, ActionError> {
        let mut joined = Vec::new();
        let mut rest = KeyRange::all();
        loop {
            let limit = Limit::rows(MEMBERS_MAX);
            let page = self.room.store.scan(&MEMBERS, &self.room.home, rest.clone(), Direction::Up, limit).await?;
            let Some(last) = page.rows.last().map(|(last, _)| last.clone()) else { return Ok(joined) };
            let is_joined = |(_, member): &(OwnedUserId, Member)| member.membership == Membership::Join;
            joined.extend(page.rows.into_iter().filter(is_joined).map(|(user_id, _)| user_id));
            joined.truncate(MEMBERS_MAX);
            if !page.more || joined.len() == MEMBERS_MAX {
                return Ok(joined);
            }
            rest = rest.after(&last);
        }
    }
}

/// The listed rooms by name, then those that the visitor is in and that are not listed.
///
/// # Errors
/// When storage cannot be read.
pub async fn list(actions: &Actions, visitor: Option<&Caller>) -> Result<Vec<Sight>, ActionError> {
    let (listed, _) = actions.directory.walk(actions, &Search::default(), &Start::Beginning, ROOMS_MAX).await?;
    let mut sights = Vec::with_capacity(listed.len());
    for (_, room_id) in listed {
        let sight = sight(actions, visitor, room_id).await?;
        sights.extend(sight.filter(Sight::is_listed));
    }
    if let Some(visitor) = visitor {
        let mut own = personal::rooms_of(actions, &visitor.user_id).await?;
        own.retain(|(_, row)| row.membership == Membership::Join && !row.is_workspace);
        let mut of_their_own = Vec::new();
        for (room_id, _) in own.into_iter().take(ROOMS_MAX) {
            let sight = sight(actions, Some(visitor), room_id).await?;
            of_their_own.extend(sight.filter(|sight| sight.is_joined() && !sight.is_listed()));
        }
        sights.append(&mut of_their_own);
    }
    Ok(sights)
}

/// One room that the visitor may see: a listed one, or one that they are in.
///
/// # Errors
/// [`ActionError::RoomNotFound`] alike for unknown and hidden rooms.
pub async fn look(actions: &Actions, visitor: Option<&Caller>, reference: &str) -> Result<Sight, ActionError> {
    let room_id = rooms::id_of(actions, reference).await?.ok_or(ActionError::RoomNotFound)?;
    let sight = sight(actions, visitor, room_id).await?;
    sight.filter(|sight| sight.is_listed() || sight.is_joined()).ok_or(ActionError::RoomNotFound)
}

async fn sight(
    actions: &Actions,
    visitor: Option<&Caller>,
    room_id: OwnedRoomId,
) -> Result<Option<Sight>, ActionError> {
    if actions.is_purging(&room_id) {
        return Ok(None);
    }
    let room = actions.room(&room_id);
    let Some(view) = room.view().await? else { return Ok(None) };
    let member = match visitor {
        Some(visitor) => room.store.get(&MEMBERS, &room.home, &visitor.user_id).await?,
        None => None,
    };
    Ok(Some(view).filter(|view| view.is_visible_to(member.as_ref())).map(|view| Sight { room, view, member }))
}

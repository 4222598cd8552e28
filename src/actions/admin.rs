//! The rooms of this server as its admins list them: hidden ones included, incognito ones never.

use rules::{
    UnixMs,
    kind::{RoomKind, RoomState},
};
use ruma::{OwnedRoomId, OwnedUserId};

use super::{
    ActionError, Actions, Caller, Page, Window, accounts::must_be_admin, rooms::Federation, rows, summary,
    view::RoomView,
};
use crate::storage::{
    Direction, Home,
    history::{RoomListing, Summary},
    keyspaces::{ROOMS, SUMMARY},
};

/// Which rooms are looked for.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// A part of the name, the alias or the id, whatever the case.
    pub text: Option<String>,
    /// Only rooms of this type; none: all but workspaces.
    pub kind: Option<RoomKind>,
    /// Only rooms in this state.
    pub state: Option<RoomState>,
}

/// A room as admins see it who are not in it.
#[derive(Clone, Debug)]
pub struct AdminRoom {
    /// Its id.
    pub room_id: OwnedRoomId,
    /// Its name.
    pub name: Option<String>,
    /// Its alias.
    pub alias: Option<String>,
    /// Its type.
    pub kind: RoomKind,
    /// Open, archived or closed.
    pub state: RoomState,
    /// Who created it.
    pub creator: OwnedUserId,
    /// Joined members.
    pub members: u64,
    /// Members of other servers, invited ones included.
    pub foreign: u64,
    /// Everybody may find and enter it.
    pub is_public: bool,
    /// Whether other servers take part.
    pub federation: Federation,
    /// The workspace it belongs to.
    pub workspace_id: Option<OwnedRoomId>,
    /// When it was made.
    pub created_at: UnixMs,
    /// When the last event arrived.
    pub last_activity_at: UnixMs,
}

/// Rooms by id, and how many there are in all. The list of rooms is read whole, a part at a time; with a text or a state what each room is, too.
///
/// # Errors
/// A caller who is no admin.
pub async fn rooms(
    actions: &Actions,
    caller: &Caller,
    search: &Search,
    window: Window,
) -> Result<Page<AdminRoom>, ActionError> {
    must_be_admin(caller)?;
    let is_of_kind = |listing: &RoomListing| match search.kind {
        Some(kind) => listing.kind == kind,
        None => listing.kind != RoomKind::Workspace,
    };
    let (home, store) = (Home::server(), actions.store());
    let is_search = search.text.is_some() || search.state.is_some();
    let read = if is_search { Window::ALL } else { window };
    let mut page = rows::page(store, &ROOMS, &home, Direction::Up, is_of_kind, None, read).await?.map(|(id, _)| id);
    if is_search {
        let mut found = Vec::new();
        for room_id in page.entries {
            let summary = store.get(&SUMMARY, &Home::room(&room_id), &()).await?;
            found.extend(summary.filter(|summary| matches(&room_id, summary, search)).map(|_| room_id));
        }
        page = Page::of(found, window);
    }
    let mut entries = Vec::with_capacity(page.entries.len());
    for room_id in page.entries {
        entries.extend(describe(actions, room_id).await?);
    }
    Ok(Page { entries, total: page.total })
}

fn matches(room_id: &OwnedRoomId, summary: &Summary, search: &Search) -> bool {
    let text = search.text.as_ref().map(|text| text.to_lowercase());
    let has = |text: &String| {
        let texts = [summary.name.as_deref(), summary.alias.as_deref(), Some(room_id.as_str())];
        texts.into_iter().flatten().any(|field| field.to_lowercase().contains(text))
    };
    search.state.is_none_or(|state| state == summary.state) && text.as_ref().is_none_or(has)
}

/// The room; none: it is gone since the list was read. It is not kept in memory only because an admin lists it.
async fn describe(actions: &Actions, room_id: OwnedRoomId) -> Result<Option<AdminRoom>, ActionError> {
    let Some(view) = RoomView::load(actions.store(), &Home::room(&room_id)).await? else { return Ok(None) };
    let (federation, summary) = (Federation::of(&view), Summary::clone(&view.summary));
    Ok(Some(AdminRoom {
        is_public: summary::is_listed(&summary),
        name: summary.name,
        alias: summary.alias,
        kind: summary.kind,
        state: summary.state,
        creator: summary.creator,
        members: summary.joined,
        foreign: summary.foreign,
        federation,
        workspace_id: summary.workspace_id,
        created_at: summary.created_at,
        last_activity_at: view.tip.last_activity,
        room_id,
    }))
}

//! Which rooms of this server somebody can see: the listed ones, and their own.

use std::{collections::BTreeMap, sync::Arc};

use rules::kind::RoomKind;
use ruma::OwnedRoomId;

use super::{
    ActionError, Actions, Caller, personal,
    rooms::{self, RoomPage},
    rows,
    view::RoomView,
};
use crate::storage::{
    Home, KeyRange,
    keyspaces::{MEMBERS, ROOMS},
};

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
    offset: usize,
    limit: usize,
) -> Result<RoomPage, ActionError> {
    let mut found = BTreeMap::new();
    for room_id in candidates(actions, caller).await? {
        let room = actions.room(&room_id);
        let Some(view) = room.view().await? else { continue };
        if matches!(view.summary.kind, RoomKind::Incognito | RoomKind::Workspace) || !matches(&view, search) {
            continue;
        }
        let member = room.store.get(&MEMBERS, &room.home, &caller.user_id).await?;
        if view.is_visible_to(member.as_ref()) {
            let name = view.summary.name.clone().unwrap_or_default().to_lowercase();
            found.insert((name, room_id), (room, view));
        }
    }
    let total = found.len();
    let page = found.into_values().skip(offset).take(limit).collect();
    Ok(RoomPage { rooms: rooms::describe_all(actions, caller, page).await?, total })
}

/// Listed rooms and rooms that the caller has to do with, each once.
async fn candidates(actions: &Actions, caller: &Caller) -> Result<Vec<OwnedRoomId>, ActionError> {
    let mut rooms: Vec<OwnedRoomId> =
        personal::rooms_of(actions, &caller.user_id).await?.into_iter().map(|(room_id, _)| room_id).collect();
    let listings = rows::all(&actions.store, &ROOMS, &Home::server(), KeyRange::all()).await?;
    rooms.extend(listings.into_iter().filter(|(_, listing)| listing.is_listed).map(|(room_id, _)| room_id));
    rooms.sort();
    rooms.dedup();
    Ok(rooms)
}

fn matches(view: &Arc<RoomView>, search: &Search) -> bool {
    let summary = &view.summary;
    if search.kind.is_some_and(|kind| kind != summary.kind) {
        return false;
    }
    let Some(text) = search.text.as_ref().map(|text| text.to_lowercase()) else { return true };
    let texts = [&summary.name, &summary.topic, &summary.alias];
    texts.into_iter().flatten().any(|field| field.to_lowercase().contains(&text))
}

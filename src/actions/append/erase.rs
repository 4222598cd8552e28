//! The last things that are written to a room: its people leave, then its own rows go.

use std::sync::Arc;

use rules::draft::Draft;
use ruma::{CanonicalJsonObject, OwnedUserId};

use super::Writer;
use crate::{
    actions::{ActionError, Actions, lane::Room, members::membership, purge::Pass},
    storage::{
        Commit, Direction, Home, KeyRange, Limit, StateTree,
        keyspaces::{EVENT_IDS, EVENTS, MEMBERS},
    },
};

/// Rows of content that one commit removes.
const IDS_AT_A_TIME: usize = 500;

impl Writer {
    /// [`Writer::enter`], even when the room's rows are about to go.
    pub(super) async fn enter_even_purging(actions: &Actions, room: &Arc<Room>) -> Result<Option<Self>, ActionError> {
        let mut writer = Self::enter_any(actions, room).await?;
        if writer.working.view.is_none() {
            writer.working.view = room.view_even_hidden().await?;
        }
        let Some(view) = writer.working.view.as_deref().cloned() else { return Ok(None) };
        writer.base = Some(view.tip.clone());
        writer.base_summary = Some(Arc::clone(&view.summary));
        writer.next = Some(view);
        Ok(Some(writer))
    }
}

/// Lets people leave a room that is about to go, decline its invite or withdraw a knock. Whom the rules do not let leave stays.
///
/// # Errors
/// When storage cannot be read or written.
pub async fn leave(actions: &Actions, room: &Arc<Room>, people: &[OwnedUserId]) -> Result<(), ActionError> {
    let Some(mut writer) = Writer::enter_even_purging(actions, room).await? else { return Ok(()) };
    for user_id in people {
        let member = writer.get(&MEMBERS, user_id).await?;
        if !membership(member.as_ref()).is_involved() {
            continue;
        }
        match writer.stage(user_id, Draft::member(user_id, "leave", CanonicalJsonObject::new())).await {
            Ok(_) => {}
            Err(refused @ ActionError::RoomForbidden { .. }) => {
                tracing::warn!(room.id = %room.id, error = %refused, "`{user_id}` cannot leave: {refused}");
            }
            Err(error) => return Err(error),
        }
    }
    writer.commit().await?;
    Ok(())
}

/// Deletes the rows of a room, or weighs them. Nobody may write to it any more when they are deleted.
///
/// # Errors
/// When storage cannot be read or written.
pub async fn erase(room: &Room, pass: &mut Pass<'_>) -> Result<(), ActionError> {
    let (store, home) = (&room.store, &room.home);
    // Weighing disturbs nobody. Before deleting, what the last writers handed over has to be on disk.
    let working = match pass {
        Pass::Weigh(_) => None,
        Pass::Remove(_) => Some(room.enter().await?),
    };
    if working.is_some() {
        store.commit(Commit::new(home.clone())).await?;
    }
    let mut rest = KeyRange::all();
    loop {
        let page = store.scan(&EVENTS, home, rest.clone(), Direction::Up, Limit::rows(IDS_AT_A_TIME)).await?;
        let Some(last) = page.rows.last().map(|(last, _)| *last) else { break };
        let mut commit = Commit::new(Home::content());
        for (_, event) in &page.rows {
            commit.delete(&EVENT_IDS, &event.event_id);
        }
        pass.take(store, vec![commit]).await?;
        pass.step(page.rows.len());
        if !page.more {
            break;
        }
        rest = rest.after(&last);
    }
    let mut commit = Commit::new(home.clone());
    commit.delete_home();
    pass.take(store, vec![commit]).await?;
    if let Some(mut working) = working {
        StateTree::new(store, home.clone()).forget();
        room.forget(&mut working);
    }
    Ok(())
}

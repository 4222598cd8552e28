//! Taking a room off the disk or out of memory: all of its own rows, at once.

use crate::{
    actions::{ActionError, lane::Room},
    storage::{
        Commit, Direction, Home, KeyRange, Limit, StateTree,
        keyspaces::{
            EVENT_IDS, EVENTS, MEMBERS, OWN_MESSAGES, REDACTIONS, ROOM_SETTINGS, SENT_UNDER, STATE_KEYS, STATE_NODES,
            SUMMARY, TIMELINE, TIP,
        },
    },
};

/// Rows of content that one commit removes.
const IDS_AT_A_TIME: usize = 500;

/// Deletes the rows of a room. Nobody may write to it any more.
///
/// # Errors
/// When storage cannot be read or written.
pub async fn erase(room: &Room) -> Result<(), ActionError> {
    let mut working = room.enter().await?;
    let (store, home) = (&room.store, &room.home);
    let mut rest = KeyRange::all();
    loop {
        let page = store.scan(&EVENTS, home, rest.clone(), Direction::Up, Limit::rows(IDS_AT_A_TIME)).await?;
        let mut commit = Commit::new(Home::content());
        for (_, event) in &page.rows {
            commit.delete(&EVENT_IDS, &event.event_id);
        }
        store.commit(commit).await?;
        match page.rows.last() {
            Some((last, _)) if page.more => rest = rest.after(last),
            _ => break,
        }
    }
    let mut commit = Commit::new(home.clone());
    commit.delete_all(&EVENTS).delete_all(&TIMELINE).delete_all(&TIP).delete_all(&SUMMARY).delete_all(&MEMBERS);
    commit.delete_all(&OWN_MESSAGES).delete_all(&REDACTIONS).delete_all(&SENT_UNDER).delete_all(&ROOM_SETTINGS);
    commit.delete_all(&STATE_KEYS).delete_all(&STATE_NODES);
    store.commit(commit).await?;
    StateTree::new(store, home.clone()).forget();
    room.forget(&mut working);
    Ok(())
}

//! What servers that are kept out of a room do not get, and giving it to them when they are let in again.

use std::sync::Arc;

use ruma::{OwnedServerName, ServerName};

use super::{ActionError, Actions, Writer};
use crate::{
    actions::{lane::Room, rows},
    storage::{
        ChangeKind, Home, KeyRange,
        keyspaces::{EVENTS, HELD},
    },
};

/// Numbers of events that one row of the feed gives back: as many as one transaction holds.
const NUMBERS_AT_A_TIME: u64 = 50;
/// Servers that one row of the feed names.
const SERVERS_AT_A_TIME: usize = 200;

/// Writes down that a server does not get what comes from this number on, because it is kept out of the room. Answers whether it is: who is let in meanwhile
/// gets it at once.
///
/// # Errors
/// When the room's turn does not come, or storage cannot be read or written.
pub async fn hold_back(
    actions: &Actions,
    room: &Arc<Room>,
    server: &ServerName,
    first: u64,
) -> Result<bool, ActionError> {
    let Some(mut writer) = Writer::enter_even_purging(actions, room).await? else { return Ok(true) };
    if writer.view()?.admits(server) {
        return Ok(false);
    }
    let (server, behind) = (server.to_owned(), first.saturating_sub(1));
    if writer.get(&HELD, &server).await?.is_none_or(|held| held > behind) {
        writer.commit.put(&HELD, &server, &behind);
        writer.commit().await?;
    }
    Ok(true)
}

/// Owes the servers that may take part again what was held back from them, oldest first, a part with each row of the feed; of more than `events_max` only what
/// nothing follows. Goes on where an earlier try was left. Answers how many servers there were.
///
/// # Errors
/// As [`hold_back`].
pub async fn give_back(actions: &Actions, room: &Arc<Room>, events_max: u64) -> Result<usize, ActionError> {
    let Some(view) = room.view().await? else { return Ok(0) };
    let last = view.tip.next_arrival.get().saturating_sub(1);
    let mut held = rows::all(&room.store, &HELD, &room.home, KeyRange::all()).await?;
    held.retain(|(server, _)| view.admits(server));
    for some in held.chunks(SERVERS_AT_A_TIME) {
        let (few, many): (Vec<_>, Vec<_>) =
            some.iter().cloned().partition(|(_, behind)| last.saturating_sub(*behind) <= events_max);
        if let Some(oldest) = few.iter().map(|(_, behind)| *behind).min() {
            let mut first = oldest + 1;
            while first <= last {
                let until = last.min(first + NUMBERS_AT_A_TIME - 1);
                owe_again(actions, room, &few, (first, until), until == last).await?;
                first = until + 1;
            }
        }
        if !many.is_empty() {
            let heads = heads(room).await?;
            for (turn, number) in heads.iter().enumerate() {
                owe_again(actions, room, &many, (*number, *number), turn + 1 == heads.len()).await?;
            }
        }
    }
    Ok(held.len())
}

/// The numbers of the events that nothing follows.
async fn heads(room: &Room) -> Result<Vec<u64>, ActionError> {
    let Some(view) = room.view().await? else { return Ok(Vec::new()) };
    let rows = rows::Rows::on_disk(&room.store, &room.home);
    let mut numbers = Vec::new();
    for head in &view.tip.heads {
        let Some(arrival) = rows.arrival_of(&head.event_id).await? else { continue };
        let stored = rows.get(&EVENTS, &arrival).await?;
        numbers.push(stored.and_then(|stored| stored.came_again).unwrap_or(arrival).get());
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// One row of the feed: the servers get the events of these numbers, as far as they were held back.
async fn owe_again(
    actions: &Actions,
    room: &Arc<Room>,
    held: &[(OwnedServerName, u64)],
    (first, until): (u64, u64),
    is_last: bool,
) -> Result<(), ActionError> {
    let Some(mut writer) = Writer::enter(actions, room).await? else { return Ok(()) };
    for (server, behind) in held.iter().filter(|(_, behind)| *behind < until) {
        // Meanwhile it may be kept out again.
        if !writer.view()?.admits(server) || writer.get(&HELD, server).await?.is_none() {
            continue;
        }
        for number in [first.max(behind + 1), until] {
            writer.commit.change_about(ChangeKind::Owed, Home::peer(server), number);
        }
        if is_last {
            writer.commit.delete(&HELD, server);
        } else {
            writer.commit.put(&HELD, server, &until);
        }
    }
    writer.owed_from.get_or_insert(first);
    writer.commit().await?;
    Ok(())
}

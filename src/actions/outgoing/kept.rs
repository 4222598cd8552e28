//! What peers lack, on disk: up to where everybody has everything, and who is behind that. And what administrators are told of them.

use std::collections::HashMap;

use rules::UnixMs;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName};

use super::{Behind, Noted, earlier, reading};
use crate::{
    actions::{ActionError, Actions, rows},
    storage::{
        ChangeKind, Commit, Home, KeyRange, Limit, Position,
        keyspaces::{BEHIND, OUTBOX, PEER_FACTS, PEER_ROOMS},
        peers::PeerFacts,
    },
};

/// Rows of peers that one commit writes.
const PEERS_AT_A_TIME: usize = 500;
/// Rows of the feed that are read at once.
const ROWS_AT_ONCE: usize = 1_000;
/// Rows of the feed after which is written down that nobody is behind.
const UNWRITTEN_ROWS_MAX: u64 = 5_000;

/// What the rows say now.
#[derive(Default)]
pub(super) struct OnDisk {
    outbox: Position,
    behind: HashMap<OwnedServerName, Position>,
}

fn position_of(token: &str) -> Position {
    Position::from_token(token).unwrap_or_default()
}

/// Finds out what peers lack: what was written down, and what the feed says since then.
pub(super) async fn load(actions: &Actions) -> Result<(), ActionError> {
    let (store, home) = (&actions.store, Home::server());
    let outbox = store.get(&OUTBOX, &home, &()).await?.map(|token| position_of(&token)).unwrap_or_default();
    let behind = rows::all(store, &BEHIND, &home, KeyRange::all()).await?;
    let until = store.position();
    {
        let mut state = actions.outgoing.state.lock();
        for (server, token) in behind {
            let from = position_of(&token);
            state.on_disk.behind.insert(server.clone(), from);
            state.behind.insert(server, Behind { from, until, catching_up: None });
        }
        state.on_disk.outbox = outbox;
    }
    let mut at = outbox;
    while !at.has_reached(until) {
        let rows = store.feed(at, Limit::rows(ROWS_AT_ONCE)).await?;
        let Some(last) = rows.last().map(|row| row.position) else { return Ok(()) };
        if rows.first().is_some_and(|row| at.distance_to(row.position) != 1) {
            return everybody_is_behind(actions, at, until).await;
        }
        let mut rooms: HashMap<_, Noted> = HashMap::new();
        for row in &rows {
            for change in row.changes.iter().filter(|change| change.kind == ChangeKind::Owed) {
                let Some(room_id) = change.home.as_room() else { continue };
                let fresh = Noted { behind: row.position.before(), until: row.position, first: change.first };
                rooms.entry(room_id).or_insert(fresh).until = row.position;
            }
        }
        let mut news = Vec::with_capacity(rooms.len());
        for (room_id, noted) in rooms {
            news.push((reading::servers_of(actions, &room_id, noted.first).await?, noted));
        }
        actions.outgoing.add(&news);
        at = last;
    }
    Ok(())
}

/// The feed no longer says what happened since then: whoever was in a room may lack something.
async fn everybody_is_behind(actions: &Actions, from: Position, until: Position) -> Result<(), ActionError> {
    let mut after: Option<(Home, ruma::OwnedRoomId)> = None;
    loop {
        let start = after.as_ref().map(|(home, room_id)| (home, room_id));
        let page = actions.store.scan_homes(&PEER_ROOMS, start, Limit::max()).await?;
        let mut servers: Vec<OwnedServerName> = page.rows.iter().filter_map(|(home, ..)| home.as_peer()).collect();
        servers.dedup();
        let mut state = actions.outgoing.state.lock();
        for server in servers {
            state.behind.entry(server).or_insert(Behind { from, until, catching_up: None });
        }
        drop(state);
        match page.rows.into_iter().next_back() {
            Some((home, room_id, ())) if page.more => after = Some((home, room_id)),
            _ => return Ok(()),
        }
    }
}

/// What has to be written, so that the rows say what is in memory.
struct Difference {
    outbox: Position,
    put: Vec<(OwnedServerName, Position)>,
    delete: Vec<OwnedServerName>,
}

/// Writes down what peers lack, where that has changed.
pub(super) async fn keep(actions: &Actions, is_last: bool) -> Result<(), ActionError> {
    keep_facts(actions).await?;
    let Some(difference) = difference(actions, is_last) else { return Ok(()) };
    let written = write(actions, difference).await;
    if written.is_err() {
        actions.outgoing.state.lock().is_changed = true;
    }
    written
}

async fn write(actions: &Actions, difference: Difference) -> Result<(), ActionError> {
    let Difference { outbox, put, delete } = difference;
    for some in put.chunks(PEERS_AT_A_TIME) {
        let mut commit = Commit::new(Home::server());
        for (server, from) in some {
            commit.put(&BEHIND, server, &from.to_token());
        }
        actions.store.commit(commit).await?;
    }
    // Those who are no longer behind only together with the position, or behind it: before, it is not yet true of them.
    let mut commit = Commit::new(Home::server());
    commit.put(&OUTBOX, &(), &outbox.to_token());
    actions.store.commit(commit).await?;
    for some in delete.chunks(PEERS_AT_A_TIME) {
        let mut commit = Commit::new(Home::server());
        for server in some {
            commit.delete(&BEHIND, server);
        }
        actions.store.commit(commit).await?;
    }
    let mut state = actions.outgoing.state.lock();
    state.on_disk.outbox = outbox;
    state.on_disk.behind.extend(put);
    for server in delete {
        state.on_disk.behind.remove(&server);
    }
    Ok(())
}

/// What has to be written; none: nothing.
fn difference(actions: &Actions, is_last: bool) -> Option<Difference> {
    // In this order: what is visible was noted before.
    let seen = actions.store.position();
    let mut state = actions.outgoing.state.lock();
    let state = &mut *state;
    // Behind what is noted, those who lack something are not yet known.
    let outbox = state.noted.values().map(|news| news.behind).fold(seen, earlier);
    let is_far = state.on_disk.outbox.distance_to(outbox) > UNWRITTEN_ROWS_MAX;
    let is_due = state.is_changed || is_far || is_last;
    if !is_due || state.on_disk.outbox == outbox {
        return None;
    }
    state.is_changed = false;
    let changed = state.behind.iter().filter(|(server, now)| state.on_disk.behind.get(*server) != Some(&now.from));
    let put = changed.map(|(server, now)| (server.clone(), now.from)).collect();
    let gone = state.on_disk.behind.keys().filter(|server| !state.behind.contains_key(*server));
    let delete = gone.cloned().collect();
    Some(Difference { outbox, put, delete })
}

/// Writes down how it stands with peers of whom there is something new.
async fn keep_facts(actions: &Actions) -> Result<(), ActionError> {
    let touched = std::mem::take(&mut actions.outgoing.state.lock().touched);
    let Some(sending) = actions.outgoing.sending() else { return Ok(()) };
    for server in touched {
        let Ok(status) = sending.status(&server).await else { continue };
        let home = Home::peer(&server);
        let before = actions.store.get(&PEER_FACTS, &home, &()).await?.unwrap_or_default();
        let last_error = status.standing.last_error.map(|(at, text)| (time(at), text));
        let facts = PeerFacts {
            last_seen: status.standing.last_seen.map(time).or(before.last_seen),
            last_error: last_error.or(before.last_error),
        };
        let mut commit = Commit::new(home);
        commit.put(&PEER_FACTS, &(), &facts);
        actions.store.commit(commit).await?;
    }
    Ok(())
}

fn time(at: MilliSecondsSinceUnixEpoch) -> UnixMs {
    UnixMs(at.0.into())
}

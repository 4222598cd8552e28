//! Taking part in a room again together with servers that were kept out of it: they get what was held back, and are asked for what they have said meanwhile.
//! A job does it, so that it goes on after a crash; each part may be done twice.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use federation::{
    Pdu,
    limits::{BACKFILL_EVENTS_MAX, BACKFILL_FROM_MAX, TRANSACTION_PDUS_MAX},
    local::{LocalRooms as _, Wish},
};
use rules::{event::RawPdu, permission::Membership};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, ServerName};
use serde::Deserialize;
use serde_json::json;

use super::{
    ActionError, Actions, append,
    incoming::{
        self,
        guests::{self, Met},
        judging::{Given, Purpose},
        oldest_first,
    },
    peers::PeerError,
    remote_join::versions,
    rows,
};
use crate::storage::{
    Direction, KeyRange, Limit,
    keyspaces::{MEMBERS, SERVERS},
};

/// Servers that are asked what was said meanwhile, those with the most people first. What the others have said is asked for when they next say something.
const ASKED_MAX: usize = 50;
/// Bytes of events that are held until what is before them is known. Of more, only the last ones are taken, as from any server that was away.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Pauses after which servers are asked again that were not reached: longer than they are left alone after so many failures. In the end they tell by themselves.
const PAUSES: [Duration; 4] = [Duration::from_secs(3), Duration::from_secs(6), Duration::from_secs(12), Duration::ZERO];
/// Members that are looked at together.
const MEMBERS_AT_A_TIME: usize = 500;

/// The job.
///
/// # Errors
/// When storage cannot be read or written.
pub async fn work(actions: &Actions, room_id: &OwnedRoomId) -> Result<String, ActionError> {
    let room = actions.room(room_id);
    let given = append::give_back(actions, &room, actions.settings.resume_events_max).await?;
    let mut taken = 0;
    if let Some(met) = guests::find(actions, room_id).await? {
        let mut peers = suppliers(&met).await?;
        for pause in PAUSES {
            let mut unreached = Vec::new();
            for peer in peers {
                match pull(actions, &met, &peer).await {
                    Ok(events) => taken += events,
                    Err(Trouble::Ours(error)) => return Err(error),
                    Err(Trouble::Peer(error)) => {
                        tracing::info!(room.id = %room_id, peer = %peer, "What `{peer}` said meanwhile is not known: {error}");
                        unreached.extend((error == PeerError::Unreachable).then_some(peer));
                    }
                }
            }
            peers = unreached;
            if peers.is_empty() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
    }
    Ok(json!({ "room_id": room_id, "servers": given, "events": taken }).to_string())
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Peer(#[from] PeerError),
    #[error("{0}")]
    Ours(#[from] ActionError),
}

async fn suppliers(met: &Met) -> Result<Vec<OwnedServerName>, ActionError> {
    let mut servers = rows::all(&met.room.store, &SERVERS, &met.room.home, KeyRange::all()).await?;
    servers.retain(|(server, _)| met.view.admits(server));
    servers.sort_by_key(|(_, people)| std::cmp::Reverse(*people));
    Ok(servers.into_iter().map(|(server, _)| server).take(ASKED_MAX).collect())
}

/// Somebody of this server in the room, for whom a server may be asked where the room ends.
async fn somebody(actions: &Actions, met: &Met) -> Result<Option<OwnedUserId>, ActionError> {
    let mut rest = KeyRange::all();
    loop {
        let limit = Limit::rows(MEMBERS_AT_A_TIME);
        let page = met.room.store.scan(&MEMBERS, &met.room.home, rest.clone(), Direction::Up, limit).await?;
        let found = page
            .rows
            .iter()
            .find(|(user_id, member)| actions.is_local(user_id) && member.membership == Membership::Join);
        match (found, page.rows.last()) {
            (Some((user_id, _)), _) => return Ok(Some(user_id.clone())),
            (None, Some((last, _))) if page.more => rest = rest.after(last),
            _ => return Ok(None),
        }
    }
}

/// Takes in what a peer has and we do not, back to what is known here. Answers how many events it gave.
async fn pull(actions: &Actions, met: &Met, peer: &ServerName) -> Result<usize, Trouble> {
    let ends = ends_at(actions, met, peer).await?;
    if ends.is_empty() {
        return Ok(0);
    }
    let events = match walk_back(actions, met, peer, &ends).await? {
        Some(events) => events,
        None => {
            let mut last = Vec::new();
            for id in &ends {
                last.extend(Given::read(met, RawPdu(actions.peers().event(peer, id).await?), Purpose::Timeline));
            }
            last
        }
    };
    let count = events.len();
    let mut events = oldest_first(events, Given::named).into_iter();
    loop {
        let some: Vec<Pdu> = events.by_ref().take(TRANSACTION_PDUS_MAX).map(|event| event.raw.0).collect();
        if some.is_empty() {
            break;
        }
        actions.receive(peer, &met.room.id, some).await;
    }
    incoming::catch_up(actions, &met.room.id).await?;
    Ok(count)
}

/// The events with which the room ends there, as far as they are not here: those that a membership event of ours would follow.
async fn ends_at(actions: &Actions, met: &Met, peer: &ServerName) -> Result<Vec<OwnedEventId>, Trouble> {
    #[derive(Deserialize)]
    struct Proposed {
        prev_events: Vec<OwnedEventId>,
    }
    let Some(user_id) = somebody(actions, met).await? else { return Ok(Vec::new()) };
    let peers = actions.peers();
    let template = peers.membership_template(peer, &met.room.id, &user_id, Wish::Leave, &versions()).await?;
    let proposed: Proposed = serde_json::from_str(template.event.get()).map_err(|_other| PeerError::Unreadable)?;
    let mut unknown = Vec::new();
    for id in proposed.prev_events.into_iter().take(BACKFILL_FROM_MAX) {
        if !met.rows().is_in_room(&id).await? {
            unknown.push(id);
        }
    }
    Ok(unknown)
}

/// Everything between these events and what is here; none: that is too much.
async fn walk_back(
    actions: &Actions,
    met: &Met,
    peer: &ServerName,
    ends: &[OwnedEventId],
) -> Result<Option<Vec<Given>>, Trouble> {
    let events_max = usize::try_from(actions.settings.resume_events_max).unwrap_or(usize::MAX);
    let (mut given, mut bytes): (HashMap<OwnedEventId, Given>, usize) = (HashMap::new(), 0);
    let mut open: Vec<OwnedEventId> = ends.to_vec();
    while !open.is_empty() {
        if given.len() >= events_max || bytes >= BYTES_MAX {
            return Ok(None);
        }
        let from: Vec<OwnedEventId> = open.iter().take(BACKFILL_FROM_MAX).cloned().collect();
        let pdus = actions.peers().backfill(peer, &met.room.id, &from, BACKFILL_EVENTS_MAX).await?;
        let mut wanted = std::mem::take(&mut open);
        let mut page: HashMap<OwnedEventId, Given> = HashMap::new();
        for pdu in pdus.into_iter().take(BACKFILL_EVENTS_MAX) {
            page.extend(Given::read(met, RawPdu(pdu), Purpose::Timeline).map(|event| (event.event_id.clone(), event)));
        }
        let before = given.len();
        let mut seen: HashSet<OwnedEventId> = HashSet::new();
        while let Some(id) = wanted.pop() {
            if given.contains_key(&id) || !seen.insert(id.clone()) || met.rows().is_in_room(&id).await? {
                continue;
            }
            match page.remove(&id) {
                None => open.push(id),
                Some(event) => {
                    wanted.extend(event.prev_events.iter().cloned());
                    bytes += event.raw.0.get().len();
                    given.insert(id, event);
                }
            }
        }
        if given.len() == before {
            // It does not give them. What follows them waits, and others are asked.
            break;
        }
    }
    Ok(Some(given.into_values().collect()))
}

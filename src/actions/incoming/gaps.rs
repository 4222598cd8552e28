//! Filling the hole before an event: the events between what is held and the event are asked for, a bounded number of them; where the hole is deeper, the state
//! before its near end is, and the hole stays behind.

use std::collections::{HashMap, HashSet};

use federation::{limits::MISSING_EVENTS_MAX, local::Gap};
use rules::{WellFormedPdu, event::RawPdu};
use ruma::{OwnedEventId, OwnedServerName};

use super::{
    Taken, claims,
    claims::NotGiven,
    guests::Met,
    is_in_room,
    judging::{self, Purpose},
    oldest_first,
    staging::Waiting,
    take,
};
use crate::{
    actions::{
        ActionError, Actions,
        append::{Before, Remote, Slot},
        rows,
    },
    storage::{
        KeyRange,
        keyspaces::{MISSING, SERVERS},
    },
};

/// How often events of one hole are asked for.
const ROUNDS_MAX: usize = 10;
/// Events before one that are asked for in all. Other servers count on an end below 250.
const EVENTS_MAX: usize = 200;
/// Events named as what we have.
const EARLIEST_MAX: usize = 20;
/// Ends of a hole for which a state is asked for.
const ENDS_MAX: usize = 20;

const _: () = assert!(ROUNDS_MAX * MISSING_EVENTS_MAX <= EVENTS_MAX && EVENTS_MAX < 250);

/// An event that a peer gave, its form checked and no more.
struct Given {
    pdu: WellFormedPdu,
    raw: RawPdu,
    prev_events: Vec<OwnedEventId>,
}

/// Asks peers for what an event waits for, and takes in what they give. Whether that was enough shows when the event is tried again.
pub(super) async fn fill(actions: &Actions, met: &Met, waiting: &Waiting, pdu: &RawPdu) -> Result<(), ActionError> {
    let Some(peer) = whom_to_ask(actions, met, waiting).await? else { return Ok(()) };
    let Some(event) = judging::shape(pdu, &met.version(), Purpose::Timeline) else { return Ok(()) };
    match fill_from(actions, met, &peer, &event, pdu).await {
        Ok(()) => Ok(()),
        Err(NotGiven::Failed(error)) => Err(error),
        Err(error) => {
            tracing::info!(room.id = %met.room.id, peer = %peer, "What is before {} cannot be had: {error}", waiting.event_id);
            Ok(())
        }
    }
}

/// The server that brought the event first, then others of the room in turn.
async fn whom_to_ask(actions: &Actions, met: &Met, waiting: &Waiting) -> Result<Option<OwnedServerName>, ActionError> {
    let mut servers = vec![waiting.origin.clone()];
    if waiting.tries > 0 {
        let others = rows::all(&met.room.store, &SERVERS, &met.room.home, KeyRange::all()).await?;
        servers.extend(others.into_iter().map(|(server, _)| server).filter(|server| *server != waiting.origin));
    }
    let turn = usize::try_from(waiting.tries).unwrap_or(usize::MAX) % servers.len();
    Ok(servers.into_iter().nth(turn).filter(|server| *server != actions.server_name && met.view.admits(server)))
}

async fn fill_from(
    actions: &Actions,
    met: &Met,
    peer: &OwnedServerName,
    event: &WellFormedPdu,
    raw: &RawPdu,
) -> Result<(), NotGiven> {
    if met.rows().get(&MISSING, event.event_id()).await?.is_some() {
        // What is shown already follows it: it belongs to the past, and so does what is before it.
        let entries = claims::claim(actions, met, peer, event.event_id()).await?;
        take(actions, met, peer, raw.clone(), Before::Claimed(entries), Slot::End, None).await?;
        return Ok(());
    }
    let given = ask(actions, met, peer, event).await;
    let mut ends = Vec::new();
    for given in oldest_first(given, |given| (given.pdu.event_id(), &given.prev_events)) {
        take_or_note(actions, met, peer, given, &mut ends).await?;
    }
    if !not_in_room(met, event.prev_events()).await?.is_empty() {
        bridge(actions, met, peer, event, ends).await?;
    }
    let mut auth_events = Vec::new();
    for id in event.auth_events() {
        if met.rows().arrival_of(id).await?.is_none() {
            auth_events.push(id.clone());
        }
    }
    if auth_events.is_empty() { Ok(()) } else { claims::gather_events(actions, met, peer, auth_events).await }
}

/// Takes an event in, with its auth events where they are missing; one behind a hole is noted.
async fn take_or_note(
    actions: &Actions,
    met: &Met,
    peer: &OwnedServerName,
    given: Given,
    ends: &mut Vec<Given>,
) -> Result<(), NotGiven> {
    let Given { pdu, raw, prev_events } = given;
    for is_first in [true, false] {
        let taken = take(actions, met, peer, raw.clone(), Before::Parents, Slot::End, None).await?;
        let Taken::Judged(Remote::Missing(missing)) = taken else { return Ok(()) };
        if missing.iter().any(|id| prev_events.contains(id)) {
            ends.push(Given { pdu, raw, prev_events });
            return Ok(());
        }
        if is_first {
            claims::gather_events(actions, met, peer, missing).await?;
        }
    }
    Ok(())
}

/// Where the hole is too deep: the state before its near end, from the peer, and the events from there on.
async fn bridge(
    actions: &Actions,
    met: &Met,
    peer: &OwnedServerName,
    event: &WellFormedPdu,
    ends: Vec<Given>,
) -> Result<(), NotGiven> {
    let mut near: Vec<OwnedEventId> = Vec::new();
    let named = ends.iter().flat_map(|end| &end.prev_events).chain(event.prev_events());
    let among: HashSet<&OwnedEventId> = ends.iter().map(|end| end.pdu.event_id()).collect();
    for id in named.filter(|id| !among.contains(id)) {
        if !near.contains(id) && !is_in_room(met, id).await? {
            near.push(id.clone());
        }
    }
    for id in near.into_iter().take(ENDS_MAX) {
        let entries = claims::claim(actions, met, peer, &id).await?;
        let raw = RawPdu(actions.peers().event(peer, &id).await?);
        let is_it = judging::shape(&raw, &met.version(), Purpose::Timeline).is_some_and(|pdu| *pdu.event_id() == id);
        if !is_it {
            return Err(NotGiven::Wrong("another event was given than was asked for"));
        }
        let taken = take(actions, met, peer, raw.clone(), Before::Claimed(entries.clone()), Slot::End, None).await?;
        if let Taken::Judged(Remote::Missing(missing)) = taken {
            claims::gather_events(actions, met, peer, missing).await?;
            take(actions, met, peer, raw, Before::Claimed(entries), Slot::End, None).await?;
        }
    }
    let mut left = Vec::new();
    for end in oldest_first(ends, |given| (given.pdu.event_id(), &given.prev_events)) {
        take_or_note(actions, met, peer, end, &mut left).await?;
    }
    Ok(())
}

/// Asks for the events before an event, again and again, until they reach what is held, nothing new comes, or it is enough.
async fn ask(actions: &Actions, met: &Met, peer: &OwnedServerName, event: &WellFormedPdu) -> Vec<Given> {
    let heads = &met.view.tip.heads;
    let mut given: HashMap<OwnedEventId, Given> = HashMap::new();
    let mut latest = vec![event.event_id().clone()];
    for _ in 0..ROUNDS_MAX {
        let gap = Gap {
            earliest: heads.iter().take(EARLIEST_MAX).map(|head| head.event_id.clone()).collect(),
            latest,
            depth_min: heads.iter().map(|head| head.depth).min().unwrap_or(0),
            events_max: MISSING_EVENTS_MAX,
        };
        let Ok(pdus) = actions.peers().missing_events(peer, &met.room.id, gap).await else { break };
        let before = given.len();
        for raw in pdus.into_iter().take(MISSING_EVENTS_MAX).map(RawPdu) {
            let Some(pdu) = judging::shape(&raw, &met.version(), Purpose::Timeline) else { continue };
            if *pdu.room_id() == met.room.id && pdu.event_id() != event.event_id() {
                let prev_events = pdu.prev_events().to_vec();
                given.entry(pdu.event_id().clone()).or_insert(Given { pdu, raw, prev_events });
            }
        }
        latest = ends_of(met, &given).await;
        if given.len() == before || latest.is_empty() {
            break;
        }
    }
    given.into_values().collect()
}

/// The given events whose predecessors are neither held nor given.
async fn ends_of(met: &Met, given: &HashMap<OwnedEventId, Given>) -> Vec<OwnedEventId> {
    let mut ends = Vec::new();
    for one in given.values() {
        let unknown: Vec<OwnedEventId> =
            one.prev_events.iter().filter(|id| !given.contains_key(*id)).cloned().collect();
        if ends.len() < ENDS_MAX && not_in_room(met, &unknown).await.is_ok_and(|missing| !missing.is_empty()) {
            ends.push(one.pdu.event_id().clone());
        }
    }
    ends.sort();
    ends
}

async fn not_in_room(met: &Met, ids: &[OwnedEventId]) -> Result<Vec<OwnedEventId>, ActionError> {
    let mut missing = Vec::new();
    for id in ids {
        if !is_in_room(met, id).await? {
            missing.push(id.clone());
        }
    }
    Ok(missing)
}

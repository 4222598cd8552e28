//! Filling the hole before an event: the events between what is held and the event are asked for, a bounded number of them; where the hole is deeper, the state
//! before its near end is, and the hole stays behind.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use federation::{limits::MISSING_EVENTS_MAX, local::Gap};
use rules::{WellFormedPdu, event::RawPdu};
use ruma::{OwnedEventId, OwnedServerName};

use super::{
    Taken, claims,
    claims::{Helpers, NotGiven},
    guests::Met,
    judging::{self, Given, Purpose},
    oldest_first,
    staging::Waiting,
    take,
};
use crate::{
    actions::{
        ActionError, Actions,
        append::{Before, Remote, Slot},
        peers::PeerError,
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
/// Servers that are asked about one hole in one try.
const SERVERS_MAX: usize = 3;
/// Tries in which whoever is not reached is waited for.
const PATIENT_TRIES: u32 = 3;
/// Ends of a hole for which a state is asked for.
const ENDS_MAX: usize = 20;

const _: () = assert!(ROUNDS_MAX * MISSING_EVENTS_MAX <= EVENTS_MAX && EVENTS_MAX < 250);

/// Events that peers gave, each with whoever gave it.
type AllGiven = HashMap<OwnedEventId, FromPeer>;
type FromPeer = (OwnedServerName, Given);

/// Asks peers for what an event waits for, and takes in what they give. Whether that was enough shows when the event is tried again.
pub(super) async fn fill(actions: &Actions, met: &Met, waiting: &Waiting, pdu: &RawPdu) -> Result<(), ActionError> {
    let Some(event) = judging::shape(pdu, &met.version(), Purpose::Timeline) else { return Ok(()) };
    let helpers = whom_to_ask(actions, met, &waiting.origin, waiting.tries).await?;
    match fill_from(actions, met, &helpers, &event, pdu).await {
        Ok(()) => Ok(()),
        Err(NotGiven::Failed(error)) => Err(error),
        Err(error) => {
            tracing::info!(room.id = %met.room.id, peer = %waiting.origin, "What is before {} cannot be had: {error}", waiting.event_id);
            Ok(())
        }
    }
}

/// The server that brought an event and others of the room; with each try another one comes first.
async fn whom_to_ask(
    actions: &Actions,
    met: &Met,
    origin: &OwnedServerName,
    tries: u32,
) -> Result<Helpers, ActionError> {
    let mut servers = vec![origin.clone()];
    let others = rows::all(&met.room.store, &SERVERS, &met.room.home, KeyRange::all()).await?;
    servers.extend(others.into_iter().map(|(server, _)| server).filter(|server| server != origin));
    servers.retain(|server| *server != actions.server_name && met.view.admits(server));
    if !servers.is_empty() {
        let first = usize::try_from(tries).unwrap_or(usize::MAX) % servers.len();
        servers.rotate_left(first);
    }
    servers.truncate(SERVERS_MAX);
    Ok(Helpers { peers: servers, is_patient: tries < PATIENT_TRIES })
}

async fn fill_from(
    actions: &Actions,
    met: &Met,
    helpers: &Helpers,
    event: &WellFormedPdu,
    raw: &RawPdu,
) -> Result<(), NotGiven> {
    let Some(first) = helpers.peers.first() else { return Ok(()) };
    if met.rows().get(&MISSING, event.event_id()).await?.is_some() {
        // What is shown already follows it: it belongs to the past, and so does what is before it.
        let claimed = claims::claim(actions, met, helpers, event.event_id()).await?;
        take(actions, met, first, raw.clone(), Before::Claimed(claimed), Slot::End, None).await?;
        return Ok(());
    }
    let given = ask(actions, met, helpers, event).await?;
    let mut ends = Vec::new();
    for given in oldest_first(given, |(_, given)| given.named()) {
        take_or_note(actions, met, helpers, given, &mut ends).await?;
    }
    if !not_in_room(met, event.prev_events()).await?.is_empty() {
        bridge(actions, met, helpers, event, ends).await?;
    }
    let mut auth_events = Vec::new();
    for id in event.auth_events() {
        if met.rows().arrival_of(id).await?.is_none() {
            auth_events.push(id.clone());
        }
    }
    if auth_events.is_empty() { Ok(()) } else { claims::gather_events(actions, met, helpers, auth_events).await }
}

/// Takes an event in, with its auth events where they are missing; one behind a hole is noted.
async fn take_or_note(
    actions: &Actions,
    met: &Met,
    helpers: &Helpers,
    (peer, given): FromPeer,
    ends: &mut Vec<FromPeer>,
) -> Result<(), NotGiven> {
    for is_first in [true, false] {
        let taken = take(actions, met, &peer, given.raw.clone(), Before::Parents, Slot::End, None).await?;
        let Taken::Judged(Remote::Missing(missing)) = taken else { return Ok(()) };
        if missing.iter().any(|id| given.prev_events.contains(id)) {
            ends.push((peer, given));
            return Ok(());
        }
        if is_first {
            claims::gather_events(actions, met, helpers, missing).await?;
        }
    }
    Ok(())
}

/// Where the hole is too deep: the state before its near end, as peers say, and the events from there on.
async fn bridge(
    actions: &Actions,
    met: &Met,
    helpers: &Helpers,
    event: &WellFormedPdu,
    ends: Vec<FromPeer>,
) -> Result<(), NotGiven> {
    let mut near: Vec<OwnedEventId> = Vec::new();
    let named = ends.iter().flat_map(|(_, end)| &end.prev_events).chain(event.prev_events());
    let among: HashSet<&OwnedEventId> = ends.iter().map(|(_, end)| &end.event_id).collect();
    for id in named.filter(|id| !among.contains(id)) {
        if !near.contains(id) && !met.rows().is_in_room(id).await? {
            near.push(id.clone());
        }
    }
    for id in near.into_iter().take(ENDS_MAX) {
        let claimed = claims::claim(actions, met, helpers, &id).await?;
        let Some((peer, raw)) = claims::fetch_one(actions, met, helpers, &id).await? else {
            return Err(NotGiven::Wrong("nobody gives the event before which the hole is"));
        };
        let before = Before::Claimed(claimed);
        let taken = take(actions, met, &peer, raw.clone(), before.clone(), Slot::End, None).await?;
        if let Taken::Judged(Remote::Missing(missing)) = taken {
            claims::gather_events(actions, met, helpers, missing).await?;
            take(actions, met, &peer, raw, before, Slot::End, None).await?;
        }
    }
    let mut left = Vec::new();
    for end in oldest_first(ends, |(_, given)| given.named()) {
        take_or_note(actions, met, helpers, end, &mut left).await?;
    }
    Ok(())
}

/// Asks peers, one after the other, for the events before an event, until they reach what is held or are too many.
async fn ask(
    actions: &Actions,
    met: &Met,
    helpers: &Helpers,
    event: &WellFormedPdu,
) -> Result<Vec<FromPeer>, NotGiven> {
    let mut given = AllGiven::new();
    let mut trouble = None;
    for peer in &helpers.peers {
        match ask_one(actions, met, peer, event, &mut given).await {
            Ok(()) => {}
            Err(NotGiven::Failed(error)) => return Err(error.into()),
            Err(error) => trouble = Some(error),
        }
        let (_, unknown) = before(met, event, &given).await?;
        if unknown.is_empty() || given.len() >= EVENTS_MAX {
            trouble = None;
            break;
        }
    }
    // Whoever was not reached may have what is missing: a state that somebody claims is no match for the events themselves.
    if let Some(trouble) = trouble.filter(|_| helpers.is_patient) {
        return Err(trouble);
    }
    let (ids, _) = before(met, event, &given).await?;
    Ok(ids.into_iter().filter_map(|id| given.remove(&id)).collect())
}

/// Asks for the events before an event, again and again, until they reach what is held, nothing new comes, or it is enough.
async fn ask_one(
    actions: &Actions,
    met: &Met,
    peer: &OwnedServerName,
    event: &WellFormedPdu,
    given: &mut AllGiven,
) -> Result<(), NotGiven> {
    let heads = &met.view.tip.heads;
    let mut latest = vec![event.event_id().clone()];
    for _ in 0..ROUNDS_MAX {
        let gap = Gap {
            earliest: heads.iter().take(EARLIEST_MAX).map(|head| head.event_id.clone()).collect(),
            latest,
            // Depths say nothing of forks: what is missing beside our heads may be less deep than they are.
            depth_min: 0,
            events_max: MISSING_EVENTS_MAX,
        };
        let count = given.len();
        match actions.peers().missing_events(peer, &met.room.id, gap).await {
            Ok(pdus) => pdus.into_iter().take(MISSING_EVENTS_MAX).for_each(|pdu| add(met, peer, event, pdu, given)),
            Err(PeerError::Refused(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let (_, unknown) = before(met, event, given).await?;
        if unknown.is_empty() || given.len() >= EVENTS_MAX {
            break;
        }
        if given.len() == count {
            // It may not hold what was asked about, and yet what is before it.
            for (id, _) in unknown.iter().take(ENDS_MAX) {
                match actions.peers().event(peer, id).await {
                    Ok(pdu) => add(met, peer, event, pdu, given),
                    Err(PeerError::Refused(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if given.len() == count {
                break;
            }
        }
        let (_, unknown) = before(met, event, given).await?;
        let ends: BTreeSet<OwnedEventId> = unknown.into_iter().map(|(_, named_by)| named_by).collect();
        latest = ends.into_iter().take(ENDS_MAX).collect();
    }
    Ok(())
}

fn add(met: &Met, peer: &OwnedServerName, event: &WellFormedPdu, pdu: federation::Pdu, given: &mut AllGiven) {
    let read = Given::read(met, RawPdu(pdu), Purpose::Timeline).filter(|read| read.event_id != *event.event_id());
    if let Some(read) = read.filter(|_| given.len() < EVENTS_MAX) {
        given.entry(read.event_id.clone()).or_insert((peer.clone(), read));
    }
}

/// What lies between what is held and an event: the given events that do, and those that are neither held nor given, with an event that names each.
async fn before(
    met: &Met,
    event: &WellFormedPdu,
    given: &AllGiven,
) -> Result<(Vec<OwnedEventId>, Vec<(OwnedEventId, OwnedEventId)>), ActionError> {
    let named_by = |id: &OwnedEventId, names: &[OwnedEventId]| -> Vec<(OwnedEventId, OwnedEventId)> {
        names.iter().map(|named| (named.clone(), id.clone())).collect()
    };
    let mut open: VecDeque<(OwnedEventId, OwnedEventId)> = named_by(event.event_id(), event.prev_events()).into();
    let (mut seen, mut found, mut unknown) = (HashSet::new(), Vec::new(), Vec::new());
    while let Some((id, child)) = open.pop_front() {
        if !seen.insert(id.clone()) || met.rows().is_in_room(&id).await? {
            continue;
        }
        match given.get(&id) {
            Some((_, one)) => {
                open.extend(named_by(&id, &one.prev_events));
                found.push(id);
            }
            None => unknown.push((id, child)),
        }
    }
    Ok((found, unknown))
}

async fn not_in_room(met: &Met, ids: &[OwnedEventId]) -> Result<Vec<OwnedEventId>, ActionError> {
    let mut missing = Vec::new();
    for id in ids {
        if !met.rows().is_in_room(id).await? {
            missing.push(id.clone());
        }
    }
    Ok(missing)
}

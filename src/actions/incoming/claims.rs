//! What a peer says about a state: which events it had before one, with all that authorises them. Every event of it is checked and judged by its auth events,
//! and kept as an outlier; the state itself stays a claim, which the room's own states are merged with.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use futures_util::{StreamExt as _, stream};
use rules::{
    authorization::{Refusal, needed_auth_events},
    event::{Event, RawPdu},
    state::change_of,
};
use ruma::{EventId, OwnedEventId, OwnedServerName, ServerName, events::StateEventType};

use super::{
    guests::Met,
    judging::{self, Checked, First, Leaning, Purpose},
};
use crate::{
    actions::{ActionError, Actions, append, peers::PeerError},
    storage::{Arrival, keyspaces::STATE_KEYS},
};

/// Events of a state and of its auth chain that are not held. A peer that names more than these is not believed.
const UNKNOWN_EVENTS_MAX: usize = 50_000;
/// Events that are fetched one by one for one purpose.
const FETCHED_MAX: usize = 1_000;
/// Events that are asked for at the same time.
const FETCHES_AT_ONCE: usize = 8;
/// With more unknown events than this, and most of them unknown, the whole state is asked for at once.
const UNKNOWN_MAX: usize = 50;
/// Of so many events of a state one may be missing: it cannot be had, or is not signed by its sender.
const GIVEN_PER_MISSING_MIN: usize = 10;
/// Events of one commit, and their bytes.
const STORED_AT_A_TIME: usize = 50;
const STORED_BYTES_MAX: usize = 512 * 1024;

/// Who is asked for what is missing.
#[derive(Clone, Debug)]
pub(in crate::actions) struct Helpers {
    /// The likeliest first.
    pub(in crate::actions) peers: Vec<OwnedServerName>,
    /// One that is not reached may have what the others lack: it is tried again later, and nothing is done without it.
    pub(in crate::actions) is_patient: bool,
}

impl Helpers {
    /// Nobody else is asked.
    pub(in crate::actions) fn only(peer: &ServerName) -> Self {
        Self { peers: vec![peer.to_owned()], is_patient: true }
    }

    /// The same, this one first.
    fn first(&self, peer: &OwnedServerName) -> Self {
        let mut peers = vec![peer.clone()];
        peers.extend(self.peers.iter().filter(|other| *other != peer).cloned());
        Self { peers, ..*self }
    }
}

/// The state before an event, as one peer says: numbers of state keys, and the events.
pub(in crate::actions) type Claim = Vec<(u32, Arrival)>;

/// The same, as several peers say: what differs is merged.
pub(in crate::actions) type Claims = Vec<Claim>;

/// Why a peer's word could not be used. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(in crate::actions) enum NotGiven {
    /// The peer did not give it.
    #[error("{0}")]
    Peer(#[from] PeerError),
    /// What it gave cannot be right.
    #[error("{0}")]
    Wrong(&'static str),
    /// Our fault.
    #[error("{0}")]
    Failed(#[from] ActionError),
}

/// The state before an event, as peers say: what most of those say that are asked, else each different answer. Every event of it is held.
///
/// # Errors
/// When none of them says it, or none of their words can be used.
pub(in crate::actions) async fn claim(
    actions: &Actions,
    met: &Met,
    helpers: &Helpers,
    event_id: &EventId,
) -> Result<Claims, NotGiven> {
    let (mut claims, mut trouble) = (Vec::new(), None);
    for peer in &helpers.peers {
        match claim_of(actions, met, peer, helpers, event_id).await {
            Ok(claim) => claims.push(claim),
            Err(NotGiven::Failed(error)) => return Err(error.into()),
            Err(error) => trouble = Some(error),
        }
    }
    let most = claims.iter().find(|claim| claims.iter().filter(|other| other == claim).count() * 2 > claims.len());
    match (most, trouble) {
        (Some(most), _) => Ok(vec![most.clone()]),
        (None, Some(trouble)) if claims.is_empty() => Err(trouble),
        (None, _) => {
            claims.sort();
            claims.dedup();
            Ok(claims)
        }
    }
}

async fn claim_of(
    actions: &Actions,
    met: &Met,
    peer: &OwnedServerName,
    helpers: &Helpers,
    event_id: &EventId,
) -> Result<Claim, NotGiven> {
    let network = actions.peers();
    let ids = network.state_ids(peer, &met.room.id, event_id).await?;
    let mut unknown = Vec::new();
    for id in ids.state.iter().chain(&ids.auth_chain) {
        if met.rows().arrival_of(id).await?.is_none() {
            unknown.push(id.clone());
        }
    }
    if unknown.len() > UNKNOWN_EVENTS_MAX {
        return Err(NotGiven::Wrong("more of the state is not held than may be asked for"));
    }
    let mut pool = Pool::default();
    if unknown.len() > UNKNOWN_MAX
        && unknown.len() > (ids.state.len() + ids.auth_chain.len()) / 2
        && let Ok(whole) = network.state(peer, &met.room.id, event_id).await
    {
        let wanted: HashSet<&OwnedEventId> = unknown.iter().collect();
        for pdu in whole.auth_chain.into_iter().chain(whole.state) {
            pool.add(actions, met, RawPdu(pdu), |id| wanted.contains(id)).await;
        }
    }
    // Who names an event is the likeliest to have it.
    gather(actions, met, &helpers.first(peer), unknown, pool).await?;
    entries(met, &ids.state).await
}

/// The entries that the events of a state make; they are held.
pub(in crate::actions) async fn entries(met: &Met, state: &[OwnedEventId]) -> Result<Claim, NotGiven> {
    let (rows, version) = (met.rows(), met.version());
    let (mut entries, mut lacking) = (BTreeMap::new(), 0);
    let mut create = None;
    for id in state {
        let Some(arrival) = rows.arrival_of(id).await? else {
            lacking += 1;
            continue;
        };
        let (stored, event) = rows.event(&version, arrival).await?;
        let Some(key) = change_of(&event).filter(|_| !stored.standing.is_rejected()) else { continue };
        let key = (key.0.to_string(), key.1);
        if key == (StateEventType::RoomCreate.to_string(), String::new()) {
            create = Some(id);
        }
        let number =
            rows.get(&STATE_KEYS, &key).await?.ok_or_else(|| ActionError::internal("a state key without a number"))?;
        if entries.insert(number, arrival).is_some() {
            return Err(NotGiven::Wrong("the state has two events for one key"));
        }
    }
    if create != Some(&met.view.summary.create_event_id) {
        return Err(NotGiven::Wrong("the state is of another room"));
    }
    if lacking > 1 + state.len() / GIVEN_PER_MISSING_MIN {
        return Err(NotGiven::Wrong("too much of the state cannot be had"));
    }
    Ok(entries.into_iter().collect())
}

/// Fetches events with everything that authorises them, and keeps them as outliers. What no peer has is left out.
///
/// # Errors
/// When a peer that may have one of them is not reached. What came is kept.
pub(in crate::actions) async fn gather_events(
    actions: &Actions,
    met: &Met,
    helpers: &Helpers,
    wanted: Vec<OwnedEventId>,
) -> Result<(), NotGiven> {
    gather(actions, met, helpers, wanted, Pool::default()).await
}

/// Events that were checked and not judged yet.
#[derive(Default)]
struct Pool(BTreeMap<OwnedEventId, Checked>);

impl Pool {
    async fn add(&mut self, actions: &Actions, met: &Met, raw: RawPdu, is_wanted: impl Fn(&OwnedEventId) -> bool) {
        let Some(shape) = judging::shape(&raw, &met.version(), Purpose::AuthChain) else { return };
        if !is_wanted(shape.event_id()) || *shape.room_id() != met.room.id || self.0.contains_key(shape.event_id()) {
            return;
        }
        if let First::Checked(checked) = judging::check(actions, met.version(), raw, Purpose::AuthChain).await {
            self.0.insert(checked.event.event_id().clone(), *checked);
        }
    }
}

async fn gather(
    actions: &Actions,
    met: &Met,
    helpers: &Helpers,
    wanted: Vec<OwnedEventId>,
    mut pool: Pool,
) -> Result<(), NotGiven> {
    let version = met.version();
    let mut trouble = None;
    let mut asked: HashSet<OwnedEventId> = HashSet::new();
    let mut open: VecDeque<OwnedEventId> = wanted.into();
    for checked in pool.0.values() {
        open.extend(needed_auth_events(&version, &checked.event));
    }
    let mut left = FETCHED_MAX;
    while !open.is_empty() && left > 0 {
        let mut batch = Vec::new();
        while let Some(id) = open.pop_front() {
            let is_new = !pool.0.contains_key(&id) && asked.insert(id.clone());
            if is_new && met.rows().arrival_of(&id).await?.is_none() {
                batch.push(id);
            }
            if batch.len() >= FETCHES_AT_ONCE.min(left) {
                break;
            }
        }
        left = left.saturating_sub(batch.len());
        for fetched in fetch(actions, met, helpers, batch).await {
            match fetched {
                Ok(Some((_, _, checked))) => {
                    open.extend(needed_auth_events(&version, &checked.event));
                    pool.0.insert(checked.event.event_id().clone(), *checked);
                }
                Ok(None) => {}
                Err(NotGiven::Failed(error)) => return Err(error.into()),
                Err(error) => trouble = Some(error),
            }
        }
    }
    let judged = judge(met, pool).await?;
    if let Some(peer) = helpers.peers.first() {
        store(actions, met, peer, judged).await?;
    }
    trouble.map_or(Ok(()), Err)
}

/// An event as somebody gave it, with who that is.
type Fetched = (OwnedServerName, RawPdu, Box<Checked>);

async fn fetch(
    actions: &Actions,
    met: &Met,
    helpers: &Helpers,
    ids: Vec<OwnedEventId>,
) -> Vec<Result<Option<Fetched>, NotGiven>> {
    let asking = ids.into_iter().map(|id| async move { fetch_checked(actions, met, helpers, &id).await });
    stream::iter(asking).buffered(FETCHES_AT_ONCE).collect().await
}

/// One event from the first peer that gives it; none: no peer has it.
///
/// # Errors
/// When a peer that may have it is not reached, or a key is not found.
pub(in crate::actions) async fn fetch_one(
    actions: &Actions,
    met: &Met,
    helpers: &Helpers,
    id: &EventId,
) -> Result<Option<(OwnedServerName, RawPdu)>, NotGiven> {
    Ok(fetch_checked(actions, met, helpers, id).await?.map(|(peer, raw, _)| (peer, raw)))
}

async fn fetch_checked(
    actions: &Actions,
    met: &Met,
    helpers: &Helpers,
    id: &EventId,
) -> Result<Option<Fetched>, NotGiven> {
    let mut trouble = None;
    for peer in &helpers.peers {
        let raw = match actions.peers().event(peer, id).await {
            Ok(pdu) => RawPdu(pdu),
            Err(PeerError::Refused(_)) => continue,
            Err(error) => {
                trouble = Some(error.into());
                continue;
            }
        };
        let shape = judging::shape(&raw, &met.version(), Purpose::AuthChain);
        if !shape.is_some_and(|shape| shape.event_id() == id && *shape.room_id() == met.room.id) {
            continue;
        }
        match judging::check(actions, met.version(), raw.clone(), Purpose::AuthChain).await {
            First::Checked(checked) => return Ok(Some((peer.clone(), raw, checked))),
            First::Held(_) => trouble = Some(NotGiven::Wrong("the key of an event is not known")),
            First::Dropped(_) => {}
        }
    }
    trouble.filter(|_| helpers.is_patient).map_or(Ok(None), Err)
}

type Judged = Vec<(Arc<Event>, Option<Refusal>)>;

/// Judges each event by its auth events, those first. Looks at each event and each of its auth events once.
async fn judge(met: &Met, pool: Pool) -> Result<Judged, ActionError> {
    let version = met.version();
    let mut waiting: HashMap<OwnedEventId, (Checked, usize)> = HashMap::new();
    let mut children: HashMap<OwnedEventId, Vec<OwnedEventId>> = HashMap::new();
    let mut ready = Vec::new();
    let ids: HashSet<OwnedEventId> = pool.0.keys().cloned().collect();
    for (id, checked) in pool.0 {
        let needed: HashSet<OwnedEventId> = needed_auth_events(&version, &checked.event).into_iter().collect();
        let among: Vec<&OwnedEventId> = needed.iter().filter(|needed| ids.contains(*needed)).collect();
        if among.is_empty() {
            ready.push(id.clone());
        }
        for needed in &among {
            children.entry((*needed).clone()).or_default().push(id.clone());
        }
        let count = among.len();
        waiting.insert(id, (checked, count));
    }
    let mut known: HashMap<OwnedEventId, Arc<Event>> = HashMap::new();
    let mut judged = Judged::new();
    while let Some(id) = ready.pop() {
        let Some((checked, _)) = waiting.remove(&id) else { continue };
        let mut auth_events = HashMap::new();
        for needed in needed_auth_events(&version, &checked.event) {
            if !known.contains_key(&needed)
                && let Some(arrival) = met.rows().arrival_of(&needed).await?
            {
                known.insert(needed.clone(), met.rows().event(&version, arrival).await?.1);
            }
            if let Some(event) = known.get(&needed) {
                auth_events.insert(needed, Arc::clone(event));
            }
        }
        match checked.judge(auth_events) {
            (event, Leaning::Sound) => {
                known.insert(id.clone(), Arc::clone(&event));
                judged.push((event, None));
            }
            (event, Leaning::Refused(refusal)) => {
                let event = Arc::new(Event::clone(&event).into_rejected());
                known.insert(id.clone(), Arc::clone(&event));
                judged.push((event, Some(refusal)));
            }
            (_, Leaning::Unknown) => {}
        }
        for child in children.remove(&id).unwrap_or_default() {
            if let Some((_, count)) = waiting.get_mut(&child) {
                *count -= 1;
                if *count == 0 {
                    ready.push(child);
                }
            }
        }
    }
    Ok(judged)
}

async fn store(actions: &Actions, met: &Met, peer: &ServerName, judged: Judged) -> Result<(), NotGiven> {
    let peer = peer.to_owned();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for (event, refused) in judged {
        bytes += event.json().len();
        batch.push((event, refused));
        if batch.len() >= STORED_AT_A_TIME || bytes >= STORED_BYTES_MAX {
            append::outliers(actions, &met.room, std::mem::take(&mut batch), &peer).await?;
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        append::outliers(actions, &met.room, batch, &peer).await?;
    }
    Ok(())
}

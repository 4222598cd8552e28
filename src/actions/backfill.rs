//! Reading past what is held: history before a hole is asked of peers, a bounded number of events at a time, and takes its places before what is shown already.
//! It is not news: nobody is notified, and nothing counts as unread.
//!
//! Who has been in the room for the longest is asked first, then others. What nobody gave is asked for again only after a pause that grows.

use std::collections::{BTreeMap, HashMap};

use federation::limits::BACKFILL_EVENTS_MAX;
use rules::{UnixMs, kind::RoomKind, permission::Membership};
use ruma::{EventId, OwnedEventId, OwnedServerName, ServerName};

use super::{
    ActionError, Actions, Caller,
    accounts::must_be_admin,
    audit::{Act, Actor},
    incoming::{
        claims::NotGiven,
        guests::{self, Met},
    },
    rooms, rows,
};
use crate::storage::{
    Arrival, Commit, Direction, Home, KeyRange, Limit, Place,
    history::Arrivals,
    keyspaces::{EVENTS, MEMBERS, MISSING, SERVERS},
    room_settings::FederationMode,
};

mod pauses;
mod taking;

pub use pauses::{Pauses, READER_WAIT_MAX};
pub(super) use pauses::{for_reader, is_due, next_try};
use taking::fill_one;
pub(super) use taking::is_oldest;

/// Events that one call may ask for.
pub const EVENTS_MAX: usize = 1_000;
/// Holes of a room that are looked at.
pub(super) const HOLES_MAX: usize = 1_000;
/// Servers that are asked for what is before one hole; when it is tried again, it is the turn of others.
pub const PEERS_MAX: usize = 4;
/// Members of a room that are looked at to find the servers that have been in it for the longest.
const MEMBERS_LOOKED_AT_MAX: usize = 10_000;

/// What came of asking a peer for history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backfilled {
    /// Who was asked.
    pub peer: OwnedServerName,
    /// Events that it gave.
    pub fetched: usize,
    /// Events that are shown now and were not held before.
    pub stored: usize,
    /// Events that the rules refuse, and why.
    pub rejected: Vec<(OwnedEventId, String)>,
    /// There is no hole any more, as far as was asked.
    pub complete: bool,
    /// The event before which the next hole is.
    pub next: Option<OwnedEventId>,
}

/// A hole in the history: right before this shown event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The event's place.
    pub place: Place,
    /// Its id.
    pub event_id: OwnedEventId,
    /// What it names and is not held.
    pub missing: Vec<OwnedEventId>,
}

/// Asks peers for history, for an admin: the newest holes first, those before an event if one is named. Without a peer all that may help are asked.
///
/// # Errors
/// Whoever is no admin; a room that is not here or is not shared with the peer; when storage cannot be read or written.
pub async fn federation_backfill(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    peer: Option<&ServerName>,
    limit: usize,
    before: Option<&EventId>,
) -> Result<Backfilled, ActionError> {
    must_be_admin(caller)?;
    let room = rooms::locate(actions, reference).await?;
    let view = room.view().await?.filter(|view| view.summary.kind != RoomKind::Incognito);
    if view.ok_or(ActionError::RoomNotFound)?.settings.federation == FederationMode::Off {
        return Err(ActionError::FederationDisabled("the room does not take part in federation".to_owned()));
    }
    let met = guests::find(actions, &room.id).await?.ok_or(ActionError::RoomNotFound)?;
    let others = suppliers(&met.rows()).await?.into_iter().map(|supplier| supplier.server);
    let is_asked = |server: &OwnedServerName| {
        met.view.admits(server) && *server != actions.server_name && peer.is_none_or(|peer| server == peer)
    };
    let suppliers: Vec<OwnedServerName> = others.filter(is_asked).collect();
    let Some(first) = suppliers.first() else {
        return Err(ActionError::invalid("peer", "nobody of such a server is in the room"));
    };
    let before = match before {
        Some(event_id) => Some(place_of(&met, event_id).await?.ok_or(ActionError::EventNotFound)?),
        None => None,
    };
    let mut commit = Commit::new(Home::server());
    let (action, target) = ("room.backfill", room.id.to_string());
    let details = vec![("peer", peer.map_or_else(|| first.to_string(), ToString::to_string))];
    Act { actor: Actor::Admin(&caller.user_id), action, target, details }.record(actions, &mut commit);
    actions.store.commit(commit).await?;
    let asking = Asking { suppliers, limit: limit.min(EVENTS_MAX), before, only_due: false };
    fill(actions, &met, asking).await
}

/// Another server that has people in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supplier {
    /// Its name.
    pub server: OwnedServerName,
    /// How many.
    pub members: u64,
    /// When the first of them came; none: that was not looked at.
    pub since: Option<UnixMs>,
}

/// The other servers of a room, those first that have been in it for the longest.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn suppliers(rows: &rows::Rows<'_>) -> Result<Vec<Supplier>, ActionError> {
    let servers = rows::all(rows.store, &SERVERS, rows.home, KeyRange::all()).await?;
    let limit = Limit::rows(MEMBERS_LOOKED_AT_MAX);
    let mut since: BTreeMap<OwnedServerName, UnixMs> = BTreeMap::new();
    for (user_id, member) in rows.store.scan(&MEMBERS, rows.home, KeyRange::all(), Direction::Up, limit).await?.rows {
        if let (Membership::Join, Some(joined_at)) = (member.membership, member.joined_at) {
            let first = since.entry(user_id.server_name().to_owned()).or_insert(joined_at);
            *first = joined_at.min(*first);
        }
    }
    let supplier = |(server, members): (OwnedServerName, u64)| {
        let since = since.get(&server).copied();
        Supplier { server, members, since }
    };
    let mut suppliers: Vec<Supplier> = servers.into_iter().map(supplier).collect();
    suppliers.sort_by_key(|supplier| (supplier.since.is_none(), supplier.since, u64::MAX - supplier.members));
    Ok(suppliers)
}

/// The holes of a room, the newest first.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn holes(rows: &rows::Rows<'_>) -> Result<Vec<Hole>, ActionError> {
    let page = rows.store.scan(&MISSING, rows.home, KeyRange::all(), Direction::Up, Limit::rows(HOLES_MAX)).await?;
    let mut by_child: HashMap<Arrival, Vec<OwnedEventId>> = HashMap::new();
    for (id, Arrivals(children)) in page.rows {
        for child in children {
            by_child.entry(child).or_default().push(id.clone());
        }
    }
    let mut holes = Vec::new();
    for (child, missing) in by_child {
        let Some(stored) = rows.get(&EVENTS, &child).await? else { continue };
        if let Some(place) = stored.place {
            holes.push(Hole { place, event_id: stored.event_id, missing });
        }
    }
    holes.sort_by_key(|hole| std::cmp::Reverse(hole.place));
    Ok(holes)
}

async fn place_of(met: &Met, event_id: &EventId) -> Result<Option<Place>, ActionError> {
    let Some(arrival) = met.rows().arrival_of(event_id).await? else { return Ok(None) };
    Ok(met.rows().get(&EVENTS, &arrival).await?.and_then(|stored| stored.place))
}

/// What is asked for, and of whom.
struct Asking {
    suppliers: Vec<OwnedServerName>,
    /// Events.
    limit: usize,
    /// Only holes up to this place.
    before: Option<Place>,
    /// Only what did not fail lately.
    only_due: bool,
}

impl Asking {
    async fn next_hole(&self, actions: &Actions, met: &Met, tried: &[Hole]) -> Result<Option<Hole>, ActionError> {
        let is_next = |hole: &Hole| {
            let is_before = self.before.is_none_or(|before| hole.place <= before);
            is_before && !tried.contains(hole) && (!self.only_due || is_due(actions, hole))
        };
        Ok(holes(&met.rows()).await?.into_iter().find(is_next))
    }
}

async fn fill(actions: &Actions, met: &Met, asking: Asking) -> Result<Backfilled, ActionError> {
    let _gate = actions.gates.enter("backfill", met.room.id.as_str()).await?;
    let first = asking.suppliers.first().cloned().unwrap_or_else(|| actions.server_name.clone());
    let mut filled =
        Backfilled { peer: first, fetched: 0, stored: 0, rejected: Vec::new(), complete: false, next: None };
    let mut tried = Vec::new();
    while filled.fetched < asking.limit && tried.len() < asking.limit {
        let Some(hole) = asking.next_hole(actions, met, &tried).await? else { break };
        tried.push(hole.clone());
        if fill_from_any(actions, met, &asking, &hole, &mut filled).await? {
            pauses::over(actions, &hole);
        } else {
            pauses::note(actions, &hole);
        }
    }
    let all = Asking { only_due: false, ..asking };
    let next = all.next_hole(actions, met, &[]).await?;
    filled.complete = next.is_none();
    filled.next = next.map(|hole| hole.event_id);
    Ok(filled)
}

/// Asks one server after the other until one of them gives something that fills the hole.
async fn fill_from_any(
    actions: &Actions,
    met: &Met,
    asking: &Asking,
    hole: &Hole,
    filled: &mut Backfilled,
) -> Result<bool, ActionError> {
    let servers = &asking.suppliers;
    let turn = pauses::failures(actions, hole).saturating_mul(PEERS_MAX).checked_rem(servers.len()).unwrap_or(0);
    for peer in servers.iter().cycle().skip(turn).take(PEERS_MAX.min(servers.len())) {
        let wanted = asking.limit.saturating_sub(filled.fetched);
        if wanted == 0 {
            return Ok(true);
        }
        match fill_one(actions, met, peer, hole, wanted.min(BACKFILL_EVENTS_MAX), filled).await {
            Ok(true) => {
                filled.peer.clone_from(peer);
                return Ok(true);
            }
            Ok(false) => {}
            Err(NotGiven::Failed(error)) => return Err(error),
            Err(error) => {
                tracing::info!(room.id = %met.room.id, peer = %peer, "History before {} cannot be had: {error}", hole.event_id);
            }
        }
    }
    Ok(false)
}

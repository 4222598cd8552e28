//! What of a room is held here, for admins: where its history has holes, who could fill them, what waits to be judged, and what the rules refused.

use rules::{UnixMs, kind::RoomKind};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId};

use super::{
    ActionError, Actions, Caller,
    accounts::must_be_admin,
    backfill::{self, Hole, Supplier},
    peers::{self, KnownPeer},
    rooms,
    rows::{self, Rows},
};
use crate::storage::{
    Arrival, Direction, KeyRange, Limit,
    history::{EventStanding, StoredEvent},
    keyspaces::{EVENTS, STAGED},
};

/// Holes, servers, waiting and refused events that are told, of each.
pub const TOLD_MAX: usize = 200;
/// The newest events of a room that are looked through for refused ones.
const LOOKED_AT_MAX: usize = 20_000;
/// Events that are looked at together.
const LOOKED_AT_TOGETHER: usize = 500;

/// What of a room is held.
#[derive(Debug)]
pub struct Completeness {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Where history is missing, the newest first, and when that is asked for again, if it was in vain.
    pub holes: Vec<(Hole, Option<UnixMs>)>,
    /// The other servers of the room, those first that have been in it for the longest.
    pub suppliers: Vec<(Supplier, KnownPeer)>,
    /// Events that cannot be judged yet.
    pub waiting: Vec<Waiting>,
    /// What the rules refused, the newest first.
    pub refused: Vec<Refused>,
    /// All events were looked through for refused ones.
    pub is_whole: bool,
}

/// An event that cannot be judged yet.
#[derive(Debug)]
pub struct Waiting {
    /// Its id.
    pub event_id: OwnedEventId,
    /// Who brought it.
    pub peer: OwnedServerName,
    /// When.
    pub received_at: UnixMs,
    /// What is missing before it, or among what authorises it.
    pub missing: Vec<OwnedEventId>,
    /// How often that was asked for.
    pub tries: u32,
    /// When it is asked for again.
    pub next_try: UnixMs,
}

/// An event that the rules refused.
#[derive(Debug)]
pub struct Refused {
    /// Its id.
    pub event_id: OwnedEventId,
    /// Its type.
    pub event_type: String,
    /// Who says to have sent it.
    pub sender: OwnedUserId,
    /// It was allowed where it stands, and only the present state forbids it.
    pub is_soft: bool,
    /// Which rule.
    pub reason: String,
    /// Who brought it.
    pub peer: Option<OwnedServerName>,
}

/// What of a room is held, for an admin.
///
/// # Errors
/// Whoever is no admin; a room that is not here or lives in memory only; when storage cannot be read.
pub async fn of_room(actions: &Actions, caller: &Caller, reference: &str) -> Result<Completeness, ActionError> {
    must_be_admin(caller)?;
    let room = rooms::locate(actions, reference).await?;
    let view = room.view().await?.filter(|view| view.summary.kind != RoomKind::Incognito);
    let view = view.ok_or(ActionError::RoomNotFound)?;
    let rows = Rows::on_disk(&room.store, &room.home);
    let mut holes = backfill::holes(&rows).await?;
    holes.truncate(TOLD_MAX);
    let holes = holes.into_iter().map(|hole| {
        let next_try = backfill::next_try(actions, &hole);
        (hole, next_try)
    });
    let holes = holes.collect();
    let mut suppliers = Vec::new();
    for supplier in backfill::suppliers(&rows).await?.into_iter().take(TOLD_MAX) {
        let known = peers::known(actions, supplier.server.clone()).await?;
        suppliers.push((supplier, known));
    }
    let (refused, is_whole) = refused(&rows, &view.basis.version).await?;
    let room_id = room.id.clone();
    Ok(Completeness { room_id, holes, suppliers, waiting: waiting(&rows).await?, refused, is_whole })
}

async fn waiting(rows: &Rows<'_>) -> Result<Vec<Waiting>, ActionError> {
    let page = rows.store.scan(&STAGED, rows.home, KeyRange::all(), Direction::Up, Limit::rows(TOLD_MAX)).await?;
    let waiting = page.rows.into_iter().map(|(_, staged)| Waiting {
        event_id: staged.event_id,
        peer: staged.origin,
        received_at: staged.received_at,
        missing: staged.missing,
        tries: staged.tries,
        next_try: staged.next_try,
    });
    Ok(waiting.collect())
}

async fn refused(rows: &Rows<'_>, version: &rules::Version) -> Result<(Vec<Refused>, bool), ActionError> {
    let (mut refused, mut looked_at, mut range) = (Vec::new(), 0, KeyRange::all());
    while looked_at < LOOKED_AT_MAX {
        let limit = Limit::rows(LOOKED_AT_TOGETHER);
        let page = rows.store.scan(&EVENTS, rows.home, range, Direction::Down, limit).await?;
        looked_at += page.rows.len();
        let last: Option<Arrival> = page.rows.last().map(|(arrival, _)| *arrival);
        for (_, stored) in page.rows {
            let Some((reason, peer, is_soft)) = refusal_of(&stored) else { continue };
            let (reason, peer) = (reason.to_owned(), peer.cloned());
            if refused.len() >= TOLD_MAX {
                return Ok((refused, false));
            }
            let event = rows::read(&stored, rows.home, version)?;
            refused.push(Refused {
                event_id: stored.event_id,
                event_type: event.type_str().to_owned(),
                sender: event.sender().clone(),
                is_soft,
                reason,
                peer,
            });
        }
        match last {
            Some(last) if page.more => range = KeyRange::all().before(&last),
            _ => return Ok((refused, true)),
        }
    }
    Ok((refused, false))
}

/// Why the rules refused it, who brought it, and whether only the present state forbids it.
fn refusal_of(stored: &StoredEvent) -> Option<(&str, Option<&OwnedServerName>, bool)> {
    match &stored.standing {
        EventStanding::Accepted | EventStanding::Outlier { refused: None, .. } => None,
        EventStanding::SoftFailed { reason, peer } => Some((reason, peer.as_ref(), true)),
        EventStanding::Rejected { reason, peer } => Some((reason, peer.as_ref(), false)),
        EventStanding::Outlier { refused: Some(reason), peer } => Some((reason, peer.as_ref(), false)),
    }
}

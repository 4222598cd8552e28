//! From the feed to the events that one peer is sent.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use federation::{Batch, Pdu};
use rules::version::Version;
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Behind, Taken};
use crate::{
    actions::{ActionError, Actions, append, lane::Room, rows},
    storage::{
        Arrival, ChangeKind, Direction, Home, KeyRange, Limit, Place,
        history::{EventStanding, StoredEvent},
        keyspaces::{COME_AGAIN, EVENTS, LEFT, PEER_ROOMS, REDACTIONS, SENT_ON, SINCE, TIMELINE},
    },
};

/// Rows of the feed that are read at once.
const ROWS_AT_ONCE: usize = 256;
/// Bytes of rows that are read at once.
const BYTES_AT_ONCE: usize = 256 * 1024;
/// Events at the end of a room that are looked at for the newest that the peer may lack.
const NEWEST_LOOKED_AT: usize = 100;

/// The next events for a peer; none: it lacks nothing.
pub(super) async fn next(
    actions: &Actions,
    peer: &ServerName,
    pdus_max: usize,
) -> Result<Option<Batch<Taken>>, ActionError> {
    loop {
        let Some(behind) = actions.outgoing.behind(peer) else { return Ok(None) };
        if let Some(catching_up) = &behind.catching_up {
            return newest(actions, peer, catching_up.after.clone(), pdus_max).await.map(Some);
        }
        if behind.from.distance_to(behind.until) > actions.settings.behind_rows_max {
            actions.outgoing.begin_catching_up(peer, behind.until);
            continue;
        }
        match read(actions, peer, &behind, pdus_max).await? {
            None => actions.outgoing.begin_catching_up(peer, behind.until),
            Some(batch) if batch.pdus.is_empty() => {
                if let Taken::Through(position) = batch.up_to
                    && actions.outgoing.moved(peer, position)
                {
                    return Ok(None);
                }
            }
            Some(batch) => return Ok(Some(batch)),
        }
    }
}

/// The events behind where the peer is; none: the feed no longer goes back so far.
async fn read(
    actions: &Actions,
    peer: &ServerName,
    behind: &Behind,
    pdus_max: usize,
) -> Result<Option<Batch<Taken>>, ActionError> {
    let mut reader = Reader { actions, peer, rooms: HashMap::new() };
    let (mut at, mut pdus) = (behind.from, Vec::new());
    while !at.has_reached(behind.until) {
        let rows = actions.store.feed(at, Limit::rows(ROWS_AT_ONCE).bytes(BYTES_AT_ONCE)).await?;
        if rows.first().is_some_and(|row| at.distance_to(row.position) != 1) {
            return Ok(None);
        }
        if rows.is_empty() {
            at = behind.until;
        }
        for row in rows {
            at = row.position;
            let is_theirs = |about: &Option<Home>| about.as_ref().is_none_or(|about| *about == Home::peer(peer));
            let owed = row.changes.iter().filter(|change| change.kind == ChangeKind::Owed);
            for change in owed.filter(|change| is_theirs(&change.about)) {
                if let Some(room_id) = change.home.as_room() {
                    reader.owed(&room_id, change.first, change.number, &mut pdus).await?;
                }
            }
            if pdus.len() >= pdus_max || at.has_reached(behind.until) {
                return Ok(Some(Batch { pdus, up_to: Taken::Through(at) }));
            }
        }
    }
    Ok(Some(Batch { pdus, up_to: Taken::Through(at) }))
}

/// The newest event of each of the next rooms that the peer is or was in.
async fn newest(
    actions: &Actions,
    peer: &ServerName,
    after: Option<OwnedRoomId>,
    rooms_max: usize,
) -> Result<Batch<Taken>, ActionError> {
    let range = after.map_or_else(KeyRange::all, |after| KeyRange::all().after(&after));
    let limit = Limit::rows(rooms_max);
    let page = actions.store.scan(&PEER_ROOMS, &Home::peer(peer), range, Direction::Up, limit).await?;
    let reader = Reader { actions, peer, rooms: HashMap::new() };
    let mut pdus = Vec::new();
    for (room_id, ()) in &page.rows {
        pdus.extend(reader.newest(room_id).await?);
    }
    let last = page.rows.into_iter().next_back().map(|(room_id, ())| room_id).filter(|_| page.more);
    Ok(Batch { pdus, up_to: Taken::Rooms(last) })
}

/// The other servers that may get events of a room from this number on.
pub(super) async fn servers_of(
    actions: &Actions,
    room_id: &RoomId,
    first: u64,
) -> Result<Vec<OwnedServerName>, ActionError> {
    let room = actions.room(room_id);
    let mut servers: BTreeSet<OwnedServerName> = BTreeSet::new();
    servers
        .extend(rows::all(&room.store, &SINCE, &room.home, KeyRange::all()).await?.into_iter().map(|(name, _)| name));
    let left = KeyRange::all().from(&(first, String::new()));
    let left = rows::all(&room.store, &LEFT, &room.home, left).await?;
    servers.extend(left.into_iter().filter_map(|((_, name), _)| OwnedServerName::try_from(name).ok()));
    servers.remove(&actions.server_name);
    Ok(servers.into_iter().collect())
}

/// The other servers that are or ever were in a room, or were invited.
///
/// # Errors
/// When storage cannot be read.
pub async fn ever_in(room: &Room) -> Result<BTreeSet<OwnedServerName>, ActionError> {
    let present = rows::all(&room.store, &SINCE, &room.home, KeyRange::all()).await?;
    let left = rows::all(&room.store, &LEFT, &room.home, KeyRange::all()).await?;
    let left = left.into_iter().filter_map(|((_, name), _)| OwnedServerName::try_from(name).ok());
    Ok(present.into_iter().map(|(name, _)| name).chain(left).collect())
}

struct Reader<'a> {
    actions: &'a Actions,
    peer: &'a ServerName,
    rooms: HashMap<OwnedRoomId, Part>,
}

/// What a peer has to do with a room.
enum Part {
    /// The room is not here, or on no other server.
    None,
    /// It is kept out: what it is owed is held back, from the number on that is written down.
    KeptOut(Arc<Room>, u64),
    /// It may take part.
    Takes(Stay),
}

/// When the peer was in a room.
struct Stay {
    room: Arc<Room>,
    version: Version,
    /// Some of its events were redacted.
    has_redactions: bool,
    /// It is, and gets what is behind this.
    since: Option<u64>,
    /// It was: behind which event it got any, and the last that it gets.
    past: Vec<(u64, u64)>,
}

impl Stay {
    fn covers(&self, number: u64) -> bool {
        self.since.is_some_and(|since| since < number)
            || self.past.iter().any(|(since, until)| *since < number && number <= *until)
    }

    /// The event as it is sent: of what was redacted before the peer could get it, what is left.
    async fn pdu(&self, stored: StoredEvent) -> Result<Pdu, ActionError> {
        let (store, home) = (&self.room.store, &self.room.home);
        let is_redacted = self.has_redactions && store.get(&REDACTIONS, home, &stored.event_id).await?.is_some();
        let json = if is_redacted {
            let event = rows::read(&stored, home, &self.version)?;
            event.redacted(&self.version).map_err(ActionError::internal)?.json().to_owned()
        } else {
            stored.json
        };
        RawValue::from_string(json).map_err(ActionError::internal)
    }
}

#[derive(Deserialize)]
struct Sender<'a> {
    sender: &'a str,
}

impl Reader<'_> {
    /// The events of a room from one number to another that the peer is to get.
    async fn owed(
        &mut self,
        room_id: &OwnedRoomId,
        first: u64,
        last: u64,
        pdus: &mut Vec<Pdu>,
    ) -> Result<(), ActionError> {
        let is_known = match self.rooms.get(room_id) {
            Some(Part::KeptOut(_, held)) => *held <= first,
            known => known.is_some(),
        };
        if !is_known {
            let part = self.part_held_back(room_id, first).await?;
            self.rooms.insert(room_id.clone(), part);
        }
        let Some(Part::Takes(stay)) = self.rooms.get(room_id) else { return Ok(()) };
        for number in (first..=last).filter(|number| stay.covers(*number)).filter_map(Arrival::new) {
            let (store, home) = (&stay.room.store, &stay.room.home);
            let mut stored = store.get(&EVENTS, home, &number).await?;
            if stored.is_none()
                && let Some(former) = store.get(&COME_AGAIN, home, &number).await?
            {
                stored = store.get(&EVENTS, home, &former).await?;
            }
            if let Some(stored) = stored
                && self.is_sent(stay, number, &stored).await?
            {
                pdus.push(stay.pdu(stored).await?);
            }
        }
        Ok(())
    }

    /// [`Reader::part`], once it is written down that the peer does not get what comes from this number on.
    async fn part_held_back(&self, room_id: &RoomId, first: u64) -> Result<Part, ActionError> {
        loop {
            match self.part(room_id, first).await? {
                // In the room's lane: whoever lets the peer in again at this moment sees it, or comes before it.
                Part::KeptOut(room, _) if !append::hold_back(self.actions, &room, self.peer, first).await? => {}
                part => return Ok(part),
            }
        }
    }

    /// When the peer was in a room, as far as it matters from this number on.
    async fn part(&self, room_id: &RoomId, first: u64) -> Result<Part, ActionError> {
        let room = self.actions.room(room_id);
        let Some(view) = room.view().await?.filter(|view| view.can_federate()) else { return Ok(Part::None) };
        if !view.admits(self.peer) {
            return Ok(Part::KeptOut(room, first));
        }
        let (version, has_redactions) = (view.basis.version, view.summary.redactions > 0);
        let since = room.store.get(&SINCE, &room.home, &self.peer.to_owned()).await?;
        let left = KeyRange::all().from(&(first, String::new()));
        let left = rows::all(&room.store, &LEFT, &room.home, left).await?;
        let past = left.into_iter().filter(|((_, name), _)| *name == self.peer.as_str());
        let past = past.map(|((until, _), since)| (since, until)).collect();
        Ok(Part::Takes(Stay { room, version, has_redactions, since, past }))
    }

    /// The event is ours, or we tell others of it: but not who brought it.
    async fn is_sent(&self, stay: &Stay, number: Arrival, stored: &StoredEvent) -> Result<bool, ActionError> {
        if stored.standing != EventStanding::Accepted || stored.place.is_none_or(|place| place < Place::FIRST) {
            return Ok(false);
        }
        let Ok(Sender { sender }) = serde_json::from_str(&stored.json) else { return Ok(false) };
        if <&UserId>::try_from(sender).is_ok_and(|sender| sender.server_name() == self.actions.server_name) {
            return Ok(true);
        }
        let brought_by = stay.room.store.get(&SENT_ON, &stay.room.home, &number).await?;
        Ok(brought_by.is_some_and(|brought_by| brought_by != self.peer))
    }

    /// The newest event of a room that the peer is to get; of one that it is kept out of, it is held back.
    async fn newest(&self, room_id: &OwnedRoomId) -> Result<Option<Pdu>, ActionError> {
        let stay = match self.part(room_id, 0).await? {
            Part::None => return Ok(None),
            Part::Takes(stay) => stay,
            Part::KeptOut(room, _) => {
                let Some(view) = room.view().await? else { return Ok(None) };
                let last = view.tip.next_arrival.get().saturating_sub(1);
                match self.part_held_back(room_id, last).await? {
                    Part::Takes(stay) => stay,
                    Part::None | Part::KeptOut(..) => return Ok(None),
                }
            }
        };
        let (store, home) = (&stay.room.store, &stay.room.home);
        let limit = Limit::rows(NEWEST_LOOKED_AT);
        let page = store.scan(&TIMELINE, home, KeyRange::all(), Direction::Down, limit).await?;
        for (_, arrival) in page.rows {
            let Some(stored) = store.get(&EVENTS, home, &arrival).await? else { continue };
            let number = stored.came_again.unwrap_or(arrival);
            if stay.covers(number.get()) && self.is_sent(&stay, number, &stored).await? {
                return stay.pdu(stored).await.map(Some);
            }
        }
        Ok(None)
    }
}

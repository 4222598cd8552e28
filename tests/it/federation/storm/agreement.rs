//! What a server thinks of a room in the end, and whether others think the same.

use std::collections::{BTreeMap, BTreeSet};

use rules::{event::Event, state::change_of};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, UserId};
use yurt::{
    actions::{Actions, Caller, backfill, rows::Rows},
    storage::{Arrival, Place, StateTree, history::EventStanding, keyspaces::EVENTS},
};

/// How often one server is asked for more history.
const CALLS_MAX: usize = 5;

/// A room as one server has it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Opinion {
    /// The event at each type and state key.
    pub(super) state: BTreeMap<(String, String), OwnedEventId>,
    pub(super) heads: BTreeSet<OwnedEventId>,
    /// Events that are part of the room.
    pub(super) accepted: BTreeSet<OwnedEventId>,
    /// Events that are right in their place and came too late.
    pub(super) soft_failed: BTreeSet<OwnedEventId>,
    pub(super) rejected: BTreeMap<OwnedEventId, String>,
    /// Events that are known only because others lean on them.
    pub(super) outliers: BTreeSet<OwnedEventId>,
    /// Servers whose people are in the room.
    pub(super) servers: BTreeSet<OwnedServerName>,
    /// What the events that are not outliers come behind.
    pub(super) before: BTreeMap<OwnedEventId, Vec<OwnedEventId>>,
    /// What all these events are.
    pub(super) events: BTreeMap<OwnedEventId, String>,
}

impl Opinion {
    /// None: nobody of the server is in the room.
    pub(super) async fn of(actions: &Actions, room_id: &OwnedRoomId) -> Option<Self> {
        let room = actions.room(room_id);
        let view = room.view().await.unwrap()?;
        if view.summary.local_joined() == 0 {
            return None;
        }
        let rows = Rows::on_disk(&room.store, &room.home);
        let mut opinion = Self::default();
        for (_, arrival) in
            StateTree::new(&room.store, room.home.clone()).walk(view.tip.state, 0, 100_000).await.unwrap()
        {
            let event = rows.event(&view.basis.version, arrival).await.unwrap().1;
            let (kind, key) = change_of(&event).unwrap();
            if kind.to_string() == "m.room.member" && event.content().get().contains("\"membership\":\"join\"") {
                let user = <&UserId>::try_from(&*key).unwrap();
                opinion.servers.insert(user.server_name().to_owned());
            }
            opinion.state.insert((kind.to_string(), key), event.event_id().clone());
        }
        opinion.heads = view.tip.heads.iter().map(|head| head.event_id.clone()).collect();
        for number in 1..view.tip.next_arrival.get() {
            let Some(stored) = rows.get(&EVENTS, &Arrival::new(number).unwrap()).await.unwrap() else { continue };
            let id = stored.event_id.clone();
            let event = yurt::actions::rows::read(&stored, &room.home, &view.basis.version).unwrap();
            opinion.events.insert(id.clone(), told(number, stored.place, &event));
            if !matches!(stored.standing, EventStanding::Outlier { .. }) {
                opinion.before.insert(id.clone(), event.prev_events().to_vec());
            }
            match stored.standing {
                EventStanding::Accepted => drop(opinion.accepted.insert(id)),
                EventStanding::SoftFailed { .. } => drop(opinion.soft_failed.insert(id)),
                EventStanding::Rejected { reason, .. } => drop(opinion.rejected.insert(id, reason)),
                EventStanding::Outlier { refused: Some(reason), .. } => drop(opinion.rejected.insert(id, reason)),
                EventStanding::Outlier { .. } => drop(opinion.outliers.insert(id)),
            }
        }
        Some(opinion)
    }

    /// The events that are part of the room or came too late for it: what the servers are to agree on.
    fn not_rejected(&self) -> BTreeSet<&OwnedEventId> {
        self.accepted.iter().chain(&self.soft_failed).collect()
    }

    /// What another server sees otherwise; nothing: they agree. Events count that are among the known ones.
    pub(super) fn differences(&self, other: &Self, known: &BTreeSet<OwnedEventId>) -> Vec<String> {
        let mut found = Vec::new();
        let keys: BTreeSet<_> = self.state.keys().chain(other.state.keys()).collect();
        for key in keys {
            let (ours, theirs) = (self.state.get(key), other.state.get(key));
            if ours != theirs {
                found.push(format!("state {key:?}: {} or {}", self.name(ours), other.name(theirs)));
            }
        }
        let (ours, theirs) = (self.not_rejected(), other.not_rejected());
        for id in ours.symmetric_difference(&theirs).filter(|id| known.contains(**id)) {
            found.push(format!("event: {} or {}", self.name(Some(id)), other.name(Some(id))));
        }
        found
    }

    fn name(&self, id: Option<&OwnedEventId>) -> String {
        let Some(id) = id else { return "nothing".to_owned() };
        let standing = if self.accepted.contains(id) {
            "accepted".to_owned()
        } else if self.soft_failed.contains(id) {
            "soft-failed".to_owned()
        } else if let Some(reason) = self.rejected.get(id) {
            format!("rejected: {reason}")
        } else if self.outliers.contains(id) {
            "an outlier".to_owned()
        } else {
            "not held".to_owned()
        };
        format!("{id} ({standing})")
    }
}

/// The events that servers of one room can know of: those to which the newest ones of any of them lead, as far as one of them has them. Nobody passes on what came
/// too late for him and leads to nothing that is shown, and nobody finds what is behind an event that has left the room with the only server that had it.
pub(super) fn known_of<'a>(opinions: impl IntoIterator<Item = &'a Opinion> + Clone) -> BTreeSet<OwnedEventId> {
    let mut open: Vec<&OwnedEventId> = opinions.clone().into_iter().flat_map(|opinion| &opinion.heads).collect();
    let mut known = BTreeSet::new();
    while let Some(id) = open.pop() {
        let mut holders = opinions.clone().into_iter().filter_map(|opinion| opinion.before.get(id));
        if let Some(before) = holders.next().filter(|_| known.insert(id.clone())) {
            open.extend(before);
        }
    }
    known
}

fn told(number: u64, place: Option<Place>, event: &Event) -> String {
    let (kind, sender, key) = (event.type_str(), event.sender(), event.state_key());
    let (depth, before, content) = (event.depth(), event.prev_events(), event.content().get());
    format!("{number} {place:?} {kind} {key:?} of {sender}, depth {depth}, behind {before:?}: {content}")
}

/// Asks servers for the history that is not held, as an admin does.
pub(super) async fn fill_holes(actions: &Actions, admin: &Caller, room_id: &OwnedRoomId, peers: &[OwnedServerName]) {
    for peer in peers.iter().filter(|peer| **peer != actions.server_name) {
        for _ in 0..CALLS_MAX {
            let filled =
                backfill::federation_backfill(actions, admin, room_id.as_str(), Some(peer), backfill::EVENTS_MAX, None)
                    .await;
            if filled.is_ok_and(|filled| filled.complete || filled.stored == 0) {
                break;
            }
        }
    }
}

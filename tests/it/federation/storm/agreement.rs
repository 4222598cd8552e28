//! What a server thinks of a room in the end, and whether others think the same.

use std::collections::{BTreeMap, BTreeSet};

use rules::{event::Event, state::change_of};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, ServerName, UserId};
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
    /// Those of them that are of this server itself, which tells nobody of them, of the liar, who may have told nobody else, or of a server that is out of the
    /// room: it knew not of everybody who had come in meanwhile, nothing that is shown comes behind them, and nobody passes them on.
    pub(super) kept_back: BTreeSet<OwnedEventId>,
    pub(super) rejected: BTreeMap<OwnedEventId, String>,
    /// Events that are known only because others lean on them.
    pub(super) outliers: BTreeSet<OwnedEventId>,
    /// Servers whose people are in the room.
    pub(super) servers: BTreeSet<OwnedServerName>,
    /// What all these events are.
    pub(super) events: BTreeMap<OwnedEventId, String>,
}

impl Opinion {
    /// None: nobody of the server is in the room.
    pub(super) async fn of(actions: &Actions, room_id: &OwnedRoomId, liar: Option<&ServerName>) -> Option<Self> {
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
            let server = event.sender().server_name();
            let is_untold = server == actions.server_name || Some(server) == liar || !opinion.servers.contains(server);
            if is_untold && matches!(stored.standing, EventStanding::SoftFailed { .. }) {
                opinion.kept_back.insert(id.clone());
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

    /// What another server sees otherwise; nothing: they agree.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let keys: BTreeSet<_> = self.state.keys().chain(other.state.keys()).collect();
        for key in keys {
            let (ours, theirs) = (self.state.get(key), other.state.get(key));
            if ours != theirs {
                found.push(format!("state {key:?}: {} or {}", self.name(ours), other.name(theirs)));
            }
        }
        let (ours, theirs) = (self.not_rejected(), other.not_rejected());
        // Nobody passes on what came too late.
        let is_kept_back = |id: &OwnedEventId| {
            (self.kept_back.contains(id) && !other.events.contains_key(id))
                || (other.kept_back.contains(id) && !self.events.contains_key(id))
        };
        for id in ours.symmetric_difference(&theirs).filter(|id| !is_kept_back(id)) {
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

//! Taking an event of a peer into the room: judged by its own auth events, by the state before it and by the present state, then stored beside the heads that
//! are there. Signatures and hashes were checked before ([`rules::intake`]); what is missing before it was fetched before.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use rules::{
    authorization::Refusal,
    event::Event,
    state::{StateKey, change_of},
    version::Version,
};
use ruma::{OwnedEventId, OwnedServerName, events::TimelineEventType};

use super::{ActionError, Actions, Slot, Storing, Writer, judging::Leaning};
use crate::{
    actions::{audit::Act, lane::Room, merge, purge, rows::Rows},
    storage::{
        Arrival, Direction, KeyRange, Limit, Pending, Place, StateRoot,
        history::{EventStanding, Head},
        keyspaces::{STAGED, TIMELINE},
    },
};

/// A peer's event whose signatures and hashes were checked.
#[derive(Clone, Debug)]
pub struct Arriving {
    /// The event.
    pub event: Event,
    /// Who brought it.
    pub peer: Option<OwnedServerName>,
    /// The rules refuse it whatever the room's state is.
    pub refused: Option<Refusal>,
    /// It may be part of the room, and is not shown, whatever the room's state is.
    pub hidden: Option<Refusal>,
    /// The state before it.
    pub before: Before,
    /// Where it is shown, if it is accepted.
    pub slot: Slot,
    /// Its row among those that waited, which goes with the commit.
    pub staged: Option<u64>,
    /// The peer handed it in for us to tell the others: the join, leave or knock of one of its people.
    pub handed_in: bool,
    /// What the room says now is to it.
    pub present: Present,
}

/// Whether what a room says now decides about an event (step 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Present {
    /// It decides about what comes behind everything.
    Decides,
    /// The room is rebuilt: what it says now is what it said then.
    WasAsked,
}

/// The state before an event.
#[derive(Clone, Debug)]
pub enum Before {
    /// What the states after its previous events make together; they are held.
    Parents,
    /// What peers say, each of them: numbers of state keys, and the events, all of them held. What differs is merged. There is a hole in the history before
    /// the event.
    Claimed(Vec<Vec<(u32, Arrival)>>),
}

impl From<Event> for Arriving {
    fn from(event: Event) -> Self {
        Self {
            event,
            peer: None,
            refused: None,
            hidden: None,
            before: Before::Parents,
            slot: Slot::End,
            staged: None,
            handed_in: false,
            present: Present::Decides,
        }
    }
}

/// What became of a peer's event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// The room was purged here: nothing of it is taken in again.
    Ignored,
    /// Part of the room.
    Accepted,
    /// It is held already; nothing was done.
    Known,
    /// Kept, not shown, not built upon.
    SoftFailed(Refusal),
    /// Kept as refused.
    Rejected(Refusal),
    /// It cannot be judged: these events before it, or among its auth events, are not held.
    Missing(Vec<OwnedEventId>),
}

/// Takes a peer's event into the room; it is on disk when this returns.
///
/// # Errors
/// [`ActionError::RoomNotFound`]; [`ActionError::Busy`]; when storage fails.
pub async fn remote(actions: &Actions, room: &Arc<Room>, arriving: impl Into<Arriving>) -> Result<Remote, ActionError> {
    remote_for(actions, room, arriving.into(), None).await
}

/// [`remote`]; where the event comes about by an act of an admin, that is written down with it.
///
/// # Errors
/// As [`remote`].
pub async fn remote_for(
    actions: &Actions,
    room: &Arc<Room>,
    arriving: Arriving,
    act: Option<Act<'_>>,
) -> Result<Remote, ActionError> {
    let Some(mut writer) = Writer::enter(actions, room).await? else { return nowhere(actions, room).await };
    // Where an event of the past is shown is found by scanning, which sees only what is on disk.
    if !writer.is_settled() && writer.looks_back(&arriving).await? {
        writer = writer.settled().await?;
    }
    let outcome = writer.arrive(arriving).await?;
    if matches!(outcome, Remote::Missing(_)) {
        return Ok(outcome);
    }
    if let Some(act) = act.filter(|_| outcome == Remote::Accepted) {
        act.record(actions, writer.commit_mut());
    }
    writer.commit().await?;
    Ok(outcome)
}

/// [`remote`] for several events, none of which has waited before, in this order and without the wait for the disk: nobody is told of the outcomes before they
/// are durable, and the next events can be judged meanwhile. After an error some may be taken in and others not.
///
/// # Errors
/// As [`remote`]; when all that they change is more than a commit may hold.
pub async fn hand_in_all(
    actions: &Actions,
    room: &Arc<Room>,
    arriving: Vec<Arriving>,
) -> Result<(Vec<Remote>, Option<Pending>), ActionError> {
    let mut outcomes = Vec::with_capacity(arriving.len());
    let Some(mut writer) = Writer::enter(actions, room).await? else {
        outcomes.resize(arriving.len(), nowhere(actions, room).await?);
        return Ok((outcomes, None));
    };
    let mut is_settled = writer.is_settled();
    for one in arriving {
        if !is_settled && writer.looks_back(&one).await? {
            writer = writer.settled().await?;
        }
        outcomes.push(writer.arrive(one).await?);
        is_settled = false;
    }
    let (_, durable) = writer.hand_over().await?;
    Ok((outcomes, Some(durable)))
}

/// What becomes of events of a room that is not here.
async fn nowhere(actions: &Actions, room: &Room) -> Result<Remote, ActionError> {
    let is_purged = purge::is_purged(actions, &room.id).await?;
    if is_purged { Ok(Remote::Ignored) } else { Err(ActionError::RoomNotFound) }
}

/// Keeps events to judge others by. They were judged by their auth events, and their auth events are held or come before them in the list.
///
/// # Errors
/// [`ActionError::RoomNotFound`]; [`ActionError::Busy`]; when storage fails.
pub async fn outliers(
    actions: &Actions,
    room: &Arc<Room>,
    events: Vec<(Arc<Event>, Option<Refusal>)>,
    peer: &OwnedServerName,
) -> Result<(), ActionError> {
    let mut writer = Writer::enter(actions, room).await?.ok_or(ActionError::RoomNotFound)?;
    for (event, refused) in events {
        if writer.rows().arrival_of(event.event_id()).await?.is_some() {
            continue;
        }
        if let Some(key) = change_of(&event).filter(|_| refused.is_none()) {
            writer.number_of(&key).await?;
        }
        let refused = refused.map(|refusal| refusal.reason().to_owned());
        let standing = EventStanding::Outlier { refused, peer: Some(peer.clone()) };
        writer.store_event(&event, Storing::hidden(standing, StateRoot::EMPTY, StateRoot::EMPTY)).await?;
    }
    writer.commit().await?;
    Ok(())
}

impl Writer {
    /// Everything that was staged or is under way is on disk, and the lane was entered again.
    async fn settled(self) -> Result<Self, ActionError> {
        let (actions, room) = (self.actions.clone(), Arc::clone(&self.room));
        self.commit().await?;
        Self::enter(&actions, &room).await?.ok_or(ActionError::RoomNotFound)
    }

    /// Where the event is shown depends on what is shown already.
    pub(super) async fn looks_back(&mut self, arriving: &Arriving) -> Result<bool, ActionError> {
        if arriving.slot != Slot::End {
            return Ok(true);
        }
        let is_waited_for = self.waiting_for(arriving.event.event_id()).await?.is_some();
        self.not_waited_for = (!is_waited_for).then(|| arriving.event.event_id().clone());
        Ok(is_waited_for)
    }

    /// Stages what a peer's event makes of the room.
    pub(super) async fn arrive(&mut self, mut arriving: Arriving) -> Result<Remote, ActionError> {
        if let Some(staged) = arriving.staged {
            self.commit.delete(&STAGED, &staged);
        }
        let former = self.held(arriving.event.event_id()).await?;
        // The beginning of a room is no news, even where it is known only as what others lean on.
        let is_beginning =
            former.is_some() && arriving.slot == Slot::End && *arriving.event.kind() == TimelineEventType::RoomCreate;
        if is_beginning || former.as_ref().is_some_and(|(_, stored)| stored.standing.is_in_room()) {
            return Ok(Remote::Known);
        }
        let mut missing = self.missing_parents(&arriving).await?;
        let present = self.present(&arriving.event).await?;
        if arriving.refused.is_none() {
            arriving.refused = self.leans_on_another_room(&arriving.event, &present).await?;
        }
        let auth_events = match self.auth_events(&arriving.event, &present).await? {
            _ if arriving.refused.is_some() => HashMap::new(),
            Ok(events) => events,
            Err(among_auth) => {
                missing.extend(among_auth);
                HashMap::new()
            }
        };
        if !missing.is_empty() {
            return Ok(Remote::Missing(missing));
        }
        let leans_on_present =
            present.len() == auth_events.len() && present.keys().all(|id| auth_events.contains_key(id));
        let leaning = Leaning { auth_events, leans_on_present };
        self.take_in(arriving, &leaning, former.map(|(arrival, _)| arrival)).await
    }

    /// Judges the event (steps 4 to 6 of the checks on receipt) and stages what follows.
    async fn take_in(
        &mut self,
        arriving: Arriving,
        leaning: &Leaning,
        former: Option<Arrival>,
    ) -> Result<Remote, ActionError> {
        let version = self.version()?;
        let Arriving { event, peer, refused, hidden, before, slot, handed_in, present, .. } = arriving;
        let sent_on = peer.clone().filter(|_| handed_in);
        let before = self.state_before(&event, before).await?;
        let rejected = match refused {
            Some(refusal) => Some(refusal),
            None => self.against_the_rules(&event, before, leaning).await?,
        };
        if let Some(refusal) = rejected {
            let event = Arc::new(event.into_rejected());
            let standing = EventStanding::Rejected { reason: refusal.reason().to_owned(), peer };
            self.store_event(&event, Storing { former, ..Storing::hidden(standing, before, before) }).await?;
            self.pass_holes_on(&event).await?;
            return Ok(Remote::Rejected(refusal));
        }
        let event = Arc::new(event);
        let arrival = former.unwrap_or(self.view()?.tip.next_arrival);
        let after = match change_of(&event) {
            Some(key) => self.state_with(before, &key, arrival).await?,
            None => before,
        };
        let waiting = match self.not_waited_for.take() {
            Some(id) if id == *event.event_id() => None,
            _ => self.waiting_for(event.event_id()).await?,
        };
        let slot = match (slot, &waiting) {
            (Slot::End, Some(waiting)) => match self.places_of(waiting).await?.first() {
                Some(child) => self.slot_before(*child).await?,
                None => slot,
            },
            (slot, _) => slot,
        };
        let now = self.view()?.tip.state;
        // What stands before shown events, or before everything, is not judged by what the room says now.
        let refusal = match (hidden, present) {
            _ if slot != Slot::End => None,
            (Some(hidden), _) => Some(hidden),
            // It was just judged by this very state.
            (None, Present::Decides) if before == now && *event.kind() != TimelineEventType::RoomCreate => None,
            (None, Present::Decides) => self.refused(&version, &event, now).await?,
            (None, Present::WasAsked) => None,
        };
        if let Some(refusal) = refusal {
            let standing = EventStanding::SoftFailed { reason: refusal.reason().to_owned(), peer };
            self.store_event(&event, Storing { former, ..Storing::hidden(standing, before, after) }).await?;
            self.pass_holes_on(&event).await?;
            self.redact_on_arrival(&event).await?;
            return Ok(Remote::SoftFailed(refusal));
        }
        let storing = Storing { former, ..Storing::shown(before, after, slot) };
        let (arrival, place) = self.store_event(&event, storing).await?;
        self.note_holes(&event, arrival, waiting.is_some()).await?;
        if slot == Slot::End {
            self.follow(&event, after).await?;
        } else {
            self.give_way(&event).await?;
        }
        self.apply_redaction(&event, before).await?;
        self.redact_on_arrival(&event).await?;
        if let Some(peer) = sent_on {
            self.send_last_on(&peer)?;
        }
        self.last_place = place;
        Ok(Remote::Accepted)
    }

    /// Stages an event of a local person that was built before the lane was left in between: it keeps its place in the room's history, whatever came meanwhile.
    ///
    /// # Errors
    /// When the rules of the room forbid it by now.
    pub async fn stage_built(&mut self, event: Arc<Event>, transaction_id: Option<String>) -> Result<(), ActionError> {
        let version = self.version()?;
        let before = self.state_before(&event, Before::Parents).await?;
        let now = self.view()?.tip.state;
        if let Some(refusal) = self.refused(&version, &event, now).await? {
            return Err(refusal.into());
        }
        self.place_ours(event, before, transaction_id).await
    }

    /// Where an event is shown that comes after the shown event behind it.
    async fn slot_before(&self, child: Place) -> Result<Slot, ActionError> {
        let range = KeyRange::all().before(&child);
        let page = self.room.store.scan(&TIMELINE, &self.room.home, range, Direction::Down, Limit::rows(1)).await?;
        let (before, steps) = (child, 1);
        Ok(if page.rows.is_empty() { Slot::Older { before, steps } } else { Slot::Hole { before, steps } })
    }

    /// The state that several states make together, its nodes staged.
    pub(super) async fn merged(&mut self, version: &Version, roots: &[StateRoot]) -> Result<StateRoot, ActionError> {
        let different: BTreeSet<StateRoot> = roots.iter().copied().collect();
        let at_hand = self.merged.get(&different).copied().or_else(|| self.working.merged(&different));
        match at_hand {
            Some(merged) => Ok(merged),
            None if different.len() <= 1 => Ok(different.into_iter().next().unwrap_or(StateRoot::EMPTY)),
            None => {
                metrics::counter!("yurt_state_resolutions_total").increment(1);
                let merged = self.resolved(version, roots).await?;
                self.merged.insert(different, merged);
                Ok(merged)
            }
        }
    }

    async fn resolved(&mut self, version: &Version, roots: &[StateRoot]) -> Result<StateRoot, ActionError> {
        let changes = merge::merge(&self.rows(), version, roots).await?;
        let first = roots.first().copied().unwrap_or(StateRoot::EMPTY);
        let mut numbered = Vec::with_capacity(changes.len());
        for (key, arrival) in changes {
            numbered.push((self.number_of(&key).await?, arrival));
        }
        if numbered.is_empty() { Ok(first) } else { self.state_changed(first, &numbered).await }
    }

    /// The event becomes a head, those before it cease to be, and the present state is what the heads make together.
    pub(super) async fn follow(&mut self, event: &Arc<Event>, after: StateRoot) -> Result<(), ActionError> {
        let behind = self.named_before(event).await?;
        let head = Head { event_id: event.event_id().clone(), depth: event.depth(), state: after };
        let tip = self.tip_mut()?;
        tip.heads.retain(|head| !behind.contains(&head.event_id));
        tip.heads.push(head);
        let now = self.merged_heads().await?;
        let before = self.view()?.tip.state;
        self.tip_mut()?.state = now;
        self.now_in_force(before, now).await
    }

    /// The state that the heads make together, its nodes staged.
    pub(super) async fn merged_heads(&mut self) -> Result<StateRoot, ActionError> {
        let version = self.version()?;
        let mut states: Vec<StateRoot> = self.view()?.tip.heads.iter().map(|head| head.state).collect();
        states.dedup();
        self.merged(&version, &states).await
    }

    pub(super) async fn now_in_force(&mut self, before: StateRoot, now: StateRoot) -> Result<(), ActionError> {
        let version = self.version()?;
        for (key, arrival) in self.changed_entries(before, now).await? {
            let event = match arrival {
                Some(arrival) => {
                    let (stored, event) = self.rows().event(&version, arrival).await?;
                    Some((arrival, stored.place, event))
                }
                None => None,
            };
            self.entry_changed(key, event).await?;
        }
        Ok(())
    }

    /// What differs between two states, by key.
    pub(super) async fn changed_entries(
        &self,
        before: StateRoot,
        now: StateRoot,
    ) -> Result<Vec<(StateKey, Option<Arrival>)>, ActionError> {
        let version = self.version()?;
        let rows: Rows<'_> = self.rows();
        let tree = crate::storage::StateTree::new(rows.store, rows.home.clone());
        let mut changed = Vec::new();
        for (_, old, new) in tree.diff(before, now).await? {
            let Some(arrival) = new.or(old) else { continue };
            let (_, event) = rows.event(&version, arrival).await?;
            if let Some(key) = change_of(&event) {
                changed.push((key, new));
            }
        }
        Ok(changed)
    }
}

//! Entering a room through another server: what it says about the room is stored a part at a time, and the room takes part with the last one, the join.
//!
//! Until then it has no head, or nobody of this server in it, so it is shown to nobody and takes nothing in. A crash leaves such a room behind; the next try
//! goes on with it, because what is held already is not stored again. A room that has heads from an earlier time is taken for what it was then: that people of
//! this server are in it, who joined without hearing of it, becomes true with the join as well.

use std::{collections::BTreeSet, pin::Pin, sync::Arc};

use rules::{
    event::Event, kind::RoomKind, permission::Membership, state::change_of, version::Version, visibility::membership_of,
};
use ruma::{OwnedEventId, OwnedServerName, OwnedUserId, UserId, events::TimelineEventType};

use super::{ActionError, Actions, Slot, Writer, store::Storing};
use crate::{
    actions::{lane::Room, purge, summary, summary::Basis, view::RoomView},
    storage::{
        Arrival, Effect, Home, Place, StateRoot, StateTree,
        history::{EventStanding, Head, Tip},
        keyspaces::{INVITES, PURGED, STATE_KEYS},
    },
};

/// Events of one commit, and their bytes.
const EVENTS_AT_A_TIME: usize = 60;
const BYTES_AT_A_TIME: usize = 384 * 1024;
/// Entries of a former state that are looked at together.
const ENTRIES_AT_A_TIME: usize = 500;

/// A room as another server tells of it: every event checked, and allowed by its auth events.
pub struct Entering {
    /// The room's version.
    pub version: Version,
    /// Its create event.
    pub create: Arc<Event>,
    /// What authorises the state, those first that lean on nothing else.
    pub auth_chain: Vec<OwnedEventId>,
    /// The state before the join, by [`rank`].
    pub state: Vec<OwnedEventId>,
    /// The join of a person of this server.
    pub join: Arc<Event>,
    /// Who told all this.
    pub through: OwnedServerName,
    /// Who has invited the person to a direct message.
    pub direct_with: Option<OwnedUserId>,
}

/// Events that are being read.
pub type Telling<'a> = Pin<Box<dyn Future<Output = Result<Vec<Arc<Event>>, ActionError>> + Send + 'a>>;

/// The events that another server has told of: all of them may be more than fits into memory.
pub trait Told: Send + Sync {
    /// These events, in this order.
    fn events<'a>(&'a self, ids: &'a [OwnedEventId]) -> Telling<'a>;
}

/// When an event of a state is stored: the lowest first. The join rule comes last: until then nobody takes the room for one that is open to all.
#[must_use]
pub fn rank(event_type: &str) -> u8 {
    match event_type {
        "m.room.create" => 0,
        "m.room.power_levels" => 1,
        "m.room.join_rules" => 3,
        _ => 2,
    }
}

/// Stores the room and enters it; everything is on disk when this returns.
///
/// # Errors
/// [`ActionError::Busy`]; when storage fails.
pub async fn enter(
    actions: &Actions,
    room: &Arc<Room>,
    entering: Entering,
    told: &dyn Told,
) -> Result<(), ActionError> {
    let Entering { version, create, auth_chain, state, join, through, direct_with } = entering;
    found(actions, room, &version, &create, &through).await?;
    let has_heads = room.view_even_hidden().await?.is_some_and(|view| !view.tip.heads.is_empty());
    let (mut numbers, mut ours) = (BTreeSet::new(), Vec::new());
    for ids in auth_chain.chunks(EVENTS_AT_A_TIME) {
        for events in parts(&told.events(ids).await?) {
            bring(actions, room, events, &through, None).await?;
        }
    }
    drop(auth_chain);
    for ids in state.chunks(EVENTS_AT_A_TIME) {
        let events = told.events(ids).await?;
        let (late, events): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|event| has_heads && is_join_of_ours(actions, event));
        for events in parts(&events) {
            bring(actions, room, events, &through, Some(&mut numbers)).await?;
        }
        ours.extend(late);
    }
    drop(state);
    for event in &ours {
        numbers.extend(number_of(room, event).await?);
    }
    drop_the_rest(actions, room, &numbers).await?;
    let mut writer = Writer::enter(actions, room).await?.ok_or(ActionError::RoomNotFound)?;
    let mut late = Vec::with_capacity(ours.len());
    for event in &ours {
        if let Some(arrival) = writer.hold(event, &through).await? {
            late.push((arrival, event));
        }
    }
    writer.adopt(&late, &mut numbers).await?;
    writer.come_in(&join, direct_with).await?;
    if purge::is_purged(actions, &room.id).await? {
        // An admin has brought it back.
        writer.commit.effect(Effect::new(Home::server()).delete(&PURGED, &room.id));
    }
    writer.commit().await?;
    Ok(())
}

fn is_join_of_ours(actions: &Actions, event: &Event) -> bool {
    let is_member = *event.kind() == TimelineEventType::RoomMember;
    let is_ours = <&UserId>::try_from(event.state_key().unwrap_or_default())
        .is_ok_and(|user_id| user_id.server_name() == actions.server_name);
    is_member && is_ours && membership_of(Some(event)) == Membership::Join
}

/// The number of the key that an event changes; none: no state has had it.
async fn number_of(room: &Room, event: &Event) -> Result<Option<u32>, ActionError> {
    let Some((kind, key)) = change_of(event) else { return Ok(None) };
    Ok(room.store.get(&STATE_KEYS, &room.home, &(kind.to_string(), key)).await?)
}

/// Makes the room, if it is not here from an earlier time: it holds its create event, and has no head.
pub(super) async fn found(
    actions: &Actions,
    room: &Arc<Room>,
    version: &Version,
    create: &Arc<Event>,
    through: &OwnedServerName,
) -> Result<(), ActionError> {
    let mut writer = Writer::enter_any(actions, room).await?;
    let present = match &writer.working.view {
        Some(view) => Some(Arc::clone(view)),
        None => room.view_even_hidden().await?,
    };
    if let Some(present) = present {
        let is_same = present.summary.create_event_id == *create.event_id();
        return if is_same { Ok(()) } else { Err(ActionError::internal("the room was created by another event")) };
    }
    writer.next = Some(RoomView {
        tip: Tip {
            heads: Vec::new(),
            state: StateRoot::EMPTY,
            next_arrival: Arrival::FIRST,
            next_place: Place::FIRST,
            messages: 0,
            state_keys: 0,
            state_rows: 1,
            last_activity: actions.now(),
        },
        summary: Arc::new(summary::of_create(version, create)),
        basis: Arc::new(Basis::new(*version, Arc::clone(create))),
        settings: Arc::default(),
    });
    writer.hold(create, through).await?;
    writer.commit().await?;
    Ok(())
}

/// The events in parts that fit into a commit.
fn parts(events: &[Arc<Event>]) -> impl Iterator<Item = &[Arc<Event>]> {
    let mut rest = events;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = rest.iter().take(EVENTS_AT_A_TIME).take_while(|event| {
            bytes += event.json().len();
            bytes <= BYTES_AT_A_TIME
        });
        let (part, behind) = rest.split_at_checked(fitting.count().max(1)).filter(|(part, _)| !part.is_empty())?;
        rest = behind;
        Some(part)
    })
}

/// Holds events; those of a state become part of the present one, and the numbers of their keys are noted.
async fn bring(
    actions: &Actions,
    room: &Arc<Room>,
    events: &[Arc<Event>],
    through: &OwnedServerName,
    numbers: Option<&mut BTreeSet<u32>>,
) -> Result<(), ActionError> {
    let mut writer = Writer::enter(actions, room).await?.ok_or(ActionError::RoomNotFound)?;
    let mut entries = Vec::with_capacity(events.len());
    for event in events {
        if let Some(arrival) = writer.hold(event, through).await? {
            entries.push((arrival, event));
        }
    }
    if let Some(numbers) = numbers {
        writer.adopt(&entries, numbers).await?;
    }
    writer.commit().await?;
    Ok(())
}

/// What the room had from an earlier time and has no longer goes.
async fn drop_the_rest(actions: &Actions, room: &Arc<Room>, numbers: &BTreeSet<u32>) -> Result<(), ActionError> {
    let mut from = Some(0);
    while let Some(start) = from {
        let root = room.view().await?.ok_or(ActionError::RoomNotFound)?.tip.state;
        let tree = StateTree::new(&room.store, room.home.clone());
        let entries = tree.walk(root, start, ENTRIES_AT_A_TIME).await?;
        let is_full = entries.len() == ENTRIES_AT_A_TIME;
        from = entries.last().filter(|_| is_full).and_then(|(last, _)| last.checked_add(1));
        let gone: Vec<_> = entries.into_iter().filter(|(number, _)| !numbers.contains(number)).collect();
        for some in gone.chunks(EVENTS_AT_A_TIME) {
            let mut writer = Writer::enter(actions, room).await?.ok_or(ActionError::RoomNotFound)?;
            let version = writer.version()?;
            let changes: Vec<_> = some.iter().map(|(number, _)| (*number, None)).collect();
            let root = writer.view()?.tip.state;
            let root = writer.state_changed(root, &changes).await?;
            writer.tip_mut()?.state = root;
            for (_, arrival) in some {
                let (_, event) = writer.rows().event(&version, *arrival).await?;
                if let Some(key) = change_of(&event) {
                    writer.entry_changed(key, None).await?;
                }
            }
            writer.commit().await?;
        }
    }
    Ok(())
}

impl Writer {
    /// Holds an event of which only its auth events are known. Answers its number; none: it was refused here before.
    async fn hold(&mut self, event: &Arc<Event>, through: &OwnedServerName) -> Result<Option<Arrival>, ActionError> {
        if let Some((arrival, stored)) = self.held(event.event_id()).await? {
            return Ok((!stored.standing.is_rejected()).then_some(arrival));
        }
        if let Some(key) = change_of(event) {
            self.number_of(&key).await?;
        }
        let standing = EventStanding::Outlier { refused: None, peer: Some(through.clone()) };
        let storing = Storing::hidden(standing, StateRoot::EMPTY, StateRoot::EMPTY);
        Ok(Some(self.store_event(event, storing).await?.0))
    }

    /// Makes events part of the present state.
    async fn adopt(
        &mut self,
        entries: &[(Arrival, &Arc<Event>)],
        numbers: &mut BTreeSet<u32>,
    ) -> Result<(), ActionError> {
        let root = self.view()?.tip.state;
        let tree = StateTree::new(&self.room.store, self.room.home.clone());
        let (mut changes, mut changed) = (Vec::new(), Vec::new());
        for (arrival, event) in entries {
            let Some(key) = change_of(event) else { continue };
            let number = self.number_of(&key).await?;
            numbers.insert(number);
            if tree.get(root, number).await? != Some(*arrival) {
                changes.push((number, Some(*arrival)));
                changed.push((key, *arrival, Arc::clone(event)));
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        let root = self.state_changed(root, &changes).await?;
        self.tip_mut()?.state = root;
        for (key, arrival, event) in changed {
            self.entry_changed(key, Some((arrival, None, event))).await?;
        }
        Ok(())
    }

    /// The join becomes the only head: what was before it is a hole.
    async fn come_in(&mut self, join: &Arc<Event>, direct_with: Option<OwnedUserId>) -> Result<(), ActionError> {
        let former = self.held(join.event_id()).await?;
        if former.as_ref().is_some_and(|(_, stored)| stored.standing.is_in_room()) {
            return Ok(());
        }
        let former = former.map(|(arrival, _)| arrival);
        let before = self.view()?.tip.state;
        let arrival = former.unwrap_or(self.view()?.tip.next_arrival);
        let key = change_of(join).ok_or_else(|| ActionError::internal("a join that is no state"))?;
        let after = self.state_with(before, &key, arrival).await?;
        let storing = Storing { former, ..Storing::shown(before, after, Slot::End) };
        let (arrival, place) = self.store_event(join, storing).await?;
        let was_waited_for = self.waiting_for(join.event_id()).await?.is_some();
        self.note_holes(join, arrival, was_waited_for).await?;
        let head = Head { event_id: join.event_id().clone(), depth: join.depth(), state: after };
        let tip = self.tip_mut()?;
        (tip.heads, tip.state) = (vec![head], after);
        self.entry_changed(key, Some((arrival, place, Arc::clone(join)))).await?;
        let invited = Effect::new(Home::person(join.sender())).delete(&INVITES, &self.room.id);
        self.commit.effect(invited);
        if let Some(inviter) = direct_with {
            self.make_direct(join.sender(), &inviter)?;
        }
        self.last_place = place;
        Ok(())
    }

    /// The invite said that the room is a direct message: here it is one, as long as it has two people.
    fn make_direct(&mut self, one: &UserId, other: &UserId) -> Result<(), ActionError> {
        let basis = Arc::clone(&self.view()?.basis);
        let mut changed = self.summary()?.clone();
        let says = RoomKind::read(&basis.create, true, None);
        if says == RoomKind::Direct && changed.joined + changed.invited <= 2 {
            changed.kind = RoomKind::Direct;
            self.set_summary(changed);
            self.tell_pair(&one.to_owned(), &other.to_owned());
        }
        Ok(())
    }

    /// The room is no longer one of two people: only its create event could say that it is a direct message all the same.
    pub(super) fn is_direct_no_longer(&self, joined: u64, invited: u64) -> Result<Option<RoomKind>, ActionError> {
        let view = self.view()?;
        let says = RoomKind::read(&view.basis.create, false, None);
        Ok(Some(says).filter(|says| joined + invited > 2 && *says != RoomKind::Direct))
    }
}

//! From a row of the feed to frames and to whom they go. Streams that follow the feed and streams that catch up with it use the same function, so both see
//! the same frames.
//!
//! The items of a row are, in this order: everything that is no event, then the events of each room. Each has a number within the row, whether or not
//! anybody gets it, so that a stream goes on in the middle of a row.

use std::{collections::HashMap, sync::Arc};

use rules::{event::Event, permission::Membership, visibility::membership_of};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::{Frame, FrameKind};
use crate::{
    actions::{
        ActionError, Actions, Caller, append::is_message, invites, lane::Room, members::membership, personal, rooms,
        rows, rows::Rows, timeline, view::RoomView,
    },
    live::{Audience, Listener},
    storage::{
        Arrival, Change, ChangeKind, Cursor, FeedRow, Place, StateRoot,
        history::StoredEvent,
        keyspaces::{COME_AGAIN, EVENTS, MEMBERS},
    },
};

/// Events that are read at once.
const EVENTS_AT_ONCE: usize = 64;

/// A frame and those who get it.
pub(super) struct Routed {
    /// They get it,
    pub(super) to: Arc<Vec<Listener>>,
    /// except this one, who gets another form of it.
    pub(super) but: Option<Listener>,
    /// The frame.
    pub(super) frame: Arc<Frame>,
}

/// What a row of the feed means for those who listen.
#[derive(Default)]
pub(super) struct Outcome {
    /// Their frames, in order.
    pub(super) frames: Vec<Routed>,
    /// Listeners who have come into a room or left it.
    pub(super) moved: Vec<(OwnedUserId, OwnedRoomId, bool)>,
    /// Who has sent a message where, or left without listening: they no longer type there.
    pub(super) spoke: Vec<(OwnedUserId, OwnedRoomId)>,
    /// People whose account or sessions have changed.
    pub(super) accounts: Vec<OwnedUserId>,
}

/// One row on its way to an audience.
pub(super) struct Routing<'a> {
    pub(super) actions: &'a Actions,
    pub(super) row: &'a FeedRow,
    /// Frames of the durable store have cursors; those of incognito rooms do not.
    pub(super) has_cursor: bool,
    /// Items at the beginning of the row that were given already.
    pub(super) skipped: u32,
    pub(super) audience: &'a mut Audience,
}

/// The items of a row so far, and of all.
struct Counting {
    next: u32,
    all: u32,
}

impl Routing<'_> {
    /// Frames for the audience, which knows afterwards who is in which room.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub(super) async fn run(mut self) -> Result<Outcome, ActionError> {
        let mut outcome = Outcome::default();
        let mut counting = Counting { next: 0, all: self.row.changes.iter().map(items).fold(0, u32::saturating_add) };
        for change in self.row.changes.iter().filter(|change| change.kind != ChangeKind::Events) {
            let cursor = self.count(&mut counting);
            self.apart_from_events(change, cursor, &mut outcome).await?;
        }
        for change in self.row.changes.iter().filter(|change| change.kind == ChangeKind::Events) {
            self.events(change, &mut counting, &mut outcome).await?;
        }
        Ok(outcome)
    }

    /// Counts an item; none: it was given already. The inner none: it has no cursor.
    fn count(&self, counting: &mut Counting) -> Option<Option<Cursor>> {
        counting.next = counting.next.saturating_add(1);
        let items = Some(counting.next).filter(|next| *next < counting.all);
        let cursor = self.has_cursor.then_some(Cursor { position: self.row.position, items });
        (counting.next > self.skipped).then_some(cursor)
    }

    async fn apart_from_events(
        &mut self,
        change: &Change,
        cursor: Option<Option<Cursor>>,
        outcome: &mut Outcome,
    ) -> Result<(), ActionError> {
        let about = change.about.as_ref();
        match change.kind {
            ChangeKind::Account => outcome.accounts.extend(change.home.as_person()),
            ChangeKind::Members | ChangeKind::Rooms => {
                let (room, person) = match change.kind {
                    ChangeKind::Members => (Some(&change.home), about),
                    _ => (about, Some(&change.home)),
                };
                let (Some(room_id), Some(user_id)) =
                    (room.and_then(|home| home.as_room()), person.and_then(|home| home.as_person()))
                else {
                    return Ok(());
                };
                let Some(listener) = self.audience.listener(&user_id) else {
                    if self.actions.typing.has(&room_id, &user_id)
                        && !is_join(self.actions, &room_id, &user_id, change.number).await?
                    {
                        outcome.spoke.push((user_id, room_id));
                    }
                    return Ok(());
                };
                let is_in = is_join(self.actions, &room_id, &user_id, change.number).await?;
                let has_moved = self.audience.set(&user_id, &room_id, is_in);
                if has_moved {
                    outcome.moved.push((user_id.clone(), room_id.clone(), is_in));
                }
                // Who was in the room and still is has a new name or picture there: the event says so.
                let Some(cursor) = cursor.filter(|_| has_moved || !is_in) else { return Ok(()) };
                let kind = match change.kind {
                    ChangeKind::Members => room_frame(self.actions, &user_id, room_id).await?,
                    _ => invited_frame(self.actions, &user_id, room_id).await?,
                };
                outcome.give(listener, kind, cursor);
            }
            ChangeKind::Personal | ChangeKind::ReadMarker => {
                let (Some(user_id), Some(room_id)) = (change.home.as_person(), about.and_then(|home| home.as_room()))
                else {
                    return Ok(());
                };
                let (Some(listener), Some(cursor)) = (self.audience.listener(&user_id), cursor) else { return Ok(()) };
                let kind = match change.kind {
                    ChangeKind::Personal => Some(room_frame(self.actions, &user_id, room_id).await?),
                    _ => marker_frame(self.actions, &user_id, room_id).await?,
                };
                if let Some(kind) = kind {
                    outcome.give(listener, kind, cursor);
                }
            }
            ChangeKind::Settings => {
                let (Some(room_id), Some(cursor)) = (change.home.as_room(), cursor) else { return Ok(()) };
                for (user_id, listener) in self.audience.people_of(&room_id) {
                    let kind = room_frame(self.actions, &user_id, room_id.clone()).await?;
                    outcome.give(listener, kind, cursor);
                }
            }
            ChangeKind::Events | ChangeKind::Owed => {}
        }
        Ok(())
    }

    /// The events that the row added to a room go to those who are in it. Whose membership changes in the same row is looked up for each event.
    async fn events(
        &mut self,
        change: &Change,
        counting: &mut Counting,
        outcome: &mut Outcome,
    ) -> Result<(), ActionError> {
        let Some(room_id) = change.home.as_room() else { return Ok(()) };
        let moving = self.moving(change);
        let mut staying = self.audience.of_room(&room_id);
        if !moving.is_empty() {
            let moves = |listener: &Listener| moving.iter().any(|(_, moving)| moving == listener);
            staying = Arc::new(staying.iter().copied().filter(|listener| !moves(listener)).collect());
        }
        let view =
            if staying.is_empty() && moving.is_empty() { None } else { self.actions.room(&room_id).view().await? };
        let Some(view) = view else {
            // Nobody listens, or the room is no more.
            counting.next = counting.next.saturating_add(items(change));
            return Ok(());
        };
        let room = self.actions.room(&room_id);
        let there = There { room: &room, view: &view, moving: &moving, staying: &staying };
        let arrivals: Vec<Arrival> = (change.first..=change.number).filter_map(Arrival::new).collect();
        for some in arrivals.chunks(EVENTS_AT_ONCE) {
            let stored = room.store.get_many(&EVENTS, &room.home, some).await?;
            for (stored, number) in stored.into_iter().zip(some) {
                let cursor = self.count(counting);
                let stored = match stored {
                    Some(stored) => Some(stored).filter(|stored| stored.came_again.is_none()),
                    None => come_again(&room, number).await?,
                };
                // What belongs to the past is read page by page, not told as news.
                let stored = stored.filter(|stored| stored.place.is_some_and(Place::is_live));
                if let (Some(stored), Some(cursor)) = (stored, cursor) {
                    there.route(&stored, cursor, outcome, self.audience).await?;
                }
            }
        }
        Ok(())
    }

    /// Those of the audience whose membership of the room changes in this row.
    fn moving(&self, events: &Change) -> Vec<(OwnedUserId, Listener)> {
        let of_room = |change: &&Change| change.kind == ChangeKind::Members && change.home == events.home;
        let people = self.row.changes.iter().filter(of_room).filter_map(|change| change.about.as_ref()?.as_person());
        people.filter_map(|user_id| self.audience.listener(&user_id).map(|listener| (user_id, listener))).collect()
    }
}

/// A room whose events are routed.
struct There<'a> {
    room: &'a Room,
    view: &'a RoomView,
    moving: &'a [(OwnedUserId, Listener)],
    staying: &'a Arc<Vec<Listener>>,
}

impl There<'_> {
    async fn route(
        &self,
        stored: &StoredEvent,
        cursor: Option<Cursor>,
        outcome: &mut Outcome,
        audience: &Audience,
    ) -> Result<(), ActionError> {
        let rows = Rows::on_disk(&self.room.store, &self.room.home);
        let Some(shown) = timeline::shown(&rows, self.view, stored).await? else { return Ok(()) };
        let sender = shown.event.sender().clone();
        if is_message(shown.event.kind()) {
            outcome.spoke.push((sender.clone(), self.room.id.clone()));
        }
        let mut to = Arc::clone(self.staying);
        for (user_id, listener) in self.moving {
            if was_in(&rows, self.view, stored, &shown.event, user_id).await? {
                Arc::make_mut(&mut to).push(*listener);
            }
        }
        let author = audience.listener(&sender).filter(|author| shown.transaction_id.is_some() && to.contains(author));
        if let Some(author) = author {
            outcome.give(author, FrameKind::Event(shown.clone()), cursor);
        }
        let frame = Frame::new(FrameKind::Event(timeline::EventView { transaction_id: None, ..shown }), cursor);
        if to.iter().any(|listener| Some(*listener) != author) {
            outcome.frames.push(Routed { to, but: author, frame: Arc::new(frame) });
        }
        Ok(())
    }
}

impl Outcome {
    fn give(&mut self, listener: Listener, kind: FrameKind, cursor: Option<Cursor>) {
        let frame = Arc::new(Frame::new(kind, cursor));
        self.frames.push(Routed { to: Arc::new(vec![listener]), but: None, frame });
    }
}

/// The event that was an outlier first and took its place under this number.
async fn come_again(room: &Room, number: &Arrival) -> Result<Option<StoredEvent>, ActionError> {
    let Some(arrival) = room.store.get(&COME_AGAIN, &room.home, number).await? else { return Ok(None) };
    Ok(room.store.get(&EVENTS, &room.home, &arrival).await?)
}

/// How many items a change has: each event is one.
fn items(change: &Change) -> u32 {
    if change.kind != ChangeKind::Events {
        return 1;
    }
    u32::try_from(change.number.saturating_sub(change.first)).unwrap_or(u32::MAX).saturating_add(1)
}

/// The member event of this number says that the person is in the room.
pub(super) async fn is_join(
    actions: &Actions,
    room_id: &RoomId,
    user_id: &UserId,
    number: u64,
) -> Result<bool, ActionError> {
    let event = member_event(actions, room_id, user_id, number).await?;
    Ok(membership_of(event.as_ref().map(|(_, event)| event)) == Membership::Join)
}

/// The person was in the room before the member event of this number.
pub(super) async fn was_join(
    actions: &Actions,
    room_id: &RoomId,
    user_id: &UserId,
    number: u64,
) -> Result<bool, ActionError> {
    let Some((stored, _)) = member_event(actions, room_id, user_id, number).await? else { return Ok(false) };
    let room = actions.room(room_id);
    let Some(view) = room.view().await? else { return Ok(false) };
    let rows = Rows::on_disk(&room.store, &room.home);
    Ok(membership_at(&rows, &view, stored.state_before, user_id).await? == Membership::Join)
}

async fn member_event(
    actions: &Actions,
    room_id: &RoomId,
    user_id: &UserId,
    number: u64,
) -> Result<Option<(StoredEvent, Event)>, ActionError> {
    let room = actions.room(room_id);
    let (Some(arrival), Some(view)) = (Arrival::new(number), room.view().await?) else { return Ok(None) };
    let Some(stored) = room.store.get(&EVENTS, &room.home, &arrival).await? else { return Ok(None) };
    let event = rows::read(&stored, &room.home, &view.basis.version)?;
    let is_theirs = event.type_str() == "m.room.member" && event.state_key() == Some(user_id.as_str());
    Ok(is_theirs.then_some((stored, event)))
}

/// The person was in the room after the event, or it is the one by which they left.
async fn was_in(
    rows: &Rows<'_>,
    view: &RoomView,
    stored: &StoredEvent,
    event: &Event,
    user_id: &UserId,
) -> Result<bool, ActionError> {
    if membership_at(rows, view, stored.state_after, user_id).await? == Membership::Join {
        return Ok(true);
    }
    let is_own = event.type_str() == "m.room.member" && event.state_key() == Some(user_id.as_str());
    Ok(is_own && membership_at(rows, view, stored.state_before, user_id).await? == Membership::Join)
}

async fn membership_at(
    rows: &Rows<'_>,
    view: &RoomView,
    root: StateRoot,
    user_id: &UserId,
) -> Result<Membership, ActionError> {
    let event = rows.state_event(&view.basis.version, root, "m.room.member", user_id.as_str()).await?;
    Ok(membership_of(event.as_deref()))
}

/// The room as the person sees it now.
async fn room_frame(actions: &Actions, user_id: &UserId, room_id: OwnedRoomId) -> Result<FrameKind, ActionError> {
    let room = actions.room(&room_id);
    let member = room.store.get(&MEMBERS, &room.home, &user_id.to_owned()).await?;
    let membership = membership(member.as_ref());
    let seen = room.view().await?.filter(|view| view.is_visible_to(member.as_ref()));
    let room = match seen {
        Some(view) => {
            let caller = Caller::local(user_id, false);
            Some(Box::new(rooms::describe(actions, &caller, &room, view, member.as_ref()).await?))
        }
        None => None,
    };
    Ok(FrameKind::Room { room_id, membership, room })
}

/// A room that nobody of this server is in: the person is invited there, or the room is no more.
async fn invited_frame(actions: &Actions, user_id: &UserId, room_id: OwnedRoomId) -> Result<FrameKind, ActionError> {
    let room = invites::details(actions, user_id, &room_id).await?.map(Box::new);
    let membership = room.as_ref().map_or(Membership::None, |room| room.membership);
    Ok(FrameKind::Room { room_id, membership, room })
}

/// How far the person has read now; none: the room or the marker is no more.
async fn marker_frame(
    actions: &Actions,
    user_id: &UserId,
    room_id: OwnedRoomId,
) -> Result<Option<FrameKind>, ActionError> {
    let room = actions.room(&room_id);
    let Some(view) = room.view().await? else { return Ok(None) };
    let member = room.store.get(&MEMBERS, &room.home, &user_id.to_owned()).await?;
    let personal = personal::view(actions, user_id, &room, &view, member.as_ref()).await?;
    let (unread, notify) = (personal.unread, personal.notify);
    Ok(personal.read_event_id.map(|event_id| FrameKind::ReadMarker { room_id, event_id, unread, notify }))
}

/// What the row says of a person's rooms: the numbers of their first member event in it, and of the one that is in force after it.
pub(super) fn relations_of(row: &FeedRow, user_id: &UserId) -> HashMap<OwnedRoomId, (u64, u64)> {
    let mut relations: HashMap<OwnedRoomId, (u64, u64)> = HashMap::new();
    for change in &row.changes {
        let about = change.about.as_ref();
        let is_about = |home: Option<OwnedUserId>| home.is_some_and(|person| person == user_id);
        let room_id = match change.kind {
            ChangeKind::Members if is_about(about.and_then(|home| home.as_person())) => change.home.as_room(),
            ChangeKind::Rooms if is_about(change.home.as_person()) => about.and_then(|home| home.as_room()),
            _ => None,
        };
        if let Some(room_id) = room_id {
            let (first, last) = relations.entry(room_id).or_insert((change.first, change.number));
            (*first, *last) = (change.first.min(*first), change.number);
        }
    }
    relations
}

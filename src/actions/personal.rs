//! What people set for themselves in a room: how far they have read, what reaches them, when they want quiet. Nobody else sees it, nothing of it is an event.

use std::sync::atomic::{AtomicBool, Ordering};

use rules::{UnixMs, kind::RoomKind, permission::Membership};
use ruma::{OwnedEventId, OwnedRoomId, UserId};

use super::{
    ActionError, Actions, Caller,
    lane::Room,
    members::membership,
    outgoing,
    rooms::{self, Opened, RoomDetails},
    rows::{self, Rows},
    timeline,
    view::RoomView,
};
use crate::storage::{
    ChangeKind, Commit, Direction, Home, KeyRange, Limit,
    keyspaces::{EVENTS, IN_ROOMS, MENTIONS, PERSONAL},
    members::{InRoom, Member, Mute, NotificationMode, Personal, ReadMarker},
};

/// Mentions that are counted; more are told as this many.
const MENTIONS_COUNTED_MAX: usize = 10_000;

/// What a person has set in a room, and what is unread there.
#[derive(Clone, Debug)]
pub struct PersonalView {
    /// What reaches the person: as chosen, or the default of the room's type.
    pub notification_mode: NotificationMode,
    /// Quiet, as long as it lasts.
    pub mute: Option<Mute>,
    /// The last event read.
    pub read_event_id: Option<OwnedEventId>,
    /// Messages of others since then.
    pub unread: u64,
    /// Those among them that the mode lets through.
    pub notify: u64,
    /// The person wants the room at hand.
    pub pinned: bool,
}

/// All rooms of a person, past ones included, durable and incognito ones.
///
/// # Errors
/// When storage cannot be read.
pub async fn rooms_of(actions: &Actions, user_id: &UserId) -> Result<Vec<(OwnedRoomId, InRoom)>, ActionError> {
    let home = Home::person(user_id);
    let mut rooms = Vec::new();
    for store in actions.stores() {
        rooms.extend(rows::all(store, &IN_ROOMS, &home, KeyRange::all()).await?);
    }
    Ok(rooms)
}

/// What a person has set in a room, and what is unread there.
///
/// # Errors
/// When storage cannot be read.
pub async fn view(
    actions: &Actions,
    user_id: &UserId,
    room: &Room,
    view: &RoomView,
    member: Option<&Member>,
) -> Result<PersonalView, ActionError> {
    let home = Home::person(user_id);
    let row = room.store.get(&PERSONAL, &home, &room.id).await?.unwrap_or_default();
    let default =
        if view.summary.kind == RoomKind::Direct { NotificationMode::All } else { NotificationMode::Mentions };
    let chosen = row.notification_mode.filter(|mode| *mode != NotificationMode::Inherit);
    let notification_mode = chosen.unwrap_or(default);
    let mute = row.mute.filter(|mute| match mute {
        Mute::Forever => true,
        Mute::Until(until) => *until > actions.now(),
    });
    let unread = match member {
        Some(member) if member.membership == Membership::Join => {
            unread(user_id, room, view, member, row.read.as_ref()).await?
        }
        _ => 0,
    };
    let notify = match (mute, notification_mode) {
        (Some(_), _) | (None, NotificationMode::None | NotificationMode::Inherit) => 0,
        (None, NotificationMode::All) => unread,
        (None, NotificationMode::Mentions) if unread == 0 => 0,
        (None, NotificationMode::Mentions) => mentions(user_id, room, row.read.as_ref(), member).await?.min(unread),
    };
    Ok(PersonalView {
        notification_mode,
        mute,
        read_event_id: row.read.map(|read| read.event_id),
        unread,
        notify,
        pinned: row.pinned,
    })
}

/// Messages of others since the read marker, or since the join where that was later: the difference of two counters.
async fn unread(
    user_id: &UserId,
    room: &Room,
    view: &RoomView,
    member: &Member,
    read: Option<&ReadMarker>,
) -> Result<u64, ActionError> {
    let since = match read {
        Some(read) if read.messages >= member.messages_at_join => (read.messages, read.own),
        _ => (member.messages_at_join, member.own_at_join),
    };
    let all = view.tip.messages.saturating_sub(since.0);
    if all == 0 {
        return Ok(0);
    }
    let own = Rows::on_disk(&room.store, &room.home).own_messages(user_id, None).await?;
    Ok(all.saturating_sub(own.saturating_sub(since.1)))
}

async fn mentions(
    user_id: &UserId,
    room: &Room,
    read: Option<&ReadMarker>,
    member: Option<&Member>,
) -> Result<u64, ActionError> {
    let mut range = KeyRange::prefix(&room.id);
    if let Some(read) = read.filter(|read| member.is_none_or(|member| read.messages >= member.messages_at_join)) {
        range = range.after(&(room.id.clone(), read.place));
    }
    let limit = Limit::rows(MENTIONS_COUNTED_MAX);
    let page = room.store.scan(&MENTIONS, &Home::person(user_id), range, Direction::Up, limit).await?;
    u64::try_from(page.rows.len()).map_err(ActionError::internal)
}

/// Moves the read marker to an event; one that is further already stays.
///
/// # Errors
/// [`ActionError::EventNotFound`] for an event that the caller may not see.
pub async fn mark_read(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    event_id: &str,
) -> Result<RoomDetails, ActionError> {
    let opened = rooms::open(actions, caller, reference).await?;
    let event_id = &*timeline::parse_id(event_id)?;
    let rows = Rows::on_disk(&opened.room.store, &opened.room.home);
    let seen = timeline::visible(caller, &rows, &opened.view, opened.member.as_ref(), event_id).await?;
    let arrival = rows.arrival_of(event_id).await?.ok_or(ActionError::EventNotFound)?;
    let stored = rows.get(&EVENTS, &arrival).await?.ok_or(ActionError::EventNotFound)?;
    let own = rows.own_messages(&caller.user_id, Some(seen.place)).await?;
    let marker = ReadMarker { event_id: event_id.to_owned(), place: seen.place, messages: stored.messages, own };
    let home = Home::person(&caller.user_id);
    let room_id = opened.room.id.clone();
    let through = KeyRange::prefix(&room_id).through(&(room_id.clone(), marker.place));
    let past = opened.room.store.scan(&MENTIONS, &home, through, Direction::Up, Limit::rows(500)).await?;
    let has_moved = AtomicBool::new(false);
    change(actions, caller, &opened, ChangeKind::ReadMarker, |row, commit| {
        if row.read.as_ref().is_some_and(|read| read.place >= marker.place) {
            return;
        }
        row.read = Some(marker.clone());
        has_moved.store(true, Ordering::Relaxed);
        for (mention, ()) in &past.rows {
            commit.delete(&MENTIONS, mention);
        }
    })
    .await?;
    if has_moved.into_inner() {
        outgoing::has_read(actions, &opened.room, &opened.view, &caller.user_id, event_id.to_owned()).await;
    }
    opened.details(actions, caller).await
}

/// Chooses what of the room reaches the caller.
///
/// # Errors
/// A room that the caller is not in.
pub async fn set_notification_mode(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    mode: NotificationMode,
) -> Result<RoomDetails, ActionError> {
    let opened = member_of(actions, caller, reference).await?;
    change(actions, caller, &opened, ChangeKind::Personal, |row, _| row.notification_mode = Some(mode)).await?;
    opened.details(actions, caller).await
}

/// Puts the room at hand, or no longer.
///
/// # Errors
/// A room that the caller is not in.
pub async fn set_pin(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    pinned: bool,
) -> Result<RoomDetails, ActionError> {
    let opened = member_of(actions, caller, reference).await?;
    change(actions, caller, &opened, ChangeKind::Personal, |row, _| row.pinned = pinned).await?;
    opened.details(actions, caller).await
}

/// Wants quiet until a time, for ever, or no longer.
///
/// # Errors
/// A time that has passed; a room that the caller is not in.
pub async fn set_mute(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    mute: Option<Mute>,
) -> Result<RoomDetails, ActionError> {
    let opened = member_of(actions, caller, reference).await?;
    if opened.view.summary.kind == RoomKind::Workspace {
        return Err(ActionError::type_invariant("a workspace sends nothing that could be muted"));
    }
    if let Some(Mute::Until(until)) = mute
        && until <= actions.now()
    {
        return Err(ActionError::invalid("muted_until", "lies in the past; null unmutes"));
    }
    change(actions, caller, &opened, ChangeKind::Personal, |row, _| row.mute = mute).await?;
    opened.details(actions, caller).await
}

/// A moment that far from now.
pub fn after(actions: &Actions, duration_ms: u64) -> UnixMs {
    UnixMs(actions.now().0.saturating_add(duration_ms))
}

async fn member_of(actions: &Actions, caller: &Caller, reference: &str) -> Result<Opened, ActionError> {
    let opened = rooms::open(actions, caller, reference).await?;
    match membership(opened.member.as_ref()) {
        Membership::Invite => {}
        present => present.joined()?,
    }
    Ok(opened)
}

/// Changes the caller's row for a room. Changes of one person in one room come one after the other.
async fn change(
    actions: &Actions,
    caller: &Caller,
    opened: &Opened,
    kind: ChangeKind,
    apply: impl Fn(&mut Personal, &mut Commit),
) -> Result<(), ActionError> {
    let (store, home, room_id) = (&opened.room.store, Home::person(&caller.user_id), &opened.room.id);
    let _gate = actions.gates.enter("personal", &format!("{} {room_id}", caller.user_id)).await?;
    let before = store.get(&PERSONAL, &home, room_id).await?;
    let mut commit = Commit::new(home.clone());
    match &before {
        Some(row) => commit.require_same(&PERSONAL, room_id, row),
        None => commit.require_absent(&PERSONAL, room_id),
    };
    let mut after = before.clone().unwrap_or_default();
    apply(&mut after, &mut commit);
    if before.as_ref() != Some(&after) {
        commit.put(&PERSONAL, room_id, &after).change_about(kind, opened.room.home.clone(), 0);
        store.commit(commit).await?;
    }
    Ok(())
}

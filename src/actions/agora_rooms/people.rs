//! The people of a room, as the API `/{org}/{app}/chatrooms` knows them: members, admins, who may not speak, who is shut out.

use rules::permission::{Door, Membership};
use ruma::{OwnedUserId, UserId};
use serde_json::json;

use super::{AppRoom, forbidden};
use crate::{
    actions::{
        ActionError, Actions, Page, Silence, Window,
        app_tokens::App,
        bringing, levels,
        members::{self, Measure},
        rows, silence,
        silence::Silenced,
    },
    storage::{Direction, keyspaces::MEMBERS, members::Member},
};

/// Admins that a room may have beside its owner.
pub const ADMINS_MAX: usize = 99;
/// The level of an admin.
const ADMIN_LEVEL: i64 = 50;
/// The level of those who may speak while only some may.
const SPEAKER_LEVEL: i64 = 25;

/// What somebody is called: by the bare name here, by the full id elsewhere.
pub fn name<'a>(actions: &Actions, user_id: &'a UserId) -> &'a str {
    if actions.is_local(user_id) { user_id.localpart() } else { user_id.as_str() }
}

/// A page of those whom a room knows and who are wanted, by id.
async fn page(
    room: &AppRoom,
    is_wanted: impl Fn(&Member) -> bool,
    total: Option<u64>,
    window: Window,
) -> Result<Page<(OwnedUserId, Member)>, ActionError> {
    let total = total.map(usize::try_from).transpose().map_err(ActionError::internal)?;
    let (store, home) = (&room.room.store, &room.room.home);
    rows::page(store, &MEMBERS, home, Direction::Up, is_wanted, total, window).await
}

/// The joined members.
///
/// # Errors
/// When storage cannot be read.
pub async fn members(room: &AppRoom, window: Window) -> Result<Page<OwnedUserId>, ActionError> {
    let joined = page(room, |member| member.membership == Membership::Join, Some(room.view.summary.joined), window);
    Ok(joined.await?.map(|(user_id, _)| user_id))
}

/// Brings somebody of this server in. A public room they simply join.
///
/// # Errors
/// Somebody who is in the room, does not exist or is shut out; a full or frozen room; an owner who may not.
pub async fn add(actions: &Actions, app: &App, room: &AppRoom, target: &UserId) -> Result<(), ActionError> {
    const ACTION: &str = "member.add";
    members::must_exist(actions, target).await?;
    if room.membership(target).await? == Membership::Join {
        return Err(forbidden(format!("`{}` is in this room already", target.localpart())));
    }
    let id = room.room.id.as_str();
    if room.view.door() == Door::Public {
        members::join_here(actions, &app.as_person(target, ACTION), id).await.map(drop)
    } else {
        bringing::bring_in(actions, &room.caller(app, ACTION)?, id, target).await.map(drop)
    }
}

/// Brings several people in, and says who came. Nobody comes when one of them does not exist.
///
/// # Errors
/// When nobody came: why the first did not.
pub async fn add_all(
    actions: &Actions,
    app: &App,
    room: &AppRoom,
    targets: &[OwnedUserId],
) -> Result<Vec<OwnedUserId>, ActionError> {
    for target in targets {
        members::must_exist(actions, target).await?;
    }
    let (mut came, mut first) = (Vec::new(), None);
    for target in targets {
        match add(actions, app, room, target).await {
            Ok(()) => came.push(target.clone()),
            Err(error @ (ActionError::Internal(_) | ActionError::Busy)) if came.is_empty() => return Err(error),
            Err(error @ (ActionError::Internal(_) | ActionError::Busy)) => {
                tracing::error!(%error, "some people were brought in, and then it failed");
                break;
            }
            Err(error) => first = first.or(Some(error)),
        }
    }
    match first {
        Some(error) if came.is_empty() => Err(error),
        _ => Ok(came),
    }
}

/// Removes a member.
///
/// # Errors
/// Somebody who is not in the room; the owner; an owner who may not.
pub async fn remove(actions: &Actions, app: &App, room: &AppRoom, target: &UserId) -> Result<(), ActionError> {
    must_be_member(actions, room, target).await?;
    let caller = room.caller(app, "member.remove")?;
    members::take_measure(actions, &caller, room.room.id.as_str(), Measure::Kick, target, None).await.map(drop)
}

/// Somebody is in the room who is not its owner.
async fn must_be_member(actions: &Actions, room: &AppRoom, target: &UserId) -> Result<(), ActionError> {
    if room.membership(target).await? != Membership::Join {
        return Err(forbidden(format!("`{}` is not in this room", name(actions, target))));
    }
    if room.owner() == target {
        return Err(forbidden(format!("`{}` owns this room", name(actions, target))));
    }
    Ok(())
}

/// The admins: joined members from level 50 on, the owner left out.
///
/// # Errors
/// When storage cannot be read.
pub async fn admins(room: &AppRoom) -> Result<Vec<OwnedUserId>, ActionError> {
    with_levels(room, |level| level >= ADMIN_LEVEL).await
}

/// Joined members who have a level of their own that is wanted, the owner left out, by id.
async fn with_levels(room: &AppRoom, is_wanted: impl Fn(i64) -> bool) -> Result<Vec<OwnedUserId>, ActionError> {
    let mut found = Vec::new();
    for (user_id, level) in room.view.basis.levels.users() {
        if is_wanted(level) && user_id != room.owner() && room.membership(user_id).await? == Membership::Join {
            found.push(user_id.clone());
        }
    }
    found.sort();
    Ok(found)
}

/// Makes a member an admin, or takes that back.
///
/// # Errors
/// Somebody who is not in the room; the owner; too many admins; an owner who may not.
pub async fn set_admin(
    actions: &Actions,
    app: &App,
    room: &AppRoom,
    target: &UserId,
    is_admin: bool,
) -> Result<(), ActionError> {
    must_be_member(actions, room, target).await?;
    let admins = admins(room).await?;
    if is_admin == admins.iter().any(|admin| admin == target) {
        return Ok(());
    }
    if is_admin && admins.len() >= ADMINS_MAX {
        return Err(ActionError::RoomCapacity(format!("a room has at most {ADMINS_MAX} admins")));
    }
    let (level, action) = if is_admin { (ADMIN_LEVEL, "admin.add") } else { (0, "admin.remove") };
    levels::set_member(actions, &room.caller(app, action)?, room.room.id.as_str(), target, level).await.map(drop)
}

/// Makes another member of this server the owner; the owner is a member like all others then.
///
/// # Errors
/// Somebody who is not in the room, owns it or is of another server; a room whose version keeps its creator above all others.
pub async fn hand_over(actions: &Actions, app: &App, room: &AppRoom, target: &UserId) -> Result<(), ActionError> {
    must_be_member(actions, room, target).await?;
    if !actions.is_local(target) {
        return Err(forbidden(format!("`{target}` is of another server; the owner is somebody of this one")));
    }
    levels::hand_over(actions, &room.caller(app, "room.hand_over")?, room.room.id.as_str(), target).await.map(drop)
}

/// Those who may not speak, and until when; none: until it is lifted.
///
/// # Errors
/// When storage cannot be read.
pub async fn silenced(
    actions: &Actions,
    room: &AppRoom,
    window: Window,
) -> Result<Page<(OwnedUserId, Option<u64>)>, ActionError> {
    let now = actions.now();
    let holds = |member: &Member| {
        member.membership == Membership::Join && member.silence.is_some_and(|silence| silence.holds(now))
    };
    let until = |(user_id, member): (OwnedUserId, Member)| match member.silence {
        Some(Silence::Until(until)) => (user_id, Some(until.0)),
        _ => (user_id, None),
    };
    Ok(page(room, holds, None, window).await?.map(until))
}

/// Keeps a member from speaking, so many milliseconds from now or without an end.
///
/// # Errors
/// Somebody who is not in the room; the owner; an owner who may not.
pub async fn silence(
    actions: &Actions,
    app: &App,
    room: &AppRoom,
    target: &UserId,
    duration_ms: Option<u64>,
) -> Result<Silenced, ActionError> {
    must_be_member(actions, room, target).await?;
    silence::set(actions, &room.caller(app, "member.silence")?, room.room.id.as_str(), target, duration_ms).await
}

/// Lets a member speak again.
///
/// # Errors
/// As [`silence`].
pub async fn lift_silence(actions: &Actions, app: &App, room: &AppRoom, target: &UserId) -> Result<(), ActionError> {
    must_be_member(actions, room, target).await?;
    silence::lift(actions, &room.caller(app, "member.unsilence")?, room.room.id.as_str(), target).await.map(drop)
}

/// Lets only the owner, the admins and those on the allow list speak, or everybody.
///
/// # Errors
/// An owner who may not.
pub async fn silence_all(actions: &Actions, app: &App, room: &AppRoom, is_silent: bool) -> Result<(), ActionError> {
    let (level, action) = if is_silent { (SPEAKER_LEVEL, "room.silence") } else { (0, "room.unsilence") };
    let parts = serde_json::Map::from_iter([("events_default".to_owned(), json!(level))]);
    levels::set(actions, &room.caller(app, action)?, room.room.id.as_str(), parts).await.map(drop)
}

/// The allow list: joined members below an admin, who may speak when only some may.
///
/// # Errors
/// When storage cannot be read.
pub async fn allowed(room: &AppRoom, window: Window) -> Result<Page<OwnedUserId>, ActionError> {
    let allowed = with_levels(room, |level| (SPEAKER_LEVEL..ADMIN_LEVEL).contains(&level)).await?;
    Ok(Page::of(allowed, window))
}

/// Puts somebody on the allow list, or takes them off it.
///
/// # Errors
/// Somebody who is not in the room; who may speak always: the owner and the admins; an owner who may not.
pub async fn set_allowed(
    actions: &Actions,
    app: &App,
    room: &AppRoom,
    target: &UserId,
    is_allowed: bool,
) -> Result<(), ActionError> {
    must_be_member(actions, room, target).await?;
    let present = room.view.level(target).reported();
    if present >= ADMIN_LEVEL {
        return Err(forbidden(format!("`{}` is an admin, who may speak always", name(actions, target))));
    }
    if is_allowed == (present >= SPEAKER_LEVEL) {
        return Ok(());
    }
    let (level, action) = if is_allowed { (SPEAKER_LEVEL, "member.allow") } else { (0, "member.disallow") };
    levels::set_member(actions, &room.caller(app, action)?, room.room.id.as_str(), target, level).await.map(drop)
}

/// Those who are shut out.
///
/// # Errors
/// When storage cannot be read.
pub async fn blocked(room: &AppRoom, window: Window) -> Result<Page<OwnedUserId>, ActionError> {
    let banned = page(room, |member| member.membership == Membership::Ban, None, window).await?;
    Ok(banned.map(|(user_id, _)| user_id))
}

/// Shuts somebody out, or lifts that; who was shut out is not in the room afterwards either.
///
/// # Errors
/// Somebody who is not in the room, or not shut out; the owner; an owner who may not.
pub async fn set_blocked(
    actions: &Actions,
    app: &App,
    room: &AppRoom,
    target: &UserId,
    is_blocked: bool,
) -> Result<(), ActionError> {
    let (measure, action) = match is_blocked {
        true => (Measure::Ban, "member.block"),
        false => (Measure::Unban, "member.unblock"),
    };
    if is_blocked {
        must_be_member(actions, room, target).await?;
    } else if room.membership(target).await? != Membership::Ban {
        return Err(forbidden(format!("`{}` is not blocked here", name(actions, target))));
    }
    let caller = room.caller(app, action)?;
    members::take_measure(actions, &caller, room.room.id.as_str(), measure, target, None).await.map(drop)
}

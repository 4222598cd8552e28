//! Asking to be let into a room, and letting in who asked.
//!
//! A room whose join rule lets people knock stays hidden from who is not in it, and is in no list. Who knows its id or alias may knock, which makes the room
//! itself visible to them, not what is said in it. A room that takes no knocks answers a stranger as if it did not exist.

use std::sync::Arc;

use rules::{
    draft::Draft,
    permission::{Act, Membership},
};
use ruma::UserId;

use super::{
    ActionError, Actions, Caller,
    append::Writer,
    members::{self, membership},
    remote_invite, remote_leave,
    rooms::{self, Entered, RoomDetails},
    texts::{REASON_CHARACTERS_MAX, at_most, give_reason},
};
use crate::storage::keyspaces::MEMBERS;

/// Asks to be let in.
///
/// # Errors
/// A room that takes no requests, or lets the caller in without; banned; frozen; a room of another server.
pub async fn knock(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    via: &[String],
    reason: Option<String>,
) -> Result<RoomDetails, ActionError> {
    at_most("reason", reason.as_deref(), REASON_CHARACTERS_MAX)?;
    let unknown = || members::elsewhere(actions, reference, via, "knocking at this room");
    let room = match rooms::locate(actions, reference).await {
        Err(ActionError::RoomNotFound) if !actions.is_connected() => return Err(unknown()),
        Err(ActionError::RoomNotFound) => return remote_leave::knock(actions, caller, reference, via, reason).await,
        room => room?,
    };
    let writer = Writer::enter(actions, &room).await?;
    let is_elsewhere = match &writer {
        None => true,
        Some(writer) => writer.summary()?.is_elsewhere() || writer.view()?.tip.heads.is_empty(),
    };
    let Some(writer) = writer.filter(|_| !is_elsewhere) else {
        return match actions.is_connected() {
            true => remote_leave::knock(actions, caller, reference, via, reason).await,
            false => Err(unknown()),
        };
    };
    let member = writer.get(&MEMBERS, &caller.user_id).await?;
    let is_hidden = !writer.view()?.is_visible_to(member.as_ref());
    let mut entered = Entered { writer, member };
    if let Err(denial) = entered.may(caller, Act::Knock) {
        return Err(if is_hidden { unknown() } else { denial });
    }
    if membership(entered.member.as_ref()) != Membership::Knock {
        let mut content = members::profile_of(actions, &caller.user_id).await?;
        give_reason(&mut content, reason)?;
        entered.writer.stage(&caller.user_id, Draft::member(&caller.user_id, "knock", content)).await?;
    }
    entered.finish(actions, caller).await
}

/// Lets in who knocked: an invite, which the person then takes with a join.
///
/// # Errors
/// A level too low; [`ActionError::HasNotKnocked`].
pub async fn approve(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    target: &UserId,
) -> Result<RoomDetails, ActionError> {
    let mut entered = rooms::enter(actions, caller, reference).await?;
    entered.may(caller, Act::Invite)?;
    match entered.membership_of(target).await? {
        Membership::Join | Membership::Invite => {}
        Membership::Knock => {
            members::must_be_invitable(actions, target).await?;
            let content = members::profile_of(actions, target).await?;
            if !actions.is_local(target) {
                let room = Arc::clone(&entered.writer.room);
                drop(entered);
                remote_invite::invite(actions, caller, &room, target, content).await?;
                return rooms::details(actions, caller, room.id.as_str()).await;
            }
            entered.writer.stage(&caller.user_id, Draft::member(target, "invite", content)).await?;
        }
        Membership::None | Membership::Leave | Membership::Ban => {
            return Err(ActionError::HasNotKnocked(target.to_string()));
        }
    }
    entered.finish(actions, caller).await
}

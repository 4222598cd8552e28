//! Bringing people of this server into a room that is there already, as a new room begins with some: they are invited and in at once.

use rules::permission::{Act, Membership, Reason, Standing};
use ruma::{CanonicalJsonObject, UserId};

use super::{
    ActionError, Actions, Caller,
    members::{self, membership},
    rooms::{self, RoomDetails},
};

/// Brings somebody of this server into a room, without asking them. Who is in it already stays.
///
/// # Errors
/// A level too low for inviting or for the settings; a direct message; somebody of another server, unknown or banned; a full or frozen room.
pub async fn bring_in(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    target: &UserId,
) -> Result<RoomDetails, ActionError> {
    let mut entered = rooms::enter(actions, caller, reference).await?;
    let present = entered.membership_of(target).await?;
    if present == Membership::Join && membership(entered.member.as_ref()) == Membership::Join {
        return entered.finish(actions, caller).await;
    }
    entered.may(caller, Act::Invite)?;
    entered.may(caller, Act::Settings)?;
    if !actions.is_local(target) {
        let problem = format!("{target} is of another server and can only be invited");
        return Err(ActionError::invalid("participant_id", problem));
    }
    members::must_exist(actions, target).await?;
    if present == Membership::Ban {
        let message = format!("{target} is banned from this room; lift the ban with POST …/unban first");
        return Err(ActionError::RoomForbidden { reason: Reason::Membership, message });
    }
    let standing = entered.writer.standing(caller, entered.member.as_ref())?;
    Standing { membership: Membership::Invite, ..standing }.may(Act::Join)?;
    if present == Membership::Invite {
        members::stage_join(actions, &mut entered.writer, target).await?;
    } else {
        let says = CanonicalJsonObject::new();
        members::stage_brought(actions, &mut entered.writer, &caller.user_id, target, says).await?;
    }
    entered.finish(actions, caller).await
}

//! Rooms that members of other rooms may enter: whether somebody is such a member, and who vouches for it.
//!
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#restricted-rooms>

use federation::Refusal;
use rules::permission::Membership;
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::Value;

use crate::{
    actions::{
        Actions,
        append::Writer,
        incoming::guests::{self, Met, failed},
        members::membership,
        room_passwords, summary,
    },
    storage::keyspaces::MEMBERS,
};

/// Rooms of a join rule that are looked at.
const ALLOWED_MAX: usize = 100;

/// The local member who vouches for a join: the user is in one of the rooms that the join rule names, and the member may invite.
pub(in crate::actions) async fn vouch(
    actions: &Actions,
    met: &Met,
    writer: &Writer,
    user_id: &UserId,
) -> Result<OwnedUserId, Refusal> {
    is_let_in(actions, met, user_id).await?;
    let voucher = room_passwords::inviter(actions, &met.room, writer).await.map_err(failed)?;
    voucher.ok_or(Refusal::UnableToGrantJoin)
}

/// The user is in one of the rooms that the join rule names, as far as those are known here.
pub(in crate::actions) async fn is_let_in(actions: &Actions, met: &Met, user_id: &UserId) -> Result<(), Refusal> {
    let mut is_any_known = false;
    for room_id in allowed(met).await? {
        let Some(other) = guests::find(actions, &room_id).await.map_err(failed)? else { continue };
        is_any_known = true;
        let member = other.rows().get(&MEMBERS, &user_id.to_owned()).await.map_err(failed)?;
        if membership(member.as_ref()) == Membership::Join {
            return Ok(());
        }
    }
    Err(if is_any_known { Refusal::Forbidden } else { Refusal::UnableToAuthoriseJoin })
}

/// The rooms that the join rule names.
pub(in crate::actions) async fn allowed(met: &Met) -> Result<Vec<OwnedRoomId>, Refusal> {
    let (version, root) = (met.version(), met.view.tip.state);
    let rule = met.rows().state_event(&version, root, "m.room.join_rules", "").await.map_err(failed)?;
    let content = rule.map(|event| summary::content(&event)).unwrap_or_default();
    let allowed = content.get("allow").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let rooms = allowed.iter().take(ALLOWED_MAX).filter_map(|entry| {
        let is_membership = entry.get("type").and_then(Value::as_str) == Some("m.room_membership");
        let room_id = entry.get("room_id").and_then(Value::as_str).filter(|_| is_membership)?;
        RoomId::parse(room_id).ok()
    });
    Ok(rooms.collect())
}

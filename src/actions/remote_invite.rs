//! Inviting people of other servers: their server signs the invite first, then it takes its place in the room, beside whatever came meanwhile. It is never made
//! anew: what was signed is what is stored.

use std::sync::Arc;

use federation::{Pdu, local::Invite};
use futures_util::{StreamExt as _, stream};
use rules::draft::Draft;
use ruma::{CanonicalJsonObject, OwnedUserId, RoomId, UserId};

use super::{
    ActionError, Actions, Caller,
    append::{self, Arriving, Before, Remote, Slot, Writer},
    incoming::guests::{self, Met},
    lane::Room,
    quotas,
    remote_join::{CLIENT_WAIT_MAX, answer, pdu_of},
    remote_leave::told,
    summary,
};

/// People who are invited at the same time when a room is made.
const INVITES_AT_ONCE: usize = 8;
/// Bytes of what is shown of a room with an invite. What does not fit is left out, the create event never.
const ROOM_STATE_BYTES_MAX: usize = 128 * 1024;
/// What is shown of a room with an invite.
const SHOWN_TYPES: [&str; 7] = [
    "m.room.create",
    "m.room.join_rules",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.canonical_alias",
    "m.room.encryption",
];

/// Invites somebody of another server into a room of the caller. Whether the caller may, was asked before; the rules are asked here.
///
/// # Errors
/// A room that other servers take no part in; the other server is not reached, or does not take the invite; meanwhile the caller may no longer invite.
pub(super) async fn invite(
    actions: &Actions,
    caller: &Caller,
    room: &Arc<Room>,
    target: &UserId,
    content: CanonicalJsonObject,
) -> Result<(), ActionError> {
    let peer = target.server_name();
    let met = guests::find(actions, &room.id).await?.ok_or_else(|| {
        ActionError::FederationDisabled("this server keeps the room to itself; invite local people only".to_owned())
    })?;
    let create = summary::content(&met.view.basis.create);
    if create.get("m.federate").and_then(serde_json::Value::as_bool) == Some(false) {
        return Err(ActionError::FederationDisabled("the room can never be on another server".to_owned()));
    }
    must_be_connected(actions, target)?;
    quotas::count(actions, caller, peer)?;
    let event = {
        let mut writer = Writer::enter(actions, room).await?.ok_or(ActionError::RoomNotFound)?;
        writer.build(&caller.user_id, Draft::member(target, "invite", content)).await?.0
    };
    let mut room_state = room_state(&met).await?;
    let rows = met.rows();
    let inviter =
        rows.state_event(&met.version(), met.view.tip.state, "m.room.member", caller.user_id.as_str()).await?;
    if let Some(inviter) = inviter {
        room_state.push(pdu_of(&inviter)?);
    }
    let invite = Invite { room_version: met.version().id().clone(), event: pdu_of(&event)?, room_state };
    let answered = actions.peers().invite(peer, &room.id, event.event_id(), invite).await.map_err(told)?;
    let signer = peer.to_owned();
    let signed = answer::signed_also(actions, met.version(), &event, answered, Some(&signer)).await?;
    let signed = signed.ok_or_else(|| ActionError::internal("an invite without a signer"))?;
    let arriving = Arriving {
        event: rules::Event::clone(&signed),
        // Ours, and told to all others.
        peer: Some(actions.server_name.clone()),
        refused: None,
        hidden: None,
        before: Before::Parents,
        slot: Slot::End,
        staged: None,
        handed_in: true,
    };
    match append::remote(actions, room, arriving).await? {
        Remote::Accepted | Remote::Known => Ok(()),
        Remote::Rejected(refusal) | Remote::SoftFailed(refusal) => Err(refusal.into()),
        Remote::Ignored => Err(ActionError::RoomNotFound),
        Remote::Missing(_) => Err(ActionError::internal("an invite of ours follows events that are not here")),
    }
}

/// Invites people of other servers into a room that was just made. It goes on when it takes longer than a client waits; whoever cannot be invited is left out,
/// and can be invited again.
pub(super) async fn invite_all(actions: &Actions, caller: &Caller, room_id: &RoomId, people: Vec<OwnedUserId>) {
    if people.is_empty() {
        return;
    }
    let (working, caller, room) = (actions.clone(), caller.clone(), actions.room(room_id));
    let (done, is_done) = tokio::sync::oneshot::channel();
    actions.jobs.spawn(async move {
        let inviting = people.into_iter().map(|target| {
            let (actions, caller, room) = (working.clone(), caller.clone(), Arc::clone(&room));
            async move {
                if let Err(error) = invite(&actions, &caller, &room, &target, CanonicalJsonObject::new()).await {
                    tracing::info!(room.id = %room.id, %error, "`{target}` was not invited: {error}");
                }
            }
        });
        stream::iter(inviting).buffer_unordered(INVITES_AT_ONCE).collect::<()>().await;
        // Nobody waits any more, perhaps.
        done.send(()).ok();
    });
    // Past that the caller is answered; the work goes on.
    tokio::time::timeout(CLIENT_WAIT_MAX, is_done).await.ok();
}

/// Somebody of another server can be asked at all.
///
/// # Errors
/// [`ActionError::FederationDisabled`].
pub(super) fn must_be_connected(actions: &Actions, user_id: &UserId) -> Result<(), ActionError> {
    if actions.is_connected() { Ok(()) } else { Err(ActionError::needs_federation(&format!("inviting {user_id}"))) }
}

/// What of a room is shown to somebody who is invited, or knocks: whole events, so that they can be checked.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn room_state(met: &Met) -> Result<Vec<Pdu>, ActionError> {
    let (rows, mut left, mut shown) = (met.rows(), ROOM_STATE_BYTES_MAX, Vec::new());
    for event_type in SHOWN_TYPES {
        let event = rows.state_event(&met.version(), met.view.tip.state, event_type, "").await?;
        let Some(event) = event else { continue };
        if let Some(rest) = left.checked_sub(event.json().len()) {
            left = rest;
            shown.push(pdu_of(&event)?);
        }
    }
    Ok(shown)
}

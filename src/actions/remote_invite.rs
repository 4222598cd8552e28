//! Inviting people of other servers: their server signs the invite first, then it takes its place in the room, beside whatever came meanwhile. It is never made
//! anew: what was signed is what is stored.

use std::sync::Arc;

use federation::{Pdu, local::Invite};
use futures_util::{StreamExt as _, stream};
use rules::{
    draft::Draft,
    kind::RoomKind,
    permission::{self, Denial, Membership, Reason},
};
use ruma::{CanonicalJsonObject, OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::{
    ActionError, Actions, Caller,
    accounts::must_be_admin,
    append::{self, Arriving, Before, Remote, Slot, Writer},
    audit::{Act, Actor},
    incoming::guests::{self, Met},
    lane::Room,
    members::membership,
    policy_servers, quotas,
    remote_join::{CLIENT_WAIT_MAX, answer, pdu_of},
    remote_leave::told,
    rooms,
    view::RoomView,
};
use crate::storage::keyspaces::MEMBERS;

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
    let met = federated(actions, room, target).await?;
    quotas::count(actions, caller, target.server_name())?;
    let (working, sender, target) = (actions.clone(), caller.user_id.clone(), target.to_owned());
    let sending = async move { send(&working, &met, &sender, &target, content, None).await };
    actions.jobs.finish(sending).await.ok_or(ActionError::Busy)?
}

/// The room takes part in federation, and so does this server.
async fn federated(actions: &Actions, room: &Room, target: &UserId) -> Result<Met, ActionError> {
    let disabled = |why: &str| ActionError::FederationDisabled(format!("{why}; invite local people only"));
    let met = guests::find(actions, &room.id).await?;
    let met = met.ok_or_else(|| disabled("this server keeps the room to itself"))?;
    if !met.view.can_federate() {
        return Err(disabled("the room can never be on another server"));
    }
    if !met.view.admits(target.server_name()) {
        return Err(disabled(&format!("this server keeps `{}` out of the room", target.server_name())));
    }
    must_be_connected(actions, target)?;
    Ok(met)
}

/// An invite that an admin has sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Whose invite it is; none: the person is in the room or invited already.
    pub sender: Option<OwnedUserId>,
    /// What the person is to the room now.
    pub membership: Membership,
}

/// Invites somebody of another server into any room, in the name of the calling admin who may invite there, or else of a local member.
///
/// # Errors
/// A caller who is no admin; a person of this server; a room that other servers take no part in; nobody who may invite; as for other invites.
pub async fn as_admin(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    target: &UserId,
    stand_in: Option<&UserId>,
) -> Result<Sent, ActionError> {
    must_be_admin(caller)?;
    if actions.is_local(target) {
        let problem = format!("{target} is of this server; a member invites them with POST /v1/rooms/{{id}}/invite");
        return Err(ActionError::invalid("participant_id", problem));
    }
    if let Some(stranger) = stand_in.filter(|stand_in| !actions.is_local(stand_in)) {
        return Err(ActionError::invalid("as", format!("{stranger} is not of this server")));
    }
    let room = rooms::locate(actions, reference).await?;
    let view = room.view().await?.filter(|view| view.summary.kind != RoomKind::Incognito);
    let view = view.ok_or(ActionError::RoomNotFound)?;
    let met = federated(actions, &room, target).await?;
    let present = membership(room.store.get(&MEMBERS, &room.home, &target.to_owned()).await?.as_ref());
    if present.is_in() {
        return Ok(Sent { room_id: room.id.clone(), sender: None, membership: present });
    }
    if present == Membership::Ban {
        let message = format!("{target} is banned from this room; lift the ban with POST …/unban first");
        return Err(ActionError::RoomForbidden { reason: Reason::Membership, message });
    }
    let sender = match (may_invite(actions, &room, &view, &caller.user_id).await?, stand_in) {
        (Ok(()), _) => caller.user_id.clone(),
        (Err(_), Some(stand_in)) => {
            may_invite(actions, &room, &view, stand_in).await??;
            stand_in.to_owned()
        }
        (Err(denied @ Denial { reason: Reason::Level | Reason::Membership, .. }), None) => {
            let message = format!("{}; name a local member who may invite in `as`", denied.message);
            return Err(ActionError::RoomForbidden { reason: denied.reason, message });
        }
        (Err(denied), None) => return Err(denied.into()),
    };
    quotas::count(actions, caller, target.server_name())?;
    let details = vec![("participant_id", target.to_string()), ("as", sender.to_string())];
    let (working, admin, by, target) = (actions.clone(), caller.user_id.clone(), sender.clone(), target.to_owned());
    let sending = async move {
        let target_room = met.room.id.to_string();
        let act = Act { actor: Actor::Admin(&admin), action: "room.invite", target: target_room, details };
        send(&working, &met, &by, &target, CanonicalJsonObject::new(), Some(act)).await
    };
    actions.jobs.finish(sending).await.ok_or(ActionError::Busy)??;
    Ok(Sent { room_id: room.id.clone(), sender: Some(sender), membership: Membership::Invite })
}

async fn may_invite(
    actions: &Actions,
    room: &Room,
    view: &RoomView,
    user_id: &UserId,
) -> Result<Result<(), Denial>, ActionError> {
    let member = room.store.get(&MEMBERS, &room.home, &user_id.to_owned()).await?;
    Ok(view.standing(actions, &Caller::local(user_id, false), member.as_ref()).may(permission::Act::Invite))
}

/// Has the other server sign the invite, and takes it into the room. Where that server knows of the invite, the room does too: whoever calls this lets it go on
/// to its end.
async fn send(
    actions: &Actions,
    met: &Met,
    sender: &UserId,
    target: &UserId,
    content: CanonicalJsonObject,
    act: Option<Act<'_>>,
) -> Result<(), ActionError> {
    let (room, peer) = (&met.room, target.server_name());
    let (event, policy) = {
        let mut writer = Writer::enter(actions, room).await?.ok_or(ActionError::RoomNotFound)?;
        let event = writer.build(sender, Draft::member(target, "invite", content)).await?.0;
        (event, policy_servers::to_ask(actions, &mut writer).await?)
    };
    let event = match policy {
        Some(policy) => policy_servers::signed(actions, &met.version(), &policy, &event).await?,
        None => event,
    };
    let mut room_state = room_state(met).await?;
    let rows = met.rows();
    let inviter = rows.state_event(&met.version(), met.view.tip.state, "m.room.member", sender.as_str()).await?;
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
        present: append::Present::Decides,
    };
    match append::remote_for(actions, room, arriving, act).await? {
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
    let inviting = async move {
        let inviting = people.into_iter().map(|target| {
            let (actions, caller, room) = (working.clone(), caller.clone(), Arc::clone(&room));
            async move {
                if let Err(error) = invite(&actions, &caller, &room, &target, CanonicalJsonObject::new()).await {
                    tracing::info!(room.id = %room.id, %error, "`{target}` was not invited: {error}");
                }
            }
        });
        stream::iter(inviting).buffer_unordered(INVITES_AT_ONCE).collect::<()>().await;
    };
    // Past that the caller is answered; the work goes on.
    tokio::time::timeout(CLIENT_WAIT_MAX, actions.jobs.finish(inviting)).await.ok();
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

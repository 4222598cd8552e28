//! Declining invites to rooms that nobody of this server is in, and withdrawing knocks there; knocking as well.

use std::time::Duration;

use federation::local::Wish;
use rules::permission::Membership;
use ruma::{CanonicalJsonObject, OwnedServerName, RoomId, ServerName, UserId};

use super::{
    ActionError, Actions, Caller, invites,
    members::profile_of,
    peers::{Errcode, PeerError},
    quotas,
    remote_join::{
        CLIENT_WAIT_MAX, ELSEWHERE,
        candidates::{self, Found},
        pdu_of, template, versions,
    },
    rooms::RoomDetails,
    texts::give_reason,
};
use crate::storage::members::Invited;

/// How long other servers are asked to take a leave. Then the invite is forgotten here, whatever they know.
const ASKING_MAX: Duration = Duration::from_secs(10);

/// Declines an invite, or withdraws a knock. If no server takes that, it is forgotten here.
///
/// # Errors
/// [`ActionError::RoomNotFound`] for somebody who was not invited; [`ActionError::Busy`] while the room is being entered; when storage cannot be written.
pub(super) async fn leave(actions: &Actions, caller: &Caller, room_id: &RoomId) -> Result<(), ActionError> {
    let user_id = &caller.user_id;
    // Else the leave of somebody who is just being let in would be known everywhere but here.
    let _gate = actions.gates.enter(ELSEWHERE, room_id.as_str()).await?;
    if actions.room(room_id).view().await?.is_some_and(|view| view.summary.local_joined() > 0) {
        return Err(ActionError::Busy);
    }
    let invited = invites::find(actions, user_id, room_id).await?.ok_or(ActionError::RoomNotFound)?;
    let mut servers: Vec<OwnedServerName> = vec![invited.origin.clone()];
    if invited.membership == Membership::Invite && invited.sender.server_name() != invited.origin {
        servers.push(invited.sender.server_name().to_owned());
    }
    tell_one_of(actions, caller, &servers, room_id).await;
    invites::forget(actions, user_id, room_id).await
}

/// Declines an invite to a room that this server was in when it came, or withdraws a knock: the servers that were there are asked, because what is held of the
/// room may be long out of date.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn leave_from_afar(actions: &Actions, caller: &Caller, room_id: &RoomId) -> Result<(), ActionError> {
    let servers = candidates::known(actions, room_id).await?;
    tell_one_of(actions, caller, &servers, room_id).await;
    Ok(())
}

async fn tell_one_of(actions: &Actions, caller: &Caller, servers: &[OwnedServerName], room_id: &RoomId) {
    let asking = async {
        for peer in servers {
            if quotas::count(actions, caller, peer).is_err() {
                continue;
            }
            match tell(actions, peer, room_id, &caller.user_id).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::info!(room.id = %room_id, peer = %peer, "`{peer}` did not take a leave: {error}");
                }
            }
        }
    };
    if tokio::time::timeout(ASKING_MAX, asking).await.is_err() {
        tracing::info!(room.id = %room_id, "No server took a leave in time");
    }
}

async fn tell(actions: &Actions, peer: &ServerName, room_id: &RoomId, user_id: &UserId) -> Result<(), ActionError> {
    let peers = actions.peers();
    let proposed = peers.membership_template(peer, room_id, user_id, Wish::Leave, &versions()).await.map_err(told)?;
    let wish = (room_id, user_id, Wish::Leave);
    let made = template::make(actions, peer, wish, &proposed, CanonicalJsonObject::new()).map_err(refused)?;
    let event_id = made.event.event_id();
    peers.send_leave(peer, room_id, event_id, pdu_of(&made.event)?).await.map_err(told)
}

/// Knocks at a room that nobody of this server is in.
///
/// # Errors
/// No server that could help is named, was reached, or takes the knock. One that takes longer than a client waits may still take it.
pub(super) async fn knock(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    via: &[String],
    reason: Option<String>,
) -> Result<RoomDetails, ActionError> {
    let found = candidates::find(actions, caller, reference, via).await?;
    let (working, user_id) = (actions.clone(), caller.user_id.clone());
    // What another server has taken is noted here, also when nobody waits any more.
    let knocking = actions.jobs.finish(async move { knock_at_one_of(&working, &user_id, &found, reason).await });
    let knocked = tokio::time::timeout(CLIENT_WAIT_MAX, knocking).await.map_err(|_late| ActionError::unreachable())?;
    knocked.ok_or(ActionError::Busy)?
}

async fn knock_at_one_of(
    actions: &Actions,
    user_id: &UserId,
    found: &Found,
    reason: Option<String>,
) -> Result<RoomDetails, ActionError> {
    let mut outcome = ActionError::unreachable();
    for peer in &found.servers {
        let mut content = profile_of(actions, user_id).await?;
        give_reason(&mut content, reason.clone())?;
        match knock_at(actions, peer, &found.room_id, user_id, content).await {
            Ok(invited) => {
                invites::keep(actions, user_id, &found.room_id, &invited).await?;
                return invites::describe(&found.room_id, &invited);
            }
            Err(error @ ActionError::PeerRefused { .. }) => outcome = error,
            Err(ActionError::PeerUnreachable(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(outcome)
}

async fn knock_at(
    actions: &Actions,
    peer: &OwnedServerName,
    room_id: &RoomId,
    user_id: &UserId,
    content: CanonicalJsonObject,
) -> Result<Invited, ActionError> {
    let peers = actions.peers();
    let proposed = peers.membership_template(peer, room_id, user_id, Wish::Knock, &versions()).await.map_err(told)?;
    let made = template::make(actions, peer, (room_id, user_id, Wish::Knock), &proposed, content).map_err(refused)?;
    let event = &made.event;
    let room_state = peers.send_knock(peer, room_id, event.event_id(), pdu_of(event)?).await.map_err(told)?;
    Ok(Invited {
        membership: Membership::Knock,
        version: made.version.as_str().to_owned(),
        event_id: event.event_id().clone(),
        event: event.json().to_owned(),
        sender: user_id.to_owned(),
        origin: peer.clone(),
        is_direct: false,
        room_state: invites::shown(&room_state),
        received_at: actions.now(),
    })
}

/// What a caller is told of another server's trouble.
pub(super) fn told(error: PeerError) -> ActionError {
    match error {
        PeerError::Unreachable => ActionError::unreachable(),
        PeerError::Refused(errcode) => ActionError::peer_refused(errcode),
        PeerError::Unreadable => ActionError::unusable(),
    }
}

fn refused(bad: template::BadTemplate) -> ActionError {
    match bad {
        template::BadTemplate::Failed(error) => error,
        template::BadTemplate::Version => told(PeerError::Refused(Errcode::INCOMPATIBLE_ROOM_VERSION)),
        template::BadTemplate::Wrong(_) => told(PeerError::Unreadable),
    }
}

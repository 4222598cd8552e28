//! Invites of our users by peers: checked in every respect, kept, and only then signed.

use federation::{Pdu, Refusal, local::Invite};
use rules::{
    WellFormedPdu, canonical,
    event::RawPdu,
    format::{self, Caps},
    permission::Membership,
    version::Version,
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedUserId, RoomId, ServerName, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    actions::{
        AccountState, ActionError, Actions, accounts,
        incoming::{
            guests::{failed, meet},
            judging::{self, First, Purpose},
        },
        invites, purge,
    },
    storage::members::Invited,
};

pub(super) async fn accept(
    actions: &Actions,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
    invite: Invite,
) -> Result<Pdu, Refusal> {
    let version = Version::of(&invite.room_version);
    let version = version.ok_or_else(|| Refusal::IncompatibleRoomVersion(invite.room_version.clone()))?;
    let raw = RawPdu(invite.event);
    let pdu = format::parse(&raw, &version, Caps::Enforced).map_err(|_problem| Refusal::Invalid("it is no event"))?;
    let invitee = invitee(actions, &pdu, origin, room_id, event_id)?;
    let is_here = may_be_met(actions, origin, room_id, &version).await?;
    check_create(&version, room_id, &invite.room_state)?;
    match accounts::get(actions, &invitee).await.map_err(failed)?.map(|account| account.state) {
        Some(AccountState::Active) => {}
        Some(_) => return Err(Refusal::Forbidden),
        None => return Err(Refusal::NotFound),
    }
    check_signature(actions, version, raw, &pdu).await?;
    let mut object = pdu.object().clone();
    actions.signer.sign_event(&mut object, &version);
    let text = canonical::to_string(&object);
    if !is_here {
        if !invites::has_place_for(actions, &invitee, room_id, origin).await.map_err(failed)? {
            return Err(Refusal::Forbidden);
        }
        let content = pdu.object().get("content").and_then(CanonicalJsonValue::as_object);
        let is_direct = content.and_then(|content| content.get("is_direct")).and_then(CanonicalJsonValue::as_bool);
        let invited = Invited {
            membership: Membership::Invite,
            version: version.as_str().to_owned(),
            event_id: event_id.to_owned(),
            event: text.clone(),
            sender: pdu.sender().clone(),
            origin: origin.to_owned(),
            is_direct: is_direct == Some(true),
            room_state: invites::shown(&invite.room_state),
            received_at: actions.now(),
        };
        invites::keep(actions, &invitee, room_id, &invited).await.map_err(failed)?;
    }
    RawValue::from_string(text).map_err(|error| failed(ActionError::internal(error)))
}

/// Who is invited, if the event is an invite of one of our users by the peer.
fn invitee(
    actions: &Actions,
    pdu: &WellFormedPdu,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
) -> Result<OwnedUserId, Refusal> {
    if pdu.room_id() != room_id {
        return Err(Refusal::Invalid("the event is of another room"));
    }
    if pdu.event_id() != event_id {
        return Err(Refusal::Invalid("the event has another id"));
    }
    let text = |object: &CanonicalJsonObject, field: &str| {
        object.get(field).and_then(CanonicalJsonValue::as_str).map(ToOwned::to_owned)
    };
    let content = pdu.object().get("content").and_then(CanonicalJsonValue::as_object).cloned().unwrap_or_default();
    let is_invite = text(pdu.object(), "type").as_deref() == Some("m.room.member")
        && text(&content, "membership").as_deref() == Some("invite")
        // Who is invited by e-mail is invited through the room itself.
        && !content.contains_key("third_party_invite");
    if !is_invite {
        return Err(Refusal::Invalid("the event is no invite"));
    }
    if pdu.sender().server_name() != origin {
        return Err(Refusal::Forbidden);
    }
    let invitee = text(pdu.object(), "state_key").and_then(|user_id| UserId::parse(user_id).ok());
    let invitee = invitee.ok_or(Refusal::Invalid("the event invites nobody"))?;
    if actions.is_local(&invitee) {
        Ok(invitee)
    } else {
        Err(Refusal::Invalid("the event invites nobody of this server"))
    }
}

/// Where the room is known here, the peer has to be let into it. Answers whether somebody of this server is in it.
async fn may_be_met(
    actions: &Actions,
    origin: &ServerName,
    room_id: &RoomId,
    version: &Version,
) -> Result<bool, Refusal> {
    if purge::is_purged(actions, room_id).await.map_err(failed)? {
        return Err(Refusal::Forbidden);
    }
    let view = actions.room(room_id).view().await.map_err(failed)?;
    let Some(view) = view.filter(|view| view.summary.local_joined() > 0) else { return Ok(false) };
    if view.basis.version != *version {
        return Err(Refusal::Invalid("the room has another version"));
    }
    meet(actions, origin, room_id).await?;
    Ok(true)
}

/// In a room whose id is the hash of its create event, a create event that is shown whole has that hash.
fn check_create(version: &Version, room_id: &RoomId, room_state: &[Box<RawValue>]) -> Result<(), Refusal> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type")]
        event_type: String,
        hashes: Option<CanonicalJsonObject>,
    }
    if !version.room_id_is_create_hash() {
        return Ok(());
    }
    for piece in room_state.iter().take(federation::limits::INVITE_STATE_EVENTS_MAX) {
        let Ok(kind) = serde_json::from_str::<Kind>(piece.get()) else { continue };
        if kind.event_type != "m.room.create" || kind.hashes.is_none() {
            continue;
        }
        let create = format::parse(&RawPdu(piece.clone()), version, Caps::Lifted);
        if create.map_or(true, |create| create.room_id() != room_id) {
            return Err(Refusal::Invalid("the room was not made by this create event"));
        }
    }
    Ok(())
}

/// The peer has signed the invite as it stands.
async fn check_signature(actions: &Actions, version: Version, raw: RawPdu, pdu: &WellFormedPdu) -> Result<(), Refusal> {
    match judging::check(actions, version, raw, Purpose::Timeline).await {
        First::Checked(checked) if checked.event.json() == canonical::to_string(pdu.object()) => Ok(()),
        First::Held(_) => Err(Refusal::Unavailable),
        First::Checked(_) | First::Dropped(_) => Err(Refusal::Forbidden),
    }
}

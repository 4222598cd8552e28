//! Taking in the membership events that were made from our templates.

use federation::{
    Pdu, Refusal,
    local::{Accepted, StateBefore, StateStream, Wish},
};
use rules::{
    WellFormedPdu, canonical,
    draft::Draft,
    event::RawPdu,
    format::{self, Caps},
    permission::Membership,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId,
};
use serde_json::value::RawValue;

use super::{membership_of, policy, restricted};
use crate::{
    actions::{
        ActionError, Actions,
        append::{self, Arriving, Before, Remote, Slot, Writer},
        incoming::{
            guests::{Met, failed},
            judging::{self, First, Purpose},
            states,
        },
        members::membership,
        policy_servers::{self, Said},
        remote_invite, rows,
    },
    storage::{
        KeyRange,
        history::EventStanding,
        keyspaces::{EVENTS, MEMBERS, SERVERS},
    },
};

/// What is sent when a new member could miss an event: it says nothing, and names everything before it. The name is the one that other servers use.
const DUMMY: &str = "org.matrix.dummy_event";
/// Joined members from which on they are left out where a peer is content with that. Who gets fewer members than there are has to ask for the rest before it
/// knows the room: in a small one that is more work than all of them are.
const MEMBERS_OMITTED_FROM: u64 = 50;

/// What an answer to a join may leave out.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Omitted {
    Nothing,
    /// Members, where there are many.
    Members,
}

pub(super) async fn accept(
    actions: &Actions,
    origin: &ServerName,
    (room_id, event_id): (&RoomId, &EventId),
    wish: Wish,
    event: Pdu,
    omitted: Omitted,
) -> Result<Accepted, Refusal> {
    let met = policy::meet(actions, origin, room_id).await?;
    let version = met.version();
    let raw = RawPdu(event);
    let pdu = format::parse(&raw, &version, Caps::Enforced).map_err(|_problem| Refusal::Invalid("it is no event"))?;
    let user_id = subject(&pdu, origin, room_id, event_id, wish)?;
    if let Some(is_accepted) = known(&met, event_id).await? {
        if !is_accepted || !still_is(&met, &user_id, wish).await? {
            return Err(Refusal::Forbidden);
        }
        return answer(actions, &met, origin, event_id, wish, omitted).await;
    }
    {
        // Looked at before anything is signed or stored; what the rules say follows with the event.
        let writer = Writer::enter(actions, &met.room).await.map_err(failed)?.ok_or(Refusal::NotFound)?;
        policy::check(actions, &met, &writer, &user_id, wish).await?;
        vouching(actions, &met, &writer, &pdu, &user_id, wish).await?;
    }
    let raw = signed_by_us(actions, &met, &pdu, raw, wish)?;
    let checked = match judging::check(actions, version, raw, Purpose::Timeline).await {
        First::Checked(checked) => checked,
        First::Held(_) => return Err(Refusal::Unavailable),
        First::Dropped(reason) => {
            tracing::info!(room.id = %room_id, peer = %origin, "A membership event of `{origin}` was refused: {reason}");
            return Err(Refusal::Forbidden);
        }
    };
    let (event, refused) = checked.refused_by_itself();
    let Said::Fine(event) = policy_servers::look(actions, &met, &event).await.map_err(failed)? else {
        return Err(Refusal::Forbidden);
    };
    let arriving = Arriving {
        event: rules::Event::clone(&event),
        peer: Some(origin.to_owned()),
        refused,
        hidden: None,
        before: Before::Parents,
        slot: Slot::End,
        staged: None,
        handed_in: true,
        present: append::Present::Decides,
    };
    match append::remote(actions, &met.room, arriving).await.map_err(failed)? {
        Remote::Accepted => {}
        Remote::Known => {}
        Remote::Missing(_) => return Err(Refusal::Invalid("it names events that are not known here")),
        Remote::Ignored => return Err(Refusal::NotFound),
        Remote::Rejected(reason) | Remote::SoftFailed(reason) => {
            tracing::info!(room.id = %room_id, peer = %origin, "A membership event of `{origin}` is not allowed: {reason}");
            return Err(Refusal::Forbidden);
        }
    }
    if wish == Wish::Join
        && let Err(error) = name_all_heads(actions, &met, event_id).await
    {
        tracing::warn!(room.id = %room_id, peer = %origin, %error, "`{origin}` may miss an event until the next one: {error}");
    }
    answer(actions, &met, origin, event_id, wish, omitted).await
}

/// The user whose membership the event is about, if it is what it has to be.
fn subject(
    pdu: &WellFormedPdu,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
    wish: Wish,
) -> Result<OwnedUserId, Refusal> {
    let text = |object: &CanonicalJsonObject, field: &str| {
        object.get(field).and_then(CanonicalJsonValue::as_str).map(ToOwned::to_owned)
    };
    let content = pdu.object().get("content").and_then(CanonicalJsonValue::as_object).cloned().unwrap_or_default();
    if pdu.room_id() != room_id {
        return Err(Refusal::Invalid("the event is of another room"));
    }
    if pdu.event_id() != event_id {
        return Err(Refusal::Invalid("the event has another id"));
    }
    let is_right = text(pdu.object(), "type").as_deref() == Some("m.room.member")
        && text(&content, "membership").as_deref() == Some(membership_of(wish).as_str())
        && text(pdu.object(), "state_key").as_deref() == Some(pdu.sender().as_str());
    if !is_right {
        return Err(Refusal::Invalid("the event is not the membership that was asked for"));
    }
    if pdu.sender().server_name() != origin {
        return Err(Refusal::Forbidden);
    }
    Ok(pdu.sender().clone())
}

/// Whether the event was accepted; none: it is new.
async fn known(met: &Met, event_id: &EventId) -> Result<Option<bool>, Refusal> {
    let rows = met.rows();
    let Some(arrival) = rows.arrival_of(event_id).await.map_err(failed)? else { return Ok(None) };
    let stored = rows.get(&EVENTS, &arrival).await.map_err(failed)?;
    Ok(stored.filter(|stored| stored.standing.is_in_room()).map(|stored| stored.standing == EventStanding::Accepted))
}

/// The event has not been overtaken: who has left or was banned since learns no more of the room by an old join or knock.
async fn still_is(met: &Met, user_id: &OwnedUserId, wish: Wish) -> Result<bool, Refusal> {
    let present = membership(met.rows().get(&MEMBERS, user_id).await.map_err(failed)?.as_ref());
    Ok(match wish {
        Wish::Join => present == Membership::Join,
        Wish::Knock => present == Membership::Knock || present.is_in(),
        Wish::Leave => true,
    })
}

/// The member who vouches for the join, as the event says.
fn voucher_of(pdu: &WellFormedPdu) -> Result<Option<OwnedUserId>, Refusal> {
    let content = pdu.object().get("content").and_then(CanonicalJsonValue::as_object);
    let Some(voucher) = content.and_then(|content| content.get("join_authorised_via_users_server")) else {
        return Ok(None);
    };
    let voucher = voucher.as_str().and_then(|id| UserId::parse(id).ok());
    voucher.map(Some).ok_or(Refusal::Invalid("`join_authorised_via_users_server` is no user"))
}

/// Where one of ours is to vouch for the join: they may, and the user is let in.
async fn vouching(
    actions: &Actions,
    met: &Met,
    writer: &Writer,
    pdu: &WellFormedPdu,
    user_id: &UserId,
    wish: Wish,
) -> Result<(), Refusal> {
    if wish != Wish::Join || !met.version().rules().signatures.check_join_authorised_via_users_server {
        return Ok(());
    }
    let Some(voucher) = voucher_of(pdu)?.filter(|voucher| actions.is_local(voucher)) else { return Ok(()) };
    let view = writer.view().map_err(failed)?;
    let member = writer.get(&MEMBERS, &voucher).await.map_err(failed)?;
    let may_invite =
        membership(member.as_ref()) == Membership::Join && view.level(&voucher).reaches(view.basis.levels.invite());
    let is_restricted = matches!(view.summary.join_rule.as_str(), "restricted" | "knock_restricted");
    if !may_invite || !is_restricted {
        return Err(Refusal::Forbidden);
    }
    restricted::is_let_in(actions, met, user_id).await
}

/// The event, with our signature where one of ours vouches for it.
fn signed_by_us(actions: &Actions, met: &Met, pdu: &WellFormedPdu, raw: RawPdu, wish: Wish) -> Result<RawPdu, Refusal> {
    let version = met.version();
    let needs_us = wish == Wish::Join
        && version.rules().signatures.check_join_authorised_via_users_server
        && voucher_of(pdu)?.is_some_and(|voucher| actions.is_local(&voucher));
    if !needs_us {
        return Ok(raw);
    }
    let mut object = pdu.object().clone();
    actions.signer.sign_event(&mut object, &version);
    RawValue::from_string(canonical::to_string(&object))
        .map(RawPdu)
        .map_err(|error| failed(ActionError::internal(error)))
}

/// Events that came between the template and the join are not before the join, and the new member is sent only what comes behind it. So that it learns of
/// them, something has to name both.
async fn name_all_heads(actions: &Actions, met: &Met, join: &EventId) -> Result<(), ActionError> {
    let Some(mut writer) = Writer::enter(actions, &met.room).await? else { return Ok(()) };
    let heads = &writer.view()?.tip.heads;
    if heads.len() < 2 || !heads.iter().any(|head| head.event_id == join) {
        return Ok(());
    }
    let Some(sender) = any_member(actions, met).await? else { return Ok(()) };
    match writer.stage(&sender, Draft::message(DUMMY, CanonicalJsonObject::new())).await {
        Ok(_) => writer.commit().await.map(drop),
        // Whoever speaks next names them.
        Err(ActionError::RoomForbidden { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The local member of the highest level.
async fn any_member(actions: &Actions, met: &Met) -> Result<Option<OwnedUserId>, ActionError> {
    let levels = &met.view.basis.levels;
    let known = levels.creators().chain(levels.users().map(|(user_id, _)| user_id));
    let mut known: Vec<OwnedUserId> = known.filter(|user_id| actions.is_local(user_id)).cloned().collect();
    known.sort_by_key(|user_id| std::cmp::Reverse(met.view.level(user_id)));
    for user_id in known {
        let member = met.rows().get(&MEMBERS, &user_id).await?;
        if membership(member.as_ref()) == Membership::Join {
            return Ok(Some(user_id));
        }
    }
    let all = rows::all(&met.room.store, &MEMBERS, &met.room.home, KeyRange::all()).await?;
    let local =
        all.into_iter().find(|(user_id, member)| member.membership == Membership::Join && actions.is_local(user_id));
    Ok(local.map(|(user_id, _)| user_id))
}

/// What a peer learns whose user's membership was accepted: the same however often it asks.
async fn answer(
    actions: &Actions,
    met: &Met,
    origin: &ServerName,
    event_id: &EventId,
    wish: Wish,
    omitted: Omitted,
) -> Result<Accepted, Refusal> {
    let members_omitted = wish == Wish::Join
        && omitted == Omitted::Members
        && met.view.summary.joined >= MEMBERS_OMITTED_FROM
        && !met.view.summary.is_elsewhere();
    let rows = met.rows();
    let arrival = rows.arrival_of(event_id).await.map_err(failed)?.ok_or(Refusal::NotFound)?;
    let (stored, _) = rows.event(&met.version(), arrival).await.map_err(failed)?;
    let event = RawValue::from_string(stored.json).map_err(|error| failed(ActionError::internal(error)))?;
    let before = match wish {
        Wish::Join if members_omitted => states::state_without_members(met, event_id).await?,
        Wish::Join => states::state(actions, origin, &met.room.id, event_id).await?,
        Wish::Leave => StateStream::of(StateBefore { state: Vec::new(), auth_chain: Vec::new() }),
        Wish::Knock => {
            let state = remote_invite::room_state(met).await.map_err(failed)?;
            StateStream::of(StateBefore { state, auth_chain: Vec::new() })
        }
    };
    let servers = match wish {
        Wish::Join => servers(actions, met, origin).await.map_err(failed)?,
        Wish::Leave | Wish::Knock => Vec::new(),
    };
    Ok(Accepted { event, before, servers, members_omitted })
}

async fn servers(actions: &Actions, met: &Met, origin: &ServerName) -> Result<Vec<OwnedServerName>, ActionError> {
    let all = rows::all(&met.room.store, &SERVERS, &met.room.home, KeyRange::all()).await?;
    let others = all.into_iter().map(|(server, _)| server).filter(|server| server != origin);
    Ok(std::iter::once(actions.server_name.clone()).chain(others).collect())
}

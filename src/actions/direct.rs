//! Direct messages: one open room for a pair of people, whoever asks and however often.

use std::sync::Arc;

use rules::{
    draft::Draft,
    kind::{RoomKind, RoomState},
    permission::Membership,
};
use ruma::{CanonicalJsonObject, OwnedRoomId, OwnedUserId, UserId};
use serde_json::json;

use super::{
    ActionError, Actions, Caller, append::Writer, capacity, creation, creation::Plan, invites, lane::Room, lifecycle,
    members, remote_invite, rows,
};
use crate::storage::{
    Commit, Home, KeyRange,
    accounts::Reservation,
    keyspaces::{DIRECT_PAIRS, DIRECT_ROOMS, MEMBERS},
};

/// The direct message of the caller with somebody, and whether it is new.
#[derive(Debug)]
pub struct Direct {
    /// The room.
    pub room_id: OwnedRoomId,
    /// It was made by this call.
    pub is_new: bool,
}

/// Finds the direct message of two people, or makes it.
///
/// # Errors
/// With oneself; with somebody who does not exist or is of another server.
pub async fn open(actions: &Actions, caller: &Caller, partner: &UserId) -> Result<Direct, ActionError> {
    if partner == caller.user_id {
        return Err(ActionError::type_invariant("a direct message needs somebody else; make a group for yourself"));
    }
    if !actions.is_local(partner) && !actions.is_connected() {
        return Err(ActionError::needs_federation(&format!("a direct message with {partner}")));
    }
    members::must_be_invitable(actions, partner).await?;
    let (first, second) =
        if *caller.user_id < *partner { (&*caller.user_id, partner) } else { (partner, &*caller.user_id) };
    let _gate = actions.gates.enter("pair", &format!("{first} {second}")).await?;
    if let Some(room_id) = find(actions, caller, partner).await? {
        return Ok(Direct { room_id, is_new: false });
    }
    if let Some(room_id) = invited_by(actions, caller, partner).await? {
        return Ok(Direct { room_id, is_new: false });
    }
    let home = Home::person(first);
    let mut plan = Plan::of_kind(RoomKind::Direct)?;
    if actions.is_local(partner) {
        plan.settings.federation = actions.settings.room_federation.clone();
    }
    plan.partner = Some(partner.to_owned());
    plan.workspace_id = Some(super::accounts::personal_workspace(actions, &caller.user_id).await?);
    let promised = actions.store.get(&DIRECT_PAIRS, &home, &second.to_owned()).await?;
    if let Some(room_id) = without_partner(actions, caller, promised.as_ref(), partner).await? {
        return Ok(Direct { room_id, is_new: false });
    }
    let unfinished = match promised {
        Some(promised) if actions.room(&promised.room_id).view().await?.is_none() => {
            Some(creation::read_create(&promised, &plan.version)?)
        }
        _ => None,
    };
    let create = match unfinished {
        Some(create) => create,
        None => {
            let create = creation::create_event(actions, &caller.user_id, &plan)?;
            let mut commit = Commit::new(home);
            commit.put(&DIRECT_PAIRS, &second.to_owned(), &creation::reservation(actions, &create, [0; 32]));
            actions.store.commit(commit).await?;
            create
        }
    };
    let place = capacity::room(actions).await?;
    let room_id = create.room_id().clone();
    let creator = create.sender().clone();
    plan.partner = Some(if creator == *partner { caller.user_id.clone() } else { partner.to_owned() });
    plan.workspace_id = Some(super::accounts::personal_workspace(actions, &creator).await?);
    creation::write(actions, &creator, create, plan, None, false).await?;
    place.keep();
    if !actions.is_local(partner) {
        remote_invite::invite(actions, caller, &actions.room(&room_id), partner, is_direct()?).await?;
    }
    Ok(Direct { room_id, is_new: true })
}

/// What an invite to a direct message says.
fn is_direct() -> Result<CanonicalJsonObject, ActionError> {
    creation::object(json!({ "is_direct": true }))
}

/// A person of another server has invited the caller to a direct message: the caller comes in.
async fn invited_by(actions: &Actions, caller: &Caller, partner: &UserId) -> Result<Option<OwnedRoomId>, ActionError> {
    if actions.is_local(partner) {
        return Ok(None);
    }
    let invites = invites::of(actions, &caller.user_id).await?;
    let mut theirs = invites.into_iter().filter(|(_, invited)| invited.is_direct && invited.sender == partner);
    let Some((room_id, _)) = theirs.next() else { return Ok(None) };
    members::join(actions, caller, room_id.as_str(), &[], None).await?;
    Ok(Some(room_id))
}

/// The room of the pair was made, but the other one's server could not be told: it is asked again.
async fn without_partner(
    actions: &Actions,
    caller: &Caller,
    promised: Option<&Reservation>,
    partner: &UserId,
) -> Result<Option<OwnedRoomId>, ActionError> {
    let Some(promised) = promised.filter(|_| !actions.is_local(partner)) else { return Ok(None) };
    let room = actions.room(&promised.room_id);
    let Some(view) = room.view().await?.filter(|view| view.summary.state == RoomState::Open) else { return Ok(None) };
    let people = [caller.user_id.clone(), partner.to_owned()];
    let rows = room.store.get_many(&MEMBERS, &room.home, &people).await?;
    let memberships: Vec<Membership> = rows.iter().map(|member| members::membership(member.as_ref())).collect();
    if !view.is_direct() || memberships != [Membership::Join, Membership::None] {
        return Ok(None);
    }
    remote_invite::invite(actions, caller, &room, partner, is_direct()?).await?;
    Ok(Some(promised.room_id.clone()))
}

/// A room of the pair, with the memberships of both.
struct Candidate {
    room: Arc<Room>,
    state: RoomState,
    own: Membership,
    other: Membership,
}

/// The room that the contract says the pair shares, made ready: an invited caller joins, an archived room is restored, one who left is brought back.
async fn find(actions: &Actions, caller: &Caller, partner: &UserId) -> Result<Option<OwnedRoomId>, ActionError> {
    let candidates = candidates(actions, &caller.user_id, partner).await?;
    let open = candidates
        .iter()
        .filter(|room| room.state == RoomState::Open && room.own.is_in() && room.other.is_in())
        .min_by_key(|room| (room.own != Membership::Join || room.other != Membership::Join, room.room.id.clone()));
    if let Some(found) = open {
        if found.own == Membership::Invite {
            members::join(actions, caller, found.room.id.as_str(), &[], None).await?;
        }
        return Ok(Some(found.room.id.clone()));
    }
    let archived = candidates
        .iter()
        .filter(|room| room.state == RoomState::Archived && room.own == Membership::Join)
        .min_by_key(|room| (room.other != Membership::Join, room.room.id.clone()));
    if let Some(found) = archived {
        lifecycle::rejoin(actions, caller, found.room.id.as_str()).await?;
        if !found.other.is_in() {
            bring_back(actions, caller, &found.room, partner).await?;
        }
        return Ok(Some(found.room.id.clone()));
    }
    let left = candidates
        .iter()
        .filter(|room| room.state == RoomState::Open && room.own == Membership::Join && room.other == Membership::Leave)
        .min_by_key(|room| room.room.id.clone());
    if let Some(found) = left {
        bring_back(actions, caller, &found.room, partner).await?;
        return Ok(Some(found.room.id.clone()));
    }
    Ok(None)
}

async fn candidates(actions: &Actions, own: &OwnedUserId, partner: &UserId) -> Result<Vec<Candidate>, ActionError> {
    let range = KeyRange::prefix(&partner.to_owned());
    let rooms = rows::all(&actions.store, &DIRECT_ROOMS, &Home::person(own), range).await?;
    let mut candidates = Vec::new();
    for ((_, room_id), ()) in rooms {
        let room = actions.room(&room_id);
        let Some(view) = room.view().await? else { continue };
        if !view.is_direct() || view.summary.state == RoomState::Closed {
            continue;
        }
        let people = [own.clone(), partner.to_owned()];
        let rows = room.store.get_many(&MEMBERS, &room.home, &people).await?;
        let mut memberships = rows.iter().map(|member| members::membership(member.as_ref()));
        let (own, other) = (memberships.next().unwrap_or_default(), memberships.next().unwrap_or_default());
        candidates.push(Candidate { room, state: view.summary.state, own, other });
    }
    Ok(candidates)
}

/// Invites the one who left again; a local person is joined at once.
async fn bring_back(actions: &Actions, caller: &Caller, room: &Arc<Room>, partner: &UserId) -> Result<(), ActionError> {
    if !actions.is_local(partner) {
        return remote_invite::invite(actions, caller, room, partner, is_direct()?).await;
    }
    let Some(mut writer) = Writer::enter(actions, room).await? else { return Err(ActionError::RoomNotFound) };
    let member = writer.get(&MEMBERS, &partner.to_owned()).await?;
    match members::membership(member.as_ref()) {
        Membership::Join => {}
        Membership::Invite => {
            let profile = members::profile_of(actions, partner).await?;
            writer.stage(partner, Draft::member(partner, "join", profile)).await?;
        }
        _ => members::stage_partner(actions, &mut writer, &caller.user_id, partner).await?,
    }
    writer.commit().await?;
    Ok(())
}

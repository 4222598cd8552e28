//! Who is in a room: join, leave, invite, kick, ban, unban, and the list.

use rules::{
    draft::Draft,
    kind::RoomKind,
    permission::{Act, Membership, Reason},
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, UserId};
use serde_json::json;

use super::{
    ActionError, Actions, Caller, accounts,
    append::Writer,
    creation::object,
    incognito,
    rooms::{self, Entered},
    rows,
    texts::give_reason,
};
use crate::storage::{KeyRange, accounts::AccountState, keyspaces::MEMBERS, members::Member};

/// A person in a room's list of members.
#[derive(Clone, Debug)]
pub struct MemberView {
    /// The person.
    pub user_id: OwnedUserId,
    /// The row of the room.
    pub member: Member,
    /// As reported: 100 for a creator of version 12.
    pub power_level: i64,
    /// A creator by the room version.
    pub is_creator: bool,
}

/// A page of members, and how many there are in all.
pub struct MemberPage {
    /// The page.
    pub members: Vec<MemberView>,
    /// All of them.
    pub total: usize,
}

/// Enters a room.
///
/// # Errors
/// Not invited, banned, full, frozen; a room of another server.
pub async fn join(actions: &Actions, caller: &Caller, reference: &str, via: &[String]) -> Result<(), ActionError> {
    let entered = match rooms::enter(actions, caller, reference).await {
        Err(ActionError::RoomNotFound) => return Err(elsewhere(actions, reference, via)),
        entered => entered?,
    };
    let mut writer = entered.writer;
    writer.standing(caller, entered.member.as_ref())?.may(Act::Join)?;
    if membership(entered.member.as_ref()) != Membership::Join {
        let profile = profile_of(actions, &caller.user_id).await?;
        writer.stage(&caller.user_id, Draft::member(&caller.user_id, "join", profile)).await?;
    }
    writer.commit().await?;
    Ok(())
}

/// A room that is not here: perhaps it is elsewhere.
fn elsewhere(actions: &Actions, reference: &str, via: &[String]) -> ActionError {
    let other_server = |server: &str| server != actions.server_name.as_str();
    let is_foreign_name = reference.split_once(':').is_some_and(|(_, server)| other_server(server));
    if is_foreign_name || via.iter().any(|server| other_server(server)) {
        return ActionError::needs_federation("joining this room");
    }
    ActionError::RoomNotFound
}

/// Leaves a room, declines its invite or withdraws a knock.
///
/// # Errors
/// Never was in it.
pub async fn leave(actions: &Actions, caller: &Caller, reference: &str) -> Result<(), ActionError> {
    let entered = match rooms::enter(actions, caller, reference).await {
        Err(ActionError::RoomNotFound) => return left_before(actions, caller, reference).await,
        entered => entered?,
    };
    let mut writer = entered.writer;
    writer.standing(caller, entered.member.as_ref())?.may(Act::Leave)?;
    if membership(entered.member.as_ref()) != Membership::Leave {
        writer.stage(&caller.user_id, Draft::member(&caller.user_id, "leave", CanonicalJsonObject::new())).await?;
    }
    let ends = writer.summary()?.kind == RoomKind::Incognito && writer.summary()?.creator == caller.user_id;
    let room_id = writer.room_id().clone();
    writer.commit().await?;
    if ends {
        incognito::end(actions, &room_id).await?;
    }
    Ok(())
}

/// Who has declined an invite no longer sees the room, and may decline it twice all the same.
async fn left_before(actions: &Actions, caller: &Caller, reference: &str) -> Result<(), ActionError> {
    let room = rooms::locate(actions, reference).await?;
    let member = room.store.get(&MEMBERS, &room.home, &caller.user_id).await?;
    if membership(member.as_ref()) == Membership::Leave { Ok(()) } else { Err(ActionError::RoomNotFound) }
}

/// Invites somebody.
///
/// # Errors
/// A level too low, a direct message, somebody banned, unknown or of another server.
pub async fn invite(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    target: &UserId,
    reason: Option<String>,
) -> Result<(), ActionError> {
    let mut entered = rooms::enter(actions, caller, reference).await?;
    let is_foreign = !actions.is_local(target);
    let kind = entered.writer.summary()?.kind;
    let present = membership(entered.writer.get(&MEMBERS, &target.to_owned()).await?.as_ref());
    let is_member = matches!(present, Membership::Join | Membership::Invite);
    if is_member && membership(entered.member.as_ref()) == Membership::Join {
        entered.writer.commit().await?;
        return Ok(());
    }
    entered.may(caller, Act::Invite)?;
    if kind == RoomKind::Incognito && is_foreign {
        return Err(ActionError::type_invariant(
            "an incognito room never leaves this server; invite local people only",
        ));
    }
    must_exist(actions, target).await?;
    if present == Membership::Ban {
        let message = format!("{target} is banned from this room; lift the ban with POST …/unban first");
        return Err(ActionError::RoomForbidden { reason: Reason::Membership, message });
    }
    let mut content = profile_of(actions, target).await?;
    give_reason(&mut content, reason)?;
    entered.writer.stage(&caller.user_id, Draft::member(target, "invite", content)).await?;
    entered.writer.commit().await?;
    Ok(())
}

/// Removes a member.
///
/// # Errors
/// A level too low or not above the target's; a direct message.
pub async fn kick(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    target: &UserId,
    reason: Option<String>,
) -> Result<(), ActionError> {
    let entered = rooms::enter(actions, caller, reference).await?;
    let present = known_target(actions, &entered, target).await?;
    entered.may_to(caller, Act::Kick, target)?;
    let is_there = matches!(present, Membership::Join | Membership::Invite | Membership::Knock);
    set_membership(entered, caller, target, is_there.then_some("leave"), reason).await
}

/// Excludes somebody, member or not.
///
/// # Errors
/// As [`kick`].
pub async fn ban(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    target: &UserId,
    reason: Option<String>,
) -> Result<(), ActionError> {
    let entered = rooms::enter(actions, caller, reference).await?;
    let present = known_target(actions, &entered, target).await?;
    entered.may_to(caller, Act::Ban, target)?;
    set_membership(entered, caller, target, (present != Membership::Ban).then_some("ban"), reason).await
}

/// Lifts a ban; the person may then be invited or join again.
///
/// # Errors
/// As [`kick`].
pub async fn unban(actions: &Actions, caller: &Caller, reference: &str, target: &UserId) -> Result<(), ActionError> {
    let entered = rooms::enter(actions, caller, reference).await?;
    let present = known_target(actions, &entered, target).await?;
    entered.may(caller, Act::Unban)?;
    set_membership(entered, caller, target, (present == Membership::Ban).then_some("leave"), None).await
}

/// The target's membership; somebody of this server whom nobody knows is an error.
async fn known_target(actions: &Actions, entered: &Entered, target: &UserId) -> Result<Membership, ActionError> {
    let member = entered.writer.get(&MEMBERS, &target.to_owned()).await?;
    if member.is_none() && actions.is_local(target) && accounts::get(actions, target).await?.is_none() {
        return Err(ActionError::ParticipantNotFound(target.to_string()));
    }
    Ok(membership(member.as_ref()))
}

async fn set_membership(
    entered: Entered,
    caller: &Caller,
    target: &UserId,
    word: Option<&str>,
    reason: Option<String>,
) -> Result<(), ActionError> {
    let mut writer = entered.writer;
    if let Some(word) = word {
        let mut content = CanonicalJsonObject::new();
        give_reason(&mut content, reason)?;
        writer.stage(&caller.user_id, Draft::member(target, word, content)).await?;
    }
    writer.commit().await?;
    Ok(())
}

/// The members of a room, by id.
///
/// # Errors
/// A caller who is not and never was in the room.
pub async fn list(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    wanted: Option<Membership>,
    offset: usize,
    limit: usize,
) -> Result<MemberPage, ActionError> {
    let opened = rooms::open(actions, caller, reference).await?;
    if membership(opened.member.as_ref()) != Membership::Join {
        let standing = opened.view.standing(&caller.user_id, opened.member.as_ref(), caller.is_admin, u64::MAX);
        standing.joined()?;
    }
    let is_wanted = |present: Membership| match wanted {
        Some(wanted) => present == wanted,
        None => matches!(present, Membership::Join | Membership::Invite),
    };
    let mut members = rows::all(&opened.room.store, &MEMBERS, &opened.room.home, KeyRange::all()).await?;
    members.retain(|(_, member)| is_wanted(member.membership));
    let total = members.len();
    let view = |(user_id, member): (OwnedUserId, Member)| MemberView {
        power_level: opened.view.level(&user_id).reported(),
        is_creator: opened.view.basis.levels.is_creator(&user_id),
        user_id,
        member,
    };
    Ok(MemberPage { members: members.into_iter().skip(offset).take(limit).map(view).collect(), total })
}

/// The membership that a row says; none where there is no row.
pub fn membership(member: Option<&Member>) -> Membership {
    member.map_or(Membership::None, |member| member.membership)
}

/// Somebody can be invited: a local account in use. Others need federation.
///
/// # Errors
/// [`ActionError::ParticipantNotFound`], [`ActionError::FederationDisabled`].
pub async fn must_exist(actions: &Actions, user_id: &UserId) -> Result<(), ActionError> {
    if !actions.is_local(user_id) {
        return Err(ActionError::needs_federation(&format!("inviting {user_id}")));
    }
    match accounts::get(actions, user_id).await? {
        Some(account) if account.state != AccountState::Deactivated => Ok(()),
        _ => Err(ActionError::ParticipantNotFound(user_id.to_string())),
    }
}

/// What a member event says of a local person beside the membership.
///
/// # Errors
/// When storage cannot be read.
pub async fn profile_of(actions: &Actions, user_id: &UserId) -> Result<CanonicalJsonObject, ActionError> {
    let mut content = CanonicalJsonObject::new();
    if actions.is_local(user_id)
        && let Some(name) = accounts::get(actions, user_id).await?.and_then(|account| account.display_name)
    {
        content.insert("displayname".to_owned(), CanonicalJsonValue::String(name));
    }
    Ok(content)
}

/// Brings the other one into a direct message: a local person is joined at once, this server signs for both.
///
/// # Errors
/// When the rules of the room forbid it.
pub(super) async fn stage_partner(
    actions: &Actions,
    writer: &mut Writer,
    inviter: &UserId,
    partner: &UserId,
) -> Result<(), ActionError> {
    let profile = profile_of(actions, partner).await?;
    let mut invite = profile.clone();
    invite.extend(object(json!({ "is_direct": true }))?);
    writer.stage(inviter, Draft::member(partner, "invite", invite)).await?;
    if actions.is_local(partner) {
        writer.stage(partner, Draft::member(partner, "join", profile)).await?;
    }
    Ok(())
}

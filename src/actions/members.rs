//! Who is in a room: join, leave, invite, kick, ban, unban, and the list.

use std::sync::Arc;

use federation::Refusal;
use rules::{
    draft::Draft,
    kind::RoomKind,
    permission::{Act, Membership, Reason},
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, RoomId, UserId};
use serde_json::json;

use super::{
    ActionError, Actions, Caller, Page, Window, accounts,
    append::Writer,
    creation::object,
    handshakes::restricted,
    incognito,
    incoming::guests::Met,
    invites, purge, remote_invite, remote_join, remote_leave, room_passwords,
    rooms::{self, Entered, RoomDetails},
    rows,
    texts::give_reason,
};
use crate::storage::{
    Direction, KeyRange,
    accounts::AccountState,
    keyspaces::{MEMBERS, SERVERS},
    members::{Member, Silence},
};

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
    /// A moderator keeps the person from speaking now.
    pub silence: Option<Silence>,
}

/// Enters a room. Where nothing else lets the caller in, the room's password does.
///
/// # Errors
/// Not invited, banned, full, frozen; a wrong password; a room of another server.
pub async fn join(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    via: &[String],
    password: Option<&str>,
) -> Result<RoomDetails, ActionError> {
    password.map_or(Ok(()), room_passwords::check)?;
    let entered = match (rooms::enter(actions, caller, reference).await, password) {
        (Err(ActionError::RoomNotFound), None) => {
            must_not_be_purged(actions, caller, reference).await?;
            return Box::pin(remote_join::join(actions, caller, reference, via)).await;
        }
        (Err(ActionError::RoomNotFound), Some(password)) => {
            return Box::pin(room_passwords::join(actions, caller, reference, via, password)).await;
        }
        (entered, _) => entered?,
    };
    if entered.writer.summary()?.is_elsewhere() {
        drop(entered);
        return Box::pin(remote_join::join(actions, caller, reference, via)).await;
    }
    let present = membership(entered.member.as_ref());
    match (entered.may(caller, Act::Join), password) {
        (Err(ActionError::RoomForbidden { .. }), Some(password)) if present != Membership::Ban => {
            drop(entered);
            return Box::pin(room_passwords::join(actions, caller, reference, via, password)).await;
        }
        (Err(ActionError::RoomForbidden { .. }), None) if may_be_vouched_for(&entered, present)? => {
            return Box::pin(join_restricted(actions, caller, reference, via, entered)).await;
        }
        (allowed, _) => allowed?,
    }
    come_in(actions, caller, entered, CanonicalJsonObject::new()).await
}

/// Enters a room in which people of this server are.
///
/// # Errors
/// As [`join`]; [`ActionError::RoomNotFound`] when nobody of this server is in it.
pub(super) async fn join_here(actions: &Actions, caller: &Caller, reference: &str) -> Result<RoomDetails, ActionError> {
    let entered = rooms::enter(actions, caller, reference).await?;
    if entered.writer.summary()?.is_elsewhere() {
        return Err(ActionError::RoomNotFound);
    }
    entered.may(caller, Act::Join)?;
    come_in(actions, caller, entered, CanonicalJsonObject::new()).await
}

async fn come_in(
    actions: &Actions,
    caller: &Caller,
    mut entered: Entered,
    content: CanonicalJsonObject,
) -> Result<RoomDetails, ActionError> {
    if membership(entered.member.as_ref()) != Membership::Join {
        let mut profile = profile_of(actions, &caller.user_id).await?;
        profile.extend(content);
        entered.writer.stage(&caller.user_id, Draft::member(&caller.user_id, "join", profile)).await?;
    }
    entered.finish(actions, caller).await
}

/// The room lets in the members of other rooms.
fn may_be_vouched_for(entered: &Entered, present: Membership) -> Result<bool, ActionError> {
    let view = entered.writer.view()?;
    let rules = &view.basis.version.rules().authorization;
    let is_restricted = match view.summary.join_rule.as_str() {
        "restricted" => rules.restricted_join_rule,
        "knock_restricted" => rules.knock_restricted_join_rule,
        _ => false,
    };
    Ok(is_restricted && present != Membership::Ban && !view.summary.state.is_frozen())
}

/// Enters a room that lets in the members of other rooms: one of ours vouches for it, or a server that can.
async fn join_restricted(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    via: &[String],
    entered: Entered,
) -> Result<RoomDetails, ActionError> {
    let refused = || {
        let message = "this room is entered by members of certain other rooms, and you are in none of them".to_owned();
        ActionError::RoomForbidden { reason: Reason::Membership, message }
    };
    let view = entered.writer.view()?;
    if view.summary.joined >= view.members_max(actions.settings.max_participants) {
        return Err(ActionError::RoomCapacity("this room is full; somebody has to leave first".to_owned()));
    }
    let met = Met { room: Arc::clone(&entered.writer.room), view: Arc::new(view.clone()) };
    match restricted::vouch(actions, &met, &entered.writer, &caller.user_id).await {
        Ok(voucher) => {
            let voucher = CanonicalJsonValue::String(voucher.to_string());
            let content = [("join_authorised_via_users_server".to_owned(), voucher)];
            come_in(actions, caller, entered, content.into_iter().collect()).await
        }
        Err(Refusal::UnableToAuthoriseJoin | Refusal::UnableToGrantJoin) if actions.is_connected() => {
            drop(entered);
            let servers = rows::all(&met.room.store, &SERVERS, &met.room.home, KeyRange::all()).await?;
            let servers = servers.into_iter().map(|(server, _)| server.to_string());
            let via: Vec<String> = via.iter().cloned().chain(servers).collect();
            remote_join::join(actions, caller, reference, &via).await
        }
        Err(Refusal::Unavailable) => Err(ActionError::Busy),
        Err(_) => Err(refused()),
    }
}

/// A room that was purged here is brought back by an admin only.
async fn must_not_be_purged(actions: &Actions, caller: &Caller, reference: &str) -> Result<(), ActionError> {
    match RoomId::parse(reference) {
        Ok(room_id) if !caller.is_admin && purge::is_purged(actions, &room_id).await? => Err(ActionError::RoomNotFound),
        _ => Ok(()),
    }
}

/// Why there is no such room here: perhaps it is elsewhere.
pub(super) fn elsewhere(actions: &Actions, reference: &str, via: &[String], what: &str) -> ActionError {
    let other_server = |server: &str| server != actions.server_name.as_str();
    let is_foreign_name = reference.split_once(':').is_some_and(|(_, server)| other_server(server));
    if is_foreign_name || via.iter().any(|server| other_server(server)) {
        return ActionError::needs_federation(what);
    }
    ActionError::RoomNotFound
}

/// Leaves a room, declines its invite or withdraws a knock.
///
/// # Errors
/// Never was in it.
pub async fn leave(actions: &Actions, caller: &Caller, reference: &str) -> Result<(), ActionError> {
    let entered = match rooms::enter(actions, caller, reference).await {
        Err(ActionError::RoomNotFound) => {
            if let Some(room_id) = rooms::id_of(actions, reference).await?
                && invites::find(actions, &caller.user_id, &room_id).await?.is_some()
            {
                return remote_leave::leave(actions, caller, &room_id).await;
            }
            return left_before(actions, caller, reference).await;
        }
        entered => entered?,
    };
    let room_id = entered.writer.room_id().clone();
    if entered.writer.summary()?.is_elsewhere() {
        let present = membership(entered.member.as_ref());
        drop(entered);
        // What the room is now, only others know.
        if invites::find(actions, &caller.user_id, &room_id).await?.is_some() {
            return remote_leave::leave(actions, caller, &room_id).await;
        }
        if matches!(present, Membership::Invite | Membership::Knock) {
            remote_leave::leave_from_afar(actions, caller, &room_id).await?;
        }
        return leave_here(actions, caller, rooms::enter(actions, caller, room_id.as_str()).await?).await;
    }
    leave_here(actions, caller, entered).await
}

async fn leave_here(actions: &Actions, caller: &Caller, entered: Entered) -> Result<(), ActionError> {
    let mut writer = entered.writer;
    writer.standing(caller, entered.member.as_ref())?.may(Act::Leave)?;
    if membership(entered.member.as_ref()) != Membership::Leave {
        writer.stage(&caller.user_id, Draft::member(&caller.user_id, "leave", CanonicalJsonObject::new())).await?;
    }
    commit_leave(actions, writer, &caller.user_id).await
}

/// Commits that somebody leaves. An incognito room ends with its creator.
///
/// # Errors
/// As [`Writer::commit`].
pub(super) async fn commit_leave(actions: &Actions, writer: Writer, user_id: &UserId) -> Result<(), ActionError> {
    let summary = writer.summary()?;
    let ends = summary.kind == RoomKind::Incognito && summary.creator == user_id;
    let room_id = writer.room_id().clone();
    writer.commit().await?;
    if ends { incognito::end(actions, &room_id).await } else { Ok(()) }
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
) -> Result<RoomDetails, ActionError> {
    let mut entered = rooms::enter(actions, caller, reference).await?;
    let is_foreign = !actions.is_local(target);
    let kind = entered.writer.summary()?.kind;
    let present = entered.membership_of(target).await?;
    if present.is_in() && membership(entered.member.as_ref()) == Membership::Join {
        return entered.finish(actions, caller).await;
    }
    entered.may(caller, Act::Invite)?;
    if kind == RoomKind::Incognito && is_foreign {
        return Err(ActionError::type_invariant(
            "an incognito room never leaves this server; invite local people only",
        ));
    }
    must_be_invitable(actions, target).await?;
    if present == Membership::Ban {
        let message = format!("{target} is banned from this room; lift the ban with POST …/unban first");
        return Err(ActionError::RoomForbidden { reason: Reason::Membership, message });
    }
    let mut content = profile_of(actions, target).await?;
    give_reason(&mut content, reason)?;
    if is_foreign {
        let room = Arc::clone(&entered.writer.room);
        drop(entered);
        remote_invite::invite(actions, caller, &room, target, content).await?;
        return rooms::details(actions, caller, room.id.as_str()).await;
    }
    entered.writer.stage(&caller.user_id, Draft::member(target, "invite", content)).await?;
    entered.finish(actions, caller).await
}

/// What a moderator does about somebody's membership.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Remove a member, take back an invite, decline a knock.
    Kick,
    /// Exclude somebody, member or not.
    Ban,
    /// Lift a ban; the person may then be invited or join again.
    Unban,
}

/// Removes, excludes or readmits somebody. What is so already stays as it is.
///
/// # Errors
/// A level too low or not above the target's; a direct message; nobody of that name.
pub async fn take_measure(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    measure: Measure,
    target: &UserId,
    reason: Option<String>,
) -> Result<RoomDetails, ActionError> {
    let mut entered = rooms::enter(actions, caller, reference).await?;
    let present = known_target(actions, &entered, target).await?;
    let (word, is_due) = match measure {
        Measure::Kick => {
            entered.may_to(caller, Act::Kick, target)?;
            ("leave", present.is_involved())
        }
        Measure::Ban => {
            entered.may_to(caller, Act::Ban, target)?;
            ("ban", present != Membership::Ban)
        }
        Measure::Unban => {
            entered.may(caller, Act::Unban)?;
            ("leave", present == Membership::Ban)
        }
    };
    if is_due {
        let mut content = CanonicalJsonObject::new();
        give_reason(&mut content, reason)?;
        entered.writer.stage(&caller.user_id, Draft::member(target, word, content)).await?;
    }
    entered.finish(actions, caller).await
}

/// The target's membership; somebody of this server whom nobody knows is an error.
async fn known_target(actions: &Actions, entered: &Entered, target: &UserId) -> Result<Membership, ActionError> {
    let member = entered.writer.get(&MEMBERS, &target.to_owned()).await?;
    if member.is_none() && actions.is_local(target) && accounts::get(actions, target).await?.is_none() {
        return Err(ActionError::ParticipantNotFound(target.to_string()));
    }
    Ok(membership(member.as_ref()))
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
    window: Window,
) -> Result<Page<MemberView>, ActionError> {
    let opened = rooms::open(actions, caller, reference).await?;
    membership(opened.member.as_ref()).joined()?;
    let is_wanted = |member: &Member| match wanted {
        Some(wanted) => member.membership == wanted,
        None => member.membership.is_in(),
    };
    let summary = &opened.view.summary;
    let total = match wanted {
        Some(Membership::Join) => Some(summary.joined),
        Some(Membership::Invite) => Some(summary.invited),
        None => Some(summary.joined + summary.invited),
        // Nobody counts those who are not there.
        Some(_) => None,
    };
    let total = total.map(usize::try_from).transpose().map_err(ActionError::internal)?;
    let (store, home) = (&opened.room.store, &opened.room.home);
    let members = rows::page(store, &MEMBERS, home, Direction::Up, is_wanted, total, window).await?;
    let now = actions.now();
    let view = |(user_id, member): (OwnedUserId, Member)| MemberView {
        power_level: opened.view.level(&user_id).reported(),
        is_creator: opened.view.basis.levels.is_creator(&user_id),
        silence: member.silence.filter(|silence| silence.holds(now)),
        user_id,
        member,
    };
    Ok(members.map(view))
}

/// The membership that a row says; none where there is no row.
pub fn membership(member: Option<&Member>) -> Membership {
    member.map_or(Membership::None, |member| member.membership)
}

/// Somebody can be invited: a local account in use, or anybody of another server that can be asked.
///
/// # Errors
/// As [`must_exist`].
pub(super) async fn must_be_invitable(actions: &Actions, user_id: &UserId) -> Result<(), ActionError> {
    if actions.is_local(user_id) {
        must_exist(actions, user_id).await
    } else {
        remote_invite::must_be_connected(actions, user_id)
    }
}

/// Somebody is a local account in use.
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
        && let Some(account) = accounts::get(actions, user_id).await?
    {
        for (field, text) in [("displayname", account.display_name), ("avatar_url", account.avatar_url)] {
            content.extend(text.map(|text| (field.to_owned(), CanonicalJsonValue::String(text))));
        }
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
    stage_brought(actions, writer, inviter, partner, object(json!({ "is_direct": true }))?).await
}

/// Brings somebody into a room: the invite, which says this beside the profile, and for a local person the join, for whom this server signs.
///
/// # Errors
/// When the rules of the room forbid it.
pub(super) async fn stage_brought(
    actions: &Actions,
    writer: &mut Writer,
    inviter: &UserId,
    invited: &UserId,
    says: CanonicalJsonObject,
) -> Result<(), ActionError> {
    let mut invite = profile_of(actions, invited).await?;
    invite.extend(says);
    writer.stage(inviter, Draft::member(invited, "invite", invite)).await?;
    if actions.is_local(invited) { stage_join(actions, writer, invited).await } else { Ok(()) }
}

/// Has a local person join, for whom this server signs.
///
/// # Errors
/// When the rules of the room forbid it.
pub(super) async fn stage_join(actions: &Actions, writer: &mut Writer, user_id: &UserId) -> Result<(), ActionError> {
    let profile = profile_of(actions, user_id).await?;
    writer.stage(user_id, Draft::member(user_id, "join", profile)).await?;
    Ok(())
}

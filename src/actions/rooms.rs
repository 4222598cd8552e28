//! Finding a room for somebody, what a room answers, and its name, topic and workspace.

use std::sync::Arc;

use rules::{
    UnixMs,
    draft::Draft,
    kind::RoomKind,
    permission::{Act, Door, Membership},
};
use ruma::{OwnedRoomId, RoomId, UserId};
use serde_json::json;

use super::{
    ActionError, Actions, Caller, Page, Window, aliases,
    append::Writer,
    chores,
    creation::object,
    incognito, invites,
    lane::Room,
    members::membership,
    numbers,
    personal::{self, PersonalView},
    remote_join::promised,
    texts::{NAME_CHARACTERS_MAX, TOPIC_CHARACTERS_MAX, at_most},
    view::RoomView,
    workspaces,
};
use crate::storage::{
    Effect, Home,
    chores::Chore,
    keyspaces::{CHORES, MEMBERS},
    members::Member,
    room_settings::FederationMode,
};

/// A room that the caller may see, as it is on disk.
pub struct Opened {
    /// The room.
    pub room: Arc<Room>,
    /// As it stands.
    pub view: Arc<RoomView>,
    /// The caller's membership.
    pub member: Option<Member>,
}

/// A room that the caller may see, its lane held.
pub struct Entered {
    /// The lane.
    pub writer: Writer,
    /// The caller's membership.
    pub member: Option<Member>,
}

/// A room as one person sees it.
#[derive(Clone, Debug)]
pub struct RoomDetails {
    /// Its id.
    pub room_id: OwnedRoomId,
    /// As it stands.
    pub view: Arc<RoomView>,
    /// The person's membership.
    pub membership: Membership,
    /// The person's level, as reported, and whether a creator outranks it.
    pub power_level: i64,
    /// The person is a creator by the room version.
    pub is_creator: bool,
    /// What the person set, and what is unread.
    pub personal: PersonalView,
    /// Joined members at most.
    pub members_max: Option<u64>,
    /// Everybody of this server may enter.
    pub is_public: bool,
    /// Every member may invite.
    pub allow_invites: bool,
    /// Who is not invited may knock.
    pub members_only: bool,
    /// A word lets people of this server in.
    pub has_password: bool,
    /// Whether other servers take part.
    pub federation: Federation,
    /// The job that enters the room for the person.
    pub join_job_id: Option<String>,
    /// Somebody has said what the room is. If not, who made it and its version are not known either.
    pub is_known: bool,
}

/// Whether other servers take part in a room.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Federation {
    /// They may.
    Open,
    /// Those that are listed may.
    Listed,
    /// This server keeps the room to itself.
    Off,
    /// The room can never be anywhere else.
    Never,
}

impl Federation {
    /// Of a room.
    pub fn of(view: &RoomView) -> Self {
        match &view.settings.federation {
            _ if !view.can_federate() => Self::Never,
            FederationMode::Open => Self::Open,
            FederationMode::Listed(_) => Self::Listed,
            FederationMode::Off => Self::Off,
        }
    }
}

/// The id of the room that an id, alias or number names, whether or not there is such a room.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn id_of(actions: &Actions, reference: &str) -> Result<Option<OwnedRoomId>, ActionError> {
    if reference.starts_with('#') {
        return aliases::resolve(actions, reference).await;
    }
    if let Ok(number) = reference.parse() {
        return numbers::room(actions, number).await;
    }
    Ok(RoomId::parse(reference).ok().filter(|_| !reference.contains('\0')))
}

/// The room that an id or alias names, whether or not the caller may see it.
///
/// # Errors
/// [`ActionError::RoomNotFound`]; when storage cannot be read.
pub async fn locate(actions: &Actions, reference: &str) -> Result<Arc<Room>, ActionError> {
    let room_id = id_of(actions, reference).await?.filter(|room_id| !actions.is_purging(room_id));
    Ok(actions.room(&room_id.ok_or(ActionError::RoomNotFound)?))
}

/// A room, for reading.
///
/// # Errors
/// [`ActionError::RoomNotFound`] alike for unknown and hidden rooms.
pub async fn open(actions: &Actions, caller: &Caller, reference: &str) -> Result<Opened, ActionError> {
    let room = locate(actions, reference).await?;
    let view = room.view().await?.ok_or(ActionError::RoomNotFound)?;
    let member = room.store.get(&MEMBERS, &room.home, &caller.user_id).await?;
    if !view.is_visible_to(member.as_ref()) {
        return Err(ActionError::RoomNotFound);
    }
    Ok(Opened { room, view, member })
}

/// A room, for writing.
///
/// # Errors
/// As [`open`]; [`ActionError::Busy`].
pub async fn enter(actions: &Actions, caller: &Caller, reference: &str) -> Result<Entered, ActionError> {
    let room = locate(actions, reference).await?;
    let mut writer = Writer::enter(actions, &room).await?.ok_or(ActionError::RoomNotFound)?;
    let member = writer.get(&MEMBERS, &caller.user_id).await?;
    if !writer.view()?.is_visible_to(member.as_ref()) {
        return Err(ActionError::RoomNotFound);
    }
    writer.written_by(caller);
    Ok(Entered { writer, member })
}

impl Entered {
    /// What somebody is in the room.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn membership_of(&self, user_id: &UserId) -> Result<Membership, ActionError> {
        Ok(membership(self.writer.get(&MEMBERS, &user_id.to_owned()).await?.as_ref()))
    }

    /// May the caller do that here?
    ///
    /// # Errors
    /// The denial.
    pub fn may(&self, caller: &Caller, act: Act) -> Result<(), ActionError> {
        Ok(self.writer.standing(caller, self.member.as_ref())?.may(act)?)
    }

    /// May the caller do that to somebody?
    ///
    /// # Errors
    /// The denial.
    pub fn may_to(&self, caller: &Caller, act: Act, target: &UserId) -> Result<(), ActionError> {
        let level = self.writer.view()?.level(target);
        Ok(self.writer.standing(caller, self.member.as_ref())?.may_to(act, level)?)
    }

    /// Commits what was staged, and answers the room as the caller then sees it.
    ///
    /// # Errors
    /// As [`Writer::commit`].
    pub async fn finish(self, actions: &Actions, caller: &Caller) -> Result<RoomDetails, ActionError> {
        let room = Arc::clone(&self.writer.room);
        let view = self.writer.commit().await?;
        let member = room.store.get(&MEMBERS, &room.home, &caller.user_id).await?;
        describe(actions, caller, &room, view, member.as_ref()).await
    }
}

impl Opened {
    /// The room as the caller sees it.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn details(self, actions: &Actions, caller: &Caller) -> Result<RoomDetails, ActionError> {
        describe(actions, caller, &self.room, self.view, self.member.as_ref()).await
    }
}

/// One room, as the caller sees it.
///
/// # Errors
/// As [`open`].
pub async fn details(actions: &Actions, caller: &Caller, reference: &str) -> Result<RoomDetails, ActionError> {
    match open(actions, caller, reference).await {
        Err(ActionError::RoomNotFound) => {
            let room_id = id_of(actions, reference).await?.ok_or(ActionError::RoomNotFound)?;
            let invited = invites::details(actions, &caller.user_id, &room_id).await?;
            let room =
                invited.map_or_else(|| promised::details(actions, &caller.user_id, &room_id), |room| Ok(Some(room)));
            room?.ok_or(ActionError::RoomNotFound)
        }
        Ok(opened) if !membership(opened.member.as_ref()).is_in() => {
            // Who was in it once may be invited again by others.
            match invites::details(actions, &caller.user_id, &opened.room.id).await? {
                Some(invited) => Ok(invited),
                None => opened.details(actions, caller).await,
            }
        }
        opened => opened?.details(actions, caller).await,
    }
}

/// What a room answers to one person.
///
/// # Errors
/// When storage cannot be read.
pub async fn describe(
    actions: &Actions,
    caller: &Caller,
    room: &Room,
    view: Arc<RoomView>,
    member: Option<&Member>,
) -> Result<RoomDetails, ActionError> {
    let personal = personal::view(actions, &caller.user_id, room, &view, member).await?;
    Ok(RoomDetails {
        room_id: room.id.clone(),
        membership: membership(member),
        power_level: view.level(&caller.user_id).reported(),
        is_creator: view.basis.levels.is_creator(&caller.user_id),
        members_max: view.settings.max_members,
        is_public: view.door() == Door::Public,
        allow_invites: view.allows_invites(),
        members_only: view.door() == Door::Knock,
        has_password: view.has_password(),
        federation: Federation::of(&view),
        join_job_id: promised::job_of(actions, &caller.user_id, &room.id),
        is_known: true,
        personal,
        view,
    })
}

/// Renames the room.
///
/// # Errors
/// A blank name, a type without names, a level too low.
pub async fn set_name(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    name: &str,
) -> Result<RoomDetails, ActionError> {
    at_most("name", Some(name), NAME_CHARACTERS_MAX)?;
    let mut entered = enter(actions, caller, reference).await?;
    stage_name(&mut entered, caller, name).await?;
    entered.finish(actions, caller).await
}

/// Stages another name, unless it is that already.
///
/// # Errors
/// As [`set_name`].
pub(super) async fn stage_name(entered: &mut Entered, caller: &Caller, name: &str) -> Result<(), ActionError> {
    entered.may(caller, Act::Rename)?;
    let summary = entered.writer.summary()?;
    incognito::refuse_media(summary.kind, name)?;
    if matches!(summary.kind, RoomKind::Group | RoomKind::Public) && name.trim().is_empty() {
        return Err(ActionError::invalid("name", "must not be blank"));
    }
    if summary.name.as_deref() != Some(name) {
        let draft = Draft::state("m.room.name", "", object(json!({ "name": name }))?);
        entered.writer.stage(&caller.user_id, draft).await?;
    }
    Ok(())
}

/// Changes the topic; an empty one clears it.
///
/// # Errors
/// A level too low.
pub async fn set_topic(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    topic: &str,
) -> Result<RoomDetails, ActionError> {
    at_most("topic", Some(topic), TOPIC_CHARACTERS_MAX)?;
    let mut entered = enter(actions, caller, reference).await?;
    stage_topic(&mut entered, caller, topic).await?;
    entered.finish(actions, caller).await
}

/// Stages another topic, unless it is that already.
///
/// # Errors
/// As [`set_topic`].
pub(super) async fn stage_topic(entered: &mut Entered, caller: &Caller, topic: &str) -> Result<(), ActionError> {
    entered.may(caller, Act::Topic)?;
    let summary = entered.writer.summary()?;
    incognito::refuse_media(summary.kind, topic)?;
    if summary.topic.as_deref().unwrap_or_default() != topic {
        let draft = Draft::state("m.room.topic", "", object(json!({ "topic": topic }))?);
        entered.writer.stage(&caller.user_id, draft).await?;
    }
    Ok(())
}

/// Moves the room to another workspace.
///
/// # Errors
/// A level too low here, or a role too low there.
pub async fn set_workspace(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    workspace_id: &str,
) -> Result<RoomDetails, ActionError> {
    open(actions, caller, reference).await?;
    let workspace_id = &*workspaces::parse_id(workspace_id)?;
    workspaces::editable(actions, caller, workspace_id).await?;
    let mut entered = enter(actions, caller, reference).await?;
    entered.may(caller, Act::Move)?;
    let room_id = entered.writer.room_id().clone();
    let before = entered.writer.summary()?.workspace_id.clone();
    if before.as_deref() == Some(workspace_id) {
        return entered.finish(actions, caller).await;
    }
    let chore = |space: &RoomId, chore: Chore| {
        Effect::new(Home::server()).put(&CHORES, &(room_id.clone(), space.to_owned()), &chore)
    };
    if let Some(before) = &before {
        let gone = Draft::state("m.space.parent", before.as_str(), object(json!({}))?);
        entered.writer.stage(&caller.user_id, gone).await?;
        entered.writer.commit_mut().effect(chore(before, Chore::UnlinkChild(caller.user_id.clone())));
    }
    let parent = object(json!({ "canonical": true, "via": [actions.server_name.as_str()] }))?;
    entered.writer.stage(&caller.user_id, Draft::state("m.space.parent", workspace_id.as_str(), parent)).await?;
    entered.writer.commit_mut().effect(chore(workspace_id, Chore::LinkChild(caller.user_id.clone())));
    let moved = entered.finish(actions, caller).await?;
    for space in before.iter().map(|space| &**space).chain([workspace_id]) {
        chores::try_finish(actions, &room_id, space).await;
    }
    Ok(moved)
}

/// The caller's own rooms, invites and knocks included, newest activity first.
///
/// # Errors
/// When storage cannot be read.
pub async fn own(actions: &Actions, caller: &Caller, window: Window) -> Result<Page<RoomDetails>, ActionError> {
    let mut rooms: Vec<(UnixMs, OwnedRoomId, Listed)> = Vec::new();
    let invited = invites::of(actions, &caller.user_id).await?;
    for (room_id, row) in personal::rooms_of(actions, &caller.user_id).await? {
        let is_invited = invited.iter().any(|(invited, _)| *invited == room_id);
        if row.is_workspace || is_invited || !row.membership.is_involved() || actions.is_purging(&room_id) {
            continue;
        }
        let room = actions.room(&room_id);
        if let Some(view) = room.view().await? {
            rooms.push((view.tip.last_activity, room_id, Listed::Here(room, view)));
        }
    }
    for (room_id, since, room) in promised::of(actions, &caller.user_id)? {
        let is_listed = invited.iter().map(|(known, _)| known).chain(rooms.iter().map(|(_, known, _)| known));
        if !is_listed.into_iter().any(|known| *known == room_id) {
            rooms.push((since, room_id, Listed::Elsewhere(Box::new(room))));
        }
    }
    for (room_id, invited) in invited {
        let room = invites::described(actions, &caller.user_id, &room_id, &invited)?;
        if room.view.summary.kind != RoomKind::Workspace {
            rooms.push((invited.received_at, room_id, Listed::Elsewhere(Box::new(room))));
        }
    }
    rooms.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let Page { entries, total } = Page::of(rooms, window);
    let mut described = Vec::with_capacity(entries.len());
    for (_, _, listed) in entries {
        described.push(match listed {
            Listed::Elsewhere(room) => *room,
            Listed::Here(room, view) => {
                let member = room.store.get(&MEMBERS, &room.home, &caller.user_id).await?;
                describe(actions, caller, &room, view, member.as_ref()).await?
            }
        });
    }
    Ok(Page { entries: described, total })
}

/// A room of somebody's list.
enum Listed {
    Here(Arc<Room>, Arc<RoomView>),
    /// Nobody of this server is in it.
    Elsewhere(Box<RoomDetails>),
}

/// The archived rooms of which the caller was a member when they were archived.
///
/// # Errors
/// When storage cannot be read.
pub async fn archived(actions: &Actions, caller: &Caller, window: Window) -> Result<Page<RoomDetails>, ActionError> {
    let mut rooms = Vec::new();
    for (room_id, row) in personal::rooms_of(actions, &caller.user_id).await? {
        if row.is_workspace || !row.was_joined || actions.is_purging(&room_id) {
            continue;
        }
        let room = actions.room(&room_id);
        let Some(view) = room.view().await? else { continue };
        if view.summary.state != rules::kind::RoomState::Archived {
            continue;
        }
        let member = room.store.get(&MEMBERS, &room.home, &caller.user_id).await?;
        let was_there = member.is_some_and(|member| match (member.left_at, view.summary.frozen_at) {
            (None, _) => member.membership == Membership::Join,
            (Some(left), Some(frozen)) => left > frozen,
            (Some(_), None) => false,
        });
        if was_there {
            rooms.push((room, view));
        }
    }
    rooms.sort_by(|a, b| b.1.tip.last_activity.cmp(&a.1.tip.last_activity).then_with(|| a.0.id.cmp(&b.0.id)));
    describe_all(actions, caller, Page::of(rooms, window)).await
}

/// What these rooms answer to the caller.
///
/// # Errors
/// When storage cannot be read.
pub async fn describe_all(
    actions: &Actions,
    caller: &Caller,
    rooms: Page<(Arc<Room>, Arc<RoomView>)>,
) -> Result<Page<RoomDetails>, ActionError> {
    let mut entries = Vec::with_capacity(rooms.entries.len());
    for (room, view) in rooms.entries {
        let member = room.store.get(&MEMBERS, &room.home, &caller.user_id).await?;
        entries.push(describe(actions, caller, &room, view, member.as_ref()).await?);
    }
    Ok(Page { entries, total: rooms.total })
}

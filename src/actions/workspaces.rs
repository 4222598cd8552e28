//! Workspaces: Matrix spaces whose power levels are roles. Owner, editor and viewer are levels 100, 50 and 0.

use std::sync::Arc;

use rules::{
    draft::Draft,
    kind::{RoomKind, RoomState},
    permission::Membership,
    power::Level,
};
use ruma::{CanonicalJsonObject, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::json;

use super::{
    ActionError, Actions, Caller, Page, Window, accounts,
    append::Writer,
    creation::{self, Plan},
    lane::Room,
    levels, lifecycle,
    members::{self, membership},
    personal, requests,
    rooms::{self, Entered, Opened},
    rows,
    texts::{NAME_CHARACTERS_MAX, TOPIC_CHARACTERS_MAX, at_most},
    view::RoomView,
};
use crate::storage::{
    Direction, Home, KeyRange, Limit, Store,
    history::Summary,
    keyspaces::{MEMBERS, WORKSPACE_ROOMS},
    members::Member,
};

/// People who leave a deleted workspace in one commit.
const LEAVES_AT_A_TIME: usize = 100;

/// What somebody may do in a workspace.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sees it.
    Viewer,
    /// Puts rooms into it.
    Editor,
    /// Decides who is in it.
    Owner,
}

impl Role {
    /// The word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Owner => "owner",
        }
    }

    /// The role that a word names.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Viewer, Self::Editor, Self::Owner].into_iter().find(|role| role.as_str() == word)
    }

    fn of(level: Level) -> Self {
        match level {
            level if level.reaches(100) => Self::Owner,
            level if level.reaches(50) => Self::Editor,
            _ => Self::Viewer,
        }
    }

    fn level(self) -> i64 {
        match self {
            Self::Viewer => 0,
            Self::Editor => 50,
            Self::Owner => 100,
        }
    }
}

/// A workspace as one member sees it.
#[derive(Clone, Debug)]
pub struct WorkspaceView {
    /// The space.
    pub room_id: OwnedRoomId,
    /// Its name.
    pub name: Option<String>,
    /// Its topic.
    pub topic: Option<String>,
    /// What the caller may do in it.
    pub role: Role,
    /// Rooms that name it as their workspace.
    pub rooms: usize,
    /// Open, or archived because it was deleted while it had rooms. A closed one is deleted, and nobody sees it.
    pub state: RoomState,
}

/// A member of a workspace.
#[derive(Clone, Debug)]
pub struct WorkspaceMember {
    /// The person.
    pub user_id: OwnedUserId,
    /// The name in this workspace.
    pub display_name: Option<String>,
    /// What the person may do in it.
    pub role: Role,
}

/// The id of a workspace; what is no id names none.
///
/// # Errors
/// [`ActionError::WorkspaceNotFound`].
pub fn parse_id(id: &str) -> Result<OwnedRoomId, ActionError> {
    RoomId::parse(id).ok().filter(|_| !id.contains('\0')).ok_or(ActionError::WorkspaceNotFound)
}

/// Makes a workspace.
///
/// # Errors
/// A blank name.
pub async fn create(
    actions: &Actions,
    caller: &Caller,
    name: String,
    topic: Option<String>,
) -> Result<WorkspaceView, ActionError> {
    if name.trim().is_empty() {
        return Err(ActionError::invalid("name", "must not be blank"));
    }
    at_most("name", Some(&name), NAME_CHARACTERS_MAX)?;
    at_most("topic", topic.as_deref(), TOPIC_CHARACTERS_MAX)?;
    let mut plan = plan(actions, name)?;
    plan.topic = topic.filter(|topic| !topic.is_empty());
    let promised = match &caller.request {
        Some(request) => requests::promised(actions, &caller.user_id, request).await?,
        None => None,
    };
    let create = match promised {
        Some(reservation) => creation::read_create(&reservation, &plan.version)?,
        None => creation::create_event(actions, &caller.user_id, &plan)?,
    };
    if let Some(request) = &caller.request {
        let reservation = creation::reservation(actions, &create, request.fingerprint);
        requests::promise(actions, &caller.user_id, request, &reservation).await?;
    }
    let room_id = create.room_id().clone();
    creation::write(actions, &caller.user_id, create, plan, None, caller.is_admin).await?;
    get(actions, caller, room_id.as_str()).await
}

/// A workspace of this name with nothing else.
pub(super) fn plan(actions: &Actions, name: String) -> Result<Plan, ActionError> {
    let mut plan = Plan::of_kind(RoomKind::Workspace)?;
    plan.settings.federation = actions.settings.room_federation.clone();
    plan.name = Some(name);
    Ok(plan)
}

/// One workspace.
///
/// # Errors
/// [`ActionError::WorkspaceNotFound`] alike for unknown and hidden ones.
pub async fn get(actions: &Actions, caller: &Caller, reference: &str) -> Result<WorkspaceView, ActionError> {
    let opened = open(actions, caller, reference).await?;
    view(&opened.room.store, &opened.room.id, &opened.view, &caller.user_id).await
}

/// Changes name and topic; what is none stays. An empty topic clears it.
///
/// # Errors
/// A blank name; a caller who is neither editor nor owner; an archived workspace.
pub async fn change(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    name: Option<String>,
    topic: Option<String>,
) -> Result<WorkspaceView, ActionError> {
    if name.as_ref().is_some_and(|name| name.trim().is_empty()) {
        return Err(ActionError::invalid("name", "must not be blank"));
    }
    at_most("name", name.as_deref(), NAME_CHARACTERS_MAX)?;
    at_most("topic", topic.as_deref(), TOPIC_CHARACTERS_MAX)?;
    let mut entered = enter(actions, caller, reference).await?;
    has_role(&entered, caller, Role::Editor, "changing this workspace")?;
    not_archived(entered.writer.summary()?)?;
    let summary = entered.writer.summary()?.clone();
    if let Some(name) = name.filter(|name| summary.name.as_ref() != Some(name)) {
        let draft = Draft::state("m.room.name", "", creation::object(json!({ "name": name }))?);
        entered.writer.stage(&caller.user_id, draft).await?;
    }
    if let Some(topic) = topic.filter(|topic| summary.topic.as_deref().unwrap_or_default() != topic) {
        let draft = Draft::state("m.room.topic", "", creation::object(json!({ "topic": topic }))?);
        entered.writer.stage(&caller.user_id, draft).await?;
    }
    finish(entered, caller).await
}

/// Deletes a workspace without rooms: it is closed, and nobody sees it any more. One with rooms is archived instead, and its owners can restore it. Answers
/// which of the two.
///
/// # Errors
/// A caller who is no owner; the workspace that came with somebody's account.
pub async fn delete(actions: &Actions, caller: &Caller, reference: &str) -> Result<RoomState, ActionError> {
    let mut entered = enter(actions, caller, reference).await?;
    has_role(&entered, caller, Role::Owner, "deleting this workspace")?;
    let (summary, room) = (entered.writer.summary()?, Arc::clone(&entered.writer.room));
    let creator = accounts::get(actions, &summary.creator).await?;
    if creator.is_some_and(|creator| creator.personal_workspace.room_id == room.id) {
        let problem = "came with an account and stays with it; delete another one";
        return Err(ActionError::invalid("workspace_id", problem));
    }
    let first = room.store.scan(&WORKSPACE_ROOMS, &room.home, KeyRange::all(), Direction::Up, Limit::rows(1)).await?;
    if !first.rows.is_empty() {
        if summary.state == RoomState::Open {
            lifecycle::stage_archive(&mut entered, caller, None).await?;
        }
        entered.writer.commit().await?;
        return Ok(RoomState::Archived);
    }
    lifecycle::stage_close(&mut entered, caller, None).await?;
    entered.writer.commit().await?;
    empty(actions, &room).await?;
    Ok(RoomState::Closed)
}

/// Lets everybody leave a deleted workspace. It is gone already; who is left over after a crash harms nobody.
async fn empty(actions: &Actions, room: &Arc<Room>) -> Result<(), ActionError> {
    let members = rows::all(&room.store, &MEMBERS, &room.home, KeyRange::all()).await?;
    let people: Vec<_> =
        members.into_iter().filter(|(_, member)| member.membership.is_in()).map(|(user_id, _)| user_id).collect();
    for some in people.chunks(LEAVES_AT_A_TIME) {
        let Some(mut writer) = Writer::enter(actions, room).await? else { return Ok(()) };
        for user_id in some.iter().filter(|user_id| actions.is_local(user_id)) {
            writer.stage(user_id, Draft::member(user_id, "leave", CanonicalJsonObject::new())).await?;
        }
        writer.commit().await?;
    }
    Ok(())
}

/// The caller's workspaces, by name.
///
/// # Errors
/// When storage cannot be read.
pub async fn list(actions: &Actions, caller: &Caller) -> Result<Vec<WorkspaceView>, ActionError> {
    let mut workspaces = Vec::new();
    for (room_id, row) in personal::rooms_of(actions, &caller.user_id).await? {
        if !row.is_workspace || row.membership != Membership::Join {
            continue;
        }
        let room = actions.room(&room_id);
        if let Some(room_view) = room.view().await?
            && room_view.summary.state != RoomState::Closed
        {
            workspaces.push(view(&room.store, &room_id, &room_view, &caller.user_id).await?);
        }
    }
    workspaces.sort_by(|a, b| (&a.name, &a.room_id).cmp(&(&b.name, &b.room_id)));
    Ok(workspaces)
}

/// A page of the joined members of a workspace, by id, and how many there are in all.
///
/// # Errors
/// [`ActionError::WorkspaceNotFound`].
pub async fn members(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    window: Window,
) -> Result<Page<WorkspaceMember>, ActionError> {
    let opened = open(actions, caller, reference).await?;
    let (store, home) = (&opened.room.store, &opened.room.home);
    let joined = usize::try_from(opened.view.summary.joined).map_err(ActionError::internal)?;
    let is_joined = |member: &Member| member.membership == Membership::Join;
    let members = rows::page(store, &MEMBERS, home, Direction::Up, is_joined, Some(joined), window).await?;
    let view = |(user_id, member): (OwnedUserId, Member)| WorkspaceMember {
        role: Role::of(opened.view.level(&user_id)),
        display_name: member.display_name,
        user_id,
    };
    Ok(members.map(view))
}

/// Gives somebody a role; who is not in the workspace yet is brought in at once.
///
/// # Errors
/// A caller who is not an owner; the creator, whose role cannot be changed; somebody of another server.
pub async fn set_member(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    target: &UserId,
    role: Role,
) -> Result<WorkspaceView, ActionError> {
    members::must_exist(actions, target).await?;
    let mut entered = enter(actions, caller, reference).await?;
    has_role(&entered, caller, Role::Owner, "deciding who is in this workspace")?;
    not_archived(entered.writer.summary()?)?;
    not_the_creator(&entered, target)?;
    let member = entered.writer.get(&MEMBERS, &target.to_owned()).await?;
    bring_in(actions, &mut entered.writer, caller, target, member.as_ref()).await?;
    levels::stage_member(&mut entered.writer, caller, target, role.level()).await.map_err(of_workspace)?;
    finish(entered, caller).await
}

/// Takes somebody out of a workspace.
///
/// # Errors
/// As [`set_member`].
pub async fn remove_member(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    target: &UserId,
) -> Result<(), ActionError> {
    let mut entered = enter(actions, caller, reference).await?;
    if *target != caller.user_id {
        has_role(&entered, caller, Role::Owner, "deciding who is in this workspace")?;
        not_archived(entered.writer.summary()?)?;
    }
    not_the_creator(&entered, target)?;
    let member = entered.writer.get(&MEMBERS, &target.to_owned()).await?;
    let present = membership(member.as_ref());
    if present == Membership::None {
        return Err(ActionError::NotInWorkspace(target.to_string()));
    }
    if present.is_in() {
        let draft = Draft::member(target, "leave", CanonicalJsonObject::new());
        entered.writer.stage(&caller.user_id, draft).await.map_err(of_workspace)?;
    }
    // Who is brought in again begins as a viewer.
    if *target != caller.user_id && entered.writer.view()?.level(target) != Level::Number(0) {
        levels::stage_member(&mut entered.writer, caller, target, 0).await.map_err(of_workspace)?;
    }
    entered.writer.commit().await?;
    Ok(())
}

/// What the rules of the space refuse, in the words of workspaces.
fn of_workspace(error: ActionError) -> ActionError {
    match error {
        ActionError::RoomForbidden { message, .. } => ActionError::WorkspaceForbidden(message),
        other => other,
    }
}

/// The caller may put rooms into this workspace.
///
/// # Errors
/// [`ActionError::WorkspaceNotFound`], [`ActionError::WorkspaceForbidden`].
pub async fn editable(actions: &Actions, caller: &Caller, workspace_id: &RoomId) -> Result<(), ActionError> {
    let opened = open(actions, caller, workspace_id.as_str()).await?;
    if Role::of(opened.view.level(&caller.user_id)) >= Role::Editor {
        return not_archived(&opened.view.summary);
    }
    Err(ActionError::WorkspaceForbidden("putting rooms into this workspace takes the role editor or owner".to_owned()))
}

async fn open(actions: &Actions, caller: &Caller, reference: &str) -> Result<Opened, ActionError> {
    let opened = match rooms::open(actions, caller, reference).await {
        Err(ActionError::RoomNotFound) => return Err(ActionError::WorkspaceNotFound),
        opened => opened?,
    };
    let is_in = membership(opened.member.as_ref()) == Membership::Join;
    if opened.view.summary.kind == RoomKind::Workspace && is_in {
        Ok(opened)
    } else {
        Err(ActionError::WorkspaceNotFound)
    }
}

async fn enter(actions: &Actions, caller: &Caller, reference: &str) -> Result<Entered, ActionError> {
    open(actions, caller, reference).await?;
    rooms::enter(actions, caller, reference).await
}

/// Commits what was staged, and answers the workspace as the caller then sees it.
async fn finish(entered: Entered, caller: &Caller) -> Result<WorkspaceView, ActionError> {
    let room = Arc::clone(&entered.writer.room);
    let changed = entered.writer.commit().await?;
    view(&room.store, &room.id, &changed, &caller.user_id).await
}

fn has_role(entered: &Entered, caller: &Caller, needed: Role, what: &str) -> Result<(), ActionError> {
    if Role::of(entered.writer.view()?.level(&caller.user_id)) >= needed {
        return Ok(());
    }
    Err(ActionError::WorkspaceForbidden(format!("{what} takes the role {}", needed.as_str())))
}

fn not_archived(summary: &Summary) -> Result<(), ActionError> {
    if summary.state == RoomState::Open {
        return Ok(());
    }
    let frozen = "this workspace is archived; an owner can restore it with POST /v1/rooms/{workspace_id}/rejoin";
    Err(ActionError::RoomFrozen(frozen.to_owned()))
}

fn not_the_creator(entered: &Entered, target: &UserId) -> Result<(), ActionError> {
    if entered.writer.summary()?.creator == *target {
        let problem = "the creator of a workspace is its owner, and stays it";
        return Err(ActionError::invalid("participant_id", problem));
    }
    Ok(())
}

async fn bring_in(
    actions: &Actions,
    writer: &mut Writer,
    caller: &Caller,
    target: &UserId,
    member: Option<&Member>,
) -> Result<(), ActionError> {
    if membership(member) == Membership::Join {
        return Ok(());
    }
    if writer.summary()?.joined >= writer.view()?.members_max(actions.settings.max_participants) {
        return Err(ActionError::RoomCapacity("this workspace is full; somebody has to leave first".to_owned()));
    }
    let profile = members::profile_of(actions, target).await?;
    match membership(member) {
        Membership::Join => {}
        Membership::Invite => {}
        Membership::Ban => {
            let banned = format!("{target} is banned from this workspace; lift the ban first");
            return Err(ActionError::WorkspaceForbidden(banned));
        }
        Membership::None | Membership::Leave | Membership::Knock => {
            writer.stage(&caller.user_id, Draft::member(target, "invite", profile.clone())).await?;
        }
    }
    writer.stage(target, Draft::member(target, "join", profile)).await?;
    Ok(())
}

async fn view(
    store: &Store,
    room_id: &RoomId,
    view: &RoomView,
    user_id: &UserId,
) -> Result<WorkspaceView, ActionError> {
    let rooms = rows::all(store, &WORKSPACE_ROOMS, &Home::room(room_id), KeyRange::all()).await?;
    Ok(WorkspaceView {
        room_id: room_id.to_owned(),
        name: view.summary.name.clone(),
        topic: view.summary.topic.clone(),
        role: Role::of(view.level(user_id)),
        rooms: rooms.len(),
        state: view.summary.state,
    })
}

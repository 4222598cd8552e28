//! A room of other servers lives on in a new one: the original is kept as it was proven, stored once and written by nobody, and each who takes it in gets a
//! successor with its state, whose timeline goes on into it.

use std::{collections::BTreeMap, sync::Arc};

use rules::{
    draft::Draft,
    kind::{self, ANNOUNCEMENT, RoomKind},
    power::Levels,
    version::Version,
    visibility::HistoryVisibility,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, Int, OwnedRoomId, OwnedUserId, UserId, canonical_json::to_canonical_value,
};
use serde_json::Value;

use super::{
    doors::Doors,
    import::{Imported, MediaTold, Outcome, Task},
    media_in, merged,
    past::{self, Past},
    reading, restored,
};
use crate::{
    actions::{
        ActionError, Actions, Caller, accounts,
        append::{self, Staging},
        audit::{Act, Actor},
        capacity, chores,
        creation::{self, Inherits, Plan},
        lane::Room,
        members, remote_invite,
        rows::Rows,
        settings,
        summary::{self, Basis},
        texts::{ANNOUNCEMENT_CHARACTERS_MAX, NAME_CHARACTERS_MAX, TOPIC_CHARACTERS_MAX},
        view::RoomView,
        workspaces,
    },
    bundle::{Local, Verified},
    storage::{
        Commit, Effect, Home,
        accounts::AccountState,
        admin::ImportWish,
        history::Summary,
        keyspaces::{IMPORTS, PURGED, REDACTIONS, SEAM, SUCCESSORS},
        room_settings::RoomSettings,
    },
};

/// The highest level that is carried over: what the importer has at least.
const LEVEL_MAX: i64 = 100;
/// People that one commit is about.
const PEOPLE_AT_A_TIME: usize = 50;

/// What becomes of the people of the original.
#[derive(Debug, Default)]
struct People {
    /// Who is whom in the successor.
    mapped: BTreeMap<OwnedUserId, OwnedUserId>,
    /// Joined members who are left behind.
    former: u64,
    /// Who is banned in the successor.
    banned: Vec<OwnedUserId>,
    /// Who comes in.
    coming: Vec<OwnedUserId>,
}

/// The successor that somebody has of a room already.
pub(super) async fn present(
    actions: &Actions,
    origin: &OwnedRoomId,
    by: &OwnedUserId,
) -> Result<Option<Arc<Room>>, ActionError> {
    let row = actions.store().get(&SUCCESSORS, &Home::server(), &(origin.clone(), by.clone())).await?;
    let Some(room) = row.map(|room_id| actions.room(&room_id)) else { return Ok(None) };
    let is_there = room.view().await?.is_some() && !actions.is_purging(&room.id);
    Ok(is_there.then_some(room))
}

/// Takes the original in, and makes its successor.
///
/// # Errors
/// Rights on the workspace; people who do not exist; the tenant's limits; when storage fails. Nothing is left then that was not here before.
pub(super) async fn succeed(task: &Task<'_>) -> Result<Imported, ActionError> {
    let Task { actions, opened, wish, .. } = *task;
    let origin = actions.room(&opened.manifest.room_id);
    let people = people(task).await?;
    let workspace_id = workspace(actions, wish).await?;
    let successor = present(actions, &origin.id, &wish.by).await?;
    let is_here = origin.view().await?.is_some();
    let mut imported = Imported::of(&origin.id, Outcome::Succeeded, task.verified);
    // That others have brought the room here, or are in it, is nothing that whoever brings it may learn: they are told what is new to them.
    restored::tell_events(&mut imported, task);
    if let Some(view) = origin.view().await? {
        imported.media = add(task, &origin, &view).await?;
        if let Some(successor) = &successor {
            imported.events.known = past::brought_before(task, &origin, successor).await?;
            imported.events.stored = imported.events.stored.saturating_sub(imported.events.known);
        }
        let MediaTold { stored, known } = imported.media;
        let media = stored.saturating_add(known);
        imported.media = match successor.is_some() && imported.events.stored == 0 {
            true => MediaTold { stored: 0, known: media },
            false => MediaTold { stored: media, known: 0 },
        };
    }
    imported.created = successor.is_none() || !is_here;
    imported.participants.mapped = u64::try_from(people.mapped.len()).unwrap_or(u64::MAX);
    imported.participants.former = people.former;
    if let Some(room) = successor {
        let known = known(task, (&origin, is_here), &room, &mut imported).await;
        if known.is_err() && origin.is_hidden() {
            restored::discard(actions, &origin).await?;
        }
        known?;
        return Ok(imported);
    }
    if wish.dry_run {
        return Ok(imported);
    }
    let made = make(task, &origin, is_here, (&people, workspace_id), &mut imported).await;
    if made.is_err() && origin.is_hidden() {
        restored::discard(actions, &origin).await?;
    }
    let room = made?;
    let caller = Caller::local(&wish.by, wish.is_admin);
    let far: Vec<OwnedUserId> =
        people.coming.into_iter().filter(|user_id| !actions.is_local(user_id)).take(creation::INVITES_MAX).collect();
    remote_invite::invite_all(actions, &caller, &room.id, far).await;
    Ok(imported)
}

/// There is a successor already: what came new belongs to its past as well.
async fn known(
    task: &Task<'_>,
    (origin, is_here): (&Arc<Room>, bool),
    successor: &Arc<Room>,
    imported: &mut Imported,
) -> Result<(), ActionError> {
    imported.id = successor.id.clone();
    imported.room_alias = successor.view().await?.and_then(|view| view.summary.alias.clone());
    if task.wish.dry_run {
        return Ok(());
    }
    if !is_here {
        let place = capacity::room(task.actions).await?;
        keep_origin(task, origin, place, imported).await?;
    }
    let past = Past::of(task, origin, successor).await?;
    past.write(successor).await?;
    let mut commit = Commit::new(successor.home.clone());
    commit.put(&SEAM, &(), &past.seam());
    commit.effect(Effect::new(Home::server()).delete(&IMPORTS, &origin.id).delete(&PURGED, &origin.id));
    successor.store.commit(commit).await?;
    origin.show();
    Ok(())
}

/// Builds the original, while nobody finds it.
async fn keep_origin(
    task: &Task<'_>,
    origin: &Arc<Room>,
    place: capacity::Place<'_>,
    imported: &mut Imported,
) -> Result<(), ActionError> {
    restored::begin_hidden(task.actions, origin, task.job_id).await?;
    place.keep();
    restored::build(task, origin).await?;
    imported.media = media_in::take_in(task.actions, task.opened, origin).await?;
    Ok(())
}

/// Adds what is lacking to the original that is here, by its own doors. The media of a room that people of this server are in come from their own servers.
async fn add(task: &Task<'_>, origin: &Arc<Room>, view: &RoomView) -> Result<MediaTold, ActionError> {
    let lives_here = view.summary.local_joined() > 0;
    let mode = lives_here.then(|| view.settings.federation.clone());
    let doors = Doors::of_room(task.actions, origin, view, mode).await?;
    let added = merged::merge(&Task { doors: &doors, ..*task }, Outcome::Succeeded).await?;
    if lives_here && !task.wish.dry_run {
        let named = u64::try_from(task.opened.manifest.media.len()).unwrap_or(u64::MAX);
        return Ok(MediaTold { stored: named, known: 0 });
    }
    Ok(added.media)
}

/// Builds what is not here yet, while nobody finds it, and shows it at once.
async fn make(
    task: &Task<'_>,
    origin: &Arc<Room>,
    is_here: bool,
    (people, workspace_id): (&People, OwnedRoomId),
    imported: &mut Imported,
) -> Result<Arc<Room>, ActionError> {
    let Task { actions, opened, job_id, .. } = *task;
    let (places, of_origin) = (
        capacity::room(actions).await?,
        match is_here {
            true => None,
            false => Some(capacity::room(actions).await?),
        },
    );
    if let Some(place) = of_origin {
        keep_origin(task, origin, place, imported).await?;
    }
    let local = reading::local(opened).await?;
    let plan = plan(task, origin, (people, workspace_id.clone()), &local).await?;
    let create = creation::create_event(actions, &task.wish.by, &plan)?;
    let room = actions.room(create.room_id());
    restored::begin_hidden(actions, &room, job_id).await?;
    places.keep();
    let filled = match fill(task, &room, create, plan, people).await {
        Ok(()) => show(task, (origin, is_here), &room, imported).await,
        Err(error) => Err(error),
    };
    if let Err(error) = filled {
        restored::discard(actions, &room).await?;
        return Err(error);
    }
    chores::try_finish(actions, &room.id, &workspace_id).await;
    Ok(room)
}

/// Writes the successor, which nobody finds yet.
async fn fill(
    task: &Task<'_>,
    room: &Arc<Room>,
    create: rules::Event,
    plan: Plan,
    people: &People,
) -> Result<(), ActionError> {
    let Task { actions, wish, .. } = *task;
    creation::write_hidden(actions, &wish.by, create, plan, wish.is_admin).await?;
    let view = room.view_even_hidden().await?.ok_or(ActionError::RoomNotFound)?;
    let mut free = view.members_max(actions.settings.max_participants).saturating_sub(view.summary.joined);
    let mut staging: Vec<Staging> = Vec::new();
    for user_id in &people.banned {
        staging.push((wish.by.clone(), Draft::member(user_id, "ban", CanonicalJsonObject::new())));
    }
    for user_id in people.coming.iter().filter(|user_id| actions.is_local(user_id)) {
        let profile = members::profile_of(actions, user_id).await?;
        staging.push((wish.by.clone(), Draft::member(user_id, "invite", profile.clone())));
        if wish.is_admin && free > 0 && is_in_use(actions, user_id).await? {
            free -= 1;
            staging.push((user_id.clone(), Draft::member(user_id, "join", profile)));
        }
    }
    let mut rest = staging.into_iter().peekable();
    while rest.peek().is_some() {
        append::stage_hidden(actions, room, rest.by_ref().take(PEOPLE_AT_A_TIME)).await?;
    }
    Ok(())
}

/// Original and successor are there for everybody from here on.
async fn show(
    task: &Task<'_>,
    (origin, was_here): (&Arc<Room>, bool),
    room: &Arc<Room>,
    imported: &mut Imported,
) -> Result<(), ActionError> {
    let Task { actions, wish, .. } = *task;
    let view = room.view_even_hidden().await?.ok_or(ActionError::RoomNotFound)?;
    imported.id = room.id.clone();
    imported.room_alias.clone_from(&view.summary.alias);
    let past = match was_here {
        true => Past::of(task, origin, room).await?,
        false => Past::whole(origin).await?,
    };
    past.write(room).await?;
    let mut commit = Commit::new(room.home.clone());
    commit.put(&SEAM, &(), &past.seam());
    let key = (origin.id.clone(), wish.by.clone());
    let shown = Effect::new(Home::server()).delete(&IMPORTS, &origin.id).delete(&IMPORTS, &room.id);
    commit.effect(shown.delete(&PURGED, &origin.id).put(&SUCCESSORS, &key, &room.id));
    if wish.is_admin {
        let actor = if wish.is_command_line { Actor::CommandLine } else { Actor::Admin(&wish.by) };
        let details = vec![
            ("outcome", "succeeded".to_owned()),
            ("events", imported.events.stored.to_string()),
            ("successor", room.id.to_string()),
        ];
        Act { actor, action: "room.import", target: origin.id.to_string(), details }.record(actions, &mut commit);
    }
    room.store.commit(commit).await?;
    origin.show();
    room.show();
    Ok(())
}

async fn workspace(actions: &Actions, wish: &ImportWish) -> Result<OwnedRoomId, ActionError> {
    match &wish.workspace_id {
        Some(workspace_id) => {
            let caller = Caller::local(&wish.by, wish.is_admin);
            workspaces::editable(actions, &caller, workspace_id).await?;
            Ok(workspace_id.clone())
        }
        None => accounts::personal_workspace(actions, &wish.by).await,
    }
}

async fn is_in_use(actions: &Actions, user_id: &UserId) -> Result<bool, ActionError> {
    Ok(accounts::get(actions, user_id).await?.is_some_and(|account| account.state == AccountState::Active))
}

/// Who is whom, as far as it is said, and who has the same name if that is to count.
async fn people(task: &Task<'_>) -> Result<People, ActionError> {
    let Task { actions, verified, wish, .. } = *task;
    let mut people = People::default();
    for (old, new) in &wish.participants {
        if !verified.members.contains_key(old) {
            let problem = format!("`{old}` is not in the room of the bundle");
            return Err(ActionError::invalid("participants", problem));
        }
        members::must_be_invitable(actions, new).await?;
    }
    for (old, membership) in &verified.members {
        let named = match wish.participants.get(old) {
            Some(new) => Some(new.clone()),
            None if wish.same_names => same_name(actions, old).await?,
            None => None,
        };
        match (membership.as_str(), named) {
            ("ban", named) => people.banned.push(named.unwrap_or_else(|| old.clone())),
            ("join", Some(new)) => {
                if new != wish.by && !people.coming.contains(&new) {
                    people.coming.push(new.clone());
                }
                people.mapped.insert(old.clone(), new);
            }
            ("join", None) => people.former += 1,
            _ => {}
        }
    }
    people.banned.retain(|user_id| *user_id != wish.by);
    let People { banned, coming, .. } = &mut people;
    coming.retain(|user_id| !banned.contains(user_id));
    Ok(people)
}

async fn same_name(actions: &Actions, old: &UserId) -> Result<Option<OwnedUserId>, ActionError> {
    let Some(user_id) = accounts::user_id(actions, old.localpart()) else { return Ok(None) };
    Ok(is_in_use(actions, &user_id).await?.then_some(user_id))
}

/// What the successor is.
async fn plan(
    task: &Task<'_>,
    origin: &Room,
    (people, workspace_id): (&People, OwnedRoomId),
    local: &Local,
) -> Result<Plan, ActionError> {
    let Task { actions, opened, wish, verified, .. } = *task;
    let state = State { room: origin, version: crate::bundle::events::version(&opened.manifest)?, verified };
    let (version, summary) = (state.version, state.summary());
    let kind = match summary.kind {
        RoomKind::Public => RoomKind::Public,
        RoomKind::Group | RoomKind::Direct | RoomKind::Incognito => RoomKind::Group,
        RoomKind::Workspace => {
            let refused = "the bundle holds a space, and those have no successors here; make a workspace instead";
            return Err(ActionError::ImportRefused(refused.to_owned()));
        }
    };
    let mut plan = Plan::of_kind(kind)?;
    if version.may_create() {
        plan.version = version;
    }
    plan.is_public = kind == RoomKind::Public || summary.join_rule == "public";
    plan.name = state.text("m.room.name", "name").await?.map(|text| cut(&text, NAME_CHARACTERS_MAX));
    plan.topic = state.text("m.room.topic", "topic").await?.map(|text| cut(&text, TOPIC_CHARACTERS_MAX));
    plan.avatar_url = state.text("m.room.avatar", "url").await?;
    plan.workspace_id = Some(workspace_id);
    let max_members = local.max_members.filter(|_| wish.is_admin);
    let max_members = max_members.filter(|max| settings::check_max_members(Some(*max)).is_ok());
    let federation = actions.settings.room_federation.clone();
    plan.settings = RoomSettings { max_members, federation, ..RoomSettings::default() };
    let join_rule = match summary.join_rule.as_str() {
        "public" => "public",
        "knock" | "knock_restricted" => "knock",
        _ => "invite",
    };
    let announcement = match &local.announcement {
        Some(text) => Some(text.clone()),
        None => state.text(ANNOUNCEMENT, "announcement").await?,
    };
    let predecessor = opened.manifest.extremities.first().cloned();
    plan.inherits = Some(Inherits {
        predecessor: (origin.id.clone(), predecessor.ok_or(ActionError::RoomNotFound)?),
        join_rule: join_rule.to_owned(),
        history_visibility: word(summary.history_visibility).to_owned(),
        levels: levels(&state, &plan, people, &wish.by),
        announcement: announcement.map(|text| cut(&text, ANNOUNCEMENT_CHARACTERS_MAX)).filter(|text| !text.is_empty()),
    });
    Ok(plan)
}

/// What the original is behind the newest events of the bundle; what is here of it may be older or newer.
struct State<'a> {
    room: &'a Room,
    version: Version,
    verified: &'a Verified,
}

impl State<'_> {
    fn event(&self, event_type: &str) -> Option<&rules::Event> {
        self.verified.settings.get(event_type).map(|event| &**event)
    }

    fn summary(&self) -> Summary {
        let create = &self.verified.create;
        let (mut summary, basis) =
            (summary::of_create(&self.version, create), Basis::new(self.version, Arc::clone(create)));
        for (event_type, event) in &self.verified.settings {
            summary::apply(&mut summary, &basis, (event_type, ""), Some(event), None);
        }
        summary
    }

    /// A text of a state event, not blank, that was not redacted.
    async fn text(&self, event_type: &str, field: &str) -> Result<Option<String>, ActionError> {
        let rows = Rows::on_disk(&self.room.store, &self.room.home);
        let Some(event) = self.event(event_type) else { return Ok(None) };
        if rows.get(&REDACTIONS, event.event_id()).await?.is_some() {
            return Ok(None);
        }
        let text = summary::content(event).get(field).and_then(Value::as_str).map(str::to_owned);
        Ok(text.filter(|text| !text.trim().is_empty()))
    }
}

/// The levels of the original, none of them above what the importer has.
fn levels(state: &State<'_>, plan: &Plan, people: &People, creator: &UserId) -> CanonicalJsonObject {
    let mut content = kind::initial_power_levels(&plan.version, plan.kind, creator, None);
    let event = state.event("m.room.power_levels");
    let of_origin = Levels::read(&state.version, &state.verified.create, event);
    let former = event.map(summary::content).unwrap_or_default();
    let level = |value: &Value| value.as_i64().map(|level| integer(level.min(LEVEL_MAX)));
    for field in ["ban", "events_default", "invite", "kick", "redact", "state_default", "users_default"] {
        if let Some(level) = former.get(field).and_then(level) {
            content.insert(field.to_owned(), level);
        }
    }
    if let Some(CanonicalJsonValue::Object(events)) = content.get_mut("events") {
        let named = former.get("events").and_then(Value::as_object).into_iter().flatten();
        // Who may end the room is for its version to say.
        let named = named.filter(|(event_type, _)| *event_type != "m.room.tombstone");
        events.extend(named.filter_map(|(event_type, value)| Some((event_type.clone(), level(value)?))));
    }
    if let Some(notifications) = former.get("notifications").and_then(|value| to_canonical_value(value).ok()) {
        content.insert("notifications".to_owned(), notifications);
    }
    let default = former.get("users_default").and_then(Value::as_i64).unwrap_or_default();
    if let Some(CanonicalJsonValue::Object(users)) = content.get_mut("users") {
        // Who was several people has the highest of their levels.
        let mut levels: BTreeMap<&OwnedUserId, i64> = BTreeMap::new();
        for (old, new) in people.mapped.iter().filter(|(_, new)| **new != *creator) {
            let level = of_origin.of(old).reported().min(LEVEL_MAX);
            let highest = levels.entry(new).or_insert(level);
            *highest = level.max(*highest);
        }
        let set = levels.into_iter().filter(|(_, level)| *level != default);
        users.extend(set.map(|(new, level)| (new.to_string(), integer(level))));
    }
    content
}

fn integer(level: i64) -> CanonicalJsonValue {
    CanonicalJsonValue::Integer(Int::new_saturating(level))
}

fn word(visibility: HistoryVisibility) -> &'static str {
    match visibility {
        HistoryVisibility::WorldReadable => "world_readable",
        HistoryVisibility::Shared => "shared",
        HistoryVisibility::Invited => "invited",
        HistoryVisibility::Joined => "joined",
    }
}

fn cut(text: &str, characters_max: usize) -> String {
    text.chars().take(characters_max).collect()
}

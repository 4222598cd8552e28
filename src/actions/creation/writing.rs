//! A planned room becomes one commit.

use rules::{
    draft::Draft,
    event::Event,
    kind::{self, RoomKind},
};
use ruma::{CanonicalJsonValue, UserId};
use serde_json::json;

use super::{Plan, object};
use crate::{
    actions::{
        ActionError, Actions,
        aliases::{self, Reserved},
        append::Writer,
        chores, members, numbers, purge,
    },
    storage::{
        Effect, Home,
        chores::Chore,
        keyspaces::{AGORA_ROOMS, CHORES, MIRAGE_NAMES},
        room_settings::{MadeThrough, RoomSettings},
    },
};

/// Writes the whole room as one commit; one that exists already is left as it is.
pub(in crate::actions) async fn write(
    actions: &Actions,
    creator: &UserId,
    create: Event,
    plan: Plan,
    wished_alias: Option<&str>,
    is_admin: bool,
) -> Result<(), ActionError> {
    let (room_id, space) = (create.room_id().clone(), plan.workspace_id.clone());
    let staged = staged(actions, creator, create, plan, wished_alias, is_admin).await?;
    let Some((writer, _reserved)) = staged else { return Ok(()) };
    writer.commit().await?;
    if let Some(space) = &space {
        chores::try_finish(actions, &room_id, space).await;
    }
    Ok(())
}

/// Writes a room that is hidden, and stays so. Its workspace is not told yet.
///
/// # Errors
/// As [`write`].
pub(in crate::actions) async fn write_hidden(
    actions: &Actions,
    creator: &UserId,
    create: Event,
    plan: Plan,
    is_admin: bool,
) -> Result<(), ActionError> {
    let staged = staged(actions, creator, create, plan, None, is_admin).await?;
    let (writer, _reserved) = staged.ok_or_else(|| ActionError::internal("the room is here already"))?;
    writer.commit().await?;
    Ok(())
}

/// The whole room, ready to be committed, and its alias, which nobody else is given until then; none: it exists already.
async fn staged(
    actions: &Actions,
    creator: &UserId,
    create: Event,
    plan: Plan,
    wished_alias: Option<&str>,
    is_admin: bool,
) -> Result<Option<(Writer, Option<Reserved>)>, ActionError> {
    let room_id = create.room_id().clone();
    let room = actions.room(&room_id);
    if room.view().await?.is_some() {
        return Ok(None);
    }
    if purge::is_purged(actions, &room_id).await? {
        return Err(ActionError::RoomNotFound);
    }
    let wish = match wished_alias {
        Some(alias) => aliases::Wish::Exactly(alias),
        None => {
            aliases::Wish::From { name: plan.name.as_deref(), is_listed: kind::is_listed(plan.kind, plan.is_public) }
        }
    };
    let reserved = match plan.kind {
        RoomKind::Workspace => None,
        _ => Some(aliases::reserve(actions, &room.store, wish, &room_id, is_admin).await?),
    };
    let Some(mut writer) = Writer::begin(actions, &plan.version, create).await? else { return Ok(None) };
    stage_all(actions, &mut writer, creator, &plan, reserved.as_ref().map(|reserved| reserved.alias.as_str())).await?;
    Ok(Some((writer, reserved)))
}

/// Everything behind the create event.
async fn stage_all(
    actions: &Actions,
    writer: &mut Writer,
    creator: &UserId,
    plan: &Plan,
    alias: Option<&str>,
) -> Result<(), ActionError> {
    let joins = members::profile_of(actions, creator).await?;
    writer.stage(creator, Draft::member(creator, "join", joins)).await?;
    let mut levels = match &plan.inherits {
        Some(inherits) => inherits.levels.clone(),
        None => kind::initial_power_levels(&plan.version, plan.kind, creator, plan.partner.as_deref()),
    };
    if let Some(level) = plan.invite_level {
        levels.insert("invite".to_owned(), CanonicalJsonValue::Integer(level));
    }
    writer.stage(creator, Draft::state("m.room.power_levels", "", levels)).await?;
    let via = actions.server_name.as_str();
    let (join_rule, visibility) = match &plan.inherits {
        Some(inherits) => (inherits.join_rule.as_str(), inherits.history_visibility.as_str()),
        None => (
            plan.join_rule.unwrap_or_else(|| kind::join_rule(plan.kind, plan.is_public)),
            kind::history_visibility(plan.kind),
        ),
    };
    let mut state = vec![
        ("m.room.join_rules", "", json!({ "join_rule": join_rule })),
        ("m.room.history_visibility", "", json!({ "history_visibility": visibility })),
        ("m.room.guest_access", "", json!({ "guest_access": "forbidden" })),
    ];
    if let Some(alias) = alias {
        state.push(("m.room.canonical_alias", "", json!({ "alias": alias })));
    }
    if let Some(name) = &plan.name {
        state.push(("m.room.name", "", json!({ "name": name })));
    }
    if let Some(topic) = &plan.topic {
        state.push(("m.room.topic", "", json!({ "topic": topic })));
    }
    if let Some(url) = &plan.avatar_url {
        state.push(("m.room.avatar", "", json!({ "url": url })));
    }
    if let Some(text) = plan.inherits.as_ref().and_then(|inherits| inherits.announcement.as_ref()) {
        state.push((kind::ANNOUNCEMENT, "", json!({ "announcement": text })));
    }
    if let Some(custom) = &plan.custom {
        state.push((kind::CUSTOM, "", json!({ "custom": custom })));
    }
    if let Some(space) = &plan.workspace_id {
        state.push(("m.space.parent", space.as_str(), json!({ "canonical": true, "via": [via] })));
    }
    for (event_type, key, content) in state {
        writer.stage(creator, Draft::state(event_type, key, object(content)?)).await?;
    }
    // People of other servers are invited when the room is there: their servers look at it.
    for user_id in plan.invite.iter().filter(|user_id| actions.is_local(user_id)) {
        let invite = members::profile_of(actions, user_id).await?;
        writer.stage(creator, Draft::member(user_id, "invite", invite)).await?;
    }
    for user_id in &plan.members {
        members::stage_brought(actions, writer, creator, user_id, object(json!({}))?).await?;
    }
    if let Some(partner) = plan.partner.as_ref().filter(|partner| actions.is_local(partner)) {
        members::stage_partner(actions, writer, creator, partner).await?;
    }
    note_origin(actions, writer, creator, plan).await?;
    if plan.settings != RoomSettings::default() {
        writer.set_settings(plan.settings.clone());
    }
    if let Some(space) = &plan.workspace_id {
        let row = (writer.room_id().clone(), space.clone());
        let chore = Chore::LinkChild(creator.to_owned());
        writer.commit_mut().effect(Effect::new(Home::server()).put(&CHORES, &row, &chore));
    }
    Ok(())
}

/// Through which API, and at whose wish, the room is made: rows of the server.
async fn note_origin(actions: &Actions, writer: &mut Writer, creator: &UserId, plan: &Plan) -> Result<(), ActionError> {
    if let Some(by) = &plan.on_behalf {
        by.record(actions, creator, &writer.room_id().clone(), writer.commit_mut());
    }
    if matches!(plan.settings.made_through, MadeThrough::Agora | MadeThrough::Mirage) {
        let number = numbers::of_new_room(actions, writer.room_id()).await?;
        writer.commit_mut().effect(number);
    }
    if plan.settings.made_through == MadeThrough::Agora {
        let row = Effect::new(Home::server()).put(&AGORA_ROOMS, writer.room_id(), &());
        writer.commit_mut().effect(row);
    }
    if plan.settings.made_through == MadeThrough::Mirage
        && let Some(name) = &plan.name
    {
        let row = Effect::new(Home::server()).put(&MIRAGE_NAMES, name, writer.room_id());
        writer.commit_mut().effect(row);
    }
    Ok(())
}

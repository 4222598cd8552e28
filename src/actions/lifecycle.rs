//! Open, archived, closed: freezing a room and thawing it.

use rules::{
    draft::Draft,
    freeze::{self, ARCHIVE_LEVEL, CLOSE_LEVEL_MAX, Change},
    kind::{ARCHIVED, CLOSED, RoomKind, RoomState},
    permission::Act,
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue};
use serde_json::json;

use super::{
    ActionError, Actions, Caller,
    creation::object,
    incognito,
    rooms::{self, Entered, RoomDetails},
    texts::give_reason,
};

/// Archives a room; it can be restored.
///
/// # Errors
/// A level too low, a type that knows no archive, a closed room.
pub async fn archive(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    reason: Option<String>,
) -> Result<RoomDetails, ActionError> {
    let mut entered = rooms::enter(actions, caller, reference).await?;
    entered.may(caller, Act::Archive)?;
    if entered.writer.summary()?.state == RoomState::Open {
        stage_archive(&mut entered, caller, reason).await?;
    }
    entered.finish(actions, caller).await
}

/// Stages what archives an open room. Whether the caller may is decided before.
///
/// # Errors
/// When the rules of the room forbid it.
pub(super) async fn stage_archive(
    entered: &mut Entered,
    caller: &Caller,
    reason: Option<String>,
) -> Result<(), ActionError> {
    let mut content = object(json!({ "archived": true }))?;
    give_reason(&mut content, reason)?;
    let change = lift(entered, caller, ARCHIVE_LEVEL)?;
    if let Some((_, former)) = &change {
        content.insert("levels".to_owned(), CanonicalJsonValue::Object(former.clone()));
    }
    entered.writer.stage(&caller.user_id, Draft::state(ARCHIVED, "", content)).await?;
    if let Some((change, _)) = change {
        stage_change(entered, caller, change).await?;
    }
    Ok(())
}

/// Closes a room for good, and says how the caller saw it last. An incognito room ends with it.
///
/// # Errors
/// A level too low.
pub async fn close(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    reason: Option<String>,
) -> Result<RoomDetails, ActionError> {
    let mut entered = rooms::enter(actions, caller, reference).await?;
    entered.may(caller, Act::Close)?;
    if entered.writer.summary()?.state != RoomState::Closed {
        stage_close(&mut entered, caller, reason).await?;
    }
    let closed = entered.finish(actions, caller).await?;
    if closed.view.summary.kind == RoomKind::Incognito {
        incognito::end(actions, &closed.room_id).await?;
    }
    Ok(closed)
}

/// Stages what closes a room. Whether the caller may is decided before.
///
/// # Errors
/// When the rules of the room forbid it.
pub(super) async fn stage_close(
    entered: &mut Entered,
    caller: &Caller,
    reason: Option<String>,
) -> Result<(), ActionError> {
    let mut content = CanonicalJsonObject::new();
    give_reason(&mut content, reason)?;
    let level = entered.writer.view()?.level(&caller.user_id).reported().min(CLOSE_LEVEL_MAX);
    let change = lift(entered, caller, level)?;
    entered.writer.stage(&caller.user_id, Draft::state(CLOSED, "", content)).await?;
    if let Some((change, _)) = change {
        stage_change(entered, caller, change).await?;
    }
    Ok(())
}

/// Restores an archived room as it was.
///
/// # Errors
/// A level too low, a closed room.
pub async fn rejoin(actions: &Actions, caller: &Caller, reference: &str) -> Result<RoomDetails, ActionError> {
    let mut entered = rooms::enter(actions, caller, reference).await?;
    entered.may(caller, Act::Rejoin)?;
    if entered.writer.summary()?.state == RoomState::Open {
        return entered.finish(actions, caller).await;
    }
    let former = entered.writer.view()?.basis.archived.as_deref().and_then(|event| {
        let content = event.content_as::<CanonicalJsonObject>().ok()?;
        content.get("levels").and_then(CanonicalJsonValue::as_object).cloned()
    });
    entered.writer.stage(&caller.user_id, Draft::state(ARCHIVED, "", object(json!({ "archived": false }))?)).await?;
    if let Some(former) = former {
        let change = freeze::thawed(entered.writer.view()?.basis.levels.content(), &former);
        stage_change(&mut entered, caller, change).await?;
    }
    entered.finish(actions, caller).await
}

/// What keeps members of other servers from writing: only where there are some, and the caller may change levels.
fn lift(entered: &Entered, caller: &Caller, level: i64) -> Result<Option<(Change, CanonicalJsonObject)>, ActionError> {
    let summary = entered.writer.summary()?;
    let levels = &entered.writer.view()?.basis.levels;
    let may_change = levels.of(&caller.user_id).reaches(levels.to_send("m.room.power_levels", true));
    if summary.foreign == 0 || !may_change {
        return Ok(None);
    }
    Ok(Some(freeze::frozen(levels.content(), Some(&summary.join_rule), level)))
}

async fn stage_change(entered: &mut Entered, caller: &Caller, change: Change) -> Result<(), ActionError> {
    if let Some(join_rule) = change.join_rule {
        let content = object(json!({ "join_rule": join_rule }))?;
        entered.writer.stage(&caller.user_id, Draft::state("m.room.join_rules", "", content)).await?;
    }
    if let Some(levels) = change.power_levels {
        entered.writer.stage(&caller.user_id, Draft::state("m.room.power_levels", "", levels)).await?;
    }
    Ok(())
}

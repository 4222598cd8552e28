//! Power levels: parts of the present ones replaced, or one member's level.

use rules::{
    draft::Draft,
    permission::{Act, Denial, Membership, Reason},
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, Int, UserId};

use super::{
    ActionError, Actions, Caller,
    append::Writer,
    rooms::{self, Entered, RoomDetails},
};
use crate::storage::keyspaces::MEMBERS;

/// Fields of `m.room.power_levels` that hold one level.
const LEVELS: [&str; 7] = ["ban", "events_default", "invite", "kick", "redact", "state_default", "users_default"];
/// Fields that hold levels by name.
const MAPS: [&str; 3] = ["events", "notifications", "users"];

/// Lays parts over the present power levels.
///
/// # Errors
/// Unknown fields and values that are no levels; a level too low for the change; the level of a creator.
pub async fn set(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    parts: serde_json::Map<String, serde_json::Value>,
) -> Result<RoomDetails, ActionError> {
    check(&parts)?;
    let mut entered = rooms::enter(actions, caller, reference).await?;
    entered.may(caller, Act::PowerLevels)?;
    let mut content = entered.writer.view()?.basis.levels.content().clone();
    for (field, value) in parts {
        match value {
            serde_json::Value::Object(entries) => {
                if field == "users" {
                    check_users(&entered, entries.keys().map(String::as_str))?;
                }
                let present =
                    content.entry(field).or_insert_with(|| CanonicalJsonValue::Object(CanonicalJsonObject::new()));
                if let CanonicalJsonValue::Object(present) = present {
                    lay_over(present, entries);
                }
            }
            value => lay_over(&mut content, serde_json::Map::from_iter([(field, value)])),
        }
    }
    stage(&mut entered.writer, caller, content).await?;
    entered.finish(actions, caller).await
}

/// Sets one person's level.
///
/// # Errors
/// As [`set`]; somebody whom the room does not know.
pub async fn set_member(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    target: &UserId,
    level: i64,
) -> Result<RoomDetails, ActionError> {
    let mut entered = rooms::enter(actions, caller, reference).await?;
    entered.may(caller, Act::PowerLevels)?;
    check_users(&entered, [target.as_str()].into_iter())?;
    if entered.writer.get(&MEMBERS, &target.to_owned()).await?.is_none() {
        return Err(ActionError::NotInRoom(target.to_string()));
    }
    stage_member(&mut entered.writer, caller, target, level).await?;
    entered.finish(actions, caller).await
}

/// Hands the caller's own level over to another member, in one event: they have it then, and the caller has that of everybody.
///
/// # Errors
/// As [`set`]; somebody who is not in the room; a room version whose creators stand above every level.
pub async fn hand_over(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    target: &UserId,
) -> Result<RoomDetails, ActionError> {
    let mut entered = rooms::enter(actions, caller, reference).await?;
    if entered.writer.version()?.creators_are_above_levels() {
        let message =
            "in a room of this version its creator stands above every level for good, and cannot hand that over";
        return Err(Denial::new(Reason::Creator, message).into());
    }
    entered.may(caller, Act::PowerLevels)?;
    if entered.membership_of(target).await? != Membership::Join {
        return Err(ActionError::NotInRoom(target.to_string()));
    }
    let levels = &entered.writer.view()?.basis.levels;
    let level = levels.of(&caller.user_id).max(levels.of(target)).reported();
    let mut content = levels.content().clone();
    if let CanonicalJsonValue::Object(users) = users_of(&mut content) {
        users.remove(caller.user_id.as_str());
        users.insert(target.to_string(), CanonicalJsonValue::Integer(Int::new_saturating(level)));
    }
    stage(&mut entered.writer, caller, content).await?;
    entered.finish(actions, caller).await
}

/// Stages one person's level, unless it is that already.
///
/// # Errors
/// A level too low for the change.
pub(super) async fn stage_member(
    writer: &mut Writer,
    caller: &Caller,
    target: &UserId,
    level: i64,
) -> Result<(), ActionError> {
    let level =
        Int::new(level).ok_or_else(|| ActionError::invalid("power_level", "is beyond what JSON can hold exactly"))?;
    let mut content = writer.view()?.basis.levels.content().clone();
    if let CanonicalJsonValue::Object(users) = users_of(&mut content) {
        users.insert(target.to_string(), CanonicalJsonValue::Integer(level));
    }
    stage(writer, caller, content).await
}

/// Those who have a level of their own, in the content of the power levels.
fn users_of(content: &mut CanonicalJsonObject) -> &mut CanonicalJsonValue {
    content.entry("users".to_owned()).or_insert_with(|| CanonicalJsonValue::Object(CanonicalJsonObject::new()))
}

/// Stages the content of the power levels, unless it is that already.
///
/// # Errors
/// A level too low for the change.
pub(super) async fn stage(
    writer: &mut Writer,
    caller: &Caller,
    content: CanonicalJsonObject,
) -> Result<(), ActionError> {
    if content != *writer.view()?.basis.levels.content() {
        writer.stage(&caller.user_id, Draft::state("m.room.power_levels", "", content)).await?;
    }
    Ok(())
}

/// A creator of a version 12 room outranks every level and is not listed among them.
fn check_users<'a>(entered: &Entered, users: impl Iterator<Item = &'a str>) -> Result<(), ActionError> {
    let levels = &entered.writer.view()?.basis.levels;
    for user in users {
        let user_id = UserId::parse(user)
            .map_err(|_malformed| ActionError::invalid("users", format!("`{user}` is no user id")))?;
        if levels.is_creator(&user_id) {
            let message = format!("{user_id} created this room and stands above every level");
            return Err(Denial::new(Reason::Creator, message).into());
        }
    }
    Ok(())
}

fn check(parts: &serde_json::Map<String, serde_json::Value>) -> Result<(), ActionError> {
    let is_level = |value: &serde_json::Value| value.as_i64().and_then(Int::new).is_some();
    for (field, value) in parts {
        let is_right = match value {
            serde_json::Value::Object(entries) => MAPS.contains(&field.as_str()) && entries.values().all(is_level),
            value => LEVELS.contains(&field.as_str()) && is_level(value),
        };
        if !is_right {
            let known = LEVELS.contains(&field.as_str()) || MAPS.contains(&field.as_str());
            let problem = if known {
                "must be an integer, or for `events`, `notifications` and `users` an object of integers"
            } else {
                "is no field of power levels"
            };
            return Err(ActionError::invalid(field, problem));
        }
    }
    Ok(())
}

fn lay_over(present: &mut CanonicalJsonObject, entries: serde_json::Map<String, serde_json::Value>) {
    for (name, value) in entries {
        if let Some(level) = value.as_i64().and_then(Int::new) {
            present.insert(name, CanonicalJsonValue::Integer(level));
        }
    }
}

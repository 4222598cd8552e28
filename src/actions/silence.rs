//! Silence: a moderator keeps a member from speaking, for a while or until it is lifted. At its end nothing is sent; it just no longer holds.

use rules::{UnixMs, draft::Draft, kind::SILENCE, permission::Act};
use ruma::{Int, UserId};
use serde_json::json;

use super::{
    ActionError, Actions, Caller,
    creation::object,
    rooms::{self, Entered, RoomDetails},
};
use crate::storage::{
    keyspaces::MEMBERS,
    members::{Member, Silence},
};

/// What became of a wish to silence somebody.
#[derive(Clone, Debug)]
pub struct Silenced {
    /// When it ends; none: when it is lifted.
    pub until: Option<UnixMs>,
    /// This server holds the person to it; of members of other servers nobody knows.
    pub is_enforced: bool,
}

/// Keeps somebody from speaking, so many milliseconds from now or without an end.
///
/// # Errors
/// A level too low or not above the target's; somebody whom the room does not know.
pub async fn set(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    target: &UserId,
    duration_ms: Option<u64>,
) -> Result<Silenced, ActionError> {
    let until = match duration_ms {
        Some(duration_ms) => Some(end(actions, duration_ms)?),
        None => None,
    };
    let (mut entered, member) = enter(actions, caller, reference, target).await?;
    if until.is_some() || member.silence != Some(Silence::Forever) {
        let draft = Draft::state(SILENCE, key(target), object(json!({ "until": until.map(i64::from) }))?);
        entered.writer.stage(&caller.user_id, draft).await?;
    }
    entered.writer.commit().await?;
    let until = until.and_then(|until| u64::try_from(i64::from(until)).ok()).map(UnixMs);
    Ok(Silenced { until, is_enforced: actions.is_local(target) })
}

/// Lets somebody speak again.
///
/// # Errors
/// As [`set`].
pub async fn lift(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    target: &UserId,
) -> Result<RoomDetails, ActionError> {
    let (mut entered, member) = enter(actions, caller, reference, target).await?;
    if member.silence.is_some_and(|silence| silence.holds(actions.now())) {
        let draft = Draft::state(SILENCE, key(target), object(json!({}))?);
        entered.writer.stage(&caller.user_id, draft).await?;
    }
    entered.finish(actions, caller).await
}

/// The room with its lane, and the person who is to be silenced or no longer.
async fn enter(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    target: &UserId,
) -> Result<(Entered, Member), ActionError> {
    let entered = rooms::enter(actions, caller, reference).await?;
    let member = entered.writer.get(&MEMBERS, &target.to_owned()).await?;
    entered.may_to(caller, Act::Silence, target)?;
    let member = member.ok_or_else(|| ActionError::NotInRoom(target.to_string()))?;
    Ok((entered, member))
}

/// The moment so far from now, as events write it.
fn end(actions: &Actions, duration_ms: u64) -> Result<Int, ActionError> {
    let until = actions.now().0.checked_add(duration_ms).and_then(|until| i64::try_from(until).ok());
    let too_far = || ActionError::invalid("duration_ms", "ends later than any time that can be written; -1 has no end");
    until.and_then(Int::new).ok_or_else(too_far)
}

/// The state key: who stands there with the `@` could set it themselves.
fn key(target: &UserId) -> &str {
    target.as_str().trim_start_matches('@')
}

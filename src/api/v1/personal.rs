//! What the caller sets for themselves in a room.

use serde::Deserialize;

use super::{error::V1Error, path::Ids, wire::RoomAnswer};
use crate::{
    actions::{ActionError, Actions, Mute, NotificationMode, personal},
    api::{
        body::{Json, OptionalJson, present},
        caller::Signed,
        time,
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mode {
    mode: Word,
}

#[derive(Copy, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    All,
    Mentions,
    None,
    Inherit,
}

/// `PUT /v1/rooms/{room_id}/notification-mode`
pub(super) async fn set_notification_mode(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    body: Json<Mode>,
) -> Result<RoomAnswer, V1Error> {
    let mode = match body.value.mode {
        Word::All => NotificationMode::All,
        Word::Mentions => NotificationMode::Mentions,
        Word::None => NotificationMode::None,
        Word::Inherit => NotificationMode::Inherit,
    };
    Ok(RoomAnswer::found(personal::set_notification_mode(&actions, &caller, &room, mode).await?))
}

/// Quiet until a time, or for a while; null in either field ends it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Quiet {
    #[serde(default, deserialize_with = "present")]
    muted_until: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    duration_ms: Option<Option<i64>>,
}

impl Quiet {
    fn read(self, actions: &Actions) -> Result<Option<Mute>, ActionError> {
        match (self.muted_until, self.duration_ms) {
            (None, None) => Err(ActionError::invalid("muted_until", "is missing; send `muted_until` or `duration_ms`")),
            (Some(_), Some(_)) => {
                Err(ActionError::invalid("duration_ms", "send either `muted_until` or `duration_ms`"))
            }
            (Some(Some(until)), _) => {
                let problem = "must be a time such as 2030-01-01T00:00:00.000Z";
                let until = time::parse(&until).ok_or_else(|| ActionError::invalid("muted_until", problem))?;
                Ok(Some(Mute::Until(until)))
            }
            (_, Some(Some(-1))) => Ok(Some(Mute::Forever)),
            (_, Some(Some(duration))) => match u64::try_from(duration) {
                Ok(duration) if duration > 0 => Ok(Some(Mute::Until(personal::after(actions, duration)))),
                _ => Err(ActionError::invalid("duration_ms", "must be positive, or -1 for no end")),
            },
            (Some(None), _) | (_, Some(None)) => Ok(None),
        }
    }
}

/// `PUT /v1/rooms/{room_id}/mute`
pub(super) async fn set_mute(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    body: Json<Quiet>,
) -> Result<RoomAnswer, V1Error> {
    let mute = body.value.read(&actions)?;
    Ok(RoomAnswer::found(personal::set_mute(&actions, &caller, &room, mute).await?))
}

/// `PUT /v1/rooms/{room_id}/pin`
pub(super) async fn pin(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    _: OptionalJson<super::accounts::Empty>,
) -> Result<RoomAnswer, V1Error> {
    Ok(RoomAnswer::found(personal::set_pin(&actions, &caller, &room, true).await?))
}

/// `DELETE /v1/rooms/{room_id}/pin`
pub(super) async fn unpin(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
) -> Result<RoomAnswer, V1Error> {
    Ok(RoomAnswer::found(personal::set_pin(&actions, &caller, &room, false).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    event_id: String,
}

/// `PUT /v1/rooms/{room_id}/read`
pub(super) async fn mark_read(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    body: Json<Read>,
) -> Result<RoomAnswer, V1Error> {
    Ok(RoomAnswer::found(personal::mark_read(&actions, &caller, &room, &body.value.event_id).await?))
}

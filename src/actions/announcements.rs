//! The announcement of a room: one short text that stands above its timeline.

use rules::{UnixMs, draft::Draft, kind::ANNOUNCEMENT, permission::Act};
use ruma::OwnedUserId;
use serde_json::json;

use super::{
    ActionError, Actions, Caller,
    creation::object,
    incognito,
    lane::Room,
    room_state,
    rooms::{self, RoomDetails},
    rows::Rows,
    summary::content,
    texts::{ANNOUNCEMENT_CHARACTERS_MAX, at_most},
    view::RoomView,
};
use crate::storage::keyspaces::REDACTIONS;

/// An announcement that stands.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// The text.
    pub text: String,
    /// When it was put up, by the clock of its sender's server.
    pub updated_at: UnixMs,
    /// Who put it up.
    pub updated_by: OwnedUserId,
}

/// Puts up an announcement in the place of the present one; an empty one takes it down.
///
/// # Errors
/// A text that is too long; a level too low.
pub async fn set(actions: &Actions, caller: &Caller, reference: &str, text: &str) -> Result<RoomDetails, ActionError> {
    at_most("announcement", Some(text), ANNOUNCEMENT_CHARACTERS_MAX)?;
    let mut entered = rooms::enter(actions, caller, reference).await?;
    entered.may(caller, Act::Announcement)?;
    incognito::refuse_media(entered.writer.summary()?.kind, text)?;
    let present = match entered.writer.state_event(ANNOUNCEMENT, "").await? {
        Some(event) if entered.writer.get(&REDACTIONS, event.event_id()).await?.is_none() => content(&event),
        _ => serde_json::Value::Null,
    };
    if present.get("announcement").and_then(|present| present.as_str()).unwrap_or_default() != text {
        let draft = Draft::state(ANNOUNCEMENT, "", object(json!({ "announcement": text }))?);
        entered.writer.stage(&caller.user_id, draft).await?;
    }
    entered.finish(actions, caller).await
}

/// The text of the announcement that stands in a room, whoever asks.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn of(room: &Room, view: &RoomView) -> Result<Option<String>, ActionError> {
    let rows = Rows::on_disk(&room.store, &room.home);
    let event = rows.state_event(&view.basis.version, view.tip.state, ANNOUNCEMENT, "").await?;
    let Some(event) = event else { return Ok(None) };
    if rows.get(&REDACTIONS, event.event_id()).await?.is_some() {
        return Ok(None);
    }
    Ok(content(&event).get("announcement").and_then(|text| text.as_str()).map(str::to_owned))
}

/// The announcement that stands; none: there is none.
///
/// # Errors
/// A caller who is not in the room.
pub async fn get(actions: &Actions, caller: &Caller, reference: &str) -> Result<Option<Announcement>, ActionError> {
    let event = match room_state::get(actions, caller, reference, ANNOUNCEMENT, "").await {
        Err(ActionError::EventNotFound) => return Ok(None),
        found => found?.event,
    };
    let content = content(&event);
    let text = content.get("announcement").and_then(|text| text.as_str()).filter(|text| !text.is_empty());
    Ok(text.map(|text| Announcement {
        text: text.to_owned(),
        updated_at: event.origin_server_ts(),
        updated_by: event.sender().clone(),
    }))
}

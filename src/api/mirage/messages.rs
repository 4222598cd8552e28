//! Sending and reading.

use axum::Json as Answer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{error::MirageError, rooms::username};
use crate::{
    actions::{
        Direction,
        messages::{self, NewMessage},
        timeline::numbered,
    },
    api::{
        body::{Json, Parameters},
        caller::Signed,
    },
};

/// Messages of one answer: the newest ones.
const MESSAGES_MAX: usize = 100;
/// What is said to somebody who is not in a room, whether or not there is one.
const OUTSIDE: &str = "you are not in this room";

/// It was done.
#[derive(Serialize)]
pub(super) struct Sent {
    message: &'static str,
}

/// `POST /api/send_room_message`
pub(super) async fn send(
    Signed { actions, caller, .. }: Signed,
    body: Result<Json<Map<String, Value>>, MirageError>,
) -> Result<Answer<Sent>, MirageError> {
    const MISSING: &str = "missing fields";
    let Json { value: fields, fingerprint } = body.map_err(|error| error.worded(MISSING))?;
    let room = fields.get("room_id").and_then(Value::as_u64).ok_or_else(|| MirageError::invalid(MISSING))?;
    let text = fields.get("message").and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| MirageError::invalid(MISSING))?;
    let new = NewMessage {
        event_type: "m.room.message".to_owned(),
        content: json!({ "msgtype": "m.text", "body": text }),
        reply_to: None,
        transaction_id: None,
        fingerprint,
    };
    messages::send(&actions, &caller, &room.to_string(), new).await.map_err(outside)?;
    Ok(Answer(Sent { message: "sent" }))
}

fn outside(error: impl Into<MirageError>) -> MirageError {
    let error = error.into();
    if error.means_not_inside() { MirageError::forbidden(OUTSIDE) } else { error }
}

#[derive(Deserialize)]
pub(super) struct Asked {
    room_id: u64,
}

/// Messages, oldest first.
#[derive(Serialize)]
pub(super) struct Messages {
    messages: Vec<Message>,
}

/// A message; its time is in seconds.
#[derive(Serialize)]
struct Message {
    username: String,
    message: String,
    created_at: f64,
    room_id: u64,
}

/// `GET /api/get_room_messages`
pub(super) async fn list(
    Signed { actions, caller, .. }: Signed,
    asked: Result<Parameters<Asked>, MirageError>,
) -> Result<Answer<Messages>, MirageError> {
    let Parameters(Asked { room_id }) = asked.map_err(|error| error.worded("missing token or room id"))?;
    let room = room_id.to_string();
    let found = numbered::messages(&actions, &caller, &room, None, Direction::Down, MESSAGES_MAX);
    let message = |found: numbered::Numbered| {
        let event = found.view.event;
        let content: Value = event.content_as().unwrap_or_default();
        Message {
            username: username(&actions, event.sender()),
            message: content.get("body").and_then(Value::as_str).unwrap_or_default().to_owned(),
            created_at: std::time::Duration::from_millis(event.origin_server_ts().0).as_secs_f64(),
            room_id,
        }
    };
    Ok(Answer(Messages { messages: found.await.map_err(outside)?.into_iter().map(message).collect() }))
}

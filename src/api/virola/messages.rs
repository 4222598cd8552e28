//! Messages by their numbers.

use axum::Json as Answer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{RoomNumber, VirolaError};
use crate::{
    actions::{
        ActionError, Actions, Direction,
        messages::{self, NewMessage},
        numbers,
        timeline::numbered::{self, MESSAGES_MAX, Numbered},
    },
    api::{
        body::{Json, Parameters},
        caller::Signed,
    },
};

#[derive(Deserialize)]
pub(super) struct Asked {
    cursor: Option<u64>,
    limit: Option<usize>,
    direction: Option<Way>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    #[default]
    Backward,
    Forward,
}

/// Messages, oldest first.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Messages {
    http_status_code: u16,
    messages: Vec<Message>,
    room_id: u64,
}

/// A message. What this server does not have stands as its usual value.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    attachments: [(); 0],
    comment_count: u64,
    created_utc: u64,
    last_edited_utc: u64,
    last_modified_utc: u64,
    markup_type: &'static str,
    message_id: u64,
    message_type: &'static str,
    parent_message_id: u64,
    priority: &'static str,
    room_id: u64,
    text: String,
    user_id: u64,
}

impl Message {
    async fn of(actions: &Actions, room_id: u64, message: &Numbered) -> Result<Self, ActionError> {
        let event = &message.view.event;
        let content: Value = event.content_as().unwrap_or_default();
        let at = event.origin_server_ts().0;
        Ok(Self {
            attachments: [],
            comment_count: 0,
            created_utc: at,
            last_edited_utc: at,
            last_modified_utc: at,
            markup_type: "TextPlain",
            message_id: message.number,
            message_type: "Regular",
            parent_message_id: 0,
            priority: "Normal",
            room_id,
            text: content.get("body").and_then(Value::as_str).unwrap_or_default().to_owned(),
            user_id: numbers::of_person(actions, event.sender()).await?,
        })
    }
}

/// `GET /api/v1/rooms/{roomId}/messages`
pub(super) async fn list(
    Signed { actions, caller, .. }: Signed,
    RoomNumber(room_id): RoomNumber,
    Parameters(asked): Parameters<Asked>,
) -> Result<Answer<Messages>, VirolaError> {
    let direction = match asked.direction.unwrap_or_default() {
        Way::Backward => Direction::Down,
        Way::Forward => Direction::Up,
    };
    let limit = asked.limit.unwrap_or(MESSAGES_MAX).min(MESSAGES_MAX);
    let found = numbered::messages(&actions, &caller, &room_id.to_string(), asked.cursor, direction, limit).await?;
    let mut messages = Vec::with_capacity(found.len());
    for message in &found {
        messages.push(Message::of(&actions, room_id, message).await?);
    }
    Ok(Answer(Messages { http_status_code: 200, messages, room_id }))
}

#[derive(Deserialize)]
pub(super) struct Send {
    content: String,
}

/// What became of a message.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sent {
    http_status_code: u16,
    message_id: u64,
    room_id: u64,
}

/// `POST /api/v1/rooms/{roomId}/text-messages`
pub(super) async fn send(
    Signed { actions, caller, .. }: Signed,
    RoomNumber(room_id): RoomNumber,
    body: Json<Send>,
) -> Result<Answer<Sent>, VirolaError> {
    let text = body.value.content;
    if text.is_empty() {
        return Err(ActionError::invalid("content", "must not be empty").into());
    }
    let new = NewMessage {
        event_type: "m.room.message".to_owned(),
        content: json!({ "msgtype": "m.text", "body": text }),
        reply_to: None,
        transaction_id: None,
        fingerprint: body.fingerprint,
    };
    let sent = messages::send(&actions, &caller, &room_id.to_string(), new).await?;
    let message_id = numbered::number_of_sent(&actions, &room_id.to_string(), &sent.event_id).await?;
    Ok(Answer(Sent { http_status_code: 200, message_id, room_id }))
}

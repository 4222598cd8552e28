//! Messages, single events, redactions, pages of the timeline.

use axum::{
    Json as Answer,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use ruma::OwnedEventId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    error::V1Error,
    path::Ids,
    wire::{self, Data, Event, Stored},
};
use crate::{
    actions::{
        ActionError, Direction,
        messages::{self, NewMessage},
        seam::{self, At},
        timeline,
    },
    api::{
        body::{self, Json, OptionalJson, Parameters},
        caller::Signed,
        page,
    },
};

/// Characters of a transaction id.
const TRANSACTION_ID_CHARACTERS_MAX: usize = 255;

/// A message: either a body, or a type with its content.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Send {
    body: Option<String>,
    msgtype: Option<String>,
    format: Option<String>,
    formatted_body: Option<String>,
    reply_to: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    content: Option<Map<String, Value>>,
    txn_id: Option<String>,
}

impl Send {
    fn read(mut self, fingerprint: [u8; 32]) -> Result<NewMessage, ActionError> {
        check_transaction_id(self.txn_id.as_deref())?;
        let transaction_id = self.txn_id.take();
        let reply_to = self.reply_to.as_deref().map(timeline::parse_id).transpose()?;
        let invalid = |field, problem| Err(ActionError::invalid(field, problem));
        let (event_type, content) = match (self.body.take(), self.event_type.take()) {
            (Some(body), None) => ("m.room.message".to_owned(), self.text(body)?),
            (None, Some(event_type)) if event_type.is_empty() => return invalid("type", "must not be empty"),
            (None, Some(event_type)) => (event_type, self.content_alone()?),
            (Some(_), Some(_)) => return invalid("body", "send either `body`, or `type` with `content`"),
            (None, None) if self.content.is_some() => return invalid("type", "is missing beside `content`"),
            (None, None) => return invalid("body", "is missing; send `body`, or `type` with `content`"),
        };
        Ok(NewMessage { event_type, content, reply_to, transaction_id, fingerprint })
    }

    fn text(self, body: String) -> Result<Value, ActionError> {
        if self.content.is_some() {
            return Err(ActionError::invalid("content", "goes with `type`, not with `body`"));
        }
        if body.is_empty() {
            return Err(ActionError::invalid("body", "must not be empty"));
        }
        let msgtype = self.msgtype.unwrap_or_else(|| "m.text".to_owned());
        let mut content = Map::from_iter([("msgtype".to_owned(), msgtype.into()), ("body".to_owned(), body.into())]);
        if let Some(formatted) = self.formatted_body {
            let format = self.format.unwrap_or_else(|| "org.matrix.custom.html".to_owned());
            content.insert("format".to_owned(), format.into());
            content.insert("formatted_body".to_owned(), formatted.into());
        } else if self.format.is_some() {
            return Err(ActionError::invalid("format", "says nothing without `formatted_body`"));
        }
        Ok(Value::Object(content))
    }

    fn content_alone(self) -> Result<Value, ActionError> {
        let texts = [
            ("msgtype", &self.msgtype),
            ("format", &self.format),
            ("formatted_body", &self.formatted_body),
            ("reply_to", &self.reply_to),
        ];
        if let Some((field, _)) = texts.iter().find(|(_, text)| text.is_some()) {
            return Err(ActionError::invalid(*field, "goes with `body`, not with `type`"));
        }
        self.content.map(Value::Object).ok_or_else(|| ActionError::invalid("content", "is missing"))
    }
}

fn check_transaction_id(id: Option<&str>) -> Result<(), ActionError> {
    let fits = |id: &str| !id.is_empty() && id.chars().count() <= TRANSACTION_ID_CHARACTERS_MAX;
    if id.is_none_or(fits) {
        return Ok(());
    }
    Err(ActionError::invalid("txn_id", format!("1 to {TRANSACTION_ID_CHARACTERS_MAX} characters")))
}

#[derive(Serialize)]
struct Sent {
    event_id: OwnedEventId,
    position: String,
}

/// `POST /v1/rooms/{room_id}/messages`
pub(super) async fn send(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    body: Json<Send>,
) -> Result<Response, V1Error> {
    let message = body.value.read(body.fingerprint)?;
    let sent = messages::send(&actions, &caller, &room, message).await?;
    let sent = Sent { event_id: sent.event_id, position: sent.place.to_token() };
    Ok((StatusCode::CREATED, Data::json(sent)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Paging {
    limit: Option<i64>,
    from: Option<String>,
    direction: Option<Way>,
}

#[derive(Copy, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    Back,
    Forward,
}

#[derive(Serialize)]
pub(super) struct Timeline {
    data: Vec<Event>,
    meta: TimelineMeta,
}

#[derive(Serialize)]
struct TimelineMeta {
    next_cursor: Option<String>,
    has_more: bool,
    gaps: Vec<Gap>,
}

/// History is missing right before an event.
#[derive(Serialize)]
struct Gap {
    event_id: OwnedEventId,
    position: String,
}

impl From<(At, OwnedEventId)> for Gap {
    fn from((at, event_id): (At, OwnedEventId)) -> Self {
        Self { event_id, position: at.to_token() }
    }
}

/// `GET /v1/rooms/{room_id}/messages`
pub(super) async fn page(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Answer<Timeline>, V1Error> {
    let limit = page::limit_of(paging.limit)?;
    let place = |token: &str| {
        let problem = "is no cursor; take `next_cursor` or a `position` of an earlier answer";
        At::from_token(token).ok_or_else(|| ActionError::invalid("from", problem))
    };
    let from = paging.from.as_deref().map(place).transpose()?;
    let direction = match paging.direction {
        Some(Way::Forward) => Direction::Up,
        Some(Way::Back) | None => Direction::Down,
    };
    let page = seam::page(&actions, &caller, &room, from, direction, limit).await?;
    let gaps = page.gaps.into_iter().map(Gap::from).collect();
    let meta = TimelineMeta { next_cursor: page.next.map(At::to_token), has_more: page.next.is_some(), gaps };
    Ok(Answer(Timeline { data: page.events.into_iter().map(|(at, view)| Event::at(at, view)).collect(), meta }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    format: Option<Format>,
}

#[derive(Copy, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Pdu,
}

/// `GET /v1/rooms/{room_id}/events/{event_id}`
pub(super) async fn event(
    Signed { actions, caller, .. }: Signed,
    Ids((room, event)): Ids<(String, String)>,
    Parameters(form): Parameters<Form>,
) -> Result<Response, V1Error> {
    let (at, view) = seam::event(&actions, &caller, &room, &event).await?;
    Ok(match form.format {
        Some(Format::Pdu) => Data::json(wire::pdu(&view)?).into_response(),
        None => Data::json(Event::at(at, view)).into_response(),
    })
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Redact {
    #[serde(default, deserialize_with = "body::reason")]
    reason: Option<String>,
    txn_id: Option<String>,
}

/// `POST /v1/rooms/{room_id}/events/{event_id}/redact`
pub(super) async fn redact(
    Signed { actions, caller, .. }: Signed,
    Ids((room, event)): Ids<(String, String)>,
    OptionalJson(body): OptionalJson<Redact>,
) -> Result<Response, V1Error> {
    check_transaction_id(body.txn_id.as_deref())?;
    let stored = messages::redact(&actions, &caller, &room, &event, body.reason, body.txn_id).await?;
    Ok((StatusCode::CREATED, Data::json(Stored { event_id: stored })).into_response())
}

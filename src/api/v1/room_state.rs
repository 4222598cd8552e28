//! The state of a room, entry by entry. An empty state key has a path of its own.

use axum::{
    Json as Answer,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};

use super::{
    error::V1Error,
    path::Ids,
    wire::{Data, Event, List, Stored},
};
use crate::{
    actions::{Actions, Caller, room_state},
    api::{
        body::{Json, Parameters},
        caller::Signed,
        page::Paging,
    },
};

/// `GET /v1/rooms/{room_id}/state`
pub(super) async fn list(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Answer<List<Event>>, V1Error> {
    Ok(List::json(room_state::list(&actions, &caller, &room, paging.read()?).await?))
}

/// `GET /v1/rooms/{room_id}/state/{type}`
pub(super) async fn get_unkeyed(
    Signed { actions, caller, .. }: Signed,
    Ids((room, event_type)): Ids<(String, String)>,
) -> Result<Answer<Data<Event>>, V1Error> {
    entry(&actions, &caller, &room, &event_type, "").await
}

/// `GET /v1/rooms/{room_id}/state/{type}/{key}`
pub(super) async fn get(
    Signed { actions, caller, .. }: Signed,
    Ids((room, event_type, key)): Ids<(String, String, String)>,
) -> Result<Answer<Data<Event>>, V1Error> {
    entry(&actions, &caller, &room, &event_type, &key).await
}

async fn entry(
    actions: &Actions,
    caller: &Caller,
    room: &str,
    event_type: &str,
    key: &str,
) -> Result<Answer<Data<Event>>, V1Error> {
    Ok(Data::json(Event::from(room_state::get(actions, caller, room, event_type, key).await?)))
}

/// `PUT /v1/rooms/{room_id}/state/{type}`
pub(super) async fn set_unkeyed(
    Signed { actions, caller, .. }: Signed,
    Ids((room, event_type)): Ids<(String, String)>,
    body: Json<Map<String, Value>>,
) -> Result<Response, V1Error> {
    write(&actions, &caller, &room, &event_type, "", body.value).await
}

/// `PUT /v1/rooms/{room_id}/state/{type}/{key}`
pub(super) async fn set(
    Signed { actions, caller, .. }: Signed,
    Ids((room, event_type, key)): Ids<(String, String, String)>,
    body: Json<Map<String, Value>>,
) -> Result<Response, V1Error> {
    write(&actions, &caller, &room, &event_type, &key, body.value).await
}

async fn write(
    actions: &Actions,
    caller: &Caller,
    room: &str,
    event_type: &str,
    key: &str,
    content: Map<String, Value>,
) -> Result<Response, V1Error> {
    let event_id = room_state::set(actions, caller, room, event_type, key, Value::Object(content)).await?;
    Ok((StatusCode::CREATED, Data::json(Stored { event_id })).into_response())
}

//! Events, states and what came before: what a peer asks to fill its gaps. What it may see is decided behind the port.

use std::sync::Arc;

use axum::{extract::State, response::IntoResponse};
use ruma::{OwnedEventId, OwnedRoomId};

use super::{
    OurServer,
    answer::{LargeObject, quoted, text_of},
    authentication::Peer,
    error::Failure,
    json::{Json, Object},
    request::{Path, Query, id},
};
use crate::{
    Pdu, Refusal,
    limits::{BACKFILL_EVENTS_MAX, BACKFILL_FROM_MAX, GAP_ENDS_MAX, MISSING_EVENTS_DEFAULT, MISSING_EVENTS_MAX},
    local::{Gap, Local},
};

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1eventeventid>
pub(crate) async fn event<L: Local>(
    State(local): State<Arc<L>>,
    State(us): State<OurServer>,
    peer: Peer,
    Path((event_id,)): Path<(OwnedEventId,)>,
) -> Result<impl IntoResponse, Failure> {
    let event = local.event(&peer.origin, &event_id).await?;
    Ok(transaction(&us, vec![event]))
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1stateroomid>
pub(crate) async fn state<L: Local>(
    State(local): State<Arc<L>>,
    peer: Peer,
    Path((room_id,)): Path<(OwnedRoomId,)>,
    query: Query,
) -> Result<impl IntoResponse, Failure> {
    let event_id: OwnedEventId = id(query.required("event_id")?, "event_id")?;
    let before = local.state_before(&peer.origin, &room_id, &event_id).await?;
    Ok(LargeObject::default().state(["pdus", "auth_chain"], before, text_of))
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1state_idsroomid>
pub(crate) async fn state_ids<L: Local>(
    State(local): State<Arc<L>>,
    peer: Peer,
    Path((room_id,)): Path<(OwnedRoomId,)>,
    query: Query,
) -> Result<impl IntoResponse, Failure> {
    let event_id: OwnedEventId = id(query.required("event_id")?, "event_id")?;
    let before = local.state_ids_before(&peer.origin, &room_id, &event_id).await?;
    Ok(LargeObject::default().state(["pdu_ids", "auth_chain_ids"], before, quoted))
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1event_authroomideventid>
pub(crate) async fn event_auth<L: Local>(
    State(local): State<Arc<L>>,
    peer: Peer,
    Path((room_id, event_id)): Path<(OwnedRoomId, OwnedEventId)>,
) -> Result<impl IntoResponse, Failure> {
    let auth_chain = local.auth_chain(&peer.origin, &room_id, &event_id).await?;
    Ok(LargeObject::default().pdus("auth_chain", auth_chain))
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1backfillroomid>
pub(crate) async fn backfill<L: Local>(
    State(local): State<Arc<L>>,
    State(us): State<OurServer>,
    peer: Peer,
    Path((room_id,)): Path<(OwnedRoomId,)>,
    query: Query,
) -> Result<impl IntoResponse, Failure> {
    let from: Vec<OwnedEventId> = query.all("v").map(|text| id(text, "v")).collect::<Result<_, _>>()?;
    let limit: u64 = query.read("limit")?.ok_or(Failure::Missing("limit"))?;
    if from.is_empty() {
        return Err(Failure::Missing("v"));
    }
    if from.len() > BACKFILL_FROM_MAX {
        return Err(Refusal::Invalid("v").into());
    }
    let events_max = usize::try_from(limit).unwrap_or(usize::MAX).min(BACKFILL_EVENTS_MAX);
    let events = local.backfill(&peer.origin, &room_id, from, events_max).await?;
    Ok(transaction(&us, events))
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid>
pub(crate) async fn missing_events<L: Local>(
    State(local): State<Arc<L>>,
    peer: Peer,
    Path((room_id,)): Path<(OwnedRoomId,)>,
) -> Result<impl IntoResponse, Failure> {
    let gap = gap_of(peer.content()?)?;
    let events = local.missing_events(&peer.origin, &room_id, gap).await?;
    Ok(LargeObject::default().pdus("events", events))
}

fn gap_of(content: &Object) -> Result<Gap, Failure> {
    let number = |name: &'static str, default: u64| match content.get(name) {
        None | Some(Json::Null) => Ok(default),
        Some(value) => value.as_integer().and_then(|integer| integer.try_into().ok()).ok_or(Refusal::Invalid(name)),
    };
    let limit = number("limit", MISSING_EVENTS_DEFAULT.try_into().unwrap_or(u64::MAX))?;
    Ok(Gap {
        earliest: ids(content, "earliest_events")?,
        latest: ids(content, "latest_events")?,
        depth_min: number("min_depth", 0)?,
        events_max: usize::try_from(limit).unwrap_or(usize::MAX).min(MISSING_EVENTS_MAX),
    })
}

/// The event ids of a list. One that no event can have is passed over.
fn ids(content: &Object, name: &'static str) -> Result<Vec<OwnedEventId>, Failure> {
    let list = content.list(name).ok_or(Failure::BadJson("`earliest_events` and `latest_events` are not lists"))?;
    let texts = list.iter().take(GAP_ENDS_MAX).filter_map(Json::as_text);
    Ok(texts.filter_map(|text| text.try_into().ok()).collect())
}

/// Events in the form of a transaction.
fn transaction(us: &OurServer, pdus: Vec<Pdu>) -> LargeObject {
    LargeObject::default().value("origin", &us.name).value("origin_server_ts", &(us.now)()).pdus("pdus", pdus)
}

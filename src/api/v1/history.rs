//! What of a room is held, as admins see it, and asking other servers for the rest.

use axum::Json as Answer;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, ServerName};
use serde::{Deserialize, Serialize};

use super::{error::V1Error, path::Ids, wire::Data};
use crate::{
    actions::{
        ActionError,
        backfill::{self, Backfilled},
        completeness::{self, Completeness},
        timeline,
    },
    api::{body::OptionalJson, caller::Admin, time},
};

/// Events that are asked for if nothing is said.
const LIMIT_DEFAULT: i64 = 100;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AskFor {
    peer: Option<String>,
    limit: Option<i64>,
    before: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Asked {
    peer: OwnedServerName,
    fetched: usize,
    stored: usize,
    rejected: Vec<Rejected>,
    complete: bool,
    next: Option<OwnedEventId>,
}

#[derive(Serialize)]
struct Rejected {
    event_id: OwnedEventId,
    reason: String,
}

impl From<Backfilled> for Asked {
    fn from(filled: Backfilled) -> Self {
        let Backfilled { peer, fetched, stored, rejected, complete, next } = filled;
        let rejected = rejected.into_iter().map(|(event_id, reason)| Rejected { event_id, reason }).collect();
        Self { peer, fetched, stored, rejected, complete, next }
    }
}

/// `POST /v1/admin/rooms/{room_id}/federation/backfill`
pub(super) async fn backfill(
    Admin { actions, caller }: Admin,
    Ids(room): Ids<String>,
    OptionalJson(ask): OptionalJson<AskFor>,
) -> Result<Answer<Data<Asked>>, V1Error> {
    let limit = usize::try_from(ask.limit.unwrap_or(LIMIT_DEFAULT)).unwrap_or(0);
    if !(1..=backfill::EVENTS_MAX).contains(&limit) {
        let problem = format!("must be from 1 to {}", backfill::EVENTS_MAX);
        return Err(ActionError::invalid("limit", problem).into());
    }
    let no_name = |_| ActionError::invalid("peer", "must be the name of a server, such as example.org");
    let peer = ask.peer.as_deref().map(ServerName::parse).transpose().map_err(no_name)?;
    let before = ask.before.as_deref().map(timeline::parse_id).transpose()?;
    let filled =
        backfill::federation_backfill(&actions, &caller, &room, peer.as_deref(), limit, before.as_deref()).await?;
    Ok(Data::json(filled.into()))
}

#[derive(Serialize)]
pub(super) struct Report {
    room_id: OwnedRoomId,
    complete: bool,
    holes: Vec<HoleInRoom>,
    suppliers: Vec<Supplier>,
    waiting: Vec<Waiting>,
    rejected: Vec<Refused>,
    rejected_complete: bool,
}

#[derive(Serialize)]
struct HoleInRoom {
    event_id: OwnedEventId,
    position: String,
    missing: Vec<OwnedEventId>,
    next_try_at: Option<String>,
}

#[derive(Serialize)]
struct Supplier {
    server: OwnedServerName,
    members_count: u64,
    since: Option<String>,
    last_seen_at: Option<String>,
    next_try_at: Option<String>,
}

#[derive(Serialize)]
struct Waiting {
    event_id: OwnedEventId,
    peer: OwnedServerName,
    received_at: String,
    missing: Vec<OwnedEventId>,
    tries: u32,
    next_try_at: String,
}

#[derive(Serialize)]
struct Refused {
    event_id: OwnedEventId,
    #[serde(rename = "type")]
    event_type: String,
    sender: OwnedUserId,
    standing: &'static str,
    reason: String,
    peer: Option<OwnedServerName>,
}

impl From<Completeness> for Report {
    fn from(found: Completeness) -> Self {
        let Completeness { room_id, holes, suppliers, waiting, refused, is_whole } = found;
        let complete = holes.is_empty() && waiting.is_empty();
        let holes = holes.into_iter().map(|(hole, next_try)| HoleInRoom {
            event_id: hole.event_id,
            position: hole.place.to_token(),
            missing: hole.missing,
            next_try_at: next_try.map(time::text),
        });
        let suppliers = suppliers.into_iter().map(|(supplier, known)| Supplier {
            server: supplier.server,
            members_count: supplier.members,
            since: supplier.since.map(time::text),
            last_seen_at: known.last_seen.map(time::text),
            next_try_at: known.next_try.map(time::text),
        });
        let waiting = waiting.into_iter().map(|waiting| Waiting {
            event_id: waiting.event_id,
            peer: waiting.peer,
            received_at: time::text(waiting.received_at),
            missing: waiting.missing,
            tries: waiting.tries,
            next_try_at: time::text(waiting.next_try),
        });
        let rejected = refused.into_iter().map(|refused| Refused {
            event_id: refused.event_id,
            event_type: refused.event_type,
            sender: refused.sender,
            standing: if refused.is_soft { "soft_failed" } else { "rejected" },
            reason: refused.reason,
            peer: refused.peer,
        });
        Self {
            room_id,
            complete,
            holes: holes.collect(),
            suppliers: suppliers.collect(),
            waiting: waiting.collect(),
            rejected: rejected.collect(),
            rejected_complete: is_whole,
        }
    }
}

/// `GET /v1/admin/rooms/{room_id}/completeness`
pub(super) async fn completeness(
    Admin { actions, caller }: Admin,
    Ids(room): Ids<String>,
) -> Result<Answer<Data<Report>>, V1Error> {
    let found = completeness::of_room(&actions, &caller, &room).await?;
    Ok(Data::json(found.into()))
}

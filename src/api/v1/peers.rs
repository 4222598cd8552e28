//! Other servers, as admins see them.

use axum::Json as Answer;
use ruma::OwnedServerName;
use serde::{Deserialize, Serialize};

use super::{
    accounts::Empty,
    error::V1Error,
    path::Name,
    wire::{Data, List},
};
use crate::{
    actions::peers::{self, KnownPeer},
    api::{
        body::{OptionalJson, Parameters},
        caller::Admin,
        page, time,
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FindPeers {
    q: Option<String>,
    limit: Option<i64>,
    offset: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct Peer {
    server: OwnedServerName,
    last_seen_at: Option<String>,
    last_error: Option<LastError>,
    queue: Queue,
    back_off: Option<BackOff>,
}

#[derive(Serialize)]
struct LastError {
    at: String,
    message: String,
}

#[derive(Serialize)]
struct Queue {
    is_sending: bool,
    events_in_flight: usize,
    notices_waiting: usize,
    rows_behind: u64,
}

#[derive(Serialize)]
struct BackOff {
    failures: u32,
    next_try_at: Option<String>,
}

impl From<KnownPeer> for Peer {
    fn from(peer: KnownPeer) -> Self {
        let is_left_alone = peer.failures > 0 || peer.next_try.is_some();
        Self {
            server: peer.server,
            last_seen_at: peer.last_seen.map(time::text),
            last_error: peer.last_error.map(|(at, message)| LastError { at: time::text(at), message }),
            queue: Queue {
                is_sending: peer.is_sending,
                events_in_flight: peer.pdus_in_flight,
                notices_waiting: peer.edus_waiting,
                rows_behind: peer.rows_behind,
            },
            back_off: is_left_alone
                .then(|| BackOff { failures: peer.failures, next_try_at: peer.next_try.map(time::text) }),
        }
    }
}

/// `GET /v1/admin/peers`
pub(super) async fn list(
    Admin { actions, caller }: Admin,
    Parameters(find): Parameters<FindPeers>,
) -> Result<Answer<List<Peer>>, V1Error> {
    let window = page::window(find.offset, find.limit)?;
    let text = page::search(find.q)?;
    Ok(List::json(peers::list(&actions, &caller, text.as_deref(), window).await?))
}

/// `POST /v1/admin/peers/{server}/reset`
pub(super) async fn reset(
    Admin { actions, caller }: Admin,
    Name(server): Name,
    _: OptionalJson<Empty>,
) -> Result<Answer<Data<Peer>>, V1Error> {
    Ok(Data::json(peers::reset(&actions, &caller, &server).await?.into()))
}

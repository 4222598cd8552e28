//! Transactions: events and short-lived news of a peer.
//!
//! A transaction runs once, in a task of its own, whatever becomes of the connection: who sends it again joins the running one
//! or gets the stored answer. An origin has one running at a time. Its events are grouped by room; rooms go on side by side,
//! the order within a room stays. What is wrong with one event concerns that event alone.
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#transactions>

use std::{collections::BTreeMap, sync::Arc};

use axum::{extract::State, response::Response};
use futures_util::{StreamExt as _, stream};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName};
use serde_json::{json, value::RawValue};
use tracing::Instrument as _;

use super::{
    Door, answer,
    authentication::{Peer, RequestKeys},
    error::Failure,
    json::{Json, Object},
    pdu::{self, Dropped},
    request::Path,
};
use crate::{
    Pdu, PeerStore, Refusal,
    limits::{TRANSACTION_EDUS_MAX, TRANSACTION_ID_BYTES_MAX, TRANSACTION_PDUS_MAX, TRANSACTION_ROOMS_PARALLEL_MAX},
    local::Local,
};

mod edus;
mod once;

use edus::Edu;
pub(crate) use once::Transactions;

/// What becomes of each event whose id could be told.
type Results = BTreeMap<OwnedEventId, Result<(), Refusal>>;

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid>
pub(crate) async fn send<L: Local, S: PeerStore, K: RequestKeys>(
    State(door): State<Door<L, S, K>>,
    peer: Peer,
    Path((transaction_id,)): Path<(String,)>,
) -> Result<Response, Failure> {
    if transaction_id.len() > TRANSACTION_ID_BYTES_MAX {
        return Err(Refusal::Invalid("txnId").into());
    }
    let transaction = Transaction::read(peer.content()?, &peer.origin)?;
    let origin = peer.origin.clone();
    // The body is as large as a request may be, and the answer may take minutes.
    drop(peer);
    let running = door.transactions.join(&origin, &transaction_id, |turn| {
        run(door.clone(), origin.clone(), transaction_id.clone(), transaction, turn)
    })?;
    Ok(answer::ok(&*running.answer().await?))
}

/// A transaction as it was read: usable events by room, in their order, and usable news.
pub(crate) struct Transaction {
    pdus_sent: usize,
    pub(crate) rooms: BTreeMap<OwnedRoomId, Vec<Pdu>>,
    edus: Vec<Edu>,
}

impl Transaction {
    /// `origin` and `origin_server_ts` of the body are not looked at: who sends is proven, and when does not matter.
    pub(crate) fn read(content: &Object, origin: &OwnedServerName) -> Result<Self, Failure> {
        let pdus = list(content, "pdus", TRANSACTION_PDUS_MAX)?;
        let edus = list(content, "edus", TRANSACTION_EDUS_MAX)?;
        let mut rooms: BTreeMap<OwnedRoomId, Vec<Pdu>> = BTreeMap::new();
        for pdu in pdus {
            match admit(pdu) {
                Ok((room_id, pdu)) => rooms.entry(room_id).or_default().push(pdu),
                Err(dropped) => {
                    count_pdus("dropped", 1);
                    tracing::debug!(reason = %dropped, "An event of a peer is dropped at the door");
                }
            }
        }
        Ok(Self { pdus_sent: pdus.len(), rooms, edus: edus::read(edus, origin) })
    }
}

fn list<'a>(content: &'a Object, name: &'static str, items_max: usize) -> Result<&'a [Json], Failure> {
    let items = match content.get(name) {
        None | Some(Json::Null) => &[],
        Some(value) => value.as_list().ok_or(Failure::BadJson("`pdus` and `edus` are not lists"))?,
    };
    if items.len() > items_max { Err(Refusal::Invalid(name).into()) } else { Ok(items) }
}

fn admit(pdu: &Json) -> Result<(OwnedRoomId, Pdu), Dropped> {
    let event = pdu.as_object().ok_or(Dropped::NotAnObject)?;
    Ok((pdu::room_of(event)?, pdu::admit(event)?))
}

/// Does the work of a transaction, unless it was done before.
async fn run<L: Local, S: PeerStore, K: RequestKeys>(
    door: Door<L, S, K>,
    origin: OwnedServerName,
    transaction_id: String,
    transaction: Transaction,
    turn: once::Turn,
) -> once::Outcome {
    if let Some(answer) = door.store.answered(&origin, &transaction_id).await? {
        count_transaction("repeated");
        return Ok(Arc::from(answer));
    }
    let _turn = turn.wait().await?;
    door.quotas.admit_pdus(&origin, transaction.pdus_sent)?;
    let (results, ()) = tokio::join!(
        receive(&door.local, &origin, transaction.rooms),
        edus::tell(&*door.local, &origin, transaction.edus)
    );
    let answer = answer_of(&results?).ok_or(Refusal::Unavailable)?;
    door.store.keep_answer(&origin, &transaction_id, answer.clone()).await?;
    count_transaction("answered");
    Ok(Arc::from(answer))
}

/// Hands the events on, some rooms side by side.
///
/// # Errors
/// When the server could not look at an event now: the peer is to send the whole transaction again, which does nothing twice.
/// A room whose work panics is left out of the answer instead, or it would hold up the peer for ever.
async fn receive<L: Local>(
    local: &Arc<L>,
    origin: &OwnedServerName,
    rooms: BTreeMap<OwnedRoomId, Vec<Pdu>>,
) -> Result<Results, Failure> {
    let mut in_rooms = stream::iter(rooms)
        .map(|(room_id, pdus)| {
            let (local, origin) = (Arc::clone(local), origin.clone());
            let work = async move { local.receive(&origin, &room_id, pdus).await };
            tokio::spawn(work.in_current_span())
        })
        .buffer_unordered(TRANSACTION_ROOMS_PARALLEL_MAX);
    let mut results = Results::new();
    while let Some(in_room) = in_rooms.next().await {
        match in_room {
            Ok(of_room) => results.extend(of_room),
            Err(_panicked) => tracing::error!("Taking in a room's events stopped, they are left out of the answer"),
        }
    }
    if results.values().any(|result| *result == Err(Refusal::Unavailable)) {
        return Err(Refusal::Unavailable.into());
    }
    let accepted = results.values().filter(|result| result.is_ok()).count();
    count_pdus("accepted", accepted);
    count_pdus("refused", results.len() - accepted);
    Ok(results)
}

fn answer_of(results: &Results) -> Option<Box<RawValue>> {
    let of_one = |result: &Result<(), Refusal>| match result {
        Ok(()) => json!({}),
        Err(refusal) => json!({ "error": refusal.to_string() }),
    };
    let pdus: BTreeMap<&OwnedEventId, _> =
        results.iter().map(|(event_id, result)| (event_id, of_one(result))).collect();
    serde_json::value::to_raw_value(&json!({ "pdus": pdus })).ok()
}

fn count_pdus(outcome: &'static str, number: usize) {
    let number = u64::try_from(number).unwrap_or(u64::MAX);
    metrics::counter!("yurt_federation_pdus_received_total", "outcome" => outcome).increment(number);
}

fn count_transaction(outcome: &'static str) {
    metrics::counter!("yurt_federation_transactions_received_total", "outcome" => outcome).increment(1);
}

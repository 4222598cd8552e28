//! Policy servers: a room may name a server that has to sign every event before it is shown. It is asked before a message, an entry of the state, a redaction or an
//! invite of ours is sent, and about events of others that lack its signature. What is not signed is kept, and not shown.
//!
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#policy-servers>

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rules::{UnixMs, Version, authorization::Refusal, canonical, draft::Draft, event::Event, signature};
use ruma::{
    OwnedEventId, OwnedServerName,
    serde::{Base64, base64::Standard},
};
use serde_json::{Value, value::RawValue};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    ActionError, Actions, Caller,
    append::Writer,
    incoming::guests::Met,
    peers::{Errcode, PeerError},
    rooms::{self, Entered},
    summary,
};
use crate::storage::keyspaces::SERVERS;

/// How long a policy server may take for one event. Longer: as if it did not answer.
const ASKING_MAX: Duration = Duration::from_secs(10);
/// Events about which one policy server is asked at a time. A slow one takes no other's turns.
const ASKED_AT_A_TIME: usize = 16;
/// How long a policy server that did not answer is not asked again: what comes meanwhile does not wait for it.
const SILENCE_MS: u64 = 30 * 1_000;
/// Servers of which that is remembered.
const SILENT_MAX: usize = 1_000;
/// Refusals that are remembered, so that an event that comes again causes no other question.
const REFUSALS_KEPT: usize = 10_000;

/// What the policy server of a room says of an event.
#[derive(Clone, Debug)]
pub(super) enum Said {
    /// The room has none, it need not be asked, or it signed: the event, with its signature.
    Fine(Arc<Event>),
    /// It does not sign the event, for this reason.
    Refused(Errcode),
    /// It was not reached, or did not answer in time.
    Nothing,
}

/// What is remembered of policy servers.
#[derive(Default)]
pub(super) struct PolicyServers {
    /// Those that are being asked.
    turns: Mutex<HashMap<OwnedServerName, Arc<Semaphore>>>,
    refused: Mutex<(HashMap<OwnedEventId, OwnedServerName>, VecDeque<OwnedEventId>)>,
    /// Who did not answer, and until when it is left alone.
    silent: Mutex<HashMap<OwnedServerName, UnixMs>>,
}

impl PolicyServers {
    /// The turns of a server. Those of servers that nobody asks now are forgotten.
    fn turns_of(&self, server: &OwnedServerName) -> Arc<Semaphore> {
        let mut turns = self.turns.lock();
        turns.retain(|_, turns| Arc::strong_count(turns) > 1);
        let fresh = || Arc::new(Semaphore::new(ASKED_AT_A_TIME));
        Arc::clone(turns.entry(server.clone()).or_insert_with(fresh))
    }

    fn has_refused(&self, event_id: &OwnedEventId, server: &OwnedServerName) -> bool {
        self.refused.lock().0.get(event_id) == Some(server)
    }

    fn is_silent(&self, server: &OwnedServerName, now: UnixMs) -> bool {
        self.silent.lock().get(server).is_some_and(|until| now < *until)
    }

    fn note_silence(&self, server: &OwnedServerName, now: UnixMs) {
        let mut silent = self.silent.lock();
        silent.retain(|_, until| now < *until);
        if silent.len() < SILENT_MAX {
            silent.insert(server.clone(), UnixMs(now.0.saturating_add(SILENCE_MS)));
        }
    }

    fn note_refusal(&self, event_id: &OwnedEventId, server: &OwnedServerName) {
        let (refused, order) = &mut *self.refused.lock();
        if refused.insert(event_id.clone(), server.clone()).is_none() {
            order.push_back(event_id.clone());
        }
        if order.len() > REFUSALS_KEPT {
            order.pop_front().and_then(|oldest| refused.remove(&oldest));
        }
    }
}

/// The policy server that a room names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PolicyServer {
    server: OwnedServerName,
    key: [u8; 32],
}

/// The policy server of a room: its state names one, with a key, and somebody of that server is in the room.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn of(met: &Met) -> Result<Option<PolicyServer>, ActionError> {
    let rows = met.rows();
    let event = rows.state_event(&met.version(), met.view.tip.state, "m.room.policy", "").await?;
    let Some(named) = event.as_deref().and_then(read) else { return Ok(None) };
    let is_joined = rows.get(&SERVERS, &named.server).await?.is_some();
    Ok(Some(named).filter(|_| is_joined))
}

fn read(event: &Event) -> Option<PolicyServer> {
    let content = summary::content(event);
    let server = content.get("via").and_then(Value::as_str).and_then(federation::request_signature::server_name)?;
    let key = content.get("public_keys")?.get("ed25519")?.as_str()?;
    let key = Base64::<Standard, [u8; 32]>::parse(key).ok()?.into_inner();
    Some(PolicyServer { server, key })
}

/// Asks the policy server of the room about an event, if it has one and the event lacks its signature. No lane is held.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn look(actions: &Actions, met: &Met, event: &Arc<Event>) -> Result<Said, ActionError> {
    if names_policy_server(event.type_str(), event.state_key()) {
        return Ok(Said::Fine(Arc::clone(event)));
    }
    let Some(policy) = of(met).await? else { return Ok(Said::Fine(Arc::clone(event))) };
    sign(actions, &met.version(), &policy, event).await
}

async fn sign(
    actions: &Actions,
    version: &Version,
    policy: &PolicyServer,
    event: &Arc<Event>,
) -> Result<Said, ActionError> {
    let mut object = canonical::read_object(event.json()).map_err(ActionError::internal)?;
    if signature::is_signed_by_policy_server(&object, &policy.server, &policy.key, version) {
        return Ok(Said::Fine(Arc::clone(event)));
    }
    let known = &actions.policy_servers;
    if known.has_refused(event.event_id(), &policy.server) {
        return Ok(Said::Refused(Errcode::FORBIDDEN));
    }
    if known.is_silent(&policy.server, actions.now()) {
        return Ok(Said::Nothing);
    }
    let turns = known.turns_of(&policy.server);
    let asking = async {
        let _turn = turns.acquire().await.map_err(|_closed| PeerError::Unreachable)?;
        let pdu = RawValue::from_string(event.json().to_owned()).map_err(|_no_json| PeerError::Unreadable)?;
        actions.peers().policy_signature(&policy.server, pdu).await
    };
    let given = match timeout(ASKING_MAX, asking).await {
        Ok(Ok(given)) => given,
        Ok(Err(PeerError::Refused(errcode))) if !errcode.is_passing() => {
            known.note_refusal(event.event_id(), &policy.server);
            return Ok(Said::Refused(errcode));
        }
        Ok(Err(_)) | Err(_) => {
            known.note_silence(&policy.server, actions.now());
            return Ok(Said::Nothing);
        }
    };
    signature::add_policy_signature(&mut object, &policy.server, &given);
    if !signature::is_signed_by_policy_server(&object, &policy.server, &policy.key, version) {
        return Ok(Said::Nothing);
    }
    let text = canonical::to_string(&object);
    let signed = Event::from_stored(event.event_id().clone(), event.room_id().clone(), version, text, false);
    Ok(Said::Fine(Arc::new(signed.map_err(ActionError::internal)?)))
}

/// Why an event of another server is not shown.
pub(super) fn refusal(said: &Said) -> Option<Refusal> {
    match said {
        Said::Fine(_) => None,
        Said::Refused(_) => Some(Refusal::new("the policy server of the room does not sign it")),
        Said::Nothing => Some(Refusal::new("the policy server of the room has not signed it")),
    }
}

/// The policy server that has to sign what is about to be sent into the room.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn to_ask(actions: &Actions, writer: &mut Writer) -> Result<Option<PolicyServer>, ActionError> {
    let event = writer.state_event("m.room.policy", "").await?;
    let Some(named) = event.as_deref().and_then(read) else { return Ok(None) };
    let takes_part = actions.is_connected() && writer.view()?.admits(&named.server);
    let is_joined = writer.get(&SERVERS, &named.server).await?.is_some();
    Ok(Some(named).filter(|_| takes_part && is_joined))
}

/// Stages an event of the caller: with the signature of the policy server, where the room names one. No lane is held while that is asked; the room may be
/// another one then, so its rules are asked again.
///
/// # Errors
/// As [`signed`] and [`Writer::stage`].
pub(super) async fn stage(
    actions: &Actions,
    caller: &Caller,
    mut entered: Entered,
    draft: Draft,
    transaction_id: Option<String>,
) -> Result<(Entered, Arc<Event>), ActionError> {
    let policy = match names_policy_server(&draft.kind.to_string(), draft.state_key.as_deref()) {
        true => None,
        false => to_ask(actions, &mut entered.writer).await?,
    };
    let Some(policy) = policy else {
        let event = entered.writer.stage_as(&caller.user_id, draft, transaction_id).await?;
        return Ok((entered, event));
    };
    let (version, room_id) = (entered.writer.version()?, entered.writer.room_id().clone());
    let event = entered.writer.build(&caller.user_id, draft).await?.0;
    drop(entered);
    let event = signed(actions, &version, &policy, &event).await?;
    let mut entered = rooms::enter(actions, caller, room_id.as_str()).await?;
    entered.writer.standing(caller, entered.member.as_ref())?.not_frozen()?;
    entered.writer.stage_built(Arc::clone(&event), transaction_id).await?;
    Ok((entered, event))
}

/// What names the policy server needs no signature of one, and none may be asked for.
fn names_policy_server(event_type: &str, state_key: Option<&str>) -> bool {
    event_type == "m.room.policy" && state_key == Some("")
}

/// An event of ours, with the signature of the room's policy server.
///
/// # Errors
/// The policy server does not sign it, or is not reached.
pub(super) async fn signed(
    actions: &Actions,
    version: &Version,
    policy: &PolicyServer,
    event: &Arc<Event>,
) -> Result<Arc<Event>, ActionError> {
    match sign(actions, version, policy, event).await? {
        Said::Fine(event) => Ok(event),
        Said::Refused(errcode) => Err(ActionError::PeerRefused {
            message: "the policy server of the room does not allow it".to_owned(),
            errcode: Some(errcode),
        }),
        Said::Nothing => Err(ActionError::unreachable()),
    }
}

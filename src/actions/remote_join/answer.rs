//! What another server answers to a join: every event of it is checked as if it came alone, judged by its auth events, and left out when it fails. What is left
//! has to be a room that lets us in.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use rules::{
    authorization::{self, needed_auth_events},
    canonical,
    event::{Event, RawPdu},
    format::{self, Caps},
    intake::{Facts, Intake, Need, Step},
    keys::KeyRing,
    signature,
    state::{StateMap, change_of},
    version::Version,
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName, events::StateEventType};

use super::template::Made;
use crate::{
    actions::{ActionError, Actions, append::Entering, incoming::judging, peers::Joined},
    clock::Clock,
};

/// Events of one answer. More: it is refused.
const EVENTS_MAX: usize = 500_000;
/// Events after which others get a turn.
const EVENTS_PER_TURN: usize = 100;

/// Why an answer is not used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::actions) struct BadAnswer(pub(super) &'static str);

/// An event whose form was checked, and what has to be known to check the rest.
struct Shaped {
    event_id: OwnedEventId,
    intake: Intake,
    needed: BTreeSet<(OwnedServerName, String)>,
}

/// The room that the answer tells of.
pub(super) async fn read(
    actions: &Actions,
    room_id: &RoomId,
    peer: &ServerName,
    made: &Made,
    joined: Joined,
) -> Result<Entering, BadAnswer> {
    let version = made.version;
    let join = our_join(actions, made, joined.event).await?;
    if joined.before.state.len() + joined.before.auth_chain.len() > EVENTS_MAX {
        return Err(BadAnswer("the room is larger than any may be"));
    }
    let mut shaped: HashMap<OwnedEventId, Shaped> = HashMap::new();
    let mut creates: HashSet<OwnedEventId> = HashSet::new();
    let mut in_state: Vec<OwnedEventId> = Vec::with_capacity(joined.before.state.len());
    let state = joined.before.state.into_iter().map(|pdu| (pdu, true));
    let all = joined.before.auth_chain.into_iter().map(|pdu| (pdu, false)).chain(state);
    for (number, (pdu, is_state)) in all.enumerate() {
        if number % EVENTS_PER_TURN == 0 {
            tokio::task::yield_now().await;
        }
        let raw = RawPdu(pdu);
        let Ok(pdu) = format::parse(&raw, &version, Caps::Lifted) else { continue };
        let event_id = pdu.event_id().clone();
        let is_create = pdu.object().get("type").and_then(|kind| kind.as_str()) == Some("m.room.create");
        if is_create {
            creates.insert(event_id.clone());
        }
        if pdu.room_id() != room_id {
            continue;
        }
        if is_state {
            in_state.push(event_id.clone());
        }
        if shaped.contains_key(&event_id) {
            continue;
        }
        let mut intake = Intake::of_auth_chain(version, raw);
        if let Step::Need(Need::Keys(needed)) = intake.step(Facts::Start) {
            shaped.insert(event_id.clone(), Shaped { event_id, intake, needed });
        }
    }
    if creates.len() != 1 {
        return Err(BadAnswer("the room has not exactly one create event"));
    }
    let checked = check(actions, shaped).await;
    let sound = judge(version, checked).await;
    entering(room_id, peer, made, join, creates, &in_state, sound)
}

/// Our join with the signature of whoever vouches for it; what else the answer may say of it does not matter, as long as it is the same event.
async fn our_join(actions: &Actions, made: &Made, answered: Option<federation::Pdu>) -> Result<Arc<Event>, BadAnswer> {
    let Some(answered) = answered else {
        return match &made.voucher {
            None => Ok(Arc::clone(&made.event)),
            Some(_) => Err(BadAnswer("nobody vouches for the join")),
        };
    };
    let signer = made.voucher.as_ref().map(|voucher| voucher.server_name().to_owned());
    match signed_also(actions, made.version, &made.event, answered, signer.as_ref()).await? {
        Some(event) => Ok(event),
        None => Ok(Arc::clone(&made.event)),
    }
}

/// An event of ours as another server gave it back: the same but for signatures. Answers it with the checked signature of that server, if one is asked for.
pub(in crate::actions) async fn signed_also(
    actions: &Actions,
    version: Version,
    ours: &Event,
    answered: federation::Pdu,
    signer: Option<&OwnedServerName>,
) -> Result<Option<Arc<Event>>, BadAnswer> {
    let wrong = BadAnswer("the answer holds another event than ours");
    let raw = RawPdu(answered);
    let Ok(pdu) = format::parse(&raw, &version, Caps::Enforced) else { return Err(wrong) };
    let Ok(mut object) = canonical::read_object(ours.json()) else { return Err(wrong) };
    let without = |object| canonical::to_string_without(object, &["signatures", "unsigned"]);
    if pdu.event_id() != ours.event_id() || without(pdu.object()) != without(&object) {
        return Err(wrong);
    }
    let Some(signer) = signer else { return Ok(None) };
    let unsigned = BadAnswer("the other server has not signed our event");
    let Ok(needed) = signature::keys_of(&pdu, signer) else { return Err(unsigned) };
    let keys = actions.peers().keys(&needed, pdu.origin_server_ts()).await;
    if signature::verify_also(&pdu, signer, &keys, &version).is_err() {
        return Err(unsigned);
    }
    let theirs =
        pdu.object().get("signatures").and_then(|all| all.as_object()).and_then(|all| all.get(signer.as_str()));
    let ours_too = object.get_mut("signatures").and_then(|all| all.as_object_mut());
    if let (Some(theirs), Some(signatures)) = (theirs, ours_too) {
        signatures.insert(signer.to_string(), theirs.clone());
    }
    let event = Event::from_stored(
        ours.event_id().clone(),
        ours.room_id().clone(),
        &version,
        canonical::to_string(&object),
        false,
    );
    event.map(|event| Some(Arc::new(event))).map_err(|_unreadable| unsigned)
}

/// Steps 2 and 3, with all keys asked for at once: there may be thousands of servers, and some of them are gone.
async fn check(
    actions: &Actions,
    shaped: HashMap<OwnedEventId, Shaped>,
) -> HashMap<OwnedEventId, (Intake, Arc<Event>)> {
    let mut needed: BTreeSet<(OwnedServerName, String)> = BTreeSet::new();
    for shaped in shaped.values() {
        needed.extend(shaped.needed.iter().cloned());
    }
    let keys = judging::keys(actions, needed, Clock::now(&*actions.clock)).await;
    let mut checked = HashMap::with_capacity(shaped.len());
    for (number, Shaped { event_id, mut intake, needed }) in shaped.into_values().enumerate() {
        if number % EVENTS_PER_TURN == 0 {
            tokio::task::yield_now().await;
        }
        let ring: KeyRing = keys.only(&needed);
        let Step::Need(_) = intake.step(Facts::Keys(ring)) else { continue };
        if let Some(event) = intake.event().cloned() {
            checked.insert(event_id, (intake, event));
        }
    }
    checked
}

/// Step 4: each event is judged by its auth events, those first. What is refused, or leans on what is not there, is left out, and what leans on that.
async fn judge(version: Version, mut checked: HashMap<OwnedEventId, (Intake, Arc<Event>)>) -> Vec<Arc<Event>> {
    // The same order each time: it is that of their rows.
    let ids: BTreeSet<OwnedEventId> = checked.keys().cloned().collect();
    let mut sound: Vec<Arc<Event>> = Vec::with_capacity(ids.len());
    let mut known: HashMap<OwnedEventId, Arc<Event>> = HashMap::with_capacity(ids.len());
    for (number, start) in ids.into_iter().enumerate() {
        if number % EVENTS_PER_TURN == 0 {
            tokio::task::yield_now().await;
        }
        let mut open = vec![(start, false)];
        while let Some((id, is_ready)) = open.pop() {
            if !is_ready {
                if let Some((_, event)) = checked.get(&id) {
                    let needed = needed_auth_events(&version, event);
                    open.push((id, true));
                    open.extend(needed.into_iter().filter(|id| checked.contains_key(id)).map(|id| (id, false)));
                }
                continue;
            }
            let Some((mut intake, event)) = checked.remove(&id) else { continue };
            let needed = needed_auth_events(&version, &event);
            let auth: HashMap<OwnedEventId, Arc<Event>> =
                needed.into_iter().filter_map(|id| known.get(&id).map(|event| (id, Arc::clone(event)))).collect();
            if let Step::Done(rules::intake::Verdict::Accept(event)) = intake.step(Facts::Events(auth)) {
                known.insert(id, Arc::clone(&event));
                sound.push(event);
            }
        }
    }
    sound
}

fn entering(
    room_id: &RoomId,
    peer: &ServerName,
    made: &Made,
    join: Arc<Event>,
    creates: HashSet<OwnedEventId>,
    in_state: &[OwnedEventId],
    sound: Vec<Arc<Event>>,
) -> Result<Entering, BadAnswer> {
    let version = made.version;
    let in_state: HashSet<&OwnedEventId> = in_state.iter().collect();
    let by_id: HashMap<OwnedEventId, Arc<Event>> =
        sound.iter().map(|event| (event.event_id().clone(), Arc::clone(event))).collect();
    let (mut state, mut auth_chain, mut entries) = (Vec::new(), Vec::new(), StateMap::new());
    for event in sound {
        if !in_state.contains(event.event_id()) {
            auth_chain.push(event);
            continue;
        }
        let Some(key) = change_of(&event) else { continue };
        if entries.insert(key, Arc::clone(&event)).is_some() {
            return Err(BadAnswer("the state has two events for one key"));
        }
        state.push(event);
    }
    let create: Option<Arc<Event>> = entries.get(&(StateEventType::RoomCreate, String::new())).cloned();
    let create = create.filter(|create| creates.contains(create.event_id()));
    let create = create.ok_or(BadAnswer("the state lacks its create event, or that is none of this room version"))?;
    let room: &OwnedRoomId = create.room_id();
    if room != room_id {
        return Err(BadAnswer("the room was not made by this create event"));
    }
    let allowed = authorization::check_auth_events(&version, &join, |id| by_id.get(id).cloned())
        .and_then(|()| authorization::check(&version, &join, &entries));
    if let Err(refusal) = allowed {
        tracing::info!(room.id = %room_id, peer = %peer, "The room that `{peer}` tells of does not let us in: {refusal}");
        return Err(BadAnswer("the room that it tells of does not let us in"));
    }
    Ok(Entering { version, create, auth_chain, state, join, through: peer.to_owned(), direct_with: None })
}

impl From<BadAnswer> for ActionError {
    fn from(bad: BadAnswer) -> Self {
        Self::PeerRefused { message: format!("the other server's answer cannot be used: {bad}"), errcode: None }
    }
}

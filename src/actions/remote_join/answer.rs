//! What another server answers to a join: every event of it is checked as if it came alone, judged by its auth events, and left out when it fails. What is left
//! has to be a room that lets us in.
//!
//! The answer is read while it comes. In memory is only which events there are; what they say is in the [`Spool`].

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use rules::{
    authorization::{self, needed_auth_events},
    canonical,
    event::{Event, RawPdu},
    format::{self, Caps},
    intake::{Facts, Intake, Need, Step, Verdict},
    keys::KeyRing,
    signature,
    state::{StateKey, StateMap, change_of},
    version::Version,
};
use ruma::{OwnedEventId, OwnedServerName, RoomId, ServerName, events::StateEventType};
use serde_json::value::RawValue;

use super::{Trouble, spool::Spool, template::Made};
use crate::{
    actions::{
        ActionError, Actions,
        append::{Entering, rank},
        incoming::judging,
        peers::{Joined, Piece},
    },
    clock::Clock,
};

/// Events of one answer. More: it is refused.
const EVENTS_MAX: usize = 500_000;
/// Events after which others get a turn.
const EVENTS_PER_TURN: usize = 100;
/// Keys that are looked for. Events that need more are left out.
const KEYS_MAX: usize = 50_000;
/// Keys that are asked for together, how often at the same time, and how long in all. Some servers are gone: the room does not wait for them.
const KEYS_AT_A_TIME: usize = 50;
const KEY_QUESTIONS_AT_ONCE: usize = 32;
const KEYS_WAIT_MAX: Duration = Duration::from_secs(3 * 60);
/// Events that many others lean on are kept at hand.
const AT_HAND_MAX: usize = 256;

/// Why an answer is not used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::actions) struct BadAnswer(pub(super) &'static str);

/// What became of an event of the answer.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Standing {
    /// Nothing yet.
    Unjudged,
    /// Allowed by its auth events.
    Sound,
    /// It counts for nothing.
    LeftOut,
}

/// The events of an answer, by number in the order in which they came.
struct Index {
    numbers: HashMap<OwnedEventId, usize>,
    events: Vec<Indexed>,
    /// Create events, those of other rooms included.
    creates: HashSet<OwnedEventId>,
    needed: BTreeSet<(OwnedServerName, String)>,
}

struct Indexed {
    event_id: OwnedEventId,
    is_state: bool,
    standing: Standing,
}

impl Index {
    fn standing(&self, event_id: &OwnedEventId) -> Option<(usize, Standing)> {
        let number = *self.numbers.get(event_id)?;
        Some((number, self.events.get(number)?.standing))
    }

    fn set(&mut self, number: usize, standing: Standing) {
        if let Some(indexed) = self.events.get_mut(number) {
            indexed.standing = standing;
        }
    }
}

/// The room that the answer tells of. Its events are in the spool, as they were checked.
pub(super) async fn read(
    actions: &Actions,
    room_id: &RoomId,
    peer: &ServerName,
    made: &Made,
    joined: Joined,
    spool: &mut Spool,
) -> Result<Entering, Trouble> {
    let (index, answered) = take_in(actions, room_id, made.version, joined, spool).await?;
    let join = our_join(actions, made, answered).await?;
    if index.creates.len() != 1 {
        return Err(BadAnswer("the room has not exactly one create event").into());
    }
    let keys = keys_of(actions, &index.needed).await;
    let wanted = authorization::needed_state_of(&made.version, &join);
    let mut wanted: HashSet<StateKey> = wanted.unwrap_or_default().into_iter().collect();
    wanted.insert((StateEventType::RoomCreate, String::new()));
    let judging = Judging {
        version: made.version,
        index,
        spool,
        keys,
        at_hand: HashMap::new(),
        hasher: RandomState::new(),
        seen: HashSet::new(),
        wanted,
        found: Found::default(),
    };
    judging.finish(room_id, peer, join).await
}

/// Reads the answer to its end: the form of every event, and which keys have to be known.
async fn take_in(
    actions: &Actions,
    room_id: &RoomId,
    version: Version,
    mut joined: Joined,
    spool: &mut Spool,
) -> Result<(Index, Option<federation::Pdu>), Trouble> {
    let mut index =
        Index { numbers: HashMap::new(), events: Vec::new(), creates: HashSet::new(), needed: BTreeSet::new() };
    let (mut answered, mut count) = (None, 0_usize);
    while let Some(piece) = joined.pieces.next().await {
        let (pdu, is_state) = match piece? {
            Piece::Event(event) => {
                answered = Some(event);
                continue;
            }
            Piece::State(pdu) => (pdu, true),
            Piece::AuthChain(pdu) => (pdu, false),
        };
        count += 1;
        if count > EVENTS_MAX {
            return Err(BadAnswer("the room is larger than any may be").into());
        }
        if count.is_multiple_of(EVENTS_PER_TURN) {
            tokio::task::yield_now().await;
        }
        let raw = RawPdu(pdu);
        let Ok(pdu) = format::parse(&raw, &version, Caps::Lifted) else { continue };
        let event_id = pdu.event_id().clone();
        if pdu.object().get("type").and_then(|kind| kind.as_str()) == Some("m.room.create") {
            index.creates.insert(event_id.clone());
        }
        if pdu.room_id() != room_id {
            continue;
        }
        if let Some(number) = index.numbers.get(&event_id).copied() {
            if let Some(known) = index.events.get_mut(number) {
                known.is_state |= is_state;
            }
            continue;
        }
        let text = canonical::to_string(pdu.object());
        if let Step::Need(Need::Keys(needed)) = Intake::of_auth_chain(version, raw).step(Facts::Start) {
            if index.needed.len() < KEYS_MAX {
                index.needed.extend(needed);
            }
            index.numbers.insert(event_id.clone(), index.events.len());
            spool.put(&event_id, text).await?;
            index.events.push(Indexed { event_id, is_state, standing: Standing::Unjudged });
        }
    }
    tracing::debug!(room.id = %room_id, "`{room_id}` is told of with {count} events by {}", actions.server_name);
    Ok((index, answered))
}

/// All keys, asked for at once: there may be thousands of servers, and some of them are gone.
async fn keys_of(actions: &Actions, needed: &BTreeSet<(OwnedServerName, String)>) -> KeyRing {
    let (now, needed) = (Clock::now(&*actions.clock), needed.iter().cloned().collect::<Vec<_>>());
    let questions = needed.chunks(KEYS_AT_A_TIME).map(|some| {
        let some = some.iter().cloned().collect();
        async move { judging::keys(actions, some, now).await }
    });
    let questions = questions.collect::<Vec<_>>();
    let answers = stream::iter(questions).buffer_unordered(KEY_QUESTIONS_AT_ONCE);
    let mut answers = std::pin::pin!(answers.take_until(Box::pin(tokio::time::sleep(KEYS_WAIT_MAX))));
    let mut keys = KeyRing::new();
    while let Some(some) = answers.next().await {
        keys.extend(some);
    }
    keys
}

/// Steps 2 to 4 for every event, those first that others lean on.
struct Judging<'a> {
    version: Version,
    index: Index,
    spool: &'a mut Spool,
    keys: KeyRing,
    at_hand: HashMap<OwnedEventId, Arc<Event>>,
    hasher: RandomState,
    /// Marks of the keys of the state.
    seen: HashSet<u64>,
    /// What decides on the join.
    wanted: HashSet<StateKey>,
    found: Found,
}

/// What is sound.
#[derive(Default)]
struct Found {
    auth_chain: Vec<OwnedEventId>,
    state: Vec<(u8, OwnedEventId)>,
    entries: StateMap<Arc<Event>>,
}

impl Judging<'_> {
    async fn finish(mut self, room_id: &RoomId, peer: &ServerName, join: Arc<Event>) -> Result<Entering, Trouble> {
        for number in 0..self.index.events.len() {
            if number.is_multiple_of(EVENTS_PER_TURN) {
                tokio::task::yield_now().await;
            }
            self.judge_with_what_it_leans_on(number).await?;
        }
        let create = self.found.entries.get(&(StateEventType::RoomCreate, String::new())).cloned();
        let create = create.filter(|create| self.index.creates.contains(create.event_id()));
        let create =
            create.ok_or(BadAnswer("the state lacks its create event, or that is none of this room version"))?;
        if create.room_id() != room_id {
            return Err(BadAnswer("the room was not made by this create event").into());
        }
        let leans_on = self.sound(&needed_auth_events(&self.version, &join)).await?;
        let allowed = authorization::check_auth_events(&self.version, &join, |id| leans_on.get(id).cloned())
            .and_then(|()| authorization::check(&self.version, &join, &self.found.entries));
        if let Err(refusal) = allowed {
            tracing::info!(room.id = %room_id, peer = %peer, "The room that `{peer}` tells of does not let us in: {refusal}");
            return Err(BadAnswer("the room that it tells of does not let us in").into());
        }
        let Found { auth_chain, mut state, .. } = self.found;
        state.sort_by_key(|(rank, _)| *rank);
        let state = state.into_iter().map(|(_, event_id)| event_id).collect();
        let version = self.version;
        Ok(Entering { version, create, auth_chain, state, join, through: peer.to_owned(), direct_with: None })
    }

    async fn judge_with_what_it_leans_on(&mut self, start: usize) -> Result<(), Trouble> {
        let mut open = vec![start];
        while let Some(number) = open.pop() {
            let Some(indexed) = self.index.events.get(number) else { continue };
            if indexed.standing != Standing::Unjudged {
                continue;
            }
            let (event_id, is_state) = (indexed.event_id.clone(), indexed.is_state);
            let Some((mut intake, event, text)) = self.checked(&event_id).await? else {
                self.index.set(number, Standing::LeftOut);
                continue;
            };
            let needed = needed_auth_events(&self.version, &event);
            let unjudged = needed.iter().filter_map(|id| {
                self.index
                    .standing(id)
                    .filter(|(_, standing)| *standing == Standing::Unjudged)
                    .map(|(number, _)| number)
            });
            let unjudged: Vec<usize> = unjudged.collect();
            if !unjudged.is_empty() {
                // It comes again when they are done; until then it is not kept in memory.
                open.push(number);
                open.extend(unjudged);
                continue;
            }
            let auth = self.sound(&needed).await?;
            let Step::Done(Verdict::Accept(event)) = intake.step(Facts::Events(auth)) else {
                self.index.set(number, Standing::LeftOut);
                continue;
            };
            self.index.set(number, Standing::Sound);
            if event.json() != text {
                self.spool.put(&event_id, event.json().to_owned()).await?;
            }
            self.note(event, is_state)?;
        }
        Ok(())
    }

    /// Steps 2 and 3.
    async fn checked(&self, event_id: &OwnedEventId) -> Result<Option<(Intake, Arc<Event>, String)>, Trouble> {
        let Some(text) = self.spool.get(event_id).await? else { return Ok(None) };
        let Ok(raw) = RawValue::from_string(text.clone()) else { return Ok(None) };
        let mut intake = Intake::of_auth_chain(self.version, RawPdu(raw));
        let Step::Need(Need::Keys(needed)) = intake.step(Facts::Start) else { return Ok(None) };
        let Step::Need(_) = intake.step(Facts::Keys(self.keys.only(&needed))) else { return Ok(None) };
        Ok(intake.event().cloned().map(|event| (intake, event, text)))
    }

    /// Those of the events that others may lean on.
    async fn sound(&mut self, ids: &[OwnedEventId]) -> Result<HashMap<OwnedEventId, Arc<Event>>, Trouble> {
        let mut events = HashMap::with_capacity(ids.len());
        for id in ids {
            if self.index.standing(id).is_none_or(|(_, standing)| standing != Standing::Sound) {
                continue;
            }
            let event = match self.at_hand.get(id) {
                Some(event) => Arc::clone(event),
                None => self.spool.event(id).await?,
            };
            if event.type_str() != "m.room.member" {
                if self.at_hand.len() >= AT_HAND_MAX {
                    self.at_hand.clear();
                }
                self.at_hand.insert(id.clone(), Arc::clone(&event));
            }
            events.insert(id.clone(), event);
        }
        Ok(events)
    }

    fn note(&mut self, event: Arc<Event>, is_state: bool) -> Result<(), BadAnswer> {
        if !is_state {
            self.found.auth_chain.push(event.event_id().clone());
            return Ok(());
        }
        let Some(key) = change_of(&event) else { return Ok(()) };
        if !self.seen.insert(self.hasher.hash_one(&key)) {
            return Err(BadAnswer("the state has two events for one key"));
        }
        self.found.state.push((rank(event.type_str()), event.event_id().clone()));
        if self.wanted.contains(&key) {
            self.found.entries.insert(key, event);
        }
        Ok(())
    }
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

impl From<BadAnswer> for ActionError {
    fn from(bad: BadAnswer) -> Self {
        Self::PeerRefused { message: format!("the other server's answer cannot be used: {bad}"), errcode: None }
    }
}

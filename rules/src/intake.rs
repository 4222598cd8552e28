//! Taking in one event from a peer: a stepper that asks for facts and ends in a verdict. It never reaches out; whoever
//! drives it looks in storage first, then asks peers. May import every other module of this crate.
//!
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::Arc,
};

use ruma::{OwnedEventId, OwnedServerName, events::TimelineEventType};

use crate::{
    authorization::{Refusal, check, check_auth_events, needed_auth_events, needed_state_of},
    event::{Event, RawPdu, SignedPdu, WellFormedPdu},
    format::{Caps, check_caps, parse},
    keys::KeyRing,
    signature::{BadSignature, required_keys, verified_before, verify},
    state::{StateKey, StateMap},
    version::Version,
};

/// What the stepper does next.
#[derive(Debug, Clone)]
pub enum Step {
    /// It needs facts: find them and call [`Intake::step`] with them.
    Need(Need),
    /// It has judged.
    Done(Verdict),
}

/// Facts that are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// These keys of these servers. Answer with a ring, also when some were not found.
    Keys(BTreeSet<(OwnedServerName, String)>),
    /// These events of the room, judged themselves. Answer with those that are held; rejected ones too.
    Events(Vec<OwnedEventId>),
    /// These entries of the state before the event, which is the merged state after `prev_events`.
    StateBefore {
        /// The events that it was placed after.
        prev_events: Vec<OwnedEventId>,
        /// The entries.
        keys: Vec<StateKey>,
    },
    /// These entries of the room's current state.
    CurrentState {
        /// The entries.
        keys: Vec<StateKey>,
    },
}

/// Facts that were found.
#[derive(Debug, Clone)]
pub enum Facts {
    /// Nothing yet: the first step.
    Start,
    /// The keys asked for, as far as there are any.
    Keys(KeyRing),
    /// Instead of keys: the signatures were checked before, over the same text.
    VerifiedBefore,
    /// The events asked for, as far as they are held.
    Events(HashMap<OwnedEventId, Arc<Event>>),
    /// Instead of events: [`Precedents`](crate::precedents::Precedents) of the room cover this one.
    AllowedBefore,
    /// The entries asked for, as far as the state has them.
    State(StateMap<Arc<Event>>),
    /// What was asked for could not be found out.
    Unknown,
}

/// What the rules say about an event.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It belongs to the room, and is shown.
    Accept(Arc<Event>),
    /// It was allowed where it stands, but is not now: kept, not shown, not built upon.
    SoftFail(Arc<Event>, Refusal),
    /// It was never allowed: kept as refused, so that it is not asked for again.
    Reject(Arc<Event>, Refusal),
    /// It is not an event of its sender, or not one at all: nothing is kept.
    Drop(String),
    /// It cannot be judged now. Not rejected: it is judged afresh when it comes again or what it lacks does.
    Hold(String),
}

/// How much of the room is known around an event, and so which checks apply.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
enum Scope {
    /// It is new: all checks.
    Live,
    /// It is older than what is held: what the room says now is no matter.
    History,
    /// It is needed to judge others, and its place in the room is not known: checks up to its auth events.
    AuthChain,
}

enum Stage {
    Raw(RawPdu, Caps),
    Shaped(WellFormedPdu),
    Signed(Arc<Event>, Option<Refusal>),
    Allowed(Arc<Event>),
    Standing(Arc<Event>),
    Over(Verdict),
}

/// One event on its way in.
pub struct Intake {
    version: Version,
    scope: Scope,
    stage: Stage,
}

impl Intake {
    /// Takes in a new event of a room of this version.
    #[must_use]
    pub fn new(version: Version, raw: RawPdu, caps: Caps) -> Self {
        Self { version, scope: Scope::Live, stage: Stage::Raw(raw, caps) }
    }

    /// Takes in an event from before what is held: it cannot soft-fail, and its lists are not capped.
    #[must_use]
    pub fn of_history(version: Version, raw: RawPdu) -> Self {
        Self { version, scope: Scope::History, stage: Stage::Raw(raw, Caps::Lifted) }
    }

    /// [`Intake::new`] for an event whose form was checked with the lists as long as they may be in history.
    #[must_use]
    pub fn of_formed(version: Version, pdu: WellFormedPdu) -> Self {
        let stage = match check_caps(&pdu) {
            Ok(()) => Stage::Shaped(pdu),
            Err(error) => Stage::Over(Verdict::Drop(error.to_string())),
        };
        Self { version, scope: Scope::Live, stage }
    }

    /// [`Intake::of_history`] for an event whose form was checked.
    #[must_use]
    pub fn of_formed_history(version: Version, pdu: WellFormedPdu) -> Self {
        Self { version, scope: Scope::History, stage: Stage::Shaped(pdu) }
    }

    /// Takes in an event of an auth chain or of a state that a peer handed over: accepting it says only that it may be
    /// leant on. When it comes as an event of the timeline it is taken in again.
    #[must_use]
    pub fn of_auth_chain(version: Version, raw: RawPdu) -> Self {
        Self { version, scope: Scope::AuthChain, stage: Stage::Raw(raw, Caps::Lifted) }
    }

    /// Goes no further than the event's auth events: its place in the room is not known.
    #[must_use]
    pub fn without_a_place(self) -> Self {
        Self { scope: Scope::AuthChain, ..self }
    }

    /// What the event says of itself, before its signatures are checked.
    #[must_use]
    pub fn formed(&self) -> Option<&WellFormedPdu> {
        match &self.stage {
            Stage::Shaped(pdu) => Some(pdu),
            _ => None,
        }
    }

    /// What the rules refuse of an event whose signatures were checked, whatever it leans on.
    #[must_use]
    pub fn refused_by_itself(&self) -> Option<&Refusal> {
        match &self.stage {
            Stage::Signed(_, refused) => refused.as_ref(),
            _ => None,
        }
    }

    /// The event, once its signatures were checked.
    #[must_use]
    pub fn event(&self) -> Option<&Arc<Event>> {
        match &self.stage {
            Stage::Signed(event, _) | Stage::Allowed(event) | Stage::Standing(event) => Some(event),
            Stage::Over(Verdict::Accept(event) | Verdict::SoftFail(event, _) | Verdict::Reject(event, _)) => {
                Some(event)
            }
            Stage::Raw(..) | Stage::Shaped(_) | Stage::Over(Verdict::Drop(_) | Verdict::Hold(_)) => None,
        }
    }

    /// Goes on with the facts that were asked for. After a verdict of accept or soft-fail a further [`Facts::State`]
    /// judges again by a current state that has changed meanwhile.
    pub fn step(&mut self, facts: Facts) -> Step {
        let unfinished = Stage::Over(Verdict::Hold("judging it did not end".to_owned()));
        let (stage, step) = match (mem::replace(&mut self.stage, unfinished), facts) {
            (Stage::Raw(raw, caps), Facts::Start) => self.shape(&raw, caps),
            (Stage::Shaped(pdu), Facts::Start) => self.shaped(pdu),
            (Stage::Shaped(pdu), Facts::Keys(keys)) => self.sign(pdu, &keys),
            (Stage::Shaped(pdu), Facts::VerifiedBefore) => {
                let oversized = pdu.oversized;
                self.signed(verified_before(pdu, &self.version), oversized)
            }
            (Stage::Signed(event, oversized), Facts::Events(events)) => self.allow(&event, oversized, &events),
            (Stage::Signed(event, None), Facts::AllowedBefore) => self.allowed(&event),
            (Stage::Allowed(event), Facts::State(state)) => self.place(&event, &state),
            (Stage::Standing(event), Facts::State(state)) => self.conclude(&event, &state),
            (Stage::Over(Verdict::Accept(event) | Verdict::SoftFail(event, _)), Facts::State(state)) => {
                self.conclude(&event, &state)
            }
            (Stage::Over(verdict), _) => over(verdict),
            (_, Facts::Unknown) => over(Verdict::Hold("what it depends on could not be found".to_owned())),
            (_, _) => over(Verdict::Hold("other facts were asked for".to_owned())),
        };
        self.stage = stage;
        step
    }

    /// Step 1.
    fn shape(&self, raw: &RawPdu, caps: Caps) -> (Stage, Step) {
        match parse(raw, &self.version, caps) {
            Ok(pdu) => self.shaped(pdu),
            Err(error) => over(Verdict::Drop(error.to_string())),
        }
    }

    fn shaped(&self, pdu: WellFormedPdu) -> (Stage, Step) {
        match required_keys(&pdu, &self.version) {
            Ok(keys) => (Stage::Shaped(pdu), Step::Need(Need::Keys(keys))),
            Err(error) => over(Verdict::Drop(error.to_string())),
        }
    }

    /// Steps 2 and 3.
    fn sign(&self, pdu: WellFormedPdu, keys: &KeyRing) -> (Stage, Step) {
        let oversized = pdu.oversized;
        match verify(pdu, keys, &self.version) {
            Ok(signed) => self.signed(signed, oversized),
            Err(error @ BadSignature::UnknownKey(_)) => over(Verdict::Hold(error.to_string())),
            Err(error) => over(Verdict::Drop(error.to_string())),
        }
    }

    fn signed(&self, signed: SignedPdu, oversized: Option<&'static str>) -> (Stage, Step) {
        let oversized = oversized.map(|field| Refusal::new(format!("`{field}` is too long")));
        match signed.into_event(&self.version) {
            Ok(event) => {
                let needed = needed_auth_events(&self.version, &event);
                (Stage::Signed(Arc::new(event), oversized), Step::Need(Need::Events(needed)))
            }
            Err(error) => over(Verdict::Drop(error.to_string())),
        }
    }

    /// Step 4.
    fn allow(
        &self,
        event: &Arc<Event>,
        oversized: Option<Refusal>,
        events: &HashMap<OwnedEventId, Arc<Event>>,
    ) -> (Stage, Step) {
        if let Some(refusal) = oversized {
            return reject(event, refusal);
        }
        if let Some(missing) = needed_auth_events(&self.version, event).iter().find(|id| !events.contains_key(*id)) {
            return over(Verdict::Hold(format!("the auth event `{missing}` is missing")));
        }
        if let Err(refusal) = check_auth_events(&self.version, event, |id| events.get(id).cloned()) {
            return reject(event, refusal);
        }
        self.allowed(event)
    }

    fn allowed(&self, event: &Arc<Event>) -> (Stage, Step) {
        if self.scope == Scope::AuthChain || *event.kind() == TimelineEventType::RoomCreate {
            return over(Verdict::Accept(Arc::clone(event)));
        }
        match needed_state_of(&self.version, event) {
            Ok(keys) => {
                let prev_events = event.prev_events().to_vec();
                (Stage::Allowed(Arc::clone(event)), Step::Need(Need::StateBefore { prev_events, keys }))
            }
            Err(refusal) => reject(event, refusal),
        }
    }

    /// Step 5.
    fn place(&self, event: &Arc<Event>, state: &StateMap<Arc<Event>>) -> (Stage, Step) {
        // Most events were just judged by the very same.
        let needed = needed_auth_events(&self.version, event);
        let is_same = state.len() == needed.len() && state.values().all(|held| needed.contains(held.event_id()));
        if !is_same && let Err(refusal) = check(&self.version, event, state) {
            return reject(event, refusal);
        }
        if self.scope == Scope::History {
            return over(Verdict::Accept(Arc::clone(event)));
        }
        match needed_state_of(&self.version, event) {
            Ok(keys) => (Stage::Standing(Arc::clone(event)), Step::Need(Need::CurrentState { keys })),
            Err(refusal) => reject(event, refusal),
        }
    }

    /// Step 6.
    fn conclude(&self, event: &Arc<Event>, state: &StateMap<Arc<Event>>) -> (Stage, Step) {
        match check(&self.version, event, state) {
            Ok(()) => over(Verdict::Accept(Arc::clone(event))),
            Err(refusal) => over(Verdict::SoftFail(Arc::clone(event), refusal)),
        }
    }
}

fn reject(event: &Arc<Event>, refusal: Refusal) -> (Stage, Step) {
    over(Verdict::Reject(Arc::new(Event::clone(event).into_rejected()), refusal))
}

fn over(verdict: Verdict) -> (Stage, Step) {
    (Stage::Over(verdict.clone()), Step::Done(verdict))
}

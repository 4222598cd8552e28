//! The first steps of taking an event in: its form, its signatures, its hash, with the keys that the network finds. Where the rest is decided depends on what
//! the event is for: [`crate::actions::append::remote`] takes it into the room, [`Checked::judge`] only says whether others may lean on it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use rules::{
    UnixMs,
    authorization::Refusal,
    event::{Event, RawPdu, WellFormedPdu},
    format::{self, Caps},
    intake::{Facts, Intake, Need, Step, Verdict},
    keys::KeyRing,
    version::Version,
};
use ruma::{OwnedEventId, OwnedServerName, events::TimelineEventType};

use super::guests::Met;
use crate::{actions::Actions, clock::Clock};

/// What an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::actions) enum Purpose {
    /// It is new.
    Timeline,
    /// It is older than what is held.
    History,
    /// Others lean on it.
    AuthChain,
}

/// An event whose form, signatures and hash were checked.
pub(in crate::actions) struct Checked {
    pub(in crate::actions) event: Arc<Event>,
    intake: Intake,
}

/// What came of the first steps.
pub(in crate::actions) enum First {
    Checked(Box<Checked>),
    /// It is no event, or not of its sender.
    Dropped(String),
    /// A key is not known.
    Held(String),
}

/// The id and the room of an event, if its form is right.
pub(in crate::actions) fn shape(raw: &RawPdu, version: &Version, purpose: Purpose) -> Option<WellFormedPdu> {
    let caps = if purpose == Purpose::Timeline { Caps::Enforced } else { Caps::Lifted };
    format::parse(raw, version, caps).ok()
}

/// An event of a room as a peer gave it: its form is right, and no more is known of it.
pub(in crate::actions) struct Given {
    pub(in crate::actions) event_id: OwnedEventId,
    pub(in crate::actions) prev_events: Vec<OwnedEventId>,
    pub(in crate::actions) raw: RawPdu,
}

impl Given {
    /// None: it is something else.
    pub(in crate::actions) fn read(met: &Met, raw: RawPdu, purpose: Purpose) -> Option<Self> {
        let pdu = shape(&raw, &met.version(), purpose).filter(|pdu| *pdu.room_id() == met.room.id)?;
        let (event_id, prev_events) = (pdu.event_id().clone(), pdu.prev_events().to_vec());
        Some(Self { event_id, prev_events, raw })
    }

    /// Its id, and the events before it, for [`super::oldest_first`].
    pub(in crate::actions) fn named(&self) -> (&OwnedEventId, &[OwnedEventId]) {
        (&self.event_id, &self.prev_events)
    }
}

/// An event whose form is right.
pub(in crate::actions) struct Formed {
    intake: Intake,
    needed: BTreeSet<(OwnedServerName, String)>,
}

impl Formed {
    /// What the event says of itself. None of it is proven yet.
    pub(in crate::actions) fn pdu(&self) -> Option<&WellFormedPdu> {
        self.intake.formed()
    }

    /// Steps 2 and 3.
    pub(in crate::actions) async fn check(mut self, actions: &Actions) -> First {
        let at = self.made_at(actions);
        let keys = keys(actions, std::mem::take(&mut self.needed), at).await;
        self.check_with(keys)
    }

    fn made_at(&self, actions: &Actions) -> UnixMs {
        self.pdu().map_or_else(|| Clock::now(&*actions.clock), WellFormedPdu::origin_server_ts)
    }

    fn check_with(self, keys: KeyRing) -> First {
        self.go_on(Facts::Keys(keys))
    }

    fn go_on(mut self, facts: Facts) -> First {
        match self.intake.step(facts) {
            Step::Done(verdict) => over(verdict),
            Step::Need(_) => match self.intake.event().cloned() {
                Some(event) => First::Checked(Box::new(Checked { event, intake: self.intake })),
                None => First::Held("it has no event".to_owned()),
            },
        }
    }
}

/// Step 1; or what became of the event.
pub(in crate::actions) fn form(version: Version, raw: RawPdu, purpose: Purpose) -> Result<Formed, First> {
    begin(match purpose {
        Purpose::Timeline => Intake::new(version, raw, Caps::Enforced),
        Purpose::History => Intake::of_history(version, raw),
        Purpose::AuthChain => Intake::of_auth_chain(version, raw),
    })
}

fn begin(mut intake: Intake) -> Result<Formed, First> {
    match intake.step(Facts::Start) {
        Step::Need(Need::Keys(needed)) => Ok(Formed { intake, needed }),
        Step::Need(_) => Err(First::Held("it asked for something else than keys".to_owned())),
        Step::Done(verdict) => Err(over(verdict)),
    }
}

/// Step 3, for an event whose signatures were checked before, over the same text.
pub(in crate::actions) fn verified_before(version: Version, pdu: WellFormedPdu, purpose: Purpose) -> First {
    let intake = match purpose {
        Purpose::Timeline => Intake::of_formed(version, pdu),
        Purpose::History => Intake::of_formed_history(version, pdu),
        Purpose::AuthChain => Intake::of_formed_history(version, pdu).without_a_place(),
    };
    match begin(intake) {
        Ok(formed) => formed.go_on(Facts::VerifiedBefore),
        Err(first) => first,
    }
}

/// Steps 2 and 3 of several events, most of which need the same keys.
pub(in crate::actions) async fn check_all(actions: &Actions, all: Vec<Result<Formed, First>>) -> Vec<First> {
    let formed = || all.iter().flatten();
    let needed = formed().flat_map(|formed| &formed.needed).cloned().collect();
    let at = formed().map(|formed| formed.made_at(actions)).max();
    let keys = match at {
        Some(at) => keys(actions, needed, at).await,
        None => KeyRing::new(),
    };
    let check = |formed: Formed| {
        let keys = keys.only(&formed.needed);
        formed.check_with(keys)
    };
    all.into_iter().map(|one| one.map_or_else(|first| first, check)).collect()
}

/// Steps 1 to 3.
pub(in crate::actions) async fn check(actions: &Actions, version: Version, raw: RawPdu, purpose: Purpose) -> First {
    match form(version, raw, purpose) {
        Ok(formed) => formed.check(actions).await,
        Err(first) => first,
    }
}

/// Keys of servers, our own among them, as far as they are found.
pub(in crate::actions) async fn keys(
    actions: &Actions,
    needed: BTreeSet<(OwnedServerName, String)>,
    at: UnixMs,
) -> KeyRing {
    let (own, foreign): (BTreeSet<_>, BTreeSet<_>) =
        needed.into_iter().partition(|(server, _)| *server == actions.server_name);
    let mut keys = actions.own_keys.only(&own);
    if !foreign.is_empty() {
        keys.extend(actions.peers().keys(&foreign, at).await);
    }
    keys
}

fn over(verdict: Verdict) -> First {
    match verdict {
        Verdict::Hold(reason) => First::Held(reason),
        Verdict::Drop(reason) => First::Dropped(reason),
        Verdict::Accept(_) | Verdict::SoftFail(..) | Verdict::Reject(..) => {
            First::Dropped("it was judged before it was checked".to_owned())
        }
    }
}

/// How an event was judged by its auth events.
pub(in crate::actions) enum Leaning {
    /// Others may lean on it.
    Sound,
    /// Nobody may.
    Refused(Refusal),
    /// What it leans on itself is not known.
    Unknown,
}

impl Checked {
    /// What the rules refuse without knowing anything else: a field that is too long in versions that keep such events.
    pub(in crate::actions) fn refused_by_itself(self) -> (Arc<Event>, Option<Refusal>) {
        let is_create = *self.event.kind() == TimelineEventType::RoomCreate;
        let refused = self.intake.refused_by_itself().filter(|_| !is_create).cloned();
        (self.event, refused)
    }

    /// Step 4, for an event that others lean on.
    pub(in crate::actions) fn judge(mut self, auth_events: HashMap<OwnedEventId, Arc<Event>>) -> (Arc<Event>, Leaning) {
        let leaning = match self.intake.step(Facts::Events(auth_events)) {
            Step::Done(Verdict::Accept(_) | Verdict::SoftFail(..)) => Leaning::Sound,
            Step::Done(Verdict::Reject(_, refusal)) => Leaning::Refused(refusal),
            Step::Done(Verdict::Drop(_) | Verdict::Hold(_)) | Step::Need(_) => Leaning::Unknown,
        };
        (self.event, leaning)
    }
}

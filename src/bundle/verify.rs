//! Checking a bundle without a server and without a network: its entries, its manifest, then each event by the steps of `rules::intake`, and the state that they
//! make against the one that the manifest names.
//!
//! Proven are content, ids, signatures and the right of each event to be there. The state before an event behind a hole is what the exporter says.

use std::{collections::BTreeMap, num::NonZeroUsize, path::Path, sync::Arc, thread};

use rules::{
    authorization::Refusal,
    canonical,
    event::Event,
    intake::{Facts, Intake, Need, Step, Verdict},
    keys::KeyRing,
    state::{StateMap, change_of},
    version::Version,
};
use ruma::{OwnedEventId, OwnedServerName, OwnedUserId, events::StateEventType};

use super::{
    Archive, Fault, MANIFEST, Manifest,
    events::{self, Around, Bundled},
    manifest::{SignedManifest, state_digest},
};

pub(crate) mod graph;
mod known;
mod states;

use graph::Graph;
use known::Known;
use states::{State, States};

/// Events whose signatures are checked together, on all cores.
const TOGETHER: usize = 512;
/// Events against the rules that are named.
const REFUSED_NAMED_MAX: usize = 20;
/// Events of one server, and of all, that are named to whoever does not take them.
const SENT_NAMED_MAX: usize = 100;
const SENT_NAMED_OF_ALL_MAX: usize = 10_000;
/// The types of the state events without a state key that [`Verified::settings`] has.
pub const SETTINGS: [&str; 8] = [
    "m.room.avatar",
    "m.room.history_visibility",
    "m.room.join_rules",
    "m.room.name",
    "m.room.power_levels",
    "m.room.server_acl",
    "m.room.topic",
    rules::kind::ANNOUNCEMENT,
];

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes more were inflated, out of that many.
    Bytes(u64, u64),
    /// So many events more were read, out of as many as the manifest names.
    Read(u64, u64),
    /// So many events more were checked, out of as many as the manifest names.
    Checked(u64, u64),
}

/// A bundle that holds.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What it says.
    pub manifest: Manifest,
    /// Events.
    pub events: u64,
    /// Events before which the state is only what the exporter says.
    pub claims: u64,
    /// Events that the rules refuse and that the manifest says are not shown.
    pub refused: Vec<(OwnedEventId, String)>,
    /// Who has joined, is invited or banned.
    pub members: BTreeMap<OwnedUserId, String>,
    /// What each server's people have sent, the event that made the room and what the rules refuse aside.
    pub sent: BTreeMap<OwnedServerName, Sent>,
    /// The event that made the room.
    pub create: Arc<Event>,
    /// What the room is behind the newest events: those of [`SETTINGS`] that are set.
    pub settings: BTreeMap<String, Arc<Event>>,
}

/// The events of one server's people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// How many.
    pub events: u64,
    /// The first of them.
    pub first: Vec<OwnedEventId>,
}

/// Checks a bundle with these keys. State events lie meanwhile in a file without a name, in the folder `scratch`.
///
/// # Errors
/// The first thing that does not hold; of events against the rules, all; what `progress` says, which may break it off.
pub fn verify(
    archive: &Archive,
    keys: &KeyRing,
    scratch: &Path,
    progress: &mut dyn FnMut(Progress) -> Result<(), Fault>,
) -> Result<Verified, Fault> {
    let signed = archive.manifest()?;
    signed.check(keys)?;
    let SignedManifest { manifest, .. } = signed;
    let bytes_all = manifest.entries.values().map(|facts| facts.size).fold(0, u64::saturating_add);
    archive.check_entries(&manifest, |count| progress(Progress::Bytes(count, bytes_all)))?;
    archive.local(&manifest)?;
    let events_all = manifest.counts.events;
    let graph = Graph::read(archive, &manifest, || progress(Progress::Read(1, events_all)))?;
    let version = events::version(&manifest)?;
    let known = Known::new(version, manifest.room_id.clone(), scratch).map_err(Fault::scratch)?;
    let mut check = Check {
        version,
        manifest: &manifest,
        keys,
        graph,
        known,
        states: States::default(),
        next: 0,
        claims: 0,
        refused: Vec::new(),
        against: Vec::new(),
        sent: BTreeMap::new(),
        sent_named: 0,
    };
    let mut waiting = Vec::with_capacity(TOGETHER);
    events::walk(archive, &manifest, |event| {
        waiting.push(event);
        if waiting.len() < TOGETHER {
            return Ok(());
        }
        progress(Progress::Checked(u64::try_from(waiting.len()).unwrap_or_default(), events_all))?;
        check.several(std::mem::take(&mut waiting))
    })?;
    progress(Progress::Checked(u64::try_from(waiting.len()).unwrap_or_default(), events_all))?;
    check.several(waiting)?;
    let Finished { claims, refused, events, members, sent, create, settings } = check.finish()?;
    Ok(Verified { manifest, events, claims, refused, members, sent, create, settings })
}

/// An event whose signatures hold.
struct Signed {
    bundled: Bundled,
    event: Arc<Event>,
    intake: Intake,
    needs: Vec<OwnedEventId>,
}

struct Check<'a> {
    version: Version,
    manifest: &'a Manifest,
    keys: &'a KeyRing,
    graph: Graph,
    known: Known,
    states: States,
    next: u32,
    claims: u64,
    refused: Vec<(OwnedEventId, String)>,
    against: Vec<(OwnedEventId, String)>,
    sent: BTreeMap<OwnedServerName, Sent>,
    sent_named: usize,
}

struct Finished {
    claims: u64,
    refused: Vec<(OwnedEventId, String)>,
    events: u64,
    members: BTreeMap<OwnedUserId, String>,
    sent: BTreeMap<OwnedServerName, Sent>,
    create: Arc<Event>,
    settings: BTreeMap<String, Arc<Event>>,
}

impl Check<'_> {
    /// Steps 1 to 3 on all cores, then the others one event after the other.
    fn several(&mut self, events: Vec<Bundled>) -> Result<(), Fault> {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let part = events.len().div_ceil(cores).max(1);
        let (version, keys) = (self.version, self.keys);
        let mut parts = Vec::with_capacity(cores);
        let mut rest = events.into_iter();
        loop {
            let some: Vec<Bundled> = rest.by_ref().take(part).collect();
            if some.is_empty() {
                break;
            }
            parts.push(some);
        }
        let signed = thread::scope(|scope| {
            let sign = |some: Vec<Bundled>| some.into_iter().map(|one| sign(one, version, keys)).collect::<Vec<_>>();
            let running: Vec<_> = parts.into_iter().map(|some| scope.spawn(move || sign(some))).collect();
            running.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        for part in signed {
            for one in part.map_err(|_panic| Fault::new("a check broke off"))? {
                self.one(one?)?;
            }
        }
        Ok(())
    }

    fn one(&mut self, signed: Signed) -> Result<(), Fault> {
        let Signed { bundled, event, mut intake, needs } = signed;
        let number = self.next;
        self.next += 1;
        let is_create = event.type_str() == "m.room.create";
        if is_create != (number == 0) {
            return Err(bundled.fault("the first event, and no other, has to be the one that made the room"));
        }
        let mut leaning = std::collections::HashMap::new();
        for id in needs {
            let Some(auth_event) = self.known.get(&id) else {
                return Err(bundled.fault(format!("the event `{id}`, which has to allow it, does not come before it")));
            };
            leaning.insert(id, auth_event);
        }
        let before = self.before(&bundled)?;
        let mut step = intake.step(Facts::Events(leaning));
        if let (Step::Need(Need::StateBefore { keys, .. }), Some(before)) = (&step, &before) {
            let found = keys.iter().filter_map(|key| {
                let id = before.get(key)?;
                Some((key.clone(), self.known.get(id)?))
            });
            let found: StateMap<Arc<Event>> = found.collect();
            step = intake.step(Facts::State(found));
        }
        let refused = match step {
            Step::Done(Verdict::Accept(_) | Verdict::SoftFail(..)) => None,
            Step::Done(Verdict::Reject(_, refusal)) => Some(refusal),
            Step::Done(Verdict::Drop(problem) | Verdict::Hold(problem)) => return Err(bundled.fault(problem)),
            Step::Need(_) => {
                let problem = "some of what stands before it is not in the bundle, and the state there is not told";
                return Err(bundled.fault(problem));
            }
        };
        self.note(&bundled, event, before, (number, refused))
    }

    fn note(
        &mut self,
        bundled: &Bundled,
        event: Arc<Event>,
        before: Option<State>,
        (number, refused): (u32, Option<Refusal>),
    ) -> Result<(), Fault> {
        let is_refused = refused.is_some();
        if let Some(refusal) = refused {
            let about = (bundled.event_id.clone(), refusal.reason().to_owned());
            // What is held only because others lean on it may have been refused: then nobody may.
            if self.manifest.hidden.contains(&bundled.event_id) || bundled.around == Around::Unknown {
                self.refused.push(about);
            } else {
                self.against.push(about);
            }
        } else if number > 0 {
            self.count(&event);
        }
        let event = if is_refused { Arc::new(Event::clone(&event).into_rejected()) } else { event };
        if event.is_state() {
            self.known.keep(&event).map_err(Fault::scratch)?;
        }
        let Some(before) = before else { return Ok(()) };
        let after = if is_refused { before } else { states::with(before, &event) };
        self.states.keep(number, after, &self.graph)
    }

    fn count(&mut self, event: &Event) {
        let server = event.sender().server_name();
        if !self.sent.contains_key(server) {
            self.sent.insert(server.to_owned(), Sent::default());
        }
        let Some(sent) = self.sent.get_mut(server) else { return };
        sent.events += 1;
        if sent.first.len() < SENT_NAMED_MAX && self.sent_named < SENT_NAMED_OF_ALL_MAX {
            self.sent_named += 1;
            sent.first.push(event.event_id().clone());
        }
    }

    fn before(&mut self, bundled: &Bundled) -> Result<Option<State>, Fault> {
        let of_parents = self.states.before(bundled, (&mut self.graph, &self.known, &self.version))?;
        match &bundled.around {
            Around::Parents => Ok(of_parents),
            Around::Unknown => Ok(None),
            Around::Claimed(ids) => {
                self.claims += 1;
                let mut state = StateMap::with_capacity(ids.len());
                for id in ids {
                    let event = self.known.get(id);
                    let missing =
                        || bundled.fault(format!("the event `{id}` of the state before it does not come before it"));
                    let event = event.ok_or_else(missing)?;
                    let key = change_of(&event).filter(|_| !event.rejected());
                    let key =
                        key.ok_or_else(|| bundled.fault(format!("the event `{id}` cannot be part of a state")))?;
                    if state.insert(key, id.clone()).is_some() {
                        return Err(bundled.fault("the state before it has two events for one entry"));
                    }
                }
                Ok(Some(Arc::new(state)))
            }
        }
    }

    fn finish(self) -> Result<Finished, Fault> {
        let wrong = |problem: String| Fault::of(MANIFEST, problem);
        if !self.against.is_empty() {
            let named = self.against.iter().take(REFUSED_NAMED_MAX);
            let named: Vec<String> = named.map(|(id, reason)| format!("`{id}`: {reason}")).collect();
            let more = self.against.len() - named.len();
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            return Err(Fault::new(format!("the rules of the room forbid {}{more}", named.join("; "))));
        }
        let events = u64::try_from(self.graph.len()).unwrap_or(u64::MAX);
        if events != self.manifest.counts.events {
            return Err(wrong(format!("it counts {} events, there are {events}", self.manifest.counts.events)));
        }
        if self.manifest.extremities.is_empty() {
            return Err(wrong("it names no newest event".to_owned()));
        }
        if let Some(id) = self.manifest.hidden.iter().find(|id| self.graph.number(id).is_none()) {
            return Err(wrong("it names it as not shown, and it is not in the bundle".to_owned()).about(id));
        }
        let around = (&self.graph, &self.known, &self.version);
        let state = self.states.behind_all(&self.manifest.extremities, around)?;
        let entries = state.iter().map(|((kind, key), id)| (kind.to_string(), key.as_str(), id.as_str()));
        let entries: Vec<(String, &str, &str)> = entries.collect();
        let digest = state_digest(entries.iter().map(|(kind, key, id)| (kind.as_str(), *key, *id)));
        if digest != self.manifest.state {
            return Err(wrong(format!("`state`: the events make a state with the digest {digest}")));
        }
        let members = self.members(&state)?;
        let found = |kind: StateEventType| state.get(&(kind, String::new())).and_then(|id| self.known.get(id));
        let create = found(StateEventType::RoomCreate);
        let create = create.ok_or_else(|| wrong("`state`: the room was never made".to_owned()))?;
        let settings = SETTINGS.into_iter().filter_map(|kind| Some((kind.to_owned(), found(kind.into())?)));
        let settings = settings.collect();
        let Self { claims, refused, sent, .. } = self;
        Ok(Finished { claims, refused, events, members, sent, create, settings })
    }

    /// Who is in the room, which the manifest has to say too.
    fn members(&self, state: &State) -> Result<BTreeMap<OwnedUserId, String>, Fault> {
        #[derive(serde::Deserialize)]
        struct Content {
            membership: String,
        }
        let mut members = BTreeMap::new();
        for ((kind, key), id) in state.iter() {
            if *kind != StateEventType::RoomMember {
                continue;
            }
            let content = self.known.get(id).and_then(|event| event.content_as::<Content>().ok());
            let membership = content.map(|content| content.membership).unwrap_or_default();
            if let (Ok(user_id), "join" | "invite" | "ban") = (OwnedUserId::try_from(key.as_str()), membership.as_str())
            {
                members.insert(user_id, membership);
            }
        }
        let named = self.manifest.members.iter().map(|member| (&member.participant_id, &member.membership));
        let named: BTreeMap<&OwnedUserId, &String> = named.collect();
        if named.len() != members.len() || members.iter().any(|(user_id, is)| named.get(user_id) != Some(&is)) {
            return Err(Fault::of(MANIFEST, "`members`: the state has other members"));
        }
        Ok(members)
    }
}

/// Steps 1 to 3.
fn sign(bundled: Bundled, version: Version, keys: &KeyRing) -> Result<Signed, Fault> {
    let mut intake = match bundled.around {
        Around::Unknown => Intake::of_auth_chain(version, bundled.raw.clone()),
        Around::Parents | Around::Claimed(_) => Intake::of_history(version, bundled.raw.clone()),
    };
    let mut step = intake.step(Facts::Start);
    if let Step::Need(Need::Keys(needed)) = &step {
        let ring = keys.only(needed);
        step = intake.step(Facts::Keys(ring));
    }
    let needs = match step {
        Step::Need(Need::Events(needs)) => needs,
        Step::Done(Verdict::Drop(problem) | Verdict::Hold(problem)) => return Err(bundled.fault(problem)),
        Step::Need(_) | Step::Done(_) => return Err(bundled.fault("it was judged before it was checked")),
    };
    let Some(event) = intake.event().cloned() else { return Err(bundled.fault("it is no event")) };
    let is_whole = bundled.raw.0.get() == event.json() || canonical_form(&bundled).as_deref() == Some(event.json());
    if !is_whole {
        return Err(bundled.fault("its content is not what its sender has signed"));
    }
    Ok(Signed { bundled, event, intake, needs })
}

fn canonical_form(bundled: &Bundled) -> Option<String> {
    let object = canonical::read_object(bundled.raw.0.get()).ok()?;
    Some(canonical::to_string_without(&object, &["unsigned"]))
}

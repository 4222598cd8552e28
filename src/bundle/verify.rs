//! Checking a bundle without a server and without a network: its entries, its manifest, then each event by the steps of `rules::intake`, and the state that they
//! make against the one that the manifest names.
//!
//! Proven are content, ids, signatures and the right of each event to be there. The state before an event behind a hole is what the exporter says.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use rules::{
    authorization::Refusal,
    canonical,
    event::{Event, WellFormedPdu},
    intake::{Facts, Intake, Need, Step, Verdict},
    keys::KeyRing,
    precedents::Precedents,
    state::{StateMap, change_of},
    version::Version,
};
use ruma::{OwnedEventId, OwnedServerName, OwnedUserId, events::StateEventType};

use super::{
    Archive, Fault, MANIFEST, Manifest, entries,
    events::{self, Around, Bundled},
    manifest::{SignedManifest, state_digest},
};

mod followers;
mod known;
mod states;

use followers::{Counting, Followers};
use known::Known;
use states::{State, States};

/// Events after which it is said how far it is.
const EVENTS_PER_REPORT: u64 = 256;
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
    let events_all = manifest.counts.events;
    let mut counting = Counting::new(events_all);
    let hash = counting.hash();
    let look = |line: &[u8], names: &mut Vec<u64>| followers::note(line, &hash, names);
    entries::check(archive, &manifest, look, |bytes, names| {
        counting.gather(&names)?;
        progress(Progress::Bytes(bytes, bytes_all))
    })?;
    archive.local(&manifest)?;
    let followers = counting.finish(manifest.extremities.iter().map(|id| &**id))?;
    let version = events::version(&manifest)?;
    let known = Known::new(version, manifest.room_id.clone(), scratch).map_err(Fault::scratch)?;
    let mut check = Check {
        version,
        manifest: &manifest,
        followers,
        known,
        states: States::default(),
        precedents: Precedents::default(),
        events: 0,
        claims: 0,
        refused: Vec::new(),
        against: Vec::new(),
        sent: BTreeMap::new(),
        sent_named: 0,
    };
    let mut unreported = 0;
    let signed = |bundled: &Bundled, pdu| sign(bundled, pdu, version, keys);
    events::walk_working(archive, &manifest, signed, |bundled, around, signed| {
        unreported += 1;
        if unreported == EVENTS_PER_REPORT {
            unreported = 0;
            progress(Progress::Checked(EVENTS_PER_REPORT, events_all))?;
        }
        check.one(&bundled, &around, signed)
    })?;
    progress(Progress::Checked(unreported, events_all))?;
    let Finished { claims, refused, events, members, sent, create, settings } = check.finish()?;
    Ok(Verified { manifest, events, claims, refused, members, sent, create, settings })
}

/// An event whose signatures hold.
struct Signed {
    event: Arc<Event>,
    intake: Intake,
    needs: Vec<OwnedEventId>,
}

struct Check<'a> {
    version: Version,
    manifest: &'a Manifest,
    followers: Followers,
    known: Known,
    states: States,
    /// Those that were allowed, for others like them.
    precedents: Precedents,
    events: u64,
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
    /// Steps 4 and 5.
    fn one(&mut self, bundled: &Bundled, around: &Around, signed: Signed) -> Result<(), Fault> {
        let Signed { event, mut intake, needs } = signed;
        if *around == Around::Unknown {
            intake = intake.without_a_place();
        }
        if !self.followers.comes(&bundled.event_id) {
            return Err(bundled.fault("the event is there twice"));
        }
        let is_first = self.events == 0;
        self.events += 1;
        let is_create = event.type_str() == "m.room.create";
        if is_create != is_first {
            return Err(bundled.fault("the first event, and no other, has to be the one that made the room"));
        }
        let leaning = self.leaning(bundled, &event, needs)?;
        let before = self.before(bundled, around)?;
        let mut step = intake.step(leaning);
        if matches!(step, Step::Need(_) | Step::Done(Verdict::Accept(_))) {
            self.precedents.add(&event);
        }
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
        self.note((bundled, around), event, before, (is_first, refused))
    }

    /// What the event leans on. Where one like it was allowed before, nobody has to look.
    fn leaning(&self, bundled: &Bundled, event: &Event, needs: Vec<OwnedEventId>) -> Result<Facts, Fault> {
        if self.precedents.cover(event) {
            return Ok(Facts::AllowedBefore);
        }
        let mut leaning = HashMap::new();
        for id in needs {
            let Some(auth_event) = self.known.get(&id) else {
                return Err(bundled.fault(format!("the event `{id}`, which has to allow it, does not come before it")));
            };
            leaning.insert(id, auth_event);
        }
        Ok(Facts::Events(leaning))
    }

    fn note(
        &mut self,
        (bundled, around): (&Bundled, &Around),
        event: Arc<Event>,
        before: Option<State>,
        (is_first, refused): (bool, Option<Refusal>),
    ) -> Result<(), Fault> {
        let is_refused = refused.is_some();
        if let Some(refusal) = refused {
            let about = (bundled.event_id.clone(), refusal.reason().to_owned());
            // What is held only because others lean on it may have been refused: then nobody may.
            if self.manifest.hidden.contains(&bundled.event_id) || *around == Around::Unknown {
                self.refused.push(about);
            } else {
                self.against.push(about);
            }
        } else if !is_first {
            self.count(&event);
        }
        let event = if is_refused { Arc::new(Event::clone(&event).into_rejected()) } else { event };
        if event.is_state() {
            self.known.keep(&event).map_err(Fault::scratch)?;
        }
        let Some(before) = before else { return Ok(()) };
        let after = if is_refused { before } else { states::with(before, &event) };
        match self.followers.waited_for(&bundled.event_id) {
            Some(number) => self.states.keep(number, after),
            None => Ok(()),
        }
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

    fn before(&mut self, bundled: &Bundled, around: &Around) -> Result<Option<State>, Fault> {
        let of_parents = self.states.before(bundled, (&mut self.followers, &self.known, &self.version))?;
        match around {
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
        let events = self.events;
        if events != self.manifest.counts.events {
            return Err(wrong(format!("it counts {} events, there are {events}", self.manifest.counts.events)));
        }
        if self.manifest.extremities.is_empty() {
            return Err(wrong("it names no newest event".to_owned()));
        }
        if let Some(id) = self.manifest.hidden.iter().find(|id| !self.followers.has_come(id)) {
            return Err(wrong("it names it as not shown, and it is not in the bundle".to_owned()).about(id));
        }
        let around = (&self.followers, &self.known, &self.version);
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

/// Steps 2 and 3.
fn sign(bundled: &Bundled, pdu: WellFormedPdu, version: Version, keys: &KeyRing) -> Result<Signed, Fault> {
    let mut intake = Intake::of_formed_history(version, pdu);
    let mut step = intake.step(Facts::Start);
    if let Step::Need(Need::Keys(needed)) = &step {
        step = intake.step(Facts::Keys(keys.only(needed)));
    }
    let needs = match step {
        Step::Need(Need::Events(needs)) => needs,
        Step::Done(Verdict::Drop(problem) | Verdict::Hold(problem)) => return Err(bundled.fault(problem)),
        Step::Need(_) | Step::Done(_) => return Err(bundled.fault("it was judged before it was checked")),
    };
    let Some(event) = intake.event().cloned() else { return Err(bundled.fault("it is no event")) };
    let is_whole = bundled.raw.0.get() == event.json() || canonical_form(bundled).as_deref() == Some(event.json());
    if !is_whole {
        return Err(bundled.fault("its content is not what its sender has signed"));
    }
    Ok(Signed { event, intake, needs })
}

fn canonical_form(bundled: &Bundled) -> Option<String> {
    let object = canonical::read_object(bundled.raw.0.get()).ok()?;
    Some(canonical::to_string_without(&object, &["unsigned"]))
}

//! Walking through the events of a bundle in the order of the file, each with what the bundle says about the state before it.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        mpsc::{Receiver, SendError, SyncSender, sync_channel},
    },
    thread,
};

use parking_lot::Mutex;
use rules::{
    event::{RawPdu, WellFormedPdu},
    format::{self, Caps},
    version::Version,
};
use ruma::OwnedEventId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Archive, EVENT_LINE_BYTES_MAX, EVENTS, Fault, Manifest, STATE_LINE_BYTES_MAX, STATES,
    read::{LinePlace, Lines},
};

/// A line of `states.ndjson`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateLine {
    /// The event.
    pub event_id: OwnedEventId,
    /// The state before it, as the exporter had it; none: the exporter does not know where in the room the event stands, and holds it only because others lean
    /// on it.
    pub state: Option<Vec<OwnedEventId>>,
}

/// What a bundle says about the state before an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Around {
    /// What the events before it make.
    Parents,
    /// These events: some of those before it are not held.
    Claimed(Vec<OwnedEventId>),
    /// It is not known: the event is held only because others lean on it.
    Unknown,
}

/// An event as it stands in a bundle. Of it only the form was checked.
#[derive(Clone, Debug)]
pub struct Bundled {
    /// The entry that it is in.
    pub entry: Arc<str>,
    /// Its id.
    pub event_id: OwnedEventId,
    /// The events before it.
    pub prev_events: Vec<OwnedEventId>,
    /// As it stands there.
    pub raw: RawPdu,
}

impl Bundled {
    /// Something is wrong with the event.
    pub fn fault(&self, problem: impl std::fmt::Display) -> Fault {
        Fault::of(&self.entry, problem.to_string()).about(&self.event_id)
    }
}

/// Lines that are worked on together, and their bytes.
const LINES_AT_A_TIME: usize = 64;
const LINE_BYTES_AT_A_TIME: usize = 128 * 1024;

/// The version of the room.
///
/// # Errors
/// It is not spoken here.
pub fn version(manifest: &Manifest) -> Result<Version, Fault> {
    Version::parse(&manifest.room_version)
        .ok_or_else(|| Fault::new(format!("rooms of version `{}` are not known here", manifest.room_version)))
}

/// Hands over each event in the order of the file, with what the bundle says about the state before it.
///
/// # Errors
/// Of what is wrong, that which comes first in the file: an entry or a line is not what it should be; what `take` says.
pub fn walk(
    archive: &Archive,
    manifest: &Manifest,
    mut take: impl FnMut(Bundled, Around) -> Result<(), Fault>,
) -> Result<(), Fault> {
    walk_working(archive, manifest, |_, _| Ok(()), |event, around, ()| take(event, around))
}

/// [`walk`], while all processors do `work` on the events that come next; its outcome is handed over with them.
///
/// # Errors
/// As [`walk`]; what `work` says.
pub fn walk_working<T: Send>(
    archive: &Archive,
    manifest: &Manifest,
    work: impl Fn(&Bundled, WellFormedPdu) -> Result<T, Fault> + Sync,
    mut take: impl FnMut(Bundled, Around, T) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let version = version(manifest)?;
    let mut of_states = archive.clone();
    let mut states = match manifest.entries.get(STATES) {
        Some(facts) => Some(Lines::of(&mut of_states, STATES, facts, STATE_LINE_BYTES_MAX)?),
        None => None,
    };
    let mut next = next_state(&mut states)?;
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let (to_workers, parts) = sync_channel::<Part<T>>(workers);
    let (to_here, answers) = sync_channel(workers);
    // Gone with the last worker.
    let parts = Arc::new(Mutex::new(parts));
    let form = |line: Line| {
        let raw = RawValue::from_string(line.text).map(RawPdu).map_err(|error| line.place.fault(error))?;
        let pdu = format::parse(&raw, &version, Caps::Lifted).map_err(|error| line.place.fault(error))?;
        if *pdu.room_id() != manifest.room_id {
            return Err(line.place.fault("it is an event of another room").about(pdu.event_id()));
        }
        let (event_id, prev_events) = (pdu.event_id().clone(), pdu.prev_events().to_vec());
        let bundled = Bundled { entry: line.place.entry, event_id, prev_events, raw };
        let outcome = work(&bundled, pdu)?;
        Ok((bundled, outcome))
    };
    thread::scope(|scope| {
        for parts in std::iter::repeat_n(parts, workers) {
            let form = &form;
            scope.spawn(move || {
                super::stand_back();
                loop {
                    // Whoever waits for a part holds the lock; the others wait for the lock.
                    let part = parts.lock().recv();
                    let Ok(Part { lines, answer }) = part else { return };
                    // Nobody may wait for it any more.
                    answer.send(lines.into_iter().map(form).collect()).ok();
                }
            });
        }
        scope.spawn(move || {
            super::stand_back();
            hand_out(archive, manifest, &to_workers, &to_here);
        });
        for answer in answers {
            let answer: Receiver<Vec<Result<(Bundled, T), Fault>>> = answer?;
            for one in answer.recv().map_err(|_panicked| Fault::new("a check broke off"))? {
                let (bundled, outcome) = one?;
                let around = match next.take_if(|next| next.event_id == bundled.event_id) {
                    None => Around::Parents,
                    Some(line) => {
                        next = next_state(&mut states)?;
                        line.state.map_or(Around::Unknown, Around::Claimed)
                    }
                };
                take(bundled, around, outcome)?;
            }
        }
        Ok(())
    })?;
    match next {
        None => Ok(()),
        Some(line) => {
            let problem = "its event is not in the bundle, or the lines have another order than the events";
            Err(Fault::of(STATES, problem).about(line.event_id))
        }
    }
}

/// A line, and where it stands.
struct Line {
    text: String,
    place: LinePlace,
}

/// Lines for a worker.
struct Part<T> {
    lines: Vec<Line>,
    answer: SyncSender<Vec<Result<(Bundled, T), Fault>>>,
}

/// Who takes in what the workers make of the parts, in their order; or what is wrong behind them.
type ToTaker<T> = SyncSender<Result<Receiver<Vec<Result<(Bundled, T), Fault>>>, Fault>>;

/// Reads the events' lines, until the end, or until nobody wants more.
fn hand_out<T>(archive: &Archive, manifest: &Manifest, workers: &SyncSender<Part<T>>, taker: &ToTaker<T>) {
    let mut archive = archive.clone();
    let (mut lines, mut bytes) = (Vec::new(), 0);
    let hand_over = |lines: &mut Vec<Line>| {
        let (answer, awaited) = sync_channel(1);
        taker.send(Ok(awaited)).map_err(gone)?;
        workers.send(Part { lines: std::mem::take(lines), answer }).map_err(gone)
    };
    let mut read = || {
        for (name, facts) in manifest.entries.iter().filter(|(name, _)| name.starts_with(EVENTS)) {
            let mut of_entry = Lines::of(&mut archive, name, facts, EVENT_LINE_BYTES_MAX)?;
            while let Some(text) = of_entry.line()? {
                bytes += text.len();
                lines.push(Line { text, place: of_entry.place().clone() });
                if lines.len() >= LINES_AT_A_TIME || bytes >= LINE_BYTES_AT_A_TIME {
                    bytes = 0;
                    hand_over(&mut lines)?;
                }
            }
        }
        Ok(())
    };
    let read: Result<(), Fault> = read();
    // What stands before the fault is looked at before it.
    if hand_over(&mut lines).is_ok()
        && let Err(fault) = read
    {
        taker.send(Err(fault)).ok();
    }
}

fn gone<T>(_closed: SendError<T>) -> Fault {
    Fault::new("nobody reads it any more")
}

fn next_state(states: &mut Option<Lines<'_>>) -> Result<Option<StateLine>, Fault> {
    let Some(lines) = states else { return Ok(None) };
    let Some(line) = lines.line()? else { return Ok(None) };
    serde_json::from_str(&line).map(Some).map_err(|error| lines.place().fault(error))
}

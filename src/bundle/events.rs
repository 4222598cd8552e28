//! Walking through the events of a bundle in the order of the file, each with what the bundle says about the state before it.

use rules::{
    event::RawPdu,
    format::{self, Caps},
    version::Version,
};
use ruma::OwnedEventId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Archive, EVENT_LINE_BYTES_MAX, EVENTS, Fault, Manifest, STATE_LINE_BYTES_MAX, STATES, read::Lines};

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

/// An event of a bundle. Of it only the form was checked.
#[derive(Clone, Debug)]
pub struct Bundled {
    /// The entry that it is in.
    pub entry: String,
    /// Its id.
    pub event_id: OwnedEventId,
    /// The events before it.
    pub prev_events: Vec<OwnedEventId>,
    /// As it stands there.
    pub raw: RawPdu,
    /// What the bundle says about the state before it.
    pub around: Around,
}

impl Bundled {
    /// Something is wrong with the event.
    pub fn fault(&self, problem: impl std::fmt::Display) -> Fault {
        Fault::of(&self.entry, problem.to_string()).about(&self.event_id)
    }
}

/// The version of the room.
///
/// # Errors
/// It is not spoken here.
pub fn version(manifest: &Manifest) -> Result<Version, Fault> {
    Version::parse(&manifest.room_version)
        .ok_or_else(|| Fault::new(format!("rooms of version `{}` are not known here", manifest.room_version)))
}

/// Hands over each event in the order of the file.
///
/// # Errors
/// An entry or a line is not what it should be; what `take` says.
pub fn walk(
    archive: &Archive,
    manifest: &Manifest,
    mut take: impl FnMut(Bundled) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let version = version(manifest)?;
    let (mut segments, mut of_states) = (archive.clone(), archive.clone());
    let mut states = match manifest.entries.get(STATES) {
        Some(facts) => Some(Lines::of(&mut of_states, STATES, facts, STATE_LINE_BYTES_MAX)?),
        None => None,
    };
    let mut next = next_state(&mut states)?;
    for (name, facts) in manifest.entries.iter().filter(|(name, _)| name.starts_with(EVENTS)) {
        let mut lines = Lines::of(&mut segments, name, facts, EVENT_LINE_BYTES_MAX)?;
        while let Some(line) = lines.line()? {
            let raw = RawPdu(RawValue::from_string(line).map_err(|error| lines.fault(error))?);
            let pdu = format::parse(&raw, &version, Caps::Lifted).map_err(|error| lines.fault(error))?;
            if *pdu.room_id() != manifest.room_id {
                return Err(lines.fault("it is an event of another room").about(pdu.event_id()));
            }
            let around = match next.take_if(|next| next.event_id == *pdu.event_id()) {
                None => Around::Parents,
                Some(line) => {
                    next = next_state(&mut states)?;
                    line.state.map_or(Around::Unknown, Around::Claimed)
                }
            };
            let (event_id, prev_events) = (pdu.event_id().clone(), pdu.prev_events().to_vec());
            take(Bundled { entry: name.clone(), event_id, prev_events, raw, around })?;
        }
    }
    match next {
        None => Ok(()),
        Some(line) => {
            let problem = "its event is not in the bundle, or the lines have another order than the events";
            Err(Fault::of(STATES, problem).about(line.event_id))
        }
    }
}

fn next_state(states: &mut Option<Lines<'_>>) -> Result<Option<StateLine>, Fault> {
    let Some(lines) = states else { return Ok(None) };
    let Some(line) = lines.line()? else { return Ok(None) };
    serde_json::from_str(&line).map(Some).map_err(|error| lines.fault(error))
}

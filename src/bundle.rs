//! The room bundle: a room as one file that proves itself. Writing it as a stream, reading what anybody may have made, and checking it without a server.
//!
//! A bundle is federation in a file: its events pass `rules::intake` like those of a peer. `docs/bundle-format.md` is the format for other projects.
//! May import: rules, ruma, zip, sha2, serde, rustix. Never: storage, actions, api, federation.

use std::fmt;

pub mod entries;
pub mod events;
pub mod manifest;
pub mod read;
pub mod verify;
pub mod write;

pub use manifest::{BundledPersonal, Local, Manifest};
pub use read::Archive;
pub use verify::{Verified, verify};

/// What `format` in the manifest says.
pub const FORMAT: &str = "yurt.room-bundle";
/// The version of the format that is written. A reader takes all versions up to its own; a change that an older reader would misread gets a new one.
pub const VERSION: u64 = 1;

/// The entry that says what all others are.
pub const MANIFEST: &str = "manifest.json";
/// The states that cannot be told from the events before.
pub const STATES: &str = "states.ndjson";
/// What no event carries.
pub const LOCAL: &str = "local.json";
/// Where the segments of events are.
pub const EVENTS: &str = "events/";
/// Where the media are.
pub const MEDIA: &str = "media/";

/// Events of one segment.
pub const SEGMENT_EVENTS_MAX: u64 = 10_000;
/// Bytes of one segment, as they are before they are deflated. It may be more by one event.
pub const SEGMENT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of a line that holds an event: the largest event, and room for white space that others may write.
pub const EVENT_LINE_BYTES_MAX: usize = 128 * 1024;
/// Bytes of a line that holds a state.
pub const STATE_LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of the manifest.
pub const MANIFEST_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Bytes of `local.json`.
pub const LOCAL_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How much of a bundle is read at most. What does not fit is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of the ZIP.
    pub entries_max: u64,
    /// Bytes that an entry may inflate to, for each of its bytes in the file.
    pub ratio_max: u64,
    /// Bytes of the file, and bytes that all its entries inflate to.
    pub bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries_max: 100_000, ratio_max: 200, bytes_max: 10 * 1024 * 1024 * 1024 }
    }
}

/// What the threads that work on bundles are nicer by than those that serve: they take what others leave of the processors.
const NICER_BY: i32 = 10;

/// Makes the present thread stand back for others, until it ends. Where a system does not allow it, the work is done all the same.
fn stand_back() {
    // Elsewhere it would be the whole process.
    if cfg!(target_os = "linux") {
        rustix::process::nice(NICER_BY).ok();
    }
}

/// Why a bundle is not taken: which entry and which event, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The entry; none: the file as a whole.
    pub entry: Option<String>,
    /// The event.
    pub event: Option<String>,
    /// What is wrong, for a person.
    pub problem: String,
    /// The file itself cannot be read, so nothing was proven wrong.
    pub is_unreadable: bool,
}

impl Fault {
    /// Something is wrong with the file as a whole.
    pub fn new(problem: impl Into<String>) -> Self {
        Self { entry: None, event: None, problem: problem.into(), is_unreadable: false }
    }

    /// The file cannot be read.
    pub fn unreadable(problem: impl fmt::Display) -> Self {
        Self { is_unreadable: true, ..Self::new(problem.to_string()) }
    }

    /// What is checked cannot be put down on this machine meanwhile.
    pub fn scratch(problem: impl fmt::Display) -> Self {
        Self::unreadable(format!("the file that the check needs meanwhile cannot be written: {problem}"))
    }

    /// Something is wrong with an entry.
    pub fn of(entry: &str, problem: impl Into<String>) -> Self {
        Self { entry: Some(entry.to_owned()), ..Self::new(problem) }
    }

    /// It is about this event.
    #[must_use]
    pub fn about(self, event: impl fmt::Display) -> Self {
        Self { event: Some(event.to_string()), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(entry) = &self.entry {
            write!(formatter, "entry `{entry}`: ")?;
        }
        if let Some(event) = &self.event {
            write!(formatter, "event `{event}`: ")?;
        }
        formatter.write_str(&self.problem)
    }
}

impl std::error::Error for Fault {}

/// The name of a segment, counted from 1.
pub fn segment_name(number: u64) -> String {
    format!("{EVENTS}{number:06}.ndjson")
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a text cannot fail.
        fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}")).ok();
        text
    })
}

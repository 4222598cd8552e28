//! The section `[bundle]`: how large rooms may be that come as files.
//!
//! May import: serde, the limits of `bundle`.

use serde::{Deserialize, Serialize};

use super::Problem;
use crate::bundle::Limits;

/// Rooms that come as files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Bundle {
    /// Bytes of one file, and of what it inflates to. Default: 10737418240.
    pub upload_bytes_max: u64,
    /// Entries of one file. Default: 100000.
    pub entries_max: u64,
    /// Bytes that an entry may inflate to, for each of its bytes in the file. Default: 200.
    pub ratio_max: u64,
    /// How long whoever uploads a file waits for the room, in milliseconds; then the work goes on as a job. Default: 30000.
    pub answer_wait_ms: u64,
}

impl Default for Bundle {
    fn default() -> Self {
        let Limits { entries_max, ratio_max, bytes_max } = Limits::default();
        Self { upload_bytes_max: bytes_max, entries_max, ratio_max, answer_wait_ms: 30_000 }
    }
}

impl Bundle {
    pub(super) fn check(&self) -> Result<(), Problem> {
        for (key, value) in [
            ("bundle.upload_bytes_max", self.upload_bytes_max),
            ("bundle.entries_max", self.entries_max),
            ("bundle.ratio_max", self.ratio_max),
            ("bundle.answer_wait_ms", self.answer_wait_ms),
        ] {
            if value == 0 {
                return Err(Problem::new(key, "must be at least 1"));
            }
        }
        Ok(())
    }

    /// What is read of a file at most.
    pub fn limits(&self) -> Limits {
        Limits { entries_max: self.entries_max, ratio_max: self.ratio_max, bytes_max: self.upload_bytes_max }
    }
}

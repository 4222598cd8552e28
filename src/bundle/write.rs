//! Writing a bundle as a stream: what was written is taken away piece by piece, and nothing is gone back to. The manifest comes last, when all is known.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rules::signature::Signer;
use sha2::{Digest as _, Sha256};
use zip::{
    CompressionMethod, DateTime, ZipWriter,
    write::{SimpleFileOptions, StreamWriter},
};

use super::{
    Fault, MANIFEST, Manifest, SEGMENT_BYTES_MAX, SEGMENT_EVENTS_MAX, hex, manifest::EntryFacts, segment_name,
};

/// A bundle that is being written.
pub struct Writer {
    zip: ZipWriter<StreamWriter<Pipe>>,
    pipe: Pipe,
    entries: BTreeMap<String, EntryFacts>,
    open: Option<Open>,
    segments: u64,
    segment_events: u64,
}

struct Open {
    name: String,
    size: u64,
    hasher: Sha256,
}

/// What was written and not taken yet.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How the content of an entry is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Deflated.
    Deflated,
    /// As it is: media are compressed already.
    AsItIs,
}

impl Default for Writer {
    fn default() -> Self {
        let pipe = Pipe::default();
        Self {
            zip: ZipWriter::new_stream(pipe.clone()),
            pipe,
            entries: BTreeMap::new(),
            open: None,
            segments: 0,
            segment_events: 0,
        }
    }
}

impl Writer {
    /// Takes away what was written since the last time. Who writes asks often: it is all in memory.
    pub fn take(&mut self) -> Bytes {
        std::mem::take(&mut *self.pipe.0.lock()).into()
    }

    /// Bytes that were written and not taken.
    pub fn waiting(&self) -> usize {
        self.pipe.0.lock().len()
    }

    /// Writes an event, in a segment that has room for it.
    ///
    /// # Errors
    /// Never: memory takes everything.
    pub fn event(&mut self, json: &str) -> Result<(), Fault> {
        let is_in_segment = self.segment_events > 0;
        let is_full = self.segment_events >= SEGMENT_EVENTS_MAX
            || self.open.as_ref().is_some_and(|open| open.size >= SEGMENT_BYTES_MAX);
        if !is_in_segment || is_full {
            self.segments += 1;
            self.segment_events = 0;
            self.begin(&segment_name(self.segments), Kept::Deflated)?;
        }
        self.segment_events += 1;
        self.write(json.as_bytes())?;
        self.write(b"\n")
    }

    /// Begins an entry; the one before it ends.
    ///
    /// # Errors
    /// As [`Writer::event`].
    pub fn begin(&mut self, name: &str, kept: Kept) -> Result<(), Fault> {
        self.end();
        let method = match kept {
            Kept::Deflated => CompressionMethod::Deflated,
            Kept::AsItIs => CompressionMethod::Stored,
        };
        // Always the same time and rights, so that the same room makes the same bytes.
        let options = SimpleFileOptions::default()
            .compression_method(method)
            .last_modified_time(DateTime::default())
            .unix_permissions(0o644)
            .large_file(true);
        self.zip.start_file(name, options).map_err(|error| Fault::of(name, error.to_string()))?;
        self.open = Some(Open { name: name.to_owned(), size: 0, hasher: Sha256::new() });
        Ok(())
    }

    /// Writes into the entry that was begun last.
    ///
    /// # Errors
    /// As [`Writer::event`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if let Some(open) = &mut self.open {
            open.size += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            open.hasher.update(bytes);
        }
        self.zip.write_all(bytes).map_err(|error| Fault::new(error.to_string()))
    }

    /// Writes a whole entry.
    ///
    /// # Errors
    /// As [`Writer::event`].
    pub fn whole(&mut self, name: &str, bytes: &[u8]) -> Result<(), Fault> {
        self.begin(name, Kept::Deflated)?;
        self.write(bytes)
    }

    fn end(&mut self) {
        if let Some(Open { name, size, hasher }) = self.open.take() {
            self.entries.insert(name, EntryFacts { size, sha256: hex(&hasher.finalize()) });
        }
    }

    /// Signs and writes the manifest, to which the facts of all entries are added, and ends the file.
    ///
    /// # Errors
    /// The manifest holds what canonical JSON does not know.
    pub fn finish(mut self, manifest: Manifest, signer: &Signer) -> Result<Bytes, Fault> {
        self.end();
        let text = Manifest { entries: std::mem::take(&mut self.entries), ..manifest }.sign(signer)?;
        self.whole(MANIFEST, text.as_bytes())?;
        let pipe = self.pipe.clone();
        self.zip.finish().map_err(|error| Fault::new(error.to_string()))?;
        Ok(std::mem::take(&mut *pipe.0.lock()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_bounded_and_their_facts_are_kept() {
        let mut writer = Writer::default();
        for _ in 0..=SEGMENT_EVENTS_MAX {
            writer.event("{}").unwrap();
        }
        writer.whole("states.ndjson", b"").unwrap();
        writer.end();
        let sizes: Vec<(&str, u64)> = writer.entries.iter().map(|(name, facts)| (name.as_str(), facts.size)).collect();
        let expected =
            [("events/000001.ndjson", SEGMENT_EVENTS_MAX * 3), ("events/000002.ndjson", 3), ("states.ndjson", 0)];
        assert_eq!(sizes, expected);
        assert!(!writer.take().is_empty());
    }
}

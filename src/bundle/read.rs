//! Reading a ZIP that anybody may have made: what it claims is compared with what is there, and nothing of it is unpacked to a place that it names.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use zip::{
    CompressionMethod, ZipArchive,
    read::{ArchiveOffset, Config, ZipFile, ZipReadOptions},
};

use super::{
    EVENTS, Fault, LOCAL, LOCAL_BYTES_MAX, Limits, Local, MANIFEST, MANIFEST_BYTES_MAX, MEDIA, Manifest, STATES, hex,
    manifest::{EntryFacts, SignedManifest},
};

/// Bytes of the file that are fetched at a time.
const FETCH_BYTES: usize = 64 * 1024;
/// Bytes of the list of entries, for each entry that there may be.
const LISTED_ENTRY_BYTES_MAX: u64 = 512;
/// Bytes that may be read to find the list of entries, beside the list.
const FINDING_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Bytes that every entry may inflate to, whatever the ratio.
const INFLATED_BYTES_FREE: u64 = 64 * 1024;
/// Bytes of the name of an entry.
const NAME_BYTES_MAX: usize = 255;

/// Where the bytes of a bundle are.
#[derive(Clone, Debug)]
enum Source {
    File(Arc<File>),
    Memory(Bytes),
}

/// A place in the bytes, so that several readers do not disturb each other.
#[derive(Clone, Debug)]
struct At {
    source: Source,
    len: u64,
    position: u64,
    fetched: Vec<u8>,
    fetched_at: u64,
    /// Bytes that may still be fetched.
    budget: Arc<AtomicU64>,
}

impl At {
    fn fetch(&mut self) -> io::Result<()> {
        let wanted = FETCH_BYTES.min(usize::try_from(self.len.saturating_sub(self.position)).unwrap_or(FETCH_BYTES));
        let cost = u64::try_from(wanted).unwrap_or(u64::MAX);
        let paid = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| match left {
            u64::MAX => Some(u64::MAX),
            left => left.checked_sub(cost),
        });
        if paid.is_err() {
            return Err(io::Error::other("the list of entries is larger than any may be"));
        }
        self.fetched.resize(wanted, 0);
        match &self.source {
            Source::File(file) => file.read_exact_at(&mut self.fetched, self.position)?,
            Source::Memory(bytes) => {
                let start = usize::try_from(self.position).unwrap_or(usize::MAX);
                let there = bytes.get(start..).and_then(|rest| rest.get(..wanted));
                self.fetched.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
            }
        }
        self.fetched_at = self.position;
        Ok(())
    }
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.len || buffer.is_empty() {
            return Ok(0);
        }
        let offset = |at: &Self| usize::try_from(at.position.checked_sub(at.fetched_at)?).ok();
        if offset(self).is_none_or(|offset| offset >= self.fetched.len()) {
            self.fetch()?;
        }
        let there = offset(self).and_then(|offset| self.fetched.get(offset..)).unwrap_or_default();
        let count = there.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), there.get(..count)) {
            to.copy_from_slice(from);
        }
        self.position += u64::try_from(count).unwrap_or_default();
        Ok(count)
    }
}

impl Seek for At {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// A ZIP whose list of entries was checked. Copies share nothing but the file.
#[derive(Clone, Debug)]
pub struct Archive {
    zip: ZipArchive<At>,
    limits: Limits,
}

impl Archive {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be read, is no ZIP, or its list of entries is not that of a bundle.
    pub fn open(path: &Path, limits: Limits) -> Result<Self, Fault> {
        let file = File::open(path).map_err(Fault::unreadable)?;
        let len = file.metadata().map_err(Fault::unreadable)?.len();
        Self::of(Source::File(Arc::new(file)), len, limits)
    }

    /// Opens what is in memory.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn in_memory(bytes: Bytes, limits: Limits) -> Result<Self, Fault> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self::of(Source::Memory(bytes), len, limits)
    }

    fn of(source: Source, len: u64, limits: Limits) -> Result<Self, Fault> {
        if len > limits.bytes_max {
            return Err(Fault::new(format!(
                "the file has {len} bytes, more than the {} that are taken",
                limits.bytes_max
            )));
        }
        // The list of entries is read whole into memory: so only as much of the file is read for it as it may have.
        let listed = limits.entries_max.saturating_mul(LISTED_ENTRY_BYTES_MAX).saturating_add(FINDING_BYTES_MAX);
        let budget = Arc::new(AtomicU64::new(listed));
        let at = At { source, len, position: 0, fetched: Vec::new(), fetched_at: 0, budget: Arc::clone(&budget) };
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let zip = ZipArchive::with_config(config, at)
            .map_err(|error| Fault::unreadable(format!("this is no ZIP file, or only a part of one: {error}")))?;
        budget.store(u64::MAX, Ordering::Relaxed);
        let mut archive = Self { zip, limits };
        archive.check_list()?;
        Ok(archive)
    }

    fn check_list(&mut self) -> Result<(), Fault> {
        let count = u64::try_from(self.zip.len()).unwrap_or(u64::MAX);
        if count > self.limits.entries_max {
            let problem =
                format!("there are {count} entries, more than the {} that are taken", self.limits.entries_max);
            return Err(Fault::new(problem));
        }
        if self.zip.has_duplicate_names() {
            return Err(Fault::new("two entries have the same name"));
        }
        for index in 0..self.zip.len() {
            let entry = self.zip.by_index_data(index).map_err(Fault::unreadable)?;
            let raw = entry.name_raw();
            let name = std::str::from_utf8(raw).ok();
            let shown =
                || String::from_utf8_lossy(raw.get(..raw.len().min(NAME_BYTES_MAX)).unwrap_or_default()).into_owned();
            let wrong = |problem: &str| Fault::of(&shown(), problem);
            check_name(name.ok_or_else(|| wrong("the name is not UTF-8"))?).map_err(wrong)?;
            if entry.encrypted() {
                return Err(wrong("the entry is encrypted"));
            }
            if entry.is_symlink()
                || entry.is_dir()
                || entry.unix_mode().is_some_and(|mode| mode & 0o170_000 != 0o100_000 && mode & 0o170_000 != 0)
            {
                return Err(wrong("the entry is a link or a folder, not a file"));
            }
            if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
                return Err(wrong("the entry is compressed in another way than deflate"));
            }
        }
        if !self.names().any(|name| name == MANIFEST) {
            return Err(Fault::new(format!("there is no `{MANIFEST}`: this is no room bundle")));
        }
        match self.zip.has_overlapping_entries() {
            Ok(false) => Ok(()),
            Ok(true) => Err(Fault::new("entries share bytes of the file")),
            Err(error) => Err(Fault::new(format!("the entries are not where the list says: {error}"))),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.zip.file_names_raw().filter_map(|name| std::str::from_utf8(name).ok())
    }

    /// The manifest, its form and its list compared with the ZIP's. Its signature is not checked yet.
    ///
    /// # Errors
    /// It is none, lists what is not there, or leaves out what is.
    pub fn manifest(&self) -> Result<SignedManifest, Fault> {
        let mut copy = self.clone();
        let mut text = String::new();
        let entry = copy.entry(MANIFEST)?;
        let read = entry.take(MANIFEST_BYTES_MAX + 1).read_to_string(&mut text);
        read.map_err(|error| Fault::of(MANIFEST, error.to_string()))?;
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > MANIFEST_BYTES_MAX {
            return Err(Fault::of(MANIFEST, format!("it has more than {MANIFEST_BYTES_MAX} bytes")));
        }
        let signed = SignedManifest::read(&text)?;
        // Each entry is inflated to its size at most, so that this bounds what all of them are really inflated to.
        let bytes = signed.manifest.entries.values().map(|facts| facts.size).fold(0, u64::saturating_add);
        if bytes > self.limits.bytes_max {
            let problem =
                format!("the entries have {bytes} bytes, more than the {} that are taken", self.limits.bytes_max);
            return Err(Fault::of(MANIFEST, problem));
        }
        let there: BTreeSet<&str> = self.names().filter(|name| *name != MANIFEST).collect();
        for name in &there {
            if !signed.manifest.entries.contains_key(*name) {
                return Err(Fault::of(name, "the manifest does not list it"));
            }
        }
        for name in signed.manifest.entries.keys() {
            if !there.contains(name.as_str()) {
                return Err(Fault::of(name, "the manifest lists it, and it is missing"));
            }
        }
        Ok(signed)
    }

    /// `local.json`; empty where there is none.
    ///
    /// # Errors
    /// It is too large or something else.
    pub fn local(&self, manifest: &Manifest) -> Result<Local, Fault> {
        let Some(facts) = manifest.entries.get(LOCAL) else { return Ok(Local::default()) };
        if facts.size > LOCAL_BYTES_MAX {
            return Err(Fault::of(LOCAL, format!("it has more than {LOCAL_BYTES_MAX} bytes")));
        }
        let mut bytes = Vec::new();
        let mut copy = self.clone();
        copy.checked(LOCAL, facts)?.read_to_end(&mut bytes).map_err(|error| Fault::of(LOCAL, error.to_string()))?;
        Local::read(&bytes)
    }

    fn entry(&mut self, name: &str) -> Result<Bounded<'_>, Fault> {
        let options = ZipReadOptions::new().enforce_header_consistency(true);
        let inflating = self.zip.by_name_with_options(name, options);
        let inflating = inflating.map_err(|error| Fault::of(name, format!("it cannot be read: {error}")))?;
        let left =
            inflating.compressed_size().saturating_mul(self.limits.ratio_max).saturating_add(INFLATED_BYTES_FREE);
        Ok(Bounded { inflating, left })
    }

    /// The content of an entry; reading its end fails when size or hash are not those of the manifest.
    ///
    /// # Errors
    /// It is not there.
    pub fn checked(&mut self, name: &str, facts: &EntryFacts) -> Result<Checked<'_>, Fault> {
        let entry = self.entry(name)?;
        Ok(Checked { entry, hasher: Sha256::new(), left: facts.size, sha256: facts.sha256.clone() })
    }
}

/// Why a name is not that of an entry of a bundle.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.len() > NAME_BYTES_MAX {
        return Err("the name is too long");
    }
    let leads_out =
        name.starts_with('/') || name.contains(['\\', '\0', ':']) || name.split('/').any(|part| part == "..");
    if leads_out {
        return Err("the name leads out of the bundle");
    }
    let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_known = match name {
        MANIFEST | STATES | LOCAL => true,
        name => match (name.strip_prefix(EVENTS), name.strip_prefix(MEDIA)) {
            (Some(rest), _) => {
                let number = rest.strip_suffix(".ndjson").unwrap_or_default();
                (6..=12).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
            }
            (None, Some(rest)) => match rest.split_once('/') {
                Some((hash, name)) => is_hash(hash) && !name.is_empty() && !name.contains('/') && name != ".",
                None => is_hash(rest),
            },
            (None, None) => false,
        },
    };
    if is_known { Ok(()) } else { Err("no entry of a bundle has such a name") }
}

/// An entry that is inflated no further than it may.
pub struct Bounded<'a> {
    inflating: ZipFile<'a, At>,
    left: u64,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inflating.read(buffer)?;
        let left = self.left.checked_sub(u64::try_from(count).unwrap_or(u64::MAX));
        self.left = left.ok_or_else(|| io::Error::other("it inflates to more than its compressed size allows"))?;
        Ok(count)
    }
}

/// An entry whose size and hash are checked as it is read.
pub struct Checked<'a> {
    entry: Bounded<'a>,
    hasher: Sha256,
    left: u64,
    sha256: String,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.entry.read(buffer)?;
        let left = self.left.checked_sub(u64::try_from(count).unwrap_or(u64::MAX));
        self.left = left.ok_or_else(|| io::Error::other("it is larger than the manifest says"))?;
        if count > 0 {
            self.hasher.update(buffer.get(..count).unwrap_or_default());
        } else if !buffer.is_empty() {
            if self.left > 0 {
                return Err(io::Error::other("it is smaller than the manifest says"));
            }
            if hex(&self.hasher.clone().finalize()) != self.sha256 {
                return Err(io::Error::other("its hash is not the one that the manifest says"));
            }
        }
        Ok(count)
    }
}

/// The lines of an entry.
pub struct Lines<'a> {
    reader: BufReader<Checked<'a>>,
    line_bytes_max: usize,
    place: LinePlace,
}

/// Where a line stands.
#[derive(Clone, Debug)]
pub struct LinePlace {
    /// The entry.
    pub entry: Arc<str>,
    /// The first line is 1.
    pub number: u64,
}

impl LinePlace {
    /// Something is wrong with the line.
    pub fn fault(&self, problem: impl std::fmt::Display) -> Fault {
        Fault::of(&self.entry, format!("line {}: {problem}", self.number))
    }
}

impl<'a> Lines<'a> {
    /// Reads the lines of an entry, each of at most so many bytes.
    ///
    /// # Errors
    /// The entry is not there.
    pub fn of(archive: &'a mut Archive, name: &str, facts: &EntryFacts, line_bytes_max: usize) -> Result<Self, Fault> {
        let reader = BufReader::with_capacity(FETCH_BYTES, archive.checked(name, facts)?);
        Ok(Self { reader, line_bytes_max, place: LinePlace { entry: name.into(), number: 0 } })
    }

    /// Where the line stands that was read last.
    pub fn place(&self) -> &LinePlace {
        &self.place
    }

    /// The next line; none: there is none.
    ///
    /// # Errors
    /// It is too long, is not UTF-8, or the entry is not what the manifest says.
    pub fn line(&mut self) -> Result<Option<String>, Fault> {
        self.place.number += 1;
        let mut line = Vec::new();
        let bytes_max = u64::try_from(self.line_bytes_max).unwrap_or(u64::MAX);
        let read = (&mut self.reader).take(bytes_max.saturating_add(1)).read_until(b'\n', &mut line);
        let count = read.map_err(|error| self.place.fault(error))?;
        if count > self.line_bytes_max {
            return Err(self.place.fault(format!("it has more than {bytes_max} bytes")));
        }
        if count == 0 {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        String::from_utf8(line).map(Some).map_err(|_bytes| self.place.fault("it is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_a_bundle_are_taken() {
        let hash = "a".repeat(64);
        for name in [
            MANIFEST,
            LOCAL,
            STATES,
            "events/000001.ndjson",
            &format!("media/{hash}"),
            &format!("media/{hash}/a b.png"),
        ] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in [
            "../manifest.json",
            "/manifest.json",
            "events/../local.json",
            "events\\000001.ndjson",
            "C:manifest.json",
            "a\0b",
        ] {
            assert_eq!(check_name(name), Err("the name leads out of the bundle"), "{name}");
        }
        for name in [
            "",
            "events/",
            "events/1.ndjson",
            "events/00000a.ndjson",
            "media/AA",
            &format!("media/{}", "A".repeat(64)),
            &format!("media/{hash}/a/b"),
            "Manifest.json",
        ] {
            assert_eq!(check_name(name), Err("no entry of a bundle has such a name"), "{name}");
        }
    }
}

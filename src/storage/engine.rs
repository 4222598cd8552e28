//! What a backend implements: four calls on ordered bytes, and closing. Everything else is the same for all of them.
//! May import: keyspace.

use std::collections::BTreeMap;

use super::{
    Reading, StorageError,
    changes::{GroupId, StreamId},
    keyspace::{Profile, RowKey},
    range::{Caching, Direction, Limit, end_of_prefix},
};

/// Ordered bytes with one conditional, atomic, durable write.
///
/// An engine promises: reads see what was acknowledged; `apply` is atomic, durable, and first-come on (stream, number).
/// It knows neither keyspaces nor homes; only strict tests look into keys.
pub trait Engine: Send + Sync + 'static {
    /// The values of the keys, in their order.
    fn get(&self, keys: Vec<RowKey>, caching: Caching) -> Reading<'_, Vec<Option<Vec<u8>>>>;

    /// One page of a range.
    fn scan(&self, range: RowRange, direction: Direction, limit: Limit) -> Reading<'_, RowPage>;

    /// Puts everything or nothing, if and only if the group's position is still free. Durable when it returns.
    /// May block: the committer calls it on a thread of its own.
    ///
    /// # Errors
    /// [`ApplyError`] says what is known of the group's fate.
    fn apply(&self, group: &Group) -> Result<(), ApplyError>;

    /// The highest position of a stream and the epoch it was written in; zeros when there is none. After
    /// [`ApplyError::Unknown`] this call settles what became of the group.
    fn last(&self, stream: StreamId) -> Reading<'_, (u64, u64)>;

    /// What the engine takes up now.
    fn usage(&self) -> Usage {
        Usage::default()
    }

    /// Gives back what the engine holds, such as the lock of its folder. Every later call fails with
    /// [`StorageError::Closed`].
    fn close(&self) -> Reading<'_, ()>;
}

/// What an engine takes up; zeros where it cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of rows, without what was overwritten, as the engine estimates them.
    pub live_bytes: u64,
    /// Bytes of recent writes in memory.
    pub memtable_bytes: u64,
    /// Bytes of its files.
    pub file_bytes: u64,
    /// Its files.
    pub files: u64,
    /// Bytes of blocks in memory, those of all engines of the process.
    pub shared_cache_bytes: u64,
}

/// Key bytes of one profile from `start` on, and before `end` if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRange {
    /// Where the engine keeps the rows.
    pub profile: Profile,
    /// The first key bytes inside.
    pub start: Vec<u8>,
    /// The first key bytes behind it.
    pub end: Option<Vec<u8>>,
}

impl RowRange {
    /// All keys that begin like this one.
    pub(crate) fn prefix(prefix: &RowKey) -> Self {
        Self { profile: prefix.profile, start: prefix.bytes.clone(), end: end_of_prefix(&prefix.bytes) }
    }

    /// No key can be inside.
    pub(crate) fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// Rows as bytes, in the direction of the scan.
#[derive(Debug, Default)]
pub struct RowPage {
    /// Key and value.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// The range goes on behind the last row.
    pub more: bool,
}

/// Fills pages up to their limit; the same for every engine.
pub(crate) struct PageFiller {
    page: RowPage,
    limit: Limit,
    bytes: usize,
}

impl PageFiller {
    pub(crate) fn new(limit: Limit) -> Self {
        Self { page: RowPage::default(), limit, bytes: 0 }
    }

    /// Offers the next row; `false` when the page was full already.
    pub(crate) fn offer(&mut self, key: &[u8], value: &[u8]) -> bool {
        if self.page.rows.len() >= self.limit.rows || (self.bytes >= self.limit.bytes && !self.page.rows.is_empty()) {
            self.page.more = true;
            return false;
        }
        self.bytes += key.len() + value.len();
        self.page.rows.push((key.to_vec(), value.to_vec()));
        true
    }

    pub(crate) fn into_page(self) -> RowPage {
        self.page
    }
}

/// The writes of a group or of a commit, merged: first the prefixes are emptied, then each key is written once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Rows whose key begins with one of these go.
    pub prefixes: Vec<RowKey>,
    /// The new value of a key, or none for a deleted one.
    pub writes: BTreeMap<RowKey, Option<Vec<u8>>>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && self.writes.is_empty()
    }

    /// Bytes of all keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.writes.iter().map(|(key, value)| key.bytes.len() + value.as_ref().map_or(0, Vec::len)).sum()
    }

    pub(crate) fn write(&mut self, key: RowKey, value: Option<Vec<u8>>) {
        self.writes.insert(key, value);
    }

    pub(crate) fn delete_prefix(&mut self, prefix: RowKey) {
        self.writes.retain(|key, _| !is_below(key, &prefix));
        self.prefixes.push(prefix);
    }

    /// Does what `later` does after what is here.
    pub(crate) fn append(&mut self, later: Self) {
        for prefix in later.prefixes {
            self.delete_prefix(prefix);
        }
        self.writes.extend(later.writes);
    }

    /// The value that a key has after this batch; `None` when the batch does not touch it.
    pub(crate) fn value_of(&self, key: &RowKey) -> Option<Option<&[u8]>> {
        match self.writes.get(key) {
            Some(value) => Some(value.as_deref()),
            None => self.prefixes.iter().any(|prefix| is_below(key, prefix)).then_some(None),
        }
    }
}

fn is_below(key: &RowKey, prefix: &RowKey) -> bool {
    key.profile == prefix.profile && key.bytes.starts_with(&prefix.bytes)
}

/// Commits that become durable and visible together.
#[derive(Debug)]
pub struct Group {
    /// The log it is added to.
    pub stream: StreamId,
    /// Its number there.
    pub number: u64,
    /// Counts the openings of the stream.
    pub epoch: u64,
    /// Random: tells this attempt from every other one.
    pub id: GroupId,
    /// The row of the feed; its presence is what makes the position taken.
    pub feed: (RowKey, Vec<u8>),
    /// The oldest row of the feed, which goes.
    pub forgotten: Option<RowKey>,
    /// All other rows.
    pub batch: Batch,
}

/// What is known of a group that was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Somebody else has written this position: this process no longer owns the stream.
    #[error("the position is taken")]
    Taken,
    /// It did not happen and never will.
    #[error("{0}")]
    Unavailable(String),
    /// It may have happened; [`Engine::last`] tells.
    #[error("{0}")]
    Unknown(String),
}

impl From<ApplyError> for StorageError {
    fn from(error: ApplyError) -> Self {
        Self::Engine(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: &[u8]) -> RowKey {
        RowKey { profile: Profile::Rows, bytes: bytes.to_vec() }
    }

    #[test]
    fn a_put_after_a_deleted_prefix_stays_and_one_before_it_goes() {
        let mut batch = Batch::default();
        batch.write(key(b"a1"), Some(vec![1]));
        batch.write(key(b"b1"), Some(vec![2]));
        batch.delete_prefix(key(b"a"));
        batch.write(key(b"a2"), Some(vec![3]));
        assert_eq!(batch.value_of(&key(b"a1")), Some(None));
        assert_eq!(batch.value_of(&key(b"a2")), Some(Some(&[3][..])));
        assert_eq!(batch.value_of(&key(b"b1")), Some(Some(&[2][..])));
        assert_eq!(batch.value_of(&key(b"c")), None);
        let other_profile = RowKey { profile: Profile::Log, bytes: b"a1".to_vec() };
        assert_eq!(batch.value_of(&other_profile), None);
    }

    #[test]
    fn appending_repeats_the_later_batch_in_its_order() {
        let mut first = Batch::default();
        first.write(key(b"a1"), Some(vec![1]));
        let mut later = Batch::default();
        later.delete_prefix(key(b"a"));
        later.write(key(b"a2"), Some(vec![2]));
        first.append(later);
        assert_eq!(first.value_of(&key(b"a1")), Some(None));
        assert_eq!(first.value_of(&key(b"a2")), Some(Some(&[2][..])));
    }

    #[test]
    fn a_page_has_one_row_however_large_and_knows_of_more() {
        let mut filler = PageFiller::new(Limit::rows(5).bytes(3));
        assert!(filler.offer(b"a", b"very large"));
        assert!(!filler.offer(b"b", b""));
        let page = filler.into_page();
        assert_eq!((page.rows.len(), page.more), (1, true));
    }
}

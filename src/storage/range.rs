//! What a scan asks for and what it gives: ranges of keys, direction, limits, pages.
//! May import: key.

use std::marker::PhantomData;

use super::{
    home::Home,
    key::{self, Key, StartOf},
};

/// Keys of one home and keyspace. Calls narrow the range and can be put behind each other.
#[derive(Debug, Clone)]
pub struct KeyRange<K> {
    /// The first key bytes inside.
    pub(crate) start: Vec<u8>,
    /// The first key bytes behind it; none: up to the last row of the home.
    pub(crate) end: Option<Vec<u8>>,
    key: PhantomData<fn(K)>,
}

impl<K: Key> KeyRange<K> {
    /// Every key.
    #[must_use]
    pub fn all() -> Self {
        Self { start: Vec::new(), end: None, key: PhantomData }
    }

    /// The composed keys that begin with this part.
    #[must_use]
    pub fn prefix<P: StartOf<K>>(part: &P) -> Self {
        let start = key::bytes_of(part);
        let end = end_of_prefix(&start);
        Self { start, end, key: PhantomData }
    }

    /// From this key on, itself included.
    #[must_use]
    pub fn from(self, key: &K) -> Self {
        self.starting(key::bytes_of(key))
    }

    /// Behind this key.
    #[must_use]
    pub fn after(self, key: &K) -> Self {
        self.starting(behind(key::bytes_of(key)))
    }

    /// Up to this key, itself not included.
    #[must_use]
    pub fn before(self, key: &K) -> Self {
        self.ending(key::bytes_of(key))
    }

    /// Up to this key, itself included.
    #[must_use]
    pub fn through(self, key: &K) -> Self {
        self.ending(behind(key::bytes_of(key)))
    }

    /// What a scan in this direction meets behind this key.
    #[must_use]
    pub fn past(self, key: &K, direction: Direction) -> Self {
        match direction {
            Direction::Up => self.after(key),
            Direction::Down => self.before(key),
        }
    }

    fn starting(mut self, start: Vec<u8>) -> Self {
        self.start = self.start.max(start);
        self
    }

    fn ending(mut self, end: Vec<u8>) -> Self {
        self.end = Some(self.end.map_or(end.clone(), |old| old.min(end)));
        self
    }
}

/// The first bytes behind a key. Right because no key is the beginning of another one.
pub(crate) fn behind(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

/// The first bytes behind all that begin with the prefix; none when there are none behind.
pub(crate) fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let (&byte, head) = prefix.get(..=last)?.split_last()?;
    Some([head, &[byte + 1]].concat())
}

/// In which order a scan goes through its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the lowest key to the highest.
    Up,
    /// From the highest key to the lowest.
    Down,
}

/// What reading a row leaves in an engine's caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// It is kept at hand.
    Keep,
    /// Nothing: it is not wanted again soon, and drives nothing else out.
    Pass,
}

/// Where a page ends. A page has at least one row, however large, when there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    pub(crate) caching: Caching,
}

impl Limit {
    /// Rows that one page holds at most.
    pub const ROWS_MAX: usize = 10_000;
    /// Bytes after which a page ends, keys and values together.
    pub const BYTES_MAX: usize = 4 * 1024 * 1024;

    /// A page of so many rows, at least 1 and at most [`Limit::ROWS_MAX`].
    #[must_use]
    pub fn rows(rows: usize) -> Self {
        Self { rows: rows.clamp(1, Self::ROWS_MAX), bytes: Self::BYTES_MAX, caching: Caching::Keep }
    }

    /// As many rows as a page can hold.
    #[must_use]
    pub fn max() -> Self {
        Self::rows(Self::ROWS_MAX)
    }

    /// Ends the page earlier, with the row that passes so many bytes.
    #[must_use]
    pub fn bytes(self, bytes: usize) -> Self {
        Self { bytes: bytes.min(Self::BYTES_MAX), ..self }
    }

    /// The rows are not wanted again soon: they do not drive others out of caches.
    #[must_use]
    pub fn in_passing(self) -> Self {
        Self { caching: Caching::Pass, ..self }
    }
}

/// Rows of one home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<K, V> {
    /// In the direction of the scan.
    pub rows: Vec<(K, V)>,
    /// The range goes on behind the last row.
    pub more: bool,
}

/// Rows of many homes, sorted by home and then by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomesPage<K, V> {
    /// Upwards.
    pub rows: Vec<(Home, K, V)>,
    /// The keyspace goes on behind the last row.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_its_last_possible_key_ends() {
        assert_eq!(end_of_prefix(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(end_of_prefix(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(end_of_prefix(&[255]), None);
        assert_eq!(end_of_prefix(&[]), None);
    }

    #[test]
    fn a_range_only_becomes_narrower() {
        let range = KeyRange::<(u8, u8)>::prefix(&5).from(&(4, 0)).before(&(9, 0));
        assert_eq!((range.start, range.end), (vec![5], Some(vec![6])));
        let range = KeyRange::<(u8, u8)>::prefix(&5).after(&(5, 1)).through(&(5, 3));
        assert_eq!((range.start, range.end), (vec![5, 1, 0], Some(vec![5, 3, 0])));
    }
}

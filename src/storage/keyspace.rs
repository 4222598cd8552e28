//! Keyspaces: typed sets of rows. The list of all of them is in `keyspaces.rs`.
//! May import: key, value, home.

use std::{fmt, marker::PhantomData};

use super::{
    StorageError,
    home::{Home, HomeKind},
    key::{self, Key, hex},
    value::{self, Value},
};

/// How the rows of a keyspace are used; each profile is one tuned set of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// Small rows that are rewritten and read one by one.
    Rows,
    /// Bulky rows that are added and then only read.
    Log,
}

/// What a keyspace is, without its types.
#[derive(Debug)]
pub struct KeyspaceInfo {
    /// The first byte of its keys: never changed, never reused. Below [`KeyspaceInfo::FIRST_FREE`] storage keeps its own.
    pub id: u8,
    /// Its name in messages.
    pub name: &'static str,
    /// To which kind of home its rows belong.
    pub home: HomeKind,
    /// How its rows are used.
    pub profile: Profile,
}

impl KeyspaceInfo {
    /// The first id that `keyspaces.rs` may give.
    pub const FIRST_FREE: u8 = 8;

    /// Makes sure, while compiling, that no two keyspaces share an id or take one of storage's own.
    pub const fn assert_distinct(mut all: &[&Self]) {
        while let Some((first, rest)) = all.split_first() {
            assert!(first.id >= Self::FIRST_FREE, "this id belongs to storage itself");
            let mut others = rest;
            while let Some((other, rest)) = others.split_first() {
                assert!(first.id != other.id, "two keyspaces have the same id");
                others = rest;
            }
            all = rest;
        }
    }

    /// The key of a row: keyspace, home, key.
    pub(crate) fn row_key(&self, home: &Home, key: &[u8]) -> RowKey {
        let mut bytes = Vec::with_capacity(1 + Home::HEAD_BYTES + home.id_len() + key.len());
        bytes.push(self.id);
        home.encode(&mut bytes);
        bytes.extend_from_slice(key);
        RowKey { profile: self.profile, bytes }
    }

    /// The beginning of all its keys.
    pub(crate) fn start(&self) -> RowKey {
        RowKey { profile: self.profile, bytes: vec![self.id] }
    }

    pub(crate) fn check_home(&self, home: &Home) -> Result<(), StorageError> {
        if self.home == home.kind() {
            return Ok(());
        }
        Err(StorageError::WrongHome { keyspace: self.name, wants: self.home, got: home.kind() })
    }

    pub(crate) fn corrupt(&self, key: &[u8], reason: &impl fmt::Display) -> StorageError {
        StorageError::Corrupt { keyspace: self.name, key: hex(key), reason: reason.to_string() }
    }
}

/// The whole key of a row, as engines see it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// Where the engine keeps it.
    pub profile: Profile,
    /// Keyspace, home kind, length of the home's id, the home's id, key.
    pub bytes: Vec<u8>,
}

impl RowKey {
    /// The home, and the key within it.
    pub(crate) fn split(&self) -> Option<(Home, &[u8])> {
        let mut rest = self.bytes.get(1..)?;
        Some((Home::decode(&mut rest)?, rest))
    }
}

/// A typed set of rows: in each home of its kind, a map from `K` to `V`.
pub struct Keyspace<K, V> {
    info: KeyspaceInfo,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Keyspace<K, V> {
    /// A keyspace. The id is stored in every key.
    #[must_use]
    pub const fn new(id: u8, name: &'static str, home: HomeKind, profile: Profile) -> Self {
        Self { info: KeyspaceInfo { id, name, home, profile }, types: PhantomData }
    }

    /// What it is, without its types.
    #[must_use]
    pub const fn info(&self) -> &KeyspaceInfo {
        &self.info
    }
}

impl<K: Key, V: Value> Keyspace<K, V> {
    pub(crate) fn row_key(&self, home: &Home, key: &K) -> RowKey {
        self.info.row_key(home, &key::bytes_of(key))
    }

    pub(crate) fn read_value(&self, row: &[u8], stored: &[u8]) -> Result<V, StorageError> {
        value::from_bytes(stored).map_err(|reason| self.info.corrupt(row, &reason))
    }

    pub(crate) fn read_row(&self, row: &[u8], stored: &[u8]) -> Result<(Home, K, V), StorageError> {
        let mut rest = row.get(1..).unwrap_or_default();
        let home = Home::decode(&mut rest).ok_or_else(|| self.info.corrupt(row, &"the key has no home"))?;
        let key = key::key_from(rest).map_err(|reason| self.info.corrupt(row, &reason))?;
        Ok((home, key, self.read_value(row, stored)?))
    }

    /// Reads a row that may be damaged: its key is written as it was read, its value returns.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn reread(&self, row: &[u8], stored: &[u8]) {
        let Ok((home, key, value)) = self.read_row(row, stored) else { return };
        assert_eq!(self.info.row_key(&home, &key::bytes_of(&key)).bytes, row);
        let written = value::to_bytes(&value).ok();
        assert_eq!(written.as_deref().and_then(value::renewed::<V>), written, "{}", self.info.name);
    }
}

/// Declares keyspaces and, as `ALL`, the list of them. An id that is taken twice does not compile.
///
/// ```text
/// keyspaces! {
///     /// The event of each number of a room.
///     10 EVENTS: Arrival => StoredEvent, in Room, as Log;
/// }
/// ```
macro_rules! keyspaces {
    ($($(#[$doc:meta])* $id:literal $name:ident: $key:ty => $value:ty, in $home:ident, as $profile:ident;)*) => {
        $(
            $(#[$doc])*
            pub static $name: $crate::storage::Keyspace<$key, $value> = $crate::storage::Keyspace::new(
                $id,
                stringify!($name),
                $crate::storage::HomeKind::$home,
                $crate::storage::Profile::$profile,
            );
        )*

        /// Every keyspace.
        pub static ALL: &[&$crate::storage::KeyspaceInfo] = &[$($name.info()),*];
        const _: () = $crate::storage::KeyspaceInfo::assert_distinct(ALL);

        /// Reads a row that may be damaged, whichever keyspace it is of.
        #[cfg(any(test, fuzzing))]
        pub(crate) fn reread(row: &[u8], stored: &[u8]) {
            match row.first() {
                $(Some($id) => $name.reread(row, stored),)*
                _ => {}
            }
        }
    };
}
pub(crate) use keyspaces;

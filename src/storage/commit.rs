//! A commit: what one decision writes, all of it or nothing, and under which conditions.
//! May import: changes, engine, home, keyspace, value.

use serde::{Deserialize, Serialize};

use super::{
    CommitError, StorageError,
    changes::{CHANGE_BYTES, Change, ChangeKind, Position, StoredChange, StoredChangeV1},
    engine::Batch,
    home::{Home, HomeKind},
    key::{self, Key, StartOf},
    keyspace::{Keyspace, KeyspaceInfo, Profile, RowKey},
    value::{self, BadValue, VALUE_BYTES_MAX, Value},
};

/// Rows of one commit, those of its effects included.
pub const COMMIT_ROWS_MAX: usize = 1_200;

/// Bytes of one commit: keys and values of its rows, its conditions and its effects.
pub const COMMIT_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of the changes that one commit can name, those of its effects included: what one row of the feed can hold.
pub const COMMIT_CHANGE_BYTES_MAX: usize = VALUE_BYTES_MAX - 64;

/// Bytes of a whole key: keyspace, home and key.
pub const KEY_BYTES_MAX: usize = 4 * 1024;

/// The largest decision is a new room with all its invitations: about 12 events of its own and one for each invited
/// person. An event is up to 9 rows (itself, its id, its place, a member or a reservation, state key, state nodes, a
/// request's answer, a medium that it names and where that is looked for), an invited person 1 row and 1 change more,
/// and the room about 20. An invitation's rows have about 3 KiB: the event with its signature 1.5 KiB, a node row
/// 0.5 KiB, the rest keys.
const _: () = {
    const INVITED: usize = 100;
    const EVENTS: usize = INVITED + 12;
    assert!(EVENTS * 9 + INVITED + 20 <= COMMIT_ROWS_MAX);
    assert!(EVENTS * 8 * 1024 + INVITED * 1024 <= COMMIT_BYTES_MAX);
    // A change names a room and a person; ids have up to 255 bytes.
    assert!((INVITED + 20) * (2 * 255 + CHANGE_BYTES) <= COMMIT_CHANGE_BYTES_MAX);
    assert!(VALUE_BYTES_MAX + KEY_BYTES_MAX <= COMMIT_BYTES_MAX);
};

/// A condition on a row of the commit's home.
#[derive(Debug)]
pub(crate) struct Require {
    pub(crate) key: RowKey,
    expected: Option<Vec<u8>>,
    renewed: fn(&[u8]) -> Option<Vec<u8>>,
}

impl Require {
    /// A value that an older version wrote is the same when its newest form is.
    pub(crate) fn holds(&self, stored: Option<&[u8]>) -> bool {
        match (&self.expected, stored) {
            (None, None) => true,
            (Some(expected), Some(stored)) => {
                expected == stored
                    || (expected.first() != stored.first() && (self.renewed)(stored).as_ref() == Some(expected))
            }
            _ => false,
        }
    }
}

type Hook = Box<dyn FnOnce(&Result<Position, CommitError>) + Send + Sync>;

/// What one decision writes: rows of one home, rows of content, and effects on other homes.
///
/// A mistake of the caller (a row of another kind of home) is noted and refuses the whole commit when it is submitted.
pub struct Commit {
    home: Home,
    pub(crate) requires: Vec<Require>,
    pub(crate) batch: Batch,
    pub(crate) effects: Vec<Effect>,
    pub(crate) changes: Vec<Change>,
    pub(crate) is_touch: bool,
    hooks: Vec<Hook>,
    size: Size,
    mistake: Option<CommitError>,
}

impl Commit {
    /// An empty commit. Committed as it is, it is a barrier: it is answered when everything submitted before it is
    /// durable, and makes no row in the feed.
    #[must_use]
    pub fn new(home: Home) -> Self {
        Self {
            home,
            requires: Vec::new(),
            batch: Batch::default(),
            effects: Vec::new(),
            changes: Vec::new(),
            is_touch: false,
            hooks: Vec::new(),
            size: Size::default(),
            mistake: None,
        }
    }

    /// Makes a row in the feed even when there is nothing to write: what is acknowledged then shows that the store takes writes.
    pub fn touch(&mut self) -> &mut Self {
        self.is_touch = true;
        self
    }

    /// Whose rows it writes.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The commit is refused with [`CommitError::Conflict`] when the row is there.
    pub fn require_absent<K: Key, V: Value>(&mut self, keyspace: &Keyspace<K, V>, key: &K) -> &mut Self {
        self.require(keyspace, key, None)
    }

    /// The commit is refused with [`CommitError::Conflict`] when the row is not there or has another value.
    pub fn require_same<K: Key, V: Value>(&mut self, keyspace: &Keyspace<K, V>, key: &K, value: &V) -> &mut Self {
        match encoded(value) {
            Ok(expected) => self.require(keyspace, key, Some(expected)),
            Err(mistake) => self.refuse(mistake),
        }
    }

    fn require<K: Key, V: Value>(
        &mut self,
        keyspace: &Keyspace<K, V>,
        key: &K,
        expected: Option<Vec<u8>>,
    ) -> &mut Self {
        match own_key(keyspace.info(), &self.home, &key::bytes_of(key)) {
            Ok(key) => {
                self.size.bytes += key.bytes.len() + expected.as_ref().map_or(0, Vec::len);
                self.requires.push(Require { key, expected, renewed: value::renewed::<V> });
                self
            }
            Err(mistake) => self.refuse(mistake),
        }
    }

    /// Writes a row of the commit's home.
    pub fn put<K: Key, V: Value>(&mut self, keyspace: &Keyspace<K, V>, key: &K, value: &V) -> &mut Self {
        let done = put(&mut self.batch, &mut self.size, keyspace, &self.home, key, value);
        self.note(done)
    }

    /// Removes a row of the commit's home, if it is there.
    pub fn delete<K: Key, V: Value>(&mut self, keyspace: &Keyspace<K, V>, key: &K) -> &mut Self {
        let done = delete(&mut self.batch, &mut self.size, keyspace, &self.home, key);
        self.note(done)
    }

    /// Removes the rows of the commit's home whose key begins with this part. For rare work: each such delete makes
    /// later reads of the keyspace a little slower until the engine has tidied up.
    pub fn delete_prefix<K: Key, V: Value, P: StartOf<K>>(&mut self, keyspace: &Keyspace<K, V>, part: &P) -> &mut Self {
        self.delete_below(keyspace.info(), &key::bytes_of(part))
    }

    /// Removes all rows of a keyspace in the commit's home. For rare work, like [`Commit::delete_prefix`].
    pub fn delete_all<K: Key, V: Value>(&mut self, keyspace: &Keyspace<K, V>) -> &mut Self {
        self.delete_below(keyspace.info(), &[])
    }

    /// Removes all rows of the commit's home, whatever their keyspace.
    pub fn delete_home(&mut self) -> &mut Self {
        let kind = self.home.kind();
        for keyspace in super::keyspaces::ALL.iter().filter(|keyspace| keyspace.home == kind) {
            self.delete_below(keyspace, &[]);
        }
        self
    }

    fn delete_below(&mut self, keyspace: &KeyspaceInfo, start: &[u8]) -> &mut Self {
        let done = own_key(keyspace, &self.home, start).map(|prefix| {
            self.size.add(prefix.bytes.len());
            self.batch.delete_prefix(prefix);
        });
        self.note(done)
    }

    /// Writes a row of content: one whose value follows from its key, so that it does not matter who writes it first.
    pub fn put_content<K: Key, V: Value>(&mut self, keyspace: &Keyspace<K, V>, key: &K, value: &V) -> &mut Self {
        let done = put(&mut self.batch, &mut self.size, keyspace, &Home::content(), key, value);
        self.note(done)
    }

    /// What this commit writes to a row so far; the inner none means that it deletes it.
    ///
    /// # Errors
    /// Never for what [`Commit::put`] wrote.
    pub fn written<K: Key, V: Value>(
        &self,
        keyspace: &Keyspace<K, V>,
        home: &Home,
        key: &K,
    ) -> Result<Option<Option<V>>, StorageError> {
        let row_key = keyspace.row_key(home, key);
        let Some(row) = self.batch.writes.get(&row_key) else { return Ok(None) };
        row.as_ref().map(|bytes| keyspace.read_value(&row_key.bytes, bytes)).transpose().map(Some)
    }

    /// It writes something, here or in another home: it is no barrier.
    #[must_use]
    pub fn writes(&self) -> bool {
        !self.batch.is_empty() || !self.effects.is_empty()
    }

    /// The rows that this commit writes so far; none as a value deletes the row.
    pub fn rows(&self) -> impl Iterator<Item = (&RowKey, Option<&[u8]>)> {
        self.batch.writes.iter().map(|(key, value)| (key, value.as_deref()))
    }

    /// Adds what another home learns of this decision.
    pub fn effect(&mut self, effect: Effect) -> &mut Self {
        if let Some(mistake) = effect.mistake {
            return self.refuse(mistake);
        }
        self.size.rows += effect.size.rows;
        self.size.bytes += effect.size.bytes;
        self.size.changes += effect.changes.iter().map(Change::bytes).sum::<usize>();
        self.effects.push(Effect { mistake: None, ..effect });
        self
    }

    /// Says in the feed what of this home changed, up to which number.
    pub fn change(&mut self, kind: ChangeKind, number: u64) -> &mut Self {
        self.say(kind, None, number)
    }

    /// [`Commit::change`], about a room or a person.
    pub fn change_about(&mut self, kind: ChangeKind, about: Home, number: u64) -> &mut Self {
        self.say(kind, Some(about), number)
    }

    fn say(&mut self, kind: ChangeKind, about: Option<Home>, number: u64) -> &mut Self {
        let change = Change { home: self.home.clone(), kind, about, first: number, number };
        self.size.changes += change.bytes();
        self.changes.push(change);
        self
    }

    /// Runs when the fate of the commit is known, in the order of commits, before the submitter is answered and even if
    /// nobody waits for the answer any more. It runs on the committer's thread: it must be short and must not block.
    /// A commit that is dropped before it was submitted drops its hooks without running them.
    pub fn then(&mut self, hook: impl FnOnce(&Result<Position, CommitError>) + Send + Sync + 'static) -> &mut Self {
        self.hooks.push(Box::new(hook));
        self
    }

    fn note(&mut self, done: Result<(), CommitError>) -> &mut Self {
        if let Err(mistake) = done { self.refuse(mistake) } else { self }
    }

    /// The first mistake is told.
    fn refuse(&mut self, mistake: CommitError) -> &mut Self {
        self.mistake.get_or_insert(mistake);
        self
    }

    /// Why it cannot be committed at all.
    pub(crate) fn mistake(&self) -> Option<CommitError> {
        let too_large = self.size.rows > COMMIT_ROWS_MAX
            || self.size.bytes > COMMIT_BYTES_MAX
            || self.size.changes > COMMIT_CHANGE_BYTES_MAX;
        self.mistake.clone().or_else(|| too_large.then_some(CommitError::TooLarge))
    }

    pub(crate) fn size(&self) -> Size {
        self.size
    }

    pub(crate) fn take_hooks(&mut self) -> impl Iterator<Item = Hook> + use<> {
        std::mem::take(&mut self.hooks).into_iter()
    }
}

/// What another home learns of a decision. It is in the commit of the decision, is applied after it, and is applied
/// again after a crash: what it writes must not depend on what is there.
#[derive(Debug)]
pub struct Effect {
    home: Home,
    pub(crate) batch: Batch,
    pub(crate) changes: Vec<Change>,
    size: Size,
    mistake: Option<CommitError>,
}

impl Effect {
    /// An effect on this home that does nothing yet.
    #[must_use]
    pub fn new(home: Home) -> Self {
        Self { home, batch: Batch::default(), changes: Vec::new(), size: Size::default(), mistake: None }
    }

    /// Writes a row of the effect's home.
    #[must_use]
    pub fn put<K: Key, V: Value>(mut self, keyspace: &Keyspace<K, V>, key: &K, value: &V) -> Self {
        let done = put(&mut self.batch, &mut self.size, keyspace, &self.home, key, value);
        self.note(done)
    }

    /// Removes a row of the effect's home, if it is there.
    #[must_use]
    pub fn delete<K: Key, V: Value>(mut self, keyspace: &Keyspace<K, V>, key: &K) -> Self {
        let done = delete(&mut self.batch, &mut self.size, keyspace, &self.home, key);
        self.note(done)
    }

    /// Says in the feed what of the effect's home changed, up to which number.
    #[must_use]
    pub fn change(mut self, kind: ChangeKind, number: u64) -> Self {
        self.changes.push(Change { home: self.home.clone(), kind, about: None, first: number, number });
        self
    }

    fn note(mut self, done: Result<(), CommitError>) -> Self {
        if let Err(mistake) = done {
            self.mistake.get_or_insert(mistake);
        }
        // It may have to be stored as one value.
        if self.size.bytes > VALUE_BYTES_MAX / 2 {
            self.mistake.get_or_insert(CommitError::TooLarge);
        }
        self
    }
}

/// What a commit weighs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Size {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    /// Bytes of its changes in a row of the feed.
    pub(crate) changes: usize,
}

impl Size {
    fn add(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes += bytes;
    }
}

fn put<K: Key, V: Value>(
    batch: &mut Batch,
    size: &mut Size,
    keyspace: &Keyspace<K, V>,
    home: &Home,
    key: &K,
    value: &V,
) -> Result<(), CommitError> {
    let key = own_key(keyspace.info(), home, &key::bytes_of(key))?;
    let value = encoded(value)?;
    size.add(key.bytes.len() + value.len());
    batch.write(key, Some(value));
    Ok(())
}

fn delete<K: Key, V: Value>(
    batch: &mut Batch,
    size: &mut Size,
    keyspace: &Keyspace<K, V>,
    home: &Home,
    key: &K,
) -> Result<(), CommitError> {
    let key = own_key(keyspace.info(), home, &key::bytes_of(key))?;
    size.add(key.bytes.len());
    batch.write(key, None);
    Ok(())
}

fn own_key(keyspace: &KeyspaceInfo, home: &Home, key: &[u8]) -> Result<RowKey, CommitError> {
    keyspace.check_home(home).map_err(|mistake| CommitError::Invalid(mistake.to_string()))?;
    let key = keyspace.row_key(home, key);
    if key.bytes.len() > KEY_BYTES_MAX { Err(CommitError::TooLarge) } else { Ok(key) }
}

fn encoded<V: Value>(value: &V) -> Result<Vec<u8>, CommitError> {
    let bytes = value::to_bytes(value).map_err(|reason| CommitError::Invalid(reason.to_string()))?;
    if bytes.len() > VALUE_BYTES_MAX { Err(CommitError::TooLarge) } else { Ok(bytes) }
}

/// Effects that wait in the home of their commit. The key is the position of the commit and the number of the effect.
pub(crate) static EFFECTS: KeyspaceInfo =
    KeyspaceInfo { id: 1, name: "EFFECTS", home: HomeKind::Server, profile: Profile::Rows };

/// An effect as it waits.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredEffect {
    writes: Vec<(bool, Vec<u8>, Option<Vec<u8>>)>,
    changes: Vec<StoredChange>,
}
impl Value for StoredEffect {
    const VERSION: u8 = 2;

    fn upgrade(version: u8, bytes: &[u8]) -> Result<Self, BadValue> {
        match version {
            1 => value::fields::<StoredEffectV1>(bytes).map(|old| Self {
                writes: old.writes,
                changes: old.changes.into_iter().map(StoredChange::from).collect(),
            }),
            other => Err(BadValue::Version(other)),
        }
    }
}

/// As it was before a change said what it is about.
#[derive(Serialize, Deserialize)]
struct StoredEffectV1 {
    writes: Vec<(bool, Vec<u8>, Option<Vec<u8>>)>,
    changes: Vec<StoredChangeV1>,
}

impl From<&Effect> for StoredEffect {
    fn from(effect: &Effect) -> Self {
        let row =
            |(key, value): (&RowKey, &Option<Vec<u8>>)| (key.profile == Profile::Log, key.bytes.clone(), value.clone());
        Self {
            writes: effect.batch.writes.iter().map(row).collect(),
            changes: effect.changes.iter().map(StoredChange::from).collect(),
        }
    }
}

impl StoredEffect {
    /// What it writes and says; `None` when it is damaged.
    pub(crate) fn read(self) -> Option<(Batch, Vec<Change>)> {
        let mut batch = Batch::default();
        for (is_log, bytes, value) in self.writes {
            batch.write(RowKey { profile: if is_log { Profile::Log } else { Profile::Rows }, bytes }, value);
        }
        Some((batch, self.changes.iter().map(StoredChange::read).collect::<Option<_>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_of_the_first_version_is_still_read() {
        let old = StoredEffectV1 { writes: vec![(false, vec![40, 1], None)], changes: Vec::new() };
        let bytes = postcard::to_extend(&old, vec![1]).unwrap();
        let (batch, changes) = value::from_bytes::<StoredEffect>(&bytes).unwrap().read().unwrap();
        assert_eq!((batch.writes.len(), changes.len()), (1, 0));
    }
}

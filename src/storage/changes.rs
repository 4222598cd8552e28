//! The feed: what changed at which position of the stream, for sync, live updates and peers.
//! The only place that compares positions. May import: home, keyspace, value.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{
    StorageError,
    engine::RowPage,
    home::{Home, HomeKind},
    key::{self, Key},
    keyspace::{KeyspaceInfo, Profile, RowKey},
    value::{self, BadValue, Value},
};

/// A log of groups of commits. Embedded there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(u16);

impl StreamId {
    /// The one stream of an embedded engine.
    pub const ONLY: Self = Self(0);
}

/// Random bytes that a group of commits carries, so that a lost answer can be settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupId(pub [u8; 16]);

/// A point in the feed of a tenant. Opaque: only the feed can tell what lies behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Position {
    stream: StreamId,
    number: u64,
}

/// Before everything.
impl Default for Position {
    fn default() -> Self {
        Self::START
    }
}

impl Position {
    /// Before everything.
    pub const START: Self = Self::new(StreamId::ONLY, 0);

    pub(crate) const fn new(stream: StreamId, number: u64) -> Self {
        Self { stream, number }
    }

    pub(crate) fn number(self) -> u64 {
        self.number
    }

    /// Everything up to `other` is part of what this position has seen.
    #[must_use]
    pub fn has_reached(self, other: Self) -> bool {
        self.stream == other.stream && self.number >= other.number
    }

    /// How many positions lie between this one and a later one; 0 when the other is not later.
    #[must_use]
    pub fn distance_to(self, later: Self) -> u64 {
        later.number.saturating_sub(self.number)
    }

    /// The position before this one: reading behind it begins here.
    #[must_use]
    pub fn before(self) -> Self {
        Self { number: self.number.saturating_sub(1), ..self }
    }

    /// The opaque string that clients and peers' cursors keep.
    #[must_use]
    pub fn to_token(self) -> String {
        format!("{TOKEN_VERSION}{}", self.number)
    }

    /// The position of a token; `None` for every other string.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        let position = Self::new(StreamId::ONLY, token.strip_prefix(TOKEN_VERSION)?.parse().ok()?);
        (position.to_token() == token).then_some(position)
    }
}

/// A token of this form holds one number, which then counts for every stream.
const TOKEN_VERSION: &str = "p1_";

impl fmt::Debug for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.to_token())
    }
}

/// How far somebody has read the feed: all rows up to a position, of the last one perhaps only the first items. Which items a row has and in which
/// order, its reader says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The last row that was read.
    pub position: Position,
    /// How many items of it were read; none: all.
    pub items: Option<u32>,
}

impl Cursor {
    /// Everything up to a position.
    #[must_use]
    pub fn through(position: Position) -> Self {
        Self { position, items: None }
    }

    /// Behind which position reading goes on: a row that was read in part is read again.
    #[must_use]
    pub fn behind(self) -> Position {
        match self.items {
            Some(_) => Position { number: self.position.number.saturating_sub(1), ..self.position },
            None => self.position,
        }
    }

    /// The opaque string that clients keep.
    #[must_use]
    pub fn to_token(self) -> String {
        match self.items {
            Some(items) => format!("{}.{items}", self.position.to_token()),
            None => self.position.to_token(),
        }
    }

    /// The cursor of a token; `None` for every other string.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        let (position, items) = match token.split_once('.') {
            Some((position, items)) => (position, Some(items.parse().ok()?)),
            None => (token, None),
        };
        let cursor = Self { position: Position::from_token(position)?, items };
        (cursor.to_token() == token).then_some(cursor)
    }
}

/// What of a home changed. Stored: new kinds are added at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChangeKind {
    /// A room's events, up to the number of their arrival.
    Events,
    /// A person's list of rooms, about a room, where no event of the room says so: the room is no more.
    Rooms,
    /// What a person has set for themselves, about a room: mode, mute, pin.
    Personal,
    /// A person's account and sessions.
    Account,
    /// A room's members, about one person. The number is the arrival of the event that is in force now.
    Members,
    /// What this server has set for a room.
    Settings,
    /// How far a person has read, about a room.
    ReadMarker,
    /// Events of a room that this server tells the other servers in it, up to the number of their arrival.
    Owed,
}

/// That something of a home changed, and up to which number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whose rows.
    pub home: Home,
    /// Which of them.
    pub kind: ChangeKind,
    /// Which room or person it concerns, where the kind says so.
    pub about: Option<Home>,
    /// The lowest number that the row added.
    pub first: u64,
    /// The highest number of the kind that is there now; 0 where the kind has no numbers.
    pub number: u64,
}

impl Change {
    /// Bytes that it takes in a feed row at most.
    pub(crate) fn bytes(&self) -> usize {
        CHANGE_BYTES + self.home.id_len() + self.about.as_ref().map_or(0, Home::id_len)
    }
}

/// What changed at one position. Everything in it became visible at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedRow {
    /// Where.
    pub position: Position,
    /// What: each home, kind and subject once.
    pub changes: Vec<Change>,
}

/// The rows of the feed. The key is stream and number.
pub(crate) static FEED: KeyspaceInfo =
    KeyspaceInfo { id: 0, name: "FEED", home: HomeKind::Server, profile: Profile::Log };

#[derive(Serialize, Deserialize)]
struct StoredFeedRow {
    epoch: u64,
    group: GroupId,
    changes: Vec<StoredChange>,
}
impl Value for StoredFeedRow {
    const VERSION: u8 = 2;

    fn upgrade(version: u8, bytes: &[u8]) -> Result<Self, BadValue> {
        match version {
            1 => value::fields::<StoredFeedRowV1>(bytes).map(|old| Self {
                epoch: old.epoch,
                group: old.group,
                changes: old.changes.into_iter().map(StoredChange::from).collect(),
            }),
            other => Err(BadValue::Version(other)),
        }
    }
}

/// As it was before the live stream: nothing said what a change is about, nor where it began.
#[derive(Serialize, Deserialize)]
struct StoredFeedRowV1 {
    epoch: u64,
    group: GroupId,
    changes: Vec<StoredChangeV1>,
}

/// Kind of home and id of home, kind, number.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredChangeV1(Vec<u8>, ChangeKind, u64);

impl From<StoredChangeV1> for StoredChange {
    fn from(old: StoredChangeV1) -> Self {
        Self { home: old.0, kind: old.1, about: Vec::new(), first: old.2, number: old.2 }
    }
}

/// A change as bytes.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredChange {
    home: Vec<u8>,
    kind: ChangeKind,
    /// Empty: about nothing.
    about: Vec<u8>,
    first: u64,
    number: u64,
}

impl From<&Change> for StoredChange {
    fn from(change: &Change) -> Self {
        let bytes = |home: &Home| {
            let mut bytes = Vec::new();
            home.encode(&mut bytes);
            bytes
        };
        let about = change.about.as_ref().map(bytes).unwrap_or_default();
        Self { home: bytes(&change.home), kind: change.kind, about, first: change.first, number: change.number }
    }
}

impl StoredChange {
    pub(crate) fn read(&self) -> Option<Change> {
        let home = |bytes: &[u8]| Home::decode(&mut &*bytes);
        let about = if self.about.is_empty() { None } else { Some(home(&self.about)?) };
        Some(Change { home: home(&self.home)?, kind: self.kind, about, first: self.first, number: self.number })
    }
}

/// Bytes that a change takes in a feed row at most, beside its ids: heads of two homes, lengths, kind, two numbers.
pub(crate) const CHANGE_BYTES: usize = 32;

/// What the groups of one attempt change, merged: each home, kind and subject once, with its lowest and its latest number.
#[derive(Debug, Default)]
pub(crate) struct Changes(BTreeMap<(Home, ChangeKind, Option<Home>), (u64, u64)>);

impl Changes {
    pub(crate) fn add(&mut self, change: &Change) {
        let key = (change.home.clone(), change.kind, change.about.clone());
        let (first, number) = self.0.entry(key).or_insert((change.first, change.number));
        *first = change.first.min(*first);
        // Events are counted upward; of everything else the last word counts.
        let is_counted = matches!(change.kind, ChangeKind::Events | ChangeKind::Owed);
        *number = if is_counted { change.number.max(*number) } else { change.number };
    }

    /// The row that makes a position taken.
    pub(crate) fn row(&self, position: Position, epoch: u64, group: GroupId) -> Result<(RowKey, Vec<u8>), BadValue> {
        let changes = self.0.iter().map(|((home, kind, about), &(first, number))| Change {
            home: home.clone(),
            kind: *kind,
            about: about.clone(),
            first,
            number,
        });
        let row = StoredFeedRow { epoch, group, changes: changes.map(|change| (&change).into()).collect() };
        Ok((row_key(position), value::to_bytes(&row)?))
    }
}

/// The key of a position's row.
pub(crate) fn row_key(position: Position) -> RowKey {
    FEED.row_key(&Home::server(), &key::bytes_of(&(position.stream.0, position.number)))
}

/// The beginning of the keys of a stream's rows.
pub(crate) fn stream_start(stream: StreamId) -> RowKey {
    FEED.row_key(&Home::server(), &key::bytes_of(&stream.0))
}

fn stored(key: &[u8], bytes: &[u8]) -> Result<(Position, StoredFeedRow), StorageError> {
    let whole = RowKey { profile: FEED.profile, bytes: key.to_vec() };
    let (_, mut rest) = whole.split().ok_or_else(|| FEED.corrupt(key, &"the key has no home"))?;
    let (stream, number) = <(u16, u64)>::decode(&mut rest).map_err(|reason| FEED.corrupt(key, &reason))?;
    let row = value::from_bytes(bytes).map_err(|reason| FEED.corrupt(key, &reason))?;
    Ok((Position::new(StreamId(stream), number), row))
}

/// What a stored row of the feed says to readers.
pub(crate) fn read(key: &[u8], bytes: &[u8]) -> Result<FeedRow, StorageError> {
    let (position, row) = stored(key, bytes)?;
    let changes = row.changes.iter().map(|change| change.read().ok_or_else(|| FEED.corrupt(key, &"a home is damaged")));
    Ok(FeedRow { position, changes: changes.collect::<Result<_, _>>()? })
}

/// What a stored row of the feed says to committers: number, epoch and who wrote it.
pub(crate) fn read_claim(key: &[u8], bytes: &[u8]) -> Result<(u64, u64, GroupId), StorageError> {
    let (position, row) = stored(key, bytes)?;
    Ok((position.number, row.epoch, row.group))
}

/// The number and epoch in the last row of a stream; zeros when the page is empty.
pub(crate) fn last_of(page: &RowPage) -> Result<(u64, u64), StorageError> {
    match page.rows.first() {
        Some((key, value)) => read_claim(key, value).map(|(number, epoch, _)| (number, epoch)),
        None => Ok((0, 0)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruma::{room_id, user_id};

    use super::*;

    fn change(home: &Home, kind: ChangeKind, about: Option<&Home>, first: u64, number: u64) -> Change {
        Change { home: home.clone(), kind, about: about.cloned(), first, number }
    }

    #[test]
    fn a_row_returns_with_each_home_kind_and_subject_once() {
        let room = Home::room(room_id!("!r:a.example"));
        let (alice, bob) = (Home::person(user_id!("@alice:a.example")), Home::person(user_id!("@bob:a.example")));
        let mut changes = Changes::default();
        for change in [
            change(&room, ChangeKind::Events, None, 4, 4),
            change(&room, ChangeKind::Members, Some(&alice), 4, 4),
            change(&alice, ChangeKind::Personal, Some(&room), 0, 0),
            change(&room, ChangeKind::Members, Some(&bob), 5, 5),
            change(&room, ChangeKind::Events, None, 5, 5),
            change(&room, ChangeKind::Members, Some(&alice), 2, 2),
        ] {
            changes.add(&change);
        }
        let position = Position::new(StreamId::ONLY, 9);
        let (key, bytes) = changes.row(position, 3, GroupId([7; 16])).unwrap();
        assert_eq!(read_claim(&key.bytes, &bytes).unwrap(), (9, 3, GroupId([7; 16])));
        let row = read(&key.bytes, &bytes).unwrap();
        assert_eq!(row.position, position);
        assert_eq!(
            row.changes,
            [
                change(&room, ChangeKind::Events, None, 4, 5),
                change(&room, ChangeKind::Members, Some(&alice), 2, 2),
                change(&room, ChangeKind::Members, Some(&bob), 5, 5),
                change(&alice, ChangeKind::Personal, Some(&room), 0, 0),
            ]
        );
    }

    #[test]
    fn a_row_of_the_first_version_is_still_read() {
        let room = Home::room(room_id!("!r:a.example"));
        let mut home = Vec::new();
        room.encode(&mut home);
        let changes = vec![StoredChangeV1(home, ChangeKind::Events, 7)];
        let fields = StoredFeedRowV1 { epoch: 3, group: GroupId([7; 16]), changes };
        let bytes = postcard::to_extend(&fields, vec![1]).unwrap();
        let row = read(&row_key(Position::new(StreamId::ONLY, 9)).bytes, &bytes).unwrap();
        assert_eq!(row.changes, [change(&room, ChangeKind::Events, None, 7, 7)]);
    }

    proptest! {
        #[test]
        fn tokens_return(number: u64, items: Option<u32>) {
            let position = Position::new(StreamId::ONLY, number);
            prop_assert_eq!(Position::from_token(&position.to_token()), Some(position));
            let cursor = Cursor { position, items };
            prop_assert_eq!(Cursor::from_token(&cursor.to_token()), Some(cursor));
        }
    }

    #[test]
    fn other_strings_are_no_tokens() {
        for token in ["", "7", "p1_", "p1_-1", "p1_+1", "p1_007", "p2_7", "p1_99999999999999999999"] {
            assert_eq!(Position::from_token(token), None, "{token}");
            assert_eq!(Cursor::from_token(token), None, "{token}");
        }
        for token in ["p1_7.", "p1_7.x", "p1_7.01", "p1_7.1.1", "p1_7.4294967296"] {
            assert_eq!(Cursor::from_token(token), None, "{token}");
        }
    }
}

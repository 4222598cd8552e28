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

/// What of a home changed. Stored: new kinds are added at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChangeKind {
    /// A room's events, up to the number of their arrival.
    Events,
    /// The rooms that a person is in or invited to.
    Rooms,
    /// What a person has set for themselves: read markers, mutes, pins.
    Personal,
    /// A person's account and sessions.
    Account,
}

/// That something of a home changed, and up to which number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whose rows.
    pub home: Home,
    /// Which of them.
    pub kind: ChangeKind,
    /// The highest number of the kind that is there now; 0 where the kind has no numbers.
    pub number: u64,
}

/// What changed at one position. Everything in it became visible at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedRow {
    /// Where.
    pub position: Position,
    /// What: each home and kind once.
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
impl Value for StoredFeedRow {}

/// A change as bytes: kind of home, id of home, kind, number.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredChange(Vec<u8>, ChangeKind, u64);

impl From<&Change> for StoredChange {
    fn from(change: &Change) -> Self {
        let mut home = Vec::new();
        change.home.encode(&mut home);
        Self(home, change.kind, change.number)
    }
}

impl StoredChange {
    pub(crate) fn read(&self) -> Option<Change> {
        Some(Change { home: Home::decode(&mut self.0.as_slice())?, kind: self.1, number: self.2 })
    }
}

/// Bytes that a change takes in a feed row at most, beside the id of its home: head of the home, lengths, kind, number.
pub(crate) const CHANGE_BYTES: usize = 20;

/// What the groups of one attempt change, merged: each home and kind once, with its highest number.
#[derive(Debug, Default)]
pub(crate) struct Changes(BTreeMap<(Home, ChangeKind), u64>);

impl Changes {
    pub(crate) fn add(&mut self, change: &Change) {
        let number = self.0.entry((change.home.clone(), change.kind)).or_default();
        *number = change.number.max(*number);
    }

    /// The row that makes a position taken.
    pub(crate) fn row(&self, position: Position, epoch: u64, group: GroupId) -> Result<(RowKey, Vec<u8>), BadValue> {
        let changes = self.0.iter().map(|((home, kind), &number)| Change { home: home.clone(), kind: *kind, number });
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

    #[test]
    fn a_row_returns_with_each_home_and_kind_once() {
        let room = Home::room(room_id!("!r:a.example"));
        let alice = Home::person(user_id!("@alice:a.example"));
        let mut changes = Changes::default();
        for (home, kind, number) in
            [(&room, ChangeKind::Events, 5), (&alice, ChangeKind::Rooms, 0), (&room, ChangeKind::Events, 4)]
        {
            changes.add(&Change { home: home.clone(), kind, number });
        }
        let position = Position::new(StreamId::ONLY, 9);
        let (key, bytes) = changes.row(position, 3, GroupId([7; 16])).unwrap();
        assert_eq!(read_claim(&key.bytes, &bytes).unwrap(), (9, 3, GroupId([7; 16])));
        let row = read(&key.bytes, &bytes).unwrap();
        assert_eq!(row.position, position);
        assert_eq!(
            row.changes,
            [
                Change { home: room, kind: ChangeKind::Events, number: 5 },
                Change { home: alice, kind: ChangeKind::Rooms, number: 0 },
            ]
        );
    }

    proptest! {
        #[test]
        fn tokens_return(number: u64) {
            let position = Position::new(StreamId::ONLY, number);
            prop_assert_eq!(Position::from_token(&position.to_token()), Some(position));
        }
    }

    #[test]
    fn other_strings_are_no_tokens() {
        for token in ["", "7", "p1_", "p1_-1", "p1_+1", "p1_007", "p2_7", "p1_99999999999999999999"] {
            assert_eq!(Position::from_token(token), None, "{token}");
        }
    }
}

//! Homes: whom a row belongs to. All rows of a home have one writer and move together.
//! May import: ruma ids.

use std::{fmt, sync::Arc};

use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId};

/// The kinds of homes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HomeKind {
    /// The tenant itself: its keys, accounts by name, settings.
    Server,
    /// A room.
    Room,
    /// A person, of this server or of another one.
    Person,
    /// Another server.
    Peer,
    /// A name that is reserved before the thing it names exists: a room's alias, the pair of a direct message.
    Name,
    /// Rows whose value follows from their key (event id to place): any commit may add them, and they never change.
    Content,
}

impl HomeKind {
    const ALL: [Self; 6] = [Self::Server, Self::Room, Self::Person, Self::Peer, Self::Name, Self::Content];

    /// Stored, so never changed.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Server => 1,
            Self::Room => 2,
            Self::Person => 3,
            Self::Peer => 4,
            Self::Name => 5,
            Self::Content => 6,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// Whom a row belongs to. Cheap to copy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Home {
    kind: HomeKind,
    id: Arc<[u8]>,
}

impl Home {
    fn new(kind: HomeKind, id: &[u8]) -> Self {
        Self { kind, id: id.into() }
    }

    /// The home of what belongs to a room.
    #[must_use]
    pub fn room(id: &RoomId) -> Self {
        Self::new(HomeKind::Room, id.as_bytes())
    }

    /// The home of what belongs to a person.
    #[must_use]
    pub fn person(id: &UserId) -> Self {
        Self::new(HomeKind::Person, id.as_bytes())
    }

    /// The home of what we know of another server.
    #[must_use]
    pub fn peer(name: &ServerName) -> Self {
        Self::new(HomeKind::Peer, name.as_bytes())
    }

    /// The home of a name that is to be reserved. Which sort of name it is, its keyspace says.
    #[must_use]
    pub fn name(name: &str) -> Self {
        Self::new(HomeKind::Name, name.as_bytes())
    }

    /// The home of what belongs to the tenant as a whole.
    #[must_use]
    pub fn server() -> Self {
        Self::new(HomeKind::Server, &[])
    }

    /// The home of all rows whose value follows from their key.
    #[must_use]
    pub fn content() -> Self {
        Self::new(HomeKind::Content, &[])
    }

    /// What kind of home it is.
    #[must_use]
    pub fn kind(&self) -> HomeKind {
        self.kind
    }

    /// The room, if it is a room's home.
    #[must_use]
    pub fn as_room(&self) -> Option<OwnedRoomId> {
        OwnedRoomId::try_from(self.text_of(HomeKind::Room)?).ok()
    }

    /// The person, if it is a person's home.
    #[must_use]
    pub fn as_person(&self) -> Option<OwnedUserId> {
        OwnedUserId::try_from(self.text_of(HomeKind::Person)?).ok()
    }

    /// The other server, if it is a peer's home.
    #[must_use]
    pub fn as_peer(&self) -> Option<OwnedServerName> {
        OwnedServerName::try_from(self.text_of(HomeKind::Peer)?).ok()
    }

    /// The name, if it is a name's home.
    #[must_use]
    pub fn as_name(&self) -> Option<&str> {
        self.text_of(HomeKind::Name)
    }

    fn text_of(&self, kind: HomeKind) -> Option<&str> {
        (self.kind == kind).then(|| std::str::from_utf8(&self.id).ok()).flatten()
    }

    /// Bytes of the id: what a home adds to each of its keys, with [`Home::HEAD_BYTES`].
    pub(crate) fn id_len(&self) -> usize {
        self.id.len()
    }

    /// Bytes of a home's kind and of its length in a row's key.
    pub(crate) const HEAD_BYTES: usize = 3;

    /// Appends kind, length and id. An id beyond the length's range gets a beginning that no stored row has; the limit
    /// of a key's length refuses to write such a row.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind.number());
        out.extend_from_slice(&u16::try_from(self.id.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(&self.id);
    }

    /// Takes a home from the front of a row's key, behind the keyspace.
    pub(crate) fn decode(input: &mut &[u8]) -> Option<Self> {
        let (&[kind, high, low], rest) = input.split_first_chunk()?;
        let (id, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        *input = rest;
        Some(Self::new(HomeKind::from_number(kind)?, id))
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}({})", self.kind, String::from_utf8_lossy(&self.id))
    }
}

#[cfg(test)]
mod tests {
    use ruma::{room_id, server_name, user_id};

    use super::*;

    #[test]
    fn homes_return_from_their_bytes() {
        let homes = [
            Home::room(room_id!("!a:b.example")),
            Home::person(user_id!("@a:b.example")),
            Home::peer(server_name!("b.example")),
            Home::name("#alias:b.example"),
            Home::server(),
            Home::content(),
        ];
        for home in homes {
            let mut bytes = Vec::new();
            home.encode(&mut bytes);
            bytes.extend_from_slice(b"key");
            let mut input = bytes.as_slice();
            assert_eq!(Home::decode(&mut input), Some(home));
            assert_eq!(input, b"key");
        }
    }

    #[test]
    fn a_home_knows_only_what_it_is() {
        let home = Home::room(room_id!("!a:b.example"));
        assert_eq!(home.as_room().as_deref(), Some(room_id!("!a:b.example")));
        assert_eq!((home.as_person(), home.as_peer(), home.as_name()), (None, None, None));
    }

    #[test]
    fn damaged_homes_are_refused() {
        for bytes in [&[][..], &[2], &[2, 0, 9, b'!'], &[77, 0, 0]] {
            assert_eq!(Home::decode(&mut &*bytes), None);
        }
    }
}

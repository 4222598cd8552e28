//! Accounts, sessions, and what keeps a repeated request from acting twice.

use rules::UnixMs;
use ruma::OwnedRoomId;
use serde::{Deserialize, Serialize};

use super::value::{BadValue, Value, fields};

/// A person of this server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Argon2id in PHC form; none: nobody can log in with a password.
    pub password_hash: Option<String>,
    /// May use the calls under `/v1/admin`.
    pub is_admin: bool,
    /// What the account may do.
    pub state: AccountState,
    /// The name that others see.
    pub display_name: Option<String>,
    /// When it was made.
    pub created_at: UnixMs,
    /// The workspace that came with the account.
    pub personal_workspace: Reservation,
    /// The picture that others see, a medium of this server.
    pub avatar_url: Option<String>,
}

/// An account before there were pictures.
#[derive(Serialize, Deserialize)]
struct AccountV1 {
    password_hash: Option<String>,
    is_admin: bool,
    state: AccountState,
    display_name: Option<String>,
    created_at: UnixMs,
    personal_workspace: Reservation,
}

impl Value for Account {
    const VERSION: u8 = 2;

    fn upgrade(version: u8, bytes: &[u8]) -> Result<Self, BadValue> {
        let old = match version {
            1 => fields::<AccountV1>(bytes)?,
            other => return Err(BadValue::Version(other)),
        };
        Ok(Self {
            password_hash: old.password_hash,
            is_admin: old.is_admin,
            state: old.state,
            display_name: old.display_name,
            created_at: old.created_at,
            personal_workspace: old.personal_workspace,
            avatar_url: None,
        })
    }
}

/// What an account may do.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccountState {
    /// Everything its rights allow.
    Active,
    /// Nothing, until an admin enables it.
    Disabled,
    /// Nothing, for good; its name stays taken.
    Deactivated,
    /// Nothing, until a password is set: it came with an import.
    Locked,
}

/// A room whose id is promised before it exists. Who meets it without its room finishes the room from the create event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The promised id.
    pub room_id: OwnedRoomId,
    /// Canonical JSON of the signed create event.
    pub create_event: String,
    /// SHA-256 of what was asked; zero where nothing was.
    pub fingerprint: [u8; 32],
    /// When.
    pub at: UnixMs,
}

/// One access token, found by its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Names the session without giving its token away.
    pub id: String,
    /// Where it came from: a log-in, the command line.
    pub name: String,
    /// When it began.
    pub created_at: UnixMs,
    /// When it ends by itself; none: never.
    pub expires_at: Option<UnixMs>,
    /// When it was used last, to the hour.
    pub last_used_at: UnixMs,
}

/// A session before its use was noted.
#[derive(Serialize, Deserialize)]
struct SessionV1 {
    id: String,
    name: String,
    created_at: UnixMs,
    expires_at: Option<UnixMs>,
}

impl Value for Session {
    const VERSION: u8 = 2;

    fn upgrade(version: u8, bytes: &[u8]) -> Result<Self, BadValue> {
        match version {
            1 => fields::<SessionV1>(bytes).map(|SessionV1 { id, name, created_at, expires_at }| Self {
                id,
                name,
                created_at,
                expires_at,
                last_used_at: created_at,
            }),
            other => Err(BadValue::Version(other)),
        }
    }
}

/// The stored answer to a mutating request that carried an `Idempotency-Key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// SHA-256 of the request's body.
    pub fingerprint: [u8; 32],
    /// The HTTP status, as a number: storage knows no HTTP.
    pub status: u16,
    /// The body, as it was sent.
    pub body: String,
    /// When.
    pub at: UnixMs,
}

#[cfg(test)]
mod tests {
    use ruma::owned_room_id;

    use super::*;
    use crate::storage::value;

    impl Value for AccountV1 {}

    #[test]
    fn an_account_from_before_there_were_pictures_is_read_as_one_without() {
        let reservation = || Reservation {
            room_id: owned_room_id!("!a:b.example"),
            create_event: "{}".to_owned(),
            fingerprint: [0; 32],
            at: UnixMs(1),
        };
        let old = AccountV1 {
            password_hash: Some("hash".to_owned()),
            is_admin: true,
            state: AccountState::Active,
            display_name: Some("Alice".to_owned()),
            created_at: UnixMs(2),
            personal_workspace: reservation(),
        };
        let now = Account {
            password_hash: Some("hash".to_owned()),
            is_admin: true,
            state: AccountState::Active,
            display_name: Some("Alice".to_owned()),
            created_at: UnixMs(2),
            personal_workspace: reservation(),
            avatar_url: None,
        };
        assert_eq!(value::from_bytes::<Account>(&value::to_bytes(&old).unwrap()).unwrap(), now);
        assert_eq!(value::from_bytes::<Account>(&value::to_bytes(&now).unwrap()).unwrap(), now);
    }

    #[test]
    fn a_session_of_the_first_version_was_last_used_when_it_began() {
        let old = SessionV1 { id: "s".to_owned(), name: "login".to_owned(), created_at: UnixMs(7), expires_at: None };
        let stored = [vec![1], postcard::to_stdvec(&old).unwrap()].concat();
        let read: Session = value::from_bytes(&stored).unwrap();
        assert_eq!((read.id.as_str(), read.created_at, read.last_used_at), ("s", UnixMs(7), UnixMs(7)));
    }
}

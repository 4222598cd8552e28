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
    use super::*;
    use crate::storage::value;

    #[test]
    fn a_session_of_the_first_version_was_last_used_when_it_began() {
        let old = SessionV1 { id: "s".to_owned(), name: "login".to_owned(), created_at: UnixMs(7), expires_at: None };
        let stored = [vec![1], postcard::to_stdvec(&old).unwrap()].concat();
        let read: Session = value::from_bytes(&stored).unwrap();
        assert_eq!((read.id.as_str(), read.created_at, read.last_used_at), ("s", UnixMs(7), UnixMs(7)));
    }
}

//! Who asks: a person of this tenant, perhaps an admin of it.

use ruma::{OwnedUserId, UserId};

/// Who an action is done for. Made by the edges, after the token was checked.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The person.
    pub user_id: OwnedUserId,
    /// The person administers this tenant.
    pub is_admin: bool,
    /// The session that the token belongs to, by its hash; none on the command line.
    pub session: Option<[u8; 32]>,
    /// The request's `Idempotency-Key`, so that what it makes is made once even across a crash.
    pub request: Option<RequestKey>,
}

/// What makes a repeated request the same request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Method, path and `Idempotency-Key`.
    pub key: String,
    /// SHA-256 of the `Idempotency-Key`, the query and the body.
    pub fingerprint: [u8; 32],
}

impl Caller {
    /// A caller without a session: the command line, a job, a test.
    pub fn local(user_id: &UserId, is_admin: bool) -> Self {
        Self { user_id: user_id.to_owned(), is_admin, session: None, request: None }
    }
}

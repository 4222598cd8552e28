//! Who asks: a person of this tenant, perhaps an admin of it.

use ruma::{OwnedUserId, RoomId, UserId};

use super::{
    Actions,
    audit::{Act, Actor},
};
use crate::storage::Commit;

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
    /// The server that acts in the person's name; none: the person does.
    pub on_behalf: Option<OnBehalf>,
}

/// A server with an app token, and what it does in somebody's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnBehalf {
    /// What an admin calls that server.
    pub app: String,
    /// The id of its token.
    pub token_id: String,
    /// What is done, as `noun.verb`.
    pub action: &'static str,
}

impl OnBehalf {
    /// Writes down what is done to a room, and in whose name, with the commit that does it.
    pub(super) fn record(&self, actions: &Actions, person: &UserId, room_id: &RoomId, commit: &mut Commit) {
        let details = vec![("token", self.token_id.clone()), ("as", person.to_string())];
        let act = Act { actor: Actor::App(&self.app), action: self.action, target: room_id.to_string(), details };
        act.record(actions, commit);
    }
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
        Self { user_id: user_id.to_owned(), is_admin, session: None, request: None, on_behalf: None }
    }

    /// Who acts, for the record.
    pub(super) fn actor(&self) -> Actor<'_> {
        match &self.on_behalf {
            Some(by) => Actor::App(&by.app),
            None => Actor::Admin(&self.user_id),
        }
    }
}

//! How often accounts may make this server call others, and how many bytes they may make it fetch: each account in all, and each at one other server. The counts
//! are kept in memory.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use rules::UnixMs;
use ruma::{OwnedUserId, ServerName, UserId};

use super::{ActionError, Actions, Caller};

/// Calls of one account within [`WINDOW_MS`].
pub const CALLS_OF_ACCOUNT_MAX: usize = 300;
/// Those of them that go to one server.
pub const CALLS_TO_SERVER_MAX: usize = 100;
/// Bytes of media of other servers that are fetched for one account within [`WINDOW_MS`]; the one that goes beyond it still comes.
pub const BYTES_OF_ACCOUNT_MAX: u64 = 1024 * 1024 * 1024;
/// How long a call counts.
pub const WINDOW_MS: u64 = 10 * 60 * 1_000;
/// Accounts from which those whose calls count no longer are cleared away first.
const ACCOUNTS_SWEEP: usize = 1_024;

/// What the last minutes saw, by account: of calls when and to which server, of what was fetched when and how many bytes.
#[derive(Default)]
pub struct Quotas {
    calls: Mutex<HashMap<OwnedUserId, VecDeque<(UnixMs, u64)>>>,
    fetched: Mutex<HashMap<OwnedUserId, VecDeque<(UnixMs, u64)>>>,
}

/// Counts one call of an account that wants to fetch a medium of a server.
///
/// # Errors
/// [`ActionError::RateLimited`], also when it has fetched too many bytes.
pub(super) fn may_fetch(actions: &Actions, caller: &Caller, server: &ServerName) -> Result<(), ActionError> {
    let now = actions.now();
    let first = {
        let mut accounts = actions.quotas.fetched.lock();
        let fetched = accounts.entry(caller.user_id.clone()).or_default();
        fetched.retain(|(at, _)| counts(*at, now));
        let bytes: u64 = fetched.iter().map(|(_, bytes)| *bytes).fold(0, u64::saturating_add);
        fetched.front().map(|(at, _)| *at).filter(|_| bytes >= BYTES_OF_ACCOUNT_MAX)
    };
    if let Some(first) = first {
        return Err(limited(first, now));
    }
    count(actions, caller, server)
}

/// Counts what was fetched for an account.
pub(super) fn has_fetched(actions: &Actions, user_id: &UserId, bytes: u64) {
    let now = actions.now();
    let mut accounts = actions.quotas.fetched.lock();
    if accounts.len() >= ACCOUNTS_SWEEP {
        accounts.retain(|_, fetched| fetched.back().is_some_and(|(at, _)| counts(*at, now)));
    }
    accounts.entry(user_id.to_owned()).or_default().push_back((now, bytes));
}

fn counts(at: UnixMs, now: UnixMs) -> bool {
    now.0 < at.0.saturating_add(WINDOW_MS)
}

/// It may work when the first of them counts no longer.
fn limited(first: UnixMs, now: UnixMs) -> ActionError {
    let wait_ms = first.0.saturating_add(WINDOW_MS).saturating_sub(now.0);
    ActionError::RateLimited { retry_after: Duration::from_millis(wait_ms) }
}

/// Counts one call of an account to a server.
///
/// # Errors
/// [`ActionError::RateLimited`].
pub(super) fn count(actions: &Actions, caller: &Caller, server: &ServerName) -> Result<(), ActionError> {
    let (now, server) = (actions.now(), mark(server));
    let mut accounts = actions.quotas.calls.lock();
    if accounts.len() >= ACCOUNTS_SWEEP {
        accounts.retain(|_, calls| calls.back().is_some_and(|(at, _)| counts(*at, now)));
    }
    let calls = accounts.entry(caller.user_id.clone()).or_default();
    calls.retain(|(at, _)| counts(*at, now));
    let first_to_server = || calls.iter().find(|(_, other)| *other == server);
    let to_server = calls.iter().filter(|(_, other)| *other == server).count();
    let oldest = match (calls.len() >= CALLS_OF_ACCOUNT_MAX, to_server >= CALLS_TO_SERVER_MAX) {
        (true, _) => calls.front(),
        (false, true) => first_to_server(),
        (false, false) => None,
    };
    if let Some((at, _)) = oldest {
        return Err(limited(*at, now));
    }
    calls.push_back((now, server));
    Ok(())
}

/// A number that stands for a server: its name may be long.
fn mark(server: &ServerName) -> u64 {
    use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
    BuildHasherDefault::<DefaultHasher>::default().hash_one(server.as_str())
}

//! How often accounts may make this server call others: each account in all, and each at one other server. The counts are kept in memory.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use rules::UnixMs;
use ruma::{OwnedUserId, ServerName};

use super::{ActionError, Actions, Caller};

/// Calls of one account within [`WINDOW_MS`].
pub const CALLS_OF_ACCOUNT_MAX: usize = 300;
/// Those of them that go to one server.
pub const CALLS_TO_SERVER_MAX: usize = 100;
/// How long a call counts.
pub const WINDOW_MS: u64 = 10 * 60 * 1_000;
/// Accounts from which those whose calls count no longer are cleared away first.
const ACCOUNTS_SWEEP: usize = 1_024;

/// The calls of the last minutes, by account.
#[derive(Default)]
pub struct Quotas(Mutex<HashMap<OwnedUserId, VecDeque<(UnixMs, u64)>>>);

/// Counts one call of an account to a server.
///
/// # Errors
/// [`ActionError::RateLimited`].
pub(super) fn count(actions: &Actions, caller: &Caller, server: &ServerName) -> Result<(), ActionError> {
    let (now, server) = (actions.now(), mark(server));
    let counts = |at: UnixMs| now.0 < at.0.saturating_add(WINDOW_MS);
    let mut accounts = actions.quotas.0.lock();
    if accounts.len() >= ACCOUNTS_SWEEP {
        accounts.retain(|_, calls| calls.back().is_some_and(|(at, _)| counts(*at)));
    }
    let calls = accounts.entry(caller.user_id.clone()).or_default();
    calls.retain(|(at, _)| counts(*at));
    let first_to_server = || calls.iter().find(|(_, other)| *other == server);
    let to_server = calls.iter().filter(|(_, other)| *other == server).count();
    let oldest = match (calls.len() >= CALLS_OF_ACCOUNT_MAX, to_server >= CALLS_TO_SERVER_MAX) {
        (true, _) => calls.front(),
        (false, true) => first_to_server(),
        (false, false) => None,
    };
    if let Some((at, _)) = oldest {
        let wait_ms = at.0.saturating_add(WINDOW_MS).saturating_sub(now.0);
        return Err(ActionError::RateLimited { retry_after: Duration::from_millis(wait_ms) });
    }
    calls.push_back((now, server));
    Ok(())
}

/// A number that stands for a server: its name may be long.
fn mark(server: &ServerName) -> u64 {
    use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
    BuildHasherDefault::<DefaultHasher>::default().hash_one(server.as_str())
}

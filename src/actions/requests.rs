//! A repeated request acts once: answers to requests with an `Idempotency-Key` are kept for a day, and what such a request makes is reserved first.

use rules::UnixMs;
use std::sync::atomic::Ordering;

use ruma::UserId;

use super::{ActionError, Actions, caller::RequestKey, gate::Gate};
use crate::storage::{
    Commit, CommitError, Home, Keyspace, Limit, Store,
    accounts::{Reservation, StoredAnswer},
    keyspaces::{ANSWERS, CREATIONS},
    value::Value,
};

/// How long an answer is kept.
pub const ANSWER_LIFETIME_MS: u64 = 24 * 60 * 60 * 1_000;

/// Answers that are kept between two looks for those whose day is over. The first look is with the first answer after a start.
const ANSWERS_BETWEEN_SWEEPS: u64 = 1_000;

/// A request whose turn it is.
pub enum Turn {
    /// It was answered before; the answer is given again.
    Answered(StoredAnswer),
    /// It is to be done now; whoever repeats it meanwhile waits for the gate.
    Now(Gate),
}

/// Waits until no other request with this key is under way, and looks for its answer.
///
/// # Errors
/// [`ActionError::IdempotencyMismatch`] when the key was used with another body.
pub async fn turn(actions: &Actions, user_id: &UserId, request: &RequestKey) -> Result<Turn, ActionError> {
    let gate = actions.gates.enter("request", &format!("{user_id} {}", request.key)).await?;
    let home = Home::person(user_id);
    for store in actions.stores() {
        let Some(answer) = store.get(&ANSWERS, &home, &request.key).await? else { continue };
        if is_over(actions, answer.at) {
            continue;
        }
        if answer.fingerprint != request.fingerprint {
            return Err(mismatch());
        }
        return Ok(Turn::Answered(answer));
    }
    Ok(Turn::Now(gate))
}

/// Keeps the answer to a request; it is on disk when this returns. What concerns an incognito room is kept in memory only.
///
/// # Errors
/// When storage cannot be written.
pub async fn keep(
    actions: &Actions,
    user_id: &UserId,
    request: &RequestKey,
    answer: StoredAnswer,
    in_memory: bool,
) -> Result<(), ActionError> {
    let store = if in_memory { &actions.incognito } else { &actions.store };
    let mut commit = Commit::new(Home::person(user_id));
    commit.put(&ANSWERS, &request.key, &answer).delete(&CREATIONS, &request.key);
    store.commit(commit).await?;
    if actions.answers_kept.fetch_add(1, Ordering::Relaxed).is_multiple_of(ANSWERS_BETWEEN_SWEEPS) {
        let actions_of_sweep = actions.clone();
        actions.jobs.spawn(async move {
            if let Err(error) = sweep(&actions_of_sweep).await {
                tracing::warn!(%error, "Old answers were not swept: {error}");
            }
        });
    }
    Ok(())
}

/// Deletes the answers and promises whose day is over, unless they were renewed meanwhile.
async fn sweep(actions: &Actions) -> Result<(), ActionError> {
    for store in actions.stores() {
        sweep_keyspace(actions, store, &ANSWERS, |answer| answer.at).await?;
        sweep_keyspace(actions, store, &CREATIONS, |promise| promise.at).await?;
    }
    Ok(())
}

async fn sweep_keyspace<V: Value>(
    actions: &Actions,
    store: &Store,
    keyspace: &Keyspace<String, V>,
    since: impl Fn(&V) -> UnixMs,
) -> Result<(), ActionError> {
    let mut after: Option<(Home, String)> = None;
    loop {
        let start = after.as_ref().map(|(home, key)| (home, key));
        let page = store.scan_homes(keyspace, start, Limit::max()).await?;
        for (home, key, row) in &page.rows {
            if !is_over(actions, since(row)) {
                continue;
            }
            let mut commit = Commit::new(home.clone());
            commit.require_same(keyspace, key, row).delete(keyspace, key);
            match store.commit(commit).await {
                Ok(_) | Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match page.rows.last() {
            Some((home, key, _)) if page.more => after = Some((home.clone(), key.clone())),
            _ => return Ok(()),
        }
    }
}

/// The room that an earlier try of this request promised.
///
/// # Errors
/// [`ActionError::IdempotencyMismatch`] when the key was used with another body.
pub async fn promised(
    actions: &Actions,
    user_id: &UserId,
    request: &RequestKey,
) -> Result<Option<Reservation>, ActionError> {
    let promised = actions.store.get(&CREATIONS, &Home::person(user_id), &request.key).await?;
    let promised = promised.filter(|promised| !is_over(actions, promised.at));
    if promised.as_ref().is_some_and(|promised| promised.fingerprint != request.fingerprint) {
        return Err(mismatch());
    }
    Ok(promised)
}

/// Promises a room to a request before it is made, so that the repeat after a crash makes the same room.
///
/// # Errors
/// When storage cannot be written.
pub async fn promise(
    actions: &Actions,
    user_id: &UserId,
    request: &RequestKey,
    reservation: &Reservation,
) -> Result<(), ActionError> {
    let mut commit = Commit::new(Home::person(user_id));
    commit.put(&CREATIONS, &request.key, reservation);
    actions.store.commit(commit).await?;
    Ok(())
}

/// Something that was stored for a day then is no longer valid.
pub fn is_over(actions: &Actions, since: UnixMs) -> bool {
    actions.now().0 >= since.0.saturating_add(ANSWER_LIFETIME_MS)
}

/// The same key with another request.
pub fn mismatch() -> ActionError {
    ActionError::IdempotencyMismatch(
        "this key was used for another request; take a new key for a new request".to_owned(),
    )
}

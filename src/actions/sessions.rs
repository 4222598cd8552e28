//! Access tokens: random, stored hashed, looked up in memory while they are in use.
//!
//! A token reads `yurt.TENANT.USER.SECRET`: tenant and user say where to look, the secret is what counts.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use quick_cache::sync::Cache;
use rules::UnixMs;
use ruma::{OwnedUserId, UserId};
use sha2::{Digest, Sha256};

use tokio::sync::Semaphore;

use super::{
    ActionError, Actions, Caller, accounts, app_tokens,
    audit::{Act, Actor},
    rows,
};
use crate::storage::{
    ChangeKind, Commit, CommitError, Home, KeyRange, Limit,
    accounts::{Account, AccountState, Session},
    keyspaces::{ACCOUNT, SESSIONS},
};

/// The first part of every access token.
const PREFIX: &str = "yurt";
/// Sessions kept in memory.
const SESSIONS_IN_MEMORY: usize = 10_000;
/// How exactly it is known when a session was used last: one write in that time.
const USE_NOTED_EVERY_MS: u64 = 60 * 60 * 1_000;
/// Uses that are written down at the same time. More: the next request of that session tries again.
const USES_AT_ONCE: usize = 16;
/// How long a session that has expired is kept, so that its token is told to be expired and not unknown.
const EXPIRED_KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// Sessions that begin between two looks for those that can go. The first look is with the first one after a start.
const SESSIONS_BETWEEN_SWEEPS: u64 = 1_000;
/// Characters of a session's name.
pub const SESSION_NAME_CHARACTERS_MAX: usize = 120;

/// Sessions in use, by the hash of their tokens.
pub struct Sessions {
    known: Cache<[u8; 32], Arc<Known>>,
    /// Counts revocations: what was read before one is not kept after it.
    revocations: AtomicU64,
    issued: AtomicU64,
    noting: Arc<Semaphore>,
}

struct Known {
    user_id: OwnedUserId,
    is_admin: bool,
    expires_at: Option<UnixMs>,
    /// The last use that was written down, or is being.
    noted_at: AtomicU64,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            known: Cache::new(SESSIONS_IN_MEMORY),
            revocations: AtomicU64::new(0),
            issued: AtomicU64::new(0),
            noting: Arc::new(Semaphore::new(USES_AT_ONCE)),
        }
    }
}

/// A session as its owner sees it.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// The session.
    pub session: Session,
    /// It is the one that asks.
    pub is_current: bool,
}

/// A fresh access token.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The token; it is stored nowhere.
    pub token: String,
    /// When it ends by itself.
    pub expires_at: Option<UnixMs>,
}

/// The tenant that a token names, whether or not the token is good.
pub fn tenant_of(token: &str) -> Option<&str> {
    let (PREFIX, rest) = token.split_once('.')? else { return None };
    rest.split_once('.').map(|(tenant, _)| tenant)
}

/// Makes a new access token for an account.
///
/// # Errors
/// When storage cannot be written.
pub async fn issue(actions: &Actions, user_id: &UserId, name: &str) -> Result<Issued, ActionError> {
    issue_if(actions, user_id, name, None, None).await
}

/// [`issue`], in the name of somebody else, which is written down.
///
/// # Errors
/// As [`issue`].
pub async fn issue_for(actions: &Actions, user_id: &UserId, actor: Actor<'_>) -> Result<Issued, ActionError> {
    issue_if(actions, user_id, "command line", None, Some(actor)).await
}

/// [`issue`], unless the account has changed since it was read: a password that was just replaced opens nothing.
///
/// # Errors
/// [`ActionError::Busy`] when it has changed; as [`issue`].
pub async fn issue_while(
    actions: &Actions,
    user_id: &UserId,
    name: &str,
    account: &Account,
) -> Result<Issued, ActionError> {
    issue_if(actions, user_id, name, Some(account), None).await
}

async fn issue_if(
    actions: &Actions,
    user_id: &UserId,
    name: &str,
    account: Option<&Account>,
    actor: Option<Actor<'_>>,
) -> Result<Issued, ActionError> {
    let token = token(actions, &BASE64.encode(user_id.localpart()));
    let now = actions.now();
    let expires_at = actions.settings.token_lifetime_ms.map(|lifetime| UnixMs(now.0.saturating_add(lifetime)));
    let name = name.chars().take(SESSION_NAME_CHARACTERS_MAX).collect();
    let session = Session { id: actions.random_word(16), name, created_at: now, expires_at, last_used_at: now };
    let mut commit = Commit::new(Home::person(user_id));
    if let Some(account) = account {
        commit.require_same(&ACCOUNT, &(), account);
    }
    commit.put(&SESSIONS, &hash(&token), &session);
    if let Some(actor) = actor {
        let details = vec![("session", session.id.clone())];
        Act { actor, action: "participant.token", target: user_id.to_string(), details }.record(actions, &mut commit);
    }
    actions.store.commit(commit).await?;
    if actions.sessions.issued.fetch_add(1, Ordering::Relaxed).is_multiple_of(SESSIONS_BETWEEN_SWEEPS) {
        let sweeping = actions.clone();
        actions.jobs.spawn(async move {
            if let Err(error) = sweep(&sweeping).await {
                tracing::warn!(%error, "Expired sessions were not all removed: {error}");
            }
        });
    }
    Ok(Issued { token, expires_at })
}

/// Who a token speaks for.
///
/// # Errors
/// [`ActionError::InvalidToken`], [`ActionError::ExpiredToken`].
pub async fn caller(actions: &Actions, token: &str) -> Result<Caller, ActionError> {
    if app_tokens::is_one(actions, token).await? {
        let refused = "an app token opens nothing under /v1; log in as a person";
        return Err(ActionError::InsufficientPermission(refused.to_owned()));
    }
    let hash = hash(token);
    let sessions = &actions.sessions;
    let known = match sessions.known.get(&hash) {
        Some(known) => known,
        None => {
            let revocations = sessions.revocations.load(Ordering::Acquire);
            let known = Arc::new(look_up(actions, token, &hash).await?);
            sessions.known.insert(hash, Arc::clone(&known));
            if sessions.revocations.load(Ordering::Acquire) != revocations {
                sessions.known.remove(&hash);
            }
            known
        }
    };
    if known.expires_at.is_some_and(|end| end <= actions.now()) {
        sessions.known.remove(&hash);
        return Err(ActionError::ExpiredToken);
    }
    note_use(actions, &known, hash);
    actions.seen.note(&known.user_id, actions.now());
    Ok(Caller { session: Some(hash), ..Caller::local(&known.user_id, known.is_admin) })
}

async fn look_up(actions: &Actions, token: &str, hash: &[u8; 32]) -> Result<Known, ActionError> {
    let user_id = user_of(actions, token).ok_or_else(invalid)?;
    let home = Home::person(&user_id);
    let session = actions.store.get(&SESSIONS, &home, hash).await?.ok_or_else(invalid)?;
    let account = actions.store.get(&ACCOUNT, &home, &()).await?.ok_or_else(invalid)?;
    if account.state != AccountState::Active {
        return Err(invalid());
    }
    let noted_at = AtomicU64::new(session.last_used_at.0);
    Ok(Known { user_id, is_admin: account.is_admin, expires_at: session.expires_at, noted_at })
}

/// Has it written down that a session is in use, beside the request and once an hour.
fn note_use(actions: &Actions, known: &Known, hash: [u8; 32]) {
    let now = actions.now();
    let noted = known.noted_at.load(Ordering::Relaxed);
    if now.0 < noted.saturating_add(USE_NOTED_EVERY_MS) {
        return;
    }
    let Ok(place) = Arc::clone(&actions.sessions.noting).try_acquire_owned() else { return };
    if known.noted_at.compare_exchange(noted, now.0, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        return;
    }
    let (noting, home) = (actions.clone(), Home::person(&known.user_id));
    actions.jobs.spawn(async move {
        if let Err(error) = write_use(&noting, home, hash, now).await {
            tracing::debug!(%error, "The use of a session was not written down: {error}");
        }
        drop(place);
    });
}

/// When one of a person's sessions was used last, as far as that is written down; the beginning of time for who has none.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn last_use(actions: &Actions, user_id: &UserId) -> Result<UnixMs, ActionError> {
    let sessions = of(actions, user_id).await?;
    Ok(sessions.into_iter().map(|(_, session)| session.last_used_at).max().unwrap_or(UnixMs(0)))
}

/// A session that has ended meanwhile stays ended.
async fn write_use(actions: &Actions, home: Home, hash: [u8; 32], now: UnixMs) -> Result<(), ActionError> {
    let Some(session) = actions.store.get(&SESSIONS, &home, &hash).await? else { return Ok(()) };
    let used = Session { last_used_at: now, ..session.clone() };
    let mut commit = Commit::new(home);
    commit.require_same(&SESSIONS, &hash, &session).put(&SESSIONS, &hash, &used);
    match actions.store.commit(commit).await {
        Ok(_) | Err(CommitError::Conflict) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The caller's sessions that have not expired, newest first.
///
/// # Errors
/// When storage cannot be read.
pub async fn list(actions: &Actions, caller: &Caller) -> Result<Vec<SessionView>, ActionError> {
    let now = actions.now();
    let mut sessions = of(actions, &caller.user_id).await?;
    sessions.retain(|(_, session)| session.expires_at.is_none_or(|end| end > now));
    sessions.sort_by(|(_, a), (_, b)| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
    let view = |(hash, session)| SessionView { session, is_current: caller.session == Some(hash) };
    Ok(sessions.into_iter().map(view).collect())
}

/// Ends one of the caller's sessions, by its id.
///
/// # Errors
/// [`ActionError::NotFound`].
pub async fn revoke_by_id(actions: &Actions, caller: &Caller, id: &str) -> Result<(), ActionError> {
    let found = of(actions, &caller.user_id).await?.into_iter().find(|(_, session)| session.id == id);
    let (hash, _) = found.ok_or(ActionError::NotFound("session"))?;
    revoke(actions, &caller.user_id, hash).await
}

async fn of(actions: &Actions, user_id: &UserId) -> Result<Vec<([u8; 32], Session)>, ActionError> {
    rows::all(&actions.store, &SESSIONS, &Home::person(user_id), KeyRange::all()).await
}

/// Removes the sessions that expired long ago.
async fn sweep(actions: &Actions) -> Result<(), ActionError> {
    let mut after: Option<(Home, [u8; 32])> = None;
    loop {
        let start = after.as_ref().map(|(home, hash)| (home, hash));
        let page = actions.store.scan_homes(&SESSIONS, start, Limit::max()).await?;
        for (home, hash, session) in &page.rows {
            let Some(end) = session.expires_at else { continue };
            if end.0.saturating_add(EXPIRED_KEPT_MS) > actions.now().0 {
                continue;
            }
            let mut commit = Commit::new(home.clone());
            commit.delete(&SESSIONS, hash);
            actions.store.commit(commit).await?;
        }
        match page.rows.last() {
            Some((home, hash, _)) if page.more => after = Some((home.clone(), *hash)),
            _ => return Ok(()),
        }
    }
}

/// When a caller's session ends by itself, if it still speaks for them at all: read from storage, because a revocation may just have been written.
///
/// # Errors
/// [`ActionError::InvalidToken`]; when storage cannot be read.
pub(super) async fn still_good(actions: &Actions, caller: &Caller) -> Result<Option<UnixMs>, ActionError> {
    let home = Home::person(&caller.user_id);
    let account = actions.store.get(&ACCOUNT, &home, &()).await?.ok_or_else(invalid)?;
    if account.state != AccountState::Active {
        return Err(invalid());
    }
    let Some(hash) = &caller.session else { return Ok(None) };
    Ok(actions.store.get(&SESSIONS, &home, hash).await?.ok_or_else(invalid)?.expires_at)
}

fn user_of(actions: &Actions, token: &str) -> Option<OwnedUserId> {
    let local = String::from_utf8(BASE64.decode(holder(actions, token)?).ok()?).ok()?;
    accounts::user_id(actions, &local)
}

/// The part of a token of this tenant that says whose it is.
pub(super) fn holder<'a>(actions: &Actions, token: &'a str) -> Option<&'a str> {
    let mut parts = token.split('.');
    let (prefix, tenant, holder) = (parts.next()?, parts.next()?, parts.next()?);
    (prefix == PREFIX && tenant == actions.tenant).then_some(holder)
}

/// A fresh token of this tenant.
pub(super) fn token(actions: &Actions, holder: &str) -> String {
    let secret = BASE64.encode(crate::random::bytes::<32>(&*actions.random));
    format!("{PREFIX}.{}.{holder}.{secret}", actions.tenant)
}

/// Ends a session.
///
/// # Errors
/// When storage cannot be written.
pub async fn revoke(actions: &Actions, user_id: &UserId, hash: [u8; 32]) -> Result<(), ActionError> {
    let mut commit = Commit::new(Home::person(user_id));
    commit.delete(&SESSIONS, &hash).change(ChangeKind::Account, 0);
    let outcome = actions.store.commit(commit).await;
    // Also where nobody knows whether it was written: what is in memory is read again.
    actions.sessions.revocations.fetch_add(1, Ordering::AcqRel);
    actions.sessions.known.remove(&hash);
    Ok(outcome.map(drop)?)
}

/// Ends all sessions of a person with the commit that is under way, but for the one that is kept.
///
/// # Errors
/// When storage cannot be read.
pub async fn end_in(
    actions: &Actions,
    user_id: &UserId,
    commit: &mut Commit,
    kept: Option<[u8; 32]>,
) -> Result<(), ActionError> {
    commit.delete_all(&SESSIONS);
    if let Some(hash) = kept
        && let Some(session) = actions.store.get(&SESSIONS, &Home::person(user_id), &hash).await?
    {
        commit.require_same(&SESSIONS, &hash, &session).put(&SESSIONS, &hash, &session);
    }
    Ok(())
}

/// An account has changed and sessions of it may have ended: what is known of them in memory is forgotten. With [`revoke`] the only place where sessions end;
/// live streams learn of both from the feed.
pub fn end_sessions_of(actions: &Actions, user_id: &UserId) {
    actions.sessions.revocations.fetch_add(1, Ordering::AcqRel);
    actions.sessions.known.retain(|_, known| known.user_id != *user_id);
}

/// A token that is missing, unknown or revoked.
pub fn invalid() -> ActionError {
    ActionError::InvalidToken(
        "this needs a valid access token: `Authorization: Bearer TOKEN`; log in to get one".to_owned(),
    )
}

/// What is stored of a token.
pub(super) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

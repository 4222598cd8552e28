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

use super::{ActionError, Actions, Caller, accounts};
use crate::storage::{
    ChangeKind, Commit, Home,
    accounts::{Account, AccountState, Session},
    keyspaces::{ACCOUNT, SESSIONS},
};

/// The first part of every access token.
const PREFIX: &str = "yurt";
/// Sessions kept in memory.
const SESSIONS_IN_MEMORY: usize = 10_000;

/// Sessions in use, by the hash of their tokens.
pub struct Sessions {
    known: Cache<[u8; 32], Arc<Known>>,
    /// Counts revocations: what was read before one is not kept after it.
    revocations: AtomicU64,
}

struct Known {
    user_id: OwnedUserId,
    is_admin: bool,
    expires_at: Option<UnixMs>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { known: Cache::new(SESSIONS_IN_MEMORY), revocations: AtomicU64::new(0) }
    }
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
    issue_if(actions, user_id, name, None).await
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
    issue_if(actions, user_id, name, Some(account)).await
}

async fn issue_if(
    actions: &Actions,
    user_id: &UserId,
    name: &str,
    account: Option<&Account>,
) -> Result<Issued, ActionError> {
    let secret = BASE64.encode(crate::random::bytes::<32>(&*actions.random));
    let user = BASE64.encode(user_id.localpart());
    let token = format!("{PREFIX}.{}.{user}.{secret}", actions.tenant);
    let now = actions.now();
    let expires_at = actions.settings.token_lifetime_ms.map(|lifetime| UnixMs(now.0.saturating_add(lifetime)));
    let session = Session { id: actions.random_word(16), name: name.to_owned(), created_at: now, expires_at };
    let mut commit = Commit::new(Home::person(user_id));
    if let Some(account) = account {
        commit.require_same(&ACCOUNT, &(), account);
    }
    commit.put(&SESSIONS, &hash(&token), &session);
    actions.store.commit(commit).await?;
    Ok(Issued { token, expires_at })
}

/// Who a token speaks for.
///
/// # Errors
/// [`ActionError::InvalidToken`], [`ActionError::ExpiredToken`].
pub async fn caller(actions: &Actions, token: &str) -> Result<Caller, ActionError> {
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
    Ok(Caller { user_id: known.user_id.clone(), is_admin: known.is_admin, session: Some(hash), request: None })
}

async fn look_up(actions: &Actions, token: &str, hash: &[u8; 32]) -> Result<Known, ActionError> {
    let user_id = user_of(actions, token).ok_or_else(invalid)?;
    let home = Home::person(&user_id);
    let session = actions.store.get(&SESSIONS, &home, hash).await?.ok_or_else(invalid)?;
    let account = actions.store.get(&ACCOUNT, &home, &()).await?.ok_or_else(invalid)?;
    if account.state != AccountState::Active {
        return Err(invalid());
    }
    Ok(Known { user_id, is_admin: account.is_admin, expires_at: session.expires_at })
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
    let mut parts = token.split('.');
    let (prefix, tenant, user) = (parts.next()?, parts.next()?, parts.next()?);
    if prefix != PREFIX || tenant != actions.tenant {
        return None;
    }
    let local = String::from_utf8(BASE64.decode(user).ok()?).ok()?;
    accounts::user_id(actions, &local)
}

/// Ends a session.
///
/// # Errors
/// When storage cannot be written.
pub async fn revoke(actions: &Actions, user_id: &UserId, hash: [u8; 32]) -> Result<(), ActionError> {
    let mut commit = Commit::new(Home::person(user_id));
    commit.delete(&SESSIONS, &hash).change(ChangeKind::Account, 0);
    actions.store.commit(commit).await?;
    actions.sessions.revocations.fetch_add(1, Ordering::AcqRel);
    actions.sessions.known.remove(&hash);
    Ok(())
}

/// What is known of sessions in memory is read again: an account has changed.
pub fn forget_all(actions: &Actions) {
    actions.sessions.revocations.fetch_add(1, Ordering::AcqRel);
    actions.sessions.known.clear();
}

/// A token that is missing, unknown or revoked.
pub fn invalid() -> ActionError {
    ActionError::InvalidToken(
        "this needs a valid access token: `Authorization: Bearer TOKEN`; log in to get one".to_owned(),
    )
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

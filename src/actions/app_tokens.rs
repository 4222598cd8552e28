//! Tokens of servers that call us: principals of their own, nobody's account. Under `/v1` they open nothing.

use super::{
    ActionError, Actions, Caller,
    accounts::must_be_admin,
    audit::{Act, Actor},
    rows,
    sessions::{hash, holder, token},
    texts::at_most,
};
use crate::storage::{Commit, Home, KeyRange, admin::AppToken, keyspaces::APP_TOKENS};

/// Stands in a token where people's tokens have their owner; no encoded name contains it.
const HOLDER: &str = "~app";
/// App tokens of one tenant.
pub const APP_TOKENS_MAX: usize = 1_000;
/// Characters of the name that an admin gives one.
pub const APP_NAME_CHARACTERS_MAX: usize = 120;

/// Makes an app token; the token itself is told once and stored nowhere.
///
/// # Errors
/// A caller who is no admin; a blank or long name; too many tokens.
pub async fn create(actions: &Actions, caller: &Caller, name: String) -> Result<(AppToken, String), ActionError> {
    must_be_admin(caller)?;
    if name.trim().is_empty() {
        return Err(ActionError::invalid("name", "must not be blank: say which server it is for"));
    }
    at_most("name", Some(&name), APP_NAME_CHARACTERS_MAX)?;
    let _gate = actions.gates.enter("admin", "app-tokens").await?;
    if list(actions, caller).await?.len() >= APP_TOKENS_MAX {
        let full = format!("there are {APP_TOKENS_MAX} app tokens; delete those that nobody uses");
        return Err(ActionError::TenantCapacity(full));
    }
    let secret = token(actions, HOLDER);
    let row = AppToken {
        id: actions.timed_id(),
        name,
        created_at: actions.now(),
        created_by: caller.user_id.clone(),
        last_used_at: None,
    };
    let mut commit = Commit::new(Home::server());
    commit.put(&APP_TOKENS, &hash(&secret), &row);
    act(caller, "app_token.create", &row).record(actions, &mut commit);
    actions.store.commit(commit).await?;
    Ok((row, secret))
}

/// All app tokens, oldest first.
///
/// # Errors
/// A caller who is no admin.
pub async fn list(actions: &Actions, caller: &Caller) -> Result<Vec<AppToken>, ActionError> {
    must_be_admin(caller)?;
    let mut tokens: Vec<AppToken> = all(actions).await?.into_iter().map(|(_, token)| token).collect();
    tokens.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(tokens)
}

/// Revokes an app token: it opens nothing from now on.
///
/// # Errors
/// A caller who is no admin; [`ActionError::NotFound`].
pub async fn delete(actions: &Actions, caller: &Caller, id: &str) -> Result<(), ActionError> {
    must_be_admin(caller)?;
    let _gate = actions.gates.enter("admin", "app-tokens").await?;
    let found = all(actions).await?.into_iter().find(|(_, token)| token.id == id);
    let (hash, row) = found.ok_or(ActionError::NotFound("app token"))?;
    let mut commit = Commit::new(Home::server());
    commit.delete(&APP_TOKENS, &hash);
    act(caller, "app_token.delete", &row).record(actions, &mut commit);
    actions.store.commit(commit).await?;
    Ok(())
}

/// The token is one that an admin made for a server and that is not revoked.
///
/// # Errors
/// When storage cannot be read.
pub async fn is_one(actions: &Actions, token: &str) -> Result<bool, ActionError> {
    if holder(actions, token) != Some(HOLDER) {
        return Ok(false);
    }
    Ok(actions.store.get(&APP_TOKENS, &Home::server(), &hash(token)).await?.is_some())
}

async fn all(actions: &Actions) -> Result<Vec<([u8; 32], AppToken)>, ActionError> {
    rows::all(&actions.store, &APP_TOKENS, &Home::server(), KeyRange::all()).await
}

fn act<'a>(caller: &'a Caller, action: &'static str, token: &AppToken) -> Act<'a> {
    Act {
        actor: Actor::Admin(&caller.user_id),
        action,
        target: token.id.clone(),
        details: vec![("name", token.name.clone())],
    }
}

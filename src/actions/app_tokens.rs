//! Tokens of servers that call us: principals of their own, nobody's account. Under `/v1` they open nothing; other APIs know them.

use ruma::UserId;

use super::{
    ActionError, Actions, Caller,
    accounts::must_be_admin,
    audit::{Act, Actor},
    caller::OnBehalf,
    rows,
    sessions::{hash, holder, token},
    texts::at_most,
};
use crate::storage::{Commit, CommitError, Home, KeyRange, admin::AppToken, keyspaces::APP_TOKENS};

/// Stands in a token where people's tokens have their owner; no encoded name contains it.
const HOLDER: &str = "~app";
/// App tokens of one tenant.
pub const APP_TOKENS_MAX: usize = 1_000;
/// Characters of the name that an admin gives one.
pub const APP_NAME_CHARACTERS_MAX: usize = 120;

/// How exactly it is known when a token was used last: one write in that time.
const USE_NOTED_EVERY_MS: u64 = 60 * 60 * 1_000;

/// A server that calls us, its token checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// The id of its token.
    pub token_id: String,
    /// What an admin calls it.
    pub name: String,
}

impl App {
    /// The server, in the name of a person. What it does is written down, as `noun.verb`.
    pub(super) fn as_person(&self, user_id: &UserId, action: &'static str) -> Caller {
        let by = OnBehalf { app: self.name.clone(), token_id: self.token_id.clone(), action };
        Caller { on_behalf: Some(by), ..Caller::local(user_id, false) }
    }
}

/// The server that a token is of.
///
/// # Errors
/// [`ActionError::InvalidToken`], for tokens of people too.
pub async fn app(actions: &Actions, token: &str) -> Result<App, ActionError> {
    let hash = hash(token);
    let row = match holder(actions, token) {
        Some(HOLDER) => actions.store.get(&APP_TOKENS, &Home::server(), &hash).await?,
        _ => None,
    };
    let invalid =
        || ActionError::InvalidToken("this needs a valid app token: `Authorization: Bearer TOKEN`".to_owned());
    let row = row.ok_or_else(invalid)?;
    let app = App { token_id: row.id.clone(), name: row.name.clone() };
    let now = actions.now();
    if row.last_used_at.is_none_or(|used| now.0 >= used.0.saturating_add(USE_NOTED_EVERY_MS)) {
        let mut commit = Commit::new(Home::server());
        let used = AppToken { last_used_at: Some(now), ..row.clone() };
        commit.require_same(&APP_TOKENS, &hash, &row).put(&APP_TOKENS, &hash, &used);
        match actions.store.commit(commit).await {
            // Another request has noted it, or the token was revoked while this one came in.
            Ok(_) | Err(CommitError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(app)
}

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

//! Accounts: making them, log-in, passwords, and what admins and the command line do with them.

use ruma::{OwnedRoomId, OwnedUserId, UserId};

use super::{
    ActionError, Actions, Caller, Page, Window,
    audit::{Act, Actor},
    capacity, creation,
    passwords::PASSWORD_CHARACTERS_MAX,
    profile, rows,
    sessions::{self, Issued},
    workspaces,
};
use crate::storage::{
    ChangeKind, Commit, CommitError, Direction, Home, Limit,
    accounts::{Account, AccountState},
    keyspaces::{ACCOUNT, NAMES},
};

/// Characters of a local name.
pub const NAME_CHARACTERS_MAX: usize = 64;
/// How often a change of an account is tried again because another one came between.
const CHANGES_MAX: usize = 16;
/// Characters of a display name.
pub const DISPLAY_NAME_CHARACTERS_MAX: usize = 256;

/// An account that shall be made.
#[derive(Clone, Debug, Default)]
pub struct NewAccount {
    /// The local name; lower-cased.
    pub username: String,
    /// Without one nobody can log in with a password.
    pub password: Option<String>,
    /// May use the calls under `/v1/admin`.
    pub is_admin: bool,
    /// The name that others see.
    pub display_name: Option<String>,
}

/// An account with its id.
#[derive(Clone, Debug)]
pub struct AccountView {
    /// The person.
    pub user_id: OwnedUserId,
    /// The account.
    pub account: Account,
}

/// A page of accounts.
pub struct AccountPage {
    /// The accounts.
    pub page: Page<AccountView>,
    /// How many names it has passed: the next page begins behind them. More than the accounts where a name lacks its account.
    pub passed: usize,
}

/// The account of a local person.
///
/// # Errors
/// When storage cannot be read.
pub async fn get(actions: &Actions, user_id: &UserId) -> Result<Option<Account>, ActionError> {
    Ok(actions.store.get(&ACCOUNT, &Home::person(user_id), &()).await?)
}

/// The id of a local name.
pub fn user_id(actions: &Actions, local: &str) -> Option<OwnedUserId> {
    UserId::parse(format!("@{local}:{}", actions.server_name)).ok()
}

/// Makes an account with its personal workspace.
///
/// # Errors
/// A name that is taken or malformed; a password that is empty or too long; the tenant's limit.
pub async fn create(actions: &Actions, new: NewAccount) -> Result<AccountView, ActionError> {
    make(actions, new, None).await
}

/// [`create`], in the name of an admin or of the command line.
///
/// # Errors
/// As [`create`].
pub async fn create_by(actions: &Actions, actor: Actor<'_>, new: NewAccount) -> Result<AccountView, ActionError> {
    make(actions, new, Some(actor)).await
}

async fn make(actions: &Actions, new: NewAccount, actor: Option<Actor<'_>>) -> Result<AccountView, ActionError> {
    let local = local_name(&new.username)?;
    let user_id = user_id(actions, &local).ok_or_else(|| ActionError::invalid("username", "is no local name"))?;
    let password_hash = match new.password {
        Some(password) => Some(hash(actions, "password", password).await?),
        None => None,
    };
    if new.display_name.as_ref().is_some_and(|name| name.chars().count() > DISPLAY_NAME_CHARACTERS_MAX) {
        return Err(ActionError::invalid("display_name", format!("at most {DISPLAY_NAME_CHARACTERS_MAX} characters")));
    }
    let _gate = actions.gates.enter("account", &local).await?;
    if get(actions, &user_id).await?.is_some() {
        return Err(ActionError::NameTaken(format!("the name `{local}` is taken")));
    }
    take_name(actions, &local).await?;
    let plan = workspaces::plan(actions, format!("{}'s workspace", new.display_name.as_deref().unwrap_or(&local)))?;
    let workspace = creation::create_event(actions, &user_id, &plan)?;
    let account = Account {
        password_hash,
        is_admin: new.is_admin,
        state: AccountState::Active,
        display_name: new.display_name,
        created_at: actions.now(),
        personal_workspace: creation::reservation(actions, &workspace, [0; 32]),
        avatar_url: None,
    };
    let mut commit = Commit::new(Home::person(&user_id));
    commit.require_absent(&ACCOUNT, &()).put(&ACCOUNT, &(), &account).change(ChangeKind::Account, 0);
    if let Some(actor) = actor {
        let details = vec![("is_admin", account.is_admin.to_string())];
        Act { actor, action: "participant.create", target: user_id.to_string(), details }.record(actions, &mut commit);
    }
    actions.store.commit(commit).await?;
    // The account is there; its workspace is made at the latest when it is asked for.
    if let Err(error) = personal_workspace(actions, &user_id).await {
        tracing::warn!(user.id = %user_id, %error, "`{user_id}` has no workspace yet: {error}");
    }
    Ok(AccountView { user_id, account })
}

/// Takes a local name for good, if the tenant has room for one more.
async fn take_name(actions: &Actions, local: &str) -> Result<(), ActionError> {
    let name = local.to_owned();
    if actions.store.get(&NAMES, &Home::server(), &name).await?.is_some() {
        return Ok(());
    }
    let place = capacity::account(actions).await?;
    let mut commit = Commit::new(Home::server());
    commit.put(&NAMES, &name, &());
    actions.store.commit(commit).await?;
    place.keep();
    Ok(())
}

/// The workspace that came with an account; finished first if a crash left it unfinished.
///
/// # Errors
/// When storage cannot be read or written.
pub async fn personal_workspace(actions: &Actions, user_id: &UserId) -> Result<OwnedRoomId, ActionError> {
    let account = get(actions, user_id).await?.ok_or_else(|| ActionError::ParticipantNotFound(user_id.to_string()))?;
    let reservation = account.personal_workspace;
    if actions.room(&reservation.room_id).view().await?.is_none() {
        let name = account.display_name.unwrap_or_else(|| user_id.localpart().to_owned());
        let plan = workspaces::plan(actions, format!("{name}'s workspace"))?;
        let create = creation::read_create(&reservation, &plan.version)?;
        creation::write(actions, user_id, create, plan, None, false).await?;
    }
    Ok(reservation.room_id)
}

/// The one local name that the ways to write a name for a log-in stand for, whether or not there is such an account.
pub fn login_name(actions: &Actions, username: &str) -> String {
    let local = username.strip_prefix('@').unwrap_or(username);
    let local = local.strip_suffix(&format!(":{}", actions.server_name)).unwrap_or(local);
    local.chars().take(NAME_CHARACTERS_MAX + 1).collect::<String>().to_lowercase()
}

/// Checks a name and password and opens a session.
///
/// # Errors
/// [`ActionError::InvalidToken`], alike for unknown names, wrong passwords and accounts that may not log in.
pub async fn log_in(
    actions: &Actions,
    username: &str,
    password: String,
    client: &str,
) -> Result<(OwnedUserId, Issued), ActionError> {
    let local = login_name(actions, username);
    let user_id = local_name(&local).ok().and_then(|local| user_id(actions, &local));
    let account = match &user_id {
        Some(user_id) => get(actions, user_id).await?,
        None => None,
    };
    let account = account.filter(|account| account.state == AccountState::Active);
    let hash = account.as_ref().and_then(|account| account.password_hash.clone());
    let password: String = password.chars().take(PASSWORD_CHARACTERS_MAX + 1).collect();
    let is_right = actions.passwords.verify(password, hash).await?;
    match (user_id, account) {
        (Some(user_id), Some(account)) if is_right => {
            let issued = sessions::issue_while(actions, &user_id, client, &account).await?;
            Ok((user_id, issued))
        }
        _ => Err(ActionError::InvalidToken("wrong user name or password".to_owned())),
    }
}

/// The caller's own account.
///
/// # Errors
/// When storage cannot be read.
pub async fn own(actions: &Actions, caller: &Caller) -> Result<AccountView, ActionError> {
    let account = get(actions, &caller.user_id).await?.ok_or_else(sessions::invalid)?;
    Ok(AccountView { user_id: caller.user_id.clone(), account })
}

/// The caller administers this tenant.
///
/// # Errors
/// [`ActionError::InsufficientPermission`].
pub fn must_be_admin(caller: &Caller) -> Result<(), ActionError> {
    if caller.is_admin {
        return Ok(());
    }
    Err(ActionError::InsufficientPermission("this call is for admins of this server".to_owned()))
}

/// Which accounts are looked for.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// A part of the id or of the display name, whatever the case.
    pub text: Option<String>,
    /// Only accounts in this state.
    pub state: Option<AccountState>,
}

/// Accounts, by name. Without a search only the page is read; a search reads every account, a part at a time.
///
/// # Errors
/// A caller who is no admin.
pub async fn list(
    actions: &Actions,
    caller: &Caller,
    search: &Search,
    window: Window,
) -> Result<AccountPage, ActionError> {
    must_be_admin(caller)?;
    let page = if search.text.is_none() && search.state.is_none() {
        by_name(actions, window).await?
    } else {
        Page::of(find(actions, search).await?, window)
    };
    let (mut entries, passed) = (Vec::with_capacity(page.entries.len()), page.entries.len());
    for user_id in page.entries {
        // A crash may have left a name that was taken for an account that was not made.
        if let Some(account) = get(actions, &user_id).await? {
            entries.push(AccountView { user_id, account });
        }
    }
    Ok(AccountPage { page: Page { entries, total: page.total }, passed })
}

async fn by_name(actions: &Actions, window: Window) -> Result<Page<OwnedUserId>, ActionError> {
    let total = usize::try_from(capacity::accounts(actions).await?).map_err(ActionError::internal)?;
    let all = |(): &()| true;
    let names = rows::page(&actions.store, &NAMES, &Home::server(), Direction::Up, all, Some(total), window).await?;
    Ok(Page { entries: names.entries.iter().filter_map(|(local, ())| user_id(actions, local)).collect(), total })
}

/// The ids of all accounts that are looked for, sorted.
async fn find(actions: &Actions, search: &Search) -> Result<Vec<OwnedUserId>, ActionError> {
    let text = search.text.as_ref().map(|text| text.to_lowercase());
    let mut found = Vec::new();
    let mut after: Option<Home> = None;
    loop {
        let page = actions.store.scan_homes(&ACCOUNT, after.as_ref().map(|home| (home, &())), Limit::max()).await?;
        for (home, (), account) in &page.rows {
            let Some(user_id) = home.as_person() else { continue };
            let has_text = |text: &String| {
                let name = account.display_name.as_deref().unwrap_or_default();
                user_id.as_str().contains(text) || name.to_lowercase().contains(text)
            };
            if text.as_ref().is_none_or(has_text) && search.state.is_none_or(|state| state == account.state) {
                found.push(user_id);
            }
        }
        match page.rows.into_iter().next_back() {
            Some((home, ..)) if page.more => after = Some(home),
            _ => break,
        }
    }
    found.sort();
    Ok(found)
}

/// Sets a password, which also unlocks the account; all sessions end.
///
/// # Errors
/// Nobody of that name; a deactivated account; a password that is empty or too long.
pub async fn set_password(
    actions: &Actions,
    actor: Actor<'_>,
    user_id: &UserId,
    password: String,
) -> Result<AccountView, ActionError> {
    must_be_lasting(&known(actions, user_id).await?, user_id)?;
    let hash = hash(actions, "password", password).await?;
    let act = Act { actor, action: "participant.password", target: user_id.to_string(), details: Vec::new() };
    change(actions, user_id, None, Some(act), |account| {
        must_be_lasting(account, user_id)?;
        let state = match account.state {
            AccountState::Locked => AccountState::Active,
            other => other,
        };
        Ok(Some(Account { password_hash: Some(hash.clone()), state, ..account.clone() }))
    })
    .await
}

/// Gives the caller another password; all other sessions end.
///
/// # Errors
/// A wrong old password; a new one that is empty or too long.
pub async fn change_own_password(
    actions: &Actions,
    caller: &Caller,
    old: String,
    new: String,
) -> Result<(), ActionError> {
    let new = checked("new", new)?;
    let wrong = || ActionError::InsufficientPermission("`old` is not your password".to_owned());
    let account = own(actions, caller).await?.account;
    let old: String = old.chars().take(PASSWORD_CHARACTERS_MAX + 1).collect();
    if !actions.passwords.verify(old, account.password_hash.clone()).await? {
        return Err(wrong());
    }
    let hash = hash(actions, "new", new).await?;
    change(actions, &caller.user_id, caller.session, None, |present| {
        if present.password_hash != account.password_hash || present.state != AccountState::Active {
            return Err(wrong());
        }
        Ok(Some(Account { password_hash: Some(hash.clone()), ..present.clone() }))
    })
    .await
    .map(drop)
}

/// Takes everything from an account until it is enabled again; all its sessions end.
///
/// # Errors
/// A caller who is no admin, or who would disable himself; an account that can do nothing anyway.
pub async fn disable(actions: &Actions, caller: &Caller, user_id: &UserId) -> Result<AccountView, ActionError> {
    must_be_admin(caller)?;
    if caller.user_id == *user_id {
        return Err(ActionError::invalid("participant_id", "you cannot disable yourself; ask another admin"));
    }
    set_state(actions, caller, user_id, "participant.disable", AccountState::Disabled).await
}

/// Gives a disabled account back what it had; its people log in anew.
///
/// # Errors
/// As [`disable`].
pub async fn enable(actions: &Actions, caller: &Caller, user_id: &UserId) -> Result<AccountView, ActionError> {
    must_be_admin(caller)?;
    set_state(actions, caller, user_id, "participant.enable", AccountState::Active).await
}

async fn set_state(
    actions: &Actions,
    caller: &Caller,
    user_id: &UserId,
    action: &'static str,
    wanted: AccountState,
) -> Result<AccountView, ActionError> {
    let actor = Actor::Admin(&caller.user_id);
    let act = Act { actor, action, target: user_id.to_string(), details: Vec::new() };
    change(actions, user_id, None, Some(act), |account| {
        must_be_lasting(account, user_id)?;
        if account.state == AccountState::Locked {
            let locked = format!("{user_id} is locked and can do nothing until an admin sets a password");
            return Err(ActionError::invalid("participant_id", locked));
        }
        Ok((account.state != wanted).then(|| Account { state: wanted, ..account.clone() }))
    })
    .await
}

async fn known(actions: &Actions, user_id: &UserId) -> Result<Account, ActionError> {
    get(actions, user_id).await?.ok_or_else(|| ActionError::ParticipantNotFound(user_id.to_string()))
}

fn must_be_lasting(account: &Account, user_id: &UserId) -> Result<(), ActionError> {
    if account.state != AccountState::Deactivated {
        return Ok(());
    }
    Err(ActionError::invalid("participant_id", format!("{user_id} was deactivated by its owner, for good")))
}

/// Changes an account and ends its sessions, but for the one that is kept; none: there is nothing to change.
///
/// # Errors
/// Nobody of that name; what `apply` says.
pub(super) async fn change(
    actions: &Actions,
    user_id: &UserId,
    kept: Option<[u8; 32]>,
    act: Option<Act<'_>>,
    apply: impl Fn(&Account) -> Result<Option<Account>, ActionError>,
) -> Result<AccountView, ActionError> {
    for _ in 0..CHANGES_MAX {
        let before = known(actions, user_id).await?;
        let Some(after) = apply(&before)? else {
            return Ok(AccountView { user_id: user_id.to_owned(), account: before });
        };
        let mut commit = Commit::new(Home::person(user_id));
        commit.require_same(&ACCOUNT, &(), &before).put(&ACCOUNT, &(), &after).change(ChangeKind::Account, 0);
        sessions::end_in(actions, user_id, &mut commit, kept).await?;
        if after.avatar_url.is_none() {
            profile::forget_picture(actions, &user_id.to_owned(), &before, &mut commit);
        }
        if let Some(act) = &act {
            act.clone().record(actions, &mut commit);
        }
        let outcome = actions.store.commit(commit).await;
        sessions::end_sessions_of(actions, user_id);
        match outcome {
            Err(CommitError::Conflict) => {}
            outcome => {
                outcome?;
                return Ok(AccountView { user_id: user_id.to_owned(), account: after });
            }
        }
    }
    Err(ActionError::Busy)
}

/// Changes what an account says of its owner, and with the same commit what else `apply` puts into it. Its sessions go on.
///
/// # Errors
/// Nobody of that name; [`ActionError::Busy`].
pub(super) async fn amend(
    actions: &Actions,
    user_id: &UserId,
    apply: impl Fn(&mut Account, &mut Commit),
) -> Result<(), ActionError> {
    for _ in 0..CHANGES_MAX {
        let before = known(actions, user_id).await?;
        let (mut after, mut commit) = (before.clone(), Commit::new(Home::person(user_id)));
        apply(&mut after, &mut commit);
        commit.require_same(&ACCOUNT, &(), &before).put(&ACCOUNT, &(), &after).change(ChangeKind::Account, 0);
        match actions.store.commit(commit).await {
            Err(CommitError::Conflict) => {}
            outcome => return Ok(outcome.map(drop)?),
        }
    }
    Err(ActionError::Busy)
}

async fn hash(actions: &Actions, field: &str, password: String) -> Result<String, ActionError> {
    let password = checked(field, password)?;
    actions.passwords.hash(password, crate::random::bytes(&*actions.random)).await
}

fn checked(field: &str, password: String) -> Result<String, ActionError> {
    if password.is_empty() {
        return Err(ActionError::invalid(field, "must not be empty"));
    }
    if password.chars().count() > PASSWORD_CHARACTERS_MAX {
        return Err(ActionError::invalid(field, format!("at most {PASSWORD_CHARACTERS_MAX} characters")));
    }
    Ok(password)
}

/// The text is a local name as it is stored: somebody may register it.
pub(super) fn is_name(text: &str) -> bool {
    local_name(text).is_ok_and(|name| name == text)
}

/// A local name as it is stored.
fn local_name(name: &str) -> Result<String, ActionError> {
    let name = name.to_ascii_lowercase();
    let is_right = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_-.=".contains(letter);
    if name.is_empty() || name.len() > NAME_CHARACTERS_MAX || !name.chars().all(is_right) {
        let problem = format!("1 to {NAME_CHARACTERS_MAX} of the characters a-z 0-9 _ - . =");
        return Err(ActionError::invalid("username", problem));
    }
    Ok(name)
}

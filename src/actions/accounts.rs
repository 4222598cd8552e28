//! Accounts: registration, log-in, the profile, and what admins and the command line do with them.

use ruma::{OwnedRoomId, OwnedUserId, UserId};

use super::{
    ActionError, Actions, Caller, Registration, capacity, creation,
    passwords::PASSWORD_CHARACTERS_MAX,
    rows,
    sessions::{self, Issued},
    workspaces,
};
use crate::storage::{
    ChangeKind, Commit, CommitError, Home, KeyRange,
    accounts::{Account, AccountState},
    keyspaces::{ACCOUNT, NAMES, SESSIONS},
};

/// Characters of a local name.
pub const NAME_CHARACTERS_MAX: usize = 64;
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

/// A page of accounts, and how many there are in all.
pub struct AccountPage {
    /// The page.
    pub accounts: Vec<AccountView>,
    /// All of them.
    pub total: usize,
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

/// Makes an account for whoever asks over the network.
///
/// # Errors
/// Registration is closed, or wants a registration token; as [`create`].
pub async fn register(
    actions: &Actions,
    new: NewAccount,
    registration_token: Option<&str>,
) -> Result<(OwnedUserId, Issued), ActionError> {
    match (actions.settings.registration, registration_token) {
        (Registration::Open, _) => {}
        (Registration::Token, _) => {
            let refused = "registration needs a valid `registration_token`; ask the admin of this server for one";
            return Err(ActionError::InsufficientPermission(refused.to_owned()));
        }
        (Registration::Closed, _) => {
            let refused = "registration is closed here; ask the admin of this server for an account";
            return Err(ActionError::InsufficientPermission(refused.to_owned()));
        }
    }
    let made = create(actions, NewAccount { is_admin: false, ..new }).await?;
    let issued = sessions::issue(actions, &made.user_id, "registration").await?;
    Ok((made.user_id, issued))
}

/// Makes an account with its personal workspace.
///
/// # Errors
/// A name that is taken or malformed; a password that is empty or too long; the tenant's limit.
pub async fn create(actions: &Actions, new: NewAccount) -> Result<AccountView, ActionError> {
    let local = local_name(&new.username)?;
    let user_id = user_id(actions, &local).ok_or_else(|| ActionError::invalid("username", "is no local name"))?;
    let password_hash = match new.password {
        Some(password) => Some(hash(actions, password).await?),
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
    let plan = workspaces::plan(format!("{}'s workspace", new.display_name.as_deref().unwrap_or(&local)))?;
    let workspace = creation::create_event(actions, &user_id, &plan)?;
    let account = Account {
        password_hash,
        is_admin: new.is_admin,
        state: AccountState::Active,
        display_name: new.display_name,
        created_at: actions.now(),
        personal_workspace: creation::reservation(actions, &workspace, [0; 32]),
    };
    let mut commit = Commit::new(Home::person(&user_id));
    commit.require_absent(&ACCOUNT, &()).put(&ACCOUNT, &(), &account).change(ChangeKind::Account, 0);
    actions.store.commit(commit).await?;
    personal_workspace(actions, &user_id).await?;
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
        let plan = workspaces::plan(format!("{name}'s workspace"))?;
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
pub async fn log_in(actions: &Actions, username: &str, password: String) -> Result<(OwnedUserId, Issued), ActionError> {
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
            let issued = sessions::issue_while(actions, &user_id, "login", &account).await?;
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

/// Makes an account in the name of an admin.
///
/// # Errors
/// As [`create`]; a caller who is no admin.
pub async fn create_by(actions: &Actions, caller: &Caller, new: NewAccount) -> Result<AccountView, ActionError> {
    must_be_admin(caller)?;
    create(actions, new).await
}

/// All accounts, by name.
///
/// # Errors
/// A caller who is no admin.
pub async fn list(
    actions: &Actions,
    caller: &Caller,
    search: Option<&str>,
    offset: usize,
    limit: usize,
) -> Result<AccountPage, ActionError> {
    must_be_admin(caller)?;
    let names = rows::all(&actions.store, &NAMES, &Home::server(), KeyRange::all()).await?;
    let search = search.map(str::to_lowercase);
    let (mut accounts, mut total) = (Vec::new(), 0);
    for (local, ()) in names {
        if search.as_ref().is_some_and(|search| !local.contains(search)) {
            continue;
        }
        let Some(user_id) = user_id(actions, &local) else { continue };
        let Some(account) = get(actions, &user_id).await? else { continue };
        if total >= offset && accounts.len() < limit {
            accounts.push(AccountView { user_id, account });
        }
        total += 1;
    }
    Ok(AccountPage { accounts, total })
}

/// Sets a password, which also unlocks the account; all sessions end.
///
/// # Errors
/// Nobody of that name; a password that is empty or too long.
pub async fn set_password(actions: &Actions, user_id: &UserId, password: String) -> Result<(), ActionError> {
    let hash = hash(actions, password).await?;
    change(actions, user_id, move |account, commit| {
        account.password_hash = Some(hash.clone());
        if account.state == AccountState::Locked {
            account.state = AccountState::Active;
        }
        commit.delete_all(&SESSIONS);
    })
    .await
}

async fn change(
    actions: &Actions,
    user_id: &UserId,
    apply: impl Fn(&mut Account, &mut Commit),
) -> Result<(), ActionError> {
    let home = Home::person(user_id);
    loop {
        let before =
            get(actions, user_id).await?.ok_or_else(|| ActionError::ParticipantNotFound(user_id.to_string()))?;
        let mut after = before.clone();
        let mut commit = Commit::new(home.clone());
        commit.require_same(&ACCOUNT, &(), &before);
        apply(&mut after, &mut commit);
        commit.put(&ACCOUNT, &(), &after).change(ChangeKind::Account, 0);
        match actions.store.commit(commit).await {
            Err(CommitError::Conflict) => {}
            outcome => {
                outcome?;
                sessions::forget_all(actions);
                return Ok(());
            }
        }
    }
}

async fn hash(actions: &Actions, password: String) -> Result<String, ActionError> {
    if password.is_empty() {
        return Err(ActionError::invalid("password", "must not be empty"));
    }
    if password.chars().count() > PASSWORD_CHARACTERS_MAX {
        return Err(ActionError::invalid("password", format!("at most {PASSWORD_CHARACTERS_MAX} characters")));
    }
    actions.passwords.hash(password, crate::random::bytes(&*actions.random)).await
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

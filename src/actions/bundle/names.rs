//! The names of this server in a room that comes here: whoever is in it and has no account gets one that nobody can use, so that the name does not become somebody
//! else's. Until the room is shown they come and go with it.

use ruma::{OwnedUserId, RoomId, UserId};

use super::import::Task;
use crate::{
    actions::{ActionError, Actions, accounts, capacity, creation, lane::Room, rows, workspaces},
    storage::{
        ChangeKind, Commit, Home, KeyRange,
        accounts::{Account, AccountState},
        keyspaces::{ACCOUNT, LOCKED_NAMES, NAMES},
    },
};

/// How many accounts the room needs that are not there.
///
/// # Errors
/// [`ActionError::TenantCapacity`] when the tenant has no place for them; when storage fails.
pub(super) async fn missing(task: &Task<'_>) -> Result<u64, ActionError> {
    let Task { actions, .. } = *task;
    let mut missing = 0;
    for user_id in of_room(task) {
        missing += u64::from(accounts::get(actions, user_id).await?.is_none());
    }
    capacity::has_places(actions, missing).await?;
    Ok(missing)
}

/// Makes an account that nobody can use for each of them that has none. How many were made.
///
/// # Errors
/// As [`missing`].
pub(super) async fn hold(task: &Task<'_>, room: &Room) -> Result<u64, ActionError> {
    let mut held = 0;
    for user_id in of_room(task) {
        held += u64::from(hold_one(task.actions, room, user_id).await?);
    }
    Ok(held)
}

/// People of this server who are in the room, asked in, or banned. Names that nobody can register need nobody's protection.
fn of_room<'a>(task: &Task<'a>) -> impl Iterator<Item = &'a OwnedUserId> {
    let Task { actions, verified, .. } = *task;
    verified.members.keys().filter(|user_id| actions.is_local(user_id) && accounts::is_name(user_id.localpart()))
}

async fn hold_one(actions: &Actions, room: &Room, user_id: &UserId) -> Result<bool, ActionError> {
    let name = user_id.localpart().to_owned();
    let _gate = actions.gates.enter("account", &name).await?;
    if accounts::get(actions, user_id).await?.is_some() {
        return Ok(false);
    }
    // A crash may have left a name without its account.
    let place = match actions.store().get(&NAMES, &Home::server(), &name).await? {
        Some(()) => None,
        None => Some(capacity::account(actions).await?),
    };
    let mut commit = Commit::new(Home::server());
    commit.put(&NAMES, &name, &()).put(&LOCKED_NAMES, &(room.id.clone(), user_id.to_owned()), &());
    actions.store().commit(commit).await?;
    if let Some(place) = place {
        place.keep();
    }
    let plan = workspaces::plan(actions, format!("{name}'s workspace"))?;
    let workspace = creation::create_event(actions, user_id, &plan)?;
    let account = Account {
        password_hash: None,
        is_admin: false,
        state: AccountState::Locked,
        display_name: None,
        created_at: actions.now(),
        personal_workspace: creation::reservation(actions, &workspace, [0; 32]),
        avatar_url: None,
    };
    let mut commit = Commit::new(Home::person(user_id));
    commit.require_absent(&ACCOUNT, &()).put(&ACCOUNT, &(), &account).change(ChangeKind::Account, 0);
    actions.store().commit(commit).await?;
    Ok(true)
}

/// The room is not to be: the names that were taken for it are free again. An account that somebody has been given meanwhile stays.
///
/// # Errors
/// When storage fails.
pub(super) async fn release(actions: &Actions, room_id: &RoomId) -> Result<(), ActionError> {
    let of_room = KeyRange::prefix(&room_id.to_owned());
    for (key, ()) in rows::all(actions.store(), &LOCKED_NAMES, &Home::server(), of_room).await? {
        let (_, user_id) = &key;
        let _gate = actions.gates.enter("account", user_id.localpart()).await?;
        let account = accounts::get(actions, user_id).await?;
        let is_unused = |account: &Account| account.state == AccountState::Locked && account.password_hash.is_none();
        let is_free = account.as_ref().is_none_or(is_unused);
        if let Some(account) = account.filter(|_| is_free) {
            let mut commit = Commit::new(Home::person(user_id));
            commit.require_same(&ACCOUNT, &(), &account).delete(&ACCOUNT, &()).change(ChangeKind::Account, 0);
            actions.store().commit(commit).await?;
        }
        let mut commit = Commit::new(Home::server());
        commit.delete(&LOCKED_NAMES, &key);
        if is_free {
            commit.delete(&NAMES, &user_id.localpart().to_owned());
        }
        actions.store().commit(commit).await?;
        if is_free {
            capacity::give_back_account(actions);
        }
    }
    Ok(())
}

//! Limits of a tenant as counters in memory: counted once from disk, then kept. A place is taken before the work and given back when the work fails, so that a
//! limit holds under races without anybody waiting.

use std::sync::atomic::{AtomicU64, Ordering};

use rules::kind::RoomKind;
use tokio::sync::OnceCell;

use super::{ActionError, Actions, rows};
use crate::storage::{
    Home, KeyRange,
    keyspaces::{NAMES, ROOMS},
};

/// What is counted of a tenant.
#[derive(Default)]
pub struct Capacity {
    rooms: OnceCell<AtomicU64>,
    accounts: OnceCell<AtomicU64>,
}

/// A place that was taken. Dropped without [`Place::keep`], it is given back.
#[must_use]
pub struct Place<'a> {
    counter: &'a AtomicU64,
    is_kept: bool,
}

impl Place<'_> {
    /// The work is done; the place stays taken.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.counter.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// A place for one more room; workspaces and incognito rooms take none.
///
/// # Errors
/// [`ActionError::TenantCapacity`].
pub async fn room(actions: &Actions) -> Result<Place<'_>, ActionError> {
    take(rooms_counter(actions).await?, actions.settings.max_rooms, "rooms")
}

/// A room is gone: its place is free.
pub fn give_back_room(actions: &Actions) {
    // Who has not counted yet will not find it.
    if let Some(counter) = actions.capacity.rooms.get() {
        counter.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A place for one more account.
///
/// # Errors
/// [`ActionError::TenantCapacity`].
pub async fn account(actions: &Actions) -> Result<Place<'_>, ActionError> {
    take(accounts_counter(actions).await?, actions.settings.max_accounts, "accounts")
}

/// There are places for so many more accounts; none is taken.
///
/// # Errors
/// [`ActionError::TenantCapacity`].
pub async fn has_places(actions: &Actions, more: u64) -> Result<(), ActionError> {
    let max = actions.settings.max_accounts;
    let free = max.saturating_sub(accounts(actions).await?);
    if more <= free {
        return Ok(());
    }
    let problem = format!(
        "{more} more accounts are needed, and this server, which has room for {max}, has room for {free} of them; ask its admin"
    );
    Err(ActionError::TenantCapacity(problem))
}

/// An account is gone, and its name is free again.
pub fn give_back_account(actions: &Actions) {
    // Who has not counted yet will not find it.
    if let Some(counter) = actions.capacity.accounts.get() {
        counter.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How many accounts there are.
///
/// # Errors
/// When storage cannot be read.
pub async fn accounts(actions: &Actions) -> Result<u64, ActionError> {
    Ok(accounts_counter(actions).await?.load(Ordering::Acquire))
}

async fn rooms_counter(actions: &Actions) -> Result<&AtomicU64, ActionError> {
    let count = async || {
        let rooms = rows::all(actions.store(), &ROOMS, &Home::server(), KeyRange::all()).await?;
        let counted = rooms.iter().filter(|(_, listing)| listing.kind != RoomKind::Workspace).count();
        Ok::<_, ActionError>(AtomicU64::new(u64::try_from(counted).map_err(ActionError::internal)?))
    };
    actions.capacity.rooms.get_or_try_init(count).await
}

async fn accounts_counter(actions: &Actions) -> Result<&AtomicU64, ActionError> {
    let count = async || {
        let names = rows::all(actions.store(), &NAMES, &Home::server(), KeyRange::all()).await?;
        Ok::<_, ActionError>(AtomicU64::new(u64::try_from(names.len()).map_err(ActionError::internal)?))
    };
    actions.capacity.accounts.get_or_try_init(count).await
}

fn take<'a>(counter: &'a AtomicU64, max: u64, what: &str) -> Result<Place<'a>, ActionError> {
    let place = Place { counter, is_kept: false };
    if counter.fetch_add(1, Ordering::AcqRel) < max {
        return Ok(place);
    }
    Err(ActionError::TenantCapacity(format!("this server has room for {max} {what}, and has them; ask its admin")))
}

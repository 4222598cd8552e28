//! The end of an account by its owner's wish: first it can do nothing any more, then it leaves its rooms, whatever happens in between.

use rules::draft::Draft;
use ruma::{CanonicalJsonObject, OwnedUserId, RoomId};
use serde_json::json;

use super::{
    ActionError, Actions, Caller, ErrorKind, accounts,
    append::Writer,
    jobs,
    members::{self, membership},
    personal,
};
use crate::{
    jobs::Progress,
    storage::{
        accounts::{Account, AccountState},
        admin::JobKind,
        keyspaces::MEMBERS,
    },
};

/// How often the list of rooms is read: a request under way may still enter one after the first look.
const LOOKS: usize = 3;

/// Deactivates the caller for good. The name stays taken, the personal workspace stays; everything else of the account goes, and it leaves its rooms.
///
/// # Errors
/// When storage cannot be written.
pub async fn deactivate(actions: &Actions, caller: &Caller) -> Result<(), ActionError> {
    let user_id = &caller.user_id;
    // The work is promised first. If the account stays as it is, the work finds nothing to do.
    let (id, job) = jobs::add(actions, JobKind::Deactivate(user_id.clone()), user_id).await?;
    let done = accounts::change(actions, user_id, None, None, |account| {
        Ok(Some(Account {
            password_hash: None,
            display_name: None,
            avatar_url: None,
            state: AccountState::Deactivated,
            ..account.clone()
        }))
    });
    let done = done.await;
    jobs::launch(actions, id, job);
    done.map(drop)
}

/// Lets a deactivated person leave all rooms but the personal workspace; what is done already is passed over.
///
/// # Errors
/// An account that is not deactivated; when storage cannot be read or written.
pub async fn leave_all(actions: &Actions, job_id: &str, user_id: &OwnedUserId) -> Result<String, ActionError> {
    let account = accounts::get(actions, user_id).await?;
    let Some(account) = account.filter(|account| account.state == AccountState::Deactivated) else {
        return Err(ActionError::invalid("participant_id", "the account was not deactivated; nothing was done"));
    };
    let stays = account.personal_workspace.room_id;
    let mut left = 0;
    for _ in 0..LOOKS {
        let mut rooms = personal::rooms_of(actions, user_id).await?;
        rooms.retain(|(room_id, row)| *room_id != stays && row.membership.is_involved());
        if rooms.is_empty() {
            break;
        }
        let total = u64::try_from(rooms.len()).map_err(ActionError::internal)?;
        let mut failed = None;
        for (room_id, _) in rooms {
            match leave(actions, user_id, &room_id).await {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::Internal) => {
                    failed = Some(error);
                    continue;
                }
                Err(error) => {
                    tracing::warn!(user.id = %user_id, %error, "A room does not let `{user_id}` leave: {error}");
                }
            }
            left += 1;
            actions.jobs.report(job_id, Progress { done: left, total: Some(total.max(left)) });
        }
        // One bad room keeps nobody in the others.
        if let Some(error) = failed {
            return Err(error);
        }
    }
    Ok(json!({ "participant_id": user_id, "rooms_left": left }).to_string())
}

/// Leaves a room, declines its invite or withdraws a knock, whatever the room's type or state.
async fn leave(actions: &Actions, user_id: &OwnedUserId, room_id: &RoomId) -> Result<(), ActionError> {
    let Some(mut writer) = Writer::enter(actions, &actions.room(room_id)).await? else { return Ok(()) };
    let member = writer.get(&MEMBERS, user_id).await?;
    if membership(member.as_ref()).is_involved() {
        writer.stage(user_id, Draft::member(user_id, "leave", CanonicalJsonObject::new())).await?;
    }
    members::commit_leave(actions, writer, user_id).await
}

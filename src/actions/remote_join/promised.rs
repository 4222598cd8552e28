//! Joins that take longer than a client waits: each is a job, which the room shows to whom it concerns until it is over.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use rules::{UnixMs, permission::Membership, version::Version};
use ruma::{EventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId};
use serde_json::json;

use super::{Asker, candidates::Found, enter, is_joined};
use crate::{
    actions::{AccountState, ActionError, Actions, accounts, invites, jobs, rooms::RoomDetails},
    storage::{
        admin::{Job, JobKind},
        members::Invited,
    },
};

/// The joins that go on as jobs, by person and room.
#[derive(Default)]
pub(super) struct Promised(Mutex<BTreeMap<(OwnedUserId, OwnedRoomId), Entry>>);

#[derive(Clone)]
struct Entry {
    job_id: String,
    since: UnixMs,
}

/// The room is not being entered by a job for this person.
///
/// # Errors
/// [`ActionError::Underway`], with the job.
pub(super) fn none_yet(actions: &Actions, user_id: &UserId, room_id: &RoomId) -> Result<(), ActionError> {
    job_of(actions, user_id, room_id).map_or(Ok(()), |job_id| Err(underway(job_id, room_id)))
}

fn underway(job_id: String, room_id: &RoomId) -> ActionError {
    ActionError::Underway { job_id, room_id: room_id.to_owned() }
}

/// The job that enters the room for this person.
pub(in crate::actions) fn job_of(actions: &Actions, user_id: &UserId, room_id: &RoomId) -> Option<String> {
    let key = (user_id.to_owned(), room_id.to_owned());
    actions.entering.promised.0.lock().get(&key).map(|entry| entry.job_id.clone())
}

/// Makes a join a job: from here on it survives the process. Answers what the client is told.
///
/// # Errors
/// When too many jobs wait, or storage cannot be written.
pub(super) async fn promise(actions: &Actions, user_id: &UserId, found: Found) -> Result<ActionError, ActionError> {
    let Found { room_id, servers } = found;
    // The same person may wait twice.
    let _gate = actions.gates.enter("joins", &format!("{user_id} {room_id}")).await?;
    if let Some(job_id) = job_of(actions, user_id, &room_id) {
        return Ok(underway(job_id, &room_id));
    }
    let kind = JobKind::Join { user_id: user_id.to_owned(), room_id: room_id.clone(), servers };
    let (id, job) = jobs::add(actions, kind, user_id).await?;
    jobs::launch(actions, id.clone(), job);
    Ok(underway(id, &room_id))
}

/// A job begins, or goes on after a restart: the room shows it from now on.
pub(in crate::actions) fn note(actions: &Actions, job_id: &str, job: &Job) {
    if let JobKind::Join { user_id, room_id, .. } = &job.kind {
        let entry = Entry { job_id: job_id.to_owned(), since: job.created_at };
        actions.entering.promised.0.lock().insert((user_id.clone(), room_id.clone()), entry);
    }
}

/// A job is over.
pub(in crate::actions) fn forget(actions: &Actions, job: &Job) {
    if let JobKind::Join { user_id, room_id, .. } = &job.kind {
        actions.entering.promised.0.lock().remove(&(user_id.clone(), room_id.clone()));
    }
}

/// The job: from its beginning, or from wherever an earlier try has left it.
///
/// # Errors
/// No server lets the person in, or was reached; the account is no longer active; this server talks to no others.
pub(in crate::actions) async fn work(
    actions: &Actions,
    user_id: &OwnedUserId,
    room_id: &OwnedRoomId,
    servers: &[OwnedServerName],
) -> Result<String, ActionError> {
    must_be_active(actions, user_id).await?;
    if !is_joined(actions, room_id, user_id).await? {
        actions.connected("joining this room").await?;
        enter(actions, user_id, room_id, servers, Asker::Job).await?;
    }
    Ok(json!({ "room_id": room_id }).to_string())
}

/// Nobody enters a room whose account was disabled or deactivated meanwhile.
///
/// # Errors
/// [`ActionError::InsufficientPermission`].
pub(super) async fn must_be_active(actions: &Actions, user_id: &UserId) -> Result<(), ActionError> {
    let account = accounts::get(actions, user_id).await?;
    if account.is_none_or(|account| account.state != AccountState::Active) {
        return Err(ActionError::InsufficientPermission("the account is not active any more".to_owned()));
    }
    Ok(())
}

/// A room that is being entered for somebody, and of which nothing is known yet.
///
/// # Errors
/// When the room cannot be described.
pub(in crate::actions) fn details(
    actions: &Actions,
    user_id: &UserId,
    room_id: &RoomId,
) -> Result<Option<RoomDetails>, ActionError> {
    let key = (user_id.to_owned(), room_id.to_owned());
    let entry = actions.entering.promised.0.lock().get(&key).cloned();
    entry.map(|entry| blank(user_id, room_id, entry)).transpose()
}

/// The rooms that are being entered for somebody, and since when.
///
/// # Errors
/// When a room cannot be described.
pub(in crate::actions) fn of(
    actions: &Actions,
    user_id: &UserId,
) -> Result<Vec<(OwnedRoomId, UnixMs, RoomDetails)>, ActionError> {
    let all = actions.entering.promised.0.lock().clone();
    let own = all.into_iter().filter(|((whose, _), _)| whose == user_id);
    own.map(|((_, room_id), entry)| {
        let since = entry.since;
        let room = blank(user_id, &room_id, entry)?;
        Ok((room_id, since, room))
    })
    .collect()
}

fn blank(user_id: &UserId, room_id: &RoomId, entry: Entry) -> Result<RoomDetails, ActionError> {
    let nothing = Invited {
        membership: Membership::None,
        version: Version::DEFAULT.to_owned(),
        event_id: EventId::parse("$none").map_err(ActionError::internal)?,
        event: String::new(),
        sender: user_id.to_owned(),
        origin: user_id.server_name().to_owned(),
        is_direct: false,
        room_state: Vec::new(),
        received_at: entry.since,
    };
    let room = invites::describe(room_id, &nothing)?;
    Ok(RoomDetails { join_job_id: Some(entry.job_id), is_known: false, ..room })
}

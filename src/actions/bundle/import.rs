//! Taking a room in from a bundle: first everything is checked, then what becomes of it follows from one question: does this server have a joined member in the
//! room? Long ones go on as a job.

use std::{collections::BTreeMap, sync::Arc};

use rules::permission::Membership;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

use super::{
    doors::Doors,
    keys, merged,
    reading::{self, Opened},
    restored,
    spool::{self, Spooled},
    succeeded,
};
use crate::{
    actions::{
        ActionError, Actions, Caller,
        jobs::{self, Ended, Told},
        members::membership,
        purge,
        view::RoomView,
    },
    bundle::Verified,
    storage::{
        admin::{ImportWish, JobKind},
        keyspaces::MEMBERS,
    },
};

/// Refused events that are named in an answer.
pub(super) const REJECTED_NAMED_MAX: usize = 100;

/// What becomes of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The room is here already; what it lacked was added.
    Merged,
    /// The room lives on here.
    Restored,
    /// A new room follows it.
    Succeeded,
}

/// What was taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// The room.
    pub id: OwnedRoomId,
    /// Its alias.
    pub room_alias: Option<String>,
    /// What became of the bundle.
    pub outcome: Outcome,
    /// The room of the bundle.
    pub origin_room_id: OwnedRoomId,
    /// Its events.
    pub events: EventsTold,
    /// Its media.
    pub media: MediaTold,
    /// Its people.
    pub participants: PeopleTold,
    /// Something is here that was not: no part of the answer, but of how it is given.
    #[serde(skip)]
    pub created: bool,
}

/// What became of the events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsTold {
    /// All.
    pub total: u64,
    /// Those that were not here.
    pub stored: u64,
    /// Those that were.
    pub known: u64,
    /// Those that the rules refuse.
    pub rejected: Vec<RejectedEvent>,
}

/// An event that the rules refuse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedEvent {
    /// The event.
    pub event_id: OwnedEventId,
    /// Why.
    pub reason: String,
}

/// What became of the media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaTold {
    /// Those that were not here.
    pub stored: u64,
    /// Those that were.
    pub known: u64,
}

/// What became of the people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeopleTold {
    /// Those who have another name here.
    pub mapped: u64,
    /// Those who are left behind.
    pub former: u64,
    /// Those for whom an account was made that nobody can use yet.
    pub locked: u64,
}

impl Imported {
    /// Something is here that was not before.
    pub fn added(&self) -> bool {
        self.created || self.events.stored > 0 || self.media.stored > 0
    }

    pub(super) fn of(id: &OwnedRoomId, outcome: Outcome, verified: &Verified) -> Self {
        Self {
            id: id.clone(),
            room_alias: None,
            outcome,
            origin_room_id: id.clone(),
            events: EventsTold { total: verified.events, ..EventsTold::default() },
            media: MediaTold::default(),
            participants: PeopleTold::default(),
            created: false,
        }
    }
}

/// How an import was answered.
pub enum Answered {
    /// It is done.
    Done(Box<Imported>),
    /// It goes on as this job.
    Later(String),
}

/// What whoever imports wants.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only say what would become of it.
    pub dry_run: bool,
    /// Believe the keys that the bundle brings where they cannot be asked for.
    pub accept_bundle_keys: bool,
    /// The workspace of a successor; none: the caller's personal one.
    pub workspace_id: Option<OwnedRoomId>,
    /// Who in the room is who else in its successor.
    pub participants: BTreeMap<OwnedUserId, OwnedUserId>,
    /// Whoever has an account with the same local name here is the same person.
    pub same_names: bool,
}

/// Takes in what was uploaded.
///
/// # Errors
/// [`ActionError::ImportRefused`]; rights; limits of the tenant.
pub async fn import(
    actions: &Actions,
    caller: &Caller,
    spooled: Spooled,
    options: Options,
) -> Result<Answered, ActionError> {
    let (job_id, told) = begin(actions, caller, spooled, options, false).await?;
    match tokio::time::timeout(actions.bundle_answer_wait, told).await {
        Ok(Ok(ended)) => Ok(Answered::Done(Box::new(read(&ended?)?))),
        Ok(Err(_stopped)) => Err(ActionError::Busy),
        Err(_elapsed) => Ok(Answered::Later(job_id)),
    }
}

/// Begins to take in what was uploaded, as a job.
///
/// # Errors
/// As [`import`], as far as that is known before the work begins.
pub async fn begin(
    actions: &Actions,
    caller: &Caller,
    spooled: Spooled,
    options: Options,
    is_command_line: bool,
) -> Result<(String, Told), ActionError> {
    if options.accept_bundle_keys && !caller.is_admin {
        let refused = "only administrators believe the keys of a bundle; leave `accept_bundle_keys` out";
        return Err(ActionError::InsufficientPermission(refused.to_owned()));
    }
    let wish = ImportWish {
        file: spooled.name.clone(),
        dry_run: options.dry_run,
        accept_bundle_keys: options.accept_bundle_keys,
        is_admin: caller.is_admin,
        is_command_line,
        by: caller.user_id.clone(),
        workspace_id: options.workspace_id,
        participants: options.participants,
        same_names: options.same_names,
    };
    let added = jobs::add(actions, JobKind::Import(Box::new(wish)), &caller.user_id).await;
    let (job_id, job) = added.map_err(spool::no_room)?;
    spooled.keep();
    Ok((job_id.clone(), jobs::launch_told(actions, job_id, job)))
}

fn read(ended: &Ended) -> Result<Imported, ActionError> {
    let imported: Imported = serde_json::from_str(&ended.result).map_err(ActionError::internal)?;
    Ok(Imported { created: ended.is_new, ..imported })
}

/// The job: from its beginning, whatever an earlier try has left.
///
/// # Errors
/// As [`import`].
pub async fn work(actions: &Actions, job_id: &str, wish: &ImportWish) -> Result<Ended, ActionError> {
    take_in(actions, job_id, wish).await.map_err(spool::no_room)
}

async fn take_in(actions: &Actions, job_id: &str, wish: &ImportWish) -> Result<Ended, ActionError> {
    restored::discard_left(actions, job_id).await?;
    let (archive, signed) = reading::open(actions, spool::path(actions, &wish.file)).await?;
    let (keys, believed) = keys::trusted(actions, &signed, wish).await?;
    let (keys, believed) = (Arc::new(keys), Arc::new(believed));
    let opened = Opened { archive, manifest: Arc::new(signed.manifest), keys, believed };
    let room_id = opened.manifest.room_id.clone();
    let verified = reading::verify(actions, job_id, &opened).await?;
    let _gate = actions.gates.enter("import", room_id.as_str()).await?;
    let outcome = decide(actions, &opened, &verified, wish).await?;
    let doors = Doors::of(actions, &opened, &verified, outcome).await?;
    let task = Task { actions, job_id, wish, opened: &opened, verified: &verified, doors: &doors };
    let imported = match outcome {
        Outcome::Merged => merged::merge(&task, outcome).await?,
        Outcome::Restored => restored::restore(&task).await?,
        Outcome::Succeeded => succeeded::succeed(&task).await?,
    };
    let is_new = imported.added() && !wish.dry_run;
    Ok(Ended { result: serde_json::to_string(&imported).map_err(ActionError::internal)?, is_new })
}

/// An import under way, its bundle checked.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) actions: &'a Actions,
    pub(super) job_id: &'a str,
    pub(super) wish: &'a ImportWish,
    pub(super) opened: &'a Opened,
    pub(super) verified: &'a Verified,
    pub(super) doors: &'a Doors,
}

impl Task<'_> {
    /// So many events are stored.
    pub(super) fn report(&self, stored: u64) {
        let all = self.verified.events;
        let progress = crate::jobs::Progress { done: all.saturating_add(stored), total: Some(all.saturating_mul(2)) };
        self.actions.jobs.report(self.job_id, progress);
    }
}

/// What becomes of the bundle. For whoever may not see a room that is here, it is not here.
async fn decide(
    actions: &Actions,
    opened: &Opened,
    verified: &Verified,
    wish: &ImportWish,
) -> Result<Outcome, ActionError> {
    let exporter = &opened.manifest.server_name;
    if *exporter != actions.server_name && !actions.policy.admits(exporter) {
        let refused = format!("this server has nothing to do with `{exporter}`, which made the bundle");
        return Err(ActionError::ImportRefused(refused));
    }
    let room = actions.room(&opened.manifest.room_id);
    let view = room.view().await?;
    let member = room.store.get(&MEMBERS, &room.home, &wish.by).await?;
    let is_member = membership(member.as_ref()) == Membership::Join;
    let is_being_made = |view: &RoomView| view.tip.heads.is_empty();
    if actions.is_purging(&room.id) || view.as_deref().is_some_and(is_being_made) {
        return Err(ActionError::Busy);
    }
    let lives_here = view.as_ref().is_some_and(|view| view.summary.local_joined() > 0);
    let has_ours = verified.members.iter().any(|(user_id, is)| is == "join" && actions.is_local(user_id));
    if view.is_some() && (lives_here || has_ours) && (wish.is_admin || is_member) {
        return Ok(Outcome::Merged);
    }
    if view.is_none() && purge::is_purged(actions, &room.id).await? && !wish.is_admin {
        let refused = "this room was deleted here for good; only administrators bring it back";
        return Err(ActionError::InsufficientPermission(refused.to_owned()));
    }
    // Whoever is not in a room that lives here is told and given what they would be if it did not.
    if !has_ours {
        return Ok(Outcome::Succeeded);
    }
    if !wish.is_admin {
        let refused = "people of this server are in the room of the bundle: only administrators restore it";
        return Err(ActionError::InsufficientPermission(refused.to_owned()));
    }
    Ok(Outcome::Restored)
}

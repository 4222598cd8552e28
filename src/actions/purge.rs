//! Deleting a room for good: its people leave, every row about it goes, and its id is kept so that it never comes back by itself.
//!
//! Each step may be done twice, so that the job goes on after a crash. The same steps weigh the rows before they go.

use std::{sync::Arc, time::Duration};

use rules::{kind::RoomKind, permission::Membership};
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId};
use serde_json::json;

use super::{
    ActionError, Actions, Caller,
    accounts::{self, must_be_admin},
    append,
    audit::Act,
    capacity, chores, incognito, jobs,
    lane::Room,
    outgoing::{self, Patience},
    rooms, rows,
};
use crate::{
    jobs::Progress,
    storage::{
        ChangeKind, Commit, Direction, Home, KeyRange, Limit, Store,
        accounts::AccountState,
        admin::{Job, JobKind, JobState, Purge},
        keyspaces::{
            AGORA_ROOMS, ALIASES, CHORES, DIRECT_PAIRS, DIRECT_ROOMS, IN_ROOMS, JOBS, MEDIA_ROOMS, MEMBERS, MENTIONS,
            NUMBERS, PEER_ROOMS, PERSONAL, PURGED, ROOM_MEDIA, ROOMS, SEAM, SEAM_EVENTS, SUCCESSORS, WORKSPACE_ROOMS,
        },
        media,
    },
};

/// People who leave in one commit: an event of each, with its rows.
const LEAVES_AT_A_TIME: usize = 50;
/// How long other servers may take to learn that everybody leaves. Then the room goes all the same.
const LEAVES_TAKEN_WITHIN: Patience = Patience { time_max: Duration::from_secs(60), failures_max: 4 };
/// References to media that are looked at in one step.
const MEDIA_AT_A_TIME: usize = 100;
/// Commits about people that are under way at the same time.
const PEOPLE_AT_A_TIME: usize = 100;

/// What a step does with the rows that it finds.
pub enum Pass<'a> {
    /// Counts their bytes.
    Weigh(u64),
    /// Deletes them, and says so to the job if there is one.
    Remove(Option<Report<'a>>),
}

/// How far the job is.
pub struct Report<'a> {
    actions: &'a Actions,
    job_id: &'a str,
    progress: Progress,
}

impl Report<'_> {
    fn step(&mut self, steps: usize) {
        self.progress.done = self.progress.done.saturating_add(u64::try_from(steps).unwrap_or(u64::MAX));
        self.actions.jobs.report(self.job_id, self.progress);
    }
}

impl Pass<'_> {
    /// Does with these deletions what the pass is for.
    ///
    /// # Errors
    /// When storage cannot be read or written.
    pub async fn take(&mut self, store: &Store, commits: Vec<Commit>) -> Result<(), ActionError> {
        match self {
            Self::Weigh(bytes) => {
                for commit in &commits {
                    *bytes = bytes.saturating_add(store.weigh(commit).await?);
                }
            }
            Self::Remove(_) => {
                let mut pending = Vec::with_capacity(commits.len());
                for commit in commits {
                    pending.push(store.reserve().await?.submit(commit));
                }
                for answer in pending {
                    answer.await?;
                }
            }
        }
        Ok(())
    }

    /// So many steps of the job are done.
    pub fn step(&mut self, steps: usize) {
        if let Self::Remove(Some(report)) = self {
            report.step(steps);
        }
    }

    fn removes(&self) -> bool {
        matches!(self, Self::Remove(_))
    }
}

/// What a purge would free.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Bytes of the keys and values of all rows that would go.
    pub bytes: u64,
    /// Events that would go, those that are not shown included.
    pub events: u64,
    /// Joined members.
    pub members: u64,
}

/// Says what a purge would free, and changes nothing. Reads the whole room.
///
/// # Errors
/// As [`start`].
pub async fn preview(actions: &Actions, caller: &Caller, reference: &str) -> Result<Preview, ActionError> {
    must_be_admin(caller)?;
    let room = find(actions, reference).await?;
    check(actions, &room).await?;
    let view = room.view().await?.ok_or(ActionError::RoomNotFound)?;
    let mut pass = Pass::Weigh(0);
    remove_rows(actions, &room, &mut pass).await?;
    let Pass::Weigh(bytes) = pass else { return Err(ActionError::internal("weighing became removing")) };
    let events = view.tip.next_arrival.get() - 1;
    Ok(Preview { room_id: room.id.clone(), bytes, events, members: view.summary.joined })
}

/// Begins to purge a room, and answers the job. From here on nobody enters the room. An incognito room simply ends.
///
/// # Errors
/// A caller who is no admin; [`ActionError::RoomNotFound`], for one that was purged as well; a workspace that has rooms or belongs to an account.
pub async fn start(actions: &Actions, caller: &Caller, reference: &str) -> Result<String, ActionError> {
    must_be_admin(caller)?;
    begin(actions, caller, reference).await
}

/// [`start`], for somebody of whom is known already that they may.
///
/// # Errors
/// As [`start`].
pub(super) async fn begin(actions: &Actions, caller: &Caller, reference: &str) -> Result<String, ActionError> {
    let room = find(actions, reference).await?;
    if actions.incognito_rooms.read().contains(&room.id) {
        incognito::end(actions, &room.id).await?;
        let (id, job) = jobs::new(actions, JobKind::Purge(None), &caller.user_id).await?;
        let now = Some(actions.now());
        let done = Job { state: JobState::Done, finished_at: now, result: Some("{}".to_owned()), ..job };
        jobs::keep(actions, &id, &done).await?;
        return Ok(id);
    }
    let _gate = actions.gates.enter("purge", room.id.as_str()).await?;
    let home = Home::server();
    let before = actions.store.get(&PURGED, &home, &room.id).await?;
    match &before {
        Some(Purge { finished_at: Some(_), .. }) => return Err(ActionError::RoomNotFound),
        Some(under_way) => {
            let job = actions.store.get(&JOBS, &home, &under_way.job_id).await?;
            if let Some(job) = job.filter(|job| !job.state.is_over()) {
                // It was promised and, where nobody knew whether the promise was kept, not begun.
                if actions.purging.write().insert(room.id.clone()) {
                    jobs::launch(actions, under_way.job_id.clone(), job);
                }
                return Ok(under_way.job_id.clone());
            }
        }
        None => check(actions, &room).await?,
    }
    let (id, job) = jobs::new(actions, JobKind::Purge(Some(room.id.clone())), &caller.user_id).await?;
    let by = caller.user_id.clone();
    let purge = Purge { job_id: id.clone(), by, bytes: before.and_then(|before| before.bytes), finished_at: None };
    let mut commit = Commit::new(home);
    commit.put(&PURGED, &room.id, &purge).put(&JOBS, &id, &job);
    let actor = caller.actor();
    let details = vec![("job_id", id.clone())];
    Act { actor, action: "room.purge", target: room.id.to_string(), details }.record(actions, &mut commit);
    actions.store.commit(commit).await?;
    actions.purging.write().insert(room.id.clone());
    jobs::launch(actions, id.clone(), job);
    Ok(id)
}

/// The room that an id or alias names, whether or not anybody may enter it.
async fn find(actions: &Actions, reference: &str) -> Result<Arc<Room>, ActionError> {
    let room_id = rooms::id_of(actions, reference).await?;
    let room = actions.room(&room_id.ok_or(ActionError::RoomNotFound)?);
    let is_there = room.view().await?.is_some() || actions.is_purging(&room.id);
    if is_there { Ok(room) } else { Err(ActionError::RoomNotFound) }
}

/// A workspace goes only when it is empty, and a personal one only when its owner is gone for good.
async fn check(actions: &Actions, room: &Room) -> Result<(), ActionError> {
    let view = room.view().await?.ok_or(ActionError::RoomNotFound)?;
    if view.summary.kind != RoomKind::Workspace {
        return Ok(());
    }
    let page = room.store.scan(&WORKSPACE_ROOMS, &room.home, KeyRange::all(), Direction::Up, Limit::rows(1)).await?;
    if !page.rows.is_empty() {
        return Err(ActionError::type_invariant(
            "this workspace has rooms; move them with PUT /v1/rooms/{id}/workspace or purge them first",
        ));
    }
    let owner = accounts::get(actions, &view.summary.creator).await?;
    let is_lived_in = owner
        .is_some_and(|owner| owner.personal_workspace.room_id == room.id && owner.state != AccountState::Deactivated);
    if is_lived_in {
        return Err(ActionError::type_invariant(
            "this is the personal workspace of an account; it goes only after DELETE /v1/me",
        ));
    }
    Ok(())
}

/// Knows again which rooms are being purged: the first thing that is done at a start.
///
/// # Errors
/// When storage cannot be read.
pub async fn load(actions: &Actions) -> Result<(), ActionError> {
    let purges = rows::all(actions.store(), &PURGED, &Home::server(), KeyRange::all()).await?;
    let under_way = purges.into_iter().filter(|(_, purge)| purge.finished_at.is_none());
    actions.purging.write().extend(under_way.map(|(room_id, _)| room_id));
    Ok(())
}

/// The room was purged here, or is about to be.
///
/// # Errors
/// When storage cannot be read.
pub async fn is_purged(actions: &Actions, room_id: &RoomId) -> Result<bool, ActionError> {
    Ok(actions.store.get(&PURGED, &Home::server(), &room_id.to_owned()).await?.is_some())
}

/// The job: from its beginning, or from wherever an earlier try has left it.
///
/// # Errors
/// When storage cannot be read or written.
pub async fn work(actions: &Actions, job_id: &str, room_id: &OwnedRoomId) -> Result<String, ActionError> {
    let purge = actions.store.get(&PURGED, &Home::server(), room_id).await?;
    let purge = purge.ok_or_else(|| ActionError::internal("a purge without its row"))?;
    let room = actions.room(room_id);
    let bytes = match (purge.bytes, purge.finished_at) {
        (bytes, Some(_)) => bytes.unwrap_or_default(),
        (bytes, None) => go_on(actions, job_id, &room, Purge { bytes, ..purge }).await?,
    };
    actions.purging.write().remove(room_id);
    actions.rooms.remove(room_id);
    actions.directory.remove(room_id);
    Ok(json!({ "room_id": room_id, "bytes": bytes }).to_string())
}

async fn go_on(actions: &Actions, job_id: &str, room: &Arc<Room>, purge: Purge) -> Result<u64, ActionError> {
    let mut report = Report { actions, job_id, progress: Progress::default() };
    // The rows are weighed when everybody has left, and go when they were weighed.
    if purge.bytes.is_none() {
        everybody_leaves(actions, room, &mut report).await?;
        let others: Vec<OwnedServerName> = outgoing::ever_in(room).await?.into_iter().collect();
        for server in actions.outgoing.settled(actions, &others, LEAVES_TAKEN_WITHIN).await? {
            tracing::info!(room.id = %room.id, peer = %server, "`{server}` has not learnt in time that everybody leaves `{}`", room.id);
        }
    }
    let bytes = match purge.bytes {
        Some(bytes) => bytes,
        None => {
            let mut pass = Pass::Weigh(0);
            remove_rows(actions, room, &mut pass).await?;
            let Pass::Weigh(bytes) = pass else { return Err(ActionError::internal("weighing became removing")) };
            let mut commit = Commit::new(Home::server());
            commit.put(&PURGED, &room.id, &Purge { bytes: Some(bytes), ..purge.clone() });
            actions.store.commit(commit).await?;
            bytes
        }
    };
    if let Some(view) = room.view().await? {
        let events = view.tip.next_arrival.get() - 1;
        report.progress.total = Some(report.progress.done.saturating_add(events));
    }
    remove_rows(actions, room, &mut Pass::Remove(Some(report))).await?;
    let mut commit = Commit::new(Home::server());
    commit.put(&PURGED, &room.id, &Purge { bytes: Some(bytes), finished_at: Some(actions.now()), ..purge });
    actions.store.commit(commit).await?;
    Ok(bytes)
}

/// Lets every local member leave, some at a time, so that members of other servers learn of it.
async fn everybody_leaves(actions: &Actions, room: &Arc<Room>, report: &mut Report<'_>) -> Result<(), ActionError> {
    let mut rest = KeyRange::all();
    loop {
        let page =
            room.store.scan(&MEMBERS, &room.home, rest.clone(), Direction::Up, Limit::rows(LEAVES_AT_A_TIME)).await?;
        let Some(last) = page.rows.last().map(|(last, _)| last.clone()) else { return Ok(()) };
        let people = page
            .rows
            .into_iter()
            .filter(|(user_id, member)| actions.is_local(user_id) && member.membership.is_involved());
        let people: Vec<OwnedUserId> = people.map(|(user_id, _)| user_id).collect();
        append::leave(actions, room, &people).await?;
        report.step(people.len());
        if !page.more {
            return Ok(());
        }
        rest = rest.after(&last);
    }
}

/// Removes or weighs every row about a room: what its people hold of it, its aliases, its place in its workspace, its own rows, its place in the lists.
///
/// # Errors
/// When storage cannot be read or written.
pub async fn remove_rows(actions: &Actions, room: &Room, pass: &mut Pass<'_>) -> Result<(), ActionError> {
    let view = room.view_even_hidden().await?;
    let is_direct = view.as_ref().is_some_and(|view| view.is_direct());
    people_forget(actions, room, is_direct, pass).await?;
    names_forget(room, pass).await?;
    media_forget(room, pass).await?;
    peers_forget(room, pass).await?;
    successors_forget(actions, room, pass).await?;
    if let Some(space) = view.as_ref().and_then(|view| view.summary.workspace_id.clone()) {
        workspace_forgets(actions, room, &space, pass).await?;
    }
    append::erase(room, pass).await?;
    let listing = room.store.get(&ROOMS, &Home::server(), &room.id).await?;
    let mut commit = Commit::new(Home::server());
    commit.delete(&ROOMS, &room.id).delete_prefix(&CHORES, &room.id).delete(&NUMBERS, &room.id.to_string());
    commit.delete(&AGORA_ROOMS, &room.id);
    pass.take(&room.store, vec![commit]).await?;
    let took_a_place =
        listing.is_some_and(|listing| !matches!(listing.kind, RoomKind::Workspace | RoomKind::Incognito));
    if pass.removes() && took_a_place {
        capacity::give_back_room(actions);
    }
    Ok(())
}

/// What the room's people hold of it: their lists, settings, mentions, direct messages.
async fn people_forget(
    actions: &Actions,
    room: &Room,
    is_direct: bool,
    pass: &mut Pass<'_>,
) -> Result<(), ActionError> {
    let mut rest = KeyRange::all();
    loop {
        let page =
            room.store.scan(&MEMBERS, &room.home, rest.clone(), Direction::Up, Limit::rows(PEOPLE_AT_A_TIME)).await?;
        let Some(last) = page.rows.last().map(|(last, _)| last.clone()) else { return Ok(()) };
        let mut commits = Vec::new();
        for (user_id, _) in page.rows.iter().filter(|(user_id, _)| actions.is_local(user_id)) {
            let mut commit = Commit::new(Home::person(user_id));
            commit.delete(&IN_ROOMS, &room.id).delete(&PERSONAL, &room.id).delete_prefix(&MENTIONS, &room.id);
            if is_direct {
                pair_forgets(room, user_id, &mut commit).await?;
            }
            commit.change_about(ChangeKind::Rooms, room.home.clone(), 0);
            commits.push(commit);
        }
        pass.take(&room.store, commits).await?;
        if !page.more {
            return Ok(());
        }
        rest = rest.after(&last);
    }
}

/// The two people of a direct message no longer find it, and may make another one.
async fn pair_forgets(room: &Room, user_id: &UserId, commit: &mut Commit) -> Result<(), ActionError> {
    let home = Home::person(user_id);
    for (key, ()) in rows::all(&room.store, &DIRECT_ROOMS, &home, KeyRange::all()).await? {
        if key.1 == room.id {
            commit.delete(&DIRECT_ROOMS, &key);
        }
    }
    for (other, promised) in rows::all(&room.store, &DIRECT_PAIRS, &home, KeyRange::all()).await? {
        if promised.room_id == room.id {
            commit.delete(&DIRECT_PAIRS, &other);
        }
    }
    Ok(())
}

/// The names of the room are free again. All names are read: which of them are a room's is not kept.
async fn names_forget(room: &Room, pass: &mut Pass<'_>) -> Result<(), ActionError> {
    let mut after: Option<Home> = None;
    loop {
        let start = after.as_ref().map(|home| (home, &()));
        let page = room.store.scan_homes(&ALIASES, start, Limit::max()).await?;
        for (home, (), holder) in &page.rows {
            if *holder == room.id {
                let mut commit = Commit::new(home.clone());
                commit.require_same(&ALIASES, &(), holder).delete(&ALIASES, &());
                pass.take(&room.store, vec![commit]).await?;
            }
        }
        match page.rows.into_iter().next_back() {
            Some((home, ..)) if page.more => after = Some(home),
            _ => return Ok(()),
        }
    }
}

/// The media that the room's events name are no longer looked for here. What was uploaded stays with who uploaded it.
async fn media_forget(room: &Room, pass: &mut Pass<'_>) -> Result<(), ActionError> {
    let (mut rest, mut last_medium) = (KeyRange::all(), None);
    loop {
        let page =
            room.store.scan(&ROOM_MEDIA, &room.home, rest.clone(), Direction::Up, Limit::rows(MEDIA_AT_A_TIME)).await?;
        let Some(last) = page.rows.last().map(|(last, _)| last.clone()) else { return Ok(()) };
        let mut commits = Vec::new();
        for ((sha256, _), _) in &page.rows {
            if last_medium.replace(*sha256) != Some(*sha256) {
                let mut commit = Commit::new(media::home(sha256));
                commit.delete(&MEDIA_ROOMS, &room.id);
                commits.push(commit);
            }
        }
        pass.take(&room.store, commits).await?;
        if !page.more {
            return Ok(());
        }
        rest = rest.after(&last);
    }
}

/// Other servers are no longer said to be in it.
async fn peers_forget(room: &Room, pass: &mut Pass<'_>) -> Result<(), ActionError> {
    for server in outgoing::ever_in(room).await? {
        let mut commit = Commit::new(Home::peer(&server));
        commit.delete(&PEER_ROOMS, &room.id);
        pass.take(&room.store, vec![commit]).await?;
    }
    Ok(())
}

/// What follows the room goes on into nothing: should the room come again, its events have other numbers.
async fn successors_forget(actions: &Actions, room: &Room, pass: &mut Pass<'_>) -> Result<(), ActionError> {
    let of_room = KeyRange::prefix(&room.id);
    for (_, successor) in rows::all(actions.store(), &SUCCESSORS, &Home::server(), of_room).await? {
        let mut commit = Commit::new(Home::room(&successor));
        commit.delete(&SEAM, &()).delete_all(&SEAM_EVENTS);
        pass.take(&room.store, vec![commit]).await?;
    }
    Ok(())
}

/// The room's workspace no longer lists it, and where somebody here may say so, the space no longer names it.
async fn workspace_forgets(
    actions: &Actions,
    room: &Room,
    space: &RoomId,
    pass: &mut Pass<'_>,
) -> Result<(), ActionError> {
    let mut commit = Commit::new(Home::room(space));
    commit.delete(&WORKSPACE_ROOMS, &room.id);
    pass.take(&room.store, vec![commit]).await?;
    if !pass.removes() {
        return Ok(());
    }
    let space_room = actions.room(space);
    let Some(view) = space_room.view().await? else { return Ok(()) };
    let needs = view.basis.levels.to_send("m.space.child", true);
    let members = rows::all(&space_room.store, &MEMBERS, &space_room.home, KeyRange::all()).await?;
    let may_say_so = members.into_iter().find(|(user_id, member)| {
        member.membership == Membership::Join && actions.is_local(user_id) && view.level(user_id).reaches(needs)
    });
    let Some((by, _)) = may_say_so else { return Ok(()) };
    match chores::set_child(actions, &room.id, space, &by, false).await {
        Ok(()) => Ok(()),
        Err(ActionError::RoomForbidden { message, .. }) => {
            tracing::info!(room.id = %room.id, "Space `{space}` goes on naming `{}`: {message}", room.id);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

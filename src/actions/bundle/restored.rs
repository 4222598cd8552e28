//! A room that lives on here: built from the file while nobody finds it, compared with what was proven, and shown at once. What a crash leaves is removed at the
//! next start, or finished where only the showing was left.

use std::{collections::HashSet, sync::Arc};

use rules::authorization::Refusal;
use ruma::{OwnedEventId, OwnedUserId, ServerName};

use super::{
    doors::refusal_of,
    import::{Imported, Outcome, REJECTED_NAMED_MAX, RejectedEvent, Task},
    keys, media_in, names, order,
    reading::{self, Ready},
};
use crate::{
    actions::{
        ActionError, Actions, NotificationMode, aliases,
        append::{self, Arriving, Before, Coming, Present, Remote, Slot, UnderWay},
        audit::{Act, Actor},
        capacity,
        incoming::{claims, guests::Met, judging::Purpose},
        lane::Room,
        purge::{self, Pass},
        rows::{self, Rows},
    },
    bundle::{BundledPersonal, Local, events::Around, manifest::state_digest, verify::Sent},
    storage::{
        Commit, Home, KeyRange, Pending, Place,
        admin::{Importing, Phase},
        keyspaces::{EVENTS, IMPORTS, LOCKED_NAMES, PERSONAL, PURGED},
        members::{Personal, ReadMarker},
        room_settings::{FederationMode, RoomSettings},
    },
};

/// Restores the room of a bundle.
///
/// # Errors
/// The tenant's limits; when storage fails. Nothing of the room is left then.
pub(super) async fn restore(task: &Task<'_>) -> Result<Imported, ActionError> {
    let Task { actions, verified, opened, wish, job_id, .. } = *task;
    let room = actions.room(&opened.manifest.room_id);
    let mut imported = Imported::of(&room.id, Outcome::Restored, verified);
    imported.created = true;
    tell_events(&mut imported, task);
    let missing = names::missing(task).await?;
    if wish.dry_run {
        imported.media.stored = u64::try_from(opened.manifest.media.len()).unwrap_or(u64::MAX);
        imported.participants.locked = missing;
        return Ok(imported);
    }
    let place = capacity::room(actions).await?;
    begin_hidden(actions, &room, job_id).await?;
    // The room's own rows count it from here on.
    place.keep();
    let built = match build(task, &room).await {
        Ok(()) => finish(task, &room).await,
        Err(error) => Err(error),
    };
    let locked_and_media = match built {
        Ok(told) => told,
        Err(error) => {
            discard(actions, &room).await?;
            return Err(error);
        }
    };
    (imported.participants.locked, imported.media) = locked_and_media;
    let view = room.view_even_hidden().await?.ok_or(ActionError::RoomNotFound)?;
    imported.room_alias.clone_from(&view.summary.alias);
    show(task, &room, &imported).await?;
    Ok(imported)
}

/// All events of the bundle are new here. Those of servers that are kept out are held, because others lean on them, and not shown.
pub(super) fn tell_events(imported: &mut Imported, task: &Task<'_>) {
    let Task { verified, doors, .. } = *task;
    let kept_out = verified.sent.iter().filter(|(server, _)| !doors.let_in(server));
    let kept_out: Vec<(String, &Sent)> = kept_out.map(|(server, sent)| (refusal_of(server), sent)).collect();
    let count = u64::try_from(verified.refused.len()).unwrap_or(u64::MAX);
    let count = kept_out.iter().fold(count, |count, (_, sent)| count.saturating_add(sent.events));
    imported.events.stored = verified.events.saturating_sub(count);
    let refused = verified.refused.iter().map(|(id, reason)| (id, reason));
    let kept_out = kept_out.iter().flat_map(|(reason, sent)| sent.first.iter().map(move |id| (id, reason)));
    let named = refused.chain(kept_out).take(REJECTED_NAMED_MAX);
    imported.events.rejected =
        named.map(|(id, reason)| RejectedEvent { event_id: id.clone(), reason: reason.clone() }).collect();
}

/// Hides a room that is about to be made; what a crash leaves of it is removed at the next start.
pub(super) async fn begin_hidden(actions: &Actions, room: &Room, job_id: &str) -> Result<(), ActionError> {
    let mut commit = Commit::new(Home::server());
    commit.put(&IMPORTS, &room.id, &Importing { job_id: job_id.to_owned(), phase: Phase::Building });
    actions.store().commit(commit).await?;
    room.hide();
    Ok(())
}

/// Builds the room from its events, in the order of the file.
pub(super) async fn build(task: &Task<'_>, room: &Arc<Room>) -> Result<(), ActionError> {
    let Task { actions, opened, verified, .. } = *task;
    let refused: HashSet<&OwnedEventId> = verified.refused.iter().map(|(id, _)| id).collect();
    let mut batches = reading::ready(opened, |_| false, |_| Purpose::History);
    let (mut stored, mut is_first, mut under_way) = (0_u64, true, UnderWay::default());
    while let Some(batch) = batches.recv().await {
        let mut batch = batch?;
        stored = stored.saturating_add(u64::try_from(batch.len()).unwrap_or_default());
        if is_first && !batch.is_empty() {
            begin(task, room, batch.remove(0)).await?;
            is_first = false;
        }
        let (outcomes, durable) = take_in(task, room, batch).await?;
        for (id, outcome) in outcomes {
            match outcome {
                Remote::Accepted | Remote::Known | Remote::SoftFailed(_) => {}
                Remote::Rejected(_) if refused.contains(&id) => {}
                other => return Err(ActionError::internal(format!("a checked event was not taken: {id}: {other:?}"))),
            }
        }
        under_way.push(durable).await?;
        task.report(stored);
    }
    under_way.end().await?;
    append::settle(actions, room, &opened.manifest.extremities).await?;
    keys::keep(room, &opened.believed).await?;
    compare(task, room).await
}

/// The first event of a bundle made the room.
async fn begin(task: &Task<'_>, room: &Arc<Room>, first: Ready) -> Result<(), ActionError> {
    let Task { actions, opened, .. } = *task;
    let version = crate::bundle::events::version(&opened.manifest)?;
    let is_leant = first.around == Around::Unknown;
    let (event, _) = first.checked.refused_by_itself();
    let leant_by = is_leant.then_some(&opened.manifest.server_name);
    append::found_hidden(actions, room, (&version, rules::Event::clone(&event)), leant_by).await
}

/// Takes a batch in, and says when it is on disk. What stands behind a hole needs what came before it to be there.
async fn take_in(
    task: &Task<'_>,
    room: &Arc<Room>,
    batch: Vec<Ready>,
) -> Result<(Vec<(OwnedEventId, Remote)>, Pending), ActionError> {
    let Task { actions, opened, .. } = *task;
    let peer = &opened.manifest.server_name;
    let (mut coming, mut ids, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
    for Ready { event_id, around, checked } in batch {
        let is_hidden = opened.manifest.hidden.contains(&event_id);
        let before = match around {
            Around::Unknown => None,
            Around::Parents => Some(Before::Parents),
            Around::Claimed(state) => {
                let outcome = append::several(actions, room, std::mem::take(&mut coming)).await?;
                outcomes.extend(ids.drain(..).zip(outcome));
                let view = room.view_even_hidden().await?.ok_or(ActionError::RoomNotFound)?;
                let met = Met { room: Arc::clone(room), view };
                let entries = claims::entries(&met, &state).await.map_err(ActionError::internal)?;
                Some(Before::Claimed(vec![entries]))
            }
        };
        ids.push(event_id);
        coming.push(match before {
            None => Coming::Leant(checked, peer.clone()),
            Some(before) => {
                let kept_out = task.doors.refusal(&checked.event).map(Refusal::new);
                let (event, refused) = checked.refused_by_itself();
                let was_hidden = || is_hidden.then(|| Refusal::new("it was not shown where the room comes from"));
                let hidden = kept_out.or_else(was_hidden);
                let present = Present::WasAsked;
                let event = Arc::unwrap_or_clone(event);
                let slot = Slot::End;
                let peer = Some(peer.clone());
                Coming::Placed(Box::new(Arriving {
                    event,
                    peer,
                    refused,
                    hidden,
                    before,
                    slot,
                    staged: None,
                    handed_in: false,
                    present,
                }))
            }
        });
    }
    let (outcome, durable) = append::several_handed_over(actions, room, coming).await?;
    outcomes.extend(ids.into_iter().zip(outcome));
    Ok((outcomes, durable))
}

/// The state that was built is the one that was proven.
async fn compare(task: &Task<'_>, room: &Room) -> Result<(), ActionError> {
    let view = room.view_even_hidden().await?.ok_or(ActionError::RoomNotFound)?;
    let rows = Rows::on_disk(&room.store, &room.home);
    let mut entries = Vec::new();
    for arrival in order::state(&rows, view.tip.state).await? {
        let (_, event) = rows.event(&view.basis.version, arrival).await?;
        let key = event.state_key().unwrap_or_default().to_owned();
        entries.push((event.type_str().to_owned(), key, event.event_id().clone()));
    }
    let digest = state_digest(entries.iter().map(|(kind, key, id)| (kind.as_str(), key.as_str(), id.as_str())));
    if digest != task.opened.manifest.state {
        return Err(ActionError::internal("the room that was built has another state than the one that was checked"));
    }
    Ok(())
}

/// What comes with the room: accounts for its people, media, settings, names. Each step may be done twice.
async fn finish(task: &Task<'_>, room: &Arc<Room>) -> Result<(u64, super::import::MediaTold), ActionError> {
    let Task { actions, opened, wish, .. } = *task;
    let locked = names::hold(task, room).await?;
    let media = media_in::take_in(actions, opened, room).await?;
    let local = reading::local(opened).await?;
    let settings = RoomSettings {
        max_members: local.max_members,
        federation: federation(actions, &opened.manifest.server_name, &local),
        ..RoomSettings::default()
    };
    if settings != RoomSettings::default() {
        append::set_settings(actions, room, settings).await?;
    }
    name(actions, room, &local, wish.is_admin).await?;
    for personal in local.personal {
        set_personal(actions, room, personal).await?;
    }
    Ok((locked, media))
}

/// Which other servers may take part: as this server had it when it made the bundle, else as it has it for new rooms. What another server had set is about itself.
pub(super) fn federation(actions: &Actions, exporter: &ServerName, local: &Local) -> FederationMode {
    match local.federation.as_deref().filter(|_| *exporter == *actions.server_name) {
        Some("open") => FederationMode::Open,
        Some("allow_list") => FederationMode::Listed(local.federation_servers.clone()),
        // A word that is not known yet lets in less rather than more.
        Some(_) => FederationMode::Off,
        None => actions.settings.room_federation.clone(),
    }
}

/// Gives the room its names, as far as they are free and of this server.
async fn name(actions: &Actions, room: &Room, local: &Local, is_admin: bool) -> Result<(), ActionError> {
    for alias in &local.aliases {
        let wish = aliases::Wish::Exactly(alias);
        match aliases::reserve(actions, &room.store, wish, &room.id, is_admin).await {
            Ok(_) | Err(ActionError::NameTaken(_) | ActionError::RequestInvalid { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn set_personal(actions: &Actions, room: &Room, settings: BundledPersonal) -> Result<(), ActionError> {
    let BundledPersonal { participant_id, read_event_id, notification_mode, pinned } = settings;
    if !actions.is_local(&participant_id) {
        return Ok(());
    }
    let rows = Rows::on_disk(&room.store, &room.home);
    let read = match read_event_id {
        Some(event_id) => marker(&rows, &participant_id, event_id).await?,
        None => None,
    };
    let notification_mode = notification_mode.as_deref().and_then(|word| match word {
        "all" => Some(NotificationMode::All),
        "mentions" => Some(NotificationMode::Mentions),
        "none" => Some(NotificationMode::None),
        "inherit" => Some(NotificationMode::Inherit),
        _ => None,
    });
    let mut commit = Commit::new(Home::person(&participant_id));
    commit.put(&PERSONAL, &room.id, &Personal { notification_mode, mute: None, read, pinned });
    room.store.commit(commit).await?;
    Ok(())
}

async fn marker(
    rows: &Rows<'_>,
    user_id: &OwnedUserId,
    event_id: OwnedEventId,
) -> Result<Option<ReadMarker>, ActionError> {
    let Some(arrival) = rows.arrival_of(&event_id).await? else { return Ok(None) };
    let Some(stored) = rows.get(&EVENTS, &arrival).await? else { return Ok(None) };
    let Some(place @ Place(..)) = stored.place else { return Ok(None) };
    let own = rows.own_messages(user_id, Some(place)).await?;
    Ok(Some(ReadMarker { event_id, place, messages: stored.messages, own }))
}

/// Everybody finds the room from here on.
async fn show(task: &Task<'_>, room: &Arc<Room>, imported: &Imported) -> Result<(), ActionError> {
    let Task { actions, wish, .. } = *task;
    let mut commit = Commit::new(Home::server());
    commit.delete(&IMPORTS, &room.id).delete(&PURGED, &room.id).delete_prefix(&LOCKED_NAMES, &room.id);
    let actor = if wish.is_command_line { Actor::CommandLine } else { Actor::Admin(&wish.by) };
    let details = vec![("outcome", "restored".to_owned()), ("events", imported.events.stored.to_string())];
    Act { actor, action: "room.import", target: room.id.to_string(), details }.record(actions, &mut commit);
    actions.store().commit(commit).await?;
    room.show();
    Ok(())
}

/// Removes what was built of a room that is not to be.
pub(super) async fn discard(actions: &Actions, room: &Arc<Room>) -> Result<(), ActionError> {
    names::release(actions, &room.id).await?;
    let is_there = room.view_even_hidden().await?.is_some();
    if is_there {
        purge::remove_rows(actions, room, &mut Pass::Remove(None)).await?;
        actions.rooms.remove(&room.id);
        actions.directory.remove(&room.id);
    }
    let mut commit = Commit::new(Home::server());
    commit.delete(&IMPORTS, &room.id);
    actions.store().commit(commit).await?;
    // Where the disk is full, this is tried again: the place is given back once.
    if !is_there {
        capacity::give_back_room(actions);
    }
    room.show();
    Ok(())
}

/// Removes what this job, or one that is over, has left of rooms that were being built: the disk may have been too full to remove it.
///
/// # Errors
/// When storage cannot be read or written.
pub(super) async fn discard_left(actions: &Actions, job_id: &str) -> Result<(), ActionError> {
    for (room_id, importing) in rows::all(actions.store(), &IMPORTS, &Home::server(), KeyRange::all()).await? {
        let is_left = importing.job_id == job_id || actions.jobs.progress(&importing.job_id).is_none();
        if importing.phase == Phase::Building && is_left {
            discard(actions, &actions.room(&room_id)).await?;
        }
    }
    Ok(())
}

/// Removes what a crash has left of rooms that were being built. Answers the jobs that go on, because they add to rooms that are here.
///
/// # Errors
/// When storage cannot be read or written.
pub(super) async fn clean(actions: &Actions) -> Result<Vec<String>, ActionError> {
    let mut going_on = Vec::new();
    for (room_id, importing) in rows::all(actions.store(), &IMPORTS, &Home::server(), KeyRange::all()).await? {
        match importing.phase {
            Phase::Building => discard(actions, &actions.room(&room_id)).await?,
            Phase::Merging => going_on.push(importing.job_id),
        }
    }
    Ok(going_on)
}

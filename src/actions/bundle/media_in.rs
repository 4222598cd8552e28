//! The media of a bundle: ours are kept where an event of one of our own people names them, those of other servers where any event does, and readable then to the
//! room.

use std::collections::HashSet;

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use parking_lot::Mutex;
use ruma::EventId;

use super::{
    import::MediaTold,
    reading::{self, Opened},
    spool,
};
use crate::{
    actions::{
        ActionError, Actions,
        lane::Room,
        media::{self, Address},
        remote_media::RemoteAddress,
        rows::Rows,
    },
    bundle::{MEDIA, manifest::BundledMedium},
    storage::{
        Commit, Direction, Effect, KeyRange, Limit,
        keyspaces::{BROUGHT_MEDIA, MEDIA_ROOMS, NAMED_MEDIA, REDACTIONS, ROOM_MEDIA},
        media::{self as stored_media, BroughtMedium, MediumInfo, Sha256},
    },
};

/// Media that are kept at the same time.
const MEDIA_AT_ONCE: usize = 4;

/// Keeps the media of a bundle that count in the room here.
///
/// # Errors
/// They cannot be kept.
pub(super) async fn take_in(actions: &Actions, opened: &Opened, room: &Room) -> Result<MediaTold, ActionError> {
    // One content may have many addresses.
    let kept = Mutex::default();
    let mut told = MediaTold::default();
    let mut note = |outcome: Option<bool>| match outcome {
        Some(true) => told.stored += 1,
        Some(false) => told.known += 1,
        None => {}
    };
    let mut running = FuturesUnordered::new();
    for medium in &opened.manifest.media {
        if running.len() == MEDIA_AT_ONCE
            && let Some(outcome) = running.next().await
        {
            note(outcome?);
        }
        running.push(take_in_one(actions, opened, room, medium, &kept));
    }
    while let Some(outcome) = running.next().await {
        note(outcome?);
    }
    Ok(told)
}

/// Contents that were kept, of those that several media may have.
type Kept = Mutex<HashSet<Sha256>>;

/// Whether the medium is new here; none: it does not count in the room.
async fn take_in_one(
    actions: &Actions,
    opened: &Opened,
    room: &Room,
    medium: &BundledMedium,
    kept: &Kept,
) -> Result<Option<bool>, ActionError> {
    let Some(sha256) = media::parse_hash(&medium.sha256) else { return Ok(None) };
    let Some((name, size)) = entry_of(opened, &medium.sha256) else { return Ok(None) };
    let entry = (name.as_str(), size);
    match address(actions, opened, medium) {
        Some(Address::Ours(ours)) if ours == sha256 => {}
        Some(Address::Elsewhere(address)) => {
            return of_another(actions, opened, room, (&address, medium, entry), &sha256, kept).await;
        }
        _ => return Ok(None),
    }
    let mut is_new = None;
    for event_id in &medium.events {
        let key = (sha256, event_id.clone());
        let rows = Rows::on_disk(&room.store, &room.home);
        if rows.get(&ROOM_MEDIA, &key).await?.is_some() {
            is_new = is_new.or(Some(false));
            continue;
        }
        if !counts(actions, room, event_id, &sha256).await? {
            continue;
        }
        if is_new != Some(true) {
            keep(actions, opened, entry, &sha256).await?;
            is_new = Some(true);
        }
        let info = info(medium, size);
        let mut commit = Commit::new(room.home.clone());
        commit.put(&ROOM_MEDIA, &key, &info);
        commit.effect(Effect::new(stored_media::home(&sha256)).put(&MEDIA_ROOMS, &room.id, &()));
        room.store.commit(commit).await?;
    }
    Ok(is_new)
}

/// Where the events of the room find a medium.
fn address(actions: &Actions, opened: &Opened, medium: &BundledMedium) -> Option<Address> {
    let BundledMedium { mxc, sha256, .. } = medium;
    let of_exporter = || format!("{}{}/{sha256}", media::SCHEME, opened.manifest.server_name);
    media::parse(actions, &mxc.clone().unwrap_or_else(of_exporter))
}

/// Keeps a medium of another server that an event of the room names. Whether it is new here; none: no event names it.
async fn of_another(
    actions: &Actions,
    opened: &Opened,
    room: &Room,
    (address, medium, entry): (&RemoteAddress, &BundledMedium, (&str, u64)),
    sha256: &Sha256,
    kept: &Kept,
) -> Result<Option<bool>, ActionError> {
    let key = address.hash();
    let (naming, limit) = (KeyRange::prefix(&key), Limit::rows(1));
    if room.store.scan(&NAMED_MEDIA, &room.home, naming, Direction::Up, limit).await?.rows.is_empty() {
        return Ok(None);
    }
    if room.store.get(&BROUGHT_MEDIA, &room.home, &key).await?.is_some() {
        return Ok(Some(false));
    }
    let is_kept = kept.lock().contains(sha256);
    if !is_kept {
        keep(actions, opened, entry, sha256).await?;
        kept.lock().insert(*sha256);
    }
    let exporter = &opened.manifest.server_name;
    // What a third server says of it counts only as long as its own server says nothing.
    let is_vouched = *exporter == address.server || *exporter == actions.server_name;
    let brought = BroughtMedium { info: info(medium, entry.1), sha256: *sha256, is_vouched };
    let mut commit = Commit::new(room.home.clone());
    commit.put(&BROUGHT_MEDIA, &key, &brought);
    room.store.commit(commit).await?;
    Ok(Some(true))
}

/// The entry of a medium, whether or not it bears the name of the medium as well.
fn entry_of(opened: &Opened, sha256: &str) -> Option<(String, u64)> {
    let start = format!("{MEDIA}{sha256}");
    let mut from = opened.manifest.entries.range(start.clone()..);
    let (name, facts) = from.next().filter(|(name, _)| name.starts_with(&start))?;
    Some((name.clone(), facts.size))
}

/// The event is one of our people, names the medium, and was not redacted.
async fn counts(actions: &Actions, room: &Room, event_id: &EventId, sha256: &Sha256) -> Result<bool, ActionError> {
    let Some(view) = room.view_even_hidden().await? else { return Ok(false) };
    let rows = Rows::on_disk(&room.store, &room.home);
    let Some(arrival) = rows.arrival_of(event_id).await? else { return Ok(false) };
    let (stored, event) = rows.event(&view.basis.version, arrival).await?;
    let is_redacted = rows.get(&REDACTIONS, &event_id.to_owned()).await?.is_some();
    let is_shown = stored.place.is_some() && !is_redacted && actions.is_local(event.sender());
    Ok(is_shown && media::named_in(actions, event.content().get()).contains(sha256))
}

async fn keep(
    actions: &Actions,
    opened: &Opened,
    (name, size): (&str, u64),
    sha256: &Sha256,
) -> Result<(), ActionError> {
    let word = actions.random_word(26);
    let kept = actions.media.store.keep(&word, reading::entry(opened, name), size).await.map_err(spool::not_kept)?;
    if kept.sha256 != *sha256 {
        return Err(ActionError::internal("a medium of the bundle is another one than when it was checked"));
    }
    Ok(())
}

fn info(medium: &BundledMedium, size: u64) -> MediumInfo {
    MediumInfo {
        name: medium.name.as_deref().and_then(|name| media::file_name(name).ok().flatten()),
        content_type: media::media_type(Some(&medium.content_type))
            .unwrap_or_else(|_| media::CONTENT_TYPE_DEFAULT.to_owned()),
        size,
    }
}

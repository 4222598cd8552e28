//! What peers look up here that is not part of a room: aliases, profiles, public rooms, spaces, media. Implements [`Directory`] of the crate `federation`.

use std::collections::BTreeMap;

use federation::{
    Refusal, StorageUnavailable,
    local::{AliasAnswer, Directory, Hierarchy, Medium, PublicRooms, PublicSearch, ThumbnailSize},
};
use ruma::{RoomAliasId, RoomId, ServerName, UserId};

use super::{
    AccountState, ActionError, Actions, accounts, aliases, avatars,
    handshakes::policy::knows,
    images,
    incoming::guests::{self, Met, failed, meet},
    media, rows, summary,
};
use crate::storage::{
    Direction, KeyRange, Limit,
    accounts::Account,
    keyspaces::{MEDIA_ROOMS, ROOM_MEDIA, SERVERS},
    media::{MediumInfo, Sha256},
};

mod published;
mod spaces;

/// Rooms that are looked at for a medium that a peer asks for.
const MEDIUM_ROOMS_MAX: usize = 1_000;
/// Types that no program takes for something to run.
const HARMLESS_TYPES: [&str; 12] = [
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "audio/mpeg",
    "audio/ogg",
    "audio/mp4",
    "audio/webm",
    "video/mp4",
    "video/ogg",
    "video/webm",
    "text/plain",
];

impl Directory for Actions {
    /// Only rooms that everybody may find have an alias for peers.
    async fn alias(&self, origin: &ServerName, alias: &RoomAliasId) -> Result<AliasAnswer, Refusal> {
        if alias.server_name() != &*self.server_name {
            return Err(Refusal::NotFound);
        }
        let room_id = aliases::resolve(self, alias.as_str()).await.map_err(failed)?.ok_or(Refusal::NotFound)?;
        let met = listed(self, origin, &room_id).await.map_err(|_hidden| Refusal::NotFound)?;
        let others = rows::all(&met.room.store, &SERVERS, &met.room.home, KeyRange::all()).await.map_err(failed)?;
        let others = others.into_iter().map(|(server, _)| server);
        let servers = std::iter::once(self.server_name.clone()).chain(others);
        Ok(AliasAnswer { room_id, servers: servers.take(federation::limits::SERVERS_IN_ANSWER_MAX).collect() })
    }

    async fn profile(&self, _origin: &ServerName, user_id: &UserId) -> Result<BTreeMap<String, String>, Refusal> {
        let account = person(self, user_id).await.map_err(failed)?.ok_or(Refusal::NotFound)?;
        let fields = [("displayname", account.display_name), ("avatar_url", account.avatar_url)];
        Ok(fields.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?))).collect())
    }

    async fn public_rooms(&self, origin: &ServerName, search: PublicSearch) -> Result<PublicRooms, Refusal> {
        published::page(self, origin, search).await
    }

    async fn hierarchy(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> Result<Hierarchy, Refusal> {
        spaces::hierarchy(self, origin, room_id, suggested_only).await
    }

    async fn has_user(&self, user_id: &UserId) -> Result<bool, StorageUnavailable> {
        let account = person(self, user_id).await.map_err(|error| StorageUnavailable(error.to_string()))?;
        Ok(account.is_some_and(|account| account.state == AccountState::Active))
    }

    async fn medium(&self, origin: &ServerName, media_id: &str) -> Result<Medium, Refusal> {
        let (sha256, info) = readable(self, origin, media_id).await?;
        let body = self.media.store.read(&sha256, 0..info.size).await;
        let body = body.map_err(|error| gone(media::lost(error)))?;
        Ok(Medium {
            content_type: harmless(&info.content_type),
            name: info.name,
            bytes: info.size,
            body: Box::pin(body),
        })
    }

    async fn thumbnail(&self, origin: &ServerName, media_id: &str, size: ThumbnailSize) -> Result<Medium, Refusal> {
        let (sha256, info) = readable(self, origin, media_id).await?;
        let largest = avatars::SIZES.into_iter().max().unwrap_or(size.width);
        let wanted = i64::from(size.width.max(size.height).clamp(1, largest));
        let pixels = avatars::pixels(wanted).map_err(failed)?;
        let made = avatars::thumbnail(self, &sha256, info.size, pixels).await.map_err(gone)?;
        let bytes = u64::try_from(made.len()).unwrap_or(u64::MAX);
        let content_type = images::thumbnail_type(&made).to_owned();
        Ok(Medium { content_type, name: None, bytes, body: Box::pin(futures_util::stream::iter([Ok(made)])) })
    }
}

fn gone(error: ActionError) -> Refusal {
    match error {
        ActionError::MediaNotFound => Refusal::NotFound,
        error => failed(error),
    }
}

/// A local account that was not given up.
async fn person(actions: &Actions, user_id: &UserId) -> Result<Option<Account>, ActionError> {
    if !actions.is_local(user_id) {
        return Ok(None);
    }
    Ok(accounts::get(actions, user_id).await?.filter(|account| account.state != AccountState::Deactivated))
}

/// A room that everybody may find, for a peer that it lets in.
async fn listed(actions: &Actions, origin: &ServerName, room_id: &RoomId) -> Result<Met, Refusal> {
    let met = meet(actions, origin, room_id).await?;
    let is_listed = summary::is_listed(&met.view.summary) && !met.view.summary.state.is_frozen();
    if is_listed { Ok(met) } else { Err(Refusal::NotFound) }
}

/// A medium of this server that the peer may read: somebody's picture, the picture of a room that everybody may find, or one that counts in a room of the
/// peer's people.
async fn readable(actions: &Actions, origin: &ServerName, media_id: &str) -> Result<(Sha256, MediumInfo), Refusal> {
    let sha256 = media::parse_hash(media_id).ok_or(Refusal::NotFound)?;
    if let Some(info) = media::of_a_person(actions, &sha256).await.map_err(failed)? {
        return Ok((sha256, info));
    }
    let home = crate::storage::media::home(&sha256);
    let limit = Limit::rows(MEDIUM_ROOMS_MAX);
    let page = actions.store().scan(&MEDIA_ROOMS, &home, KeyRange::all(), Direction::Up, limit).await;
    for (room_id, ()) in page.map_err(|error| failed(error.into()))?.rows {
        if guests::find(actions, &room_id).await.map_err(failed)?.is_none() {
            continue;
        }
        let Ok(met) = meet(actions, origin, &room_id).await else { continue };
        let counts = KeyRange::prefix(&sha256);
        let page = met.room.store.scan(&ROOM_MEDIA, &met.room.home, counts, Direction::Up, Limit::rows(1)).await;
        let Some((_, info)) = page.map_err(|error| failed(error.into()))?.rows.into_iter().next() else { continue };
        if knows(&met, origin).await? {
            return Ok((sha256, info));
        }
        let picture = media::picture_of(actions, &met.room, &met.view).await.map_err(failed)?;
        let is_picture = picture.is_some_and(|(picture, _)| picture == sha256);
        if is_picture && listed(actions, origin, &room_id).await.is_ok() {
            return Ok((sha256, info));
        }
    }
    Err(Refusal::NotFound)
}

/// The type, if it is one that nobody runs.
fn harmless(content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if HARMLESS_TYPES.contains(&essence.as_str()) { essence } else { media::CONTENT_TYPE_DEFAULT.to_owned() }
}

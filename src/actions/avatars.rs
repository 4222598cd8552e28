//! The picture of a room: set as an image, shown whole or smaller.

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use rules::{draft::Draft, permission::Act};
use ruma::CanonicalJsonObject;
use serde_json::json;

use super::{
    ActionError, Actions, Caller,
    creation::object,
    images::{self, Picture},
    media::{self, Address, Content, Found, NewMedium},
    remote_media,
    rooms::{self, RoomDetails},
};
use crate::storage::media::{MediumInfo, Sha256, hex};

/// Bytes of a picture of a room.
pub const AVATAR_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Pixels a side of the pictures that are made: the smallest that is not smaller than what is asked for.
pub const SIZES: [u32; 6] = [32, 64, 96, 128, 256, 512];
/// Characters of a temporary name.
const WORD_CHARACTERS: usize = 26;

/// Sets the picture of a room to this image, which becomes an upload of the caller. The image that stands already changes nothing.
///
/// # Errors
/// A level too low, a type without pictures; no image, a broken one, or one too large.
pub async fn set<E: std::fmt::Display>(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
) -> Result<RoomDetails, ActionError> {
    // Nobody makes this server decode an image for a room that he may not change.
    let opened = rooms::open(actions, caller, reference).await?;
    opened.view.standing(actions, caller, opened.member.as_ref()).may(Act::Avatar)?;
    let _under_way = actions.media.uploading.begin(&caller.user_id)?;
    let _place = actions.media.images.collecting()?;
    let bytes = collected(body).await?;
    let picture = actions.media.images.inspect(bytes.clone()).await?;
    let whole = stream::iter([Ok::<_, std::convert::Infallible>(bytes)]);
    let kind = (None, picture.content_type.to_owned());
    let medium = media::keep(actions, &caller.user_id, whole, AVATAR_BYTES_MAX, kind).await?;
    send(actions, caller, reference, content(&medium, picture)?).await
}

/// Takes the picture of a room away.
///
/// # Errors
/// A level too low.
pub async fn remove(actions: &Actions, caller: &Caller, reference: &str) -> Result<RoomDetails, ActionError> {
    send(actions, caller, reference, CanonicalJsonObject::new()).await
}

fn content(medium: &NewMedium, picture: Picture) -> Result<CanonicalJsonObject, ActionError> {
    object(json!({
        "url": medium.mxc,
        "info": { "w": picture.width, "h": picture.height, "mimetype": picture.content_type, "size": medium.info.size },
    }))
}

async fn send(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    content: CanonicalJsonObject,
) -> Result<RoomDetails, ActionError> {
    let mut entered = rooms::enter(actions, caller, reference).await?;
    entered.may(caller, Act::Avatar)?;
    let present = entered.writer.state_event("m.room.avatar", "").await?;
    let is_same = match &present {
        // A redacted picture is none, whatever its event once said.
        Some(event) => {
            let is_shown = entered.writer.summary()?.avatar_url.is_some() || content.is_empty();
            is_shown && event.content_as::<CanonicalJsonObject>().is_ok_and(|present| present == content)
        }
        None => content.is_empty(),
    };
    if !is_same {
        entered.writer.stage(&caller.user_id, Draft::state("m.room.avatar", "", content)).await?;
    }
    entered.finish(actions, caller).await
}

async fn collected<E: std::fmt::Display>(
    mut body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
) -> Result<Bytes, ActionError> {
    let mut whole = Vec::new();
    while let Some(some) = body.next().await {
        let some = some.map_err(|error| ActionError::invalid("body", format!("it ended early: {error}")))?;
        whole.extend_from_slice(&some);
        if u64::try_from(whole.len()).unwrap_or(u64::MAX) > AVATAR_BYTES_MAX {
            return Err(ActionError::ContentTooLarge(format!("at most {AVATAR_BYTES_MAX} bytes")));
        }
    }
    Ok(Bytes::from(whole))
}

/// The picture of a room, for whoever may see the room; with a size, one made of it that fits into a square of so many pixels a side.
///
/// # Errors
/// A size that is none; [`ActionError::MediaNotFound`] for a room without a picture, and for a smaller one of what is no image; what [`remote_media`] says of a
/// picture of another server.
pub async fn find(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    size: Option<i64>,
) -> Result<Found, ActionError> {
    let pixels = size.map(pixels).transpose()?;
    let opened = rooms::open(actions, caller, reference).await?;
    let url = opened.view.summary.avatar_url.as_deref();
    if let Some(Address::Elsewhere(address)) = url.and_then(|url| media::parse(actions, url)) {
        let found = match pixels {
            None => remote_media::whole(actions, caller, &address).await?,
            Some(pixels) => remote_media::thumbnail(actions, caller, &address, pixels, AVATAR_BYTES_MAX).await?,
        };
        return Ok(Found { is_fixed: false, ..found });
    }
    let picture = media::picture_of(actions, &opened.room, &opened.view).await?;
    let (sha256, info) = picture.ok_or(ActionError::MediaNotFound)?;
    let Some(pixels) = pixels else { return Ok(Found { is_fixed: false, ..Found::medium(sha256, info) }) };
    let made = thumbnail(actions, &sha256, info.size, pixels).await?;
    let info = MediumInfo {
        name: None,
        content_type: images::thumbnail_type(&made).to_owned(),
        size: u64::try_from(made.len()).map_err(ActionError::internal)?,
    };
    let tag = format!("{}-{pixels}", hex(&sha256));
    Ok(Found { info, tag, is_fixed: false, content: Content::Made(made) })
}

pub(super) fn pixels(size: i64) -> Result<u32, ActionError> {
    let fits = |pixels: &&u32| size >= 1 && i64::from(**pixels) >= size;
    SIZES.iter().find(fits).copied().ok_or_else(|| ActionError::invalid("size", "must be from 1 to 512 pixels"))
}

/// A smaller picture, made once.
pub(super) async fn thumbnail(
    actions: &Actions,
    sha256: &Sha256,
    bytes: u64,
    pixels: u32,
) -> Result<Bytes, ActionError> {
    let store = &actions.media.store;
    if let Some(made) = store.thumbnail(sha256, pixels).await? {
        return Ok(made);
    }
    if bytes > AVATAR_BYTES_MAX {
        return Err(ActionError::MediaNotFound);
    }
    let _gate = actions.gates.enter("thumbnail", &format!("{} {pixels}", hex(sha256))).await?;
    if let Some(made) = store.thumbnail(sha256, pixels).await? {
        return Ok(made);
    }
    let whole = store.read_whole(sha256).await.map_err(media::lost)?;
    let made = match actions.media.images.thumbnail(whole, pixels).await {
        Ok(made) => made,
        Err(ActionError::Busy) => return Err(ActionError::Busy),
        Err(ActionError::Internal(cause)) => return Err(ActionError::Internal(cause)),
        // Somebody named something else as the picture.
        Err(_no_image) => return Err(ActionError::MediaNotFound),
    };
    store.keep_thumbnail(&actions.random_word(WORD_CHARACTERS), (sha256, pixels), made.clone()).await?;
    Ok(made)
}

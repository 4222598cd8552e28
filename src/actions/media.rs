//! Media: taking them in, and who may read them. A medium is readable by those who uploaded it, by the members of rooms where an event of somebody who could
//! read it names it, and, as the picture of a person or of a listed room, by everybody who has an account.

use std::{collections::HashMap, io, ops::Range, str::FromStr as _, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use ruma::{OwnedEventId, OwnedServerName, OwnedUserId, RoomId, UserId};

use super::{
    ActionError, Actions, Caller, accounts,
    images::Images,
    lane::Room,
    members::membership,
    remote_media::{self, Bounds, RemoteAddress},
    rows,
    view::RoomView,
};
use crate::storage::{
    Commit, Direction, Home, KeyRange, Limit,
    accounts::AccountState,
    keyspaces::{MEDIA_PEOPLE, MEDIA_ROOMS, MEMBERS, ROOM_MEDIA, ROOMS, UPLOADS},
    media::{self, MediaError, MediaStore, MediumInfo, Sha256, Uploaded},
};

/// Characters of a medium's name.
pub const NAME_CHARACTERS_MAX: usize = 255;
/// Characters of a MIME type.
pub const CONTENT_TYPE_CHARACTERS_MAX: usize = 255;
/// What a medium is of which nobody says what it is.
pub const CONTENT_TYPE_DEFAULT: &str = "application/octet-stream";
/// References of one event that count.
pub const REFERENCES_MAX: usize = 20;
/// Characters of a temporary name.
const WORD_CHARACTERS: usize = 26;
/// Bytes of the address of a medium.
const ADDRESS_BYTES_MAX: usize = 512;
/// Bytes of the id of a medium of another server.
const MEDIA_ID_BYTES_MAX: usize = 255;
/// How the address of a medium begins.
pub(super) const SCHEME: &str = "mxc://";

/// What the actions need to keep media.
pub struct Media {
    /// Where their bytes are.
    pub store: MediaStore,
    /// Decodes pictures, a few at a time.
    pub images: Images,
    /// Bytes of one upload.
    pub upload_bytes_max: u64,
    /// Who uploads what at this moment.
    pub uploading: Uploading,
    /// How much of other servers' media is taken and kept.
    pub remote: Bounds,
}

/// Uploads of one person at the same time: a few slow ones must not keep everybody else out.
const UPLOADS_OF_ONE_MAX: usize = 4;
/// When somebody with too many of them may try again.
const UPLOADS_RETRY_AFTER: Duration = Duration::from_secs(5);

/// How many uploads each person has under way.
#[derive(Clone, Default)]
pub struct Uploading(Arc<Mutex<HashMap<OwnedUserId, usize>>>);

/// One upload under way; dropping it ends it.
pub(super) struct UnderWay(Uploading, OwnedUserId);

impl Uploading {
    /// Counts one more upload of this person.
    ///
    /// # Errors
    /// [`ActionError::RateLimited`] when there are too many.
    pub(super) fn begin(&self, user_id: &UserId) -> Result<UnderWay, ActionError> {
        let mut uploads = self.0.lock();
        let count = uploads.entry(user_id.to_owned()).or_default();
        if *count >= UPLOADS_OF_ONE_MAX {
            return Err(ActionError::RateLimited { retry_after: UPLOADS_RETRY_AFTER });
        }
        *count += 1;
        Ok(UnderWay(self.clone(), user_id.to_owned()))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut uploads = self.0.0.lock();
        let left = uploads.get(&self.1).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            uploads.remove(&self.1);
        } else {
            uploads.insert(self.1.clone(), left);
        }
    }
}

/// A medium as somebody may read it.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it is called, what it is, how large.
    pub info: MediumInfo,
    /// Names its content: the same tag, the same bytes.
    pub tag: String,
    /// The same address names the same bytes for ever.
    pub is_fixed: bool,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Medium(Sha256),
    /// A medium of another server, by the hash of its address.
    Cached(Sha256),
    Made(Bytes),
}

impl Found {
    pub(super) fn medium(sha256: Sha256, info: MediumInfo) -> Self {
        Self { info, tag: media::hex(&sha256), is_fixed: true, content: Content::Medium(sha256) }
    }
}

/// A medium that was uploaded.
#[derive(Clone, Debug)]
pub struct NewMedium {
    /// Its hash, as it is written.
    pub sha256: String,
    /// Its address in events.
    pub mxc: String,
    /// As the person has it.
    pub info: MediumInfo,
}

/// What the address of a medium names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A medium that this server may have.
    Ours(Sha256),
    /// A medium of another server.
    Elsewhere(RemoteAddress),
}

impl From<MediaError> for ActionError {
    fn from(error: MediaError) -> Self {
        match error {
            MediaError::TooLarge { bytes_max } => Self::ContentTooLarge(format!("at most {bytes_max} bytes")),
            MediaError::Body(problem) => Self::invalid("body", format!("it ended early: {problem}")),
            MediaError::Busy => Self::Busy,
            MediaError::Objects(_) | MediaError::Folder(_) => Self::internal(error),
        }
    }
}

/// Takes a medium in as it arrives; it is on disk when this returns. The same content is kept once, its name and type for each who uploads it.
///
/// # Errors
/// A name or type that is none, too many bytes, too many uploads at once.
pub async fn upload<E: std::fmt::Display>(
    actions: &Actions,
    caller: &Caller,
    body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
    name: Option<&str>,
    content_type: Option<&str>,
) -> Result<NewMedium, ActionError> {
    let (name, content_type) = (name.map(file_name).transpose()?.flatten(), media_type(content_type)?);
    let _under_way = actions.media.uploading.begin(&caller.user_id)?;
    keep(actions, &caller.user_id, body, actions.media.upload_bytes_max, (name, content_type)).await
}

pub(super) async fn keep<E: std::fmt::Display>(
    actions: &Actions,
    user_id: &UserId,
    body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
    bytes_max: u64,
    (name, content_type): (Option<String>, String),
) -> Result<NewMedium, ActionError> {
    let kept = actions.media.store.keep(&actions.random_word(WORD_CHARACTERS), body, bytes_max).await;
    let kept = kept.map_err(|error| match error {
        MediaError::Objects(_) | MediaError::Folder(_) => {
            tracing::warn!(%error, "A medium was not kept: {error}");
            ActionError::Busy
        }
        other => other.into(),
    })?;
    let info = MediumInfo { name, content_type, size: kept.size };
    let mut commit = Commit::new(Home::person(user_id));
    commit.put(&UPLOADS, &kept.sha256, &Uploaded { info: info.clone(), at: actions.now() });
    actions.store().commit(commit).await?;
    Ok(NewMedium { sha256: media::hex(&kept.sha256), mxc: address(actions, &kept.sha256), info })
}

/// A file name without a path; none: nothing is left of it.
pub(super) fn file_name(name: &str) -> Result<Option<String>, ActionError> {
    if name.chars().count() > NAME_CHARACTERS_MAX || name.chars().any(char::is_control) {
        let problem = format!("at most {NAME_CHARACTERS_MAX} characters, none of them a control character");
        return Err(ActionError::invalid("name", problem));
    }
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    Ok(Some(last.to_owned()).filter(|last| !matches!(last.as_str(), "" | "." | "..")))
}

/// A MIME type such as `image/png; q=1`, as it was sent.
pub(super) fn media_type(content_type: Option<&str>) -> Result<String, ActionError> {
    let Some(content_type) = content_type.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(CONTENT_TYPE_DEFAULT.to_owned());
    };
    let is_token = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let is_right = essence.split_once('/').is_some_and(|(kind, sort)| is_token(kind) && is_token(sort));
    let is_text = content_type.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if !is_right || !is_text || content_type.len() > CONTENT_TYPE_CHARACTERS_MAX {
        let problem =
            format!("must be a MIME type such as image/png, at most {CONTENT_TYPE_CHARACTERS_MAX} characters");
        return Err(ActionError::invalid("Content-Type", problem));
    }
    Ok(content_type.to_owned())
}

/// The address of a medium of this server.
pub fn address(actions: &Actions, sha256: &Sha256) -> String {
    format!("{SCHEME}{}/{}", actions.server_name, media::hex(sha256))
}

/// What an address names; none: it is no address of a medium.
pub fn parse(actions: &Actions, mxc: &str) -> Option<Address> {
    let (server, id) = mxc.strip_prefix(SCHEME).filter(|_| mxc.len() <= ADDRESS_BYTES_MAX)?.split_once('/')?;
    let server = OwnedServerName::from_str(server).ok()?;
    if server != actions.server_name {
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        let is_right = (1..=MEDIA_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(is_id);
        return is_right.then(|| Address::Elsewhere(RemoteAddress { server, media_id: id.to_owned() }));
    }
    parse_hash(id).map(Address::Ours)
}

/// 64 lower-case hexadecimal digits.
pub fn parse_hash(text: &str) -> Option<Sha256> {
    let bytes: Vec<u8> = text.as_bytes().chunks(2).map_while(byte_of).collect();
    let sha256 = Sha256::try_from(bytes).ok()?;
    (media::hex(&sha256) == text).then_some(sha256)
}

fn byte_of(pair: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()
}

/// The media of this server that a text names, each once, at most [`REFERENCES_MAX`].
pub fn named_in(actions: &Actions, text: &str) -> Vec<Sha256> {
    // Nearly no event names any: they are passed over without a look at who we are.
    if !text.contains(SCHEME) {
        return Vec::new();
    }
    let start = format!("{SCHEME}{}/", actions.server_name);
    let mut named = Vec::new();
    for (at, _) in text.match_indices(&start) {
        let rest = text.get(at + start.len()..).unwrap_or_default();
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(rest.len());
        if let Some(sha256) = rest.get(..end).and_then(parse_hash)
            && !named.contains(&sha256)
        {
            named.push(sha256);
            if named.len() == REFERENCES_MAX {
                break;
            }
        }
    }
    named
}

/// A medium by server and id, if the caller may read it. Media of other servers are fetched.
///
/// # Errors
/// [`ActionError::MediaNotFound`], alike for what is not there and what is not for the caller; what [`remote_media`] says of other servers.
pub async fn find(actions: &Actions, caller: &Caller, server: Option<&str>, id: &str) -> Result<Found, ActionError> {
    let server = server.unwrap_or(actions.server_name.as_str());
    let sha256 = match parse(actions, &format!("{SCHEME}{server}/{id}")).ok_or(ActionError::MediaNotFound)? {
        Address::Ours(sha256) => sha256,
        Address::Elsewhere(address) => return remote_media::find(actions, caller, &address).await,
    };
    let info = readable(actions, &caller.user_id, &sha256, None).await?.ok_or(ActionError::MediaNotFound)?;
    Ok(Found::medium(sha256, info))
}

/// The bytes of what was found, as they are asked for.
///
/// # Errors
/// [`ActionError::MediaNotFound`] when the disk has lost it.
pub async fn read(
    actions: &Actions,
    found: &Found,
    range: Range<u64>,
) -> Result<BoxStream<'static, io::Result<Bytes>>, ActionError> {
    match &found.content {
        Content::Medium(sha256) => Ok(actions.media.store.read(sha256, range).await.map_err(lost)?),
        Content::Cached(address) => match actions.media.store.read_cached(address, range).await {
            Ok(read) => Ok(read),
            Err(error) => Err(remote_media::lost(actions, address, &error).await),
        },
        Content::Made(bytes) => {
            let at = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            let part = bytes.slice(at(range.start)..at(range.end));
            Ok(futures_util::stream::iter([Ok(part)]).boxed())
        }
    }
}

/// What the rows promise, the disk should have.
pub(super) fn lost(error: MediaError) -> ActionError {
    if !error.is_missing() {
        return error.into();
    }
    tracing::error!(%error, "A medium that somebody may read is not in the media store: {error}");
    ActionError::MediaNotFound
}

/// A local person may read the medium: what they, or whoever showed it to them, call it. `here` is a room that is looked at first.
///
/// # Errors
/// When storage cannot be read.
pub async fn readable(
    actions: &Actions,
    user_id: &UserId,
    sha256: &Sha256,
    here: Option<&RoomId>,
) -> Result<Option<MediumInfo>, ActionError> {
    if let Some(uploaded) = actions.store().get(&UPLOADS, &Home::person(user_id), sha256).await? {
        return Ok(Some(uploaded.info));
    }
    if let Some(here) = here
        && let Some(info) = in_room(actions, user_id, sha256, here).await?
    {
        return Ok(Some(info));
    }
    let home = media::home(sha256);
    let mut rest = KeyRange::all();
    loop {
        let page = actions.store().scan(&MEDIA_ROOMS, &home, rest.clone(), Direction::Up, Limit::max()).await?;
        for (room_id, ()) in &page.rows {
            if let Some(info) = in_room(actions, user_id, sha256, room_id).await? {
                return Ok(Some(info));
            }
        }
        match page.rows.last() {
            Some((last, ())) if page.more => rest = rest.after(last),
            _ => return of_a_person(actions, sha256).await,
        }
    }
}

/// The medium counts in the room, and the person is a member, or it is the picture of a listed room.
async fn in_room(
    actions: &Actions,
    user_id: &UserId,
    sha256: &Sha256,
    room_id: &RoomId,
) -> Result<Option<MediumInfo>, ActionError> {
    let (store, home, room_id) = (actions.store(), Home::room(room_id), room_id.to_owned());
    let member = store.get(&MEMBERS, &home, &user_id.to_owned()).await?;
    if membership(member.as_ref()) == rules::permission::Membership::Join {
        let page = store.scan(&ROOM_MEDIA, &home, KeyRange::prefix(sha256), Direction::Up, Limit::rows(1)).await?;
        return Ok(page.rows.into_iter().next().map(|(_, info)| info));
    }
    if !store.get(&ROOMS, &Home::server(), &room_id).await?.is_some_and(|listing| listing.is_listed) {
        return Ok(None);
    }
    let room = actions.room(&room_id);
    let Some(view) = room.view().await? else { return Ok(None) };
    let picture = picture_of(actions, &room, &view).await?;
    Ok(picture.filter(|(picture, _)| picture == sha256).map(|(_, info)| info))
}

/// The present picture of a room, if it counts.
///
/// # Errors
/// When storage cannot be read.
pub(super) async fn picture_of(
    actions: &Actions,
    room: &Room,
    view: &RoomView,
) -> Result<Option<(Sha256, MediumInfo)>, ActionError> {
    let named = view.summary.avatar_url.as_deref().and_then(|url| parse(actions, url));
    let Some(Address::Ours(sha256)) = named else { return Ok(None) };
    let rows = rows::Rows::on_disk(&room.store, &room.home);
    let event = rows.state_event(&view.basis.version, view.tip.state, "m.room.avatar", "").await?;
    let Some(event) = event else { return Ok(None) };
    let key: (Sha256, OwnedEventId) = (sha256, event.event_id().clone());
    Ok(rows.get(&ROOM_MEDIA, &key).await?.map(|info| (sha256, info)))
}

/// The medium is somebody's picture.
pub(super) async fn of_a_person(actions: &Actions, sha256: &Sha256) -> Result<Option<MediumInfo>, ActionError> {
    let url = address(actions, sha256);
    for (user_id, info) in rows::all(actions.store(), &MEDIA_PEOPLE, &media::home(sha256), KeyRange::all()).await? {
        let account = accounts::get(actions, &user_id).await?;
        let account = account.filter(|account| account.state != AccountState::Deactivated);
        if account.is_some_and(|account| account.avatar_url.as_ref() == Some(&url)) {
            return Ok(Some(info));
        }
    }
    Ok(None)
}

/// The address is of a medium, and if that is ours, the person may read it. Answers what it is called then.
///
/// # Errors
/// [`ActionError::RequestInvalid`], naming the field.
pub async fn must_read(
    actions: &Actions,
    user_id: &UserId,
    field: &str,
    mxc: &str,
) -> Result<Option<(Sha256, MediumInfo)>, ActionError> {
    match parse(actions, mxc) {
        None => Err(ActionError::invalid(field, "must be the address of a medium, mxc://server/id")),
        Some(Address::Elsewhere(_)) => Ok(None),
        Some(Address::Ours(sha256)) => match readable(actions, user_id, &sha256, None).await? {
            Some(info) => Ok(Some((sha256, info))),
            None => Err(ActionError::invalid(field, "there is no such medium that you may read; upload it first")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        let cases = [
            ("a.png", Some("a.png")),
            ("../../etc/passwd", Some("passwd")),
            ("C:\\temp\\a b.txt", Some("a b.txt")),
            ("folder/", None),
            ("..", None),
            ("", None),
            ("毡房.png", Some("毡房.png")),
        ];
        for (given, kept) in cases {
            assert_eq!(file_name(given).unwrap().as_deref(), kept, "{given}");
        }
        assert!(file_name("a\nb").is_err());
        assert!(file_name(&"x".repeat(256)).is_err());
    }

    #[test]
    fn a_type_is_a_type_or_none() {
        assert_eq!(media_type(None).unwrap(), CONTENT_TYPE_DEFAULT);
        assert_eq!(media_type(Some("")).unwrap(), CONTENT_TYPE_DEFAULT);
        for right in ["image/png", "text/plain; charset=utf-8", "image/svg+xml", "application/vnd.ms-excel"] {
            assert_eq!(media_type(Some(right)).unwrap(), right);
        }
        for wrong in ["image", "/png", "image/", "image/png/x", "text/pl ain", "a/b\r\nc", "image/\u{e9}"] {
            assert!(media_type(Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_hash_is_64_lower_case_digits() {
        let hash = "ab".repeat(32);
        assert_eq!(parse_hash(&hash), Some([0xab; 32]));
        for wrong in
            [&hash[1..], &hash.to_uppercase(), &format!("{hash}0"), &hash.replacen("ab", "+b", 1), "", "\u{e9}"]
        {
            assert_eq!(parse_hash(wrong), None, "{wrong}");
        }
    }
}

//! Media of other servers: read by the members of rooms whose events name them, fetched when somebody asks, and kept on disk within a bound. Those that nobody
//! has read for the longest time go first.
//!
//! One medium is fetched once at a time, whoever waits for it, and the fetch goes on when they no longer do.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use rules::UnixMs;
use ruma::{OwnedServerName, OwnedUserId, UserId};
use sha2::{Digest as _, Sha256 as Hasher};
use tokio::sync::{Semaphore, watch};

mod naming;

use super::{
    ActionError, Actions, Caller, images,
    media::{self, CONTENT_TYPE_DEFAULT, Content, Found},
    peers::{Errcode, PeerError, RemoteFile},
    quotas,
};
use crate::storage::{
    Commit, Home, KeyRange,
    keyspaces::CACHED_MEDIA,
    media::{BroughtMedium, CachedMedium, Kept, MediaError, MediumInfo, Sha256, hex},
};

/// How long a reader waits for a medium. It comes all the same, for whoever asks next.
pub const READER_WAIT_MAX: Duration = Duration::from_secs(45);
/// Media that are fetched at the same time; the others wait for their turn.
const FETCHES_AT_ONCE: usize = 16;
/// Media that are fetched or wait for their turn. More: whoever asks is told that the server is busy.
const FETCHES_MAX: usize = 256;
/// Media that are kept, whatever their size.
const CACHED_MAX: usize = 50_000;
/// How long it is remembered that the other server does not have a medium, in milliseconds.
const REFUSAL_MS: u64 = 5 * 60 * 1_000;
/// Refusals that are remembered.
const REFUSALS_MAX: usize = 10_000;
/// Characters of a temporary name.
const WORD_CHARACTERS: usize = 26;

/// The bounds that the configuration sets.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of one medium of another server.
    pub medium_bytes_max: u64,
    /// Bytes of all of them that are kept.
    pub cache_bytes_max: u64,
}

/// The address of a medium of another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteAddress {
    /// The server that has it.
    pub server: OwnedServerName,
    /// Its id there: letters, digits, `_` and `-`.
    pub media_id: String,
}

impl RemoteAddress {
    /// Stands for the address wherever it is a key.
    pub fn hash(&self) -> Sha256 {
        self.hash_of("")
    }

    /// The same for a picture that is made from the medium.
    fn hash_of(&self, made: &str) -> Sha256 {
        let Self { server, media_id } = self;
        Hasher::digest(format!("{server}/{media_id}{made}")).into()
    }
}

/// What is fetched, and what is kept.
pub struct RemoteMedia {
    runs: Mutex<HashMap<Sha256, Run>>,
    turns: Semaphore,
    refusals: Mutex<HashMap<Sha256, UnixMs>>,
    cache: tokio::sync::Mutex<Option<Cache>>,
}

impl Default for RemoteMedia {
    fn default() -> Self {
        Self {
            runs: Mutex::default(),
            turns: Semaphore::new(FETCHES_AT_ONCE),
            refusals: Mutex::default(),
            cache: tokio::sync::Mutex::default(),
        }
    }
}

type Run = watch::Receiver<Option<Result<(), Failed>>>;

/// Why a medium did not come.
#[derive(Clone, Debug)]
enum Failed {
    Unreachable,
    NotFound,
    Refused(Errcode),
    TooLarge,
    Unreadable,
    Busy,
}

impl From<PeerError> for Failed {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::Unreachable => Self::Unreachable,
            PeerError::Refused(Errcode::NOT_FOUND) => Self::NotFound,
            PeerError::Refused(errcode) => Self::Refused(errcode),
            PeerError::Unreadable => Self::Unreadable,
        }
    }
}

impl From<Failed> for ActionError {
    fn from(failed: Failed) -> Self {
        let refused =
            |message: &str, errcode| Self::PeerRefused { message: format!("the other server {message}"), errcode };
        match failed {
            Failed::Unreachable => Self::unreachable(),
            Failed::NotFound => Self::MediaNotFound,
            Failed::Refused(errcode) => refused("does not give the medium", Some(errcode)),
            Failed::TooLarge => refused("has it, and it is larger than this server takes", None),
            Failed::Unreadable => Self::unusable(),
            Failed::Busy => Self::Busy,
        }
    }
}

/// What is kept, and when it was read last.
#[derive(Default)]
struct Cache {
    media: HashMap<Sha256, (u64, UnixMs)>,
    bytes: u64,
}

impl Cache {
    fn add(&mut self, key: Sha256, bytes: u64, at: UnixMs) {
        self.remove(&key);
        self.media.insert(key, (bytes, at));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn remove(&mut self, key: &Sha256) {
        if let Some((bytes, _)) = self.media.remove(key) {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    /// What has to go so that the rest is within the bounds: what was read least recently.
    fn surplus(&self, bytes_max: u64) -> Vec<Sha256> {
        let (mut bytes, mut count) = (self.bytes, self.media.len());
        if bytes <= bytes_max && count <= CACHED_MAX {
            return Vec::new();
        }
        let mut by_age: Vec<(UnixMs, Sha256, u64)> =
            self.media.iter().map(|(key, (bytes, at))| (*at, *key, *bytes)).collect();
        by_age.sort_unstable();
        let mut surplus = Vec::new();
        for (_, key, size) in by_age {
            if bytes <= bytes_max && count <= CACHED_MAX {
                break;
            }
            (bytes, count) = (bytes.saturating_sub(size), count.saturating_sub(1));
            surplus.push(key);
        }
        surplus
    }
}

/// A medium of another server, for a member of a room whose event names it.
///
/// # Errors
/// [`ActionError::MediaNotFound`], alike for what nobody named to the caller and what the other server does not have; [`ActionError::PeerUnreachable`];
/// [`ActionError::PeerRefused`]; [`ActionError::RateLimited`] when the caller has fetched too much.
pub(super) async fn find(actions: &Actions, caller: &Caller, address: &RemoteAddress) -> Result<Found, ActionError> {
    if naming::rooms(actions, caller, &address.hash(), 1).await?.is_empty() {
        return Err(ActionError::MediaNotFound);
    }
    whole(actions, caller, address).await
}

/// A medium of another server, for somebody who may read it.
///
/// # Errors
/// As [`find`].
pub(super) async fn whole(actions: &Actions, caller: &Caller, address: &RemoteAddress) -> Result<Found, ActionError> {
    let key = address.hash();
    if let Some(cached) = look_up(actions, &key).await? {
        return Ok(found(key, cached));
    }
    let brought = naming::brought(actions, caller, &key).await?;
    if let Some(medium) = brought.as_ref().filter(|medium| medium.is_vouched) {
        return Ok(Found::medium(medium.sha256, medium.info.clone()));
    }
    let fetched = match quotas::may_fetch(actions, caller, &address.server) {
        Ok(()) => fetch(actions, caller, address).await,
        Err(error) => Err(error),
    };
    match (fetched, brought) {
        (Ok(()), _) => {
            let cached = look_up(actions, &key).await?.ok_or(ActionError::Busy)?;
            Ok(found(key, cached))
        }
        // Its server says nothing: what the bundle says is all there is.
        (Err(_), Some(BroughtMedium { info, sha256, .. })) => Ok(Found::medium(sha256, info)),
        (Err(error), None) => Err(error),
    }
}

/// A small picture of an image of another server, for somebody who may read it.
///
/// # Errors
/// As [`find`]; [`ActionError::MediaNotFound`] for what is no image, or too large a one.
pub(super) async fn thumbnail(
    actions: &Actions,
    caller: &Caller,
    address: &RemoteAddress,
    pixels: u32,
    bytes_max: u64,
) -> Result<Found, ActionError> {
    let key = address.hash_of(&format!("?{pixels}"));
    if let Some(cached) = look_up(actions, &key).await? {
        return Ok(found(key, cached));
    }
    let image = whole(actions, caller, address).await?;
    if image.info.size > bytes_max {
        return Err(ActionError::MediaNotFound);
    }
    let _gate = actions.gates.enter("thumbnail", &hex(&key)).await?;
    let bytes = match &image.content {
        Content::Medium(sha256) => actions.media.store.read_whole(sha256).await.map_err(media::lost)?,
        Content::Cached(_) | Content::Made(_) => match actions.media.store.read_whole_cached(&address.hash()).await {
            Ok(bytes) => bytes,
            Err(error) => return Err(lost(actions, &address.hash(), &error).await),
        },
    };
    let made = match actions.media.images.thumbnail(bytes, pixels).await {
        Ok(made) => made,
        Err(error @ (ActionError::Busy | ActionError::NotWritten(_) | ActionError::Internal(_))) => return Err(error),
        // Somebody named something else as the picture.
        Err(_no_image) => return Err(ActionError::MediaNotFound),
    };
    let content_type = images::thumbnail_type(&made).to_owned();
    let size = u64::try_from(made.len()).unwrap_or(u64::MAX);
    let body = futures_util::stream::iter([Ok::<_, PeerError>(made)]);
    let word = actions.random_word(WORD_CHARACTERS);
    let kept = actions.media.store.keep_cached(&word, &key, body, size).await?;
    keep(actions, key, kept, MediumInfo { name: None, content_type, size }).await?;
    let cached = look_up(actions, &key).await?.ok_or(ActionError::Busy)?;
    Ok(found(key, cached))
}

fn found(key: Sha256, cached: CachedMedium) -> Found {
    let CachedMedium { info, sha256, .. } = cached;
    Found { info, tag: hex(&sha256), is_fixed: true, content: Content::Cached(key) }
}

/// It went between two looks to make room, or was lost from the disk: the next try fetches it again.
pub(super) async fn lost(actions: &Actions, key: &Sha256, error: &MediaError) -> ActionError {
    if !error.is_missing() {
        tracing::warn!(%error, "A medium of another server cannot be read: {error}");
        return ActionError::Busy;
    }
    if let Some(cache) = actions.remote_media.cache.lock().await.as_mut() {
        cache.remove(key);
    }
    let mut commit = Commit::new(Home::server());
    commit.delete(&CACHED_MEDIA, key);
    match actions.store.commit(commit).await {
        Ok(_) => ActionError::Busy,
        Err(error) => error.into(),
    }
}

/// What is kept of a medium. Whoever looks, reads it: it stays longer.
async fn look_up(actions: &Actions, key: &Sha256) -> Result<Option<CachedMedium>, ActionError> {
    let Some(cached) = actions.store.get(&CACHED_MEDIA, &Home::server(), key).await? else { return Ok(None) };
    let mut cache = actions.remote_media.cache.lock().await;
    let entry = opened(actions, &mut cache).await?.media.get_mut(key);
    let is_kept = entry.map(|(_, at)| *at = actions.now()).is_some();
    Ok(is_kept.then_some(cached))
}

/// The list of what is kept, read at its first use. What a crash left without a row goes.
async fn opened<'a>(actions: &Actions, cache: &'a mut Option<Cache>) -> Result<&'a mut Cache, ActionError> {
    if cache.is_none() {
        let rows = super::rows::all(&actions.store, &CACHED_MEDIA, &Home::server(), KeyRange::all()).await?;
        let mut read = Cache::default();
        rows.into_iter().for_each(|(key, cached)| read.add(key, cached.info.size, cached.at));
        let names: std::collections::HashSet<String> = read.media.keys().map(hex).collect();
        actions.media.store.sweep_cached(|name| names.contains(name)).await?;
        *cache = Some(read);
    }
    cache.as_mut().ok_or(ActionError::Busy)
}

/// Waits until the medium is kept, fetched for this reader or for another one.
async fn fetch(actions: &Actions, caller: &Caller, address: &RemoteAddress) -> Result<(), ActionError> {
    let key = address.hash();
    let now = actions.now();
    if actions.remote_media.refusals.lock().get(&key).is_some_and(|until| now < *until) {
        return Err(ActionError::MediaNotFound);
    }
    let mut run = {
        let mut runs = actions.remote_media.runs.lock();
        match runs.get(&key) {
            Some(run) => run.clone(),
            None if runs.len() >= FETCHES_MAX => return Err(ActionError::Busy),
            None => {
                let run = begin(actions, caller.user_id.clone(), address.clone());
                runs.insert(key, run.clone());
                run
            }
        }
    };
    let outcome = tokio::time::timeout(READER_WAIT_MAX, run.wait_for(Option::is_some)).await;
    match outcome {
        Ok(Ok(outcome)) => Ok(outcome.clone().unwrap_or(Err(Failed::Busy))?),
        Ok(Err(_stopping)) => Err(ActionError::Busy),
        Err(_late) => Err(ActionError::unreachable()),
    }
}

/// Removes the run when it ends, however it does.
struct Ending(Actions, Sha256);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.remote_media.runs.lock().remove(&self.1);
    }
}

fn begin(actions: &Actions, reader: OwnedUserId, address: RemoteAddress) -> Run {
    let (sender, run) = watch::channel(None);
    let actions = actions.clone();
    let ending = Ending(actions.clone(), address.hash());
    actions.clone().jobs.spawn(async move {
        let outcome = bring(&actions, &reader, &address).await;
        if let Err(failed) = &outcome {
            tracing::info!(peer = %address.server, "A medium of `{}` did not come: {failed:?}", address.server);
        }
        drop(ending);
        sender.send_replace(Some(outcome));
    });
    run
}

async fn bring(actions: &Actions, reader: &UserId, address: &RemoteAddress) -> Result<(), Failed> {
    let key = address.hash();
    let _turn = actions.remote_media.turns.acquire().await.map_err(|_closed| Failed::Busy)?;
    // What has no row is swept when the list is read, so that comes first.
    if let Err(error) = opened(actions, &mut *actions.remote_media.cache.lock().await).await {
        tracing::warn!(%error, "The list of other servers' media cannot be read: {error}");
        return Err(Failed::Busy);
    }
    let bytes_max = actions.media.remote.medium_bytes_max;
    let asked = actions.peers().medium(&address.server, &address.media_id, bytes_max).await;
    let RemoteFile { content_type, name, body } = asked.map_err(|error| {
        if error == PeerError::Refused(Errcode::NOT_FOUND) {
            note_refusal(actions, key);
        }
        Failed::from(error)
    })?;
    let failed: Arc<Mutex<Option<PeerError>>> = Arc::default();
    let word = actions.random_word(WORD_CHARACTERS);
    let body = noting(body, Arc::clone(&failed));
    let kept = actions.media.store.keep_cached(&word, &key, body, bytes_max).await;
    let kept = kept.map_err(|error| match error {
        MediaError::TooLarge { .. } => Failed::TooLarge,
        MediaError::Body(_) => failed.lock().map_or(Failed::Unreachable, |error| match error {
            PeerError::Unreadable => Failed::TooLarge,
            other => Failed::from(other),
        }),
        error @ (MediaError::Busy | MediaError::Objects(_) | MediaError::Folder(_)) => {
            tracing::warn!(%error, "A medium of another server was not kept: {error}");
            Failed::Busy
        }
    })?;
    quotas::has_fetched(actions, reader, kept.size);
    let content_type =
        media::media_type(content_type.as_deref()).unwrap_or_else(|_none| CONTENT_TYPE_DEFAULT.to_owned());
    let name = name.and_then(|name| media::file_name(&name).ok().flatten());
    let info = MediumInfo { name, content_type, size: kept.size };
    keep(actions, key, kept, info).await.map_err(|error| {
        tracing::warn!(%error, "A medium of another server was not kept: {error}");
        Failed::Busy
    })
}

/// The body, remembering why it broke off.
fn noting(
    body: impl Stream<Item = Result<Bytes, PeerError>> + Send + Unpin,
    failed: Arc<Mutex<Option<PeerError>>>,
) -> impl Stream<Item = Result<Bytes, PeerError>> + Send + Unpin {
    body.map(move |some| some.inspect_err(|error| *failed.lock() = Some(*error)))
}

fn note_refusal(actions: &Actions, key: Sha256) {
    let now = actions.now();
    let mut refusals = actions.remote_media.refusals.lock();
    if refusals.len() >= REFUSALS_MAX {
        refusals.retain(|_, until| now < *until);
    }
    if refusals.len() < REFUSALS_MAX {
        refusals.insert(key, UnixMs(now.0.saturating_add(REFUSAL_MS)));
    }
}

/// Writes down what is kept now, and makes room for it. The row comes before others can read it, and goes before the bytes do.
async fn keep(actions: &Actions, key: Sha256, kept: Kept, info: MediumInfo) -> Result<(), ActionError> {
    let now = actions.now();
    let mut cache = actions.remote_media.cache.lock().await;
    let cache = opened(actions, &mut cache).await?;
    cache.add(key, kept.size, now);
    let mut surplus = cache.surplus(actions.media.remote.cache_bytes_max);
    // What has just come is read at least once.
    surplus.retain(|old| *old != key);
    let mut commit = Commit::new(Home::server());
    commit.put(&CACHED_MEDIA, &key, &CachedMedium { info, sha256: kept.sha256, at: now });
    actions.store.commit(commit).await?;
    for some in surplus.chunks(500) {
        let mut commit = Commit::new(Home::server());
        for old in some {
            commit.delete(&CACHED_MEDIA, old);
        }
        actions.store.commit(commit).await?;
        for old in some {
            cache.remove(old);
            actions.media.store.forget_cached(old).await?;
        }
    }
    Ok(())
}

/// The media of other servers that a text names, each once, at most `names_max`.
pub(super) fn named_in(actions: &Actions, text: &str, names_max: usize) -> Vec<Sha256> {
    addresses_in(actions, text, names_max).iter().map(RemoteAddress::hash).collect()
}

/// The same, by their addresses.
pub(super) fn addresses_in(actions: &Actions, text: &str, names_max: usize) -> Vec<RemoteAddress> {
    let mut named = Vec::new();
    for (at, scheme) in text.match_indices(media::SCHEME) {
        let rest = text.get(at + scheme.len()..).unwrap_or_default();
        let Some((server, rest)) = rest.split_once('/').filter(|(server, _)| server.len() <= 255) else { continue };
        let is_id = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
        let length = rest.bytes().take_while(|byte| is_id(byte)).count();
        let Some(media_id) = rest.get(..length).filter(|id| (1..=255).contains(&id.len())) else { continue };
        let Ok(server) = OwnedServerName::try_from(server) else { continue };
        let address = RemoteAddress { server, media_id: media_id.to_owned() };
        if address.server != actions.server_name && !named.contains(&address) {
            named.push(address);
            if named.len() >= names_max {
                break;
            }
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_least_recently_goes_first_and_no_more_than_has_to() {
        let mut cache = Cache::default();
        for (number, bytes) in [(1_u8, 10), (2, 20), (3, 30)] {
            cache.add([number; 32], bytes, UnixMs(number.into()));
        }
        assert_eq!(cache.surplus(60), Vec::<Sha256>::new());
        assert_eq!(cache.surplus(59), [[1; 32]]);
        assert_eq!(cache.surplus(30), [[1; 32], [2; 32]]);
        cache.add([1; 32], 40, UnixMs(4));
        assert_eq!((cache.bytes, cache.surplus(70)), (90, vec![[2; 32]]));
        cache.remove(&[3; 32]);
        assert_eq!(cache.bytes, 60);
    }
}

//! Uploads on their way in: files in the tenant's spool, of which nothing is kept that was not looked through.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::{fs, io::AsyncWriteExt as _};

use crate::{
    actions::{ActionError, Actions, Caller},
    storage::media::MediaError,
};

/// Characters of the name of a file.
const NAME_CHARACTERS: usize = 26;

/// An upload that is there as a whole. It is removed when this is dropped, unless a job has taken it over.
pub struct Spooled {
    pub(super) path: PathBuf,
    pub(super) name: String,
    is_kept: bool,
}

impl Spooled {
    pub(super) fn keep(mut self) -> String {
        self.is_kept = true;
        std::mem::take(&mut self.name)
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if !self.is_kept {
            // What stays is removed at the next start.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// Where an upload lies.
pub(super) fn path(actions: &Actions, name: &str) -> PathBuf {
    actions.spool.join(name)
}

/// Takes an upload in as it arrives, holding a piece of it in memory.
///
/// # Errors
/// It is too large, broke off, or there is no room for it; too many uploads of the caller at once.
pub async fn spool<E: std::fmt::Display>(
    actions: &Actions,
    caller: &Caller,
    mut body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
) -> Result<Spooled, ActionError> {
    let _under_way = actions.media.uploading.begin(&caller.user_id)?;
    fs::create_dir_all(&actions.spool).await.map_err(not_written)?;
    let name = format!("{}.zip", actions.random_word(NAME_CHARACTERS));
    let spooled = Spooled { path: path(actions, &name), name, is_kept: false };
    let mut file = fs::File::create_new(&spooled.path).await.map_err(not_written)?;
    let (mut bytes, bytes_max) = (0_u64, actions.bundle_limits.bytes_max);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| ActionError::invalid("bundle", format!("it ended early: {error}")))?;
        bytes = bytes.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if bytes > bytes_max {
            return Err(ActionError::ContentTooLarge(format!("at most {bytes_max} bytes")));
        }
        file.write_all(&piece).await.map_err(not_written)?;
    }
    // The last write may still be under way, and only this tells what became of it.
    file.flush().await.map_err(not_written)?;
    file.sync_all().await.map_err(not_written)?;
    // Its name too is on disk before anybody is told that it is here.
    let folder = fs::File::open(&actions.spool).await.map_err(not_written)?;
    folder.sync_all().await.map_err(not_written)?;
    Ok(spooled)
}

/// A file that lies on the same disk, under another name; none: it lies elsewhere.
pub(super) async fn link(actions: &Actions, file: &Path) -> Option<Spooled> {
    fs::create_dir_all(&actions.spool).await.ok()?;
    let name = format!("{}.zip", actions.random_word(NAME_CHARACTERS));
    let spooled = path(actions, &name);
    fs::hard_link(file, &spooled).await.ok()?;
    Some(Spooled { path: spooled, name, is_kept: false })
}

fn not_written(error: io::Error) -> ActionError {
    if is_full(&error) {
        return no_room(ActionError::NotWritten(error.to_string()));
    }
    ActionError::internal(format!("the spool cannot be written: {error}"))
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// A disk that takes nothing more refuses the bundle: waiting a moment does not help.
pub(in crate::actions) fn no_room(error: ActionError) -> ActionError {
    match error {
        ActionError::NotWritten(reason) => {
            tracing::warn!("There is no room for a bundle: {reason}");
            let refused = "there is no room for it on the disk of this server; nothing of it was kept";
            ActionError::ImportRefused(refused.to_owned())
        }
        other => other,
    }
}

/// A medium of a bundle was not kept.
pub(super) fn not_kept(error: MediaError) -> ActionError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if cause.downcast_ref::<io::Error>().is_some_and(is_full) {
            return ActionError::NotWritten(error.to_string());
        }
        source = cause.source();
    }
    error.into()
}

/// Removes an upload.
pub(super) async fn remove(actions: &Actions, name: &str) {
    if let Err(error) = fs::remove_file(path(actions, name)).await
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "An upload stays in the spool until the next start: {error}");
    }
}

/// Removes what a crash left over, all but these.
///
/// # Errors
/// When the folder cannot be read.
pub(super) async fn sweep(actions: &Actions, kept: &[String]) -> Result<(), ActionError> {
    let mut folder = match fs::read_dir(&actions.spool).await {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ActionError::internal(error)),
    };
    while let Some(file) = folder.next_entry().await.map_err(ActionError::internal)? {
        let name = file.file_name().to_string_lossy().into_owned();
        if !kept.contains(&name) {
            remove(actions, &name).await;
        }
    }
    Ok(())
}

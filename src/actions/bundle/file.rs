//! Bundles as files of this machine, for the command line.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use futures_util::StreamExt as _;
use serde_json::json;
use tokio::{fs, io::AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use super::{
    Content, Whose,
    export::export_as_admin,
    spool::{self, Spooled},
};
use crate::{
    actions::{ActionError, Actions, Caller, audit::Actor, jobs, rooms},
    jobs::Progress,
    storage::admin::{ExportWish, JobKind},
};

/// Begins to write a room into a file, as a job. Answers its id.
///
/// # Errors
/// An unknown room; a file that is there already.
pub async fn export_to_file(
    actions: &Actions,
    reference: &str,
    content: Content,
    out: PathBuf,
) -> Result<String, ActionError> {
    let room = rooms::locate(actions, reference).await?;
    if room.view().await?.is_none() {
        return Err(ActionError::RoomNotFound);
    }
    if out.exists() {
        return Err(ActionError::invalid("out", "the file is there already"));
    }
    let out = out.to_str().ok_or_else(|| ActionError::invalid("out", "the name of the file is not UTF-8"))?;
    let wish = ExportWish {
        room_id: room.id.clone(),
        out: out.to_owned(),
        media: content.media,
        personal: content.personal != Whose::Nobodys,
    };
    let by = actions.parse_participant("by", "command-line")?;
    let (id, job) = jobs::add(actions, JobKind::Export(Box::new(wish)), &by).await?;
    jobs::launch(actions, id.clone(), job);
    Ok(id)
}

/// The job: writes the file from its beginning, and gives it its name when it is whole.
///
/// # Errors
/// The room is gone; the file cannot be written.
pub async fn write_file(actions: &Actions, job_id: &str, wish: &ExportWish) -> Result<String, ActionError> {
    let ExportWish { room_id, out, media, personal } = wish;
    let personal = if *personal { Whose::Everybodys } else { Whose::Nobodys };
    let admin = Caller::local(&actions.parse_participant("by", "command-line")?, true);
    let content = Content { media: *media, personal };
    let export = export_as_admin(actions, &admin, Actor::CommandLine, room_id.as_str(), content).await?;
    let (total, written) = (export.events, Arc::clone(&export.written));
    let not_written =
        |error: std::io::Error| ActionError::invalid("out", format!("`{out}` cannot be written: {error}"));
    let part = PathBuf::from(format!("{out}.part"));
    let mut file = fs::File::create(&part).await.map_err(not_written)?;
    let mut bytes = 0_u64;
    let mut pieces = Box::pin(export.into_stream());
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(ActionError::internal)?;
        bytes = bytes.saturating_add(u64::try_from(piece.len()).unwrap_or_default());
        file.write_all(&piece).await.map_err(not_written)?;
        actions.jobs.report(job_id, Progress { done: written.load(Ordering::Relaxed), total: Some(total) });
    }
    // The last write may still be under way, and only this tells what became of it.
    file.flush().await.map_err(not_written)?;
    file.sync_all().await.map_err(not_written)?;
    fs::rename(&part, out).await.map_err(not_written)?;
    Ok(json!({ "room_id": room_id, "events": written.load(Ordering::Relaxed), "bytes": bytes }).to_string())
}

/// Takes a file of this machine in as if it had been uploaded.
///
/// # Errors
/// It cannot be read, or is too large.
pub async fn spool_file(actions: &Actions, caller: &Caller, file: &Path) -> Result<Spooled, ActionError> {
    let unreadable =
        |error: std::io::Error| ActionError::invalid("file", format!("`{}` cannot be read: {error}", file.display()));
    // On the same disk this takes no time and no room.
    if let Some(spooled) = spool::link(actions, file).await {
        return Ok(spooled);
    }
    let content = ReaderStream::new(fs::File::open(file).await.map_err(unreadable)?);
    spool::spool(actions, caller, content).await
}

//! Reading a bundle beside the threads that serve: checking it, its events in batches, its entries as streams. Whoever drops what is read ends the reading.

use std::{
    io::{self, Read as _},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures_util::Stream;
use rules::keys::KeyRing;
use ruma::{EventId, OwnedEventId};
use tokio::sync::mpsc;

use super::keys::Believed;
use crate::{
    actions::{
        ActionError, Actions,
        incoming::judging::{self, Checked, First, Purpose},
    },
    bundle::{
        self, Archive, Fault, Local, Manifest, Verified,
        events::{self, Around, Bundled},
        manifest::SignedManifest,
        verify::Progress,
    },
    jobs,
};

/// Events of a batch, and their bytes: what one commit takes.
const BATCH_EVENTS: usize = 50;
const BATCH_BYTES: usize = 384 * 1024;
/// Batches that wait.
const BATCHES_MAX: usize = 4;
/// Bytes of a piece of an entry.
const PIECE_BYTES: usize = 64 * 1024;

/// A bundle that was opened, with the keys that count for it.
#[derive(Clone)]
pub(super) struct Opened {
    pub(super) archive: Archive,
    pub(super) manifest: Arc<Manifest>,
    pub(super) keys: Arc<KeyRing>,
    /// Those among them that an admin believes.
    pub(super) believed: Arc<Believed>,
}

/// An event whose signatures and hashes hold.
pub(super) struct Ready {
    pub(super) event_id: OwnedEventId,
    pub(super) around: Around,
    pub(super) checked: Box<Checked>,
}

/// Opens a file and reads its manifest. Nothing is proven yet.
pub(super) async fn open(actions: &Actions, path: PathBuf) -> Result<(Archive, SignedManifest), ActionError> {
    let limits = actions.bundle_limits;
    aside(move || {
        let archive = Archive::open(&path, limits)?;
        let signed = archive.manifest()?;
        Ok((archive, signed))
    })
    .await
}

async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, ActionError> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(ActionError::internal)??)
}

/// Says that nobody waits any more, when it is dropped.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Checks the whole bundle.
pub(super) async fn verify(actions: &Actions, job_id: &str, opened: &Opened) -> Result<Verified, ActionError> {
    let stop = Stop(Arc::default());
    let (is_stopped, opened, actions, job_id) =
        (Arc::clone(&stop.0), opened.clone(), actions.clone(), job_id.to_owned());
    let verified = aside(move || {
        let mut done = jobs::Progress { done: 0, total: Some(opened.manifest.counts.events.saturating_mul(2)) };
        bundle::verify(&opened.archive, &opened.keys, &actions.spool, &mut |progress| {
            if is_stopped.load(Ordering::Relaxed) {
                return Err(Fault::new("the check was broken off"));
            }
            if let Progress::Checked(count, _) = progress {
                done.done = done.done.saturating_add(count);
                actions.jobs.report(&job_id, done);
            }
            Ok(())
        })
    });
    let verified = verified.await;
    drop(stop);
    verified
}

/// The file's own settings.
pub(super) async fn local(opened: &Opened) -> Result<Local, ActionError> {
    let opened = opened.clone();
    aside(move || opened.archive.local(&opened.manifest)).await
}

/// Ids of events, each with those of the events before it.
pub(super) type Named = Vec<(OwnedEventId, Vec<OwnedEventId>)>;

/// The ids of all events, in the order of the file.
pub(super) fn named(opened: &Opened) -> mpsc::Receiver<Result<Named, Fault>> {
    let (to, batches) = mpsc::channel(BATCHES_MAX);
    let opened = opened.clone();
    tokio::task::spawn_blocking(move || {
        let mut batch = Vec::new();
        let walked = events::walk(&opened.archive, &opened.manifest, |event, _| {
            batch.push((event.event_id, event.prev_events));
            if batch.len() < BATCH_EVENTS {
                return Ok(());
            }
            to.blocking_send(Ok(std::mem::take(&mut batch))).map_err(gone)
        });
        to.blocking_send(walked.map(|()| batch)).ok();
    });
    batches
}

/// The events of a bundle that was verified, in the order of the file, without those that are passed over.
pub(super) fn ready(
    opened: &Opened,
    passed_over: impl Fn(&EventId) -> bool + Send + Sync + 'static,
    purpose: impl Fn(&EventId) -> Purpose + Send + Sync + 'static,
) -> mpsc::Receiver<Result<Vec<Ready>, Fault>> {
    let (to, batches) = mpsc::channel(BATCHES_MAX);
    let opened = opened.clone();
    tokio::task::spawn_blocking(move || {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let walked = events::version(&opened.manifest).and_then(|version| {
            let check = |event: &Bundled, pdu| {
                let is_wanted = !passed_over(&event.event_id);
                Ok(is_wanted.then(|| judging::verified_before(version, pdu, purpose(&event.event_id))))
            };
            events::walk_working(&opened.archive, &opened.manifest, check, |event, around, first| {
                let Some(mut first) = first else { return Ok(()) };
                if around == Around::Unknown
                    && let Some(pdu) = judging::shape(&event.raw, &version, Purpose::AuthChain)
                {
                    first = judging::verified_before(version, pdu, Purpose::AuthChain);
                }
                bytes += event.raw.0.get().len();
                let checked = match first {
                    First::Checked(checked) => checked,
                    First::Dropped(problem) | First::Held(problem) => return Err(event.fault(problem)),
                };
                batch.push(Ready { event_id: event.event_id, around, checked });
                if batch.len() < BATCH_EVENTS && bytes < BATCH_BYTES {
                    return Ok(());
                }
                bytes = 0;
                to.blocking_send(Ok(std::mem::take(&mut batch))).map_err(gone)
            })
        });
        to.blocking_send(walked.map(|()| batch)).ok();
    });
    batches
}

fn gone<T>(_closed: mpsc::error::SendError<T>) -> Fault {
    Fault::new("nobody reads it any more")
}

/// The bytes of an entry, as they are asked for.
pub(super) fn entry(opened: &Opened, name: &str) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + use<> {
    let (to, pieces) = mpsc::channel(BATCHES_MAX);
    let (opened, name) = (opened.clone(), name.to_owned());
    tokio::task::spawn_blocking(move || {
        let mut archive = opened.archive.clone();
        let mut read = || -> io::Result<()> {
            let facts = opened.manifest.entries.get(&name).ok_or(io::ErrorKind::NotFound)?;
            let mut entry = archive.checked(&name, facts).map_err(io::Error::other)?;
            loop {
                let mut piece = vec![0; PIECE_BYTES];
                let count = entry.read(&mut piece)?;
                if count == 0 {
                    return Ok(());
                }
                piece.truncate(count);
                if to.blocking_send(Ok(piece.into())).is_err() {
                    return Ok(());
                }
            }
        };
        if let Err(error) = read() {
            to.blocking_send(Err(error)).ok();
        }
    });
    Box::pin(futures_util::stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((piece, pieces))
    }))
}

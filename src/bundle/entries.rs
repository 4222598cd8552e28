//! Inflating every entry once, on all processors, to compare it with what the manifest says; whoever wants to takes a look at the lines of events on the way.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    num::NonZeroUsize,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use super::{Archive, EVENT_LINE_BYTES_MAX, EVENTS, Fault, MEDIA, Manifest, manifest::EntryFacts};

/// Bytes that are inflated before it is said how far it is.
const BYTES_AT_A_TIME: usize = 64 * 1024;
/// Pieces that wait to be taken, for each processor.
const PIECES_MAX: usize = 4;

/// Inflates every entry and compares its size and hash with what the manifest says. What `look` makes of the lines of events, whose form nobody has checked yet, is
/// handed to `take` in no order, with the number of bytes that were inflated for it.
///
/// # Errors
/// The first entry that is another one; what `take` says, which breaks it off.
pub fn check<T: Send>(
    archive: &Archive,
    manifest: &Manifest,
    look: impl Fn(&[u8], &mut Vec<T>) + Sync,
    mut take: impl FnMut(u64, Vec<T>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let entries: Vec<(&String, &EntryFacts)> = manifest.entries.iter().collect();
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let (next, stopped) = (AtomicUsize::new(0), usize::MAX / 2);
    let (to_here, pieces) = sync_channel(workers.saturating_mul(PIECES_MAX));
    let mut fault: Option<(usize, Fault)> = None;
    thread::scope(|scope| {
        for to_here in std::iter::repeat_n(to_here, workers) {
            let (entries, next, look) = (&entries, &next, &look);
            scope.spawn(move || {
                super::stand_back();
                let mut archive = archive.clone();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((name, facts)) = entries.get(at) else { return };
                    if let Err(fault) = inflate(&mut archive, (name, facts), look, &to_here) {
                        // Those before it are in somebody's hands already; those behind it no longer matter.
                        next.store(stopped, Ordering::Relaxed);
                        to_here.send(Err((at, fault))).ok();
                        return;
                    }
                }
            });
        }
        for piece in pieces {
            match piece {
                Ok((bytes, noted)) => take(bytes, noted)?,
                Err((at, problem)) if fault.as_ref().is_none_or(|(first, _)| at < *first) => {
                    fault = Some((at, problem))
                }
                Err(_later) => {}
            }
        }
        Ok(())
    })?;
    fault.map_or(Ok(()), |(_, fault)| Err(fault))
}

/// Bytes that were inflated, and what was made of them; or which entry is wrong.
type Piece<T> = Result<(u64, Vec<T>), (usize, Fault)>;

fn inflate<T>(
    archive: &mut Archive,
    (name, facts): (&str, &EntryFacts),
    look: &impl Fn(&[u8], &mut Vec<T>),
    to: &SyncSender<Piece<T>>,
) -> Result<(), Fault> {
    let hand_over = |bytes: usize, noted: &mut Vec<T>| {
        let piece = (u64::try_from(bytes).unwrap_or_default(), std::mem::take(noted));
        to.send(Ok(piece)).map_err(|_closed| Fault::new("nobody reads it any more"))
    };
    let wrong = |error: std::io::Error| Fault::of(name, error.to_string());
    let mut reader = BufReader::with_capacity(BYTES_AT_A_TIME, archive.checked(name, facts)?);
    let (mut noted, mut bytes) = (Vec::new(), 0);
    if name.starts_with(EVENTS) {
        let line_bytes_max = u64::try_from(EVENT_LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let mut line = Vec::new();
        while (&mut reader).take(line_bytes_max).read_until(b'\n', &mut line).map_err(wrong)? > 0 {
            bytes += line.len();
            look(&line, &mut noted);
            line.clear();
            if bytes >= BYTES_AT_A_TIME {
                hand_over(std::mem::take(&mut bytes), &mut noted)?;
            }
        }
        return hand_over(bytes, &mut noted);
    }
    loop {
        let count = reader.fill_buf().map_err(wrong)?.len();
        if count == 0 {
            break;
        }
        reader.consume(count);
        hand_over(count, &mut noted)?;
    }
    if let Some(sha256) = name.strip_prefix(MEDIA).and_then(|rest| rest.split('/').next())
        && sha256 != facts.sha256
    {
        return Err(Fault::of(name, format!("its content has the hash {}", facts.sha256)));
    }
    Ok(())
}

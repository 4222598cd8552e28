//! The media of a room: ours that count in it, and those of other servers that its events name, as far as this server holds them.

use std::{collections::BTreeSet, io};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use ruma::EventId;

use super::{Making, Stopped};
use crate::{
    actions::{
        ActionError, media,
        remote_media::{self, RemoteAddress},
        rows::Rows,
    },
    bundle::{MEDIA, manifest::BundledMedium, write::Kept},
    storage::{
        Direction, Home, KeyRange, Limit,
        keyspaces::{BROUGHT_MEDIA, CACHED_MEDIA, NAMED_MEDIA, ROOM_MEDIA},
        media::{MediaError, MediumInfo, Sha256, hex},
    },
};

/// Events of a medium that are named.
const MEDIUM_EVENTS_MAX: usize = 100;
/// Rows that are read at a time.
const ROWS_AT_A_TIME: usize = 500;

/// The bytes of a medium; an error that says that they are missing: they went meanwhile.
type Content = Result<BoxStream<'static, io::Result<Bytes>>, MediaError>;

/// A medium of another server that is here.
struct Held {
    info: MediumInfo,
    sha256: Sha256,
    is_cached: bool,
}

impl Making {
    /// Writes each once, and answers what they are.
    pub(super) async fn media(&mut self, rows: &Rows<'_>) -> Result<Vec<BundledMedium>, Stopped> {
        let (mut media, mut written) = (Vec::new(), BTreeSet::new());
        self.ours(rows, &mut media, &mut written).await?;
        self.of_others(rows, &mut media, &mut written).await?;
        Ok(media)
    }

    async fn ours(
        &mut self,
        rows: &Rows<'_>,
        media: &mut Vec<BundledMedium>,
        written: &mut BTreeSet<Sha256>,
    ) -> Result<(), Stopped> {
        let (mut rest, mut last) = (KeyRange::all(), None);
        loop {
            let limit = Limit::rows(ROWS_AT_A_TIME);
            let page = rows.store.scan(&ROOM_MEDIA, rows.home, rest.clone(), Direction::Up, limit).await?;
            let end = page.rows.last().map(|(key, _)| key.clone());
            for ((sha256, event_id), info) in page.rows {
                if last != Some(sha256) {
                    last = Some(sha256);
                    let content = self.actions.media.store.read(&sha256, 0..info.size).await;
                    if self.medium(&sha256, content).await? {
                        written.insert(sha256);
                        let mxc = media::address(&self.actions, &sha256);
                        media.push(bundled(&sha256, info, mxc));
                    }
                }
                if written.contains(&sha256) {
                    name(media, event_id);
                }
            }
            match end {
                Some(end) if page.more => rest = rest.after(&end),
                _ => return Ok(()),
            }
        }
    }

    async fn of_others(
        &mut self,
        rows: &Rows<'_>,
        media: &mut Vec<BundledMedium>,
        written: &mut BTreeSet<Sha256>,
    ) -> Result<(), Stopped> {
        let (mut rest, mut last, mut is_written) = (KeyRange::all(), None, false);
        loop {
            let limit = Limit::rows(ROWS_AT_A_TIME);
            let page = rows.store.scan(&NAMED_MEDIA, rows.home, rest.clone(), Direction::Up, limit).await?;
            let end = page.rows.last().map(|(key, _)| key.clone());
            for ((key, event_id), ()) in page.rows {
                if last != Some(key) {
                    last = Some(key);
                    is_written = self.of_another(rows, (&key, &event_id), media, written).await?;
                }
                if is_written {
                    name(media, event_id);
                }
            }
            match end {
                Some(end) if page.more => rest = rest.after(&end),
                _ => return Ok(()),
            }
        }
    }

    /// Writes a medium of another server, if it is here.
    async fn of_another(
        &mut self,
        rows: &Rows<'_>,
        (key, event_id): (&Sha256, &EventId),
        media: &mut Vec<BundledMedium>,
        written: &mut BTreeSet<Sha256>,
    ) -> Result<bool, Stopped> {
        let Some(Held { info, sha256, is_cached }) = self.held(rows, key).await? else { return Ok(false) };
        let Some(address) = self.address(rows, key, event_id).await? else { return Ok(false) };
        if !written.contains(&sha256) {
            let store = &self.actions.media.store;
            let content = match is_cached {
                true => store.read_cached(key, 0..info.size).await,
                false => store.read(&sha256, 0..info.size).await,
            };
            if !self.medium(&sha256, content).await? {
                return Ok(false);
            }
            written.insert(sha256);
        }
        let RemoteAddress { server, media_id } = address;
        media.push(bundled(&sha256, info, format!("{}{server}/{media_id}", media::SCHEME)));
        Ok(true)
    }

    async fn held(&self, rows: &Rows<'_>, key: &Sha256) -> Result<Option<Held>, ActionError> {
        if let Some(cached) = self.actions.store().get(&CACHED_MEDIA, &Home::server(), key).await? {
            return Ok(Some(Held { info: cached.info, sha256: cached.sha256, is_cached: true }));
        }
        let brought = rows.get(&BROUGHT_MEDIA, key).await?;
        Ok(brought.map(|brought| Held { info: brought.info, sha256: brought.sha256, is_cached: false }))
    }

    /// The address, of which only the hash is a key, from an event that names it.
    async fn address(
        &self,
        rows: &Rows<'_>,
        key: &Sha256,
        event_id: &EventId,
    ) -> Result<Option<RemoteAddress>, ActionError> {
        let Some(arrival) = rows.arrival_of(event_id).await? else { return Ok(None) };
        let (_, event) = rows.event(&self.view.basis.version, arrival).await?;
        let named = remote_media::addresses_in(&self.actions, event.content().get(), media::REFERENCES_MAX);
        Ok(named.into_iter().find(|address| address.hash() == *key))
    }

    async fn medium(&mut self, sha256: &Sha256, content: Content) -> Result<bool, Stopped> {
        let mut content = match content {
            Ok(content) => content,
            Err(error) if error.is_missing() => return Ok(false),
            Err(error) => return Err(ActionError::from(error).into()),
        };
        self.writer.begin(&format!("{MEDIA}{}", hex(sha256)), Kept::AsItIs)?;
        while let Some(piece) = content.next().await {
            self.writer.write(&piece.map_err(ActionError::internal)?)?;
            self.flow().await?;
        }
        Ok(true)
    }
}

fn bundled(sha256: &Sha256, info: MediumInfo, mxc: String) -> BundledMedium {
    let MediumInfo { name, content_type, .. } = info;
    BundledMedium { sha256: hex(sha256), name, content_type, mxc: Some(mxc), events: Vec::new() }
}

/// The last of the media is named by one more event.
fn name(media: &mut [BundledMedium], event_id: ruma::OwnedEventId) {
    if let Some(medium) = media.last_mut().filter(|medium| medium.events.len() < MEDIUM_EVENTS_MAX) {
        medium.events.push(event_id);
    }
}

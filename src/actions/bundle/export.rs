//! Making a bundle of a room: a stream that is written as it is taken, with what the room held when it began. Nobody is held up; redactions and purges that
//! happen meanwhile apply.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures_util::Stream;
use rules::{UnixMs, kind::RoomKind, permission::Act, power::Levels};
use ruma::{OwnedEventId, OwnedServerName, OwnedUserId};
use tokio::sync::mpsc;

mod media;
mod settings;

use super::{
    keys,
    order::{self, Order},
};
use crate::{
    actions::{
        ActionError, Actions, Caller,
        accounts::must_be_admin,
        audit::{self, Actor},
        incoming::judging,
        lane::Room,
        rooms::{self, Opened},
        rows::Rows,
        summary,
        view::RoomView,
    },
    bundle::{
        FORMAT, LOCAL, Manifest, STATES, VERSION,
        manifest::{BundledMember, Counts, VerifyKey, VerifyKeys, state_digest, time_text},
        write::{Kept, Writer},
    },
    storage::{
        Arrival, Commit, Direction, Home, KeyRange, Limit,
        keyspaces::{EVENTS, REDACTIONS},
    },
};

/// Pieces of a bundle that wait for whoever takes it.
const PIECES_MAX: usize = 4;
/// Bytes of a piece; one event may make it larger.
const PIECE_BYTES: usize = 64 * 1024;
/// Events that are read at a time.
const EVENTS_AT_A_TIME: usize = 200;

/// What of a room's surroundings comes along.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    /// The media.
    pub media: bool,
    /// Read markers, modes and pins.
    pub personal: Whose,
}

/// Whose personal settings come along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Nobody's.
    Nobodys,
    /// Those of whoever asks.
    Own,
    /// Everybody's.
    Everybodys,
}

/// A bundle that is being made.
pub struct Export {
    /// The room.
    pub room_id: ruma::OwnedRoomId,
    /// Events that it had when this began.
    pub events: u64,
    /// Events that were written.
    pub written: Arc<AtomicU64>,
    pieces: mpsc::Receiver<Piece>,
}

enum Piece {
    Bytes(Bytes),
    /// There is nothing more to come. Without it, the bundle broke off.
    End,
}

impl Export {
    /// The bytes, as they are made. What breaks off ends with an error: without its list of entries, nobody takes the file for whole. Dropping it frees everything.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        futures_util::stream::unfold(Some(self.pieces), |pieces| async move {
            let mut pieces = pieces?;
            match pieces.recv().await {
                Some(Piece::Bytes(bytes)) => Some((Ok(bytes), Some(pieces))),
                Some(Piece::End) => None,
                None => Some((Err(io::Error::other("the export broke off")), None)),
            }
        })
    }
}

/// Begins to export a room for one of its members.
///
/// # Errors
/// An unknown or hidden room; whoever may not see all of it; [`ActionError::Busy`] when too many are made.
pub async fn export(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
    content: Content,
) -> Result<Export, ActionError> {
    let Opened { room, view, member } = rooms::open(actions, caller, reference).await?;
    refuse_incognito(&view)?;
    view.standing(actions, caller, member.as_ref()).may(Act::Export)?;
    begin(actions, caller, room, view, content)
}

/// Begins to export any room, which is written down.
///
/// # Errors
/// A caller who is no admin; an unknown room; a workspace; [`ActionError::Busy`]; when storage fails.
pub async fn export_as_admin(
    actions: &Actions,
    caller: &Caller,
    actor: Actor<'_>,
    reference: &str,
    content: Content,
) -> Result<Export, ActionError> {
    must_be_admin(caller)?;
    let room = rooms::locate(actions, reference).await?;
    let view = room.view().await?.filter(|view| !view.tip.heads.is_empty()).ok_or(ActionError::RoomNotFound)?;
    refuse_incognito(&view)?;
    view.standing(actions, caller, None).type_knows(Act::Export)?;
    let target = room.id.to_string();
    let export = begin(actions, caller, room, view, content)?;
    let mut commit = Commit::new(Home::server());
    let details = vec![("personal", (content.personal != Whose::Nobodys).to_string())];
    audit::Act { actor, action: "room.export", target, details }.record(actions, &mut commit);
    actions.store().commit(commit).await?;
    Ok(export)
}

fn refuse_incognito(view: &RoomView) -> Result<(), ActionError> {
    if view.summary.kind == RoomKind::Incognito {
        let refused = "an incognito room leaves no trace and cannot be exported";
        return Err(ActionError::ExportRefused(refused.to_owned()));
    }
    Ok(())
}

fn begin(
    actions: &Actions,
    caller: &Caller,
    room: Arc<Room>,
    view: Arc<RoomView>,
    content: Content,
) -> Result<Export, ActionError> {
    let turn = Arc::clone(&actions.bundles.exports).try_acquire_owned().map_err(|_full| ActionError::Busy)?;
    let (to, pieces) = mpsc::channel(PIECES_MAX);
    let written = Arc::new(AtomicU64::new(0));
    let export = Export {
        room_id: room.id.clone(),
        events: view.tip.next_arrival.get() - 1,
        written: Arc::clone(&written),
        pieces,
    };
    let making = Making {
        actions: actions.clone(),
        asked_by: caller.user_id.clone(),
        room,
        view,
        content,
        writer: Writer::default(),
        to,
        written,
    };
    actions.jobs.spawn(async move {
        let room_id = making.room.id.clone();
        match Box::pin(making.run()).await {
            Ok(()) | Err(Stopped::Gone) => {}
            Err(Stopped::Failed(error)) => {
                tracing::error!(room.id = %room_id, %error, "The export of `{room_id}` broke off: {error}");
            }
        }
        drop(turn);
    });
    Ok(export)
}

/// Why an export ended before its end.
enum Stopped {
    /// Nobody takes it any more.
    Gone,
    Failed(ActionError),
}

impl<E: Into<ActionError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

struct Making {
    actions: Actions,
    asked_by: OwnedUserId,
    room: Arc<Room>,
    view: Arc<RoomView>,
    content: Content,
    writer: Writer,
    to: mpsc::Sender<Piece>,
    written: Arc<AtomicU64>,
}

/// What the state says of the room.
#[derive(Default)]
struct Told {
    digest: String,
    entries: u64,
    joined: u64,
    members: Vec<BundledMember>,
}

impl Making {
    async fn run(mut self) -> Result<(), Stopped> {
        let (room, view) = (Arc::clone(&self.room), Arc::clone(&self.view));
        let rows = Rows::on_disk(&room.store, &room.home);
        let mut order = Order::new(rows, view.basis.version, view.tip.next_arrival);
        self.events(&rows, &mut order).await?;
        self.states(&rows, &order.around).await?;
        let local = self.local(&rows).await?;
        self.writer.whole(LOCAL, &serde_json::to_vec(&local).map_err(ActionError::internal)?)?;
        let media = if self.content.media { self.media(&rows).await? } else { Vec::new() };
        let told = self.told(&rows).await?;
        let keys = self.keys(&rows, order.signed_with).await?;
        let summary = &view.summary;
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            server_name: self.actions.server_name.clone(),
            exported_at: time_text(self.actions.now()),
            room_id: self.room.id.clone(),
            room_version: view.basis.version.as_str().to_owned(),
            name: self.unredacted(&rows, "m.room.name", summary.name.clone()).await?,
            topic: self.unredacted(&rows, "m.room.topic", summary.topic.clone()).await?,
            alias: summary.alias.clone(),
            workspace: summary.workspace_id.clone(),
            members: told.members,
            counts: Counts {
                events: self.written.load(Ordering::Relaxed),
                state: told.entries,
                media: u64::try_from(media.len()).unwrap_or(u64::MAX),
                members: told.joined,
            },
            entries: Default::default(),
            extremities: heads(&view),
            state: told.digest,
            verify_keys: keys,
            media,
            hidden: order.hidden,
        };
        let rest = self.writer.finish(manifest, &self.actions.signer)?;
        // A purge that happened meanwhile: what was read may be half a room, even if the room was restored since.
        let is_another = !Arc::ptr_eq(&self.actions.room(&self.room.id), &self.room);
        if is_another || self.actions.is_purging(&self.room.id) || self.room.view().await?.is_none() {
            return Err(ActionError::RoomNotFound.into());
        }
        for piece in [Piece::Bytes(rest), Piece::End] {
            self.to.send(piece).await.map_err(|_closed| Stopped::Gone)?;
        }
        Ok(())
    }

    /// Hands over what was written, when it is enough.
    async fn flow(&mut self) -> Result<(), Stopped> {
        if self.writer.waiting() >= PIECE_BYTES {
            let piece = Piece::Bytes(self.writer.take());
            self.to.send(piece).await.map_err(|_closed| Stopped::Gone)?;
        }
        Ok(())
    }

    async fn events(&mut self, rows: &Rows<'_>, order: &mut Order<'_>) -> Result<(), Stopped> {
        // The first bytes leave before anything is looked for.
        self.to.send(Piece::Bytes(self.writer.take())).await.map_err(|_closed| Stopped::Gone)?;
        let cut = self.view.tip.next_arrival;
        let mut rest = KeyRange::all().before(&cut);
        loop {
            let limit = Limit::rows(EVENTS_AT_A_TIME).in_passing();
            let page = rows.store.scan(&EVENTS, rows.home, rest.clone(), Direction::Up, limit).await?;
            let last = page.rows.last().map(|(last, _)| *last);
            let wanted = page.rows.iter().filter(|(_, stored)| Order::is_wanted(stored));
            let wanted: Vec<Arrival> = wanted.map(|(arrival, _)| *arrival).collect();
            order.come_by(page.rows);
            for arrival in wanted {
                let mut open = vec![(arrival, false)];
                while let Some(next) = order.next(&mut open).await? {
                    self.writer.event(next.event.json())?;
                    self.written.fetch_add(1, Ordering::Relaxed);
                    self.flow().await?;
                }
            }
            match last {
                Some(last) if page.more => rest = rest.after(&last),
                _ => return Ok(()),
            }
        }
    }

    /// The states that cannot be told from the events before.
    async fn states(&mut self, rows: &Rows<'_>, around: &[Arrival]) -> Result<(), Stopped> {
        if around.is_empty() {
            return Ok(());
        }
        self.writer.begin(STATES, Kept::Deflated)?;
        for arrival in around {
            let stored = rows.get(&EVENTS, arrival).await?.ok_or(ActionError::RoomNotFound)?;
            let id = serde_json::to_string(&stored.event_id).map_err(ActionError::internal)?;
            self.writer.write(format!("{{\"event_id\":{id},\"state\":").as_bytes())?;
            if !stored.standing.is_in_room() {
                self.writer.write(b"null}\n")?;
                self.flow().await?;
                continue;
            }
            let mut ids = Vec::new();
            for entry in order::state(rows, stored.state_before).await? {
                ids.push(rows.get(&EVENTS, &entry).await?.ok_or(ActionError::RoomNotFound)?.event_id);
            }
            // In an order that does not depend on how this server came to know them.
            ids.sort_unstable();
            for (number, id) in ids.into_iter().enumerate() {
                let id = serde_json::to_string(&id).map_err(ActionError::internal)?;
                self.writer.write(if number == 0 { b"[" } else { b"," })?;
                self.writer.write(id.as_bytes())?;
                self.flow().await?;
            }
            self.writer.write(b"]}\n")?;
        }
        Ok(())
    }

    /// A text of the state at the cut; none: its event was redacted since.
    async fn unredacted(
        &self,
        rows: &Rows<'_>,
        event_type: &str,
        text: Option<String>,
    ) -> Result<Option<String>, ActionError> {
        let event = rows.state_event(&self.view.basis.version, self.view.tip.state, event_type, "").await?;
        match event {
            Some(event) if rows.get(&REDACTIONS, event.event_id()).await?.is_some() => Ok(None),
            _ => Ok(text),
        }
    }

    /// What the state behind the newest events says.
    async fn told(&self, rows: &Rows<'_>) -> Result<Told, ActionError> {
        let version = self.view.basis.version;
        let root = self.view.tip.state;
        let power_levels = rows.state_event(&version, root, "m.room.power_levels", "").await?;
        let levels = Levels::read(&version, &self.view.basis.create, power_levels.as_deref());
        let (mut told, mut entries) = (Told::default(), Vec::new());
        for arrival in order::state(rows, root).await? {
            let (_, event) = rows.event(&version, arrival).await?;
            let (kind, key) = (event.type_str().to_owned(), event.state_key().unwrap_or_default().to_owned());
            if kind == "m.room.member"
                && let Ok(user_id) = OwnedUserId::try_from(key.as_str())
            {
                let is_redacted = rows.get(&REDACTIONS, event.event_id()).await?.is_some();
                let content = summary::content(&event);
                let membership = content.get("membership").and_then(|word| word.as_str()).unwrap_or_default();
                told.joined += u64::from(membership == "join");
                if matches!(membership, "join" | "invite" | "ban") {
                    told.members.push(BundledMember {
                        membership: membership.to_owned(),
                        display_name: summary::display_name(&event).filter(|_| !is_redacted),
                        power_level: levels.of(&user_id).reported(),
                        participant_id: user_id,
                    });
                }
            }
            entries.push((kind, key, event.event_id().clone()));
        }
        told.members.sort_by(|one, other| one.participant_id.cmp(&other.participant_id));
        told.entries = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        told.digest = state_digest(entries.iter().map(|(kind, key, id)| (kind.as_str(), key.as_str(), id.as_str())));
        Ok(told)
    }

    /// The keys of those who signed, and our own, with which the manifest is signed. What is known already suffices; others are asked for.
    async fn keys(
        &self,
        rows: &Rows<'_>,
        mut needed: BTreeSet<(OwnedServerName, String)>,
    ) -> Result<VerifyKeys, ActionError> {
        let signer = &self.actions.signer;
        needed.insert((signer.server_name().clone(), signer.key_id().to_owned()));
        let ring = judging::keys(&self.actions, needed.clone(), UnixMs(0)).await;
        let mut keys = VerifyKeys::new();
        for (server, key_id) in needed {
            let known = match ring.get(&server, &key_id) {
                Some(key) => Some(*key),
                None => keys::kept(rows, &server, &key_id).await?,
            };
            if let Some(key) = known {
                keys.entry(server).or_default().insert(key_id, VerifyKey::of(&key));
            }
        }
        Ok(keys)
    }
}

fn heads(view: &RoomView) -> Vec<OwnedEventId> {
    let mut heads: Vec<OwnedEventId> = view.tip.heads.iter().map(|head| head.event_id.clone()).collect();
    heads.sort_unstable();
    heads
}

//! What a stream says. A frame is made once and shared by all streams that get it, its rendering too.

use std::sync::OnceLock;

use bytes::Bytes;
use rules::{UnixMs, permission::Membership};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};

use crate::{
    actions::{rooms::RoomDetails, timeline::EventView},
    live::{Dropped, Queued},
    storage::Cursor,
};

/// One thing that happened, as its readers get it.
#[derive(Debug)]
pub struct Frame {
    /// What.
    pub kind: FrameKind,
    /// From where a stream goes on that has read this; none: the feed does not hold it.
    pub cursor: Option<Cursor>,
    /// As the edge writes it, once for all readers.
    pub rendered: OnceLock<Rendered>,
}

/// A frame as bytes.
#[derive(Debug)]
pub struct Rendered {
    /// As a server-sent event.
    pub event: Bytes,
    /// As JSON, a part of the same bytes.
    pub json: Bytes,
}

/// The kinds of frames.
#[derive(Debug)]
pub enum FrameKind {
    /// An event of a room in which the reader is.
    Event(EventView),
    /// The reader's relation to a room has changed, or what the reader or this server has set for it.
    Room {
        /// The room.
        room_id: OwnedRoomId,
        /// The reader's membership now.
        membership: Membership,
        /// The room as the reader sees it now; none: not at all.
        room: Option<Box<RoomDetails>>,
    },
    /// The reader's own read marker has moved.
    ReadMarker {
        /// The room.
        room_id: OwnedRoomId,
        /// The last event read.
        event_id: OwnedEventId,
        /// Messages of others since then.
        unread: u64,
        /// Those among them that the reader's mode lets through.
        notify: u64,
    },
    /// Somebody of another server has read up to an event.
    OtherRead {
        /// The room.
        room_id: OwnedRoomId,
        /// Who.
        user_id: OwnedUserId,
        /// The last event read.
        event_id: OwnedEventId,
        /// The event that the thread hangs from of which this is said; none: it is said of the room.
        thread: Option<OwnedEventId>,
    },
    /// Who types now in a room.
    Typing {
        /// The room.
        room_id: OwnedRoomId,
        /// All of them, by id.
        participants: Vec<OwnedUserId>,
    },
    /// Somebody has become active in a room, or is no longer.
    Presence {
        /// The room.
        room_id: OwnedRoomId,
        /// Who.
        user_id: OwnedUserId,
        /// Since when they are active there; none: no longer.
        joined_at: Option<UnixMs>,
    },
    /// From here on nothing is missed; what came before is loaded otherwise.
    Resync,
}

impl Frame {
    /// A frame that is not rendered yet.
    pub fn new(kind: FrameKind, cursor: Option<Cursor>) -> Self {
        Self { kind, cursor, rendered: OnceLock::new() }
    }
}

/// About what a frame takes beside the event that it carries.
const FRAME_BYTES: usize = 1_024;

impl Queued for Frame {
    fn bytes(&self) -> usize {
        match &self.kind {
            FrameKind::Event(view) => FRAME_BYTES + 2 * view.event.json().len(),
            FrameKind::Typing { participants, .. } => FRAME_BYTES + 64 * participants.len(),
            _ => FRAME_BYTES,
        }
    }

    fn when_dropped(&self) -> Dropped {
        match (&self.kind, self.cursor) {
            (FrameKind::Typing { .. } | FrameKind::Presence { .. } | FrameKind::OtherRead { .. }, _) => Dropped::Passed,
            (_, Some(_)) => Dropped::Found,
            (_, None) => Dropped::Lost,
        }
    }
}

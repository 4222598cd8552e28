//! What a frame looks like on the wire: JSON, and the same JSON as the data of a server-sent event.

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::Serialize;

use crate::{
    actions::{
        Actions,
        stream::{self, Frame, FrameKind, Rendered},
    },
    api::{
        time,
        v1::wire::{Event, Room},
    },
};

#[derive(Serialize)]
struct Wire<'a> {
    #[serde(rename = "type")]
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum What<'a> {
    Event {
        room_id: OwnedRoomId,
        event: Event,
    },
    Room {
        room_id: &'a OwnedRoomId,
        membership: Option<&'static str>,
        room: Option<Box<Room>>,
    },
    ReadMarker {
        room_id: &'a OwnedRoomId,
        event_id: &'a OwnedEventId,
        unread_count: u64,
        notify_count: u64,
    },
    OtherRead {
        room_id: &'a OwnedRoomId,
        participant_id: &'a OwnedUserId,
        event_id: &'a OwnedEventId,
        #[serde(skip_serializing_if = "Option::is_none")]
        thread_id: Option<&'a OwnedEventId>,
    },
    Typing {
        room_id: &'a OwnedRoomId,
        participants: &'a [OwnedUserId],
    },
    Presence {
        room_id: &'a OwnedRoomId,
        participant_id: &'a OwnedUserId,
        active: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        joined_at: Option<String>,
    },
    Resync {},
}

/// The frame as bytes, made by the first stream that sends it; none: it cannot be written, which is our fault.
pub(super) fn rendered<'a>(actions: &Actions, frame: &'a Frame) -> Option<&'a Rendered> {
    if frame.rendered.get().is_none() {
        let rendered = render(actions, frame).map_err(|error| {
            tracing::error!(%error, "A frame cannot be written: {error}");
        });
        // Another stream may have been faster: its bytes are the same.
        let _ = frame.rendered.set(rendered.ok()?);
    }
    frame.rendered.get()
}

fn render(actions: &Actions, frame: &Frame) -> Result<Rendered, serde_json::Error> {
    let cursor = frame.cursor.map(|cursor| stream::text_of(actions, cursor));
    let (name, what) = wire(&frame.kind);
    let json = serde_json::to_string(&Wire { name, cursor: cursor.as_deref(), what })?;
    let id = cursor.map(|cursor| format!("id: {cursor}\n")).unwrap_or_default();
    let head = format!("{id}event: {name}\ndata: ");
    let (begin, end) = (head.len(), head.len() + json.len());
    let event = Bytes::from(head + &json + "\n\n");
    Ok(Rendered { json: event.slice(begin..end), event })
}

fn wire(kind: &FrameKind) -> (&'static str, What<'_>) {
    match kind {
        FrameKind::Event(view) => {
            ("event", What::Event { room_id: view.event.room_id().clone(), event: Event::from(view.clone()) })
        }
        FrameKind::Room { room_id, membership, room } => {
            let membership = (*membership != rules::permission::Membership::None).then(|| membership.as_str());
            let room = room.as_deref().map(|room| Box::new(Room::from(room.clone())));
            ("room", What::Room { room_id, membership, room })
        }
        FrameKind::ReadMarker { room_id, event_id, unread, notify } => {
            ("read_marker", What::ReadMarker { room_id, event_id, unread_count: *unread, notify_count: *notify })
        }
        FrameKind::OtherRead { room_id, user_id, event_id, thread } => {
            ("read_marker", What::OtherRead { room_id, participant_id: user_id, event_id, thread_id: thread.as_ref() })
        }
        FrameKind::Typing { room_id, participants } => ("typing", What::Typing { room_id, participants }),
        FrameKind::Presence { room_id, user_id, joined_at } => {
            let (active, joined_at) = (joined_at.is_some(), joined_at.map(time::text));
            ("presence", What::Presence { room_id, participant_id: user_id, active, joined_at })
        }
        FrameKind::Resync => ("resync", What::Resync {}),
    }
}

//! The media that an event names. Ours become readable to the room, if the event's sender could read them. Only our own people's events count for that; those of
//! peers never make our media readable, because they are staged elsewhere ([`super::remote`]). Media of other servers become readable to the room whoever names
//! them: their servers decide who gets them.

use rules::{event::Event, kind::RoomKind, state::change_of};

use super::{ActionError, Writer};
use crate::{
    actions::{media, remote_media},
    storage::{
        Effect,
        keyspaces::{MEDIA_ROOMS, NAMED_MEDIA, ROOM_MEDIA},
        media::home,
    },
};

/// Media of other servers that a state event names and that count: a picture and one to spare.
const NAMED_BY_STATE_MAX: usize = 2;

impl Writer {
    /// Notes the media that an event of a local person names. Reads storage, never the network.
    pub(super) async fn refer(&mut self, event: &Event) -> Result<(), ActionError> {
        let named = media::named_in(&self.actions, event.content().get());
        if named.is_empty() || self.summary()?.kind == RoomKind::Incognito {
            return Ok(());
        }
        for sha256 in named {
            let Some(info) = media::readable(&self.actions, event.sender(), &sha256, Some(&self.room.id)).await? else {
                continue;
            };
            self.commit.put(&ROOM_MEDIA, &(sha256, event.event_id().clone()), &info);
            self.commit.effect(Effect::new(home(&sha256)).put(&MEDIA_ROOMS, &self.room.id, &()));
        }
        Ok(())
    }

    /// Notes the media of other servers that an event names. It is part of the room.
    pub(super) fn name_foreign(&mut self, event: &Event) -> Result<(), ActionError> {
        // A part of the state may be many events in one commit.
        let names_max = if change_of(event).is_some() { NAMED_BY_STATE_MAX } else { media::REFERENCES_MAX };
        let named = remote_media::named_in(&self.actions, event.content().get(), names_max);
        if named.is_empty() || self.summary()?.kind == RoomKind::Incognito {
            return Ok(());
        }
        for address in named {
            self.commit.put(&NAMED_MEDIA, &(address, event.event_id().clone()), &());
        }
        Ok(())
    }

    /// A redacted event no longer refers to anything.
    pub(super) fn unrefer(&mut self, event: &Event) {
        for address in remote_media::named_in(&self.actions, event.content().get(), media::REFERENCES_MAX) {
            self.commit.delete(&NAMED_MEDIA, &(address, event.event_id().clone()));
        }
        for sha256 in media::named_in(&self.actions, event.content().get()) {
            self.commit.delete(&ROOM_MEDIA, &(sha256, event.event_id().clone()));
        }
    }
}

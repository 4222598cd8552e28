//! The media that an event names: they become readable to the room, if its sender could read them. Only our own people's events count; those of peers never
//! make a medium readable, because they are staged elsewhere ([`super::remote`]).

use rules::{event::Event, kind::RoomKind};

use super::{ActionError, Writer};
use crate::{
    actions::media,
    storage::{
        Effect,
        keyspaces::{MEDIA_ROOMS, ROOM_MEDIA},
        media::home,
    },
};

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

    /// A redacted event no longer refers to anything.
    pub(super) fn unrefer(&mut self, event: &Event) {
        for sha256 in media::named_in(&self.actions, event.content().get()) {
            self.commit.delete(&ROOM_MEDIA, &(sha256, event.event_id().clone()));
        }
    }
}

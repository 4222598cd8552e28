//! How ruma's rules and state resolution see an event. May import ruma.

use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, UInt, UserId, events::TimelineEventType, state_res};
use serde_json::value::RawValue;

use super::Event;

impl state_res::Event for Event {
    type Id = OwnedEventId;

    fn event_id(&self) -> &Self::Id {
        &self.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        self.names_room.then_some(&self.header.room_id)
    }

    fn sender(&self) -> &UserId {
        &self.header.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch(UInt::new_saturating(self.header.origin_server_ts.0))
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.header.kind
    }

    fn content(&self) -> &RawValue {
        &self.content
    }

    fn state_key(&self) -> Option<&str> {
        self.header.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Self::Id> + '_> {
        Box::new(self.header.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Self::Id> + '_> {
        Box::new(self.header.auth_events.iter())
    }

    fn redacts(&self) -> Option<&Self::Id> {
        self.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        self.rejected
    }
}

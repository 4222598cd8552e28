//! What a room takes over from the one that it follows.

use rules::version::Version;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedRoomId};

/// What a room takes over from the one that it follows.
pub(in crate::actions) struct Inherits {
    /// The room before it, and the last of its events.
    pub(in crate::actions) predecessor: (OwnedRoomId, OwnedEventId),
    pub(in crate::actions) join_rule: String,
    pub(in crate::actions) history_visibility: String,
    pub(in crate::actions) levels: CanonicalJsonObject,
    pub(in crate::actions) announcement: Option<String>,
}

impl Inherits {
    /// What the create event says of the room before.
    /// Source: <https://spec.matrix.org/v1.19/client-server-api/#mroomcreate>
    pub(super) fn predecessor(&self, version: &Version) -> CanonicalJsonValue {
        let (room_id, event_id) = &self.predecessor;
        let mut says = vec![("room_id".to_owned(), CanonicalJsonValue::String(room_id.to_string()))];
        // The newest versions name the room alone.
        if !version.room_id_is_create_hash() {
            says.push(("event_id".to_owned(), CanonicalJsonValue::String(event_id.to_string())));
        }
        CanonicalJsonValue::Object(says.into_iter().collect())
    }
}

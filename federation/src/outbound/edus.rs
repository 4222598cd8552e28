//! Typing notices and read receipts on their way out: the latest of each user in each room. May import: ruma's ids, `limits`.

use std::collections::{HashMap, VecDeque};

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId,
};

use crate::limits::EDUS_WAITING_MAX;

/// Something that is true now and of no interest later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edu {
    /// A user of ours types, or no longer does.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#typing-notifications>
    Typing {
        /// Where.
        room_id: OwnedRoomId,
        /// Who.
        user_id: OwnedUserId,
        /// Whether.
        is_typing: bool,
    },
    /// A user of ours has read up to an event, and does not hide it.
    /// Source: <https://spec.matrix.org/v1.19/server-server-api/#receipts>
    Read {
        /// Where.
        room_id: OwnedRoomId,
        /// Who.
        user_id: OwnedUserId,
        /// Up to where.
        event_id: OwnedEventId,
        /// When.
        at: MilliSecondsSinceUnixEpoch,
    },
}

/// What a later one replaces.
type Subject = (bool, OwnedRoomId, OwnedUserId);

impl Edu {
    fn subject(&self) -> Subject {
        match self {
            Self::Typing { room_id, user_id, .. } => (false, room_id.clone(), user_id.clone()),
            Self::Read { room_id, user_id, .. } => (true, room_id.clone(), user_id.clone()),
        }
    }

    /// The form on the wire.
    pub(super) fn to_json(&self) -> CanonicalJsonValue {
        let text = |text: &str| CanonicalJsonValue::String(text.to_owned());
        let (edu_type, content) = match self {
            Self::Typing { room_id, user_id, is_typing } => {
                let typing = CanonicalJsonValue::Bool(*is_typing);
                let fields =
                    [("room_id", text(room_id.as_str())), ("user_id", text(user_id.as_str())), ("typing", typing)];
                ("m.typing", object(fields))
            }
            Self::Read { room_id, user_id, event_id, at } => {
                let data = object([("ts", CanonicalJsonValue::Integer(at.0.into()))]);
                let event_ids = CanonicalJsonValue::Array(vec![text(event_id.as_str())]);
                let receipt = object([("data", data), ("event_ids", event_ids)]);
                ("m.receipt", object([(room_id.as_str(), object([("m.read", object([(user_id.as_str(), receipt)]))]))]))
            }
        };
        object([("edu_type", text(edu_type)), ("content", content)])
    }
}

fn object<const N: usize>(fields: [(&str, CanonicalJsonValue); N]) -> CanonicalJsonValue {
    let fields: CanonicalJsonObject = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    CanonicalJsonValue::Object(fields)
}

/// What waits for one destination.
#[derive(Default)]
pub(super) struct Edus {
    order: VecDeque<Subject>,
    latest: HashMap<Subject, Edu>,
}

impl Edus {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Takes one in. It takes the turn of an earlier one about the same; beyond the bound the oldest goes.
    pub(super) fn push(&mut self, edu: Edu) {
        let subject = edu.subject();
        if self.latest.insert(subject.clone(), edu).is_none() {
            self.order.push_back(subject);
            if self.order.len() > EDUS_WAITING_MAX {
                self.take(1);
            }
        }
    }

    /// The oldest ones, at most so many.
    pub(super) fn take(&mut self, count_max: usize) -> Vec<Edu> {
        let count = count_max.min(self.order.len());
        self.order.drain(..count).filter_map(|subject| self.latest.remove(&subject)).collect()
    }
}

//! Messages that differ from one that was allowed only in what the rules do not look at: most of a room's events are judged by looking at the last one of their
//! sender. May import `event`, ruma's ids.
//!
//! Source: <https://spec.matrix.org/v1.19/rooms/v12/#authorization-rules>

use std::collections::HashMap;

use ruma::{OwnedEventId, OwnedUserId, events::TimelineEventType};

use crate::event::Event;

/// Senders of whom a precedent is kept.
const SENDERS_MAX: usize = 256;

/// Of each sender in one room the last event that [`check_auth_events`](crate::authorization::check_auth_events) has allowed, if the rules see nothing of such an
/// event but its sender, its type and the events that allow it.
#[derive(Debug, Default)]
pub struct Precedents {
    by_sender: HashMap<OwnedUserId, Precedent>,
}

#[derive(Debug)]
struct Precedent {
    kind: TimelineEventType,
    auth_events: Box<[OwnedEventId]>,
}

impl Precedents {
    /// An event was allowed that is like this one, of the same room, in everything that the rules look at: this one is allowed too.
    #[must_use]
    pub fn cover(&self, event: &Event) -> bool {
        let like = |precedent: &Precedent| {
            precedent.kind == *event.kind() && *precedent.auth_events == *event.auth_events() && !is_looked_into(event)
        };
        self.by_sender.get(event.sender()).is_some_and(like)
    }

    /// The event was allowed by its auth events.
    pub fn add(&mut self, event: &Event) {
        if is_looked_into(event) || self.cover(event) {
            return;
        }
        if self.by_sender.len() >= SENDERS_MAX {
            self.by_sender.clear();
        }
        let precedent = Precedent { kind: event.kind().clone(), auth_events: event.auth_events().into() };
        self.by_sender.insert(event.sender().clone(), precedent);
    }

    /// Adds those of others.
    pub fn extend(&mut self, others: Self) {
        if self.by_sender.len() + others.by_sender.len() > SENDERS_MAX {
            self.by_sender.clear();
        }
        self.by_sender.extend(others.by_sender);
    }
}

/// The rules look at more of such an event than at its sender, its type and its auth events.
fn is_looked_into(event: &Event) -> bool {
    let kind = event.kind();
    event.is_state()
        || matches!(
            kind,
            TimelineEventType::RoomCreate
                | TimelineEventType::RoomMember
                | TimelineEventType::RoomPowerLevels
                | TimelineEventType::RoomRedaction
                | TimelineEventType::RoomThirdPartyInvite
        )
        || event.type_str() == "m.room.aliases"
}

#[cfg(test)]
mod tests {
    use ruma::{event_id, room_id};
    use serde_json::{Value, json};

    use super::*;
    use crate::version::Version;

    fn event(change: &[(&str, Value)]) -> Event {
        let mut fields = json!({
            "type": "m.room.message", "sender": "@alice:a.test", "origin_server_ts": 1, "depth": 7,
            "prev_events": ["$before"], "auth_events": ["$create", "$levels", "$alice"], "content": {"body": "hello"},
        });
        for (field, value) in change {
            fields[*field] = value.clone();
        }
        let (id, room) = (event_id!("$event").to_owned(), room_id!("!room:a.test").to_owned());
        Event::from_stored(id, room, &Version::parse("11").unwrap(), fields.to_string(), false).unwrap()
    }

    #[test]
    fn an_event_is_covered_by_one_of_the_same_sender_and_type_that_leans_on_the_same() {
        let mut precedents = Precedents::default();
        assert!(!precedents.cover(&event(&[])));
        precedents.add(&event(&[]));
        let other = [("content", json!({"body": "other"})), ("prev_events", json!(["$other"])), ("depth", json!(1))];
        assert!(precedents.cover(&event(&other)));
        for change in [
            ("sender", json!("@bob:a.test")),
            ("type", json!("m.reaction")),
            ("auth_events", json!(["$create", "$new_levels", "$alice"])),
            ("auth_events", json!(["$create", "$alice"])),
            ("state_key", json!("")),
        ] {
            assert!(!precedents.cover(&event(std::slice::from_ref(&change))), "{change:?}");
        }
    }

    #[test]
    fn events_that_the_rules_look_into_are_never_covered() {
        for kind in [
            "m.room.create",
            "m.room.member",
            "m.room.power_levels",
            "m.room.redaction",
            "m.room.third_party_invite",
            "m.room.aliases",
        ] {
            let event = event(&[("type", json!(kind))]);
            let mut precedents = Precedents::default();
            precedents.add(&event);
            assert!(!precedents.cover(&event), "{kind}");
        }
    }

    #[test]
    fn only_so_many_senders_are_remembered() {
        let mut precedents = Precedents::default();
        for number in 0..=SENDERS_MAX {
            let event = event(&[("sender", json!(format!("@person{number}:a.test")))]);
            let mut others = Precedents::default();
            others.add(&event);
            precedents.extend(others);
            assert!(precedents.by_sender.len() <= SENDERS_MAX && precedents.cover(&event));
        }
    }
}

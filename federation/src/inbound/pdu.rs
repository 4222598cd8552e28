//! An event at the door: what can be said of it without knowing its room.
//!
//! Everything else is decided behind the ports. What passes is handed on as canonical text, written from the value that the
//! signature of the request was checked on. `unsigned` is taken out: nobody has signed it and nothing in it is believed.
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#pdus>

use ruma::{OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId};

use super::{error::Failure, json::Object};
use crate::{
    Pdu, Refusal,
    limits::{PDU_AUTH_EVENTS_MAX, PDU_BYTES_MAX, PDU_PREV_EVENTS_MAX},
};

/// Why an event is dropped at the door. The texts are labels of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Dropped {
    #[error("not_an_object")]
    NotAnObject,
    #[error("room_id")]
    RoomId,
    #[error("number")]
    Number,
    #[error("depth")]
    Depth,
    #[error("references")]
    References,
    #[error("too_large")]
    TooLarge,
}

/// The event as it is handed on.
pub(crate) fn admit(event: &Object) -> Result<Pdu, Dropped> {
    let pdu = event.to_raw_without("unsigned").ok_or(Dropped::Number)?;
    if event.get("depth").is_some_and(|depth| depth.as_integer().is_none_or(|depth| depth < 0)) {
        return Err(Dropped::Depth);
    }
    let references = [("prev_events", PDU_PREV_EVENTS_MAX), ("auth_events", PDU_AUTH_EVENTS_MAX)];
    if references.iter().any(|(name, max)| event.list(name).is_some_and(|list| list.len() > *max)) {
        return Err(Dropped::References);
    }
    if pdu.get().len() > PDU_BYTES_MAX { Err(Dropped::TooLarge) } else { Ok(pdu) }
}

/// The room that an event names.
pub(crate) fn room_of(event: &Object) -> Result<OwnedRoomId, Dropped> {
    event.text("room_id").and_then(|text| text.try_into().ok()).ok_or(Dropped::RoomId)
}

/// A membership event of a handshake, as far as the door looks at it.
pub(crate) struct MembershipEvent {
    pub(crate) sender: OwnedUserId,
    /// Whose membership it is.
    pub(crate) target: OwnedUserId,
    pub(crate) pdu: Pdu,
}

/// Reads a membership event that came under the path of a room, sent by a user of the origin.
///
/// # Errors
/// 400 when it is another event, of another room or another membership; 403 when the sender is not of the origin.
pub(crate) fn membership_event(
    event: &Object,
    origin: &ServerName,
    room_id: &RoomId,
    membership: &str,
) -> Result<MembershipEvent, Failure> {
    if event.text("type") != Some("m.room.member") {
        return Err(Refusal::Invalid("type").into());
    }
    if event.object("content").and_then(|content| content.text("membership")) != Some(membership) {
        return Err(Refusal::Invalid("membership").into());
    }
    if event.text("room_id") != Some(room_id.as_str()) {
        return Err(Refusal::Invalid("room_id").into());
    }
    let user = |name: &'static str| -> Result<OwnedUserId, Refusal> {
        event.text(name).and_then(|text| UserId::parse(text).ok()).ok_or(Refusal::Invalid(name))
    };
    let (sender, target) = (user("sender")?, user("state_key")?);
    if sender.server_name() != origin {
        return Err(Refusal::Forbidden.into());
    }
    let pdu = admit(event).map_err(|_dropped| Failure::BadJson("the event does not have the form of one"))?;
    Ok(MembershipEvent { sender, target, pdu })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::json::parse;

    fn admitted(text: &str) -> Result<String, Dropped> {
        admit(&parse(text.as_bytes()).unwrap()).map(|pdu| pdu.get().to_owned())
    }

    fn references(name: &str, number: usize) -> String {
        let list = vec!["\"$a\""; number].join(",");
        format!("{{\"{name}\":[{list}]}}")
    }

    /// S2S 6 an event with a value outside the limits is dropped.
    #[test]
    fn an_event_that_no_room_version_of_ours_allows_is_dropped() {
        let cases = [
            (r#"{"depth":-1}"#.to_owned(), Dropped::Depth),
            (r#"{"depth":"1"}"#.to_owned(), Dropped::Depth),
            (r#"{"depth":null}"#.to_owned(), Dropped::Depth),
            (r#"{"depth":9007199254740992}"#.to_owned(), Dropped::Number),
            (r#"{"depth":9223372036854775808}"#.to_owned(), Dropped::Number),
            (r#"{"depth":1.0}"#.to_owned(), Dropped::Number),
            (r#"{"depth":1e2}"#.to_owned(), Dropped::Number),
            (r#"{"content":{"a":[0.5]}}"#.to_owned(), Dropped::Number),
            (references("prev_events", 21), Dropped::References),
            (references("auth_events", 11), Dropped::References),
        ];
        for (text, dropped) in cases {
            assert_eq!(admitted(&text), Err(dropped), "{text}");
        }
        assert!(admitted(&references("prev_events", 20)).is_ok());
        assert!(admitted(&references("auth_events", 10)).is_ok());
    }

    /// S2S 8 unsigned is taken out.
    #[test]
    fn what_passes_is_canonical_and_without_unsigned() {
        let text = r#"{ "unsigned": {"age": 1.5}, "depth": -0, "a": "\u00e4\/" }"#;
        assert_eq!(admitted(text).unwrap(), r#"{"a":"ä/","depth":0}"#);
    }

    /// Hard case 32.
    #[test]
    fn an_event_of_65536_bytes_passes_and_one_of_65537_is_dropped() {
        let event = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
        assert_eq!(admitted(&event(65_536)).unwrap().len(), 65_536);
        assert_eq!(admitted(&event(65_537)), Err(Dropped::TooLarge));
    }
}

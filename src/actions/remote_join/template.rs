//! From what another server proposes to an event of ours. Nothing of a template is believed: it has to be what was asked for, and only where it stands in the
//! room is taken from it.

use std::sync::Arc;

use federation::local::{Template, Wish};
use rules::{
    canonical,
    draft::{self, Around, Draft},
    event::Event,
    limits::{AUTH_EVENTS_MAX, DEPTH_MAX, PREV_EVENTS_MAX},
    version::Version,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, ServerName,
    UserId,
};

use crate::actions::{ActionError, Actions, handshakes::membership_of};

/// An event of ours, made for a template.
#[derive(Clone, Debug)]
pub(in crate::actions) struct Made {
    pub(in crate::actions) version: Version,
    pub(in crate::actions) event: Arc<Event>,
    /// Who vouches for a join.
    pub(in crate::actions) voucher: Option<OwnedUserId>,
}

/// Why a template is not used.
#[derive(Debug, thiserror::Error)]
pub(in crate::actions) enum BadTemplate {
    #[error("the template {0}")]
    Wrong(&'static str),
    #[error("the room has a version that is not spoken here")]
    Version,
    #[error("{0}")]
    Failed(#[from] ActionError),
}

/// Makes the event that was asked for, where the template says.
pub(in crate::actions) fn make(
    actions: &Actions,
    peer: &ServerName,
    (room_id, user_id, wish): (&RoomId, &UserId, Wish),
    template: &Template,
    mut content: CanonicalJsonObject,
) -> Result<Made, BadTemplate> {
    let wrong = BadTemplate::Wrong;
    let version = Version::of(&template.room_version).ok_or(BadTemplate::Version)?;
    let object = canonical::read_object(template.event.get()).map_err(|_problem| wrong("is no event"))?;
    let text = |field: &str| object.get(field).and_then(CanonicalJsonValue::as_str);
    let proposed = object.get("content").and_then(CanonicalJsonValue::as_object);
    let proposed = proposed.ok_or(wrong("has no content"))?;
    let membership = membership_of(wish).as_str();
    let is_asked_for = text("room_id") == Some(room_id.as_str())
        && text("type") == Some("m.room.member")
        && text("sender") == Some(user_id.as_str())
        && text("state_key") == Some(user_id.as_str())
        && proposed.get("membership").and_then(CanonicalJsonValue::as_str) == Some(membership);
    if !is_asked_for {
        return Err(wrong("is not what was asked for"));
    }
    let voucher = match proposed.get("join_authorised_via_users_server") {
        Some(voucher) if wish == Wish::Join => {
            let voucher = voucher.as_str().and_then(|voucher| UserId::parse(voucher).ok());
            let voucher = voucher.filter(|voucher| voucher.server_name() == peer);
            Some(voucher.ok_or(wrong("has somebody of another server vouch for the join"))?)
        }
        _ => None,
    };
    if let Some(voucher) = &voucher {
        let voucher = CanonicalJsonValue::String(voucher.to_string());
        content.insert("join_authorised_via_users_server".to_owned(), voucher);
    }
    let depth = object.get("depth").and_then(CanonicalJsonValue::as_integer).map(i64::from);
    let depth = depth.and_then(|depth| u64::try_from(depth).ok()).ok_or(wrong("has no depth"))?.min(DEPTH_MAX);
    let prev_events =
        ids(&object, "prev_events", PREV_EVENTS_MAX).ok_or(wrong("has other previous events than may be"))?;
    let auth_events = ids(&object, "auth_events", AUTH_EVENTS_MAX).ok_or(wrong("has other auth events than may be"))?;
    if prev_events.is_empty() {
        return Err(wrong("follows nothing"));
    }
    let (room_id, sender): (OwnedRoomId, OwnedUserId) = (room_id.to_owned(), user_id.to_owned());
    let around =
        Around { room_id: Some(&room_id), sender: &sender, prev_events, auth_events, depth, now: actions.now() };
    let draft = Draft::member(user_id, membership, content);
    let event = draft::complete(draft, around, &version, &actions.signer).map_err(ActionError::from)?;
    Ok(Made { version, event: Arc::new(event), voucher })
}

fn ids(object: &CanonicalJsonObject, field: &str, ids_max: usize) -> Option<Vec<OwnedEventId>> {
    let ids = object.get(field)?.as_array()?;
    let is_id = |id: &&str| id.len() == 44 && id.starts_with('$');
    let ids = ids.iter().map(|id| id.as_str().filter(is_id).and_then(|id| EventId::parse(id).ok()));
    ids.collect::<Option<Vec<OwnedEventId>>>().filter(|ids| ids.len() <= ids_max)
}

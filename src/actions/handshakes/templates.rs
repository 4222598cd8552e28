//! Membership events for peers' users to complete and sign. Nothing is stored.

use federation::{
    Refusal,
    local::{Template, Wish},
};
use rules::{canonical, draft::Draft};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, RoomId, RoomVersionId, ServerName, UserId};
use serde_json::value::RawValue;

use super::{membership_of, policy};
use crate::actions::{ActionError, Actions, append::Writer, incoming::guests::failed};

pub(super) async fn make(
    actions: &Actions,
    origin: &ServerName,
    room_id: &RoomId,
    user_id: &UserId,
    wish: Wish,
    versions: &[RoomVersionId],
) -> Result<Template, Refusal> {
    if user_id.server_name() != origin {
        return Err(Refusal::Forbidden);
    }
    let met = policy::meet(actions, origin, room_id).await?;
    let version = met.version();
    let mut writer = Writer::enter(actions, &met.room).await.map_err(failed)?.ok_or(Refusal::NotFound)?;
    let voucher = policy::check(actions, &met, &writer, user_id, wish).await?;
    if wish != Wish::Leave && !versions.contains(version.id()) {
        return Err(Refusal::IncompatibleRoomVersion(version.id().clone()));
    }
    let mut content = CanonicalJsonObject::new();
    if let Some(voucher) = voucher {
        content.insert("join_authorised_via_users_server".to_owned(), CanonicalJsonValue::String(voucher.to_string()));
    }
    let draft = Draft::member(user_id, membership_of(wish).as_str(), content);
    let event = match writer.template(user_id, draft).await {
        Ok(event) => canonical::to_string(&event),
        Err(ActionError::RoomForbidden { .. }) => return Err(Refusal::Forbidden),
        Err(error) => return Err(failed(error)),
    };
    let event = RawValue::from_string(event).map_err(|error| failed(ActionError::internal(error)))?;
    Ok(Template { room_version: version.id().clone(), event })
}

//! What owners and moderators set about a room as a whole: settings, password, announcement.

use axum::Json as Answer;
use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};

use super::{
    error::V1Error,
    path::Ids,
    wire::{Data, RoomAnswer},
};
use crate::{
    actions::{
        ActionError, announcements, room_passwords,
        settings::{self, Changes},
    },
    api::{
        body::{Json, present},
        caller::Signed,
        time,
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    #[serde(default, deserialize_with = "some")]
    name: Option<String>,
    #[serde(default, deserialize_with = "some")]
    topic: Option<String>,
    #[serde(default, deserialize_with = "present")]
    max_members: Option<Option<u64>>,
    #[serde(default, deserialize_with = "some")]
    allow_invites: Option<bool>,
    #[serde(default, deserialize_with = "some")]
    members_only: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    custom: Option<Option<String>>,
}

/// A field that may be missing, and is not null.
fn some<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(reader: D) -> Result<Option<T>, D::Error> {
    T::deserialize(reader).map(Some)
}

impl Settings {
    fn read(self) -> Result<Changes, ActionError> {
        let Self { name, topic, max_members, allow_invites, members_only, custom } = self;
        let says_nothing = name.is_none() && topic.is_none() && max_members.is_none();
        if says_nothing && allow_invites.is_none() && members_only.is_none() && custom.is_none() {
            let problem = "names nothing to change; send `name`, `topic`, `max_members`, `allow_invites`, `members_only` or `custom`";
            return Err(ActionError::invalid("body", problem));
        }
        Ok(Changes { name, topic, max_members, allow_invites, members_only, custom })
    }
}

/// `PATCH /v1/rooms/{room_id}`
pub(super) async fn change(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    body: Json<Settings>,
) -> Result<RoomAnswer, V1Error> {
    let changes = body.value.read()?;
    Ok(RoomAnswer::found(settings::change(&actions, &caller, &room, changes).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Password {
    #[serde(default, deserialize_with = "present")]
    password: Option<Option<String>>,
}

/// `PUT /v1/rooms/{room_id}/password`
pub(super) async fn set_password(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    body: Json<Password>,
) -> Result<RoomAnswer, V1Error> {
    let missing = || ActionError::invalid("password", "is missing; null takes the present one away");
    let password = body.value.password.ok_or_else(missing)?;
    Ok(RoomAnswer::found(room_passwords::set(&actions, &caller, &room, password).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Announce {
    announcement: String,
}

/// `PUT /v1/rooms/{room_id}/announcement`
pub(super) async fn announce(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    body: Json<Announce>,
) -> Result<RoomAnswer, V1Error> {
    Ok(RoomAnswer::found(announcements::set(&actions, &caller, &room, &body.value.announcement).await?))
}

/// What stands, by whom and since when; nulls where nothing does.
#[derive(Default, Serialize)]
pub(super) struct Announcement {
    announcement: Option<String>,
    updated_at: Option<String>,
    updated_by: Option<OwnedUserId>,
}

/// `GET /v1/rooms/{room_id}/announcement`
pub(super) async fn announcement(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
) -> Result<Answer<Data<Announcement>>, V1Error> {
    let found = announcements::get(&actions, &caller, &room).await?;
    let shown = found.map(|found| Announcement {
        announcement: Some(found.text),
        updated_at: Some(time::text(found.updated_at)),
        updated_by: Some(found.updated_by),
    });
    Ok(Data::json(shown.unwrap_or_default()))
}

//! What people say of themselves.

use axum::Json as Answer;
use serde::{Deserialize, Deserializer};

use super::{
    accounts::{Me, me_of},
    error::V1Error,
    wire::Data,
};
use crate::{
    actions::profile::{self, NewProfile},
    api::{body::Json, caller::Signed},
};

/// A field that is missing stays; null takes it away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    #[serde(default, deserialize_with = "given")]
    display_name: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    avatar_url: Option<Option<String>>,
}

#[expect(clippy::option_option, reason = "missing and null are two things")]
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// `PUT /v1/me/profile`
pub(super) async fn set(
    Signed { actions, caller, .. }: Signed,
    body: Json<Change>,
) -> Result<Answer<Data<Me>>, V1Error> {
    let Change { display_name, avatar_url } = body.value;
    let own = profile::set(&actions, &caller, NewProfile { display_name, avatar_url }).await?;
    me_of(&actions, own).await
}

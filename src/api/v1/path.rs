//! What stands in the path of a request: ids as they are, decoded once.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::{V1, error::V1Error};
use crate::actions::ActionError;

/// The parameters of a path. What is no text can be no id: the same answer as for an id that does not exist.
pub(crate) struct Ids<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<V1> for Ids<T> {
    type Rejection = V1Error;

    async fn from_request_parts(parts: &mut Parts, v1: &V1) -> Result<Self, V1Error> {
        match Path::from_request_parts(parts, v1).await {
            Ok(Path(ids)) => Ok(Self(ids)),
            Err(_) => Err(ActionError::RoomNotFound.into()),
        }
    }
}

/// The only parameter of a path, where it names no room. What is no text names nothing, like an empty name.
pub(crate) struct Name(pub(crate) String);

impl FromRequestParts<V1> for Name {
    type Rejection = V1Error;

    async fn from_request_parts(parts: &mut Parts, v1: &V1) -> Result<Self, V1Error> {
        let name = Path::from_request_parts(parts, v1).await;
        Ok(Self(name.map(|Path(name)| name).unwrap_or_default()))
    }
}

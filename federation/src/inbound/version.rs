//! Who we are and where we are reached.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use super::{OurServer, answer, error::Failure};
use crate::Refusal;

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1version>
pub(crate) async fn version(State(us): State<OurServer>) -> Response {
    let (name, version) = us.software;
    answer::ok(&json!({ "server": { "name": name, "version": version } }))
}

/// Source: <https://spec.matrix.org/v1.19/server-server-api/#getwell-knownmatrixserver>
pub(crate) async fn well_known(State(us): State<OurServer>) -> Response {
    match us.reached_at {
        Some(reached_at) => answer::ok(&json!({ "m.server": reached_at })),
        None => Failure::from(Refusal::NotFound).into_response(),
    }
}

//! Whether the process lives and takes requests. Needs neither token nor tenant.

use axum::{Json, extract::State};
use serde::Serialize;

use super::{error::V1Error, wire::Data};
use crate::api::{ApiState, error::Problem};

#[derive(Serialize)]
pub(super) struct Status {
    status: &'static str,
}

/// `GET /healthz`
pub(super) async fn live() -> Json<Data<Status>> {
    Data::json(Status { status: "ok" })
}

/// `GET /readyz`: not while the server stops, nor while a database takes no writes. A tenant that is not open is no hindrance: it opens at its first request.
pub(super) async fn ready(State(state): State<ApiState>) -> Result<Json<Data<Status>>, V1Error> {
    if state.stopping.is_cancelled() {
        return Err(Problem::busy("not ready: the server is stopping").into());
    }
    match state.tenants.failing().await {
        0 => Ok(Data::json(Status { status: "ok" })),
        failing => {
            let tenants = if failing == 1 { "1 tenant".to_owned() } else { format!("{failing} tenants") };
            Err(Problem::busy(format!("not ready: the database of {tenants} takes no writes; see the log")).into())
        }
    }
}

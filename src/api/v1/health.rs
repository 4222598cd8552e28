//! Whether the process lives and takes requests. Needs neither token nor tenant.

use axum::Json;
use serde::Serialize;

use super::wire::Data;

#[derive(Serialize)]
pub(super) struct Status {
    status: &'static str,
}

/// `GET /healthz`
pub(super) async fn live() -> Json<Data<Status>> {
    Data::json(Status { status: "ok" })
}

/// `GET /readyz`: a server that answers has opened its listeners; tenants open at their first request.
pub(super) async fn ready() -> Json<Data<Status>> {
    Data::json(Status { status: "ok" })
}

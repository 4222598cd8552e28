//! How this dialect words a refusal: `{"error": "text"}`.

use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::{
    actions::ErrorKind,
    api::error::{Problem, ProblemKind},
};

/// A refusal of this dialect.
#[derive(Debug)]
pub(crate) struct RyosError(Problem);

impl<P: Into<Problem>> From<P> for RyosError {
    fn from(problem: P) -> Self {
        Self(problem.into())
    }
}

impl RyosError {
    /// The request cannot be right, for this reason.
    pub(super) fn invalid(message: &str) -> Self {
        Self(Problem::new(ProblemKind::Action(ErrorKind::RequestInvalid), message))
    }
}

#[derive(Serialize)]
struct Body {
    error: String,
}

/// The words of this API, where it has its own.
fn worded(kind: ProblemKind, message: String) -> String {
    match kind {
        ProblemKind::Action(ErrorKind::RoomNotFound) => "Room not found".to_owned(),
        ProblemKind::Action(ErrorKind::InvalidToken | ErrorKind::ExpiredToken) => "Authentication required".to_owned(),
        ProblemKind::Action(ErrorKind::RateLimited) => "Rate limit exceeded".to_owned(),
        ProblemKind::Action(ErrorKind::RoomForbidden | ErrorKind::InsufficientPermission) => {
            format!("Forbidden - {message}")
        }
        _ => message,
    }
}

impl IntoResponse for RyosError {
    fn into_response(self) -> Response {
        let status = self.0.status_without_conflict();
        self.0.answer(status, |Problem { kind, message, .. }| Body { error: worded(kind, message) })
    }
}

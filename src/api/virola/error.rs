//! How this dialect words a refusal: `{"errorText", "httpStatusCode"}`.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::Virola;
use crate::{
    actions::{ActionError, ErrorKind},
    api::error::{Problem, ProblemKind},
};

/// A refusal of this dialect.
#[derive(Debug)]
pub(crate) struct VirolaError {
    problem: Problem,
    text: Option<&'static str>,
}

impl<P: Into<Problem>> From<P> for VirolaError {
    fn from(problem: P) -> Self {
        let problem = problem.into();
        let text = match problem.kind {
            ProblemKind::Action(ErrorKind::InvalidToken | ErrorKind::ExpiredToken) => {
                Some("Wrong Bearer, please renew Web API Access Token")
            }
            _ => None,
        };
        Self { problem, text }
    }
}

impl VirolaError {
    /// A log-in that did not succeed: a wrong name or password has its own text.
    pub(super) fn of_login(problem: impl Into<Problem>) -> Self {
        let Self { problem, text } = Self::from(problem);
        Self { problem, text: text.map(|_| "The username or password is invalid.") }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    error_text: String,
    http_status_code: u16,
}

impl IntoResponse for VirolaError {
    fn into_response(self) -> Response {
        let Self { problem, text } = self;
        let status = problem.status();
        problem.answer(status, |problem| Body {
            error_text: text.map_or(problem.message, str::to_owned),
            http_status_code: status.as_u16(),
        })
    }
}

/// The number of a room in a path, as the text that it is. What is no number names no room.
pub(super) struct RoomNumber(pub(super) u64);

impl FromRequestParts<Virola> for RoomNumber {
    type Rejection = VirolaError;

    async fn from_request_parts(parts: &mut Parts, dialect: &Virola) -> Result<Self, VirolaError> {
        let number = Path::<u64>::from_request_parts(parts, dialect).await.ok();
        number.map(|Path(number)| Self(number)).ok_or_else(|| ActionError::RoomNotFound.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d001_18_a_failure_of_ours_has_the_same_shape() {
        let failed = VirolaError::from(Problem::failed("4k2j")).into_response();
        assert_eq!(failed.status().as_u16(), 500);
        let text = VirolaError::from(Problem::failed("4k2j")).problem.message;
        assert!(text.contains("4k2j") && !text.contains("panicked"), "{text}");
    }
}

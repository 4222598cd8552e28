//! How this dialect words a refusal: `{"error": "text"}`.

use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::{
    actions::{
        ErrorKind,
        mirage_rooms::{Refused, Shut},
    },
    api::error::{Problem, ProblemKind},
};

/// A refusal of this dialect.
#[derive(Debug)]
pub(crate) struct MirageError(Problem);

impl<P: Into<Problem>> From<P> for MirageError {
    fn from(problem: P) -> Self {
        let mut problem = problem.into();
        match problem.kind {
            ProblemKind::Action(ErrorKind::InvalidToken | ErrorKind::ExpiredToken) => {
                "unauthorized".clone_into(&mut problem.message);
            }
            ProblemKind::Action(ErrorKind::RoomNotFound) => "room not found".clone_into(&mut problem.message),
            _ => {}
        }
        Self(problem)
    }
}

impl MirageError {
    /// The request cannot be right, for this reason.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self(Problem::new(ProblemKind::Action(ErrorKind::RequestInvalid), message))
    }

    /// The caller may not.
    pub(super) fn forbidden(message: &str) -> Self {
        Self(Problem::new(ProblemKind::Action(ErrorKind::RoomForbidden), message))
    }

    /// There is nothing of that name.
    pub(super) fn missing(message: &str) -> Self {
        Self(Problem::new(ProblemKind::Action(ErrorKind::NotFound), message))
    }

    /// The same status, with this text where the body of the request was wrong.
    pub(super) fn worded(self, message: &str) -> Self {
        match self.0.kind {
            ProblemKind::Action(ErrorKind::RequestInvalid) => Self::invalid(message),
            _ => self,
        }
    }

    /// Whoever asks is not in the room, or there is none.
    pub(super) fn means_not_inside(&self) -> bool {
        matches!(self.0.kind, ProblemKind::Action(ErrorKind::RoomNotFound))
            || self.0.reason == Some(rules::permission::Reason::Membership.as_str())
    }
}

impl From<Refused> for MirageError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NameTaken => Self::invalid("room already exists"),
            Refused::TooManyPublic(max) => Self::invalid(format!(
                "maximum number of public rooms reached ({max}). Please create a private room to continue the conversation with the people you would like to"
            )),
            Refused::Other(error) => Self::from(error).worded("invalid fields received"),
        }
    }
}

impl From<Shut> for MirageError {
    fn from(shut: Shut) -> Self {
        match shut {
            Shut::PasswordRequired => Self::forbidden("password required"),
            Shut::WrongPassword => Self::forbidden("wrong password"),
            Shut::Other(error) => error.into(),
        }
    }
}

#[derive(Serialize)]
struct Body {
    error: String,
}

impl IntoResponse for MirageError {
    fn into_response(self) -> Response {
        let status = self.0.status_without_conflict();
        self.0.answer(status, |problem| Body { error: problem.message })
    }
}

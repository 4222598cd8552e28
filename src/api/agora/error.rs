//! How this dialect words a refusal: `{"error", "error_description"}` in the envelope of all answers.

use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::{
    actions::{ActionError, ErrorKind},
    api::error::{Problem, ProblemKind},
};

/// A refusal of this dialect.
#[derive(Debug)]
pub(crate) struct AgoraError {
    problem: Problem,
    error: &'static str,
}

impl<P: Into<Problem>> From<P> for AgoraError {
    fn from(problem: P) -> Self {
        let problem = problem.into();
        let error = word(problem.kind);
        Self { problem, error }
    }
}

impl AgoraError {
    /// No tenant has the pair of names in the path.
    pub(super) fn no_application() -> Self {
        let problem = Problem::new(ProblemKind::RouteNotFound, "there is no application of this organization and name");
        Self { problem, error: "organization_application_not_found" }
    }

    /// The request brings no token.
    pub(super) fn no_token() -> Self {
        let missing = ActionError::InvalidToken("this needs an app token: `Authorization: Bearer TOKEN`".to_owned());
        Self { problem: missing.into(), error: "unauthorized" }
    }

    /// The body is what was wrong: it is no JSON object.
    pub(super) fn of_body(self) -> Self {
        match self.problem.kind {
            ProblemKind::Action(ErrorKind::RequestInvalid) => Self { error: "json_parse", ..self },
            _ => self,
        }
    }

    /// It was not done because of whom it was about, and may be done to others.
    pub(super) fn is_about_one(&self) -> bool {
        matches!(self.problem.kind, ProblemKind::Action(ErrorKind::RoomForbidden | ErrorKind::ParticipantNotFound))
    }

    /// Why it was not done, where the answer tells it of some of several.
    pub(super) fn told(self) -> String {
        if let Some(cause) = self.problem.cause {
            tracing::error!(%cause, "done to some, and then it failed");
        }
        self.problem.message
    }
}

fn word(kind: ProblemKind) -> &'static str {
    let kind = match kind {
        ProblemKind::Action(kind) => kind,
        ProblemKind::RouteNotFound => return "resource_not_found",
        ProblemKind::MethodNotAllowed => return "method_not_allowed",
        ProblemKind::ContentType => return "unsupported_media_type",
        ProblemKind::SlowBody => return "request_timeout",
        ProblemKind::Range => return "illegal_argument",
    };
    match kind {
        ErrorKind::RoomNotFound
        | ErrorKind::ParticipantNotFound
        | ErrorKind::EventNotFound
        | ErrorKind::WorkspaceNotFound
        | ErrorKind::MediaNotFound
        | ErrorKind::NotFound => "service_resource_not_found",
        ErrorKind::RoomForbidden
        | ErrorKind::RoomFrozen
        | ErrorKind::RedactForbidden
        | ErrorKind::WorkspaceForbidden
        | ErrorKind::InsufficientPermission
        | ErrorKind::FederationDisabled
        | ErrorKind::NameTaken
        | ErrorKind::IdempotencyMismatch => "forbidden_op",
        ErrorKind::RoomCapacity | ErrorKind::TenantCapacity => "exceed_limit",
        ErrorKind::RequestInvalid | ErrorKind::TypeInvariant | ErrorKind::ExportRefused | ErrorKind::ImportRefused => {
            "illegal_argument"
        }
        ErrorKind::InvalidToken | ErrorKind::ExpiredToken => "auth_bad_access_token",
        ErrorKind::UnsupportedMedia => "unsupported_media_type",
        ErrorKind::ContentTooLarge => "request_entity_too_large",
        ErrorKind::RateLimited => "reach_limit",
        ErrorKind::Busy => "service_unavailable",
        ErrorKind::PeerUnreachable | ErrorKind::PeerRefused => "bad_gateway",
        ErrorKind::Internal => "internal_server_error",
    }
}

#[derive(Serialize)]
struct Body {
    error: &'static str,
    error_description: String,
}

impl IntoResponse for AgoraError {
    fn into_response(self) -> Response {
        let Self { problem, error } = self;
        let status = problem.status_without_conflict();
        problem.answer(status, |problem| Body { error, error_description: problem.message })
    }
}

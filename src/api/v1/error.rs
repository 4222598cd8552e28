//! How this dialect words a refusal: `{"error": {"code", "message", "reason"?, "errcode"?}}`.

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{
    actions::ErrorKind,
    api::error::{Problem, ProblemKind},
};

/// A refusal of this dialect.
#[derive(Debug)]
pub(crate) struct V1Error(Problem);

impl<P: Into<Problem>> From<P> for V1Error {
    fn from(problem: P) -> Self {
        Self(problem.into())
    }
}

#[derive(Serialize)]
struct Body {
    error: Inner,
}

#[derive(Serialize)]
struct Inner {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errcode: Option<&'static str>,
}

impl IntoResponse for V1Error {
    fn into_response(self) -> Response {
        let (status, is_unauthenticated) = (self.0.status(), self.0.is_unauthenticated());
        let mut response = self.0.answer(status, |Problem { kind, message, reason, errcode, .. }| Body {
            error: Inner { code: code(kind), message, reason, errcode },
        });
        if is_unauthenticated {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The stable code of a kind of error.
fn code(kind: ProblemKind) -> &'static str {
    let kind = match kind {
        ProblemKind::Action(kind) => kind,
        ProblemKind::RouteNotFound => return "SW_ROUTE_NOT_FOUND",
        ProblemKind::MethodNotAllowed => return "SW_METHOD_NOT_ALLOWED",
        ProblemKind::ContentType | ProblemKind::SlowBody | ProblemKind::Range => return "SW_REQUEST_INVALID",
    };
    match kind {
        ErrorKind::RoomNotFound => "SW_ROOM_NOT_FOUND",
        ErrorKind::RoomForbidden => "SW_ROOM_FORBIDDEN",
        ErrorKind::RoomFrozen => "SW_ROOM_FROZEN",
        ErrorKind::RoomCapacity => "SW_ROOM_CAPACITY",
        ErrorKind::TypeInvariant => "SW_ROOM_TYPE_INVARIANT",
        ErrorKind::ExportRefused => "SW_ROOM_EXPORT_REFUSED",
        ErrorKind::ImportRefused => "SW_ROOM_IMPORT_REFUSED",
        ErrorKind::EventNotFound => "SW_EVENT_NOT_FOUND",
        ErrorKind::RedactForbidden => "SW_REDACT_FORBIDDEN",
        ErrorKind::WorkspaceNotFound => "SW_WORKSPACE_NOT_FOUND",
        ErrorKind::WorkspaceForbidden => "SW_WORKSPACE_FORBIDDEN",
        ErrorKind::MediaNotFound => "SW_MEDIA_NOT_FOUND",
        ErrorKind::ParticipantNotFound => "SW_PARTICIPANT_NOT_FOUND",
        ErrorKind::NotFound => "SW_NOT_FOUND",
        ErrorKind::TenantCapacity => "SW_TENANT_CAPACITY",
        ErrorKind::InvalidToken => "SW_AUTH_INVALID_TOKEN",
        ErrorKind::ExpiredToken => "SW_AUTH_EXPIRED_TOKEN",
        ErrorKind::InsufficientPermission => "SW_AUTH_INSUFFICIENT_PERMISSION",
        ErrorKind::RequestInvalid | ErrorKind::UnsupportedMedia => "SW_REQUEST_INVALID",
        ErrorKind::ContentTooLarge => "SW_CONTENT_TOO_LARGE",
        ErrorKind::RateLimited => "SW_RATE_LIMIT_EXCEEDED",
        ErrorKind::FederationDisabled => "SW_FED_DISABLED",
        ErrorKind::PeerUnreachable => "SW_FED_PEER_UNREACHABLE",
        ErrorKind::PeerRefused => "SW_FED_PEER_REFUSED",
        ErrorKind::NameTaken => "SW_NAME_TAKEN",
        ErrorKind::IdempotencyMismatch => "SW_IDEMPOTENCY_MISMATCH",
        ErrorKind::Busy => "SW_BUSY",
        ErrorKind::Internal => "SW_INTERNAL",
    }
}

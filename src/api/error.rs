//! From kinds of errors to HTTP statuses: the only place that names a status of the 400s and 500s. Each dialect renders its own body.

use std::{any::Any, time::Duration};

use axum::{
    Json,
    extract::rejection::{BytesRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;

use crate::actions::{ActionError, ErrorKind, peers::Errcode};

/// A request that was not done, before a dialect gives it a body.
#[derive(Debug)]
pub(crate) struct Problem {
    /// What it means.
    pub(crate) kind: ProblemKind,
    /// For a person.
    pub(crate) message: String,
    /// The word of `/permissions` for it.
    pub(crate) reason: Option<&'static str>,
    /// The code that another server gave.
    pub(crate) errcode: Option<&'static str>,
    /// When a repeat may work.
    pub(crate) retry_after: Option<Duration>,
    /// What went wrong inside, for the log only.
    pub(crate) cause: Option<String>,
}

/// Put into an answer that tells of a failure of ours: what went wrong inside. It is logged with the request's id, which the answer names.
#[derive(Clone)]
pub(crate) struct Failure(pub(crate) String);

/// What a refused request means: an action's error, or one of HTTP itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProblemKind {
    /// The action refused.
    Action(ErrorKind),
    /// No such path, or no tenant of that host.
    RouteNotFound,
    /// The path exists, with other methods.
    MethodNotAllowed,
    /// The body is no JSON by its own account.
    ContentType,
    /// The body did not arrive in time.
    SlowBody,
    /// The part that is asked for lies behind the end.
    Range,
}

/// How long a caller waits who found the server busy.
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Characters of a message that tells a caller what was wrong with what they sent.
const MESSAGE_CHARACTERS_MAX: usize = 1_000;

impl Problem {
    /// A problem of HTTP itself.
    pub(crate) fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), reason: None, errcode: None, retry_after: None, cause: None }
    }

    /// The server cannot do it now.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        let kind = ProblemKind::Action(ErrorKind::Busy);
        Self { retry_after: Some(BUSY_RETRY_AFTER), ..Self::new(kind, message) }
    }

    /// A call took too long. What it began goes on.
    pub(crate) fn took_too_long() -> Self {
        Self::busy("this took too long; what was begun may still be done, so look before you try again")
    }

    /// The body of a request did not arrive in time.
    pub(crate) fn slow_body() -> Self {
        Self::new(ProblemKind::SlowBody, "the body did not arrive in time; send the request again")
    }

    /// A request failed inside.
    pub(crate) fn failed(request_id: &str) -> Self {
        let kind = ProblemKind::Action(ErrorKind::Internal);
        Self::new(kind, format!("something went wrong on this server; its log says what, under the id {request_id}"))
    }

    /// A handler broke.
    pub(crate) fn panicked(cause: Box<dyn Any + Send>) -> Self {
        let text = cause.downcast::<String>().map(|text| *text);
        let text = text.or_else(|cause| cause.downcast::<&str>().map(|text| (*text).to_owned()));
        ActionError::Internal(format!("a handler panicked: {}", text.unwrap_or_default())).into()
    }

    /// When a repeat may work, as `Retry-After` says it: whole seconds, at least one.
    fn retry_after_header(&self) -> Option<HeaderValue> {
        let seconds = self.retry_after?.as_secs_f64().ceil().max(1.0);
        HeaderValue::from_str(&format!("{seconds:.0}")).ok()
    }

    /// The answer with this status, and with the body that a dialect makes of the problem. What stands beside the body is the same in all.
    pub(crate) fn answer<B: Serialize>(mut self, status: StatusCode, body: impl FnOnce(Self) -> B) -> Response {
        let (kind, cause, retry_after) = (self.kind, self.cause.take(), self.retry_after_header());
        let mut response = (status, Json(body(self))).into_response();
        if let Some(cause) = cause {
            response.extensions_mut().insert(Failure(cause));
        }
        if kind == ProblemKind::SlowBody {
            // The rest of the body may still be on its way: what follows it cannot be waited for.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }

    /// The caller has to say who they are.
    pub(crate) fn is_unauthenticated(&self) -> bool {
        self.status() == StatusCode::UNAUTHORIZED
    }

    /// The status of the answer where the API knows no conflicts: they are forbidden there.
    pub(crate) fn status_without_conflict(&self) -> StatusCode {
        match self.status() {
            StatusCode::CONFLICT => StatusCode::FORBIDDEN,
            status => status,
        }
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self.kind {
            ProblemKind::RouteNotFound => StatusCode::NOT_FOUND,
            ProblemKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ProblemKind::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ProblemKind::SlowBody => StatusCode::REQUEST_TIMEOUT,
            ProblemKind::Range => StatusCode::RANGE_NOT_SATISFIABLE,
            ProblemKind::Action(kind) => status(kind),
        }
    }
}

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::RoomNotFound
        | ErrorKind::EventNotFound
        | ErrorKind::WorkspaceNotFound
        | ErrorKind::MediaNotFound
        | ErrorKind::ParticipantNotFound
        | ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::RoomForbidden
        | ErrorKind::RedactForbidden
        | ErrorKind::WorkspaceForbidden
        | ErrorKind::InsufficientPermission => StatusCode::FORBIDDEN,
        ErrorKind::RoomFrozen
        | ErrorKind::RoomCapacity
        | ErrorKind::TenantCapacity
        | ErrorKind::FederationDisabled
        | ErrorKind::NameTaken
        | ErrorKind::IdempotencyMismatch => StatusCode::CONFLICT,
        ErrorKind::TypeInvariant | ErrorKind::ExportRefused | ErrorKind::ImportRefused | ErrorKind::RequestInvalid => {
            StatusCode::BAD_REQUEST
        }
        ErrorKind::InvalidToken | ErrorKind::ExpiredToken => StatusCode::UNAUTHORIZED,
        ErrorKind::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorKind::ContentTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::PeerUnreachable | ErrorKind::PeerRefused => StatusCode::BAD_GATEWAY,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An answer that may be given again to a repeat of the request: not one that may be another one later without anybody doing anything wrong, nor one that tells
/// what is wrong with the request besides its address and its body, which are all that a repeat is known by.
pub(crate) fn is_lasting(status: StatusCode) -> bool {
    let passing = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::UNAUTHORIZED,
        StatusCode::NOT_FOUND,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
    ];
    !status.is_server_error() && !passing.contains(&status)
}

impl From<ActionError> for Problem {
    fn from(error: ActionError) -> Self {
        let kind = error.kind();
        let retry_after = match &error {
            ActionError::RateLimited { retry_after } => Some(*retry_after),
            ActionError::Busy | ActionError::NotWritten(_) | ActionError::Underway { .. } => Some(BUSY_RETRY_AFTER),
            _ => None,
        };
        let (message, cause) = match kind {
            ErrorKind::Internal => ("something went wrong on this server".to_owned(), Some(error.to_string())),
            _ => (shortened(error.to_string()), None),
        };
        let reason = error.reason().map(|reason| reason.as_str());
        let errcode = match &error {
            ActionError::PeerRefused { errcode, .. } => errcode.map(Errcode::as_str),
            _ => None,
        };
        Self { kind: ProblemKind::Action(kind), message, reason, errcode, retry_after, cause }
    }
}

/// What a caller sent may stand in a message, and may be of any length.
fn shortened(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARACTERS_MAX) {
        message.truncate(end);
        message.push('…');
    }
    message
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return ActionError::ContentTooLarge("the body is larger than this server takes".to_owned()).into();
        }
        ActionError::invalid("body", rejection.body_text()).into()
    }
}

/// What Rust says of a text that is no number, as people say it.
fn in_our_words(problem: &str) -> &str {
    let is_of_numbers = ["invalid digit", "number too", "cannot parse integer"];
    if is_of_numbers.iter().any(|words| problem.starts_with(words)) {
        "must be a whole number in range"
    } else {
        problem
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        let text = rejection.body_text();
        let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text).to_owned();
        let (field, problem) = match text.split_once(": ") {
            Some((field, problem)) => (field.to_owned(), in_our_words(problem).to_owned()),
            None => ("query".to_owned(), text),
        };
        ActionError::RequestInvalid { field, problem }.into()
    }
}

//! Refusals as peers see them: the only place that gives them a status and an error code.
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#api-standards>

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use ruma::RoomVersionId;
use serde_json::{Map, Value};

use super::{answer, json::ParseError};
use crate::{Refusal, StorageUnavailable, quotas::TooMany};

/// Why a request fails. Its text never holds what the peer sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("unknown request")]
    UnknownPath,
    #[error("unknown method for this request")]
    UnknownMethod,
    #[error("{0}")]
    Unauthorized(&'static str),
    #[error("this server does not talk to yours")]
    NotAdmitted,
    #[error("{0}")]
    NotJson(&'static str),
    #[error("{0}")]
    BadJson(&'static str),
    #[error("missing: {0}")]
    Missing(&'static str),
    #[error("{0}")]
    TooLarge(&'static str),
    #[error("the body is to be JSON, not compressed")]
    MediaType,
    #[error("the body took too long to arrive")]
    TooSlow,
    #[error("{0}")]
    TooMany(#[from] TooMany),
}

impl From<StorageUnavailable> for Failure {
    fn from(_logged_by_the_server: StorageUnavailable) -> Self {
        Self::Refused(Refusal::Unavailable)
    }
}

impl From<ParseError> for Failure {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::Syntax => Self::NotJson("the body is not JSON"),
            ParseError::Twice => Self::NotJson("the body has an object with a key twice"),
            ParseError::NotAnObject => Self::BadJson("the body is not an object"),
            ParseError::TooDeep => Self::BadJson("the body is nested too deeply"),
            ParseError::TooLarge => Self::TooLarge("the body has too many values"),
        }
    }
}

impl Failure {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Refused(refusal) => match refusal {
                Refusal::NotFound => (StatusCode::NOT_FOUND, "M_NOT_FOUND"),
                Refusal::Forbidden => (StatusCode::FORBIDDEN, "M_FORBIDDEN"),
                Refusal::Invalid(_) => (StatusCode::BAD_REQUEST, "M_INVALID_PARAM"),
                Refusal::IncompatibleRoomVersion(_) => (StatusCode::BAD_REQUEST, "M_INCOMPATIBLE_ROOM_VERSION"),
                Refusal::UnableToAuthoriseJoin => (StatusCode::BAD_REQUEST, "M_UNABLE_TO_AUTHORISE_JOIN"),
                Refusal::UnableToGrantJoin => (StatusCode::BAD_REQUEST, "M_UNABLE_TO_GRANT_JOIN"),
                Refusal::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN"),
            },
            Self::UnknownPath => (StatusCode::NOT_FOUND, "M_UNRECOGNIZED"),
            Self::UnknownMethod => (StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED"),
            Self::Unauthorized(_) => (StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED"),
            Self::NotAdmitted => (StatusCode::FORBIDDEN, "M_FORBIDDEN"),
            Self::NotJson(_) => (StatusCode::BAD_REQUEST, "M_NOT_JSON"),
            Self::BadJson(_) => (StatusCode::BAD_REQUEST, "M_BAD_JSON"),
            Self::Missing(_) => (StatusCode::BAD_REQUEST, "M_MISSING_PARAM"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE"),
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "M_NOT_JSON"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN"),
            Self::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED"),
        }
    }

    fn room_version(&self) -> Option<&RoomVersionId> {
        match self {
            Self::Refused(Refusal::IncompatibleRoomVersion(version)) => Some(version),
            _ => None,
        }
    }

    /// When the peer may try again, for those failures that pass.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooMany(too_many) => Some(too_many.retry_after),
            Self::Refused(Refusal::Unavailable) => Some(Duration::from_secs(5)),
            _ => None,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        let mut body =
            Map::from_iter([("errcode".to_owned(), code.into()), ("error".to_owned(), self.to_string().into())]);
        if let Some(version) = self.room_version() {
            body.insert("room_version".to_owned(), version.as_str().into());
        }
        let retry_after = self.retry_after();
        if let (Some(after), StatusCode::TOO_MANY_REQUESTS) = (retry_after, status) {
            body.insert("retry_after_ms".to_owned(), u64::try_from(after.as_millis()).unwrap_or(u64::MAX).into());
        }
        let mut response = answer::json(status, &Value::Object(body));
        if let Some(after) = retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    /// S2S 2 errors and 429.
    #[tokio::test]
    async fn every_refusal_has_its_status_and_code() {
        let cases = [
            (Refusal::NotFound, 404, "M_NOT_FOUND"),
            (Refusal::Forbidden, 403, "M_FORBIDDEN"),
            (Refusal::Invalid("x"), 400, "M_INVALID_PARAM"),
            (Refusal::IncompatibleRoomVersion(RoomVersionId::V11), 400, "M_INCOMPATIBLE_ROOM_VERSION"),
            (Refusal::UnableToAuthoriseJoin, 400, "M_UNABLE_TO_AUTHORISE_JOIN"),
            (Refusal::UnableToGrantJoin, 400, "M_UNABLE_TO_GRANT_JOIN"),
            (Refusal::Unavailable, 503, "M_UNKNOWN"),
        ];
        for (refusal, status, code) in cases {
            let version = matches!(refusal, Refusal::IncompatibleRoomVersion(_));
            let response = Failure::from(refusal).into_response();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()["content-type"], "application/json");
            let body: Value =
                serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
            assert_eq!(body["errcode"], code);
            assert!(body["error"].is_string());
            assert_eq!(body.get("room_version").is_some(), version);
        }
    }

    /// S2S 2 errors and 429.
    #[tokio::test]
    async fn who_asks_too_much_is_told_when_to_come_back() {
        let failure = Failure::from(TooMany { retry_after: Duration::from_millis(1500) });
        let response = failure.into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "2");
        let body: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!(body["errcode"], "M_LIMIT_EXCEEDED");
        assert_eq!(body["retry_after_ms"], 1500);
    }
}

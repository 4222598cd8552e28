//! Bodies of requests: strict JSON, of bounded size. Unknown fields and wrong types are named.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Query, Request, State},
    http::{
        HeaderMap,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
        request::Parts,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use sha2::{Digest, Sha256};

use super::{
    Dialect,
    error::{Problem, ProblemKind},
};
use crate::actions::{ActionError, texts::REASON_CHARACTERS_MAX};

/// A JSON body.
pub(crate) struct Json<T> {
    /// What it says.
    pub(crate) value: T,
    /// SHA-256 of its bytes.
    pub(crate) fingerprint: [u8; 32],
}

/// A JSON body that may be missing: then every field has its default.
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<D: Dialect, T: DeserializeOwned> FromRequest<D> for Json<T> {
    type Rejection = D::Refusal;

    async fn from_request(request: Request, dialect: &D) -> Result<Self, D::Refusal> {
        let is_json = says_json(request.headers());
        let bytes = Bytes::from_request(request, dialect).await.map_err(Problem::from)?;
        if !is_json {
            return Err(wrong_type().into());
        }
        Ok(Self { value: read(&bytes)?, fingerprint: Sha256::digest(&bytes).into() })
    }
}

impl<D: Dialect, T: DeserializeOwned + Default> FromRequest<D> for OptionalJson<T> {
    type Rejection = D::Refusal;

    async fn from_request(request: Request, dialect: &D) -> Result<Self, D::Refusal> {
        let is_json = says_json(request.headers());
        let bytes = Bytes::from_request(request, dialect).await.map_err(Problem::from)?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        if !is_json {
            return Err(wrong_type().into());
        }
        Ok(Self(read(&bytes)?))
    }
}

/// Refuses a body that is announced too large, before any of it is read.
pub(crate) async fn refuse_announced<D: Dialect>(
    State(bytes_max): State<usize>,
    request: Request,
    next: Next,
) -> Response {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let is_over = announced.is_some_and(|announced: u64| u64::try_from(bytes_max).is_ok_and(|max| announced > max));
    if is_over && !D::takes_a_file(&request) {
        return D::Refusal::from(too_large().into()).into_response();
    }
    next.run(request).await
}

fn too_large() -> ActionError {
    ActionError::ContentTooLarge("the body is larger than this server takes".to_owned())
}

/// Tells a field that is null from one that is missing.
///
/// # Errors
/// As the reader of the field.
pub(crate) fn present<'de, T, D>(reader: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(reader).map(Some)
}

/// The query of a request; unknown parameters and wrong values are named.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<D: Dialect, T: DeserializeOwned> FromRequestParts<D> for Parameters<T> {
    type Rejection = D::Refusal;

    async fn from_request_parts(parts: &mut Parts, dialect: &D) -> Result<Self, D::Refusal> {
        let Query(value) = Query::from_request_parts(parts, dialect).await.map_err(Problem::from)?;
        Ok(Self(value))
    }
}

fn wrong_type() -> Problem {
    Problem::new(ProblemKind::ContentType, "send the body as JSON, with the header `Content-Type: application/json`")
}

fn says_json(headers: &HeaderMap) -> bool {
    let Some(Ok(content_type)) = headers.get(CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// Reads strict JSON: one object.
///
/// # Errors
/// What is not, naming the field.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if matches!(first, Some(first) if *first != b'{') {
        return Err(ActionError::invalid("body", "must be a JSON object").into());
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value: T = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let problem = error.into_inner();
        let field = if path == "." { named_in(&problem.to_string()).unwrap_or("body".to_owned()) } else { path };
        Problem::from(ActionError::RequestInvalid { field, problem: problem.to_string() })
    })?;
    reader.end().map_err(|error| Problem::from(ActionError::invalid("body", error.to_string())))?;
    Ok(value)
}

/// A reason, which may be left out: its length is checked with the body, also where nothing is left to do.
pub(crate) fn reason<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<String>, D::Error> {
    let reason = Option::<String>::deserialize(reader)?;
    let is_short = |reason: &String| reason.chars().count() <= REASON_CHARACTERS_MAX;
    if reason.as_ref().is_none_or(is_short) {
        return Ok(reason);
    }
    Err(D::Error::custom(format!("at most {REASON_CHARACTERS_MAX} characters")))
}

/// The field that serde names in its message.
fn named_in(problem: &str) -> Option<String> {
    let rest = problem.strip_prefix("missing field `").or_else(|| problem.strip_prefix("unknown field `"))?;
    rest.split_once('`').map(|(field, _)| field.to_owned())
}

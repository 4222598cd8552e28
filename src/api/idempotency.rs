//! `Idempotency-Key`: a repeated request gets the first answer. Works around whole handlers, whatever dialect they are of.

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{FromRequest, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use sha2::{Digest, Sha256};

use super::{
    Dialect,
    caller::{self, Checked},
    error,
    error::Problem,
};
use crate::actions::{
    ActionError, StoredAnswer,
    caller::RequestKey,
    requests::{self, Turn},
};

/// The header.
const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Characters of a key.
const KEY_CHARACTERS_MAX: usize = 255;
/// Bytes of an answer that is kept; a larger one is given, and made again by a repeat.
const ANSWER_BYTES_MAX: usize = 90 * 1024;

/// Calls whose answers hold secrets: nothing of them is kept, and the key is ignored.
const SECRETS: [&str; 4] = ["/api/v1/login", "/v1/auth/", "/v1/admin/app-tokens", "/v1/admin/registration-tokens"];

/// Put into a response: nothing durable may name what it is about.
#[derive(Clone, Copy)]
pub(crate) struct InMemoryOnly;

/// Gives a repeat its first answer, and keeps the answer of what is not a repeat.
pub(crate) async fn layer<D: Dialect>(State(dialect): State<D>, request: Request, next: Next) -> Response {
    let is_mutating = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let holds_secrets = SECRETS.iter().any(|path| request.uri().path().starts_with(path));
    let Some(key) =
        request.headers().get(HEADER).filter(|_| is_mutating && !holds_secrets && !D::takes_a_file(&request)).cloned()
    else {
        return next.run(request).await;
    };
    match answered(&dialect, request, &key, next).await {
        Ok(response) => response,
        Err(problem) => D::Refusal::from(problem).into_response(),
    }
}

async fn answered<D: Dialect>(
    dialect: &D,
    request: Request,
    key: &HeaderValue,
    next: Next,
) -> Result<Response, Problem> {
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= KEY_CHARACTERS_MAX);
    let wrong = || ActionError::invalid("Idempotency-Key", format!("1 to {KEY_CHARACTERS_MAX} ASCII characters"));
    let key = key.ok_or_else(wrong)?.to_owned();
    let (parts, body) = request.into_parts();
    let (actions, caller) = caller::of_request(&parts, dialect).await?;
    let rebuilt = |body: Body| Request::from_parts(parts.clone(), body);
    let bytes = Bytes::from_request(rebuilt(body), dialect).await?;
    let named = format!("{} {} {key}", parts.method, parts.uri.path());
    // The key stands in no row: with it in the hash, nobody who reads the rows can guess a password that a body held. A query changes what a call does, as
    // `?dry_run=true` does: with another one it is another request.
    let query = parts.uri.query().unwrap_or_default();
    let fingerprint = [key.as_bytes(), &[0], query.as_bytes(), &[0], &bytes].concat();
    let request_key =
        RequestKey { key: BASE64.encode(Sha256::digest(named)), fingerprint: Sha256::digest(fingerprint).into() };
    let _gate = match requests::turn(&actions, &caller.user_id, &request_key).await? {
        Turn::Answered(answer) => return replay(answer),
        Turn::Now(gate) => gate,
    };
    let mut names_incognito = false;
    for part in parts.uri.path().split('/') {
        let decoded = percent_encoding::percent_decode_str(part).decode_utf8_lossy();
        names_incognito |= actions.is_incognito(&decoded).await?;
    }
    let mut request = rebuilt(Body::from(bytes));
    request.extensions_mut().insert(request_key.clone());
    request.extensions_mut().insert(Checked(actions.clone(), caller.clone()));
    let response = next.run(request).await;
    if !error::is_lasting(response.status()) {
        return Ok(response);
    }
    let in_memory = names_incognito || response.extensions().get::<InMemoryOnly>().is_some();
    let (head, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(ActionError::internal)?;
    let response = Response::from_parts(head, Body::from(body.clone()));
    if body.len() > ANSWER_BYTES_MAX {
        return Ok(response);
    }
    let answer = StoredAnswer {
        fingerprint: request_key.fingerprint,
        status: response.status().as_u16(),
        body: String::from_utf8_lossy(&body).into_owned(),
        at: actions.now(),
    };
    requests::keep(&actions, &caller.user_id, &request_key, answer, in_memory).await?;
    Ok(response)
}

fn replay(answer: StoredAnswer) -> Result<Response, Problem> {
    let status = StatusCode::from_u16(answer.status).map_err(ActionError::internal)?;
    let json = HeaderValue::from_static("application/json");
    Ok((status, [(header::CONTENT_TYPE, json)], answer.body).into_response())
}

//! What stands around every answer of this dialect: what was asked for, of whom, and when. A handler says the rest.

use axum::{
    body::{Body, to_bytes},
    extract::{OriginalUri, Request, State},
    http::{HeaderValue, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use rules::UnixMs;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Agora, app, error::AgoraError};
use crate::{
    actions::ActionError,
    api::{ApiState, caller},
};

/// What every answer begins with.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    action: String,
    application: String,
    application_name: String,
    organization: String,
    uri: String,
    path: String,
    timestamp: u64,
    duration: u64,
}

impl Envelope {
    fn of(parts: &Parts, state: &ApiState) -> Self {
        let (org, app, rest) = app::split(parts.uri.path());
        let asked = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |OriginalUri(uri)| uri);
        let origin = caller::own_origin(parts, state).unwrap_or_default();
        Self {
            action: parts.method.as_str().to_ascii_lowercase(),
            application: id_of(org, app),
            application_name: app.to_owned(),
            organization: org.to_owned(),
            uri: format!("{origin}{}", asked.path()),
            path: rest.to_owned(),
            timestamp: 0,
            duration: 0,
        }
    }
}

/// An id for a pair of names, the same one every time, in the form of a UUID.
fn id_of(org: &str, app: &str) -> String {
    let hash = Sha256::digest(format!("{org}/{app}"));
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

/// Has a request answered, and puts the answer into its envelope.
pub(super) async fn layer(State(Agora(state)): State<Agora>, request: Request, next: Next) -> Response {
    let started = state.tenants.now();
    let (mut parts, body) = request.into_parts();
    // This API knows no such keys, and the answers of an app token are nobody's to be kept.
    parts.headers.remove("idempotency-key");
    let envelope = Envelope::of(&parts, &state);
    let response = next.run(Request::from_parts(parts, body)).await;
    let now = state.tenants.now();
    let UnixMs(timestamp) = now;
    let envelope = Envelope { timestamp, duration: timestamp.saturating_sub(started.0), ..envelope };
    match wrapped(envelope, response).await {
        Ok(response) => response,
        Err(error) => AgoraError::from(error).into_response(),
    }
}

/// The answer with the envelope before its own fields. What is no JSON stays as it is.
async fn wrapped(envelope: Envelope, response: Response) -> Result<Response, ActionError> {
    let json = HeaderValue::from_static("application/json");
    if response.headers().get(header::CONTENT_TYPE) != Some(&json) {
        return Ok(response);
    }
    let (mut head, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(ActionError::internal)?;
    let Some(fields) = body.strip_prefix(b"{") else { return Ok(Response::from_parts(head, Body::from(body))) };
    let mut whole = serde_json::to_vec(&envelope).map_err(ActionError::internal)?;
    whole.pop();
    if fields != b"}" {
        whole.push(b',');
    }
    whole.extend_from_slice(fields);
    head.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(head, Body::from(whole)))
}

#[cfg(test)]
mod tests {
    use axum::Json;
    use serde_json::{Value, json};

    use super::*;

    #[tokio::test]
    async fn an_answer_keeps_its_fields_in_the_envelope() {
        for inner in [json!({}), json!({"data": [1, 2]}), json!({"error": "x", "error_description": "}"})] {
            let request = Request::builder().uri("/a/b/chatrooms").body(()).unwrap();
            let (org, app, path) = app::split(request.uri().path());
            let envelope = Envelope {
                action: "get".to_owned(),
                application: id_of(org, app),
                application_name: app.to_owned(),
                organization: org.to_owned(),
                uri: String::new(),
                path: path.to_owned(),
                timestamp: 5,
                duration: 1,
            };
            let response = wrapped(envelope, Json(inner.clone()).into_response()).await.unwrap();
            let body: Value =
                serde_json::from_slice(&to_bytes(response.into_body(), usize::MAX).await.unwrap()).unwrap();
            for (name, value) in inner.as_object().unwrap() {
                assert_eq!(&body[name], value);
            }
            assert_eq!(
                (&body["organization"], &body["applicationName"], &body["timestamp"]),
                (&json!("a"), &json!("b"), &json!(5))
            );
        }
    }

    #[test]
    fn an_application_has_one_id_in_the_form_of_a_uuid() {
        let id = id_of("a", "b");
        assert_eq!(id, id_of("a", "b"));
        assert_ne!(id, id_of("a", "c"));
        assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    }
}

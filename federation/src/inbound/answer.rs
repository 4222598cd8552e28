//! Answers: JSON, and large lists of events written piece by piece.

use std::{convert::Infallible, fmt::Display, mem};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use ruma::OwnedEventId;
use serde::Serialize;

use crate::{Pdu, limits::ANSWER_PIECE_BYTES};

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A small answer.
pub(crate) fn json(status: StatusCode, value: &(impl Serialize + ?Sized)) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => (status, [(CONTENT_TYPE, JSON)], bytes).into_response(),
        Err(_not_a_json_value) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A small answer to a request that was granted.
pub(crate) fn ok(value: &(impl Serialize + ?Sized)) -> Response {
    json(StatusCode::OK, value)
}

/// An object that may be large. It is written while it is sent.
#[derive(Default)]
pub(crate) struct LargeObject {
    members: Vec<(&'static str, Member)>,
}

enum Member {
    Value(String),
    Pdus(Vec<Pdu>),
    Ids(Vec<OwnedEventId>),
}

impl LargeObject {
    /// A small member.
    pub(crate) fn value(mut self, name: &'static str, value: &impl Serialize) -> Self {
        if let Ok(text) = serde_json::to_string(value) {
            self.members.push((name, Member::Value(text)));
        }
        self
    }

    pub(crate) fn pdus(mut self, name: &'static str, pdus: Vec<Pdu>) -> Self {
        self.members.push((name, Member::Pdus(pdus)));
        self
    }

    pub(crate) fn ids(mut self, name: &'static str, ids: Vec<OwnedEventId>) -> Self {
        self.members.push((name, Member::Ids(ids)));
        self
    }

    /// The texts that make up the object, in order.
    fn texts(self) -> impl Iterator<Item = String> + Send {
        let members = self.members.into_iter().enumerate().flat_map(|(index, (name, member))| {
            let comma = if index == 0 { "" } else { "," };
            let head = format!("{comma}\"{name}\":");
            let values: Box<dyn Iterator<Item = String> + Send> = match member {
                Member::Value(text) => Box::new(std::iter::once(text)),
                Member::Pdus(pdus) => Box::new(list(pdus.into_iter().map(|pdu| pdu.get().to_owned()))),
                Member::Ids(ids) => Box::new(list(ids.into_iter().map(Quoted).map(|id| id.to_string()))),
            };
            std::iter::once(head).chain(values)
        });
        std::iter::once("{".to_owned()).chain(members).chain(std::iter::once("}".to_owned()))
    }
}

struct Quoted(OwnedEventId);

impl Display for Quoted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        super::json::write_text(self.0.as_str(), &mut text);
        formatter.write_str(&text)
    }
}

fn list(values: impl Iterator<Item = String> + Send) -> impl Iterator<Item = String> + Send {
    let separated = values.enumerate().map(|(index, text)| if index == 0 { text } else { format!(",{text}") });
    std::iter::once("[".to_owned()).chain(separated).chain(std::iter::once("]".to_owned()))
}

impl IntoResponse for LargeObject {
    fn into_response(self) -> Response {
        let mut texts = self.texts().peekable();
        let pieces = std::iter::from_fn(move || {
            let mut piece = String::new();
            while piece.len() < ANSWER_PIECE_BYTES {
                let Some(text) = texts.next() else { break };
                piece.push_str(&text);
            }
            let piece = mem::take(&mut piece);
            (!piece.is_empty()).then(|| Ok::<_, Infallible>(Bytes::from(piece)))
        });
        (StatusCode::OK, [(CONTENT_TYPE, JSON)], Body::from_stream(stream::iter(pieces))).into_response()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json, value::RawValue};

    use super::*;

    #[tokio::test]
    async fn a_large_object_is_the_json_it_should_be() {
        let pdu =
            |number: usize| RawValue::from_string(json!({ "number": number, "fill": "x".repeat(999) }).to_string());
        for number in [0, 1, 500] {
            let answer = LargeObject::default()
                .value("origin", &"a\"b")
                .pdus("pdus", (0..number).map(|index| pdu(index).unwrap()).collect())
                .ids("ids", vec!["$a".try_into().unwrap(), "$b\"\\".try_into().unwrap()]);
            let body = answer.into_response().into_body().collect().await.unwrap().to_bytes();
            let value: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(value["origin"], "a\"b");
            assert_eq!(value["pdus"].as_array().unwrap().len(), number);
            assert_eq!(value["ids"], json!(["$a", "$b\"\\"]));
        }
    }
}

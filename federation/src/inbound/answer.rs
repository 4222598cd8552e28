//! Answers: JSON, and large lists of events written piece by piece.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use ruma::OwnedEventId;
use serde::Serialize;

use crate::{
    Pdu, Refusal,
    limits::ANSWER_PIECE_BYTES,
    local::{StatePiece, StateStream},
};

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
    /// Two lists: the state under the name of the member, its auth chain under this one.
    State(&'static str, BoxStream<'static, Result<StatePiece<String>, Refusal>>),
}

type Texts = BoxStream<'static, Result<String, Refusal>>;

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

    /// A state and its auth chain under these names, each piece as this writes it.
    pub(crate) fn state<T: Send + 'static>(
        mut self,
        [state, auth_chain]: [&'static str; 2],
        before: StateStream<T>,
        write: impl Fn(T) -> String + Send + 'static,
    ) -> Self {
        let pieces = before.pieces().map(move |piece| {
            Ok(match piece? {
                StatePiece::State(entry) => StatePiece::State(write(entry)),
                StatePiece::AuthChain(event) => StatePiece::AuthChain(write(event)),
            })
        });
        self.members.push((state, Member::State(auth_chain, pieces.boxed())));
        self
    }

    /// The texts that make up the object, in order.
    fn texts(self) -> Texts {
        let members = self.members.into_iter().enumerate().map(|(index, (name, member))| {
            let comma = if index == 0 { "" } else { "," };
            let head = format!("{comma}\"{name}\":");
            let values: Texts = match member {
                Member::Value(text) => one(text),
                Member::Pdus(pdus) => stream::iter(list(pdus.into_iter().map(text_of)).map(Ok)).boxed(),
                Member::State(auth_chain, pieces) => two_lists(auth_chain, pieces).boxed(),
            };
            one(head).chain(values).boxed()
        });
        let members = stream::iter(members).flatten();
        one("{".to_owned()).chain(members).chain(one("}".to_owned())).boxed()
    }
}

/// The text of an event.
pub(crate) fn text_of(pdu: Pdu) -> String {
    String::from(Box::<str>::from(pdu))
}

/// An event id as JSON.
pub(crate) fn quoted(id: OwnedEventId) -> String {
    let mut text = String::new();
    super::json::write_text(id.as_str(), &mut text);
    text
}

fn one(text: String) -> Texts {
    stream::once(std::future::ready(Ok(text))).boxed()
}

/// Where the writing of a state and its auth chain is.
#[derive(Copy, Clone, PartialEq)]
enum At {
    State,
    AuthChain,
    End,
}

/// The state as a list, then the auth chain as the member of this name.
fn two_lists(
    auth_chain: &'static str,
    pieces: BoxStream<'static, Result<StatePiece<String>, Refusal>>,
) -> impl Stream<Item = Result<String, Refusal>> + Send {
    let turn = move || format!("],\"{auth_chain}\":[");
    one("[".to_owned()).chain(stream::unfold((pieces, At::State, ""), move |(mut pieces, at, comma)| async move {
        if at == At::End {
            return None;
        }
        let (text, at) = match (pieces.next().await, at) {
            (Some(Ok(StatePiece::State(text))), At::State) => (format!("{comma}{text}"), At::State),
            (Some(Ok(StatePiece::AuthChain(text))), At::State) => (format!("{}{text}", turn()), At::AuthChain),
            (Some(Ok(StatePiece::AuthChain(text))), _) => (format!("{comma}{text}"), At::AuthChain),
            (None, At::State) => (format!("{}]", turn()), At::End),
            (None, _) => ("]".to_owned(), At::End),
            (Some(Err(refusal)), _) => return Some((Err(refusal), (pieces, At::End, ""))),
            // The state comes first.
            (Some(Ok(StatePiece::State(_))), _) => return Some((Err(Refusal::Unavailable), (pieces, At::End, ""))),
        };
        Some((Ok(text), (pieces, at, ",")))
    }))
}

fn list(values: impl Iterator<Item = String> + Send) -> impl Iterator<Item = String> + Send {
    let separated = values.enumerate().map(|(index, text)| if index == 0 { text } else { format!(",{text}") });
    std::iter::once("[".to_owned()).chain(separated).chain(std::iter::once("]".to_owned()))
}

impl IntoResponse for LargeObject {
    fn into_response(self) -> Response {
        let pieces = stream::unfold(self.texts(), |mut texts| async move {
            let mut piece = String::new();
            while piece.len() < ANSWER_PIECE_BYTES {
                match texts.next().await {
                    Some(Ok(text)) => piece.push_str(&text),
                    // The peer sees an answer that breaks off.
                    Some(Err(refusal)) => return Some((Err(refusal), texts)),
                    None => break,
                }
            }
            (!piece.is_empty()).then(|| (Ok(Bytes::from(piece)), texts))
        });
        (StatusCode::OK, [(CONTENT_TYPE, JSON)], Body::from_stream(pieces)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json, value::RawValue};

    use super::*;
    use crate::local::StateBefore;

    #[tokio::test]
    async fn a_large_object_is_the_json_it_should_be() {
        let pdu =
            |number: usize| RawValue::from_string(json!({ "number": number, "fill": "x".repeat(999) }).to_string());
        let id = |text: &str| OwnedEventId::try_from(text).unwrap();
        for number in [0, 1, 500] {
            let pdus = || (0..number).map(|index| pdu(index).unwrap()).collect::<Vec<_>>();
            let ids = StateBefore { state: vec![id("$a"), id("$b\"\\")], auth_chain: Vec::new() };
            let state = StateBefore { state: pdus(), auth_chain: pdus() };
            let answer = LargeObject::default()
                .value("origin", &"a\"b")
                .pdus("pdus", pdus())
                .state(["ids", "more_ids"], StateStream::of(ids), quoted)
                .state(["state", "auth_chain"], StateStream::of(state), text_of);
            let body = answer.into_response().into_body().collect().await.unwrap().to_bytes();
            let value: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(value["origin"], "a\"b");
            for list in ["pdus", "state", "auth_chain"] {
                assert_eq!(value[list].as_array().unwrap().len(), number, "{list}");
            }
            assert_eq!((&value["ids"], &value["more_ids"]), (&json!(["$a", "$b\"\\"]), &json!([])));
        }
    }

    #[tokio::test]
    async fn a_state_that_cannot_be_read_to_its_end_is_no_whole_answer() {
        let pieces = [Ok(StatePiece::State("1".to_owned())), Err(Refusal::Unavailable)];
        let before = StateStream::new(stream::iter(pieces));
        let answer = LargeObject::default().state(["state", "auth_chain"], before, |text| text);
        answer.into_response().into_body().collect().await.unwrap_err();
    }
}

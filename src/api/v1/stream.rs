//! Live streams, as server-sent events or over a WebSocket, and what of the moment they tell: who types, who is active.

use axum::{
    Json as Answer,
    body::{Body, Bytes},
    extract::{FromRequestParts, Request, State, ws::WebSocketUpgrade},
    http::{HeaderMap, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use std::time::Duration;

use super::{
    V1,
    error::V1Error,
    path::Ids,
    wire::{Active, Data, List, Nothing},
};
use crate::{
    actions::{
        ActionError, Actions, Page, presence,
        stream::{self, From, Stream},
        typing,
    },
    api::{
        Dialect as _,
        body::{Json, Parameters},
        caller::{self, Anyone, Signed},
        error::Problem,
        page,
    },
};

mod frame;
mod socket;

/// How often a stream of events says that it is alive, when it has nothing else to say.
const HEARTBEAT: Duration = Duration::from_secs(25);
/// The header with which a browser goes on where it left off.
const LAST_EVENT_ID: &str = "last-event-id";

/// How long a WebSocket is waited for.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// For the frame that says who it is.
    pub(crate) token: Duration,
    /// Until it is asked whether it is still there.
    pub(crate) ping: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    from: Option<String>,
}

/// `GET /v1/stream`
pub(super) async fn open(State(v1): State<V1>, request: Request) -> Result<Response, V1Error> {
    let state = v1.state();
    let (mut parts, _) = request.into_parts();
    let is_upgrade = caller::is_upgrade(&parts.headers);
    if is_upgrade && !caller::has_token(&parts, state) {
        return nameless(v1, parts).await;
    }
    let (actions, caller) = caller::of_request(&parts, &v1).await?;
    let from = asked(&mut parts, &v1).await?.read(&actions)?;
    let upgrade = if is_upgrade { Some(upgrade(&mut parts).await?) } else { None };
    let stream = stream::open(&actions, caller, from).await?;
    let ping = state.patience.ping;
    Ok(match upgrade {
        Some(upgrade) => upgrade.on_upgrade(move |socket| socket::serve(socket, stream, ping)),
        None => events(stream),
    })
}

/// A WebSocket whose first frame says who it is.
async fn nameless(v1: V1, mut parts: Parts) -> Result<Response, V1Error> {
    if let Some(address) = v1.state().address_of(&parts) {
        v1.state().limits.request_from(address)?;
    }
    let Anyone { actions, .. } = Anyone::from_request_parts(&mut parts, &v1).await?;
    let asked = asked(&mut parts, &v1).await?;
    // What cannot be a cursor is refused before there is a socket, as for those who bring their token at once.
    asked.read(&actions)?;
    // The tenant is not held while nobody knows who asks.
    drop(actions);
    let upgrade = upgrade(&mut parts).await?;
    let waiting = socket::Waiting::take()?;
    Ok(upgrade.on_upgrade(move |socket| socket::admit(socket, waiting, v1, parts, asked)))
}

async fn upgrade(parts: &mut Parts) -> Result<WebSocketUpgrade, Problem> {
    let upgrade = WebSocketUpgrade::from_request_parts(parts, &()).await;
    let upgrade = upgrade.map_err(|rejection| ActionError::invalid("Upgrade", rejection.body_text()))?;
    Ok(socket::sized(upgrade))
}

/// Where a client says that it left off, and in which field.
struct Asked(Option<(&'static str, String)>);

/// What a browser remembers is newer than what its address says.
async fn asked(parts: &mut Parts, v1: &V1) -> Result<Asked, V1Error> {
    let Parameters(query) = Parameters::<Query>::from_request_parts(parts, v1).await?;
    let last = parts.headers.get(LAST_EVENT_ID).filter(|last| !last.is_empty());
    let last = last.map(|last| ("Last-Event-ID", String::from_utf8_lossy(last.as_bytes()).into_owned()));
    Ok(Asked(last.or_else(|| query.from.map(|from| ("from", from)))))
}

impl Asked {
    fn read(&self, actions: &Actions) -> Result<Option<From>, ActionError> {
        let Some((field, text)) = &self.0 else { return Ok(None) };
        let problem = "is no cursor; take the `cursor` of an earlier frame, or none to begin now";
        From::parse(actions, text).map(Some).ok_or_else(|| ActionError::invalid(*field, problem))
    }
}

/// The frames as server-sent events, for as long as both sides stay.
fn events(stream: Stream) -> Response {
    let chunks = futures_util::stream::unfold(stream, |mut stream| async move {
        let bytes = match tokio::time::timeout(HEARTBEAT, stream.next()).await {
            Ok(Ok(frame)) => frame::rendered(stream.actions(), &frame)?.event.clone(),
            // An event without data only moves on what a browser remembers.
            Err(_silence) => Bytes::from(format!(":\nid: {}\n\n", stream.progress())),
            Ok(Err(_end)) => return None,
        };
        Some((Ok::<_, std::convert::Infallible>(bytes), stream))
    });
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Some proxies collect answers before they pass them on.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    (headers, Body::from_stream(chunks)).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Types {
    typing: bool,
    timeout_ms: Option<u64>,
}

/// `PUT /v1/rooms/{room_id}/typing`
pub(super) async fn set_typing(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    body: Json<Types>,
) -> Result<Response, V1Error> {
    let timeout_ms = typing::timeout_of(body.value.timeout_ms)?;
    typing::set(&actions, &caller, &room, body.value.typing.then_some(timeout_ms)).await?;
    Ok(Data::json(Nothing {}).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActiveQuery {
    limit: Option<i64>,
    offset: Option<i64>,
    within_ms: Option<u64>,
}

/// `GET /v1/rooms/{room_id}/active`
pub(super) async fn active(
    Signed { actions, caller, .. }: Signed,
    Ids(room): Ids<String>,
    Parameters(query): Parameters<ActiveQuery>,
) -> Result<Answer<List<Active>>, V1Error> {
    let window = page::window(query.offset, query.limit)?;
    let active = match query.within_ms {
        Some(within_ms) => presence::active_within(&actions, Some(&caller), &room, within_ms).await?,
        None => presence::active(&actions, &caller, &room).await?,
    };
    Ok(List::json(Page::of(active, window)))
}

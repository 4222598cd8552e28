//! Live streams over a WebSocket. The server speaks; of the client one frame at most is listened to, which says who it is.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    body::Bytes,
    extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade},
    http::request::Parts,
};
use serde::Deserialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use super::{Asked, frame};
use crate::{
    actions::{
        ActionError, ErrorKind,
        stream::{self, End, Stream},
    },
    api::{
        ApiState, Dialect as _, caller,
        error::{Problem, ProblemKind},
        v1::V1,
    },
};

/// Bytes of what a client may send: a token is all that there is to say.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// Bytes that are read at once; thousands of sockets wait for nothing.
const READ_BYTES: usize = 1024;
/// Bytes that wait to be written: the largest frame, and what it goes with.
const WRITE_BYTES_MAX: usize = 512 * 1024;
/// Connections that have not said yet who they are, of the whole process.
const WAITING_MAX: usize = 1_024;
/// When somebody may try again who found too many of those.
const WAITING_RETRY_AFTER: Duration = Duration::from_secs(10);
/// Pings in a row without an answer after which it is not.
const PINGS_MISSED_MAX: u32 = 2;
/// How long a client may take to read a frame.
const SEND_WAIT_MAX: Duration = Duration::from_secs(60);

/// Sets what a socket may hold in memory.
pub(super) fn sized(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BYTES_MAX)
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
}

/// A place among those who have not said yet who they are.
pub(super) struct Waiting(#[expect(dead_code, reason = "held, never looked at")] OwnedSemaphorePermit);

impl Waiting {
    pub(super) fn take() -> Result<Self, ActionError> {
        static WAITING: OnceLock<Arc<Semaphore>> = OnceLock::new();
        let waiting = WAITING.get_or_init(|| Arc::new(Semaphore::new(WAITING_MAX)));
        let refused = |_| ActionError::RateLimited { retry_after: WAITING_RETRY_AFTER };
        Arc::clone(waiting).try_acquire_owned().map(Self).map_err(refused)
    }
}

/// Why the server closes a socket, as a code of its own range.
#[derive(Clone, Copy)]
enum Close {
    GoingAway,
    Failed,
    Wrong,
    Unauthenticated(&'static str),
    Forbidden,
    NotFound,
    TooSlow,
    TooMany,
    Busy,
}

impl Close {
    fn frame(self) -> CloseFrame {
        let (code, reason) = match self {
            Self::GoingAway => (1001, "the server stops"),
            Self::Failed => (1011, "the server failed"),
            Self::Wrong => (4400, "send nothing but {\"token\": \"…\"} as the first frame"),
            Self::Unauthenticated(reason) => (4401, reason),
            Self::Forbidden => (4403, "not for this caller"),
            Self::NotFound => (4404, "no server of this name lives here"),
            Self::TooSlow => (4408, "no token in time"),
            Self::TooMany => (4429, "too many streams or requests"),
            Self::Busy => (1013, "the server is busy"),
        };
        CloseFrame { code, reason: Utf8Bytes::from_static(reason) }
    }
}

impl From<Problem> for Close {
    fn from(problem: Problem) -> Self {
        match problem.kind {
            ProblemKind::Action(ErrorKind::InvalidToken) => Self::Unauthenticated("SW_AUTH_INVALID_TOKEN"),
            ProblemKind::Action(ErrorKind::ExpiredToken) => Self::Unauthenticated("SW_AUTH_EXPIRED_TOKEN"),
            ProblemKind::Action(ErrorKind::InsufficientPermission) => Self::Forbidden,
            ProblemKind::Action(ErrorKind::RequestInvalid) => Self::Wrong,
            ProblemKind::Action(ErrorKind::RateLimited) => Self::TooMany,
            ProblemKind::Action(ErrorKind::Busy) => Self::Busy,
            ProblemKind::RouteNotFound => Self::NotFound,
            _ => Self::Failed,
        }
    }
}

impl From<End> for Close {
    fn from(end: End) -> Self {
        match end {
            End::Revoked => Self::Unauthenticated("SW_AUTH_INVALID_TOKEN"),
            End::Expired => Self::Unauthenticated("SW_AUTH_EXPIRED_TOKEN"),
            End::Stopping => Self::GoingAway,
            End::Failed => Self::Failed,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    token: String,
}

/// Waits for the frame that says who the client is, and then streams.
pub(super) async fn admit(mut socket: WebSocket, waiting: Waiting, v1: V1, parts: Parts, asked: Asked) {
    let admitted = admitted(&mut socket, v1.state(), &parts, asked).await;
    let ping = v1.state().patience.ping;
    drop((waiting, v1, parts));
    match admitted {
        Ok(Some(stream)) => serve(socket, stream, ping).await,
        Ok(None) => {}
        Err(close) => goodbye(socket, close).await,
    }
}

/// The stream of whoever the first frame names; none: the client has gone.
async fn admitted(
    socket: &mut WebSocket,
    state: &ApiState,
    parts: &Parts,
    asked: Asked,
) -> Result<Option<Stream>, Close> {
    let first = timeout(state.patience.token, first(socket)).await.map_err(|_elapsed| Close::TooSlow)?;
    let Some(text) = first else { return Ok(None) };
    let First { token } = serde_json::from_str(&text).map_err(|_wrong| Close::Wrong)?;
    let (actions, caller) = caller::of_token(&token, parts, state).await?;
    let from = asked.read(&actions).map_err(Problem::from)?;
    let stream = stream::open(&actions, caller, from).await.map_err(Problem::from)?;
    Ok(Some(stream))
}

async fn first(socket: &mut WebSocket) -> Option<String> {
    loop {
        match socket.recv().await? {
            Ok(Message::Text(text)) => return Some(text.to_string()),
            // No JSON: it is refused like one that says nothing.
            Ok(Message::Binary(_)) => return Some(String::new()),
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Close(_)) | Err(_) => return None,
        }
    }
}

/// Sends frames until one side has enough, and asks so often whether the other one is still there.
pub(super) async fn serve(mut socket: WebSocket, mut stream: Stream, ping: Duration) {
    if let Some(close) = run(&mut socket, &mut stream, ping).await {
        // The stream's place is free while the client takes its time to say goodbye.
        drop(stream);
        goodbye(socket, close).await;
    }
}

/// Why the server closes the socket; none: the client has gone.
async fn run(socket: &mut WebSocket, stream: &mut Stream, ping: Duration) -> Option<Close> {
    let mut pings = interval_at(Instant::now() + ping, ping);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missed = 0;
    loop {
        let message = tokio::select! {
            frame = stream.next() => match frame {
                Ok(frame) => match frame::rendered(stream.actions(), &frame) {
                    Some(rendered) => Message::Text(text(&rendered.json)?),
                    None => return Some(Close::Failed),
                },
                Err(end) => return Some(end.into()),
            },
            received = socket.recv() => match received? {
                Ok(Message::Ping(_) | Message::Pong(_)) => {
                    missed = 0;
                    continue;
                }
                Ok(Message::Text(_) | Message::Binary(_)) => return Some(Close::Wrong),
                Ok(Message::Close(_)) | Err(_) => return None,
            },
            _ = pings.tick() => {
                if missed >= PINGS_MISSED_MAX {
                    return None;
                }
                missed += 1;
                Message::Ping(Bytes::new())
            }
        };
        timeout(SEND_WAIT_MAX, socket.send(message)).await.ok()?.ok()?;
    }
}

fn text(json: &Bytes) -> Option<Utf8Bytes> {
    Utf8Bytes::try_from(json.clone()).ok()
}

/// Says why, and waits a moment for the client to have read it.
async fn goodbye(mut socket: WebSocket, close: Close) {
    let parting = async {
        if socket.send(Message::Close(Some(close.frame()))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    // Who does not answer is left.
    let _ = timeout(Duration::from_secs(2), parting).await;
}

//! An answer whose head has come. May import: `body`, `error`, `limits`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::RETRY_AFTER, response::Parts};
use ruma::{MilliSecondsSinceUnixEpoch, RoomVersionId};
use serde::Deserialize;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};

use crate::{
    body::{self, Body},
    clock::later,
    error::{FederationError, PeerRefusal},
    limits::{ERROR_BYTES_MAX, RETRY_AFTER_MAX},
};

/// Bytes of a peer's error code that are kept.
const ERRCODE_BYTES_MAX: usize = 255;

/// An answer whose body is still to be read, until a deadline. The request counts as running until it is dropped.
pub struct Answer {
    head: Parts,
    body: Body,
    deadline: Instant,
    _turn: OwnedSemaphorePermit,
}

#[derive(Deserialize)]
struct ErrorBody {
    errcode: Option<String>,
    room_version: Option<RoomVersionId>,
    retry_after_ms: Option<u64>,
}

impl Answer {
    pub(super) fn new(answer: http::Response<Body>, deadline: Instant, turn: OwnedSemaphorePermit) -> Self {
        let (head, body) = answer.into_parts();
        Self { head, body, deadline, _turn: turn }
    }

    /// The status.
    pub(super) fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// When the connection breaks or the time is up.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FederationError> {
        timeout_at(self.deadline, body::next(&mut self.body)).await.unwrap_or(Err(FederationError::TimedOut))
    }

    /// The whole body.
    ///
    /// # Errors
    /// [`FederationError::TooLarge`] beyond `bytes_max`, or as [`Answer::next`].
    pub async fn read(self, bytes_max: usize) -> Result<Vec<u8>, FederationError> {
        timeout_at(self.deadline, body::read(self.body, bytes_max)).await.unwrap_or(Err(FederationError::TimedOut))
    }

    /// What an answer that is not a 200 says.
    pub(super) async fn refusal(self, now: MilliSecondsSinceUnixEpoch) -> FederationError {
        let status = self.head.status;
        let header = self.head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = self.read(ERROR_BYTES_MAX).await.unwrap_or_default();
        let said = serde_json::from_slice::<ErrorBody>(&text).ok();
        let errcode = said.as_ref().and_then(|said| said.errcode.clone());
        let wait = header.map(Duration::from_secs);
        let wait = wait.or_else(|| said.as_ref()?.retry_after_ms.map(Duration::from_millis));
        FederationError::Refused(PeerRefusal {
            status,
            errcode: errcode.filter(|code| code.len() <= ERRCODE_BYTES_MAX),
            room_version: said.and_then(|said| said.room_version),
            retry_at: wait.map(|wait| later(now, wait.min(RETRY_AFTER_MAX))),
        })
    }
}

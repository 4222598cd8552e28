//! The body of a request: bounded in bytes and time before it is read, parsed once.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{body::Body, extract::Request};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use serde_json::value::RawValue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    error::Failure,
    json::{self, Object},
};
use crate::{
    Refusal,
    limits::{JSON_INLINE_BYTES_MAX, LARGE_PARSES_MAX, REQUEST_BODY_TIME_MAX, REQUEST_BYTES_IN_FLIGHT_MAX},
    quotas::Running,
};

/// How many bytes of bodies are being read, of all requests together, and how many large ones are parsed.
#[derive(Clone)]
pub(crate) struct Bodies {
    /// A permit stands for a KiB.
    read: Arc<Semaphore>,
    parses: Arc<Semaphore>,
}

impl Bodies {
    pub(crate) fn new() -> Self {
        Self::of(REQUEST_BYTES_IN_FLIGHT_MAX / 1024)
    }

    fn of(kib: usize) -> Self {
        Self { read: Arc::new(Semaphore::new(kib)), parses: Arc::new(Semaphore::new(LARGE_PARSES_MAX)) }
    }
}

/// A parsed body and its canonical text, on which the signature is checked.
pub(crate) type Content = (Object, Box<RawValue>);

/// Refuses by its headers a body that is too large, compressed, or not JSON. A body without a type is taken for JSON.
pub(crate) fn check_head(headers: &HeaderMap, bytes_max: usize) -> Result<(), Failure> {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > bytes_max) {
        return Err(TOO_LARGE);
    }
    let has_body = length.unwrap_or(0) > 0 || headers.contains_key(TRANSFER_ENCODING);
    let is_plain =
        headers.get(CONTENT_ENCODING).is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let is_json = headers.get(CONTENT_TYPE).is_none_or(|media_type| {
        let essence = media_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("application/json")
    });
    if is_plain && (is_json || !has_body) { Ok(()) } else { Err(Failure::MediaType) }
}

const TOO_LARGE: Failure = Failure::TooLarge("the body is too large");

/// Reads and parses the body, and tells its length in bytes. An empty body is `None`.
pub(crate) async fn read(
    request: &mut Request,
    bodies: &Bodies,
    bytes_max: usize,
) -> Result<(Option<Content>, usize), Failure> {
    let body = std::mem::take(request.body_mut());
    let (bytes, _permit) = timeout(REQUEST_BODY_TIME_MAX, collect(body, bodies, bytes_max))
        .await
        .map_err(|_elapsed| Failure::TooSlow)??;
    let length = bytes.len();
    let content = match length {
        0 => None,
        1..=JSON_INLINE_BYTES_MAX => Some(parse(&bytes)?),
        _ => {
            // What is parsed may take twenty times the room of its text.
            let _turn = bodies.parses.acquire().await.map_err(|_closed| Refusal::Unavailable)?;
            let parsed = tokio::task::spawn_blocking(move || parse(&bytes)).await;
            Some(parsed.map_err(|_stopped| Refusal::Unavailable)??)
        }
    };
    Ok((content, length))
}

async fn collect(
    mut body: Body,
    bodies: &Bodies,
    bytes_max: usize,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Failure> {
    let mut bytes = BytesMut::new();
    let mut permit: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_broken| Failure::NotJson("the body broke off"))?.into_data() else { continue };
        if bytes.len() + data.len() > bytes_max {
            return Err(TOO_LARGE);
        }
        bytes.extend_from_slice(&data);
        let held = permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(bytes.len().div_ceil(1024).saturating_sub(held)).unwrap_or(u32::MAX);
        let got = Arc::clone(&bodies.read).try_acquire_many_owned(more).map_err(|_busy| Refusal::Unavailable)?;
        match &mut permit {
            Some(permit) => permit.merge(got),
            None => permit = Some(got),
        }
    }
    Ok((bytes.freeze(), permit))
}

fn parse(bytes: &[u8]) -> Result<Content, Failure> {
    let object = json::parse(bytes)?;
    let text =
        RawValue::from_string(object.to_text()).map_err(|_unreadable| Failure::NotJson("the body is not JSON"))?;
    Ok((object, text))
}

/// The body of an answer. While it is being sent, the request counts as running.
pub(crate) struct Guarded {
    body: Body,
    _running: Running,
}

impl Guarded {
    pub(crate) fn wrap(body: Body, running: Running) -> Body {
        Body::new(Self { body, _running: running })
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::limits::REQUEST_BYTES_MAX;

    fn head(pairs: &[(&'static str, &'static str)]) -> Result<(), Failure> {
        let pairs = pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        check_head(&pairs.collect(), REQUEST_BYTES_MAX)
    }

    /// Hard case 52. S2S 2 bodies are JSON objects.
    #[test]
    fn a_body_that_is_not_plain_json_is_refused_by_its_headers() {
        let cases: [(&[(&str, &str)], bool); 10] = [
            (&[("content-length", "2")], true),
            (&[("content-length", "2"), ("content-type", "application/json")], true),
            (&[("content-length", "2"), ("content-type", "Application/JSON; charset=utf-8")], true),
            (&[("content-length", "2"), ("content-type", "multipart/form-data; boundary=x")], false),
            (&[("transfer-encoding", "chunked"), ("content-type", "text/plain")], false),
            (&[("content-length", "0"), ("content-type", "text/plain")], true),
            (&[("content-length", "2"), ("content-encoding", "gzip")], false),
            (&[("content-length", "2"), ("content-encoding", "identity")], true),
            (&[("content-length", "13107200")], true),
            (&[("content-length", "13107201")], false),
        ];
        for (headers, expected) in cases {
            assert_eq!(head(headers).is_ok(), expected, "{headers:?}");
        }
    }

    /// S2S 2 bodies are bounded before they are read whole.
    #[tokio::test]
    async fn bodies_of_all_requests_together_are_bounded() {
        let bodies = Bodies::of(2);
        let max = REQUEST_BYTES_MAX;
        let body = |bytes: usize| Body::from(vec![b' '; bytes]);
        let (_, held) = collect(body(2048), &bodies, max).await.unwrap();
        assert_eq!(collect(body(1), &bodies, max).await.err(), Some(Refusal::Unavailable.into()));
        drop(held);
        assert!(collect(body(1), &bodies, max).await.is_ok());
    }
}

//! What surrounds every request: its id, its span and log line, its figures, the time it may take, and the headers that every answer has.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::body::{Frame, SizeHint};
use metrics::{Counter, Histogram};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::Instrument as _;

use super::{
    ApiState, Dialect, calls,
    error::{Failure, Problem},
};

/// The header that names a request.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of an id that a trusted proxy gave; others are replaced.
const REQUEST_ID_CHARACTERS_MAX: usize = 64;
/// Characters of our own ids.
const REQUEST_ID_CHARACTERS: usize = 20;
/// What a request without a route is counted as.
const NO_ROUTE: &str = "none";
/// Classes of statuses.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// How long a request may take.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// Between two parts of its body.
    pub(super) body_part: Duration,
    /// Until its answer, if it is an ordinary call; three quarters of that for its body.
    pub(super) whole: Duration,
}

/// The figures of all routes.
pub(super) struct RouteFigures {
    routes: HashMap<&'static str, Vec<(Method, Figures)>>,
    others: Figures,
}

struct Figures {
    answers: [Counter; 5],
    seconds: Histogram,
}

impl Figures {
    fn new(method: &'static str, route: &'static str) -> Self {
        let answers = CLASSES.map(
            |class| metrics::counter!("yurt_http_requests_total", "method" => method, "route" => route, "status" => class),
        );
        Self {
            answers,
            seconds: metrics::histogram!("yurt_http_request_seconds", "method" => method, "route" => route),
        }
    }
}

impl RouteFigures {
    /// The figures of these methods and routes; kept if the recorder of the process is set already.
    pub(super) fn new(routes: impl IntoIterator<Item = (&'static str, &'static str)>) -> Self {
        let mut all: HashMap<_, Vec<_>> = HashMap::new();
        for (method, route) in routes {
            if let Ok(name) = Method::from_bytes(method.as_bytes()) {
                all.entry(route).or_default().push((name, Figures::new(method, route)));
            }
        }
        Self { routes: all, others: Figures::new(NO_ROUTE, NO_ROUTE) }
    }

    fn count(&self, method: &Method, route: &str, response: &Response, took: Duration) {
        // A HEAD is served by the GET of its route.
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let figures = self.routes.get(route).and_then(|methods| methods.iter().find(|(name, _)| name == method));
        let figures = figures.map_or(&self.others, |(_, figures)| figures);
        let class = usize::from(response.status().as_u16() / 100).saturating_sub(1);
        if let Some(counter) = figures.answers.get(class) {
            counter.increment(1);
        }
        figures.seconds.record(took);
    }
}

/// Runs a request within its bounds, and tells what became of it.
pub(super) async fn layer<D: Dialect>(State(dialect): State<D>, request: Request, next: Next) -> Response {
    let state = dialect.state();
    let refused = |problem: Problem| D::Refusal::from(problem).into_response();
    let started = Instant::now();
    let id = request_id(state, &request);
    let method = request.method().clone();
    // Never the path as it was sent: it can name what only its members may know.
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let span = tracing::debug_span!(
        "request",
        request.id = id.to_str().unwrap_or_default(),
        %method,
        route,
        tenant = tracing::field::Empty,
        user.id = tracing::field::Empty,
    );
    let is_call = !calls::is_upload(&method, route);
    let (request, is_slow) = with_times(request, state.times, is_call);
    let running = next.run(request).instrument(span.clone());
    let mut response = if is_call {
        match tokio::time::timeout(state.times.whole, running).await {
            Ok(response) => response,
            Err(_) => refused(Problem::took_too_long()),
        }
    } else {
        running.await
    };
    if response.status().is_client_error() && is_slow.is_some_and(|is_slow| is_slow.load(Ordering::Relaxed)) {
        response = refused(Problem::slow_body());
    }
    let failure = response.extensions_mut().remove::<Failure>();
    if failure.is_some() {
        response = refused(Problem::failed(id.to_str().unwrap_or_default()));
    }
    let took = started.elapsed();
    if let Some(figures) = &state.figures {
        figures.count(&method, route, &response, took);
    }
    tell(&span, &id, &method, route, &response, took, failure);
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(const { HeaderValue::from_static("no-store") });
    headers.insert(REQUEST_ID, id);
    response
}

/// One line for each request: quiet when all is well, with the cause when the server failed.
fn tell(
    span: &tracing::Span,
    id: &HeaderValue,
    method: &Method,
    route: &str,
    response: &Response,
    took: Duration,
    failure: Option<Failure>,
) {
    let status = response.status();
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let id = id.to_str().unwrap_or_default();
    let _inside = span.enter();
    match failure {
        Some(Failure(cause)) => {
            let status = status.as_u16();
            tracing::error!(request.id = id, %method, route, status, duration_ms, "Request {id} failed inside: {cause}");
        }
        None if status.is_server_error() => {
            let status = status.as_u16();
            tracing::warn!(request.id = id, %method, route, status, duration_ms, "Request {id} was answered {status}");
        }
        None => tracing::debug!(status = status.as_u16(), duration_ms, "{method} {route} was answered"),
    }
}

/// The name of a request: its own, if a trusted proxy gave it one; else a random one.
fn request_id(state: &ApiState, request: &Request) -> HeaderValue {
    let given = request.headers().get(REQUEST_ID).filter(|_| state.is_from_proxy(request.extensions()));
    let is_sane = |id: &&HeaderValue| {
        let in_id = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (1..=REQUEST_ID_CHARACTERS_MAX).contains(&id.len()) && id.as_bytes().iter().all(in_id)
    };
    if let Some(id) = given.filter(is_sane) {
        return id.clone();
    }
    let word = crate::random::word(&*state.random, REQUEST_ID_CHARACTERS);
    HeaderValue::try_from(word).unwrap_or(const { HeaderValue::from_static("none") })
}

/// The request with a body that does not wait for ever, and whether it gave up.
fn with_times(request: Request, times: Times, is_call: bool) -> (Request, Option<Arc<AtomicBool>>) {
    if request.body().is_end_stream() {
        return (request, None);
    }
    let end = is_call.then(|| Instant::now() + times.whole * 3 / 4);
    let is_slow = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_slow);
    (request.map(|body| Body::new(Timed { body, part: times.body_part, end, waiting: None, told })), Some(is_slow))
}

/// A body that fails when it does not arrive in time.
struct Timed {
    body: Body,
    part: Duration,
    /// When all of it has to be there.
    end: Option<Instant>,
    waiting: Option<Pin<Box<Sleep>>>,
    told: Arc<AtomicBool>,
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.waiting = None;
            return Poll::Ready(frame);
        }
        let this = &mut *self;
        let waiting = this.waiting.get_or_insert_with(|| {
            let next = Instant::now() + this.part;
            Box::pin(sleep_until(this.end.map_or(next, |end| end.min(next))))
        });
        waiting.as_mut().poll(context).map(|()| {
            this.told.store(true, Ordering::Relaxed);
            Some(Err(axum::Error::new("it did not arrive in time")))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

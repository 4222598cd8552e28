//! Takes connections in and serves them: HTTP/1.1, and HTTP/2 where a TLS handshake agrees on it.
//!
//! May import: api (the marks that requests get), hyper, tokio, axum's router.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo, routing::future::RouteFuture};
use hyper::{
    Request,
    body::{Bytes, Frame, Incoming, SizeHint},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::task::TaskTracker;
use tower::Service as _;

use super::{
    admission::{Admission, Place},
    line::{Line, Patience},
    tls::H2,
};
use crate::api::Secure;

/// Bytes of the head of a request; a larger one is answered 431. HTTP/1.1 also bounds its lines, at 100.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes that are read ahead of a connection, or wait to be written to it.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Requests at the same time on one connection of HTTP/2.
const STREAMS_MAX: u32 = 100;
/// Time between two signs of life that a connection of HTTP/2 is asked for, and how long they may take.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Looks at an idle connection of HTTP/2 until its time is over.
const IDLE_LOOKS: u32 = 5;
/// Pause after a connection could not be taken in: the cause, mostly too many open files, does not go away at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How far a listener is on its way to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Not on its way.
    Serving,
    /// Takes no connection; requests under way may end, idle connections are closed.
    Stopping,
    /// Whatever is left is cut off.
    Cut,
}

/// A listener, and all that its connections share.
pub(super) struct Listener {
    pub(super) tcp: TcpListener,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) router: Router,
    pub(super) admission: Arc<Admission>,
    pub(super) patience: Patience,
    pub(super) phase: watch::Receiver<Phase>,
}

/// What a connection needs.
struct Shared {
    tls: Option<TlsAcceptor>,
    router: Router,
    patience: Patience,
}

/// Serves until the phase is another one, and the connections have ended.
pub(super) async fn serve(listener: Listener) {
    let Listener { tcp, tls, router, admission, patience, mut phase } = listener;
    let shared = Arc::new(Shared { tls, router: router.with_state(()), patience });
    let connections = TaskTracker::new();
    let mut is_failing = false;
    while *phase.borrow() == Phase::Serving {
        let accepted = tokio::select! {
            accepted = tcp.accept() => accepted,
            changed = phase.changed() => match changed {
                Ok(()) => continue,
                Err(_gone) => break,
            },
        };
        match accepted {
            Ok((stream, peer)) => {
                is_failing = false;
                match admission.enter(peer.ip()) {
                    Some(place) => {
                        connections.spawn(connection(stream, peer, place, Arc::clone(&shared), phase.clone()));
                    }
                    None => metrics::counter!("yurt_connections_refused_total").increment(1),
                }
            }
            // The client went away before it was taken in.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::error!(%error, "Connections cannot be taken in for the moment: {error}");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(tcp);
    connections.close();
    connections.wait().await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    shared: Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "A connection keeps its delay: {error}");
    }
    let Some(tls) = &shared.tls else { return http1(stream, peer, false, place, &shared, phase).await };
    // Boxed, here and below: a connection of one kind does not take the memory of the others.
    let handshake = Box::pin(timeout(shared.patience.head, tls.accept(stream)));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        _ = phase.changed() => return,
    };
    match shaken {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(H2) => {
            Box::pin(http2(stream, peer, place, &shared, phase)).await;
        }
        Ok(Ok(stream)) => Box::pin(http1(stream, peer, true, place, &shared, phase)).await,
        Ok(Err(error)) => tracing::debug!(%error, "A TLS handshake failed: {error}"),
        Err(_) => tracing::debug!("A TLS handshake took too long"),
    }
}

fn http1<S>(
    stream: S,
    peer: SocketAddr,
    is_secure: bool,
    place: Place,
    shared: &Shared,
    phase: watch::Receiver<Phase>,
) -> impl Future<Output = ()> + use<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (line, timer) = Line::new(stream, shared.patience, place);
    let router = shared.router.clone();
    let service = service_fn(move |request| answer(router.clone(), request, peer, is_secure));
    let connection = http1::Builder::new()
        .timer(timer)
        .header_read_timeout(shared.patience.idle)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(line), service)
        .with_upgrades();
    let ending = (std::future::pending(), shared.patience.idle);
    drive(Box::pin(connection), |connection| connection.graceful_shutdown(), phase, ending)
}

/// Only TLS comes to this: no client says otherwise that it speaks HTTP/2.
fn http2(
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
    place: Place,
    shared: &Shared,
    phase: watch::Receiver<Phase>,
) -> impl Future<Output = ()> + use<> {
    let (line, _) = Line::new(stream, shared.patience, place);
    let router = shared.router.clone();
    let (requests, under_way) = (Arc::new(AtomicU64::new(0)), Arc::new(()));
    let idle = idle(Arc::clone(&requests), Arc::clone(&under_way), shared.patience.idle);
    let service = service_fn(move |request| {
        requests.fetch_add(1, Ordering::Relaxed);
        let (under_way, answered) = (Arc::clone(&under_way), answer(router.clone(), request, peer, true));
        async move { answered.await.map(|response| response.map(|body| Counted { body, _under_way: under_way })) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .max_send_buf_size(BUFFER_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(line), service);
    drive(Box::pin(connection), |connection| connection.graceful_shutdown(), phase, (idle, shared.patience.head))
}

/// Runs a connection to its end. It is asked to end when the server stops or it was idle for too long; an idle one that does not then is cut off, because
/// nothing was under way.
async fn drive<C: Future>(
    mut connection: Pin<Box<C>>,
    end: impl Fn(Pin<&mut C>),
    mut phase: watch::Receiver<Phase>,
    (idle, grace): (impl Future<Output = ()>, Duration),
) {
    let mut idle = pin!(idle);
    let mut cut = pin!(tokio::time::sleep(grace));
    let (mut is_ending, mut was_idle) = (false, false);
    loop {
        tokio::select! {
            biased;
            // A client that breaks the rules or goes away is no news for who runs the server.
            _ = connection.as_mut() => return,
            changed = phase.changed() => {
                if changed.is_err() || *phase.borrow() == Phase::Cut {
                    return;
                }
            }
            () = idle.as_mut(), if !is_ending => {
                was_idle = true;
                cut.as_mut().reset(Instant::now() + grace);
            }
            () = cut.as_mut(), if was_idle => return,
        }
        if !std::mem::replace(&mut is_ending, true) {
            end(connection.as_mut());
        }
    }
}

/// Ends when a connection of HTTP/2 had nothing under way for a while. The two that hold `under_way` for longer are this and the service.
async fn idle(requests: Arc<AtomicU64>, under_way: Arc<()>, idle_max: Duration) {
    let mut looks = tokio::time::interval(idle_max / IDLE_LOOKS);
    let (mut seen, mut idle_looks) = (0, 0);
    while idle_looks <= IDLE_LOOKS {
        looks.tick().await;
        let now = requests.load(Ordering::Relaxed);
        let is_idle = now == seen && Arc::strong_count(&under_way) <= 2;
        idle_looks = if is_idle { idle_looks + 1 } else { 0 };
        seen = now;
    }
}

fn answer(
    mut router: Router,
    request: Request<Incoming>,
    peer: SocketAddr,
    is_secure: bool,
) -> RouteFuture<Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    if is_secure {
        request.extensions_mut().insert(Secure);
    }
    router.call(request)
}

/// A body that counts as under way until it is sent or given up.
struct Counted {
    body: Body,
    _under_way: Arc<()>,
}

impl hyper::body::Body for Counted {
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

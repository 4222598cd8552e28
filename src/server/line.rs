//! The bytes of one connection, with the patience that HTTP itself does not have: for a client that begins a request and does not end it, that begins none, or
//! that does not take what it asked for.
//!
//! May import: hyper (its timer), tokio.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::rt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep, sleep_until},
};

use super::admission::Place;

/// How long a connection waits for what.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// For the head of a request that has begun, for the first byte of a connection, and for the end of a handshake.
    pub(super) head: Duration,
    /// For the next request, and for the client to take the next bytes.
    pub(super) idle: Duration,
}

/// One connection. Its place is taken until this is dropped.
pub(super) struct Line<S> {
    stream: S,
    arrived: Arc<AtomicBool>,
    idle: Duration,
    /// Since the client has taken nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl<S> Line<S> {
    /// Answers the timer for the heads of its requests as well.
    pub(super) fn new(stream: S, patience: Patience, place: Place) -> (Self, HeadTimer) {
        let arrived = Arc::new(AtomicBool::new(false));
        let timer = HeadTimer { patience, arrived: Arc::clone(&arrived), is_first: AtomicBool::new(true) };
        (Self { stream, arrived, idle: patience.idle, stalled: None, _place: place }, timer)
    }

    /// Gives up on a client that takes nothing for too long.
    fn patient<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let idle = self.idle;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(idle)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.arrived.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.patient(context, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.patient(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.patient(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.patient(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// What hyper asks how long to wait for the head of a request. It begins to wait when the answer before is out, and knows one time for all: this timer tells
/// the pause before a request from the request itself.
pub(super) struct HeadTimer {
    patience: Patience,
    arrived: Arc<AtomicBool>,
    is_first: AtomicBool,
}

impl rt::Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn rt::Sleep>> {
        self.arrived.store(false, Ordering::Relaxed);
        let is_first = self.is_first.swap(false, Ordering::Relaxed);
        let pause = if is_first { self.patience.head } else { self.patience.idle };
        Box::pin(HeadSleep {
            timer: Box::pin(sleep(pause)),
            // The time for the first request runs from the connection's beginning.
            has_begun: is_first,
            arrived: Arc::clone(&self.arrived),
            head: self.patience.head,
        })
    }
}

struct HeadSleep {
    timer: Pin<Box<Sleep>>,
    has_begun: bool,
    arrived: Arc<AtomicBool>,
    head: Duration,
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.has_begun && self.arrived.load(Ordering::Relaxed) {
            self.has_begun = true;
            self.timer = Box::pin(sleep_until(tokio::time::Instant::now() + self.head));
        }
        self.timer.as_mut().poll(context)
    }
}

impl rt::Sleep for HeadSleep {}

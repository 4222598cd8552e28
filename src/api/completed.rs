//! What a caller began is done to its end, even if the caller hangs up: what follows a commit is never left half done.
//!
//! A request is worked on where it came in, so that nothing is handed between threads while its caller waits. Only when the caller goes away in the middle of
//! it does the rest become a task.
//!
//! May import: axum, tokio.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    extract::{Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use tokio::runtime::Handle;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tracing::Instrument as _;

use super::Dialect;

/// Goes around every request that may change something.
pub(super) async fn layer<D: Dialect>(State(dialect): State<D>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    Completed::new(next.run(request).in_current_span(), &dialect.state().tasks).await
}

/// A future that goes on as a task when it is dropped before its end.
struct Completed<F: Future<Output: Send> + Send + 'static> {
    /// None: it has ended, or it panicked and must not be polled again.
    rest: Option<Pin<Box<F>>>,
    /// Who stops the server waits for it.
    running: TaskTrackerToken,
    runtime: Handle,
}

impl<F: Future<Output: Send> + Send + 'static> Completed<F> {
    /// Must be called within a runtime.
    fn new(future: F, tasks: &TaskTracker) -> Self {
        Self { rest: Some(Box::pin(future)), running: tasks.token(), runtime: Handle::current() }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Completed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // Out of reach while it runs: one that panics is not continued.
        let Some(mut rest) = self.rest.take() else { return Poll::Pending };
        let polled = rest.as_mut().poll(context);
        if polled.is_pending() {
            self.rest = Some(rest);
        }
        Poll::Ready(ready!(polled))
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Completed<F> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            self.running.task_tracker().spawn_on(rest, &self.runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_done_all_the_same() {
        let tasks = TaskTracker::new();
        let (go_on, wait) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let mut request = Box::pin(Completed::new(
            async move {
                wait.await.unwrap();
                done.send(()).unwrap();
            },
            &tasks,
        ));
        assert!(std::future::poll_fn(|context| Poll::Ready(request.as_mut().poll(context).is_pending())).await);
        drop(request);
        assert_eq!(tasks.len(), 1);
        go_on.send(()).unwrap();
        is_done.await.unwrap();
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn what_has_ended_leaves_no_task() {
        let tasks = TaskTracker::new();
        assert_eq!(Completed::new(async { 1 }, &tasks).await, 1);
        assert!(tasks.is_empty());
    }

    #[tokio::test]
    async fn what_has_not_begun_when_its_caller_goes_is_begun() {
        let tasks = TaskTracker::new();
        let (done, is_done) = oneshot::channel();
        drop(Completed::new(async move { done.send(()).unwrap() }, &tasks));
        is_done.await.unwrap();
    }
}

//! Time and chance, as arguments: tests move the first and fix the second. May import: ruma's unit of time, tokio's timer.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use ruma::{MilliSecondsSinceUnixEpoch, UInt};

/// A future that ends at a time.
pub type Waiting<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// The longest sleep in one piece: a system whose clock is set forward is noticed within it.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Tells the time and waits for one.
pub trait Clock: Send + Sync + 'static {
    /// The present time.
    fn now(&self) -> MilliSecondsSinceUnixEpoch;

    /// Ends when it is `at`. A clock that is moved by hand says itself how.
    fn sleep_until(&self, at: MilliSecondsSinceUnixEpoch) -> Waiting<'_> {
        Box::pin(async move {
            loop {
                let left = until(self.now(), at);
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(SLEEP_MAX)).await;
            }
        })
    }
}

/// Gives random numbers. What is made of them has to be unlikely to come twice, not secret.
pub trait Random: Send + Sync + 'static {
    /// 64 random bits.
    fn next(&self) -> u64;
}

/// Time and chance together. Copies share them.
#[derive(Clone)]
pub struct Ambient {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where random numbers come from.
    pub random: Arc<dyn Random>,
}

impl Ambient {
    /// The present time.
    pub(crate) fn now(&self) -> MilliSecondsSinceUnixEpoch {
        self.clock.now()
    }

    /// A random number below `end`; 0 when that is 0.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.random.next().checked_rem(end).unwrap_or(0)
    }

    /// A duration changed by up to a fifth in both directions, so that many waits do not end together.
    pub(crate) fn jittered(&self, duration: Duration) -> Duration {
        let per_mille = u32::try_from(800 + self.below(401)).unwrap_or(1000);
        duration.saturating_mul(per_mille) / 1000
    }
}

impl fmt::Debug for Ambient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Ambient").finish_non_exhaustive()
    }
}

/// The time that comes `by` after `at`, at most the last one that can be written.
pub(crate) fn later(at: MilliSecondsSinceUnixEpoch, by: Duration) -> MilliSecondsSinceUnixEpoch {
    let by = u64::try_from(by.as_millis()).ok().and_then(|milliseconds| UInt::try_from(milliseconds).ok());
    MilliSecondsSinceUnixEpoch(at.0.saturating_add(by.unwrap_or(UInt::MAX)))
}

/// How long it is from `now` to `at`; nothing when that is past.
pub(crate) fn until(now: MilliSecondsSinceUnixEpoch, at: MilliSecondsSinceUnixEpoch) -> Duration {
    Duration::from_millis(at.0.saturating_sub(now.0).into())
}

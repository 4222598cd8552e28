//! What time it is: the system's clock, or one that tests move by hand. May import: rules (the unit).

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use rules::UnixMs;

/// Tells the time. Everything that needs it takes this as an argument.
pub trait Clock: Send + Sync {
    /// The present time.
    fn now(&self) -> UnixMs;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    fn now(&self) -> UnixMs {
        // A clock before 1970 is read as 1970.
        millis(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct Manual(AtomicU64);

impl Manual {
    /// A clock that stands at this time.
    #[must_use]
    pub fn at(time: UnixMs) -> Self {
        Self(AtomicU64::new(time.0))
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(millis(by).0, Ordering::SeqCst);
    }

    /// Moves it to a time, forward or back.
    pub fn set(&self, time: UnixMs) {
        self.0.store(time.0, Ordering::SeqCst);
    }
}

impl Clock for Manual {
    fn now(&self) -> UnixMs {
        UnixMs(self.0.load(Ordering::SeqCst))
    }
}

fn millis(duration: Duration) -> UnixMs {
    UnixMs(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_clock_moves_only_by_hand() {
        let clock = Manual::at(UnixMs(1_000));
        assert_eq!(clock.now(), UnixMs(1_000));
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.now(), UnixMs(3_000));
        clock.set(UnixMs(5));
        assert_eq!(clock.now(), UnixMs(5));
    }

    #[test]
    fn the_system_clock_is_past_the_year_2020() {
        assert!(System.now().0 > 1_577_836_800_000);
    }
}

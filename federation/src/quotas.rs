//! What one server may use of us: requests at the same time, requests, events and bytes per second.
//!
//! A budget belongs to an origin that is proven: nobody can spend another's. A peer that spends its own gets 429 and says
//! nothing about others. Budgets of origins that are full again are forgotten. May import: governor, ruma, `limits`.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use parking_lot::Mutex;
use ruma::{OwnedServerName, ServerName};

use crate::limits::{QUOTA_ORIGINS_KEPT, REQUEST_BYTES_MAX, TRANSACTION_PDUS_MAX};

/// A rate: so many per second in the long run, so many at once after a rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many per second. 0 counts as 1.
    pub per_second: u32,
    /// How many at once. Less than one request may need counts as what it may need.
    pub burst: u32,
}

/// The budget of each origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Requests at the same time.
    pub parallel_max: u32,
    /// Requests; a heavy one counts several times.
    pub requests: Rate,
    /// Events in transactions.
    pub pdus: Rate,
    /// KiB of request bodies.
    pub body_kib: Rate,
}

impl Budget {
    /// Rates that nobody reaches.
    pub const UNBOUNDED: Self = {
        let any = Rate { per_second: 1_000_000, burst: 1_000_000 };
        Self { parallel_max: 32, requests: any, pdus: any, body_kib: any }
    };
}

impl Default for Budget {
    /// What a server of some thousand users that catches up after a night does not reach.
    fn default() -> Self {
        Self {
            parallel_max: 32,
            requests: Rate { per_second: 50, burst: 300 },
            pdus: Rate { per_second: 200, burst: 2000 },
            body_kib: Rate { per_second: 8 * 1024, burst: 64 * 1024 },
        }
    }
}

/// The origin has spent its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests, try again in {} ms", .retry_after.as_millis())]
pub struct TooMany {
    /// When it may try again.
    pub retry_after: Duration,
}

/// The budgets of all origins. Clones share them.
#[derive(Clone)]
pub struct Quotas(Arc<Shared>);

struct Shared {
    parallel_max: u32,
    admitted: AtomicU32,
    running: Mutex<HashMap<OwnedServerName, u32>>,
    requests: DefaultKeyedRateLimiter<OwnedServerName>,
    pdus: DefaultKeyedRateLimiter<OwnedServerName>,
    body_kib: DefaultKeyedRateLimiter<OwnedServerName>,
}

/// One request of an origin that runs. Dropped when it is answered.
pub struct Running {
    quotas: Quotas,
    origin: OwnedServerName,
}

/// How often the heaviest request counts.
const WEIGHT_MAX: u32 = 10;

/// Requests between two looks at what can be forgotten.
const FORGET_EVERY: u32 = 1000;

impl Quotas {
    /// Full budgets for everybody.
    pub fn new(budget: Budget) -> Self {
        let limiter = |rate: Rate, at_once: u32| {
            let burst = NonZeroU32::new(rate.burst.max(at_once)).unwrap_or(NonZeroU32::MIN);
            let per_second = NonZeroU32::new(rate.per_second).unwrap_or(NonZeroU32::MIN);
            RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst))
        };
        Self(Arc::new(Shared {
            parallel_max: budget.parallel_max,
            admitted: AtomicU32::new(0),
            running: Mutex::new(HashMap::new()),
            requests: limiter(budget.requests, WEIGHT_MAX),
            pdus: limiter(budget.pdus, count(TRANSACTION_PDUS_MAX)),
            body_kib: limiter(budget.body_kib, kib(REQUEST_BYTES_MAX)),
        }))
    }

    /// One more request of an origin, with a body of so many bytes. A heavy request counts `weight` times, at most 10.
    ///
    /// # Errors
    /// When the origin has spent its budget.
    pub fn admit(&self, origin: &ServerName, weight: u32, body_bytes: usize) -> Result<Running, TooMany> {
        self.forget_some();
        let running = self.enter(origin)?;
        let origin = running.origin.clone();
        spend(&self.0.requests, &origin, weight.min(WEIGHT_MAX))?;
        spend(&self.0.body_kib, &origin, kib(body_bytes))?;
        Ok(running)
    }

    /// Events of an origin that are about to be looked at.
    ///
    /// # Errors
    /// When the origin has spent its budget.
    pub fn admit_pdus(&self, origin: &ServerName, pdus: usize) -> Result<(), TooMany> {
        spend(&self.0.pdus, &origin.to_owned(), count(pdus))
    }

    /// Now and then, when there are many, forgets the budgets that are full again.
    fn forget_some(&self) {
        if self.0.admitted.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_EVERY) {
            for limiter in [&self.0.requests, &self.0.pdus, &self.0.body_kib] {
                if limiter.len() > QUOTA_ORIGINS_KEPT {
                    limiter.retain_recent();
                }
            }
        }
    }

    fn enter(&self, origin: &ServerName) -> Result<Running, TooMany> {
        let mut running = self.0.running.lock();
        let of_origin = running.entry(origin.to_owned()).or_default();
        if *of_origin >= self.0.parallel_max {
            return Err(TooMany { retry_after: Duration::from_secs(1) });
        }
        *of_origin += 1;
        Ok(Running { quotas: self.clone(), origin: origin.to_owned() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.quotas.0.running.lock();
        if let Some(of_origin) = running.get_mut(&self.origin) {
            *of_origin = of_origin.saturating_sub(1);
            if *of_origin == 0 {
                running.remove(&self.origin);
            }
        }
    }
}

fn spend(
    limiter: &DefaultKeyedRateLimiter<OwnedServerName>,
    origin: &OwnedServerName,
    amount: u32,
) -> Result<(), TooMany> {
    let Some(amount) = NonZeroU32::new(amount) else { return Ok(()) };
    match limiter.check_key_n(origin, amount) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(not_until)) => Err(TooMany { retry_after: not_until.wait_time_from(DefaultClock::default().now()) }),
        Err(_beyond_burst) => Err(TooMany { retry_after: Duration::from_secs(60) }),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn kib(bytes: usize) -> u32 {
    count(bytes.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    fn small() -> Quotas {
        let slow = |burst| Rate { per_second: 1, burst };
        Quotas::new(Budget { parallel_max: 2, requests: slow(12), pdus: slow(60), body_kib: slow(1) })
    }

    #[test]
    fn a_peer_spends_its_own_budget_and_no_other() {
        let quotas = small();
        let (one, other) = (server_name!("one.example"), server_name!("other.example"));
        for _ in 0..12 {
            drop(quotas.admit(one, 1, 0).unwrap());
        }
        let refused = quotas.admit(one, 1, 0).err().unwrap();
        assert!(refused.retry_after > Duration::ZERO && refused.retry_after <= Duration::from_secs(1));
        assert!(quotas.admit(other, 1, 0).is_ok());
    }

    #[test]
    fn heavy_requests_count_several_times() {
        let quotas = small();
        let origin = server_name!("one.example");
        assert!(quotas.admit(origin, 10, 0).is_ok());
        assert!(quotas.admit(origin, 10, 0).is_err());
        assert!(quotas.admit(origin, 1, 0).is_ok());
    }

    #[test]
    fn requests_at_the_same_time_are_bounded_and_given_back() {
        let quotas = small();
        let origin = server_name!("one.example");
        let running = (quotas.admit(origin, 1, 0).unwrap(), quotas.admit(origin, 1, 0).unwrap());
        assert!(quotas.admit(origin, 1, 0).is_err());
        drop(running);
        assert!(quotas.admit(origin, 1, 0).is_ok());
        assert!(quotas.0.running.lock().is_empty(), "nothing is kept of who is gone");
    }

    #[test]
    fn events_and_bytes_have_budgets_of_their_own_and_the_largest_request_fits() {
        let quotas = small();
        let origin = server_name!("one.example");
        assert!(quotas.admit_pdus(origin, TRANSACTION_PDUS_MAX).is_ok());
        assert!(quotas.admit_pdus(origin, TRANSACTION_PDUS_MAX).is_err());
        assert!(quotas.admit(origin, 1, REQUEST_BYTES_MAX).is_ok());
        assert!(quotas.admit(origin, 1, REQUEST_BYTES_MAX).is_err());
        assert!(quotas.admit(origin, 1, 0).is_ok());
    }
}

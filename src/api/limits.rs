//! How often somebody may ask: per account, and per address where there is no account yet. What is over the rate is told when it will be under it again.

use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use ruma::{OwnedUserId, UserId};

use crate::{actions::ActionError, config};

/// Requests between two looks for callers who have not asked for long, and are forgotten.
const REQUESTS_BETWEEN_SWEEPS: u32 = 10_000;

/// The rates of this process.
pub(crate) struct Limits {
    rates: Option<Rates>,
}

struct Rates {
    of_accounts: Rate<OwnedUserId>,
    of_addresses: Rate<IpAddr>,
    of_logins: Rate<IpAddr>,
}

impl Limits {
    /// The rates of the configuration.
    pub(crate) fn new(config: &config::Limits) -> Self {
        let requests = Quota::per_second(config.requests_per_second);
        let logins = Quota::per_minute(config.logins_per_minute);
        let rates = config.enabled.then(|| Rates {
            of_accounts: Rate::new(requests, config.requests_burst),
            of_addresses: Rate::new(requests, config.requests_burst),
            of_logins: Rate::new(logins, config.logins_burst),
        });
        Self { rates }
    }

    /// One request of an account.
    pub(crate) fn request_of(&self, user_id: &UserId) -> Result<(), ActionError> {
        self.rates.as_ref().map_or(Ok(()), |rates| rates.of_accounts.check(&user_id.to_owned()))
    }

    /// One request from an address that brought no valid token.
    pub(crate) fn request_from(&self, address: IpAddr) -> Result<(), ActionError> {
        self.rates.as_ref().map_or(Ok(()), |rates| rates.of_addresses.check(&network(address)))
    }

    /// One log-in or registration from an address.
    pub(crate) fn login_from(&self, address: IpAddr) -> Result<(), ActionError> {
        self.rates.as_ref().map_or(Ok(()), |rates| rates.of_logins.check(&network(address)))
    }
}

/// Whoever has an IPv6 address has 2^64 of them: they count as one.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => IpAddr::V4(mapped),
            None => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        },
        v4 => v4,
    }
}

/// One rate for each key.
struct Rate<K: Clone + Eq + Hash> {
    limiter: DefaultKeyedRateLimiter<K>,
    asked: AtomicU32,
    clock: DefaultClock,
}

impl<K: Clone + Eq + Hash> Rate<K> {
    fn new(quota: Quota, burst: NonZeroU32) -> Self {
        let limiter = RateLimiter::keyed(quota.allow_burst(burst));
        Self { limiter, asked: AtomicU32::new(0), clock: DefaultClock::default() }
    }

    fn check(&self, key: &K) -> Result<(), ActionError> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % REQUESTS_BETWEEN_SWEEPS == REQUESTS_BETWEEN_SWEEPS - 1 {
            self.limiter.retain_recent();
        }
        let checked = self.limiter.check_key(key);
        checked.map_err(|later| ActionError::RateLimited { retry_after: later.wait_time_from(self.clock.now()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(network(parse("2001:db8::1")), network(parse("2001:db8::ffff:1")));
        assert_ne!(network(parse("2001:db8::1")), network(parse("2001:db8:0:1::1")));
        assert_eq!(network(parse("::ffff:192.0.2.1")), parse("192.0.2.1"));
        assert_ne!(network(parse("192.0.2.1")), network(parse("192.0.2.2")));
    }
}

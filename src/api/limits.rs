//! How often somebody may ask: per account, and per address where there is no account yet. What is over the rate is told when it will be under it again.

use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use parking_lot::RwLock;
use quick_cache::sync::Cache;
use ruma::OwnedUserId;

use super::calls::Deed;
use crate::{actions::ActionError, config};

/// Requests between two looks for callers who have not asked for long, and are forgotten.
const REQUESTS_BETWEEN_SWEEPS: u32 = 10_000;
/// Callers that one rate remembers. When even more have asked of late, all are forgotten: memory has a bound, and so has what that grants.
const CALLERS_MAX: usize = 200_000;
/// Names that may not log in for the moment.
const BARRED_MAX: usize = 100_000;

/// The rates of this process.
pub(crate) struct Limits {
    rates: Option<Rates>,
}

struct Rates {
    of_accounts: Rate<OwnedUserId>,
    of_addresses: Rate<IpAddr>,
    /// By tenant and id.
    of_app_tokens: Rate<(String, String)>,
    of_logins: Rate<IpAddr>,
    failed_logins: Rate<(String, String)>,
    /// Tenant and name, and until when.
    barred: Cache<(String, String), Instant>,
    messages: Rate<OwnedUserId>,
    rooms: Rate<OwnedUserId>,
    joins: Rate<OwnedUserId>,
    invites: Rate<OwnedUserId>,
    uploads: Rate<OwnedUserId>,
    streams: Rate<OwnedUserId>,
    passwords: Rate<OwnedUserId>,
}

impl Limits {
    /// The rates of the configuration.
    pub(crate) fn new(config: &config::Limits) -> Self {
        let second = |rate, burst| Quota::per_second(rate).allow_burst(burst);
        let minute = |rate, burst| Quota::per_minute(rate).allow_burst(burst);
        let requests = second(config.requests_per_second, config.requests_burst);
        let app_requests = second(config.app_requests_per_second, config.app_requests_burst);
        let logins = minute(config.logins_per_minute, config.logins_burst);
        let failed = minute(config.failed_logins_per_minute, config.failed_logins_burst);
        let rates = config.enabled.then(|| Rates {
            of_accounts: Rate::new("request", requests),
            of_addresses: Rate::new("request", requests),
            of_app_tokens: Rate::new("app_request", app_requests),
            of_logins: Rate::new("login", logins),
            failed_logins: Rate::new("failed_login", failed),
            barred: Cache::new(BARRED_MAX),
            messages: Rate::new(Deed::Message.word(), second(config.messages_per_second, config.messages_burst)),
            rooms: Rate::new(Deed::Room.word(), minute(config.rooms_per_minute, config.rooms_burst)),
            joins: Rate::new(Deed::Join.word(), minute(config.joins_per_minute, config.joins_burst)),
            invites: Rate::new(Deed::Invite.word(), minute(config.invites_per_minute, config.invites_burst)),
            uploads: Rate::new(Deed::Upload.word(), minute(config.uploads_per_minute, config.uploads_burst)),
            streams: Rate::new(Deed::Stream.word(), minute(config.streams_per_minute, config.streams_burst)),
            passwords: Rate::new(Deed::Password.word(), logins),
        });
        Self { rates }
    }

    /// One request of an account.
    pub(crate) fn request_of(&self, user_id: &OwnedUserId) -> Result<(), ActionError> {
        self.rates.as_ref().map_or(Ok(()), |rates| rates.of_accounts.check(user_id))
    }

    /// One request from an address that brought no valid token.
    pub(crate) fn request_from(&self, address: IpAddr) -> Result<(), ActionError> {
        self.rates.as_ref().map_or(Ok(()), |rates| rates.of_addresses.check(&network_of(address)))
    }

    /// One request with an app token.
    pub(crate) fn request_of_app(&self, tenant: &str, token_id: &str) -> Result<(), ActionError> {
        let key = || (tenant.to_owned(), token_id.to_owned());
        self.rates.as_ref().map_or(Ok(()), |rates| rates.of_app_tokens.check(&key()))
    }

    /// One log-in or registration from an address.
    pub(crate) fn login_from(&self, address: IpAddr) -> Result<(), ActionError> {
        self.rates.as_ref().map_or(Ok(()), |rates| rates.of_logins.check(&network_of(address)))
    }

    /// Deeds of an account, beside the requests that they are.
    pub(crate) fn deeds_of(&self, user_id: &OwnedUserId, deed: Deed, count: usize) -> Result<(), ActionError> {
        let (Some(rates), Some(count)) = (&self.rates, u32::try_from(count).ok().and_then(NonZeroU32::new)) else {
            return Ok(());
        };
        let rate = match deed {
            Deed::Message => &rates.messages,
            Deed::Room => &rates.rooms,
            Deed::Join => &rates.joins,
            Deed::Invite => &rates.invites,
            Deed::Upload => &rates.uploads,
            Deed::Stream => &rates.streams,
            Deed::Password => &rates.passwords,
        };
        rate.check_many(user_id, count)
    }

    /// Somebody wants to log in under a name, whether or not there is such an account. Too many wrong passwords of late bar the right one as well.
    pub(crate) fn login_as(&self, tenant: &str, name: &str) -> Result<(), ActionError> {
        let Some(rates) = &self.rates else { return Ok(()) };
        let until = rates.barred.get(&(tenant.to_owned(), name.to_owned()));
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(retry_after) if !retry_after.is_zero() => Err(rates.failed_logins.refused(retry_after)),
            _ => Ok(()),
        }
    }

    /// The password was wrong, or there is no such account.
    pub(crate) fn login_failed(&self, tenant: &str, name: &str) {
        let Some(rates) = &self.rates else { return };
        let key = (tenant.to_owned(), name.to_owned());
        if let Err(ActionError::RateLimited { retry_after }) = rates.failed_logins.check(&key) {
            rates.barred.insert(key, Instant::now() + retry_after);
        }
    }
}

/// Whoever has an IPv6 address has 2^64 of them: they count as one.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

/// One rate for each key.
struct Rate<K: Clone + Eq + Hash> {
    /// What it is a rate of, for the figures.
    word: &'static str,
    quota: Quota,
    limiter: RwLock<DefaultKeyedRateLimiter<K>>,
    asked: AtomicU32,
    clock: DefaultClock,
}

impl<K: Clone + Eq + Hash> Rate<K> {
    fn new(word: &'static str, quota: Quota) -> Self {
        let limiter = RwLock::new(RateLimiter::keyed(quota));
        Self { word, quota, limiter, asked: AtomicU32::new(0), clock: DefaultClock::default() }
    }

    fn check(&self, key: &K) -> Result<(), ActionError> {
        self.check_many(key, NonZeroU32::MIN)
    }

    /// All of them or none. More than may ever be done at once count as so many.
    fn check_many(&self, key: &K, count: NonZeroU32) -> Result<(), ActionError> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % REQUESTS_BETWEEN_SWEEPS == REQUESTS_BETWEEN_SWEEPS - 1 {
            self.sweep(CALLERS_MAX);
        }
        let count = count.min(self.quota.burst_size());
        match self.limiter.read().check_key_n(key, count) {
            Ok(Ok(())) | Err(_) => Ok(()),
            Ok(Err(later)) => Err(self.refused(later.wait_time_from(self.clock.now()))),
        }
    }

    fn refused(&self, retry_after: std::time::Duration) -> ActionError {
        metrics::counter!("yurt_rate_limited_total", "action" => self.word).increment(1);
        ActionError::RateLimited { retry_after }
    }

    fn sweep(&self, callers_max: usize) {
        let callers = {
            let limiter = self.limiter.read();
            limiter.retain_recent();
            limiter.len()
        };
        if callers > callers_max {
            tracing::warn!(callers, "{callers} callers at once: who asked how often is forgotten");
            *self.limiter.write() = RateLimiter::keyed(self.quota);
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::UserId;

    use super::*;

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(network_of(parse("2001:db8::1")), network_of(parse("2001:db8::ffff:1")));
        assert_ne!(network_of(parse("2001:db8::1")), network_of(parse("2001:db8:0:1::1")));
        assert_eq!(network_of(parse("::ffff:192.0.2.1")), parse("192.0.2.1"));
        assert_ne!(network_of(parse("192.0.2.1")), network_of(parse("192.0.2.2")));
    }

    fn limits(change: impl FnOnce(&mut config::Limits)) -> Limits {
        let mut config = config::Limits::default();
        change(&mut config);
        Limits::new(&config)
    }

    fn few(config: &mut config::Limits) {
        (config.failed_logins_burst, config.failed_logins_per_minute) = (NonZeroU32::MIN, NonZeroU32::MIN);
        (config.invites_burst, config.invites_per_minute) = (NonZeroU32::new(5).unwrap(), NonZeroU32::MIN);
    }

    #[test]
    fn wrong_passwords_bar_their_name_and_no_other() {
        let limits = limits(few);
        for tenant in ["main", "second"] {
            assert!(limits.login_as(tenant, "alice").is_ok());
        }
        limits.login_failed("main", "alice");
        assert!(limits.login_as("main", "alice").is_ok(), "one may happen");
        limits.login_failed("main", "alice");
        let refused = limits.login_as("main", "alice").unwrap_err();
        assert!(matches!(refused, ActionError::RateLimited { retry_after } if retry_after.as_secs() > 30), "{refused}");
        assert!(limits.login_as("main", "bob").is_ok() && limits.login_as("second", "alice").is_ok());
    }

    #[test]
    fn many_deeds_at_once_count_as_many_and_more_than_there_may_be_as_those() {
        let limits = limits(few);
        let alice = UserId::parse("@alice:yurt.test").unwrap();
        assert!(limits.deeds_of(&alice, Deed::Invite, 0).is_ok());
        assert!(limits.deeds_of(&alice, Deed::Invite, 3).is_ok());
        assert!(limits.deeds_of(&alice, Deed::Invite, 3).is_err());
        assert!(limits.deeds_of(&alice, Deed::Invite, 2).is_ok());
        let bob = UserId::parse("@bob:yurt.test").unwrap();
        assert!(limits.deeds_of(&bob, Deed::Invite, 100).is_ok());
        assert!(limits.deeds_of(&bob, Deed::Invite, 1).is_err());
        assert!(limits.deeds_of(&bob, Deed::Message, 1).is_ok(), "each deed has its own rate");
    }

    #[test]
    fn callers_are_forgotten_before_they_fill_the_memory() {
        let rate = Rate::new("test", Quota::per_hour(NonZeroU32::MIN));
        for key in 0..10 {
            assert!(rate.check(&key).is_ok() && rate.check(&key).is_err());
        }
        rate.sweep(10);
        assert!(rate.check(&0).is_err(), "who asked of late is remembered");
        rate.sweep(9);
        assert!(rate.check(&0).is_ok());
    }
}

//! How often somebody may ask: per account, and for log-ins per address. What is over the rate is told when it will be under it again.

use std::{net::IpAddr, num::NonZeroU32};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use ruma::{OwnedUserId, UserId};

use crate::{actions::ActionError, config};

/// Callers in memory from which those who have not asked for long are cleared away first.
const CALLERS_SWEEP: usize = 50_000;

/// The rates of this process.
pub(crate) struct Limits {
    rates: Option<Rates>,
    clock: DefaultClock,
}

struct Rates {
    requests: DefaultKeyedRateLimiter<OwnedUserId>,
    logins: DefaultKeyedRateLimiter<IpAddr>,
}

impl Limits {
    /// The rates of the configuration.
    pub(crate) fn new(config: &config::Limits) -> Self {
        let burst = |quota: Quota, burst: NonZeroU32| quota.allow_burst(burst);
        let rates = config.enabled.then(|| Rates {
            requests: RateLimiter::keyed(burst(Quota::per_second(config.requests_per_second), config.requests_burst)),
            logins: RateLimiter::keyed(burst(Quota::per_minute(config.logins_per_minute), config.logins_burst)),
        });
        Self { rates, clock: DefaultClock::default() }
    }

    /// One request of an account.
    pub(crate) fn request_of(&self, user_id: &UserId) -> Result<(), ActionError> {
        let Some(rates) = &self.rates else { return Ok(()) };
        if rates.requests.len() > CALLERS_SWEEP {
            rates.requests.retain_recent();
        }
        let checked = rates.requests.check_key(&user_id.to_owned());
        checked.map_err(|later| ActionError::RateLimited { retry_after: later.wait_time_from(self.clock.now()) })
    }

    /// One log-in or registration from an address.
    pub(crate) fn login_from(&self, address: IpAddr) -> Result<(), ActionError> {
        let Some(rates) = &self.rates else { return Ok(()) };
        if rates.logins.len() > CALLERS_SWEEP {
            rates.logins.retain_recent();
        }
        let checked = rates.logins.check_key(&address);
        checked.map_err(|later| ActionError::RateLimited { retry_after: later.wait_time_from(self.clock.now()) })
    }
}

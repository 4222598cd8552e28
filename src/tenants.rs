//! The tenants of this process: which one a request is for. May import: actions, config.
//!
//! A tenant is a whole server. It is opened at its first request; everything below knows only its own.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use rules::UnixMs;
use ruma::ServerName;
use tokio::sync::{Mutex, Semaphore};

use crate::{
    actions::{ActionError, Actions, figures, sessions},
    clock::Clock,
    config,
};

/// Tenants that are opened at the same time: each replays its log.
pub const OPENINGS_MAX: usize = 4;
/// How long nobody tries again to open a tenant that could not be opened: a try may cost as much as a whole replay.
pub const REOPEN_AFTER: Duration = Duration::from_secs(5);
/// How long a tenant that nobody uses stays open.
pub const IDLE_MAX: Duration = Duration::from_secs(15 * 60);

/// Opens one tenant's store and makes its actions.
pub type Opener = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Actions, ActionError>> + Send>> + Send + Sync>;

/// One tenant of the configuration, opened or not.
pub struct Tenant {
    /// Its section of the configuration.
    pub config: config::Tenant,
    opener: Opener,
    clock: Arc<dyn Clock>,
    openings: Arc<Semaphore>,
    opened: RwLock<Option<Actions>>,
    /// Held by who opens or closes it.
    turn: Mutex<()>,
    /// When it was last asked for, in milliseconds.
    used_at: AtomicU64,
    /// When it could not be opened the last time.
    failed_at: RwLock<Option<UnixMs>>,
}

impl Tenant {
    /// The tenant's actions; its store is opened if it is not.
    ///
    /// # Errors
    /// When the store cannot be opened; [`ActionError::Busy`] for [`REOPEN_AFTER`] after that.
    pub async fn actions(self: &Arc<Self>) -> Result<Actions, ActionError> {
        self.used_at.store(self.clock.now().0, Ordering::Relaxed);
        if let Some(actions) = self.if_open() {
            return Ok(actions);
        }
        // A caller who hangs up must not leave a store half open: opening goes on without him.
        let tenant = Arc::clone(self);
        let opening = tokio::spawn(async move { tenant.open().await });
        opening.await.map_err(ActionError::internal)?
    }

    async fn open(&self) -> Result<Actions, ActionError> {
        let _turn = self.turn.lock().await;
        if let Some(actions) = self.if_open() {
            return Ok(actions);
        }
        // Those who have waited for their turn learn what came of the try before.
        if self.has_failed_lately() {
            return Err(ActionError::Busy);
        }
        let _place = self.openings.acquire().await.map_err(ActionError::internal)?;
        let opened = (self.opener)().await;
        *self.failed_at.write() = opened.is_err().then(|| self.clock.now());
        let actions = opened?;
        *self.opened.write() = Some(actions.clone());
        Ok(actions)
    }

    fn has_failed_lately(&self) -> bool {
        let pause = u64::try_from(REOPEN_AFTER.as_millis()).unwrap_or(u64::MAX);
        let since = |failed_at: UnixMs| self.clock.now().0.checked_sub(failed_at.0);
        // A clock that was set back keeps nobody out.
        self.failed_at.read().and_then(since).is_some_and(|since| since < pause)
    }

    fn if_open(&self) -> Option<Actions> {
        self.opened.read().clone()
    }

    /// Closes the tenant if nobody has used it since then. Who comes in between waits for the end and opens it again.
    async fn close_unused_since(&self, since: u64) {
        let Ok(_turn) = self.turn.try_lock() else { return };
        let unused = {
            let mut opened = self.opened.write();
            let is_unused = self.used_at.load(Ordering::Relaxed) <= since;
            opened.take_if(|actions| is_unused && actions.is_unused())
        };
        if let Some(actions) = unused {
            tracing::info!(tenant = %self.config.name, "Tenant `{}` is closed: nobody has used it for long", self.config.name);
            if let Err(error) = actions.close().await {
                tracing::error!(tenant = %self.config.name, %error, "Tenant `{}` was not closed cleanly", self.config.name);
            }
        }
    }

    /// The names under which clients reach this tenant.
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.config.server_name.as_str()).chain(self.config.hosts.iter().map(String::as_str))
    }

    /// The host is one of this tenant's names, to the letter.
    fn is_named(&self, host: &str) -> bool {
        self.names().any(|name| name.eq_ignore_ascii_case(host))
    }

    /// The host is one of this tenant's names, whatever the port.
    fn is_named_without_port(&self, host: &str) -> bool {
        self.names().any(|name| without_port(name).eq_ignore_ascii_case(without_port(host)))
    }
}

/// All tenants of this process.
#[derive(Clone)]
pub struct Tenants(Arc<All>);

struct All {
    tenants: Vec<Arc<Tenant>>,
    clock: Arc<dyn Clock>,
}

/// Why a request is for no tenant.
#[derive(Debug)]
pub enum NoTenant {
    /// Several tenants, and none has this host.
    UnknownHost,
    /// The token is not one of the host's tenant.
    ForeignToken,
}

impl Tenants {
    /// The tenants of the configuration, none of them open.
    pub fn new(tenants: Vec<(config::Tenant, Opener)>, clock: Arc<dyn Clock>) -> Self {
        let openings = Arc::new(Semaphore::new(OPENINGS_MAX));
        let tenant = |(config, opener)| Tenant {
            config,
            opener,
            clock: Arc::clone(&clock),
            openings: Arc::clone(&openings),
            opened: RwLock::default(),
            turn: Mutex::default(),
            used_at: AtomicU64::new(0),
            failed_at: RwLock::default(),
        };
        let tenants = tenants.into_iter().map(|tenant_of| Arc::new(tenant(tenant_of))).collect();
        Self(Arc::new(All { tenants, clock }))
    }

    /// The tenant of a request, by its token and its `Host`.
    ///
    /// # Errors
    /// [`NoTenant`].
    pub fn of_request(&self, token: Option<&str>, host: Option<&str>) -> Result<&Arc<Tenant>, NoTenant> {
        let by_token = token.and_then(sessions::tenant_of).and_then(|name| self.named(name));
        let by_host = match self.0.tenants.as_slice() {
            [only] => Some(only),
            _ => host.and_then(|host| self.of_host(host)),
        };
        match (by_token, by_host) {
            (Some(token), Some(host)) if token.config.name == host.config.name => Ok(token),
            (Some(_), Some(_)) => Err(NoTenant::ForeignToken),
            (None, Some(host)) => Ok(host),
            (_, None) => Err(NoTenant::UnknownHost),
        }
    }

    /// The tenant of a host: the one that has it to the letter, else the only one that has it but for the port.
    fn of_host(&self, host: &str) -> Option<&Arc<Tenant>> {
        let exact = self.0.tenants.iter().find(|tenant| tenant.is_named(host));
        let mut others = self.0.tenants.iter().filter(|tenant| tenant.is_named_without_port(host));
        exact.or_else(|| others.next().filter(|_| others.next().is_none()))
    }

    /// The tenant that other servers know under this name, or reach under it.
    pub fn of_server(&self, name: &ServerName) -> Option<&Arc<Tenant>> {
        let exact = self.0.tenants.iter().find(|tenant| tenant.config.server_name == name);
        exact.or_else(|| self.of_host(name.as_str()))
    }

    /// The tenant that this pair of names stands for in the APIs that have such pairs.
    pub fn of_app(&self, org: &str, app: &str) -> Option<&Arc<Tenant>> {
        self.0.tenants.iter().find(|tenant| tenant.config.org == org && tenant.config.app() == app)
    }

    /// The time now.
    pub fn now(&self) -> UnixMs {
        self.0.clock.now()
    }

    /// The tenant of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.0.tenants.iter().find(|tenant| tenant.config.name == name)
    }

    /// All of them, with the actions of those that are open. Asking is no use of them.
    pub fn all(&self) -> impl Iterator<Item = (&config::Tenant, Option<Actions>)> {
        self.0.tenants.iter().map(|tenant| (&tenant.config, tenant.if_open()))
    }

    /// How many open tenants cannot be written.
    pub async fn failing(&self) -> usize {
        let mut failing = 0;
        for (_, actions) in self.all() {
            if let Some(actions) = actions
                && !figures::can_write(&actions).await
            {
                failing += 1;
            }
        }
        failing
    }

    /// Closes the tenants that nobody has used for [`IDLE_MAX`]. The only one of a process stays open.
    pub async fn close_idle(&self) {
        let idle_max = u64::try_from(IDLE_MAX.as_millis()).unwrap_or(u64::MAX);
        let Some(since) = self.0.clock.now().0.checked_sub(idle_max).filter(|_| self.0.tenants.len() > 1) else {
            return;
        };
        for tenant in &self.0.tenants {
            tenant.close_unused_since(since).await;
        }
    }

    /// Ends the live streams of all tenants that are open: their connections would not end by themselves.
    pub async fn end_streams(&self) {
        for tenant in &self.0.tenants {
            let opened = tenant.opened.read().clone();
            if let Some(actions) = opened {
                actions.end_streams().await;
            }
        }
    }

    /// Closes the stores of all tenants that are open.
    ///
    /// # Errors
    /// The first tenant that cannot be closed, after all others.
    pub async fn close(&self) -> Result<(), (String, ActionError)> {
        let mut closed = Ok(());
        for tenant in &self.0.tenants {
            let _turn = tenant.turn.lock().await;
            let opened = tenant.opened.write().take();
            if let Some(actions) = opened
                && let Err(error) = actions.close().await
            {
                closed = closed.and(Err((tenant.config.name.clone(), error)));
            }
        }
        closed
    }
}

/// The host without its port; an IPv6 address keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((bare, port)) if port.chars().all(|digit| digit.is_ascii_digit()) && !bare.ends_with(':') => bare,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Manual;

    fn tenants(names: &[(&str, &str, &[&str])]) -> Tenants {
        let tenant = |(name, server_name, hosts): &(&str, &str, &[&str])| -> (config::Tenant, Opener) {
            let mut config = config::Tenant::new(name, server_name.parse().unwrap());
            config.hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            (config, Box::new(|| Box::pin(async { Err(ActionError::Busy) })))
        };
        Tenants::new(names.iter().map(tenant).collect(), Arc::new(Manual::default()))
    }

    fn tenants_on_one_host() -> Tenants {
        tenants(&[("one", "a.example:8448", &[]), ("two", "a.example:8449", &[])])
    }

    #[test]
    fn the_only_tenant_answers_to_every_host() {
        let tenants = tenants(&[("main", "a.example", &[])]);
        for host in [None, Some("a.example"), Some("other.example:8080")] {
            assert_eq!(tenants.of_request(None, host).unwrap().config.name, "main");
        }
    }

    #[test]
    fn of_several_tenants_the_host_chooses_and_a_token_of_another_is_refused() {
        let tenants = tenants(&[("one", "one.example", &["chat.example"]), ("two", "two.example:8448", &[])]);
        let name = |host| tenants.of_request(None, Some(host)).map(|tenant| tenant.config.name.clone()).ok();
        assert_eq!(name("one.example").as_deref(), Some("one"));
        assert_eq!(name("ONE.example:1234").as_deref(), Some("one"));
        assert_eq!(name("chat.example:80").as_deref(), Some("one"));
        assert_eq!(name("two.example").as_deref(), Some("two"));
        assert_eq!(name("three.example"), None);
        let ports = tenants_on_one_host();
        let by_port = |host| ports.of_request(None, Some(host)).map(|tenant| tenant.config.name.clone()).ok();
        assert_eq!(by_port("a.example:8448").as_deref(), Some("one"));
        assert_eq!(by_port("a.example:8449").as_deref(), Some("two"));
        assert_eq!(by_port("a.example"), None, "either could be meant");
        let foreign = tenants.of_request(Some("yurt.two.x.y"), Some("one.example"));
        assert!(matches!(foreign, Err(NoTenant::ForeignToken)));
        assert_eq!(tenants.of_request(Some("yurt.two.x.y"), Some("two.example")).unwrap().config.name, "two");
    }
}

//! The tenants of this process: which one a request is for. May import: actions, config.
//!
//! A tenant is a whole server. It is opened at its first request; everything below knows only its own.

use std::{future::Future, pin::Pin, sync::Arc};

use tokio::sync::OnceCell;

use crate::{
    actions::{ActionError, Actions, sessions},
    config,
};

/// Opens one tenant's store and makes its actions.
pub type Opener = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Actions, ActionError>> + Send>> + Send + Sync>;

/// One tenant of the configuration, opened or not.
pub struct Tenant {
    /// Its section of the configuration.
    pub config: config::Tenant,
    opener: Opener,
    actions: OnceCell<Actions>,
}

impl Tenant {
    /// A tenant that is not opened yet.
    pub fn new(config: config::Tenant, opener: Opener) -> Self {
        Self { config, opener, actions: OnceCell::new() }
    }

    /// The tenant's actions; its store is opened if it is not.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub async fn actions(self: &Arc<Self>) -> Result<Actions, ActionError> {
        if let Some(actions) = self.actions.get() {
            return Ok(actions.clone());
        }
        // A caller who hangs up must not leave a store half open: opening goes on without him.
        let tenant = Arc::clone(self);
        let opening = tokio::spawn(async move {
            let opened = tenant.actions.get_or_try_init(|| (tenant.opener)()).await;
            opened.cloned()
        });
        opening.await.map_err(ActionError::internal)?
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
pub struct Tenants(Arc<[Arc<Tenant>]>);

/// Why a request is for no tenant.
#[derive(Debug)]
pub enum NoTenant {
    /// Several tenants, and none has this host.
    UnknownHost,
    /// The token is not one of the host's tenant.
    ForeignToken,
}

impl Tenants {
    /// The tenants of the configuration.
    pub fn new(tenants: Vec<Tenant>) -> Self {
        Self(tenants.into_iter().map(Arc::new).collect())
    }

    /// The tenant of a request, by its token and its `Host`.
    ///
    /// # Errors
    /// [`NoTenant`].
    pub fn of_request(&self, token: Option<&str>, host: Option<&str>) -> Result<&Arc<Tenant>, NoTenant> {
        let by_token = token.and_then(sessions::tenant_of).and_then(|name| self.named(name));
        let by_host = match &*self.0 {
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
        let exact = self.0.iter().find(|tenant| tenant.is_named(host));
        let mut others = self.0.iter().filter(|tenant| tenant.is_named_without_port(host));
        exact.or_else(|| others.next().filter(|_| others.next().is_none()))
    }

    /// The tenant of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.0.iter().find(|tenant| tenant.config.name == name)
    }

    /// Ends the live streams of all tenants that are open: their connections would not end by themselves.
    pub async fn end_streams(&self) {
        for actions in self.0.iter().filter_map(|tenant| tenant.actions.get()) {
            actions.end_streams().await;
        }
    }

    /// Closes the stores of all tenants that are open.
    pub async fn close(&self) {
        for tenant in self.0.iter() {
            if let Some(actions) = tenant.actions.get()
                && let Err(error) = actions.close().await
            {
                tracing::error!(tenant = %tenant.config.name, %error, "Tenant `{}` was not closed cleanly", tenant.config.name);
            }
        }
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

    fn tenants(names: &[(&str, &str, &[&str])]) -> Tenants {
        let tenant = |(name, server_name, hosts): &(&str, &str, &[&str])| {
            let mut config = config::Tenant::new(name, server_name.parse().unwrap());
            config.hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            Tenant::new(config, Box::new(|| Box::pin(async { Err(ActionError::Busy) })))
        };
        Tenants::new(names.iter().map(tenant).collect())
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

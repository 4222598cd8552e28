//! Where a server is: from its name to the addresses to connect to, the `Host` header, and the name in its certificate.
//!
//! Names in signatures, key look-ups and access lists are never touched by this: they stay the name of the server.
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>
//! May import: rustls (names), `outside`, `clock`, `limits`.

use std::{net::SocketAddr, sync::Arc};

use ruma::{OwnedServerName, ServerName};
use rustls::pki_types;

use crate::{
    addresses::Addresses,
    clock::Ambient,
    dial::{Dialler, Stream, TlsError},
    error::FederationError,
    limits::ENDPOINTS_MAX,
    outside::{self, Outside, is_localhost},
};

use dns::{LookupError, Resolver};
use well_known::WellKnown;

pub mod dns;
mod srv;
pub(crate) mod well_known;

/// The port of a server whose name has none.
/// Source: <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>
const PORT: u16 = 8448;

/// Finds servers and connects to them. One for the process: what it remembers is the same for all tenants.
pub struct Discovery {
    outside: Outside,
    well_known: WellKnown,
    ambient: Ambient,
}

/// The way to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to connect to, in the order to try. Not yet looked at for internal addresses: that happens on connecting.
    pub endpoints: Vec<SocketAddr>,
    /// What goes into the `Host` header.
    pub host_header: String,
    /// For whom the certificate must be. An address: it is not named in the handshake.
    pub certificate: pki_types::ServerName<'static>,
}

/// The name under which a server is found: its own, or the one it hands its traffic to. It is the `Host` header, and its
/// host is the name in the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundUnder(pub(crate) OwnedServerName);

impl Discovery {
    /// Trusts the authorities of the system and those in the PEM texts given, connects to the addresses that are allowed.
    ///
    /// # Errors
    /// [`TlsError`] when an additional authority is none.
    pub fn new(
        addresses: Addresses,
        authorities_pem: &[Vec<u8>],
        resolver: Arc<dyn Resolver>,
        ambient: Ambient,
    ) -> Result<Self, TlsError> {
        let outside = Outside { dialler: Dialler::new(addresses, authorities_pem)?, resolver, https_port: 443 };
        Ok(Self::over(outside.clone(), Box::new(outside), ambient))
    }

    fn over(outside: Outside, ask: Box<dyn well_known::Ask>, ambient: Ambient) -> Self {
        Self { outside, well_known: WellKnown::new(ask, ambient.clone()), ambient }
    }

    /// The way to a server.
    ///
    /// # Errors
    /// [`FederationError::NoAddress`].
    pub async fn route(&self, server: &ServerName) -> Result<Route, FederationError> {
        let found = self.found_under(server).await;
        self.route_to(&found).await
    }

    /// The first half of the way, from memory most of the time.
    pub(crate) async fn found_under(&self, server: &ServerName) -> FoundUnder {
        if server.is_ip_literal() || server.port().is_some() {
            return FoundUnder(server.to_owned());
        }
        let delegated = self.well_known.delegated(server.host()).await;
        FoundUnder(delegated.unwrap_or_else(|| server.to_owned()))
    }

    /// Connects to a server.
    pub(crate) async fn connect(&self, found: &FoundUnder) -> Result<Stream, FederationError> {
        let route = self.route_to(found).await?;
        self.outside.dialler.dial(&route.endpoints, &route.certificate).await
    }

    /// Asks places on the web that servers name.
    pub(crate) fn outside(&self) -> &Outside {
        &self.outside
    }

    async fn route_to(&self, FoundUnder(name): &FoundUnder) -> Result<Route, FederationError> {
        Ok(Route {
            endpoints: self.endpoints(name).await?,
            host_header: name.to_string(),
            certificate: outside::certificate_name(name.host())?,
        })
    }

    async fn endpoints(&self, name: &ServerName) -> Result<Vec<SocketAddr>, FederationError> {
        let resolver = &*self.outside.resolver;
        if name.port().is_none() && !name.is_ip_literal() && !is_localhost(name.host()) {
            for service in ["_matrix-fed._tcp", "_matrix._tcp"] {
                match resolver.services(&format!("{service}.{}", name.host())).await {
                    Ok(services) => return self.endpoints_of(services).await,
                    Err(LookupError::NotFound) => {}
                    Err(error) => return Err(outside::no_address(error)),
                }
            }
        }
        outside::endpoints(resolver, name.host(), name.port().unwrap_or(PORT)).await
    }

    /// The addresses of all targets. One that leads nowhere does not hide the others.
    async fn endpoints_of(&self, services: Vec<dns::Service>) -> Result<Vec<SocketAddr>, FederationError> {
        let services = srv::ordered(services, &self.ambient)
            .ok_or_else(|| FederationError::NoAddress("the service is not offered".to_owned()))?;
        let mut found = Vec::new();
        let mut error = None;
        for service in services {
            match outside::endpoints(&*self.outside.resolver, &service.target, service.port).await {
                Ok(endpoints) => found.extend(endpoints),
                Err(reason) => error = Some(reason),
            }
            if found.len() >= ENDPOINTS_MAX {
                break;
            }
        }
        found.truncate(ENDPOINTS_MAX);
        match error {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests;

//! Looking names up in the DNS. A trait, so that tests have their own. May import: hickory-resolver, `limits`.

use std::{net::IpAddr, pin::Pin};

use hickory_resolver::{TokioResolver, net::NetError, proto::rr::RData};

use crate::limits::{LOOKUP_TIMEOUT, SERVICES_MAX};

/// A look-up that runs.
pub type LookingUp<'a, T> = Pin<Box<dyn Future<Output = Result<T, LookupError>> + Send + 'a>>;

/// Finds out where names lead, and keeps what it found for as long as the DNS says.
pub trait Resolver: Send + Sync + 'static {
    /// The IPv4 and IPv6 addresses of a host, at least one.
    fn addresses<'a>(&'a self, host: &'a str) -> LookingUp<'a, Vec<IpAddr>>;

    /// The SRV records of a name such as `_matrix-fed._tcp.example.org`, at least one.
    fn services<'a>(&'a self, name: &'a str) -> LookingUp<'a, Vec<Service>>;
}

/// Why a look-up found nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The DNS says that there is nothing.
    #[error("no such record")]
    NotFound,
    /// The DNS did not say.
    #[error("the look-up failed: {0}")]
    Failed(String),
}

/// One SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Smaller ones are tried first.
    pub priority: u16,
    /// How often it is to be chosen among those of its priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host, without a dot at its end; empty when the service is decidedly not offered.
    pub target: String,
}

/// The resolver of the system: its name servers and its hosts file.
pub struct SystemResolver(TokioResolver);

impl SystemResolver {
    /// Reads the system's configuration.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new() -> Result<Self, LookupError> {
        let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build()).map_err(told)?;
        Ok(Self(resolver))
    }
}

impl Resolver for SystemResolver {
    fn addresses<'a>(&'a self, host: &'a str) -> LookingUp<'a, Vec<IpAddr>> {
        Box::pin(async move {
            let answer = timed(self.0.lookup_ip(absolute(host))).await?;
            found(answer.iter().collect())
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> LookingUp<'a, Vec<Service>> {
        Box::pin(async move {
            let answer = timed(self.0.srv_lookup(absolute(name))).await?;
            let services = answer.answers().iter().filter_map(|record| match &record.data {
                RData::SRV(service) => Some(Service {
                    priority: service.priority,
                    weight: service.weight,
                    port: service.port,
                    target: service.target.to_ascii().trim_end_matches('.').to_owned(),
                }),
                _ => None,
            });
            found(services.take(SERVICES_MAX).collect())
        })
    }
}

/// The name with the dot at its end that keeps search domains out.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

async fn timed<T>(lookup: impl Future<Output = Result<T, NetError>>) -> Result<T, LookupError> {
    match tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await {
        Ok(answer) => answer.map_err(told),
        Err(_) => Err(LookupError::Failed("no answer in time".to_owned())),
    }
}

fn told(error: NetError) -> LookupError {
    if error.is_no_records_found() || error.is_nx_domain() {
        LookupError::NotFound
    } else {
        LookupError::Failed(error.to_string())
    }
}

fn found<T>(records: Vec<T>) -> Result<Vec<T>, LookupError> {
    if records.is_empty() { Err(LookupError::NotFound) } else { Ok(records) }
}

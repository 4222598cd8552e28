//! Other servers: one network for the process, and for each open tenant what answers and asks them.
//!
//! May import: everything. `gateway` finds the tenant of a request, `network` is what actions ask peers through, `sending` what they are sent with.

use std::{collections::BTreeSet, fs, io, num::NonZeroU32, path::PathBuf, sync::Arc};

use ::federation::{
    addresses::Addresses,
    clock::Ambient,
    connection::{Connections, InProcess, Patience},
    discovery::{Discovery, dns::SystemResolver},
    inbound::{self, Inbound, OurServer, keys::OurKeys},
    outbound::Outbound,
    quotas::{Budget, Quotas, Rate},
    server_keys::ServerKeys,
};
use rules::UnixMs;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, UInt};

use super::ServerError;
use crate::{
    actions::{ActionError, Actions},
    clock::Clock,
    config::{Config, Limits, Tenant},
    data_folder::TenantFolder,
    random::{self, Random},
};

mod gateway;
mod network;
mod online;
mod sending;

pub(super) use gateway::Gateway;
use network::Network;
pub use online::Online;
use sending::Sender;

/// What all tenants of the process share of the network.
#[derive(Clone)]
pub(super) struct Federation {
    discovery: Arc<Discovery>,
    ambient: Ambient,
    budget: Budget,
    gateway: Arc<Gateway>,
    notaries: Vec<OwnedServerName>,
    refused_keys: BTreeSet<[u8; 32]>,
}

/// What one other server may use, as the configuration says.
fn budget(limits: &Limits) -> Budget {
    if !limits.enabled {
        return Budget::UNBOUNDED;
    }
    let rate = |per_second: NonZeroU32, burst: NonZeroU32| Rate { per_second: per_second.get(), burst: burst.get() };
    Budget {
        requests: rate(limits.peer_requests_per_second, limits.peer_requests_burst),
        pdus: rate(limits.peer_events_per_second, limits.peer_events_burst),
        ..Budget::default()
    }
}

/// What this program calls itself to other servers.
const SOFTWARE: (&str, &str) = ("Yurt", env!("CARGO_PKG_VERSION"));

impl Federation {
    /// The network of this process, with further authorities that are trusted.
    ///
    /// # Errors
    /// When an authority cannot be read, or names cannot be looked up.
    pub(super) fn new(
        config: &Config,
        own_authority: Option<PathBuf>,
        clock: &Arc<dyn Clock>,
        random: &Arc<dyn Random>,
    ) -> Result<Self, ServerError> {
        let ambient = Ambient { clock: Arc::new(Hands(Arc::clone(clock))), random: Arc::new(Lots(Arc::clone(random))) };
        let allowed = config.federation.allow_addresses.iter();
        let addresses =
            Addresses::with_exceptions(allowed.filter_map(|range| range.to_string().parse().ok()).collect());
        let files = config.federation.ca_files.iter().cloned().chain(own_authority);
        let authorities: Result<Vec<Vec<u8>>, ServerError> =
            files.map(|file| fs::read(&file).map_err(|error| ServerError::Authority { file, error })).collect();
        let network = |error: String| ServerError::Network(io::Error::other(error));
        let resolver = SystemResolver::new().map_err(|error| network(error.to_string()))?;
        let discovery = Discovery::new(addresses, &authorities?, Arc::new(resolver), ambient.clone());
        let discovery = Arc::new(discovery.map_err(|error| network(error.to_string()))?);
        Ok(Self {
            discovery,
            ambient,
            budget: budget(&config.limits),
            gateway: Gateway::new(),
            notaries: config.federation.notaries.clone(),
            refused_keys: config.federation.refused_keys().map_err(|problem| network(problem.to_string()))?,
        })
    }

    /// What finds the tenant of a request.
    pub(super) fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Plugs the network into a tenant that was just opened: it answers other servers from now on, and sends them what they lack.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub(super) async fn plug(
        &self,
        actions: &Actions,
        folder: &TenantFolder,
        tenant: &Tenant,
    ) -> Result<(), ActionError> {
        let (name, rows) = (actions.server_name.clone(), Arc::new(actions.peer_rows()));
        let key = folder.keys.current().clone();
        let inside: Arc<dyn InProcess> = Arc::<Gateway>::clone(&self.gateway);
        let connections = Connections::new(
            name.clone(),
            key,
            Arc::clone(&self.discovery),
            inside,
            Arc::clone(&rows),
            Patience::default(),
            self.ambient.clone(),
        );
        let connections = Arc::new(connections.under(actions.policy.clone()));
        let keys = ServerKeys::new(Arc::clone(&connections), self.refused_keys.clone());
        let keys = Arc::new(keys.with_notaries(self.notaries.clone()));
        let local = Arc::new(actions.clone());
        let (heard, outgoing) = (Arc::clone(&connections), Arc::clone(&actions.outgoing));
        let inbound = Inbound {
            us: self.us(tenant),
            our_keys: OurKeys::new(folder.keys.clone(), folder.retired.clone()),
            local: Arc::clone(&local),
            store: rows,
            keys: Arc::clone(&keys),
            policy: actions.policy.clone(),
            quotas: Quotas::new(self.budget),
            heard_from: Arc::new(move |peer| {
                outgoing.touch(peer);
                let (connections, peer) = (Arc::clone(&heard), peer.to_owned());
                tokio::spawn(async move {
                    if let Err(error) = connections.heard_from(&peer).await {
                        tracing::warn!(peer = %peer, %error, "That `{peer}` is back is not written down: {error}");
                    }
                });
            }),
        };
        self.gateway.open(&name, inbound::router(inbound));
        actions.connect(Arc::new(Network::new(Arc::clone(&connections), keys)));
        let outbound = Outbound::start(connections, Arc::new(actions.outbox()));
        let sender = Sender::new(outbound, local, Arc::clone(&self.gateway));
        actions.send_with(Arc::new(sender)).await
    }

    fn us(&self, tenant: &Tenant) -> OurServer {
        let (now, bits) = (self.ambient.clone(), self.ambient.clone());
        OurServer {
            name: tenant.server_name.clone(),
            reached_at: Some(tenant.reached_at.clone()).filter(|place| !place.is_empty()),
            software: SOFTWARE,
            now: Arc::new(move || now.clock.now()),
            random: Arc::new(move || u128::from(bits.random.next()) << 64 | u128::from(bits.random.next())),
        }
    }
}

/// The clock of the server, for the crate `federation`.
struct Hands(Arc<dyn Clock>);

impl ::federation::clock::Clock for Hands {
    fn now(&self) -> MilliSecondsSinceUnixEpoch {
        let UnixMs(now) = self.0.now();
        MilliSecondsSinceUnixEpoch(UInt::try_from(now).unwrap_or(UInt::MAX))
    }
}

/// The dice of the server, for the crate `federation`.
struct Lots(Arc<dyn Random>);

impl ::federation::clock::Random for Lots {
    fn next(&self) -> u64 {
        u64::from_le_bytes(random::bytes(&*self.0))
    }
}

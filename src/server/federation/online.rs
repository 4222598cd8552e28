//! Asking other servers where no server of ours runs, for the command line. Nothing is kept of what they say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ::federation::{
    BackOff, KeyDocument, PeerStore, ServerKey, StorageUnavailable,
    connection::{Alone, Connections, Patience},
    our_keys::SigningKey,
    server_keys::ServerKeys,
};
use rules::{UnixMs, keys::KeyRing};
use ruma::{EventId, OwnedEventId, OwnedServerName, OwnedServerSigningKeyId, RoomId, ServerName};
use serde_json::value::RawValue;

use super::{Federation, ServerError, network};
use crate::{
    actions::peers::Peers as _,
    clock::{self, Clock},
    config::{Config, Tenant},
    data_folder::KeysOnDisk,
    random::{self, Random},
    server::opening,
};

/// Who asks where there is no tenant: keys are given to everybody.
const NOBODY: &str = "nobody.invalid";
/// The authority that a server makes for trying out, in the data folder.
const OWN_AUTHORITY: &str = "development/ca.pem";

/// Other servers, for a while.
pub struct Online {
    network: network::Network<Forgetful>,
    own: Option<(OwnedServerName, KeyRing)>,
}

impl Online {
    /// With a tenant that has a key, its own keys are known from the data folder, and what only members of a room are told can be asked in its name.
    ///
    /// # Errors
    /// When the configuration of the network or the key of the tenant cannot be used.
    pub fn new(config: &Config, tenant: Option<&Tenant>) -> Result<Self, ServerError> {
        let clock: Arc<dyn Clock> = Arc::new(clock::System);
        let random: Arc<dyn Random> = Arc::new(random::System::default());
        let made = config.data_dir.join(OWN_AUTHORITY);
        let federation = Federation::new(config, made.is_file().then_some(made), &clock, &random)?;
        let (own, key) = match tenant {
            Some(tenant) => own(config, tenant)?,
            None => (None, None),
        };
        let name = match (&own, ServerName::parse(NOBODY)) {
            (Some((name, _)), _) => name.clone(),
            (None, Ok(nobody)) => nobody,
            (None, Err(error)) => return Err(ServerError::Network(std::io::Error::other(error))),
        };
        let connections = Connections::new(
            name,
            key.unwrap_or_else(|| SigningKey::from_random(&random::bytes(&*random))),
            Arc::clone(&federation.discovery),
            Arc::new(Alone),
            Arc::new(Forgetful),
            Patience::default(),
            federation.ambient.clone(),
        );
        let connections = Arc::new(connections);
        let keys = ServerKeys::new(Arc::clone(&connections), federation.refused_keys.clone());
        let keys = Arc::new(keys.with_notaries(federation.notaries.clone()));
        Ok(Self { network: network::Network::new(connections, keys), own })
    }

    /// What servers, or notaries, say about these keys. Those of our own name only the data folder knows.
    pub async fn keys(&self, needed: &BTreeSet<(OwnedServerName, String)>) -> KeyRing {
        let mut needed = needed.clone();
        let mut ring = KeyRing::new();
        if let Some((name, keys)) = &self.own {
            needed.retain(|(server, _)| server != name);
            ring.extend(keys.clone());
        }
        ring.extend(self.network.keys(&needed, UnixMs(0)).await);
        ring
    }

    /// The server that asks, if there is one: only servers in a room are told of its state.
    pub fn own(&self) -> Option<&ServerName> {
        self.own.as_ref().map(|(name, _)| &**name)
    }

    /// The state before an event, as the first of these servers says that tells of it.
    pub async fn state_before(
        &self,
        servers: &[OwnedServerName],
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Option<Vec<OwnedEventId>> {
        for server in servers {
            if let Ok(told) = self.network.state_ids(server, room_id, event_id).await {
                return Some(told.state);
            }
        }
        None
    }
}

type Own = (Option<(OwnedServerName, KeyRing)>, Option<SigningKey>);

fn own(config: &Config, tenant: &Tenant) -> Result<Own, ServerError> {
    let on_disk = KeysOnDisk::of(&config.data_dir, tenant);
    let Some(current) = on_disk.current()? else { return Ok((None, None)) };
    let ring = opening::own_keys(tenant, &current, &on_disk.retired()?);
    Ok((Some((tenant.server_name.clone(), ring)), Some(current.current().clone())))
}

/// Keeps nothing.
struct Forgetful;

impl PeerStore for Forgetful {
    async fn server_keys(
        &self,
        _: &ServerName,
    ) -> Result<BTreeMap<OwnedServerSigningKeyId, ServerKey>, StorageUnavailable> {
        Ok(BTreeMap::new())
    }

    async fn keep_server_keys(
        &self,
        _: &ServerName,
        _: BTreeMap<OwnedServerSigningKeyId, ServerKey>,
    ) -> Result<(), StorageUnavailable> {
        Ok(())
    }

    async fn key_document(&self, _: &ServerName) -> Result<Option<KeyDocument>, StorageUnavailable> {
        Ok(None)
    }

    async fn keep_key_document(&self, _: &ServerName, _: KeyDocument) -> Result<(), StorageUnavailable> {
        Ok(())
    }

    async fn back_off(&self, _: &ServerName) -> Result<Option<BackOff>, StorageUnavailable> {
        Ok(None)
    }

    async fn keep_back_off(&self, _: &ServerName, _: Option<BackOff>) -> Result<(), StorageUnavailable> {
        Ok(())
    }

    async fn answered(&self, _: &ServerName, _: &str) -> Result<Option<Box<RawValue>>, StorageUnavailable> {
        Ok(None)
    }

    async fn keep_answer(&self, _: &ServerName, _: &str, _: Box<RawValue>) -> Result<(), StorageUnavailable> {
        Ok(())
    }
}

//! Opening tenants: their stores on the engines of the process, their media, their keys.

use std::{path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use ::federation::our_keys::{RetiredKeys, SigningKeys};
use rules::{
    UnixMs,
    keys::{Key, KeyRing, Validity},
};

use super::{ServerError, federation::Federation};
use crate::{
    actions::{
        ActionError, Actions, Dialects, FederationMode, Parts, Registration, Settings,
        images::Images,
        media::{Media, Uploading},
        passwords::Passwords,
        remote_media::Bounds,
    },
    clock::Clock,
    config::{self, Config},
    data_folder::{DataFolder, TenantFolder},
    random::{self, Random},
    storage::{
        EffectMode, Engine, FEED_ROWS_MAX, Store, StoreOptions,
        media::{MediaError, MediaPlace, MediaStore, S3Place},
        memory::MemoryEngine,
        rocksdb::{Budget, RocksEngine, Shared},
        state::StateCache,
    },
    tenants::{Opener, Tenants},
};

/// What all tenants of the process share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    engines: Engines,
    pub(super) passwords: Passwords,
    images: Images,
    state_cache: StateCache,
    /// The network of other servers, if there are any.
    pub(super) federation: Option<Federation>,
}

/// Rows of the feed of incognito rooms that are kept: streams follow it closely and never go back.
const INCOGNITO_FEED_ROWS_MAX: u64 = 10_000;

/// Where durable rows are kept.
#[derive(Clone)]
pub enum Engines {
    /// In RocksDB, in the folder of each tenant.
    Rocks(Shared),
    /// In memory, and every commit has one home: for tests, which say which engine a tenant gets.
    StrictMemory(Arc<dyn Fn(&str) -> MemoryEngine + Send + Sync>),
}

impl Engines {
    /// RocksDB with the default budget for the whole process.
    ///
    /// # Errors
    /// When the engine cannot be set up.
    pub fn rocks() -> Result<Self, ServerError> {
        Ok(Self::Rocks(Shared::new(Budget::default())?))
    }
}

impl Common {
    pub(super) fn new(clock: Arc<dyn Clock>, engines: Engines) -> Self {
        Self {
            clock,
            random: Arc::new(random::System::default()),
            engines,
            passwords: Passwords::default(),
            images: Images::default(),
            state_cache: StateCache::default(),
            federation: None,
        }
    }

    /// Opens one tenant.
    pub(super) async fn open(
        &self,
        (settings, media, bundle): (Settings, config::Media, config::Bundle),
        tenant: &config::Tenant,
        folder: &TenantFolder,
    ) -> Result<Actions, ServerError> {
        let bad_key = || ServerError::Key(tenant.name.clone());
        let key = folder.keys.current();
        let signer = rules::signature::Signer::new(tenant.server_name.clone(), key.version(), &key.seed());
        let wrong = |error: ActionError| ServerError::Tenant { tenant: tenant.name.clone(), error };
        let (engine, effects): (Arc<dyn Engine>, EffectMode) = match &self.engines {
            Engines::Rocks(shared) => {
                (Arc::new(open_rocks(folder.database.clone(), shared.clone()).await?), EffectMode::Inline)
            }
            Engines::StrictMemory(engine_of) => (Arc::new(engine_of(&tenant.name)), EffectMode::Deferred),
        };
        let options = |effects, feed_rows_max| StoreOptions {
            effects,
            feed_rows_max,
            state_cache: self.state_cache.clone(),
            ..StoreOptions::default()
        };
        let store = Store::open(engine, options(effects, FEED_ROWS_MAX)).await?;
        let in_memory = options(EffectMode::Inline, INCOGNITO_FEED_ROWS_MAX);
        let incognito = Store::open(Arc::new(MemoryEngine::new()), in_memory).await?;
        let media = self.open_media(&media, tenant, folder).await?;
        let parts = Parts {
            tenant: tenant.name.clone(),
            signer: signer.map_err(|_unusable| bad_key())?,
            own_keys: own_keys(tenant, &folder.keys, &folder.retired),
            spool: folder.spool.clone(),
            bundle_limits: bundle.limits(),
            bundle_answer_wait: Duration::from_millis(bundle.answer_wait_ms),
            store,
            incognito,
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            settings,
            passwords: self.passwords.clone(),
            media,
        };
        let actions = Actions::open(parts).await.map_err(wrong)?;
        if let Some(federation) = &self.federation {
            federation.plug(&actions, folder, tenant).await.map_err(wrong)?;
        }
        Ok(actions)
    }

    /// The tenant's media: in its folder, or under its name in the bucket of all.
    async fn open_media(
        &self,
        config: &config::Media,
        tenant: &config::Tenant,
        folder: &TenantFolder,
    ) -> Result<Media, ServerError> {
        let place = if config.s3_bucket.is_empty() {
            MediaPlace::Folder(folder.media.clone())
        } else {
            MediaPlace::S3(S3Place {
                bucket: config.s3_bucket.clone(),
                prefix: tenant.name.clone(),
                endpoint: config.s3_endpoint.clone(),
                region: config.s3_region.clone(),
                access_key_id: config.s3_access_key_id.clone(),
                secret_access_key: config.s3_secret_access_key.0.clone(),
            })
        };
        let wrong = |error: MediaError| ServerError::Tenant { tenant: tenant.name.clone(), error: error.into() };
        let store = MediaStore::open(place).await.map_err(wrong)?;
        Ok(Media {
            store,
            images: self.images.clone(),
            upload_bytes_max: config.upload_bytes_max,
            uploading: Uploading::default(),
            remote: Bounds { medium_bytes_max: config.remote_bytes_max, cache_bytes_max: config.cache_bytes_max },
        })
    }
}

/// The keys of the tenant's file, and those that have signed before them: events of all of them come back from other servers.
pub(super) fn own_keys(tenant: &config::Tenant, keys: &SigningKeys, retired: &RetiredKeys) -> KeyRing {
    let mut ring = KeyRing::new();
    for (key_id, key) in retired.iter() {
        if let Ok(public) = key.key.as_bytes().try_into() {
            let validity = Validity::Expired(UnixMs(key.expired_ts.0.into()));
            ring.insert(tenant.server_name.clone(), key_id, Key { public, validity });
        }
    }
    for key in keys.iter() {
        let validity = Validity::Until(UnixMs(u64::MAX));
        ring.insert(tenant.server_name.clone(), &key.key_id(), Key { public: key.public_key(), validity });
    }
    ring
}

/// RocksDB replays its log while opening: that is not for the threads that serve.
async fn open_rocks(path: PathBuf, shared: Shared) -> Result<RocksEngine, ServerError> {
    let opened = tokio::task::spawn_blocking(move || RocksEngine::open(&path, &shared)).await;
    Ok(opened.map_err(|error| ServerError::Task(error.to_string()))??)
}

/// What the configuration sets for a tenant.
pub(super) fn settings(config: &Config, tenant: &config::Tenant) -> Settings {
    Settings {
        max_participants: tenant.max_participants,
        max_accounts: tenant.max_accounts,
        max_rooms: tenant.max_rooms,
        registration: match config.accounts.registration {
            config::Registration::Closed => Registration::Closed,
            config::Registration::Token => Registration::Token,
            config::Registration::Open => Registration::Open,
        },
        token_lifetime_ms: Some(config.accounts.token_lifetime_s)
            .filter(|seconds| *seconds > 0)
            .map(|seconds| seconds.saturating_mul(1_000)),
        reserved_aliases: config.accounts.reserved_aliases.clone(),
        dialects: Dialects {
            ryos_admins: config.dialects.ryos.admins.clone(),
            mirage_public_rooms_max: config.dialects.mirage.max_public_rooms,
            agora_users_max: config.dialects.agora.max_users.get().into(),
            agora_spaces_in_changes: config.dialects.agora.spaces_in_changes,
            agora_room_version: Some(config.dialects.agora.room_version.as_str()),
        },
        room_federation: match config.federation.default_room_mode {
            config::RoomMode::Open => FederationMode::Open,
            config::RoomMode::Off => FederationMode::Off,
        },
        resume_events_max: config.federation.resume_events_max,
        behind_rows_max: config.federation.behind_rows_max,
    }
}

/// The tenants of the configuration. The only one is opened at once, so that what is wrong with it shows at the start.
pub(super) async fn open_tenants(
    config: &Config,
    common: &Common,
    folder: &DataFolder,
) -> Result<Tenants, ServerError> {
    let mut tenants = Vec::new();
    for tenant in &config.tenant {
        let on_disk = Arc::new(folder.open_tenant(tenant, common.clock.now(), &*common.random)?);
        tenants.push((tenant.clone(), opener_of(config, tenant, common, &on_disk)));
    }
    let tenants = Tenants::new(tenants, Arc::clone(&common.clock));
    if let [only] = config.tenant.as_slice() {
        let opened = match tenants.named(&only.name) {
            Some(tenant) => tenant.actions().await.map(drop),
            None => Ok(()),
        };
        opened.map_err(|error| ServerError::Tenant { tenant: only.name.clone(), error })?;
    }
    Ok(tenants)
}

fn opener_of(config: &Config, tenant: &config::Tenant, common: &Common, folder: &Arc<TenantFolder>) -> Opener {
    let (settings, section) = ((settings(config, tenant), config.media.clone(), config.bundle), tenant.clone());
    let (common, folder) = (common.clone(), Arc::clone(folder));
    Box::new(move || {
        let (settings, section) = (settings.clone(), section.clone());
        let (common, folder) = (common.clone(), Arc::clone(&folder));
        let opening: Pin<Box<dyn Future<Output = Result<Actions, ActionError>> + Send>> =
            Box::pin(async move { common.open(settings, &section, &folder).await.map_err(ActionError::internal) });
        opening
    })
}

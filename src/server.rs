//! Builds everything, serves it, stops it cleanly. May import everything; nothing but the command line imports it.

use std::{net::SocketAddr, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use axum::serve::ListenerExt;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tokio_util::task::TaskTracker;

use crate::{
    actions::{ActionError, Actions, Parts, Registration, Settings, passwords::Passwords},
    api,
    clock::{self, Clock},
    config::{self, Config},
    control::{self, Answer, Listening, Request},
    data_folder::{DataFolder, FolderError, TenantFolder},
    random::{self, Random},
    storage::{
        EffectMode, Engine, FEED_ROWS_MAX, StorageError, Store, StoreOptions,
        memory::MemoryEngine,
        rocksdb::{Budget, RocksEngine, Shared},
        state::StateCache,
    },
    tenants::{Tenant, Tenants},
};

/// Why the server does not start, or not stop cleanly: one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A setting that does not hold.
    #[error("{0}")]
    Config(#[from] config::Problem),
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The store of a tenant cannot be used.
    #[error("the database of tenant `{tenant}` cannot be opened: {error}")]
    Tenant {
        /// The tenant.
        tenant: String,
        /// Why.
        error: ActionError,
    },
    /// The engine of all tenants cannot be made.
    #[error("the storage engine cannot be set up: {0}")]
    Storage(#[from] StorageError),
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {error}; choose another `{setting}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The setting that names it.
        setting: &'static str,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The socket of the command line cannot be made.
    #[error("the control socket in the data folder cannot be made: {0}")]
    Control(std::io::Error),
    /// Serving ended with an error.
    #[error("serving ended with an error: {0}")]
    Serving(String),
    /// A key that cannot sign.
    #[error("the signing key of tenant `{0}` cannot be used")]
    Key(String),
}

/// What all tenants of the process share.
#[derive(Clone)]
struct Common {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    engines: Engines,
    passwords: Passwords,
    state_cache: StateCache,
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
    fn new(clock: Arc<dyn Clock>, engines: Engines) -> Self {
        Self {
            clock,
            random: Arc::new(random::System::default()),
            engines,
            passwords: Passwords::default(),
            state_cache: StateCache::default(),
        }
    }

    async fn open(&self, settings: Settings, tenant: &config::Tenant, folder: &Folder) -> Result<Actions, ServerError> {
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
        let options =
            |effects, feed_rows_max| StoreOptions { effects, state_cache: self.state_cache.clone(), feed_rows_max };
        let store = Store::open(engine, options(effects, FEED_ROWS_MAX)).await?;
        let in_memory = options(EffectMode::Inline, INCOGNITO_FEED_ROWS_MAX);
        let incognito = Store::open(Arc::new(MemoryEngine::new()), in_memory).await?;
        let parts = Parts {
            tenant: tenant.name.clone(),
            signer: signer.map_err(|_unusable| bad_key())?,
            store,
            incognito,
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            settings,
            passwords: self.passwords.clone(),
        };
        Actions::open(parts).await.map_err(wrong)
    }
}

type Folder = TenantFolder;

/// RocksDB replays its log while opening: that is not for the threads that serve.
async fn open_rocks(path: PathBuf, shared: Shared) -> Result<RocksEngine, ServerError> {
    let opened = tokio::task::spawn_blocking(move || RocksEngine::open(&path, &shared)).await;
    Ok(opened.map_err(|error| ServerError::Serving(error.to_string()))??)
}

fn settings(config: &Config, tenant: &config::Tenant) -> Settings {
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
    }
}

/// How long requests under way may take after the wish to stop: a client that dawdles must not hold the server.
const SERVING_ENDS_MAX: Duration = Duration::from_secs(8);

/// How long what callers began and no longer wait for may take then.
const TASKS_END_MAX: Duration = Duration::from_secs(4);

/// A server that answers.
pub struct Running {
    api: SocketAddr,
    tenants: Tenants,
    tasks: TaskTracker,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
    control: Listening,
    folder: DataFolder,
}

impl Running {
    /// The address of the API, with its real port.
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// The tenants, for those who run the server in their own process.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// Takes no new requests, ends those under way, and closes all stores.
    ///
    /// # Errors
    /// When serving had ended with an error.
    pub async fn stop(self) -> Result<(), ServerError> {
        let Self { tenants, tasks, stop, mut serving, control, folder, .. } = self;
        stop.send(()).ok();
        tenants.end_streams().await;
        drop(control);
        let served = match tokio::time::timeout(SERVING_ENDS_MAX, &mut serving).await {
            Ok(served) => served.map_err(|error| ServerError::Serving(error.to_string())),
            Err(_) => {
                tracing::warn!("Some requests did not end in time and are cut off; what was acknowledged is on disk");
                serving.abort();
                Ok(Ok(()))
            }
        };
        tasks.close();
        if tokio::time::timeout(TASKS_END_MAX, tasks.wait()).await.is_err() {
            tracing::warn!("Some requests under way did not end in time; what was acknowledged is on disk");
        }
        tenants.close().await;
        drop(folder);
        served?.map_err(|error| ServerError::Serving(error.to_string()))
    }
}

/// Starts the server of this configuration.
///
/// # Errors
/// [`ServerError`]; nothing listens then.
pub async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Running, ServerError> {
    start_on(config, clock, Engines::rocks()?).await
}

/// [`start`], with durable rows kept elsewhere.
///
/// # Errors
/// As [`start`].
pub async fn start_on(config: Config, clock: Arc<dyn Clock>, engines: Engines) -> Result<Running, ServerError> {
    config.check()?;
    let folder = DataFolder::open(&config.data_dir)?;
    let common = Common::new(clock, engines);
    let mut tenants = Vec::new();
    for tenant in &config.tenant {
        let on_disk = Arc::new(folder.open_tenant(tenant, common.clock.now(), &*common.random)?);
        tenants.push(tenant_of(&config, tenant, &common, &on_disk));
    }
    let tenants = Tenants::new(tenants);
    if let [only] = config.tenant.as_slice() {
        let opened = match tenants.named(&only.name) {
            Some(tenant) => tenant.actions().await.map(drop),
            None => Ok(()),
        };
        opened.map_err(|error| ServerError::Tenant { tenant: only.name.clone(), error })?;
    }
    let control = listen_for_commands(&folder, &tenants)?;
    let address = config.listen.api;
    let refused = |error| ServerError::Listen { address, setting: "listen.api", error };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let api = listener.local_addr().map_err(refused)?;
    let tasks = TaskTracker::new();
    let router =
        api::router(&config, tenants.clone(), tasks.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let (stop, stopped) = oneshot::channel::<()>();
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "A connection keeps its delay: {error}");
        }
    });
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
        stopped.await.ok();
    });
    let serving = tokio::spawn(async move { serving.await });
    tracing::info!(%api, tenants = config.tenant.len(), "Serving the API on {api}");
    Ok(Running { api, tenants, tasks, stop, serving, control, folder })
}

fn tenant_of(config: &Config, tenant: &config::Tenant, common: &Common, folder: &Arc<Folder>) -> Tenant {
    let (settings, section) = (settings(config, tenant), tenant.clone());
    let (common, folder) = (common.clone(), Arc::clone(folder));
    let opener = move || {
        let (settings, section) = (settings.clone(), section.clone());
        let (common, folder) = (common.clone(), Arc::clone(&folder));
        let opening: Pin<Box<dyn Future<Output = Result<Actions, ActionError>> + Send>> =
            Box::pin(async move { common.open(settings, &section, &folder).await.map_err(ActionError::internal) });
        opening
    };
    Tenant::new(tenant.clone(), Box::new(opener))
}

fn listen_for_commands(folder: &DataFolder, tenants: &Tenants) -> Result<Listening, ServerError> {
    let tenants = tenants.clone();
    let handler = move |request: Request| {
        let tenants = tenants.clone();
        async move {
            let refused = |message: String| Answer::Refused { message };
            let Some(tenant) = tenants.named(&request.tenant) else {
                return refused(format!("the running server has no tenant `{}`", request.tenant));
            };
            match tenant.actions().await {
                Ok(actions) => control::run::run(&actions, request.command).await,
                Err(error) => refused(error.to_string()),
            }
        }
    };
    control::listen(folder, handler).map_err(ServerError::Control)
}

/// One tenant without listeners: for the command line while no server runs.
pub struct Offline {
    actions: Actions,
    _folder: DataFolder,
}

impl Offline {
    /// The tenant's actions.
    pub fn actions(&self) -> &Actions {
        &self.actions
    }

    /// Closes the store; everything is on disk then.
    ///
    /// # Errors
    /// When the store cannot be closed.
    pub async fn close(self) -> Result<(), ServerError> {
        self.actions.close().await.map_err(|error| ServerError::Tenant { tenant: self.actions.tenant.clone(), error })
    }
}

/// Opens one tenant without serving it.
///
/// # Errors
/// As [`start`].
pub async fn open_offline(config: &Config, tenant: &config::Tenant) -> Result<Offline, ServerError> {
    let folder = DataFolder::open(&config.data_dir)?;
    let common = Common::new(Arc::new(clock::System), Engines::rocks()?);
    let on_disk = folder.open_tenant(tenant, common.clock.now(), &*common.random)?;
    let actions = common.open(settings(config, tenant), tenant, &on_disk).await?;
    Ok(Offline { actions, _folder: folder })
}

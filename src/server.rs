//! Builds everything, serves it, stops it cleanly. May import everything; nothing but the command line imports it.

use std::{net::SocketAddr, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use axum::Router;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    actions::{
        ActionError, Actions, Parts, Registration, Settings, images::Images, media::Media, passwords::Passwords,
    },
    api,
    clock::{self, Clock},
    config::{self, Config},
    control::{self, Answer, Listening, Request},
    data_folder::{DataFolder, FolderError, TenantFolder},
    random::{self, Random},
    storage::{
        EffectMode, Engine, FEED_ROWS_MAX, StorageError, Store, StoreOptions,
        media::{MediaError, MediaPlace, MediaStore, S3Place},
        memory::MemoryEngine,
        rocksdb::{Budget, RocksEngine, Shared},
        state::StateCache,
    },
    telemetry::metrics::Exporter,
    tenants::{Opener, Tenants},
};

mod admission;
mod exporter;
mod line;
mod listener;
mod tls;

pub use admission::raise_open_files;
pub use tls::CertificateError;

use admission::Admission;
use line::Patience;
use listener::{Listener, Phase};
use tls::Certificate;

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
    #[error("the database of tenant `{tenant}` cannot be opened or closed: {error}")]
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
    /// The certificate of the API cannot be used.
    #[error("TLS of the API: {0}")]
    Certificate(#[from] CertificateError),
    /// TLS itself cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The figures cannot be kept.
    #[error("the figures of `listen.metrics` cannot be kept: {0}")]
    Figures(String),
    /// A task of the server broke.
    #[error("a task of the server broke: {0}")]
    Task(String),
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
    images: Images,
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
            images: Images::default(),
            state_cache: StateCache::default(),
        }
    }

    async fn open(
        &self,
        (settings, media): (Settings, config::Media),
        tenant: &config::Tenant,
        folder: &Folder,
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
        let options =
            |effects, feed_rows_max| StoreOptions { effects, state_cache: self.state_cache.clone(), feed_rows_max };
        let store = Store::open(engine, options(effects, FEED_ROWS_MAX)).await?;
        let in_memory = options(EffectMode::Inline, INCOGNITO_FEED_ROWS_MAX);
        let incognito = Store::open(Arc::new(MemoryEngine::new()), in_memory).await?;
        let media = self.open_media(&media, tenant, folder).await?;
        let parts = Parts {
            tenant: tenant.name.clone(),
            signer: signer.map_err(|_unusable| bad_key())?,
            store,
            incognito,
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            settings,
            passwords: self.passwords.clone(),
            media,
        };
        Actions::open(parts).await.map_err(wrong)
    }

    /// The tenant's media: in its folder, or under its name in the bucket of all.
    async fn open_media(
        &self,
        config: &config::Media,
        tenant: &config::Tenant,
        folder: &Folder,
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
        Ok(Media { store, images: self.images.clone(), upload_bytes_max: config.upload_bytes_max })
    }
}

type Folder = TenantFolder;

/// RocksDB replays its log while opening: that is not for the threads that serve.
async fn open_rocks(path: PathBuf, shared: Shared) -> Result<RocksEngine, ServerError> {
    let opened = tokio::task::spawn_blocking(move || RocksEngine::open(&path, &shared)).await;
    Ok(opened.map_err(|error| ServerError::Task(error.to_string()))??)
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
/// How long what is cut off may take to notice.
const CUT_ENDS_MAX: Duration = Duration::from_secs(1);
/// Time between two looks at the files of the certificate.
const CERTIFICATE_EVERY: Duration = Duration::from_secs(5);
/// Time between two looks for tenants that nobody uses.
const IDLE_TENANTS_EVERY: Duration = Duration::from_secs(60);
/// Connections that may ask for figures at the same time.
const METRICS_CONNECTIONS_MAX: usize = 64;

/// A server that answers.
pub struct Running {
    api: SocketAddr,
    metrics: Option<SocketAddr>,
    tenants: Tenants,
    tasks: TaskTracker,
    listeners: TaskTracker,
    stopping: DropGuard,
    phase: watch::Sender<Phase>,
    certificate: Option<Certificate>,
    control: Listening,
    folder: DataFolder,
}

impl Running {
    /// The address of the API, with its real port.
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// The address of the API as a URL.
    pub fn api_url(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.api)
    }

    /// The address of the figures, with its real port.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// The tenants, for those who run the server in their own process.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// Takes up the certificate that is in its files now; without this, that happens within seconds.
    pub async fn reload(&self) {
        if let Some(certificate) = self.certificate.clone() {
            tokio::task::spawn_blocking(move || certificate.follow()).await.ok();
        }
    }

    /// Takes no new requests, ends those under way, and closes all stores.
    ///
    /// # Errors
    /// When a store cannot be closed.
    pub async fn stop(self) -> Result<(), ServerError> {
        let Self { tenants, tasks, listeners, stopping, phase, control, folder, .. } = self;
        drop(stopping);
        phase.send_replace(Phase::Stopping);
        tenants.end_streams().await;
        drop(control);
        listeners.close();
        if tokio::time::timeout(SERVING_ENDS_MAX, listeners.wait()).await.is_err() {
            tracing::warn!("Some requests did not end in time and are cut off; what was acknowledged is on disk");
            phase.send_replace(Phase::Cut);
            if tokio::time::timeout(CUT_ENDS_MAX, listeners.wait()).await.is_err() {
                tracing::warn!("Some connections are still open");
            }
        }
        tasks.close();
        if tokio::time::timeout(TASKS_END_MAX, tasks.wait()).await.is_err() {
            tracing::warn!("Some requests under way did not end in time; what was acknowledged is on disk");
        }
        let closed = tenants.close().await;
        drop(folder);
        closed.map_err(|(tenant, error)| ServerError::Tenant { tenant, error })
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
    // Who makes a TLS connection without saying with what takes this; somebody else in the process may have chosen before.
    rustls::crypto::ring::default_provider().install_default().ok();
    let certificate = config.listen.tls().map(|(certificate, key)| Certificate::open(certificate, key)).transpose()?;
    // Before anything is counted.
    let exporter = config.listen.metrics.map(|_| Exporter::install()).transpose();
    let exporter = exporter.map_err(|error| ServerError::Figures(error.to_string()))?;
    let folder = DataFolder::open(&config.data_dir)?;
    let common = Common::new(clock, engines);
    let tenants = open_tenants(&config, &common, &folder).await?;
    let control = listen_for_commands(&folder, &tenants)?;
    let (api_tcp, api) = bind(config.listen.api, "listen.api").await?;
    let metrics = match config.listen.metrics {
        Some(address) => Some(bind(address, "listen.metrics").await?),
        None => None,
    };
    let metrics_address = metrics.as_ref().map(|(_, address)| *address);
    let (phase, phases) = watch::channel(Phase::Serving);
    let (tasks, listeners, stopping) = (TaskTracker::new(), TaskTracker::new(), CancellationToken::new());
    let given = api::Given {
        tenants: tenants.clone(),
        tasks: tasks.clone(),
        random: Arc::clone(&common.random),
        stopping: stopping.clone(),
        has_figures: exporter.is_some(),
    };
    let limits = &config.limits;
    let listen = |tcp, tls, router: Router, admission: &Arc<Admission>| {
        let patience = Patience { head: limits.head_timeout(), idle: limits.idle_timeout() };
        let (admission, phase) = (Arc::clone(admission), phases.clone());
        listeners.spawn(listener::serve(Listener { tcp, tls, router, admission, patience, phase }));
    };
    let connections_max = admission::affordable(limits.connections_max);
    let uncounted = config.listen.trusted_proxies.clone().into();
    let admission = Admission::new(connections_max, limits.connections_per_address_max, uncounted);
    let tls = certificate.as_ref().map(Certificate::acceptor).transpose()?;
    listen(api_tcp, tls, api::router(&config, given), &admission);
    if let (Some((tcp, _)), Some(exporter)) = (metrics, exporter) {
        let few = Admission::new(METRICS_CONNECTIONS_MAX, METRICS_CONNECTIONS_MAX, Arc::default());
        let (passwords, tenants) = (common.passwords.clone(), tenants.clone());
        let sources = exporter::Sources { exporter: exporter.clone(), tenants, passwords, admission };
        listen(tcp, None, exporter::router(sources), &few);
        tokio::spawn(exporter::tidy(exporter, stopping.clone()));
    }
    tokio::spawn(look_after(tenants.clone(), certificate.clone(), stopping.clone()));
    warn_of_plain_http(&config);
    let running = Running {
        api,
        metrics: metrics_address,
        tenants,
        tasks,
        listeners,
        stopping: stopping.drop_guard(),
        phase,
        certificate,
        control,
        folder,
    };
    tracing::info!(tenants = config.tenant.len(), "Serving the API on {}", running.api_url());
    Ok(running)
}

async fn bind(address: SocketAddr, setting: &'static str) -> Result<(TcpListener, SocketAddr), ServerError> {
    let refused = |error| ServerError::Listen { address, setting, error };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}

fn warn_of_plain_http(config: &Config) {
    let listen = &config.listen;
    if !listen.api.ip().is_loopback() && listen.tls().is_none() && listen.trusted_proxies.is_empty() {
        let advice =
            "set `listen.tls_certificate` and `listen.tls_key`, or name your proxy in `listen.trusted_proxies`";
        tracing::warn!(
            "The API speaks plain HTTP on {}: passwords and tokens can be read on the way; {advice}",
            listen.api
        );
    }
}

/// What has to be looked after from time to time, until the server stops.
async fn look_after(tenants: Tenants, certificate: Option<Certificate>, stopping: CancellationToken) {
    let mut certificate_ticks = tokio::time::interval(CERTIFICATE_EVERY);
    let mut tenant_ticks = tokio::time::interval(IDLE_TENANTS_EVERY);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = certificate_ticks.tick(), if certificate.is_some() => {
                if let Some(certificate) = certificate.clone() {
                    tokio::task::spawn_blocking(move || certificate.follow()).await.ok();
                }
            }
            _ = tenant_ticks.tick() => tenants.close_idle().await,
        }
    }
}

/// The tenants of the configuration. The only one is opened at once, so that what is wrong with it shows at the start.
async fn open_tenants(config: &Config, common: &Common, folder: &DataFolder) -> Result<Tenants, ServerError> {
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

fn opener_of(config: &Config, tenant: &config::Tenant, common: &Common, folder: &Arc<Folder>) -> Opener {
    let (settings, section) = ((settings(config, tenant), config.media.clone()), tenant.clone());
    let (common, folder) = (common.clone(), Arc::clone(folder));
    Box::new(move || {
        let (settings, section) = (settings.clone(), section.clone());
        let (common, folder) = (common.clone(), Arc::clone(&folder));
        let opening: Pin<Box<dyn Future<Output = Result<Actions, ActionError>> + Send>> =
            Box::pin(async move { common.open(settings, &section, &folder).await.map_err(ActionError::internal) });
        opening
    })
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
    let actions = common.open((settings(config, tenant), config.media.clone()), tenant, &on_disk).await?;
    Ok(Offline { actions, _folder: folder })
}

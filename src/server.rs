//! Builds everything, serves it, stops it cleanly. May import everything; nothing but the command line imports it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use futures_util::{StreamExt as _, stream};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    actions::{ActionError, Actions},
    api,
    clock::{self, Clock},
    config::{self, Config},
    control::{self, Answer, Listening, Request},
    data_folder::{DataFolder, FolderError},
    storage::StorageError,
    telemetry::metrics::Exporter,
    tenants::{OPENINGS_MAX, Tenants},
};

mod admission;
mod certificates;
mod exporter;
mod federation;
mod line;
mod listener;
mod opening;
mod tls;

pub use admission::raise_open_files;
pub use federation::Online;
pub use opening::Engines;
pub use tls::CertificateError;

use admission::Admission;
use certificates::Certificates;
use federation::{Federation, Gateway};
use line::Patience;
use listener::{Listener, Phase};
use opening::{Common, open_tenants, settings};
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
    /// A certificate for other servers cannot be used.
    #[error("TLS for other servers: {0}")]
    PeerCertificate(CertificateError),
    /// A certificate for names of this machine cannot be made.
    #[error(
        "a certificate for this machine cannot be made in the data folder: {0}; set `federation.tls_certificate` and `federation.tls_key`"
    )]
    Development(std::io::Error),
    /// A file of `federation.ca_files` cannot be read.
    #[error("`{}` cannot be read: {error}; check `federation.ca_files`", .file.display())]
    Authority {
        /// The file.
        file: std::path::PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The network of other servers cannot be set up.
    #[error("other servers cannot be reached: {0}")]
    Network(std::io::Error),
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
    federation: Option<SocketAddr>,
    federation_has_tls: bool,
    metrics: Option<SocketAddr>,
    tenants: Tenants,
    tasks: TaskTracker,
    listeners: TaskTracker,
    stopping: DropGuard,
    phase: watch::Sender<Phase>,
    certificate: Followed,
    gateway: Option<Arc<Gateway>>,
    control: Listening,
    folder: DataFolder,
}

/// The certificates of the listeners, which follow their files.
#[derive(Clone, Default)]
struct Followed {
    api: Option<Certificate>,
    federation: Option<Certificates>,
}

impl Followed {
    /// Takes up what the files hold now.
    async fn follow(&self) {
        let followed = self.clone();
        let following = move || {
            followed.api.iter().for_each(Certificate::follow);
            followed.federation.iter().for_each(Certificates::follow);
        };
        tokio::task::spawn_blocking(following).await.ok();
    }
}

impl Running {
    /// The address of the API, with its real port.
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// The address of the API as a URL.
    pub fn api_url(&self) -> String {
        let scheme = if self.certificate.api.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.api)
    }

    /// The address for other servers, with its real port.
    pub fn federation(&self) -> Option<SocketAddr> {
        self.federation
    }

    /// The address for other servers as a URL.
    pub fn federation_url(&self) -> Option<String> {
        let scheme = if self.federation_has_tls { "https" } else { "http" };
        self.federation.map(|address| format!("{scheme}://{address}"))
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
        self.certificate.follow().await;
    }

    /// Takes no new requests, ends those under way, and closes all stores.
    ///
    /// # Errors
    /// When a store cannot be closed.
    pub async fn stop(self) -> Result<(), ServerError> {
        let Self { tenants, tasks, listeners, stopping, phase, control, folder, gateway, .. } = self;
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
        if let Some(gateway) = gateway {
            gateway.close();
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
    api::check(&config)?;
    // Who makes a TLS connection without saying with what takes this; somebody else in the process may have chosen before.
    rustls::crypto::ring::default_provider().install_default().ok();
    let certificate =
        config.listen.tls().map(|(certificate, key)| Certificate::open("listen", certificate, key)).transpose()?;
    // Before anything is counted.
    let exporter = config.listen.metrics.map(|_| Exporter::install()).transpose();
    let exporter = exporter.map_err(|error| ServerError::Figures(error.to_string()))?;
    let folder = DataFolder::open(&config.data_dir)?;
    let mut common = Common::new(clock, engines);
    let peers = Peering::new(&config, &folder, &mut common)?;
    // Before tenants are opened: once they are, they send to other servers.
    let Bound { api: (api_tcp, api), federation, metrics } = Bound::new(&config).await?;
    let (federation_address, metrics_address) = (address_of(federation.as_ref()), address_of(metrics.as_ref()));
    let tenants = open_tenants(&config, &common, &folder).await?;
    let control = listen_for_commands(&folder, &tenants)?;
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
    let gateway = peers.as_ref().map(|peers| Arc::clone(peers.network.gateway()));
    if let (Some((tcp, _)), Some(peers)) = (federation, &peers) {
        let tls = peers.certificates.as_ref().map(Certificates::acceptor).transpose()?;
        peers.network.gateway().serve(tenants.clone());
        listen(tcp, tls, peers.network.gateway().router(), &admission);
        tokio::spawn(open_all(tenants.clone(), stopping.clone()));
    }
    if let (Some((tcp, _)), Some(exporter)) = (metrics, exporter) {
        let few = Admission::new(METRICS_CONNECTIONS_MAX, METRICS_CONNECTIONS_MAX, Arc::default());
        let (passwords, tenants) = (common.passwords.clone(), tenants.clone());
        let sources = exporter::Sources { exporter: exporter.clone(), tenants, passwords, admission };
        listen(tcp, None, exporter::router(sources), &few);
        tokio::spawn(exporter::tidy(exporter, stopping.clone()));
    }
    let certificate = Followed { api: certificate, federation: peers.and_then(|peers| peers.certificates) };
    tokio::spawn(look_after(tenants.clone(), certificate.clone(), stopping.clone()));
    warn_of_plain_http(&config);
    let running = Running {
        api,
        federation: federation_address,
        federation_has_tls: config.federation.tls,
        metrics: metrics_address,
        tenants,
        tasks,
        listeners,
        stopping: stopping.drop_guard(),
        phase,
        certificate,
        gateway,
        control,
        folder,
    };
    tracing::info!(tenants = config.tenant.len(), "Serving the API on {}", running.api_url());
    Ok(running)
}

/// Addresses that are ours, with their real ports.
struct Bound {
    api: (TcpListener, SocketAddr),
    federation: Option<(TcpListener, SocketAddr)>,
    metrics: Option<(TcpListener, SocketAddr)>,
}

impl Bound {
    async fn new(config: &Config) -> Result<Self, ServerError> {
        let listen = &config.listen;
        let api = bind(listen.api, "listen.api").await?;
        let federation = match config.federation.enabled {
            true => Some(bind(listen.federation, "listen.federation").await?),
            false => None,
        };
        let metrics = match listen.metrics {
            Some(address) => Some(bind(address, "listen.metrics").await?),
            None => None,
        };
        Ok(Self { api, federation, metrics })
    }
}

fn address_of(bound: Option<&(TcpListener, SocketAddr)>) -> Option<SocketAddr> {
    bound.map(|(_, address)| *address)
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

/// What the process needs for other servers.
struct Peering {
    network: Federation,
    /// None: a proxy speaks TLS.
    certificates: Option<Certificates>,
}

impl Peering {
    /// Sets up what the configuration says, for all tenants that are opened from now on; none: there are no other servers.
    fn new(config: &Config, folder: &DataFolder, common: &mut Common) -> Result<Option<Self>, ServerError> {
        if !config.federation.enabled {
            return Ok(None);
        }
        let certificates = config.federation.tls.then(|| Certificates::open(config, folder)).transpose()?;
        let authority = certificates.as_ref().and_then(Certificates::authority).map(ToOwned::to_owned);
        let network = Federation::new(config, authority, &common.clock, &common.random)?;
        common.federation = Some(network.clone());
        Ok(Some(Self { network, certificates }))
    }
}

/// Opens all tenants, a few at a time: what they owed to other servers before the start, only they know.
async fn open_all(tenants: Tenants, stopping: CancellationToken) {
    let names: Vec<String> = tenants.all().map(|(tenant, _)| tenant.name.clone()).collect();
    let opening = stream::iter(names).for_each_concurrent(OPENINGS_MAX, move |name| {
        let tenants = tenants.clone();
        async move {
            let Some(tenant) = tenants.named(&name) else { return };
            if let Err(error) = tenant.actions().await {
                tracing::warn!(tenant = %name, %error, "Tenant `{name}` cannot be opened: {error}");
            }
        }
    });
    stopping.run_until_cancelled(opening).await;
}

/// What has to be looked after from time to time, until the server stops.
async fn look_after(tenants: Tenants, certificate: Followed, stopping: CancellationToken) {
    let mut certificate_ticks = tokio::time::interval(CERTIFICATE_EVERY);
    let mut tenant_ticks = tokio::time::interval(IDLE_TENANTS_EVERY);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = certificate_ticks.tick() => certificate.follow().await,
            _ = tenant_ticks.tick() => tenants.close_idle().await,
        }
    }
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
    let actions =
        common.open((settings(config, tenant), config.media.clone(), config.bundle), tenant, &on_disk).await?;
    Ok(Offline { actions, _folder: folder })
}

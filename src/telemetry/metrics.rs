//! The figures of the process for Prometheus. Whoever has something to tell uses the macros of the crate `metrics`, which do nothing until a server with
//! `[listen] metrics` starts. Labels have few values: never an id of a room or a person.
//!
//! May import: metrics, its exporter.

use std::sync::OnceLock;

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Seconds, from a hit in memory to the longest wait for an answer.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Commits of a group.
const COMMITS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// Bytes of a group.
const BYTES: &[f64] = &[1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0];

/// Tenants up to which figures carry the tenant's name.
pub const LABELLED_TENANTS_MAX: usize = 100;

/// What the figures are read from. Copies share it.
#[derive(Clone)]
pub struct Exporter(PrometheusHandle);

impl Exporter {
    /// The exporter of the process, made at the first call: from then on figures are kept.
    ///
    /// # Errors
    /// When another recorder was set before.
    pub fn install() -> Result<Self, BuildError> {
        static INSTALLED: OnceLock<Result<Exporter, String>> = OnceLock::new();
        let installed = INSTALLED.get_or_init(|| {
            let exporter = builder().and_then(PrometheusBuilder::install_recorder);
            describe();
            exporter.map(Self).map_err(|error| error.to_string())
        });
        installed.clone().map_err(BuildError::FailedToCreateRuntime)
    }

    /// All figures as Prometheus reads them.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Sorts what was measured since the last call into buckets; without it, measurements pile up.
    pub fn tidy(&self) {
        self.0.run_upkeep();
    }
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_group_commits".to_owned()), COMMITS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), BYTES)
}

fn describe() {
    describe_counter!("yurt_http_requests_total", "Answered requests by method, route and class of status");
    describe_histogram!("yurt_http_request_seconds", "Time until the head of the answer, by method and route");
    describe_counter!("yurt_rate_limited_total", "Requests refused for their rate, by what they asked for");
    describe_gauge!("yurt_connections", "Open connections of the API");
    describe_counter!("yurt_connections_refused_total", "Connections closed at once because there were too many");
    describe_counter!("yurt_events_total", "Stored events by outcome (accepted, soft_failed, rejected)");
    describe_counter!("yurt_commits_total", "Commits by outcome (done, conflict, refused)");
    describe_histogram!("yurt_commit_group_commits", "Commits that were written and synced together");
    describe_histogram!("yurt_commit_group_bytes", "Bytes that were written and synced together");
    describe_histogram!("yurt_commit_sync_seconds", "Time to write and sync a group of commits");
    describe_gauge!("yurt_tenants_open", "Tenants whose database is open");
    describe_gauge!("yurt_rooms_in_memory", "Rooms that are kept in memory");
    describe_gauge!("yurt_lane_writers_waiting", "Writers that wait for the lane of a room");
    describe_gauge!("yurt_store_writable", "1: the database takes writes");
    describe_gauge!("yurt_store_live_bytes", "Bytes of rows in the database, as RocksDB estimates them");
    describe_gauge!("yurt_store_memtable_bytes", "Bytes of recent writes in memory");
    describe_gauge!("yurt_store_file_bytes", "Bytes of the database's files");
    describe_gauge!("yurt_store_files", "Files of the database");
    describe_gauge!("yurt_block_cache_bytes", "Bytes of blocks in memory, of all databases");
    describe_gauge!("yurt_password_runs", "Passwords that are hashed now, or wait for it");
    describe_gauge!("yurt_streams", "Open streams");
    describe_gauge!("yurt_jobs_running", "Jobs that have their turn");
    describe_gauge!("yurt_background_tasks", "Work beside the requests: jobs with and without their turn, and tidying");
    describe_counter!("yurt_federation_requests_total", "Answered requests of other servers by endpoint and status");
    describe_counter!("yurt_federation_transactions_received_total", "Transactions of other servers by outcome");
    describe_counter!("yurt_federation_pdus_received_total", "Events in transactions of other servers by outcome");
    describe_counter!("yurt_federation_transactions_sent_total", "Batches of events that other servers took");
    describe_counter!("yurt_federation_pdus_sent_total", "Events handed out for other servers");
    describe_counter!(
        "yurt_state_resolutions_total",
        "Times that states of a room were merged and the answer was not at hand"
    );
    describe_counter!("yurt_federation_back_offs_total", "Times that another server did not answer and was left alone");
    describe_gauge!("yurt_federation_peers_behind", "Other servers that lack events of ours");
    describe_gauge!("process_resident_memory_bytes", "Memory of the process that is in RAM");
    describe_gauge!("process_open_fds", "Open files and connections of the process");
}

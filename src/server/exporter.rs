//! `GET /metrics` on a listener of its own: what is counted as it happens, and what is looked up when somebody asks.
//!
//! May import: telemetry, tenants, actions (figures), axum.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};
use metrics::gauge;
use tokio_util::sync::CancellationToken;

use super::admission::Admission;
use crate::{
    actions::{
        figures::{self, Figures},
        passwords::Passwords,
    },
    telemetry::metrics::{Exporter, LABELLED_TENANTS_MAX},
    tenants::Tenants,
};

/// Time between two tidyings of what was measured.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// What is looked up when somebody asks.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) exporter: Exporter,
    pub(super) tenants: Tenants,
    pub(super) passwords: Passwords,
    pub(super) admission: Arc<Admission>,
}

/// The router of the listener.
pub(super) fn router(sources: Sources) -> Router {
    Router::new().route("/metrics", get(answer)).with_state(sources)
}

/// Keeps measurements from piling up, until the server stops.
pub(super) async fn tidy(exporter: Exporter, stopping: CancellationToken) {
    let mut ticks = tokio::time::interval(TIDY_EVERY);
    while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
        exporter.tidy();
    }
}

async fn answer(State(sources): State<Sources>) -> impl IntoResponse {
    look_up(&sources);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], sources.exporter.render())
}

fn look_up(sources: &Sources) {
    gauge!("yurt_connections").set(number(sources.admission.open()));
    gauge!("yurt_password_runs").set(number(sources.passwords.runs()));
    let figures: Vec<(String, Option<Figures>)> = sources
        .tenants
        .all()
        .map(|(tenant, actions)| (tenant.name.clone(), actions.as_ref().map(figures::read)))
        .collect();
    gauge!("yurt_tenants_open").set(number(figures.iter().filter(|(_, figures)| figures.is_some()).count()));
    let cached =
        figures.iter().filter_map(|(_, figures)| figures.map(|figures| figures.usage.shared_cache_bytes)).max();
    gauge!("yurt_block_cache_bytes").set(number(cached.unwrap_or_default()));
    if figures.len() <= LABELLED_TENANTS_MAX {
        for (tenant, figures) in figures {
            tell(Some(&tenant), &figures.into_iter().collect::<Vec<_>>());
        }
    } else {
        tell(None, &figures.into_iter().filter_map(|(_, figures)| figures).collect::<Vec<_>>());
    }
    if let Some(resident) = resident_bytes() {
        gauge!("process_resident_memory_bytes").set(number(resident));
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        gauge!("process_open_fds").set(number(files.count()));
    }
}

/// The figures of one tenant, or all together; a closed one has zeros.
fn tell(tenant: Option<&str>, figures: &[Figures]) {
    let labels: Vec<metrics::Label> =
        tenant.map(|tenant| metrics::Label::new("tenant", tenant.to_owned())).into_iter().collect();
    let sum = |of: fn(&Figures) -> u64| number(figures.iter().map(of).sum::<u64>());
    let count = |of: fn(&Figures) -> usize| number(figures.iter().map(of).sum::<usize>());
    gauge!("yurt_rooms_in_memory", labels.clone()).set(count(|figures| figures.rooms_in_memory));
    gauge!("yurt_lane_writers_waiting", labels.clone()).set(count(|figures| figures.writers_waiting));
    gauge!("yurt_streams", labels.clone()).set(count(|figures| figures.streams));
    gauge!("yurt_jobs_running", labels.clone()).set(count(|figures| figures.jobs_running));
    gauge!("yurt_background_tasks", labels.clone()).set(count(|figures| figures.tasks));
    gauge!("yurt_federation_peers_behind", labels.clone()).set(count(|figures| figures.peers_behind));
    gauge!("yurt_store_live_bytes", labels.clone()).set(sum(|figures| figures.usage.live_bytes));
    gauge!("yurt_store_memtable_bytes", labels.clone()).set(sum(|figures| figures.usage.memtable_bytes));
    gauge!("yurt_store_file_bytes", labels.clone()).set(sum(|figures| figures.usage.file_bytes));
    gauge!("yurt_store_files", labels.clone()).set(sum(|figures| figures.usage.files));
    let is_writable = figures.iter().all(|figures| figures.is_writable);
    gauge!("yurt_store_writable", labels).set(f64::from(u8::from(is_writable)));
}

/// Memory of the process that is in RAM, as Linux says it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A number as the exporter takes it.
#[expect(clippy::as_conversions, reason = "above 2^53 a figure may be off by a few")]
fn number(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or(u64::MAX) as f64
}

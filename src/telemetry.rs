//! Where log records go: to stderr, filtered and formed by the section `[log]`. Figures are in `metrics`.
//!
//! May import: `config`, tracing-subscriber.

use std::io::IsTerminal as _;

use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::config::{Log, LogFormat, Problem};

pub mod metrics;

/// Sends the process's log records to stderr from now on. Called again, it changes nothing: the first caller decides.
///
/// # Errors
/// When the level is not one.
pub fn start(log: &Log) -> Result<(), Problem> {
    // A library that tells of every event it judges is heard when it warns, or when the level names it. Where it merges forks, it warns of each event that
    // the merge leaves out: peers cause that, and nothing is wrong.
    let asked = log.targets()?;
    let targets = Targets::new()
        .with_target("ruma", LevelFilter::WARN)
        .with_target("ruma_state_res", LevelFilter::ERROR)
        .with_default(asked.default_level().unwrap_or(LevelFilter::OFF))
        .with_targets(asked);
    let colours = std::io::stderr().is_terminal();
    let records = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let records = match log.format {
        LogFormat::Text => records.boxed(),
        LogFormat::Json => records.json().flatten_event(true).boxed(),
    };
    // Fails only when a subscriber is set already, which is what "the first caller decides" means.
    tracing_subscriber::registry().with(records.with_filter(targets)).try_init().ok();
    Ok(())
}

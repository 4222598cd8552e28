//! What other servers cost, and wait: measured on the built server, in one run. Absolute numbers are the machine's, which servers and clients share.
//! `make bench BENCHES='--bench federation'`; Markdown goes to stdout, progress to stderr.
//!
//! `YURT_BENCH=quick` measures less. `YURT_BENCH_PARTS=incoming,joins` runs some of the parts that [`PARTS`] names; `sight` starts two Synapses, and
//! `YURT_TEST_PEER=none` leaves it out.
//!
//! * `incoming`: events of a peer, verified, authorised and durable, in a second and for each second of processor time.
//! * `joins`: entering a room with many members on another server of ours.
//! * `forks`: resolving the state of a room whose history forked.
//! * `fan_out`: sending into a room in which a hundred servers are, some of them dead.
//! * `sight`: from a send on one server until a client of another sees it: with a Synapse, and between two Synapses.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::disallowed_methods,
    reason = "a program for people that may stop at the first surprise"
)]

mod fan_out;
mod forks;
mod home;
mod incoming;
mod joins;
mod peer;
#[path = "../load/program.rs"]
#[expect(dead_code, reason = "shared with the bench `load`, which asks for more")]
mod program;
mod sight;

use std::{collections::BTreeSet, time::Duration};

/// The parts of a run, in their order.
const PARTS: [&str; 5] = ["incoming", "joins", "forks", "fan_out", "sight"];

/// How much is measured.
pub(crate) struct Scale {
    /// Events of peers.
    pub(crate) events: usize,
    /// Members of the rooms that are joined.
    pub(crate) members: &'static [usize],
    /// Changes of state on each branch of a fork.
    pub(crate) changes: &'static [usize],
    /// Servers in the room that is sent to.
    pub(crate) destinations: usize,
    /// How many of them are dead.
    pub(crate) dead: usize,
    /// How long sends are measured.
    pub(crate) measured: Duration,
    /// Messages whose sight is waited for.
    pub(crate) sights: usize,
}

impl Scale {
    fn of_environment() -> Self {
        if std::env::var("YURT_BENCH").is_ok_and(|scale| scale == "quick") {
            let measured = Duration::from_secs(2);
            return Self {
                events: 2_000,
                members: &[1_000],
                changes: &[100],
                destinations: 20,
                dead: 4,
                measured,
                sights: 10,
            };
        }
        let measured = Duration::from_secs(5);
        let (members, changes) = (&[10_000, 100_000], &[100, 1_000]);
        Self { events: 20_000, members, changes, destinations: 100, dead: 20, measured, sights: 50 }
    }
}

fn main() {
    let scale = Scale::of_environment();
    let wanted = std::env::var("YURT_BENCH_PARTS").unwrap_or_else(|_unset| PARTS.join(","));
    let wanted: BTreeSet<&str> = wanted.split(',').map(str::trim).collect();
    let unknown: Vec<_> = wanted.iter().filter(|part| !PARTS.contains(part)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are no parts; there are {PARTS:?}");
    program::raise_open_files();
    rustls::crypto::ring::default_provider().install_default().expect("nobody chose another cryptography");
    // Beside the build, so that it is a disk and no memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        if wanted.contains("incoming") {
            incoming::run(folder.path(), &scale).await;
        }
        if wanted.contains("joins") {
            joins::run(folder.path(), &scale).await;
        }
        if wanted.contains("forks") {
            forks::run(folder.path(), &scale).await;
        }
        if wanted.contains("fan_out") {
            fan_out::run(folder.path(), &scale).await;
        }
        if wanted.contains("sight") && std::env::var("YURT_TEST_PEER").as_deref() != Ok("none") {
            sight::run(folder.path(), &scale).await;
        }
    });
}

/// A time for people.
pub(crate) fn ms(time: Duration) -> String {
    format!("{:.1} ms", 1e3 * time.as_secs_f64())
}

/// The time that so much of a hundred have not passed.
pub(crate) fn percentile(times: &mut [Duration], share: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * share / 100).copied().unwrap_or_default()
}

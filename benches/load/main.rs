//! Load on the built server, beside what the machine can do at all, in one run: `make bench BENCHES='--bench load'`.
//!
//! Tables in Markdown go to stdout, progress to stderr. The ratios are what counts; the absolute numbers are the machine's. Client and server share it.
//! `YURT_BENCH=quick` runs a tenth of it in two minutes. `YURT_BENCH_PARTS=machine,sends` runs some of the parts that [`PARTS`] names.
//!
//! * `machine`: what synced writes, signatures and bare HTTP allow.
//! * `client`: connections that send the next request when the last is answered.
//! * `program`: the built server as a process, and what it uses.
//! * `town`: accounts, rooms and members, made before the server starts.
//! * `sends`, `rooms`, `growth`, `streams`, `idle`, `dialects`: what is measured.
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

mod client;
mod dialects;
mod growth;
mod idle;
mod machine;
mod program;
mod rooms;
mod sends;
mod streams;
mod town;

use std::{collections::BTreeSet, path::Path, time::Duration};

use machine::Machine;
use program::Program;
use town::Town;

/// The parts of a run, in their order.
const PARTS: [&str; 7] = ["machine", "idle", "sends", "rooms", "streams", "dialects", "growth"];

/// How much is measured.
pub(crate) struct Scale {
    /// How long each rate is measured.
    pub(crate) measured: Duration,
    /// Members of the small, the middle and the large room.
    pub(crate) members: [usize; 3],
    /// Messages of the room that grows.
    pub(crate) messages: usize,
    /// Streams that one message goes out to.
    pub(crate) streams: &'static [usize],
    /// Tenants of one process.
    pub(crate) tenants: &'static [usize],
    /// Accounts, each with a token.
    pub(crate) accounts: usize,
}

impl Scale {
    fn of_environment() -> Self {
        if std::env::var("YURT_BENCH").is_ok_and(|scale| scale == "quick") {
            return Self {
                measured: Duration::from_secs(2),
                members: [10, 1_000, 10_000],
                messages: 100_000,
                streams: &[1_000],
                tenants: &[1, 10],
                accounts: 500,
            };
        }
        Self {
            measured: Duration::from_secs(5),
            members: [10, 1_000, 100_000],
            messages: 1_000_000,
            streams: &[1_000, 10_000],
            tenants: &[1, 10, 100],
            accounts: 1_000,
        }
    }
}

fn main() {
    let scale = Scale::of_environment();
    let wanted = std::env::var("YURT_BENCH_PARTS").unwrap_or_else(|_unset| PARTS.join(","));
    let wanted: BTreeSet<&str> = wanted.split(',').map(str::trim).collect();
    let unknown: Vec<_> = wanted.iter().filter(|part| !PARTS.contains(part)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are no parts; there are {PARTS:?}");
    program::raise_open_files();
    // Beside the build, so that it is a disk and no memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let machine = Machine::measure(&client, folder.path(), &scale);
    machine.print();
    if wanted.contains("idle") {
        idle::run(&client, folder.path(), &scale);
    }
    if PARTS.iter().skip(2).any(|part| wanted.contains(part)) {
        let home = folder.path().join("town");
        let town = Town::build(&home, &scale);
        run_in(&home, &town, &client, &machine, &scale, &wanted);
    }
}

/// What is measured on one server, one after the other.
fn run_in(
    home: &Path,
    town: &Town,
    client: &tokio::runtime::Runtime,
    machine: &Machine,
    scale: &Scale,
    wanted: &BTreeSet<&str>,
) {
    let mut program = Program::start(home);
    if wanted.contains("sends") {
        sends::run(client, &program, town, machine, scale);
    }
    if wanted.contains("rooms") {
        rooms::run(client, &program, town, machine, scale);
    }
    if wanted.contains("streams") {
        streams::run(client, &program, town, scale);
    }
    if wanted.contains("dialects") {
        dialects::run(client, &program, town, scale);
    }
    if wanted.contains("growth") {
        program = growth::run(client, program, town, machine, scale);
    }
    program.stop();
}

//! The program: arguments, configuration, one task, an exit code. 0: done; 1: failed, with one line on stderr; 2: misused.

use std::{io::Write as _, process::ExitCode, time::Duration};

use clap::Parser as _;

mod cli;

/// It takes fewer instructions than the system's allocator, of which a server of small texts calls a lot.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long work on threads of its own may hold the end of the process: what was acknowledged is on disk.
const THREADS_END_MAX: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            writeln!(std::io::stderr(), "yurt: no threads: {error}").ok();
            return ExitCode::FAILURE;
        }
    };
    let code = match runtime.block_on(cli::run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a stderr there is nobody to tell; the exit code still says it.
            writeln!(std::io::stderr(), "yurt: {error}").ok();
            error.exit_code()
        }
    };
    runtime.shutdown_timeout(THREADS_END_MAX);
    code
}

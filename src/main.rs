//! The program: arguments, configuration, one task, an exit code. 0: done; 1: failed, with one line on stderr; 2: misused.

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;

mod cli;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match cli::run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a stderr there is nobody to tell; the exit code still says it.
            writeln!(std::io::stderr(), "yurt: {error}").ok();
            error.exit_code()
        }
    }
}

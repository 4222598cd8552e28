//! The command line: what can be asked for, and what goes wrong with it.
//!
//! Part of the program, not of the library. May import everything; one file for each group of commands.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use yurt::{
    config::{Config, ConfigError, Tenant},
    data_folder::FolderError,
    server::ServerError,
};

mod account;
mod asking;
mod bundle;
mod key;
mod serve;

/// A self-hosted, federated room server.
#[derive(Debug, Parser)]
#[command(name = "yurt", version, propagate_version = true)]
pub(crate) struct Arguments {
    /// The configuration.
    #[arg(long, global = true, value_name = "FILE", default_value = "./config.toml")]
    config: PathBuf,
    /// The tenant, by its name in the configuration [default: the first].
    #[arg(long, global = true, value_name = "NAME")]
    tenant: Option<String>,
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run the server until SIGTERM or SIGINT.
    Serve,
    /// Make and manage accounts, whether or not the server runs.
    #[command(subcommand)]
    Account(account::Task),
    /// Show and replace the keys that the server signs with.
    #[command(subcommand)]
    Key(key::Task),
    /// Move rooms as files that prove themselves.
    #[command(subcommand)]
    Bundle(bundle::Task),
    /// Work on the configuration.
    #[command(subcommand)]
    Config(ConfigTask),
}

#[derive(Debug, Subcommand)]
enum ConfigTask {
    /// Say whether the configuration holds.
    Check,
}

/// Does what the arguments ask for.
pub(crate) async fn run(arguments: Arguments) -> Result<(), CliError> {
    if let Task::Bundle(bundle::Task::Alone(task)) = arguments.task {
        let online = || bundle::online(&arguments.config, arguments.tenant.as_deref());
        return bundle::run_alone(task, online).await;
    }
    let config = Config::load(&arguments.config, environment()?)?;
    let tenant = find_tenant(&config, arguments.tenant.as_deref())?;
    match arguments.task {
        Task::Serve => serve::run(config).await,
        Task::Account(task) => account::run(task, &config, &tenant).await,
        Task::Bundle(task) => bundle::run(task, &config, &tenant).await,
        Task::Key(task) => key::run(task, &config, &tenant),
        Task::Config(ConfigTask::Check) => {
            yurt::api::check(&config).map_err(ServerError::from)?;
            let names: Vec<_> = config.tenant.iter().map(|tenant| tenant.server_name.as_str()).collect();
            say(&format!("{} holds. Servers: {}", arguments.config.display(), names.join(", ")))
        }
    }
}

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("no tenant `{name}` in the configuration; there are: {known}")]
    NoTenant { name: String, known: String },
    #[error("the environment variable {0:?} is not UTF-8")]
    Variable(std::ffi::OsString),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("the server that runs on this data folder does not answer: {0}")]
    Silent(io::Error),
    #[error("a process has the data folder `{}` but does not answer: it is starting, stopping or stuck; try again", .0.display())]
    Stuck(PathBuf),
    #[error(transparent)]
    Bundle(#[from] yurt::bundle::Fault),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Misused(&'static str),
    #[error("{what}: {error}")]
    Io { what: String, error: io::Error },
}

impl CliError {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Misused(_) => ExitCode::from(2),
            Self::Bundle(fault) if fault.is_unreadable => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }

    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |error| Self::Io { what, error }
    }
}

/// The variables that may override settings.
fn environment() -> Result<Vec<(String, String)>, CliError> {
    let ours = std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"YURT_"));
    ours.map(|(name, value)| match (name.into_string(), value.into_string()) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        (Err(name), _) => Err(CliError::Variable(name)),
        (Ok(name), Err(_)) => Err(CliError::Variable(name.into())),
    })
    .collect()
}

fn find_tenant(config: &Config, name: Option<&str>) -> Result<Tenant, CliError> {
    config.find_tenant(name).cloned().ok_or_else(|| CliError::NoTenant {
        name: name.unwrap_or_default().to_owned(),
        known: config.tenant.iter().map(|tenant| tenant.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

/// A line of result, on stdout.
fn say(line: &str) -> Result<(), CliError> {
    writeln!(io::stdout(), "{line}").map_err(CliError::io("stdout"))
}

/// A line for the person at the terminal, on stderr, so that a script reads only results.
fn remark(line: &str) -> Result<(), CliError> {
    writeln!(io::stderr(), "{line}").map_err(CliError::io("stderr"))
}

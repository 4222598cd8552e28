//! `yurt account …`: through the running server if there is one, else on the database itself.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Read as _},
    time::{Duration, Instant},
};

use clap::Subcommand;
use tokio::time::sleep;
use yurt::{
    config::{Config, Tenant},
    control::{self, Answer, Command, Request, Secret},
    data_folder::FolderError,
    server::{self, ServerError},
};

use super::{CliError, remark, say};

/// Bytes of a password that are read; no account has a longer one.
const PASSWORD_BYTES_MAX: u64 = 4096;

/// How long a process that has the data folder may take to answer or to let go of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait before asking it again.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Subcommand)]
pub(super) enum Task {
    /// Make an account. Without a password, `yurt account token` is the way in.
    Create {
        /// The local part of its id: 1 to 64 of a-z 0-9 _ - . =
        name: String,
        /// It administers the tenant.
        #[arg(long)]
        admin: bool,
        /// Read its password from the first line of stdin.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Give an account another password, read from the first line of stdin.
    Password {
        /// The local part of its id, or the whole.
        name: String,
        /// Read the password even from a terminal, where it shows.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Print a fresh access token, and nothing else.
    Token {
        /// The local part of its id, or the whole.
        name: String,
    },
    /// List the accounts.
    List,
}

pub(super) async fn run(task: Task, config: &Config, tenant: &Tenant) -> Result<(), CliError> {
    let mut asking = Asking { config, tenant, opened: None };
    let done = work(task, &mut asking).await;
    let closed = asking.close().await;
    done.and(closed)
}

async fn work(task: Task, asking: &mut Asking<'_>) -> Result<(), CliError> {
    match task {
        Task::Create { name, admin, password_stdin } => {
            let password = if password_stdin { Some(read_password()?) } else { None };
            let without = password.is_none();
            let command = Command::CreateAccount { username: name.clone(), password, is_admin: admin };
            let Answer::Account { participant_id } = asking.ask(command).await? else { return Err(unexpected()) };
            if without {
                remark(&format!("No password: `yurt account token {name}` gives access."))?;
            }
            say(&participant_id)
        }
        Task::Password { name, password_stdin } => {
            if !password_stdin && io::stdin().is_terminal() {
                return Err(CliError::Misused(
                    "write the password to stdin: yurt account password NAME --password-stdin",
                ));
            }
            asking.ask(Command::SetPassword { username: name, password: read_password()? }).await.map(drop)
        }
        Task::Token { name } => {
            let answer = asking.ask(Command::IssueToken { username: name }).await?;
            let Answer::Token { access_token } = answer else { return Err(unexpected()) };
            say(&access_token.0)
        }
        Task::List => list(asking).await,
    }
}

async fn list(asking: &mut Asking<'_>) -> Result<(), CliError> {
    let mut offset = 0;
    loop {
        let Answer::Accounts { accounts, next } = asking.ask(Command::ListAccounts { offset }).await? else {
            return Err(unexpected());
        };
        for account in accounts {
            let role = if account.is_admin { "admin" } else { "user" };
            say(&format!("{} {role} {}", account.participant_id, account.state))?;
        }
        let Some(next) = next else { return Ok(()) };
        offset = next;
    }
}

/// Where commands go.
struct Asking<'a> {
    config: &'a Config,
    tenant: &'a Tenant,
    /// The tenant, opened by ourselves because no server runs.
    opened: Option<server::Offline>,
}

impl Asking<'_> {
    async fn ask(&mut self, command: Command) -> Result<Answer, CliError> {
        let answer = match &self.opened {
            Some(opened) => control::run::run(opened.actions(), command).await,
            None => self.ask_or_open(command).await?,
        };
        match answer {
            Answer::Refused { message } => Err(CliError::Refused(message)),
            answer => Ok(answer),
        }
    }

    /// Asks the server, or opens the tenant if there is none. A process that has the folder and does not answer is given time:
    /// it may be starting, stopping, or a command like this one.
    async fn ask_or_open(&mut self, command: Command) -> Result<Answer, CliError> {
        let request = Request { tenant: self.tenant.name.clone(), command };
        let asked = Instant::now();
        loop {
            if let Some(answer) = control::ask(&self.config.data_dir, &request).await.map_err(CliError::Silent)? {
                return Ok(answer);
            }
            match server::open_offline(self.config, self.tenant).await {
                Ok(opened) => {
                    let opened = self.opened.insert(opened);
                    return Ok(control::run::run(opened.actions(), request.command).await);
                }
                Err(ServerError::Folder(FolderError::InUse(folder))) if asked.elapsed() > PATIENCE => {
                    return Err(CliError::Stuck(folder));
                }
                Err(ServerError::Folder(FolderError::InUse(_))) => sleep(PAUSE).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Closes what was opened, so that everything is on disk before the command ends.
    async fn close(self) -> Result<(), CliError> {
        match self.opened {
            Some(opened) => Ok(opened.close().await?),
            None => Ok(()),
        }
    }
}

fn unexpected() -> CliError {
    CliError::Refused("the running server is of another version; restart it".to_owned())
}

fn read_password() -> Result<Secret, CliError> {
    let mut line = String::new();
    io::stdin().lock().take(PASSWORD_BYTES_MAX).read_line(&mut line).map_err(CliError::io("stdin"))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(CliError::Misused("there is no password on stdin"));
    }
    Ok(Secret(password.to_owned()))
}

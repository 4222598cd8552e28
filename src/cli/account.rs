//! `yurt account …`: through the running server if there is one, else on the database itself.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use clap::Subcommand;
use yurt::{
    config::{Config, Tenant},
    control::{Answer, Command, Secret},
};

use super::{
    CliError,
    asking::{Asking, unexpected},
    remark, say,
};

/// Bytes of a password that are read; no account has a longer one.
const PASSWORD_BYTES_MAX: u64 = 4096;

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
    let mut asking = Asking::new(config, tenant);
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

fn read_password() -> Result<Secret, CliError> {
    let mut line = String::new();
    io::stdin().lock().take(PASSWORD_BYTES_MAX).read_line(&mut line).map_err(CliError::io("stdin"))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(CliError::Misused("there is no password on stdin"));
    }
    Ok(Secret(password.to_owned()))
}

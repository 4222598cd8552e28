//! Where commands go: to the running server if there is one, else to the database itself.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use yurt::{
    config::{Config, Tenant},
    control::{self, Answer, Command, Request},
    data_folder::FolderError,
    server::{self, ServerError},
};

use super::CliError;

/// How long a process that has the data folder may take to answer or to let go of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait before asking it again.
const PAUSE: Duration = Duration::from_millis(100);

/// Who is asked.
pub(super) struct Asking<'a> {
    config: &'a Config,
    tenant: &'a Tenant,
    /// The tenant, opened by ourselves because no server runs.
    opened: Option<server::Offline>,
}

impl<'a> Asking<'a> {
    pub(super) fn new(config: &'a Config, tenant: &'a Tenant) -> Self {
        Self { config, tenant, opened: None }
    }
}

impl Asking<'_> {
    pub(super) async fn ask(&mut self, command: Command) -> Result<Answer, CliError> {
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
    pub(super) async fn close(self) -> Result<(), CliError> {
        match self.opened {
            Some(opened) => Ok(opened.close().await?),
            None => Ok(()),
        }
    }
}

/// The answer is none to the question.
pub(super) fn unexpected() -> CliError {
    CliError::Refused("the running server is of another version; restart it".to_owned())
}

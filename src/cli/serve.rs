//! `yurt serve`: start, say so in one line of JSON, stop cleanly when asked to.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use yurt::{clock, config::Config, server, telemetry};

use super::{CliError, say};

/// How long running requests may take after the wish to stop. Whoever starts and stops services waits 20 seconds at least.
const STOPPING_MAX: Duration = Duration::from_secs(18);

/// What is printed when the server answers.
#[derive(Serialize)]
struct Ready {
    ready: bool,
    api: String,
    federation: Option<String>,
}

pub(super) async fn run(config: Config) -> Result<(), CliError> {
    telemetry::start(&config.log).map_err(|problem| CliError::Refused(problem.to_string()))?;
    let mut wishes = Wishes::new()?;
    let running = tokio::select! {
        started = server::start(config, Arc::new(clock::System)) => started?,
        () = wishes.wait() => return Ok(()),
    };
    let ready = Ready { ready: true, api: format!("http://{}", running.api()), federation: None };
    let ready = serde_json::to_string(&ready).map_err(|error| CliError::Refused(error.to_string()))?;
    say(&ready)?;
    wishes.wait().await;
    tracing::info!("Stopping");
    match timeout(STOPPING_MAX, running.stop()).await {
        Ok(stopped) => Ok(stopped?),
        Err(_) => Err(CliError::Refused("some requests did not end in time; what they answered is on disk".to_owned())),
    }
}

/// The signals that ask for an end.
struct Wishes {
    terminate: Signal,
    interrupt: Signal,
}

impl Wishes {
    fn new() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(CliError::io("signals"));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

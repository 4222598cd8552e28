//! `yurt serve`: start, say so in one line of JSON, stop cleanly when asked to.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use yurt::{clock, config::Config, server, telemetry};

use super::{CliError, say};

/// How long requests under way may take after the wish to stop. Then they are cut off: a client that dawdles must not hold the
/// server, which has to be gone within 20 seconds.
const STOPPING_MAX: Duration = Duration::from_secs(18);

/// What is printed when the server answers.
#[derive(Serialize)]
struct Ready {
    ready: bool,
    api: String,
    federation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<String>,
}

pub(super) async fn run(config: Config) -> Result<(), CliError> {
    telemetry::start(&config.log).map_err(|problem| CliError::Refused(problem.to_string()))?;
    server::raise_open_files();
    let mut wishes = Wishes::new()?;
    let running = tokio::select! {
        started = server::start(config, Arc::new(clock::System)) => started?,
        Wish::Stop = wishes.wait() => return Ok(()),
    };
    let metrics = running.metrics().map(|address| format!("http://{address}/metrics"));
    let ready = Ready { ready: true, api: running.api_url(), federation: running.federation_url(), metrics };
    let ready = serde_json::to_string(&ready).map_err(|error| CliError::Refused(error.to_string()))?;
    say(&ready)?;
    while let Wish::Reload = wishes.wait().await {
        running.reload().await;
    }
    tracing::info!("Stopping");
    match timeout(STOPPING_MAX, running.stop()).await {
        Ok(stopped) => Ok(stopped?),
        Err(_) => {
            tracing::warn!("Some requests did not end in time and are cut off; what was acknowledged is on disk");
            Ok(())
        }
    }
}

/// What a signal asks for.
enum Wish {
    /// An end.
    Stop,
    /// To read what may have changed: the certificate.
    Reload,
}

/// The signals.
struct Wishes {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Wishes {
    fn new() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(CliError::io("signals"));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn wait(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hang_up.recv() => Wish::Reload,
        }
    }
}

//! `yurt bundle …`: rooms as files. Checking one needs neither a server nor a configuration; making one and taking one in go through the running server if there
//! is one, else to the database itself.

use std::{
    fs,
    path::{Path, PathBuf, absolute},
    time::Duration,
};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use yurt::{
    bundle::{Archive, Limits, Manifest, manifest::SignedManifest},
    config::{Config, Tenant},
    control::{Answer, Command, JobLine},
    server::Online,
};

mod verifying;

pub(super) use verifying::online;

use super::{
    CliError,
    asking::{Asking, unexpected},
    say,
};

/// How long to wait before looking again how far the work is.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub(super) enum Task {
    /// Write a room into a file that proves itself.
    Export {
        /// The room: its id or its alias.
        room: String,
        /// The file. One that is there stays as it is.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Leave the media out.
        #[arg(long)]
        no_media: bool,
        /// Add what everybody has set for themselves: read markers, modes, pins.
        #[arg(long)]
        personal: bool,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a room in from a file.
    Import {
        /// The bundle.
        file: PathBuf,
        /// The account in whose name it is done.
        #[arg(long = "as", value_name = "NAME")]
        by: String,
        /// Check everything and say what would become of it.
        #[arg(long)]
        dry_run: bool,
        /// Believe the keys in the bundle where their servers cannot be asked.
        #[arg(long)]
        accept_bundle_keys: bool,
        /// The workspace of a room that follows the one of the bundle. Without it: the personal one of NAME.
        #[arg(long, value_name = "ID")]
        workspace: Option<String>,
        /// Somebody of the room is somebody else here: @old:server=@new:server. May be given several times.
        #[arg(long = "map", value_name = "OLD=NEW", value_parser = pair)]
        participants: Vec<(String, String)>,
        /// Whoever has an account with the same local name here is the same person.
        #[arg(long)]
        same_names: bool,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    #[command(flatten)]
    Alone(Alone),
}

/// What needs no server.
#[derive(Debug, Subcommand)]
pub(super) enum Alone {
    /// Check a bundle. Exit code 0: it holds; 1: it does not; 2: it cannot be read.
    Verify {
        /// The bundle.
        file: PathBuf,
        /// Keys of servers that are known from elsewhere, in the form of `verify_keys`: {server: {key id: {key, valid_until_ts | expired_ts}}}.
        #[arg(long, value_name = "FILE")]
        keys: Option<PathBuf>,
        /// Ask the servers for their keys, or the notaries of the configuration, if there is one. With a tenant that is in the room, the states before holes are
        /// compared with what other servers in it say.
        #[arg(long)]
        online: bool,
        /// Keys that only the bundle vouches for are not enough.
        #[arg(long)]
        strict: bool,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print what a bundle says that it is, without proof.
    Inspect {
        /// The bundle.
        file: PathBuf,
        /// Print the whole manifest as JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(task: Task, config: &Config, tenant: &Tenant) -> Result<(), CliError> {
    let mut asking = Asking::new(config, tenant);
    let done = match task {
        Task::Alone(alone) => run_alone(alone, || Ok(Online::new(config, Some(tenant))?)).await,
        Task::Export { room, out, no_media, personal, json } => {
            if out.exists() {
                return Err(CliError::Refused(format!("`{}` is there already; choose another name", out.display())));
            }
            let out = absolute(&out).map_err(CliError::io(out.display().to_string()))?;
            let command = Command::ExportBundle { room, out: out.clone(), media: !no_media, personal };
            export(&mut asking, command, &out, json).await
        }
        Task::Import { file, by, dry_run, accept_bundle_keys, workspace, participants, same_names, json } => {
            let file = fs::canonicalize(&file).map_err(CliError::io(file.display().to_string()))?;
            let (workspace_id, participants) = (workspace, participants.into_iter().collect());
            let command =
                Command::ImportBundle { file, by, dry_run, accept_bundle_keys, workspace_id, participants, same_names };
            import(&mut asking, command, json).await
        }
    };
    let closed = asking.close().await;
    done.and(closed)
}

/// Two names with `=` between them.
fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(old, new)| !old.is_empty() && !new.is_empty());
    let (old, new) = pair.ok_or_else(|| "write @old:server=@new:server".to_owned())?;
    Ok((old.to_owned(), new.to_owned()))
}

async fn export(asking: &mut Asking<'_>, command: Command, out: &Path, json: bool) -> Result<(), CliError> {
    let result = work(asking, command, "exporting").await?;
    if json {
        return say(&result.to_string());
    }
    say(&format!("{}: {} events, {} bytes", out.display(), field(&result, "events"), field(&result, "bytes")))
}

async fn import(asking: &mut Asking<'_>, command: Command, json: bool) -> Result<(), CliError> {
    let result = work(asking, command, "importing").await?;
    if json {
        return say(&result.to_string());
    }
    let (events, room) = (field(&result, "events"), text(field(&result, "id")));
    say(&format!(
        "{} {room}: {} of {} events are new, {} were here, {} are refused",
        text(field(&result, "outcome")),
        field(events, "stored"),
        field(events, "total"),
        field(events, "known"),
        field(events, "rejected").as_array().map_or(0, Vec::len),
    ))
}

/// A field of an answer; null: there is none.
fn field<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Begins work and waits for its result; a bar says how far it is.
async fn work(asking: &mut Asking<'_>, command: Command, what: &'static str) -> Result<Value, CliError> {
    let Answer::Begun { job_id } = asking.ask(command).await? else { return Err(unexpected()) };
    let bar = bar(what);
    loop {
        let Answer::Job(JobLine { done, total, is_over, result, error }) =
            asking.ask(Command::Job { id: job_id.clone() }).await?
        else {
            return Err(unexpected());
        };
        bar.set_length(total.unwrap_or(done));
        bar.set_position(done);
        if let Some(error) = error {
            bar.abandon();
            return Err(CliError::Refused(error));
        }
        if is_over {
            bar.finish_and_clear();
            return serde_json::from_str(&result.unwrap_or_default()).map_err(|_other_version| unexpected());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A bar on stderr; where that is no terminal, nothing is drawn.
fn bar(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:>10} {wide_bar} {pos}/{len} {eta}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(what)
}

/// Does what needs no server. A configuration is read only where other servers are asked, and only if it is there.
pub(super) async fn run_alone(task: Alone, others: impl FnOnce() -> Result<Online, CliError>) -> Result<(), CliError> {
    match task {
        Alone::Verify { file, keys, online, strict, json } => {
            let online = if online { Some(others()?) } else { None };
            verifying::verify(&file, verifying::Wish { keys: keys.as_deref(), online: online.as_ref(), strict, json })
                .await
        }
        Alone::Inspect { file, json } => inspect(&file, json),
    }
}

/// No limit but what fits into memory: who checks a file of their own may have any.
fn limits() -> Limits {
    Limits { bytes_max: u64::MAX, ..Limits::default() }
}

fn inspect(file: &Path, json: bool) -> Result<(), CliError> {
    let SignedManifest { manifest, .. } = Archive::open(file, limits())?.manifest()?;
    if json {
        let text = serde_json::to_string(&manifest).map_err(|error| CliError::Refused(error.to_string()))?;
        return say(&text);
    }
    describe(&manifest)?;
    say("nothing of this is proven yet: `yurt bundle verify` does that")
}

fn describe(manifest: &Manifest) -> Result<(), CliError> {
    let name = manifest.name.as_deref().unwrap_or("(no name)");
    say(&format!("{name}: room {} of version {}", manifest.room_id, manifest.room_version))?;
    say(&format!("made by {} at {}", manifest.server_name, manifest.exported_at))?;
    let counts = manifest.counts;
    say(&format!("{} events, {} joined members, {} media", counts.events, counts.members, counts.media))
}

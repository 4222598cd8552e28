//! The built server as a process of its own, and what it uses of the machine.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The settings that every measured server has; its tenants follow.
pub(crate) const SETTINGS: &str = "data_dir = \"data\"\nlisten.api = \"127.0.0.1:0\"\nlimits.enabled = false\nfederation.enabled = false\nlog.level = \"warn\"\ndialects.ryos.enabled = true\ndialects.virola.enabled = true\ndialects.mirage.enabled = true\ndialects.mirage.prefix = \"/mirage\"\ndialects.agora.enabled = true\n";

/// A server that answers. Dropped, it is killed.
pub(crate) struct Program {
    child: Child,
    folder: PathBuf,
    pub(crate) address: SocketAddr,
    /// From the start of the process until it said that it answers.
    pub(crate) ready_after: Duration,
}

/// What a process holds.
pub(crate) struct Held {
    pub(crate) resident_mb: f64,
    pub(crate) threads: usize,
    pub(crate) files: usize,
}

impl Program {
    /// Starts the server of a folder that has a `config.toml`. `YURT_BENCH_BINARY` names another build of it.
    pub(crate) fn start(folder: &Path) -> Self {
        let binary = std::env::var("YURT_BENCH_BINARY").unwrap_or_else(|_unset| env!("CARGO_BIN_EXE_yurt").to_owned());
        let started = Instant::now();
        let mut command = Command::new(binary);
        // The server takes variables of this kind for settings.
        std::env::vars().filter(|(name, _)| name.starts_with("YURT_")).for_each(|(name, _)| {
            command.env_remove(name);
        });
        let mut child = command.current_dir(folder).arg("serve").stdout(Stdio::piped()).spawn().expect("the server");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready_after = started.elapsed();
        let ready: serde_json::Value = serde_json::from_str(&line).expect("the line that says ready");
        let api = ready["api"].as_str().and_then(|api| api.strip_prefix("http://")).expect("an address");
        Self { child, folder: folder.to_owned(), address: api.parse().unwrap(), ready_after }
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn stop(mut self) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }

    /// Its processor time so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        Duration::from_secs_f64((ticks(11) + ticks(12)) / 100.0)
    }

    /// What it holds now.
    pub(crate) fn held(&self) -> Held {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok()).unwrap_or(0.0)
        };
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count);
        Held { resident_mb: field("VmRSS:") * 1024.0 / 1e6, threads: field("Threads:") as usize, files }
    }

    /// Bytes that it has sent to the disk so far.
    pub(crate) fn written_bytes(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap_or_default();
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
    }

    /// Bytes of all its files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        folder_bytes(&self.folder.join("data"))
    }

    /// Its folder, to start it again.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.clone()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => folder_bytes(&entry.path()),
        Ok(data) => data.len(),
        Err(_gone) => 0,
    });
    bytes.sum()
}

/// Thousands of connections are thousands of files, here and in the server, which inherits the limit.
pub(crate) fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit }).ok();
}

/// Processors of the machine.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Processor time that the whole machine has spent on work, in seconds.
pub(crate) fn busy_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
    // Idle and waiting for the disk are no work.
    let busy =
        ticks.iter().enumerate().filter(|(index, _)| *index < 8 && !matches!(index, 3 | 4)).map(|(_, ticks)| ticks);
    busy.sum::<f64>() / 100.0
}

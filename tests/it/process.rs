//! The built program as a process of its own, in a folder of its own: what a test of the command line or of a crash starts.
#![cfg(test)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use rustix::pty;
use serde_json::Value;
use tempfile::TempDir;

/// How long a start may take, also after a crash and on a busy machine.
pub(crate) const READY_MAX: Duration = Duration::from_secs(30);

/// How long a command may take that is not meant to run on.
const COMMAND_MAX: Duration = Duration::from_secs(60);

/// How long a clean stop may take.
const STOP_MAX: Duration = Duration::from_secs(20);

/// A folder with a configuration and, after the first start, a data folder.
pub(crate) struct Home {
    folder: TempDir,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A server that runs as a process. It is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    stdout: Receiver<String>,
    /// Address of the API, such as `http://127.0.0.1:1234`.
    pub(crate) api: String,
    /// The whole line that it printed when it was ready.
    pub(crate) ready: Value,
}

impl Home {
    /// A home with any free port, no limits of rates, and these further sections.
    pub(crate) fn new(more: &str) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        home.write_config(&format!("{more}\n[[tenant]]\nserver_name = \"localhost\"\n"));
        home
    }

    /// Replaces the sections of the configuration that are not the usual ones.
    pub(crate) fn write_config(&self, sections: &str) {
        let mut usual = "data_dir = \"data\"\nlisten.api = \"127.0.0.1:0\"\nlimits.enabled = false\n".to_owned();
        if !sections.contains("federation.") {
            usual.push_str("federation.enabled = false\n");
        }
        if !sections.contains("log.level") {
            usual.push_str("log.level = \"warn\"\n");
        }
        fs::write(self.path().join("config.toml"), format!("{usual}{sections}")).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        self.run_with_input(arguments, "")
    }

    /// Runs a command to its end, with this on its stdin.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Done {
        let mut child = self.command(arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that reads nothing may have ended already.
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if started.elapsed() > COMMAND_MAX {
                child.kill().unwrap();
            }
            pause();
        }
        let output = child.wait_with_output().unwrap();
        Done {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command at a terminal, which it finds as its stderr. Answers also what is seen there.
    pub(crate) fn run_at_terminal(&self, arguments: &[&str]) -> (i32, String) {
        let ours = pty::openpt(pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY).unwrap();
        pty::grantpt(&ours).unwrap();
        pty::unlockpt(&ours).unwrap();
        let name = pty::ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
        let mut command = self.command(arguments);
        command.env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::null()).stderr(theirs);
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut screen = fs::File::from(ours);
        let reading = thread::spawn(move || {
            let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
            // When nobody has the other end open any more, reading is an error.
            while let Ok(count) = screen.read(&mut piece) {
                seen.extend_from_slice(&piece[..count]);
            }
            seen
        });
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > COMMAND_MAX {
                child.kill().unwrap();
            }
            pause();
        };
        (status.code().unwrap_or(-1), String::from_utf8_lossy(&reading.join().unwrap()).into_owned())
    }

    /// Runs a command that must succeed, and answers what it printed.
    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
        done.stdout.trim_end().to_owned()
    }

    /// Starts a server and waits until it says that it is ready.
    pub(crate) fn serve(&self) -> Server {
        self.serve_with(Stdio::inherit())
    }

    /// Starts a server that writes its log to a file.
    pub(crate) fn serve_logging(&self, file: &Path) -> Server {
        self.serve_with(fs::File::create(file).unwrap().into())
    }

    /// Starts a server whose files may be bounded: what is over the bound is refused, as a full disk does, and kills nobody.
    pub(crate) fn serve_boundable(&self) -> Server {
        let shell = ["-c", "trap '' XFSZ; exec \"$0\" serve", env!("CARGO_BIN_EXE_yurt")];
        self.serve_as(self.prepared(Command::new("sh"), &shell), Stdio::inherit())
    }

    fn serve_with(&self, stderr: Stdio) -> Server {
        self.serve_as(self.command(&["serve"]), stderr)
    }

    fn serve_as(&self, mut command: Command, stderr: Stdio) -> Server {
        let mut child = command.stdin(Stdio::null()).stderr(stderr).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let (sender, stdout) = mpsc::sync_channel(16);
        thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|length| length > 0) && sender.send(line.clone()).is_ok() {
                line.clear();
            }
        });
        let Ok(line) = stdout.recv_timeout(READY_MAX) else {
            child.kill().ok();
            panic!("the server was not ready after {READY_MAX:?}; it ended with {:?}", child.wait());
        };
        let ready: Value = serde_json::from_str(&line).unwrap();
        let api = ready["api"].as_str().unwrap().to_owned();
        Server { child, stdout, api, ready }
    }

    /// Starts a server and kills it after a while, whether or not it was ready.
    pub(crate) fn serve_briefly(&self, time: Duration) {
        let mut child = self.command(&["serve"]).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while started.elapsed() < time {
            pause();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.prepared(Command::new(env!("CARGO_BIN_EXE_yurt")), arguments)
    }

    fn prepared(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.args(arguments).current_dir(self.path()).stdout(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("YURT_") {
                command.env_remove(name);
            }
        }
        command
    }
}

impl Server {
    /// Ends the process at once, as a power failure of the process would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// No file of it grows beyond this, as if the disk were full; none: as large as they like.
    pub(crate) fn bound_files(&self, bytes_max: Option<u64>) {
        let bound = rustix::process::Rlimit { current: bytes_max, maximum: None };
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::prlimit(Some(pid), rustix::process::Resource::Fsize, bound).unwrap();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends a signal and waits for the end. Answers how it ended and what else it had printed.
    pub(crate) fn stop(mut self, signal: rustix::process::Signal) -> (ExitStatus, Vec<String>) {
        self.signal(signal);
        let asked = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(asked.elapsed() < STOP_MAX, "the server did not stop");
            pause();
        };
        (status, self.stdout.try_iter().collect())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[expect(clippy::disallowed_methods, reason = "waits for another process, in a test thread of its own")]
fn pause() {
    thread::sleep(Duration::from_millis(10));
}

/// Somebody who talks to a process that may be gone in the middle of it.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) http: reqwest::Client,
    pub(crate) api: String,
    pub(crate) token: String,
}

impl Peer {
    pub(crate) fn new(server: &Server, token: &str) -> Self {
        crate::client::choose_cryptography();
        let http = reqwest::Client::builder().no_proxy().timeout(READY_MAX).build().unwrap();
        Self { http, api: server.api.clone(), token: token.to_owned() }
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Result<(u16, Value)> {
        self.call(Method::GET, path, None, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> reqwest::Result<(u16, Value)> {
        self.call(Method::POST, path, Some(body), None).await
    }

    /// Sends a request and answers status and JSON body. `key` is the `Idempotency-Key`.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> reqwest::Result<(u16, Value)> {
        let mut request = self.http.request(method, format!("{}{path}", self.api)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let response = request.send().await?;
        let (status, bytes) = (response.status().as_u16(), response.bytes().await?);
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }
}

/// An id as a segment of a path.
pub(crate) fn segment(id: &str) -> String {
    utf8_percent_encode(id, NON_ALPHANUMERIC).to_string()
}

//! The socket through which the command line talks to a running server: one line of JSON each way.
//!
//! `control.sock` lies in the data folder and only its owner can open it: who can, acts as an administrator.
//! May import: `data_folder` (who listens has the folder), tokio, serde. What a command does is in `run`.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, Permissions},
    future::Future,
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use crate::data_folder::DataFolder;

pub mod run;

/// The socket's name in the data folder.
const SOCKET: &str = "control.sock";

/// Bytes of a path that every system takes as the address of a socket. Longer ones go through the folder's descriptor.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// Bytes of one line, either way.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// Commands that run at once. More wait.
const COMMANDS_MAX: usize = 8;

/// How long one side waits for the other's line, and for a command to be done.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the command line asks of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The tenant's name.
    pub tenant: String,
    /// What to do.
    pub command: Command,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Makes an account.
    CreateAccount {
        /// The local part of its id.
        username: String,
        /// Without one, there is no log-in by password.
        password: Option<Secret>,
        /// Whether it administers the tenant.
        is_admin: bool,
    },
    /// Gives an account another password.
    SetPassword {
        /// Local part or full id.
        username: String,
        /// The new password.
        password: Secret,
    },
    /// Makes an access token for an account.
    IssueToken {
        /// Local part or full id.
        username: String,
    },
    /// A page of the accounts, by name.
    ListAccounts {
        /// How many to pass over.
        offset: usize,
    },
    /// Writes a room into a file.
    ExportBundle {
        /// The room's id or alias.
        room: String,
        /// The file, from the root. It must not be there.
        out: PathBuf,
        /// The media come along.
        media: bool,
        /// What everybody has set for themselves comes along.
        personal: bool,
    },
    /// Takes a room in from a file.
    ImportBundle {
        /// The file, from the root.
        file: PathBuf,
        /// In whose name: local part or full id.
        by: String,
        /// Only say what would become of it.
        dry_run: bool,
        /// Believe the keys in the bundle where their servers cannot be asked.
        accept_bundle_keys: bool,
        /// The workspace of a successor.
        #[serde(default)]
        workspace_id: Option<String>,
        /// Who in the room is who else in its successor.
        #[serde(default)]
        participants: BTreeMap<String, String>,
        /// Whoever has an account with the same local name is the same person.
        #[serde(default)]
        same_names: bool,
    },
    /// How far long work is.
    Job {
        /// Its id.
        id: String,
    },
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done, and there is nothing to tell.
    Done,
    /// The account made.
    Account {
        /// Its full id.
        participant_id: String,
    },
    /// The token made.
    Token {
        /// The token.
        access_token: Secret,
    },
    /// A page of accounts.
    Accounts {
        /// The accounts of this page.
        accounts: Vec<AccountLine>,
        /// Where the next page begins; none: there is none.
        next: Option<usize>,
    },
    /// The work goes on as a job.
    Begun {
        /// Its id.
        job_id: String,
    },
    /// How far long work is.
    Job(JobLine),
    /// Not done.
    Refused {
        /// Why, and what to do instead.
        message: String,
    },
}

/// Long work as the command line follows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLine {
    /// Steps done.
    pub done: u64,
    /// Steps in all, once that is known.
    pub total: Option<u64>,
    /// Nothing will happen any more.
    pub is_over: bool,
    /// What was done, as JSON.
    pub result: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// One account as the command line lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountLine {
    /// Its full id.
    pub participant_id: String,
    /// Whether it administers the tenant.
    pub is_admin: bool,
    /// Active, disabled, deactivated or locked.
    pub state: String,
}

/// A password or a token: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret")
    }
}

/// Answers commands until it is dropped.
#[derive(Debug)]
pub struct Listening {
    socket: PathBuf,
    _accepting: AbortOnDropHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        // One that stays is replaced by the next server and refuses connections until then.
        fs::remove_file(&self.socket).ok();
    }
}

/// Answers the commands that come through the folder's socket. Must be called inside a tokio runtime.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen<Handler, Answering>(folder: &DataFolder, handler: Handler) -> io::Result<Listening>
where
    Handler: Fn(Request) -> Answering + Send + Sync + 'static,
    Answering: Future<Output = Answer> + Send + 'static,
{
    let listener = bind(folder.path())?;
    let accepting = tokio::spawn(accept(listener, Arc::new(handler)));
    Ok(Listening { socket: folder.path().join(SOCKET), _accepting: AbortOnDropHandle::new(accepting) })
}

/// Asks the server that runs on a data folder. `None`: none does.
///
/// # Errors
/// When a server is there but does not answer, or answers something else.
pub async fn ask(data_dir: &Path, request: &Request) -> io::Result<Option<Answer>> {
    let exchange = async {
        let address = match Address::of(data_dir, SOCKET) {
            Ok(address) => address,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut stream = match UnixStream::connect(&address.path).await {
            Ok(stream) => stream,
            Err(error) if no_one_listens(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        write_line(&mut stream, request).await?;
        read_line(&mut stream).await.map(Some)
    };
    timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn no_one_listens(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Makes the socket in a folder that only we can enter, and gives it its place when its mode is right. It replaces what a
/// killed server left there: who calls this holds the data folder's lock.
fn bind(data_dir: &Path) -> io::Result<UnixListener> {
    let workshop = data_dir.join(".control");
    if workshop.exists() {
        fs::remove_dir_all(&workshop)?;
    }
    DirBuilder::new().mode(0o700).create(&workshop)?;
    let listener = UnixListener::bind(&Address::of(&workshop, SOCKET)?.path)?;
    let socket = workshop.join(SOCKET);
    fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
    fs::rename(&socket, data_dir.join(SOCKET))?;
    fs::remove_dir(&workshop)?;
    Ok(listener)
}

/// A path to a socket that is short enough to be one.
struct Address {
    path: PathBuf,
    /// Keeps the descriptor that the path leads through.
    _folder: Option<File>,
}

impl Address {
    fn of(folder: &Path, name: &str) -> io::Result<Self> {
        let path = folder.join(name);
        if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(Self { path, _folder: None });
        }
        let folder = File::open(folder)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
        Ok(Self { path, _folder: Some(folder) })
    }
}

async fn accept<Handler, Answering>(listener: UnixListener, handler: Arc<Handler>)
where
    Handler: Fn(Request) -> Answering + Send + Sync + 'static,
    Answering: Future<Output = Answer> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(COMMANDS_MAX));
    let mut running = JoinSet::new();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        while running.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "The control socket does not accept; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let handler = Arc::clone(&handler);
        running.spawn(async move {
            if !matches!(timeout(PATIENCE, serve_one(stream, &*handler)).await, Ok(Ok(()))) {
                tracing::debug!("A connection to the control socket ended without an answer");
            }
            drop(place);
        });
    }
}

async fn serve_one<Handler, Answering>(mut stream: UnixStream, handler: &Handler) -> io::Result<()>
where
    Handler: Fn(Request) -> Answering,
    Answering: Future<Output = Answer>,
{
    let answer = match read_line(&mut stream).await {
        Ok(request) => handler(request).await,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Answer::Refused { message: error.to_string() },
        Err(error) => return Err(error),
    };
    write_line(&mut stream, &answer).await
}

async fn write_line<T: Serialize + Sync>(stream: &mut UnixStream, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

/// Reads one line. What is not the line expected is [`io::ErrorKind::InvalidData`]; its text shows nothing of the line, which
/// may hold a password.
async fn read_line<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    let mut line = Vec::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let other = || {
        io::Error::new(io::ErrorKind::InvalidData, "not understood: the command line and the server differ in version")
    };
    serde_json::from_slice(&line).ok().ok_or_else(other)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as BlockingStream;

    use super::*;

    fn request(username: &str) -> Request {
        let command = Command::IssueToken { username: username.to_owned() };
        Request { tenant: "main".to_owned(), command }
    }

    /// Answers with what it was asked for.
    async fn echo(request: Request) -> Answer {
        Answer::Refused { message: format!("{request:?}") }
    }

    fn open(path: &Path) -> DataFolder {
        DataFolder::open(path).unwrap()
    }

    #[tokio::test]
    async fn a_command_gets_its_answer() {
        let place = tempfile::tempdir().unwrap();
        let folder = open(place.path());
        let _listening = listen(&folder, echo).unwrap();
        let answer = ask(place.path(), &request("alice")).await.unwrap();
        assert_eq!(answer, Some(echo(request("alice")).await));
    }

    #[tokio::test]
    async fn without_a_server_there_is_no_answer_and_no_error() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(ask(place.path(), &request("alice")).await.unwrap(), None);
        assert_eq!(ask(&place.path().join("missing"), &request("alice")).await.unwrap(), None);
        let long = place.path().join("x".repeat(200));
        assert_eq!(ask(&long, &request("alice")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_and_goes_with_the_server() {
        let place = tempfile::tempdir().unwrap();
        let folder = open(place.path());
        let listening = listen(&folder, echo).unwrap();
        let mode = fs::metadata(place.path().join(SOCKET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(listening);
        assert!(!place.path().join(SOCKET).exists());
        assert_eq!(ask(place.path(), &request("alice")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_a_killed_server_left_is_replaced() {
        let place = tempfile::tempdir().unwrap();
        let folder = open(place.path());
        drop(std::os::unix::net::UnixListener::bind(place.path().join(SOCKET)).unwrap());
        fs::create_dir(place.path().join(".control")).unwrap();
        assert_eq!(ask(place.path(), &request("alice")).await.unwrap(), None);
        let _listening = listen(&folder, echo).unwrap();
        assert!(ask(place.path(), &request("alice")).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_data_folder_with_a_long_path_works() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a".repeat(120)).join("b".repeat(120));
        let folder = open(&path);
        let _listening = listen(&folder, echo).unwrap();
        assert!(ask(&path, &request("alice")).await.unwrap().is_some());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_line_that_is_no_command_is_refused_without_being_repeated() {
        let place = tempfile::tempdir().unwrap();
        let folder = open(place.path());
        let _listening = listen(&folder, echo).unwrap();
        let path = place.path().join(SOCKET);
        let answer = tokio::task::spawn_blocking(move || {
            use std::io::{Read as _, Write as _};
            let mut stream = BlockingStream::connect(path).unwrap();
            stream.write_all(b"{\"password\":\"hunter2\"}\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let answer = answer.await.unwrap();
        assert!(answer.contains("not understood") && !answer.contains("hunter2"), "{answer}");
    }

    #[tokio::test]
    async fn many_commands_at_once_all_get_their_own_answer() {
        let place = tempfile::tempdir().unwrap();
        let folder = open(place.path());
        let _listening = listen(&folder, echo).unwrap();
        let mut asking = JoinSet::new();
        for number in 0..COMMANDS_MAX * 5 {
            let path = place.path().to_owned();
            asking.spawn(async move {
                let request = request(&format!("user{number}"));
                assert_eq!(ask(&path, &request).await.unwrap(), Some(echo(request).await));
            });
        }
        while let Some(done) = asking.join_next().await {
            done.unwrap();
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let command = Command::SetPassword { username: "a".to_owned(), password: Secret("hunter2".to_owned()) };
        assert!(!format!("{command:?}").contains("hunter2"));
    }
}

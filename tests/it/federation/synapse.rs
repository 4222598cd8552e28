//! Together with a Synapse, the other server that most people run: started once for all tests, ended with the process of the tests.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use reqwest::Method;
use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId, event_id};
use serde_json::{Value, json};
use yurt::actions::{
    Actions, Caller, Window,
    accounts::{self, NewAccount},
    peers::{self, KnownPeer, PeerError},
};

use super::servers::{Server, eventually, free_port, read};

/// Where the program is that starts one.
const LAUNCHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/synapse");

/// The Synapse of this test run.
struct Synapse {
    name: OwnedServerName,
    client_url: String,
    authority: PathBuf,
    http: reqwest::Client,
}

/// Somebody who is logged in there.
struct Person {
    user_id: OwnedUserId,
    token: String,
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(format!("{LAUNCHER}/{program}")).args(arguments).output();
    let output = output
        .unwrap_or_else(|error| panic!("{LAUNCHER}/{program} does not start: {error}; it needs Python 3 and openssl"));
    assert!(
        output.status.success(),
        "Synapse, with which these tests talk, does not start:\n{}\nInstall it with `{LAUNCHER}/start --install-only` (Python 3.10 with venv, openssl, a \
         package index), or leave it out with YURT_TEST_PEER=none",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// None: `YURT_TEST_PEER=none` leaves it out.
fn synapse() -> Option<&'static Synapse> {
    static SYNAPSE: OnceLock<Option<Synapse>> = OnceLock::new();
    SYNAPSE.get_or_init(|| (std::env::var("YURT_TEST_PEER").as_deref() != Ok("none")).then(launch)).as_ref()
}

fn launch() -> Synapse {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("synapse");
    // What earlier runs left behind.
    for old in fs::read_dir(&base).into_iter().flatten().flatten() {
        let is_running = Path::new("/proc").join(old.file_name()).exists();
        if !is_running {
            fs::remove_dir_all(old.path()).ok();
        }
    }
    let process = std::process::id().to_string();
    let folder = base.join(&process);
    fs::create_dir_all(&folder).unwrap();
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (port, client_port) = (free_port().to_string(), free_port().to_string());
    let name = format!("localhost:{port}");
    let started = run(
        "start",
        &[
            "--dir",
            &at("synapse"),
            "--ca-dir",
            &at("ca"),
            "--server-name",
            &name,
            "--federation-port",
            &port,
            "--client-port",
            &client_port,
            "--watch-pid",
            &process,
            "--catchup-seconds",
            "2",
        ],
    );
    let told: Value = serde_json::from_slice(&started.stdout).unwrap();
    crate::client::choose_cryptography();
    Synapse {
        name: name.try_into().unwrap(),
        client_url: told["client_url"].as_str().unwrap().trim_end_matches('/').to_owned(),
        authority: told["ca_cert"].as_str().unwrap().into(),
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
    }
}

impl Synapse {
    /// A server of ours that trusts it and that it trusts.
    async fn partner(&self) -> Server {
        let mut config = Server::config(&[&format!("localhost:{}", free_port())]);
        let folder = self.authority.parent().unwrap();
        let at = |name: &str| folder.join(format!("{}-{name}", config.listen.federation.port()));
        let (certificate, key) = (at("certificate.pem"), at("key.pem"));
        let names = ["--name", "localhost", "--name", "127.0.0.1"];
        let files = ["--ca-dir", folder.to_str().unwrap(), "--cert", certificate.to_str().unwrap(), "--key"];
        run("testca.py", &[&files[..], &[key.to_str().unwrap()], &names].concat());
        (config.federation.tls_certificate, config.federation.tls_key) = (certificate, key);
        config.federation.ca_files = vec![self.authority.clone()];
        Server::with(config).await
    }

    /// Asks as a client does.
    async fn ask(&self, method: Method, path: &str, person: Option<&Person>, body: Value) -> (u16, Value) {
        let url = format!("{}/_matrix/client/v3/{path}", self.client_url);
        let mut request = self.http.request(method.clone(), url);
        if method != Method::GET {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        if let Some(person) = person {
            request = request.bearer_auth(&person.token);
        }
        read(request.send().await.unwrap()).await
    }

    /// A new account, its name made different from all others.
    async fn account(&self, name: &str) -> Person {
        let body = json!({
            "username": format!("{name}-{}", free_port()), "password": "correct horse battery staple", "auth": { "type": "m.login.dummy" }
        });
        let (status, told) = self.ask(Method::POST, "register", None, body).await;
        assert_eq!(status, 200, "{told}");
        let text = |field: &str| told[field].as_str().unwrap().to_owned();
        Person { user_id: text("user_id").try_into().unwrap(), token: text("access_token") }
    }
}

fn left_out() {
    writeln!(std::io::stdout(), "YURT_TEST_PEER=none: not tried together with Synapse").ok();
}

/// What our administrators see of another server.
async fn seen(actions: &Actions, name: &ServerName) -> Option<KnownPeer> {
    let admin = Caller::local(&UserId::parse(format!("@root:{}", actions.server_name)).unwrap(), true);
    let page = peers::list(actions, &admin, None, Window::ALL).await.unwrap();
    page.entries.into_iter().find(|peer| peer.server == name)
}

#[tokio::test]
async fn each_accepts_requests_that_the_other_signed() {
    let Some(synapse) = synapse() else { return left_out() };
    let mut server = synapse.partner().await;
    {
        let actions = server.actions().await;
        let new = NewAccount {
            username: "alice".to_owned(),
            display_name: Some("Alice".to_owned()),
            ..NewAccount::default()
        };
        accounts::create(&actions, new).await.unwrap();
        let rita = synapse.account("rita").await;
        let path = format!("profile/@alice:{}", server.name());
        let (status, profile) = synapse.ask(Method::GET, &path, Some(&rita), Value::Null).await;
        assert_eq!((status, &profile["displayname"]), (200, &json!("Alice")), "{profile}");
        eventually("a request of Synapse was found to be signed by it", async || {
            seen(&actions, &synapse.name).await.is_some_and(|peer| peer.last_seen.is_some())
        })
        .await;
        // It looks for the event, so it has accepted the signature.
        let asked =
            actions.peers().event(&synapse.name, event_id!("$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")).await;
        assert!(matches!(asked, Err(PeerError::Refused)), "{asked:?}");
        let (_, said) = seen(&actions, &synapse.name).await.unwrap().last_error.unwrap();
        assert!(said.starts_with("answered 404"), "{said}");
        assert!(rita.user_id.server_name() == synapse.name);
    }
    server.stop().await;
}

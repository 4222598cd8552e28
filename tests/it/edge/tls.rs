//! The API over TLS: both versions of HTTP, cookies that need it, and a certificate that follows its files.

use std::{fs, path::Path, sync::Arc, time::Duration};

use rustix::process::Signal;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use yurt::{
    clock,
    config::{Config, Registration, Tenant},
    server::{self, Running, ServerError},
};

use super::WAIT_MAX;
use crate::process::Home;

/// Writes a new certificate for `localhost` and answers it.
fn certify(folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    made.cert.pem()
}

fn config(folder: &Path) -> Config {
    let mut config = Config { data_dir: folder.join("data"), ..Config::default() };
    config.listen.api = "127.0.0.1:0".parse().unwrap();
    config.listen.federation = "127.0.0.1:0".parse().unwrap();
    (config.listen.tls_certificate, config.listen.tls_key) = (folder.join("cert.pem"), folder.join("key.pem"));
    config.accounts.registration = Registration::Open;
    config.limits.enabled = false;
    config.federation.enabled = false;
    config.tenant.push(Tenant::new("main", "localhost".try_into().unwrap()));
    config
}

async fn try_start(folder: &Path) -> Result<Running, ServerError> {
    server::start(config(folder), Arc::new(clock::System)).await
}

async fn started() -> (TempDir, Running, String) {
    let folder = tempfile::tempdir().unwrap();
    let certificate = certify(folder.path());
    let running = try_start(folder.path()).await.unwrap();
    (folder, running, certificate)
}

/// A connection to a port that trusts only this certificate.
async fn connect(port: u16, certificate: &str, protocol: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// What is answered to this on a connection that it closes.
async fn ask(running: &Running, certificate: &str, head: &str, body: &str) -> String {
    let mut stream = connect(running.api().port(), certificate, "http/1.1").await.unwrap();
    let length = body.len();
    let request = format!("{head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_cookie_over_tls_is_bound_to_it_and_origins_are_https() {
    let (_folder, running, certificate) = started().await;
    assert!(running.api_url().starts_with("https://127.0.0.1:"));
    let head = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json");
    let account = json!({"username": "alice", "password": "correct horse", "cookie": true});
    let register = json!({"username": "alice", "password": "correct horse"});
    assert!(ask(&running, &certificate, &head("/v1/auth/register"), &register.to_string()).await.contains(" 201 "));
    let answer = ask(&running, &certificate, &head("/v1/auth/login"), &account.to_string()).await;
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.starts_with("__Host-yurt=") && cookie.contains("; Secure;"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    for (origin, status) in [("https://localhost", " 201 "), ("http://localhost", " 403 ")] {
        let head = format!("{}\r\nCookie: {cookie}\r\nOrigin: {origin}", head("/v1/workspaces"));
        let answer = ask(&running, &certificate, &head, &json!({"name": "Felt"}).to_string()).await;
        assert!(answer.lines().next().unwrap().contains(status), "{origin}: {answer}");
    }
    running.stop().await.unwrap();
}

/// One frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [[0, 0, length, kind, flags, 0, 0, 0, stream].as_slice(), payload].concat()
}

/// What a client sends first over HTTP/2, and a GET.
fn first_request(path: &str, token: Option<&str>) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // GET and https from the static table, then path, authority and token as they are.
    let mut block = [[0x82, 0x87, 0x04].as_slice(), &text(path), &[0x01], &text("localhost")].concat();
    if let Some(token) = token {
        block.extend([[0x0f, 0x08].as_slice(), &text(&format!("Bearer {token}"))].concat());
    }
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[]), &frame(1, 5, 1, &block)].concat()
}

/// Reads until these bytes have come.
async fn until(stream: &mut TlsStream<TcpStream>, bytes: &[u8]) {
    let mut received = Vec::new();
    while !received.windows(bytes.len()).any(|window| window == bytes) {
        let read = tokio::time::timeout(WAIT_MAX, stream.read_buf(&mut received)).await.unwrap().unwrap();
        assert_ne!(read, 0, "the connection was closed after {received:?}");
    }
}

#[tokio::test]
async fn a_handshake_may_agree_on_the_second_version_of_http() {
    let (_folder, running, certificate) = started().await;
    let mut stream = connect(running.api().port(), &certificate, "h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    stream.write_all(&first_request("/healthz", None)).await.unwrap();
    until(&mut stream, json!({"data": {"status": "ok"}}).to_string().as_bytes()).await;
    drop(stream);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_up_and_a_broken_one_is_not() {
    let (folder, running, first) = started().await;
    let port = running.api().port();
    let second = certify(folder.path());
    running.reload().await;
    connect(port, &second, "http/1.1").await.unwrap();
    assert!(connect(port, &first, "http/1.1").await.is_err());
    fs::write(folder.path().join("cert.pem"), "no certificate").unwrap();
    running.reload().await;
    connect(port, &second, "http/1.1").await.unwrap();
    fs::remove_file(folder.path().join("key.pem")).unwrap();
    running.reload().await;
    connect(port, &second, "http/1.1").await.unwrap();
    let third = certify(folder.path());
    running.reload().await;
    connect(port, &third, "http/1.1").await.unwrap();
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_stops_the_start_with_the_name_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let refused = async || try_start(folder.path()).await.err().expect("the start is refused").to_string();
    let missing = refused().await;
    assert!(missing.contains("cert.pem") && missing.contains("listen.tls_certificate"), "{missing}");
    certify(folder.path());
    fs::write(folder.path().join("key.pem"), "no key").unwrap();
    let no_key = refused().await;
    assert!(no_key.contains("key.pem") && no_key.contains("private key"), "{no_key}");
    let other = tempfile::tempdir().unwrap();
    certify(other.path());
    fs::copy(other.path().join("key.pem"), folder.path().join("key.pem")).unwrap();
    let no_pair = refused().await;
    assert!(no_pair.contains("do not work together"), "{no_pair}");
    let mut half = config(folder.path());
    half.listen.tls_key = std::path::PathBuf::new();
    let half = half.check().unwrap_err().to_string();
    assert!(half.contains("listen.tls_key") && half.contains("both or none"), "{half}");
}

#[tokio::test]
async fn who_does_not_shake_hands_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let mut config = config(folder.path());
    config.limits.head_timeout_s = 1;
    let running = server::start(config, Arc::new(clock::System)).await.unwrap();
    for sent in ["", "GET /healthz HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(running.api()).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let answer = super::until_closed(&mut stream).await;
        assert!(!answer.contains("HTTP"), "{answer}");
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_connection_of_http_2_that_is_idle_or_never_begins_is_closed_and_one_that_streams_stays() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = certify(folder.path());
    let mut config = config(folder.path());
    (config.limits.head_timeout_s, config.limits.idle_timeout_s) = (1, 1);
    let running = server::start(config, Arc::new(clock::System)).await.unwrap();
    let head = "POST /v1/auth/register HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    let account = json!({"username": "alice", "password": "correct horse"}).to_string();
    let answer = ask(&running, &certificate, head, &account).await;
    let session: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let token = session["data"]["access_token"].as_str().unwrap();
    let port = running.api().port();
    let mut streaming = connect(port, &certificate, "h2").await.unwrap();
    streaming.write_all(&first_request("/v1/stream", Some(token))).await.unwrap();
    until(&mut streaming, b"resync").await;
    let (mut silent, mut idle) =
        (connect(port, &certificate, "h2").await.unwrap(), connect(port, &certificate, "h2").await.unwrap());
    idle.write_all(&first_request("/healthz", None)).await.unwrap();
    for stream in [&mut silent, &mut idle] {
        let mut received = Vec::new();
        let end = tokio::time::timeout(WAIT_MAX, stream.read_to_end(&mut received)).await;
        // Cut off without a goodbye is an end too.
        end.expect("the server closes the connection").ok();
    }
    streaming.write_all(&frame(6, 0, 0, b"tentpole")).await.unwrap();
    until(&mut streaming, &frame(6, 1, 0, b"tentpole")).await;
    drop(streaming);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn the_process_says_https_and_reloads_when_it_is_told() {
    let home = Home::new("");
    let first = certify(home.path());
    home.write_config(
        "listen.tls_certificate = \"cert.pem\"\nlisten.tls_key = \"key.pem\"\n[[tenant]]\nserver_name = \"localhost\"\n",
    );
    let server = home.serve();
    let port: u16 = server.api.strip_prefix("https://127.0.0.1:").unwrap().parse().unwrap();
    connect(port, &first, "http/1.1").await.unwrap();
    let second = certify(home.path());
    server.signal(Signal::HUP);
    tokio::time::timeout(WAIT_MAX, async {
        while connect(port, &second, "http/1.1").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the new certificate is taken up");
    assert_eq!(server.stop(Signal::TERM).0.code(), Some(0));
}

//! Who does not wait: an import that takes long goes on as a job, and a client that goes away in the middle leaves nothing behind.

use std::{fs, path::Path, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    bundle_of,
    import::{BOUNDARY, form, upload},
    verify,
};
use crate::{
    client::{Caller, Setup, TestServer, server, server_with},
    federation::servers::eventually,
};

/// More than a connection takes up when nobody reads at its end.
const LARGE: usize = 32 * 1024 * 1024;

/// Deletes a room for good.
pub(super) async fn purged(admin: &Caller, room: &str) {
    let job = admin.delete(&format!("/v1/admin/rooms/{room}")).await.expect_status(202).data();
    assert_eq!(admin.awaits(job["job_id"].as_str().unwrap()).await["state"], "done");
}

/// A value without what differs between two servers.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::String(text) if text.starts_with(['!', '#', '$']) => json!("a name"),
        other => other.clone(),
    }
}

/// Takes a room out and in again. The answer, while nothing can be done, or at once.
async fn restored(server: &TestServer, is_held_up: bool) -> Value {
    let (alice, admin) = (server.account("alice").await, server.admin("root").await);
    let room = alice.group("Tents").await;
    let medium = alice.uploads(b"felt", "text/plain").await;
    alice.shows(&room, medium["mxc"].as_str().unwrap()).await;
    let bundle = bundle_of(&alice, &room).await;
    purged(&admin, &room).await;
    if !is_held_up {
        return upload(&admin, &bundle, json!({})).await.created();
    }
    let actions = server.actions().await;
    let turns = (actions.jobs.turn().await.unwrap(), actions.jobs.turn().await.unwrap());
    let begun = upload(&admin, &bundle, json!({})).await.expect_status(202).data();
    let id = begun["job_id"].as_str().unwrap();
    assert_eq!(begun, json!({ "job_id": id }));
    let path = format!("/v1/jobs/{id}");
    assert_eq!(admin.get(&path).await.ok()["state"], "queued");
    alice.get(&path).await.refused(404, "SW_NOT_FOUND");
    alice.get(&format!("/v1/rooms/{room}")).await.no_such_room();
    drop(turns);
    let job = admin.awaits(id).await;
    assert_eq!((&job["state"], &job["kind"]), (&json!("done"), &json!("import")));
    assert_eq!(alice.hears(&room).await.len(), 1);
    job["result"].clone()
}

#[tokio::test]
async fn an_import_that_takes_long_is_answered_with_a_job_whose_result_is_the_answer() {
    let long = server_with(Setup { more: "[bundle]\nanswer_wait_ms = 1", ..Setup::default() }).await;
    let (answer, result) = (restored(&server().await, false).await, restored(&long, true).await);
    assert_eq!(shape(&result), shape(&answer));
    assert_eq!((&result["outcome"], &result["media"]["stored"]), (&json!("restored"), &json!(1)));
}

#[tokio::test]
async fn an_import_that_is_refused_late_says_so_in_its_job() {
    let long = server_with(Setup { more: "[bundle]\nanswer_wait_ms = 1", ..Setup::default() }).await;
    let admin = long.admin("root").await;
    let actions = long.actions().await;
    let turns = (actions.jobs.turn().await.unwrap(), actions.jobs.turn().await.unwrap());
    let begun = upload(&admin, &Bytes::from_static(b"no ZIP"), json!({})).await.expect_status(202).data();
    drop(turns);
    let job = admin.awaits(begun["job_id"].as_str().unwrap()).await;
    assert!(job["state"] == "failed" && job["error"].as_str().unwrap().contains("ZIP"), "{job}");
    eventually("the upload is gone", async || spooled(&long) == 0).await;
}

fn spooled(server: &TestServer) -> usize {
    fs::read_dir(server.folder().join("tenants/main/spool")).map_or(0, Iterator::count)
}

/// Files of media of this server that this process has open.
fn open_media(server: &TestServer) -> usize {
    let is_medium = |file: &Path| file.starts_with(server.folder()) && file.iter().any(|part| part == "media");
    let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|open| fs::read_link(open.ok()?.path()).ok());
    open.filter(|file| is_medium(file)).count()
}

/// A connection on which a request was begun.
async fn begun(caller: &Caller, server: &TestServer, head: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let token = caller.token.as_deref().unwrap();
    let request = format!("{head} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n");
    let body = [request.as_bytes(), body].concat();
    stream.write_all(&body).await.unwrap();
    stream
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_of_an_export_frees_everything() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let medium = alice.uploads(&vec![7; LARGE], "application/octet-stream").await;
    alice.shows(&room, medium["mxc"].as_str().unwrap()).await;
    let actions = server.actions().await;
    eventually("the server is at rest", async || actions.jobs.tasks() == 0 && open_media(&server) == 0).await;
    // More often than exports are made at once.
    for _ in 0..6 {
        let mut stream = begun(&alice, &server, &format!("GET /v1/rooms/{room}/export"), b"\r\n").await;
        let mut first = [0; 64];
        stream.read_exact(&mut first).await.unwrap();
        assert!(first.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&first));
        let waits = async || actions.jobs.tasks() == 1 && open_media(&server) == 1;
        eventually("the export waits in the middle of the medium", waits).await;
        drop(stream);
        let is_free = async || actions.jobs.tasks() == 0 && open_media(&server) == 0;
        eventually("nothing is left of the export", is_free).await;
    }
    verify(&bundle_of(&alice, &room).await).unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_of_an_upload_leaves_nothing_in_the_spool() {
    let server = server().await;
    let (alice, admin) = (server.account("alice").await, server.admin("root").await);
    let room = alice.group("Tents").await;
    let bundle = bundle_of(&alice, &room).await;
    let body = form(&bundle, json!({}));
    let (length, half) = (body.len(), &body[..body.len() - bundle.len() / 2]);
    let head = format!("Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {length}\r\n\r\n");
    for _ in 0..6 {
        let stream = begun(&alice, &server, "POST /v1/rooms/import", &[head.as_bytes(), half].concat()).await;
        eventually("the upload is under way", async || spooled(&server) == 1).await;
        drop(stream);
        eventually("nothing is left of the upload", async || spooled(&server) == 0).await;
    }
    assert_eq!(admin.get("/v1/admin/jobs?kind=import").await.list(), Vec::<Value>::new());
    upload(&alice, &bundle, json!({})).await.ok();
    tokio::time::timeout(Duration::from_secs(30), eventually("the spool is empty", async || spooled(&server) == 0))
        .await
        .unwrap();
}

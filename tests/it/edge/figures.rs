//! What the server tells those who run it: `/metrics` and `/readyz`.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;
use yurt::{
    clock,
    config::{Config, Tenant},
    server::{self, Engines, Running},
    storage::memory::{Fault, MemoryEngine},
};

use crate::process::{Home, Peer, segment};

/// The figures by their names with labels.
fn parsed(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn figures_tell_of_requests_commits_stores_and_tenants() {
    let home = Home::new("listen.metrics = \"127.0.0.1:0\"\n");
    home.succeed(&["account", "create", "root", "--admin"]);
    let token = home.succeed(&["account", "token", "root"]);
    let server = home.serve();
    let peer = Peer::new(&server, &token);
    let (_, room) = peer.post("/v1/rooms", &json!({"room_type": "group", "name": "Tents"})).await.unwrap();
    let room = room["data"]["id"].as_str().unwrap();
    let path = format!("/v1/rooms/{}/messages", segment(room));
    for _ in 0..3 {
        assert_eq!(peer.post(&path, &json!({"body": "hello"})).await.unwrap().0, 201);
    }
    assert_eq!(peer.get("/v1/rooms/none/messages").await.unwrap().0, 404);
    assert_eq!(peer.get("/nowhere").await.unwrap().0, 404);
    let url = server.ready["metrics"].as_str().unwrap();
    let text = peer.http.get(url).send().await.unwrap().text().await.unwrap();
    let figures = parsed(&text);
    let figure = |name: &str| *figures.get(name).unwrap_or_else(|| panic!("no {name} in {text}"));
    let route = "route=\"/v1/rooms/{room_id}/messages\"";
    assert_eq!(figure(&format!("yurt_http_requests_total{{method=\"POST\",{route},status=\"2xx\"}}")), 3.0);
    assert_eq!(figure(&format!("yurt_http_requests_total{{method=\"GET\",{route},status=\"4xx\"}}")), 1.0);
    assert_eq!(figure(&format!("yurt_http_request_seconds_count{{method=\"POST\",{route}}}")), 3.0);
    assert_eq!(figure("yurt_http_requests_total{method=\"none\",route=\"none\",status=\"4xx\"}"), 1.0);
    assert!(figure("yurt_events_total{outcome=\"accepted\"}") > 3.0);
    assert!(figure("yurt_commits_total{outcome=\"done\"}") >= 4.0);
    assert!(figure("yurt_commit_sync_seconds_count") >= 4.0);
    assert!(figure("yurt_commit_group_bytes_sum") > 1000.0 && figure("yurt_commit_group_commits_sum") >= 4.0);
    assert_eq!(figure("yurt_tenants_open"), 1.0);
    assert_eq!(figure("yurt_store_writable{tenant=\"main\"}"), 1.0);
    assert!(figure("yurt_store_memtable_bytes{tenant=\"main\"}") > 0.0);
    assert!(figure("yurt_rooms_in_memory{tenant=\"main\"}") >= 1.0);
    for (name, value) in [("yurt_streams", 0.0), ("yurt_jobs_running", 0.0), ("yurt_lane_writers_waiting", 0.0)] {
        assert_eq!(figure(&format!("{name}{{tenant=\"main\"}}")), value);
    }
    assert!(figure("yurt_connections") >= 1.0 && figure("process_open_fds") > 10.0);
    assert!(figure("process_resident_memory_bytes") > 1_000_000.0);
    assert!(!text.contains(room.trim_start_matches('!')) && !text.contains("root"), "no ids");
    let elsewhere = peer.http.get(format!("{}/metrics", server.api)).send().await.unwrap();
    assert_eq!(elsewhere.status(), 404, "not where clients are");
}

/// A server on an engine whose faults the test decides, and a client.
async fn failing_server() -> (Running, Arc<MemoryEngine>, tempfile::TempDir, Ask) {
    let folder = tempfile::tempdir().unwrap();
    let engine = Arc::new(MemoryEngine::strict());
    let mut config = Config { data_dir: folder.path().to_owned(), ..Config::default() };
    config.listen.api = "127.0.0.1:0".parse().unwrap();
    config.listen.federation = "127.0.0.1:0".parse().unwrap();
    config.accounts.registration = yurt::config::Registration::Open;
    config.tenant.push(Tenant::new("main", "localhost".try_into().unwrap()));
    let given = Arc::clone(&engine);
    let engines = Engines::StrictMemory(Arc::new(move |_| given.reopened()));
    let running = server::start_on(config, Arc::new(clock::System), engines).await.unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = running.api_url();
    (running, engine, folder, Ask { http, url })
}

struct Ask {
    http: reqwest::Client,
    url: String,
}

impl Ask {
    async fn ready(&self) -> (u16, String) {
        let response = self.http.get(format!("{}/readyz", self.url)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    async fn register(&self, name: &str) -> u16 {
        let body = json!({"username": name, "password": "correct horse"}).to_string();
        let request =
            self.http.post(format!("{}/v1/auth/register", self.url)).header("content-type", "application/json");
        request.body(body).send().await.unwrap().status().as_u16()
    }
}

#[tokio::test]
async fn a_server_whose_disk_is_full_is_not_ready_until_a_write_succeeds() {
    let (running, engine, _folder, ask) = failing_server().await;
    assert_eq!(ask.ready().await.0, 200);
    engine.fail_next(Fault::Full);
    assert_eq!(ask.register("alice").await, 503);
    engine.fail_next(Fault::Full);
    let (status, answer) = ask.ready().await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer.contains("SW_BUSY") && answer.contains("the database of 1 tenant takes no writes"), "{answer}");
    assert_eq!(ask.ready().await, (200, json!({"data": {"status": "ok"}}).to_string()), "there is room again");
    assert_eq!(ask.register("alice").await, 201);
    running.stop().await.unwrap();
}

//! Several servers in one process: nothing of one is anything in another.

use serde_json::json;

use super::MISSING_ROOM;
use crate::client::{Caller, PASSWORD, SERVER_NAME, Setup, TestServer, encoded, server, server_with, text};

/// A second tenant beside the first, which has further hosts.
const TWO: Setup = Setup {
    listen: "",
    tenant: "hosts = [\"felt.test\", \"felt.test:8080\"]",
    accounts: "registration = \"open\"",
    federation: "enabled = false",
    limits: "enabled = false",
    more: "[[tenant]]\nname = \"second\"\nserver_name = \"other.test\"\nhosts = [\"wood.test\"]\n",
};

/// Registers under the host of a tenant; the host goes with every later request too.
async fn account_at(server: &TestServer, host: &str, name: &str) -> Caller {
    let there = server.nameless().with_header("host", host);
    let session = there.post("/v1/auth/register", json!({"username": name, "password": PASSWORD})).await.created();
    Caller { headers: there.headers.clone(), ..server.caller(&session) }
}

/// The same caller at another host.
fn at_host(caller: &Caller, host: &str) -> Caller {
    Caller { headers: vec![("host".to_owned(), host.to_owned())], ..caller.clone() }
}

#[tokio::test]
async fn a_name_in_two_tenants_is_two_people() {
    let server = server_with(TWO).await;
    let here = account_at(&server, SERVER_NAME, "alice").await;
    let there = account_at(&server, "other.test", "alice").await;
    assert_eq!((here.id.as_str(), there.id.as_str()), ("@alice:yurt.test", "@alice:other.test"));
    assert_eq!(here.get("/v1/me").await.ok()["tenant"], "main");
    assert_eq!(there.get("/v1/me").await.ok()["tenant"], "second");
}

#[tokio::test]
async fn the_host_may_be_the_server_name_with_a_port_or_a_listed_one() {
    let server = server_with(TWO).await;
    let here = account_at(&server, SERVER_NAME, "alice").await;
    for host in ["yurt.test:8080", "yurt.test:443", "felt.test", "felt.test:8080", "YURT.TEST"] {
        at_host(&here, host).get("/v1/me").await.ok();
    }
    let there = account_at(&server, "wood.test", "bob").await;
    assert_eq!(there.id, "@bob:other.test");
}

#[tokio::test]
async fn an_unknown_host_finds_no_route_where_there_are_several_tenants() {
    let server = server_with(TWO).await;
    let here = account_at(&server, SERVER_NAME, "alice").await;
    for host in ["elsewhere.test", "127.0.0.1", "yurt.test.evil.test", "localhost:8080"] {
        let nameless = server.nameless().with_header("host", host);
        let body = json!({"username": "bob", "password": PASSWORD});
        nameless.post("/v1/auth/register", body).await.refused(404, "SW_ROUTE_NOT_FOUND");
        at_host(&here, host).get("/v1/me").await.refused(404, "SW_ROUTE_NOT_FOUND");
    }
}

#[tokio::test]
async fn a_single_tenant_answers_at_every_host() {
    let server = server().await;
    let alice = server.account("alice").await;
    for host in ["yurt.test", "anything.example:1234", "127.0.0.1"] {
        at_host(&alice, host).get("/v1/me").await.ok();
    }
}

#[tokio::test]
async fn a_token_of_one_tenant_is_none_at_the_host_of_another() {
    let server = server_with(TWO).await;
    let here = account_at(&server, SERVER_NAME, "alice").await;
    let there = account_at(&server, "other.test", "alice").await;
    at_host(&here, "other.test").get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    at_host(&there, "felt.test").get("/v1/me").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    at_host(&here, "wood.test")
        .post("/v1/rooms", json!({"room_type": "group", "name": "x"}))
        .await
        .refused(401, "SW_AUTH_INVALID_TOKEN");
}

#[tokio::test]
async fn the_log_in_of_one_tenant_is_none_in_another() {
    let server = server_with(TWO).await;
    account_at(&server, SERVER_NAME, "alice").await;
    let there = server.nameless().with_header("host", "other.test");
    let body = json!({"username": "alice", "password": PASSWORD});
    there.post("/v1/auth/login", body).await.refused(401, "SW_AUTH_INVALID_TOKEN");
}

#[tokio::test]
async fn a_forwarded_host_is_not_believed_from_just_anybody() {
    let server = server_with(TWO).await;
    let here = account_at(&server, SERVER_NAME, "alice").await;
    let tricked = here.with_header("x-forwarded-host", "other.test");
    assert_eq!(tricked.get("/v1/me").await.ok()["tenant"], "main");
    let unknown = server.nameless().with_header("host", "elsewhere.test").with_header("x-forwarded-host", SERVER_NAME);
    let body = json!({"username": "bob", "password": PASSWORD});
    unknown.post("/v1/auth/register", body).await.refused(404, "SW_ROUTE_NOT_FOUND");
}

#[tokio::test]
async fn a_room_of_another_tenant_answers_byte_for_byte_like_a_missing_one() {
    let server = server_with(TWO).await;
    let here = account_at(&server, SERVER_NAME, "alice").await;
    let there = account_at(&server, "other.test", "alice").await;
    let room = here.creates(json!({"room_type": "public", "name": "Lobby"})).await;
    let old = here.creates(json!({"room_type": "public", "name": "Old", "room_version": "11"})).await;
    let event = here.says(&room, "hello").await;
    let requests = [
        ("GET", String::new(), None),
        ("GET", "/messages".to_owned(), None),
        ("GET", format!("/events/{event}"), None),
        ("POST", "/messages".to_owned(), Some(json!({"body": "hello"}))),
        ("PUT", "/name".to_owned(), Some(json!({"name": "Mine"}))),
    ];
    for room in [room, old, encoded("#lobby:yurt.test")] {
        for (method, rest, body) in &requests {
            let body = body.as_ref().map(|body| body.to_string().into_bytes());
            let foreign = there.send(method, &format!("/v1/rooms/{room}{rest}"), body.clone()).await;
            let missing = there.send(method, &format!("/v1/rooms/{MISSING_ROOM}{rest}"), body).await;
            assert_eq!(foreign.body, missing.body, "{method} {room}{rest}");
            foreign.no_such_room();
        }
    }
    assert_eq!(there.get("/v1/directory/rooms").await.meta()["total"], 0);
}

#[tokio::test]
async fn people_events_and_workspaces_of_another_tenant_are_unknown() {
    let server = server_with(TWO).await;
    let here = account_at(&server, SERVER_NAME, "alice").await;
    let there = account_at(&server, "other.test", "bob").await;
    let (room, foreign_room) = (here.group("Tents").await, there.group("Yurts").await);
    let foreign_event = there.says(&foreign_room, "secret").await;
    let workspace = text(&there.get("/v1/me").await.ok()["personal_workspace_id"]);
    here.get(&format!("/v1/rooms/{room}/events/{foreign_event}")).await.refused(404, "SW_EVENT_NOT_FOUND");
    here.put(&format!("/v1/rooms/{room}/read"), json!({"event_id": foreign_event}))
        .await
        .refused(404, "SW_EVENT_NOT_FOUND");
    here.get(&format!("/v1/workspaces/{workspace}")).await.refused(404, "SW_WORKSPACE_NOT_FOUND");
    here.put(&format!("/v1/rooms/{room}/workspace"), json!({"workspace_id": workspace}))
        .await
        .refused(404, "SW_WORKSPACE_NOT_FOUND");
    here.post(&format!("/v1/rooms/{room}/invite"), json!({"participant_id": "bob"}))
        .await
        .refused(404, "SW_PARTICIPANT_NOT_FOUND");
    here.post("/v1/rooms/dm", json!({"participant_id": there.id})).await.refused(409, "SW_FED_DISABLED");
}

#[tokio::test]
async fn an_alias_and_a_name_taken_in_one_tenant_are_free_in_another() {
    let server = server_with(TWO).await;
    let here = account_at(&server, SERVER_NAME, "alice").await;
    let there = account_at(&server, "other.test", "alice").await;
    for (caller, server_name) in [(&here, "yurt.test"), (&there, "other.test")] {
        let room =
            caller.post("/v1/rooms", json!({"room_type": "public", "name": "Lobby", "alias": "lobby"})).await.created();
        assert_eq!(room["room_alias"], format!("#lobby:{server_name}"));
    }
}

#[tokio::test]
async fn limits_are_the_tenants_own() {
    let more = "[[tenant]]\nname = \"second\"\nserver_name = \"other.test\"\nmax_rooms = 1\n";
    let server = server_with(Setup { more, ..Setup::default() }).await;
    let here = account_at(&server, SERVER_NAME, "alice").await;
    let there = account_at(&server, "other.test", "alice").await;
    for name in ["one", "two"] {
        here.group(name).await;
    }
    there.group("one").await;
    there.post("/v1/rooms", json!({"room_type": "group", "name": "two"})).await.refused(409, "SW_TENANT_CAPACITY");
}

#[tokio::test]
async fn each_tenant_signs_with_its_own_key_and_keeps_it() {
    let mut server = server_with(TWO).await;
    let here = account_at(&server, SERVER_NAME, "alice").await;
    let there = account_at(&server, "other.test", "alice").await;
    let mut keys = Vec::new();
    for restarted in [false, true] {
        if restarted {
            server.restart().await;
        }
        for (caller, server_name) in [(&here, "yurt.test"), (&there, "other.test")] {
            let room = caller.group("Tents").await;
            let event = caller.says(&room, "hello").await;
            let signatures = caller.pdu(&room, &event).await["signatures"].clone();
            let signatures = signatures.as_object().expect("signatures by server");
            assert_eq!(signatures.keys().collect::<Vec<_>>(), [server_name]);
            let names: Vec<String> =
                signatures[server_name].as_object().expect("signatures by key").keys().cloned().collect();
            assert_eq!(names.len(), 1);
            keys.push(names[0].clone());
        }
    }
    assert_eq!(keys[..2], keys[2..], "the keys outlive a restart");
}

#[tokio::test]
async fn what_is_kept_is_kept_for_both_over_a_restart() {
    let mut server = server_with(TWO).await;
    let here = account_at(&server, SERVER_NAME, "alice").await;
    let there = account_at(&server, "other.test", "alice").await;
    let (ours, theirs) = (here.group("Tents").await, there.group("Yurts").await);
    here.says(&ours, "here").await;
    there.says(&theirs, "there").await;
    server.restart().await;
    assert_eq!(here.hears(&ours).await, ["here"]);
    assert_eq!(there.hears(&theirs).await, ["there"]);
}

#[tokio::test]
async fn a_forwarded_host_is_believed_from_a_trusted_proxy() {
    let server = server_with(Setup { listen: "trusted_proxies = [\"127.0.0.1\"]", ..TWO }).await;
    let proxied = server.nameless().with_header("host", "10.0.0.1").with_header("x-forwarded-host", "wood.test");
    let session = proxied.post("/v1/auth/register", json!({"username": "bob", "password": PASSWORD})).await.created();
    assert_eq!(session["participant_id"], "@bob:other.test");
}

#[tokio::test]
async fn a_data_folder_remembers_its_server_name() {
    let mut server = server().await;
    let alice = server.account("alice").await;
    server.stop().await;
    let refused = server.start_as("renamed.test").await.expect_err("another server name stops the start").to_string();
    assert!(refused.contains(SERVER_NAME) && refused.contains("renamed.test"), "{refused}");
    server.restart_stopped().await;
    alice.get("/v1/me").await.ok();
}

//! Joins that take long, and joins that come to nothing: what the client sees meanwhile, and what is left after a restart.

use std::{net::TcpListener, sync::Arc};

use rules::kind::RoomKind;
use ruma::OwnedRoomId;
use serde_json::json;
use yurt::actions::creation::{self, NewRoom};

use super::{
    engines::{Engine, Net, engine},
    servers::{Authority, Server, eventually, free_port},
};
use crate::{
    client::{encoded, text},
    process::{Home, Peer},
};

pub(super) async fn public(of: &Engine) -> OwnedRoomId {
    let new = NewRoom { kind: Some(RoomKind::Public), name: Some("Far tents".to_owned()), ..NewRoom::default() };
    creation::create(&of.actions, &of.person, new).await.unwrap()
}

#[tokio::test]
async fn a_join_through_a_slow_server_goes_on_as_a_job_that_the_room_shows() {
    let net = Arc::new(Net::default());
    let (alice, bob) = (engine(&net, "a.example", "alice").await, engine(&net, "b.example", "bob").await);
    let room_id = public(&alice).await;
    let client = bob.client().await;
    let (room, join) = (encoded(room_id.as_str()), format!("/v1/rooms/{}/join", encoded(room_id.as_str())));
    let kept_back = net.joins.write().await;
    client.get(&format!("/v1/rooms/{room}")).await.expect_status(404);
    let underway = client.post(&join, json!({ "via": ["a.example"] })).await.expect_status(202).data();
    assert_eq!(underway["room_id"], room_id.as_str());
    let job = text(&underway["job_id"]);

    let shown = client.sees(&room).await;
    assert_eq!((&shown["me"]["join_job_id"], &shown["me"]["membership"]), (&json!(job), &json!(null)));
    assert_eq!((&shown["creator_id"], &shown["name"]), (&json!(null), &json!(null)));
    assert_eq!(client.room_ids("/v1/rooms").await, [room_id.to_string()]);
    eventually("the job runs", async || client.get(&format!("/v1/jobs/{job}")).await.ok()["state"] == "running").await;
    let again = client.post(&join, json!({ "via": ["a.example"] })).await.expect_status(202).data();
    assert_eq!(again, underway, "a repeat is told the same at once");
    let other = super::engines::caller(&bob.actions, "carol").await;
    assert!(
        yurt::actions::rooms::details(&bob.actions, &other, room_id.as_str()).await.is_err(),
        "nobody else sees it"
    );

    drop(kept_back);
    let done = client.awaits(&job).await;
    assert_eq!((&done["state"], &done["result"]["room_id"]), (&json!("done"), &json!(room_id)));
    let shown = client.sees(&room).await;
    assert_eq!((&shown["me"]["membership"], &shown["me"]["join_job_id"]), (&json!("join"), &json!(null)));
    assert_eq!(shown["name"], "Far tents");
    assert_eq!(bob.state(&room_id).await, alice.state(&room_id).await);
    client.post(&join, json!({})).await.expect_status(200);
}

#[tokio::test]
async fn a_slow_join_that_comes_to_nothing_ends_in_a_clear_error_and_leaves_no_room() {
    let net = Arc::new(Net::default());
    let (alice, bob) = (engine(&net, "a.example", "alice").await, engine(&net, "b.example", "bob").await);
    let room_id = public(&alice).await;
    let client = bob.client().await;
    let join = format!("/v1/rooms/{}/join", encoded(room_id.as_str()));
    let kept_back = net.joins.write().await;
    net.spoilt.lock().insert(alice.name.clone());
    let job = text(&client.post(&join, json!({ "via": ["a.example"] })).await.expect_status(202).data()["job_id"]);
    drop(kept_back);
    let failed = client.awaits(&job).await;
    assert_eq!(failed["state"], "failed");
    assert_eq!(failed["error"], "no other server lets you into this room");
    client.get(&format!("/v1/rooms/{}", encoded(room_id.as_str()))).await.expect_status(404);
    assert!(client.room_ids("/v1/rooms").await.is_empty());
    net.spoilt.lock().clear();
    client.post(&join, json!({ "via": ["a.example"] })).await.expect_status(200);
}

/// The configuration of a program that other servers of this machine talk to.
fn reachable(authority: &Authority, port: u16) -> String {
    format!(
        "listen.federation = \"127.0.0.1:{port}\"\nfederation.enabled = true\nfederation.tls_certificate = {:?}\n\
         federation.tls_key = {:?}\nfederation.ca_files = [{:?}]\nfederation.allow_addresses = [\"127.0.0.0/8\"]\n\
         [[tenant]]\nserver_name = \"localhost:{port}\"\n",
        authority.at("certificate.pem"),
        authority.at("certificate.key"),
        authority.file(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_join_survives_that_the_server_is_killed() {
    let authority = Authority::new();
    let mut far = Server::new(&authority).await;
    let room_id = {
        let actions = far.actions().await;
        let alice = super::engines::caller(&actions, "alice").await;
        let new = NewRoom { kind: Some(RoomKind::Public), name: Some("Far tents".to_owned()), ..NewRoom::default() };
        creation::create(&actions, &alice, new).await.unwrap()
    };
    let home = Home::new("");
    home.write_config(&reachable(&authority, free_port()));
    home.succeed(&["account", "create", "bob"]);
    let token = home.succeed(&["account", "token", "bob"]);
    let server = home.serve();
    let bob = Peer::new(&server, &token);
    // They take connections, and say nothing.
    let silent = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    let mut via =
        silent.iter().map(|silent| format!("localhost:{}", silent.local_addr().unwrap().port())).collect::<Vec<_>>();
    via.push(far.name().to_string());
    let room = encoded(room_id.as_str());
    let (status, answer) = bob.post(&format!("/v1/rooms/{room}/join"), &json!({ "via": via })).await.unwrap();
    assert_eq!(status, 202, "{answer}");
    let job = text(&answer["data"]["job_id"]);
    server.kill();

    drop(silent);
    let server = home.serve();
    let bob = Peer::new(&server, &token);
    eventually("the job is over", async || {
        let (status, answer) = bob.get(&format!("/v1/jobs/{job}")).await.unwrap();
        assert_eq!(status, 200, "the job is known after the restart");
        matches!(answer["data"]["state"].as_str(), Some("done" | "failed"))
    })
    .await;
    let (_, answer) = bob.get(&format!("/v1/jobs/{job}")).await.unwrap();
    assert_eq!(answer["data"]["state"], "done", "{answer}");
    let (_, answer) = bob.get(&format!("/v1/rooms/{room}")).await.unwrap();
    assert_eq!((&answer["data"]["me"]["membership"], &answer["data"]["name"]), (&json!("join"), &json!("Far tents")));
    server.kill();
    far.stop().await;
}

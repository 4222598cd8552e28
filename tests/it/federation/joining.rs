//! Joins that take long, and joins that come to nothing: what the client sees meanwhile, and what is left after a restart.

use std::{net::TcpListener, sync::Arc};

use rules::{draft::Draft, kind::RoomKind, permission::Membership};
use ruma::OwnedRoomId;
use serde_json::json;
use yurt::{
    actions::{
        append::Writer,
        creation::{self, NewRoom},
        knocks, members,
    },
    storage::keyspaces::MEMBERS,
};

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
async fn while_another_server_lets_somebody_in_slowly_the_others_go_on_talking_in_the_room() {
    let net = Arc::new(Net::default());
    let (alice, bob) = (engine(&net, "a.example", "alice").await, engine(&net, "b.example", "bob").await);
    let carol = super::engines::caller(&bob.actions, "carol").await;
    let via = [alice.name.to_string()];
    let (club, room_id) = (public(&alice).await, public(&alice).await);
    members::join(&bob.actions, &carol, club.as_str(), &via, None).await.unwrap();
    members::join(&bob.actions, &bob.person, room_id.as_str(), &via, None).await.unwrap();
    net.pass_over(&alice, &room_id).await;
    // Only a member of Alice's server can vouch for who enters.
    let allow = json!([{ "type": "m.room_membership", "room_id": club }]);
    for (event_type, content) in [
        ("m.room.join_rules", json!({ "join_rule": "restricted", "allow": allow })),
        ("m.room.power_levels", json!({ "invite": 50 })),
    ] {
        let mut writer = Writer::enter(&alice.actions, &alice.actions.room(&room_id)).await.unwrap().unwrap();
        let draft = Draft::state(event_type, "", super::object(content));
        writer.stage(&alice.person.user_id, draft).await.unwrap();
        writer.commit().await.unwrap();
    }
    net.deliver(&alice, &room_id, &[&bob]).await;

    let kept_back = net.joins.write().await;
    let joins = tokio::spawn({
        let (actions, carol, room_id) = (bob.actions.clone(), carol.clone(), room_id.clone());
        async move { members::join(&actions, &carol, room_id.as_str(), &via, None).await.map(|room| room.membership) }
    });
    eventually("the other server has let her in", async || {
        alice.actions.room(&room_id).view().await.unwrap().unwrap().summary.joined == 3
    })
    .await;
    let said = alice.say(&room_id, "who is at the door?").await;
    net.deliver(&alice, &room_id, &[&bob]).await;
    assert!(bob.holds(&room_id, &said).await, "it waits for no answer to a join");
    drop(kept_back);
    assert_eq!(joins.await.unwrap().unwrap(), Membership::Join);
}

#[tokio::test]
async fn a_knock_that_another_server_has_taken_is_known_here_though_its_client_is_gone() {
    let net = Arc::new(Net::default());
    let (alice, bob) = (engine(&net, "a.example", "alice").await, engine(&net, "b.example", "bob").await);
    let room_id = public(&alice).await;
    let mut writer = Writer::enter(&alice.actions, &alice.actions.room(&room_id)).await.unwrap().unwrap();
    let rule = Draft::state("m.room.join_rules", "", super::object(json!({ "join_rule": "knock" })));
    writer.stage(&alice.person.user_id, rule).await.unwrap();
    writer.commit().await.unwrap();
    let client = bob.client().await;
    let kept_back = net.joins.write().await;
    let knocks = tokio::spawn({
        let (actions, bob, room_id) = (bob.actions.clone(), bob.person.clone(), room_id.clone());
        async move { knocks::knock(&actions, &bob, room_id.as_str(), &["a.example".to_owned()], None).await.map(drop) }
    });
    eventually("the other server has taken it", async || {
        let room = alice.actions.room(&room_id);
        let member = room.store.get(&MEMBERS, &room.home, &bob.person.user_id).await.unwrap();
        member.is_some_and(|member| member.membership == Membership::Knock)
    })
    .await;
    knocks.abort();
    knocks.await.unwrap_err();
    drop(kept_back);
    let room = encoded(room_id.as_str());
    eventually("he sees that he has knocked", async || {
        let shown = client.get(&format!("/v1/rooms/{room}")).await;
        shown.status == 200 && shown.data()["me"]["membership"] == "knock"
    })
    .await;
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

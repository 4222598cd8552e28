//! Servers that talk over the network of this machine.

use rules::draft::Draft;
use ruma::{CanonicalJsonObject, OwnedUserId, UserId};
use serde_json::json;
use yurt::actions::{
    Actions, Window,
    accounts::{self, NewAccount},
    peers::{self, KnownPeer},
};

use super::{
    Scene,
    party::{Party, agree},
    servers::{Authority, Server, eventually},
};

/// A new account there.
async fn account(actions: &Actions, name: &str) -> OwnedUserId {
    accounts::create(actions, NewAccount { username: name.to_owned(), ..NewAccount::default() }).await.unwrap();
    accounts::user_id(actions, name).unwrap()
}

/// What the administrators of a server see of another one.
async fn peer(actions: &Actions, name: &ruma::ServerName) -> Option<KnownPeer> {
    let root = UserId::parse(format!("@root:{}", actions.server_name)).unwrap();
    let admin = yurt::actions::Caller::local(&root, true);
    let page = peers::list(actions, &admin, None, Window::ALL).await.unwrap();
    page.entries.into_iter().find(|peer| peer.server == name)
}

/// Bob of the other server enters a room of this one, by an event that he hands in himself.
async fn enters(scene: &Scene, theirs: &Actions) {
    let bob = account(theirs, "bob").await;
    scene.learn_ours().await;
    scene.world.lock().signers.insert(theirs.server_name.clone(), theirs.signer.clone());
    let join = Draft::member(&bob, "join", CanonicalJsonObject::new());
    let join = scene.make(&bob, &scene.heads().await, join);
    assert_eq!(scene.receive_from(theirs.server_name.as_str(), &[&join]).await, [Ok(())], "their keys are not found");
}

/// The other server got a signed request, and this one has nothing more for it.
async fn is_told(ours: &Actions, theirs: &Actions) {
    eventually("everything is sent", async || {
        let is_seen = peer(ours, &theirs.server_name).await.is_some_and(|peer| peer.last_seen.is_some());
        is_seen && ours.outgoing.servers_behind().is_empty()
    })
    .await;
    eventually("the other server has heard of it", async || {
        peer(theirs, &ours.server_name).await.is_some_and(|peer| peer.last_seen.is_some())
    })
    .await;
}

/// S2S 2 HTTPS with a certificate for the right name. S2S 4 the cache.
#[tokio::test]
async fn two_servers_exchange_signed_requests() {
    let authority = Authority::new();
    let (mut ours, mut theirs) = (Server::new(&authority).await, Server::new(&authority).await);
    {
        let (a, b) = (ours.actions().await, theirs.actions().await);
        let scene = Scene::on(a.clone(), "12").await;
        enters(&scene, &b).await;
        scene.send("hello").await;
        is_told(&a, &b).await;
    }
    ours.stop().await;
    theirs.stop().await;
}

/// S2S 16 what is owed is kept.
#[tokio::test]
async fn a_server_that_was_away_gets_what_it_missed() {
    let authority = Authority::new();
    let (mut ours, mut theirs) = (Server::new(&authority).await, Server::new(&authority).await);
    {
        let scene = Scene::on(ours.actions().await, "12").await;
        enters(&scene, &theirs.actions().await).await;
        theirs.stop().await;
        scene.send("is anybody there?").await;
        eventually("it is left alone", async || {
            let peer = peer(&scene.actions, theirs.name()).await;
            peer.is_some_and(|peer| peer.failures > 0 && peer.last_error.is_some() && peer.rows_behind > 0)
        })
        .await;
    }
    ours.stop().await;
    theirs.start().await;
    ours.start().await;
    let (a, b) = (ours.actions().await, theirs.actions().await);
    let admin = yurt::actions::Caller::local(&UserId::parse(format!("@root:{}", ours.name())).unwrap(), true);
    peers::reset(&a, &admin, theirs.name().as_str()).await.unwrap();
    is_told(&a, &b).await;
    assert_eq!(peer(&a, theirs.name()).await.unwrap().failures, 0);
}

#[tokio::test]
async fn a_server_that_is_far_behind_gets_the_newest_event_of_each_room_and_catches_up() {
    let authority = Authority::new();
    let mut config = Server::config_of(&authority);
    config.federation.behind_rows_max = 10;
    let alice = Party::new(Server::with(config).await, "alice").await;
    let bob = Party::new(Server::new(&authority).await, "bob").await;
    let rooms = [alice.room("12").await, alice.room("12").await];
    for room_id in &rooms {
        bob.joins(room_id, &alice).await;
        agree(&alice, &bob, room_id).await;
    }
    let Party { mut server, actions, person, name } = bob;
    drop(actions);
    server.stop().await;
    for number in 0..60 {
        alice.says(&rooms[number % 2], &number.to_string()).await;
    }
    eventually("it is left alone", async || peer(&alice.actions, &name).await.is_some_and(|peer| peer.failures > 0))
        .await;
    server.start().await;
    let bob = Party { actions: server.actions().await, server, person, name };
    peers::reset(&alice.actions, &alice.admin(), bob.name.as_str()).await.unwrap();
    for room_id in &rooms {
        agree(&alice, &bob, room_id).await;
    }
}

#[tokio::test]
async fn tenants_of_one_process_need_no_network() {
    let port = super::servers::free_port();
    let mut config = Server::config(&[&format!("a.localhost:{port}"), "b.localhost:1"]);
    config.federation.allow_addresses.clear();
    let mut server = Server::with(config).await;
    {
        let (a, b) = (server.actions_of("t0").await, server.actions_of("t1").await);
        let scene = Scene::on(a.clone(), "12").await;
        enters(&scene, &b).await;
        scene.send("hello").await;
        is_told(&a, &b).await;
    }
    server.stop().await;
}

/// S2S 3 version. S2S 4 our keys are published. S2S 5 what needs no signature.
#[tokio::test]
async fn anybody_may_ask_for_keys_and_version() {
    let mut server = Server::with(Server::config(&[&format!("localhost:{}", super::servers::free_port())])).await;
    let authority = server.own_authority();
    let (status, keys) = server.get(&authority, "/_matrix/key/v2/server").await;
    assert_eq!((status, &keys["server_name"]), (200, &json!(server.name().as_str())));
    let (status, version) = server.get(&authority, "/_matrix/federation/v1/version").await;
    assert_eq!((status, &version["server"]["name"]), (200, &json!("Yurt")));
    let (status, unknown) = server.get(&authority, "/_matrix/federation/v1/unknown").await;
    assert_eq!((status, &unknown["errcode"]), (404, &json!("M_UNRECOGNIZED")));
    let url = format!("https://{}/_matrix/key/v2/server", server.name());
    let asked = super::servers::trusting(&authority).get(url).header("Host", "other.example").send().await.unwrap();
    let (status, unknown) = super::servers::read(asked).await;
    assert_eq!((status, &unknown["errcode"]), (404, &json!("M_UNRECOGNIZED")));
    // The authority stays, so that who trusts it goes on doing so.
    let before = std::fs::read(&authority).unwrap();
    server.stop().await;
    server.start().await;
    assert_eq!(std::fs::read(&authority).unwrap(), before);
    assert_eq!(server.get(&authority, "/_matrix/key/v2/server").await.0, 200);
}

#[tokio::test]
async fn without_a_certificate_for_its_name_a_server_serves_its_own_people() {
    let mut config = Server::config(&["example.org:8448"]);
    config.listen.federation.set_port(0);
    let mut server = Server::with(config).await;
    let api = format!("{}/healthz", server.running().api_url());
    assert_eq!(reqwest::get(api).await.unwrap().status().as_u16(), 200);
    server.stop().await;
}

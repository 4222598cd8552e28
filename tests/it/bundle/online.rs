//! `yurt bundle verify --online`: other servers are asked about what only the bundle says, without a server of ours.

use std::{fs, sync::Arc};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{bundle_of, forged::Forged};
use crate::{
    bundle::cli::parsed,
    client::encoded,
    federation::{
        servers::{Authority, Server, eventually, together},
        stranger::Stranger,
    },
    process::{Done, Home},
};

/// A folder whose configuration trusts this authority.
fn home(authority: &Authority, server_name: &str) -> Arc<Home> {
    let home = Home::new("");
    let (ca, allow) = (authority.file(), json!(["127.0.0.0/8"]));
    home.write_config(&format!(
        "federation.ca_files = [{ca:?}]\nfederation.allow_addresses = {allow}\n[[tenant]]\nserver_name = \"{server_name}\"\n"
    ));
    Arc::new(home)
}

/// The same, with the name of a server and its key.
fn home_of(authority: &Authority, server: &Server) -> Arc<Home> {
    let home = home(authority, server.name().as_str());
    let tenant = home.path().join("data/tenants/main");
    fs::create_dir_all(&tenant).unwrap();
    fs::copy(server.folder().join("data/tenants/t0/signing.key"), tenant.join("signing.key")).unwrap();
    home
}

async fn verified(home: &Arc<Home>, bundle: &Bytes, more: &[&'static str]) -> (Done, Value) {
    fs::write(home.path().join("room.zip"), bundle).unwrap();
    let (home, mut arguments) = (Arc::clone(home), vec!["bundle", "verify", "room.zip", "--json"]);
    arguments.extend(more);
    let done = tokio::task::spawn_blocking(move || home.run(&arguments)).await.unwrap();
    let told = parsed(&done.stdout);
    (done, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_asked_of_their_servers_and_what_they_do_not_confirm_is_named() {
    let (authority, ours, mut theirs, alice, _bob, room) = together().await;
    let bundle = bundle_of(&alice, &room).await;
    let home = home(&authority, "localhost");
    let (done, told) = verified(&home, &bundle, &["--online", "--strict"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    let confirmed = told["confirmed_keys"].as_object().unwrap();
    let mut names = vec![ours.name().as_str(), theirs.name().as_str()];
    names.sort_unstable();
    assert_eq!(confirmed.keys().collect::<Vec<_>>(), names);
    assert_eq!(told["vouched_by_bundle"], json!({}));
    let (done, told) = verified(&home, &bundle, &["--strict"]).await;
    assert_eq!((done.code, told["vouched_by_bundle"].as_object().unwrap().len()), (1, 2), "nobody is asked");

    // A key that its server has never had, under the id of one that it has.
    let mut forged = Forged::of(&bundle);
    let of_theirs = forged.manifest["verify_keys"][theirs.name().as_str()].as_object_mut().unwrap();
    of_theirs.values_mut().for_each(|key| key["key"] = json!("3kgpVXlzQnRk5Gm1m3pUEMOEVIvFzEoC6xuRL2ZKJqE"));
    let (done, told) = verified(&home, &forged.sealed().file(), &["--online"]).await;
    assert_eq!((done.code, &told["holds"], &told["entry"]), (1, &json!(false), &json!("manifest.json")), "{done:?}");
    assert!(told["problem"].as_str().unwrap().contains(theirs.name().as_str()), "{told}");

    theirs.stop().await;
    let (done, told) = verified(&home, &bundle, &["--online"]).await;
    assert_eq!((done.code, &told["holds"]), (0, &json!(true)), "{done:?}");
    let vouched: Vec<&String> = told["vouched_by_bundle"].as_object().unwrap().keys().collect();
    assert_eq!(vouched, [theirs.name().as_str()]);
    assert_eq!(verified(&home, &bundle, &["--online", "--strict"]).await.0.code, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_before_a_hole_is_compared_with_what_a_server_in_the_room_says() {
    let (authority, _ours, theirs, alice, bob, room) = together().await;
    for number in 0..10 {
        alice.says(&room, &format!("early {number}")).await;
    }
    let third = Server::new(&authority).await;
    let carol = third.account("carol").await;
    let join = json!({ "via": [theirs.name()] });
    eventually("theirs has heard it all", async || bob.hears(&room).await.contains(&"early 9".to_owned())).await;
    carol.post(&format!("/v1/rooms/{}/join", encoded(&room)), join).await.ok();
    carol.says(&room, "late").await;
    let bundle = bundle_of(&carol, &room).await;
    let home = home_of(&authority, &theirs);
    let (done, told) = verified(&home, &bundle, &["--online", "--strict"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    let claimed = told["claimed_states"].as_u64().unwrap();
    assert!(claimed > 0, "{told}");
    assert_eq!(told["compared_states"], json!({ "same": claimed, "other": [], "not_told": 0 }));
    let (_, offline) = verified(&home, &bundle, &[]).await;
    assert_eq!(offline["compared_states"], json!({ "same": 0, "other": [], "not_told": 0 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_does_not_hold_where_a_server_in_the_room_says_another_state_before_a_hole() {
    let authority = Authority::new();
    let (mut ours, third) = (Server::new(&authority).await, Server::new(&authority).await);
    let (alice, carol) = (ours.account("alice").await, third.account("carol").await);
    let room = alice.public("Tents").await;
    let stranger = Stranger::new(&authority).await;
    let mallory = stranger.user("mallory");
    let (_, (status, told)) = stranger.enters(&ours, "join", &room, (&mallory, "")).await;
    assert_eq!(status, 200, "{told}");
    for number in 0..10 {
        alice.says(&room, &format!("early {number}")).await;
    }
    carol.post(&format!("/v1/rooms/{}/join", encoded(&room)), json!({ "via": [ours.name()] })).await.ok();
    carol.says(&room, "late").await;
    let bundle = bundle_of(&carol, &room).await;
    let home = home_of(&authority, &third);
    // The stranger is the only one left to be asked, and says nothing at first.
    ours.stop().await;
    let (done, told) = verified(&home, &bundle, &["--online"]).await;
    assert_eq!((done.code, &told["holds"]), (0, &json!(true)), "{done:?}");
    let claimed = told["claimed_states"].as_u64().unwrap();
    assert!(claimed > 0, "{told}");
    assert_eq!(told["compared_states"], json!({ "same": 0, "other": [], "not_told": claimed }));

    stranger.answers(|seen| {
        let is_asked = seen.target.contains("/state_ids/");
        is_asked.then(|| (200, json!({ "auth_chain_ids": [], "pdu_ids": ["$another"] })))
    });
    let (done, told) = verified(&home, &bundle, &["--online"]).await;
    assert_eq!((done.code, &told["holds"]), (1, &json!(false)), "{done:?}");
    let compared = &told["compared_states"];
    assert_eq!((&compared["same"], &compared["not_told"]), (&json!(0), &json!(0)), "{told}");
    let other = compared["other"].as_array().unwrap();
    assert_eq!(u64::try_from(other.len()).unwrap(), claimed);
    assert!(done.stderr.contains("states.ndjson") && done.stderr.contains(other[0].as_str().unwrap()), "{done:?}");
    assert_eq!(verified(&home, &bundle, &[]).await.0.code, 0, "without asking it is the exporter's claim");
}

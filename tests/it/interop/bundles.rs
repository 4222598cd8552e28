//! Bundles of rooms in which the Synapse takes part: proven by what it says itself, and taken in by a server that nobody in the room is of.

use std::{fs, sync::Arc};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Home, Scene, Scenes, eventually, links::reach_each_other, synapse::Synapse, unique, user::User};
use crate::{
    bundle::{bundle_of, import::upload},
    client::{Caller, text},
    federation::servers::{Server, free_port},
    process::{Done, Home as Folder},
};

/// Somebody of ours, who is asked through `/v1`.
pub(super) fn caller(user: &User) -> &Caller {
    match user {
        User::Ours(caller) => caller,
        User::Theirs(_) => panic!("somebody of ours is asked for"),
    }
}

/// A folder in which the command line trusts whom our server trusts, and asks in its name.
async fn folder(scenes: &Scenes) -> Arc<Folder> {
    let folder = Folder::new("");
    let name = scenes.runs[0].1.ours().server();
    folder.write_config(&format!(
        "federation.ca_files = [{:?}]\nfederation.allow_addresses = [\"127.0.0.0/8\"]\n[[tenant]]\nserver_name = \"{name}\"\n",
        scenes.synapse.authority
    ));
    let tenant = folder.path().join("data/tenants/main");
    fs::create_dir_all(&tenant).unwrap();
    fs::copy(scenes.partner.key_file().await, tenant.join("signing.key")).unwrap();
    Arc::new(folder)
}

async fn verified(folder: &Arc<Folder>, bundle: &Bytes, more: &[&'static str]) -> (Done, Value) {
    let (folder, file, more) = (Arc::clone(folder), format!("{}.zip", unique("room")), more.to_vec());
    fs::write(folder.path().join(&file), bundle).unwrap();
    let run = move || folder.run(&[&["bundle", "verify", &file, "--json"], &more[..]].concat());
    let done = tokio::task::spawn_blocking(run).await.unwrap();
    let told = serde_json::from_str(done.stdout.trim()).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    (done, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_of_a_room_with_a_synapse_is_proven_by_what_the_synapse_says() {
    let Some(scenes) = Scenes::alone().await else { return };
    let folder = folder(&scenes).await;
    let bundles = scenes
        .each(async |scene: &Scene| {
            let room = scene.open_room().await;
            for number in 0..5 {
                scene.host.says(&room, &format!("early {number}")).await;
            }
            scene.guest.joins(&room, scene.host.server()).await;
            eventually("ours is in the room", async || scene.ours().is_in(&room).await).await;
            let bundle = bundle_of(caller(scene.ours()), &room).await;
            let (done, told) = verified(&folder, &bundle, &["--online", "--strict"]).await;
            assert_eq!(
                (done.code, &told["holds"], &told["vouched_by_bundle"]),
                (0, &json!(true), &json!({})),
                "{done:?}"
            );
            let confirmed = told["confirmed_keys"].as_object().unwrap();
            let mut names = vec![scene.ours().server(), scene.theirs().server()];
            names.sort_unstable();
            assert_eq!(confirmed.keys().collect::<Vec<_>>(), names);
            // Who came late has a hole, and says of the state before it what the Synapse says.
            let claimed = told["claimed_states"].as_u64().unwrap();
            assert_eq!(claimed > 0, scene.host.home() == Home::Theirs, "{told}");
            assert_eq!(told["compared_states"], json!({ "same": claimed, "other": [], "not_told": 0 }));
            (bundle, claimed)
        })
        .await;
    scenes.synapse.relay.cut();
    scenes
        .each_in(&bundles, async |scene: &Scene, (bundle, claimed): &(Bytes, u64)| {
            let (done, told) = verified(&folder, bundle, &["--online"]).await;
            assert_eq!((done.code, &told["holds"]), (0, &json!(true)), "{done:?}");
            let vouched: Vec<&String> = told["vouched_by_bundle"].as_object().unwrap().keys().collect();
            assert_eq!(vouched, [scene.theirs().server()]);
            assert_eq!(told["compared_states"], json!({ "same": 0, "other": [], "not_told": claimed }));
            let (done, told) = verified(&folder, bundle, &["--online", "--strict"]).await;
            assert_eq!((done.code, &told["holds"]), (1, &json!(false)), "{done:?}");
        })
        .await;
    scenes.synapse.relay.mend();
    scenes.end().await;
}

/// A server of ours that nobody in the rooms is of.
async fn third(synapse: &Synapse) -> Server {
    let mut config = Server::config(&[&format!("localhost:{}", free_port())]);
    (config.federation.tls_certificate, config.federation.tls_key) = synapse.certificate.clone();
    config.federation.ca_files = vec![synapse.authority.clone()];
    Server::with(config).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_with_a_synapse_in_it_goes_on_in_a_successor_whose_timeline_has_no_seam() {
    let Some(scenes) = Scenes::new().await else { return };
    let third = third(scenes.synapse).await;
    scenes
        .each(async |scene: &Scene| {
            let room = scene.shared_room().await;
            reach_each_other(scene, &room).await;
            let somebody = scene.another_guest().await;
            scene.host.does("ban", &room, &somebody).await;
            scene.host.sets(&room, "m.room.topic", "", json!({ "topic": "Felt" })).await;
            scene.guest.finds(&room, "m.room.topic", "", "topic", json!("Felt")).await;
            scene.has_the_same_state(&room).await;
            let ours = caller(scene.ours());
            let (said, bundle) = (ours.hears(&room).await, bundle_of(ours, &room).await);

            let (bob, carol) = (third.account(&unique("bob")).await, third.account(&unique("carol")).await);
            let people = json!({ "participants": { scene.theirs().id(): carol.id } });
            let taken = upload(&bob, &bundle, people).await.created();
            assert_eq!((&taken["outcome"], &taken["events"]["rejected"]), (&json!("succeeded"), &json!([])));
            assert_eq!(taken["participants"], json!({ "mapped": 1, "former": 1, "locked": 0 }));
            let successor = text(&taken["id"]);
            assert_eq!(bob.sees(&successor).await["topic"], "Felt");
            assert_eq!(bob.members(&successor, "ban").await, [somebody.id()]);
            carol.joins(&successor).await.ok();
            let level = if scene.host.home() == Home::Theirs { 100 } else { 0 };
            assert_eq!(carol.sees(&successor).await["me"]["power_level"], level);
            carol.says(&successor, "it goes on").await;
            let whole = [said, vec!["it goes on".to_owned()]].concat();
            assert!(whole.len() > 2, "there is a past: {whole:?}");
            for reader in [&bob, &carol] {
                assert_eq!(reader.hears(&successor).await, whole);
            }
            // In the room itself nobody notices anything.
            reach_each_other(scene, &room).await;
            scene.ends_in_agreement(&room).await;
            assert_eq!(bob.hears(&successor).await, whole);
        })
        .await;
    scenes.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_fills_the_hole_of_a_server_that_came_late_to_a_room_with_a_synapse_in_it() {
    let Some(scenes) = Scenes::new().await else { return };
    let third = third(scenes.synapse).await;
    scenes
        .each(async |scene: &Scene| {
            let room = scene.open_room().await;
            let carol = User::Ours(third.account(&unique("carol")).await);
            // One of us is there from the beginning, the other one comes late.
            let (first, early, late) = match scene.host.home() {
                Home::Ours => (scene.theirs(), scene.ours().clone(), carol),
                Home::Theirs => (&carol, carol.clone(), scene.ours().clone()),
            };
            first.joins(&room, scene.host.server()).await;
            for number in 0..5 {
                let event_id = early.says(&room, &format!("early {number}")).await;
                scene.theirs().sees(&room, &event_id).await;
                let event_id = scene.theirs().says(&room, &format!("and early {number}")).await;
                early.sees(&room, &event_id).await;
            }
            late.joins(&room, scene.host.server()).await;
            eventually("the late one is in the room", async || late.is_in(&room).await).await;
            let seen = early.says(&room, "you are late").await;
            late.sees(&room, &seen).await;

            let (said, bundle) = (early.hears(&room).await, bundle_of(caller(&early), &room).await);
            assert_eq!(said.len(), 11, "{said:?}");
            let late = caller(&late);
            let merged = upload(late, &bundle, json!({})).await.data();
            assert_eq!((&merged["outcome"], &merged["events"]["rejected"]), (&json!("merged"), &json!([])), "{merged}");
            let stored = merged["events"]["stored"].as_u64().unwrap();
            assert!(stored >= 10, "{merged}");
            assert_eq!(late.hears(&room).await, said);
            let twice = upload(late, &bundle, json!({})).await.ok();
            assert_eq!((&twice["outcome"], &twice["events"]["stored"]), (&json!("merged"), &json!(0)), "{twice}");
            // The room goes on for everybody, and nobody was sent anything twice.
            let answer = late.says(&room, "not any more").await;
            let whole = [said, vec!["not any more".to_owned()]].concat();
            for other in [&early, scene.theirs()] {
                other.sees(&room, &answer).await;
                assert_eq!(other.hears(&room).await, whole);
            }
            scene.ends_in_agreement(&room).await;
        })
        .await;
    scenes.end().await;
}

//! A server of ours moves to another machine under its name and with its key. Its rooms follow as bundles, and the Synapse in them notices nothing.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::{Scene, Scenes, bundles::caller, links::reach_each_other, user::User};
use crate::{
    bundle::{bundle_of, import::upload},
    client::Caller,
};

/// The same scene, with somebody of ours who has logged in again.
fn with(scene: &Scene, ours: &Caller) -> Scene {
    let again = |user: &User| if user.id() == ours.id { User::Ours(ours.clone()) } else { user.clone() };
    let (host, guest) = (again(&scene.host), again(&scene.guest));
    Scene { version: scene.version, synapse: scene.synapse, partner: Arc::clone(&scene.partner), host, guest }
}

#[tokio::test]
async fn a_server_that_moved_restores_its_rooms_and_a_synapse_in_them_notices_nothing() {
    let Some(scenes) = Scenes::alone().await else { return };
    let left = scenes
        .each(async |scene: &Scene| {
            let room = scene.shared_room().await;
            reach_each_other(scene, &room).await;
            scene.has_the_same_state(&room).await;
            let bundle = bundle_of(caller(scene.ours()), &room).await;
            (room, bundle)
        })
        .await;
    scenes.partner.moves().await;
    let admin = scenes.partner.admin("root").await;
    scenes
        .each_in(&left, async |scene: &Scene, (room, bundle): &(String, Bytes)| {
            let name = scene.ours().id().trim_start_matches('@').split(':').next().unwrap();
            let scene = with(scene, &scenes.partner.account(name).await);
            let restored = upload(&admin, bundle, json!({})).await.created();
            assert_eq!(restored["outcome"], "restored");
            assert_eq!(restored["events"]["rejected"], json!([]));
            reach_each_other(&scene, room).await;
            scene.host.sets(room, "m.room.topic", "", json!({ "topic": "moved" })).await;
            scene.guest.finds(room, "m.room.topic", "", "topic", json!("moved")).await;
            scene.ends_in_agreement(room).await;
        })
        .await;
    scenes.end().await;
}

//! Messages between two people.

use serde_json::json;

use super::{Home, Scene, everywhere, joining::talk};

#[tokio::test]
async fn a_direct_message_reaches_the_other_server_and_is_found_again() {
    everywhere(async |scene: &Scene| {
        if scene.host.home() == Home::Ours && scene.version != "12" {
            // Ours makes them in one version only.
            return;
        }
        let room = scene.host.opens_direct(&scene.guest, scene.version).await;
        scene.guest.is_invited(&room).await;
        assert!(scene.guest.is_invited_directly(&room).await);
        scene.guest.joins(&room, scene.host.server()).await;
        scene.host.finds(&room, "m.room.member", scene.guest.id(), "membership", json!("join")).await;
        talk(scene, &room, &[]).await;
        assert_eq!(scene.ours().opens_direct(scene.theirs(), scene.version).await, room);
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

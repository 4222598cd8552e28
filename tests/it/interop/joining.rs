//! Coming into a room, by invite and by alias, and talking there.

use super::{Scene, everywhere};

/// Each says so many things, in turn, and hears the other.
async fn talk(scene: &Scene, room: &str) {
    let mut said = Vec::new();
    for round in 0..3 {
        for (speaker, listener) in [(&scene.host, &scene.guest), (&scene.guest, &scene.host)] {
            let body = format!("{round} of {}", speaker.id());
            let event_id = speaker.says(room, &body).await;
            listener.sees(room, &event_id).await;
            said.push(body);
        }
    }
    for user in [&scene.host, &scene.guest] {
        assert_eq!(user.hears(room).await, said, "as {} hears it", user.id());
    }
}

#[tokio::test]
async fn who_is_invited_joins_and_both_talk() {
    everywhere(async |scene: Scene| {
        let room = scene.shared_room().await;
        talk(&scene, &room).await;
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

#[tokio::test]
async fn an_open_room_is_joined_by_its_alias_and_both_talk() {
    everywhere(async |scene: Scene| {
        let room = scene.open_room().await;
        let alias = scene.host.alias(&room).await;
        assert_eq!(scene.guest.joins(&alias, scene.host.server()).await, room);
        talk(&scene, &room).await;
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

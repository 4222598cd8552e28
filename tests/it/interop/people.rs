//! What people show of themselves: names, pictures, files, that they type, and how far they have read.

use serde_json::json;

use super::{Scene, everywhere, user::User};
use crate::client::{Way, encoded, png};

#[tokio::test]
async fn names_and_pictures_of_people_are_seen_on_the_other_server() {
    everywhere(async |scene: &Scene| {
        let room = scene.shared_room().await;
        for (changer, other) in [(&scene.host, &scene.guest), (&scene.guest, &scene.host)] {
            let picture = changer.uploads(&png(16, 16)).await;
            let name = format!("Somebody like {}", changer.id());
            changer.shows_as(&name, &picture).await;
            other.finds(&room, "m.room.member", changer.id(), "displayname", json!(name)).await;
            other.finds(&room, "m.room.member", changer.id(), "avatar_url", json!(picture)).await;
        }
        let User::Theirs(person) = scene.theirs() else { panic!("they are of the Synapse") };
        let profile = person.get(&format!("profile/{}", encoded(scene.ours().id()))).await.unwrap();
        assert_eq!(profile["displayname"], format!("Somebody like {}", scene.ours().id()));
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

#[tokio::test]
async fn files_are_read_on_the_other_server() {
    everywhere(async |scene: &Scene| {
        let room = scene.shared_room().await;
        for (sender, reader) in [(&scene.host, &scene.guest), (&scene.guest, &scene.host)] {
            let file = png(24, 16);
            let address = sender.uploads(&file).await;
            let content = json!({ "msgtype": "m.image", "body": "tent.png", "url": address });
            let event_id = sender.sends(&room, "m.room.message", content).await;
            reader.sees(&room, &event_id).await;
            assert_eq!(reader.downloads(&address).await.unwrap(), file);
        }
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

#[tokio::test]
async fn who_types_and_how_far_they_have_read_is_told_to_the_other_server() {
    everywhere(async |scene: &Scene| {
        let room = scene.shared_room().await;
        let (User::Ours(alice), User::Theirs(rita)) = (scene.ours(), scene.theirs()) else { panic!("one of each") };
        let last = scene.theirs().says(&room, "read this").await;
        scene.ours().sees(&room, &last).await;
        let mut ear = alice.listens(Way::Events).await;
        for typists in [json!([rita.id]), json!([])] {
            rita.types(&room, typists != json!([])).await;
            ear.until(|frame| frame["type"] == "typing" && frame["participants"] == typists).await;
        }
        let path = format!("/v1/rooms/{}", encoded(&room));
        for is_typing in [true, false] {
            alice.put(&format!("{path}/typing"), json!({ "typing": is_typing })).await.ok();
            rita.syncs_until("the typing", |synced| {
                ephemeral(synced, &room, "m.typing").is_some_and(|content| {
                    content["user_ids"].as_array().unwrap().contains(&json!(alice.id)) == is_typing
                })
            })
            .await;
        }
        alice.put(&format!("{path}/read"), json!({ "event_id": last })).await.ok();
        rita.syncs_until("the receipt", |synced| {
            ephemeral(synced, &room, "m.receipt").is_some_and(|content| !content[&last]["m.read"][&alice.id].is_null())
        })
        .await;
        // Nobody here is shown how far others have read, and it disturbs nothing.
        let last = scene.ours().says(&room, "and you this").await;
        scene.theirs().sees(&room, &last).await;
        rita.has_read(&room, &last).await;
        rita.types(&room, true).await;
        ear.until(|frame| frame["type"] == "typing" && frame["participants"] == json!([rita.id])).await;
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

/// The content of the newest ephemeral event of a room in an answer to `/sync`.
fn ephemeral<'a>(synced: &'a serde_json::Value, room: &str, event_type: &str) -> Option<&'a serde_json::Value> {
    let events = synced["rooms"]["join"][room]["ephemeral"]["events"].as_array()?;
    events.iter().rev().find(|event| event["type"] == event_type).map(|event| &event["content"])
}

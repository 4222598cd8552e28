//! What was said before somebody came, and whether it arrives as it was said.

use serde_json::json;

use super::{
    Scene, agreed, everywhere,
    joining::{same, talk},
    user::Access,
};

#[tokio::test]
async fn who_joins_reads_what_was_said_before() {
    everywhere(async |scene: &Scene| {
        let room = scene.host.makes_room(scene.version, Access::Invited, "Tents").await;
        let mut said: Vec<String> = (0..30).map(|number| format!("old {number}")).collect();
        for body in &said {
            scene.host.says(&room, body).await;
        }
        scene.host.does("invite", &room, &scene.guest).await;
        scene.guest.is_invited(&room).await;
        scene.guest.joins(&room, scene.host.server()).await;
        let first = scene.guest.says(&room, "what have I missed?").await;
        said.push("what have I missed?".to_owned());
        scene.host.sees(&room, &first).await;
        for user in [&scene.guest, &scene.host] {
            agreed("everything is read", async || same(&user.hears(&room).await, &said)).await;
        }
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

#[tokio::test]
async fn where_only_members_may_read_nobody_reads_what_was_said_before() {
    everywhere(async |scene: &Scene| {
        let room = scene.host.makes_room(scene.version, Access::Invited, "Tents").await;
        let narrow = json!({ "history_visibility": "joined" });
        scene.host.sets(&room, "m.room.history_visibility", "", narrow).await;
        for number in 0..5 {
            scene.host.says(&room, &format!("secret {number}")).await;
        }
        scene.host.does("invite", &room, &scene.guest).await;
        scene.guest.is_invited(&room).await;
        scene.guest.joins(&room, scene.host.server()).await;
        let said = scene.guest.says(&room, "hello").await;
        scene.host.sees(&room, &said).await;
        let said = scene.host.says(&room, "welcome").await;
        scene.guest.sees(&room, &said).await;
        assert_eq!(scene.guest.hears(&room).await, ["hello", "welcome"]);
        scene.has_the_same_state(&room).await;
    })
    .await;
}

#[tokio::test]
async fn whatever_may_stand_in_an_event_arrives_as_it_was_sent() {
    everywhere(async |scene: &Scene| {
        let room = scene.shared_room().await;
        let contents = [
            json!({ "text": "\u{0}\u{1f}\u{7f}\"\\/\u{2028}\u{fffd} \u{20ac} \u{1f3d5}", "": { "": [] }, "\u{e9}": null }),
            json!({ "numbers": [0, -1, 9_007_199_254_740_991_i64, -9_007_199_254_740_991_i64], "truths": [true, false, null] }),
            json!({ "deep": [[[[[[[[[[{ "a": { "b": { "c": {} } } }]]]]]]]]]] }),
            json!({ "\u{1f600}": 1, "\u{fb33}": 2, "\u{80}": 3, "b": 4, "a": 5, "1": 6, "\r": 7 }),
            json!({ "long": "\u{1f3d5}".repeat(15_000) }),
        ];
        for (sender, reader) in [(&scene.host, &scene.guest), (&scene.guest, &scene.host)] {
            for content in &contents {
                let event_id = sender.sends(&room, "org.example.anything", content.clone()).await;
                reader.sees(&room, &event_id).await;
                assert_eq!(&reader.event(&room, &event_id).await.unwrap()["content"], content);
            }
        }
        talk(scene, &room, &[]).await;
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

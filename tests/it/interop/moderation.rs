//! Changing a room from both sides: its state, its levels, who may be in it, and what was said.

use serde_json::json;

use super::{Scene, everywhere, user::User};
use crate::client::encoded;

#[tokio::test]
async fn both_change_the_state_of_a_room() {
    everywhere(async |scene: &Scene| {
        let room = scene.shared_room().await;
        scene.host.gives_level(&room, &scene.guest, 50).await;
        for (changer, other) in [(&scene.host, &scene.guest), (&scene.guest, &scene.host)] {
            let changes = [
                ("m.room.name", "", "name"),
                ("m.room.topic", "", "topic"),
                ("org.example.tent", "", "colour"),
                ("org.example.tent", "left", "colour"),
            ];
            for (event_type, key, field) in changes {
                let value = json!(format!("of {}", changer.id()));
                changer.sets(&room, event_type, key, json!({ field: value })).await;
                other.finds(&room, event_type, key, field, value).await;
            }
        }
        scene.host.sets(&room, "m.room.join_rules", "", json!({ "join_rule": "public" })).await;
        scene.guest.finds(&room, "m.room.join_rules", "", "join_rule", json!("public")).await;
        scene.another_guest().await.joins(&room, scene.host.server()).await;
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

#[tokio::test]
async fn levels_are_given_used_and_taken() {
    everywhere(async |scene: &Scene| {
        let room = scene.shared_room().await;
        let topic = |text: &str| json!({ "topic": text });
        let refused = scene.guest.tries_to_set(&room, "m.room.topic", "", topic("too early")).await;
        assert_eq!(refused.unwrap_err().0, 403);
        scene.host.gives_level(&room, &scene.guest, 100).await;
        scene.guest.sets_levels(&room, json!({ "ban": 75, "invite": 25, "events_default": 5 })).await;
        scene.host.finds(&room, "m.room.power_levels", "", "ban", json!(75)).await;
        scene.guest.sets(&room, "m.room.topic", "", topic("allowed")).await;
        scene.host.finds(&room, "m.room.topic", "", "topic", json!("allowed")).await;
        // Nobody takes a level from who has as much, but everybody from themselves.
        scene.guest.gives_level(&room, &scene.guest, 10).await;
        let guest = scene.guest.id();
        let is_lower = async || {
            let levels = scene.host.content(&room, "m.room.power_levels", "").await;
            levels.is_some_and(|levels| levels["users"][guest] == json!(10))
        };
        super::eventually("the host knows the new level", is_lower).await;
        let refused = scene.guest.tries_to_set(&room, "m.room.topic", "", topic("too late")).await;
        assert_eq!(refused.unwrap_err().0, 403);
        let heard = scene.guest.says(&room, "ten is enough to speak").await;
        scene.host.sees(&room, &heard).await;
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

#[tokio::test]
async fn people_are_removed_banned_and_let_in_again() {
    everywhere(async |scene: &Scene| {
        let room = scene.open_room().await;
        let (host, guest) = (&scene.host, &scene.guest);
        guest.joins(&room, host.server()).await;
        host.does("kick", &room, guest).await;
        guest.is_out_of(&room).await;
        guest.joins(&room, host.server()).await;
        host.does("ban", &room, guest).await;
        guest.is_out_of(&room).await;
        assert!(guest.tries_to_join(&room, host.server()).await.is_err(), "who is banned stays out");
        host.does("unban", &room, guest).await;
        super::eventually("who is banned no more comes in", async || {
            guest.tries_to_join(&room, host.server()).await.is_ok()
        })
        .await;
        // And the other way: the guest moderates somebody of the host's server.
        let other = scene.another_host().await;
        other.joins(&room, host.server()).await;
        host.gives_level(&room, guest, 50).await;
        guest.finds(&room, "m.room.member", other.id(), "membership", json!("join")).await;
        guest.does("kick", &room, &other).await;
        other.is_out_of(&room).await;
        other.joins(&room, host.server()).await;
        guest.finds(&room, "m.room.member", other.id(), "membership", json!("join")).await;
        guest.does("ban", &room, &other).await;
        other.is_out_of(&room).await;
        assert!(other.tries_to_join(&room, host.server()).await.is_err(), "who is banned stays out");
        guest.does("unban", &room, &other).await;
        host.finds(&room, "m.room.member", other.id(), "membership", json!("leave")).await;
        other.joins(&room, host.server()).await;
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

#[tokio::test]
async fn messages_are_redacted_by_who_sent_them_and_by_moderators() {
    everywhere(async |scene: &Scene| {
        let room = scene.shared_room().await;
        let (host, guest) = (&scene.host, &scene.guest);
        host.gives_level(&room, guest, 50).await;
        for (speaker, other) in [(host, guest), (guest, host)] {
            for redactor in [speaker, other] {
                let event_id = speaker.says(&room, "regretted").await;
                other.sees(&room, &event_id).await;
                redactor.redacts(&room, &event_id).await;
                speaker.sees_redacted(&room, &event_id).await;
                other.sees_redacted(&room, &event_id).await;
            }
        }
        host.sets(&room, "m.room.topic", "", json!({ "topic": "regretted" })).await;
        guest.finds(&room, "m.room.topic", "", "topic", json!("regretted")).await;
        let state = guest.state(&room).await.unwrap();
        let topic = &state[&("m.room.topic".to_owned(), String::new())];
        guest.redacts(&room, topic).await;
        for user in [host, guest] {
            user.sees_redacted(&room, topic).await;
            assert_eq!(user.content(&room, "m.room.topic", "").await, Some(json!({})));
        }
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

#[tokio::test]
async fn an_archived_room_is_quiet_on_the_other_server_until_it_is_restored() {
    everywhere(async |scene: &Scene| {
        // Synapse knows no archive.
        let User::Ours(host) = &scene.host else { return };
        let room = scene.shared_room().await;
        let path = format!("/v1/rooms/{}", encoded(&room));
        let levels = scene.host.content(&room, "m.room.power_levels", "").await.unwrap();
        host.post(&format!("{path}/archive"), json!({})).await.ok();
        scene.guest.finds(&room, "m.room.power_levels", "", "events_default", json!(50)).await;
        let User::Theirs(guest) = &scene.guest else { panic!("the guest is of the Synapse") };
        let said = guest.sends(&room, "m.room.message", json!({ "msgtype": "m.text", "body": "hello?" })).await;
        assert_eq!(said.unwrap_err().0, 403);
        host.post_nothing(&format!("{path}/rejoin")).await.ok();
        let restored = levels["events_default"].clone();
        scene.guest.finds(&room, "m.room.power_levels", "", "events_default", restored).await;
        let heard = scene.guest.says(&room, "hello again").await;
        scene.host.sees(&room, &heard).await;
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

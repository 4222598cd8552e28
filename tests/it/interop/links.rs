//! Servers that do not reach each other for a while, and what becomes of what happened meanwhile.

use serde_json::json;

use super::{Scene, Scenes, agreed, partner::Partner, user::User};

/// More than one answer to `get_missing_events` holds.
const MISSED: usize = 30;

/// Each hears something new of the other.
pub(crate) async fn reach_each_other(scene: &Scene, room: &str) {
    for (speaker, listener) in [(&scene.host, &scene.guest), (&scene.guest, &scene.host)] {
        let event_id = speaker.says(room, &format!("{} is here", speaker.id())).await;
        listener.sees(room, &event_id).await;
    }
}

#[tokio::test]
async fn what_is_said_while_a_server_is_down_arrives_when_it_is_back() {
    let Some(scenes) = Scenes::new().await else { return };
    let rooms = scenes
        .each(async |scene: &Scene| {
            let room = scene.shared_room().await;
            scene.host.gives_level(&room, &scene.guest, 50).await;
            reach_each_other(scene, &room).await;
            room
        })
        .await;
    scenes.partner.stop().await;
    scenes
        .each_in(&rooms, async |scene: &Scene, room: &String| {
            for number in 0..MISSED {
                scene.theirs().says(room, &format!("missed {number}")).await;
            }
            scene.theirs().sets(room, "m.room.topic", "", json!({ "topic": "missed" })).await;
        })
        .await;
    scenes.partner.start().await;
    scenes
        .each_in(&rooms, async |scene: &Scene, room: &String| {
            scene.ours().says(room, "what have I missed?").await;
            scene.ours().finds(room, "m.room.topic", "", "topic", json!("missed")).await;
            let missed: Vec<String> = (0..MISSED).map(|number| format!("missed {number}")).collect();
            agreed("everything has arrived in its order", async || {
                let mut heard = scene.ours().hears(room).await;
                heard.retain(|body| body.starts_with("missed"));
                if heard == missed { Ok(()) } else { Err(format!("{heard:?}")) }
            })
            .await;
            reach_each_other(scene, room).await;
            scene.ends_in_agreement(room).await;
        })
        .await;
    scenes.end().await;
}

#[tokio::test]
async fn a_room_of_three_servers_is_entered_through_one_that_did_not_make_it() {
    let Some(scenes) = Scenes::new().await else { return };
    let third = Partner::of(scenes.synapse).await;
    scenes
        .each(async |scene: &Scene| {
            let room = scene.open_room().await;
            scene.guest.joins(&room, scene.host.server()).await;
            reach_each_other(scene, &room).await;
            let bob = User::Ours(third.account(&super::unique("bob")).await);
            bob.joins(&room, scene.guest.server()).await;
            for user in [&scene.host, &scene.guest] {
                user.finds(&room, "m.room.member", bob.id(), "membership", json!("join")).await;
            }
            for user in [&scene.host, &scene.guest, &bob] {
                let event_id = user.says(&room, "hello, all of you").await;
                for other in [&scene.host, &scene.guest, &bob] {
                    other.sees(&room, &event_id).await;
                }
            }
            scene.ends_in_agreement(&room).await;
            assert_eq!(bob.state(&room).await, scene.host.state(&room).await);
        })
        .await;
    third.stop().await;
    scenes.end().await;
}

/// What one side does while the link is cut.
async fn goes_on(user: &User, room: &str, levels: serde_json::Value) {
    for number in 0..5 {
        user.says(room, &format!("{number} of {}", user.id())).await;
    }
    for (event_type, field) in [("m.room.topic", "topic"), ("m.room.name", "name"), ("org.example.tent", "colour")] {
        user.sets(room, event_type, "", json!({ field: format!("of {}", user.id()) })).await;
    }
    user.sets_levels(room, levels).await;
    user.sets(room, "org.example.tent", user.server(), json!({ "colour": "own" })).await;
}

#[tokio::test]
async fn a_room_that_a_cut_link_has_forked_grows_together() {
    let Some(scenes) = Scenes::alone().await else { return };
    let rooms = scenes
        .each(async |scene: &Scene| {
            let room = scene.open_room().await;
            let others = [scene.another_guest().await, scene.another_host().await];
            scene.guest.joins(&room, scene.host.server()).await;
            for other in &others {
                other.joins(&room, scene.host.server()).await;
            }
            scene.host.gives_level(&room, &scene.guest, 100).await;
            for user in [&scene.host, &scene.guest] {
                for other in &others {
                    user.finds(&room, "m.room.member", other.id(), "membership", json!("join")).await;
                }
            }
            (room, others)
        })
        .await;
    let link = scenes.cut();
    scenes
        .each_in(&rooms, async |scene: &Scene, (room, [of_guest, of_host]): &(String, [User; 2])| {
            goes_on(&scene.host, room, json!({ "invite": 25 })).await;
            goes_on(&scene.guest, room, json!({ "kick": 40 })).await;
            // Each side bans somebody of the other, who goes on talking there.
            scene.host.does("ban", room, of_guest).await;
            scene.guest.does("kick", room, of_host).await;
            for other in [of_guest, of_host] {
                other.says(room, "nobody told me").await;
            }
            for (speaker, other) in [(&scene.host, &scene.guest), (&scene.guest, &scene.host)] {
                let event_id = speaker.says(room, "alone at last").await;
                assert!(other.event(room, &event_id).await.is_none(), "the link is not cut");
            }
        })
        .await;
    link.mend();
    scenes
        .each_in(&rooms, async |scene: &Scene, (room, _): &(String, [User; 2])| {
            reach_each_other(scene, room).await;
            scene.ends_in_agreement(room).await;
        })
        .await;
    scenes.end().await;
}

#[tokio::test]
async fn what_was_done_with_power_that_was_taken_meanwhile_is_judged_alike_on_both_sides() {
    let Some(scenes) = Scenes::alone().await else { return };
    let rooms = scenes
        .each(async |scene: &Scene| {
            let room = scene.open_room().await;
            let (first, second) = (scene.another_guest().await, scene.another_host().await);
            for user in [&scene.guest, &first, &second] {
                user.joins(&room, scene.host.server()).await;
            }
            scene.host.gives_level(&room, &scene.guest, 60).await;
            scene.guest.finds(&room, "m.room.member", second.id(), "membership", json!("join")).await;
            (room, first, second)
        })
        .await;
    let link = scenes.cut();
    scenes
        .each_in(&rooms, async |scene: &Scene, (room, first, second): &(String, User, User)| {
            scene.host.sets_levels(room, json!({ "users": scene.levels_without_guest(room).await })).await;
            scene.host.sets(room, "m.room.topic", "", json!({ "topic": "of the host" })).await;
            scene.guest.sets(room, "m.room.topic", "", json!({ "topic": "of the guest" })).await;
            scene.guest.does("ban", room, second).await;
            scene.guest.says(room, "who is in charge?").await;
            first.says(room, "not me").await;
            second.says(room, "I am still here").await;
        })
        .await;
    link.mend();
    scenes
        .each_in(&rooms, async |scene: &Scene, (room, ..): &(String, User, User)| {
            reach_each_other(scene, room).await;
            scene.ends_in_agreement(room).await;
        })
        .await;
    scenes.end().await;
}

#[tokio::test]
async fn who_was_banned_meanwhile_hears_of_it_and_comes_back_with_what_was_said() {
    let Some(scenes) = Scenes::alone().await else { return };
    let rooms = scenes
        .each(async |scene: &Scene| {
            let room = scene.open_room().await;
            scene.guest.joins(&room, scene.host.server()).await;
            reach_each_other(scene, &room).await;
            room
        })
        .await;
    let link = scenes.cut();
    scenes
        .each_in(&rooms, async |scene: &Scene, room: &String| {
            scene.host.does("ban", room, &scene.guest).await;
            scene.host.says(room, "gone").await;
            scene.guest.says(room, "still here").await;
        })
        .await;
    link.mend();
    scenes
        .each_in(&rooms, async |scene: &Scene, room: &String| {
            scene.guest.is_out_of(room).await;
            scene.host.does("unban", room, &scene.guest).await;
            scene.guest.joins(room, scene.host.server()).await;
            reach_each_other(scene, room).await;
            scene.ends_in_agreement(room).await;
        })
        .await;
    scenes.end().await;
}

//! Coming into a room, by invite, by alias and by being in another one, talking there, and leaving.

use futures_util::future::join_all;
use serde_json::json;
use yurt::actions::{
    Caller,
    accounts::{self, NewAccount},
    members,
};

use super::{Home, Scene, agreed, everywhere, unique, user::Access};

pub(crate) fn same(heard: &[String], said: &[String]) -> Result<(), String> {
    if heard == said { Ok(()) } else { Err(format!("heard {heard:?}, said {said:?}")) }
}

/// Each says some things, in turn, and both hear them behind what was said before.
pub(crate) async fn talk(scene: &Scene, room: &str, before: &[&str]) {
    let mut said: Vec<String> = before.iter().map(|body| (*body).to_owned()).collect();
    for round in 0..3 {
        for (speaker, listener) in [(&scene.host, &scene.guest), (&scene.guest, &scene.host)] {
            let body = format!("{round} of {}", speaker.id());
            let event_id = speaker.says(room, &body).await;
            listener.sees(room, &event_id).await;
            said.push(body);
        }
    }
    for user in [&scene.host, &scene.guest] {
        let what = format!("{} hears everything in its order", user.id());
        agreed(&what, async || same(&user.hears(room).await, &said)).await;
    }
}

#[tokio::test]
async fn who_is_invited_joins_and_both_talk() {
    everywhere(async |scene: &Scene| {
        let room = scene.shared_room().await;
        talk(scene, &room, &[]).await;
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

#[tokio::test]
async fn an_open_room_is_joined_by_its_alias_and_both_talk() {
    everywhere(async |scene: &Scene| {
        let room = scene.open_room().await;
        let alias = scene.host.alias(&room).await;
        assert_eq!(scene.guest.joins(&alias, scene.host.server()).await, room);
        talk(scene, &room, &[]).await;
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

#[tokio::test]
async fn who_leaves_is_invited_again_and_reads_what_was_said_meanwhile() {
    everywhere(async |scene: &Scene| {
        let room = scene.shared_room().await;
        let last = scene.guest.says(&room, "I go").await;
        scene.host.sees(&room, &last).await;
        scene.guest.leaves(&room).await;
        scene.host.finds(&room, "m.room.member", scene.guest.id(), "membership", json!("leave")).await;
        scene.host.says(&room, "alone").await;
        scene.host.sets(&room, "m.room.topic", "", json!({ "topic": "of one" })).await;
        scene.host.does("invite", &room, &scene.guest).await;
        scene.guest.is_invited(&room).await;
        scene.guest.joins(&room, scene.host.server()).await;
        talk(scene, &room, &["I go", "alone"]).await;
        scene.guest.finds(&room, "m.room.topic", "", "topic", json!("of one")).await;
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

#[tokio::test]
async fn an_invite_is_declined_and_another_one_accepted() {
    everywhere(async |scene: &Scene| {
        let room = scene.host.makes_room(scene.version, Access::Invited, "Tents").await;
        scene.host.does("invite", &room, &scene.guest).await;
        scene.guest.is_invited(&room).await;
        scene.guest.leaves(&room).await;
        scene.host.finds(&room, "m.room.member", scene.guest.id(), "membership", json!("leave")).await;
        scene.host.does("invite", &room, &scene.guest).await;
        scene.guest.is_invited(&room).await;
        scene.guest.joins(&room, scene.host.server()).await;
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

#[tokio::test]
async fn who_is_in_one_room_joins_another_that_lets_its_members_in() {
    everywhere(async |scene: &Scene| {
        let club = scene.shared_room().await;
        let room = scene.host.makes_room(scene.version, Access::Invited, "Bar").await;
        let allow = json!([{ "type": "m.room_membership", "room_id": club }]);
        let rule = json!({ "join_rule": "restricted", "allow": allow });
        scene.host.sets(&room, "m.room.join_rules", "", rule).await;
        let stranger = scene.another_guest().await;
        assert!(stranger.tries_to_join(&room, scene.host.server()).await.is_err(), "who is not in the club stays out");
        scene.guest.joins(&room, scene.host.server()).await;
        talk(scene, &room, &[]).await;
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

#[tokio::test]
async fn who_was_invited_invites_others_of_both_servers() {
    everywhere(async |scene: &Scene| {
        let room = scene.shared_room().await;
        scene.host.gives_level(&room, &scene.guest, 50).await;
        let others = [scene.another_host().await, scene.another_guest().await];
        for (inviter, other) in [(&scene.guest, &others[0]), (&scene.guest, &others[1])] {
            inviter.does("invite", &room, other).await;
            other.is_invited(&room).await;
            other.joins(&room, inviter.server()).await;
        }
        let late = scene.another_guest().await;
        scene.host.does("invite", &room, &late).await;
        late.is_invited(&room).await;
        late.joins(&room, scene.guest.server()).await;
        for user in [&scene.host, &scene.guest] {
            for other in others.iter().chain([&late]) {
                user.finds(&room, "m.room.member", other.id(), "membership", json!("join")).await;
            }
        }
        let heard = late.says(&room, "all here").await;
        others[0].sees(&room, &heard).await;
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

#[tokio::test]
async fn what_both_say_and_change_at_the_same_time_is_heard_by_both() {
    everywhere(async |scene: &Scene| {
        let room = scene.shared_room().await;
        scene.host.gives_level(&room, &scene.guest, 50).await;
        let (room, sides) = (&room, [&scene.host, &scene.guest]);
        let said = join_all(sides.iter().map(|user| async move {
            let mut last = String::new();
            for number in 0..8 {
                let topic = json!({ "topic": format!("{number} of {}", user.id()) });
                user.sets(room, "m.room.topic", "", topic).await;
                last = user.says(room, &format!("{number} of {}", user.id())).await;
            }
            last
        }))
        .await;
        scene.host.sees(room, &said[1]).await;
        scene.guest.sees(room, &said[0]).await;
        scene.ends_in_agreement(room).await;
    })
    .await;
}

/// Synapse asks for rooms without their members, works in them at once, and fetches the members behind that.
#[tokio::test]
async fn a_large_room_is_joined_without_its_members_which_are_learnt_later() {
    everywhere(async |scene: &Scene| {
        if scene.host.home() == Home::Theirs {
            return;
        }
        let room = scene.open_room().await;
        let actions = scene.partner.actions().await;
        for _ in 0..60 {
            let username = unique("crowd");
            accounts::create(&actions, NewAccount { username: username.clone(), ..NewAccount::default() })
                .await
                .unwrap();
            let person = Caller::local(&accounts::user_id(&actions, &username).unwrap(), false);
            members::join(&actions, &person, &room, &[], None).await.unwrap();
        }
        scene.guest.joins(&room, scene.host.server()).await;
        talk(scene, &room, &[]).await;
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

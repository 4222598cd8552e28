//! Levels: who gives how much to whom, and what a creator is above all of them.

use serde_json::json;

use super::{VERSIONS, Version};
use crate::client::{Caller, TestServer, server};

#[tokio::test]
async fn a_creator_outranks_every_level_where_the_version_knows_creators() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    for version in VERSIONS {
        let room = room_of_version(&alice, version).await;
        alice.brings_in(&room, &bob).await;
        alice.gives_level(&room, &bob, 100).await.ok();
        let reason = if version.has_creators { "creator" } else { "level" };
        bob.does("kick", &room, &alice).await.forbidden_for(reason);
        bob.does("ban", &room, &alice).await.forbidden_for(reason);
        bob.gives_level(&room, &alice, 0).await.forbidden_for(reason);
        let own = alice.gives_level(&room, &bob, 0).await;
        if version.has_creators {
            own.ok()
        } else {
            own.refused(403, "SW_ROOM_FORBIDDEN")
        };
    }
}

#[tokio::test]
async fn nobody_sets_the_level_of_a_creator_not_even_the_creator() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    alice.gives_level(&room, &alice, 50).await.forbidden_for("creator");
    let path = format!("/v1/rooms/{room}/power-levels");
    let users = json!({"users": {alice.id.clone(): 50}});
    alice.put(&path, users).await.forbidden_for("creator");
}

#[tokio::test]
async fn levels_above_100_exist_where_a_creator_gives_them() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    for version in VERSIONS {
        let room = room_of_version(&alice, version).await;
        alice.brings_in(&room, &bob).await;
        let given = alice.gives_level(&room, &bob, 150).await;
        if version.has_creators {
            given.ok();
            assert_eq!(bob.sees(&room).await["me"]["power_level"], 150);
        } else {
            given.forbidden_for("level");
        }
    }
}

#[tokio::test]
async fn nobody_gives_more_than_he_has_or_takes_from_his_equals() {
    let server = server().await;
    let (alice, bob, carol) = trio(&server).await;
    for version in VERSIONS {
        let room = room_of_version(&alice, version).await;
        alice.brings_in(&room, &bob).await;
        alice.brings_in(&room, &carol).await;
        let path = format!("/v1/rooms/{room}/power-levels");
        alice.put(&path, json!({"events": {"m.room.power_levels": 50}})).await.ok();
        alice.gives_level(&room, &bob, 60).await.ok();
        bob.gives_level(&room, &carol, 61).await.forbidden_for("level");
        bob.gives_level(&room, &carol, 60).await.ok();
        bob.gives_level(&room, &carol, 0).await.forbidden_for("level");
        bob.put(&path, json!({"ban": 61})).await.forbidden_for("level");
        bob.put(&path, json!({"ban": 60})).await.ok();
        bob.gives_level(&room, &bob, 10).await.ok();
    }
}

#[tokio::test]
async fn changing_levels_needs_level_100() {
    let server = server().await;
    let (alice, bob, carol) = trio(&server).await;
    let room = alice.group_with("Tents", &[&bob, &carol]).await;
    alice.gives_level(&room, &bob, 99).await.ok();
    bob.gives_level(&room, &carol, 1).await.forbidden_for("level");
    bob.put(&format!("/v1/rooms/{room}/power-levels"), json!({"invite": 50})).await.forbidden_for("level");
    alice.gives_level(&room, &bob, 100).await.ok();
    bob.gives_level(&room, &carol, 1).await.ok();
}

#[tokio::test]
async fn levels_are_laid_over_the_present_ones() {
    let server = server().await;
    let (alice, bob, carol) = trio(&server).await;
    let room = alice.group_with("Tents", &[&bob, &carol]).await;
    alice.gives_level(&room, &bob, 50).await.ok();
    let before = alice.state(&room, "m.room.power_levels").await;
    let change = json!({"redact": 40, "events": {"m.room.topic": 0}, "users": {carol.id.clone(): 20}, "notifications": {"room": 70}});
    alice.put(&format!("/v1/rooms/{room}/power-levels"), change).await.ok();
    let mut expected = before;
    expected["redact"] = json!(40);
    expected["events"]["m.room.topic"] = json!(0);
    expected["users"][&carol.id] = json!(20);
    expected["notifications"]["room"] = json!(70);
    assert_eq!(alice.state(&room, "m.room.power_levels").await, expected);
}

#[tokio::test]
async fn levels_that_are_no_levels_are_refused() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let path = format!("/v1/rooms/{room}/power-levels");
    let cases = [
        (json!({"invite": "50"}), "invite"),
        (json!({"ban": 1.5}), "ban"),
        (json!({"events": []}), "events"),
        (json!({"events": {"m.room.name": "50"}}), "events"),
        (json!({"users": {"@bob:yurt.test": 9_007_199_254_740_992_u64}}), "users"),
        (json!({"users": {"not a user id": 5}}), "users"),
        (json!({"levels": 5}), "levels"),
    ];
    for (body, field) in cases {
        alice.put(&path, body).await.invalid(field);
    }
    for level in [json!("50"), json!(1.5), json!(null), json!([]), json!(9_007_199_254_740_992_u64)] {
        let path = format!("/v1/rooms/{room}/members/bob/power-level");
        alice.put(&path, json!({"power_level": level})).await.invalid("power_level");
    }
}

async fn room_of_version(caller: &Caller, version: Version) -> String {
    caller.creates(json!({"room_type": "group", "name": "Tents", "room_version": version.name})).await
}

async fn trio(server: &TestServer) -> (Caller, Caller, Caller) {
    (server.account("alice").await, server.account("bob").await, server.account("carol").await)
}

//! What the dialects need is a feature of the native API as well.

use std::time::Duration;

use serde_json::json;

use crate::client::{server, text};

#[tokio::test]
async fn a_room_can_begin_with_members_who_are_in_at_once() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let body = json!({"room_type": "group", "name": "Tents", "members": ["bob"], "invite": ["carol", "bob"]});
    let room = alice.creates(body).await;
    assert_eq!(alice.members(&room, "join").await, std::slice::from_ref(&alice.id));
    assert_eq!(alice.members(&room, "invite").await, [bob.id.clone(), carol.id.clone()]);
    let room = alice.creates(json!({"room_type": "group", "name": "Tents", "members": ["bob", "bob"]})).await;
    assert_eq!(alice.members(&room, "join").await, [alice.id.clone(), bob.id.clone()]);
    bob.says(&room, "here already").await;
    let with = |members, more: serde_json::Value| {
        let mut body = json!({"room_type": "group", "name": "Tents", "members": members});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        body
    };
    alice.post("/v1/rooms", with(json!(["alice"]), json!({}))).await.invalid("members");
    alice.post("/v1/rooms", with(json!(["@dan:far.example"]), json!({}))).await.invalid("members");
    alice.post("/v1/rooms", with(json!(["bob", "carol"]), json!({"max_members": 2}))).await.invalid("members");
    alice.post("/v1/rooms", with(json!(["nobody"]), json!({}))).await.refused(404, "SW_PARTICIPANT_NOT_FOUND");
}

#[tokio::test]
async fn a_transient_room_goes_when_somebody_leaves_and_one_remains() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let body = json!({"room_type": "group", "name": "Tents", "members": ["bob", "carol"], "transient": true});
    let made = alice.post("/v1/rooms", body).await.created();
    assert_eq!((&made["transient"], &made["made_through"]), (&json!(true), &json!("v1")));
    let room = text(&made["id"]);
    bob.leaves(&room).await.ok();
    assert_eq!(alice.sees(&room).await["members_count"], 2);
    carol.leaves(&room).await.ok();
    alice.get(&format!("/v1/rooms/{room}")).await.no_such_room();
    assert_eq!(alice.room_ids("/v1/rooms").await.len(), 0);
    let incognito = json!({"room_type": "incognito", "transient": true});
    alice.post("/v1/rooms", incognito).await.type_invariant();
}

#[tokio::test]
async fn members_see_who_was_active_within_a_time() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    server.advance(Duration::from_secs(60));
    let active = async |within_ms: u64| {
        let path = format!("/v1/rooms/{room}/active?within_ms={within_ms}");
        alice.get(&path).await.list().iter().map(|member| text(&member["participant_id"])).collect::<Vec<_>>()
    };
    assert_eq!(active(1_000).await, std::slice::from_ref(&alice.id));
    assert_eq!(active(61_000).await, [alice.id.clone(), bob.id.clone()]);
    carol.get(&format!("/v1/rooms/{room}/active?within_ms=1")).await.no_such_room();
    let public = alice.public("Market").await;
    carol.get(&format!("/v1/rooms/{public}/active?within_ms=1")).await.forbidden();
    alice.get(&format!("/v1/rooms/{room}/active?within_ms=31622400001")).await.invalid("within_ms");
}

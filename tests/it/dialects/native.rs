//! What the dialects need is a feature of the native API as well.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Answer, Caller, server, text};

async fn changes(caller: &Caller, room: &str, body: Value) -> Answer {
    caller.send("PATCH", &format!("/v1/rooms/{room}"), Some(body.to_string().into_bytes())).await
}

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
    let with = |members, more: Value| {
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

#[tokio::test]
async fn a_room_can_begin_with_its_settings() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let wish = json!({"room_type": "group", "name": "Tents", "members": ["bob"], "allow_invites": false, "members_only": true, "custom": "{}"});
    let made = alice.post("/v1/rooms", wish).await.created();
    assert_eq!(
        (&made["allow_invites"], &made["members_only"], &made["custom"]),
        (&json!(false), &json!(true), &json!("{}"))
    );
    let room = text(&made["id"]);
    bob.does("invite", &room, &server.account("carol").await).await.forbidden();
    assert_eq!(alice.state(&room, "m.room.join_rules").await, json!({"join_rule": "knock"}));
    let unsaid = alice.creates(json!({"room_type": "group", "name": "Tents", "custom": ""})).await;
    let unsaid = alice.sees(&unsaid).await;
    assert_eq!(
        (&unsaid["allow_invites"], &unsaid["members_only"], &unsaid["custom"]),
        (&json!(true), &json!(false), &json!(null))
    );
    for (field, value) in [("is_public", json!(true)), ("password", json!("sesame"))] {
        let mut wish = json!({"room_type": "group", "name": "Tents", "members_only": true});
        wish[field] = value;
        alice.post("/v1/rooms", wish).await.type_invariant();
    }
    alice
        .post("/v1/rooms", json!({"room_type": "public", "name": "Tents", "members_only": true}))
        .await
        .type_invariant();
    alice
        .post("/v1/rooms", json!({"room_type": "group", "name": "Tents", "custom": "x".repeat(8_193)}))
        .await
        .invalid("custom");
    alice.post("/v1/rooms", json!({"room_type": "incognito", "custom": "mxc://a.example/b"})).await.type_invariant();
}

#[tokio::test]
async fn name_topic_and_settings_change_together_or_not_at_all() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let change = async |caller: &Caller, body| changes(caller, &room, body).await;
    change(&alice, json!({"name": "Yurts", "max_members": 1})).await.invalid("max_members");
    change(&alice, json!({"name": " ", "max_members": 5})).await.invalid("name");
    let seen = alice.sees(&room).await;
    assert_eq!((&seen["name"], &seen["max_members"]), (&json!("Tents"), &json!(null)));
    let changed = change(&alice, json!({"name": "Yurts", "topic": "Round", "max_members": 5})).await.ok();
    assert_eq!(
        (&changed["name"], &changed["topic"], &changed["max_members"]),
        (&json!("Yurts"), &json!("Round"), &json!(5))
    );
    change(&bob, json!({"name": "Mine"})).await.forbidden();
    alice.gives_level(&room, &bob, 50).await.ok();
    assert_eq!(change(&bob, json!({"name": "Ours", "topic": ""})).await.ok()["topic"], json!(null));
    change(&bob, json!({"name": "Mine", "custom": "x"})).await.forbidden();
    change(&alice, json!({})).await.invalid("name");
}

#[tokio::test]
async fn owners_bring_people_of_this_server_in() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let brings =
        async |who: &Caller, whom: &str| who.send("PUT", &format!("/v1/rooms/{room}/members/{whom}"), None).await;
    brings(&bob, "carol").await.forbidden();
    carol.send("PUT", &format!("/v1/rooms/{room}/members/carol"), None).await.no_such_room();
    assert_eq!(brings(&alice, "carol").await.ok()["members_count"], 3);
    carol.says(&room, "here already").await;
    let before = alice.timeline(&room).await.len();
    brings(&alice, "carol").await.ok();
    assert_eq!(alice.timeline(&room).await.len(), before, "who is in the room stays");
    let dan = server.account("dan").await;
    alice.does("invite", &room, &dan).await.ok();
    brings(&alice, "dan").await.ok();
    dan.says(&room, "invited before").await;
    alice.does("ban", &room, &dan).await.ok();
    brings(&alice, "dan").await.forbidden();
    brings(&alice, "nobody").await.refused(404, "SW_PARTICIPANT_NOT_FOUND");
    brings(&alice, "%40dan%3Afar.example").await.invalid("participant_id");
    changes(&alice, &room, json!({"max_members": 3})).await.ok();
    server.account("eve").await;
    brings(&alice, "eve").await.refused(409, "SW_ROOM_CAPACITY");
    let direct = alice.direct(&bob).await;
    alice.send("PUT", &format!("/v1/rooms/{direct}/members/eve"), None).await.type_invariant();
}

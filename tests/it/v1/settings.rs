//! `PATCH /v1/rooms/{room_id}`: limit of members, who may invite, knocking, the clients' own text.

use serde_json::{Value, json};

use crate::client::{Answer, Caller, server};

async fn changes(caller: &Caller, room: &str, body: Value) -> Answer {
    caller.send("PATCH", &format!("/v1/rooms/{room}"), Some(body.to_string().into_bytes())).await
}

#[tokio::test]
async fn each_setting_is_answered_and_outlives_a_restart() {
    let mut server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let body = json!({"max_members": 5, "allow_invites": false, "members_only": true, "custom": "{\"felt\":1}"});
    let changed = changes(&alice, &room, body.clone()).await.ok();
    for (field, value) in body.as_object().expect("fields") {
        assert_eq!(&changed[field], value, "{field}");
    }
    server.restart().await;
    assert_eq!(alice.sees(&room).await, changed);
    let body = json!({"max_members": null, "allow_invites": true, "members_only": false, "custom": null});
    let back = changes(&alice, &room, body.clone()).await.ok();
    for (field, value) in body.as_object().expect("fields") {
        assert_eq!(&back[field], value, "{field}");
    }
}

#[tokio::test]
async fn what_is_left_out_stays_and_the_same_again_is_no_event() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let body = json!({"max_members": 5, "allow_invites": false, "members_only": true, "custom": "felt"});
    let all = changes(&alice, &room, body.clone()).await.ok();
    let events = alice.timeline(&room).await.len();
    assert_eq!(changes(&alice, &room, body).await.ok(), all);
    let changed = changes(&alice, &room, json!({"max_members": 6})).await.ok();
    assert_eq!((&changed["custom"], &changed["members_only"]), (&json!("felt"), &json!(true)));
    assert_eq!(alice.timeline(&room).await.len(), events, "a limit of members is no event");
}

#[tokio::test]
async fn a_limit_below_the_present_members_is_refused() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let room = alice.creates(json!({"room_type": "group", "name": "Open", "is_public": true})).await;
    bob.joins(&room).await.ok();
    changes(&alice, &room, json!({"max_members": 1})).await.invalid("max_members");
    changes(&alice, &room, json!({"max_members": 2})).await.ok();
    carol.joins(&room).await.refused(409, "SW_ROOM_CAPACITY");
    changes(&alice, &room, json!({"max_members": null})).await.ok();
    carol.joins(&room).await.ok();
}

#[tokio::test]
async fn who_may_invite_follows_the_setting() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    changes(&alice, &room, json!({"allow_invites": false})).await.ok();
    assert_eq!(alice.state(&room, "m.room.power_levels").await["invite"], 50);
    bob.does("invite", &room, &carol).await.forbidden_for("level");
    alice.gives_level(&room, &bob, 50).await.ok();
    bob.does("invite", &room, &carol).await.ok();
    changes(&alice, &room, json!({"allow_invites": true})).await.ok();
    assert_eq!(alice.state(&room, "m.room.power_levels").await["invite"], 0);
}

#[tokio::test]
async fn only_a_group_that_is_not_public_is_members_only() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let public_group = alice.creates(json!({"room_type": "group", "name": "Open", "is_public": true})).await;
    let locked = alice.creates(json!({"room_type": "group", "name": "Locked", "password": "felt"})).await;
    let direct = alice.direct(&bob).await;
    let incognito = alice.creates(json!({"room_type": "incognito"})).await;
    for room in [&alice.public("Open").await, &public_group, &locked, &direct, &incognito] {
        changes(&alice, room, json!({"members_only": true})).await.type_invariant();
        changes(&alice, room, json!({"members_only": false, "custom": "felt"})).await.ok();
    }
    let group = alice.group("Tents").await;
    changes(&alice, &group, json!({"members_only": true})).await.ok();
    assert_eq!(alice.state(&group, "m.room.join_rules").await["join_rule"], "knock");
    changes(&alice, &group, json!({"members_only": false})).await.ok();
    assert_eq!(alice.state(&group, "m.room.join_rules").await["join_rule"], "invite");
}

#[tokio::test]
async fn a_refused_change_changes_nothing_at_all() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.creates(json!({"room_type": "public", "name": "Open"})).await;
    bob.joins(&room).await.ok();
    let (before, events) = (alice.sees(&room).await, alice.timeline(&room).await.len());
    let all = json!({"max_members": 9, "allow_invites": false, "custom": "felt", "members_only": true});
    changes(&alice, &room, all).await.type_invariant();
    changes(&alice, &room, json!({"custom": "felt", "max_members": 1})).await.invalid("max_members");
    assert_eq!(alice.sees(&room).await, before);
    assert_eq!(alice.timeline(&room).await.len(), events);
}

#[tokio::test]
async fn settings_take_level_100_and_an_open_room() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    alice.gives_level(&room, &bob, 99).await.ok();
    changes(&bob, &room, json!({"custom": "mine"})).await.forbidden_for("level");
    alice.gives_level(&room, &bob, 100).await.ok();
    changes(&bob, &room, json!({"custom": "mine", "allow_invites": false, "members_only": true})).await.ok();
    alice.post_nothing(&format!("/v1/rooms/{room}/archive")).await.ok();
    changes(&alice, &room, json!({"custom": "later"})).await.frozen();
    let (hidden, open) = (alice.group("Hidden").await, alice.public("Open").await);
    changes(&bob, &hidden, json!({"custom": "x"})).await.no_such_room();
    changes(&bob, &open, json!({"custom": "x"})).await.forbidden_for("membership");
}

#[tokio::test]
async fn values_that_are_none_are_refused_by_name() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let cases = [
        ("max_members", json!([0, -1, 1.5, "5", 9_007_199_254_740_992_u64])),
        ("allow_invites", json!([null, "yes", 1])),
        ("members_only", json!([null, "yes", 1])),
        ("custom", json!([1, {}, "x".repeat(8_193), "毡".repeat(2_731)])),
        ("unheard_of", json!([1])),
    ];
    for (field, values) in cases {
        for value in values.as_array().expect("values") {
            changes(&alice, &room, json!({field: value})).await.invalid(field);
        }
    }
    changes(&alice, &room, json!({})).await.refused(400, "SW_REQUEST_INVALID");
    let fits = "毡".repeat(2_730);
    assert_eq!(changes(&alice, &room, json!({"custom": fits})).await.ok()["custom"], fits);
    assert_eq!(changes(&alice, &room, json!({"custom": ""})).await.ok()["custom"], json!(null));
}

#[tokio::test]
async fn a_redacted_custom_text_is_gone() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    changes(&alice, &room, json!({"custom": "felt"})).await.ok();
    let event = alice.get(&format!("/v1/rooms/{room}/state/io.yurt.custom")).await.ok()["event_id"].clone();
    let event = event.as_str().expect("an id");
    alice.post_nothing(&format!("/v1/rooms/{room}/events/{event}/redact")).await.created();
    assert_eq!(alice.sees(&room).await["custom"], json!(null));
    assert_eq!(changes(&alice, &room, json!({"custom": "felt"})).await.ok()["custom"], "felt");
}

//! What people say of themselves, and how their rooms learn of it.

use serde_json::{Value, json};

use crate::client::{Answer, Caller, SERVER_NAME, png, server, text};

async fn changes(caller: &Caller, body: Value) -> Answer {
    caller.put("/v1/me/profile", body).await
}

/// The person's entry in the list of members.
async fn member(caller: &Caller, room: &str, of: &Caller) -> Value {
    let members = caller.get(&format!("/v1/rooms/{room}/members")).await.list();
    members.into_iter().find(|member| member["participant_id"] == of.id).expect("a member")
}

async fn member_event(caller: &Caller, room: &str, of: &Caller) -> Value {
    caller.get(&format!("/v1/rooms/{room}/state/m.room.member/{}", of.id)).await.ok()["content"].clone()
}

#[tokio::test]
async fn a_profile_is_changed_field_by_field() {
    let server = server().await;
    let alice = server.account("alice").await;
    let me = alice.get("/v1/me").await.ok();
    assert_eq!((&me["display_name"], &me["avatar_url"]), (&json!(null), &json!(null)));
    let picture = alice.uploads(&png(2, 2), "image/png").await["mxc"].clone();
    let steps = [
        (json!({"display_name": "Alice"}), json!("Alice"), json!(null)),
        (json!({"avatar_url": picture}), json!("Alice"), picture.clone()),
        (json!({}), json!("Alice"), picture.clone()),
        (json!({"display_name": null}), json!(null), picture.clone()),
        (json!({"display_name": "A", "avatar_url": ""}), json!("A"), json!(null)),
        (json!({"display_name": " "}), json!(null), json!(null)),
    ];
    for (body, name, url) in steps {
        let answer = changes(&alice, body.clone()).await.ok();
        assert_eq!((&answer["display_name"], &answer["avatar_url"]), (&name, &url), "{body}");
        assert_eq!(alice.get("/v1/me").await.ok(), answer);
    }
}

#[tokio::test]
async fn what_cannot_be_a_profile_is_refused_by_name() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let bobs = bob.uploads(&png(2, 2), "image/png").await["mxc"].clone();
    changes(&alice, json!({"display_name": "x".repeat(257)})).await.invalid("display_name");
    changes(&alice, json!({"display_name": 1})).await.invalid("display_name");
    for url in [
        bobs,
        json!(1),
        json!("https://example.org/a.png"),
        json!("mxc://elsewhere.example/abc"),
        json!(format!("mxc://{SERVER_NAME}/abc")),
        json!(format!("mxc://{SERVER_NAME}/{}", "0".repeat(64))),
    ] {
        changes(&alice, json!({"display_name": "Alice", "avatar_url": url})).await.invalid("avatar_url");
    }
    assert_eq!(alice.get("/v1/me").await.ok()["display_name"], json!(null));
}

#[tokio::test]
async fn every_account_may_read_a_picture_as_long_as_it_is_one() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let medium = alice.uploads(&png(2, 2), "image/png").await;
    let path = format!("/v1/media/{}", text(&medium["sha256"]));
    carol.get(&path).await.refused(404, "SW_MEDIA_NOT_FOUND");
    changes(&alice, json!({"avatar_url": medium["mxc"]})).await.ok();
    let shown = carol.get(&path).await.expect_status(200);
    assert_eq!((shown.headers["content-type"].as_str(), shown.body), ("image/png", png(2, 2)));
    changes(&bob, json!({"avatar_url": medium["mxc"]})).await.ok();
    changes(&alice, json!({"avatar_url": null})).await.ok();
    carol.get(&path).await.expect_status(200);
    changes(&bob, json!({"avatar_url": null})).await.ok();
    carol.get(&path).await.refused(404, "SW_MEDIA_NOT_FOUND");
}

#[tokio::test]
async fn the_rooms_of_a_person_learn_of_a_change() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let mut rooms = Vec::new();
    for number in 0..20 {
        rooms.push(bob.group_with(&format!("Tents {number}"), &[&alice]).await);
    }
    rooms.push(alice.direct(&bob).await);
    let left = bob.group_with("Left", &[&alice]).await;
    alice.leaves(&left).await.ok();
    let medium = alice.uploads(&png(2, 2), "image/png").await;
    changes(&alice, json!({"display_name": "Alice", "avatar_url": medium["mxc"]})).await.ok();
    for room in &rooms {
        assert_eq!(member(&bob, room, &alice).await["display_name"], "Alice");
        let expected = json!({"membership": "join", "displayname": "Alice", "avatar_url": medium["mxc"]});
        assert_eq!(member_event(&bob, room, &alice).await, expected);
    }
    assert_eq!(member_event(&bob, &left, &alice).await, json!({"membership": "leave"}));
    let events = bob.timeline(&rooms[0]).await.len();
    changes(&alice, json!({"display_name": "Alice"})).await.ok();
    assert_eq!(bob.timeline(&rooms[0]).await.len(), events, "the same again is no change");
    changes(&alice, json!({"display_name": null, "avatar_url": null})).await.ok();
    assert_eq!(member_event(&bob, &rooms[0], &alice).await, json!({"membership": "join"}));
    let unread = bob.sees(&rooms[0]).await["me"]["unread_count"].clone();
    assert_eq!(unread, 0, "a new name is no message");
}

#[tokio::test]
async fn a_new_room_knows_the_picture_of_who_joins() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let medium = alice.uploads(&png(2, 2), "image/png").await;
    changes(&alice, json!({"avatar_url": medium["mxc"]})).await.ok();
    let room = alice.group("Tents").await;
    assert_eq!(member_event(&alice, &room, &alice).await["avatar_url"], medium["mxc"]);
    let room = bob.group("Felt").await;
    bob.does("invite", &room, &alice).await.ok();
    assert_eq!(member_event(&bob, &room, &alice).await["avatar_url"], medium["mxc"]);
}

#[tokio::test]
async fn frozen_rooms_keep_what_they_have() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = bob.group_with("Tents", &[&alice]).await;
    bob.post_nothing(&format!("/v1/rooms/{room}/archive")).await.ok();
    changes(&alice, json!({"display_name": "Alice"})).await.ok();
    assert_eq!(member(&bob, &room, &alice).await["display_name"], json!(null));
}

#[tokio::test]
async fn an_incognito_room_learns_the_name_and_never_the_picture() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let medium = alice.uploads(&png(2, 2), "image/png").await;
    let early = alice.creates(json!({"room_type": "incognito", "invite": ["bob"]})).await;
    bob.joins(&early).await.ok();
    changes(&alice, json!({"display_name": "Alice", "avatar_url": medium["mxc"]})).await.ok();
    let late = alice.creates(json!({"room_type": "incognito"})).await;
    for room in [&early, &late] {
        assert_eq!(member_event(&alice, room, &alice).await, json!({"membership": "join", "displayname": "Alice"}));
    }
    let events = alice.timeline(&early).await.len();
    changes(&alice, json!({"avatar_url": null})).await.ok();
    assert_eq!(alice.timeline(&early).await.len(), events);
}

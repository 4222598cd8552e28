//! Direct messages: one open room for a pair.

use serde_json::json;

use super::MISSING_ROOM;
use crate::client::{Caller, server, text};

#[tokio::test]
async fn the_first_call_creates_and_every_other_finds_in_both_directions() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.post("/v1/rooms/dm", json!({"participant_id": bob.id})).await.created();
    assert_eq!((&room["room_type"], &room["name"], &room["members_count"]), (&json!("dm"), &json!(null), &json!(2)));
    let bodies = [
        (&alice, json!({"participant_id": "bob"})),
        (&bob, json!({"participant_id": alice.id})),
        (&bob, json!({"participant_id": "alice"})),
    ];
    for (caller, body) in bodies {
        assert_eq!(caller.post("/v1/rooms/dm", body).await.ok()["id"], room["id"]);
    }
}

#[tokio::test]
async fn a_local_partner_is_joined_at_once() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.direct(&bob).await;
    assert_eq!(bob.sees(&room).await["me"]["membership"], "join");
    bob.says(&room, "hello").await;
    let invite = alice.timeline(&room).await;
    let invited =
        invite.iter().find(|event| event["state_key"] == bob.id && event["content"]["membership"] == "invite");
    assert_eq!(invited.expect("an invite stands before the join")["content"]["is_direct"], true);
}

#[tokio::test]
async fn both_have_level_100_and_are_creators() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.direct(&bob).await;
    for caller in [&alice, &bob] {
        let me = caller.sees(&room).await["me"].clone();
        assert_eq!((&me["power_level"], &me["is_creator"]), (&json!(100), &json!(true)));
    }
    let create = alice.state(&room, "m.room.create").await;
    assert_eq!((&create["additional_creators"], &create["io.yurt.type"]), (&json!([bob.id]), &json!("dm")));
}

#[tokio::test]
async fn a_direct_room_with_oneself_is_none() {
    let server = server().await;
    let alice = server.account("alice").await;
    for name in ["alice", "@alice:yurt.test"] {
        alice.post("/v1/rooms/dm", json!({"participant_id": name})).await.type_invariant();
    }
}

#[tokio::test]
async fn a_partner_must_exist_here() {
    let server = server().await;
    let alice = server.account("alice").await;
    alice.post("/v1/rooms/dm", json!({"participant_id": "nobody"})).await.refused(404, "SW_PARTICIPANT_NOT_FOUND");
    alice
        .post("/v1/rooms/dm", json!({"participant_id": "@eve:elsewhere.example"}))
        .await
        .refused(409, "SW_FED_DISABLED");
    for name in [json!(null), json!(""), json!(1), json!(["bob"])] {
        alice.post("/v1/rooms/dm", json!({"participant_id": name})).await.invalid("participant_id");
    }
    alice.post("/v1/rooms/dm", json!({})).await.invalid("participant_id");
    assert_eq!(alice.get("/v1/rooms").await.meta()["total"], 0);
}

#[tokio::test]
async fn a_third_member_a_removal_a_ban_and_a_name_are_refused() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let room = alice.direct(&bob).await;
    for caller in [&alice, &bob] {
        caller.does("invite", &room, &carol).await.type_invariant();
        caller.put(&format!("/v1/rooms/{room}/name"), json!({"name": "Us"})).await.type_invariant();
    }
    for action in ["kick", "ban"] {
        alice.does(action, &room, &bob).await.type_invariant();
        bob.does(action, &room, &alice).await.type_invariant();
    }
    alice.put(&format!("/v1/rooms/{room}/topic"), json!({"topic": "Felt"})).await.ok();
    carol.joins(&room).await.no_such_room();
}

#[tokio::test]
async fn leaving_works_and_who_left_gets_a_new_room() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let first = alice.direct(&bob).await;
    alice.leaves(&first).await.ok();
    let second = alice.post("/v1/rooms/dm", json!({"participant_id": bob.id})).await.created();
    assert_ne!(second["id"], first);
    assert_eq!(bob.direct(&alice).await, text(&second["id"]), "the one in which both are joined comes first");
}

#[tokio::test]
async fn the_other_who_left_is_joined_again() {
    let server = server().await;
    for leaver in ["alice", "bob"] {
        let (alice, bob) = (server.account(&format!("a-{leaver}")).await, server.account(&format!("b-{leaver}")).await);
        let room = alice.direct(&bob).await;
        let (gone, stays) = if leaver == "alice" { (&alice, &bob) } else { (&bob, &alice) };
        stays.says(&room, "where are you?").await;
        gone.leaves(&room).await.ok();
        let found = stays.post("/v1/rooms/dm", json!({"participant_id": gone.id})).await.ok();
        assert_eq!((&found["id"], &found["members_count"]), (&json!(room), &json!(2)));
        assert_eq!(gone.sees(&room).await["me"]["membership"], "join");
    }
}

#[tokio::test]
async fn an_archived_one_is_reopened() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    for (archives, asks, other) in [(&alice, &bob, &alice), (&bob, &bob, &alice)] {
        let room = alice.direct(&bob).await;
        archives.post_nothing(&format!("/v1/rooms/{room}/archive")).await.ok();
        let found = asks.post("/v1/rooms/dm", json!({"participant_id": other.id})).await.ok();
        assert_eq!((&found["id"], &found["state"]), (&json!(room), &json!("open")));
        asks.says(&room, "back again").await;
    }
}

#[tokio::test]
async fn a_closed_one_is_not_found_again() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let first = alice.direct(&bob).await;
    bob.post_nothing(&format!("/v1/rooms/{first}/close")).await.ok();
    let second = alice.post("/v1/rooms/dm", json!({"participant_id": bob.id})).await.created();
    assert_ne!(second["id"], first);
    assert_eq!(bob.direct(&alice).await, text(&second["id"]));
}

#[tokio::test]
async fn an_open_one_comes_before_an_archived_one() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let left = alice.direct(&bob).await;
    alice.leaves(&left).await.ok();
    let open = alice.direct(&bob).await;
    alice.post_nothing(&format!("/v1/rooms/{open}/archive")).await.ok();
    let found = alice.post("/v1/rooms/dm", json!({"participant_id": bob.id})).await.ok();
    assert_eq!(found["id"], open);
}

#[tokio::test]
async fn either_member_archives_and_restores() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.direct(&bob).await;
    for (archives, restores) in [(&alice, &bob), (&bob, &alice)] {
        assert_eq!(archives.post_nothing(&format!("/v1/rooms/{room}/archive")).await.ok()["state"], "archived");
        restores.tries_to_say(&room, "hello").await.frozen();
        assert_eq!(restores.post_nothing(&format!("/v1/rooms/{room}/rejoin")).await.ok()["state"], "open");
        restores.says(&room, "hello").await;
    }
}

#[tokio::test]
async fn a_pair_has_one_room_and_another_pair_another() {
    let server = server().await;
    let people = server.accounts("tent", 4).await;
    let mut rooms = std::collections::BTreeSet::new();
    for (number, one) in people.iter().enumerate() {
        for other in &people[number + 1..] {
            rooms.insert(one.direct(other).await);
        }
    }
    assert_eq!(rooms.len(), 6);
    for person in &people {
        assert_eq!(person.get("/v1/rooms").await.meta()["total"], 3);
    }
}

#[tokio::test]
async fn the_pair_is_remembered_over_a_restart() {
    let mut server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.direct(&bob).await;
    server.restart().await;
    assert_eq!(bob.direct(&alice).await, room);
}

#[tokio::test]
async fn a_group_of_two_is_no_direct_room() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let group = alice.group_with("Two", &[&bob]).await;
    assert_ne!(alice.direct(&bob).await, group);
    assert_eq!(alice.sees(&group).await["room_type"], "group");
}

#[tokio::test]
async fn a_direct_room_is_nobody_elses_business() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let room = alice.direct(&bob).await;
    assert_eq!(carol.get("/v1/directory/rooms").await.meta()["total"], 0);
    let (hidden, missing) = (answer_for(&carol, &room).await, answer_for(&carol, MISSING_ROOM).await);
    assert_eq!(hidden, missing);
}

async fn answer_for(caller: &Caller, room: &str) -> Vec<u8> {
    caller.get(&format!("/v1/rooms/{room}")).await.body
}

//! `/api/rooms`.

use std::time::Duration;

use serde_json::{Value, json};

use super::through::Through;
use crate::client::{
    Answer, Caller, LOOK_PAUSE, LOOKS_MAX, Setup, TestServer, contract::Api, encoded, server_with, text,
};

const ON: Setup = Setup {
    listen: "",
    tenant: "",
    accounts: "registration = \"open\"",
    limits: "enabled = false",
    federation: "enabled = false",
    more: "[dialects.ryos]\nenabled = true\nadmins = [\"ryo\"]",
};
/// The id of a room that nobody made.
const MISSING: &str = "!AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const HOUR: Duration = Duration::from_secs(60 * 60);

async fn ryos() -> TestServer {
    server_with(ON).await
}

/// Somebody who sends the token and the name.
fn named(caller: &Caller) -> Through {
    let name = caller.id.trim_start_matches('@').split(':').next().expect("a name").to_owned();
    Through::new(caller.with_header("X-Username", &name), Api::Ryos)
}

async fn person(server: &TestServer, name: &str) -> Through {
    named(&server.account(name).await)
}

fn nobody(server: &TestServer) -> Through {
    Through::new(server.nameless(), Api::Ryos)
}

fn path(room: &str, rest: &str) -> String {
    format!("/api/rooms/{}{rest}", encoded(room))
}

impl Through {
    /// Makes a public room and answers its id. The caller is an admin.
    async fn makes_public(&self, name: &str) -> String {
        self.makes(json!({"type": "public", "name": name})).await
    }

    async fn makes_private(&self, members: &[&str]) -> String {
        self.makes(json!({"type": "private", "members": members})).await
    }

    async fn makes(&self, body: Value) -> String {
        text(&self.post("/api/rooms", body).await.expect_status(201).json()["room"]["id"])
    }

    /// The rooms of the list.
    async fn lists(&self) -> Vec<Value> {
        let listed = self.get("/api/rooms").await.expect_status(200).json();
        listed["rooms"].as_array().cloned().expect("a list")
    }

    async fn lists_ids(&self) -> Vec<String> {
        self.lists().await.iter().map(|room| text(&room["id"])).collect()
    }

    async fn sees(&self, room: &str) -> Value {
        self.get(&path(room, "")).await.expect_status(200).json()["room"].clone()
    }

    async fn enters(&self, room: &str, name: &str) -> Answer {
        self.post(&path(room, "/join"), json!({"username": name})).await
    }

    async fn goes(&self, room: &str, name: &str) -> Answer {
        self.post(&path(room, "/leave"), json!({"username": name})).await
    }

    /// The names of those who are active.
    async fn active(&self, room: &str) -> Vec<String> {
        let users = self.get(&path(room, "/users")).await.expect_status(200).json();
        users["users"].as_array().expect("a list").iter().map(|user| text(&user["username"])).collect()
    }
}

#[track_caller]
fn refused(answer: Answer, status: u16, error: &str) {
    let answer = answer.expect_status(status);
    assert_eq!(answer.json(), json!({"error": error}));
}

#[track_caller]
fn done(answer: Answer) {
    assert_eq!(answer.expect_status(200).json(), json!({"success": true}));
}

#[tokio::test]
async fn d000_01_the_list_without_a_token_holds_only_public_rooms() {
    let server = ryos().await;
    let (ryo, alice) = (person(&server, "ryo").await, person(&server, "alice").await);
    let public = ryo.makes_public("General Chat").await;
    alice.makes_private(&["ryo"]).await;
    assert_eq!(nobody(&server).lists_ids().await, [public]);
}

#[tokio::test]
async fn d000_02_the_list_with_a_token_holds_the_private_rooms_of_the_caller_too() {
    let server = ryos().await;
    let (ryo, alice, bob) =
        (person(&server, "ryo").await, person(&server, "alice").await, person(&server, "bob").await);
    let public = ryo.makes_public("General Chat").await;
    let private = alice.makes_private(&["ryo"]).await;
    assert_eq!(alice.lists_ids().await, [public.clone(), private.clone()]);
    assert_eq!(ryo.lists_ids().await, [public.clone(), private.clone()]);
    assert_eq!(bob.lists_ids().await, std::slice::from_ref(&public));
    // The name in the header is not needed to read.
    let bearer_only = Through::new(
        server.caller(&json!({"participant_id": alice.caller.id, "access_token": alice.caller.token})),
        Api::Ryos,
    );
    assert_eq!(bearer_only.lists_ids().await, [public, private]);
    refused(bearer_only.with_header("X-Username", "bob").get("/api/rooms").await, 401, "Authentication required");
}

#[tokio::test]
async fn d000_03_the_name_in_the_query_changes_nothing_when_there_is_a_token() {
    let server = ryos().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let private = alice.makes_private(&["alice"]).await;
    for query in ["", "?username=alice", "?username=bob", "?username="] {
        let seen = |answer: Answer| answer.expect_status(200).json()["rooms"].clone();
        assert_eq!(seen(alice.get(&format!("/api/rooms{query}")).await)[0]["id"], private);
        assert_eq!(seen(bob.get(&format!("/api/rooms{query}")).await), json!([]));
    }
}

#[tokio::test]
async fn d000_04_the_name_in_the_query_reveals_nothing_without_a_token() {
    let server = ryos().await;
    let alice = person(&server, "alice").await;
    alice.makes_private(&["alice"]).await;
    let listed = nobody(&server).get("/api/rooms?username=alice").await.expect_status(200);
    assert_eq!(listed.json(), json!({"rooms": []}));
}

#[tokio::test]
async fn d000_05_a_listed_room_has_these_fields_and_members_only_when_private() {
    let server = ryos().await;
    let (ryo, alice) = (person(&server, "ryo").await, person(&server, "alice").await);
    let public = ryo.makes_public("General Chat").await;
    let private = alice.makes_private(&["ryo"]).await;
    let created_at = 1_767_225_600_000_u64;
    let expected = json!([
        {"id": public, "name": "General Chat", "type": "public", "createdAt": created_at, "userCount": 1},
        {
            "id": private, "name": "@alice, @ryo", "type": "private", "members": ["alice", "ryo"], "createdAt": created_at, "userCount": 2
        },
    ]);
    assert_eq!(json!(alice.lists().await), expected);
}

#[tokio::test]
async fn d000_06_the_list_is_wrapped() {
    let server = ryos().await;
    assert_eq!(nobody(&server).get("/api/rooms").await.expect_status(200).json(), json!({"rooms": []}));
}

#[tokio::test]
async fn d000_07_making_a_room_needs_a_token_and_the_name_of_its_owner() {
    let server = ryos().await;
    let alice = server.account("alice").await;
    let bare = Through::new(alice.clone(), Api::Ryos);
    let nobody = nobody(&server);
    let refusals = [
        nobody.clone(),
        nobody.with_header("X-Username", "alice"),
        nobody.with_header("X-Username", "alice").with_header("Authorization", "Bearer nonsense"),
        bare.clone(),
        bare.with_header("X-Username", ""),
        bare.with_header("X-Username", "bob"),
    ];
    for somebody in refusals {
        let answer = somebody.post("/api/rooms", json!({"type": "private", "members": ["alice"]})).await;
        refused(answer, 401, "Authentication required");
    }
    bare.with_header("X-Username", "Alice").makes_private(&["alice"]).await;
}

#[tokio::test]
async fn d000_08_public_rooms_are_made_by_admins_only() {
    let server = ryos().await;
    let (alice, admin) = (person(&server, "alice").await, named(&server.admin("root").await));
    let body = json!({"type": "public", "name": "General Chat"});
    refused(alice.post("/api/rooms", body.clone()).await, 403, "Forbidden - Only admin can create public rooms");
    assert_eq!(nobody(&server).lists().await.len(), 0);
    let room = admin.makes(body).await;
    assert_eq!(nobody(&server).lists_ids().await, [room]);
}

#[tokio::test]
async fn d000_09_the_configuration_names_admins_who_have_no_other_right() {
    let server = ryos().await;
    let ryo = person(&server, "ryo").await;
    let room = ryo.makes_public("General Chat").await;
    assert_eq!(ryo.caller.get("/v1/me").await.ok()["is_admin"], false);
    ryo.caller.delete(&format!("/v1/admin/rooms/{room}")).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    let alice = server.account("alice").await;
    let native = alice.public("Native").await;
    refused(ryo.delete(&path(&native, "")).await, 403, "Forbidden - Only admin can delete public rooms");
    let nobody_named = Setup { more: "[dialects.ryos]\nenabled = true", ..ON };
    let server = server_with(nobody_named).await;
    let answer = person(&server, "ryo").await.post("/api/rooms", json!({"type": "public", "name": "Chat"})).await;
    refused(answer, 403, "Forbidden - Only admin can create public rooms");
}

#[tokio::test]
async fn d000_10_a_private_room_needs_at_least_one_member() {
    let server = ryos().await;
    let alice = person(&server, "alice").await;
    for body in [json!({"type": "private"}), json!({"type": "private", "members": []})] {
        refused(alice.post("/api/rooms", body).await, 400, "At least one member is required for private rooms");
    }
    alice.post("/api/rooms", json!({"type": "private", "members": ["nobody"]})).await.expect_status(404);
    alice.post("/api/rooms", json!({"type": "private", "members": "bob"})).await.expect_status(400);
    assert_eq!(alice.lists().await.len(), 0);
}

#[tokio::test]
async fn d000_11_who_makes_a_private_room_is_a_member_of_it() {
    let server = ryos().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    for members in [&["bob"][..], &["alice", "bob"], &["@bob", "BOB", "alice"]] {
        let room = alice.makes_private(members).await;
        assert_eq!(alice.sees(&room).await["members"], json!(["alice", "bob"]));
        assert_eq!(bob.sees(&room).await["members"], json!(["alice", "bob"]), "nobody had to join");
    }
    let alone = alice.makes_private(&["alice"]).await;
    assert_eq!(alice.sees(&alone).await["members"], json!(["alice"]));
}

#[tokio::test]
async fn d000_12_private_names_are_generated_from_the_members() {
    let server = ryos().await;
    let (alice, _, _) = (person(&server, "alice").await, person(&server, "zoe").await, person(&server, "bob").await);
    let body = json!({"type": "private", "members": ["zoe", "bob"], "name": "Project Discussion"});
    let room = alice.makes(body).await;
    assert_eq!(alice.sees(&room).await["name"], "@alice, @bob, @zoe");
    assert_eq!(alice.caller.sees(&room).await["name"], "@alice, @bob, @zoe");
}

#[tokio::test]
async fn d000_13_a_room_is_public_or_private_and_nothing_else() {
    let server = ryos().await;
    let ryo = person(&server, "ryo").await;
    let name = "General Chat";
    for body in [json!({"name": name}), json!({"name": name, "type": "group"}), json!({"name": name, "type": null})] {
        refused(ryo.post("/api/rooms", body).await, 400, "Invalid room type");
    }
    ryo.post("/api/rooms", json!({"name": name, "type": 1})).await.expect_status(400);
}

#[tokio::test]
async fn d000_14_a_public_room_needs_a_name() {
    let server = ryos().await;
    let ryo = person(&server, "ryo").await;
    for body in [json!({"type": "public"}), json!({"type": "public", "name": " "})] {
        refused(ryo.post("/api/rooms", body).await, 400, "Room name is required for public rooms");
    }
    let long = json!({"type": "public", "name": "n".repeat(256)});
    ryo.post("/api/rooms", long).await.expect_status(400);
}

#[tokio::test]
async fn d000_15_a_new_room_is_answered_whole() {
    let server = ryos().await;
    let (ryo, alice) = (person(&server, "ryo").await, person(&server, "alice").await);
    person(&server, "bob").await;
    let body = json!({"type": "private", "members": ["alice", "bob"], "name": "Project Discussion"});
    let made = alice.post("/api/rooms", body).await.expect_status(201).json();
    let id = made["room"]["id"].clone();
    let created_at = 1_767_225_600_000_u64;
    let expected = json!({"room": {
        "id": id, "name": "@alice, @bob", "type": "private", "members": ["alice", "bob"], "createdAt": created_at, "userCount": 2
    }});
    assert_eq!(made, expected);
    let made =
        ryo.post("/api/rooms", json!({"type": "public", "name": "General Chat"})).await.expect_status(201).json();
    let id = made["room"]["id"].clone();
    let room = json!({"id": id, "name": "General Chat", "type": "public", "createdAt": created_at, "userCount": 1});
    assert_eq!(made, json!({"room": room}));
}

#[tokio::test]
async fn d000_16_one_room_is_found_by_its_id() {
    let server = ryos().await;
    let (ryo, alice) = (person(&server, "ryo").await, person(&server, "alice").await);
    let public = ryo.makes_public("General Chat").await;
    let expected = json!({"room": {
        "id": public, "name": "General Chat", "type": "public", "createdAt": 1_767_225_600_000_u64, "userCount": 1
    }});
    for somebody in [nobody(&server), alice.clone(), ryo] {
        assert_eq!(somebody.get(&path(&public, "")).await.expect_status(200).json(), expected);
    }
    for id in [MISSING, "general", "%ff", "!x:far.example"] {
        refused(alice.get(&format!("/api/rooms/{id}")).await, 404, "Room not found");
    }
}

#[tokio::test]
async fn d000_17_a_private_room_is_found_by_its_members_only() {
    let server = ryos().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let room = alice.makes_private(&["alice"]).await;
    assert_eq!(alice.sees(&room).await["id"], room);
    refused(bob.get(&path(&room, "")).await, 404, "Room not found");
    refused(nobody(&server).get(&path(&room, "")).await, 404, "Room not found");
    refused(nobody(&server).get(&path(&room, "/users")).await, 404, "Room not found");
}

#[tokio::test]
async fn d000_18_public_rooms_are_removed_by_admins_only() {
    let server = ryos().await;
    let (ryo, alice) = (person(&server, "ryo").await, person(&server, "alice").await);
    let room = ryo.makes_public("General Chat").await;
    done(alice.enters(&room, "alice").await);
    refused(alice.delete(&path(&room, "")).await, 403, "Forbidden - Only admin can delete public rooms");
    refused(nobody(&server).delete(&path(&room, "")).await, 401, "Authentication required");
    done(ryo.delete(&path(&room, "")).await);
    refused(ryo.get(&path(&room, "")).await, 404, "Room not found");
    refused(ryo.delete(&path(&room, "")).await, 404, "Room not found");
    let native = server.account("carol").await.public("Native").await;
    done(named(&server.admin("root").await).delete(&path(&native, "")).await);
    assert_eq!(nobody(&server).lists().await.len(), 0);
}

#[tokio::test]
async fn d000_19_a_member_who_removes_a_private_room_leaves_it() {
    let server = ryos().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    person(&server, "carol").await;
    let room = alice.makes_private(&["bob", "carol"]).await;
    done(bob.delete(&path(&room, "")).await);
    assert_eq!(alice.sees(&room).await["members"], json!(["alice", "carol"]));
    refused(bob.get(&path(&room, "")).await, 404, "Room not found");
}

/// Waits until a room is gone with everything in it, and holds the data folder to that.
async fn awaits_end(server: &mut TestServer, admin: &Caller, room: &str) {
    let mut looks = 0;
    loop {
        let jobs = admin.get("/v1/admin/jobs?kind=purge").await.list();
        let is_over = |job: &Value| job["state"] == "done" && job["result"]["room_id"] == room;
        if jobs.iter().any(is_over) {
            break;
        }
        looks += 1;
        assert!(looks < LOOKS_MAX, "the room stays: {jobs:?}");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    server.restart().await;
    admin.get(&format!("/v1/rooms/{room}")).await.no_such_room();
    assert_eq!(admin.get("/v1/admin/rooms").await.meta()["total"], 0);
}

#[tokio::test]
async fn d000_20_a_private_room_goes_with_its_messages_when_one_member_is_left() {
    let mut server = ryos().await;
    let admin = server.admin("root").await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let room = alice.makes_private(&["bob"]).await;
    let said = alice.caller.says(&room, "the last word").await;
    done(bob.goes(&room, "bob").await);
    // At once, whether or not everything is removed yet.
    refused(alice.get(&path(&room, "")).await, 404, "Room not found");
    alice.caller.get(&format!("/v1/rooms/{room}/events/{said}")).await.no_such_room();
    assert_eq!(alice.lists().await.len(), 0);
    awaits_end(&mut server, &admin, &room).await;
}

#[tokio::test]
async fn d000_20_it_goes_whichever_way_the_last_but_one_leaves_and_no_other_room_does() {
    let mut server = ryos().await;
    let admin = server.admin("root").await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    for way in ["leave", "kick", "ban"] {
        let room = alice.makes_private(&["bob"]).await;
        match way {
            "leave" => drop(bob.caller.leaves(&room).await.ok()),
            measure => drop(alice.caller.does(measure, &room, &bob.caller).await.ok()),
        }
        alice.caller.get(&format!("/v1/rooms/{room}")).await.no_such_room();
        awaits_end(&mut server, &admin, &room).await;
    }
    let alone = alice.makes_private(&["alice"]).await;
    assert_eq!(alice.sees(&alone).await["userCount"], 1, "a room of one stays until the next leave");
    done(alice.goes(&alone, "alice").await);
    awaits_end(&mut server, &admin, &alone).await;
    let native = alice.caller.group_with("Native", &[&bob.caller]).await;
    done(bob.goes(&native, "bob").await);
    done(alice.goes(&native, "alice").await);
    assert_eq!(alice.caller.sees(&native).await["members_count"], 0);
}

#[tokio::test]
async fn d000_20_what_a_crash_left_of_the_removal_is_done_at_the_next_start() {
    let mut server = ryos().await;
    let admin = server.admin("root").await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let room = alice.makes_private(&["bob"]).await;
    alice.caller.says(&room, "the last word").await;
    done(bob.goes(&room, "bob").await);
    // The promise is in the commit of the leave: a stop right behind it finds the room hidden, and the rest is done later.
    server.restart().await;
    refused(alice.get(&path(&room, "")).await, 404, "Room not found");
    awaits_end(&mut server, &admin, &room).await;
}

#[tokio::test]
async fn d000_21_others_cannot_remove_a_private_room() {
    let server = ryos().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let room = alice.makes_private(&["alice"]).await;
    refused(bob.delete(&path(&room, "")).await, 403, "Forbidden - You are not a member of this room");
    refused(bob.goes(&room, "bob").await, 403, "Forbidden - You are not a member of this room");
    refused(bob.delete(&path(MISSING, "")).await, 404, "Room not found");
    // Of rooms that were made otherwise nothing is told.
    let native = alice.caller.group("Native").await;
    refused(bob.delete(&path(&native, "")).await, 404, "Room not found");
    assert_eq!(alice.lists().await.len(), 2);
}

#[tokio::test]
async fn d000_22_everybody_can_join_a_public_room() {
    let server = ryos().await;
    let (ryo, alice) = (person(&server, "ryo").await, person(&server, "alice").await);
    let room = ryo.makes_public("General Chat").await;
    for _ in 0..2 {
        done(alice.enters(&room, "alice").await);
    }
    assert_eq!(alice.caller.sees(&room).await["me"]["membership"], "join");
    refused(alice.enters(MISSING, "alice").await, 404, "Room not found");
    alice.post(&path(&room, "/join"), json!({})).await.expect_status(400);
}

#[tokio::test]
async fn d000_23_nobody_joins_or_leaves_for_somebody_else() {
    let server = ryos().await;
    let (ryo, alice) = (person(&server, "ryo").await, person(&server, "alice").await);
    let room = ryo.makes_public("General Chat").await;
    let error = "Forbidden - Username does not match the authenticated user";
    refused(alice.enters(&room, "ryo").await, 403, error);
    refused(alice.goes(&room, "ryo").await, 403, error);
    assert_eq!(alice.caller.sees(&room).await["members_count"], 1);
}

#[tokio::test]
async fn d000_24_a_private_room_lets_in_nobody_who_was_not_asked() {
    let server = ryos().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let room = alice.makes_private(&["alice"]).await;
    refused(bob.enters(&room, "bob").await, 403, "Forbidden - You are not a member of this room");
    alice.caller.does("invite", &room, &bob.caller).await.ok();
    done(bob.enters(&room, "bob").await);
    assert_eq!(bob.sees(&room).await["members"], json!(["alice", "bob"]));
}

#[tokio::test]
async fn d000_25_leaving_takes_one_out_of_the_room() {
    let server = ryos().await;
    let (ryo, alice) = (person(&server, "ryo").await, person(&server, "alice").await);
    let room = ryo.makes_public("General Chat").await;
    done(alice.enters(&room, "alice").await);
    for _ in 0..2 {
        done(alice.goes(&room, "alice").await);
    }
    assert_eq!(ryo.active(&room).await, ["ryo"]);
    done(ryo.goes(&room, "ryo").await);
    assert_eq!(nobody(&server).sees(&room).await["userCount"], 0, "a public room stays");
}

#[tokio::test]
async fn d000_26_active_people_are_listed_with_the_time_at_which_they_joined() {
    let server = ryos().await;
    let (ryo, alice) = (person(&server, "ryo").await, person(&server, "alice").await);
    let room = ryo.makes_public("General Chat").await;
    server.advance(HOUR);
    done(alice.enters(&room, "alice").await);
    let start = 1_767_225_600_000_u64;
    let expected = json!({"users": [
        {"username": "alice", "joinedAt": start + 3_600_000},
        {"username": "ryo", "joinedAt": start},
    ]});
    for somebody in [nobody(&server), alice.clone()] {
        assert_eq!(somebody.get(&path(&room, "/users")).await.expect_status(200).json(), expected);
    }
    refused(alice.get(&path(MISSING, "/users")).await, 404, "Room not found");
    // Who is in a room that was made otherwise, its members are told.
    let native = alice.caller.public("Native").await;
    assert_eq!(alice.active(&native).await, ["alice"]);
    ryo.get(&path(&native, "/users")).await.expect_status(403);
    nobody(&server).get(&path(&native, "/users")).await.expect_status(404);
}

#[tokio::test]
async fn d000_27_who_asked_for_anything_within_24_hours_is_active() {
    let mut server = ryos().await;
    let (ryo, alice) = (person(&server, "ryo").await, person(&server, "alice").await);
    let room = ryo.makes_public("General Chat").await;
    done(alice.enters(&room, "alice").await);
    server.advance(23 * HOUR);
    assert_eq!(nobody(&server).active(&room).await, ["alice", "ryo"]);
    alice.sees(&room).await;
    server.advance(2 * HOUR);
    assert_eq!(nobody(&server).active(&room).await, ["alice"]);
    server.restart().await;
    assert_eq!(nobody(&server).active(&room).await, ["alice"], "a restart forgets nobody");
    server.advance(23 * HOUR);
    assert_eq!(nobody(&server).active(&room).await.len(), 0);
}

#[tokio::test]
async fn d000_28_public_rooms_count_the_active_and_private_ones_all_members() {
    let server = ryos().await;
    let (ryo, alice) = (person(&server, "ryo").await, person(&server, "alice").await);
    let public = ryo.makes_public("General Chat").await;
    done(alice.enters(&public, "alice").await);
    let private = alice.makes_private(&["ryo"]).await;
    assert_eq!(nobody(&server).sees(&public).await["userCount"], 2);
    server.advance(25 * HOUR);
    assert_eq!(nobody(&server).sees(&public).await["userCount"], 0);
    assert_eq!(nobody(&server).lists().await[0]["userCount"], 0);
    assert_eq!(alice.sees(&private).await["userCount"], 2);
    assert_eq!(alice.sees(&public).await["userCount"], 1);
}

#[tokio::test]
async fn d000_29_private_rooms_appear_to_their_members_and_public_ones_to_all() {
    let server = ryos().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    // Rooms of the native API are the same rooms.
    let public = alice.caller.public("Public").await;
    let group = alice.caller.group("Tents").await;
    let direct = alice.caller.direct(&bob.caller).await;
    alice.caller.does("invite", &group, &bob.caller).await.ok();
    let ids = |rooms: &[&String]| rooms.iter().map(|room| (*room).clone()).collect::<std::collections::BTreeSet<_>>();
    let seen = |rooms: Vec<String>| rooms.into_iter().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(seen(alice.lists_ids().await), ids(&[&public, &group, &direct]));
    assert_eq!(seen(bob.lists_ids().await), ids(&[&public, &direct]), "an invite makes no member");
    assert_eq!(alice.sees(&direct).await["name"], "@alice, @bob");
    bob.caller.leaves(&direct).await.ok();
    assert_eq!(seen(bob.lists_ids().await), ids(&[&public]));
}

#[tokio::test]
async fn d000_30_errors_are_one_text() {
    let server = ryos().await;
    let (ryo, alice) = (person(&server, "ryo").await, person(&server, "alice").await);
    let room = ryo.makes_public("General Chat").await;
    refused(alice.post("/api/rooms", json!({"type": "club"})).await, 400, "Invalid room type");
    refused(nobody(&server).post("/api/rooms", json!({})).await, 401, "Authentication required");
    refused(alice.delete(&path(&room, "")).await, 403, "Forbidden - Only admin can delete public rooms");
    refused(alice.get(&path(MISSING, "")).await, 404, "Room not found");
    // What has no status here is the nearest one.
    ryo.caller.post_nothing(&format!("/v1/rooms/{room}/archive")).await.ok();
    let frozen = alice.enters(&room, "alice").await.expect_status(403).json();
    assert!(text(&frozen["error"]).contains("archived"), "{frozen}");
}

#[tokio::test]
async fn d000_31_who_asks_too_often_is_told_to_wait() {
    let limits = "rooms_burst = 2\njoins_burst = 1\nrequests_burst = 1000";
    let server = server_with(Setup { limits, ..ON }).await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    for _ in 0..2 {
        alice.makes_private(&["alice"]).await;
    }
    let answer = alice.post("/api/rooms", json!({"type": "private", "members": ["alice"]})).await;
    assert!(answer.headers.contains_key("retry-after"));
    refused(answer, 429, "Rate limit exceeded");
    let room = bob.caller.public("Native").await;
    done(bob.enters(&room, "bob").await);
    refused(bob.enters(&room, "bob").await, 429, "Rate limit exceeded");
    let few = Setup { limits: "requests_burst = 5\nrequests_per_second = 1", ..ON };
    let server = server_with(few).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(nobody(&server).get("/api/rooms").await.status);
    }
    assert!(statuses.starts_with(&[200, 200]) && statuses.contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn d000_32_a_wrong_method_is_405_and_what_is_no_json_is_400() {
    let server = ryos().await;
    let alice = person(&server, "alice").await;
    for (method, target) in [("PUT", "/api/rooms"), ("PATCH", "/api/rooms/!a"), ("GET", "/api/rooms/!a/join")] {
        let answer = alice.send(method, target, None).await;
        assert!(answer.headers.contains_key("allow"), "{method} {target}");
        refused(answer, 405, "Method not allowed");
    }
    for body in ["{", "[]", "{\"type\": \"private\",}", "", "{\"type\": \"private\"} more"] {
        alice.send("POST", "/api/rooms", Some(body.as_bytes().to_vec())).await.expect_status(400);
    }
    refused(alice.get("/api/rooms/!a/none").await, 404, "Not found");
}

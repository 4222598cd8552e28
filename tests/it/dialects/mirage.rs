//! `/api/create_room`.

use serde_json::{Value, json};

use super::through::Through;
use crate::client::{Answer, Caller, Setup, TestServer, contract::Api, server_with, text, together};

const ON: Setup = Setup {
    listen: "",
    tenant: "",
    accounts: "registration = \"open\"",
    limits: "enabled = false",
    federation: "enabled = false",
    more: "[dialects.mirage]\nenabled = true",
};

async fn mirage() -> TestServer {
    server_with(ON).await
}

/// Somebody who sends the bare token.
fn bare(caller: &Caller) -> Through {
    let token = caller.token.clone().expect("a token");
    let nameless = Caller { token: None, ..caller.clone() };
    Through::new(nameless.with_header("Authorization", &token), Api::Mirage)
}

fn nobody(server: &TestServer) -> Through {
    Through::new(server.nameless(), Api::Mirage)
}

impl Through {
    async fn wants(&self, body: Value) -> Answer {
        self.post("/api/create_room", body).await
    }

    /// Makes a public room and answers its number.
    async fn opens(&self, name: &str) -> u64 {
        self.wants(json!({"room_name": name})).await.expect_status(201).json()["room_id"].as_u64().expect("a number")
    }

    /// Makes a private room and answers its number.
    async fn locks(&self, name: &str, password: &str) -> u64 {
        let body = json!({"room_name": name, "is_private": 1, "password": password});
        self.wants(body).await.expect_status(201).json()["room_id"].as_u64().expect("a number")
    }

    async fn comes(&self, name: &str, password: Option<&str>) -> Answer {
        self.post("/api/join_room", json!({"name": name, "password": password})).await
    }
}

#[track_caller]
fn refused(answer: Answer, status: u16, error: &str) {
    assert_eq!(answer.expect_status(status).json(), json!({"error": error}));
}

#[tokio::test]
async fn d004_01_a_room_is_made_with_a_token_with_or_without_bearer() {
    let server = mirage().await;
    let alice = server.account("alice").await;
    bare(&alice).opens("One").await;
    Through::new(alice, Api::Mirage).opens("Two").await;
}

#[tokio::test]
async fn d004_02_a_missing_or_invalid_token_is_401() {
    let server = mirage().await;
    let token = server.account("alice").await.token.expect("a token");
    for header in ["", "nonsense", "Bearer", "Bearer nonsense", "Basic YTpi", &token[..token.len() - 1]] {
        let somebody = nobody(&server).with_header("Authorization", header);
        refused(somebody.wants(json!({"room_name": "General"})).await, 401, "unauthorized");
    }
    refused(nobody(&server).wants(json!({"room_name": "General"})).await, 401, "unauthorized");
}

#[tokio::test]
async fn d004_03_a_room_needs_a_name_that_is_not_blank() {
    let server = mirage().await;
    let alice = bare(&server.account("alice").await);
    let long = "n".repeat(256);
    for body in [
        json!({}),
        json!({"room_name": ""}),
        json!({"room_name": "  "}),
        json!({"room_name": null}),
        json!({"room_name": long}),
    ] {
        refused(alice.wants(body).await, 400, "invalid fields received");
    }
    for body in ["{", "[]", "", "\"name\""] {
        let answer = alice.send("POST", "/api/create_room", Some(body.as_bytes().to_vec())).await;
        refused(answer, 400, "invalid fields received");
    }
    let made = alice.wants(json!({"room_name": "  General  "})).await.expect_status(201).json();
    assert_eq!(made["message"], "room \"General\" created");
}

#[tokio::test]
async fn d004_04_a_name_that_is_no_text_is_refused_as_such() {
    let server = mirage().await;
    let alice = bare(&server.account("alice").await);
    for name in [json!(7), json!(true), json!(["General"]), json!({"a": 1})] {
        refused(alice.wants(json!({"room_name": name})).await, 400, "room_name must be a string");
    }
}

#[tokio::test]
async fn d004_05_a_name_is_unique_among_public_and_private_rooms_of_this_api() {
    let server = mirage().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    alice.public("Native").await;
    let (native, alice, bob) = (alice.clone(), bare(&alice), bare(&bob));
    alice.opens("General").await;
    alice.locks("Secret Club", "sesame").await;
    for name in ["General", " General ", "Secret Club"] {
        for somebody in [&alice, &bob] {
            refused(somebody.wants(json!({"room_name": name})).await, 400, "room already exists");
            let private = json!({"room_name": name, "is_private": 1, "password": "p"});
            refused(somebody.wants(private).await, 400, "room already exists");
        }
    }
    bob.opens("general").await;
    bob.opens("Native").await;
    native.public("General").await;
    let tasks = (0..8).map(|_| {
        let alice = alice.clone();
        async move { alice.wants(json!({"room_name": "Race", "is_private": 1, "password": "p"})).await }
    });
    let made = together(tasks).await.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 1);
}

#[tokio::test]
async fn d004_05_a_name_is_free_again_when_its_room_is_renamed_or_gone() {
    let server = mirage().await;
    let alice = server.account("alice").await;
    let number = bare(&alice).opens("General").await;
    alice.put(&format!("/v1/rooms/{number}/name"), json!({"name": "Other"})).await.ok();
    let again = bare(&alice).opens("General").await;
    assert_ne!(number, again);
    let room = text(&alice.sees(&again.to_string()).await["id"]);
    server.admin("root").await.delete(&format!("/v1/admin/rooms/{room}")).await.expect_status(202);
    bare(&alice).opens("General").await;
}

#[tokio::test]
async fn d004_06_a_room_is_public_unless_it_is_made_private() {
    let server = mirage().await;
    let alice = server.account("alice").await;
    let by_default = bare(&alice).opens("One").await;
    let zero = bare(&alice).wants(json!({"room_name": "Two", "is_private": 0})).await.expect_status(201).json();
    let null = bare(&alice).wants(json!({"room_name": "Three", "is_private": null})).await.expect_status(201).json();
    for number in [json!(by_default), zero["room_id"].clone(), null["room_id"].clone()] {
        let room = alice.sees(&number.to_string()).await;
        assert_eq!((&room["is_public"], &room["made_through"]), (&json!(true), &json!("mirage")));
    }
    let private = bare(&alice).locks("Four", "sesame").await;
    let room = alice.sees(&private.to_string()).await;
    assert_eq!((&room["is_public"], &room["has_password"]), (&json!(false), &json!(true)));
}

#[tokio::test]
async fn d004_07_a_private_room_needs_a_password() {
    let server = mirage().await;
    let alice = bare(&server.account("alice").await);
    for password in [json!(null), json!(""), json!("  "), json!(7)] {
        let body = json!({"room_name": "Secret", "is_private": 1, "password": password});
        refused(alice.wants(body).await, 400, "invalid fields received");
    }
    refused(alice.wants(json!({"room_name": "Secret", "is_private": 1})).await, 400, "invalid fields received");
}

#[tokio::test]
async fn d004_08_the_password_of_a_public_room_means_nothing() {
    let server = mirage().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let body = json!({"room_name": "General", "is_private": 0, "password": "sesame"});
    let number = bare(&alice).wants(body).await.expect_status(201).json()["room_id"].clone();
    assert_eq!(alice.sees(&number.to_string()).await["has_password"], false);
    bare(&bob).comes("General", None).await.expect_status(200);
}

#[tokio::test]
async fn d004_09_there_are_at_most_five_public_rooms() {
    const FULL: &str = "maximum number of public rooms reached (5). Please create a private room to continue the conversation with the people you would like to";
    let server = mirage().await;
    let alice = server.account("alice").await;
    alice.public("Native").await;
    for number in 0..4 {
        bare(&alice).opens(&format!("{number}")).await;
    }
    refused(bare(&alice).wants(json!({"room_name": "Sixth"})).await, 400, FULL);
    alice.public("Sixth").await;
    refused(bare(&alice).wants(json!({"room_name": "0"})).await, 400, "room already exists");
    let two = Setup { more: "[dialects.mirage]\nenabled = true\nmax_public_rooms = 2", ..ON };
    let server = server_with(two).await;
    let bob = server.account("bob").await;
    let tasks = (0..6).map(|number| {
        let bob = bare(&bob);
        async move { bob.wants(json!({"room_name": format!("{number}")})).await }
    });
    let answers = together(tasks).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 2, "also when all ask at once");
    assert!(answers.iter().any(|answer| text_of(answer).starts_with("maximum number of public rooms reached (2).")));
}

fn text_of(answer: &Answer) -> String {
    answer.json()["error"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn d004_10_private_rooms_are_as_many_as_one_likes() {
    let server = mirage().await;
    let alice = bare(&server.account("alice").await);
    for number in 0..5 {
        alice.opens(&format!("public {number}")).await;
    }
    for number in 0..4 {
        alice.locks(&format!("private {number}"), "sesame").await;
    }
}

#[tokio::test]
async fn d004_11_a_new_room_is_answered_with_its_number() {
    let server = mirage().await;
    let alice = bare(&server.account("alice").await);
    let answer = alice.wants(json!({"room_name": "General Discussion", "is_private": 0})).await.expect_status(201);
    let number = answer.json()["room_id"].as_u64().expect("a number");
    assert_eq!(answer.json(), json!({"message": "room \"General Discussion\" created", "room_id": number}));
}

#[tokio::test]
async fn d004_12_who_makes_a_room_is_in_it() {
    let server = mirage().await;
    let alice = server.account("alice").await;
    for number in [bare(&alice).opens("General").await, bare(&alice).locks("Secret", "sesame").await] {
        let path = format!("/api/room_members/{number}");
        assert_eq!(bare(&alice).get(&path).await.expect_status(200).json(), json!({"members": ["alice"]}));
        let said = json!({"room_id": number, "message": "hello"});
        bare(&alice).post("/api/send_room_message", said).await.expect_status(200);
    }
    let own = bare(&alice).get("/api/user_rooms").await.expect_status(200).json();
    assert_eq!(own["rooms"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn d004_13_the_password_is_nowhere_in_the_data_folder() {
    let password = "a password that stands in no other text";
    let mut server = mirage().await;
    let alice = server.account("alice").await;
    bare(&alice).locks("Secret Club", password).await;
    let bob = server.account("bob").await;
    bare(&bob).comes("Secret Club", Some(password)).await.expect_status(200);
    server.stop().await;
    let written = server.written();
    assert!(!written.is_empty());
    for (file, bytes) in written {
        let is_there = bytes.windows(password.len()).any(|window| window == password.as_bytes());
        assert!(!is_there, "{}", file.display());
    }
}

#[tokio::test]
async fn d004_14_the_token_is_checked_first_then_the_fields_then_the_name_then_the_limit() {
    let more = "[dialects.mirage]\nenabled = true\nmax_public_rooms = 1";
    let server = server_with(Setup { more, ..ON }).await;
    let alice = bare(&server.account("alice").await);
    alice.opens("General").await;
    refused(nobody(&server).wants(json!({"room_name": 1})).await, 401, "unauthorized");
    refused(alice.wants(json!({"room_name": 1, "is_private": 9})).await, 400, "room_name must be a string");
    refused(alice.wants(json!({"room_name": "General", "is_private": 9})).await, 400, "invalid fields received");
    refused(alice.wants(json!({"room_name": "General"})).await, 400, "room already exists");
    let answer = alice.wants(json!({"room_name": "Other"})).await.expect_status(400);
    assert!(text_of(&answer).starts_with("maximum number of public rooms reached (1)."));
}

#[tokio::test]
async fn d004_15_private_is_one_and_public_zero_and_nothing_else() {
    let server = mirage().await;
    let alice = bare(&server.account("alice").await);
    for is_private in [json!(2), json!(-1), json!("x"), json!("1"), json!(true), json!(false), json!(0.5), json!([])] {
        let body = json!({"room_name": "General", "is_private": is_private, "password": "sesame"});
        refused(alice.wants(body).await, 400, "invalid fields received");
    }
}

#[tokio::test]
async fn d004_rooms_are_entered_by_name_and_private_ones_with_their_password() {
    let server = mirage().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let (general, secret) = (bare(&alice).opens("General").await, bare(&alice).locks("Secret Club", "sesame").await);
    let native = alice.public("Native").await;
    let bob = bare(&bob);
    let joined = bob.comes("General", None).await.expect_status(200).json();
    let expected = json!({"message": "bob joined room \"General\"", "room_id": general, "room_name": "General"});
    assert_eq!(joined, expected);
    refused(bob.comes("Secret Club", None).await, 403, "password required");
    refused(bob.comes("Secret Club", Some("wrong")).await, 403, "wrong password");
    refused(bob.comes("None", None).await, 404, "room not found");
    refused(bob.post("/api/join_room", json!({})).await, 400, "missing room name or token");
    let joined = bob.comes("Secret Club", Some("sesame")).await.expect_status(200).json();
    assert_eq!(joined["room_id"], secret);
    bob.comes("Secret Club", None).await.expect_status(200);
    bob.comes("Native", None).await.expect_status(200);
    assert_eq!(alice.sees(&native).await["members_count"], 2);
    let listed = bob.get("/api/rooms").await.expect_status(200).json();
    let names: Vec<_> = listed["rooms"].as_array().expect("a list").iter().map(|room| room["name"].clone()).collect();
    assert_eq!(names, ["General", "Native"]);
    assert!(listed["rooms"].as_array().expect("a list").iter().all(|room| room["joined"] == true), "{listed}");
    let carol = bare(&server.account("carol").await);
    for guess in 0..5 {
        refused(carol.comes("Secret Club", Some(&format!("{guess}"))).await, 403, "wrong password");
    }
    carol.comes("Secret Club", Some("sesame")).await.expect_status(429);
    let dan = server.account("dan").await;
    alice.does("ban", &general.to_string(), &dan).await.ok();
    bare(&dan).comes("General", None).await.expect_status(403);
}

#[tokio::test]
async fn d004_members_talk_and_others_are_told_that_they_are_outside() {
    let server = mirage().await;
    let (alice, bob) = (bare(&server.account("alice").await), bare(&server.account("bob").await));
    let number = alice.locks("Secret Club", "sesame").await;
    let said = json!({"room_id": number, "message": "Hello everyone!"});
    assert_eq!(
        alice.post("/api/send_room_message", said.clone()).await.expect_status(200).json(),
        json!({"message": "sent"})
    );
    let read = format!("/api/get_room_messages?room_id={number}");
    let expected = json!({"messages": [
        {"username": "alice", "message": "Hello everyone!", "created_at": 1_767_225_600.0, "room_id": number}
    ]});
    assert_eq!(alice.get(&read).await.expect_status(200).json(), expected);
    for room in [number, 999_999] {
        let said = json!({"room_id": room, "message": "let me in"});
        refused(bob.post("/api/send_room_message", said).await, 403, "you are not in this room");
        let read = format!("/api/get_room_messages?room_id={room}");
        refused(bob.get(&read).await, 403, "you are not in this room");
        refused(bob.get(&format!("/api/room_members/{room}")).await, 404, "no members in this room");
    }
    for body in
        [json!({}), json!({"room_id": number}), json!({"room_id": number, "message": " "}), json!({"message": "a"})]
    {
        refused(alice.post("/api/send_room_message", body).await, 400, "missing fields");
    }
    refused(alice.get("/api/get_room_messages").await, 400, "missing token or room id");
    refused(alice.get("/api/get_room_messages?room_id=x").await, 400, "missing token or room id");
    refused(nobody(&server).get(&read).await, 401, "unauthorized");
    refused(alice.send("GET", "/api/create_room", None).await, 405, "method not allowed");
}

//! `/api/v1/rooms`.

use serde_json::{Value, json};

use super::through::Through;
use crate::client::{Answer, Caller, PASSWORD, Setup, TestServer, contract::Api, png, server_with, text};

const ON: Setup = Setup {
    listen: "",
    tenant: "",
    accounts: "registration = \"open\"",
    limits: "enabled = false",
    federation: "enabled = false",
    more: "[dialects.virola]\nenabled = true",
};
/// When the clock of a test starts.
const START: u64 = 1_767_225_600_000;
const WRONG_BEARER: &str = "Wrong Bearer, please renew Web API Access Token";

async fn virola() -> TestServer {
    server_with(ON).await
}

/// Logs in with a password; from then on there is only the cookie.
async fn logged_in(server: &TestServer, name: &str) -> Through {
    let body = json!({"userName": name, "password": PASSWORD});
    let answer = nobody(server).post("/api/v1/login", body).await.expect_status(200);
    let cookie = answer.headers["set-cookie"].split(';').next().expect("a cookie").to_owned();
    nobody(server).with_header("Cookie", &cookie)
}

fn nobody(server: &TestServer) -> Through {
    Through::new(server.nameless(), Api::Virola)
}

/// The same person with the token of the native API.
fn bearer(caller: &Caller) -> Through {
    Through::new(caller.clone(), Api::Virola)
}

impl Through {
    async fn numbered(&self) -> Vec<Value> {
        let listed = self.get("/api/v1/rooms").await.expect_status(200).json();
        listed["rooms"].as_array().cloned().expect("a list")
    }

    /// The only room that the caller is in.
    async fn only(&self) -> Value {
        let rooms = self.numbered().await;
        assert_eq!(rooms.len(), 1, "{rooms:?}");
        rooms[0].clone()
    }
}

#[track_caller]
fn refused(answer: Answer, status: u16) -> String {
    let body = answer.expect_status(status).json();
    assert_eq!(body["httpStatusCode"], status);
    text(&body["errorText"])
}

#[tokio::test]
async fn d001_01_the_list_needs_a_valid_session() {
    let server = virola().await;
    let nonsense = [
        nobody(&server),
        nobody(&server).with_header("Cookie", "__Host-yurt=nonsense"),
        nobody(&server).with_header("Cookie", "other=1"),
        nobody(&server).with_header("Authorization", "Bearer nonsense"),
    ];
    for somebody in nonsense {
        let answer = somebody.get("/api/v1/rooms").await.expect_status(401);
        assert_eq!(answer.json(), json!({"errorText": WRONG_BEARER, "httpStatusCode": 401}));
    }
}

#[tokio::test]
async fn d001_02_the_text_for_a_bad_token_is_this_one() {
    let server = virola().await;
    let alice = bearer(&server.account("alice").await);
    assert_eq!(alice.numbered().await.len(), 0, "a good token is taken as well");
    alice.caller.post_nothing("/v1/auth/logout").await.ok();
    assert_eq!(refused(alice.get("/api/v1/rooms").await, 401), WRONG_BEARER);
    assert_eq!(refused(alice.get("/api/v1/status").await, 401), WRONG_BEARER);
}

#[tokio::test]
async fn d001_03_the_cookie_is_secure_and_out_of_reach_of_scripts() {
    let server = virola().await;
    server.account("alice").await;
    let body = json!({"userName": "alice", "password": PASSWORD});
    let answer = nobody(&server).post("/api/v1/login", body).await.expect_status(200);
    let cookie = &answer.headers["set-cookie"];
    for attribute in ["Secure", "HttpOnly", "Path=/", "SameSite=Lax"] {
        assert!(cookie.split(';').any(|part| part.trim() == attribute), "{attribute}: {cookie}");
    }
    assert!(cookie.starts_with("__Host-"), "{cookie}");
    let session = answer.json();
    assert!(session["userId"].is_u64() && session["userSessionId"].is_string(), "{session}");
    for body in [json!({"userName": "alice", "password": "wrong"}), json!({"userName": "bob", "password": "wrong"})] {
        let text = refused(nobody(&server).post("/api/v1/login", body).await, 401);
        assert_eq!(text, "The username or password is invalid.");
    }
    let missing = refused(nobody(&server).post("/api/v1/login", json!({"userName": "alice"})).await, 400);
    assert!(missing.contains("password"), "{missing}");
}

#[tokio::test]
async fn d001_03_a_session_ends_with_the_log_out() {
    let server = virola().await;
    server.account("alice").await;
    let alice = logged_in(&server, "alice").await;
    let status = alice.get("/api/v1/status").await.expect_status(200).json();
    assert!(status["userId"].is_u64(), "{status}");
    assert_eq!(alice.send("POST", "/api/v1/logout", None).await.status, 403, "a page of another origin cannot log out");
    let answer =
        alice.with_header("Origin", &server.origin()).send("POST", "/api/v1/logout", None).await.expect_status(200);
    assert!(answer.headers["set-cookie"].contains("Max-Age=0"));
    refused(alice.get("/api/v1/rooms").await, 401);
}

#[tokio::test]
async fn d001_04_nothing_but_the_cookie_is_needed() {
    let server = virola().await;
    let native = server.account("alice").await;
    native.group("Tents").await;
    let alice = logged_in(&server, "alice").await;
    assert_eq!(alice.caller.token, None);
    assert_eq!(alice.only().await["displayName"], "Tents");
}

#[tokio::test]
async fn d001_05_the_list_carries_its_status() {
    let server = virola().await;
    let alice = bearer(&server.account("alice").await);
    assert_eq!(alice.get("/api/v1/rooms").await.expect_status(200).json(), json!({"httpStatusCode": 200, "rooms": []}));
}

#[tokio::test]
async fn d001_06_a_room_has_these_fields() {
    let server = virola().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Admin", &[&bob]).await;
    server.advance(std::time::Duration::from_secs(5));
    let event = alice.says(&room, "hello").await;
    alice.put(&format!("/v1/rooms/{room}/pin"), json!({})).await.ok();
    let alice = bearer(&alice);
    let listed = alice.only().await;
    let number = listed["lastMessage"]["messageId"].as_u64().expect("a number");
    let room_id = listed["roomId"].as_u64().expect("a number");
    let expected = json!({
        "createdUtc": START, "displayName": "Admin", "lastModifiedUtc": START, "roomId": room_id, "roomType": "Private",
        "unreadMessageCount": 0, "isArchived": false, "isModerator": true, "isPinned": true,
        "lastMessage": {"createdUtc": START + 5_000, "messageId": number}
    });
    assert_eq!(listed, expected);
    let theirs = bearer(&bob).only().await;
    let expected = json!({
        "createdUtc": START, "displayName": "Admin", "lastModifiedUtc": START, "roomId": room_id, "roomType": "Private",
        "unreadMessageCount": 1, "isArchived": false, "isModerator": false, "isPinned": false,
        "lastMessage": {"createdUtc": START + 5_000, "messageId": number}
    });
    assert_eq!(theirs, expected);
    let messages = bearer(&bob).get(&format!("/api/v1/rooms/{room_id}/messages")).await.expect_status(200).json();
    assert_eq!(
        (&messages["messages"][0]["messageId"], &messages["messages"][0]["text"]),
        (&json!(number), &json!("hello"))
    );
    server.advance(std::time::Duration::from_secs(5));
    alice.caller.put(&format!("/v1/rooms/{room}/name"), json!({"name": "Renamed"})).await.ok();
    let listed = alice.only().await;
    assert_eq!((&listed["lastModifiedUtc"], &listed["createdUtc"]), (&json!(START + 10_000), &json!(START)));
    assert_eq!(listed["lastMessage"]["messageId"], number, "{event} is still the last message");
}

#[tokio::test]
async fn d001_07_numbers_stay_the_same_and_are_the_same_for_all() {
    let mut server = virola().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let (one, two) = (alice.group_with("One", &[&bob]).await, alice.group("Two").await);
    alice.says(&one, "hello").await;
    let by_name =
        |rooms: Vec<Value>, name: &str| rooms.into_iter().find(|room| room["displayName"] == name).expect("the room");
    let first = by_name(bearer(&alice).numbered().await, "One");
    let second = by_name(bearer(&alice).numbered().await, "Two");
    assert_ne!(first["roomId"], second["roomId"]);
    assert_eq!(by_name(bearer(&bob).numbered().await, "One")["roomId"], first["roomId"]);
    server.restart().await;
    let again = by_name(bearer(&alice).numbered().await, "One");
    assert_eq!((&again["roomId"], &again["lastMessage"]), (&first["roomId"], &first["lastMessage"]));
    // The native API knows the numbers too.
    assert_eq!(alice.get(&format!("/v1/rooms/{two}/number")).await.ok()["number"], second["roomId"]);
    assert_eq!(alice.sees(&second["roomId"].to_string()).await["id"], two);
    bob.get(&format!("/v1/rooms/{}", second["roomId"])).await.no_such_room();
    alice.get("/v1/rooms/999999").await.no_such_room();
    let three = alice.group("Three").await;
    let third = alice.get(&format!("/v1/rooms/{three}/number")).await.ok()["number"].clone();
    assert!(third != first["roomId"] && third != second["roomId"]);
}

#[tokio::test]
async fn d001_08_a_room_is_private_or_public() {
    let server = virola().await;
    let alice = server.account("alice").await;
    alice.public("Welcome!").await;
    let (server_two, kind) = (virola().await, "Public");
    assert_eq!(bearer(&alice).only().await["roomType"], kind);
    let bob = server_two.account("bob").await;
    bob.group("Admin").await;
    assert_eq!(bearer(&bob).only().await["roomType"], "Private");
}

#[tokio::test]
async fn d001_09_the_list_holds_what_the_caller_is_in_and_nothing_else() {
    let server = virola().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group("Tents").await;
    alice.public("Market").await;
    alice.does("invite", &room, &bob).await.ok();
    assert_eq!(bearer(&bob).numbered().await.len(), 0);
    bob.joins(&room).await.ok();
    assert_eq!(bearer(&bob).only().await["displayName"], "Tents");
    bob.leaves(&room).await.ok();
    assert_eq!(bearer(&bob).numbered().await.len(), 0);
    let direct = alice.direct(&bob).await;
    assert_eq!(
        bearer(&bob).only().await["displayName"],
        "alice",
        "a direct message is called by the other one: {direct}"
    );
}

#[tokio::test]
async fn d001_10_messages_after_the_read_marker_are_unread() {
    let server = virola().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let mut last = String::new();
    for number in 0..3 {
        last = alice.says(&room, &format!("{number}")).await;
    }
    assert_eq!(bearer(&bob).only().await["unreadMessageCount"], 3);
    bob.put(&format!("/v1/rooms/{room}/read"), json!({"event_id": last})).await.ok();
    assert_eq!(bearer(&bob).only().await["unreadMessageCount"], 0);
    alice.says(&room, "more").await;
    assert_eq!(bearer(&bob).only().await["unreadMessageCount"], 1);
}

#[tokio::test]
async fn d001_11_archived_rooms_stay_in_the_list() {
    let server = virola().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    assert_eq!(bearer(&alice).only().await["isArchived"], false);
    alice.post_nothing(&format!("/v1/rooms/{room}/archive")).await.ok();
    let listed = bearer(&alice).only().await;
    assert_eq!(listed["isArchived"], true);
    let path = format!("/api/v1/rooms/{}/text-messages", listed["roomId"]);
    assert!(refused(bearer(&alice).post(&path, json!({"content": "hello"})).await, 409).contains("archived"));
    alice.post_nothing(&format!("/v1/rooms/{room}/close")).await.ok();
    assert_eq!(bearer(&alice).only().await["isArchived"], true);
}

#[tokio::test]
async fn d001_12_who_has_level_50_is_a_moderator() {
    let server = virola().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    for (level, is_moderator) in [(0, false), (49, false), (50, true), (99, true)] {
        alice.gives_level(&room, &bob, level).await.ok();
        assert_eq!(bearer(&bob).only().await["isModerator"], is_moderator, "{level}");
    }
    assert_eq!(bearer(&alice).only().await["isModerator"], true);
}

#[tokio::test]
async fn d001_13_a_pin_is_the_caller_s_own() {
    let server = virola().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    alice.put(&format!("/v1/rooms/{room}/pin"), json!({})).await.ok();
    assert_eq!(bearer(&alice).only().await["isPinned"], true);
    assert_eq!(bearer(&bob).only().await["isPinned"], false);
    alice.delete(&format!("/v1/rooms/{room}/pin")).await.ok();
    assert_eq!(bearer(&alice).only().await["isPinned"], false);
}

#[tokio::test]
async fn d001_14_the_newest_message_is_found_whatever_came_after_it() {
    let server = virola().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group("Tents").await;
    assert_eq!(bearer(&alice).only().await["lastMessage"], Value::Null);
    alice.says(&room, "first").await;
    let first = bearer(&alice).only().await["lastMessage"].clone();
    server.advance(std::time::Duration::from_secs(1));
    alice.says(&room, "second").await;
    let second = bearer(&alice).only().await["lastMessage"].clone();
    assert!(second["messageId"].as_u64() > first["messageId"].as_u64());
    assert_eq!(second["createdUtc"], START + 1_000);
    for number in 0..30 {
        alice.put(&format!("/v1/rooms/{room}/topic"), json!({"topic": format!("{number}")})).await.ok();
    }
    assert_eq!(bearer(&alice).only().await["lastMessage"], second, "changes of the room are no messages");
    // In a room whose history begins with one's own join nothing is told of before.
    let whispers = alice.creates(json!({"room_type": "incognito"})).await;
    alice.says(&whispers, "before").await;
    alice.brings_in(&whispers, &bob).await;
    assert_eq!(bearer(&bob).only().await["lastMessage"], Value::Null);
    bob.says(&whispers, "after").await;
    assert!(bearer(&bob).only().await["lastMessage"]["messageId"].is_u64());
}

#[tokio::test]
async fn d001_15_every_room_is_listed_once_whatever_the_order() {
    let server = virola().await;
    let alice = server.account("alice").await;
    for number in 0..60 {
        alice.group(&format!("{number}")).await;
    }
    let mut names: Vec<String> =
        bearer(&alice).numbered().await.iter().map(|room| text(&room["displayName"])).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 60);
}

#[tokio::test]
async fn d001_16_the_picture_is_answered_as_it_was_uploaded() {
    let server = virola().await;
    let alice = server.account("alice").await;
    let image = png(8, 8);
    let upload = alice.with_header("content-type", "image/png");
    let mxc = upload.send("POST", "/v1/media?name=our%20camp.png", Some(image.clone())).await.created()["mxc"].clone();
    alice.creates(json!({"room_type": "group", "name": "Tents", "avatar_url": mxc})).await;
    let cookie = logged_in(&server, "alice").await;
    let path = format!("/api/v1/rooms/{}/avatar.jpg", cookie.only().await["roomId"]);
    let answer = cookie.get(&path).await.expect_status(200);
    assert_eq!(answer.body, image);
    assert_eq!(answer.headers["content-length"], image.len().to_string());
    assert_eq!(answer.headers["content-type"], "image/png");
    assert!(answer.headers["content-disposition"].contains("our%20camp.png"), "{:?}", answer.headers);
}

#[tokio::test]
async fn d001_17_a_picture_that_is_not_there_is_told_in_json() {
    let server = virola().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group("Tents").await;
    let path = format!("/api/v1/rooms/{}/avatar.jpg", bearer(&alice).only().await["roomId"]);
    refused(bearer(&alice).get(&path).await, 404);
    alice.sets_avatar(&room, png(4, 4)).await.ok();
    bearer(&alice).get(&path).await.expect_status(200);
    assert_eq!(refused(nobody(&server).get(&path).await, 401), WRONG_BEARER);
    refused(bearer(&bob).get(&path).await, 404);
    for room in ["999999", "0", "x", "-1"] {
        refused(bearer(&alice).get(&format!("/api/v1/rooms/{room}/avatar.jpg")).await, 404);
    }
}

#[tokio::test]
async fn d001_18_every_error_carries_its_status() {
    let server = virola().await;
    let alice = bearer(&server.account("alice").await);
    alice.caller.group("Tents").await;
    let room = alice.only().await["roomId"].clone();
    refused(alice.get("/api/v1/none").await, 404);
    refused(alice.send("PUT", "/api/v1/rooms", None).await, 405);
    refused(alice.get(&format!("/api/v1/rooms/{room}/messages?limit=x")).await, 400);
    refused(alice.get(&format!("/api/v1/rooms/{room}/messages?cursor=999")).await, 404);
    refused(alice.post(&format!("/api/v1/rooms/{room}/text-messages"), json!({"content": ""})).await, 400);
    refused(alice.send("POST", &format!("/api/v1/rooms/{room}/text-messages"), Some(b"{".to_vec())).await, 400);
    let text = alice.with_header("Content-Type", "text/plain");
    refused(text.post(&format!("/api/v1/rooms/{room}/text-messages"), json!({"content": "a"})).await, 415);
    refused(
        alice.post(&format!("/api/v1/rooms/{room}/text-messages"), json!({"content": "a".repeat(70_000)})).await,
        413,
    );
}

#[tokio::test]
async fn d001_messages_are_sent_and_read_by_their_numbers() {
    let server = virola().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let (alice, bob) = (bearer(&alice), bearer(&bob));
    let number = alice.only().await["roomId"].clone();
    let send = format!("/api/v1/rooms/{number}/text-messages");
    let mut ids = Vec::new();
    for text in ["one", "two", "three", "four"] {
        let sent = alice.post(&send, json!({"content": text})).await.expect_status(200).json();
        assert_eq!((&sent["roomId"], &sent["httpStatusCode"]), (&number, &json!(200)));
        ids.push(sent["messageId"].as_u64().expect("a number"));
        alice.caller.put(&format!("/v1/rooms/{room}/topic"), json!({"topic": text})).await.ok();
    }
    let heard = async |query: String| {
        let page = bob.get(&format!("/api/v1/rooms/{number}/messages{query}")).await.expect_status(200).json();
        assert_eq!((&page["roomId"], &page["httpStatusCode"]), (&number, &json!(200)));
        page["messages"].as_array().expect("a list").iter().map(|message| text(&message["text"])).collect::<Vec<_>>()
    };
    assert_eq!(heard(String::new()).await, ["one", "two", "three", "four"]);
    assert_eq!(heard("?limit=2".to_owned()).await, ["three", "four"]);
    assert_eq!(heard("?direction=forward&limit=2".to_owned()).await, ["one", "two"]);
    assert_eq!(heard(format!("?cursor={}&limit=2&direction=backward", ids[2])).await, ["two", "three"]);
    assert_eq!(heard(format!("?cursor={}&direction=forward", ids[1])).await, ["two", "three", "four"]);
    let page = bob.get(&format!("/api/v1/rooms/{number}/messages?cursor={}&limit=1", ids[0])).await.json();
    let mine = alice.get("/api/v1/status").await.json()["userId"].clone();
    let expected = json!({"httpStatusCode": 200, "roomId": number, "messages": [{
        "attachments": [], "commentCount": 0, "createdUtc": START, "lastEditedUtc": START, "lastModifiedUtc": START,
        "markupType": "TextPlain", "messageId": ids[0], "messageType": "Regular", "parentMessageId": 0, "priority": "Normal",
        "roomId": number, "text": "one", "userId": mine
    }]});
    assert_eq!(page, expected);
    let events = alice.caller.timeline(&room).await;
    let second = events.iter().find(|event| event["content"]["body"] == "two").expect("the message");
    let redact = format!("/v1/rooms/{room}/events/{}/redact", text(&second["event_id"]));
    alice.caller.post(&redact, json!({})).await.created();
    assert_eq!(heard(String::new()).await, ["one", "three", "four"], "what was taken back is not shown");
    let carol = bearer(&server.account("carol").await);
    refused(carol.get(&format!("/api/v1/rooms/{number}/messages")).await, 404);
    refused(carol.post(&send, json!({"content": "hello"})).await, 404);
}

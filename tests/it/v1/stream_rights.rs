//! Who may listen to what, and that the right to it ends at once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Caller, Heard, PASSWORD, Setup, TestServer, WAYS, Way, server, server_with};

/// Alice and Bob in two rooms of Alice's.
async fn pair(server: &TestServer) -> (Caller, Caller, [String; 2]) {
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let rooms = [alice.group_with("Tents", &[&bob]).await, alice.group_with("Ropes", &[&bob]).await];
    (alice, bob, rooms)
}

/// Somebody with one more session of their own.
async fn other_device(server: &TestServer, caller: &Caller) -> Caller {
    let name = caller.id.trim_start_matches('@').split(':').next().expect("a name").to_owned();
    let body = json!({"username": name, "password": PASSWORD});
    server.caller(&server.nameless().post("/v1/auth/login", body).await.ok())
}

#[tokio::test]
async fn a_stream_is_for_who_has_a_token() {
    let server = server().await;
    let nameless = server.nameless();
    nameless.get("/v1/stream").await.refused(401, "SW_AUTH_INVALID_TOKEN");
    for way in WAYS {
        assert_eq!(nameless.with_token("yurt.main.x.y").tries_to_listen(way, None).await.err(), Some(401));
    }
}

#[tokio::test]
async fn a_socket_may_say_in_its_first_frame_who_it_is() {
    let server = server().await;
    let (alice, bob, [room, _]) = pair(&server).await;
    let mut ear = server.nameless().tries_to_listen(Way::Socket, None).await.expect("a socket");
    ear.sends(&json!({"token": bob.token}).to_string()).await;
    assert_eq!(ear.frame().await["type"], "resync");
    let said = alice.says(&room, "hello").await;
    ear.until_event(&said).await;
    let mut again = server.nameless().tries_to_listen(Way::Socket, Some(&ear.cursor)).await.expect("a socket");
    again.sends(&json!({"token": bob.token}).to_string()).await;
    let said = alice.says(&room, "hello again").await;
    assert_eq!(again.until_event(&said).await.len(), 1);
    let cases = [
        (json!({"token": "yurt.main.x.y"}).to_string(), 4401),
        (json!({"token": "yurt.other.x.y"}).to_string(), 4401),
        (json!({"token": bob.token, "x": 1}).to_string(), 4400),
        ("hello".to_owned(), 4400),
        ("x".repeat(5_000), 0),
    ];
    for (first, code) in cases {
        let mut ear = server.nameless().tries_to_listen(Way::Socket, None).await.expect("a socket");
        ear.sends(&first).await;
        let ended = ear.end().await;
        assert!(code == 0 || ended == Some(code), "{first}: {ended:?}");
    }
    for caller in [&server.nameless(), &bob] {
        let refused = caller.tries_to_listen(Way::Socket, Some("x")).await.err();
        assert_eq!(refused, Some(400), "what is no cursor is refused before there is a socket");
    }
    let mut ear = bob.listens(Way::Socket).await;
    ear.sends("anything more").await;
    assert_eq!(ear.end().await, Some(4400));
}

#[tokio::test]
async fn a_cookie_opens_a_socket_only_from_our_own_pages() {
    let server = server().await;
    server.account("alice").await;
    let body = json!({"username": "alice", "password": PASSWORD, "cookie": true});
    let answer = server.nameless().post("/v1/auth/login", body).await;
    let cookie = answer.headers["set-cookie"].split(';').next().expect("a cookie").to_owned();
    let browser = server.nameless().with_header("Cookie", &cookie);
    assert_eq!(browser.tries_to_listen(Way::Socket, None).await.err(), Some(403));
    let elsewhere = browser.with_header("Origin", "https://elsewhere.example");
    assert_eq!(elsewhere.tries_to_listen(Way::Socket, None).await.err(), Some(403));
    browser.with_header("Origin", &server.origin()).listens(Way::Socket).await;
    browser.listens(Way::Events).await;
}

#[tokio::test]
async fn a_revoked_session_hears_nothing_more_and_the_others_go_on() {
    let server = server().await;
    let (alice, bob, [room, _]) = pair(&server).await;
    for way in WAYS {
        let phone = other_device(&server, &bob).await;
        let (mut lost, mut kept) = (phone.listens(way).await, bob.listens(way).await);
        phone.post_nothing("/v1/auth/logout").await.ok();
        let said = alice.says(&room, "hello").await;
        match lost.hears().await {
            Heard::End(code) => assert_eq!(code, (way == Way::Socket).then_some(4401)),
            Heard::Frame(frame) => panic!("a revoked session heard {frame}"),
        }
        kept.until_event(&said).await;
    }
}

#[tokio::test]
async fn all_streams_of_an_account_end_with_its_sessions() {
    let server = server().await;
    let (_, bob, _) = pair(&server).await;
    let mut ears = [bob.listens(Way::Events).await, bob.listens(Way::Socket).await];
    let path = format!("/v1/admin/participants/{}/password", bob.id);
    server.admin("root").await.put(&path, json!({"password": "another one"})).await.ok();
    assert_eq!((ears[0].end().await, ears[1].end().await), (None, Some(4401)));
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let setup = Setup { accounts: "registration = \"open\"\ntoken_lifetime_s = 60", ..Setup::default() };
    let server = server_with(setup).await;
    let alice = server.account("alice").await;
    let mut ears = [alice.listens(Way::Events).await, alice.listens(Way::Socket).await];
    server.advance(Duration::from_secs(61));
    assert_eq!((ears[0].end().await, ears[1].end().await), (None, Some(4401)));
}

#[tokio::test]
async fn who_leaves_or_is_removed_hears_of_it_and_nothing_behind_it() {
    let server = server().await;
    let (alice, bob, [room, other]) = pair(&server).await;
    for way in WAYS {
        for action in ["leave", "kick", "ban"] {
            let mut ear = bob.listens(way).await;
            match action {
                "leave" => drop(bob.leaves(&room).await.ok()),
                action => drop(alice.does(action, &room, &bob).await.ok()),
            }
            alice.says(&room, "behind Bob's back").await;
            let last = alice.says(&other, "the last").await;
            let frames = ear.until_event(&last).await;
            let membership = if action == "ban" { "ban" } else { "leave" };
            assert_eq!((&frames[0]["type"], &frames[0]["membership"]), (&json!("room"), &json!(membership)));
            assert_eq!(frames[1]["event"]["content"]["membership"], membership);
            assert_eq!(frames.len(), 3, "{frames:?}");
            if action == "ban" {
                alice.does("unban", &room, &bob).await.ok();
            }
            alice.brings_in(&room, &bob).await;
        }
    }
}

#[tokio::test]
async fn only_members_hear_a_room_and_from_their_join_on() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let (open, own) = (alice.public("Open").await, bob.group("Own").await);
    bob.brings_in(&own, &carol).await;
    let (mut bobs, mut carols) = (bob.listens(Way::Socket).await, carol.listens(Way::Events).await);
    alice.says(&open, "before").await;
    bob.joins(&open).await.ok();
    let after = alice.says(&open, "after").await;
    let mut frames = bobs.until_event(&after).await;
    frames.retain(|frame| frame["type"] != "presence");
    assert_eq!((&frames[0]["type"], &frames[0]["room"]["id"]), (&json!("room"), &json!(open)));
    let types: Vec<&Value> = frames[1..].iter().map(|frame| &frame["event"]["type"]).collect();
    assert_eq!(types, [&json!("m.room.member"), &json!("m.room.message")]);
    let last = bob.says(&own, "the last").await;
    let heard = carols.until_event(&last).await;
    assert!(heard.iter().all(|frame| frame["room_id"] == own.as_str()), "{heard:?}");
}

#[tokio::test]
async fn an_account_has_so_many_streams_and_no_more() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let mut ears = Vec::new();
    for number in 0..32 {
        ears.push(alice.listens(WAYS[number % 2]).await);
    }
    alice.get("/v1/stream").await.refused(429, "SW_RATE_LIMIT_EXCEEDED");
    assert_eq!(alice.tries_to_listen(Way::Socket, None).await.err(), Some(429));
    bob.listens(Way::Socket).await;
}

#[tokio::test]
async fn all_streams_end_when_the_server_stops() {
    let mut server = server().await;
    let alice = server.account("alice").await;
    let mut ears = [alice.listens(Way::Events).await, alice.listens(Way::Socket).await];
    server.stop().await;
    assert_eq!((ears[0].end().await, ears[1].end().await), (None, Some(1001)));
}

#[tokio::test]
async fn who_came_and_went_in_one_breath_hears_nothing_from_before() {
    let server = server().await;
    let (alice, mallory) = (server.account("alice").await, server.account("mallory").await);
    let room = alice.public("Tents").await;
    let path = format!("/v1/rooms/{room}/state/m.room.history_visibility");
    alice.put(&path, json!({"history_visibility": "joined"})).await.created();
    let beginning = mallory.listens(Way::Events).await.cursor;
    alice.says(&room, "before").await;
    let own = mallory.group("Own").await;
    for _ in 0..20 {
        // Both are often in one group of commits; whether the leave comes first does not matter.
        let (come, go) = (mallory.clone(), mallory.clone());
        let (join, leave) = (format!("/v1/rooms/{room}/join"), format!("/v1/rooms/{room}/leave"));
        tokio::join!(async { come.post_nothing(&join).await }, async { go.post_nothing(&leave).await });
    }
    let mark = mallory.says(&own, "a mark").await;
    let heard = mallory.listens_from(Way::Events, &beginning).await.until_event(&mark).await;
    assert!(heard.iter().all(|frame| frame["event"]["content"]["body"] != "before"), "{heard:?}");
}

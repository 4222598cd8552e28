//! Live streams: the same frames on both ways, none lost, none repeated; who types, who is active.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Caller, Ear, TestServer, WAYS, Way, encoded, server, text, together};

/// Alice and Bob in a room of Alice's.
async fn pair(server: &TestServer) -> (Caller, Caller, String) {
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    (alice, bob, room)
}

/// Lets Bob speak, and answers what Alice heard up to there.
async fn up_to_a_word_of(bob: &Caller, room: &str, ear: &mut Ear) -> Vec<Value> {
    let word = bob.says(room, "a mark").await;
    ear.until_event(&word).await
}

fn names(frames: &[Value]) -> Vec<String> {
    frames.iter().map(|frame| text(&frame["type"])).collect()
}

fn is_passing(frame: &Value) -> bool {
    frame["type"] == "typing" || frame["type"] == "presence"
}

#[tokio::test]
async fn both_ways_give_the_same_frames() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let mut ears = [alice.listens(Way::Events).await, alice.listens(Way::Socket).await];
    let path = |rest: &str| format!("/v1/rooms/{room}/{rest}");
    let named = json!({"body": "@bob felt?", "txn_id": "t1"});
    alice.post(&path("messages"), named).await.created();
    let mistake = bob.says(&room, "mistake").await;
    bob.post_nothing(&path(&format!("events/{mistake}/redact"))).await.created();
    alice.put(&path("topic"), json!({"topic": "Wool"})).await.ok();
    alice.put(&path("mute"), json!({"duration_ms": -1})).await.ok();
    alice.put(&path("read"), json!({"event_id": mistake})).await.ok();
    let mut heard = [Vec::new(), Vec::new()];
    // What a frame says of the present is looked at before that changes.
    for (ear, heard) in ears.iter_mut().zip(&mut heard) {
        heard.extend(ear.until(|frame| frame["type"] == "read_marker").await);
    }
    let other = bob.group_with("Ropes", &[]).await;
    bob.does("invite", &other, &alice).await.ok();
    for (ear, heard) in ears.iter_mut().zip(&mut heard) {
        heard.extend(ear.until(|frame| frame["type"] == "room").await);
    }
    alice.leaves(&other).await.ok();
    let last = bob.says(&room, "the last").await;
    for (ear, heard) in ears.iter_mut().zip(&mut heard) {
        heard.extend(ear.until_event(&last).await);
    }
    assert_eq!(heard[0], heard[1]);
    let expected =
        ["event", "event", "event", "event", "room", "read_marker", "room", "room", "event"].map(str::to_owned);
    assert_eq!(names(&heard[0]), expected);
    assert_eq!(
        (&heard[0][0]["event"]["transaction_id"], &heard[0][1]["event"]["transaction_id"]),
        (&json!("t1"), &json!(null))
    );
    assert_eq!(heard[0][4]["room"]["me"]["muted_until"], "9999-12-31T23:59:59.999Z");
    assert_eq!((&heard[0][5]["event_id"], &heard[0][5]["unread_count"]), (&json!(mistake), &json!(0)));
    assert_eq!((&heard[0][6]["room_id"], &heard[0][6]["membership"]), (&json!(other), &json!("invite")));
    assert_eq!((&heard[0][7]["membership"], &heard[0][7]["room"]), (&json!("leave"), &json!(null)));
}

#[tokio::test]
async fn an_event_is_what_the_timeline_shows() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let (mut alices, mut bobs) = (alice.listens(Way::Socket).await, bob.listens(Way::Socket).await);
    let sent = json!({"body": "hello", "txn_id": "mine"});
    let sent = text(&alice.post(&format!("/v1/rooms/{room}/messages"), sent).await.created()["event_id"]);
    for (caller, ear) in [(&alice, &mut alices), (&bob, &mut bobs)] {
        let frame = ear.until_event(&sent).await.pop().expect("the event");
        assert_eq!(frame["event"], caller.get(&format!("/v1/rooms/{room}/events/{sent}")).await.ok());
        assert_eq!(frame["event"]["transaction_id"].is_string(), caller.id == alice.id);
    }
}

#[tokio::test]
async fn nothing_is_lost_or_repeated_over_reconnects_and_a_restart() {
    let mut server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let carol = server.account("carol").await;
    alice.brings_in(&room, &carol).await;
    let mut ear = bob.listens(Way::Socket).await;
    let mut heard: Vec<String> = Vec::new();
    for round in 0..2 {
        let speaks = |caller: &Caller, number: usize| {
            let (caller, room) = (caller.clone(), room.clone());
            async move { caller.tries_to_say(&room, &format!("{round} {number}")).await }
        };
        let asking: Vec<_> = (0..100).map(|number| speaks([&alice, &bob, &carol][number % 3], number)).collect();
        let said = tokio::spawn(together(asking));
        while heard.len() < 100 * (round + 1) {
            // Another way and a new connection after every few frames.
            for _ in 0..7 {
                if heard.len() < 100 * (round + 1) {
                    let frame = ear.frame().await;
                    assert!(!is_passing(&frame) || frame["type"] == "presence", "{frame}");
                    heard.extend(frame["event"]["event_id"].as_str().map(str::to_owned));
                }
            }
            ear = bob.listens_from(WAYS[heard.len() % 2], &ear.cursor.clone()).await;
        }
        for answer in said.await.expect("all was said") {
            answer.created();
        }
        let cursor = ear.cursor.clone();
        if round == 0 {
            drop(ear);
            server.restart().await;
            ear = bob.listens_from(Way::Events, &cursor).await;
        }
    }
    let timeline = bob.timeline(&room).await;
    let said = timeline.iter().filter(|event| event["type"] == "m.room.message");
    let said: Vec<String> = said.map(|event| text(&event["event_id"])).collect();
    assert_eq!(heard, said);
}

#[tokio::test]
async fn a_stream_goes_on_in_the_middle_of_what_was_written_at_once() {
    let server = server().await;
    let (alice, bob, _) = pair(&server).await;
    let mut ear = alice.listens(Way::Socket).await;
    let room = alice.creates(json!({"room_type": "group", "name": "Ropes", "invite": [bob.id]})).await;
    let mark = alice.says(&room, "a mark").await;
    let whole = ear.until_event(&mark).await;
    assert!(whole.len() > 8 && whole[0]["type"] == "room", "{:?}", names(&whole));
    for (number, frame) in whole.iter().enumerate().take(whole.len() - 1) {
        let way = WAYS[number % 2];
        let rest = alice.listens_from(way, &text(&frame["cursor"])).await.until_event(&mark).await;
        assert_eq!(ids(&rest), ids(&whole[number + 1..]));
    }
}

/// What stays the same of a frame whenever it is made.
fn ids(frames: &[Value]) -> Vec<Value> {
    let id = |frame: &Value| json!([frame["type"], frame["cursor"], frame["room_id"], frame["event"]["event_id"]]);
    frames.iter().filter(|frame| !is_passing(frame)).map(id).collect()
}

#[tokio::test]
async fn catching_up_gives_what_was_given_live() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let open = alice.public("Open").await;
    let mut ear = bob.listens(Way::Events).await;
    let beginning = ear.cursor.clone();
    alice.says(&room, "one").await;
    alice.says(&open, "not for Bob").await;
    bob.joins(&open).await.ok();
    alice.says(&open, "for Bob").await;
    alice.does("kick", &room, &bob).await.ok();
    alice.says(&room, "behind Bob's back").await;
    alice.brings_in(&room, &bob).await;
    let marked = alice.says(&room, "two").await;
    bob.put(&format!("/v1/rooms/{room}/read"), json!({"event_id": marked})).await.ok();
    bob.leaves(&open).await.ok();
    alice.says(&open, "no longer for Bob").await;
    let live = up_to_a_word_of(&alice, &room, &mut ear).await;
    let said: Vec<&str> = live.iter().filter_map(|frame| frame["event"]["content"]["body"].as_str()).collect();
    assert_eq!(said, ["one", "for Bob", "two", "a mark"]);
    let last = text(&live.last().expect("a frame")["event"]["event_id"]);
    for way in WAYS {
        let again = bob.listens_from(way, &beginning).await.until_event(&last).await;
        assert_eq!(ids(&again), ids(&live));
    }
}

#[tokio::test]
async fn a_slow_reader_gets_everything_from_the_feed() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let mut ears = [bob.listens(Way::Events).await, bob.listens(Way::Socket).await];
    let body = "x".repeat(60_000);
    let speak = |number: usize| {
        let (alice, room, body) = (alice.clone(), room.clone(), format!("{number} {body}"));
        async move { alice.tries_to_say(&room, &body).await }
    };
    for round in 0..20 {
        for answer in together((round * 15..(round + 1) * 15).map(speak)).await {
            answer.created();
        }
    }
    let last = alice.says(&room, "the last").await;
    let timeline = bob.timeline(&room).await;
    let said = timeline.iter().filter(|event| event["type"] == "m.room.message");
    let said: Vec<&str> = said.map(|event| event["event_id"].as_str().expect("an id")).collect();
    for ear in &mut ears {
        let heard = ear.until_event(&last).await;
        let heard: Vec<&str> = heard.iter().filter_map(|frame| frame["event"]["event_id"].as_str()).collect();
        assert_eq!(heard, said);
    }
}

#[tokio::test]
async fn a_slow_reader_of_an_incognito_room_is_told_to_resync() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let whispers = alice.creates(json!({"room_type": "incognito"})).await;
    alice.brings_in(&whispers, &bob).await;
    for way in WAYS {
        let mut ear = bob.listens(way).await;
        let body = "x".repeat(60_000);
        for number in 0..300 {
            alice.says(&whispers, &format!("{number} {body}")).await;
        }
        ear.until_type("resync").await;
        up_to_a_word_of(&alice, &room, &mut ear).await;
    }
}

#[tokio::test]
async fn frames_of_incognito_rooms_come_once_and_without_a_cursor() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    for way in WAYS {
        let mut ear = bob.listens(way).await;
        let beginning = ear.cursor.clone();
        let whispers = alice.creates(json!({"room_type": "incognito"})).await;
        alice.brings_in(&whispers, &bob).await;
        let said = alice.says(&whispers, "psst").await;
        let frames = ear.until_event(&said).await;
        assert!(frames.iter().all(|frame| frame.get("cursor").is_none() && frame["room_id"] == whispers.as_str()));
        alice.leaves(&whispers).await.ok();
        let gone = ear.until(|frame| frame["type"] == "room" && frame["room"].is_null()).await;
        assert_eq!(gone.last().expect("a frame")["membership"], json!(null));
        let again = up_to_a_word_of(&alice, &room, &mut bob.listens_from(way, &beginning).await).await;
        assert!(again.iter().all(|frame| frame["room_id"] == room.as_str()), "{again:?}");
    }
}

#[tokio::test]
async fn a_cursor_that_leads_nowhere_means_resync() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let cursor = alice.listens(Way::Events).await.cursor;
    let (position, realm) = cursor.split_once('~').expect("a position and a realm");
    let other_realm = if realm.starts_with('0') { "1" } else { "0" }.to_owned() + &realm[1..];
    for way in WAYS {
        for nowhere in [format!("{position}~{other_realm}"), format!("p1_999999999~{realm}")] {
            let mut ear = alice.listens_from(way, &nowhere).await;
            assert_eq!(ear.frame().await["type"], "resync");
            up_to_a_word_of(&bob, &room, &mut ear).await;
        }
        for wrong in ["x", "p1_7", "p1_7~", "p1_07~00000000", "p1_7.x~00000000"] {
            assert_eq!(alice.tries_to_listen(way, Some(wrong)).await.err(), Some(400), "{wrong}");
        }
    }
    let refused = alice.get("/v1/stream?from=x").await.refused(400, "SW_REQUEST_INVALID");
    assert!(text(&refused["message"]).contains("`from`"));
    alice.get("/v1/stream?since=x").await.refused(400, "SW_REQUEST_INVALID");
    let browser = alice.with_header("Last-Event-ID", "x");
    let refused = browser.get(&format!("/v1/stream?from={}", encoded(&cursor))).await;
    assert!(text(&refused.refused(400, "SW_REQUEST_INVALID")["message"]).contains("Last-Event-ID"));
}

#[tokio::test]
async fn what_a_browser_remembers_counts_before_its_address() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let mut ear = alice.listens(Way::Events).await;
    let old = ear.cursor.clone();
    up_to_a_word_of(&bob, &room, &mut ear).await;
    let browser = alice.with_header("Last-Event-ID", &ear.cursor);
    let mut again = browser.listens_from(Way::Events, &old).await;
    let heard = up_to_a_word_of(&bob, &room, &mut again).await;
    assert_eq!(heard.len(), 1);
}

#[tokio::test]
async fn a_read_marker_reaches_the_other_devices_of_its_reader_only() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let said = alice.says(&room, "hello").await;
    let mut bobs = [bob.listens(Way::Events).await, bob.listens(Way::Socket).await];
    let mut alices = alice.listens(Way::Socket).await;
    bob.put(&format!("/v1/rooms/{room}/read"), json!({"event_id": said})).await.ok();
    for ear in &mut bobs {
        let frame = ear.until_type("read_marker").await;
        assert_eq!((&frame["room_id"], &frame["event_id"]), (&json!(room), &json!(said)));
        assert_eq!((&frame["unread_count"], &frame["notify_count"]), (&json!(0), &json!(0)));
    }
    let heard = up_to_a_word_of(&bob, &room, &mut alices).await;
    assert_eq!(heard.len(), 1);
}

#[tokio::test]
async fn typing_is_told_until_it_ends() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let path = format!("/v1/rooms/{room}/typing");
    let mut ear = bob.listens(Way::Socket).await;
    let typing = |people: &[&Caller]| json!(people.iter().map(|person| &person.id).collect::<Vec<_>>());
    assert_eq!(alice.put(&path, json!({"typing": true})).await.ok(), json!({}));
    alice.put(&path, json!({"typing": true})).await.ok();
    let frame = ear.until_type("typing").await;
    assert_eq!((&frame["room_id"], &frame["participants"]), (&json!(room), &typing(&[&alice])));
    bob.put(&path, json!({"typing": true, "timeout_ms": 120_000})).await.ok();
    assert_eq!(ear.until_type("typing").await["participants"], typing(&[&alice, &bob]));
    let mut late = alice.listens(Way::Events).await;
    assert_eq!(late.until_type("typing").await["participants"], typing(&[&alice, &bob]));
    server.advance(Duration::from_secs(31));
    assert_eq!(ear.until_type("typing").await["participants"], typing(&[&bob]));
    bob.put(&path, json!({"typing": false})).await.ok();
    assert_eq!(ear.until_type("typing").await["participants"], typing(&[]));
    alice.put(&path, json!({"typing": true})).await.ok();
    assert_eq!(ear.until_type("typing").await["participants"], typing(&[&alice]));
    let said = alice.says(&room, "what I typed").await;
    ear.until_event(&said).await;
    assert_eq!(ear.until_type("typing").await["participants"], typing(&[]));
}

#[tokio::test]
async fn typing_is_for_those_who_may_speak() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let carol = server.account("carol").await;
    let path = format!("/v1/rooms/{room}/typing");
    carol.put(&path, json!({"typing": true})).await.no_such_room();
    for body in [
        json!({}),
        json!({"typing": 1}),
        json!({"typing": true, "timeout_ms": 0}),
        json!({"typing": true, "timeout_ms": 120_001}),
        json!({"typing": true, "x": 1}),
    ] {
        bob.put(&path, body).await.refused(400, "SW_REQUEST_INVALID");
    }
    bob.leaves(&room).await.ok();
    bob.put(&path, json!({"typing": true})).await.refused(403, "SW_ROOM_FORBIDDEN");
    alice.post_nothing(&format!("/v1/rooms/{room}/archive")).await.ok();
    alice.put(&path, json!({"typing": true})).await.refused(409, "SW_ROOM_FROZEN");
}

#[tokio::test]
async fn who_has_a_stream_is_active_and_the_others_are_told() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let path = format!("/v1/rooms/{room}/active");
    assert_eq!(alice.get(&path).await.list(), Vec::<Value>::new());
    let mut ear = alice.listens(Way::Events).await;
    server.advance(Duration::from_secs(60));
    let bobs = bob.listens(Way::Socket).await;
    let frame = ear.until_type("presence").await;
    assert_eq!(
        (&frame["participant_id"], &frame["active"], &frame["room_id"]),
        (&json!(bob.id), &json!(true), &json!(room))
    );
    assert_eq!(frame["joined_at"], server.time(0));
    let active = alice.get(&path).await.list();
    assert_eq!(
        active.iter().map(|member| text(&member["participant_id"])).collect::<Vec<_>>(),
        [alice.id.clone(), bob.id.clone()]
    );
    assert_eq!(active[0]["joined_at"], server.time(-60_000));
    drop(bobs);
    // A reconnect is no news.
    let bobs = bob.listens(Way::Events).await;
    let heard = up_to_a_word_of(&bob, &room, &mut ear).await;
    assert_eq!(names(&heard), ["event"]);
    drop(bobs);
    loop {
        // Until the server has noticed that Bob hung up.
        server.advance(Duration::from_secs(6));
        let waiting = ear.until_type("presence");
        if let Ok(frame) = tokio::time::timeout(Duration::from_secs(1), waiting).await {
            assert_eq!((&frame["participant_id"], &frame["active"]), (&json!(bob.id), &json!(false)));
            break;
        }
    }
    assert_eq!(alice.get(&path).await.list().len(), 1);
}

#[tokio::test]
async fn who_joins_while_active_is_active_from_then_on() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.public("Open").await;
    let (mut ear, _bobs) = (alice.listens(Way::Socket).await, bob.listens(Way::Socket).await);
    server.advance(Duration::from_secs(60));
    bob.joins(&room).await.ok();
    let frame = ear.until_type("presence").await;
    assert_eq!((&frame["active"], &frame["joined_at"]), (&json!(true), &json!(server.time(0))));
    bob.leaves(&room).await.ok();
    assert_eq!(ear.until_type("presence").await["active"], false);
    let path = format!("/v1/rooms/{room}/active");
    assert_eq!(alice.get(&path).await.list().len(), 1);
    bob.get(&path).await.refused(403, "SW_ROOM_FORBIDDEN");
    server.account("carol").await.get("/v1/rooms/!nowhere:yurt.test/active").await.no_such_room();
}

#[tokio::test]
async fn who_is_removed_types_no_longer_even_if_they_did_not_listen() {
    let server = server().await;
    let (alice, bob, room) = pair(&server).await;
    let carol = server.account("carol").await;
    alice.brings_in(&room, &carol).await;
    let path = format!("/v1/rooms/{room}/typing");
    let body = json!({"typing": true, "timeout_ms": 120_000});
    // Nobody listens yet who could be told.
    carol.put(&path, body.clone()).await.ok();
    alice.does("kick", &room, &carol).await.ok();
    let mut ear = alice.listens(Way::Socket).await;
    bob.put(&path, body).await.ok();
    assert_eq!(ear.until_type("typing").await["participants"], json!([bob.id]));
    alice.does("kick", &room, &bob).await.ok();
    assert_eq!(ear.until_type("typing").await["participants"], json!([]));
}

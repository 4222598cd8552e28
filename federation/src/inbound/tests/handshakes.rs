//! The rows of section 9.2: joining, leaving, knocking, inviting.

use serde_json::{Value, json};

use super::world::{Peer, World};

const F: &str = "/_matrix/federation";

fn member(membership: &str) -> Value {
    let user = "@u:a.example";
    json!({ "type": "m.room.member", "room_id": "!r:x", "sender": user, "state_key": user, "depth": 5,
        "content": { "membership": membership }, "prev_events": ["$p"], "auth_events": ["$a"] })
}

/// The same event with one thing changed.
fn but(event: &Value, pointer: &str, value: Value) -> Value {
    let mut event = event.clone();
    *event.pointer_mut(pointer).unwrap() = value;
    event
}

/// Row `GET v1/make_join/{roomId}/{userId}`.
/// S2S 9.2 make_join.
#[tokio::test]
async fn make_join_answers_a_template_or_the_refusals_of_its_row() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    let join = async |room: &str, rest: &str| peer.get(&world, &format!("{F}/v1/make_join/{room}/{rest}")).await;
    let template = join("!r:x", "@u:a.example?ver=12&ver=org.new&ver=11").await.ok();
    assert_eq!(template, json!({ "room_version": "12", "event": { "type": "m.room.member", "room_id": "!r:x" } }));
    join("!r:x", "@u:a.example").await.ok();
    join("%21r%2Fs:x", "%40u:a.example?ver=").await.ok();
    let versions = [
        r#"!r:x @u:a.example Join ["12", "org.new", "11"]"#,
        r#"!r:x @u:a.example Join ["1"]"#,
        "!r/s:x @u:a.example Join []",
    ];
    assert_eq!(world.local.calls(), versions.map(|call| format!("a.example membership_template {call}")));

    assert_eq!(join("!r:x", "@u:b.example?ver=12").await.error(), (403, "M_FORBIDDEN".to_owned()));
    assert_eq!(join("!r:x", "u:a.example?ver=12").await.error(), (400, "M_INVALID_PARAM".to_owned()));
    assert_eq!(join("r:x", "@u:a.example?ver=12").await.error(), (400, "M_INVALID_PARAM".to_owned()));
    assert_eq!(join("!r:x", &format!("@u:a.example?{}", "ver=1&".repeat(101))).await.status, 400);
    assert_eq!(world.local.calls().len(), 3, "the server is not asked");
    for (room, status, code) in [
        ("!otherversion:x", 400, "M_INCOMPATIBLE_ROOM_VERSION"),
        ("!cannotauthorise:x", 400, "M_UNABLE_TO_AUTHORISE_JOIN"),
        ("!cannotgrant:x", 400, "M_UNABLE_TO_GRANT_JOIN"),
        ("!forbidden:x", 403, "M_FORBIDDEN"),
        ("!notfound:x", 404, "M_NOT_FOUND"),
    ] {
        let refused = join(room, "@u:a.example?ver=12").await;
        assert_eq!(refused.error(), (status, code.to_owned()));
        let version = if room == "!otherversion:x" { json!("11") } else { Value::Null };
        assert_eq!(refused.json()["room_version"], version);
    }
}

/// Rows `GET v1/make_leave/{roomId}/{userId}` and `GET v1/make_knock/{roomId}/{userId}`.
/// S2S 9.2 make_leave.
#[tokio::test]
async fn make_leave_and_make_knock_answer_templates() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    peer.get(&world, &format!("{F}/v1/make_leave/!r:x/@u:a.example")).await.ok();
    peer.get(&world, &format!("{F}/v1/make_knock/!r:x/@u:a.example?ver=7")).await.ok();
    let asked = [r#"!r:x @u:a.example Leave []"#, r#"!r:x @u:a.example Knock ["7"]"#];
    assert_eq!(world.local.calls(), asked.map(|call| format!("a.example membership_template {call}")));
    for path in ["make_leave/!r:x/@u:b.example", "make_leave/!forbidden:x/@u:a.example", "make_knock/!r:x/@u:b.example"]
    {
        assert_eq!(
            peer.get(&world, &format!("{F}/v1/{path}")).await.error(),
            (403, "M_FORBIDDEN".to_owned()),
            "{path}"
        );
    }
}

/// Row `PUT v2/send_join/{roomId}/{eventId}`.
/// S2S 9.2 send_join.
#[tokio::test]
async fn send_join_answers_the_state_before_and_the_event() {
    let world = World::new().await;
    let event = member("join");
    for (query, members_omitted) in [("", false), ("?omit_members=false", false), ("?omit_members=true", true)] {
        let target = format!("{F}/v2/send_join/!r:x/$e{query}");
        let answer = Peer::new("a.example").put(&world, &target, &event).await.ok();
        let expected = json!({ "origin": "us.example", "event": event, "state": [{ "of": "state" }],
            "auth_chain": [{ "of": "auth_chain" }], "members_omitted": members_omitted,
            "servers_in_room": ["us.example"] });
        assert_eq!(answer, expected, "{query}");
    }
    let calls = world.local.calls();
    assert!(calls[0].starts_with("a.example accept_membership !r:x $e Join {"));
    assert_eq!((calls.len(), calls[2].as_str()), (4, "a.example without members"));
}

/// Rows `PUT v2/send_leave/{roomId}/{eventId}` and `PUT v1/send_knock/{roomId}/{eventId}`.
/// S2S 9.2 send_leave.
#[tokio::test]
async fn send_leave_and_send_knock_are_answered() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    let left = peer.put(&world, &format!("{F}/v2/send_leave/!r:x/$e"), &member("leave")).await.ok();
    assert_eq!(left, json!({}));
    let knocked = peer.put(&world, &format!("{F}/v1/send_knock/!r:x/$e"), &member("knock")).await.ok();
    assert_eq!(knocked, json!({ "knock_room_state": [{ "of": "state" }] }));
    let elsewhere = but(&member("knock"), "/room_id", json!("!forbidden:x"));
    let refused = peer.put(&world, &format!("{F}/v1/send_knock/!forbidden:x/$e"), &elsewhere).await;
    assert_eq!(refused.error(), (403, "M_FORBIDDEN".to_owned()));
}

/// Hard case 7, and the checks of the rows `send_join`, `send_leave`, `send_knock` and `invite` that need no room.
#[tokio::test]
async fn another_event_than_the_path_says_is_refused_at_every_door() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    for (door, membership, wrapped) in [
        ("v2/send_join", "join", false),
        ("v2/send_leave", "leave", false),
        ("v1/send_knock", "knock", false),
        ("v2/invite", "invite", true),
    ] {
        let mut good = member(membership);
        if wrapped {
            good["state_key"] = json!("@ann:us.example");
        }
        let send = async |event: Value| {
            let body = if wrapped { json!({ "room_version": "12", "event": event }) } else { event };
            peer.put(&world, &format!("{F}/{door}/!r:x/$e"), &body).await
        };
        for (pointer, value) in [
            ("/room_id", json!("!other:x")),
            ("/room_id", Value::Null),
            ("/type", json!("m.room.message")),
            ("/content/membership", json!("ban")),
            ("/content", json!("x")),
            ("/sender", json!("nobody")),
            ("/state_key", json!("@someone:a.example")),
            ("/state_key", json!(5)),
        ] {
            let refused = send(but(&good, pointer, value.clone())).await;
            assert_eq!(refused.error(), (400, "M_INVALID_PARAM".to_owned()), "{door} {pointer} {value}");
        }
        let foreign = but(&but(&good, "/sender", json!("@u:b.example")), "/state_key", json!("@u:b.example"));
        assert_eq!(send(foreign).await.error(), (403, "M_FORBIDDEN".to_owned()), "{door}");
        assert_eq!(send(but(&good, "/depth", json!(-1))).await.error(), (400, "M_BAD_JSON".to_owned()), "{door}");
        assert_eq!(send(but(&good, "/prev_events", json!(vec!["$p"; 21]))).await.status, 400, "{door}");
        assert!(world.local.calls().is_empty(), "{door}");
    }
}

/// Row `PUT v2/invite/{roomId}/{eventId}`; hard cases 2 and 43.
/// S2S 9.2 invite.
#[tokio::test]
async fn an_invite_of_a_user_of_ours_comes_back_signed() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    let event = but(&member("invite"), "/state_key", json!("@ann:us.example"));
    let target = format!("{F}/v2/invite/!r:x/$e");
    let shown = json!({ "type": "m.room.name" });
    let many: Vec<Value> = (0..10_000).map(|_| json!({})).collect();
    for (state, kept) in [
        (None, String::new()),
        (Some(json!(null)), String::new()),
        (Some(json!("x")), String::new()),
        (Some(json!({ "type": "x" })), String::new()),
        (Some(json!([shown, 5, null, "x", [shown]])), shown.to_string()),
        (Some(json!(many)), vec!["{}"; 100].join(" ")),
    ] {
        let mut body = json!({ "room_version": "12", "event": event });
        if let Some(state) = state {
            body["invite_room_state"] = state;
        }
        let answer = peer.put(&world, &target, &body).await.ok();
        assert_eq!(answer["event"]["signatures"]["us.example"], json!({ "ed25519:a_1": "s" }));
        assert_eq!(world.local.calls().pop().unwrap(), format!("a.example accept_invite !r:x $e 12 {kept}"));
    }
    let asked = world.local.calls().len();
    let nobody = but(&event, "/state_key", json!("@nobody:us.example"));
    let refused = peer.put(&world, &target, &json!({ "room_version": "12", "event": nobody })).await;
    assert_eq!(refused.error(), (404, "M_NOT_FOUND".to_owned()));
    for body in
        [json!({ "event": event }), json!({ "room_version": 12, "event": event }), json!({ "room_version": "12" })]
    {
        assert_eq!(peer.put(&world, &target, &body).await.error(), (400, "M_INVALID_PARAM".to_owned()), "{body}");
    }
    assert_eq!(world.local.calls().len(), asked);
    let other = but(&event, "/room_id", json!("!otherversion:x"));
    let target = format!("{F}/v2/invite/!otherversion:x/$e");
    let refused = peer.put(&world, &target, &json!({ "room_version": "3", "event": other })).await;
    assert_eq!(refused.error(), (400, "M_INCOMPATIBLE_ROOM_VERSION".to_owned()));
}

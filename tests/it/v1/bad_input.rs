//! Malformed, oversized, misplaced, foreign: refused with the right code, never with a failure.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{MISSING_EVENT, MISSING_ROOM};
use crate::client::{
    Caller, TestServer,
    contract::{contract, resolve},
    encoded, server, text,
};

/// An administrator with a room, an event in it, a second person, and a workspace: something real for every path.
struct Ground {
    admin: Caller,
    room: String,
    event: String,
    workspace: String,
}

async fn ground(server: &TestServer) -> Ground {
    let (admin, bob) = (server.admin("root").await, server.account("bob").await);
    let room = admin.group_with("Tents", &[&bob]).await;
    let event = admin.says(&room, "hello").await;
    let workspace = text(&admin.post("/v1/workspaces", json!({"name": "Felt"})).await.created()["id"]);
    Ground { admin, room, event, workspace }
}

impl Ground {
    fn path(&self, template: &str) -> String {
        template
            .replace("{room_id}", &self.room)
            .replace("{workspace_id}", &self.workspace)
            .replace("{event_id}", &self.event)
            .replace("{participant_id}", "bob")
            .replace("{id}", "any")
            .replace("{type}", "com.example.any")
            .replace("{key}", "any")
            .replace("{sha256}", "any")
            .replace("{server}", "yurt.test")
            .replace("{media_id}", "any")
    }
}

/// Each operation that takes a JSON body: method, path template, its body's description.
fn operations_with_a_body() -> Vec<(String, String, Value)> {
    let document = &contract().document;
    let operations = contract().operations().filter_map(|(method, path)| {
        let operation = &document["paths"][&path][method.to_lowercase()];
        let body = resolve(document, operation.get("requestBody")?);
        body["content"].get("application/json")?;
        Some((method, path, body.clone()))
    });
    let operations: Vec<_> = operations.collect();
    assert!(operations.len() > 25, "the contract has many operations with a body");
    operations
}

fn is_free_form(template: &str) -> bool {
    template.contains("/state/")
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused_everywhere() {
    let server = server().await;
    let ground = ground(&server).await;
    let bodies: [&[u8]; 12] = [
        b"{",
        b"}",
        b"nonsense",
        b"[]",
        b"1",
        b"\"text\"",
        b"null",
        b"{\"a\":}",
        b"{} {}",
        b"\xff\xfe",
        b"{\"a\":\"\xff\"}",
        b"{\"a\":\"\\ud800\"}",
    ];
    for (method, template, _) in operations_with_a_body() {
        for body in bodies {
            let answer = ground.admin.send(&method, &ground.path(&template), Some(body.to_vec())).await;
            let shown = String::from_utf8_lossy(body).into_owned();
            assert_eq!(answer.status, 400, "{method} {template} took {shown}");
            answer.refused(400, "SW_REQUEST_INVALID");
        }
    }
}

#[tokio::test]
async fn a_list_is_not_taken_for_an_object() {
    let server = server().await;
    let ground = ground(&server).await;
    let cases = [
        ("PUT", "/v1/rooms/{room_id}/name", json!(["Yurts"])),
        ("PUT", "/v1/rooms/{room_id}/members/{participant_id}/power-level", json!([100])),
        ("PUT", "/v1/rooms/{room_id}/notification-mode", json!(["none"])),
        ("POST", "/v1/rooms/{room_id}/invite", json!(["bob", null])),
        ("POST", "/v1/rooms/{room_id}/archive", json!(["winter"])),
        ("POST", "/v1/rooms/dm", json!(["bob"])),
        ("POST", "/v1/workspaces", json!(["Felt", null])),
        ("POST", "/v1/auth/login", json!(["root", "guess", false])),
    ];
    for (method, template, body) in cases {
        let answer = ground.admin.send(method, &ground.path(template), Some(body.to_string().into_bytes())).await;
        assert_eq!(answer.status, 400, "{method} {template} took {body}");
    }
}

#[tokio::test]
async fn a_required_body_cannot_be_missing() {
    let server = server().await;
    let ground = ground(&server).await;
    for (method, template, body) in operations_with_a_body() {
        if body["required"] == true {
            let answer = ground.admin.send(&method, &ground.path(&template), Some(Vec::new())).await;
            answer.refused(400, "SW_REQUEST_INVALID");
        }
    }
}

#[tokio::test]
async fn an_unknown_field_is_refused_by_name_everywhere() {
    let server = server().await;
    let ground = ground(&server).await;
    for (method, template, body) in operations_with_a_body() {
        if is_free_form(&template) {
            continue;
        }
        let mut example = body["content"]["application/json"]["example"].clone();
        example["unheard_of"] = json!(1);
        let answer = ground.admin.send(&method, &ground.path(&template), Some(example.to_string().into_bytes())).await;
        answer.invalid("unheard_of");
    }
}

#[tokio::test]
async fn a_refusal_repeats_no_more_than_a_little_of_what_was_sent() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let answer = alice.post(&format!("/v1/rooms/{}/messages", encoded(&room)), json!({"k".repeat(100_000): 1})).await;
    let error = answer.refused(400, "SW_REQUEST_INVALID");
    assert!(text(&error["message"]).starts_with("`kkkk"));
    assert!(text(&error["message"]).chars().count() < 1_100);
}

#[tokio::test]
async fn a_field_that_stands_twice_is_refused() {
    let server = server().await;
    let ground = ground(&server).await;
    let twice = b"{\"name\":\"one\",\"name\":\"two\"}".to_vec();
    ground.admin.send("PUT", &ground.path("/v1/rooms/{room_id}/name"), Some(twice.clone())).await.invalid("name");
    ground.admin.send("POST", "/v1/workspaces", Some(twice)).await.invalid("name");
}

#[tokio::test]
async fn another_content_type_is_refused_everywhere() {
    let server = server().await;
    let ground = ground(&server).await;
    for (method, template, body) in operations_with_a_body() {
        let example = body["content"]["application/json"]["example"].to_string().into_bytes();
        for content_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/jsonp",
            "",
        ] {
            let caller = ground.admin.with_header("content-type", content_type);
            let answer = caller.send(&method, &ground.path(&template), Some(example.clone())).await;
            assert_eq!(answer.status, 415, "{method} {template} took `{content_type}`");
            answer.refused(415, "SW_REQUEST_INVALID");
        }
    }
}

#[tokio::test]
async fn json_may_name_its_charset() {
    let server = server().await;
    let alice = server.account("alice").await;
    let caller = alice.with_header("content-type", "application/json; charset=utf-8");
    caller.post("/v1/workspaces", json!({"name": "Felt"})).await.created();
}

#[tokio::test]
async fn a_body_nested_too_deeply_is_refused() {
    let server = server().await;
    let ground = ground(&server).await;
    let deep =
        format!("{{\"type\":\"com.example.any\",\"content\":{{\"a\":{}{}}}}}", "[".repeat(5_000), "]".repeat(5_000));
    ground
        .admin
        .send("POST", &ground.path("/v1/rooms/{room_id}/messages"), Some(deep.into_bytes()))
        .await
        .refused(400, "SW_REQUEST_INVALID");
    let state = format!("{{\"a\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let path = ground.path("/v1/rooms/{room_id}/state/{type}");
    ground.admin.send("PUT", &path, Some(state.into_bytes())).await.refused(400, "SW_REQUEST_INVALID");
}

#[tokio::test]
async fn a_body_announced_too_large_is_refused_before_it_is_read() {
    let server = server().await;
    let ground = ground(&server).await;
    let token = ground.admin.token.clone().expect("a token");
    for (method, template, _) in operations_with_a_body() {
        let path = ground.path(&template);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: yurt.test\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 1000000000"
        );
        server.raw(&head, b"").await.refused(413, "SW_CONTENT_TOO_LARGE");
    }
}

#[tokio::test]
async fn an_event_too_large_is_refused_and_leaves_nothing() {
    let server = server().await;
    let ground = ground(&server).await;
    let before = ground.admin.timeline(&ground.room).await;
    let large = "x".repeat(66_000);
    let cases = [
        ("POST", "/v1/rooms/{room_id}/messages", json!({"body": large})),
        ("POST", "/v1/rooms/{room_id}/messages", json!({"type": "com.example.any", "content": {"a": large}})),
        ("PUT", "/v1/rooms/{room_id}/state/{type}", json!({"a": large})),
        ("PUT", "/v1/rooms/{room_id}/state/{type}/{key}", json!({"a": large})),
    ];
    for (method, template, body) in cases {
        let answer = ground.admin.send(method, &ground.path(template), Some(body.to_string().into_bytes())).await;
        answer.refused(413, "SW_CONTENT_TOO_LARGE");
    }
    assert_eq!(ground.admin.timeline(&ground.room).await, before);
}

#[tokio::test]
async fn texts_beyond_reason_are_refused_not_failed_on() {
    let server = server().await;
    let ground = ground(&server).await;
    let large = "x".repeat(66_000);
    let cases = [
        ("PUT", "/v1/rooms/{room_id}/name", json!({"name": large})),
        ("PUT", "/v1/rooms/{room_id}/topic", json!({"topic": large})),
        ("POST", "/v1/rooms/{room_id}/archive", json!({"reason": large})),
        ("POST", "/v1/rooms/{room_id}/kick", json!({"participant_id": "bob", "reason": large})),
        ("POST", "/v1/rooms/{room_id}/invite", json!({"participant_id": large})),
        ("POST", "/v1/rooms", json!({"room_type": "group", "name": "Tents", "topic": large})),
        ("POST", "/v1/workspaces", json!({"name": large})),
        ("POST", "/v1/auth/register", json!({"username": "tent", "password": large})),
        ("POST", "/v1/auth/register", json!({"username": "tent", "password": "p", "display_name": large})),
    ];
    for (method, template, body) in cases {
        let answer = ground.admin.send(method, &ground.path(template), Some(body.to_string().into_bytes())).await;
        assert!(matches!(answer.status, 400 | 413), "{method} {template} answered {}", answer.status);
    }
    assert_eq!(ground.admin.sees(&ground.room).await["state"], "open");
}

#[tokio::test]
async fn an_unknown_route_is_named_as_such() {
    let server = server().await;
    let alice = server.account("alice").await;
    let paths = [
        "/",
        "/v1",
        "/v1/",
        "/v2/rooms",
        "/v1/rooms/",
        "/v1/room",
        "/v1/rooms/!a/unknown",
        "/v1/rooms/!a/messages/x/y",
        "/V1/rooms",
        "/v1//rooms",
        "/metrics",
        "/v1/stream/x",
    ];
    for path in paths {
        for (method, body) in [("GET", None), ("POST", Some(b"{}".to_vec())), ("DELETE", None)] {
            alice.send(method, path, body).await.refused(404, "SW_ROUTE_NOT_FOUND");
        }
        server.nameless().get(path).await.refused(404, "SW_ROUTE_NOT_FOUND");
    }
}

#[tokio::test]
async fn a_wrong_method_is_answered_with_those_that_are_allowed() {
    let server = server().await;
    let ground = ground(&server).await;
    let templates: BTreeSet<String> = contract().operations().map(|(_, path)| path).collect();
    for template in templates {
        let known: BTreeSet<String> =
            contract().operations().filter(|(_, path)| *path == template).map(|(method, _)| method).collect();
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            if known.contains(method) {
                continue;
            }
            let body = (method != "GET" && method != "DELETE").then(|| b"{}".to_vec());
            let answer = ground.admin.send(method, &ground.path(&template), body).await;
            assert_eq!(answer.status, 405, "{method} {template}");
            let allowed: BTreeSet<String> =
                answer.headers["allow"].split(',').map(|method| method.trim().to_owned()).collect();
            assert!(known.is_subset(&allowed) && !allowed.contains(method), "{method} {template} allows {allowed:?}");
            answer.refused(405, "SW_METHOD_NOT_ALLOWED");
        }
    }
}

#[tokio::test]
async fn an_id_that_can_be_no_room_is_a_missing_room() {
    let server = server().await;
    let alice = server.account("alice").await;
    let missing = alice.get(&format!("/v1/rooms/{MISSING_ROOM}")).await;
    let long = format!("!{}", "a".repeat(5_000));
    let ids = [
        "%2e%2e",
        "%2E%2E%2F%2E%2E",
        "..%2f..%2fetc%2fpasswd",
        "a%2Fb",
        "!a%2Fb:yurt.test",
        "%00",
        "!%00:yurt.test",
        "!a%00",
        "%0d%0a",
        "%20",
        "!",
        "%23",
        "!:",
        "@alice:yurt.test",
        "%F0%9F%98%80",
        "%ff",
        "%c3%28",
        "*",
        "'",
        "%22",
        "null",
        "undefined",
        "-1",
        "0",
        "%25",
        "%2500",
        "room%3Fx=1",
        long.as_str(),
    ];
    for id in ids {
        for rest in ["", "/messages", "/members", "/state/m.room.name"] {
            let answer = server.raw_get(&alice, &format!("/v1/rooms/{id}{rest}")).await;
            assert_eq!(answer.body, missing.body, "{id}{rest}");
            answer.no_such_room();
        }
    }
}

#[tokio::test]
async fn ids_with_slashes_dots_and_nul_are_no_people_and_no_events() {
    let server = server().await;
    let ground = ground(&server).await;
    for name in [
        "..",
        "a/b",
        "\0",
        "@bob\0:yurt.test",
        "@../..:yurt.test",
        "@bob",
        "bob:yurt.test",
        "@:yurt.test",
        "@bob:",
        "Bob Tent",
    ] {
        for action in ["invite", "kick", "ban", "unban"] {
            let path = ground.path(&format!("/v1/rooms/{{room_id}}/{action}"));
            let answer = ground.admin.post(&path, json!({"participant_id": name})).await;
            assert!(matches!(answer.status, 400 | 404), "{action} of {name:?} answered {}", answer.status);
        }
        let path = ground.path(&format!("/v1/rooms/{{room_id}}/members/{}/power-level", encoded(name)));
        let body = json!({"power_level": 1});
        if name != ".." {
            let answer = ground.admin.put(&path, body).await;
            assert!(matches!(answer.status, 400 | 404), "a level for {name:?} answered {}", answer.status);
        }
        let answer = ground.admin.post("/v1/rooms/dm", json!({"participant_id": name})).await;
        assert!(matches!(answer.status, 400 | 404), "a direct room with {name:?} answered {}", answer.status);
    }
    for event in ["..", "a/b", "\0", "$", "$\0"] {
        let answer = ground.admin.put(&ground.path("/v1/rooms/{room_id}/read"), json!({"event_id": event})).await;
        assert!(matches!(answer.status, 400 | 404), "a marker on {event:?} answered {}", answer.status);
    }
    assert_eq!(ground.admin.sees(&ground.room).await["members_count"], 2);
}

#[tokio::test]
async fn a_foreign_token_opens_nothing_of_another_person() {
    let server = server().await;
    let (alice, mallory) = (server.account("alice").await, server.account("mallory").await);
    let room = alice.group("Tents").await;
    let event = alice.says(&room, "secret").await;
    let sent = mallory.get(&format!("/v1/rooms/{room}/events/{event}")).await;
    sent.no_such_room();
    let own = mallory.group("Own").await;
    mallory.get(&format!("/v1/rooms/{own}/events/{event}")).await.refused(404, "SW_EVENT_NOT_FOUND");
    mallory.put(&format!("/v1/rooms/{own}/read"), json!({"event_id": event})).await.refused(404, "SW_EVENT_NOT_FOUND");
    mallory.post_nothing(&format!("/v1/rooms/{own}/events/{event}/redact")).await.refused(404, "SW_EVENT_NOT_FOUND");
}

#[tokio::test]
async fn queries_with_nonsense_are_refused_not_failed_on() {
    let server = server().await;
    let ground = ground(&server).await;
    for query in ["limit=%00", "limit=1&limit=2", "offset=%ff", "limit=0x10", "limit=+5", "limit=%31%30%30%30"] {
        for list in ["/v1/rooms", "/v1/directory/rooms", "/v1/rooms/{room_id}/members", "/v1/rooms/{room_id}/messages"]
        {
            if query.starts_with("offset") && list.ends_with("messages") {
                continue;
            }
            let target = format!("{}?{query}", ground.path(list));
            let refused = server.raw_get(&ground.admin, &target).await.refused(400, "SW_REQUEST_INVALID");
            assert!(!text(&refused["message"]).contains("digit"), "{target}: {refused}");
        }
    }
    server.raw_get(&ground.admin, "/v1/directory/rooms?q=%00%2F..%25").await.ok();
}

#[tokio::test]
async fn an_error_names_no_path_and_no_inner_part() {
    let server = server().await;
    let ground = ground(&server).await;
    let mut errors = Vec::new();
    for (method, template, _) in operations_with_a_body() {
        for body in [&b"{"[..], b"[]", b"{\"unheard_of\":1}"] {
            errors.push(ground.admin.send(&method, &ground.path(&template), Some(body.to_vec())).await);
        }
    }
    for path in [
        format!("/v1/rooms/{MISSING_ROOM}"),
        format!("/v1/rooms/{}/events/{MISSING_EVENT}", ground.room),
        "/v1/none".to_owned(),
    ] {
        errors.push(ground.admin.get(&path).await);
    }
    for error in errors.iter().filter(|error| error.status >= 400) {
        let shown = String::from_utf8_lossy(&error.body).to_lowercase();
        for inner in ["rocksdb", "serde", "axum", "panicked", "src/", "/tmp", "unwrap", "storage", "::"] {
            assert!(!shown.contains(inner), "`{inner}` in {shown}");
        }
    }
}

#[tokio::test]
async fn texts_of_every_script_and_control_come_back_as_they_went() {
    let server = server().await;
    let ground = ground(&server).await;
    for text in [
        " ",
        "\0",
        "\u{1}\u{1f}\u{7f}",
        "毡房 юрта 😀",
        "\u{202e}abc",
        "e\u{301}",
        "\u{feff}x",
        "</script>",
        "{\"a\":1}",
        "\\u0000",
        "line\nline\r\n",
    ] {
        ground.admin.says(&ground.room, text).await;
        assert_eq!(ground.admin.hears(&ground.room).await.last().map(String::as_str), Some(text));
    }
}

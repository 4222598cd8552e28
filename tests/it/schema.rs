//! The contract and the server say the same: routes both ways, stored events against their schemas, examples against theirs.
#![cfg(test)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::client::{
    Caller,
    contract::{APIS, Contract, Observed, compile, contract, contract_of, resolve},
    png, server, text,
};

#[test]
fn every_route_of_the_server_is_in_the_contract_and_the_other_way_round() {
    for (api, _, routes) in APIS {
        let documented: BTreeSet<(String, String)> =
            contract_of(api).operations().map(|(method, path)| (method, nameless(&path))).collect();
        let served: BTreeSet<(String, String)> =
            routes().into_iter().map(|(method, path)| (method.to_owned(), nameless(path))).collect();
        let missing: Vec<_> = served.difference(&documented).collect();
        let invented: Vec<_> = documented.difference(&served).collect();
        assert!(
            missing.is_empty() && invented.is_empty(),
            "{api:?}: not in the contract: {missing:?}; not in the server: {invented:?}"
        );
    }
}

/// A path whose parameters have lost their names.
fn nameless(path: &str) -> String {
    let segments: Vec<&str> =
        path.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment }).collect();
    segments.join("/")
}

#[test]
fn every_operation_has_a_name_of_its_own_and_says_how_it_fails() {
    for (api, ..) in APIS {
        check_operations(contract_of(api));
    }
}

fn check_operations(contract: &Contract) {
    let document = &contract.document;
    let mut names = BTreeSet::new();
    for (method, path) in contract.operations() {
        let operation = &document["paths"][&path][method.to_lowercase()];
        assert!(names.insert(text(&operation["operationId"])), "{method} {path} has the name of another operation");
        let statuses: Vec<&String> = operation["responses"].as_object().expect("answers").keys().collect();
        assert!(statuses.iter().any(|status| status.starts_with('2')), "{method} {path}");
        assert!(statuses.iter().any(|status| *status == "500"), "{method} {path}");
        if !path.ends_with("z") {
            for status in ["429", "503"] {
                assert!(statuses.iter().any(|known| *known == status), "{method} {path} cannot answer {status}");
            }
        }
    }
}

#[test]
fn every_object_of_an_answer_is_closed() {
    for (api, ..) in APIS {
        let document = &contract_of(api).document;
        let answers = document["components"]["responses"].as_object().expect("answers");
        for (name, answer) in answers {
            if let Some(json) = answer["content"].get("application/json") {
                check_closed(document, &json["schema"], &mut BTreeSet::new(), name);
            }
        }
    }
}

/// Objects with fields of a known name take no others. Free forms name no field.
fn check_closed(document: &Value, schema: &Value, seen: &mut BTreeSet<String>, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        if seen.insert(reference.to_owned()) {
            check_closed(document, resolve(document, schema), seen, reference);
        }
        return;
    }
    if schema.get("properties").is_some() {
        assert_eq!(schema["additionalProperties"], false, "an object in {place} takes fields that nobody knows");
    }
    let fields = schema["properties"].as_object().into_iter().flat_map(Map::values);
    let choices = schema["oneOf"].as_array().into_iter().flatten();
    for inner in fields.chain(choices).chain(schema.get("items")) {
        check_closed(document, inner, seen, place);
    }
}

#[test]
fn every_example_is_what_it_is_an_example_of() {
    for (api, ..) in APIS {
        check_examples(&contract_of(api).document);
    }
}

fn check_examples(document: &Value) {
    for kind in ["responses", "requestBodies"] {
        for (name, component) in document["components"][kind].as_object().expect("components") {
            let Some(content) = component["content"].get("application/json") else { continue };
            let example = content.get("example").unwrap_or_else(|| panic!("{kind}/{name} has no example"));
            let faults: Vec<String> =
                compile(document, &content["schema"]).iter_errors(example).map(|fault| fault.to_string()).collect();
            assert!(faults.is_empty(), "the example of {kind}/{name}: {}", faults.join("; "));
        }
    }
}

#[test]
fn an_answer_outside_the_contract_is_noticed() {
    let good = json!({"error": {"code": "SW_ROOM_NOT_FOUND", "message": "there is no such room"}});
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body["error"][field] = value;
        body
    };
    let json_type = "application/json";
    // target, status, content type, body, what the fault names; none: it is within the contract
    let cases = [
        ("/v1/rooms/!a", 404, json_type, good.clone(), None),
        ("/v1/rooms/!a?x=1", 404, "application/json; charset=utf-8", good.clone(), None),
        ("/v1/rooms/!a", 404, json_type, with("reason", json!("level")), None),
        ("/v1/rooms/!a", 404, "text/plain", good.clone(), Some("content type")),
        ("/v1/rooms/!a", 404, json_type, with("detail", json!("x")), Some("detail")),
        ("/v1/rooms/!a", 404, json_type, with("code", json!("SW_EVENT_NOT_FOUND")), Some("code")),
        ("/v1/rooms/!a", 404, json_type, with("reason", json!("mood")), Some("reason")),
        ("/v1/rooms/!a", 404, json_type, with("message", json!("")), Some("message")),
        ("/v1/rooms/!a", 404, json_type, json!("text"), Some("object")),
        ("/v1/rooms/!a", 418, json_type, good.clone(), Some("418")),
        ("/v1/rooms/!a", 429, json_type, with("code", json!("SW_RATE_LIMIT_EXCEEDED")), Some("retry-after")),
        ("/v1/none", 200, json_type, json!({"data": {}}), Some("404")),
        ("/v1/none", 404, json_type, with("code", json!("SW_ROUTE_NOT_FOUND")), None),
        ("/v1/rooms/dm", 404, json_type, good.clone(), Some("405")),
        ("/healthz", 200, json_type, json!({"data": {"status": "ok"}}), None),
        ("/healthz", 200, json_type, json!({"data": {"status": "ok"}, "meta": {}}), Some("meta")),
        ("/healthz", 200, json_type, json!({"data": {}}), Some("status")),
    ];
    for (target, status, content_type, body, fault) in cases {
        let headers = BTreeMap::from([("content-type".to_owned(), content_type.to_owned())]);
        let bytes = body.to_string().into_bytes();
        let observed = Observed { method: "GET", target, status, headers: &headers, body: &bytes };
        match (contract().judge(&observed), fault) {
            (Ok(()), None) => {}
            (Err(found), Some(named)) if found.contains(named) => {}
            (judgement, _) => panic!("{target} {status} {body} was judged {judgement:?}, not {fault:?}"),
        }
    }
}

#[tokio::test]
async fn every_event_that_the_server_makes_is_what_its_schema_says() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let mut seen = BTreeSet::new();
    for version in ["10", "11", "12"] {
        let (rooms, workspace) = tour(&alice, &bob, &carol, version).await;
        for room in rooms {
            check_events(&alice, &room, alice.timeline(&room).await, &mut seen).await;
        }
        let state = alice.get(&format!("/v1/rooms/{workspace}/state?limit=200")).await.list();
        check_events(&alice, &workspace, state, &mut seen).await;
    }
    let schemas: BTreeSet<String> = event_types();
    let unseen: Vec<&String> = schemas.difference(&seen).filter(|name| *name != "m.room.tombstone").collect();
    assert!(unseen.is_empty(), "the tour makes no {unseen:?}");
}

/// Uses every feature that writes events and answers the rooms in which it did, and the workspace.
async fn tour(alice: &Caller, bob: &Caller, carol: &Caller, version: &str) -> (Vec<String>, String) {
    let body = json!({
        "room_type": "group", "name": "Tents", "topic": "Felt", "invite": [bob.id], "room_version": version,
        "avatar_url": alice.uploads(b"picture", "image/png").await["mxc"],
    });
    let room = alice.creates(body).await;
    let path = |rest: &str| format!("/v1/rooms/{room}/{rest}");
    alice.sets_avatar(&room, png(4, 4)).await.ok();
    alice.delete(&path("avatar")).await.ok();
    bob.joins(&room).await.ok();
    alice.gives_level(&room, bob, 50).await.ok();
    alice.put(&path("power-levels"), json!({"notifications": {"room": 20}})).await.ok();
    alice.put(&path("name"), json!({"name": "Yurts"})).await.ok();
    alice.put(&path("topic"), json!({"topic": ""})).await.ok();
    let question = bob.says(&room, "@alice felt?").await;
    bob.post(&path("messages"), json!({"body": "wool", "reply_to": question, "format": "org.matrix.custom.html", "formatted_body": "<b>wool</b>"})).await.created();
    let sealed =
        json!({"type": "m.room.encrypted", "content": {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AwgA"}});
    bob.post(&path("messages"), sealed).await.created();
    let mistake = bob.says(&room, "mistake").await;
    alice.post(&path(&format!("events/{mistake}/redact")), json!({"reason": "manners"})).await.created();
    for action in ["invite", "kick", "invite", "ban"] {
        alice.post(&path(action), json!({"participant_id": carol.id, "reason": "a reason"})).await.ok();
    }
    alice.does("unban", &room, carol).await.ok();
    alice.put(&path("announcement"), json!({"announcement": "Market on Saturday"})).await.ok();
    let settings = json!({"custom": "felt", "members_only": true, "allow_invites": false}).to_string().into_bytes();
    alice.send("PATCH", &format!("/v1/rooms/{room}"), Some(settings)).await.ok();
    carol.post(&path("knock"), json!({"reason": "a reason"})).await.ok();
    carol.leaves(&room).await.ok();
    alice.gives_level(&room, bob, 0).await.ok();
    let silence = path(&format!("members/{}/silence", bob.id));
    for body in [json!({"duration_ms": 1_000}), json!({})] {
        alice.put(&silence, body).await.ok();
    }
    alice.delete(&silence).await.ok();
    let workspace = text(&alice.post("/v1/workspaces", json!({"name": "Felt", "topic": "Wool"})).await.created()["id"]);
    alice.put(&path("workspace"), json!({"workspace_id": workspace})).await.ok();
    for action in ["archive", "rejoin", "close"] {
        alice.post_nothing(&path(action)).await.ok();
    }
    let open = alice.creates(json!({"room_type": "public", "name": "Open", "room_version": version})).await;
    let whispers = alice.creates(json!({"room_type": "incognito", "room_version": version})).await;
    alice.brings_in(&whispers, bob).await;
    (vec![room, open, whispers, alice.direct(bob).await], workspace)
}

/// Holds the signed form of events of a room to the schemas of their types, where there are some.
async fn check_events(caller: &Caller, room: &str, events: Vec<Value>, seen: &mut BTreeSet<String>) {
    for event in events {
        let event_type = text(&event["type"]);
        let Some(schema) = event_schema(&event_type) else {
            continue;
        };
        if event["redacted"] == true {
            continue;
        }
        let pdu = caller.pdu(room, &text(&event["event_id"])).await;
        let faults: Vec<String> =
            schema.iter_errors(&pdu).map(|fault| format!("at `{}`: {fault}", fault.instance_path())).collect();
        assert!(faults.is_empty(), "{pdu} is no {event_type}: {}", faults.join("; "));
        seen.insert(event_type);
    }
}

fn event_schema(event_type: &str) -> Option<Validator> {
    let text = fs::read_to_string(event_folder().join(format!("{event_type}.schema.json"))).ok()?;
    let schema: Value = serde_json::from_str(&text).expect("a schema is JSON");
    Some(jsonschema::draft202012::new(&schema).expect("a schema compiles"))
}

/// The event types that have a schema.
fn event_types() -> BTreeSet<String> {
    let files = fs::read_dir(event_folder()).expect("the folder of the schemas");
    let names = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
    names.filter_map(|name| name.strip_suffix(".schema.json").map(str::to_owned)).collect()
}

fn event_folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/events"))
}

#[test]
fn the_schema_of_an_event_refuses_what_is_none() {
    let user = "@alice:yurt.test";
    let event = format!("${}", "A".repeat(43));
    let cases = [
        ("m.room.create", "", json!({"room_version": "12"})),
        ("m.room.create", "", json!({"room_version": "12", "io.yurt.type": "group", "type": "m.space"})),
        ("m.room.create", "", json!({"room_version": "12", "io.yurt.type": "group", "m.federate": false})),
        ("m.room.create", "", json!({"room_version": "12", "io.yurt.type": "incognito"})),
        ("m.room.create", "", json!({"room_version": "12", "io.yurt.type": "group", "creator": user})),
        ("m.room.create", "", json!({"room_version": "10", "io.yurt.type": "group"})),
        ("m.room.create", "", json!({"room_version": "9", "io.yurt.type": "group"})),
        ("m.room.member", user, json!({"membership": "friend"})),
        ("m.room.member", "alice", json!({"membership": "join"})),
        ("m.room.name", "", json!({})),
        ("m.room.name", "key", json!({"name": "Tents"})),
        ("m.room.power_levels", "", json!({"ban": 50})),
        ("io.yurt.archived", "", json!({"archived": "yes"})),
        ("io.yurt.closed", "", json!({"closed": true})),
        ("io.yurt.announcement", "", json!({})),
        ("io.yurt.custom", "", json!({"custom": 1})),
        ("io.yurt.silence", user, json!({"until": null})),
        ("io.yurt.silence", "alice:yurt.test", json!({"until": "2030-01-01T00:00:00.000Z"})),
        ("m.space.parent", "!not a room", json!({"via": ["yurt.test"]})),
    ];
    for (event_type, state_key, content) in cases {
        let event = json!({"type": event_type, "sender": user, "state_key": state_key, "content": content});
        let schema = event_schema(event_type).expect("a schema");
        assert!(!schema.is_valid(&event), "{event} passes");
    }
    let redaction = event_schema("m.room.redaction").expect("a schema");
    let both = json!({"type": "m.room.redaction", "sender": user, "redacts": event, "content": {"redacts": event}});
    let neither = json!({"type": "m.room.redaction", "sender": user, "content": {}});
    assert!(!redaction.is_valid(&both) && !redaction.is_valid(&neither));
}

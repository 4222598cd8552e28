//! The whole server at its real routes, asked by hand in the name of another one: requests signed with that server's key, which this server fetches from it. Every
//! answer is held to the specification's schemas.

use std::collections::BTreeSet;

use reqwest::Method;
use rules::{canonical, draft::Draft, event::Event};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedRoomId, OwnedUserId, ServerName, UserId, serde::Base64,
    signatures::KeyPair as _,
};
use serde_json::{Value, json};
use yurt::actions::{profile, room_state};

use super::{
    Scene, message, object,
    servers::{Authority, Server, read, trusting},
    specification,
};

const F: &str = "/_matrix/federation";

/// A room of Alice on our server, and another server in whose name is asked.
struct Doors {
    scene: Scene,
    ours: Server,
    theirs: Server,
    http: reqwest::Client,
    /// Of the other server. In the room once [`Doors::enter`] was called.
    hana: OwnedUserId,
}

/// The `X-Matrix` header of a server for a request whose body has this canonical text.
fn signed(by: &Server, to: &ServerName, method: &Method, target: &str, body: Option<&str>) -> String {
    let content = body.map(|body| format!(r#""content":{body},"#)).unwrap_or_default();
    let (name, key) = (by.name(), by.signing_key());
    let object = format!(r#"{{{content}"destination":"{to}","method":"{method}","origin":"{name}","uri":"{target}"}}"#);
    let signature: Base64 = Base64::new(key.sign(object.as_bytes()).as_bytes().to_vec());
    format!(r#"X-Matrix origin="{name}",destination="{to}",key="{}",sig="{signature}""#, key.key_id())
}

/// The canonical JSON of something that has one.
fn canonical_text(value: &Value) -> String {
    canonical::to_string(&canonical::read_object(&value.to_string()).unwrap())
}

fn forbidden() -> (u16, String) {
    (403, "M_FORBIDDEN".to_owned())
}

fn not_found() -> (u16, String) {
    (404, "M_NOT_FOUND".to_owned())
}

impl Doors {
    async fn new(version: &str) -> Self {
        Self::between("localhost", version).await
    }

    /// With another server on this host.
    async fn between(host: &str, version: &str) -> Self {
        let authority = Authority::new();
        let (ours, theirs) = (Server::new(&authority).await, Server::on(host, &authority).await);
        let scene = Box::pin(Scene::on(ours.actions().await, version)).await;
        scene.learn_ours().await;
        let their_actions = theirs.actions().await;
        scene.world.lock().signers.insert(theirs.name().to_owned(), their_actions.signer.clone());
        let hana = UserId::parse(format!("@hana:{}", theirs.name())).unwrap();
        Self { scene, http: trusting(&authority.file()), ours, theirs, hana }
    }

    /// With Hana in the room.
    async fn entered(version: &str) -> Self {
        let doors = Box::pin(Self::new(version)).await;
        doors.enter().await;
        doors
    }

    async fn enter(&self) {
        let join = self.make(Draft::member(&self.hana, "join", CanonicalJsonObject::new())).await;
        assert_eq!(self.deliver("enter", &[&join]).await, json!({ (join.event_id().as_str()): {} }));
    }

    fn room_id(&self) -> OwnedRoomId {
        self.scene.room_id.clone()
    }

    /// An event of Hana behind everything that our server holds.
    async fn make(&self, draft: Draft) -> std::sync::Arc<Event> {
        self.scene.learn_ours().await;
        self.scene.make(&self.hana, &self.scene.heads().await, draft)
    }

    /// What is answered to a request, whoever it says it is from.
    async fn request(&self, method: Method, target: &str, header: Option<&str>, body: Option<String>) -> (u16, Value) {
        let url = format!("https://{}{target}", self.ours.name());
        let mut request = self.http.request(method.clone(), url).header("Accept-Encoding", "gzip, br");
        if let Some(header) = header {
            request = request.header("Authorization", header);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/json", "{target}");
        assert!(!answer.headers().contains_key("content-encoding"), "{target}: nothing is compressed");
        let (status, answer) = read(answer).await;
        specification::judge(method.as_str(), target, status, &answer)
            .unwrap_or_else(|fault| panic!("{fault}: {answer:#}"));
        (status, answer)
    }

    /// What is answered to the other server.
    async fn ask(&self, method: Method, target: &str, body: Option<Value>) -> (u16, Value) {
        let target = format!("{F}{target}");
        let body = body.as_ref().map(canonical_text);
        let header = signed(&self.theirs, self.ours.name(), &method, &target, body.as_deref());
        self.request(method, &target, Some(&header), body).await
    }

    async fn get(&self, target: &str) -> (u16, Value) {
        self.ask(Method::GET, target, None).await
    }

    async fn got(&self, target: &str) -> Value {
        let (status, answer) = self.get(target).await;
        assert_eq!(status, 200, "{target}: {answer}");
        answer
    }

    async fn put(&self, target: &str, body: Value) -> (u16, Value) {
        self.ask(Method::PUT, target, Some(body)).await
    }

    /// The result of each event of a transaction.
    async fn deliver(&self, id: &str, events: &[&Event]) -> Value {
        let pdus: Vec<Value> = events.iter().map(|event| json_of(event)).collect();
        self.send(id, json!({ "pdus": pdus })).await
    }

    async fn send(&self, id: &str, mut transaction: Value) -> Value {
        transaction["origin"] = json!(self.theirs.name());
        transaction["origin_server_ts"] = json!(1_700_000_000_000_u64);
        let (status, answer) = self.put(&format!("/v1/send/{id}"), transaction).await;
        assert_eq!(status, 200, "{answer}");
        answer["pdus"].clone()
    }

    /// A template, completed and signed by the other server, with something changed before.
    async fn completed(&self, template: &Value, change: impl FnOnce(&mut Value)) -> (OwnedEventId, Value) {
        let mut event = template["event"].clone();
        event["origin_server_ts"] = json!(1_700_000_000_000_u64);
        for field in ["hashes", "signatures"] {
            event.as_object_mut().unwrap().remove(field);
        }
        change(&mut event);
        let mut event: CanonicalJsonObject = canonical::read_object(&event.to_string()).unwrap();
        let hash = rules::hash::content_hash_text(&event);
        event.insert("hashes".to_owned(), CanonicalJsonValue::try_from(json!({ "sha256": hash })).unwrap());
        self.theirs.actions().await.signer.sign_event(&mut event, &self.scene.version);
        let event_id = rules::hash::event_id(&event, &self.scene.version).unwrap();
        (event_id, serde_json::to_value(&event).unwrap())
    }
}

fn json_of(event: &Event) -> Value {
    serde_json::from_str(event.json()).unwrap()
}

fn error((status, answer): (u16, Value)) -> (u16, String) {
    (status, answer["errcode"].as_str().unwrap_or_default().to_owned())
}

/// S2S 2: bodies and answers, unknown paths and methods. Hard case 53: answers are not compressed, whoever would take it.
#[tokio::test]
async fn bodies_and_answers_are_json_and_unknown_paths_are_said_to_be() {
    let doors = Doors::new("12").await;
    let unknown = |status| (status, "M_UNRECOGNIZED".to_owned());
    for path in ["/_matrix/federation/v9/x", "/_matrix/key/v2/x", "/_matrix/media/v3/x", "/_matrix/policy/v1/sign"] {
        assert_eq!(error(doors.request(Method::GET, path, None, None).await), unknown(404), "{path}");
    }
    for path in ["/_matrix/federation/v1/version", "/_matrix/key/v2/server", "/_matrix/federation/v1/event/$e"] {
        assert_eq!(error(doors.request(Method::DELETE, path, None, None).await), unknown(405), "{path}");
    }
    let target = format!("{F}/v1/send/t");
    let header = signed(&doors.theirs, doors.ours.name(), &Method::PUT, &target, Some("{}"));
    for (body, expected) in [("[]", "M_BAD_JSON"), ("{", "M_NOT_JSON"), ("{\"a\":\"\u{0}\"}", "M_NOT_JSON")] {
        let answer = doors.request(Method::PUT, &target, Some(&header), Some(body.to_owned())).await;
        assert_eq!(error(answer), (400, expected.to_owned()), "{body}");
    }
    // Without a content type; an object may be empty.
    assert_eq!(doors.put("/v1/send/t", json!({})).await.0, 200);
}

/// S2S 5: origin, destination, and headers that prove nothing. Hard case 62.
#[tokio::test]
async fn who_does_not_prove_who_they_are_is_not_heard() {
    let doors = Doors::new("12").await;
    let target = format!("{F}/v1/query/profile?user_id=@alice:{}", doors.ours.name());
    let good = signed(&doors.theirs, doors.ours.name(), &Method::GET, &target, None);
    assert_eq!(doors.request(Method::GET, &target, Some(&good), None).await.0, 200);
    let (name, our_name) = (doors.theirs.name().as_str(), doors.ours.name().as_str());
    let bad = [
        None,
        Some("Bearer abc".to_owned()),
        Some("X-Matrix".to_owned()),
        Some(good.replace(name, our_name)),
        Some(good.replace(name, &name.replace("localhost", "Localhost"))),
        Some(good.replace("ed25519:", "ed25519:other")),
        Some(good.replace("sig=\"", "sig=\"AA")),
        Some(good.replace(name, "../etc")),
    ];
    for header in bad {
        let answer = doors.request(Method::GET, &target, header.as_deref(), None).await;
        assert_eq!(error(answer), (401, "M_UNAUTHORIZED".to_owned()), "{header:?}");
    }
    // It was signed for another request.
    let other = format!("{F}/v1/query/profile?user_id=@bob:{}", doors.ours.name());
    assert_eq!(doors.request(Method::GET, &other, Some(&good), None).await.0, 401);
    // The name of nobody here leads to nobody, also when it differs only by the case of its letters.
    let nobody =
        good.replace(&format!("destination=\"{our_name}\""), &format!("destination=\"{}\"", our_name.to_uppercase()));
    let answer = doors.request(Method::GET, &target, Some(&nobody), None).await;
    assert!([401, 404].contains(&answer.0), "{answer:?}");
}

/// S2S 5: replays. S2S 9.1 send.
#[tokio::test]
async fn every_request_may_be_repeated() {
    let doors = Doors::new("12").await;
    let room_id = doors.room_id();
    let join = doors.got(&format!("/v1/make_join/{room_id}/{}?ver=12", doors.hana)).await;
    let (join_id, join) = doors.completed(&join, |_| {}).await;
    let target = format!("/v2/send_join/{room_id}/{join_id}");
    let first = doors.put(&target, join.clone()).await;
    assert_eq!(first.0, 200, "{first:?}");
    let heads = doors.scene.heads().await;
    assert_eq!(doors.put(&target, join).await, first);
    assert_eq!(doors.scene.heads().await, heads);

    let said = doors.make(message("once")).await;
    for id in ["a", "a", "b"] {
        assert_eq!(doors.deliver(id, &[&said]).await, json!({ (said.event_id().as_str()): {} }));
    }
    assert_eq!(doors.scene.bodies().await, ["once"]);

    let leave = doors.got(&format!("/v1/make_leave/{room_id}/{}", doors.hana)).await;
    let (leave_id, leave) = doors.completed(&leave, |_| {}).await;
    let target = format!("/v2/send_leave/{room_id}/{leave_id}");
    assert_eq!(doors.put(&target, leave.clone()).await, (200, json!({})));
    let heads = doors.scene.heads().await;
    let again = doors.put(&target, leave).await;
    assert!([200, 403, 404].contains(&again.0), "{again:?}");
    assert_eq!(doors.scene.heads().await, heads, "nobody leaves twice");
}

/// S2S 6: numbers outside the limits. Hard case 36.
#[tokio::test]
async fn an_event_outside_the_limits_is_bad_json_in_a_handshake() {
    let doors = Doors::new("12").await;
    let room_id = doors.room_id();
    let template = doors.got(&format!("/v1/make_join/{room_id}/{}?ver=12", doors.hana)).await;
    let (join_id, join) = doors.completed(&template, |_| {}).await;
    let depth = format!("\"depth\":{}", join["depth"]);
    let target = format!("{F}/v2/send_join/{room_id}/{join_id}");
    for wrong in ["9007199254740992", "1e+100", "1.5"] {
        // What Python writes for the number, so that the signature is right.
        let text = canonical_text(&join).replace(&depth, &format!("\"depth\":{wrong}"));
        let header = signed(&doors.theirs, doors.ours.name(), &Method::PUT, &target, Some(&text));
        let answer = doors.request(Method::PUT, &target, Some(&header), Some(text)).await;
        assert_eq!(error(answer), (400, "M_BAD_JSON".to_owned()), "{wrong}");
    }
    assert_eq!(doors.put(&target[F.len()..], join).await.0, 200);
}

/// S2S 9.1 send, S2S 10.
#[tokio::test]
async fn a_transaction_is_answered_event_by_event_and_its_repeat_alike() {
    for version in ["10", "11", "12"] {
        let doors = Doors::entered(version).await;
        let good = doors.make(message("good")).await;
        let levels = Draft::state("m.room.power_levels", "", object(json!({ "users_default": 100 })));
        let forbidden = doors.make(levels).await;
        let mut forged = json_of(&good);
        forged["content"]["body"] = json!("forged");
        forged["depth"] = json!(7);
        let mut other_room = json_of(&good);
        other_room["room_id"] = json!("!elsewhere:example.org");
        let sent = json!({ "pdus": [json_of(&good), json_of(&forbidden), forged, other_room, 5, {}] });
        let answer = doors.send("t", sent.clone()).await;
        assert_eq!(answer[good.event_id().as_str()], json!({}), "{answer}");
        assert!(answer[forbidden.event_id().as_str()]["error"].is_string(), "{answer}");
        assert_eq!(doors.scene.bodies().await, ["good"]);
        assert!(doors.scene.is_rejected(&forbidden).await);
        assert_eq!(doors.send("t", sent).await, answer);
        for too_many in
            [json!({ "pdus": vec![json_of(&good); 51] }), json!({ "pdus": [], "edus": vec![json!({}); 101] })]
        {
            assert_eq!(doors.put("/v1/send/many", too_many).await.0, 400);
        }
    }
}

/// S2S 9.1 event, state, state_ids, event_auth, backfill, get_missing_events. Hard case 20.
#[tokio::test]
async fn history_is_given_to_who_is_in_the_room_and_to_nobody_else() {
    for version in ["10", "12"] {
        let doors = Doors::new(version).await;
        let room_id = doors.room_id();
        let early = doors.scene.send("early").await;
        let targets = |event_id: &OwnedEventId| {
            vec![
                format!("/v1/event/{event_id}"),
                format!("/v1/state/{room_id}?event_id={event_id}"),
                format!("/v1/state_ids/{room_id}?event_id={event_id}"),
                format!("/v1/event_auth/{room_id}/{event_id}"),
                format!("/v1/backfill/{room_id}?v={event_id}&limit=10"),
            ]
        };
        let gap = |event_id: &OwnedEventId| json!({ "earliest_events": [], "latest_events": [event_id], "limit": 5 });
        let missing = format!("/v1/get_missing_events/{room_id}");
        for target in targets(&early) {
            assert_eq!(error(doors.get(&target).await), not_found(), "{target}");
        }
        assert_eq!(error(doors.ask(Method::POST, &missing, Some(gap(&early))).await), not_found());

        doors.enter().await;
        let said = doors.make(message("said")).await;
        doors.deliver("said", &[&said]).await;
        for target in targets(said.event_id()) {
            doors.got(&target).await;
        }
        let event = doors.got(&format!("/v1/event/{}", said.event_id())).await;
        assert_eq!((&event["origin"], &event["pdus"][0]), (&json!(doors.ours.name()), &json_of(&said)));
        let ids = doors.got(&format!("/v1/state_ids/{room_id}?event_id={}", said.event_id())).await;
        let state = doors.got(&format!("/v1/state/{room_id}?event_id={}", said.event_id())).await;
        let count = |value: &Value| value.as_array().unwrap().len();
        assert_eq!(count(&ids["pdu_ids"]), count(&state["pdus"]));
        assert_eq!(count(&ids["auth_chain_ids"]), count(&state["auth_chain"]));
        let backfill = doors.got(&format!("/v1/backfill/{room_id}?v={}&limit=3", said.event_id())).await;
        assert_eq!((count(&backfill["pdus"]), &backfill["pdus"][0]), (3, &json_of(&said)));
        let (_, missing) = doors.ask(Method::POST, &missing, Some(gap(said.event_id()))).await;
        assert_eq!(count(&missing["events"]), 5);
        for target in targets(&OwnedEventId::try_from(format!("${}", "A".repeat(43))).unwrap()) {
            let (status, answer) = doors.get(&target).await;
            assert!(status == 404 || answer["pdus"] == json!([]), "{target}: {answer}");
        }
    }
}

/// S2S 9.2 make_join, send_join, make_leave, send_leave. Hard case 7.
#[tokio::test]
async fn somebody_joins_and_leaves_by_hand() {
    for version in ["10", "11", "12"] {
        let doors = Doors::new(version).await;
        let (room_id, hana) = (doors.room_id(), &doors.hana);
        let template = doors.got(&format!("/v1/make_join/{room_id}/{hana}?ver=1&ver={version}")).await;
        assert_eq!(template["room_version"], json!(version));
        let incompatible = doors.get(&format!("/v1/make_join/{room_id}/{hana}")).await;
        assert_eq!(incompatible.1["room_version"], json!(version));
        assert_eq!(error(incompatible), (400, "M_INCOMPATIBLE_ROOM_VERSION".to_owned()));
        let foreign = doors.get(&format!("/v1/make_join/{room_id}/@u:other.example?ver={version}")).await;
        assert_eq!(error(foreign), forbidden());

        let before = doors.scene.tip().await;
        let (join_id, join) = doors.completed(&template, |_| {}).await;
        let refused: [(String, Value); 4] = [
            (format!("/v2/send_join/!other:example.org/{join_id}"), join.clone()),
            (format!("/v2/send_join/{room_id}/${}", "A".repeat(43)), join.clone()),
            (format!("/v2/send_leave/{room_id}/{join_id}"), join.clone()),
            {
                let (id, event) =
                    doors.completed(&template, |event| event["state_key"] = json!("@o:example.org")).await;
                (format!("/v2/send_join/{room_id}/{id}"), event)
            },
        ];
        for (target, event) in refused {
            let (status, answer) = doors.put(&target, event).await;
            assert!([400, 403, 404].contains(&status), "{target}: {status} {answer}");
        }
        assert_eq!(doors.scene.tip().await, before, "nothing is stored");

        let (status, joined) = doors.put(&format!("/v2/send_join/{room_id}/{join_id}"), join.clone()).await;
        assert_eq!(status, 200, "{joined}");
        let types = |list: &Value| -> Vec<String> {
            list.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
        };
        assert!(types(&joined["state"]).iter().any(|kind| kind == "m.room.create"), "{joined}");
        assert_eq!(joined["event"]["content"], join["content"]);

        let template = doors.got(&format!("/v1/make_leave/{room_id}/{hana}")).await;
        let (leave_id, leave) = doors.completed(&template, |_| {}).await;
        assert_eq!(doors.put(&format!("/v2/send_leave/{room_id}/{leave_id}"), leave).await, (200, json!({})));
        assert_eq!(error(doors.get(&format!("/v1/make_leave/{room_id}/{hana}")).await), forbidden());
    }
}

/// S2S 9.3 queries, S2S 9.4 devices and keys, S2S 9.5 keys, version and well-known. Hard cases 23 and 24.
#[tokio::test]
async fn look_ups_are_answered_for_what_is_ours() {
    let doors = Doors::new("12").await;
    let (ours, theirs, room_id) = (doors.ours.name(), doors.theirs.name(), doors.room_id());
    let actions = &doors.scene.actions;
    let alias = actions.room(&room_id).view().await.unwrap().unwrap().summary.alias.clone().unwrap();
    let found = doors.got(&format!("/v1/query/directory?room_alias={}", alias.replace('#', "%23"))).await;
    assert_eq!(found, json!({ "room_id": room_id, "servers": [ours] }));
    for other in [format!("%23tents:{theirs}"), format!("%23nothing:{ours}")] {
        assert_eq!(error(doors.get(&format!("/v1/query/directory?room_alias={other}")).await), not_found());
    }
    let named = profile::NewProfile { display_name: Some(Some("Alice".to_owned())), avatar_url: None };
    profile::set(actions, &doors.scene.alice, named).await.unwrap();
    assert_eq!(doors.got(&format!("/v1/query/profile?user_id=@alice:{ours}")).await["displayname"], "Alice");
    assert_eq!(doors.got(&format!("/v1/query/profile?user_id=@alice:{ours}&field=avatar_url")).await, json!({}));
    for nobody in
        [format!("@alice:{theirs}"), format!("@nobody:{ours}"), format!("@alice:{}", ours.as_str().to_uppercase())]
    {
        assert_eq!(error(doors.get(&format!("/v1/query/profile?user_id={nobody}")).await), not_found(), "{nobody}");
        assert_eq!(error(doors.get(&format!("/v1/user/devices/{nobody}")).await), not_found(), "{nobody}");
    }
    assert_eq!(error(doors.get("/v1/query/presence?a=b").await), (404, "M_UNRECOGNIZED".to_owned()));
    let devices = doors.got(&format!("/v1/user/devices/@alice:{ours}")).await;
    assert_eq!((&devices["user_id"], &devices["devices"]), (&json!(format!("@alice:{ours}")), &json!([])));
    let asked = json!({ "device_keys": { (format!("@alice:{ours}")): [], (format!("@hana:{theirs}")): [] } });
    let (_, keys) = doors.ask(Method::POST, "/v1/user/keys/query", Some(asked)).await;
    assert_eq!(keys, json!({ "device_keys": { (format!("@alice:{ours}")): {} } }));

    for path in
        ["/_matrix/key/v2/server".to_owned(), format!("/_matrix/key/v2/query/{ours}"), format!("{F}/v1/version")]
    {
        assert_eq!(doors.request(Method::GET, &path, None, None).await.0, 200, "{path}");
    }
    let asked = json!({ "server_keys": { (ours.as_str()): {}, (theirs.as_str()): {} } }).to_string();
    let (_, told) = doors.request(Method::POST, "/_matrix/key/v2/query", None, Some(asked)).await;
    let named = told["server_keys"].as_array().unwrap().iter().map(|keys| keys["server_name"].as_str().unwrap());
    assert_eq!(named.collect::<BTreeSet<_>>(), [ours.as_str(), theirs.as_str()].into(), "{told}");
}

/// S2S 10: what is said of others, and what nobody knows, is passed over. Hard case 15.
#[tokio::test]
async fn news_of_other_peoples_and_unknown_news_do_no_harm() {
    let doors = Doors::entered("12").await;
    let (room_id, alice, hana) = (doors.room_id(), doors.scene.alice.user_id.clone(), &doors.hana);
    let typing = |room: &str, user: &UserId| json!({ "room_id": room, "user_id": user, "typing": true });
    let read = json!({ "event_ids": ["$e"], "data": { "ts": 5 } });
    let receipts = json!({ (room_id.as_str()): { "m.read": { (alice.as_str()): read, (hana.as_str()): read } } });
    let messages = json!({ (alice.as_str()): { "*": {} } });
    let edus = [
        ("m.typing", typing(room_id.as_str(), hana)),
        ("m.typing", typing(room_id.as_str(), &alice)),
        ("m.typing", typing("!elsewhere:example.org", hana)),
        ("m.receipt", receipts),
        ("m.presence", json!({ "push": [{ "user_id": alice, "presence": "offline" }] })),
        ("m.device_list_update", json!({ "user_id": alice, "device_id": "D", "stream_id": 1 })),
        ("m.direct_to_device", json!({ "sender": alice, "type": "x", "message_id": "m", "messages": messages })),
        ("m.signing_key_update", json!({ "user_id": alice })),
        ("m.unknown", json!(5)),
    ];
    let edus = edus.map(|(kind, content)| json!({ "edu_type": kind, "content": content }));
    let said = doors.make(message("said")).await;
    let sent = json!({ "pdus": [json_of(&said)], "edus": edus });
    assert_eq!(doors.send("edus", sent).await, json!({ (said.event_id().as_str()): {} }));
    assert_eq!(doors.scene.bodies().await, ["said"]);
}

/// S2S 8: the version of a room that is known. S2S 9.2 invite.
#[tokio::test]
async fn the_version_of_a_room_is_ours_to_say() {
    let doors = Doors::entered("11").await;
    let room_id = doors.room_id();
    let create = doors.scene.actions.room(&room_id).view().await.unwrap().unwrap().summary.create_event_id.clone();
    let (said, heads) = (doors.make(message("said")).await, doors.scene.heads().await);
    // In version 12 the create event is not among the auth events; here it has to be.
    let leaves_out = |auth: &mut Vec<OwnedEventId>| auth.retain(|id| *id != create);
    let of_12 = doors.scene.world.lock().make_with(&doors.hana, &heads, message("of 12"), leaves_out);
    let sent = json!({ "room_version": "12", "pdus": [json_of(&said), json_of(&of_12)] });
    let answer = doors.send("versions", sent).await;
    assert_eq!(answer[said.event_id().as_str()], json!({}), "{answer}");
    assert!(answer[of_12.event_id().as_str()]["error"].is_string(), "{answer}");
    let template = doors.get(&format!("/v1/make_join/{room_id}/@o:{}?ver=12&ver=10", doors.theirs.name())).await;
    assert_eq!((template.0, &template.1["room_version"]), (400, &json!("11")));
}

/// S2S 18: what a list protects. Hard case 61: a port is no part of what is matched.
#[tokio::test]
async fn a_denied_server_is_refused_at_every_door_of_the_room() {
    let doors = Doors::between("127.0.0.1", "12").await;
    doors.enter().await;
    let room_id = doors.room_id();
    let said = doors.make(message("said")).await;
    doors.deliver("before", &[&said]).await;
    let event_id = said.event_id();
    let join = doors.got(&format!("/v1/make_join/{room_id}/@o:{}?ver=12", doors.theirs.name())).await;
    let (join_id, join) = doors.completed(&join, |_| {}).await;
    let leave = doors.got(&format!("/v1/make_leave/{room_id}/{}", doors.hana)).await;
    let (leave_id, leave) = doors.completed(&leave, |_| {}).await;
    let template = json!({ "event": join });
    let knocks = |event: &mut Value| event["content"]["membership"] = json!("knock");
    let (knock_id, knock) = doors.completed(&template, knocks).await;
    let invites = |event: &mut Value| {
        event["content"]["membership"] = json!("invite");
        event["state_key"] = json!(format!("@alice:{}", doors.ours.name()));
    };
    let (invite_id, invite) = doors.completed(&json!({ "event": leave }), invites).await;
    let late = doors.make(message("late")).await;
    for list in
        [json!({ "allow": ["*"], "allow_ip_literals": false }), json!({ "allow": ["*"], "deny": ["127.0.?.*"] })]
    {
        room_state::set(&doors.scene.actions, &doors.scene.alice, room_id.as_str(), "m.room.server_acl", "", list)
            .await
            .unwrap();
        for target in [
            format!("/v1/make_join/{room_id}/@o:{}?ver=12", doors.theirs.name()),
            format!("/v1/make_leave/{room_id}/{}", doors.hana),
            format!("/v1/make_knock/{room_id}/{}?ver=12", doors.hana),
            format!("/v1/event/{event_id}"),
            format!("/v1/state/{room_id}?event_id={event_id}"),
            format!("/v1/state_ids/{room_id}?event_id={event_id}"),
            format!("/v1/event_auth/{room_id}/{event_id}"),
            format!("/v1/backfill/{room_id}?v={event_id}&limit=10"),
        ] {
            assert_eq!(error(doors.get(&target).await), forbidden(), "{target}");
        }
        let gap = json!({ "earliest_events": [], "latest_events": [event_id] });
        let missing = doors.ask(Method::POST, &format!("/v1/get_missing_events/{room_id}"), Some(gap)).await;
        assert_eq!(error(missing), forbidden());
        for (target, event) in [
            (format!("/v2/send_join/{room_id}/{join_id}"), &join),
            (format!("/v2/send_leave/{room_id}/{leave_id}"), &leave),
            (format!("/v1/send_knock/{room_id}/{knock_id}"), &knock),
        ] {
            assert_eq!(error(doors.put(&target, event.clone()).await), forbidden(), "{target}");
        }
        let event = json!({ "room_version": "12", "event": invite, "invite_room_state": [] });
        assert_eq!(error(doors.put(&format!("/v2/invite/{room_id}/{invite_id}"), event).await), forbidden());
        let answer = doors.deliver(&format!("late-{}", doors.scene.heads().await.len()), &[&late]).await;
        assert!(answer[late.event_id().as_str()]["error"].is_string(), "{answer}");
    }
    assert_eq!(doors.scene.bodies().await, ["said"]);
}

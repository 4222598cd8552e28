//! Who types and who has read what, between servers; and what people call themselves.

use ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedServerName, UserId, uint};
use serde_json::{Value, json};
use yurt::{
    control::{Answer, Command},
    storage::room_settings::FederationMode,
};

use super::{
    LocalRooms, Scene, id_of, message,
    servers::{eventually, together},
};
use crate::client::{Caller, Ear, WAYS, Way, encoded, text};

impl Scene {
    /// Alice at the API.
    async fn caller(&self) -> Caller {
        let server = self.server.as_ref().unwrap();
        let command = Command::IssueToken { username: "alice".to_owned() };
        let Answer::Token { access_token } = server.commands(command).await else { panic!("no token was made") };
        server.nameless().with_token(&access_token.0).named(self.alice.user_id.as_str())
    }

    async fn types(&self, origin: &str, user_id: &str, is_typing: bool) {
        let (origin, user_id) = (OwnedServerName::try_from(origin).unwrap(), UserId::parse(user_id).unwrap());
        LocalRooms::typing(&self.actions, &origin, &self.room_id, &user_id, is_typing).await;
    }

    async fn reads(&self, user_id: &str, event_id: &EventId, thread: Option<&EventId>) {
        let (origin, user_id) = (OwnedServerName::try_from("peer.example").unwrap(), UserId::parse(user_id).unwrap());
        let at = MilliSecondsSinceUnixEpoch(uint!(7));
        LocalRooms::read_receipt(&self.actions, &origin, &self.room_id, &user_id, event_id, thread, at).await;
    }
}

async fn page(caller: &Caller, path: &str) -> Value {
    serde_json::from_slice(&caller.get(path).await.expect_status(200).body).unwrap()
}

async fn typing(ear: &mut Ear) -> Value {
    ear.until_type("typing").await["participants"].clone()
}

/// Hard cases 15 and 16.
#[tokio::test]
async fn typing_of_peers_is_heard_ends_by_itself_and_is_believed_of_their_own_members_only() {
    for way in WAYS {
        let scene = Scene::new("12").await;
        let mut ear = scene.caller().await.listens(way).await;
        scene.types("other.example", "@rita:peer.example", true).await;
        scene.types("peer.example", "@stranger:peer.example", true).await;
        scene.types("peer.example", "@rita:peer.example", true).await;
        assert_eq!(typing(&mut ear).await, json!(["@rita:peer.example"]));
        scene.types("other.example", "@sam:other.example", true).await;
        assert_eq!(typing(&mut ear).await, json!(["@rita:peer.example", "@sam:other.example"]));
        scene.types("peer.example", "@rita:peer.example", false).await;
        assert_eq!(typing(&mut ear).await, json!(["@sam:other.example"]));
        scene.advance(std::time::Duration::from_secs(31));
        assert_eq!(typing(&mut ear).await, json!([]), "nobody said that it went on");
    }
}

#[tokio::test]
async fn receipts_of_peers_are_heard_of_the_room_and_of_threads() {
    let scene = Scene::new("12").await;
    let mut ear = scene.caller().await.listens(Way::Events).await;
    let event = scene.make(&scene.rita, &scene.heads().await, message("hello"));
    let unknown = scene.make(&scene.rita, &[id_of(&event)], message("never sent"));
    assert_eq!(scene.receive(&[&event]).await, [Ok(())]);
    scene.reads("@sam:other.example", event.event_id(), None).await;
    scene.reads("@stranger:peer.example", event.event_id(), None).await;
    scene.reads("@rita:peer.example", unknown.event_id(), None).await;
    scene.reads("@rita:peer.example", event.event_id(), Some(event.event_id())).await;
    scene.reads("@rita:peer.example", event.event_id(), None).await;
    let rita = json!({
        "type": "read_marker", "room_id": scene.room_id, "participant_id": "@rita:peer.example", "event_id": event.event_id(),
    });
    let mut of_thread = rita.clone();
    of_thread["thread_id"] = json!(event.event_id());
    assert_eq!(ear.until_type("read_marker").await, of_thread);
    assert_eq!(ear.until_type("read_marker").await, rita);
}

#[tokio::test]
async fn nobody_elsewhere_is_heard_to_type_or_read_in_a_room_that_is_switched_off() {
    let scene = Scene::new("12").await;
    let alice = scene.caller().await;
    let mut ear = alice.listens(Way::Events).await;
    let event = scene.make(&scene.rita, &scene.heads().await, message("hello"));
    assert_eq!(scene.receive(&[&event]).await, [Ok(())]);
    scene.switches(FederationMode::Off).await;
    scene.types("peer.example", "@rita:peer.example", true).await;
    scene.reads("@rita:peer.example", event.event_id(), None).await;
    let said = alice.says(scene.room_id.as_str(), "are we alone?").await;
    let heard = ear.until_event(&said).await;
    assert!(heard.iter().all(|row| row["type"] != "typing" && row["type"] != "read_marker"), "{heard:?}");
    scene.switches(FederationMode::Open).await;
    scene.types("peer.example", "@rita:peer.example", true).await;
    assert_eq!(typing(&mut ear).await, json!(["@rita:peer.example"]));
}

#[tokio::test]
async fn what_people_do_on_one_server_is_seen_on_the_other() {
    let (_authority, mut ours, mut theirs, alice, bob, room) = together().await;
    let here = format!("/v1/rooms/{}", encoded(&room));
    let said = bob.post(&format!("{here}/messages"), json!({ "body": "hello" })).await.created();
    let event_id = text(&said["event_id"]);
    eventually("Alice has the message", async || {
        alice.get(&format!("{here}/events/{}", encoded(&event_id))).await.status == 200
    })
    .await;
    let mut ear = bob.listens(Way::Socket).await;
    alice.put(&format!("{here}/typing"), json!({ "typing": true })).await.ok();
    assert_eq!(typing(&mut ear).await, json!([alice.id]));
    alice.put(&format!("{here}/read"), json!({ "event_id": event_id })).await.ok();
    let read = ear.until_type("read_marker").await;
    assert_eq!((&read["participant_id"], &read["event_id"]), (&json!(alice.id), &json!(event_id)));

    bob.put("/v1/me/profile", json!({ "display_name": "Bob the Builder" })).await.ok();
    eventually("Alice sees his name", async || {
        let members = alice.get(&format!("{here}/members")).await.list();
        members.iter().any(|member| member["display_name"] == "Bob the Builder")
    })
    .await;
    let user_id = UserId::parse(&bob.id).unwrap();
    let profile = ours.actions().await.peers().profile(theirs.name(), &user_id).await.unwrap();
    assert_eq!(profile["displayname"], "Bob the Builder");
    ours.stop().await;
    theirs.stop().await;
}

#[tokio::test]
async fn who_joins_reads_what_was_said_before_and_admins_see_what_is_held() {
    let (_authority, mut ours, mut theirs, alice, bob, room) = together().await;
    let root = theirs.admin("root").await;
    // Another room, in which much was said before anybody of the other server came.
    let old = alice.public("Old").await;
    for number in 0..30 {
        alice
            .post(&format!("/v1/rooms/{}/messages", encoded(&old)), json!({ "body": format!("{number}") }))
            .await
            .created();
    }
    bob.post(&format!("/v1/rooms/{}/join", encoded(&old)), json!({ "via": [ours.name()] })).await.ok();
    let there = format!("/v1/rooms/{}", encoded(&old));
    let completeness = format!("/v1/admin/rooms/{}/completeness", encoded(&old));
    let report = root.get(&completeness).await.ok();
    assert_eq!((&report["complete"], report["holes"].as_array().unwrap().len()), (&json!(false), 1));
    assert_eq!(report["suppliers"][0]["server"], json!(ours.name()));
    bob.get(&completeness).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");

    let backfill = format!("/v1/admin/rooms/{}/federation/backfill", encoded(&old));
    let filled = root.post(&backfill, json!({ "limit": 5 })).await.ok();
    assert_eq!(
        (&filled["peer"], &filled["stored"], &filled["complete"]),
        (&json!(ours.name()), &json!(5), &json!(false))
    );
    root.post(&backfill, json!({ "limit": 0 })).await.refused(400, "SW_REQUEST_INVALID");
    root.post(&backfill, json!({ "peer": "elsewhere.example" })).await.refused(400, "SW_REQUEST_INVALID");
    bob.post(&backfill, json!({})).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");

    let (mut bodies, mut from) = (Vec::new(), String::new());
    loop {
        let path = format!("{there}/messages?limit=10{from}");
        eventually("nothing is missing on the page", async || page(&bob, &path).await["meta"]["gaps"] == json!([]))
            .await;
        let page = page(&bob, &path).await;
        let events = page["data"].as_array().unwrap().clone();
        bodies.extend(events.iter().filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)));
        match page["meta"]["next_cursor"].as_str() {
            Some(next) => from = format!("&from={next}"),
            None => break,
        }
    }
    let expected: Vec<String> = (0..30).rev().map(|number| number.to_string()).collect();
    assert_eq!(bodies, expected);
    let again = root.post(&backfill, json!({})).await.ok();
    assert_eq!((&again["stored"], &again["complete"], &again["next"]), (&json!(0), &json!(true), &json!(null)));
    assert_eq!(root.get(&completeness).await.ok()["complete"], json!(true));
    let acts = root.get("/v1/admin/audit?action=room.backfill").await.list();
    assert!(!acts.is_empty());
    assert_eq!(
        root.get(&format!("/v1/admin/rooms/{}/completeness", encoded(&room))).await.ok()["room_id"],
        json!(room)
    );

    // What nobody can give is told.
    let lost = alice.public("Lost").await;
    bob.post(&format!("/v1/rooms/{}/join", encoded(&lost)), json!({ "via": [ours.name()] })).await.ok();
    ours.stop().await;
    let page = page(&bob, &format!("/v1/rooms/{}/messages", encoded(&lost))).await;
    let first = &page["data"].as_array().unwrap().last().unwrap()["event_id"];
    assert_eq!((&page["meta"]["has_more"], &page["meta"]["gaps"][0]["event_id"]), (&json!(false), first));
    theirs.stop().await;
}

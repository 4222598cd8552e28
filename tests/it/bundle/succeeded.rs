//! A room in which nobody of this server is goes on in a successor, and its past is read there.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{bundle_of, import::upload};
use crate::{
    client::{Caller, encoded},
    federation::servers::{Authority, Server},
};

/// Two servers; a room of the first with a past, and its bundle.
struct Scene {
    authority: Authority,
    old: Server,
    new: Server,
    alice: Caller,
    room: String,
    bundle: Bytes,
}

async fn scene(version: &str) -> Scene {
    let authority = Authority::new();
    let (old, new) = (Server::new(&authority).await, Server::new(&authority).await);
    let (alice, carol, dave) = (old.account("alice").await, old.account("carol").await, old.account("dave").await);
    let room =
        alice.creates(json!({"room_type": "group", "name": "Tents", "topic": "Felt", "room_version": version})).await;
    alice.brings_in(&room, &carol).await;
    alice.brings_in(&room, &dave).await;
    alice.gives_level(&room, &carol, 50).await.ok();
    alice.put(&format!("/v1/rooms/{room}/announcement"), json!({"announcement": "Pack light"})).await.ok();
    for number in 0..12 {
        carol.says(&room, &format!("message {number}")).await;
    }
    let secret = dave.says(&room, "a secret").await;
    alice.post(&format!("/v1/rooms/{room}/events/{secret}/redact"), json!({})).await.created();
    alice.does("ban", &room, &dave).await.ok();
    alice.says(&room, "the last word").await;
    let bundle = bundle_of(&alice, &room).await;
    Scene { authority, old, new, alice, room, bundle }
}

fn past(scene: &Scene, name: &str) -> String {
    format!("@{name}:{}", scene.old.name())
}

fn bodies(events: &[Value]) -> Vec<String> {
    events.iter().filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_room_of_another_server_goes_on_in_a_successor_with_its_state_its_people_and_its_past() {
    for version in ["10", "11", "12"] {
        let scene = scene(version).await;
        let (bob, carol, eve) =
            (scene.new.account("bob").await, scene.new.account("carol").await, scene.new.account("eve").await);
        let said = scene.alice.hears(&scene.room).await;
        let wish = json!({"participants": {past(&scene, "carol"): "carol"}});
        let mut dry = wish.clone();
        dry["dry_run"] = json!(true);
        let told = upload(&bob, &scene.bundle, dry).await.ok();
        assert_eq!((&told["outcome"], &told["participants"]["mapped"]), (&json!("succeeded"), &json!(1)));
        assert_eq!(bob.room_ids("/v1/rooms").await, Vec::<String>::new(), "a dry run makes nothing");

        let taken = upload(&bob, &scene.bundle, wish.clone()).await.created();
        assert_eq!((&taken["outcome"], &taken["origin_room_id"]), (&json!("succeeded"), &json!(scene.room)));
        assert_eq!(taken["participants"], json!({"mapped": 1, "former": 1, "locked": 0}), "version {version}");
        assert_eq!(taken["events"]["stored"], taken["events"]["total"]);
        let successor = taken["id"].as_str().unwrap().to_owned();
        assert_ne!(successor, scene.room);

        let seen = bob.sees(&successor).await;
        for (field, value) in [("name", "Tents"), ("topic", "Felt"), ("room_version", version), ("room_type", "group")]
        {
            assert_eq!(seen[field], value, "version {version}");
        }
        assert_eq!(seen["me"]["power_level"], 100);
        let made = bob.state(&successor, "m.room.create").await;
        assert_eq!(made["predecessor"]["room_id"], scene.room.as_str(), "{made}");
        let announced = bob.get(&format!("/v1/rooms/{}/announcement", encoded(&successor))).await.ok();
        assert_eq!(announced["announcement"], "Pack light");
        assert_eq!(bob.members(&successor, "ban").await, [past(&scene, "dave")]);
        assert_eq!(bob.members(&successor, "invite").await, [carol.id.as_str()]);
        carol.joins(&successor).await.ok();
        assert_eq!(carol.sees(&successor).await["me"]["power_level"], 50, "version {version}");

        bob.says(&successor, "it goes on").await;
        let mut expected = said.clone();
        expected.push("it goes on".to_owned());
        for reader in [&bob, &carol] {
            assert_eq!(reader.hears(&successor).await, expected, "version {version}");
        }
        assert!(!said.contains(&"a secret".to_owned()));
        // Nobody else knows of either room, and nobody writes into the first.
        for room in [&scene.room, &successor] {
            eve.get(&format!("/v1/rooms/{}", encoded(room))).await.no_such_room();
        }
        bob.get(&format!("/v1/rooms/{}", encoded(&scene.room))).await.no_such_room();
        bob.tries_to_say(&scene.room, "hello").await.no_such_room();
        assert_eq!(eve.get("/v1/directory/rooms").await.list(), Vec::<Value>::new());

        let twice = upload(&bob, &scene.bundle, wish).await.ok();
        assert_eq!((&twice["id"], &twice["events"]["stored"]), (&json!(successor), &json!(0)), "version {version}");
        assert_eq!(bob.hears(&successor).await, expected);
        let other = upload(&eve, &scene.bundle, json!({})).await.created();
        assert_eq!((&other["outcome"], &other["events"]), (&json!("succeeded"), &taken["events"]));
        assert_ne!(other["id"], json!(successor), "everybody has a successor of their own");
        assert_eq!(eve.hears(other["id"].as_str().unwrap()).await, said);
    }
}

#[tokio::test]
async fn the_timeline_of_a_successor_is_paged_over_the_seam_both_ways() {
    let scene = scene("12").await;
    let bob = scene.new.account("bob").await;
    let taken = upload(&bob, &scene.bundle, json!({})).await.created();
    let successor = encoded(taken["id"].as_str().unwrap());
    bob.says(taken["id"].as_str().unwrap(), "it goes on").await;
    let whole = bob.get(&format!("/v1/rooms/{successor}/messages?direction=forward&limit=200")).await.list();
    let positions: Vec<&str> = whole.iter().map(|event| event["position"].as_str().unwrap()).collect();
    assert!(positions.is_sorted(), "{positions:?}");
    assert_eq!(bodies(&whole), bob.hears(taken["id"].as_str().unwrap()).await);
    let rooms: std::collections::BTreeSet<&str> =
        whole.iter().map(|event| event["room_id"].as_str().unwrap()).collect();
    assert_eq!(rooms.len(), 2);
    for direction in ["forward", "back"] {
        for limit in [1, 3, 7] {
            let (mut events, mut from) = (Vec::new(), String::new());
            loop {
                let path = format!("/v1/rooms/{successor}/messages?direction={direction}&limit={limit}{from}");
                let answer = bob.get(&path).await.expect_status(200);
                let meta = answer.meta();
                let page = answer.list();
                assert!(page.len() <= limit);
                events.extend(page);
                match meta["next_cursor"].as_str() {
                    Some(next) => from = format!("&from={}", encoded(next)),
                    None => break,
                }
                assert!(events.len() <= whole.len(), "it goes round in circles");
            }
            if direction == "back" {
                events.reverse();
            }
            assert_eq!(events, whole, "{direction}, {limit} at a time");
        }
    }
    // A place of the past is where a page begins, as any other.
    let middle = &whole[whole.len() / 3];
    let from = encoded(middle["position"].as_str().unwrap());
    let page = bob.get(&format!("/v1/rooms/{successor}/messages?limit=2&from={from}")).await.list();
    assert_eq!(page[0], whole[whole.len() / 3 - 1]);
    let one = bob.get(&format!("/v1/rooms/{successor}/events/{}", middle["event_id"].as_str().unwrap())).await.ok();
    assert_eq!(&one, middle);
    let mallory = scene.new.account("mallory").await;
    mallory.get(&format!("/v1/rooms/{successor}/messages")).await.no_such_room();
}

#[tokio::test]
async fn an_admin_brings_people_of_the_same_name_in_at_once_and_others_ask_them() {
    let scene = scene("12").await;
    let (bob, carol, root) =
        (scene.new.account("bob").await, scene.new.account("carol").await, scene.new.admin("root").await);
    let asked = upload(&bob, &scene.bundle, json!({"same_names": true})).await.created();
    let successor = asked["id"].as_str().unwrap();
    assert_eq!(bob.members(successor, "invite").await, [carol.id.as_str()]);
    let brought = upload(&root, &scene.bundle, json!({"same_names": true})).await.created();
    let successor = brought["id"].as_str().unwrap();
    assert_eq!(root.members(successor, "invite").await, Vec::<String>::new());
    assert_eq!(carol.hears(successor).await, scene.alice.hears(&scene.room).await);
    let audit = root.get("/v1/admin/audit?action=room.import").await.list();
    assert_eq!(audit.len(), 1, "{audit:?}");
    assert_eq!(audit[0]["details"]["outcome"], "succeeded");
}

#[tokio::test]
async fn what_only_its_members_could_read_stays_hidden_in_the_successor() {
    let mut scene = scene("12").await;
    let narrow = json!({"history_visibility": "joined"});
    let path = format!("/v1/rooms/{}/state/m.room.history_visibility", encoded(&scene.room));
    scene.alice.put(&path, narrow).await.created();
    scene.alice.says(&scene.room, "between us").await;
    scene.bundle = bundle_of(&scene.alice, &scene.room).await;
    let bob = scene.new.account("bob").await;
    let taken = upload(&bob, &scene.bundle, json!({})).await.created();
    let heard = bob.hears(taken["id"].as_str().unwrap()).await;
    assert!(heard.contains(&"the last word".to_owned()) && !heard.contains(&"between us".to_owned()), "{heard:?}");
}

#[tokio::test]
async fn the_original_becomes_a_live_room_when_somebody_joins_it_and_the_successor_shows_no_more_of_it() {
    let mut scene = scene("12").await;
    let bob = scene.new.account("bob").await;
    let taken = upload(&bob, &scene.bundle, json!({})).await.created();
    let successor = taken["id"].as_str().unwrap().to_owned();
    let before = bob.hears(&successor).await;
    let invite = json!({"participant_id": bob.id});
    scene.alice.post(&format!("/v1/rooms/{}/invite", encoded(&scene.room)), invite).await.ok();
    let join = json!({ "via": [scene.old.name()] });
    bob.post(&format!("/v1/rooms/{}/join", encoded(&scene.room)), join).await.ok();
    bob.says(&scene.room, "here I am").await;
    let heard = bob.hears(&scene.room).await;
    assert!(heard.ends_with(&["here I am".to_owned()]) && heard.contains(&"message 3".to_owned()), "{heard:?}");
    assert_eq!(bob.hears(&successor).await, before, "what is said in the original later is not read here");
    scene.bundle = bundle_of(&scene.alice, &scene.room).await;
    let merged = upload(&bob, &scene.bundle, json!({})).await.data();
    assert_eq!((&merged["outcome"], &merged["id"]), (&json!("merged"), &json!(scene.room)));
}

#[tokio::test]
async fn a_successor_that_cannot_be_made_leaves_nothing_behind() {
    let scene = scene("12").await;
    let (bob, carol) = (scene.new.account("bob").await, scene.new.account("carol").await);
    let not_his = carol.post("/v1/workspaces", json!({"name": "Hers"})).await.created();
    let wish = json!({"workspace_id": not_his["id"]});
    upload(&bob, &scene.bundle, wish).await.refused(404, "SW_WORKSPACE_NOT_FOUND");
    let nobody = json!({"participants": {past(&scene, "carol"): "nobody"}});
    upload(&bob, &scene.bundle, nobody).await.refused(404, "SW_PARTICIPANT_NOT_FOUND");
    let stranger = json!({"participants": {past(&scene, "stranger"): "carol"}});
    upload(&bob, &scene.bundle, stranger).await.invalid("participants");
    assert_eq!(bob.room_ids("/v1/rooms").await, Vec::<String>::new());
    let root = scene.new.admin("root").await;
    let rooms = root.get("/v1/admin/rooms?limit=200").await.list();
    assert!(rooms.iter().all(|room| room["id"] != json!(scene.room)), "{rooms:?}");
    upload(&bob, &scene.bundle, json!({})).await.created();
}

#[tokio::test]
async fn an_original_that_was_purged_comes_back_only_through_an_admin() {
    let scene = scene("12").await;
    let (bob, eve, root) =
        (scene.new.account("bob").await, scene.new.account("eve").await, scene.new.admin("root").await);
    let taken = upload(&bob, &scene.bundle, json!({})).await.created();
    let job = root.delete(&format!("/v1/admin/rooms/{}", encoded(&scene.room))).await.expect_status(202).data();
    assert_eq!(root.awaits(job["job_id"].as_str().unwrap()).await["state"], "done");
    assert_eq!(bob.hears(taken["id"].as_str().unwrap()).await, Vec::<String>::new());
    for whoever in [&bob, &eve] {
        upload(whoever, &scene.bundle, json!({})).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    }
    let again = upload(&root, &scene.bundle, json!({})).await.created();
    let said = scene.alice.hears(&scene.room).await;
    assert_eq!(root.hears(again["id"].as_str().unwrap()).await, said);
    upload(&eve, &scene.bundle, json!({})).await.created();
    // Who had a successor before has its past again when they bring it again.
    assert_eq!(bob.hears(taken["id"].as_str().unwrap()).await, Vec::<String>::new());
    assert_eq!(upload(&bob, &scene.bundle, json!({})).await.created()["id"], taken["id"]);
    upload(&bob, &scene.bundle, json!({})).await.ok();
    assert_eq!(bob.hears(taken["id"].as_str().unwrap()).await, said);
    // So does an administrator who has one, and with whom the room comes back.
    let job = root.delete(&format!("/v1/admin/rooms/{}", encoded(&scene.room))).await.expect_status(202).data();
    assert_eq!(root.awaits(job["job_id"].as_str().unwrap()).await["state"], "done");
    let back = upload(&root, &scene.bundle, json!({})).await.created();
    assert_eq!((&back["id"], &back["events"]["stored"]), (&again["id"], &back["events"]["total"]));
    assert_eq!(root.hears(again["id"].as_str().unwrap()).await, said);
}

#[tokio::test]
async fn who_was_several_people_has_the_highest_of_their_levels() {
    let scene = scene("12").await;
    let (bob, frank) = (scene.new.account("bob").await, scene.new.account("frank").await);
    let both = json!({past(&scene, "alice"): "frank", past(&scene, "carol"): "frank"});
    let taken = upload(&bob, &scene.bundle, json!({ "participants": both })).await.created();
    assert_eq!(taken["participants"]["mapped"], 2);
    let successor = taken["id"].as_str().unwrap();
    frank.joins(successor).await.ok();
    assert_eq!(frank.sees(successor).await["me"]["power_level"], 100);
}

#[tokio::test]
async fn a_successor_needs_room_in_the_tenant_for_itself_and_for_the_original() {
    let scene = scene("12").await;
    let full = Server::changed(&scene.authority, |config| config.tenant[0].max_rooms = 1).await;
    let bob = full.account("bob").await;
    for _ in 0..2 {
        upload(&bob, &scene.bundle, json!({})).await.refused(409, "SW_TENANT_CAPACITY");
    }
    bob.group("The one that fits").await;
    let roomy = Server::changed(&scene.authority, |config| config.tenant[0].max_rooms = 2).await;
    let bob = roomy.account("bob").await;
    upload(&bob, &scene.bundle, json!({})).await.created();
}

#[tokio::test]
async fn a_bundle_of_a_server_that_is_kept_out_is_not_taken() {
    let scene = scene("12").await;
    let (bob, root) = (scene.new.account("bob").await, scene.new.admin("root").await);
    let deny = json!({"mode": "open", "allow": [], "deny": ["localhost"]});
    root.put("/v1/admin/federation/policy", deny).await.ok();
    let error = upload(&bob, &scene.bundle, json!({})).await.refused(400, "SW_ROOM_IMPORT_REFUSED");
    assert!(error["message"].as_str().unwrap().contains("localhost"), "{error}");
    root.put("/v1/admin/federation/policy", json!({"mode": "open", "allow": [], "deny": []})).await.ok();
    upload(&bob, &scene.bundle, json!({})).await.created();
}

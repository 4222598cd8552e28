//! That a room is here, and what of it, nobody learns by bringing a bundle of it: neither from the answer nor from what the successor shows.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{bundle_of, import::upload};
use crate::{
    client::{Caller, encoded},
    federation::servers::{Authority, Server, eventually},
};

/// Two servers. A room of the first, of which a bundle was made when nobody of the second was in it.
struct Scene {
    authority: Authority,
    old: Server,
    new: Server,
    alice: Caller,
    room: String,
    said: Vec<String>,
    bundle: Bytes,
}

async fn scene() -> Scene {
    let authority = Authority::new();
    let (old, new) = (Server::new(&authority).await, Server::new(&authority).await);
    let alice = old.account("alice").await;
    let room = alice.creates(json!({"room_type": "group", "name": "Tents", "topic": "Felt"})).await;
    for number in 0..5 {
        alice.says(&room, &format!("message {number}")).await;
    }
    let medium = alice.uploads(b"felt", "text/plain").await;
    alice.shows(&room, medium["mxc"].as_str().unwrap()).await;
    let (said, bundle) = (alice.hears(&room).await, bundle_of(&alice, &room).await);
    Scene { authority, old, new, alice, room, said, bundle }
}

impl Scene {
    /// Something happens in the room that is not in the bundle.
    async fn goes_on(&self) {
        let path = format!("/v1/rooms/{}/topic", encoded(&self.room));
        self.alice.put(&path, json!({ "topic": "Silk" })).await.ok();
        self.alice.says(&self.room, "later").await;
    }

    /// Somebody of the second server comes in, and hears what was said and is said from then on.
    async fn is_joined_by(&self, name: &str) -> Caller {
        let bob = self.new.account(name).await;
        let invite = json!({ "participant_id": bob.id });
        self.alice.post(&format!("/v1/rooms/{}/invite", encoded(&self.room)), invite).await.ok();
        let join = json!({ "via": [self.old.name()] });
        bob.post(&format!("/v1/rooms/{}/join", encoded(&self.room)), join).await.ok();
        self.goes_on().await;
        // Whoever reads back has the history fetched.
        let back = format!("/v1/rooms/{}/messages?limit=100", encoded(&self.room));
        eventually("it is heard, and all before it", async || {
            bob.get(&back).await.ok();
            let heard = bob.hears(&self.room).await;
            heard.contains(&"later".to_owned()) && self.said.iter().all(|body| heard.contains(body))
        })
        .await;
        bob
    }

    /// What somebody is told on a server where nothing of the room is: of a dry run, and of the import.
    async fn elsewhere(&self) -> [Value; 2] {
        let server = Server::new(&self.authority).await;
        told(&server.account("eve").await, &self.bundle).await.0
    }
}

/// What an import is answered, first dry, without the names of what it made; and the successor.
async fn told(caller: &Caller, bundle: &Bytes) -> ([Value; 2], String) {
    let mut dry = upload(caller, bundle, json!({ "dry_run": true })).await.ok();
    let mut done = upload(caller, bundle, json!({})).await.created();
    let successor = done["id"].as_str().unwrap().to_owned();
    done["id"].take();
    done["room_alias"].take();
    dry["room_alias"].take();
    ([dry, done], successor)
}

#[tokio::test]
async fn whoever_brings_a_room_that_others_here_are_in_is_told_what_they_would_be_if_it_were_not_here() {
    let scene = scene().await;
    let bob = scene.is_joined_by("bob").await;
    let eve = scene.new.account("eve").await;
    let root = scene.new.admin("root").await;
    let before = (bob.timeline(&scene.room).await, bob.sees(&scene.room).await);
    let (answers, successor) = told(&eve, &scene.bundle).await;
    assert_eq!(answers, scene.elsewhere().await);
    assert_eq!(answers[1]["outcome"], "succeeded");

    // The successor is what the bundle says, not what the room is.
    assert_eq!(eve.hears(&successor).await, scene.said);
    assert_eq!(eve.sees(&successor).await["topic"], "Felt");
    eve.get(&format!("/v1/rooms/{}", encoded(&scene.room))).await.no_such_room();
    // Nobody in the room notices anything.
    assert_eq!((bob.timeline(&scene.room).await, bob.sees(&scene.room).await), before);
    assert_eq!(bob.state(&scene.room, "m.room.topic").await["topic"], "Silk");
    bob.says(&scene.room, "between us").await;
    assert_eq!(eve.hears(&successor).await, scene.said);
    let later = before.0.iter().find(|event| event["content"]["body"] == "later").unwrap();
    let path = format!("/v1/rooms/{}/events/{}", encoded(&successor), later["event_id"].as_str().unwrap());
    eve.get(&path).await.expect_status(404);
    // Whoever is in the room, and an administrator, adds to it as before.
    for member in [&bob, &root] {
        assert_eq!(upload(member, &scene.bundle, json!({})).await.data()["outcome"], "merged");
    }
    let twice = upload(&eve, &scene.bundle, json!({})).await.ok();
    assert_eq!((&twice["id"], &twice["events"]["stored"]), (&json!(successor), &json!(0)));
    assert_eq!(eve.hears(&successor).await, scene.said);
}

#[tokio::test]
async fn a_room_that_was_closed_to_other_servers_here_is_not_given_away_either() {
    let scene = scene().await;
    let bob = scene.is_joined_by("bob").await;
    let (eve, root) = (scene.new.account("eve").await, scene.new.admin("root").await);
    let path = format!("/v1/admin/rooms/{}/federate", encoded(&scene.room));
    root.put(&path, json!({ "mode": "off" })).await.ok();
    let (answers, successor) = told(&eve, &scene.bundle).await;
    assert_eq!(answers, scene.elsewhere().await);
    assert_eq!(eve.hears(&successor).await, scene.said);
    bob.says(&scene.room, "between us").await;
}

#[tokio::test]
async fn an_older_bundle_shows_nothing_of_what_somebody_else_has_brought() {
    let scene = scene().await;
    let (bob, eve) = (scene.new.account("bob").await, scene.new.account("eve").await);
    scene.goes_on().await;
    let newer = bundle_of(&scene.alice, &scene.room).await;
    let taken = upload(&bob, &newer, json!({})).await.created();
    let of_bob = taken["id"].as_str().unwrap();
    assert!(bob.hears(of_bob).await.contains(&"later".to_owned()));
    let (answers, successor) = told(&eve, &scene.bundle).await;
    assert_eq!(answers, scene.elsewhere().await);
    assert_eq!(eve.hears(&successor).await, scene.said);
    assert_eq!(eve.sees(&successor).await["topic"], "Felt");
    // What she brings herself she reads as well.
    let dry = upload(&eve, &newer, json!({ "dry_run": true })).await.ok();
    let known = upload(&eve, &newer, json!({})).await.created();
    assert_eq!((&known["id"], &known["events"]), (&json!(successor), &dry["events"]));
    assert_eq!(known["events"]["stored"], 2, "the topic and the message are new to her: {known}");
    assert_eq!(eve.hears(&successor).await, bob.hears(of_bob).await);
}

//! A bundle is treated as a peer is that brings it: whom this server or the room keeps out, is kept out by every way a bundle takes.

use serde_json::{Value, json};

use super::{bundle_of, import::upload};
use crate::{
    client::{Caller, encoded},
    federation::servers::{Authority, Server, eventually},
};

/// A room of one server with somebody of another one, whose host has another name.
struct Scene {
    authority: Authority,
    home: Server,
    far: Server,
    alice: Caller,
    bob: Caller,
    room: String,
}

const FAR: &str = "127.0.0.1";

async fn scene() -> Scene {
    let authority = Authority::new();
    let (home, far) = (Server::new(&authority).await, Server::on(FAR, &authority).await);
    let (alice, bob) = (home.account("alice").await, far.account("bob").await);
    let room = alice.public("Tents").await;
    bob.post(&format!("/v1/rooms/{}/join", encoded(&room)), json!({ "via": [home.name()] })).await.ok();
    let scene = Scene { authority, home, far, alice, bob, room };
    scene.alice.says(&scene.room, "from here").await;
    scene.bob.says(&scene.room, "from afar").await;
    scene.hear("from afar").await;
    scene
}

impl Scene {
    async fn hear(&self, body: &str) {
        let is_heard = async || self.alice.hears(&self.room).await.contains(&body.to_owned());
        eventually("the message arrives", is_heard).await;
    }

    /// Leaves everything behind but the name and the key of the server that the room is from.
    async fn moves(&mut self) -> Caller {
        self.home.stop().await;
        self.home.takes_its_key_elsewhere();
        self.home.start().await;
        self.alice = self.home.account("alice").await;
        self.home.admin("root").await
    }

    async fn sets_acl(&self, deny: &[&str]) {
        let path = format!("/v1/rooms/{}/state/m.room.server_acl", encoded(&self.room));
        self.alice.put(&path, json!({ "allow": ["*"], "deny": deny, "allow_ip_literals": true })).await.created();
    }
}

async fn denies(admin: &Caller, host: &str) {
    let policy = json!({ "mode": "open", "allow": [], "deny": [host] });
    admin.put("/v1/admin/federation/policy", policy).await.ok();
}

/// Restored with a dry run before it: both say the same, and nothing of the far server is shown.
async fn is_restored_without_far_events(scene: &Scene, admin: &Caller, bundle: &bytes::Bytes) {
    let dry = upload(admin, bundle, json!({ "dry_run": true })).await.ok();
    let restored = upload(admin, bundle, json!({})).await.created();
    assert_eq!(restored["outcome"], "restored");
    assert_eq!(dry["events"], restored["events"]);
    let rejected = restored["events"]["rejected"].as_array().unwrap();
    assert_eq!(rejected.len(), 2, "the join and the message: {rejected:?}");
    assert!(rejected.iter().all(|event| event["reason"].as_str().unwrap().contains(FAR)), "{rejected:?}");
    let events = &restored["events"];
    assert_eq!(events["stored"].as_u64().unwrap() + 2, events["total"].as_u64().unwrap());
    let heard = scene.alice.hears(&scene.room).await;
    assert!(heard.contains(&"from here".to_owned()) && !heard.contains(&"from afar".to_owned()), "{heard:?}");
    let twice = upload(admin, bundle, json!({})).await.ok();
    assert_eq!((&twice["outcome"], &twice["events"]["stored"]), (&json!("merged"), &json!(0)));
    assert_eq!(scene.alice.hears(&scene.room).await, heard);
    scene.alice.says(&scene.room, "it goes on").await;
}

#[tokio::test]
async fn a_restored_room_shows_nothing_of_servers_that_this_one_keeps_out() {
    let mut scene = scene().await;
    let bundle = bundle_of(&scene.alice, &scene.room).await;
    let members = scene.alice.members(&scene.room, "join").await;
    let admin = scene.moves().await;
    denies(&admin, FAR).await;
    is_restored_without_far_events(&scene, &admin, &bundle).await;
    assert_eq!(scene.alice.members(&scene.room, "join").await, members, "what the events prove stays proven");
}

#[tokio::test]
async fn a_restored_room_shows_nothing_of_servers_that_its_own_list_keeps_out() {
    let mut scene = scene().await;
    scene.sets_acl(&[FAR]).await;
    let bundle = bundle_of(&scene.alice, &scene.room).await;
    let admin = scene.moves().await;
    is_restored_without_far_events(&scene, &admin, &bundle).await;
}

#[tokio::test]
async fn a_restored_room_that_was_not_federated_takes_only_events_of_its_own_people() {
    let mut scene = scene().await;
    let root = scene.home.admin("root").await;
    let path = format!("/v1/admin/rooms/{}/federate", encoded(&scene.room));
    root.put(&path, json!({ "mode": "off" })).await.ok();
    let bundle = bundle_of(&scene.alice, &scene.room).await;
    let admin = scene.moves().await;
    is_restored_without_far_events(&scene, &admin, &bundle).await;
    assert_eq!(scene.alice.sees(&scene.room).await["federation"]["mode"], "off");
}

#[tokio::test]
async fn a_room_that_another_server_hands_back_has_the_mode_of_new_rooms_here_and_not_of_that_server() {
    let mut scene = scene().await;
    let root = scene.far.admin("root").await;
    let path = format!("/v1/admin/rooms/{}/federate", encoded(&scene.room));
    root.put(&path, json!({ "mode": "off" })).await.ok();
    let bundle = bundle_of(&scene.bob, &scene.room).await;
    let admin = scene.moves().await;
    let restored = upload(&admin, &bundle, json!({})).await.created();
    assert_eq!((&restored["outcome"], &restored["events"]["rejected"]), (&json!("restored"), &json!([])));
    assert_eq!(scene.alice.sees(&scene.room).await["federation"]["mode"], "open");
    scene.hear("from afar").await;
}

#[tokio::test]
async fn whoever_is_kept_out_hands_no_room_back() {
    let mut scene = scene().await;
    let bundle = bundle_of(&scene.bob, &scene.room).await;
    scene.sets_acl(&[FAR]).await;
    eventually("the list arrives", async || {
        let path = format!("/v1/rooms/{}/state/m.room.server_acl", encoded(&scene.room));
        scene.bob.get(&path).await.status == 200
    })
    .await;
    let of_kept_out = bundle_of(&scene.bob, &scene.room).await;
    let admin = scene.moves().await;
    let refused = upload(&admin, &of_kept_out, json!({})).await.refused(400, "SW_ROOM_IMPORT_REFUSED");
    assert!(refused["message"].as_str().unwrap().contains(FAR), "{refused}");
    denies(&admin, FAR).await;
    let refused = upload(&admin, &bundle, json!({})).await.refused(400, "SW_ROOM_IMPORT_REFUSED");
    assert!(refused["message"].as_str().unwrap().contains(FAR), "{refused}");
    scene.alice.get(&format!("/v1/rooms/{}", encoded(&scene.room))).await.no_such_room();
}

#[tokio::test]
async fn a_successor_shows_nothing_of_servers_that_this_one_or_the_original_keeps_out() {
    for by_acl in [false, true] {
        let scene = scene().await;
        if by_acl {
            scene.sets_acl(&[FAR]).await;
        }
        let bundle = bundle_of(&scene.alice, &scene.room).await;
        let new = Server::new(&scene.authority).await;
        let (carol, root) = (new.account("carol").await, new.admin("root").await);
        if !by_acl {
            denies(&root, FAR).await;
        }
        let taken = upload(&carol, &bundle, json!({})).await.created();
        assert_eq!(taken["outcome"], "succeeded");
        let rejected = taken["events"]["rejected"].as_array().unwrap();
        assert!(rejected.len() == 2 && rejected.iter().all(|event| event["reason"].to_string().contains(FAR)));
        let heard = carol.hears(taken["id"].as_str().unwrap()).await;
        assert!(heard.contains(&"from here".to_owned()) && !heard.contains(&"from afar".to_owned()), "{heard:?}");
    }
}

#[tokio::test]
async fn a_bundle_adds_nothing_of_a_server_that_a_room_here_keeps_out() {
    let scene = scene().await;
    let root = scene.home.admin("root").await;
    let path = format!("/v1/admin/rooms/{}/federate", encoded(&scene.room));
    let without_bob = bundle_of(&scene.alice, &scene.room).await;
    root.put(&path, json!({ "mode": "off" })).await.ok();
    scene.bob.says(&scene.room, "unheard").await;
    let bundle = bundle_of(&scene.bob, &scene.room).await;
    let refused = upload(&scene.alice, &bundle, json!({})).await.refused(400, "SW_ROOM_IMPORT_REFUSED");
    assert!(refused["message"].as_str().unwrap().contains(FAR), "{refused}");
    let own = upload(&scene.alice, &without_bob, json!({})).await.ok();
    assert_eq!((&own["outcome"], &own["events"]["stored"]), (&json!("merged"), &json!(0)));
    root.put(&path, json!({ "mode": "open" })).await.ok();
    let taken = upload(&scene.alice, &bundle, json!({})).await.data();
    assert_eq!(taken["outcome"], "merged");
    let rejected: &Value = &taken["events"]["rejected"];
    assert_eq!(rejected, &json!([]));
    scene.hear("unheard").await;
}

//! `/{org}/{app}/chatrooms`: people of other servers in its rooms.

use serde_json::{Value, json};

use super::{
    agora::{ROOMS, app_of, refused, said},
    through::Through,
};
use crate::{
    client::{Caller, encoded, text},
    federation::servers::{Authority, Server, eventually},
};

struct Scene {
    app: Through,
    /// The number of the room, and its id.
    number: String,
    id: String,
    alice: Caller,
    /// Of the other server.
    bob: Caller,
    _servers: [Server; 2],
}

impl Scene {
    /// A room that belongs to alice, and bob of another server in it.
    async fn open() -> Self {
        let authority = Authority::new();
        let ours = Server::changed(&authority, |config| {
            config.dialects.agora.enabled = true;
            config.tenant[0].app = "main".to_owned();
        });
        let (ours, theirs) = (ours.await, Server::new(&authority).await);
        let (alice, bob) = (ours.account("alice").await, theirs.account("bob").await);
        let app = app_of(&ours.admin("root").await).await;
        let wish = json!({"name": "Tents", "description": "Felt", "owner": "alice"});
        let number = text(&said(app.post(ROOMS, wish).await)["id"]);
        let id = text(&alice.sees(&number).await["id"]);
        let scene = Self { app, number, id, alice, bob, _servers: [ours, theirs] };
        scene.bob_joins().await;
        scene
    }

    async fn bob_joins(&self) {
        let via = json!({"via": [self.alice.id.split_once(':').expect("a server").1]});
        self.bob.post(&format!("/v1/rooms/{}/join", encoded(&self.id)), via).await.ok();
    }

    fn path(&self, rest: &str) -> String {
        format!("{ROOMS}/{}{rest}", self.number)
    }

    async fn get(&self, rest: &str) -> Value {
        said(self.app.get(&self.path(rest)).await)
    }

    /// What the other server says of bob and the room.
    async fn bob_is(&self, membership: &str) {
        let is_so = || async {
            self.bob.get(&format!("/v1/rooms/{}", self.id)).await.json()["data"]["me"]["membership"] == membership
        };
        eventually(membership, is_so).await;
    }
}

#[tokio::test]
async fn d003_who_is_of_another_server_is_listed_by_the_full_id_and_removed_by_it() {
    let scene = Scene::open().await;
    let bob = &scene.bob.id;
    assert_eq!(scene.get("/users").await, json!([{"owner": "alice"}, {"member": bob}]));
    let listed = text(&scene.get("/users").await[1]["member"]);
    refused(scene.app.delete(&scene.path("/users/bob")).await, 403, "forbidden_op");
    let removed = said(scene.app.delete(&scene.path(&format!("/users/{}", encoded(&listed)))).await);
    assert_eq!(removed, json!({"result": true, "action": "remove_member", "user": bob, "id": scene.number}));
    assert_eq!(scene.get("/users").await, json!([{"owner": "alice"}]));
    scene.bob_is("leave").await;
    scene.bob_joins().await;
    let several = said(scene.app.delete(&scene.path(&format!("/users/nobody,{}", encoded(bob)))).await);
    assert_eq!((&several[0]["result"], &several[1]["result"]), (&json!(false), &json!(true)), "{several}");
    assert_eq!(several[1]["user"], *bob);
    scene.bob_is("leave").await;
}

#[tokio::test]
async fn d003_who_is_of_another_server_is_shut_out_and_let_in_again() {
    let scene = Scene::open().await;
    let bob = &scene.bob.id;
    let one = format!("/blocks/users/{}", encoded(bob));
    let blocked = said(scene.app.send("POST", &scene.path(&one), None).await);
    assert_eq!(blocked, json!({"result": true, "action": "add_blocks", "user": bob, "chatroomid": scene.number}));
    assert_eq!(scene.get("/blocks/users").await, json!([bob]));
    scene.bob_is("ban").await;
    scene.bob.tries_to_say(&scene.id, "still here").await.forbidden();
    let via = json!({"via": [scene.alice.id.split_once(':').expect("a server").1]});
    let refusal = scene.bob.post(&format!("/v1/rooms/{}/join", encoded(&scene.id)), via).await;
    assert!(matches!(refusal.status, 403 | 502), "{}", refusal.status);
    let lifted = said(scene.app.delete(&scene.path(&one)).await);
    assert_eq!(lifted, json!({"result": true, "action": "remove_blocks", "user": bob, "chatroomid": scene.number}));
    scene.bob_joins().await;
    let some = said(scene.app.post(&scene.path("/blocks/users"), json!({"usernames": ["alice", bob]})).await);
    assert_eq!((&some[0]["result"], &some[1]["result"]), (&json!(false), &json!(true)), "{some}");
    scene.bob_is("ban").await;
}

#[tokio::test]
async fn d003_who_is_of_another_server_can_be_an_admin_be_allowed_and_silenced_but_own_nothing() {
    let scene = Scene::open().await;
    let bob = &scene.bob.id;
    let made = said(scene.app.post(&scene.path("/admin"), json!({"newadmin": bob})).await);
    assert_eq!(made, json!({"result": "success", "newadmin": bob}));
    assert_eq!(scene.get("/admin").await, json!([bob]));
    said(scene.app.delete(&scene.path(&format!("/admin/{}", encoded(bob)))).await);
    assert_eq!(scene.get("/admin").await, json!([]));

    let allowed = said(scene.app.send("POST", &scene.path(&format!("/white/users/{}", encoded(bob))), None).await);
    assert_eq!((&allowed["result"], &allowed["user"]), (&json!(true), &json!(bob)));
    assert_eq!(scene.get("/white/users").await, json!([bob]));
    said(scene.app.send("POST", &scene.path("/ban"), None).await);
    let is_known = || async {
        let levels = scene.bob.state(&scene.id, "m.room.power_levels").await;
        levels["events_default"] == 25 && levels["users"][bob] == 25
    };
    eventually("the other server knows who may speak", is_known).await;
    scene.bob.says(&scene.id, "allowed to").await;
    said(scene.app.delete(&scene.path(&format!("/white/users/{}", encoded(bob)))).await);
    let is_silent = || async { scene.bob.tries_to_say(&scene.id, "no longer").await.status == 403 };
    eventually("the other server holds its people to it", is_silent).await;
    said(scene.app.delete(&scene.path("/ban")).await);

    let silenced = said(scene.app.post(&scene.path("/mute"), json!({"usernames": [bob], "mute_duration": -1})).await);
    assert_eq!(silenced, json!([{"result": true, "expire": -1, "user": bob}]));
    assert_eq!(scene.get("/mute").await, json!([{"expire": -1, "user": bob}]));
    let lifted = said(scene.app.delete(&scene.path(&format!("/mute/{}", encoded(bob)))).await);
    assert_eq!(lifted, json!([{"result": true, "user": bob}]));

    refused(scene.app.put(&scene.path(""), json!({"newowner": bob})).await, 403, "forbidden_op");
    let wish = json!({"name": "a", "description": "b", "owner": bob});
    refused(scene.app.post(ROOMS, wish).await, 400, "illegal_argument");
    refused(
        scene.app.send("POST", &scene.path(&format!("/users/{}", encoded(bob))), None).await,
        400,
        "illegal_argument",
    );
    assert_eq!(scene.get("/users").await, json!([{"owner": "alice"}, {"member": bob}]));
}

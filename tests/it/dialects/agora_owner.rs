//! `/{org}/{app}/chatrooms`: a room is handed over to another owner.

use serde_json::{Value, json};

use super::{
    agora::{ON, ROOMS, Shop, refused, said},
    through::Through,
};
use crate::client::{Answer, Caller, Setup, text};

/// Versions whose creators have a level, as everybody has.
const VERSIONS: [(&str, &str); 2] = [
    ("10", "[dialects.agora]\nenabled = true\nroom_version = \"10\""),
    ("11", "[dialects.agora]\nenabled = true\nroom_version = \"11\""),
];

struct Scene {
    shop: Shop,
    id: String,
    alice: Caller,
    bob: Caller,
    carol: Caller,
}

impl Scene {
    /// A room that belongs to alice; bob and carol are in it, and dan exists.
    async fn of(more: &'static str) -> Self {
        let shop = Shop::with(Setup { more, ..ON }).await;
        let (alice, bob) = (shop.server.account("alice").await, shop.server.account("bob").await);
        let carol = shop.server.account("carol").await;
        shop.server.account("dan").await;
        let id = shop.room_of("alice", &["bob", "carol"]).await;
        Self { shop, id, alice, bob, carol }
    }

    fn app(&self) -> &Through {
        &self.shop.app
    }

    fn path(&self, rest: &str) -> String {
        format!("{ROOMS}/{}{rest}", self.id)
    }

    async fn changes(&self, body: Value) -> Answer {
        self.app().put(&self.path(""), body).await
    }

    async fn acts(&self) -> usize {
        self.shop.admin.get("/v1/admin/audit?actor=app%3AShop").await.list().len()
    }
}

#[tokio::test]
async fn d003_a_room_is_handed_over_where_its_version_allows_that() {
    for (version, more) in VERSIONS {
        let scene = Scene::of(more).await;
        assert_eq!(scene.alice.sees(&scene.id).await["room_version"], version);
        said(scene.app().post(&scene.path("/admin"), json!({"newadmin": "carol"})).await);
        let before = scene.alice.timeline(&scene.id).await.len();
        let done = scene.changes(json!({"newowner": "BOB"})).await.expect_status(200).json();
        assert_eq!((&done["data"], &done["action"]), (&json!({"newowner": true}), &json!("put")));
        let events = scene.alice.timeline(&scene.id).await.split_off(before);
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!((&events[0]["type"], &events[0]["sender"]), (&json!("m.room.power_levels"), &json!(scene.alice.id)));

        let details = scene.shop.details(&scene.id).await;
        assert_eq!(details["owner"], "bob");
        assert_eq!(details["affiliations"], json!([{"member": "alice"}, {"member": "carol"}, {"owner": "bob"}]));
        assert_eq!(said(scene.app().get(ROOMS).await)[0]["owner"], "bob");
        assert_eq!(said(scene.app().get(&scene.path("/users")).await)[1], json!({"owner": "bob"}));
        assert_eq!(said(scene.app().get(&scene.path("/admin")).await), json!(["carol"]));
        for (person, level) in [(&scene.alice, 0), (&scene.bob, 100), (&scene.carol, 50)] {
            assert_eq!(person.sees(&scene.id).await["me"]["power_level"], level, "{}", person.id);
        }
        let audit = scene.shop.admin.get("/v1/admin/audit?action=room.hand_over").await.list();
        assert_eq!((audit.len(), &audit[0]["details"]["as"]), (1, &json!(scene.alice.id)));

        // From now on things are done in the name of the new owner, and the old one is a member like others.
        said(scene.app().post(&scene.path("/announcement"), json!({"announcement": "mine"})).await);
        assert_eq!(scene.bob.timeline(&scene.id).await.last().expect("the announcement")["sender"], scene.bob.id);
        said(scene.changes(json!({"maxusers": 7})).await);
        refused(scene.app().delete(&scene.path("/users/bob")).await, 403, "forbidden_op");
        said(scene.app().delete(&scene.path("/users/alice")).await);
        said(scene.changes(json!({"newowner": "carol"})).await);
        assert_eq!(scene.shop.details(&scene.id).await["owner"], "carol");
        assert_eq!(said(scene.app().delete(&scene.path("")).await)["success"], true);
    }
}

#[tokio::test]
async fn d003_a_room_of_version_12_stays_its_creators() {
    let scene = Scene::of("[dialects.agora]\nenabled = true").await;
    assert_eq!(scene.alice.sees(&scene.id).await["room_version"], "12");
    let acts = scene.acts().await;
    let refusal = refused(scene.changes(json!({"newowner": "bob"})).await, 403, "forbidden_op");
    assert!(refusal.contains("version") && refusal.contains("creator"), "{refusal}");
    assert_eq!(scene.shop.details(&scene.id).await["owner"], "alice");
    assert_eq!(scene.bob.sees(&scene.id).await["me"]["power_level"], 0);
    assert_eq!(scene.acts().await, acts);
}

#[tokio::test]
async fn d003_only_another_member_of_this_server_becomes_the_owner() {
    let scene = Scene::of(VERSIONS[1].1).await;
    let (acts, levels) = (scene.acts().await, scene.alice.state(&scene.id, "m.room.power_levels").await);
    for (body, status, error) in [
        (json!({"newowner": "alice"}), 403, "forbidden_op"),
        (json!({"newowner": "dan"}), 403, "forbidden_op"),
        (json!({"newowner": "nobody"}), 403, "forbidden_op"),
        (json!({"newowner": "@bob:elsewhere.test"}), 403, "forbidden_op"),
        (json!({"newowner": "a b"}), 400, "illegal_argument"),
        (json!({"newowner": null}), 400, "illegal_argument"),
        (json!({"newowner": 7}), 400, "illegal_argument"),
        (json!({"newowner": "bob", "name": "other"}), 400, "illegal_argument"),
    ] {
        refused(scene.changes(body).await, status, error);
    }
    scene.alice.post_nothing(&format!("/v1/rooms/{}/archive", scene.id)).await.ok();
    refused(scene.changes(json!({"newowner": "bob"})).await, 403, "forbidden_op");
    assert_eq!(scene.alice.state(&scene.id, "m.room.power_levels").await, levels);
    let details = scene.shop.details(&scene.id).await;
    assert_eq!((&details["owner"], &details["name"]), (&json!("alice"), &json!("Tents")));
    assert_eq!(scene.acts().await, acts, "what was refused is no act");
}

#[tokio::test]
async fn d003_whoever_the_native_api_puts_above_the_creator_is_the_owner() {
    let scene = Scene::of(VERSIONS[1].1).await;
    scene.alice.gives_level(&scene.id, &scene.bob, 100).await.ok();
    assert_eq!(scene.shop.details(&scene.id).await["owner"], "alice", "of equals the creator");
    let path = format!("/v1/rooms/{}/power-levels", scene.id);
    let over = json!({"users": {scene.alice.id.clone(): 0, scene.bob.id.clone(): 100}});
    let before = scene.alice.timeline(&scene.id).await.len();
    scene.alice.put(&path, over).await.ok();
    assert_eq!(
        scene.alice.timeline(&scene.id).await.len(),
        before + 1,
        "the native API hands over in one event as well"
    );
    assert_eq!(scene.shop.details(&scene.id).await["owner"], "bob");
    assert_eq!(text(&said(scene.app().get(ROOMS).await)[0]["owner"]), "bob");
}

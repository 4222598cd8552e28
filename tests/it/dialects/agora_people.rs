//! `/{org}/{app}/chatrooms`: members, admins, who may not speak, who is shut out.

use std::time::Duration;

use serde_json::{Value, json};

use super::agora::{ROOMS, Shop, refused, said};
use crate::client::{Caller, text};

/// When the clock of a test starts.
const START: u64 = 1_767_225_600_000;

pub(super) struct Room {
    pub(super) shop: Shop,
    pub(super) id: String,
    pub(super) alice: Caller,
    pub(super) bob: Caller,
    pub(super) carol: Caller,
}

impl Room {
    /// A room of alice and bob.
    pub(super) async fn open() -> Self {
        let shop = Shop::open().await;
        let (alice, bob) = (shop.server.account("alice").await, shop.server.account("bob").await);
        let carol = shop.server.account("carol").await;
        let id = shop.room_of("alice", &["bob"]).await;
        Self { shop, id, alice, bob, carol }
    }

    pub(super) fn path(&self, rest: &str) -> String {
        format!("{ROOMS}/{}{rest}", self.id)
    }

    pub(super) async fn get(&self, rest: &str) -> Value {
        said(self.shop.app.get(&self.path(rest)).await)
    }

    pub(super) async fn post(&self, rest: &str, body: Value) -> crate::client::Answer {
        self.shop.app.post(&self.path(rest), body).await
    }

    /// A call without a body.
    pub(super) async fn does(&self, method: &str, rest: &str) -> crate::client::Answer {
        self.shop.app.send(method, &self.path(rest), None).await
    }
}

#[tokio::test]
async fn d003_members_are_listed_a_page_at_a_time() {
    let room = Room::open().await;
    let answer = room.shop.app.get(&room.path("/users")).await.expect_status(200).json();
    assert_eq!((&answer["data"], &answer["count"]), (&json!([{"owner": "alice"}, {"member": "bob"}]), &json!(2)));
    assert_eq!(room.get("/users?pagenum=2&pagesize=1").await, json!([{"member": "bob"}]));
    assert_eq!(room.get("/users?pagenum=3&pagesize=1").await, json!([]));
    assert_eq!(room.get("/users?pagesize=5000").await, json!([{"owner": "alice"}, {"member": "bob"}]));
    for query in ["pagenum=0", "pagesize=0", "pagesize=x", "pagenum=-1"] {
        refused(room.shop.app.get(&room.path(&format!("/users?{query}"))).await, 400, "illegal_argument");
    }
    refused(room.shop.app.get(&format!("{ROOMS}/999999/users")).await, 404, "service_resource_not_found");
}

#[tokio::test]
async fn d003_somebody_is_brought_in_and_removed() {
    let room = Room::open().await;
    let id = room.id.clone();
    let added = said(room.does("POST", "/users/Carol").await);
    assert_eq!(added, json!({"result": true, "action": "add_member", "user": "carol", "id": id}));
    room.carol.says(&id, "here").await;
    refused(room.does("POST", "/users/carol").await, 403, "forbidden_op");
    refused(room.does("POST", "/users/nobody").await, 404, "service_resource_not_found");
    refused(room.does("POST", "/users/%40carol").await, 400, "illegal_argument");
    let removed = said(room.does("DELETE", "/users/carol").await);
    assert_eq!(removed, json!({"result": true, "action": "remove_member", "user": "carol", "id": id}));
    room.carol.tries_to_say(&id, "still here").await.forbidden();
    refused(room.does("DELETE", "/users/carol").await, 403, "forbidden_op");
    refused(room.does("DELETE", "/users/alice").await, 403, "forbidden_op");
    let audit = room.shop.admin.get("/v1/admin/audit?actor=app%3AShop").await.list();
    let acts: Vec<_> = audit.iter().map(|act| (text(&act["action"]), text(&act["details"]["as"]))).collect();
    let expected = [("member.remove", &room.alice), ("member.add", &room.carol), ("room.create", &room.alice)];
    assert_eq!(
        acts,
        expected.map(|(action, person)| (action.to_owned(), person.id.clone())),
        "what was refused is no act"
    );
}

#[tokio::test]
async fn d003_several_people_are_brought_in_and_removed_at_once() {
    let room = Room::open().await;
    room.shop.server.account("dan").await;
    let added = said(room.post("/users", json!({"usernames": ["carol", "bob", "dan"]})).await);
    assert_eq!(added, json!({"newmembers": ["carol", "dan"], "action": "add_member", "id": room.id}));
    refused(room.post("/users", json!({"usernames": ["carol"]})).await, 403, "forbidden_op");
    refused(room.post("/users", json!({"usernames": ["root", "nobody"]})).await, 404, "service_resource_not_found");
    assert_eq!(room.shop.details(&room.id).await["affiliations_count"], 4, "nobody came");
    let many: Vec<_> = (0..61).map(|number| format!("a{number}")).collect();
    for names in [json!([]), json!("carol"), json!(many), json!(null)] {
        refused(room.post("/users", json!({"usernames": names})).await, 400, "illegal_argument");
    }
    let removed = said(room.does("DELETE", "/users/carol%2Croot,dan").await);
    let (first, second) = (removed[0].clone(), removed[1].clone());
    assert_eq!(first, json!({"result": true, "action": "remove_member", "user": "carol", "id": room.id}));
    assert_eq!((&second["result"], &second["user"]), (&json!(false), &json!("root")));
    assert!(text(&second["reason"]).contains("root"), "{second}");
    assert_eq!(room.get("/users").await, json!([{"owner": "alice"}, {"member": "bob"}]));
    refused(room.does("DELETE", &format!("/users/{}", many.join(","))).await, 400, "illegal_argument");
}

#[tokio::test]
async fn d003_people_are_brought_into_a_full_or_frozen_room_by_nobody() {
    let room = Room::open().await;
    room.shop.app.put(&room.path(""), json!({"maxusers": 2})).await.expect_status(200);
    refused(room.does("POST", "/users/carol").await, 403, "exceed_limit");
    room.shop.app.put(&room.path(""), json!({"maxusers": 3})).await.expect_status(200);
    room.alice.post_nothing(&format!("/v1/rooms/{}/archive", room.id)).await.ok();
    refused(room.does("POST", "/users/carol").await, 403, "forbidden_op");
    let shop = &room.shop;
    let wish = json!({"name": "a", "description": "", "owner": "alice", "membersonly": true, "maxusers": 2});
    let closed = shop.makes(wish).await;
    said(shop.app.send("POST", &format!("{ROOMS}/{closed}/users/bob"), None).await);
    room.bob.says(&shop.native_id(&room.alice, &closed).await, "let in").await;
    refused(shop.app.send("POST", &format!("{ROOMS}/{closed}/users/carol"), None).await, 403, "exceed_limit");
}

#[tokio::test]
async fn d003_who_left_a_room_is_followed_by_the_highest_member_and_without_any_nothing_is_done() {
    let room = Room::open().await;
    said(room.does("POST", "/users/carol").await);
    said(room.post("/admin", json!({"newadmin": "carol"})).await);
    room.alice.leaves(&room.id).await.ok();
    assert_eq!(room.shop.details(&room.id).await["owner"], "carol");
    said(room.post("/announcement", json!({"announcement": "from carol"})).await);
    let timeline = room.bob.timeline(&room.id).await;
    assert_eq!(timeline.last().expect("the announcement")["sender"], room.carol.id);
    refused(room.shop.app.put(&room.path(""), json!({"maxusers": 7})).await, 403, "forbidden_op");
    room.carol.leaves(&room.id).await.ok();
    refused(room.post("/announcement", json!({"announcement": "from bob"})).await, 403, "forbidden_op");
    room.bob.leaves(&room.id).await.ok();
    assert_eq!(room.get("/announcement").await, json!({"announcement": "from carol"}));
    assert_eq!(room.get("/users").await, json!([]));
    let nobody = refused(room.post("/announcement", json!({"announcement": "from nobody"})).await, 403, "forbidden_op");
    assert!(nobody.contains("nobody"), "{nobody}");
    said(room.does("DELETE", "").await);
}

#[tokio::test]
async fn d003_admins_are_made_and_unmade() {
    let room = Room::open().await;
    assert_eq!(room.get("/admin").await, json!([]));
    let made = said(room.post("/admin", json!({"newadmin": "BOB"})).await);
    assert_eq!(made, json!({"result": "success", "newadmin": "bob"}));
    assert_eq!(room.get("/admin").await, json!(["bob"]));
    assert_eq!(room.bob.sees(&room.id).await["me"]["power_level"], 50);
    said(room.post("/admin", json!({"newadmin": "bob"})).await);
    for (name, status, error) in
        [("carol", 403, "forbidden_op"), ("alice", 403, "forbidden_op"), ("a b", 400, "illegal_argument")]
    {
        refused(room.post("/admin", json!({"newadmin": name})).await, status, error);
    }
    let unmade = said(room.does("DELETE", "/admin/bob").await);
    assert_eq!(unmade, json!({"result": "success", "oldadmin": "bob"}));
    assert_eq!((room.get("/admin").await, &room.bob.sees(&room.id).await["me"]["power_level"]), (json!([]), &json!(0)));
}

#[tokio::test]
async fn d003_members_are_kept_from_speaking_for_a_while_or_for_ever() {
    let room = Room::open().await;
    let hour = 3_600_000;
    let done = said(room.post("/mute", json!({"usernames": ["bob"], "mute_duration": hour})).await);
    assert_eq!(done, json!([{"result": true, "expire": START + hour, "user": "bob"}]));
    let answer = room.shop.app.get(&room.path("/mute")).await.expect_status(200).json();
    assert_eq!((&answer["data"], &answer["count"]), (&json!([{"expire": START + hour, "user": "bob"}]), &json!(1)));
    room.bob.tries_to_say(&room.id, "hush").await.forbidden();
    room.shop.server.advance(Duration::from_millis(hour));
    room.bob.says(&room.id, "again").await;
    assert_eq!(room.get("/mute").await, json!([]));
    let done = said(room.post("/mute", json!({"usernames": ["bob"], "mute_duration": -1})).await);
    assert_eq!(done, json!([{"result": true, "expire": -1, "user": "bob"}]));
    assert_eq!(room.get("/mute").await, json!([{"expire": -1, "user": "bob"}]));
    assert_eq!(said(room.does("DELETE", "/mute/bob").await), json!([{"result": true, "user": "bob"}]));
    room.bob.says(&room.id, "again").await;
    for body in [
        json!({"usernames": ["bob"]}),
        json!({"usernames": ["bob"], "mute_duration": 0}),
        json!({"usernames": ["bob"], "mute_duration": -2}),
        json!({"mute_duration": 1}),
    ] {
        refused(room.post("/mute", body).await, 400, "illegal_argument");
    }
    for name in ["carol", "alice"] {
        refused(room.post("/mute", json!({"usernames": [name], "mute_duration": 1})).await, 403, "forbidden_op");
    }
}

#[tokio::test]
async fn d003_all_but_owner_and_admins_are_kept_from_speaking() {
    let room = Room::open().await;
    said(room.does("POST", "/users/carol").await);
    said(room.post("/admin", json!({"newadmin": "carol"})).await);
    assert_eq!(said(room.does("POST", "/ban").await), json!({"mute": true}));
    assert_eq!(room.shop.details(&room.id).await["mute"], true);
    room.bob.tries_to_say(&room.id, "hush").await.forbidden();
    room.alice.says(&room.id, "order").await;
    room.carol.says(&room.id, "order").await;
    assert_eq!(said(room.does("DELETE", "/ban").await), json!({"mute": false}));
    room.bob.says(&room.id, "again").await;
    assert_eq!(room.shop.details(&room.id).await["mute"], false);
}

#[tokio::test]
async fn d003_who_is_shut_out_does_not_come_back_before_that_is_lifted() {
    let room = Room::open().await;
    let blocked = said(room.does("POST", "/blocks/users/bob").await);
    assert_eq!(blocked, json!({"result": true, "action": "add_blocks", "user": "bob", "chatroomid": room.id}));
    assert_eq!(room.get("/blocks/users").await, json!(["bob"]));
    assert_eq!(room.get("/users").await, json!([{"owner": "alice"}]));
    room.bob.joins(&room.id).await.forbidden();
    refused(room.does("POST", "/users/bob").await, 403, "forbidden_op");
    let lifted = said(room.does("DELETE", "/blocks/users/bob").await);
    assert_eq!(lifted, json!({"result": true, "action": "remove_blocks", "user": "bob", "chatroomid": room.id}));
    assert_eq!(room.get("/blocks/users").await, json!([]));
    said(room.does("POST", "/users/bob").await);
    for name in ["alice", "carol"] {
        refused(room.does("POST", &format!("/blocks/users/{name}")).await, 403, "forbidden_op");
        refused(room.does("DELETE", &format!("/blocks/users/{name}")).await, 403, "forbidden_op");
    }
    let some = said(room.post("/blocks/users", json!({"usernames": ["carol", "bob"]})).await);
    assert_eq!((&some[0]["result"], &some[1]["result"]), (&json!(false), &json!(true)));
    let some = said(room.does("DELETE", "/blocks/users/bob,carol").await);
    assert_eq!((&some[0]["result"], &some[1]["result"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn d003_of_several_who_are_kept_from_speaking_each_is_told_what_became_of_them() {
    let room = Room::open().await;
    room.shop.server.account("dan").await;
    said(room.does("POST", "/users/dan").await);
    let hour = 3_600_000;
    let names = json!(["bob", "carol", "alice", "nobody", "BOB", "dan"]);
    let done = said(room.post("/mute", json!({"usernames": names, "mute_duration": hour})).await);
    let reasons = [&done[1], &done[2], &done[3]].map(|one| text(&one["reason"]));
    let expected = json!([
        {"result": true, "expire": START + hour, "user": "bob"},
        {"result": false, "reason": reasons[0], "user": "carol"},
        {"result": false, "reason": reasons[1], "user": "alice"},
        {"result": false, "reason": reasons[2], "user": "nobody"},
        {"result": true, "expire": START + hour, "user": "dan"},
    ]);
    assert_eq!(done, expected, "each once");
    assert!(reasons[0].contains("carol") && reasons[1].contains("owns"), "{reasons:?}");
    assert_eq!(room.get("/mute").await.as_array().map(Vec::len), Some(2));
    let lifted = said(room.does("DELETE", "/mute/carol,bob%2Cdan,bob").await);
    assert_eq!((&lifted[0]["result"], &lifted[0]["user"]), (&json!(false), &json!("carol")));
    assert_eq!(
        (&lifted[1], &lifted[2]),
        (&json!({"result": true, "user": "bob"}), &json!({"result": true, "user": "dan"}))
    );
    assert_eq!(lifted.as_array().map(Vec::len), Some(3));
    assert_eq!(room.get("/mute").await, json!([]));
}

#[tokio::test]
async fn d003_what_is_in_the_way_of_all_fails_the_call() {
    let room = Room::open().await;
    said(room.does("POST", "/users/carol").await);
    room.alice.post_nothing(&format!("/v1/rooms/{}/archive", room.id)).await.ok();
    let both = json!({"usernames": ["bob", "carol"], "mute_duration": -1});
    assert!(refused(room.post("/mute", both.clone()).await, 403, "forbidden_op").contains("archived"));
    refused(room.post("/blocks/users", both.clone()).await, 403, "forbidden_op");
    refused(room.post("/white/users", both).await, 403, "forbidden_op");
    for list in ["users", "mute"] {
        refused(room.does("DELETE", &format!("/{list}/bob,carol")).await, 403, "forbidden_op");
    }
    assert_eq!(room.get("/users").await, json!([{"owner": "alice"}, {"member": "bob"}, {"member": "carol"}]));
}

#[tokio::test]
async fn d003_what_changes_nothing_is_not_in_the_record() {
    let room = Room::open().await;
    let acts = async || room.shop.admin.get("/v1/admin/audit?actor=app%3AShop").await.list().len();
    let (app, path) = (&room.shop.app, room.path(""));
    said(room.post("/announcement", json!({"announcement": "Hay"})).await);
    said(app.put(&path, json!({"name": "Yurts", "maxusers": 7})).await);
    said(room.does("POST", "/ban").await);
    said(room.post("/mute", json!({"usernames": ["bob"], "mute_duration": -1})).await);
    said(room.does("POST", "/white/users/bob").await);
    let before = acts().await;
    assert_eq!(before, 6, "what changed something is");
    for _ in 0..2 {
        said(room.post("/announcement", json!({"announcement": "Hay"})).await);
        said(app.put(&path, json!({"name": "Yurts", "maxusers": 7})).await);
        said(app.put(&path, json!({})).await);
        said(room.does("POST", "/ban").await);
        said(room.post("/mute", json!({"usernames": ["bob"], "mute_duration": -1})).await);
        said(room.does("POST", "/white/users/bob").await);
        said(room.does("DELETE", "/admin/bob").await);
        refused(room.does("POST", "/users/bob").await, 403, "forbidden_op");
        refused(room.does("DELETE", "/blocks/users/bob").await, 403, "forbidden_op");
    }
    assert_eq!(acts().await, before);
    let events = room.alice.timeline(&room.id).await.len();
    said(room.does("DELETE", "/ban").await);
    assert_eq!((acts().await, room.alice.timeline(&room.id).await.len()), (before + 1, events + 1));
}

#[tokio::test]
async fn d003_those_on_the_allow_list_speak_while_others_may_not() {
    let room = Room::open().await;
    for name in ["carol", "dan"] {
        if name == "dan" {
            room.shop.server.account(name).await;
        }
        said(room.does("POST", &format!("/users/{name}")).await);
    }
    assert_eq!(room.get("/white/users").await, json!([]));
    let allowed = said(room.does("POST", "/white/users/BOB").await);
    assert_eq!(allowed, json!({"result": true, "action": "add_user_whitelist", "user": "bob", "chatroomid": room.id}));
    said(room.post("/admin", json!({"newadmin": "dan"})).await);
    said(room.does("POST", "/ban").await);
    let answer = room.shop.app.get(&room.path("/white/users")).await.expect_status(200).json();
    assert_eq!((&answer["data"], &answer["count"]), (&json!(["bob"]), &json!(1)));
    assert_eq!(room.get("/admin").await, json!(["dan"]), "who may speak is no admin");
    room.bob.says(&room.id, "I may").await;
    room.carol.tries_to_say(&room.id, "hush").await.forbidden();
    room.bob.does("kick", &room.id, &room.carol).await.forbidden_for("level");

    let some = json!({"usernames": ["carol", "dan", "alice", "root", "bob"]});
    let some = said(room.post("/white/users", some).await);
    let results: Vec<_> = some.as_array().expect("a list").iter().map(|one| one["result"] == true).collect();
    assert_eq!(results, [true, false, false, false, true], "{some}");
    assert!(text(&some[1]["reason"]).contains("admin") && text(&some[3]["reason"]).contains("root"), "{some}");
    room.carol.says(&room.id, "I too").await;
    assert_eq!(room.get("/white/users?pagesize=1&pagenum=2").await, json!(["carol"]));
    let removed = said(room.does("DELETE", "/white/users/carol").await);
    let expected = json!({"result": true, "action": "remove_user_whitelist", "user": "carol", "chatroomid": room.id});
    assert_eq!(removed, json!([expected]));
    room.carol.tries_to_say(&room.id, "hush").await.forbidden();
    for name in ["dan", "alice", "root"] {
        refused(room.does("POST", &format!("/white/users/{name}")).await, 403, "forbidden_op");
    }

    // Who may speak while others may not is kept from it by name all the same.
    said(room.post("/mute", json!({"usernames": ["bob"], "mute_duration": -1})).await);
    room.bob.tries_to_say(&room.id, "hush").await.forbidden_for("silenced");
    said(room.does("DELETE", "/mute/bob").await);
    said(room.does("DELETE", "/ban").await);
    assert_eq!(room.get("/white/users").await, json!(["bob"]), "the list outlasts the silence");
    room.carol.says(&room.id, "again").await;
}

#[tokio::test]
async fn d003_the_native_api_keeps_the_same_allow_list() {
    let room = Room::open().await;
    said(room.does("POST", "/users/carol").await);
    let path = format!("/v1/rooms/{}/power-levels", room.id);
    room.alice.put(&path, json!({"events_default": 25})).await.ok();
    room.alice.gives_level(&room.id, &room.bob, 25).await.ok();
    assert_eq!(
        (room.get("/white/users").await, &room.shop.details(&room.id).await["mute"]),
        (json!(["bob"]), &json!(true))
    );
    room.bob.says(&room.id, "I may").await;
    room.carol.tries_to_say(&room.id, "hush").await.forbidden();
    said(room.does("DELETE", "/white/users/bob").await);
    assert_eq!(room.bob.sees(&room.id).await["me"]["power_level"], 0);
}

//! `/{org}/{app}/chatrooms`.

use std::time::Duration;

use serde_json::{Value, json};
use yurt::config::{Config, Tenant};

use super::through::Through;
use crate::client::{Answer, Caller, Setup, TestServer, contract::Api, server_with, text};

pub(super) const ON: Setup = Setup {
    listen: "",
    tenant: "",
    accounts: "registration = \"open\"",
    limits: "enabled = false",
    federation: "enabled = false",
    more: "[dialects.agora]\nenabled = true",
};
/// When the clock of a test starts.
const START: u64 = 1_767_225_600_000;
/// Where the rooms of the only tenant are.
pub(super) const ROOMS: &str = "/yurt/main/chatrooms";

/// A server, and another one that manages its rooms.
pub(super) struct Shop {
    pub(super) server: TestServer,
    pub(super) admin: Caller,
    pub(super) app: Through,
}

impl Shop {
    pub(super) async fn open() -> Self {
        Self::with(ON).await
    }

    pub(super) async fn with(setup: Setup) -> Self {
        let server = server_with(setup).await;
        let admin = server.admin("root").await;
        let app = app_of(&admin).await;
        Self { server, admin, app }
    }

    /// Makes a room and answers its number.
    pub(super) async fn makes(&self, body: Value) -> String {
        text(&self.wants(body).await.expect_status(200).json()["data"]["id"])
    }

    async fn wants(&self, body: Value) -> Answer {
        self.app.post(ROOMS, body).await
    }

    /// Makes a room with these people.
    pub(super) async fn room_of(&self, owner: &str, members: &[&str]) -> String {
        let mut body = json!({"name": "Tents", "description": "Felt and wood", "owner": owner});
        if !members.is_empty() {
            body["members"] = json!(members);
        }
        self.makes(body).await
    }

    /// A room in full.
    pub(super) async fn details(&self, id: &str) -> Value {
        let answer = self.app.get(&format!("{ROOMS}/{id}")).await.expect_status(200).json();
        assert_eq!(answer["count"], 1);
        answer["data"][0].clone()
    }

    /// The id of the room that the native API knows.
    pub(super) async fn native_id(&self, person: &Caller, id: &str) -> String {
        text(&person.sees(id).await["id"])
    }
}

/// A server with a fresh app token.
pub(super) async fn app_of(admin: &Caller) -> Through {
    let made = admin.post("/v1/admin/app-tokens", json!({"name": "Shop"})).await.created();
    Through::new(admin.with_token(&text(&made["access_token"])), Api::Agora)
}

#[track_caller]
pub(super) fn refused(answer: Answer, status: u16, error: &str) -> String {
    let body = answer.expect_status(status).json();
    assert_eq!(body["error"], error, "{body}");
    text(&body["error_description"])
}

/// What an answer says, without its envelope.
#[track_caller]
pub(super) fn said(answer: Answer) -> Value {
    answer.expect_status(200).json()["data"].clone()
}

/// All paths of the API, with something in the place of each name.
fn every_path(org: &str, app: &str) -> Vec<(&'static str, String)> {
    let filled = |path: &str| {
        let path = path.replace("{org_name}", org).replace("{app_name}", app);
        path.replace("{chatroom_id}", "1").replace("{username}", "alice")
    };
    yurt::api::agora::routes().into_iter().map(|(method, path)| (method, filled(path))).collect()
}

#[tokio::test]
async fn d003_01_the_names_in_the_path_pick_the_tenant() {
    let more = "[dialects.agora]\nenabled = true\n[[tenant]]\nname = \"second\"\nserver_name = \"second.test\"\norg = \"acme\"";
    let shop =
        Shop::with(Setup { tenant: "org = \"acme\"\napp = \"shop\"\nhosts = [\"127.0.0.1\"]", more, ..ON }).await;
    let app = &shop.app;
    app.get("/acme/shop/chatrooms").await.expect_status(200);
    refused(app.get("/acme/second/chatrooms").await, 401, "auth_bad_access_token");
    for (org, name) in [("acme", "none"), ("other", "shop"), ("yurt", "main"), ("acme", "main")] {
        for (method, path) in every_path(org, name) {
            let body = (method == "POST" || method == "PUT").then(|| b"{}".to_vec());
            refused(app.send(method, &path, body).await, 404, "organization_application_not_found");
        }
    }
    refused(app.get("/acme/shop/chatrooms/1/nothing").await, 404, "resource_not_found");
    refused(app.send("PATCH", "/acme/shop/chatrooms", None).await, 405, "method_not_allowed");
}

#[test]
fn d003_01_no_two_tenants_have_the_same_names_and_none_those_of_another_api() {
    let tenant = |name: &str, server: &str| Tenant::new(name, server.try_into().expect("a server name"));
    let mut config =
        Config { tenant: vec![tenant("one", "a.example"), tenant("two", "b.example")], ..Config::default() };
    config.dialects.agora.enabled = true;
    config.check().expect("they differ by their names");
    config.tenant[0].app = "two".to_owned();
    let refused = config.check().expect_err("the same paths").to_string();
    assert!(refused.starts_with("`tenant[1].app`: ") && refused.contains("/yurt/two"), "{refused}");
    for org in ["", "v1", "a/b", "_matrix", "a b", &"x".repeat(65)] {
        config.tenant[0].org = org.to_owned();
        assert!(config.check().expect_err("no name").to_string().starts_with("`tenant[0].org`: "), "{org}");
    }
    (config.tenant[0].org, config.tenant[0].app) = ("api".to_owned(), "rooms".to_owned());
    config.check().expect("a name like any other");
    yurt::api::check(&config).expect("nobody else is there");
    config.dialects.ryos.enabled = true;
    let refused = yurt::api::check(&config).expect_err("a clash").to_string();
    assert!(
        refused.starts_with("`dialects.agora.prefix`: `GET /api/rooms/chatrooms` would be a call of `ryos`"),
        "{refused}"
    );
    config.dialects.agora.prefix = "/agora".to_owned();
    yurt::api::check(&config).expect("apart from each other");
}

#[tokio::test]
async fn d003_02_every_call_needs_an_app_token() {
    let shop = Shop::open().await;
    let nobody = Through::new(shop.server.nameless(), Api::Agora);
    let token = shop.app.caller.token.clone().expect("a token");
    for (method, path) in every_path("yurt", "main") {
        refused(nobody.send(method, &path, None).await, 401, "unauthorized");
        let bad = nobody.with_header("Authorization", "Bearer nonsense");
        refused(bad.send(method, &path, None).await, 401, "auth_bad_access_token");
    }
    for header in [token.as_str(), "", "Bearer", "Bearer ", "Basic YTpi"] {
        refused(nobody.with_header("Authorization", header).get(ROOMS).await, 401, "unauthorized");
    }
    shop.app.get(ROOMS).await.expect_status(200);
    let listed = shop.admin.get("/v1/admin/app-tokens").await.list();
    assert_eq!(listed[0]["last_used_at"], shop.server.time(0), "its use is noted");
    shop.admin.delete(&format!("/v1/admin/app-tokens/{}", text(&listed[0]["id"]))).await.ok();
    refused(shop.app.get(ROOMS).await, 401, "auth_bad_access_token");
}

#[tokio::test]
async fn d003_03_tokens_of_people_open_nothing_here_and_app_tokens_nothing_elsewhere() {
    let shop = Shop::open().await;
    for person in [&shop.admin, &shop.server.account("alice").await] {
        let person = Through::new(person.clone(), Api::Agora);
        refused(person.get(ROOMS).await, 401, "auth_bad_access_token");
        let wish = json!({"name": "a", "description": "b", "owner": "alice"});
        refused(person.post(ROOMS, wish).await, 401, "auth_bad_access_token");
    }
    shop.app.caller.get("/v1/rooms").await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
}

#[tokio::test]
async fn d003_04_names_of_people_have_64_characters_of_a_few_kinds_in_whatever_case() {
    let shop = Shop::open().await;
    let longest = "x".repeat(64);
    for name in ["alice", "Bob_the-2.nd", &longest] {
        let body = json!({"username": name, "password": crate::client::PASSWORD});
        shop.server.nameless().post("/v1/auth/register", body).await.created();
        for said in [name.to_owned(), name.to_uppercase(), name.to_lowercase()] {
            shop.app.get(&format!("/yurt/main/users/{said}/joined_chatrooms")).await.expect_status(200);
        }
        let body = json!({"username": name.to_uppercase(), "password": crate::client::PASSWORD});
        shop.server.nameless().post("/v1/auth/register", body).await.refused(409, "SW_NAME_TAKEN");
    }
    let id = shop.room_of("ALICE", &["BOB_the-2.nd"]).await;
    assert_eq!(shop.details(&id).await["affiliations"], json!([{"member": "bob_the-2.nd"}, {"owner": "alice"}]));
    let long = "x".repeat(65);
    for name in ["", "a b", "älice", "@alice:yurt.test", "a+b", "a*", &long] {
        let wish = json!({"name": "a", "description": "b", "owner": name});
        assert!(refused(shop.wants(wish).await, 400, "illegal_argument").contains("owner"));
        let wish = json!({"name": "a", "description": "b", "owner": "alice", "members": [name]});
        assert!(refused(shop.wants(wish).await, 400, "illegal_argument").contains("members"));
        if !name.is_empty() {
            let path = format!("/yurt/main/users/{}/joined_chatrooms", crate::client::encoded(name));
            refused(shop.app.get(&path).await, 400, "illegal_argument");
        }
    }
}

#[tokio::test]
async fn d003_05_every_answer_says_what_was_asked_for_and_when() {
    let shop = Shop::open().await;
    shop.server.account("alice").await;
    let id = shop.room_of("alice", &[]).await;
    shop.server.advance(Duration::from_secs(2));
    let answer = shop.app.get(&format!("{ROOMS}/{id}%2C999")).await.expect_status(200).json();
    let application = answer["application"].clone();
    let expected = json!({
        "action": "get", "application": application, "applicationName": "main", "organization": "yurt", "count": 1,
        "data": answer["data"], "entities": [], "timestamp": START + 2_000, "duration": 0,
        "path": format!("/chatrooms/{id}%2C999"), "uri": format!("{}{ROOMS}/{id}%2C999", shop.server.origin()),
    });
    assert_eq!(answer, expected);
    let failed = shop.app.delete(&format!("{ROOMS}/999")).await.expect_status(404).json();
    let expected = json!({
        "action": "delete", "application": application, "applicationName": "main", "organization": "yurt",
        "timestamp": START + 2_000, "duration": 0, "path": "/chatrooms/999", "uri": format!("{}{ROOMS}/999", shop.server.origin()),
        "error": "service_resource_not_found", "error_description": "no such room, or you may not see it",
    });
    assert_eq!(failed, expected);
    let more = "[dialects.agora]\nenabled = true\nprefix = \"/old/chat\"";
    let shop = Shop::with(Setup { more, ..ON }).await;
    let there = shop.app.clone().under("/old/chat");
    let answer = there.get(ROOMS).await.expect_status(200).json();
    assert_eq!(answer["uri"], format!("{}/old/chat{ROOMS}", shop.server.origin()), "with the prefix, as it was sent");
    assert_eq!((&answer["path"], &answer["organization"]), (&json!("/chatrooms"), &json!("yurt")));
}

#[tokio::test]
async fn d003_06_a_room_needs_a_name_of_at_most_128_characters() {
    let shop = Shop::open().await;
    shop.server.account("alice").await;
    let wish = |name: Value| json!({"name": name, "description": "b", "owner": "alice"});
    shop.makes(wish(json!("ä".repeat(128)))).await;
    for name in [json!("x".repeat(129)), json!(""), json!("  "), json!(null), json!(7), json!(["a"])] {
        assert!(refused(shop.wants(wish(name)).await, 400, "illegal_argument").contains("name"));
    }
    refused(shop.wants(json!({"description": "b", "owner": "alice"})).await, 400, "illegal_argument");
    let spaced = shop.makes(wish(json!("a / b c"))).await;
    assert_eq!(shop.details(&spaced).await["name"], "a / b c", "a new room may have spaces and slashes");
}

#[tokio::test]
async fn d003_07_a_room_needs_a_description_of_at_most_512_characters() {
    let shop = Shop::open().await;
    let alice = shop.server.account("alice").await;
    let wish = |description: Value| json!({"name": "a", "description": description, "owner": "alice"});
    let longest = "ä".repeat(512);
    let id = shop.makes(wish(json!(longest))).await;
    assert_eq!(alice.sees(&id).await["topic"], json!(longest));
    let id = shop.makes(wish(json!(""))).await;
    assert_eq!(shop.details(&id).await["description"], "");
    for description in [json!("x".repeat(513)), json!(null), json!(7)] {
        assert!(refused(shop.wants(wish(description)).await, 400, "illegal_argument").contains("description"));
    }
    refused(shop.wants(json!({"name": "a", "owner": "alice"})).await, 400, "illegal_argument");
}

#[tokio::test]
async fn d003_08_a_room_needs_an_owner_who_exists() {
    let shop = Shop::open().await;
    let alice = shop.server.account("alice").await;
    let id = shop.room_of("alice", &[]).await;
    let room = alice.sees(&id).await;
    assert_eq!((&room["creator_id"], &room["made_through"]), (&json!(alice.id), &json!("agora")));
    assert_eq!(room["me"]["power_level"], 100);
    let wish = json!({"name": "a", "description": "b", "owner": "nobody"});
    refused(shop.wants(wish).await, 404, "service_resource_not_found");
    assert!(
        refused(shop.wants(json!({"name": "a", "description": "b"})).await, 400, "illegal_argument").contains("owner")
    );
    let audit = shop.admin.get("/v1/admin/audit?action=room.create").await.list();
    let expected = json!([{
        "id": audit[0]["id"], "at": shop.server.time(0), "actor": "app:Shop", "action": "room.create",
        "target": room["id"], "details": {"as": alice.id, "token": audit[0]["details"]["token"]},
    }]);
    assert_eq!(json!(audit), expected);
}

#[tokio::test]
async fn d003_09_the_creator_counts_among_the_members_at_most() {
    let shop = Shop::open().await;
    let (alice, bob) = (shop.server.account("alice").await, shop.server.account("bob").await);
    let wish = |max: Value| json!({"name": "a", "description": "b", "owner": "alice", "maxusers": max});
    let alone = shop.makes(wish(json!(1))).await;
    bob.joins(&alone).await.refused(409, "SW_ROOM_CAPACITY");
    let two = shop.makes(wish(json!(2))).await;
    bob.joins(&two).await.ok();
    let unsaid = shop.makes(wish(json!(null))).await;
    assert_eq!(shop.details(&unsaid).await["maxusers"], 1_000);
    for max in [json!(0), json!(-1), json!("300"), json!(2.5), json!(true)] {
        assert!(refused(shop.wants(wish(max)).await, 400, "illegal_argument").contains("maxusers"));
    }
    assert_eq!(alice.sees(&two).await["max_members"], 2);
}

#[tokio::test]
async fn d003_10_members_are_in_at_once_and_an_empty_list_or_unknown_people_are_refused() {
    let shop = Shop::open().await;
    shop.server.account("alice").await;
    let bob = shop.server.account("bob").await;
    let id = shop.room_of("alice", &["bob", "Bob", "alice"]).await;
    bob.says(&id, "here already").await;
    assert_eq!(shop.details(&id).await["affiliations_count"], 2, "each once, the owner included");
    shop.room_of("alice", &[]).await;
    let wish = |members: Value| json!({"name": "a", "description": "b", "owner": "alice", "members": members});
    for members in [json!([]), json!("bob"), json!([7]), json!({"bob": true})] {
        assert!(refused(shop.wants(wish(members)).await, 400, "illegal_argument").contains("members"));
    }
    refused(shop.wants(wish(json!(["bob", "nobody"]))).await, 404, "service_resource_not_found");
}

#[tokio::test]
async fn d003_11_more_members_than_the_room_holds_are_refused() {
    let shop = Shop::open().await;
    for name in ["alice", "bob", "carol"] {
        shop.server.account(name).await;
    }
    let wish = |max: u64| json!({"name": "a", "description": "b", "owner": "alice", "members": ["bob", "carol"], "maxusers": max});
    refused(shop.wants(wish(2)).await, 400, "illegal_argument");
    shop.makes(wish(3)).await;
}

#[tokio::test]
async fn d003_12_create_answers_a_string_of_digits() {
    let shop = Shop::open().await;
    let (alice, user2) = (shop.server.account("user1").await, shop.server.account("user2").await);
    let body = json!({"name": "testchatroom1", "description": "test", "maxusers": 300, "owner": "user1", "members": ["user2"]});
    let answer = shop.wants(body).await.expect_status(200).json();
    let id = text(&answer["data"]["id"]);
    assert!(!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()), "{id}");
    assert_eq!(answer["data"], json!({"id": id}));
    assert_eq!(answer["action"], "post");
    assert_eq!(alice.sees(&id).await["name"], "testchatroom1");
    assert_eq!(alice.get(&format!("/v1/rooms/{id}/number")).await.ok()["number"].to_string(), id);
    user2.sees(&id).await;
}

#[tokio::test]
async fn d003_13_the_list_holds_all_rooms_of_the_application() {
    let shop = Shop::open().await;
    let (user1, user2) = (shop.server.account("user1").await, shop.server.account("user2").await);
    assert_eq!(said(shop.app.get(ROOMS).await), json!([]));
    let wish =
        json!({"name": "test", "description": "test", "owner": "user1", "members": ["user2"], "membersonly": true});
    let id = shop.makes(wish).await;
    let expected = json!([{"id": id, "name": "test", "owner": "user1", "affiliations_count": 2}]);
    assert_eq!(said(shop.app.get(ROOMS).await), expected);
    let native = user2.public("Market").await;
    user1.group("Hidden").await;
    user1.creates(json!({"room_type": "incognito"})).await;
    user1.direct(&user2).await;
    let number = user2.get(&format!("/v1/rooms/{native}/number")).await.ok()["number"].to_string();
    let answer = shop.app.get(ROOMS).await.expect_status(200).json();
    let market = json!({"id": number, "name": "Market", "owner": "user2", "affiliations_count": 1});
    assert_eq!((&answer["data"], &answer["count"]), (&json!([expected[0], market]), &json!(2)));
}

#[tokio::test]
async fn d003_13_the_list_comes_a_page_at_a_time_for_who_asks_so() {
    let shop = Shop::open().await;
    let alice = shop.server.account("alice").await;
    for number in 0..7 {
        let hidden = number % 2 == 0;
        shop.makes(json!({"name": format!("{number}"), "description": "", "owner": "alice", "membersonly": hidden}))
            .await;
    }
    for number in 7..10 {
        alice.public(&format!("{number}")).await;
    }
    for limit in [1, 2, 3, 7, 9, 10, 100] {
        let (mut names, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let answer = shop.app.get(&format!("{ROOMS}?limit={limit}{cursor}")).await.expect_status(200).json();
            let page = answer["data"].as_array().expect("a list");
            assert!(page.len() <= limit && answer["count"] == page.len(), "{answer}");
            names.extend(page.iter().map(|room| text(&room["name"])));
            pages += 1;
            match answer["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(names.last().map(String::as_str), Some("9"), "the others come by their names");
        names.sort();
        assert_eq!(names, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], "{limit}");
        assert_eq!(pages, 10_usize.div_ceil(limit), "{limit}");
    }
    for limit in ["0", "101", "-1", "x"] {
        refused(shop.app.get(&format!("{ROOMS}?limit={limit}")).await, 400, "illegal_argument");
    }
    refused(shop.app.get(&format!("{ROOMS}?cursor=nonsense")).await, 400, "illegal_argument");
}

#[tokio::test]
async fn d003_14_the_rooms_that_somebody_joined() {
    let shop = Shop::open().await;
    let (alice, bob) = (shop.server.account("alice").await, shop.server.account("bob").await);
    let mine = |query: &str| format!("/yurt/main/users/bob/joined_chatrooms{query}");
    let id = shop.makes(json!({"name": "test", "description": "", "owner": "alice", "members": ["bob"]})).await;
    alice.group_with("Hidden", &[&bob]).await;
    let answer = shop.app.get(&mine("")).await.expect_status(200).json();
    assert_eq!((&answer["data"], &answer["count"]), (&json!([{"id": id, "name": "test"}]), &json!(1)));
    bob.joins(&alice.public("Market").await).await.ok();
    let names = async |query: &str| {
        let listed = said(shop.app.get(&mine(query)).await);
        listed.as_array().expect("a list").iter().map(|room| text(&room["name"])).collect::<Vec<_>>()
    };
    let mut both = [names("?pagenum=1&pagesize=1").await, names("?pagenum=2&pagesize=1").await].concat();
    both.sort();
    assert_eq!(both, ["Market", "test"]);
    assert_eq!(names("?pagenum=3&pagesize=1").await, Vec::<String>::new());
    bob.leaves(&id).await.ok();
    assert_eq!(names("").await, ["Market"]);
    refused(shop.app.get("/yurt/main/users/nobody/joined_chatrooms").await, 404, "service_resource_not_found");
    refused(shop.app.get(&mine("?pagenum=0")).await, 400, "illegal_argument");
}

#[tokio::test]
async fn d003_15_one_or_more_rooms_are_asked_for_at_once() {
    let shop = Shop::open().await;
    shop.server.account("alice").await;
    let (one, two) = (shop.room_of("alice", &[]).await, shop.room_of("alice", &[]).await);
    for comma in ["%2C", ",", "%2c", "%2C%20"] {
        let answer = shop.app.get(&format!("{ROOMS}/{two}{comma}{one}")).await.expect_status(200).json();
        assert_eq!(
            (&answer["count"], &answer["data"][0]["id"], &answer["data"][1]["id"]),
            (&json!(2), &json!(two), &json!(one))
        );
    }
    let answer = shop.app.get(&format!("{ROOMS}/{one},999999,{one},x")).await.expect_status(200).json();
    assert_eq!((&answer["count"], &answer["data"][0]["id"]), (&json!(1), &json!(one)), "each once, those that exist");
    for none in ["999999", "x", "999999,888888", "+1", "-1", "1.0", "99999999999999999999999"] {
        refused(shop.app.get(&format!("{ROOMS}/{none}")).await, 404, "service_resource_not_found");
    }
}

#[tokio::test]
async fn d003_16_up_to_a_hundred_rooms_are_asked_for_at_once() {
    let shop = Shop::open().await;
    shop.server.account("alice").await;
    let id = shop.room_of("alice", &[]).await;
    let others = (1_000..).take(99).map(|number: u32| number.to_string()).collect::<Vec<_>>().join(",");
    shop.app.get(&format!("{ROOMS}/{id},{others}")).await.expect_status(200);
    refused(shop.app.get(&format!("{ROOMS}/{id},{others},2000")).await, 400, "illegal_argument");
}

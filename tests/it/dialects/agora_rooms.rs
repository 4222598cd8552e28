//! `/{org}/{app}/chatrooms`: rooms in full, changed, removed, and their announcements.

use std::time::Duration;

use serde_json::{Value, json};

use super::agora::{ROOMS, Shop, refused, said};
use crate::{
    bundle::{bundle_of, import::upload},
    client::{Caller, Setup, text},
};

/// When the clock of a test starts.
const START: u64 = 1_767_225_600_000;

async fn changes(shop: &Shop, id: &str, body: Value) -> crate::client::Answer {
    shop.app.put(&format!("{ROOMS}/{id}"), body).await
}

#[tokio::test]
async fn d003_17_a_room_in_full_has_these_fields() {
    let shop = Shop::open().await;
    for name in ["user1", "user2", "user3"] {
        shop.server.account(name).await;
    }
    shop.server.advance(Duration::from_secs(3));
    let wish = json!({"name": "testchatroom1", "description": "test", "owner": "user2", "members": ["user1"]});
    let one = shop.makes(wish).await;
    let wish = json!({
        "name": "testchatroom2", "description": "test", "owner": "user3", "maxusers": 10_000,
        "custom": "{\"colour\": \"red\"}", "allowinvites": true, "membersonly": true, "unheard_of": 1,
    });
    let two = shop.makes(wish).await;
    let answer = shop.app.get(&format!("{ROOMS}/{one}%2C{two}")).await.expect_status(200).json();
    let expected = json!([
        {
            "id": one, "name": "testchatroom1", "description": "test", "membersonly": false, "allowinvites": false,
            "invite_need_confirm": true, "maxusers": 1000, "owner": "user2", "created": START + 3_000, "custom": "",
            "mute": false, "scale": "normal", "affiliations_count": 2,
            "affiliations": [{"member": "user1"}, {"owner": "user2"}], "public": true,
        },
        {
            "id": two, "name": "testchatroom2", "description": "test", "membersonly": true, "allowinvites": true,
            "invite_need_confirm": true, "maxusers": 10000, "owner": "user3", "created": START + 3_000,
            "custom": "{\"colour\": \"red\"}", "mute": false, "scale": "large", "affiliations_count": 1,
            "affiliations": [{"owner": "user3"}], "public": true,
        },
    ]);
    assert_eq!((&answer["data"], &answer["count"]), (&expected, &json!(2)));
}

#[tokio::test]
async fn d003_18_a_room_for_members_only_is_entered_with_the_consent_of_an_admin() {
    let shop = Shop::open().await;
    let (alice, bob) = (shop.server.account("alice").await, shop.server.account("bob").await);
    let wish =
        |members_only: bool| json!({"name": "a", "description": "", "owner": "alice", "membersonly": members_only});
    let open = shop.makes(wish(false)).await;
    bob.joins(&open).await.ok();
    let number = shop.makes(wish(true)).await;
    let room = shop.native_id(&alice, &number).await;
    bob.joins(&room).await.no_such_room();
    bob.post_nothing(&format!("/v1/rooms/{room}/knock")).await.ok();
    bob.joins(&room).await.forbidden();
    alice.post_nothing(&format!("/v1/rooms/{room}/members/bob/approve")).await.ok();
    bob.joins(&room).await.ok();
    assert_eq!(shop.details(&number).await["affiliations_count"], 2);
    for wrong in [json!("true"), json!(1)] {
        let wish = json!({"name": "a", "description": "", "owner": "alice", "membersonly": wrong});
        refused(shop.app.post(ROOMS, wish).await, 400, "illegal_argument");
    }
}

#[tokio::test]
async fn d003_19_members_may_invite_where_the_room_allows_it_and_admins_always() {
    let shop = Shop::open().await;
    let (alice, bob) = (shop.server.account("alice").await, shop.server.account("bob").await);
    let carol = shop.server.account("carol").await;
    for (allows, status) in [(json!(true), 200), (json!(false), 403), (json!(null), 403)] {
        let wish =
            json!({"name": "a", "description": "", "owner": "alice", "members": ["bob"], "allowinvites": allows});
        let id = shop.makes(wish).await;
        let room = shop.native_id(&alice, &id).await;
        assert_eq!(shop.details(&id).await["allowinvites"], allows == true);
        bob.does("invite", &room, &carol).await.expect_status(status);
        alice.does("invite", &room, &carol).await.ok();
    }
}

#[tokio::test]
async fn d003_20_public_is_always_true() {
    let shop = Shop::open().await;
    shop.server.account("alice").await;
    for members_only in [false, true] {
        let wish =
            json!({"name": "a", "description": "", "owner": "alice", "membersonly": members_only, "public": false});
        let id = shop.makes(wish).await;
        assert_eq!(shop.details(&id).await["public"], true);
    }
}

#[tokio::test]
async fn d003_21_name_description_and_size_are_changed_and_nothing_else() {
    let shop = Shop::open().await;
    let alice = shop.server.account("alice").await;
    let id = shop.room_of("alice", &[]).await;
    let before = shop.details(&id).await;
    for (field, value) in [
        ("owner", json!("alice")),
        ("custom", json!("x")),
        ("membersonly", json!(true)),
        ("newowner", json!("alice")),
        ("id", json!(null)),
    ] {
        let mut body = json!({"name": "other", "maxusers": 7});
        body[field] = value;
        assert!(refused(changes(&shop, &id, body).await, 400, "illegal_argument").contains(field));
    }
    for body in [
        json!({"name": "other", "maxusers": "7"}),
        json!({"name": "", "maxusers": 7}),
        json!({"name": "x".repeat(129)}),
        json!({"name": "other", "description": "x".repeat(513)}),
        json!({"name": 7}),
    ] {
        refused(changes(&shop, &id, body).await, 400, "illegal_argument");
    }
    assert_eq!(shop.details(&id).await, before, "nothing changes");
    let timeline = alice.timeline(&id).await.len();
    said(changes(&shop, &id, json!({"name": "Yurts", "description": "Round", "maxusers": 7})).await);
    let after = shop.details(&id).await;
    assert_eq!(
        (&after["name"], &after["description"], &after["maxusers"]),
        (&json!("Yurts"), &json!("Round"), &json!(7))
    );
    let timeline = alice.timeline(&id).await.split_off(timeline);
    assert!(timeline.iter().all(|event| event["sender"] == alice.id), "the owner's name stands under it: {timeline:?}");
    refused(changes(&shop, "999999", json!({"name": "a"})).await, 404, "service_resource_not_found");
    assert_eq!(said(changes(&shop, &id, json!({})).await), json!({}));
}

#[tokio::test]
async fn d003_22_a_changed_text_holds_no_space_and_no_slash_unless_the_configuration_allows_it() {
    let shop = Shop::open().await;
    shop.server.account("alice").await;
    let id = shop.room_of("alice", &[]).await;
    for text in ["a b", "a/b", " ", "/"] {
        for field in ["name", "description"] {
            let refusal =
                refused(changes(&shop, &id, json!({field: text, "maxusers": 9})).await, 400, "illegal_argument");
            assert!(refusal.contains(field) && refusal.contains('+'), "{refusal}");
        }
    }
    assert_eq!(shop.details(&id).await["maxusers"], 1_000);
    said(changes(&shop, &id, json!({"name": "a+b", "description": "c+d"})).await);
    assert_eq!(shop.details(&id).await["name"], "a+b");
    let more = "[dialects.agora]\nenabled = true\nspaces_in_changes = true";
    let shop = Shop::with(Setup { more, ..Setup::default() }).await;
    shop.server.account("alice").await;
    let id = shop.room_of("alice", &[]).await;
    said(changes(&shop, &id, json!({"name": "a / b"})).await);
    assert_eq!(shop.details(&id).await["name"], "a / b");
}

#[tokio::test]
async fn d003_23_a_change_answers_what_was_changed() {
    let shop = Shop::open().await;
    shop.server.account("alice").await;
    let id = shop.room_of("alice", &[]).await;
    let body = json!({"name": "testchatroom", "description": "test", "maxusers": 300});
    let answer = changes(&shop, &id, body).await.expect_status(200).json();
    assert_eq!(answer["data"], json!({"description": true, "maxusers": true, "groupname": true}));
    assert_eq!(answer["action"], "put");
    assert_eq!(said(changes(&shop, &id, json!({"name": "other"})).await), json!({"groupname": true}));
    let comma = br#"{"name": "testchatroom", "maxusers": 300,}"#.to_vec();
    refused(shop.app.send("PUT", &format!("{ROOMS}/{id}"), Some(comma)).await, 400, "json_parse");
}

#[tokio::test]
async fn d003_24_a_room_is_not_made_smaller_than_it_is() {
    let shop = Shop::open().await;
    for name in ["alice", "bob", "carol"] {
        shop.server.account(name).await;
    }
    let id = shop.room_of("alice", &["bob", "carol"]).await;
    let refusal = refused(changes(&shop, &id, json!({"name": "small", "maxusers": 2})).await, 400, "illegal_argument");
    assert!(refusal.contains("maxusers"), "{refusal}");
    assert_eq!(shop.details(&id).await["name"], "Tents", "nothing changes");
    said(changes(&shop, &id, json!({"maxusers": 3})).await);
}

#[tokio::test]
async fn d003_25_a_removed_room_is_gone_at_every_door() {
    let shop = Shop::open().await;
    let alice = shop.server.account("alice").await;
    let id = shop.room_of("alice", &[]).await;
    let room = shop.native_id(&alice, &id).await;
    let answer = shop.app.delete(&format!("{ROOMS}/{id}")).await.expect_status(200).json();
    assert_eq!((&answer["data"], &answer["action"]), (&json!({"success": true, "id": id}), &json!("delete")));
    refused(shop.app.get(&format!("{ROOMS}/{id}")).await, 404, "service_resource_not_found");
    assert_eq!(said(shop.app.get(ROOMS).await), json!([]));
    assert_eq!(said(shop.app.get("/yurt/main/users/alice/joined_chatrooms").await), json!([]));
    alice.get(&format!("/v1/rooms/{room}")).await.no_such_room();
    let audit = shop.admin.get("/v1/admin/audit?action=room.purge").await.list();
    assert_eq!((&audit[0]["actor"], &audit[0]["target"]), (&json!("app:Shop"), &json!(room)));
}

#[tokio::test]
async fn d003_26_what_is_not_there_or_was_made_otherwise_is_not_removed() {
    let shop = Shop::open().await;
    let alice = shop.server.account("alice").await;
    let id = shop.room_of("alice", &[]).await;
    shop.app.delete(&format!("{ROOMS}/{id}")).await.expect_status(200);
    for number in [id.as_str(), "999999", "x"] {
        refused(shop.app.delete(&format!("{ROOMS}/{number}")).await, 404, "service_resource_not_found");
    }
    let (public, hidden) = (alice.public("Market").await, alice.group("Hidden").await);
    refused(shop.app.delete(&format!("{ROOMS}/{}", number(&alice, &public).await)).await, 403, "forbidden_op");
    refused(
        shop.app.delete(&format!("{ROOMS}/{}", number(&alice, &hidden).await)).await,
        404,
        "service_resource_not_found",
    );
    alice.sees(&public).await;
}

async fn number(person: &Caller, room: &str) -> String {
    person.get(&format!("/v1/rooms/{room}/number")).await.ok()["number"].to_string()
}

#[tokio::test]
async fn d003_27_the_announcement_is_empty_until_there_is_one() {
    let shop = Shop::open().await;
    let alice = shop.server.account("alice").await;
    let id = shop.room_of("alice", &[]).await;
    let path = format!("{ROOMS}/{id}/announcement");
    let read = shop.app.with_header("Content-Type", "application/json");
    assert_eq!(said(read.get(&path).await), json!({"announcement": ""}));
    said(shop.app.post(&path, json!({"announcement": "Chat room announcements..."})).await);
    assert_eq!(said(read.get(&path).await), json!({"announcement": "Chat room announcements..."}));
    let other = shop.room_of("alice", &[]).await;
    let both = said(shop.app.get(&format!("{ROOMS}/{id}%2C{other},999999/announcement")).await);
    assert_eq!(
        both,
        json!([{"id": id, "announcement": "Chat room announcements..."}, {"id": other, "announcement": ""}])
    );
    let event = text(&alice.get(&format!("/v1/rooms/{id}/state/io.yurt.announcement")).await.ok()["event_id"]);
    alice.post(&format!("/v1/rooms/{id}/events/{event}/redact"), json!({})).await.created();
    assert_eq!(said(read.get(&path).await), json!({"announcement": ""}));
    for none in ["999999", "999999,888888"] {
        refused(read.get(&format!("{ROOMS}/{none}/announcement")).await, 404, "service_resource_not_found");
    }
}

#[tokio::test]
async fn d003_28_an_announcement_has_at_most_512_characters() {
    let shop = Shop::open().await;
    let alice = shop.server.account("alice").await;
    let id = shop.room_of("alice", &[]).await;
    let path = format!("{ROOMS}/{id}/announcement");
    let longest = "ä".repeat(512);
    let answer = shop.app.post(&path, json!({"announcement": longest})).await.expect_status(200).json();
    assert_eq!((&answer["data"], &answer["action"]), (&json!({"id": id, "result": true}), &json!("post")));
    assert_eq!(alice.get(&format!("/v1/rooms/{id}/announcement")).await.ok()["announcement"], json!(longest));
    for text in [json!("x".repeat(513)), json!(null), json!(7)] {
        refused(shop.app.post(&path, json!({"announcement": text})).await, 400, "illegal_argument");
    }
    assert_eq!(said(shop.app.get(&path).await), json!({"announcement": longest}));
    said(shop.app.post(&path, json!({"announcement": ""})).await);
    assert_eq!(said(shop.app.get(&path).await), json!({"announcement": ""}));
    refused(
        shop.app.post(&format!("{ROOMS}/999999/announcement"), json!({"announcement": "a"})).await,
        404,
        "service_resource_not_found",
    );
}

#[tokio::test]
async fn d003_29_a_body_is_json_by_its_own_account() {
    let shop = Shop::open().await;
    shop.server.account("alice").await;
    let id = shop.room_of("alice", &[]).await;
    let (room, announcement) = (format!("{ROOMS}/{id}"), format!("{ROOMS}/{id}/announcement"));
    for (method, path) in [("POST", ROOMS), ("PUT", &room), ("POST", &announcement)] {
        for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
            let app = shop.app.with_header("Content-Type", kind);
            refused(app.send(method, path, Some(b"{}".to_vec())).await, 415, "unsupported_media_type");
        }
        for body in ["", "{", "[]", "\"a\"", "{\"a\":1,}"] {
            refused(shop.app.send(method, path, Some(body.as_bytes().to_vec())).await, 400, "json_parse");
        }
    }
}

#[tokio::test]
async fn d003_30_what_is_not_200_has_failed_and_says_why() {
    let shop = Shop::open().await;
    let alice = shop.server.account("alice").await;
    let id = shop.room_of("alice", &[]).await;
    alice.post_nothing(&format!("/v1/rooms/{id}/archive")).await.ok();
    let frozen = refused(changes(&shop, &id, json!({"name": "other"})).await, 403, "forbidden_op");
    assert!(frozen.contains("archived"), "{frozen}");
    refused(
        shop.app.post(&format!("{ROOMS}/{id}/announcement"), json!({"announcement": "a"})).await,
        403,
        "forbidden_op",
    );
    assert_eq!(shop.details(&id).await["name"], "Tents", "reading goes on");
    let only = Setup { tenant: "max_rooms = 1", more: "[dialects.agora]\nenabled = true", ..Setup::default() };
    let shop = Shop::with(only).await;
    shop.server.account("alice").await;
    shop.room_of("alice", &[]).await;
    let wish = json!({"name": "a", "description": "", "owner": "alice"});
    refused(shop.app.post(ROOMS, wish).await, 403, "exceed_limit");
}

#[tokio::test]
async fn d003_31_too_many_calls_are_refused_for_a_while() {
    let setup = Setup {
        limits: "app_requests_per_second = 1\napp_requests_burst = 3",
        more: "[dialects.agora]\nenabled = true",
        ..Setup::default()
    };
    let shop = Shop::with(setup).await;
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(shop.app.get(ROOMS).await.status);
    }
    assert!(statuses.starts_with(&[200, 200, 200]) && statuses.contains(&429), "{statuses:?}");
    let late = super::agora::app_of(&shop.admin).await;
    late.get(ROOMS).await.expect_status(200);
    let refusal = loop {
        let answer = shop.app.get(ROOMS).await;
        if answer.status == 429 {
            break answer;
        }
    };
    assert!(refusal.headers.contains_key("retry-after"));
    refused(refusal, 429, "reach_limit");
}

#[tokio::test]
async fn d003_what_comes_back_from_a_bundle_is_seen_where_it_is_public_and_belongs_to_no_app() {
    let shop = Shop::open().await;
    let (alice, bob) = (shop.server.account("alice").await, shop.server.account("bob").await);
    let mut bundles = Vec::new();
    for members_only in [false, true] {
        let wish = json!({
            "name": "Tents", "description": "Felt", "owner": "alice", "members": ["bob"], "membersonly": members_only, "maxusers": 7,
        });
        let number = shop.makes(wish).await;
        let room = shop.native_id(&alice, &number).await;
        bob.says(&room, "hello").await;
        bundles.push((room.clone(), bundle_of(&alice, &room).await));
        said(shop.app.delete(&format!("{ROOMS}/{number}")).await);
    }
    assert_eq!(said(shop.app.get(ROOMS).await), json!([]));
    for (room, bundle) in &bundles {
        let restored = upload(&shop.admin, bundle, json!({})).await.created();
        assert_eq!((&restored["outcome"], &restored["id"]), (&json!("restored"), &json!(room)));
        assert_eq!(bob.hears(room).await, ["hello"]);
        assert_eq!(bob.sees(room).await["made_through"], "v1", "a file opens no door");
    }
    let [(open, _), (closed, _)] = bundles.as_slice() else { panic!("two rooms") };
    let (open, closed) = (number(&alice, open).await, number(&alice, closed).await);
    let listed = said(shop.app.get(ROOMS).await);
    assert_eq!(listed, json!([{"id": open, "name": "Tents", "owner": "alice", "affiliations_count": 2}]));
    assert_eq!(
        said(shop.app.get("/yurt/main/users/bob/joined_chatrooms").await),
        json!([{"id": open, "name": "Tents"}])
    );
    assert_eq!(shop.details(&open).await["maxusers"], 7);
    said(changes(&shop, &open, json!({"name": "Yurts"})).await);
    refused(shop.app.delete(&format!("{ROOMS}/{open}")).await, 403, "forbidden_op");
    for path in
        [format!("{ROOMS}/{closed}"), format!("{ROOMS}/{closed}/users"), format!("{ROOMS}/{closed}/announcement")]
    {
        refused(shop.app.get(&path).await, 404, "service_resource_not_found");
    }
    refused(changes(&shop, &closed, json!({"name": "Yurts"})).await, 404, "service_resource_not_found");
    refused(shop.app.delete(&format!("{ROOMS}/{closed}")).await, 404, "service_resource_not_found");
}

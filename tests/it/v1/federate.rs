//! Which other servers take part in a room, and in anything, as administrators say it.

use serde_json::json;

use crate::client::{encoded, server, text};

fn path(room: &str) -> String {
    format!("/v1/admin/rooms/{}/federate", encoded(room))
}

#[tokio::test]
async fn a_room_says_which_servers_take_part_in_it() {
    let server = server().await;
    let (admin, alice) = (server.admin("root").await, server.account("alice").await);
    let room = alice.group("Tents").await;
    let cases = [
        (json!({ "enabled": false }), "off"),
        (json!({ "enabled": true }), "open"),
        (
            json!({ "mode": "allow_list", "servers": ["Friends.example", "friends.example", "b.example:8448"] }),
            "allow_list",
        ),
        (json!({ "mode": "off" }), "off"),
        (json!({ "mode": "open" }), "open"),
    ];
    for (body, mode) in cases {
        let answer = admin.put(&path(&room), body).await.ok();
        assert_eq!((text(&answer["mode"]), &answer["members"]), (mode.to_owned(), &json!([])));
        let allowed = if mode == "allow_list" { json!(["b.example:8448", "friends.example"]) } else { json!([]) };
        assert_eq!(answer["allowed"], allowed);
        assert_eq!(alice.sees(&room).await["federation"], json!({ "mode": mode, "permanent": false }));
        let listed = admin.get("/v1/admin/rooms?q=Tents").await.list();
        assert_eq!(listed[0]["federation"]["mode"], mode);
    }
    let closed = alice.creates(json!({ "room_type": "group", "name": "Felt", "federate": false })).await;
    assert_eq!(alice.sees(&closed).await["federation"]["mode"], "off");
    admin.put(&path(&closed), json!({ "mode": "open", "dry_run": true })).await.ok();
    assert_eq!(alice.sees(&closed).await["federation"]["mode"], "off");
}

#[tokio::test]
async fn what_cannot_be_switched_is_refused() {
    let server = server().await;
    let (admin, alice) = (server.admin("root").await, server.account("alice").await);
    let room = alice.group("Tents").await;
    alice.put(&path(&room), json!({ "enabled": false })).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    admin.put(&path("!nowhere:yurt.test"), json!({ "enabled": false })).await.refused(404, "SW_ROOM_NOT_FOUND");
    for (body, field) in [
        (json!({}), "mode"),
        (json!({ "enabled": true, "mode": "open" }), "mode"),
        (json!({ "mode": "allow_list" }), "servers"),
        (json!({ "mode": "allow_list", "servers": [] }), "servers"),
        (json!({ "mode": "allow_list", "servers": ["no name"] }), "servers"),
        (json!({ "mode": "allow_list", "servers": ["yurt.test"] }), "servers"),
        (json!({ "mode": "off", "servers": ["a.example"] }), "servers"),
        (json!({ "mode": "off", "acl": true }), "as"),
        (json!({ "mode": "off", "acl": true, "as": "@rita:peer.example" }), "as"),
    ] {
        admin.put(&path(&room), body).await.invalid(field);
    }
    let secret = alice.creates(json!({ "room_type": "incognito" })).await;
    admin.put(&path(&secret), json!({ "mode": "open" })).await.refused(400, "SW_ROOM_TYPE_INVARIANT");
    let bob = server.account("bob").await;
    alice.brings_in(&room, &bob).await;
    let by_bob = admin.put(&path(&room), json!({ "mode": "off", "acl": true, "as": bob.id })).await;
    by_bob.refused(403, "SW_ROOM_FORBIDDEN");
    admin.put(&path(&room), json!({ "mode": "off", "acl": true, "as": "alice" })).await.ok();
    assert_eq!(alice.state(&room, "m.room.server_acl").await["allow"], json!(["yurt.test"]));
    let acts = admin.get("/v1/admin/audit?action=room.federate").await.list();
    assert_eq!((acts.len(), &acts[0]["details"]["as"]), (1, &json!(alice.id)));
}

#[tokio::test]
async fn the_policy_for_all_servers_is_kept() {
    let mut server = server().await;
    let (admin, alice) = (server.admin("root").await, server.account("alice").await);
    let path = "/v1/admin/federation/policy";
    alice.get(path).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    alice.put(path, json!({ "mode": "open" })).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    assert_eq!(admin.get(path).await.ok(), json!({ "mode": "open", "allow": [], "deny": [] }));
    let listed =
        json!({ "mode": "allow_list", "allow": ["Friends.example", "*.felt.example"], "deny": ["bad.example"] });
    let kept = json!({ "mode": "allow_list", "allow": ["*.felt.example", "friends.example"], "deny": ["bad.example"] });
    assert_eq!(admin.put(path, listed).await.ok(), kept);
    server.restart().await;
    assert_eq!(admin.get(path).await.ok(), kept);
    for bad in ["a b", "a.example:8448", "*"] {
        admin.put(path, json!({ "mode": "open", "deny": [bad] })).await.invalid("allow");
    }
    assert_eq!(admin.get(path).await.ok(), kept);
    admin.put(path, json!({ "mode": "closed" })).await.ok();
    assert_eq!(admin.get(path).await.ok(), json!({ "mode": "closed", "allow": [], "deny": [] }));
    let acts = admin.get("/v1/admin/audit?action=federation.policy").await.list();
    assert_eq!(acts.len(), 2);
}

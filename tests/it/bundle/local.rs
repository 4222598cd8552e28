//! What no event carries: names, settings, and what people have set for themselves. It comes along as far as whoever imports may say so.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{bundle_of, forged::Forged, import::upload, waiting::purged};
use crate::{
    client::{Caller, SERVER_NAME, encoded, server},
    federation::servers::{Authority, Server},
};

/// The bundle of a room with what everybody has set for themselves.
async fn personal_bundle_of(admin: &Caller, room: &str) -> Bytes {
    let path = format!("/v1/admin/rooms/{}/export?personal=true", encoded(room));
    admin.get(&path).await.expect_status(200).body.into()
}

/// What a bundle says of its room that no event carries.
fn local(bundle: &Bytes) -> Value {
    serde_json::from_slice(Forged::of(bundle).entry("local.json")).unwrap()
}

#[tokio::test]
async fn the_alias_of_a_restored_room_comes_back_only_where_no_other_room_has_it_by_now() {
    let server = server().await;
    let (alice, bob, admin) = (server.account("alice").await, server.account("bob").await, server.admin("root").await);
    let aliased = |alias: &str| json!({"room_type": "group", "name": "Tents", "alias": alias});
    let path = |alias: &str| format!("/v1/rooms/{}", encoded(&format!("#{alias}:{SERVER_NAME}")));
    let rooms = [alice.creates(aliased("camp")).await, alice.creates(aliased("meadow")).await];
    let mut bundles = Vec::new();
    for room in &rooms {
        bundles.push(bundle_of(&alice, room).await);
        purged(&admin, room).await;
    }
    let other = bob.creates(aliased("camp")).await;
    for bundle in &bundles {
        assert_eq!(upload(&admin, bundle, json!({})).await.created()["outcome"], "restored");
    }
    let [without, with] = &rooms;
    alice.says(without, "it is here under its id").await;
    assert_eq!(bob.get(&path("camp")).await.ok()["id"], other.as_str());
    alice.get(&path("camp")).await.no_such_room();
    assert_eq!(alice.get(&path("meadow")).await.ok()["id"], with.as_str());
    // It goes out without the alias that it has no more, and leaves it alone when it goes.
    assert_eq!(local(&bundle_of(&alice, without).await)["aliases"], json!([]));
    assert_eq!(local(&bundle_of(&alice, with).await)["aliases"], json!([format!("#meadow:{SERVER_NAME}")]));
    purged(&admin, without).await;
    assert_eq!(bob.get(&path("camp")).await.ok()["id"], other.as_str());
}

#[tokio::test]
async fn the_notification_modes_that_a_bundle_brings_come_back_with_the_room_and_no_others() {
    let server = server().await;
    let (alice, bob, admin) = (server.account("alice").await, server.account("bob").await, server.admin("root").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let mode = async |caller: &Caller| caller.sees(&room).await["me"]["notification_mode"].clone();
    let usual = mode(&alice).await;
    assert!(usual != "none" && usual != "all", "{usual}");
    for (caller, mode) in [(&alice, "none"), (&bob, "all")] {
        caller.put(&format!("/v1/rooms/{room}/notification-mode"), json!({ "mode": mode })).await.ok();
    }
    let nobodys = bundle_of(&alice, &room).await;
    let own: Bytes = alice.get(&format!("/v1/rooms/{room}/export?personal=true")).await.expect_status(200).body.into();
    let everybodys = personal_bundle_of(&admin, &room).await;
    let cases = [
        (nobodys, [usual.clone(), usual.clone()]),
        (own, [json!("none"), usual]),
        (everybodys, [json!("none"), json!("all")]),
    ];
    for (bundle, modes) in cases {
        purged(&admin, &room).await;
        upload(&admin, &bundle, json!({})).await.created();
        assert_eq!([mode(&alice).await, mode(&bob).await], modes);
    }
}

#[tokio::test]
async fn whoever_is_no_admin_takes_the_announcement_of_a_room_and_nothing_else_that_no_event_carries() {
    let authority = Authority::new();
    let (old, new) = (Server::new(&authority).await, Server::new(&authority).await);
    let (alice, admin) = (old.account("alice").await, old.admin("root").await);
    let room = alice.creates(json!({"room_type": "group", "name": "Tents", "max_members": 7, "alias": "camp"})).await;
    let path = |call: &str| format!("/v1/rooms/{}/{call}", encoded(&room));
    alice.put(&path("announcement"), json!({"announcement": "Pack light"})).await.ok();
    alice.put(&path("notification-mode"), json!({"mode": "none"})).await.ok();
    alice.put(&path("pin"), json!({})).await.ok();
    let federate = format!("/v1/admin/rooms/{}/federate", encoded(&room));
    admin.put(&federate, json!({ "mode": "off" })).await.ok();
    let bundle = personal_bundle_of(&admin, &room).await;
    let brought = local(&bundle);
    assert_eq!((&brought["max_members"], &brought["federation"]), (&json!(7), &json!("off")));
    assert_eq!(brought["aliases"][0], format!("#camp:{}", old.name()));
    assert_eq!(brought["personal"][0]["notification_mode"], "none");

    let (carol, root) = (new.account("carol").await, new.admin("root").await);
    for (importer, max_members) in [(&carol, json!(null)), (&root, json!(7))] {
        let plain = importer.sees(&importer.group("Plain").await).await;
        let wish = json!({ "participants": { alice.id.as_str(): importer.id.as_str() } });
        let taken = upload(importer, &bundle, wish).await.created();
        assert_eq!(taken["outcome"], "succeeded");
        let successor = taken["id"].as_str().unwrap();
        let seen = importer.sees(successor).await;
        assert_eq!((&seen["name"], &seen["max_members"]), (&json!("Tents"), &max_members));
        assert_eq!(seen["federation"], plain["federation"]);
        for field in ["notification_mode", "pinned"] {
            assert_eq!(seen["me"][field], plain["me"][field], "{field}");
        }
        let announced = importer.get(&format!("/v1/rooms/{}/announcement", encoded(successor))).await.ok();
        assert_eq!(announced["announcement"], "Pack light");
        // The name is free for whoever asks for it.
        let alias = encoded(&format!("#camp:{}", new.name()));
        importer.get(&format!("/v1/rooms/{alias}")).await.no_such_room();
    }
}

#[tokio::test]
async fn a_bundle_of_a_room_that_is_here_changes_none_of_its_settings() {
    let server = server().await;
    let (alice, admin) = (server.account("alice").await, server.admin("root").await);
    let room = alice.creates(json!({"room_type": "group", "name": "Tents", "max_members": 7})).await;
    let path = |call: &str| format!("/v1/rooms/{room}/{call}");
    alice.put(&path("announcement"), json!({"announcement": "Pack light"})).await.ok();
    alice.put(&path("notification-mode"), json!({"mode": "none"})).await.ok();
    let bundle = personal_bundle_of(&admin, &room).await;
    alice.put(&path("announcement"), json!({"announcement": "Mind the pegs"})).await.ok();
    alice.put(&path("notification-mode"), json!({"mode": "all"})).await.ok();
    alice.send("PATCH", &format!("/v1/rooms/{room}"), Some(json!({"max_members": 9}).to_string().into())).await.ok();
    let before = alice.sees(&room).await;
    assert_eq!(before["max_members"], 9);
    for whoever in [&alice, &admin] {
        assert_eq!(upload(whoever, &bundle, json!({})).await.ok()["outcome"], "merged");
        assert_eq!(alice.sees(&room).await, before);
        assert_eq!(alice.get(&path("announcement")).await.ok()["announcement"], "Mind the pegs");
    }
}

//! What comes out, and for whom.

use serde_json::json;
use yurt::bundle::{Archive, Limits, events};

use super::{bundle_of, forged::Forged, ids, verify};
use crate::client::server;

#[tokio::test]
async fn a_bundle_holds_every_event_of_the_room_and_proves_itself_without_a_server() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    for version in ["10", "11", "12"] {
        let room = alice
            .creates(json!({"room_type": "group", "name": "Tents", "topic": "Felt", "room_version": version}))
            .await;
        alice.brings_in(&room, &bob).await;
        for number in 0..30 {
            bob.says(&room, &format!("message {number}")).await;
        }
        let redacted = alice.says(&room, "a secret").await;
        let path = format!("/v1/rooms/{room}/events/{redacted}/redact");
        alice.post(&path, json!({"reason": "slip"})).await.created();
        let bundle = bundle_of(&alice, &room).await;
        assert!(!String::from_utf8_lossy(&bundle).contains("a secret"));
        let verified = verify(&bundle).unwrap();
        let timeline = ids(&alice.timeline(&room).await);
        let archive = Archive::in_memory(bundle.clone(), Limits::default()).unwrap();
        let mut held = Vec::new();
        events::walk(&archive, &verified.manifest, |event, _| {
            assert!(!event.raw.0.get().contains("a secret"));
            held.push(event.event_id.to_string());
            Ok(())
        })
        .unwrap();
        assert_eq!(held, timeline, "version {version}");
        let manifest = &verified.manifest;
        assert_eq!(verified.events, u64::try_from(timeline.len()).unwrap());
        assert_eq!((manifest.name.as_deref(), manifest.topic.as_deref()), (Some("Tents"), Some("Felt")));
        assert_eq!((manifest.room_version.as_str(), manifest.counts.members), (version, 2));
        assert_eq!(verified.members.len(), 2);
        assert_eq!((verified.claims, verified.refused.len()), (0, 0));
        assert_eq!(bundle_of(&alice, &room).await, bundle, "the same room and time give the same bytes");
    }
}

#[tokio::test]
async fn only_who_may_see_the_whole_room_exports_it() {
    let server = server().await;
    let (alice, bob, eve) = (server.account("alice").await, server.account("bob").await, server.account("eve").await);
    let admin = server.admin("root").await;
    let room = alice.group_with("Tents", &[&bob]).await;
    let path = format!("/v1/rooms/{room}/export");
    bob.get(&path).await.expect_status(200);
    eve.get(&path).await.no_such_room();
    alice
        .put(&format!("/v1/rooms/{room}/state/m.room.history_visibility"), json!({"history_visibility": "joined"}))
        .await
        .created();
    bob.get(&path).await.forbidden_for("history");
    let permissions = bob.get(&format!("/v1/rooms/{room}/permissions")).await.ok();
    assert_eq!(permissions["export"]["reason"], "history");
    alice.get(&path).await.expect_status(200);
    admin.get(&path).await.no_such_room();
    let as_admin = format!("/v1/admin/rooms/{room}/export");
    alice.get(&as_admin).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    verify(&admin.get(&as_admin).await.expect_status(200).body.into()).unwrap();
    let audit = admin.get("/v1/admin/audit?action=room.export").await.list();
    assert_eq!((audit.len(), &audit[0]["target"], &audit[0]["actor"]), (1, &json!(room), &json!(admin.id)));
    admin.get("/v1/admin/rooms/!none/export").await.no_such_room();
    alice.get(&format!("{path}?everything=true")).await.invalid("everything");
}

#[tokio::test]
async fn an_incognito_room_and_a_workspace_are_not_exported() {
    let server = server().await;
    let alice = server.account("alice").await;
    let admin = server.admin("root").await;
    let room = alice.creates(json!({"room_type": "incognito"})).await;
    alice.get(&format!("/v1/rooms/{room}/export")).await.refused(400, "SW_ROOM_EXPORT_REFUSED");
    admin.get(&format!("/v1/admin/rooms/{room}/export")).await.refused(400, "SW_ROOM_EXPORT_REFUSED");
    let me = alice.get("/v1/me").await.ok();
    let workspace = me["personal_workspace_id"].as_str().unwrap().to_owned();
    alice.get(&format!("/v1/rooms/{workspace}/export")).await.type_invariant();
    admin.get(&format!("/v1/admin/rooms/{workspace}/export")).await.type_invariant();
}

#[tokio::test]
async fn the_documents_of_a_bundle_are_what_their_schemas_say() {
    let server = server().await;
    let (alice, admin) = (server.account("alice").await, server.admin("root").await);
    let new = json!({"room_type": "public", "name": "Tents", "max_members": 7});
    let room = alice.creates(new).await;
    let medium = alice.uploads(b"felt", "text/plain").await;
    let shown = alice.shows(&room, medium["mxc"].as_str().unwrap()).await;
    alice.put(&format!("/v1/rooms/{room}/read"), json!({"event_id": shown})).await.ok();
    alice.put(&format!("/v1/rooms/{room}/announcement"), json!({"announcement": "Mind the pegs"})).await.ok();
    let path = format!("/v1/admin/rooms/{room}/export?personal=true");
    let bundle = admin.get(&path).await.expect_status(200).body.into();
    verify(&bundle).unwrap();
    let mut forged = Forged::of(&bundle);
    let local: serde_json::Value = serde_json::from_slice(forged.entry("local.json")).unwrap();
    for (schema, document) in [
        (include_str!("../../../schemas/bundle.manifest.schema.json"), &forged.manifest),
        (include_str!("../../../schemas/bundle.local.schema.json"), &local),
    ] {
        let validator = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
        let faults: Vec<String> = validator.iter_errors(document).map(|fault| fault.to_string()).collect();
        assert_eq!(faults, Vec::<String>::new());
    }
    assert_eq!((&local["announcement"], &local["max_members"]), (&json!("Mind the pegs"), &json!(7)));
    assert_eq!(local["personal"][0]["read_event_id"], shown);
    let without: serde_json::Value =
        serde_json::from_slice(Forged::of(&bundle_of(&alice, &room).await).entry("local.json")).unwrap();
    assert_eq!(without["personal"], json!([]));
    let lean = alice.get(&format!("/v1/rooms/{room}/export?media=false")).await.expect_status(200).body.into();
    assert_eq!(verify(&lean).unwrap().manifest.counts.media, 0);
}

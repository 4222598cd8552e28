//! What becomes of a bundle: added to the room that is here, or the room lives on from it.

use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use yurt::control::{Answer as Answered, Command};

use super::{bundle_of, ids, verify};
use crate::{
    client::{Answer, Caller, encoded, server, server_with_keys_of},
    federation::servers::{Authority, Server},
};

/// Uploads a bundle.
pub(crate) async fn upload(caller: &Caller, bundle: &Bytes, options: Value) -> Answer {
    let caller = caller.with_header("content-type", &format!("multipart/form-data; boundary={BOUNDARY}"));
    caller.send("POST", "/v1/rooms/import", Some(form(bundle, options))).await
}

/// What stands between the parts of a form.
pub(crate) const BOUNDARY: &str = "felt";

/// The form in which a bundle is uploaded.
pub(crate) fn form(bundle: &Bytes, options: Value) -> Vec<u8> {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"options\"\r\nContent-Type: application/json\r\n\r\n{options}\r\n\
         --{BOUNDARY}\r\nContent-Disposition: form-data; name=\"bundle\"; filename=\"room.zip\"\r\nContent-Type: application/zip\r\n\r\n"
    );
    [head.as_bytes(), bundle, format!("\r\n--{BOUNDARY}--\r\n").as_bytes()].concat()
}

/// The entries of a bundle that are the same whenever it is made.
fn lasting(bundle: &Bytes) -> Value {
    let verified = verify(bundle).unwrap();
    let manifest = serde_json::to_value(&verified.manifest).unwrap();
    json!([manifest["entries"], manifest["state"], manifest["extremities"], manifest["members"], manifest["hidden"]])
}

#[tokio::test]
async fn a_room_that_was_purged_lives_on_from_its_bundle_as_it_was() {
    for version in ["10", "11", "12"] {
        let server = server().await;
        let (alice, bob, admin) =
            (server.account("alice").await, server.account("bob").await, server.admin("root").await);
        let new = json!({"room_type": "group", "name": "Tents", "topic": "Felt", "room_version": version});
        let room = alice.creates(new).await;
        alice.brings_in(&room, &bob).await;
        alice.gives_level(&room, &bob, 50).await.ok();
        bob.says(&room, "one").await;
        let redacted = bob.says(&room, "a secret").await;
        alice.post(&format!("/v1/rooms/{room}/events/{redacted}/redact"), json!({})).await.created();
        let medium = alice.uploads(b"felt", "text/plain").await;
        alice.shows(&room, medium["mxc"].as_str().unwrap()).await;
        let read = bob.says(&room, "two").await;
        alice.put(&format!("/v1/rooms/{room}/read"), json!({"event_id": read})).await.ok();
        alice.put(&format!("/v1/rooms/{room}/pin"), json!({})).await.ok();
        let (before, timeline) = (alice.sees(&room).await, alice.timeline(&room).await);
        let path = format!("/v1/admin/rooms/{room}/export?personal=true");
        let bundle: Bytes = admin.get(&path).await.expect_status(200).body.into();
        let job = admin.delete(&format!("/v1/admin/rooms/{room}")).await.expect_status(202).data();
        assert_eq!(admin.awaits(job["job_id"].as_str().unwrap()).await["state"], "done");
        alice.get(&format!("/v1/rooms/{room}")).await.no_such_room();

        upload(&alice, &bundle, json!({})).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
        let dry = upload(&admin, &bundle, json!({"dry_run": true})).await.ok();
        assert_eq!((&dry["outcome"], &dry["events"]["stored"]), (&json!("restored"), &dry["events"]["total"]));
        alice.get(&format!("/v1/rooms/{room}")).await.no_such_room();

        let restored = upload(&admin, &bundle, json!({})).await.created();
        assert_eq!((&restored["outcome"], &restored["id"]), (&json!("restored"), &json!(room)));
        assert_eq!(restored["events"]["stored"], timeline.len());
        assert_eq!(restored["media"], json!({"stored": 1, "known": 0}));
        let after = alice.sees(&room).await;
        for field in ["id", "name", "topic", "room_type", "members_count", "room_version", "creator_id", "state"] {
            assert_eq!(after[field], before[field], "{field}, version {version}");
        }
        for field in ["membership", "power_level", "read_event_id", "pinned", "unread_count"] {
            assert_eq!(after["me"][field], before["me"][field], "{field}, version {version}");
        }
        assert_eq!(ids(&alice.timeline(&room).await), ids(&timeline), "version {version}");
        assert!(!alice.hears(&room).await.contains(&"a secret".to_owned()));
        bob.get(&format!("/v1/media/{}", medium["sha256"].as_str().unwrap())).await.expect_status(200);
        let again: Bytes = admin.get(&path).await.expect_status(200).body.into();
        assert_eq!(lasting(&again), lasting(&bundle), "what goes in comes out the same, version {version}");
        let twice = upload(&admin, &bundle, json!({})).await.ok();
        assert_eq!((&twice["outcome"], &twice["events"]["stored"]), (&json!("merged"), &json!(0)));
        assert_eq!(twice["media"], json!({"stored": 0, "known": 1}));
        bob.says(&room, "it goes on").await;
        let audit = admin.get("/v1/admin/audit?action=room.import").await.list();
        assert_eq!(audit.len(), 2);
    }
}

#[tokio::test]
async fn a_server_that_moved_under_its_name_and_key_restores_its_rooms_and_locks_the_names_in_them() {
    let old = server().await;
    let (alice, bob) = (old.account("alice").await, old.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let carol = old.account("carol").await;
    alice.does("invite", &room, &carol).await.ok();
    alice.says(&room, "one").await;
    let (bundle, timeline) = (bundle_of(&alice, &room).await, ids(&alice.timeline(&room).await));

    let new = server_with_keys_of(&old).await;
    let admin = new.admin("root").await;
    let alice = new.account("alice").await;
    let restored = upload(&admin, &bundle, json!({})).await.created();
    assert_eq!(restored["participants"], json!({"mapped": 0, "former": 0, "locked": 2}));
    assert_eq!(ids(&alice.timeline(&room).await), timeline);
    alice.says(&room, "two").await;
    let body = json!({"username": "bob", "password": "another one altogether"});
    new.nameless().post("/v1/auth/register", body).await.refused(409, "SW_NAME_TAKEN");
    let locked = admin.get("/v1/admin/participants?state=locked").await.list();
    assert_eq!(locked.len(), 2);
    // Nobody acts in such a name, at the command line neither.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("room.zip");
    std::fs::write(&file, &bundle).unwrap();
    let command = Command::ImportBundle {
        file,
        by: "bob".to_owned(),
        dry_run: false,
        accept_bundle_keys: false,
        workspace_id: None,
        participants: Default::default(),
        same_names: false,
    };
    let answer = new.commands(command).await;
    assert!(matches!(&answer, Answered::Refused { message } if message.contains("locked")), "{answer:?}");
}

#[tokio::test]
async fn people_without_an_account_count_among_the_accounts_that_a_tenant_may_have() {
    let authority = Authority::new();
    let mut moving = Server::changed(&authority, |config| config.tenant[0].max_accounts = 3).await;
    let (alice, bob, carol) =
        (moving.account("alice").await, moving.account("bob").await, moving.account("carol").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    alice.does("invite", &room, &carol).await.ok();
    let bundle = bundle_of(&alice, &room).await;
    moving.stop().await;
    moving.takes_its_key_elsewhere();
    moving.start().await;
    // With an account of somebody who is not in the room it is one too many: three are missing, and there are two places.
    let root = moving.admin("root").await;
    for options in [json!({"dry_run": true}), json!({})] {
        let refused = upload(&root, &bundle, options).await.refused(409, "SW_TENANT_CAPACITY");
        assert!(refused["message"].as_str().unwrap().contains("3 more accounts"), "{refused}");
    }
    root.get(&format!("/v1/admin/rooms/{}/export", encoded(&room))).await.no_such_room();
    assert_eq!(root.get("/v1/admin/participants").await.list().len(), 1);
    let alice = moving.account("alice").await;
    let restored = upload(&root, &bundle, json!({})).await;
    restored.refused(409, "SW_TENANT_CAPACITY");
    assert_eq!(alice.get("/v1/rooms").await.list().len(), 0);
    // Nothing was taken for good: there is still a place.
    moving.account("dave").await;
    assert_eq!(root.get("/v1/admin/participants").await.list().len(), 3);
}

#[tokio::test]
async fn a_server_with_another_key_does_not_believe_what_bears_its_name() {
    let old = server().await;
    let alice = old.account("alice").await;
    let room = alice.group("Tents").await;
    let bundle = bundle_of(&alice, &room).await;
    let other = server().await;
    let admin = other.admin("root").await;
    let error = upload(&admin, &bundle, json!({"accept_bundle_keys": true})).await;
    error.refused(400, "SW_ROOM_IMPORT_REFUSED");
    admin.get(&format!("/v1/admin/rooms/{room}/export")).await.no_such_room();
}

#[tokio::test]
async fn a_bundle_of_a_room_that_is_here_adds_nothing_and_tells_nobody() {
    let server = server().await;
    let (alice, bob, eve) = (server.account("alice").await, server.account("bob").await, server.account("eve").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    bob.says(&room, "one").await;
    let bundle = bundle_of(&alice, &room).await;
    bob.says(&room, "two").await;
    let before = (alice.sees(&room).await, ids(&alice.timeline(&room).await));
    let merged = upload(&alice, &bundle, json!({})).await.ok();
    assert_eq!(merged["outcome"], "merged");
    assert_eq!((&merged["events"]["stored"], &merged["events"]["known"]), (&json!(0), &merged["events"]["total"]));
    assert_eq!((alice.sees(&room).await, ids(&alice.timeline(&room).await)), before);
    // Who may not see the room is told what anybody would be told.
    upload(&eve, &bundle, json!({})).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
}

#[tokio::test]
async fn two_imports_of_one_bundle_at_once_make_one_room() {
    let server = server().await;
    let (alice, admin) = (server.account("alice").await, server.admin("root").await);
    let room = alice.group("Tents").await;
    for number in 0..100 {
        alice.says(&room, &number.to_string()).await;
    }
    let (bundle, timeline) = (bundle_of(&alice, &room).await, ids(&alice.timeline(&room).await));
    let job = admin.delete(&format!("/v1/admin/rooms/{room}")).await.expect_status(202).data();
    admin.awaits(job["job_id"].as_str().unwrap()).await;
    let (one, other) = tokio::join!(upload(&admin, &bundle, json!({})), upload(&admin, &bundle, json!({})));
    let mut outcomes = [one, other].map(|answer| (answer.status, answer.data()["outcome"].clone()));
    outcomes.sort_by_key(|(status, _)| *status);
    assert_eq!(outcomes, [(200, json!("merged")), (201, json!("restored"))]);
    assert_eq!(ids(&alice.timeline(&room).await), timeline);
}

#[tokio::test]
async fn whatever_happened_in_a_room_it_comes_out_again_as_it_went_in() {
    for seed in 0..4 {
        let mut random = StdRng::seed_from_u64(seed);
        let server = server().await;
        let (alice, admin) = (server.account("alice").await, server.admin("root").await);
        let others = server.accounts("other", 4).await;
        let version = ["10", "11", "12"][random.random_range(0..3)];
        let new = json!({"room_type": "public", "name": "Tents", "room_version": version});
        let room = alice.creates(new).await;
        let mut said = Vec::new();
        for step in 0..60 {
            let other = &others[random.random_range(0..others.len())];
            // What the room does not let happen, does not happen.
            match random.random_range(0..9) {
                0 => drop(other.joins(&room).await),
                1 => drop(other.leaves(&room).await),
                2 => drop(alice.does("ban", &room, other).await),
                3 => drop(alice.does("unban", &room, other).await),
                4 => drop(alice.put(&format!("/v1/rooms/{room}/topic"), json!({"topic": format!("{step}")})).await),
                5 => drop(alice.gives_level(&room, other, random.random_range(0..100)).await),
                6 if !said.is_empty() => {
                    let target: &String = &said[random.random_range(0..said.len())];
                    drop(alice.post(&format!("/v1/rooms/{room}/events/{target}/redact"), json!({})).await);
                }
                _ => said.push(alice.says(&room, &format!("message {step}")).await),
            }
        }
        let (before, timeline) = (alice.sees(&room).await, ids(&alice.timeline(&room).await));
        let bundle = bundle_of(&alice, &room).await;
        let job = admin.delete(&format!("/v1/admin/rooms/{room}")).await.expect_status(202).data();
        admin.awaits(job["job_id"].as_str().unwrap()).await;
        upload(&admin, &bundle, json!({})).await.created();
        let after = alice.sees(&room).await;
        for field in ["name", "topic", "members_count", "state", "is_public"] {
            assert_eq!(after[field], before[field], "{field}, seed {seed}");
        }
        assert_eq!(ids(&alice.timeline(&room).await), timeline, "seed {seed}");
        assert_eq!(lasting(&bundle_of(&alice, &room).await), lasting(&bundle), "seed {seed}");
    }
}

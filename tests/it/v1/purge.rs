//! Purging a room: everything about it goes, its id never comes back.

use serde_json::{Value, json};

use super::MISSING_ROOM;
use crate::client::{Caller, Setup, encoded, server, server_with, text};

async fn purge(admin: &Caller, room: &str) -> Value {
    let job = admin.delete(&format!("/v1/admin/rooms/{room}")).await.expect_status(202).data();
    let job = admin.awaits(&text(&job["job_id"])).await;
    assert_eq!(job["state"], "done", "{job}");
    job
}

async fn check_gone(callers: &[&Caller], room: &str) {
    for caller in callers {
        let answer = caller.get(&format!("/v1/rooms/{room}")).await;
        assert_eq!(answer.body, caller.get(&format!("/v1/rooms/{MISSING_ROOM}")).await.body);
        answer.no_such_room();
        caller.tries_to_say(room, "anybody?").await.no_such_room();
        caller.joins(room).await.no_such_room();
        for list in ["/v1/rooms", "/v1/directory/rooms", "/v1/rooms/archived"] {
            assert!(!caller.room_ids(list).await.iter().any(|id| id == room), "{list}");
        }
    }
}

#[tokio::test]
async fn a_dry_run_says_what_would_go_and_changes_nothing() {
    let server = server().await;
    let (admin, alice, bob) = (server.admin("root").await, server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    for number in 0..20 {
        alice.says(&room, &format!("{number} @bob {}", "felt ".repeat(200))).await;
    }
    let timeline = alice.timeline(&room).await;
    let path = format!("/v1/admin/rooms/{room}?dry_run=true");
    let preview = admin.delete(&path).await.ok();
    assert_eq!((&preview["room_id"], &preview["members"]), (&json!(room), &json!(2)));
    assert_eq!(preview["events"], timeline.len());
    assert!(preview["bytes"].as_u64().expect("a number") > 20 * 1_000);
    assert_eq!(alice.timeline(&room).await, timeline);
    assert_eq!(admin.delete(&path).await.ok(), preview);
    let acts = admin.get("/v1/admin/audit?action=room.purge").await;
    assert_eq!(acts.meta()["total"], 0);
    let job = purge(&admin, &room).await;
    assert!(job["result"]["bytes"].as_u64() >= preview["bytes"].as_u64(), "{job} {preview}");
    admin.delete(&path).await.no_such_room();
}

#[tokio::test]
async fn after_a_purge_nothing_of_the_room_is_found_and_its_alias_is_free() {
    let mut server = server().await;
    let (admin, alice, bob) = (server.admin("root").await, server.account("alice").await, server.account("bob").await);
    let body = json!({"room_type": "public", "name": "Tents", "alias": "tents"});
    let created = alice.post("/v1/rooms", body.clone()).await.created();
    let (room, alias) = (text(&created["id"]), text(&created["room_alias"]));
    bob.joins(&room).await.ok();
    let event = alice.says(&room, "@bob felt").await;
    bob.put(&format!("/v1/rooms/{room}/mute"), json!({"duration_ms": -1})).await.ok();
    let workspace = text(&created["workspace_id"]);
    assert_eq!(alice.get(&format!("/v1/workspaces/{workspace}")).await.ok()["rooms_count"], 1);

    let job = purge(&admin, &encoded(&alias)).await;
    assert_eq!((&job["kind"], &job["result"]["room_id"]), (&json!("purge"), &json!(room)));
    assert_eq!(job["progress"]["done"], job["progress"]["total"]);
    for restarted in [false, true] {
        if restarted {
            server.restart().await;
        }
        check_gone(&[&admin, &alice, &bob], &room).await;
        alice.get(&format!("/v1/rooms/{}", encoded(&alias))).await.no_such_room();
        alice.get(&format!("/v1/rooms/{room}/events/{event}")).await.no_such_room();
        assert_eq!(alice.get(&format!("/v1/workspaces/{workspace}")).await.ok()["rooms_count"], 0);
        let state = alice.get(&format!("/v1/rooms/{workspace}/state/m.space.child/{room}")).await.ok();
        assert_eq!(state["content"], json!({}));
        assert_eq!(admin.get("/v1/admin/rooms").await.meta()["total"], 0);
    }
    admin.delete(&format!("/v1/admin/rooms/{room}")).await.no_such_room();
    let next = text(&alice.post("/v1/rooms", body).await.created()["id"]);
    assert_ne!(next, room);
    bob.joins(&next).await.ok();
    assert_eq!(bob.sees(&next).await["me"]["muted_until"], json!(null));
}

#[tokio::test]
async fn a_purge_gives_the_tenant_room_for_another_room() {
    let server = server_with(Setup { tenant: "max_rooms = 1", ..Setup::default() }).await;
    let admin = server.admin("root").await;
    let room = admin.group("Tents").await;
    let body = json!({"room_type": "group", "name": "Yurts"});
    admin.post("/v1/rooms", body.clone()).await.refused(409, "SW_TENANT_CAPACITY");
    purge(&admin, &room).await;
    admin.post("/v1/rooms", body.clone()).await.created();
    admin.post("/v1/rooms", body).await.refused(409, "SW_TENANT_CAPACITY");
}

#[tokio::test]
async fn frozen_rooms_and_direct_messages_are_purged_and_a_pair_finds_a_new_one() {
    let server = server().await;
    let (admin, alice, bob) = (server.admin("root").await, server.account("alice").await, server.account("bob").await);
    let archived = alice.group("Winter").await;
    alice.post_nothing(&format!("/v1/rooms/{archived}/archive")).await.ok();
    let closed = alice.group("Over").await;
    alice.post_nothing(&format!("/v1/rooms/{closed}/close")).await.ok();
    let direct = alice.direct(&bob).await;
    for room in [&archived, &closed, &direct] {
        purge(&admin, room).await;
        check_gone(&[&alice, &bob], room).await;
    }
    let next = bob.direct(&alice).await;
    assert_ne!(next, direct);
    assert_eq!(alice.direct(&bob).await, next);
}

#[tokio::test]
async fn a_workspace_goes_only_when_it_is_empty_and_a_personal_one_only_after_its_owner() {
    let server = server().await;
    let (admin, alice) = (server.admin("root").await, server.account("alice").await);
    let workspace = text(&alice.post("/v1/workspaces", json!({"name": "Felt"})).await.created()["id"]);
    let room = alice.creates(json!({"room_type": "group", "name": "Tents", "workspace_id": workspace})).await;
    let path = format!("/v1/admin/rooms/{workspace}");
    admin.delete(&path).await.type_invariant();
    admin.delete(&format!("{path}?dry_run=true")).await.type_invariant();
    purge(&admin, &room).await;
    purge(&admin, &workspace).await;
    alice.get(&format!("/v1/workspaces/{workspace}")).await.refused(404, "SW_WORKSPACE_NOT_FOUND");
    let personal = text(&alice.get("/v1/me").await.ok()["personal_workspace_id"]);
    admin.delete(&format!("/v1/admin/rooms/{personal}")).await.type_invariant();
    alice.delete("/v1/me").await.ok();
    admin.awaits_newest("deactivate").await;
    purge(&admin, &personal).await;
    assert_eq!(admin.get("/v1/admin/rooms?room_type=workspace").await.meta()["total"], 1);
}

#[tokio::test]
async fn an_incognito_room_ends_and_neither_job_nor_record_names_it() {
    let server = server().await;
    let (admin, alice, bob) = (server.admin("root").await, server.account("alice").await, server.account("bob").await);
    let room = alice.creates(json!({"room_type": "incognito", "name": "Whispers"})).await;
    alice.brings_in(&room, &bob).await;
    let before = admin.get("/v1/admin/audit").await.body;
    let job = purge(&admin, &room).await;
    assert_eq!(job["result"], json!({}));
    assert_eq!(admin.get("/v1/admin/audit").await.body, before);
    check_gone(&[&alice, &bob], &room).await;
}

#[tokio::test]
async fn a_stop_in_the_middle_of_a_purge_goes_on_at_the_next_start() {
    let mut server = server().await;
    let (admin, alice) = (server.admin("root").await, server.account("alice").await);
    let people = server.accounts("tent", 12).await;
    let room = alice.public("Tents").await;
    for person in &people {
        person.joins(&room).await.ok();
        person.says(&room, "felt").await;
    }
    for number in 0..150 {
        alice.says(&room, &format!("{number}")).await;
    }
    let job = text(&admin.delete(&format!("/v1/admin/rooms/{room}")).await.expect_status(202).data()["job_id"]);
    server.restart().await;
    let again = admin.delete(&format!("/v1/admin/rooms/{room}")).await;
    if again.status == 202 {
        assert_eq!(again.data()["job_id"], job, "a purge under way has one job");
    } else {
        again.no_such_room();
    }
    assert_eq!(admin.awaits(&job).await["state"], "done");
    check_gone(&people.iter().chain([&alice, &admin]).collect::<Vec<_>>(), &room).await;
    admin.delete(&format!("/v1/admin/rooms/{room}")).await.no_such_room();
}

#[tokio::test]
async fn a_job_is_told_to_who_started_it_and_to_administrators() {
    let server = server().await;
    let (admin, alice) = (server.admin("root").await, server.account("alice").await);
    let job = purge(&admin, &alice.group("Tents").await).await;
    let path = format!("/v1/jobs/{}", text(&job["id"]));
    let deputy = server.admin("deputy").await;
    assert_eq!(deputy.get(&path).await.ok(), job);
    let hidden = alice.get(&path).await;
    assert_eq!(hidden.body, alice.get("/v1/jobs/unheard-of").await.body);
    hidden.refused(404, "SW_NOT_FOUND");
    purge(&admin, &alice.group("Yurts").await).await;
    let listed = admin.get("/v1/admin/jobs?kind=purge&state=done&limit=1").await;
    assert_eq!(listed.meta()["total"], 2);
    assert_ne!(listed.list()[0]["id"], job["id"], "the newest comes first");
    assert_eq!(admin.get("/v1/admin/jobs?state=failed").await.meta()["total"], 0);
    assert_eq!(admin.get("/v1/admin/jobs?kind=bake").await.meta()["total"], 0);
    admin.get("/v1/admin/jobs?state=tired").await.invalid("state");
}

#[tokio::test]
async fn what_became_of_a_job_is_kept_for_a_month() {
    let server = server().await;
    let admin = server.admin("root").await;
    let old = text(&purge(&admin, &admin.group("Tents").await).await["id"]);
    server.advance(std::time::Duration::from_hours(24 * 30));
    purge(&admin, &admin.group("Yurts").await).await;
    for _ in 0..crate::client::LOOKS_MAX {
        if admin.get("/v1/admin/jobs").await.meta()["total"] == 1 {
            admin.get(&format!("/v1/jobs/{old}")).await.refused(404, "SW_NOT_FOUND");
            return;
        }
        tokio::time::sleep(crate::client::LOOK_PAUSE).await;
    }
    panic!("the old job was not forgotten");
}

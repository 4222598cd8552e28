//! Workspaces: who is in them, and which room belongs to which.

use serde_json::{Value, json};

use super::MISSING_ROOM;
use crate::client::{Answer, Caller, server, text};

async fn workspace(caller: &Caller, name: &str) -> String {
    text(&caller.post("/v1/workspaces", json!({"name": name})).await.created()["id"])
}

async fn gives_role(caller: &Caller, workspace: &str, to: &Caller, role: &str) -> Answer {
    caller.put(&format!("/v1/workspaces/{workspace}/members/{}", to.id), json!({"role": role})).await
}

async fn role_of(caller: &Caller, workspace: &str) -> Value {
    caller.get(&format!("/v1/workspaces/{workspace}")).await.ok()["role"].clone()
}

async fn moves(caller: &Caller, room: &str, to: &str) -> Answer {
    caller.put(&format!("/v1/rooms/{room}/workspace"), json!({"workspace_id": to})).await
}

#[tokio::test]
async fn an_account_has_a_personal_workspace_from_the_beginning() {
    let server = server().await;
    let alice = server.account("alice").await;
    let personal = alice.get("/v1/me").await.ok()["personal_workspace_id"].clone();
    let list = alice.get("/v1/workspaces").await;
    assert_eq!(list.meta()["total"], 1);
    let list = list.list();
    assert_eq!((&list[0]["id"], &list[0]["role"], &list[0]["rooms_count"]), (&personal, &json!("owner"), &json!(0)));
}

#[tokio::test]
async fn who_makes_a_workspace_owns_it() {
    let server = server().await;
    let alice = server.account("alice").await;
    let made = alice.post("/v1/workspaces", json!({"name": "Felt", "topic": "Wool"})).await.created();
    let expected =
        json!({"id": made["id"], "name": "Felt", "topic": "Wool", "role": "owner", "rooms_count": 0, "state": "open"});
    assert_eq!(made, expected);
    assert_eq!(alice.get(&format!("/v1/workspaces/{}", text(&made["id"]))).await.ok(), expected);
    assert_eq!(alice.get("/v1/workspaces").await.meta()["total"], 2);
}

#[tokio::test]
async fn a_workspace_needs_a_name() {
    let server = server().await;
    let alice = server.account("alice").await;
    for name in [json!(null), json!(""), json!("  "), json!(1)] {
        alice.post("/v1/workspaces", json!({"name": name})).await.invalid("name");
    }
    alice.post("/v1/workspaces", json!({})).await.invalid("name");
    alice.post("/v1/workspaces", json!({"name": "Felt", "topic": 1})).await.invalid("topic");
}

#[tokio::test]
async fn a_hidden_workspace_answers_byte_for_byte_like_a_missing_one() {
    let server = server().await;
    let (alice, mallory) = (server.account("alice").await, server.account("mallory").await);
    let hidden = workspace(&alice, "Felt").await;
    let role = json!({"role": "owner"}).to_string().into_bytes();
    let name = json!({"name": "Mine"}).to_string().into_bytes();
    let requests = [
        ("GET", "", None),
        ("PATCH", "", Some(name)),
        ("DELETE", "", None),
        ("GET", "/members", None),
        ("PUT", "/members/mallory", Some(role)),
        ("DELETE", "/members/alice", None),
    ];
    for (method, rest, body) in requests {
        let one = mallory.send(method, &format!("/v1/workspaces/{hidden}{rest}"), body.clone()).await;
        let other = mallory.send(method, &format!("/v1/workspaces/{MISSING_ROOM}{rest}"), body).await;
        assert_eq!(one.body, other.body, "{method} {rest}");
        one.refused(404, "SW_WORKSPACE_NOT_FOUND");
    }
    mallory.get(&format!("/v1/rooms/{hidden}")).await.no_such_room();
    for unlike in ["x", "%2e%2e", "a%2Fb", "%00"] {
        server.raw_get(&mallory, &format!("/v1/workspaces/{unlike}")).await.refused(404, "SW_WORKSPACE_NOT_FOUND");
    }
}

#[tokio::test]
async fn a_room_is_no_workspace() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    alice.get(&format!("/v1/workspaces/{room}")).await.refused(404, "SW_WORKSPACE_NOT_FOUND");
    moves(&alice, &room, &room).await.refused(404, "SW_WORKSPACE_NOT_FOUND");
}

#[tokio::test]
async fn members_have_the_roles_that_owners_give() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let felt = workspace(&alice, "Felt").await;
    for role in ["viewer", "editor", "owner", "viewer"] {
        gives_role(&alice, &felt, &bob, role).await.ok();
        assert_eq!(role_of(&bob, &felt).await, role);
    }
    for role in ["viewer", "editor"] {
        gives_role(&alice, &felt, &bob, role).await.ok();
        gives_role(&bob, &felt, &carol, "viewer").await.refused(403, "SW_WORKSPACE_FORBIDDEN");
        gives_role(&bob, &felt, &bob, "owner").await.refused(403, "SW_WORKSPACE_FORBIDDEN");
    }
    gives_role(&alice, &felt, &bob, "owner").await.ok();
    gives_role(&bob, &felt, &carol, "editor").await.ok();
    let members = carol.get(&format!("/v1/workspaces/{felt}/members")).await;
    assert_eq!(members.meta()["total"], 3);
    let roles: Vec<(String, String)> =
        members.list().iter().map(|member| (text(&member["participant_id"]), text(&member["role"]))).collect();
    let expected = [(&alice, "owner"), (&bob, "owner"), (&carol, "editor")];
    assert_eq!(roles, expected.map(|(caller, role)| (caller.id.clone(), role.to_owned())));
}

#[tokio::test]
async fn a_role_is_one_of_three_words_and_for_people_of_this_server() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let felt = workspace(&alice, "Felt").await;
    for role in [json!("admin"), json!(null), json!(100), json!("")] {
        alice.put(&format!("/v1/workspaces/{felt}/members/{}", bob.id), json!({"role": role})).await.invalid("role");
    }
    let path = |name: &str| format!("/v1/workspaces/{felt}/members/{name}");
    alice.put(&path("nobody"), json!({"role": "viewer"})).await.refused(404, "SW_PARTICIPANT_NOT_FOUND");
    alice.put(&path("@eve:elsewhere.example"), json!({"role": "viewer"})).await.refused(409, "SW_FED_DISABLED");
    alice.put(&path("bob"), json!({"role": "viewer"})).await.ok();
    assert_eq!(role_of(&bob, &felt).await, "viewer");
}

#[tokio::test]
async fn the_creator_stays_owner() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let felt = workspace(&alice, "Felt").await;
    gives_role(&alice, &felt, &bob, "owner").await.ok();
    for caller in [&alice, &bob] {
        gives_role(caller, &felt, &alice, "editor").await.refused(400, "SW_REQUEST_INVALID");
        caller.delete(&format!("/v1/workspaces/{felt}/members/{}", alice.id)).await.refused(400, "SW_REQUEST_INVALID");
    }
    assert_eq!(role_of(&alice, &felt).await, "owner");
}

#[tokio::test]
async fn a_removed_member_sees_the_workspace_no_more() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let felt = workspace(&alice, "Felt").await;
    gives_role(&alice, &felt, &bob, "editor").await.ok();
    gives_role(&alice, &felt, &carol, "editor").await.ok();
    let path = format!("/v1/workspaces/{felt}/members/{}", bob.id);
    carol.delete(&path).await.refused(403, "SW_WORKSPACE_FORBIDDEN");
    alice.delete(&path).await.ok();
    alice.delete(&path).await.ok();
    bob.get(&format!("/v1/workspaces/{felt}")).await.refused(404, "SW_WORKSPACE_NOT_FOUND");
    assert_eq!(bob.get("/v1/workspaces").await.meta()["total"], 1);
    gives_role(&alice, &felt, &bob, "viewer").await.ok();
    assert_eq!(role_of(&bob, &felt).await, "viewer");
}

#[tokio::test]
async fn a_room_lands_in_the_workspace_asked_for_or_in_the_personal_one() {
    let server = server().await;
    let alice = server.account("alice").await;
    let personal = alice.get("/v1/me").await.ok()["personal_workspace_id"].clone();
    let felt = workspace(&alice, "Felt").await;
    let room = alice.post("/v1/rooms", json!({"room_type": "group", "name": "Tents"})).await.created();
    assert_eq!(room["workspace_id"], personal);
    let room =
        alice.post("/v1/rooms", json!({"room_type": "public", "name": "Open", "workspace_id": felt})).await.created();
    assert_eq!(room["workspace_id"], felt);
    for id in [&felt, &text(&personal)] {
        assert_eq!(alice.get(&format!("/v1/workspaces/{id}")).await.ok()["rooms_count"], 1);
    }
}

#[tokio::test]
async fn making_a_room_in_a_workspace_needs_the_role_editor() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let felt = workspace(&alice, "Felt").await;
    let body = json!({"room_type": "group", "name": "Tents", "workspace_id": felt});
    bob.post("/v1/rooms", body.clone()).await.refused(404, "SW_WORKSPACE_NOT_FOUND");
    gives_role(&alice, &felt, &bob, "viewer").await.ok();
    bob.post("/v1/rooms", body.clone()).await.refused(403, "SW_WORKSPACE_FORBIDDEN");
    gives_role(&alice, &felt, &bob, "editor").await.ok();
    assert_eq!(bob.post("/v1/rooms", body).await.created()["workspace_id"], felt);
    let missing = json!({"room_type": "group", "name": "Tents", "workspace_id": MISSING_ROOM});
    bob.post("/v1/rooms", missing).await.refused(404, "SW_WORKSPACE_NOT_FOUND");
    assert_eq!(bob.get("/v1/rooms").await.meta()["total"], 1);
}

#[tokio::test]
async fn moving_needs_level_50_in_the_room_and_editor_in_the_target() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let target = workspace(&alice, "Felt").await;
    alice.gives_level(&room, &bob, 50).await.ok();
    moves(&bob, &room, &target).await.refused(404, "SW_WORKSPACE_NOT_FOUND");
    gives_role(&alice, &target, &bob, "viewer").await.ok();
    moves(&bob, &room, &target).await.refused(403, "SW_WORKSPACE_FORBIDDEN");
    gives_role(&alice, &target, &bob, "editor").await.ok();
    alice.gives_level(&room, &bob, 49).await.ok();
    moves(&bob, &room, &target).await.forbidden_for("level");
    alice.gives_level(&room, &bob, 50).await.ok();
    assert_eq!(moves(&bob, &room, &target).await.ok()["workspace_id"], target);
    assert_eq!(alice.sees(&room).await["workspace_id"], target);
}

#[tokio::test]
async fn a_moved_room_has_one_canonical_parent_and_counts_there_only() {
    let mut server = server().await;
    let alice = server.account("alice").await;
    let (felt, wood) = (workspace(&alice, "Felt").await, workspace(&alice, "Wood").await);
    let room = alice.group("Tents").await;
    for target in [&felt, &wood, &felt] {
        moves(&alice, &room, target).await.ok();
        let state = alice.get(&format!("/v1/rooms/{room}/state?limit=200")).await.list();
        let parents: Vec<&Value> = state
            .iter()
            .filter(|event| event["type"] == "m.space.parent" && event["content"]["canonical"] == true)
            .map(|event| &event["state_key"])
            .collect();
        assert_eq!(parents, [&json!(target)]);
    }
    server.restart().await;
    for (id, count) in [(&felt, 1), (&wood, 0)] {
        assert_eq!(alice.get(&format!("/v1/workspaces/{id}")).await.ok()["rooms_count"], count);
    }
    let before = alice.timeline(&room).await;
    moves(&alice, &room, &felt).await.ok();
    assert_eq!(alice.timeline(&room).await, before, "it is there already");
}

#[tokio::test]
async fn a_target_that_is_none_is_refused() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    for target in [json!(null), json!(1), json!([])] {
        alice
            .put(&format!("/v1/rooms/{room}/workspace"), json!({"workspace_id": target}))
            .await
            .invalid("workspace_id");
    }
    for target in [MISSING_ROOM, "x", "!a:elsewhere.example"] {
        moves(&alice, &room, target).await.refused(404, "SW_WORKSPACE_NOT_FOUND");
    }
}

#[tokio::test]
async fn workspaces_are_in_no_list_of_rooms() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let felt = workspace(&alice, "Felt").await;
    gives_role(&alice, &felt, &bob, "viewer").await.ok();
    for caller in [&alice, &bob] {
        for list in ["/v1/rooms", "/v1/directory/rooms", "/v1/rooms/archived"] {
            assert_eq!(caller.get(list).await.meta()["total"], 0, "{list}");
        }
    }
}

#[tokio::test]
async fn a_workspace_takes_no_messages_and_is_not_archived_or_muted() {
    let server = server().await;
    let alice = server.account("alice").await;
    let felt = workspace(&alice, "Felt").await;
    alice.tries_to_say(&felt, "hello").await.type_invariant();
    alice.post_nothing(&format!("/v1/rooms/{felt}/archive")).await.type_invariant();
    alice.put(&format!("/v1/rooms/{felt}/mute"), json!({"duration_ms": 1_000})).await.type_invariant();
}

#[tokio::test]
async fn the_list_of_workspaces_is_the_callers() {
    let mut server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let (felt, _wood) = (workspace(&alice, "Felt").await, workspace(&alice, "Wood").await);
    gives_role(&alice, &felt, &bob, "editor").await.ok();
    server.restart().await;
    assert_eq!(alice.get("/v1/workspaces").await.meta()["total"], 3);
    let list = bob.get("/v1/workspaces").await.list();
    let shown: Vec<(String, String)> = list.iter().map(|entry| (text(&entry["id"]), text(&entry["role"]))).collect();
    assert_eq!(shown.len(), 2);
    assert!(shown.contains(&(felt, "editor".to_owned())));
    assert_eq!(alice.get("/v1/workspaces?limit=1&offset=2").await.list().len(), 1);
}

#[tokio::test]
async fn the_children_of_a_workspace_follow_its_rooms() {
    let server = server().await;
    let alice = server.account("alice").await;
    let (felt, wood) = (workspace(&alice, "Felt").await, workspace(&alice, "Wood").await);
    let room = text(
        &alice.post("/v1/rooms", json!({"room_type": "group", "name": "Tents", "workspace_id": felt})).await.created()
            ["id"],
    );
    check_child(&alice, &felt, &room, true).await;
    moves(&alice, &room, &wood).await.ok();
    check_child(&alice, &wood, &room, true).await;
    check_child(&alice, &felt, &room, false).await;
}

/// Waits until a space names a room as its child, or no longer does: children follow as effects, a moment later.
async fn check_child(caller: &Caller, workspace: &str, room: &str, wanted: bool) {
    let path = format!("/v1/rooms/{workspace}/state/m.space.child/{room}");
    let mut last = Value::Null;
    for _ in 0..500 {
        let answer = caller.get(&path).await;
        last = answer.json();
        let named = answer.status == 200 && last["data"]["content"]["via"] == json!(["yurt.test"]);
        if named == wanted {
            return;
        }
    }
    panic!("the space {workspace} does not follow the room {room}: {last}");
}

#[tokio::test]
async fn its_creator_can_neither_leave_nor_close_it_as_a_room() {
    let server = server().await;
    let alice = server.account("alice").await;
    let personal = text(&alice.get("/v1/me").await.ok()["personal_workspace_id"]);
    alice.post_nothing(&format!("/v1/rooms/{personal}/leave")).await.type_invariant();
    alice.post_nothing(&format!("/v1/rooms/{personal}/close")).await.type_invariant();
    assert_eq!(alice.get(&format!("/v1/workspaces/{personal}")).await.ok()["role"], "owner");
}

async fn changes(caller: &Caller, workspace: &str, body: Value) -> Answer {
    caller.send("PATCH", &format!("/v1/workspaces/{workspace}"), Some(body.to_string().into_bytes())).await
}

async fn deletes(caller: &Caller, workspace: &str) -> Answer {
    caller.delete(&format!("/v1/workspaces/{workspace}")).await
}

async fn room_in(caller: &Caller, workspace: &str) -> String {
    caller.creates(json!({"room_type": "group", "name": "Tents", "workspace_id": workspace})).await
}

#[tokio::test]
async fn editors_and_owners_change_name_and_topic() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let felt = workspace(&alice, "Felt").await;
    gives_role(&alice, &felt, &bob, "viewer").await.ok();
    changes(&bob, &felt, json!({"name": "Mine"})).await.refused(403, "SW_WORKSPACE_FORBIDDEN");
    gives_role(&alice, &felt, &bob, "editor").await.ok();
    let changed = changes(&bob, &felt, json!({"name": "Wood", "topic": "Rope"})).await.ok();
    assert_eq!(
        (&changed["name"], &changed["topic"], &changed["role"]),
        (&json!("Wood"), &json!("Rope"), &json!("editor"))
    );
    assert_eq!(changes(&alice, &felt, json!({"name": "Felt"})).await.ok()["topic"], "Rope", "what is left out stays");
    for cleared in [json!(""), json!(null)] {
        changes(&alice, &felt, json!({"topic": "Rope"})).await.ok();
        assert_eq!(changes(&alice, &felt, json!({"topic": cleared})).await.ok()["topic"], json!(null));
    }
    for name in [json!(null), json!(" "), json!(1), json!("n".repeat(256))] {
        changes(&alice, &felt, json!({"name": name})).await.invalid("name");
    }
    changes(&alice, &felt, json!({"topic": "t".repeat(4_097)})).await.invalid("topic");
    changes(&alice, &felt, json!({})).await.refused(400, "SW_REQUEST_INVALID");
}

#[tokio::test]
async fn a_workspace_without_rooms_is_deleted_and_gone_for_everybody() {
    let mut server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let felt = workspace(&alice, "Felt").await;
    gives_role(&alice, &felt, &bob, "editor").await.ok();
    deletes(&bob, &felt).await.refused(403, "SW_WORKSPACE_FORBIDDEN");
    assert_eq!(deletes(&alice, &felt).await.ok(), json!({"id": felt, "state": "closed"}));
    server.restart().await;
    for caller in [&alice, &bob] {
        caller.get(&format!("/v1/workspaces/{felt}")).await.refused(404, "SW_WORKSPACE_NOT_FOUND");
        caller.get(&format!("/v1/rooms/{felt}")).await.no_such_room();
        assert_eq!(caller.get("/v1/workspaces").await.meta()["total"], 1, "the personal one is left");
        deletes(caller, &felt).await.refused(404, "SW_WORKSPACE_NOT_FOUND");
    }
    let body = json!({"room_type": "group", "name": "Tents", "workspace_id": felt});
    alice.post("/v1/rooms", body).await.refused(404, "SW_WORKSPACE_NOT_FOUND");
}

#[tokio::test]
async fn a_workspace_with_rooms_is_archived_until_an_owner_restores_it() {
    let mut server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let felt = workspace(&alice, "Felt").await;
    gives_role(&alice, &felt, &bob, "editor").await.ok();
    let room = room_in(&alice, &felt).await;
    until_counted(&alice, &felt, 1).await;
    for _ in 0..2 {
        assert_eq!(deletes(&alice, &felt).await.ok(), json!({"id": felt, "state": "archived"}));
    }
    server.restart().await;
    assert_eq!(bob.get(&format!("/v1/workspaces/{felt}")).await.ok()["state"], "archived");
    assert_eq!(alice.sees(&room).await["workspace_id"], json!(felt));
    alice.says(&room, "still here").await;
    let body = json!({"room_type": "group", "name": "Tents", "workspace_id": felt});
    alice.post("/v1/rooms", body).await.frozen();
    moves(&alice, &alice.group("Other").await, &felt).await.frozen();
    changes(&alice, &felt, json!({"name": "Wood"})).await.frozen();
    gives_role(&alice, &felt, &carol, "viewer").await.frozen();
    alice.delete(&format!("/v1/workspaces/{felt}/members/{}", bob.id)).await.frozen();
    let rejoin = format!("/v1/rooms/{felt}/rejoin");
    bob.post_nothing(&rejoin).await.forbidden_for("level");
    alice.post_nothing(&rejoin).await.ok();
    assert_eq!(alice.get(&format!("/v1/workspaces/{felt}")).await.ok()["state"], "open");
    gives_role(&alice, &felt, &carol, "viewer").await.ok();
    carol.delete(&format!("/v1/workspaces/{felt}/members/{}", carol.id)).await.ok();
}

#[tokio::test]
async fn an_archived_workspace_whose_rooms_were_moved_away_is_deleted() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let (felt, wood) = (workspace(&alice, "Felt").await, workspace(&alice, "Wood").await);
    gives_role(&alice, &felt, &bob, "viewer").await.ok();
    let room = room_in(&alice, &felt).await;
    until_counted(&alice, &felt, 1).await;
    assert_eq!(deletes(&alice, &felt).await.ok()["state"], "archived");
    bob.delete(&format!("/v1/workspaces/{felt}/members/{}", bob.id)).await.ok();
    moves(&alice, &room, &wood).await.ok();
    until_counted(&alice, &felt, 0).await;
    assert_eq!(deletes(&alice, &felt).await.ok()["state"], "closed");
    assert_eq!(alice.sees(&room).await["workspace_id"], json!(wood));
}

/// Waits until a workspace counts so many rooms: they follow as effects, a moment later.
async fn until_counted(caller: &Caller, workspace: &str, rooms: u64) {
    let mut last = Value::Null;
    for _ in 0..500 {
        last = caller.get(&format!("/v1/workspaces/{workspace}")).await.ok()["rooms_count"].clone();
        if last == json!(rooms) {
            return;
        }
    }
    panic!("the workspace {workspace} counts {last} rooms, not {rooms}");
}

#[tokio::test]
async fn the_workspace_that_came_with_an_account_stays() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let personal = text(&alice.get("/v1/me").await.ok()["personal_workspace_id"]);
    gives_role(&alice, &personal, &bob, "owner").await.ok();
    for caller in [&alice, &bob] {
        deletes(caller, &personal).await.refused(400, "SW_REQUEST_INVALID");
    }
    changes(&alice, &personal, json!({"name": "My own"})).await.ok();
}

#[tokio::test]
async fn settings_and_silence_are_not_for_workspaces() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let felt = workspace(&alice, "Felt").await;
    gives_role(&alice, &felt, &bob, "viewer").await.ok();
    let body = json!({"max_members": 5}).to_string().into_bytes();
    alice.send("PATCH", &format!("/v1/rooms/{felt}"), Some(body)).await.type_invariant();
    alice.put(&format!("/v1/rooms/{felt}/password"), json!({"password": "felt"})).await.type_invariant();
    alice.put(&format!("/v1/rooms/{felt}/members/bob/silence"), json!({})).await.type_invariant();
}

#[tokio::test]
async fn a_removed_owner_comes_back_as_what_the_owner_says() {
    let server = server().await;
    let [alice, bob, carol] =
        [server.account("alice").await, server.account("bob").await, server.account("carol").await];
    let felt = workspace(&alice, "Felt").await;
    gives_role(&alice, &felt, &bob, "owner").await.ok();
    gives_role(&alice, &felt, &carol, "viewer").await.ok();
    alice.delete(&format!("/v1/workspaces/{felt}/members/{}", bob.id)).await.ok();
    for act in ["invite", "kick", "ban"] {
        carol.does(act, &felt, &bob).await.type_invariant();
    }
    gives_role(&alice, &felt, &bob, "viewer").await.ok();
    assert_eq!(role_of(&bob, &felt).await, "viewer");
    gives_role(&alice, &felt, &bob, "owner").await.ok();
    gives_role(&alice, &felt, &carol, "owner").await.ok();
    gives_role(&bob, &felt, &carol, "viewer").await.refused(403, "SW_WORKSPACE_FORBIDDEN");
}

//! Who sees which room: the directory, the caller's own rooms, the archived ones, and rooms that must look like none.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::{MISSING_EVENT, MISSING_ROOM};
use crate::client::{Caller, SERVER_NAME, TestServer, encoded, server, text};

/// Every request about one room: method, what follows the room's id, body. The workspace is one that the caller may edit.
fn requests(workspace: &str) -> Vec<(&'static str, String, Option<Value>)> {
    let event = format!("/events/{MISSING_EVENT}");
    let target = json!({"participant_id": "alice"});
    let with = |method, path: &str, body| (method, path.to_owned(), Some(body));
    let mut requests: Vec<_> =
        ["", "/members", "/messages", "/state", "/state/m.room.name", "/state/m.room.member/any", "/permissions"]
            .iter()
            .map(|path| ("GET", (*path).to_owned(), None))
            .collect();
    requests.push(("GET", event.clone(), None));
    requests.push(("GET", format!("{event}?format=pdu"), None));
    for path in ["/join", "/leave", "/close", "/archive", "/rejoin"] {
        requests.push(with("POST", path, json!({})));
    }
    for path in ["/invite", "/kick", "/ban", "/unban"] {
        requests.push(with("POST", path, target.clone()));
    }
    requests.extend([
        with("POST", "/messages", json!({"body": "hello", "txn_id": "one"})),
        with("POST", &format!("{event}/redact"), json!({})),
        with("PUT", "/name", json!({"name": "x"})),
        with("PUT", "/topic", json!({"topic": "x"})),
        with("PUT", "/workspace", json!({"workspace_id": workspace})),
        with("PUT", "/notification-mode", json!({"mode": "all"})),
        with("PUT", "/mute", json!({"duration_ms": 1000})),
        with("PUT", "/read", json!({"event_id": MISSING_EVENT})),
        with("PUT", "/power-levels", json!({"invite": 0})),
        with("PUT", "/members/alice/power-level", json!({"power_level": 0})),
        with("PUT", "/state/com.example.any", json!({})),
        with("PUT", "/state/com.example.any/key", json!({})),
    ]);
    requests
}

/// Holds a room to looking like none: the same status, headers and bytes, whatever is asked.
async fn check_hidden(stranger: &Caller, room: &str) {
    let own = text(&stranger.get("/v1/me").await.ok()["personal_workspace_id"]);
    for (method, rest, body) in requests(&own) {
        let body = body.map(|body| body.to_string().into_bytes());
        let hidden = stranger.send(method, &format!("/v1/rooms/{room}{rest}"), body.clone()).await;
        let missing = stranger.send(method, &format!("/v1/rooms/{MISSING_ROOM}{rest}"), body).await;
        assert_eq!(hidden.status, missing.status, "{method} {rest}");
        assert_eq!(hidden.body, missing.body, "{method} {rest}");
        let names = |headers: &std::collections::BTreeMap<String, String>| -> Vec<(String, String)> {
            headers.clone().into_iter().filter(|(name, _)| !matches!(name.as_str(), "date" | "x-request-id")).collect()
        };
        assert_eq!(names(&hidden.headers), names(&missing.headers), "{method} {rest}");
        hidden.no_such_room();
    }
}

#[tokio::test]
async fn a_hidden_room_answers_byte_for_byte_like_a_missing_one() {
    let server = server().await;
    let (alice, mallory) = (server.account("alice").await, server.account("mallory").await);
    let bob = server.account("bob").await;
    let group = alice.group_with("Tents", &[&bob]).await;
    alice.says(&group, "secret").await;
    check_hidden(&mallory, &group).await;
    check_hidden(&mallory, &alice.direct(&bob).await).await;
    check_hidden(&mallory, &alice.creates(json!({"room_type": "incognito"})).await).await;
}

#[tokio::test]
async fn a_frozen_or_old_hidden_room_answers_like_a_missing_one() {
    let server = server().await;
    let (alice, mallory) = (server.account("alice").await, server.account("mallory").await);
    let archived = alice.group("Archived").await;
    alice.post_nothing(&format!("/v1/rooms/{archived}/archive")).await.ok();
    check_hidden(&mallory, &archived).await;
    let closed = alice.group("Closed").await;
    alice.post_nothing(&format!("/v1/rooms/{closed}/close")).await.ok();
    check_hidden(&mallory, &closed).await;
    let old = alice.creates(json!({"room_type": "group", "name": "Old", "room_version": "10"})).await;
    check_hidden(&mallory, &old).await;
}

#[tokio::test]
async fn the_alias_of_a_hidden_room_answers_like_a_missing_one() {
    let server = server().await;
    let (alice, mallory) = (server.account("alice").await, server.account("mallory").await);
    alice.creates(json!({"room_type": "group", "name": "Tents", "alias": "felt"})).await;
    check_hidden(&mallory, &encoded(&format!("#felt:{SERVER_NAME}"))).await;
}

#[tokio::test]
async fn an_administrator_sees_no_more_rooms_than_others() {
    let server = server().await;
    let (alice, admin) = (server.account("alice").await, server.admin("root").await);
    check_hidden(&admin, &alice.group("Tents").await).await;
}

#[tokio::test]
async fn a_room_of_another_server_is_not_found() {
    let server = server().await;
    let alice = server.account("alice").await;
    for foreign in ["!abc:elsewhere.example", "#lobby:elsewhere.example"] {
        alice.get(&format!("/v1/rooms/{}", encoded(foreign))).await.no_such_room();
    }
}

#[tokio::test]
async fn the_directory_shows_every_room_that_the_caller_may_see_and_no_other() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let listed = alice.public("Listed").await;
    let listed_group = alice.creates(json!({"room_type": "group", "name": "Listed too", "is_public": true})).await;
    let own = bob.group("Own").await;
    let invited = alice.creates(json!({"room_type": "group", "name": "Invited", "invite": ["bob"]})).await;
    let former = alice.group_with("Former", &[&bob]).await;
    bob.leaves(&former).await.ok();
    let direct = alice.direct(&bob).await;
    let (_hidden, _secret) = (alice.group("Hidden").await, bob.creates(json!({"room_type": "incognito"})).await);
    bob.post("/v1/workspaces", json!({"name": "Not a room"})).await.created();
    let shown: BTreeSet<String> = bob.room_ids("/v1/directory/rooms").await.into_iter().collect();
    assert_eq!(shown, BTreeSet::from([listed, listed_group, own, invited, former, direct]));
}

#[tokio::test]
async fn the_directory_finds_by_text_and_type() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let felt = alice.public("Felt makers").await;
    let wood = alice.creates(json!({"room_type": "group", "name": "Wood", "is_public": true})).await;
    assert_eq!(bob.room_ids("/v1/directory/rooms?q=FELT").await, [felt.as_str()]);
    assert_eq!(bob.room_ids("/v1/directory/rooms?q=leather").await, super::NONE);
    assert_eq!(bob.room_ids("/v1/directory/rooms?room_type=public").await, [felt]);
    assert_eq!(bob.room_ids("/v1/directory/rooms?room_type=group").await, [wood]);
    assert_eq!(bob.get("/v1/directory/rooms?q=felt").await.meta()["total"], 1);
    bob.get("/v1/directory/rooms?room_type=space").await.invalid("room_type");
}

#[tokio::test]
async fn the_directory_follows_what_rooms_become() {
    let mut server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    assert_eq!(bob.room_ids("/v1/directory/rooms").await, super::NONE);
    let first = alice.creates(json!({"room_type": "group", "name": "Birch", "is_public": true})).await;
    let second = alice.public("Cedar").await;
    assert_eq!(bob.room_ids("/v1/directory/rooms").await, [first.as_str(), &second]);
    alice.put(&format!("/v1/rooms/{first}/name"), json!({"name": "Yew"})).await.ok();
    alice.put(&format!("/v1/rooms/{second}/topic"), json!({"topic": "All about BARK"})).await.ok();
    assert_eq!(bob.room_ids("/v1/directory/rooms").await, [second.as_str(), &first]);
    assert_eq!(bob.room_ids("/v1/directory/rooms?q=yew").await, [first.as_str()]);
    assert_eq!(bob.room_ids("/v1/directory/rooms?q=bark").await, [second.as_str()]);
    let door = format!("/v1/rooms/{first}/state/m.room.join_rules");
    alice.put(&door, json!({"join_rule": "invite"})).await.created();
    assert_eq!(bob.room_ids("/v1/directory/rooms").await, [second.as_str()]);
    assert_eq!(alice.room_ids("/v1/directory/rooms").await, [second.as_str(), &first], "her own, listed or not");
    alice.put(&door, json!({"join_rule": "public"})).await.created();
    for _start in 0..2 {
        assert_eq!(bob.room_ids("/v1/directory/rooms").await, [second.as_str(), &first]);
        assert_eq!(bob.room_ids("/v1/directory/rooms?limit=1&offset=1").await, [first.as_str()]);
        server.restart().await;
    }
}

#[tokio::test]
async fn own_rooms_stand_among_the_listed_ones_by_name() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let (ash, oak) = (alice.public("Ash").await, alice.public("Oak").await);
    let (elm, pine) = (bob.group("elm").await, bob.group("Pine").await);
    let all = [ash, elm.clone(), oak, pine.clone()];
    assert_eq!(bob.room_ids("/v1/directory/rooms").await, all);
    for (offset, room) in all.iter().enumerate() {
        let page = bob.get(&format!("/v1/directory/rooms?limit=1&offset={offset}")).await;
        assert_eq!(page.meta()["total"], 4);
        assert_eq!(page.list()[0]["id"], *room);
    }
    assert_eq!(bob.room_ids("/v1/directory/rooms?room_type=group").await, [elm.as_str(), &pine]);
}

#[tokio::test]
async fn a_listed_room_in_the_directory_is_the_room_as_the_caller_sees_it() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.public("Lobby").await;
    let listed = bob.get("/v1/directory/rooms").await.list();
    assert_eq!(listed, [bob.sees(&room).await]);
    assert_eq!(listed[0]["members_count"], 1);
}

#[tokio::test]
async fn lists_are_paged_without_loss_or_repetition() {
    let server = server().await;
    let alice = server.account("alice").await;
    let mut made = BTreeSet::new();
    for number in 0..7 {
        made.insert(alice.public(&format!("Room {number}")).await);
    }
    for list in ["/v1/directory/rooms", "/v1/rooms"] {
        let mut found = Vec::new();
        for offset in [0, 3, 6] {
            let page = alice.get(&format!("{list}?limit=3&offset={offset}")).await;
            assert_eq!(page.meta()["total"], 7);
            found.extend(page.list().iter().map(|room| text(&room["id"])));
        }
        assert_eq!(found.len(), 7, "{list}");
        assert_eq!(BTreeSet::from_iter(found), made, "{list}");
        let beyond = alice.get(&format!("{list}?offset=7")).await;
        assert_eq!(beyond.meta()["total"], 7);
        assert!(beyond.list().is_empty());
    }
}

#[tokio::test]
async fn the_limit_of_a_list_is_50_unless_asked_and_at_most_200() {
    let server = server().await;
    let alice = server.account("alice").await;
    for number in 0..51 {
        alice.public(&format!("Room {number}")).await;
    }
    assert_eq!(alice.get("/v1/directory/rooms").await.list().len(), 50);
    assert_eq!(alice.get("/v1/directory/rooms?limit=200").await.list().len(), 51);
}

#[tokio::test]
async fn a_limit_or_offset_out_of_range_is_refused_by_name() {
    let server = server().await;
    let alice = server.admin("root").await;
    let room = alice.group("Tents").await;
    let workspace = text(&alice.get("/v1/me").await.ok()["personal_workspace_id"]);
    let lists = [
        "/v1/directory/rooms".to_owned(),
        "/v1/rooms".to_owned(),
        "/v1/rooms/archived".to_owned(),
        "/v1/workspaces".to_owned(),
        "/v1/admin/participants".to_owned(),
        format!("/v1/rooms/{room}/members"),
        format!("/v1/rooms/{room}/state"),
        format!("/v1/workspaces/{workspace}/members"),
    ];
    for list in lists {
        for limit in ["0", "201", "-1", "1.5", "many", "", "99999999999999999999"] {
            alice.get(&format!("{list}?limit={limit}")).await.invalid("limit");
        }
        for offset in ["-1", "few", "1.5", "99999999999999999999"] {
            alice.get(&format!("{list}?offset={offset}")).await.invalid("offset");
        }
        alice.get(&format!("{list}?limit=1&offset=0")).await.ok();
    }
}

#[tokio::test]
async fn an_unknown_parameter_of_a_list_is_refused_by_name() {
    let server = server().await;
    let alice = server.account("alice").await;
    alice.get("/v1/directory/rooms?limits=5").await.invalid("limits");
}

#[tokio::test]
async fn the_own_rooms_are_those_joined_or_invited_to_with_the_newest_activity_first() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let mut rooms = Vec::new();
    for name in ["one", "two", "three"] {
        later(&server);
        rooms.push(alice.group_with(name, &[&bob]).await);
    }
    later(&server);
    let invited = alice.creates(json!({"room_type": "group", "name": "four", "invite": ["bob"]})).await;
    let (_not_joined, left) = (alice.public("listed only").await, alice.group_with("left", &[&bob]).await);
    bob.leaves(&left).await.ok();
    later(&server);
    alice.says(&rooms[0], "news").await;
    let own = bob.get("/v1/rooms").await;
    assert_eq!(own.meta()["total"], 4);
    let list = own.list();
    let ids: Vec<String> = list.iter().map(|room| text(&room["id"])).collect();
    assert_eq!(ids, [rooms[0].clone(), invited, rooms[2].clone(), rooms[1].clone()]);
    assert_eq!(list[0]["me"]["unread_count"], 1);
    assert_eq!(list[1]["me"]["membership"], "invite");
}

fn later(server: &TestServer) {
    server.advance(Duration::from_secs(1));
}

#[tokio::test]
async fn the_archived_rooms_are_those_of_which_the_caller_was_a_member_then() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let room = alice.creates(json!({"room_type": "group", "name": "Tents", "is_public": true})).await;
    bob.joins(&room).await.ok();
    carol.joins(&room).await.ok();
    carol.leaves(&room).await.ok();
    let _open = alice.group("Open").await;
    let closed = alice.group("Closed").await;
    alice.post_nothing(&format!("/v1/rooms/{closed}/close")).await.ok();
    alice.post_nothing(&format!("/v1/rooms/{room}/archive")).await.ok();
    assert_eq!(alice.room_ids("/v1/rooms/archived").await, [room.as_str()]);
    assert_eq!(bob.room_ids("/v1/rooms/archived").await, [room.as_str()]);
    assert_eq!(carol.room_ids("/v1/rooms/archived").await, super::NONE);
    bob.leaves(&room).await.ok();
    assert_eq!(bob.room_ids("/v1/rooms/archived").await, [room.as_str()], "he was a member then");
    alice.post_nothing(&format!("/v1/rooms/{room}/rejoin")).await.ok();
    for caller in [&alice, &bob] {
        assert_eq!(caller.room_ids("/v1/rooms/archived").await, super::NONE);
    }
}

#[tokio::test]
async fn a_non_member_sees_a_listed_room_but_not_what_is_in_it() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    for body in
        [json!({"room_type": "public", "name": "a"}), json!({"room_type": "group", "name": "b", "is_public": true})]
    {
        let room = alice.creates(body).await;
        let event = alice.says(&room, "hello").await;
        let seen = bob.sees(&room).await;
        assert_eq!(seen["members_count"], 1);
        assert_eq!(seen["me"]["unread_count"], 0);
        for inside in ["members", "state", "state/m.room.name", "state/m.room.member/@alice:yurt.test", "messages"] {
            bob.get(&format!("/v1/rooms/{room}/{inside}")).await.forbidden();
        }
        for format in ["", "?format=pdu"] {
            bob.get(&format!("/v1/rooms/{room}/events/{event}{format}")).await.forbidden();
        }
        bob.tries_to_say(&room, "let me in").await.forbidden_for("membership");
    }
}

#[tokio::test]
async fn a_former_member_keeps_what_history_visibility_leaves_and_writes_nothing() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let before = alice.says(&room, "before").await;
    bob.leaves(&room).await.ok();
    let after = alice.says(&room, "after").await;
    assert_eq!(bob.sees(&room).await["me"]["membership"], "leave");
    assert_eq!(bob.hears(&room).await, ["before"]);
    bob.get(&format!("/v1/rooms/{room}/events/{before}")).await.ok();
    bob.get(&format!("/v1/rooms/{room}/events/{after}")).await.refused(404, "SW_EVENT_NOT_FOUND");
    bob.get(&format!("/v1/rooms/{room}/events/{after}?format=pdu")).await.refused(404, "SW_EVENT_NOT_FOUND");
    bob.tries_to_say(&room, "still here").await.forbidden();
    bob.put(&format!("/v1/rooms/{room}/topic"), json!({"topic": "x"})).await.forbidden();
    bob.does("invite", &room, &alice).await.forbidden();
    bob.joins(&room).await.forbidden();
}

#[tokio::test]
async fn the_removed_and_the_banned_see_the_room_as_former_members_do() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let room = alice.group_with("Tents", &[&bob, &carol]).await;
    alice.says(&room, "before").await;
    alice.does("kick", &room, &bob).await.ok();
    alice.does("ban", &room, &carol).await.ok();
    alice.says(&room, "after").await;
    assert_eq!(bob.sees(&room).await["me"]["membership"], "leave");
    assert_eq!(carol.sees(&room).await["me"]["membership"], "ban");
    for former in [&bob, &carol] {
        assert_eq!(former.hears(&room).await, ["before"]);
        former.tries_to_say(&room, "hey").await.forbidden();
    }
}

#[tokio::test]
async fn shared_history_is_open_to_who_joins_later() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group("Tents").await;
    alice.says(&room, "before").await;
    alice.brings_in(&room, &bob).await;
    assert_eq!(bob.hears(&room).await, ["before"]);
}

#[tokio::test]
async fn joined_history_is_closed_to_who_joins_later() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group("Tents").await;
    alice
        .put(&format!("/v1/rooms/{room}/state/m.room.history_visibility"), json!({"history_visibility": "joined"}))
        .await
        .created();
    let hidden = alice.says(&room, "before").await;
    alice.does("invite", &room, &bob).await.ok();
    alice.says(&room, "while invited").await;
    bob.joins(&room).await.ok();
    alice.says(&room, "after").await;
    assert_eq!(bob.hears(&room).await, ["after"]);
    bob.get(&format!("/v1/rooms/{room}/events/{hidden}")).await.refused(404, "SW_EVENT_NOT_FOUND");
    bob.put(&format!("/v1/rooms/{room}/read"), json!({"event_id": hidden})).await.refused(404, "SW_EVENT_NOT_FOUND");
}

#[tokio::test]
async fn invited_history_is_open_from_the_invite_on() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group("Tents").await;
    alice
        .put(&format!("/v1/rooms/{room}/state/m.room.history_visibility"), json!({"history_visibility": "invited"}))
        .await
        .created();
    alice.says(&room, "before").await;
    alice.does("invite", &room, &bob).await.ok();
    alice.says(&room, "while invited").await;
    bob.joins(&room).await.ok();
    alice.says(&room, "after").await;
    assert_eq!(bob.hears(&room).await, ["while invited", "after"]);
}

#[tokio::test]
async fn the_invited_see_the_room_but_cannot_write() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.creates(json!({"room_type": "group", "name": "Tents", "invite": ["bob"]})).await;
    let seen = bob.sees(&room).await;
    assert_eq!((&seen["name"], &seen["me"]["membership"]), (&json!("Tents"), &json!("invite")));
    bob.tries_to_say(&room, "hello").await.forbidden_for("membership");
    bob.does("invite", &room, &alice).await.forbidden();
}

#[tokio::test]
async fn a_declined_invite_leaves_nothing_to_read() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.creates(json!({"room_type": "group", "name": "Tents", "invite": ["bob"]})).await;
    bob.leaves(&room).await.ok();
    alice.says(&room, "secret").await;
    let own = bob.room_ids("/v1/rooms").await;
    assert!(own.is_empty());
    let messages = bob.get(&format!("/v1/rooms/{room}/messages")).await;
    let hears_nothing = messages.status != 200 || !String::from_utf8_lossy(&messages.body).contains("secret");
    assert!(hears_nothing, "who never joined read the timeline");
}

#[tokio::test]
async fn archived_dm_and_import_are_never_room_ids() {
    let server = server().await;
    let alice = server.account("alice").await;
    alice.get("/v1/rooms/import").await.refused(405, "SW_METHOD_NOT_ALLOWED");
    for word in ["archived", "dm", "import"] {
        alice.get(&format!("/v1/rooms/{word}/members")).await.no_such_room();
    }
}

#[tokio::test]
async fn without_federation_other_servers_are_not_asked_for_their_rooms() {
    let server = server().await;
    let alice = server.account("alice").await;
    alice.get("/v1/directory/servers/other.example/rooms").await.refused(409, "SW_FED_DISABLED");
    alice.get("/v1/directory/servers/other.example/rooms?limit=0").await.invalid("limit");
    alice.get(&format!("/v1/directory/servers/{}/rooms", SERVER_NAME)).await.invalid("server");
}

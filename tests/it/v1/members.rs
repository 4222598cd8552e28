//! Joining, leaving, inviting, removing, banning, and how many a room holds.

use serde_json::{Value, json};

use super::{VERSIONS, Version};
use crate::client::{Caller, SERVER_NAME, Setup, TestServer, server, server_with, text};

#[tokio::test]
async fn a_member_is_shown_with_level_server_and_time() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    for version in VERSIONS {
        let room = room_of_version(&alice, version).await;
        alice.brings_in(&room, &bob).await;
        alice.gives_level(&room, &bob, 50).await.ok();
        let members = bob.get(&format!("/v1/rooms/{room}/members?membership=join")).await;
        assert_eq!(members.meta()["total"], 2);
        let expected = |caller: &Caller, level: i64, is_creator: bool| {
            json!({"participant_id": caller.id, "display_name": null, "membership": "join", "power_level": level,
                   "is_creator": is_creator, "joined_at": server.time(0), "silenced_until": null, "server": SERVER_NAME})
        };
        let mut list = members.list();
        for member in &mut list {
            assert!(member["display_name"].is_null() || member["display_name"].is_string());
            member["display_name"] = Value::Null;
        }
        assert_eq!(
            list,
            [expected(&alice, 100, version.has_creators), expected(&bob, 50, false)],
            "version {}",
            version.name
        );
    }
}

#[tokio::test]
async fn the_display_name_of_an_account_is_that_of_its_memberships() {
    let server = server().await;
    let body = json!({"username": "alice", "password": "long enough", "display_name": "Alice in Felt"});
    let session = server.nameless().post("/v1/auth/register", body).await.created();
    let alice = server.caller(&session);
    let room = alice.group("Tents").await;
    let members = alice.get(&format!("/v1/rooms/{room}/members")).await.list();
    assert_eq!(members[0]["display_name"], "Alice in Felt");
}

#[tokio::test]
async fn members_are_filtered_by_membership_and_paged() {
    let server = server().await;
    let (alice, others) = (server.account("alice").await, server.accounts("tent", 5).await);
    let room = alice.group_with("Tents", &[&others[0], &others[1]]).await;
    alice.does("invite", &room, &others[2]).await.ok();
    others[1].leaves(&room).await.ok();
    alice.does("ban", &room, &others[3]).await.ok();
    assert_eq!(alice.members(&room, "join").await, [alice.id.clone(), others[0].id.clone()]);
    assert_eq!(alice.members(&room, "leave").await, [others[1].id.clone()]);
    assert_eq!(alice.members(&room, "invite").await, [others[2].id.clone()]);
    assert_eq!(alice.members(&room, "ban").await, [others[3].id.clone()]);
    assert_eq!(alice.members(&room, "knock").await, super::NONE);
    let page = alice.get(&format!("/v1/rooms/{room}/members?membership=join&limit=1&offset=1")).await;
    assert_eq!(page.meta()["total"], 2);
    assert_eq!(page.list()[0]["participant_id"], others[0].id);
    for (query, total, shown) in [
        ("", 3, vec![&alice, &others[0], &others[2]]),
        ("?limit=2", 3, vec![&alice, &others[0]]),
        ("?limit=2&offset=2", 3, vec![&others[2]]),
        ("?offset=3", 3, vec![]),
        ("?membership=invite&limit=1", 1, vec![&others[2]]),
        ("?membership=leave&offset=1", 1, vec![]),
        ("?membership=ban&limit=1", 1, vec![&others[3]]),
    ] {
        let page = alice.get(&format!("/v1/rooms/{room}/members{query}")).await;
        assert_eq!(page.meta()["total"], total, "{query}");
        let list = page.list();
        let ids: Vec<_> = list.iter().map(|member| &member["participant_id"]).collect();
        assert_eq!(ids, shown.iter().map(|member| &member.id).collect::<Vec<_>>(), "{query}");
    }
    alice.get(&format!("/v1/rooms/{room}/members?membership=friend")).await.invalid("membership");
    assert_eq!(alice.sees(&room).await["members_count"], 2);
}

#[tokio::test]
async fn anybody_joins_a_public_room_and_only_the_invited_a_private_one() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    for version in VERSIONS {
        let open = alice.creates(json!({"room_type": "public", "name": "Open", "room_version": version.name})).await;
        assert_eq!(bob.joins(&open).await.ok()["me"]["membership"], "join");
        let private = room_of_version(&alice, version).await;
        bob.joins(&private).await.no_such_room();
        alice.does("invite", &private, &bob).await.ok();
        let joined = bob.joins(&private).await.ok();
        assert_eq!((&joined["me"]["membership"], &joined["members_count"]), (&json!("join"), &json!(2)));
    }
}

#[tokio::test]
async fn joining_twice_changes_nothing() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let before = alice.timeline(&room).await;
    bob.joins(&room).await.ok();
    alice.does("invite", &room, &bob).await.ok();
    assert_eq!(alice.timeline(&room).await, before);
}

#[tokio::test]
async fn inviting_twice_changes_nothing() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group("Tents").await;
    alice.does("invite", &room, &bob).await.ok();
    let before = alice.timeline(&room).await;
    alice.does("invite", &room, &bob).await.ok();
    assert_eq!(alice.timeline(&room).await, before);
}

#[tokio::test]
async fn leaving_answers_an_empty_object_and_leaving_twice_changes_nothing() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    assert_eq!(bob.leaves(&room).await.ok(), json!({}));
    let before = alice.timeline(&room).await;
    assert_eq!(bob.leaves(&room).await.ok(), json!({}));
    assert_eq!(alice.timeline(&room).await, before);
    assert_eq!(alice.sees(&room).await["members_count"], 1);
}

#[tokio::test]
async fn leaving_declines_an_invite() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.creates(json!({"room_type": "group", "name": "Tents", "invite": ["bob"]})).await;
    bob.leaves(&room).await.ok();
    assert_eq!(alice.members(&room, "leave").await, [bob.id.as_str()]);
    check_shut_out(&bob, &room).await;
}

#[tokio::test]
async fn who_left_a_public_room_comes_back_and_one_who_left_a_private_room_does_not() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let (open, private) = (alice.public("Open").await, alice.group_with("Tents", &[&bob]).await);
    bob.joins(&open).await.ok();
    for room in [&open, &private] {
        bob.leaves(room).await.ok();
    }
    bob.joins(&open).await.ok();
    bob.joins(&private).await.forbidden_for("membership");
}

#[tokio::test]
async fn a_room_of_another_server_cannot_be_joined_for_now() {
    let server = server().await;
    let alice = server.account("alice").await;
    for path in ["%23lobby%3Aelsewhere.example", "!abc:elsewhere.example"] {
        alice.post_nothing(&format!("/v1/rooms/{path}/join")).await.refused(409, "SW_FED_DISABLED");
    }
    let via = json!({"via": ["elsewhere.example"]});
    let path = format!("/v1/rooms/{}/join", super::MISSING_ROOM);
    alice.post(&path, via.clone()).await.refused(409, "SW_FED_DISABLED");
    let room = alice.public("Here").await;
    server.account("bob").await.post(&format!("/v1/rooms/{room}/join"), via).await.ok();
}

#[tokio::test]
async fn inviting_needs_the_level_for_invite() {
    let server = server().await;
    let (alice, bob, carol) = trio(&server).await;
    let room = alice.group_with("Tents", &[&bob]).await;
    bob.does("invite", &room, &carol).await.ok();
    alice.does("kick", &room, &carol).await.ok();
    alice.put(&format!("/v1/rooms/{room}/power-levels"), json!({"invite": 50})).await.ok();
    bob.does("invite", &room, &carol).await.forbidden_for("level");
}

#[tokio::test]
async fn a_bare_name_means_this_server() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group("Tents").await;
    alice.post(&format!("/v1/rooms/{room}/invite"), json!({"participant_id": "bob", "reason": "felt"})).await.ok();
    assert_eq!(alice.members(&room, "invite").await, [bob.id.as_str()]);
    alice.put(&format!("/v1/rooms/{room}/members/bob/power-level"), json!({"power_level": 10})).await.ok();
    let levels = alice.state(&room, "m.room.power_levels").await;
    assert_eq!(levels["users"][&bob.id], 10);
}

#[tokio::test]
async fn a_participant_who_does_not_exist_is_not_found() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    for name in ["nobody", "@nobody:yurt.test"] {
        for action in ["invite", "kick", "ban", "unban"] {
            let body = json!({"participant_id": name});
            alice.post(&format!("/v1/rooms/{room}/{action}"), body).await.refused(404, "SW_PARTICIPANT_NOT_FOUND");
        }
        let path = format!("/v1/rooms/{room}/members/{name}/power-level");
        alice.put(&path, json!({"power_level": 1})).await.refused(404, "SW_PARTICIPANT_NOT_FOUND");
    }
}

#[tokio::test]
async fn a_participant_of_another_server_cannot_be_invited_for_now() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let body = json!({"participant_id": "@eve:elsewhere.example"});
    alice.post(&format!("/v1/rooms/{room}/invite"), body).await.refused(409, "SW_FED_DISABLED");
}

#[tokio::test]
async fn a_name_that_can_be_nobodys_is_refused() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    for name in [json!(null), json!(1), json!(""), json!([]), json!({})] {
        for action in ["invite", "kick", "ban", "unban"] {
            let body = json!({"participant_id": name});
            alice.post(&format!("/v1/rooms/{room}/{action}"), body).await.invalid("participant_id");
        }
    }
}

#[tokio::test]
async fn removing_and_banning_need_level_50_and_more_than_the_target_has() {
    let server = server().await;
    let (alice, bob, carol) = trio(&server).await;
    // level of bob, level of carol, whether bob may remove carol
    let cases = [(0, 0, false), (49, 0, false), (50, 0, true), (50, 50, false), (50, 51, false), (100, 99, true)];
    for version in VERSIONS {
        for action in ["kick", "ban"] {
            for (own, targets, may) in cases {
                let room = room_of_version(&alice, version).await;
                alice.brings_in(&room, &bob).await;
                alice.brings_in(&room, &carol).await;
                alice.gives_level(&room, &carol, targets).await.ok();
                alice.gives_level(&room, &bob, own).await.ok();
                let answer = bob.does(action, &room, &carol).await;
                if may {
                    let gone = if action == "kick" { "leave" } else { "ban" };
                    answer.ok();
                    assert_eq!(alice.members(&room, gone).await, [carol.id.as_str()]);
                } else {
                    answer.forbidden_for("level");
                    assert_eq!(alice.sees(&room).await["members_count"], 3);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_reason_stands_in_the_membership() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.public("Open").await;
    bob.joins(&room).await.ok();
    for action in ["kick", "ban"] {
        let body = json!({"participant_id": "bob", "reason": "too loud"});
        alice.post(&format!("/v1/rooms/{room}/{action}"), body).await.ok();
        let member = alice.get(&format!("/v1/rooms/{room}/state/m.room.member/{}", bob.id)).await.ok();
        assert_eq!(member["content"]["reason"], "too loud");
    }
}

#[tokio::test]
async fn an_invite_is_taken_back_by_removing() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.creates(json!({"room_type": "group", "name": "Tents", "invite": ["bob"]})).await;
    alice.does("kick", &room, &bob).await.ok();
    check_shut_out(&bob, &room).await;
}

#[tokio::test]
async fn removing_and_banning_twice_changes_nothing() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    for action in ["kick", "ban", "unban"] {
        let room = alice.group_with("Tents", &[&bob]).await;
        if action == "unban" {
            alice.does("ban", &room, &bob).await.ok();
        }
        alice.does(action, &room, &bob).await.ok();
        let before = alice.timeline(&room).await;
        alice.does(action, &room, &bob).await.ok();
        assert_eq!(alice.timeline(&room).await, before, "{action}");
    }
}

#[tokio::test]
async fn the_banned_can_neither_join_nor_be_invited_until_unbanned() {
    let server = server().await;
    let (alice, bob, carol) = trio(&server).await;
    for version in VERSIONS {
        let room = alice.creates(json!({"room_type": "public", "name": "Open", "room_version": version.name})).await;
        bob.joins(&room).await.ok();
        carol.joins(&room).await.ok();
        alice.does("ban", &room, &bob).await.ok();
        bob.joins(&room).await.forbidden();
        alice.does("invite", &room, &bob).await.forbidden();
        carol.does("unban", &room, &bob).await.forbidden_for("level");
        alice.does("unban", &room, &bob).await.ok();
        assert_eq!(bob.sees(&room).await["me"]["membership"], "leave");
        bob.joins(&room).await.ok();
    }
}

#[tokio::test]
async fn leaving_does_not_lift_a_ban() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.public("Open").await;
    bob.joins(&room).await.ok();
    alice.does("ban", &room, &bob).await.ok();
    bob.leaves(&room).await;
    bob.joins(&room).await.forbidden();
    assert_eq!(alice.members(&room, "ban").await, [bob.id.as_str()]);
}

#[tokio::test]
async fn somebody_who_was_never_there_can_be_banned_beforehand() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.public("Open").await;
    alice.does("ban", &room, &bob).await.ok();
    bob.joins(&room).await.forbidden();
}

#[tokio::test]
async fn who_is_not_a_member_changes_no_membership() {
    let server = server().await;
    let (alice, bob, carol) = trio(&server).await;
    let room = alice.public("Open").await;
    carol.joins(&room).await.ok();
    for action in ["invite", "kick", "ban", "unban"] {
        bob.does(action, &room, &carol).await.forbidden_for("membership");
    }
    bob.leaves(&room).await.forbidden();
}

#[tokio::test]
async fn a_room_holds_no_more_members_than_max_members() {
    let server = server().await;
    let (alice, bob, carol) = trio(&server).await;
    let room = alice.creates(json!({"room_type": "public", "name": "Small", "max_members": 2})).await;
    bob.joins(&room).await.ok();
    alice.does("invite", &room, &carol).await.ok();
    carol.joins(&room).await.refused(409, "SW_ROOM_CAPACITY");
    bob.joins(&room).await.ok();
    bob.leaves(&room).await.ok();
    carol.joins(&room).await.ok();
    bob.joins(&room).await.refused(409, "SW_ROOM_CAPACITY");
}

#[tokio::test]
async fn the_smaller_of_the_rooms_and_the_tenants_limit_counts() {
    let server = server_with(Setup { tenant: "max_participants = 2", ..Setup::default() }).await;
    let (alice, bob, carol) = trio(&server).await;
    for max_members in [json!(null), json!(100)] {
        let room = alice.creates(json!({"room_type": "public", "name": "Small", "max_members": max_members})).await;
        bob.joins(&room).await.ok();
        carol.joins(&room).await.refused(409, "SW_ROOM_CAPACITY");
    }
    let smaller = alice.creates(json!({"room_type": "public", "name": "Alone", "max_members": 1})).await;
    bob.joins(&smaller).await.refused(409, "SW_ROOM_CAPACITY");
}

#[tokio::test]
async fn a_full_room_stays_hidden_from_those_who_may_not_see_it() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.creates(json!({"room_type": "group", "name": "Full", "max_members": 1})).await;
    bob.joins(&room).await.no_such_room();
}

#[tokio::test]
async fn the_creator_may_leave_and_is_then_like_anybody() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    alice.leaves(&room).await.ok();
    alice.put(&format!("/v1/rooms/{room}/name"), json!({"name": "Mine"})).await.forbidden_for("membership");
    bob.says(&room, "alone").await;
    assert_eq!(text(&bob.sees(&room).await["creator_id"]), alice.id);
}

async fn room_of_version(caller: &Caller, version: Version) -> String {
    caller.creates(json!({"room_type": "group", "name": "Tents", "room_version": version.name})).await
}

/// Who was invited and never joined: the contract leaves open whether the room is hidden or forbidden now.
async fn check_shut_out(caller: &Caller, room: &str) {
    let status = caller.joins(room).await.status;
    assert!(matches!(status, 403 | 404), "{status}");
    assert_eq!(caller.get("/v1/rooms").await.meta()["total"], 0);
}

async fn trio(server: &TestServer) -> (Caller, Caller, Caller) {
    (server.account("alice").await, server.account("bob").await, server.account("carol").await)
}

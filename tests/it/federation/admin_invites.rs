//! Admins invite people of other servers into rooms that they need not be in.

use std::sync::Arc;

use rules::{kind::RoomKind, permission::Membership};
use serde_json::json;
use yurt::actions::creation::{self, NewRoom};

use super::engines::{Engine, Net, engine};
use crate::client::{Caller, encoded};

async fn scene() -> (Arc<Net>, Engine, Engine, Caller) {
    let net = Arc::new(Net::default());
    let (alice, bob) = (engine(&net, "a.example", "alice").await, engine(&net, "b.example", "bob").await);
    let admin = alice.server.admin("root").await;
    (net, alice, bob, admin)
}

async fn room(of: &Engine, is_federated: bool) -> ruma::OwnedRoomId {
    let new = NewRoom {
        kind: Some(RoomKind::Group),
        name: Some("Tents".to_owned()),
        federate: Some(is_federated),
        ..NewRoom::default()
    };
    creation::create(&of.actions, &of.person, new).await.unwrap()
}

#[tokio::test]
async fn an_admin_has_a_member_invite_somebody_of_another_server_and_the_record_says_so() {
    let (_net, alice, bob, admin) = scene().await;
    let room_id = room(&alice, true).await;
    let path = format!("/v1/admin/rooms/{}/federation/invite", encoded(room_id.as_str()));
    let refused = admin.post(&path, json!({ "participant_id": "@bob:b.example" })).await;
    refused.refused(403, "SW_ROOM_FORBIDDEN");
    let body = json!({ "participant_id": "@bob:b.example", "as": "alice" });
    let sent = admin.post(&path, body.clone()).await.ok();
    assert_eq!((&sent["membership"], &sent["invited_by"]), (&json!("invite"), &json!("@alice:a.example")));
    assert_eq!(bob.membership(&room_id).await, Membership::Invite);
    let again = admin.post(&path, body).await.ok();
    assert_eq!((&again["membership"], &again["invited_by"]), (&json!("invite"), &json!(null)));
    let acts = admin.get("/v1/admin/audit?action=room.invite").await.list();
    assert_eq!(acts.len(), 1);
    assert_eq!(acts[0]["target"], room_id.as_str());
    assert_eq!(acts[0]["details"], json!({ "participant_id": "@bob:b.example", "as": "@alice:a.example" }));
    alice
        .client()
        .await
        .post(&path, json!({ "participant_id": "@bob:b.example" }))
        .await
        .refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
}

#[tokio::test]
async fn an_admin_who_may_invite_does_it_in_their_own_name() {
    let (_net, alice, bob, admin) = scene().await;
    let room_id = room(&alice, true).await;
    let room = encoded(room_id.as_str());
    alice.client().await.brings_in(&room, &admin).await;
    let path = format!("/v1/admin/rooms/{room}/federation/invite");
    let sent = admin.post(&path, json!({ "participant_id": "@bob:b.example", "as": "alice" })).await.ok();
    assert_eq!(sent["invited_by"], "@root:a.example");
    assert_eq!(bob.membership(&room_id).await, Membership::Invite);
}

#[tokio::test]
async fn what_an_admin_cannot_send_is_refused_and_not_recorded() {
    let (net, alice, bob, admin) = scene().await;
    let (room_id, apart) = (room(&alice, true).await, room(&alice, false).await);
    let path = |room: &str| format!("/v1/admin/rooms/{}/federation/invite", encoded(room));
    let body = |who: &str, stand_in: &str| json!({ "participant_id": who, "as": stand_in });
    let (bob_id, room) = (bob.person.user_id.as_str(), path(room_id.as_str()));
    admin.post(&path(apart.as_str()), body(bob_id, "alice")).await.refused(409, "SW_FED_DISABLED");
    admin.post(&path("!none:a.example"), body(bob_id, "alice")).await.refused(404, "SW_ROOM_NOT_FOUND");
    admin.post(&room, body("alice", "alice")).await.refused(400, "SW_REQUEST_INVALID");
    admin.post(&room, body(bob_id, "@alice:b.example")).await.refused(400, "SW_REQUEST_INVALID");
    admin.post(&room, body(bob_id, "root")).await.refused(403, "SW_ROOM_FORBIDDEN");
    admin.post(&room, body("@nobody:b.example", "alice")).await.refused(502, "SW_FED_PEER_REFUSED");
    net.down.lock().insert(bob.name.clone());
    admin.post(&room, body(bob_id, "alice")).await.refused(502, "SW_FED_PEER_UNREACHABLE");
    assert!(admin.get("/v1/admin/audit?action=room.invite").await.list().is_empty());
}

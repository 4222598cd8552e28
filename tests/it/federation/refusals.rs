//! What somebody is told who wants into a room and cannot be let in, and how often they may try.

use std::sync::Arc;

use rules::permission::Membership;
use serde_json::json;
use yurt::actions::{
    ErrorKind, members,
    quotas::{CALLS_TO_SERVER_MAX, WINDOW_MS},
};

use super::{
    engines::{Engine, Net, engine},
    joining::public,
};
use crate::client::{Answer, Caller, encoded};

async fn two() -> (Arc<Net>, Engine, Engine, Caller) {
    let net = Arc::new(Net::default());
    let (alice, bob) = (engine(&net, "a.example", "alice").await, engine(&net, "b.example", "bob").await);
    let client = bob.client().await;
    (net, alice, bob, client)
}

async fn joins(client: &Caller, reference: &str, via: &[&str]) -> Answer {
    client.post(&format!("/v1/rooms/{}/join", encoded(reference)), json!({ "via": via })).await
}

fn refused_with(answer: Answer, errcode: &str) {
    let body = answer.json();
    assert_eq!(body["error"]["errcode"], errcode, "{body}");
    answer.refused(502, "SW_FED_PEER_REFUSED");
}

#[tokio::test]
async fn every_failure_of_a_join_has_its_code_and_says_no_more() {
    let (net, alice, bob, client) = two().await;
    let room_id = public(&alice).await;
    let room = room_id.as_str();
    joins(&client, "#none:a.example", &[]).await.no_such_room();
    joins(&client, "#none:b.example", &[]).await.no_such_room();
    joins(&client, room, &[]).await.no_such_room();
    joins(&client, room, &["b.example"]).await.no_such_room();
    joins(&client, room, &["not a name"]).await.invalid("via");
    let nowhere = joins(&client, room, &["nowhere.example"]).await;
    net.down.lock().insert(alice.name.clone());
    let down = joins(&client, room, &["a.example"]).await;
    assert_eq!(nowhere.json(), down.json(), "no such server and one that is down look the same");
    down.refused(502, "SW_FED_PEER_UNREACHABLE");
    joins(&client, "#none:a.example", &[]).await.refused(502, "SW_FED_PEER_UNREACHABLE");
    net.down.lock().clear();

    let unknown = format!("!{}", "D".repeat(43));
    refused_with(joins(&client, &unknown, &["a.example"]).await, "M_NOT_FOUND");
    let measure = |measure| {
        let (actions, caller, target) = (&alice.actions, &alice.person, &bob.person.user_id);
        members::take_measure(actions, caller, room, measure, target, None)
    };
    measure(members::Measure::Ban).await.unwrap();
    refused_with(joins(&client, room, &["a.example"]).await, "M_FORBIDDEN");
    measure(members::Measure::Unban).await.unwrap();
    // One that refuses and one that is gone: what was said counts.
    net.down.lock().insert(alice.name.clone());
    joins(&client, room, &["a.example", "nowhere.example"]).await.refused(502, "SW_FED_PEER_UNREACHABLE");
    net.down.lock().clear();
    let joined = joins(&client, room, &["nowhere.example", "a.example"]).await.ok();
    assert_eq!(joined["me"]["membership"], "join");
}

#[tokio::test]
async fn who_asks_twice_at_once_is_in_the_room_once() {
    let (_net, alice, bob, client) = two().await;
    let room_id = public(&alice).await;
    let both = tokio::join!(
        joins(&client, room_id.as_str(), &["a.example"]),
        joins(&client, room_id.as_str(), &["a.example"])
    );
    for answer in [both.0, both.1] {
        assert_eq!(answer.ok()["me"]["membership"], "join");
    }
    assert_eq!(alice.actions.room(&room_id).view().await.unwrap().unwrap().summary.joined, 2);
    assert_eq!(bob.state(&room_id).await, alice.state(&room_id).await);
}

#[tokio::test]
async fn an_invite_is_accepted_through_another_server_where_that_of_the_invite_is_gone() {
    let (net, alice, bob, client) = two().await;
    let carol = engine(&net, "c.example", "carol").await;
    let room_id = public(&alice).await;
    members::join(&carol.actions, &carol.person, room_id.as_str(), &["a.example".to_owned()], None).await.unwrap();
    members::invite(&alice.actions, &alice.person, room_id.as_str(), &bob.person.user_id, None).await.unwrap();
    net.pass_over(&carol, &room_id).await;
    net.deliver(&alice, &room_id, &[&carol]).await;
    net.down.lock().insert(alice.name.clone());
    joins(&client, room_id.as_str(), &[]).await.refused(502, "SW_FED_PEER_UNREACHABLE");
    let joined = joins(&client, room_id.as_str(), &["c.example"]).await.ok();
    assert_eq!(joined["me"]["membership"], "join");
    assert_eq!(bob.state(&room_id).await, carol.state(&room_id).await);
}

#[tokio::test]
async fn an_account_makes_this_server_call_another_one_only_so_often() {
    let (_net, _alice, bob, client) = two().await;
    for _ in 0..CALLS_TO_SERVER_MAX {
        joins(&client, "#none:a.example", &[]).await.no_such_room();
    }
    let refused = joins(&client, "#none:a.example", &[]).await;
    refused.refused(429, "SW_RATE_LIMIT_EXCEEDED");
    joins(&client, "#none:c.example", &[]).await.refused(502, "SW_FED_PEER_UNREACHABLE");
    let other = super::engines::caller(&bob.actions, "carol").await;
    let of_another = members::join(&bob.actions, &other, "#none:a.example", &[], None).await;
    assert_eq!(of_another.unwrap_err().kind(), ErrorKind::RoomNotFound, "others are not held back");
    bob.server.advance(std::time::Duration::from_millis(WINDOW_MS));
    joins(&client, "#none:a.example", &[]).await.no_such_room();
}

#[tokio::test]
async fn a_second_invite_to_a_room_that_was_left_is_declined_at_its_server() {
    let (net, alice, bob, client) = two().await;
    let room_id = public(&alice).await;
    let room = encoded(room_id.as_str());
    joins(&client, room_id.as_str(), &["a.example"]).await.ok();
    client.leaves(&room).await.ok();
    net.deliver(&bob, &room_id, &[&alice]).await;
    members::invite(&alice.actions, &alice.person, room_id.as_str(), &bob.person.user_id, None).await.unwrap();
    assert_eq!(bob.membership(&room_id).await, Membership::Invite);
    client.leaves(&room).await.ok();
    assert_eq!(bob.membership(&room_id).await, Membership::Leave);
    assert_eq!(alice.actions.room(&room_id).view().await.unwrap().unwrap().summary.invited, 0);
}

#[tokio::test]
async fn an_invite_that_came_while_others_of_the_server_were_in_the_room_is_declined_at_a_server_that_still_is() {
    let (net, alice, bob, client) = two().await;
    let room_id = public(&alice).await;
    let room = encoded(room_id.as_str());
    let carol = super::engines::caller(&bob.actions, "carol").await;
    members::join(&bob.actions, &carol, room_id.as_str(), &["a.example".to_owned()], None).await.unwrap();
    net.pass_over(&alice, &room_id).await;
    members::invite(&alice.actions, &alice.person, room_id.as_str(), &bob.person.user_id, None).await.unwrap();
    net.deliver(&alice, &room_id, &[&bob]).await;
    members::leave(&bob.actions, &carol, room_id.as_str()).await.unwrap();
    net.deliver(&bob, &room_id, &[&alice]).await;
    alice.say(&room_id, "nobody of b hears this").await;
    assert_eq!(bob.membership(&room_id).await, Membership::Invite);
    client.leaves(&room).await.ok();
    assert_eq!(bob.membership(&room_id).await, Membership::None, "who was only invited sees it no longer");
    assert_eq!(alice.actions.room(&room_id).view().await.unwrap().unwrap().summary.invited, 0);
}

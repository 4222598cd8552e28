//! What other servers are given, and what not.

use ::federation::local::Gap;
use serde_json::json;
use yurt::actions::members;

use super::*;

fn peer(name: &str) -> OwnedServerName {
    name.try_into().unwrap()
}

fn ids_of(version: &Version, pdus: &[Pdu]) -> Vec<OwnedEventId> {
    let read = |pdu: &Pdu| {
        let raw = rules::RawPdu(pdu.clone());
        rules::format::parse(&raw, version, rules::format::Caps::Lifted).unwrap().event_id().clone()
    };
    pdus.iter().map(read).collect()
}

/// Hard case 20.
#[tokio::test]
async fn a_server_that_is_not_in_the_room_is_given_nothing() {
    let scene = Scene::new("12").await;
    let ours = scene.send("ours").await;
    scene.world.lock().add_server("nosy.example");
    let (nosy, room, actions) = (peer("nosy.example"), &scene.room_id, &scene.actions);
    let none = Err(Refusal::NotFound);
    assert_eq!(LocalRooms::event(actions, &nosy, &ours).await.map(|_| ()), none);
    assert_eq!(LocalRooms::state_before(actions, &nosy, room, &ours).await.map(|_| ()), none);
    assert_eq!(LocalRooms::state_ids_before(actions, &nosy, room, &ours).await.map(|_| ()), none);
    assert_eq!(LocalRooms::auth_chain(actions, &nosy, room, &ours).await.map(|_| ()), none);
    assert_eq!(LocalRooms::backfill(actions, &nosy, room, vec![ours.clone()], 10).await.map(|_| ()), none);
    let gap = Gap { earliest: Vec::new(), latest: vec![ours.clone()], depth_min: 0, events_max: 10 };
    assert_eq!(LocalRooms::missing_events(actions, &nosy, room, gap).await.map(|_| ()), none);
    // Who was in the room and left is not in it any more.
    LocalRooms::event(actions, &peer("other.example"), &ours).await.unwrap();
    scene.learn_ours().await;
    let leave = Draft::member(&scene.sam, "leave", CanonicalJsonObject::new());
    let leave = scene.make(&scene.sam, &scene.heads().await, leave);
    assert_eq!(scene.receive_from("other.example", &[&leave]).await, [Ok(())]);
    assert_eq!(LocalRooms::event(actions, &peer("other.example"), &ours).await.map(|_| ()), none);
}

/// Hard case 21.
/// S2S 9.1 event_auth.
#[tokio::test]
async fn an_event_of_another_room_is_not_found_through_this_one() {
    let scene = Scene::new("12").await;
    let new = NewRoom { kind: Some(RoomKind::Public), name: Some("Other".to_owned()), ..NewRoom::default() };
    let other = creation::create(&scene.actions, &scene.alice, new).await.unwrap();
    let foreign = scene.actions.room(&other).view().await.unwrap().unwrap().tip.heads[0].event_id.clone();
    let (rita, room, actions) = (peer("peer.example"), &scene.room_id, &scene.actions);
    assert_eq!(LocalRooms::event(actions, &rita, &foreign).await.map(|_| ()), Err(Refusal::NotFound));
    assert_eq!(LocalRooms::state_before(actions, &rita, room, &foreign).await.map(|_| ()), Err(Refusal::NotFound));
    assert_eq!(LocalRooms::state_ids_before(actions, &rita, room, &foreign).await.map(|_| ()), Err(Refusal::NotFound));
    assert_eq!(LocalRooms::auth_chain(actions, &rita, room, &foreign).await.map(|_| ()), Err(Refusal::NotFound));
    let backfill = LocalRooms::backfill(actions, &rita, room, vec![foreign], 10).await;
    assert_eq!(backfill.map(|_| ()), Err(Refusal::NotFound));
}

/// Hard case 22.
/// S2S 9.1 event. S2S 17 who sees which history.
#[tokio::test]
async fn what_a_server_could_not_see_then_it_gets_without_its_content() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        scene.set_state("m.room.history_visibility", json!({ "history_visibility": "joined" })).await;
        let before = scene.send("before").await;
        scene.learn_ours().await;
        scene.world.lock().add_server("new.example");
        let nina = UserId::parse("@nina:new.example").unwrap();
        let join = scene.make(&nina, &scene.heads().await, Draft::member(&nina, "join", CanonicalJsonObject::new()));
        assert_eq!(scene.receive_from("new.example", &[&join]).await, [Ok(())]);
        let after = scene.send("after").await;
        let get = async |who: &str, id: &OwnedEventId| {
            LocalRooms::event(&scene.actions, &peer(who), id).await.unwrap().get().to_owned()
        };
        assert!(!get("new.example", &before).await.contains("\"before\""));
        assert!(get("new.example", &after).await.contains("\"after\""));
        assert!(get("peer.example", &before).await.contains("\"before\""));
        let new = peer("new.example");
        let pdus = LocalRooms::backfill(&scene.actions, &new, &scene.room_id, vec![after.clone()], 10);
        let pdus = pdus.await.unwrap();
        assert_eq!(ids_of(&scene.version, &pdus)[..3], [after, id_of(&join), before]);
        assert!(!pdus.iter().any(|pdu| pdu.get().contains("\"before\"")));
    })
    .await;
}

/// Hard case 19.
/// S2S 7 redactions are applied. S2S 17 redacted events are served redacted.
#[tokio::test]
async fn what_was_redacted_is_given_to_nobody() {
    let scene = Scene::new("12").await;
    let secret = scene.send("a secret").await;
    messages::redact(&scene.actions, &scene.alice, scene.room_id.as_str(), secret.as_str(), None, None).await.unwrap();
    let rita = peer("peer.example");
    let event = LocalRooms::event(&scene.actions, &rita, &secret).await.unwrap();
    assert!(!event.get().contains("a secret"));
    let from = scene.heads().await;
    let pdus = LocalRooms::backfill(&scene.actions, &rita, &scene.room_id, from, 100).await.unwrap();
    assert!(pdus.len() > 5 && !pdus.iter().any(|pdu| pdu.get().contains("a secret")));
}

/// Hard case 48.
/// S2S 9.1 backfill. S2S 11 what accepted. S2S 17 a page of rejected events does not end the walk.
#[tokio::test]
async fn rejected_events_are_passed_by_and_do_not_end_the_walk_back() {
    let scene = Scene::new("12").await;
    let first = scene.send("first").await;
    scene.learn_ours().await;
    let mut previous = vec![first.clone()];
    for number in 0..30 {
        let bad = scene.make(&scene.sam, &previous, topic(&format!("no {number}")));
        assert_eq!(scene.receive_from("other.example", &[&bad]).await, [Err(Refusal::Forbidden)]);
        let mut world = scene.world.lock();
        let before = world.before[bad.event_id()].clone();
        world.after.insert(id_of(&bad), before);
        previous = vec![id_of(&bad)];
    }
    let last = scene.make(&scene.rita, &previous, message("last"));
    assert_eq!(scene.receive(&[&last]).await, [Ok(())]);
    let rita = peer("peer.example");
    let pdus = LocalRooms::backfill(&scene.actions, &rita, &scene.room_id, vec![id_of(&last)], 10).await.unwrap();
    assert_eq!(ids_of(&scene.version, &pdus)[..2], [id_of(&last), first.clone()]);
    let gap = Gap { earliest: Vec::new(), latest: vec![id_of(&last)], depth_min: 0, events_max: 10 };
    let pdus = LocalRooms::missing_events(&scene.actions, &rita, &scene.room_id, gap).await.unwrap();
    assert_eq!(ids_of(&scene.version, &pdus).last(), Some(&first));
}

/// S2S 9.1 get_missing_events.
#[tokio::test]
async fn missing_events_come_oldest_first_and_within_their_bounds() {
    let scene = Scene::new("12").await;
    let mut sent = Vec::new();
    for number in 0..30 {
        sent.push(scene.send(&format!("{number}")).await);
    }
    let rita = peer("peer.example");
    let ask = async |earliest: usize, latest: usize, depth_min: u64, events_max: usize| {
        let gap =
            Gap { earliest: vec![sent[earliest].clone()], latest: vec![sent[latest].clone()], depth_min, events_max };
        let pdus = LocalRooms::missing_events(&scene.actions, &rita, &scene.room_id, gap).await.unwrap();
        ids_of(&scene.version, &pdus)
    };
    assert_eq!(ask(3, 8, 0, 10).await, sent[4..8]);
    assert_eq!(ask(0, 20, 0, 5).await, sent[15..20], "those next to what was heard of");
    assert_eq!(ask(0, 29, 0, 1_000).await, sent[9..29], "never more than twenty");
    scene.learn_ours().await;
    let depth = scene.world.lock().events[&sent[6]].depth();
    assert_eq!(ask(0, 9, depth, 20).await, sent[6..9]);
}

/// S2S 9.1 state. S2S 9.1 state_ids.
#[tokio::test]
async fn a_state_is_given_as_it_was_before_the_event_with_all_that_authorises_it() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let first = scene.make(&scene.rita, &scene.heads().await, topic("first"));
        let second = scene.make(&scene.rita, &[id_of(&first)], topic("second"));
        assert_eq!(scene.receive(&[&first, &second]).await, [Ok(()), Ok(())]);
        let rita = peer("peer.example");
        let given =
            LocalRooms::state_ids_before(&scene.actions, &rita, &scene.room_id, second.event_id()).await.unwrap();
        let given = given.gathered().await.unwrap();
        let mut expected: Vec<OwnedEventId> = scene.world.lock().before[second.event_id()].values().cloned().collect();
        let mut state = given.state.clone();
        expected.sort();
        state.sort();
        assert_eq!(state, expected);
        let mut chain = given.auth_chain.clone();
        chain.sort();
        assert_eq!(chain, scene.world.lock().chain(expected));
        let pdus = LocalRooms::state_before(&scene.actions, &rita, &scene.room_id, second.event_id()).await.unwrap();
        let pdus = pdus.gathered().await.unwrap();
        assert_eq!(ids_of(&scene.version, &pdus.state), given.state);
        assert_eq!(ids_of(&scene.version, &pdus.auth_chain), given.auth_chain);
        let chain = LocalRooms::auth_chain(&scene.actions, &rita, &scene.room_id, second.event_id()).await.unwrap();
        let mut chain = ids_of(&scene.version, &chain);
        chain.sort();
        assert_eq!(chain, scene.world.lock().chain([id_of(&second)]));
    })
    .await;
}

/// S2S 18 what it protects.
#[tokio::test]
async fn a_denied_server_reads_nothing_although_it_is_in_the_room() {
    let scene = Scene::new("12").await;
    let ours = scene.send("ours").await;
    scene.set_state("m.room.server_acl", json!({ "allow": ["*"], "deny": ["peer.example"] })).await;
    let answer = LocalRooms::event(&scene.actions, &peer("peer.example"), &ours).await.map(|_| ());
    assert_eq!(answer, Err(Refusal::Forbidden));
    LocalRooms::event(&scene.actions, &peer("other.example"), &ours).await.unwrap();
}

#[tokio::test]
async fn a_banned_server_of_one_user_is_in_the_room_no_longer() {
    let scene = Scene::new("12").await;
    let ours = scene.send("ours").await;
    let ban = members::Measure::Ban;
    members::take_measure(&scene.actions, &scene.alice, scene.room_id.as_str(), ban, &scene.sam, None).await.unwrap();
    let answer = LocalRooms::event(&scene.actions, &peer("other.example"), &ours).await.map(|_| ());
    assert_eq!(answer, Err(Refusal::NotFound));
    let view = scene.actions.room(&scene.room_id).view().await.unwrap().unwrap();
    assert_eq!((view.summary.joined, view.summary.foreign_joined), (2, 1));
}

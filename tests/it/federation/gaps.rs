//! Events before which something is missing.

use std::time::Duration;

use serde_json::json;

use super::*;

/// S2S 17 a state of a peer is a claim.
#[tokio::test]
async fn a_server_that_does_not_answer_now_is_asked_again_before_a_state_is_believed() {
    let scene = Scene::new("12").await;
    let chain = scene.chain(&scene.heads().await, 3);
    scene.world.lock().silent.insert("missing_events");
    assert_eq!(scene.receive(&[&chain[2]]).await, [Ok(())]);
    assert!(!scene.is_accepted(&chain[2]).await);
    scene.world.lock().silent.clear();
    scene.advance(Duration::from_secs(61));
    scene.catch_up().await;
    assert_eq!(scene.heads().await, [id_of(&chain[2])]);
    assert_eq!(scene.asked("state_ids"), 0);
}

/// S2S 17 a hole is filled by get_missing_events.
#[tokio::test]
async fn a_fork_that_is_less_deep_than_our_heads_is_asked_for_event_by_event() {
    let scene = Scene::new("12").await;
    let fork = scene.chain(&scene.heads().await, 3);
    for _ in 0..5 {
        scene.send("deeper").await;
    }
    assert_eq!(scene.receive(&[&fork[2]]).await, [Ok(())]);
    assert!(scene.is_accepted(&fork[0]).await && scene.is_accepted(&fork[2]).await);
    assert_eq!(scene.asked("state_ids"), 0);
}

/// S2S 11 missing previous events are asked for. S2S 17 a hole is filled by get_missing_events.
#[tokio::test]
async fn a_small_hole_is_filled_by_the_server_that_brought_the_event() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let chain = scene.chain(&scene.heads().await, 12);
        assert_eq!(scene.receive(&[&chain[11]]).await, [Ok(())]);
        assert_eq!(scene.heads().await, [id_of(&chain[11])]);
        let expected: Vec<String> = (0..12).map(|number| format!("unsent {number}")).collect();
        assert_eq!(scene.bodies().await, expected);
        assert_eq!((scene.asked("missing_events"), scene.asked("state_ids")), (1, 0));
    })
    .await;
}

/// S2S 11 missing previous events are asked for. S2S 17 a hole is filled by get_missing_events.
#[tokio::test]
async fn a_deep_hole_is_bridged_by_a_state_that_is_merged_with_ours() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let heads = scene.heads().await;
        let named = scene.make(&scene.rita, &heads, topic("behind the hole"));
        let chain = scene.chain(&[id_of(&named)], 400);
        // Meanwhile something happened here.
        scene.send("ours").await;
        let ours = scene.heads().await;
        assert_eq!(scene.receive(&[&chain[399]]).await, [Ok(())]);
        assert!(scene.is_accepted(&chain[399]).await);
        assert!(scene.asked("missing_events") <= 12);
        assert_eq!(scene.asked("state_ids"), 2, "each of the two servers is asked");
        assert_eq!(scene.asked("event_auth"), 0);
        let mut expected = vec![ours[0].clone(), id_of(&chain[399])];
        expected.sort();
        assert_eq!(scene.heads().await, expected);
        let key = (ruma::events::StateEventType::RoomTopic, String::new());
        assert_eq!(scene.state().await.get(&key), Some(&id_of(&named)), "it came with the state");
        let outlier = scene.held(named.event_id()).await.unwrap();
        assert!(matches!(outlier.standing, EventStanding::Outlier { refused: None, .. }), "{outlier:?}");
        scene.learn_ours().await;
        let world = scene.world.lock().state_before(&expected);
        assert_eq!(scene.state().await, world);
        // The next event of ours joins both.
        let joining = scene.send("joining").await;
        assert_eq!(scene.heads().await, [joining]);
    })
    .await;
}

/// Hard case 26.
/// S2S 11 known events are ignored.
#[tokio::test]
async fn an_outlier_is_no_previous_event_and_is_taken_in_whole_when_it_comes() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let heads = scene.heads().await;
        let named = scene.make(&scene.rita, &heads, topic("known by name"));
        let chain = scene.chain(&[id_of(&named)], 250);
        assert_eq!(scene.receive(&[&chain[249]]).await, [Ok(())]);
        let outlier = scene.held(named.event_id()).await.unwrap();
        assert!(!outlier.standing.is_in_room() && outlier.place.is_none());
        let asked = scene.asked("missing_events");
        // An event right behind the outlier needs it, and gets it.
        let next = scene.make(&scene.sam, &[id_of(&named)], message("right behind it"));
        assert_eq!(scene.receive_from("other.example", &[&next]).await, [Ok(())]);
        assert!(scene.asked("missing_events") > asked);
        assert!(scene.is_accepted(&next).await && scene.is_accepted(&named).await);
        let stored = scene.held(named.event_id()).await.unwrap();
        assert!(stored.came_again.is_some() && stored.place.is_some());
        assert_ne!(stored.state_after, stored.state_before);
    })
    .await;
}

/// Hard case 5.
/// S2S 11 check 2.
#[tokio::test]
async fn events_with_a_wrong_signature_do_not_come_in_through_a_hole() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let heads = scene.heads().await;
        let before = scene.tip().await;
        let sam = scene.make(&scene.sam, &heads, message("of sam"));
        // Rita's server gives something that Rita's key signed as Sam's.
        let forged = sam.json().replace("other.example\":{", "peer.example\":{");
        scene.world.lock().forged.insert(id_of(&sam), forged);
        let behind = scene.make(&scene.rita, &[id_of(&sam)], message("behind it"));
        assert_eq!(scene.receive(&[&behind]).await, [Ok(())], "it waits");
        assert!(scene.held(sam.event_id()).await.is_none());
        assert!(scene.held(behind.event_id()).await.is_none());
        assert_eq!(scene.tip().await.heads, before.heads);
    })
    .await;
}

/// Hard cases 6 and 10.
/// S2S 11 missing auth events are asked for and checked.
#[tokio::test]
async fn states_and_auth_chains_are_checked_like_every_event() {
    let scene = Scene::new("12").await;
    let heads = scene.heads().await;
    let tom = UserId::parse("@tom:other.example").unwrap();
    let join = scene.make(&tom, &heads, Draft::member(&tom, "join", CanonicalJsonObject::new()));
    let named = scene.make(&scene.rita, &[id_of(&join)], topic("honest"));
    let chain = scene.chain(&[id_of(&named)], 250);
    let forged = join.json().replace("other.example\":{", "peer.example\":{");
    scene.world.lock().forged.insert(id_of(&join), forged);
    scene.world.lock().refused.insert("missing_events");
    assert_eq!(scene.receive(&[&chain[249]]).await, [Ok(())]);
    assert!(scene.is_accepted(&chain[249]).await);
    assert!(scene.held(named.event_id()).await.is_some());
    assert!(scene.held(join.event_id()).await.is_none(), "its signature is wrong");
    // So what Tom says leans on nothing that we believe.
    let word = scene.make(&tom, &[id_of(&chain[249])], message("I am not there"));
    assert_eq!(scene.receive(&[&word]).await, [Ok(())]);
    assert!(scene.held(word.event_id()).await.is_none(), "it waits for an auth event that nobody can give");
}

/// Hard case 56.
/// S2S 17 what never arrives is not asked for for ever.
#[tokio::test]
async fn what_cannot_be_had_is_asked_for_in_growing_pauses_and_given_up_in_the_end() {
    let scene = Scene::new("12").await;
    let chain = scene.chain(&scene.heads().await, 4);
    {
        let mut world = scene.world.lock();
        world.withheld.insert(id_of(&chain[0]));
        world.silent.insert("state_ids");
    }
    assert_eq!(scene.receive(&[&chain[1]]).await, [Ok(())]);
    let asked = scene.asked("missing_events");
    assert!(asked >= 1);
    // The same event, others behind the same hole, the task itself: nobody asks again.
    for event in [&chain[1], &chain[2], &chain[3], &chain[1]] {
        assert_eq!(scene.receive(&[event]).await, [Ok(())]);
        scene.catch_up().await;
    }
    assert_eq!(scene.asked("missing_events"), asked);
    scene.advance(Duration::from_secs(61));
    scene.catch_up().await;
    let second = scene.asked("missing_events");
    // Three events wait, and there are two servers.
    assert!(second > asked && second <= asked + 6, "{asked} {second}");
    for _ in 0..40 {
        scene.advance(Duration::from_secs(5 * 60 * 60));
        scene.catch_up().await;
    }
    let all = scene.asked("missing_events");
    assert!(all <= 60, "{all}");
    scene.advance(Duration::from_secs(50 * 60 * 60));
    scene.catch_up().await;
    assert_eq!(scene.asked("missing_events"), all, "given up");
    // When the event comes after all, it is judged, and what was given up may come again.
    scene.world.lock().withheld.clear();
    assert_eq!(scene.receive(&[&chain[0]]).await, [Ok(())]);
    assert_eq!(scene.receive(&[&chain[3]]).await, [Ok(())]);
    assert_eq!(scene.heads().await, [id_of(&chain[3])]);
}

/// S2S 11 what cannot be judged is not rejected.
#[tokio::test]
async fn what_waits_is_judged_when_what_it_waits_for_comes_by_itself() {
    let scene = Scene::new("12").await;
    let chain = scene.chain(&scene.heads().await, 4);
    scene.world.lock().silent.extend(["missing_events", "state_ids", "event"]);
    for event in [&chain[3], &chain[1], &chain[2]] {
        assert_eq!(scene.receive(&[event]).await, [Ok(())]);
        assert!(scene.held(event.event_id()).await.is_none());
    }
    assert_eq!(scene.receive(&[&chain[0]]).await, [Ok(())]);
    scene.send("wakes the room").await;
    let chain_after = scene.chain(&[id_of(&chain[3])], 1);
    assert_eq!(scene.receive(&[&chain_after[0]]).await, [Ok(())]);
    assert!(scene.is_accepted(&chain[3]).await && scene.is_accepted(&chain_after[0]).await);
}

/// S2S 11 what was answered and not yet judged survives a crash.
#[tokio::test]
async fn what_waits_survives_a_restart() {
    let mut scene = Scene::new("12").await;
    let chain = scene.chain(&scene.heads().await, 2);
    scene.world.lock().silent.extend(["missing_events", "state_ids", "event"]);
    assert_eq!(scene.receive(&[&chain[1]]).await, [Ok(())]);
    scene.world.lock().silent.clear();
    scene.restart().await;
    scene.advance(Duration::from_secs(3_600));
    scene.catch_up().await;
    assert!(scene.is_accepted(&chain[0]).await && scene.is_accepted(&chain[1]).await);
}

/// S2S 11 what cannot be judged is not rejected.
#[tokio::test]
async fn an_event_whose_key_is_not_known_yet_waits_for_the_key() {
    let scene = Scene::new("12").await;
    let event = scene.make(&scene.rita, &scene.heads().await, message("patience"));
    scene.world.lock().keyless.insert("peer.example".try_into().unwrap());
    assert_eq!(scene.receive(&[&event]).await, [Ok(())]);
    assert!(scene.held(event.event_id()).await.is_none());
    scene.world.lock().keyless.clear();
    scene.advance(Duration::from_secs(120));
    scene.catch_up().await;
    assert!(scene.is_accepted(&event).await);
}

/// Hard case 55.
/// S2S 11 the work for one event is bounded.
#[tokio::test]
async fn many_events_behind_deep_holes_cost_a_bounded_number_of_questions() {
    let scene = Scene::new("12").await;
    let heads = scene.heads().await;
    let mut ends = Vec::new();
    for _ in 0..50 {
        let chain = scene.chain(&heads, 3);
        scene.world.lock().withheld.extend([id_of(&chain[0]), id_of(&chain[1])]);
        ends.push(chain[2].clone());
    }
    scene.world.lock().silent.insert("state_ids");
    let sent: Vec<&Event> = ends.iter().map(|event| &**event).collect();
    assert_eq!(scene.receive(&sent).await, vec![Ok(()); 50]);
    assert!(scene.asked("missing_events") <= 150, "{}", scene.asked("missing_events"));
    assert!(scene.asked("event") <= 150);
    // A server has its share and no more; others have theirs.
    let more: Vec<_> = (0..60).map(|_| scene.chain(&heads, 2)).collect();
    for chain in &more {
        scene.world.lock().withheld.insert(id_of(&chain[0]));
    }
    let sent: Vec<&Event> = more.iter().map(|chain| &*chain[1]).collect();
    let answers = scene.receive(&sent).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 10, "a hundred may wait");
    assert_eq!(scene.receive_from("other.example", &[&more[59][1]]).await, [Ok(())]);
    let event = scene.make(&scene.sam, &heads, message("not disturbed"));
    assert_eq!(scene.receive_from("other.example", &[&event]).await, [Ok(())]);
    assert!(scene.is_accepted(&event).await);
}

/// Hard case 46.
/// S2S 11 missing auth events are asked for and checked.
#[tokio::test]
async fn a_long_chain_of_auth_events_is_fetched_and_kept_once() {
    let scene = Scene::new("12").await;
    let mut previous = scene.heads().await;
    // Each change of Rita's name leans on the one before it.
    for number in 0..120 {
        let content = object(json!({ "displayname": format!("Rita {number}") }));
        let event = scene.make(&scene.rita, &previous, Draft::member(&scene.rita, "join", content));
        previous = vec![id_of(&event)];
    }
    let chain = scene.chain(&previous, 250);
    scene.world.lock().refused.extend(["missing_events", "state"]);
    let arrivals = scene.tip().await.next_arrival.get();
    assert_eq!(scene.receive(&[&chain[249]]).await, [Ok(())]);
    assert!(scene.is_accepted(&chain[249]).await);
    // The hole itself is looked into ten events deep, at each of the two servers.
    assert!(scene.asked("event") <= 125 + 2 * 10, "{}", scene.asked("event"));
    assert!(scene.tip().await.next_arrival.get() - arrivals <= 125 + 2 * 10);
}

/// S2S 17 a state of a peer is a claim.
#[tokio::test]
async fn a_claimed_state_never_replaces_ours() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let heads = scene.heads().await;
        let chain = scene.chain(&heads, 250);
        // Our topic is newer than what the peer says.
        scene.set_state("m.room.topic", json!({ "topic": "ours" })).await;
        let key = (ruma::events::StateEventType::RoomTopic, String::new());
        let ours = scene.state().await[&key].clone();
        // The peer also claims that nobody but Rita was ever there.
        {
            let mut world = scene.world.lock();
            for event in &chain {
                world.before.get_mut(event.event_id()).unwrap().retain(|(kind, key), _| {
                    *kind != ruma::events::StateEventType::RoomMember || *key == *scene.rita.as_str()
                });
            }
        }
        scene.world.lock().silent.insert("state");
        assert_eq!(scene.receive(&[&chain[249]]).await, [Ok(())]);
        assert!(scene.is_accepted(&chain[249]).await);
        let state = scene.state().await;
        assert_eq!(state.get(&key), Some(&ours));
        let members = state.keys().filter(|(kind, _)| *kind == ruma::events::StateEventType::RoomMember).count();
        assert_eq!(members, 3, "nobody was thrown out");
        let sent = scene.send("still here").await;
        assert_eq!(scene.heads().await, [sent]);
    })
    .await;
}

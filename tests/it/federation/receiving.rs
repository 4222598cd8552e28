//! Events whose surroundings are held.

use ::federation::Refusal;
use serde_json::json;
use yurt::actions::{members, rooms};

use super::*;

/// S2S 11 known events are ignored.
#[tokio::test]
async fn an_event_of_a_peer_is_in_the_room_when_its_answer_comes() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let event = scene.make(&scene.rita, &scene.heads().await, message("hello"));
        assert_eq!(scene.receive(&[&event]).await, [Ok(())]);
        assert_eq!(scene.receive(&[&event]).await, [Ok(())], "a repeat is no mistake");
        assert_eq!(scene.heads().await, [id_of(&event)]);
        assert_eq!(scene.bodies().await, ["hello"]);
        let details = rooms::details(&scene.actions, &scene.alice, scene.room_id.as_str()).await.unwrap();
        assert_eq!((details.personal.unread, details.view.summary.joined), (1, 3));
        assert_eq!((details.view.summary.foreign_joined, details.view.summary.local_joined()), (2, 1));
    })
    .await;
}

/// Hard case 38.
#[tokio::test]
async fn events_of_one_transaction_are_all_taken_in_whatever_their_order() {
    let scene = Scene::new("12").await;
    let chain = scene.chain(&scene.heads().await, 5);
    let reversed: Vec<&Event> = chain.iter().rev().map(|event| &**event).collect();
    assert_eq!(scene.receive(&reversed).await, vec![Ok(()); 5]);
    assert_eq!(scene.heads().await, [id_of(&chain[4])]);
    assert_eq!(scene.bodies().await.len(), 5);
    assert_eq!(scene.asked("missing_events"), 0);
}

/// Hard cases 36 and 42.
/// S2S 6 an event with a value outside the limits is dropped. S2S 8 depth. S2S 11 check 1.
#[tokio::test]
async fn a_wrong_number_spoils_its_own_event_and_not_its_neighbours() {
    let scene = Scene::new("11").await;
    let good = scene.make(&scene.rita, &scene.heads().await, message("good"));
    let depth = format!("\"depth\":{}", good.depth());
    for wrong in ["9007199254740992", "-1", "-0", "1.0", "1e2", "\"7\"", "null", "true"] {
        let bad = good.json().replace(&depth, &format!("\"depth\":{wrong}"));
        let answers = scene.receive_raw("peer.example", vec![&bad]).await;
        // What can be read as a number has another signature; the rest is no event at all.
        assert!(answers.iter().all(|(_, answer)| answer.is_err()), "{wrong}: {answers:?}");
        assert!(answers.is_empty() || wrong == "-0", "{wrong}: {answers:?}");
    }
    let bad = good.json().replace(&depth, "\"depth\":-1");
    let answers = scene.receive_raw("peer.example", vec![&bad, good.json()]).await;
    assert_eq!(answers, [(id_of(&good), Ok(()))]);
}

/// Hard case 12.
/// S2S 4 how long a key is good.
#[tokio::test]
async fn an_event_signed_with_a_key_that_had_expired_is_dropped() {
    let scene = Scene::new("12").await;
    let event = scene.make(&scene.rita, &scene.heads().await, message("too late"));
    let end = rules::UnixMs(event.origin_server_ts().0 - 1);
    scene.world.lock().expired.insert("peer.example".try_into().unwrap(), end);
    assert!(matches!(scene.receive(&[&event]).await[..], [Err(Refusal::Invalid(_))]));
    assert!(scene.held(event.event_id()).await.is_none());
}

/// S2S 6 who has to have signed. S2S 11 check 2. S2S 11 check 3.
#[tokio::test]
async fn a_wrong_signature_is_dropped_and_a_wrong_hash_leaves_the_redacted_event() {
    let scene = Scene::new("12").await;
    let event = scene.make(&scene.rita, &scene.heads().await, message("original"));
    let changed = event.json().replace("original", "tampered");
    let mine = scene.make(&scene.sam, &scene.heads().await, message("of sam"));
    let stolen = mine.json().replace("@sam:other.example", "@rita:peer.example");
    let answers = scene.receive_raw("peer.example", vec![&stolen]).await;
    assert!(matches!(answers[..], [(_, Err(Refusal::Invalid(_)))]), "{answers:?}");
    assert_eq!(scene.receive_raw("peer.example", vec![&changed]).await, [(id_of(&event), Ok(()))]);
    let held = scene.held(event.event_id()).await.unwrap();
    assert!(!held.json.contains("tampered") && !held.json.contains("original"));
}

/// Hard case 8.
/// S2S 12 which auth events an event has.
#[tokio::test]
async fn auth_events_of_another_room_are_against_the_rules() {
    let scene = Scene::new("11").await;
    let new = NewRoom { kind: Some(RoomKind::Public), name: Some("Other".to_owned()), ..NewRoom::default() };
    let other = creation::create(&scene.actions, &scene.alice, new).await.unwrap();
    let foreign = scene.actions.room(&other).view().await.unwrap().unwrap().tip.heads[0].event_id.clone();
    let heads = scene.heads().await;
    let event = scene.world.lock().make_with(&scene.rita, &heads, message("x"), |auth| auth.push(foreign));
    assert_eq!(scene.receive(&[&event]).await, [Err(Refusal::Forbidden)]);
    assert!(scene.is_rejected(&event).await);
}

/// Hard case 9.
/// S2S 11 check 4. S2S 12 which auth events an event has.
#[tokio::test]
async fn auth_events_twice_or_without_need_or_rejected_are_against_the_rules() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let heads = scene.heads().await;
        let of = |scene: &Scene, user: &str| {
            let key = (ruma::events::StateEventType::RoomMember, user.to_owned());
            scene.world.lock().after[&heads[0]][&key].clone()
        };
        let (rita, sam) = (of(&scene, scene.rita.as_str()), of(&scene, scene.sam.as_str()));
        let twice = scene.world.lock().make_with(&scene.rita, &heads, message("twice"), |auth| auth.push(rita));
        let needless = scene.world.lock().make_with(&scene.rita, &heads, message("needless"), |auth| auth.push(sam));
        // Sam has no level for this, so it is rejected, and whatever leans on it is too.
        let levels = scene.make(&scene.sam, &heads, Draft::state("m.room.power_levels", "", object(json!({}))));
        assert_eq!(scene.receive(&[&levels]).await, [Err(Refusal::Forbidden)]);
        let leaning = scene.world.lock().make_with(&scene.rita, &heads, message("leaning"), |auth| {
            auth.retain(|id| *id != id_of(&levels));
            auth.push(id_of(&levels));
        });
        for event in [twice, needless, leaning] {
            assert_eq!(scene.receive(&[&event]).await, [Err(Refusal::Forbidden)], "{version}: {event:?}");
            assert!(scene.is_rejected(&event).await);
        }
        assert!(scene.bodies().await.is_empty());
    })
    .await;
}

/// Hard case 25.
/// S2S 11 check 5. S2S 11 what accepted. S2S 11 rejected stays rejected.
#[tokio::test]
async fn a_rejected_event_stays_rejected_when_the_room_would_allow_it_now() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let event = scene.make(&scene.sam, &scene.heads().await, topic("of sam"));
        assert_eq!(scene.receive_from("other.example", &[&event]).await, [Err(Refusal::Forbidden)]);
        levels::set_member(&scene.actions, &scene.alice, scene.room_id.as_str(), &scene.sam, 50).await.unwrap();
        scene.learn_ours().await;
        assert_eq!(scene.receive_from("other.example", &[&event]).await, [Ok(())], "it is known, and that is all");
        assert!(scene.is_rejected(&event).await);
        let stored = scene.held(event.event_id()).await.unwrap();
        let EventStanding::Rejected { peer, .. } = stored.standing else { panic!("{stored:?}") };
        assert_eq!(peer.as_deref().map(|peer| peer.as_str()), Some("other.example"));
        let before = scene.state().await;
        let key = (ruma::events::StateEventType::RoomTopic, String::new());
        assert!(!before.contains_key(&key));
        let mut previous = scene.heads().await;
        previous.push(id_of(&event));
        let joining = {
            let mut world = scene.world.lock();
            // For the other servers the rejected event changes nothing.
            let before = world.before[event.event_id()].clone();
            world.after.insert(id_of(&event), before);
            world.make(&scene.sam, &previous, message("behind it"))
        };
        assert_eq!(scene.receive_from("other.example", &[&joining]).await, [Ok(())]);
        assert!(!scene.state().await.contains_key(&key));
    })
    .await;
}

/// Hard case 30.
/// S2S 11 check 0.
#[tokio::test]
async fn a_room_that_nobody_here_is_in_takes_nothing_in() {
    let scene = Scene::new("12").await;
    let event = scene.make(&scene.rita, &scene.heads().await, message("still there?"));
    levels::set_member(&scene.actions, &scene.alice, scene.room_id.as_str(), &scene.rita, 100).await.unwrap();
    members::leave(&scene.actions, &scene.alice, scene.room_id.as_str()).await.unwrap();
    let tip = scene.tip().await;
    assert_eq!(scene.receive(&[&event]).await, [Err(Refusal::NotFound)]);
    assert_eq!(scene.tip().await, tip);
}

/// Hard case 31.
#[tokio::test]
async fn levels_that_are_no_integers_are_judged_by_the_rooms_version() {
    for (version, value, is_allowed) in [
        ("10", json!("0"), false),
        ("10", json!(" +0 "), false),
        ("10", json!(0), true),
        ("10", json!(true), false),
        ("10", json!(null), false),
        ("10", json!([]), false),
        ("12", json!("0"), false),
        ("12", json!({}), false),
    ] {
        let scene = Scene::new(version).await;
        levels::set_member(&scene.actions, &scene.alice, scene.room_id.as_str(), &scene.rita, 100).await.unwrap();
        scene.learn_ours().await;
        let heads = scene.heads().await;
        let key = (ruma::events::StateEventType::RoomPowerLevels, String::new());
        let present = scene.state().await[&key].clone();
        let mut content: Value = scene.world.lock().events[&present].content_as().unwrap();
        content["events_default"] = value.clone();
        let event = scene.make(&scene.rita, &heads, Draft::state("m.room.power_levels", "", object(content)));
        let answer = scene.receive(&[&event]).await;
        assert_eq!(answer == [Ok(())], is_allowed, "{version} {value}: {answer:?}");
        assert_eq!(scene.is_rejected(&event).await, !is_allowed, "{version} {value}");
    }
}

/// Hard cases 32 and 33.
/// S2S 8 65 536 bytes. S2S 8 255 bytes of ids and types.
#[tokio::test]
async fn sizes_at_the_limit_are_taken_and_one_more_is_not() {
    let scene = Scene::new("12").await;
    let heads = scene.heads().await;
    let empty = scene.make(&scene.rita, &heads, message(""));
    let room = 65_536 - empty.json().len();
    let full = scene.make(&scene.rita, &heads, message(&"x".repeat(room)));
    assert_eq!(full.json().len(), 65_536);
    assert_eq!(scene.receive(&[&full]).await, [Ok(())]);
    let over = full.json().replace("xxx\"", "xxxx\"");
    assert!(scene.receive_raw("peer.example", vec![&over]).await.is_empty());
    for (key, is_taken) in
        [("k".repeat(255), true), ("é".repeat(127), true), ("k".repeat(256), false), ("é".repeat(128), false)]
    {
        let state =
            scene.make(&scene.rita, &scene.heads().await, Draft::state("com.example.note", "short", object(json!({}))));
        let text = state.json().replace("\"short\"", &format!("\"{key}\""));
        let answers = scene.receive_raw("peer.example", vec![&text]).await;
        // The signature is wrong in both cases; one that is too long does not get that far.
        assert_eq!(answers.len(), usize::from(is_taken), "{} bytes", key.len());
    }
}

/// Hard case 61. S2S 11 check 0. S2S 18 what it protects.
#[tokio::test]
async fn the_access_list_of_the_room_decides_by_who_sends() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        scene.set_state("m.room.server_acl", json!({ "allow": ["*"], "deny": ["PEER.*"] })).await;
        let event = scene.make(&scene.rita, &scene.heads().await, message("denied"));
        assert_eq!(scene.receive(&[&event]).await, [Err(Refusal::Forbidden)]);
        assert!(scene.held(event.event_id()).await.is_none());
        // Who brings it is asked, not who wrote it.
        assert_eq!(scene.receive_from("other.example", &[&event]).await, [Ok(())]);
    })
    .await;
}

#[tokio::test]
async fn a_second_create_event_makes_no_second_room() {
    let scene = Scene::new("11").await;
    let create = scene.actions.room(&scene.room_id).view().await.unwrap().unwrap().basis.create.clone();
    let signer = scene.actions.signer.clone();
    let mut object: CanonicalJsonObject = serde_json::from_str(create.json()).unwrap();
    object.insert("origin_server_ts".to_owned(), CanonicalJsonValue::Integer(5_u32.into()));
    world::sign_anew(&mut object, &signer, &scene.version);
    let text = serde_json::to_string(&object).unwrap();
    let tip = scene.tip().await;
    let answers = scene.receive_raw("peer.example", vec![&text]).await;
    assert!(matches!(answers[..], [(_, Err(Refusal::Forbidden))]), "{answers:?}");
    let after = scene.tip().await;
    assert_eq!((after.heads, after.state), (tip.heads, tip.state));
}

/// S2S 11 check 6. S2S 11 what accepted. S2S 16 previous events of ours.
#[tokio::test]
async fn what_follows_only_what_is_not_shown_takes_the_place_of_what_is_before_that() {
    let scene = Scene::new("12").await;
    let heads = scene.heads().await;
    let late = scene.make(&scene.rita, &heads, topic("late"));
    scene.receive(&[]).await;
    levels::set_member(&scene.actions, &scene.alice, scene.room_id.as_str(), &scene.rita, 0).await.unwrap();
    scene.learn_ours().await;
    assert_eq!(scene.receive(&[&late]).await, [Ok(())]);
    let stored = scene.held(late.event_id()).await.unwrap();
    assert!(matches!(stored.standing, EventStanding::SoftFailed { .. }), "{stored:?}");
    let ours = scene.heads().await;
    assert!(!ours.contains(&id_of(&late)));
    let mut previous = ours.clone();
    previous.push(id_of(&late));
    let joining = scene.make(&scene.sam, &previous, message("after both"));
    assert_eq!(scene.receive_from("other.example", &[&joining]).await, [Ok(())]);
    assert_eq!(scene.heads().await, [id_of(&joining)]);
}

#[tokio::test]
async fn the_events_of_a_transaction_share_their_commits() {
    let scene = Scene::new("12").await;
    let chain = scene.chain(&scene.heads().await, 40);
    let before = scene.actions.store.position();
    let all: Vec<&Event> = chain.iter().map(AsRef::as_ref).collect();
    assert!(scene.receive(&all).await.iter().all(Result::is_ok));
    assert_eq!(scene.heads().await, [id_of(&chain[39])]);
    let commits = before.distance_to(scene.actions.store.position());
    assert!((1..=4).contains(&commits), "{commits} commits for 40 events");
}

//! History that is learnt later than what stands behind it.

use yurt::actions::{ErrorKind, backfill, completeness, members, personal, rooms};

use super::{servers::eventually, *};

/// A hole of 200 messages, of which the 200 behind it are held.
async fn with_a_hole(version: &str) -> (Scene, Vec<Arc<Event>>) {
    let scene = Scene::new(version).await;
    let chain = scene.chain(&scene.heads().await, 320);
    assert_eq!(scene.receive(&[&chain[319]]).await, [Ok(())]);
    assert!(scene.is_accepted(&chain[319]).await && scene.held(chain[0].event_id()).await.is_none());
    (scene, chain)
}

async fn fill(scene: &Scene, limit: usize) -> backfill::Backfilled {
    let admin = Caller::local(&scene.alice.user_id, true);
    backfill::federation_backfill(&scene.actions, &admin, scene.room_id.as_str(), None, limit, None).await.unwrap()
}

/// A page that goes back from a place.
async fn back(scene: &Scene, from: Option<yurt::actions::Place>, limit: usize) -> timeline::TimelinePage {
    let page = timeline::page(&scene.actions, &scene.alice, scene.room_id.as_str(), from, Direction::Down, limit);
    page.await.unwrap()
}

/// S2S 17 backfill.
#[tokio::test]
async fn a_hole_is_filled_in_order_and_nothing_of_it_is_news() {
    for_each_version(|version| async move {
        let (scene, chain) = with_a_hole(version).await;
        let unread = async || {
            rooms::details(&scene.actions, &scene.alice, scene.room_id.as_str()).await.unwrap().personal.unread
        };
        let before = unread().await;
        let tip = scene.tip().await;
        let filled = fill(&scene, 50).await;
        assert_eq!((filled.fetched, filled.stored, filled.complete), (50, 50, false));
        let filled = fill(&scene, 1_000).await;
        assert!(filled.complete && filled.next.is_none() && filled.rejected.is_empty(), "{filled:?}");
        let expected: Vec<String> = (0..320).map(|number| format!("unsent {number}")).collect();
        let mut seen = Vec::new();
        let mut from = None;
        loop {
            let page = timeline::page(&scene.actions, &scene.alice, scene.room_id.as_str(), from, Direction::Up, 200);
            let page = page.await.unwrap();
            seen.extend(
                page.events
                    .iter()
                    .filter_map(|view| view.event.content_as::<Value>().unwrap()["body"].as_str().map(str::to_owned)),
            );
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected);
        assert_eq!(unread().await, before, "history does not count");
        let after = scene.tip().await;
        assert_eq!((after.messages, after.next_place, after.state), (tip.messages, tip.next_place, tip.state));
        assert_eq!(scene.heads().await, [id_of(&chain[319])], "what is between them was followed");
        let again = fill(&scene, 100).await;
        assert_eq!((again.fetched, again.stored, again.complete), (0, 0, true));
        // Somebody who marks an event of the hole as read has read what came before, and has the rest before them.
        let read =
            personal::mark_read(&scene.actions, &scene.alice, scene.room_id.as_str(), chain[5].event_id().as_str());
        assert_eq!(read.await.unwrap().personal.unread, before);
    })
    .await;
}

#[tokio::test]
async fn who_reads_up_to_a_hole_has_it_filled() {
    let (scene, chain) = with_a_hole("12").await;
    let expected: Vec<OwnedEventId> = chain.iter().rev().take(300).map(|event| id_of(event)).collect();
    // A reader waits only so long; what has not come by then is there for whoever reads next.
    eventually("the hole is filled", async || {
        let page = back(&scene, None, 200).await;
        let second = back(&scene, page.next, 100).await;
        let events = page.events.iter().chain(&second.events);
        let ids: Vec<OwnedEventId> = events.map(|view| id_of(&view.event)).collect();
        ids == expected && second.gaps.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_hole_that_nobody_fills_is_told() {
    let (scene, _) = with_a_hole("12").await;
    scene.world.lock().silent.insert("backfill");
    let page = timeline::page(&scene.actions, &scene.alice, scene.room_id.as_str(), None, Direction::Down, 250);
    let page = page.await.unwrap();
    assert_eq!(page.gaps.len(), 1);
    let filled = fill(&scene, 100).await;
    assert_eq!((filled.stored, filled.complete, filled.next), (0, false, Some(page.gaps[0].event_id.clone())));
}

/// Hard case 45.
/// S2S 8 both bounds count for news and not for history. S2S 17 backfill.
#[tokio::test]
async fn too_many_previous_events_are_refused_as_news_and_taken_as_history() {
    let scene = Scene::new("12").await;
    let heads = scene.heads().await;
    let many: Vec<OwnedEventId> = (0..21)
        .map(|number| id_of(&scene.make(&scene.rita, &heads, message(&format!("one of many {number}")))))
        .collect();
    let wide = scene.world.lock().make_wide(&scene.rita, &many, message("after all of them"));
    assert!(scene.receive_raw("peer.example", vec![wide.json()]).await.is_empty());
    let chain = scene.chain(&[id_of(&wide)], 250);
    assert_eq!(scene.receive(&[&chain[249]]).await, [Ok(())]);
    let filled = fill(&scene, 1_000).await;
    assert!(filled.complete, "{filled:?}");
    assert!(scene.is_accepted(&wide).await);
}

/// Hard case 6. S2S 11 check 2. S2S 17 backfill.
#[tokio::test]
async fn forged_history_is_left_out() {
    let scene = Scene::new("12").await;
    let sam = scene.make(&scene.sam, &scene.heads().await, message("of sam"));
    let forged = sam.json().replace("other.example\":{", "peer.example\":{");
    let chain = scene.chain(&[id_of(&sam)], 250);
    assert_eq!(scene.receive(&[&chain[249]]).await, [Ok(())]);
    scene.world.lock().forged.insert(id_of(&sam), forged);
    let filled = fill(&scene, 1_000).await;
    assert!(!filled.complete);
    assert_eq!(filled.rejected.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), [id_of(&sam)]);
    assert!(scene.held(sam.event_id()).await.is_none());
}

#[tokio::test]
async fn an_event_of_the_hole_that_comes_as_news_is_shown_where_it_belongs() {
    for_each_version(|version| async move {
        let (scene, chain) = with_a_hole(version).await;
        let hole = 320 - 202;
        let heads = scene.heads().await;
        scene.world.lock().silent.insert("missing_events");
        for event in [&chain[hole - 1], &chain[hole - 2]] {
            assert_eq!(scene.receive(&[event]).await, [Ok(())]);
        }
        assert_eq!(scene.heads().await, heads, "it was followed already");
    })
    .await;
}

#[tokio::test]
async fn who_was_there_first_is_asked_first_and_others_when_it_gives_nothing() {
    let (scene, _) = with_a_hole("12").await;
    back(&scene, None, 250).await;
    assert_eq!(scene.world.lock().asked_of, ["peer.example", "peer.example"], "Rita came before Sam");
    let (scene, _) = with_a_hole("12").await;
    scene.world.lock().down.insert("peer.example".try_into().unwrap());
    let filled = fill(&scene, 1_000).await;
    assert!(filled.complete, "{filled:?}");
    assert_eq!(filled.peer, "other.example");
    assert_eq!(scene.world.lock().asked_of[..2], ["peer.example", "other.example"]);
}

/// Hard case 56, for those who read.
#[tokio::test]
async fn what_nobody_gives_is_asked_for_again_only_after_a_pause_that_grows() {
    let (scene, chain) = with_a_hole("12").await;
    scene.world.lock().silent.insert("backfill");
    let asked = async || {
        let before = scene.asked("backfill");
        assert_eq!(back(&scene, None, 250).await.gaps.len(), 1);
        scene.asked("backfill") - before
    };
    assert_eq!(asked().await, 2, "both servers of the room");
    assert_eq!((asked().await, asked().await), (0, 0));
    scene.advance(Duration::from_secs(61));
    assert_eq!((asked().await, asked().await), (2, 0));
    scene.advance(Duration::from_secs(61));
    assert_eq!(asked().await, 0, "the second pause is longer");
    scene.advance(Duration::from_secs(60));
    scene.world.lock().silent.clear();
    let page = back(&scene, None, 250).await;
    assert!(page.gaps.is_empty());
    assert_eq!(id_of(&page.events[249].event), id_of(&chain[70]));
}

/// Hard case 48, for what a peer gives.
#[tokio::test]
async fn pages_of_nothing_but_rejected_events_do_not_end_the_way_back() {
    let scene = Scene::new("12").await;
    let mallory = UserId::parse("@mallory:peer.example").unwrap();
    let first = scene.make(&scene.rita, &scene.heads().await, message("before all of it"));
    let mut previous = vec![id_of(&first)];
    for number in 0..230 {
        let rejected = scene.make(&mallory, &previous, message(&format!("not in the room {number}")));
        previous = vec![id_of(&rejected)];
    }
    let chain = scene.chain(&previous, 250);
    assert_eq!(scene.receive(&[&chain[249]]).await, [Ok(())]);
    let filled = fill(&scene, 1_000).await;
    assert!(filled.complete && scene.is_accepted(&first).await, "{filled:?}");
    assert_eq!(filled.rejected.len(), 230);
    let admin = Caller::local(&scene.alice.user_id, true);
    let report = completeness::of_room(&scene.actions, &admin, scene.room_id.as_str()).await.unwrap();
    assert!(report.holes.is_empty() && !report.is_whole);
    assert_eq!(report.refused.len(), completeness::TOLD_MAX);
    let refused = &report.refused[0];
    assert_eq!((&refused.sender, refused.peer.as_ref().unwrap().as_str()), (&mallory, "peer.example"));
    assert!(!refused.is_soft && !refused.reason.is_empty());
}

/// Loops and orphans.
#[tokio::test]
async fn a_beginning_that_never_comes_costs_a_bounded_number_of_questions() {
    let (scene, chain) = with_a_hole("12").await;
    scene.world.lock().withheld.insert(id_of(&chain[50]));
    for _ in 0..5 {
        fill(&scene, 1_000).await;
    }
    let admin = Caller::local(&scene.alice.user_id, true);
    let report = completeness::of_room(&scene.actions, &admin, scene.room_id.as_str()).await.unwrap();
    let [(hole, next_try)] = report.holes.as_slice() else { panic!("{report:?}") };
    assert_eq!((&hole.event_id, hole.missing.as_slice()), (chain[51].event_id(), &[id_of(&chain[50])][..]));
    assert!(next_try.is_some());
    let servers: Vec<&str> = report.suppliers.iter().map(|(supplier, _)| supplier.server.as_str()).collect();
    assert_eq!(servers, ["peer.example", "other.example"]);
    let before = scene.asked("backfill");
    for _ in 0..20 {
        assert_eq!(back(&scene, None, 200).await.gaps.len(), 0);
        assert_eq!(back(&scene, Some(hole.place), 50).await.gaps.len(), 1);
    }
    assert_eq!(scene.asked("backfill"), before, "it waits for its pause");
}

#[tokio::test]
async fn history_that_comes_later_is_shown_to_those_who_may_see_it() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        scene.set_state("m.room.history_visibility", json!({ "history_visibility": "joined" })).await;
        let chain = scene.chain(&scene.heads().await, 250);
        assert_eq!(scene.receive(&[&chain[249]]).await, [Ok(())]);
        let bob = engines::caller(&scene.actions, "bob").await;
        members::join(&scene.actions, &bob, scene.room_id.as_str(), &[], None).await.unwrap();
        assert!(fill(&scene, 1_000).await.complete);
        let seen = async |caller: &Caller| {
            let page = timeline::page(&scene.actions, caller, scene.room_id.as_str(), None, Direction::Down, 200);
            let page = page.await.unwrap();
            page.events.iter().filter(|view| view.event.type_str() == "m.room.message").count()
        };
        assert_eq!((seen(&bob).await, seen(&scene.alice).await), (0, 199));
    })
    .await;
}

#[tokio::test]
async fn reading_forward_tells_of_holes_and_asks_nobody() {
    let (scene, chain) = with_a_hole("12").await;
    let page = timeline::page(&scene.actions, &scene.alice, scene.room_id.as_str(), None, Direction::Up, 200);
    let page = page.await.unwrap();
    let [gap] = page.gaps.as_slice() else { panic!("{:?}", page.gaps) };
    assert!(chain.iter().any(|event| *event.event_id() == gap.event_id));
    assert_eq!(scene.asked("backfill"), 0);
}

#[tokio::test]
async fn only_admins_ask_for_history_and_only_servers_of_the_room_are_asked() {
    let (scene, chain) = with_a_hole("12").await;
    let room = scene.room_id.as_str();
    let ask = async |is_admin: bool, peer: Option<&str>, before: Option<&OwnedEventId>| {
        let caller = Caller::local(&scene.alice.user_id, is_admin);
        let peer = peer.map(|peer| OwnedServerName::try_from(peer).unwrap());
        let before = before.map(|id| &**id);
        let asked = backfill::federation_backfill(&scene.actions, &caller, room, peer.as_deref(), 10, before).await;
        asked.map_err(|error| error.kind())
    };
    assert_eq!(ask(false, None, None).await.unwrap_err(), ErrorKind::InsufficientPermission);
    assert_eq!(ask(true, Some("elsewhere.example"), None).await.unwrap_err(), ErrorKind::RequestInvalid);
    assert_eq!(ask(true, None, Some(&id_of(&chain[0]))).await.unwrap_err(), ErrorKind::EventNotFound);
    let filled = ask(true, Some("other.example"), Some(&id_of(&chain[319]))).await.unwrap();
    assert_eq!((filled.peer.as_str(), filled.stored), ("other.example", 10));
}

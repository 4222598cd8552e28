//! History that is learnt later than what stands behind it.

use yurt::actions::{backfill, personal, rooms};

use super::*;

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
    backfill::federation_backfill(&scene.actions, &admin, &scene.room_id, None, limit, None).await.unwrap()
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
    let page = timeline::page(&scene.actions, &scene.alice, scene.room_id.as_str(), None, Direction::Down, 200);
    let page = page.await.unwrap();
    let from = page.next.unwrap();
    let second = timeline::page(&scene.actions, &scene.alice, scene.room_id.as_str(), Some(from), Direction::Down, 100);
    let second = second.await.unwrap();
    let ids: Vec<OwnedEventId> = page.events.iter().chain(&second.events).map(|view| id_of(&view.event)).collect();
    let expected: Vec<OwnedEventId> = chain.iter().rev().take(300).map(|event| id_of(event)).collect();
    assert_eq!(ids, expected);
    assert!(second.gaps.is_empty());
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

//! Redactions of peers: in time, too early, and where they may not.

use super::*;

/// Hard case 37.
/// S2S 7 redactions are applied.
#[tokio::test]
async fn a_redaction_that_comes_before_its_target_waits_for_it() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let heads = scene.heads().await;
        let secret = scene.make(&scene.rita, &heads, message("a secret"));
        let redaction = scene.make(&scene.rita, &heads, Draft::redaction(id_of(&secret), CanonicalJsonObject::new()));
        assert_eq!(scene.receive(&[&redaction]).await, [Ok(())]);
        assert!(scene.is_accepted(&redaction).await);
        assert_eq!(scene.receive(&[&secret]).await, [Ok(())]);
        assert!(scene.bodies().await.is_empty());
        let shown = timeline::event(&scene.actions, &scene.alice, scene.room_id.as_str(), secret.event_id().as_str())
            .await
            .unwrap();
        assert_eq!(shown.redacted_by.as_ref(), Some(&scene.rita));
    })
    .await;
}

/// Hard case 18.
/// S2S 7 redactions are applied.
#[tokio::test]
async fn a_redaction_without_the_level_changes_nothing_early_or_late() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let ours = scene.send("ours").await;
        scene.learn_ours().await;
        let create = scene.actions.room(&scene.room_id).view().await.unwrap().unwrap().summary.create_event_id.clone();
        let heads = scene.heads().await;
        let theirs = scene.make(&scene.rita, &heads, message("of rita"));
        for (sender, target) in [(&scene.sam, &ours), (&scene.sam, theirs.event_id()), (&scene.rita, &create)] {
            let redaction = scene.make(sender, &heads, Draft::redaction(target.clone(), CanonicalJsonObject::new()));
            assert_eq!(scene.receive_from("other.example", &[&redaction]).await, [Ok(())]);
        }
        assert_eq!(scene.receive(&[&theirs]).await, [Ok(())]);
        assert_eq!(scene.bodies().await, ["ours", "of rita"]);
        let view = scene.actions.room(&scene.room_id).view().await.unwrap().unwrap();
        assert_eq!(view.summary.redactions, 0);
    })
    .await;
}

/// Hard case 18.
#[tokio::test]
async fn a_redaction_of_an_event_of_another_room_changes_nothing() {
    let scene = Scene::new("12").await;
    let new = NewRoom { kind: Some(RoomKind::Public), name: Some("Other".to_owned()), ..NewRoom::default() };
    let other = creation::create(&scene.actions, &scene.alice, new).await.unwrap();
    let view = scene.actions.room(&other).view().await.unwrap().unwrap();
    let target = view.tip.heads[0].event_id.clone();
    let redaction =
        scene.make(&scene.rita, &scene.heads().await, Draft::redaction(target.clone(), CanonicalJsonObject::new()));
    assert_eq!(scene.receive(&[&redaction]).await, [Ok(())]);
    let view = scene.actions.room(&other).view().await.unwrap().unwrap();
    assert_eq!(view.summary.redactions, 0);
    let shown = timeline::event(&scene.actions, &scene.alice, other.as_str(), target.as_str()).await.unwrap();
    assert_eq!(shown.redacted_by, None);
}

/// Hard case 18: ids are hashes, so the names can only have been put in later, and count for nothing.
#[tokio::test]
async fn two_redactions_that_name_each_other_take_nothing_away() {
    let scene = Scene::new("10").await;
    let heads = scene.heads().await;
    let target = scene.make(&scene.rita, &heads, message("stays"));
    let behind = [id_of(&target)];
    let redaction = |reason: &str| {
        let content = object(json!({ "reason": reason }));
        scene.make(&scene.rita, &behind, Draft::redaction(id_of(&target), content))
    };
    let (one, two) = (redaction("one"), redaction("two"));
    let names = |redaction: &Event, other: &Event| {
        redaction.json().replace(
            &format!("\"redacts\":\"{}\"", target.event_id()),
            &format!("\"redacts\":\"{}\"", other.event_id()),
        )
    };
    let (first, second) = (names(&one, &two), names(&two, &one));
    assert_ne!(first, one.json());
    let answers = scene.receive_raw("peer.example", vec![target.json(), &first, &second]).await;
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert_eq!(scene.bodies().await, ["stays"]);
    assert_eq!(scene.actions.room(&scene.room_id).view().await.unwrap().unwrap().summary.redactions, 0);
}

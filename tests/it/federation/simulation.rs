//! Whatever happens between the servers of a room and in whichever order it is told, every server ends in the same state.

use proptest::{prelude::*, test_runner::Config};
use serde_json::json;

use super::*;

/// What somebody does, behind which of the newest events, and when it is delivered.
#[derive(Clone, Debug)]
struct Step {
    by_rita: bool,
    behind: Vec<prop::sample::Index>,
    what: u8,
    order: u32,
    is_dropped: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        any::<bool>(),
        prop::collection::vec(any::<prop::sample::Index>(), 1..3),
        0..5_u8,
        any::<u32>(),
        prop::bool::weighted(0.3),
    );
    let step =
        step.prop_map(|(by_rita, behind, what, order, is_dropped)| Step { by_rita, behind, what, order, is_dropped });
    prop::collection::vec(step, 5..25)
}

async fn play(version: &str, steps: Vec<Step>) {
    let scene = Scene::new(version).await;
    levels::set_member(&scene.actions, &scene.alice, scene.room_id.as_str(), &scene.sam, 50).await.unwrap();
    scene.learn_ours().await;
    let mut made: Vec<OwnedEventId> = scene.heads().await;
    let mut heads: Vec<OwnedEventId> = made.clone();
    let mut told = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        let newest: Vec<OwnedEventId> = made.iter().rev().take(6).cloned().collect();
        let mut previous: Vec<OwnedEventId> = step.behind.iter().map(|index| index.get(&newest).clone()).collect();
        previous.sort();
        previous.dedup();
        let sender = if step.by_rita { &scene.rita } else { &scene.sam };
        let name = |name: &str| object(json!({ "name": format!("{name} {number}") }));
        let draft = match step.what {
            0 => topic(&format!("topic {number}")),
            1 => Draft::state("m.room.name", "", name("name")),
            2 => Draft::state("com.example.note", "a", name("note")),
            3 => Draft::member(sender, "join", object(json!({ "displayname": format!("nr {number}") }))),
            _ => message(&format!("{number}")),
        };
        let event = scene.make(sender, &previous, draft);
        heads.retain(|head| !previous.contains(head));
        heads.push(id_of(&event));
        made.push(id_of(&event));
        told.push((step.order, step.is_dropped, event));
    }
    told.sort_by_key(|(order, _, event)| (*order, id_of(event)));
    for (_, is_dropped, event) in &told {
        if !is_dropped {
            scene.receive_from(event.sender().server_name().as_str(), &[event]).await;
        }
    }
    // What was lost on the way and is followed by nothing comes at last.
    for head in &heads {
        let event = scene.world.lock().events[head].clone();
        scene.receive_from(event.sender().server_name().as_str(), &[&event]).await;
    }
    heads.sort();
    assert_eq!(scene.heads().await, heads);
    let expected = scene.world.lock().state_before(&heads);
    assert_eq!(scene.state().await, expected);
    for id in &made {
        assert!(
            scene.held(id).await.is_some_and(|stored| stored.standing == EventStanding::Accepted),
            "{id} is not held"
        );
    }
}

proptest! {
    #![proptest_config(Config { cases: 12, max_shrink_iters: 20, ..Config::default() })]
    /// S2S 14 the same on every server.
    #[test]
    fn whatever_is_lost_or_late_the_state_is_the_same_in_the_end(steps in steps(), version in prop::sample::select(vec!["10", "12"])) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(play(version, steps));
    }
}

//! The rows of section 9.1 that give events and states.

use serde_json::{Value, json};

use super::world::{NOW, Peer, World};

const F: &str = "/_matrix/federation/v1";

async fn get(world: &World, target: &str) -> super::world::Answer {
    Peer::new("a.example").get(world, &format!("{F}/{target}")).await
}

/// Row `GET v1/event/{eventId}`.
/// S2S 9.1 event.
#[tokio::test]
async fn event_answers_one_event_in_the_form_of_a_transaction() {
    let world = World::new().await;
    let answer = get(&world, "event/$e").await.ok();
    assert_eq!(answer, json!({ "origin": "us.example", "origin_server_ts": NOW, "pdus": [{ "id": "$e" }] }));
    assert_eq!(get(&world, "event/$notfound").await.error(), (404, "M_NOT_FOUND".to_owned()));
}

/// Rows `GET v1/state/{roomId}` and `GET v1/state_ids/{roomId}`.
/// S2S 9.1 state. S2S 9.1 state_ids.
#[tokio::test]
async fn state_and_state_ids_answer_the_state_before_an_event() {
    let world = World::new().await;
    let answer = get(&world, "state/!r:x?event_id=$e").await.ok();
    assert_eq!(answer, json!({ "pdus": [{ "of": "state" }], "auth_chain": [{ "of": "auth_chain" }] }));
    let answer = get(&world, "state_ids/!r:x?event_id=%24e").await.ok();
    assert_eq!(answer, json!({ "pdu_ids": ["$state"], "auth_chain_ids": ["$auth_chain"] }));
    assert_eq!(world.local.calls(), ["a.example state_before !r:x $e", "a.example state_ids_before !r:x $e"]);
    for path in ["state", "state_ids"] {
        assert_eq!(get(&world, &format!("{path}/!r:x")).await.error(), (400, "M_MISSING_PARAM".to_owned()));
        assert_eq!(get(&world, &format!("{path}/!r:x?event_id=e")).await.error(), (400, "M_INVALID_PARAM".to_owned()));
        assert_eq!(
            get(&world, &format!("{path}/!forbidden:x?event_id=$e")).await.error(),
            (403, "M_FORBIDDEN".to_owned())
        );
        assert_eq!(
            get(&world, &format!("{path}/!notfound:x?event_id=$e")).await.error(),
            (404, "M_NOT_FOUND".to_owned())
        );
    }
}

/// Row `GET v1/event_auth/{roomId}/{eventId}`.
/// S2S 9.1 event_auth.
#[tokio::test]
async fn event_auth_answers_the_auth_chain() {
    let world = World::new().await;
    assert_eq!(get(&world, "event_auth/!r:x/$e").await.ok(), json!({ "auth_chain": [{ "of": "auth_chain" }] }));
    assert_eq!(world.local.calls(), ["a.example auth_chain !r:x $e"]);
    assert_eq!(get(&world, "event_auth/!notfound:x/$e").await.error(), (404, "M_NOT_FOUND".to_owned()));
}

/// Row `GET v1/backfill/{roomId}`.
/// S2S 9.1 backfill.
#[tokio::test]
async fn backfill_answers_events_within_bounds() {
    let world = World::new().await;
    let answer = get(&world, "backfill/!r:x?v=$a&limit=50&v=$b").await.ok();
    let expected = json!({ "origin": "us.example", "origin_server_ts": NOW, "pdus": [{ "n": 2 }, { "n": 1 }] });
    assert_eq!(answer, expected);
    get(&world, "backfill/!r:x?v=$a&limit=100000000000").await.ok();
    assert_eq!(
        world.local.calls(),
        [r#"a.example backfill !r:x ["$a", "$b"] 50"#, r#"a.example backfill !r:x ["$a"] 100"#]
    );
    let many = |number: usize| format!("backfill/!r:x?limit=1{}", "&v=$e".repeat(number));
    assert_eq!(get(&world, &many(20)).await.status, 200);
    assert_eq!(get(&world, &many(21)).await.error(), (400, "M_INVALID_PARAM".to_owned()));
    assert_eq!(get(&world, &many(0)).await.error(), (400, "M_MISSING_PARAM".to_owned()));
    assert_eq!(get(&world, "backfill/!r:x?v=$a").await.error(), (400, "M_MISSING_PARAM".to_owned()));
    assert_eq!(get(&world, "backfill/!r:x?v=$a&limit=-1").await.error(), (400, "M_INVALID_PARAM".to_owned()));
    assert_eq!(get(&world, "backfill/!forbidden:x?v=$a&limit=1").await.error(), (403, "M_FORBIDDEN".to_owned()));
}

/// Row `POST v1/get_missing_events/{roomId}`.
/// S2S 9.1 get_missing_events.
#[tokio::test]
async fn get_missing_events_answers_within_bounds() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    let target = format!("{F}/get_missing_events/!r:x");
    let ask = async |body: Value| peer.post(&world, &target, &body).await;
    let asked = json!({ "earliest_events": ["$a"], "latest_events": ["$b", "$c"] });
    assert_eq!(ask(asked).await.ok(), json!({ "events": [{ "n": 1 }, { "n": 2 }] }));
    ask(json!({ "earliest_events": [], "latest_events": ["$b", 5, "x"], "limit": 1000, "min_depth": 7 })).await.ok();
    ask(json!({ "earliest_events": vec!["$a"; 1000], "latest_events": [], "limit": 0 })).await.ok();
    let calls = world.local.calls();
    assert_eq!(calls[0], r#"a.example missing_events !r:x ["$a"] ["$b", "$c"] 0 10"#);
    assert_eq!(calls[1], r#"a.example missing_events !r:x [] ["$b"] 7 20"#);
    assert_eq!(calls[2].matches("$a").count(), 20);
    for bad in [
        json!({}),
        json!({ "earliest_events": [] }),
        json!({ "earliest_events": "$a", "latest_events": [] }),
        json!({ "earliest_events": [], "latest_events": [], "limit": -1 }),
        json!({ "earliest_events": [], "latest_events": [], "min_depth": "0" }),
    ] {
        assert_eq!(ask(bad.clone()).await.status, 400, "{bad}");
    }
    let body = json!({ "earliest_events": [], "latest_events": [] });
    let refused = peer.post(&world, &format!("{F}/get_missing_events/!forbidden:x"), &body).await;
    assert_eq!(refused.error(), (403, "M_FORBIDDEN".to_owned()));
}

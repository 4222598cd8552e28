//! `PUT /_matrix/federation/v1/send/{txnId}`.

use std::{sync::atomic::Ordering, time::Duration};

use http::Method;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{
    fake::raw,
    world::{Peer, World},
};
use crate::{
    limits::TRANSACTION_ROOMS_PARALLEL_MAX,
    quotas::{Budget, Quotas, Rate},
};

fn path(transaction_id: &str) -> String {
    format!("/_matrix/federation/v1/send/{transaction_id}")
}

fn pdu(room_id: &str, id: &str) -> Value {
    json!({ "room_id": room_id, "id": id, "depth": 1 })
}

fn body(pdus: &[Value]) -> Value {
    json!({ "origin": "a.example", "origin_server_ts": 5, "pdus": pdus })
}

/// Waits until something was asked; the server works beside the test.
async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), waiting).await.expect("what is waited for happens");
}

/// Row `PUT v1/send/{txnId}`: 200 with a result for each event, also when some are refused.
/// S2S 9.1 send.
#[tokio::test]
async fn events_are_handed_on_by_room_in_order_and_each_has_its_result() {
    let world = World::new().await;
    let pdus =
        [pdu("!r:x", "$1"), pdu("!q:x", "$2"), pdu("!r:x", "$3forbidden"), pdu("!r:x", "$4"), pdu("!r:x", "no id")];
    let answer = Peer::new("a.example").put(&world, &path("t"), &body(&pdus)).await;
    let results = json!({ "$1": {}, "$2": {}, "$3forbidden": { "error": "forbidden" }, "$4": {} });
    assert_eq!(answer.ok(), json!({ "pdus": results }));
    let mut calls = world.local.calls();
    calls.sort();
    let text = |pdu: &Value| raw(pdu).get().to_owned();
    let of_r = [&pdus[0], &pdus[2], &pdus[3], &pdus[4]].map(text).join(" ");
    assert_eq!(calls, [format!("a.example receive !q:x {}", text(&pdus[1])), format!("a.example receive !r:x {of_r}")]);
}

/// Hard cases 42, 45 and 36: what cannot be an event is left out, its neighbours are processed.
#[tokio::test]
async fn events_that_cannot_be_are_left_out_and_their_neighbours_processed() {
    let world = World::new().await;
    let many = |number: usize| vec!["\"$e\""; number].join(",");
    let bad = [
        r#"{"id":"$bad","room_id":"!r:x","depth":-1}"#.to_owned(),
        r#"{"depth":9007199254740992,"id":"$bad","room_id":"!r:x"}"#.to_owned(),
        r#"{"depth":100000000000000000000000000000,"id":"$bad","room_id":"!r:x"}"#.to_owned(),
        r#"{"depth":1.5,"id":"$bad","room_id":"!r:x"}"#.to_owned(),
        r#"{"depth":"1","id":"$bad","room_id":"!r:x"}"#.to_owned(),
        r#"{"content":{"x":[1e+100]},"id":"$bad","room_id":"!r:x"}"#.to_owned(),
        r#"{"id":"$bad","room_id":"r:x"}"#.to_owned(),
        r#"{"id":"$bad","room_id":5}"#.to_owned(),
        r#"{"id":"$bad"}"#.to_owned(),
        r#""$bad""#.to_owned(),
        "null".to_owned(),
        format!(r#"{{"id":"$bad","prev_events":[{}],"room_id":"!r:x"}}"#, many(21)),
        format!(r#"{{"auth_events":[{}],"id":"$bad","room_id":"!r:x"}}"#, many(11)),
        format!(r#"{{"content":"{}","id":"$bad","room_id":"!r:x"}}"#, "x".repeat(65_536)),
    ];
    let good = |number: usize| format!(r#"{{"depth":0,"id":"${number}","room_id":"!r:x"}}"#);
    let sent: Vec<String> = bad.iter().enumerate().flat_map(|(number, bad)| [good(number), bad.clone()]).collect();
    let text = format!(r#"{{"pdus":[{}]}}"#, sent.join(","));
    // The members of each event above do not all stand in the order of canonical JSON.
    let canonical =
        text.replace(r#"{"id":"$bad","room_id":"!r:x","depth":-1}"#, r#"{"depth":-1,"id":"$bad","room_id":"!r:x"}"#);
    let answer = Peer::new("a.example").send_text(&world, Method::PUT, &path("t"), &text, &canonical).await.ok();
    let results = answer["pdus"].as_object().unwrap();
    assert_eq!(results.len(), bad.len(), "{results:?}");
    assert!(!results.contains_key("$bad"));
    assert_eq!(world.local.calls().len(), 1);
}

/// S2S 5 the handler sees the value that was verified. S2S 6 no fractions.
#[tokio::test]
async fn minus_zero_is_zero_and_unsigned_is_taken_out() {
    let world = World::new().await;
    let text = r#"{"pdus":[{"depth":-0,"id":"$1","room_id":"!r:x","unsigned":{"age":1.5}}]}"#;
    let canonical = text.replace("-0", "0");
    Peer::new("a.example").send_text(&world, Method::PUT, &path("t"), text, &canonical).await.ok();
    assert_eq!(world.local.calls(), [r#"a.example receive !r:x {"depth":0,"id":"$1","room_id":"!r:x"}"#]);
}

/// S2S 9.1 send.
#[tokio::test]
async fn more_than_50_events_or_100_pieces_of_news_are_400() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    let pdus: Vec<Value> = (0..51).map(|number| pdu("!r:x", &format!("${number}"))).collect();
    let edus = vec![json!({ "edu_type": "x", "content": {} }); 101];
    assert_eq!(peer.put(&world, &path("1"), &body(&pdus)).await.error(), (400, "M_INVALID_PARAM".to_owned()));
    assert_eq!(peer.put(&world, &path("2"), &json!({ "pdus": [], "edus": edus })).await.status, 400);
    assert_eq!(peer.put(&world, &path("3"), &json!({ "pdus": {} })).await.error(), (400, "M_BAD_JSON".to_owned()));
    assert_eq!(peer.put(&world, &path("4"), &json!({ "pdus": [], "edus": 5 })).await.status, 400);
    assert!(world.local.calls().is_empty());
    assert_eq!(peer.put(&world, &path("5"), &body(&pdus[..50])).await.ok()["pdus"].as_object().unwrap().len(), 50);
    assert_eq!(peer.put(&world, &path("6"), &json!({ "pdus": [], "edus": edus[..100] })).await.status, 200);
    assert_eq!(peer.put(&world, &path("7"), &json!({})).await.ok(), json!({ "pdus": {} }));
    let odd = json!({ "pdus": null, "edus": null, "origin_server_ts": "yesterday", "origin": 5 });
    assert_eq!(peer.put(&world, &path("8"), &odd).await.ok(), json!({ "pdus": {} }));
    assert_eq!(peer.put(&world, &path(&"9".repeat(256)), &json!({})).await.status, 400);
}

/// Hard case 17: the name in the body gives no right.
#[tokio::test]
async fn the_origin_in_the_body_is_not_believed() {
    let world = World::new().await;
    let typing =
        json!({ "edu_type": "m.typing", "content": { "room_id": "!r:x", "user_id": "@u:b.example", "typing": true } });
    let sent = json!({ "origin": "b.example", "pdus": [pdu("!r:x", "$1")], "edus": [typing] });
    Peer::new("a.example").put(&world, &path("t"), &sent).await.ok();
    let calls = world.local.calls();
    assert!(matches!(calls.as_slice(), [call] if call.starts_with("a.example receive")), "{calls:?}");
}

/// Hard case 15 and the rows `m.typing` and `m.receipt` of section 10.
/// S2S 10 m.typing. S2S 10 m.receipt.
#[tokio::test]
async fn news_of_the_origins_own_users_are_told() {
    let world = World::new().await;
    let typing = |user: &str| json!({ "edu_type": "m.typing", "content": { "room_id": "!r:x", "user_id": user, "typing": true } });
    let receipt = json!({ "event_ids": ["$e"], "data": { "ts": 7 } });
    let receipts = json!({ "edu_type": "m.receipt", "content": { "!r:x": { "m.read": { "@u:a.example": receipt, "@u:b.example": receipt } } } });
    let edus = [
        typing("@u:a.example"),
        typing("@u:b.example"),
        receipts,
        json!({ "edu_type": "m.unknown", "content": { "x": {} } }),
    ];
    let sent = json!({ "pdus": [], "edus": edus });
    Peer::new("a.example").put(&world, &path("t"), &sent).await.ok();
    let expected = ["a.example typing !r:x @u:a.example true", "a.example read_receipt !r:x @u:a.example $e 7"];
    assert_eq!(world.local.calls(), expected);
}

/// S2S 5 every request may be repeated. S2S 9.1 send.
#[tokio::test]
async fn the_same_transaction_again_gets_the_stored_answer_and_does_nothing() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    let first = peer.put(&world, &path("t"), &body(&[pdu("!r:x", "$1")])).await.ok();
    let again = peer.put(&world, &path("t"), &body(&[pdu("!r:x", "$1")])).await.ok();
    assert_eq!(first, again);
    assert_eq!(world.local.calls().len(), 1);
    assert_eq!(world.store.0.lock().len(), 1);
    Peer::new("b.example").put(&world, &path("t"), &body(&[pdu("!r:x", "$1")])).await.ok();
    assert_eq!(world.local.calls().len(), 2, "another origin's transaction of this id is another one");
}

/// S2S 9.1 send.
#[tokio::test]
async fn the_same_transaction_while_the_first_runs_joins_it() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    let sent = body(&[pdu("!slow:x", "$1")]);
    let target = path("t");
    let release = async {
        until(|| world.local.at_work.0.load(Ordering::SeqCst) == 1).await;
        sleep(Duration::from_millis(50)).await;
        world.local.slow.add_permits(1);
    };
    let (one, two, ()) = tokio::join!(peer.put(&world, &target, &sent), peer.put(&world, &target, &sent), release);
    assert_eq!(one.ok(), two.ok());
    assert_eq!(world.local.calls().len(), 1);
}

#[tokio::test]
async fn a_transaction_goes_on_when_its_sender_hangs_up() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    let sent = body(&[pdu("!slow:x", "$1")]);
    let target = path("t");
    tokio::select! {
        _ = peer.put(&world, &target, &sent) => panic!("it cannot be answered yet"),
        () = until(|| world.local.at_work.0.load(Ordering::SeqCst) == 1) => {}
    }
    world.local.slow.add_permits(1);
    until(|| world.store.0.lock().len() == 1).await;
    assert_eq!(peer.put(&world, &target, &sent).await.ok(), json!({ "pdus": { "$1": {} } }));
    assert_eq!(world.local.calls().len(), 1);
}

/// S2S 9.1 send.
#[tokio::test]
async fn an_origin_has_one_transaction_at_a_time_and_others_are_not_kept_waiting() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    let (first, second) = (body(&[pdu("!slow:x", "$1")]), body(&[pdu("!r:x", "$2")]));
    let (one, two) = (path("1"), path("2"));
    let meanwhile = async {
        until(|| world.local.at_work.0.load(Ordering::SeqCst) == 1).await;
        Peer::new("b.example").put(&world, &one, &second).await.ok();
        sleep(Duration::from_millis(50)).await;
        assert_eq!(world.local.calls().len(), 1, "the second of the same origin waits");
        world.local.slow.add_permits(1);
    };
    let late = async {
        until(|| world.local.at_work.0.load(Ordering::SeqCst) == 1).await;
        peer.put(&world, &two, &second).await
    };
    let (first, second, ()) = tokio::join!(peer.put(&world, &one, &first), late, meanwhile);
    assert_eq!((first.status, second.status), (200, 200));
    assert!(world.local.calls()[2].starts_with("a.example receive !r:x"));
}

/// Hard case 55: a room that takes long holds up neither other rooms nor news; rooms side by side are bounded.
/// S2S 9.1 send.
#[tokio::test]
async fn slow_rooms_hold_up_neither_other_rooms_nor_news() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    let mut pdus: Vec<Value> =
        (0..TRANSACTION_ROOMS_PARALLEL_MAX - 1).map(|number| pdu(&format!("!slow{number}:x"), "$1")).collect();
    pdus.extend([pdu("!r:x", "$2"), pdu("!q:x", "$3")]);
    let typing =
        json!({ "edu_type": "m.typing", "content": { "room_id": "!r:x", "user_id": "@u:a.example", "typing": true } });
    let sent = json!({ "pdus": pdus, "edus": [typing] });
    let target = path("t");
    let meanwhile = async {
        until(|| world.local.calls().len() == 3).await;
        world.local.slow.add_permits(pdus.len());
    };
    let (answer, ()) = tokio::join!(peer.put(&world, &target, &sent), meanwhile);
    answer.ok();
    assert!(world.local.at_work.1.load(Ordering::SeqCst) <= TRANSACTION_ROOMS_PARALLEL_MAX);
}

#[tokio::test]
async fn a_server_that_cannot_look_now_asks_for_the_transaction_again() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    let sent = body(&[pdu("!r:x", "$1unavailable"), pdu("!q:x", "$2")]);
    let answer = peer.put(&world, &path("t"), &sent).await;
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains_key("retry-after"));
    assert!(world.store.0.lock().is_empty(), "the next try is not a repeat");
    let panicking = body(&[pdu("!panic:x", "$1"), pdu("!q:x", "$2")]);
    assert_eq!(peer.put(&world, &path("u"), &panicking).await.ok(), json!({ "pdus": { "$2": {} } }));
}

/// S2S 11 the work for one event is bounded.
#[tokio::test]
async fn events_are_charged_to_their_origin() {
    let rate = Rate { per_second: 1, burst: 60 };
    let world = World::with(|inbound| inbound.quotas = Quotas::new(Budget { pdus: rate, ..Budget::default() })).await;
    let peer = Peer::new("a.example");
    let pdus: Vec<Value> = (0..40).map(|number| pdu("!r:x", &format!("${number}"))).collect();
    peer.put(&world, &path("1"), &body(&pdus)).await.ok();
    let refused = peer.put(&world, &path("2"), &body(&pdus)).await;
    assert_eq!(refused.error(), (429, "M_LIMIT_EXCEEDED".to_owned()));
    assert!(refused.headers.contains_key("retry-after"));
    peer.put(&world, &path("1"), &body(&pdus)).await.ok();
    Peer::new("b.example").put(&world, &path("2"), &body(&pdus)).await.ok();
}

//! Sending to servers of this process whose answers are a script. The clock is moved; what happens at once is waited for.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::body::Body;
use futures_util::stream;
use http::Response;
use ruma::{event_id, room_id, server_name, user_id};
use serde_json::{Value, json, value::RawValue};

use super::*;
use crate::{
    Batch, Pdu, StorageUnavailable,
    limits::{SLOW_TRANSACTION, SLOW_WORKERS_MAX, WORKERS_MAX},
    testing::{Hands, Kept, Names, Scripted, Seen, Web, ambient, connections, hands, scripted},
};

/// A feed of numbered events for each peer.
#[derive(Default)]
struct Feed {
    events: Mutex<HashMap<OwnedServerName, VecDeque<u64>>>,
}

impl Outbox for Feed {
    type Cursor = usize;

    async fn destinations(&self) -> Result<Vec<OwnedServerName>, StorageUnavailable> {
        Ok(self.events.lock().keys().cloned().collect())
    }

    async fn next(&self, peer: &ServerName, pdus_max: usize) -> Result<Option<Batch<usize>>, StorageUnavailable> {
        let events = self.events.lock();
        let Some(events) = events.get(peer).filter(|events| !events.is_empty()) else { return Ok(None) };
        let pdus: Vec<Pdu> = events.iter().take(pdus_max).map(pdu).collect();
        Ok(Some(Batch { up_to: pdus.len(), pdus }))
    }

    async fn delivered(&self, peer: &ServerName, up_to: usize) -> Result<(), StorageUnavailable> {
        self.events.lock().get_mut(peer).unwrap().drain(..up_to);
        Ok(())
    }
}

fn pdu(number: &u64) -> Pdu {
    // An event with a float would make the whole transaction unreadable.
    let text = if *number == 666 { r#"{"n":0.5}"#.to_owned() } else { format!(r#"{{"n":{number}}}"#) };
    RawValue::from_string(text).unwrap()
}

type Answer = Arc<Mutex<Box<dyn Fn(&Seen) -> u16 + Send>>>;

struct World {
    outbound: Outbound<Kept, Feed>,
    feed: Arc<Feed>,
    hands: Arc<Hands>,
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Answer,
    connections: Arc<Connections<Kept>>,
}

fn world(answer: impl Fn(&Seen) -> u16 + Send + 'static) -> World {
    let answer: Answer = Arc::new(Mutex::new(Box::new(answer)));
    let script = Arc::clone(&answer);
    let peers = scripted(move |seen| (script.lock()(seen), r#"{"pdus":{"$x":{"error":"no"}}}"#.to_owned()));
    world_of(peers, answer)
}

fn world_of(peers: Scripted, answer: Answer) -> World {
    let (hands, seen, feed) = (hands(), Arc::clone(&peers.seen), Arc::<Feed>::default());
    let ambient = ambient(&hands);
    let discovery = Web::new().discovery(Names::default(), &[], ambient.clone());
    let connections = connections(discovery, peers, &Arc::default(), ambient);
    let outbound = Outbound::start(Arc::clone(&connections), Arc::clone(&feed));
    World { outbound, feed, hands, seen, answer, connections }
}

fn peer() -> OwnedServerName {
    server_name!("peer.test").to_owned()
}

impl World {
    fn owe(&self, server: &ServerName, events: impl IntoIterator<Item = u64>) {
        self.feed.events.lock().entry(server.to_owned()).or_default().extend(events);
        self.outbound.wake([server.to_owned()]);
    }

    /// Waits until it holds; real time passes only where it never does.
    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        for _ in 0..20_000 {
            if holds(self) {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("it never holds; seen: {:?}", self.transactions());
    }

    async fn delivered(&self) {
        self.until(|world| world.feed.events.lock().values().all(VecDeque::is_empty)).await;
        self.until(|world| world.outbound.shared.lanes.lock().running.is_empty()).await;
    }

    /// Until the next try has failed.
    async fn waits(&self) {
        self.until(|world| {
            let lanes = world.outbound.shared.lanes.lock();
            !lanes.waiting.is_empty() && lanes.running.is_empty()
        })
        .await;
    }

    /// Ids and numbers of events of all transactions.
    fn transactions(&self) -> Vec<(String, Vec<u64>)> {
        let seen = self.seen.lock();
        seen.iter().map(|seen| (seen.target().to_owned(), numbers(seen))).collect()
    }
}

fn body(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

fn numbers(seen: &Seen) -> Vec<u64> {
    body(seen)["pdus"].as_array().unwrap().iter().map(|pdu| pdu["n"].as_u64().unwrap()).collect()
}

fn typing(user: &str, is_typing: bool) -> Edu {
    let user_id = ruma::UserId::parse(user).unwrap();
    Edu::Typing { room_id: room_id!("!r:us.test").to_owned(), user_id, is_typing }
}

/// S2S 16 one transaction at a time.
#[tokio::test]
async fn what_is_owed_is_sent_in_order_in_transactions_of_fifty() {
    let world = world(|_| 200);
    world.owe(&peer(), 0..120);
    world.delivered().await;
    let transactions = world.transactions();
    assert_eq!(transactions.iter().map(|(_, numbers)| numbers.len()).collect::<Vec<_>>(), [50, 50, 20]);
    assert!(transactions.into_iter().flat_map(|(_, numbers)| numbers).eq(0..120));
    let seen = world.seen.lock();
    let ids: BTreeSet<_> = seen.iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(body(&seen[0])["origin"], "us.test");
}

/// S2S 16 queues of dead servers.
#[tokio::test]
async fn servers_that_take_long_to_answer_keep_no_turns_from_others() {
    let open = Arc::new(watch::Sender::new(false));
    let gate = Arc::clone(&open);
    let peers = Scripted::exactly(move |seen| {
        let mut gate = gate.subscribe();
        let is_slow = seen.header("host").unwrap().starts_with("slow");
        let text = async move {
            if is_slow {
                gate.wait_for(|is_open| *is_open).await.unwrap();
            }
            Ok::<_, Infallible>("{}")
        };
        Response::new(Body::from_stream(stream::once(text)))
    });
    let world = world_of(peers, Arc::new(Mutex::new(Box::new(|_| 200))));
    let server = |name: &str| ServerName::parse(name).unwrap();
    let slow: Vec<_> =
        (0..WORKERS_MAX + SLOW_WORKERS_MAX).map(|number| server(&format!("slow{number}.test"))).collect();
    let running = |world: &World| world.outbound.shared.lanes.lock().running.len();
    let other = server("z.test");
    let has_got = |world: &World| world.feed.events.lock()[&other].is_empty();

    slow.iter().for_each(|server| world.owe(server, [1]));
    world.until(|world| world.seen.lock().len() == WORKERS_MAX).await;
    world.owe(&other, [1]);
    world.hands.advance(SLOW_TRANSACTION);
    world.until(has_got).await;

    open.send_replace(true);
    world.delivered().await;
    open.send_replace(false);
    // Those that were asked after the clock was moved were quick.
    let slow = world.outbound.shared.lanes.lock().slow.clone();
    assert_eq!(slow.len(), WORKERS_MAX);
    slow.iter().for_each(|server| world.owe(server, [2]));
    world.until(|world| running(world) == SLOW_WORKERS_MAX).await;
    world.owe(&other, [2]);
    world.until(has_got).await;
    assert!(running(&world) <= SLOW_WORKERS_MAX + 1);
    // Who is no longer slow is one of the others again.
    open.send_replace(true);
    world.delivered().await;
    assert!(world.outbound.shared.lanes.lock().slow.is_empty());
}

/// S2S 16: ids of transactions are never used again, also after a restart.
#[tokio::test]
async fn no_start_uses_the_ids_of_another() {
    let mut ids = BTreeSet::new();
    for start in 0..5_u64 {
        let peers = scripted(|_| (200, "{}".to_owned()));
        let (hands, seen, feed) = (hands(), Arc::clone(&peers.seen), Arc::<Feed>::default());
        let discovery = Web::new().discovery(Names::default(), &[], ambient(&hands));
        // Two starts at the same time of the same clock have their own chance.
        let chance = crate::testing::ambient_with(crate::testing::Lots::always(start));
        let connections = connections(discovery, peers, &Arc::default(), chance);
        let outbound = Outbound::start(connections, Arc::clone(&feed));
        for number in 0..3 {
            feed.events.lock().entry(peer()).or_default().push_back(number);
            outbound.wake([peer()]);
            let mut looks = 0;
            while !feed.events.lock().values().all(VecDeque::is_empty) {
                tokio::task::yield_now().await;
                looks += 1;
                assert!(looks < 20_000, "it is sent");
            }
        }
        let sent: Vec<String> = seen.lock().iter().map(|seen| seen.target().to_owned()).collect();
        assert_eq!(sent.len(), 3);
        ids.extend(sent);
        outbound.stop().await;
    }
    assert_eq!(ids.len(), 15);
}

#[tokio::test]
async fn what_nobody_woke_for_is_found_at_start_and_by_looking() {
    let world = world(|_| 200);
    world.feed.events.lock().entry(peer()).or_default().push_back(1);
    world.delivered().await;
    world.feed.events.lock().entry(peer()).or_default().push_back(2);
    for _ in 0..3 {
        world.hands.advance(crate::limits::OUTBOX_LOOK_INTERVAL);
        tokio::task::yield_now().await;
    }
    world.delivered().await;
    assert_eq!(world.seen.lock().len(), 2);
}

/// S2S 16 one transaction at a time.
#[tokio::test]
async fn a_transaction_is_repeated_with_the_same_id_and_content_until_it_is_answered() {
    let world = world(|_| 502);
    world.owe(&peer(), [1]);
    world.waits().await;
    // More comes while it is on its way: it is for the next one.
    world.owe(&peer(), [2]);
    for _ in 0..4 {
        let seen = world.seen.lock().len();
        world.hands.advance(Duration::from_secs(40));
        world.until(|world| world.seen.lock().len() > seen).await;
        world.waits().await;
    }
    *world.answer.lock() = Box::new(|_| 200);
    world.hands.advance(Duration::from_secs(60));
    world.delivered().await;
    let transactions = world.transactions();
    let (last, repeats) = transactions.split_last().unwrap();
    assert_eq!(repeats.len(), 6);
    assert!(repeats.iter().all(|repeat| *repeat == repeats[0] && repeat.1 == [1]), "{repeats:?}");
    assert_eq!(last.1, [2]);
    assert_ne!(last.0, repeats[0].0);
    let seen = world.seen.lock();
    assert!(seen[..6].iter().all(|repeat| repeat.body == seen[0].body));
}

#[tokio::test]
async fn a_server_that_comes_back_gets_everything_at_once() {
    let world = world(|_| 502);
    world.owe(&peer(), [1]);
    world.waits().await;
    *world.answer.lock() = Box::new(|_| 200);
    world.connections.heard_from(&peer()).await.unwrap();
    world.delivered().await;

    *world.answer.lock() = Box::new(|_| 502);
    world.owe(&peer(), [2]);
    world.waits().await;
    let status = world.outbound.status(&peer()).await.unwrap();
    assert_eq!((status.pdus_in_flight, status.standing.failures, status.is_sending), (1, 1, false));
    assert_eq!(status.next_try, status.standing.next_try);
    assert!(status.standing.last_error.is_some());
    *world.answer.lock() = Box::new(|_| 200);
    world.outbound.reset(&peer()).await.unwrap();
    world.delivered().await;
}

/// S2S 16 what each status means.
#[tokio::test]
async fn a_transaction_that_is_too_large_is_cut_until_it_fits() {
    let world = world(|seen| if numbers(seen).len() > 1 || numbers(seen) == [2] { 413 } else { 200 });
    world.owe(&peer(), 0..5);
    world.delivered().await;
    let accepted = world.transactions().into_iter().filter(|(_, numbers)| numbers.len() == 1 && *numbers != [2]);
    assert!(accepted.flat_map(|(_, numbers)| numbers).eq([0, 1, 3, 4]));
}

/// S2S 16 what each status means.
#[tokio::test]
async fn a_bad_request_is_given_up_and_a_refusal_is_tried_again_later() {
    let world = world(|seen| if numbers(seen) == [1] { 400 } else { 200 });
    world.owe(&peer(), [1]);
    world.delivered().await;
    *world.answer.lock() = Box::new(|_| 403);
    world.owe(&peer(), [2]);
    world.waits().await;
    let tried = world.seen.lock().len();
    for _ in 0..3600 {
        world.hands.advance(Duration::from_secs(1));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    let tries = world.seen.lock().len() - tried;
    assert!((6..=14).contains(&tries), "{tries}");
}

/// Hard case 42.
#[tokio::test]
async fn an_event_that_is_no_canonical_json_does_not_block_the_others() {
    let world = world(|_| 200);
    world.owe(&peer(), [1, 666, 2]);
    world.owe(server_name!("other.test"), [666]);
    world.delivered().await;
    assert_eq!(world.transactions().into_iter().map(|(_, numbers)| numbers).collect::<Vec<_>>(), [[1, 2]]);
}

#[tokio::test]
async fn one_dead_server_does_not_hold_up_others() {
    let world = world(|seen| if seen.header("host").unwrap() == "peer.test" { 502 } else { 200 });
    for number in 0..200 {
        world.owe(&ServerName::parse(format!("s{number}.test")).unwrap(), [number]);
    }
    world.owe(&peer(), [1]);
    let others = |world: &World| world.feed.events.lock().values().map(VecDeque::len).sum::<usize>() == 1;
    world.until(others).await;
}

#[tokio::test]
async fn of_typing_only_the_latest_is_sent_and_nothing_to_servers_that_do_not_answer() {
    let world = world(|_| 200);
    let read = Edu::Read {
        room_id: room_id!("!r:us.test").to_owned(),
        user_id: user_id!("@a:us.test").to_owned(),
        event_id: event_id!("$e").to_owned(),
        at: MilliSecondsSinceUnixEpoch(ruma::uint!(5)),
    };
    for edu in [typing("@a:us.test", true), typing("@b:us.test", true), read, typing("@a:us.test", false)] {
        world.outbound.edu([peer(), server_name!("us.test").to_owned()], &edu);
    }
    world.until(|world| !world.seen.lock().is_empty()).await;
    world.delivered().await;
    let sent = body(&world.seen.lock()[0])["edus"].clone();
    let typing_of = |user: &str, is_typing: bool| json!({ "edu_type": "m.typing", "content": { "room_id": "!r:us.test", "user_id": user, "typing": is_typing } });
    let receipt = json!({ "@a:us.test": { "event_ids": ["$e"], "data": { "ts": 5 } } });
    let receipt = json!({ "edu_type": "m.receipt", "content": { "!r:us.test": { "m.read": receipt } } });
    assert_eq!(sent, json!([typing_of("@a:us.test", false), typing_of("@b:us.test", true), receipt]));

    *world.answer.lock() = Box::new(|_| 502);
    world.outbound.edu([peer()], &typing("@c:us.test", true));
    world.waits().await;
    world.outbound.edu([peer()], &typing("@d:us.test", true));
    let sent = world.seen.lock().len();
    *world.answer.lock() = Box::new(|_| 200);
    world.hands.advance(Duration::from_secs(60));
    world.owe(&peer(), [1]);
    world.delivered().await;
    let seen = world.seen.lock();
    assert_eq!(seen.len(), sent + 1);
    assert_eq!(body(&seen[sent])["edus"], json!([]));
}

/// S2S 16 nothing is sent to servers that left.
#[test]
fn what_waits_for_one_server_is_bounded() {
    let mut edus = Edus::default();
    for number in 0..crate::limits::EDUS_WAITING_MAX + 5 {
        edus.push(typing(&format!("@u{number}:us.test"), true));
    }
    assert_eq!(edus.len(), crate::limits::EDUS_WAITING_MAX);
    assert_eq!(edus.take(1), [typing("@u5:us.test", true)]);
}

#[tokio::test]
async fn after_stopping_nothing_is_sent() {
    let world = world(|_| 200);
    world.owe(&peer(), [1]);
    world.delivered().await;
    let World { outbound, feed, seen, .. } = world;
    let shared = Arc::clone(&outbound.shared);
    outbound.stop().await;
    feed.events.lock().entry(peer()).or_default().push_back(2);
    shared.lanes.lock().ready.insert(peer());
    shared.woken.notify_one();
    tokio::task::yield_now().await;
    assert_eq!(seen.lock().len(), 1);
}

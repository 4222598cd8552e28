//! Keys of servers in this process, whose answers are a script. The clock is moved.

use futures_util::FutureExt as _;
use ruma::{server_name, signatures::sign_json};
use serde_json::{Value, json};

use super::*;
use crate::{
    discovery::Discovery,
    our_keys::{SigningKey, unpadded},
    testing::{Hands, Kept, Names, START, Web, ambient, connections, hands, scripted},
};

const DAY: u64 = 24 * 60 * 60 * 1000;

struct World {
    keys: Arc<ServerKeys<Kept>>,
    hands: Arc<Hands>,
    store: Arc<Kept>,
    document: Arc<Mutex<Value>>,
    fetches: Arc<Mutex<Vec<crate::testing::Seen>>>,
}

fn discovery(ambient: Ambient) -> Discovery {
    Web::new().discovery(Names::default(), &[], ambient)
}

fn world_with(refused: BTreeSet<[u8; 32]>, store: Arc<Kept>) -> World {
    let (hands, document) = (hands(), Arc::new(Mutex::new(Value::Null)));
    let shown = Arc::clone(&document);
    let peers = scripted(move |_| match &*shown.lock() {
        Value::Null => (500, String::new()),
        document => (200, document.to_string()),
    });
    let (fetches, ambient) = (Arc::clone(&peers.seen), ambient(&hands));
    let connections = connections(discovery(ambient.clone()), peers, &store, ambient);
    World { keys: Arc::new(ServerKeys::new(connections, refused)), hands, store, document, fetches }
}

fn world() -> World {
    world_with(BTreeSet::new(), Arc::default())
}

fn key(number: u8) -> SigningKey {
    SigningKey::new(&format!("k{number}"), &[number; 32]).unwrap()
}

fn key_id(number: u8) -> OwnedServerSigningKeyId {
    key(number).key_id().as_str().try_into().unwrap()
}

fn at(milliseconds: u64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(milliseconds.try_into().unwrap())
}

/// A document of `peer.test` with these keys in use, signed by them.
fn document(current: &[u8], valid_until: u64, old: Value) -> Value {
    let published = |number: &u8| (key(*number).key_id(), json!({ "key": unpadded(&key(*number).public_key()) }));
    let keys: serde_json::Map<_, _> = current.iter().map(published).collect();
    let document = json!({
        "server_name": "peer.test", "verify_keys": keys, "old_verify_keys": old, "valid_until_ts": valid_until,
    });
    signed(document, current)
}

fn signed(document: Value, signers: &[u8]) -> Value {
    let mut document: CanonicalJsonObject = serde_json::from_value(document).unwrap();
    for number in signers {
        sign_json("peer.test", &key(*number), &mut document).unwrap();
    }
    serde_json::to_value(&document).unwrap()
}

impl World {
    fn publish(&self, document: Value) {
        *self.document.lock() = document;
    }

    async fn for_request(&self, number: u8) -> Option<[u8; 32]> {
        let keys = self.keys.for_request(server_name!("peer.test"), &[key_id(number)].into()).await.unwrap();
        keys.get(&key_id(number)).copied()
    }

    async fn for_event(&self, number: u8, made_at: u64) -> Option<Validity> {
        let server = server_name!("peer.test").to_owned();
        let keys = self.keys.for_events(&[(server.clone(), key_id(number))].into(), at(made_at)).await.unwrap();
        Some(keys[&server].get(&key_id(number))?.validity)
    }

    fn fetches(&self) -> usize {
        self.fetches.lock().len()
    }
}

/// S2S 4 keys are kept for ever and their bytes never change. S2S 4 the cache.
#[tokio::test]
async fn a_key_is_fetched_once_and_kept() {
    let world = world();
    world.publish(document(&[1], START + DAY, json!({})));
    for _ in 0..3 {
        assert_eq!(world.for_request(1).await, Some(key(1).public_key()));
    }
    assert_eq!(world.fetches(), 1);
    let seen = world.fetches.lock()[0].clone();
    assert_eq!((seen.line.as_str(), seen.header("authorization")), ("GET /_matrix/key/v2/server", None));

    let after_restart = world_with(BTreeSet::new(), Arc::clone(&world.store));
    assert_eq!(after_restart.for_request(1).await, Some(key(1).public_key()));
    assert_eq!(after_restart.fetches(), 0);
}

/// Hard case 14. S2S 4 keys are fetched only when needed.
#[tokio::test]
async fn an_unknown_key_asked_for_a_thousand_times_is_one_fetch() {
    let world = world();
    world.publish(document(&[1], START + DAY, json!({})));
    for _ in 0..1000 {
        assert_eq!(world.for_request(2).await, None);
    }
    assert_eq!(world.fetches(), 1);
    // Nor do a thousand unknown keys cause more.
    for number in 3..=255 {
        assert_eq!(world.for_request(number).await, None);
    }
    assert_eq!(world.fetches(), 1);
    // A new key of the server is found a minute later all the same.
    world.publish(document(&[1, 9], START + DAY, json!({})));
    world.hands.advance(KEY_FETCH_PAUSE_MIN);
    assert_eq!(world.for_request(9).await, Some(key(9).public_key()));
}

/// S2S 4 keys are fetched only when needed.
#[tokio::test]
async fn many_who_ask_together_cause_one_fetch() {
    let world = world();
    world.publish(document(&[1], START + DAY, json!({})));
    let (one, two, three) = tokio::join!(world.for_request(1), world.for_request(1), world.for_request(1));
    assert!([one, two, three].iter().all(Option::is_some));
    assert_eq!(world.fetches(), 1);
}

/// S2S 4 keys are fetched only when needed.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_fetch_of_keys_that_somebody_else_has_named() {
    let world = world();
    world.publish(document(&[1], START + DAY, json!({})));
    assert_eq!(world.for_request(1).await, Some(key(1).public_key()));
    let remembered = world.keys.remembered(server_name!("peer.test"));
    let _fetch = remembered.entry.lock().await;
    assert_eq!(world.for_request(1).now_or_never(), Some(Some(key(1).public_key())));
}

/// S2S 4 keys are fetched only when needed.
#[tokio::test(start_paused = true)]
async fn requests_in_the_name_of_slow_servers_hold_up_no_events() {
    let world = world();
    world.publish(document(&[1], START + DAY, json!({})));
    let turns = u32::try_from(KEY_FETCHES_MAX).unwrap();
    let _all = world.keys.request_fetches.acquire_many(turns).await.unwrap();
    assert_eq!(world.for_request(1).await, None, "it waits for its turn, and not for ever");
    world.hands.advance(KEY_FETCH_PAUSE_MAX * 2);
    assert!(world.for_event(1, START).await.is_some());
}

/// S2S 4 keys are kept for ever and their bytes never change.
#[tokio::test]
async fn of_a_server_that_shows_ever_new_keys_only_so_many_are_kept() {
    let world = world();
    let old = |from: usize| {
        let key = |number: usize| (format!("ed25519:o{number}"), json!({ "key": unpadded(&[7; 32]), "expired_ts": 1 }));
        Value::Object((from..from + 60).map(key).collect())
    };
    for round in 0..KEYS_KEPT_MAX / 60 + 3 {
        world.publish(document(&[1], START + 30 * DAY, old(round * 60)));
        world.for_request(2).await;
        world.hands.advance(KEY_FETCH_PAUSE_MAX * 2);
    }
    assert_eq!(world.store.server_keys(server_name!("peer.test")).await.unwrap().len(), KEYS_KEPT_MAX);
    assert_eq!(world.for_request(1).await, Some(key(1).public_key()));
}

/// S2S 4 keys are fetched only when needed.
#[tokio::test]
async fn a_server_that_fails_is_asked_less_and_less_often() {
    let world = world();
    for _ in 0..24 * 60 {
        assert_eq!(world.for_request(1).await, None);
        world.hands.advance(Duration::from_secs(60));
    }
    assert!((20..=40).contains(&world.fetches()), "{}", world.fetches());
}

/// S2S 4 how long a key is good. S2S 4 requests are signed with a current key only.
#[tokio::test]
async fn a_key_is_believed_for_seven_days_whatever_the_document_says() {
    let world = world();
    world.publish(document(&[1], START + 1000 * DAY, json!({})));
    assert_eq!(world.for_event(1, START).await, Some(Validity::Until(at(START + 7 * DAY))));
    world.publish(Value::Null);
    world.hands.advance(Duration::from_millis(7 * DAY));
    assert!(world.for_request(1).await.is_some());
    world.hands.advance(Duration::from_millis(1));
    assert_eq!(world.for_request(1).await, None);
    // For old events it still counts.
    assert_eq!(world.for_event(1, START).await, Some(Validity::Until(at(START + 7 * DAY))));
}

/// Hard case 12. S2S 4 requests are signed with a current key only.
#[tokio::test]
async fn an_old_key_is_for_old_events_and_never_for_requests() {
    let world = world();
    let old = json!({ "ed25519:k2": { "key": unpadded(&key(2).public_key()), "expired_ts": START - DAY } });
    world.publish(document(&[1], START + DAY, old));
    assert_eq!(world.for_request(2).await, None);
    assert_eq!(world.for_event(2, START - 2 * DAY).await, Some(Validity::Expired(at(START - DAY))));
}

/// S2S 4 keys are fetched only when needed.
#[tokio::test]
async fn events_of_the_future_do_not_cause_a_fetch_each() {
    let world = world();
    world.publish(document(&[1], START + DAY, json!({})));
    for _ in 0..100 {
        world.for_event(1, START + 900 * DAY).await.unwrap();
    }
    assert_eq!(world.fetches(), 1);
}

/// S2S 4 keys are kept for ever and their bytes never change.
#[tokio::test]
async fn the_bytes_behind_a_key_id_never_change() {
    let world = world();
    world.publish(document(&[1], START + DAY, json!({})));
    assert_eq!(world.for_request(1).await, Some(key(1).public_key()));
    let other = SigningKey::new("k1", &[99; 32]).unwrap();
    let mut changed: CanonicalJsonObject = serde_json::from_value(json!({
        "server_name": "peer.test", "valid_until_ts": START + 5 * DAY,
        "verify_keys": { "ed25519:k1": { "key": unpadded(&other.public_key()) } },
    }))
    .unwrap();
    sign_json("peer.test", &other, &mut changed).unwrap();
    world.publish(serde_json::to_value(&changed).unwrap());
    world.hands.advance(Duration::from_millis(2 * DAY));
    assert_eq!(world.for_request(1).await, None);
    assert_eq!(world.fetches(), 2);
    assert_eq!(world.for_event(1, START).await, Some(Validity::Until(at(START + DAY))));
}

/// Hard case 13.
#[tokio::test]
async fn the_key_of_the_specifications_examples_counts_for_nothing() {
    let world = world();
    let seed = Base64::<Standard, [u8; 32]>::parse("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1").unwrap();
    let published = SigningKey::new("k1", seed.as_inner()).unwrap();
    let mut document: CanonicalJsonObject = serde_json::from_value(json!({
        "server_name": "peer.test", "valid_until_ts": START + DAY,
        "verify_keys": { "ed25519:k1": { "key": unpadded(&published.public_key()) } },
    }))
    .unwrap();
    sign_json("peer.test", &published, &mut document).unwrap();
    world.publish(serde_json::to_value(&document).unwrap());
    assert_eq!((world.for_request(1).await, world.for_event(1, START).await), (None, None));
    assert_eq!(world.fetches(), 1);
}

/// Hard case 13.
#[tokio::test]
async fn published_keys_on_the_list_count_for_nothing() {
    let world = world_with([key(1).public_key()].into(), Arc::default());
    world.publish(document(&[1, 2], START + DAY, json!({})));
    assert_eq!(world.for_request(1).await, None);
    assert_eq!(world.for_event(1, START).await, None);
    world.hands.advance(KEY_FETCH_PAUSE_MIN);
    assert_eq!(world.for_request(2).await, Some(key(2).public_key()));
}

/// S2S 4 the form of key ids and keys. S2S 4 what is checked of a document that was fetched.
#[test]
fn a_document_is_taken_only_when_it_is_the_servers_own() {
    let good = document(&[1, 2], START + DAY, json!({}));
    let read = |document: &Value| {
        let document = serde_json::from_value(document.clone()).unwrap();
        document::keys_of(server_name!("peer.test"), &document, at(START))
    };
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut document = good.clone();
        change(&mut document);
        read(&document)
    };
    assert_eq!(read(&good).unwrap().len(), 2);
    // One signature is enough, but none may be wrong; keys that cannot be read are left out.
    let without = |id: &'static str| {
        move |document: &mut Value| {
            document["signatures"]["peer.test"].as_object_mut().unwrap().remove(id);
        }
    };
    assert_eq!(changed(&without("ed25519:k1")).unwrap().len(), 2);
    let unreadable =
        json!({ "ed25519:k1": { "key": unpadded(&key(1).public_key()) }, "ed25519:x": { "key": "AA" }, "rsa:1": 5 });
    let odd = json!({ "server_name": "peer.test", "valid_until_ts": "soon", "verify_keys": unreadable });
    let odd = read(&signed(odd, &[1])).unwrap();
    assert_eq!(odd.len(), 1);
    assert_eq!(odd[&key_id(1)].validity, Validity::Until(at(0)));

    changed(&|document| document["server_name"] = json!("Peer.test")).unwrap_err();
    changed(&|document| document["valid_until_ts"] = json!(5)).unwrap_err();
    changed(&|document| document["signatures"]["peer.test"]["ed25519:k1"] = json!("AAAA")).unwrap_err();
    changed(&|document| document["signatures"] = json!({})).unwrap_err();
    changed(&|document| document["signatures"] = json!({ "other.test": document["signatures"]["peer.test"] }))
        .unwrap_err();
    read(&document(&[], START + DAY, json!({}))).unwrap_err();
}

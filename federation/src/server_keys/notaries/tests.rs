//! Rows of section 4, `Keys`: the order cache, origin, notaries; being a notary. Servers in this process whose answers are a script; the clock is moved.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use ruma::{OwnedServerName, server_name, signatures::sign_json};
use serde_json::{Value, json};

use super::*;
use crate::{
    Validity,
    discovery::Discovery,
    limits::KEY_FETCH_PAUSE_MIN,
    our_keys::{SigningKey, unpadded},
    testing::{Hands, Kept, Names, START, Seen, Web, ambient, connections, hands, scripted},
};

const HOUR: u64 = 60 * 60 * 1000;

/// What each server answers; none: it is down.
type Documents = Arc<Mutex<HashMap<String, Value>>>;

struct World {
    keys: Arc<ServerKeys<Kept>>,
    hands: Arc<Hands>,
    store: Arc<Kept>,
    /// The document of each server that is up.
    up: Documents,
    /// What the notary tells.
    told: Arc<Mutex<Value>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

fn world() -> World {
    world_on(Arc::default())
}

fn world_on(store: Arc<Kept>) -> World {
    let (hands, up, told) = (hands(), Documents::default(), Arc::new(Mutex::new(json!({ "server_keys": [] }))));
    up.lock().insert("notary.test".to_owned(), document("notary.test", 9, START + 24 * HOUR));
    let (shown, telling) = (Arc::clone(&up), Arc::clone(&told));
    let peers = scripted(move |seen| {
        if seen.line.starts_with("POST /_matrix/key/v2/query") {
            return (200, telling.lock().to_string());
        }
        let host = seen.header("host").unwrap();
        shown.lock().get(&host).map_or((500, String::new()), |document| (200, document.to_string()))
    });
    let (seen, ambient) = (Arc::clone(&peers.seen), ambient(&hands));
    let discovery: Discovery = Web::new().discovery(Names::default(), &[], ambient.clone());
    let connections = connections(discovery, peers, &store, ambient);
    let notaries: Vec<OwnedServerName> = vec![server_name!("notary.test").to_owned()];
    let keys = Arc::new(ServerKeys::new(connections, BTreeSet::new()).with_notaries(notaries));
    World { keys, hands, store, up, told, seen }
}

fn key(number: u8) -> SigningKey {
    SigningKey::new(&format!("k{number}"), &[number; 32]).unwrap()
}

fn at(milliseconds: u64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(milliseconds.try_into().unwrap())
}

fn document(server: &str, number: u8, valid_until: u64) -> Value {
    let keys = json!({ key(number).key_id(): { "key": unpadded(&key(number).public_key()) } });
    let document = json!({ "server_name": server, "verify_keys": keys, "valid_until_ts": valid_until });
    signed(document, server, number)
}

fn signed(document: Value, server: &str, number: u8) -> Value {
    let mut document: CanonicalJsonObject = serde_json::from_value(document).unwrap();
    sign_json(server, &key(number), &mut document).unwrap();
    serde_json::to_value(&document).unwrap()
}

impl World {
    async fn for_event(&self, number: u8, made_at: u64) -> Option<Validity> {
        let server = server_name!("peer.test").to_owned();
        let key_id: OwnedServerSigningKeyId = key(number).key_id().as_str().try_into().unwrap();
        let keys = self.keys.for_events(&[(server.clone(), key_id.clone())].into(), at(made_at)).await.unwrap();
        Some(keys[&server].get(&key_id)?.validity)
    }

    fn is_told(&self, documents: &[Value]) {
        *self.told.lock() = json!({ "server_keys": documents });
    }

    fn asked(&self, what: &str) -> usize {
        self.seen.lock().iter().filter(|seen| seen.line.contains(what)).count()
    }

    async fn tell(&self, minimum: u64) -> Option<Value> {
        let document = self.keys.document(server_name!("peer.test"), at(minimum)).await.unwrap();
        document.map(|document| serde_json::to_value(&document).unwrap())
    }
}

#[tokio::test]
async fn a_notary_is_asked_for_keys_of_a_server_that_is_away() {
    let world = world();
    world.is_told(&[signed(document("peer.test", 1, START + HOUR), "notary.test", 9)]);
    assert_eq!(world.for_event(1, START).await, Some(Validity::Until(at(START + HOUR))));
    let seen = world.seen.lock().iter().find(|seen| seen.line.starts_with("POST")).cloned().unwrap();
    let question: Value = serde_json::from_slice(&seen.body).unwrap();
    let asked = json!({ "peer.test": { "ed25519:k1": { "minimum_valid_until_ts": START } } });
    assert_eq!((&question["server_keys"], seen.header("authorization")), (&asked, None));
    // It is kept, as from the server itself.
    let restarted = world_on(Arc::clone(&world.store));
    assert!(restarted.for_event(1, START).await.is_some() && restarted.seen.lock().is_empty());
}

#[tokio::test]
async fn who_answers_itself_is_not_asked_about() {
    let world = world();
    world.up.lock().insert("peer.test".to_owned(), document("peer.test", 1, START + HOUR));
    assert!(world.for_event(1, START).await.is_some());
    assert_eq!(world.asked("POST"), 0);
    // Nor is a notary about itself or another one.
    let key_id: OwnedServerSigningKeyId = key(3).key_id().as_str().try_into().unwrap();
    let notary = server_name!("notary.test").to_owned();
    let known = world.keys.for_events(&[(notary.clone(), key_id)].into(), at(START)).await.unwrap();
    assert!(known[&notary].is_empty());
    assert_eq!(world.asked("POST"), 0);
}

#[tokio::test]
async fn what_a_notary_tells_counts_only_with_both_signatures() {
    let good = document("peer.test", 1, START + HOUR);
    let unsigned_by_itself = {
        let mut document = good.clone();
        document["signatures"] = json!({});
        signed(document, "notary.test", 9)
    };
    let altered = {
        let mut document = signed(good.clone(), "notary.test", 9);
        document["valid_until_ts"] = json!(START + 2 * HOUR);
        document
    };
    let cases = [
        good.clone(),
        unsigned_by_itself,
        altered,
        signed(good.clone(), "notary.test", 8),
        signed(good.clone(), "other.test", 9),
        signed(document("other.test", 1, START + HOUR), "notary.test", 9),
        json!(5),
    ];
    for told in cases {
        let world = world();
        world.is_told(std::slice::from_ref(&told));
        assert_eq!(world.for_event(1, START).await, None, "{told}");
    }
    // One among them that is right counts.
    let world = world();
    world.is_told(&[json!([]), good.clone(), signed(good, "notary.test", 9)]);
    assert!(world.for_event(1, START).await.is_some());
}

#[tokio::test]
async fn a_notary_changes_no_key_that_is_known_and_revives_none() {
    let world = world();
    let old = json!({ "ed25519:k2": { "key": unpadded(&key(2).public_key()), "expired_ts": START - HOUR } });
    let mut first = document("peer.test", 1, START + HOUR);
    first["old_verify_keys"] = old;
    first["signatures"] = json!({});
    world.up.lock().insert("peer.test".to_owned(), signed(first, "peer.test", 1));
    assert!(world.for_event(1, START).await.is_some());
    world.up.lock().remove("peer.test");
    world.hands.advance(KEY_FETCH_PAUSE_MIN);
    let impostor = SigningKey::new("k1", &[99; 32]).unwrap();
    let keys = json!({ "ed25519:k1": { "key": unpadded(&impostor.public_key()) } });
    let mut forged: CanonicalJsonObject = serde_json::from_value(json!({
        "server_name": "peer.test", "verify_keys": keys, "valid_until_ts": START + 9 * HOUR,
    }))
    .unwrap();
    sign_json("peer.test", &impostor, &mut forged).unwrap();
    let forged = serde_json::to_value(&forged).unwrap();
    // From before the second key ended.
    let stale = document("peer.test", 2, START + 9 * HOUR);
    world.is_told(&[signed(forged, "notary.test", 9), signed(stale, "notary.test", 9)]);
    assert_eq!(world.for_event(1, START + 5 * HOUR).await, Some(Validity::Until(at(START + HOUR))));
    assert_eq!(world.asked("POST"), 1);
    assert_eq!(world.for_event(2, START).await, Some(Validity::Expired(at(START - HOUR))));
}

#[tokio::test]
async fn as_a_notary_we_tell_the_last_document_and_fetch_it_anew_when_half_of_its_time_is_over() {
    let world = world();
    assert_eq!(world.tell(START).await, None);
    let publish = |until: u64| world.up.lock().insert("peer.test".to_owned(), document("peer.test", 1, until));
    let until = |told: &Option<Value>| told.as_ref().map(|document| document["valid_until_ts"].as_u64().unwrap());
    publish(START + 4 * HOUR);
    // The failure is remembered for a while.
    assert_eq!(world.tell(START).await, None);
    world.hands.advance(Duration::from_millis(HOUR));
    assert_eq!(until(&world.tell(START).await), Some(START + 4 * HOUR));
    let fetched = world.asked("GET");
    world.hands.advance(Duration::from_millis(HOUR));
    publish(START + 8 * HOUR);
    assert_eq!((until(&world.tell(START).await), world.asked("GET")), (Some(START + 4 * HOUR), fetched));
    // Longer than it lasts.
    assert_eq!(until(&world.tell(START + 5 * HOUR).await), Some(START + 8 * HOUR));
    world.hands.advance(Duration::from_millis(3 * HOUR));
    publish(START + 20 * HOUR);
    assert_eq!(until(&world.tell(START).await), Some(START + 20 * HOUR), "half of its time was over");
    // Down, also after a restart.
    world.up.lock().remove("peer.test");
    world.hands.advance(Duration::from_millis(100 * HOUR));
    assert_eq!(until(&world.tell(START).await), Some(START + 20 * HOUR));
    let restarted = world_on(Arc::clone(&world.store));
    assert_eq!(until(&restarted.tell(START).await), Some(START + 20 * HOUR));
}

#[tokio::test]
async fn as_a_notary_we_tell_nothing_that_contradicts_what_we_know() {
    let world = world();
    world.up.lock().insert("peer.test".to_owned(), document("peer.test", 1, START + HOUR));
    assert!(world.tell(START).await.is_some());
    let impostor = SigningKey::new("k1", &[99; 32]).unwrap();
    let keys = json!({ "ed25519:k1": { "key": unpadded(&impostor.public_key()) } });
    let other = json!({ "server_name": "peer.test", "verify_keys": keys, "valid_until_ts": START + 90 * HOUR });
    let mut other: CanonicalJsonObject = serde_json::from_value(other).unwrap();
    sign_json("peer.test", &impostor, &mut other).unwrap();
    world.up.lock().insert("peer.test".to_owned(), serde_json::to_value(&other).unwrap());
    world.hands.advance(Duration::from_millis(HOUR));
    assert_eq!(world.tell(START).await.unwrap()["valid_until_ts"], START + HOUR);
}

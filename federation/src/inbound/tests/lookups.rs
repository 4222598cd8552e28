//! The rows of sections 9.3 to 9.5: queries, devices, keys, version, well-known.

use http::Method;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue,
    serde::Base64,
    signatures::{PublicKeyMap, verify_json},
};
use serde_json::{Value, json};

use super::world::{NOW, Peer, World};
use crate::our_keys::SigningKey;

const F: &str = "/_matrix/federation/v1";

async fn get(world: &World, target: &str) -> super::world::Answer {
    Peer::new("a.example").get(world, &format!("{F}/{target}")).await
}

/// Row `GET v1/query/directory`.
/// S2S 9.3 query/directory.
#[tokio::test]
async fn directory_answers_for_our_aliases_only() {
    let world = World::new().await;
    let answer = get(&world, "query/directory?room_alias=%23a:us.example").await.ok();
    assert_eq!(answer, json!({ "room_id": "!r:us.example", "servers": ["us.example"] }));
    for alias in ["%23a:b.example", "%23notfound:us.example"] {
        let refused = get(&world, &format!("query/directory?room_alias={alias}")).await;
        assert_eq!(refused.error(), (404, "M_NOT_FOUND".to_owned()), "{alias}");
    }
    assert_eq!(get(&world, "query/directory").await.error(), (400, "M_MISSING_PARAM".to_owned()));
    assert_eq!(get(&world, "query/directory?room_alias=a").await.error(), (400, "M_INVALID_PARAM".to_owned()));
}

/// Row `GET v1/query/profile`; hard case 24.
/// S2S 9.3 query/profile.
#[tokio::test]
async fn profile_answers_for_our_users_only() {
    let world = World::new().await;
    let answer = get(&world, "query/profile?user_id=@ann:us.example").await.ok();
    assert_eq!(answer, json!({ "displayname": "Ann", "avatar_url": "mxc://us.example/a" }));
    let answer = get(&world, "query/profile?user_id=@ann:us.example&field=displayname").await.ok();
    assert_eq!(answer, json!({ "displayname": "Ann" }));
    assert_eq!(get(&world, "query/profile?user_id=@ann:us.example&field=none").await.ok(), json!({}));
    for (user, status) in [("@ann:b.example", 404), ("@notfound:us.example", 404), ("@forbidden:us.example", 403)] {
        assert_eq!(get(&world, &format!("query/profile?user_id={user}")).await.status, status, "{user}");
    }
    assert!(!world.local.calls().iter().any(|call| call.contains("b.example")));
}

/// Row `GET v1/query/{other}`.
/// S2S 9.3 query.
#[tokio::test]
async fn other_queries_are_unknown() {
    let world = World::new().await;
    assert_eq!(get(&world, "query/presence?x=1").await.error(), (404, "M_UNRECOGNIZED".to_owned()));
}

/// Row `GET v1/user/devices/{userId}`; hard case 23.
/// S2S 9.4 user/devices.
#[tokio::test]
async fn devices_answers_for_our_users_only() {
    let world = World::new().await;
    let answer = get(&world, "user/devices/@ann:us.example").await.ok();
    assert_eq!(answer, json!({ "user_id": "@ann:us.example", "stream_id": 0, "devices": [] }));
    for user in ["@ann:a.example", "@ann:b.example", "@nobody:us.example"] {
        assert_eq!(
            get(&world, &format!("user/devices/{user}")).await.error(),
            (404, "M_NOT_FOUND".to_owned()),
            "{user}"
        );
    }
}

/// Row `POST v1/user/keys/query`; hard case 24.
/// S2S 9.4 user/keys/query.
#[tokio::test]
async fn device_keys_answers_for_our_users_only() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    let target = format!("{F}/user/keys/query");
    let asked =
        json!({ "device_keys": { "@ann:us.example": [], "@ann:b.example": [], "@nobody:us.example": ["D"], "x": [] } });
    assert_eq!(peer.post(&world, &target, &asked).await.ok(), json!({ "device_keys": { "@ann:us.example": {} } }));
    let many: Value =
        (0..501).map(|number| (format!("@{number}:us.example"), json!([]))).collect::<serde_json::Map<_, _>>().into();
    assert_eq!(peer.post(&world, &target, &json!({ "device_keys": many })).await.status, 400);
    assert_eq!(peer.post(&world, &target, &json!({})).await.error(), (400, "M_BAD_JSON".to_owned()));
}

/// Rows `GET v1/version` and `GET /.well-known/matrix/server`.
/// S2S 3 version. S2S 5 what needs no signature. S2S 9.5 version and well-known.
#[tokio::test]
async fn version_and_well_known_need_no_signature() {
    let world = World::new().await;
    let version = world.plain(Method::GET, &format!("{F}/version"), "").await.ok();
    assert_eq!(version, json!({ "server": { "name": "Yurt", "version": "1.2.3" } }));
    let well_known = world.plain(Method::GET, "/.well-known/matrix/server", "").await.ok();
    assert_eq!(well_known, json!({ "m.server": "matrix.us.example:443" }));
    let world = World::with(|inbound| inbound.us.reached_at = None).await;
    let none = world.plain(Method::GET, "/.well-known/matrix/server", "").await;
    assert_eq!(none.error(), (404, "M_NOT_FOUND".to_owned()));
}

fn check_document(document: &Value) {
    let key = SigningKey::new("a_1", &[9; 32]).unwrap();
    let mut known = PublicKeyMap::new();
    known
        .entry("us.example".to_owned())
        .or_default()
        .insert("ed25519:a_1".to_owned(), Base64::new(key.public_key().to_vec()));
    let object: CanonicalJsonObject = serde_json::from_value(document.clone()).unwrap();
    verify_json(&known, &object).unwrap();
    let valid_for = document["valid_until_ts"].as_u64().unwrap() - u64::from(NOW);
    assert!(valid_for >= 60 * 60 * 1000);
}

/// Row `GET /_matrix/key/v2/server`.
/// S2S 4 our keys are published. S2S 9.5 key/v2/server and key/v2/query.
#[tokio::test]
async fn our_keys_are_published_signed() {
    let world = World::new().await;
    for path in ["server", "server/", "server/ed25519:a_1", "server/ed25519:a_1/"] {
        check_document(&world.plain(Method::GET, &format!("/_matrix/key/v2/{path}"), "").await.ok());
    }
}

/// A document that this server and another one signed.
fn check_told(document: &Value, name: &str) {
    check_signed(document, "us.example", &SigningKey::new("a_1", &[9; 32]).unwrap());
    check_signed(document, name, &Peer::new(name).key);
    assert_eq!(document["server_name"], name);
}

fn check_signed(document: &Value, name: &str, key: &SigningKey) {
    let mut known = PublicKeyMap::new();
    known.entry(name.to_owned()).or_default().insert(key.key_id(), Base64::new(key.public_key().to_vec()));
    let mut object: CanonicalJsonObject = serde_json::from_value(document.clone()).unwrap();
    let CanonicalJsonValue::Object(signatures) = object.get_mut("signatures").unwrap() else { panic!("no signatures") };
    signatures.retain(|signer, _| signer == name);
    verify_json(&known, &object).unwrap();
}

/// S2S 4 a notary. S2S 9.5 key/v2/server and key/v2/query: `{}` asked gives an empty list, who is not known is left out, requests are bounded.
#[tokio::test]
async fn as_a_notary_we_tell_documents_with_our_signature_added() {
    let world = World::new().await;
    let query = async |name: &str| {
        let target = format!("/_matrix/key/v2/query/{name}?minimum_valid_until_ts=5");
        world.plain(Method::GET, &target, "").await.ok()["server_keys"].clone()
    };
    check_document(&query("us.example").await[0]);
    check_told(&query("b.example").await[0], "b.example");
    assert_eq!(query("away.example").await, json!([]));
    let bad = world.plain(Method::GET, "/_matrix/key/v2/query/a%20b", "").await;
    assert_eq!(bad.error(), (400, "M_INVALID_PARAM".to_owned()));
    let batch = async |body: Value| world.plain(Method::POST, "/_matrix/key/v2/query", &body.to_string()).await;
    let criteria = json!({ "ed25519:1": { "minimum_valid_until_ts": 5 } });
    let asked = json!({ "us.example": {}, "b.example": criteria, "away.example": {}, "a b": {} });
    let told = batch(json!({ "server_keys": asked })).await.ok();
    let told = told["server_keys"].as_array().unwrap();
    assert_eq!(told.len(), 2);
    for document in told {
        match document["server_name"].as_str() {
            Some("us.example") => check_document(document),
            _ => check_told(document, "b.example"),
        }
    }
    assert_eq!(batch(json!({ "server_keys": {} })).await.ok(), json!({ "server_keys": [] }));
    assert_eq!(batch(json!({})).await.error(), (400, "M_BAD_JSON".to_owned()));
    let many: serde_json::Map<_, _> = (0..101).map(|number| (format!("{number}.example"), json!({}))).collect();
    assert_eq!(batch(json!({ "server_keys": many })).await.error(), (400, "M_INVALID_PARAM".to_owned()));
    // Anybody may ask: not with as much as a server that proves who it is.
    let large = json!({ "server_keys": {}, "fill": "x".repeat(crate::limits::KEY_QUERY_BYTES_MAX) });
    assert_eq!(batch(large).await.error(), (413, "M_TOO_LARGE".to_owned()));
}

/// Row `POST v1/user/keys/claim`: our users have no keys to claim.
#[tokio::test]
async fn nobody_has_keys_that_could_be_claimed() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    let target = format!("{F}/user/keys/claim");
    let asked = json!({ "one_time_keys": { "@ann:us.example": { "D": "signed_curve25519" } } });
    assert_eq!(peer.post(&world, &target, &asked).await.ok(), json!({ "one_time_keys": {} }));
    let many: serde_json::Map<_, _> = (0..501).map(|number| (format!("@{number}:us.example"), json!({}))).collect();
    assert_eq!(peer.post(&world, &target, &json!({ "one_time_keys": many })).await.status, 400);
    assert_eq!(peer.post(&world, &target, &json!({})).await.error(), (400, "M_BAD_JSON".to_owned()));
}

/// Row `GET v1/publicRooms`, `POST v1/publicRooms`: limit 0 is capped, filters and places are bounded.
#[tokio::test]
async fn public_rooms_are_asked_for_within_bounds() {
    let world = World::new().await;
    let peer = Peer::new("a.example");
    let room = json!({
        "room_id": "!r:us.example", "name": "Tents", "num_joined_members": 2, "world_readable": false,
        "guest_can_join": false, "join_rule": "public",
    });
    assert_eq!(get(&world, "publicRooms").await.ok(), json!({ "chunk": [room], "next_batch": "n" }));
    get(&world, "publicRooms?limit=0&since=s&include_all_networks=true").await.ok();
    get(&world, "publicRooms?limit=5000").await.ok();
    let none = get(&world, "publicRooms?third_party_instance_id=irc").await.ok();
    assert_eq!(none, json!({ "chunk": [], "total_room_count_estimate": 0 }));
    let target = format!("{F}/publicRooms");
    let filter = json!({ "generic_search_term": "tent", "room_types": [null, "m.space"] });
    peer.post(&world, &target, &json!({ "limit": 3, "since": "s", "filter": filter })).await.ok();
    peer.post(&world, &target, &json!({ "filter": null, "limit": 0 })).await.ok();
    let asked = [
        "None None None 100",
        "None None Some(\"s\") 100",
        "None None None 100",
        "Some(\"tent\") Some([None, Some(\"m.space\")]) Some(\"s\") 3",
        "None None None 100",
    ];
    assert_eq!(world.local.calls(), asked.map(|asked| format!("a.example public_rooms {asked}")));
    for bad in ["publicRooms?limit=x", "publicRooms?limit=-1", &format!("publicRooms?since={}", "s".repeat(1025))] {
        assert_eq!(get(&world, bad).await.error(), (400, "M_INVALID_PARAM".to_owned()), "{bad}");
    }
    for bad in [
        json!({ "filter": 5 }),
        json!({ "filter": { "room_types": 5 } }),
        json!({ "filter": { "room_types": [5] } }),
        json!({ "filter": { "room_types": vec![Value::Null; 21] } }),
        json!({ "filter": { "generic_search_term": "t".repeat(1025) } }),
        json!({ "limit": -1 }),
        json!({ "limit": "5" }),
    ] {
        assert_eq!(peer.post(&world, &target, &bad).await.status, 400, "{bad}");
    }
}

/// Row `GET v1/hierarchy/{roomId}`.
#[tokio::test]
async fn a_hierarchy_is_a_space_its_children_and_the_names_of_hidden_ones() {
    let world = World::new().await;
    let answer = get(&world, "hierarchy/!s:us.example?suggested_only=true").await.ok();
    assert_eq!(answer["room"]["room_id"], "!s:us.example");
    assert_eq!(answer["room"]["children_state"], json!([{ "type": "m.space.child" }]));
    assert_eq!(
        (&answer["children"][0]["room_id"], &answer["children"][0]["room_version"]),
        (&json!("!c:us.example"), &json!("12"))
    );
    assert_eq!(answer["inaccessible_children"], json!(["!h:us.example"]));
    get(&world, "hierarchy/!s:us.example").await.ok();
    assert_eq!(get(&world, "hierarchy/!notfound:us.example").await.error(), (404, "M_NOT_FOUND".to_owned()));
    assert_eq!(get(&world, "hierarchy/!s:us.example?suggested_only=x").await.status, 400);
    let calls = world.local.calls();
    assert_eq!(calls[..2], ["true", "false"].map(|only| format!("a.example hierarchy !s:us.example {only}")));
}

//! Questions to servers of this process whose answers are a script.

use std::{collections::BTreeSet, sync::Arc};

use axum::body::Body;
use http::{Response, StatusCode};
use parking_lot::Mutex;
use ruma::{event_id, room_alias_id, room_id, server_name, user_id};
use serde_json::json;

use super::*;
use crate::{
    local::ThumbnailSize,
    testing::{Kept, Names, Scripted, Seen, Web, ambient, connections, hands, scripted},
};

fn to(peers: Scripted) -> (Arc<Connections<Kept>>, Arc<Mutex<Vec<Seen>>>) {
    let (ambient, seen) = (ambient(&hands()), Arc::clone(&peers.seen));
    let discovery = Web::new().discovery(Names::default(), &[], ambient.clone());
    (connections(discovery, peers, &Arc::default(), ambient), seen)
}

fn saying(text: &'static str) -> (Arc<Connections<Kept>>, Arc<Mutex<Vec<Seen>>>) {
    to(scripted(move |_| (200, text.to_owned())))
}

fn is_bad<T>(answer: Result<T, FederationError>) -> bool {
    matches!(answer, Err(FederationError::BadAnswer(_) | FederationError::TooLarge))
}

fn content(value: serde_json::Value) -> CanonicalJsonObject {
    serde_json::from_value(value).unwrap()
}

/// S2S 2 path parameters are decoded once.
#[tokio::test]
async fn targets_are_escaped_once_and_those_of_the_specification() {
    let (connections, seen) = saying("{}");
    let peer = connections.peer(server_name!("peer.test"));
    let (room, event, user) = (room_id!("!r/oom:x.test"), event_id!("$a+b/c"), user_id!("@ü:us.test"));
    let empty = CanonicalJsonObject::new();
    let versions = [RoomVersionId::V11, RoomVersionId::V12];
    let gap = Gap { earliest: vec![event.to_owned()], latest: Vec::new(), depth_min: 3, events_max: 1000 };

    let _ = peer.membership_template(room, user, Wish::Join, &versions).await;
    let _ = peer.membership_template(room, user, Wish::Leave, &versions).await;
    let _ = peer.send_join(room, event, &empty).await;
    let _ = peer.send_leave(room, event, &empty).await;
    let _ = peer.send_knock(room, event, &empty).await;
    let _ = peer.invite(room, event, &RoomVersionId::V12, empty.clone(), vec![empty.clone()]).await;
    let _ = peer.event(event).await;
    let _ = peer.state(room, event).await;
    let _ = peer.state_ids(room, event).await;
    let _ = peer.event_auth(room, event).await;
    let _ = peer.backfill(room, &[event.to_owned(), event.to_owned()], 1000).await;
    let _ = peer.missing_events(room, &gap).await;
    let _ = peer.alias(room_alias_id!("#a&b:peer.test")).await;
    let _ = peer.send_transaction("1-2", &empty).await;
    let _ = peer.version().await;

    let lines: Vec<_> = seen.lock().iter().map(|seen| seen.line.replace("/_matrix/federation", "")).collect();
    let room = "%21r%2Foom%3Ax.test";
    let event = "%24a%2Bb%2Fc";
    assert_eq!(
        lines,
        [
            format!("GET /v1/make_join/{room}/%40%C3%BC%3Aus.test?ver=11&ver=12"),
            format!("GET /v1/make_leave/{room}/%40%C3%BC%3Aus.test"),
            format!("PUT /v2/send_join/{room}/{event}?omit_members=false"),
            format!("PUT /v2/send_leave/{room}/{event}"),
            format!("PUT /v1/send_knock/{room}/{event}"),
            format!("PUT /v2/invite/{room}/{event}"),
            format!("GET /v1/event/{event}"),
            format!("GET /v1/state/{room}?event_id={event}"),
            format!("GET /v1/state_ids/{room}?event_id={event}"),
            format!("GET /v1/event_auth/{room}/{event}"),
            format!("GET /v1/backfill/{room}?v={event}&v={event}&limit=100"),
            format!("POST /v1/get_missing_events/{room}"),
            "GET /v1/query/directory?room_alias=%23a%26b%3Apeer.test".to_owned(),
            "PUT /v1/send/1-2".to_owned(),
            "GET /v1/version".to_owned(),
        ]
    );
    let seen = seen.lock();
    let bodies: Vec<serde_json::Value> =
        [5, 11].iter().map(|at| serde_json::from_slice(&seen[*at].body).unwrap()).collect();
    assert_eq!(bodies[0], json!({ "event": {}, "invite_room_state": [{}], "room_version": "12" }));
    let asked = json!({ "earliest_events": ["$a+b/c"], "latest_events": [], "limit": 20, "min_depth": 3 });
    assert_eq!(bodies[1], asked);
}

#[tokio::test]
async fn a_join_gives_the_state_as_it_came() {
    let text = r#"{"state":[{"type":"m.room.create","n":1.50}],"members_omitted":false,"servers_in_room":["x"],
        "auth_chain":[{"a":1},{"b":2}],"event":{"sender":"@u:us.test"},"org.matrix.msc3083.v2.event":{}}"#;
    let (connections, _) = saying(text);
    let peer = connections.peer(server_name!("peer.test"));
    let joined = peer.send_join(room_id!("!r"), event_id!("$e"), &content(json!({ "a": 1 }))).await;
    let pieces = pieces(joined).await.unwrap();
    let expected = [
        ("state", r#"{"type":"m.room.create","n":1.50}"#),
        ("auth", r#"{"a":1}"#),
        ("auth", r#"{"b":2}"#),
        ("event", r#"{"sender":"@u:us.test"}"#),
    ];
    let expected = expected.map(|(kind, text)| (kind, text.to_owned()));
    assert_eq!(BTreeSet::from(expected), pieces.into_iter().collect());
}

/// All pieces of an answer to a join.
async fn pieces(answer: Result<JoinAnswer, FederationError>) -> Result<Vec<(&'static str, String)>, FederationError> {
    let (mut answer, mut pieces) = (answer?, Vec::new());
    while let Some(piece) = answer.next().await? {
        pieces.push(match piece {
            JoinPiece::Event(pdu) => ("event", pdu.get().to_owned()),
            JoinPiece::State(pdu) => ("state", pdu.get().to_owned()),
            JoinPiece::AuthChain(pdu) => ("auth", pdu.get().to_owned()),
        });
    }
    Ok(pieces)
}

#[tokio::test]
async fn answers_of_another_shape_are_refused() {
    for text in
        ["", "[]", r#"["11",{}]"#, "{}", r#"{"state":{}}"#, r#"{"state":[],"auth_chain":[],"members_omitted":true}"#]
    {
        let (connections, _) = saying(text);
        let peer = connections.peer(server_name!("peer.test"));
        let (room, event) = (room_id!("!r"), event_id!("$e"));
        assert!(is_bad(pieces(peer.send_join(room, event, &content(json!({}))).await).await), "{text}");
        assert!(is_bad(peer.membership_template(room, user_id!("@u:us.test"), Wish::Join, &[]).await), "{text}");
        assert!(is_bad(peer.event(event).await), "{text}");
        assert!(is_bad(peer.alias(room_alias_id!("#a:peer.test")).await), "{text}");
        assert!(is_bad(peer.state_ids(room, event).await), "{text}");
    }
    let (connections, _) = saying(r#"{"pdu_ids":["$a",5],"auth_chain_ids":[]}"#);
    assert!(is_bad(connections.peer(server_name!("peer.test")).state_ids(room_id!("!r"), event_id!("$e")).await));
}

#[tokio::test]
async fn a_peer_that_sends_more_than_was_asked_for_gives_a_bad_answer() {
    let (connections, _) = saying(r#"{"pdus":[{},{},{},{}],"events":[{},{},{},{}]}"#);
    let peer = connections.peer(server_name!("peer.test"));
    let from = [event_id!("$e").to_owned()];
    assert_eq!(peer.backfill(room_id!("!r"), &from, 3).await.unwrap().len(), 4);
    assert!(is_bad(peer.backfill(room_id!("!r"), &from, 2).await));
    let gap = Gap { earliest: Vec::new(), latest: Vec::new(), depth_min: 0, events_max: 3 };
    assert!(is_bad(peer.missing_events(room_id!("!r"), &gap).await));
}

#[tokio::test]
async fn an_incompatible_room_says_its_version() {
    let text = r#"{"errcode":"M_INCOMPATIBLE_ROOM_VERSION","error":"x","room_version":"42"}"#;
    let (connections, _) = to(scripted(move |_| (400, text.to_owned())));
    let peer = connections.peer(server_name!("peer.test"));
    let error = peer.membership_template(room_id!("!r"), user_id!("@u:us.test"), Wish::Join, &[]).await.unwrap_err();
    let FederationError::Refused(refusal) = &error else { panic!("{error:?}") };
    assert_eq!(refusal.room_version.as_ref().unwrap().as_str(), "42");
    assert!(error.is_reachable() && !error.is_worth_retrying());
}

/// S2S 16 what each status means.
#[tokio::test]
async fn refused_events_of_a_transaction_are_told_and_the_rest_is_delivered() {
    let (connections, _) = saying(r#"{"pdus":{"$a":{},"$b":{"error":"no"},"$c":5}}"#);
    let refused = connections.peer(server_name!("peer.test")).send_transaction("1", &content(json!({}))).await.unwrap();
    assert_eq!(refused.keys().collect::<Vec<_>>(), ["$b"]);
}

fn multipart(parts: &str) -> Response<Body> {
    let text = parts.replace('\n', "\r\n");
    let kind = "multipart/mixed; boundary=\"gc0p4Jq0M2Yt08jU534c0p\"";
    Response::builder().header("content-type", kind).body(Body::from(text)).unwrap()
}

async fn all(medium: &mut RemoteMedium) -> Result<Vec<u8>, FederationError> {
    let mut whole = Vec::new();
    while let Some(bytes) = medium.next().await? {
        whole.extend_from_slice(&bytes);
    }
    Ok(whole)
}

async fn download(parts: &'static str, bytes_max: u64) -> Result<(RemoteMedium, Vec<u8>), FederationError> {
    let (connections, _) = to(Scripted::exactly(move |_| multipart(parts)));
    let mut medium = connections.peer(server_name!("peer.test")).medium("abc", bytes_max).await?;
    let bytes = all(&mut medium).await?;
    Ok((medium, bytes))
}

const FILE: &str = "--gc0p4Jq0M2Yt08jU534c0p\nContent-Type: application/json\n\n{}\n--gc0p4Jq0M2Yt08jU534c0p\n\
    Content-Type: text/plain\nContent-Disposition: attachment; filename=\"a.txt\"\n\n--gc0 some\n\nfile\n\
    --gc0p4Jq0M2Yt08jU534c0p";

#[tokio::test]
async fn a_file_is_the_second_part_to_the_last_byte() {
    let (medium, bytes) = download(FILE, 1000).await.unwrap();
    assert_eq!(bytes, b"--gc0 some\r\n\r\nfile");
    assert_eq!(medium.content_type.as_deref(), Some("text/plain"));
    assert_eq!(medium.name.as_deref(), Some("a.txt"));
    assert_eq!(download(FILE, 17).await.err(), Some(FederationError::TooLarge));
    download(FILE, 18).await.unwrap();
}

/// Hard case 59.
#[tokio::test]
async fn files_that_are_cut_off_or_lie_inside_are_refused() {
    let cut = FILE.strip_suffix("\n--gc0p4Jq0M2Yt08jU534c0p").unwrap();
    assert!(matches!(download(cut, 1000).await, Err(FederationError::Broken(_))));
    assert!(is_bad(download("--gc0p4Jq0M2Yt08jU534c0p\n\n{}\n--gc0p4Jq0M2Yt08jU534c0p--\n", 1000).await));
    assert!(is_bad(download("nothing", 1000).await));
    let inside = [
        "--gc0p4Jq0M2Yt08jU534c0p\n\n{}\n--gc0p4Jq0M2Yt08jU534c0p\nLocation: https://127.0.0.1:8448/secret\n\n\n--gc0p4Jq0M2Yt08jU534c0p--",
        "--gc0p4Jq0M2Yt08jU534c0p\n\n{}\n--gc0p4Jq0M2Yt08jU534c0p\nLocation: https://localhost/\n\n\n--gc0p4Jq0M2Yt08jU534c0p--",
    ];
    for parts in inside {
        assert_eq!(download(parts, 1000).await.err(), Some(FederationError::InternalAddress));
    }
    let plain = "--gc0p4Jq0M2Yt08jU534c0p\n\n{}\n--gc0p4Jq0M2Yt08jU534c0p\nLocation: http://a.example/\n\n\n--gc0p4Jq0M2Yt08jU534c0p--";
    assert!(is_bad(download(plain, 1000).await));
}

#[tokio::test]
async fn an_older_server_is_asked_at_the_older_place_only_when_it_does_not_know_the_newer() {
    let older = |seen: &Seen| {
        if seen.target().starts_with("/_matrix/media/v3/") {
            Response::builder().header("content-type", "image/png").body(Body::from("bytes")).unwrap()
        } else {
            Response::builder().status(404).body(Body::from(r#"{"errcode":"M_UNRECOGNIZED"}"#)).unwrap()
        }
    };
    let (connections, seen) = to(Scripted::exactly(older));
    let size = ThumbnailSize { width: 32, height: 16, crop: true };
    let mut medium = connections.peer(server_name!("peer.test")).thumbnail("abc", size, 10).await.unwrap();
    assert_eq!(all(&mut medium).await.unwrap(), b"bytes");
    let line = "GET /_matrix/media/v3/thumbnail/peer.test/abc?width=32&height=16&method=crop&allow_remote=false";
    assert_eq!(seen.lock()[1].line, line);
    assert_eq!(seen.lock()[1].header("authorization"), None);

    let (connections, seen) = to(scripted(|_| (404, r#"{"errcode":"M_NOT_FOUND"}"#.to_owned())));
    let peer = connections.peer(server_name!("peer.test"));
    assert_eq!(peer.medium("abc", 10).await.err().unwrap().status(), Some(StatusCode::NOT_FOUND));
    for media_id in ["", "..", "a/b", "a?b", "ä"] {
        assert!(matches!(peer.medium(media_id, 10).await, Err(FederationError::Unsendable(_))));
    }
    assert_eq!(seen.lock().len(), 1);
}

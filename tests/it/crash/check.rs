//! What must hold after a crash, seen through the API: the ledger against the rooms.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Scene, id_of,
    ledger::{Entry, Outcome, Wish},
    must,
};
use crate::process::{Peer, Server, segment};

/// Acknowledged messages that are sent once more.
const REPEATED: usize = 10;

/// Events at the end of a room whose links are followed.
const LINKED: usize = 5;

/// Asks again for what had no answer, then looks at everything.
pub(super) async fn everything(scene: &Scene, server: &Server) {
    let peers: Vec<Peer> = scene.tokens.iter().map(|token| Peer::new(server, token)).collect();
    let watcher = Peer::new(server, &scene.watcher);
    settle(scene, &peers).await;
    let entries = scene.ledger.entries();
    let messages = scene.ledger.messages();

    for room in scene.shared.iter().chain([&scene.hall]) {
        check_room(&watcher, room, messages.get(room)).await;
    }
    for (writer, room) in entries.iter().filter_map(made_room) {
        check_room(&peers[writer], room, messages.get(room)).await;
    }
    for (writer, peer) in peers.iter().enumerate() {
        check_own_rooms(writer, peer, &entries).await;
    }
    for (writer, room) in check_directs(scene, &entries) {
        // Of two who ask at once either may have made it, and only who made it sees what was before the other came.
        let seen = must(peers[writer].get(&format!("/v1/rooms/{}", segment(room))).await.unwrap(), &[200]);
        let maker = scene.writers.iter().position(|writer| writer == text(&seen, "creator_id")).unwrap();
        check_room(&peers[maker], room, None).await;
    }
    check_hall(scene, &watcher, &entries).await;
    for room in &scene.shared {
        let unread = must(watcher.get(&format!("/v1/rooms/{}", segment(room))).await.unwrap(), &[200]);
        let written = messages.get(room).map_or(0, BTreeMap::len);
        assert_eq!(unread["me"]["unread_count"], written, "unread messages in {room}");
    }
}

fn made_room(entry: &Entry) -> Option<(usize, &String)> {
    match entry.wish {
        Wish::Room { .. } => entry.answer.as_ref().map(|room| (entry.writer, room)),
        _ => None,
    }
}

/// Every request that had no answer is sent again and now has one. Some that had one are sent again and get the same.
async fn settle(scene: &Scene, peers: &[Peer]) {
    let entries = scene.ledger.entries();
    let is_message = |entry: &Entry| matches!(entry.wish, Wish::Message { .. });
    let answered = entries.iter().enumerate().filter(|(_, entry)| entry.answer.is_some() && is_message(entry));
    let repeated: BTreeSet<usize> = answered.map(|(number, _)| number).rev().take(REPEATED).collect();
    for (number, entry) in entries.iter().enumerate() {
        if entry.answer.is_some() && !repeated.contains(&number) {
            continue;
        }
        // What a writer wanted of the hall before it changed its mind is not asked for again.
        let later = entries[number + 1..].iter().filter(|later| later.writer == entry.writer);
        if matches!(entry.wish, Wish::Hall { .. }) && later.clone().any(|later| matches!(later.wish, Wish::Hall { .. }))
        {
            continue;
        }
        let (status, body) = entry.wish.ask(&peers[entry.writer], &scene.hall).await.unwrap();
        assert!(matches!(scene.ledger.note(number, status, &body), Outcome::Done), "{entry:?}: {status} {body}");
    }
}

/// The room's timeline holds each message once and nothing else, its events are linked, and what is told of the room follows
/// from them.
async fn check_room(peer: &Peer, room: &str, expected: Option<&BTreeMap<String, String>>) {
    let path = format!("/v1/rooms/{}", segment(room));
    let timeline = timeline(peer, &path).await;
    assert_eq!(timeline[0]["type"], "m.room.create", "{room} begins with its creation");
    let ids: BTreeSet<&str> = timeline.iter().map(|event| text(event, "event_id")).collect();
    assert_eq!(ids.len(), timeline.len(), "an event stands twice in {room}");
    let positions: Vec<&str> = timeline.iter().map(|event| text(event, "position")).collect();
    assert!(positions.is_sorted_by(|one, next| one < next), "places of {room}: {positions:?}");

    let mut messages = BTreeMap::new();
    for event in timeline.iter().filter(|event| event["type"] == "m.room.message") {
        let body = text(&event["content"], "body").to_owned();
        let before = messages.insert(body, text(event, "event_id").to_owned());
        assert_eq!(before, None, "a message was stored twice in {room}: {event}");
    }
    assert_eq!(Some(&messages).filter(|messages| !messages.is_empty()), expected, "messages of {room}");

    check_state(peer, &path, &timeline).await;
    for pair in timeline.windows(2).rev().take(LINKED) {
        let pdu = format!("{path}/events/{}?format=pdu", segment(text(&pair[1], "event_id")));
        let pdu = must(peer.get(&pdu).await.unwrap(), &[200]);
        assert_eq!(pdu["prev_events"], serde_json::json!([pair[0]["event_id"]]), "{} hangs elsewhere", pair[1]);
    }
}

async fn timeline(peer: &Peer, room_path: &str) -> Vec<Value> {
    let mut events = Vec::new();
    let mut path = format!("{room_path}/messages?direction=forward&limit=200");
    loop {
        let (status, page) = peer.get(&path).await.unwrap();
        assert_eq!(status, 200, "{page}");
        events.extend(page["data"].as_array().unwrap().iter().cloned());
        if page["meta"]["has_more"] != true {
            return events;
        }
        let cursor = text(&page["meta"], "next_cursor");
        path = format!("{room_path}/messages?direction=forward&limit=200&from={}", segment(cursor));
    }
}

/// State and members are what the timeline's last state events say.
async fn check_state(peer: &Peer, room_path: &str, timeline: &[Value]) {
    let mut last: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut joined = BTreeSet::new();
    for event in timeline.iter().filter(|event| event["state_key"].is_string()) {
        let (kind, key) = (text(event, "type"), text(event, "state_key"));
        last.insert((kind, key), text(event, "event_id"));
        if kind == "m.room.member" {
            if event["content"]["membership"] == "join" {
                joined.insert(key)
            } else {
                joined.remove(key)
            };
        }
    }
    let state = must(peer.get(&format!("{room_path}/state?limit=200")).await.unwrap(), &[200]);
    let state: BTreeMap<(&str, &str), &str> = state
        .as_array()
        .unwrap()
        .iter()
        .map(|event| ((text(event, "type"), text(event, "state_key")), text(event, "event_id")))
        .collect();
    assert_eq!(state, last, "the state of {room_path}");

    let members = must(peer.get(&format!("{room_path}/members?membership=join&limit=200")).await.unwrap(), &[200]);
    let members: BTreeSet<&str> =
        members.as_array().unwrap().iter().map(|member| text(member, "participant_id")).collect();
    assert_eq!(members, joined, "the members of {room_path}");
    let room = must(peer.get(room_path).await.unwrap(), &[200]);
    assert_eq!(room["members_count"], joined.len(), "the count of members of {room_path}");
}

/// A writer's list has each room that it made once, and no room that it did not ask for.
async fn check_own_rooms(writer: usize, peer: &Peer, entries: &[Entry]) {
    let mut listed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut offset = 0;
    loop {
        let page = must(peer.get(&format!("/v1/rooms?limit=200&offset={offset}")).await.unwrap(), &[200]);
        let page = page.as_array().unwrap().clone();
        for room in page.iter().filter(|room| room["room_type"] == "group") {
            listed.entry(text(room, "name").to_owned()).or_default().push(id_of(room));
        }
        offset += page.len();
        if page.is_empty() {
            break;
        }
    }
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.writer == writer) {
        if let (Wish::Room { name }, Some(room)) = (&entry.wish, &entry.answer) {
            expected.insert(name.clone(), vec![room.clone()]);
        }
    }
    assert_eq!(listed, expected, "the rooms of writer {writer}");
}

/// Two people always have the same direct message. Answers all of them, each with one of the two.
fn check_directs<'a>(scene: &'a Scene, entries: &'a [Entry]) -> Vec<(usize, &'a str)> {
    let mut rooms: BTreeMap<BTreeSet<&str>, (usize, &str)> = BTreeMap::new();
    for entry in entries {
        if let (Wish::Direct { partner }, Some(room)) = (&entry.wish, &entry.answer) {
            let pair = BTreeSet::from([scene.writers[entry.writer].as_str(), partner.as_str()]);
            let (_, first) = rooms.entry(pair).or_insert((entry.writer, room));
            assert_eq!(first, room, "two direct messages for {entry:?}");
        }
    }
    rooms.into_values().collect()
}

/// In the hall is who was last told that they entered.
async fn check_hall(scene: &Scene, watcher: &Peer, entries: &[Entry]) {
    let mut inside: BTreeSet<&str> = scene.writers.iter().map(String::as_str).chain(["@watcher:localhost"]).collect();
    for entry in entries {
        if let (Wish::Hall { inside: wanted }, writer) = (&entry.wish, scene.writers[entry.writer].as_str()) {
            if *wanted {
                inside.insert(writer)
            } else {
                inside.remove(writer)
            };
        }
    }
    let path = format!("/v1/rooms/{}/members?membership=join&limit=200", segment(&scene.hall));
    let members = must(watcher.get(&path).await.unwrap(), &[200]);
    let members: BTreeSet<&str> =
        members.as_array().unwrap().iter().map(|member| text(member, "participant_id")).collect();
    assert_eq!(members, inside, "who is in the hall");
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {value}"))
}

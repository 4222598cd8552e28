//! Row `partial-state answers (omit_members)` of section 15: who can do without members gets a large room without them. Whole servers, signed requests.

use std::collections::BTreeSet;

use rules::{draft::Draft, kind::RoomKind, version::Version};
use ruma::{CanonicalJsonObject, OwnedRoomId};
use serde_json::{Value, json};
use yurt::actions::{
    Actions, Caller,
    accounts::{self, NewAccount},
    append::Writer,
    creation::{self, NewRoom},
    members,
};

use super::{
    servers::{Authority, Server},
    stranger::Stranger,
};

/// A public room with so many people of this server in it, the first of them made it.
async fn crowd(actions: &Actions, version: &str, people: usize) -> (Caller, OwnedRoomId) {
    let mut first: Option<(Caller, OwnedRoomId)> = None;
    for number in 0..people {
        let username = format!("{}-{number}", version);
        accounts::create(actions, NewAccount { username: username.clone(), ..NewAccount::default() }).await.unwrap();
        let caller = Caller::local(&accounts::user_id(actions, &username).unwrap(), false);
        match &first {
            Some((_, room_id)) => drop(members::join(actions, &caller, room_id.as_str(), &[], None).await.unwrap()),
            None => {
                let new = NewRoom {
                    kind: Some(RoomKind::Public),
                    name: Some("Crowd".to_owned()),
                    version: Some(version.to_owned()),
                    ..NewRoom::default()
                };
                let room_id = creation::create(actions, &caller, new).await.unwrap();
                first = Some((caller, room_id));
            }
        }
    }
    first.unwrap()
}

fn id_of(event: &Value, version: &str) -> String {
    let object: CanonicalJsonObject = serde_json::from_value(event.clone()).unwrap();
    rules::hash::event_id(&object, &Version::parse(version).unwrap()).unwrap().to_string()
}

fn ids(events: &Value, version: &str) -> BTreeSet<String> {
    events.as_array().unwrap().iter().map(|event| id_of(event, version)).collect()
}

fn members_in(events: &Value) -> Vec<&str> {
    let members = events.as_array().unwrap().iter().filter(|event| event["type"] == "m.room.member");
    members.map(|event| event["state_key"].as_str().unwrap()).collect()
}

/// Whatever an event of the answer leans on is in the answer, once.
fn is_closed(answer: &Value, version: &str) {
    let (state, chain) = (ids(&answer["state"], version), ids(&answer["auth_chain"], version));
    assert!(state.is_disjoint(&chain), "the chain leaves out what the state has");
    let events = ["state", "auth_chain"].map(|part| answer[part].as_array().unwrap().clone()).concat();
    for event in events.iter().chain([&answer["event"]]) {
        for leans_on in event["auth_events"].as_array().unwrap() {
            let id = leans_on.as_str().unwrap();
            assert!(state.contains(id) || chain.contains(id), "{version}: {id} is missing for {event}");
        }
    }
}

#[tokio::test]
async fn who_can_do_without_members_gets_a_large_room_without_them() {
    let authority = Authority::new();
    let (mut server, stranger) = (Server::new(&authority).await, Stranger::new(&authority).await);
    {
        let actions = server.actions().await;
        for version in ["10", "11", "12"] {
            let (_, room_id) = crowd(&actions, version, 60).await;
            let join = async |name: &str, query: &str| {
                let user_id = stranger.user(name);
                let (_, (status, answer)) = stranger.enters(&server, "join", room_id.as_str(), (&user_id, query)).await;
                assert_eq!(status, 200, "{answer}");
                answer
            };
            let full = join("full", "").await;
            assert_eq!((members_in(&full["state"]).len(), &full["members_omitted"]), (60, &json!(false)));
            let lean = join("lean", "?omit_members=true").await;
            assert_eq!(lean["members_omitted"], true);
            assert_eq!(lean["servers_in_room"], json!([server.name()]));
            assert!(members_in(&lean["state"]).is_empty());
            let types = |answer: &Value| {
                let state = answer["state"].as_array().unwrap().iter().filter(|event| event["type"] != "m.room.member");
                state.map(|event| event["type"].to_string()).collect::<BTreeSet<_>>()
            };
            assert_eq!(types(&lean), types(&full));
            // The creator's join is what everything leans on.
            assert_eq!(members_in(&lean["auth_chain"]).len(), 1);
            is_closed(&lean, version);
            let (lean, full) = (lean.to_string().len(), full.to_string().len());
            assert!(lean * 4 < full, "{lean} bytes instead of {full}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_large_room_without_a_name_keeps_the_members_that_it_is_called_by() {
    let authority = Authority::new();
    let (mut server, stranger) = (Server::new(&authority).await, Stranger::new(&authority).await);
    {
        let actions = server.actions().await;
        let (alice, room_id) = crowd(&actions, "12", 55).await;
        let mut writer = Writer::enter(&actions, &actions.room(&room_id)).await.unwrap().unwrap();
        for event_type in ["m.room.name", "m.room.canonical_alias"] {
            let draft = Draft::state(event_type, "", CanonicalJsonObject::new());
            writer.stage(&alice.user_id, draft).await.unwrap();
        }
        writer.commit().await.unwrap();
        let lean = stranger.user("lean");
        let (_, (_, answer)) = stranger.enters(&server, "join", room_id.as_str(), (&lean, "?omit_members=true")).await;
        let named: Vec<String> = (0..5).map(|number| format!("@12-{number}:{}", server.name())).collect();
        let mut kept = members_in(&answer["state"]);
        kept.sort_unstable();
        assert_eq!(kept, named);
        is_closed(&answer, "12");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_small_room_is_told_whole_whatever_the_peer_can_do_without() {
    let authority = Authority::new();
    let (mut server, stranger) = (Server::new(&authority).await, Stranger::new(&authority).await);
    {
        let actions = server.actions().await;
        let (_, room_id) = crowd(&actions, "12", 3).await;
        let rose = stranger.user("rose");
        let (_, (_, answer)) = stranger.enters(&server, "join", room_id.as_str(), (&rose, "?omit_members=true")).await;
        assert_eq!((members_in(&answer["state"]).len(), &answer["members_omitted"]), (3, &json!(false)));
    }
    server.stop().await;
}

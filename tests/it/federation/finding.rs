//! Rows `GET/POST v1/publicRooms` and `GET v1/hierarchy/{roomId}`: what a server that is in no room of ours finds here. Whole servers, signed requests.

use std::sync::{Arc, RwLock};

use rules::{draft::Draft, kind::RoomKind};
use ruma::{OwnedRoomId, OwnedUserId};
use serde_json::{Value, json};
use yurt::{
    actions::{
        Actions, Caller, ErrorKind,
        accounts::{self, NewAccount},
        append::Writer,
        creation::{self, NewRoom},
        directory, members, workspaces,
    },
    config::Registration,
};

use crate::client::{self, Link, PASSWORD, choose_cryptography, encoded, text};

use super::{
    servers::{Authority, Server},
    stranger::{F1, Stranger, escaped},
};

/// A server of ours with somebody in it, and another server.
struct Scene {
    server: Server,
    actions: Actions,
    alice: Caller,
    stranger: Stranger,
    authority: Authority,
}

impl Scene {
    async fn new() -> Self {
        let authority = Authority::new();
        let (server, stranger) = (Server::new(&authority).await, Stranger::new(&authority).await);
        let actions = server.actions().await;
        accounts::create(&actions, NewAccount { username: "alice".to_owned(), ..NewAccount::default() }).await.unwrap();
        let user_id: OwnedUserId = accounts::user_id(&actions, "alice").unwrap();
        Self { server, actions, alice: Caller::local(&user_id, false), stranger, authority }
    }

    async fn room(&self, kind: RoomKind, name: &str) -> OwnedRoomId {
        let new = NewRoom { kind: Some(kind), name: Some(name.to_owned()), ..NewRoom::default() };
        creation::create(&self.actions, &self.alice, new).await.unwrap()
    }

    /// State that the calls of the API do not set.
    async fn set(&self, room_id: &OwnedRoomId, event_type: &str, state_key: &str, content: Value) {
        let mut writer = Writer::enter(&self.actions, &self.actions.room(room_id)).await.unwrap().unwrap();
        let draft = Draft::state(event_type, state_key, super::object(content));
        writer.stage(&self.alice.user_id, draft).await.unwrap();
        writer.commit().await.unwrap();
    }

    async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.stranger.get(&self.server, &format!("{F1}/{path}")).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    async fn search(&self, body: Value) -> Value {
        let (status, answer) = self.stranger.post(&self.server, &format!("{F1}/publicRooms"), &body).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    async fn hierarchy(&self, room_id: &OwnedRoomId, query: &str) -> (u16, Value) {
        let target = format!("{F1}/hierarchy/{}{query}", escaped(room_id.as_str()));
        self.stranger.get(&self.server, &target).await
    }

    async fn end(self) {
        let Self { mut server, actions, alice, .. } = self;
        drop((actions, alice));
        server.stop().await;
    }
}

fn names(page: &Value) -> Vec<&str> {
    page["chunk"].as_array().unwrap().iter().map(|room| room["name"].as_str().unwrap()).collect()
}

fn ids(rooms: &Value) -> Vec<&str> {
    rooms.as_array().unwrap().iter().map(|room| room["room_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn public_rooms_come_page_by_page_in_an_order_that_new_rooms_do_not_move() {
    let scene = Scene::new().await;
    for name in ["Delta", "alpha", "Echo", "bravo", "Charlie"] {
        scene.room(RoomKind::Public, name).await;
    }
    scene.room(RoomKind::Group, "hidden").await;
    let all = scene.get("publicRooms").await;
    assert_eq!(names(&all), ["alpha", "bravo", "Charlie", "Delta", "Echo"]);
    assert_eq!((&all["total_room_count_estimate"], &all["next_batch"]), (&json!(5), &Value::Null));
    assert_eq!(names(&scene.get("publicRooms?limit=0").await).len(), 5);
    let first = scene.get("publicRooms?limit=2").await;
    assert_eq!((names(&first), &first["prev_batch"]), (vec!["alpha", "bravo"], &Value::Null));
    // Before and behind the place where the page ended.
    scene.room(RoomKind::Public, "aardvark").await;
    scene.room(RoomKind::Public, "castle").await;
    let second = scene.get(&format!("publicRooms?limit=2&since={}", first["next_batch"].as_str().unwrap())).await;
    assert_eq!(names(&second), ["castle", "Charlie"]);
    let third = scene.get(&format!("publicRooms?limit=2&since={}", second["next_batch"].as_str().unwrap())).await;
    assert_eq!((names(&third), &third["next_batch"]), (vec!["Delta", "Echo"], &Value::Null));
    let back = scene.get(&format!("publicRooms?limit=2&since={}", third["prev_batch"].as_str().unwrap())).await;
    assert_eq!(names(&back), ["castle", "Charlie"]);
    let back = scene.get(&format!("publicRooms?limit=9&since={}", back["prev_batch"].as_str().unwrap())).await;
    assert_eq!((names(&back), &back["prev_batch"]), (vec!["aardvark", "alpha", "bravo"], &Value::Null));
    let again = scene.get(&format!("publicRooms?limit=1&since={}", back["next_batch"].as_str().unwrap())).await;
    assert_eq!(names(&again), ["castle"]);
    for bad in ["x", "f!", "q"] {
        let (status, _) = scene.stranger.get(&scene.server, &format!("{F1}/publicRooms?since={bad}")).await;
        assert_eq!(status, 400, "{bad}");
    }
    scene.end().await;
}

#[tokio::test]
async fn public_rooms_are_filtered_and_shown_only_to_servers_that_may_know_of_them() {
    let scene = Scene::new().await;
    let tents = scene.room(RoomKind::Public, "Tents").await;
    scene.set(&tents, "m.room.history_visibility", "", json!({ "history_visibility": "world_readable" })).await;
    scene.set(&tents, "m.room.guest_access", "", json!({ "guest_access": "can_join" })).await;
    scene.room(RoomKind::Public, "Boats").await;
    let found = scene.search(json!({ "filter": { "generic_search_term": "TENT" } })).await;
    let room = &found["chunk"][0];
    assert_eq!((names(&found), &room["num_joined_members"]), (vec!["Tents"], &json!(1)));
    assert_eq!((&room["world_readable"], &room["guest_can_join"]), (&json!(true), &json!(true)));
    assert_eq!((&room["join_rule"], &room["room_type"]), (&json!("public"), &Value::Null));
    assert_eq!(names(&scene.search(json!({ "filter": { "room_types": [null] }, "limit": 1 })).await), ["Boats"]);
    assert!(names(&scene.search(json!({ "filter": { "room_types": ["m.space"] } })).await).is_empty());
    assert!(names(&scene.search(json!({ "third_party_instance_id": "irc" })).await).is_empty());
    // A room whose access list keeps the server out is not there for it.
    let acl = json!({ "allow": ["*"], "deny": ["localhost"], "allow_ip_literals": true });
    let denied = format!("localhost:{}", scene.stranger.name.port().unwrap());
    assert_eq!(denied, scene.stranger.name.as_str());
    scene.set(&tents, "m.room.server_acl", "", acl).await;
    let seen = scene.get("publicRooms").await;
    assert_eq!((names(&seen), &seen["total_room_count_estimate"]), (vec!["Boats"], &json!(1)));
    let sought = scene.search(json!({ "filter": { "generic_search_term": "tent" } })).await;
    assert_eq!(sought, json!({ "chunk": [], "total_room_count_estimate": 0 }), "nor is it counted");
    scene.end().await;
}

#[tokio::test]
async fn a_space_shows_the_children_that_the_server_may_see_and_names_the_others() {
    let scene = Scene::new().await;
    let space = workspaces::create(&scene.actions, &scene.alice, "Camp".to_owned(), None).await.unwrap();
    let space: OwnedRoomId = space.room_id;
    assert_eq!(scene.hierarchy(&space, "").await.0, 404, "a space that nobody there may enter");
    scene.set(&space, "m.room.join_rules", "", json!({ "join_rule": "public" })).await;
    let via = json!(["example.org"]);
    let (open, closed, knock, restricted, last) = (
        scene.room(RoomKind::Public, "open").await,
        scene.room(RoomKind::Group, "closed").await,
        scene.room(RoomKind::Group, "knock").await,
        scene.room(RoomKind::Group, "restricted").await,
        scene.room(RoomKind::Public, "last").await,
    );
    scene.set(&knock, "m.room.join_rules", "", json!({ "join_rule": "knock" })).await;
    let allow = json!([{ "type": "m.room_membership", "room_id": open }]);
    scene.set(&restricted, "m.room.join_rules", "", json!({ "join_rule": "restricted", "allow": allow })).await;
    for (room_id, content) in [
        (&open, json!({ "via": via, "order": "b", "suggested": true })),
        (&last, json!({ "via": via })),
        (&closed, json!({ "via": via, "order": "c" })),
        (&knock, json!({ "via": via, "order": "a" })),
        (&restricted, json!({ "via": via, "order": "d" })),
        // A space in itself, a room that is not here, and one that was taken out.
        (&space, json!({ "via": via, "order": "e" })),
        (&"!AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".try_into().unwrap(), json!({ "via": via, "order": "f" })),
        (&"!gone:example.org".try_into().unwrap(), json!({})),
    ] {
        scene.set(&space, "m.space.child", room_id.as_str(), content).await;
    }
    let (status, answer) = scene.hierarchy(&space, "").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["room"]["room_id"], &answer["room"]["room_type"]), (&json!(space), &json!("m.space")));
    assert_eq!(ids(&answer["children"]), [knock.as_str(), open.as_str(), last.as_str()]);
    assert_eq!(answer["inaccessible_children"], json!([closed, restricted]));
    let named = answer["room"]["children_state"].as_array().unwrap();
    assert_eq!(named.len(), 7, "{named:?}");
    assert_eq!((&named[0]["state_key"], &named[0]["content"]["order"]), (&json!(knock), &json!("a")));
    assert!(named.iter().all(|event| event["origin_server_ts"].is_u64() && event["sender"].is_string()));
    let (_, suggested) = scene.hierarchy(&space, "?suggested_only=true").await;
    assert_eq!(ids(&suggested["children"]), [open.as_str()]);
    assert_eq!(suggested["room"]["children_state"].as_array().unwrap().len(), 1);
    // Who is in the room that the join rule names may enter.
    let rose = scene.stranger.user("rose");
    let (_, (status, answer)) = scene.stranger.enters(&scene.server, "join", open.as_str(), (&rose, "")).await;
    assert_eq!(status, 200, "{answer}");
    let (_, answer) = scene.hierarchy(&space, "").await;
    assert_eq!(answer["inaccessible_children"], json!([closed]));
    let child =
        answer["children"].as_array().unwrap().iter().find(|room| room["room_id"] == json!(restricted)).unwrap();
    assert_eq!((&child["allowed_room_ids"], &child["room_version"]), (&json!([open]), &json!("12")));
    scene.end().await;
}

/// Hard case 54: two spaces in each other, and one with more children than are told of.
#[tokio::test]
async fn spaces_in_each_other_and_huge_ones_are_answered_within_bounds() {
    let scene = Scene::new().await;
    let mut spaces = Vec::new();
    for name in ["one", "two"] {
        let space = workspaces::create(&scene.actions, &scene.alice, name.to_owned(), None).await.unwrap();
        let space: OwnedRoomId = space.room_id;
        scene.set(&space, "m.room.join_rules", "", json!({ "join_rule": "public" })).await;
        spaces.push(space);
    }
    let via = json!(["example.org"]);
    for (space, child) in [(&spaces[0], &spaces[1]), (&spaces[1], &spaces[0])] {
        scene.set(space, "m.space.child", child.as_str(), json!({ "via": via })).await;
    }
    let (_, answer) = scene.hierarchy(&spaces[0], "").await;
    assert_eq!(ids(&answer["children"]), [spaces[1].as_str()]);
    let mut writer = Writer::enter(&scene.actions, &scene.actions.room(&spaces[0])).await.unwrap().unwrap();
    for number in 0..150 {
        let content = super::object(json!({ "via": via, "order": format!("{number:03}") }));
        let draft = Draft::state("m.space.child", format!("!{number}:example.org"), content);
        writer.stage(&scene.alice.user_id, draft).await.unwrap();
    }
    writer.commit().await.unwrap();
    let (_, answer) = scene.hierarchy(&spaces[0], "").await;
    let named = answer["room"]["children_state"].as_array().unwrap();
    assert_eq!((named.len(), &named[99]["state_key"]), (100, &json!("!99:example.org")));
    scene.end().await;
}

/// The other way: our people look at the rooms of another server.
#[tokio::test]
async fn the_public_rooms_of_another_server_of_ours_are_found_and_entered() {
    let scene = Scene::new().await;
    for name in ["Boats", "Castle", "Tents"] {
        scene.room(RoomKind::Public, name).await;
    }
    let mut theirs =
        Server::changed(&scene.authority, |config| config.accounts.registration = Registration::Open).await;
    {
        let actions = theirs.actions().await;
        accounts::create(&actions, NewAccount { username: "bob".to_owned(), ..NewAccount::default() }).await.unwrap();
        let bob = Caller::local(&accounts::user_id(&actions, "bob").unwrap(), false);
        let server = scene.server.name().to_string();
        let look = async |text: Option<&str>, from: Option<String>, limit| {
            directory::of_server(&actions, &bob, &server, text.map(str::to_owned), from, limit).await
        };
        let first = look(None, None, 2).await.unwrap();
        assert_eq!((first.rooms.len(), first.total), (2, Some(3)));
        let second = look(None, first.next, 2).await.unwrap();
        assert_eq!((second.rooms[0].name.as_deref(), &second.next), (Some("Tents"), &None));
        let found = look(Some("cast"), None, 50).await.unwrap();
        let room_id = found.rooms[0].room_id.to_string();
        members::join(&actions, &bob, &room_id, std::slice::from_ref(&server), None).await.unwrap();
        let own = directory::of_server(&actions, &bob, theirs.name().as_str(), None, None, 5).await;
        assert_eq!(own.unwrap_err().kind(), ErrorKind::RequestInvalid);

        choose_cryptography();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let link = Arc::new(Link { http, address: RwLock::new(theirs.running().api()) });
        let nameless = client::Caller { link, id: String::new(), token: None, headers: Vec::new() };
        let session = nameless.post("/v1/auth/register", json!({ "username": "carol", "password": PASSWORD })).await;
        let carol = client::Caller { token: Some(text(&session.created()["access_token"])), ..nameless };
        let path = |server: &str, query: &str| format!("/v1/directory/servers/{}/rooms{query}", encoded(server));
        let page = carol.get(&path(&server, "?limit=2")).await;
        assert_eq!((page.meta()["total"].clone(), page.meta()["has_more"].clone()), (json!(3), json!(true)));
        let from = encoded(&text(&page.meta()["next_cursor"]));
        let rooms = page.list();
        assert_eq!((&rooms[0]["name"], &rooms[0]["members_count"]), (&json!("Boats"), &json!(1)));
        let last = carol.get(&path(&server, &format!("?limit=2&from={from}"))).await.list();
        assert_eq!((last.len(), &last[0]["name"]), (1, &json!("Tents")));
        assert_eq!(carol.get(&path(&server, "?q=castle")).await.list()[0]["members_count"], 2);
        carol.get(&path(theirs.name().as_str(), "")).await.invalid("server");
        carol.get(&path("no server", "")).await.invalid("server");
        carol.get(&path("localhost:1", "")).await.refused(502, "SW_FED_PEER_UNREACHABLE");
    }
    theirs.stop().await;
    scene.end().await;
}

/// A server that tells more than it was asked for, or nonsense.
#[tokio::test]
async fn what_another_server_says_of_its_rooms_is_bounded() {
    let scene = Scene::new().await;
    let room = |number: usize| json!({ "room_id": format!("!{number}:x.org"), "num_joined_members": 1, "world_readable": false, "guest_can_join": false });
    let mut long = room(1);
    long["topic"] = json!("x".repeat(10_000));
    let mut chunk = vec![json!(5), json!({}), json!({ "room_id": "none" }), long];
    chunk.extend((0..50).map(room));
    scene.stranger.answers(move |seen| {
        let is_asked = seen.method == "POST" && seen.target == format!("{F1}/publicRooms");
        let next = "n".repeat(5_000);
        is_asked.then(|| (200, json!({ "chunk": chunk, "next_batch": next, "total_room_count_estimate": 9 })))
    });
    let name = scene.stranger.name.as_str();
    let page = directory::of_server(&scene.actions, &scene.alice, name, Some("a".to_owned()), None, 10).await.unwrap();
    assert_eq!((page.rooms.len(), page.rooms[0].topic.as_deref(), page.next), (10, None, None));
    let asked = &scene.stranger.seen()[0].body;
    assert_eq!(asked, &json!({ "limit": 10, "filter": { "generic_search_term": "a" } }));
    scene.stranger.answers(|_| Some((403, json!({ "errcode": "M_FORBIDDEN", "error": "no" }))));
    let refused = directory::of_server(&scene.actions, &scene.alice, name, None, None, 10).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::PeerRefused);
    let nobody = directory::of_server(&scene.actions, &scene.alice, "localhost:1", None, None, 10).await;
    assert_eq!(nobody.unwrap_err().kind(), ErrorKind::PeerUnreachable);
    scene.end().await;
}

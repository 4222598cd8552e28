//! Rows `make_knock`, `send_knock` and `Knock`: asking to be let in, both ways. Whole servers, signed requests.

use rules::{draft::Draft, kind::RoomKind, permission::Membership};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::{Value, json};
use yurt::actions::{
    Actions, Caller, ErrorKind, Window,
    accounts::{self, NewAccount},
    append::Writer,
    creation::{self, NewRoom},
    knocks, members, rooms,
};

use super::{
    servers::{Authority, Server, eventually},
    stranger::{F1, Stranger, escaped},
};

const ALL: Window = Window { offset: 0, limit: 100 };

async fn account(actions: &Actions, name: &str) -> Caller {
    accounts::create(actions, NewAccount { username: name.to_owned(), ..NewAccount::default() }).await.unwrap();
    let user_id: OwnedUserId = accounts::user_id(actions, name).unwrap();
    Caller::local(&user_id, false)
}

/// A room that is entered by an invite, or after a knock where its rule says so.
async fn room(actions: &Actions, by: &Caller, version: &str, join_rule: Value) -> OwnedRoomId {
    let new = NewRoom {
        kind: Some(RoomKind::Group),
        name: Some("Tents".to_owned()),
        version: Some(version.to_owned()),
        ..NewRoom::default()
    };
    let room_id = creation::create(actions, by, new).await.unwrap();
    let mut writer = Writer::enter(actions, &actions.room(&room_id)).await.unwrap().unwrap();
    writer.stage(&by.user_id, Draft::state("m.room.join_rules", "", super::object(join_rule))).await.unwrap();
    writer.commit().await.unwrap();
    room_id
}

async fn membership(actions: &Actions, room_id: &RoomId, user_id: &UserId) -> Membership {
    let room = actions.room(room_id);
    let member = room.store.get(&yurt::storage::keyspaces::MEMBERS, &room.home, &user_id.to_owned()).await.unwrap();
    member.map_or(Membership::None, |member| member.membership)
}

/// What somebody sees of their own rooms: the membership and the name of each.
async fn own(actions: &Actions, caller: &Caller) -> Vec<(Membership, Option<String>)> {
    let page = rooms::own(actions, caller, ALL).await.unwrap();
    page.entries.iter().map(|room| (room.membership, room.view.summary.name.clone())).collect()
}

#[tokio::test]
async fn a_knock_of_another_server_is_taken_where_the_room_takes_knocks() {
    let authority = Authority::new();
    let (mut server, stranger) = (Server::new(&authority).await, Stranger::new(&authority).await);
    {
        let actions = server.actions().await;
        let alice = account(&actions, "alice").await;
        let rose = stranger.user("rose");
        let allow = json!([]);
        for (version, rule, may) in [
            ("12", json!({ "join_rule": "knock" }), true),
            ("10", json!({ "join_rule": "knock" }), true),
            ("10", json!({ "join_rule": "knock_restricted", "allow": allow }), true),
            ("12", json!({ "join_rule": "invite" }), false),
            ("12", json!({ "join_rule": "restricted", "allow": allow }), false),
            ("12", json!({ "join_rule": "public" }), false),
        ] {
            let room_id = room(&actions, &alice, version, rule.clone()).await;
            if !may {
                let (status, _) = stranger.template(&server, "knock", room_id.as_str(), &rose).await;
                assert!(status == 403 || status == 404, "{rule}: {status}");
                continue;
            }
            let (_, (status, answer)) = stranger.enters(&server, "knock", room_id.as_str(), (&rose, "")).await;
            assert_eq!(status, 200, "{rule}: {answer}");
            let shown = answer["knock_room_state"].as_array().unwrap();
            let mut types: Vec<&str> = shown.iter().map(|event| event["type"].as_str().unwrap()).collect();
            types.sort_unstable();
            assert_eq!(types, ["m.room.canonical_alias", "m.room.create", "m.room.join_rules", "m.room.name"]);
            assert!(shown.iter().all(|event| event["signatures"].is_object()), "whole events");
            assert_eq!(membership(&actions, &room_id, &rose).await, Membership::Knock);
            // The same once more, and withdrawn.
            let (_, (status, _)) = stranger.enters(&server, "knock", room_id.as_str(), (&rose, "")).await;
            assert_eq!(status, 200);
            let (_, (status, _)) = stranger.enters(&server, "leave", room_id.as_str(), (&rose, "")).await;
            assert_eq!((status, membership(&actions, &room_id, &rose).await), (200, Membership::Leave));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_knock_that_may_not_be_or_is_something_else_is_refused() {
    let authority = Authority::new();
    let (mut server, stranger) = (Server::new(&authority).await, Stranger::new(&authority).await);
    {
        let actions = server.actions().await;
        let alice = account(&actions, "alice").await;
        let room_id = room(&actions, &alice, "12", json!({ "join_rule": "knock" })).await;
        let rose = stranger.user("rose");
        let target = format!("{F1}/make_knock/{}/{}", escaped(room_id.as_str()), escaped(rose.as_str()));
        for query in ["", "?ver=11"] {
            let (status, answer) = stranger.get(&server, &format!("{target}{query}")).await;
            let said = (status, &answer["errcode"], &answer["room_version"]);
            assert_eq!(said, (400, &json!("M_INCOMPATIBLE_ROOM_VERSION"), &json!("12")));
        }
        let of_other = UserId::parse("@rose:other.example").unwrap();
        assert_eq!(stranger.template(&server, "knock", room_id.as_str(), &of_other).await.0, 403);
        let (_, template) = stranger.template(&server, "knock", room_id.as_str(), &rose).await;
        let send = async |change: &dyn Fn(&mut Value), id: Option<&str>| {
            let mut event = template["event"].clone();
            change(&mut event);
            let (event_id, event) = stranger.completed("12", &event);
            let (room, id) = (escaped(room_id.as_str()), escaped(id.unwrap_or(&event_id)));
            stranger.put(&server, &format!("{F1}/send_knock/{room}/{id}"), &event).await.0
        };
        let other = rose.to_string().replace("rose", "rosa");
        assert_eq!(send(&|event| event["content"]["membership"] = json!("join"), None).await, 400);
        assert_eq!(send(&|event| event["state_key"] = json!(other), None).await, 400);
        assert_eq!(send(&|event| event["room_id"] = json!(format!("!{}", "A".repeat(43))), None).await, 400);
        assert_eq!(send(&|_| {}, Some(&format!("${}", "A".repeat(43)))).await, 400);
        assert_eq!(membership(&actions, &room_id, &rose).await, Membership::None);
        members::take_measure(&actions, &alice, room_id.as_str(), members::Measure::Ban, &rose, None).await.unwrap();
        assert_eq!(stranger.template(&server, "knock", room_id.as_str(), &rose).await.0, 403);
        assert_eq!(send(&|_| {}, None).await, 403);
        assert_eq!(membership(&actions, &room_id, &rose).await, Membership::Ban);
    }
    server.stop().await;
}

#[tokio::test]
async fn an_old_knock_tells_a_banned_user_nothing_of_the_room() {
    let authority = Authority::new();
    let (mut server, stranger) = (Server::new(&authority).await, Stranger::new(&authority).await);
    {
        let actions = server.actions().await;
        let alice = account(&actions, "alice").await;
        let room_id = room(&actions, &alice, "12", json!({ "join_rule": "knock" })).await;
        let rose = stranger.user("rose");
        let (_, template) = stranger.template(&server, "knock", room_id.as_str(), &rose).await;
        let (event_id, event) = stranger.completed("12", &template["event"]);
        let target = format!("{F1}/send_knock/{}/{}", escaped(room_id.as_str()), escaped(&event_id));
        for _ in 0..2 {
            assert_eq!(stranger.put(&server, &target, &event).await.0, 200, "a repeat has the same answer");
        }
        members::take_measure(&actions, &alice, room_id.as_str(), members::Measure::Ban, &rose, None).await.unwrap();
        let (status, answer) = stranger.put(&server, &target, &event).await;
        assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn who_knocks_at_another_server_is_let_in_or_sent_away_or_goes() {
    let authority = Authority::new();
    let (mut ours, mut theirs) = (Server::new(&authority).await, Server::new(&authority).await);
    {
        let (a, b) = (ours.actions().await, theirs.actions().await);
        let (alice, bob) = (account(&a, "alice").await, account(&b, "bob").await);
        let via = [ours.name().to_string()];
        let knocking = vec![(Membership::Knock, Some("Tents".to_owned()))];
        for version in ["10", "12"] {
            let room_id = room(&a, &alice, version, json!({ "join_rule": "knock" })).await;
            let (at, bob_id) = (room_id.as_str(), &bob.user_id);
            let knocked = knocks::knock(&b, &bob, at, &via, Some("please".to_owned())).await.unwrap();
            assert_eq!((knocked.membership, own(&b, &bob).await), (Membership::Knock, knocking.clone()));
            assert_eq!(membership(&a, &room_id, bob_id).await, Membership::Knock);

            members::leave(&b, &bob, at).await.unwrap();
            assert_eq!(membership(&a, &room_id, bob_id).await, Membership::Leave, "he took it back");
            assert!(own(&b, &bob).await.is_empty());

            knocks::knock(&b, &bob, at, &via, None).await.unwrap();
            members::take_measure(&a, &alice, at, members::Measure::Kick, bob_id, None).await.unwrap();
            eventually("he is told that he was sent away", async || own(&b, &bob).await.is_empty()).await;

            knocks::knock(&b, &bob, at, &via, None).await.unwrap();
            knocks::approve(&a, &alice, at, bob_id).await.unwrap();
            assert_eq!(own(&b, &bob).await, [(Membership::Invite, Some("Tents".to_owned()))]);
            members::join(&b, &bob, at, &[], None).await.unwrap();
            eventually("he is in", async || membership(&a, &room_id, bob_id).await == Membership::Join).await;
            members::leave(&b, &bob, at).await.unwrap();
        }
        let closed = room(&a, &alice, "12", json!({ "join_rule": "invite" })).await;
        let refused = knocks::knock(&b, &bob, closed.as_str(), &via, None).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::PeerRefused);
    }
    ours.stop().await;
    theirs.stop().await;
}

/// Hard cases 1 and 43, for knocks: a resident server that proposes something else, and shows nonsense.
#[tokio::test]
async fn what_a_resident_server_proposes_and_shows_is_looked_at() {
    let authority = Authority::new();
    let (mut server, stranger) = (Server::new(&authority).await, Stranger::new(&authority).await);
    {
        let actions = server.actions().await;
        let alice = account(&actions, "alice").await;
        let far = format!("!{}", "B".repeat(43));
        let id = format!("${}", "C".repeat(43));
        let template = json!({
            "type": "m.room.member", "room_id": far, "sender": alice.user_id, "state_key": alice.user_id,
            "content": { "membership": "knock" }, "depth": 5, "origin_server_ts": 1, "prev_events": [id], "auth_events": [id],
        });
        let name = json!({ "type": "m.room.name", "state_key": "", "sender": stranger.user("rita"), "content": { "name": "Far" } });
        let mut odd = vec![json!(5), Value::Null, json!({ "type": 7 }), name];
        odd.extend(
            (0..1_000).map(|_| json!({ "type": "m.room.topic", "state_key": "", "sender": "x", "content": [] })),
        );
        let answers = |template: Value, room_state: Value| {
            stranger.answers(move |seen| {
                if seen.target.contains("/make_knock/") {
                    return Some((200, json!({ "room_version": "12", "event": template })));
                }
                seen.target.contains("/send_knock/").then(|| (200, json!({ "knock_room_state": room_state })))
            });
        };
        let via = [stranger.name.to_string()];
        let knock = async || knocks::knock(&actions, &alice, &far, &via, None).await.map_err(|error| error.kind());
        for (field, other) in [
            ("type", json!("m.room.power_levels")),
            ("sender", json!(stranger.user("rita"))),
            ("state_key", json!(stranger.user("rita"))),
            ("room_id", json!(format!("!{}", "A".repeat(43)))),
            ("content", json!({ "membership": "join" })),
        ] {
            let mut wrong = template.clone();
            wrong[field] = other;
            answers(wrong, json!([]));
            assert_eq!(knock().await.unwrap_err(), ErrorKind::PeerRefused, "{field}");
        }
        assert!(!stranger.seen().iter().any(|seen| seen.target.contains("/send_knock/")), "nothing was signed");
        answers(template.clone(), Value::Null);
        assert_eq!(knock().await.unwrap_err(), ErrorKind::PeerRefused);
        assert!(own(&actions, &alice).await.is_empty());
        answers(template, json!(odd));
        knock().await.unwrap();
        assert_eq!(own(&actions, &alice).await, [(Membership::Knock, Some("Far".to_owned()))]);
        // Nobody answers when she goes: then it is forgotten here.
        stranger.answers(|_| Some((500, json!({}))));
        members::leave(&actions, &alice, &far).await.unwrap();
        assert!(own(&actions, &alice).await.is_empty());
    }
    server.stop().await;
}

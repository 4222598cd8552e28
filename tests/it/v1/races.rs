//! Many at once: what must be one stays one, and what has a limit keeps it.

use std::{collections::BTreeSet, future::Future, pin::Pin};

use serde_json::{Value, json};

use super::VERSIONS;
use crate::client::{Answer, Caller, PASSWORD, server, text, together};

type Asking = Pin<Box<dyn Future<Output = Answer> + Send>>;

fn posts(caller: &Caller, path: &str, body: Value) -> Asking {
    let (caller, path) = (caller.clone(), path.to_owned());
    Box::pin(async move { caller.post(&path, body).await })
}

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_parallel_creations_for_a_pair_make_one_direct_room() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let answers = together((0..100).map(|number| {
        let (caller, partner) = if number % 2 == 0 { (&alice, "bob") } else { (&bob, "alice") };
        posts(caller, "/v1/rooms/dm", json!({"participant_id": partner}))
    }))
    .await;
    let rooms: BTreeSet<String> = answers.iter().map(|answer| text(&answer.data()["id"])).collect();
    assert_eq!(rooms.len(), 1);
    assert_eq!(count(&answers, 201), 1, "one call created it");
    for caller in [&alice, &bob] {
        let own = caller.get("/v1/rooms").await.list();
        assert_eq!(own.len(), 1);
        assert_eq!((&own[0]["members_count"], &own[0]["me"]["membership"]), (&json!(2), &json!("join")));
    }
    let joins = alice.timeline(&own_room(&alice).await).await;
    let joins =
        joins.iter().filter(|event| event["type"] == "m.room.member" && event["content"]["membership"] == "join");
    assert_eq!(joins.count(), 2, "each joined once");
}

async fn own_room(caller: &Caller) -> String {
    caller.room_ids("/v1/rooms").await.swap_remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn four_hundred_rooms_made_by_one_person_at_once_are_four_hundred_rooms() {
    let server = server().await;
    let alice = server.account("alice").await;
    let body = json!({"room_type": "group", "name": "Tents"});
    let answers = together((0..400).map(|_| posts(&alice, "/v1/rooms", body.clone()))).await;
    let rooms: Vec<Value> = answers.into_iter().map(Answer::created).collect();
    for field in ["id", "room_alias"] {
        let different: BTreeSet<String> = rooms.iter().map(|room| text(&room[field])).collect();
        assert_eq!(different.len(), 400, "{field}");
    }
    assert!(rooms.iter().all(|room| room["created_at"] == server.time(0)), "the clock stood still");
    assert_eq!(alice.get("/v1/rooms").await.meta()["total"], 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn incognito_and_direct_rooms_made_at_once_are_different_rooms() {
    let server = server().await;
    let alice = server.account("alice").await;
    let partners = server.accounts("tent", 20).await;
    let whispers = (0..20).map(|_| posts(&alice, "/v1/rooms", json!({"room_type": "incognito"})));
    let directs = partners.iter().map(|partner| posts(&alice, "/v1/rooms/dm", json!({"participant_id": partner.id})));
    let requests: Vec<Asking> = whispers.chain(directs).collect();
    let rooms: BTreeSet<String> =
        together(requests).await.into_iter().map(|answer| text(&answer.created()["id"])).collect();
    assert_eq!(rooms.len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_joins_for_the_last_five_places_five_win() {
    let server = server().await;
    let alice = server.account("alice").await;
    let people = server.accounts("tent", 50).await;
    for version in VERSIONS {
        let body = json!({"room_type": "public", "name": "Small", "max_members": 6, "room_version": version.name});
        let room = alice.creates(body).await;
        let path = format!("/v1/rooms/{room}/join");
        let answers = together(people.iter().map(|person| posts(person, &path, json!({})))).await;
        assert_eq!((count(&answers, 200), count(&answers, 409)), (5, 45), "version {}", version.name);
        assert!(
            answers.iter().all(|answer| answer.status == 200 || answer.json()["error"]["code"] == "SW_ROOM_CAPACITY")
        );
        assert_eq!(alice.sees(&room).await["members_count"], 6);
        assert_eq!(alice.members(&room, "join").await.len(), 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_who_joins_at_once_is_in() {
    let server = server().await;
    let alice = server.account("alice").await;
    let people = server.accounts("tent", 40).await;
    let room = alice.public("Open").await;
    let path = format!("/v1/rooms/{room}/join");
    let answers = together(people.iter().map(|person| posts(person, &path, json!({})))).await;
    assert_eq!(count(&answers, 200), 40);
    assert_eq!(alice.sees(&room).await["members_count"], 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_joining_many_times_at_once_joins_once() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.public("Open").await;
    let path = format!("/v1/rooms/{room}/join");
    let answers = together((0..30).map(|_| posts(&bob, &path, json!({})))).await;
    assert_eq!(count(&answers, 200), 30);
    assert_eq!(alice.sees(&room).await["members_count"], 2);
    let timeline = alice.timeline(&room).await;
    assert_eq!(timeline.iter().filter(|event| event["state_key"] == bob.id).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_sent_at_once_all_have_a_place_of_their_own() {
    let server = server().await;
    let alice = server.account("alice").await;
    let people = server.accounts("tent", 4).await;
    let others: Vec<&Caller> = people.iter().collect();
    let room = alice.group_with("Tents", &others).await;
    let path = format!("/v1/rooms/{room}/messages");
    let answers =
        together((0..200).map(|number| posts(&people[number % 4], &path, json!({"body": format!("{number}")})))).await;
    let sent: BTreeSet<String> = answers.into_iter().map(|answer| text(&answer.created()["position"])).collect();
    assert_eq!(sent.len(), 200);
    let heard: BTreeSet<String> = alice.hears(&room).await.into_iter().collect();
    assert_eq!(heard.len(), 200);
    assert_eq!(alice.sees(&room).await["me"]["unread_count"], 200);
    assert_eq!(people[0].sees(&room).await["me"]["unread_count"], 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_retried_many_times_at_once_is_one_event() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let path = format!("/v1/rooms/{room}/messages");
    let answers = together((0..30).map(|_| posts(&alice, &path, json!({"body": "once", "txn_id": "t"})))).await;
    let events: BTreeSet<String> = answers.into_iter().map(|answer| text(&answer.created()["event_id"])).collect();
    assert_eq!(events.len(), 1);
    assert_eq!(alice.hears(&room).await, ["once"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_retried_many_times_at_once_is_one_room() {
    let server = server().await;
    let alice = server.account("alice").await.with_header("Idempotency-Key", "k");
    let body = json!({"room_type": "group", "name": "Tents"});
    let answers = together((0..30).map(|_| posts(&alice, "/v1/rooms", body.clone()))).await;
    let rooms: BTreeSet<String> = answers.into_iter().map(|answer| text(&answer.created()["id"])).collect();
    assert_eq!(rooms.len(), 1);
    assert_eq!(alice.get("/v1/rooms").await.meta()["total"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_asked_for_at_once_is_given_once() {
    let server = server().await;
    let alice = server.account("alice").await;
    let body = json!({"room_type": "group", "name": "Tents", "alias": "felt"});
    let answers = together((0..30).map(|_| posts(&alice, "/v1/rooms", body.clone()))).await;
    assert_eq!((count(&answers, 201), count(&answers, 409)), (1, 29));
    assert_eq!(alice.get("/v1/rooms").await.meta()["total"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn public_rooms_of_one_name_made_at_once_all_get_an_alias() {
    let server = server().await;
    let alice = server.account("alice").await;
    let answers =
        together((0..30).map(|_| posts(&alice, "/v1/rooms", json!({"room_type": "public", "name": "Lobby"})))).await;
    let aliases: BTreeSet<String> = answers.into_iter().map(|answer| text(&answer.created()["room_alias"])).collect();
    assert_eq!(aliases.len(), 30);
    assert!(aliases.contains("#lobby:yurt.test"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_name_asked_for_at_once_is_given_once() {
    let server = server().await;
    let mut won = 0;
    let answers =
        together((0..10).map(|_| {
            posts(&server.nameless(), "/v1/auth/register", json!({"username": "alice", "password": PASSWORD}))
        }))
        .await;
    for answer in answers {
        match answer.status {
            201 => won += 1,
            409 => {
                answer.refused(409, "SW_NAME_TAKEN");
            }
            _ => {
                answer.refused(429, "SW_RATE_LIMIT_EXCEEDED");
            }
        }
    }
    assert_eq!(won, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_frozen_amid_messages_holds_each_that_was_answered() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let path = format!("/v1/rooms/{room}/messages");
    let mut requests: Vec<Asking> =
        (0..60).map(|number| posts(&alice, &path, json!({"body": format!("{number}")}))).collect();
    requests.insert(20, posts(&alice, &format!("/v1/rooms/{room}/archive"), json!({})));
    let answers = together(requests).await;
    let sent: BTreeSet<String> =
        answers.iter().filter(|answer| answer.status == 201).map(|answer| text(&answer.data()["event_id"])).collect();
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer.status, 200 | 201) || answer.json()["error"]["code"] == "SW_ROOM_FROZEN")
    );
    let timeline = alice.timeline(&room).await;
    let frozen_at = timeline.iter().position(|event| event["type"] == "io.yurt.archived").expect("it was archived");
    let held: BTreeSet<String> = timeline
        .iter()
        .filter(|event| event["type"] == "m.room.message")
        .map(|event| text(&event["event_id"]))
        .collect();
    assert_eq!(held, sent);
    assert_eq!(frozen_at, timeline.len() - 1, "nothing is written behind the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn opposite_memberships_at_once_end_in_one_of_them() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.public("Open").await;
    let (join, kick) = (format!("/v1/rooms/{room}/join"), format!("/v1/rooms/{room}/kick"));
    let requests = (0..40).map(|number| match number % 2 {
        0 => posts(&bob, &join, json!({})),
        _ => posts(&alice, &kick, json!({"participant_id": "bob"})),
    });
    together(requests).await;
    let joined = alice.members(&room, "join").await;
    let seen = alice.sees(&room).await;
    assert_eq!(seen["members_count"], joined.len());
    let is_member = bob.sees(&room).await["me"]["membership"] == "join";
    assert_eq!(joined.contains(&bob.id), is_member);
}

#[tokio::test(flavor = "multi_thread")]
async fn read_markers_set_at_once_end_on_the_latest() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let mut events = Vec::new();
    for number in 0..20 {
        events.push(alice.says(&room, &format!("{number}")).await);
    }
    let path = format!("/v1/rooms/{room}/read");
    let requests: Vec<Asking> = events
        .iter()
        .rev()
        .map(|event| {
            let (bob, path, body) = (bob.clone(), path.clone(), json!({"event_id": event}));
            let asking: Asking = Box::pin(async move { bob.put(&path, body).await });
            asking
        })
        .collect();
    assert_eq!(count(&together(requests).await, 200), 20);
    let me = bob.sees(&room).await["me"].clone();
    assert_eq!((&me["read_event_id"], &me["unread_count"]), (&json!(events[19]), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_one_room_changed_at_once_are_all_kept() {
    let server = server().await;
    let (alice, people) = (server.account("alice").await, server.accounts("tent", 10).await);
    let others: Vec<&Caller> = people.iter().collect();
    let room = alice.group_with("Tents", &others).await;
    let requests: Vec<Asking> = people
        .iter()
        .map(|person| {
            let (alice, path) = (alice.clone(), format!("/v1/rooms/{room}/members/{}/power-level", person.id));
            let asking: Asking = Box::pin(async move { alice.put(&path, json!({"power_level": 7})).await });
            asking
        })
        .collect();
    assert_eq!(count(&together(requests).await, 200), 10);
    let levels = alice.state(&room, "m.room.power_levels").await;
    assert!(people.iter().all(|person| levels["users"][&person.id] == 7), "{levels}");
}

//! Rows of section 4: rotation, keys that count for nothing, notaries; and what is told without a signature. Whole servers, signed requests.

use std::time::Duration;

use rules::kind::RoomKind;
use ruma::OwnedUserId;
use serde_json::{Value, json};
use yurt::actions::{
    Actions, Caller,
    accounts::{self, NewAccount},
    creation::{self, NewRoom},
    members, messages,
};

use super::{
    servers::{Authority, Server, eventually},
    stranger::{F1, Stranger},
};

/// Longer than the pause between two fetches of a server's keys.
const FETCH_PAUSE: Duration = Duration::from_secs(2 * 60);

async fn account(actions: &Actions, name: &str) -> Caller {
    accounts::create(actions, NewAccount { username: name.to_owned(), ..NewAccount::default() }).await.unwrap();
    let user_id: OwnedUserId = accounts::user_id(actions, name).unwrap();
    Caller::local(&user_id, false)
}

async fn say(actions: &Actions, caller: &Caller, room_id: &str, body: &str) -> Result<(), String> {
    let message = messages::NewMessage {
        event_type: "m.room.message".to_owned(),
        content: json!({ "msgtype": "m.text", "body": body }),
        reply_to: None,
        transaction_id: None,
        fingerprint: [0; 32],
    };
    messages::send(actions, caller, room_id, message).await.map(drop).map_err(|error| error.to_string())
}

async fn public_room(actions: &Actions, caller: &Caller) -> String {
    let new = NewRoom { kind: Some(RoomKind::Public), name: Some("Tents".to_owned()), ..NewRoom::default() };
    creation::create(actions, caller, new).await.unwrap().to_string()
}

async fn bodies(actions: &Actions, caller: &Caller, room_id: &str) -> Vec<String> {
    let page = yurt::actions::timeline::page(actions, caller, room_id, None, yurt::actions::Direction::Up, 200).await;
    let contents = page.unwrap().events.into_iter().map(|view| view.event.content_as::<Value>().unwrap());
    contents.filter_map(|content| content["body"].as_str().map(str::to_owned)).collect()
}

/// Rows `Rotation` and `Validity`: an old key is published with its end and never beside itself; what it signed goes on counting, here and there; the
/// other server learns the new one.
#[tokio::test]
async fn a_room_outlives_the_key_of_the_server_that_made_it() {
    let authority = Authority::new();
    let (mut ours, mut theirs) = (Server::new(&authority).await, Server::new(&authority).await);
    let (alice, bob, room_id) = {
        let (a, b) = (ours.actions().await, theirs.actions().await);
        let (alice, bob) = (account(&a, "alice").await, account(&b, "bob").await);
        let room_id = public_room(&a, &alice).await;
        members::join(&b, &bob, &room_id, &[ours.name().to_string()], None).await.unwrap();
        say(&a, &alice, &room_id, "with the old key").await.unwrap();
        eventually("the other server has it", async || bodies(&b, &bob, &room_id).await.len() == 1).await;
        (alice, bob, room_id)
    };
    let (_, before) = ours.get(&authority.file(), "/_matrix/key/v2/server").await;
    let old: Vec<String> = before["verify_keys"].as_object().unwrap().keys().cloned().collect();
    let new = ours.generate_key();
    ours.stop().await;
    ours.start().await;
    let (_, after) = ours.get(&authority.file(), "/_matrix/key/v2/server").await;
    let in_use: Vec<String> = after["verify_keys"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(in_use, [new]);
    assert_eq!(after["old_verify_keys"][&old[0]]["key"], before["verify_keys"][&old[0]]["key"]);
    assert!(after["old_verify_keys"][&old[0]]["expired_ts"].as_u64().unwrap() > 0);
    assert_eq!(after["old_verify_keys"].as_object().unwrap().len(), 1);
    for server in [&ours, &theirs] {
        server.advance(FETCH_PAUSE);
    }
    {
        let (a, b) = (ours.actions().await, theirs.actions().await);
        say(&a, &alice, &room_id, "with the new key").await.unwrap();
        eventually("the other server took the new key", async || bodies(&b, &bob, &room_id).await.len() == 2).await;
        // Nobody of the first server is in the room any more; what it gets back was signed with its old key.
        members::leave(&a, &alice, &room_id).await.unwrap();
        eventually("the other server knows", async || {
            let view = b.room(room_id.as_str().try_into().unwrap()).view().await.unwrap().unwrap();
            view.summary.joined == 1
        })
        .await;
        members::join(&a, &alice, &room_id, &[theirs.name().to_string()], None).await.unwrap();
        say(&b, &bob, &room_id, "welcome back").await.unwrap();
        eventually("she reads it", async || {
            bodies(&a, &alice, &room_id).await.last().is_some_and(|last| last == "welcome back")
        })
        .await;
    }
    ours.stop().await;
    theirs.stop().await;
}

/// Hard case 13: a key whose bytes stand on the list signs no request.
#[tokio::test]
async fn who_signs_with_a_refused_key_is_nobody() {
    let authority = Authority::new();
    let stranger = Stranger::new(&authority).await;
    let mut open = Server::new(&authority).await;
    let refused = stranger.public_key();
    let mut closed = Server::changed(&authority, |config| config.federation.refused_keys = vec![refused]).await;
    let target = format!("{F1}/query/profile?user_id=@nobody:{}", "localhost");
    let (status, _) = stranger.get(&open, &target).await;
    assert_eq!(status, 404);
    let (status, answer) = stranger.get(&closed, &target).await;
    assert_eq!((status, &answer["errcode"]), (401, &json!("M_UNAUTHORIZED")));
    open.stop().await;
    closed.stop().await;
}

/// Rows `Order` and `Be a notary`: a server that no longer gives its keys is known by what it told a notary before.
#[tokio::test]
async fn a_notary_vouches_for_the_keys_of_a_server_that_is_away() {
    let authority = Authority::new();
    let mut notary = Server::new(&authority).await;
    let asked = vec![notary.name().to_owned()];
    let mut ours = Server::changed(&authority, |config| config.federation.notaries = asked).await;
    let mut others = Server::new(&authority).await;
    let stranger = Stranger::new(&authority).await;
    let query = format!("/_matrix/key/v2/query/{}", stranger.name);
    let (status, told) = notary.get(&authority.file(), &query).await;
    assert_eq!((status, told["server_keys"].as_array().unwrap().len()), (200, 1));
    let signed_by: Vec<&String> = told["server_keys"][0]["signatures"].as_object().unwrap().keys().collect();
    assert!(signed_by.contains(&&notary.name().to_string()) && signed_by.contains(&&stranger.name.to_string()));
    stranger.withhold_keys();
    let (_, again) = notary.get(&authority.file(), &query).await;
    assert_eq!(again["server_keys"][0]["verify_keys"], told["server_keys"][0]["verify_keys"]);
    let (_, unknown) = others.get(&authority.file(), &query).await;
    assert_eq!(unknown, json!({ "server_keys": [] }));
    let target = format!("{F1}/event/$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(stranger.get(&others, &target).await.0, 401, "nobody says who that is");
    assert_eq!(stranger.get(&ours, &target).await.0, 404, "the notary says who that is");
    for server in [&mut notary, &mut ours, &mut others] {
        server.stop().await;
    }
}

/// Row `GET /.well-known/matrix/server`; row `Trailing slash`.
#[tokio::test]
async fn a_server_says_where_it_is_and_takes_paths_that_end_with_a_slash() {
    let authority = Authority::new();
    let mut silent = Server::new(&authority).await;
    let mut told =
        Server::changed(&authority, |config| config.tenant[0].reached_at = "matrix.example.org:443".to_owned()).await;
    let well_known = "/.well-known/matrix/server";
    let (status, answer) = told.get(&authority.file(), well_known).await;
    assert_eq!((status, answer), (200, json!({ "m.server": "matrix.example.org:443" })));
    let (status, answer) = silent.get(&authority.file(), well_known).await;
    assert_eq!((status, &answer["errcode"]), (404, &json!("M_NOT_FOUND")));

    let stranger = Stranger::new(&authority).await;
    let id = format!("${}", "A".repeat(43));
    for path in [format!("event/{id}/"), format!("state/!r/?event_id={id}"), format!("backfill/!r/?v={id}&limit=1")] {
        let (status, answer) = stranger.get(&silent, &format!("{F1}/{path}")).await;
        assert_eq!((status, &answer["errcode"]), (404, &json!("M_NOT_FOUND")), "{path}");
    }
    let transaction = json!({ "origin": stranger.name, "origin_server_ts": 1, "pdus": [] });
    let (status, answer) = stranger.put(&silent, &format!("{F1}/send/t/"), &transaction).await;
    assert_eq!((status, answer), (200, json!({ "pdus": {} })));
    silent.stop().await;
    told.stop().await;
}

//! Two servers of ours: what one does in a room, the other has as well.

use std::sync::Arc;

use rules::{kind::RoomKind, permission::Membership};
use ruma::OwnedRoomId;
use yurt::actions::{
    ErrorKind, Window,
    creation::{self, NewRoom},
    direct, members, room_state, rooms,
};

use super::engines::{Engine, Net, engine};

const ALL: Window = Window { offset: 0, limit: 100 };
const VERSIONS: [&str; 3] = ["10", "11", "12"];

async fn two() -> (Arc<Net>, Engine, Engine) {
    let net = Arc::new(Net::default());
    let alice = engine(&net, "a.example", "alice").await;
    let bob = engine(&net, "b.example", "bob").await;
    (net, alice, bob)
}

async fn room(of: &Engine, kind: RoomKind, version: &str) -> OwnedRoomId {
    let new = NewRoom {
        kind: Some(kind),
        name: Some("Tents".to_owned()),
        version: Some(version.to_owned()),
        ..NewRoom::default()
    };
    creation::create(&of.actions, &of.person, new).await.unwrap()
}

fn via(engine: &Engine) -> Vec<String> {
    vec![engine.name.to_string()]
}

/// S2S 15 our event is hashed and signed.
#[tokio::test]
async fn a_public_room_of_another_server_is_joined_by_its_id_and_by_its_alias() {
    for version in VERSIONS {
        let (net, alice, bob) = two().await;
        let room_id = room(&alice, RoomKind::Public, version).await;
        let joined = members::join(&bob.actions, &bob.person, room_id.as_str(), &via(&alice), None).await.unwrap();
        assert_eq!((joined.membership, joined.view.summary.name.as_deref()), (Membership::Join, Some("Tents")));
        assert_eq!(bob.state(&room_id).await, alice.state(&room_id).await, "version {version}");
        let hello = bob.say(&room_id, "hello").await;
        net.deliver(&bob, &room_id, &[&alice]).await;
        assert!(alice.holds(&room_id, &hello).await);
        net.pass_over(&alice, &room_id).await;
        let answer = alice.say(&room_id, "come in").await;
        net.deliver(&alice, &room_id, &[&bob]).await;
        assert!(bob.holds(&room_id, &answer).await);

        let carol = engine(&net, "c.example", "carol").await;
        let alias = joined.view.summary.alias.clone().unwrap();
        let found = members::join(&carol.actions, &carol.person, &alias, &[], None).await.unwrap();
        assert_eq!((found.room_id, found.view.summary.joined), (room_id, 3));
    }
}

/// S2S 9.2 invite. S2S 15 we invite.
#[tokio::test]
async fn invite_join_leave_and_join_again_end_in_the_same_state() {
    for version in VERSIONS {
        let (net, alice, bob) = two().await;
        let room_id = room(&alice, RoomKind::Group, version).await;
        let invite = members::invite(&alice.actions, &alice.person, room_id.as_str(), &bob.person.user_id, None);
        assert_eq!(invite.await.unwrap().view.summary.invited, 1);
        let list = rooms::own(&bob.actions, &bob.person, ALL).await.unwrap();
        assert_eq!(list.entries.len(), 1);
        let shown = &list.entries[0];
        assert_eq!((shown.membership, shown.view.summary.name.as_deref()), (Membership::Invite, Some("Tents")));
        members::join(&bob.actions, &bob.person, room_id.as_str(), &[], None).await.unwrap();
        assert_eq!(bob.membership(&room_id).await, Membership::Join);
        assert_eq!(bob.state(&room_id).await, alice.state(&room_id).await);
        bob.say(&room_id, "one").await;
        members::leave(&bob.actions, &bob.person, room_id.as_str()).await.unwrap();
        net.deliver(&bob, &room_id, &[&alice]).await;
        assert_eq!(bob.state(&room_id).await, alice.state(&room_id).await);

        alice.say(&room_id, "nobody of b hears this").await;
        members::invite(&alice.actions, &alice.person, room_id.as_str(), &bob.person.user_id, None).await.unwrap();
        assert_eq!(bob.membership(&room_id).await, Membership::Invite, "version {version}");
        members::join(&bob.actions, &bob.person, room_id.as_str(), &[], None).await.unwrap();
        assert_eq!(bob.state(&room_id).await, alice.state(&room_id).await);
        net.pass_over(&alice, &room_id).await;
        let last = alice.say(&room_id, "welcome back").await;
        net.deliver(&alice, &room_id, &[&bob]).await;
        assert!(bob.holds(&room_id, &last).await);
        assert_eq!(bob.state(&room_id).await, alice.state(&room_id).await);
    }
}

#[tokio::test]
async fn an_invite_is_declined_with_or_without_the_other_server() {
    let (net, alice, bob) = two().await;
    for is_down in [false, true] {
        let room_id = room(&alice, RoomKind::Group, "12").await;
        members::invite(&alice.actions, &alice.person, room_id.as_str(), &bob.person.user_id, None).await.unwrap();
        if is_down {
            net.down.lock().insert(alice.name.clone());
        }
        members::leave(&bob.actions, &bob.person, room_id.as_str()).await.unwrap();
        assert!(rooms::own(&bob.actions, &bob.person, ALL).await.unwrap().entries.is_empty());
        let invited = alice.actions.room(&room_id).view().await.unwrap().unwrap().summary.invited;
        assert_eq!(invited, u64::from(is_down));
    }
}

#[tokio::test]
async fn who_cannot_be_reached_is_neither_joined_nor_invited() {
    let (net, alice, bob) = two().await;
    let room_id = room(&alice, RoomKind::Public, "12").await;
    net.down.lock().insert(alice.name.clone());
    let join = members::join(&bob.actions, &bob.person, room_id.as_str(), &via(&alice), None).await;
    assert_eq!(join.unwrap_err().kind(), ErrorKind::PeerUnreachable);
    net.down.lock().clear();
    net.down.lock().insert(bob.name.clone());
    let invite = members::invite(&alice.actions, &alice.person, room_id.as_str(), &bob.person.user_id, None).await;
    assert_eq!(invite.unwrap_err().kind(), ErrorKind::PeerUnreachable);
    assert_eq!(alice.actions.room(&room_id).view().await.unwrap().unwrap().summary.invited, 0);
    net.down.lock().clear();
    let nobody = ruma::OwnedUserId::try_from("@nobody:b.example").unwrap();
    let invite = members::invite(&alice.actions, &alice.person, room_id.as_str(), &nobody, None).await;
    assert_eq!(invite.unwrap_err().kind(), ErrorKind::PeerRefused);
}

/// S2S 15: the next server is asked when one is away, knows nothing of the room, or cannot help.
#[tokio::test]
async fn the_next_server_is_asked_when_one_cannot_help() {
    for version in VERSIONS {
        let (net, alice, bob) = two().await;
        let (away, nosy) = (engine(&net, "away.example", "ann").await, engine(&net, "nosy.example", "ned").await);
        net.down.lock().insert(away.name.clone());
        let room_id = room(&alice, RoomKind::Public, version).await;
        let servers = [&away, &nosy, &alice].map(|engine| engine.name.to_string());
        let joined = members::join(&bob.actions, &bob.person, room_id.as_str(), &servers, None).await.unwrap();
        assert_eq!(joined.membership, Membership::Join);
        assert_eq!(bob.state(&room_id).await, alice.state(&room_id).await, "version {version}");
    }
}

#[tokio::test]
async fn a_direct_message_reaches_the_other_server() {
    for version in ["12"] {
        let (net, alice, bob) = two().await;
        let made = direct::open(&alice.actions, &alice.person, &bob.person.user_id).await.unwrap();
        assert!(made.is_new, "version {version}");
        let list = rooms::own(&bob.actions, &bob.person, ALL).await.unwrap();
        assert_eq!(list.entries[0].view.summary.kind, RoomKind::Direct);
        let found = direct::open(&bob.actions, &bob.person, &alice.person.user_id).await.unwrap();
        assert_eq!((found.is_new, &found.room_id), (false, &made.room_id));
        bob.say(&made.room_id, "hello").await;
        net.deliver(&bob, &made.room_id, &[&alice]).await;
        assert_eq!(bob.state(&made.room_id).await, alice.state(&made.room_id).await);
        let again = direct::open(&alice.actions, &alice.person, &bob.person.user_id).await.unwrap();
        assert_eq!((again.is_new, again.room_id), (false, made.room_id));
    }
}

#[tokio::test]
async fn people_of_other_servers_are_removed_and_banned_as_ours_are() {
    let (net, alice, bob) = two().await;
    let room_id = room(&alice, RoomKind::Public, "12").await;
    let join = || members::join(&bob.actions, &bob.person, room_id.as_str(), &[], None);
    members::join(&bob.actions, &bob.person, room_id.as_str(), &via(&alice), None).await.unwrap();
    let target = &bob.person.user_id;
    let measure =
        |measure| members::take_measure(&alice.actions, &alice.person, room_id.as_str(), measure, target, None);
    net.pass_over(&alice, &room_id).await;
    measure(members::Measure::Ban).await.unwrap();
    net.deliver(&alice, &room_id, &[&bob]).await;
    assert_eq!(bob.membership(&room_id).await, Membership::Ban);
    assert_eq!(join().await.unwrap_err().kind(), ErrorKind::PeerRefused);
    measure(members::Measure::Unban).await.unwrap();
    assert_eq!(join().await.unwrap().membership, Membership::Join);
    assert_eq!(bob.state(&room_id).await, alice.state(&room_id).await);
}

/// S2S 15 events that come while a join runs wait for it.
#[tokio::test]
async fn somebody_else_of_the_server_joins_here_and_two_at_once_share_the_way() {
    let (net, alice, bob) = two().await;
    let room_id = room(&alice, RoomKind::Public, "12").await;
    let mut others = Vec::new();
    for number in 0..4 {
        others.push(super::engines::caller(&bob.actions, &format!("bob{number}")).await);
    }
    let servers = via(&alice);
    let joins = others.iter().map(|other| members::join(&bob.actions, other, room_id.as_str(), &servers, None));
    for joined in futures_util::future::join_all(joins).await {
        assert_eq!(joined.unwrap().membership, Membership::Join);
    }
    net.deliver(&bob, &room_id, &[&alice]).await;
    assert_eq!(bob.state(&room_id).await, alice.state(&room_id).await);
    assert_eq!(alice.actions.room(&room_id).view().await.unwrap().unwrap().summary.joined, 5);
}

#[tokio::test]
async fn the_state_of_a_room_that_was_entered_is_read_though_its_events_are_from_before() {
    let (_net, alice, bob) = two().await;
    let room_id = room(&alice, RoomKind::Public, "12").await;
    members::join(&bob.actions, &bob.person, room_id.as_str(), &via(&alice), None).await.unwrap();
    let page = room_state::list(&bob.actions, &bob.person, room_id.as_str(), ALL).await.unwrap();
    assert_eq!(page.total, alice.state(&room_id).await.len());
    let join = bob.person.user_id.as_str();
    let own = room_state::get(&bob.actions, &bob.person, room_id.as_str(), "m.room.member", join).await.unwrap();
    assert!(page.entries.iter().all(|view| view.place <= own.place));
    let create = room_state::get(&bob.actions, &bob.person, room_id.as_str(), "m.room.create", "").await.unwrap();
    assert!(create.place < own.place);
}

/// The state that a peer tells of then holds events of ours that an older key has signed.
#[tokio::test]
async fn a_room_is_joined_again_after_our_signing_key_was_replaced() {
    for version in VERSIONS {
        let (net, alice, mut bob) = two().await;
        let room_id = room(&alice, RoomKind::Public, version).await;
        members::join(&bob.actions, &bob.person, room_id.as_str(), &via(&alice), None).await.unwrap();
        let other = super::engines::caller(&bob.actions, "carol").await;
        members::join(&bob.actions, &other, room_id.as_str(), &[], None).await.unwrap();
        for leaver in [&other, &bob.person] {
            members::leave(&bob.actions, leaver, room_id.as_str()).await.unwrap();
        }
        net.deliver(&bob, &room_id, &[&alice]).await;
        let former = bob.actions.signer.key_id().to_owned();
        bob = bob.with_a_new_key(&net).await;
        assert_ne!(bob.actions.signer.key_id(), former);
        members::join(&bob.actions, &bob.person, room_id.as_str(), &via(&alice), None).await.unwrap();
        assert_eq!(bob.state(&room_id).await, alice.state(&room_id).await, "version {version}");
        let hello = bob.say(&room_id, "with a new key").await;
        net.deliver(&bob, &room_id, &[&alice]).await;
        assert!(alice.holds(&room_id, &hello).await);
    }
}

//! Which other servers take part in a room, and in anything: switched by administrators, with everything that follows.

use std::{pin::Pin, sync::Arc};

use ::federation::local::Wish;
use rules::permission::Membership;
use ruma::{OwnedRoomId, RoomAliasId};
use serde_json::json;
use yurt::{
    actions::{
        Caller, ErrorKind, PolicyMode,
        audit::{self, Filter},
        creation::{self, NewRoom},
        federate::{self, Switch},
        members,
        peers::{self, PeerError, Peers, ServerPolicy},
        rooms, typing,
    },
    storage::room_settings::FederationMode,
};

use super::{
    Scene,
    party::{Party, agree, caller, to},
    servers::{Authority, Server, eventually},
};

const OFF: FederationMode = FederationMode::Off;
const OPEN: FederationMode = FederationMode::Open;

/// Alice and Bob on servers of their own, in a room of hers.
fn two<'a>(
    authority: &'a Authority,
    version: &'a str,
) -> Pin<Box<dyn Future<Output = (Party, Party, OwnedRoomId)> + 'a>> {
    Box::pin(gathered(authority, version))
}

async fn gathered(authority: &Authority, version: &str) -> (Party, Party, OwnedRoomId) {
    let alice = Party::new(Server::new(authority).await, "alice").await;
    let bob = Party::new(Server::new(authority).await, "bob").await;
    let room_id = alice.room(version).await;
    bob.joins(&room_id, &alice).await;
    agree(&alice, &bob, &room_id).await;
    (alice, bob, room_id)
}

impl Scene {
    /// An administrator says which servers take part in the room.
    pub(super) async fn switches(&self, mode: FederationMode) {
        let admin = Caller::local(&self.alice.user_id, true);
        federate::switch(&self.actions, &admin, self.room_id.as_str(), to(mode)).await.unwrap();
    }
}

async fn alias_of(party: &Party, room_id: &OwnedRoomId) -> ruma::OwnedRoomAliasId {
    let view = party.actions.room(room_id).view().await.unwrap().unwrap();
    RoomAliasId::parse(view.summary.alias.clone().unwrap()).unwrap()
}

#[tokio::test]
async fn a_room_that_is_off_does_not_exist_for_other_servers() {
    let authority = Authority::new();
    let (alice, bob, room_id) = two(&authority, "12").await;
    let last = alice.says(&room_id, "hello").await;
    agree(&alice, &bob, &room_id).await;
    let alias = alias_of(&alice, &room_id).await;
    let network: Arc<dyn Peers> = bob.actions.peers();
    network.alias(&alice.name, &alias).await.unwrap();
    let switched = alice.switches(&room_id, OFF).await;
    assert_eq!(switched.affected.members, std::slice::from_ref(&bob.person.user_id));
    assert!(switched.affected.servers.iter().eq([&bob.name]));

    let versions = ["12".try_into().unwrap()];
    let refused = |error: PeerError| assert!(matches!(error, PeerError::Refused(_)), "{error:?}");
    refused(network.alias(&alice.name, &alias).await.unwrap_err());
    refused(network.event(&alice.name, &last).await.unwrap_err());
    refused(network.state_ids(&alice.name, &room_id, &last).await.unwrap_err());
    refused(network.backfill(&alice.name, &room_id, std::slice::from_ref(&last), 10).await.unwrap_err());
    refused(network.event_auth(&alice.name, &room_id, &last).await.unwrap_err());
    for wish in [Wish::Join, Wish::Leave] {
        let template = network.membership_template(&alice.name, &room_id, &bob.person.user_id, wish, &versions).await;
        refused(template.unwrap_err());
    }
    let (theirs, ours) = (bob.says(&room_id, "do you hear me?").await, alice.says(&room_id, "among us").await);
    typing::set(&alice.actions, &alice.person, room_id.as_str(), Some(10_000)).await.unwrap();
    bob.has_told(&alice.name).await;
    alice.has_told(&bob.name).await;
    assert!(!alice.holds(&room_id, &theirs).await && !bob.holds(&room_id, &ours).await);

    let carol = caller(&bob.actions, "carol").await;
    let invite = members::invite(&alice.actions, &alice.person, room_id.as_str(), &carol.user_id, None).await;
    assert_eq!(invite.unwrap_err().kind(), ErrorKind::FederationDisabled);
    let invite = members::invite(&bob.actions, &bob.person, room_id.as_str(), &alice.admin().user_id, None).await;
    invite.unwrap_err();
}

#[tokio::test]
async fn what_both_said_while_a_room_was_off_is_exchanged_when_it_is_on_again() {
    for version in ["10", "12"] {
        let authority = Authority::new();
        let (alice, bob, room_id) = two(&authority, version).await;
        members::join(&bob.actions, &caller(&bob.actions, "carol").await, room_id.as_str(), &[], None).await.unwrap();
        agree(&alice, &bob, &room_id).await;
        alice.switches(&room_id, OFF).await;
        let mut said = Vec::new();
        for number in 0..60 {
            said.push(alice.says(&room_id, &format!("ours {number}")).await);
            bob.says(&room_id, &format!("theirs {number}")).await;
        }
        alice.sets(&room_id, "m.room.topic", json!({ "topic": "felt" })).await;
        bob.has_told(&alice.name).await;
        alice.has_told(&bob.name).await;
        assert!(bob.events(&room_id).await.is_disjoint(&said.iter().cloned().collect()));
        let alice = alice.restart().await;
        let job_id = alice.switches(&room_id, OPEN).await.job_id.unwrap();
        alice.is_done(&job_id).await;
        agree(&alice, &bob, &room_id).await;
        // Both go on from there.
        alice.says(&room_id, "hello again").await;
        bob.says(&room_id, "hello again").await;
        agree(&alice, &bob, &room_id).await;
    }
}

#[tokio::test]
async fn of_more_than_the_bound_only_the_last_events_are_exchanged_and_the_state_is_equal() {
    let authority = Authority::new();
    let mut config = Server::config_of(&authority);
    config.federation.resume_events_max = 10;
    let alice = Party::new(Server::with(config).await, "alice").await;
    let bob = Party::new(Server::new(&authority).await, "bob").await;
    let room_id = alice.room("12").await;
    bob.joins(&room_id, &alice).await;
    agree(&alice, &bob, &room_id).await;
    alice.switches(&room_id, OFF).await;
    for number in 0..250 {
        alice.says(&room_id, &format!("ours {number}")).await;
    }
    alice.sets(&room_id, "m.room.topic", json!({ "topic": "felt" })).await;
    let last = alice.says(&room_id, "the last one").await;
    let before = alice.events(&room_id).await.len();
    let job_id = alice.switches(&room_id, OPEN).await.job_id.unwrap();
    alice.is_done(&job_id).await;
    eventually("the last event has come", async || bob.holds(&room_id, &last).await).await;
    eventually("the state is equal", async || alice.state(&room_id).await == bob.state(&room_id).await).await;
    assert!(bob.events(&room_id).await.len() < before, "what is before is not sent");
}

#[tokio::test]
async fn with_an_allow_list_only_those_on_it_take_part() {
    let authority = Authority::new();
    let (alice, bob, room_id) = two(&authority, "12").await;
    let carol = Party::new(Server::new(&authority).await, "carol").await;
    carol.joins(&room_id, &alice).await;
    agree(&alice, &carol, &room_id).await;
    agree(&alice, &bob, &room_id).await;
    let listed = FederationMode::Listed(vec![bob.name.clone()]);
    let switched = alice.switches(&room_id, listed).await;
    assert!(switched.affected.servers.iter().eq([&carol.name]) && switched.job_id.is_none());
    let details = rooms::details(&alice.actions, &alice.person, room_id.as_str()).await.unwrap();
    assert_eq!(details.federation, rooms::Federation::Listed);
    let said = alice.says(&room_id, "hello").await;
    eventually("Bob hears it", async || bob.holds(&room_id, &said).await).await;
    alice.has_told(&carol.name).await;
    assert!(!carol.holds(&room_id, &said).await);
    let job_id = alice.switches(&room_id, OPEN).await.job_id.unwrap();
    alice.is_done(&job_id).await;
    agree(&alice, &carol, &room_id).await;
}

#[tokio::test]
async fn who_is_kept_out_is_removed_first_where_that_is_asked_for() {
    let authority = Authority::new();
    let (alice, bob, room_id) = two(&authority, "12").await;
    let asked = |dry_run| Switch { evict: true, acl: true, dry_run, as_member: None, ..to(OFF) };
    let room = room_id.as_str();
    let without = federate::switch(&alice.actions, &alice.admin(), room, asked(false)).await;
    assert_eq!(without.unwrap_err().kind(), ErrorKind::RequestInvalid, "the admin is not in the room");
    let before = alice.events(&room_id).await;
    let as_alice = |dry_run| Switch { as_member: Some(alice.person.user_id.clone()), ..asked(dry_run) };
    let dry = federate::switch(&alice.actions, &alice.admin(), room, as_alice(true)).await.unwrap();
    assert_eq!((dry.affected.members_count, dry.affected.servers.len()), (1, 1));
    assert_eq!(alice.events(&room_id).await, before, "a preview changes nothing");
    let done = federate::switch(&alice.actions, &alice.admin(), room, as_alice(false)).await.unwrap();
    assert_eq!((&done.affected.members, &done.untold), (&dry.affected.members, &Vec::new()));
    // Both were told before the room was off.
    let state = bob.state(&room_id).await;
    assert_eq!(state, alice.state(&room_id).await);
    let there = rooms::details(&bob.actions, &bob.person, room).await.unwrap();
    assert_eq!(there.membership, Membership::Leave);
    assert!(state.keys().any(|(kind, _)| kind.to_string() == "m.room.server_acl"));
    let filter = Filter { action: Some("room.federate".to_owned()), ..Filter::default() };
    let acts = audit::list(&alice.actions, &alice.admin(), &filter, yurt::actions::Window::ALL).await.unwrap();
    assert_eq!(acts.total, 1);
    let details = &acts.entries[0].1.details;
    assert!(details.contains(&("as".to_owned(), alice.person.user_id.to_string())), "{details:?}");
}

#[tokio::test]
async fn new_rooms_take_part_as_the_configuration_says() {
    let authority = Authority::new();
    let mut config = Server::config_of(&authority);
    config.federation.default_room_mode = yurt::config::RoomMode::Off;
    let alice = Party::new(Server::with(config).await, "alice").await;
    let bob = Party::new(Server::new(&authority).await, "bob").await;
    let room_id = alice.room("12").await;
    let via = [alice.name.to_string()];
    let join = members::join(&bob.actions, &bob.person, room_id.as_str(), &via, None).await;
    assert_eq!(join.unwrap_err().kind(), ErrorKind::PeerRefused);
    let new = NewRoom {
        kind: Some(rules::kind::RoomKind::Public),
        name: Some("Felt".to_owned()),
        federate: Some(true),
        ..NewRoom::default()
    };
    let room_id = creation::create(&alice.actions, &alice.person, new).await.unwrap();
    bob.joins(&room_id, &alice).await;
}

#[tokio::test]
async fn servers_that_the_policy_keeps_out_neither_ask_nor_are_asked() {
    let authority = Authority::new();
    let (alice, bob, room_id) = two(&authority, "12").await;
    let policy = |mode, deny: &[&str]| ServerPolicy {
        mode,
        allow: Default::default(),
        deny: deny.iter().map(|name| (*name).to_owned()).collect(),
    };
    let all =
        [policy(PolicyMode::Closed, &[]), policy(PolicyMode::AllowList, &[]), policy(PolicyMode::Open, &["localhost"])];
    for closed in all {
        peers::set_policy(&alice.actions, &alice.admin(), closed.clone()).await.unwrap();
        let (ours, theirs) = (alice.says(&room_id, "among us").await, bob.says(&room_id, "do you hear me?").await);
        let asked = alice.actions.peers().event(&bob.name, &theirs).await;
        assert!(matches!(asked, Err(PeerError::Unreachable)), "{asked:?}");
        let asks = bob.actions.peers().event(&alice.name, &ours).await;
        assert!(matches!(asks, Err(PeerError::Refused(_))), "{asks:?}");
        let invite = members::invite(&alice.actions, &alice.person, room_id.as_str(), &bob.admin().user_id, None).await;
        assert_eq!(invite.unwrap_err().kind(), ErrorKind::PeerUnreachable);
        assert!(!bob.holds(&room_id, &ours).await && !alice.holds(&room_id, &theirs).await);
        let authority = authority.file();
        assert_eq!(alice.server.get(&authority, "/_matrix/key/v2/server").await.0, 200);
        assert_eq!(alice.server.get(&authority, "/_matrix/federation/v1/version").await.0, 200);
    }
    let alice = alice.restart().await;
    let kept = peers::policy(&alice.actions, &alice.admin()).await.unwrap();
    assert_eq!(kept, policy(PolicyMode::Open, &["localhost"]));
    let asks = bob.actions.peers().alias(&alice.name, &alias_of(&alice, &room_id).await).await;
    assert!(matches!(asks, Err(PeerError::Refused(_))), "{asks:?}");
    peers::set_policy(&alice.actions, &alice.admin(), ServerPolicy::default()).await.unwrap();
    let admin = bob.admin();
    peers::reset(&bob.actions, &admin, alice.name.as_str()).await.unwrap();
    agree(&alice, &bob, &room_id).await;
}

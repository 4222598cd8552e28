//! The engine below the API: events of peers, forks, and what the room is afterwards. The peer's events are built and signed here, as another server would.
#![cfg(test)]

use std::{collections::HashMap, sync::Arc};

use rules::{
    UnixMs, Version, authorization,
    draft::{self, Around, Draft},
    event::Event,
    resolution,
    signature::Signer,
    state::StateMap,
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedRoomId, OwnedUserId, UserId};
use serde_json::{Value, json};
use yurt::{
    actions::{
        ActionError, Actions, Caller, ErrorKind,
        accounts::{self, NewAccount},
        append::{self, Remote},
        avatars,
        creation::{self, NewRoom},
        jobs, levels, media, members, messages, purge, room_state, rooms,
        rows::Rows,
    },
    storage::{Commit, Home, history::Tip, keyspaces::EVENT_IDS},
};

use crate::client::{TestServer, server};

const VERSIONS: [&str; 3] = ["10", "11", "12"];

/// A room of ours in which `@rita:peer.example` takes part, and what her server needs to speak.
struct Scene {
    _server: TestServer,
    actions: Actions,
    alice: Caller,
    rita: OwnedUserId,
    peer: Signer,
    room_id: OwnedRoomId,
    version: Version,
    clock: u64,
}

impl Scene {
    /// Alice makes a public room, Rita joins it from her server and gets level 50.
    async fn new(version: &str) -> Self {
        let server = server().await;
        let actions = server.actions().await;
        accounts::create(&actions, NewAccount { username: "alice".to_owned(), ..NewAccount::default() }).await.unwrap();
        let alice = Caller::local(&accounts::user_id(&actions, "alice").unwrap(), false);
        let new = NewRoom {
            kind: Some(rules::kind::RoomKind::Public),
            name: Some("Forks".to_owned()),
            version: Some(version.to_owned()),
            ..NewRoom::default()
        };
        let room_id = creation::create(&actions, &alice, new).await.unwrap();
        let scene = Self {
            _server: server,
            alice,
            rita: UserId::parse("@rita:peer.example").unwrap(),
            peer: Signer::new("peer.example".try_into().unwrap(), "1", &[7; 32]).unwrap(),
            room_id,
            version: Version::parse(version).unwrap(),
            clock: actions.now().0,
            actions,
        };
        let join = scene.on_heads(Draft::member(&scene.rita, "join", CanonicalJsonObject::new())).await;
        assert_eq!(scene.receive(join).await, Remote::Accepted);
        scene.set_level(50).await;
        scene
    }

    async fn set_level(&self, level: i64) {
        levels::set_member(&self.actions, &self.alice, self.room_id.as_str(), &self.rita, level).await.unwrap();
    }

    async fn tip(&self) -> Tip {
        self.actions.room(&self.room_id).view().await.unwrap().unwrap().tip.clone()
    }

    async fn heads(&self) -> Vec<OwnedEventId> {
        self.tip().await.heads.into_iter().map(|head| head.event_id).collect()
    }

    async fn receive(&self, event: Event) -> Remote {
        append::remote(&self.actions, &self.actions.room(&self.room_id), event).await.unwrap()
    }

    async fn event(&self, id: &OwnedEventId) -> Arc<Event> {
        let room = self.actions.room(&self.room_id);
        let rows = Rows::on_disk(&room.store, &room.home);
        let arrival = rows.arrival_of(id).await.unwrap().unwrap();
        rows.event(&self.version, arrival).await.unwrap().1
    }

    /// An event of Rita behind the present heads.
    async fn on_heads(&self, draft: Draft) -> Event {
        let heads = self.heads().await;
        self.behind(&heads, draft, 0).await
    }

    /// An event of Rita behind these events, authorised by the state after the first of them.
    async fn behind(&self, previous: &[OwnedEventId], draft: Draft, later_ms: u64) -> Event {
        let room = self.actions.room(&self.room_id);
        let rows = Rows::on_disk(&room.store, &room.home);
        let arrival = rows.arrival_of(previous.first().unwrap()).await.unwrap().unwrap();
        let root = rows.event(&self.version, arrival).await.unwrap().0.state_after;
        let content = serde_json::value::to_raw_value(&draft.content).unwrap();
        let needed =
            authorization::needed_state(&self.version, &draft.kind, &self.rita, draft.state_key.as_deref(), &content)
                .unwrap();
        let state = rows.state_events(&self.version, root, &needed).await.unwrap();
        let mut depth = 0;
        for id in previous {
            depth = depth.max(self.event(id).await.depth());
        }
        let around = Around {
            room_id: Some(&self.room_id),
            sender: &self.rita,
            prev_events: previous.to_vec(),
            auth_events: authorization::select_auth_events(&self.version, &needed, &state),
            depth: depth + 1,
            now: UnixMs(self.clock + later_ms),
        };
        draft::complete(draft, around, &self.version, &self.peer).unwrap()
    }

    async fn topic(&self) -> Option<String> {
        let found = room_state::get(&self.actions, &self.alice, self.room_id.as_str(), "m.room.topic", "").await;
        let event = found.ok()?.event;
        event.content_as::<HashMap<String, String>>().unwrap().remove("topic")
    }

    /// The whole state after an event, by what is stored.
    async fn state_after(&self, id: &OwnedEventId) -> StateMap<OwnedEventId> {
        let room = self.actions.room(&self.room_id);
        let rows = Rows::on_disk(&room.store, &room.home);
        let arrival = rows.arrival_of(id).await.unwrap().unwrap();
        let root = rows.event(&self.version, arrival).await.unwrap().0.state_after;
        self.state_of(root).await
    }

    async fn state_of(&self, root: yurt::storage::StateRoot) -> StateMap<OwnedEventId> {
        let room = self.actions.room(&self.room_id);
        let rows = Rows::on_disk(&room.store, &room.home);
        let tree = yurt::storage::StateTree::new(&room.store, room.home.clone());
        let mut state = StateMap::new();
        for (_, arrival) in tree.walk(root, 0, 1_000).await.unwrap() {
            let event = rows.event(&self.version, arrival).await.unwrap().1;
            state.insert(rules::state::change_of(&event).unwrap(), event.event_id().clone());
        }
        state
    }

    /// The present state is what the plain algorithm makes of the states after all heads.
    async fn assert_state_is_the_merge_of_the_heads(&self) {
        let tip = self.tip().await;
        let mut states = Vec::new();
        for head in &tip.heads {
            states.push(self.state_after(&head.event_id).await);
        }
        let mut events = HashMap::new();
        let mut wanted: Vec<OwnedEventId> = states.iter().flat_map(|state| state.values().cloned()).collect();
        while let Some(id) = wanted.pop() {
            if events.contains_key(&id) {
                continue;
            }
            let event = self.event(&id).await;
            wanted.extend(authorization::needed_auth_events(&self.version, &event));
            events.insert(id, event);
        }
        let merged =
            resolution::resolve(&self.version, &states, &|id: &ruma::EventId| events.get(id).cloned()).unwrap();
        assert_eq!(self.state_of(tip.state).await, merged);
    }
}

fn topic(text: &str) -> Draft {
    Draft::state("m.room.topic", "", object(json!({ "topic": text })))
}

fn object(content: Value) -> CanonicalJsonObject {
    match CanonicalJsonValue::try_from(content).unwrap() {
        CanonicalJsonValue::Object(content) => content,
        other => panic!("{other:?} is no object"),
    }
}

async fn for_each_version<F: Future<Output = ()>>(test: impl Fn(&'static str) -> F) {
    for version in VERSIONS {
        test(version).await;
    }
}

#[tokio::test]
async fn an_event_of_a_peer_is_shown_like_our_own() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let message = Draft::message("m.room.message", object(json!({ "msgtype": "m.text", "body": "hello" })));
        let event = scene.on_heads(message).await;
        let id = event.event_id().clone();
        assert_eq!(scene.receive(event).await, Remote::Accepted);
        assert_eq!(scene.heads().await, [id]);
        let details = rooms::details(&scene.actions, &scene.alice, scene.room_id.as_str()).await.unwrap();
        assert_eq!((details.personal.unread, details.view.summary.joined), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn the_same_event_twice_changes_nothing() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let event = scene.on_heads(topic("once")).await;
        let again = Event::from_stored(
            event.event_id().clone(),
            scene.room_id.clone(),
            &scene.version,
            event.json().to_owned(),
            false,
        )
        .unwrap();
        assert_eq!(scene.receive(event).await, Remote::Accepted);
        let tip = scene.tip().await;
        assert_eq!(scene.receive(again).await, Remote::Known);
        assert_eq!(scene.tip().await, tip);
    })
    .await;
}

#[tokio::test]
async fn two_forks_are_resolved_and_the_next_local_event_joins_them() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let before = scene.heads().await;
        rooms::set_topic(&scene.actions, &scene.alice, scene.room_id.as_str(), "of alice").await.unwrap();
        let ours = scene.heads().await;
        let theirs = scene.behind(&before, topic("of rita"), 5_000).await;
        let theirs_id = theirs.event_id().clone();
        assert_eq!(scene.receive(theirs).await, Remote::Accepted);
        let mut heads = scene.heads().await;
        heads.sort();
        let mut expected = [ours[0].clone(), theirs_id];
        expected.sort();
        assert_eq!(heads, expected);
        scene.assert_state_is_the_merge_of_the_heads().await;
        assert_eq!(
            scene.topic().await.as_deref(),
            Some("of rita"),
            "both stand on the same levels, so the later one wins"
        );
        let join = send(&scene, "together again").await;
        let mut previous = scene.event(&join).await.prev_events().to_vec();
        previous.sort();
        assert_eq!(previous, expected);
        assert_eq!(scene.heads().await, [join]);
        scene.assert_state_is_the_merge_of_the_heads().await;
        assert_eq!(scene.topic().await.as_deref(), Some("of rita"));
    })
    .await;
}

async fn send(scene: &Scene, body: &str) -> OwnedEventId {
    let message = messages::NewMessage {
        event_type: "m.room.message".to_owned(),
        content: json!({ "msgtype": "m.text", "body": body }),
        reply_to: None,
        transaction_id: None,
        fingerprint: [0; 32],
    };
    messages::send(&scene.actions, &scene.alice, scene.room_id.as_str(), message).await.unwrap().event_id
}

#[tokio::test]
async fn a_fork_that_grows_on_both_sides_ends_in_the_same_state_as_the_plain_algorithm() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let mut theirs = scene.heads().await;
        for round in 0..4_u64 {
            rooms::set_topic(&scene.actions, &scene.alice, scene.room_id.as_str(), &format!("a{round}")).await.unwrap();
            if round == 1 {
                scene.set_level(60).await;
            }
            let draft = if round % 2 == 0 {
                topic(&format!("r{round}"))
            } else {
                Draft::state("m.room.name", "", object(json!({ "name": format!("r{round}") })))
            };
            let event = scene.behind(&theirs, draft, round * 10).await;
            theirs = vec![event.event_id().clone()];
            assert_eq!(scene.receive(event).await, Remote::Accepted, "version {version}, round {round}");
            scene.assert_state_is_the_merge_of_the_heads().await;
        }
        let details = rooms::details(&scene.actions, &scene.alice, scene.room_id.as_str()).await.unwrap();
        assert_eq!(details.view.summary.topic, scene.topic().await, "the summary follows the merged state");
    })
    .await;
}

#[tokio::test]
async fn levels_that_rest_on_levels_of_their_own_branch_survive_the_merge() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        accounts::create(&scene.actions, NewAccount { username: "bob".to_owned(), ..NewAccount::default() })
            .await
            .unwrap();
        let bob = Caller::local(&accounts::user_id(&scene.actions, "bob").unwrap(), false);
        members::join(&scene.actions, &bob, scene.room_id.as_str(), &[], None).await.unwrap();
        let before = scene.heads().await;
        let theirs = scene.behind(&before, topic("meanwhile"), 1).await;
        // Alice makes Bob strong, and Bob uses it: the second step stands only with the first.
        levels::set_member(&scene.actions, &scene.alice, scene.room_id.as_str(), &bob.user_id, 100).await.unwrap();
        let parts = serde_json::Map::from_iter([("invite".to_owned(), json!(30))]);
        levels::set(&scene.actions, &bob, scene.room_id.as_str(), parts).await.unwrap();
        assert_eq!(scene.receive(theirs).await, Remote::Accepted);
        scene.assert_state_is_the_merge_of_the_heads().await;
        let view = scene.actions.room(&scene.room_id).view().await.unwrap().unwrap();
        assert_eq!(view.basis.levels.invite(), 30, "version {version}");
        assert_eq!(scene.topic().await.as_deref(), Some("meanwhile"));
    })
    .await;
}

#[tokio::test]
async fn a_redacted_name_is_no_longer_told_by_the_room() {
    let scene = Scene::new("12").await;
    let named = scene.on_heads(Draft::state("m.room.name", "", object(json!({ "name": "Abuse" })))).await;
    let id = named.event_id().clone();
    assert_eq!(scene.receive(named).await, Remote::Accepted);
    messages::redact(&scene.actions, &scene.alice, scene.room_id.as_str(), id.as_str(), None, None).await.unwrap();
    let details = rooms::details(&scene.actions, &scene.alice, scene.room_id.as_str()).await.unwrap();
    assert_eq!(details.view.summary.name, None);
}

/// S2S 16 previous events of ours.
#[tokio::test]
async fn more_heads_than_an_event_can_name_are_joined_by_several() {
    let scene = Scene::new("12").await;
    let before = scene.heads().await;
    for number in 0..25_u64 {
        let event = scene.behind(&before, topic(&format!("head {number}")), number).await;
        assert_eq!(scene.receive(event).await, Remote::Accepted);
    }
    assert_eq!(scene.heads().await.len(), 25);
    scene.assert_state_is_the_merge_of_the_heads().await;
    let first = send(&scene, "twenty at once").await;
    assert_eq!(scene.event(&first).await.prev_events().len(), 20);
    assert_eq!(scene.heads().await.len(), 6, "the other five, and the message");
    scene.assert_state_is_the_merge_of_the_heads().await;
    let second = send(&scene, "and the rest").await;
    assert_eq!(scene.event(&second).await.prev_events().len(), 6);
    assert_eq!(scene.heads().await, [second]);
    scene.assert_state_is_the_merge_of_the_heads().await;
}

#[tokio::test]
async fn an_event_from_before_a_ban_is_soft_failed_and_kept_out_of_sight() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let before = scene.heads().await;
        let (room, ban) = (scene.room_id.as_str(), members::Measure::Ban);
        members::take_measure(&scene.actions, &scene.alice, room, ban, &scene.rita, None).await.unwrap();
        let tip = scene.tip().await;
        let late = scene.behind(&before, topic("too late"), 1).await;
        let id = late.event_id().clone();
        assert!(matches!(scene.receive(late).await, Remote::SoftFailed(_)));
        let after = scene.tip().await;
        assert_eq!((after.heads, after.state), (tip.heads, tip.state));
        assert_eq!(scene.topic().await, None);
        assert_eq!(scene.event(&id).await.event_id(), &id, "it is held all the same");
    })
    .await;
}

#[tokio::test]
async fn an_event_against_the_rules_is_rejected_and_what_builds_on_it_is_judged_by_itself() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        scene.set_level(0).await;
        let tip = scene.tip().await;
        let forbidden = scene.on_heads(topic("not yours")).await;
        let id = forbidden.event_id().clone();
        assert!(matches!(scene.receive(forbidden).await, Remote::Rejected(_)));
        let after = scene.tip().await;
        assert_eq!((after.heads, after.state), (tip.heads, tip.state));
        assert!(scene.event(&id).await.rejected());
        let message = Draft::message("m.room.message", object(json!({ "msgtype": "m.text", "body": "behind it" })));
        let next = scene.behind(&[id], message, 3).await;
        assert_eq!(scene.receive(next).await, Remote::Accepted);
        assert_eq!(scene.topic().await, None);
        scene.assert_state_is_the_merge_of_the_heads().await;
    })
    .await;
}

#[tokio::test]
async fn an_event_behind_a_gap_is_not_judged() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let first = scene.on_heads(topic("never sent")).await;
        let missing = first.event_id().clone();
        let heads = scene.heads().await;
        let mut second = scene.behind(&heads, topic("behind the gap"), 2).await;
        let around = Around {
            room_id: Some(&scene.room_id),
            sender: &scene.rita,
            prev_events: vec![missing.clone()],
            auth_events: second.auth_events().to_vec(),
            depth: second.depth() + 1,
            now: UnixMs(scene.clock + 3),
        };
        second = draft::complete(topic("behind the gap"), around, &scene.version, &scene.peer).unwrap();
        let tip = scene.tip().await;
        assert_eq!(scene.receive(second).await, Remote::Missing(vec![missing]));
        assert_eq!(scene.tip().await, tip);
    })
    .await;
}

/// Hard case 19.
#[tokio::test]
async fn a_redaction_of_a_peer_takes_the_content_away_where_it_may() {
    for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let ours = send(&scene, "a secret").await;
        let redaction = scene.on_heads(Draft::redaction(ours.clone(), CanonicalJsonObject::new())).await;
        assert_eq!(scene.receive(redaction).await, Remote::Accepted);
        let found =
            yurt::actions::timeline::event(&scene.actions, &scene.alice, scene.room_id.as_str(), ours.as_str()).await;
        let found = found.unwrap();
        assert_eq!(found.redacted_by.as_ref(), Some(&scene.rita), "level 50 may redact");
        assert_eq!(found.event.content().get(), "{}");
    })
    .await;
}

#[tokio::test]
async fn a_purged_room_leaves_no_row_and_takes_in_nothing_more_of_its_peers() {
    let scene = Scene::new("12").await;
    let late = scene.on_heads(Draft::member(&scene.rita, "leave", CanonicalJsonObject::new())).await;
    let admin = Caller::local(&scene.alice.user_id, true);
    let job = purge::start(&scene.actions, &admin, scene.room_id.as_str()).await.unwrap();
    while !jobs::get(&scene.actions, &admin, &job).await.unwrap().job.state.is_over() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let room = scene.actions.room(&scene.room_id);
    let mut all = Commit::new(room.home.clone());
    all.delete_home();
    assert_eq!(room.store.weigh(&all).await.unwrap(), 0);
    let id = room.store.get(&EVENT_IDS, &Home::content(), late.prev_events().first().unwrap()).await.unwrap();
    assert_eq!(id, None);
    assert_eq!(scene.receive(late).await, Remote::Ignored);
    let via = ["peer.example".to_owned()];
    let joined =
        async |caller| members::join(&scene.actions, caller, scene.room_id.as_str(), &via, None).await.unwrap_err();
    assert_eq!(joined(&scene.alice).await.kind(), ErrorKind::RoomNotFound);
    assert_eq!(joined(&admin).await.kind(), ErrorKind::FederationDisabled);
}

#[tokio::test]
async fn an_event_of_a_peer_never_opens_our_media() {
    let scene = Scene::new("12").await;
    let actions = &scene.actions;
    accounts::create(actions, NewAccount { username: "bob".to_owned(), ..NewAccount::default() }).await.unwrap();
    let bob = Caller::local(&accounts::user_id(actions, "bob").unwrap(), false);
    members::join(actions, &bob, scene.room_id.as_str(), &[], None).await.unwrap();
    let body = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"felt"))]);
    let medium = media::upload(actions, &scene.alice, body, None, None).await.unwrap();
    let content = || object(json!({ "msgtype": "m.image", "body": "felt", "url": medium.mxc }));
    for draft in [Draft::message("m.room.message", content()), Draft::state("m.room.avatar", "", content())] {
        let event = scene.on_heads(draft).await;
        assert_eq!(scene.receive(event).await, Remote::Accepted);
        let found = media::find(actions, &bob, None, &medium.sha256).await;
        assert!(matches!(found, Err(ActionError::MediaNotFound)), "{found:?}");
        let picture = avatars::find(actions, &bob, scene.room_id.as_str(), None).await;
        assert!(matches!(picture, Err(ActionError::MediaNotFound)), "{picture:?}");
    }
    let content = json!({ "url": medium.mxc });
    room_state::set(actions, &scene.alice, scene.room_id.as_str(), "com.example.any", "", content).await.unwrap();
    media::find(actions, &bob, None, &medium.sha256).await.unwrap();
}

//! Handshakes with servers that ask for what they must not get, and that answer something else than they were asked for.

use std::{collections::BTreeSet, sync::Arc};

use ::federation::{
    Pdu, Refusal,
    local::{Gap, Handshakes, Invite, StateBefore, Template, Wish},
};
use parking_lot::Mutex;
use rules::{UnixMs, canonical, draft::Draft, event::Event};
use ruma::{CanonicalJsonObject, EventId, OwnedEventId, OwnedServerName, RoomId, RoomVersionId, ServerName, UserId};
use serde_json::{Value, json};
use yurt::actions::{
    ErrorKind, Window, invites, members,
    peers::{Asking, Errcode, Joined, Keys, PeerError, Peers},
    rooms,
};

use super::{Others, Scene, pdu};

const ALL: Window = Window { offset: 0, limit: 100 };

fn peer() -> OwnedServerName {
    "peer.example".try_into().unwrap()
}

fn versions() -> Vec<RoomVersionId> {
    vec![RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12]
}

impl Scene {
    pub(super) async fn template(&self, user_id: &UserId, wish: Wish) -> Result<Template, Refusal> {
        self.actions.membership_template(&peer(), &self.room_id, user_id, wish, &versions()).await
    }

    /// The template, completed and signed as its server would, with something changed before.
    pub(super) async fn completed(
        &self,
        user_id: &UserId,
        wish: Wish,
        change: impl FnOnce(&mut Value),
    ) -> (OwnedEventId, Pdu) {
        let template = self.template(user_id, wish).await.unwrap();
        let mut event: Value = serde_json::from_str(template.event.get()).unwrap();
        change(&mut event);
        let mut object: CanonicalJsonObject = canonical::read_object(&event.to_string()).unwrap();
        let hash = rules::hash::content_hash_text(&object);
        object.insert("hashes".to_owned(), ruma::CanonicalJsonValue::try_from(json!({ "sha256": hash })).unwrap());
        self.world.lock().signers[&peer()].sign_event(&mut object, &self.version);
        let event_id = rules::hash::event_id(&object, &self.version).unwrap();
        (event_id, pdu(&canonical::to_string(&object)))
    }

    pub(super) async fn hand_in(
        &self,
        (event_id, event): (OwnedEventId, Pdu),
        wish: Wish,
    ) -> Result<OwnedEventId, Refusal> {
        let accepted = self.actions.accept_membership(&peer(), &self.room_id, &event_id, wish, event).await;
        accepted.map(|_| event_id)
    }
}

/// Hard case 57, and the same event twice.
/// S2S 5 every request may be repeated. S2S 9.2 send_join.
#[tokio::test]
async fn an_event_between_template_and_join_is_named_by_the_next_one() {
    super::for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let rose = UserId::parse("@rose:peer.example").unwrap();
        let (event_id, event) = scene.completed(&rose, Wish::Join, |_| {}).await;
        let between = scene.send("in between").await;
        let origin = peer();
        let accept = || scene.actions.accept_membership(&origin, &scene.room_id, &event_id, Wish::Join, event.clone());
        let first = accept().await.unwrap();
        let texts = |pdus: &[Pdu]| pdus.iter().map(|pdu| pdu.get().to_owned()).collect::<Vec<_>>();
        let told = first.before.gathered().await.unwrap();
        assert!(texts(&told.state).iter().any(|text| text.contains("m.room.create")));
        assert!(!texts(&told.state).iter().any(|text| text.contains("@rose:")), "the state before the join");
        let heads = scene.heads().await;
        assert_eq!(heads.len(), 1, "version {version}");
        scene.learn_ours().await;
        let named = scene.world.lock().events[&heads[0]].prev_events().to_vec();
        assert!(named.contains(&between) && named.contains(&event_id), "version {version}");
        let second = accept().await.unwrap();
        assert_eq!(texts(&told.state), texts(&second.before.gathered().await.unwrap().state));
        assert_eq!(first.event.get(), second.event.get());
        assert_eq!(scene.heads().await, heads);
    })
    .await;
}

/// Hard cases 3 and 7.
/// S2S 9.2 make_join. S2S 9.2 send_join.
#[tokio::test]
async fn what_is_no_join_of_the_peers_own_user_is_not_taken() {
    let scene = Scene::new("12").await;
    let rose = UserId::parse("@rose:peer.example").unwrap();
    let sam = scene.sam.clone();
    assert_eq!(scene.template(&sam, Wish::Join).await.unwrap_err(), Refusal::Forbidden);
    let old = [RoomVersionId::V10];
    let template = scene.actions.membership_template(&peer(), &scene.room_id, &rose, Wish::Join, &old).await;
    assert_eq!(template.unwrap_err(), Refusal::IncompatibleRoomVersion(RoomVersionId::V12));
    let before = scene.tip().await;
    let changes: Vec<Change> = vec![
        Box::new(|event| event["content"]["membership"] = json!("leave")),
        Box::new(|event| event["state_key"] = json!("@other:peer.example")),
        Box::new(|event| event["type"] = json!("m.room.topic")),
        Box::new(|event| event["room_id"] = json!("!AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
        Box::new(|event| event["content"]["join_authorised_via_users_server"] = json!("@alice:yurt.test")),
    ];
    for change in changes {
        let made = scene.completed(&rose, Wish::Join, change).await;
        scene.hand_in(made, Wish::Join).await.unwrap_err();
    }
    let (_, event) = scene.completed(&rose, Wish::Join, |_| {}).await;
    let other: OwnedEventId = EventId::parse(format!("${}", "A".repeat(43))).unwrap();
    assert!(matches!(scene.hand_in((other, event), Wish::Join).await, Err(Refusal::Invalid(_))));
    assert_eq!(scene.tip().await, before, "nothing was stored");
}

/// S2S 9.2 make_join.
#[tokio::test]
async fn a_banned_user_and_a_room_by_itself_give_no_template() {
    let scene = Scene::new("12").await;
    let rose = UserId::parse("@rose:peer.example").unwrap();
    let (alice, room) = (&scene.alice, scene.room_id.as_str());
    let made = scene.completed(&rose, Wish::Join, |_| {}).await;
    members::take_measure(&scene.actions, alice, room, members::Measure::Ban, &rose, None).await.unwrap();
    assert_eq!(scene.template(&rose, Wish::Join).await.unwrap_err(), Refusal::Forbidden);
    assert_eq!(scene.hand_in(made, Wish::Join).await.unwrap_err(), Refusal::Forbidden);
    assert_eq!(scene.template(&rose, Wish::Leave).await.unwrap_err(), Refusal::Forbidden);
    members::leave(&scene.actions, alice, room).await.unwrap();
    let rosa = UserId::parse("@rosa:peer.example").unwrap();
    assert_eq!(scene.template(&rosa, Wish::Join).await.unwrap_err(), Refusal::NotFound);
}

/// An invite of Alice into a room of Rita, whose server says what is given.
async fn invited(scene: &Scene, room_state: Vec<Pdu>, draft: Draft, origin: &str) -> Result<Pdu, Refusal> {
    let room_id = RoomId::parse(format!("!{}", "B".repeat(43))).unwrap();
    let around = rules::draft::Around {
        room_id: Some(&room_id),
        sender: &scene.rita,
        prev_events: vec![EventId::parse(format!("${}", "C".repeat(43))).unwrap()],
        auth_events: Vec::new(),
        depth: 5,
        now: UnixMs(scene.actions.now().0),
    };
    let event = rules::draft::complete(draft, around, &scene.version, &scene.world.lock().signers[&peer()]).unwrap();
    let origin: OwnedServerName = origin.try_into().unwrap();
    let invite = Invite { room_version: RoomVersionId::V12, event: pdu(event.json()), room_state };
    scene.actions.accept_invite(&origin, &room_id, event.event_id(), invite).await
}

/// Hard case 43.
/// S2S 9.2 invite.
#[tokio::test]
async fn whatever_is_shown_with_an_invite_the_list_of_rooms_works() {
    let scene = Scene::new("12").await;
    let name =
        json!({ "type": "m.room.name", "state_key": "", "sender": "@rita:peer.example", "content": { "name": "Far" } });
    let mut odd = vec![pdu("5"), pdu("null"), pdu("[]"), pdu("{}"), pdu(r#"{"type":7}"#), pdu(&name.to_string())];
    odd.extend((0..10_000).map(|_| pdu(r#"{"type":"m.room.topic","state_key":"","sender":"@x:y","content":[]}"#)));
    let draft = Draft::member(&scene.alice.user_id, "invite", CanonicalJsonObject::new());
    let signed = invited(&scene, odd, draft, "peer.example").await.unwrap();
    let signed: Value = serde_json::from_str(signed.get()).unwrap();
    assert!(signed["signatures"]["yurt.test"].is_object() && signed["signatures"]["peer.example"].is_object());
    let list = rooms::own(&scene.actions, &scene.alice, ALL).await.unwrap();
    let names: Vec<_> = list.entries.iter().filter_map(|room| room.view.summary.name.clone()).collect();
    assert_eq!((names.len(), names.contains(&"Far".to_owned())), (2, true));
    assert!(invites::find(&scene.actions, &scene.rita, &scene.room_id).await.unwrap().is_none());
}

/// Hard cases 2 and 28.
/// S2S 9.2 invite.
#[tokio::test]
async fn what_is_no_invite_of_one_of_ours_is_not_signed() {
    let scene = Scene::new("12").await;
    let alice = scene.alice.user_id.clone();
    let member = |user: &UserId, word: &str| Draft::member(user, word, CanonicalJsonObject::new());
    let nobody = UserId::parse("@nobody:yurt.test").unwrap();
    for draft in [
        member(&alice, "join"),
        member(&alice, "leave"),
        member(&scene.sam, "invite"),
        member(&nobody, "invite"),
        Draft::state("m.room.topic", alice.as_str(), super::object(json!({ "membership": "invite" }))),
        Draft::member(&alice, "invite", super::object(json!({ "third_party_invite": {} }))),
    ] {
        invited(&scene, Vec::new(), draft, "peer.example").await.unwrap_err();
    }
    assert_eq!(
        invited(&scene, Vec::new(), member(&alice, "invite"), "other.example").await.unwrap_err(),
        Refusal::Forbidden
    );
    let create = scene.world.lock().events.values().find(|event| event.type_str() == "m.room.create").cloned().unwrap();
    let other_room = vec![pdu(create.json())];
    assert!(matches!(
        invited(&scene, other_room, member(&alice, "invite"), "peer.example").await,
        Err(Refusal::Invalid(_))
    ));
    assert_eq!(rooms::own(&scene.actions, &scene.alice, ALL).await.unwrap().entries.len(), 1);
}

/// A server that answers joins as it is told to.
/// Something that is done to a template or an answer.
type Change = Box<dyn FnOnce(&mut Value)>;

/// The event, the state and the auth chain of an answer.
type Told = (Option<String>, Vec<String>, Vec<String>);

struct Liar {
    others: Others,
    template: Value,
    version: RoomVersionId,
    answer: Mutex<Option<Told>>,
    handed_in: Mutex<Vec<String>>,
}

impl Peers for Liar {
    fn event<'a>(&'a self, peer: &'a ServerName, event_id: &'a EventId) -> Asking<'a, Pdu> {
        self.others.event(peer, event_id)
    }

    fn missing_events<'a>(&'a self, peer: &'a ServerName, room_id: &'a RoomId, gap: Gap) -> Asking<'a, Vec<Pdu>> {
        self.others.missing_events(peer, room_id, gap)
    }

    fn state_ids<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, StateBefore<OwnedEventId>> {
        self.others.state_ids(peer, room_id, event_id)
    }

    fn state<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, StateBefore<Pdu>> {
        self.others.state(peer, room_id, event_id)
    }

    fn backfill<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        from: &'a [OwnedEventId],
        events_max: usize,
    ) -> Asking<'a, Vec<Pdu>> {
        self.others.backfill(peer, room_id, from, events_max)
    }

    fn event_auth<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, Vec<Pdu>> {
        self.others.event_auth(peer, room_id, event_id)
    }

    fn keys<'a>(&'a self, needed: &'a BTreeSet<(OwnedServerName, String)>, at: UnixMs) -> Keys<'a> {
        self.others.keys(needed, at)
    }

    fn membership_template<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        _user_id: &'a UserId,
        _wish: Wish,
        _versions: &'a [RoomVersionId],
    ) -> Asking<'a, Template> {
        let template = Template { room_version: self.version.clone(), event: pdu(&self.template.to_string()) };
        Box::pin(std::future::ready(Ok(template)))
    }

    fn send_join<'a>(
        &'a self,
        _peer: &'a ServerName,
        _room_id: &'a RoomId,
        _event_id: &'a EventId,
        event: Pdu,
    ) -> Asking<'a, Joined> {
        self.handed_in.lock().push(event.get().to_owned());
        let answer = self.answer.lock().clone();
        let read = |texts: Vec<String>| texts.iter().map(|text| pdu(text)).collect();
        let joined = answer.map(|(event, state, auth_chain)| {
            let before = StateBefore { state: read(state), auth_chain: read(auth_chain) };
            Joined::of(event.map(|text| pdu(&text)), before)
        });
        Box::pin(std::future::ready(joined.ok_or(PeerError::Refused(Errcode::FORBIDDEN))))
    }
}

/// A room of Rita on her server, as it is told to who joins: its id and its state.
struct Far {
    room_id: ruma::OwnedRoomId,
    state: Vec<Arc<Event>>,
}

fn far(scene: &Scene) -> Far {
    let signers = &scene.world.lock().signers;
    let (signer, version, rita) = (&signers[&peer()], &scene.version, &scene.rita);
    let make = |draft: Draft, room_id: Option<&ruma::OwnedRoomId>, auth: &[&Arc<Event>], depth: u64| {
        let around = rules::draft::Around {
            room_id,
            sender: rita,
            prev_events: auth.last().map(|event| event.event_id().clone()).into_iter().collect(),
            auth_events: auth
                .iter()
                .filter(|event| event.type_str() != "m.room.create")
                .map(|event| event.event_id().clone())
                .collect(),
            depth,
            now: scene.actions.now(),
        };
        Arc::new(rules::draft::complete(draft, around, version, signer).unwrap())
    };
    let object = |value| super::object(value);
    let create =
        make(Draft::state("m.room.create", "", object(json!({ "room_version": version.as_str() }))), None, &[], 1);
    let room_id = create.room_id().clone();
    let room = Some(&room_id);
    let rita_joins = make(Draft::member(rita, "join", CanonicalJsonObject::new()), room, &[&create], 2);
    let levels = Draft::state("m.room.power_levels", "", object(json!({ "users_default": 0 })));
    let levels = make(levels, room, &[&create, &rita_joins], 3);
    let rules = Draft::state("m.room.join_rules", "", object(json!({ "join_rule": "public" })));
    let rules = make(rules, room, &[&create, &rita_joins, &levels], 4);
    Far { room_id, state: vec![create, rita_joins, levels, rules] }
}

async fn join_with(
    scene: &Scene,
    far: &Far,
    change: impl FnOnce(&mut Value),
    answer: impl FnOnce(&mut Vec<String>, &mut Vec<String>, &mut Option<String>),
) -> (Result<(), ErrorKind>, usize) {
    let ids = |events: &[Arc<Event>]| events.iter().map(|event| event.event_id().to_string()).collect::<Vec<_>>();
    let mut template = json!({
        "type": "m.room.member", "room_id": far.room_id, "sender": scene.alice.user_id,
        "state_key": scene.alice.user_id, "content": { "membership": "join" }, "depth": 5,
        "origin_server_ts": 1, "prev_events": ids(&far.state[3..]), "auth_events": ids(&far.state[2..]),
    });
    change(&mut template);
    let texts = |events: &[Arc<Event>]| events.iter().map(|event| event.json().to_owned()).collect::<Vec<_>>();
    let (mut state, mut chain, mut event) = (texts(&far.state), texts(&far.state[..3]), None);
    answer(&mut state, &mut chain, &mut event);
    let liar = Arc::new(Liar {
        others: Others(Arc::clone(&scene.world)),
        template,
        version: RoomVersionId::V12,
        answer: Mutex::new(Some((event, state, chain))),
        handed_in: Mutex::default(),
    });
    let peers: Arc<dyn Peers> = Arc::<Liar>::clone(&liar);
    scene.actions.connect(peers);
    let via = [peer().to_string()];
    let joined = members::join(&scene.actions, &scene.alice, far.room_id.as_str(), &via, None).await;
    let handed_in = liar.handed_in.lock().len();
    (joined.map(drop).map_err(|error| error.kind()), handed_in)
}

/// Hard case 1.
/// S2S 15 what is checked of a template.
#[tokio::test]
async fn a_template_of_something_else_is_not_signed() {
    let scene = Scene::new("12").await;
    let far = far(&scene);
    let changes: Vec<Change> = vec![
        Box::new(|event| event["type"] = json!("m.room.power_levels")),
        Box::new(|event| event["room_id"] = json!("!AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
        Box::new(|event| event["sender"] = json!("@bob:yurt.test")),
        Box::new(|event| event["state_key"] = json!("@bob:yurt.test")),
        Box::new(|event| event["content"]["membership"] = json!("leave")),
        Box::new(|event| event["prev_events"] = json!([])),
        Box::new(|event| event["content"]["join_authorised_via_users_server"] = json!("@x:third.example")),
    ];
    for change in changes {
        let (joined, handed_in) = join_with(&scene, &far, change, |_, _, _| {}).await;
        assert_eq!((joined, handed_in), (Err(ErrorKind::PeerRefused), 0));
    }
}

/// Hard cases 4, 6, 28 and 29.
/// S2S 15 send_join goes to the server that gave the template. S2S 15 what is checked of the answer.
/// S2S 15 one bad event does not fail the join.
#[tokio::test]
async fn an_answer_that_is_no_room_is_not_entered_and_one_bad_event_does_no_harm() {
    let scene = Scene::new("12").await;
    let far = far(&scene);
    let own = scene.world.lock().events.values().find(|event| event.type_str() == "m.room.create").cloned().unwrap();
    type Change = Box<dyn FnOnce(&mut Vec<String>, &mut Vec<String>, &mut Option<String>)>;
    let other = own.json().to_owned();
    let foreign = other.clone();
    let bad: Vec<Change> = vec![
        Box::new(|state, _, _| drop(state.remove(0))),
        Box::new(move |state, _, _| state.push(other)),
        Box::new(move |state, _, _| state[0] = foreign),
        Box::new(|state, _, _| state[0] = state[0].replace("\"room_version\":\"12\"", "\"room_version\":\"11\"")),
        Box::new(|state, _, event| *event = Some(state[1].clone())),
        Box::new(|state, chain, _| {
            state.retain(|text| !text.contains("m.room.join_rules"));
            chain.retain(|text| !text.contains("m.room.join_rules"));
        }),
    ];
    for change in bad {
        let (joined, handed_in) = join_with(&scene, &far, |_| {}, change).await;
        assert_eq!((joined, handed_in), (Err(ErrorKind::PeerRefused), 1));
        assert!(scene.actions.room(&far.room_id).view().await.unwrap().is_none());
    }
    let (joined, _) = join_with(
        &scene,
        &far,
        |_| {},
        |state, _, _| {
            let forged = state[3].replace("m.room.join_rules", "m.room.topic");
            state.extend(["5".to_owned(), "{}".to_owned(), forged]);
        },
    )
    .await;
    assert_eq!(joined, Ok(()));
    let view = scene.actions.room(&far.room_id).view().await.unwrap().unwrap();
    assert_eq!((view.summary.joined, view.tip.heads.len()), (2, 1));
}

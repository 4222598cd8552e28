//! Section 19, policy servers: asked before we send, and about what others send without a signature; hard case 41. Whole servers, signed requests.

use std::time::Duration;

use rules::{draft::Draft, kind::RoomKind, signature::Signer, version::Version};
use ruma::{CanonicalJsonObject, OwnedRoomId, OwnedUserId, serde::Base64};
use serde_json::{Value, json};
use yurt::actions::{
    Actions, Caller, ErrorKind,
    accounts::{self, NewAccount},
    append::Writer,
    creation::{self, NewRoom},
    members, messages, room_state, timeline,
};

use super::{
    servers::{Authority, Server},
    stranger::{F1, Seen, Stranger},
};

/// Longer than a policy server that did not answer is left alone, and than the pause before a server that failed is tried again.
const SILENCE: Duration = Duration::from_secs(60 * 60);
const SEED: [u8; 32] = [41; 32];

/// A public room of Alice with people of two other servers, one of which is its policy server.
struct Scene {
    server: Server,
    actions: Actions,
    alice: Caller,
    room_id: OwnedRoomId,
    policy: Stranger,
    other: Stranger,
    /// Of each of the two: its user, the event that it follows, the events that let it speak.
    rose: Remote,
    mallory: Remote,
}

#[derive(Clone)]
struct Remote {
    user_id: OwnedUserId,
    join: String,
    auth: Vec<String>,
}

fn signer(policy: &Stranger) -> Signer {
    Signer::new(policy.name.clone(), "policy_server", &SEED).unwrap()
}

/// The signature of the policy server, as it answers it.
fn signature(signer: &Signer, event: &Value) -> Value {
    let mut object: CanonicalJsonObject = serde_json::from_value(event.clone()).unwrap();
    signer.sign_event(&mut object, &Version::parse("12").unwrap());
    let name = signer.server_name().as_str();
    let signed = serde_json::to_value(&object).unwrap();
    json!({ name: { "ed25519:policy_server": signed["signatures"][name]["ed25519:policy_server"] } })
}

async fn joined(server: &Server, stranger: &Stranger, name: &str, room_id: &str) -> Remote {
    let user_id = stranger.user(name);
    let (join, (status, answer)) = stranger.enters(server, "join", room_id, (&user_id, "")).await;
    assert_eq!(status, 200, "{answer}");
    let levels =
        answer["state"].as_array().unwrap().iter().find(|event| event["type"] == "m.room.power_levels").unwrap();
    let object: CanonicalJsonObject = serde_json::from_value(levels.clone()).unwrap();
    let levels = rules::hash::event_id(&object, &Version::parse("12").unwrap()).unwrap().to_string();
    Remote { user_id, auth: vec![levels, join.clone()], join }
}

impl Scene {
    async fn new() -> Self {
        let authority = Authority::new();
        let server = Server::new(&authority).await;
        let (policy, other) = (Stranger::new(&authority).await, Stranger::new(&authority).await);
        let actions = server.actions().await;
        accounts::create(&actions, NewAccount { username: "alice".to_owned(), ..NewAccount::default() }).await.unwrap();
        let alice = Caller::local(&accounts::user_id(&actions, "alice").unwrap(), false);
        let new = NewRoom { kind: Some(RoomKind::Public), name: Some("Tents".to_owned()), ..NewRoom::default() };
        let room_id = creation::create(&actions, &alice, new).await.unwrap();
        let rose = joined(&server, &policy, "rose", room_id.as_str()).await;
        let mallory = joined(&server, &other, "mallory", room_id.as_str()).await;
        let scene = Self { server, actions, alice, room_id, policy, other, rose, mallory };
        let key = Base64::<ruma::serde::base64::Standard, _>::new(signer(&scene.policy).public_key()).encode();
        scene.set_policy(json!({ "via": scene.policy.name, "public_keys": { "ed25519": key } })).await;
        scene.signs_all_but_spam();
        scene
    }

    async fn set_policy(&self, content: Value) {
        let mut writer = Writer::enter(&self.actions, &self.actions.room(&self.room_id)).await.unwrap().unwrap();
        let draft = Draft::state("m.room.policy", "", super::object(content));
        writer.stage(&self.alice.user_id, draft).await.unwrap();
        writer.commit().await.unwrap();
    }

    fn signs_all_but_spam(&self) {
        let signer = signer(&self.policy);
        self.policy.answers(move |seen| {
            let is_asked = seen.method == "POST" && seen.target == "/_matrix/policy/v1/sign";
            let is_spam = seen.body["content"]["body"].as_str().is_some_and(|body| body.contains("spam"));
            is_asked.then(|| match is_spam {
                true => (400, json!({ "errcode": "M_FORBIDDEN", "error": "spam" })),
                false => (200, signature(&signer, &seen.body)),
            })
        });
    }

    /// The events about which the policy server was asked.
    fn asked(&self) -> Vec<Value> {
        let is_question = |seen: &Seen| seen.target == "/_matrix/policy/v1/sign";
        self.policy.seen().into_iter().filter(is_question).map(|seen| seen.body).collect()
    }

    async fn say(&self, body: &str) -> Result<String, ErrorKind> {
        let message = messages::NewMessage {
            event_type: "m.room.message".to_owned(),
            content: json!({ "msgtype": "m.text", "body": body }),
            reply_to: None,
            transaction_id: Some(body.to_owned()),
            fingerprint: [0; 32],
        };
        let sent = messages::send(&self.actions, &self.alice, self.room_id.as_str(), message).await;
        sent.map(|sent| sent.event_id.to_string()).map_err(|error| error.kind())
    }

    /// A message of somebody of another server; it is not sent.
    fn message(&self, by: &Remote, of: &Stranger, body: &str) -> (String, Value) {
        let template = json!({
            "type": "m.room.message", "room_id": self.room_id, "sender": by.user_id, "depth": 20,
            "content": { "msgtype": "m.text", "body": body }, "origin_server_ts": self.actions.now().0,
            "prev_events": [by.join], "auth_events": by.auth,
        });
        of.completed("12", &template)
    }

    /// What is answered for the only event of a transaction.
    async fn hand_over(&self, of: &Stranger, transaction: &str, (event_id, event): &(String, Value)) -> Value {
        let body = json!({ "origin": of.name, "origin_server_ts": 1, "pdus": [event] });
        let (status, answer) = of.put(&self.server, &format!("{F1}/send/{transaction}"), &body).await;
        assert_eq!(status, 200, "{answer}");
        answer["pdus"][event_id].clone()
    }

    async fn bodies(&self) -> Vec<String> {
        let page =
            timeline::page(&self.actions, &self.alice, self.room_id.as_str(), None, yurt::actions::Direction::Up, 200);
        let contents = page.await.unwrap().events.into_iter().map(|view| view.event.content_as::<Value>().unwrap());
        contents.filter_map(|content| content["body"].as_str().map(str::to_owned)).collect()
    }

    /// The event as it is held, signatures included.
    async fn held(&self, event_id: &str) -> Value {
        let view = timeline::event(&self.actions, &self.alice, self.room_id.as_str(), event_id).await.unwrap();
        serde_json::from_str(view.event.json()).unwrap()
    }

    async fn end(self) {
        let Self { mut server, actions, alice, .. } = self;
        drop((actions, alice));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_message_goes_out_with_the_signature_of_the_policy_server_or_not_at_all() {
    let scene = Scene::new().await;
    assert!(scene.asked().is_empty(), "nothing is asked about the event that names it");
    let event_id = scene.say("hello").await.unwrap();
    let held = scene.held(&event_id).await;
    let ours = held["signatures"][scene.server.name().as_str()].as_object().unwrap();
    assert_eq!(ours.len(), 1);
    let expected = signature(&signer(&scene.policy), &held);
    assert_eq!(held["signatures"][scene.policy.name.as_str()], expected[scene.policy.name.as_str()]);
    assert_eq!(scene.asked().len(), 1);
    assert_eq!(scene.say("hello").await.unwrap(), event_id, "the same request again");
    assert_eq!(scene.asked().len(), 1);

    assert_eq!(scene.say("spam").await.unwrap_err(), ErrorKind::PeerRefused);
    // It is down, or it signs with another key.
    let other = Signer::new(scene.policy.name.clone(), "policy_server", &[42; 32]).unwrap();
    scene.policy.answers(move |seen| Some((200, signature(&other, &seen.body))));
    assert_eq!(scene.say("with another key").await.unwrap_err(), ErrorKind::PeerUnreachable);
    scene.policy.answers(|_| Some((500, json!({}))));
    scene.server.advance(SILENCE);
    assert_eq!(scene.say("down").await.unwrap_err(), ErrorKind::PeerUnreachable);
    let asked = scene.asked().len();
    assert_eq!(scene.say("still down").await.unwrap_err(), ErrorKind::PeerUnreachable);
    assert_eq!(scene.asked().len(), asked, "who did not answer is left alone for a while");
    assert_eq!(scene.bodies().await, ["hello"]);
    // The room is not bound to it.
    scene.set_policy(json!({})).await;
    scene.say("without").await.unwrap();
    assert_eq!(scene.bodies().await, ["hello", "without"]);
    scene.end().await;
}

#[tokio::test]
async fn entries_of_the_state_redactions_and_invites_need_the_signature_as_well() {
    let scene = Scene::new().await;
    let room = scene.room_id.as_str();
    let signs = |event: &Value| event["signatures"][scene.policy.name.as_str()]["ed25519:policy_server"].is_string();
    let set = async |topic: &str| {
        let content = json!({ "topic": topic, "body": topic });
        let set = room_state::set(&scene.actions, &scene.alice, room, "m.room.topic", "", content).await;
        set.map_err(|error| error.kind())
    };
    let topic = set("tents").await.unwrap();
    assert!(signs(&scene.held(topic.as_str()).await));
    assert_eq!(set("spam").await.unwrap_err(), ErrorKind::PeerRefused);
    assert_eq!(set("tents").await.unwrap(), topic, "the other one was not set");
    let said = scene.say("hello").await.unwrap();
    let redaction = messages::redact(&scene.actions, &scene.alice, room, &said, None, None).await.unwrap();
    assert!(signs(&scene.held(redaction.as_str()).await));
    assert!(!scene.bodies().await.contains(&"hello".to_owned()));
    // The other server does not take the invite. What it was shown is signed.
    let target = scene.other.user("molly");
    members::invite(&scene.actions, &scene.alice, room, &target, None).await.unwrap_err();
    let shown = scene.other.seen().into_iter().find(|seen| seen.target.contains("/invite/")).unwrap();
    assert!(signs(&shown.body["event"]), "{}", shown.body);
    scene.end().await;
}

#[tokio::test]
async fn what_others_send_is_shown_when_the_policy_server_signs_it() {
    let scene = Scene::new().await;
    let (mallory, other) = (&scene.mallory, &scene.other);
    let good = scene.message(mallory, other, "good");
    assert_eq!(scene.hand_over(other, "1", &good).await, json!({}));
    let held = scene.held(&good.0).await;
    assert!(held["signatures"][scene.policy.name.as_str()]["ed25519:policy_server"].is_string());
    assert!(held["signatures"][other.name.as_str()].is_object());
    let spam = scene.message(mallory, other, "spam");
    assert_eq!(scene.hand_over(other, "2", &spam).await, json!({}), "it is kept, and not shown");
    assert_eq!(scene.asked().len(), 2);
    assert_eq!(scene.hand_over(other, "3", &spam).await, json!({}));
    assert_eq!(scene.asked().len(), 2);
    // With the right signature nobody is asked; with a wrong one the policy server is.
    let (signed_id, mut signed) = scene.message(mallory, other, "signed before");
    let name = scene.policy.name.as_str();
    signed["signatures"][name] = signature(&signer(&scene.policy), &signed)[name].clone();
    assert_eq!(scene.hand_over(other, "4", &(signed_id, signed)).await, json!({}));
    assert_eq!(scene.asked().len(), 2);
    let (forged_id, mut forged) = scene.message(mallory, other, "forged spam");
    forged["signatures"][name] = json!({ "ed25519:policy_server": "A".repeat(86) });
    assert_eq!(scene.hand_over(other, "5", &(forged_id, forged)).await, json!({}));
    assert_eq!((scene.asked().len(), scene.bodies().await), (3, vec!["good".to_owned(), "signed before".to_owned()]));
    scene.end().await;
}

/// Hard case 41: the policy server is the sender's own server.
#[tokio::test]
async fn the_signature_of_a_policy_server_stands_beside_that_of_the_sender() {
    let scene = Scene::new().await;
    let (event_id, event) = scene.message(&scene.rose, &scene.policy, "from the policy server");
    let own: Vec<String> =
        event["signatures"][scene.policy.name.as_str()].as_object().unwrap().keys().cloned().collect();
    assert_eq!(scene.hand_over(&scene.policy, "1", &(event_id.clone(), event)).await, json!({}));
    let held = scene.held(&event_id).await;
    let both = held["signatures"][scene.policy.name.as_str()].as_object().unwrap();
    assert!(both.len() == 2 && both.contains_key(&own[0]) && both.contains_key("ed25519:policy_server"), "{both:?}");
    // The signature of the policy server is none of the sender's.
    let (event_id, mut event) = scene.message(&scene.rose, &scene.policy, "not signed by the sender");
    let only = signature(&signer(&scene.policy), &event);
    event["signatures"] = only;
    assert!(scene.hand_over(&scene.policy, "2", &(event_id, event)).await["error"].is_string());
    assert_eq!(scene.bodies().await, ["from the policy server"]);
    scene.end().await;
}

#[tokio::test]
async fn a_policy_server_that_is_silent_hides_what_it_would_have_signed_and_holds_up_nothing_else() {
    let scene = Scene::new().await;
    // What the room's events are answered with is another matter: for that it would be left alone.
    scene.policy.answers(|seen| (seen.target == "/_matrix/policy/v1/sign").then(|| (503, json!({}))));
    for number in 0..5 {
        let message = scene.message(&scene.mallory, &scene.other, &format!("unsigned {number}"));
        assert_eq!(scene.hand_over(&scene.other, &number.to_string(), &message).await, json!({}));
    }
    assert_eq!(scene.asked().len(), 1);
    assert!(scene.bodies().await.is_empty());
    scene.signs_all_but_spam();
    scene.server.advance(SILENCE);
    let message = scene.message(&scene.mallory, &scene.other, "it is back");
    assert_eq!(scene.hand_over(&scene.other, "back", &message).await, json!({}));
    assert_eq!(scene.bodies().await, ["it is back"]);
    scene.end().await;
}

#[tokio::test]
async fn a_server_with_nobody_in_the_room_is_no_policy_server_of_it() {
    let scene = Scene::new().await;
    let (_, (status, _)) =
        scene.policy.enters(&scene.server, "leave", scene.room_id.as_str(), (&scene.rose.user_id, "")).await;
    assert_eq!(status, 200);
    let asked = scene.asked().len();
    scene.say("spam").await.unwrap();
    let message = scene.message(&scene.mallory, &scene.other, "spam as well");
    assert_eq!(scene.hand_over(&scene.other, "1", &message).await, json!({}));
    assert_eq!((scene.asked().len(), scene.bodies().await.len()), (asked, 2));
    for bad in [json!({ "via": scene.other.name }), json!({ "via": 5, "public_keys": {} }), json!({})] {
        scene.set_policy(bad).await;
        scene.say("spam again").await.unwrap();
    }
    scene.end().await;
}

//! Section 15, `Resident side`: rooms that members of other rooms may enter. Whole servers, signed requests; a room of each version that knows the rule.

use rules::{draft::Draft, kind::RoomKind};
use ruma::{OwnedRoomId, OwnedUserId};
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
    stranger::{Stranger, escaped},
};

/// Alice, a public room of hers, and another server.
struct Scene {
    server: Server,
    actions: Actions,
    alice: Caller,
    club: OwnedRoomId,
    stranger: Stranger,
    rose: OwnedUserId,
}

impl Scene {
    async fn new() -> Self {
        let authority = Authority::new();
        let (server, stranger) = (Server::new(&authority).await, Stranger::new(&authority).await);
        let actions = server.actions().await;
        accounts::create(&actions, NewAccount { username: "alice".to_owned(), ..NewAccount::default() }).await.unwrap();
        let alice = Caller::local(&accounts::user_id(&actions, "alice").unwrap(), false);
        let new = NewRoom { kind: Some(RoomKind::Public), name: Some("Club".to_owned()), ..NewRoom::default() };
        let club = creation::create(&actions, &alice, new).await.unwrap();
        let rose = stranger.user("rose");
        Self { server, actions, alice, club, stranger, rose }
    }

    /// A room for members of these others.
    async fn room(&self, version: &str, rule: &str, allowed: &[&str]) -> OwnedRoomId {
        let new = NewRoom {
            kind: Some(RoomKind::Group),
            name: Some("Back room".to_owned()),
            version: Some(version.to_owned()),
            ..NewRoom::default()
        };
        let room_id = creation::create(&self.actions, &self.alice, new).await.unwrap();
        let allow: Vec<Value> =
            allowed.iter().map(|room| json!({ "type": "m.room_membership", "room_id": room })).collect();
        self.set(&room_id, "m.room.join_rules", json!({ "join_rule": rule, "allow": allow })).await;
        room_id
    }

    async fn set(&self, room_id: &OwnedRoomId, event_type: &str, content: Value) {
        let mut writer = Writer::enter(&self.actions, &self.actions.room(room_id)).await.unwrap().unwrap();
        writer.stage(&self.alice.user_id, Draft::state(event_type, "", super::object(content))).await.unwrap();
        writer.commit().await.unwrap();
    }

    async fn template(&self, room_id: &OwnedRoomId) -> (u16, Value) {
        self.stranger.template(&self.server, "join", room_id.as_str(), &self.rose).await
    }

    async fn send(&self, room_id: &OwnedRoomId, template: &Value) -> (u16, Value) {
        let version = template["room_version"].as_str().unwrap();
        let (event_id, event) = self.stranger.completed(version, &template["event"]);
        let (room_id, event_id) = (escaped(room_id.as_str()), escaped(&event_id));
        self.stranger.put(&self.server, &format!("/_matrix/federation/v2/send_join/{room_id}/{event_id}"), &event).await
    }

    async fn is_in_the_club(&self, is: bool) {
        let what = if is { "join" } else { "leave" };
        let done = self.stranger.enters(&self.server, what, self.club.as_str(), (&self.rose, "")).await;
        assert_eq!(done.1.0, 200, "{done:?}");
    }

    async fn end(self) {
        let Self { mut server, actions, alice, .. } = self;
        drop((actions, alice));
        server.stop().await;
    }
}

fn refused(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["errcode"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn a_member_of_the_room_that_the_rule_names_is_let_in_with_our_signature() {
    let scene = Scene::new().await;
    for (version, rule) in
        [("10", "restricted"), ("10", "knock_restricted"), ("11", "restricted"), ("12", "restricted")]
    {
        let club = scene.club.to_string();
        let room_id = scene.room(version, rule, &["!unknown:example.org", &club]).await;
        let versions = format!("?ver={version}");
        let target = format!(
            "/_matrix/federation/v1/make_join/{}/{}{versions}",
            escaped(room_id.as_str()),
            escaped(scene.rose.as_str())
        );
        let template = async || scene.stranger.get(&scene.server, &target).await;
        assert_eq!(refused(&template().await), (403, "M_FORBIDDEN"), "version {version}");
        scene.is_in_the_club(true).await;
        let (status, made) = template().await;
        assert_eq!(status, 200, "version {version}: {made}");
        let voucher = &made["event"]["content"]["join_authorised_via_users_server"];
        assert_eq!(voucher, &json!(scene.alice.user_id));
        // The club is left before the join comes: nothing is signed.
        scene.is_in_the_club(false).await;
        assert_eq!(refused(&scene.send(&room_id, &made).await), (403, "M_FORBIDDEN"), "version {version}");
        scene.is_in_the_club(true).await;
        let (status, answer) = scene.send(&room_id, &made).await;
        assert_eq!(status, 200, "version {version}: {answer}");
        let signatures = answer["event"]["signatures"].as_object().unwrap();
        assert!(signatures.contains_key(scene.server.name().as_str()) && signatures.len() == 2, "{signatures:?}");
        // Who is in needs nobody to vouch.
        let (_, again) = template().await;
        assert!(again["event"]["content"].get("join_authorised_via_users_server").is_none());
        scene.is_in_the_club(false).await;
    }
    scene.end().await;
}

#[tokio::test]
async fn who_is_invited_needs_nobody_to_vouch() {
    let scene = Scene::new().await;
    let room_id = scene.room("12", "restricted", &["!unknown:example.org"]).await;
    let signer = scene.stranger.signer();
    scene.stranger.answers(move |seen| {
        seen.target.contains("/v2/invite/").then(|| {
            let mut event = serde_json::from_value(seen.body["event"].clone()).unwrap();
            signer.sign_event(&mut event, &rules::Version::parse("12").unwrap());
            (200, json!({ "event": event }))
        })
    });
    members::invite(&scene.actions, &scene.alice, room_id.as_str(), &scene.rose, None).await.unwrap();
    let (status, made) = scene.template(&room_id).await;
    assert_eq!(status, 200, "{made}");
    assert!(made["event"]["content"].get("join_authorised_via_users_server").is_none());
    let (status, answer) = scene.send(&room_id, &made).await;
    assert_eq!(status, 200, "{answer}");
    scene.end().await;
}

#[tokio::test]
async fn what_cannot_be_told_or_granted_is_said_so() {
    let scene = Scene::new().await;
    let unknown = scene.room("12", "restricted", &["!unknown:example.org"]).await;
    assert_eq!(refused(&scene.template(&unknown).await), (400, "M_UNABLE_TO_AUTHORISE_JOIN"));
    let nothing = scene.room("12", "restricted", &[]).await;
    assert_eq!(refused(&scene.template(&nothing).await), (400, "M_UNABLE_TO_AUTHORISE_JOIN"));
    // Nobody here may invite any more: in version 11 the one who made the room has only the level that is written down.
    let club = scene.club.to_string();
    let closed = scene.room("11", "restricted", &[&club]).await;
    scene.is_in_the_club(true).await;
    let (status, made) = scene.template(&closed).await;
    assert_eq!(status, 200, "{made}");
    let levels = json!({ "invite": 101, "users": { scene.alice.user_id.as_str(): 100 } });
    let mut writer = Writer::enter(&scene.actions, &scene.actions.room(&closed)).await.unwrap().unwrap();
    let refusing =
        writer.stage(&scene.alice.user_id, Draft::state("m.room.power_levels", "", super::object(levels))).await;
    assert!(refusing.is_err(), "nobody gives a level above their own");
    drop(writer);
    let levels = json!({ "invite": 100, "users": { scene.alice.user_id.as_str(): 99 } });
    scene.set(&closed, "m.room.power_levels", levels).await;
    assert_eq!(refused(&scene.template(&closed).await), (400, "M_UNABLE_TO_GRANT_JOIN"));
    assert_eq!(refused(&scene.send(&closed, &made).await), (400, "M_UNABLE_TO_GRANT_JOIN"));
    scene.end().await;
}

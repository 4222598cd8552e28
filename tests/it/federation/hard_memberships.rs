//! Hard cases of the membership of people of other servers: section 21 of the work list.

use ::federation::{
    Refusal,
    local::{Handshakes, Wish},
};
use rules::{canonical, draft::Draft};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, UserId};
use serde_json::{Value, json};
use yurt::actions::{levels, members, room_state, rooms};

use super::{
    Scene,
    engines::{Net, engine},
    id_of, message, object, old_versions,
};

impl Scene {
    /// Another room of the same server and its peers.
    async fn another(&self, version: &str) -> Self {
        let new = super::NewRoom {
            kind: Some(super::RoomKind::Public),
            name: Some("The club".to_owned()),
            version: Some(version.to_owned()),
            ..super::NewRoom::default()
        };
        let room_id = super::creation::create(&self.actions, &self.alice, new).await.unwrap();
        Self {
            server: None,
            actions: self.actions.clone(),
            alice: self.alice.clone(),
            rita: self.rita.clone(),
            sam: self.sam.clone(),
            room_id,
            version: self.version,
            world: std::sync::Arc::clone(&self.world),
        }
    }

    async fn is_in(&self, user_id: &UserId) -> bool {
        let key = ("m.room.member".into(), user_id.to_string());
        let Some(event_id) = self.state().await.get(&key).cloned() else { return false };
        let room = self.actions.room(&self.room_id);
        let rows = yurt::actions::rows::Rows::on_disk(&room.store, &room.home);
        let event = self.row(rows.arrival_of(&event_id).await.unwrap().unwrap()).await.unwrap().1;
        event.json().contains("\"membership\":\"join\"")
    }
}

fn signers(event: &str) -> Vec<String> {
    let event: Value = serde_json::from_str(event).unwrap();
    event["signatures"].as_object().unwrap().keys().cloned().collect()
}

/// Hard cases 3 and 11.
#[tokio::test]
async fn a_join_by_a_membership_elsewhere_needs_the_signature_of_who_vouches() {
    super::for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let club = scene.another(version).await;
        levels::set_member(&scene.actions, &scene.alice, scene.room_id.as_str(), &scene.rita, 100).await.unwrap();
        scene.learn_ours().await;
        let allow = json!([{ "type": "m.room_membership", "room_id": club.room_id }]);
        let rule = Draft::state("m.room.join_rules", "", object(json!({ "join_rule": "restricted", "allow": allow })));
        let rule = scene.make(&scene.rita, &scene.heads().await, rule);
        assert_eq!(scene.receive(&[&rule]).await, [Ok(())], "version {version}");
        let rose = UserId::parse("@rose:peer.example").unwrap();

        let template = scene.template(&rose, Wish::Join).await;
        assert_eq!(template.unwrap_err(), Refusal::Forbidden, "she is not in the club");
        let made = club.completed(&rose, Wish::Join, |_| {}).await;
        club.hand_in(made, Wish::Join).await.unwrap();

        let (event_id, event) = scene.completed(&rose, Wish::Join, |_| {}).await;
        assert_eq!(signers(event.get()), ["peer.example"]);
        let of_another = scene.completed(&rose, Wish::Join, |event| {
            event["content"]["join_authorised_via_users_server"] = json!("@sam:other.example");
        });
        scene.hand_in(of_another.await, Wish::Join).await.unwrap_err();
        let by_nobody = scene.completed(&rose, Wish::Join, |event| {
            event["content"].as_object_mut().unwrap().remove("join_authorised_via_users_server");
        });
        assert_eq!(scene.hand_in(by_nobody.await, Wish::Join).await.unwrap_err(), Refusal::Forbidden);
        // The same event past the handshake: we have not signed it.
        scene.receive_raw("peer.example", vec![event.get()]).await;
        assert!(!scene.is_in(&rose).await, "version {version}: a join that nobody vouches for");
        let mut forged: Value = serde_json::from_str(event.get()).unwrap();
        forged["signatures"]["yurt.test"] = forged["signatures"]["peer.example"].clone();
        scene.receive_raw("peer.example", vec![&forged.to_string()]).await;
        assert!(!scene.is_in(&rose).await, "version {version}: a forged signature");

        let origin: OwnedServerName = "peer.example".try_into().unwrap();
        let accepted =
            scene.actions.accept_membership(&origin, &scene.room_id, &event_id, Wish::Join, event).await.unwrap();
        assert_eq!(signers(accepted.event.get()), ["peer.example", "yurt.test"]);
        assert!(scene.is_in(&rose).await, "version {version}");

        let rosa = UserId::parse("@rosa:peer.example").unwrap();
        let made = club.completed(&rosa, Wish::Join, |_| {}).await;
        club.hand_in(made, Wish::Join).await.unwrap();
        let late = scene.completed(&rosa, Wish::Join, |_| {}).await;
        let left = club.completed(&rosa, Wish::Leave, |_| {}).await;
        club.hand_in(left, Wish::Leave).await.unwrap();
        assert_eq!(scene.hand_in(late, Wish::Join).await.unwrap_err(), Refusal::Forbidden, "she has left the club");
    })
    .await;
}

/// Hard case 34.
#[tokio::test]
async fn a_third_party_invite_that_is_no_object_changes_neither_id_nor_signature() {
    for version in ["11", "12"] {
        let scene = Scene::new(version).await;
        let content = object(json!({ "third_party_invite": "boo", "displayname": "Sam" }));
        let renamed = scene.make(&scene.sam, &scene.heads().await, Draft::member(&scene.sam, "join", content));
        let mut without = canonical::read_object(renamed.json()).unwrap();
        if let Some(CanonicalJsonValue::Object(content)) = without.get_mut("content") {
            content.remove("third_party_invite");
        }
        let expected = rules::hash::event_id(&without, &scene.version).unwrap();
        assert_eq!(*renamed.event_id(), expected, "others leave it out before they hash");
        assert_eq!(scene.receive_from("other.example", &[&renamed]).await, [Ok(())]);
        assert!(scene.is_accepted(&renamed).await, "version {version}");
    }
}

/// Hard case 35.
#[tokio::test]
async fn who_vouches_matters_only_in_joins() {
    super::for_each_version(|version| async move {
        let scene = Scene::new(version).await;
        let vouched = || object(json!({ "join_authorised_via_users_server": "@x:third.example", "body": "hello" }));
        let said = Draft::message("m.room.message", vouched());
        let said = scene.make(&scene.rita, &scene.heads().await, said);
        assert_eq!(scene.receive(&[&said]).await, [Ok(())]);
        assert!(scene.is_accepted(&said).await, "version {version}");
        let left = scene.make(&scene.sam, &scene.heads().await, Draft::member(&scene.sam, "leave", vouched()));
        assert_eq!(scene.receive_from("other.example", &[&left]).await, [Ok(())]);
        assert!(scene.is_accepted(&left).await, "version {version}");
        let back = scene.make(&scene.sam, &scene.heads().await, Draft::member(&scene.sam, "join", vouched()));
        scene.receive_from("other.example", &[&back]).await;
        assert!(!scene.is_accepted(&back).await, "version {version}: the server of who vouches has not signed");
    })
    .await;
}

/// Hard case 40.
#[tokio::test]
async fn a_knock_at_a_room_with_another_join_rule_is_rejected_in_every_version() {
    for version in ["7", "8", "9", "10", "11"] {
        let (scene, host) = old_versions::far(version, json!({ "join_rule": "public" })).await;
        scene.joins().await;
        let knock = Draft::member(&scene.sam, "knock", CanonicalJsonObject::new());
        let heads = host.heads.lock().clone();
        let knock = scene.make(&scene.sam, &heads, knock);
        scene.receive_from("other.example", &[&knock]).await;
        assert!(scene.is_rejected(&knock).await, "version {version}");
        let said = scene.make(&scene.rita, &heads, message("after it"));
        assert_eq!(scene.receive(&[&said]).await, [Ok(())], "version {version}");
        assert!(scene.is_accepted(&said).await);
        assert!(scene.held(&id_of(&knock)).await.is_some());
    }
}

/// Hard case 44.
#[tokio::test]
async fn an_invite_into_a_room_with_a_large_state_is_no_larger_for_it() {
    let net = std::sync::Arc::new(Net::default());
    let (alice, bob) = (engine(&net, "a.example", "alice").await, engine(&net, "b.example", "bob").await);
    let room_id = super::joining::public(&alice).await;
    let large = json!({ "algorithm": "m.megolm.v1.aes-sha2", "padding": "x".repeat(60_000) });
    let (actions, person, room) = (&alice.actions, &alice.person, room_id.as_str());
    room_state::set(actions, person, room, "m.room.encryption", "", large).await.unwrap();
    rooms::set_topic(actions, person, room, &"long ".repeat(100)).await.unwrap();
    members::invite(actions, person, room, &bob.person.user_id, None).await.unwrap();
    let list = rooms::own(&bob.actions, &bob.person, yurt::actions::Window::ALL).await.unwrap();
    assert_eq!((list.entries.len(), list.entries[0].view.summary.name.as_deref()), (1, Some("Far tents")));
    let joined = members::join(&bob.actions, &bob.person, room, &[], None).await.unwrap();
    assert!(joined.view.summary.encrypted);
    assert_eq!(bob.state(&room_id).await, alice.state(&room_id).await);
}

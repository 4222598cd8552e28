//! A room that our administrators switch off for other servers, and on again.

use ruma::{RoomId, UserId};
use yurt::{
    actions::{
        Actions, Caller, JobState,
        federate::{self, Switch},
        jobs,
    },
    storage::room_settings::FederationMode,
};

use super::{Scene, everywhere, links::reach_each_other};

/// More than one page of history.
const MISSED: usize = 120;

/// The job that goes on with servers that are let in again.
async fn switch(actions: &Actions, room: &str, mode: FederationMode) -> Option<String> {
    let switch = Switch { mode, evict: false, acl: false, as_member: None, dry_run: false };
    federate::switch(actions, &admin(actions), <&RoomId>::try_from(room).unwrap().as_str(), switch)
        .await
        .unwrap()
        .job_id
}

fn admin(actions: &Actions) -> Caller {
    Caller::local(&UserId::parse(format!("@root:{}", actions.server_name)).unwrap(), true)
}

#[tokio::test]
async fn what_was_said_while_a_room_was_off_is_exchanged_when_it_is_on_again() {
    everywhere(async |scene: &Scene| {
        let room = scene.shared_room().await;
        scene.host.gives_level(&room, &scene.guest, 50).await;
        reach_each_other(scene, &room).await;
        let actions = scene.partner.actions().await;
        assert_eq!(switch(&actions, &room, FederationMode::Off).await, None);
        for number in 0..MISSED {
            scene.theirs().says(&room, &format!("theirs {number}")).await;
            scene.ours().says(&room, &format!("ours {number}")).await;
        }
        scene.theirs().sets(&room, "m.room.topic", "", serde_json::json!({ "topic": "theirs" })).await;
        scene.ours().sets(&room, "org.example.tent", "", serde_json::json!({ "colour": "ours" })).await;
        for (listener, speaker) in [(scene.theirs(), "ours"), (scene.ours(), "theirs")] {
            assert!(!listener.hears(&room).await.iter().any(|body| body.starts_with(speaker)), "{speaker}");
        }
        let job_id = switch(&actions, &room, FederationMode::Open).await.unwrap();
        super::eventually("what was missed is exchanged", async || {
            jobs::get(&actions, &admin(&actions), &job_id).await.unwrap().job.state == JobState::Done
        })
        .await;
        reach_each_other(scene, &room).await;
        scene.ends_in_agreement(&room).await;
    })
    .await;
}

//! Whatever people do on both servers, in any order, with the link cut now and then: in the end both servers agree. What is tried follows from a seed;
//! `YURT_TEST_SEED=1000` tries other things than usual.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;

use super::{Scene, Scenes, links::reach_each_other, user::User};

/// Storms: one for each room version and side.
const STORMS: u64 = 6;
/// Parts of a storm; in every other one the link is cut.
const PARTS: usize = 4;
/// Things that are tried in one part.
const ACTS: usize = 12;

/// A room in a storm.
struct Storm {
    room: String,
    /// The host and the guest, who stay, and one more of each server.
    people: [User; 4],
    said: Vec<String>,
    random: StdRng,
}

impl Storm {
    async fn begins(scene: &Scene, seed: u64) -> Self {
        let room = scene.open_room().await;
        let people = [scene.host.clone(), scene.guest.clone(), scene.another_host().await, scene.another_guest().await];
        for user in &people[1..] {
            user.joins(&room, scene.host.server()).await;
        }
        for user in &people[1..] {
            scene.host.finds(&room, "m.room.member", user.id(), "membership", json!("join")).await;
        }
        let mut users = scene.host.content(&room, "m.room.power_levels", "").await.unwrap()["users"].take();
        for (user, level) in people[1..].iter().zip([100, 50, 50]) {
            users[user.id()] = json!(level);
        }
        scene.host.sets_levels(&room, json!({ "users": users })).await;
        for user in &people[1..] {
            user.finds(&room, "m.room.power_levels", "", "users", users.clone()).await;
        }
        Self { room, people, said: Vec::new(), random: StdRng::seed_from_u64(seed) }
    }

    /// Somebody tries something; whether it is allowed is the server's affair.
    async fn rages(&mut self, number: usize) {
        let user = self.people[self.random.random_range(0..4)].clone();
        let target = self.people[self.random.random_range(2..4)].clone();
        let value = format!("{number} of {}", user.id());
        let room = self.room.clone();
        match self.random.random_range(0..12) {
            0..3 => {
                let content = json!({ "msgtype": "m.text", "body": value });
                self.said.extend(user.tries_to_send(&room, "m.room.message", content).await);
            }
            3 => drop(user.tries_to_set(&room, "m.room.topic", "", json!({ "topic": value })).await),
            4 => drop(user.tries_to_set(&room, "m.room.name", "", json!({ "name": value })).await),
            5 => {
                let key = format!("{}", self.random.random_range(0..3));
                drop(user.tries_to_set(&room, "org.example.tent", &key, json!({ "colour": value })).await);
            }
            6 | 7 => {
                let Some(levels) = user.content(&room, "m.room.power_levels", "").await else { return };
                let mut users = levels["users"].clone();
                users[target.id()] = json!(self.random.random_range(0..4) * 25);
                let whole = [("users", users), ("invite", json!(self.random.random_range(0..50)))];
                let mut content = if matches!(user, User::Ours(_)) { json!({}) } else { levels };
                for (field, value) in whole {
                    content[field] = value;
                }
                drop(user.tries_to_set(&room, "m.room.power_levels", "", content).await);
            }
            8 => drop(user.tries("kick", &room, &target).await),
            9 => drop(user.tries("ban", &room, &target).await),
            10 => {
                drop(user.tries("unban", &room, &target).await);
                drop(target.tries_to_join(&room, target.server()).await);
            }
            _ => {
                if let Some(event_id) = self.said.get(self.random.random_range(0..self.said.len().max(1))) {
                    drop(user.tries_to_redact(&room, event_id).await);
                }
            }
        }
    }
}

#[tokio::test]
async fn after_a_storm_both_servers_agree() {
    let Some(scenes) = Scenes::alone().await else { return };
    let seed = std::env::var("YURT_TEST_SEED").map_or(0, |seed| seed.parse().expect("YURT_TEST_SEED is a number"));
    let seeds: Vec<u64> = (seed..seed + STORMS).collect();
    let storms = scenes.each_in(&seeds, async |scene: &Scene, seed: &u64| Storm::begins(scene, *seed).await).await;
    let mut storms: Vec<_> = storms.into_iter().map(tokio::sync::Mutex::new).collect();
    for part in 0..PARTS {
        let link = (part % 2 == 1).then(|| scenes.cut());
        scenes
            .each_in(&storms, async |_: &Scene, storm: &tokio::sync::Mutex<Storm>| {
                let mut storm = storm.lock().await;
                for number in 0..ACTS {
                    storm.rages(part * ACTS + number).await;
                }
            })
            .await;
        drop(link);
    }
    let storms: Vec<Storm> = storms.drain(..).map(tokio::sync::Mutex::into_inner).collect();
    scenes
        .each_in(&storms, async |scene: &Scene, storm: &Storm| {
            reach_each_other(scene, &storm.room).await;
            scene.ends_in_agreement(&storm.room).await;
        })
        .await;
    scenes.end().await;
}

//! What both servers must agree on at the end of a scenario: the current state of the room, which events belong to it, and that none of them stands before one
//! that it was made after.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};
use yurt::storage::history::EventStanding;

use super::{Scene, agreed, partner::Held, user::User};
use crate::client::text;

/// What one server holds of a room and has not rejected: ids with types. Events that are held only to judge others by are no part of the room.
type Events = BTreeMap<String, String>;

impl Scene {
    /// Waits until the two servers agree. Host and guest are in the room.
    pub(crate) async fn ends_in_agreement(&self, room: &str) {
        self.has_the_same_state(room).await;
        agreed(&format!("both servers hold the same events of {room}"), async || {
            let timelines = (self.host.timeline(room).await, self.guest.timeline(room).await);
            let create = self.host.content(room, "m.room.create", "").await.unwrap();
            let ours = self.partner.held(room, create["room_version"].as_str().unwrap()).await;
            same("events", &events_of(&ours), &self.events_of_theirs(room).await)?;
            let previous: HashMap<&str, &[String]> =
                ours.iter().map(|held| (held.event_id.as_str(), held.previous.as_slice())).collect();
            is_causal(&self.host, &timelines.0, &previous)?;
            is_causal(&self.guest, &timelines.1, &previous)
        })
        .await;
    }

    /// Waits until the two servers have the same current state. Host and guest are in the room.
    pub(crate) async fn has_the_same_state(&self, room: &str) {
        agreed(&format!("both servers have the same state of {room}"), async || {
            let (host, guest) = (self.host.state(room).await, self.guest.state(room).await);
            same(
                "state",
                &host.map_err(|refused| format!("{refused:?}"))?,
                &guest.map_err(|refused| format!("{refused:?}"))?,
            )
        })
        .await;
    }

    async fn events_of_theirs(&self, room: &str) -> Events {
        let held = self.synapse.held(room).await;
        let is_part = |event: &&Value| event["rejected"] == json!(false) && event["outlier"] == json!(false);
        held.iter().filter(is_part).map(|event| (text(&event["event_id"]), text(&event["type"]))).collect()
    }
}

fn events_of(held: &[Held]) -> Events {
    let is_part = |held: &&Held| matches!(held.standing, EventStanding::Accepted | EventStanding::SoftFailed { .. });
    held.iter().filter(is_part).map(|held| (held.event_id.clone(), held.event_type.clone())).collect()
}

fn same<K: Ord + std::fmt::Debug>(
    what: &str,
    host: &BTreeMap<K, String>,
    guest: &BTreeMap<K, String>,
) -> Result<(), String> {
    let (host, guest): (BTreeSet<_>, BTreeSet<_>) = (host.iter().collect(), guest.iter().collect());
    let (first, second) = (host.difference(&guest), guest.difference(&host));
    if host == guest {
        return Ok(());
    }
    Err(format!("{what}: only one has {:?}, only the other {:?}", Vec::from_iter(first), Vec::from_iter(second)))
}

fn is_causal(user: &User, timeline: &[Value], previous: &HashMap<&str, &[String]>) -> Result<(), String> {
    let ids: Vec<String> = timeline.iter().map(|event| text(&event["event_id"])).collect();
    let places: HashMap<&str, usize> = ids.iter().enumerate().map(|(place, id)| (id.as_str(), place)).collect();
    for (place, id) in ids.iter().enumerate() {
        let before = previous.get(id.as_str()).copied().unwrap_or_default();
        if let Some(late) = before.iter().find(|before| places.get(before.as_str()).is_some_and(|at| *at >= place)) {
            return Err(format!("{} sees {id} before {late}, behind which it was made", user.id()));
        }
    }
    Ok(())
}

//! Somebody who uses one of the two servers as its users do. What they want is said once; how each server is asked for it stands here.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    eventually,
    synapse::{Person, Refused},
};
use crate::client::{Answer, Caller, encoded, text};

/// Somebody, on either server.
#[derive(Clone)]
pub(crate) enum User {
    /// Of our server, by `/v1`.
    Ours(Caller),
    /// Of the Synapse, by the client-server API.
    Theirs(Person),
}

/// Who may enter a new room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Invited,
    Everybody,
}

/// The current state: the event's id for each type and state key.
pub(crate) type State = BTreeMap<(String, String), String>;

fn ours(answer: Answer) -> Result<Value, Refused> {
    if answer.status < 300 { Ok(answer.data()) } else { Err((answer.status, answer.json())) }
}

impl User {
    /// The full user id.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Ours(caller) => &caller.id,
            Self::Theirs(person) => &person.id,
        }
    }

    /// The name of the user's server.
    pub(crate) fn server(&self) -> &str {
        self.id().split_once(':').unwrap().1
    }

    pub(crate) async fn makes_room(&self, version: &str, access: Access, name: &str) -> String {
        let is_open = access == Access::Everybody;
        match self {
            Self::Ours(caller) => {
                let room_type = if is_open { "public" } else { "group" };
                caller.creates(json!({ "room_type": room_type, "name": name, "room_version": version })).await
            }
            Self::Theirs(person) => {
                let preset = if is_open { "public_chat" } else { "private_chat" };
                let mut body = json!({ "preset": preset, "name": name, "room_version": version });
                if is_open {
                    body["room_alias_name"] = json!(super::unique("tents"));
                }
                text(&person.post("createRoom", body).await.unwrap()["room_id"])
            }
        }
    }

    /// The alias of a room that everybody may enter.
    pub(crate) async fn alias(&self, room: &str) -> String {
        match self {
            Self::Ours(caller) => text(&caller.sees(&encoded(room)).await["room_alias"]),
            Self::Theirs(person) => {
                text(&person.get(&Person::of_room(room, &["aliases"])).await.unwrap()["aliases"][0])
            }
        }
    }

    /// Tries an action that names a person: invite, kick, ban, unban.
    pub(crate) async fn tries(&self, action: &str, room: &str, target: &Self) -> Result<(), Refused> {
        let path = Person::of_room(room, &[action]);
        match self {
            Self::Ours(caller) => {
                ours(caller.post(&format!("/v1/{path}"), json!({ "participant_id": target.id() })).await).map(drop)
            }
            Self::Theirs(person) => person.post(&path, json!({ "user_id": target.id() })).await.map(drop),
        }
    }

    pub(crate) async fn does(&self, action: &str, room: &str, target: &Self) {
        self.tries(action, room, target).await.unwrap_or_else(|refused| panic!("{action} was refused: {refused:?}"));
    }

    /// Tries to join a room by its id or alias, through a server that is in it, and answers its id.
    pub(crate) async fn tries_to_join(&self, room: &str, via: &str) -> Result<String, Refused> {
        match self {
            Self::Ours(caller) => {
                let path = format!("/v1/rooms/{}/join", encoded(room));
                Ok(text(&ours(caller.post(&path, json!({ "via": [via] })).await)?["id"]))
            }
            Self::Theirs(person) => {
                let (room, via) = (encoded(room), encoded(via));
                let path = format!("join/{room}?via={via}&server_name={via}");
                Ok(text(&person.post(&path, json!({})).await?["room_id"]))
            }
        }
    }

    pub(crate) async fn joins(&self, room: &str, via: &str) -> String {
        let joined = self.tries_to_join(room, via).await;
        joined.unwrap_or_else(|refused| panic!("{} may not join {room}: {refused:?}", self.id()))
    }

    pub(crate) async fn leaves(&self, room: &str) {
        let path = Person::of_room(room, &["leave"]);
        let left = match self {
            Self::Ours(caller) => ours(caller.post_nothing(&format!("/v1/{path}")).await),
            Self::Theirs(person) => person.post(&path, json!({})).await,
        };
        left.unwrap_or_else(|refused| panic!("leaving was refused: {refused:?}"));
    }

    /// Sends a text and answers the event's id.
    pub(crate) async fn says(&self, room: &str, body: &str) -> String {
        match self {
            Self::Ours(caller) => caller.says(&encoded(room), body).await,
            Self::Theirs(person) => {
                person.sends(room, "m.room.message", json!({ "msgtype": "m.text", "body": body })).await.unwrap()
            }
        }
    }

    /// The invites that wait for an answer: ids of rooms.
    pub(crate) async fn invites(&self) -> Vec<String> {
        match self {
            Self::Ours(caller) => {
                let rooms = caller.get("/v1/rooms").await.list();
                let invited = rooms.iter().filter(|room| room["me"]["membership"] == "invite");
                invited.map(|room| text(&room["id"])).collect()
            }
            Self::Theirs(person) => {
                let synced = person.get("sync?timeout=0").await.unwrap();
                let invited = synced["rooms"]["invite"].as_object();
                invited.into_iter().flat_map(|rooms| rooms.keys().cloned()).collect()
            }
        }
    }

    /// Waits until an invite into the room is there.
    pub(crate) async fn is_invited(&self, room: &str) {
        eventually("the invite is there", async || self.invites().await.iter().any(|invited| invited == room)).await;
    }

    /// The current state of a room in which the user is.
    pub(crate) async fn state(&self, room: &str) -> Result<State, Refused> {
        let path = Person::of_room(room, &["state"]);
        let events = match self {
            Self::Ours(caller) => ours(caller.get(&format!("/v1/{path}?limit=200")).await)?,
            Self::Theirs(person) => person.get(&path).await?,
        };
        let events = events.as_array().unwrap().iter();
        Ok(events.map(|event| ((text(&event["type"]), text(&event["state_key"])), text(&event["event_id"]))).collect())
    }

    /// One event, as the user sees it.
    pub(crate) async fn event(&self, room: &str, event_id: &str) -> Option<Value> {
        match self {
            Self::Ours(caller) => {
                let path = Person::of_room(room, &["events", event_id]);
                ours(caller.get(&format!("/v1/{path}")).await).ok()
            }
            Self::Theirs(person) => person.get(&Person::of_room(room, &["event", event_id])).await.ok(),
        }
    }

    /// Waits until the event is there.
    pub(crate) async fn sees(&self, room: &str, event_id: &str) {
        let what = format!("{} sees {event_id}", self.id());
        eventually(&what, async || self.event(room, event_id).await.is_some()).await;
    }

    /// The whole timeline, oldest first, as far back as the user may read. Both servers ask the other for what they do not hold.
    pub(crate) async fn timeline(&self, room: &str) -> Vec<Value> {
        let mut events = Vec::new();
        match self {
            Self::Theirs(person) => events = person.pages_back(room).await,
            Self::Ours(caller) => {
                let mut from = String::new();
                loop {
                    let path = format!("/v1/rooms/{}/messages?direction=back&limit=50{from}", encoded(room));
                    let page = caller.get(&path).await.expect_status(200);
                    let meta = page.meta();
                    events.extend(page.list());
                    if meta["has_more"] != json!(true) {
                        break;
                    }
                    from = format!("&from={}", encoded(&text(&meta["next_cursor"])));
                }
            }
        }
        events.reverse();
        events
    }

    /// The bodies of the messages in the timeline, oldest first.
    pub(crate) async fn hears(&self, room: &str) -> Vec<String> {
        let timeline = self.timeline(room).await;
        timeline.iter().filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)).collect()
    }
}

//! Somebody who uses one of the two servers as its users do. What they want is said once; how each server is asked for it stands here.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Home, agreed, eventually,
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

    /// Where the user is at home.
    pub(crate) fn home(&self) -> Home {
        match self {
            Self::Ours(_) => Home::Ours,
            Self::Theirs(_) => Home::Theirs,
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
                let answer = caller.post(&path, json!({ "via": [via] })).await;
                let is_underway = answer.status == 202;
                let joined = ours(answer)?;
                if !is_underway {
                    return Ok(text(&joined["id"]));
                }
                // It takes longer than a client waits.
                let job = caller.awaits(&text(&joined["job_id"])).await;
                if job["state"] == "done" { Ok(text(&joined["room_id"])) } else { Err((202, job)) }
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

    /// Whether the user's server has the user in the room.
    pub(crate) async fn is_in(&self, room: &str) -> bool {
        match self {
            Self::Ours(caller) => {
                let seen = caller.get(&format!("/v1/rooms/{}", encoded(room))).await;
                seen.status == 200 && seen.ok()["me"]["membership"] == "join"
            }
            Self::Theirs(person) => {
                let rooms = person.get("joined_rooms").await.unwrap();
                rooms["joined_rooms"].as_array().unwrap().contains(&json!(room))
            }
        }
    }

    /// Waits until the user's server has heard that the user is not in the room any more.
    pub(crate) async fn is_out_of(&self, room: &str) {
        eventually(&format!("{} is out of {room}", self.id()), async || !self.is_in(room).await).await;
    }

    /// Tries to set a state event.
    pub(crate) async fn tries_to_set(
        &self,
        room: &str,
        event_type: &str,
        key: &str,
        content: Value,
    ) -> Result<(), Refused> {
        let call = match event_type {
            "m.room.name" => "name",
            "m.room.topic" => "topic",
            "m.room.power_levels" => "power-levels",
            _ => "state",
        };
        let rest: &[&str] = match (self, key) {
            (Self::Ours(_), _) if call != "state" => &[call],
            (Self::Ours(_), "") => &["state", event_type],
            _ => &["state", event_type, key],
        };
        let path = Person::of_room(room, rest);
        match self {
            Self::Ours(caller) => ours(caller.put(&format!("/v1/{path}"), content).await).map(drop),
            Self::Theirs(person) => person.put(&path, content).await.map(drop),
        }
    }

    pub(crate) async fn sets(&self, room: &str, event_type: &str, key: &str, content: Value) {
        let set = self.tries_to_set(room, event_type, key, content).await;
        set.unwrap_or_else(|refused| panic!("{} may not set {event_type}: {refused:?}", self.id()));
    }

    /// The content of a current state event.
    pub(crate) async fn content(&self, room: &str, event_type: &str, key: &str) -> Option<Value> {
        match self {
            Self::Ours(caller) => {
                let rest: &[&str] = if key.is_empty() { &["state", event_type] } else { &["state", event_type, key] };
                let found = caller.get(&format!("/v1/{}", Person::of_room(room, rest))).await;
                ours(found).ok().map(|event| event["content"].clone())
            }
            Self::Theirs(person) => person.get(&Person::of_room(room, &["state", event_type, key])).await.ok(),
        }
    }

    /// Waits until a current state event has this field.
    pub(crate) async fn finds(&self, room: &str, event_type: &str, key: &str, field: &str, value: Value) {
        let what = format!("{} finds {field} = {value} in {event_type} {key}", self.id());
        agreed(&what, async || {
            let content = self.content(room, event_type, key).await;
            let is_there = content.as_ref().is_some_and(|content| content[field] == value);
            if is_there { Ok(()) } else { Err(format!("{content:?}")) }
        })
        .await;
    }

    /// Changes levels of the room: fields of `m.room.power_levels`.
    pub(crate) async fn sets_levels(&self, room: &str, changes: Value) {
        let mut content = match self {
            Self::Ours(_) => json!({}),
            Self::Theirs(_) => self.content(room, "m.room.power_levels", "").await.unwrap(),
        };
        for (field, value) in changes.as_object().unwrap() {
            content[field] = value.clone();
        }
        self.sets(room, "m.room.power_levels", "", content).await;
    }

    /// Gives a member a level, and waits until the member's server knows.
    pub(crate) async fn gives_level(&self, room: &str, to: &Self, level: i64) {
        let mut users = self.content(room, "m.room.power_levels", "").await.unwrap()["users"].clone();
        if users.is_null() {
            users = json!({});
        }
        users[to.id()] = json!(level);
        self.sets_levels(room, json!({ "users": users.clone() })).await;
        to.finds(room, "m.room.power_levels", "", "users", users).await;
    }

    /// Tries to send an event and answers its id.
    pub(crate) async fn tries_to_send(&self, room: &str, event_type: &str, content: Value) -> Result<String, Refused> {
        match self {
            Self::Ours(caller) => {
                let body = json!({ "type": event_type, "content": content });
                let sent = ours(caller.post(&format!("/v1/rooms/{}/messages", encoded(room)), body).await)?;
                Ok(text(&sent["event_id"]))
            }
            Self::Theirs(person) => person.sends(room, event_type, content).await,
        }
    }

    /// Sends an event and answers its id.
    pub(crate) async fn sends(&self, room: &str, event_type: &str, content: Value) -> String {
        let sent = self.tries_to_send(room, event_type, content).await;
        sent.unwrap_or_else(|refused| panic!("{} may not send {event_type}: {refused:?}", self.id()))
    }

    /// Sends a text and answers the event's id.
    pub(crate) async fn says(&self, room: &str, body: &str) -> String {
        self.sends(room, "m.room.message", json!({ "msgtype": "m.text", "body": body })).await
    }

    /// Opens the direct room with somebody. Ours knows one version of them.
    pub(crate) async fn opens_direct(&self, other: &Self, version: &str) -> String {
        match self {
            Self::Ours(caller) => {
                let opened = caller.post("/v1/rooms/dm", json!({ "participant_id": other.id() })).await;
                text(&opened.data()["id"])
            }
            Self::Theirs(person) => {
                let body = json!({
                    "is_direct": true, "preset": "trusted_private_chat", "invite": [other.id()], "room_version": version
                });
                text(&person.post("createRoom", body).await.unwrap()["room_id"])
            }
        }
    }

    /// Whether the invite that waits is one to a direct room.
    pub(crate) async fn is_invited_directly(&self, room: &str) -> bool {
        match self {
            Self::Ours(caller) => caller.sees(&encoded(room)).await["room_type"] == "dm",
            Self::Theirs(person) => {
                let synced = person.get("sync?timeout=0").await.unwrap();
                let events = synced["rooms"]["invite"][room]["invite_state"]["events"].as_array().unwrap();
                events.iter().any(|event| event["state_key"] == person.id && event["content"]["is_direct"] == true)
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

    /// Tries to redact an event.
    pub(crate) async fn tries_to_redact(&self, room: &str, event_id: &str) -> Result<(), Refused> {
        match self {
            Self::Ours(caller) => {
                let path = Person::of_room(room, &["events", event_id, "redact"]);
                ours(caller.post(&format!("/v1/{path}"), json!({})).await).map(drop)
            }
            Self::Theirs(person) => {
                let path = Person::of_room(room, &["redact", event_id, &super::unique("t")]);
                person.put(&path, json!({})).await.map(drop)
            }
        }
    }

    /// Redacts an event.
    pub(crate) async fn redacts(&self, room: &str, event_id: &str) {
        let redacted = self.tries_to_redact(room, event_id).await;
        redacted.unwrap_or_else(|refused| panic!("{} may not redact: {refused:?}", self.id()));
    }

    /// Waits until nothing is left of the content of an event.
    pub(crate) async fn sees_redacted(&self, room: &str, event_id: &str) {
        let what = format!("{} sees {event_id} redacted", self.id());
        eventually(&what, async || self.event(room, event_id).await.is_some_and(|event| event["content"] == json!({})))
            .await;
    }

    /// Takes a name and a picture.
    pub(crate) async fn shows_as(&self, name: &str, picture: &str) {
        match self {
            Self::Ours(caller) => {
                let profile = json!({ "display_name": name, "avatar_url": picture });
                caller.put("/v1/me/profile", profile).await.ok();
            }
            Self::Theirs(person) => {
                for (field, value) in [("displayname", name), ("avatar_url", picture)] {
                    let path = format!("profile/{}/{field}", encoded(&person.id));
                    person.put(&path, json!({ field: value })).await.unwrap();
                }
            }
        }
    }

    /// Uploads a picture and answers its address.
    pub(crate) async fn uploads(&self, image: &[u8]) -> String {
        match self {
            Self::Ours(caller) => text(&caller.uploads(image, "image/png").await["mxc"]),
            Self::Theirs(person) => person.uploads(image).await.unwrap(),
        }
    }

    /// Reads a file by its address.
    pub(crate) async fn downloads(&self, address: &str) -> Result<Vec<u8>, Refused> {
        let (server, id) = address.strip_prefix("mxc://").unwrap().split_once('/').unwrap();
        match self {
            Self::Ours(caller) => {
                let answer = caller.get(&format!("/v1/media/{}/{}", encoded(server), encoded(id))).await;
                if answer.status == 200 { Ok(answer.body) } else { Err((answer.status, answer.json())) }
            }
            Self::Theirs(person) => person.downloads(server, id).await,
        }
    }
}

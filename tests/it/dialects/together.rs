//! A room that was made through one door behaves through every other.

use serde_json::{Value, json};

use super::{
    agora::{ROOMS, app_of},
    through::Through,
};
use crate::{
    client::{Caller, Setup, contract::Api, encoded, server_with, text},
    federation::servers::{Authority, Server, eventually},
};

const ALL: Setup = Setup {
    listen: "",
    tenant: "",
    accounts: "registration = \"open\"",
    limits: "enabled = false",
    federation: "enabled = false",
    more: "[dialects.ryos]\nenabled = true\n[dialects.virola]\nenabled = true\n\
           [dialects.mirage]\nenabled = true\nprefix = \"/mirage\"\nmax_public_rooms = 100\n\
           [dialects.agora]\nenabled = true",
};

/// One way to speak with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Native,
    Ryos,
    Virola,
    Mirage,
    Agora,
}
use Door::{Agora, Mirage, Native, Ryos, Virola};

const DOORS: [Door; 5] = [Native, Ryos, Virola, Mirage, Agora];

/// A room, by all that it is found by.
struct Room {
    id: String,
    number: u64,
    name: String,
}

/// Somebody at a door.
struct Guest<'a> {
    door: Door,
    caller: &'a Caller,
    /// The server that asks for them where people do not speak for themselves.
    app: &'a Through,
}

impl Guest<'_> {
    fn through(&self) -> Through {
        let name = self.caller.id.trim_start_matches('@').split(':').next().expect("a name").to_owned();
        match self.door {
            Native => panic!("the native API is spoken directly"),
            Ryos => Through::new(self.caller.with_header("X-Username", &name), Api::Ryos),
            Virola => Through::new(self.caller.clone(), Api::Virola),
            Mirage => Through::new(self.caller.clone(), Api::Mirage).under("/mirage"),
            Agora => self.app.clone(),
        }
    }

    fn ryos_path(room: &Room, rest: &str) -> String {
        format!("/api/rooms/{}{rest}", encoded(&room.id))
    }

    fn agora_path(&self, room: &Room) -> String {
        format!("{ROOMS}/{}/users/{}", room.number, self.own_name())
    }

    fn own_name(&self) -> String {
        self.caller.id.trim_start_matches('@').split(':').next().expect("a name").to_owned()
    }

    /// Makes a public room, where the door has a call for that.
    async fn opens(&self, name: &str) -> Option<String> {
        match self.door {
            Native => Some(self.caller.public(name).await),
            Ryos => {
                let made = self.through().post("/api/rooms", json!({"type": "public", "name": name})).await;
                Some(text(&made.expect_status(201).json()["room"]["id"]))
            }
            Virola => None,
            Mirage => {
                let made = self.through().post("/api/create_room", json!({"room_name": name})).await;
                let number = made.expect_status(201).json()["room_id"].clone();
                Some(text(&self.caller.sees(&number.to_string()).await["id"]))
            }
            Agora => {
                let wish = json!({"name": name, "description": "", "owner": self.own_name()});
                let made = self.through().post(ROOMS, wish).await.expect_status(200).json();
                Some(text(&self.caller.sees(&text(&made["data"]["id"])).await["id"]))
            }
        }
    }

    /// The names of the rooms that the guest is in, as the door lists them.
    async fn own(&self) -> Vec<String> {
        let names = |rooms: &Value, field: &str| {
            rooms.as_array().expect("a list").iter().map(|room| text(&room[field])).collect::<Vec<_>>()
        };
        match self.door {
            Native => names(&json!(self.caller.get("/v1/rooms").await.list()), "name"),
            Ryos => {
                let listed = self.through().get("/api/rooms").await.expect_status(200).json();
                let mut own = Vec::new();
                for room in listed["rooms"].as_array().expect("a list") {
                    let path = format!("/api/rooms/{}/users", encoded(&text(&room["id"])));
                    let users = self.through().get(&path).await;
                    // Of native rooms only members are told who is there.
                    let is_in = users.status == 200
                        && users.json()["users"]
                            .as_array()
                            .expect("a list")
                            .iter()
                            .any(|user| user["username"] == self.own_name());
                    own.extend(is_in.then(|| text(&room["name"])));
                }
                own
            }
            Virola => {
                names(&self.through().get("/api/v1/rooms").await.expect_status(200).json()["rooms"], "displayName")
            }
            Mirage => names(&self.through().get("/api/user_rooms").await.expect_status(200).json()["rooms"], "name"),
            Agora => {
                let path = format!("/yurt/main/users/{}/joined_chatrooms", self.own_name());
                names(&self.through().get(&path).await.expect_status(200).json()["data"], "name")
            }
        }
    }

    /// Enters a room; answers the status, where the door has a call for that.
    async fn enters(&self, room: &Room) -> Option<u16> {
        match self.door {
            Native => Some(self.caller.joins(&room.id).await.status),
            Ryos => {
                let body = json!({"username": self.own_name()});
                Some(self.through().post(&Self::ryos_path(room, "/join"), body).await.status)
            }
            Virola => None,
            Mirage => Some(self.through().post("/api/join_room", json!({"name": room.name})).await.status),
            // There, who is in the room already cannot be brought in.
            Agora if self.own().await.contains(&room.name) => Some(200),
            Agora => Some(self.through().send("POST", &self.agora_path(room), None).await.status),
        }
    }

    /// Says something; answers the status, where the door has a call for that.
    async fn says(&self, room: &Room, what: &str) -> Option<u16> {
        match self.door {
            Native => Some(self.caller.tries_to_say(&room.id, what).await.status),
            Ryos | Agora => None,
            Virola => {
                let path = format!("/api/v1/rooms/{}/text-messages", room.number);
                Some(self.through().post(&path, json!({"content": what})).await.status)
            }
            Mirage => {
                let body = json!({"room_id": room.number, "message": what});
                Some(self.through().post("/api/send_room_message", body).await.status)
            }
        }
    }

    /// What was said, as the door reads it.
    async fn hears(&self, room: &Room) -> Option<Vec<String>> {
        let texts = |messages: &Value, field: &str| {
            messages.as_array().expect("a list").iter().map(|message| text(&message[field])).collect::<Vec<_>>()
        };
        match self.door {
            Native => Some(self.caller.hears(&room.id).await),
            Ryos | Agora => None,
            Virola => {
                let path = format!("/api/v1/rooms/{}/messages", room.number);
                Some(texts(&self.through().get(&path).await.expect_status(200).json()["messages"], "text"))
            }
            Mirage => {
                let path = format!("/api/get_room_messages?room_id={}", room.number);
                Some(texts(&self.through().get(&path).await.expect_status(200).json()["messages"], "message"))
            }
        }
    }

    /// Leaves a room; answers the status, where the door has a call for that.
    async fn goes(&self, room: &Room) -> Option<u16> {
        match self.door {
            Native => Some(self.caller.leaves(&room.id).await.status),
            Ryos => {
                let body = json!({"username": self.own_name()});
                Some(self.through().post(&Self::ryos_path(room, "/leave"), body).await.status)
            }
            Agora => Some(self.through().delete(&self.agora_path(room)).await.status),
            Virola | Mirage => None,
        }
    }
}

async fn made(maker: &Guest<'_>, name: &str) -> Option<Room> {
    let id = maker.opens(name).await?;
    let number = maker.caller.get(&format!("/v1/rooms/{id}/number")).await.ok()["number"].as_u64().expect("a number");
    Some(Room { id, number, name: name.to_owned() })
}

#[tokio::test]
async fn a_room_made_through_one_door_behaves_through_every_other() {
    let server = server_with(ALL).await;
    let (admin, bob) = (server.admin("root").await, server.account("bob").await);
    let app = &app_of(&admin).await;
    for made_at in DOORS {
        let Some(room) = made(&Guest { door: made_at, caller: &admin, app }, &format!("of {made_at:?}")).await else {
            continue;
        };
        for door in DOORS {
            let own = Guest { door, caller: &admin, app }.own().await;
            assert!(own.contains(&room.name), "made at {made_at:?}, not seen at {door:?}: {own:?}");
        }
        let mut said = Vec::new();
        for entered_at in DOORS {
            let Some(status) = (Guest { door: entered_at, caller: &bob, app }).enters(&room).await else { continue };
            assert_eq!(status, 200, "made at {made_at:?}, entered at {entered_at:?}");
            for door in DOORS {
                let guest = Guest { door, caller: &bob, app };
                assert!(guest.own().await.contains(&room.name), "{made_at:?} {entered_at:?} {door:?}");
                let what = format!("{entered_at:?} {door:?}");
                if let Some(status) = guest.says(&room, &what).await {
                    assert!(matches!(status, 200 | 201), "{made_at:?} {entered_at:?} {door:?}: {status}");
                    said.push(what);
                }
            }
            for door in DOORS {
                for caller in [&bob, &admin] {
                    if let Some(heard) = (Guest { door, caller, app }).hears(&room).await {
                        assert_eq!(heard, said, "{made_at:?} {entered_at:?} {door:?}");
                    }
                }
            }
            for left_at in DOORS {
                let Some(status) = (Guest { door: left_at, caller: &bob, app }).goes(&room).await else { continue };
                assert_eq!(status, 200, "{made_at:?} {left_at:?}");
                for door in DOORS {
                    let guest = Guest { door, caller: &bob, app };
                    let is_listed = guest.own().await.contains(&room.name);
                    assert!(!is_listed, "left at {left_at:?}, and still a member at {door:?}");
                    let refused = guest.says(&room, "from outside").await;
                    assert!(refused.is_none_or(|status| matches!(status, 403 | 404)), "{door:?}: {refused:?}");
                }
                Guest { door: entered_at, caller: &bob, app }.enters(&room).await;
            }
        }
        admin.post_nothing(&format!("/v1/rooms/{}/archive", room.id)).await.ok();
        for door in DOORS {
            let refused = Guest { door, caller: &bob, app }.says(&room, "into the ice").await;
            assert!(refused.is_none_or(|status| matches!(status, 403 | 409)), "{door:?}: {refused:?}");
            let stays = Guest { door, caller: &bob, app }.own().await;
            assert!(stays.contains(&room.name), "an archived room is still one's own at {door:?}: {stays:?}");
        }
        bob.leaves(&room.id).await.ok();
        for door in DOORS {
            let refused = Guest { door, caller: &bob, app }.enters(&room).await;
            assert!(refused.is_none_or(|status| matches!(status, 403 | 409)), "{made_at:?} {door:?}: {refused:?}");
        }
        admin.post_nothing(&format!("/v1/rooms/{}/rejoin", room.id)).await.ok();
        let status = Guest { door: Native, caller: &bob, app }.enters(&room).await;
        assert_eq!(status, Some(200));
    }
}

#[tokio::test]
async fn a_room_of_another_server_behaves_through_every_door_as_well() {
    let authority = Authority::new();
    let all = |config: &mut yurt::config::Config| {
        let dialects = &mut config.dialects;
        (dialects.ryos.enabled, dialects.virola.enabled, dialects.mirage.enabled) = (true, true, true);
        dialects.mirage.prefix = "/mirage".to_owned();
        dialects.agora.enabled = true;
        config.tenant[0].app = "main".to_owned();
    };
    let (ours, theirs) = (Server::changed(&authority, all).await, Server::changed(&authority, all).await);
    let (admin, carol, bob) = (theirs.admin("root").await, ours.account("carol").await, ours.account("bob").await);
    let their_app = app_of(&admin).await;
    let our_app = app_of(&ours.admin("root").await).await;
    for made_at in DOORS {
        let name = format!("of {made_at:?}");
        let Some(id) = (Guest { door: made_at, caller: &admin, app: &their_app }).opens(&name).await else { continue };
        carol.post(&format!("/v1/rooms/{}/join", encoded(&id)), json!({"via": [theirs.name()]})).await.ok();
        let number = carol.get(&format!("/v1/rooms/{id}/number")).await.ok()["number"].as_u64().expect("a number");
        let room = Room { id, number, name };
        let mut said = Vec::new();
        for entered_at in DOORS {
            let Some(status) = (Guest { door: entered_at, caller: &bob, app: &our_app }).enters(&room).await else {
                continue;
            };
            assert_eq!(status, 200, "made at {made_at:?}, entered at {entered_at:?}");
            for door in DOORS {
                let guest = Guest { door, caller: &bob, app: &our_app };
                // There, who is in a room is told to its members alone, who are active here.
                assert!(guest.own().await.contains(&room.name), "{made_at:?} {entered_at:?} {door:?}");
                let what = format!("{entered_at:?} {door:?}");
                if let Some(status) = guest.says(&room, &what).await {
                    assert!(matches!(status, 200 | 201), "{made_at:?} {entered_at:?} {door:?}: {status}");
                    said.push(what);
                }
            }
            let heard = || async { admin.hears(&room.id).await == said };
            eventually("the other server has all messages", heard).await;
            assert_eq!(Guest { door: Native, caller: &bob, app: &our_app }.goes(&room).await, Some(200));
        }
        admin.post_nothing(&format!("/v1/rooms/{}/archive", room.id)).await.ok();
        let is_frozen = || async { carol.sees(&room.id).await["state"] == "archived" };
        eventually("the freeze has come over", is_frozen).await;
        for door in DOORS {
            let refused = Guest { door, caller: &carol, app: &our_app }.says(&room, "into the ice").await;
            assert!(refused.is_none_or(|status| matches!(status, 403 | 409)), "{door:?}: {refused:?}");
            let refused = Guest { door, caller: &bob, app: &our_app }.enters(&room).await;
            // Its door is shut by the freeze, so that it is no longer listed here.
            assert!(
                refused.is_none_or(|status| matches!(status, 403 | 404 | 409)),
                "{made_at:?} {door:?}: {refused:?}"
            );
        }
    }
}

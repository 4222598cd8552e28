//! What `/permissions` says is what the actions do: each is tried after it was asked.

use serde_json::{Value, json};

use crate::client::{Answer, Caller, TestServer, png, server, text};

/// Who asks, and how they stand in the room.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    Creator,
    Hundred,
    Moderator,
    Member,
    Invited,
    Former,
    Banned,
    Stranger,
}

const ROLES: [Role; 8] = [
    Role::Creator,
    Role::Hundred,
    Role::Moderator,
    Role::Member,
    Role::Invited,
    Role::Former,
    Role::Banned,
    Role::Stranger,
];

/// The room that is asked about.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Group(&'static str),
    Knocking,
    Public,
    Archived,
    Closed,
    Incognito,
}

/// The people of a server; each role is one of them.
struct People {
    creator: Caller,
    hundred: Caller,
    moderator: Caller,
    member: Caller,
    invited: Caller,
    former: Caller,
    banned: Caller,
    stranger: Caller,
    /// Joined at level 0, to be acted upon.
    target: Caller,
    /// Banned, to be unbanned.
    outcast: Caller,
}

impl People {
    async fn new(server: &TestServer) -> Self {
        Self {
            creator: server.account("creator").await,
            hundred: server.account("hundred").await,
            moderator: server.account("moderator").await,
            member: server.account("member").await,
            invited: server.account("invited").await,
            former: server.account("former").await,
            banned: server.account("banned").await,
            stranger: server.account("stranger").await,
            target: server.account("target").await,
            outcast: server.account("outcast").await,
        }
    }

    fn of(&self, role: Role) -> &Caller {
        match role {
            Role::Creator => &self.creator,
            Role::Hundred => &self.hundred,
            Role::Moderator => &self.moderator,
            Role::Member => &self.member,
            Role::Invited => &self.invited,
            Role::Former => &self.former,
            Role::Banned => &self.banned,
            Role::Stranger => &self.stranger,
        }
    }

    /// A fresh room of the kind in which everybody has their role, and an event of the target in it.
    async fn room(&self, kind: Kind) -> (String, String) {
        let body = match kind {
            Kind::Group(version) => {
                json!({"room_type": "group", "name": "Tents", "is_public": true, "room_version": version})
            }
            Kind::Knocking => json!({"room_type": "group", "name": "Tents"}),
            Kind::Public | Kind::Archived | Kind::Closed => json!({"room_type": "public", "name": "Tents"}),
            Kind::Incognito => json!({"room_type": "incognito"}),
        };
        let room = self.creator.creates(body).await;
        for joining in
            [&self.hundred, &self.moderator, &self.member, &self.former, &self.banned, &self.target, &self.outcast]
        {
            self.creator.brings_in(&room, joining).await;
        }
        let users = json!({"users": {self.hundred.id.clone(): 100, self.moderator.id.clone(): 50}});
        self.creator.put(&format!("/v1/rooms/{room}/power-levels"), users).await.ok();
        let event = self.target.says(&room, "hello").await;
        self.former.leaves(&room).await.ok();
        for banned in [&self.banned, &self.outcast] {
            self.creator.does("ban", &room, banned).await.ok();
        }
        self.creator.does("invite", &room, &self.invited).await.ok();
        match kind {
            Kind::Archived => drop(self.creator.post_nothing(&format!("/v1/rooms/{room}/archive")).await.ok()),
            Kind::Closed => drop(self.creator.post_nothing(&format!("/v1/rooms/{room}/close")).await.ok()),
            Kind::Knocking => {
                let body = json!({"members_only": true}).to_string().into_bytes();
                self.creator.send("PATCH", &format!("/v1/rooms/{room}"), Some(body)).await.ok();
            }
            Kind::Group(_) | Kind::Public | Kind::Incognito => {}
        }
        (room, event)
    }

    /// Tries what a word of the permissions stands for.
    async fn tries(&self, role: Role, word: &str, room: &str, event: &str) -> Answer {
        let caller = self.of(role);
        let path = |rest: &str| format!("/v1/rooms/{room}/{rest}");
        match word {
            "send" => caller.tries_to_say(room, "hello").await,
            "invite" => caller.does("invite", room, &self.stranger).await,
            "silence" => caller.put(&path(&format!("members/{}/silence", self.target.id)), json!({})).await,
            "announcement" => caller.put(&path("announcement"), json!({"announcement": "Market"})).await,
            "settings" => {
                let body = json!({"max_members": 50}).to_string().into_bytes();
                caller.send("PATCH", &format!("/v1/rooms/{room}"), Some(body)).await
            }
            "kick" => caller.does("kick", room, &self.target).await,
            "ban" => caller.does("ban", room, &self.target).await,
            "unban" => caller.does("unban", room, &self.outcast).await,
            "redact" => caller.post_nothing(&path(&format!("events/{event}/redact"))).await,
            "rename" => caller.put(&path("name"), json!({"name": "Yurts"})).await,
            "topic" => caller.put(&path("topic"), json!({"topic": "Felt"})).await,
            "avatar" => caller.sets_avatar(room, png(2, 2)).await,
            "power_levels" => caller.put(&path("power-levels"), json!({"notifications": {"room": 50}})).await,
            "move" => {
                let personal = text(&caller.get("/v1/me").await.ok()["personal_workspace_id"]);
                caller.put(&path("workspace"), json!({"workspace_id": personal})).await
            }
            "archive" | "close" | "rejoin" | "join" | "knock" | "leave" => caller.post_nothing(&path(word)).await,
            _ => panic!("`{word}` has no call yet"),
        }
    }
}

/// The words whose calls exist.
const WORDS: [&str; 20] = [
    "send",
    "invite",
    "kick",
    "ban",
    "unban",
    "silence",
    "announcement",
    "settings",
    "knock",
    "redact",
    "rename",
    "topic",
    "avatar",
    "power_levels",
    "move",
    "archive",
    "close",
    "rejoin",
    "join",
    "leave",
];

/// Asks for a permission and then does the thing, in one kind of room, for everybody who sees it.
async fn check(kind: Kind) {
    let server = server().await;
    let people = People::new(&server).await;
    for word in WORDS {
        for role in ROLES {
            if matches!(kind, Kind::Incognito | Kind::Knocking) && role == Role::Stranger {
                continue;
            }
            let (room, event) = people.room(kind).await;
            let permissions = people.of(role).get(&format!("/v1/rooms/{room}/permissions")).await.ok();
            let said = &permissions[word];
            let answer = people.tries(role, word, &room, &event).await;
            let did = answer.status < 300;
            assert_eq!(
                said["allowed"],
                json!(did),
                "{role:?} may {word} in {kind:?}: {said}, and then {}",
                answer.json()
            );
            if !did {
                check_reason(said, &answer, &format!("{role:?} {word} {kind:?}"));
            }
        }
    }
}

/// The refusal of the action gives the reason that the permission gave.
#[track_caller]
fn check_reason(said: &Value, answer: &Answer, which: &str) {
    let error = &answer.json()["error"];
    if let Some(reason) = error["reason"].as_str() {
        assert_eq!(said["reason"], reason, "{which}");
    }
    match error["code"].as_str() {
        Some("SW_ROOM_FROZEN") => assert_eq!(said["reason"], "frozen", "{which}"),
        // Who may not see the event is not told that it is there.
        Some("SW_EVENT_NOT_FOUND") => assert_eq!(said["reason"], "membership", "{which}"),
        Some("SW_ROOM_TYPE_INVARIANT") => assert_eq!(said["reason"], "type", "{which}"),
        Some("SW_ROOM_FORBIDDEN" | "SW_REDACT_FORBIDDEN") => {
            assert!(
                ["level", "creator", "membership"].contains(&said["reason"].as_str().unwrap_or_default()),
                "{which}: {said}"
            );
        }
        code => panic!("{which} was refused with {code:?}"),
    }
}

#[tokio::test]
async fn in_a_group_permissions_say_what_the_actions_do() {
    check(Kind::Group("12")).await;
}

#[tokio::test]
async fn in_a_group_of_version_10_permissions_say_what_the_actions_do() {
    check(Kind::Group("10")).await;
}

#[tokio::test]
async fn in_a_public_room_permissions_say_what_the_actions_do() {
    check(Kind::Public).await;
}

#[tokio::test]
async fn in_an_archived_room_permissions_say_what_the_actions_do() {
    check(Kind::Archived).await;
}

#[tokio::test]
async fn in_a_closed_room_permissions_say_what_the_actions_do() {
    check(Kind::Closed).await;
}

#[tokio::test]
async fn in_an_incognito_room_permissions_say_what_the_actions_do() {
    check(Kind::Incognito).await;
}

#[tokio::test]
async fn in_a_direct_room_what_the_type_forbids_is_not_allowed() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.direct(&bob).await;
    for caller in [&alice, &bob] {
        let permissions = caller.get(&format!("/v1/rooms/{room}/permissions")).await.ok();
        for word in ["invite", "kick", "ban", "rename"] {
            assert_eq!(
                (&permissions[word]["allowed"], &permissions[word]["reason"]),
                (&json!(false), &json!("type")),
                "{word}"
            );
        }
        for word in ["send", "redact", "topic", "archive", "close", "leave"] {
            assert_eq!(permissions[word]["allowed"], true, "{word}");
        }
    }
}

#[tokio::test]
async fn in_a_group_that_takes_knocks_permissions_say_what_the_actions_do() {
    check(Kind::Knocking).await;
}

#[tokio::test]
async fn a_full_room_cannot_be_joined_for_its_capacity() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.creates(json!({"room_type": "public", "name": "Small", "max_members": 1})).await;
    let join = bob.get(&format!("/v1/rooms/{room}/permissions")).await.ok()["join"].clone();
    assert_eq!((&join["allowed"], &join["reason"]), (&json!(false), &json!("capacity")));
    bob.joins(&room).await.refused(409, "SW_ROOM_CAPACITY");
}

//! Accounts, rooms and members, made through the library before the server starts: the same actions that the API calls. Accounts have no password, because
//! argon2id is slow on purpose; the crowd of the large rooms joins without accounts, as people of other servers would.

use std::path::Path;

use ruma::{OwnedRoomId, OwnedUserId, UserId};
use tokio::runtime::Runtime;
use yurt::{
    actions::{
        Actions, Caller,
        accounts::{self, NewAccount},
        creation::{self, NewRoom},
        members, sessions,
    },
    config::Config,
    server,
};

use crate::{Scale, program::SETTINGS};

/// Joins at the same time while the crowd moves in.
const AT_A_TIME: usize = 64;
/// Rooms that are written to at the same time.
pub(crate) const ROOMS: usize = 64;

/// What stands when the server starts.
pub(crate) struct Town {
    /// The token of each account.
    pub(crate) tokens: Vec<String>,
    /// An empty room that every account may join.
    pub(crate) empty: OwnedRoomId,
    /// Rooms in which the first account is.
    pub(crate) rooms: Vec<OwnedRoomId>,
    /// Rooms of [`Scale::members`] members.
    pub(crate) crowded: Vec<OwnedRoomId>,
    /// A room in which all accounts are.
    pub(crate) square: OwnedRoomId,
}

impl Town {
    /// Builds it in a folder, which gets a `config.toml`.
    pub(crate) fn build(folder: &Path, scale: &Scale) -> Self {
        eprintln!("{} accounts, a room of {} members …", scale.accounts, scale.members[2]);
        std::fs::create_dir(folder).unwrap();
        let file = folder.join("config.toml");
        std::fs::write(
            &file,
            format!("{SETTINGS}[[tenant]]\nserver_name = \"localhost\"\nmax_participants = 1000000\n"),
        )
        .unwrap();
        let mut config = Config::load(&file, []).expect("a configuration");
        config.data_dir = folder.join("data");
        Runtime::new().unwrap().block_on(async {
            let offline = server::open_offline(&config, &config.tenant[0]).await.expect("the folder opens");
            let town = Self::found(offline.actions(), scale).await;
            offline.close().await.expect("the folder closes");
            town
        })
    }

    async fn found(actions: &Actions, scale: &Scale) -> Self {
        let mut people = Vec::new();
        let mut tokens = Vec::new();
        for number in 0..scale.accounts {
            let new =
                NewAccount { username: format!("person{number}"), is_admin: number == 0, ..NewAccount::default() };
            let made = accounts::create(actions, new).await.expect("an account");
            tokens.push(sessions::issue(actions, &made.user_id, "bench").await.expect("a token").token);
            people.push(made.user_id);
        }
        let mut rooms = Vec::new();
        for number in 0..ROOMS {
            rooms.push(room(actions, &people[0], &format!("Room {number}")).await);
        }
        let mut crowded = Vec::new();
        for count in scale.members {
            let room_id = room(actions, &people[0], &format!("Room of {count}")).await;
            let crowd = (1..count).map(|number| UserId::parse(format!("@crowd{number}:localhost")).unwrap()).collect();
            join(actions, &room_id, crowd).await;
            crowded.push(room_id);
        }
        let square = room(actions, &people[0], "Square").await;
        join(actions, &square, people.iter().skip(1).cloned().collect()).await;
        Self { tokens, empty: room(actions, &people[0], "Empty").await, rooms, crowded, square }
    }

    /// The token of the first account, who is an admin and has made all rooms.
    pub(crate) fn token(&self) -> &str {
        &self.tokens[0]
    }
}

/// Where messages of a room go.
pub(crate) fn messages_of(room_id: &OwnedRoomId) -> String {
    format!("/v1/rooms/{room_id}/messages")
}

async fn room(actions: &Actions, creator: &UserId, name: &str) -> OwnedRoomId {
    let kind = Some(rules::kind::RoomKind::Public);
    let new = NewRoom { kind, name: Some(name.to_owned()), ..NewRoom::default() };
    creation::create(actions, &Caller::local(creator, false), new).await.expect("a room")
}

/// All of them join, some at the same time.
async fn join(actions: &Actions, room_id: &OwnedRoomId, mut people: Vec<OwnedUserId>) {
    let mut tasks = Vec::new();
    let share = people.len().div_ceil(AT_A_TIME).max(1);
    while !people.is_empty() {
        let some = people.split_off(people.len().saturating_sub(share));
        let (actions, room_id) = (actions.clone(), room_id.clone());
        tasks.push(tokio::spawn(async move {
            for person in some {
                members::join(&actions, &Caller::local(&person, false), room_id.as_str(), &[]).await.expect("a join");
            }
        }));
    }
    for task in tasks {
        task.await.expect("the joins end");
    }
}

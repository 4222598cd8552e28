//! A server on the network of this machine with somebody on it, and what it holds of a room.

use std::{collections::BTreeSet, time::Duration};

use rules::kind::RoomKind;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId};
use serde_json::json;
use yurt::{
    actions::{
        Actions, Caller, JobState,
        accounts::{self, NewAccount},
        creation::{self, NewRoom},
        federate::{self, Switch, Switched},
        jobs, members, messages,
        outgoing::Patience,
        room_state,
        rows::Rows,
    },
    storage::{Arrival, StateTree, history::EventStanding, keyspaces::EVENTS, room_settings::FederationMode},
};

use super::{
    Ids,
    servers::{Server, eventually},
};

pub(crate) struct Party {
    pub(crate) server: Server,
    pub(crate) actions: Actions,
    pub(crate) person: Caller,
    pub(crate) name: OwnedServerName,
}

/// Nobody is kept out, and nothing else is asked for.
pub(crate) fn to(mode: FederationMode) -> Switch {
    Switch { mode, evict: false, acl: false, as_member: None, dry_run: false }
}

impl Party {
    pub(crate) async fn new(server: Server, person: &str) -> Self {
        let (actions, name) = (server.actions().await, server.name().to_owned());
        let person = caller(&actions, person).await;
        Self { server, actions, person, name }
    }

    /// The server is stopped, and started again.
    pub(crate) async fn restart(self) -> Self {
        let Self { mut server, actions, person, name } = self;
        drop(actions);
        server.stop().await;
        server.start().await;
        Self { actions: server.actions().await, server, person, name }
    }

    pub(crate) fn admin(&self) -> Caller {
        Caller::local(&UserId::parse(format!("@root:{}", self.name)).unwrap(), true)
    }

    /// A public room of this person.
    pub(crate) async fn room(&self, version: &str) -> OwnedRoomId {
        let new = NewRoom {
            kind: Some(RoomKind::Public),
            name: Some("Tents".to_owned()),
            version: Some(version.to_owned()),
            ..NewRoom::default()
        };
        creation::create(&self.actions, &self.person, new).await.unwrap()
    }

    pub(crate) async fn joins(&self, room_id: &RoomId, through: &Self) {
        let via = [through.name.to_string()];
        members::join(&self.actions, &self.person, room_id.as_str(), &via, None).await.unwrap();
    }

    pub(crate) async fn says(&self, room_id: &RoomId, body: &str) -> OwnedEventId {
        let message = messages::NewMessage {
            event_type: "m.room.message".to_owned(),
            content: json!({ "msgtype": "m.text", "body": body }),
            reply_to: None,
            transaction_id: None,
            fingerprint: [0; 32],
        };
        messages::send(&self.actions, &self.person, room_id.as_str(), message).await.unwrap().event_id
    }

    pub(crate) async fn sets(&self, room_id: &RoomId, event_type: &str, content: serde_json::Value) {
        room_state::set(&self.actions, &self.person, room_id.as_str(), event_type, "", content).await.unwrap();
    }

    pub(crate) async fn switches(&self, room_id: &RoomId, mode: FederationMode) -> Switched {
        federate::switch(&self.actions, &self.admin(), room_id.as_str(), to(mode)).await.unwrap()
    }

    /// The job has ended well.
    pub(crate) async fn is_done(&self, job_id: &str) {
        eventually("the job is done", async || {
            jobs::get(&self.actions, &self.admin(), job_id).await.unwrap().job.state == JobState::Done
        })
        .await;
    }

    pub(crate) async fn state(&self, room_id: &RoomId) -> Ids {
        let room = self.actions.room(room_id);
        let view = room.view().await.unwrap().unwrap();
        let rows = Rows::on_disk(&room.store, &room.home);
        let tree = StateTree::new(&room.store, room.home.clone());
        let mut state = Ids::new();
        for (_, arrival) in tree.walk(view.tip.state, 0, 100_000).await.unwrap() {
            let event = rows.event(&view.basis.version, arrival).await.unwrap().1;
            state.insert(rules::state::change_of(&event).unwrap(), event.event_id().clone());
        }
        state
    }

    /// The events that are held here and not rejected.
    pub(crate) async fn events(&self, room_id: &RoomId) -> BTreeSet<OwnedEventId> {
        let room = self.actions.room(room_id);
        let view = room.view().await.unwrap().unwrap();
        let rows = Rows::on_disk(&room.store, &room.home);
        let mut events = BTreeSet::new();
        for number in 1..view.tip.next_arrival.get() {
            let Some(stored) = rows.get(&EVENTS, &Arrival::new(number).unwrap()).await.unwrap() else { continue };
            if !matches!(stored.standing, EventStanding::Rejected { .. }) {
                events.insert(stored.event_id);
            }
        }
        events
    }

    pub(crate) async fn holds(&self, room_id: &RoomId, event_id: &OwnedEventId) -> bool {
        self.events(room_id).await.contains(event_id)
    }

    /// This server has told the other one everything.
    pub(crate) async fn has_told(&self, other: &ServerName) {
        eventually("everything is sent", async || {
            let others = [other.to_owned()];
            let at_once = Patience { time_max: Duration::ZERO, failures_max: 0 };
            self.actions.outgoing.settled(&self.actions, &others, at_once).await.unwrap().is_empty()
        })
        .await;
    }
}

pub(crate) async fn caller(actions: &Actions, name: &str) -> Caller {
    accounts::create(actions, NewAccount { username: name.to_owned(), ..NewAccount::default() }).await.unwrap();
    Caller::local(&accounts::user_id(actions, name).unwrap(), false)
}

/// Both hold the same events and the same state.
pub(crate) async fn agree(one: &Party, other: &Party, room_id: &RoomId) {
    eventually("both hold the same", async || {
        one.events(room_id).await == other.events(room_id).await
            && one.state(room_id).await == other.state(room_id).await
    })
    .await;
}

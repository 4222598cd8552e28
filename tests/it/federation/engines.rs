//! Whole servers that talk to each other inside the test: what one asks of another is a call of its ports. Nothing is sent by itself; a test delivers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use ::federation::{
    Pdu, Refusal,
    local::{AliasAnswer, Directory, Gap, Handshakes, Invite, LocalRooms, StateBefore, Template, Wish},
};
use parking_lot::Mutex;
use rules::{
    UnixMs,
    keys::{Key, KeyRing, Validity},
    permission::Membership,
};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomVersionId, ServerName, UserId,
};
use serde_json::json;
use yurt::{
    actions::{
        Actions, Caller,
        accounts::{self, NewAccount},
        incoming, messages,
        peers::{Asking, Errcode, Joined, Keys, PeerError, Peers},
        rooms,
        rows::Rows,
    },
    control::{Answer as Answered, Command},
    storage::{Arrival, StateTree, history::EventStanding, keyspaces::EVENTS},
};

use super::{Ids, pdu};
use crate::client::{TestServer, server_named};

/// The servers, by name.
#[derive(Default)]
pub(crate) struct Net {
    engines: Mutex<HashMap<OwnedServerName, Actions>>,
    /// Who does not answer.
    pub(crate) down: Mutex<HashSet<OwnedServerName>>,
    /// Whose answers to joins leave everything out.
    pub(crate) spoilt: Mutex<HashSet<OwnedServerName>>,
    /// Whoever writes it keeps all answers to joins and knocks back.
    pub(crate) joins: tokio::sync::RwLock<()>,
    delivered: Mutex<HashMap<(OwnedServerName, OwnedRoomId), u64>>,
}

/// The network as one server sees it.
struct Line {
    from: OwnedServerName,
    net: Arc<Net>,
}

/// One of the servers, with a person.
pub(crate) struct Engine {
    pub(crate) server: TestServer,
    pub(crate) actions: Actions,
    pub(crate) person: Caller,
    pub(crate) name: OwnedServerName,
}

pub(crate) async fn engine(net: &Arc<Net>, name: &str, person: &str) -> Engine {
    let server = server_named(name).await;
    let actions = server.actions().await;
    let name: OwnedServerName = name.try_into().unwrap();
    net.engines.lock().insert(name.clone(), actions.clone());
    actions.connect(Arc::new(Line { from: name.clone(), net: Arc::clone(net) }));
    let person = caller(&actions, person).await;
    Engine { server, actions, person, name }
}

pub(crate) async fn caller(actions: &Actions, name: &str) -> Caller {
    accounts::create(actions, NewAccount { username: name.to_owned(), ..NewAccount::default() }).await.unwrap();
    Caller::local(&accounts::user_id(actions, name).unwrap(), false)
}

impl Engine {
    /// Its person as a client of the API.
    pub(crate) async fn client(&self) -> crate::client::Caller {
        let command = Command::IssueToken { username: self.person.user_id.localpart().to_owned() };
        let Answered::Token { access_token } = self.server.commands(command).await else { panic!("no token was made") };
        let id = self.person.user_id.to_string();
        crate::client::Caller { id, ..self.server.nameless().with_token(&access_token.0) }
    }

    /// The same server after a restart at which another key took its place.
    pub(crate) async fn with_a_new_key(mut self, net: &Arc<Net>) -> Self {
        let Self { person, name, .. } = &self;
        let (person, name) = (person.clone(), name.clone());
        drop(self.actions);
        self.server.stop().await;
        let is_key = |file: &&(std::path::PathBuf, Vec<u8>)| file.0.ends_with("signing.key");
        let written = self.server.written();
        let (file, _) = written.iter().find(is_key).unwrap();
        let seed = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk";
        std::fs::write(file.with_file_name("signing.key.next"), format!("ed25519 second {seed}\n")).unwrap();
        self.server.start_as(name.as_str()).await.unwrap();
        let actions = self.server.actions().await;
        net.engines.lock().insert(name.clone(), actions.clone());
        actions.connect(Arc::new(Line { from: name.clone(), net: Arc::clone(net) }));
        Self { server: self.server, actions, person, name }
    }

    pub(crate) async fn say(&self, room_id: &RoomId, body: &str) -> OwnedEventId {
        let message = messages::NewMessage {
            event_type: "m.room.message".to_owned(),
            content: json!({ "msgtype": "m.text", "body": body }),
            reply_to: None,
            transaction_id: None,
            fingerprint: [0; 32],
        };
        messages::send(&self.actions, &self.person, room_id.as_str(), message).await.unwrap().event_id
    }

    pub(crate) async fn membership(&self, room_id: &RoomId) -> Membership {
        match rooms::details(&self.actions, &self.person, room_id.as_str()).await {
            Ok(room) => room.membership,
            Err(_) => Membership::None,
        }
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

    pub(crate) async fn holds(&self, room_id: &RoomId, event_id: &EventId) -> bool {
        let room = self.actions.room(room_id);
        let rows = Rows::on_disk(&room.store, &room.home);
        let Some(arrival) = rows.arrival_of(event_id).await.unwrap() else { return false };
        rows.get(&EVENTS, &arrival).await.unwrap().is_some_and(|stored| stored.standing == EventStanding::Accepted)
    }
}

impl Net {
    fn ask(&self, peer: &ServerName) -> Result<Actions, PeerError> {
        if self.down.lock().contains(peer) {
            return Err(PeerError::Unreachable);
        }
        self.engines.lock().get(peer).cloned().ok_or(PeerError::Unreachable)
    }

    /// What a server has said in a room until now is not sent: the others have it, or have not been there.
    pub(crate) async fn pass_over(&self, from: &Engine, room_id: &RoomId) {
        let next = from.actions.room(room_id).view().await.unwrap().unwrap().tip.next_arrival.get();
        self.delivered.lock().insert((from.name.clone(), room_id.to_owned()), next);
    }

    /// Sends what a server has said in a room since the last time to the others.
    pub(crate) async fn deliver(&self, from: &Engine, room_id: &RoomId, to: &[&Engine]) {
        let room = from.actions.room(room_id);
        let view = room.view().await.unwrap().unwrap();
        let rows = Rows::on_disk(&room.store, &room.home);
        let key = (from.name.clone(), room_id.to_owned());
        let first = self.delivered.lock().get(&key).copied().unwrap_or(1);
        for number in first..view.tip.next_arrival.get() {
            let Some(stored) = rows.get(&EVENTS, &Arrival::new(number).unwrap()).await.unwrap() else { continue };
            let event = yurt::actions::rows::read(&stored, &room.home, &view.basis.version).unwrap();
            if stored.standing == EventStanding::Accepted && event.sender().server_name() == from.name {
                for engine in to {
                    engine.actions.receive(&from.name, room_id, vec![pdu(event.json())]).await;
                    incoming::catch_up(&engine.actions, room_id).await.unwrap();
                }
            }
        }
        self.delivered.lock().insert(key, view.tip.next_arrival.get());
    }
}

fn told<T>(answer: Result<T, Refusal>) -> Result<T, PeerError> {
    answer.map_err(|refusal| match refusal {
        Refusal::Unavailable => PeerError::Unreachable,
        Refusal::NotFound => PeerError::Refused(Errcode::NOT_FOUND),
        Refusal::Forbidden => PeerError::Refused(Errcode::FORBIDDEN),
        Refusal::IncompatibleRoomVersion(_) => PeerError::Refused(Errcode::INCOMPATIBLE_ROOM_VERSION),
        Refusal::Invalid(_) => PeerError::Refused(Errcode::read(Some("M_INVALID_PARAM"))),
        Refusal::UnableToAuthoriseJoin => PeerError::Refused(Errcode::read(Some("M_UNABLE_TO_AUTHORISE_JOIN"))),
        Refusal::UnableToGrantJoin => PeerError::Refused(Errcode::read(Some("M_UNABLE_TO_GRANT_JOIN"))),
    })
}

macro_rules! asked {
    ($self:ident, $peer:ident, |$actions:ident, $from:ident| $call:expr) => {
        Box::pin(async move {
            let $actions = $self.net.ask($peer)?;
            let $from = &$self.from;
            told($call.await)
        })
    };
}

macro_rules! asked_state {
    ($self:ident, $peer:ident, |$actions:ident, $from:ident| $call:expr) => {
        Box::pin(async move {
            let $actions = $self.net.ask($peer)?;
            let $from = &$self.from;
            told(told($call.await)?.gathered().await)
        })
    };
}

impl Peers for Line {
    fn event<'a>(&'a self, peer: &'a ServerName, event_id: &'a EventId) -> Asking<'a, Pdu> {
        asked!(self, peer, |actions, from| LocalRooms::event(&actions, from, event_id))
    }

    fn missing_events<'a>(&'a self, peer: &'a ServerName, room_id: &'a RoomId, gap: Gap) -> Asking<'a, Vec<Pdu>> {
        asked!(self, peer, |actions, from| actions.missing_events(from, room_id, gap))
    }

    fn state_ids<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, StateBefore<OwnedEventId>> {
        asked_state!(self, peer, |actions, from| actions.state_ids_before(from, room_id, event_id))
    }

    fn state<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, StateBefore<Pdu>> {
        asked_state!(self, peer, |actions, from| actions.state_before(from, room_id, event_id))
    }

    fn backfill<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        from_events: &'a [OwnedEventId],
        events_max: usize,
    ) -> Asking<'a, Vec<Pdu>> {
        asked!(self, peer, |actions, from| actions.backfill(from, room_id, from_events.to_vec(), events_max))
    }

    fn event_auth<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, Vec<Pdu>> {
        asked!(self, peer, |actions, from| actions.auth_chain(from, room_id, event_id))
    }

    fn keys<'a>(&'a self, needed: &'a BTreeSet<(OwnedServerName, String)>, _at: UnixMs) -> Keys<'a> {
        let mut keys = KeyRing::new();
        let engines = self.net.engines.lock();
        for (server, key_id) in needed {
            let signer = engines.get(server).map(|actions| &actions.signer);
            if let Some(signer) = signer.filter(|signer| signer.key_id() == key_id) {
                let validity = Validity::Until(UnixMs(u64::MAX));
                keys.insert(server.clone(), key_id, Key { public: signer.public_key(), validity });
            }
        }
        Box::pin(std::future::ready(keys))
    }

    fn membership_template<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        user_id: &'a UserId,
        wish: Wish,
        versions: &'a [RoomVersionId],
    ) -> Asking<'a, Template> {
        asked!(self, peer, |actions, from| actions.membership_template(from, room_id, user_id, wish, versions))
    }

    fn send_join<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
        event: Pdu,
    ) -> Asking<'a, Joined> {
        Box::pin(async move {
            let actions = self.net.ask(peer)?;
            let accepted = told(actions.accept_membership(&self.from, room_id, event_id, Wish::Join, event).await)?;
            let _answers = self.net.joins.read().await;
            if self.net.spoilt.lock().contains(peer) {
                return Ok(Joined::of(None, StateBefore { state: Vec::new(), auth_chain: Vec::new() }));
            }
            Ok(Joined::of(Some(accepted.event), told(accepted.before.gathered().await)?))
        })
    }

    fn send_leave<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
        event: Pdu,
    ) -> Asking<'a, ()> {
        Box::pin(async move {
            let actions = self.net.ask(peer)?;
            told(actions.accept_membership(&self.from, room_id, event_id, Wish::Leave, event).await).map(drop)
        })
    }

    fn send_knock<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
        event: Pdu,
    ) -> Asking<'a, Vec<Pdu>> {
        Box::pin(async move {
            let actions = self.net.ask(peer)?;
            let accepted = told(actions.accept_membership(&self.from, room_id, event_id, Wish::Knock, event).await)?;
            let _answers = self.net.joins.read().await;
            Ok(told(accepted.before.gathered().await)?.state)
        })
    }

    fn invite<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
        invite: Invite,
    ) -> Asking<'a, Pdu> {
        asked!(self, peer, |actions, from| actions.accept_invite(from, room_id, event_id, invite))
    }

    fn alias<'a>(&'a self, peer: &'a ServerName, alias: &'a RoomAliasId) -> Asking<'a, AliasAnswer> {
        asked!(self, peer, |actions, from| Directory::alias(&actions, from, alias))
    }

    fn profile<'a>(&'a self, peer: &'a ServerName, user_id: &'a UserId) -> Asking<'a, BTreeMap<String, String>> {
        asked!(self, peer, |actions, from| Directory::profile(&actions, from, user_id))
    }
}

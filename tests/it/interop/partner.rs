//! The server of ours that talks to the Synapse, and what it holds.

use std::{
    path::PathBuf,
    sync::{Arc, RwLock},
};

use rules::Version;
use ruma::{OwnedRoomId, RoomId};
use tokio::sync::Mutex;
use yurt::{
    actions::{Actions, rows::Rows},
    config::Registration,
    storage::{Arrival, history::EventStanding, keyspaces::EVENTS},
};

use super::{relay::Relay, synapse::Synapse};
use crate::{
    client::{Caller, Link, PASSWORD, choose_cryptography, text},
    federation::servers::{Server, WAIT_MAX, free_port},
};

/// A server of ours that trusts the Synapse and that it trusts.
pub(crate) struct Partner {
    server: Mutex<Server>,
    link: Arc<Link>,
    /// The way to it.
    pub(crate) relay: Arc<Relay>,
}

/// What is held of an event.
pub(crate) struct Held {
    pub(crate) event_id: String,
    pub(crate) event_type: String,
    pub(crate) previous: Vec<String>,
    pub(crate) standing: EventStanding,
}

impl Partner {
    pub(crate) async fn of(synapse: &Synapse) -> Self {
        let (port, real_port) = (free_port(), free_port());
        let mut config = Server::config(&[&format!("localhost:{port}")]);
        config.listen.federation.set_port(real_port);
        config.accounts.registration = Registration::Open;
        (config.federation.tls_certificate, config.federation.tls_key) = synapse.certificate.clone();
        config.federation.ca_files = vec![synapse.authority.clone()];
        let server = Server::with(config).await;
        choose_cryptography();
        let http = reqwest::Client::builder().no_proxy().timeout(WAIT_MAX).build().unwrap();
        let link = Link { http, address: RwLock::new(server.running().api()) };
        Self { server: Mutex::new(server), link: Arc::new(link), relay: Relay::between(port, real_port) }
    }

    pub(crate) async fn actions(&self) -> Actions {
        self.server.lock().await.actions().await
    }

    /// The file with the key that it signs with.
    pub(crate) async fn key_file(&self) -> PathBuf {
        self.server.lock().await.folder().join("data/tenants/t0/signing.key")
    }

    pub(crate) async fn stop(&self) {
        self.server.lock().await.stop().await;
    }

    pub(crate) async fn start(&self) {
        let mut server = self.server.lock().await;
        server.start().await;
        *self.link.address.write().unwrap() = server.running().api();
    }

    /// The server goes on in another folder, under its name and with its key, and with nothing else.
    pub(crate) async fn moves(&self) {
        self.stop().await;
        self.server.lock().await.takes_its_key_elsewhere();
        self.start().await;
    }

    /// A new administrator, logged in.
    pub(crate) async fn admin(&self, name: &str) -> Caller {
        let admin = self.server.lock().await.admin(name).await;
        Caller { link: Arc::clone(&self.link), ..admin }
    }

    /// A new account, logged in.
    pub(crate) async fn account(&self, name: &str) -> Caller {
        let nameless = Caller { link: Arc::clone(&self.link), id: String::new(), token: None, headers: Vec::new() };
        let body = serde_json::json!({"username": name, "password": PASSWORD});
        let session = nameless.post("/v1/auth/register", body).await.created();
        Caller { id: text(&session["participant_id"]), token: Some(text(&session["access_token"])), ..nameless }
    }

    /// Everything that it holds of a room, in the order in which it came.
    pub(crate) async fn held(&self, room: &str, version: &str) -> Vec<Held> {
        let (room_id, version): (OwnedRoomId, _) = (RoomId::parse(room).unwrap(), Version::parse(version).unwrap());
        let actions = self.actions().await;
        let room = actions.room(&room_id);
        let rows = Rows::on_disk(&room.store, &room.home);
        let next = room.view().await.unwrap().unwrap().tip.next_arrival.get();
        let mut held = Vec::new();
        for arrival in (1..next).map(|number| Arrival::new(number).unwrap()) {
            if rows.get(&EVENTS, &arrival).await.unwrap().is_none() {
                continue;
            }
            let (stored, event) = rows.event(&version, arrival).await.unwrap();
            held.push(Held {
                event_id: event.event_id().to_string(),
                event_type: event.kind().to_string(),
                previous: event.prev_events().iter().map(ToString::to_string).collect(),
                standing: stored.standing,
            });
        }
        held
    }
}

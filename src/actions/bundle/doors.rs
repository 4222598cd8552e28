//! Whose events are taken from a bundle: it is treated as a peer is that brings them, so who is kept out of this server or of the room is kept out here too.

use std::{collections::HashMap, sync::Arc};

use federation::policy::Rules;
use parking_lot::Mutex;
use rules::{Event, server_acl::ServerAcl};
use ruma::{OwnedServerName, ServerName};
use serde_json::Value;

use super::{
    import::Outcome,
    reading::{self, Opened},
    restored,
};
use crate::{
    actions::{ActionError, Actions, lane::Room, rows::Rows, summary, view::RoomView},
    bundle::Verified,
    storage::room_settings::FederationMode,
};

const SERVER_ACL: &str = "m.room.server_acl";

/// Which servers are let in, as it is when an import begins to store.
pub(super) struct Doors {
    ours: OwnedServerName,
    policy: Arc<Rules>,
    /// None: what is made is not open to other servers, whoever is in it.
    mode: Option<FederationMode>,
    /// The only server that may take part, as the create event says; none: it says nothing.
    alone: Option<OwnedServerName>,
    acl: ServerAcl,
    /// A list of the room may have thousands of patterns, and each event is asked about.
    known: Mutex<HashMap<OwnedServerName, bool>>,
}

impl Doors {
    /// Of a room that is added to its present mode and list count; of every other, what the bundle proves, and for one that lives on here the mode that it will
    /// have. The original of a successor has no mode: no other server learns that it is here.
    ///
    /// # Errors
    /// [`ActionError::ImportRefused`] when whoever made the bundle is kept out; when storage or the bundle cannot be read.
    pub(super) async fn of(
        actions: &Actions,
        opened: &Opened,
        verified: &Verified,
        outcome: Outcome,
    ) -> Result<Self, ActionError> {
        let proven =
            |mode| Self::new(actions, mode, &verified.create, verified.settings.get(SERVER_ACL).map(|acl| &**acl));
        let doors = match outcome {
            Outcome::Merged => {
                let room = actions.room(&opened.manifest.room_id);
                let view = room.view().await?.ok_or(ActionError::RoomNotFound)?;
                Self::of_room(actions, &room, &view, Some(view.settings.federation.clone())).await?
            }
            Outcome::Restored => {
                let local = reading::local(opened).await?;
                proven(Some(restored::federation(actions, &opened.manifest.server_name, &local)))
            }
            Outcome::Succeeded => proven(None),
        };
        let exporter = &opened.manifest.server_name;
        if !doors.let_in(exporter) {
            let refused = format!("the room takes nothing from `{exporter}`, which made the bundle");
            return Err(ActionError::ImportRefused(refused));
        }
        Ok(doors)
    }

    /// Of a room that is here, as it is now.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub(super) async fn of_room(
        actions: &Actions,
        room: &Room,
        view: &RoomView,
        mode: Option<FederationMode>,
    ) -> Result<Self, ActionError> {
        let rows = Rows::on_disk(&room.store, &room.home);
        let acl = rows.state_event(&view.basis.version, view.tip.state, SERVER_ACL, "").await?;
        Ok(Self::new(actions, mode, &view.basis.create, acl.as_deref()))
    }

    fn new(actions: &Actions, mode: Option<FederationMode>, create: &Event, acl: Option<&Event>) -> Self {
        let is_closed_off = summary::content(create).get("m.federate").and_then(Value::as_bool) == Some(false);
        Self {
            ours: actions.server_name.clone(),
            policy: actions.policy.rules(),
            mode,
            alone: is_closed_off.then(|| create.sender().server_name().to_owned()),
            acl: ServerAcl::of(acl),
            known: Mutex::default(),
        }
    }

    /// Events of the server are taken.
    pub(super) fn let_in(&self, server: &ServerName) -> bool {
        if let Some(is_let_in) = self.known.lock().get(server) {
            return *is_let_in;
        }
        let is_let_in = *server == *self.ours
            || self.policy.admits(server)
                && self.mode.as_ref().is_none_or(|mode| mode.admits(server))
                && self.alone.as_ref().is_none_or(|alone| alone == server)
                && self.acl.allows(server);
        self.known.lock().insert(server.to_owned(), is_let_in);
        is_let_in
    }

    /// Why an event is not taken; none: it is. What made the room is always taken: without it there is no room.
    pub(super) fn refusal(&self, event: &Event) -> Option<String> {
        let server = event.sender().server_name();
        let is_taken = event.type_str() == "m.room.create" || self.let_in(server);
        (!is_taken).then(|| refusal_of(server))
    }
}

/// Why the events of a server are not taken.
pub(super) fn refusal_of(server: &ServerName) -> String {
    format!("the room takes nothing from `{server}`")
}

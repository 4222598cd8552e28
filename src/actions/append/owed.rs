//! What other servers are told of a room's events: between which events each of them is in the room, and which events are sent to those that are.
//!
//! Which server gets which event is settled here, with the event. `actions/outgoing.rs` reads it when it sends.

use std::sync::Arc;

use ruma::{OwnedServerName, ServerName};

use super::{ActionError, Actions, Writer};
use crate::storage::{
    ChangeKind, Effect, Home, Position,
    keyspaces::{LEFT, PEER_ROOMS, SENT_ON, SINCE},
};

impl Writer {
    /// The number of the event that was staged last.
    fn last_number(&self) -> Result<u64, ActionError> {
        Ok(self.view()?.tip.next_arrival.get().saturating_sub(1))
    }

    /// The first person of another server is in the room with the last event: it gets what comes behind that.
    pub(super) fn server_came(&mut self, server: &OwnedServerName) -> Result<(), ActionError> {
        let since = self.last_number()?;
        self.commit.put(&SINCE, server, &since);
        self.commit.effect(Effect::new(Home::peer(server)).put(&PEER_ROOMS, &self.room.id, &()));
        Ok(())
    }

    /// The last person of another server is no longer in the room with the last event, which is the last that it gets.
    pub(super) async fn server_left(&mut self, server: &OwnedServerName) -> Result<(), ActionError> {
        let until = self.last_number()?;
        let since = self.get(&SINCE, server).await?.unwrap_or(0);
        self.commit.delete(&SINCE, server).put(&LEFT, &(until, server.to_string()), &since);
        Ok(())
    }

    /// A person who was only invited, or knocked, is no longer: their server has to be told by the last event, even when it has nobody in the room.
    pub(super) async fn invite_ended(&mut self, server: &OwnedServerName) -> Result<(), ActionError> {
        let number = self.last_number()?;
        if self.get(&SINCE, server).await?.is_none() {
            self.tells_outsider = true;
            self.commit.put(&LEFT, &(number, server.to_string()), &number.saturating_sub(1));
            self.commit.effect(Effect::new(Home::peer(server)).put(&PEER_ROOMS, &self.room.id, &()));
        }
        Ok(())
    }

    /// Whether there are people of other servers. Those that this server keeps out get nothing now, and what was held back when they are let in again.
    pub(super) fn has_peers(&self) -> Result<bool, ActionError> {
        let view = self.view()?;
        Ok(self.summary()?.foreign > 0 && view.can_federate())
    }

    /// The event that was staged last is sent to the other servers in the room.
    pub(super) fn owe_last(&mut self) -> Result<(), ActionError> {
        let number = self.last_number()?;
        self.commit.change(ChangeKind::Owed, number);
        self.owed_from.get_or_insert(number);
        Ok(())
    }

    /// The event that was staged last came from a peer that handed it in, and is sent to the others.
    pub(super) fn send_last_on(&mut self, brought_by: &ServerName) -> Result<(), ActionError> {
        if self.view()?.can_federate() {
            if let Some(number) = crate::storage::Arrival::new(self.last_number()?) {
                self.commit.put(&SENT_ON, &number, &brought_by.to_owned());
            }
            self.owe_last()?;
        }
        Ok(())
    }

    /// When the commit is on disk, those who send learn that there is something.
    pub(super) fn tell_senders(&mut self) {
        if let Some(first) = self.owed_from {
            let (actions, room) = (Actions::clone(&self.actions), Arc::clone(&self.room));
            self.commit.then(move |outcome: &Result<Position, _>| {
                if let Ok(position) = outcome {
                    // The commit's position covers its effects, which have rows of their own; its own row is somewhere behind what is visible now.
                    let behind = room.store.position();
                    actions.outgoing.note((behind, *position), room.id.clone(), first);
                }
            });
        }
    }
}

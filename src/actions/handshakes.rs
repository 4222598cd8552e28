//! How users of peers enter and leave our rooms, and how ours are invited into theirs. Implements [`Handshakes`] of the crate `federation`.
//!
//! Nothing is signed before everything about it was checked, and what was checked with the template is checked again with the event.

use federation::{
    Pdu, Refusal,
    local::{Accepted, Handshakes, Invite, Template, Wish},
};
use rules::permission::Membership;
use ruma::{EventId, RoomId, RoomVersionId, ServerName, UserId};

use super::Actions;
use accepting::Omitted;

mod accepting;
mod invited;
pub(super) mod policy;
pub(super) mod restricted;
mod templates;

impl Handshakes for Actions {
    async fn membership_template(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
        wish: Wish,
        versions: &[RoomVersionId],
    ) -> Result<Template, Refusal> {
        templates::make(self, origin, room_id, user_id, wish, versions).await
    }

    async fn accept_membership(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
        wish: Wish,
        event: Pdu,
    ) -> Result<Accepted, Refusal> {
        accepting::accept(self, origin, (room_id, event_id), wish, event, Omitted::Nothing).await
    }

    async fn accept_join_without_members(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
        event: Pdu,
    ) -> Result<Accepted, Refusal> {
        accepting::accept(self, origin, (room_id, event_id), Wish::Join, event, Omitted::Members).await
    }

    async fn accept_invite(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
        invite: Invite,
    ) -> Result<Pdu, Refusal> {
        invited::accept(self, origin, room_id, event_id, invite).await
    }
}

/// The membership that a wish leads to.
pub(super) fn membership_of(wish: Wish) -> Membership {
    match wish {
        Wish::Join => Membership::Join,
        Wish::Leave => Membership::Leave,
        Wish::Knock => Membership::Knock,
    }
}

//! What follows from an event that came into force: what the room is now, who is in it, what is redacted, and what others than the room learn of it.

use std::sync::Arc;

use rules::{
    event::Event,
    kind::{RoomKind, SILENCE},
    permission::Membership,
    power::Levels,
    state::{StateKey, change_of},
    visibility::membership_of,
};
use ruma::{OwnedUserId, UserId, events::TimelineEventType};

use super::{ActionError, Writer};
use crate::{
    actions::{members::membership, summary},
    storage::{
        Arrival, ChangeKind, Effect, Home, Place, StateRoot,
        history::{Redaction, Summary},
        keyspaces::{DIRECT_ROOMS, IN_ROOMS, MEMBERS, REDACTIONS, ROOMS, SERVERS, WORKSPACE_ROOMS},
        members::{InRoom, Member, Silence},
    },
};

impl Writer {
    /// What follows from an entry of the present state that changed: the basis, the summary, and for a membership the member's rows. No event: the
    /// entry is gone.
    pub(super) async fn entry_changed(
        &mut self,
        key: StateKey,
        event: Option<(Arrival, Option<Place>, Arc<Event>)>,
    ) -> Result<(), ActionError> {
        let view = self.next.as_mut().ok_or_else(|| ActionError::internal("a writer without a room"))?;
        let (event_type, state_key) = (key.0.to_string(), key.1.clone());
        let present = event.as_ref().map(|(_, _, event)| event);
        if let Some(basis) = view.basis.with(&event_type, &state_key, present) {
            view.basis = Arc::new(basis);
        }
        self.changed.insert(key, present.cloned());
        // It may have become part of the state without ever being shown.
        if let Some((_, None, present)) = &event
            && self.get(&REDACTIONS, present.event_id()).await?.is_none()
        {
            self.name_foreign(present)?;
        }
        if event_type == "m.room.member" {
            return self.member_changed(&state_key, event).await;
        }
        if event_type == SILENCE {
            let silence = summary::silence(event.as_ref().map(|(_, _, event)| &**event));
            return self.silence_changed(&state_key, silence).await;
        }
        let basis = Arc::clone(&self.view()?.basis);
        let mut changed = self.summary()?.clone();
        let place = event.as_ref().and_then(|(_, place, _)| *place);
        let present = event.as_ref().map(|(_, _, event)| &**event);
        summary::apply(&mut changed, &basis, (&event_type, &state_key), present, place);
        self.set_summary(changed);
        Ok(())
    }

    /// Marks what a redaction redacts, where its sender may.
    /// Source: <https://spec.matrix.org/v1.19/rooms/v11/#handling-redactions>
    pub(super) async fn apply_redaction(&mut self, event: &Event, before: StateRoot) -> Result<(), ActionError> {
        let (TimelineEventType::RoomRedaction, Some(target)) = (event.kind(), event.redacts()) else { return Ok(()) };
        let Some(arrival) = self.rows().arrival_of(target).await? else {
            return self.redact_later(target, event.event_id()).await;
        };
        let version = self.version()?;
        let (_, target) = self.rows().event(&version, arrival).await?;
        let is_marked = self.get(&REDACTIONS, target.event_id()).await?.is_some();
        if is_marked || !self.levels_at(before).await?.lets_redact(event, &target) {
            return Ok(());
        }
        let redaction = Redaction { event_id: event.event_id().clone(), sender: event.sender().clone() };
        self.commit.put(&REDACTIONS, target.event_id(), &redaction);
        self.unrefer(&target);
        let mut changed = self.summary()?.clone();
        changed.redactions += 1;
        self.set_summary(changed);
        self.hide_redacted(&target).await
    }

    /// The levels of a state. Right before an event that stands in the present state it is the present ones.
    async fn levels_at(&self, root: StateRoot) -> Result<Levels, ActionError> {
        let basis = &self.view()?.basis;
        if root == self.view()?.tip.state {
            return Ok(basis.levels.clone());
        }
        let power_levels = self.rows().state_event(&basis.version, root, "m.room.power_levels", "").await?;
        Ok(Levels::read(&basis.version, &basis.create, power_levels.as_deref()))
    }

    /// What a redacted state event said is no longer told by the summary and the list of members either.
    async fn hide_redacted(&mut self, target: &Event) -> Result<(), ActionError> {
        let Some(key) = change_of(target) else { return Ok(()) };
        let present = self.state_event(&key.0.to_string(), &key.1).await?;
        if present.is_none_or(|present| present.event_id() != target.event_id()) {
            return Ok(());
        }
        let basis = Arc::clone(&self.view()?.basis);
        if target.type_str() == "m.room.member" {
            let Ok(user_id) = UserId::parse(&key.1) else { return Ok(()) };
            if let Some(member) = self.get(&MEMBERS, &user_id).await? {
                self.commit.put(&MEMBERS, &user_id, &Member { display_name: None, ..member });
            }
            return Ok(());
        }
        if target.type_str() == SILENCE {
            return self.silence_changed(&key.1, None).await;
        }
        let left = target.redacted(&basis.version).map_err(ActionError::internal)?;
        let mut changed = self.summary()?.clone();
        summary::apply(&mut changed, &basis, (target.type_str(), &key.1), Some(&left), None);
        self.set_summary(changed);
        Ok(())
    }

    /// Somebody may speak no longer, or again. Who has no row yet gets it together with the first membership.
    async fn silence_changed(&mut self, state_key: &str, silence: Option<Silence>) -> Result<(), ActionError> {
        let Ok(user_id) = UserId::parse(format!("@{state_key}")) else { return Ok(()) };
        if let Some(member) = self.get(&MEMBERS, &user_id).await?
            && member.silence != silence
        {
            self.commit.put(&MEMBERS, &user_id, &Member { silence, ..member });
        }
        Ok(())
    }

    /// What the room's state says of somebody who has no row yet.
    async fn silence_of(&mut self, user_id: &UserId) -> Result<Option<Silence>, ActionError> {
        let state_key = user_id.as_str().trim_start_matches('@');
        Ok(summary::silence(self.state_event(SILENCE, state_key).await?.as_deref()))
    }

    /// A membership changed: the member's row in the room, the room's row with the member, the counters.
    pub(super) async fn member_changed(
        &mut self,
        user_id: &str,
        event: Option<(Arrival, Option<Place>, Arc<Event>)>,
    ) -> Result<(), ActionError> {
        let Ok(user_id) = UserId::parse(user_id) else { return Ok(()) };
        let before = self.get(&MEMBERS, &user_id).await?;
        let after = match (&event, &before) {
            (Some((arrival, _, event)), _) => {
                let silence = match &before {
                    Some(before) => before.silence,
                    None => self.silence_of(&user_id).await?,
                };
                Member { silence, ..self.member_after(&user_id, before.as_ref(), *arrival, event).await? }
            }
            (None, Some(before)) => Member { membership: Membership::None, ..before.clone() },
            (None, None) => return Ok(()),
        };
        let is_foreign = !self.actions.is_local(&user_id);
        let mut changed = self.summary()?.clone();
        let was = membership(before.as_ref());
        summary::count_members(&mut changed, was, after.membership, is_foreign);
        if changed.kind == RoomKind::Direct
            && let Some(kind) = self.is_direct_no_longer(changed.joined, changed.invited)?
        {
            changed.kind = kind;
        }
        self.note_end(&user_id, (was, after.membership), &changed)?;
        self.commit.put(&MEMBERS, &user_id, &after);
        if is_foreign {
            self.count_server(&user_id, was, after.membership).await?;
        } else {
            let in_force = event.as_ref().map_or(0, |(arrival, _, _)| arrival.get());
            self.commit.change_about(ChangeKind::Members, Home::person(&user_id), in_force);
            self.tell_member(&user_id, &after, &changed);
        }
        if let Some((_, _, event)) = event.filter(|_| changed.kind == RoomKind::Direct)
            && after.membership == Membership::Invite
        {
            self.tell_pair(event.sender(), &user_id);
        }
        self.set_summary(changed);
        Ok(())
    }

    /// How many people of another server are in the room.
    async fn count_server(&mut self, user_id: &UserId, was: Membership, is: Membership) -> Result<(), ActionError> {
        let joined = |membership| u64::from(membership == Membership::Join);
        let server = user_id.server_name().to_owned();
        if joined(was) == joined(is) {
            let is_over = match was {
                Membership::Invite => is != was,
                Membership::Knock => matches!(is, Membership::Leave | Membership::Ban),
                _ => false,
            };
            if is_over {
                self.invite_ended(&server).await?;
            }
            return Ok(());
        }
        let before = self.get(&SERVERS, &server).await?.unwrap_or(0);
        let people = (before + joined(is)).saturating_sub(joined(was));
        match people {
            0 => self.commit.delete(&SERVERS, &server),
            people => self.commit.put(&SERVERS, &server, &people),
        };
        match (before, people) {
            (0, 1..) => self.server_came(&server),
            (1.., 0) => self.server_left(&server).await,
            _ => Ok(()),
        }
    }

    async fn member_after(
        &self,
        user_id: &UserId,
        before: Option<&Member>,
        arrival: Arrival,
        event: &Event,
    ) -> Result<Member, ActionError> {
        let membership = membership_of(Some(event));
        let tip = &self.view()?.tip;
        let was_in = before.is_some_and(|member| member.membership == Membership::Join);
        let is_in = membership == Membership::Join;
        let former_name = || before.and_then(|member| member.display_name.clone());
        let mut after = Member {
            membership,
            event_id: event.event_id().clone(),
            arrival,
            display_name: summary::display_name(event).or_else(|| if is_in { None } else { former_name() }),
            joined_at: before.and_then(|member| member.joined_at),
            left_at: before.and_then(|member| member.left_at),
            was_joined: is_in || before.is_some_and(|member| member.was_joined),
            messages_at_join: before.map_or(0, |member| member.messages_at_join),
            own_at_join: before.map_or(0, |member| member.own_at_join),
            silence: None,
        };
        if is_in && !was_in {
            after.joined_at = Some(event.origin_server_ts());
            after.left_at = None;
            after.messages_at_join = tip.messages;
            after.own_at_join = self.own_messages(user_id).await?;
        }
        if was_in && !is_in {
            after.left_at = Some(Place(tip.next_place.0 - 1, 0));
        }
        Ok(after)
    }

    /// A local person's own list of rooms learns of it.
    fn tell_member(&mut self, user_id: &OwnedUserId, member: &Member, summary: &Summary) {
        let row = InRoom {
            membership: member.membership,
            arrival: member.arrival,
            is_workspace: summary.kind == RoomKind::Workspace,
            was_joined: member.was_joined,
        };
        self.commit.effect(Effect::new(Home::person(user_id)).put(&IN_ROOMS, &self.room.id, &row));
    }

    /// Each of two people finds their direct message by the other's name.
    pub(super) fn tell_pair(&mut self, one: &OwnedUserId, other: &OwnedUserId) {
        for (person, partner) in [(one, other), (other, one)] {
            if self.actions.is_local(person) {
                let row = (partner.clone(), self.room.id.clone());
                self.commit.effect(Effect::new(Home::person(person)).put(&DIRECT_ROOMS, &row, &()));
            }
        }
    }

    /// The server's list, and the list of the workspace, learn what the room is now.
    pub(super) fn list_room(&mut self, now: &Summary) {
        let before = self.base_summary.clone();
        let listing = summary::listing(now);
        if before.as_deref().map(summary::listing).as_ref() != Some(&listing) {
            self.commit.effect(Effect::new(Home::server()).put(&ROOMS, &self.room.id, &listing));
        }
        let space_before = before.and_then(|before| before.workspace_id.clone());
        if space_before == now.workspace_id {
            return;
        }
        if let Some(space) = space_before {
            self.commit.effect(Effect::new(Home::room(&space)).delete(&WORKSPACE_ROOMS, &self.room.id));
        }
        if let Some(space) = &now.workspace_id {
            self.commit.effect(Effect::new(Home::room(space)).put(&WORKSPACE_ROOMS, &self.room.id, &()));
        }
    }
}

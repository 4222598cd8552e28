//! What an event of somebody is before it is part of the room: a template that another server completes, or an event that is built and not stored yet.

use std::sync::Arc;

use rules::{
    authorization,
    draft::{self, Around, Draft},
    event::Event,
    kind::RoomKind,
    limits::PREV_EVENTS_MAX,
    state::StateMap,
};
use ruma::{CanonicalJsonObject, OwnedEventId, OwnedUserId, UserId, events::TimelineEventType};

use super::{ActionError, Writer};
use crate::storage::{StateRoot, history::Head};

/// Where the next event of somebody stands, and what decides on it.
struct Ground {
    before: StateRoot,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    depth: u64,
    /// The present state, as far as it decides.
    state: StateMap<Arc<Event>>,
    /// The state before the event, where it is another one.
    own_state: Option<StateMap<Arc<Event>>>,
}

impl Writer {
    /// Builds, signs and authorises an event of a local person on the present heads. It is not staged.
    ///
    /// # Errors
    /// When it is too large, or the rules of the room forbid it.
    pub async fn build(&mut self, sender: &UserId, mut draft: Draft) -> Result<(Arc<Event>, StateRoot), ActionError> {
        if draft.kind == TimelineEventType::RoomMember && self.summary()?.kind == RoomKind::Incognito {
            draft.content.remove("avatar_url");
        }
        let sender = sender.to_owned();
        let ground = self.grounded(&sender, &draft).await?;
        let event = self.complete(&sender, draft, &ground)?;
        Ok((event, ground.before))
    }

    /// An event that somebody of another server will complete and sign. The rules of the room allow it now.
    ///
    /// # Errors
    /// As [`Writer::build`].
    pub async fn template(&mut self, sender: &UserId, draft: Draft) -> Result<CanonicalJsonObject, ActionError> {
        let sender = sender.to_owned();
        let ground = self.grounded(&sender, &draft).await?;
        // Judged as if it were ours; it is thrown away.
        self.complete(&sender, draft.clone(), &ground)?;
        Ok(draft::template(draft, &self.around(&sender, &ground), &self.version()?)?)
    }

    fn around<'a>(&'a self, sender: &'a OwnedUserId, ground: &Ground) -> Around<'a> {
        Around {
            room_id: Some(&self.room.id),
            sender,
            auth_events: ground.auth_events.clone(),
            prev_events: ground.prev_events.clone(),
            depth: ground.depth,
            now: self.actions.now(),
        }
    }

    fn complete(&self, sender: &OwnedUserId, draft: Draft, ground: &Ground) -> Result<Arc<Event>, ActionError> {
        let version = self.version()?;
        let event = Arc::new(draft::complete(draft, self.around(sender, ground), &version, &self.actions.signer)?);
        authorization::check(&version, &event, &ground.state)?;
        if let Some(own_state) = &ground.own_state {
            authorization::check(&version, &event, own_state)?;
        }
        Ok(event)
    }

    async fn grounded(&mut self, sender: &OwnedUserId, draft: &Draft) -> Result<Ground, ActionError> {
        let version = self.version()?;
        let content = serde_json::value::to_raw_value(&draft.content).map_err(ActionError::internal)?;
        let needed = authorization::needed_state(&version, &draft.kind, sender, draft.state_key.as_deref(), &content)?;
        let mut state = StateMap::with_capacity(needed.len());
        for key in &needed {
            if let Some(event) = self.current(key).await? {
                state.insert(key.clone(), event);
            }
        }
        let (heads, before) = self.ground().await?;
        let own_state = if before == self.view()?.tip.state {
            None
        } else {
            Some(self.rows().state_events(&version, before, &needed).await?)
        };
        Ok(Ground {
            before,
            auth_events: authorization::select_auth_events(&version, &needed, own_state.as_ref().unwrap_or(&state)),
            depth: draft::depth_after(heads.iter().map(|head| head.depth)),
            prev_events: heads.into_iter().map(|head| head.event_id).collect(),
            state,
            own_state,
        })
    }

    /// The heads that the next local event follows and the state before it: all of them, unless there are more than an event can name.
    async fn ground(&mut self) -> Result<(Vec<Head>, StateRoot), ActionError> {
        let tip = &self.view()?.tip;
        if tip.heads.len() <= PREV_EVENTS_MAX {
            return Ok((tip.heads.clone(), tip.state));
        }
        let heads: Vec<Head> = tip.heads.iter().take(PREV_EVENTS_MAX).cloned().collect();
        let states: Vec<StateRoot> = heads.iter().map(|head| head.state).collect();
        let version = self.version()?;
        let before = self.merged(&version, &states).await?;
        Ok((heads, before))
    }
}

//! Taking many events of a room in together, as a bundle brings them: each is judged like one that a peer sends, and what they make becomes one commit.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use rules::{draft::Draft, event::Event, state::change_of, version::Version};
use ruma::{EventId, OwnedEventId, OwnedServerName, OwnedUserId};

use super::{
    ActionError, Actions, Writer,
    remote::{Arriving, Remote},
    store::Storing,
};
use crate::{
    actions::{
        incoming::judging::{Checked, Leaning},
        lane::Room,
    },
    storage::{
        Caching, Pending, StateRoot,
        history::{EventStanding, Head},
        room_settings::RoomSettings,
    },
};

/// Commits that are on their way at the same time: one wait for the disk serves several of them.
const UNDER_WAY_MAX: usize = 4;

/// An event whose signatures and hashes were checked.
pub(in crate::actions) enum Coming {
    /// Where it stands in the room is known.
    Placed(Box<Arriving>),
    /// Others lean on it.
    Leant(Box<Checked>, OwnedServerName),
}

/// Makes a room that is not here with its create event, hidden from everybody until it is shown. A create event of which it is not known where it stands is held
/// only for others to lean on.
///
/// # Errors
/// The room is here; when storage fails.
pub(in crate::actions) async fn found_hidden(
    actions: &Actions,
    room: &Arc<Room>,
    (version, create): (&Version, Event),
    leant_by: Option<&OwnedServerName>,
) -> Result<(), ActionError> {
    if let Some(through) = leant_by {
        return super::enter::found(actions, room, version, &Arc::new(create), through).await;
    }
    let writer = Writer::begin(actions, version, create).await?;
    writer.ok_or_else(|| ActionError::internal("the room is here already"))?.commit().await?;
    Ok(())
}

/// Takes events into a room, in this order; they are on disk when this returns. Those that lack something are not kept.
///
/// # Errors
/// [`ActionError::RoomNotFound`]; [`ActionError::Busy`]; when storage fails.
pub(in crate::actions) async fn several(
    actions: &Actions,
    room: &Arc<Room>,
    coming: Vec<Coming>,
) -> Result<Vec<Remote>, ActionError> {
    let (outcomes, durable) = several_handed_over(actions, room, coming).await?;
    durable.await?;
    Ok(outcomes)
}

/// [`several`] without the wait for the disk: the next events can be judged meanwhile.
///
/// # Errors
/// As [`several`].
pub(in crate::actions) async fn several_handed_over(
    actions: &Actions,
    room: &Arc<Room>,
    coming: Vec<Coming>,
) -> Result<(Vec<Remote>, Pending), ActionError> {
    let mut writer = Writer::enter_in_passing(actions, room).await?;
    let mut outcomes = Vec::with_capacity(coming.len());
    // Where an event of the past is shown is found by scanning, which sees only what is on disk.
    let mut is_settled = writer.is_settled();
    for one in coming {
        if !is_settled
            && let Coming::Placed(arriving) = &one
            && writer.looks_back(arriving).await?
        {
            writer.commit().await?;
            writer = Writer::enter_in_passing(actions, room).await?;
        }
        is_settled = false;
        outcomes.push(match one {
            Coming::Placed(arriving) => writer.arrive(*arriving).await?,
            Coming::Leant(checked, peer) => writer.lean(*checked, peer).await?,
        });
    }
    let (_, durable) = writer.hand_over().await?;
    Ok((outcomes, durable))
}

/// Commits that are on their way to the disk while the next one is made.
#[derive(Default)]
pub(in crate::actions) struct UnderWay(VecDeque<Pending>);

impl UnderWay {
    /// Adds one. Where there are too many, waits for the first of them.
    ///
    /// # Errors
    /// It was not written.
    pub(in crate::actions) async fn push(&mut self, durable: Pending) -> Result<(), ActionError> {
        self.0.push_back(durable);
        if self.0.len() >= UNDER_WAY_MAX
            && let Some(first) = self.0.pop_front()
        {
            first.await?;
        }
        Ok(())
    }

    /// Waits for all of them.
    ///
    /// # Errors
    /// One was not written.
    pub(in crate::actions) async fn end(self) -> Result<(), ActionError> {
        for durable in self.0 {
            durable.await?;
        }
        Ok(())
    }
}

/// An event of somebody of this server.
pub(in crate::actions) type Staging = (OwnedUserId, Draft);

/// Writes events of our people into a room that nobody finds yet, as one commit.
///
/// # Errors
/// The rules forbid one of them; as [`several`].
pub(in crate::actions) async fn stage_hidden(
    actions: &Actions,
    room: &Arc<Room>,
    staging: impl Iterator<Item = Staging> + Send,
) -> Result<(), ActionError> {
    let mut writer = Writer::enter_even_hidden(actions, room).await?.ok_or(ActionError::RoomNotFound)?;
    for (sender, draft) in staging {
        writer.stage(&sender, draft).await?;
    }
    writer.commit().await?;
    Ok(())
}

/// Sets what this server keeps for a room, even one that nobody finds yet.
///
/// # Errors
/// [`ActionError::RoomNotFound`]; [`ActionError::Busy`]; when storage fails.
pub(in crate::actions) async fn set_settings(
    actions: &Actions,
    room: &Arc<Room>,
    settings: RoomSettings,
) -> Result<(), ActionError> {
    let mut writer = Writer::enter_even_hidden(actions, room).await?.ok_or(ActionError::RoomNotFound)?;
    writer.set_settings(settings);
    writer.commit().await?;
    Ok(())
}

/// Says which events are the newest of a room that was just rebuilt.
///
/// # Errors
/// One of them is not held; when storage fails.
pub(in crate::actions) async fn settle(
    actions: &Actions,
    room: &Arc<Room>,
    newest: &[OwnedEventId],
) -> Result<(), ActionError> {
    let mut writer = Writer::enter_even_hidden(actions, room).await?.ok_or(ActionError::RoomNotFound)?;
    let mut heads = Vec::with_capacity(newest.len());
    for id in newest {
        heads.push(writer.head(id).await?);
    }
    writer.settle_on(heads).await?;
    writer.commit().await?;
    Ok(())
}

impl Writer {
    /// [`Writer::enter`] for so many events that what is read for them would drive everything else out of caches.
    async fn enter_in_passing(actions: &Actions, room: &Arc<Room>) -> Result<Self, ActionError> {
        let writer = Self::enter_even_hidden(actions, room).await?.ok_or(ActionError::RoomNotFound)?;
        Ok(Self { caching: Caching::Pass, ..writer })
    }

    /// Keeps an event for others to lean on, if its own auth events allow it or not.
    async fn lean(&mut self, checked: Checked, peer: OwnedServerName) -> Result<Remote, ActionError> {
        if self.rows().arrival_of(checked.event.event_id()).await?.is_some() {
            return Ok(Remote::Known);
        }
        let present = self.present(&checked.event).await?;
        let auth_events: HashMap<OwnedEventId, Arc<Event>> = match self.auth_events(&checked.event, &present).await? {
            Ok(events) => events,
            Err(missing) => return Ok(Remote::Missing(missing)),
        };
        let (event, refused) = match checked.judge(auth_events) {
            (event, Leaning::Sound) => (event, None),
            (event, Leaning::Refused(refusal)) => (Arc::new(Event::clone(&event).into_rejected()), Some(refusal)),
            (event, Leaning::Unknown) => return Ok(Remote::Missing(event.auth_events().to_vec())),
        };
        if let Some(key) = change_of(&event).filter(|_| refused.is_none()) {
            self.number_of(&key).await?;
        }
        let reason = refused.as_ref().map(|refusal| refusal.reason().to_owned());
        let standing = EventStanding::Outlier { refused: reason, peer: Some(peer) };
        self.store_event(&event, Storing::hidden(standing, StateRoot::EMPTY, StateRoot::EMPTY)).await?;
        Ok(refused.map_or(Remote::Accepted, Remote::Rejected))
    }

    async fn head(&self, id: &EventId) -> Result<Head, ActionError> {
        let version = self.version()?;
        let held = self.held(id).await?.filter(|(_, stored)| stored.standing.is_in_room());
        let (arrival, stored) = held.ok_or_else(|| ActionError::internal(format!("the event {id} is not held")))?;
        let (_, event) = self.rows().event(&version, arrival).await?;
        Ok(Head { event_id: id.to_owned(), depth: event.depth(), state: stored.state_after })
    }

    async fn settle_on(&mut self, heads: Vec<Head>) -> Result<(), ActionError> {
        let before = self.view()?.tip.state;
        self.tip_mut()?.heads = heads;
        let now = self.merged_heads().await?;
        self.tip_mut()?.state = now;
        self.now_in_force(before, now).await
    }
}

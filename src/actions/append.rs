//! The only writer of room history: complete, check, commit, wake. A [`Writer`] holds the room's lane; what it stages becomes one commit.
//!
//! Local events are built on the present heads; an event of a peer keeps its own previous events, and where that leaves several heads, their states are
//! resolved ([`super::merge`]). Readers and the feed learn of a commit when it is on disk, by the hook that travels with it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use rules::{
    authorization,
    draft::Draft,
    event::Event,
    permission::Standing,
    precedents::Precedents,
    state::{StateKey, StateMap, change_of},
    version::Version,
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, UserId, events::TimelineEventType};
use tokio::sync::OwnedMutexGuard;

use super::{
    Actions, Caller,
    caller::OnBehalf,
    directory::Relisted,
    error::ActionError,
    lane::{Room, Working},
    rows::{Rows, state_key},
    summary::{self, Basis},
    view::RoomView,
};
use crate::storage::{
    Arrival, Caching, ChangeKind, Commit, Keyspace, Pending, Place, Position, StateRoot, StateTree,
    history::{Head, SentUnder, Summary, Tip},
    key::Key,
    keyspaces::{ROOM_SETTINGS, SENT_UNDER, STATE_KEYS, SUMMARY, TIP},
    members::Member,
    room_settings::RoomSettings,
    value::Value,
};

mod effects;
mod ending;
mod enter;
mod erase;
mod held;
mod holes;
mod judging;
mod owed;
mod references;
mod remote;
mod several;
mod store;
mod template;

pub use enter::{Entering, Telling, Told, enter, rank};
pub use erase::{erase, leave};
pub use held::{give_back, hold_back};
pub use remote::{Arriving, Before, Present, Remote, hand_in_all, outliers, remote, remote_for};
pub(super) use several::{
    Coming, Staging, UnderWay, found_hidden, set_settings, settle, several, several_handed_over, stage_hidden,
};
pub use store::Slot;
use store::Storing;

/// The lane of one room, held, and what shall be written.
pub struct Writer {
    pub(super) actions: Actions,
    pub(super) room: Arc<Room>,
    working: OwnedMutexGuard<Working>,
    base: Option<Tip>,
    base_summary: Option<Arc<Summary>>,
    next: Option<RoomView>,
    summary: Option<Summary>,
    commit: Commit,
    own: HashMap<OwnedUserId, u64>,
    merged: HashMap<BTreeSet<StateRoot>, StateRoot>,
    precedents: Precedents,
    changed: StateMap<Option<Arc<Event>>>,
    last_place: Option<Place>,
    /// The number of the first event that is sent to other servers.
    owed_from: Option<u64>,
    /// The event that was staged last is for a server that is not in the room.
    tells_outsider: bool,
    /// Who leaves the room as the last but one: it is removed.
    ends_with: Option<OwnedUserId>,
    /// The person in whose name a server writes: that stands in the record if anything is written.
    in_the_name_of: Option<Box<(OwnedUserId, OnBehalf)>>,
    /// What its reading leaves in caches.
    caching: Caching,
    /// The event that is next, if it was looked up that no hole waits for it.
    not_waited_for: Option<OwnedEventId>,
}

impl Writer {
    /// Waits for the lane of a room and reads it; none: there is no such room.
    ///
    /// # Errors
    /// [`ActionError::Busy`] when the turn does not come; when storage cannot be read.
    pub async fn enter(actions: &Actions, room: &Arc<Room>) -> Result<Option<Self>, ActionError> {
        let writer = Self::enter_even_hidden(actions, room).await?;
        Ok(writer.filter(|_| !room.is_hidden()))
    }

    /// [`Writer::enter`], for whoever makes the room.
    async fn enter_even_hidden(actions: &Actions, room: &Arc<Room>) -> Result<Option<Self>, ActionError> {
        let writer = Self::enter_even_purging(actions, room).await?;
        Ok(writer.filter(|_| !actions.is_purging(&room.id)))
    }

    async fn enter_any(actions: &Actions, room: &Arc<Room>) -> Result<Self, ActionError> {
        let working = room.enter().await?;
        Ok(Self {
            actions: actions.clone(),
            room: Arc::clone(room),
            working,
            base: None,
            base_summary: None,
            next: None,
            summary: None,
            commit: Commit::new(room.home.clone()),
            own: HashMap::new(),
            merged: HashMap::new(),
            precedents: Precedents::default(),
            changed: StateMap::new(),
            last_place: None,
            owed_from: None,
            tells_outsider: false,
            ends_with: None,
            in_the_name_of: None,
            caching: Caching::Keep,
            not_waited_for: None,
        })
    }

    /// Waits for the lane of a room that shall come into being with this create event; none: it exists already.
    ///
    /// # Errors
    /// As [`Writer::enter`].
    pub async fn begin(actions: &Actions, version: &Version, create: Event) -> Result<Option<Self>, ActionError> {
        let room = actions.room(create.room_id());
        let mut writer = Self::enter_any(actions, &room).await?;
        if writer.working.view.is_some() || room.view_even_hidden().await?.is_some() {
            return Ok(None);
        }
        let create = Arc::new(create);
        writer.next = Some(RoomView {
            tip: Tip {
                heads: Vec::new(),
                state: StateRoot::EMPTY,
                next_arrival: Arrival::FIRST,
                next_place: Place::FIRST,
                messages: 0,
                state_keys: 0,
                state_rows: 1,
                last_activity: create.origin_server_ts(),
            },
            summary: Arc::new(summary::of_create(version, &create)),
            basis: Arc::new(Basis::new(*version, Arc::clone(&create))),
            settings: Arc::default(),
        });
        authorization::check_auth_events(version, &create, |_| None)?;
        writer.place_at_the_end(create, StateRoot::EMPTY, None).await?;
        Ok(Some(writer))
    }

    /// The room as it will be with everything staged so far.
    ///
    /// # Errors
    /// Never after [`Writer::enter`] and [`Writer::begin`].
    pub fn view(&self) -> Result<&RoomView, ActionError> {
        self.next.as_ref().ok_or_else(|| ActionError::internal("a writer without a room"))
    }

    /// What the room will be with everything staged so far.
    ///
    /// # Errors
    /// As [`Writer::view`].
    pub fn summary(&self) -> Result<&Summary, ActionError> {
        Ok(self.summary.as_ref().unwrap_or(&self.view()?.summary))
    }

    /// The room's version.
    ///
    /// # Errors
    /// As [`Writer::view`].
    pub fn version(&self) -> Result<Version, ActionError> {
        Ok(self.view()?.basis.version)
    }

    /// The room's id.
    pub fn room_id(&self) -> &OwnedRoomId {
        &self.room.id
    }

    /// A person in the room as it will be.
    ///
    /// # Errors
    /// As [`Writer::view`].
    pub fn standing(&self, caller: &Caller, member: Option<&Member>) -> Result<Standing<'_>, ActionError> {
        let mut standing = self.view()?.standing(&self.actions, caller, member);
        let summary = self.summary()?;
        (standing.kind, standing.state) = (summary.kind, summary.state);
        Ok(standing)
    }

    /// The place of the event that was staged last.
    ///
    /// # Errors
    /// When nothing that is shown was staged.
    pub fn last_place(&self) -> Result<Place, ActionError> {
        self.last_place.ok_or_else(|| ActionError::internal("nothing was staged"))
    }

    /// One row of the room, as it will be.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn get<K: Key, V: Value>(&self, keyspace: &Keyspace<K, V>, key: &K) -> Result<Option<V>, ActionError> {
        self.rows().get(keyspace, key).await
    }

    pub(super) fn rows(&self) -> Rows<'_> {
        Rows {
            store: &self.room.store,
            home: &self.room.home,
            staged: Some(&self.commit),
            pending: Some(&self.working.pending),
            caching: self.caching,
        }
    }

    /// Everything that the lane has seen is on disk.
    fn is_settled(&self) -> bool {
        self.working.pending.is_empty()
    }

    /// Notes who writes, if a server does in somebody's name.
    pub fn written_by(&mut self, caller: &Caller) {
        self.in_the_name_of = caller.on_behalf.clone().map(|by| Box::new((caller.user_id.clone(), by)));
    }

    /// The commit under way: rows of the room, effects on other homes, changes for the feed.
    pub fn commit_mut(&mut self) -> &mut Commit {
        &mut self.commit
    }

    /// Sets what this server keeps for the room.
    pub fn set_settings(&mut self, settings: RoomSettings) {
        self.commit.put(&ROOM_SETTINGS, &(), &settings).change(ChangeKind::Settings, 0);
        if let Some(next) = &mut self.next {
            next.settings = Arc::new(settings);
        }
    }

    /// The event of the current state, as it will be.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn state_event(&mut self, event_type: &str, key: &str) -> Result<Option<Arc<Event>>, ActionError> {
        self.current(&state_key(event_type, key)).await
    }

    async fn current(&mut self, key: &StateKey) -> Result<Option<Arc<Event>>, ActionError> {
        if let Some(event) = self.changed.get(key) {
            return Ok(event.clone());
        }
        if let Some(event) = self.working.known(key) {
            return Ok(event.clone());
        }
        let view = self.view()?;
        let (version, root) = (view.basis.version, view.tip.state);
        let event = self.rows().state_event(&version, root, &key.0.to_string(), &key.1).await?;
        self.working.keep(key.clone(), event.clone());
        Ok(event)
    }

    /// Builds, signs and authorises an event of a local person on the present heads, and stages it.
    ///
    /// # Errors
    /// When it is too large, or the rules of the room forbid it.
    pub async fn stage(&mut self, sender: &UserId, draft: Draft) -> Result<Arc<Event>, ActionError> {
        self.stage_as(sender, draft, None).await
    }

    /// [`Writer::stage`], for an event that its sender asked for under a transaction id.
    ///
    /// # Errors
    /// As [`Writer::stage`].
    pub async fn stage_as(
        &mut self,
        sender: &UserId,
        draft: Draft,
        transaction_id: Option<String>,
    ) -> Result<Arc<Event>, ActionError> {
        let (event, before) = self.build(sender, draft).await?;
        self.place_ours(Arc::clone(&event), before, transaction_id).await?;
        Ok(event)
    }

    /// Stages an event of a local person, and notes that other servers are told.
    async fn place_ours(
        &mut self,
        event: Arc<Event>,
        before: StateRoot,
        transaction_id: Option<String>,
    ) -> Result<(), ActionError> {
        self.refer(&event).await?;
        // Before the event: who is removed with it is told.
        let has_peers = self.has_peers()?;
        self.tells_outsider = false;
        self.place_at_the_end(event, before, transaction_id).await?;
        if has_peers || (self.tells_outsider && self.view()?.takes_part()) {
            self.owe_last()?;
        }
        Ok(())
    }

    /// Remembers under which transaction id its sender asked for the event that was staged last.
    ///
    /// # Errors
    /// When nothing was staged.
    pub fn answers(&mut self, event: &Event, transaction_id: String, fingerprint: [u8; 32]) -> Result<(), ActionError> {
        let place = self.last_place()?;
        let sent = SentUnder { event_id: event.event_id().clone(), place, fingerprint, at: self.actions.now() };
        self.commit.put(&SENT_UNDER, &(event.sender().clone(), transaction_id), &sent);
        Ok(())
    }

    /// Stages an event that follows the present heads; where it follows all of them, it becomes the only head.
    async fn place_at_the_end(
        &mut self,
        event: Arc<Event>,
        before: StateRoot,
        transaction_id: Option<String>,
    ) -> Result<(), ActionError> {
        let key = change_of(&event);
        let after = match &key {
            Some(key) => self.state_with(before, key, self.view()?.tip.next_arrival).await?,
            None => before,
        };
        let storing = Storing { transaction_id, ..Storing::shown(before, after, Slot::End) };
        let (arrival, place) = self.store_event(&event, storing).await?;
        let tip = self.tip_mut()?;
        if tip.heads.iter().all(|head| event.prev_events().contains(&head.event_id)) {
            tip.heads = vec![Head { event_id: event.event_id().clone(), depth: event.depth(), state: after }];
            tip.state = after;
            if let Some(key) = key {
                self.entry_changed(key, Some((arrival, place, Arc::clone(&event)))).await?;
            }
        } else {
            self.follow(&event, after).await?;
        }
        self.apply_redaction(&event, before).await?;
        self.last_place = place;
        Ok(())
    }

    /// The state that has this event at this key, its nodes staged.
    pub(super) async fn state_with(
        &mut self,
        root: StateRoot,
        key: &StateKey,
        arrival: Arrival,
    ) -> Result<StateRoot, ActionError> {
        let number = self.number_of(key).await?;
        self.state_changed(root, &[(number, Some(arrival))]).await
    }

    /// The state with these entries changed, its nodes staged.
    pub(super) async fn state_changed(
        &mut self,
        root: StateRoot,
        changes: &[(u32, Option<Arrival>)],
    ) -> Result<StateRoot, ActionError> {
        let next_row = self.view()?.tip.state_rows;
        let tree = StateTree::new(&self.room.store, self.room.home.clone());
        let update = tree.update(root, changes, next_row).await?;
        self.tip_mut()?.state_rows = update.next_row;
        Ok(tree.write(update, &mut self.commit))
    }

    /// The number of a state key in this room; a new one gets the next.
    async fn number_of(&mut self, key: &StateKey) -> Result<u32, ActionError> {
        let key = (key.0.to_string(), key.1.clone());
        if let Some(number) = self.get(&STATE_KEYS, &key).await? {
            return Ok(number);
        }
        let tip = self.tip_mut()?;
        let number = tip.state_keys;
        tip.state_keys += 1;
        self.commit.put(&STATE_KEYS, &key, &number);
        Ok(number)
    }

    pub(super) fn set_summary(&mut self, changed: Summary) {
        self.summary = Some(changed);
    }

    pub(super) fn tip_mut(&mut self) -> Result<&mut Tip, ActionError> {
        let next = self.next.as_mut().ok_or_else(|| ActionError::internal("a writer without a room"))?;
        Ok(&mut next.tip)
    }

    /// Hands everything that was staged to the committer, leaves the lane, and waits until it is on disk. With nothing staged it only waits
    /// until what the lane has seen is on disk: an answer that rests on it is then true even after a power cut. Answers the room as it then is.
    ///
    /// # Errors
    /// [`ActionError::Busy`] when nothing was written and a repeat may succeed.
    pub async fn commit(self) -> Result<Arc<RoomView>, ActionError> {
        let (view, durable) = self.hand_over().await?;
        durable.await?;
        Ok(view)
    }

    /// [`Writer::commit`] without the wait: nobody is told of it before the answer is there.
    async fn hand_over(mut self) -> Result<(Arc<RoomView>, Pending), ActionError> {
        self.promise_end().await?;
        let permit = self.room.store.reserve().await?;
        let view = self.seal()?;
        self.tell_senders();
        let room = Arc::clone(&self.room);
        let relisted = Relisted::of(&self.actions, &room.id, self.base_summary.as_ref(), &view.summary);
        for (key, event) in self.changed.drain() {
            self.working.keep(key, event);
        }
        self.working.keep_own(self.own);
        self.working.keep_merged(self.merged);
        self.working.precedents.extend(self.precedents);
        let number = self.working.pending.push(&self.commit);
        self.working.view = Some(Arc::clone(&view));
        let (published, reset_at) = (Arc::clone(&view), self.working.reset_at());
        self.commit.then(move |outcome: &Result<Position, _>| {
            relisted.into_iter().for_each(|relisted| relisted.tell(outcome.is_ok()));
            match outcome {
                Ok(_) => room.published(number, reset_at, published),
                Err(_) => room.failed(number),
            }
        });
        let pending = permit.submit(self.commit);
        drop(self.working);
        Ok((view, pending))
    }

    /// The last rows of the commit, and the condition that it rests on.
    fn seal(&mut self) -> Result<Arc<RoomView>, ActionError> {
        let mut view = self.view()?.clone();
        if let Some(changed) = self.summary.take() {
            self.commit.put(&SUMMARY, &(), &changed);
            self.list_room(&changed);
            view.summary = Arc::new(changed);
        } else if self.base.is_none() {
            self.commit.put(&SUMMARY, &(), &view.summary);
            self.list_room(&view.summary.clone());
        }
        let base = self.base.take();
        match &base {
            Some(base) => self.commit.require_same(&TIP, &(), base),
            None => self.commit.require_absent(&TIP, &()),
        };
        if base.as_ref() != Some(&view.tip) {
            self.commit.put(&TIP, &(), &view.tip);
        }
        if self.commit.writes()
            && let Some(written_by) = self.in_the_name_of.take()
        {
            let (person, by) = *written_by;
            by.record(&self.actions, &person, &self.room.id, &mut self.commit);
        }
        Ok(Arc::new(view))
    }
}

/// Messages count as unread; everything else in a timeline does not.
pub fn is_message(kind: &TimelineEventType) -> bool {
    matches!(kind, TimelineEventType::RoomMessage | TimelineEventType::RoomEncrypted)
}

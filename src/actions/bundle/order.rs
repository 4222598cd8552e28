//! The events of a room in an order in which nothing comes before what it leans on: by arrival, but what an event leans on and follows comes first.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use rules::{authorization::needed_auth_events, event::Event, version::Version};
use ruma::{EventId, OwnedEventId, OwnedServerName};
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    actions::{
        ActionError,
        rows::{self, Rows},
    },
    storage::{
        Arrival, StateRoot, StateTree,
        history::{EventStanding, StoredEvent},
        keyspaces::{EVENTS, REDACTIONS},
    },
};

/// Ids whose numbers stay at hand.
const AT_HAND_MAX: usize = 50_000;
/// State entries that are read at a time.
const ENTRIES_AT_A_TIME: usize = 1_000;

/// What was written already, and what was noticed on the way.
pub(super) struct Order<'a> {
    rows: Rows<'a>,
    version: Version,
    /// The number of the first event that is left out.
    cut: Arrival,
    written: Bits,
    /// Events of the pages that were read last.
    near: [HashMap<Arrival, StoredEvent>; 2],
    numbers: HashMap<OwnedEventId, Option<Arrival>>,
    /// Events whose state before them cannot be told from the events before, in the order in which they were written.
    pub(super) around: Vec<Arrival>,
    /// Events that are not shown.
    pub(super) hidden: BTreeSet<OwnedEventId>,
    /// The keys that the events were signed with.
    pub(super) signed_with: BTreeSet<(OwnedServerName, String)>,
}

/// An event that is next, as it is written.
pub(super) struct Next {
    pub(super) event: Arc<Event>,
}

/// A bit for each event.
struct Bits(Vec<u64>);

impl Bits {
    fn place(arrival: Arrival) -> (usize, u64) {
        let number = arrival.get();
        (usize::try_from(number / 64).unwrap_or(usize::MAX), 1 << (number % 64))
    }

    fn has(&self, arrival: Arrival) -> bool {
        let (word, bit) = Self::place(arrival);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn set(&mut self, arrival: Arrival) {
        let (word, bit) = Self::place(arrival);
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= bit;
        }
    }
}

#[derive(Deserialize)]
struct Signed {
    #[serde(default)]
    signatures: BTreeMap<OwnedServerName, BTreeMap<String, IgnoredAny>>,
}

impl<'a> Order<'a> {
    pub(super) fn new(rows: Rows<'a>, version: Version, cut: Arrival) -> Self {
        let words = usize::try_from(cut.get() / 64).unwrap_or_default() + 1;
        Self {
            rows,
            version,
            cut,
            written: Bits(vec![0; words]),
            near: Default::default(),
            numbers: HashMap::new(),
            around: Vec::new(),
            hidden: BTreeSet::new(),
            signed_with: BTreeSet::new(),
        }
    }

    /// The event is part of the bundle by itself; others only because of those that name them.
    pub(super) fn is_wanted(stored: &StoredEvent) -> bool {
        match &stored.standing {
            EventStanding::Accepted => true,
            EventStanding::Outlier { refused, .. } => refused.is_none(),
            EventStanding::SoftFailed { .. } | EventStanding::Rejected { .. } => false,
        }
    }

    /// What has to come before an event and was not written yet: what allows it, what it follows, and where that is not all held, the state before it.
    async fn lacking(&mut self, stored: &StoredEvent, event: &Event) -> Result<Vec<Arrival>, ActionError> {
        let mut lacking = Vec::new();
        for id in needed_auth_events(&self.version, event).iter().chain(event.prev_events()) {
            lacking.extend(self.number(id).await?);
        }
        if stored.standing.is_in_room() && !self.parents_tell(event).await? {
            lacking.extend(state(&self.rows, stored.state_before).await?);
        }
        lacking.retain(|arrival| !self.written.has(*arrival));
        Ok(lacking)
    }

    /// The state before an event follows from the events before it, which all come along.
    async fn parents_tell(&mut self, event: &Event) -> Result<bool, ActionError> {
        for id in event.prev_events() {
            let Some(arrival) = self.number(id).await? else { return Ok(false) };
            let is_in_room = match self.near(arrival) {
                Some(stored) => stored.standing.is_in_room(),
                None => self.stored(arrival).await?.standing.is_in_room(),
            };
            if !is_in_room {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A page of the room's events that was read in passing: most of what is asked for next is among them.
    pub(super) fn come_by(&mut self, page: Vec<(Arrival, StoredEvent)>) {
        for (arrival, stored) in &page {
            self.note_number(&stored.event_id, Some(*arrival));
        }
        self.near.swap(0, 1);
        let [newest, _] = &mut self.near;
        *newest = page.into_iter().collect();
    }

    fn near(&self, arrival: Arrival) -> Option<&StoredEvent> {
        self.near.iter().find_map(|page| page.get(&arrival))
    }

    async fn stored(&self, arrival: Arrival) -> Result<StoredEvent, ActionError> {
        let stored = match self.near(arrival) {
            Some(stored) => Some(stored.clone()),
            None => self.rows.get(&EVENTS, &arrival).await?,
        };
        stored.ok_or_else(|| ActionError::internal(format!("the room lacks its event {arrival:?}")))
    }

    fn note_number(&mut self, id: &EventId, number: Option<Arrival>) {
        if self.numbers.len() >= AT_HAND_MAX {
            self.numbers.clear();
        }
        self.numbers.insert(id.to_owned(), number);
    }

    async fn number(&mut self, id: &EventId) -> Result<Option<Arrival>, ActionError> {
        if let Some(number) = self.numbers.get(id) {
            return Ok(*number);
        }
        let number = self.rows.arrival_of(id).await?.filter(|arrival| *arrival < self.cut);
        self.note_number(id, number);
        Ok(number)
    }

    /// The next event that has to be written before `open` is empty; none: it is empty. `open` is what is to be written, the next last; true: what it lacks was
    /// looked for.
    pub(super) async fn next(&mut self, open: &mut Vec<(Arrival, bool)>) -> Result<Option<Next>, ActionError> {
        while let Some((arrival, was_looked_at)) = open.pop() {
            if self.written.has(arrival) {
                continue;
            }
            let stored = self.stored(arrival).await?;
            let event = Arc::new(rows::read(&stored, self.rows.home, &self.version)?);
            if !was_looked_at {
                let lacking = self.lacking(&stored, &event).await?;
                if !lacking.is_empty() {
                    open.push((arrival, true));
                    open.extend(lacking.into_iter().rev().map(|arrival| (arrival, false)));
                    continue;
                }
            }
            self.written.set(arrival);
            return self.write(arrival, &stored, event).await.map(Some);
        }
        Ok(None)
    }

    async fn write(&mut self, arrival: Arrival, stored: &StoredEvent, event: Arc<Event>) -> Result<Next, ActionError> {
        if !Self::is_wanted(stored) {
            self.hidden.insert(stored.event_id.clone());
        }
        if !stored.standing.is_in_room() || !self.parents_tell(&event).await? {
            self.around.push(arrival);
        }
        let signed: Signed = serde_json::from_str(event.json()).map_err(ActionError::internal)?;
        for (server, keys) in signed.signatures {
            self.signed_with.extend(keys.into_keys().map(|key_id| (server.clone(), key_id)));
        }
        let is_redacted = self.rows.get(&REDACTIONS, event.event_id()).await?.is_some();
        if is_redacted {
            return Ok(Next { event: Arc::new(event.redacted(&self.version).map_err(ActionError::internal)?) });
        }
        Ok(Next { event })
    }
}

/// The events of a state.
pub(super) async fn state(rows: &Rows<'_>, root: StateRoot) -> Result<Vec<Arrival>, ActionError> {
    let tree = StateTree::new(rows.store, rows.home.clone());
    let (mut arrivals, mut from) = (Vec::new(), Some(0));
    while let Some(start) = from {
        let page = tree.walk(root, start, ENTRIES_AT_A_TIME).await?;
        let is_full = page.len() == ENTRIES_AT_A_TIME;
        from = page.last().filter(|_| is_full).and_then(|(last, _)| last.checked_add(1));
        arrivals.extend(page.into_iter().map(|(_, arrival)| arrival));
    }
    Ok(arrivals)
}

//! Telling peers the state before an event: an event at a time, as it is sent. In memory is only which events authorise it.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use federation::{
    Pdu, Refusal,
    local::{StatePiece, StateStream},
};
use futures_util::stream;
use rules::{authorization::needed_auth_events, event::Event};
use ruma::{EventId, OwnedEventId, OwnedUserId, RoomId, ServerName, UserId};

use super::{
    guests::{Met, failed, guest},
    serving::held,
};
use crate::{
    actions::{ActionError, Actions, remote_join::pdu_of, rows, summary},
    storage::{
        Arrival, Direction, KeyRange, Limit, StateRoot, StateTree,
        keyspaces::{MEMBERS, STATE_KEYS},
        members::Member,
    },
};

/// People that a room without a name is called by.
const HEROES_MAX: usize = 5;
/// State entries, and members, that are read at a time.
const ENTRIES_AT_A_TIME: usize = 1_000;

/// The state before an event and what authorises it.
pub(in crate::actions) async fn state(
    actions: &Actions,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
) -> Result<StateStream<Pdu>, Refusal> {
    Ok(telling(actions, origin, room_id, event_id).await?.stream(|event| pdu_of(&event)))
}

/// The same, by id.
pub(super) async fn state_ids(
    actions: &Actions,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
) -> Result<StateStream<OwnedEventId>, Refusal> {
    Ok(telling(actions, origin, room_id, event_id).await?.stream(|event| Ok(event.event_id().clone())))
}

async fn telling(
    actions: &Actions,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
) -> Result<Telling, Refusal> {
    let met = guest(actions, origin, room_id).await?;
    let found = held(&met, event_id).await.map_err(failed)?;
    let (stored, _) = found.filter(|(stored, _)| !stored.standing.is_rejected()).ok_or(Refusal::NotFound)?;
    Ok(Telling { rest: Some((stored.state_before, 0)), ..Telling::nothing(met) })
}

/// The state before a join for a peer that can do without most members: the members that a room without name and alias is called by, and everything that is no
/// member. The auth chain is what these and the join lean on, but for what the state has.
pub(in crate::actions) async fn state_without_members(
    met: &Met,
    event_id: &EventId,
) -> Result<StateStream<Pdu>, Refusal> {
    let found = held(met, event_id).await.map_err(failed)?;
    let (stored, join) = found.filter(|(stored, _)| !stored.standing.is_rejected()).ok_or(Refusal::NotFound)?;
    let mut telling = Telling::nothing(met.clone());
    let find = async {
        let (rows, version, root) = (met.rows(), met.version(), stored.state_before);
        let tree = StateTree::new(&met.room.store, met.room.home.clone());
        let mut has_name = false;
        for (_, number) in keys_without_members(met).await? {
            if let Some(arrival) = tree.get(root, number).await? {
                let event = rows.event(&version, arrival).await?.1;
                has_name |= is_name(&event);
                telling.entries.push_back(arrival);
                telling.left_out.insert(event.event_id().clone());
            }
        }
        if !has_name {
            for user_id in heroes(met, join.sender()).await? {
                let member = rows.state_event(&version, root, "m.room.member", user_id.as_str()).await?;
                let Some(member) = member else { continue };
                telling.entries.extend(rows.arrival_of(member.event_id()).await?);
                telling.left_out.insert(member.event_id().clone());
            }
        }
        Ok::<_, ActionError>(())
    };
    find.await.map_err(failed)?;
    telling.lean(&join);
    Ok(telling.stream(|event| pdu_of(&event)))
}

/// The entries that the room's state ever had, members apart, with their numbers.
async fn keys_without_members(met: &Met) -> Result<Vec<((String, String), u32)>, ActionError> {
    let members = "m.room.member".to_owned();
    let before = KeyRange::all().before(&(members.clone(), String::new()));
    let after = KeyRange::all().from(&(members + "\u{0}", String::new()));
    let mut keys = Vec::new();
    for range in [before, after] {
        keys.extend(rows::all(&met.room.store, &STATE_KEYS, &met.room.home, range).await?);
    }
    Ok(keys)
}

/// The event gives the room a name, or an alias that serves as one.
fn is_name(event: &Event) -> bool {
    let field = match event.type_str() {
        "m.room.name" => "name",
        "m.room.canonical_alias" => "alias",
        _ => return false,
    };
    let text = summary::content(event).get(field).and_then(|text| text.as_str().map(str::trim).map(str::to_owned));
    text.is_some_and(|text| !text.is_empty())
}

/// The people that a room without a name is called by, but for one: those who have been in it longest, or are invited longest.
/// Source: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>
async fn heroes(met: &Met, but: &UserId) -> Result<Vec<OwnedUserId>, ActionError> {
    let mut heroes: Vec<(OwnedUserId, Member)> = Vec::new();
    let mut rest = KeyRange::all();
    loop {
        let limit = Limit::rows(ENTRIES_AT_A_TIME);
        let page = met.room.store.scan(&MEMBERS, &met.room.home, rest.clone(), Direction::Up, limit).await?;
        let last = page.rows.last().map(|(user_id, _)| user_id.clone());
        heroes.extend(page.rows.into_iter().filter(|(user_id, _)| user_id != but));
        heroes.sort_by_key(|(_, member)| (!member.membership.is_in(), member.arrival));
        heroes.truncate(HEROES_MAX);
        match last {
            Some(last) if page.more => rest = rest.after(&last),
            _ => return Ok(heroes.into_iter().map(|(user_id, _)| user_id).collect()),
        }
    }
}

/// How far a state has been told.
struct Telling {
    met: Met,
    /// Entries that are told next.
    entries: VecDeque<Arrival>,
    /// The state of which more entries are told then, and from which on.
    rest: Option<(StateRoot, u32)>,
    /// Events that what was told leans on.
    seen: HashSet<OwnedEventId>,
    /// Those of them that are not told yet.
    open: Vec<OwnedEventId>,
    /// Those of them that are not told.
    left_out: HashSet<OwnedEventId>,
}

impl Telling {
    fn nothing(met: Met) -> Self {
        let (entries, left_out) = (VecDeque::new(), HashSet::new());
        Self { met, entries, rest: None, seen: HashSet::new(), open: Vec::new(), left_out }
    }

    /// What this event leans on is told when the state was.
    fn lean(&mut self, event: &Event) {
        for id in needed_auth_events(&self.met.version(), event) {
            if self.seen.insert(id.clone()) {
                self.open.push(id);
            }
        }
    }

    async fn next(&mut self) -> Result<Option<StatePiece<Arc<Event>>>, ActionError> {
        if self.entries.is_empty()
            && let Some((root, start)) = self.rest.take()
        {
            let tree = StateTree::new(&self.met.room.store, self.met.room.home.clone());
            let entries = tree.walk(root, start, ENTRIES_AT_A_TIME).await?;
            let is_full = entries.len() == ENTRIES_AT_A_TIME;
            let next = entries.last().filter(|_| is_full).and_then(|(last, _)| last.checked_add(1));
            self.rest = next.map(|next| (root, next));
            self.entries.extend(entries.into_iter().map(|(_, arrival)| arrival));
        }
        if let Some(arrival) = self.entries.pop_front() {
            let (_, event) = self.met.rows().event(&self.met.version(), arrival).await?;
            self.lean(&event);
            return Ok(Some(StatePiece::State(event)));
        }
        while let Some(id) = self.open.pop() {
            let Some(arrival) = self.met.rows().arrival_of(&id).await? else { continue };
            let (_, event) = self.met.rows().event(&self.met.version(), arrival).await?;
            self.lean(&event);
            if !self.left_out.contains(&id) {
                return Ok(Some(StatePiece::AuthChain(event)));
            }
        }
        Ok(None)
    }

    fn stream<T: Send + 'static>(
        self,
        write: impl Fn(Arc<Event>) -> Result<T, ActionError> + Copy + Send + 'static,
    ) -> StateStream<T> {
        StateStream::new(stream::try_unfold(self, move |mut telling| async move {
            let told = telling.next().await.and_then(|piece| {
                piece
                    .map(|piece| match piece {
                        StatePiece::State(event) => write(event).map(StatePiece::State),
                        StatePiece::AuthChain(event) => write(event).map(StatePiece::AuthChain),
                    })
                    .transpose()
            });
            Ok(told.map_err(failed)?.map(|piece| (piece, telling)))
        }))
    }
}

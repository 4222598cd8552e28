//! Links between servers: what one asks of another, and what it sends. Requests and answers come late or not at all, transactions come twice and in another order.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use ::federation::{
    Outbox as _, Pdu, Refusal,
    local::{AliasAnswer, Directory, Gap, Handshakes, Invite, LocalRooms, StateBefore, Template, Wish},
    outbound::{Edu, PeerStatus},
};
use rules::{
    UnixMs,
    keys::{Key, KeyRing, Validity},
};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomVersionId, ServerName, UserId,
};
use tokio::{sync::Notify, task::AbortHandle};
use yurt::actions::{
    Actions,
    outgoing::{Doing, Sending},
    peers::{Asking, Errcode, Joined, Keys, PeerError, Peers},
};

use super::{
    lies,
    servers::{Life, pass},
    world::World,
};

/// Time between two looks of one who sends at what there is.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The longest pause after a transaction was lost, in milliseconds.
const PAUSE_MS_MAX: u64 = 30_000;

/// The network as one process sees it.
pub(super) struct Line {
    from: OwnedServerName,
    world: Weak<World>,
    life: Arc<Life>,
}

/// What was asked, for the trace and for lies.
fn told<T>(answer: Result<T, Refusal>) -> Result<T, PeerError> {
    answer.map_err(|refusal| match refusal {
        Refusal::Unavailable => PeerError::Unreachable,
        _ => PeerError::Refused(Errcode::FORBIDDEN),
    })
}

impl Line {
    pub(super) fn new(from: &ServerName, world: &Arc<World>, life: &Arc<Life>) -> Self {
        Self { from: from.to_owned(), world: Arc::downgrade(world), life: Arc::clone(life) }
    }

    /// Asks a server, which does what it is asked even if nobody waits for the answer any more.
    fn ask<'a, T, F>(
        &'a self,
        peer: &'a ServerName,
        what: String,
        call: impl FnOnce(Actions, OwnedServerName) -> F + Send + 'a,
        bend: impl FnOnce(&World, T) -> Result<T, PeerError> + Send + 'a,
    ) -> Asking<'a, T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        Box::pin(async move {
            let world = self.world.upgrade().ok_or(PeerError::Unreachable)?;
            if self.life.is_over() {
                std::future::pending::<()>().await;
            }
            let answer = async {
                world.travel(&self.from, peer).await?;
                let actions = world.actions(peer).ok_or(PeerError::Unreachable)?;
                let answer =
                    tokio::spawn(call(actions, self.from.clone())).await.map_err(|_broken| PeerError::Unreachable)?;
                if world.actions(peer).is_none() {
                    return Err(PeerError::Unreachable);
                }
                world.travel(peer, &self.from).await?;
                told(answer)
            };
            let mut answer = answer.await;
            if world.is_liar(peer)
                && let Ok(true_answer) = answer
            {
                answer = bend(&world, true_answer);
            }
            world.log(|| {
                let outcome = answer.as_ref().map_or_else(|error| format!("{error:?}"), |_| "answered".to_owned());
                format!("{} asks {peer}: {what}: {outcome}", self.from)
            });
            if self.life.is_over() {
                std::future::pending::<()>().await;
            }
            answer
        })
    }
}

impl Peers for Line {
    fn event<'a>(&'a self, peer: &'a ServerName, event_id: &'a EventId) -> Asking<'a, Pdu> {
        let id = event_id.to_owned();
        let call =
            move |actions: Actions, from: OwnedServerName| async move { LocalRooms::event(&actions, &from, &id).await };
        self.ask(peer, format!("event {event_id}"), call, |world, pdu| lies::event(world, &pdu))
    }

    fn missing_events<'a>(&'a self, peer: &'a ServerName, room_id: &'a RoomId, gap: Gap) -> Asking<'a, Vec<Pdu>> {
        let (what, room) = (format!("events before {:?}", gap.latest), room_id.to_owned());
        let call = move |actions: Actions, from: OwnedServerName| async move {
            actions.missing_events(&from, &room, gap).await
        };
        self.ask(peer, what, call, lies::events)
    }

    fn state_ids<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, StateBefore<OwnedEventId>> {
        let (room, id) = (room_id.to_owned(), event_id.to_owned());
        let call = move |actions: Actions, from: OwnedServerName| async move {
            actions.state_ids_before(&from, &room, &id).await?.gathered().await
        };
        self.ask(peer, format!("state before {event_id}"), call, lies::state_ids)
    }

    fn state<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, StateBefore<Pdu>> {
        let (room, id) = (room_id.to_owned(), event_id.to_owned());
        let call = move |actions: Actions, from: OwnedServerName| async move {
            actions.state_before(&from, &room, &id).await?.gathered().await
        };
        self.ask(peer, format!("whole state before {event_id}"), call, lies::state)
    }

    fn backfill<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        behind: &'a [OwnedEventId],
        events_max: usize,
    ) -> Asking<'a, Vec<Pdu>> {
        let (what, room, behind) = (format!("history before {behind:?}"), room_id.to_owned(), behind.to_vec());
        let call = move |actions: Actions, from: OwnedServerName| async move {
            actions.backfill(&from, &room, behind, events_max).await
        };
        self.ask(peer, what, call, lies::events)
    }

    fn event_auth<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> Asking<'a, Vec<Pdu>> {
        let (room, id) = (room_id.to_owned(), event_id.to_owned());
        let call =
            move |actions: Actions, from: OwnedServerName| async move { actions.auth_chain(&from, &room, &id).await };
        self.ask(peer, format!("what authorises {event_id}"), call, lies::events)
    }

    fn keys<'a>(&'a self, needed: &'a BTreeSet<(OwnedServerName, String)>, _at: UnixMs) -> Keys<'a> {
        let mut keys = KeyRing::new();
        if let Some(world) = self.world.upgrade() {
            for (server, key_id) in needed {
                if let Some(signer) = world.signers.get(server).filter(|signer| signer.key_id() == key_id) {
                    let validity = Validity::Until(UnixMs(u64::MAX));
                    keys.insert(server.clone(), key_id, Key { public: signer.public_key(), validity });
                }
            }
        }
        Box::pin(std::future::ready(keys))
    }

    fn membership_template<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        user_id: &'a UserId,
        wish: Wish,
        versions: &'a [RoomVersionId],
    ) -> Asking<'a, Template> {
        let (room, user, versions) = (room_id.to_owned(), user_id.to_owned(), versions.to_vec());
        let call = move |actions: Actions, from: OwnedServerName| async move {
            actions.membership_template(&from, &room, &user, wish, &versions).await
        };
        self.ask(peer, format!("template {wish:?}"), call, |_, template| Ok(template))
    }

    fn send_join<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
        event: Pdu,
    ) -> Asking<'a, Joined> {
        let (room, id) = (room_id.to_owned(), event_id.to_owned());
        let call = move |actions: Actions, from: OwnedServerName| async move {
            let accepted = actions.accept_membership(&from, &room, &id, Wish::Join, event).await?;
            Ok(Joined::of(Some(accepted.event), accepted.before.gathered().await?))
        };
        self.ask(peer, format!("join {event_id}"), call, |_, joined| Ok(joined))
    }

    fn send_leave<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
        event: Pdu,
    ) -> Asking<'a, ()> {
        let (room, id) = (room_id.to_owned(), event_id.to_owned());
        let call = move |actions: Actions, from: OwnedServerName| async move {
            actions.accept_membership(&from, &room, &id, Wish::Leave, event).await.map(drop)
        };
        self.ask(peer, format!("leave {event_id}"), call, |_, ()| Ok(()))
    }

    fn send_knock<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
        event: Pdu,
    ) -> Asking<'a, Vec<Pdu>> {
        let (room, id) = (room_id.to_owned(), event_id.to_owned());
        let call = move |actions: Actions, from: OwnedServerName| async move {
            let accepted = actions.accept_membership(&from, &room, &id, Wish::Knock, event).await?;
            Ok(accepted.before.gathered().await?.state)
        };
        self.ask(peer, format!("knock {event_id}"), call, |_, state| Ok(state))
    }

    fn invite<'a>(
        &'a self,
        peer: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
        invite: Invite,
    ) -> Asking<'a, Pdu> {
        let (room, id) = (room_id.to_owned(), event_id.to_owned());
        let call = move |actions: Actions, from: OwnedServerName| async move {
            actions.accept_invite(&from, &room, &id, invite).await
        };
        self.ask(peer, format!("invite {event_id}"), call, |_, event| Ok(event))
    }

    fn alias<'a>(&'a self, peer: &'a ServerName, alias: &'a RoomAliasId) -> Asking<'a, AliasAnswer> {
        let alias = alias.to_owned();
        let call = move |actions: Actions, from: OwnedServerName| async move {
            Directory::alias(&actions, &from, &alias).await
        };
        self.ask(peer, "alias".to_owned(), call, |_, answer| Ok(answer))
    }

    fn profile<'a>(&'a self, peer: &'a ServerName, user_id: &'a UserId) -> Asking<'a, BTreeMap<String, String>> {
        let user = user_id.to_owned();
        let call = move |actions: Actions, from: OwnedServerName| async move {
            Directory::profile(&actions, &from, &user).await
        };
        self.ask(peer, "profile".to_owned(), call, |_, answer| Ok(answer))
    }
}

/// Sends what one server owes to the others.
#[derive(Default)]
pub(super) struct Courier {
    woken: parking_lot::Mutex<BTreeMap<OwnedServerName, Arc<Notify>>>,
}

impl Sending for Courier {
    fn wake(&self, servers: Vec<OwnedServerName>) {
        for server in servers {
            self.bell(&server).notify_one();
        }
    }

    fn edu(&self, _servers: Vec<OwnedServerName>, _edu: &Edu) {}

    fn status<'a>(&'a self, _peer: &'a ServerName) -> Asking<'a, PeerStatus> {
        Box::pin(std::future::ready(Err(PeerError::Unreachable)))
    }

    fn reset<'a>(&'a self, peer: &'a ServerName) -> Asking<'a, ()> {
        self.bell(peer).notify_one();
        Box::pin(std::future::ready(Ok(())))
    }

    fn forget(&self, _servers: Vec<OwnedServerName>) {}

    fn idle_handles(&self) -> Option<usize> {
        None
    }

    fn stop(&self) -> Doing<'_> {
        Box::pin(std::future::ready(()))
    }
}

impl Courier {
    fn bell(&self, server: &ServerName) -> Arc<Notify> {
        Arc::clone(self.woken.lock().entry(server.to_owned()).or_default())
    }

    pub(super) fn start(
        &self,
        world: &Arc<World>,
        from: &ServerName,
        to: &ServerName,
        actions: &Actions,
        life: &Arc<Life>,
    ) -> AbortHandle {
        let (world, bell, outbox) = (Arc::clone(world), self.bell(to), actions.outbox());
        let (from, to, life) = (from.to_owned(), to.to_owned(), Arc::clone(life));
        let work = async move {
            loop {
                let _ = tokio::time::timeout(LOOK_EVERY, bell.notified()).await;
                while !life.is_over() {
                    let pdus_max = usize::try_from(1 + world.below(8)).unwrap();
                    let batch = match outbox.next(&to, pdus_max).await {
                        Ok(Some(batch)) => batch,
                        Ok(None) => break,
                        Err(error) => {
                            world.log(|| format!("{from} cannot read what it owes {to}: {error}"));
                            break;
                        }
                    };
                    world.log(|| format!("{from} owes {to} {} events, up to {:?}", batch.pdus.len(), batch.up_to));
                    if carry(&world, &from, &to, batch.pdus).await.is_ok() {
                        // What cannot be written down is sent again.
                        let _ = outbox.delivered(&to, batch.up_to).await;
                    } else {
                        pass(world.below(PAUSE_MS_MAX)).await;
                    }
                }
            }
        };
        tokio::spawn(work).abort_handle()
    }
}

/// Brings one transaction.
async fn carry(world: &Arc<World>, from: &ServerName, to: &ServerName, pdus: Vec<Pdu>) -> Result<(), PeerError> {
    let mut pdus = if world.is_liar(from) { lies::transaction(world, to, pdus) } else { pdus };
    world.travel(from, to).await?;
    if world.chance(world.weather.lock().repeated) {
        shuffle(world, &mut pdus);
    }
    if world.chance(world.weather.lock().repeated) {
        let (world, from, to, pdus) = (Arc::clone(world), from.to_owned(), to.to_owned(), pdus.clone());
        tokio::spawn(async move {
            pass(world.below(60_000)).await;
            let _ = hand_over(&world, &from, &to, pdus).await;
        });
    }
    hand_over(world, from, to, pdus).await?;
    world.travel(to, from).await
}

fn shuffle<T>(world: &World, all: &mut [T]) {
    for end in (1..all.len()).rev() {
        all.swap(end, world.place(end + 1));
    }
}

async fn hand_over(world: &Arc<World>, from: &ServerName, to: &ServerName, pdus: Vec<Pdu>) -> Result<(), PeerError> {
    let actions = world.actions(to).ok_or(PeerError::Unreachable)?;
    let mut rooms: BTreeMap<OwnedRoomId, Vec<Pdu>> = BTreeMap::new();
    for pdu in pdus {
        if let Some(room_id) = world.room_of(&pdu) {
            rooms.entry(room_id).or_default().push(pdu);
        }
    }
    for (room_id, pdus) in rooms {
        let (actions, origin, room) = (actions.clone(), from.to_owned(), room_id.clone());
        let received = tokio::spawn(async move { actions.receive(&origin, &room, pdus).await });
        let answers = received.await.map_err(|_broken| PeerError::Unreachable)?;
        world.log(|| format!("{from} sends {to}: {answers:?}"));
        let is_to_be_repeated = answers.iter().any(|(_, answer)| *answer == Err(Refusal::Unavailable));
        if is_to_be_repeated || world.actions(to).is_none() {
            return Err(PeerError::Unreachable);
        }
        world.seen(answers.into_iter().map(|(id, _)| id));
    }
    Ok(())
}

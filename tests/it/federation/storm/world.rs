//! What all servers of a storm share: the dice, the links between them, and what is written down to be read when a seed fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ::federation::Pdu;
use parking_lot::Mutex;
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use rules::signature::Signer;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, ServerName};
use sha2::{Digest as _, Sha256};
use tokio::{task::AbortHandle, time::Instant};
use yurt::actions::{Actions, peers::PeerError};

use super::{
    links::{Courier, Line},
    servers::{Life, Machine, START, pass},
};

/// How long one waits for an answer that does not come.
const PATIENCE_MS: u64 = 10_000;

/// A server that runs.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) actions: Actions,
    pub(super) life: Arc<Life>,
    couriers: Vec<AbortHandle>,
}

/// What happens to what is sent.
#[derive(Clone, Default)]
pub(super) struct Weather {
    /// Percent of requests and of answers that are lost.
    pub(super) lost: u32,
    /// Percent of transactions that come twice.
    pub(super) repeated: u32,
    /// The longest delay, in milliseconds.
    pub(super) delay_max: u64,
    /// From whom to whom nothing goes.
    pub(super) cut: BTreeSet<(OwnedServerName, OwnedServerName)>,
    /// The storm is over.
    pub(super) is_calm: bool,
}

pub(super) struct World {
    dice: Mutex<StdRng>,
    start: Instant,
    pub(super) weather: Mutex<Weather>,
    pub(super) machines: tokio::sync::Mutex<BTreeMap<OwnedServerName, Machine>>,
    pub(super) running: Mutex<BTreeMap<OwnedServerName, Running>>,
    pub(super) signers: BTreeMap<OwnedServerName, Signer>,
    pub(super) room_id: Mutex<Option<OwnedRoomId>>,
    /// The version of the room.
    pub(super) version: Mutex<String>,
    /// Who lies.
    pub(super) liar: Option<OwnedServerName>,
    /// Events that were ever seen on a link, in that order, for lies to be made of.
    pub(super) seen: Mutex<(BTreeSet<OwnedEventId>, Vec<OwnedEventId>)>,
    log: Mutex<Log>,
}

struct Log {
    lines: Vec<String>,
    hash: Sha256,
    is_kept: bool,
}

impl World {
    pub(super) fn new(seed: u64, names: &[OwnedServerName], has_liar: bool, is_kept: bool) -> Arc<Self> {
        let mut dice = StdRng::seed_from_u64(seed);
        let start = Instant::now();
        let mut machines = BTreeMap::new();
        for name in names {
            let ahead = dice.random_range(0..10_000);
            machines.insert(name.clone(), Machine::new(name, start, ahead, dice.next_u64()));
        }
        let signers = machines.iter().map(|(name, machine)| (name.clone(), machine.signer())).collect();
        Arc::new(Self {
            start,
            weather: Mutex::default(),
            machines: tokio::sync::Mutex::new(machines),
            running: Mutex::default(),
            signers,
            room_id: Mutex::default(),
            version: Mutex::default(),
            liar: names.last().filter(|_| has_liar).cloned(),
            seen: Mutex::default(),
            dice: Mutex::new(dice),
            log: Mutex::new(Log { lines: Vec::new(), hash: Sha256::new(), is_kept }),
        })
    }

    /// A number below another.
    /// A place in a list of so many.
    pub(super) fn place(&self, count: usize) -> usize {
        usize::try_from(self.below(u64::try_from(count).unwrap())).unwrap()
    }

    pub(super) fn below(&self, end: u64) -> u64 {
        self.dice.lock().random_range(0..end.max(1))
    }

    pub(super) fn is_calm(&self) -> bool {
        self.weather.lock().is_calm
    }

    /// The time, without any server's error, in milliseconds.
    pub(super) fn now(&self) -> u64 {
        START + u64::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    /// True in so many of a hundred cases.
    pub(super) fn chance(&self, percent: u32) -> bool {
        self.below(100) < u64::from(percent)
    }

    pub(super) fn pick<'a, T>(&self, all: &'a [T]) -> &'a T {
        &all[self.place(all.len())]
    }

    pub(super) fn log(&self, line: impl FnOnce() -> String) {
        let line = format!("{:>9} {}", self.start.elapsed().as_millis(), line());
        let mut log = self.log.lock();
        log.hash.update(line.as_bytes());
        if log.is_kept {
            log.lines.push(line);
        }
    }

    /// Everything that was written down, and what tells it from another run.
    pub(super) fn trace(&self) -> (Vec<String>, String) {
        let log = self.log.lock();
        (log.lines.clone(), format!("{:?}", log.hash.clone().finalize()))
    }

    pub(super) fn is_liar(&self, name: &ServerName) -> bool {
        self.liar.as_deref() == Some(name)
    }

    /// Starts a server and plugs it in.
    pub(super) async fn start_server(self: &Arc<Self>, name: &ServerName) -> Actions {
        let (actions, life) = self.machines.lock().await.get_mut(name).unwrap().start().await;
        actions.connect(Arc::new(Line::new(name, self, &life)));
        let courier = Arc::new(Courier::default());
        actions.send_with(Arc::<Courier>::clone(&courier)).await.unwrap();
        let others = self.signers.keys().filter(|other| *other != name);
        let couriers = others.map(|to| courier.start(self, name, to, &actions, &life)).collect();
        let running = Running { actions: actions.clone(), life, couriers };
        self.running.lock().insert(name.to_owned(), running);
        self.log(|| format!("{name} starts"));
        actions
    }

    /// Ends a process, as a crash does.
    pub(super) async fn crash(&self, name: &ServerName) {
        let Some(running) = self.running.lock().remove(name) else { return };
        running.life.end();
        self.log(|| format!("{name} crashes"));
        running.couriers.iter().for_each(AbortHandle::abort);
        running.actions.jobs.stop().await;
    }

    pub(super) fn actions(&self, name: &ServerName) -> Option<Actions> {
        let running = self.running.lock();
        running.get(name).filter(|running| !running.life.is_over()).map(|running| running.actions.clone())
    }

    pub(super) fn life(&self, name: &ServerName) -> Option<Arc<Life>> {
        self.running.lock().get(name).map(|running| Arc::clone(&running.life))
    }

    /// One way from one server to another.
    pub(super) async fn travel(&self, from: &ServerName, to: &ServerName) -> Result<(), PeerError> {
        let weather = self.weather.lock().clone();
        let is_lost = self.chance(weather.lost) || weather.cut.contains(&(from.to_owned(), to.to_owned()));
        pass(1 + self.below(weather.delay_max)).await;
        if is_lost {
            pass(PATIENCE_MS).await;
            return Err(PeerError::Unreachable);
        }
        Ok(())
    }
}

impl World {
    /// The room that an event says it is of.
    pub(super) fn room_of(&self, pdu: &Pdu) -> Option<OwnedRoomId> {
        let event: serde_json::Value = serde_json::from_str(pdu.get()).ok()?;
        match event["room_id"].as_str() {
            Some(room_id) => OwnedRoomId::try_from(room_id).ok(),
            None => self.room_id.lock().clone(),
        }
    }

    pub(super) fn seen(&self, ids: impl Iterator<Item = OwnedEventId>) {
        let mut seen = self.seen.lock();
        for id in ids {
            if seen.0.insert(id.clone()) {
                seen.1.push(id);
            }
        }
    }
}

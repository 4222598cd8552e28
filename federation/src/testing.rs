//! What tests of this crate share: a clock that is moved, lots that are known.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use ruma::{MilliSecondsSinceUnixEpoch, UInt};
use tokio::sync::watch;

use crate::clock::{Ambient, Clock, Random, Waiting, later};

/// A clock that stands still until it is moved.
pub(crate) struct Hands(watch::Sender<MilliSecondsSinceUnixEpoch>);

impl Hands {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.send_modify(|now| *now = later(*now, by));
    }
}

impl Clock for Hands {
    fn now(&self) -> MilliSecondsSinceUnixEpoch {
        *self.0.borrow()
    }

    fn sleep_until(&self, at: MilliSecondsSinceUnixEpoch) -> Waiting<'_> {
        let mut hands = self.0.subscribe();
        Box::pin(async move {
            hands.wait_for(|now| *now >= at).await.unwrap();
        })
    }
}

/// Numbers that are known beforehand, then always the same one, or counted up.
pub(crate) struct Lots {
    first: Mutex<VecDeque<u64>>,
    then: AtomicU64,
    step: u64,
}

impl Lots {
    pub(crate) fn always(number: u64) -> Self {
        Self { first: Mutex::default(), then: AtomicU64::new(number), step: 0 }
    }

    pub(crate) fn counted() -> Self {
        Self { first: Mutex::default(), then: AtomicU64::new(1), step: 1 }
    }
}

impl Random for Lots {
    fn next(&self) -> u64 {
        self.first.lock().pop_front().unwrap_or_else(|| self.then.fetch_add(self.step, Ordering::SeqCst))
    }
}

/// A moment in 2023, so that what is subtracted from it is not before 1970.
pub(crate) const START: u64 = 1_700_000_000_000;

pub(crate) fn hands() -> Arc<Hands> {
    let start = MilliSecondsSinceUnixEpoch(UInt::try_from(START).unwrap());
    Arc::new(Hands(watch::Sender::new(start)))
}

pub(crate) fn ambient_with(lots: Lots) -> Ambient {
    Ambient { clock: hands(), random: Arc::new(lots) }
}

pub(crate) fn ambient(hands: &Arc<Hands>) -> Ambient {
    let clock: Arc<dyn Clock> = Arc::<Hands>::clone(hands);
    Ambient { clock, random: Arc::new(Lots::counted()) }
}

mod servers;

pub(crate) use servers::{Kept, Names, Scripted, Seen, Web, connections, scripted};

//! A server of ours and a real Synapse in the same rooms, for each room version and with the room made on either side. Both are used as their users do: ours through
//! `/v1`, the Synapse through the client-server API. Each scenario ends with both servers agreeing on the room (`agreement.rs`).
#![cfg(test)]

mod agreement;
mod joining;
mod partner;
mod signatures;
mod synapse;
mod user;

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::join_all};
use partner::Partner;
use synapse::Synapse;
use user::{Access, User};

const VERSIONS: [&str; 3] = ["10", "11", "12"];
/// How long something may take that both servers have a part in, while other tests run.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Where a room is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Ours,
    Theirs,
}

/// One run of a scenario: the host makes the room, the guest comes from the other server.
struct Scene {
    version: &'static str,
    synapse: &'static Synapse,
    partner: Arc<Partner>,
    host: User,
    guest: User,
}

impl Scene {
    async fn new(version: &'static str, home: Home, synapse: &'static Synapse, partner: &Arc<Partner>) -> Self {
        let ours = User::Ours(partner.account(&unique("alice")).await);
        let theirs = User::Theirs(synapse.account(&unique("rita")).await);
        let (host, guest) = if home == Home::Ours { (ours, theirs) } else { (theirs, ours) };
        Self { version, synapse, partner: Arc::clone(partner), host, guest }
    }

    /// A room of the host that everybody may enter.
    async fn open_room(&self) -> String {
        self.host.makes_room(self.version, Access::Everybody, "Tents").await
    }

    /// A room of the host that the guest was invited to and is in.
    async fn shared_room(&self) -> String {
        let room = self.host.makes_room(self.version, Access::Invited, "Tents").await;
        self.host.does("invite", &room, &self.guest).await;
        self.guest.is_invited(&room).await;
        self.guest.joins(&room, self.host.server()).await;
        room
    }
}

/// Runs a scenario for each room version and with the room on either side, all at the same time, with one server of ours.
async fn everywhere(scenario: impl AsyncFn(Scene)) {
    let Some(synapse) = synapse::synapse() else { return };
    let partner = Arc::new(Partner::of(synapse).await);
    let (scenario, partner_of_all) = (&scenario, &partner);
    let runs = VERSIONS.into_iter().flat_map(|version| [Home::Ours, Home::Theirs].map(|home| (version, home)));
    let runs = runs.map(|(version, home)| async move {
        let scene = Scene::new(version, home, synapse, partner_of_all).await;
        let run = AssertUnwindSafe(scenario(scene)).catch_unwind().await;
        run.err().map(|_| format!("version {version}, the room is {home:?}"))
    });
    let failed: Vec<String> = join_all(runs).await.into_iter().flatten().collect();
    partner.stop().await;
    assert!(failed.is_empty(), "failed: {}", failed.join("; "));
}

/// A name that nobody else has.
fn unique(name: &str) -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Waits until something is true.
async fn eventually(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    agreed(what, async || if is_true().await { Ok(()) } else { Err(String::new()) }).await;
}

/// Waits until nothing is in the way any more.
async fn agreed(what: &str, mut look: impl AsyncFnMut() -> Result<(), String>) {
    let started = Instant::now();
    while let Err(obstacle) = look().await {
        assert!(started.elapsed() < WAIT_MAX, "after {WAIT_MAX:?} still not: {what}\n{obstacle}");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

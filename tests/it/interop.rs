//! A server of ours and a real Synapse in the same rooms, for each room version and with the room made on either side. Both are used as their users do: ours through
//! `/v1`, the Synapse through the client-server API. Each scenario ends with both servers agreeing on the room (`agreement.rs`).
#![cfg(test)]

mod agreement;
mod bundles;
mod direct;
mod history;
mod joining;
mod links;
mod moderation;
mod moving;
mod partner;
mod people;
mod relay;
mod signatures;
mod storm;
mod synapse;
mod toggles;
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
use serde_json::Value;
use synapse::{Synapse, TURNS};
use tokio::sync::SemaphorePermit;
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

const HOMES: [Home; 2] = [Home::Ours, Home::Theirs];

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
        let other = if home == Home::Ours { Home::Theirs } else { Home::Ours };
        let (host, guest) = (somebody(home, synapse, partner).await, somebody(other, synapse, partner).await);
        Self { version, synapse, partner: Arc::clone(partner), host, guest }
    }

    /// Who is of our server.
    fn ours(&self) -> &User {
        if self.host.home() == Home::Ours { &self.host } else { &self.guest }
    }

    /// Who is of the Synapse.
    fn theirs(&self) -> &User {
        if self.host.home() == Home::Theirs { &self.host } else { &self.guest }
    }

    /// Somebody else of the guest's server.
    async fn another_guest(&self) -> User {
        somebody(self.guest.home(), self.synapse, &self.partner).await
    }

    /// Somebody else of the host's server.
    async fn another_host(&self) -> User {
        somebody(self.host.home(), self.synapse, &self.partner).await
    }

    /// The levels that people of the room have, but for the guest's.
    async fn levels_without_guest(&self, room: &str) -> Value {
        let mut levels = self.host.content(room, "m.room.power_levels", "").await.unwrap()["users"].take();
        levels.as_object_mut().unwrap().remove(self.guest.id());
        levels
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

/// A new account.
async fn somebody(home: Home, synapse: &'static Synapse, partner: &Partner) -> User {
    match home {
        Home::Ours => User::Ours(partner.account(&unique("alice")).await),
        Home::Theirs => User::Theirs(synapse.account(&unique("rita")).await),
    }
}

/// The runs of one scenario: for each room version and with the room on either side, with one server of ours.
struct Scenes {
    synapse: &'static Synapse,
    partner: Arc<Partner>,
    runs: Vec<(String, Scene)>,
    _turn: SemaphorePermit<'static>,
}

impl Scenes {
    /// None: `YURT_TEST_PEER=none` leaves the Synapse out.
    async fn new() -> Option<Self> {
        let synapse = synapse::synapse()?;
        Some(Self::with(synapse, synapse.turns.acquire().await.unwrap()).await)
    }

    /// While no other scenario runs, so that the link can be cut.
    async fn alone() -> Option<Self> {
        let synapse = synapse::synapse()?;
        Some(Self::with(synapse, synapse.turns.acquire_many(TURNS).await.unwrap()).await)
    }

    async fn with(synapse: &'static Synapse, turn: SemaphorePermit<'static>) -> Self {
        let partner = Arc::new(Partner::of(synapse).await);
        let mut runs = Vec::new();
        for (version, home) in VERSIONS.into_iter().flat_map(|version| HOMES.map(|home| (version, home))) {
            let name = format!("version {version}, the room is {home:?}");
            runs.push((name, Scene::new(version, home, synapse, &partner).await));
        }
        Self { synapse, partner, runs, _turn: turn }
    }

    /// Does a part of the scenario in all runs at the same time.
    async fn each<T>(&self, part: impl AsyncFn(&Scene) -> T) -> Vec<T> {
        self.each_in(&[(); VERSIONS.len() * HOMES.len()], async |scene: &Scene, (): &()| part(scene).await).await
    }

    /// Does a part of the scenario in all runs at the same time, each with what an earlier part has left.
    async fn each_in<G, T>(&self, given: &[G], part: impl AsyncFn(&Scene, &G) -> T) -> Vec<T> {
        let run = async |scene: &Scene, given: &G| AssertUnwindSafe(part(scene, given)).catch_unwind().await;
        let done = join_all(self.runs.iter().zip(given).map(|((_, scene), given)| run(scene, given))).await;
        let failed = self.runs.iter().zip(&done).filter(|(_, done)| done.is_err());
        let failed: Vec<&str> = failed.map(|((name, _), _)| name.as_str()).collect();
        assert!(failed.is_empty(), "failed: {}", failed.join("; "));
        done.into_iter().flatten().collect()
    }

    /// Cuts the link between the two servers.
    fn cut(&self) -> Cut<'_> {
        self.partner.relay.cut();
        self.synapse.relay.cut();
        Cut(self)
    }

    async fn end(self) {
        self.partner.stop().await;
    }
}

/// A link that is cut until this goes.
struct Cut<'a>(&'a Scenes);

impl Cut<'_> {
    fn mend(self) {}
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        self.0.partner.relay.mend();
        self.0.synapse.relay.mend();
    }
}

/// Runs a scenario of one part.
async fn everywhere(scenario: impl AsyncFn(&Scene)) {
    let Some(scenes) = Scenes::new().await else { return };
    scenes.each(scenario).await;
    scenes.end().await;
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

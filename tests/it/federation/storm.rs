//! Several servers of ours in one process, whose links lose, delay, repeat and reorder, which crash, and of which one may lie. Everything is driven by a seed: time
//! and chance are simulated, and all servers share one thread, so that a seed does the same each time. After the storm all honest servers have the same room.
//!
//! `YURT_TEST_SEEDS` says how many seeds a run tries, or which (`5000..6000`); `YURT_TEST_SEED` replays one and prints what happened.

mod agreement;
mod deeds;
mod lies;
mod links;
mod servers;
mod world;

use std::{
    collections::BTreeMap,
    io::Write as _,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rules::kind::RoomKind;
use ruma::{OwnedRoomId, OwnedServerName, ServerName};
use yurt::actions::{
    Actions, Caller,
    accounts::{self, NewAccount},
    creation::{self, NewRoom},
};

use agreement::{Opinion, fill_holes, known_of};
use deeds::{Person, deed};
use servers::pass;
use world::{Weather, World};

/// Seeds of one run, where nothing else is said.
const SEEDS: u64 = 700;
/// Seeds that are run twice, to see that they do the same.
const REPLAYED: u64 = 3;
/// How often is looked whether the servers agree, and the time between, in milliseconds.
const LOOKS: usize = 20;
const BETWEEN_LOOKS_MS: u64 = 10 * 60 * 1_000;

/// Longer than any deed takes, however bad the weather.
const DEED_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Only links.
    Links,
    /// Links, and servers crash.
    Crashes,
    /// The same, and one server lies.
    Lies,
}

struct Storm {
    world: Arc<World>,
    people: Vec<Person>,
    trouble: Trouble,
    tasks: tokio::task::JoinSet<()>,
}

fn names(count: u64) -> Vec<OwnedServerName> {
    ["a", "b", "c", "d", "e"]
        .iter()
        .take(usize::try_from(count).unwrap())
        .map(|name| ServerName::parse(format!("{name}.example")).unwrap())
        .collect()
}

async fn account(actions: &Actions, name: &str) -> Caller {
    accounts::create(actions, NewAccount { username: name.to_owned(), ..NewAccount::default() }).await.unwrap();
    Caller::local(&accounts::user_id(actions, name).unwrap(), false)
}

impl Storm {
    async fn gather(seed: u64, trouble: Trouble, is_kept: bool) -> Self {
        let names = names(3 + seed % 3);
        let world = World::new(seed, &names, trouble == Trouble::Lies, is_kept);
        let mut people = Vec::new();
        for server in &names {
            let actions = world.start_server(server).await;
            for number in 0..2 {
                let caller = account(&actions, &format!("{}{number}", &server.as_str()[..1])).await;
                people.push(Person { server: server.clone(), caller });
            }
        }
        *world.version.lock() = (*world.pick(&["10", "11", "12"])).to_owned();
        let new = NewRoom {
            kind: Some(RoomKind::Group),
            name: Some("Storm".to_owned()),
            is_public: Some(true),
            version: Some(world.version.lock().clone()),
            ..NewRoom::default()
        };
        world.log(|| format!("{trouble:?}, version {:?}", new.version));
        let actions = world.actions(&names[0]).unwrap();
        let room_id = creation::create(&actions, &people[0].caller, new).await.unwrap();
        *world.room_id.lock() = Some(room_id);
        Self { world, people, trouble, tasks: tokio::task::JoinSet::new() }
    }

    fn room_id(&self) -> OwnedRoomId {
        self.world.room_id.lock().clone().unwrap()
    }

    /// One of each server joins, and some get power.
    async fn begin(&self) {
        let creator = &self.people[0];
        for person in self.people.iter().step_by(2).skip(1) {
            let actions = self.world.actions(&person.server).unwrap();
            let _ = deeds::join(&self.world, &actions, person, std::slice::from_ref(creator)).await;
            let actions = self.world.actions(&creator.server).unwrap();
            if self.world.chance(70) {
                let _ = deeds::empower(&self.world, &actions, creator, &person.caller.user_id).await;
            }
        }
    }

    async fn rage(&mut self) {
        let world = Arc::clone(&self.world);
        let weather = Weather {
            lost: u32::try_from(world.below(30)).unwrap(),
            repeated: u32::try_from(world.below(30)).unwrap(),
            delay_max: *world.pick(&[50, 500, 5_000]),
            ..Weather::default()
        };
        *world.weather.lock() = weather;
        let deeds = 15 + world.below(40);
        for number in 0..deeds {
            pass(world.below(*world.pick(&[10, 1_000, 20_000]))).await;
            self.trouble().await;
            let person = world.pick(&self.people).clone();
            let Some(actions) = world.actions(&person.server) else { continue };
            let (world, people) = (Arc::clone(&world), self.people.clone());
            let Some(life) = world.life(&person.server) else { continue };
            self.tasks.spawn(async move {
                let done = tokio::time::timeout(DEED_MAX, deed(&world, &actions, &person, &people, number));
                tokio::select! {
                    done = done => assert!(done.is_ok(), "deed {number} of {} never ends", person.caller.user_id),
                    () = life.ended() => {}
                }
            });
        }
    }

    /// A link breaks or heals, a server crashes or comes back.
    async fn trouble(&mut self) {
        let world = &self.world;
        let names: Vec<OwnedServerName> = world.signers.keys().cloned().collect();
        if world.chance(10) {
            let (from, to) = (world.pick(&names).clone(), world.pick(&names).clone());
            world.log(|| format!("nothing goes from {from} to {to}"));
            world.weather.lock().cut.insert((from, to));
        }
        if world.chance(10) {
            world.log(|| "all links heal".to_owned());
            world.weather.lock().cut.clear();
        }
        if world.chance(3) {
            pass(world.below(3 * 60 * 60 * 1_000)).await;
        }
        if self.trouble == Trouble::Links {
            return;
        }
        if world.chance(8) {
            let name = world.pick(&names);
            let life = world.life(name);
            if let Some(life) = life {
                life.end_after(world.below(12), world.chance(50));
            }
        }
        for name in &names {
            let is_over = world.running.lock().get(name).is_some_and(|running| running.life.is_over());
            if is_over {
                world.crash(name).await;
            } else if world.actions(name).is_none() && world.chance(30) {
                world.start_server(name).await;
            }
        }
    }

    /// The links heal, all servers run.
    async fn calm(&mut self) {
        *self.world.weather.lock() = Weather { delay_max: 100, is_calm: true, ..Weather::default() };
        let names: Vec<OwnedServerName> = self.world.signers.keys().cloned().collect();
        for name in &names {
            let life = self.world.life(name);
            match life {
                Some(life) if !life.is_over() => life.end_after(servers::FOR_EVER, false),
                Some(_) => {
                    self.world.crash(name).await;
                    self.world.start_server(name).await;
                }
                None => drop(self.world.start_server(name).await),
            }
        }
        self.world.log(|| "it is calm".to_owned());
        while let Some(done) = self.tasks.join_next().await {
            done.unwrap();
        }
    }

    fn honest(&self) -> Vec<OwnedServerName> {
        self.world.signers.keys().filter(|name| !self.world.is_liar(name)).cloned().collect()
    }

    async fn opinions(&self) -> BTreeMap<OwnedServerName, Opinion> {
        let mut opinions = BTreeMap::new();
        for name in self.honest() {
            let actions = self.world.actions(&name).unwrap();
            if let Some(opinion) = Opinion::of(&actions, &self.room_id()).await {
                opinions.insert(name, opinion);
            }
        }
        // Whoever came in while it was put out elsewhere is told so by nobody: no server sends to one that is not in the room. It is alone in a room of its own.
        while let Some(alone) = opinions.keys().find(|name| {
            opinions.len() > 1
                && opinions.iter().all(|(other, opinion)| other == *name || !opinion.servers.contains(*name))
        }) {
            let alone = alone.clone();
            self.world.log(|| format!("{alone} is in the room for nobody else"));
            opinions.remove(&alone);
        }
        opinions
    }

    async fn differences(&self) -> Vec<String> {
        let opinions = self.opinions().await;
        let known = known_of(opinions.values());
        let mut all = opinions.iter();
        let Some((first, ours)) = all.next() else { return Vec::new() };
        all.flat_map(|(name, theirs)| {
            let found = ours.differences(theirs, &known);
            found.into_iter().map(move |difference| format!("{first} or {name}: {difference}"))
        })
        .collect()
    }

    /// Looks until the servers agree. What remains when it is no use.
    async fn settle(&self) -> Vec<String> {
        let (mut differences, honest) = (Vec::new(), self.honest());
        for look in 0..LOOKS {
            pass(BETWEEN_LOOKS_MS).await;
            differences = self.differences().await;
            if differences.is_empty() {
                break;
            }
            for name in &honest {
                let actions = self.world.actions(name).unwrap();
                let admin = Caller::local(&accounts::user_id(&actions, "admin").unwrap(), true);
                fill_holes(&actions, &admin, &self.room_id(), &honest).await;
            }
            // What only one server has heard of is named by what it says next.
            for person in self.people.iter().filter(|person| look >= LOOKS / 2 && honest.contains(&person.server)) {
                let actions = self.world.actions(&person.server).unwrap();
                let _ = deeds::say(&self.world, &actions, person, 1_000).await;
            }
        }
        differences
    }
}

/// What became of one seed.
struct Outcome {
    differences: Vec<String>,
    trace: Vec<String>,
    hash: String,
}

fn run(seed: u64, trouble: Trouble, is_kept: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut storm = Storm::gather(seed, trouble, is_kept).await;
        storm.begin().await;
        storm.rage().await;
        storm.calm().await;
        let differences = storm.settle().await;
        for (name, opinion) in storm.opinions().await {
            storm.world.log(|| format!("{name} in the end: {opinion:#?}"));
        }
        let (trace, hash) = storm.world.trace();
        Outcome { differences, trace, hash }
    })
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("YURT_TEST_SEEDS") else { return 0..SEEDS };
    match text.split_once("..") {
        Some((from, to)) => from.parse().unwrap()..to.parse().unwrap(),
        None => 0..text.parse().unwrap(),
    }
}

/// Runs all seeds, on all cores.
fn all_agree(trouble: Trouble) {
    if let Ok(seed) = std::env::var("YURT_TEST_SEED") {
        let outcome = run(seed.parse().unwrap(), trouble, true);
        writeln!(std::io::stdout(), "{}", outcome.trace.join("\n")).unwrap();
        assert!(outcome.differences.is_empty(), "the servers differ:\n{}", outcome.differences.join("\n"));
        return;
    }
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= seeds.end || failed.lock().len() >= 10 {
                return;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, trouble, false)));
            let complaint = match outcome {
                Ok(outcome) if outcome.differences.is_empty() => continue,
                Ok(outcome) => outcome.differences.into_iter().take(6).collect::<Vec<_>>().join("\n"),
                Err(_) => "it panics".to_owned(),
            };
            failed.lock().insert(seed, complaint);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner();
    let told: Vec<String> =
        failed.iter().map(|(seed, complaint)| format!("YURT_TEST_SEED={seed}:\n{complaint}")).collect();
    assert!(failed.is_empty(), "after a storm ({trouble:?}) servers differ:\n{}", told.join("\n"));
}

#[test]
fn after_links_have_lost_delayed_repeated_and_reordered_all_servers_agree() {
    all_agree(Trouble::Links);
}

#[test]
fn after_servers_have_crashed_all_servers_agree() {
    all_agree(Trouble::Crashes);
}

#[test]
fn after_one_server_has_lied_all_honest_servers_agree() {
    all_agree(Trouble::Lies);
}

#[test]
fn a_seed_does_the_same_each_time() {
    for seed in 0..REPLAYED {
        let (first, second) = (run(seed, Trouble::Lies, true), run(seed, Trouble::Lies, true));
        let (one, other) = (first.trace.join("\n"), second.trace.join("\n"));
        let differing = one.lines().zip(other.lines()).find(|(one, other)| one != other);
        assert_eq!(first.hash, second.hash, "seed {seed}: {differing:?}");
    }
}

//! What it costs to make a bundle of a room, to check it, and to take it in, beside what the machine allows in the same run: SHA-256, checks of signatures, deflate,
//! synced writes. `make bench BENCHES='--bench bundle'`; Markdown goes to stdout, progress to stderr. `YURT_BENCH=quick` measures less,
//! `YURT_BENCH=large` a room of 1,000,000 events and 5 GB of media, for which 20 GB of disk have to be free.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::disallowed_methods,
    reason = "a program for people that may stop at the first surprise"
)]

mod machine;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use ruma::{OwnedRoomId, OwnedUserId};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use yurt::{
    actions::{
        Actions, Caller,
        accounts::{self, NewAccount},
        bundle::{self, Answered, Content, Options, Whose},
        creation::{self, NewRoom},
        jobs, media,
        messages::{self, NewMessage},
    },
    bundle::{Archive, Limits, manifest},
    config::Config,
    server,
};

use machine::Machine;

/// As in the server, because its memory is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How much is measured.
struct Scale {
    events: usize,
    media: usize,
    time: Duration,
}

/// Bytes of a medium.
const MEDIUM_BYTES: usize = 4 * 1024 * 1024;
/// Messages that are sent at the same time while the room is made.
const SENT_AT_ONCE: usize = 64;
/// Messages in another room before something is measured.
const SENT_BEFORE: usize = 50_000;
/// Between two sends into another room.
const BETWEEN_SENDS: Duration = Duration::from_millis(2);

impl Scale {
    fn of_environment() -> Self {
        match std::env::var("YURT_BENCH").as_deref() {
            Ok("quick") => Self { events: 5_000, media: 8, time: Duration::from_secs(1) },
            Ok("large") => Self { events: 1_000_000, media: 1_200, time: Duration::from_secs(3) },
            _ => Self { events: 100_000, media: 128, time: Duration::from_secs(3) },
        }
    }
}

/// A server that is worked on without being started.
struct Home {
    folder: PathBuf,
    config: Config,
    person: OwnedUserId,
}

impl Home {
    async fn new(folder: &Path, keys_of: Option<&Self>) -> Self {
        fs::create_dir_all(folder.join("data")).unwrap();
        if let Some(other) = keys_of {
            let at = |folder: &Path| folder.join("data/tenants/main");
            fs::create_dir_all(at(folder)).unwrap();
            fs::copy(at(&other.folder).join("signing.key"), at(folder).join("signing.key")).unwrap();
        }
        let file = folder.join("config.toml");
        let text = "data_dir = \"data\"\nfederation = { enabled = false }\nlog = { level = \"warn\" }\n\
                    bundle = { upload_bytes_max = 100000000000 }\nmedia = { upload_bytes_max = 10000000 }\n\
                    [[tenant]]\nname = \"main\"\nserver_name = \"bench.test\"\n";
        fs::write(&file, text).unwrap();
        let mut config = Config::load(&file, []).expect("a configuration");
        config.data_dir = folder.join("data");
        let offline = server::open_offline(&config, &config.tenant[0]).await.expect("the folder opens");
        let new = NewAccount { username: "alice".to_owned(), is_admin: true, ..NewAccount::default() };
        let person = accounts::create(offline.actions(), new).await.expect("an account").user_id;
        offline.close().await.expect("the folder closes");
        Self { folder: folder.to_owned(), config, person }
    }

    async fn with<T>(&self, work: impl AsyncFnOnce(&Actions, &Caller) -> T) -> T {
        let offline = server::open_offline(&self.config, &self.config.tenant[0]).await.expect("the folder opens");
        let done = work(offline.actions(), &Caller::local(&self.person, true)).await;
        offline.close().await.expect("the folder closes");
        done
    }
}

/// A room with messages and media.
async fn furnish(actions: &Actions, alice: &Caller, scale: &Scale) -> OwnedRoomId {
    let new = NewRoom { name: Some("Tents".to_owned()), ..NewRoom::default() };
    let room = creation::create(actions, alice, new).await.unwrap();
    let say = |content: serde_json::Value| {
        let room = room.clone();
        async move { send(actions, alice, &room, content).await }
    };
    let sending = (0..scale.events).map(|number| {
        let words = "felt and poles and rope ".repeat(number % 9);
        say(json!({"msgtype": "m.text", "body": format!("message {number} {words}")}))
    });
    futures_util::stream::iter(sending).buffer_unordered(SENT_AT_ONCE).for_each(async |_| {}).await;
    for number in 0..scale.media {
        let mut content = machine::noise(MEDIUM_BYTES);
        content[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let body = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(content))]);
        let kept =
            media::upload(actions, alice, body, Some("felt.bin"), Some("application/octet-stream")).await.unwrap();
        say(json!({"msgtype": "m.file", "body": "felt.bin", "url": kept.mxc})).await;
    }
    room
}

async fn send(actions: &Actions, alice: &Caller, room: &OwnedRoomId, content: serde_json::Value) {
    let message = NewMessage {
        event_type: "m.room.message".to_owned(),
        content,
        reply_to: None,
        transaction_id: None,
        fingerprint: [0; 32],
    };
    messages::send(actions, alice, room.as_str(), message).await.unwrap();
}

/// What others of the same server notice of some work: how long sends into another room took meanwhile, the shortest first.
struct Sends(Vec<Duration>);

impl Sends {
    /// Sends now and then, as long as the work lasts.
    async fn beside(actions: &Actions, alice: &Caller, work: impl Future<Output = ()>) -> Self {
        let room = warm_up(actions, alice).await;
        let (actions, alice, is_over) = (actions.clone(), alice.clone(), Arc::new(AtomicBool::new(false)));
        let sending = {
            let is_over = Arc::clone(&is_over);
            tokio::spawn(async move {
                let mut took = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    send(&actions, &alice, &room, json!({"msgtype": "m.text", "body": "and next door"})).await;
                    took.push(started.elapsed());
                    tokio::time::sleep(BETWEEN_SENDS).await;
                }
                took
            })
        };
        work.await;
        is_over.store(true, Ordering::Relaxed);
        let mut took = sending.await.unwrap();
        took.sort_unstable();
        Self(took)
    }

    fn text(&self) -> String {
        let of = |part: usize| self.0[(self.0.len() - 1) * part / 100].as_secs_f64() * 1e3;
        format!("{:.2}, {:.2} ms", of(50), of(99))
    }
}

/// Sends so much into another room that the server's buffers are those of one at work.
async fn warm_up(actions: &Actions, alice: &Caller) -> OwnedRoomId {
    let new = NewRoom { name: Some("Next door".to_owned()), ..NewRoom::default() };
    let room = creation::create(actions, alice, new).await.unwrap();
    let body = "felt and poles and rope ".repeat(20);
    let sending = (0..SENT_BEFORE).map(|_| send(actions, alice, &room, json!({"msgtype": "m.text", "body": body})));
    futures_util::stream::iter(sending).buffer_unordered(SENT_AT_ONCE).for_each(async |()| {}).await;
    room
}

/// What something took, and by how much the memory of this process grew meanwhile.
struct Took {
    time: Duration,
    grown_mb: f64,
}

async fn measured<T>(work: impl Future<Output = T>) -> (T, Took) {
    let before = resident();
    let (most, is_over) = (Arc::new(AtomicU64::new(before)), Arc::new(AtomicBool::new(false)));
    let watching = {
        let (most, is_over) = (Arc::clone(&most), Arc::clone(&is_over));
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                most.fetch_max(resident(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        })
    };
    let started = Instant::now();
    let done = work.await;
    let time = started.elapsed();
    is_over.store(true, Ordering::Relaxed);
    watching.join().unwrap();
    let grown_mb = (most.load(Ordering::Relaxed) - before) as f64 / 1e6;
    (done, Took { time, grown_mb })
}

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

async fn export(actions: &Actions, alice: &Caller, (room, media): (&OwnedRoomId, bool), file: &Path) {
    let content = Content { media, personal: Whose::Nobodys };
    let export =
        bundle::export_as_admin(actions, alice, yurt::actions::audit::Actor::CommandLine, room.as_str(), content)
            .await
            .unwrap();
    let mut out = tokio::fs::File::create(file).await.unwrap();
    let mut pieces = Box::pin(export.into_stream());
    while let Some(piece) = pieces.next().await {
        out.write_all(&piece.unwrap()).await.unwrap();
    }
    out.sync_all().await.unwrap();
}

async fn import(actions: &Actions, alice: &Caller, file: &Path) {
    let spooled = bundle::spool_file(actions, alice, file).await.unwrap();
    match bundle::import(actions, alice, spooled, Options::default()).await.unwrap() {
        Answered::Done(imported) => assert!(imported.created),
        Answered::Later(job_id) => loop {
            let job = jobs::get(actions, alice, &job_id).await.unwrap().job;
            if job.state.is_over() {
                assert_eq!(job.error, None);
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        },
    }
}

fn verify(file: &Path, scratch: &Path) -> u64 {
    let archive = Archive::open(file, Limits { bytes_max: u64::MAX, ..Limits::default() }).unwrap();
    let keys = manifest::ring(&archive.manifest().unwrap().manifest.verify_keys).unwrap();
    yurt::bundle::verify(&archive, &keys, scratch, &mut |_| Ok(())).unwrap().events
}

fn row(what: &str, took: &Took, (events, bytes): (f64, f64), sends: Option<&Sends>, limit: &str) {
    let seconds = took.time.as_secs_f64();
    let (per_second, mb) = (events / seconds, bytes / seconds / 1e6);
    let (grown, sends) = (took.grown_mb, sends.map_or_else(String::new, Sends::text));
    println!("| {what} | {seconds:.1} s | {per_second:.0} | {mb:.0} | {grown:.0} MB | {sends} | {limit} |");
}

#[tokio::main]
async fn main() {
    let scale = Scale::of_environment();
    // Beside the build, so that it is a disk and no memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let machine = Machine::measure(folder.path(), scale.time);
    machine.print();
    let old = Home::new(&folder.path().join("old"), None).await;
    eprintln!("a room with {} messages and {} MB of media", scale.events, scale.media * MEDIUM_BYTES / 1_000_000);
    let room = old.with(async |actions, alice| furnish(actions, alice, &scale).await).await;
    let (talk, all) = (folder.path().join("talk.zip"), folder.path().join("all.zip"));
    let nothing = async || tokio::time::sleep(scale.time).await;
    let at_rest = old.with(async |actions, alice| Sends::beside(actions, alice, nothing()).await).await;
    println!("\nA send into another room takes {} (p50, p99) while nothing else is done.\n", at_rest.text());
    println!("| | time | events/s | MB/s | memory grew by | a send into another room | of what the machine allows |");
    println!("|---|---|---|---|---|---|---|");
    for (file, with_media) in [(&talk, false), (&all, true)] {
        let what = if with_media { "with media" } else { "events alone" };
        eprintln!("{what}");
        // Alone for the time and the memory, and again for what others notice of it.
        let exported = old.with(async |actions, alice| {
            warm_up(actions, alice).await;
            measured(Box::pin(export(actions, alice, (&room, with_media), file))).await.1
        });
        let took = exported.await;
        let again = async |actions: &Actions, alice: &Caller| {
            Sends::beside(actions, alice, Box::pin(export(actions, alice, (&room, with_media), file))).await
        };
        let sends = old.with(again).await;
        let archive = Archive::open(file, Limits { bytes_max: u64::MAX, ..Limits::default() }).unwrap();
        let entries = archive.manifest().unwrap().manifest.entries;
        let inflated: u64 = entries.values().map(|facts| facts.size).sum();
        drop(archive);
        let (verified, checked) = measured(async { verify(file, folder.path()) }).await;
        let size = (verified as f64, inflated as f64);
        let rate = |took: &Took| size.0 / took.time.as_secs_f64();
        row(&format!("export, {what}"), &took, size, Some(&sends), "");
        let of_checks = format!("{:.0} % of signature checks", 100.0 * rate(&checked) / machine.checks);
        row(&format!("verify, {what}"), &checked, size, None, if with_media { "" } else { &of_checks });
        let new = Home::new(&folder.path().join("new"), Some(&old)).await;
        let imported = new.with(async |actions, alice| {
            warm_up(actions, alice).await;
            measured(Box::pin(import(actions, alice, file))).await.1
        });
        let imported = imported.await;
        fs::remove_dir_all(&new.folder).unwrap();
        let new = Home::new(&new.folder, Some(&old)).await;
        let again = async |actions: &Actions, alice: &Caller| {
            Sends::beside(actions, alice, Box::pin(import(actions, alice, file))).await
        };
        let sends = new.with(again).await;
        fs::remove_dir_all(&new.folder).unwrap();
        let of_verify = format!("{:.0} % of verify", 100.0 * rate(&imported) / rate(&checked));
        row(&format!("durable import, {what}"), &imported, size, Some(&sends), &of_verify);
    }
}

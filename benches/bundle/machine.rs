//! What the machine allows.

use std::{
    fs::File,
    hint::black_box,
    io::Write as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rules::{
    UnixMs,
    keys::{Key, KeyRing, Validity},
    signature::{Signer, verify_json},
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedServerName};
use sha2::{Digest as _, Sha256};
use yurt::bundle::write::Writer;

/// Bytes of what is hashed, deflated and written at a time.
const PIECE_BYTES: usize = 1024 * 1024;
/// Bytes of an object whose signature is checked: those of a short message.
const SIGNED_BYTES: usize = 400;

/// What the machine can do in a second.
pub(crate) struct Machine {
    sha256_mb: f64,
    deflate_mb: f64,
    written_mb: f64,
    /// Signatures that all processors check.
    pub(crate) checks: f64,
}

impl Machine {
    pub(crate) fn measure(folder: &Path, time: Duration) -> Self {
        eprintln!("what the machine allows");
        Self {
            sha256_mb: sha256(time),
            deflate_mb: deflate(time),
            written_mb: written(folder, time),
            checks: checks(time),
        }
    }

    pub(crate) fn print(&self) {
        println!("| the machine | in a second |\n|---|---|");
        println!("| SHA-256, one processor | {:.0} MB |", self.sha256_mb);
        println!("| deflate and SHA-256 of events, one processor | {:.0} MB |", self.deflate_mb);
        println!("| written and synced | {:.0} MB |", self.written_mb);
        println!("| Ed25519 checks of {SIGNED_BYTES} bytes, all processors | {:.0} |", self.checks);
    }
}

/// Bytes that do not deflate.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(count)
    .collect()
}

/// How often something is done in a second.
fn per_second(time: Duration, mut work: impl FnMut()) -> f64 {
    let (started, mut count) = (Instant::now(), 0.0);
    while started.elapsed() < time {
        work();
        count += 1.0;
    }
    count / started.elapsed().as_secs_f64()
}

fn megabytes(pieces: f64) -> f64 {
    pieces * PIECE_BYTES as f64 / 1e6
}

fn sha256(time: Duration) -> f64 {
    let piece = noise(PIECE_BYTES);
    megabytes(per_second(time, || {
        black_box(Sha256::digest(black_box(&piece)));
    }))
}

/// As a bundle has them: ids, hashes and signatures deflate badly.
fn deflate(time: Duration) -> f64 {
    let event = |number: usize| {
        let random: String =
            noise(PIECE_BYTES)[number..number + 150].iter().map(|byte| char::from(b'0' + byte % 64)).collect();
        format!(
            "{{\"auth_events\":[],\"content\":{{\"body\":\"message {number}\",\"msgtype\":\"m.text\"}},\"depth\":{number},\"signatures\":\"{random}\"}}"
        )
    };
    let events: Vec<String> = (0..1_000).map(event).collect();
    let bytes: usize = events.iter().map(String::len).sum();
    let mut writer = Writer::default();
    let rounds = per_second(time, || {
        for event in &events {
            writer.event(event).unwrap();
        }
        black_box(writer.take());
    });
    rounds * bytes as f64 / 1e6
}

fn written(folder: &Path, time: Duration) -> f64 {
    let piece = noise(PIECE_BYTES);
    let mut file = File::create(folder.join("written")).unwrap();
    let started = Instant::now();
    let mut pieces = 0.0;
    while started.elapsed() < time {
        file.write_all(&piece).unwrap();
        pieces += 1.0;
    }
    file.sync_all().unwrap();
    megabytes(pieces / started.elapsed().as_secs_f64())
}

fn checks(time: Duration) -> f64 {
    let server: OwnedServerName = "bench.test".try_into().unwrap();
    let signer = Signer::new(server.clone(), "bench", &[7; 32]).unwrap();
    let mut keys = KeyRing::new();
    let key = Key { public: signer.public_key(), validity: Validity::Until(UnixMs(u64::MAX)) };
    keys.insert(server.clone(), signer.key_id(), key);
    let text = CanonicalJsonValue::String("x".repeat(SIGNED_BYTES));
    let mut object = CanonicalJsonObject::from([("body".to_owned(), text)]);
    signer.sign_json(&mut object);
    let check = || per_second(time, || verify_json(black_box(&object), &server, &keys).unwrap());
    let processors = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let running: Vec<_> = (0..processors).map(|_| scope.spawn(check)).collect();
        running.into_iter().map(|one| one.join().unwrap()).sum()
    })
}

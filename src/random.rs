//! Randomness as an argument: the system's, or a seeded one that a test can replay.

use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Where random bytes come from.
pub trait Random: Send + Sync {
    /// Fills the bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// A generator that was seeded by the operating system.
pub struct System(Mutex<StdRng>);

impl Default for System {
    fn default() -> Self {
        Self(Mutex::new(rand::make_rng()))
    }
}

impl Random for System {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().fill_bytes(bytes);
    }
}

/// A generator that gives the same bytes for the same seed.
pub struct Seeded(Mutex<StdRng>);

impl Seeded {
    /// The generator of this seed.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().fill_bytes(bytes);
    }
}

/// Random bytes.
pub fn bytes<const N: usize>(random: &dyn Random) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes);
    bytes
}

/// A random word of lower-case letters and digits; five bits a character.
pub fn word(random: &dyn Random, characters: usize) -> String {
    let mut bytes = vec![0; characters];
    random.fill(&mut bytes);
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte % 32))).map(|letter| char::from(*letter)).collect()
}

//! The Ed25519 keys this server signs with, and the file that holds them: the format of Synapse's `signing.key`, so that a
//! server can move here with its identity.
//!
//! One line a key: `ed25519 VERSION SEED`, the seed 32 bytes as base64. The first key signs; all are published.
//! Random bytes are given by the caller. May import: ruma, ed25519-dalek, `limits`.

use std::{collections::BTreeMap, fmt};

use ed25519_dalek::Signer as _;
use ruma::{
    MilliSecondsSinceUnixEpoch, SigningKeyAlgorithm, SigningKeyId,
    serde::Base64,
    signatures::{KeyPair, Signature},
};
use serde::{Deserialize, Serialize};

use crate::limits::KEYS_PER_SERVER_MAX;

/// Bytes of the version of a key of ours: it is part of every signature, so it stays short.
const VERSION_BYTES_MAX: usize = 64;

/// One key to sign with. Its secret half is never shown by `Debug`.
#[derive(Clone)]
pub struct SigningKey {
    version: String,
    secret: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// A key from its version (`a_1`, not `ed25519:a_1`) and its seed.
    ///
    /// # Errors
    /// When the version is empty, longer than 64 bytes, or holds anything but ASCII letters, digits and `_ - .`.
    pub fn new(version: &str, seed: &[u8; 32]) -> Result<Self, KeyFileError> {
        let in_use = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if version.is_empty() || version.len() > VERSION_BYTES_MAX || !version.bytes().all(in_use) {
            return Err(KeyFileError::Version);
        }
        Ok(Self { version: version.to_owned(), secret: ed25519_dalek::SigningKey::from_bytes(seed) })
    }

    /// A new key from 32 random bytes. Its version is taken from the public key, so that a key id is never used for two keys.
    pub fn from_random(seed: &[u8; 32]) -> Self {
        let secret = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = secret.verifying_key().to_bytes();
        let digits: String = public.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Self { version: format!("y_{digits}"), secret }
    }

    /// The part of the key id after the colon.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The id under which signatures with this key stand, `ed25519:VERSION`.
    pub fn key_id(&self) -> String {
        format!("ed25519:{}", self.version)
    }

    /// The secret half, for who signs outside this crate and for the key file.
    pub fn seed(&self) -> [u8; 32] {
        self.secret.to_bytes()
    }

    /// The public half.
    pub fn public_key(&self) -> [u8; 32] {
        self.secret.verifying_key().to_bytes()
    }
}

impl KeyPair for SigningKey {
    fn sign(&self, message: &[u8]) -> Signature {
        let key_id = SigningKeyId::from_parts(SigningKeyAlgorithm::Ed25519, self.version.as_str().into());
        Signature::new(key_id, self.secret.sign(message).to_bytes().to_vec())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SigningKey").field("version", &self.version).finish_non_exhaustive()
    }
}

/// The keys of one server: the one that signs, and others that are published beside it.
#[derive(Debug, Clone)]
pub struct SigningKeys {
    current: SigningKey,
    others: Vec<SigningKey>,
}

impl SigningKeys {
    /// A server with one key.
    pub fn one(current: SigningKey) -> Self {
        Self { current, others: Vec::new() }
    }

    /// Reads a key file. Blank lines, and blanks around a line's three words, do not matter.
    ///
    /// # Errors
    /// When a line is not a key, when a version stands twice, when there is no key or there are too many. The error names the
    /// line and never what stands in it.
    pub fn parse(text: &str) -> Result<Self, KeyFileLineError> {
        let mut keys: Vec<SigningKey> = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let at_line = |error| KeyFileLineError { line: index + 1, error };
            let key = parse_line(line).map_err(at_line)?;
            if keys.iter().any(|known| known.version == key.version) {
                return Err(at_line(KeyFileError::Twice));
            }
            if keys.len() == KEYS_PER_SERVER_MAX {
                return Err(at_line(KeyFileError::TooMany));
            }
            keys.push(key);
        }
        let mut keys = keys.into_iter();
        let current = keys.next().ok_or(KeyFileLineError { line: 1, error: KeyFileError::Empty })?;
        Ok(Self { current, others: keys.collect() })
    }

    /// The text of the key file.
    pub fn to_text(&self) -> String {
        self.iter().map(|key| format!("ed25519 {} {}\n", key.version, unpadded(&key.seed()))).collect()
    }

    /// The key that signs.
    pub fn current(&self) -> &SigningKey {
        &self.current
    }

    /// All keys, the one that signs first.
    pub fn iter(&self) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&self.current).chain(&self.others)
    }
}

/// What is wrong with a key file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {error}")]
pub struct KeyFileLineError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    #[source]
    pub error: KeyFileError,
}

/// What can be wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Not three words.
    #[error("a key is written as `ed25519 VERSION SEED`")]
    Shape,
    /// The first word is another algorithm.
    #[error("only keys of the algorithm ed25519 are known")]
    Algorithm,
    /// The second word cannot be part of a key id.
    #[error("the version of a key is 1 to 64 letters, digits or `_-.`")]
    Version,
    /// The third word is not 32 bytes of base64.
    #[error("the seed of a key is 32 bytes as base64")]
    Seed,
    /// Two lines have the same version.
    #[error("the version of this key stands in an earlier line already")]
    Twice,
    /// More keys than a server may have.
    #[error("a server has at most {KEYS_PER_SERVER_MAX} keys")]
    TooMany,
    /// No line at all.
    #[error("there is no key in this file")]
    Empty,
}

/// A key that signed once and no longer does. It is published, so that what it signed can still be checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetiredKey {
    /// The public half.
    pub key: Base64,
    /// Nothing that was made after this moment is signed with it.
    pub expired_ts: MilliSecondsSinceUnixEpoch,
}

/// The keys that this server once signed with: the form in which they are kept is the one in which they are published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RetiredKeys(BTreeMap<String, RetiredKey>);

impl RetiredKeys {
    /// Notes that a key ceases to sign now.
    pub fn retire(&mut self, key: &SigningKey, now: MilliSecondsSinceUnixEpoch) {
        let retired = RetiredKey { key: Base64::new(key.public_key().to_vec()), expired_ts: now };
        self.0.insert(key.key_id(), retired);
    }

    /// Notes that a key signs again: the time of its end will be another one.
    pub fn revive(&mut self, key: &SigningKey) {
        self.0.remove(&key.key_id());
    }

    /// A key with another key's id: it must never sign, peers would check what it signs with the bytes they know.
    pub fn clash<'a>(&self, keys: &'a SigningKeys) -> Option<&'a SigningKey> {
        keys.iter().find(|key| {
            self.0.get(&key.key_id()).is_some_and(|retired| retired.key.as_bytes() != key.public_key().as_slice())
        })
    }

    /// Ids and keys, sorted by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RetiredKey)> {
        self.0.iter().map(|(key_id, key)| (key_id.as_str(), key))
    }
}

/// Base64 as the specification writes keys: standard alphabet, no padding.
pub(crate) fn unpadded(bytes: &[u8]) -> String {
    Base64::<ruma::serde::base64::Standard, &[u8]>::new(bytes).encode()
}

fn parse_line(line: &str) -> Result<SigningKey, KeyFileError> {
    let mut words = line.split_whitespace();
    let (Some(algorithm), Some(version), Some(seed), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(KeyFileError::Shape);
    };
    if algorithm != "ed25519" {
        return Err(KeyFileError::Algorithm);
    }
    // ruma's reader takes padding and stray bits in the last character, as Python's does: such files exist.
    let seed = Base64::<ruma::serde::base64::Standard, [u8; 32]>::parse(seed).ok().ok_or(KeyFileError::Seed)?;
    SigningKey::new(version, seed.as_inner())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEED: &str = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1";
    const PUBLIC: &str = "XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI";

    fn at(milliseconds: u32) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch(milliseconds.into())
    }

    #[test]
    fn the_key_of_the_specification_has_the_public_half_of_the_specification() {
        let keys = SigningKeys::parse(&format!("ed25519 1 {SEED}\n")).unwrap();
        assert_eq!(unpadded(&keys.current().public_key()), PUBLIC);
        assert_eq!(keys.current().key_id(), "ed25519:1");
    }

    #[test]
    fn the_first_line_signs_and_all_lines_are_keys() {
        let second = SigningKey::from_random(&[7; 32]);
        let text = format!("\n  ed25519   a_1\t{SEED}  \r\n\ned25519 {} {}=\n", second.version(), unpadded(&[7; 32]));
        let keys = SigningKeys::parse(&text).unwrap();
        assert_eq!(keys.current().version(), "a_1");
        let versions: Vec<_> = keys.iter().map(SigningKey::version).collect();
        assert_eq!(versions, ["a_1", second.version()]);
    }

    #[test]
    fn what_is_not_a_key_file_is_refused_with_its_line() {
        let cases = [
            ("", 1, KeyFileError::Empty),
            ("\n \n", 1, KeyFileError::Empty),
            ("ed25519 a_1", 1, KeyFileError::Shape),
            ("ed25519 a_1 YJDB and more", 1, KeyFileError::Shape),
            (&format!("curve25519 a_1 {SEED}"), 1, KeyFileError::Algorithm),
            (&format!("ed25519 a:1 {SEED}"), 1, KeyFileError::Version),
            (&format!("ed25519 a\u{e9} {SEED}"), 1, KeyFileError::Version),
            ("ed25519 a_1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW", 1, KeyFileError::Seed),
            ("ed25519 a_1 !!!", 1, KeyFileError::Seed),
            (&format!("ed25519 a_1 {SEED}\n\ned25519 a_1 {SEED}"), 3, KeyFileError::Twice),
        ];
        for (text, line, error) in cases {
            assert_eq!(SigningKeys::parse(text).unwrap_err(), KeyFileLineError { line, error }, "{text:?}");
        }
    }

    #[test]
    fn a_file_with_too_many_keys_is_refused() {
        let line = |number: usize| format!("ed25519 a_{number} {SEED}\n");
        let full: String = (0..KEYS_PER_SERVER_MAX).map(line).collect();
        assert_eq!(SigningKeys::parse(&full).unwrap().iter().count(), KEYS_PER_SERVER_MAX);
        let error = SigningKeys::parse(&(full + &line(KEYS_PER_SERVER_MAX))).unwrap_err();
        assert_eq!(error.error, KeyFileError::TooMany);
    }

    #[test]
    fn neither_debug_nor_an_error_shows_a_secret() {
        let keys = SigningKeys::parse(&format!("ed25519 a_1 {SEED}")).unwrap();
        assert!(!format!("{keys:?}").contains("YJDB"));
        let error = SigningKeys::parse(&format!("ed25519 {SEED} a_1")).unwrap_err();
        assert!(!error.to_string().contains("YJDB"), "{error}");
    }

    /// S2S 4 the form of key ids and keys.
    #[test]
    fn two_new_keys_have_two_ids() {
        let (one, two) = (SigningKey::from_random(&[1; 32]), SigningKey::from_random(&[2; 32]));
        assert_ne!(one.key_id(), two.key_id());
        assert_eq!(one.key_id(), SigningKey::from_random(&[1; 32]).key_id());
    }

    #[test]
    fn retired_keys_are_kept_as_they_are_published() {
        let key = SigningKeys::parse(&format!("ed25519 1 {SEED}")).unwrap().current;
        let mut retired = RetiredKeys::default();
        retired.retire(&key, at(5));
        let json = serde_json::json!({ "ed25519:1": { "key": PUBLIC, "expired_ts": 5 } });
        assert_eq!(serde_json::to_value(&retired).unwrap(), json);
        assert_eq!(serde_json::from_value::<RetiredKeys>(json).unwrap(), retired);
    }

    #[test]
    fn a_key_that_signs_again_retires_later() {
        let key = SigningKey::from_random(&[1; 32]);
        let mut retired = RetiredKeys::default();
        retired.retire(&key, at(5));
        retired.revive(&key);
        assert_eq!(retired, RetiredKeys::default());
        retired.retire(&key, at(9));
        assert_eq!(retired.iter().next().unwrap().1.expired_ts, at(9));
    }

    #[test]
    fn another_key_under_a_retired_id_is_a_clash() {
        let old = SigningKey::new("a_1", &[1; 32]).unwrap();
        let mut retired = RetiredKeys::default();
        retired.retire(&old, at(5));
        let impostor = SigningKeys::one(SigningKey::new("a_1", &[2; 32]).unwrap());
        assert_eq!(retired.clash(&impostor).unwrap().version(), "a_1");
        assert!(retired.clash(&SigningKeys::one(old)).is_none());
        assert!(retired.clash(&SigningKeys::one(SigningKey::from_random(&[3; 32]))).is_none());
    }

    proptest! {
        #[test]
        fn a_written_key_file_reads_as_the_same_keys(seeds in proptest::collection::btree_set(any::<[u8; 32]>(), 1..5)) {
            let text: String =
                seeds.iter().enumerate().map(|(n, seed)| format!("ed25519 k{n} {}\n", unpadded(seed))).collect();
            let keys = SigningKeys::parse(&text).unwrap();
            prop_assert_eq!(keys.to_text(), text);
            prop_assert!(keys.iter().map(SigningKey::seed).eq(seeds));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            let _: Result<_, _> = SigningKeys::parse(&text);
        }
    }
}

//! Keys as bytes that sort like the values they stand for, and the numbers that order a room.
//! May import: ruma ids, serde.
//!
//! Every encoding is prefix-free: no encoded key is the beginning of another one. So keys can be put behind each other in
//! tuples, the beginning of a tuple is a range, and `key + 0x00` is the first possible byte string behind `key`.

use std::num::NonZeroU64;

use ruma::{
    OwnedDeviceId, OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedTransactionId, OwnedUserId,
};
use serde::{Deserialize, Serialize};

/// What can be the key of a row.
pub trait Key: Sized {
    /// Appends the bytes of this key.
    fn encode(&self, out: &mut Vec<u8>);

    /// Takes this key from the front of the input.
    ///
    /// # Errors
    /// When the bytes are not what [`Key::encode`] writes.
    fn decode(input: &mut &[u8]) -> Result<Self, BadKey>;
}

/// A key that is the beginning of the composed key `K`: its rows are one range.
pub trait StartOf<K>: Key {}
impl<A: Key, B: Key> StartOf<(A, B)> for A {}
impl<A: Key, B: Key, C: Key> StartOf<(A, B, C)> for A {}
impl<A: Key, B: Key, C: Key> StartOf<(A, B, C)> for (A, B) {}

/// Stored key bytes that no key encodes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key is not a valid {0}")]
pub struct BadKey(pub &'static str);

/// The bytes of one key.
pub(crate) fn bytes_of(key: &impl Key) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.encode(&mut bytes);
    bytes
}

/// Reads a whole key; bytes behind it are an error.
pub(crate) fn key_from<K: Key>(mut bytes: &[u8]) -> Result<K, BadKey> {
    let key = K::decode(&mut bytes)?;
    if bytes.is_empty() { Ok(key) } else { Err(BadKey("key: bytes are left over")) }
}

/// The place of an event in its room's timeline: what readers sort by.
///
/// Live events count upward from 1, older ones learnt later downward from 0. The events of a hole that is filled later
/// take the place of the event before it plus a running number. Unlike [`Arrival`] it says nothing about when we learnt
/// of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place(pub i64, pub u32);

impl Place {
    /// Before every event that is shown: where state is whose own place in the room is not known.
    pub const BEFORE_ALL: Self = Self(i64::MIN, 0);
    /// The place of a room's first live event.
    pub const FIRST: Self = Self(1, 0);

    /// The event was new when it came; else it was learnt later than what stands behind it.
    #[must_use]
    pub fn is_live(self) -> bool {
        self.0 >= Self::FIRST.0 && self.1 == 0
    }

    /// A string that sorts like the place: the `position` of an event in the API.
    #[must_use]
    pub fn to_token(self) -> String {
        let line = hex(&self.0.to_order());
        if self.1 == 0 { line } else { line + &hex(&self.1.to_be_bytes()) }
    }

    /// The place that a string from [`Place::to_token`] stands for; `None` for every other string.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        let (line, running) = match token.len() {
            16 => (token, "0"),
            24 => token.split_at_checked(16)?,
            _ => return None,
        };
        let line = u64::from_str_radix(line, 16).ok()?;
        let place = Self(i64::from_order(line.to_be_bytes()), u32::from_str_radix(running, 16).ok()?);
        (place.to_token() == token).then_some(place)
    }
}

/// A room's count of events in the order of their commit, from 1, never reused. It never says where an event is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Arrival(NonZeroU64);

impl Arrival {
    /// The first event of a room.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The arrival of this number; 0 is none.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// The number, from 1.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The arrival of the event after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Signed numbers as bytes that sort like them: the sign bit is turned over.
trait Ordered {
    fn to_order(self) -> [u8; 8];
    fn from_order(bytes: [u8; 8]) -> Self;
}

impl Ordered for i64 {
    fn to_order(self) -> [u8; 8] {
        (self.cast_unsigned() ^ (1 << 63)).to_be_bytes()
    }

    fn from_order(bytes: [u8; 8]) -> Self {
        (u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed()
    }
}

fn take<const N: usize>(input: &mut &[u8], what: &'static str) -> Result<[u8; N], BadKey> {
    let (head, rest) = input.split_first_chunk::<N>().ok_or(BadKey(what))?;
    *input = rest;
    Ok(*head)
}

/// One row per home.
impl Key for () {
    fn encode(&self, _out: &mut Vec<u8>) {}

    fn decode(_input: &mut &[u8]) -> Result<Self, BadKey> {
        Ok(())
    }
}

macro_rules! unsigned_key {
    ($($number:ty),*) => {$(
        impl Key for $number {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn decode(input: &mut &[u8]) -> Result<Self, BadKey> {
                take(input, stringify!($number)).map(Self::from_be_bytes)
            }
        }
    )*};
}
unsigned_key!(u8, u16, u32, u64);

impl Key for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_order());
    }

    fn decode(input: &mut &[u8]) -> Result<Self, BadKey> {
        take(input, "i64").map(Self::from_order)
    }
}

impl<const N: usize> Key for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, BadKey> {
        take(input, "byte array")
    }
}

impl Key for Place {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.0, self.1).encode(out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, BadKey> {
        <(i64, u32)>::decode(input).map(|(line, running)| Self(line, running))
    }
}

impl Key for Arrival {
    fn encode(&self, out: &mut Vec<u8>) {
        self.get().encode(out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, BadKey> {
        Self::new(u64::decode(input)?).ok_or(BadKey("arrival"))
    }
}

impl<A: Key, B: Key> Key for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, BadKey> {
        Ok((A::decode(input)?, B::decode(input)?))
    }
}

impl<A: Key, B: Key, C: Key> Key for (A, B, C) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
        self.2.encode(out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, BadKey> {
        Ok((A::decode(input)?, B::decode(input)?, C::decode(input)?))
    }
}

/// Ends a text. Texts may hold any byte, so the two lowest bytes are written as `ESCAPE` and the byte plus one.
const END: u8 = 0;
const ESCAPE: u8 = 1;

fn encode_text(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 1);
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| matches!(*byte, END | ESCAPE)) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, behind)) = special.split_first() else { break };
        out.extend_from_slice(&[ESCAPE, byte + 1]);
        rest = behind;
    }
    out.extend_from_slice(rest);
    out.push(END);
}

fn decode_text(input: &mut &[u8], what: &'static str) -> Result<Vec<u8>, BadKey> {
    let mut text = Vec::new();
    loop {
        match take::<1>(input, what)? {
            [END] => return Ok(text),
            [ESCAPE] => match take::<1>(input, what)? {
                [escaped @ 1..=2] => text.push(escaped - 1),
                _ => return Err(BadKey(what)),
            },
            [byte] => text.push(byte),
        }
    }
}

impl Key for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(self, out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, BadKey> {
        decode_text(input, "bytes")
    }
}

impl Key for String {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(self.as_bytes(), out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, BadKey> {
        String::from_utf8(decode_text(input, "string")?).or(Err(BadKey("string")))
    }
}

macro_rules! id_key {
    ($($id:ty),*) => {$(
        impl Key for $id {
            fn encode(&self, out: &mut Vec<u8>) {
                encode_text(self.as_str().as_bytes(), out);
            }

            fn decode(input: &mut &[u8]) -> Result<Self, BadKey> {
                Self::try_from(String::decode(input)?).or(Err(BadKey(stringify!($id))))
            }
        }
    )*};
}
id_key!(OwnedDeviceId, OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedTransactionId, OwnedUserId);

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruma::owned_room_id;

    use super::*;

    fn sorts_and_returns<K: Key + Ord + Clone + std::fmt::Debug>(a: &K, b: &K) -> Result<(), TestCaseError> {
        let (left, right) = (bytes_of(a), bytes_of(b));
        prop_assert_eq!(left.cmp(&right), a.cmp(b));
        prop_assert!(a == b || !right.starts_with(&left), "{:?} is a beginning of {:?}", left, right);
        prop_assert_eq!(&key_from::<K>(&left).unwrap(), a);
        Ok(())
    }

    /// Texts that are rich in the bytes that are escaped.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[\\x00\\x01\\x02a\u{ff}]{0,6}", any::<String>()]
    }

    proptest! {
        #[test]
        fn numbers_sort_as_bytes(a: (i64, u64), b: (i64, u64)) {
            sorts_and_returns(&a, &b)?;
            sorts_and_returns(&a.0, &b.0)?;
        }

        #[test]
        fn texts_sort_as_bytes(a in text(), b in text()) {
            sorts_and_returns(&a, &b)?;
            sorts_and_returns(&a.into_bytes(), &b.into_bytes())?;
        }

        #[test]
        fn composed_keys_sort_part_by_part(a in (text(), any::<u64>(), text()), b in (text(), any::<u64>(), text())) {
            sorts_and_returns(&a, &b)?;
            sorts_and_returns(&(a.0.clone(), [7_u8; 32]), &(b.0.clone(), [9_u8; 32]))?;
        }

        #[test]
        fn places_sort_as_bytes_and_as_tokens(a: (i64, u32), b: (i64, u32)) {
            let (a, b) = (Place(a.0, a.1), Place(b.0, b.1));
            sorts_and_returns(&a, &b)?;
            prop_assert_eq!(a.to_token().cmp(&b.to_token()), a.cmp(&b));
            prop_assert_eq!(Place::from_token(&a.to_token()), Some(a));
        }

        #[test]
        fn any_bytes_are_a_key_or_an_error(bytes: Vec<u8>) {
            if let Ok(key) = key_from::<(String, Arrival)>(&bytes) {
                prop_assert_eq!(bytes_of(&key), bytes);
            }
        }
    }

    #[test]
    fn neighbouring_places_sort_around_zero() {
        let places = [Place(-1, 0), Place(0, 0), Place(0, 1), Place(0, 16), Place::FIRST, Place(2, 0), Place(16, 0)];
        assert!(places.is_sorted_by_key(|place| place.to_token()));
        assert!(places.is_sorted_by_key(bytes_of));
    }

    #[test]
    fn tokens_have_one_spelling() {
        for token in
            ["", "8", "800000000000000A", "80000000000000010000000", "800000000000000100000000", "+000000000000001"]
        {
            assert_eq!(Place::from_token(token), None, "{token}");
        }
    }

    #[test]
    fn ids_are_checked_when_they_are_read() {
        let room = owned_room_id!("!room:a.example");
        assert_eq!(key_from::<OwnedRoomId>(&bytes_of(&room)), Ok(room));
        assert!(key_from::<OwnedRoomId>(&bytes_of(&"no room id".to_owned())).is_err());
        assert!(key_from::<Arrival>(&bytes_of(&0_u64)).is_err());
    }
}

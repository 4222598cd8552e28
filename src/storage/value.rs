//! Values as bytes: a version first, then the fields. Older forms stay readable for ever.
//! May import: ruma ids, serde, postcard.

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId};
use serde::{Serialize, de::DeserializeOwned};

use super::key::{Arrival, Place};

/// Bytes of one stored value, version included. An event has at most 65,536.
pub const VALUE_BYTES_MAX: usize = 96 * 1024;

/// Versions above this are kept for compressed forms.
const VERSION_MAX: u8 = 0x7f;

/// What can be the value of a row. Deriving `Serialize` and `Deserialize` and an empty `impl` make the first version.
///
/// To change a stored type, keep the old form as a private type, count `VERSION` up, and turn the old form into the new
/// one in `upgrade`. Rows are never rewritten only because of that; the next put writes the new form.
pub trait Value: Serialize + DeserializeOwned {
    /// The version that is written, from 1.
    const VERSION: u8 = 1;

    /// Reads the fields of an older version.
    ///
    /// # Errors
    /// When there never was such a version or the bytes are not its form.
    fn upgrade(version: u8, _fields: &[u8]) -> Result<Self, BadValue> {
        Err(BadValue::Version(version))
    }
}

/// Why bytes are not a value, or a value cannot be bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// Not even a version.
    #[error("the value is empty")]
    Empty,
    /// Written by a newer server, or damaged.
    #[error("version {0} is unknown")]
    Version(u8),
    /// The fields do not have the form of their version.
    #[error("the fields cannot be read: {0}")]
    Fields(#[from] postcard::Error),
    /// There are bytes behind the last field.
    #[error("{0} bytes are left over")]
    LeftOver(usize),
}

/// Reads the fields of one form, all bytes of them: what an [`Value::upgrade`] calls with the old type.
///
/// # Errors
/// When the bytes are not this form.
pub fn fields<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadValue> {
    let (fields, rest) = postcard::take_from_bytes(bytes)?;
    if rest.is_empty() { Ok(fields) } else { Err(BadValue::LeftOver(rest.len())) }
}

/// The bytes of a value in its newest form.
pub(crate) fn to_bytes<V: Value>(value: &V) -> Result<Vec<u8>, BadValue> {
    const { assert!(V::VERSION >= 1 && V::VERSION <= VERSION_MAX) };
    Ok(postcard::to_extend(value, vec![V::VERSION])?)
}

/// The value that the bytes stand for, whichever version they are.
pub(crate) fn from_bytes<V: Value>(bytes: &[u8]) -> Result<V, BadValue> {
    let (&version, body) = bytes.split_first().ok_or(BadValue::Empty)?;
    match version {
        version if version == V::VERSION => fields(body),
        version if version < V::VERSION => V::upgrade(version, body),
        version => Err(BadValue::Version(version)),
    }
}

/// Stored bytes in the newest form of `V`: equal values have equal bytes after this, whatever version wrote them.
pub(crate) fn renewed<V: Value>(stored: &[u8]) -> Option<Vec<u8>> {
    to_bytes(&from_bytes::<V>(stored).ok()?).ok()
}

macro_rules! plain_values {
    ($($plain:ty),* $(,)?) => { $(impl Value for $plain {})* };
}
plain_values!(
    (),
    bool,
    u32,
    u64,
    String,
    Vec<u8>,
    [u8; 32],
    Place,
    Arrival,
    OwnedEventId,
    OwnedRoomId,
    OwnedServerName,
    OwnedUserId,
    Vec<OwnedEventId>,
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruma::owned_event_id;
    use serde::Deserialize;

    use super::*;

    /// As the first release wrote it.
    #[derive(Serialize, Deserialize)]
    struct NoteV1 {
        text: String,
    }
    impl Value for NoteV1 {}

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        text: String,
        stars: u32,
    }
    impl Value for Note {
        const VERSION: u8 = 2;

        fn upgrade(version: u8, bytes: &[u8]) -> Result<Self, BadValue> {
            match version {
                1 => fields::<NoteV1>(bytes).map(|old| Self { text: old.text, stars: 1 }),
                other => Err(BadValue::Version(other)),
            }
        }
    }

    #[test]
    fn an_older_version_is_read_as_the_newest() {
        let stored = to_bytes(&NoteV1 { text: "hello".to_owned() }).unwrap();
        let note = Note { text: "hello".to_owned(), stars: 1 };
        assert_eq!(from_bytes::<Note>(&stored).unwrap(), note);
        assert_eq!(renewed::<Note>(&stored).unwrap(), to_bytes(&note).unwrap());
    }

    #[test]
    fn a_newer_version_and_version_zero_are_errors() {
        let stored = to_bytes(&Note { text: "hello".to_owned(), stars: 1 }).unwrap();
        assert_eq!(from_bytes::<NoteV1>(&stored).err(), Some(BadValue::Version(2)));
        assert_eq!(from_bytes::<Note>(&[0]).err(), Some(BadValue::Version(0)));
    }

    #[test]
    fn damage_is_an_error() {
        let stored = to_bytes(&7_u64).unwrap();
        assert_eq!(from_bytes::<u64>(&[]), Err(BadValue::Empty));
        assert!(matches!(from_bytes::<u64>(&stored[..1]), Err(BadValue::Fields(_))));
        assert_eq!(from_bytes::<u64>(&[stored, vec![0]].concat()), Err(BadValue::LeftOver(1)));
        assert!(from_bytes::<OwnedEventId>(&to_bytes(&"no event id".to_owned()).unwrap()).is_err());
    }

    #[test]
    fn ids_return() {
        let ids = vec![owned_event_id!("$one"), owned_event_id!("$two:b.example")];
        assert_eq!(from_bytes::<Vec<OwnedEventId>>(&to_bytes(&ids).unwrap()).unwrap(), ids);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(bytes: Vec<u8>) {
            let _ = from_bytes::<Note>(&bytes);
            let _ = from_bytes::<Vec<OwnedEventId>>(&bytes);
        }
    }
}

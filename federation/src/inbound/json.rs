//! The body of a peer's request, parsed once: the signature is checked on this value, and handlers see this value.
//!
//! No second parser reads the text, so none can disagree. Differences from other readers are decided here:
//! * A key that stands twice, a lone surrogate, `NaN` or a float beyond `f64` makes the whole body unreadable.
//! * `-0` is 0.
//! * A number that canonical JSON does not know (a fraction, an exponent, an integer beyond 2^53-1) is kept as the text that
//!   Python would write for it, because Synapse signs that text. [`Json::is_canonical`] is false for a value that holds one:
//!   an event with it is dropped, what stands beside it is not.
//!
//! May import: serde_json for the raw text of a part, `limits`.

use serde_json::value::RawValue;

mod parse;

pub(crate) use parse::{ParseError, parse};

/// The largest integer of canonical JSON, and without its sign the smallest: 2^53-1.
/// Source: <https://spec.matrix.org/v1.19/appendices/#canonical-json>
pub(crate) const INTEGER_MAX: i64 = 9_007_199_254_740_991;

/// Bytes that the text of most events fits into.
const TEXT_BYTES_USUAL: usize = 1024;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// Between -[`INTEGER_MAX`] and [`INTEGER_MAX`].
    Integer(i64),
    /// A number that canonical JSON does not know, as Python writes it.
    OtherNumber(Box<str>),
    Text(Box<str>),
    List(Box<[Json]>),
    Object(Object),
}

/// The members of a JSON object, sorted by name, each name once.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Object(Box<[(Box<str>, Json)]>);

impl Object {
    /// `None` when a name stands twice.
    fn new(mut members: Vec<(Box<str>, Json)>) -> Option<Self> {
        members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let twice = members.iter().zip(members.iter().skip(1)).any(|((one, _), (other, _))| one == other);
        (!twice).then(|| Self(members.into_boxed_slice()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        let index = self.0.binary_search_by(|(known, _)| known.as_ref().cmp(name)).ok()?;
        self.0.get(index).map(|(_, value)| value)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Json::as_text)
    }

    pub(crate) fn object(&self, name: &str) -> Option<&Self> {
        self.get(name).and_then(Json::as_object)
    }

    pub(crate) fn list(&self, name: &str) -> Option<&[Json]> {
        self.get(name).and_then(Json::as_list)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Json)> + Clone {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// No number in it is outside canonical JSON.
    pub(crate) fn is_canonical(&self) -> bool {
        self.iter().all(|(_, value)| value.is_canonical())
    }

    pub(crate) fn write(&self, out: &mut String) {
        write_members(self.iter(), out);
    }

    /// The canonical text.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::with_capacity(TEXT_BYTES_USUAL);
        self.write(&mut text);
        text
    }

    /// The canonical text as raw JSON; `None` when the object holds a number outside canonical JSON.
    pub(crate) fn to_raw(&self) -> Option<Box<RawValue>> {
        to_raw(self.iter())
    }

    /// The same without one member, whatever that one holds.
    pub(crate) fn to_raw_without(&self, name: &str) -> Option<Box<RawValue>> {
        to_raw(self.iter().filter(|(known, _)| *known != name))
    }
}

fn to_raw<'a>(members: impl Iterator<Item = (&'a str, &'a Json)> + Clone) -> Option<Box<RawValue>> {
    if !members.clone().all(|(_, value)| value.is_canonical()) {
        return None;
    }
    let mut text = String::with_capacity(TEXT_BYTES_USUAL);
    write_members(members, &mut text);
    RawValue::from_string(text).ok()
}

fn write_members<'a>(members: impl Iterator<Item = (&'a str, &'a Json)>, out: &mut String) {
    out.push('{');
    for (index, (name, value)) in members.enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(name, out);
        out.push(':');
        value.write(out);
    }
    out.push('}');
}

impl Json {
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(*integer),
            _ => None,
        }
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(bool) => Some(*bool),
            _ => None,
        }
    }

    pub(crate) fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    pub(crate) fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    pub(crate) fn is_canonical(&self) -> bool {
        match self {
            Self::OtherNumber(_) => false,
            Self::List(list) => list.iter().all(Self::is_canonical),
            Self::Object(object) => object.is_canonical(),
            Self::Null | Self::Bool(_) | Self::Integer(_) | Self::Text(_) => true,
        }
    }

    pub(crate) fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Integer(integer) => out.push_str(&integer.to_string()),
            Self::OtherNumber(text) => out.push_str(text),
            Self::Text(text) => write_text(text, out),
            Self::List(list) => {
                out.push('[');
                for (index, value) in list.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    value.write(out);
                }
                out.push(']');
            }
            Self::Object(object) => object.write(out),
        }
    }
}

/// Writes a string with the shortest escapes.
/// Source: <https://spec.matrix.org/v1.19/appendices/#grammar>
pub(crate) fn write_text(text: &str, out: &mut String) {
    if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        out.push_str(&serde_json::Value::from(text).to_string());
        return;
    }
    out.push('"');
    out.push_str(text);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruma::CanonicalJsonObject;

    use super::*;

    fn canonical(text: &str) -> String {
        parse(text.as_bytes()).unwrap().to_text()
    }

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        let cases = [
            ("0", "0"),
            ("-0", "0"),
            ("9007199254740991", "9007199254740991"),
            ("9007199254740992", "9007199254740992"),
            ("-123456789012345678901234567890", "-123456789012345678901234567890"),
            ("1.0", "1.0"),
            ("-0.0", "-0.0"),
            ("1e2", "100.0"),
            ("1E10", "10000000000.0"),
            ("1e15", "1000000000000000.0"),
            ("1e16", "1e+16"),
            ("123456789012345680.0", "1.2345678901234568e+17"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("1.5e-7", "1.5e-07"),
            ("1.5e300", "1.5e+300"),
            ("50.5", "50.5"),
            ("1e-400", "0.0"),
        ];
        for (from, to) in cases {
            assert_eq!(canonical(&format!("{{\"n\":{from}}}")), format!("{{\"n\":{to}}}"), "{from}");
        }
    }

    #[test]
    fn only_numbers_of_canonical_json_make_a_canonical_value() {
        let cases = [
            ("-0", true),
            ("9007199254740991", true),
            ("-9007199254740991", true),
            ("9007199254740992", false),
            ("-9007199254740992", false),
            ("9223372036854775808", false),
            ("1.0", false),
            ("1e2", false),
        ];
        for (number, expected) in cases {
            let object = parse(format!("{{\"a\":[{{\"n\":{number}}}]}}").as_bytes()).unwrap();
            assert_eq!(object.is_canonical(), expected, "{number}");
            assert_eq!(object.to_raw().is_some(), expected, "{number}");
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            (-INTEGER_MAX..=INTEGER_MAX).prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
                proptest::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_the_canonical_json_of_ruma(value in any_json()) {
            let text = serde_json::json!({ "v": value }).to_string();
            let ours = parse(text.as_bytes()).unwrap().to_text();
            let theirs = serde_json::to_string(&serde_json::from_str::<CanonicalJsonObject>(&text).unwrap()).unwrap();
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn no_bytes_panic_and_what_is_read_is_read_again(bytes: Vec<u8>) {
            if let Ok(object) = parse(&bytes) {
                prop_assert_eq!(parse(object.to_text().as_bytes()).unwrap(), object);
            }
        }

        #[test]
        fn text_that_looks_like_json_is_accepted_only_where_serde_accepts_it(text in r#"\{("[ab\\u0d8]{0,6}"[:,]?[-0-9.eE+ \[\]{}truefalsn]{0,8},?){0,3}\}"#) {
            let serde = serde_json::from_str::<serde_json::Value>(&text);
            if parse(text.as_bytes()).is_ok() {
                prop_assert!(serde.is_ok(), "{}", text);
            }
        }

        #[test]
        fn any_finite_float_survives(float: f64) {
            prop_assume!(float.is_finite());
            let text = canonical(&format!("{{\"n\":{float:e}}}"));
            let read: f64 = text.trim_start_matches("{\"n\":").trim_end_matches('}').parse().unwrap();
            prop_assert_eq!(read.to_bits(), if text == "{\"n\":0}" { 0 } else { float.to_bits() });
        }
    }
}

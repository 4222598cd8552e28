//! Canonical JSON of room versions 6 and later: the strict reader for what peers send, and the writer that hashes and
//! signatures are made over. May import `limits` and ruma's value type.
//!
//! The reader differs from `serde_json` into ruma's type in one point: `-0` is 0, as Python based servers read it.
//! Of a key that stands twice the last value counts. Source: <https://spec.matrix.org/v1.19/appendices/#canonical-json>

use std::fmt::Write as _;

use ruma::{CanonicalJsonObject, CanonicalJsonValue, Int};

use crate::limits::{INTEGER_MAX, NESTING_MAX};

/// Why a text is not canonical JSON's data model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {at}")]
pub struct JsonError {
    problem: &'static str,
    at: usize,
}

/// Reads one JSON value that fills the whole text, white space around it aside.
///
/// # Errors
/// The text is not JSON, or holds a fraction, an exponent, an integer beyond 2^53 - 1, a lone surrogate, or more
/// nesting than [`NESTING_MAX`].
pub fn read(text: &str) -> Result<CanonicalJsonValue, JsonError> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    let value = reader.value()?;
    reader.skip_space();
    if reader.at < text.len() { Err(reader.error("text after the value")) } else { Ok(value) }
}

/// Reads one JSON object.
///
/// # Errors
/// As [`read`], and for every other kind of value.
pub fn read_object(text: &str) -> Result<CanonicalJsonObject, JsonError> {
    match read(text)? {
        CanonicalJsonValue::Object(object) => Ok(object),
        _ => Err(JsonError { problem: "not an object", at: 0 }),
    }
}

/// The canonical text of an object.
#[must_use]
pub fn to_string(object: &CanonicalJsonObject) -> String {
    to_string_without(object, &[])
}

/// The canonical text of an object without some of its top-level fields.
#[must_use]
pub fn to_string_without(object: &CanonicalJsonObject, left_out: &[&str]) -> String {
    let mut out = String::with_capacity(1024);
    write_fields(
        &mut out,
        object.iter().filter(|(key, _)| !left_out.contains(&key.as_str())).map(|(key, value)| (key.as_str(), value)),
        write_value,
    );
    out
}

/// Writes `{"key":value,…}`; the fields come sorted.
pub(crate) fn write_fields<'a, T>(
    out: &mut String,
    fields: impl Iterator<Item = (&'a str, T)>,
    mut write: impl FnMut(&mut String, T),
) {
    out.push('{');
    for (index, (key, value)) in fields.enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(out, key);
        out.push(':');
        write(out, value);
    }
    out.push('}');
}

/// Writes one value.
pub(crate) fn write_value(out: &mut String, value: &CanonicalJsonValue) {
    match value {
        CanonicalJsonValue::Null => out.push_str("null"),
        CanonicalJsonValue::Bool(true) => out.push_str("true"),
        CanonicalJsonValue::Bool(false) => out.push_str("false"),
        CanonicalJsonValue::Integer(number) => push_display(out, i64::from(*number)),
        CanonicalJsonValue::String(text) => write_text(out, text),
        CanonicalJsonValue::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(out, value);
            }
            out.push(']');
        }
        CanonicalJsonValue::Object(object) => {
            write_fields(out, object.iter().map(|(key, value)| (key.as_str(), value)), write_value);
        }
    }
}

fn push_display(out: &mut String, number: i64) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{number}");
}

fn write_text(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = special.chars();
        match chars.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\u{8}') => out.push_str("\\b"),
            Some('\t') => out.push_str("\\t"),
            Some('\n') => out.push_str("\\n"),
            Some('\u{c}') => out.push_str("\\f"),
            Some('\r') => out.push_str("\\r"),
            Some(control) => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn error(&self, problem: &'static str) -> JsonError {
        JsonError { problem, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    fn value(&mut self) -> Result<CanonicalJsonValue, JsonError> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string().map(CanonicalJsonValue::String),
            Some(b'-' | b'0'..=b'9') => self.integer(),
            Some(b't') => self.word("true", CanonicalJsonValue::Bool(true)),
            Some(b'f') => self.word("false", CanonicalJsonValue::Bool(false)),
            Some(b'n') => self.word("null", CanonicalJsonValue::Null),
            Some(_) => Err(self.error("no JSON value")),
            None => Err(self.error("the text ends early")),
        }
    }

    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<CanonicalJsonValue, JsonError>,
    ) -> Result<CanonicalJsonValue, JsonError> {
        if self.depth == NESTING_MAX {
            return Err(self.error("nested too deeply"));
        }
        self.depth += 1;
        self.at += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<CanonicalJsonValue, JsonError> {
        let mut object = CanonicalJsonObject::new();
        self.skip_space();
        if self.take(b'}') {
            return Ok(CanonicalJsonValue::Object(object));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.error("no key"));
            }
            let key = self.string()?;
            self.skip_space();
            if !self.take(b':') {
                return Err(self.error("no colon after the key"));
            }
            object.insert(key, self.value()?);
            self.skip_space();
            if self.take(b'}') {
                return Ok(CanonicalJsonValue::Object(object));
            }
            if !self.take(b',') {
                return Err(self.error("neither comma nor end of the object"));
            }
        }
    }

    fn array(&mut self) -> Result<CanonicalJsonValue, JsonError> {
        let mut values = Vec::new();
        self.skip_space();
        if self.take(b']') {
            return Ok(CanonicalJsonValue::Array(values));
        }
        loop {
            values.push(self.value()?);
            self.skip_space();
            if self.take(b']') {
                return Ok(CanonicalJsonValue::Array(values));
            }
            if !self.take(b',') {
                return Err(self.error("neither comma nor end of the list"));
            }
        }
    }

    fn word(&mut self, word: &str, value: CanonicalJsonValue) -> Result<CanonicalJsonValue, JsonError> {
        if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.error("no JSON value"))
        }
    }

    fn integer(&mut self) -> Result<CanonicalJsonValue, JsonError> {
        let negative = self.take(b'-');
        let digits = self.at;
        let mut number: i64 = 0;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            number = number.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
            self.at += 1;
        }
        let leading_zero = self.text.as_bytes().get(digits) == Some(&b'0') && self.at > digits + 1;
        if self.at == digits || leading_zero {
            return Err(self.error("not a number"));
        }
        if matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return Err(self.error("a fraction or an exponent"));
        }
        if number > INTEGER_MAX {
            return Err(self.error("an integer beyond 2^53 - 1"));
        }
        let number = if negative { -number } else { number };
        match Int::new(number) {
            Some(number) => Ok(CanonicalJsonValue::Integer(number)),
            None => Err(self.error("an integer beyond 2^53 - 1")),
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let start = self.at;
            while self.peek().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
                self.at += 1;
            }
            text.push_str(self.text.get(start..self.at).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                Some(_) => return Err(self.error("a bare control character")),
                None => return Err(self.error("the text ends early")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let byte = self.peek().ok_or_else(|| self.error("the text ends early"))?;
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(self.error("an unknown escape")),
        })
    }

    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let first = self.four_hex()?;
        let code = if (0xD800..0xDC00).contains(&first) {
            if !(self.take(b'\\') && self.take(b'u')) {
                return Err(self.error("a lone surrogate"));
            }
            let second = self.four_hex()?;
            if !(0xDC00..0xE000).contains(&second) {
                return Err(self.error("a lone surrogate"));
            }
            0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| self.error("a lone surrogate"))
    }

    fn four_hex(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.get(self.at..self.at + 4).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = digits.and_then(|hex| u32::from_str_radix(hex, 16).ok());
        self.at += 4;
        code.ok_or_else(|| self.error("no four hexadecimal digits"))
    }
}
